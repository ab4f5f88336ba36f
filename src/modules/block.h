/* block.h: a transformer block as a model runs it: inside a parallel region, on scratch that a session planned once.
 *
 * With A and F attention and feed-forward, their last biases included, N1, N2 norms before them and E1, E2 norms behind:
 *
 *     pre         s = E1 A(N1 x) + x;      x' = E2 F(N2 s) + s
 *     post        z = N2(A(x) + x);        x' = closing(F(z) + z)
 *     parallel    x' = F(N2 x) + A(N1 x) + x            N2 absent: N1, made once
 *
 * With norm_residual pre adds what the norms made: s = A(N1 x) + N1 x; x' = F(N2 s) + N2 s, without E1 and E2.
 *
 * F is a feed-forward, or a mixture of experts in its place (pre; down_b NULL).  A norm whose gamma is NULL is not there (N2 of pre and post
 * is).  Sums are added from left to right, as transformers does. */
#ifndef TERN_MODULES_BLOCK_H
#define TERN_MODULES_BLOCK_H

#include "modules/attention.h"
#include "modules/experts.h"
#include "modules/mlp.h"

#include <stdatomic.h>

enum tern_block_form { TERN_BLOCK_PRE, TERN_BLOCK_POST, TERN_BLOCK_PARALLEL };

struct tern_block {
    enum tern_block_form form;
    bool norm_residual;
    size_t hidden; /* H */
    const tern_comm *comm;
    const struct tern_kernels *kernels; /* NULL: the region's */
    bool narrow;                        /* rows that enter a product are rounded to the type of its weight */

    struct tern_attention_bound attention; /* with N1 */
    struct tern_mlp_bound mlp;             /* with N2 */
    const struct tern_experts *experts;    /* in place of mlp.feed_forward, or NULL */
    struct tern_norm_args attention_end;   /* E1, of pre */
    struct tern_norm_args mlp_end;         /* E2, of pre */
    struct tern_norm_args closing;         /* of post */
};

/* Scratch of one block for up to max_rows rows; all blocks of a model share one. */
struct tern_block_work {
    size_t max_rows;
    float *normed; /* [T, H] */
    struct tern_attention_work attention;
    float *attn;   /* [T, H]: attention output before the residual */
    float *inner;  /* [tern_feed_forward_most() of T, pI] of the widest feed-forward */
    float *hidden; /* [T, H]: feed-forward output */
    void *narrow;  /* rows of a product, rounded; NULL where they stay fp32 */
    struct tern_experts_work experts;
    tern_status *status; /* of the last all-reduce, from thread 0 to the others */
    /* NULL, or what ends the run at the next all-reduce, on every rank alike; by the owner. */
    const atomic_bool *cancel;
};

/* Floats behind the rows that tern_rows_reduce() adds up. */
#define TERN_REDUCE_ROOM 1
/* data [n] becomes the sum over comm's ranks: thread 0 speaks for the process.  Where there is a cancel flag, data has room for
 * TERN_REDUCE_ROOM more.  Called by every thread, when data are complete for all; barrier at the end.
 * TERN_ERR_CANCELLED (a rank's flag is set), or what comm answers: the same on every thread and rank. */
tern_status tern_rows_reduce(const struct tern_par *par, const tern_comm *comm, float *data, size_t n,
                             const struct tern_block_work *work);

/* Takes the scratch from an arena (twice: once counting, once for real).  It fits each of the blocks, whose attention has the same
 * sizes, and whose mixtures, where they have one. */
void tern_block_work_take(struct tern_arena *arena, const struct tern_block *const *blocks, size_t n_blocks,
                          size_t max_rows, int n_threads, struct tern_block_work *work);

/* x [T, H] in place.  Called by every thread; barrier at the end.  Statuses are tern_rows_reduce()'s: TERN_OK for a group of one. */
tern_status tern_block_run(const struct tern_par *par, const struct tern_block *block, float *x,
                           const struct tern_kv_batch *batch, int32_t cache_layer, const struct tern_block_work *work);

#endif
