/* engine.h: the inside of a session. */
#ifndef TERN_ENGINE_ENGINE_H
#define TERN_ENGINE_ENGINE_H

#include "base/arena.h"
#include "comm/message.h"
#include "model/arch.h"
#include "model/group.h"

#include <tern/session.h>

/* What the last step computed for one of its rows. */
struct session_row {
    int32_t n_ids;
    tern_logits logits;
    size_t first_logit; /* of its scores in session.logits */
};

struct tern_session {
    tern_ctx *ctx;
    const tern_model *model;
    tern_kv_cache *cache;
    bool tells;         /* other ranks what it does; else there are none, or this does what rank 0 tells */
    int32_t number;     /* of this session, where other ranks have it too */
    int32_t vocab_size; /* V */
    int32_t n_sequences;
    int64_t n_context;
    size_t max_batch, max_logits;
    atomic_bool cancel;

    /* All of the following lies in the arena. */
    struct tern_arena arena;
    struct tern_model_work work;
    int32_t *ids, *positions; /* [max_batch] */
    int32_t *logit_rows;      /* [max_logits] */
    float *logits;            /* [max_logits][V] */
    tern_kv_span *spans;      /* [n_sequences] */
    struct session_row *rows; /* [n_sequences] */
    bool *in_step;            /* [n_sequences] */
    int64_t *planned;         /* [n_sequences] positions that each will have */
    int64_t *in_batch;        /* [n_sequences] the same of the spans */
    int32_t *numbers;         /* [3 n_sequences + max_batch] of a message; NULL in a process of its own */
    size_t n_rows;            /* of the last step; 0 if it failed */
};

/* A session of this rank's part of a model, which nobody is told of.  See tern_session_create(). */
tern_status tern_session_make(tern_ctx *ctx, const tern_model *model, const tern_session_options *options,
                              tern_session **out);

#endif
