/* vec.h: the vocabulary that shared kernel text is written in.
 *
 * v16 is sixteen f32 lanes: one AVX-512 register, two of AVX2, four of NEON, an array in portable C.  m16 is a truth value per lane, v16x2
 * two v16, lo and hi.
 * Every operation gives the same bits at every level (a NaN is a NaN); all are static, so nothing of a
 * raised level can leak into another file.
 *
 *   load(p) load_n(p, n)        16 floats; the first n of them (n >= 16: all), the other lanes 0, nothing else touched
 *   store(p, v) store_n(p, v, n)
 *   stream(p, v)                past the caches where there are such stores, else as store; p at a multiple of 64 bytes.
 *                               Others see it once this thread has called tern_stream_end() (kernels.h)
 *   set1(x)                     all lanes
 *   add sub mul div             rounded once
 *   fma(a, b, c) fnma(a, b, c)  a*b + c, c - a*b, rounded once
 *   max(a, b) min(a, b)         a > b ? a : b, a < b ? a : b: so b if either is a NaN, and b for zeros of any sign
 *   abs(v) copysign(v, s)       bits of v with sign cleared, or taken from s
 *   rint(v)                     to the nearest integer, ties to even
 *   scale(v, n)                 v * 2^n, rounded once; 1/2 < |v| < 2, n integral, -152 <= n <= 130, or either a NaN
 *   less(a, b) select(m, a, b)  a < b (false for NaN), m ? a : b
 *   first(n)                    m16 with lanes 0 .. n-1 true
 *   sum(v) largest(v)           over the lanes, by halving: lane i with lane i + 8, then 4, 2, 1 (add; max)
 *   load_f16 load_bf16 (p)      16 halves, widened exactly; _n as above
 *   store_f16 store_bf16 (p, v) narrowed to nearest even, overflow to infinity; _n as above
 *   stream_f16 stream_bf16      both, past the caches; p at a multiple of 32 bytes
 *   load2_bf16 store2_bf16      32 of them as a v16x2, the first 16 in lo; stream2_bf16: p at a multiple of 64 bytes
 *   load2_bf16_any(p)           32 in any order of the lanes; in_order_bf16(v) is what load2_bf16 gives
 *   evens(a, b) odds(a, b)      a[0] a[2] .. b[14], a[1] a[3] .. b[15]
 *   zip_lo(a, b) zip_hi(a, b)   a[0] b[0] .. b[7], a[8] b[8] .. b[15]
 *   store_u8(p, v)              integers of 0..255; _n as above
 *   transpose(to, ld, from, ld_from)    to[c * ld + r] = from[r * ld_from + c] for 16 rows of 16; words, never read as numbers
 *   zip(to, a, b)               to[2i] = a[i], to[2i + 1] = b[i] for 16 halves
 *   unzip(a, b, from)           the other way round; from: 16 words, never read as numbers
 *   weights(form, p, j, s)      columns j..j+15 of one step of a panel at p, its element s, widened exactly
 *
 * and V16_GEMM_ROWS, the rows of a 32-column tile whose accumulators fit the registers.
 *
 * Integer products, u8 times s8, Q8_COLUMNS columns at a time (gemm_q8.tmpl.c):
 *   q8_sum q8_zero()            sums of one row for half of the columns
 *   q8_load(p)                  the columns of a half in one step of a panel
 *   q8_row(p)                   the four activations at p, u8, or u16 where Q8_WIDE is 1
 *   q8_step(sum, row, weights)
 *   q8_store(c, from, sum)      c = from + sum
 * Where V16_GEMM_ROWS is 3 a sum has all the columns, and q8_step3(m, rows, lda, panel, ..) is a whole step. */
#ifndef TERN_KERNELS_VEC_H
#define TERN_KERNELS_VEC_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What a step of 32 columns holds (kernels.h).  V16_BF16_DOT and V16_S8_DOT: pairs of bf16 and fours of s8 for the instructions
 * that take them as they are; integers then stand in the bits of a v16. */
enum v16_panel { V16_F32, V16_F16, V16_BF16, V16_S8, V16_S4, V16_BF16_DOT, V16_S8_DOT };

#if defined TERN_VEC_AVX512
#define V16_FN static inline __attribute__((always_inline))
#include "kernels/vec_avx512.h"
#elif defined TERN_VEC_AVX2
#define V16_FN static inline __attribute__((always_inline))
#include "kernels/vec_avx2.h"
#elif defined TERN_VEC_NEON
#define V16_FN static inline __attribute__((always_inline))
#include "kernels/vec_neon.h"
#else
#define V16_FN static inline /* the compiler may choose: sixteen calls of fmaf() inlined everywhere help no one */
#include "kernels/vec_portable.h"
#endif

#ifndef V16_TRANSPOSE
V16_FN void v16_transpose(float *to, size_t ld, const float *from, size_t ld_from)
{
    for (size_t c = 0; c < 16; c++)
        for (size_t r = 0; r < 16; r++)
            memcpy(to + c * ld + r, from + r * ld_from + c, sizeof *to);
}
#endif

#ifndef V16_ZIP
V16_FN void v16_zip(uint16_t *to, const uint16_t *a, const uint16_t *b)
{
    for (size_t i = 0; i < 16; i++) {
        to[2 * i] = a[i];
        to[2 * i + 1] = b[i];
    }
}

V16_FN void v16_unzip(uint16_t *a, uint16_t *b, const float *from)
{
    uint16_t pair[2];

    for (size_t i = 0; i < 16; i++) {
        memcpy(pair, from + i, sizeof pair);
        a[i] = pair[0];
        b[i] = pair[1];
    }
}
#endif

#ifndef V16_PAIRS_BF16
V16_FN v16x2 v16_load2_bf16(const uint16_t *p)
{
    const v16x2 v = { v16_load_bf16(p), v16_load_bf16(p + 16) };
    return v;
}

V16_FN v16x2 v16_load2_bf16_any(const uint16_t *p)
{
    return v16_load2_bf16(p);
}

V16_FN v16x2 v16_in_order_bf16(v16x2 v)
{
    return v;
}

V16_FN void v16_store2_bf16(uint16_t *p, v16x2 v)
{
    v16_store_bf16(p, v.lo);
    v16_store_bf16(p + 16, v.hi);
}

V16_FN void v16_stream2_bf16(uint16_t *p, v16x2 v)
{
    v16_stream_bf16(p, v.lo);
    v16_stream_bf16(p + 16, v.hi);
}
#endif

#ifndef V16_EVENS
V16_FN v16 v16_every_second(v16 a, v16 b, size_t first)
{
    float from[32], to[16];

    v16_store(from, a);
    v16_store(from + 16, b);
    for (size_t i = 0; i < 16; i++)
        to[i] = from[2 * i + first];
    return v16_load(to);
}

V16_FN v16 v16_zip_from(v16 a, v16 b, size_t first)
{
    float from[32], to[16];

    v16_store(from, a);
    v16_store(from + 16, b);
    for (size_t i = 0; i < 16; i++)
        to[i] = from[first + i / 2 + 16 * (i % 2)];
    return v16_load(to);
}

V16_FN v16 v16_evens(v16 a, v16 b)
{
    return v16_every_second(a, b, 0);
}

V16_FN v16 v16_odds(v16 a, v16 b)
{
    return v16_every_second(a, b, 1);
}

V16_FN v16 v16_zip_lo(v16 a, v16 b)
{
    return v16_zip_from(a, b, 0);
}

V16_FN v16 v16_zip_hi(v16 a, v16 b)
{
    return v16_zip_from(a, b, 8);
}
#endif

/* Sum of 32 virtual lanes: lane = index mod 32, lanes 16..31 in b. */
V16_FN float v16_sum32(v16 a, v16 b)
{
    return v16_sum(v16_add(a, b));
}

#endif
