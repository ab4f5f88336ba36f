/* elementwise_ref.c: axpy, mixtures and residual add; their f32 steps are the definition. */
#include "kernels/ref/ref.h"

#include <math.h>

void tern_axpy_f32_ref(float *out, const float *x, const float *y, float scale, size_t n,
                       const struct tern_row_flow *flow)
{
    (void)flow;
    for (size_t i = 0; i < n; i++)
        out[i] = fmaf(x[i], scale, y[i]);
}

void tern_mix_f32_ref(float *out, const float *x, const float *y, const float *of_x, const float *of_y, bool each,
                      size_t n, const struct tern_row_flow *flow)
{
    (void)flow;
    for (size_t i = 0; i < n; i++) {
        const float a = x[i] * of_x[each ? i : 0], b = y[i] * of_y[each ? i : 0];
        out[i] = a + b;
    }
}

void tern_residual_add_f32_ref(float *out, const float *x, const float *residual,
                               const struct tern_residual_terms *terms, size_t n, const struct tern_row_flow *flow)
{
    (void)flow;
    const float *inside = terms->attention_inside ? terms->attention : NULL;
    const float *inside_bias = terms->attention_inside ? terms->attention_bias : NULL;
    const float *outside = terms->attention_inside ? NULL : terms->attention;
    const float *outside_bias = terms->attention_inside ? NULL : terms->attention_bias;

    for (size_t i = 0; i < n; i++) {
        float t = residual[i], u = x[i];
        if (terms->final_bias)
            t += terms->final_bias[i];
        if (inside)
            t += inside[i];
        if (inside_bias)
            t += inside_bias[i];
        t *= terms->inv_mp;
        if (outside)
            u += outside[i];
        u += t;
        if (outside_bias)
            u += terms->attention_bias_divided ? outside_bias[i] * terms->inv_mp : outside_bias[i];
        out[i] = u;
    }
}
