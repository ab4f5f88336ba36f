/* isa_neondot.c: what the NEON level gains from the dot product extension: udot adds four products of u8 at once. */
#define TERN_VEC_NEON
#define TERN_VEC_DOTPROD
#define TERN_K(f) tern_##f##_neondot
#include "kernels/kernels.h"
#include "kernels/level.h"

static tern_gemm_q8_fn TERN_K(gemm_q8);
static tern_gemm_block_q8_fn TERN_K(gemm_block_q8);

#include "kernels/gemm_q8.tmpl.c"

void tern_kernels_init_neondot(struct tern_kernels *k)
{
    k->gemm_q8 = TERN_K(gemm_q8);
    k->gemm_block_q8 = TERN_K(gemm_block_q8);
}
