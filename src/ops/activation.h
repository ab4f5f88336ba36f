/* activation.h: the activation that a config names. */
#ifndef TERN_OPS_ACTIVATION_H
#define TERN_OPS_ACTIVATION_H

#include "ops/kernel_calls.h"

static inline bool tern_is_gated(tern_activation activation)
{
    return activation == TERN_GATED_GELU || activation == TERN_GATED_SILU;
}

/* The kernels' number for it; GELU in the form `gelu`, which unset means tanh, and erf where it gates. */
enum tern_act tern_act_from(tern_activation activation, tern_gelu_form gelu);

/* inner[T][0..n) *= act(inner[T][n..2n)), rows 2n apart; the second half becomes act of itself.  Barrier at the end. */
void tern_gate_run(const struct tern_par *par, float *inner, size_t n_rows, size_t n, enum tern_act act);

/* x[T, H] -> up-projection, activation -> inner[T, pI] -> down-projection through `e` to c[T, ldc].  Barriers between and at the end. */
struct tern_mlp_args {
    const struct tern_weight *up, *down;
    const float *up_bias; /* [pI] or NULL */
    tern_activation activation;
    tern_gelu_form gelu;
};
void tern_mlp_run(const struct tern_par *par, const struct tern_mlp_args *args, float *c, size_t ldc, const float *x,
                  size_t ldx, size_t n_rows, float *inner, const struct tern_epilogue *e);

#endif
