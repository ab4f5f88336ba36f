/* isa_avx512bf16.c: what the AVX-512 level gains from BF16: vdpbf16ps takes two products of bf16 at once. */
#define TERN_VEC_AVX512
#define TERN_VEC_BF16
#define TERN_K(f) tern_##f##_avx512bf16
#include "kernels/gemm_block.h"
#include "kernels/level.h"

static tern_gemm_bf16_fn TERN_K(gemm_bf16);
static tern_gemm_block_bf16_fn TERN_K(gemm_block_bf16);
static tern_attention_bf16_fn TERN_K(attention_bf16);

/* A pair is one word for the tile, of `a` as of the panel. */
static void TERN_K(gemm_bf16)(float *c, size_t ldc, const uint16_t *a, size_t lda, const uint16_t *panel, size_t k,
                              size_t m, bool accumulate, const struct tern_gemm_next *next)
{
    const size_t steps = (k + 1) / 2;

    gemm_steps(V16_BF16_DOT, c, ldc, (const float *)(const void *)a, lda / 2, (const char *)panel, steps, m, accumulate,
               gemm_hint(panel, steps, 128, m, false, next));
}

static void TERN_K(gemm_block_bf16)(const struct tern_gemm_block *g)
{
    gemm_block(V16_BF16_DOT, 2, g);
}

#include "kernels/attention.tmpl.c"

void tern_kernels_init_avx512bf16(struct tern_kernels *k)
{
    k->gemm_bf16 = TERN_K(gemm_bf16);
    k->gemm_block_bf16 = TERN_K(gemm_block_bf16);
    k->attention_bf16 = TERN_K(attention_bf16);
}
