/* test_decoders_refused.c: what config.json may not say of GPT-J, GPT-NeoX, GPT-Neo, OPT, BLOOM, Falcon, Phi, StableLM, InternLM and
 * Megatron-LM's GPT, and what it may say in other words: each is a golden's config.json with one thing changed. */
/* labels: quick */
#include "config_change.h"

static const struct change refused[] = {
    { "gptj-tiny", "\"rotary_dim\": 8", "\"rotary_dim\": null", TERN_ERR_UNSUPPORTED, "rotary_dim is null" },
    { "gptj-tiny", "\"rotary_dim\": 8", "\"rotary_dim\": 0", TERN_ERR_UNSUPPORTED, "rotary_dim is 0" },
    { "gptj-tiny", "\"rotary_dim\": 8", "\"rotary_dim\": 7", TERN_ERR_UNSUPPORTED, "rotary_dim is 7" },
    { "gptj-tiny", "\"rotary_dim\": 8", "\"x\": 8", TERN_ERR_UNSUPPORTED,
      "rotary_dim is 64, expected an even number up to 16" },
    { "gptj-tiny", "gelu_new", "mish", TERN_ERR_UNSUPPORTED, "activation_function is \"mish\"" },
    { "gptj-tiny", MORE("\"hidden_size\": 64"), TERN_ERR_FORMAT, "n_embd is 32 and hidden_size is 64" },

    { "gpt-neox-tiny", MORE("\"rope_theta\": 500"), TERN_ERR_FORMAT, "rope_theta is 500 and rotary_emb_base" },
    { "gpt-neox-tiny", MORE("\"partial_rotary_factor\": 0.5"), TERN_ERR_FORMAT, "partial_rotary_factor is 0.5" },
    { "gpt-neox-tiny", MORE("\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 2}"), TERN_ERR_UNSUPPORTED,
      "rope type is \"ntk\"" },
    { "gpt-neox-linear", MORE("\"rotary_emb_base\": 500"), TERN_ERR_FORMAT, "rotary_emb_base is 500, and " },
    { "gpt-neox-linear", MORE("\"rotary_pct\": 0.5"), TERN_ERR_FORMAT, "rotary_pct is 0.5, and " },

    { "gpt-neo-tiny", "\"attention_types\"", "\"x\": 0, \"y\"", TERN_OK, NULL },
    { "gpt-neo-tiny", "\"attention_layers\"", "\"x\"", TERN_OK, NULL },
    { "gpt-neo-tiny", "        \"local\"\n      ],\n      2", "        \"local\"\n      ],\n      3", TERN_ERR_CONFIG,
      "attention_types names more layers than 4" },
    { "gpt-neo-tiny", "        \"local\"\n      ],\n      2", "        \"local\"\n      ],\n      1", TERN_ERR_CONFIG,
      "attention_types names 2 layers, num_layers is 4" },
    { "gpt-neo-tiny", "        \"local\"\n      ],\n      2", "        \"strided\"\n      ],\n      2",
      TERN_ERR_UNSUPPORTED, "attention_types names a layer \"strided\"" },
    { "gpt-neo-tiny", "\"attention_layers\": [\n    \"global\"", "\"attention_layers\": [\n    \"local\"",
      TERN_ERR_FORMAT, "layer 0 is local by attention_layers and global by attention_types" },
    { "gpt-neo-tiny", "\"attention_layers\": [\n    \"global\",", "\"attention_layers\": [", TERN_ERR_CONFIG,
      "attention_layers names 3 layers" },
    { "gpt-neo-tiny", MORE("\"num_hidden_layers\": 5"), TERN_ERR_FORMAT, "num_layers is 4 and num_hidden_layers is 5" },

    { "opt-350m", "\"gelu\"", "\"silu\"", TERN_ERR_UNSUPPORTED, "activation_function is \"silu\"" },
    { "opt-350m", "\"word_embed_proj_dim\": 20", "\"word_embed_proj_dim\": 0", TERN_ERR_FORMAT, "word_embed_proj_dim" },
    { "opt-350m", "\"do_layer_norm_before\": false", "\"do_layer_norm_before\": 0", TERN_ERR_FORMAT,
      "do_layer_norm_before" },

    { "bloom-tiny", "\"slow_but_exact\": false", "\"slow_but_exact\": true", TERN_ERR_UNSUPPORTED,
      "slow_but_exact is true and pretraining_tp is 2" },
    { "bloom-tiny", MORE("\"n_embed\": 64"), TERN_ERR_FORMAT, "hidden_size is 32 and n_embed is 64" },

    { "falcon-40b", "\"parallel_attn\": true", "\"parallel_attn\": false", TERN_ERR_UNSUPPORTED,
      "new_decoder_architecture is true and parallel_attn is false" },
    { "falcon-40b", "\"num_ln_in_parallel_attn\": 2", "\"num_ln_in_parallel_attn\": 3", TERN_ERR_FORMAT,
      "num_ln_in_parallel_attn" },
    { "falcon-40b", "\"num_kv_heads\": 2", "\"num_kv_heads\": 3", TERN_ERR_CONFIG, "4 heads share 3" },
    { "falcon-7b", "\"num_ln_in_parallel_attn\": null", "\"num_ln_in_parallel_attn\": 2", TERN_ERR_UNSUPPORTED,
      "num_ln_in_parallel_attn is 2 without new_decoder_architecture" },
    { "falcon-rw", "\"num_kv_heads\": 2", "\"num_kv_heads\": 1", TERN_ERR_UNSUPPORTED, "num_kv_heads is 1 of 2 heads" },
    { "falcon-7b", MORE("\"partial_rotary_factor\": 0.5"), TERN_ERR_UNSUPPORTED, "4 of 8 channels of a head turn" },
    { "falcon-7b", "FalconForCausalLM", "RWForCausalLM", TERN_ERR_UNSUPPORTED, "architecture is \"RWForCausalLM\"" },
    { "falcon-7b", "\"falcon\"", "\"RefinedWebModel\"", TERN_ERR_FORMAT, "model_type is \"RefinedWebModel\"" },

    { "phi-tiny", "\"phi\"", "\"phi-msft\"", TERN_ERR_FORMAT, "model_type is \"phi-msft\"" },
    { "phi-tiny", "\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 1.5", TERN_ERR_CONFIG,
      "partial_rotary_factor is 1.5" },
    { "phi-tiny", "\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 0.4", TERN_ERR_UNSUPPORTED,
      "3 of 8 channels of a head turn, expected an even number" },

    { "stablelm-tiny", MORE("\"head_dim\": 8"), TERN_ERR_UNSUPPORTED,
      "2 heads of 8 channels, expected hidden_size, 32" },
    { "stablelm-tiny", "\"silu\"", "\"relu\"", TERN_ERR_UNSUPPORTED, "hidden_act is \"relu\" behind a gate" },
    { "stablelm-tiny", "StableLmForCausalLM", "StableLMEpochForCausalLM", TERN_ERR_UNSUPPORTED,
      "architecture is \"StableLMEpochForCausalLM\"" },

    { "internlm-plain", "\"origin\"", "\"yarn\"", TERN_ERR_UNSUPPORTED, "rotary.type is \"yarn\"" },
    { "internlm-plain", MORE("\"rope_theta\": 500"), TERN_ERR_FORMAT, "rotary and rope_theta, expected one of them" },
    { "internlm-plain", "\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2", TERN_ERR_UNSUPPORTED,
      "num_key_value_heads is 2, expected as many as the 4 heads" },
    { "internlm-plain", "\"base\": 500.0", "\"base\": 0.5", TERN_ERR_CONFIG, "rotary.base is 0.5" },
    { "internlm2-tiny", "\"dynamic\"", "\"yarn\"", TERN_ERR_UNSUPPORTED, "expected one of these and all channels" },
    { "internlm2-tiny", "InternLM2ForCausalLM", "InternLM3ForCausalLM", TERN_ERR_UNSUPPORTED,
      "architecture is \"InternLM3ForCausalLM\"" },

    { "megatron-gpt-1", "\"checkpoint_version\": 1.0,", "", TERN_ERR_FORMAT, "no checkpoint_version" },
    { "megatron-gpt-1", "\"checkpoint_version\": 1.0", "\"checkpoint_version\": 0.5", TERN_ERR_UNSUPPORTED,
      "checkpoint_version is 0.5" },
    { "megatron-gpt-1", "\"num_layers\"", "\"tie_word_embeddings\": false, \"num_layers\"", TERN_ERR_UNSUPPORTED,
      "tie_word_embeddings is false" },
};

static void test_refused(void **state)
{
    (void)state;
    check_changes(refused, sizeof refused / sizeof refused[0]);
}

/* What is not there has the reference's value. */
static void test_defaults(void **state)
{
    static const struct change without[] = {
        { "gpt-neox-tiny", "\"rotary_emb_base\"", "\"x\"", TERN_OK, NULL },
        { "falcon-7b", "\"max_position_embeddings\"", "\"x\"", TERN_OK, NULL },
        { "bloom-residual", "\"seq_length\"", "\"x\"", TERN_OK, NULL },
        { "gpt-neo-tiny", "\"window_size\"", "\"x\"", TERN_OK, NULL },
        { "phi-tiny", "\"partial_rotary_factor\": 0.5,", "", TERN_OK, NULL },
        { "opt-tiny", "\"activation_function\"", "\"x\"", TERN_OK, NULL },
    };
    tern_ctx *ctx = test_ctx(1);
    struct tern_spec spec[6] = { { 0 } };
    tern_model_config c[6] = { { .n_labels = 0 } };

    (void)state;
    for (size_t i = 0; i < 6; i++)
        assert_ok(ctx, parse(ctx, &without[i], &c[i], &spec[i]));
    assert_true(spec[0].rope.theta == 10000 && spec[0].rope.dim == 4 && c[0].head_dim == 16);
    assert_int_equal(c[1].n_context, 2048);
    assert_int_equal(c[2].n_context, 2048);
    assert_true(spec[3].window == 256 && !spec[3].local[0] && spec[3].local[1] && !c[3].scale_attention);
    assert_int_equal(spec[4].rope.dim, 4);
    assert_true(c[5].activation == TERN_RELU);
    for (size_t i = 0; i < 6; i++)
        tern_spec_free(&spec[i], c[i].n_labels);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_refused), cmocka_unit_test(test_defaults) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
