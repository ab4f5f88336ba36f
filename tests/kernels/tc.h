/* tc.h: tern-check, the tool that holds every kernel to its contract and times it.
 *
 * A check is one function per kernel, check_<kernel>(t), called once per ISA level of the machine (and no further than
 * TERN_CPU) and again with buffers placed at the other end of their pages.  It makes cases; a case makes inputs and
 * outputs, calls the definition (t->ref) and the level's kernel (t->new), and compares: with tc_near_f32 to the bound of
 * kernel_list.h, with tc_same_f32 bit for bit.  The level is also compared bit for bit with the portable one (t->base).
 *
 *     void check_rms_norm_f32(struct tc *t)
 *     {
 *         for (...) {
 *             if (!tc_case(t, "n=%zu", n))
 *                 continue;
 *             const float *x = tc_in_f32(t, n, TC_OUTLIERS);
 *             float *want = tc_out_f32(t, n), *got = tc_out_f32(t, n), *base = tc_out_f32(t, n);
 *             t->ref.rms_norm_f32(want, x, ...);
 *             t->base.rms_norm_f32(base, x, ...);
 *             t->new.rms_norm_f32(got, x, ...);
 *             tc_near_f32(t, want, got, NULL, n);
 *             tc_same_f32(t, base, got, n);
 *         }
 *         if (tc_bench(t, bytes, flops, "n=%zu", n)) {
 *             ... tc_in_f32 ...
 *             TC_TIME(t) t->new.rms_norm_f32(...);
 *         }
 *     }
 *
 * Buffers end (first placement) or begin (second) at an unmapped page, outputs hold a pattern that no kernel writes, and all
 * live until the next case.  Data depends on the seed and the case's name alone, so one case can be repeated. */
#ifndef TERN_TESTS_TC_H
#define TERN_TESTS_TC_H

#include "kernels/kernels.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TC_COUNT(array) (sizeof(array) / sizeof *(array))

/* How far from the definition: within `ulps` units of its last place, or within `floor`; `relative`: of a scale that the
 * check gives.  All 0: its bits. */
struct tc_bound {
    double ulps, floor, relative;
};

struct tc {
    struct tern_kernels ref, base, new;
    const char *kernel;     /* the list's name of it */
    struct tc_bound bound;  /* the list's */
    struct tc_state *state; /* tc.c's own */
};

/* What random inputs look like. */
enum tc_data {
    TC_NORMAL,   /* N(0, 1) */
    TC_OUTLIERS, /* the same, one in 1000 is 80 times larger */
    TC_NEAR_ONE, /* 1 + N(0, 1) / 16 */
    TC_SPECIAL,  /* N(0, 1), every fourth a NaN, infinity, denormal, zero of either sign, or the largest float */
    TC_FINITE,   /* the same without NaN and infinity */
    TC_BITS      /* any bits */
};

/* True if the case is to be run: it is in the filter, and this is no benchmark. */
bool tc_case(struct tc *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Inputs and outputs, n elements.  `_panel`: n a multiple of 16, aligned to 64 bytes. */
float *tc_in_f32(struct tc *t, size_t n, enum tc_data data);
uint16_t *tc_in_u16(struct tc *t, size_t n, enum tc_data data); /* TC_BITS, or f16 values */
float *tc_in_panel(struct tc *t, size_t n, enum tc_data data);
float *tc_out_f32(struct tc *t, size_t n);
uint16_t *tc_out_u16(struct tc *t, size_t n);
float *tc_out_panel(struct tc *t, size_t n);
uint8_t *tc_in_u8(struct tc *t, size_t n); /* any bytes */
uint8_t *tc_out_u8(struct tc *t, size_t n);
int32_t *tc_out_s32(struct tc *t, size_t n);
float *tc_copy_f32(struct tc *t, const float *from, size_t n); /* an output that starts as a copy: for calls in place */

/* Streamed rows (struct tern_row_flow): what a kernel is told, prefetches of nothing included; a place for n elements that begins
 * anywhere in a cache line; and the comparison, which looks at the line before it too. */
struct tern_row_flow tc_flow(struct tc *t, size_t n);
float *tc_out_row_f32(struct tc *t, size_t n);
uint16_t *tc_out_row_u16(struct tc *t, size_t n);
void tc_same_row_f32(struct tc *t, const float *want, const float *got, size_t n);
void tc_same_row_u16(struct tc *t, const uint16_t *want, const uint16_t *got, size_t n);

/* A random number below n, of the case. */
size_t tc_below(struct tc *t, size_t n);

/* Failures of the running case.  A NaN equals a NaN.  scale: NULL, or per element what the bound is relative to if that is
 * larger than the wanted value: the largest term of a sum. */
void tc_near_f32(struct tc *t, const float *want, const float *got, const float *scale, size_t n);
void tc_same_f32(struct tc *t, const float *want, const float *got, size_t n);
void tc_same_u16(struct tc *t, const uint16_t *want, const uint16_t *got, size_t n);
void tc_same_u8(struct tc *t, const uint8_t *want, const uint8_t *got, size_t n);
void tc_same_s32(struct tc *t, const int32_t *want, const int32_t *got, size_t n);
void tc_fail(struct tc *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* True if the benchmark is to be run.  bytes: read from and written to memory, flops: 2 for a multiply-add; 0 if of no interest.
 * Buffers are ordinary memory then. */
bool tc_bench(struct tc *t, double bytes, double flops, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Runs the statement behind it as often as the measurement needs; tc_turn counts up from 0, to go round in large data. */
#define TC_TIME(t) for (tc_time_begin(t); tc_time_more(t);)
void tc_time_begin(struct tc *t);
bool tc_time_more(struct tc *t);
size_t tc_turn(const struct tc *t);

/* Peaks of one thread at a level; 0 if not known.  tc_peak.c */
double tc_peak_flops(const struct tern_kernels *kernels); /* f32 fused multiply-adds, flop/s */
double tc_peak_read(const void *p, size_t bytes);         /* bytes/s */

#define TERN_KERNEL(name, bound) void check_##name(struct tc *t);
#include "kernels/kernel_list.h"
#undef TERN_KERNEL

#endif
