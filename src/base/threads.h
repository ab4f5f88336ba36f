/* threads.h: one team of POSIX threads per context.
 *
 * A parallel region runs one function on every thread of the team, the caller being thread 0; inside, the threads meet at
 * barriers and split work by (thread, count) alone, so that results never depend on who was faster.  Threads spin briefly
 * after a region, then park.  A region costs well under a microsecond when hot.  A team of one has no threads.
 * The functions that run inside a region cannot fail: everything that can is checked or allocated before it. */
#ifndef TERN_BASE_THREADS_H
#define TERN_BASE_THREADS_H

#include "base/ctx.h"

#define TERN_MAX_THREADS 1024

struct tern_team;

/* What a function inside a region knows of its place. */
struct tern_par {
    const struct tern_kernels *kernels;
    struct tern_team *team; /* NULL where count is 1 */
    int thread, count;
    struct tern_trace *trace; /* what runs is recorded there; NULL: it is not */
};

typedef void tern_region_fn(void *arg, const struct tern_par *par);

/* Starts n - 1 threads (1 <= n <= TERN_MAX_THREADS).  TERN_ERR_THREAD, TERN_ERR_MEMORY. */
tern_status tern_team_create(tern_ctx *ctx, int n, struct tern_team **out);
void tern_team_destroy(struct tern_team *team);
int tern_team_size(const struct tern_team *team);

/* Runs fn(arg, par) on every thread of the context's team and returns when all are done.
 * After fork the child's first call starts a fresh team, which can fail (TERN_ERR_THREAD).  A context that is in a region,
 * another thread's or the one that this call is made from, refuses a second one (TERN_ERR_STATE).  On error nothing has run.
 * Regions of other contexts may be entered from inside a region. */
tern_status tern_region(tern_ctx *ctx, tern_region_fn *fn, void *arg);

/* For a call of several regions, and of changes between them to what regions read: from taking to giving back other
 * calls are refused as during a region.  TERN_ERR_STATE, TERN_ERR_THREAD: it is not taken. */
tern_status tern_team_take(tern_ctx *ctx);
void tern_team_give(tern_ctx *ctx);
/* Once the host's code ran meanwhile: in a child that it forked the context is taken anew.  TERN_ERR_THREAD. */
tern_status tern_team_keep(tern_ctx *ctx);
/* A region of who has taken the context. */
void tern_region_taken(tern_ctx *ctx, tern_region_fn *fn, void *arg);

/* Waits for all threads of the region.  What was written before it is seen by all after it. */
void tern_barrier(const struct tern_par *par);

/* This thread's share [*begin, *end) of n items, cut at multiples of `unit` (>= 1); shares differ by at most one unit. */
void tern_share(const struct tern_par *par, size_t n, size_t unit, size_t *begin, size_t *end);

#endif
