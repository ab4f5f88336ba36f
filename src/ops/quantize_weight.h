/* quantize_weight.h: packed weights whose scales are shared by groups of any shape (TERN_WEIGHT_GROUPS).
 *
 * Codes lie in panels of s8 or s4 (kernels.h) and stay codes; unsigned ones less 128 or 8.  A product turns a block of a panel at
 * a time into f32.  Scales (and minima, where the form has them) are stored in one of two ways:
 *
 *     rows     [n_panels][K / run][32]: where all columns change their scale at multiples of `run` elements of K
 *     places   as the quantised tensor has them, found through its layout: everything else */
#ifndef TERN_OPS_QUANTIZE_WEIGHT_H
#define TERN_OPS_QUANTIZE_WEIGHT_H

#include "ops/kernel_calls.h"

#include <tern/quantize.h>

struct tern_weight_groups {
    tern_quant_layout layout;
    bool transposed;      /* the layout's matrix is [out, in] */
    size_t run;           /* elements along K of each row of scales; 0: places */
    size_t part;          /* elements of K that begin with a step of their own: run where rows can be u8, else K */
    size_t n_parts;       /* K / part */
    unsigned shift;       /* a step of 128 bytes has 1 << shift elements: 4 or 8 */
    size_t part_steps;    /* ceil(part / elements of a step) */
    float *scale;         /* see above */
    float *minimum;       /* the same; NULL if symmetric */
    const int32_t *start; /* [n_panels][n_parts][32], what gemm_q8 starts from; NULL where rows cannot be u8 */
};

/* Elements k .. k + n of a panel as f32, [n][32], 64-byte aligned: the values of tern_weight_dequantize.  n >= 1. */
void tern_groups_block(const struct tern_kernels *kernels, const struct tern_weight *w, size_t panel, size_t k,
                       size_t n, float *to);

/* tern_weight_channel for this format. */
void tern_groups_channel(const struct tern_weight *w, size_t channel, float *to);

#endif
