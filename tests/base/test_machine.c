/* test_machine.c: instruction set levels, and the clock. */
#include "testing.h"

#include "base/machine.h"

#include <stdio.h>
#include <string.h>

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

/* The system's own list of flags must agree with CPUID and HWCAP. */
static void isa_agrees_with_kernel(void **state)
{
    static char line[16384];
    bool has[TERN_ISA_COUNT] = { [TERN_ISA_PORTABLE] = true };
    enum tern_isa best = TERN_ISA_PORTABLE;
    FILE *f = fopen("/proc/cpuinfo", "r");

    (void)state;
    if (!f)
        TEST_SKIP("no /proc/cpuinfo");
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) {
            char *end = strchr(line, '\n');
            if (end)
                *end = ' '; /* so that a space follows each */
            has[TERN_ISA_NEON] = strstr(line, " asimd ");
            has[TERN_ISA_NEONDOT] = strstr(line, " asimddp ");
            has[TERN_ISA_AVX2] = strstr(line, " avx2 ") && strstr(line, " fma ") && strstr(line, " f16c ");
            has[TERN_ISA_AVXVNNI] = has[TERN_ISA_AVX2] && strstr(line, " avx_vnni ");
            has[TERN_ISA_AVX512] = has[TERN_ISA_AVX2] && strstr(line, " avx512f ") && strstr(line, " avx512bw ") &&
                                   strstr(line, " avx512dq ") && strstr(line, " avx512vl ");
            has[TERN_ISA_AVX512VNNI] = has[TERN_ISA_AVX512] && strstr(line, " avx512_vnni ");
            has[TERN_ISA_AVX512BF16] = has[TERN_ISA_AVX512VNNI] && strstr(line, " avx512_bf16 ");
            break;
        }
    fclose(f);
    for (int i = 0; i < TERN_ISA_COUNT; i++) {
        assert_int_equal(tern_machine_has((enum tern_isa)i), has[i]);
        if (has[i])
            best = (enum tern_isa)i;
    }
    assert_int_equal(tern_machine_isa(), best);
}

/* The system's names of maker and family, too. */
static void family_agrees_with_kernel(void **state)
{
    char line[256];
    bool amd = false;
    unsigned family = 0;
    FILE *f = fopen("/proc/cpuinfo", "r");

    (void)state;
    if (!f)
        TEST_SKIP("no /proc/cpuinfo");
    while (fgets(line, sizeof line, f) && !family) {
        amd = amd || (strncmp(line, "vendor_id", 9) == 0 && strstr(line, "AuthenticAMD"));
        sscanf(line, "cpu family : %u", &family);
    }
    fclose(f);
    assert_int_equal(tern_machine_amd_family(), amd ? family : 0);
}

static void seconds_go_on(void **state)
{
    const double start = tern_machine_seconds();

    (void)state;
    assert_true(start > 0);
    assert_true(tern_machine_seconds() >= start);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(isa),
        cmocka_unit_test(isa_agrees_with_kernel),
        cmocka_unit_test(family_agrees_with_kernel),
        cmocka_unit_test(seconds_go_on),
    };

    return cmocka_run_group_tests_name("base/machine", tests, NULL, NULL);
}
