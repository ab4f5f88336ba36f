/* score.c: texts and pairs to scores of labels.
 *
 * Source: sentence-transformers 6.2, cross_encoder/model.py, for where a cross-encoder's activation stands. */
#include "base/file.h"
#include "base/memory.h"
#include "engine/embed_modules.h"
#include "engine/text_batch.h"
#include "model/module_list.h"

#include <tern/score.h>

#include <math.h>
#include <string.h>

#define GROUP      64   /* texts of a group, at most */
#define GROUP_ROWS 4096 /* and tokens, unless one text has more */
#define LONGEST    8192 /* tokens of a text, whatever the model could read */

struct tern_scorer {
    tern_ctx *ctx;
    tern_model *model;
    tern_tokenizer *tokenizer;
    tern_encoder *encoder;
    int32_t max_tokens;
    tern_score_activation activation;
};

/* ---- what sentence-transformers says ---- */

/* The class that `key` names, if it does: *found. */
static tern_status read_activation(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                                   const char *key, bool *found, tern_score_activation *out)
{
    const char *name;

    TERN_TRY(tern_json_opt_string(ctx, json, object, key, NULL, &name));
    *found = name != NULL;
    if (!name)
        return TERN_OK;
    const char *last = strncmp(name, "torch.nn.", strlen("torch.nn.")) == 0 ? strrchr(name, '.') + 1 : "";
    const bool sigmoid = strcmp(last, "Sigmoid") == 0;
    TERN_REQUIRE(ctx, sigmoid || strcmp(last, "Identity") == 0, TERN_ERR_UNSUPPORTED,
                 "%s: %s is \"%s\", expected torch.nn's Sigmoid or Identity", tern_json_where(json), key, name);
    *out = sigmoid ? TERN_SCORE_SIGMOID : TERN_SCORE_IDENTITY;
    return TERN_OK;
}

/* config.json may say it in two ways, the newer of which counts. */
static tern_status read_model_activation(struct tern_scorer *s, bool *found)
{
    static const char older[] = "sbert_ce_default_activation_function";
    struct tern_json *json;
    const tern_json_value *newer;
    tern_status status;

    TERN_TRY(embed_read_json(s->ctx, tern_model_path(s->model), "config.json", true, TERN_JSON_OBJECT, &json));
    const tern_json_value *root = tern_json_root(json);
    TERN_TRY_OR_FAIL(tern_json_opt_value(s->ctx, json, root, "sentence_transformers", TERN_JSON_OBJECT, &newer));
    if (newer)
        TERN_TRY_OR_FAIL(read_activation(s->ctx, json, newer, "activation_fn", found, &s->activation));
    status = *found ? TERN_OK : read_activation(s->ctx, json, root, older, found, &s->activation);

fail:
    tern_json_destroy(json);
    return status;
}

/* modules.json: the transformer and nothing behind it. */
static tern_status read_modules(struct tern_scorer *s, const char *dir, const struct tern_json *list, bool *found)
{
    struct tern_json *settings = NULL;
    char *folder;
    const char *type;
    tern_status status;

    TERN_TRY(tern_module_entry(s->ctx, dir, list, 0, &type, &folder));
    const size_t n = tern_json_size(tern_json_root(list));
    TERN_REQUIRE_OR_FAIL(s->ctx, n == 1 && strcmp(tern_module_class(type), "Transformer") == 0, TERN_ERR_UNSUPPORTED,
                         "%s: has %zu modules, the first of them \"%s\", expected a cross-encoder's: "
                         "sentence_transformers' Transformer alone",
                         tern_json_where(list), n, type);
    TERN_TRY_OR_FAIL(embed_transformer_read(s->ctx, folder, "sequence-classification", &s->max_tokens));
    TERN_TRY_OR_FAIL(
        embed_read_json(s->ctx, dir, "config_sentence_transformers.json", false, TERN_JSON_OBJECT, &settings));
    if (settings) {
        const tern_json_value *root = tern_json_root(settings);
        const char *prompt;
        TERN_TRY_OR_FAIL(tern_json_opt_string(s->ctx, settings, root, "default_prompt_name", NULL, &prompt));
        TERN_REQUIRE_OR_FAIL(s->ctx, !prompt, TERN_ERR_UNSUPPORTED,
                             "%s: default_prompt_name is \"%s\", tern supports null for a cross-encoder",
                             tern_json_where(settings), prompt);
        TERN_TRY_OR_FAIL(read_activation(s->ctx, settings, root, "activation_fn", found, &s->activation));
    }
    status = TERN_OK;

fail:
    tern_json_destroy(settings);
    tern_free(folder);
    return status;
}

static tern_status read_settings(struct tern_scorer *s, const char *dir)
{
    struct tern_json *list;
    bool found = false;

    s->activation = tern_model_get_config(s->model)->n_labels == 1 ? TERN_SCORE_SIGMOID : TERN_SCORE_IDENTITY;
    TERN_TRY(embed_read_json(s->ctx, dir, "modules.json", false, TERN_JSON_ARRAY, &list));
    const tern_status status =
        list ? read_modules(s, dir, list, &found) : embed_model_max_read(s->ctx, dir, &s->max_tokens);
    tern_json_destroy(list);
    return status == TERN_OK && !found ? read_model_activation(s, &found) : status;
}

/* ---- open and close ---- */

static tern_status make_encoder(struct tern_scorer *s)
{
    const int32_t context = tern_model_get_config(s->model)->n_context;
    tern_encoder_options options = tern_encoder_options_default();

    if (s->max_tokens == 0 || s->max_tokens > context)
        s->max_tokens = context;
    if (s->max_tokens > LONGEST)
        s->max_tokens = LONGEST;
    options.n_context = s->max_tokens;
    return tern_encoder_create(s->ctx, s->model, &options, &s->encoder);
}

tern_status tern_scorer_open(tern_ctx *ctx, const char *name, const tern_model_options *options, tern_scorer **out)
{
    struct tern_scorer *s = NULL;
    char *dir = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "scorer_open: out is NULL");
    *out = NULL;
    TERN_REQUIRE(NULL, ctx, TERN_ERR_ARG, "scorer_open: ctx is NULL");
    TERN_TRY(TERN_ALLOC(ctx, 1, "a scorer", &s));
    s->ctx = ctx;
    TERN_TRY_OR_FAIL(tern_directory_find(ctx, name, &dir));
    TERN_TRY_OR_FAIL(tern_model_open(ctx, dir, options, &s->model));
    const tern_model_config *c = tern_model_get_config(s->model);
    TERN_REQUIRE_OR_FAIL(ctx, c->task == TERN_TASK_CLASSIFY, TERN_ERR_UNSUPPORTED,
                         "%s gives no scores of labels for a text, expected a ..ForSequenceClassification",
                         c->architecture);
    TERN_TRY_OR_FAIL(read_settings(s, dir));
    TERN_TRY_OR_FAIL(tern_tokenizer_open(ctx, tern_model_path(s->model), &s->tokenizer));
    TERN_TRY_OR_FAIL(make_encoder(s));
    tern_path_free(dir);
    *out = s;
    return TERN_OK;

fail:
    tern_path_free(dir);
    tern_scorer_close(&s);
    return status;
}

void tern_scorer_close(tern_scorer **scorer)
{
    if (!scorer || !*scorer)
        return;
    struct tern_scorer *s = *scorer;
    tern_encoder_destroy(&s->encoder);
    tern_model_close(&s->model);
    tern_tokenizer_close(&s->tokenizer);
    tern_free(s);
    *scorer = NULL;
}

const tern_model *tern_scorer_model(const tern_scorer *s)
{
    return s ? s->model : NULL;
}

int32_t tern_scorer_max_tokens(const tern_scorer *s)
{
    return s ? s->max_tokens : 0;
}

tern_score_activation tern_scorer_activation(const tern_scorer *s)
{
    return s ? s->activation : TERN_SCORE_IDENTITY;
}

tern_encoder_stats tern_scorer_get_stats(const tern_scorer *s)
{
    return tern_encoder_get_stats(s ? s->encoder : NULL);
}

/* ---- scores ---- */

static tern_status run_all(struct tern_scorer *s, struct text_batch *b, float *room, float *scores)
{
    const size_t C = (size_t)tern_model_outputs(s->model);

    for (size_t at = 0, n; at < b->n; at += n) {
        n = text_batch_group(b, at);
        TERN_TRY(tern_encode(s->encoder, b->group, n, NULL, room));
        for (size_t i = 0; i < n * C; i++)
            TERN_REQUIRE(s->ctx, isfinite(room[i]), TERN_ERR_FORMAT,
                         "text %zu: the model gives a number that is not finite: %g as the score of label %zu",
                         b->order[at + i / C] + 1, (double)room[i], i % C);
        for (size_t i = 0; i < n; i++)
            memcpy(scores + b->order[at + i] * C, room + i * C, C * sizeof *scores);
        TERN_TRY(text_batch_tell(b, at + n));
    }
    return TERN_OK;
}

tern_status tern_score(tern_scorer *s, const char *const *texts, const size_t *sizes, size_t n,
                       const tern_score_options *options, float *scores)
{
    const tern_score_options standard = { 0 };
    float *room = NULL;
    tern_status status;

    options = options ? options : &standard;
    TERN_REQUIRE(NULL, s, TERN_ERR_ARG, "scorer is NULL");
    TERN_REQUIRE(s->ctx, n == 0 || (texts && sizes && scores), TERN_ERR_ARG, "score: texts, sizes or scores is NULL");
    TERN_TRY(TERN_CHECK_RESERVED(s->ctx, "tern_score_options", options));
    const struct text_how how = {
        .query = options->query, .query_size = options->query_size, .max_tokens = s->max_tokens, .cut = options->cut
    };
    struct text_batch b = { .ctx = s->ctx,
                            .tokenizer = s->tokenizer,
                            .model = s->model,
                            .what = "score",
                            .progress = options->progress,
                            .user = options->user,
                            .n = n };
    if (options->n_cut)
        *options->n_cut = 0;
    if (n == 0)
        return TERN_OK;
    TERN_TRY_OR_FAIL(text_batch_read(&b, texts, sizes, &how, GROUP, GROUP_ROWS));
    TERN_TRY_OR_FAIL(
        TERN_ALLOC(s->ctx, b.group_texts * (size_t)tern_model_outputs(s->model), "scores of texts", &room));
    status = run_all(s, &b, room, scores);
    if (options->n_cut)
        *options->n_cut = b.n_cut;

fail:
    text_batch_free(&b);
    tern_free(room);
    return status;
}
