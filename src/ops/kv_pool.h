/* kv_pool.h: the inside of a KV cache, for the operator that writes and reads it.
 *
 * A block holds 64 positions of one sequence for all layers and all KV heads, so that one number in a sequence's table
 * stands for all of it:
 *
 *     pool    [block][layer][kv head][ K: 64 E | V: 64 E32 ]      E32: E rounded up to 32; layouts of K and V in kernels.h,
 *                                                                 in the shape's dtype (bf16: an odd E is one more)
 *
 * Keys and values of one head stand together: decoding reads them as one stream. */
#ifndef TERN_OPS_KV_POOL_H
#define TERN_OPS_KV_POOL_H

#include "ops/kernel_calls.h"

struct kv_sequence {
    int64_t length;
    int32_t n_blocks; /* in the table; may reach beyond length after a reserve that was not committed */
    bool used;
    uint32_t stamp; /* of the last list of spans that named it */
};

struct tern_kv_cache {
    struct tern_kv_shape shape;
    size_t k_bytes, v_bytes;         /* of one head in one block */
    size_t layer_bytes, block_bytes; /* of all heads in one block, and of all layers */
    int32_t n_blocks, blocks_each;   /* of the pool; of one sequence at most */

    unsigned char *pool;
    size_t pool_bytes;

    int32_t *free; /* stack of free blocks */
    int32_t n_free;
    int32_t *refs;    /* [n_blocks] sequences that hold a block */
    int32_t *pending; /* [n_blocks] copies that a reserve has counted; 0 between calls */
    bool *written;    /* [n_blocks] taken before: to be zeroed when taken again */

    struct kv_sequence *sequences;
    int32_t *tables; /* [n_sequences][blocks_each] */
    uint32_t stamp;

    /* Addresses for the attention kernel: [n_sequences][kv head][blocks_each], of the layer that is running. */
    const void **k_blocks, **v_blocks;
};

static inline const int32_t *kv_table(const struct tern_kv_cache *c, int32_t sequence)
{
    return c->tables + (size_t)sequence * (size_t)c->blocks_each;
}

/* The K part of one head in one block; V follows k_bytes later. */
static inline unsigned char *kv_block(const struct tern_kv_cache *c, int32_t block, int32_t layer, int32_t kv_head)
{
    return c->pool + (size_t)block * c->block_bytes + (size_t)layer * c->layer_bytes +
           (size_t)kv_head * (c->k_bytes + c->v_bytes);
}

/* Index of a sequence's head in k_blocks and v_blocks. */
static inline size_t kv_addresses(const struct tern_kv_cache *c, int32_t sequence, int32_t kv_head)
{
    return ((size_t)sequence * (size_t)c->shape.n_kv_heads + (size_t)kv_head) * (size_t)c->blocks_each;
}

/* Whether attention with activations of a dtype works with what the cache keeps: fp32, or the same dtype. */
tern_status tern_kv_check_dtype(tern_ctx *ctx, const char *op, const tern_kv_cache *cache, tern_dtype activation);

/* kv_store of the cache's dtype: positions [p, p + n) of a head into the block at `to`. */
void tern_kv_store(const struct tern_kernels *kernels, const struct tern_kv_cache *c, unsigned char *to, const float *k,
                   const float *v, size_t stride, size_t head_dim, size_t v_dim, size_t p, size_t n);

/* The same of rows in the cache's dtype, which is not fp32: kv_move. */
void tern_kv_move(const struct tern_kernels *kernels, const struct tern_kv_cache *c, unsigned char *to,
                  const uint16_t *k, const uint16_t *v, size_t stride, size_t head_dim, size_t v_dim, size_t p,
                  size_t n);

/* Whether spans cover n_rows rows in order, each with a sequence of its own whose positions are reserved. */
tern_status tern_kv_check_spans(tern_ctx *ctx, const char *op, tern_kv_cache *cache, const tern_kv_span *spans,
                                size_t n_spans, size_t n_rows);

#endif
