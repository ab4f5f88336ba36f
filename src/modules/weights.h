/* weights.h: the weights that a module is given, as the whole matrices and vectors that it binds.
 *
 * Two things are done to them here: matrices that come apart (q, k, v; up, gate) are put together, raw as they are; and raw int8
 * matrices are packed with their scales. */
#ifndef TERN_MODULES_WEIGHTS_H
#define TERN_MODULES_WEIGHTS_H

#include "ops/kernel_calls.h"

#include <tern/module.h>

/* Which modules' weights. */
enum tern_part { TERN_PART_ATTENTION = 1, TERN_PART_MLP = 2 };

struct tern_own_weights {
    tern_layer_weights
        all;         /* what is bound; absent tensors have rank -1, those that came apart and scales are absent */
    int64_t v_dim;   /* E', width of a value head, with TERN_PART_ATTENTION */
    void *joined[4]; /* attn_qkvw, attn_qkvb, inter_w, inter_b that were put together; until they are bound */
    tern_weight *packed[4]; /* attn_qkvw, attn_ow, inter_w, output_w that were raw int8 */
};

/* Checks and makes them.  *out is all zero before; tern_own_weights_free() frees it in any case.  quant: NULL is the defaults. */
tern_status tern_own_weights(tern_ctx *ctx, const char *owner, const tern_config *config,
                             const tern_module_quant *quant, unsigned parts, const tern_layer_weights *weights,
                             struct tern_own_weights *out);
/* What was only there to be bound goes. */
void tern_own_weights_bound(struct tern_own_weights *own);
void tern_own_weights_free(struct tern_own_weights *own);

#endif
