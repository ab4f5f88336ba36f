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
    const void *x, *residual;
    const float *bias;
};

V16_FN v16 norm_load(const enum v16_panel form, const struct norm_source *s, size_t i, size_t lanes)
{
    v16 z = row_load_n(form, s->x, i, lanes);

    if (s->bias)
        z = v16_add(z, v16_load_n(s->bias + i, lanes));
    if (s->residual)
        z = v16_add(z, row_load_n(form, s->residual, i, lanes));
    return z;
}

/* Writes z to `sum` (unless it is NULL), and returns where the later passes find it: rows of f32 in sum, or in y.  What is streamed
 * must not be in the cache already, so that z then goes to other memory; so it does where rows are of halves, as it is not rounded. */
V16_FN const float *norm_residual(const enum v16_panel form, void *y, void *sum, const struct norm_source *s, size_t n,
                                  const struct tern_row_flow *flow)
{
    float *z = form != V16_F32 ? flow->work : sum ? sum : flow && flow->stream ? flow->work : y;
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        const v16 t = norm_load(form, s, i, 16);
        v16_store(z + i, t);
        if (form != V16_F32 && sum)
            row_store(form, sum, i, t);
    }
    if (i < n) {
        const v16 t = norm_load(form, s, i, n - i);
        v16_store_n(z + i, t, n - i);
        if (form != V16_F32 && sum)
            row_store_n(form, sum, i, t, n - i);
    }
    return z;
}

V16_FN float norm_sum(const enum v16_panel form, const void *x, size_t n)
{
    v16x2 sum = { v16_set1(0), v16_set1(0) };
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        const v16x2 v = row_load2_any(form, x, i);
        sum.lo = v16_add(sum.lo, v.lo);
        sum.hi = v16_add(sum.hi, v.hi);
    }
    sum = row_in_order(form, sum);
    if (i < n)
        sum.lo = v16_add(sum.lo, row_load_n(form, x, i, n - i));
    if (i + 16 < n)
        sum.hi = v16_add(sum.hi, row_load_n(form, x, i + 16, n - i - 16));
    return v16_sum32(sum.lo, sum.hi);
}

V16_FN v16 norm_add_square(v16 sum, v16 x, v16 mean)
{
    const v16 d = v16_sub(x, mean);
    return v16_fma(d, d, sum);
}

/* The same of the first `lanes` of them. */
V16_FN v16 norm_add_squares_n(const enum v16_panel form, v16 sum, const void *x, v16 mean, size_t i, size_t lanes)
{
    const v16 d = v16_select(v16_first(lanes), v16_sub(row_load_n(form, x, i, lanes), mean), v16_set1(0));
    return v16_fma(d, d, sum);
}

/* sum (x - mean)^2 */
V16_FN float norm_square_sum(const enum v16_panel form, const void *x, float mean, size_t n, struct tern_row_flow flow,
                             const size_t ahead)
{
    const v16 m = v16_set1(mean);
    v16x2 sum = { v16_set1(0), v16_set1(0) };
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        const v16x2 v = row_load2_any(form, x, i);
        sum.lo = norm_add_square(sum.lo, v.lo, m);
        sum.hi = norm_add_square(sum.hi, v.hi, m);
        flow_ahead(flow, ahead * i, 32 * ahead);
    }
    sum = row_in_order(form, sum);
    if (i < n)
        sum.lo = norm_add_squares_n(form, sum.lo, x, m, i, n - i);
    if (i + 16 < n)
        sum.hi = norm_add_squares_n(form, sum.hi, x, m, i + 16, n - i - 16);
    return v16_sum32(sum.lo, sum.hi);
}

/* y = (x - mean) * scale * gamma + beta */
V16_FN v16 norm_value(v16 x, v16 mean, v16 scale, const float *gamma, const float *beta, size_t i, size_t lanes)
{
    const v16 z = v16_mul(v16_sub(x, mean), scale), g = v16_load_n(gamma + i, lanes);

    return beta ? v16_fma(z, g, v16_load_n(beta + i, lanes)) : v16_mul(z, g);
}

/* y of form `to` from x of form `from`; `ahead` bytes of what comes later for each element. */
V16_FN void norm_write(const enum v16_panel to, const enum v16_panel from, void *y, const void *x, const float *gamma,
                       const float *beta, size_t n, float mean, float scale, struct tern_row_flow flow,
                       const size_t ahead)
{
    const v16 m = v16_set1(mean), s = v16_set1(scale);
    size_t i = flow_head(to, flow, y, n);

    for (size_t j = 0; j < i; j += 16)
        row_store_n(to, y, j, norm_value(row_load_n(from, x, j, i - j), m, s, gamma, beta, j, i - j), i - j);
    for (; i + 32 <= n; i += 32) {
        const v16x2 v = row_load2(from, x, i);
        const v16x2 out = { norm_value(v.lo, m, s, gamma, beta, i, 16),
                            norm_value(v.hi, m, s, gamma, beta, i + 16, 16) };
        flow_store2(to, flow, y, i, out);
        flow_ahead(flow, ahead * (n + i), 32 * ahead);
    }
    for (; i < n; i += 16)
        row_store_n(to, y, i, norm_value(row_load_n(from, x, i, n - i), m, s, gamma, beta, i, n - i), n - i);
}

V16_FN void layer_norm(const enum v16_panel to, const enum v16_panel from, void *y, const void *x, const float *gamma,
                       const float *beta, size_t n, float eps, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    const float mean = norm_sum(from, x, n) / (float)n;
    const float variance = norm_square_sum(from, x, mean, n, flow, row_size(to) / 2) / (float)n;

    norm_write(to, from, y, x, gamma, beta, n, mean, 1 / sqrtf(variance + eps), flow, row_size(to) / 2);
}

V16_FN void rms_norm(const enum v16_panel to, const enum v16_panel from, void *y, const void *x, const float *gamma,
                     size_t n, float eps, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    const float squares = norm_square_sum(from, x, 0, n, flow, row_size(to) / 2);

    norm_write(to, from, y, x, gamma, NULL, n, 0, 1 / sqrtf(squares / (float)n + eps), flow, row_size(to) / 2);
}

#define NORMS(form, type, suffix)                                                                                     \
    static void TERN_K(layer_norm_##suffix)(type * y, const type *x, const float *gamma, const float *beta, size_t n, \
                                            float eps, const struct tern_row_flow *flow)                              \
    {                                                                                                                 \
        layer_norm(form, form, y, x, gamma, beta, n, eps, flow);                                                      \
    }                                                                                                                 \
    static void TERN_K(layer_norm_residual_##suffix)(type * y, type * sum, const type *x, const float *bias,          \
                                                     const type *residual, const float *gamma, const float *beta,     \
                                                     size_t n, float eps, const struct tern_row_flow *flow)           \
    {                                                                                                                 \
        const struct norm_source source = { x, residual, bias };                                                      \
        layer_norm(form, V16_F32, y, norm_residual(form, y, sum, &source, n, flow), gamma, beta, n, eps, flow);       \
    }                                                                                                                 \
    static void TERN_K(rms_norm_##suffix)(type * y, const type *x, const float *gamma, size_t n, float eps,           \
                                          const struct tern_row_flow *flow)                                           \
    {                                                                                                                 \
        rms_norm(form, form, y, x, gamma, n, eps, flow);                                                              \
    }                                                                                                                 \
    static void TERN_K(rms_norm_residual_##suffix)(type * y, type * sum, const type *x, const float *bias,            \
                                                   const type *residual, const float *gamma, size_t n, float eps,     \
                                                   const struct tern_row_flow *flow)                                  \
    {                                                                                                                 \
        const struct norm_source source = { x, residual, bias };                                                      \
        rms_norm(form, V16_F32, y, norm_residual(form, y, sum, &source, n, flow), gamma, n, eps, flow);               \
    }
ROW_FORMS(NORMS)
#undef NORMS
