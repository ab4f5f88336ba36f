/* fault_from_environment.c: linked with the command's own sources and faults.c, makes one of its allocations fail.
 *
 * TERN_FAULT=N: the N-th call fails, counted from 0 at the start of main.  At exit the number of calls is written to the
 * file that TERN_FAULT_COUNT names. */
#include "faults.h"

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
    if (fault)
        fault_arm(atol(fault));
    else
        fault_count_start();
}
