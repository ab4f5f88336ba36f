/* test_model_config.c: config.json: what it becomes, and what is refused. */
#include "checkpoint.h"
#include "model/model_config.h"

#include <math.h>

static const char plain[] =
    "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 100, \"n_positions\": 50,"
    " \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 3, \"x\": 0}";

static tern_status parse(tern_ctx *ctx, const char *text, tern_model_config *config)
{
    const struct tern_arch *arch;
    struct tern_spec spec = { 0 };
    struct tern_json *json;

    tern_status status = tern_json_parse(ctx, text, strlen(text), "dir/config.json", &json);
    if (status == TERN_OK)
        status = tern_model_config_parse(ctx, json, &arch, config, &spec);
    tern_spec_free(&spec, config->n_labels);
    tern_json_destroy(json);
    return status;
}

static tern_status parse_with(tern_ctx *ctx, const char *from, const char *to, tern_model_config *config)
{
    char *text = replaced(plain, from, to);
    const tern_status status = parse(ctx, text, config);

    free(text);
    return status;
}

static void test_plain(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_model_config c;

    (void)state;
    assert_ok(ctx, parse(ctx, plain, &c));
    assert_string_equal(c.family, "gpt2");
    assert_string_equal(c.architecture, "GPT2LMHeadModel");
    assert_true(c.vocab_size == 100 && c.n_context == 50 && c.n_layers == 2 && c.hidden_size == 24 &&
                c.intermediate_size == 96);
    assert_true(c.heads == 3 && c.kv_heads == 3 && c.head_dim == 8 && c.norm_type == TERN_LAYER_NORM &&
                c.norm_eps == 1e-5f);
    assert_true(c.activation == TERN_GELU && c.gelu == TERN_GELU_TANH && c.tied_embeddings && c.scale_attention &&
                !c.scale_by_inverse_layer);
    assert_true(c.bos_id == -1 && c.n_eos_ids == 0);

    const tern_config l = tern_config_from_model(&c, 1);
    assert_true(l.hidden_size == 24 && l.intermediate_size == 96 && l.heads == 3 && l.num_kv == 3 && l.layer_id == 1 &&
                l.dtype == TERN_FP32);
    assert_true(l.pre_layer_norm && l.mlp_after_attn && l.triangular_masking && l.scale_attention &&
                l.mlp_act_func_type == TERN_GELU);
    assert_true(l.gelu == TERN_GELU_TANH && l.layer_norm_eps == 1e-5f && l.rotary_dim <= 0 && l.max_out_tokens == 50);
    tern_ctx_destroy(&ctx);
}

static void test_fields(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_model_config c;

    (void)state;
    assert_ok(ctx, parse_with(ctx, "\"x\": 0",
                              "\"n_inner\": 50, \"layer_norm_epsilon\": 0.001, \"scale_attn_weights\": true, "
                              "\"scale_attn_by_inverse_layer_idx\": true, \"tie_word_embeddings\": false, "
                              "\"reorder_and_upcast_attn\": true, \"bos_token_id\": 7, \"eos_token_id\": [8, 9]",
                              &c));
    assert_true(c.intermediate_size == 50 && c.norm_eps == 0.001f && c.scale_attention && c.scale_by_inverse_layer &&
                !c.tied_embeddings);
    assert_true(c.bos_id == 7 && c.n_eos_ids == 2 && c.eos_ids[0] == 8 && c.eos_ids[1] == 9);
    assert_true(tern_config_from_model(&c, 0).scale_attn_by_inverse_layer_idx &&
                tern_config_from_model(&c, 0).scale_attention);
    assert_ok(ctx, parse_with(ctx, "\"x\": 0", "\"scale_attn_weights\": false", &c));
    assert_true(!c.scale_attention && !tern_config_from_model(&c, 0).scale_attention);
    assert_ok(ctx,
              parse_with(ctx, "\"x\": 0",
                         "\"n_inner\": null, \"eos_token_id\": null, \"torch_dtype\": \"float16\", \"dtype\": null, "
                         "\"pruned_heads\": {}, \"quantization_config\": null, \"task_specific_params\": {\"a\": 1}",
                         &c));
    assert_true(c.intermediate_size == 96 && c.n_eos_ids == 0);

    /* Names that transformers takes for the same things, and a file without "architectures". */
    assert_ok(ctx, parse_with(ctx, "\"n_embd\": 24", "\"hidden_size\": 24", &c));
    assert_ok(ctx, parse_with(ctx, "\"n_embd\": 24", "\"hidden_size\": 24, \"n_embd\": 24", &c));
    assert_int_equal(c.hidden_size, 24);
    assert_ok(ctx, parse_with(ctx, "\"GPT2LMHeadModel\"", "\"GPT2Model\"", &c));
    assert_string_equal(c.architecture, "GPT2Model");
    assert_ok(ctx, parse_with(ctx, "\"architectures\": [\"GPT2LMHeadModel\"],", "", &c));
    assert_string_equal(c.architecture, "GPT2LMHeadModel");
    assert_ok(ctx, parse_with(ctx, "[\"GPT2LMHeadModel\"]", "null", &c));
    assert_ok(ctx, parse_with(ctx, "\"model_type\": \"gpt2\",", "", &c));

    static const struct {
        const char *name;
        tern_activation activation;
        tern_gelu_form gelu;
    } acts[] = { { "gelu_new", TERN_GELU, TERN_GELU_TANH }, { "gelu_pytorch_tanh", TERN_GELU, TERN_GELU_TANH },
                 { "gelu", TERN_GELU, TERN_GELU_ERF },      { "quick_gelu", TERN_GELU, TERN_GELU_SIGMOID },
                 { "relu", TERN_RELU, TERN_GELU_UNSET },    { "gelu_fast", TERN_GELU, TERN_GELU_TANH } };
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        char field[64];
        snprintf(field, sizeof field, "\"activation_function\": \"%s\"", acts[i].name);
        assert_ok(ctx, parse_with(ctx, "\"x\": 0", field, &c));
        assert_true(c.activation == acts[i].activation && c.gelu == acts[i].gelu);
    }
    tern_ctx_destroy(&ctx);
}

static void test_refused(void **state)
{
    static const struct {
        const char *from, *to;
        tern_status status;
        const char *words;
    } cases[] = {
        { "GPT2LMHeadModel", "MysteryModel", TERN_ERR_UNSUPPORTED,
          "architecture is \"MysteryModel\", which tern does not run; its families are bloom, " },
        { "GPT2LMHeadModel", "GPT2ForSequenceClassification", TERN_ERR_UNSUPPORTED, "GPT2ForSequenceClassification" },
        { "GPT2LMHeadModel", "GPT2Model\\u0000", TERN_ERR_UNSUPPORTED, "its families are" },
        { "[\"GPT2LMHeadModel\"]", "\"GPT2LMHeadModel\"", TERN_ERR_FORMAT, "\"architectures\" is the string" },
        { "[\"GPT2LMHeadModel\"]", "[3]", TERN_ERR_FORMAT, "architectures[0] is an integer, expected a string" },
        { "\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\"", "\"model_type\": \"mystery\"",
          TERN_ERR_UNSUPPORTED, "model_type is \"mystery\"" },
        { "\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\"", "\"architectures\": []",
          TERN_ERR_FORMAT, "neither architectures nor model_type" },
        { "\"gpt2\"", "\"llama\"", TERN_ERR_FORMAT,
          "model_type is \"llama\", architecture GPT2LMHeadModel expects \"gpt2\"" },
        { "\"gpt2\"", "2", TERN_ERR_FORMAT, "\"model_type\" is 2" },
        { "\"vocab_size\": 100,", "", TERN_ERR_FORMAT, "\"vocab_size\" is missing" },
        { "\"vocab_size\": 100", "\"vocab_size\": \"100\"", TERN_ERR_FORMAT, "\"vocab_size\" is the string \"100\"" },
        { "\"vocab_size\": 100", "\"vocab_size\": 0", TERN_ERR_FORMAT, "\"vocab_size\" is 0" },
        { "\"vocab_size\": 100", "\"vocab_size\": 100.5", TERN_ERR_FORMAT, "\"vocab_size\" is 100.5" },
        { "\"vocab_size\": 100", "\"vocab_size\": 9223372036854775807", TERN_ERR_FORMAT,
          "\"vocab_size\" is 9223372036854775807" },
        { "\"vocab_size\": 100", "\"vocab_size\": 1e99", TERN_ERR_FORMAT, "vocab_size" },
        { "\"n_positions\": 50", "\"n_positions\": -1", TERN_ERR_FORMAT, "\"n_positions\" is -1" },
        { "\"n_positions\": 50", "\"n_ctx\": 50", TERN_ERR_FORMAT, "\"n_positions\" is missing" },
        { "\"n_embd\": 24", "\"n_embd\": 25", TERN_ERR_CONFIG, "n_embd is 25, expected a multiple of n_head, 3" },
        { "\"n_embd\": 24", "\"n_embd\": 1539", TERN_ERR_UNSUPPORTED, "n_embd / n_head is 513" },
        { "\"n_embd\": 24", "\"n_embd\": 24, \"hidden_size\": 48", TERN_ERR_FORMAT,
          "n_embd is 24 and hidden_size is 48, expected one value for both" },
        { "\"n_layer\": 2", "\"n_layer\": 0", TERN_ERR_FORMAT, "\"n_layer\" is 0" },
        { "\"n_layer\": 2", "\"n_layer\": null", TERN_ERR_FORMAT, "\"n_layer\"" },
        { "\"n_layer\": 2", "\"n_layer\": 2147483648", TERN_ERR_FORMAT, "\"n_layer\" is 2147483648" },
        { "\"n_layer\": 2", "\"n_layer\": true", TERN_ERR_FORMAT, "\"n_layer\" is true" },
        { "\"n_layer\": 2", "\"n_layer\": 2, \"n_layer\": 2", TERN_ERR_FORMAT, "\"n_layer\" is there twice" },
        { "\"n_head\": 3", "\"n_head\": 0", TERN_ERR_FORMAT, "\"n_head\" is 0" },
        { "\"x\": 0", "\"n_inner\": 0", TERN_ERR_FORMAT, "\"n_inner\" is 0" },
        { "\"x\": 0", "\"n_inner\": []", TERN_ERR_FORMAT, "\"n_inner\" is an array" },
        { "\"x\": 0", "\"activation_function\": \"silu\"", TERN_ERR_UNSUPPORTED,
          "activation_function is \"silu\", expected gelu_new" },
        { "\"x\": 0", "\"activation_function\": 5", TERN_ERR_FORMAT, "\"activation_function\" is 5" },
        { "\"x\": 0", "\"layer_norm_epsilon\": \"small\"", TERN_ERR_FORMAT, "\"layer_norm_epsilon\" is the string" },
        { "\"x\": 0", "\"layer_norm_epsilon\": -1e-5", TERN_ERR_CONFIG, "layer_norm_epsilon is -1e-05" },
        { "\"x\": 0", "\"layer_norm_epsilon\": 0", TERN_ERR_CONFIG, "layer_norm_epsilon is 0" },
        { "\"x\": 0", "\"layer_norm_epsilon\": NaN", TERN_ERR_FORMAT, "line 1" },
        { "\"x\": 0", "\"scale_attn_weights\": 1", TERN_ERR_FORMAT, "\"scale_attn_weights\" is 1" },
        { "\"x\": 0", "\"scale_attn_weights\": false, \"scale_attn_by_inverse_layer_idx\": true", TERN_ERR_UNSUPPORTED,
          "tern supports the former where both are true" },
        { "\"x\": 0", "\"scale_attn_by_inverse_layer_idx\": \"yes\"", TERN_ERR_FORMAT,
          "scale_attn_by_inverse_layer_idx" },
        { "\"x\": 0", "\"reorder_and_upcast_attn\": 3", TERN_ERR_FORMAT, "reorder_and_upcast_attn" },
        { "\"x\": 0", "\"tie_word_embeddings\": {}", TERN_ERR_FORMAT, "tie_word_embeddings" },
        { "\"x\": 0", "\"add_cross_attention\": true", TERN_ERR_UNSUPPORTED,
          "add_cross_attention is true, tern supports false" },
        { "\"x\": 0", "\"is_encoder_decoder\": true", TERN_ERR_UNSUPPORTED, "is_encoder_decoder is true" },
        { "\"x\": 0", "\"pruned_heads\": {\"0\": [1]}", TERN_ERR_UNSUPPORTED, "pruned_heads names 1 layers" },
        { "\"x\": 0", "\"quantization_config\": {\"quant_method\": \"gptq\"}", TERN_ERR_UNSUPPORTED,
          "quantization_config (gptq)" },
        { "\"x\": 0", "\"quantization_config\": {}", TERN_ERR_UNSUPPORTED, "quantization_config (no quant_method)" },
        { "\"x\": 0", "\"quantization_config\": \"int8\"", TERN_ERR_FORMAT, "\"quantization_config\" is the string" },
        { "\"x\": 0", "\"torch_dtype\": 16", TERN_ERR_FORMAT, "\"torch_dtype\" is 16" },
        { "\"x\": 0", "\"eos_token_id\": \"a\"", TERN_ERR_FORMAT, "eos_token_id is a string, expected an integer" },
        { "\"x\": 0", "\"eos_token_id\": [1,2,3,4,5,6,7,8,9]", TERN_ERR_UNSUPPORTED,
          "eos_token_id has 9 ids, expected at most 8" },
        { "\"x\": 0", "\"eos_token_id\": [1.5]", TERN_ERR_FORMAT, "eos_token_id[0] is" },
        { "\"x\": 0", "\"bos_token_id\": 99999999999", TERN_ERR_FORMAT, "bos_token_id is 99999999999" },
    };
    tern_ctx *ctx = test_ctx(1);
    tern_model_config c;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_fails(ctx, parse_with(ctx, cases[i].from, cases[i].to, &c), cases[i].status, cases[i].words);
        assert_non_null(strstr(tern_error(ctx), "dir/config.json"));
    }
    assert_fails(ctx, parse(ctx, "[]", &c), TERN_ERR_FORMAT, "is an array, expected an object");
    assert_fails(ctx, parse(ctx, "", &c), TERN_ERR_FORMAT, "dir/config.json");

    char *deep = malloc(200001);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    char *text = replaced(plain, "\"x\": 0", deep);
    assert_fails(ctx, parse(ctx, text, &c), TERN_ERR_FORMAT, "dir/config.json");
    free(text);
    free(deep);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_plain), cmocka_unit_test(test_fields),
                                        cmocka_unit_test(test_refused) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
