/* albert.c: ALBERT.
 *
 *   e = LayerNorm(word[id] + type[segment] + position[t]);  x = mapping e + bias                    [T, P], [T, H]
 *   each layer:  x = LayerNorm(x + attention(x));  x = LayerNorm(x + MLP(x))     every token sees all; GELU; biases everywhere
 *
 *   AlbertModel                    x, and pooled = tanh(pooler x[0])             where the file has the pooler
 *   ..ForMaskedLM, ..ForPreTraining   LayerNorm(act(dense x)) word^T + bias      dense: H to P
 *   ..ForSequenceClassification    classifier pooled
 *   ..ForTokenClassification       classifier x
 *
 * All layers are one: num_hidden_groups and inner_group_num other than 1 are refused.
 *
 * Sources: Lan et al. 2019 (arXiv:1909.11942); transformers 5.23, models/albert/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

#define LAYER "encoder.albert_layer_groups.0.albert_layers.0."

static const struct tern_names names = {
    .embed = "embeddings.word_embeddings",
    .types = "embeddings.token_type_embeddings",
    .positions = "embeddings.position_embeddings",
    .embed_norm = "embeddings.LayerNorm",
    .project_in = "encoder.embedding_hidden_mapping_in",
    .attn_norm = LAYER "full_layer_layer_norm",
    .q = LAYER "attention.query",
    .k = LAYER "attention.key",
    .v = LAYER "attention.value",
    .out = LAYER "attention.dense",
    .mlp_norm = LAYER "attention.LayerNorm",
    .up = LAYER "ffn",
    .down = LAYER "ffn_output",
};
static const char *const prefixes[] = { "albert.", NULL };
static const char *const ignored[] = { "embeddings.position_ids", "embeddings.token_type_ids", NULL };
static const char *const unused[] = { "pooler.weight",
                                      "pooler.bias",
                                      "predictions.bias",
                                      "predictions.dense.weight",
                                      "predictions.dense.bias",
                                      "predictions.LayerNorm.weight",
                                      "predictions.LayerNorm.bias",
                                      "predictions.decoder.weight",
                                      "predictions.decoder.bias",
                                      "sop_classifier.classifier.weight",
                                      "sop_classifier.classifier.bias",
                                      "classifier.weight",
                                      "classifier.bias",
                                      "qa_outputs.weight",
                                      "qa_outputs.bias",
                                      NULL };
static const char *const architectures[] = { "AlbertModel",
                                             "AlbertForMaskedLM",
                                             "AlbertForPreTraining",
                                             "AlbertForSequenceClassification",
                                             "AlbertForTokenClassification",
                                             NULL };

static const struct tern_head_spec pooler = {
    .pool = TERN_POOL_FIRST, .dense = "pooler", .dense_prefixed = true, .dense_bias = true, .act = TERN_ACT_TANH
};

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    static const char *const ones[] = { "num_hidden_groups", "inner_group_num" };
    const tern_json_value *root = tern_json_root(json);
    struct tern_head_spec *head = &spec->head;
    int64_t width, types, n;

    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "embedding_size", 1, 1 << 20, 128, &width));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "type_vocab_size", 1, 1 << 20, 2, &types));
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) {
        TERN_TRY(tern_json_opt_int(ctx, json, root, ones[i], 1, INT32_MAX, 1, &n));
        TERN_REQUIRE(ctx, n == 1, TERN_ERR_UNSUPPORTED, "%s: %s is %" PRId64 ", tern supports 1", tern_json_where(json),
                     ones[i], n);
    }
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_eps", 1e-12, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "hidden_act", "gelu_new", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    c->n_types = (int32_t)types;
    c->bidirectional = true;
    c->task = tern_config_task(c);
    spec->form = TERN_BLOCK_POST;
    spec->shared_layers = true;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->position_rows = c->n_context;
    spec->embed_width = (int32_t)width;
    spec->embed_inside = spec->project_bias = true;

    *head = pooler;
    if (c->task == TERN_TASK_FILL)
        *head = (struct tern_head_spec){ .dense = "predictions.dense",
                                         .dense_bias = true,
                                         .dense_width = (int32_t)width,
                                         .act = tern_config_act(c),
                                         .dense_norm = "predictions.LayerNorm",
                                         .out = "predictions.decoder",
                                         .out_bias = "predictions.bias" };
    if (c->task != TERN_TASK_CLASSIFY && c->task != TERN_TASK_TAG)
        return TERN_OK;
    TERN_TRY(tern_config_labels(ctx, json, c, spec));
    if (c->task == TERN_TASK_TAG)
        *head = (struct tern_head_spec){ .dense = NULL };
    head->out = "classifier";
    head->out_bias = "classifier.bias";
    head->n_out = c->n_labels;
    return TERN_OK;
}

const struct tern_arch tern_arch_albert = TERN_TRANSFORMER("albert", architectures, parse_config);
