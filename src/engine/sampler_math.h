/* sampler_math.h: exp, log and random numbers that are the same bits on every machine.
 *
 * The choice of a token is a comparison of sums of exponentials, so one last bit can change a whole text.  The system's exp
 * and log differ between C libraries and machines; these are additions, multiplications and divisions in f64 and nothing
 * else, in a fixed order, each rounded once (-ffp-contract=off). */
#ifndef TERN_ENGINE_SAMPLER_MATH_H
#define TERN_ENGINE_SAMPLER_MATH_H

#include <stdint.h>
#include <string.h>

static inline double sampler_from_bits(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t sampler_to_bits(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* e^x for x <= 0, -inf included; 0 below -708, where the result would leave the normal range.  Within 2 ulp.
 *
 * x = k ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts so that k times the high one is exact; e^r is its Taylor series to
 * r^13, whose rest is below 5e-18; 2^k goes into the exponent. */
static inline double sampler_exp(double x)
{
    static const double inverse_factorial[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
        1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0
    };

    if (!(x >= -708.0))
        return 0;

    const int k = (int)(x * 1.4426950408889634 - 0.5); /* truncation: to nearest, for x <= 0 */
    const double r = (x - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
    double y = inverse_factorial[0];

    for (int i = 1; i < 14; i++)
        y = y * r + inverse_factorial[i];
    return y * sampler_from_bits((uint64_t)(1023 + k) << 52);
}

/* ln x for normal x > 0.  Within 2 ulp, or 2^-52 absolute near 1.
 *
 * x = 2^k m with m in [1/sqrt 2, sqrt 2), and ln m = 2 artanh f with f = (m - 1) / (m + 1), |f| < 0.172: the odd series to
 * f^23, whose rest is below 5e-21. */
static inline double sampler_log(double x)
{
    uint64_t bits = sampler_to_bits(x);
    int k = (int)(bits >> 52) - 1023;
    double m = sampler_from_bits((bits & 0xFFFFFFFFFFFFF) | (uint64_t)1023 << 52);

    if (m >= 1.4142135623730951) {
        m *= 0.5;
        k++;
    }
    const double f = (m - 1) / (m + 1), f2 = f * f;
    double y = 1.0 / 23;

    for (int i = 21; i >= 1; i -= 2)
        y = y * f2 + 1.0 / i;
    return 2 * f * y + k * 0.6931471805599453;
}

/* A number in [0, 1) with 53 random bits. */
static inline double sampler_uniform(uint32_t high, uint32_t low)
{
    return ((double)(high >> 5) * 67108864.0 + (double)(low >> 6)) * (1.0 / 9007199254740992.0);
}

#endif
