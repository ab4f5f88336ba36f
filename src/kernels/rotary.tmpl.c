/* rotary.tmpl.c: the rotary embedding, its angles and the rows that turn by them.  Built once per level; contracts in kernels.h. */
#include "kernels/flow.h"

#include <math.h>

/* ---- angles ----
 *
 * Plain C in f64: each number goes the same way without a branch, so that the compiler takes as many at once as the level has
 * lanes.  Taylor's series on [-pi/4, pi/4], up to x^15 and x^16: the next term is below 5e-17 of the sine, 2e-18 of the cosine. */

V16_FN double rotary_sine(double x, double x2)
{
    double p = fma(-1 / 1307674368000.0, x2, 1 / 6227020800.0);

    p = fma(p, x2, -1 / 39916800.0);
    p = fma(p, x2, 1 / 362880.0);
    p = fma(p, x2, -1 / 5040.0);
    p = fma(p, x2, 1 / 120.0);
    p = fma(p, x2, -1 / 6.0);
    return fma(x * x2, p, x);
}

V16_FN double rotary_cosine(double x2)
{
    double p = fma(1 / 20922789888000.0, x2, -1 / 87178291200.0);

    p = fma(p, x2, 1 / 479001600.0);
    p = fma(p, x2, -1 / 3628800.0);
    p = fma(p, x2, 1 / 40320.0);
    p = fma(p, x2, -1 / 720.0);
    p = fma(p, x2, 1 / 24.0);
    p = fma(p, x2, -0.5);
    return fma(p, x2, 1);
}

V16_FN uint64_t rotary_bits(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

V16_FN float rotary_rounded(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof x);
    return (float)x;
}

/* The quadrant is the number that is added to 1.5 2^52, of which the last bits stay; its sine is the cosine where it is odd, and
 * one of both has its sign turned from the second on. */
static void TERN_K(rotary_angles)(float *restrict cosine, float *restrict sine, const double *restrict frequency,
                                  size_t n, double position)
{
    for (size_t p = 0; p < n; p++) {
        const double a = position * frequency[p];
        const double shifted = fma(a, 0.63661977236758134, 0x1.8p52), quadrant = shifted - 0x1.8p52;
        const double r = fma(quadrant, -0x1.1a62633145c07p-54, fma(quadrant, -0x1.921fb54442d18p0, a)), r2 = r * r;
        const uint64_t q = rotary_bits(shifted), s = rotary_bits(rotary_sine(r, r2)),
                       c = rotary_bits(rotary_cosine(r2));
        const uint64_t swap = (s ^ c) & (0 - (q & 1));

        cosine[p] = rotary_rounded(c ^ swap ^ ((q + 1) & 2) << 62);
        sine[p] = rotary_rounded(s ^ swap ^ (q & 2) << 62);
    }
}

/* ---- rows ---- */

/* (a, b) <- (a cos - b sin, b cos + a sin) of 16 pairs */
V16_FN v16x2 rotary_pairs(v16x2 v, v16 c, v16 s)
{
    const v16x2 turned = { v16_fma(v.lo, c, v16_sub(v16_set1(-0.0f), v16_mul(v.hi, s))),
                           v16_fma(v.hi, c, v16_mul(v.lo, s)) };
    return turned;
}

/* Pairs p .. p + lanes - 1, 16 at most. */
V16_FN void rotary_part(const enum v16_panel form, void *y, const void *x, const float *cos, const float *sin,
                        size_t pairs, const bool neighbours, size_t p, size_t lanes)
{
    const v16 c = v16_load_n(cos + p, lanes), s = v16_load_n(sin + p, lanes);
    const size_t more = lanes > 8 ? 2 * lanes - 16 : 0; /* elements of neighbours beyond the first 16 */
    const size_t at = neighbours ? 2 * p : p, to = neighbours ? at + 16 : pairs + p;
    const v16 first = row_load_n(form, x, at, neighbours ? 2 * lanes : lanes);
    const v16 second = neighbours && !more ? v16_set1(0) : row_load_n(form, x, to, neighbours ? more : lanes);
    const v16x2 v = { neighbours ? v16_evens(first, second) : first, neighbours ? v16_odds(first, second) : second };
    const v16x2 turned = rotary_pairs(v, c, s);

    row_store_n(form, y, at, neighbours ? v16_zip_lo(turned.lo, turned.hi) : turned.lo, neighbours ? 2 * lanes : lanes);
    if (!neighbours)
        row_store_n(form, y, to, turned.hi, lanes);
    else if (more)
        row_store_n(form, y, to, v16_zip_hi(turned.lo, turned.hi), more);
}

/* Pairs p .. p + 31: whole lines of both halves, or of the neighbours. */
V16_FN void rotary_lines(const enum v16_panel form, struct tern_row_flow flow, void *y, const void *x, const float *cos,
                         const float *sin, size_t pairs, const bool neighbours, size_t p)
{
    const size_t at = neighbours ? 2 * p : p, to = neighbours ? at + 32 : pairs + p;
    const v16x2 first = row_load2(form, x, at), second = row_load2(form, x, to);
    const v16x2 lo = { neighbours ? v16_evens(first.lo, first.hi) : first.lo,
                       neighbours ? v16_odds(first.lo, first.hi) : second.lo };
    const v16x2 hi = { neighbours ? v16_evens(second.lo, second.hi) : first.hi,
                       neighbours ? v16_odds(second.lo, second.hi) : second.hi };
    const v16x2 a = rotary_pairs(lo, v16_load(cos + p), v16_load(sin + p));
    const v16x2 b = rotary_pairs(hi, v16_load(cos + p + 16), v16_load(sin + p + 16));
    const v16x2 one = { neighbours ? v16_zip_lo(a.lo, a.hi) : a.lo, neighbours ? v16_zip_hi(a.lo, a.hi) : b.lo };
    const v16x2 two = { neighbours ? v16_zip_lo(b.lo, b.hi) : a.hi, neighbours ? v16_zip_hi(b.lo, b.hi) : b.hi };

    flow_store2(form, flow, y, at, one);
    flow_store2(form, flow, y, to, two);
}

V16_FN void rotary_heads(const enum v16_panel form, void *y, const void *x, const float *cos, const float *sin,
                         size_t rot, const bool neighbours, size_t heads, size_t stride,
                         const struct tern_row_flow *hints)
{
    const size_t pairs = rot / 2, size = row_size(form), step = stride * size;
    struct tern_row_flow flow = flow_of(hints);
    const char *from = x;
    char *to = y;

    if (((uintptr_t)y | step | pairs * size) % 64)
        flow.stream = false;
    for (size_t i = 0; i < heads; i++, from += step, to += step) {
        size_t p = 0;
        for (; p + 32 <= pairs; p += 32) {
            rotary_lines(form, flow, to, from, cos, sin, pairs, neighbours, p);
            flow_ahead(flow, i * step + 2 * p * size, 64 * size);
        }
        for (; p + 16 <= pairs; p += 16) {
            rotary_part(form, to, from, cos, sin, pairs, neighbours, p, 16);
            flow_ahead(flow, i * step + 2 * p * size, 32 * size);
        }
        if (p < pairs)
            rotary_part(form, to, from, cos, sin, pairs, neighbours, p, pairs - p);
    }
}

#define ROTARY(form, type, suffix)                                                                               \
    static void TERN_K(rotary_##suffix)(type * y, const type *x, const float *cos, const float *sin, size_t rot, \
                                        bool neighbours, size_t heads, size_t stride,                            \
                                        const struct tern_row_flow *flow)                                        \
    {                                                                                                            \
        if (neighbours)                                                                                          \
            rotary_heads(form, y, x, cos, sin, rot, true, heads, stride, flow);                                  \
        else                                                                                                     \
            rotary_heads(form, y, x, cos, sin, rot, false, heads, stride, flow);                                 \
    }
ROW_FORMS(ROTARY)
#undef ROTARY
