/* arena.h: scratch memory of a session or of a call, sized once.
 *
 * A bump allocator over one block.  Sizes are found by running the same code twice: an arena with base NULL only counts.
 * Under AddressSanitizer there is a poisoned gap behind each piece, so an arena does not hide an overrun. */
#ifndef TERN_BASE_ARENA_H
#define TERN_BASE_ARENA_H

#include "base/ctx.h"

struct tern_arena {
    unsigned char *base; /* NULL: only counts */
    size_t size;         /* bytes at base */
    size_t used; /* bytes handed out, gaps included; of a counting arena: the size to create the real one with */
};

/* An arena that counts. */
struct tern_arena tern_arena_counter(void);

/* Memory for a real one; what is handed out is not initialised. */
tern_status tern_arena_create(tern_ctx *ctx, size_t bytes, const char *what, struct tern_arena *out);
void tern_arena_destroy(struct tern_arena *arena);

/* The same for the work of one call, from what the context keeps between calls (scratch.h). */
tern_status tern_arena_borrow(tern_ctx *ctx, size_t bytes, const char *what, struct tern_arena *out);
void tern_arena_return(tern_ctx *ctx, struct tern_arena *arena);

/* `count` pieces of `size` bytes, aligned to TERN_ALIGN.  A counting arena answers NULL.  A real one that is too small is a
 * mistake of ours (the counting run was different): assert in debug builds, NULL in release builds. */
void *tern_arena_take(struct tern_arena *arena, size_t count, size_t size);
#define TERN_TAKE(arena, type, count) ((type *)tern_arena_take((arena), (count), sizeof(type)))

#endif
