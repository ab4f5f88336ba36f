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
        cmocka_unit_test(seconds_go_on),
    };

    return cmocka_run_group_tests_name("base/machine", tests, NULL, NULL);
}
