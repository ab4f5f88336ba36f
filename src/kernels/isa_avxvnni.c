/* isa_avxvnni.c: what the AVX2 level gains from AVX-VNNI: vpdpbusd in 256 bits, on processors without AVX-512. */
#define TERN_VEC_AVX2
#define TERN_VEC_AVXVNNI
#define TERN_K(f) tern_##f##_avxvnni
#include "kernels/kernels.h"
#include "kernels/level.h"

static tern_gemm_q8_fn TERN_K(gemm_q8);
static tern_gemm_block_q8_fn TERN_K(gemm_block_q8);

#include "kernels/gemm_q8.tmpl.c"

void tern_kernels_init_avxvnni(struct tern_kernels *k)
{
    k->gemm_q8 = TERN_K(gemm_q8);
    k->gemm_block_q8 = TERN_K(gemm_block_q8);
}
