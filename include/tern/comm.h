/* comm.h: who else computes this model. */
#ifndef TERN_COMM_H
#define TERN_COMM_H

#include <tern/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A group of processes that share each matrix of a model.  Fill in your own, or take tern_comm_open()'s.
 *  Every rank calls the same operations in the same order with the same sizes, each from the one thread that opened the group. */
typedef struct tern_comm {
    void *user;
    int rank; /**< 0 .. size - 1 */
    int size; /**< >= 1 */
    /** data[0..n) becomes the sum over all ranks, added in rank order ((x0 + x1) + x2) + ..., the same bits on every rank. */
    tern_status (*all_reduce)(void *user, float *data, size_t n);
    /** out[size][n]: every rank's data[n], which lies outside of out or is its own row of it. */
    tern_status (*all_gather)(void *user, const float *data, float *out, size_t n);
    /** Rank `root`'s bytes everywhere. */
    tern_status (*broadcast)(void *user, void *data, size_t bytes, int root);
    /** Returns on all ranks when every rank has called it. */
    tern_status (*barrier)(void *user);
} tern_comm;

/** The group of one: every operation leaves the data as they are.  Static storage. */
TERN_API const tern_comm *tern_comm_self(void);

/** Joins the group that this process was started in.
 *
 * "self"  the group of one.
 * "mpi"   all ranks of MPI_COMM_WORLD, through the plugin libtern_mpi.so: looked for in the folder TERN_PLUGINS if that is set,
 *         else beside libtern and the program, in the lib folder beside the program's, and where the loader looks.  MPI is
 *         initialised (MPI_THREAD_FUNNELED) unless the program has done so, and used through a duplicate of the
 *         communicator.  Every rank opens the group, from its main thread.
 *
 * An operation of "mpi" answers TERN_OK, TERN_ERR_ARG (no such root), or TERN_ERR_STATE in a forked child, and after rank 0 has closed the
 * group or ended: there is nothing left to do but to close it too (with TERN_COMM_TIMEOUT=0 between hosts it waits on instead).  No other
 * failure comes back.  A rank that is lost leaves the others nothing to return to, so a thread of each process watches the others: while
 * they join, MPI's own start included, and then whether one was killed or has not answered for TERN_COMM_TIMEOUT seconds
 * (5; 0: no watching; rank 0's counts), one line on stderr says which, and every process ends by _exit(1).
 * TERN_COMM=p2p takes the path between hosts also within one (docs/distributed.md).
 *
 * @param ctx   error text; may be NULL.  The group is independent of it afterwards.
 * @param out   the group; NULL on error.  Closed by tern_comm_close().
 * @return TERN_OK, TERN_ERR_ARG (NULL, a variable of the environment), TERN_ERR_NOT_FOUND (an unknown name: the text lists them; no
 *         plugin), TERN_ERR_FORMAT (a plugin that is cut off), TERN_ERR_UNSUPPORTED (a plugin or ranks of another version),
 *         TERN_ERR_STATE (MPI was finalised already),
 *         TERN_ERR_IO (MPI failed, a rank cannot be reached), TERN_ERR_MEMORY, TERN_ERR_THREAD. */
TERN_API tern_status tern_comm_open(tern_ctx *ctx, const char *name, tern_comm **out);

/** Leaves the group, from the thread that opened it, and sets *comm to NULL.  NULL and a pointer to NULL are fine.
 *  "mpi" waits until every rank has done so, and finalises MPI if tern_comm_open() initialised it and no other group is open.  Where a
 *  program has several groups open, every rank closes them in the same order. */
TERN_API void tern_comm_close(tern_comm **comm);

#ifdef __cplusplus
}
#endif
#endif
