/* arena.c: a bump allocator over one block of pages. */
#include "base/arena.h"
#include "base/memory.h"
#include "base/scratch.h"

#include <assert.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif

#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#define RED_ZONE       TERN_ALIGN
#define POISON(p, n)   __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define RED_ZONE       0
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

struct tern_arena tern_arena_counter(void)
{
    return (struct tern_arena){ .size = SIZE_MAX };
}

tern_status tern_arena_create(tern_ctx *ctx, size_t bytes, const char *what, struct tern_arena *out)
{
    void *base;

    *out = (struct tern_arena){ 0 };
    TERN_TRY(tern_pages_alloc(ctx, bytes, what, &base));
    *out = (struct tern_arena){ .base = base, .size = bytes };
    POISON(out->base, out->size);
    return TERN_OK;
}

void tern_arena_destroy(struct tern_arena *arena)
{
    if (arena->base) {
        /* Another mapping may come to lie here: it must not inherit the poison. */
        UNPOISON(arena->base, arena->size);
        tern_pages_free(arena->base, arena->size);
    }
    *arena = (struct tern_arena){ 0 };
}

tern_status tern_arena_borrow(tern_ctx *ctx, size_t bytes, const char *what, struct tern_arena *out)
{
    void *base;

    *out = (struct tern_arena){ 0 };
    TERN_TRY(tern_scratch_take(ctx, bytes, what, &base));
    *out = (struct tern_arena){ .base = base, .size = bytes };
    POISON(out->base, out->size);
    return TERN_OK;
}

void tern_arena_return(tern_ctx *ctx, struct tern_arena *arena)
{
    if (arena->base) {
        UNPOISON(arena->base, arena->size);
        tern_scratch_give(ctx, arena->base, arena->size);
    }
    *arena = (struct tern_arena){ 0 };
}

void *tern_arena_take(struct tern_arena *arena, size_t count, size_t size)
{
    size_t bytes, padded, end;

    /* Pieces, gaps included, are multiples of the alignment, so every piece starts aligned. */
    if (!tern_size_mul(count, size, &bytes) || !tern_size_add(bytes, RED_ZONE + TERN_ALIGN - 1, &padded) ||
        !tern_size_add(arena->used, padded / TERN_ALIGN * TERN_ALIGN, &end) || end > arena->size) {
        assert(!arena->base && "an arena smaller than its counting run");
        /* The counter stays at its end, so a sum that overflowed cannot turn into a small arena. */
        if (!arena->base)
            arena->used = arena->size;
        return NULL;
    }
    unsigned char *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used = end;
    if (piece)
        UNPOISON(piece, bytes);
    return piece;
}
