/* template_memory.h: memory that is given back all at once: what a template was parsed into, or what one rendering made. */
#ifndef TERN_TEXT_TEMPLATE_MEMORY_H
#define TERN_TEXT_TEMPLATE_MEMORY_H

#include "base/memory.h"

struct tern_pool_block;

struct tern_pool {
    struct tern_pool_block *blocks; /* the newest first */
    size_t bytes;                   /* taken from the system so far */
    size_t limit;                   /* of them at most; a request beyond is TERN_ERR_CAPACITY */
    const char *name;               /* of the limit, for the error */
    size_t refused;                 /* the request that went beyond it, or 0 */
};

/* `size` bytes aligned for anything, zeroed.  A size of 0 gives a valid pointer. */
tern_status tern_pool_take(tern_ctx *ctx, struct tern_pool *pool, size_t size, void **out);
/* The typed form: TERN_TRY(TERN_POOL_TAKE(ctx, pool, n, &nodes)). */
#define TERN_POOL_TAKE(ctx, pool, count, out) \
    tern_pool_take((ctx), (pool), tern_mul_or_max((count), sizeof **(out)), (void **)(void *)(out))
void tern_pool_free(struct tern_pool *pool);

#endif
