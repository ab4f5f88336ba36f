/* trace.h: where operators say that they ran, if a trace is being recorded (include/tern/trace.h).
 *
 *     static const struct tern_trace_kind kind = { "gemm_f32", { "rows", "in", "out" } };
 *     const double begin = tern_trace_begin(par);
 *     ...
 *     tern_trace_end(par, &kind, begin, m, in, out);
 *
 * Each thread writes to a track of its own; the caller reads them all when no region runs. */
#ifndef TERN_BASE_TRACE_H
#define TERN_BASE_TRACE_H

#include "base/machine.h"
#include "base/threads.h"

#define TERN_TRACE_NUMBERS 3

/* What an event is called, and its numbers (NULL: there is none).  The texts are static, the struct is copied. */
struct tern_trace_kind {
    const char *name;
    const char *number[TERN_TRACE_NUMBERS];
};

/* An event of thread `thread` that began at `begin` seconds and ends now. */
void tern_trace_add(struct tern_trace *trace, int thread, const struct tern_trace_kind *kind, double begin, size_t a,
                    size_t b, size_t c);

static inline double tern_trace_begin(const struct tern_par *par)
{
    return par->trace ? tern_machine_seconds() : 0;
}

static inline void tern_trace_end(const struct tern_par *par, const struct tern_trace_kind *kind, double begin,
                                  size_t a, size_t b, size_t c)
{
    if (par->trace)
        tern_trace_add(par->trace, par->thread, kind, begin, a, b, c);
}

/* NULL is fine. */
void tern_trace_free(struct tern_trace *trace);

#endif
