/* norm.tmpl.c: LayerNorm and RMSNorm of one row, with or without the residual sum before.  Built once per level; contracts
 * in kernels.h.
 *
 * Sums live in 32 virtual lanes, two vectors of 16 (lane = index mod 32), whatever the machine's width, and end in one fixed
 * tree.  The tail is partial vectors: lanes at or past n read as 0, add 0, and are never stored.
 *
 * The passes over one row leave memory idle: the sum of squares and the output each prefetch half of a row that comes later. */
#include "kernels/flow.h"

/* What a pass reads: z = (x + bias) + residual, terms that are NULL left out. */
struct norm_source {
    const float *x, *bias, *residual;
};

V16_FN v16 norm_load(const struct norm_source *s, size_t i, size_t lanes)
{
    v16 z = v16_load_n(s->x + i, lanes);

    if (s->bias)
        z = v16_add(z, v16_load_n(s->bias + i, lanes));
    if (s->residual)
        z = v16_add(z, v16_load_n(s->residual + i, lanes));
    return z;
}

/* Writes z to `sum` (unless it is NULL) or to y, where the later passes find it; returns that place.  What is streamed must not be
 * in the cache already, so that z then goes to other memory. */
V16_FN const float *norm_residual(float *y, float *sum, const struct norm_source *s, size_t n,
                                  const struct tern_row_flow *flow)
{
    float *z = sum ? sum : flow && flow->stream ? flow->work : y;
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        v16_store(z + i, norm_load(s, i, 16));
    if (i < n)
        v16_store_n(z + i, norm_load(s, i, n - i), n - i);
    return z;
}

V16_FN float norm_sum(const float *x, size_t n)
{
    v16 sum[2] = { v16_set1(0), v16_set1(0) };
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        sum[0] = v16_add(sum[0], v16_load(x + i));
        sum[1] = v16_add(sum[1], v16_load(x + i + 16));
    }
    for (int j = 0; i < n; i += 16, j++)
        sum[j] = v16_add(sum[j], v16_load_n(x + i, n - i));
    return v16_sum32(sum[0], sum[1]);
}

/* sum (x - mean)^2 */
V16_FN float norm_square_sum(const float *x, float mean, size_t n, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    const v16 m = v16_set1(mean);
    v16 sum[2] = { v16_set1(0), v16_set1(0) };
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        for (int j = 0; j < 2; j++) {
            const v16 d = v16_sub(v16_load(x + i + j * 16), m);
            sum[j] = v16_fma(d, d, sum[j]);
        }
        flow_ahead(flow, 2 * i);
    }
    for (int j = 0; i < n; i += 16, j++) {
        const v16 d = v16_select(v16_first(n - i), v16_sub(v16_load_n(x + i, n - i), m), v16_set1(0));
        sum[j] = v16_fma(d, d, sum[j]);
    }
    return v16_sum32(sum[0], sum[1]);
}

/* y = (x - mean) * scale * gamma + beta */
V16_FN v16 norm_value(v16 x, v16 mean, v16 scale, const float *gamma, const float *beta, size_t i, size_t lanes)
{
    const v16 z = v16_mul(v16_sub(x, mean), scale), g = v16_load_n(gamma + i, lanes);

    return beta ? v16_fma(z, g, v16_load_n(beta + i, lanes)) : v16_mul(z, g);
}

V16_FN void norm_write(float *y, const float *x, const float *gamma, const float *beta, size_t n, float mean,
                       float scale, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    const v16 m = v16_set1(mean), s = v16_set1(scale);
    size_t i = flow_head(flow.stream, y, 64, sizeof *y, n);

    if (i)
        v16_store_n(y, norm_value(v16_load_n(x, i), m, s, gamma, beta, 0, i), i);
    for (; i + 32 <= n; i += 32) {
        for (size_t j = i; j < i + 32; j += 16)
            flow_store(flow.stream, y + j, norm_value(v16_load(x + j), m, s, gamma, beta, j, 16));
        flow_ahead(flow, 2 * (n + i));
    }
    for (; i < n; i += 16)
        v16_store_n(y + i, norm_value(v16_load_n(x + i, n - i), m, s, gamma, beta, i, n - i), n - i);
}

static void TERN_K(layer_norm_f32)(float *y, const float *x, const float *gamma, const float *beta, size_t n, float eps,
                                   const struct tern_row_flow *flow)
{
    const float mean = norm_sum(x, n) / (float)n;
    const float variance = norm_square_sum(x, mean, n, flow) / (float)n;

    norm_write(y, x, gamma, beta, n, mean, 1 / sqrtf(variance + eps), flow);
}

static void TERN_K(layer_norm_residual_f32)(float *y, float *sum, const float *x, const float *bias,
                                            const float *residual, const float *gamma, const float *beta, size_t n,
                                            float eps, const struct tern_row_flow *flow)
{
    const struct norm_source source = { x, bias, residual };

    TERN_K(layer_norm_f32)(y, norm_residual(y, sum, &source, n, flow), gamma, beta, n, eps, flow);
}

static void TERN_K(rms_norm_f32)(float *y, const float *x, const float *gamma, size_t n, float eps,
                                 const struct tern_row_flow *flow)
{
    norm_write(y, x, gamma, NULL, n, 0, 1 / sqrtf(norm_square_sum(x, 0, n, flow) / (float)n + eps), flow);
}

static void TERN_K(rms_norm_residual_f32)(float *y, float *sum, const float *x, const float *bias,
                                          const float *residual, const float *gamma, size_t n, float eps,
                                          const struct tern_row_flow *flow)
{
    const struct norm_source source = { x, bias, residual };

    TERN_K(rms_norm_f32)(y, norm_residual(y, sum, &source, n, flow), gamma, n, eps, flow);
}
