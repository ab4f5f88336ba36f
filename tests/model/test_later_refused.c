/* test_later_refused.c: what config.json may not say of LLaMA, Qwen2, Qwen3, Gemma, Phi-3, Mixtral, Qwen2-MoE and Qwen3-MoE, and what it
 * may say in other words: each is a golden's config.json with one thing changed. */
/* labels: quick */
#include "config_change.h"

static const struct change changes[] = {
    { "gemma-tiny", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", TERN_ERR_UNSUPPORTED,
      "hidden_act is \"relu\" behind a gate" },
    { "gemma-tiny", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"silu\"", TERN_ERR_FORMAT,
      "hidden_act is \"silu\" and hidden_activation is \"gelu_pytorch_tanh\"" },
    { "gemma-tiny", "\"hidden_activation\": \"gelu_pytorch_tanh\"", "\"hidden_activation\": \"gelu\"", TERN_ERR_FORMAT,
      "hidden_act is \"gelu\" and hidden_activation is \"gelu\"" },
    { "gemma-tiny", "\"hidden_activation\": \"gelu_pytorch_tanh\"", "\"hidden_activation\": null", TERN_OK, NULL },
    { "gemma-tiny", "\"use_bidirectional_attention\": null", "\"use_bidirectional_attention\": true",
      TERN_ERR_UNSUPPORTED, "use_bidirectional_attention is true" },
    { "gemma2-tiny", "\"use_bidirectional_attention\": null", "\"use_bidirectional_attention\": true",
      TERN_ERR_UNSUPPORTED, "use_bidirectional_attention is true" },
    { "gemma3-tiny", "\"use_bidirectional_attention\": false", "\"use_bidirectional_attention\": true",
      TERN_ERR_UNSUPPORTED, "use_bidirectional_attention is true" },
    { "gemma-tiny", "GemmaForCausalLM", "RecurrentGemmaForCausalLM", TERN_ERR_UNSUPPORTED,
      "architecture is \"RecurrentGemmaForCausalLM\"" },
    { "gemma-biases", MORE("\"rope_theta\": 10000.0"), TERN_ERR_FORMAT, "rope_theta is 10000, and 500 in the object" },
    { "gemma-biases", MORE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}"), TERN_ERR_FORMAT,
      "rope_parameters and rope_scaling are both there" },

    { "gemma2-tiny", "\"sliding_window\": 7", "\"sliding_window\": null", TERN_ERR_UNSUPPORTED,
      "sliding_window is null" },
    { "gemma2-tiny", "\"query_pre_attn_scalar\": 20", "\"query_pre_attn_scalar\": 0", TERN_ERR_CONFIG,
      "query_pre_attn_scalar is 0" },
    { "gemma2-tiny", "\"attn_logit_softcapping\": 2.0", "\"attn_logit_softcapping\": -2.0", TERN_ERR_CONFIG,
      "attn_logit_softcapping is -2" },
    { "gemma2-uncapped", "\"full_attention\"", "\"chunked_attention\"", TERN_ERR_UNSUPPORTED,
      "layer_types[0] is \"chunked_attention\"" },

    { "gemma3-tiny", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", TERN_ERR_UNSUPPORTED,
      "architecture is \"Gemma3ForConditionalGeneration\"" },
    { "gemma3-tiny", "\"attn_logit_softcapping\": null", "\"attn_logit_softcapping\": 50.0", TERN_ERR_UNSUPPORTED,
      "attn_logit_softcapping is 50, expected null" },
    { "gemma3-tiny", MORE("\"layer_types\": [\"sliding_attention\", \"full_attention\", \"full_attention\"]"),
      TERN_ERR_FORMAT, "layer_types[2] is full_attention and sliding_window_pattern is 2" },
    { "gemma3-tiny", MORE("\"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\"]"),
      TERN_OK, NULL },
    { "gemma3-tiny", MORE("\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e6}"), TERN_ERR_FORMAT,
      "rope_parameters has one set for all layers, expected an object for each type of layer" },
    { "gemma3-ropes", MORE("\"rope_local_base_freq\": 10000.0"), TERN_ERR_FORMAT,
      "rope_local_base_freq is 10000, and 300 in the object" },
    { "llama-tiny", "LlamaForCausalLM", "BaichuanForCausalLM", TERN_ERR_UNSUPPORTED,
      "architecture is \"BaichuanForCausalLM\", which tern does not run; its families are" },
    { "llama-tiny", "LlamaForCausalLM", "QWenLMHeadModel", TERN_ERR_UNSUPPORTED,
      "architecture is \"QWenLMHeadModel\"" },
    { "llama-tiny", "\"architectures\": [\n    \"LlamaForCausalLM\"\n  ]", "\"architectures\": null, \"x\": 0", TERN_OK,
      NULL },
    { "llama-tiny", "\"model_type\": \"llama\"", "\"model_type\": \"chatglm\"", TERN_ERR_FORMAT,
      "model_type is \"chatglm\", architecture LlamaForCausalLM expects \"llama\"" },
    { "llama-tiny", MORE("\"torch_dtype\": \"float16\""), TERN_ERR_FORMAT,
      "torch_dtype is \"float16\" and dtype is \"float32\"" },
    { "llama-tiny", MORE("\"torch_dtype\": \"float32\""), TERN_OK, NULL },
    { "qwen2-tiny", "\"full_attention\"", "\"sliding_attention\"", TERN_ERR_FORMAT,
      "layer_types[0] is sliding_attention where no window is used" },
    { "qwen3-biases", "\"sliding_window\": 5", "\"sliding_window\": null", TERN_ERR_FORMAT,
      "layer_types[0] is sliding_attention where no window is used" },
    { "llama-linear", MORE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}"), TERN_ERR_FORMAT,
      "rope_parameters and rope_scaling are both there" },

    { "phi3-tiny", "Phi3ForCausalLM", "Phi3VForCausalLM", TERN_ERR_UNSUPPORTED,
      "architecture is \"Phi3VForCausalLM\"" },
    { "phi3-longrope", "\"type\": \"su\"", "\"type\": \"yarn\"", TERN_ERR_UNSUPPORTED, "neither default nor longrope" },
    { "phi3-longrope", "\"type\": \"su\"", "\"type\": \"longrope\"", TERN_OK, NULL },
    { "phi3-longrope", "\"type\": \"su\"", "\"type\": \"su\", \"rope_type\": \"longrope\"", TERN_ERR_FORMAT,
      "rope_type is \"longrope\" and type is \"su\"" },
    { "phi3-longrope", "\"original_max_position_embeddings\": 96,\n  \"", "\"", TERN_ERR_FORMAT,
      "longrope without original_max_position_embeddings" },
    { "phi3-longrope", "\"short_factor\": [", "\"short_factor\": [ 1.0,", TERN_ERR_CONFIG,
      "short_factor has 9 numbers, expected 8" },
    { "phi3-partial", "\"partial_rotary_factor\": 0.75", "\"partial_rotary_factor\": 0.7", TERN_ERR_UNSUPPORTED,
      "11 of 16 channels of a head turn" },

    { "mixtral-tiny", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 6", TERN_ERR_CONFIG,
      "num_experts_per_tok is 6, expected at most the 5 experts" },
    { "mixtral-tiny", MORE("\"num_experts\": 8"), TERN_ERR_FORMAT, "num_experts is 8 and num_local_experts is 5" },
    { "mixtral-tiny", "\"num_local_experts\": 5", "\"x\": 5", TERN_ERR_FORMAT, "\"num_experts\" is missing" },
    { "mixtral-tiny", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", TERN_ERR_UNSUPPORTED,
      "hidden_act is \"relu\" behind a gate" },
    { "qwen2-moe-tiny", "\"moe_intermediate_size\": 20", "\"moe_intermediate_size\": 0", TERN_ERR_FORMAT,
      "\"moe_intermediate_size\" is 0" },
    { "qwen2-moe-tiny", "\"shared_expert_intermediate_size\"", "\"x\"", TERN_ERR_FORMAT,
      "\"shared_expert_intermediate_size\" is missing" },
    { "qwen2-moe-tiny", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 0", TERN_ERR_FORMAT,
      "\"decoder_sparse_step\" is 0" },
    { "qwen2-moe-tiny", "\"norm_topk_prob\": false", "\"norm_topk_prob\": 1", TERN_ERR_FORMAT,
      "\"norm_topk_prob\" is 1" },
    { "qwen2-moe-tiny", "\"mlp_only_layers\": [\n    1", "\"mlp_only_layers\": [\n    \"one\"", TERN_ERR_FORMAT,
      "mlp_only_layers[0] is a string" },
    { "qwen3-moe-tiny", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM", TERN_ERR_UNSUPPORTED,
      "architecture is \"Qwen3NextForCausalLM\"" },
};

static void test_changes(void **state)
{
    (void)state;
    check_changes(changes, sizeof changes / sizeof changes[0]);
}

/* What is not there has the reference's value. */
static void test_defaults(void **state)
{
    static const struct change gemma = { "gemma-tiny", "\"head_dim\"", "\"x\"", TERN_OK, NULL },
                               qwen3 = { "qwen3-tiny", "\"head_dim\"", "\"x\"", TERN_OK, NULL },
                               pattern = { "gemma3-tiny", "\"sliding_window_pattern\"", "\"x\"", TERN_OK, NULL },
                               llama = { "llama-tiny", "\"max_position_embeddings\"", "\"x\"", TERN_OK, NULL },
                               mixtral = { "mixtral-tiny", "\"sliding_window\"", "\"x\"", TERN_OK, NULL };
    tern_ctx *ctx = test_ctx(1);
    tern_model_config c = { 0 };
    struct tern_spec spec = { 0 };

    (void)state;
    assert_ok(ctx, parse(ctx, &gemma, &c, &spec));
    assert_int_equal(c.head_dim, 256);
    tern_spec_free(&spec, 0);
    assert_ok(ctx, parse(ctx, &qwen3, &c, &spec));
    assert_int_equal(c.head_dim, 128);
    tern_spec_free(&spec, 0);
    assert_ok(ctx, parse(ctx, &llama, &c, &spec));
    assert_int_equal(c.n_context, 2048);
    tern_spec_free(&spec, 0);
    /* Each sixth layer is global: none of three. */
    assert_ok(ctx, parse(ctx, &pattern, &c, &spec));
    assert_true(spec.local && spec.local[0] && spec.local[1] && spec.local[2]);
    assert_true(spec.rope.theta == 1e6 && spec.local_rope.theta == 1e4);
    tern_spec_free(&spec, 0);
    assert_ok(ctx, parse(ctx, &mixtral, &c, &spec));
    assert_true(!spec.local && spec.experts.n == 5 && spec.experts.k == 2 && spec.experts.normalize);
    tern_spec_free(&spec, 0);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_changes), cmocka_unit_test(test_defaults) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
