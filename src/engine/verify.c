/* verify.c: a checkpoint held against what its reference computed: see verify.h. */
#include "base/file.h"
#include "base/memory.h"
#include "engine/encoder.h"
#include "model/arch.h"
#include "model/safetensors.h"

#include <tern/chat.h>
#include <tern/embed.h>
#include <tern/verify.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CONTEXT_MAX 8192 /* tokens of a prompt: states of all layers are kept */

struct verify {
    tern_ctx *ctx;
    char *dir, *words; /* the directory, and the folder of its transformer: mostly the same */
    const char *golden;
    double tolerance;
    struct tern_safetensors *files;
    tern_model *model;
    tern_tokenizer *tokenizer; /* opened when a text asks for it */
    tern_verify_report *report;
};

static struct tern_file_tensor *part(const struct verify *v, const char *kind, int32_t index)
{
    char name[32];

    snprintf(name, sizeof name, "%s.%" PRId32, kind, index);
    return tern_safetensors_find(v->files, name);
}

/* Whether a tensor is what it should be; a dim of -1 is any. */
static tern_status expect(const struct verify *v, const struct tern_file_tensor *t, tern_dtype dtype, int rank,
                          const int64_t *dim)
{
    TERN_REQUIRE(v->ctx, t->dtype == dtype, TERN_ERR_DTYPE, "%s: tensor \"%s\": dtype is %s, expected %s", v->golden,
                 t->name, tern_dtype_name(t->dtype), tern_dtype_name(dtype));
    return tern_file_tensor_shaped(v->ctx, v->golden, t, rank, dim);
}

/* A copy of a tensor's data, aligned; freed by tern_free(). */
static tern_status copy_data(const struct verify *v, const struct tern_file_tensor *t, void *out)
{
    void **to = out;

    TERN_TRY(tern_alloc(v->ctx, t->size + 1, 1, "a tensor of a golden file", to));
    memcpy(*to, t->data, t->size);
    ((char *)*to)[t->size] = '\0';
    return TERN_OK;
}

/* Largest |got - want| and the largest finite |want|.  What is not finite is an infinite error, unless both are the same. */
static double difference(const float *got, const float *want, size_t n, double *largest)
{
    double worst = 0;

    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        const bool same = (isnan(got[i]) && isnan(want[i])) || got[i] == want[i];
        const double d = same ? 0 : fabs((double)got[i] - (double)want[i]), size = fabs((double)want[i]);
        if (!(d <= worst))
            worst = isfinite(d) ? d : INFINITY;
        if (isfinite(size) && size > *largest)
            *largest = size;
    }
    return worst;
}

static double relative(double error, double largest)
{
    return largest > 0 ? error / largest : error > 0 ? INFINITY : 0;
}

static void keep_largest(double *to, double x)
{
    *to = x > *to ? x : *to;
}

/* ---- a prompt ---- */

/* What one prompt is compared with, and room for what tern makes of it. */
struct prompt {
    int32_t index, n;
    int32_t *ids, *types;
    const struct tern_file_tensor *logits, *answer, *hidden, *final;
    float *got;    /* logits [n][C], or the answer */
    float *states; /* [L + 2][n][H] */
    size_t n_rows; /* of logits that are compared */
};

static tern_status check_prompt(const struct verify *v, struct prompt *p)
{
    const tern_model_config *c = tern_model_get_config(v->model);
    const int64_t C = tern_model_outputs(v->model), H = c->hidden_size, L = c->n_layers;
    const struct tern_file_tensor *ids = part(v, "ids", p->index), *types = part(v, "segments", p->index);

    TERN_TRY(expect(v, ids, TERN_INT32, 1, (int64_t[]){ -1 }));
    TERN_REQUIRE(v->ctx,
                 part(v, "logits", p->index) || part(v, "answer", p->index) || part(v, "hidden", p->index) ||
                     part(v, "final", p->index) || part(v, "text", p->index),
                 TERN_ERR_FORMAT,
                 "%s: tensor \"%s\" alone: neither logits, answer, hidden, final nor text is there for it", v->golden,
                 ids->name);
    TERN_REQUIRE(v->ctx, ids->dim[0] >= 1 && ids->dim[0] <= CONTEXT_MAX && ids->dim[0] <= c->n_context, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\" has %" PRId64 " ids, expected 1..%d", v->golden, ids->name, ids->dim[0],
                 c->n_context < CONTEXT_MAX ? c->n_context : CONTEXT_MAX);
    p->n = (int32_t)ids->dim[0];
    TERN_TRY(copy_data(v, ids, &p->ids));
    for (int32_t t = 0; t < p->n; t++)
        TERN_REQUIRE(v->ctx, p->ids[t] >= 0 && p->ids[t] < c->vocab_size, TERN_ERR_FORMAT,
                     "%s: \"%s\"[%" PRId32 "] is %" PRId32 ", the vocabulary has %" PRId32 " ids", v->golden, ids->name,
                     t, p->ids[t], c->vocab_size);
    if (types) {
        TERN_TRY(expect(v, types, TERN_INT32, 1, (int64_t[]){ p->n }));
        TERN_TRY(copy_data(v, types, &p->types));
        for (int32_t t = 0; t < p->n; t++)
            TERN_REQUIRE(v->ctx, p->types[t] == 0 || (p->types[t] > 0 && p->types[t] < c->n_types), TERN_ERR_FORMAT,
                         "%s: \"%s\"[%" PRId32 "] is %" PRId32 ", the model has %" PRId32 " segments", v->golden,
                         types->name, t, p->types[t], c->n_types);
    }
    p->logits = part(v, "logits", p->index);
    p->answer = part(v, "answer", p->index);
    p->hidden = part(v, "hidden", p->index);
    p->final = part(v, "final", p->index);
    if (p->logits) {
        TERN_TRY(expect(v, p->logits, TERN_FP32, 2, (int64_t[]){ -1, C }));
        TERN_REQUIRE(v->ctx, p->logits->dim[0] >= 1 && p->logits->dim[0] <= p->n, TERN_ERR_FORMAT,
                     "%s: tensor \"%s\" has %" PRId64 " rows, the prompt %" PRId32 " tokens", v->golden,
                     p->logits->name, p->logits->dim[0], p->n);
        p->n_rows = (size_t)p->logits->dim[0];
    }
    if (p->answer)
        TERN_TRY(expect(v, p->answer, TERN_FP32, 1, (int64_t[]){ C }));
    if (p->hidden)
        TERN_TRY(expect(v, p->hidden, TERN_FP32, 3, (int64_t[]){ L, p->n, H }));
    if (p->final)
        TERN_TRY(expect(v, p->final, TERN_FP32, 2, (int64_t[]){ p->n, H }));
    const bool pooled = v->model->spec.head.pool != TERN_POOL_NONE;
    TERN_REQUIRE(v->ctx, !p->logits || (C > 0 && !pooled), TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": %s gives no scores of tokens", v->golden, p->logits->name, c->architecture);
    TERN_REQUIRE(v->ctx, !p->answer || (C > 0 && pooled), TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": %s gives no answer for a text", v->golden, p->answer->name, c->architecture);
    return TERN_OK;
}

/* The prompt alone, with all of its states. */
static tern_status run_prompt(const struct verify *v, struct prompt *p)
{
    const tern_model_config *c = tern_model_get_config(v->model);
    const size_t n = (size_t)p->n, H = (size_t)c->hidden_size, C = (size_t)tern_model_outputs(v->model);
    const size_t n_answers = p->answer ? 1 : p->n_rows;
    const tern_encoder_options options = { .n_context = p->n, .max_batch = p->n, .max_texts = 1 };
    const tern_encode_text text = { .ids = p->ids, .types = p->types, .n_ids = p->n };
    tern_encoder *encoder = NULL;
    tern_status status;

    TERN_TRY_OR_FAIL(TERN_ALLOC(v->ctx, n_answers * C + 1, "logits", &p->got));
    if (p->hidden || p->final)
        TERN_TRY_OR_FAIL(TERN_ALLOC(v->ctx, ((size_t)c->n_layers + 2) * n * H, "states of a prompt", &p->states));
    TERN_TRY_OR_FAIL(tern_encoder_create(v->ctx, v->model, &options, &encoder));
    status = tern_encode_layers(encoder, &text, n_answers, p->got, p->states);

fail:
    tern_encoder_destroy(&encoder);
    return status;
}

static size_t best_of(const float *row, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

static tern_status compare_logits(struct verify *v, const struct prompt *p)
{
    const size_t C = (size_t)tern_model_outputs(v->model);
    tern_verify_report *r = v->report;
    double largest;
    float *want;

    if (p->logits) {
        TERN_TRY(copy_data(v, p->logits, &want));
        const double error = difference(p->got, want, p->n_rows * C, &largest);
        keep_largest(&r->logits_abs, error);
        keep_largest(&r->logits_rel, relative(error, largest));
        for (size_t i = 0; i < p->n_rows; i++, r->n_rows++)
            r->n_best += best_of(p->got + i * C, C) == best_of(want + i * C, C);
        tern_free(want);
    }
    if (p->answer) {
        TERN_TRY(copy_data(v, p->answer, &want));
        const double error = difference(p->got, want, C, &largest);
        keep_largest(&r->answers_abs, error);
        keep_largest(&r->answers_rel, relative(error, largest));
        r->n_answers++;
        tern_free(want);
    }
    return TERN_OK;
}

/* States of layers 0..L-1 are those that each reads; the last is that behind the final norm, or the last layer. */
static tern_status compare_states(struct verify *v, const struct prompt *p)
{
    const tern_model_config *c = tern_model_get_config(v->model);
    const size_t size = (size_t)p->n * (size_t)c->hidden_size, L = (size_t)c->n_layers;
    const struct tern_file_tensor *const from[] = { p->hidden, p->final };
    tern_verify_report *r = v->report;

    for (size_t kind = 0; kind < 2; kind++) {
        float *want;
        if (!from[kind])
            continue;
        TERN_TRY(copy_data(v, from[kind], &want));
        const size_t n_states = kind == 0 ? L : 1, ends = v->model->head.norm ? L + 1 : L;
        for (size_t s = 0; s < n_states; s++) {
            const int32_t index = kind == 0 ? (int32_t)s : (int32_t)L;
            double largest;
            const double error = difference(p->states + (kind == 0 ? s : ends) * size, want + s * size, size, &largest);
            const double rel = relative(error, largest);
            keep_largest(&r->states_abs, error);
            keep_largest(&r->states_rel, rel);
            if (rel > v->tolerance && (r->first_state < 0 || index < r->first_state))
                r->first_state = index;
        }
        r->n_states = (int32_t)L + 1;
        r->final_norm = v->model->head.norm != NULL;
        tern_free(want);
    }
    return TERN_OK;
}

static tern_status verify_prompt(struct verify *v, int32_t index)
{
    struct prompt p = { .index = index };
    tern_status status;

    TERN_TRY_OR_FAIL(check_prompt(v, &p));
    TERN_TRY_OR_FAIL(run_prompt(v, &p));
    TERN_TRY_OR_FAIL(compare_logits(v, &p));
    TERN_TRY_OR_FAIL(compare_states(v, &p));
    v->report->n_prompts++;
    status = TERN_OK;

fail:
    tern_free(p.ids);
    tern_free(p.types);
    tern_free(p.got);
    tern_free(p.states);
    return status;
}

/* ---- texts ---- */

static tern_status verify_text(struct verify *v, int32_t index)
{
    const struct tern_file_tensor *text = part(v, "text", index), *want = part(v, "ids", index);
    tern_ids ids = { 0 };
    char *bytes = NULL;
    tern_status status;

    if (!text)
        return TERN_OK;
    TERN_TRY(expect(v, text, TERN_UINT8, 1, (int64_t[]){ -1 }));
    if (!v->tokenizer)
        TERN_TRY(tern_tokenizer_open(v->ctx, v->words, &v->tokenizer));
    TERN_TRY_OR_FAIL(copy_data(v, text, &bytes));
    TERN_TRY_OR_FAIL(tern_tokenizer_encode(v->ctx, v->tokenizer, bytes, text->size, true, &ids));
    v->report->n_texts++;
    v->report->n_texts_same +=
        ids.count * sizeof *ids.data == want->size && memcmp(ids.data, want->data, want->size) == 0;
    status = TERN_OK;

fail:
    tern_free(bytes);
    tern_ids_free(&ids);
    return status;
}

static tern_status verify_chat(struct verify *v, const tern_chat *chat, int32_t index)
{
    const struct tern_file_tensor *messages = part(v, "chat", index), *want = part(v, "rendered", index);
    tern_chat_options options = tern_chat_options_default();
    char *bytes = NULL, *text = NULL;
    size_t size;
    tern_status status;

    TERN_REQUIRE(v->ctx, want, TERN_ERR_FORMAT, "%s: tensor \"%s\" without \"rendered.%" PRId32 "\"", v->golden,
                 messages->name, index);
    TERN_TRY(expect(v, messages, TERN_UINT8, 1, (int64_t[]){ -1 }));
    TERN_TRY(expect(v, want, TERN_UINT8, 1, (int64_t[]){ -1 }));
    options.add_generation_prompt = true;
    TERN_TRY_OR_FAIL(copy_data(v, messages, &bytes));
    TERN_TRY_OR_FAIL(tern_chat_render(v->ctx, chat, bytes, messages->size, &options, &text, &size));
    v->report->n_chats++;
    v->report->n_chats_same += size == want->size && memcmp(text, want->data, size) == 0;
    status = TERN_OK;

fail:
    tern_free(bytes);
    tern_chat_text_free(text);
    return status;
}

static tern_status verify_chats(struct verify *v)
{
    tern_chat *chat = NULL;
    tern_status status = TERN_OK;

    if (!part(v, "chat", 0))
        return TERN_OK;
    TERN_TRY(tern_chat_open(v->ctx, v->words, NULL, &chat));
    for (int32_t i = 0; status == TERN_OK && part(v, "chat", i); i++)
        status = verify_chat(v, chat, i);
    tern_chat_close(&chat);
    return status;
}

static tern_status verify_sentence(struct verify *v, tern_embedder *embedder, int32_t index)
{
    const struct tern_file_tensor *text = part(v, "sentence", index), *want = part(v, "vector", index);
    const int64_t width = tern_embedder_width(embedder);
    float *got = NULL, *vector = NULL;
    char *bytes = NULL;
    double largest;
    tern_status status;

    TERN_REQUIRE(v->ctx, want, TERN_ERR_FORMAT, "%s: tensor \"%s\" without \"vector.%" PRId32 "\"", v->golden,
                 text->name, index);
    TERN_TRY(expect(v, text, TERN_UINT8, 1, (int64_t[]){ -1 }));
    TERN_TRY(expect(v, want, TERN_FP32, 1, &width));
    TERN_TRY_OR_FAIL(copy_data(v, text, &bytes));
    TERN_TRY_OR_FAIL(copy_data(v, want, &vector));
    TERN_TRY_OR_FAIL(TERN_ALLOC(v->ctx, (size_t)width, "a vector", &got));
    TERN_TRY_OR_FAIL(tern_embed(embedder, (const char *[]){ bytes }, (size_t[]){ text->size }, 1, NULL, got));
    const double error = difference(got, vector, (size_t)width, &largest);
    keep_largest(&v->report->vectors_abs, error);
    keep_largest(&v->report->vectors_rel, relative(error, largest));
    v->report->n_vectors++;
    status = TERN_OK;

fail:
    tern_free(bytes);
    tern_free(vector);
    tern_free(got);
    return status;
}

static tern_status verify_sentences(struct verify *v, tern_model_dtype dtype)
{
    tern_model_options options = tern_model_options_default();
    tern_embedder *embedder = NULL;
    tern_status status = TERN_OK;

    if (!part(v, "sentence", 0))
        return TERN_OK;
    options.dtype = dtype;
    TERN_TRY(tern_embedder_open(v->ctx, v->dir, &options, &embedder));
    for (int32_t i = 0; status == TERN_OK && part(v, "sentence", i); i++)
        status = verify_sentence(v, embedder, i);
    tern_embedder_close(&embedder);
    return status;
}

/* A tensor that nothing was compared with: behind a gap in the numbers, or under a name that is none. */
static tern_status check_all_read(const struct verify *v)
{
    static const char *const kinds[] = { "ids",  "segments", "logits",   "answer",   "hidden", "final",
                                         "text", "chat",     "rendered", "sentence", "vector" };
    static const char *const leading[] = { "ids", "chat", "sentence" };
    int32_t n[3] = { 0 };

    for (size_t k = 0; k < 3; k++)
        while (part(v, leading[k], n[k]))
            n[k]++;
    for (size_t i = 0; i < tern_safetensors_count(v->files); i++) {
        const struct tern_file_tensor *t = tern_safetensors_at(v->files, i);
        bool known = false;
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0] && !known; k++)
            for (int32_t at = 0; at < n[k < 7 ? 0 : k < 9 ? 1 : 2] && !known; at++)
                known = part(v, kinds[k], at) == t;
        TERN_REQUIRE(
            v->ctx, known, TERN_ERR_FORMAT,
            "%s: tensor \"%s\" is none that is compared: expected ids, chat and sentence from 0 on without a gap, and "
            "what belongs to them",
            v->golden, t->name);
    }
    return TERN_OK;
}

tern_status tern_verify(tern_ctx *ctx, const char *name, const char *golden, tern_model_dtype dtype, double tolerance,
                        tern_verify_report *report)
{
    tern_model_options options = tern_model_options_default();
    struct verify v = { .ctx = ctx, .golden = golden, .tolerance = tolerance, .report = report };
    tern_status status;

    TERN_REQUIRE(ctx, report && golden, TERN_ERR_ARG, "verify: %s is NULL", report ? "golden" : "report");
    *report = (tern_verify_report){ .first_state = -1 };
    TERN_REQUIRE(NULL, ctx, TERN_ERR_ARG, "verify: ctx is NULL");
    TERN_REQUIRE(ctx, tolerance >= 0, TERN_ERR_ARG, "verify: tolerance is %g, expected 0 or more", tolerance);
    TERN_TRY_OR_FAIL(tern_directory_find(ctx, name, &v.dir));
    TERN_TRY_OR_FAIL(tern_model_find(ctx, name, &v.words));
    TERN_TRY_OR_FAIL(tern_safetensors_open(ctx, golden, &v.files));
    TERN_REQUIRE_OR_FAIL(
        ctx, part(&v, "ids", 0) || part(&v, "chat", 0) || part(&v, "sentence", 0), TERN_ERR_FORMAT,
        "%s: none of the tensors \"ids.0\", \"chat.0\" and \"sentence.0\" is there: nothing to compare", golden);
    options.dtype = dtype;
    if (part(&v, "ids", 0))
        TERN_TRY_OR_FAIL(tern_model_open(ctx, v.words, &options, &v.model));
    for (int32_t i = 0; part(&v, "ids", i); i++) {
        TERN_TRY_OR_FAIL(verify_prompt(&v, i));
        TERN_TRY_OR_FAIL(verify_text(&v, i));
    }
    TERN_TRY_OR_FAIL(verify_chats(&v));
    tern_model_close(&v.model); /* the sentences' is opened for itself */
    TERN_TRY_OR_FAIL(verify_sentences(&v, dtype));
    status = check_all_read(&v);

fail:
    tern_tokenizer_close(&v.tokenizer);
    tern_model_close(&v.model);
    tern_safetensors_close(&v.files);
    tern_path_free(v.dir);
    tern_path_free(v.words);
    return status;
}
