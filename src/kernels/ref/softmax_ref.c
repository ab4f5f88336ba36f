/* softmax_ref.c: scores in the contract's f32 steps, the rest in f64. */
#include "kernels/ref/ref.h"

#include <math.h>

void tern_softmax_f32_ref(float *y, const float *x, const float *mask, size_t n, size_t first, size_t last, float scale,
                          float slope, const struct tern_row_flow *flow)
{
    (void)flow;
    float top = -INFINITY;
    double sum = 0;

    for (size_t j = first; j < last; j++) {
        float s = x[j] * scale;
        if (slope != 0)
            s = fmaf(slope, (float)j, s);
        if (mask)
            s = mask[j] == -INFINITY ? -INFINITY : s + mask[j];
        top = s > top ? s : top;
        y[j] = s;
    }
    if (top == -INFINITY) /* nothing visible, all at -inf, or NaN: exp below gives 0 or NaN */
        top = 0;
    for (size_t j = first; j < last; j++)
        sum += exp(y[j] - top);
    for (size_t j = 0; j < n; j++)
        y[j] =
            j < first || j >= last || sum == 0 || (mask && mask[j] == -INFINITY) ? 0 : (float)(exp(y[j] - top) / sum);
}
