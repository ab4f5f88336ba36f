/* module.h: operators put together: attention, feed-forward, and the layer made of both.  Weights are bound once. */
#ifndef TERN_MODULE_H
#define TERN_MODULE_H

#include <tern/comm.h>
#include <tern/op.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Weights of one layer, named as in DeepSpeed.  Vectors: fp32, fp16 or bf16.  Matrices by the config's dtype: fp32, fp16 or
 *  bf16, raw or packed, for fp32; fp16, or packed fp16 or fp32, for fp16; bf16, raw or packed, for bf16; packed codes for int8.  A view whose rank is -1
 *  (tern_tensor_none()) is absent: every bias may be, attn_nw may be in a parallel block (then the first norm is shared).
 *  Packed matrices are borrowed (the tern_weight must outlive the module), raw ones are packed and vectors copied: those are
 *  read during the call alone.  With mp_size > 1 matrices, attn_qkvb and inter_b are this rank's part, all else is whole. */
typedef struct tern_layer_weights {
    tern_tensor norm_w, norm_b;       /**< [H] before the attention */
    tern_tensor attn_qkvw, attn_qkvb; /**< [H, (h + 2G) E], [(h + 2G) E] */
    tern_tensor attn_ow, attn_ob;     /**< [h E, H], [H] */
    tern_tensor attn_nw, attn_nb;     /**< [H] before the feed-forward */
    tern_tensor inter_w, inter_b;     /**< [H, pI], [pI] */
    tern_tensor output_w, output_b;   /**< [I, H], [H] */
} tern_layer_weights;

/** One transformer layer, read-only after creation. */
typedef struct tern_layer tern_layer;

/** Checks config and weights against each other and binds them.
 *
 *  With N1 = norm_w, N2 = attn_nw, A and F attention and feed-forward without their last biases; sums from left to right:
 *    sequential, pre-LN    s = A(N1 x) + attn_ob + x;   out = F(N2 s) + output_b + s
 *    sequential, post-LN   z = N2(A(x) + attn_ob + x);  out = N1(F(z) + output_b + z)
 *    parallel              out = F(N2 x or N1 x) + output_b + (A(N1 x) + attn_ob) + x
 *
 *  @param comm  NULL: tern_comm_self().  Its size is config->mp_size; borrowed, outlives the layer.
 *  @return TERN_OK, TERN_ERR_ARG (NULL, a weight that is missing or must not be there), TERN_ERR_CONFIG, TERN_ERR_SHAPE (weight,
 *          found, expected), TERN_ERR_DTYPE, TERN_ERR_UNSUPPORTED, TERN_ERR_MEMORY, TERN_ERR_THREAD; *out is NULL then. */
TERN_API tern_status tern_layer_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                                       const tern_layer_weights *weights, tern_layer **out);
/** Frees the layer and sets *layer to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_layer_destroy(tern_layer **layer);

/** x [T, H] becomes the layer's output, in place.  It is fp32, fp16 or bf16 as config->dtype is (config->activation_dtype where
 *  that is int8); between widening and one rounding at the end all arithmetic is fp32.  Rows that enter a product are rounded to
 *  bf16 with dtype bf16, and to s8 with activation_quant row; keys and values to the dtype of x.  Allocates its scratch: a model's forward pass does not go this way.
 *  The spans were reserved in the cache and are committed by the caller.
 *
 *  comm->all_reduce is called exactly when its size is above 1: after the attention and after the feed-forward of a sequential
 *  block, once in a parallel one.
 *  @return TERN_OK, TERN_ERR_ARG, TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_STATE (spans not reserved), TERN_ERR_MEMORY,
 *          TERN_ERR_THREAD: x is unchanged; or what all_reduce answered: x is undefined then. */
TERN_API tern_status tern_layer_forward(tern_ctx *ctx, const tern_layer *layer, tern_tensor *x, tern_kv_cache *cache,
                                        int32_t cache_layer, const tern_kv_span *spans, size_t n_spans);

#ifdef __cplusplus
}
#endif
#endif
