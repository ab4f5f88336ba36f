/* isa_avx512vnni.c: what the AVX-512 level gains from VNNI: vpdpbusd takes four products of u8 and s8 at once, without saturation. */
#define TERN_VEC_AVX512
#define TERN_VEC_VNNI
#define TERN_K(f) tern_##f##_avx512vnni
#include "kernels/gemm_block.h"
#include "kernels/level.h"

static tern_gemm_q8_fn TERN_K(gemm_q8);
static tern_gemm_block_q8_fn TERN_K(gemm_block_q8);

/* Four bytes are one word for the tile, of `a` as of the panel, and a sum is the bits of a number. */
static void TERN_K(gemm_q8)(int32_t *c, size_t ldc, const uint8_t *a, size_t lda, const int8_t *panel,
                            const int32_t *start, size_t k, size_t m, bool accumulate,
                            const struct tern_gemm_next *next)
{
    const size_t steps = (k + 3) / 4;

    for (size_t i = 0; !accumulate && i < m; i++)
        memcpy(c + i * ldc, start, TERN_PANEL * sizeof(*c));
    gemm_steps(V16_S8_DOT, (float *)(void *)c, ldc, (const float *)(const void *)a, lda / 4, (const char *)panel, steps,
               m, true, gemm_hint(panel, steps, 128, m, false, next));
}

static void TERN_K(gemm_block_q8)(const struct tern_gemm_block *g)
{
    gemm_block(V16_S8_DOT, 4, g);
}

void tern_kernels_init_avx512vnni(struct tern_kernels *k)
{
    k->gemm_q8 = TERN_K(gemm_q8);
    k->gemm_block_q8 = TERN_K(gemm_block_q8);
}
