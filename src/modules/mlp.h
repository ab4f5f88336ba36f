/* mlp.h: the feed-forward of a layer: residual, norm, up-projection with activation or gate, down-projection.
 *
 * The down-projection ends in the caller's epilogue: what is added there (down_b, residuals) depends on the form of the
 * layer and on whether this rank's sum is the whole. */
#ifndef TERN_MODULES_MLP_H
#define TERN_MODULES_MLP_H

#include "modules/binding.h"
#include "ops/feed_forward.h"

#include <tern/module.h>

struct tern_mlp_bound {
    struct tern_norm_args norm;                 /* attn_nw, attn_nb; gamma NULL where the attention's norm is shared */
    struct tern_feed_forward_args feed_forward; /* [H, pI], [I, H] */
    const float *down_b;                        /* [H] or NULL, for the caller's epilogue */
    struct tern_binding binding;
};

/* What a feed-forward reads: norm(x + bias + residual), or x as it is where there is no norm. */
struct tern_mlp_input {
    const float *x;        /* [T, H] */
    const float *bias;     /* [H] or NULL */
    const float *residual; /* [T, H] or NULL */
    float *sum;            /* [T, H] gets x + bias + residual, or NULL; may be x or residual */
};

/* Binds attn_nw and attn_nb (or no norm), inter_w, inter_b, output_w and output_b of a checked
 * config: see tern_bind() for the errors.  *out is all zero before; tern_mlp_free() frees it in any case. */
tern_status tern_mlp_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                          const tern_layer_weights *weights, struct tern_mlp_bound *out);
void tern_mlp_free(struct tern_mlp_bound *mlp);

/* c [T, H] = feed-forward(input) through `e`.  normed [T, H]: with `keep` it gets the normed rows, which stay as they are, else it is
 * scratch; without a norm it is not touched.  inner: scratch [tern_feed_forward_most() of T, pI].  narrow: see
 * tern_feed_forward_run().  Called by every thread; barrier at the end. */
void tern_mlp_run(const struct tern_par *par, const struct tern_mlp_bound *mlp, float *c,
                  const struct tern_mlp_input *input, float *normed, bool keep, size_t n_rows, float *inner,
                  const struct tern_epilogue *e, void *narrow);

#endif
