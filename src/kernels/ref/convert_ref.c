/* convert_ref.c: halves by the arithmetic of their formats, and panels of them. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* A binary format of 16 bits: sign, exponent, fraction. */
struct half_format {
    int fraction; /* bits */
    int bias;
};

static const struct half_format f16 = { 10, 15 }, bf16 = { 7, 127 };

static float widen(uint16_t h, struct half_format f)
{
    const int fraction = h & ((1 << f.fraction) - 1), exponent = (h & 0x7fff) >> f.fraction;
    double value;

    if (exponent == 2 * f.bias + 1)
        value = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, 1 - f.bias - f.fraction);
    else
        value = ldexp(fraction + (1 << f.fraction), exponent - f.bias - f.fraction);
    return (float)(h & 0x8000 ? -value : value);
}

/* Rounds |x| to a multiple of the step of its binade (ties to even), then reads off the bits. */
static uint16_t narrow(float x, struct half_format f)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0, infinity = (uint16_t)((2 * f.bias + 1) << f.fraction);
    int exponent;
    long steps;

    if (isnan(x))
        return (uint16_t)(sign | infinity | 1 << (f.fraction - 1));
    if (isinf(x) || x == 0)
        return sign | (x == 0 ? 0 : infinity);
    frexp(x, &exponent); /* |x| in [2^(exponent-1), 2^exponent) */
    if (exponent - 1 < 1 - f.bias)
        exponent = 2 - f.bias;
    steps = lrint(ldexp(fabs(x), f.fraction - (exponent - 1)));
    steps += (long)(exponent - 2 + f.bias) << f.fraction; /* the leading bit of a normal number adds the last 1 */
    return sign | (uint16_t)(steps < infinity ? steps : infinity);
}

void tern_f32_from_f16_ref(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = widen(x[i], f16);
}

void tern_f32_from_bf16_ref(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = widen(x[i], bf16);
}

void tern_f16_from_f32_ref(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = narrow(x[i], f16);
}

void tern_bf16_from_f32_ref(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = narrow(x[i], bf16);
}

void tern_pack_f32_ref(float *panel, const float *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < TERN_PANEL; j++)
            panel[i * TERN_PANEL + j] = j < n ? w[i * ldk + j * ldn] : 0;
}

void tern_pack_f16_ref(float *panel, const uint16_t *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < TERN_PANEL; j++)
            panel[i * TERN_PANEL + j] = j < n ? widen(w[i * ldk + j * ldn], f16) : 0;
}

void tern_pack_bf16_ref(float *panel, const uint16_t *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < TERN_PANEL; j++)
            panel[i * TERN_PANEL + j] = j < n ? widen(w[i * ldk + j * ldn], bf16) : 0;
}
