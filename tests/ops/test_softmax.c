/* test_softmax.c: softmax of scores, and residual_add. */
#include "ops/fn_testing.h"

struct scores {
    size_t b, h, s, t;
    float *x, *mask, *alibi;
    size_t mask_dim[3]; /* of mask, each 1 or the size */
    tern_softmax_options options;
};

static double *naive_softmax(const struct scores *c)
{
    double *y = test_doubles(c->b * c->h * c->s * c->t);

    for (size_t b = 0; b < c->b; b++)
        for (size_t h = 0; h < c->h; h++)
            for (size_t i = 0; i < c->s; i++) {
                const size_t row = (b * c->h + h) * c->s + i;
                const long position = (long)i + (long)c->t - (long)c->s;
                double max = -INFINITY, sum = 0;
                for (int pass = 0; pass < 3; pass++)
                    for (size_t j = 0; j < c->t; j++) {
                        const bool seen = (!c->options.triangular || (long)j <= position) &&
                                          (!c->options.local_attention || (long)j > position - c->options.window_size);
                        float u = c->x[row * c->t + j] * c->options.layer_scale; /* scores are f32 by contract */
                        if (c->alibi)
                            u = fmaf(c->alibi[(size_t)c->options.head_offset + h], (float)j, u);
                        if (c->mask)
                            u += c->mask[(((c->mask_dim[0] > 1 ? b : 0) * c->mask_dim[1] +
                                           (c->mask_dim[1] > 1 ? h : 0)) *
                                              c->mask_dim[2] +
                                          (c->mask_dim[2] > 1 ? i : 0)) *
                                             c->t +
                                         j];
                        if (pass == 0 && seen && u > max)
                            max = u;
                        if (pass == 1 && seen && max > -INFINITY)
                            sum += exp((double)u - max);
                        if (pass == 2)
                            y[row * c->t + j] = seen && max > -INFINITY ? exp((double)u - max) / sum : 0;
                    }
            }
    return y;
}

static void run_softmax(void *arg, tern_ctx *ctx, float *out)
{
    const struct scores *c = arg;
    const tern_config config = test_config();
    const tern_tensor x = t4(c->x, c->b, c->h, c->s, c->t), alibi = t1(c->alibi, (size_t)c->options.head_offset + c->h);
    const tern_tensor mask = t4(c->mask, c->mask_dim[0], c->mask_dim[1], c->mask_dim[2], c->t);
    tern_tensor y = t4(out, c->b, c->h, c->s, c->t);

    assert_ok(ctx, tern_softmax(ctx, &config, &c->options, &x, c->mask ? &mask : NULL, c->alibi ? &alibi : NULL, &y));
}

static void test_softmax(void **state)
{
    (void)state;
    static const size_t sizes[][4] = { { 1, 1, 1, 1 }, { 2, 3, 5, 5 },   { 2, 2, 3, 70 },
                                       { 1, 2, 9, 4 }, { 3, 1, 1, 129 }, { 1, 1, 2, 9001 } };
    tern_ctx *ctx = test_ctx(3);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int kind = 0; kind < 64; kind++) {
            struct scores c = { sizes[s][0], sizes[s][1], sizes[s][2],
                                sizes[s][3], NULL,        NULL,
                                NULL,        { 1, 1, 1 }, tern_softmax_options_default() };
            const size_t n = c.b * c.h * c.s * c.t;
            c.x = test_floats(n, 3);
            c.options.layer_scale = kind & 1 ? 0.125f : 1;
            c.options.triangular = kind & 2;
            c.options.local_attention = kind & 4;
            c.options.window_size = 3;
            c.options.head_offset = kind & 8 ? 2 : 0;
            if (kind & 8)
                c.alibi = test_floats(c.h + 2, 0.1f);
            if (kind & 16) {
                c.mask_dim[0] = kind & 1 ? c.b : 1;
                c.mask_dim[1] = kind & 2 ? c.h : 1;
                c.mask_dim[2] = kind & 32 ? c.s : 1;
                c.mask = test_floats(c.mask_dim[0] * c.mask_dim[1] * c.mask_dim[2] * c.t, 2);
                c.mask[0] = -INFINITY;
            }
            float *y = test_poison(n);
            const double *want = naive_softmax(&c);
            run_softmax(&c, ctx, y);
            test_near(y, want, n, 3e-6, "softmax");
            run_softmax(&c, ctx, c.x); /* in place */
            test_equal(c.x, y, n, "softmax in place");
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

static void test_softmax_reference(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct scores c = { 2, 3, 5, 70, test_floats(2100, 3), NULL, NULL, { 1, 1, 1 }, tern_softmax_options_default() };
    tern_config config = test_config();
    config.kernel = TERN_KERNEL_REFERENCE;
    float *y = test_poison(2100);
    const tern_tensor x = t4(c.x, 2, 3, 5, 70);
    tern_tensor out = t4(y, 2, 3, 5, 70);
    assert_ok(ctx, tern_softmax(ctx, &config, NULL, &x, NULL, NULL, &out));
    test_near(y, naive_softmax(&c), 2100, 1e-6, "softmax, the definition");
    tern_ctx_destroy(&ctx);
}

static void test_same_bits_everywhere(void **state)
{
    (void)state;
    struct scores c = { 2,
                        3,
                        7,
                        1001,
                        test_floats(42042, 3),
                        test_floats(1001, 1),
                        test_floats(3, 0.1f),
                        { 1, 1, 1 },
                        tern_softmax_options_default() };
    c.options.triangular = true;
    test_same_bits(run_softmax, &c, 42042);
}

/* ---- every dtype, every mask ---- */

static bool hides(size_t b, size_t h, size_t i, size_t j, const tern_tensor *mask)
{
    const size_t index[4] = { b, h, i, j };
    size_t at = 0;

    for (int a = 0; a < mask->rank; a++)
        at = at * (size_t)mask->dim[a] + (mask->dim[a] == 1 ? 0 : index[4 - mask->rank + a]);
    return at % 3 == 1;
}

/* Masks of every type and rank against f64; hidden columns hold NaN and infinity. */
static void test_masks_in_every_dtype(void **state)
{
    (void)state;
    static const int64_t shapes[][5] = { { 21, -1 },          { 1, -1 },           { 5, 21, -1 },
                                         { 5, 1, -1 },        { 3, 1, 21, -1 },    { 3, 5, 21, -1 },
                                         { 2, 1, 1, 21, -1 }, { 2, 3, 5, 21, -1 }, { 1, 3, 1, 1, -1 },
                                         { 2, 1, 5, 21, -1 } };
    static const tern_dtype types[] = {
        TERN_BOOL, TERN_INT8, TERN_UINT16, TERN_INT32, TERN_UINT64, TERN_FP32, TERN_FP16
    };
    tern_ctx *ctx = test_ctx(2);

    FN_EACH_DTYPE(d)
    for (size_t s = 0; s < 10; s++)
        for (size_t t = 0; t < 7; t++)
            for (int quantised = 0; quantised < 2; quantised++) {
                const bool added = t >= 5, turned = s % 2;
                const tern_dtype type = types[t] == TERN_FP16 ? (tern_dtype)d : types[t];
                const tern_tensor mask = fn_out(type, shapes[s]);
                tern_tensor x = FN_IN(d, 1, 2, 3, 5, 21), y = FN_OUT(d, 2, 3, 5, 21);
                double *want = test_doubles(630);
                tern_config config = test_config();
                config.dtype = quantised ? TERN_INT8 : (tern_dtype)d;
                config.activation_dtype = (tern_dtype)d;
                config.invert_mask = !turned;
                memset(mask.data, 0, fn_elements(&mask) * tern_dtype_size(type));
                for (size_t i = 0; i < fn_elements(&mask); i++)
                    if (added)
                        fn_put(mask.data, type, i, i % 3 == 1 ? -INFINITY : (double)(i % 5));
                    else if ((i % 3 == 1) == turned) /* the last byte of the number */
                        ((char *)mask.data)[(i + 1) * tern_dtype_size(type) - 1] = 1;
                for (size_t r = 0; r < 30; r++) {
                    const size_t b = r / 15, h = r / 5 % 3, i = r % 5;
                    double sum = 0;
                    for (int pass = 0; pass < 2; pass++)
                        for (size_t j = 0; j < 21; j++) {
                            double u = fn_at(&x, r * 21 + j);
                            if (hides(b, h, i, j, &mask))
                                u = -INFINITY;
                            else if (added) {
                                size_t at = 0;
                                const size_t index[4] = { b, h, i, j };
                                for (int a = 0; a < mask.rank; a++)
                                    at = at * (size_t)mask.dim[a] + (mask.dim[a] == 1 ? 0 : index[4 - mask.rank + a]);
                                u += (double)(at % 5);
                            }
                            if (pass == 0)
                                sum += exp(u);
                            else
                                want[r * 21 + j] = sum > 0 ? exp(u) / sum : 0;
                        }
                    for (size_t j = 0; j < 21; j++)
                        if (hides(b, h, i, j, &mask))
                            fn_put(x.data, (tern_dtype)d, r * 21 + j, j % 2 ? NAN : INFINITY);
                }
                assert_ok(ctx, tern_softmax(ctx, &config, NULL, &x, &mask, NULL, &y));
                fn_near(&y, want, 3e-6, "softmax");
                const void *kept = fn_keep(&y);
                assert_ok(ctx, tern_softmax(ctx, &config, NULL, &x, &mask, NULL, &x));
                fn_same(&x, kept, "softmax in place");
                test_teardown(NULL);
            }
    tern_ctx_destroy(&ctx);
}

/* Slopes of a rank's heads, in fp32 or the dtype of scores; rows beyond 8192 and 32768 columns. */
static void test_b20_b33_b35_slopes_and_long_rows_in_every_dtype(void **state)
{
    (void)state;
    static const int64_t lengths[] = { 0, 1, 8193, 32769 };
    tern_ctx *ctx = test_ctx(2);

    FN_EACH_DTYPE(d)
    for (size_t l = 0; l < 4; l++)
        for (int wide = 0; wide < 2; wide++) {
            const size_t n = (size_t)lengths[l];
            const tern_tensor x = FN_OUT(d, 1, 2, 1, lengths[l]), slopes = FN_OUT(wide ? TERN_FP32 : (tern_dtype)d, 5);
            tern_tensor y = FN_OUT(d, 1, 2, 1, lengths[l]);
            tern_softmax_options options = tern_softmax_options_default();
            tern_config config = test_config();
            config.dtype = (tern_dtype)d;
            options.head_offset = 3;
            for (size_t i = 0; i < 2 * n; i++)
                fn_put(x.data, (tern_dtype)d, i, 0);
            for (size_t i = 0; i < 5; i++)
                fn_put(slopes.data, wide ? TERN_FP32 : (tern_dtype)d, i, i < 3 ? 100 : i == 3 ? 0.5 : 0.25);
            assert_ok(ctx, tern_softmax(ctx, &config, &options, &x, NULL, &slopes, &y));
            for (size_t i = 0; i < 2 * n; i++) { /* a geometric row */
                const double slope = i < n ? 0.5 : 0.25, back = (double)(n - 1 - i % n);
                const double want = exp(-slope * back) * (1 - exp(-slope)) / (1 - exp(-slope * (double)n));
                assert_true(fabs(fn_at(&y, i) - want) <= 1e-6 + 1.01 * fn_half_ulp((tern_dtype)d, want));
            }
        }
    tern_ctx_destroy(&ctx);
}

static void test_bad_masks(void **state)
{
    (void)state;
    static const int64_t shapes[][6] = { { 20, -1 },          { 4, 21, -1 },       { 2, 5, 21, -1 },
                                         { 2, 3, 5, 22, -1 }, { 3, 3, 5, 21, -1 }, { 1, 1, 1, 1, 21, -1 } };
    tern_ctx *ctx = test_ctx(1);
    tern_config config = test_config();
    const tern_tensor x = FN_IN(TERN_BF16, 1, 2, 3, 5, 21);
    const tern_tensor halves = FN_OUT(TERN_FP16, 21);
    tern_tensor y = FN_OUT(TERN_BF16, 2, 3, 5, 21);

    config.dtype = TERN_BF16;
    for (size_t i = 0; i < 6; i++) {
        const tern_tensor mask = fn_out(TERN_BOOL, shapes[i]);
        assert_fails(ctx, tern_softmax(ctx, &config, NULL, &x, &mask, NULL, &y), TERN_ERR_SHAPE,
                     "expected axes of 1 or the whole of scores' [2, 3, 5, 21], from the right, or [batch, columns]");
    }
    assert_fails(ctx, tern_softmax(ctx, &config, NULL, &x, &halves, NULL, &y), TERN_ERR_DTYPE,
                 "mask is fp16, expected bf16, fp32, bool or integers");
    assert_true(fn_untouched(&y));
    tern_ctx_destroy(&ctx);
}

/* ---- residual_add ---- */

static void test_residual_add(void **state)
{
    (void)state;
    static const size_t sizes[][2] = { { 0, 3 }, { 1, 1 }, { 3, 33 }, { 17, 130 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int kind = 0; kind < 256; kind++) {
            const size_t m = sizes[s][0], n = sizes[s][1];
            const bool sequential = kind & 1, pre = kind & 2;
            const int mp = kind & 4 ? 3 : 1;
            float *x = test_floats(m * n, 1), *r = test_floats(m * n, 1), *a = kind & 8 ? test_floats(m * n, 1) : NULL;
            float *ra = kind & 16 ? test_floats(m * n, 1) : NULL, *ba = kind & 32 ? test_floats(n, 1) : NULL;
            float *bf = kind & 64 ? test_floats(n, 1) : NULL;
            double *want = test_doubles(m * n);
            for (size_t i = 0; i < m * n; i++) {
                const double A = a ? a[i] : 0, BA = ba ? ba[i % n] : 0, BF = bf ? bf[i % n] : 0;
                want[i] = !sequential ? x[i] + A + (r[i] + BF + BA) / mp
                          : pre       ? x[i] + (r[i] + BF + A + BA) / mp
                                      : x[i] + ((ra ? ra[i] : r[i]) + BF) / mp;
            }
            tern_config config = test_config();
            config.mlp_after_attn = sequential;
            config.pre_layer_norm = pre;
            config.mp_size = mp;
            config.kernel = kind & 128 ? TERN_KERNEL_REFERENCE : TERN_KERNEL_AUTO;
            float *y = test_poison(m * n);
            const tern_tensor hidden = t2(x, m, n), residual = t2(r, m, n), attention = t2(a, m, n), add = t2(ra, m, n);
            const tern_tensor attention_bias = t1(ba, n), final_bias = t1(bf, n);
            tern_tensor output = t2(y, m, n);
            assert_ok(ctx, tern_residual_add(ctx, &config, &hidden, &residual, a ? &attention : NULL, ra ? &add : NULL,
                                             ba ? &attention_bias : NULL, bf ? &final_bias : NULL, &output));
            for (size_t i = 0; i < m * n; i++) /* six sums of numbers below 16 */
                assert_true(fabs((double)y[i] - want[i]) <= 6 * 4.8e-7);

            /* Into each of its inputs. */
            float *const inputs[] = { x, r, a, ra };
            for (int i = 0; i < 4; i++) {
                if (!inputs[i])
                    continue;
                float *kept = test_copy(inputs[i], m * n);
                output = t2(inputs[i], m, n);
                assert_ok(ctx,
                          tern_residual_add(ctx, &config, &hidden, &residual, a ? &attention : NULL, ra ? &add : NULL,
                                            ba ? &attention_bias : NULL, bf ? &final_bias : NULL, &output));
                test_equal(inputs[i], y, m * n, "residual_add in place");
                if (m > 0)
                    memcpy(inputs[i], kept, m * n * sizeof *kept);
            }
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_softmax),
        OP_TEST(test_softmax_reference),
        OP_TEST(test_same_bits_everywhere),
        OP_TEST(test_masks_in_every_dtype),
        OP_TEST(test_b20_b33_b35_slopes_and_long_rows_in_every_dtype),
        OP_TEST(test_bad_masks),
        OP_TEST(test_residual_add),
    };
    return cmocka_run_group_tests_name("ops/softmax", tests, NULL, NULL);
}
