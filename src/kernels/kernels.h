/* kernels.h: contracts of all kernels, and the table that holds one of each.
 *
 * A kernel works on raw pointers, allocates nothing and cannot fail.  Its definition stands in ref/ (the formula, sums in
 * f64 unless the contract says otherwise); its fast text is a *.tmpl.c built once per ISA level (TERN_K(f) is tern_f_<isa>).
 * All f32 kernels give the same bits at every ISA level: every output element is one chain of fused multiply-adds in
 * order, sums across a row use 32 virtual lanes (lane = index mod 32) and one fixed tree, exp, tanh and the normal
 * distribution's tail are our own polynomials with the same operations everywhere, division and square root are the
 * exact ones.  A NaN is a NaN: its sign and payload are not part of the answer.  Rounding is to nearest even and denormals
 * are on (entry points see to it).
 *
 * Pointers need the alignment of their element only, unless a contract says more.  "y == x allowed" means exactly equal;
 * any other overlap is not.  No kernel touches memory outside of what its contract names (mapped weights may end at a
 * page boundary).  A size of 0 does nothing unless the contract says otherwise.
 *
 * Packed panels.  A matrix W[K][N] becomes ceil(N/32) panels, each [K][32] f32, columns beyond N zero:
 *
 *     panel p, step k:  W[k][32p] W[k][32p+1] ... W[k][32p+31]        128 bytes, two cache lines
 *
 *
 * Narrower types pack what one instruction of theirs eats, so that a step stays 32 columns of one 32-bit word:
 *
 *     f16    [K][32]            64 bytes a step
 *     bf16   [ceil(K/2)][32][2]    128 bytes: elements 2k and 2k+1 of each column side by side; an odd K ends with zeros
 *     s8     [ceil(K/4)][32][4]    128 bytes: elements 4k .. 4k+3; zeros beyond K
 *     s4     [ceil(K/8)][32][8]    128 bytes: elements 8k .. 8k+7, two to a byte, the first in the lower half; zeros beyond K
 *
 * One width for every dtype and ISA (../../bench/LOG.md and docs/design.md have the figures), so that a packed file can
 * be mapped anywhere.  Panels start at multiples of 64 bytes. */
#ifndef TERN_KERNELS_H
#define TERN_KERNELS_H

#include "base/machine.h"

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#define TERN_PANEL       32  /* columns of a packed panel */
#define TERN_TILE_ROWS   14  /* the most rows that one call of gemm_f32 takes */
#define TERN_KV_BLOCK    64  /* positions of a KV storage block */
#define TERN_ATTN_WIDEST 512 /* the widest head of attention */
#define TERN_ATTN_ROWS   64  /* the most query rows that one call of attention_f32 takes */

/* Keys between two rescalings of the running maximum, cut at absolute positions.  Never tuned: part of the answer. */
#define TERN_ATTN_BLOCK 512

/* Where what comes next is sent for: a hint, chosen by the processor (table.c) and the rows (tern_prefetch_of()). */
enum tern_prefetch {
    TERN_PREFETCH_L1, /* to the first-level cache */
    TERN_PREFETCH_L2, /* to the second-level cache and no nearer */
    TERN_PREFETCH_FEW, /* L2, but few rows: nothing where a line takes so few operations that the processor itself keeps ahead */
};

/* Weights that come after a call's: all of the next block for a single row tile (where it follows the panel directly, the two are taken as
 * one stream and prefetched a fixed distance ahead), and with more of them this tile's share.  A hint: any address is fine, it is never read. */
struct tern_gemm_next {
    const void *at;
    size_t bytes;
    enum tern_prefetch
        prefetch; /* L2: tiles of TERN_FAR_ROWS and more; where one takes several passes, so anyway.  FEW: L1 below these */
};

/* C[m][32] (+)= A[m][k] * panel[k][32]
 *
 * c: f32, rows `ldc` elements apart, 32 columns each, all written.  accumulate: the chain goes on from the values in c,
 * else it starts at +0.  So splitting k over several calls gives the same bits as one call, and so does any split of rows.
 * a: f32, rows `lda` elements apart.   panel: [k][32], 64-byte aligned.   1 <= m <= TERN_TILE_ROWS, k >= 0.
 * next: NULL, or what of the weights that come after this call's is prefetched, evenly over the k steps and at most 128 bytes a step.
 * c, a and panel do not overlap.   Accuracy: each element is c0, then fma(a[i][0], w[0][j], c0), ... in order of k. */
typedef void tern_gemm_f32_fn(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t k, size_t m,
                              bool accumulate, const struct tern_gemm_next *next);

/* The same product from panels of narrower types, each weight widened to f32 exactly: the bits of gemm_f32 on the widened panel.
 * panel: [k][32] f16 bits, or ceil(k/2) steps of bf16 bits, or ceil(k/4) of s8 (their scale is the epilogue's), as above.
 * k counts elements.  A call that does not end the chain needs k to be a multiple of 2 or 4 where the panel's steps have as
 * many.  a is read up to k only.   next: 64 bytes a step at most for f16, 128 for the others. */
typedef void tern_gemm_f32_f16_fn(float *c, size_t ldc, const float *a, size_t lda, const uint16_t *panel, size_t k,
                                  size_t m, bool accumulate, const struct tern_gemm_next *next);
typedef void tern_gemm_f32_bf16_fn(float *c, size_t ldc, const float *a, size_t lda, const uint16_t *panel, size_t k,
                                   size_t m, bool accumulate, const struct tern_gemm_next *next);
typedef void tern_gemm_f32_q8_fn(float *c, size_t ldc, const float *a, size_t lda, const int8_t *panel, size_t k,
                                 size_t m, bool accumulate, const struct tern_gemm_next *next);

/* C[m][32] (+)= A * panel for bf16 bits in both, sums in f32.  A panel of bf16 pairs as above.
 * a: rows of ceil(k/2) pairs, lda elements apart; 4-byte aligned, lda even; with an odd k the last element is 0 (as is the panel's).
 * k counts elements, and is even for calls that do not end the chain.   The rest as gemm_f32.
 * Accuracy: up to avx512, the chain of gemm_f32 on the widened values, to the bit (the padding adds +0 and is part of the chain).
 * At avx512bf16 vdpbf16ps adds the two products of a pair, each with a rounding of its own (to nearest even, denormals taken and
 * given as zero): as independent of the cut over rows and k, of threads and of batch, but other bits.  They are
 * within 2.5e-7 of |c0| + sum |a w| for k <= 1030; more terms are more roundings. */
typedef void tern_gemm_bf16_fn(float *c, size_t ldc, const uint16_t *a, size_t lda, const uint16_t *panel, size_t k,
                               size_t m, bool accumulate, const struct tern_gemm_next *next);

/* C[m][32] = (accumulate ? C : start) + A * panel in integers, exact.
 *
 * a: u8 rows of ceil(k/4) words, lda elements apart; 4-byte aligned, lda a multiple of 4.  A byte u stands for the value u - 128;
 * start takes the 128 back, and holds what pack_q8 made for the whole panel: -128 * sum of each column.  What a holds beyond k
 * meets zeros in the panel.   panel: ceil(k/4) steps of s8 as above.   k counts elements, and is a multiple of 4 for calls that do
 * not end the sum.   c: s32.   start: [32], not read when accumulating.   The rest as gemm_f32.
 * Exact as long as the result fits 32 bits, which K <= 131072 ensures (sums wrap, so those on the way need not fit). */
typedef void tern_gemm_q8_fn(int32_t *c, size_t ldc, const uint8_t *a, size_t lda, const int8_t *panel,
                             const int32_t *start, size_t k, size_t m, bool accumulate,
                             const struct tern_gemm_next *next);

/* A row as u8 with one scale: q[i] = 128 + rint(x[i] * (127 / max)), *scale = max / 127, where max = max |x[i]|; halves to even,
 * every step rounded to f32.  q[i] is in 1..255 and 128 from n to the next multiple of 4 (these bytes are written).
 * Rows with max < 2^-100 (zeros among them) are 128 with a scale of 1.  A NaN or infinity anywhere: 128 with a NaN as scale, so
 * that the whole row of the product is NaN. */
typedef void tern_quantize_row_q8_fn(uint8_t *q, float *scale, const float *x, size_t n);

/* bf16 pairs from one f32 panel [k][32], rounded to nearest even: panel [ceil(k/2)][32][2]. */
typedef void tern_pair_bf16_fn(uint16_t *panel, const float *from, size_t k);

/* One s8 panel of a matrix in any order (pack_f32): panel[i/4][j][i%4] = w[i*ldk + j*ldn], 0 beyond k and n; n <= 32.
 * start: [32], -128 * sum over i of column j, modulo 2^32: 131072 codes of -128 make 2^31. */
typedef void tern_pack_q8_fn(int8_t *panel, int32_t *start, const int8_t *w, size_t ldk, size_t ldn, size_t k,
                             size_t n);

/* k steps of an f32 panel from codes with a scale for each column, every operation rounded:
 *   minimum NULL:  panel[i][j] = scale[i*ld + j] * q                               q: the code, -128..127 or -8..7
 *   else:          panel[i][j] = (q + h) / scale[i*ld + j] + minimum[i*ld + j]     h: 128 or 8
 * words: the step of a panel of s8 or s4 that has element 0; `first` < 4 or 8 is the one to begin with.   panel: 64-byte aligned.
 * scale, minimum: rows of 32, ld apart; ld 0: one for all steps.   k >= 0.   No step is read of which no element is wanted. */
typedef void tern_dequant_q8_fn(float *panel, const uint8_t *words, size_t first, size_t k, const float *scale,
                                const float *minimum, size_t ld);
typedef void tern_dequant_q4_fn(float *panel, const uint8_t *words, size_t first, size_t k, const float *scale,
                                const float *minimum, size_t ld);

/* One panel [k][32] of a matrix from its rows or columns: panel[i][j] = w[i*ldk + j*ldn] for j < n, 0 for n <= j < 32.
 * w: f32, f16 or bf16 bits, any strides (elements).   n <= 32.   f16 and bf16 widen exactly (NaNs stay NaNs). */
typedef void tern_pack_f32_fn(float *panel, const float *w, size_t ldk, size_t ldn, size_t k, size_t n);
typedef void tern_pack_f16_fn(float *panel, const uint16_t *w, size_t ldk, size_t ldn, size_t k, size_t n);
typedef void tern_pack_bf16_fn(float *panel, const uint16_t *w, size_t ldk, size_t ldn, size_t k, size_t n);

/* y[i] = x[i], widened or narrowed (round to nearest even, overflow to infinity, NaN stays NaN).  No overlap. */
typedef void tern_f32_from_f16_fn(float *y, const uint16_t *x, size_t n);
typedef void tern_f32_from_bf16_fn(float *y, const uint16_t *x, size_t n);
typedef void tern_f16_from_f32_fn(uint16_t *y, const float *x, size_t n);
typedef void tern_bf16_from_f32_fn(uint16_t *y, const float *x, size_t n);

/* How a kernel that is called for one row after the other meets memory; NULL or all zero: it needs to do nothing about it.  The answer
 * is the same in any case.
 * ahead: what a later row will be read from, `ahead_bytes` from each address that is not NULL (the first one, or both), prefetched
 * evenly meanwhile.  A hint as gemm_f32's `next` is.   stream: whole cache lines of the row's output y (of a sum besides it not) are
 * written past the caches, because it is larger than what they hold.  An output that is an input is not to be streamed.
 * work: [n], what kernels of several passes keep meanwhile: read where they stream, and in any case by those on halves; not y.
 * rest: NULL, or what softmax_f32 leaves of a row where it streams: its last pass waits for memory alone, and goes beside the next row's
 * exponentials.
 *
 * Kernels of rows come in three: name_f32, and name_f16 and name_bf16 on rows in these bits, whose vectors (biases, gamma, masks) are f32
 * too.  The latter give the bits of the first on the widened rows, rounded to nearest even where a row is stored. */
struct tern_row_flow {
    const void *ahead[2];
    size_t ahead_bytes;
    bool stream;
    float *work;
    struct tern_row_rest *rest;
};

/* Begins as { .more = true }; `more` is the caller's: another call with this rest and this work follows, for a row of as many elements
 * at most, and until then the row may not be whole.  All else is the kernel's, a row that is not whole being y[first .. last). */
struct tern_row_rest {
    bool more;
    float *y; /* NULL: nothing is left */
    const float *mask;
    size_t first, last;
    float inverse; /* of the sum of the exponentials in work */
};

/* What this thread has streamed is seen by the others once it has called this, before a barrier. */
static inline void tern_stream_end(void)
{
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

/* Activations, by number in struct tern_epilogue and for act_f32.
 *   GELU_TANH     0.5 x (1 + tanh(0.7978845608028654 (x + 0.044715 x^3)))
 *   GELU_ERF      0.5 x (1 + erf(x / sqrt 2))
 *   GELU_SIGMOID  x / (1 + exp(-1.702 x))
 *   SILU          x / (1 + exp(-x))      SIGMOID  1 / (1 + exp(-x))
 *   LEAKY_RELU    x >= 0 ? x : 0.01 x    RELU     max(x, 0), NaN stays NaN */
enum tern_act {
    TERN_ACT_NONE,
    TERN_ACT_RELU,
    TERN_ACT_LEAKY_RELU,
    TERN_ACT_GELU_TANH,
    TERN_ACT_GELU_ERF,
    TERN_ACT_GELU_SIGMOID,
    TERN_ACT_SILU,
    TERN_ACT_SIGMOID,
    TERN_ACT_TANH
};

/* y[i] = act(x[i] + bias[i]);  bias NULL: act(x[i]).   y == x allowed. */
typedef void tern_act_f32_fn(float *y, const float *x, const float *bias, size_t n, enum tern_act act,
                             const struct tern_row_flow *flow);
typedef void tern_act_f16_fn(uint16_t *y, const uint16_t *x, const float *bias, size_t n, enum tern_act act,
                             const struct tern_row_flow *flow);
typedef void tern_act_bf16_fn(uint16_t *y, const uint16_t *x, const float *bias, size_t n, enum tern_act act,
                              const struct tern_row_flow *flow);

/* y[i] = (up[i] + up_bias[i]) * act(gate[i] + gate_bias[i]);  no biases: both NULL.   y == up, y == gate allowed without pairs.
 * pairs: up and gate stand in one row gate[0] up[0] gate[1] ..: up is gate + 1, i counts pairs, so also of biases.
 * flow->ahead[0]: up and gate as one, 2n elements. */
typedef void tern_gate_f32_fn(float *y, const float *up, const float *gate, const float *up_bias,
                              const float *gate_bias, bool pairs, size_t n, enum tern_act act,
                              const struct tern_row_flow *flow);
typedef void tern_gate_f16_fn(uint16_t *y, const uint16_t *up, const uint16_t *gate, const float *up_bias,
                              const float *gate_bias, bool pairs, size_t n, enum tern_act act,
                              const struct tern_row_flow *flow);
typedef void tern_gate_bf16_fn(uint16_t *y, const uint16_t *up, const uint16_t *gate, const float *up_bias,
                               const float *gate_bias, bool pairs, size_t n, enum tern_act act,
                               const struct tern_row_flow *flow);

/* What happens to a finished tile of a product on its way to memory, in this order, all in f32:
 *   t *= scale[j];  t += bias[j];  t = act(t);  t += residual[i][j] (and residual2, in this order);  C[i][j] = t
 * each where given.   gate: t *= act(g) in place of act(t), g being of another whole tile (its rows 32 apart, whatever row and col are)
 * after the scale and bias of its own columns, which stand gate_columns further on; n is 32 then.
 * half: stored instead of C, of which nothing is read or written (but what is a residual): t as bf16, or as f16 if half_is_f16,
 * rounded as by bf16_from_f32 and f16_from_f32. */
struct tern_epilogue {
    const float *scale; /* [N] or NULL */
    const float *bias;  /* [N] or NULL */
    enum tern_act act;
    const void *gate; /* [m][32], of the tile's type, or NULL */
    size_t gate_columns;
    const float *residual; /* [M][ld_residual] or NULL; == C allowed */
    size_t ld_residual;
    const float *residual2; /* the same, added after it */
    size_t ld_residual2;
    uint16_t *half; /* [M][ld_half] or NULL */
    size_t ld_half;
    bool half_is_f16;
};

/* Stores a tile [m][32] (rows 32 apart) to C[row .. row+m)[col .. col+n), n <= 32, through the epilogue.
 * c: the whole matrix, rows ldc apart (NULL where half is given); row and col place the tile in it and in the epilogue's vectors. */
typedef void tern_epilogue_f32_fn(float *c, size_t ldc, const float *tile, const struct tern_epilogue *e, size_t row,
                                  size_t col, size_t m, size_t n);

/* The same from the integers of gemm_q8:  t = (float)tile[i][j] * (row_scale[i] * scale[j]),  three roundings to f32 in this
 * order (scale NULL: (float)tile[i][j] * row_scale[i]), then as above from the bias on.
 * row_scale: [m], one for each row of the tile. */
typedef void tern_epilogue_s32_fn(float *c, size_t ldc, const int32_t *tile, const float *row_scale,
                                  const struct tern_epilogue *e, size_t row, size_t col, size_t m, size_t n);

/* All rows of a product with a block of one panel, or of two, neighbours or `apart` panels from each other:
 *
 *   sums[p][i][j] (+)= A[i][k] * panel_p[k][j]       as gemm_f32, gemm_bf16 or gemm_q8 has it for each tile of rows, to the bit
 *   c given:  C[i][32 p + j] = sums[p][i][j] * scale[32 p + j] + bias[32 p + j],  with the roundings of epilogue_f32 or epilogue_s32
 *
 * so that all of K is one call, or several with sums kept between them.  The whole of a tile's rows, all steps and the results of many
 * tiles are one call of the level's best loop.  So are `count` such blocks, where nothing is kept between calls (begin, and c or
 * finish given): block b has panels [b * panels, (b + 1) * panels), all `second` bytes apart, and their columns of start, scale, bias
 * and c.  Two that are no neighbours (a gate and what it is multiplied with): block b has panels b and b + apart; c is not given.
 *
 * What more may follow a sum is the caller's: finish(user, b, row, rows, sums) takes rows [row, row + rows) of block b as soon as they
 * are whole, while their sums are in the first-level cache; sums as below, from the first of these rows on.  Of a tile all rows, and of
 * tiles at most as many as TERN_FINISH_ROWS take.  Rows that it reads are sent for while their tile is multiplied. */
#define TERN_FINISH_ROWS 24
struct tern_gemm_block {
    const void *a; /* rows in the type of the kernel, lda elements apart, from this block's first k on */
    size_t lda;
    const void *panel; /* this block of the first panel; 64-byte aligned */
    size_t second;     /* bytes to the same block of the next panel */
    size_t panels;     /* 1 or 2 */
    size_t apart;      /* panels from the first to the second, >= 1; read if there are two */
    size_t count;      /* blocks, >= 1 */
    bool cold;         /* nothing was sent for before: a hint only */
    size_t k, m;       /* m >= 1 */
    size_t
        tiles;  /* even tiles of the rows: at least ceil(m / TERN_TILE_ROWS), for two panels ceil(m / TERN_PAIR_ROWS) */
    bool begin; /* sums begin at +0, or `start`; else as they are in sums */
    const int32_t *start; /* [panels * 32] up to the last block's last one, gemm_q8's */
    void *
        sums; /* f32 or s32 [m][32] for each panel of a block, 64-byte aligned; [a tile's rows][32] where begin and c are given,
                 * [TERN_FINISH_ROWS][32] where begin and finish: what is passed on need not be kept there */
    size_t sums_second; /* elements to the second panel's, at least as many */
    const void *
        next; /* NULL, or the weights that come after all: next_bytes of each panel are prefetched with the last block, evenly */
    size_t next_bytes, next_second; /* bytes to the second panel's; 0: there is only one */
    enum tern_prefetch
        prefetch; /* of tiles of one panel; L2 as in struct tern_gemm_next, FEW: nothing below TERN_FAR_ROWS rows */
    float *c;     /* rows ldc apart, the columns of these panels, all of them there; NULL: sums are kept, or finished */
    size_t ldc;
    void (*finish)(void *user, size_t block, size_t row, size_t rows, const void *sums); /* NULL where c is given */
    void *user;
    const float *
        read; /* rows that finish reads, the columns of these panels, ld_read apart; NULL: none.  A hint for two neighbours */
    size_t ld_read;
    const float *scale, *bias; /* [panels * 32] up to the last block's last one, or NULL, and */
    const float *row_scale;    /* [m] of q8: read where c is given */
};
#define TERN_PAIR_ROWS 6
typedef void tern_gemm_block_f32_fn(const struct tern_gemm_block *block);
typedef void tern_gemm_block_bf16_fn(const struct tern_gemm_block *block);
typedef void tern_gemm_block_q8_fn(const struct tern_gemm_block *block);

/* y = (x - mean) / sqrt(var + eps) * gamma + beta over n values; mean and var = mean((x - mean)^2) in two passes.
 * beta: NULL is 0.   y == x allowed.   n >= 1, eps >= 0.
 * Accuracy: the bound is in ulp of (|x| + mean |x|) / sqrt(var + eps) * |gamma| + |beta|, as x - mean can cancel. */
typedef void tern_layer_norm_f32_fn(float *y, const float *x, const float *gamma, const float *beta, size_t n,
                                    float eps, const struct tern_row_flow *flow);
typedef void tern_layer_norm_f16_fn(uint16_t *y, const uint16_t *x, const float *gamma, const float *beta, size_t n,
                                    float eps, const struct tern_row_flow *flow);
typedef void tern_layer_norm_bf16_fn(uint16_t *y, const uint16_t *x, const float *gamma, const float *beta, size_t n,
                                     float eps, const struct tern_row_flow *flow);

/* z = (x + bias) + residual; y = layer_norm(z).  bias, residual, sum: NULL is left out; sum gets z.
 * y and sum may be x or residual, but differ. */
typedef void tern_layer_norm_residual_f32_fn(float *y, float *sum, const float *x, const float *bias,
                                             const float *residual, const float *gamma, const float *beta, size_t n,
                                             float eps, const struct tern_row_flow *flow);
typedef void tern_layer_norm_residual_f16_fn(uint16_t *y, uint16_t *sum, const uint16_t *x, const float *bias,
                                             const uint16_t *residual, const float *gamma, const float *beta, size_t n,
                                             float eps, const struct tern_row_flow *flow);
typedef void tern_layer_norm_residual_bf16_fn(uint16_t *y, uint16_t *sum, const uint16_t *x, const float *bias,
                                              const uint16_t *residual, const float *gamma, const float *beta, size_t n,
                                              float eps, const struct tern_row_flow *flow);

/* y[i] = x[i] / sqrt(mean(x^2) + eps) * gamma[i].  y == x allowed. */
typedef void tern_rms_norm_f32_fn(float *y, const float *x, const float *gamma, size_t n, float eps,
                                  const struct tern_row_flow *flow);
typedef void tern_rms_norm_f16_fn(uint16_t *y, const uint16_t *x, const float *gamma, size_t n, float eps,
                                  const struct tern_row_flow *flow);
typedef void tern_rms_norm_bf16_fn(uint16_t *y, const uint16_t *x, const float *gamma, size_t n, float eps,
                                   const struct tern_row_flow *flow);

/* z = (x + bias) + residual; y = rms_norm(z); the rest as layer_norm_residual. */
typedef void tern_rms_norm_residual_f32_fn(float *y, float *sum, const float *x, const float *bias,
                                           const float *residual, const float *gamma, size_t n, float eps,
                                           const struct tern_row_flow *flow);
typedef void tern_rms_norm_residual_f16_fn(uint16_t *y, uint16_t *sum, const uint16_t *x, const float *bias,
                                           const uint16_t *residual, const float *gamma, size_t n, float eps,
                                           const struct tern_row_flow *flow);
typedef void tern_rms_norm_residual_bf16_fn(uint16_t *y, uint16_t *sum, const uint16_t *x, const float *bias,
                                            const uint16_t *residual, const float *gamma, size_t n, float eps,
                                            const struct tern_row_flow *flow);

/* y = softmax(s) over the columns first <= j < last; 0 <= first, last <= n; the others get 0.
 *   s = x[j] * scale;  s = fma(slope, j, s) if slope != 0;  s += mask[j] if mask is given      (each step rounded to f32)
 *   y[j] = exp(s[j] - max s) / sum exp(s - max s)
 * mask: [n] or NULL, read where visible only; so is x.  A column with mask -inf is hidden whatever its x is: it takes no part in
 * max and sum, and gets 0.  No visible column, or all at -inf: the row is 0.
 * A NaN among the visible gives NaN in all visible columns.   y == x allowed.
 * Accuracy: the bound is against the f64 definition applied to the f32 scores s and the f32 differences s - max, for
 * n <= 4096; where one lane holds nearly all of the sum the error grows as n / 32 roundings of it. */
typedef void tern_softmax_f32_fn(float *y, const float *x, const float *mask, size_t n, size_t first, size_t last,
                                 float scale, float slope, const struct tern_row_flow *flow);
typedef void tern_softmax_f16_fn(uint16_t *y, const uint16_t *x, const float *mask, size_t n, size_t first, size_t last,
                                 float scale, float slope, const struct tern_row_flow *flow);
typedef void tern_softmax_bf16_fn(uint16_t *y, const uint16_t *x, const float *mask, size_t n, size_t first,
                                  size_t last, float scale, float slope, const struct tern_row_flow *flow);

/* out[i] = x[i] * of_x[i] + y[i] * of_y[i], each operation rounded; without `each` of_x[0] and of_y[0] are for all i.
 * out == x, out == y allowed. */
typedef void tern_mix_f32_fn(float *out, const float *x, const float *y, const float *of_x, const float *of_y,
                             bool each, size_t n, const struct tern_row_flow *flow);
typedef void tern_mix_f16_fn(uint16_t *out, const uint16_t *x, const uint16_t *y, const float *of_x, const float *of_y,
                             bool each, size_t n, const struct tern_row_flow *flow);
typedef void tern_mix_bf16_fn(uint16_t *out, const uint16_t *x, const uint16_t *y, const float *of_x, const float *of_y,
                              bool each, size_t n, const struct tern_row_flow *flow);

/* out[i] = x[i] * scale + y[i] (one fma); the building block of residual adds.  out == x, out == y allowed. */
typedef void tern_axpy_f32_fn(float *out, const float *x, const float *y, float scale, size_t n,
                              const struct tern_row_flow *flow);
typedef void tern_axpy_f16_fn(uint16_t *out, const uint16_t *x, const uint16_t *y, float scale, size_t n,
                              const struct tern_row_flow *flow);
typedef void tern_axpy_bf16_fn(uint16_t *out, const uint16_t *x, const uint16_t *y, float scale, size_t n,
                               const struct tern_row_flow *flow);

/* Residual add of one row, as tern_residual_add() in op.h has it; every step in f32, in this order, what is NULL is left out:
 *
 *   t = residual;  t += final_bias;  inside: t += attention, t += attention_bias;  t *= inv_mp
 *   u = x;  outside: u += attention
 *   u += t;  outside: u += attention_bias_divided ? attention_bias * inv_mp : attention_bias;  out = u
 *
 * out may equal any of the inputs. */
struct tern_residual_terms {
    const void *attention;       /* or NULL; a row as x is */
    const float *attention_bias; /* or NULL */
    const float *final_bias;     /* or NULL */
    float inv_mp;                /* 1 / mp, or 1 */
    bool attention_inside;       /* attention and attention_bias are divided by mp with the residual, else "outside" */
    bool attention_bias_divided; /* outside only: attention_bias * inv_mp is added, else attention_bias */
};
typedef void tern_residual_add_f32_fn(float *out, const float *x, const float *residual,
                                      const struct tern_residual_terms *terms, size_t n,
                                      const struct tern_row_flow *flow);
typedef void tern_residual_add_f16_fn(uint16_t *out, const uint16_t *x, const uint16_t *residual,
                                      const struct tern_residual_terms *terms, size_t n,
                                      const struct tern_row_flow *flow);
typedef void tern_residual_add_bf16_fn(uint16_t *out, const uint16_t *x, const uint16_t *residual,
                                       const struct tern_residual_terms *terms, size_t n,
                                       const struct tern_row_flow *flow);

/* cosine[p], sine[p] = cos, sin of position * frequency[p], in f64 and rounded to f32 once.
 * The product is rounded, a; q = fma(a, 2 / pi, 1.5 2^52) - 1.5 2^52 is the quadrant, r = fma(q, -low, fma(q, -high, a)) with pi / 2 =
 * high + low, and then Taylor's series by fused steps from its end: x + x^3 (..) up to x^15, 1 + x^2 (..) up to x^16.
 * Good to 3e-16 of a besides that rounding, for 0 <= a < 2^45.   No overlap. */
typedef void tern_rotary_angles_fn(float *cosine, float *sine, const double *frequency, size_t n, double position);

/* Rotates heads that stand `stride` elements apart: pairs (p, p + rot/2), or (2p, 2p + 1) when `neighbours`:
 *   (a, b) <- (a cos - b sin, b cos + a sin)      as  fma(a, cos, -(b * sin)), fma(b, cos, a * sin)
 * cos, sin: f32[rot/2]; of each head in x and y [0, rot) is touched, rot even.   y == x allowed.
 * flow: of the row of all heads; streamed where every half of a head is whole lines. */
typedef void tern_rotary_f32_fn(float *y, const float *x, const float *cos, const float *sin, size_t rot,
                                bool neighbours, size_t heads, size_t stride, const struct tern_row_flow *flow);
typedef void tern_rotary_f16_fn(uint16_t *y, const uint16_t *x, const float *cos, const float *sin, size_t rot,
                                bool neighbours, size_t heads, size_t stride, const struct tern_row_flow *flow);
typedef void tern_rotary_bf16_fn(uint16_t *y, const uint16_t *x, const float *cos, const float *sin, size_t rot,
                                 bool neighbours, size_t heads, size_t stride, const struct tern_row_flow *flow);

/* Writes n new positions of one KV head into its storage blocks' layout.
 * K block: two panels [2][k_width][32], k_width >= E: element (position p, channel c) at [(p / 32)][c][p % 32].
 * V block: ceil(E'/32) panels [64][32]: element (p, c) at [c / 32][p][c % 32]; channels beyond E' are 0 (written when p is).
 * k, v: [n] rows, `stride` apart, of E = head_dim and E' = v_dim values.  p: first position inside the block, p + n <= 64. */
typedef void tern_kv_store_f32_fn(float *k_block, float *v_block, const float *k, const float *v, size_t stride,
                                  size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n);

/* The same in two bytes a number, rounded to nearest even.
 * f16: in the same places.
 * bf16: pairs, as in panels of bf16.  K block [2][ceil(k_width/2)][32][2]: element (p, c) at [p / 32][c / 2][p % 32][c % 2], an odd E
 * ends with a 0 (written when p is).  V block: ceil(E'/32) panels [32][32][2]: element (p, c) at [c / 32][p / 2][c % 32][p % 2]. */
typedef void tern_kv_store_f16_fn(uint16_t *k_block, uint16_t *v_block, const float *k, const float *v, size_t stride,
                                  size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n);
typedef void tern_kv_store_bf16_fn(uint16_t *k_block, uint16_t *v_block, const float *k, const float *v, size_t stride,
                                   size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n);

/* The same of rows that have f16 or bf16 numbers already: they are moved. */
typedef void tern_kv_move_f16_fn(uint16_t *k_block, uint16_t *v_block, const uint16_t *k, const uint16_t *v,
                                 size_t stride, size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n);
typedef void tern_kv_move_bf16_fn(uint16_t *k_block, uint16_t *v_block, const uint16_t *k, const uint16_t *v,
                                  size_t stride, size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n);

/* Attention of up to 64 query rows that share one KV head, over that head's blocks of 64 positions.
 *
 *   s[r][j] = scale * dot(q[r], K[j]) + slope[r] * j + mask[r][j]   for first[r] <= j < last[r], absolute positions
 *   s[r][j] = softcap * tanh(s / softcap) directly after the scale, if softcap > 0
 *   out[r]  = sum_j exp(s[r][j] - max) V[j] / sum_j exp(s[r][j] - max)
 *
 * A position with mask -inf is hidden: it takes no part in any sum, so that what K and V hold there does not matter.
 * round_bf16: the exponentials that V is multiplied by, of differences to the running maximum, are rounded to bf16 (nearest even);
 * the sum below the line is of the unrounded ones.
 * The running maximum, sum and output are rescaled at multiples of TERN_ATTN_BLOCK positions only, and only positions
 * that a row sees take part in its sums: so the bits of a row do not depend on the rows beside it, on how the sequence was
 * cut into chunks, or on what stale storage holds.  A row that sees nothing, or only -inf, gives zeros.
 * Accuracy: the bound is relative to max |V| times 1 + the largest sum |scale * q * K| + |slope * j| + |mask| of the row: what
 * an error in a score moves the output by; with round_bf16, 2^-8 of max |V| more, where a weight lies beside a tie of its rounding.
 * out == q allowed row by row where E' <= E (a row's q is read before any out is written).
 * A row's positions may be cut into several calls at multiples of TERN_ATTN_BLOCK, in order, the same rows in each: all but the first
 * resume, all but the last have more to come.
 *
 * attention_f32: blocks of kv_store_f32.
 * attention_f32_f16: blocks of kv_store_f16; each number is widened: the bits of attention_f32 on what they hold.
 * attention_f32_bf16, attention_bf16: blocks of kv_store_bf16; q is rounded to bf16, and exponentials are as with round_bf16, whatever that says.
 * The bits of attention_f32 with round_bf16 on such q and what the blocks hold; attention_f32_bf16 at every level, attention_bf16 but for
 * one: at avx512bf16 both products are those of gemm_bf16 there, in
 * pairs of channels and of positions 2i, 2i + 1, of which one that a row does not see counts as 0. */
struct tern_attention_rows {
    const void *q; /* [n_rows][E], rows q_stride apart; f32, or with `half` in the blocks' type */
    void *out;     /* [n_rows][E'], rows out_stride apart; as q, rounded once */
    size_t q_stride, out_stride;
    size_t n_rows;          /* 1..TERN_ATTN_ROWS */
    size_t head_dim, v_dim; /* E and E', 1..512 */
    size_t k_width;         /* of the K blocks, at least E */
    int64_t origin;         /* a multiple of 64: what k_blocks and v_blocks begin with */
    const void *const
        *k_blocks; /* k_blocks[b]: K block of positions [origin + 64b, origin + 64b + 64), layout of kv_store */
    const void *const *v_blocks;
    const int64_t *first, *last; /* [n_rows]: row r sees [first[r], last[r]); 0 <= first[r] */
    const float *slope;          /* [n_rows] ALiBi slopes, or NULL */
    const float *const
        *mask; /* [n_rows] pointers to additive rows indexed by position (entries may be NULL), or NULL */
    float scale;
    float softcap; /* 0: none */
    bool round_bf16;
    bool half;                   /* q and out have two bytes a number; not for attention_f32 */
    enum tern_prefetch prefetch; /* for keys and values of few rows */
    bool resume, more;  /* the state is what a call before left; it goes on in another call, and out is not written */
    const void *next;   /* NULL, or the first K block of the next call; a hint */
    const void *next_q; /* NULL, or what q of the next call begins with, rows as far apart; a hint */
    float *scratch;     /* tern_attention_scratch(E) floats, 64-byte aligned */
    float *state;       /* tern_attention_state(E', n_rows) floats, 64-byte aligned */
};
typedef void tern_attention_f32_fn(const struct tern_attention_rows *a);
typedef void tern_attention_f32_f16_fn(const struct tern_attention_rows *a);
typedef void tern_attention_f32_bf16_fn(const struct tern_attention_rows *a);
typedef void tern_attention_bf16_fn(const struct tern_attention_rows *a);
size_t tern_attention_scratch(size_t head_dim);
size_t tern_attention_state(size_t v_dim, size_t n_rows);

struct tern_plans;

/* The table: one slot per kernel, the list of kernels being kernel_list.h. */
struct tern_kernels {
    enum tern_isa isa;
#define TERN_KERNEL(name, bound) tern_##name##_fn *name;
#include "kernels/kernel_list.h"
#undef TERN_KERNEL
    size_t
        k_block; /* most k steps of a panel that stay in L2 between row tiles; a longer K is cut in equal blocks: table.c */
    size_t pair_rows;               /* rows from which on two panels at a time are faster than one: table.c */
    enum tern_prefetch prefetch;    /* what this processor wants: table.c */
    size_t cache_bytes;             /* of the second-level cache: a thread's larger outputs are streamed */
    const struct tern_plans *plans; /* plans.h: what was measured; NULL: nothing */
};

/* Rows with which weights are sent for to the second-level cache, where the processor likes that.  Fewer wait for memory, and lines in the
 * first-level cache are read at once, or the hardware prefetcher does it alone; with more, what is sent for is so little at a time that it
 * gets there either way. */
#define TERN_FAR_ROWS  6
#define TERN_NEAR_ROWS 20
static inline enum tern_prefetch tern_prefetch_of(const struct tern_kernels *kernels, size_t m)
{
    if (m < TERN_FAR_ROWS)
        return kernels->prefetch == TERN_PREFETCH_FEW ? TERN_PREFETCH_FEW : TERN_PREFETCH_L1;
    return kernels->prefetch != TERN_PREFETCH_L1 && m < TERN_NEAR_ROWS ? TERN_PREFETCH_L2 : TERN_PREFETCH_L1;
}

/* Fills every slot for a level; asserts that none is empty. */
void tern_kernels_init(struct tern_kernels *k, enum tern_isa isa);

#endif
