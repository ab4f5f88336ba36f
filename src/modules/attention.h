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
    const tern_weight *qkv_w, *out_w; /* [H, (h + 2G) E], [h E, H] */
    const float *qkv_b, *out_b;       /* [(h + 2G) E], [H], or NULL; out_b is for the caller's epilogue */
    struct tern_softmax_context_args context;
    struct tern_binding binding;
};

/* Scratch for up to max_rows rows. */
struct tern_attention_work {
    float *qkv;     /* [T, (h + 2G) E] */
    float *context; /* [T, h E] */
    float *scratch; /* of softmax_context, for the whole team */
    void *narrow;   /* with which rows of both products are rounded, by the owner; NULL: they stay fp32 */
};

/* Binds norm_w and norm_b (but in a post-LN block), attn_qkvw, attn_qkvb, attn_ow and attn_ob of a checked config: see
 * tern_bind() for the errors.  *out is all zero before; tern_attention_free() frees it in any case. */
tern_status tern_attention_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                                const tern_layer_weights *weights, struct tern_attention_bound *out);
void tern_attention_free(struct tern_attention_bound *attention);

/* Takes the scratch from an arena (twice: once counting, once for real); narrow is left NULL. */
void tern_attention_work_take(struct tern_arena *arena, const tern_config *config, size_t max_rows, int n_threads,
                              struct tern_attention_work *work);

/* Bytes that rounding n_rows rows of either product takes. */
size_t tern_attention_narrow(const struct tern_attention_bound *attention, size_t n_rows);

/* c [T, H] = attention(norm(x [T, H])) through `e`.  normed [T, H] gets the normed rows, which stay as they are; without a
 * norm it is not touched.  c may be x.  Called by every thread; barrier at the end. */
void tern_attention_run(const struct tern_par *par, const struct tern_attention_bound *attention, float *c,
                        const float *x, float *normed, const struct tern_kv_batch *batch, int32_t cache_layer,
                        const struct tern_attention_work *work, const struct tern_epilogue *e);

#endif
