/* widen.h: tensors in fp32, fp16 or bf16 around arithmetic in fp32.
 *
 * A function on stored halves widens what it reads (exact), computes, and narrows what it stores: the one rounding.  Two ways are enough
 * for all of them: row by row, by kernels that do so themselves (tern_rows_run), and products (tern_wide_gemm), whose right-hand side is
 * packed panel by panel straight from its strides and dtype.
 * All scratch is allocated before a region starts. */
#ifndef TERN_OPS_WIDEN_H
#define TERN_OPS_WIDEN_H

#include "ops/checks.h"

/* Stands for any of fp32, fp16 and bf16 where a check takes a dtype. */
#define TERN_ANY_FLOAT TERN_DTYPE_COUNT

/* ---- checks ---- */

/* A dense tensor of `dtype`, or with `or_fp32` fp32 too. */
tern_status tern_check_float(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, tern_dtype dtype,
                             bool or_fp32);
/* The same as rows: the last axis has `cols` values, all others together are `rows`; -1 takes any.  Either found may be NULL. */
tern_status tern_check_float_rows(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t,
                                  tern_dtype dtype, int64_t rows, int64_t cols, size_t *found_rows, size_t *found_cols);
/* [n] in `dtype` or fp32; with `optional` NULL and rank -1 are fine. */
tern_status tern_check_float_vector(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t,
                                    tern_dtype dtype, int64_t n, bool optional);
/* A checked tensor has exactly these sizes; -1 takes any. */
tern_status tern_check_dims(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int rank,
                            const int64_t *dim);
/* A dense tensor of int32 or int64; rank and sizes as in tern_check_dims, rank -1 takes any. */
tern_status tern_check_ints(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int rank,
                            const int64_t *dim);
/* The same, int32 alone: what gating writes. */
tern_status tern_check_int32(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int rank,
                             const int64_t *dim);
/* A finite number, 0 or more. */
tern_status tern_check_eps(tern_ctx *ctx, const char *op, float eps);

/* Number i of a checked tensor of int32 or int64. */
static inline int64_t tern_int_at(const tern_tensor *t, size_t i)
{
    return t->dtype == TERN_INT32 ? ((const int32_t *)t->data)[i] : ((const int64_t *)t->data)[i];
}

/* Elements of a checked dense tensor. */
size_t tern_elements(const tern_tensor *t);

/* ---- widening and narrowing ---- */

static inline const void *tern_at(const void *data, tern_dtype dtype, size_t element)
{
    return (const char *)data + element * tern_dtype_size(dtype);
}

/* to[0..n) = elements [at, at + n) of data.  Inside a region. */
void tern_wide_load(const struct tern_kernels *kernels, float *to, const void *data, tern_dtype dtype, size_t at,
                    size_t n);
/* Elements [at, at + n) of data = from[0..n), rounded once.  Inside a region. */
void tern_wide_store(const struct tern_kernels *kernels, void *data, tern_dtype dtype, size_t at, const float *from,
                     size_t n);

/* The numbers of a checked tensor in fp32: its own, or a copy that *owned gets (freed by tern_free).  NULL for "none". */
tern_status tern_widen_tensor(tern_ctx *ctx, const tern_tensor *t, float **owned, const float **out);

/* ---- rows ---- */

#define TERN_ROW_INPUTS  3
#define TERN_ROW_OUTPUTS 2

/* A matrix as rows of n elements, row r from element r * n on; with `total` the last row ends there, shorter. */
struct tern_row_operand {
    void *data; /* NULL: not there */
    tern_dtype dtype;
    size_t n, total; /* total 0: all rows are whole */
};

/* One row where it is stored: n is that of in[0]; NULL where an operand is not there.  An output may be an input. */
struct tern_row {
    const struct tern_kernels *kernels;
    tern_dtype dtype; /* of in[0] */
    size_t index, n;
    const void *in[TERN_ROW_INPUTS];
    void *out[TERN_ROW_OUTPUTS];
    struct tern_row_flow
        flow; /* for the last kernel, the one that writes out[0]; its work has the widest row's numbers */
};
typedef void tern_row_fn(const void *arg, const struct tern_row *row);

/* The kernel `name` for rows of a dtype: TERN_ROW_KERNEL(kernels, dtype, axpy, (out, x, y, scale, n, &flow)). */
#define TERN_ROW_KERNEL(kernels, dtype, name, arguments)       \
    ((dtype) == TERN_FP16   ? (kernels)->name##_f16 arguments  \
     : (dtype) == TERN_BF16 ? (kernels)->name##_bf16 arguments \
                            : (kernels)->name##_f32 arguments)

/* Runs fn on every row, split over threads.  An output may be any input, exactly.  Outputs beyond the second-level cache are streamed,
 * and then the first two inputs are prefetched. */
struct tern_row_call {
    const struct tern_kernels *kernels; /* NULL: the context's */
    struct tern_row_operand in[TERN_ROW_INPUTS], out[TERN_ROW_OUTPUTS];
    size_t n_rows;
    tern_row_fn *fn;
    const void *arg;
};
tern_status tern_rows_run(tern_ctx *ctx, const struct tern_row_call *call);

/* ---- products ---- */

/* For each pair of batch indices (i, j):  C[m][n] = act(scale * A[m][k] B[k][n] + bias[n])
 * Strides in elements, >= 0.  Offsets of batch (i, j): a_batch[0] i + a_batch[1] j, and so on.
 * row_ends: NULL, or groups of rows: batch i (batches[1] is 1) is rows [row_ends[i - 1], row_ends[i]) of the one A and C.
 * causal: C[r][c] = -inf for c > r.   Accuracy: one chain of fused multiply-adds over k, then scale, bias, act. */
struct tern_wide_gemm {
    tern_dtype dtype, b_dtype; /* of a and c; of b */
    const void *a, *b;
    void *c;
    size_t m, n, k;
    size_t a_row, a_col, b_row, b_col, c_row;
    size_t batches[2], a_batch[2], b_batch[2], c_batch[2];
    const int64_t *row_ends;
    const float *bias; /* or NULL */
    size_t bias_batch; /* distance of batch i's bias from that of i - 1 */
    enum tern_act act;
    bool scaled, causal;
    float scale;
};
tern_status tern_wide_gemm(tern_ctx *ctx, const struct tern_wide_gemm *g);

/* A panel [k][32] of B's columns [0, n), n <= 32, from any strides. */
void tern_wide_pack(const struct tern_kernels *kernels, float *panel, const void *b, tern_dtype dtype, size_t b_row,
                    size_t b_col, size_t k, size_t n);

/* "", "relu", "leaky_relu", "gelu" (erf), "gelu_tanh", "gelu_sigmoid", "silu", "sigmoid" to a number; `known` is the list of
 * those that this function takes, NULL at its end. */
tern_status tern_activation_parse(tern_ctx *ctx, const char *op, const char *name, const char *const *known,
                                  enum tern_act *act);

/* "gelu" in the form that a config asks for (unset: erf); any other name as it is. */
const char *tern_gelu_named(const char *name, tern_gelu_form form);

#endif
