/* test_fn_values.c: the kernel functions against plain f64 loops, in each dtype, at odd sizes.
 *
 * Bounds are for the fp32 arithmetic, relative to the largest result; fn_testing.h adds the one rounding of a stored half.
 * A norm, an activation and a sum are good to a few units of 2^-24: 2e-6 leaves room for rows with a small variance.  A product
 * of K normal terms is a chain of K roundings of partial sums no larger than a few sqrt K: 1e-5 for K <= 1024. */
#include "ops/fn_testing.h"

static tern_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

#define NORM_BOUND    2e-6
#define PRODUCT_BOUND 1e-5

static double act(const char *name, double x)
{
    if (strcmp(name, "relu") == 0)
        return x > 0 ? x : 0;
    if (strcmp(name, "leaky_relu") == 0)
        return x >= 0 ? x : 0.01 * x;
    if (strcmp(name, "gelu") == 0)
        return naive_gelu(x, TERN_GELU_ERF);
    if (strcmp(name, "gelu_tanh") == 0)
        return naive_gelu(x, TERN_GELU_TANH);
    if (strcmp(name, "gelu_sigmoid") == 0)
        return naive_gelu(x, TERN_GELU_SIGMOID);
    if (strcmp(name, "silu") == 0)
        return x / (1 + exp(-x));
    if (strcmp(name, "sigmoid") == 0)
        return 1 / (1 + exp(-x));
    return x;
}

/* ---- norms ---- */

static double *norm(const double *z, const tern_tensor *gamma, const tern_tensor *beta, size_t rows, size_t n, bool rms)
{
    double *y = test_doubles(rows * n);

    for (size_t r = 0; r < rows; r++) {
        const double *x = z + r * n;
        double mean = 0, var = 0;
        for (size_t i = 0; i < n && !rms; i++)
            mean += x[i] / (double)n;
        for (size_t i = 0; i < n; i++)
            var += (x[i] - mean) * (x[i] - mean) / (double)n;
        for (size_t i = 0; i < n; i++)
            y[r * n + i] = (x[i] - mean) / sqrt(var + (double)1e-5f) * fn_at(gamma, i) + (beta ? fn_at(beta, i) : 0);
    }
    return y;
}

static void test_norms(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = { { 0, 7 },    { 1, 1 },     { 4, 4 },   { 33, 127 },
                                        { 3, 1232 }, { 2, 16385 }, { 32, 384 } };

    FN_EACH_DTYPE(d)
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int kind = 0; kind < 8; kind++) {
            const int64_t m = sizes[s][0], n = sizes[s][1];
            const size_t count = (size_t)(m * n);
            const tern_dtype vector = kind & 4 ? TERN_FP32 : (tern_dtype)d;
            tern_tensor x = FN_IN(d, 2, m, n), r = FN_IN(d, 1, m, n), bias = FN_IN(vector, 1, n);
            tern_tensor gamma = FN_IN(vector, 1, n), beta = FN_IN(vector, 1, n);
            tern_tensor y = FN_OUT(d, m, n), sum = FN_OUT(d, m, n);
            const tern_tensor *b = kind & 1 ? &beta : NULL, *ib = kind & 2 ? &bias : NULL;
            double *z = test_doubles(count);

            assert_ok(ctx, tern_layer_norm(ctx, &x, &gamma, b, 1e-5f, &y));
            fn_near(&y, norm(fn_doubles(&x), &gamma, b, (size_t)m, (size_t)n, false), NORM_BOUND, "layer_norm");
            assert_ok(ctx, tern_rms_norm(ctx, &x, &gamma, 1e-5f, &y));
            fn_near(&y, norm(fn_doubles(&x), &gamma, NULL, (size_t)m, (size_t)n, true), NORM_BOUND, "rms_norm");

            for (size_t i = 0; i < count; i++)
                z[i] = fn_at(&x, i) + (ib ? fn_at(ib, i % (size_t)n) : 0) + fn_at(&r, i);
            assert_ok(ctx, tern_layer_norm_residual(ctx, &x, ib, &r, &gamma, b, 1e-5f, &y, &sum));
            fn_near(&y, norm(z, &gamma, b, (size_t)m, (size_t)n, false), NORM_BOUND, "layer_norm_residual");
            fn_near(&sum, z, 2e-7, "layer_norm_residual: sum");
            const void *kept = fn_keep(&y), *kept_sum = fn_keep(&sum);
            assert_ok(ctx, tern_layer_norm_residual(ctx, &x, ib, &r, &gamma, b, 1e-5f, &y, NULL));
            fn_same(&y, kept, "layer_norm_residual without a sum");
            tern_tensor x2 = x, r2 = r; /* the norm over the residual, the sum over the input */
            x2.data = fn_keep(&x);
            r2.data = fn_keep(&r);
            assert_ok(ctx, tern_layer_norm_residual(ctx, &x2, ib, &r2, &gamma, b, 1e-5f, &r2, &x2));
            fn_same(&r2, kept, "layer_norm_residual over residual");
            fn_same(&x2, kept_sum, "sum over input");

            for (size_t i = 0; i < count; i++)
                z[i] = fn_at(&x, i) + fn_at(&r, i);
            assert_ok(ctx, tern_pre_rms_norm(ctx, &x, &r, &gamma, 1e-5f, &y, &sum));
            fn_near(&y, norm(z, &gamma, NULL, (size_t)m, (size_t)n, true), NORM_BOUND, "pre_rms_norm");
            fn_near(&sum, z, 2e-7, "pre_rms_norm: sum");
            kept = fn_keep(&y);
            kept_sum = fn_keep(&sum);
            assert_ok(ctx, tern_pre_rms_norm(ctx, &x, &r, &gamma, 1e-5f, &x, &r));
            fn_same(&x, kept, "pre_rms_norm over input");
            fn_same(&r, kept_sum, "sum over residual");
            test_teardown(NULL);
        }
}

/* ---- element by element ---- */

static void test_elementwise(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = { { 0, 7 }, { 1, 1 }, { 3, 33 }, { 255, 130 }, { 2, 9001 } };
    static const char *const forms[] = { NULL, "gelu_tanh", "gelu", "gelu_sigmoid" };
    static const char *const gates[] = { "gelu", "gelu_tanh", "gelu_sigmoid", "relu", "silu" };

    FN_EACH_DTYPE(d)
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const int64_t m = sizes[s][0], n = sizes[s][1];
        const size_t count = (size_t)(m * n), cols = (size_t)n;
        tern_tensor x = FN_IN(d, 2, m, n), r = FN_IN(d, 1, m, n), b = FN_IN(d, 1, n), y = FN_OUT(d, m, n);
        double *want = test_doubles(count);

        for (int form = TERN_GELU_UNSET; form <= TERN_GELU_SIGMOID; form++) {
            for (size_t i = 0; i < count; i++)
                want[i] = act(form ? forms[form] : "gelu", fn_at(&x, i));
            assert_ok(ctx, tern_gelu(ctx, &x, (tern_gelu_form)form, &y));
            fn_near(&y, want, 5e-7, "gelu");
            for (size_t i = 0; i < count; i++)
                want[i] = act(form ? forms[form] : "gelu_tanh", fn_at(&x, i) + fn_at(&b, i % cols));
            assert_ok(ctx, tern_bias_gelu(ctx, &x, &b, (tern_gelu_form)form, &y));
            fn_near(&y, want, 5e-7, "bias_gelu");
        }
        for (size_t i = 0; i < count; i++)
            want[i] = fn_at(&x, i) + fn_at(&b, i % cols);
        assert_ok(ctx, tern_bias_add(ctx, &x, &b, &y));
        fn_near(&y, want, 1e-7, "bias_add");
        for (size_t i = 0; i < count; i++)
            want[i] = want[i] > 0 ? want[i] : 0;
        assert_ok(ctx, tern_bias_relu(ctx, &x, &b, &y));
        fn_near(&y, want, 1e-7, "bias_relu");
        for (int with = 0; with < 2; with++) {
            for (size_t i = 0; i < count; i++)
                want[i] = fn_at(&x, i) + fn_at(&r, i) + (with ? fn_at(&b, i % cols) : 0);
            assert_ok(ctx, tern_bias_residual(ctx, &x, &r, with ? &b : NULL, &y));
            fn_near(&y, want, 2e-7, "bias_residual");
        }
        for (size_t i = 0; i < count; i++)
            want[i] = 0.75 * fn_at(&x, i) + fn_at(&r, i);
        assert_ok(ctx, tern_vector_add(ctx, &x, &r, 0.75f, &y));
        fn_near(&y, want, 1e-7, "vector_add");

        tern_tensor u = FN_IN(d, 2, m, 2 * n), ub = FN_IN(d, 1, 2 * n);
        for (int kind = 0; kind < 20; kind++) {
            const bool halves = kind & 1, with = kind & 2;
            const char *name = gates[kind / 4];
            for (size_t i = 0; i < count; i++) {
                const size_t row = i / cols * 2 * cols, c = i % cols, up = halves ? c : 2 * c + 1,
                             gate = halves ? cols + c : 2 * c;
                want[i] = (fn_at(&u, row + up) + (with ? fn_at(&ub, up) : 0)) *
                          act(name, fn_at(&u, row + gate) + (with ? fn_at(&ub, gate) : 0));
            }
            assert_ok(ctx, tern_gated_activation(ctx, &u, with ? &ub : NULL,
                                                 halves ? TERN_GATE_HALVES : TERN_GATE_INTERLEAVED, name, &y));
            fn_near(&y, want, 5e-7, name);
        }

        for (int wide = 0; wide < 2; wide++) { /* coef in fp32 too */
            tern_tensor shared = FN_IN(wide ? TERN_FP32 : d, 1, 2 * n), pair = FN_IN(wide ? TERN_FP32 : d, 1, m, 2);
            for (size_t i = 0; i < count; i++)
                want[i] = fn_at(&x, i) * fn_at(&shared, i % cols) + fn_at(&r, i) * fn_at(&shared, cols + i % cols);
            assert_ok(ctx, tern_moe_res_matmul(ctx, &x, &shared, &r, &y));
            fn_near(&y, want, 2e-7, "moe_res_matmul, one vector");
            for (size_t i = 0; i < count; i++)
                want[i] = fn_at(&r, i) * fn_at(&pair, i / cols * 2) + fn_at(&x, i) * fn_at(&pair, i / cols * 2 + 1);
            assert_ok(ctx, tern_moe_res_matmul(ctx, &x, &pair, &r, &y));
            fn_near(&y, want, 2e-7, "moe_res_matmul, pairs");
            const void *kept = fn_keep(&y);
            assert_ok(ctx, tern_moe_res_matmul(ctx, &x, &pair, &r, &r));
            fn_same(&r, kept, "moe_res_matmul over experts");
        }
        test_teardown(NULL);
    }
}

/* ---- rotary, padding ---- */

static void test_rotary(void **state)
{
    (void)state;
    static const int32_t at[] = { 0, 8, 1, 70000, 3 };
    static const int32_t dims[][2] = { { 2, 2 }, { 80, 64 }, { 96, 96 }, { 33, 6 }, { 5, 2 } };

    FN_EACH_DTYPE(d)
    for (size_t s = 0; s < sizeof dims / sizeof dims[0]; s++)
        for (int two = 0; two < 2; two++) {
            const size_t e = (size_t)dims[s][0], rot = (size_t)dims[s][1], heads = 3;
            const struct naive_attention a = { .rotary_dim = rot, .neighbours = two, .theta = two ? 10000 : 2 };
            tern_tensor x = FN_IN(d, 1, 5, 3, (int64_t)e), y = FN_OUT(d, 5, 3, (int64_t)e);
            const tern_tensor positions = fn_ints(at, (int64_t[]){ 5, -1 });
            double *want = fn_doubles(&x);
            for (size_t t = 0; t < 5; t++)
                for (size_t h = 0; h < heads; h++)
                    naive_rotate(want + (t * heads + h) * e, &a, (size_t)at[t]);
            assert_ok(ctx, tern_rotary(ctx, &x, &positions, (int32_t)rot, two ? 10000 : 2, two, &y));
            fn_near(&y, want, 3e-7, "rotary");
            assert_ok(ctx, tern_rotary(ctx, &x, &positions, (int32_t)rot, two ? 10000 : 2, two, &x));
            fn_same(&x, y.data, "rotary in place");
        }
}

/* ---- products ---- */

static void test_matmul(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = { { 0, 3, 5 },   { 3, 0, 5 },     { 3, 5, 0 },      { 1, 1, 1 },
                                        { 7, 33, 31 }, { 15, 129, 33 }, { 130, 257, 65 }, { 1, 1023, 100 } };
    static const char *const names[] = { "", "relu", "leaky_relu", "gelu", "sigmoid" };

    FN_EACH_DTYPE(d)
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int kind = 0; kind < 8; kind++) {
            const int64_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
            tern_tensor a = kind & 1 ? FN_IN(d, 1, k, m) : FN_IN(d, 1, m, k);
            tern_tensor b = kind & 2 ? FN_IN(d, 1, n, k) : FN_IN(d, 1, k, n);
            tern_tensor bias = FN_IN(d, 1, n), c = FN_OUT(d, m, n);
            const size_t a_row = kind & 1 ? 1 : (size_t)k, a_col = kind & 1 ? (size_t)m : 1;
            const size_t b_row = kind & 2 ? 1 : (size_t)n, b_col = kind & 2 ? (size_t)k : 1;
            const char *name = names[(s + (size_t)kind) % 5];
            double *want = test_doubles((size_t)(m * n));

            a.dim[0] = m, a.dim[1] = k, a.stride[0] = (int64_t)a_row, a.stride[1] = (int64_t)a_col;
            b.dim[0] = k, b.dim[1] = n, b.stride[0] = (int64_t)b_row, b.stride[1] = (int64_t)b_col;
            for (size_t i = 0; i < (size_t)m; i++)
                for (size_t j = 0; j < (size_t)n; j++) {
                    double sum = 0;
                    for (size_t q = 0; q < (size_t)k; q++)
                        sum += fn_at(&a, i * a_row + q * a_col) * fn_at(&b, q * b_row + j * b_col);
                    want[i * (size_t)n + j] = act(name, sum + (kind & 4 ? fn_at(&bias, j) : 0));
                }
            assert_ok(ctx, tern_matmul(ctx, &a, &b, kind & 4 ? &bias : NULL, name, &c));
            fn_near(&c, want, PRODUCT_BOUND, "matmul");
            if (!(kind & 1) && m == 130) { /* the same rows as [10, 13, K] */
                const void *kept = fn_keep(&c);
                a = tern_tensor_view(a.data, a.dtype, 3, (int64_t[]){ 10, 13, k });
                tern_tensor c3 = FN_OUT(d, 10, 13, n);
                assert_ok(ctx, tern_matmul(ctx, &a, &b, kind & 4 ? &bias : NULL, name, &c3));
                fn_same(&c3, kept, "matmul of [B, S, K]");
            }
            test_teardown(NULL);
        }
}

/* A matrix of fp16 or bf16 beside rows of fp32 is the matrix that it widens to; beside rows of another dtype it is refused.  A
 * packed one gives the bits of a raw one. */
static void test_narrower_and_packed_matrices(void **state)
{
    (void)state;
    static const int32_t ends[] = { 2, 2, 7 };

    FN_EACH_DTYPE(d)
    FN_EACH_DTYPE(w)
    {
        const tern_tensor a = FN_IN(d, 1, 7, 33), bias = FN_IN(d, 1, 35), b = FN_IN(w, 1, 33, 35),
                          experts = FN_IN(w, 1, 3, 33, 35);
        tern_tensor y = FN_OUT(d, 7, 35), want = FN_OUT(d, 7, 35), wide = FN_OUT(TERN_FP32, 33, 35),
                    wide_experts = FN_OUT(TERN_FP32, 3, 33, 35);
        const tern_tensor row_ends = fn_ints(ends, (int64_t[]){ 3, -1 });
        tern_weight *packed;

        if (w != d && d != TERN_FP32) {
            assert_fails(ctx, tern_matmul(ctx, &a, &b, &bias, "gelu", &y), TERN_ERR_DTYPE, "matmul: b is");
            assert_fails(ctx, tern_moe_gemm(ctx, &a, &experts, NULL, &row_ends, "silu", &y), TERN_ERR_DTYPE,
                         "moe_gemm: weight is");
            assert_true(fn_untouched(&y));
            test_teardown(NULL);
            continue;
        }
        for (size_t i = 0; i < fn_elements(&b); i++)
            fn_put(wide.data, TERN_FP32, i, fn_at(&b, i));
        for (size_t i = 0; i < fn_elements(&experts); i++)
            fn_put(wide_experts.data, TERN_FP32, i, fn_at(&experts, i));
        assert_ok(ctx, tern_matmul(ctx, &a, d == TERN_FP32 ? &wide : &b, &bias, "gelu", &want));
        assert_ok(ctx, tern_matmul(ctx, &a, &b, &bias, "gelu", &y));
        fn_same(&y, want.data, "matmul");
        assert_ok(ctx, tern_weight_pack_as(ctx, &b, false, (tern_dtype)w, NULL, &packed));
        const tern_tensor view = tern_weight_view(packed);
        memset(y.data, FN_POISON, fn_elements(&y) * tern_dtype_size(y.dtype));
        assert_ok(ctx, tern_matmul(ctx, &a, &view, &bias, "gelu", &y));
        fn_same(&y, want.data, "matmul with a packed weight");
        tern_weight_destroy(&packed);
        if (d == TERN_FP32) {
            assert_ok(ctx, tern_moe_gemm(ctx, &a, &wide_experts, NULL, &row_ends, "silu", &want));
            assert_ok(ctx, tern_moe_gemm(ctx, &a, &experts, NULL, &row_ends, "silu", &y));
            fn_same(&y, want.data, "moe_gemm");
        }
        test_teardown(NULL);
    }
}

static void test_matmul_4d(void **state)
{
    (void)state;
    static const int64_t ms[] = { 1, 7, 8, 128 }, ks[] = { 2, 5, 16, 128 }, ns[] = { 1, 2, 8, 512 };

    FN_EACH_DTYPE(d)
    for (int i = 0; i < 16; i++) {
        const int64_t m = ms[i % 4], k = ks[i / 4], n = ns[(i + i / 4) % 4], batch = 1 + i % 2, h = 1 + i % 3;
        tern_tensor a = FN_IN(d, 1, batch, h, m, k), b = FN_IN(d, 1, batch, h, k, n), c = FN_OUT(d, batch, h, m, n);
        double *want = test_doubles(fn_elements(&c));
        for (size_t e = 0; e < fn_elements(&c); e++) {
            const size_t j = e % (size_t)n, row = e / (size_t)n, which = row / (size_t)m;
            want[e] = 0;
            for (size_t q = 0; q < (size_t)k; q++)
                want[e] += fn_at(&a, row * (size_t)k + q) * fn_at(&b, (which * (size_t)k + q) * (size_t)n + j);
        }
        assert_ok(ctx, tern_matmul_4d(ctx, &a, &b, &c));
        fn_near(&c, want, PRODUCT_BOUND, "matmul_4d");
        test_teardown(NULL);
    }
}

static void test_score_and_context(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    for (int kind = 0; kind < 6; kind++) {
        const size_t batch = 2, s = kind % 3 == 0 ? 1 : kind % 3 == 1 ? 17 : 130, h = 3, e = 5, hidden = h * e;
        const bool causal = kind >= 3;
        tern_tensor qkv = FN_IN(d, 1, 2, (int64_t)s, (int64_t)(3 * hidden)),
                    p = FN_IN(d, 1, 2, 3, (int64_t)s, (int64_t)s);
        tern_tensor score = FN_OUT(d, 2, 3, (int64_t)s, (int64_t)s),
                    context = FN_OUT(d, 2, (int64_t)s, (int64_t)hidden);
        double *want = test_doubles(batch * h * s * s), *want_context = test_doubles(batch * s * hidden);
        assert_ok(ctx, tern_score_4d_matmul(ctx, &qkv, (int64_t)e, 0.3f, causal, &score));
        assert_ok(ctx, tern_context_4d_matmul(ctx, &p, &qkv, (int64_t)e, &context));
        for (size_t i = 0; i < batch * h * s * s; i++) {
            const size_t j = i % s, row = i / s % s, n = i / s / s % h, b = i / s / s / h;
            want[i] = 0;
            for (size_t c = 0; c < e; c++)
                want[i] += (double)0.3f * fn_at(&qkv, (b * s + row) * 3 * hidden + n * e + c) *
                           fn_at(&qkv, (b * s + j) * 3 * hidden + hidden + n * e + c);
            if (causal && j > row) {
                assert_true(isinf(fn_at(&score, i)) && fn_at(&score, i) < 0);
                fn_put(score.data, (tern_dtype)d, i, 0);
                want[i] = 0;
            }
        }
        fn_near(&score, want, PRODUCT_BOUND, "score_4d_matmul");
        for (size_t i = 0; i < batch * s * hidden; i++) {
            const size_t c = i % e, n = i / e % h, row = i / hidden % s, b = i / hidden / s;
            want_context[i] = 0;
            for (size_t j = 0; j < s; j++)
                want_context[i] += fn_at(&p, ((b * h + n) * s + row) * s + j) *
                                   fn_at(&qkv, (b * s + j) * 3 * hidden + 2 * hidden + n * e + c);
        }
        fn_near(&context, want_context, PRODUCT_BOUND, "context_4d_matmul");
        test_teardown(NULL);
    }
}

static void test_einsum(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    for (size_t s = 0; s < 40; s += 13) {
        tern_tensor q = FN_IN(d, 1, (int64_t)s, 3, 7), w = FN_IN(d, 1, (int64_t)s, 33), o = FN_OUT(d, 3, 7, 33);
        double *want = test_doubles(693);
        for (size_t i = 0; i < 693; i++) {
            want[i] = 0;
            for (size_t t = 0; t < s; t++)
                want[i] += fn_at(&q, t * 21 + i / 33) * fn_at(&w, t * 33 + i % 33);
        }
        assert_ok(ctx, tern_einsum_sec_sm_ecm(ctx, &q, &w, &o));
        fn_near(&o, want, PRODUCT_BOUND, "einsum_sec_sm_ecm");
    }
}

/* ---- attention ---- */

struct attention {
    size_t b, h, g, s, t, e, e2;
    bool causal;
    int mask; /* 0 none, 1 [B, 1, 1, T], 2 [B, h, S, T], 3 [T], 4 [S, 1] */
};

/* Strides: of batch, head and row. */
static double *attend(const struct attention *c, const tern_tensor *q, const size_t *qs, const tern_tensor *k,
                      size_t k_at, const size_t *ks, const tern_tensor *v, size_t v_at, const size_t *vs,
                      const size_t *os, const tern_tensor *mask, double scale)
{
    double *out = test_doubles(c->b * c->h * c->s * c->e2), *score = test_doubles(c->t + 1);

    for (size_t b = 0; b < c->b; b++)
        for (size_t h = 0; h < c->h; h++)
            for (size_t i = 0; i < c->s; i++) {
                const size_t g = h / (c->h / c->g);
                const size_t seen = !c->causal ? c->t : i + 1 + c->t > c->s ? i + 1 + c->t - c->s : 0;
                double max = -INFINITY, sum = 0, *o = out + b * os[0] + h * os[1] + i * os[2];
                for (size_t j = 0; j < seen; j++) {
                    score[j] = 0;
                    for (size_t x = 0; x < c->e; x++)
                        score[j] += fn_at(q, b * qs[0] + h * qs[1] + i * qs[2] + x) *
                                    fn_at(k, k_at + b * ks[0] + g * ks[1] + j * ks[2] + x);
                    score[j] *= scale;
                    if (c->mask == 1)
                        score[j] += fn_at(mask, b * c->t + j);
                    if (c->mask == 2)
                        score[j] += fn_at(mask, ((b * c->h + h) * c->s + i) * c->t + j);
                    if (c->mask == 3)
                        score[j] += fn_at(mask, j);
                    if (c->mask == 4)
                        score[j] += fn_at(mask, i);
                    max = score[j] > max ? score[j] : max;
                }
                memset(o, 0, c->e2 * sizeof *o);
                if (max == -INFINITY)
                    continue;
                for (size_t j = 0; j < seen; j++) {
                    const double p = exp(score[j] - max);
                    sum += p;
                    for (size_t x = 0; x < c->e2; x++)
                        o[x] += p * fn_at(v, v_at + b * vs[0] + g * vs[1] + j * vs[2] + x);
                }
                for (size_t x = 0; x < c->e2; x++)
                    o[x] /= sum;
            }
    return out;
}

static tern_tensor make_mask(const struct attention *c, tern_dtype d)
{
    const int64_t b = (int64_t)c->b, h = (int64_t)c->h, s = (int64_t)c->s, t = (int64_t)c->t;
    tern_tensor m = c->mask == 1   ? FN_IN(d, 2, b, 1, 1, t)
                    : c->mask == 2 ? FN_IN(d, 2, b, h, s, t)
                    : c->mask == 3 ? FN_IN(d, 2, t)
                    : c->mask == 4 ? FN_IN(d, 2, s, 1)
                                   : tern_tensor_none();

    if (c->mask && c->mask < 4 && fn_elements(&m) > 1) /* not a whole row: scores would be good to 2^-24 of 10000 */
        fn_put(m.data, d, 1, -10000);
    return m;
}

static const struct attention attentions[] = {
    { 1, 12, 12, 16, 16, 64, 64, true, 0 }, { 1, 2, 2, 1, 1, 1, 1, false, 0 },
    { 2, 3, 3, 77, 77, 40, 40, true, 1 },   { 2, 2, 2, 33, 33, 80, 80, true, 2 },
    { 1, 1, 1, 45, 45, 600, 600, true, 3 }, { 1, 4, 4, 130, 130, 3, 3, false, 1 },
    { 0, 2, 2, 3, 3, 4, 4, false, 0 },      { 2, 2, 2, 15, 15, 7, 7, true, 4 },
};

/* A score is good to a few 2^-24 of the sum of its terms' sizes, here below 30; so is the exponential: 3e-6. */
#define ATTENTION_BOUND 5e-6
/* In bf16 the weights are rounded by up to 2^-8 of themselves: 2^-8 of the largest value, which is below 2.5 (0.5 times a normal
 * number), is 20 times that of the largest output, which may be an average of many; roundings of either sign leave less. */
#define ATTENTION_BOUND_BF16 (2 * 0x1p-8)

static void test_packed_attention(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    for (size_t i = 0; i < sizeof attentions / sizeof attentions[0]; i++)
        for (int causal = 0; causal < 2; causal++)
            for (int wide_mask = 0; wide_mask < 2; wide_mask++) {
                struct attention c = attentions[i];
                c.causal = causal;
                const size_t hidden = c.h * c.e, in[] = { c.s * 3 * hidden, c.e, 3 * hidden },
                             out[] = { c.s * hidden, c.e, hidden };
                const int64_t b = (int64_t)c.b, s = (int64_t)c.s;
                tern_tensor qkv = FN_IN(d, 0.5f, b, s, (int64_t)(3 * hidden)), y = FN_OUT(d, b, s, (int64_t)hidden);
                const tern_tensor mask = make_mask(&c, wide_mask ? TERN_FP32 : (tern_dtype)d);
                assert_ok(ctx, tern_packed_attention(ctx, &qkv, (int32_t)c.h, 0.3f, causal, &mask, &y));
                fn_near(&y, attend(&c, &qkv, in, &qkv, hidden, in, &qkv, 2 * hidden, in, out, &mask, (double)0.3f),
                        d == TERN_BF16 ? ATTENTION_BOUND_BF16 : ATTENTION_BOUND, "packed_attention");
                test_teardown(NULL);
            }
}

static void test_unpacked_attention(void **state)
{
    (void)state;
    static const struct attention cases[] = {
        { 2, 4, 4, 77, 77, 40, 40, false, 0 }, { 2, 6, 2, 9, 33, 16, 5, true, 2 },
        { 1, 3, 1, 33, 9, 7, 33, true, 0 },    { 1, 2, 2, 5, 0, 4, 4, false, 0 },
        { 1, 2, 2, 3, 1100, 8, 8, true, 3 },   { 1, 8, 4, 1, 129, 64, 64, true, 1 },
    };

    FN_EACH_DTYPE(d)
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct attention c = cases[i];
        const int64_t b = (int64_t)c.b, h = (int64_t)c.h, g = (int64_t)c.g, s = (int64_t)c.s, t = (int64_t)c.t;
        const size_t qs[] = { c.h * c.s * c.e, c.s * c.e, c.e }, ks[] = { c.g * c.t * c.e, c.t * c.e, c.e },
                     vs[] = { c.g * c.t * c.e2, c.t * c.e2, c.e2 }, os[] = { c.h * c.s * c.e2, c.s * c.e2, c.e2 };
        tern_tensor q = FN_IN(d, 0.5f, b, h, s, (int64_t)c.e), k = FN_IN(d, 0.5f, b, g, t, (int64_t)c.e);
        tern_tensor v = FN_IN(d, 0.5f, b, g, t, (int64_t)c.e2), y = FN_OUT(d, b, h, s, (int64_t)c.e2);
        const tern_tensor mask = make_mask(&c, (tern_dtype)d);
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 0.3f, c.causal, &mask, &y));
        fn_near(&y, attend(&c, &q, qs, &k, 0, ks, &v, 0, vs, os, &mask, (double)0.3f),
                d == TERN_BF16 ? ATTENTION_BOUND_BF16 : ATTENTION_BOUND, "unpacked_attention");
        test_teardown(NULL);
    }
}

/* ---- mixture of experts ---- */

static void test_moe_pipeline(void **state)
{
    (void)state;
    static const struct {
        size_t t, x, k;
    } cases[] = { { 13, 64, 1 }, { 278, 8, 2 }, { 17, 8, 8 }, { 0, 3, 2 }, { 5, 1, 1 } };
    static const char *const names[] = { "", "relu", "gelu", "gelu_tanh", "silu" };

    FN_EACH_DTYPE(d)
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int padded = 0; padded < 2; padded++) {
            const size_t t = cases[i].t, x = cases[i].x, k = cases[i].k, h = 33, n = 35;
            const int64_t t64 = (int64_t)t, x64 = (int64_t)x, k64 = (int64_t)k, rows = (int64_t)(t * k) + 1;
            tern_tensor logits = FN_IN(d, 1, t64, x64), scores = FN_OUT(TERN_FP32, t64, k64);
            tern_tensor experts = FN_OUT(TERN_INT32, t64, k64), slots = FN_OUT(TERN_INT32, t64, k64),
                        mapped = FN_OUT(TERN_INT32, t64, k64);
            tern_tensor counts = FN_OUT(TERN_INT32, x64), ends = FN_OUT(TERN_INT64, x64);
            tern_tensor padding = FN_OUT(TERN_BOOL, t64);
            for (size_t r = 0; r < t; r++)
                ((bool *)padding.data)[r] = padded && r % 3 == 1;
            assert_ok(ctx, tern_top_k_gating(ctx, &logits, (int32_t)k, padded ? &padding : NULL, &scores, &experts,
                                             &slots, &counts));
            int32_t *count = test_bytes(x * sizeof *count);
            memset(count, 0, x * sizeof *count);
            const int32_t *e = experts.data, *s = slots.data;
            for (size_t r = 0; r < t; r++) {
                double max = -INFINITY, sum = 0;
                bool *taken = test_bytes(x);
                memset(taken, 0, x);
                for (size_t j = 0; j < x; j++)
                    max = fmax(max, fn_at(&logits, r * x + j));
                for (size_t j = 0; j < x; j++)
                    sum += exp(fn_at(&logits, r * x + j) - max);
                for (size_t j = 0; j < k; j++) {
                    if (padded && r % 3 == 1) {
                        assert_int_equal(e[r * k + j], -1);
                        assert_int_equal(s[r * k + j], -1);
                        continue;
                    }
                    size_t best = x;
                    for (size_t c = 0; c < x; c++)
                        if (!taken[c] && (best == x || fn_at(&logits, r * x + c) > fn_at(&logits, r * x + best)))
                            best = c;
                    taken[best] = true;
                    assert_int_equal(e[r * k + j], best);
                    assert_int_equal(s[r * k + j], count[best]++);
                    const double want = exp(fn_at(&logits, r * x + best) - max) / sum;
                    if (!(fabs(fn_at(&scores, r * k + j) - want) <= 2e-6 * want))
                        fail_msg("top_k_gating: score %g, expected %g", fn_at(&scores, r * k + j), want);
                }
            }
            if (x)
                assert_memory_equal(counts.data, count, x * sizeof *count);

            tern_tensor input = FN_IN(d, 1, t64, (int64_t)h), moved = FN_OUT(d, rows, (int64_t)h);
            assert_ok(ctx, tern_moe_scatter(ctx, &input, &experts, &slots, &counts, &moved, &mapped, &ends));
            int64_t sum = 0;
            for (size_t c = 0; c < x; c++)
                assert_int_equal(((int64_t *)ends.data)[c], sum += count[c]);
            for (size_t j = 0; j < t * k; j++) {
                const int32_t at = ((int32_t *)mapped.data)[j];
                assert_int_equal(at, e[j] < 0 ? -1 : ((int64_t *)ends.data)[e[j]] - count[e[j]] + s[j]);
                for (size_t c = 0; at >= 0 && c < h; c++)
                    assert_true(fn_at(&moved, (size_t)at * h + c) == fn_at(&input, j / k * h + c));
            }
            for (size_t c = 0; c < h; c++) /* the last row is no one's */
                fn_put(moved.data, (tern_dtype)d, (size_t)(rows - 1) * h + c, NAN);

            const char *name = names[i];
            tern_tensor weight = FN_IN(d, 1, x64, (int64_t)h, (int64_t)n), bias = FN_IN(d, 1, x64, (int64_t)n);
            tern_tensor answer = FN_OUT(d, rows, (int64_t)n);
            double *want = test_doubles((size_t)rows * n);
            assert_ok(ctx, tern_moe_gemm(ctx, &moved, &weight, padded ? &bias : NULL, &ends, name, &answer));
            for (size_t r = 0, c = 0; r < (size_t)rows; r++) {
                while (c < x && (int64_t)r >= ((int64_t *)ends.data)[c])
                    c++;
                for (size_t j = 0; j < n; j++) {
                    double v = padded && c < x ? fn_at(&bias, c * n + j) : 0;
                    if (c == x) {
                        want[r * n + j] = 0;
                        continue;
                    }
                    for (size_t q = 0; q < h; q++)
                        v += fn_at(&moved, r * h + q) * fn_at(&weight, (c * h + q) * n + j);
                    want[r * n + j] = act(name, v);
                }
            }
            tern_tensor used = tern_tensor_view(answer.data, (tern_dtype)d, 2, (int64_t[]){ sum, (int64_t)n });
            fn_near(&used, want, PRODUCT_BOUND, "moe_gemm");
            tern_tensor rest = tern_tensor_view((char *)answer.data + (size_t)sum * n * tern_dtype_size((tern_dtype)d),
                                                (tern_dtype)d, 2, (int64_t[]){ rows - sum, (int64_t)n });
            assert_true(fn_untouched(&rest));

            for (int normalise = 0; normalise < 2; normalise++) {
                tern_tensor y = FN_OUT(d, t64, (int64_t)n);
                double *sums = test_doubles(t * n);
                assert_ok(ctx, tern_moe_gather(ctx, &answer, &scores, &mapped, normalise, &y));
                for (size_t r = 0; r < t; r++) {
                    double total = 0;
                    const tern_tensor row = tern_tensor_view((char *)y.data + r * n * tern_dtype_size((tern_dtype)d),
                                                             (tern_dtype)d, 1, (int64_t[]){ (int64_t)n });
                    if (e[r * k] < 0) {
                        assert_true(fn_untouched(&row));
                        for (size_t c = 0; c < n; c++)
                            sums[r * n + c] = fn_at(&y, r * n + c);
                        continue;
                    }
                    for (size_t j = 0; j < k; j++)
                        total += fn_at(&scores, r * k + j);
                    for (size_t c = 0; c < n; c++) {
                        sums[r * n + c] = 0;
                        for (size_t j = 0; j < k; j++)
                            sums[r * n + c] += fn_at(&scores, r * k + j) / (normalise ? total : 1) *
                                               fn_at(&answer, (size_t)((int32_t *)mapped.data)[r * k + j] * n + c);
                    }
                }
                for (size_t j = 0; j < t * n; j++) /* poison of padding rows is as large as it likes */
                    if (e[j / n * k] < 0) {
                        fn_put(y.data, (tern_dtype)d, j, 0);
                        sums[j] = 0;
                    }
                fn_near(&y, sums, 1e-6, "moe_gather");
            }
            test_teardown(NULL);
        }
}

/* ---- ends of a model ---- */

static void test_embedding(void **state)
{
    (void)state;
    static const int32_t ids[] = { 4, 0, 4, 16, 2, 1 }, at[] = { 0, 1, 2, 0, 1, 6 };

    FN_EACH_DTYPE(d)
    for (int64_t h = 0; h < 70; h += 33) {
        const tern_tensor table = FN_IN(d, 1, 17, h), positions = FN_IN(d, 1, 9, h);
        const tern_tensor id = fn_ints(ids, (int64_t[]){ 2, 3, -1 }), position = fn_ints(at, (int64_t[]){ 6, -1 });
        tern_tensor y = FN_OUT(d, 2, 3, h);
        double *want = test_doubles((size_t)(6 * h));
        for (int with = 0; with < 2; with++) {
            for (size_t i = 0; i < (size_t)(6 * h); i++) {
                const size_t r = i / (size_t)h, c = i % (size_t)h;
                want[i] = fn_at(&table, (size_t)(ids[r] * h) + c) +
                          (with ? fn_at(&positions, (size_t)((at[r] + 2) * h) + c) : 0);
            }
            assert_ok(ctx, tern_embedding(ctx, &id, &table, with ? &positions : NULL, &position, 2, &y));
            fn_near(&y, want, 1e-7, "embedding");
        }
        static const int32_t lengths[] = { 1, 3, 2 };
        static const size_t last[] = { 0, 3, 5 };
        const tern_tensor length = fn_ints(lengths, (int64_t[]){ 3, -1 });
        tern_tensor rows = FN_OUT(d, 3, h);
        assert_ok(ctx, tern_logits_gather(ctx, &y, &length, &rows));
        for (size_t i = 0; i < (size_t)(3 * h); i++)
            want[i] = fn_at(&y, last[i / (size_t)h] * (size_t)h + i % (size_t)h);
        fn_near(&rows, want, 0, "logits_gather");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_norms),
        OP_TEST(test_elementwise),
        OP_TEST(test_rotary),
        OP_TEST(test_narrower_and_packed_matrices),
        OP_TEST(test_matmul),
        OP_TEST(test_matmul_4d),
        OP_TEST(test_score_and_context),
        OP_TEST(test_einsum),
        OP_TEST(test_packed_attention),
        OP_TEST(test_unpacked_attention),
        OP_TEST(test_moe_pipeline),
        OP_TEST(test_embedding),
    };
    return cmocka_run_group_tests_name("ops/fn_values", tests, setup, end);
}
