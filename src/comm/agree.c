/* agree.c: see agree.h. */
#include "comm/agree.h"

#include <stdio.h>
#include <string.h>

#define TEXT_SIZE 1024 /* bytes of an error's text that go to other ranks */

tern_status tern_comm_check(tern_ctx *ctx, const tern_comm *comm, tern_status status)
{
    TERN_REQUIRE(ctx, status == TERN_OK, status, "rank %d of %d: the ranks cannot reach each other: %s", comm->rank,
                 comm->size, tern_status_name(status));
    return TERN_OK;
}

tern_status tern_agree(tern_ctx *ctx, const tern_comm *comm, tern_status status)
{
    float codes[TERN_MAX_RANKS], mine = (float)status; /* small whole numbers: exact */
    char text[TEXT_SIZE];
    int rank = 0;

    if (comm->size == 1)
        return status;
    snprintf(text, sizeof text, "%s", status == TERN_OK ? "" : tern_error(ctx));
    tern_status sent = comm->all_gather(comm->user, &mine, codes, 1);
    while (sent == TERN_OK && rank < comm->size && codes[rank] == (float)TERN_OK)
        rank++;
    if (sent == TERN_OK && rank < comm->size)
        sent = comm->broadcast(comm->user, text, sizeof text, rank);
    TERN_TRY(tern_comm_check(ctx, comm, sent));
    if (rank == comm->size)
        return TERN_OK;
    text[sizeof text - 1] = '\0';
    return tern_fail(ctx, (tern_status)codes[rank], "rank %d of %d: %s", rank, comm->size, text);
}
