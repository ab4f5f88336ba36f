/* gating.h: the choice of experts for one token, inside a parallel region. */
#ifndef TERN_OPS_GATING_H
#define TERN_OPS_GATING_H

#include "kernels/kernels.h"

/* The k largest of n logits, largest first, ties to the lower index, a NaN after all numbers: experts[k] are their indices,
 * scores[k] their softmax over all n.  1 <= k <= n.   scratch: 2n floats, no part of logits. */
void tern_gate_row(const struct tern_kernels *kernels, const float *logits, size_t n, size_t k, float *scores,
                   int32_t *experts, float *scratch);

#endif
