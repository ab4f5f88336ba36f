/* scratch.h: working memory of operators, which a context keeps between calls.
 *
 * Fresh pages cost more to touch than many an operator takes: 0.25 us for each 4 KiB, so an operator that allocates its rows
 * anew runs at a fraction of its speed.  What is given back stays in the context, up to a bound, and the next call gets it. */
#ifndef TERN_BASE_SCRATCH_H
#define TERN_BASE_SCRATCH_H

#include "base/ctx.h"

/* `bytes` of working memory, aligned to TERN_ALIGN; not zeroed.  0 bytes: a valid pointer.  TERN_ERR_MEMORY: *out is NULL. */
tern_status tern_scratch_take(tern_ctx *ctx, size_t bytes, const char *what, void **out);
/* Gives back what take gave for as many bytes.  NULL is fine. */
void tern_scratch_give(tern_ctx *ctx, void *p, size_t bytes);
/* Frees all that is kept and not taken.  What is taken is freed when it is given back, unless a take comes before that: called where
 * memory ran out, and at the end of a context. */
void tern_scratch_drop(tern_ctx *ctx);

#endif
