/* rotary.c: frequencies of the rotary embedding, in f64 with our own power.
 *
 * A C library picks its functions by processor, and the last bits differ between machines; these are additions, multiplications
 * and divisions alone, which do not.  An angle, a frequency times a position, is good to some 4e-15 of itself, so at position 100,000 the
 * f32 sines (the kernel rotary_angles) are still the rounded exact ones but for ties. */
#include "ops/rotary.h"

#include "base/math_f64.h"

void tern_rotary_frequencies(double *frequency, int32_t rot, float theta)
{
    const double log_theta = tern_log_f64((double)theta);

    for (int32_t p = 0; p < rot / 2; p++)
        frequency[p] = tern_exp_f64(-2.0 * p / rot * log_theta);
}
