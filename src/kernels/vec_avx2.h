/* vec_avx2.h: vec.h on AVX2, FMA and F16C; lanes 0..7 in lo, 8..15 in hi. */
#ifndef TERN_KERNELS_VEC_AVX2_H
#define TERN_KERNELS_VEC_AVX2_H

#include <immintrin.h>

#define V16_GEMM_ROWS 3 /* see v16_gemm_step3 */

typedef struct {
    __m256 lo, hi;
} v16;

typedef v16 m16; /* all bits of a true lane are set */

typedef struct {
    v16 lo, hi;
} v16x2;

V16_FN v16 v16_pair(__m256 lo, __m256 hi)
{
    const v16 r = { lo, hi };
    return r;
}

V16_FN __m256i v16_first8(size_t n)
{
    const int count = n < 8 ? (int)n : 8;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

V16_FN m16 v16_first(size_t n)
{
    return v16_pair(_mm256_castsi256_ps(v16_first8(n)), _mm256_castsi256_ps(v16_first8(n > 8 ? n - 8 : 0)));
}

V16_FN v16 v16_set1(float x)
{
    return v16_pair(_mm256_set1_ps(x), _mm256_set1_ps(x));
}

V16_FN v16 v16_load(const float *p)
{
    return v16_pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}

V16_FN v16 v16_load_n(const float *p, size_t n)
{
    if (n <= 8)
        return v16_pair(_mm256_maskload_ps(p, v16_first8(n)), _mm256_setzero_ps());
    return v16_pair(_mm256_loadu_ps(p), _mm256_maskload_ps(p + 8, v16_first8(n - 8)));
}

V16_FN void v16_store(float *p, v16 v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}

V16_FN void v16_store_n(float *p, v16 v, size_t n)
{
    if (n <= 8) {
        _mm256_maskstore_ps(p, v16_first8(n), v.lo);
    } else {
        _mm256_storeu_ps(p, v.lo);
        _mm256_maskstore_ps(p + 8, v16_first8(n - 8), v.hi);
    }
}

V16_FN void v16_stream(float *p, v16 v)
{
    _mm256_stream_ps(p, v.lo);
    _mm256_stream_ps(p + 8, v.hi);
}

/* An operation on both halves. */
#define V16_BINARY(name, op)                             \
    V16_FN v16 v16_##name(v16 a, v16 b)                  \
    {                                                    \
        return v16_pair(op(a.lo, b.lo), op(a.hi, b.hi)); \
    }
#define V16_TERNARY(name, op)                                        \
    V16_FN v16 v16_##name(v16 a, v16 b, v16 c)                       \
    {                                                                \
        return v16_pair(op(a.lo, b.lo, c.lo), op(a.hi, b.hi, c.hi)); \
    }

V16_BINARY(add, _mm256_add_ps)
V16_BINARY(sub, _mm256_sub_ps)
V16_BINARY(mul, _mm256_mul_ps)
V16_BINARY(div, _mm256_div_ps)
V16_BINARY(max, _mm256_max_ps)
V16_BINARY(min, _mm256_min_ps)
V16_TERNARY(fma, _mm256_fmadd_ps)
V16_TERNARY(fnma, _mm256_fnmadd_ps)

V16_FN v16 v16_abs(v16 v)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v16_pair(_mm256_andnot_ps(sign, v.lo), _mm256_andnot_ps(sign, v.hi));
}

V16_FN v16 v16_copysign(v16 v, v16 s)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v16_pair(_mm256_or_ps(_mm256_andnot_ps(sign, v.lo), _mm256_and_ps(sign, s.lo)),
                    _mm256_or_ps(_mm256_andnot_ps(sign, v.hi), _mm256_and_ps(sign, s.hi)));
}

V16_FN v16 v16_rint(v16 v)
{
    return v16_pair(_mm256_round_ps(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                    _mm256_round_ps(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* In two steps, the first of them exact, so that a denormal result is rounded once. */
V16_FN __m256 v16_scale8(__m256 v, __m256 n)
{
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const __m256i rest = _mm256_sub_epi32(whole, half);

    v = _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
V16_BINARY(scale, v16_scale8)

V16_FN __m256 v16_weights8(const enum v16_panel form, const void *step, const int column, const int s)
{
    const char *p = step;

    if (form == V16_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 2 * column)));
    __m256i w = _mm256_loadu_si256((const __m256i *)(p + 4 * column));
    if (form == V16_BF16) /* shifts: a mask would take a register */
        w = _mm256_slli_epi32(s ? _mm256_srli_epi32(w, 16) : w, 16);
    if (form == V16_S8)
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(s < 3 ? _mm256_slli_epi32(w, 24 - 8 * s) : w, 24));
    if (form == V16_S4)
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(s < 7 ? _mm256_slli_epi32(w, 28 - 4 * s) : w, 28));
    return _mm256_castsi256_ps(w);
}

V16_FN v16 v16_weights(const enum v16_panel form, const void *step, const int column, const int s)
{
    return v16_pair(v16_weights8(form, step, column, s), v16_weights8(form, step, column + 8, s));
}

/* One k step of a tile of m <= 3 rows, 8 columns at a time: twelve accumulators, three broadcasts and one vector of the panel
 * are just the 16 registers.  In any other order gcc spills an accumulator, which costs two fifths of the speed. */
V16_FN void v16_gemm_step3(const enum v16_panel form, const int s, const int m, const float *a, size_t lda,
                           const void *step, v16 *r0_lo, v16 *r0_hi, v16 *r1_lo, v16 *r1_hi, v16 *r2_lo, v16 *r2_hi)
{
    const __m256 x0 = _mm256_broadcast_ss(a);
    const __m256 x1 = m > 1 ? _mm256_broadcast_ss(a + lda) : x0;
    const __m256 x2 = m > 2 ? _mm256_broadcast_ss(a + 2 * lda) : x0;

#define V16_COLUMNS(i, part, half)                                     \
    {                                                                  \
        const __m256 w = v16_weights8(form, step, (i), s);             \
        r0_##part->half = _mm256_fmadd_ps(x0, w, r0_##part->half);     \
        if (m > 1)                                                     \
            r1_##part->half = _mm256_fmadd_ps(x1, w, r1_##part->half); \
        if (m > 2)                                                     \
            r2_##part->half = _mm256_fmadd_ps(x2, w, r2_##part->half); \
    }
    V16_COLUMNS(0, lo, lo)
    V16_COLUMNS(8, lo, hi)
    V16_COLUMNS(16, hi, lo)
    V16_COLUMNS(24, hi, hi)
#undef V16_COLUMNS
}

V16_FN m16 v16_less(v16 a, v16 b)
{
    return v16_pair(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ));
}

V16_FN v16 v16_select(m16 m, v16 a, v16 b)
{
    return v16_pair(_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi));
}

#define V16_FOLD(v, op256, op128)                                                         \
    const __m256 half = op256(v.lo, v.hi);                                                \
    __m128 quarter = op128(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)); \
    quarter = op128(quarter, _mm_movehl_ps(quarter, quarter));                            \
    quarter = op128(quarter, _mm_shuffle_ps(quarter, quarter, 1));                        \
    return _mm_cvtss_f32(quarter)

V16_FN float v16_sum(v16 v)
{
    V16_FOLD(v, _mm256_add_ps, _mm_add_ps);
}

V16_FN float v16_largest(v16 v)
{
    V16_FOLD(v, _mm256_max_ps, _mm_max_ps);
}
#undef V16_FOLD

V16_FN v16 v16_load_f16(const uint16_t *p)
{
    return v16_pair(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))));
}

V16_FN __m256 v16_widen_bf16(const uint16_t *p)
{
    const __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}

V16_FN v16 v16_load_bf16(const uint16_t *p)
{
    return v16_pair(v16_widen_bf16(p), v16_widen_bf16(p + 8));
}

V16_FN __m128i v16_narrow_f16(__m256 v)
{
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

V16_FN __m128i v16_narrow_bf16(__m256 v)
{
    const __m256i u = _mm256_castps_si256(v), top = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i r = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), quiet, nan);

    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

V16_FN void v16_store_f16(uint16_t *p, v16 v)
{
    _mm_storeu_si128((__m128i *)p, v16_narrow_f16(v.lo));
    _mm_storeu_si128((__m128i *)(p + 8), v16_narrow_f16(v.hi));
}

V16_FN void v16_store_bf16(uint16_t *p, v16 v)
{
    _mm_storeu_si128((__m128i *)p, v16_narrow_bf16(v.lo));
    _mm_storeu_si128((__m128i *)(p + 8), v16_narrow_bf16(v.hi));
}

V16_FN void v16_stream_f16(uint16_t *p, v16 v)
{
    _mm_stream_si128((__m128i *)p, v16_narrow_f16(v.lo));
    _mm_stream_si128((__m128i *)(p + 8), v16_narrow_f16(v.hi));
}

V16_FN void v16_stream_bf16(uint16_t *p, v16 v)
{
    _mm_stream_si128((__m128i *)p, v16_narrow_bf16(v.lo));
    _mm_stream_si128((__m128i *)(p + 8), v16_narrow_bf16(v.hi));
}

/* There are no masks for 16-bit lanes: partial vectors go through a copy. */
V16_FN v16 v16_load_f16_n(const uint16_t *p, size_t n)
{
    uint16_t copy[16] = { 0 };
    memcpy(copy, p, (n < 16 ? n : 16) * sizeof *p);
    return v16_load_f16(copy);
}

V16_FN v16 v16_load_bf16_n(const uint16_t *p, size_t n)
{
    uint16_t copy[16] = { 0 };
    memcpy(copy, p, (n < 16 ? n : 16) * sizeof *p);
    return v16_load_bf16(copy);
}

V16_FN void v16_store_f16_n(uint16_t *p, v16 v, size_t n)
{
    uint16_t copy[16];
    v16_store_f16(copy, v);
    memcpy(p, copy, (n < 16 ? n : 16) * sizeof *p);
}

V16_FN void v16_store_bf16_n(uint16_t *p, v16 v, size_t n)
{
    uint16_t copy[16];
    v16_store_bf16(copy, v);
    memcpy(p, copy, (n < 16 ? n : 16) * sizeof *p);
}

#define V16_ZIP
V16_FN void v16_zip(uint16_t *to, const uint16_t *a, const uint16_t *b)
{
    for (size_t i = 0; i < 16; i += 8) {
        const __m128i even = _mm_loadu_si128((const __m128i *)(a + i)), odd = _mm_loadu_si128((const __m128i *)(b + i));

        _mm_storeu_si128((__m128i *)(to + 2 * i), _mm_unpacklo_epi16(even, odd));
        _mm_storeu_si128((__m128i *)(to + 2 * i + 8), _mm_unpackhi_epi16(even, odd));
    }
}

V16_FN void v16_unzip(uint16_t *a, uint16_t *b, const float *from)
{
    const __m256i lower = _mm256_set1_epi32(0xffff);
    const __m256i lo = _mm256_loadu_si256((const __m256i *)from), hi = _mm256_loadu_si256((const __m256i *)(from + 8));
    const __m256i even = _mm256_packus_epi32(_mm256_and_si256(lo, lower), _mm256_and_si256(hi, lower)),
                  odd = _mm256_packus_epi32(_mm256_srli_epi32(lo, 16), _mm256_srli_epi32(hi, 16));

    _mm256_storeu_si256((__m256i *)a, _mm256_permute4x64_epi64(even, 0xd8));
    _mm256_storeu_si256((__m256i *)b, _mm256_permute4x64_epi64(odd, 0xd8));
}

#define V16_EVENS

/* Of each half of 128 bits the chosen elements, then the quarters in order. */
#define V16_EVERY_SECOND(a, b, from)        \
    _mm256_castpd_ps(_mm256_permute4x64_pd( \
        _mm256_castps_pd(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(2 + (from), from, 2 + (from), from))), 0xd8))

V16_FN v16 v16_evens(v16 a, v16 b)
{
    return v16_pair(V16_EVERY_SECOND(a.lo, a.hi, 0), V16_EVERY_SECOND(b.lo, b.hi, 0));
}

V16_FN v16 v16_odds(v16 a, v16 b)
{
    return v16_pair(V16_EVERY_SECOND(a.lo, a.hi, 1), V16_EVERY_SECOND(b.lo, b.hi, 1));
}
#undef V16_EVERY_SECOND

V16_FN v16 v16_zip8(__m256 a, __m256 b)
{
    const __m256 lo = _mm256_unpacklo_ps(a, b), hi = _mm256_unpackhi_ps(a, b);
    return v16_pair(_mm256_permute2f128_ps(lo, hi, 0x20), _mm256_permute2f128_ps(lo, hi, 0x31));
}

V16_FN v16 v16_zip_lo(v16 a, v16 b)
{
    return v16_zip8(a.lo, b.lo);
}

V16_FN v16 v16_zip_hi(v16 a, v16 b)
{
    return v16_zip8(a.hi, b.hi);
}

V16_FN __m128i v16_narrow_u8(v16 v)
{
    const __m256i s16 = _mm256_packs_epi32(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi)); /* 0-3 8-11 4-7 12-15 */
    const __m256i order = _mm256_permute4x64_epi64(s16, 0xd8);

    return _mm_packus_epi16(_mm256_castsi256_si128(order), _mm256_extracti128_si256(order, 1));
}

V16_FN void v16_store_u8(uint8_t *p, v16 v)
{
    _mm_storeu_si128((__m128i *)p, v16_narrow_u8(v));
}

V16_FN void v16_store_u8_n(uint8_t *p, v16 v, size_t n)
{
    uint8_t copy[16];
    v16_store_u8(copy, v);
    memcpy(p, copy, n < 16 ? n : 16);
}

V16_FN v16 v16_load_s32(const int32_t *p)
{
    return v16_pair(_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)p)),
                    _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(p + 8))));
}

/* ---- integer products ---- */

typedef struct {
    __m256i part[4];
} q8_sum;

V16_FN q8_sum q8_zero(void)
{
    const __m256i zero = _mm256_setzero_si256();
    const q8_sum sum = { { zero, zero, zero, zero } };
    return sum;
}

#ifdef TERN_VEC_AVXVNNI
#define Q8_COLUMNS 32
#define Q8_WIDE    0

typedef uint8_t q8_activation;

V16_FN __m256i q8_row(const uint8_t *p)
{
    int32_t word;

    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

V16_FN __m256i q8_weights(const int8_t *panel, const int i)
{
    return _mm256_loadu_si256((const __m256i *)(panel + 32 * i));
}

V16_FN __m256i q8_add_products(__m256i sum, __m256i x, __m256i w)
{
    return _mm256_dpbusd_avx_epi32(sum, x, w);
}
#else
/* The four products of a column are two sums of 32 bits, side by side until the end: four columns in a register. */
#define Q8_COLUMNS 16
#define Q8_WIDE    1

typedef uint16_t q8_activation;

V16_FN __m256i q8_row(const uint16_t *p)
{
    int64_t word;

    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi64x(word);
}

V16_FN __m256i q8_weights(const int8_t *panel, const int i)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(panel + 16 * i)));
}

V16_FN __m256i q8_add_products(__m256i sum, __m256i x, __m256i w)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
}
#endif

/* One step of m <= 3 rows: as v16_gemm_step3, one vector of the panel at a time. */
V16_FN void q8_step3(const int m, const q8_activation *a, size_t lda, const int8_t *panel, q8_sum *r0, q8_sum *r1,
                     q8_sum *r2)
{
    const __m256i x0 = q8_row(a), x1 = m > 1 ? q8_row(a + lda) : x0, x2 = m > 2 ? q8_row(a + 2 * lda) : x0;

#define Q8_PART(i)                                             \
    {                                                          \
        const __m256i w = q8_weights(panel, (i));              \
        r0->part[i] = q8_add_products(r0->part[i], x0, w);     \
        if (m > 1)                                             \
            r1->part[i] = q8_add_products(r1->part[i], x1, w); \
        if (m > 2)                                             \
            r2->part[i] = q8_add_products(r2->part[i], x2, w); \
    }
    Q8_PART(0)
    Q8_PART(1)
    Q8_PART(2)
    Q8_PART(3)
#undef Q8_PART
}

V16_FN void q8_store8(int32_t *c, const int32_t *from, __m256i sums)
{
    _mm256_storeu_si256((__m256i *)c, _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)from), sums));
}

/* Eight columns of which a holds the first four and b the others. */
V16_FN __m256i q8_fold(__m256i a, __m256i b)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8);
}

V16_FN void q8_store(int32_t *c, const int32_t *from, q8_sum sum)
{
    if (Q8_COLUMNS == 32) {
        q8_store8(c, from, sum.part[0]);
        q8_store8(c + 8, from + 8, sum.part[1]);
        q8_store8(c + 16, from + 16, sum.part[2]);
        q8_store8(c + 24, from + 24, sum.part[3]);
    } else {
        q8_store8(c, from, q8_fold(sum.part[0], sum.part[1]));
        q8_store8(c + 8, from + 8, q8_fold(sum.part[2], sum.part[3]));
    }
}

#endif
