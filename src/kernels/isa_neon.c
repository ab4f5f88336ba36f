/* isa_neon.c: the kernels in what every AArch64 processor has. */
#define TERN_VEC_NEON
#define TERN_K(f) tern_##f##_neon
#include "kernels/level.tmpl.c"
