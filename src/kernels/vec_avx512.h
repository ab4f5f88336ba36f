/* vec_avx512.h: vec.h on AVX-512 F, BW, DQ, VL. */
#ifndef TERN_KERNELS_VEC_AVX512_H
#define TERN_KERNELS_VEC_AVX512_H

#include "kernels/level.h"

#include <immintrin.h>

#define V16_GEMM_ROWS 14 /* 28 accumulators, 2 vectors of the panel, 1 broadcast */

typedef __m512 v16;
typedef __mmask16 m16;

typedef struct {
    v16 lo, hi;
} v16x2;

V16_FN m16 v16_first(size_t n)
{
    return (m16)((1u << (n < 16 ? n : 16)) - 1); /* the choice is a move, not a jump */
}

V16_FN v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}

V16_FN v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

V16_FN v16 v16_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(v16_first(n), p);
}

V16_FN void v16_store(float *p, v16 v)
{
    _mm512_storeu_ps(p, v);
}

V16_FN void v16_store_n(float *p, v16 v, size_t n)
{
    _mm512_mask_storeu_ps(p, v16_first(n), v);
}

V16_FN void v16_stream(float *p, v16 v)
{
    _mm512_stream_ps(p, v);
}

V16_FN v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}

V16_FN v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}

V16_FN v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}

V16_FN v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}

V16_FN v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

V16_FN v16 v16_fnma(v16 a, v16 b, v16 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

V16_FN v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}

V16_FN v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}

V16_FN v16 v16_abs(v16 v)
{
    return _mm512_and_ps(v, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff)));
}

V16_FN v16 v16_copysign(v16 v, v16 s)
{
    const v16 sign = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(sign, v), _mm512_and_ps(sign, s));
}

V16_FN v16 v16_rint(v16 v)
{
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

V16_FN v16 v16_scale(v16 v, v16 n)
{
    return _mm512_scalef_ps(v, n);
}

V16_FN m16 v16_less(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

V16_FN v16 v16_select(m16 m, v16 a, v16 b)
{
    return _mm512_mask_blend_ps(m, b, a);
}

/* Folds lanes 8..15 onto 0..7 and so on; all of it on halves, as the AVX2 level does. */
#define V16_FOLD(v, op256, op128)                                                         \
    const __m256 half = op256(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));   \
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

#define V16_TRANSPOSE

/* Four elements of each of the rows r, r + 4, r + 8 and r + 12. */
V16_FN v16 v16_quarters(const float *r0, const float *r4, const float *r8, const float *r12)
{
    v16 v = _mm512_castps128_ps512(_mm_loadu_ps(r0));

    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps(r4));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps(r8));
    return _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps(r12));
}

/* Four columns at a time: rows 4 i + j meet in quarter i of vector j, and four of these are turned within their quarters. */
V16_FN void v16_transpose(float *to, size_t ld, const float *from, size_t ld_from)
{
    const float *r0 = from, *r4 = r0 + 4 * ld_from, *r8 = r4 + 4 * ld_from, *r12 = r8 + 4 * ld_from;

    for (size_t c = 0; c < 16; c += 4, r0 += 4, r4 += 4, r8 += 4, r12 += 4) {
        const size_t one = ld_from, two = 2 * ld_from, three = 3 * ld_from;
        const v16 a = v16_quarters(r0, r4, r8, r12), b = v16_quarters(r0 + one, r4 + one, r8 + one, r12 + one);
        const v16 d = v16_quarters(r0 + two, r4 + two, r8 + two, r12 + two),
                  e = v16_quarters(r0 + three, r4 + three, r8 + three, r12 + three);
        const __m512d ab_lo = _mm512_castps_pd(_mm512_unpacklo_ps(a, b)),
                      ab_hi = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        const __m512d de_lo = _mm512_castps_pd(_mm512_unpacklo_ps(d, e)),
                      de_hi = _mm512_castps_pd(_mm512_unpackhi_ps(d, e));

        v16_store(to + c * ld, _mm512_castpd_ps(_mm512_unpacklo_pd(ab_lo, de_lo)));
        v16_store(to + (c + 1) * ld, _mm512_castpd_ps(_mm512_unpackhi_pd(ab_lo, de_lo)));
        v16_store(to + (c + 2) * ld, _mm512_castpd_ps(_mm512_unpacklo_pd(ab_hi, de_hi)));
        v16_store(to + (c + 3) * ld, _mm512_castpd_ps(_mm512_unpackhi_pd(ab_hi, de_hi)));
    }
}

#define V16_ZIP
V16_FN void v16_zip(uint16_t *to, const uint16_t *a, const uint16_t *b)
{
    const __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)a)),
                  odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)b));

    _mm512_storeu_si512(to, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
}

V16_FN void v16_unzip(uint16_t *a, uint16_t *b, const float *from)
{
    const __m512i words = _mm512_loadu_si512(from);

    _mm256_storeu_si256((__m256i *)a, _mm512_cvtepi32_epi16(words));
    _mm256_storeu_si256((__m256i *)b, _mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
}

V16_FN v16 v16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

V16_FN v16 v16_load_f16_n(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v16_first(n), p));
}

V16_FN v16 v16_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}

V16_FN v16 v16_load_bf16_n(const uint16_t *p, size_t n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(v16_first(n), p)), 16));
}

V16_FN __m256i v16_narrow_f16(v16 v)
{
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* Integer rounding, not vcvtneps2bf16: that one flushes denormals. */
V16_FN __m256i v16_narrow_bf16(v16 v)
{
    const __m512i u = _mm512_castps_si512(v), top = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i r = _mm512_srli_epi32(up, 16);

    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(r, nan, top, _mm512_set1_epi32(0x40)));
}

V16_FN void v16_store_f16(uint16_t *p, v16 v)
{
    _mm256_storeu_si256((__m256i *)p, v16_narrow_f16(v));
}

V16_FN void v16_store_f16_n(uint16_t *p, v16 v, size_t n)
{
    _mm256_mask_storeu_epi16(p, v16_first(n), v16_narrow_f16(v));
}

V16_FN void v16_store_bf16(uint16_t *p, v16 v)
{
    _mm256_storeu_si256((__m256i *)p, v16_narrow_bf16(v));
}

V16_FN void v16_store_bf16_n(uint16_t *p, v16 v, size_t n)
{
    _mm256_mask_storeu_epi16(p, v16_first(n), v16_narrow_bf16(v));
}

V16_FN void v16_stream_f16(uint16_t *p, v16 v)
{
    _mm256_stream_si256((__m256i *)p, v16_narrow_f16(v));
}

V16_FN void v16_stream_bf16(uint16_t *p, v16 v)
{
    _mm256_stream_si256((__m256i *)p, v16_narrow_bf16(v));
}

#define V16_PAIRS_BF16

/* Constants of the two below, by name: written out, gcc would make them anew in each step of a loop, in the units that compute. */
enum { BF16_UPPER_WORDS, BF16_LAST_BIT, BF16_HALF, BF16_ONE, BF16_QUIET };

V16_FN __m512i v16_bf16_constant(int i)
{
    return _mm512_set1_epi32((int32_t)tern_bf16_constants[i]);
}

/* Each word goes to the upper half of its lane, with zeros below. */
V16_FN v16x2 v16_load2_bf16(const uint16_t *p)
{
    const __m512i words = _mm512_loadu_si512(p);
    const __m512i first = _mm512_set_epi32(0xf0000, 0xe0000, 0xd0000, 0xc0000, 0xb0000, 0xa0000, 0x90000, 0x80000,
                                           0x70000, 0x60000, 0x50000, 0x40000, 0x30000, 0x20000, 0x10000, 0);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(0x100000));
    const __mmask32 upper = tern_bf16_constants[BF16_UPPER_WORDS];
    const v16x2 v = { _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(upper, first, words)),
                      _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(upper, second, words)) };
    return v;
}

/* Even ones and odd ones, as they stand in the words. */
V16_FN v16x2 v16_load2_bf16_any(const uint16_t *p)
{
    const __m512i words = _mm512_loadu_si512(p);
    const v16x2 v = { _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)),
                      _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(-65536))) };
    return v;
}

/* Rounded to bf16 in the upper halves of the lanes. */
V16_FN __m512i v16_round_bf16(v16 v)
{
    const __m512i u = _mm512_castps_si512(v);
    const __mmask16 odd = _mm512_test_epi32_mask(u, v16_bf16_constant(BF16_LAST_BIT));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i up = _mm512_add_epi32(u, v16_bf16_constant(BF16_HALF));
    const __m512i even = _mm512_mask_add_epi32(up, odd, up, v16_bf16_constant(BF16_ONE));

    return _mm512_mask_or_epi32(even, nan, u, v16_bf16_constant(BF16_QUIET));
}

/* Integer rounding, not vcvtne2ps2bf16: that one flushes denormals. */
V16_FN __m512i v16_narrow2_bf16(v16x2 v)
{
    const __m512i halves =
        _mm512_set_epi32(0x3f003d, 0x3b0039, 0x370035, 0x330031, 0x2f002d, 0x2b0029, 0x270025, 0x230021, 0x1f001d,
                         0x1b0019, 0x170015, 0x130011, 0xf000d, 0xb0009, 0x70005, 0x30001);

    return _mm512_permutex2var_epi16(v16_round_bf16(v.lo), halves, v16_round_bf16(v.hi));
}

V16_FN void v16_store2_bf16(uint16_t *p, v16x2 v)
{
    _mm512_storeu_si512(p, v16_narrow2_bf16(v));
}

V16_FN void v16_stream2_bf16(uint16_t *p, v16x2 v)
{
    _mm512_stream_si512((__m512i *)(void *)p, v16_narrow2_bf16(v));
}

#define V16_EVENS

V16_FN v16 v16_evens(v16 a, v16 b)
{
    const __m512i lanes = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return _mm512_permutex2var_ps(a, lanes, b);
}

V16_FN v16 v16_odds(v16 a, v16 b)
{
    const __m512i lanes = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_ps(a, lanes, b);
}

V16_FN v16 v16_zip_lo(v16 a, v16 b)
{
    const __m512i lanes = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutex2var_ps(a, lanes, b);
}

V16_FN v16 v16_zip_hi(v16 a, v16 b)
{
    const __m512i lanes = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    return _mm512_permutex2var_ps(a, lanes, b);
}

V16_FN v16x2 v16_in_order_bf16(v16x2 v)
{
    const v16x2 r = { v16_zip_lo(v.lo, v.hi), v16_zip_hi(v.lo, v.hi) };
    return r;
}

V16_FN void v16_store_u8(uint8_t *p, v16 v)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

V16_FN void v16_store_u8_n(uint8_t *p, v16 v, size_t n)
{
    _mm_mask_storeu_epi8(p, v16_first(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

V16_FN v16 v16_load_s32(const int32_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_loadu_si512(p));
}

V16_FN v16 v16_weights(const enum v16_panel form, const void *step, const int column, const int s)
{
    const char *p = step;

    if (form == V16_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 2 * column)));
    const __m512i w = _mm512_loadu_si512(p + 4 * column);
    if (form == V16_BF16)
        return _mm512_castsi512_ps(s ? _mm512_and_si512(w, _mm512_set1_epi32(-65536)) : _mm512_slli_epi32(w, 16));
    if (form == V16_S8)
        return _mm512_cvtepi32_ps(_mm512_srai_epi32(s < 3 ? _mm512_slli_epi32(w, 24 - 8 * (unsigned)s) : w, 24));
    if (form == V16_S4)
        return _mm512_cvtepi32_ps(_mm512_srai_epi32(s < 7 ? _mm512_slli_epi32(w, 28 - 4 * (unsigned)s) : w, 28));
    return _mm512_castsi512_ps(w);
}

#ifdef TERN_VEC_BF16
/* Thirty-two numbers, none of them negative, to nearest even; denormals become 0. */
V16_FN void v16_store_bf16_pair(uint16_t *p, v16 lo, v16 hi)
{
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
}

/* sum + the products of the pairs in a and w, in the instruction's own order and rounding. */
V16_FN v16 v16_dot_bf16(v16 a, v16 w, v16 sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(w));
}

/* sum + the product of the first of each pair, the second being no more there than one that is -0 is for the next function. */
V16_FN v16 v16_dot_bf16_first(v16 a, v16 w, v16 sum)
{
    const __m512i second = _mm512_set1_epi32(INT32_MIN), first = _mm512_set1_epi32(0xffff);

    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_or_si512(_mm512_castps_si512(a), second),
                            (__m512bh)_mm512_and_si512(_mm512_castps_si512(w), first));
}

/* The same where an element of a that is -0 leaves the sum as if it and its w were not there. */
V16_FN v16 v16_dot_bf16_seen(v16 a, v16 w, v16 sum)
{
    const __m512i words = _mm512_castps_si512(a), unseen = _mm512_set1_epi16(-32768);
    const __m512i seen = _mm512_maskz_mov_epi16(_mm512_cmpneq_epi16_mask(words, unseen), _mm512_castps_si512(w));

    return _mm512_mask_dpbf16_ps(sum, _mm512_cmpneq_epi32_mask(words, unseen), (__m512bh)words, (__m512bh)seen);
}
#endif

#ifdef TERN_VEC_VNNI
/* Integers in the bits of all three:  sum + the four products of u8 in a and s8 in w. */
V16_FN v16 v16_dot_u8s8(v16 a, v16 w, v16 sum)
{
    return _mm512_castsi512_ps(
        _mm512_dpbusd_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(a), _mm512_castps_si512(w)));
}

/* The numbers of such a sum. */
V16_FN v16 v16_from_s32(v16 sum)
{
    return _mm512_cvtepi32_ps(_mm512_castps_si512(sum));
}
#endif

/* ---- integer products ----
 *
 * The four products of a column are two sums of 32 bits, side by side until the end. */
#define Q8_COLUMNS 16
#define Q8_WIDE    1

typedef __m512i q8_sum, q8_weights, q8_activations;

V16_FN q8_sum q8_zero(void)
{
    return _mm512_setzero_si512();
}

V16_FN q8_weights q8_load(const int8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

V16_FN q8_activations q8_row(const void *p)
{
    int64_t word;

    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi64(word);
}

V16_FN q8_sum q8_step(q8_sum sum, q8_activations a, q8_weights w)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, w));
}

V16_FN void q8_store(int32_t *c, const int32_t *from, q8_sum pairs)
{
    const __m256i sums = _mm512_cvtepi64_epi32(_mm512_add_epi32(pairs, _mm512_srli_epi64(pairs, 32)));

    _mm256_storeu_si256((__m256i *)c, _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)from), sums));
}

#endif
