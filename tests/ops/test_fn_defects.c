/* test_fn_defects.c: places where the reference's kernels go wrong, and what holds in the kernel functions instead.  Numbers
 * are those of docs/operators.md. */
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

static void test_b1_gelu_is_one_function_on_every_path(void **state)
{
    (void)state;
    const tern_tensor x = FN_IN(TERN_FP32, 2, 3, 33), zero = FN_FILLED(TERN_FP32, 0, 33);
    tern_tensor eye = FN_FILLED(TERN_FP32, 0, 33, 33), a = FN_OUT(TERN_FP32, 3, 33), b = FN_OUT(TERN_FP32, 3, 33);

    for (size_t i = 0; i < 33; i++)
        fn_put(eye.data, TERN_FP32, i * 34, 1);
    assert_ok(ctx, tern_gelu(ctx, &x, TERN_GELU_ERF, &a));
    assert_ok(ctx, tern_bias_gelu(ctx, &x, &zero, TERN_GELU_ERF, &b));
    fn_same(&b, a.data, "bias_gelu");
    assert_ok(ctx, tern_matmul(ctx, &x, &eye, NULL, "gelu", &b));
    fn_same(&b, a.data, "matmul");
}

static void test_b5_b6_b7_all_elements_of_any_row(void **state)
{
    (void)state;
    /* 33 rows with 32 to a block, widths that are no multiple of 4, rows beyond 16384. */
    static const int64_t sizes[][2] = { { 33, 100 }, { 33, 127 }, { 3, 1 }, { 2, 20001 } };

    FN_EACH_DTYPE(d)
    for (size_t s = 0; s < 4; s++) {
        const int64_t m = sizes[s][0], n = sizes[s][1];
        const tern_tensor x = FN_FILLED(d, 2, m, n), g = FN_FILLED(d, 3, n), b = FN_FILLED(d, 0.5, n);
        tern_tensor y = FN_OUT(d, m, n), sum = FN_OUT(d, m, n);
        assert_ok(ctx, tern_layer_norm(ctx, &x, &g, &b, 1e-5f, &y));
        for (size_t i = 0; i < fn_elements(&y); i++)
            assert_true(fn_at(&y, i) == 0.5);
        fn_nothing_behind(&y);
        assert_ok(ctx, tern_pre_rms_norm(ctx, &x, &x, &g, 0, &y, &sum));
        for (size_t i = 0; i < fn_elements(&y); i++)
            assert_true(fabs(fn_at(&y, i) - 3) < 1e-5 && fn_at(&sum, i) == 4);
        fn_nothing_behind(&y);
        fn_nothing_behind(&sum);
        assert_ok(ctx, tern_bias_residual(ctx, &x, &x, &b, &y));
        for (size_t i = 0; i < fn_elements(&y); i++)
            assert_true(fn_at(&y, i) == 4.5);
        fn_nothing_behind(&y);
    }
}

static void test_b8_a_mask_of_each_sequence_broadcasts(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    {
        const tern_tensor qkv = FN_IN(d, 1, 2, 5, 18);
        tern_tensor mask = FN_FILLED(d, 0, 2, 1, 1, 5), y = FN_OUT(d, 2, 5, 6);
        fn_put(mask.data, (tern_dtype)d, 7, -INFINITY); /* key 2 of the second sequence */
        assert_ok(ctx, tern_packed_attention(ctx, &qkv, 3, 0.5f, false, &mask, &y));
        const void *kept = fn_keep(&y);
        for (size_t c = 6; c < 18; c++) /* its k and v do not matter, but to itself as a query */
            fn_put(qkv.data, (tern_dtype)d, 7 * 18 + c, 9);
        assert_ok(ctx, tern_packed_attention(ctx, &qkv, 3, 0.5f, false, &mask, &y));
        fn_same(&y, kept, "a key that is hidden from its sequence");
    }
}

static void test_b9_the_largest_score_is_masked(void **state)
{
    (void)state;
    /* q.k of 400 for key 0, which the mask hides: the other key has all of the weight. */
    FN_EACH_DTYPE(d)
    {
        const tern_tensor q = FN_FILLED(d, 20, 1, 1, 1, 1);
        tern_tensor k = FN_FILLED(d, 20, 1, 1, 2, 1), v = FN_FILLED(d, 1, 1, 1, 2, 1), mask = FN_FILLED(d, -10000, 2);
        tern_tensor y = FN_OUT(d, 1, 1, 1, 1);
        fn_put(k.data, (tern_dtype)d, 1, -20);
        fn_put(v.data, (tern_dtype)d, 1, 3);
        fn_put(mask.data, (tern_dtype)d, 1, 0);
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 1, false, &mask, &y));
        assert_true(fn_at(&y, 0) == 3);
        mask = FN_FILLED(d, -INFINITY, 2);
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 1, false, &mask, &y));
        assert_true(fn_at(&y, 0) == 0);
    }
}

static void test_b10_b36_bias_and_activation_count_and_are_known(void **state)
{
    (void)state;
    static const char *const unknown[] = { "tanh", "GELU", "identity", "silu" };
    const tern_tensor a = FN_FILLED(TERN_FP16, -1, 1, 2), b = FN_FILLED(TERN_FP16, 1, 2, 1),
                      bias = FN_FILLED(TERN_FP16, -1, 1);
    tern_tensor y = FN_OUT(TERN_FP16, 1, 1);

    for (size_t i = 0; i < 4; i++) {
        assert_fails(ctx, tern_matmul(ctx, &a, &b, &bias, unknown[i], &y), TERN_ERR_ARG, "\"leaky_relu\"");
        assert_true(fn_untouched(&y));
    }
    assert_fails(ctx, tern_matmul(ctx, &a, &b, &bias, NULL, &y), TERN_ERR_ARG, "activation is NULL");
    const tern_tensor gates = FN_FILLED(TERN_FP16, 1, 1, 2);
    assert_fails(ctx, tern_gated_activation(ctx, &gates, NULL, TERN_GATE_HALVES, "", &y), TERN_ERR_ARG, "\"silu\"");
    assert_true(fn_untouched(&y));
    assert_ok(ctx, tern_matmul(ctx, &a, &b, &bias, "leaky_relu", &y));
    assert_true(fabs(fn_at(&y, 0) + 0.03) < 1e-4);
}

static void test_b11_b15_causal_holds_and_with_a_mask(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    {
        tern_tensor qkv = FN_IN(d, 1, 1, 33, 24), mask = FN_FILLED(d, 0, 33), y = FN_OUT(d, 1, 33, 8);
        fn_put(mask.data, (tern_dtype)d, 0, -INFINITY);
        assert_ok(ctx, tern_packed_attention(ctx, &qkv, 2, 0.3f, true, &mask, &y));
        for (size_t c = 0; c < 8; c++)
            assert_true(fn_at(&y, c) == 0); /* row 0 sees key 0 alone, and that is hidden */
        const void *kept = fn_keep(&y);
        for (size_t i = 8; i < 24; i++)
            fn_put(qkv.data, (tern_dtype)d, i, 5); /* hidden by the mask */
        for (size_t i = 32 * 24; i < 33 * 24; i++)
            fn_put(qkv.data, (tern_dtype)d, i, NAN); /* hidden from all but the last row by order */
        assert_ok(ctx, tern_packed_attention(ctx, &qkv, 2, 0.3f, true, &mask, &y));
        y.dim[1] = 32;
        fn_same(&y, kept, "what a causal row and its mask hide");
    }
}

static void test_b12_scores_are_scaled_before_they_are_rounded(void **state)
{
    (void)state;
    /* 64 products of 40 * 40 are 102400, beyond fp16; an eighth of it is 12800. */
    const tern_tensor qkv = FN_FILLED(TERN_FP16, 40, 1, 2, 192);
    tern_tensor y = FN_OUT(TERN_FP16, 1, 1, 2, 2);

    assert_ok(ctx, tern_score_4d_matmul(ctx, &qkv, 64, 0.125f, false, &y));
    for (size_t i = 0; i < 4; i++)
        assert_true(fn_at(&y, i) == 12800);
}

static void test_b13_the_mask_counts_whole(void **state)
{
    (void)state;
    /* Equal scores, a mask of ln 3: weights 3/4 and 1/4. */
    const tern_tensor q = FN_FILLED(TERN_FP32, 0, 1, 1, 1, 1), k = FN_FILLED(TERN_FP32, 0, 1, 1, 2, 1);
    tern_tensor v = FN_FILLED(TERN_FP32, 4, 1, 1, 2, 1), mask = FN_FILLED(TERN_FP32, log(3), 2),
                y = FN_OUT(TERN_FP32, 1, 1, 1, 1);

    fn_put(v.data, TERN_FP32, 1, 0);
    fn_put(mask.data, TERN_FP32, 1, 0);
    assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 1, false, &mask, &y));
    assert_true(fabs(fn_at(&y, 0) - 3) < 1e-6);
}

static void test_b14_b16_any_number_of_keys(void **state)
{
    (void)state;
    /* NaN directly behind keys and mask: nothing of it is read.  All values alike: their average is the value. */
    FN_EACH_DTYPE(d)
    for (int64_t t = 1; t < 140; t += t < 40 ? 1 : 9) {
        tern_tensor q = FN_IN(d, 1, 1, 1, t, 5), k = FN_IN(d, 1, 1, 1, t + 1, 5), v = FN_FILLED(d, 1.5, 1, 1, t + 1, 5);
        tern_tensor mask = FN_IN(d, 1, t + 1), y = FN_OUT(d, 1, 1, t, 5);
        fn_put(mask.data, (tern_dtype)d, (size_t)t, NAN);
        for (size_t c = 0; c < 5; c++) {
            fn_put(k.data, (tern_dtype)d, (size_t)(5 * t) + c, NAN);
            fn_put(v.data, (tern_dtype)d, (size_t)(5 * t) + c, NAN);
        }
        k.dim[2] = v.dim[2] = mask.dim[0] = t;
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 0.5f, false, &mask, &y));
        for (size_t i = 0; i < fn_elements(&y); i++)
            assert_true(fabs(fn_at(&y, i) - 1.5) < 1e-5 + fn_half_ulp((tern_dtype)d, 1.5));
        fn_nothing_behind(&y);
        test_teardown(NULL);
    }
}

static void test_b17_a_mask_of_another_type_or_size_is_an_error(void **state)
{
    (void)state;
    const tern_tensor qkv = FN_IN(TERN_FP16, 1, 2, 5, 18);
    const tern_tensor masks[] = { FN_OUT(TERN_FP8_E4M3, 5), FN_OUT(TERN_FP64, 5), FN_OUT(TERN_BF16, 5) };
    const tern_tensor sizes[] = { FN_IN(TERN_FP16, 1, 4), FN_IN(TERN_FP16, 1, 3, 5),
                                  FN_IN(TERN_FP16, 1, 1, 1, 1, 1, 5) };
    tern_tensor y = FN_OUT(TERN_FP16, 2, 5, 6);

    for (size_t i = 0; i < 3; i++) {
        assert_fails(ctx, tern_packed_attention(ctx, &qkv, 3, 1, false, &masks[i], &y), TERN_ERR_DTYPE, "mask is");
        assert_fails(ctx, tern_packed_attention(ctx, &qkv, 3, 1, false, &sizes[i], &y), TERN_ERR_SHAPE, "mask is");
    }
    assert_true(fn_untouched(&y));
}

static void test_b21_b30_every_padded_row_in_every_dtype(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    {
        const tern_tensor q = FN_IN(d, 1, 2, 76, 120), k = FN_IN(d, 1, 2, 77, 120), v = FN_IN(d, 1, 2, 77, 120);
        const int64_t wide = tern_pad_head_size(40);
        tern_tensor out[] = { FN_OUT(d, 2, 3, 77, wide), FN_OUT(d, 2, 3, 77, wide), FN_OUT(d, 2, 3, 129, wide) };
        const tern_tensor *const in[] = { &q, &k, &v };
        assert_int_equal(wide, 64);
        assert_ok(ctx, tern_pad_transform(ctx, &q, &k, &v, 3, &out[0], &out[1], &out[2]));
        for (size_t p = 0; p < 3; p++) {
            const size_t rows = (size_t)out[p].dim[2], from = (size_t)in[p]->dim[1];
            for (size_t i = 0; i < fn_elements(&out[p]); i++) {
                const size_t c = i % 64, s = i / 64 % rows, n = i / 64 / rows % 3, b = i / 64 / rows / 3;
                const double want = s < from && c < 40 ? fn_at(in[p], (b * from + s) * 120 + n * 40 + c) : 0;
                assert_true(fn_at(&out[p], i) == want);
            }
            fn_nothing_behind(&out[p]);
        }
        assert_ok(ctx, tern_pad_transform(ctx, &q, NULL, NULL, 3, &out[0], NULL, NULL));
        assert_fails(ctx, tern_pad_transform(ctx, &q, &k, NULL, 3, &out[0], NULL, NULL), TERN_ERR_ARG, "key_output");
    }
    assert_int_equal(tern_pad_head_size(16), 32);
    assert_int_equal(tern_pad_head_size(32), 64);
    assert_int_equal(tern_pad_head_size(64), 64);
    assert_int_equal(tern_pad_head_size(80), 128);
    assert_int_equal(tern_pad_head_size(192), 192);
    assert_int_equal(tern_pad_head_size(200), 200);
}

static void test_b31_bias_residual_adds(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    {
        tern_tensor x = FN_FILLED(d, 1, 3, 5), y = FN_OUT(d, 3, 5);
        const tern_tensor r = FN_FILLED(d, 2, 3, 5), b = FN_FILLED(d, 4, 5);
        assert_ok(ctx, tern_bias_residual(ctx, &x, &r, &b, &y));
        assert_ok(ctx, tern_bias_residual(ctx, &x, &r, NULL, &x));
        for (size_t i = 0; i < 15; i++)
            assert_true(fn_at(&y, i) == 7 && fn_at(&x, i) == 3);
    }
}

static void test_b54_b55_b56_a_pair_turns_once_from_its_old_values(void **state)
{
    (void)state;
    /* One quarter turn and a bit: angle 1 for the first pair at position 1.  Heads of 80 with neighbours of other values. */
    FN_EACH_DTYPE(d)
    for (int two = 0; two < 2; two++)
        for (int32_t rot = 2; rot <= 80; rot += 26) {
            tern_tensor x = FN_FILLED(d, 0, 1, 3, 80), y = FN_OUT(d, 1, 3, 80);
            const int32_t one = 1;
            const tern_tensor at = fn_ints(&one, (int64_t[]){ 1, -1 });
            const size_t second = two ? 1 : (size_t)rot / 2;
            fn_put(x.data, (tern_dtype)d, 80, 1);          /* head 1: a = 1 */
            fn_put(x.data, (tern_dtype)d, 80 + second, 2); /* b = 2 */
            assert_ok(ctx, tern_rotary(ctx, &x, &at, rot, 10000, two, &y));
            for (size_t i = 0; i < 240; i++) {
                const double want = i == 80 ? cos(1) - 2 * sin(1) : i == 80 + second ? 2 * cos(1) + sin(1) : 0;
                assert_true(fabs(fn_at(&y, i) - want) <= 3e-7 + fn_half_ulp((tern_dtype)d, want));
            }
            fn_nothing_behind(&y);
        }
}

static void test_b62_gating_is_the_same_each_time_and_takes_negative_logits(void **state)
{
    (void)state;
    tern_tensor logits = FN_FILLED(TERN_FP16, -3, 512, 64), scores = FN_OUT(TERN_FP32, 512, 3);
    tern_tensor experts = FN_OUT(TERN_INT32, 512, 3), slots = FN_OUT(TERN_INT32, 512, 3),
                counts = FN_OUT(TERN_INT32, 64);

    for (int repeat = 0; repeat < 20; repeat++) {
        assert_ok(ctx, tern_top_k_gating(ctx, &logits, 3, NULL, &scores, &experts, &slots, &counts));
        for (size_t i = 0; i < 512 * 3; i++) { /* ties go to the lower index; counts were not zero before */
            assert_int_equal(((int32_t *)experts.data)[i], i % 3);
            assert_int_equal(((int32_t *)slots.data)[i], i / 3);
            assert_true(fabs(fn_at(&scores, i) - 1.0 / 64) < 1e-8);
        }
        for (size_t e = 0; e < 64; e++)
            assert_int_equal(((int32_t *)counts.data)[e], e < 3 ? 512 : 0);
    }
    fn_put(logits.data, TERN_FP16, 5, -1);
    fn_put(logits.data, TERN_FP16, 0, NAN);
    fn_put(logits.data, TERN_FP16, 9, -2);
    assert_ok(ctx, tern_top_k_gating(ctx, &logits, 3, NULL, &scores, &experts, &slots, &counts));
    assert_int_equal(((int32_t *)experts.data)[0], 5);
    assert_int_equal(((int32_t *)experts.data)[1], 9);
    assert_int_equal(((int32_t *)experts.data)[2], 1);
    assert_fails(ctx, tern_top_k_gating(ctx, &logits, 65, NULL, &scores, &experts, &slots, &counts), TERN_ERR_ARG,
                 "k is 65");
    assert_fails(ctx, tern_top_k_gating(ctx, &logits, 0, NULL, &scores, &experts, &slots, &counts), TERN_ERR_ARG,
                 "k is 0");
}

static void test_b72_coefficients_in_the_order_of_training(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    {
        const tern_tensor dense = FN_FILLED(d, 1, 2, 3), experts = FN_FILLED(d, 10, 2, 3);
        tern_tensor pair = FN_FILLED(d, 2, 2, 2), shared = FN_FILLED(d, 4, 6), y = FN_OUT(d, 2, 3);
        fn_put(pair.data, (tern_dtype)d, 1, 3); /* token 0: 2 of the experts, 3 of the dense MLP; token 1: 2 and 2 */
        assert_ok(ctx, tern_moe_res_matmul(ctx, &dense, &pair, &experts, &y));
        for (size_t i = 0; i < 6; i++)
            assert_true(fn_at(&y, i) == (i < 3 ? 23 : 22));
        fn_put(shared.data, (tern_dtype)d, 3, 5); /* channel 0 of the experts */
        assert_ok(ctx, tern_moe_res_matmul(ctx, &dense, &shared, &experts, &y));
        for (size_t i = 0; i < 6; i++)
            assert_true(fn_at(&y, i) == (i % 3 == 0 ? 54 : 44));
    }
}

/* Numbers that point outside of what they point into. */
static void test_indices_out_of_range_are_errors_with_their_place(void **state)
{
    (void)state;
    const tern_tensor table = FN_IN(TERN_FP16, 1, 7, 4), places = FN_IN(TERN_FP16, 1, 4, 4);
    const int32_t bad_id[] = { 1, 7 }, negative[] = { 0, -1 }, good[] = { 3, 0 };
    const tern_tensor id = fn_ints(bad_id, (int64_t[]){ 2, -1 }), minus = fn_ints(negative, (int64_t[]){ 2, -1 }),
                      fine = fn_ints(good, (int64_t[]){ 2, -1 });
    tern_tensor y = FN_OUT(TERN_FP16, 2, 4);

    assert_fails(ctx, tern_embedding(ctx, &id, &table, NULL, NULL, 0, &y), TERN_ERR_ARG, "ids[1] is 7, expected 0..6");
    assert_fails(ctx, tern_embedding(ctx, &minus, &table, NULL, NULL, 0, &y), TERN_ERR_ARG, "ids[1] is -1");
    assert_fails(ctx, tern_embedding(ctx, &fine, &table, &places, &fine, 2, &y), TERN_ERR_ARG, "position_ids[0] is 3");
    assert_fails(ctx, tern_embedding(ctx, &fine, &table, &places, &fine, INT64_MAX, &y), TERN_ERR_ARG, "position_ids");
    assert_fails(ctx, tern_logits_gather(ctx, &table, &id, &y), TERN_ERR_ARG, "lengths[1] is 7, expected 1..6");
    assert_fails(ctx, tern_logits_gather(ctx, &table, &fine, &y), TERN_ERR_ARG, "lengths[1] is 0");
    const tern_tensor heads = FN_IN(TERN_FP16, 1, 2, 1, 4);
    tern_tensor turned = FN_OUT(TERN_FP16, 2, 1, 4);
    assert_fails(ctx, tern_rotary(ctx, &heads, &minus, 4, 10000, true, &turned), TERN_ERR_ARG, "position_ids[1] is -1");
    assert_fails(ctx, tern_rotary(ctx, &heads, &fine, 3, 10000, true, &turned), TERN_ERR_ARG, "rotary_dim is 3");
    assert_fails(ctx, tern_rotary(ctx, &heads, &fine, 6, 10000, true, &turned), TERN_ERR_ARG, "rotary_dim is 6");
    assert_fails(ctx, tern_rotary(ctx, &heads, &fine, 4, 1, true, &turned), TERN_ERR_ARG, "theta is 1");

    const int32_t descending[] = { 2, 1 }, beyond[] = { 2, 8 };
    const tern_tensor down = fn_ints(descending, (int64_t[]){ 2, -1 }), far = fn_ints(beyond, (int64_t[]){ 2, -1 });
    const tern_tensor weight = FN_IN(TERN_FP16, 1, 2, 4, 3);
    tern_tensor product = FN_OUT(TERN_FP16, 7, 3);
    assert_fails(ctx, tern_moe_gemm(ctx, &table, &weight, NULL, &down, "", &product), TERN_ERR_ARG, "row_ends[1] is 1");
    assert_fails(ctx, tern_moe_gemm(ctx, &table, &weight, NULL, &far, "", &product), TERN_ERR_ARG, "row_ends[1] is 8");
    assert_fails(ctx, tern_moe_gemm(ctx, &table, &weight, NULL, &far, "sigmoid", &product), TERN_ERR_ARG, "row_ends");

    const int32_t e[] = { 0, 0 }, same[] = { 1, 1 }, count[] = { 2 }, outside[] = { 0, 2 }, none[] = { 0, 3 };
    const tern_tensor two = FN_IN(TERN_FP16, 1, 2, 4), expert = fn_ints(e, (int64_t[]){ 2, 1, -1 });
    const tern_tensor twice = fn_ints(same, (int64_t[]){ 2, 1, -1 }), over = fn_ints(outside, (int64_t[]){ 2, 1, -1 });
    const tern_tensor unknown = fn_ints(none, (int64_t[]){ 2, 1, -1 }), counts = fn_ints(count, (int64_t[]){ 1, -1 });
    tern_tensor moved = FN_OUT(TERN_FP16, 2, 4), few = FN_OUT(TERN_FP16, 1, 4), mapped = FN_OUT(TERN_INT32, 2, 1);
    tern_tensor ends = FN_OUT(TERN_INT64, 1);
    assert_fails(ctx, tern_moe_scatter(ctx, &two, &expert, &twice, &counts, &moved, &mapped, &ends), TERN_ERR_ARG,
                 "a second time");
    assert_fails(ctx, tern_moe_scatter(ctx, &two, &expert, &over, &counts, &moved, &mapped, &ends), TERN_ERR_ARG,
                 "slots has 2");
    assert_fails(ctx, tern_moe_scatter(ctx, &two, &unknown, &twice, &counts, &moved, &mapped, &ends), TERN_ERR_ARG,
                 "experts has 3");
    assert_fails(ctx, tern_moe_scatter(ctx, &two, &expert, &over, &counts, &few, &mapped, &ends), TERN_ERR_SHAPE,
                 "the sum of counts");
    assert_true(fn_untouched(&y) && fn_untouched(&turned) && fn_untouched(&product) && fn_untouched(&moved));
    assert_true(fn_untouched(&few) && fn_untouched(&mapped) && fn_untouched(&ends));
}

/* Strides of a product's operands: broadcast, gaps, and what is refused. */
static void test_matmul_strides(void **state)
{
    (void)state;
    const tern_tensor x = FN_IN(TERN_FP16, 1, 6, 10), w = FN_IN(TERN_FP16, 1, 10, 3);
    tern_tensor a = x, y = FN_OUT(TERN_FP16, 3, 3), z = FN_OUT(TERN_FP16, 3, 3);

    a.dim[0] = 3; /* every second row, every second column */
    a.dim[1] = 5;
    a.stride[0] = 20;
    a.stride[1] = 2;
    tern_tensor b = w, dense = FN_OUT(TERN_FP16, 3, 5);
    b.dim[0] = 5;
    for (size_t i = 0; i < 15; i++)
        fn_put(dense.data, TERN_FP16, i, fn_at(&x, i / 5 * 20 + i % 5 * 2));
    assert_ok(ctx, tern_matmul(ctx, &a, &b, NULL, "", &y));
    assert_ok(ctx, tern_matmul(ctx, &dense, &b, NULL, "", &z));
    fn_same(&y, z.data, "a with gaps");
    a.stride[0] = 0; /* one row three times */
    assert_ok(ctx, tern_matmul(ctx, &a, &b, NULL, "", &y));
    for (size_t i = 0; i < 9; i++)
        assert_true(fn_at(&y, i) == fn_at(&y, i % 3) && fn_at(&y, i % 3) == fn_at(&z, i % 3));
    a.stride[0] = -20;
    assert_fails(ctx, tern_matmul(ctx, &a, &b, NULL, "", &y), TERN_ERR_SHAPE, "stride -20");
    a.stride[0] = INT64_MAX;
    assert_fails(ctx, tern_matmul(ctx, &a, &b, NULL, "", &y), TERN_ERR_SHAPE, "more than memory can hold");
    tern_tensor c3 = FN_OUT(TERN_FP16, 2, 2, 3);
    a = tern_tensor_view(x.data, TERN_FP16, 3, (int64_t[]){ 2, 2, 10 });
    a.stride[0] = 30;
    assert_fails(ctx, tern_matmul(ctx, &a, &w, NULL, "", &c3), TERN_ERR_SHAPE, "flatten");
    a.stride[0] = 20;
    assert_ok(ctx, tern_matmul(ctx, &a, &w, NULL, "", &c3));
}

/* Overflow of the storage type is infinity, and what fits in fp32 on the way does not overflow early. */
static void test_one_rounding(void **state)
{
    (void)state;
    const tern_tensor x = FN_FILLED(TERN_FP16, 60000, 1, 2), b = FN_FILLED(TERN_FP16, 60000, 2),
                      r = FN_FILLED(TERN_FP16, -60000, 1, 2);
    tern_tensor y = FN_OUT(TERN_FP16, 1, 2);

    assert_ok(ctx, tern_bias_add(ctx, &x, &b, &y));
    assert_true(isinf(fn_at(&y, 0)));
    const tern_tensor minus = FN_FILLED(TERN_FP16, -1, 2);
    tern_tensor sum = FN_OUT(TERN_FP16, 1, 2);
    assert_ok(ctx, tern_layer_norm_residual(ctx, &x, &b, &r, &minus, NULL, 1, &y, &sum));
    assert_true(fn_at(&sum, 0) == 60000 && fn_at(&sum, 1) == 60000 && fn_at(&y, 0) == 0);
    const tern_tensor w = FN_FILLED(TERN_FP16, 2, 2, 1), low = FN_FILLED(TERN_FP16, -60000, 1);
    tern_tensor c = FN_OUT(TERN_FP16, 1, 1);
    const tern_tensor half = FN_FILLED(TERN_FP16, 20000, 1, 2);
    assert_ok(ctx, tern_matmul(ctx, &half, &w, &low, "", &c)); /* 80000 - 60000 */
    assert_true(fn_at(&c, 0) == 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_b1_gelu_is_one_function_on_every_path),
        OP_TEST(test_b5_b6_b7_all_elements_of_any_row),
        OP_TEST(test_b8_a_mask_of_each_sequence_broadcasts),
        OP_TEST(test_b9_the_largest_score_is_masked),
        OP_TEST(test_b10_b36_bias_and_activation_count_and_are_known),
        OP_TEST(test_b11_b15_causal_holds_and_with_a_mask),
        OP_TEST(test_b12_scores_are_scaled_before_they_are_rounded),
        OP_TEST(test_b13_the_mask_counts_whole),
        OP_TEST(test_b14_b16_any_number_of_keys),
        OP_TEST(test_b17_a_mask_of_another_type_or_size_is_an_error),
        OP_TEST(test_b21_b30_every_padded_row_in_every_dtype),
        OP_TEST(test_b31_bias_residual_adds),
        OP_TEST(test_b54_b55_b56_a_pair_turns_once_from_its_old_values),
        OP_TEST(test_b62_gating_is_the_same_each_time_and_takes_negative_logits),
        OP_TEST(test_b72_coefficients_in_the_order_of_training),
        OP_TEST(test_indices_out_of_range_are_errors_with_their_place),
        OP_TEST(test_matmul_strides),
        OP_TEST(test_one_rounding),
    };
    return cmocka_run_group_tests_name("ops/fn_defects", tests, setup, end);
}
