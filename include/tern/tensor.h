/* tensor.h: a borrowed view of numbers in memory, and packed weights. */
#ifndef TERN_TENSOR_H
#define TERN_TENSOR_H

#include <tern/context.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TERN_MAX_RANK 8

/** Element types.  The numbers are part of the ABI.  Operators compute on fp32, fp16, bf16 and int8 (op.h), and take masks, ids and
 *  flags as bool and integers; all can be read from files. */
typedef enum tern_dtype {
    TERN_FP32 = 0,
    TERN_FP16 = 1,
    TERN_BF16 = 2,
    TERN_INT8 = 3,
    TERN_FP64 = 4,
    TERN_UINT8 = 5,
    TERN_INT16 = 6,
    TERN_UINT16 = 7,
    TERN_INT32 = 8,
    TERN_UINT32 = 9,
    TERN_INT64 = 10,
    TERN_UINT64 = 11,
    TERN_BOOL = 12,
    TERN_FP8_E4M3 = 13,
    TERN_FP8_E5M2 = 14,
    TERN_DTYPE_COUNT
} tern_dtype;

/** Bytes of one element, 0 for a number that is no dtype. */
TERN_API size_t tern_dtype_size(tern_dtype dtype);

/** "fp32", "fp16", "bf16", "int8", ...; "?" for a number that is no dtype.  Static storage. */
TERN_API const char *tern_dtype_name(tern_dtype dtype);

/** A weight in the layout that the kernels stream: see tern_weight_pack(). */
typedef struct tern_weight tern_weight;

/** A view: it owns nothing.  Row-major order of dimensions; strides in elements. */
typedef struct tern_tensor {
    void *data;                /**< first element; may be NULL where a dimension is 0 or `packed` is set */
    const tern_weight *packed; /**< NULL, or the packed weight that this view stands for (then data is NULL) */
    tern_dtype dtype;
    int rank;                      /**< 0..TERN_MAX_RANK; 0 is a scalar */
    int64_t dim[TERN_MAX_RANK];    /**< elements along each axis, >= 0 */
    int64_t stride[TERN_MAX_RANK]; /**< distance between neighbours along each axis, in elements */
} tern_tensor;

/** A dense row-major view of `data`.
 *
 * @param data   borrowed: valid as long as the view is used.
 * @param rank   0..TERN_MAX_RANK.
 * @param dim    `rank` sizes, each >= 0.  NULL if rank is 0.
 * @return the view.  A rank, size or dtype outside of its range gives a view of rank -1, which every operator refuses. */
TERN_API tern_tensor tern_tensor_view(void *data, tern_dtype dtype, int rank, const int64_t *dim);

/** A view of rank -1, which stands for "not there" where a tensor may be left out. */
TERN_API tern_tensor tern_tensor_none(void);

/** Packs a matrix once for all later products: panels `[N/32][K][32]`, N padded with zeros, in fp32.
 *
 * @param ctx         threads and error text.
 * @param w           [K, N] ("in, out"), or [N, K] ("out, in") when `transposed`; fp32, fp16 or bf16, dense; read once.
 * @param transposed  whether w is stored as [out, in].
 * @param out         the packed weight; NULL on error.  Independent of w and of ctx, usable from any context, read-only.
 * @return TERN_OK, TERN_ERR_ARG (NULL, packed already), TERN_ERR_SHAPE (rank is not 2, or not dense), TERN_ERR_DTYPE,
 *         TERN_ERR_MEMORY, TERN_ERR_THREAD.
 *
 * Accuracy: exact; fp16 and bf16 widen to fp32 without loss.   Cost: one read of w, one write of the panels. */
TERN_API tern_status tern_weight_pack(tern_ctx *ctx, const tern_tensor *w, bool transposed, tern_weight **out);

/** Packs a matrix in panels of a dtype: 4 bytes a weight for fp32, 2 for fp16 and bf16, 1 for int8.
 *
 * @param w      as for tern_weight_pack(), fp32, fp16 or bf16, into any dtype; or int8 codes into int8.
 * @param dtype  fp16, bf16: rounded to nearest even, which keeps what fits; infinities and NaNs stay what they are.
 *               int8: codes of w / scale[o], the scale of output channel o being its largest |w| / 127, ties to even.  A
 *               channel that has an infinity or a NaN becomes NaN as a whole.
 * @param scale  with int8 codes, and only with them: fp32, any shape of G elements, G dividing N, one for each N / G
 *               consecutive output channels; finite.  NULL or tern_tensor_none() otherwise.
 * @return as tern_weight_pack(), and TERN_ERR_ARG for a finite value beyond fp16's range (by its index: as an infinity it would
 *         be a wrong answer), for scale given or missing, or a scale that is not finite; TERN_ERR_SHAPE for their number. */
TERN_API tern_status tern_weight_pack_as(tern_ctx *ctx, const tern_tensor *w, bool transposed, tern_dtype dtype,
                                         const tern_tensor *scale, tern_weight **out);

/** What the panels hold: fp32, fp16, bf16, or int8 for codes of 8 and of 4 bits.  TERN_DTYPE_COUNT for NULL. */
TERN_API tern_dtype tern_weight_dtype(const tern_weight *w);

/** Frees a packed weight and sets *w to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_weight_destroy(tern_weight **w);

/** A view [K, N] of a packed weight, for every parameter that takes a matrix.  Borrows w.  NULL: tern_tensor_none(). */
TERN_API tern_tensor tern_weight_view(const tern_weight *w);

/** Bytes that a packed weight occupies; 0 for NULL. */
TERN_API size_t tern_weight_bytes(const tern_weight *w);

#ifdef __cplusplus
}
#endif
#endif
