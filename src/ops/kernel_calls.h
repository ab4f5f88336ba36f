/* kernel_calls.h: operators as they run inside a parallel region.
 *
 * Called by every thread of the team with its tern_par, on checked raw pointers: they cannot fail and allocate nothing.
 * Each one starts when its inputs are complete for all threads and ends with a barrier where the next call may read its
 * output (the comment of each says so).  All are f32; rows are dense unless a stride is given. */
#ifndef TERN_OPS_KERNEL_CALLS_H
#define TERN_OPS_KERNEL_CALLS_H

#include "base/threads.h"
#include "base/trace.h"
#include "kernels/kernels.h"
#include "kernels/plans.h"

#include <tern/op.h>

struct tern_rope;

/* How the numbers of a packed weight are stored; the panels of each are drawn in kernels.h. */
enum tern_weight_format {
    TERN_WEIGHT_F32,
    TERN_WEIGHT_F16,
    TERN_WEIGHT_BF16,
    TERN_WEIGHT_Q8,    /* s8 with one scale per output channel */
    TERN_WEIGHT_GROUPS /* s8 or s4 with scales, and minima, of groups of any shape: quantize_weight.h */
};

/* A packed weight: panels [ceil(N / 32)][steps] of a format. */
struct tern_weight {
    int64_t in, out; /* K, N */
    enum tern_weight_format format;
    float *panels;                     /* TERN_WEIGHT_F32: [n_panels][K][32]; NULL in the other formats */
    void *words;                       /* the panels in any format */
    float *scale;                      /* TERN_WEIGHT_Q8: [n_panels * 32], else NULL */
    int32_t *start;                    /* TERN_WEIGHT_Q8: [n_panels * 32], what gemm_q8 starts from, else NULL */
    struct tern_weight_groups *groups; /* TERN_WEIGHT_GROUPS, else NULL */
    size_t bytes;                      /* of all that words points to */
};

/* A panel of K elements, in any format but TERN_WEIGHT_GROUPS. */
struct tern_weight_layout {
    size_t per;        /* k elements of a step */
    size_t step_bytes; /* bytes of a step */
    size_t steps;      /* ceil(K / per) */
};
struct tern_weight_layout tern_weight_layout(enum tern_weight_format format, size_t in);

/* A weight of fp32, fp16, bf16 or int8 with its sizes and without its numbers, to plan memory by: nothing may be computed with it. */
tern_status tern_weight_hollow(tern_ctx *ctx, int64_t in, int64_t out, tern_dtype dtype, tern_weight **weight);

/* One output channel of a packed weight as f32: to[K].  What an embedding table that is also the output head is read by.
 * following: the channel that is read next, whose lines are sent for meanwhile, or the same again. */
void tern_weight_channel(const struct tern_kernels *kernels, const struct tern_weight *w, size_t channel,
                         size_t following, float *to);

/* c[M, ldc] = epilogue(a[M, lda] W), a 1 <= M product of any size, computed in f32 whatever the format: each weight is widened
 * exactly.  The scales of q8 are applied to finished sums; weights in groups become f32 numbers (the bits of
 * tern_weight_dequantize) block by block of a panel, and the product is that of these.  e->scale and e->gate are NULL for both.
 * Where e->half is given, c is NULL.
 * Split over threads by panels below 128 rows, by rows from there on, where no plan was measured.  Barrier at the end. */
void tern_gemm_run(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                   const struct tern_weight *w, const struct tern_epilogue *e);

/* The same with rows rounded to the weight's type, once, by all threads: to bf16 for bf16 weights (sums in f32), to u8 with a
 * scale per row for weights that have them (tern_weight_has_rows_q8; W8A8: exact integer sums).  Others: as tern_gemm_run.
 * Groups: one scale for the whole row; each part of K is summed in integers, t_p = (float)sum * (row scale * scale of part p and
 * column), and (t_0 + t_1) + .. in order goes through the epilogue, every operation rounded to f32.
 * q8 and the widened path of bf16 give the same bits at every level; avx512bf16 has its own for bf16 (gemm_bf16).
 * scratch: tern_gemm_scratch(w, m) bytes for the whole team, 64-byte aligned, in use until the call ends; may be NULL where that
 * is 0.  tern_gemm_scratch is SIZE_MAX where that many rows need more bytes than there can be: an allocation of it fails. */
void tern_gemm_run_narrow(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                          const struct tern_weight *w, const struct tern_epilogue *e, void *scratch);
size_t tern_gemm_scratch(const struct tern_weight *w, size_t m);

/* Rows as products read them: f32, or rounded to the type of a weight by whoever makes them, while they are in the cache. */
struct tern_rows {
    const float *f32; /* [M, ld], or NULL: narrow */
    void *narrow;     /* [M, ld] bf16 bits or u8, as tern_gemm_run_narrow has them */
    float *scale;     /* [M], where they are u8 */
    size_t ld;        /* elements */
};
static inline struct tern_rows tern_rows_f32(const float *a, size_t lda)
{
    return (struct tern_rows){ .f32 = a, .ld = lda };
}

/* Room for m rows rounded to the type of w, in the scratch that tern_gemm_run_narrow takes.  For a weight whose rows stay f32,
 * or scratch NULL, everything is NULL: tern_rows_f32 is what its products take. */
struct tern_rows tern_rows_narrow(const struct tern_weight *w, void *scratch, size_t m);
/* Rounds x[K] to be row `row`. */
void tern_rows_put(const struct tern_kernels *kernels, const struct tern_rows *rows, const struct tern_weight *w,
                   size_t row, const float *x);
/* Rounds all rows of a[m, lda], a share by each thread.  Barrier at the end. */
void tern_rows_round(const struct tern_par *par, const struct tern_rows *rows, const struct tern_weight *w,
                     const float *a, size_t lda, size_t m);
/* Both in one: rows of a, rounded in scratch where it is given and the weight has such rows, else as they are. */
struct tern_rows tern_rows_from(const struct tern_par *par, const struct tern_weight *w, void *scratch, const float *a,
                                size_t lda, size_t m);
/* Whether the epilogue of the product before can round them: bf16, stored as e->half and e->ld_half.  An odd K has one element more,
 * which stays 0: tern_rows_halves writes it, each thread a share, before that product. */
bool tern_rows_halves(const struct tern_par *par, const struct tern_rows *rows, const struct tern_weight *w, size_t m,
                      struct tern_epilogue *e);

/* Dense rows of a tensor as products with w read them where they lie (bf16, K even, words aligned); all NULL where they cannot. */
struct tern_rows tern_rows_of(const tern_tensor *input, const struct tern_weight *w);
/* Where a product stores a dense fp32, fp16 or bf16 tensor of rows: c, or NULL and e->half. */
float *tern_gemm_store(const tern_tensor *output, size_t columns, struct tern_epilogue *e);

/* The product of rows in either form, with the bits of the two above. */
void tern_gemm_run_rows(const struct tern_par *par, float *c, size_t ldc, const struct tern_rows *rows, size_t m,
                        const struct tern_weight *w, const struct tern_epilogue *e);

/* c[M][N / 2] = epilogue of the first half of the columns, multiplied by act(t + bias) of the second, the two of a panel being made
 * together: the products of neither are stored.  N is a multiple of 64 (tern_gemm_gates).  e: bias of N; act is none. */
void tern_gemm_run_gated(const struct tern_par *par, float *c, size_t ldc, const struct tern_rows *rows, size_t m,
                         const struct tern_weight *w, const struct tern_epilogue *e, enum tern_act act);
bool tern_gemm_gates(const struct tern_weight *w);

/* Fewest elements of K that share a scale where rows are u8: parts begin with a step of four. */
#define TERN_ROWS_Q8_PART 4
/* Most of them: the longest sum of codes that fits 32 bits (gemm_q8). */
#define TERN_ROWS_Q8_LONGEST 131072

/* Whether products with rows of u8 exist for a weight: symmetric codes of 8 bits with scales that are constant for each
 * output channel over equal parts of K, of 4 to 131072 elements (or all of K).  An operator whose config asks for such rows
 * (activation_quant=row) answers TERN_ERR_UNSUPPORTED for any other weight: tern_gemm_run_narrow would compute it in f32. */
bool tern_weight_has_rows_q8(const struct tern_weight *w);

/* The plan that both take, m >= 1: what was measured for this product and as many threads, else zeros.  The same product by a
 * given plan, with the same bits; scratch NULL: rows stay f32.  The kind of a product; false: none that can be measured. */
struct tern_plan tern_gemm_plan(const struct tern_par *par, size_t m, const struct tern_weight *w, bool narrow);
void tern_gemm_run_plan(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                        const struct tern_weight *w, const struct tern_epilogue *e, void *scratch,
                        const struct tern_plan *plan);
bool tern_gemm_plan_kind(const struct tern_weight *w, bool narrow, enum tern_plan_kind *kind);

/* What a plan comes to, w in any format but TERN_WEIGHT_GROUPS: plans with the same are the same. */
struct tern_gemm_cut {
    size_t tiles;  /* of the rows that are walked together, at most */
    size_t blocks; /* of a panel */
    bool pairs;    /* of panels, where the product has kernels for them */
    bool by_rows;  /* threads share rows, not panels; false for one thread */
};
struct tern_gemm_cut tern_gemm_cut(const struct tern_kernels *kernels, int n_threads, size_t m,
                                   const struct tern_weight *w, const struct tern_plan *plan);

/* The one or the other: rows stay f32 where narrow is NULL, else it is the scratch with which they are rounded. */
static inline void tern_gemm_run_either(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda,
                                        size_t m, const struct tern_weight *w, const struct tern_epilogue *e,
                                        void *narrow)
{
    if (narrow)
        tern_gemm_run_narrow(par, c, ldc, a, lda, m, w, e, narrow);
    else
        tern_gemm_run(par, c, ldc, a, lda, m, w, e);
}

/* What norm does before a product. */
struct tern_norm_args {
    tern_norm type;
    const float *gamma, *beta; /* beta NULL: none */
    float eps;
};
/* y[T][n] = norm(x + bias + residual); sum (or NULL) gets the sum; bias, residual NULL are left out.  Rows are split.  Barrier at the end. */
void tern_norm_run(const struct tern_par *par, float *y, float *sum, const float *x, const float *bias,
                   const float *residual, size_t n_rows, size_t n, const struct tern_norm_args *norm);

/* The same for rows that a product with w[n][N] reads next.  *rows is room for them (tern_rows_narrow): each is rounded while it is in
 * the cache; without room it becomes y.   keep: y[T][n] gets all normed rows, else what it holds afterwards means nothing where
 * rows were rounded. */
void tern_norm_run_rows(const struct tern_par *par, struct tern_rows *rows, const struct tern_weight *w, float *y,
                        bool keep, float *sum, const float *x, const float *bias, const float *residual, size_t n_rows,
                        const struct tern_norm_args *norm);
/* One row, by the calling thread alone; flow: what a kernel of rows takes (kernels.h). */
void tern_norm_row_ahead(const struct tern_kernels *kernels, float *y, float *sum, const float *x, const float *bias,
                         const float *residual, size_t n, const struct tern_norm_args *norm,
                         const struct tern_row_flow *flow);
void tern_norm_row(const struct tern_kernels *kernels, float *y, float *sum, const float *x, const float *bias,
                   const float *residual, size_t n, const struct tern_norm_args *norm);

/* Rows of a batch and where they stand in the cache. */
struct tern_kv_batch {
    tern_kv_cache *cache;
    const tern_kv_span *spans;
    size_t n_spans;
    size_t n_rows;
    const int64_t
        *planned; /* [n_spans] positions that the sequences will have, where a rope asks; NULL: those of the spans */
};

/* What softmax_context reads from a config, worked out once. */
struct tern_softmax_context_args {
    int32_t heads, kv_heads;
    int32_t head_dim, v_dim; /* E of q and k, E' of v and the output */
    bool interleaved;        /* q, k, v of each head side by side, kv_heads being heads; else all q, all k, all v */
    bool causal;
    int64_t window; /* 0: none */
    bool around;    /* the window reaches as far behind a query as before it */
    float scale, softcap;
    const float *alibi;       /* [heads] or NULL */
    const float *mask;        /* rows to add, by position, -inf hiding altogether; or NULL */
    ptrdiff_t mask_stride[4]; /* from row to row along spans, heads, the rows of a span, all rows; 0 repeats */
    int32_t rotary_dim;       /* 0: none */
    bool rotate_neighbours;
    float rope_theta;
    const struct tern_rope *rope; /* a model's, in place of the three above but rotary_dim, which is its dim; or NULL */
    struct tern_norm_args q_norm, k_norm; /* of each head before it turns; gamma NULL: none */
    size_t q_norm_step, k_norm_step;      /* from the gamma of a head to the next one's: 0 or E */
    const tern_tensor
        *position_ids; /* int32 or int64 [T]: what rotary turns each row by; NULL: the places in the cache */
    tern_dtype store;  /* k and v are rounded to it where they are stored */
    bool round_bf16;   /* q and the weights of v are rounded to bf16 before their products */
    bool half; /* rows are in the cache's dtype, fp16 (without rotary: a turned q is not rounded) or bf16; else fp32 */
};
/* Fills from a checked config: without mask, alibi and position_ids, v_dim = head_dim. */
struct tern_softmax_context_args tern_softmax_context_args_from(const tern_config *config);

/* Rotary on q and k of qkv [T, ld], store k and v, attend, context to out [T, ld_out] (NULL: store only).  Barrier at the end.
 * q, k and v in qkv are rounded where args say so.   scratch: tern_softmax_context_scratch() floats for the whole team. */
void tern_softmax_context_run(const struct tern_par *par, const struct tern_softmax_context_args *args, void *qkv,
                              size_t ld, const struct tern_kv_batch *batch, int32_t layer, void *out, size_t ld_out,
                              float *scratch);
size_t tern_softmax_context_scratch(int32_t head_dim, int32_t v_dim, int n_threads);

#endif
