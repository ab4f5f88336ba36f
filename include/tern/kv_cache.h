/* kv_cache.h: keys and values of all sequences, in blocks of 64 positions from one pool. */
#ifndef TERN_KV_CACHE_H
#define TERN_KV_CACHE_H

#include <tern/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A pool of blocks and the sequences that hold them.  Serves one thread at a time. */
typedef struct tern_kv_cache tern_kv_cache;

/** What a cache is made for. */
typedef struct tern_kv_shape {
    int32_t n_layers;
    int32_t n_kv_heads;  /**< G */
    int32_t head_dim;    /**< E, 1..512 */
    int64_t n_positions; /**< positions of all sequences together; rounded up to blocks of 64 */
    int32_t n_sequences; /**< sequences at once */
    int64_t n_context;   /**< positions of one sequence at most */
    /** What keys and values are kept in: fp32 (0), or, for attention whose activations are fp16 or bf16, the same: half the bytes.
     *  Numbers are rounded to it where they are stored, as such attention does in any case. */
    tern_dtype dtype;
} tern_kv_shape;

/** Allocates pool and tables; nothing is allocated afterwards.
 *  @return TERN_OK, TERN_ERR_ARG (a size outside of its range, by name), TERN_ERR_MEMORY. */
TERN_API tern_status tern_kv_cache_create(tern_ctx *ctx, const tern_kv_shape *shape, tern_kv_cache **out);
/** Bytes that the pool of such a cache takes, without making it.  @return TERN_OK, TERN_ERR_ARG, TERN_ERR_MEMORY (more bytes
 *  than there can be). */
TERN_API tern_status tern_kv_cache_measure(tern_ctx *ctx, const tern_kv_shape *shape, size_t *bytes);
/** Frees the cache and sets *cache to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_kv_cache_destroy(tern_kv_cache **cache);

/** Starts an empty sequence.  @return TERN_OK or TERN_ERR_CAPACITY (all n_sequences in use). */
TERN_API tern_status tern_kv_sequence_add(tern_ctx *ctx, tern_kv_cache *cache, int32_t *sequence);
/** Ends a sequence and gives its blocks back.  @return TERN_OK or TERN_ERR_ARG (no such sequence). */
TERN_API tern_status tern_kv_sequence_remove(tern_ctx *ctx, tern_kv_cache *cache, int32_t sequence);
/** A second sequence with the same contents.  Whole blocks are shared, the last partial one is copied when either appends.
 *  @return TERN_OK, TERN_ERR_ARG, TERN_ERR_CAPACITY. */
TERN_API tern_status tern_kv_sequence_fork(tern_ctx *ctx, tern_kv_cache *cache, int32_t sequence, int32_t *fork);
/** Forgets all positions from `length` on; blocks beyond go back, those of a reserve that was not committed too.  @return TERN_OK or TERN_ERR_ARG (longer than it is). */
TERN_API tern_status tern_kv_sequence_truncate(tern_ctx *ctx, tern_kv_cache *cache, int32_t sequence, int64_t length);
/** Positions that a sequence holds, -1 if there is no such sequence. */
TERN_API int64_t tern_kv_sequence_length(const tern_kv_cache *cache, int32_t sequence);
/** Free positions of the pool, in whole blocks. */
TERN_API int64_t tern_kv_cache_free_positions(const tern_kv_cache *cache);
/** Bytes of the pool. */
TERN_API size_t tern_kv_cache_bytes(const tern_kv_cache *cache);

/** Neighbouring rows of a batch that are one sequence's next tokens. */
typedef struct tern_kv_span {
    int32_t sequence;
    int32_t row;      /**< first row of the batch */
    int32_t n_rows;   /**< >= 1 */
    int64_t position; /**< of the first row: the sequence's length, or less to write again */
} tern_kv_span;

/** Makes room for a batch: takes the blocks that [position, position + n_rows) of every span need, copying shared ones.
 *  All or nothing; again for the same spans it takes nothing more.  The sequences' lengths grow with tern_kv_commit() only.
 *  @return TERN_OK, TERN_ERR_ARG (unknown or repeated sequence, a position beyond its length), TERN_ERR_CAPACITY (context or
 *  pool, with both numbers). */
TERN_API tern_status tern_kv_reserve(tern_ctx *ctx, tern_kv_cache *cache, const tern_kv_span *spans, size_t n_spans);
/** The spans' positions count from now on: length = position + n_rows; blocks beyond go back.
 *  @return TERN_OK, TERN_ERR_ARG (as tern_kv_reserve()), TERN_ERR_STATE (a span that was not reserved).  On error no length
 *  has changed. */
TERN_API tern_status tern_kv_commit(tern_ctx *ctx, tern_kv_cache *cache, const tern_kv_span *spans, size_t n_spans);

/** Keys and values from elsewhere, into positions that were reserved: as the operator would have stored them, so keys are turned
 *  already.  The caller commits the span.
 *
 * @param layer  0 .. n_layers - 1.
 * @param span   one sequence; `row` does not matter.
 * @param key    [G, n_rows, E'], E' <= head_dim; channels beyond E' are 0.     @param value  [G, n_rows, E''] in the same dtype.
 *               fp32, fp16 or bf16.
 * @return TERN_OK, TERN_ERR_ARG, TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_STATE (not reserved); nothing is written then. */
TERN_API tern_status tern_kv_write(tern_ctx *ctx, tern_kv_cache *cache, int32_t layer, const tern_kv_span *span,
                                   const tern_tensor *key, const tern_tensor *value);
/** The first E' channels of n keys, and E'' of n values, from `position` on.
 *
 * @param key, value  as for tern_kv_write(); get the numbers rounded once to their dtype.  n = key->dim[1] positions, all committed.
 * @return TERN_OK, TERN_ERR_ARG (also tensors that overlap), TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_STATE (beyond the
 *         sequence's end); nothing is written then. */
TERN_API tern_status tern_kv_read(tern_ctx *ctx, const tern_kv_cache *cache, int32_t layer, int32_t sequence,
                                  int64_t position, tern_tensor *key, tern_tensor *value);

#ifdef __cplusplus
}
#endif
#endif
