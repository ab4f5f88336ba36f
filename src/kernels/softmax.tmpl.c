/* softmax.tmpl.c: softmax of one row.  Built once per level; contract in kernels.h.
 *
 * Three passes: the maximum of the scores, exponentials of the scores, made anew, and their sum in 32 virtual lanes (lane =
 * (j - first) mod 32), the division.  The last two prefetch what comes later.  max keeps its second operand when the first is a NaN, so a NaN reaches the row through the sum alone. */
#include "kernels/flow.h"
#include "kernels/vec_math.h"

#include <float.h>

struct softmax_terms {
    const float *x, *mask;
    v16 scale, slope, steps; /* steps: 0, 1, ... 15 */
    bool masked, sloped;     /* constants inside each loop */
};

V16_FN v16 softmax_score(const struct softmax_terms *t, size_t j, size_t lanes)
{
    v16 s = v16_mul(v16_load_n(t->x + j, lanes), t->scale);

    if (t->sloped)
        s = v16_fma(t->slope, v16_add(v16_set1((float)j), t->steps), s);
    if (t->masked) {
        const v16 add = v16_load_n(t->mask + j, lanes);
        s = v16_select(v16_less(add, v16_set1(-FLT_MAX)), v16_set1(-INFINITY), v16_add(s, add));
    }
    return s;
}

/* exp(score - base), also stored to e */
V16_FN v16 softmax_exp(const struct softmax_terms *t, float *e, size_t j, size_t lanes, v16 base)
{
    const v16 value = v16_exp_negative(v16_sub(softmax_score(t, j, lanes), base));

    v16_store_n(e + j, value, lanes);
    return value;
}

/* What is stored for exponentials e: 0 where the mask hides, also where the row's sum is a NaN. */
V16_FN v16 softmax_share(const struct softmax_terms *t, const float *e, size_t j, size_t lanes, v16 inverse)
{
    const v16 share = v16_mul(v16_load_n(e + j, lanes), inverse);

    if (!t->masked)
        return share;
    return v16_select(v16_less(v16_load_n(t->mask + j, lanes), v16_set1(-FLT_MAX)), v16_set1(0), share);
}

V16_FN void softmax_row(float *y, const float *x, const float *mask, size_t first, size_t last, float scale,
                        float slope, struct tern_row_flow flow, const bool masked, const bool sloped)
{
    static const float steps[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const struct softmax_terms terms = { x, mask, v16_set1(scale), v16_set1(slope), v16_load(steps), masked, sloped };
    const v16 nothing = v16_set1(-INFINITY), zero = v16_set1(0);
    float *e = flow.stream ? flow.work : y; /* what is streamed must not be in the cache already */
    v16 top = nothing, top16 = nothing, sum = zero, sum16 = zero;
    size_t j;

    for (j = first; j + 32 <= last; j += 32) {
        top = v16_max(softmax_score(&terms, j, 16), top);
        top16 = v16_max(softmax_score(&terms, j + 16, 16), top16);
    }
    for (; j < last; j += 16)
        top = v16_max(v16_select(v16_first(last - j), softmax_score(&terms, j, last - j), nothing), top);

    const float largest = v16_largest(v16_max(top, top16));
    const v16 base = v16_set1(largest == -INFINITY ? 0 : largest);

    for (j = first; j + 32 <= last; j += 32) {
        sum = v16_add(sum, softmax_exp(&terms, e, j, 16, base));
        sum16 = v16_add(sum16, softmax_exp(&terms, e, j + 16, 16, base));
        flow_ahead(flow, 4 * (j - first));
        flow_ahead(flow, 4 * (j + 16 - first));
    }
    if (j < last)
        sum = v16_add(sum, v16_select(v16_first(last - j), softmax_exp(&terms, e, j, last - j, base), zero));
    if (j + 16 < last) {
        j += 16;
        sum16 = v16_add(sum16, v16_select(v16_first(last - j), softmax_exp(&terms, e, j, last - j, base), zero));
    }

    const float total = v16_sum32(sum, sum16);
    const v16 inverse = v16_set1(total == 0 ? 0 : 1 / total);
    const size_t head = flow_head(flow.stream, y + first, 64, sizeof *y, last - first);

    if (head)
        v16_store_n(y + first, softmax_share(&terms, e, first, head, inverse), head);
    for (j = first + head; j + 32 <= last; j += 32) {
        flow_store(flow.stream, y + j, softmax_share(&terms, e, j, 16, inverse));
        flow_store(flow.stream, y + j + 16, softmax_share(&terms, e, j + 16, 16, inverse));
    }
    for (; j < last; j += 16)
        v16_store_n(y + j, softmax_share(&terms, e, j, last - j, inverse), last - j);
}

static void TERN_K(softmax_f32)(float *y, const float *x, const float *mask, size_t n, size_t first, size_t last,
                                float scale, float slope, const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);

    if (first > last)
        first = last;
    if (mask && slope != 0)
        softmax_row(y, x, mask, first, last, scale, slope, flow, true, true);
    else if (mask)
        softmax_row(y, x, mask, first, last, scale, slope, flow, true, false);
    else if (slope != 0)
        softmax_row(y, x, mask, first, last, scale, slope, flow, false, true);
    else
        softmax_row(y, x, mask, first, last, scale, slope, flow, false, false);
    flow_zero(flow.stream, y, first);
    flow_zero(flow.stream, y + last, n - last);
}
