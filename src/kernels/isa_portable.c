/* isa_portable.c: the kernels in plain C, for any machine. */
#define TERN_K(f) tern_##f##_portable
#include "kernels/level.tmpl.c"
