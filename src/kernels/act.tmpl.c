/* act.tmpl.c: activations, alone and on a finished tile.  Built once per level; contracts in kernels.h.
 *
 * The activation is a constant inside each loop: a switch outside hands it to an inlined body. */
#include "kernels/flow.h"
#include "kernels/vec_math.h"

#define ACT_EACH(X)          \
    X(TERN_ACT_NONE)         \
    X(TERN_ACT_RELU)         \
    X(TERN_ACT_LEAKY_RELU)   \
    X(TERN_ACT_GELU_TANH)    \
    X(TERN_ACT_GELU_ERF)     \
    X(TERN_ACT_GELU_SIGMOID) \
    X(TERN_ACT_SILU)         \
    X(TERN_ACT_SIGMOID)      \
    X(TERN_ACT_TANH)

/* GELU with erf is one chain of 45 operations, of which a processor sees two or three vectors at a time and waits for each; its three
 * steps, each for sixteen vectors, are short enough that many of them overlap: 4.6 instead of 6.4 ns a vector. */
#define ERF_BLOCK ((size_t)256)

/* From i on, whole vectors; returns where they end. */
V16_FN size_t act_erf_blocks(float *y, const float *x, size_t i, size_t n, struct tern_row_flow flow)
{
    _Alignas(64) float e[ERF_BLOCK];

    while (i + 16 <= n) {
        const size_t block = n - i < ERF_BLOCK ? (n - i) / 16 * 16 : ERF_BLOCK;
        for (size_t j = 0; j < block; j += 16)
            v16_store(e + j, v16_gelu_erf_log(v16_load(x + i + j)));
        for (size_t j = 0; j < block; j += 16)
            v16_store(e + j, v16_exp(v16_load(e + j)));
        for (size_t j = 0; j < block; j += 16) {
            flow_store(flow.stream, y + i + j, v16_gelu_erf_of(v16_load(x + i + j), v16_load(e + j)));
            flow_ahead(flow, 4 * (i + j));
        }
        i += block;
    }
    return i;
}

V16_FN void act_row(float *y, const float *x, size_t n, const enum tern_act act, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    size_t i = flow_head(flow.stream, y, 64, sizeof *y, n);

    if (i)
        v16_store_n(y, v16_act(v16_load_n(x, i), act), i);
    if (act == TERN_ACT_GELU_ERF)
        i = act_erf_blocks(y, x, i, n, flow);
    for (; i + 16 <= n; i += 16) {
        flow_store(flow.stream, y + i, v16_act(v16_load(x + i), act));
        flow_ahead(flow, 4 * i);
    }
    if (i < n)
        v16_store_n(y + i, v16_act(v16_load_n(x + i, n - i), act), n - i);
}

static void TERN_K(act_f32)(float *y, const float *x, size_t n, enum tern_act act, const struct tern_row_flow *flow)
{
    switch (act) {
#define ACT_CASE(constant)                \
    case constant:                        \
        act_row(y, x, n, constant, flow); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

/* 16 columns of one row, `lanes` of them where the tile is not whole; pointers to the first of them, NULL for what is not there. */
struct epilogue_part {
    const void *tile;
    const float *factor, *residual, *residual2;
    float *c;
    uint16_t *half;
};

V16_FN void epilogue_part(const struct epilogue_part p, const bool integers, float row_scale, v16 scale, v16 bias,
                          const struct tern_epilogue *e, const bool whole, size_t lanes, const enum tern_act act)
{
    v16 t;

    if (integers) /* times 1 is exact */
        t = v16_mul(v16_load_s32(p.tile), v16_mul(v16_set1(row_scale), scale));
    else
        t = v16_load(p.tile);
    if (!integers && e->scale)
        t = v16_mul(t, scale);
    if (e->bias)
        t = v16_add(t, bias);
    t = v16_act(t, act);
    if (p.factor)
        t = v16_mul(t, v16_load(p.factor));
    if (p.residual)
        t = v16_add(t, whole ? v16_load(p.residual) : v16_load_n(p.residual, lanes));
    if (p.residual2)
        t = v16_add(t, whole ? v16_load(p.residual2) : v16_load_n(p.residual2, lanes));
    if (!p.half) {
        if (whole)
            v16_store(p.c, t);
        else
            v16_store_n(p.c, t, lanes);
    } else if (e->half_is_f16) {
        v16_store_f16_n(p.half, t, whole ? 16 : lanes);
    } else if (whole) {
        v16_store_bf16(p.half, t);
    } else {
        v16_store_bf16_n(p.half, t, lanes);
    }
}

/* The tile is in L1 and C is written once: reading lines of C back after a store that missed would wait for them. */
V16_FN void epilogue_tile(float *c, size_t ldc, const void *tile, const float *row_scale, const struct tern_epilogue *e,
                          size_t row, size_t col, size_t m, size_t n, const bool whole, const enum tern_act act)
{
    const size_t n_lo = n < 16 ? n : 16, n_hi = n - n_lo;
    const v16 zero = v16_set1(0), one = v16_set1(1);
    const v16 bias_lo = e->bias ? v16_load_n(e->bias + col, n_lo) : zero;
    const v16 bias_hi = e->bias && n_hi ? v16_load_n(e->bias + col + 16, n_hi) : zero;
    const v16 scale_lo = e->scale ? v16_load_n(e->scale + col, n_lo) : one;
    const v16 scale_hi = e->scale && n_hi ? v16_load_n(e->scale + col + 16, n_hi) : one;
    const bool integers = row_scale != NULL;

    for (size_t i = 0; i < m; i++) {
        const float s = integers ? row_scale[i] : 1;
        const size_t at = row + i;
        struct epilogue_part p = {
            .tile = (const char *)tile + i * TERN_PANEL * sizeof(float),
            .factor = e->factor ? e->factor + i * TERN_PANEL : NULL,
            .residual = e->residual ? e->residual + at * e->ld_residual + col : NULL,
            .residual2 = e->residual2 ? e->residual2 + at * e->ld_residual2 + col : NULL,
            .c = e->half ? NULL : c + at * ldc + col,
            .half = e->half ? e->half + at * e->ld_half + col : NULL,
        };

        epilogue_part(p, integers, s, scale_lo, bias_lo, e, whole, n_lo, act);
        if (!whole && !n_hi)
            continue;
        p.tile = (const char *)p.tile + 16 * sizeof(float);
        p.factor = p.factor ? p.factor + 16 : NULL;
        p.residual = p.residual ? p.residual + 16 : NULL;
        p.residual2 = p.residual2 ? p.residual2 + 16 : NULL;
        p.c = p.c ? p.c + 16 : NULL;
        p.half = p.half ? p.half + 16 : NULL;
        epilogue_part(p, integers, s, scale_hi, bias_hi, e, whole, n_hi, act);
    }
}

static void TERN_K(epilogue_f32)(float *c, size_t ldc, const float *tile, const struct tern_epilogue *e, size_t row,
                                 size_t col, size_t m, size_t n)
{
    switch (e->act) {
#define ACT_CASE(constant)                                                         \
    case constant:                                                                 \
        if (n == TERN_PANEL)                                                       \
            epilogue_tile(c, ldc, tile, NULL, e, row, col, m, n, true, constant);  \
        else                                                                       \
            epilogue_tile(c, ldc, tile, NULL, e, row, col, m, n, false, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

static void TERN_K(epilogue_s32)(float *c, size_t ldc, const int32_t *tile, const float *row_scale,
                                 const struct tern_epilogue *e, size_t row, size_t col, size_t m, size_t n)
{
    switch (e->act) {
#define ACT_CASE(constant)                                                              \
    case constant:                                                                      \
        if (n == TERN_PANEL)                                                            \
            epilogue_tile(c, ldc, tile, row_scale, e, row, col, m, n, true, constant);  \
        else                                                                            \
            epilogue_tile(c, ldc, tile, row_scale, e, row, col, m, n, false, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}
