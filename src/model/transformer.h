/* transformer.h: what families have in common: a stack of blocks between an embedding and a head.
 *
 *     x = embed[id] scale (+ positions[t + offset]);  x = norm(x)            each part where the family has it     [T, H]
 *     each layer                                      tern_block: block.h
 *     logits = cap(norm(x) head + bias)                                                                            [n, V]
 *
 * A family's file says in a tern_spec (spec.h) which of this its models are and what their tensors are called; binding, forward pass
 * and figures are made from that. */
#ifndef TERN_MODEL_TRANSFORMER_H
#define TERN_MODEL_TRANSFORMER_H

#include "model/arch.h"

/* What a family's row in the list names: struct tern_arch. */
tern_status tern_transformer_bind(tern_ctx *ctx, tern_model *model, struct tern_binder *binder);
tern_status tern_transformer_forward(const struct tern_par *par, const tern_model *model,
                                     const struct tern_batch *batch, const struct tern_model_work *work);
void tern_transformer_destroy(void *weights);

/* The row of a family whose file has prefixes, ignored and unused names in scope. */
#define TERN_TRANSFORMER(family, architectures, parse)                                                            \
    {                                                                                                             \
        family, architectures, ignored, unused, prefixes, parse, tern_transformer_bind, tern_transformer_forward, \
            tern_transformer_destroy                                                                              \
    }

#endif
