/* fault_from_environment.c: linked with the command's own sources and faults.c, makes one of its allocations fail.
 *
 * TERN_FAULT=N: the N-th call fails, counted from 0 at the start of main; with TERN_FAULT_OPEN set, from where the model is opened, when
 * MPI has made what it needs.  At exit the number of calls is written to the file that TERN_FAULT_COUNT names. */
#include "faults.h"

#include <tern/model.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void tell(void)
{
    const long count = fault_count();
    const char *path = getenv("TERN_FAULT_COUNT");
    char text[32];

    fault_disarm();
    const int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    if (fd < 0)
        return;
    const int n = snprintf(text, sizeof text, "%ld\n", count);
    if (write(fd, text, (size_t)n) != n)
        _exit(99);
    close(fd);
}

__attribute__((constructor)) static void begin(void)
{
    const char *fault = getenv("TERN_FAULT");

    atexit(tell);
    if (fault && !getenv("TERN_FAULT_OPEN"))
        fault_arm(atol(fault));
    else
        fault_count_start();
}

/* The linker gives the command's calls of tern_model_open() to this one. */
tern_status __real_tern_model_open(tern_ctx *ctx, const char *name, const tern_model_options *options,
                                   tern_model **out);
tern_status __wrap_tern_model_open(tern_ctx *ctx, const char *name, const tern_model_options *options,
                                   tern_model **out);
tern_status __wrap_tern_model_open(tern_ctx *ctx, const char *name, const tern_model_options *options, tern_model **out)
{
    const char *fault = getenv("TERN_FAULT");

    if (fault && getenv("TERN_FAULT_OPEN"))
        fault_arm(atol(fault));
    return __real_tern_model_open(ctx, name, options, out);
}
