/* message.h: what rank 0 tells the others, who do the same with their part of a model.
 *
 * One message is one broadcast of fixed size; what does not fit goes in a second one. */
#ifndef TERN_COMM_MESSAGE_H
#define TERN_COMM_MESSAGE_H

#include "base/ctx.h"

#include <tern/comm.h>

enum tern_message_kind {
    TERN_SAY_CLOSE = 1,      /* the model is closed */
    TERN_SAY_SESSION_CREATE, /* values: n_positions, n_sequences, n_context, max_batch, max_logits of tern_session_options */
    TERN_SAY_SESSION_DESTROY,
    TERN_SAY_SEQUENCE_ADD,
    TERN_SAY_SEQUENCE_PLAN,     /* sequence, n_positions */
    TERN_SAY_SEQUENCE_REMOVE,   /* sequence */
    TERN_SAY_SEQUENCE_FORK,     /* sequence */
    TERN_SAY_SEQUENCE_TRUNCATE, /* sequence, length */
    TERN_SAY_STEP,              /* n_rows, n_ids; numbers: sequence, n_ids and logits of each row, then all ids */
    TERN_SAY_ENCODER_CREATE,    /* max_batch, max_texts, n_context of tern_encoder_options */
    TERN_SAY_ENCODER_DESTROY,
    TERN_SAY_ENCODE /* n_texts, n_ids, n_answers; numbers: n_ids of each text, all ids, their types, rows that have an answer */
};

#define TERN_MESSAGE_NUMBERS 50

struct tern_message {
    int32_t kind, object; /* object: the number that rank 0 gave to a session or an encoder */
    int64_t values[6];
    int32_t numbers[TERN_MESSAGE_NUMBERS]; /* of a step or an encoding, where they fit */
};

_Static_assert(sizeof(struct tern_message) == 256, "tools/predict_ranks.py and docs/distributed.md count its bytes");

/* From rank 0 to the others, who hear it in this call.
 * What comm answers, with a text. */
tern_status tern_message_pass(tern_ctx *ctx, const tern_comm *comm, struct tern_message *message);
/* The same of the second part of a message, or of anything else. */
tern_status tern_message_share(tern_ctx *ctx, const tern_comm *comm, void *data, size_t bytes);

#endif
