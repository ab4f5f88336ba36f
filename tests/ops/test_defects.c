/* test_defects.c: places where the reference goes wrong, and what holds here instead.  Numbers are those of docs/operators.md. */
#include "ops/op_testing.h"

#include <stdio.h>

static tern_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

/* ---- feed-forward ---- */

static float *mlp(const tern_config *config, size_t m, size_t h, size_t up, float *x, float *r, float *w1, float *w2,
                  float *b, float *g)
{
    const bool gated = config->mlp_act_func_type >= TERN_GATED_GELU;
    float *y = test_poison(m * h);
    const tern_tensor input = t2(x, m, h), residual = t2(r, m, h), weight = t2(w1, h, up),
                      weight_out = t2(w2, gated ? up / 2 : up, h);
    const tern_tensor bias = t1(b, up), gamma = t1(g, h);
    tern_tensor output = t2(y, m, h);

    assert_ok(ctx, tern_mlp_gemm(ctx, config, &input, &residual, &weight, &weight_out, NULL, &bias, &gamma, NULL,
                                 &output, NULL));
    return y;
}

static void test_b2_activation_is_the_same_on_every_path(void **state)
{
    (void)state;
    const size_t m = 3, h = 16, up = 24;
    float *x = test_floats(m * h, 1), *r = test_floats(m * h, 1), *w1 = test_floats(h * up, 1),
          *w2 = test_floats(up * h, 1);
    float *b = test_floats(up, 1), *g = test_floats(h, 1);

    for (int norm = TERN_LAYER_NORM; norm <= TERN_RMS_NORM; norm += TERN_RMS_NORM - TERN_LAYER_NORM)
        for (int act = TERN_GELU; act <= TERN_GATED_SILU; act++) {
            tern_config config = test_config();
            double *sum = test_doubles(m * h);
            config.norm_type = (tern_norm)norm;
            config.mlp_act_func_type = (tern_activation)act;
            for (size_t i = 0; i < m * h; i++)
                sum[i] = (double)x[i] + r[i];
            const double *z = naive_norm(sum, g, NULL, m, h, 1e-5f, norm == TERN_RMS_NORM);
            /* Unset GELU is tanh, and erf where it gates; ReLU and GELU do not gate with RMSNorm either. */
            const double *want = naive_mlp(z, w1, b, w2, m, h, up, h, (tern_activation)act, TERN_GELU_UNSET);
            test_near(mlp(&config, m, h, up, x, r, w1, w2, b, g), want, m * h, 8e-6, "kernels");
            config.kernel = TERN_KERNEL_REFERENCE;
            test_near(mlp(&config, m, h, up, x, r, w1, w2, b, g), want, m * h, 8e-6, "definition");
        }
}

static void test_b36_unknown_activation_is_an_error(void **state)
{
    (void)state;
    tern_config config = test_config();
    tern_op *op;

    config.mlp_act_func_type = (tern_activation)9;
    assert_fails(ctx, tern_op_create(ctx, "mlp_gemm", &config, &op), TERN_ERR_CONFIG, "mlp_act_func_type is 9");
}

static void test_b29_gelu_gemm_honours_transposed_mode(void **state)
{
    (void)state;
    float *x = test_floats(3 * 5, 1), *w1 = test_floats(5 * 7, 1), *w2 = test_floats(7 * 4, 1), *y[2];
    for (int t = 0; t < 2; t++) {
        tern_config config = test_config();
        config.transposed_mode = t;
        y[t] = test_poison(12);
        const tern_tensor input = t2(x, 3, 5), weight = t ? t2(test_transposed(w1, 5, 7), 7, 5) : t2(w1, 5, 7);
        const tern_tensor weight_out = t ? t2(test_transposed(w2, 7, 4), 4, 7) : t2(w2, 7, 4);
        tern_tensor output = t2(y[t], 3, 4);
        assert_ok(ctx, tern_gelu_gemm(ctx, &config, &input, &weight, NULL, &weight_out, &output));
    }
    test_equal(y[0], y[1], 12, "gelu_gemm");
}

static void test_b5_b6_any_width(void **state)
{
    (void)state;
    static const size_t widths[] = { 1, 3, 129, 16385, 20001 };

    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        const size_t n = widths[i];
        float *x = test_floats(2 * n, 1), *w = test_floats(n, 1), *g = test_floats(n, 1), *y = test_poison(2),
              *z = test_poison(2 * n);
        const tern_config config = test_config();
        const tern_tensor input = t2(x, 2, n), weight = t2(w, n, 1), gamma = t1(g, n);
        tern_tensor output = t2(y, 2, 1), norm = t2(z, 2, n);
        assert_ok(ctx, tern_qkv_gemm(ctx, &config, &input, &weight, NULL, &gamma, NULL, &output, &norm));
        test_near(z, naive_norm(test_widen(x, 2 * n), g, NULL, 2, n, 1e-5f, false), 2 * n, 2e-6, "norm");
        tern_tensor added = t2(z, 2, n);
        assert_ok(ctx, tern_residual_add(ctx, &config, &input, &input, NULL, NULL, NULL, NULL, &added));
        for (size_t j = 0; j < 2 * n; j++)
            assert_true(z[j] == x[j] + x[j]);
    }
}

/* ---- softmax ---- */

static float *softmax(const tern_softmax_options *options, float *x, float *mask, size_t b, size_t h, size_t s,
                      size_t t, size_t mask_b)
{
    const tern_config config = test_config();
    float *y = test_poison(b * h * s * t);
    const tern_tensor scores = t4(x, b, h, s, t), m = t4(mask, mask_b, 1, 1, t);
    tern_tensor output = t4(y, b, h, s, t);

    assert_ok(ctx, tern_softmax(ctx, &config, options, &scores, mask ? &m : NULL, NULL, &output));
    return y;
}

static void test_b8_a_mask_per_sequence_broadcasts_over_heads_and_rows(void **state)
{
    (void)state;
    float *x = test_floats(2 * 3 * 4 * 5, 1), mask[10] = { 0 };
    mask[0] = mask[5 + 4] = -INFINITY;
    const float *y = softmax(NULL, x, mask, 2, 3, 4, 5, 2);
    for (size_t row = 0; row < 24; row++) {
        float sum = 0;
        for (size_t j = 0; j < 5; j++)
            sum += y[row * 5 + j];
        assert_true(fabsf(sum - 1) < 1e-6f && y[row * 5 + (row < 12 ? 0 : 4)] == 0);
    }
}

static void test_b9_the_maximum_is_taken_after_the_mask(void **state)
{
    (void)state;
    float x[4] = { 1e4f, 1, 2, 3 }, mask[4] = { -1e5f, 0, 0, 0 };
    const float *y = softmax(NULL, x, mask, 1, 1, 1, 4, 1);
    const double sum = 1 + exp(-1) + exp(-2);
    const double want[4] = { 0, exp(-2) / sum, exp(-1) / sum, 1 / sum };
    test_near(y, want, 4, 1e-6, "softmax");
}

static void test_b20_long_rows(void **state)
{
    (void)state;
    const size_t n = 40000;
    float *x = test_floats(n, 1);
    const float *y = softmax(NULL, x, NULL, 1, 1, 1, n, 1);
    double sum = 0, total = 0, *want = test_doubles(n);
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i]);
    for (size_t i = 0; i < n; i++) {
        want[i] = exp(x[i]) / sum;
        total += y[i];
    }
    test_near(y, want, n, 3e-6, "softmax");
    assert_true(fabs(total - 1) < 1e-6); /* no 1e-6 in the denominator */
}

static void test_rows_without_a_visible_column_are_zero(void **state)
{
    (void)state;
    float x[6] = { 1, 2, 3, 4, 5, 6 }, mask[3] = { -INFINITY, -INFINITY, -INFINITY };
    const float *y = softmax(NULL, x, mask, 1, 1, 2, 3, 1);
    for (int i = 0; i < 6; i++)
        assert_true(y[i] == 0);
}

/* ---- attention ---- */

/* T tokens of one head of width 1 whose query and key are 0: each output is the mean of the values that the row sees, and
 * value j is 2^j for few tokens, so that the output tells which ones. */
static float *seen(tern_config config, size_t n, size_t chunk)
{
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 1, .head_dim = 1, .n_positions = 1024, .n_sequences = 1, .n_context = 1024
    };
    float *out = test_poison(n);
    tern_kv_cache *cache;
    int32_t sequence;

    config.hidden_size = config.heads = 1;
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &sequence));
    for (size_t at = 0; at < n; at += chunk) {
        const size_t rows = n - at < chunk ? n - at : chunk;
        float *qkv = test_bytes(rows * 3 * 4);
        for (size_t i = 0; i < rows; i++)
            qkv[3 * i] = qkv[3 * i + 1] = 0, qkv[3 * i + 2] = n <= 16 ? (float)(1 << (at + i)) : (float)(at + i);
        const tern_kv_span span = { .sequence = sequence, .n_rows = (int32_t)rows, .position = (int64_t)at };
        tern_tensor in = t2(qkv, rows, 3), output = t2(out + at, rows, 1);
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &in, NULL, NULL, cache, 0, &span, 1, &output));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    }
    tern_kv_cache_destroy(&cache);
    return out;
}

/* Off by one key, a mean of n keys moves by 1 / n of itself: here 1/512 at least.  Rounding over 512 keys moves it by some
 * 1e-6; anything between tells the two apart. */
#define ONE_KEY_OFF 1e-4

static void test_b11_causal_is_causal_in_prompt_and_decode(void **state)
{
    (void)state;
    for (size_t chunk = 1; chunk <= 10; chunk += 3) {
        const float *y = seen(test_config(), 10, chunk);
        for (int i = 0; i < 10; i++)
            assert_true(fabsf(y[i] - (float)((2 << i) - 1) / (float)(i + 1)) < (float)ONE_KEY_OFF * y[i]);
    }
}

static void test_b18_b19_the_window_is_the_last_keys_exactly(void **state)
{
    (void)state;
    tern_config config = test_config();
    config.local_attention = true;
    config.window_size = 256;
    for (size_t chunk = 1; chunk <= 512; chunk += 511) {
        const float *y = seen(config, 512, chunk);
        for (size_t p = 0; p < 512; p++) { /* keys p-255 .. p, in a prompt and in decode alike */
            const double first = p > 255 ? (double)p - 255 : 0, want = (first + (double)p) / 2;
            assert_true(fabs((double)y[p] - want) < ONE_KEY_OFF * (want + 1));
        }
    }
}

static void test_b34_grouped_heads_share_keys(void **state)
{
    (void)state;
    /* Four query heads, two KV heads whose values are 1 and 2. */
    tern_config config = test_config();
    config.hidden_size = config.heads = 4;
    config.num_kv = 2;
    float qkv[8] = { 0.3f, -0.2f, 0.5f, 1, 0.1f, 0.7f, 1, 2 }, *out = test_poison(4);
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 2, .head_dim = 1, .n_positions = 64, .n_sequences = 1, .n_context = 64
    };
    tern_kv_cache *cache;
    tern_kv_span span = { .n_rows = 1 };
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    tern_tensor in = t2(qkv, 1, 8), output = t2(out, 1, 4);
    assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &in, NULL, NULL, cache, 0, &span, 1, &output));
    assert_true(out[0] == 1 && out[1] == 1 && out[2] == 2 && out[3] == 2);
    tern_kv_cache_destroy(&cache);
}

static void test_b49_a_larger_batch_than_the_first_is_no_matter(void **state)
{
    (void)state;
    /* One sequence first, then four at once. */
    tern_config config = test_config();
    config.hidden_size = config.heads = 1;
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 1, .head_dim = 1, .n_positions = 320, .n_sequences = 5, .n_context = 64
    };
    tern_kv_cache *cache;
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (int32_t n = 1; n <= 4; n += 3) {
        tern_kv_span spans[4];
        float qkv[12], out[4];
        for (int32_t i = 0; i < n; i++) {
            spans[i] = (tern_kv_span){ .row = i, .n_rows = 1 };
            assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &spans[i].sequence));
            qkv[3 * i] = qkv[3 * i + 1] = 1;
            qkv[3 * i + 2] = (float)i + 10;
        }
        tern_tensor in = t2(qkv, (size_t)n, 3), output = t2(out, (size_t)n, 1);
        assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, (size_t)n));
        assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &in, NULL, NULL, cache, 0, spans, (size_t)n, &output));
        for (int32_t i = 0; i < n; i++)
            assert_true(out[i] == (float)i + 10);
    }
    tern_kv_cache_destroy(&cache);
}

static void test_b52_positions_are_explicit_and_capacity_is_checked(void **state)
{
    (void)state;
    tern_config config = test_config();
    config.rotary_dim = -1;
    /* Several tokens at once continue a sequence as one at a time do. */
    const float *one = seen(config, 12, 1), *many = seen(config, 12, 5);
    test_equal(one, many, 12, "continuation");

    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 1, .head_dim = 1, .n_positions = 128, .n_sequences = 1, .n_context = 100
    };
    tern_kv_cache *cache;
    tern_kv_span span = { .n_rows = 101 };
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
    assert_fails(ctx, tern_kv_reserve(ctx, cache, &span, 1), TERN_ERR_CAPACITY,
                 "would hold 101 positions, the context has 100");
    tern_kv_cache_destroy(&cache);
}

static void test_b53_inverse_layer_scale_comes_from_the_config(void **state)
{
    (void)state;
    /* Two keys with scores 0 and s: the weight of the second tells the scale. */
    for (int layer = 0; layer < 4; layer++) {
        tern_config config = test_config();
        config.hidden_size = config.heads = 1;
        config.scale_attn_by_inverse_layer_idx = true;
        config.layer_id = layer;
        float qkv[6] = { 2, 0, 0, 2, 3, 1 }, out[2];
        const tern_kv_shape shape = {
            .n_layers = 1, .n_kv_heads = 1, .head_dim = 1, .n_positions = 64, .n_sequences = 1, .n_context = 64
        };
        tern_kv_cache *cache;
        tern_kv_span span = { .n_rows = 2 };
        assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        tern_tensor in = t2(qkv, 2, 3), output = t2(out, 2, 1);
        assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &in, NULL, NULL, cache, 0, &span, 1, &output));
        assert_true(fabs((double)out[1] - 1 / (1 + exp(-6.0 / (layer + 1)))) < 1e-6);
        tern_kv_cache_destroy(&cache);
    }
}

static void test_b54_two_rotary_pairings_are_an_error(void **state)
{
    (void)state;
    tern_config config = test_config();
    tern_op *op;

    config.hidden_size = 8;
    config.heads = 2;
    config.rotary_dim = 4;
    config.rotate_half = true;
    config.rotate_every_two = 1;
    assert_fails(ctx, tern_op_create(ctx, "softmax_context", &config, &op), TERN_ERR_CONFIG,
                 "rotate_half and rotate_every_two are both set");
    config.rotate_every_two = -1; /* unset: the opposite of rotate_half */
    assert_ok(ctx, tern_op_create(ctx, "softmax_context", &config, &op));
    tern_op_destroy(&op);
}

/* ---- residual add ---- */

struct terms {
    float x, r, a, ba, bf, ra;
    bool no_a, no_ba, no_bf, no_ra;
};

static float add(const tern_config *config, struct terms t)
{
    float y;
    const tern_tensor x = t2(&t.x, 1, 1), r = t2(&t.r, 1, 1), a = t2(&t.a, 1, 1), ra = t2(&t.ra, 1, 1),
                      ba = t1(&t.ba, 1), bf = t1(&t.bf, 1);
    tern_tensor output = t2(&y, 1, 1);

    assert_ok(ctx, tern_residual_add(ctx, config, &x, &r, t.no_a ? NULL : &a, t.no_ra ? NULL : &ra,
                                     t.no_ba ? NULL : &ba, t.no_bf ? NULL : &bf, &output));
    return y;
}

static const struct terms all = { .x = 1, .r = 20, .a = 300, .ba = 4000, .bf = 50000, .ra = 600000 };

static void test_b38_attention_is_added_once(void **state)
{
    (void)state;
    tern_config config = test_config();
    struct terms t = all;
    t.no_ba = t.no_bf = t.no_ra = true;
    assert_true(add(&config, t) == 321);
    t.no_a = true; /* RMSNorm's residual_add holds it already */
    t.r = 320;
    assert_true(add(&config, t) == 321);
}

static void test_b39_parallel_does_not_divide_the_partial_attention(void **state)
{
    (void)state;
    tern_config config = test_config();
    struct terms t = all;
    config.mlp_after_attn = false;
    config.mp_size = 4;
    t.no_ba = t.no_bf = true;
    assert_true(add(&config, t) == 1 + 300 + 5);
}

static void test_b40_final_bias_does_not_stand_in_for_the_attention_bias(void **state)
{
    (void)state;
    tern_config config = test_config();
    struct terms t = all;
    t.no_ba = true;
    assert_true(add(&config, t) == 1 + 20 + 300 + 50000);
}

static void test_b41_post_norm_residual_counts_once_over_all_ranks(void **state)
{
    (void)state;
    tern_config config = test_config();
    struct terms t = all;
    config.pre_layer_norm = false;
    config.mp_size = 4;
    t.no_ba = true;
    /* Four ranks with partial sums x: the reduced sum has residual and bias once. */
    assert_true(4 * add(&config, t) == 4 * 1 + 600000 + 50000);
    t.no_ra = true;
    assert_true(4 * add(&config, t) == 4 * 1 + 20 + 50000);
}

static void test_b42_each_bias_may_be_missing(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++)
        for (int which = 0; which < 4; which++) {
            tern_config config = test_config();
            struct terms t = all;
            config.mlp_after_attn = form;
            t.no_ba = which & 1;
            t.no_bf = which & 2;
            assert_true(add(&config, t) == 321 + (t.no_ba ? 0 : 4000) + (t.no_bf ? 0 : 50000));
        }
}

/* add_bias by name: unset, false and true, and true without one. */
static void test_b40_attention_bias_is_added_as_add_bias_says(void **state)
{
    float x = 1, r = 20, b = 4000, y = 7;
    tern_tensor hidden = t2(&x, 1, 1), residual = t2(&r, 1, 1),
                bias = tern_tensor_view(&b, TERN_FP32, 1, &(int64_t){ 1 });
    tern_tensor output = t2(&y, 1, 1);
    const tern_op_io io[] = {
        { "hidden", &hidden }, { "residual", &residual }, { "output", &output }, { "attention_bias", &bias }
    };

    (void)state;
    for (int form = 0; form < 2; form++) {
        tern_config config = test_config();
        tern_op_params params = tern_op_params_default();
        tern_op *op;
        config.mlp_after_attn = form;
        assert_ok(ctx, tern_op_create(ctx, "residual_add", &config, &op));
        for (params.add_bias = -1; params.add_bias <= 1; params.add_bias++) {
            assert_ok(ctx, tern_op_run(ctx, op, io, 4, &(tern_op_call){ .params = &params }));
            assert_true(y == (params.add_bias ? 4021 : 21));
        }
        params.add_bias = 1;
        y = 7;
        assert_fails(ctx, tern_op_run(ctx, op, io, 3, &(tern_op_call){ .params = &params }), TERN_ERR_ARG,
                     "add_bias is true and attention_bias is not there");
        assert_true(y == 7);
        tern_op_destroy(&op);
    }
}

/* ---- products ---- */

static void test_b12_scores_beyond_half_range_are_fine(void **state)
{
    (void)state;
    tern_config config = test_config();
    config.hidden_size = config.heads = 1;
    float qkv[6] = { 3e5f, 1e5f, 1, 3e5f, 1e5f, 2 }, out[2];
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 1, .head_dim = 1, .n_positions = 64, .n_sequences = 1, .n_context = 64
    };
    tern_kv_cache *cache;
    tern_kv_span span = { .n_rows = 2 };
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    tern_tensor in = t2(qkv, 2, 3), output = t2(out, 2, 1);
    assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &in, NULL, NULL, cache, 0, &span, 1, &output));
    assert_true(out[0] == 1 && out[1] == 1.5f);
    tern_kv_cache_destroy(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_b2_activation_is_the_same_on_every_path),
        OP_TEST(test_b5_b6_any_width),
        OP_TEST(test_b8_a_mask_per_sequence_broadcasts_over_heads_and_rows),
        OP_TEST(test_b9_the_maximum_is_taken_after_the_mask),
        OP_TEST(test_b11_causal_is_causal_in_prompt_and_decode),
        OP_TEST(test_b12_scores_beyond_half_range_are_fine),
        OP_TEST(test_b18_b19_the_window_is_the_last_keys_exactly),
        OP_TEST(test_b20_long_rows),
        OP_TEST(test_b29_gelu_gemm_honours_transposed_mode),
        OP_TEST(test_b34_grouped_heads_share_keys),
        OP_TEST(test_b36_unknown_activation_is_an_error),
        OP_TEST(test_b38_attention_is_added_once),
        OP_TEST(test_b39_parallel_does_not_divide_the_partial_attention),
        OP_TEST(test_b40_final_bias_does_not_stand_in_for_the_attention_bias),
        OP_TEST(test_b40_attention_bias_is_added_as_add_bias_says),
        OP_TEST(test_b41_post_norm_residual_counts_once_over_all_ranks),
        OP_TEST(test_b42_each_bias_may_be_missing),
        OP_TEST(test_b49_a_larger_batch_than_the_first_is_no_matter),
        OP_TEST(test_b52_positions_are_explicit_and_capacity_is_checked),
        OP_TEST(test_b53_inverse_layer_scale_comes_from_the_config),
        OP_TEST(test_b54_two_rotary_pairings_are_an_error),
        OP_TEST(test_rows_without_a_visible_column_are_zero),
    };
    return cmocka_run_group_tests_name("ops/defects", tests, setup, teardown);
}
