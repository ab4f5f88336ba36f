/* residual_add.h: the end of a block, inside a parallel region. */
#ifndef TERN_OPS_RESIDUAL_ADD_H
#define TERN_OPS_RESIDUAL_ADD_H

#include "ops/kernel_calls.h"

/* What tern_residual_add() adds to its rows x, in fp32: [T, n] and [n], NULL for what is left out. */
struct tern_residual_add_inputs {
    const float *residual;       /* always there */
    const float *attention;      /* its output, */
    const float *attention_bias; /* and its bias */
    const float *residual_add;   /* in place of residual in a post-LN block */
    const float *final_bias;
};

/* out [T, n] = tern_residual_add()'s formula; reads mp_size, mlp_after_attn and pre_layer_norm of a checked config.  out may be any
 * of the inputs.  Called by every thread; barrier at the end. */
void tern_residual_add_run(const struct tern_par *par, const tern_config *config, float *out, const float *x,
                           const struct tern_residual_add_inputs *in, size_t n_rows, size_t n);
/* One row, by the calling thread alone: inputs are those of the row. */
void tern_residual_add_row(const struct tern_kernels *kernels, const tern_config *config, float *out, const float *x,
                           const struct tern_residual_add_inputs *in, size_t n);

#endif
