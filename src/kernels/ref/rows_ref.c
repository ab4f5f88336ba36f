/* rows_ref.c: kernels on rows of halves: those on f32, of what the halves are, rounded once. */
#include "kernels/ref/ref.h"

/* The definitions for one format, widen and narrow being its conversions of n numbers. */
#define HALVES(half, widen, narrow)                                                                                    \
    static float half##_at(const uint16_t *x, size_t i)                                                                \
    {                                                                                                                  \
        float value;                                                                                                   \
        widen(&value, x + i, 1);                                                                                       \
        return value;                                                                                                  \
    }                                                                                                                  \
    void tern_act_##half##_ref(uint16_t *y, const uint16_t *x, const float *bias, size_t n, enum tern_act act,         \
                               const struct tern_row_flow *flow)                                                       \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            float value = half##_at(x, i);                                                                             \
            tern_act_f32_ref(&value, &value, bias ? bias + i : NULL, 1, act, flow);                                    \
            narrow(y + i, &value, 1);                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    void tern_gate_##half##_ref(uint16_t *y, const uint16_t *up, const uint16_t *gate, const float *up_bias,           \
                                const float *gate_bias, bool pairs, size_t n, enum tern_act act,                       \
                                const struct tern_row_flow *flow)                                                      \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const size_t at = pairs ? 2 * i : i;                                                                       \
            const float u = half##_at(up, at), g = half##_at(gate, at);                                                \
            float value;                                                                                               \
            tern_gate_f32_ref(&value, &u, &g, up_bias ? up_bias + at : NULL, gate_bias ? gate_bias + at : NULL, false, \
                              1, act, flow);                                                                           \
            narrow(y + i, &value, 1);                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    void tern_layer_norm_##half##_ref(uint16_t *y, const uint16_t *x, const float *gamma, const float *beta, size_t n, \
                                      float eps, const struct tern_row_flow *flow)                                     \
    {                                                                                                                  \
        widen(flow->work, x, n);                                                                                       \
        tern_layer_norm_f32_ref(flow->work, flow->work, gamma, beta, n, eps, NULL);                                    \
        narrow(y, flow->work, n);                                                                                      \
    }                                                                                                                  \
    void tern_rms_norm_##half##_ref(uint16_t *y, const uint16_t *x, const float *gamma, size_t n, float eps,           \
                                    const struct tern_row_flow *flow)                                                  \
    {                                                                                                                  \
        widen(flow->work, x, n);                                                                                       \
        tern_rms_norm_f32_ref(flow->work, flow->work, gamma, n, eps, NULL);                                            \
        narrow(y, flow->work, n);                                                                                      \
    }                                                                                                                  \
    static void half##_sum(float *z, uint16_t *sum, const uint16_t *x, const float *bias, const uint16_t *residual,    \
                           size_t n)                                                                                   \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            z[i] = half##_at(x, i);                                                                                    \
            if (bias)                                                                                                  \
                z[i] += bias[i];                                                                                       \
            if (residual)                                                                                              \
                z[i] += half##_at(residual, i);                                                                        \
        }                                                                                                              \
        if (sum)                                                                                                       \
            narrow(sum, z, n);                                                                                         \
    }                                                                                                                  \
    void tern_layer_norm_residual_##half##_ref(uint16_t *y, uint16_t *sum, const uint16_t *x, const float *bias,       \
                                               const uint16_t *residual, const float *gamma, const float *beta,        \
                                               size_t n, float eps, const struct tern_row_flow *flow)                  \
    {                                                                                                                  \
        half##_sum(flow->work, sum, x, bias, residual, n);                                                             \
        tern_layer_norm_f32_ref(flow->work, flow->work, gamma, beta, n, eps, NULL);                                    \
        narrow(y, flow->work, n);                                                                                      \
    }                                                                                                                  \
    void tern_rms_norm_residual_##half##_ref(uint16_t *y, uint16_t *sum, const uint16_t *x, const float *bias,         \
                                             const uint16_t *residual, const float *gamma, size_t n, float eps,        \
                                             const struct tern_row_flow *flow)                                         \
    {                                                                                                                  \
        half##_sum(flow->work, sum, x, bias, residual, n);                                                             \
        tern_rms_norm_f32_ref(flow->work, flow->work, gamma, n, eps, NULL);                                            \
        narrow(y, flow->work, n);                                                                                      \
    }                                                                                                                  \
    void tern_softmax_##half##_ref(uint16_t *y, const uint16_t *x, const float *mask, size_t n, size_t first,          \
                                   size_t last, float scale, float slope, const struct tern_row_flow *flow)            \
    {                                                                                                                  \
        widen(flow->work, x, n);                                                                                       \
        tern_softmax_f32_ref(flow->work, flow->work, mask, n, first, last, scale, slope, NULL);                        \
        narrow(y, flow->work, n);                                                                                      \
    }                                                                                                                  \
    void tern_mix_##half##_ref(uint16_t *out, const uint16_t *x, const uint16_t *y, const float *of_x,                 \
                               const float *of_y, bool each, size_t n, const struct tern_row_flow *flow)               \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const float a = half##_at(x, i), b = half##_at(y, i);                                                      \
            float value;                                                                                               \
            tern_mix_f32_ref(&value, &a, &b, of_x + (each ? i : 0), of_y + (each ? i : 0), false, 1, flow);            \
            narrow(out + i, &value, 1);                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    void tern_axpy_##half##_ref(uint16_t *out, const uint16_t *x, const uint16_t *y, float scale, size_t n,            \
                                const struct tern_row_flow *flow)                                                      \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const float a = half##_at(x, i), b = half##_at(y, i);                                                      \
            float value;                                                                                               \
            tern_axpy_f32_ref(&value, &a, &b, scale, 1, flow);                                                         \
            narrow(out + i, &value, 1);                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    void tern_residual_add_##half##_ref(uint16_t *out, const uint16_t *x, const uint16_t *residual,                    \
                                        const struct tern_residual_terms *terms, size_t n,                             \
                                        const struct tern_row_flow *flow)                                              \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const float a = half##_at(x, i), b = half##_at(residual, i);                                               \
            const float attention = terms->attention ? half##_at(terms->attention, i) : 0;                             \
            struct tern_residual_terms one = *terms;                                                                   \
            float value;                                                                                               \
            one.attention = terms->attention ? &attention : NULL;                                                      \
            one.attention_bias = terms->attention_bias ? terms->attention_bias + i : NULL;                             \
            one.final_bias = terms->final_bias ? terms->final_bias + i : NULL;                                         \
            tern_residual_add_f32_ref(&value, &a, &b, &one, 1, flow);                                                  \
            narrow(out + i, &value, 1);                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    void tern_rotary_##half##_ref(uint16_t *y, const uint16_t *x, const float *cos, const float *sin, size_t rot,      \
                                  bool neighbours, size_t heads, size_t stride, const struct tern_row_flow *flow)      \
    {                                                                                                                  \
        for (size_t h = 0; h < heads; h++, x += stride, y += stride)                                                   \
            for (size_t p = 0; p < rot / 2; p++) {                                                                     \
                const size_t i = neighbours ? 2 * p : p, j = neighbours ? i + 1 : i + rot / 2;                         \
                float pair[2] = { half##_at(x, i), half##_at(x, j) };                                                  \
                tern_rotary_f32_ref(pair, pair, cos + p, sin + p, 2, true, 1, 0, flow);                                \
                narrow(y + i, pair, 1);                                                                                \
                narrow(y + j, pair + 1, 1);                                                                            \
            }                                                                                                          \
    }

HALVES(f16, tern_f32_from_f16_ref, tern_f16_from_f32_ref)
HALVES(bf16, tern_f32_from_bf16_ref, tern_bf16_from_f32_ref)
