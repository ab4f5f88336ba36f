/* quantize.h: weights as 8-bit and 4-bit codes with a scale for each group.
 *
 * Two forms of code:  symmetric, signed:   w = scale * q               -2^(b-1) <= q < 2^(b-1)
 *                     asymmetric:          w = q / scale + minimum      0 <= q < 2^b
 * Codes of 8 bits are one byte each.  Codes of 4 bits are two to a byte along the last axis, the first in the upper half,
 * signed ones in two's complement:  byte = q[2i] << 4 | (q[2i+1] & 15). */
#ifndef TERN_QUANTIZE_H
#define TERN_QUANTIZE_H

#include <tern/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Which elements share a scale. */
typedef enum tern_quant_grouping {
    /** Groups of group_size consecutive elements of the flattened tensor; scale[e / group_size].
     *  Where n_shards > 1 or axis is not the last one, the tensor is a matrix of n shards that were flattened as [out, in/n]
     *  each and merged along the input axis, `axis`.  With i along it, o along the other and in' = in / n:
     *    scale[((i mod in') + o in') / group_size * n + i / in']
     *  So axis 1 is a matrix [out, in], axis 0 the same numbers stored as [in, out]. */
    TERN_QUANT_FLAT = 0,
    /** Runs of group_size elements along `axis`; scales are the tensor's shape with that axis divided by group_size. */
    TERN_QUANT_AXIS = 1
} tern_quant_grouping;

/** What the codes mean, in full. */
typedef struct tern_quant_layout {
    int bits; /**< 8 or 4 */
    bool symmetric;
    tern_quant_grouping grouping;
    int axis;                   /**< see tern_quant_grouping */
    int64_t group_size;         /**< elements that share a scale */
    int64_t n_groups;           /**< number of scales: elements / group_size */
    int64_t n_shards;           /**< 1, or shards merged along `axis` (flat) */
    int rank;                   /**< of the tensor that the codes stand for, 1..TERN_MAX_RANK */
    int64_t dim[TERN_MAX_RANK]; /**< its shape, each >= 1; the last even with 4 bits */
} tern_quant_layout;

/** A quantised tensor: layout, codes, scales in fp32, and minima in fp32 where it is asymmetric.  Read-only. */
typedef struct tern_qtensor tern_qtensor;

/** Makes a quantised tensor of codes and scales that are there already.
 *
 * @param layout  copied.
 * @param codes   int8 (8 bits, symmetric), uint8 (8 bits, asymmetric) of the layout's shape; uint8 with half the last axis
 *                (4 bits).  Dense; copied, like the other two.
 * @param scales  fp32, any shape of n_groups elements; finite, and above 0 where the form divides by it.
 * @param minima  the same for the minima; NULL or tern_tensor_none() if symmetric.
 * @param out     the tensor; NULL on error.  Independent of ctx.
 * @return TERN_OK, TERN_ERR_ARG (NULL, bits, a scale or minimum that cannot be: by index), TERN_ERR_SHAPE, TERN_ERR_DTYPE,
 *         TERN_ERR_MEMORY. */
TERN_API tern_status tern_qtensor_create(tern_ctx *ctx, const tern_quant_layout *layout, const tern_tensor *codes,
                                         const tern_tensor *scales, const tern_tensor *minima, tern_qtensor **out);

/** Frees it and sets *q to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_qtensor_destroy(tern_qtensor **q);

/** Its layout; all zero for NULL. */
TERN_API tern_quant_layout tern_qtensor_layout(const tern_qtensor *q);
/** Its codes, in the form that the head of this file describes.  Borrowed; NULL for NULL. */
TERN_API const uint8_t *tern_qtensor_codes(const tern_qtensor *q);
/** Bytes of the codes alone; 0 for NULL. */
TERN_API size_t tern_qtensor_code_bytes(const tern_qtensor *q);
/** n_groups scales.  Borrowed; NULL for NULL. */
TERN_API const float *tern_qtensor_scales(const tern_qtensor *q);
/** n_groups minima.  Borrowed; NULL for NULL and where the form is symmetric. */
TERN_API const float *tern_qtensor_minima(const tern_qtensor *q);
/** Bytes that all of it occupies; 0 for NULL. */
TERN_API size_t tern_qtensor_bytes(const tern_qtensor *q);

/** How codes come about.  m is the largest |w| of a group, b the bits; round is to nearest even; x -> T is one rounding. */
typedef enum tern_quant_scheme {
    /** Symmetric, flat groups.  In fp32:  s = 1 / (2 m + 1e-5) * 2^b;  q = clamp(round(w s));  scale = 1 / s.
     *  A group of zeros gets the scale that this gives, 1e-5 / 2^b. */
    TERN_QUANT_CHECKPOINT = 1,
    /** Symmetric, flat groups, by default the slices w[i].  In fp32:  scale = m * 2 / 2^b;  q = clamp(round(w / scale)).
     *  Where that is 0 (a group of zeros) the scale is 1. */
    TERN_QUANT_INJECTION = 2,
    /** Asymmetric, runs along an axis.  Each operation rounded to the type T of w, which the values stored in fp32 keep:
     *  scale = (1 / (max - min) -> T) * (2^b - 1) -> T;  q = round(clamp((w - min -> T) * scale -> T)).
     *  A constant group gets scale 1 and is restored exactly; where the quotient overflows, the scale is T's largest. */
    TERN_QUANT_GROUPWISE = 3
} tern_quant_scheme;

/** "checkpoint", "injection", "groupwise"; NULL for a number that is no scheme.  Static storage. */
TERN_API const char *tern_quant_scheme_name(tern_quant_scheme scheme);
/** The scheme of a name.
 *  @return TERN_OK; TERN_ERR_UNSUPPORTED with the known names, TERN_ERR_ARG (NULL).  On error *out is unchanged. */
TERN_API tern_status tern_quant_scheme_find(tern_ctx *ctx, const char *name, tern_quant_scheme *out);

/** A scheme and its numbers.  Numbers that the scheme does not read must be 0. */
typedef struct tern_quant_options {
    tern_quant_scheme scheme;
    int bits;           /**< 8 or 4 */
    int64_t groups;     /**< checkpoint, injection: groups of each shard; injection: 0 is dim[0] */
    int64_t group_size; /**< groupwise: elements of a run; divides dim[group_dim] */
    int group_dim;      /**< groupwise: axis of the runs */
    bool
        mlp_extra_grouping; /**< checkpoint: twice the groups where mp_size * rows * n == 4 * cols, or the same with rows
                                    and cols exchanged (n shards of [rows, cols]) */
    int mp_size;            /**< checkpoint: ranks that the weight was cut over, for that test; >= 1 */
    int merge_axis;         /**< checkpoint: axis along which shards are put together, 0 or 1 */
    uint64_t reserved[4];   /**< zero */
} tern_quant_options;

/** 8 bits, and: checkpoint: 1 group, mlp_extra_grouping, mp_size 1, merge_axis 0;  injection: dim[0] groups;
 *  groupwise: runs of 64 along axis 1.  A number that is no scheme gives all zero, which is refused later. */
TERN_API tern_quant_options tern_quant_options_default(tern_quant_scheme scheme);

/** Quantises a weight.
 *
 * @param w        fp32, fp16 or bf16, dense, no dimension 0, all values finite.  Read twice.
 * @param options  NULL: the defaults of TERN_QUANT_CHECKPOINT.
 * @param out      codes of w's shape; NULL on error.  Independent of w and ctx.
 * @return TERN_OK, TERN_ERR_ARG (NULL, reserved fields, a value that is not finite: by its index; a group that spans
 *         more than its type holds), TERN_ERR_CONFIG (options), TERN_ERR_SHAPE (groups that do not divide, an odd last
 *         axis with 4 bits), TERN_ERR_DTYPE, TERN_ERR_MEMORY, TERN_ERR_THREAD.
 *
 * Accuracy: equal, bit for bit, to what torch computes from the reference's expressions; "number / tensor" is a reciprocal
 * and a product there.  Only the groups named at each scheme differ.  Same bits with any number of threads.
 * Source: DeepSpeed 0.16.5, runtime/weight_quantizer.py, module_inject/replace_module.py (GroupQuantizer),
 * inference/quantization/utils.py. */
TERN_API tern_status tern_weight_quantize(tern_ctx *ctx, const tern_tensor *w, const tern_quant_options *options,
                                          tern_qtensor **out);

/** Quantises n shards of one weight, each by itself with its own groups, and puts them together along merge_axis.
 *
 * @param shards   n matrices [out, in] of one shape and dtype, n >= 1.
 * @param options  as above, with the checkpoint scheme.
 * @param out      merge_axis 0: [n out, in], scales shard after shard;  1: [out, n in], scale g of shard s at g n + s.
 *                 n_groups is n times the groups of a shard.
 * The rest as tern_weight_quantize(). */
TERN_API tern_status tern_weight_quantize_shards(tern_ctx *ctx, const tern_tensor *shards, int64_t n,
                                                 const tern_quant_options *options, tern_qtensor **out);

/** out = the weight that the codes stand for: one product, or one quotient and one sum, in fp32, then one rounding.
 *
 * @param out  the layout's shape, dense, fp32, fp16 or bf16.
 * @return TERN_OK, TERN_ERR_ARG (NULL), TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_THREAD.  On error out is unchanged.
 *
 * Accuracy: the formula's operations exactly, nothing else.   Cost: one read of the codes, one write of out. */
TERN_API tern_status tern_weight_dequantize(tern_ctx *ctx, const tern_qtensor *q, tern_tensor *out);

/** Packs a quantised matrix for products; codes stay codes, of 8 or 4 bits, and are never restored as a whole.
 *
 * @param q           a matrix [K, N], or [N, K] when `transposed`, of any layout.
 * @param transposed  whether it is [out, in].
 * @param out         the packed weight; NULL on error.  Independent of q and of ctx, read-only.
 * @return TERN_OK, TERN_ERR_ARG (NULL), TERN_ERR_SHAPE (rank is not 2), TERN_ERR_MEMORY, TERN_ERR_THREAD.
 *
 * Accuracy: symmetric 8-bit codes with one scale per output channel are the int8 weights of tern_weight_pack_as(): sums of
 * codes are scaled at their end.  Any other product equals, bit for bit, the fp32 one with what tern_weight_dequantize() gives.
 * activation_quant=row takes symmetric 8-bit codes whose scales are constant, for each output channel, over equal parts of K of
 * 4 to 131072 elements (or all of K, at most as many): one per channel, groups along K, shards merged along K; operators refuse the others.
 * Memory: the codes, N padded to 32, and scales: a group that ends at the same elements of K in all columns has its scale
 * repeated for each of them, everything else as it is. */
TERN_API tern_status tern_weight_pack_quantized(tern_ctx *ctx, const tern_qtensor *q, bool transposed,
                                                tern_weight **out);

/** One scale for each output channel: out[o] = scales[o / (N / G)].
 *
 * @param scales  fp32, any shape of G >= 1 elements.
 * @param out     [N], fp32; G divides N.  May be scales where N is G.
 * @return TERN_OK, TERN_ERR_ARG (NULL, overlap), TERN_ERR_SHAPE, TERN_ERR_DTYPE.  On error out is unchanged. */
TERN_API tern_status tern_quant_expand_scales(tern_ctx *ctx, const tern_tensor *scales, tern_tensor *out);

#ifdef __cplusplus
}
#endif
#endif
