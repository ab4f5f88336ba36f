/* test_feed_forward_dtypes.c: mlp_gemm, gelu_gemm, residual_add and linear in every dtype, against f64 on the stored numbers. */
#include "faults.h"
#include "ops/dtype_testing.h"

#include <stdio.h>

static const tern_tensor *or_null(const tern_tensor *t, bool there)
{
    return there ? t : NULL;
}

/* ---- mlp_gemm ---- */

static void check_mlp_gemm(tern_ctx *ctx, const struct dt_kind *kind, int variant)
{
    static const size_t sizes[][3] = { { 1, 5, 6 }, { 3, 33, 70 }, { 20, 40, 66 } }; /* rows, H, columns of W1 */
    const size_t *s = sizes[variant % 3], m = s[0], h = s[1], up = s[2];
    const tern_activation act = (tern_activation)(1 + variant % 4);
    const bool rms = variant & 4, parallel = variant & 8, transposed = variant & 16, biases = variant % 5 != 0;
    const bool wide_vectors = variant & 1, gated = act >= TERN_GATED_GELU;
    const tern_dtype a = kind->a, v = wide_vectors ? TERN_FP32 : a;
    const size_t inner = gated ? up / 2 : up;
    const int64_t M = (int64_t)m, H = (int64_t)h;
    struct dt_matrix w1 = dt_matrix(ctx, kind, transposed, h, up, 0.3f, 2);
    struct dt_matrix w2 = dt_matrix(ctx, kind, transposed, inner, h, 0.3f, 1);
    const tern_tensor x = FN_IN(a, 1, M, H), r = FN_IN(a, 1, M, H), ib = FN_IN(v, 1, H), g = FN_IN(v, 1, H);
    const tern_tensor be = FN_IN(v, 1, H), b = FN_IN(v, 1, (int64_t)up);
    tern_tensor out = FN_OUT(a, M, H), added = FN_OUT(a, M, H), again = FN_OUT(a, M, H);
    const bool alone = parallel && !rms;
    tern_config c = dt_config(kind);

    c.norm_type = rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
    c.mlp_after_attn = !parallel;
    c.mlp_act_func_type = act;
    c.transposed_mode = transposed;
    double *sum = test_doubles(m * h);
    for (size_t i = 0; i < m * h; i++)
        sum[i] = fn_at(&r, i) + (alone ? 0 : fn_at(&x, i) + (biases ? fn_at(&ib, i % h) : 0));
    const double *z = naive_norm(sum, dt_floats(&g), biases && !rms ? dt_floats(&be) : NULL, m, h, 1e-5f, rms);
    const double *want = dt_mlp(kind, z, w1.wide, biases ? dt_floats(&b) : NULL, w2.wide, m, h, up, h, act, 0);

    assert_ok(ctx, tern_mlp_gemm(ctx, &c, &x, &r, &w1.given, &w2.given, or_null(&ib, biases), or_null(&b, biases), &g,
                                 or_null(&be, biases && !rms), &out, &added));
    fn_near(&out, want, kind->bound, kind->name);
    fn_near(&added, rms ? sum : z, 2e-6, kind->name);
    assert_ok(ctx, tern_mlp_gemm(ctx, &c, &x, &r, &w1.given, &w2.given, or_null(&ib, biases), or_null(&b, biases), &g,
                                 or_null(&be, biases && !rms), &again, NULL));
    fn_same(&again, out.data, "mlp_gemm without residual_add");
    tern_weight_destroy(&w1.packed);
    tern_weight_destroy(&w2.packed);
}

static void test_mlp_gemm(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 32; variant++) {
            check_mlp_gemm(ctx, &dt_kinds[k], variant);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- gelu_gemm ---- */

static void test_gelu_gemm(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = { { 0, 3, 4, 5 }, { 1, 1, 1, 1 }, { 5, 33, 65, 31 }, { 40, 20, 40, 33 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (size_t s = 0; s < 4; s++)
            for (int form = 0; form < 4; form++) {
                const struct dt_kind *kind = &dt_kinds[k];
                const int64_t m = sizes[s][0], in = sizes[s][1], up = sizes[s][2], n = sizes[s][3];
                const bool transposed = form & 1;
                struct dt_matrix w1 = dt_matrix(ctx, kind, transposed, (size_t)in, (size_t)up, 0.5f, 1);
                struct dt_matrix w2 = dt_matrix(ctx, kind, transposed, (size_t)up, (size_t)n, 0.5f, (size_t)n);
                const tern_tensor x = FN_IN(kind->a, 1, m, in), b = FN_IN(kind->a, 1, up);
                tern_tensor out = FN_OUT(kind->a, m, n);
                tern_config c = dt_config(kind);
                c.gelu = (tern_gelu_form)form;
                c.mlp_act_func_type = TERN_RELU; /* not read */
                c.transposed_mode = transposed;
                assert_ok(ctx, tern_gelu_gemm(ctx, &c, &x, &w1.given, &b, &w2.given, &out));
                fn_near(&out,
                        dt_mlp(kind, fn_doubles(&x), w1.wide, dt_floats(&b), w2.wide, (size_t)m, (size_t)in, (size_t)up,
                               (size_t)n, TERN_GELU, c.gelu),
                        kind->bound, kind->name);
                tern_weight_destroy(&w1.packed);
                tern_weight_destroy(&w2.packed);
                test_teardown(NULL);
            }
    tern_ctx_destroy(&ctx);
}

/* ---- residual_add ---- */

static void check_residual_add(tern_ctx *ctx, const struct dt_kind *kind, int64_t rows, int64_t n, int variant)
{
    const bool sequential = variant & 1, pre = variant & 2, ba = variant & 4, bf = variant & 8, at = variant & 16;
    const bool added = variant & 32, post = sequential && !pre;
    const tern_dtype a = kind->a, v = variant & 1 ? TERN_FP32 : a;
    const tern_tensor x = FN_IN(a, 1, rows, n), r = FN_IN(a, 1, rows, n), t = FN_IN(a, 1, rows, n);
    const tern_tensor z = FN_IN(a, 1, rows, n), b_a = FN_IN(v, 1, n), b_f = FN_IN(v, 1, n);
    tern_tensor out = FN_OUT(a, rows, n);
    double *want = test_doubles((size_t)(rows * n));
    tern_config c = dt_config(kind);

    c.mp_size = 2;
    c.mlp_after_attn = sequential;
    c.pre_layer_norm = pre;
    for (size_t i = 0; i < (size_t)(rows * n); i++) {
        const double xi = fn_at(&x, i), f = bf ? fn_at(&b_f, i % (size_t)n) : 0, ti = at ? fn_at(&t, i) : 0;
        const double q = ba ? fn_at(&b_a, i % (size_t)n) : 0, ri = fn_at(&r, i);
        want[i] = post         ? xi + ((added ? fn_at(&z, i) : ri) + f) / 2
                  : sequential ? xi + (ri + f + ti + q) / 2
                               : xi + ti + (ri + f + q) / 2;
    }
    assert_ok(ctx, tern_residual_add(ctx, &c, &x, &r, or_null(&t, at), or_null(&z, added), or_null(&b_a, ba),
                                     or_null(&b_f, bf), &out));
    fn_near(&out, want, 1e-6, kind->name);

    /* In place, over any of the rows. */
    const tern_tensor *const over[] = { &x, &r, or_null(&t, at), or_null(&z, added) };
    for (size_t i = 0; i < 4; i++) {
        if (!over[i])
            continue;
        tern_tensor same = *over[i];
        void *kept = fn_keep(&same);
        assert_ok(ctx, tern_residual_add(ctx, &c, &x, &r, or_null(&t, at), or_null(&z, added), or_null(&b_a, ba),
                                         or_null(&b_f, bf), &same));
        fn_same(&same, out.data, "residual_add in place");
        memcpy(same.data, kept, fn_elements(&same) * tern_dtype_size(a));
    }
}

static void test_residual_add(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 64; variant++) {
            check_residual_add(ctx, &dt_kinds[k], variant % 4 == 3 ? 0 : 1 + variant % 4 * 4, 1 + variant * 3 % 40,
                               variant);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- linear, q, k and v apart ---- */

static void check_heads(tern_ctx *ctx, const struct dt_kind *kind, int64_t B, int64_t S, int64_t h, int64_t E,
                        int64_t padded, bool transposed)
{
    const int64_t K = 19, N = 3 * h * E;
    struct dt_matrix w = dt_matrix(ctx, kind, transposed, (size_t)K, (size_t)N, 0.5f, 3);
    tern_tensor x = FN_IN(kind->a, 1, B, S, K), b = FN_IN(kind->a, 1, N);
    tern_tensor out = FN_OUT(kind->a, 3, B, h, S, padded), named = FN_OUT(kind->a, 3, B, h, S, padded);
    tern_op_settings settings = tern_op_settings_default();
    const int index = tern_op_find("linear");
    tern_op *op;

    settings.config = dt_config(kind);
    settings.config.transposed_mode = transposed;
    for (int biased = 0; biased < 2; biased++) {
        const double *flat = naive_matmul(dt_rows(kind, fn_doubles(&x), (size_t)(B * S), (size_t)K), w.wide,
                                          biased ? dt_floats(&b) : NULL, (size_t)(B * S), (size_t)K, (size_t)N);
        double *want = test_doubles(fn_elements(&out));
        for (size_t i = 0; i < fn_elements(&out); i++) {
            const int64_t at = (int64_t)i, e = at % padded, s = at / padded % S, n = at / padded / S % h,
                          batch = at / padded / S / h % B, part = at / padded / S / h / B;
            want[i] = e < E ? flat[(batch * S + s) * N + (part * h + n) * E + e] : 0;
        }
        assert_ok(ctx, tern_linear_heads(ctx, &settings.config, &x, &w.given, biased ? &b : NULL, (int32_t)h, &out));
        fn_near(&out, want, kind->bound, kind->name);
        for (size_t i = 0; i < fn_elements(&out); i++)
            assert_true((int64_t)i % padded < E || (fn_at(&out, i) == 0 && !signbit(fn_at(&out, i))));

        /* By name: the bias is there, and add_bias decides.  int8 raw, with its scales. */
        char heads[16];
        snprintf(heads, sizeof heads, "%d", (int)h);
        assert_ok(ctx, tern_op_settings_set(ctx, index, &settings, "do_flash_attn", "true"));
        assert_ok(ctx, tern_op_settings_set(ctx, index, &settings, "num_heads", heads));
        assert_ok(ctx, tern_op_settings_set(ctx, index, &settings, "add_bias", biased ? "true" : "false"));
        assert_ok(ctx, tern_op_create(ctx, "linear", &settings.config, &op));
        tern_tensor inferred = tern_tensor_none();
        tern_op_io io[] = {
            { "input", &x }, { "weight", &w.raw }, { "bias", &b }, { "output", &inferred }, { "weight_scale", &w.scale }
        };
        assert_ok(ctx, tern_op_infer(ctx, op, &settings.params, io, 5));
        assert_int_equal(inferred.rank, 5);
        assert_memory_equal(inferred.dim, out.dim, 5 * sizeof out.dim[0]);
        assert_int_equal(inferred.dtype, kind->a);
        io[3].tensor = &named;
        assert_ok(ctx, tern_op_run(ctx, op, io, 5, &(tern_op_call){ .params = &settings.params }));
        fn_same(&named, out.data, "linear by name");
        tern_op_destroy(&op);
    }
    tern_weight_destroy(&w.packed);
}

static void test_linear_heads(void **state)
{
    (void)state;
    static const int64_t cases[][5] = { { 1, 1, 1, 1, 32 },    { 2, 3, 2, 31, 32 },   { 1, 5, 2, 32, 64 },
                                        { 2, 1, 3, 63, 64 },   { 1, 2, 1, 64, 64 },   { 2, 2, 2, 65, 128 },
                                        { 1, 2, 1, 128, 128 }, { 1, 1, 1, 130, 130 }, { 0, 3, 2, 8, 32 },
                                        { 2, 0, 2, 8, 32 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            check_heads(ctx, &dt_kinds[k], cases[i][0], cases[i][1], cases[i][2], cases[i][3], cases[i][4], i & 1);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

static void test_linear_heads_refuses(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const struct dt_kind *kind = &dt_kinds[1];
    struct dt_matrix w = dt_matrix(ctx, kind, false, 4, 12, 1, 1);
    tern_tensor x = FN_IN(TERN_FP16, 1, 2, 3, 4), flat = FN_IN(TERN_FP16, 1, 6, 4), b = FN_IN(TERN_FP16, 1, 12);
    tern_tensor out = FN_OUT(TERN_FP16, 3, 2, 2, 3, 32), narrow = FN_OUT(TERN_FP16, 3, 2, 2, 3, 2);
    tern_config c = dt_config(kind);
    tern_op *op;

    assert_fails(ctx, tern_linear_heads(ctx, &c, &x, &w.raw, &b, 0, &out), TERN_ERR_CONFIG,
                 "num_heads is 0, expected 1");
    assert_fails(ctx, tern_linear_heads(ctx, &c, &x, &w.raw, &b, 3, &out), TERN_ERR_SHAPE,
                 "weight has 12 columns, expected a multiple of 3 num_heads = 9");
    assert_fails(ctx, tern_linear_heads(ctx, &c, &flat, &w.raw, &b, 2, &out), TERN_ERR_SHAPE,
                 "input is [6, 4], expected [B, S, K]");
    assert_fails(ctx, tern_linear_heads(ctx, &c, &x, &w.raw, &b, 2, &narrow), TERN_ERR_SHAPE,
                 "output is [3, 2, 2, 3, 2], expected [3, 2, 2, 3, 32]");
    assert_fails(ctx, tern_linear_heads(ctx, &c, &x, &w.raw, &b, 2, NULL), TERN_ERR_ARG, "output is NULL");
    assert_true(fn_untouched(&out) && fn_untouched(&narrow));

    tern_op_params params = tern_op_params_default();
    params.add_bias = 1;
    assert_ok(ctx, tern_op_create(ctx, "linear", &c, &op));
    tern_tensor plain = FN_OUT(TERN_FP16, 2, 3, 12);
    const tern_op_io io[] = { { "input", &x }, { "weight", &w.raw }, { "output", &plain } };
    assert_fails(ctx, tern_op_run(ctx, op, io, 3, &(tern_op_call){ .params = &params }), TERN_ERR_ARG,
                 "add_bias is true and bias is not there");
    assert_true(fn_untouched(&plain));
    tern_op_destroy(&op);
    tern_ctx_destroy(&ctx);
}

/* ---- one answer ---- */

struct block {
    const struct dt_kind *kind;
    tern_tensor x, w1, s1, w2, s2, g;
};

static void run_block(void *arg, tern_ctx *ctx, float *out)
{
    const struct block *k = arg;
    tern_weight *p1, *p2;
    tern_config c = dt_config(k->kind);
    tern_tensor y = FN_OUT(k->kind->a, k->x.dim[0], k->x.dim[1]);

    assert_ok(ctx, tern_weight_pack_as(ctx, &k->w1, false, k->w1.dtype, &k->s1, &p1));
    assert_ok(ctx, tern_weight_pack_as(ctx, &k->w2, false, k->w2.dtype, &k->s2, &p2));
    const tern_tensor w1 = tern_weight_view(p1), w2 = tern_weight_view(p2);
    c.mlp_act_func_type = TERN_GATED_SILU;
    assert_ok(ctx, tern_mlp_gemm(ctx, &c, &k->x, &k->x, &w1, &w2, NULL, NULL, &k->g, NULL, &y, NULL));
    for (size_t i = 0; i < fn_elements(&y); i++)
        out[i] = (float)fn_at(&y, i);
    tern_weight_destroy(&p1);
    tern_weight_destroy(&p2);
}

/* Levels and threads for fp32, fp16 and int8; and for every kind a row alone is a row among others. */
static void test_one_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < DT_KINDS; i++) {
        const struct dt_kind *kind = &dt_kinds[i];
        tern_ctx *ctx = test_ctx(2);
        struct dt_matrix w1 = dt_matrix(ctx, kind, false, 70, 130, 0.3f, 2),
                         w2 = dt_matrix(ctx, kind, false, 65, 70, 0.3f, 7);
        struct block all = {
            kind, FN_IN(kind->a, 1, 21, 70), w1.raw, w1.scale, w2.raw, w2.scale, FN_IN(kind->a, 1, 70)
        };
        if (kind->dtype != TERN_BF16)
            test_same_bits(run_block, &all, 21 * 70);
        float *want = test_poison(21 * 70), *row = test_poison(70);
        run_block(&all, ctx, want);
        for (size_t r = 0; r < 21; r += 4) {
            struct block one = all;
            one.x = tern_tensor_view((char *)all.x.data + r * 70 * tern_dtype_size(kind->a), kind->a, 2,
                                     (int64_t[]){ 1, 70 });
            run_block(&one, ctx, row);
            test_equal(row, want + r * 70, 70, kind->name);
        }
        tern_weight_destroy(&w1.packed);
        tern_weight_destroy(&w2.packed);
        tern_ctx_destroy(&ctx);
        test_teardown(NULL);
    }
}

/* ---- faults ---- */

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);

    for (size_t i = 0; i < DT_KINDS; i++) {
        const struct dt_kind *kind = &dt_kinds[i];
        tern_config c = dt_config(kind);
        struct dt_matrix w = dt_matrix(ctx, kind, false, 6, 6, 1, 1);
        const tern_tensor x = FN_IN(kind->a, 1, 1, 3, 6), g = FN_IN(kind->a, 1, 6);
        tern_tensor y = FN_OUT(kind->a, 1, 3, 6), z = FN_OUT(kind->a, 1, 3, 6), heads = FN_OUT(kind->a, 3, 1, 1, 3, 32);
        for (int call = 0; call < 4; call++) {
            FAULT_EACH(n)
            {
                fault_arm(n);
                const tern_status status =
                    call == 0   ? tern_mlp_gemm(ctx, &c, &x, &x, &w.given, &w.given, NULL, NULL, &g, NULL, &y, &z)
                    : call == 1 ? tern_gelu_gemm(ctx, &c, &x, &w.given, NULL, &w.given, &y)
                    : call == 2 ? tern_residual_add(ctx, &c, &x, &x, NULL, NULL, NULL, &g, &y)
                                : tern_linear_heads(ctx, &c, &x, &w.given, NULL, 1, &heads);
                FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
                assert_true(fn_untouched(&y) && fn_untouched(&z) && fn_untouched(&heads));
            }
            y = FN_OUT(kind->a, 1, 3, 6);
            z = FN_OUT(kind->a, 1, 3, 6);
        }
        tern_weight_destroy(&w.packed);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_mlp_gemm),
        OP_TEST(test_gelu_gemm),
        OP_TEST(test_residual_add),
        OP_TEST(test_linear_heads),
        OP_TEST(test_linear_heads_refuses),
        OP_TEST(test_one_answer),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/feed_forward_dtypes", tests, NULL, NULL);
}
