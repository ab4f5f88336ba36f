/* rotary.c: angles of the rotary embedding, in f64 with our own sine, cosine and power.
 *
 * A C library picks its sine by processor, and the last bits differ between machines; these are additions,
 * multiplications and divisions alone, which do not.  The angle is good to some 4e-15 of itself, so at position 100,000
 * the f32 results are still the rounded exact ones but for ties. */
#include "ops/rotary.h"

#include "base/math_f64.h"

#include <math.h>

/* Taylor on [-pi/4, pi/4], relative error below 1e-17: 1 - x^2 / (i (i + 1)) (1 - ..), i from 2 and from 1 on.  Quotients are taken by
 * the compiler: a division takes as long as the rest of a term. */
#define STEP(sum, x2, i) (1 - (sum) * (x2) * (1.0 / ((i) * ((i) + 1))))

static double sin_small(double x)
{
    const double x2 = x * x;
    double sum = STEP(1, x2, 20);

    sum = STEP(sum, x2, 18);
    sum = STEP(sum, x2, 16);
    sum = STEP(sum, x2, 14);
    sum = STEP(sum, x2, 12);
    sum = STEP(sum, x2, 10);
    sum = STEP(sum, x2, 8);
    sum = STEP(sum, x2, 6);
    sum = STEP(sum, x2, 4);
    return x * STEP(sum, x2, 2);
}

static double cos_small(double x)
{
    const double x2 = x * x;
    double sum = STEP(1, x2, 19);

    sum = STEP(sum, x2, 17);
    sum = STEP(sum, x2, 15);
    sum = STEP(sum, x2, 13);
    sum = STEP(sum, x2, 11);
    sum = STEP(sum, x2, 9);
    sum = STEP(sum, x2, 7);
    sum = STEP(sum, x2, 5);
    sum = STEP(sum, x2, 3);
    return STEP(sum, x2, 1);
}
#undef STEP

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
        const float s = (float)sin_small(r), c = (float)cos_small(r);
        const int64_t quadrant = (int64_t)n; /* by selection: which one it is, is not to be foreseen */
        const float of_cosine = quadrant & 1 ? s : c, of_sine = quadrant & 1 ? c : s;

        cosine[p] = (quadrant + 1) & 2 ? -of_cosine : of_cosine;
        sine[p] = quadrant & 2 ? -of_sine : of_sine;
    }
}
