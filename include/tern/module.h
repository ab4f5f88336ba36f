/* module.h: operators put together: attention, feed-forward, and the layer made of both.  Weights are bound once. */
#ifndef TERN_MODULE_H
#define TERN_MODULE_H

#include <tern/comm.h>
#include <tern/op.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Weights of one layer, named as in DeepSpeed; a module reads those of its part.  A view whose rank is -1
 *  (tern_tensor_none()), or a tensor that is left zero, is absent: every bias may be, attn_nw may be in a parallel block (then
 *  the first norm is shared).
 *
 *  Vectors: fp32, fp16 or bf16.  Matrices are [in, out], raw ones [out, in] with transposed_mode, by the config's dtype:
 *    fp32   fp32, fp16 or bf16, raw or packed          fp16   fp16, raw or packed, or packed fp32
 *    bf16   bf16, raw or packed                        int8   packed codes, or raw int8 with scales
 *  Packed matrices are borrowed (the tern_weight must outlive the module), raw ones are packed and vectors copied: those are
 *  read during the call alone.  With mp_size > 1 matrices, attn_qkvb and inter_b are this rank's part, all else is whole. */
typedef struct tern_layer_weights {
    tern_tensor norm_w, norm_b;       /**< [H] before the attention */
    tern_tensor attn_qkvw, attn_qkvb; /**< [H, W], [W], W = (h + G) E + G E' */
    tern_tensor attn_ow, attn_ob;   /**< [h E', H], [H]: with attn_qkvw it says E', the width of a value head, 1..512 */
    tern_tensor attn_nw, attn_nb;   /**< [H] before the feed-forward */
    tern_tensor inter_w, inter_b;   /**< [H, pI], [pI] */
    tern_tensor output_w, output_b; /**< [I, H], [H] */

    /* With set_empty_params the two above may come apart; they are put together when they are bound.  All raw and of one dtype;
     * a bias that is missing beside the others is 0.  With bigscience_bloom the heads of q, k and v become neighbours. */
    tern_tensor attn_qw, attn_qb;           /**< [H, h E], [h E] */
    tern_tensor attn_kw, attn_kb;           /**< [H, G E], [G E] */
    tern_tensor attn_vw, attn_vb;           /**< [H, G E'], [G E'] */
    tern_tensor inter_up_w, inter_up_b;     /**< [H, I], [I]: the first half of a gated inter_w, or all of another */
    tern_tensor inter_gate_w, inter_gate_b; /**< [H, I], [I]: the second half */

    /* Scales of raw int8 matrices: fp32 [G], G dividing the output channels, one for each N / G of them in a row. */
    tern_tensor attn_qkvw_scale, attn_qw_scale, attn_kw_scale, attn_vw_scale, attn_ow_scale;
    tern_tensor inter_w_scale, inter_up_w_scale, inter_gate_w_scale, output_w_scale;
} tern_layer_weights;
/** Every tensor absent. */
TERN_API tern_layer_weights tern_layer_weights_none(void);

/** How raw int8 matrices are scaled, in the form that DeepSpeed's modules take: another way than the *_scale above. */
typedef struct tern_module_quant {
    /** fp32 [4, L]: the scales of attn_qkvw, attn_ow, inter_w and output_w, in rows that are filled up to the longest (also
     *  [1, 4, L]); or, but for a layer, [2, L] with the rows of one module alone.  NULL or tern_tensor_none(): none.  Read during the call. */
    const tern_tensor *q_scales;
    int32_t q_groups;        /**< G, groups of a shard; 1 */
    int32_t merge_count;     /**< n, shards that were quantised apart and put together, a power of two; 1 */
    bool mlp_extra_grouping; /**< 2 G groups in inter_w and output_w; false */
    uint64_t reserved[4];    /**< zero */
} tern_module_quant;
/** The defaults above. */
TERN_API tern_module_quant tern_module_quant_default(void);

/* A row has n G scales.  attn_qkvw and inter_w are merged along their outputs: scale[o / (N / (n G))] for output channel o of N.
 * attn_ow and output_w along their inputs: with in' = in / n, input i and output o,
 *   scale[((i mod in') + o in') / (in' N / G) * n + i / in'].                    n G and G divide N, n divides in. */

/* --- feed-forward ------------------------------------------------------------------------------------------------- */

/** What follows the attention in a block: norm, feed-forward, sum.  Read-only after creation. */
typedef struct tern_mlp tern_mlp;

/** Checks config and weights against each other and binds attn_nw, attn_nb, inter_w, inter_b, output_w and output_b.
 *
 * @param comm   NULL: tern_comm_self().  Its size is config->mp_size; borrowed, outlives the module.
 * @param quant  NULL: the defaults.  q_groups and merge_count are checked in every dtype and count with int8; q_scales is an
 *               error in the others.
 * @return as tern_layer_create(); *out is NULL on error. */
TERN_API tern_status tern_mlp_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                                     const tern_module_quant *quant, const tern_layer_weights *weights, tern_mlp **out);
/** Frees the module and sets *mlp to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_mlp_destroy(tern_mlp **mlp);

/** output = x + .. , where x is the feed-forward and the sum is tern_residual_add()'s:
 *
 *    without attn_nw   x = act(residual_norm inter_w + inter_b) output_w                     gelu_gemm, with the config's act
 *    with attn_nw      x, z = tern_mlp_gemm(input, residual, .., bias, inter_b, attn_nw, attn_nb)
 *    sequential, pre-LN    output = x + (residual + output_b + input + bias) / mp
 *    sequential, post-LN   output = x + (z + output_b) / mp               z is residual without attn_nw
 *    parallel              output = x + input + (residual + output_b + bias) / mp
 *
 * Then comm->all_reduce once, with T H numbers in fp32, exactly when its size is above 1 and T is not 0.
 *
 * @param input          output of the attention, without its bias.  NULL: nothing is added (where attn_nw is there and the norm
 *                       takes input, it must be given).
 * @param residual       the block's input.
 * @param residual_norm  normed rows; read without attn_nw, else NULL is fine.
 * @param bias           [H], the attention's (attn_ob), in the activations' dtype or fp32; or NULL.
 * @param output         may be any of the inputs.  All [.., H] in the activations' dtype (the config's, activation_dtype with
 *                       int8).
 * @return TERN_OK, TERN_ERR_ARG, TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_MEMORY, TERN_ERR_THREAD, or what all_reduce
 *         answered.  On error output is unchanged.
 *
 * Accuracy: fp32 throughout, and one rounding when output is stored; rows of the products are rounded first with bf16 and
 * activation_quant, as in tern_mlp_gemm().   Source: DeepSpeed DeepSpeedMLP (0.16.5). */
TERN_API tern_status tern_mlp_forward(tern_ctx *ctx, const tern_mlp *mlp, const tern_tensor *input,
                                      const tern_tensor *residual, const tern_tensor *residual_norm,
                                      const tern_tensor *bias, tern_tensor *output);

/* --- attention ---------------------------------------------------------------------------------------------------- */

/** Attention over a cache with its products.  Read-only after creation. */
typedef struct tern_attention tern_attention;

/** Checks config and weights against each other and binds norm_w, norm_b (with pre_layer_norm), attn_qkvw, attn_qkvb and
 *  attn_ow.  Parameters and errors as for tern_mlp_create(); mlp_extra_grouping does not count here. */
TERN_API tern_status tern_attention_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                                           const tern_module_quant *quant, const tern_layer_weights *weights,
                                           tern_attention **out);
/** Frees the module and sets *attention to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_attention_destroy(tern_attention **attention);

/** output = tern_softmax_context(qkv) attn_ow,  qkv = norm(input) attn_qkvw + attn_qkvb, without the norm in a post-LN block.
 *  attn_ob is not added: it is the bias of tern_mlp_forward().
 *
 * Each step is the operator of its name, and stores in the activations' dtype what the next one reads; see there for options,
 * mask, alibi, cache and spans, whose positions the caller reserved and commits.  In a sequential block comm->all_reduce is
 * called once, with T H numbers in fp32, exactly when its size is above 1 and T is not 0: the product is stored behind it.
 *
 * @param options NULL: the defaults.  v_head_dim is 0 or E' here: the weights are bound to that width.
 * @param input   [.., H].
 * @param cache   of width max(E, E').
 * @param output  [.., H]; may be input.
 * @param norm    [.., H] gets norm(input), which parallel blocks read again, or NULL; none with post-LN.
 * @return TERN_OK, what the operators return, or what all_reduce answered.  On error output and norm are unchanged, and
 *         the cache is where it was: what may have been stored at the reserved positions does not count yet.
 * Source: DeepSpeed DeepSpeedSelfAttention (0.16.5). */
TERN_API tern_status tern_attention_forward(tern_ctx *ctx, const tern_attention *attention,
                                            const tern_attention_options *options, const tern_tensor *input,
                                            const tern_tensor *mask, const tern_tensor *alibi, tern_kv_cache *cache,
                                            int32_t cache_layer, const tern_kv_span *spans, size_t n_spans,
                                            tern_tensor *output, tern_tensor *norm);

/* --- layer -------------------------------------------------------------------------------------------------------- */

/** One transformer layer, read-only after creation. */
typedef struct tern_layer tern_layer;

/** Checks config and weights against each other and binds them.
 *
 *  With N1 = norm_w, N2 = attn_nw, A and F attention and feed-forward without their last biases; sums from left to right:
 *    sequential, pre-LN    s = A(N1 x) + attn_ob + x;   out = F(N2 s) + output_b + s
 *    sequential, post-LN   z = N2(A(x) + attn_ob + x);  out = N1(F(z) + output_b + z)
 *    parallel              out = F(N2 x or N1 x) + output_b + (A(N1 x) + attn_ob) + x
 *
 *  @param comm   NULL: tern_comm_self().  Its size is config->mp_size; borrowed, outlives the layer.
 *  @param quant  as for tern_mlp_create().
 *  @return TERN_OK, TERN_ERR_ARG (NULL, a weight that is missing or must not be there), TERN_ERR_CONFIG, TERN_ERR_SHAPE (weight,
 *          found, expected), TERN_ERR_DTYPE, TERN_ERR_UNSUPPORTED (a dtype, norm or device; RMSNorm with post-LN; pre_layer_norm
 *          and mlp_after_attn both false, also in the modules of its parts), TERN_ERR_MEMORY, TERN_ERR_THREAD; *out is NULL then. */
TERN_API tern_status tern_layer_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                                       const tern_module_quant *quant, const tern_layer_weights *weights,
                                       tern_layer **out);
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
/** The same with what tern_softmax_context() takes besides rows: options (v_head_dim 0 or E'), mask, alibi; each may be NULL. */
TERN_API tern_status tern_layer_forward_masked(tern_ctx *ctx, const tern_layer *layer,
                                               const tern_attention_options *options, tern_tensor *x,
                                               const tern_tensor *mask, const tern_tensor *alibi, tern_kv_cache *cache,
                                               int32_t cache_layer, const tern_kv_span *spans, size_t n_spans);

#ifdef __cplusplus
}
#endif
#endif
