/* context.c: making and ending a context.
 *
 * It stands with the kernels because a context holds a team of threads and a table of kernels, and this is the lowest
 * place that knows both. */
#include "base/cpus.h"
#include "base/ctx.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "base/trace.h"
#include "kernels/kernels.h"
#include "kernels/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tern_ctx_options tern_ctx_options_default(void)
{
    return (tern_ctx_options){ 0 };
}

/* The level to use: the option, else the environment, else the machine's best. */
static tern_status choose_isa(tern_ctx *ctx, const char *option, enum tern_isa *isa)
{
    const char *source = option ? "cpu" : "TERN_CPU", *name = option ? option : getenv("TERN_CPU");
    const enum tern_isa best = tern_machine_isa();

    *isa = best;
    if (!name || (!option && !*name))
        return TERN_OK;
    TERN_REQUIRE(ctx, tern_isa_parse(name, isa), TERN_ERR_ARG, "%s: got \"%s\", expected " TERN_ISA_NAMES, source,
                 name);
    TERN_REQUIRE(ctx, tern_machine_has(*isa), TERN_ERR_ARG,
                 "%s: got \"%s\", which this machine does not have; the best that it has is %s", source, name,
                 tern_isa_name(best));
    return TERN_OK;
}

/* The size of the team: the option, else the environment, else what the system grants. */
static tern_status choose_threads(tern_ctx *ctx, int option, int *out)
{
    const char *text = getenv("TERN_THREADS");
    struct tern_cpus cpus;
    char *end;

    TERN_REQUIRE(ctx, option >= 0 && option <= TERN_MAX_THREADS, TERN_ERR_ARG, "n_threads: got %d, expected 0..%d",
                 option, TERN_MAX_THREADS);
    *out = option;
    ctx->threads_reason = "option";
    if (*out == 0 && text && *text) {
        const long value = strtol(text, &end, 10);
        TERN_REQUIRE(ctx, text[0] >= '0' && text[0] <= '9' && !*end && value <= TERN_MAX_THREADS, TERN_ERR_ARG,
                     "TERN_THREADS: got \"%s\", expected a number in 0..%d", text, TERN_MAX_THREADS);
        *out = (int)value;
        ctx->threads_reason = "TERN_THREADS";
    }
    if (*out == 0) {
        tern_cpus_read(&cpus);
        *out = tern_cpus_threads(&cpus, &ctx->threads_reason);
    }
    return TERN_OK;
}

/* What was measured on this machine before. */
static tern_status open_plans(tern_ctx *ctx, struct tern_kernels *kernels)
{
    const char *text = getenv("TERN_TUNE");

    TERN_REQUIRE(ctx, !text || !*text || strcmp(text, "off") == 0, TERN_ERR_ARG,
                 "TERN_TUNE: got \"%s\", expected off, or nothing", text);
    TERN_TRY(tern_plans_create(ctx, &ctx->plans));
    kernels->plans = ctx->plans;
    ctx->plans->off = text && *text;
    if (!ctx->plans->off)
        tern_plans_load(ctx->plans, ctx->isa);
    return TERN_OK;
}

static tern_status fill(tern_ctx *ctx, const tern_ctx_options *options)
{
    struct tern_kernels *kernels;
    enum tern_isa isa;
    int n_threads;

    TERN_TRY(TERN_CHECK_RESERVED(ctx, "ctx_create", options));
    TERN_TRY(choose_threads(ctx, options->n_threads, &n_threads));
    TERN_TRY(choose_isa(ctx, options->cpu, &isa));

    ctx->isa = tern_isa_name(isa);
    TERN_TRY(TERN_ALLOC(ctx, 1, "the table of kernels", &kernels));
    ctx->kernels = kernels;
    tern_kernels_init(kernels, isa);
    TERN_TRY(open_plans(ctx, kernels));
    return tern_team_create(ctx, n_threads, &ctx->team);
}

tern_status tern_ctx_create(tern_ctx **out, const tern_ctx_options *options, char *message, size_t message_size)
{
    const tern_ctx_options standard = tern_ctx_options_default();
    struct tern_ctx reason = { 0 }; /* only for the text, while there is no context */
    tern_ctx *ctx = NULL;
    tern_status status;

    if (message && message_size > 0)
        message[0] = '\0';
    if (!out)
        status = tern_fail(&reason, TERN_ERR_ARG, "out is NULL, expected a place for the context");
    else
        status = TERN_ALLOC(&reason, 1, "a context", &ctx);
    if (status == TERN_OK)
        status = fill(ctx, options ? options : &standard);
    if (status != TERN_OK) {
        if (message && message_size > 0)
            snprintf(message, message_size, "%s", ctx ? ctx->error : reason.error);
        tern_ctx_destroy(&ctx);
    }
    if (out)
        *out = ctx;
    return status;
}

void tern_ctx_destroy(tern_ctx **ctx)
{
    if (!ctx || !*ctx)
        return;
    tern_team_destroy((*ctx)->team);
    tern_scratch_drop(*ctx);
    tern_trace_free((*ctx)->trace);
    tern_plans_destroy((*ctx)->plans);
    tern_free((void *)(uintptr_t)(*ctx)->kernels);
    tern_free(*ctx);
    *ctx = NULL;
}
