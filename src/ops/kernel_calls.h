/* kernel_calls.h: operators as they run inside a parallel region.
 *
 * Called by every thread of the team with its tern_par, on checked raw pointers: they cannot fail and allocate nothing.
 * Each one starts when its inputs are complete for all threads and ends with a barrier where the next call may read its
 * output (the comment of each says so).  All are f32; rows are dense unless a stride is given. */
#ifndef TERN_OPS_KERNEL_CALLS_H
#define TERN_OPS_KERNEL_CALLS_H

#include "base/threads.h"
#include "kernels/kernels.h"

#include <tern/op.h>

/* A packed weight: panels [n_panels][K][32], see kernels.h. */
struct tern_weight {
    int64_t in, out; /* K, N */
    float *panels;
    size_t bytes;
};

/* c[M, ldc] = epilogue(a[M, lda] W), a 1 <= M product of any size.  Split over threads by panels below 128 rows, by rows from there on.
 * Barrier at the end. */
void tern_gemm_run(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                   const struct tern_weight *w, const struct tern_epilogue *e);

/* What norm does before a product. */
struct tern_norm_args {
    tern_norm type;
    const float *gamma, *beta; /* beta NULL: none */
    float eps;
};
/* y[T][n] = norm(x + bias + residual); sum (or NULL) gets the sum; bias, residual NULL are left out.  Rows are split.  Barrier at the end. */
void tern_norm_run(const struct tern_par *par, float *y, float *sum, const float *x, const float *bias,
                   const float *residual, size_t n_rows, size_t n, const struct tern_norm_args *norm);

/* Rows of a batch and where they stand in the cache. */
struct tern_kv_batch {
    tern_kv_cache *cache;
    const tern_kv_span *spans;
    size_t n_spans;
    size_t n_rows;
};

/* What softmax_context reads from a config, worked out once. */
struct tern_softmax_context_args {
    int32_t heads, kv_heads, head_dim;
    bool causal;
    int64_t window; /* 0: none */
    float scale, softcap;
    const float *alibi; /* [heads] or NULL */
    const float *mask;  /* additive [n_rows or 1][mask_stride] or NULL */
    size_t mask_rows, mask_stride;
    int32_t rotary_dim; /* 0: none */
    bool rotate_neighbours;
    float rope_theta;
};
/* Fills from a checked config. */
struct tern_softmax_context_args tern_softmax_context_args_from(const tern_config *config);

/* Rotary on q and k of qkv [T, ld], store k and v, attend, context to out [T, ld_out] (NULL: store only).  Barrier at the end.
 * scratch: tern_softmax_context_scratch() floats for the whole team. */
void tern_softmax_context_run(const struct tern_par *par, const struct tern_softmax_context_args *args, float *qkv,
                              size_t ld, const struct tern_kv_batch *batch, int32_t layer, float *out, size_t ld_out,
                              float *scratch);
size_t tern_softmax_context_scratch(int32_t head_dim, int n_threads);

#endif
