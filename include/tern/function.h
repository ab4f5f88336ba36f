/* function.h: the kernel functions: norms, activations, products, attention, rotary, mixture of experts, embedding.
 *
 * They take explicit parameters and no tern_config.  What holds for all of them:
 *
 * Storage is fp32, fp16 or bf16, one of them for all tensors of a call; gamma, beta, bias, coef and mask may be fp32 as well, and
 * beside fp32 rows the matrix of a product may be fp16 or bf16.
 * Arithmetic is fp32 and each stored number is rounded exactly once (to nearest even; beyond the largest: infinity).
 * Tensors are dense unless it says "any strides".  Rows T are all leading axes of a tensor taken together.  Every size may be
 * 0, 1 or odd, without an upper limit.  Results are the same bits for any number of threads and at every instruction set level.
 *
 * Every function returns TERN_OK, TERN_ERR_ARG (a NULL that must not be, a number outside of its range, an unknown activation,
 * tensors that overlap), TERN_ERR_SHAPE (also strides), TERN_ERR_DTYPE, TERN_ERR_MEMORY (scratch) or TERN_ERR_THREAD; on error
 * no output is touched.  The text names function, tensor, what was found and what was expected.  A parameter "or NULL" may be
 * NULL or tern_tensor_none().  An output is the same tensor as an input only where it says "may be"; nothing else overlaps.
 *
 * Accuracy is that of the fp32 result; storing it as fp16 or bf16 adds half a unit in the last place of that type.
 * Source of names and formulas: DeepSpeed 0.16.5 (docs/operators.md, "Kernel functions", lists the differences). */
#ifndef TERN_FUNCTION_H
#define TERN_FUNCTION_H

#include <tern/config.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- norms -------------------------------------------------------------------------------------------------------- */

/** output = (x - mean) / sqrt(var + eps) * gamma + beta over rows of H; var = mean((x - mean)^2).
 *
 * @param input   [.., H].
 * @param gamma   [H].
 * @param beta    [H], or NULL for 0.
 * @param eps     finite, >= 0.
 * @param output  [.., H], may be input.
 *
 * Accuracy: 8 ulp of (|x| + mean |x|) / sqrt(var + eps) * |gamma| + |beta|.   Source: Ba et al. 2016, arXiv:1607.06450. */
TERN_API tern_status tern_layer_norm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *gamma,
                                     const tern_tensor *beta, float eps, tern_tensor *output);

/** z = (input + input_bias) + residual;  output = layer_norm(z);  sum = z.
 *
 * The norm is of z in fp32, before sum is rounded.
 * @param input, residual  [.., H].     @param input_bias  [H], or NULL for 0.
 * @param output  [.., H], may be input or residual.
 * @param sum     [.., H] or NULL (not wanted); may be input or residual, not output. */
TERN_API tern_status tern_layer_norm_residual(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *input_bias,
                                              const tern_tensor *residual, const tern_tensor *gamma,
                                              const tern_tensor *beta, float eps, tern_tensor *output,
                                              tern_tensor *sum);

/** output = x / sqrt(mean(x^2) + eps) * gamma over rows of H.  input, output [.., H] (may be one), gamma [H], eps finite, >= 0.
 *  Accuracy: 8 ulp.   Source: Zhang & Sennrich 2019, arXiv:1910.07467. */
TERN_API tern_status tern_rms_norm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *gamma, float eps,
                                   tern_tensor *output);

/** sum = input + residual;  output = rms_norm(sum), of the sum in fp32 before it is rounded.
 *  All [.., H]; gamma [H]; output and sum may each be input or residual, and are two tensors; sum may be NULL (not wanted). */
TERN_API tern_status tern_pre_rms_norm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *residual,
                                       const tern_tensor *gamma, float eps, tern_tensor *output, tern_tensor *sum);

/* --- element by element --------------------------------------------------------------------------------------------- */

/** output = gelu(input), any shape; unset means erf.  output may be input.
 *  Accuracy: 4 ulp or 6e-8.   Source: Hendrycks & Gimpel 2016, arXiv:1606.08415 (all three forms). */
TERN_API tern_status tern_gelu(tern_ctx *ctx, const tern_tensor *input, tern_gelu_form form, tern_tensor *output);

/** output = input + bias.  input, output [.., C] (may be one), bias [C]. */
TERN_API tern_status tern_bias_add(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias,
                                   tern_tensor *output);
/** output = gelu(input + bias); unset means tanh.  Shapes as bias_add. */
TERN_API tern_status tern_bias_gelu(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias,
                                    tern_gelu_form form, tern_tensor *output);
/** output = max(input + bias, 0); a NaN stays one.  Shapes as bias_add. */
TERN_API tern_status tern_bias_relu(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias,
                                    tern_tensor *output);
/** output = (input + residual) + bias.  input, residual, output [.., C], bias [C] or NULL; output may be input or residual. */
TERN_API tern_status tern_bias_residual(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *residual,
                                        const tern_tensor *bias, tern_tensor *output);

/** The end of a block, by the flags of DeepSpeed's kernel: x = hidden, r = residual, a = attention_output, b_a, b_f the biases.
 *
 *   mlp_after_attn, pre_norm         x + (r + b_f + a + b_a) / mp_size
 *   mlp_after_attn, not pre_norm     x + r + b_f                        neither mp_size nor a nor b_a
 *   not mlp_after_attn               x + a + (r + b_f + b_a) / mp_size  b_a with add_attn_bias only
 *
 * All [.., H], biases [H]; attention_output and each bias may be NULL (0); output may be any of the [.., H] inputs.  mp_size >= 1.
 * Accuracy: fp32, at most five roundings of sums and products.   Source: DeepSpeed residual_add_bias (Triton);
 * tern_residual_add() is what a block calls. */
TERN_API tern_status tern_residual_add_bias(tern_ctx *ctx, const tern_tensor *hidden, const tern_tensor *residual,
                                            const tern_tensor *attention_output, const tern_tensor *attention_bias,
                                            const tern_tensor *final_bias, int32_t mp_size, bool mlp_after_attn,
                                            bool pre_norm, bool add_attn_bias, tern_tensor *output);

/** Where a gated activation's two factors are among 2C channels. */
typedef enum tern_gate_layout {
    TERN_GATE_HALVES = 0,     /**< [up | gate] */
    TERN_GATE_INTERLEAVED = 1 /**< gate, up, gate, up, .. */
} tern_gate_layout;

/** output = (up + bias_up) * act(gate + bias_gate).
 *
 * @param input       [.., 2C].     @param bias  [2C] in the same layout, or NULL.
 * @param activation  "gelu" (erf), "gelu_tanh", "gelu_sigmoid", "relu" or "silu".
 * @param output      [.., C].
 * Source: Shazeer 2020, arXiv:2002.05202. */
TERN_API tern_status tern_gated_activation(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias,
                                           tern_gate_layout layout, const char *activation, tern_tensor *output);

/** output = gamma * a + b (one fused multiply-add), any shape, all alike; output may be a or b.  gamma is finite. */
TERN_API tern_status tern_vector_add(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, float gamma,
                                     tern_tensor *output);

/** The end of a residual mixture of experts.  residual (the dense MLP's output), experts, output [.., C].
 *
 * @param coef  in their dtype or fp32: [2C], shared by all rows, a pair per channel:  output = residual * coef[c] + experts * coef[C + c];
 *              or [.., 2] with a pair per row, in the order of training, rank >= 2:  output = experts * coef[t, 0] + residual * coef[t, 1].
 *              Two products and a sum, each rounded to fp32.
 * @param output  may be residual or experts.
 * Source: DeepSpeed MoEResMatmul (the vector), deepspeed/moe/layer.py (the pair). */
TERN_API tern_status tern_moe_res_matmul(tern_ctx *ctx, const tern_tensor *residual, const tern_tensor *coef,
                                         const tern_tensor *experts, tern_tensor *output);

/** Turns head rows by their positions (rotary embedding).
 *
 * For each pair m < rotary_dim / 2, a = position_ids[t] * theta^(-2m / rotary_dim) radians, both values from the old pair:
 *   (x, y) <- (x cos a - y sin a, y cos a + x sin a)
 *
 * @param input       [.., h, E].
 * @param position_ids  int32 or int64, one for each of the rows [..], each >= 0, in any order.
 * @param rotary_dim  leading channels that turn; even, 2 <= rotary_dim <= E, at most 512.  The others are copied.
 * @param theta       base of the wavelengths, finite, > 1.
 * @param rotate_every_two  pairs (2m, 2m + 1), else (m, m + rotary_dim / 2).
 * @param output      like input, may be input.
 *
 * Accuracy: angles are f64, rounded once as cosine and sine; then 2 roundings.   Source: Su et al. 2021, arXiv:2104.09864. */
TERN_API tern_status tern_rotary(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *position_ids,
                                 int32_t rotary_dim, float theta, bool rotate_every_two, tern_tensor *output);

/** Puts the keys and values of new tokens to their positions among those of the past.
 *
 * @param input         [B, S, 2, G, E]: of each token its keys, then its values.
 * @param position_ids  int32 or int64 [B, S], or [S] for all sequences; each 0..T-1, once in a sequence, in any order.  NULL: the
 *                      positions behind the past, P..P+S-1.
 * @param rotary_dim    leading channels of a key that turn by its position, as in tern_rotary(); 0 or below: none.
 * @param theta, rotate_every_two  as in tern_rotary(); not read without rotary_dim.
 * @param past_key, past_value  [B, G, P, E], or both NULL: P = 0.
 * @param key, value    [B, G, T, E], T >= P: the past's, with the new ones in their places; positions that are neither
 *                      are 0.  Where T is P, key may be past_key and value past_value, both at once: only new places are written.
 *
 * Accuracy: copies of bits; channels that turn are rounded once.   Source: DeepSpeed v2 linear_blocked_kv_rotary. */
TERN_API tern_status tern_kv_copy(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *position_ids,
                                  int32_t rotary_dim, float theta, bool rotate_every_two, const tern_tensor *past_key,
                                  const tern_tensor *past_value, tern_tensor *key, tern_tensor *value);

/** Heads apart, zero padded: output[b, n, s, c] = input[b, s, n E + c] for s < S and c < E, else 0.
 *
 * @param query, key, value  [B, S, h E] each with its own S; key and value may be NULL, with their outputs.
 * @param heads              h >= 1.
 * @param query_output, key_output, value_output  [B, h, S', E'], S' >= S, E' >= E; every row is written. */
TERN_API tern_status tern_pad_transform(tern_ctx *ctx, const tern_tensor *query, const tern_tensor *key,
                                        const tern_tensor *value, int32_t heads, tern_tensor *query_output,
                                        tern_tensor *key_output, tern_tensor *value_output);
/** E' of DeepSpeed's padded heads: 32, 64 or 128 for head sizes below 32, below 64 and to 128; above 128 the size itself.
 *  A multiple of 64 stays. */
TERN_API int64_t tern_pad_head_size(int64_t head_size);

/* --- products ----------------------------------------------------------------------------------------------------- */

/** C = act(A B + bias), bias and activation on the fp32 accumulator.
 *
 * @param a           [M, K] with any strides >= 0, or [B, S, K] whose first axes flatten to B S rows.
 * @param b           [K, N] with any strides >= 0; fp32, fp16 or bf16 beside an a in fp32, else in a's dtype.  Or, beside a dense a, a
 *                    tern_weight_view() of these, with the same results.
 * @param bias        [N] or NULL.
 * @param activation  "" (none), "relu", "leaky_relu" (0.01), "gelu" (erf), "gelu_tanh", "gelu_sigmoid" or "sigmoid".
 * @param output      [M, N], or [B, S, N]; dense.
 *
 * Accuracy: one chain of fused multiply-adds over K, then the bias, then the activation to 4 ulp or 6e-8.
 * Source: DeepSpeed fp16_matmul. */
TERN_API tern_status tern_matmul(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, const tern_tensor *bias,
                                 const char *activation, tern_tensor *output);

/** The same with int8 weights: B = b * b_scale, one scale for each N / G output channels in a row.
 *
 * @param a        [M, K] or [B, S, K], dense, fp32, fp16 or bf16.
 * @param b        [K, N] int8, dense or the transpose of a dense [N, K]; or a tern_weight_view() of quantised weights.
 * @param b_scale  [G] fp32, finite, G divides N; NULL with a view.
 * @param activation_quant  none: rows stay as they are, in fp32.  row: each row becomes s8 with one scale, max |a| / 127; K at most
 *                 131072, beyond it TERN_ERR_UNSUPPORTED.
 * @param bias, activation, output  as above, in a's dtype.
 *
 * Accuracy: none: one chain of fused multiply-adds over K of a and the codes, then the scale, once, bias and activation.
 * row: exact integer sums, then both scales.  The same bits at every instruction set level. */
TERN_API tern_status tern_matmul_int8(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b,
                                      const tern_tensor *b_scale, tern_activation_quant activation_quant,
                                      const tern_tensor *bias, const char *activation, tern_tensor *output);

/** output[i, j] = a[i, j] b[i, j]:  a [B, h, M, K], b [B, h, K, N], output [B, h, M, N]. */
TERN_API tern_status tern_matmul_4d(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, tern_tensor *output);

/** output[b, n, i, j] = scale * q[b, i, n] . k[b, j, n], from qkv [B, S, 3H] = [q | k | v], H = h head_size.
 *
 * The scale multiplies the fp32 accumulator.  causal: -infinity for j > i.  scale is finite.  output [B, h, S, S]. */
TERN_API tern_status tern_score_4d_matmul(tern_ctx *ctx, const tern_tensor *qkv, int64_t head_size, float scale,
                                          bool causal, tern_tensor *output);

/** output[b, i, n] = sum over j of prob[b, n, i, j] v[b, j, n]:  prob [B, h, S, S], qkv [B, S, 3H], output [B, S, H]. */
TERN_API tern_status tern_context_4d_matmul(tern_ctx *ctx, const tern_tensor *prob, const tern_tensor *qkv,
                                            int64_t head_size, tern_tensor *output);

/** O[e, c, m] = sum over s of Q[s, e, c] W[s, m]:  q [S, E, C], w [S, M], output [E, C, M]. */
TERN_API tern_status tern_einsum_sec_sm_ecm(tern_ctx *ctx, const tern_tensor *q, const tern_tensor *w,
                                            tern_tensor *output);

/* --- attention ---------------------------------------------------------------------------------------------------- */

/** Attention straight from qkv [B, S, 3H] = [q | k | v], h heads of any width E = H / h.
 *
 *   s[j] = scale * q . k[j] + mask[j] for the visible j;   output = sum of softmax(s)[j] v[j], [B, S, H]
 *
 * @param scale   finite, or NaN for 1 / sqrt(E).
 * @param causal  row i sees j <= i; holds together with a mask.
 * @param mask    broadcasting to [B, h, S, S]: axes from the right, each 1 or full; or [B, S], a row for each sequence, where B is
 *                not S; or NULL.  Floating: added, where -infinity hides a key; bool or integers: what is not 0 is visible.
 *
 * A row that sees nothing gives zeros.  Hidden keys are left out: what they hold does not matter.
 * Arithmetic is fp32.  With bf16 tensors the exponentials that v is multiplied by are rounded to bf16; their sum is of the unrounded
 * ones.
 * Accuracy: 1e-6 of max |v| times 1 + the largest sum |scale * q * k| + |mask| of the row, for S <= 4096; with bf16 tensors 2^-8 of
 * max |v| more.
 * Cost: k and v turned into panels once for 512 rows; scratch for each thread, whatever S is.
 * Source: DeepSpeed _triton_packed_flash. */
TERN_API tern_status tern_packed_attention(tern_ctx *ctx, const tern_tensor *qkv, int32_t heads, float scale,
                                           bool causal, const tern_tensor *mask, tern_tensor *output);

/** The same from separate tensors: q [B, h, S, E], k [B, G, T, E], v [B, G, T, E2], output [B, h, S, E2]; G divides h, and
 *  query head n uses key head n / (h / G).  causal: row i sees j <= i + T - S.  mask broadcasts to [B, h, S, T],
 *  or is [B, T] where B is not S. */
TERN_API tern_status tern_unpacked_attention(tern_ctx *ctx, const tern_tensor *q, const tern_tensor *k,
                                             const tern_tensor *v, float scale, bool causal, const tern_tensor *mask,
                                             tern_tensor *output);

/* --- mixture of experts ------------------------------------------------------------------------------------------- */

/** Chooses k experts for each token.
 *
 * Softmax over all experts in fp32; the k largest logits, ties to the lower expert index, a NaN after all numbers.  Slots
 * count the uses of an expert in order of (token, choice), so they do not depend on threads.
 *
 * @param logits   [.., X], X >= 1 experts, T rows.
 * @param k        1..X.
 * @param padding  [T] bool, true for tokens that are none, or NULL.  Their experts and slots are -1, their scores 0.
 * @param scores   [T, k] fp32, probabilities of the chosen, not renormalised.
 * @param experts, slots  [T, k] int32.     @param counts  [X] int32, uses of each expert; need not be zero before. */
TERN_API tern_status tern_top_k_gating(tern_ctx *ctx, const tern_tensor *logits, int32_t k, const tern_tensor *padding,
                                       tern_tensor *scores, tern_tensor *experts, tern_tensor *slots,
                                       tern_tensor *counts);

/** Copies token rows into groups by expert: output[ends[e - 1] + slot] = input[t] for each choice (e, slot) of token t.
 *
 * @param input         [.., H], T rows.
 * @param experts, slots  [T, k] int32 or int64 as top_k_gating gives them; -1 is skipped.  No two choices share a place.
 * @param counts        [X] int32 or int64, >= 0.
 * @param output        [R, H], R >= the sum of counts.  Rows that no choice names are not written.
 * @param mapped_slots  [T, k] int32: rows in output, -1 where skipped.  May be slots.
 * @param row_ends      [X] int64: inclusive sums of counts. */
TERN_API tern_status tern_moe_scatter(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *experts,
                                      const tern_tensor *slots, const tern_tensor *counts, tern_tensor *output,
                                      tern_tensor *mapped_slots, tern_tensor *row_ends);

/** Rows in groups, each through its own matrix: output[r] = act(input[r] weight[e] + bias[e]), row_ends[e - 1] <= r < row_ends[e].
 *
 * @param input     [R, K].     @param weight  [X, K, N] with any strides >= 0; fp32, fp16 or bf16 beside an input in
 *                  fp32, else in its dtype.     @param bias  [X, N] or NULL.
 * @param row_ends  [X] int32 or int64, not decreasing, 0..R.  Rows from the last on are not written.
 * @param activation  "", "relu", "gelu" (erf), "gelu_tanh", "gelu_sigmoid" or "silu".
 * @param output    [R, N]. */
TERN_API tern_status tern_moe_gemm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *weight,
                                   const tern_tensor *bias, const tern_tensor *row_ends, const char *activation,
                                   tern_tensor *output);

/** The same with int8 weights.
 *
 * @param weight        [X, K, N] int8, dense or with its last two axes exchanged.
 * @param weight_scale  [X, G], or [X, ..] with G numbers for each expert; fp32, finite, G divides N.
 * @param activation_quant  as for tern_matmul_int8(). */
TERN_API tern_status tern_moe_gemm_int8(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *weight,
                                        const tern_tensor *weight_scale, tern_activation_quant activation_quant,
                                        const tern_tensor *bias, const tern_tensor *row_ends, const char *activation,
                                        tern_tensor *output);

/** output[t] = sum over j of scores[t, j] input[mapped_slots[t, j]], in order of j; -1 is left out.
 *
 * @param input      [R, H].     @param scores  [T, k] fp32.     @param mapped_slots  [T, k] int32 or int64, -1..R-1.
 * @param normalise  scores are divided by their sum over the choices that are there; a sum of 0 gives zeros.
 * @param output     [.., H], T rows.  A row without a choice (padding) is not written. */
TERN_API tern_status tern_moe_gather(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *scores,
                                     const tern_tensor *mapped_slots, bool normalise, tern_tensor *output);

/* --- ends of a model ---------------------------------------------------------------------------------------------- */

/** output[t] = table[ids[t]] (+ position_table[position_ids[t] + offset]).
 *
 * @param ids             int32 or int64, any shape, T of them.  Outside of the table: TERN_ERR_ARG with id and size.
 * @param table           [V, H].
 * @param position_table  [P, H] or NULL.     @param position_ids  int32 or int64, T of them; read with a position_table.
 * @param offset          rows of the position table that stand before position 0 (OPT: 2).
 * @param output          [.., H], T rows. */
TERN_API tern_status tern_embedding(tern_ctx *ctx, const tern_tensor *ids, const tern_tensor *table,
                                    const tern_tensor *position_table, const tern_tensor *position_ids, int64_t offset,
                                    tern_tensor *output);

/** output[i] = the last row of sequence i.  input [.., H], T rows, sequences one behind the other; lengths [n] int32 or int64,
 *  each >= 1, together at most T; output [n, H]. */
TERN_API tern_status tern_logits_gather(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *lengths,
                                        tern_tensor *output);

#ifdef __cplusplus
}
#endif
#endif
