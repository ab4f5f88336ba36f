/* ref.c: the table of definitions. */
#include "kernels/ref/ref.h"

void tern_kernels_init_ref(struct tern_kernels *k)
{
    k->isa = TERN_ISA_PORTABLE;
    k->k_block = 1024;
#define TERN_KERNEL(name, bound) k->name = tern_##name##_ref;
#include "kernels/kernel_list.h"
#undef TERN_KERNEL
}
