/* scratch.c: see scratch.h. */
#include "base/scratch.h"
#include "base/memory.h"

#include <string.h>

/* What a context keeps at most: rows of a feed-forward of 512 tokens at the width of a model of 7 billion weights. */
#define KEPT_BYTES ((size_t)64 << 20)

/* NaNs in builds for finding faults: no one may count on zeros, or on what the last operator left behind. */
static void poison(void *p, size_t bytes)
{
#ifdef NDEBUG
    (void)p;
    (void)bytes;
#else
    memset(p, 0xff, bytes);
#endif
}

static void drop(struct tern_scratch *piece)
{
    tern_pages_free(piece->memory, piece->bytes);
    *piece = (struct tern_scratch){ 0 };
}

tern_status tern_scratch_take(tern_ctx *ctx, size_t bytes, const char *what, void **out)
{
    struct tern_scratch *fits = NULL, *spare = NULL;

    for (size_t i = 0; i < TERN_SCRATCH_PIECES; i++) {
        struct tern_scratch *piece = &ctx->scratch[i];
        if (piece->taken)
            continue;
        if (piece->memory && piece->bytes >= bytes && (!fits || piece->bytes < fits->bytes))
            fits = piece;
        if (!spare || piece->bytes < spare->bytes)
            spare = piece;
    }
    if (!fits) {
        void *memory;
        TERN_TRY(tern_pages_alloc(ctx, bytes, what, &memory));
        if (!spare) { /* more at once than there are places: not kept */
            *out = memory;
            return TERN_OK;
        }
        drop(spare);
        *spare = (struct tern_scratch){ .memory = memory, .bytes = bytes };
        fits = spare;
    }
    ctx->scratch_short = false;
    fits->taken = true;
    *out = fits->memory;
    poison(*out, bytes);
    return TERN_OK;
}

void tern_scratch_give(tern_ctx *ctx, void *p, size_t bytes)
{
    size_t kept = 0;

    if (!p)
        return;
    for (size_t i = 0; i < TERN_SCRATCH_PIECES; i++)
        kept += ctx->scratch[i].bytes;
    for (size_t i = 0; i < TERN_SCRATCH_PIECES; i++) {
        struct tern_scratch *piece = &ctx->scratch[i];
        if (piece->memory != p)
            continue;
        piece->taken = false;
        if (ctx->scratch_short || kept > KEPT_BYTES)
            drop(piece);
        return;
    }
    tern_pages_free(p, bytes);
}

void tern_scratch_drop(tern_ctx *ctx)
{
    ctx->scratch_short = true;
    tern_pages_drop(ctx);
    for (size_t i = 0; i < TERN_SCRATCH_PIECES; i++)
        if (!ctx->scratch[i].taken)
            drop(&ctx->scratch[i]);
}
