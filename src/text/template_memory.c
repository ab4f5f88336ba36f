/* template_memory.c: blocks that double in size, filled from the front. */
#include "text/template_memory.h"

#define FIRST_BLOCK   ((size_t)1 << 12)
#define LARGEST_BLOCK ((size_t)1 << 20) /* what is asked for above it gets a block of its own */

struct tern_pool_block {
    struct tern_pool_block *next;
    size_t size, used; /* of data */
    max_align_t data[];
};

static tern_status refuse(tern_ctx *ctx, struct tern_pool *pool, size_t size)
{
    pool->refused = size;
    return tern_fail(ctx, TERN_ERR_CAPACITY, "%s is %zu bytes, %zu are taken and %zu more wanted", pool->name,
                     pool->limit, pool->bytes, size);
}

static tern_status add_block(tern_ctx *ctx, struct tern_pool *pool, size_t need)
{
    size_t size = pool->blocks ? 2 * pool->blocks->size : FIRST_BLOCK;
    struct tern_pool_block *block;

    if (size > LARGEST_BLOCK)
        size = LARGEST_BLOCK;
    if (size < need)
        size = need;
    if (size > pool->limit - pool->bytes) /* the last of it, as far as it goes */
        size = need;
    if (need > pool->limit - pool->bytes)
        return refuse(ctx, pool, need);
    TERN_TRY(tern_alloc(ctx, 1, sizeof *block + size, "a template", (void **)&block));
    block->size = size;
    block->next = pool->blocks;
    pool->blocks = block;
    pool->bytes += size;
    return TERN_OK;
}

tern_status tern_pool_take(tern_ctx *ctx, struct tern_pool *pool, size_t size, void **out)
{
    const size_t align = sizeof(max_align_t);

    if (size > pool->limit)
        return refuse(ctx, pool, size);
    size = (size + align - 1) / align * align;
    if (!pool->blocks || pool->blocks->size - pool->blocks->used < size)
        TERN_TRY(add_block(ctx, pool, size));
    *out = (unsigned char *)pool->blocks->data + pool->blocks->used;
    pool->blocks->used += size;
    return TERN_OK;
}

void tern_pool_free(struct tern_pool *pool)
{
    while (pool->blocks) {
        struct tern_pool_block *next = pool->blocks->next;

        tern_free(pool->blocks);
        pool->blocks = next;
    }
    pool->bytes = 0;
}
