/* message.c: see message.h. */
#include "comm/message.h"

#include "comm/agree.h"

tern_status tern_message_share(tern_ctx *ctx, const tern_comm *comm, void *data, size_t bytes)
{
    return tern_comm_check(ctx, comm, comm->broadcast(comm->user, data, bytes, 0));
}

tern_status tern_message_pass(tern_ctx *ctx, const tern_comm *comm, struct tern_message *message)
{
    return tern_message_share(ctx, comm, message, sizeof *message);
}
