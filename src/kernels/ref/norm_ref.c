/* norm_ref.c: LayerNorm and RMSNorm. */
#include "kernels/ref/ref.h"

#include <math.h>

void tern_layer_norm_f32_ref(float *y, const float *x, const float *gamma, const float *beta, size_t n, float eps,
                             const struct tern_row_flow *flow)
{
    (void)flow;
    double mean = 0, variance = 0;

    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean);
    variance /= (double)n;
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) / sqrt(variance + eps) * gamma[i] + (beta ? beta[i] : 0));
}

void tern_rms_norm_f32_ref(float *y, const float *x, const float *gamma, size_t n, float eps,
                           const struct tern_row_flow *flow)
{
    (void)flow;
    double squares = 0;

    for (size_t i = 0; i < n; i++)
        squares += (double)x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(x[i] / sqrt(squares / (double)n + eps) * gamma[i]);
}

/* z = (x + bias) + residual, into sum or y: where it went. */
static const float *residual_sum(float *y, float *sum, const float *x, const float *bias, const float *residual,
                                 size_t n)
{
    float *z = sum ? sum : y;

    for (size_t i = 0; i < n; i++) {
        float t = x[i];
        if (bias)
            t += bias[i];
        if (residual)
            t += residual[i];
        z[i] = t;
    }
    return z;
}

void tern_layer_norm_residual_f32_ref(float *y, float *sum, const float *x, const float *bias, const float *residual,
                                      const float *gamma, const float *beta, size_t n, float eps,
                                      const struct tern_row_flow *flow)
{
    (void)flow;
    tern_layer_norm_f32_ref(y, residual_sum(y, sum, x, bias, residual, n), gamma, beta, n, eps, NULL);
}

void tern_rms_norm_residual_f32_ref(float *y, float *sum, const float *x, const float *bias, const float *residual,
                                    const float *gamma, size_t n, float eps, const struct tern_row_flow *flow)
{
    (void)flow;
    tern_rms_norm_f32_ref(y, residual_sum(y, sum, x, bias, residual, n), gamma, n, eps, NULL);
}
