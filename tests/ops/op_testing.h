/* op_testing.h: tensors, contexts and naive f64 formulas for tests of operators and modules.
 *
 * The formulas are written here once more, from the specification, without a look at src/kernels/ref. */
#ifndef TERN_OP_TESTING_H
#define TERN_OP_TESTING_H

#include "testing.h"

#include <tern/module.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory: everything that a test takes is freed by its teardown ---- */

#define TEST_BLOCKS 4096
static void *test_blocks_[TEST_BLOCKS];
static size_t test_n_blocks_;

static inline void *test_bytes(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);

    assert_non_null(p);
    assert_true(test_n_blocks_ < TEST_BLOCKS);
    return test_blocks_[test_n_blocks_++] = p;
}

static inline int test_teardown(void **state)
{
    (void)state;
    while (test_n_blocks_)
        free(test_blocks_[--test_n_blocks_]);
    return 0;
}

#define OP_TEST(f) cmocka_unit_test_teardown(f, test_teardown)

static uint64_t test_seed = 20261120;

/* n numbers from N(0, scale). */
static inline float *test_floats(size_t n, float scale)
{
    float *p = test_bytes(n * sizeof *p);

    for (size_t i = 0; i < n; i++)
        p[i] = scale * test_normal(&test_seed);
    return p;
}

static inline float *test_copy(const float *from, size_t n)
{
    float *p = test_bytes(n * sizeof *p);

    if (n)
        memcpy(p, from, n * sizeof *p);
    return p;
}

/* n floats that no result is: a NaN with a payload. */
static inline float *test_poison(size_t n)
{
    uint32_t *p = test_bytes(n * sizeof *p);

    for (size_t i = 0; i < n; i++)
        p[i] = 0x7fedcba9;
    return (float *)(void *)p;
}

/* ---- tensors ---- */

static inline tern_tensor t1(float *data, size_t n)
{
    return tern_tensor_view(data, TERN_FP32, 1, (int64_t[]){ (int64_t)n });
}

static inline tern_tensor t2(float *data, size_t rows, size_t cols)
{
    return tern_tensor_view(data, TERN_FP32, 2, (int64_t[]){ (int64_t)rows, (int64_t)cols });
}

static inline tern_tensor t3(float *data, size_t a, size_t b, size_t c)
{
    return tern_tensor_view(data, TERN_FP32, 3, (int64_t[]){ (int64_t)a, (int64_t)b, (int64_t)c });
}

static inline tern_tensor t4(float *data, size_t a, size_t b, size_t c, size_t d)
{
    return tern_tensor_view(data, TERN_FP32, 4, (int64_t[]){ (int64_t)a, (int64_t)b, (int64_t)c, (int64_t)d });
}

/* w[k][n] as [n][k]. */
static inline float *test_transposed(const float *w, size_t k, size_t n)
{
    float *t = test_bytes(k * n * sizeof *t);

    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < n; j++)
            t[j * k + i] = w[i * n + j];
    return t;
}

static inline tern_config test_config(void)
{
    tern_config config = tern_config_default();

    config.dtype = TERN_FP32;
    config.layer_norm_eps = 1e-5f;
    return config;
}

/* ---- contexts ---- */

/* A context with `threads` threads at a level, or NULL where this machine does not have it. */
static inline tern_ctx *test_ctx_at(int threads, const char *cpu)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[256];
    tern_ctx *ctx = NULL;

    options.n_threads = threads;
    options.cpu = cpu;
    const tern_status status = tern_ctx_create(&ctx, &options, message, sizeof message);
    if (status == TERN_ERR_ARG)
        return NULL;
    assert_int_equal(status, TERN_OK);
    return ctx;
}

/* Every level with 1, 2 and 3 threads: run(arg, ctx) must write the same `n` floats to `out` each time. */
static inline void test_same_bits(void (*run)(void *arg, tern_ctx *ctx, float *out), void *arg, size_t n)
{
    static const char *const levels[] = { "portable", "neon",   "neondot",    "avx2",
                                          "avxvnni",  "avx512", "avx512vnni", "avx512bf16" };
    float *want = test_poison(n), *got = test_poison(n);
    bool first = true;

    for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++)
        for (int threads = 1; threads <= 3; threads++) {
            tern_ctx *ctx = test_ctx_at(threads, levels[l]);
            if (!ctx)
                continue;
            run(arg, ctx, first ? want : got);
            if (!first && memcmp(want, got, n * sizeof *want) != 0)
                fail_msg("%s with %d threads gives other bits than portable with 1", levels[l], threads);
            first = false;
            tern_ctx_destroy(&ctx);
        }
}

/* ---- comparisons ---- */

static inline double test_largest(const double *x, size_t n)
{
    double m = 0;

    for (size_t i = 0; i < n; i++)
        if (fabs(x[i]) > m)
            m = fabs(x[i]);
    return m;
}

/* Every got[i] within `bound` of want[i], relative to the largest |want|. */
static inline void test_near(const float *got, const double *want, size_t n, double bound, const char *what)
{
    const double scale = test_largest(want, n);

    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= bound * (scale > 0 ? scale : 1)))
            fail_msg("%s: element %zu of %zu is %.9g, expected %.9g (within %.1e of %.3g)", what, i, n, (double)got[i],
                     want[i], bound, scale);
}

static inline void test_equal(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: element %zu of %zu is %.9g, expected the bits of %.9g", what, i, n, (double)got[i],
                     (double)want[i]);
}

static inline void test_untouched(const float *got, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &got[i], sizeof bits);
        if (bits != 0x7fedcba9)
            fail_msg("%s: element %zu of %zu was written on error", what, i, n);
    }
}

/* ---- formulas ---- */

static inline double *test_doubles(size_t n)
{
    return test_bytes(n * sizeof(double));
}

static inline double *test_widen(const float *x, size_t n)
{
    double *d = test_doubles(n);

    for (size_t i = 0; i < n; i++)
        d[i] = x[i];
    return d;
}

/* a[m][k] w[k][n] + b. */
static inline double *naive_matmul(const double *a, const float *w, const float *bias, size_t m, size_t k, size_t n)
{
    double *c = test_doubles(m * n);

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0;
            for (size_t s = 0; s < k; s++)
                sum += a[i * k + s] * w[s * n + j];
            c[i * n + j] = sum;
        }
    return c;
}

static inline double *naive_norm(const double *x, const float *gamma, const float *beta, size_t rows, size_t n,
                                 double eps, bool rms)
{
    double *y = test_doubles(rows * n);

    for (size_t r = 0; r < rows; r++) {
        const double *xr = x + r * n;
        double mean = 0, var = 0;
        for (size_t i = 0; i < n; i++)
            mean += rms ? 0 : xr[i] / (double)n;
        for (size_t i = 0; i < n; i++)
            var += (xr[i] - mean) * (xr[i] - mean) / (double)n;
        for (size_t i = 0; i < n; i++)
            y[r * n + i] = (xr[i] - mean) / sqrt(var + eps) * gamma[i] + (beta ? beta[i] : 0);
    }
    return y;
}

static inline double naive_gelu(double x, tern_gelu_form form)
{
    if (form == TERN_GELU_ERF)
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    if (form == TERN_GELU_SIGMOID)
        return x / (1 + exp(-1.702 * x));
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static inline double naive_act(double x, tern_activation act, tern_gelu_form form)
{
    if (form == TERN_GELU_UNSET)
        form = act == TERN_GATED_GELU ? TERN_GELU_ERF : TERN_GELU_TANH;
    return act == TERN_RELU ? (x > 0 ? x : 0) : act == TERN_GATED_SILU ? x / (1 + exp(-x)) : naive_gelu(x, form);
}

/* act(x W1 + b) W2 with gates: x [m][k], W1 [k][up], W2 [inner][n]. */
static inline double *naive_mlp(const double *x, const float *w1, const float *b, const float *w2, size_t m, size_t k,
                                size_t up, size_t n, tern_activation act, tern_gelu_form form)
{
    const bool gated = act == TERN_GATED_GELU || act == TERN_GATED_SILU;
    const size_t inner = gated ? up / 2 : up;
    const double *u = naive_matmul(x, w1, b, m, k, up);
    double *h = test_doubles(m * inner);

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < inner; j++)
            h[i * inner + j] = gated ? u[i * up + j] * naive_act(u[i * up + inner + j], act, form)
                                     : naive_act(u[i * up + j], act, form);
    return naive_matmul(h, w2, NULL, m, inner, n);
}

/* What attention does to one sequence of n tokens, whole, f64: qkv [n][(h + G) E + G E2] -> context [n][h E2]. */
struct naive_attention {
    size_t heads, kv_heads, head_dim;
    size_t v_dim; /* 0: head_dim */
    bool causal;
    size_t window; /* 0: none */
    double scale;
    size_t rotary_dim;
    bool neighbours;
    double theta;
    const float *alibi; /* [heads] or NULL */
    const float *mask;  /* [n][mask_stride] or NULL */
    size_t mask_stride;
};

static inline void naive_rotate(double *x, const struct naive_attention *a, size_t position)
{
    const size_t half = a->rotary_dim / 2;

    for (size_t p = 0; p < half; p++) {
        const double angle = (double)position * pow(a->theta, -2.0 * (double)p / (double)a->rotary_dim);
        double *u = a->neighbours ? &x[2 * p] : &x[p], *v = a->neighbours ? &x[2 * p + 1] : &x[p + half];
        const double b = *u * cos(angle) - *v * sin(angle), c = *v * cos(angle) + *u * sin(angle);
        *u = b;
        *v = c;
    }
}

static inline double *naive_attention(const struct naive_attention *a, const float *qkv, size_t n)
{
    const size_t e = a->head_dim, e2 = a->v_dim ? a->v_dim : e, keys = a->heads + a->kv_heads;
    const size_t width = keys * e + a->kv_heads * e2;
    double *x = test_widen(qkv, n * width), *out = test_doubles(n * a->heads * e2), *s = test_doubles(n);

    for (size_t t = 0; t < n; t++)
        for (size_t h = 0; h < keys; h++)
            naive_rotate(x + t * width + h * e, a, t);
    for (size_t t = 0; t < n; t++)
        for (size_t h = 0; h < a->heads; h++) {
            const size_t g = h / (a->heads / a->kv_heads);
            const size_t last = a->causal ? t + 1 : n, first = a->window && t + 1 > a->window ? t + 1 - a->window : 0;
            const double *q = x + t * width + h * e;
            double max = -INFINITY, sum = 0, *o = out + (t * a->heads + h) * e2;
            for (size_t j = first; j < last; j++) {
                const double *k = x + j * width + (a->heads + g) * e;
                s[j] = 0;
                for (size_t c = 0; c < e; c++)
                    s[j] += q[c] * k[c];
                s[j] = s[j] * a->scale + (a->alibi ? a->alibi[h] * (double)j : 0) +
                       (a->mask ? a->mask[t * a->mask_stride + j] : 0);
                if (s[j] > max)
                    max = s[j];
            }
            for (size_t c = 0; c < e2; c++)
                o[c] = 0;
            if (max == -INFINITY)
                continue;
            for (size_t j = first; j < last; j++) {
                const double *v = x + j * width + keys * e + g * e2;
                const double p = exp(s[j] - max);
                sum += p;
                for (size_t c = 0; c < e2; c++)
                    o[c] += p * v[c];
            }
            for (size_t c = 0; c < e2; c++)
                o[c] /= sum;
        }
    return out;
}

#endif
