/* softmax.tmpl.c: softmax of one row.  Built once per level; contract in kernels.h.
 *
 * Three passes: scores into y and their maximum, exponentials and their sum in 32 virtual lanes (lane = (j - first) mod 32),
 * the division.  max keeps its second operand when the first is a NaN, so a NaN reaches the row through the sum alone. */
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
                                float scale, float slope)
{
    static const float steps[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const struct softmax_terms terms = { x, mask, v16_set1(scale), v16_set1(slope), v16_load(steps), slope != 0 };
    const v16 nothing = v16_set1(-INFINITY);
    v16 top = nothing, sum[2] = { v16_set1(0), v16_set1(0) };
    size_t j;

    if (first > last)
        first = last;
    for (j = first; j + 16 <= last; j += 16) {
        const v16 s = softmax_score(&terms, j, 16);
        top = v16_max(s, top);
        v16_store(y + j, s);
    }
    if (j < last) {
        const v16 s = softmax_score(&terms, j, last - j);
        top = v16_max(v16_select(v16_first(last - j), s, nothing), top);
        v16_store_n(y + j, s, last - j);
    }

    const float largest = v16_largest(top);
    const v16 base = v16_set1(largest == -INFINITY ? 0 : largest);

    for (j = first; j + 32 <= last; j += 32)
        for (int h = 0; h < 2; h++) {
            const v16 e = v16_exp(v16_sub(v16_load(y + j + h * 16), base));
            sum[h] = v16_add(sum[h], e);
            v16_store(y + j + h * 16, e);
        }
    for (int h = 0; j < last; j += 16, h++) {
        const v16 e = v16_exp(v16_sub(v16_load_n(y + j, last - j), base));
        sum[h] = v16_add(sum[h], v16_select(v16_first(last - j), e, v16_set1(0)));
        v16_store_n(y + j, e, last - j);
    }

    const float total = v16_sum32(sum[0], sum[1]);
    const v16 inverse = v16_set1(total == 0 ? 0 : 1 / total);

    for (j = first; j + 16 <= last; j += 16)
        v16_store(y + j, softmax_share(&terms, j, 16, v16_load(y + j), inverse));
    if (j < last)
        v16_store_n(y + j, softmax_share(&terms, j, last - j, v16_load_n(y + j, last - j), inverse), last - j);
    for (j = 0; j < first; j++)
        y[j] = 0;
    for (j = last; j < n; j++)
        y[j] = 0;
}
