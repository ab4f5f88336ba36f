/* test_math_f64.c: exp, log and uniform numbers. */
#include "testing.h"

#include "base/math_f64.h"

#include <math.h>

static void uniform(void **state)
{
    (void)state;
    assert_true(tern_uniform_f64(0, 0) == 0);
    assert_true(tern_uniform_f64(0x80000000, 0) == 0.5);
    assert_true(tern_uniform_f64(UINT32_MAX, UINT32_MAX) == 1 - 0x1p-53);
    assert_true(tern_uniform_f64(0, 1 << 6) == 0x1p-53);
}

/* exp and log against the system's, whose own error is below one unit in the last place. */
static void exp_and_log(void **state)
{
    (void)state;
    uint64_t seed = 3;

    assert_true(tern_exp_f64(0) == 1 && tern_exp_f64(-INFINITY) == 0 && tern_exp_f64(-1e300) == 0 &&
                tern_log_f64(1) == 0);
    for (int i = 0; i < 200000; i++) {
        const double u = (double)(test_random(&seed) >> 11) * 0x1p-53;
        const double x = -u * (i % 3 == 0 ? 1 : i % 3 == 1 ? 20 : 708), y = 1 + u * (i % 2 ? 1 : 300000);
        assert_true(fabs(tern_exp_f64(x) - exp(x)) <= 3 * 0x1p-52 * exp(x));
        assert_true(fabs(tern_log_f64(y) - log(y)) <= 3 * 0x1p-52 * fmax(1, log(y)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform),
        cmocka_unit_test(exp_and_log),
    };
    return cmocka_run_group_tests_name("base/math_f64", tests, NULL, NULL);
}
