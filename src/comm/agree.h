/* agree.h: what every rank must know alike. */
#ifndef TERN_COMM_AGREE_H
#define TERN_COMM_AGREE_H

#include "base/ctx.h"

#include <tern/comm.h>

#define TERN_MAX_RANKS 1024

/* What an operation of comm answered, with a text where that is no TERN_OK. */
tern_status tern_comm_check(tern_ctx *ctx, const tern_comm *comm, tern_status status);

/* The status of the lowest rank that has another one than TERN_OK, on every rank, with that rank's text behind its number: "rank 1 of 2: ...".
 * TERN_OK where all have that.  Called by every rank, each with what it has; `status` is returned as it is in a group of one.
 * Or what comm answers, with a text. */
tern_status tern_agree(tern_ctx *ctx, const tern_comm *comm, tern_status status);

#endif
