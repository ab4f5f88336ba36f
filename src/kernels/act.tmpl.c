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

/* An exponential and what is around it are a chain of 20 operations, of which a processor sees a few vectors' at a time and waits for each.
 * In steps over a block in the first-level cache the chains are short enough that many of them overlap. */
#define ACT_BLOCK ((size_t)256)

/* For the ends of rows: one text for all activations. */
static __attribute__((noinline)) void act_vector(float *y, const float *x, enum tern_act act)
{
    switch (act) {
#define ACT_CASE(constant)                            \
    case constant:                                    \
        v16_store(y, v16_act(v16_load(x), constant)); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

/* Elements i .. i + 31 of x, with the bias if there is one. */
V16_FN v16x2 act_input2(const enum v16_panel form, const void *x, const float *bias, size_t i)
{
    v16x2 v = row_load2(form, x, i);

    if (bias) {
        v.lo = v16_add(v.lo, v16_load(bias + i));
        v.hi = v16_add(v.hi, v16_load(bias + i + 16));
    }
    return v;
}

/* Elements i .. end - 1. */
V16_FN void act_ends(const enum v16_panel form, void *y, const void *x, const float *bias, size_t i, size_t end,
                     enum tern_act act)
{
    _Alignas(64) float part[16];

    for (; i < end; i += 16) {
        const v16 v = row_load_n(form, x, i, end - i);
        v16_store(part, bias ? v16_add(v, v16_load_n(bias + i, end - i)) : v);
        act_vector(part, part, act);
        row_store_n(form, y, i, v16_load(part), end - i);
    }
}

/* e[i] = v16_act_exp(x[i]), n a multiple of 16, at most ACT_BLOCK */
V16_FN void act_exps(float *e, const float *x, size_t n, const enum tern_act act)
{
    _Alignas(64) float r[ACT_BLOCK];

    for (size_t i = 0; i < n; i += 16) {
        const struct v16_exp_parts parts = v16_act_split(v16_act_exponent(v16_load(x + i), act), act);
        v16_store(r + i, parts.r);
        v16_store(e + i, parts.n);
    }
    for (size_t i = 0; i < n; i += 16)
        v16_store(e + i, v16_act_join(v16_load(r + i), v16_load(e + i), act));
}

static __attribute__((noinline)) void act_exps_of(float *e, const float *x, size_t n, enum tern_act act)
{
    switch (act) {
#define ACT_CASE(constant)               \
    case constant:                       \
        if (v16_act_has_exp(constant))   \
            act_exps(e, x, n, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

/* From i on, whole pairs of vectors; returns where they end. */
V16_FN size_t act_exp_pairs(const enum v16_panel form, void *y, const void *x, const float *bias, size_t i, size_t n,
                            const enum tern_act act, struct tern_row_flow flow)
{
    _Alignas(64) float input[ACT_BLOCK], e[ACT_BLOCK];

    while (i + 32 <= n) {
        const size_t rest = (n - i) / 32 * 32, block = rest < ACT_BLOCK ? rest : ACT_BLOCK;
        const bool direct = form == V16_F32 && !bias;
        const float *v = direct ? (const float *)x + i : input;

        for (size_t j = 0; !direct && j < block; j += 32) {
            const v16x2 t = act_input2(form, x, bias, i + j);
            v16_store(input + j, t.lo);
            v16_store(input + j + 16, t.hi);
        }
        act_exps_of(e, v, block, act);
        for (size_t j = 0; j < block; j += 32) {
            const v16x2 out = { v16_act_of(v16_load(v + j), v16_load(e + j), act),
                                v16_act_of(v16_load(v + j + 16), v16_load(e + j + 16), act) };
            flow_store2(form, flow, y, i + j, out);
            flow_ahead(flow, row_size(form) * (i + j), 32 * row_size(form));
        }
        i += block;
    }
    return i;
}

V16_FN size_t act_pairs(const enum v16_panel form, void *y, const void *x, const float *bias, size_t i, size_t n,
                        const enum tern_act act, struct tern_row_flow flow)
{
    if (v16_act_has_exp(act))
        return act_exp_pairs(form, y, x, bias, i, n, act, flow);
    for (; i + 32 <= n; i += 32) {
        const v16x2 v = act_input2(form, x, bias, i), out = { v16_act(v.lo, act), v16_act(v.hi, act) };
        flow_store2(form, flow, y, i, out);
        flow_ahead(flow, row_size(form) * i, 32 * row_size(form));
    }
    return i;
}

V16_FN void act_row(const enum v16_panel form, void *y, const void *x, const float *bias, size_t n, enum tern_act act,
                    const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    size_t i = flow_head(form, flow, y, n);

    act_ends(form, y, x, bias, 0, i, act);
    switch (act) {
#define ACT_CASE(constant)                                     \
    case constant:                                             \
        i = act_pairs(form, y, x, bias, i, n, constant, flow); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
    act_ends(form, y, x, bias, i, n, act);
}

/* ---- gates ----
 *
 * A block of numbers is gathered in the first-level cache, where the activation goes over it as over a row; one text for all of them. */
#define GATE_BLOCK ((size_t)512)

/* x + bias at i .. i + lanes - 1, 16 at most; with pairs: the even elements of what stands there, or the odd ones. */
V16_FN v16 gate_load(const enum v16_panel form, const void *x, const float *bias, const bool pairs, const bool odd,
                     size_t i, size_t lanes)
{
    const size_t more = lanes > 8 ? 2 * lanes - 16 : 0; /* elements of pairs beyond the first 16 */
    v16 v, add = v16_set1(0);

    if (!pairs) {
        v = row_load_n(form, x, i, lanes);
        return bias ? v16_add(v, v16_load_n(bias + i, lanes)) : v;
    }
    const v16 first = row_load_n(form, x, 2 * i, 2 * lanes),
              second = more ? row_load_n(form, x, 2 * i + 16, more) : v16_set1(0);
    v = odd ? v16_odds(first, second) : v16_evens(first, second);
    if (!bias)
        return v;
    add = v16_load_n(bias + 2 * i, 2 * lanes);
    const v16 rest = more ? v16_load_n(bias + 2 * i + 16, more) : v16_set1(0);
    return v16_add(v, odd ? v16_odds(add, rest) : v16_evens(add, rest));
}

/* up: the row and bias that `gate` is in, with pairs */
V16_FN void gate_row(const enum v16_panel form, void *y, const void *up, const void *gate, const float *up_bias,
                     const float *gate_bias, const bool pairs, size_t n, enum tern_act act,
                     const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    const size_t head = flow_head(form, flow, y, n), size = row_size(form);
    _Alignas(64) float e[GATE_BLOCK];

    for (size_t at = 0, block; at < n; at += block) {
        size_t i = 0;
        block = at < head ? head - at : n - at < GATE_BLOCK ? n - at : GATE_BLOCK;
        for (; i + 16 <= block; i += 16)
            v16_store(e + i, gate_load(form, gate, gate_bias, pairs, false, at + i, 16));
        if (i < block)
            v16_store(e + i, gate_load(form, gate, gate_bias, pairs, false, at + i, block - i));
        TERN_K(act_f32)(e, e, NULL, block, act, NULL);
        for (i = 0; at >= head && i + 32 <= block; i += 32) {
            const v16 u = gate_load(form, up, up_bias, pairs, true, at + i, 16);
            const v16 w = gate_load(form, up, up_bias, pairs, true, at + i + 16, 16);
            const v16x2 out = { v16_mul(v16_load(e + i), u), v16_mul(v16_load(e + i + 16), w) };
            flow_store2(form, flow, y, at + i, out);
            flow_ahead(flow, 2 * size * (at + i), 64 * size);
        }
        for (; i < block; i += 16) {
            const v16 u = gate_load(form, up, up_bias, pairs, true, at + i, block - i);
            row_store_n(form, y, at + i, v16_mul(v16_load(e + i), u), block - i);
        }
    }
}

V16_FN void gate_any(const enum v16_panel form, void *y, const void *up, const void *gate, const float *up_bias,
                     const float *gate_bias, bool pairs, size_t n, enum tern_act act, const struct tern_row_flow *flow)
{
    if (pairs)
        gate_row(form, y, gate, gate, gate_bias, gate_bias, true, n, act, flow);
    else
        gate_row(form, y, up, gate, up_bias, gate_bias, false, n, act, flow);
}

#define ACT(form, type, suffix)                                                                               \
    static void TERN_K(act_##suffix)(type * y, const type *x, const float *bias, size_t n, enum tern_act act, \
                                     const struct tern_row_flow *flow)                                        \
    {                                                                                                         \
        act_row(form, y, x, bias, n, act, flow);                                                              \
    }                                                                                                         \
    static void TERN_K(gate_##suffix)(type * y, const type *up, const type *gate, const float *up_bias,       \
                                      const float *gate_bias, bool pairs, size_t n, enum tern_act act,        \
                                      const struct tern_row_flow *flow)                                       \
    {                                                                                                         \
        gate_any(form, y, up, gate, up_bias, gate_bias, pairs, n, act, flow);                                 \
    }
ROW_FORMS(ACT)
#undef ACT

/* What ends a tile's rows: pointers to the tile's first column in its first row, NULL for what is not there. */
struct epilogue_end {
    const float *residual, *residual2;
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

/* Rows whose steps are taken together where there is an exponential (ACT_BLOCK). */
#define EPILOGUE_ROWS (ACT_BLOCK / TERN_PANEL)

/* Rows of f32 are many lines to wait for, which a vector's whole chain between two stores hides better than steps do, where vectors
 * are as wide as a line; bench/LOG.md. */
V16_FN bool epilogue_in_steps(const enum tern_act act, const bool plain)
{
    return v16_act_has_exp(act) && (!plain || V16_GEMM_ROWS != TERN_TILE_ROWS);
}

/* What the last step takes from those before, for one vector. */
struct epilogue_steps {
    _Alignas(64) float x[ACT_BLOCK], r[ACT_BLOCK], n[ACT_BLOCK];
};

/* Up to the exponential. */
V16_FN void epilogue_first(struct epilogue_steps *s, size_t j, v16 x, const enum tern_act act)
{
    const struct v16_exp_parts parts = v16_act_split(v16_act_exponent(x, act), act);

    v16_store(s->x + j, x);
    v16_store(s->r + j, parts.r);
    v16_store(s->n + j, parts.n);
}

V16_FN v16 epilogue_last(const struct epilogue_steps *s, size_t j, const enum tern_act act)
{
    return v16_act_of(v16_load(s->x + j), v16_act_join(v16_load(s->r + j), v16_load(s->n + j), act), act);
}

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

    if (epilogue_in_steps(act, plain)) {
        struct epilogue_steps s;

        for (size_t i0 = 0; i0 < m; i0 += EPILOGUE_ROWS) {
            const size_t rows = m - i0 < EPILOGUE_ROWS ? m - i0 : EPILOGUE_ROWS;

            for (size_t i = 0; i < rows; i++) {
                epilogue_first(&s, i * TERN_PANEL, epilogue_begin(tile, row_scale, i0 + i, 0, scale_lo, bias_lo), act);
                epilogue_first(&s, i * TERN_PANEL + 16, epilogue_begin(tile, row_scale, i0 + i, 16, scale_hi, bias_hi),
                               act);
            }
            for (size_t i = 0; i < rows; i++) {
                epilogue_part(&e, epilogue_last(&s, i * TERN_PANEL, act), i0 + i, 0, whole, n_lo, plain);
                if (whole || n_hi)
                    epilogue_part(&e, epilogue_last(&s, i * TERN_PANEL + 16, act), i0 + i, 16, whole, n_hi, plain);
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

/* What stands for a scale or a bias that is not given. */
#define EPILOGUE_EACH(x)                                                                               \
    {                                                                                                  \
        x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x \
    }
static const _Alignas(64) float TERN_K(epilogue_ones)[TERN_PANEL] = EPILOGUE_EACH(1);
static const _Alignas(64) float TERN_K(epilogue_nothing)[TERN_PANEL] = EPILOGUE_EACH(-0.0f);

/* A whole tile times the activation of another one.  Scales and biases are read where they are: registers for the constants of an
 * exponential and of both tiles' columns there are not. */
V16_FN void epilogue_by_gate(const struct epilogue_end *end, const void *tile, const void *gate, const float *row_scale,
                             const float *scale, const float *bias, size_t further, size_t m, const bool plain,
                             const enum tern_act act)
{
    const float *gate_scale = scale ? scale + further : TERN_K(epilogue_ones);
    const float *gate_bias = bias ? bias + further : TERN_K(epilogue_nothing);
    const struct epilogue_end e = *end;
    struct epilogue_steps s;

    scale = scale ? scale : TERN_K(epilogue_ones);
    bias = bias ? bias : TERN_K(epilogue_nothing);

    for (size_t i0 = 0; i0 < m; i0 += EPILOGUE_ROWS) {
        const size_t rows = m - i0 < EPILOGUE_ROWS ? m - i0 : EPILOGUE_ROWS;

        for (size_t i = 0; i < rows; i++) {
            const v16 lo = epilogue_begin(gate, row_scale, i0 + i, 0, v16_load(gate_scale), v16_load(gate_bias));
            const v16 hi =
                epilogue_begin(gate, row_scale, i0 + i, 16, v16_load(gate_scale + 16), v16_load(gate_bias + 16));
            if (v16_act_has_exp(act)) {
                epilogue_first(&s, i * TERN_PANEL, lo, act);
                epilogue_first(&s, i * TERN_PANEL + 16, hi, act);
            } else {
                v16_store(s.x + i * TERN_PANEL, v16_act(lo, act));
                v16_store(s.x + i * TERN_PANEL + 16, v16_act(hi, act));
            }
        }
        for (size_t i = 0, j = 0; i < rows; i++, j += TERN_PANEL) {
            const bool steps = v16_act_has_exp(act);
            const v16 by_lo = steps ? epilogue_last(&s, j, act) : v16_load(s.x + j);
            const v16 lo = epilogue_begin(tile, row_scale, i0 + i, 0, v16_load(scale), v16_load(bias));
            epilogue_part(&e, v16_mul(lo, by_lo), i0 + i, 0, true, 16, plain);
            const v16 by_hi = steps ? epilogue_last(&s, j + 16, act) : v16_load(s.x + j + 16);
            const v16 hi = epilogue_begin(tile, row_scale, i0 + i, 16, v16_load(scale + 16), v16_load(bias + 16));
            epilogue_part(&e, v16_mul(hi, by_hi), i0 + i, 16, true, 16, plain);
        }
    }
}

V16_FN struct epilogue_end epilogue_end(float *c, size_t ldc, const struct tern_epilogue *e, size_t row, size_t col)
{
    return (struct epilogue_end){
        .residual = e->residual ? e->residual + row * e->ld_residual + col : NULL,
        .residual2 = e->residual2 ? e->residual2 + row * e->ld_residual2 + col : NULL,
        .ld_residual = e->ld_residual,
        .ld_residual2 = e->ld_residual2,
        .c = e->half ? NULL : c + row * ldc + col,
        .half = e->half ? e->half + row * e->ld_half + col : NULL,
        .ld = e->half ? e->ld_half : ldc,
        .half_is_f16 = e->half_is_f16,
    };
}

/* A function of its own: in the one of all other tiles their constants would be in memory. */
static __attribute__((noinline)) void epilogue_gated(float *c, size_t ldc, const void *tile, const float *row_scale,
                                                     const struct tern_epilogue *e, size_t row, size_t col, size_t m)
{
    const struct epilogue_end end = epilogue_end(c, ldc, e, row, col);
    const float *scale = e->scale ? e->scale + col : NULL, *bias = e->bias ? e->bias + col : NULL;
    const bool plain = !e->residual && !e->residual2 && !e->half;

    switch (e->act) {
#define ACT_CASE(constant)                                                                                      \
    case constant:                                                                                              \
        if (plain)                                                                                              \
            epilogue_by_gate(&end, tile, e->gate, row_scale, scale, bias, e->gate_columns, m, true, constant);  \
        else                                                                                                    \
            epilogue_by_gate(&end, tile, e->gate, row_scale, scale, bias, e->gate_columns, m, false, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

/* Tiles of 32 columns that only go to C, all other whole ones, and the last columns have a loop each. */
V16_FN void epilogue_any(float *c, size_t ldc, const void *tile, const float *row_scale, const struct tern_epilogue *e,
                         size_t row, size_t col, size_t m, size_t n, const enum tern_act act)
{
    const struct epilogue_end end = epilogue_end(c, ldc, e, row, col);
    const float *scale = e->scale ? e->scale + col : NULL, *bias = e->bias ? e->bias + col : NULL;

    if (n < TERN_PANEL)
        epilogue_tile(&end, tile, row_scale, scale, bias, m, n, false, false, act);
    else if (e->residual || e->residual2 || e->half)
        epilogue_tile(&end, tile, row_scale, scale, bias, m, n, true, false, act);
    else
        epilogue_tile(&end, tile, row_scale, scale, bias, m, n, true, true, act);
}

static void TERN_K(epilogue_f32)(float *c, size_t ldc, const float *tile, const struct tern_epilogue *e, size_t row,
                                 size_t col, size_t m, size_t n)
{
    if (e->gate) {
        epilogue_gated(c, ldc, tile, NULL, e, row, col, m);
        return;
    }
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
    if (e->gate) {
        epilogue_gated(c, ldc, tile, row_scale, e, row, col, m);
        return;
    }
    switch (e->act) {
#define ACT_CASE(constant)                                                  \
    case constant:                                                          \
        epilogue_any(c, ldc, tile, row_scale, e, row, col, m, n, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}
