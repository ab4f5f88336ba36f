/* test_edges.c: sizes at their edges, and a caller with a rounding mode of its own. */
#include "ops/fn_testing.h"

#include <fenv.h>

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

/* A shape with a 0 in it holds no numbers, however large its other sizes are: a file of a few bytes can say so. */
static void test_rows_without_columns_are_not_walked(void **state)
{
    static const int64_t many[] = { (int64_t)1 << 40, (int64_t)1 << 58 };
    const tern_tensor scale = FN_IN(TERN_FP32, 1, 1);
    char nothing[64] __attribute__((aligned(64)));

    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (int int8 = 0; int8 < 2; int8++) {
            const tern_dtype dtype = int8 ? TERN_FP32 : TERN_BF16, raw = int8 ? TERN_INT8 : TERN_BF16;
            tern_config config = test_config();
            config.dtype = raw;
            config.activation_dtype = TERN_FP32;
            config.activation_quant = int8 ? TERN_QUANT_ROW : TERN_QUANT_NONE;
            const tern_tensor x = tern_tensor_view(nothing, dtype, 2, (int64_t[]){ many[i], 0 });
            const tern_tensor w = tern_tensor_view(nothing, raw, 2, (int64_t[]){ 0, 0 });
            tern_tensor y = x, given = w;
            tern_weight *packed = NULL;
            if (int8) {
                assert_ok(ctx, tern_weight_pack_as(ctx, &w, false, TERN_INT8, &scale, &packed));
                given = tern_weight_view(packed);
            }
            assert_ok(ctx, tern_residual_add(ctx, &config, &x, &x, NULL, NULL, NULL, NULL, &y));
            assert_ok(ctx, tern_linear(ctx, &config, &x, &given, NULL, &y));
            assert_ok(ctx, tern_vector_matmul(ctx, &config, &x, &given, &y));
            assert_ok(ctx, tern_gelu_gemm(ctx, &config, &x, &given, NULL, &given, &y));
            if (int8) {
                const tern_tensor each = tern_tensor_view(nothing, TERN_INT8, 3, (int64_t[]){ 1, 0, 0 });
                const tern_tensor ends = tern_tensor_view((void *)(uintptr_t)&many[i], TERN_INT64, 1, &(int64_t){ 1 });
                assert_ok(ctx, tern_matmul_int8(ctx, &x, &w, &scale, TERN_QUANT_ROW, NULL, "", &y));
                assert_ok(ctx, tern_moe_gemm_int8(ctx, &x, &each, &scale, TERN_QUANT_ROW, NULL, &ends, "", &y));
            }
            tern_weight_destroy(&packed);
        }
}

/* G scales for each expert are G scales, as a row or in a shape of their own. */
static void test_scales_of_experts_in_any_shape(void **state)
{
    static const int64_t ends[] = { 2, 3 };
    const tern_tensor x = FN_IN(TERN_FP32, 1, 3, 5), scale = FN_IN(TERN_FP32, 1, 2, 6);
    tern_tensor codes = FN_OUT(TERN_INT8, 2, 5, 6), want = FN_OUT(TERN_FP32, 3, 6), got = FN_OUT(TERN_FP32, 3, 6);

    (void)state;
    for (size_t i = 0; i < 60; i++)
        ((int8_t *)codes.data)[i] = (int8_t)(7 * i % 255 - 127);
    for (int64_t experts = 1; experts <= 2; experts++) {
        const tern_tensor w = tern_tensor_view(codes.data, TERN_INT8, 3, (int64_t[]){ experts, 5, 6 });
        const tern_tensor row_ends = tern_tensor_view((void *)(uintptr_t)&ends[2 - experts], TERN_INT64, 1, &experts);
        const tern_tensor rows = tern_tensor_view(scale.data, TERN_FP32, 2, (int64_t[]){ experts, 6 });
        const tern_tensor shapes[] = {
            tern_tensor_view(scale.data, TERN_FP32, 3, (int64_t[]){ experts, 2, 3 }),
            tern_tensor_view(scale.data, TERN_FP32, 3, (int64_t[]){ experts, 6, 1 }),
            tern_tensor_view(scale.data, TERN_FP32, 1, (int64_t[]){ 6 }),
            tern_tensor_view(scale.data, TERN_FP32, 2, (int64_t[]){ 6, 1 }),
        };
        assert_ok(ctx, tern_moe_gemm_int8(ctx, &x, &w, &rows, TERN_QUANT_NONE, NULL, &row_ends, "", &want));
        for (size_t i = 0; i < (experts == 1 ? 4 : 2); i++) {
            assert_ok(ctx, tern_moe_gemm_int8(ctx, &x, &w, &shapes[i], TERN_QUANT_NONE, NULL, &row_ends, "", &got));
            fn_same(&got, want.data, "scales in another shape");
        }
        if (experts == 2)
            assert_fails(ctx, tern_moe_gemm_int8(ctx, &x, &w, &shapes[2], TERN_QUANT_NONE, NULL, &row_ends, "", &got),
                         TERN_ERR_SHAPE, "a row of scales for each of 2 matrices");
    }
}

/* Without an expert no row is anyone's. */
static void test_no_experts_write_nothing(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    {
        const tern_tensor x = FN_IN(d, 1, 3, 5), w = FN_OUT(d, 0, 5, 6), codes = FN_OUT(TERN_INT8, 0, 5, 6);
        const tern_tensor scale = FN_OUT(TERN_FP32, 0, 6), ends = FN_OUT(TERN_INT64, 0);
        tern_tensor y = FN_OUT(d, 3, 6);
        assert_ok(ctx, tern_moe_gemm(ctx, &x, &w, NULL, &ends, "", &y));
        for (int quant = TERN_QUANT_NONE; quant <= TERN_QUANT_ROW; quant++)
            assert_ok(ctx,
                      tern_moe_gemm_int8(ctx, &x, &codes, &scale, (tern_activation_quant)quant, NULL, &ends, "", &y));
        assert_true(fn_untouched(&y));
    }
}

/* Integer sums end at 131072 elements: a longer row is an error, and no product of another kind. */
static void test_rows_too_long_to_add_up(void **state)
{
    static const int64_t end = 1;
    const tern_tensor scale = FN_IN(TERN_FP32, 1, 1),
                      row_ends = tern_tensor_view((void *)(uintptr_t)&end, TERN_INT64, 1, &end);

    (void)state;
    for (int64_t k = 131072; k <= 131073; k++) {
        const tern_tensor x = FN_FILLED(TERN_FP32, 1, 1, k);
        tern_tensor w = FN_OUT(TERN_INT8, k, 1), y = FN_OUT(TERN_FP32, 1, 1), z = FN_OUT(TERN_FP32, 1, 1);
        tern_tensor each = tern_tensor_view(w.data, TERN_INT8, 3, (int64_t[]){ 1, k, 1 });
        memset(w.data, 1, (size_t)k);
        const tern_status status[] = {
            tern_matmul_int8(ctx, &x, &w, &scale, TERN_QUANT_ROW, NULL, "", &y),
            tern_moe_gemm_int8(ctx, &x, &each, &scale, TERN_QUANT_ROW, NULL, &row_ends, "", &z),
        };
        for (int i = 0; i < 2; i++)
            assert_int_equal(status[i], k == 131072 ? TERN_OK : TERN_ERR_UNSUPPORTED);
        if (k > 131072) {
            assert_non_null(strstr(tern_error(ctx), "rows have 131073 values"));
            assert_true(fn_untouched(&y) && fn_untouched(&z));
        }
    }
}

/* The largest sum there is: 131072 codes of -128 times a row of -127 is 127 * 2^24, and what it starts from is 2^31. */
static void test_the_largest_integer_sum(void **state)
{
    enum { K = 131072 };
    const tern_tensor x = FN_FILLED(TERN_FP32, -1, 1, K), scale = FN_FILLED(TERN_FP32, 1, 1);
    tern_tensor w = FN_OUT(TERN_INT8, K, 1), y = FN_OUT(TERN_FP32, 1, 1);

    (void)state;
    memset(w.data, -128, K);
    assert_ok(ctx, tern_matmul_int8(ctx, &x, &w, &scale, TERN_QUANT_ROW, NULL, "", &y));
    assert_true(fabs(fn_at(&y, 0) - 0x1p24) <= 2);
    assert_ok(ctx, tern_matmul_int8(ctx, &x, &w, &scale, TERN_QUANT_NONE, NULL, "", &y));
    assert_true(fn_at(&y, 0) == 0x1p24);
}

static void divided(const tern_tensor *x, tern_tensor *y)
{
    assert_ok(ctx, tern_residual_add_bias(ctx, x, x, NULL, NULL, NULL, 3, true, true, false, y));
}

static void scored(const tern_tensor *qkv, tern_tensor *scores)
{
    tern_config config = test_config();
    tern_op_params params = tern_op_params_default();
    tern_tensor in = *qkv;
    const tern_op_io io[] = { { "qkv", &in }, { "output", scores } };
    tern_op *op;

    params.head_size = 6;
    assert_ok(ctx, tern_op_create(ctx, "score_4d_matmul", &config, &op));
    assert_ok(ctx, tern_op_run(ctx, op, io, 2, &(tern_op_call){ .params = &params }));
    tern_op_destroy(&op);
}

/* By name with the scale unset; y is like the values. */
static void attended(const char *name, const tern_tensor *x, int32_t num_heads, tern_tensor *y)
{
    tern_op_io io[] = { { num_heads ? "qkv" : "q", (tern_tensor *)x },
                        { "output", y },
                        { "k", (tern_tensor *)x },
                        { "v", (tern_tensor *)x } };
    tern_op_params params = tern_op_params_default();
    const tern_config config = test_config();
    tern_op *op;

    params.num_heads = num_heads;
    assert_ok(ctx, tern_op_create(ctx, name, &config, &op));
    assert_ok(ctx, tern_op_run(ctx, op, io, num_heads ? 2 : 4, &(tern_op_call){ .params = &params }));
    tern_op_destroy(&op);
}

static void test_an_unset_scale_is_one_by_name_and_typed_in_every_rounding_mode(void **state)
{
    static const int modes[] = { FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    const tern_tensor qkv = FN_IN(TERN_FP32, 1, 1, 5, 36), q = FN_IN(TERN_FP32, 1, 1, 2, 5, 6);
    tern_tensor packed = FN_OUT(TERN_FP32, 1, 5, 12), apart = FN_OUT(TERN_FP32, 1, 2, 5, 6);
    tern_tensor p = FN_OUT(TERN_FP32, 1, 5, 12), a = FN_OUT(TERN_FP32, 1, 2, 5, 6);

    (void)state;
    const float scale = (float)(1 / sqrt(6.0));
    assert_ok(ctx, tern_packed_attention(ctx, &qkv, 2, scale, false, NULL, &packed));
    assert_ok(ctx, tern_unpacked_attention(ctx, &q, &q, &q, scale, false, NULL, &apart));
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        fesetround(modes[i]);
        attended("packed_attention", &qkv, 2, &p);
        attended("unpacked_attention", &q, 0, &a);
        fesetround(FE_TONEAREST);
        fn_same(&p, packed.data, "packed_attention");
        fn_same(&a, apart.data, "unpacked_attention");
        assert_ok(ctx, tern_packed_attention(ctx, &qkv, 2, NAN, false, NULL, &p));
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &q, &q, NAN, false, NULL, &a));
        fn_same(&p, packed.data, "packed_attention, typed");
        fn_same(&a, apart.data, "unpacked_attention, typed");
    }
}

/* Attention over a cache of its own, one head of 6 channels. */
static void attended_in_cache(const tern_config *config, float scale, const tern_tensor *qkv, tern_tensor *y)
{
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 1, .head_dim = 6, .n_positions = 64, .n_sequences = 1, .n_context = 64
    };
    tern_attention_options options = tern_attention_options_default();
    tern_kv_span span = { .n_rows = 5 };
    tern_tensor rows = *qkv;
    tern_kv_cache *cache;

    options.scale = scale;
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_ok(ctx, tern_softmax_context(ctx, config, &options, &rows, NULL, NULL, cache, 0, &span, 1, y));
    tern_kv_cache_destroy(&cache);
}

static void test_the_scale_of_a_config_is_rounded_to_nearest(void **state)
{
    static const int modes[] = { FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    const tern_tensor qkv = FN_IN(TERN_FP32, 1, 5, 18);
    tern_tensor want = FN_OUT(TERN_FP32, 5, 6), y = FN_OUT(TERN_FP32, 5, 6);

    (void)state;
    for (int form = 0; form < 5; form++) {
        tern_config c = test_config();
        c.hidden_size = 6;
        c.heads = 1;
        c.use_mup = form & 1;
        c.scale_attn_by_inverse_layer_idx = form & 2;
        c.layer_id = 2;
        c.bigscience_bloom = form == 4;
        const double plain = (form & 1 ? 1 / 6.0 : 1 / sqrt(6.0)) / (form & 2 ? 3 : 1);
        attended_in_cache(&c, (float)plain, &qkv, &want);
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
            fesetround(modes[i]);
            attended_in_cache(&c, NAN, &qkv, &y);
            fesetround(FE_TONEAREST);
            fn_same(&y, want.data, "softmax_context");
        }
    }
}

/* Heads without channels have scores of 0 and no scale of their own: with one that is given, the mean of the values. */
static void test_heads_without_channels_make_no_nan(void **state)
{
    float nothing[1] = { 0 }, values[] = { 1, 2, 3, 6 }, out[2] = { 7, 7 };
    const tern_tensor q = tern_tensor_view(nothing, TERN_FP32, 4, (int64_t[]){ 1, 1, 2, 0 });
    const tern_tensor v = tern_tensor_view(values, TERN_FP32, 4, (int64_t[]){ 1, 1, 4, 1 });
    const tern_tensor k = tern_tensor_view(nothing, TERN_FP32, 4, (int64_t[]){ 1, 1, 4, 0 });
    tern_tensor y = tern_tensor_view(out, TERN_FP32, 4, (int64_t[]){ 1, 1, 2, 1 });

    (void)state;
    assert_fails(ctx, tern_unpacked_attention(ctx, &q, &k, &v, NAN, false, NULL, &y), TERN_ERR_ARG,
                 "scale is unset and q is [1, 1, 2, 0]");
    assert_true(out[0] == 7 && out[1] == 7);
    assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 1, false, NULL, &y));
    assert_true(out[0] == 3 && out[1] == 3);
}

/* What is worked out once for a call is worked out in no mode of the caller's either. */
static void test_no_rounding_mode_but_to_nearest(void **state)
{
    static const int modes[] = { FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    const tern_tensor x = FN_IN(TERN_FP32, 1, 4, 33), qkv = FN_IN(TERN_FP32, 1, 1, 5, 36);
    tern_tensor sum[2], scores[2];

    (void)state;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        const size_t to = i > 0;
        sum[to] = FN_OUT(TERN_FP32, 4, 33);
        scores[to] = FN_OUT(TERN_FP32, 1, 2, 5, 5);
        fesetround(modes[i]);
        divided(&x, &sum[to]);
        scored(&qkv, &scores[to]);
        fesetround(FE_TONEAREST);
        fn_same(&sum[to], sum[0].data, "residual_add_bias");
        fn_same(&scores[to], scores[0].data, "score_4d_matmul");
    }
    /* The scale is that of the typed call, 1 / sqrt(6) rounded once. */
    assert_ok(ctx, tern_score_4d_matmul(ctx, &qkv, 6, (float)(1 / sqrt(6.0)), false, &scores[1]));
    fn_same(&scores[1], scores[0].data, "score_4d_matmul with its scale");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_rows_without_columns_are_not_walked),
        OP_TEST(test_scales_of_experts_in_any_shape),
        OP_TEST(test_no_experts_write_nothing),
        OP_TEST(test_rows_too_long_to_add_up),
        OP_TEST(test_the_largest_integer_sum),
        OP_TEST(test_an_unset_scale_is_one_by_name_and_typed_in_every_rounding_mode),
        OP_TEST(test_the_scale_of_a_config_is_rounded_to_nearest),
        OP_TEST(test_heads_without_channels_make_no_nan),
        OP_TEST(test_no_rounding_mode_but_to_nearest),
    };
    return cmocka_run_group_tests_name("ops/edges", tests, setup, end);
}
