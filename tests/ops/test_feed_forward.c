/* test_feed_forward.c: qkv_gemm, mlp_gemm and gelu_gemm against their formulas in f64. */
#include "faults.h"
#include "ops/op_testing.h"

/* Both weight modes, raw and packed: calls[0..4). */
struct matrix {
    tern_tensor raw[2];
    tern_weight *packed[2];
};

static struct matrix matrix(tern_ctx *ctx, float *w, size_t k, size_t n)
{
    struct matrix m = { .raw = { t2(w, k, n), t2(test_transposed(w, k, n), n, k) } };

    for (int t = 0; t < 2; t++)
        assert_ok(ctx, tern_weight_pack(ctx, &m.raw[t], t, &m.packed[t]));
    return m;
}

static tern_tensor pick(const struct matrix *m, int way)
{
    return way & 2 ? tern_weight_view(m->packed[way & 1]) : m->raw[way & 1];
}

static void drop(struct matrix *m)
{
    tern_weight_destroy(&m->packed[0]);
    tern_weight_destroy(&m->packed[1]);
}

static void test_qkv_gemm(void **state)
{
    (void)state;
    static const size_t sizes[][3] = { { 1, 1, 3 }, { 3, 33, 100 }, { 20, 65, 31 }, { 130, 48, 33 }, { 2, 1100, 40 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
        float *x = test_floats(m * k, 2), *w = test_floats(k * n, 1), *b = test_floats(n, 1), *g = test_floats(k, 1);
        float *be = test_floats(k, 1);
        struct matrix weights = matrix(ctx, w, k, n);
        const tern_tensor input = t3(x, 1, m, k), gamma = t1(g, k), beta = t1(be, k), bias = t1(b, n);
        for (int rms = 0; rms <= 1; rms++) {
            const double *norm = naive_norm(test_widen(x, m * k), g, rms ? NULL : be, m, k, 1e-5f, rms);
            const double *want = naive_matmul(norm, w, b, m, k, n), *plain = naive_matmul(norm, w, NULL, m, k, n);
            for (int way = 0; way < 8; way++) {
                tern_config config = test_config();
                config.norm_type = rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
                config.transposed_mode = way & 1;
                config.kernel = way & 4 ? TERN_KERNEL_REFERENCE : TERN_KERNEL_AUTO;
                float *y = test_poison(m * n), *z = test_poison(m * k);
                const tern_tensor weight = pick(&weights, way);
                tern_tensor output = t2(y, m, n), normed = t2(z, m, k);
                assert_ok(ctx, tern_qkv_gemm(ctx, &config, &input, &weight, &bias, &gamma, rms ? NULL : &beta, &output,
                                             &normed));
                test_near(y, want, m * n, 4e-6, "qkv_gemm");
                test_near(z, norm, m * k, 2e-6, "norm");
                y = test_poison(m * n);
                output = t2(y, m, n);
                assert_ok(
                    ctx, tern_qkv_gemm(ctx, &config, &input, &weight, NULL, &gamma, rms ? NULL : &beta, &output, NULL));
                test_near(y, plain, m * n, 4e-6, "qkv_gemm without bias");
            }
        }
        drop(&weights);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

static void test_mlp_gemm(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {
        { 1, 5, 6 }, { 3, 33, 70 }, { 20, 40, 66 }, { 130, 9, 34 }
    }; /* rows, H, columns of W1 */
    tern_ctx *ctx = test_ctx(2);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int kind = 0; kind < 4 * 2 * 2; kind++) {
            const size_t m = sizes[s][0], h = sizes[s][1], up = sizes[s][2];
            const tern_activation act = (tern_activation)(1 + kind % 4);
            const bool gated = act == TERN_GATED_GELU || act == TERN_GATED_SILU, rms = kind / 4 % 2,
                       parallel = kind / 8;
            const size_t inner = gated ? up / 2 : up;
            const tern_gelu_form form = (tern_gelu_form)((s + (size_t)kind) % 4);
            float *x = test_floats(m * h, 1), *r = test_floats(m * h, 1), *w1 = test_floats(h * up, 0.3f);
            float *w2 = test_floats(inner * h, 0.3f), *ib = test_floats(h, 1), *b = test_floats(up, 1),
                  *g = test_floats(h, 1);
            float *be = test_floats(h, 1);
            const bool alone = parallel && !rms, biases = kind % 3 != 0;
            struct matrix m1 = matrix(ctx, w1, h, up), m2 = matrix(ctx, w2, inner, h);

            double *sum = test_doubles(m * h);
            for (size_t i = 0; i < m * h; i++)
                sum[i] = alone ? r[i] : (double)x[i] + (biases ? ib[i % h] : 0) + r[i];
            const double *z = naive_norm(sum, g, rms || !biases ? NULL : be, m, h, 1e-5f, rms);
            const double *want = naive_mlp(z, w1, biases ? b : NULL, w2, m, h, up, h, act, form);

            const tern_tensor input = t2(x, m, h), residual = t2(r, m, h), input_bias = t1(ib, h), bias = t1(b, up);
            const tern_tensor gamma = t1(g, h), beta = t1(be, h);
            for (int way = 0; way < 8; way++) {
                tern_config config = test_config();
                config.norm_type = rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
                config.mlp_after_attn = !parallel;
                config.mlp_act_func_type = act;
                config.gelu = form;
                config.transposed_mode = way & 1;
                config.kernel = way & 4 ? TERN_KERNEL_REFERENCE : TERN_KERNEL_AUTO;
                float *y = test_poison(m * h), *a = test_poison(m * h);
                const tern_tensor weight = pick(&m1, way), weight_out = pick(&m2, way);
                tern_tensor output = t2(y, m, h), residual_add = t2(a, m, h);
                assert_ok(ctx, tern_mlp_gemm(ctx, &config, alone && way & 2 ? NULL : &input, &residual, &weight,
                                             &weight_out, biases ? &input_bias : NULL, biases ? &bias : NULL, &gamma,
                                             biases && !rms ? &beta : NULL, &output, &residual_add));
                test_near(y, want, m * h, 8e-6, "mlp_gemm");
                test_near(a, rms ? sum : z, m * h, 2e-6, "residual_add");
                float *y2 = test_poison(m * h);
                output = t2(y2, m, h);
                assert_ok(ctx, tern_mlp_gemm(ctx, &config, &input, &residual, &weight, &weight_out,
                                             biases ? &input_bias : NULL, biases ? &bias : NULL, &gamma,
                                             biases && !rms ? &beta : NULL, &output, NULL));
                test_equal(y2, y, m * h, "mlp_gemm without residual_add");
            }
            drop(&m1);
            drop(&m2);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

static void test_gelu_gemm(void **state)
{
    (void)state;
    static const size_t sizes[][4] = { { 0, 3, 4, 5 }, { 1, 1, 1, 1 }, { 5, 33, 65, 31 }, { 140, 20, 40, 33 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int form = 0; form < 4; form++) {
            const size_t m = sizes[s][0], k = sizes[s][1], up = sizes[s][2], n = sizes[s][3];
            float *x = test_floats(m * k, 1), *w1 = test_floats(k * up, 1), *w2 = test_floats(up * n, 1),
                  *b = test_floats(up, 1);
            struct matrix m1 = matrix(ctx, w1, k, up), m2 = matrix(ctx, w2, up, n);
            const double *want =
                naive_mlp(test_widen(x, m * k), w1, b, w2, m, k, up, n, TERN_GELU, (tern_gelu_form)form);
            const tern_tensor input = t2(x, m, k), bias = t1(b, up);
            for (int way = 0; way < 8; way++) {
                tern_config config = test_config();
                config.gelu = (tern_gelu_form)form;
                config.mlp_act_func_type = TERN_RELU; /* not read */
                config.transposed_mode = way & 1;
                config.kernel = way & 4 ? TERN_KERNEL_REFERENCE : TERN_KERNEL_AUTO;
                float *y = test_poison(m * n);
                const tern_tensor weight = pick(&m1, way), weight_out = pick(&m2, way);
                tern_tensor output = t2(y, m, n);
                assert_ok(ctx, tern_gelu_gemm(ctx, &config, &input, &weight, &bias, &weight_out, &output));
                test_near(y, want, m * n, 4e-6, "gelu_gemm");
            }
            drop(&m1);
            drop(&m2);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

struct block {
    float *x, *r, *w1, *w2, *b, *g;
    size_t m, h, up;
    tern_activation act;
};

static void run_mlp(void *arg, tern_ctx *ctx, float *out)
{
    const struct block *k = arg;
    tern_config config = test_config();
    const bool gated = k->act == TERN_GATED_GELU || k->act == TERN_GATED_SILU;
    const tern_tensor input = t2(k->x, k->m, k->h), residual = t2(k->r, k->m, k->h), weight = t2(k->w1, k->h, k->up);
    const tern_tensor weight_out = t2(k->w2, gated ? k->up / 2 : k->up, k->h), bias = t1(k->b, k->up),
                      gamma = t1(k->g, k->h);
    tern_tensor output = t2(out, k->m, k->h);

    config.mlp_act_func_type = k->act;
    assert_ok(ctx, tern_mlp_gemm(ctx, &config, &input, &residual, &weight, &weight_out, NULL, &bias, &gamma, NULL,
                                 &output, NULL));
}

static void test_same_bits_everywhere(void **state)
{
    (void)state;
    for (int act = TERN_GELU; act <= TERN_GATED_SILU; act++) {
        struct block k = { test_floats(21 * 70, 1),
                           test_floats(21 * 70, 1),
                           test_floats(70 * 130, 1),
                           test_floats(130 * 70, 1),
                           test_floats(130, 1),
                           test_floats(70, 1),
                           21,
                           70,
                           130,
                           (tern_activation)act };
        test_same_bits(run_mlp, &k, k.m * k.h);

        /* And a row alone. */
        tern_ctx *ctx = test_ctx(2);
        float *all = test_poison(k.m * k.h), *row = test_poison(k.h);
        run_mlp(&k, ctx, all);
        for (size_t i = 0; i < 21; i += 5) {
            struct block one = k;
            one.x += i * k.h;
            one.r += i * k.h;
            one.m = 1;
            run_mlp(&one, ctx, row);
            test_equal(row, all + i * k.h, k.h, "a row alone");
        }
        tern_ctx_destroy(&ctx);
    }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);
    tern_config config = test_config();
    float *x = test_floats(15, 1), *w = test_floats(25, 1), *g = test_floats(5, 1), *y = test_poison(15);
    const tern_tensor input = t2(x, 3, 5), weight = t2(w, 5, 5), gamma = t1(g, 5);
    tern_tensor output = t2(y, 3, 5);

    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_qkv_gemm(ctx, &config, &input, &weight, NULL, &gamma, NULL, &output, NULL);
        FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
        test_untouched(y, 15, "qkv_gemm");
    }
    y = test_poison(15);
    output = t2(y, 3, 5);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status =
            tern_mlp_gemm(ctx, &config, &input, &input, &weight, &weight, NULL, NULL, &gamma, NULL, &output, NULL);
        FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
        test_untouched(y, 15, "mlp_gemm");
    }
    y = test_poison(15);
    output = t2(y, 3, 5);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_gelu_gemm(ctx, &config, &input, &weight, NULL, &weight, &output);
        FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
        test_untouched(y, 15, "gelu_gemm");
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_qkv_gemm),
        OP_TEST(test_mlp_gemm),
        OP_TEST(test_gelu_gemm),
        OP_TEST(test_same_bits_everywhere),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/feed_forward", tests, NULL, NULL);
}
