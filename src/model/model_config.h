/* model_config.h: config.json becomes a tern_model_config, and that a tern_config for each layer. */
#ifndef TERN_MODEL_MODEL_CONFIG_H
#define TERN_MODEL_MODEL_CONFIG_H

#include "model/arch.h"
#include "ops/rope.h"

#define TERN_MODEL_CONFIG_FILE_MAX ((size_t)16 << 20) /* bytes of a config.json */

/* Chooses the family and has it read the file.  TERN_ERR_FORMAT (wrong types; file, key, found, expected),
 * TERN_ERR_CONFIG (values that cannot be), TERN_ERR_UNSUPPORTED (by name, with what there is), TERN_ERR_MEMORY.  *spec is
 * freed by tern_spec_free() in any case. */
tern_status tern_model_config_parse(tern_ctx *ctx, const struct tern_json *json, const struct tern_arch **arch,
                                    tern_model_config *out, struct tern_spec *spec);

/* The config of one layer, 0 <= layer < n_layers.  Its dtype is the model's row_dtype, whatever the files hold. */
tern_config tern_config_from_model(const tern_model_config *model, int32_t layer);

/* --- for the families ------------------------------------------------------------------------------------------------ */

/* An integer under its name or an alias of it (NULL: none), required; both at once must agree. */
tern_status tern_config_need_int(tern_ctx *ctx, const struct tern_json *json, const char *key, const char *alias,
                                 int64_t min, int64_t max, int32_t *out);

/* An activation by transformers' name.  TERN_ERR_UNSUPPORTED with the known ones. */
tern_status tern_config_activation_name(tern_ctx *ctx, const struct tern_json *json, const char *key,
                                        const char *standard, tern_model_config *config);

/* bos_token_id and eos_token_id: an id, null, or a list, of which the first counts. */
tern_status tern_config_ids(tern_ctx *ctx, const struct tern_json *json, tern_model_config *config);

/* Sizes under the names that most decoders use: vocab_size, max_position_embeddings (absent: c->n_context as it is, required where that is
 * 0), hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, num_key_value_heads (absent: kv_heads, 0 for as many as
 * heads), head_dim. */
tern_status tern_config_decoder(tern_ctx *ctx, const struct tern_json *json, int32_t kv_heads, tern_model_config *c);
/* head_dim of a config with hidden_size, heads and kv_heads; absent: c->head_dim as it is, or H / h where that is 0. */
tern_status tern_config_heads(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c);
/* Sizes under the names of GPT-2 and GPT-J: vocab_size; n_positions, n_embd, n_layer, n_head or what transformers maps to them; n_inner,
 * layer_norm_epsilon and activation_function.  As many k and v heads. */
tern_status tern_config_gpt(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c);
/* The norm: RMSNorm with rms_norm_eps, or LayerNorm with a key of its own. */
tern_status tern_config_rms_eps(tern_ctx *ctx, const struct tern_json *json, double standard, tern_model_config *c);
tern_status tern_config_layer_norm(tern_ctx *ctx, const struct tern_json *json, const char *key, double standard,
                                   tern_model_config *c);
/* The activation of a gated feed-forward: silu or a GELU. */
tern_status tern_config_gated_activation(tern_ctx *ctx, const struct tern_json *json, const char *key,
                                         const char *standard, tern_model_config *c);
tern_status tern_config_tied(tern_ctx *ctx, const struct tern_json *json, bool standard, tern_model_config *c);

/* The activation of a config whose feed-forward has no gate, for a head. */
enum tern_act tern_config_act(const tern_model_config *c);
/* What an architecture's name says that it is for: "..ForMaskedLM"; "BertModel" gives states. */
tern_task tern_config_task(const tern_model_config *c);
/* id2label, else num_labels, else 2. */
tern_status tern_config_labels(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                               struct tern_spec *spec);

/* Which layers see sliding_window positions only (null: none do; absent: `standard`, none where that is 0). */
enum tern_window {
    TERN_WINDOW_ALL,         /* all */
    TERN_WINDOW_IF_USED,     /* with use_sliding_window those of layer_types, else all from max_window_layers on */
    TERN_WINDOW_EVERY_OTHER, /* those of layer_types, else the first, third, .. */
    TERN_WINDOW_EARLY, /* with use_sliding_window those of layer_types, else the first, third, .. below max_window_layers */
    TERN_WINDOW_PATTERN /* those of layer_types, else all but each sliding_window_pattern-th, absent: 6th */
};
tern_status tern_config_window(tern_ctx *ctx, const struct tern_json *json, int32_t standard, enum tern_window window,
                               const tern_model_config *c, struct tern_spec *spec);

/* What a family has where config.json does not say. */
struct tern_rope_defaults {
    int32_t head_dim;
    double theta;
    double partial;          /* 0: 1 */
    const char *theta_key;   /* old spelling, NULL: rope_theta */
    const char *partial_key; /* NULL: partial_rotary_factor */
    bool unscaled;           /* rope_scaling is for other layers */
};

/* layer_types: which layers are local, to the room of tern_spec_local().  *there: whether the file has it. */
tern_status tern_config_layer_types(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *c,
                                    struct tern_spec *spec, bool *there);

/* The rotary embedding of the layers of a type ("sliding_attention"; NULL: of all), with its tables.  rope_parameters has an object for
 * each type then.  neighbours is left false.
 * TERN_ERR_FORMAT (two spellings that disagree, a number that is missing), TERN_ERR_CONFIG, TERN_ERR_UNSUPPORTED (a type, by name). */
tern_status tern_config_rope(tern_ctx *ctx, const struct tern_json *json, const char *layer_type,
                             const struct tern_rope_defaults *standard, struct tern_rope *out);

/* Texts of `factor` times the positions of the training, where the frequencies follow the length of a text. */
void tern_config_stretch(const struct tern_rope *rope, tern_model_config *c);

/* A flag that changes the computation in a way that tern does not know: false or absent, or TERN_ERR_UNSUPPORTED. */
tern_status tern_config_refuse(tern_ctx *ctx, const struct tern_json *json, const char *key);

#endif
