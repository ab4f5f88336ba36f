/* rotary_ref.c: angles of the rotary embedding and heads that turn by them; the steps are the definition. */
#include "kernels/ref/ref.h"

#include <math.h>

/* sum of sign[0] x^first / first! + sign[1] x^(first + 2) / (first + 2)! .., from its end, without the term before them */
static double series(double x2, int first, int last)
{
    double factorial = 1, p = 0;

    for (int i = 2; i <= last; i++)
        factorial *= i;
    for (int i = last; i >= first; i -= 2) {
        const double term = (i / 2 % 2 ? -1 : 1) / factorial;
        p = i == last ? term : fma(p, x2, term);
        factorial /= (double)i * (i - 1);
    }
    return p;
}

void tern_rotary_angles_ref(float *cosine, float *sine, const double *frequency, size_t n, double position)
{
    for (size_t p = 0; p < n; p++) {
        const double a = position * frequency[p];
        const double shift = 1.5 * 4503599627370496.0, q = fma(a, 0.63661977236758134, shift) - shift;
        const double r = fma(q, -0x1.1a62633145c07p-54, fma(q, -0x1.921fb54442d18p0, a)), r2 = r * r;
        const double s = fma(r * r2, series(r2, 3, 15), r), c = fma(series(r2, 2, 16), r2, 1);

        switch ((int)(q - 4 * floor(q / 4))) {
        case 0:
            cosine[p] = (float)c, sine[p] = (float)s;
            break;
        case 1:
            cosine[p] = (float)-s, sine[p] = (float)c;
            break;
        case 2:
            cosine[p] = (float)-c, sine[p] = (float)-s;
            break;
        default:
            cosine[p] = (float)s, sine[p] = (float)-c;
        }
    }
}

void tern_rotary_f32_ref(float *y, const float *x, const float *cos, const float *sin, size_t rot, bool neighbours,
                         size_t heads, size_t stride, const struct tern_row_flow *flow)
{
    (void)flow;
    for (size_t h = 0; h < heads; h++, x += stride, y += stride)
        for (size_t p = 0; p < rot / 2; p++) {
            const size_t i = neighbours ? 2 * p : p, j = neighbours ? i + 1 : i + rot / 2;
            const float a = x[i], b = x[j];
            y[i] = fmaf(a, cos[p], -(b * sin[p]));
            y[j] = fmaf(b, cos[p], a * sin[p]);
        }
}
