/* worker.c: rank 0's sessions, mirrored.
 *
 * Rank 0 has checked what it says, and sizes are the same on all ranks: what goes wrong here went wrong there as well, or the ranks are
 * out of step and this one ends. */
#include "engine/worker.h"

#include "base/memory.h"
#include "comm/agree.h"
#include "engine/engine.h"

/* A session of rank 0, by the number that it has there. */
struct mirrored {
    int32_t number;
    tern_session *session;
};

struct worker {
    tern_ctx *ctx;
    const tern_model *model;
    tern_worker_watch *watch;
    void *user;
    struct mirrored *sessions;
    size_t n_sessions, capacity;
    tern_row *rows; /* of a step of any of them */
    size_t rows_capacity;
};

static tern_status out_of_step(const struct worker *w, const struct tern_message *message)
{
    return tern_fail(w->ctx, TERN_ERR_FORMAT,
                     "rank %d of %d: rank 0 sent message %" PRId32 " of session %" PRId32
                     ", expected one that fits what it sent before",
                     w->model->comm->rank, w->model->comm->size, message->kind, message->session);
}

static struct mirrored *find(const struct worker *w, int32_t number)
{
    for (size_t i = 0; i < w->n_sessions; i++)
        if (w->sessions[i].number == number)
            return &w->sessions[i];
    return NULL;
}

/* All that this rank needs for the session's steps, so that none of them can fail here alone. */
static tern_status make(struct worker *w, const struct tern_message *m, tern_session **session)
{
    const tern_session_options options = {
        .n_positions = m->values[0],
        .n_sequences = (int32_t)m->values[1],
        .n_context = m->values[2],
        .max_batch = (int32_t)m->values[3],
        .max_logits = (int32_t)m->values[4],
    };

    if (find(w, m->session))
        return out_of_step(w, m);
    TERN_TRY(TERN_GROW(w->ctx, &w->sessions, &w->capacity, w->n_sessions + 1, "the sessions of rank 0"));
    TERN_TRY(tern_session_make(w->ctx, w->model, &options, session));
    return TERN_GROW(w->ctx, &w->rows, &w->rows_capacity, (size_t)(*session)->n_sequences, "the rows of a step");
}

/* Agreed: where it cannot be made on some rank there is none on any, and rank 0, which hears of it, may try another one. */
static tern_status create(struct worker *w, const struct tern_message *m)
{
    tern_session *session = NULL;
    const tern_status here = make(w, m, &session), status = tern_agree(w->ctx, w->model->comm, here);

    if (status == TERN_OK)
        w->sessions[w->n_sessions++] = (struct mirrored){ m->session, session };
    else
        tern_session_destroy(&session);
    return here == TERN_ERR_FORMAT || status == TERN_ERR_IO ? status : TERN_OK;
}

static void destroy(struct worker *w, struct mirrored *mirrored)
{
    tern_session_destroy(&mirrored->session);
    *mirrored = w->sessions[--w->n_sessions];
}

static tern_status step(struct worker *w, tern_session *session, struct tern_message *m)
{
    const int64_t n_rows = m->values[0], n_ids = m->values[1];
    int32_t *numbers = m->numbers;

    if (n_rows < 1 || n_rows > session->n_sequences || n_ids < n_rows || n_ids > (int64_t)session->max_batch)
        return out_of_step(w, m);
    const size_t n = (size_t)(3 * n_rows + n_ids);
    if (n > TERN_MESSAGE_NUMBERS) {
        numbers = session->numbers;
        TERN_TRY(tern_message_pass(w->ctx, w->model->comm, numbers, n));
    }
    const int32_t *ids = numbers + 3 * n_rows, *end = numbers + n;
    for (int64_t r = 0; r < n_rows; r++) {
        w->rows[r] = (tern_row){ .sequence = numbers[3 * r],
                                 .ids = ids,
                                 .n_ids = numbers[3 * r + 1],
                                 .logits = (tern_logits)numbers[3 * r + 2] };
        if (w->rows[r].n_ids < 1 || w->rows[r].n_ids > end - ids)
            return out_of_step(w, m);
        ids += w->rows[r].n_ids;
    }
    const tern_status status = tern_session_step(session, w->rows, (size_t)n_rows);
    if (w->watch)
        w->watch(w->user, session, status);
    return status == TERN_ERR_CANCELLED ? TERN_OK : status;
}

static tern_status hear(struct worker *w, struct tern_message *m)
{
    int32_t sequence;

    if (m->kind == TERN_SAY_SESSION_CREATE)
        return create(w, m);
    struct mirrored *mirrored = find(w, m->session);
    if (!mirrored)
        return out_of_step(w, m);
    tern_session *session = mirrored->session;
    switch (m->kind) {
    case TERN_SAY_SESSION_DESTROY:
        destroy(w, mirrored);
        return TERN_OK;
    case TERN_SAY_SEQUENCE_ADD:
        return tern_sequence_add(session, &sequence);
    case TERN_SAY_SEQUENCE_PLAN:
        return tern_sequence_plan(session, (int32_t)m->values[0], m->values[1]);
    case TERN_SAY_SEQUENCE_REMOVE:
        return tern_sequence_remove(session, (int32_t)m->values[0]);
    case TERN_SAY_SEQUENCE_FORK:
        return tern_sequence_fork(session, (int32_t)m->values[0], &sequence);
    case TERN_SAY_SEQUENCE_TRUNCATE:
        return tern_sequence_truncate(session, (int32_t)m->values[0], m->values[1]);
    case TERN_SAY_STEP:
        return step(w, session, m);
    default:
        return out_of_step(w, m);
    }
}

tern_status tern_worker_serve(tern_ctx *ctx, const tern_model *model, tern_worker_watch *watch, void *user)
{
    struct worker w = { .ctx = ctx, .model = model, .watch = watch, .user = user };
    struct tern_message message = { 0 };
    tern_status status = TERN_OK;

    TERN_REQUIRE(ctx, ctx && model, TERN_ERR_ARG, "worker: %s is NULL", ctx ? "model" : "ctx");
    TERN_REQUIRE(ctx, model->comm->rank > 0 && model->group && !model->group->over, TERN_ERR_STATE,
                 "worker: this is rank %d of %d%s, expected one above 0 of an open model", model->comm->rank,
                 model->comm->size, model->group && model->group->over ? ", and rank 0 has closed the model" : "");
    while (status == TERN_OK) {
        status = tern_message_receive(ctx, model->comm, &message);
        if (status == TERN_OK && message.kind == TERN_SAY_CLOSE)
            break;
        if (status == TERN_OK)
            status = hear(&w, &message);
    }
    model->group->over = true;
    while (w.n_sessions > 0)
        destroy(&w, w.sessions);
    tern_free(w.sessions);
    tern_free(w.rows);
    return status;
}

tern_status tern_worker_run(tern_ctx *ctx, const tern_model *model)
{
    return tern_worker_serve(ctx, model, NULL, NULL);
}
