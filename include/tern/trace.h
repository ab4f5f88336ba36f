/* trace.h: what each thread did, and when, as a file that Chrome's about:tracing and Perfetto show. */
#ifndef TERN_TRACE_H
#define TERN_TRACE_H

#include <tern/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Records from now on what the threads of a context do: steps of sessions, layers, operators inside of them, packing of weights, and
 *  waits for one another, each with begin, end and sizes.  Nothing that is computed changes; without a trace an operator looks at
 *  one pointer.
 *
 *  @return TERN_OK, TERN_ERR_ARG (NULL), TERN_ERR_STATE (a trace is being recorded), TERN_ERR_MEMORY.
 *
 *  Memory: 72 bytes an event, for 4 million of all threads together; pages are taken as they fill up.  Later events are left out. */
TERN_API tern_status tern_trace_start(tern_ctx *ctx);

/** What was recorded. */
typedef struct tern_trace_stats {
    uint64_t n_events;
    uint64_t n_left_out; /**< events that there was no room for */
} tern_trace_stats;

/** Ends the trace and writes it as JSON in Chrome's format (complete events "X", times in microseconds, one "tid" a thread).
 *
 * @param path   a file, replaced as a whole when all is written (a device, a pipe, and what a link leads to that is not there yet, are written directly); NULL: what was recorded is
 *               thrown away.
 * @param stats  or NULL.
 * @return TERN_OK, TERN_ERR_ARG (NULL), TERN_ERR_STATE (no trace is being recorded), TERN_ERR_IO, TERN_ERR_MEMORY.  The trace has
 *         ended in any case but the first two. */
TERN_API tern_status tern_trace_stop(tern_ctx *ctx, const char *path, tern_trace_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
