/* math_f64.h: exp, log and uniform numbers in f64 that are the same bits on every machine.
 *
 * The choice of a token is a comparison of sums of exponentials and a rotary angle grows with the position, so one last bit
 * can change a whole text.  The system's exp and log differ between C libraries and processors; these are additions,
 * multiplications and divisions and nothing else, in a fixed order, each rounded once (-ffp-contract=off). */
#ifndef TERN_BASE_MATH_F64_H
#define TERN_BASE_MATH_F64_H

#include <stdint.h>
#include <string.h>

static inline double tern_f64_from_bits(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t tern_f64_to_bits(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* e^x for x <= 0, -inf included; 0 below -708, where the result would leave the normal range.  Within 2 ulp.
 *
 * x = (16 k + j) ln 2 / 16 + r with |r| <= ln 2 / 32, ln 2 in two parts so that the whole number times the high one is
 * exact; e^r - 1 is its Taylor series to r^7, whose rest is below 2e-18; 2^(j/16) is from a table (rounded to nearest), 2^k
 * goes into the exponent.  The series is added in pairs, so that a processor can work on several at once: this loop over the
 * vocabulary is most of what a choice costs. */
static inline double tern_exp_f64(double x)
{
    static const double root[16] = {
        0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
        0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
        0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
        0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0,
    };

    if (!(x >= -708.0))
        return 0;

    const int n = (int)(x * 23.083120654223414 - 0.5); /* 16 / ln 2; truncation is to nearest, for x <= 0 */
    const double r = (x - n * 0x1.62e42feep-5) - n * 0x1.a39ef35793c76p-37, r2 = r * r;
    const double p23 = 0.5 + r * (1.0 / 6), p45 = 1.0 / 24 + r * (1.0 / 120), p67 = 1.0 / 720 + r * (1.0 / 5040);
    const double p = r + r2 * (p23 + r2 * (p45 + r2 * p67));
    const int j = n & 15, k = (n - j) / 16;

    return (root[j] + root[j] * p) * tern_f64_from_bits((uint64_t)(1023 + k) << 52);
}

/* ln x for normal x > 0.  Within 2 ulp, or 2^-52 absolute near 1.
 *
 * x = 2^k m with m in [1/sqrt 2, sqrt 2), and ln m = 2 artanh f with f = (m - 1) / (m + 1), |f| < 0.172: the odd series to
 * f^23, whose rest is below 5e-21. */
static inline double tern_log_f64(double x)
{
    uint64_t bits = tern_f64_to_bits(x);
    int k = (int)(bits >> 52) - 1023;
    double m = tern_f64_from_bits((bits & 0xFFFFFFFFFFFFF) | (uint64_t)1023 << 52);

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
static inline double tern_uniform_f64(uint32_t high, uint32_t low)
{
    return ((double)(high >> 5) * 67108864.0 + (double)(low >> 6)) * (1.0 / 9007199254740992.0);
}

#endif
