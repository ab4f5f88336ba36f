/* ctx.h: the inside of tern_ctx, and how an error is recorded.
 *
 * A function that can fail returns a tern_status and has written the text of the failure into its context by then.
 * TERN_REQUIRE states a condition with the text for its violation, TERN_TRY hands a status on; a function that owns
 * things sets `status` and jumps to its one `fail:` label (TERN_REQUIRE_OR_FAIL, TERN_TRY_OR_FAIL). */
#ifndef TERN_BASE_CTX_H
#define TERN_BASE_CTX_H

#include <tern/context.h>

#include <inttypes.h>
#include <stdbool.h>

struct tern_kernels; /* src/kernels/kernels.h */
struct tern_plans;   /* src/kernels/plans.h */
struct tern_team;    /* src/base/threads.h */
struct tern_trace;   /* src/base/trace.h */

#define TERN_ERROR_SIZE     1024
#define TERN_SCRATCH_PIECES 6

struct tern_scratch {
    void *memory; /* NULL: an empty place, of 0 bytes */
    size_t bytes;
    bool taken;
};

struct tern_ctx {
    struct tern_team *team;
    const struct tern_kernels *kernels;               /* the table of this context's ISA level; owned */
    struct tern_plans *plans;                         /* the table's, as it may be changed; owned */
    struct tern_trace *trace;                         /* being recorded, or NULL; owned */
    const char *threads_reason;                       /* static storage, as tern_ctx_threads_reason() gives it */
    const char *isa;                                  /* name of the level; static storage */
    struct tern_scratch scratch[TERN_SCRATCH_PIECES]; /* scratch.h */
    bool scratch_short;                               /* memory ran out: what is given back is freed */
    unsigned char *uncarved;                          /* the rest of tern_pages_carve()'s mapping */
    size_t uncarved_bytes;
    char error[TERN_ERROR_SIZE];
};

/* Records the text and returns `status`.  A NULL ctx only returns it.  Long texts are cut at a character border. */
tern_status tern_fail(tern_ctx *ctx, tern_status status, const char *format, ...) TERN_PRINTF(3, 4);

/* TERN_ERR_MEMORY: "out of memory: N bytes for WHAT". */
tern_status tern_fail_memory(tern_ctx *ctx, size_t bytes, const char *what);

/* Fields of an options struct for what may come are zero, or a caller means something that this version does not know. */
tern_status tern_check_reserved(tern_ctx *ctx, const char *what, const uint64_t *reserved, size_t n);
#define TERN_CHECK_RESERVED(ctx, what, options) \
    tern_check_reserved((ctx), (what), (options)->reserved, sizeof(options)->reserved / sizeof(options)->reserved[0])

#define TERN_REQUIRE(ctx, condition, status, ...)           \
    do {                                                    \
        if (!(condition))                                   \
            return tern_fail((ctx), (status), __VA_ARGS__); \
    } while (0)

#define TERN_TRY(call)                          \
    do {                                        \
        const tern_status try_status_ = (call); \
        if (try_status_ != TERN_OK)             \
            return try_status_;                 \
    } while (0)

/* The same two in a function with a local `tern_status status` and a label `fail:`. */
#define TERN_REQUIRE_OR_FAIL(ctx, condition, code, ...)     \
    do {                                                    \
        if (!(condition)) {                                 \
            status = tern_fail((ctx), (code), __VA_ARGS__); \
            goto fail;                                      \
        }                                                   \
    } while (0)

#define TERN_TRY_OR_FAIL(call) \
    do {                       \
        status = (call);       \
        if (status != TERN_OK) \
            goto fail;         \
    } while (0)

#endif
