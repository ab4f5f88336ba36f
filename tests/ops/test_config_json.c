/* test_config_json.c: configs from JSON and from texts, and what operators tell about themselves. */
#include "ops/op_testing.h"

#include <stdio.h>

static tern_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

static tern_status parse(const char *text, tern_config *config)
{
    return tern_config_parse(ctx, text, strlen(text), "op.json", config);
}

static void test_every_field(void **state)
{
    static const char text[] =
        "{\"hidden_size\": 768, \"intermediate_size\": 3000, \"heads\": 12, \"num_hidden_layers\": 6, \"epsilon\": "
        "1e-5,"
        " \"local_rank\": 3, \"mp_size\": 2, \"dtype\": \"bf16\", \"pre_layer_norm\": false, \"norm_type\": "
        "\"RMSNorm\","
        " \"stochastic_mode\": true, \"scale_attention\": false, \"triangular_masking\": false, \"local_attention\": "
        "true,"
        " \"window_size\": 9, \"rotary_dim\": 8, \"rotate_half\": true, \"rotate_every_two\": false, \"return_tuple\": "
        "false,"
        " \"mlp_after_attn\": false, \"mlp_act_func_type\": \"GATED_SILU\", \"training_mp_size\": 4, "
        "\"bigscience_bloom\": true,"
        " \"max_out_tokens\": 7, \"min_out_tokens\": 2, \"enable_qkv_quantization\": true, \"use_mup\": true,"
        " \"scale_attn_by_inverse_layer_idx\": true, \"return_single_tuple\": true, \"set_empty_params\": true,"
        " \"transposed_mode\": true, \"use_triton\": true, \"triton_autotune\": true, \"num_kv\": 4, \"rope_theta\": "
        "500000,"
        " \"invert_mask\": false, \"layer_id\": 5, \"device\": \"cpu\", \"kernel\": \"reference\", \"gelu\": "
        "\"sigmoid\","
        " \"activation_dtype\": \"fp32\", \"activation_quant\": \"row\"}";
    tern_config c = tern_config_default();

    (void)state;
    assert_int_equal(c.activation_dtype, TERN_FP16);
    assert_int_equal(c.activation_quant, TERN_QUANT_NONE);
    assert_ok(ctx, parse(text, &c));
    assert_int_equal(c.hidden_size, 768);
    assert_int_equal(c.intermediate_size, 3000);
    assert_int_equal(c.heads, 12);
    assert_int_equal(c.num_hidden_layers, 6);
    assert_true(c.layer_norm_eps == 1e-5f);
    assert_int_equal(c.local_rank, 3);
    assert_int_equal(c.mp_size, 2);
    assert_int_equal(c.dtype, TERN_BF16);
    assert_int_equal(c.norm_type, TERN_RMS_NORM);
    assert_false(c.pre_layer_norm || c.scale_attention || c.triangular_masking || c.return_tuple || c.mlp_after_attn ||
                 c.invert_mask);
    assert_true(c.stochastic_mode && c.local_attention && c.rotate_half && c.bigscience_bloom && c.use_mup &&
                c.enable_qkv_quantization && c.scale_attn_by_inverse_layer_idx && c.return_single_tuple &&
                c.set_empty_params && c.transposed_mode && c.use_triton && c.triton_autotune);
    assert_int_equal(c.window_size, 9);
    assert_int_equal(c.rotary_dim, 8);
    assert_int_equal(c.rotate_every_two, 0);
    assert_int_equal(c.mlp_act_func_type, TERN_GATED_SILU);
    assert_int_equal(c.training_mp_size, 4);
    assert_int_equal(c.max_out_tokens, 7);
    assert_int_equal(c.min_out_tokens, 2);
    assert_int_equal(c.num_kv, 4);
    assert_true(c.rope_theta == 500000.0f);
    assert_int_equal(c.layer_id, 5);
    assert_int_equal(c.kernel, TERN_KERNEL_REFERENCE);
    assert_int_equal(c.gelu, TERN_GELU_SIGMOID);
    assert_int_equal(c.activation_dtype, TERN_FP32);
    assert_int_equal(c.activation_quant, TERN_QUANT_ROW);

    /* What is not named, and what is null, stays. */
    c.heads = 3;
    assert_ok(ctx, parse("{\"layer_norm_eps\": 0.25, \"heads\": null}", &c));
    assert_true(c.layer_norm_eps == 0.25f);
    assert_int_equal(c.heads, 3);
    assert_ok(ctx, parse("{}", &c));
}

static void test_bad_json(void **state)
{
    static const struct {
        const char *text;
        tern_status status;
        const char *part;
    } cases[] = {
        { "", TERN_ERR_FORMAT, "op.json" },
        { "[]", TERN_ERR_FORMAT, "found an array" },
        { "{\"heads\": 1, \"heads\": 2}", TERN_ERR_FORMAT, "heads" },
        { "{\"epsilon\": 0, \"layer_norm_eps\": 0}", TERN_ERR_CONFIG, "epsilon and layer_norm_eps are one field" },
        { "{\"headz\": 1}", TERN_ERR_CONFIG, "no key \"headz\", the keys are: hidden_size" },
        { "{\"triangular\": true}", TERN_ERR_CONFIG, "no key \"triangular\"" },
        { "{\"heads\": \"12\"}", TERN_ERR_CONFIG, "heads is \"12\", expected a whole number from -1" },
        { "{\"heads\": 1.5}", TERN_ERR_CONFIG, "heads is 1.5, expected a whole number" },
        { "{\"heads\": -2}", TERN_ERR_CONFIG, "heads is -2" },
        { "{\"hidden_size\": 2147483648}", TERN_ERR_CONFIG, "hidden_size is 2147483648" },
        { "{\"heads\": [1]}", TERN_ERR_CONFIG, "heads is an array" },
        { "{\"mp_size\": 0}", TERN_ERR_CONFIG, "mp_size is 0" },
        { "{\"use_mup\": 1}", TERN_ERR_CONFIG, "use_mup is 1, expected true or false" },
        { "{\"rope_theta\": 1}", TERN_ERR_CONFIG, "rope_theta is 1, expected a finite number > 1" },
        { "{\"epsilon\": -1e-9}", TERN_ERR_CONFIG, "expected a finite number >= 0" },
        { "{\"epsilon\": 1e39}", TERN_ERR_CONFIG, "finite" },
        { "{\"dtype\": \"fp8\"}", TERN_ERR_UNSUPPORTED, "dtype is \"fp8\", there is: fp32, fp16, bf16, int8" },
        { "{\"dtype\": 0}", TERN_ERR_CONFIG, "dtype is 0" },
        { "{\"dtype\": \"fp32\\u0000\"}", TERN_ERR_CONFIG, "dtype is a string with a NUL" },
        { "{\"norm_type\": \"GroupNorm\"}", TERN_ERR_UNSUPPORTED, "there is: LayerNorm, RMSNorm" },
        { "{\"gelu\": \"new\"}", TERN_ERR_CONFIG, "expected one of erf, tanh, sigmoid" },
        { "{\"activation_dtype\": \"int8\"}", TERN_ERR_CONFIG, "expected one of fp32, fp16, bf16" },
        { "{\"activation_quant\": \"tensor\"}", TERN_ERR_CONFIG, "expected one of none, row" },
        { "{\"heads\": 5, \"device\": \"cuda\"}", TERN_ERR_UNSUPPORTED, "device is \"cuda\", there is: cpu" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tern_config c = tern_config_default();
        assert_fails(ctx, parse(cases[i].text, &c), cases[i].status, cases[i].part);
        assert_int_equal(c.heads, -1);
    }
    tern_config c = tern_config_default();
    assert_fails(ctx, tern_config_parse(ctx, "{}", 2, NULL, &c), TERN_ERR_ARG, "where");
    assert_fails(ctx, tern_config_parse(ctx, "{}", 2, "x", NULL), TERN_ERR_ARG, "config");
    assert_fails(ctx, tern_config_parse(ctx, NULL, 2, "x", &c), TERN_ERR_ARG, "text");
}

static void test_set(void **state)
{
    tern_config c = tern_config_default();

    (void)state;
    assert_ok(ctx, tern_config_set(ctx, &c, "heads", "12"));
    assert_ok(ctx, tern_config_set(ctx, &c, "epsilon", "1e-5"));
    assert_ok(ctx, tern_config_set(ctx, &c, "rope_theta", "500000"));
    assert_ok(ctx, tern_config_set(ctx, &c, "causal", "false"));
    assert_ok(ctx, tern_config_set(ctx, &c, "rotate_every_two", "1"));
    assert_ok(ctx, tern_config_set(ctx, &c, "dtype", "int8"));
    assert_int_equal(c.heads, 12);
    assert_true(c.layer_norm_eps == 1e-5f);
    assert_true(c.rope_theta == 500000.0f);
    assert_false(c.triangular_masking);
    assert_int_equal(c.rotate_every_two, 1);
    assert_int_equal(c.dtype, TERN_INT8);
    static const char *const wrong[][2] = {
        { "heads", "" },
        { "heads", "12x" },
        { "heads", " 12" },
        { "heads", "1e2" },
        { "heads", "99999999999" },
        { "epsilon", "nan" },
        { "epsilon", "inf" },
        { "epsilon", "0x1" },
        { "causal", "yes" },
        { "heads", "4.0" },
        { "what", "1" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_fails(ctx, tern_config_set(ctx, &c, wrong[i][0], wrong[i][1]), TERN_ERR_CONFIG, wrong[i][0]);
    static const char *const absent[][2] = { { "dtype", "float16" },
                                             { "norm_type", "GroupNorm" },
                                             { "device", "cuda" } };
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_fails(ctx, tern_config_set(ctx, &c, absent[i][0], absent[i][1]), TERN_ERR_UNSUPPORTED, "there is: ");
    assert_int_equal(c.heads, 12);
    assert_fails(ctx, tern_config_set(ctx, &c, NULL, "1"), TERN_ERR_ARG, "key");
}

static int index_of(const char *name)
{
    for (int i = 0; i < tern_op_count(); i++)
        if (strcmp(tern_op_name(i), name) == 0)
            return i;
    fail_msg("no operator %s", name);
    return -1;
}

/* What --help lists is what the operator takes. */
static void test_values_of_an_operator_are_those_that_it_lists(void **state)
{
    static const struct {
        const char *name, *key, *value, *expected; /* expected: NULL where it is taken */
    } cases[] = {
        { "matmul", "activation", "leaky_relu", NULL },
        { "matmul", "activation", "silu",
          "expected one of \"\", relu, leaky_relu, gelu, gelu_tanh, gelu_sigmoid, sigmoid" },
        { "moe_gemm", "activation", "silu", NULL },
        { "moe_gemm", "activation", "sigmoid", "expected one of \"\", relu, gelu, gelu_tanh, gelu_sigmoid, silu" },
        { "gated_activation", "activation", "", NULL },
        { "gated_activation", "activation", "sigmoid",
          "expected one of \"\", relu, gelu, gelu_tanh, gelu_sigmoid, silu" },
        { "rotary", "rotary_dim", "2", NULL },
        { "rotary", "rotary_dim", "0", "rotary_dim is 0, expected a whole number from 2 to 2147483647" },
        { "kv_copy", "rotary_dim", "0", NULL },
        { "quantize", "bits", "4", NULL },
        { "quantize", "bits", "8", NULL },
        { "quantize", "bits", "5", "bits is 5, expected one of 8, 4" },
        { "quantize", "bits", "x", "bits is \"x\", expected one of 8, 4" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tern_op_settings s = tern_op_settings_default();
        const tern_status status = tern_op_settings_set(ctx, index_of(cases[i].name), &s, cases[i].key, cases[i].value);
        if (cases[i].expected)
            assert_fails(ctx, status, TERN_ERR_CONFIG, cases[i].expected);
        else
            assert_ok(ctx, status);
    }
}

static void test_settings(void **state)
{
    const int softmax = index_of("softmax"), linear = index_of("linear");
    tern_op_settings s = tern_op_settings_default();
    static const char text[] = "{\"layer_scale\": -2.5, \"causal\": true, \"window_size\": 3, \"dtype\": \"fp32\"}";

    (void)state;
    assert_ok(ctx, tern_op_settings_parse(ctx, softmax, text, sizeof text - 1, "x", &s));
    assert_true(s.params.softmax.layer_scale == -2.5f && s.params.softmax.triangular);
    assert_int_equal(s.params.softmax.window_size, 3);
    assert_int_equal(s.config.window_size, 256);
    assert_int_equal(s.config.dtype, TERN_FP32);
    assert_ok(ctx, tern_op_settings_set(ctx, softmax, &s, "head_offset", "2"));
    assert_int_equal(s.params.softmax.head_offset, 2);
    assert_fails(ctx, tern_op_settings_set(ctx, linear, &s, "head_offset", "2"), TERN_ERR_CONFIG, "head_offset");
    assert_ok(ctx, tern_op_settings_set(ctx, linear, &s, "window_size", "5"));
    assert_int_equal(s.config.window_size, 5);
    assert_ok(ctx, tern_op_settings_parse(ctx, linear, "{\"hidden_size\": 4.0}", 20, "x", &s));
    assert_int_equal(s.config.hidden_size, 4);
    assert_fails(ctx, tern_op_settings_parse(ctx, linear, "{\"hidden_size\": 4.5}", 20, "x", &s), TERN_ERR_CONFIG,
                 "hidden_size is 4.5, expected a whole number");
    assert_fails(ctx, tern_op_settings_set(ctx, -1, &s, "heads", "2"), TERN_ERR_ARG, "index");
    assert_fails(ctx, tern_op_settings_parse(ctx, 999, "{}", 2, "x", &s), TERN_ERR_ARG, "index");
}

/* Every operator has a formula, tensors with shapes, and keys whose defaults can be set again. */
static void test_descriptions(void **state)
{
    tern_op_description d;
    tern_op_key key;

    (void)state;
    assert_false(tern_op_describe(-1, &d));
    assert_false(tern_op_describe(tern_op_count(), &d));
    const int residual_add = tern_op_find("residual_add");
    assert_true(tern_op_describe(residual_add, &d));
    assert_string_equal(d.tensors[tern_op_tensor_find(residual_add, "hidden_state", false)].name, "hidden");
    assert_int_equal(tern_op_tensor_find(residual_add, "hidden_stat", false), -1);
    assert_int_equal(tern_op_tensor_find(residual_add, "", false), -1);
    assert_int_equal(tern_op_tensor_find(residual_add, "hidden", true), -1);
    assert_int_equal(tern_op_tensor_find(-1, "hidden", false), -1);
    for (int i = 0; i < tern_op_count(); i++) {
        bool output = false, dtype = false;
        assert_true(tern_op_describe(i, &d));
        assert_string_equal(d.name, tern_op_name(i));
        assert_non_null(d.formula);
        for (size_t t = 0; t < d.n_tensors; t++) {
            assert_true(d.tensors[t].shape[0] == '[' || strcmp(d.tensors[t].shape, "*") == 0);
            output |= d.tensors[t].output;
        }
        assert_true(output);
        for (int k = 0; tern_op_key_at(i, k, &key); k++) {
            tern_op_settings s = tern_op_settings_default();
            if (strcmp(key.standard, "unset") != 0)
                assert_ok(ctx, tern_op_settings_set(ctx, i, &s, key.name, key.standard));
            assert_true(key.about[0] && key.values[0]);
            dtype |= strcmp(key.name, "dtype") == 0;
        }
        assert_true(dtype);
    }
}

/* A cell says what runs exactly where an operator can be created. */
static void test_cells(void **state)
{
    static const tern_dtype dtypes[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
    static const int norms[] = { TERN_LAYER_NORM, TERN_RMS_NORM };
    char text[256], none[256];

    (void)state;
    for (int i = 0; i < tern_op_count(); i++)
        for (size_t d = 0; d < 4; d++)
            for (size_t n = 0; n < 2; n++) {
                tern_config c = test_config();
                tern_op *op = NULL;
                c.hidden_size = 8;
                c.heads = 2;
                c.dtype = dtypes[d];
                c.norm_type = (tern_norm)norms[n];
                const bool made = tern_op_create(ctx, tern_op_name(i), &c, &op) == TERN_OK;
                const bool cell = tern_op_cell(ctx, i, c.dtype, norms[n], TERN_CPU, text, sizeof text);
                const bool bare = tern_op_cell(ctx, i, c.dtype, 0, TERN_CPU, none, sizeof none);
                assert_true(made == (cell || bare));
                assert_false(cell && bare);
                assert_true(cell == (strncmp(text, "n/a: ", 5) != 0));
                assert_true(bare == (strncmp(none, "n/a: ", 5) != 0));
                tern_op_destroy(&op);
            }
    assert_true(tern_op_cell(ctx, index_of("qkv_gemm"), TERN_FP32, TERN_RMS_NORM, TERN_CPU, text, sizeof text));
    snprintf(none, sizeof none, "rms_norm_f32_%s, gemm_f32_%s", tern_ctx_isa(ctx), tern_ctx_isa(ctx));
    assert_string_equal(text, none);
    assert_false(tern_op_cell(ctx, index_of("linear"), (tern_dtype)99, 0, TERN_CPU, text, sizeof text));
    assert_false(tern_op_cell(ctx, -1, TERN_FP32, 0, TERN_CPU, text, sizeof text));
}

static void test_infer(void **state)
{
    tern_config c = test_config();
    tern_op *op;

    (void)state;
    tern_tensor input = t3(NULL, 2, 3, 5), weight = t2(NULL, 7, 5), out = tern_tensor_none(), norm = out, w8 = weight;
    tern_op_io io[] = {
        { "input", &input }, { "weight", &weight }, { "output", &out }, { "norm", &norm }, { "gamma", &w8 }
    };
    w8 = t1(NULL, 5);
    c.transposed_mode = true;
    assert_ok(ctx, tern_op_create(ctx, "qkv_gemm", &c, &op));
    assert_ok(ctx, tern_op_infer(ctx, op, NULL, io, 5));
    assert_int_equal(out.rank, 3);
    assert_true(out.dim[0] == 2 && out.dim[1] == 3 && out.dim[2] == 7 && out.stride[0] == 21);
    assert_true(norm.rank == 3 && norm.dim[2] == 5 && norm.dtype == TERN_FP32);
    w8 = t1(NULL, 6);
    out = tern_tensor_none();
    assert_fails(ctx, tern_op_infer(ctx, op, NULL, io, 5), TERN_ERR_SHAPE, "gamma is [6], expected [H] with H = 5");
    assert_int_equal(out.rank, -1);
    weight = t1(NULL, 5);
    assert_fails(ctx, tern_op_infer(ctx, op, NULL, io, 5), TERN_ERR_SHAPE, "weight is [5], expected [H, N]");
    assert_fails(ctx, tern_op_infer(ctx, op, NULL, io, 1), TERN_ERR_ARG, "weight is missing");
    io[4].name = "what";
    assert_fails(ctx, tern_op_infer(ctx, op, NULL, io, 5), TERN_ERR_ARG, "what is unknown");
    tern_op_destroy(&op);

    c.hidden_size = 8;
    c.heads = 4;
    c.num_kv = 2;
    tern_tensor qkv = t2(NULL, 3, 16);
    tern_op_io context[] = { { "qkv", &qkv }, { "output", &out } };
    assert_ok(ctx, tern_op_create(ctx, "softmax_context", &c, &op));
    assert_ok(ctx, tern_op_infer(ctx, op, NULL, context, 2));
    assert_true(out.rank == 2 && out.dim[0] == 3 && out.dim[1] == 8);
    qkv = t2(NULL, 3, 24);
    assert_fails(ctx, tern_op_infer(ctx, op, NULL, context, 2), TERN_ERR_SHAPE, "rows of 16");
    tern_op_destroy(&op);

    tern_tensor scores = t4(NULL, 2, 3, 4, 5), mask = t4(NULL, 1, 3, 1, 5);
    tern_op_io softmax[] = { { "scores", &scores }, { "mask", &mask }, { "output", &out } };
    assert_ok(ctx, tern_op_create(ctx, "softmax", &c, &op));
    assert_ok(ctx, tern_op_infer(ctx, op, NULL, softmax, 3));
    assert_true(out.rank == 4 && out.dim[1] == 3 && out.dim[3] == 5);
    tern_op_destroy(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_every_field),
        OP_TEST(test_bad_json),
        OP_TEST(test_set),
        OP_TEST(test_settings),
        OP_TEST(test_values_of_an_operator_are_those_that_it_lists),
        OP_TEST(test_descriptions),
        OP_TEST(test_cells),
        OP_TEST(test_infer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
