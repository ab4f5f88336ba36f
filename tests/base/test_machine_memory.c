/* test_machine_memory.c: how much memory there is to be had, on recorded machines. */
#include "testing.h"

#include "base/machine.h"

#include <tern/machine.h>

#include <errno.h>
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

static const char meminfo[] = "MemTotal:       24000000 kB\nMemFree:          100000 kB\nMemAvailable:    2000000 kB\n"
                              "Buffers:               0 kB\n";

static void of_the_system(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    assert_true(tern_machine_memory(root) == UINT64_MAX); /* nothing there at all */
    put(root, "/proc/meminfo", "MemTotal: 5 kB\n");
    assert_true(tern_machine_memory(root) == UINT64_MAX); /* a system from before MemAvailable */
    put(root, "/proc/meminfo", meminfo);
    assert_true(tern_machine_memory(root) == 2000000ull * 1024);
    assert_true(tern_memory_available() > 0);
    test_remove_dir(root);
}

static void of_cgroups_v2(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    put(root, "/proc/meminfo", meminfo);
    put(root, "/proc/self/cgroup", "0::/user/me\n");
    assert_true(tern_machine_memory(root) == 2000000ull * 1024);
    put(root, "/sys/fs/cgroup/user/me/memory.max", "max\n");
    assert_true(tern_machine_memory(root) == 2000000ull * 1024);
    put(root, "/sys/fs/cgroup/user/memory.max", "1000000\n"); /* the group above ours */
    put(root, "/sys/fs/cgroup/user/memory.current", "400000\n");
    assert_true(tern_machine_memory(root) == 600000);
    put(root, "/sys/fs/cgroup/user/me/memory.max", "500000\n");
    put(root, "/sys/fs/cgroup/user/me/memory.current", "100001\n");
    assert_true(tern_machine_memory(root) == 399999);
    put(root, "/sys/fs/cgroup/user/memory.current", "1000001\n"); /* more than the limit: nothing is left */
    assert_true(tern_machine_memory(root) == 0);
    test_remove_dir(root);
}

static void of_cgroups_v1(void **state)
{
    const char *root = test_temp_dir();

    (void)state;
    put(root, "/proc/meminfo", meminfo);
    put(root, "/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:hugetlb,memory:/b/c\n0::/\nnonsense\n");
    put(root, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1\n"); /* another controller's group */
    put(root, "/sys/fs/cgroup/memory/b/c/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(tern_machine_memory(root) == 2000000ull * 1024);
    put(root, "/sys/fs/cgroup/memory/b/memory.limit_in_bytes", "700000\n");
    put(root, "/sys/fs/cgroup/memory/b/memory.usage_in_bytes", "100000\n");
    assert_true(tern_machine_memory(root) == 600000);
    test_remove_dir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_the_system),
        cmocka_unit_test(of_cgroups_v2),
        cmocka_unit_test(of_cgroups_v1),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
