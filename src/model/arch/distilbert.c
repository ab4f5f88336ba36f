/* distilbert.c: DistilBERT.
 *
 *   x = LayerNorm(word[id] + position[t])                                                           [T, H]
 *   each layer:  x = LayerNorm(x + attention(x));  x = LayerNorm(x + MLP(x))     every token sees all; GELU; biases everywhere
 *
 *   DistilBertModel                x: there is no pooler
 *   ..ForMaskedLM                  LayerNorm(act(dense x)) word^T + bias
 *   ..ForSequenceClassification    classifier relu(dense x[0])
 *   ..ForTokenClassification       classifier x
 *
 * A block is BERT's under other names; segments are not known.  sinusoidal_pos_embds says only how positions began: they are in the
 * file.
 *
 * Sources: Sanh et al. 2019 (arXiv:1910.01108); transformers 5.23, models/distilbert/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const struct tern_names names = {
    .embed = "embeddings.word_embeddings",
    .positions = "embeddings.position_embeddings",
    .embed_norm = "embeddings.LayerNorm",
    .attn_norm = "transformer.layer.#.output_layer_norm",
    .q = "transformer.layer.#.attention.q_lin",
    .k = "transformer.layer.#.attention.k_lin",
    .v = "transformer.layer.#.attention.v_lin",
    .out = "transformer.layer.#.attention.out_lin",
    .mlp_norm = "transformer.layer.#.sa_layer_norm",
    .up = "transformer.layer.#.ffn.lin1",
    .down = "transformer.layer.#.ffn.lin2",
};
static const char *const prefixes[] = { "distilbert.", NULL };
static const char *const ignored[] = { "embeddings.position_ids", NULL };
static const char *const unused[] = { "vocab_transform.weight",
                                      "vocab_transform.bias",
                                      "vocab_layer_norm.weight",
                                      "vocab_layer_norm.bias",
                                      "vocab_projector.weight",
                                      "vocab_projector.bias",
                                      "pre_classifier.weight",
                                      "pre_classifier.bias",
                                      "classifier.weight",
                                      "classifier.bias",
                                      "qa_outputs.weight",
                                      "qa_outputs.bias",
                                      NULL };
static const char *const architectures[] = { "DistilBertModel", "DistilBertForMaskedLM",
                                             "DistilBertForSequenceClassification", "DistilBertForTokenClassification",
                                             NULL };

static const struct tern_head_spec fill = { .dense = "vocab_transform",
                                            .dense_bias = true,
                                            .dense_norm = "vocab_layer_norm",
                                            .out = "vocab_projector",
                                            .out_bias = "vocab_projector.bias" };
static const struct tern_head_spec classify = { .pool = TERN_POOL_FIRST,
                                                .dense = "pre_classifier",
                                                .dense_bias = true,
                                                .act = TERN_ACT_RELU,
                                                .out = "classifier",
                                                .out_bias = "classifier.bias" };
static const struct tern_head_spec tag = { .out = "classifier", .out_bias = "classifier.bias" };

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    spec->names = &names;
    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "max_position_embeddings", NULL, 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "dim", "hidden_size", 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_layers", "num_hidden_layers", 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "n_heads", "num_attention_heads", 1, 1 << 20, &c->heads));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_dim", NULL, 1, 1 << 22, &c->intermediate_size));
    TERN_REQUIRE(ctx, c->hidden_size % c->heads == 0, TERN_ERR_CONFIG,
                 "%s: dim is %d, expected a multiple of n_heads, %d", tern_json_where(json), c->hidden_size, c->heads);
    c->kv_heads = c->heads;
    TERN_TRY(tern_config_heads(ctx, json, c));
    c->norm_type = TERN_LAYER_NORM;
    c->norm_eps = 1e-12F;
    TERN_TRY(tern_config_activation_name(ctx, json, "activation", "gelu", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    c->bidirectional = true;
    c->task = tern_config_task(c);
    spec->form = TERN_BLOCK_POST;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->position_rows = c->n_context;
    if (c->task == TERN_TASK_FILL) {
        spec->head = fill;
        spec->head.act = tern_config_act(c);
    } else if (c->task == TERN_TASK_CLASSIFY || c->task == TERN_TASK_TAG) {
        TERN_TRY(tern_config_labels(ctx, json, c, spec));
        spec->head = c->task == TERN_TASK_TAG ? tag : classify;
        spec->head.n_out = c->n_labels;
    }
    return TERN_OK;
}

const struct tern_arch tern_arch_distilbert = TERN_TRANSFORMER("distilbert", architectures, parse_config);
