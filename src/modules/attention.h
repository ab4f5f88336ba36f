/* attention.h: the attention of a layer: norm, QKV product, attention over the cache, output product.
 *
 * The output product ends in the caller's epilogue: what is added there (out_b, residuals) depends on the form of the layer
 * and on whether this rank's sum is the whole. */
#ifndef TERN_MODULES_ATTENTION_H
#define TERN_MODULES_ATTENTION_H

#include "base/arena.h"
#include "modules/binding.h"

#include <tern/module.h>

struct tern_attention_bound {
    struct tern_norm_args norm;       /* norm_w, norm_b; gamma NULL in a post-LN block, whose attention has none */
    const tern_weight *qkv_w, *out_w; /* [H, W], [h E', H]; W = (h + G) E + G E'.  NULL: a rank without heads */
    const float *qkv_b, *out_b;       /* [W], [H], or NULL; out_b is for the caller's epilogue */
    struct tern_softmax_context_args context;
    struct tern_binding binding;
};

/* Scratch for up to max_rows rows. */
struct tern_attention_work {
    float *qkv;     /* [T, W] */
    float *context; /* [T, h E'] */
    float *scratch; /* of softmax_context, for the whole team */
    void *narrow;   /* with which rows of both products are rounded, by the owner; NULL: they stay fp32 */
};

/* Binds norm_w and norm_b (but in a post-LN block), attn_qkvw, attn_qkvb, attn_ow and attn_ob of a checked config, whose value
 * heads have width v_dim: see tern_bind() for the errors.  *out is all zero before; tern_attention_free() frees it in any case. */
tern_status tern_attention_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                                const tern_layer_weights *weights, int64_t v_dim, struct tern_attention_bound *out);
void tern_attention_free(struct tern_attention_bound *attention);

/* Takes the scratch from an arena (twice: once counting, once for real); narrow is left NULL. */
void tern_attention_work_take(struct tern_arena *arena, const struct tern_attention_bound *attention, size_t max_rows,
                              int n_threads, struct tern_attention_work *work);

/* options->v_head_dim is 0 or the width that the weights are bound to, which is put there: TERN_ERR_CONFIG.  options: never NULL. */
tern_status tern_attention_check_width(tern_ctx *ctx, const char *owner, const struct tern_attention_bound *attention,
                                       tern_attention_options *options);

/* Bytes that rounding n_rows rows of either product takes. */
size_t tern_attention_narrow(const struct tern_attention_bound *attention, size_t n_rows);

/* c [T, H] = attention(norm(x [T, H])) through `e`.  normed [T, H]: with `keep` it gets the normed rows, which stay as they are, else
 * it is scratch; without a norm it is not touched.  c may be x.  Called by every thread; barrier at the end. */
void tern_attention_run(const struct tern_par *par, const struct tern_attention_bound *attention, float *c,
                        const float *x, float *normed, bool keep, const struct tern_kv_batch *batch,
                        int32_t cache_layer, const struct tern_attention_work *work, const struct tern_epilogue *e);

#endif
