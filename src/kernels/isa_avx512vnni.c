/* isa_avx512vnni.c: what the AVX-512 level gains from VNNI: vpdpbusd takes four products of u8 and s8 at once, without saturation. */
#define TERN_VEC_AVX512
#define TERN_VEC_VNNI
#define TERN_K(f) tern_##f##_avx512vnni
#include "kernels/kernels.h"
#include "kernels/level.h"

static tern_gemm_q8_fn TERN_K(gemm_q8);

#include "kernels/gemm_q8.tmpl.c"

void tern_kernels_init_avx512vnni(struct tern_kernels *k)
{
    k->gemm_q8 = TERN_K(gemm_q8);
}
