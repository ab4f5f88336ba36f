/* gemm_ref.c: each element is one chain of fused multiply-adds in order of k: that is the definition, not f64.  Integers are exact. */
#include "kernels/ref/ref.h"

#include <math.h>

void tern_gemm_f32_ref(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t k, size_t m,
                       bool accumulate, const struct tern_gemm_next *next)
{
    (void)next;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            float sum = accumulate ? c[i * ldc + j] : 0;
            for (size_t s = 0; s < k; s++)
                sum = fmaf(a[i * lda + s], panel[s * TERN_PANEL + j], sum);
            c[i * ldc + j] = sum;
        }
}

/* The chain again, from weights that are widened one at a time. */
#define GEMM_WIDENED_REF(name, type, widened)                                                                       \
    void tern_##name##_ref(float *c, size_t ldc, const float *a, size_t lda, const type *panel, size_t k, size_t m, \
                           bool accumulate, const struct tern_gemm_next *next)                                      \
    {                                                                                                               \
        (void)next;                                                                                                 \
        for (size_t i = 0; i < m; i++)                                                                              \
            for (size_t j = 0; j < TERN_PANEL; j++) {                                                               \
                float sum = accumulate ? c[i * ldc + j] : 0;                                                        \
                for (size_t s = 0; s < k; s++)                                                                      \
                    sum = fmaf(a[i * lda + s], (widened), sum);                                                     \
                c[i * ldc + j] = sum;                                                                               \
            }                                                                                                       \
    }

static float from_f16(uint16_t x)
{
    float y;

    tern_f32_from_f16_ref(&y, &x, 1);
    return y;
}

static float from_bf16(uint16_t x)
{
    float y;

    tern_f32_from_bf16_ref(&y, &x, 1);
    return y;
}

GEMM_WIDENED_REF(gemm_f32_f16, uint16_t, from_f16(panel[s * TERN_PANEL + j]))
GEMM_WIDENED_REF(gemm_f32_bf16, uint16_t, from_bf16(panel[(s / 2 * TERN_PANEL + j) * 2 + s % 2]))
GEMM_WIDENED_REF(gemm_f32_q8, int8_t, (float)panel[(s / 4 * TERN_PANEL + j) * 4 + s % 4])

void tern_gemm_bf16_ref(float *c, size_t ldc, const uint16_t *a, size_t lda, const uint16_t *panel, size_t k, size_t m,
                        bool accumulate, const struct tern_gemm_next *next)
{
    (void)next;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            float sum = accumulate ? c[i * ldc + j] : 0;
            for (size_t s = 0; s < (k + 1) / 2 * 2; s++)
                sum = fmaf(from_bf16(a[i * lda + s]), from_bf16(panel[(s / 2 * TERN_PANEL + j) * 2 + s % 2]), sum);
            c[i * ldc + j] = sum;
        }
}

void tern_gemm_q8_ref(int32_t *c, size_t ldc, const uint8_t *a, size_t lda, const int8_t *panel, const int32_t *start,
                      size_t k, size_t m, bool accumulate, const struct tern_gemm_next *next)
{
    (void)next;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            int64_t sum = accumulate ? c[i * ldc + j] : start[j];
            for (size_t s = 0; s < k; s++)
                sum += a[i * lda + s] * panel[(s / 4 * TERN_PANEL + j) * 4 + s % 4];
            c[i * ldc + j] = (int32_t)sum;
        }
}

/* All rows at once by the definitions of a tile and its epilogue: one row and one panel after the other. */
#define GEMM_BLOCK_REF(name, product, epilogue)                                                 \
    void tern_##name##_ref(const struct tern_gemm_block *g)                                     \
    {                                                                                           \
        for (size_t block = 0; block < g->count; block++)                                       \
            for (size_t i = 0; i < g->m; i++) {                                                 \
                const size_t kept = g->begin && (g->c || g->finish) ? 0 : i * TERN_PANEL;       \
                for (size_t in = 0; in < g->panels; in++) {                                     \
                    const bool apart = g->panels == 2 && g->apart > 1;                          \
                    const size_t p = apart ? block + in * g->apart : block * g->panels + in;    \
                    const size_t col = p * TERN_PANEL, at = in * g->sums_second + kept;         \
                    const char *panel = (const char *)g->panel + p * g->second;                 \
                    const struct tern_epilogue e = { .scale = g->scale ? g->scale + col : NULL, \
                                                     .bias = g->bias ? g->bias + col : NULL };  \
                    product;                                                                    \
                    if (g->c)                                                                   \
                        epilogue;                                                               \
                }                                                                               \
                if (g->finish)                                                                  \
                    g->finish(g->user, block, i, 1, (const float *)g->sums + kept);             \
            }                                                                                   \
    }

GEMM_BLOCK_REF(gemm_block_f32,
               tern_gemm_f32_ref((float *)g->sums + at, TERN_PANEL, (const float *)g->a + i * g->lda, g->lda,
                                 (const float *)(const void *)panel, g->k, 1, !g->begin, NULL),
               tern_epilogue_f32_ref(g->c + i * g->ldc + col, g->ldc, (float *)g->sums + at, &e, 0, 0, 1, TERN_PANEL))
GEMM_BLOCK_REF(gemm_block_bf16,
               tern_gemm_bf16_ref((float *)g->sums + at, TERN_PANEL, (const uint16_t *)g->a + i * g->lda, g->lda,
                                  (const uint16_t *)(const void *)panel, g->k, 1, !g->begin, NULL),
               tern_epilogue_f32_ref(g->c + i * g->ldc + col, g->ldc, (float *)g->sums + at, &e, 0, 0, 1, TERN_PANEL))
GEMM_BLOCK_REF(gemm_block_q8,
               tern_gemm_q8_ref((int32_t *)g->sums + at, TERN_PANEL, (const uint8_t *)g->a + i * g->lda, g->lda,
                                (const int8_t *)panel, g->start ? g->start + col : NULL, g->k, 1, !g->begin, NULL),
               tern_epilogue_s32_ref(g->c + i * g->ldc + col, g->ldc, (int32_t *)g->sums + at, g->row_scale + i, &e, 0,
                                     0, 1, TERN_PANEL))
