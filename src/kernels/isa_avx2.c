/* isa_avx2.c: the kernels in AVX2, FMA and F16C. */
#define TERN_VEC_AVX2
#define TERN_K(f) tern_##f##_avx2
#include "kernels/level.tmpl.c"
