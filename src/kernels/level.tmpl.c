/* level.tmpl.c: all shared kernel text, and the function that puts one level's kernels into a table.
 *
 * Included by isa_<level>.c, which is built with that level's flags and defines TERN_K(f) as tern_<f>_<level>.  Everything but
 * the one function is static: the linker never sees a function of a raised level that another file could be given. */
#include "kernels/kernels.h"
#include "kernels/level.h"

#define TERN_KERNEL(name, bound) static tern_##name##_fn TERN_K(name);
#include "kernels/kernel_list.h"
#undef TERN_KERNEL

#include "kernels/gemm.tmpl.c"
#include "kernels/gemm_q8.tmpl.c"
#include "kernels/quantize.tmpl.c"
#include "kernels/pack.tmpl.c"
#include "kernels/convert.tmpl.c"
#include "kernels/act.tmpl.c"
#include "kernels/norm.tmpl.c"
#include "kernels/softmax.tmpl.c"
#include "kernels/elementwise.tmpl.c"
#include "kernels/rotary.tmpl.c"
#include "kernels/kv_store.tmpl.c"
#include "kernels/attention.tmpl.c"

void TERN_K(kernels_init)(struct tern_kernels *k)
{
#define TERN_KERNEL(name, bound) k->name = TERN_K(name);
#include "kernels/kernel_list.h"
#undef TERN_KERNEL
}
