/* test_machine.c: what decides the number of threads, on recorded machines. */
#include "testing.h"

#include "base/machine.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
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

static void isa(void **state)
{
    enum tern_isa level;

    (void)state;
    for (int i = 0; i < TERN_ISA_COUNT; i++) {
        assert_true(tern_isa_parse(tern_isa_name((enum tern_isa)i), &level));
        assert_int_equal(level, i);
    }
    assert_false(tern_isa_parse("AVX2", &level));
    assert_false(tern_isa_parse("", &level));
    assert_true(tern_machine_isa() < TERN_ISA_COUNT);
}

/* The system's own list of flags must agree with CPUID. */
static void isa_agrees_with_kernel(void **state)
{
    static char line[16384];
    bool avx2 = false, avx512 = false, vnni = false, bf16 = false;
    FILE *f = fopen("/proc/cpuinfo", "r");

    (void)state;
#if !defined(__x86_64__)
    if (f)
        fclose(f);
    TEST_SKIP("the levels above portable belong to x86-64");
#endif
    if (!f)
        TEST_SKIP("no /proc/cpuinfo");
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "flags", 5) == 0) {
            avx2 = strstr(line, " avx2 ") && strstr(line, " fma ") && strstr(line, " f16c ");
            avx512 = avx2 && strstr(line, " avx512f ") && strstr(line, " avx512bw ") && strstr(line, " avx512dq ") &&
                     strstr(line, " avx512vl ");
            vnni = avx512 && strstr(line, " avx512_vnni ");
            bf16 = vnni && strstr(line, " avx512_bf16 ");
            break;
        }
    fclose(f);
    assert_int_equal(tern_machine_isa(), bf16     ? TERN_ISA_AVX512BF16
                                         : vnni   ? TERN_ISA_AVX512VNNI
                                         : avx512 ? TERN_ISA_AVX512
                                         : avx2   ? TERN_ISA_AVX2
                                                  : TERN_ISA_PORTABLE);
}

static void quota_v2(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    assert_int_equal(tern_machine_quota(root), INT_MAX); /* nothing there at all */
    put(root, "/proc/self/cgroup", "0::/a.slice/b.scope\n");
    put(root, "/proc/self/mountinfo",
        "22 1 0:20 / / rw - ext4 /dev/sda rw\n"
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    assert_int_equal(tern_machine_quota(root), INT_MAX);
    put(root, "/sys/fs/cgroup/a.slice/b.scope/cpu.max", "max 100000\n");
    assert_int_equal(tern_machine_quota(root), INT_MAX);
    put(root, "/sys/fs/cgroup/a.slice/cpu.max", "350000 100000\n");
    assert_int_equal(tern_machine_quota(root), 4); /* 3.5 of the level above, rounded up */
    put(root, "/sys/fs/cgroup/a.slice/b.scope/cpu.max", "150000 50000\n");
    assert_int_equal(tern_machine_quota(root), 3);
    put(root, "/sys/fs/cgroup/cpu.max", "10000 100000\n");
    assert_int_equal(tern_machine_quota(root), 1);
    put(root, "/sys/fs/cgroup/cpu.max", "nonsense\n");
    assert_int_equal(tern_machine_quota(root), 3);
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
    put(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_int_equal(tern_machine_quota(root), 6);
    put(root, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "-1\n");
    put(root, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us", "100000\n");
    assert_int_equal(tern_machine_quota(root), 6);
    put(root, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "150001\n");
    assert_int_equal(tern_machine_quota(root), 2);
    /* A group that the mount does not show: its root is what is left to ask. */
    put(root, "/proc/self/cgroup", "4:cpu,cpuacct:/docker/01234\n");
    assert_int_equal(tern_machine_quota(root), 6);
    test_remove_dir(root);
}

static void odd_files(void **state)
{
    const char *root = test_temp_dir();
    char longest[3 * 4096];

    (void)state;
    /* Lines beyond every buffer, lines without their fields, no newline at the end: read past, not stumbled over. */
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest + sizeof longest - 20, "\n0::/g", 6);
    longest[sizeof longest - 14] = '\0';
    put(root, "/proc/self/cgroup", longest);
    put(root, "/proc/self/mountinfo", "\n - \nx - cgroup2\n1 2 3 / /cg rw - cgroup2 none rw");
    put(root, "/cg/g/cpu.max", "200000 100000");
    assert_int_equal(tern_machine_quota(root), 2);
    put(root, "/cg/g/cpu.max", "-5 0");
    assert_int_equal(tern_machine_quota(root), INT_MAX);
    put(root, "/cg/g/cpu.max", "9223372036854775807 1");
    assert_int_equal(tern_machine_quota(root), INT_MAX);
    test_remove_dir(root);
}

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
    assert_int_equal(tern_machine_cores(root, mask, 16), 4);
    mask[0] = 0x31; /* 0, 4 and 5: two cores */
    assert_int_equal(tern_machine_cores(root, mask, 16), 2);
    mask[0] = 0x30; /* second threads alone are cores too */
    assert_int_equal(tern_machine_cores(root, mask, 16), 2);
    mask[1] = 0x03; /* 8 and 9 have no topology: each its own */
    assert_int_equal(tern_machine_cores(root, mask, 16), 4);
    test_remove_dir(root);
}

static void online(void **state)
{
    const char *root = test_temp_dir();
    unsigned char mask[2];

    (void)state;
    assert_false(tern_machine_online(root, mask, 16));
    put(root, "/sys/devices/system/cpu/online", "0-2,5,9-40\n");
    assert_true(tern_machine_online(root, mask, 16));
    assert_true(mask[0] == 0x27 && mask[1] == 0xFE);
    put(root, "/sys/devices/system/cpu/online", "7\n");
    assert_true(tern_machine_online(root, mask, 16));
    assert_true(mask[0] == 0x80 && mask[1] == 0);
    put(root, "/sys/devices/system/cpu/online", "0-\n");
    assert_false(tern_machine_online(root, mask, 16));
    put(root, "/sys/devices/system/cpu/online", "none\n");
    assert_false(tern_machine_online(root, mask, 16));
    test_remove_dir(root);
}

static void smallest(void **state)
{
    const char *reason;

    (void)state;
    assert_int_equal(tern_machine_smallest(8, INT_MAX, 4, &reason), 4);
    assert_string_equal(reason, "physical cores");
    assert_int_equal(tern_machine_smallest(8, 3, 4, &reason), 3);
    assert_string_equal(reason, "cgroup quota");
    assert_int_equal(tern_machine_smallest(2, 3, 4, &reason), 2);
    assert_string_equal(reason, "affinity mask");
    assert_int_equal(tern_machine_smallest(2, 2, 2, &reason), 2);
    assert_string_equal(reason, "physical cores");
    assert_int_equal(tern_machine_smallest(2, 2, 3, &reason), 2);
    assert_string_equal(reason, "cgroup quota");
    assert_int_equal(tern_machine_smallest(5000, INT_MAX, 5000, &reason), 1024);
    assert_int_equal(tern_machine_smallest(1, INT_MAX, 0, &reason), 1);
}

static void this_machine(void **state)
{
    const char *reason = NULL;

    (void)state;
    const int n = tern_machine_threads(&reason);
    assert_true(n >= 1 && n <= tern_machine_allowed());
    assert_non_null(reason);
    const double start = tern_machine_seconds();
    assert_true(tern_machine_seconds() >= start);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(isa),          cmocka_unit_test(isa_agrees_with_kernel),
        cmocka_unit_test(quota_v2),     cmocka_unit_test(quota_v1),
        cmocka_unit_test(odd_files),    cmocka_unit_test(cores),
        cmocka_unit_test(online),       cmocka_unit_test(smallest),
        cmocka_unit_test(this_machine),
    };

    return cmocka_run_group_tests_name("base/machine", tests, NULL, NULL);
}
