/* gemm_ref.c: each element is one chain of fused multiply-adds in order of k: that is the definition, not f64. */
#include "kernels/ref/ref.h"

#include <math.h>

void tern_gemm_f32_ref(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t k, size_t m,
                       bool accumulate, const void *next, size_t next_bytes)
{
    (void)next;
    (void)next_bytes;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            float sum = accumulate ? c[i * ldc + j] : 0;
            for (size_t s = 0; s < k; s++)
                sum = fmaf(a[i * lda + s], panel[s * TERN_PANEL + j], sum);
            c[i * ldc + j] = sum;
        }
}
