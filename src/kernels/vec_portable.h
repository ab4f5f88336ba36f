/* vec_portable.h: vec.h in plain C, exact on any machine with IEEE arithmetic. */
#ifndef TERN_KERNELS_VEC_PORTABLE_H
#define TERN_KERNELS_VEC_PORTABLE_H

#define V16_GEMM_ROWS 1

typedef struct {
    float f[16];
} v16;

typedef struct {
    bool b[16];
} m16;

typedef struct {
    v16 lo, hi;
} v16x2;

#define V16_EACH(i) for (int i = 0; i < 16; i++)

V16_FN uint32_t v16_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

V16_FN float v16_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* fmaf(), in line where the processor has it.  Elsewhere the product is exact in f64, and so is the error e of the sum (Knuth's
 * TwoSum); the sum rounded to odd, that is to the neighbour with its last bit set if anything was lost, then rounds to f32 as
 * the exact sum would (Boldo and Melquiond 2008).  1.1 to 1.6 times as fast as calling fmaf(). */
V16_FN float v16_fma_lane(float a, float b, float c)
{
#ifdef __FP_FAST_FMAF
    return fmaf(a, b, c);
#else
    const double p = (double)a * b, s = p + c, part = s - p, e = (p - (s - part)) + (c - part);
    uint64_t bits, error, lost;
    double odd;

    memcpy(&bits, &s, sizeof bits);
    memcpy(&error, &e, sizeof error);
    lost = fabs(e) > 0 ? ~bits & 1 : 0;                  /* false for a NaN, which is what infinities leave in e */
    bits += lost - (((bits ^ error) >> 63 & lost) << 1); /* away from zero, or towards it if e has the other sign */
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
#endif
}

V16_FN v16 v16_set1(float x)
{
    v16 r;
    V16_EACH(i) r.f[i] = x;
    return r;
}

V16_FN v16 v16_load(const float *p)
{
    v16 r;
    memcpy(r.f, p, sizeof r.f);
    return r;
}

V16_FN v16 v16_load_n(const float *p, size_t n)
{
    v16 r = v16_set1(0);
    for (size_t i = 0; i < 16 && i < n; i++)
        r.f[i] = p[i];
    return r;
}

V16_FN void v16_store(float *p, v16 v)
{
    memcpy(p, v.f, sizeof v.f);
}

V16_FN void v16_store_n(float *p, v16 v, size_t n)
{
    for (size_t i = 0; i < 16 && i < n; i++)
        p[i] = v.f[i];
}

V16_FN void v16_stream(float *p, v16 v)
{
    v16_store(p, v);
}

/* Lane-wise definitions: `expression` over the lanes a.f[i], b.f[i], c.f[i]. */
#define V16_UNARY(name, expression)        \
    V16_FN v16 v16_##name(v16 a)           \
    {                                      \
        V16_EACH(i) a.f[i] = (expression); \
        return a;                          \
    }
#define V16_BINARY(name, expression)       \
    V16_FN v16 v16_##name(v16 a, v16 b)    \
    {                                      \
        V16_EACH(i) a.f[i] = (expression); \
        return a;                          \
    }
#define V16_TERNARY(name, expression)          \
    V16_FN v16 v16_##name(v16 a, v16 b, v16 c) \
    {                                          \
        V16_EACH(i) c.f[i] = (expression);     \
        return c;                              \
    }

V16_BINARY(add, a.f[i] + b.f[i])
V16_BINARY(sub, a.f[i] - b.f[i])
V16_BINARY(mul, a.f[i] * b.f[i])
V16_BINARY(div, a.f[i] / b.f[i])
V16_BINARY(max, a.f[i] > b.f[i] ? a.f[i] : b.f[i])
V16_BINARY(min, a.f[i] < b.f[i] ? a.f[i] : b.f[i])
V16_BINARY(copysign, v16_float((v16_bits(a.f[i]) & 0x7fffffff) | (v16_bits(b.f[i]) & 0x80000000)))
V16_UNARY(abs, v16_float(v16_bits(a.f[i]) & 0x7fffffff))
V16_UNARY(rint, rintf(a.f[i]))
V16_TERNARY(fma, v16_fma_lane(a.f[i], b.f[i], c.f[i]))
V16_TERNARY(fnma, v16_fma_lane(-a.f[i], b.f[i], c.f[i]))

/* In two steps, the first of them exact.  n + 1.5 * 2^23 holds the integer n in its low bits, without a cast that a NaN
 * would make undefined. */
V16_FN v16 v16_scale(v16 v, v16 n)
{
    V16_EACH(i)
    {
        const int32_t whole = (int32_t)(v16_bits(n.f[i] + 12582912.0f) - 0x4b400000u);
        const int32_t half = whole >> 1;
        v.f[i] *= v16_float((uint32_t)(half + 127) << 23);
        v.f[i] *= v16_float((uint32_t)(whole - half + 127) << 23);
    }
    return v;
}

V16_FN m16 v16_less(v16 a, v16 b)
{
    m16 m;
    V16_EACH(i) m.b[i] = a.f[i] < b.f[i];
    return m;
}

V16_FN m16 v16_first(size_t n)
{
    m16 m;
    V16_EACH(i) m.b[i] = (size_t)i < n;
    return m;
}

V16_FN v16 v16_select(m16 m, v16 a, v16 b)
{
    V16_EACH(i) b.f[i] = m.b[i] ? a.f[i] : b.f[i];
    return b;
}

V16_FN float v16_sum(v16 v)
{
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++)
            v.f[i] += v.f[i + width];
    return v.f[0];
}

V16_FN float v16_largest(v16 v)
{
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++)
            v.f[i] = v.f[i] > v.f[i + width] ? v.f[i] : v.f[i + width];
    return v.f[0];
}

V16_FN float v16_widen_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;

    if (exponent == 31) /* infinity; a NaN becomes quiet */
        return v16_float(sign | 0x7f800000 | (fraction << 13) | (fraction ? 0x400000 : 0));
    if (exponent == 0) /* zero and denormals: an exact integer times 2^-24 */
        return v16_float(sign | v16_bits((float)fraction * 0x1p-24f));
    return v16_float(sign | ((exponent + 112) << 23) | (fraction << 13));
}

V16_FN uint16_t v16_narrow_f16(float x)
{
    const uint32_t sign = (v16_bits(x) >> 16) & 0x8000, u = v16_bits(x) & 0x7fffffff;

    if (u > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | ((u >> 13) & 0x3ff));
    if (u >= 0x477ff000) /* 65520, halfway above the largest f16 */
        return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) /* denormal in f16: adding 1/2 leaves multiples of 2^-24, rounded by the addition */
        return (uint16_t)(sign | (v16_bits(v16_float(u) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((u + 0xfff + ((u >> 13) & 1) - 0x38000000) >> 13));
}

V16_FN uint16_t v16_narrow_bf16(float x)
{
    const uint32_t u = v16_bits(x);

    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

V16_FN v16 v16_load_f16_n(const uint16_t *p, size_t n)
{
    v16 r = v16_set1(0);
    for (size_t i = 0; i < 16 && i < n; i++)
        r.f[i] = v16_widen_f16(p[i]);
    return r;
}

V16_FN v16 v16_load_bf16_n(const uint16_t *p, size_t n)
{
    v16 r = v16_set1(0);
    for (size_t i = 0; i < 16 && i < n; i++)
        r.f[i] = v16_float((uint32_t)p[i] << 16);
    return r;
}

V16_FN void v16_store_f16_n(uint16_t *p, v16 v, size_t n)
{
    for (size_t i = 0; i < 16 && i < n; i++)
        p[i] = v16_narrow_f16(v.f[i]);
}

V16_FN void v16_store_bf16_n(uint16_t *p, v16 v, size_t n)
{
    for (size_t i = 0; i < 16 && i < n; i++)
        p[i] = v16_narrow_bf16(v.f[i]);
}

V16_FN v16 v16_load_f16(const uint16_t *p)
{
    return v16_load_f16_n(p, 16);
}

V16_FN v16 v16_load_bf16(const uint16_t *p)
{
    return v16_load_bf16_n(p, 16);
}

V16_FN void v16_store_f16(uint16_t *p, v16 v)
{
    v16_store_f16_n(p, v, 16);
}

V16_FN void v16_store_bf16(uint16_t *p, v16 v)
{
    v16_store_bf16_n(p, v, 16);
}

V16_FN void v16_stream_f16(uint16_t *p, v16 v)
{
    v16_store_f16(p, v);
}

V16_FN void v16_stream_bf16(uint16_t *p, v16 v)
{
    v16_store_bf16(p, v);
}

V16_FN void v16_store_u8_n(uint8_t *p, v16 v, size_t n)
{
    for (size_t i = 0; i < 16 && i < n; i++)
        p[i] = (uint8_t)v.f[i];
}

V16_FN void v16_store_u8(uint8_t *p, v16 v)
{
    v16_store_u8_n(p, v, 16);
}

V16_FN v16 v16_load_s32(const int32_t *p)
{
    v16 r;
    V16_EACH(i) r.f[i] = (float)p[i];
    return r;
}

V16_FN v16 v16_weights(const enum v16_panel form, const void *step, const int column, const int s)
{
    const uint16_t *half = step;
    const int8_t *byte = step;
    const uint8_t *pair = step;
    v16 r;

    if (form == V16_F16)
        return v16_load_f16(half + column);
    if (form == V16_F32)
        return v16_load((const float *)step + column);
    if (form == V16_S4) {
        V16_EACH(i)
        r.f[i] = (float)(((pair[4 * (column + i) + s / 2] >> (s % 2 ? 4 : 0) & 15) ^ 8) - 8);
        return r;
    }
    V16_EACH(i)
    r.f[i] =
        form == V16_BF16 ? v16_float((uint32_t)half[2 * (column + i) + s] << 16) : (float)byte[4 * (column + i) + s];
    return r;
}

/* ---- integer products ---- */

#define Q8_COLUMNS 32
#define Q8_WIDE    0

typedef struct {
    int32_t column[16];
} q8_sum;
typedef const int8_t *q8_weights;
typedef const uint8_t *q8_activations;

V16_FN q8_sum q8_zero(void)
{
    const q8_sum zero = { { 0 } };
    return zero;
}

V16_FN q8_weights q8_load(const int8_t *p)
{
    return p;
}

V16_FN q8_activations q8_row(const void *p)
{
    return p;
}

V16_FN q8_sum q8_step(q8_sum sum, q8_activations a, q8_weights w)
{
    for (int i = 0; i < 16; i++)
        sum.column[i] = (int32_t)((uint32_t)sum.column[i] + (uint32_t)(a[0] * w[4 * i] + a[1] * w[4 * i + 1] +
                                                                       a[2] * w[4 * i + 2] + a[3] * w[4 * i + 3]));
    return sum;
}

V16_FN void q8_store(int32_t *c, const int32_t *from, q8_sum sum)
{
    for (int i = 0; i < 16; i++)
        c[i] = (int32_t)((uint32_t)from[i] + (uint32_t)sum.column[i]);
}

#endif
