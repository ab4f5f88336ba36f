/* memory.h: the only callers of malloc, mmap and friends for tern's own memory.
 *
 * Every allocation has a purpose in words, which the error names.  Sizes are computed with tern_size_mul/add, so that a
 * number from a file cannot overflow into a small allocation.  Tests make these fail by interposing malloc, aligned_alloc and mmap. */
#ifndef TERN_BASE_MEMORY_H
#define TERN_BASE_MEMORY_H

#include "base/ctx.h"

#define TERN_ALIGN 64 /* a cache line, and one AVX-512 register */

/* count * size bytes, zeroed, aligned to TERN_ALIGN when at least that large; freed by tern_free.  A count of 0 gives a valid pointer. */
tern_status tern_alloc(tern_ctx *ctx, size_t count, size_t size, const char *what, void **out);
/* The typed form: int32_t *ids; TERN_TRY(TERN_ALLOC(ctx, n, "token ids", &ids)); */
#define TERN_ALLOC(ctx, count, what, out) tern_alloc((ctx), (count), sizeof **(out), (what), (void **)(void *)(out))

/* Grows *array (count elements used, *capacity there) so that it holds `need`; keeps the contents, not zeroed beyond. On error unchanged. */
tern_status tern_grow(tern_ctx *ctx, void **array, size_t *capacity, size_t need, size_t size, const char *what);
#define TERN_GROW(ctx, array, capacity, need, what) \
    tern_grow((ctx), (void **)(void *)(array), (capacity), (need), sizeof **(array), (what))

void tern_free(void *p); /* NULL is fine */

/* A copy of n bytes with a NUL behind it; freed by tern_free. */
tern_status tern_strndup(tern_ctx *ctx, const char *text, size_t n, const char *what, char **out);

/* Large, long-lived, zeroed memory (packed weights, KV pools, arenas): anonymous mmap, huge pages asked for.
 * Pages are touched by whoever writes them first.  Freed by tern_pages_free with the same size. */
tern_status tern_pages_alloc(tern_ctx *ctx, size_t bytes, const char *what, void **out);
void tern_pages_free(void *p, size_t bytes);

/* The same for what there is much of, in pieces smaller than some huge pages (packed weights): side by side in a mapping of 32 MiB,
 * whose rest the context keeps for the next one.  Each is freed by tern_pages_free alone, also after the context. */
tern_status tern_pages_carve(tern_ctx *ctx, size_t bytes, const char *what, void **out);
/* Gives that rest back. */
void tern_pages_drop(tern_ctx *ctx);

/* False on overflow, *out unchanged then. */
bool tern_size_mul(size_t a, size_t b, size_t *out);
bool tern_size_add(size_t a, size_t b, size_t *out);

/* a * b, SIZE_MAX where that is too large: an allocation of it fails. */
static inline size_t tern_mul_or_max(size_t a, size_t b)
{
    size_t product;

    return tern_size_mul(a, b, &product) ? product : SIZE_MAX;
}

#endif
