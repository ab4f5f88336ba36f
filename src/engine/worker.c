/* worker.c: rank 0's sessions and encoders, mirrored.
 *
 * Rank 0 has checked what it says, and sizes are the same on all ranks: what goes wrong here went wrong there as well, or the ranks are
 * out of step and this one ends. */
#include "engine/worker.h"

#include "base/memory.h"
#include "comm/agree.h"
#include "engine/encoder.h"
#include "engine/engine.h"

/* A session or an encoder of rank 0, by the number that it has there. */
struct mirrored {
    int32_t number;
    tern_session *session; /* one of these two */
    tern_encoder *encoder;
};

struct worker {
    tern_ctx *ctx;
    const tern_model *model;
    const struct tern_worker_watch *watch; /* NULL: no one */
    struct mirrored *objects;
    size_t n_objects, capacity;
    tern_row *rows; /* of a step of any of them */
    size_t rows_capacity;
};

static tern_status out_of_step(const struct worker *w, const struct tern_message *message)
{
    return tern_fail(w->ctx, TERN_ERR_FORMAT,
                     "rank 0 sent message %" PRId32 " of object %" PRId32
                     ", expected one that fits what it sent before",
                     message->kind, message->object);
}

static struct mirrored *find(const struct worker *w, int32_t number)
{
    for (size_t i = 0; i < w->n_objects; i++)
        if (w->objects[i].number == number)
            return &w->objects[i];
    return NULL;
}

/* All that this rank needs for what the object will do, so that none of it can fail here alone. */
static tern_status make(struct worker *w, const struct tern_message *m, struct mirrored *object)
{
    const tern_session_options session = {
        .n_positions = m->values[0],
        .n_sequences = (int32_t)m->values[1],
        .n_context = m->values[2],
        .max_batch = (int32_t)m->values[3],
        .max_logits = (int32_t)m->values[4],
    };
    const tern_encoder_options encoder = { .max_batch = (int32_t)m->values[0],
                                           .max_texts = (int32_t)m->values[1],
                                           .n_context = (int32_t)m->values[2] };

    if (find(w, m->object))
        return out_of_step(w, m);
    TERN_TRY(TERN_GROW(w->ctx, &w->objects, &w->capacity, w->n_objects + 1, "the sessions of rank 0"));
    if (m->kind == TERN_SAY_ENCODER_CREATE)
        return tern_encoder_make(w->ctx, w->model, &encoder, w->watch != NULL, &object->encoder);
    TERN_TRY(tern_session_make(w->ctx, w->model, &session, &object->session));
    return TERN_GROW(w->ctx, &w->rows, &w->rows_capacity, (size_t)object->session->n_sequences, "the rows of a step");
}

static void drop(struct mirrored *object)
{
    tern_session_destroy(&object->session);
    tern_encoder_destroy(&object->encoder);
}

/* Agreed: where it cannot be made on some rank there is none on any, and rank 0, which hears of it, may try another one. */
static tern_status create(struct worker *w, const struct tern_message *m)
{
    struct mirrored object = { .number = m->object };
    const tern_status here = make(w, m, &object), status = tern_agree(w->ctx, w->model->comm, here);

    if (status == TERN_OK)
        w->objects[w->n_objects++] = object;
    else
        drop(&object);
    return here == TERN_ERR_FORMAT ? status : TERN_OK;
}

static void destroy(struct worker *w, struct mirrored *object)
{
    drop(object);
    *object = w->objects[--w->n_objects];
}

static tern_status encode(struct worker *w, tern_encoder *encoder, struct tern_message *m)
{
    const float *states = NULL, *answers = NULL;
    bool understood;
    const tern_status status = tern_encoder_follow(encoder, m, &understood, &states, &answers);

    if (!understood)
        return out_of_step(w, m);
    if (w->watch && w->watch->pass && status == TERN_OK)
        w->watch->pass(w->watch->user, states, (size_t)m->values[1], answers, (size_t)m->values[2]);
    return status;
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
        TERN_TRY(tern_message_share(w->ctx, w->model->comm, numbers, n * sizeof *numbers));
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
    if (w->watch && w->watch->step)
        w->watch->step(w->watch->user, session, status);
    return status == TERN_ERR_CANCELLED ? TERN_OK : status;
}

static tern_status hear_session(struct worker *w, tern_session *session, struct tern_message *m)
{
    int32_t sequence;

    switch (m->kind) {
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

static tern_status hear(struct worker *w, struct tern_message *m)
{
    if (m->kind == TERN_SAY_SESSION_CREATE || m->kind == TERN_SAY_ENCODER_CREATE)
        return create(w, m);
    struct mirrored *object = find(w, m->object);
    if (!object)
        return out_of_step(w, m);
    if (m->kind == (object->session ? TERN_SAY_SESSION_DESTROY : TERN_SAY_ENCODER_DESTROY)) {
        destroy(w, object);
        return TERN_OK;
    }
    if (object->session)
        return hear_session(w, object->session, m);
    return m->kind == TERN_SAY_ENCODE ? encode(w, object->encoder, m) : out_of_step(w, m);
}

tern_status tern_worker_serve(tern_ctx *ctx, const tern_model *model, const struct tern_worker_watch *watch)
{
    struct worker w = { .ctx = ctx, .model = model, .watch = watch };
    struct tern_message message = { 0 };
    tern_status status = TERN_OK;

    TERN_REQUIRE(ctx, ctx && model, TERN_ERR_ARG, "worker: %s is NULL", ctx ? "model" : "ctx");
    TERN_REQUIRE(ctx, model->comm->rank > 0 && model->group && !model->group->mute, TERN_ERR_STATE,
                 "worker: this is rank %d of %d%s, expected one above 0 of an open model", model->comm->rank,
                 model->comm->size, model->group && model->group->mute ? ", and rank 0 has closed the model" : "");
    while (status == TERN_OK) {
        status = tern_message_pass(ctx, model->comm, &message);
        if (status == TERN_OK && message.kind == TERN_SAY_CLOSE)
            break;
        if (status == TERN_OK)
            status = hear(&w, &message);
    }
    model->group->mute = true;
    while (w.n_objects > 0)
        destroy(&w, w.objects);
    tern_free(w.objects);
    tern_free(w.rows);
    return status;
}

tern_status tern_worker_run(tern_ctx *ctx, const tern_model *model)
{
    return tern_worker_serve(ctx, model, NULL);
}
