/* machine_memory.c: how much memory there is to be had.
 *
 * A limit binds at every level of a cgroup hierarchy, so all levels from our group up to the mount are asked.  Hierarchies are looked
 * for where systems mount them; a file that is not there limits nothing. */
#include "base/machine.h"

#include <tern/machine.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The beginning of a small file as a text. */
static bool read_text(const char *root, const char *path, char *text, size_t size)
{
    char full[PATH_MAX];
    size_t n = 0;

    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return false;
    const int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while (n + 1 < size) {
        const ssize_t got = read(fd, text + n, size - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    text[n] = '\0';
    return n > 0;
}

/* A number in a file of its own; `missing` if it has none ("max" among them). */
static uint64_t read_number(const char *root, const char *path, uint64_t missing)
{
    char text[64], *end;

    if (!read_text(root, path, text, sizeof text) || text[0] < '0' || text[0] > '9')
        return missing;
    errno = 0;
    const unsigned long long x = strtoull(text, &end, 10);
    return errno ? missing : x;
}

static uint64_t system_available(const char *root)
{
    char text[4096];
    unsigned long long kilobytes;

    if (!read_text(root, "/proc/meminfo", text, sizeof text))
        return UINT64_MAX;
    const char *line = strstr(text, "\nMemAvailable:");
    if (!line || sscanf(line, "\nMemAvailable: %llu kB", &kilobytes) != 1 || kilobytes > UINT64_MAX / 1024)
        return UINT64_MAX;
    return kilobytes * 1024;
}

/* Our group in the unified hierarchy (v2), or in that of the memory controller (v1), to `group`. */
static bool own_group(const char *root, bool v2, char *group, size_t size)
{
    char text[4096], *rest = text;

    if (!read_text(root, "/proc/self/cgroup", text, sizeof text))
        return false;
    for (char *line; (line = strsep(&rest, "\n"));) {
        /* number:controllers:path; the unified hierarchy has number 0 and no controllers */
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *controllers++ = '\0';
        *path++ = '\0';
        bool found = v2 && strcmp(line, "0") == 0 && !*controllers;
        for (char *word; !v2 && !found && (word = strsep(&controllers, ","));)
            found = strcmp(word, "memory") == 0;
        if (found)
            return snprintf(group, size, "%s", path) < (int)size;
    }
    return false;
}

static uint64_t group_available(const char *root, bool v2)
{
    const char *mount = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    char group[PATH_MAX / 2], path[PATH_MAX];
    uint64_t least = UINT64_MAX;

    if (!own_group(root, v2, group, sizeof group))
        return least;
    for (char *slash = group + strlen(group); slash; slash = strrchr(group, '/')) {
        *slash = '\0';
        snprintf(path, sizeof path, "%s%s/memory.%s", mount, group, v2 ? "max" : "limit_in_bytes");
        const uint64_t limit = read_number(root, path, UINT64_MAX);
        snprintf(path, sizeof path, "%s%s/memory.%s", mount, group, v2 ? "current" : "usage_in_bytes");
        const uint64_t used = read_number(root, path, 0);
        if (limit != UINT64_MAX && (limit > used ? limit - used : 0) < least)
            least = limit > used ? limit - used : 0;
    }
    return least;
}

uint64_t tern_machine_memory(const char *root)
{
    const uint64_t all = system_available(root), v1 = group_available(root, false), v2 = group_available(root, true);
    const uint64_t group = v1 < v2 ? v1 : v2;

    return all < group ? all : group;
}

uint64_t tern_memory_available(void)
{
    return tern_machine_memory("");
}
