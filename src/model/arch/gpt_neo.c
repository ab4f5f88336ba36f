/* gpt_neo.c: GPT-Neo.
 *
 *   x = wte[id] + wpe[position]                                          learned positions, [T, H]
 *   each layer:  x += attention(LayerNorm(x));  x += MLP(LayerNorm(x))   causal, h heads of E = H / h; scores are not scaled
 *   logits = LayerNorm(x) wte^T                                          tied or not
 *
 * Local layers see window_size positions, their own included.  No biases of q, k and v.
 *
 * config.json: attention_types, [[names, times], ..], tells which layers are "global" and which "local"; attention_layers is the same written
 * out.  Without either the two alternate in 24 layers, the reference's default.  Sources: Black et al. 2021, "GPT-Neo"; transformers
 * 5.23, models/gpt_neo/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

#include <string.h>

static const char *const architectures[] = { "GPTNeoForCausalLM", "GPTNeoModel", NULL };
static const char *const prefixes[] = { "transformer.", NULL };
static const char *const ignored[] = { "h.#.attn.attention.bias", "h.#.attn.attention.masked_bias", NULL };
static const char *const unused[] = { "score.weight",      "classifier.weight", "classifier.bias",
                                      "qa_outputs.weight", "qa_outputs.bias",   NULL };

static const struct tern_names names = {
    .embed = "wte",
    .positions = "wpe",
    .final_norm = "ln_f",
    .head = "lm_head",
    .attn_norm = "h.#.ln_1",
    .q = "h.#.attn.attention.q_proj",
    .k = "h.#.attn.attention.k_proj",
    .v = "h.#.attn.attention.v_proj",
    .out = "h.#.attn.attention.out_proj",
    .mlp_norm = "h.#.ln_2",
    .up = "h.#.mlp.c_fc",
    .down = "h.#.mlp.c_proj",
};

/* The kind of a layer, which `key` names. */
static tern_status layer_kind(tern_ctx *ctx, const struct tern_json *json, const char *key, const tern_json_value *item,
                              uint8_t *local)
{
    const char *where = tern_json_where(json), *name;
    size_t length;

    TERN_REQUIRE(ctx, tern_json_type(item) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                 "%s: %s names a layer by %s, expected \"global\" or \"local\"", where, key, tern_json_type_name(item));
    name = tern_json_string(item, &length);
    *local = strcmp(name, "local") == 0;
    TERN_REQUIRE(ctx, *local || strcmp(name, "global") == 0, TERN_ERR_UNSUPPORTED,
                 "%s: %s names a layer \"%s\", expected global or local", where, key, name);
    return TERN_OK;
}

/* attention_types, one after the other: so many times these names. */
static tern_status expand_types(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *types,
                                int32_t n_layers, uint8_t *local)
{
    const char *where = tern_json_where(json);
    int64_t n = 0;

    for (size_t i = 0; i < tern_json_size(types); i++) {
        const tern_json_value *item = tern_json_at(types, i), *list = NULL, *times = NULL;
        const bool pair = tern_json_type(item) == TERN_JSON_ARRAY && tern_json_size(item) == 2;
        if (pair) {
            list = tern_json_at(item, 0);
            times = tern_json_at(item, 1);
        }
        TERN_REQUIRE(ctx,
                     pair && tern_json_type(list) == TERN_JSON_ARRAY && tern_json_type(times) == TERN_JSON_INT &&
                         tern_json_int(times) >= 0 && tern_json_int(times) <= n_layers,
                     TERN_ERR_FORMAT, "%s: attention_types[%zu] is not [names, times] with up to %d times", where, i,
                     n_layers);
        TERN_REQUIRE(ctx, tern_json_size(list) > 0, TERN_ERR_FORMAT, "%s: attention_types[%zu] names no kind of layer",
                     where, i);
        for (int64_t t = 0; t < tern_json_int(times); t++)
            for (size_t k = 0; k < tern_json_size(list); k++, n++) {
                uint8_t kind;
                TERN_TRY(layer_kind(ctx, json, "attention_types", tern_json_at(list, k), &kind));
                TERN_REQUIRE(ctx, n < n_layers, TERN_ERR_CONFIG,
                             "%s: attention_types names more layers than %d, which num_layers says", where, n_layers);
                local[n] = kind;
            }
    }
    TERN_REQUIRE(ctx, n == n_layers, TERN_ERR_CONFIG, "%s: attention_types names %" PRId64 " layers, num_layers is %d",
                 where, n, n_layers);
    return TERN_OK;
}

static tern_status parse_layers(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json), *types, *layers;
    const char *where = tern_json_where(json);

    TERN_TRY(tern_json_opt_value(ctx, json, root, "attention_types", TERN_JSON_ARRAY, &types));
    TERN_TRY(tern_json_opt_value(ctx, json, root, "attention_layers", TERN_JSON_ARRAY, &layers));
    TERN_TRY(tern_spec_local(ctx, c, spec));
    if (types)
        TERN_TRY(expand_types(ctx, json, types, c->n_layers, spec->local));
    TERN_REQUIRE(ctx, types || layers || c->n_layers == 24, TERN_ERR_FORMAT,
                 "%s: neither attention_types nor attention_layers, expected one of them for %d layers", where,
                 c->n_layers);
    for (int32_t i = 0; !types && i < c->n_layers; i++)
        spec->local[i] = i % 2 == 1;
    TERN_REQUIRE(ctx, !layers || tern_json_size(layers) == (size_t)c->n_layers, TERN_ERR_CONFIG,
                 "%s: attention_layers names %zu layers, num_layers is %d", where, tern_json_size(layers), c->n_layers);
    for (int32_t i = 0; layers && i < c->n_layers; i++) {
        uint8_t kind;
        TERN_TRY(layer_kind(ctx, json, "attention_layers", tern_json_at(layers, (size_t)i), &kind));
        TERN_REQUIRE(ctx, !types || kind == spec->local[i], TERN_ERR_FORMAT,
                     "%s: layer %d is %s by attention_layers and %s by attention_types, expected one kind for both",
                     where, i, kind ? "local" : "global", spec->local[i] ? "local" : "global");
        spec->local[i] = kind;
    }
    return TERN_OK;
}

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t inner, window;

    spec->names = &names;
    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "max_position_embeddings", NULL, 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_size", NULL, 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "num_layers", "num_hidden_layers", 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "num_heads", "num_attention_heads", 1, 1 << 20, &c->heads));
    c->kv_heads = c->heads;
    TERN_TRY(tern_config_heads(ctx, json, c));
    c->scale_attention = false;
    TERN_TRY(tern_json_opt_int(ctx, json, root, "intermediate_size", 1, 1 << 22, (int64_t)4 * c->hidden_size, &inner));
    c->intermediate_size = (int32_t)inner;
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_epsilon", 1e-5, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "activation_function", "gelu_new", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "window_size", 1, INT32_MAX, 256, &window));
    spec->window = (int32_t)window;
    TERN_TRY(parse_layers(ctx, json, c, spec));
    spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->position_rows = c->n_context;
    return TERN_OK;
}

const struct tern_arch tern_arch_gpt_neo = TERN_TRANSFORMER("gpt_neo", architectures, parse_config);
