/* moe.h: a mixture of experts: a gate sends each token to k of X feed-forwards and adds up what they answer. */
#ifndef TERN_MOE_H
#define TERN_MOE_H

#include <tern/comm.h>
#include <tern/config.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Noise on the gate.  There is none here: the others are known so that asking for them is an error that says so. */
typedef enum tern_moe_noise { TERN_MOE_NO_NOISE = 0, TERN_MOE_JITTER = 1, TERN_MOE_RSAMPLE = 2 } tern_moe_noise;

/** What stands beside the experts: nothing, or a dense feed-forward that every token takes too. */
typedef enum tern_moe_form { TERN_MOE_STANDARD = 0, TERN_MOE_RESIDUAL = 1 } tern_moe_form;

/** Which of the tokens that chose an expert it takes when they are more than its capacity.
 *  order: the first ones; with k = 2 all first choices come before all second ones, otherwise tokens come one after the other.
 *  probs: those with the largest probability, ties to the earlier token. */
typedef enum tern_moe_drop { TERN_MOE_DROP_ORDER = 0, TERN_MOE_DROP_PROBS = 1 } tern_moe_drop;

/** Fields, names and defaults of DeepSpeed's DeepSpeedMoEInferenceConfig, then tern's own. */
typedef struct tern_moe_config {
    int32_t moe_experts;         /**< experts of this rank, X / ranks; 1 */
    int32_t global_experts;      /**< X, experts of all ranks; 1.  Of this and moe_experts one may stay 1: it follows */
    int32_t k;                   /**< experts of a token, 1..X; 1 */
    double capacity_factor;      /**< training's: accepted, without effect; finite, >= 0; 1 */
    double eval_capacity_factor; /**< f in the capacity below; finite, >= 0; 1 */
    int32_t min_capacity;        /**< >= 0; 1 */
    tern_moe_noise noisy_gate_policy; /**< None; anything else is an error */
    bool drop_tokens;                 /**< whether there is a capacity; true */
    bool use_rts;                     /**< random choice of the tokens to drop: true is an error; false */
    tern_moe_form mlp_type;           /**< standard */

    int32_t normalize;         /**< scores divided by their sum: 1 yes, 0 no, -1 (unset) exactly when k > 1 */
    tern_moe_drop drop_policy; /**< order */
    uint64_t reserved[4];      /**< zero */
} tern_moe_config;

/** A config with the defaults above. */
TERN_API tern_moe_config tern_moe_config_default(void);

/** Weights of a mixture.  A view of rank -1 (tern_tensor_none()) is absent.  X' = X / ranks are this rank's experts, rank r
 *  having r X' .. (r + 1) X' - 1; p = 2 with a gated activation, whose columns are [up | gate].  With transposed_mode the last
 *  two axes of raw matrices are exchanged: [.., out, in].
 *
 *  gate_w and res_coef_w are fp32, fp16 or bf16.  The other matrices are, for config.dtype
 *    fp32   fp32, fp16 or bf16            fp16   fp16 (packed: also fp32)            bf16   bf16
 *    int8   int8 with the scales below it, or packed codes of any layout (tern_weight_pack_quantized)
 *  Biases are fp32, fp16 or bf16.  Packed matrices are borrowed and must outlive the module; all else is read during the call. */
typedef struct tern_moe_weights {
    tern_tensor gate_w; /**< [H, X] */

    tern_tensor inter_w;                    /**< [X', H, pI] */
    const tern_weight *const *inter_packed; /**< or X' packed matrices [H, pI] in its place; NULL: none */
    tern_tensor inter_scale;                /**< [X', G], G divides pI: one for each pI / G output channels */
    tern_tensor inter_b;                    /**< [X', pI], or absent */
    tern_tensor output_w;                   /**< [X', I, H] */
    const tern_weight *const *output_packed;
    tern_tensor output_scale; /**< [X', G], G divides H */
    tern_tensor output_b;     /**< [X', H], or absent */

    /* With mlp_type residual: the dense feed-forward, whole on every rank, and the pair that mixes both. */
    tern_tensor res_inter_w;      /**< [H, pI], raw or a tern_weight_view() */
    tern_tensor res_inter_scale;  /**< [G] */
    tern_tensor res_inter_b;      /**< [pI], or absent */
    tern_tensor res_output_w;     /**< [I, H], raw or a tern_weight_view() */
    tern_tensor res_output_scale; /**< [G] */
    tern_tensor res_output_b;     /**< [H], or absent */
    tern_tensor res_coef_w;       /**< [H, 2] */
    tern_tensor res_coef_b;       /**< [2], or absent */
} tern_moe_weights;

/** Every tensor absent. */
TERN_API tern_moe_weights tern_moe_weights_none(void);

/** A mixture of experts, read-only after creation. */
typedef struct tern_moe tern_moe;

/** Checks configs and weights against each other and packs the matrices, once.
 *
 *  For each token x, with p = softmax(x gate_w) over all X, in fp32:
 *    e_1 .. e_k    the k largest logits, ties to the lower index
 *    s_j = p[e_j]; 0 where the expert is full; with normalize s_j / max(s_1 + .. + s_k, 2^-23) of those that are left
 *    y = sum over j of s_j (act(x inter_w[e_j] + inter_b[e_j]) output_w[e_j] + output_b[e_j])
 *    output = y,  or  c_0 y + c_1 (act(x res_inter_w + res_inter_b) res_output_w + res_output_b)   with mlp_type residual
 *             where (c_0, c_1) = softmax(x res_coef_w + res_coef_b), a pair for each token, in the order of training
 *
 *  The capacity of an expert is C = max(min_capacity, ceil(T / X * (f * k))) of T tokens in the call, f * k and T / X rounded
 *  to fp32 before they are multiplied in fp32 (as the reference does, so that a quotient at a whole number falls on its
 *  side).  Without drop_tokens no expert is ever full.
 *
 *  The norm before and the sum with the block's input after are the caller's: output holds neither.
 *
 * @param config  reads hidden_size, intermediate_size, mlp_act_func_type, gelu (unset: tanh; erf where it gates), dtype,
 *                activation_dtype, activation_quant, transposed_mode, device, kernel; mp_size must be 1, as experts are
 *                divided among ranks and not cut.
 * @param moe     X is a multiple of comm's size.
 * @param comm    NULL: tern_comm_self().  Every rank has the same tokens and its own experts.  Borrowed, outlives the module.
 * @return TERN_OK, TERN_ERR_ARG (NULL, a weight that is missing or must not be there), TERN_ERR_CONFIG, TERN_ERR_SHAPE (weight,
 *         found, expected), TERN_ERR_DTYPE, TERN_ERR_UNSUPPORTED (noise, use_rts, a dtype,
 *         codes without integer products where activation_quant is row), TERN_ERR_MEMORY, TERN_ERR_THREAD;
 *         *out is NULL then.
 *
 * Source: DeepSpeed 0.16.5, deepspeed/moe/{layer,sharded_moe}.py; Rajbhandari et al. 2022, arXiv:2201.05596 (residual form);
 * Lepikhin et al. 2020, arXiv:2006.16668 (capacity). */
TERN_API tern_status tern_moe_create(tern_ctx *ctx, const tern_config *config, const tern_moe_config *moe,
                                     const tern_comm *comm, const tern_moe_weights *weights, tern_moe **out);
/** Frees the module and sets *moe to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_moe_destroy(tern_moe **moe);

/** output = the mixture of input.  Rows are grouped by expert and go through its matrices together.
 *
 * @param input   [.., H], T rows, in the activations' dtype: config.dtype, or activation_dtype with int8.
 * @param output  like input; may be input.
 *
 * Allocates its scratch: for T rows about (k + 3) H + pI + X numbers each.
 * comm->all_reduce is called once, with T H numbers, exactly when its size is above 1 and T is not 0.
 *
 * With no token dropped a row's result does not depend on the other rows; with a capacity it does, by definition.  fp32, fp16
 * and int8 have the same bits for any number of threads and at every instruction set level, bf16 at one level.
 * Accuracy: fp32 throughout and one rounding when output is stored; bf16 and int8 with activation_quant round the rows of the
 * experts' products first, never those of the gate.
 * @return TERN_OK, TERN_ERR_ARG, TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_MEMORY, TERN_ERR_THREAD, or what all_reduce
 *         answered.  On error output is unchanged. */
TERN_API tern_status tern_moe_forward(tern_ctx *ctx, const tern_moe *moe, const tern_tensor *input,
                                      tern_tensor *output);

#ifdef __cplusplus
}
#endif
#endif
