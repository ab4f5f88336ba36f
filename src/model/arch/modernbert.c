/* modernbert.c: ModernBERT.
 *
 *   x = LayerNorm(word[id])                                                                          [T, H]
 *   each layer:  s = x + attention(N1 x);  x = s + Wo (act(i) * g),  [i | g] = Wi N2 s      the first layer has no N1
 *   r = LayerNorm(x)
 *
 *   ModernBertModel                r: there is no pooler
 *   ..ForMaskedLM                  decoder head(r)                       head(v) = LayerNorm(act(dense v))
 *   ..ForSequenceClassification    classifier head(r[0]), or of the mean of r
 *   ..ForTokenClassification       classifier head(r)
 *
 * A token of a local layer sees local_attention / 2 others on each side.  Layers turn q and k by a theta of their kind:
 * rope_parameters by type of layer, or global_rope_theta and local_rope_theta.  Which are local: layer_types, or all but every
 * global_attn_every_n_layers-th, from the first on.
 *
 * Sources: Warner et al. 2024 (arXiv:2412.13663); transformers 5.23, models/modernbert/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

#include <string.h>

static const struct tern_names names = {
    .embed = "embeddings.tok_embeddings",
    .embed_norm = "embeddings.norm",
    .final_norm = "final_norm",
    .attn_norm = "layers.#.attn_norm",
    .qkv = "layers.#.attn.Wqkv",
    .out = "layers.#.attn.Wo",
    .mlp_norm = "layers.#.mlp_norm",
    .gate_up = "layers.#.mlp.Wi",
    .down = "layers.#.mlp.Wo",
};
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { NULL };
static const char *const unused[] = { "head.dense.weight", "head.dense.bias", "head.norm.weight",
                                      "head.norm.bias",    "decoder.weight",  "decoder.bias",
                                      "classifier.weight", "classifier.bias", NULL };
static const char *const architectures[] = { "ModernBertModel", "ModernBertForMaskedLM",
                                             "ModernBertForSequenceClassification", "ModernBertForTokenClassification",
                                             NULL };

/* The rope of a kind of layers; its theta in the object of its type and beside it by its old name must agree. */
static tern_status parse_rope(tern_ctx *ctx, const struct tern_json *json, const char *layer_type, const char *key,
                              double standard, int32_t head_dim, struct tern_rope *rope)
{
    const tern_json_value *root = tern_json_root(json), *old = tern_json_get(root, key);
    struct tern_rope_defaults defaults = { .head_dim = head_dim, .theta_key = key };

    TERN_REQUIRE(ctx, !old || tern_json_type(old) != TERN_JSON_NULL, TERN_ERR_UNSUPPORTED,
                 "%s: %s is null, expected a number", tern_json_where(json), key);
    TERN_TRY(tern_json_opt_number(ctx, json, root, key, standard, &defaults.theta));
    TERN_TRY(tern_config_rope(ctx, json, layer_type, &defaults, rope));
    TERN_REQUIRE(ctx, !old || rope->theta == defaults.theta, TERN_ERR_FORMAT,
                 "%s: %s is %g, and rope_theta %g in rope_parameters, expected one value for both",
                 tern_json_where(json), key, defaults.theta, rope->theta);
    return TERN_OK;
}

static tern_status parse_layers(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t reach, every;
    bool there;

    TERN_TRY(tern_json_opt_int(ctx, json, root, "local_attention", 1, INT32_MAX, 128, &reach));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "global_attn_every_n_layers", 1, INT32_MAX, 3, &every));
    spec->window = (int32_t)(reach / 2 + 1);
    TERN_TRY(tern_spec_local(ctx, c, spec));
    TERN_TRY(tern_config_layer_types(ctx, json, c, spec, &there));
    for (int32_t i = 0; i < c->n_layers; i++) {
        const bool local = i % every != 0;
        TERN_REQUIRE(
            ctx, !there || !tern_json_get(root, "global_attn_every_n_layers") || local == spec->local[i],
            TERN_ERR_FORMAT,
            "%s: layer %d is %s by layer_types and %s by global_attn_every_n_layers, expected one kind for both",
            tern_json_where(json), i, spec->local[i] ? "local" : "global", local ? "local" : "global");
        spec->local[i] = there ? spec->local[i] : local;
    }
    TERN_TRY(parse_rope(ctx, json, "full_attention", "global_rope_theta", 160000, c->head_dim, &spec->rope));
    return parse_rope(ctx, json, "sliding_attention", "local_rope_theta", 10000, c->head_dim, &spec->local_rope);
}

static tern_status parse_head(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c, struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    tern_model_config inner = *c; /* for the activation of the head */
    const char *pooling;
    bool bias, decoder_bias;

    TERN_TRY(tern_json_opt_bool(ctx, json, root, "classifier_bias", false, &bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "decoder_bias", true, &decoder_bias));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "classifier_pooling", "cls", &pooling));
    TERN_REQUIRE(ctx, strcmp(pooling, "cls") == 0 || strcmp(pooling, "mean") == 0, TERN_ERR_UNSUPPORTED,
                 "%s: classifier_pooling is \"%s\", expected cls or mean", tern_json_where(json), pooling);
    TERN_TRY(tern_config_activation_name(ctx, json, "classifier_activation", "gelu", &inner));
    if (c->task == TERN_TASK_STATES)
        return TERN_OK;
    spec->head = (struct tern_head_spec){
        .dense = "head.dense", .dense_bias = bias, .act = tern_config_act(&inner), .dense_norm = "head.norm"
    };
    if (c->task == TERN_TASK_FILL) {
        spec->head.out = "decoder";
        spec->head.out_bias = decoder_bias ? "decoder.bias" : NULL;
        return TERN_OK;
    }
    if (c->task == TERN_TASK_CLASSIFY)
        spec->head.pool = strcmp(pooling, "mean") == 0 ? TERN_POOL_MEAN : TERN_POOL_FIRST;
    spec->head.out = "classifier";
    spec->head.out_bias = "classifier.bias";
    TERN_TRY(tern_config_labels(ctx, json, c, spec));
    spec->head.n_out = c->n_labels;
    return TERN_OK;
}

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);

    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_REQUIRE(
        ctx, (int64_t)c->heads * c->head_dim == c->hidden_size && c->kv_heads == c->heads, TERN_ERR_UNSUPPORTED,
        "%s: %d heads of %d channels and %d of keys and values, expected as many, and hidden_size, %d, together",
        tern_json_where(json), c->heads, c->head_dim, c->kv_heads, c->hidden_size);
    TERN_TRY(tern_config_layer_norm(ctx, json, "norm_eps", 1e-5, c));
    TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_activation", "gelu", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "norm_bias", false, &spec->norm_bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "attention_bias", false, &spec->qkv_bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "mlp_bias", false, &spec->up_bias));
    spec->out_bias = spec->qkv_bias;
    spec->down_bias = spec->up_bias;
    spec->qkv_order = TERN_QKV_JOINED;
    spec->first_plain = true;
    c->bidirectional = true;
    c->task = tern_config_task(c);
    TERN_TRY(parse_layers(ctx, json, c, spec));
    return parse_head(ctx, json, c, spec);
}

const struct tern_arch tern_arch_modernbert = TERN_TRANSFORMER("modernbert", architectures, parse_config);
