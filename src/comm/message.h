/* message.h: what rank 0 tells the others, who do the same with their part of a model.
 *
 * One message is one broadcast of fixed size; what does not fit goes in a second one. */
#ifndef TERN_COMM_MESSAGE_H
#define TERN_COMM_MESSAGE_H

#include "base/ctx.h"

#include <tern/comm.h>

enum tern_message_kind {
    TERN_SAY_CLOSE = 1,      /* the model is closed */
    TERN_SAY_SESSION_CREATE, /* values: fields of tern_session_options */
    TERN_SAY_SESSION_DESTROY,
    TERN_SAY_SEQUENCE_ADD,
    TERN_SAY_SEQUENCE_PLAN,     /* sequence, n_positions */
    TERN_SAY_SEQUENCE_REMOVE,   /* sequence */
    TERN_SAY_SEQUENCE_FORK,     /* sequence */
    TERN_SAY_SEQUENCE_TRUNCATE, /* sequence, length */
    TERN_SAY_STEP               /* n_rows, n_ids; numbers: sequence, n_ids and logits of each row, then all ids */
};

#define TERN_MESSAGE_NUMBERS 50

struct tern_message {
    int32_t kind, session; /* session: a number of rank 0's */
    int64_t values[6];
    int32_t numbers[TERN_MESSAGE_NUMBERS]; /* of a step, where they fit */
};

_Static_assert(sizeof(struct tern_message) == 256, "tools/predict_ranks.py and docs/distributed.md count its bytes");

/* From rank 0 to the others.
 * What comm answers, with a text. */
tern_status tern_message_send(tern_ctx *ctx, const tern_comm *comm, struct tern_message *message);
tern_status tern_message_receive(tern_ctx *ctx, const tern_comm *comm, struct tern_message *message);
/* The second part of a message: sent by rank 0, received by the others. */
tern_status tern_message_pass(tern_ctx *ctx, const tern_comm *comm, int32_t *numbers, size_t n);

#endif
