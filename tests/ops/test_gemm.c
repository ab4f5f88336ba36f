/* test_gemm.c: linear and vector_matmul: each element is one chain of fused multiply-adds, whatever the way it is cut. */
/* labels: quick threads */
#include "faults.h"
#include "ops/op_testing.h"

#include <fenv.h>

/* The definition, to the bit. */
static float *chain(const float *a, const float *w, const float *bias, size_t m, size_t k, size_t n)
{
    float *c = test_bytes(m * n * sizeof *c);

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t s = 0; s < k; s++)
                sum = fmaf(a[i * k + s], w[s * n + j], sum);
            c[i * n + j] = bias ? sum + bias[j] : sum;
        }
    return c;
}

static void test_sizes(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {
        { 0, 3, 5 },    { 1, 0, 5 },     { 1, 1, 1 },      { 1, 100, 33 },    { 2, 7, 31 },    { 3, 64, 64 },
        { 13, 40, 65 }, { 14, 33, 32 },  { 15, 33, 32 },   { 16, 70, 97 },    { 20, 5, 3 },    { 29, 65, 34 },
        { 63, 31, 40 }, { 64, 32, 96 },  { 65, 9, 33 },    { 127, 8, 40 },    { 128, 17, 33 }, { 129, 16, 70 },
        { 300, 5, 33 }, { 3, 2100, 40 }, { 16, 1025, 33 }, { 140, 1500, 33 }, { 1, 3000, 70 },
    };

    for (int threads = 1; threads <= 3; threads += 2) {
        tern_ctx *ctx = test_ctx(threads);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            const size_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
            float *a = test_floats(m * k, 1), *w = test_floats(k * n, 1), *b = test_floats(n, 1);
            float *wt = test_transposed(w, k, n);
            const float *want = chain(a, w, b, m, k, n), *want_plain = chain(a, w, NULL, m, k, n);
            const tern_tensor input = t3(a, m, 1, k), bias = t1(b, n), raw[2] = { t2(w, k, n), t2(wt, n, k) };
            for (int transposed = 0; transposed <= 1; transposed++)
                for (int packed = 0; packed <= 1; packed++)
                    for (int reference = 0; reference <= 1; reference++) {
                        tern_config config = test_config();
                        config.transposed_mode = transposed;
                        config.kernel = reference ? TERN_KERNEL_REFERENCE : TERN_KERNEL_AUTO;
                        if (reference && m * k * n > 100000)
                            continue;
                        tern_weight *owner = NULL;
                        tern_tensor weight = raw[transposed];
                        if (packed) {
                            assert_ok(ctx, tern_weight_pack(ctx, &raw[transposed], transposed, &owner));
                            weight = tern_weight_view(owner);
                        }
                        float *c = test_poison(m * n);
                        tern_tensor output = t2(c, m, n);
                        assert_ok(ctx, tern_linear(ctx, &config, &input, &weight, &bias, &output));
                        test_equal(c, want, m * n, "linear");
                        c = test_poison(m * n);
                        output = t3(c, 1, m, n);
                        assert_ok(ctx, tern_vector_matmul(ctx, &config, &input, &weight, &output));
                        test_equal(c, want_plain, m * n, "vector_matmul");
                        tern_weight_destroy(&owner);
                    }
            test_teardown(NULL);
        }
        tern_ctx_destroy(&ctx);
    }
}

struct product {
    float *a, *w, *b;
    size_t m, k, n;
};

static void run_product(void *arg, tern_ctx *ctx, float *out)
{
    const struct product *p = arg;
    const tern_config config = test_config();
    const tern_tensor input = t2(p->a, p->m, p->k), weight = t2(p->w, p->k, p->n), bias = t1(p->b, p->n);
    tern_tensor output = t2(out, p->m, p->n);

    assert_ok(ctx, tern_linear(ctx, &config, &input, &weight, &bias, &output));
}

static void test_same_bits_everywhere(void **state)
{
    (void)state;
    const struct product sizes[] = { { .m = 1, .k = 1300, .n = 100 },
                                     { .m = 17, .k = 70, .n = 97 },
                                     { .m = 150, .k = 60, .n = 40 } };

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct product p = sizes[s];
        p.a = test_floats(p.m * p.k, 1);
        p.w = test_floats(p.k * p.n, 1);
        p.b = test_floats(p.n, 1);
        test_same_bits(run_product, &p, p.m * p.n);
    }
}

/* A row alone gives what it gives among others. */
static void test_row_alone(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    struct product p = { test_floats(150 * 70, 1), test_floats(70 * 45, 1), test_floats(45, 1), 150, 70, 45 };
    float *all = test_poison(150 * 45);
    run_product(&p, ctx, all);
    for (size_t r = 0; r < 150; r += 7) {
        struct product one = p;
        float *row = test_poison(45);
        one.a = p.a + r * 70;
        one.m = 1;
        run_product(&one, ctx, row);
        test_equal(row, all + r * 45, 45, "a row alone");
    }
    tern_ctx_destroy(&ctx);
}

/* Half-precision weights are their numbers, widened. */
static void test_half_weights(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const tern_config config = test_config();
    float a[2] = { 3, 5 }, c[2];
    uint16_t half[4] = { 0x3c00, 0x4000, 0xc200, 0x3800 },
             brain[4] = { 0x3f80, 0x4000, 0xc040, 0x3f00 }; /* 1 2 -3 0.5 */
    const tern_tensor input = t2(a, 1, 2);
    tern_tensor output = t2(c, 1, 2);
    for (int i = 0; i < 2; i++) {
        const tern_tensor w = tern_tensor_view(i ? brain : half, i ? TERN_BF16 : TERN_FP16, 2, (int64_t[]){ 2, 2 });
        assert_ok(ctx, tern_vector_matmul(ctx, &config, &input, &w, &output));
        assert_true(c[0] == 3 - 15 && c[1] == 6 + 2.5f);
    }
    tern_ctx_destroy(&ctx);
}

/* The caller's rounding mode is neither used nor lost. */
static void test_rounding_mode(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    struct product p = { test_floats(20 * 70, 1), test_floats(70 * 45, 1), test_floats(45, 1), 20, 70, 45 };
    float *want = test_poison(20 * 45), *got = test_poison(20 * 45);
    run_product(&p, ctx, want);
    fesetround(FE_UPWARD);
    run_product(&p, ctx, got);
    const int mode = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(mode, FE_UPWARD);
    test_equal(got, want, 20 * 45, "rounding upward outside");
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);
    struct product p = { test_floats(20, 1), test_floats(20 * 45, 1), test_floats(45, 1), 1, 20, 45 };
    const tern_config config = test_config();
    const tern_tensor input = t2(p.a, p.m, p.k), weight = t2(p.w, p.k, p.n), bias = t1(p.b, p.n);
    float *c = test_poison(45);
    tern_tensor output = t2(c, p.m, p.n);

    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_linear(ctx, &config, &input, &weight, &bias, &output);
        FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
        test_untouched(c, 45, "output");
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_sizes),        OP_TEST(test_same_bits_everywhere), OP_TEST(test_row_alone),
        OP_TEST(test_half_weights), OP_TEST(test_rounding_mode),        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/gemm", tests, NULL, NULL);
}
