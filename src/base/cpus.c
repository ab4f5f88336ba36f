/* cpus.c: affinity mask, cgroup quota, cores.
 *
 * Files under /proc and /sys are read with plain system calls into fixed buffers: nothing here can run out of memory, and
 * what cannot be read or understood limits nothing. */
#include "base/cpus.h"
#include "base/threads.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reading small files ---- */

struct lines {
    int fd;
    size_t begin, end;
    char buffer[2 * PATH_MAX]; /* a group's path and what stands before it, or two paths of a mount */
};

static bool lines_open(struct lines *in, const char *root, const char *path)
{
    char full[2 * PATH_MAX];

    in->begin = in->end = 0;
    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return false;
    in->fd = open(full, O_RDONLY | O_CLOEXEC);
    return in->fd >= 0;
}

/* The next line without its end, NULL at the end of the file.  A line longer than the buffer is left out whole: its pieces
 * would be taken for lines. */
static char *lines_next(struct lines *in)
{
    bool too_long = false;

    for (;;) {
        char *line = in->buffer + in->begin, *newline = memchr(line, '\n', in->end - in->begin);
        if (newline) {
            *newline = '\0';
            in->begin = (size_t)(newline + 1 - in->buffer);
            if (!too_long)
                return line;
            too_long = false;
            continue;
        }
        memmove(in->buffer, line, in->end - in->begin);
        in->end -= in->begin;
        in->begin = 0;
        if (in->end == sizeof in->buffer - 1) {
            too_long = true;
            in->end = 0;
        }
        const ssize_t got = read(in->fd, in->buffer + in->end, sizeof in->buffer - 1 - in->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            if (in->end == 0 || too_long)
                return NULL;
            in->buffer[in->end] = '\0';
            in->begin = in->end;
            return in->buffer;
        }
        in->end += (size_t)got;
    }
}

/* The first line of a file, which must fit. */
static bool first_line(const char *root, const char *path, char *out, size_t size)
{
    struct lines in;
    bool found = false;

    if (!lines_open(&in, root, path))
        return false;
    const char *line = lines_next(&in);
    if (line)
        found = (size_t)snprintf(out, size, "%s", line) < size;
    close(in.fd);
    return found;
}

/* ---- cgroup quota ----
 *
 * /proc/self/cgroup names our group in each hierarchy, /proc/self/mountinfo where hierarchies are mounted and which group
 * their mount shows as its root (in a container often our own).  A quota binds at every level, so all levels from our
 * group up to the mount are asked and the smallest counts. */

struct quota {
    double cpus; /* INFINITY: no limit */
    char *file;  /* [PATH_MAX] */
};

/* Whether `option` is one of the comma-separated words of `list`. */
static bool has_word(const char *list, const char *option)
{
    const size_t n = strlen(option);

    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, option, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* A number above 0 that ends at `end` or at the end of the text; 0 for anything else ("max", -1). */
static double microseconds(const char *text, char end)
{
    char *rest;

    errno = 0;
    const long long value = strtoll(text, &rest, 10);
    return rest != text && !errno && value > 0 && (*rest == end || *rest == '\0') ? (double)value : 0;
}

/* Takes the quota that a group's folder holds, if it is the smallest so far. */
static void group_quota(const char *root, const char *dir, bool v2, struct quota *quota)
{
    char path[PATH_MAX], text[64];
    double used, period = 0;

    if (snprintf(path, sizeof path, "%s/cpu.%s", dir, v2 ? "max" : "cfs_period_us") >= (int)sizeof path ||
        !first_line(root, path, text, sizeof text))
        return;
    if (v2) { /* "150000 100000" */
        const char *space = strchr(text, ' ');
        used = microseconds(text, ' ');
        if (space)
            period = microseconds(space + 1, '\0');
    } else {
        period = microseconds(text, '\0');
        if (snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir) >= (int)sizeof path ||
            !first_line(root, path, text, sizeof text))
            return;
        used = microseconds(text, '\0');
    }
    if (used > 0 && period > 0 && used / period < quota->cpus) {
        quota->cpus = used / period;
        memcpy(quota->file, path, strlen(path) + 1);
    }
}

/* Our group in the hierarchy of the cpu controller (v1), or in the unified one (v2). */
static bool own_group(const char *root, bool v2, char *out, size_t size)
{
    struct lines in;
    bool found = false;

    if (!lines_open(&in, root, "/proc/self/cgroup"))
        return false;
    for (char *line = lines_next(&in); line && !found; line = lines_next(&in)) {
        /* number:controllers:path; the unified hierarchy has number 0 and no controllers */
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *controllers++ = '\0';
        *path++ = '\0';
        if (v2 ? strcmp(line, "0") == 0 && !*controllers : has_word(controllers, "cpu"))
            found = (size_t)snprintf(out, size, "%s", path) < size;
    }
    close(in.fd);
    return found;
}

/* Whether a path climbs: so the system writes a group that lies outside of this process's cgroup namespace. */
static bool climbs(const char *path)
{
    for (const char *p = path; (p = strstr(p, "/..")); p += 3)
        if (p[3] == '/' || p[3] == '\0')
            return true;
    return false;
}

static void hierarchy_quota(const char *root, const char *mount_root, const char *mount_point, bool v2,
                            struct quota *quota)
{
    char group[PATH_MAX], dir[PATH_MAX];
    const size_t root_len = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root), point_len = strlen(mount_point);

    if (!own_group(root, v2, group, sizeof group))
        return;
    /* A group outside of what the mount shows: then the mount's own root is all that there is to ask. */
    const bool inside = !climbs(group) && strncmp(group, mount_root, root_len) == 0 &&
                        (group[root_len] == '/' || group[root_len] == '\0');
    const char *below = inside && strcmp(group + root_len, "/") != 0 ? group + root_len : "";
    if (snprintf(dir, sizeof dir, "%s%s", mount_point, below) >= (int)sizeof dir)
        return;
    for (;;) {
        group_quota(root, dir, v2, quota);
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < point_len)
            return;
        *slash = '\0';
    }
}

/* Cuts the next field off a line of fields parted by spaces, and puts back what the system wrote as \ooo (space, tab, newline,
 * backslash).  NULL at the end. */
static char *next_field(char **line)
{
    char *field = *line + strspn(*line, " "), *to = field;

    if (!*field)
        return NULL;
    char *end = field + strcspn(field, " ");
    *line = *end ? end + 1 : end;
    *end = '\0';
    for (const char *p = field; *p; p++) {
        const bool escape =
            p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7';
        *to++ = escape ? (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0')) : *p;
        p += escape ? 3 : 0;
    }
    *to = '\0';
    return field;
}

double tern_cpus_quota(const char *root, char file[PATH_MAX])
{
    struct quota quota = { .cpus = INFINITY, .file = file };
    struct lines in;

    file[0] = '\0';
    if (!lines_open(&in, root, "/proc/self/mountinfo"))
        return 0;
    for (char *line = lines_next(&in); line; line = lines_next(&in)) {
        /* 36 35 98:0 ROOT MOUNT-POINT options [tags] - TYPE source SUPER-OPTIONS */
        char *tail = strstr(line, " - ");
        if (!tail)
            continue;
        *tail = '\0';
        tail += 3;
        for (int i = 0; i < 3; i++)
            next_field(&line);
        const char *mount_root = next_field(&line), *mount_point = next_field(&line);
        const char *type = next_field(&tail), *source = next_field(&tail), *options = next_field(&tail);
        if (!mount_point || !source || !options)
            continue;
        const bool v2 = strcmp(type, "cgroup2") == 0;
        if (v2 || (strcmp(type, "cgroup") == 0 && has_word(options, "cpu")))
            hierarchy_quota(root, mount_root, mount_point, v2, &quota);
    }
    close(in.fd);
    return file[0] ? quota.cpus : 0;
}

/* ---- processors ---- */

/* The processors that this thread may run on, as a bit mask; false if the system does not tell. */
static bool affinity_mask(unsigned char mask[TERN_MAX_CPUS / 8])
{
    /* The system's view of the type only: the mask is read as the array of long that it is, because cpu_set_t ends at 1024. */
    unsigned long words[TERN_MAX_CPUS / (8 * sizeof(unsigned long))] = { 0 };
    const size_t word_bits = 8 * sizeof words[0];

    memset(mask, 0, TERN_MAX_CPUS / 8);
    if (sched_getaffinity(0, sizeof words, (cpu_set_t *)(void *)words) != 0)
        return false;
    for (size_t cpu = 0; cpu < TERN_MAX_CPUS; cpu++)
        if (words[cpu / word_bits] >> cpu % word_bits & 1)
            mask[cpu / 8] |= (unsigned char)(1u << cpu % 8);
    return true;
}

static int count_bits(const unsigned char *mask, size_t n_cpus)
{
    int n = 0;

    for (size_t cpu = 0; cpu < n_cpus; cpu++)
        n += mask[cpu / 8] >> cpu % 8 & 1;
    return n;
}

int tern_cpus_cores(const char *root, const unsigned char *mask, size_t n_cpus)
{
    unsigned char seen[TERN_MAX_CPUS / 8] = { 0 };

    for (size_t cpu = 0; cpu < n_cpus; cpu++) {
        char path[96], text[1024];
        size_t first = cpu; /* a core is known by the first of its siblings; without topology each is its own */

        if (!(mask[cpu / 8] >> cpu % 8 & 1))
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
        if (first_line(root, path, text, sizeof text)) {
            char *end;
            const unsigned long value = strtoul(text, &end, 10);
            if (end != text && value < TERN_MAX_CPUS)
                first = value;
        }
        seen[first / 8] |= (unsigned char)(1u << first % 8);
    }
    return count_bits(seen, TERN_MAX_CPUS);
}

bool tern_cpus_online(const char *root, unsigned char *mask, size_t n_cpus)
{
    char text[PATH_MAX], *at = text, *end;

    memset(mask, 0, n_cpus / 8);
    if (!first_line(root, "/sys/devices/system/cpu/online", text, sizeof text))
        return false;
    for (;; at = end + 1) { /* "0-3,8,10-11" */
        const unsigned long first = strtoul(at, &end, 10);
        unsigned long last = first;

        if (end == at)
            return false;
        if (*end == '-') {
            at = end + 1;
            last = strtoul(at, &end, 10);
            if (end == at)
                return false;
        }
        for (unsigned long cpu = first; cpu <= last && cpu < n_cpus; cpu++)
            mask[cpu / 8] |= (unsigned char)(1u << cpu % 8);
        if (*end != ',')
            return true;
    }
}

/* ---- all of it ---- */

static int at_least_1(int n)
{
    return n < 1 ? 1 : n;
}

void tern_cpus_read_from(const char *root, const unsigned char *mask, size_t n_cpus, struct tern_cpus *out)
{
    unsigned char online[TERN_MAX_CPUS / 8];

    out->allowed = at_least_1(count_bits(mask, n_cpus));
    out->allowed_cores = at_least_1(tern_cpus_cores(root, mask, n_cpus));
    out->cores = out->allowed_cores;
    if (tern_cpus_online(root, online, TERN_MAX_CPUS)) {
        const int cores = tern_cpus_cores(root, online, TERN_MAX_CPUS);
        if (cores > out->cores)
            out->cores = cores;
    }
    out->quota = tern_cpus_quota(root, out->quota_file);
}

void tern_cpus_read(struct tern_cpus *out)
{
    unsigned char mask[TERN_MAX_CPUS / 8];

    /* No mask to be had leaves the mask empty, and so one thread, which is always right. */
    (void)affinity_mask(mask);
    tern_cpus_read_from("", mask, TERN_MAX_CPUS, out);
}

double tern_cpus_granted(void)
{
    unsigned char mask[TERN_MAX_CPUS / 8];
    char file[PATH_MAX];
    const int allowed = affinity_mask(mask) ? at_least_1(count_bits(mask, TERN_MAX_CPUS)) : 1;
    const double quota = tern_cpus_quota("", file);

    return quota > 0 && quota < allowed ? quota : allowed;
}

int tern_cpus_threads(const struct tern_cpus *cpus, const char **reason)
{
    int n = cpus->cores;

    *reason = "physical cores";
    if (cpus->quota > 0 && ceil(cpus->quota) < n) {
        n = (int)ceil(cpus->quota);
        *reason = "cgroup quota";
    }
    if (cpus->allowed_cores < n) {
        n = cpus->allowed_cores;
        *reason = "affinity mask";
    }
    return n < 1 ? 1 : n > TERN_MAX_THREADS ? TERN_MAX_THREADS : n;
}

void tern_cpus_print(const struct tern_cpus *cpus, char *out, size_t size)
{
    char text[PATH_MAX + 256];
    int n;

    if (size == 0)
        return;
    n = snprintf(text, sizeof text, "%d processor%s on %d of %d core%s; ", cpus->allowed, cpus->allowed == 1 ? "" : "s",
                 cpus->allowed_cores, cpus->cores, cpus->cores == 1 ? "" : "s");
    if (cpus->quota > 0)
        snprintf(text + n, sizeof text - (size_t)n, "cgroup quota of %.4g CPUs (%s)", cpus->quota, cpus->quota_file);
    else
        snprintf(text + n, sizeof text - (size_t)n, "no cgroup quota");
    const size_t length = strlen(text), kept = length < size ? length : tern_utf8_uncut(text, size - 1);
    memcpy(out, text, kept);
    out[kept] = '\0';
}

void tern_cpus_describe(char *out, size_t size)
{
    struct tern_cpus cpus;

    if (!out)
        return;
    tern_cpus_read(&cpus);
    tern_cpus_print(&cpus, out, size);
}
