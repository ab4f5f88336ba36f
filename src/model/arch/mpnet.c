/* mpnet.c: MPNet.
 *
 *   x = LayerNorm(word[id] + position[place])                                                       [T, H]
 *   each layer:  x = LayerNorm(x + attention(x));  x = LayerNorm(x + MLP(x))     every token sees all; GELU; biases everywhere
 *   score[q, k] += relative[bucket(q - k)][head]         the same table in every layer
 *
 *   MPNetModel                     x, and pooled = tanh(pooler x[0])             where the file has the pooler
 *   ..ForMaskedLM                  LayerNorm(gelu(dense x)) word^T + bias
 *   ..ForSequenceClassification    out_proj tanh(dense x[0])
 *   ..ForTokenClassification       classifier x
 *
 * Places begin behind that of id 1, the padding, whatever pad_token_id says; a token with that id stands at place 1, as in RoBERTa.
 * The reference reads the first 32 rows of the table of distances, whatever relative_attention_num_buckets says.
 *
 * Sources: Song et al. 2020 (arXiv:2004.09297); transformers 5.23, models/mpnet/. */
#include "model/arch/roberta_heads.h"
#include "model/model_config.h"
#include "model/relative_bias.h"
#include "model/transformer.h"

#define PADDING 1

static const struct tern_names names = {
    .embed = "embeddings.word_embeddings",
    .positions = "embeddings.position_embeddings",
    .relative = "encoder.relative_attention_bias",
    .embed_norm = "embeddings.LayerNorm",
    .attn_norm = "encoder.layer.#.output.LayerNorm",
    .q = "encoder.layer.#.attention.attn.q",
    .k = "encoder.layer.#.attention.attn.k",
    .v = "encoder.layer.#.attention.attn.v",
    .out = "encoder.layer.#.attention.attn.o",
    .mlp_norm = "encoder.layer.#.attention.LayerNorm",
    .up = "encoder.layer.#.intermediate.dense",
    .down = "encoder.layer.#.output.dense",
};
static const char *const prefixes[] = { "mpnet.", NULL };
static const char *const ignored[] = { "embeddings.position_ids", NULL };
static const char *const unused[] = { "pooler.dense.weight",
                                      "pooler.dense.bias",
                                      "lm_head.bias",
                                      "lm_head.dense.weight",
                                      "lm_head.dense.bias",
                                      "lm_head.layer_norm.weight",
                                      "lm_head.layer_norm.bias",
                                      "lm_head.decoder.weight",
                                      "lm_head.decoder.bias",
                                      "classifier.weight",
                                      "classifier.bias",
                                      "classifier.dense.weight",
                                      "classifier.dense.bias",
                                      "classifier.out_proj.weight",
                                      "classifier.out_proj.bias",
                                      "qa_outputs.weight",
                                      "qa_outputs.bias",
                                      NULL };
static const char *const architectures[] = { "MPNetModel", "MPNetForMaskedLM", "MPNetForSequenceClassification",
                                             "MPNetForTokenClassification", NULL };

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    int64_t rows;

    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_eps", 1e-12, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "hidden_act", "gelu", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(tern_json_opt_int(ctx, json, tern_json_root(json), "relative_attention_num_buckets", 1, 1 << 20,
                               TERN_RELATIVE_BUCKETS, &rows));
    TERN_REQUIRE(ctx, rows >= TERN_RELATIVE_BUCKETS, TERN_ERR_UNSUPPORTED,
                 "%s: relative_attention_num_buckets is %" PRId64 ", expected at least %d, which are read",
                 tern_json_where(json), rows, TERN_RELATIVE_BUCKETS);
    TERN_REQUIRE(ctx, c->n_context > PADDING + 1, TERN_ERR_CONFIG,
                 "%s: max_position_embeddings is %d, of which those from %d on count, expected at least one",
                 tern_json_where(json), c->n_context, PADDING + 1);
    spec->relative_rows = (int32_t)rows;
    spec->position_rows = c->n_context;
    spec->position_offset = spec->position_pad = PADDING + 1;
    c->n_context -= PADDING + 1;
    c->bidirectional = true;
    c->task = tern_config_task(c);
    spec->form = TERN_BLOCK_POST;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    if (c->task == TERN_TASK_CLASSIFY || c->task == TERN_TASK_TAG)
        TERN_TRY(tern_config_labels(ctx, json, c, spec));
    spec->head = c->task == TERN_TASK_FILL       ? roberta_fill
                 : c->task == TERN_TASK_CLASSIFY ? roberta_classify
                 : c->task == TERN_TASK_TAG      ? roberta_tag
                                                 : roberta_pooler;
    spec->head.n_out = c->n_labels;
    return TERN_OK;
}

const struct tern_arch tern_arch_mpnet = TERN_TRANSFORMER("mpnet", architectures, parse_config);
