/* vec_neon.h: vec.h on the base instructions of AArch64; lanes 4 i .. 4 i + 3 in q[i]. */
#ifndef TERN_KERNELS_VEC_NEON_H
#define TERN_KERNELS_VEC_NEON_H

#include <arm_neon.h>

#define V16_GEMM_ROWS 3 /* 24 accumulators, 3 broadcasts, 1 vector of the panel */

typedef struct {
    float32x4_t q[4];
} v16;

typedef struct {
    uint32x4_t q[4]; /* all bits of a true lane are set */
} m16;

typedef struct {
    v16 lo, hi;
} v16x2;

V16_FN v16 v16_set1(float x)
{
    const float32x4_t q = vdupq_n_f32(x);
    const v16 r = { { q, q, q, q } };
    return r;
}

V16_FN v16 v16_load(const float *p)
{
    const v16 r = { { vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) } };
    return r;
}

V16_FN void v16_store(float *p, v16 v)
{
    vst1q_f32(p, v.q[0]);
    vst1q_f32(p + 4, v.q[1]);
    vst1q_f32(p + 8, v.q[2]);
    vst1q_f32(p + 12, v.q[3]);
}

/* No store of C passes by the caches. */
V16_FN void v16_stream(float *p, v16 v)
{
    v16_store(p, v);
}

/* There are no masked loads and stores: partial vectors go through a copy. */
V16_FN v16 v16_load_n(const float *p, size_t n)
{
    float copy[16] = { 0 };
    memcpy(copy, p, (n < 16 ? n : 16) * sizeof *p);
    return v16_load(copy);
}

V16_FN void v16_store_n(float *p, v16 v, size_t n)
{
    float copy[16];
    v16_store(copy, v);
    memcpy(p, copy, (n < 16 ? n : 16) * sizeof *p);
}

/* An operation on all quarters. */
#define V16_UNARY(name, op)                                                   \
    V16_FN v16 v16_##name(v16 a)                                              \
    {                                                                         \
        const v16 r = { { op(a.q[0]), op(a.q[1]), op(a.q[2]), op(a.q[3]) } }; \
        return r;                                                             \
    }
#define V16_BINARY(name, op)                                                                                  \
    V16_FN v16 v16_##name(v16 a, v16 b)                                                                       \
    {                                                                                                         \
        const v16 r = { { op(a.q[0], b.q[0]), op(a.q[1], b.q[1]), op(a.q[2], b.q[2]), op(a.q[3], b.q[3]) } }; \
        return r;                                                                                             \
    }

/* fmax and fmin know NaNs and the sign of zero; these take the second operand unless the comparison holds. */
V16_FN float32x4_t v16_max4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

V16_FN float32x4_t v16_min4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

V16_FN float32x4_t v16_copysign4(float32x4_t v, float32x4_t s)
{
    return vbslq_f32(vdupq_n_u32(0x80000000), s, v);
}

/* In two steps, the first of them exact, so that a denormal result is rounded once. */
V16_FN float32x4_t v16_scale4(float32x4_t v, float32x4_t n)
{
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
    const int32x4_t rest = vsubq_s32(whole, half);

    v = vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
    return vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23)));
}

V16_BINARY(add, vaddq_f32)
V16_BINARY(sub, vsubq_f32)
V16_BINARY(mul, vmulq_f32)
V16_BINARY(div, vdivq_f32)
V16_BINARY(max, v16_max4)
V16_BINARY(min, v16_min4)
V16_BINARY(copysign, v16_copysign4)
V16_BINARY(scale, v16_scale4)
V16_UNARY(abs, vabsq_f32)
V16_UNARY(rint, vrndnq_f32)

V16_FN v16 v16_fma(v16 a, v16 b, v16 c)
{
    for (int i = 0; i < 4; i++)
        c.q[i] = vfmaq_f32(c.q[i], a.q[i], b.q[i]);
    return c;
}

V16_FN v16 v16_fnma(v16 a, v16 b, v16 c)
{
    for (int i = 0; i < 4; i++)
        c.q[i] = vfmsq_f32(c.q[i], a.q[i], b.q[i]);
    return c;
}

V16_FN m16 v16_less(v16 a, v16 b)
{
    const m16 m = { { vcltq_f32(a.q[0], b.q[0]), vcltq_f32(a.q[1], b.q[1]), vcltq_f32(a.q[2], b.q[2]),
                      vcltq_f32(a.q[3], b.q[3]) } };
    return m;
}

V16_FN m16 v16_first(size_t n)
{
    static const uint32_t lanes[4] = { 0, 1, 2, 3 };
    const uint32x4_t lane = vld1q_u32(lanes), count = vdupq_n_u32(n < 16 ? (uint32_t)n : 16);
    const m16 m = { { vcltq_u32(lane, count), vcltq_u32(vaddq_u32(lane, vdupq_n_u32(4)), count),
                      vcltq_u32(vaddq_u32(lane, vdupq_n_u32(8)), count),
                      vcltq_u32(vaddq_u32(lane, vdupq_n_u32(12)), count) } };
    return m;
}

V16_FN v16 v16_select(m16 m, v16 a, v16 b)
{
    for (int i = 0; i < 4; i++)
        b.q[i] = vbslq_f32(m.q[i], a.q[i], b.q[i]);
    return b;
}

V16_FN float v16_sum(v16 v)
{
    const float32x4_t quarter = vaddq_f32(vaddq_f32(v.q[0], v.q[2]), vaddq_f32(v.q[1], v.q[3]));
    const float32x2_t eighth = vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter));

    return vget_lane_f32(eighth, 0) + vget_lane_f32(eighth, 1);
}

V16_FN float v16_largest(v16 v)
{
    const float32x4_t quarter = v16_max4(v16_max4(v.q[0], v.q[2]), v16_max4(v.q[1], v.q[3]));
    const float32x4_t eighth = v16_max4(quarter, vextq_f32(quarter, quarter, 2));
    const float a = vgetq_lane_f32(eighth, 0), b = vgetq_lane_f32(eighth, 1);

    return a > b ? a : b;
}

#define V16_EVENS

V16_FN v16 v16_evens(v16 a, v16 b)
{
    const v16 r = { { vuzp1q_f32(a.q[0], a.q[1]), vuzp1q_f32(a.q[2], a.q[3]), vuzp1q_f32(b.q[0], b.q[1]),
                      vuzp1q_f32(b.q[2], b.q[3]) } };
    return r;
}

V16_FN v16 v16_odds(v16 a, v16 b)
{
    const v16 r = { { vuzp2q_f32(a.q[0], a.q[1]), vuzp2q_f32(a.q[2], a.q[3]), vuzp2q_f32(b.q[0], b.q[1]),
                      vuzp2q_f32(b.q[2], b.q[3]) } };
    return r;
}

V16_FN v16 v16_zip_lo(v16 a, v16 b)
{
    const v16 r = { { vzip1q_f32(a.q[0], b.q[0]), vzip2q_f32(a.q[0], b.q[0]), vzip1q_f32(a.q[1], b.q[1]),
                      vzip2q_f32(a.q[1], b.q[1]) } };
    return r;
}

V16_FN v16 v16_zip_hi(v16 a, v16 b)
{
    const v16 r = { { vzip1q_f32(a.q[2], b.q[2]), vzip2q_f32(a.q[2], b.q[2]), vzip1q_f32(a.q[3], b.q[3]),
                      vzip2q_f32(a.q[3], b.q[3]) } };
    return r;
}

/* ---- halves ---- */

V16_FN float32x4_t v16_widen_f16(uint16x4_t h)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}

V16_FN float32x4_t v16_widen_bf16(uint16x4_t h)
{
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

V16_FN uint16x4_t v16_narrow_f16(float32x4_t v)
{
    return vreinterpret_u16_f16(vcvt_f16_f32(v));
}

V16_FN uint16x4_t v16_narrow_bf16(float32x4_t v)
{
    const uint32x4_t u = vreinterpretq_u32_f32(v), top = vshrq_n_u32(u, 16);
    const uint32x4_t up = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), vandq_u32(top, vdupq_n_u32(1)));
    const uint32x4_t quiet = vorrq_u32(top, vdupq_n_u32(0x40));

    return vmovn_u32(vbslq_u32(vceqq_f32(v, v), vshrq_n_u32(up, 16), quiet));
}

/* Loads and stores of 16 halves, whole and partial. */
#define V16_HALVES(type)                                                                             \
    V16_FN v16 v16_load_##type(const uint16_t *p)                                                    \
    {                                                                                                \
        const v16 r = { { v16_widen_##type(vld1_u16(p)), v16_widen_##type(vld1_u16(p + 4)),          \
                          v16_widen_##type(vld1_u16(p + 8)), v16_widen_##type(vld1_u16(p + 12)) } }; \
        return r;                                                                                    \
    }                                                                                                \
    V16_FN v16 v16_load_##type##_n(const uint16_t *p, size_t n)                                      \
    {                                                                                                \
        uint16_t copy[16] = { 0 };                                                                   \
        memcpy(copy, p, (n < 16 ? n : 16) * sizeof *p);                                              \
        return v16_load_##type(copy);                                                                \
    }                                                                                                \
    V16_FN void v16_store_##type(uint16_t *p, v16 v)                                                 \
    {                                                                                                \
        for (int i = 0; i < 4; i++)                                                                  \
            vst1_u16(p + 4 * i, v16_narrow_##type(v.q[i]));                                          \
    }                                                                                                \
    V16_FN void v16_store_##type##_n(uint16_t *p, v16 v, size_t n)                                   \
    {                                                                                                \
        uint16_t copy[16];                                                                           \
        v16_store_##type(copy, v);                                                                   \
        memcpy(p, copy, (n < 16 ? n : 16) * sizeof *p);                                              \
    }
V16_HALVES(f16)
V16_HALVES(bf16)
#undef V16_HALVES

V16_FN void v16_stream_f16(uint16_t *p, v16 v)
{
    v16_store_f16(p, v);
}

V16_FN void v16_stream_bf16(uint16_t *p, v16 v)
{
    v16_store_bf16(p, v);
}

V16_FN void v16_store_u8(uint8_t *p, v16 v)
{
    const uint16x8_t lo = vcombine_u16(vmovn_u32(vcvtq_u32_f32(v.q[0])), vmovn_u32(vcvtq_u32_f32(v.q[1])));
    const uint16x8_t hi = vcombine_u16(vmovn_u32(vcvtq_u32_f32(v.q[2])), vmovn_u32(vcvtq_u32_f32(v.q[3])));

    vst1q_u8(p, vcombine_u8(vmovn_u16(lo), vmovn_u16(hi)));
}

V16_FN void v16_store_u8_n(uint8_t *p, v16 v, size_t n)
{
    uint8_t copy[16];
    v16_store_u8(copy, v);
    memcpy(p, copy, n < 16 ? n : 16);
}

V16_FN v16 v16_load_s32(const int32_t *p)
{
    const v16 r = { { vcvtq_f32_s32(vld1q_s32(p)), vcvtq_f32_s32(vld1q_s32(p + 4)), vcvtq_f32_s32(vld1q_s32(p + 8)),
                      vcvtq_f32_s32(vld1q_s32(p + 12)) } };
    return r;
}

/* ---- products ---- */

/* Shifts by a register, to the language; compilers see the constant. */
V16_FN float32x4_t v16_weights4(const enum v16_panel form, const void *step, const int column, const int s)
{
    const char *p = step;

    if (form == V16_F16)
        return v16_widen_f16(vld1_u16((const uint16_t *)(const void *)(p + 2 * column)));
    const uint32x4_t w = vld1q_u32((const uint32_t *)(const void *)(p + 4 * column));
    if (form == V16_BF16)
        return vreinterpretq_f32_u32(s ? vandq_u32(w, vdupq_n_u32(0xffff0000)) : vshlq_n_u32(w, 16));
    if (form == V16_S8)
        return vcvtq_f32_s32(vshrq_n_s32(vreinterpretq_s32_u32(vshlq_u32(w, vdupq_n_s32(24 - 8 * s))), 24));
    if (form == V16_S4)
        return vcvtq_f32_s32(vshrq_n_s32(vreinterpretq_s32_u32(vshlq_u32(w, vdupq_n_s32(28 - 4 * s))), 28));
    return vreinterpretq_f32_u32(w);
}

V16_FN v16 v16_weights(const enum v16_panel form, const void *step, const int column, const int s)
{
    const v16 r = { { v16_weights4(form, step, column, s), v16_weights4(form, step, column + 4, s),
                      v16_weights4(form, step, column + 8, s), v16_weights4(form, step, column + 12, s) } };
    return r;
}

/* One k step of a tile of m <= 3 rows, 4 columns at a time, as the AVX2 level does 8. */
V16_FN void v16_gemm_step3(const enum v16_panel form, const int s, const int m, const float *a, size_t lda,
                           const void *step, v16 *r0_lo, v16 *r0_hi, v16 *r1_lo, v16 *r1_hi, v16 *r2_lo, v16 *r2_hi)
{
    const float32x4_t x0 = vld1q_dup_f32(a);
    const float32x4_t x1 = m > 1 ? vld1q_dup_f32(a + lda) : x0;
    const float32x4_t x2 = m > 2 ? vld1q_dup_f32(a + 2 * lda) : x0;

#define V16_COLUMNS(i, part, quarter)                                        \
    {                                                                        \
        const float32x4_t w = v16_weights4(form, step, (i), s);              \
        r0_##part->q[quarter] = vfmaq_f32(r0_##part->q[quarter], x0, w);     \
        if (m > 1)                                                           \
            r1_##part->q[quarter] = vfmaq_f32(r1_##part->q[quarter], x1, w); \
        if (m > 2)                                                           \
            r2_##part->q[quarter] = vfmaq_f32(r2_##part->q[quarter], x2, w); \
    }
    V16_COLUMNS(0, lo, 0)
    V16_COLUMNS(4, lo, 1)
    V16_COLUMNS(8, lo, 2)
    V16_COLUMNS(12, lo, 3)
    V16_COLUMNS(16, hi, 0)
    V16_COLUMNS(20, hi, 1)
    V16_COLUMNS(24, hi, 2)
    V16_COLUMNS(28, hi, 3)
#undef V16_COLUMNS
}

/* ---- integer products ----
 *
 * The base has no instruction for u8 times s8, so a weight is taken as w + 128, u8 as an activation is: 16 bits hold a product of
 * two.  128 times the sum of the row's activations, kept in an integer register, comes off at the end.  All of it modulo 2^32, as
 * the result is. */
#define Q8_WIDE 0

typedef struct {
    uint32x4_t part[8];
    uint32_t row; /* sum of the activations */
} q8_sum;

V16_FN q8_sum q8_zero(void)
{
    const uint32x4_t zero = vdupq_n_u32(0);
    const q8_sum sum = { { zero, zero, zero, zero, zero, zero, zero, zero }, 0 };
    return sum;
}

V16_FN uint8x16_t q8_weights(const int8_t *p)
{
    return veorq_u8(vreinterpretq_u8_s8(vld1q_s8(p)), vdupq_n_u8(0x80));
}

/* The four activations at p, in every lane. */
V16_FN uint8x16_t q8_row(const uint8_t *p, uint32_t *sum)
{
    uint32_t word, pairs;

    memcpy(&word, p, sizeof word);
    pairs = (word & 0x00ff00ff) + (word >> 8 & 0x00ff00ff);
    *sum += (pairs + (pairs >> 16)) & 0xffff;
    return vreinterpretq_u8_u32(vdupq_n_u32(word));
}

#ifdef TERN_VEC_DOTPROD
#define Q8_COLUMNS 32
#define Q8_VECTORS \
    1 /* accumulators of 16 bytes of weights: udot adds four products to a lane, and a lane is a column */

V16_FN void q8_products(q8_sum *sum, const int i, uint8x16_t x, uint8x16_t w)
{
    sum->part[i] = vdotq_u32(sum->part[i], x, w);
}
#else
#define Q8_COLUMNS 16

/* umull, uadalp: the four products of a column are two sums, side by side until the end. */
V16_FN void q8_products(q8_sum *sum, const int i, uint8x16_t x, uint8x16_t w)
{
    sum->part[2 * i] = vpadalq_u16(sum->part[2 * i], vmull_u8(vget_low_u8(x), vget_low_u8(w)));
    sum->part[2 * i + 1] = vpadalq_u16(sum->part[2 * i + 1], vmull_high_u8(x, w));
}
#endif

/* One step of m <= 3 rows: as v16_gemm_step3, one vector of the panel at a time. */
V16_FN void q8_step3(const int m, const uint8_t *a, size_t lda, const int8_t *panel, q8_sum *r0, q8_sum *r1, q8_sum *r2)
{
    const uint8x16_t x0 = q8_row(a, &r0->row);
    const uint8x16_t x1 = m > 1 ? q8_row(a + lda, &r1->row) : x0;
    const uint8x16_t x2 = m > 2 ? q8_row(a + 2 * lda, &r2->row) : x0;

#define Q8_PART(i)                                         \
    if ((i) < Q8_COLUMNS / 4) {                            \
        const uint8x16_t w = q8_weights(panel + 16 * (i)); \
        q8_products(r0, (i), x0, w);                       \
        if (m > 1)                                         \
            q8_products(r1, (i), x1, w);                   \
        if (m > 2)                                         \
            q8_products(r2, (i), x2, w);                   \
    }
    Q8_PART(0)
    Q8_PART(1)
    Q8_PART(2)
    Q8_PART(3)
    Q8_PART(4)
    Q8_PART(5)
    Q8_PART(6)
    Q8_PART(7)
#undef Q8_PART
}

V16_FN void q8_store4(int32_t *c, const int32_t *from, uint32x4_t sums, uint32x4_t middle)
{
    vst1q_s32(c, vaddq_s32(vld1q_s32(from), vreinterpretq_s32_u32(vsubq_u32(sums, middle))));
}

V16_FN void q8_store(int32_t *c, const int32_t *from, q8_sum sum)
{
    const uint32x4_t middle = vdupq_n_u32(128 * sum.row);

#ifdef TERN_VEC_DOTPROD
#define Q8_STORE(i) q8_store4(c + 4 * (i), from + 4 * (i), sum.part[i], middle);
    Q8_STORE(4)
    Q8_STORE(5)
    Q8_STORE(6)
    Q8_STORE(7)
#else
#define Q8_STORE(i) \
    q8_store4(c + 4 * (i), from + 4 * (i), vpaddq_u32(sum.part[2 * (i)], sum.part[2 * (i) + 1]), middle);
#endif
    Q8_STORE(0)
    Q8_STORE(1)
    Q8_STORE(2)
    Q8_STORE(3)
#undef Q8_STORE
}

#endif
