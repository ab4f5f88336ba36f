/* worker.h: the processes that share a model with the one that uses it. */
#ifndef TERN_WORKER_H
#define TERN_WORKER_H

#include <tern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Lends this rank's part of a model to rank 0: does here what its sessions and encoders do there, until it closes the model.
 *
 * Every rank opens the model with its tern_comm (tern_model_options.comm).  Then rank 0 goes on as if it were alone: it makes sessions and
 * encoders, generates, and has all text; the others call this, from the thread that opened the comm, as rank 0 makes all its calls.
 *
 * @param ctx    threads, error text.
 * @param model  open, on a rank other than 0; afterwards it is good for tern_model_close() alone.
 * @return TERN_OK (rank 0 has closed the model), TERN_ERR_ARG (NULL), TERN_ERR_STATE (this is rank 0, or there is nobody else, or the model
 *         was closed by rank 0 before), TERN_ERR_FORMAT (what rank 0 says fits nothing that it said before), TERN_ERR_THREAD; or what the
 *         comm answers when the ranks lose each other: "mpi" TERN_ERR_STATE, when rank 0 has ended otherwise. */
TERN_API tern_status tern_worker_run(tern_ctx *ctx, const tern_model *model);

#ifdef __cplusplus
}
#endif
#endif
