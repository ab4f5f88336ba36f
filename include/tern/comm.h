/* comm.h: who else computes this model. */
#ifndef TERN_COMM_H
#define TERN_COMM_H

#include <tern/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A group of processes that share each matrix of a model.  Fill in your own, or take tern_comm_self(). */
typedef struct tern_comm {
    void *user;
    int rank; /**< 0 .. size - 1 */
    int size; /**< >= 1 */
    /** data[0..n) becomes the sum over all ranks, added in rank order, the same bits on every rank. */
    tern_status (*all_reduce)(void *user, float *data, size_t n);
    /** out[size][n]: every rank's data[n]. */
    tern_status (*all_gather)(void *user, const float *data, float *out, size_t n);
    /** Rank `root`'s bytes everywhere. */
    tern_status (*broadcast)(void *user, void *data, size_t bytes, int root);
    /** Returns on all ranks when every rank has called it. */
    tern_status (*barrier)(void *user);
} tern_comm;

/** The group of one: every operation leaves the data as they are.  Static storage. */
TERN_API const tern_comm *tern_comm_self(void);

#ifdef __cplusplus
}
#endif
#endif
