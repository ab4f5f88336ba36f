/* test_cpus.c: the processors that are granted and who decided, on recorded machines and on this one. */
#include "testing.h"

#include "base/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Writes root/path, making the folders above it. */
static void put(const char *root, const char *path, const char *text)
{
    char full[4096];

    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(full, 0700) != 0)
            assert_int_equal(errno, EEXIST);
        *slash = '/';
    }
    char *name = strrchr(full, '/');
    *name = '\0';
    test_write(full, name + 1, text, strlen(text));
}

/* The quota under `root`, and the file that it is from. */
static void assert_quota(const char *root, double cpus, const char *file)
{
    char got[PATH_MAX];

    assert_true(tern_cpus_quota(root, got) == cpus); /* small fractions: exact */
    assert_string_equal(got, file);
}

/* ---- quotas ---- */

static void quota_v2(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    assert_quota(root, 0, ""); /* nothing there at all */
    put(root, "/proc/self/cgroup", "0::/a.slice/b.scope\n");
    put(root, "/proc/self/mountinfo",
        "22 1 0:20 / / rw - ext4 /dev/sda rw\n"
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    assert_quota(root, 0, "");
    put(root, "/sys/fs/cgroup/a.slice/b.scope/cpu.max", "max 100000\n");
    assert_quota(root, 0, "");
    put(root, "/sys/fs/cgroup/a.slice/cpu.max", "350000 100000\n");
    assert_quota(root, 3.5, "/sys/fs/cgroup/a.slice/cpu.max");
    put(root, "/sys/fs/cgroup/a.slice/b.scope/cpu.max", "150000 50000\n");
    assert_quota(root, 3, "/sys/fs/cgroup/a.slice/b.scope/cpu.max");
    put(root, "/sys/fs/cgroup/cpu.max", "50000 100000\n");
    assert_quota(root, 0.5, "/sys/fs/cgroup/cpu.max");
    put(root, "/sys/fs/cgroup/cpu.max", "nonsense\n");
    assert_quota(root, 3, "/sys/fs/cgroup/a.slice/b.scope/cpu.max");
    /* At the root of the hierarchy, as a container with a namespace of its own sees itself. */
    put(root, "/proc/self/cgroup", "0::/\n");
    put(root, "/sys/fs/cgroup/cpu.max", "250000 100000\n");
    assert_quota(root, 2.5, "/sys/fs/cgroup/cpu.max");
    test_remove_dir(root);
}

static void quota_v1(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    put(root, "/proc/self/cgroup", "12:cpuset:/\n4:cpu,cpuacct:/docker/0123/inner\n1:name=systemd:/x\n0::/x\n");
    put(root, "/proc/self/mountinfo",
        "40 30 0:30 /docker/0123 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct\n"
        "41 30 0:31 /docker/0123 /sys/fs/cgroup/cpuset ro,nosuid master:12 - cgroup cgroup rw,cpuset\n");
    put(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "600000\n");
    assert_quota(root, 0, ""); /* no period */
    put(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_quota(root, 6, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us");
    put(root, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "-1\n");
    put(root, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us", "100000\n");
    assert_quota(root, 6, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us");
    put(root, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "150000\n");
    assert_quota(root, 1.5, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us");
    /* A group that the mount does not show: its root is what is left to ask. */
    put(root, "/proc/self/cgroup", "4:cpu,cpuacct:/docker/01234\n");
    assert_quota(root, 6, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us");
    test_remove_dir(root);
}

/* Both hierarchies at once, as systemd's hybrid mode has them: each binds. */
static void quota_in_both(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    put(root, "/proc/self/cgroup", "1:cpu:/one\n0::/two\n");
    put(root, "/proc/self/mountinfo",
        "30 22 0:26 / /cg/unified rw - cgroup2 cgroup2 rw\n31 22 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu\n");
    put(root, "/cg/unified/two/cpu.max", "300000 100000\n");
    put(root, "/cg/cpu/one/cpu.cfs_period_us", "100000\n");
    put(root, "/cg/cpu/one/cpu.cfs_quota_us", "400000\n");
    assert_quota(root, 3, "/cg/unified/two/cpu.max");
    put(root, "/cg/cpu/one/cpu.cfs_quota_us", "200000\n");
    assert_quota(root, 2, "/cg/cpu/one/cpu.cfs_quota_us");
    test_remove_dir(root);
}

/* A process outside of its cgroup namespace: the path climbs, and what is beside the mount is nobody's quota. */
static void group_outside_of_the_namespace(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    put(root, "/proc/self/cgroup", "0::/../other\n");
    put(root, "/proc/self/mountinfo", "30 22 0:26 / /cg/in rw - cgroup2 cgroup2 rw\n");
    put(root, "/cg/other/cpu.max", "100000 100000\n");
    put(root, "/cg/cpu.max", "100000 100000\n");
    assert_quota(root, 0, "");
    put(root, "/cg/in/cpu.max", "700000 100000\n");
    assert_quota(root, 7, "/cg/in/cpu.max");
    put(root, "/proc/self/cgroup", "0::/a..b\n"); /* no climbing */
    put(root, "/cg/in/a..b/cpu.max", "600000 100000\n");
    assert_quota(root, 6, "/cg/in/a..b/cpu.max");
    test_remove_dir(root);
}

static void odd_files(void **state)
{
    static const char *const no_limit[] = { "-5 0",   "9223372036854775808 1", "max",        "100000", "100000 0",
                                            "0 1000", "100000 100000x",        "1e5 1e5",    "",       "\n",
                                            " max ",  "100000\t100000",        "a b c d e f" };
    const char *root = test_temp_dir();
    char longest[5 * PATH_MAX];

    (void)state;
    /* Lines beyond every buffer, lines without their fields, no newline at the end: read past, not stumbled over. */
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest + sizeof longest - 20, "\n0::/g", 6);
    longest[sizeof longest - 14] = '\0';
    put(root, "/proc/self/cgroup", longest);
    put(root, "/proc/self/mountinfo", "\n - \nx - cgroup2\n - cgroup2 a b\n1 2 3 / /cg rw - cgroup2 none rw");
    put(root, "/cg/g/cpu.max", "200000 100000");
    assert_quota(root, 2, "/cg/g/cpu.max");
    for (size_t i = 0; i < sizeof no_limit / sizeof no_limit[0]; i++) {
        put(root, "/cg/g/cpu.max", no_limit[i]);
        assert_quota(root, 0, "");
    }
    /* The end of a line that is too long is no line. */
    memcpy(longest + 2 * (2 * PATH_MAX - 1), "0::/g", 5);
    longest[2 * (2 * PATH_MAX - 1) + 5] = '\0';
    put(root, "/proc/self/cgroup", longest);
    put(root, "/cg/g/cpu.max", "200000 100000");
    assert_quota(root, 0, "");
    test_remove_dir(root);
}

/* Spaces in paths are written as \040, a backslash as \134. */
static void odd_paths(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    put(root, "/proc/self/cgroup", "0::/my group/in\n");
    put(root, "/proc/self/mountinfo", "30 22 0:26 /my\\040group /c\\134g\\0401 rw - cgroup2 cgroup2 rw\n");
    put(root, "/c\\g 1/in/cpu.max", "400000 100000\n");
    assert_quota(root, 4, "/c\\g 1/in/cpu.max");
    test_remove_dir(root);
}

/* ---- processors ---- */

static void cores(void **state)
{
    const char *root = test_temp_dir();
    unsigned char mask[2] = { 0xFF, 0 };

    (void)state;
    /* Four cores of two threads: 0-3 are first threads, 4-7 their siblings. */
    for (int cpu = 0; cpu < 8; cpu++) {
        char path[128], text[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        snprintf(text, sizeof text, "%d,%d\n", cpu % 4, cpu % 4 + 4);
        put(root, path, text);
    }
    assert_int_equal(tern_cpus_cores(root, mask, 16), 4);
    mask[0] = 0x31; /* 0, 4 and 5: two cores */
    assert_int_equal(tern_cpus_cores(root, mask, 16), 2);
    mask[0] = 0x30; /* second threads alone are cores too */
    assert_int_equal(tern_cpus_cores(root, mask, 16), 2);
    mask[1] = 0x03; /* 8 and 9 have no topology: each its own */
    assert_int_equal(tern_cpus_cores(root, mask, 16), 4);
    test_remove_dir(root);
}

static void online(void **state)
{
    const char *root = test_temp_dir();
    unsigned char mask[2];

    (void)state;
    assert_false(tern_cpus_online(root, mask, 16));
    put(root, "/sys/devices/system/cpu/online", "0-2,5,9-40\n");
    assert_true(tern_cpus_online(root, mask, 16));
    assert_true(mask[0] == 0x27 && mask[1] == 0xFE);
    put(root, "/sys/devices/system/cpu/online", "7\n");
    assert_true(tern_cpus_online(root, mask, 16));
    assert_true(mask[0] == 0x80 && mask[1] == 0);
    put(root, "/sys/devices/system/cpu/online", "0-\n");
    assert_false(tern_cpus_online(root, mask, 16));
    put(root, "/sys/devices/system/cpu/online", "none\n");
    assert_false(tern_cpus_online(root, mask, 16));
    test_remove_dir(root);
}

/* A machine of 1536 cores with two threads each, more than cpu_set_t holds. */
static void large_machine(void **state)
{
    const char *root = test_temp_dir(), *reason;
    static unsigned char mask[TERN_MAX_CPUS / 8];
    struct tern_cpus cpus;

    (void)state;
    put(root, "/sys/devices/system/cpu/online", "0-3071\n");
    for (int cpu = 1400; cpu < 1440; cpu++) {
        char path[128], text[32];
        for (int sibling = 0; sibling < 2; sibling++) {
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
                     cpu + 1536 * sibling);
            snprintf(text, sizeof text, "%d,%d\n", cpu, cpu + 1536);
            put(root, path, text);
        }
        mask[cpu / 8] |= (unsigned char)(1u << cpu % 8);
        mask[(cpu + 1536) / 8] |= (unsigned char)(1u << (cpu + 1536) % 8);
    }
    tern_cpus_read_from(root, mask, TERN_MAX_CPUS, &cpus);
    assert_int_equal(cpus.allowed, 80);
    assert_int_equal(cpus.allowed_cores, 40);
    assert_int_equal(cpus.cores, 3072 - 40); /* the others are recorded without topology */
    assert_int_equal(tern_cpus_threads(&cpus, &reason), 40);
    assert_string_equal(reason, "affinity mask");
    test_remove_dir(root);
}

/* ---- the number of threads ---- */

static int threads(int allowed_cores, double quota, int cores, const char **reason)
{
    static struct tern_cpus cpus;

    cpus.allowed = cpus.allowed_cores = allowed_cores;
    cpus.quota = quota;
    cpus.cores = cores;
    return tern_cpus_threads(&cpus, reason);
}

static void smallest(void **state)
{
    const char *reason;

    (void)state;
    assert_int_equal(threads(8, 0, 4, &reason), 4);
    assert_string_equal(reason, "physical cores");
    assert_int_equal(threads(8, 3, 4, &reason), 3);
    assert_string_equal(reason, "cgroup quota");
    assert_int_equal(threads(8, 1.5, 4, &reason), 2);
    assert_string_equal(reason, "cgroup quota");
    assert_int_equal(threads(8, 0.01, 4, &reason), 1);
    assert_string_equal(reason, "cgroup quota");
    assert_int_equal(threads(2, 3, 4, &reason), 2);
    assert_string_equal(reason, "affinity mask");
    assert_int_equal(threads(2, 2, 2, &reason), 2);
    assert_string_equal(reason, "physical cores");
    assert_int_equal(threads(2, 2, 3, &reason), 2);
    assert_string_equal(reason, "cgroup quota");
    assert_int_equal(threads(4, 3.5, 4, &reason), 4); /* no less than all cores: they decide */
    assert_string_equal(reason, "physical cores");
    assert_int_equal(threads(5000, 0, 5000, &reason), 1024);
    assert_int_equal(threads(5000, 1e300, 5000, &reason), 1024);
}

static void described(void **state)
{
    static struct tern_cpus cpus = { .allowed = 8, .allowed_cores = 4, .cores = 16 };
    char text[200], small[9];

    (void)state;
    tern_cpus_print(&cpus, text, sizeof text);
    assert_string_equal(text, "8 processors on 4 of 16 cores; no cgroup quota");
    cpus = (struct tern_cpus){ 1, 1, 1, 1.5, "/cg/cpu.max" };
    tern_cpus_print(&cpus, text, sizeof text);
    assert_string_equal(text, "1 processor on 1 of 1 core; cgroup quota of 1.5 CPUs (/cg/cpu.max)");
    tern_cpus_print(&cpus, small, sizeof small);
    assert_string_equal(small, "1 proces");
    tern_cpus_print(&cpus, small, 1);
    assert_string_equal(small, "");
    tern_cpus_print(&cpus, NULL, 0);
    tern_cpus_describe(NULL, 5);
}

/* ---- this machine ---- */

static void this_machine(void **state)
{
    static struct tern_cpus cpus;
    const char *reason = NULL;
    char text[PATH_MAX + 256];

    (void)state;
    tern_cpus_read(&cpus);
    const int n = tern_cpus_threads(&cpus, &reason);
    assert_true(n >= 1 && n <= cpus.allowed && cpus.allowed_cores <= cpus.allowed);
    assert_non_null(reason);
    assert_true(tern_cpus_granted() > 0 && tern_cpus_granted() <= cpus.allowed);
    tern_cpus_describe(text, sizeof text);
    assert_non_null(strstr(text, "processor"));
}

/* A mask of one processor gives one thread, and says so where the machine has more. */
static void mask_of_one(void **state)
{
    static struct tern_cpus before, cpus;
    const char *reason, *old = getenv("TERN_THREADS");
    char *kept = old ? strdup(old) : NULL;
    cpu_set_t all, one;
    tern_ctx *ctx;
    int cpu = 0;

    (void)state;
    if (sched_getaffinity(0, sizeof all, &all) != 0)
        TEST_SKIP("more processors here than cpu_set_t holds");
    tern_cpus_read(&before);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    unsetenv("TERN_THREADS");
    tern_cpus_read(&cpus);
    const double granted = tern_cpus_granted();
    const tern_status status = tern_ctx_create(&ctx, NULL, NULL, 0);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    if (kept)
        setenv("TERN_THREADS", kept, 1);
    free(kept);
    assert_int_equal(status, TERN_OK);
    assert_int_equal(tern_ctx_threads(ctx), 1);
    assert_int_equal(cpus.allowed, 1);
    assert_int_equal(cpus.cores, before.cores);
    assert_true(granted <= 1);
    assert_int_equal(tern_cpus_threads(&cpus, &reason), 1);
    assert_string_equal(tern_ctx_threads_reason(ctx), reason);
    if (before.cores > 1 && cpus.quota == 0)
        assert_string_equal(reason, "affinity mask");
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quota_v2),      cmocka_unit_test(quota_v1),
        cmocka_unit_test(quota_in_both), cmocka_unit_test(group_outside_of_the_namespace),
        cmocka_unit_test(odd_files),     cmocka_unit_test(odd_paths),
        cmocka_unit_test(cores),         cmocka_unit_test(online),
        cmocka_unit_test(large_machine), cmocka_unit_test(smallest),
        cmocka_unit_test(described),     cmocka_unit_test(this_machine),
        cmocka_unit_test(mask_of_one),
    };

    return cmocka_run_group_tests_name("base/cpus", tests, NULL, NULL);
}
