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
    bool sloped;
};

V16_FN v16 softmax_score(const struct softmax_terms *t, size_t j, size_t lanes)
{
    v16 s = v16_mul(v16_load_n(t->x + j, lanes), t->scale);

    if (t->sloped)
        s = v16_fma(t->slope, v16_add(v16_set1((float)j), t->steps), s);
    if (t->mask) {
        const v16 add = v16_load_n(t->mask + j, lanes);
        s = v16_select(v16_less(add, v16_set1(-FLT_MAX)), v16_set1(-INFINITY), v16_add(s, add));
    }
    return s;
}

/* What is stored for exponentials e: 0 where the mask hides, also where the row's sum is a NaN. */
V16_FN v16 softmax_share(const struct softmax_terms *t, size_t j, size_t lanes, v16 e, v16 inverse)
{
    const v16 share = v16_mul(e, inverse);

    if (!t->mask)
        return share;
    return v16_select(v16_less(v16_load_n(t->mask + j, lanes), v16_set1(-FLT_MAX)), v16_set1(0), share);
}

static void TERN_K(softmax_f32)(float *y, const float *x, const float *mask, size_t n, size_t first, size_t last,
                                float scale, float slope, const struct tern_row_flow *hints)
{
    static const float steps[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const struct softmax_terms terms = { x, mask, v16_set1(scale), v16_set1(slope), v16_load(steps), slope != 0 };
    const struct tern_row_flow flow = flow_of(hints);
    const v16 nothing = v16_set1(-INFINITY);
    float *e = flow.stream ? flow.work : y; /* what is streamed must not be in the cache already */
    v16 top[2] = { nothing, nothing }, sum[2] = { v16_set1(0), v16_set1(0) };
    size_t j;

    if (first > last)
        first = last;
    for (j = first; j + 32 <= last; j += 32)
        for (int h = 0; h < 2; h++)
            top[h] = v16_max(softmax_score(&terms, j + h * 16, 16), top[h]);
    for (int h = 0; j < last; j += 16, h++)
        top[h] = v16_max(v16_select(v16_first(last - j), softmax_score(&terms, j, last - j), nothing), top[h]);

    const float largest = v16_largest(v16_max(top[0], top[1]));
    const v16 base = v16_set1(largest == -INFINITY ? 0 : largest);

    for (j = first; j + 32 <= last; j += 32) {
        for (int h = 0; h < 2; h++) {
            const v16 t = v16_exp(v16_sub(softmax_score(&terms, j + h * 16, 16), base));
            sum[h] = v16_add(sum[h], t);
            v16_store(e + j + h * 16, t);
        }
        flow_ahead(flow, 2 * (j - first));
    }
    for (int h = 0; j < last; j += 16, h++) {
        const v16 t = v16_exp(v16_sub(softmax_score(&terms, j, last - j), base));
        sum[h] = v16_add(sum[h], v16_select(v16_first(last - j), t, v16_set1(0)));
        v16_store_n(e + j, t, last - j);
    }

    const float total = v16_sum32(sum[0], sum[1]);
    const v16 inverse = v16_set1(total == 0 ? 0 : 1 / total);
    const size_t head = flow_head(flow.stream, y + first, 64, sizeof *y, last - first);

    if (head)
        v16_store_n(y + first, softmax_share(&terms, first, head, v16_load_n(e + first, head), inverse), head);
    for (j = first + head; j + 32 <= last; j += 32) {
        for (size_t i = j; i < j + 32; i += 16)
            flow_store(flow.stream, y + i, softmax_share(&terms, i, 16, v16_load(e + i), inverse));
        flow_ahead(flow, 2 * (last - first + j - first));
    }
    for (; j < last; j += 16)
        v16_store_n(y + j, softmax_share(&terms, j, last - j, v16_load_n(e + j, last - j), inverse), last - j);
    flow_zero(flow.stream, y, first);
    flow_zero(flow.stream, y + last, n - last);
}
