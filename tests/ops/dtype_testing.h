/* dtype_testing.h: what a config's dtype makes of numbers, for tests of operators and modules in every dtype.
 *
 * A kind is a dtype with what goes with int8.  Its bound is that of fp32 arithmetic; where rows are rounded before a product
 * (bf16, activation_quant row) the reference rounds them too, in f64, so what is left are the few numbers near a tie that fall on
 * the other side: a step of one number in a row of K, up to 2^-7 of it or 1/127 of the largest, far below 3e-3 of the largest result. */
#ifndef TERN_DTYPE_TESTING_H
#define TERN_DTYPE_TESTING_H

#include "ops/fn_testing.h"

struct dt_kind {
    const char *name;
    tern_dtype dtype, a; /* a: activations */
    tern_activation_quant quant;
    double bound;
};

static const struct dt_kind dt_kinds[] = {
    { "fp32", TERN_FP32, TERN_FP32, TERN_QUANT_NONE, 8e-6 },
    { "fp16", TERN_FP16, TERN_FP16, TERN_QUANT_NONE, 8e-6 },
    { "bf16", TERN_BF16, TERN_BF16, TERN_QUANT_NONE, 3e-3 },
    { "int8, fp16", TERN_INT8, TERN_FP16, TERN_QUANT_NONE, 8e-6 },
    { "int8, fp32", TERN_INT8, TERN_FP32, TERN_QUANT_NONE, 8e-6 },
    { "int8, bf16", TERN_INT8, TERN_BF16, TERN_QUANT_NONE, 8e-6 },
    { "int8 by row, fp32", TERN_INT8, TERN_FP32, TERN_QUANT_ROW, 3e-3 },
    { "int8 by row, fp16", TERN_INT8, TERN_FP16, TERN_QUANT_ROW, 3e-3 },
};
#define DT_KINDS (sizeof dt_kinds / sizeof dt_kinds[0])

static inline tern_config dt_config(const struct dt_kind *kind)
{
    tern_config c = test_config();

    c.dtype = kind->dtype;
    c.activation_dtype = kind->a;
    c.activation_quant = kind->quant;
    return c;
}

/* The numbers of a stored tensor as floats, NULL for none. */
static inline float *dt_floats(const tern_tensor *t)
{
    if (t->rank < 0)
        return NULL;
    float *x = test_bytes(fn_elements(t) * 4);
    for (size_t i = 0; i < fn_elements(t); i++)
        x[i] = (float)fn_at(t, i);
    return x;
}

/* A weight of a kind: its numbers [in, out], and how it is given. */
struct dt_matrix {
    float *wide;
    tern_tensor raw;   /* [in, out] or [out, in] */
    tern_tensor scale; /* fp32 [groups] with int8, else none */
    tern_weight *packed;
    tern_tensor given; /* what an operator takes: raw, or the packed view with int8 */
};

static inline struct dt_matrix dt_matrix(tern_ctx *ctx, const struct dt_kind *kind, bool transposed, size_t in,
                                         size_t out, float size, size_t groups)
{
    const int64_t dim[2] = { (int64_t)(transposed ? out : in), (int64_t)(transposed ? in : out) };
    const bool int8 = kind->dtype == TERN_INT8;
    struct dt_matrix m = { .wide = test_bytes(in * out * 4), .scale = tern_tensor_none() };

    m.raw = tern_tensor_view(test_bytes(in * out * 4), kind->dtype, 2, dim);
    if (int8)
        m.scale = FN_IN(TERN_FP32, 0, (int64_t)groups);
    for (size_t g = 0; int8 && g < groups; g++)
        ((float *)m.scale.data)[g] = size / 60 * (1 + 0.5f * (float)(g % 3));
    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < out; o++) {
            const size_t at = transposed ? o * in + i : i * out + o;
            if (int8) {
                const int8_t code = (int8_t)((int)(test_random(&test_seed) % 255) - 127);
                ((int8_t *)m.raw.data)[at] = code;
                m.wide[i * out + o] = (float)code * ((const float *)m.scale.data)[o / (out / groups)];
            } else {
                fn_put(m.raw.data, kind->dtype, at, (double)(size * test_normal(&test_seed)));
                m.wide[i * out + o] = (float)fn_get(m.raw.data, kind->dtype, at);
            }
        }
    m.given = m.raw;
    if (int8) {
        assert_ok(ctx, tern_weight_pack_as(ctx, &m.raw, transposed, TERN_INT8, &m.scale, &m.packed));
        m.given = tern_weight_view(m.packed);
    }
    return m;
}

/* Rows [m][k] as they enter a product. */
static inline double *dt_rows(const struct dt_kind *kind, const double *x, size_t m, size_t k)
{
    double *y = test_doubles(m * k);

    for (size_t r = 0; r < m; r++) {
        double largest = 0;
        for (size_t i = 0; i < k; i++)
            largest = fmax(largest, fabs(x[r * k + i]));
        for (size_t i = 0; i < k; i++) {
            const double v = x[r * k + i];
            y[r * k + i] = kind->dtype == TERN_BF16                       ? fn_round(v, 7, -126)
                           : kind->quant == TERN_QUANT_ROW && largest > 0 ? rint(v * 127 / largest) * largest / 127
                                                                          : v;
        }
    }
    return y;
}

/* act(x W1 + b) W2 with gates, x [m][k]. */
static inline double *dt_mlp(const struct dt_kind *kind, const double *x, const float *w1, const float *b,
                             const float *w2, size_t m, size_t k, size_t up, size_t n, tern_activation act,
                             tern_gelu_form form)
{
    const bool gated = act == TERN_GATED_GELU || act == TERN_GATED_SILU;
    const size_t inner = gated ? up / 2 : up;
    const double *u = naive_matmul(dt_rows(kind, x, m, k), w1, b, m, k, up);
    double *h = test_doubles(m * inner);

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < inner; j++)
            h[i * inner + j] = gated ? u[i * up + j] * naive_act(u[i * up + inner + j], act, form)
                                     : naive_act(u[i * up + j], act, form);
    return naive_matmul(dt_rows(kind, h, m, inner), w2, NULL, m, inner, n);
}

#endif
