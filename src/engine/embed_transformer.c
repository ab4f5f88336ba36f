/* embed_transformer.c: what sentence-transformers keeps beside a model: sentence_bert_config.json and its older names.
 *
 *   max_seq_length, do_lower_case, transformer_task
 *   module_output_name, modality_config  which of the model's outputs is taken: tern knows the one of each task
 *   model_kwargs, processor_kwargs, config_kwargs (also model_args, tokenizer_args, config_args)  for transformers
 *
 * Source: sentence-transformers 6.2, base/modules/transformer.py. */
#include "engine/embed_modules.h"

#include <string.h>

static const char *const file_names[] = { "sentence_bert_config.json",       "sentence_roberta_config.json",
                                          "sentence_distilbert_config.json", "sentence_camembert_config.json",
                                          "sentence_albert_config.json",     "sentence_xlm-roberta_config.json" };

/* model_max_length may be a number that stands for none. */
tern_status embed_model_max_read(tern_ctx *ctx, const char *dir, int32_t *max_tokens)
{
    struct tern_json *json;
    double max = 0;

    *max_tokens = 0;
    TERN_TRY(embed_read_json(ctx, dir, "tokenizer_config.json", false, TERN_JSON_OBJECT, &json));
    if (!json)
        return TERN_OK;
    const tern_status status = tern_json_opt_number(ctx, json, tern_json_root(json), "model_max_length", 0, &max);
    tern_json_destroy(json);
    *max_tokens = max >= 1 && max <= 1 << 24 ? (int32_t)max : 0;
    return status;
}

/* An object of arguments for transformers, under either name: those are taken that change nothing of what is computed. */
static tern_status check_arguments(tern_ctx *ctx, const struct tern_json *json, const char *key,
                                   const char *const *harmless)
{
    const tern_json_value *arguments;

    TERN_TRY(tern_json_opt_value(ctx, json, tern_json_root(json), key, TERN_JSON_OBJECT, &arguments));
    for (void *it = arguments ? tern_json_iter(arguments) : NULL; it; it = tern_json_next(arguments, it)) {
        size_t length;
        const char *name = tern_json_iter_key(it, &length);
        size_t i = 0;
        while (harmless[i] && strcmp(harmless[i], name) != 0)
            i++;
        TERN_REQUIRE(ctx, harmless[i], TERN_ERR_UNSUPPORTED, "%s: %s has \"%s\", which tern does not know",
                     tern_json_where(json), key, name);
    }
    return TERN_OK;
}

/* The tokenizer's arguments may say how long a text is at most, before max_seq_length does. */
static tern_status read_arguments(tern_ctx *ctx, const struct tern_json *json, int64_t *max)
{
    static const char *const of_model[] = {
        "torch_dtype", "dtype", "attn_implementation", "add_pooling_layer", "use_safetensors", "trust_remote_code", NULL
    };
    static const char *const of_tokenizer[] = { "model_max_length", "trust_remote_code", "use_fast", NULL };
    static const char *const of_config[] = { "trust_remote_code", NULL };
    static const char *const of_processing[] = { NULL };
    static const struct {
        const char *name;
        const char *const *harmless;
        bool tokenizer;
    } known[] = { { "model_kwargs", of_model, false },          { "model_args", of_model, false },
                  { "processor_kwargs", of_tokenizer, true },   { "tokenizer_args", of_tokenizer, true },
                  { "config_kwargs", of_config, false },        { "config_args", of_config, false },
                  { "processing_kwargs", of_processing, false } };
    const tern_json_value *root = tern_json_root(json);

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        TERN_TRY(check_arguments(ctx, json, known[i].name, known[i].harmless));
        const tern_json_value *arguments = tern_json_get(root, known[i].name);
        if (known[i].tokenizer && arguments)
            TERN_TRY(tern_json_opt_int(ctx, json, arguments, "model_max_length", 1, 1 << 24, *max, max));
    }
    return TERN_OK;
}

/* Which output of the model the next module takes: absent, or the one that it has for the task. */
static tern_status check_outputs(tern_ctx *ctx, const struct tern_json *json, bool states)
{
    const tern_json_value *root = tern_json_root(json), *modalities, *text;
    const char *expected = states ? "token_embeddings" : "scores", *of_method = states ? "last_hidden_state" : "logits";
    const char *name, *method, *output;

    TERN_TRY(tern_json_opt_string(ctx, json, root, "module_output_name", expected, &name));
    TERN_REQUIRE(ctx, strcmp(name, expected) == 0, TERN_ERR_UNSUPPORTED,
                 "%s: module_output_name is \"%s\", expected %s", tern_json_where(json), name, expected);
    TERN_TRY(tern_json_opt_value(ctx, json, root, "modality_config", TERN_JSON_OBJECT, &modalities));
    if (!modalities)
        return TERN_OK;
    TERN_TRY(tern_json_opt_value(ctx, json, modalities, "text", TERN_JSON_OBJECT, &text));
    TERN_REQUIRE(ctx, text, TERN_ERR_UNSUPPORTED, "%s: modality_config has no \"text\"", tern_json_where(json));
    TERN_TRY(tern_json_opt_string(ctx, json, text, "method", "forward", &method));
    TERN_TRY(tern_json_opt_string(ctx, json, text, "method_output_name", of_method, &output));
    TERN_REQUIRE(ctx, strcmp(method, "forward") == 0 && strcmp(output, of_method) == 0, TERN_ERR_UNSUPPORTED,
                 "%s: modality_config takes %s of %s for text, expected %s of forward", tern_json_where(json), output,
                 method, of_method);
    return TERN_OK;
}

static tern_status read_config(tern_ctx *ctx, const struct tern_json *json, const char *task, int32_t *max_tokens)
{
    static const char *const other[] = { "query_expansion", "tokenizer_name_or_path" };
    const tern_json_value *root = tern_json_root(json);
    bool lower_case;
    const char *found;
    int64_t max;

    TERN_TRY(tern_json_opt_int(ctx, json, root, "max_seq_length", 1, 1 << 24, 0, &max));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "do_lower_case", false, &lower_case));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "transformer_task", task, &found));
    TERN_REQUIRE(ctx, !lower_case, TERN_ERR_UNSUPPORTED,
                 "%s: do_lower_case is true, tern supports false: the tokenizer's own", tern_json_where(json));
    TERN_REQUIRE(ctx, strcmp(task, found) == 0, TERN_ERR_UNSUPPORTED, "%s: transformer_task is \"%s\", expected %s",
                 tern_json_where(json), found, task);
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        const tern_json_value *value = tern_json_get(root, other[i]);
        TERN_REQUIRE(ctx, !value || tern_json_type(value) == TERN_JSON_NULL, TERN_ERR_UNSUPPORTED,
                     "%s: %s is %s, tern supports null", tern_json_where(json), other[i], tern_json_type_name(value));
    }
    TERN_TRY(read_arguments(ctx, json, &max));
    *max_tokens = (int32_t)max;
    return check_outputs(ctx, json, strcmp(task, "feature-extraction") == 0);
}

tern_status embed_transformer_read(tern_ctx *ctx, const char *dir, const char *task, int32_t *max_tokens)
{
    struct tern_json *json = NULL;

    *max_tokens = 0;
    for (size_t i = 0; !json && i < sizeof file_names / sizeof file_names[0]; i++)
        TERN_TRY(embed_read_json(ctx, dir, file_names[i], false, TERN_JSON_OBJECT, &json));
    const tern_status status = json ? read_config(ctx, json, task, max_tokens) : TERN_OK;
    tern_json_destroy(json);
    return status == TERN_OK && *max_tokens == 0 ? embed_model_max_read(ctx, dir, max_tokens) : status;
}
