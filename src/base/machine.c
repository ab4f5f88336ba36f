/* machine.c: instruction set, processors that we may use, the clock.
 *
 * Files under /proc and /sys are read with plain system calls into fixed buffers: nothing here can run out of memory, and
 * what cannot be read or understood limits nothing. */
#include "base/machine.h"
#include "base/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- instruction set ---- */

#if defined(__x86_64__)
#include <cpuid.h>

/* Register state that the system saves on a context switch: without that an instruction that exists must not be used. */
static unsigned saved_state(void)
{
    unsigned low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

enum tern_isa tern_machine_isa(void)
{
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29; /* leaf 1, ecx */
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  /* leaf 7, ebx: F DQ BW VL */
    const unsigned vnni = 1u << 11, bf16 = 1u << 5; /* leaf 7, ecx; subleaf 1, eax */
    const unsigned ymm_state = 1u << 1 | 1u << 2, zmm_state = ymm_state | 1u << 5 | 1u << 6 | 1u << 7;
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave | avx | f16c)) != (fma | osxsave | avx | f16c))
        return TERN_ISA_PORTABLE;
    const unsigned state = saved_state();
    if ((state & ymm_state) != ymm_state || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2))
        return TERN_ISA_PORTABLE;
    if ((state & zmm_state) != zmm_state || (b & avx512) != avx512)
        return TERN_ISA_AVX2;
    if (!(c & vnni))
        return TERN_ISA_AVX512;
    /* a holds the last subleaf of leaf 7 */
    if (a < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & bf16))
        return TERN_ISA_AVX512VNNI;
    return TERN_ISA_AVX512BF16;
}
#else
enum tern_isa tern_machine_isa(void)
{
    return TERN_ISA_PORTABLE;
}
#endif

static const char *const isa_names[TERN_ISA_COUNT] = { "portable", "avx2", "avx512", "avx512vnni", "avx512bf16" };

const char *tern_isa_name(enum tern_isa isa)
{
    return isa_names[isa];
}

bool tern_isa_parse(const char *name, enum tern_isa *out)
{
    for (int i = 0; i < TERN_ISA_COUNT; i++)
        if (strcmp(name, isa_names[i]) == 0) {
            *out = (enum tern_isa)i;
            return true;
        }
    return false;
}

/* ---- reading small files ---- */

struct lines {
    int fd;
    size_t begin, end;
    char buffer[4096];
};

static bool lines_open(struct lines *in, const char *root, const char *path)
{
    char full[PATH_MAX];

    in->begin = in->end = 0;
    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return false;
    in->fd = open(full, O_RDONLY | O_CLOEXEC);
    return in->fd >= 0;
}

/* The next line without its end, NULL at the end of the file.  A line longer than the buffer comes in pieces. */
static char *lines_next(struct lines *in)
{
    for (;;) {
        char *newline = memchr(in->buffer + in->begin, '\n', in->end - in->begin);
        if (newline) {
            char *line = in->buffer + in->begin;
            *newline = '\0';
            in->begin = (size_t)(newline + 1 - in->buffer);
            return line;
        }
        memmove(in->buffer, in->buffer + in->begin, in->end - in->begin);
        in->end -= in->begin;
        in->begin = 0;
        const size_t room = sizeof in->buffer - 1 - in->end;
        const ssize_t got = room ? read(in->fd, in->buffer + in->end, room) : 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            if (in->end == 0)
                return NULL;
            in->buffer[in->end] = '\0';
            in->begin = in->end;
            return in->buffer;
        }
        in->end += (size_t)got;
    }
}

static bool first_line(const char *root, const char *path, char *out, size_t size)
{
    struct lines in;

    if (!lines_open(&in, root, path))
        return false;
    const char *line = lines_next(&in);
    if (line)
        snprintf(out, size, "%s", line);
    close(in.fd);
    return line != NULL;
}

/* ---- cgroup quota ----
 *
 * /proc/self/cgroup names our group in each hierarchy, /proc/self/mountinfo where hierarchies are mounted and which group
 * their mount shows as its root (in a container often our own).  A quota binds at every level, so all levels from our
 * group up to the mount are asked and the smallest counts. */

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

/* CPUs that quota / period microseconds make, rounded up; INT_MAX for no limit. */
static int quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return INT_MAX;
    const long long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

static int group_quota(const char *root, const char *dir, bool v2)
{
    char path[PATH_MAX + 32], text[64];
    long long quota, period;

    if (v2) {
        snprintf(path, sizeof path, "%s/cpu.max", dir);
        if (!first_line(root, path, text, sizeof text) || sscanf(text, "%lld %lld", &quota, &period) != 2)
            return INT_MAX; /* "max 100000" among them */
        return quota_cpus(quota, period);
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
    if (!first_line(root, path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1)
        return INT_MAX;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    if (!first_line(root, path, text, sizeof text) || sscanf(text, "%lld", &period) != 1)
        return INT_MAX;
    return quota_cpus(quota, period);
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
        found = v2 ? strcmp(line, "0") == 0 && !*controllers : has_word(controllers, "cpu");
        if (found)
            snprintf(out, size, "%s", path);
    }
    close(in.fd);
    return found;
}

/* The smallest quota between our group and the mount. */
static int hierarchy_quota(const char *root, const char *mount_root, const char *mount_point, bool v2)
{
    char group[PATH_MAX / 2], dir[PATH_MAX];
    const size_t root_len = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root), point_len = strlen(mount_point);
    int smallest = INT_MAX;

    if (!own_group(root, v2, group, sizeof group))
        return INT_MAX;
    /* A group outside of what the mount shows: then the mount's own root is all that there is to ask. */
    const bool inside =
        strncmp(group, mount_root, root_len) == 0 && (group[root_len] == '/' || group[root_len] == '\0');
    if (snprintf(dir, sizeof dir, "%s%s", mount_point, inside ? group + root_len : "") >= (int)sizeof dir)
        return INT_MAX;
    for (;;) {
        const int cpus = group_quota(root, dir, v2);
        if (cpus < smallest)
            smallest = cpus;
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < point_len)
            return smallest;
        *slash = '\0';
    }
}

int tern_machine_quota(const char *root)
{
    struct lines in;
    int smallest = INT_MAX;

    if (!lines_open(&in, root, "/proc/self/mountinfo"))
        return INT_MAX;
    for (char *line = lines_next(&in); line; line = lines_next(&in)) {
        /* 36 35 98:0 ROOT MOUNT-POINT options [tags] - TYPE source SUPER-OPTIONS */
        char mount_root[1024], mount_point[1024], type[32], super[256];
        char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %1023s %1023s", mount_root, mount_point) != 2 ||
            sscanf(dash, " - %31s %*s %255s", type, super) != 2)
            continue;
        const bool v2 = strcmp(type, "cgroup2") == 0;
        if (!v2 && (strcmp(type, "cgroup") != 0 || !has_word(super, "cpu")))
            continue;
        const int cpus = hierarchy_quota(root, mount_root, mount_point, v2);
        if (cpus < smallest)
            smallest = cpus;
    }
    close(in.fd);
    return smallest;
}

/* ---- processors ---- */

#define MAX_CPUS 8192

/* The processors that this process may run on, as a bit mask. */
static size_t affinity_mask(unsigned char mask[MAX_CPUS / 8])
{
    /* The system's view of the type only: the mask is read as the array of long that it is. */
    unsigned long words[MAX_CPUS / (8 * sizeof(unsigned long))] = { 0 };
    const size_t word_bits = 8 * sizeof words[0];
    size_t n = 0;

    memset(mask, 0, MAX_CPUS / 8);
    if (sched_getaffinity(0, sizeof words, (cpu_set_t *)(void *)words) != 0)
        return 0;
    for (size_t cpu = 0; cpu < MAX_CPUS; cpu++)
        if (words[cpu / word_bits] >> cpu % word_bits & 1) {
            mask[cpu / 8] |= (unsigned char)(1u << cpu % 8);
            n++;
        }
    return n;
}

int tern_machine_allowed(void)
{
    unsigned char mask[MAX_CPUS / 8];
    const size_t n = affinity_mask(mask);

    return n ? (int)n : 1;
}

int tern_machine_cores(const char *root, const unsigned char *mask, size_t n_cpus)
{
    unsigned char seen[MAX_CPUS / 8] = { 0 };
    int cores = 0;

    for (size_t cpu = 0; cpu < n_cpus && cpu < MAX_CPUS; cpu++) {
        char path[96], text[64];
        size_t first = cpu; /* a core is known by the first of its siblings; without topology each is its own */

        if (!(mask[cpu / 8] >> cpu % 8 & 1))
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
        if (first_line(root, path, text, sizeof text)) {
            char *end;
            const unsigned long value = strtoul(text, &end, 10);
            if (end != text && value < MAX_CPUS)
                first = value;
        }
        if (!(seen[first / 8] >> first % 8 & 1)) {
            seen[first / 8] |= (unsigned char)(1u << first % 8);
            cores++;
        }
    }
    return cores;
}

bool tern_machine_online(const char *root, unsigned char *mask, size_t n_cpus)
{
    char text[1024], *at = text, *end;

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

int tern_machine_smallest(int allowed, int quota, int cores, const char **reason)
{
    int n = cores;

    *reason = "physical cores";
    if (quota < n) {
        n = quota;
        *reason = "cgroup quota";
    }
    if (allowed < n) {
        n = allowed;
        *reason = "affinity mask";
    }
    return n < 1 ? 1 : n > TERN_MAX_THREADS ? TERN_MAX_THREADS : n;
}

int tern_machine_threads(const char **reason)
{
    unsigned char mask[MAX_CPUS / 8];
    const size_t allowed = affinity_mask(mask);

    if (allowed == 0) { /* no mask to be had: one thread is always right */
        *reason = "affinity mask";
        return 1;
    }
    /* The mask decides where it leaves cores out: two processors of one core are one thread's worth in any case. */
    const int mine = tern_machine_cores("", mask, MAX_CPUS);
    unsigned char online[MAX_CPUS / 8];
    const int all = tern_machine_online("", online, MAX_CPUS) ? tern_machine_cores("", online, MAX_CPUS) : mine;
    return tern_machine_smallest(mine, tern_machine_quota(""), all, reason);
}

double tern_machine_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
