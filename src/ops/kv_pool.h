/* kv_pool.h: the inside of a KV cache, for the operator that writes and reads it.
 *
 * A block holds 64 positions of one sequence for all layers and all KV heads, so that one number in a sequence's table
 * stands for all of it.  Eight neighbouring blocks are a group, of 512 positions, the last one of fewer where the pool ends:
 *
 *     pool    [group][layer][kv head][ K: [8] 64 E | V: [8] 64 E32 ]      E32: E rounded up to 32; layouts of K and V in kernels.h,
 *                                                                         in the shape's dtype (bf16: an odd E is one more)
 *
 * A sequence takes blocks one after the other as far as they are free, so that decoding reads the keys of a head's softmax block, and then
 * the values, as one stream: memory is slower with shorter ones (bench/LOG.md). */
#ifndef TERN_OPS_KV_POOL_H
#define TERN_OPS_KV_POOL_H

#include "ops/kernel_calls.h"

#define KV_GROUP (TERN_ATTN_BLOCK / TERN_KV_BLOCK) /* blocks of a group */

struct kv_sequence {
    int64_t length;
    int32_t n_blocks; /* in the table; may reach beyond length after a reserve that was not committed */
    bool used;
    uint32_t stamp; /* of the last list of spans that named it */
};

struct tern_kv_cache {
    struct tern_kv_shape shape;
    size_t k_bytes, v_bytes;       /* of one head in one block */
    size_t block_bytes;            /* of all heads and layers in one block */
    int32_t n_blocks, blocks_each; /* of the pool; of one sequence at most */

    unsigned char *pool;
    size_t pool_bytes;

    int32_t n_free;
    uint8_t *free;    /* [groups] blocks of a group that are free */
    int32_t *refs;    /* [n_blocks] sequences that hold a block; 0: it is free */
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

/* Where one head of one block stands. */
struct kv_place {
    unsigned char *k, *v;
};

static inline struct kv_place kv_place(const struct tern_kv_cache *c, int32_t block, int32_t layer, int32_t kv_head)
{
    const int32_t first = block / KV_GROUP * KV_GROUP, left = c->n_blocks - first;
    const size_t n = (size_t)(left < KV_GROUP ? left : KV_GROUP), i = (size_t)(block - first);
    const size_t head = (size_t)layer * (size_t)c->shape.n_kv_heads + (size_t)kv_head;
    unsigned char *k = c->pool + (size_t)first * c->block_bytes + head * n * (c->k_bytes + c->v_bytes);

    return (struct kv_place){ k + i * c->k_bytes, k + n * c->k_bytes + i * c->v_bytes };
}

/* Index of a sequence's head in k_blocks and v_blocks. */
static inline size_t kv_addresses(const struct tern_kv_cache *c, int32_t sequence, int32_t kv_head)
{
    return ((size_t)sequence * (size_t)c->shape.n_kv_heads + (size_t)kv_head) * (size_t)c->blocks_each;
}

/* Whether attention with activations of a dtype works with what the cache keeps: fp32, or the same dtype. */
tern_status tern_kv_check_dtype(tern_ctx *ctx, const char *op, const tern_kv_cache *cache, tern_dtype activation);

/* kv_store of the cache's dtype: positions [p, p + n) of a head into their place in a block. */
void tern_kv_store(const struct tern_kernels *kernels, const struct tern_kv_cache *c, struct kv_place to,
                   const float *k, const float *v, size_t stride, size_t head_dim, size_t v_dim, size_t p, size_t n);

/* The same of rows in the cache's dtype, which is not fp32: kv_move. */
void tern_kv_move(const struct tern_kernels *kernels, const struct tern_kv_cache *c, struct kv_place to,
                  const uint16_t *k, const uint16_t *v, size_t stride, size_t head_dim, size_t v_dim, size_t p,
                  size_t n);

/* Whether spans cover n_rows rows in order, each with a sequence of its own whose positions are reserved. */
tern_status tern_kv_check_spans(tern_ctx *ctx, const char *op, tern_kv_cache *cache, const tern_kv_span *spans,
                                size_t n_spans, size_t n_rows);

#endif
