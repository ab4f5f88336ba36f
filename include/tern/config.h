/* config.h: the configuration that the operators share. */
#ifndef TERN_CONFIG_H
#define TERN_CONFIG_H

#include <tern/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Normalisation of a block.  Numbers as in DeepSpeed's NormType. */
typedef enum tern_norm { TERN_LAYER_NORM = 1, TERN_RMS_NORM = 3 } tern_norm;

/** Activation of a feed-forward.  Numbers as in DeepSpeed's ActivationFuncType.
 *  The gated ones take an up-projection of 2I columns, [up | gate], and give up * act(gate). */
typedef enum tern_activation { TERN_GELU = 1, TERN_RELU = 2, TERN_GATED_GELU = 3, TERN_GATED_SILU = 4 } tern_activation;

/** Which formula GELU is.
 *  tanh: 0.5 x (1 + tanh(0.7978845608028654 (x + 0.044715 x^3)));  erf: 0.5 x (1 + erf(x / sqrt 2));  sigmoid: x sigmoid(1.702 x).
 *  Unset means tanh in bias_gelu, mlp_gemm, gelu_gemm and modules, erf in gelu, matmul, moe_gemm and gated GELU. */
typedef enum tern_gelu_form {
    TERN_GELU_UNSET = 0,
    TERN_GELU_TANH = 1,
    TERN_GELU_ERF = 2,
    TERN_GELU_SIGMOID = 3
} tern_gelu_form;

/** Where an operator runs. */
typedef enum tern_device { TERN_CPU = 0 } tern_device;

/** Which implementation runs: the fastest for this machine, or the definition. */
typedef enum tern_kernel_choice { TERN_KERNEL_AUTO = 0, TERN_KERNEL_REFERENCE = 1 } tern_kernel_choice;

/** How activations enter a product with int8 weights: as they are, or as s8 with one scale for each row. */
typedef enum tern_activation_quant { TERN_QUANT_NONE = 0, TERN_QUANT_ROW = 1 } tern_activation_quant;

/** Fields, names and defaults of DeepSpeed-Inference's DeepSpeedInferenceConfig, then tern's own.  An operator checks the
 *  fields that it reads when it is created, and names a bad one.  Symbols: H hidden_size, h heads, E = H / h. */
typedef struct tern_config {
    int64_t hidden_size;       /**< H; -1: unset */
    int64_t intermediate_size; /**< I; <= 0: 4 H */
    int32_t heads;             /**< h, query heads; -1: unset */
    int32_t num_hidden_layers; /**< layers of a workspace's cache; -1: unset, 1 there */
    float layer_norm_eps;      /**< added to the variance; 1e-12 */
    int32_t local_rank;        /**< accepted, without effect; -1 */
    int32_t mp_size;           /**< ranks that share each matrix; 1 */
    tern_dtype dtype;          /**< fp16 */
    bool pre_layer_norm;       /**< norm before (true) or after each sub-block */
    tern_norm norm_type;       /**< LayerNorm */
    bool stochastic_mode;      /**< accepted, without effect */
    bool scale_attention;      /**< scores * 1/sqrt(E); true */
    bool triangular_masking;   /**< causal; true */
    bool local_attention;      /**< a query sees the last window_size keys only */
    int32_t window_size;       /**< keys, the query's own included; 256 */
    int32_t rotary_dim;        /**< leading channels of a head that turn, even, <= E; <= 0: none */
    bool rotate_half;          /**< pairs (p, p + rotary_dim/2) */
    int32_t
        rotate_every_two; /**< pairs (2p, 2p+1): 1 yes, 0 no, -1 (unset) the opposite of rotate_half; both 1 is an error */
    bool return_tuple;    /**< informative in C; true */
    bool mlp_after_attn;                  /**< sequential block (true) or parallel */
    tern_activation mlp_act_func_type;    /**< GELU */
    int32_t training_mp_size;             /**< accepted, without effect; 1 */
    bool bigscience_bloom;                /**< BLOOM's attention form; a workspace has no cache then */
    int32_t max_out_tokens;               /**< positions of a sequence in a workspace; 1024 */
    int32_t min_out_tokens;               /**< fewer in a workspace are an error; 1 */
    bool enable_qkv_quantization;         /**< accepted, without effect */
    bool use_mup;                         /**< 1/E instead of 1/sqrt(E) */
    bool scale_attn_by_inverse_layer_idx; /**< scores also divided by layer_id + 1 */
    bool return_single_tuple;             /**< informative in C */
    bool set_empty_params;                /**< modules: q, k, v and up, gate may be given apart */
    bool transposed_mode;                 /**< raw 2-D weights are [out, in] instead of [in, out] */
    bool use_triton;                      /**< accepted, without effect */
    bool triton_autotune;                 /**< with layer_id 0 it is tuned when it is created: tune.h */
    int32_t num_kv;                       /**< key/value heads, dividing h; < 0: as many as heads */
    float rope_theta;                     /**< base of the rotary wavelengths, > 1; 10000 */
    bool invert_mask;                     /**< bool and integer masks: what is not 0 is visible; false: hidden; true */
    int32_t layer_id;                     /**< index of the layer; -1: unset */

    tern_device device;                     /**< CPU */
    tern_kernel_choice kernel;              /**< auto */
    tern_gelu_form gelu;                    /**< unset */
    tern_dtype activation_dtype;            /**< what activations are stored in where dtype is int8; fp16 */
    tern_activation_quant activation_quant; /**< read where dtype is int8; none */
} tern_config;

/** A config with the defaults above. */
TERN_API tern_config tern_config_default(void);

/** Sets one field from a text, as "--set KEY=VALUE" does.
 *
 * @param key    a field's name; also `epsilon` for layer_norm_eps and `causal` for triangular_masking.
 * @param value  a whole number, a number, true or false, or a name: fp32, fp16, bf16, int8; LayerNorm, RMSNorm; GELU, ReLU,
 *               GATED_GELU, GATED_SILU; erf, tanh, sigmoid; auto, reference; none, row; cpu.
 * @return TERN_OK; TERN_ERR_ARG for a NULL; TERN_ERR_CONFIG for a key that there is none of, with the known ones, or a value
 *         that the field cannot have; TERN_ERR_UNSUPPORTED for a dtype, norm_type or device that is not there, with those that
 *         are.  On error the config is as it was. */
TERN_API tern_status tern_config_set(tern_ctx *ctx, tern_config *config, const char *key, const char *value);

/** Sets the fields that a JSON object names; the others stay.  Keys and values as for tern_config_set(), numbers and booleans
 *  as JSON writes them (4.0 is 4); null leaves a field as it is.  Not in a build with TERN_COMPONENTS=ops, which has no JSON.
 *
 * @param text   `size` bytes, borrowed for the call.
 * @param where  the text's name in messages.
 * @return TERN_OK; TERN_ERR_ARG; TERN_ERR_FORMAT for a text that is no JSON object; TERN_ERR_CONFIG for a key, type or value
 *         that cannot be, or one field under two names; TERN_ERR_UNSUPPORTED as there; TERN_ERR_MEMORY.  On error the config is as it was. */
TERN_API tern_status tern_config_parse(tern_ctx *ctx, const char *text, size_t size, const char *where,
                                       tern_config *config);

#ifdef __cplusplus
}
#endif
#endif
