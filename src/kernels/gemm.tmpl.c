/* gemm.tmpl.c: products of f32 and bf16 rows with panels.  Built once per level; contracts in kernels.h, the loop in gemm_tile.h. */
#include "kernels/gemm_block.h"

static void TERN_K(gemm_f32)(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t k, size_t m,
                             bool accumulate, const struct tern_gemm_next *next)
{
    gemm_steps(V16_F32, c, ldc, a, lda, (const char *)panel, k, m, accumulate,
               gemm_hint(panel, k, 128, m, gemm_has_passes(V16_F32, m), next));
}

/* A function also where attention uses it: between what that keeps in 16 registers, two of the sums would be in memory. */
static __attribute__((noinline)) void TERN_K(gemm_f32_f16)(float *c, size_t ldc, const float *a, size_t lda,
                                                           const uint16_t *panel, size_t k, size_t m, bool accumulate,
                                                           const struct tern_gemm_next *next)
{
    gemm_steps(V16_F16, c, ldc, a, lda, (const char *)panel, k, m, accumulate,
               gemm_hint(panel, k, 64, m, gemm_has_passes(V16_F16, m), next));
}

/* The elements of a last step that k does not fill: widened to a panel of f32 for which the chain goes on. */
V16_FN void gemm_rest(const enum v16_panel form, float *c, size_t ldc, const float *a, size_t lda, const char *step,
                      size_t rest, size_t m)
{
    _Alignas(64) float panel[3 * TERN_PANEL];

#define GEMM_WIDEN(s)                                                           \
    if (s < rest) {                                                             \
        v16_store(panel + s * TERN_PANEL, v16_weights(form, step, 0, s));       \
        v16_store(panel + s * TERN_PANEL + 16, v16_weights(form, step, 16, s)); \
    }
    GEMM_WIDEN(0)
    GEMM_WIDEN(1)
    if (GEMM_PER(form) > 2)
        GEMM_WIDEN(2)
#undef GEMM_WIDEN
    if (rest)
        TERN_K(gemm_f32)(c, ldc, a, lda, panel, rest, m, true, NULL);
}

static void TERN_K(gemm_f32_bf16)(float *c, size_t ldc, const float *a, size_t lda, const uint16_t *panel, size_t k,
                                  size_t m, bool accumulate, const struct tern_gemm_next *next)
{
    const size_t whole = k / 2;

    gemm_steps(V16_BF16, c, ldc, a, lda, (const char *)panel, whole, m, accumulate,
               gemm_hint(panel, whole, 128, m, gemm_has_passes(V16_BF16, m), next));
    gemm_rest(V16_BF16, c, ldc, a + 2 * whole, lda, (const char *)panel + 128 * whole, k % 2, m);
}

static void TERN_K(gemm_f32_q8)(float *c, size_t ldc, const float *a, size_t lda, const int8_t *panel, size_t k,
                                size_t m, bool accumulate, const struct tern_gemm_next *next)
{
    const size_t whole = k / 4;

    gemm_steps(V16_S8, c, ldc, a, lda, (const char *)panel, whole, m, accumulate,
               gemm_hint(panel, whole, 128, m, gemm_has_passes(V16_S8, m), next));
    gemm_rest(V16_S8, c, ldc, a + 4 * whole, lda, (const char *)panel + 128 * whole, k % 4, m);
}

/* Elements of a row that are widened at a time: 14 KiB of stack. */
#define GEMM_ROW_PART 256

/* Without an instruction for pairs: rows are widened piece by piece, once for all 32 columns. */
static void TERN_K(gemm_bf16)(float *c, size_t ldc, const uint16_t *a, size_t lda, const uint16_t *panel, size_t k,
                              size_t m, bool accumulate, const struct tern_gemm_next *next)
{
    _Alignas(64) float rows[TERN_TILE_ROWS * GEMM_ROW_PART];
    const size_t padded = (k + 1) / 2 * 2;
    struct tern_gemm_next part = next ? *next : (struct tern_gemm_next){ NULL, 0, TERN_PREFETCH_L1 };
    size_t left = part.bytes;

    for (size_t begin = 0; begin < padded || begin == 0; begin += GEMM_ROW_PART) {
        const size_t n = padded - begin < GEMM_ROW_PART ? padded - begin : GEMM_ROW_PART;

        part.bytes = n < padded - begin && left > 64 * n ? 64 * n : left;
        for (size_t i = 0; i < m; i++)
            TERN_K(f32_from_bf16)(rows + i * GEMM_ROW_PART, a + i * lda + begin, n);
        TERN_K(gemm_f32_bf16)
        (c, ldc, rows, GEMM_ROW_PART, panel + begin * TERN_PANEL, n, m, accumulate || begin, &part);
        if (part.at)
            part.at = (const char *)part.at + part.bytes;
        left -= part.bytes;
    }
}

/* ---- blocks ---- */

static void TERN_K(gemm_block_f32)(const struct tern_gemm_block *g)
{
#if V16_GEMM_ROWS == 14
    gemm_block(V16_F32, 1, g);
#else
    GEMM_BLOCK_BY_TILES(false, 1, gemm_has_passes(V16_F32, g->m),
                        TERN_K(gemm_f32)((float *)g->sums + at, TERN_PANEL, (const float *)g->a + row * g->lda, g->lda,
                                         (const float *)(const void *)words, g->k, end - row, !g->begin, &next));
#endif
}

static void TERN_K(gemm_block_bf16)(const struct tern_gemm_block *g)
{
    GEMM_BLOCK_BY_TILES(false, 2, gemm_has_passes(V16_BF16, g->m),
                        TERN_K(gemm_bf16)((float *)g->sums + at, TERN_PANEL, (const uint16_t *)g->a + row * g->lda,
                                          g->lda, (const uint16_t *)(const void *)words, g->k, end - row, !g->begin,
                                          &next));
}
