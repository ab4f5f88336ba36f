/* worker.h: the processes that share a model with the one that uses it. */
#ifndef TERN_WORKER_H
#define TERN_WORKER_H

#include <tern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Lends this rank's part of a model to rank 0: does here what its sessions do there, until it closes the model.
 *
 * Every rank opens the model with its tern_comm (tern_model_options.comm).  Then rank 0 goes on as if it were alone: it makes sessions and
 * generates, and has all text; the others call this.  All sessions of rank 0 are used by the thread that has opened comm.
 *
 * @param ctx    threads, error text.
 * @return TERN_OK (rank 0 has closed the model; tern_model_close() is next), TERN_ERR_STATE (this is rank 0, or there is nobody else;
 *         or what comm answers when rank 0 has ended otherwise), TERN_ERR_IO (the ranks cannot reach each other), TERN_ERR_FORMAT (rank 0 speaks otherwise), TERN_ERR_MEMORY,
 *         TERN_ERR_THREAD. */
TERN_API tern_status tern_worker_run(tern_ctx *ctx, const tern_model *model);

#ifdef __cplusplus
}
#endif
#endif
