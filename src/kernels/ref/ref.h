/* ref.h: the definitions.  tern_<kernel>_ref is the contract of kernels.h in plain C, one formula after the other, sums and
 * functions in f64 rounded once to f32 unless the contract gives the f32 steps.  tern-check holds every kernel to them, and a
 * table of them is a complete path of its own. */
#ifndef TERN_KERNELS_REF_H
#define TERN_KERNELS_REF_H

#include "kernels/kernels.h"

#define TERN_KERNEL(name, bound) tern_##name##_fn tern_##name##_ref;
#include "kernels/kernel_list.h"
#undef TERN_KERNEL

/* One value; what act_f32 applies to each. */
float tern_act_ref(double x, enum tern_act act);

/* Fills every slot with its definition. */
void tern_kernels_init_ref(struct tern_kernels *k);

#endif
