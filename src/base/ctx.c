/* ctx.c: the text of the last error, and what a context tells about itself. */
#include "base/ctx.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

tern_status tern_fail(tern_ctx *ctx, tern_status status, const char *format, ...)
{
    if (!ctx)
        return status;
    if (status == TERN_ERR_MEMORY || status == TERN_ERR_THREAD)
        tern_scratch_drop(ctx); /* who is short of memory gets all of it */

    /* Written beside the old text first: that may be an argument ("%s: %s", name, ctx->error). */
    char text[TERN_ERROR_SIZE];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);

    if (n < 0)
        snprintf(text, sizeof text, "%s", tern_status_name(status));
    else if ((size_t)n >= sizeof text)
        text[tern_utf8_uncut(text, sizeof text - 1)] = '\0';
    memcpy(ctx->error, text, strlen(text) + 1);
    return status;
}

tern_status tern_fail_memory(tern_ctx *ctx, size_t bytes, const char *what)
{
    return tern_fail(ctx, TERN_ERR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}

tern_status tern_check_reserved(tern_ctx *ctx, const char *what, const uint64_t *reserved, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TERN_REQUIRE(ctx, reserved[i] == 0, TERN_ERR_ARG,
                     "%s: reserved[%zu] is %" PRIu64 ", expected 0 (the default options have it)", what, i,
                     reserved[i]);
    return TERN_OK;
}

const char *tern_error(const tern_ctx *ctx)
{
    return ctx ? ctx->error : "";
}

int tern_ctx_threads(const tern_ctx *ctx)
{
    return ctx ? tern_team_size(ctx->team) : 0;
}

const char *tern_ctx_threads_reason(const tern_ctx *ctx)
{
    return ctx && ctx->threads_reason ? ctx->threads_reason : "option";
}

const char *tern_ctx_isa(const tern_ctx *ctx)
{
    return ctx && ctx->isa ? ctx->isa : "portable";
}
