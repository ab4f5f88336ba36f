/* config_parts.c: what many families read from config.json alike. */
#include "model/model_config.h"
#include "model/transformer.h"

#include <string.h>

tern_status tern_config_decoder(tern_ctx *ctx, const struct tern_json *json, int32_t kv_heads, tern_model_config *c)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t value;

    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "max_position_embeddings", NULL, 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_size", NULL, 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "num_hidden_layers", NULL, 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "num_attention_heads", NULL, 1, 1 << 20, &c->heads));
    TERN_TRY(tern_config_need_int(ctx, json, "intermediate_size", NULL, 1, 1 << 22, &c->intermediate_size));
    /* Absent is the family's, null one for each query head. */
    const bool there = tern_json_get(root, "num_key_value_heads") != NULL;
    TERN_TRY(tern_json_opt_int(ctx, json, root, "num_key_value_heads", 1, 1 << 20,
                               there || kv_heads == 0 ? c->heads : kv_heads, &value));
    c->kv_heads = (int32_t)value;
    return tern_config_heads(ctx, json, c);
}

tern_status tern_config_heads(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c)
{
    const char *where = tern_json_where(json);
    const bool divides = c->hidden_size % c->heads == 0;
    int64_t value;

    TERN_REQUIRE(ctx, c->heads % c->kv_heads == 0, TERN_ERR_CONFIG,
                 "%s: %d heads share %d of keys and values, expected a divisor", where, c->heads, c->kv_heads);
    TERN_TRY(tern_json_opt_int(ctx, json, tern_json_root(json), "head_dim", 1, 1 << 20,
                               divides ? c->hidden_size / c->heads : 0, &value));
    TERN_REQUIRE(ctx, value > 0, TERN_ERR_CONFIG, "%s: hidden_size is %d, expected a multiple of the %d heads", where,
                 c->hidden_size, c->heads);
    TERN_REQUIRE(ctx, value <= 512, TERN_ERR_UNSUPPORTED,
                 "%s: a head has %" PRId64 " channels, tern supports up to 512", where, value);
    TERN_REQUIRE(ctx, (int64_t)c->heads * value <= INT32_MAX / 4, TERN_ERR_UNSUPPORTED,
                 "%s: %d heads of %" PRId64 " channels, tern supports %d channels together", where, c->heads, value,
                 INT32_MAX / 4);
    c->head_dim = (int32_t)value;
    c->scale_attention = true;
    return TERN_OK;
}

tern_status tern_config_gpt(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c)
{
    const char *where = tern_json_where(json);
    int64_t inner;

    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_positions", "max_position_embeddings", 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "n_embd", "hidden_size", 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_layer", "num_hidden_layers", 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "n_head", "num_attention_heads", 1, 1 << 20, &c->heads));
    TERN_REQUIRE(ctx, c->hidden_size % c->heads == 0, TERN_ERR_CONFIG,
                 "%s: n_embd is %d, expected a multiple of n_head, %d", where, c->hidden_size, c->heads);
    c->kv_heads = c->heads;
    c->head_dim = c->hidden_size / c->heads;
    TERN_REQUIRE(ctx, c->head_dim <= 512, TERN_ERR_UNSUPPORTED,
                 "%s: n_embd / n_head is %d, tern supports heads of up to 512", where, c->head_dim);
    c->scale_attention = true;
    TERN_TRY(
        tern_json_opt_int(ctx, json, tern_json_root(json), "n_inner", 1, 1 << 22, (int64_t)4 * c->hidden_size, &inner));
    c->intermediate_size = (int32_t)inner;
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_epsilon", 1e-5, c));
    return tern_config_activation_name(ctx, json, "activation_function", "gelu_new", c);
}

static tern_status norm_eps(tern_ctx *ctx, const struct tern_json *json, const char *key, double standard,
                            tern_model_config *c)
{
    double eps;

    TERN_TRY(tern_json_opt_number(ctx, json, tern_json_root(json), key, standard, &eps));
    TERN_REQUIRE(ctx, eps > 0 && eps <= 1, TERN_ERR_CONFIG, "%s: %s is %g, expected above 0 and at most 1",
                 tern_json_where(json), key, eps);
    c->norm_eps = (float)eps;
    return TERN_OK;
}

tern_status tern_config_rms_eps(tern_ctx *ctx, const struct tern_json *json, double standard, tern_model_config *c)
{
    c->norm_type = TERN_RMS_NORM;
    return norm_eps(ctx, json, "rms_norm_eps", standard, c);
}

tern_status tern_config_layer_norm(tern_ctx *ctx, const struct tern_json *json, const char *key, double standard,
                                   tern_model_config *c)
{
    c->norm_type = TERN_LAYER_NORM;
    return norm_eps(ctx, json, key, standard, c);
}

tern_status tern_config_gated_activation(tern_ctx *ctx, const struct tern_json *json, const char *key,
                                         const char *standard, tern_model_config *c)
{
    const char *name;

    TERN_TRY(tern_json_opt_string(ctx, json, tern_json_root(json), key, standard, &name));
    if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0) {
        c->activation = TERN_GATED_SILU;
        return TERN_OK;
    }
    TERN_TRY(tern_config_activation_name(ctx, json, key, standard, c));
    TERN_REQUIRE(ctx, c->activation == TERN_GELU, TERN_ERR_UNSUPPORTED,
                 "%s: %s is \"%s\" behind a gate, expected silu or a GELU", tern_json_where(json), key, name);
    c->activation = TERN_GATED_GELU;
    return TERN_OK;
}

tern_status tern_config_tied(tern_ctx *ctx, const struct tern_json *json, bool standard, tern_model_config *c)
{
    return tern_json_opt_bool(ctx, json, tern_json_root(json), "tie_word_embeddings", standard, &c->tied_embeddings);
}

/* layer_types: which layers are local.  *there: whether the file has it. */
static tern_status layer_types(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *c,
                               struct tern_spec *spec, bool *there)
{
    const char *where = tern_json_where(json);
    const tern_json_value *list;

    TERN_TRY(tern_json_opt_value(ctx, json, tern_json_root(json), "layer_types", TERN_JSON_ARRAY, &list));
    *there = list != NULL;
    if (!list)
        return TERN_OK;
    TERN_REQUIRE(ctx, tern_json_size(list) == (size_t)c->n_layers, TERN_ERR_FORMAT,
                 "%s: layer_types has %zu names, expected %d, one for each layer", where, tern_json_size(list),
                 c->n_layers);
    for (int32_t i = 0; i < c->n_layers; i++) {
        const tern_json_value *item = tern_json_at(list, (size_t)i);
        size_t length;
        TERN_REQUIRE(ctx, tern_json_type(item) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                     "%s: layer_types[%d] is %s, expected a string", where, i, tern_json_type_name(item));
        const char *name = tern_json_string(item, &length);
        spec->local[i] = strcmp(name, "sliding_attention") == 0;
        TERN_REQUIRE(ctx, spec->local[i] || strcmp(name, "full_attention") == 0, TERN_ERR_UNSUPPORTED,
                     "%s: layer_types[%d] is \"%s\", expected full_attention or sliding_attention", where, i, name);
    }
    return TERN_OK;
}

tern_status tern_config_window(tern_ctx *ctx, const struct tern_json *json, int32_t standard, enum tern_window window,
                               const tern_model_config *c, struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json), *given = tern_json_get(root, "sliding_window");
    bool used = true, there = false;
    int64_t size, first = 0;

    TERN_TRY(tern_json_opt_int(ctx, json, root, "sliding_window", 1, INT32_MAX, standard, &size));
    if (window == TERN_WINDOW_IF_USED) {
        TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_sliding_window", false, &used));
        TERN_TRY(tern_json_opt_int(ctx, json, root, "max_window_layers", 0, INT32_MAX, 28, &first));
    }
    if (!used || (given && tern_json_type(given) == TERN_JSON_NULL))
        return TERN_OK;
    spec->window = (int32_t)size;
    spec->local_rope = spec->rope;
    TERN_TRY(tern_spec_local(ctx, c, spec));
    if (window != TERN_WINDOW_ALL)
        TERN_TRY(layer_types(ctx, json, c, spec, &there));
    for (int32_t i = 0; !there && i < c->n_layers; i++)
        spec->local[i] = window == TERN_WINDOW_EVERY_OTHER ? i % 2 == 0 : i >= first;
    return TERN_OK;
}
