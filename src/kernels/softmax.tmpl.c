/* softmax.tmpl.c: softmax of one row.  Built once per level; contract in kernels.h.
 *
 * Three passes: the maximum of the scores, exponentials of the scores, made anew, and their sum in 32 virtual lanes (lane =
 * (j - first) mod 32), the division.  The second prefetches what comes later; the third, which would leave the arithmetic idle while
 * it waits for memory, is left to the next row's second where it may be (struct tern_row_rest).  max keeps its second operand when the
 * first is a NaN, so a NaN reaches the row through the sum alone. */
#include "kernels/flow.h"
#include "kernels/vec_math.h"

#include <float.h>

struct softmax_terms {
    const void *x;
    const float *mask;
    v16 scale, slope, steps; /* steps: 0, 1, ... 15 */
    bool masked, sloped;     /* constants inside each loop */
};

V16_FN v16 softmax_score(const struct softmax_terms *t, v16 x, size_t j, size_t lanes)
{
    v16 s = v16_mul(x, t->scale);

    if (t->sloped)
        s = v16_fma(t->slope, v16_add(v16_set1((float)j), t->steps), s);
    if (t->masked) {
        const v16 add = v16_load_n(t->mask + j, lanes);
        s = v16_select(v16_less(add, v16_set1(-FLT_MAX)), v16_set1(-INFINITY), v16_add(s, add));
    }
    return s;
}

V16_FN v16 softmax_score_n(const enum v16_panel form, const struct softmax_terms *t, size_t j, size_t lanes)
{
    return softmax_score(t, row_load_n(form, t->x, j, lanes), j, lanes);
}

/* The scores of columns j .. j + 31, in any order if they are to be in none. */
V16_FN v16x2 softmax_score2(const enum v16_panel form, const struct softmax_terms *t, size_t j, const bool any)
{
    const bool plain = any && !t->masked && !t->sloped;
    const v16x2 x = plain ? row_load2_any(form, t->x, j) : row_load2(form, t->x, j);
    const v16x2 s = { softmax_score(t, x.lo, j, 16), softmax_score(t, x.hi, j + 16, 16) };
    return s;
}

/* Columns that are taken step by step (v16_exp_split). */
#define SOFTMAX_BLOCK ((size_t)256)

V16_FN void softmax_split(float *r, float *n, v16 x)
{
    const struct v16_exp_parts parts = v16_exp_split(x);

    v16_store(r, parts.r);
    v16_store(n, parts.n);
}

/* e: exponentials of the parts in e and n, which *sum gets too.   count: a multiple of 32 */
static __attribute__((noinline)) void softmax_join(float *e, const float *n, size_t count, v16x2 *sum)
{
    v16x2 s = *sum;

    for (size_t i = 0; i < count; i += 32) {
        const v16 lo = v16_exp_join(v16_load(e + i), v16_load(n + i));
        const v16 hi = v16_exp_join(v16_load(e + i + 16), v16_load(n + i + 16));
        v16_store(e + i, lo);
        v16_store(e + i + 16, hi);
        s.lo = v16_add(s.lo, lo);
        s.hi = v16_add(s.hi, hi);
    }
    *sum = s;
}

/* exp(score - base) of the first lanes, also stored to e; 0 in the others */
V16_FN v16 softmax_exp_n(const enum v16_panel form, const struct softmax_terms *t, float *e, size_t j, size_t lanes,
                         v16 base)
{
    const v16 value = v16_exp_negative(v16_sub(softmax_score_n(form, t, j, lanes), base));

    v16_store_n(e + j, value, lanes);
    return v16_select(v16_first(lanes), value, v16_set1(0));
}

/* What is stored for exponentials e: 0 where the mask (NULL: none) hides, also where the row's sum is a NaN. */
V16_FN v16 softmax_share(const float *mask, const float *e, size_t j, size_t lanes, v16 inverse)
{
    const v16 share = v16_mul(v16_load_n(e + j, lanes), inverse);

    if (!mask)
        return share;
    return v16_select(v16_less(v16_load_n(mask + j, lanes), v16_set1(-FLT_MAX)), v16_set1(0), share);
}

V16_FN v16x2 softmax_share2(const float *mask, const float *e, size_t j, v16 inverse)
{
    const v16x2 share = { softmax_share(mask, e, j, 16, inverse), softmax_share(mask, e, j + 16, 16, inverse) };
    return share;
}

/* Stores what is left of a row of f32, from column j on. */
static __attribute__((noinline)) void softmax_finish(struct tern_row_rest *rest, const float *e, size_t j)
{
    const v16 inverse = v16_set1(rest->inverse);

    for (; j + 32 <= rest->last; j += 32) {
        const v16x2 share = softmax_share2(rest->mask, e, j, inverse);
        v16_stream(rest->y + j, share.lo);
        v16_stream(rest->y + j + 16, share.hi);
    }
    for (; j < rest->last; j += 16)
        v16_store_n(rest->y + j, softmax_share(rest->mask, e, j, rest->last - j, inverse), rest->last - j);
    rest->y = NULL;
}

/* Exponentials of columns j .. j + 31 of a row of f32, into e and the sum. */
V16_FN void softmax_exp2(const struct softmax_terms *t, float *e, size_t j, v16 base, v16x2 *sum)
{
    const v16x2 s = softmax_score2(V16_F32, t, j, false);
    const v16x2 value = { v16_exp_negative(v16_sub(s.lo, base)), v16_exp_negative(v16_sub(s.hi, base)) };

    v16_store(e + j, value.lo);
    v16_store(e + j + 16, value.hi);
    sum->lo = v16_add(sum->lo, value.lo);
    sum->hi = v16_add(sum->hi, value.hi);
}

/* The same of all columns of a row that one before it has, whose shares are stored meanwhile, from where its exponentials stood.
 * @return where the other columns begin. */
V16_FN size_t softmax_beside(const struct softmax_terms *t, struct tern_row_rest *rest, float *e, size_t first,
                             size_t last, v16 base, v16x2 *sum, struct tern_row_flow flow)
{
    const size_t both = rest->last < last ? rest->last : last;
    const float *mask = t->masked ? rest->mask : NULL;
    const v16 inverse = v16_set1(rest->inverse);
    float *y = rest->y;
    v16x2 s = *sum;
    size_t j = first;

    if (rest->first != first || (rest->mask != NULL) != t->masked) {
        softmax_finish(rest, e, rest->first);
        return first;
    }
    for (; j + 32 <= both; j += 32) {
        const v16x2 share = softmax_share2(mask, e, j, inverse);
        v16_stream(y + j, share.lo);
        v16_stream(y + j + 16, share.hi);
        softmax_exp2(t, e, j, base, &s);
        flow_ahead(flow, sizeof(float) * (j - first), 32 * sizeof(float));
    }
    *sum = s;
    softmax_finish(rest, e, j);
    return j;
}

V16_FN void softmax_row(const enum v16_panel form, void *y, const void *x, const float *mask, size_t first, size_t last,
                        float scale, float slope, struct tern_row_flow flow, const bool masked, const bool sloped)
{
    static const float steps[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const struct softmax_terms terms = { x, mask, v16_set1(scale), v16_set1(slope), v16_load(steps), masked, sloped };
    const v16 nothing = v16_set1(-INFINITY), zero = v16_set1(0);
    float *e = form != V16_F32 || flow.stream ? flow.work : y; /* what is streamed must not be in the cache already */
    _Alignas(64) float n_ln2[SOFTMAX_BLOCK];
    v16x2 top = { nothing, nothing }, sum = { zero, zero };
    size_t j;

    for (j = first; j + 32 <= last; j += 32) {
        const v16x2 s = softmax_score2(form, &terms, j, true);
        top.lo = v16_max(s.lo, top.lo);
        top.hi = v16_max(s.hi, top.hi);
    }
    for (; j < last; j += 16)
        top.lo = v16_max(v16_select(v16_first(last - j), softmax_score_n(form, &terms, j, last - j), nothing), top.lo);

    const float largest = v16_largest(v16_max(top.lo, top.hi));
    const v16 base = v16_set1(largest == -INFINITY ? 0 : largest);

    /* On rows of f32 the chain is short enough: in steps 3 to 6 % slower. */
    j = first;
    if (form == V16_F32 && flow.rest && flow.rest->y)
        j = softmax_beside(&terms, flow.rest, e, first, last, base, &sum, flow);
    for (; form == V16_F32 && j + 32 <= last; j += 32) {
        softmax_exp2(&terms, e, j, base, &sum);
        flow_ahead(flow, row_size(form) * (j - first), 32 * row_size(form));
    }
    while (j + 32 <= last) {
        const size_t rest = (last - j) / 32 * 32, block = rest < SOFTMAX_BLOCK ? rest : SOFTMAX_BLOCK;
        for (size_t i = 0; i < block; i += 32) {
            const v16x2 s = softmax_score2(form, &terms, j + i, false);
            softmax_split(e + j + i, n_ln2 + i, v16_sub(s.lo, base));
            softmax_split(e + j + i + 16, n_ln2 + i + 16, v16_sub(s.hi, base));
            flow_ahead(flow, row_size(form) * (j + i - first), 32 * row_size(form));
        }
        softmax_join(e + j, n_ln2, block, &sum);
        j += block;
    }
    if (j < last)
        sum.lo = v16_add(sum.lo, softmax_exp_n(form, &terms, e, j, last - j, base));
    if (j + 16 < last)
        sum.hi = v16_add(sum.hi, softmax_exp_n(form, &terms, e, j + 16, last - j - 16, base));

    const float total = v16_sum32(sum.lo, sum.hi);
    const v16 inverse = v16_set1(total == 0 ? 0 : 1 / total);

    j = first + flow_head(form, flow, (char *)y + first * row_size(form), last - first);
    if (form == V16_F32 && flow.stream && flow.rest && flow.rest->more && j == first) {
        flow.rest->y = y;
        flow.rest->mask = mask;
        flow.rest->first = first;
        flow.rest->last = last;
        flow.rest->inverse = total == 0 ? 0 : 1 / total;
        return;
    }
    const float *hides = masked ? mask : NULL;
    for (size_t i = first; i < j; i += 16)
        row_store_n(form, y, i, softmax_share(hides, e, i, j - i, inverse), j - i);
    for (; j + 32 <= last; j += 32)
        flow_store2(form, flow, y, j, softmax_share2(hides, e, j, inverse));
    for (; j < last; j += 16)
        row_store_n(form, y, j, softmax_share(hides, e, j, last - j, inverse), last - j);
}

V16_FN void softmax(const enum v16_panel form, void *y, const void *x, const float *mask, size_t n, size_t first,
                    size_t last, float scale, float slope, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);

    if (first > last)
        first = last;
    if (mask && slope != 0)
        softmax_row(form, y, x, mask, first, last, scale, slope, flow, true, true);
    else if (mask)
        softmax_row(form, y, x, mask, first, last, scale, slope, flow, true, false);
    else if (slope != 0)
        softmax_row(form, y, x, mask, first, last, scale, slope, flow, false, true);
    else
        softmax_row(form, y, x, mask, first, last, scale, slope, flow, false, false);
    flow_zero(form, flow, y, 0, first);
    flow_zero(form, flow, y, last, n);
}

#define SOFTMAX(form, type, suffix)                                                                               \
    static void TERN_K(softmax_##suffix)(type * y, const type *x, const float *mask, size_t n, size_t first,      \
                                         size_t last, float scale, float slope, const struct tern_row_flow *flow) \
    {                                                                                                             \
        softmax(form, y, x, mask, n, first, last, scale, slope, flow);                                            \
    }
ROW_FORMS(SOFTMAX)
#undef SOFTMAX
