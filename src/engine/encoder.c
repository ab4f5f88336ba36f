/* encoder.c: whole texts in one pass.
 *
 * Nothing is read again once a layer is over, so all layers keep their keys and values in the one layer that the cache has.
 * Answers of tokens need a row of scratch for each token of a pass, those of texts one for each text.
 *
 * Where ranks share the model, rank 0 has checked the texts, and tells the others what each pass reads. */
#include "engine/encoder.h"

#include "base/arena.h"
#include "base/memory.h"
#include "comm/agree.h"
#include "model/arch.h"
#include "model/group.h"

#include <assert.h>
#include <string.h>

#define STANDARD_BATCH   2048
#define STANDARD_TEXTS   64
#define STANDARD_CONTEXT 8192

struct tern_encoder {
    tern_ctx *ctx;
    const tern_model *model;
    tern_kv_cache *cache;
    size_t max_batch, max_texts, max_answers;
    int32_t n_context;
    bool tells;     /* other ranks what it does; else there are none, or this does what rank 0 tells */
    bool keeps;     /* states and answers here, where nobody else takes them */
    int32_t number; /* of this encoder, where other ranks have it too */
    tern_encoder_stats stats;

    struct tern_arena arena;
    struct tern_model_work work;
    int32_t *ids, *types, *positions; /* [max_batch] */
    int32_t *rows;                    /* [max_answers] */
    tern_kv_span *spans;              /* [max_texts] */
    int64_t *planned;                 /* [max_texts] */
    int32_t *numbers;        /* [max_texts + 2 max_batch + max_answers] of a message; NULL in a process of its own */
    float *states, *answers; /* [max_batch, H], [max_answers, C]; NULL where they are not kept */
};

tern_encoder_options tern_encoder_options_default(void)
{
    return (tern_encoder_options){ 0 };
}

/* Whether a text has one answer, not each token. */
static bool pooled(const tern_model *model)
{
    return model->spec.head.pool != TERN_POOL_NONE;
}

static void take_all(struct tern_arena *arena, tern_encoder *e)
{
    tern_model_work_take(arena, e->model, e->max_batch, e->max_answers, tern_ctx_threads(e->ctx), &e->work);
    e->ids = TERN_TAKE(arena, int32_t, e->max_batch);
    e->types = TERN_TAKE(arena, int32_t, e->max_batch);
    e->positions = TERN_TAKE(arena, int32_t, e->max_batch);
    e->rows = TERN_TAKE(arena, int32_t, e->max_answers);
    e->spans = TERN_TAKE(arena, tern_kv_span, e->max_texts);
    e->planned = TERN_TAKE(arena, int64_t, e->max_texts);
    if (e->model->comm->size > 1)
        e->numbers = TERN_TAKE(arena, int32_t, e->max_texts + 2 * e->max_batch + e->max_answers);
    if (e->keeps)
        e->states = tern_arena_take(arena, e->max_batch, (size_t)e->model->config.hidden_size * sizeof(float));
    /* Where each rank has some of the words, what they gather is left out; else the answers have to go somewhere. */
    const size_t C = (size_t)tern_model_outputs(e->model);
    if (C && (e->keeps || (e->model->comm->rank > 0 && !e->model->head.comm)))
        e->answers = tern_arena_take(arena, e->max_answers, C * sizeof(float));
}

static tern_status plan(tern_encoder *e, const tern_encoder_options *o, tern_kv_shape *shape)
{
    const tern_model_config *c = &e->model->config;
    const int32_t longest = c->n_context < STANDARD_CONTEXT ? c->n_context : STANDARD_CONTEXT;

    TERN_TRY(TERN_CHECK_RESERVED(e->ctx, "encoder", o));
    TERN_REQUIRE(e->ctx, o->max_batch >= 0 && o->max_texts >= 0 && o->n_context >= 0, TERN_ERR_ARG,
                 "encoder: max_batch is %" PRId32 ", max_texts %" PRId32 " and n_context %" PRId32
                 ", expected 0 or more",
                 o->max_batch, o->max_texts, o->n_context);
    TERN_REQUIRE(e->ctx, o->n_context <= c->n_context, TERN_ERR_CAPACITY,
                 "encoder: n_context is %" PRId32 ", the model has %" PRId32 " positions", o->n_context, c->n_context);
    e->n_context = o->n_context ? o->n_context : longest;
    e->max_batch = (size_t)(o->max_batch                    ? o->max_batch
                            : e->n_context > STANDARD_BATCH ? e->n_context
                                                            : STANDARD_BATCH);
    TERN_REQUIRE(e->ctx, e->max_batch >= (size_t)e->n_context, TERN_ERR_ARG,
                 "encoder: max_batch is %zu, a text may have %" PRId32 " tokens", e->max_batch, e->n_context);
    e->max_texts = (size_t)(o->max_texts ? o->max_texts : STANDARD_TEXTS);
    if (e->max_texts > e->max_batch)
        e->max_texts = e->max_batch;
    e->max_answers = pooled(e->model) ? e->max_texts : e->max_batch;
    /* Each text may leave a block of which it needs one position. */
    *shape = (tern_kv_shape){
        .n_layers = 1,
        .n_kv_heads = tern_model_kv_heads(e->model),
        .head_dim = c->head_dim,
        .n_positions = (int64_t)(e->max_batch + e->max_texts * TERN_KV_BLOCK),
        .n_sequences = (int32_t)e->max_texts,
        .n_context = e->n_context,
        .dtype = c->row_dtype == TERN_BF16 ? TERN_BF16 : TERN_FP32,
    };
    return TERN_OK;
}

static tern_status prepare(tern_ctx *ctx, const tern_model *model, const tern_encoder_options *options,
                           tern_kv_shape *shape, tern_encoder **out)
{
    tern_status status;

    TERN_TRY(tern_model_check_whole(ctx, model, "encoder"));
    TERN_TRY(TERN_ALLOC(ctx, 1, "an encoder", out));
    (*out)->ctx = ctx;
    (*out)->model = model;
    status = plan(*out, options, shape);
    if (status != TERN_OK)
        tern_encoder_destroy(out);
    return status;
}

static tern_status take_memory(tern_encoder *e, const tern_kv_shape *shape)
{
    struct tern_arena counter = tern_arena_counter();
    int32_t sequence;

    TERN_TRY(tern_kv_cache_create(e->ctx, shape, &e->cache));
    for (size_t i = 0; i < e->max_texts; i++)
        TERN_TRY(tern_kv_sequence_add(e->ctx, e->cache, &sequence));
    take_all(&counter, e);
    TERN_TRY(tern_arena_create(e->ctx, counter.used, "an encoder's scratch", &e->arena));
    take_all(&e->arena, e);
    e->stats.kv_bytes = tern_kv_cache_bytes(e->cache);
    e->stats.scratch_bytes = counter.used;
    return TERN_OK;
}

static tern_status say_create(tern_encoder *e, const tern_encoder_options *o)
{
    struct tern_message message = { .kind = TERN_SAY_ENCODER_CREATE,
                                    .object = e->number,
                                    .values = { o->max_batch, o->max_texts, o->n_context } };

    return tern_group_say(e->ctx, e->model, &message, NULL, 0);
}

tern_status tern_encoder_make(tern_ctx *ctx, const tern_model *model, const tern_encoder_options *options, bool keeps,
                              tern_encoder **out)
{
    tern_kv_shape shape;
    tern_status status;

    *out = NULL;
    TERN_TRY(prepare(ctx, model, options, &shape, out));
    (*out)->keeps = keeps;
    status = take_memory(*out, &shape);
    if (status != TERN_OK)
        tern_encoder_destroy(out);
    return status;
}

tern_status tern_encoder_create(tern_ctx *ctx, const tern_model *model, const tern_encoder_options *options,
                                tern_encoder **out)
{
    const tern_encoder_options standard = tern_encoder_options_default();
    tern_encoder *e = NULL;
    tern_kv_shape shape;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "encoder: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, ctx && model, TERN_ERR_ARG, "encoder: %s is NULL", ctx ? "model" : "ctx");
    TERN_TRY(tern_group_leads(ctx, model, "encoder"));
    options = options ? options : &standard;
    TERN_TRY(prepare(ctx, model, options, &shape, &e));
    if (model->group)
        e->number = model->group->n_objects++;
    TERN_TRY_OR_FAIL(say_create(e, options));
    TERN_TRY_OR_FAIL(tern_agree(ctx, model->comm, take_memory(e, &shape)));
    e->tells = model->group != NULL;
    *out = e;
    return TERN_OK;

fail:
    tern_encoder_destroy(&e);
    return status;
}

tern_status tern_encoder_measure(tern_ctx *ctx, const tern_model *model, const tern_encoder_options *options,
                                 tern_encoder_stats *out)
{
    const tern_encoder_options standard = tern_encoder_options_default();
    struct tern_arena counter = tern_arena_counter();
    tern_encoder e = { .ctx = ctx, .model = model };
    tern_kv_shape shape;
    size_t kv_bytes;

    TERN_REQUIRE(ctx, ctx && model && out, TERN_ERR_ARG, "encoder: %s is NULL",
                 !ctx     ? "ctx"
                 : !model ? "model"
                          : "out");
    TERN_TRY(plan(&e, options ? options : &standard, &shape));
    TERN_TRY(tern_kv_cache_measure(ctx, &shape, &kv_bytes));
    take_all(&counter, &e);
    *out = (tern_encoder_stats){ .kv_bytes = kv_bytes, .scratch_bytes = counter.used };
    return TERN_OK;
}

void tern_encoder_destroy(tern_encoder **encoder)
{
    if (!encoder || !*encoder)
        return;
    struct tern_message message = { .kind = TERN_SAY_ENCODER_DESTROY, .object = (*encoder)->number };
    if ((*encoder)->tells && !(*encoder)->model->group->mute)
        (void)tern_group_say((*encoder)->ctx, (*encoder)->model, &message, NULL, 0);
    tern_arena_destroy(&(*encoder)->arena);
    tern_kv_cache_destroy(&(*encoder)->cache);
    tern_free(*encoder);
    *encoder = NULL;
}

tern_encoder_stats tern_encoder_get_stats(const tern_encoder *encoder)
{
    return encoder ? encoder->stats : (tern_encoder_stats){ 0 };
}

/* ---- a pass ---- */

static tern_status check_text(const tern_encoder *e, const tern_encode_text *text, size_t i)
{
    const tern_model_config *c = &e->model->config;

    TERN_REQUIRE(e->ctx, text->n_ids >= 1 && text->ids, TERN_ERR_ARG,
                 "encode: text %zu: n_ids is %" PRId32 "%s, expected at least 1", i, text->n_ids,
                 text->ids ? "" : " and ids NULL");
    TERN_REQUIRE(e->ctx, text->n_ids <= e->n_context, TERN_ERR_CAPACITY,
                 "encode: text %zu has %" PRId32 " tokens, at most %" PRId32 " are read", i, text->n_ids, e->n_context);
    TERN_REQUIRE(e->ctx, text->wanted ? text->n_wanted >= 1 && text->n_wanted <= text->n_ids : text->n_wanted == 0,
                 TERN_ERR_ARG, "encode: text %zu: n_wanted is %" PRId32 ", expected %s%" PRId32, i, text->n_wanted,
                 text->wanted ? "1.." : "", text->wanted ? text->n_ids : 0);
    for (int32_t t = 0; t < text->n_wanted; t++)
        TERN_REQUIRE(e->ctx,
                     text->wanted[t] >= 0 && text->wanted[t] < text->n_ids &&
                         (t == 0 || text->wanted[t] > text->wanted[t - 1]),
                     TERN_ERR_ARG,
                     "encode: text %zu: wanted[%" PRId32 "] is %" PRId32 ", expected ascending numbers below %" PRId32,
                     i, t, text->wanted[t], text->n_ids);
    for (int32_t t = 0; t < text->n_ids; t++) {
        TERN_REQUIRE(e->ctx, text->ids[t] >= 0 && text->ids[t] < c->vocab_size, TERN_ERR_ARG,
                     "encode: text %zu: ids[%" PRId32 "] is %" PRId32 ", the vocabulary has %" PRId32 " ids", i, t,
                     text->ids[t], c->vocab_size);
        const int32_t type = text->types ? text->types[t] : 0;
        TERN_REQUIRE(e->ctx, type == 0 || (type > 0 && type < c->n_types), TERN_ERR_ARG,
                     "encode: text %zu: types[%" PRId32 "] is %" PRId32 ", the model has %" PRId32 " segments", i, t,
                     type, c->n_types);
    }
    return TERN_OK;
}

static int32_t n_wanted(const tern_encode_text *text)
{
    return text->wanted ? text->n_wanted : text->n_ids;
}

/* Texts that lie in spans (n_rows of each) and ids behind each other, as one batch. */
static struct tern_batch make_batch(tern_encoder *e, size_t n_texts, size_t n_answers)
{
    size_t row = 0;

    for (size_t i = 0; i < n_texts; i++) {
        const int32_t n = e->spans[i].n_rows;

        e->spans[i] = (tern_kv_span){ .sequence = (int32_t)i, .row = (int32_t)row, .n_rows = n };
        e->planned[i] = n;
        tern_model_places(e->model, e->ids + row, n, 0, e->positions + row);
        row += (size_t)n;
    }
    return (struct tern_batch){
        .ids = e->ids,
        .types = e->types,
        .positions = e->positions,
        .kv = { .cache = e->cache, .spans = e->spans, .n_spans = n_texts, .n_rows = row, .planned = e->planned },
        .one_pass = true,
        .logit_rows = e->rows,
        .n_logits = n_answers,
    };
}

static struct tern_batch lay_out(tern_encoder *e, const tern_encode_text *texts, size_t n_texts, bool answers)
{
    size_t row = 0, n_answers = 0;

    for (size_t i = 0; i < n_texts; i++) {
        const tern_encode_text *text = &texts[i];
        e->spans[i].n_rows = text->n_ids;
        if (answers && pooled(e->model))
            e->rows[n_answers++] = (int32_t)row + tern_model_pool_token(e->model, text->ids, text->n_ids);
        if (answers && !pooled(e->model))
            for (int32_t t = 0; t < n_wanted(text); t++)
                e->rows[n_answers++] = (int32_t)row + (text->wanted ? text->wanted[t] : t);
        for (int32_t t = 0; t < text->n_ids; t++, row++) {
            e->ids[row] = text->ids[t];
            e->types[row] = text->types ? text->types[t] : 0;
        }
    }
    return make_batch(e, n_texts, n_answers);
}

/* What a pass reads, to the other ranks. */
static tern_status say_batch(tern_encoder *e, const struct tern_batch *batch)
{
    const size_t n_texts = batch->kv.n_spans, n_rows = batch->kv.n_rows, n = n_texts + 2 * n_rows + batch->n_logits;
    struct tern_message message = { .kind = TERN_SAY_ENCODE,
                                    .object = e->number,
                                    .values = { (int64_t)n_texts, (int64_t)n_rows, (int64_t)batch->n_logits } };
    int32_t *numbers = n <= TERN_MESSAGE_NUMBERS ? message.numbers : e->numbers;

    if (!e->tells)
        return TERN_OK;
    for (size_t i = 0; i < n_texts; i++)
        numbers[i] = e->spans[i].n_rows;
    memcpy(numbers + n_texts, batch->ids, n_rows * sizeof *numbers);
    memcpy(numbers + n_texts + n_rows, batch->types, n_rows * sizeof *numbers);
    memcpy(numbers + n_texts + 2 * n_rows, batch->logit_rows, batch->n_logits * sizeof *numbers);
    return tern_group_say(e->ctx, e->model, &message, numbers, n);
}

static tern_status run(tern_encoder *e, const struct tern_batch *batch)
{
    TERN_TRY(tern_kv_reserve(e->ctx, e->cache, e->spans, batch->kv.n_spans));
    tern_status status = say_batch(e, batch);
    if (status == TERN_OK)
        status = tern_group_done(e->model, tern_model_forward(e->ctx, e->model, batch, &e->work));
    e->stats.n_tokens += batch->kv.n_rows;
    e->stats.n_passes++;
    /* What was reserved goes back, and a text of before may be long: this cannot fail. */
    for (size_t i = 0; i < batch->kv.n_spans; i++)
        (void)tern_kv_sequence_truncate(e->ctx, e->cache, (int32_t)i, 0);
    return status;
}

/* Whether a message says a pass that this encoder can make. */
static bool fits(const tern_encoder *e, const struct tern_message *m)
{
    const int64_t n_texts = m->values[0], n_rows = m->values[1], n_answers = m->values[2];

    return n_texts >= 1 && n_texts <= (int64_t)e->max_texts && n_rows >= n_texts && n_rows <= (int64_t)e->max_batch &&
           n_answers >= 0 && n_answers <= (int64_t)e->max_answers &&
           (!pooled(e->model) || n_answers == 0 || n_answers == n_texts);
}

tern_status tern_encoder_follow(tern_encoder *e, struct tern_message *m, bool *understood, const float **states,
                                const float **answers)
{
    const size_t n_texts = (size_t)m->values[0], n_rows = (size_t)m->values[1], n_answers = (size_t)m->values[2];
    const size_t n = n_texts + 2 * n_rows + n_answers;
    const int32_t *numbers = m->numbers;
    size_t row = 0;

    *understood = fits(e, m);
    if (!*understood)
        return TERN_OK;
    if (n > TERN_MESSAGE_NUMBERS) {
        TERN_TRY(tern_message_share(e->ctx, e->model->comm, e->numbers, n * sizeof *numbers));
        numbers = e->numbers;
    }
    for (size_t i = 0; i < n_texts && *understood; i++) {
        e->spans[i].n_rows = numbers[i];
        *understood = numbers[i] >= 1 && numbers[i] <= e->n_context && (size_t)numbers[i] <= n_rows - row;
        row += *understood ? (size_t)numbers[i] : 0;
    }
    for (size_t i = 0; i < n_answers && *understood; i++)
        *understood = numbers[n_texts + 2 * n_rows + i] >= 0 && (size_t)numbers[n_texts + 2 * n_rows + i] < n_rows;
    *understood = *understood && row == n_rows;
    if (!*understood)
        return TERN_OK;
    memcpy(e->ids, numbers + n_texts, n_rows * sizeof *numbers);
    memcpy(e->types, numbers + n_texts + n_rows, n_rows * sizeof *numbers);
    memcpy(e->rows, numbers + n_texts + 2 * n_rows, n_answers * sizeof *numbers);
    struct tern_batch batch = make_batch(e, n_texts, n_answers);
    *states = batch.states = e->states;
    *answers = batch.logits = e->answers;
    return run(e, &batch);
}

tern_status tern_encode(tern_encoder *e, const tern_encode_text *texts, size_t n_texts, float *states, float *answers)
{
    TERN_REQUIRE(NULL, e, TERN_ERR_ARG, "encoder is NULL");
    TERN_REQUIRE(e->ctx, texts || n_texts == 0, TERN_ERR_ARG, "encode: texts is NULL");
    TERN_REQUIRE(e->ctx, !answers || tern_model_outputs(e->model) > 0, TERN_ERR_UNSUPPORTED,
                 "encode: %s gives states alone, answers are asked for", e->model->config.architecture);
    for (size_t i = 0; i < n_texts; i++)
        TERN_TRY(check_text(e, &texts[i], i));

    const size_t H = (size_t)e->model->config.hidden_size, C = (size_t)tern_model_outputs(e->model);
    for (size_t i = 0, next; i < n_texts; i = next) {
        size_t n_rows = 0;
        for (next = i; next < n_texts && next - i < e->max_texts && n_rows + (size_t)texts[next].n_ids <= e->max_batch;
             next++)
            n_rows += (size_t)texts[next].n_ids;
        struct tern_batch batch = lay_out(e, texts + i, next - i, answers != NULL);
        batch.states = states;
        batch.logits = answers;
        TERN_TRY(run(e, &batch));
        states = states ? states + n_rows * H : NULL;
        answers = answers ? answers + batch.n_logits * C : NULL;
    }
    return TERN_OK;
}

tern_status tern_encode_layers(tern_encoder *e, const tern_encode_text *text, size_t n_answers, float *answers,
                               float *hidden)
{
    TERN_TRY(check_text(e, text, 0));
    struct tern_batch batch = lay_out(e, text, 1, n_answers > 0);

    assert(n_answers <= batch.n_logits);
    batch.logit_rows += batch.n_logits - n_answers;
    batch.n_logits = n_answers;
    batch.logits = answers;
    batch.hidden = hidden;
    return run(e, &batch);
}
