/* test_module_tune.c: a module of layer 0 that asks for it is tuned for the weights that it has bound; others find what it found. */
#include "ops/op_testing.h"

#include <tern/module.h>
#include <tern/tune.h>

#include <stdlib.h>

static bool is_known(const tern_ctx *ctx, int64_t in, int64_t out, tern_dtype dtype, bool rounded, int64_t rows)
{
    tern_tune_result r;

    for (int i = 0; tern_tune_at(ctx, i, &r); i++)
        if (r.product.in == in && r.product.out == out && r.product.dtype == dtype && r.product.rounded == rounded &&
            r.rows == rows)
            return true;
    return false;
}

static void test_layer(void **state)
{
    const char *dir = test_temp_dir();
    const size_t H = 24, I = 20;
    tern_layer_weights w = tern_layer_weights_none();
    tern_config c = tern_config_default();
    tern_layer *layer;

    (void)state;
    setenv("XDG_CACHE_HOME", dir, 1);
    unsetenv("TERN_TUNE");
    tern_ctx *ctx = test_ctx(1);
    c.dtype = TERN_FP32;
    c.hidden_size = (int64_t)H;
    c.intermediate_size = (int64_t)I;
    c.heads = 6;
    c.num_kv = 2;
    c.mlp_act_func_type = TERN_GATED_GELU;
    c.norm_type = TERN_RMS_NORM;
    c.max_out_tokens = 1;
    c.triton_autotune = true;
    w.norm_w = t1(test_floats(H, 1), H);
    w.attn_nw = t1(test_floats(H, 1), H);
    w.attn_qkvw = t2(test_floats(H * 40, 1), H, 40);
    w.attn_ow = t2(test_floats(H * H, 1), H, H);
    w.inter_w = t2(test_floats(H * 2 * I, 1), H, 2 * I);
    w.output_w = t2(test_floats(I * H, 1), I, H);
    for (c.layer_id = 1; c.layer_id >= 0; c.layer_id--) {
        assert_ok(ctx, tern_layer_create(ctx, &c, NULL, NULL, &w, &layer));
        tern_layer_destroy(&layer);
        assert_int_equal(tern_tune_count(ctx), c.layer_id ? 0 : 3 * 5); /* q, k, v have the size of up and gate */
    }
    for (int64_t rows = 1; rows <= 16; rows *= 2)
        assert_true(is_known(ctx, 24, 40, TERN_FP32, false, rows) && is_known(ctx, 24, 24, TERN_FP32, false, rows) &&
                    is_known(ctx, 20, 24, TERN_FP32, false, rows));
    assert_true(tern_tune_is_stored(ctx));
    tern_ctx_destroy(&ctx);

    ctx = test_ctx(1);
    assert_int_equal(tern_tune_count(ctx), 15);
    c.layer_id = 0;
    c.min_out_tokens = 2;
    assert_fails(ctx, tern_layer_create(ctx, &c, NULL, NULL, &w, &layer), TERN_ERR_CONFIG, "min_out_tokens is 2");
    assert_null(layer);
    tern_ctx_destroy(&ctx);
    test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = { OP_TEST(test_layer) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
