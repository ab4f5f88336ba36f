/* level.h: what each isa_<level>.c defines for table.c: fill the table with the kernels of one level. */
#ifndef TERN_KERNELS_LEVEL_H
#define TERN_KERNELS_LEVEL_H

#include "kernels/kernels.h"

void tern_kernels_init_portable(struct tern_kernels *k);
void tern_kernels_init_neon(struct tern_kernels *k);
void tern_kernels_init_avx2(struct tern_kernels *k);
void tern_kernels_init_avx512(struct tern_kernels *k);
/* These replace what their instructions improve, and leave the rest to the level below. */
void tern_kernels_init_neondot(struct tern_kernels *k);
void tern_kernels_init_avxvnni(struct tern_kernels *k);
void tern_kernels_init_avx512vnni(struct tern_kernels *k);
void tern_kernels_init_avx512bf16(struct tern_kernels *k);

/* vec_avx512.h: which words of a vector are the upper ones, then what rounding to bf16 takes. */
extern const uint32_t tern_bf16_constants[5];

#endif
