/* session.c: sequences that grow, a step at a time.
 *
 * A session plans all of its memory when it is made: the arena's size is found by taking every piece from an arena that
 * only counts, then the same pieces are taken for real.  A step validates all rows before it touches anything, lays them
 * out as one batch (ids, positions, spans of the cache, rows whose scores are wanted), reserves the blocks, runs the
 * model once, and commits.  Until the commit no sequence has grown, so an error needs no repair but giving back the
 * blocks that were reserved for nothing.
 *
 * Where several ranks share the model, sessions are rank 0's.  What changes one is told to the others, who do the same on their part of
 * the model (worker.h): whatever is told has been checked, so that it ends in the same way on all of them. */
#include "engine/engine.h"

#include "base/memory.h"
#include "comm/agree.h"

#include <string.h>

/* A handle is NULL after its destruction; without it there is no context for a text. */
#define REQUIRE_SESSION(s) TERN_REQUIRE(NULL, (s), TERN_ERR_ARG, "session is NULL")

_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "a signal handler sets the cancel flag");

tern_session_options tern_session_options_default(void)
{
    return (tern_session_options){ .n_sequences = 1, .max_batch = 512 };
}

static void take_all(struct tern_arena *arena, tern_session *s)
{
    const size_t n_sequences = (size_t)s->n_sequences;

    tern_model_work_take(arena, s->model, s->max_batch, s->max_logits, tern_ctx_threads(s->ctx), &s->work);
    s->ids = TERN_TAKE(arena, int32_t, s->max_batch);
    s->positions = TERN_TAKE(arena, int32_t, s->max_batch);
    s->logit_rows = TERN_TAKE(arena, int32_t, s->max_logits);
    s->logits = tern_arena_take(arena, s->max_logits, (size_t)s->vocab_size * sizeof(float));
    s->spans = TERN_TAKE(arena, tern_kv_span, n_sequences);
    s->rows = TERN_TAKE(arena, struct session_row, n_sequences);
    s->in_step = TERN_TAKE(arena, bool, n_sequences);
    s->planned = TERN_TAKE(arena, int64_t, n_sequences);
    s->in_batch = TERN_TAKE(arena, int64_t, n_sequences);
    if (s->model->comm->size > 1)
        s->numbers = TERN_TAKE(arena, int32_t, 3 * n_sequences + s->max_batch);
}

/* Checks the options and fills in what they leave to us. */
static tern_status plan(tern_ctx *ctx, const tern_model *model, const tern_session_options *o, tern_session *s,
                        tern_kv_shape *shape)
{
    const tern_model_config *config = tern_model_get_config(model);

    TERN_TRY(TERN_CHECK_RESERVED(ctx, "session", o));
    TERN_REQUIRE(ctx, config->task == TERN_TASK_GENERATE, TERN_ERR_UNSUPPORTED,
                 "session: %s gives no scores of a next token, expected a causal language model; tern_encode() runs it",
                 config->architecture);
    TERN_REQUIRE(ctx, o->n_sequences >= 1, TERN_ERR_ARG, "session: n_sequences is %" PRId32 ", expected at least 1",
                 o->n_sequences);
    TERN_REQUIRE(ctx, o->max_batch >= 1, TERN_ERR_ARG, "session: max_batch is %" PRId32 ", expected at least 1",
                 o->max_batch);
    TERN_REQUIRE(ctx, o->max_logits >= 0, TERN_ERR_ARG,
                 "session: max_logits is %" PRId32 ", expected at least 1, or 0 for n_sequences", o->max_logits);
    TERN_REQUIRE(ctx, o->n_context >= 0, TERN_ERR_ARG,
                 "session: n_context is %" PRId64 ", expected at least 1, or 0 for the model's", o->n_context);
    TERN_REQUIRE(ctx, o->n_positions >= 0, TERN_ERR_ARG,
                 "session: n_positions is %" PRId64 ", expected at least 1, or 0 for n_context times n_sequences",
                 o->n_positions);
    TERN_REQUIRE(ctx, o->n_context <= config->n_context, TERN_ERR_CAPACITY,
                 "session: n_context is %" PRId64 ", the model has %" PRId32 " positions", o->n_context,
                 config->n_context);

    s->vocab_size = config->vocab_size;
    s->n_sequences = o->n_sequences;
    s->n_context = o->n_context ? o->n_context : config->n_context;
    s->max_batch = (size_t)o->max_batch;
    s->max_logits = (size_t)(o->max_logits ? o->max_logits : o->n_sequences);

    /* A sequence holds whole blocks, so n_sequences full ones need n_context rounded up, each. */
    const int64_t rounded = (s->n_context + TERN_KV_BLOCK - 1) / TERN_KV_BLOCK * TERN_KV_BLOCK;
    *shape = (tern_kv_shape){
        .n_layers = config->n_layers,
        .n_kv_heads = tern_model_kv_heads(model),
        .head_dim = config->head_dim,
        .n_positions = o->n_positions ? o->n_positions : rounded * o->n_sequences,
        .n_sequences = o->n_sequences,
        .n_context = s->n_context,
        .dtype = config->row_dtype == TERN_BF16 ? TERN_BF16 : TERN_FP32,
    };
    return TERN_OK;
}

/* What does not need the model's memory: a session whose sizes are known. */
static tern_status prepare(tern_ctx *ctx, const tern_model *model, const tern_session_options *options,
                           tern_kv_shape *shape, tern_session **out)
{
    tern_session *s = NULL;
    tern_status status;

    TERN_TRY(tern_model_check_whole(ctx, model, "session"));
    TERN_TRY(TERN_ALLOC(ctx, 1, "a session", &s));
    s->ctx = ctx;
    s->model = model;
    atomic_init(&s->cancel, false);
    TERN_TRY_OR_FAIL(plan(ctx, model, options, s, shape));
    *out = s;
    return TERN_OK;

fail:
    tern_session_destroy(&s);
    return status;
}

static tern_status take_memory(tern_session *s, const tern_kv_shape *shape)
{
    struct tern_arena counter = tern_arena_counter();

    TERN_TRY(tern_kv_cache_create(s->ctx, shape, &s->cache));
    take_all(&counter, s);
    TERN_TRY(tern_arena_create(s->ctx, counter.used, "a session's scratch", &s->arena));
    take_all(&s->arena, s);
    memset(s->in_step, 0, (size_t)s->n_sequences * sizeof *s->in_step);
    return TERN_OK;
}

/* To the other ranks, if this session tells anyone. */
static tern_status say(tern_session *s, enum tern_message_kind kind, int64_t first, int64_t second)
{
    struct tern_message message = { .kind = kind, .object = s->number, .values = { first, second } };

    return s->tells ? tern_group_say(s->ctx, s->model, &message, NULL, 0) : TERN_OK;
}

static tern_status say_create(tern_session *s, const tern_session_options *o)
{
    struct tern_message message = {
        .kind = TERN_SAY_SESSION_CREATE,
        .object = s->number,
        .values = { o->n_positions, o->n_sequences, o->n_context, o->max_batch, o->max_logits },
    };

    return tern_group_say(s->ctx, s->model, &message, NULL, 0);
}

tern_status tern_session_make(tern_ctx *ctx, const tern_model *model, const tern_session_options *options,
                              tern_session **out)
{
    tern_kv_shape shape;
    tern_status status;

    *out = NULL;
    TERN_TRY(prepare(ctx, model, options, &shape, out));
    status = take_memory(*out, &shape);
    if (status != TERN_OK)
        tern_session_destroy(out);
    return status;
}

tern_status tern_session_create(tern_ctx *ctx, const tern_model *model, const tern_session_options *options,
                                tern_session **out)
{
    const tern_session_options standard = tern_session_options_default();
    tern_session *s = NULL;
    tern_kv_shape shape;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "session: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, ctx && model, TERN_ERR_ARG, "session: %s is NULL", ctx ? "model" : "ctx");
    TERN_TRY(tern_group_leads(ctx, model, "session"));
    options = options ? options : &standard;
    TERN_TRY(prepare(ctx, model, options, &shape, &s));
    if (model->group)
        s->number = model->group->n_objects++;
    TERN_TRY_OR_FAIL(say_create(s, options));
    TERN_TRY_OR_FAIL(tern_agree(ctx, model->comm, take_memory(s, &shape)));
    s->tells = model->group != NULL;
    *out = s;
    return TERN_OK;

fail:
    tern_session_destroy(&s);
    return status;
}

tern_status tern_session_measure(tern_ctx *ctx, const tern_model *model, const tern_session_options *options,
                                 tern_session_stats *out)
{
    const tern_session_options standard = tern_session_options_default();
    struct tern_arena counter = tern_arena_counter();
    tern_session s = { .ctx = ctx, .model = model };
    tern_kv_shape shape;
    size_t kv_bytes;

    TERN_REQUIRE(ctx, ctx && model && out, TERN_ERR_ARG, "session: %s is NULL",
                 !ctx     ? "ctx"
                 : !model ? "model"
                          : "out");
    TERN_TRY(plan(ctx, model, options ? options : &standard, &s, &shape));
    TERN_TRY(tern_kv_cache_measure(ctx, &shape, &kv_bytes));
    take_all(&counter, &s);
    *out = (tern_session_stats){
        .kv_bytes = kv_bytes,
        .scratch_bytes = counter.used,
        .free_positions = (shape.n_positions + TERN_KV_BLOCK - 1) / TERN_KV_BLOCK * TERN_KV_BLOCK,
    };
    return TERN_OK;
}

void tern_session_destroy(tern_session **session)
{
    if (!session || !*session)
        return;
    if ((*session)->tells && !(*session)->model->group->mute)
        (void)say(*session, TERN_SAY_SESSION_DESTROY, 0, 0); /* it is gone here whatever comes of it */
    tern_arena_destroy(&(*session)->arena);
    tern_kv_cache_destroy(&(*session)->cache);
    tern_free(*session);
    *session = NULL;
}

/* ---- sequences ---- */

tern_status tern_sequence_add(tern_session *s, int32_t *sequence)
{
    REQUIRE_SESSION(s);
    TERN_TRY(tern_kv_sequence_add(s->ctx, s->cache, sequence));
    s->planned[*sequence] = s->n_context;
    return say(s, TERN_SAY_SEQUENCE_ADD, 0, 0);
}

tern_status tern_sequence_plan(tern_session *s, int32_t sequence, int64_t n_positions)
{
    REQUIRE_SESSION(s);
    const int64_t length = tern_kv_sequence_length(s->cache, sequence);

    TERN_REQUIRE(s->ctx, length >= 0, TERN_ERR_ARG, "sequence_plan: there is no sequence %" PRId32, sequence);
    TERN_REQUIRE(s->ctx, n_positions >= 1, TERN_ERR_ARG,
                 "sequence_plan: n_positions is %" PRId64 ", expected at least 1", n_positions);
    TERN_REQUIRE(s->ctx, length == 0, TERN_ERR_STATE,
                 "sequence_plan: sequence %" PRId32 " has read %" PRId64 " tokens, expected none", sequence, length);
    s->planned[sequence] = n_positions;
    return say(s, TERN_SAY_SEQUENCE_PLAN, sequence, n_positions);
}

tern_status tern_sequence_remove(tern_session *s, int32_t sequence)
{
    REQUIRE_SESSION(s);
    TERN_TRY(tern_kv_sequence_remove(s->ctx, s->cache, sequence));
    return say(s, TERN_SAY_SEQUENCE_REMOVE, sequence, 0);
}

tern_status tern_sequence_fork(tern_session *s, int32_t sequence, int32_t *fork)
{
    REQUIRE_SESSION(s);
    TERN_TRY(tern_kv_sequence_fork(s->ctx, s->cache, sequence, fork));
    s->planned[*fork] = s->planned[sequence];
    return say(s, TERN_SAY_SEQUENCE_FORK, sequence, 0);
}

tern_status tern_sequence_truncate(tern_session *s, int32_t sequence, int64_t length)
{
    REQUIRE_SESSION(s);
    TERN_TRY(tern_kv_sequence_truncate(s->ctx, s->cache, sequence, length));
    return say(s, TERN_SAY_SEQUENCE_TRUNCATE, sequence, length);
}

int64_t tern_sequence_length(const tern_session *s, int32_t sequence)
{
    return s ? tern_kv_sequence_length(s->cache, sequence) : -1;
}

/* ---- a step ---- */

static tern_status check_row(const tern_session *s, const tern_row *row, size_t r)
{
    const int64_t length = tern_kv_sequence_length(s->cache, row->sequence);

    TERN_REQUIRE(s->ctx, length >= 0, TERN_ERR_ARG, "step: row %zu: there is no sequence %" PRId32, r, row->sequence);
    TERN_REQUIRE(s->ctx, !s->in_step[row->sequence], TERN_ERR_ARG,
                 "step: row %zu: sequence %" PRId32 " is in an earlier row already, each may be there once", r,
                 row->sequence);
    TERN_REQUIRE(s->ctx, row->n_ids >= 1 && row->ids, TERN_ERR_ARG,
                 "step: row %zu: n_ids is %" PRId32 "%s, expected at least 1", r, row->n_ids,
                 row->ids ? "" : " and ids NULL");
    TERN_REQUIRE(
        s->ctx, row->logits == TERN_LOGITS_NONE || row->logits == TERN_LOGITS_LAST || row->logits == TERN_LOGITS_ALL,
        TERN_ERR_ARG, "step: row %zu: logits is %d, expected 0 (none), 1 (last) or 2 (all)", r, (int)row->logits);
    TERN_REQUIRE(s->ctx, row->n_ids <= s->n_context - length, TERN_ERR_CAPACITY,
                 "step: row %zu: sequence %" PRId32 " has %" PRId64 " positions and gets %" PRId32
                 " more, the context is %" PRId64,
                 r, row->sequence, length, row->n_ids, s->n_context);
    for (int32_t i = 0; i < row->n_ids; i++)
        TERN_REQUIRE(s->ctx, row->ids[i] >= 0 && row->ids[i] < s->vocab_size, TERN_ERR_ARG,
                     "step: row %zu: ids[%" PRId32 "] is %" PRId32 ", the vocabulary has %" PRId32 " ids", r, i,
                     row->ids[i], s->vocab_size);
    return TERN_OK;
}

/* Checks every row and both sums.  Nothing has changed when it fails. */
static tern_status check_rows(tern_session *s, const tern_row *rows, size_t n_rows)
{
    uint64_t n_tokens = 0, n_logits = 0;
    tern_status status = TERN_OK;
    size_t r = 0;

    TERN_REQUIRE(s->ctx, rows && n_rows >= 1, TERN_ERR_ARG, "step: n_rows is %zu%s, expected at least 1", n_rows,
                 rows ? "" : " and rows NULL");
    /* No row passes twice with one sequence, so more rows than sequences end at the first repetition at the latest. */
    for (; r < n_rows; r++) {
        status = check_row(s, &rows[r], r);
        if (status != TERN_OK)
            break;
        s->in_step[rows[r].sequence] = true;
        n_tokens += (uint64_t)rows[r].n_ids;
        n_logits += rows[r].logits == TERN_LOGITS_ALL ? (uint64_t)rows[r].n_ids : rows[r].logits == TERN_LOGITS_LAST;
    }
    while (r-- > 0)
        s->in_step[rows[r].sequence] = false;
    TERN_TRY(status);
    TERN_REQUIRE(s->ctx, n_tokens <= s->max_batch, TERN_ERR_CAPACITY,
                 "step: %" PRIu64 " tokens in %zu rows, max_batch is %zu", n_tokens, n_rows, s->max_batch);
    TERN_REQUIRE(s->ctx, n_logits <= s->max_logits, TERN_ERR_CAPACITY,
                 "step: scores of %" PRIu64 " tokens are asked for, max_logits is %zu", n_logits, s->max_logits);
    return TERN_OK;
}

/* Lays the rows out as one batch. */
static struct tern_batch lay_out(tern_session *s, const tern_row *rows, size_t n_rows)
{
    size_t t = 0, n_logits = 0;

    for (size_t r = 0; r < n_rows; r++) {
        const int32_t n = rows[r].n_ids;
        const int64_t length = tern_kv_sequence_length(s->cache, rows[r].sequence);

        s->spans[r] =
            (tern_kv_span){ .sequence = rows[r].sequence, .row = (int32_t)t, .n_rows = n, .position = length };
        s->in_batch[r] = s->planned[rows[r].sequence];
        s->rows[r] = (struct session_row){ .n_ids = n, .logits = rows[r].logits, .first_logit = n_logits };
        for (int32_t i = 0; i < n; i++, t++) {
            s->ids[t] = rows[r].ids[i];
            s->positions[t] = (int32_t)(length + i);
            if (rows[r].logits == TERN_LOGITS_ALL || (rows[r].logits == TERN_LOGITS_LAST && i == n - 1))
                s->logit_rows[n_logits++] = (int32_t)t;
        }
    }
    return (struct tern_batch){
        .ids = s->ids,
        .positions = s->positions,
        .kv = { .cache = s->cache, .spans = s->spans, .n_spans = n_rows, .n_rows = t, .planned = s->in_batch },
        .logit_rows = s->logit_rows,
        .n_logits = n_logits,
        .logits = s->logits,
        .cancel = &s->cancel,
    };
}

/* The rows of a step to the other ranks. */
static tern_status say_step(tern_session *s, const tern_row *rows, size_t n_rows, size_t n_ids)
{
    struct tern_message message = { .kind = TERN_SAY_STEP,
                                    .object = s->number,
                                    .values = { (int64_t)n_rows, (int64_t)n_ids } };
    const size_t n = 3 * n_rows + n_ids;
    int32_t *numbers = n <= TERN_MESSAGE_NUMBERS ? message.numbers : s->numbers, *ids = numbers + 3 * n_rows;

    if (!s->tells)
        return TERN_OK;
    for (size_t r = 0; r < n_rows; r++) {
        numbers[3 * r] = rows[r].sequence;
        numbers[3 * r + 1] = rows[r].n_ids;
        numbers[3 * r + 2] = (int32_t)rows[r].logits;
        memcpy(ids, rows[r].ids, (size_t)rows[r].n_ids * sizeof *ids);
        ids += rows[r].n_ids;
    }
    return tern_group_say(s->ctx, s->model, &message, numbers, n);
}

/* After it the blocks that were reserved beyond the sequences' lengths are to be given back, if it fails. */
static tern_status run_step(tern_session *s, const tern_row *rows, size_t n_rows, const struct tern_batch *batch)
{
    TERN_TRY(say_step(s, rows, n_rows, batch->kv.n_rows));
    const tern_status status = tern_model_forward(s->ctx, s->model, batch, &s->work);
    return status == TERN_ERR_CANCELLED ? status : tern_group_done(s->model, status);
}

tern_status tern_session_step(tern_session *s, const tern_row *rows, size_t n_rows)
{
    REQUIRE_SESSION(s);
    s->n_rows = 0;
    TERN_TRY(check_rows(s, rows, n_rows));
    TERN_REQUIRE(s->ctx, !atomic_load(&s->cancel), TERN_ERR_CANCELLED, "step: cancelled before it began");

    const struct tern_batch batch = lay_out(s, rows, n_rows);
    TERN_TRY(tern_kv_reserve(s->ctx, s->cache, s->spans, n_rows));
    const tern_status status = run_step(s, rows, n_rows, &batch);
    if (status != TERN_OK) {
        /* To the length that it has: the blocks reserved beyond go back.  The error's text stays: this cannot fail. */
        for (size_t r = 0; r < n_rows; r++)
            (void)tern_kv_sequence_truncate(s->ctx, s->cache, s->spans[r].sequence, s->spans[r].position);
        return status;
    }
    TERN_TRY(tern_kv_commit(s->ctx, s->cache, s->spans, n_rows));
    s->n_rows = n_rows;
    return TERN_OK;
}

const float *tern_session_logits(const tern_session *s, size_t row, int32_t token)
{
    if (!s || row >= s->n_rows)
        return NULL;

    const struct session_row *r = &s->rows[row];
    if (token < 0 || token >= r->n_ids)
        return NULL;
    if (r->logits == TERN_LOGITS_ALL)
        return s->logits + (r->first_logit + (size_t)token) * (size_t)s->vocab_size;
    if (r->logits == TERN_LOGITS_LAST && token == r->n_ids - 1)
        return s->logits + r->first_logit * (size_t)s->vocab_size;
    return NULL;
}

void tern_session_cancel(tern_session *s)
{
    if (s)
        atomic_store(&s->cancel, true);
}

void tern_session_resume(tern_session *s)
{
    if (s)
        atomic_store(&s->cancel, false);
}

const char *tern_session_error(const tern_session *s)
{
    return s ? tern_error(s->ctx) : "session is NULL";
}

tern_session_stats tern_session_get_stats(const tern_session *s)
{
    if (!s)
        return (tern_session_stats){ 0 };
    return (tern_session_stats){
        .kv_bytes = tern_kv_cache_bytes(s->cache),
        .scratch_bytes = s->arena.size,
        .free_positions = tern_kv_cache_free_positions(s->cache),
    };
}
