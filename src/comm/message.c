/* message.c: see message.h. */
#include "comm/message.h"

static tern_status pass(tern_ctx *ctx, const tern_comm *comm, void *data, size_t bytes)
{
    const tern_status status = comm->broadcast(comm->user, data, bytes, 0);

    TERN_REQUIRE(ctx, status == TERN_OK, status, "rank %d of %d: the ranks cannot reach each other: %s", comm->rank,
                 comm->size, tern_status_name(status));
    return TERN_OK;
}

tern_status tern_message_send(tern_ctx *ctx, const tern_comm *comm, struct tern_message *message)
{
    return pass(ctx, comm, message, sizeof *message);
}

tern_status tern_message_receive(tern_ctx *ctx, const tern_comm *comm, struct tern_message *message)
{
    return pass(ctx, comm, message, sizeof *message);
}

tern_status tern_message_pass(tern_ctx *ctx, const tern_comm *comm, int32_t *numbers, size_t n)
{
    return pass(ctx, comm, numbers, n * sizeof *numbers);
}
