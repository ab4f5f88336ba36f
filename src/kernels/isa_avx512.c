/* isa_avx512.c: the kernels in AVX-512 F, BW, DQ and VL. */
#define TERN_VEC_AVX512
#define TERN_K(f) tern_##f##_avx512
#include "kernels/level.tmpl.c"
