/* rope.c: see rope.h. */
#include "ops/rope.h"

#include "base/math_f64.h"

#include <math.h>

#define PI 3.14159265358979323846

static double power(double base, double exponent)
{
    return tern_exp_f64(exponent * tern_log_f64(base));
}

/* theta^(-2p / dim) */
static void plain(double *frequency, int32_t dim, double theta)
{
    const double log_theta = tern_log_f64(theta);

    for (int32_t p = 0; p < dim / 2; p++)
        frequency[p] = tern_exp_f64(-2.0 * p / dim * log_theta);
}

static void round_all(double *frequency, int32_t n)
{
    for (int32_t p = 0; p < n; p++)
        frequency[p] = (double)(float)frequency[p];
}

/* Waves of up to original / high_freq_factor positions stay, those beyond original / low_freq_factor are stretched. */
static double llama3(const struct tern_rope *rope, double frequency)
{
    const double wave = 2 * PI / frequency;
    const double low = rope->original / rope->low_freq_factor, high = rope->original / rope->high_freq_factor;

    if (wave > low)
        return frequency / rope->factor;
    if (wave < high)
        return frequency;
    const double smooth =
        (rope->original / wave - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

/* The pair that turns `turns` times within the original positions. */
static double turning(const struct tern_rope *rope, double turns)
{
    return rope->dim * tern_log_f64(rope->original / (turns * 2 * PI)) / (2 * tern_log_f64(rope->theta));
}

static void yarn(struct tern_rope *rope)
{
    double low = turning(rope, rope->beta_fast), high = turning(rope, rope->beta_slow);

    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, rope->dim - 1);
    if (low == high)
        high += 0.001;
    for (int32_t p = 0; p < rope->dim / 2; p++) {
        const double ramp = fmin(fmax((p - low) / (high - low), 0), 1), f = rope->frequency[p];
        rope->frequency[p] = f / rope->factor * ramp + f * (1 - ramp);
    }
}

void tern_rope_prepare(struct tern_rope *rope)
{
    const int32_t n = rope->dim / 2;

    plain(rope->frequency, rope->dim, rope->theta);
    switch (rope->type) {
    case TERN_ROPE_DEFAULT:
    case TERN_ROPE_DYNAMIC:
        break;
    case TERN_ROPE_LINEAR:
        for (int32_t p = 0; p < n; p++)
            rope->frequency[p] /= rope->factor;
        break;
    case TERN_ROPE_LLAMA3:
        for (int32_t p = 0; p < n; p++)
            rope->frequency[p] = llama3(rope, rope->frequency[p]);
        break;
    case TERN_ROPE_YARN:
        yarn(rope);
        break;
    case TERN_ROPE_LONGROPE:
        for (int32_t p = 0; p < n; p++) {
            rope->longer[p] = rope->frequency[p] / (double)rope->long_factor[p];
            rope->frequency[p] /= (double)rope->short_factor[p];
        }
        round_all(rope->longer, n);
        break;
    }
    round_all(rope->frequency, n);
}

const double *tern_rope_frequencies(const struct tern_rope *rope, int64_t length, double *scratch)
{
    if ((double)length <= rope->original)
        return rope->frequency;
    if (rope->type == TERN_ROPE_LONGROPE)
        return rope->longer;
    if (rope->type != TERN_ROPE_DYNAMIC)
        return rope->frequency;
    const double stretch = rope->factor * (double)length / rope->original - (rope->factor - 1);
    plain(scratch, rope->dim, rope->theta * power(stretch, rope->dim / (rope->dim - 2.0)));
    round_all(scratch, rope->dim / 2);
    return scratch;
}

void tern_rope_angles(const struct tern_kernels *kernels, const struct tern_rope *rope, float *cosine, float *sine,
                      const double *frequency, int64_t position)
{
    const int32_t n = rope->dim / 2;
    double angle[TERN_ROTARY_MAX] = { 0 };

    for (int32_t p = 0; p < n; p++)
        angle[p] = (double)((float)position * (float)frequency[p]);
    kernels->rotary_angles(cosine, sine, angle, (size_t)n, 1);
    for (int32_t p = 0; rope->attention_factor != 1 && p < n; p++) {
        cosine[p] *= rope->attention_factor;
        sine[p] *= rope->attention_factor;
    }
}
