/* peak.h: loops that do nothing but what a ceiling is made of, for tern_ceilings_measure() and tern-check. */
#ifndef TERN_KERNELS_PEAK_H
#define TERN_KERNELS_PEAK_H

#include "kernels/kernels.h"

enum tern_peak { TERN_PEAK_F32, TERN_PEAK_BF16, TERN_PEAK_INT8, TERN_PEAK_COUNT };

/* One sample of arithmetic at the level of a table, about a millisecond at 100 GFLOP/s; gives the operations that it did, a
 * multiplication and an addition being two. */
double tern_peak_arithmetic(const struct tern_kernels *kernels, enum tern_peak what);
/* Whether that is a loop of independent instructions on registers; else it is the level's own product, which is no ceiling to hold that
 * product against. */
bool tern_peak_is_loop(enum tern_isa isa, enum tern_peak what);

/* Reads every cache line of [p, p + bytes), bytes a multiple of 64. */
void tern_peak_read(const void *p, size_t bytes);
/* Copies n bytes, a multiple of 64; 64-byte aligned, no overlap.  streaming: by stores that pass by the caches, of the C library where we
 * have none. */
void tern_peak_copy(void *to, const void *from, size_t n, bool streaming);

#endif
