/* rotary.c: angles of the rotary embedding, in f64 with our own sine, cosine and power.
 *
 * A C library picks its sine by processor, and the last bits differ between machines; these are additions,
 * multiplications and divisions alone, which do not.  The angle is good to some 4e-15 of itself, so at position 100,000
 * the f32 results are still the rounded exact ones but for ties. */
#include "ops/rotary.h"

#include "base/math_f64.h"

#include <math.h>

/* Taylor on [-pi/4, pi/4], relative error below 1e-17. */
static double sin_small(double x)
{
    const double x2 = x * x;
    double sum = 1;

    for (int i = 20; i >= 2; i -= 2)
        sum = 1 - sum * x2 / (i * (i + 1));
    return x * sum;
}

static double cos_small(double x)
{
    const double x2 = x * x;
    double sum = 1;

    for (int i = 19; i >= 1; i -= 2)
        sum = 1 - sum * x2 / (i * (i + 1));
    return sum;
}

void tern_rotary_frequencies(double *frequency, int32_t rot, float theta)
{
    const double log_theta = tern_log_f64((double)theta);

    for (int32_t p = 0; p < rot / 2; p++)
        frequency[p] = tern_exp_f64(-2.0 * p / rot * log_theta);
}

void tern_rotary_angles(float *cosine, float *sine, const double *frequency, int32_t n_pairs, int64_t position)
{
    for (int32_t p = 0; p < n_pairs; p++) {
        const double a = (double)position * frequency[p];
        /* pi/2 in two parts, the first of 33 bits: its product with n < 2^20 is exact. */
        const double n = rint(a * 0.63661977236758134);
        const double r = (a - n * 1.57079632673412561417e+00) - n * 6.07710050650619224932e-11;
        const double s = sin_small(r), c = cos_small(r);

        switch ((int64_t)n & 3) {
        case 0:
            cosine[p] = (float)c, sine[p] = (float)s;
            break;
        case 1:
            cosine[p] = (float)-s, sine[p] = (float)c;
            break;
        case 2:
            cosine[p] = (float)-c, sine[p] = (float)-s;
            break;
        default:
            cosine[p] = (float)s, sine[p] = (float)-c;
        }
    }
}
