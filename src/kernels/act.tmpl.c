/* act.tmpl.c: activations, alone, as a gate, and on a finished tile.  Built once per level; contracts in kernels.h.
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

/* What a row is made of: act(x + bias), and times up + up_bias where it is a gate.  pairs: numbers of x stand between those of up, so
 * do their biases, and up and up_bias are not looked at. */
struct act_source {
    const void *x, *up;
    const float *bias, *up_bias;
    bool gated, pairs; /* constants in each loop */
};

/* x + bias at i .. i + lanes - 1, 16 at most; with pairs: the even elements of what stands there, or the odd ones. */
V16_FN v16 act_load(const enum v16_panel form, const void *x, const float *bias, const bool pairs, const bool odd,
                    size_t i, size_t lanes)
{
    const size_t at = pairs ? 2 * i : i, more = pairs && lanes > 8 ? 2 * lanes - 16 : 0;
    v16 v = row_load_n(form, x, at, pairs ? 2 * lanes : lanes), add = v16_set1(0);

    if (bias)
        add = v16_load_n(bias + at, pairs ? 2 * lanes : lanes);
    if (pairs) {
        const v16 second = more ? row_load_n(form, x, at + 16, more) : v16_set1(0);
        v = odd ? v16_odds(v, second) : v16_evens(v, second);
        if (bias) {
            const v16 second_add = more ? v16_load_n(bias + at + 16, more) : v16_set1(0);
            add = odd ? v16_odds(add, second_add) : v16_evens(add, second_add);
        }
    }
    return bias ? v16_add(v, add) : v;
}

/* The numbers that the activation is of, and what its result is multiplied by. */
V16_FN v16 act_input(const enum v16_panel form, const struct act_source *s, size_t i, size_t lanes)
{
    return act_load(form, s->x, s->bias, s->pairs, false, i, lanes);
}

V16_FN v16 act_gated(const enum v16_panel form, const struct act_source *s, v16 v, size_t i, size_t lanes)
{
    if (!s->gated)
        return v;
    return v16_mul(v, s->pairs ? act_load(form, s->x, s->bias, true, true, i, lanes)
                               : act_load(form, s->up, s->up_bias, false, false, i, lanes));
}

V16_FN v16x2 act_input2(const enum v16_panel form, const struct act_source *s, size_t i)
{
    v16x2 v = { v16_set1(0), v16_set1(0) };

    if (s->pairs) {
        v.lo = act_input(form, s, i, 16);
        v.hi = act_input(form, s, i + 16, 16);
        return v;
    }
    v = row_load2(form, s->x, i);
    if (s->bias) {
        v.lo = v16_add(v.lo, v16_load(s->bias + i));
        v.hi = v16_add(v.hi, v16_load(s->bias + i + 16));
    }
    return v;
}

V16_FN void act_part(const enum v16_panel form, void *y, const struct act_source *s, size_t i, size_t lanes,
                     const enum tern_act act)
{
    row_store_n(form, y, i, act_gated(form, s, v16_act(act_input(form, s, i, lanes), act), i, lanes), lanes);
}

V16_FN void act_store2(const enum v16_panel form, void *y, const struct act_source *s, size_t i, v16x2 v,
                       struct tern_row_flow flow)
{
    const size_t step = row_size(form) * (s->gated ? 2 : 1);
    const v16x2 out = { act_gated(form, s, v.lo, i, 16), act_gated(form, s, v.hi, i + 16, 16) };

    flow_store2(form, flow, y, i, out);
    flow_ahead(flow, step * i, 32 * step);
}

/* From i on, whole pairs of vectors; returns where they end. */
V16_FN size_t act_erf_blocks(const enum v16_panel form, void *y, const struct act_source *s, size_t i, size_t n,
                             struct tern_row_flow flow)
{
    _Alignas(64) float e[ERF_BLOCK];

    while (i + 32 <= n) {
        const size_t block = n - i < ERF_BLOCK ? (n - i) / 32 * 32 : ERF_BLOCK;
        for (size_t j = 0; j < block; j += 32) {
            const v16x2 v = act_input2(form, s, i + j);
            v16_store(e + j, v16_gelu_erf_log(v.lo));
            v16_store(e + j + 16, v16_gelu_erf_log(v.hi));
        }
        for (size_t j = 0; j < block; j += 16)
            v16_store(e + j, v16_exp(v16_load(e + j)));
        for (size_t j = 0; j < block; j += 32) {
            const v16x2 v = act_input2(form, s, i + j);
            const v16x2 out = { v16_gelu_erf_of(v.lo, v16_load(e + j)), v16_gelu_erf_of(v.hi, v16_load(e + j + 16)) };
            act_store2(form, y, s, i + j, out, flow);
        }
        i += block;
    }
    return i;
}

V16_FN void act_row(const enum v16_panel form, void *y, const struct act_source *s, size_t n, const enum tern_act act,
                    struct tern_row_flow flow)
{
    size_t i = flow_head(form, flow, y, n);

    for (size_t j = 0; j < i; j += 16)
        act_part(form, y, s, j, i - j, act);
    if (act == TERN_ACT_GELU_ERF)
        i = act_erf_blocks(form, y, s, i, n, flow);
    for (; i + 32 <= n; i += 32) {
        const v16x2 v = act_input2(form, s, i), out = { v16_act(v.lo, act), v16_act(v.hi, act) };
        act_store2(form, y, s, i, out, flow);
    }
    for (; i < n; i += 16)
        act_part(form, y, s, i, n - i, act);
}

V16_FN void act_by_number(const enum v16_panel form, void *y, const struct act_source *s, size_t n, enum tern_act act,
                          const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);

    switch (act) {
#define ACT_CASE(constant)                      \
    case constant:                              \
        act_row(form, y, s, n, constant, flow); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

#define ACT(form, type, suffix)                                                                               \
    static void TERN_K(act_##suffix)(type * y, const type *x, const float *bias, size_t n, enum tern_act act, \
                                     const struct tern_row_flow *flow)                                        \
    {                                                                                                         \
        const struct act_source s = { .x = x, .bias = bias };                                                 \
        act_by_number(form, y, &s, n, act, flow);                                                             \
    }                                                                                                         \
    static void TERN_K(gate_##suffix)(type * y, const type *up, const type *gate, const float *up_bias,       \
                                      const float *gate_bias, bool pairs, size_t n, enum tern_act act,        \
                                      const struct tern_row_flow *flow)                                       \
    {                                                                                                         \
        const struct act_source halves = { gate, up, gate_bias, up_bias, true, false };                       \
        const struct act_source mixed = { gate, NULL, gate_bias, NULL, true, true };                          \
        if (pairs)                                                                                            \
            act_by_number(form, y, &mixed, n, act, flow);                                                     \
        else                                                                                                  \
            act_by_number(form, y, &halves, n, act, flow);                                                    \
    }
ROW_FORMS(ACT)
#undef ACT

/* What ends a tile's rows: pointers to the tile's first column in its first row, NULL for what is not there. */
struct epilogue_end {
    const float *factor, *residual, *residual2;
    size_t ld_residual, ld_residual2;
    float *c;
    uint16_t *half;
    size_t ld;
    bool half_is_f16;
};

/* 16 columns of row i of a tile, the first of them `at`, `lanes` of them where the tile is not whole.   plain: they go to C as they
 * are.  What is asked for each vector costs as much as its arithmetic. */
V16_FN void epilogue_part(const struct epilogue_end *e, v16 t, size_t i, size_t at, const bool whole, size_t lanes,
                          const bool plain)
{
    if (!plain && e->factor)
        t = v16_mul(t, v16_load(e->factor + i * TERN_PANEL + at));
    if (!plain && e->residual) {
        const float *r = e->residual + i * e->ld_residual + at;
        t = v16_add(t, whole ? v16_load(r) : v16_load_n(r, lanes));
    }
    if (!plain && e->residual2) {
        const float *r = e->residual2 + i * e->ld_residual2 + at;
        t = v16_add(t, whole ? v16_load(r) : v16_load_n(r, lanes));
    }
    if (plain || !e->half) {
        float *c = e->c + i * e->ld + at;
        if (whole)
            v16_store(c, t);
        else
            v16_store_n(c, t, lanes);
    } else {
        uint16_t *half = e->half + i * e->ld + at;
        if (e->half_is_f16)
            v16_store_f16_n(half, t, whole ? 16 : lanes);
        else if (whole)
            v16_store_bf16(half, t);
        else
            v16_store_bf16_n(half, t, lanes);
    }
}

/* Up to the activation.  Times 1 is exact, and so is adding -0. */
V16_FN v16 epilogue_begin(const void *tile, const float *row_scale, size_t i, size_t at, v16 scale, v16 bias)
{
    if (row_scale) {
        const int32_t *sum = (const int32_t *)tile + i * TERN_PANEL + at;
        return v16_add(v16_mul(v16_load_s32(sum), v16_mul(v16_set1(row_scale[i]), scale)), bias);
    }
    return v16_add(v16_mul(v16_load((const float *)tile + i * TERN_PANEL + at), scale), bias);
}

/* Rows of GELU with erf whose steps (act_erf_blocks) are taken together. */
#define ERF_ROWS (ERF_BLOCK / TERN_PANEL)

/* The tile is in L1 and C is written once: reading lines of C back after a store that missed would wait for them. */
V16_FN void epilogue_tile(const struct epilogue_end *end, const void *tile, const float *row_scale, const float *scale,
                          const float *bias, size_t m, size_t n, const bool whole, const bool plain,
                          const enum tern_act act)
{
    const size_t n_lo = n < 16 ? n : 16, n_hi = n - n_lo;
    const v16 none = v16_set1(-0.0f), one = v16_set1(1);
    const v16 bias_lo = bias ? v16_load_n(bias, n_lo) : none;
    const v16 bias_hi = bias && n_hi ? v16_load_n(bias + 16, n_hi) : none;
    const v16 scale_lo = scale ? v16_load_n(scale, n_lo) : one;
    const v16 scale_hi = scale && n_hi ? v16_load_n(scale + 16, n_hi) : one;
    const struct epilogue_end e = *end;

    if (act == TERN_ACT_GELU_ERF) {
        _Alignas(64) float x[ERF_BLOCK], f[ERF_BLOCK];

        for (size_t i0 = 0; i0 < m; i0 += ERF_ROWS) {
            const size_t rows = m - i0 < ERF_ROWS ? m - i0 : ERF_ROWS, count = rows * TERN_PANEL;

            for (size_t i = 0; i < rows; i++) {
                const v16 lo = epilogue_begin(tile, row_scale, i0 + i, 0, scale_lo, bias_lo);
                const v16 hi = epilogue_begin(tile, row_scale, i0 + i, 16, scale_hi, bias_hi);
                v16_store(x + i * TERN_PANEL, lo);
                v16_store(x + i * TERN_PANEL + 16, hi);
                v16_store(f + i * TERN_PANEL, v16_gelu_erf_log(lo));
                v16_store(f + i * TERN_PANEL + 16, v16_gelu_erf_log(hi));
            }
            for (size_t j = 0; j < count; j += 16)
                v16_store(f + j, v16_exp(v16_load(f + j)));
            for (size_t i = 0; i < rows; i++) {
                const float *xi = x + i * TERN_PANEL, *fi = f + i * TERN_PANEL;
                epilogue_part(&e, v16_gelu_erf_of(v16_load(xi), v16_load(fi)), i0 + i, 0, whole, n_lo, plain);
                if (whole || n_hi)
                    epilogue_part(&e, v16_gelu_erf_of(v16_load(xi + 16), v16_load(fi + 16)), i0 + i, 16, whole, n_hi,
                                  plain);
            }
        }
        return;
    }
    for (size_t i = 0; i < m; i++) {
        const v16 lo = epilogue_begin(tile, row_scale, i, 0, scale_lo, bias_lo);
        const v16 hi = epilogue_begin(tile, row_scale, i, 16, scale_hi, bias_hi);

        epilogue_part(&e, v16_act(lo, act), i, 0, whole, n_lo, plain);
        if (whole || n_hi)
            epilogue_part(&e, v16_act(hi, act), i, 16, whole, n_hi, plain);
    }
}

/* Tiles of 32 columns that only go to C, all other whole ones, and the last columns have a loop each. */
V16_FN void epilogue_any(float *c, size_t ldc, const void *tile, const float *row_scale, const struct tern_epilogue *e,
                         size_t row, size_t col, size_t m, size_t n, const enum tern_act act)
{
    const struct epilogue_end end = {
        .factor = e->factor,
        .residual = e->residual ? e->residual + row * e->ld_residual + col : NULL,
        .residual2 = e->residual2 ? e->residual2 + row * e->ld_residual2 + col : NULL,
        .ld_residual = e->ld_residual,
        .ld_residual2 = e->ld_residual2,
        .c = e->half ? NULL : c + row * ldc + col,
        .half = e->half ? e->half + row * e->ld_half + col : NULL,
        .ld = e->half ? e->ld_half : ldc,
        .half_is_f16 = e->half_is_f16,
    };
    const float *scale = e->scale ? e->scale + col : NULL, *bias = e->bias ? e->bias + col : NULL;

    if (n < TERN_PANEL)
        epilogue_tile(&end, tile, row_scale, scale, bias, m, n, false, false, act);
    else if (e->factor || e->residual || e->residual2 || e->half)
        epilogue_tile(&end, tile, row_scale, scale, bias, m, n, true, false, act);
    else
        epilogue_tile(&end, tile, row_scale, scale, bias, m, n, true, true, act);
}

static void TERN_K(epilogue_f32)(float *c, size_t ldc, const float *tile, const struct tern_epilogue *e, size_t row,
                                 size_t col, size_t m, size_t n)
{
    switch (e->act) {
#define ACT_CASE(constant)                                             \
    case constant:                                                     \
        epilogue_any(c, ldc, tile, NULL, e, row, col, m, n, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

static void TERN_K(epilogue_s32)(float *c, size_t ldc, const int32_t *tile, const float *row_scale,
                                 const struct tern_epilogue *e, size_t row, size_t col, size_t m, size_t n)
{
    switch (e->act) {
#define ACT_CASE(constant)                                                  \
    case constant:                                                          \
        epilogue_any(c, ldc, tile, row_scale, e, row, col, m, n, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}
