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

V16_FN void act_row(float *y, const float *x, size_t n, const enum tern_act act, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    size_t i = flow_head(flow.stream, y, 64, sizeof *y, n);

    if (i)
        v16_store_n(y, v16_act(v16_load_n(x, i), act), i);
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

/* The tile is in L1 and C is written once: reading lines of C back after a store that missed would wait for them. */
V16_FN void epilogue_tile(float *c, size_t ldc, const void *tile, const float *row_scale, const struct tern_epilogue *e,
                          size_t row, size_t col, size_t m, size_t n, const enum tern_act act)
{
    for (size_t j = 0; j < n; j += 16) {
        const size_t lanes = n - j, at = col + j;
        const v16 bias = e->bias ? v16_load_n(e->bias + at, lanes) : v16_set1(0);
        const v16 scale = e->scale ? v16_load_n(e->scale + at, lanes) : v16_set1(1);

        for (size_t i = 0; i < m; i++) {
            v16 t;

            if (row_scale) /* of integers; times 1 is exact */
                t = v16_mul(v16_load_s32((const int32_t *)tile + i * TERN_PANEL + j),
                            v16_mul(v16_set1(row_scale[i]), scale));
            else
                t = v16_load((const float *)tile + i * TERN_PANEL + j);
            if (!row_scale && e->scale)
                t = v16_mul(t, scale);
            if (e->bias)
                t = v16_add(t, bias);
            t = v16_act(t, act);
            if (e->residual)
                t = v16_add(t, v16_load_n(e->residual + (row + i) * e->ld_residual + at, lanes));
            if (e->residual2)
                t = v16_add(t, v16_load_n(e->residual2 + (row + i) * e->ld_residual2 + at, lanes));
            v16_store_n(c + (row + i) * ldc + at, t, lanes);
        }
    }
}

static void TERN_K(epilogue_f32)(float *c, size_t ldc, const float *tile, const struct tern_epilogue *e, size_t row,
                                 size_t col, size_t m, size_t n)
{
    switch (e->act) {
#define ACT_CASE(constant)                                              \
    case constant:                                                      \
        epilogue_tile(c, ldc, tile, NULL, e, row, col, m, n, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}

static void TERN_K(epilogue_s32)(float *c, size_t ldc, const int32_t *tile, const float *row_scale,
                                 const struct tern_epilogue *e, size_t row, size_t col, size_t m, size_t n)
{
    switch (e->act) {
#define ACT_CASE(constant)                                                   \
    case constant:                                                           \
        epilogue_tile(c, ldc, tile, row_scale, e, row, col, m, n, constant); \
        break;
        ACT_EACH(ACT_CASE)
#undef ACT_CASE
    }
}
