/* act_ref.c: activations in f64, and the epilogue's order. */
#include "kernels/ref/ref.h"

#include <math.h>

float tern_act_ref(double x, enum tern_act act)
{
    switch (act) {
    case TERN_ACT_NONE:
        break;
    case TERN_ACT_RELU:
        return (float)(x < 0 ? 0 : x);
    case TERN_ACT_LEAKY_RELU:
        return (float)(x < 0 ? 0.01 * x : x);
    case TERN_ACT_GELU_TANH:
        return (float)(0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))));
    case TERN_ACT_GELU_ERF:
        return (float)(0.5 * x * erfc(-x / sqrt(2)));
    case TERN_ACT_GELU_SIGMOID:
        return (float)(x / (1 + exp(-1.702 * x)));
    case TERN_ACT_SILU:
        return (float)(x / (1 + exp(-x)));
    case TERN_ACT_SIGMOID:
        return (float)(1 / (1 + exp(-x)));
    case TERN_ACT_TANH:
        return (float)tanh(x);
    }
    return (float)x;
}

void tern_act_f32_ref(float *y, const float *x, const float *bias, size_t n, enum tern_act act,
                      const struct tern_row_flow *flow)
{
    (void)flow;
    for (size_t i = 0; i < n; i++)
        y[i] = tern_act_ref(bias ? x[i] + bias[i] : x[i], act);
}

void tern_gate_f32_ref(float *y, const float *up, const float *gate, const float *up_bias, const float *gate_bias,
                       bool pairs, size_t n, enum tern_act act, const struct tern_row_flow *flow)
{
    const size_t step = pairs ? 2 : 1;

    (void)flow;
    for (size_t i = 0; i < n; i++) {
        const float a = up_bias ? up[i * step] + up_bias[i * step] : up[i * step];
        y[i] = a * tern_act_ref(gate_bias ? gate[i * step] + gate_bias[i * step] : gate[i * step], act);
    }
}

/* Element (row + i, j) of C, from the bias on; g: the gate's element after its scale. */
static void finish(float *c, size_t ldc, float t, float g, const struct tern_epilogue *e, size_t row, size_t i,
                   size_t col, size_t j)
{
    const size_t r = row + i, s = col + j;

    if (e->bias)
        t += e->bias[s];
    if (e->gate && e->bias)
        g += e->bias[s + e->gate_columns];
    t = e->gate ? t * tern_act_ref(g, e->act) : tern_act_ref(t, e->act);
    if (e->residual)
        t += e->residual[r * e->ld_residual + s];
    if (e->residual2)
        t += e->residual2[r * e->ld_residual2 + s];
    if (!e->half)
        c[r * ldc + s] = t;
    else if (e->half_is_f16)
        tern_f16_from_f32_ref(e->half + r * e->ld_half + s, &t, 1);
    else
        tern_bf16_from_f32_ref(e->half + r * e->ld_half + s, &t, 1);
}

void tern_epilogue_f32_ref(float *c, size_t ldc, const float *tile, const struct tern_epilogue *e, size_t row,
                           size_t col, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const float *scale = e->scale ? e->scale + col + j : NULL;
            const float t = tile[i * TERN_PANEL + j];
            const float g = e->gate ? ((const float *)e->gate)[i * TERN_PANEL + j] : 0;
            finish(c, ldc, scale ? t * scale[0] : t, scale && e->gate ? g * scale[e->gate_columns] : g, e, row, i, col,
                   j);
        }
}

void tern_epilogue_s32_ref(float *c, size_t ldc, const int32_t *tile, const float *row_scale,
                           const struct tern_epilogue *e, size_t row, size_t col, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const float *scale = e->scale ? e->scale + col + j : NULL;
            const float by = scale ? row_scale[i] * scale[0] : row_scale[i];
            const float gate_by = scale && e->gate ? row_scale[i] * scale[e->gate_columns] : row_scale[i];
            const float g = e->gate ? (float)((const int32_t *)e->gate)[i * TERN_PANEL + j] : 0;
            finish(c, ldc, (float)tile[i * TERN_PANEL + j] * by, g * gate_by, e, row, i, col, j);
        }
}
