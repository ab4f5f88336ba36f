/* test_spellings.c: what a checkpoint tells twice must agree: keys of config.json under an older and a newer name, tensors under both of their
 * names.  Each is a golden's with one thing added; what agrees is read. */
/* labels: quick */
#include "config_change.h"

#define TWICE(folder, text, words)                 \
    {                                              \
        folder, MORE(text), TERN_ERR_FORMAT, words \
    }
#define AGREES(folder, text)              \
    {                                     \
        folder, MORE(text), TERN_OK, NULL \
    }

static const struct change changes[] = {
    TWICE("gpt2-plain", "\"hidden_size\": 40", "n_embd is 32 and hidden_size is 40"),
    TWICE("gpt2-plain", "\"num_hidden_layers\": 4", "n_layer is 3 and num_hidden_layers is 4"),
    TWICE("gpt2-plain", "\"num_attention_heads\": 4", "n_head is 2 and num_attention_heads is 4"),
    TWICE("gpt2-plain", "\"max_position_embeddings\": 4", "n_positions is 128 and max_position_embeddings is 4"),
    AGREES("gpt2-plain", "\"hidden_size\": 32, \"num_hidden_layers\": 3, \"num_attention_heads\": 2"),
    TWICE("gptj-tiny", "\"num_hidden_layers\": 4", "n_layer is 3 and num_hidden_layers is 4"),
    TWICE("bloom-tiny", "\"num_hidden_layers\": 4", "n_layer is 3 and num_hidden_layers is 4"),
    TWICE("bloom-tiny", "\"num_attention_heads\": 2", "n_head is 4 and num_attention_heads is 2"),
    TWICE("falcon-7b", "\"n_embed\": 64", "hidden_size is 32 and n_embed is 64"),
    TWICE("gpt-neo-tiny", "\"num_attention_heads\": 2", "num_heads is 4 and num_attention_heads is 2"),
    TWICE("distilbert-tiny", "\"num_hidden_layers\": 4", "n_layers is 3 and num_hidden_layers is 4"),
    TWICE("distilbert-tiny", "\"num_attention_heads\": 4", "n_heads is 2 and num_attention_heads is 4"),
    AGREES("distilbert-tiny", "\"hidden_size\": 32, \"num_hidden_layers\": 3, \"num_attention_heads\": 2"),
    { "megatron-gpt-1", "\"padded_vocab_size\"",
      "\"n_positions\": 64"
      ", \"padded_vocab_size\"",
      TERN_ERR_FORMAT, "max_position_embeddings is 128 and n_positions is 64" },
    { "megatron-gpt-1", "\"padded_vocab_size\"",
      "\"n_embd\": 64"
      ", \"padded_vocab_size\"",
      TERN_ERR_FORMAT, "hidden_size is 32 and n_embd is 64" },
    { "megatron-gpt-1", "\"padded_vocab_size\"",
      "\"num_hidden_layers\": 4"
      ", \"padded_vocab_size\"",
      TERN_ERR_FORMAT, "num_layers is 3 and num_hidden_layers is 4" },
    { "megatron-gpt-1", "\"padded_vocab_size\"",
      "\"n_head\": 2"
      ", \"padded_vocab_size\"",
      TERN_ERR_FORMAT, "num_attention_heads is 4 and n_head is 2" },

    TWICE("llama-tiny", "\"torch_dtype\": \"float16\"", "torch_dtype is \"float16\" and dtype is \"float32\""),
    TWICE("llama-tiny", "\"rope_theta\": 500.0", "rope_theta is 500, and 10000 in the object"),
    AGREES("llama-tiny", "\"rope_theta\": 10000.0"),
    TWICE("llama-tiny", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}",
          "rope_parameters and rope_scaling are both there"),
    TWICE("llama-yarn", "\"original_max_position_embeddings\": 64",
          "original_max_position_embeddings is 64, and 32 in the object"),
    TWICE("phi-norms", "\"partial_rotary_factor\": 0.5", "partial_rotary_factor is 0.5, and 0.25 in the object"),
    AGREES("phi-norms", "\"partial_rotary_factor\": 0.25"),
    TWICE("gemma3-ropes", "\"rope_theta\": 10000.0", "rope_theta is 10000, and 20000 in the object"),
    TWICE("gemma3-ropes", "\"rope_local_base_freq\": 10000.0", "rope_local_base_freq is 10000, and 300 in the object"),
    AGREES("gemma3-ropes", "\"rope_theta\": 20000.0, \"rope_local_base_freq\": 300.0"),
    TWICE("internlm-plain", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}", "rotary and rope_scaling"),
    TWICE("internlm-plain", "\"rope_parameters\": {\"rope_type\": \"default\"}", "rotary and rope_parameters"),

    TWICE("qwen2-moe-tiny", "\"num_local_experts\": 4", "num_experts is 6 and num_local_experts is 4"),
    TWICE("bert-classify", "\"num_labels\": 4", "num_labels is 4 and id2label has 3"),
    AGREES("bert-classify", "\"num_labels\": 3"),
};

static void test_keys(void **state)
{
    (void)state;
    check_changes(changes, sizeof changes / sizeof changes[0]);
}

/* The same tensor under its older and its newer name, even with the same values. */
static void test_tensors(void **state)
{
    static const struct {
        const char *folder, *there, *also;
    } cases[] = {
        { "bert-tiny", "embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma" },
        { "bert-fill", "bert.embeddings.LayerNorm.beta", "bert.embeddings.LayerNorm.bias" },
        { "mixtral-tiny", "model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.gate.weight" },
        { "mixtral-tiny", "model.layers.0.block_sparse_moe.experts.0.w2.weight",
          "model.layers.0.mlp.experts.down_proj" },
        { "llama-tiny", "model.norm.weight", "norm.weight" },
    };
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[256], shape[64], words[160];
        const char *dir = test_temp_dir(), *dtype;
        size_t size;
        snprintf(path, sizeof path, "models/%s", cases[i].folder);
        struct checkpoint c = checkpoint_read(test_golden(path));
        snprintf(words, sizeof words, "\"%s\":{", cases[i].there);
        const char *entry = strstr(c.header, words);
        assert_non_null(entry);
        dtype = strstr(entry, "\"F32\"") && strstr(entry, "\"F32\"") < strchr(entry, '}') ? "F32" : "BF16";
        assert_int_equal(sscanf(strstr(entry, "\"shape\":"), "\"shape\":%63[^]]", shape), 1);
        strcat(shape, "]");
        const unsigned char *data = checkpoint_tensor(&c, cases[i].there, &size);
        checkpoint_add(&c, cases[i].also, dtype, shape, data, size);
        checkpoint_write(&c, dir);
        snprintf(words, sizeof words, "tensor \"%s\"", cases[i].there);
        const tern_status status = tern_model_open(ctx, dir, NULL, &model);
        if (status != TERN_ERR_FORMAT || (!strstr(tern_error(ctx), cases[i].also) && !strstr(tern_error(ctx), words)))
            fail_msg("%s with %s beside %s: %s", cases[i].folder, cases[i].also, cases[i].there, tern_error(ctx));
        checkpoint_free(&c);
        test_remove_dir(dir);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_keys), cmocka_unit_test(test_tensors) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
