/* feed_forward.h: the two products of a feed-forward, inside a parallel region. */
#ifndef TERN_OPS_FEED_FORWARD_H
#define TERN_OPS_FEED_FORWARD_H

#include "ops/kernel_calls.h"

/* What a feed-forward reads besides its rows. */
struct tern_feed_forward_args {
    const struct tern_weight *up, *down; /* [H, pI], [I, N]; p = 2 for gated activations: columns [up | gate] */
    const float *up_bias;                /* [pI] or NULL */
    tern_activation activation;
    tern_gelu_form gelu;
};

/* Rows of a thread that go through both products before the next ones do: what stands between the products is then read from nearby,
 * where that of 512 rows would have gone to memory.  Weights are read once more for each part, which products of so many rows hide:
 * bench/LOG.md, of 64 to 512 rows. */
#define TERN_FEED_FORWARD_ROWS 128
size_t tern_feed_forward_most(int n_threads, size_t n_rows); /* of all threads, n_rows at most */

/* x [T, ldx] -> up-projection, activation -> inner [most, pI] -> down-projection through `e` to c [T, ldc], T >= 1.  Barriers between
 * and at the end.
 * narrow: NULL, or the scratch with which rows of both products are rounded (tern_gemm_run_narrow):
 * tern_feed_forward_scratch() bytes, 64-byte aligned. */
void tern_feed_forward_run(const struct tern_par *par, const struct tern_feed_forward_args *args, float *c, size_t ldc,
                           const float *x, size_t ldx, size_t n_rows, float *inner, const struct tern_epilogue *e,
                           void *narrow);
size_t tern_feed_forward_scratch(const struct tern_feed_forward_args *args, size_t n_rows);

/* The same from rows that are rounded already, in the room for them in `narrow` (tern_rows_narrow: nothing, where they stay f32). */
void tern_feed_forward_run_rows(const struct tern_par *par, const struct tern_feed_forward_args *args, float *c,
                                size_t ldc, const struct tern_rows *x, size_t n_rows, float *inner,
                                const struct tern_epilogue *e, void *narrow);
struct tern_rows tern_feed_forward_rows(const struct tern_feed_forward_args *args, size_t n_rows, void *narrow);

#endif
