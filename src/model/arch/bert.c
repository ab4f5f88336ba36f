/* bert.c: BERT, RoBERTa and XLM-RoBERTa.
 *
 *   x = LayerNorm(word[id] + type[segment] + position[place])                                       [T, H]
 *   each layer:  x = LayerNorm(x + attention(x));  x = LayerNorm(x + MLP(x))     every token sees all; GELU; biases everywhere
 *
 *   ..Model                        x, and pooled = tanh(pooler x[0])             where the file has the pooler
 *   ..ForMaskedLM                  LayerNorm(act(dense x)) word^T + bias
 *   ..ForSequenceClassification    BERT: classifier pooled;  RoBERTa: out_proj tanh(dense x[0])
 *   ..ForTokenClassification       classifier x
 *
 * RoBERTa's places begin behind that of its padding id, where a token with that id stands itself.  Token ids of other tasks' heads
 * are skipped by name.  Older files have LayerNorm.gamma and LayerNorm.beta.
 *
 * Sources: Devlin et al. 2018 (arXiv:1810.04805); Liu et al. 2019 (arXiv:1907.11692); transformers 5.23,
 * models/{bert,roberta,xlm_roberta}/ (eager attention). */
#include "model/arch/roberta_heads.h"
#include "model/model_config.h"
#include "model/transformer.h"

#include <string.h>

static const struct tern_names names = {
    .embed = "embeddings.word_embeddings",
    .types = "embeddings.token_type_embeddings",
    .positions = "embeddings.position_embeddings",
    .embed_norm = "embeddings.LayerNorm",
    .attn_norm = "encoder.layer.#.output.LayerNorm",
    .q = "encoder.layer.#.attention.self.query",
    .k = "encoder.layer.#.attention.self.key",
    .v = "encoder.layer.#.attention.self.value",
    .out = "encoder.layer.#.attention.output.dense",
    .mlp_norm = "encoder.layer.#.attention.output.LayerNorm",
    .up = "encoder.layer.#.intermediate.dense",
    .down = "encoder.layer.#.output.dense",
};
static const char *const prefixes[] = { "bert.", "roberta.", NULL };
static const char *const ignored[] = { "embeddings.position_ids", "embeddings.token_type_ids", NULL };
static const char *const unused[] = { "pooler.dense.weight",
                                      "pooler.dense.bias",
                                      "cls.predictions.bias",
                                      "cls.predictions.transform.dense.weight",
                                      "cls.predictions.transform.dense.bias",
                                      "cls.predictions.transform.LayerNorm.weight",
                                      "cls.predictions.transform.LayerNorm.bias",
                                      "cls.predictions.transform.LayerNorm.gamma",
                                      "cls.predictions.transform.LayerNorm.beta",
                                      "cls.predictions.decoder.weight",
                                      "cls.predictions.decoder.bias",
                                      "cls.seq_relationship.weight",
                                      "cls.seq_relationship.bias",
                                      "lm_head.bias",
                                      "lm_head.dense.weight",
                                      "lm_head.dense.bias",
                                      "lm_head.layer_norm.weight",
                                      "lm_head.layer_norm.bias",
                                      "lm_head.decoder.weight",
                                      "lm_head.decoder.bias",
                                      "classifier.weight",
                                      "classifier.bias",
                                      "qa_outputs.weight",
                                      "qa_outputs.bias",
                                      NULL };

static const char *const bert_architectures[] = {
    "BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification", "BertForTokenClassification",
    NULL
};
static const char *const roberta_architectures[] = { "RobertaModel", "RobertaForMaskedLM",
                                                     "RobertaForSequenceClassification",
                                                     "RobertaForTokenClassification", NULL };
static const char *const xlm_roberta_architectures[] = { "XLMRobertaModel", "XLMRobertaForMaskedLM",
                                                         "XLMRobertaForSequenceClassification",
                                                         "XLMRobertaForTokenClassification", NULL };

static const struct tern_head_spec bert_fill = { .dense = "cls.predictions.transform.dense",
                                                 .dense_bias = true,
                                                 .dense_norm = "cls.predictions.transform.LayerNorm",
                                                 .out = "cls.predictions.decoder",
                                                 .out_bias = "cls.predictions.bias" };

static tern_status parse_common(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    const char *kind;
    int64_t types;

    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_eps", 1e-12, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "hidden_act", "gelu", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "type_vocab_size", 1, 1 << 20, 2, &types));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "position_embedding_type", "absolute", &kind));
    TERN_REQUIRE(ctx, strcmp(kind, "absolute") == 0, TERN_ERR_UNSUPPORTED,
                 "%s: position_embedding_type is \"%s\", expected absolute", tern_json_where(json), kind);
    TERN_TRY(tern_config_refuse(ctx, json, "is_decoder"));
    TERN_TRY(tern_config_refuse(ctx, json, "add_cross_attention"));
    c->n_types = (int32_t)types;
    c->bidirectional = true;
    c->task = tern_config_task(c);
    spec->form = TERN_BLOCK_POST;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->position_rows = c->n_context;
    if (c->task == TERN_TASK_CLASSIFY || c->task == TERN_TASK_TAG)
        TERN_TRY(tern_config_labels(ctx, json, c, spec));
    return TERN_OK;
}

/* The head of a task but FILL and CLASSIFY, which siblings do differently. */
static void take_head(const tern_model_config *c, struct tern_head_spec *head)
{
    *head = roberta_pooler;
    if (c->task == TERN_TASK_TAG)
        *head = roberta_tag;
}

static tern_status parse_bert(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c, struct tern_spec *spec)
{
    struct tern_head_spec *head = &spec->head;

    TERN_TRY(parse_common(ctx, json, c, spec));
    take_head(c, head);
    if (c->task == TERN_TASK_FILL) {
        *head = bert_fill;
        head->act = tern_config_act(c);
    } else if (c->task == TERN_TASK_CLASSIFY) {
        head->out = "classifier";
        head->out_bias = "classifier.bias";
    }
    head->n_out = c->n_labels;
    return TERN_OK;
}

static tern_status parse_roberta(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                 struct tern_spec *spec)
{
    int64_t pad;

    TERN_TRY(parse_common(ctx, json, c, spec));
    TERN_TRY(tern_json_opt_int(ctx, json, tern_json_root(json), "pad_token_id", 0, c->vocab_size - 1, 1, &pad));
    TERN_REQUIRE(ctx, pad + 1 < c->n_context, TERN_ERR_CONFIG,
                 "%s: pad_token_id is %" PRId64 ", and of max_position_embeddings, %d, those from %" PRId64
                 " on count, expected at least one",
                 tern_json_where(json), pad, c->n_context, pad + 1);
    spec->position_offset = spec->position_pad = (int32_t)pad + 1;
    c->n_context -= spec->position_offset;
    take_head(c, &spec->head);
    if (c->task == TERN_TASK_FILL)
        spec->head = roberta_fill;
    else if (c->task == TERN_TASK_CLASSIFY)
        spec->head = roberta_classify;
    spec->head.n_out = c->n_labels;
    return TERN_OK;
}

const struct tern_arch tern_arch_bert = TERN_TRANSFORMER("bert", bert_architectures, parse_bert);
const struct tern_arch tern_arch_roberta = TERN_TRANSFORMER("roberta", roberta_architectures, parse_roberta);
const struct tern_arch tern_arch_xlm_roberta =
    TERN_TRANSFORMER("xlm-roberta", xlm_roberta_architectures, parse_roberta);
