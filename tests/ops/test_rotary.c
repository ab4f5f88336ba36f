/* test_rotary.c: angles against the C library's sine, cosine and power in long double. */
#include "ops/op_testing.h"

#include "ops/checks.h"
#include "ops/rotary.h"

static void test_angles(void **state)
{
    (void)state;
    static const struct {
        int32_t rot;
        float theta;
    } kinds[] = { { 2, 10000 },     { 10, 10000 },    { 64, 10000 }, { 128, 500000 },
                  { 512, 1000000 }, { 128, 1.0001f }, { 96, 1e9f } };
    static const int64_t positions[] = { 0, 1, 2, 3, 11, 100, 511, 4096, 32767, 131071, 1000000 };
    double frequency[TERN_ROTARY_MAX];
    float cosine[TERN_ROTARY_MAX], sine[TERN_ROTARY_MAX];
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        const int32_t pairs = kinds[k].rot / 2;
        tern_rotary_frequencies(frequency, kinds[k].rot, kinds[k].theta);
        for (int32_t p = 0; p < pairs; p++) {
            const long double want = powl((long double)kinds[k].theta, -2.0L * p / kinds[k].rot);
            assert_true(fabsl(frequency[p] - want) <= 4e-15L * want);
        }
        assert_true(frequency[0] == 1);
        for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
            ctx->kernels->rotary_angles(cosine, sine, frequency, (size_t)pairs, (double)positions[i]);
            for (int32_t p = 0; p < pairs; p++) {
                const long double angle =
                    (long double)positions[i] * powl((long double)kinds[k].theta, -2.0L * p / kinds[k].rot);
                const long double bound = 3.1e-8L + 5e-15L * angle; /* half an ulp of 1, and the frequency's error */
                assert_true(fabsl((long double)cosine[p] - cosl(angle)) <= bound);
                assert_true(fabsl((long double)sine[p] - sinl(angle)) <= bound);
            }
        }
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { OP_TEST(test_angles) };
    return cmocka_run_group_tests_name("ops/rotary", tests, NULL, NULL);
}
