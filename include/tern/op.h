/* op.h: the operators, by name and as typed functions.
 *
 * Shapes: T rows (all leading dimensions of an input taken together), H hidden size, h query heads, G key/value heads,
 * E head width, I feed-forward width.  A [B, S, H] tensor is T = B * S rows.  All arithmetic is fp32.
 *
 * Weights are [in, out] (or [out, in] raw, with config->transposed_mode), either raw (packed on the fly: correct, slower)
 * or a tern_weight_view() of a packed weight, whose shape is logical [in, out] in either mode.
 *
 * Inputs, outputs and residuals are A, the dtype of activations: config->dtype, or activation_dtype where that is int8.  Vectors
 * (bias, gamma, beta, slopes) are A or fp32.  Raw matrices are config->dtype, with fp32 also fp16 or bf16; int8 ones are packed, or
 * given by name with their scales (docs/operators.md, "What holds for all").  All of it is dense.
 *
 * Every function returns TERN_OK, TERN_ERR_ARG (a NULL that must not be, tensors that overlap), TERN_ERR_SHAPE (also strides
 * that are not dense), TERN_ERR_DTYPE, TERN_ERR_CONFIG, TERN_ERR_UNSUPPORTED, TERN_ERR_MEMORY (packing on the fly, scratch) or
 * TERN_ERR_THREAD; on error no output is touched.  The text names operator, tensor or field, found and expected.
 * A tensor parameter marked "or NULL" may be NULL, or tern_tensor_none().  Outputs may be the same tensor as an input where it
 * says "may be"; no output overlaps anything else. */
#ifndef TERN_OP_H
#define TERN_OP_H

#include <tern/config.h>
#include <tern/kv_cache.h>
#include <tern/moe.h>

#ifdef __cplusplus
extern "C" {
#endif

/** output = input W (+ bias).  input [.., K], weight [K, N], bias [N] or NULL, output [.., N].
 *  Accuracy: one chain of fused multiply-adds over K per element, then the bias.   Source: DeepSpeed LinearOp (0.16.5). */
TERN_API tern_status tern_linear(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                                 const tern_tensor *weight, const tern_tensor *bias, tern_tensor *output);

/** The same with q, k and v apart and their heads padded:  output[i, b, n, s, c] = (input W + bias)[b, s, (i h + n) E + c] for
 *  c < E, else 0.  By name: linear with do_flash_attn.
 *
 *  input [B, S, K], weight [K, 3 h E], bias [3 h E] or NULL, num_heads = h >= 1, output [3, B, h, S, E'],
 *  E' = tern_pad_head_size(E).  Also TERN_ERR_CONFIG for num_heads.   Source: DeepSpeed LinearOp with do_flash_attn. */
TERN_API tern_status tern_linear_heads(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                                       const tern_tensor *weight, const tern_tensor *bias, int32_t num_heads,
                                       tern_tensor *output);

/** output = input W.  Source: DeepSpeed VectorMatMulOp. */
TERN_API tern_status tern_vector_matmul(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                                        const tern_tensor *weight, tern_tensor *output);

/** norm = LayerNorm(input; gamma, beta, eps) or RMSNorm(input; gamma, eps), by config->norm_type;  output = norm W (+ bias).
 *  input [.., H], weight [H, N], bias [N] or NULL, gamma [H], beta [H] (NULL with RMSNorm; NULL with LayerNorm is 0),
 *  output [.., N], norm [.., H] or NULL (not wanted).   Source: DeepSpeed QKVGemmOp. */
TERN_API tern_status tern_qkv_gemm(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                                   const tern_tensor *weight, const tern_tensor *bias, const tern_tensor *gamma,
                                   const tern_tensor *beta, tern_tensor *output, tern_tensor *norm);

/** What attention reads besides its tensors and its config. */
typedef struct tern_attention_options {
    float scale;        /**< multiplier of q.k; NaN: the config's */
    float softcap;      /**< scaled scores become softcap tanh(s / softcap), before masks and slopes; 0: as they are */
    int32_t v_head_dim; /**< E', width of a value head, 1..512; 0: E */
    /** int32 or int64, one for each row, >= 0: what rotary turns q and k by (left-padded batches).  The places in the cache are
     *  those of the spans all the same.  NULL: those places. */
    const tern_tensor *position_ids;
} tern_attention_options;
/** Scale of the config, no softcap, E' = E, no position_ids. */
TERN_API tern_attention_options tern_attention_options_default(void);

/** Attention over a cache: rotary, append, scores, mask, softmax, context.
 *
 *   s[j] = scale q.k[j], then softcap, + slope j + mask[j]  for the visible j;   output = sum of softmax(s)[j] v[j]
 *
 * A, the dtype of activations, is that of qkv and output: config->dtype, activation_dtype where that is int8.
 * @param options NULL is the defaults.
 * @param qkv     [.., (h + G) E + G E']: q heads, k heads, v heads; with bigscience_bloom, where G = h, q, k and v of each head side
 *                by side.  With rotary_dim > 0, q and k are turned in place.
 * @param mask    over absolute positions 0..n-1 of a row's sequence, n >= the longest: [n], [T, n] or [1, n]; or, B being the number
 *                of spans and S the rows of each, whatever broadcasts to [B, h, S, n], axes from the right, each whole or 1; or
 *                [B, n], a row for each sequence, where B is neither S nor T.
 *                A or fp32: added to the scores, -infinity hiding a key.  bool or integers: what is not 0 is visible, and hidden
 *                where config->invert_mask is false.  NULL: no mask.
 * @param alibi   [h] slopes in A or fp32, added as slope * position; or NULL.
 * @param cache   made for this model, of width max(E, E'); `layer` of it is written and read.  The spans were reserved; they are
 *                committed by the caller after the last layer.  Spans that were not reserved are TERN_ERR_STATE.
 * @param spans   the rows' sequences, in order, covering all T rows, each sequence once.
 * @param output  [.., h E'].  May be NULL: only the cache is written.
 *
 * Scale 1/sqrt(E), 1/E with use_mup, / (layer_id + 1) with scale_attn_by_inverse_layer_idx, 1 without scale_attention; always
 * 1/sqrt(E) with bigscience_bloom.
 * Causal with triangular_masking, else every row sees all positions of its sequence, this batch included; the last
 * window_size keys with local_attention.  Hidden keys are left out altogether: what they hold does not matter.  A row that sees
 * nothing gives zeros.  heads and num_kv are those of all ranks; qkv holds this rank's h / mp_size and G / mp_size.
 *
 * Arithmetic is fp32.  k (turned) and v are rounded to A where they are stored.  Where A is bf16, q, turned, and the exponentials
 * that v is multiplied by are rounded to bf16 as well; the exponentials' sum is of the unrounded ones.
 * Accuracy: rotary angles are f64, rounded once as cosine and sine; docs/numerics.md has the rest.
 * Source: DeepSpeed SoftmaxContextOp, BloomSelfAttention; Su et al. 2021, arXiv:2104.09864 (rotary); Milakov & Gimelshein 2018,
 * arXiv:1805.02867 (running maximum). */
TERN_API tern_status tern_softmax_context(tern_ctx *ctx, const tern_config *config,
                                          const tern_attention_options *options, tern_tensor *qkv,
                                          const tern_tensor *mask, const tern_tensor *alibi, tern_kv_cache *cache,
                                          int32_t layer, const tern_kv_span *spans, size_t n_spans,
                                          tern_tensor *output);

/** What softmax reads besides its tensors. */
typedef struct tern_softmax_options {
    float layer_scale;    /**< scores are multiplied by it; 1 */
    bool triangular;      /**< row i of the last S rows sees columns j <= i + (T - S) */
    bool local_attention; /**< and only the last window_size of them */
    int32_t window_size;
    int32_t head_offset; /**< first head of this rank in alibi */
} tern_softmax_options;
/** Scale 1, no limit, window_size 256, head_offset 0. */
TERN_API tern_softmax_options tern_softmax_options_default(void);

/** output = softmax(layer_scale * scores + alibi + mask) over the last axis.
 *
 * @param options NULL is the defaults.
 * @param scores  [B, h, S, T] in A: config->dtype, activation_dtype where that is int8.
 * @param mask    axes from the right against scores, each whole or 1; or [B, T], a row for each sequence, where B is not S.  A or
 *                fp32: added, -infinity hiding a column.  bool or integers: what is not 0 is visible, and hidden where
 *                config->invert_mask is false.  NULL: no mask.
 * @param alibi   [h'] slopes in A or fp32, h' >= head_offset + h; or NULL.
 * @param output  like scores, may be scores.
 *
 * Hidden columns are left out altogether, and are 0; a row without a visible column gives zeros.  Arithmetic is fp32, rounded once.
 * Source: DeepSpeed SoftmaxOp, without its +1e-6 in the denominator. */
TERN_API tern_status tern_softmax(tern_ctx *ctx, const tern_config *config, const tern_softmax_options *options,
                                  const tern_tensor *scores, const tern_tensor *mask, const tern_tensor *alibi,
                                  tern_tensor *output);

/** z = norm(input + input_bias + residual);  output = act(z W1 + bias) W2;  residual_add gets z (LayerNorm) or the sum
 *  before the norm (RMSNorm).  Without mlp_after_attn and with LayerNorm: z = norm(residual), input unused (may be NULL).
 *  input, residual [.., H]; weight [H, pI], weight_out [I, H]; input_bias [H] or NULL; bias [pI] or NULL; gamma, beta [H];
 *  output [.., H]; residual_add [.., H] or NULL.  p = 2 for gated activations.   Source: DeepSpeed MLPGemmOp. */
TERN_API tern_status tern_mlp_gemm(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                                   const tern_tensor *residual, const tern_tensor *weight,
                                   const tern_tensor *weight_out, const tern_tensor *input_bias,
                                   const tern_tensor *bias, const tern_tensor *gamma, const tern_tensor *beta,
                                   tern_tensor *output, tern_tensor *residual_add);

/** output = gelu(input W1 + bias) W2.  Always GELU, in the form config->gelu (unset: tanh).   Source: DeepSpeed GELUGemmOp. */
TERN_API tern_status tern_gelu_gemm(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                                    const tern_tensor *weight, const tern_tensor *bias, const tern_tensor *weight_out,
                                    tern_tensor *output);

/** The end of a block: output from hidden x (MLP output), residual r, attention output a, biases b_a, b_f; mp = mp_size.
 *
 *   sequential, pre-LN:   x + (r + b_f + a + b_a) / mp
 *   sequential, post-LN:  x + (r' + b_f) / mp         r' = residual_add if given, else r
 *   parallel:             x + a + (r + b_f + b_a) / mp
 *
 * attention_output may be NULL where r already contains it (RMSNorm's residual_add); each bias may be NULL.  All [.., H];
 * output may be any input.   Source: DeepSpeed ResidualAddOp; docs/operators.md lists where it differs. */
TERN_API tern_status tern_residual_add(tern_ctx *ctx, const tern_config *config, const tern_tensor *hidden,
                                       const tern_tensor *residual, const tern_tensor *attention_output,
                                       const tern_tensor *residual_add, const tern_tensor *attention_bias,
                                       const tern_tensor *final_bias, tern_tensor *output);

/* --- by name ------------------------------------------------------------------------------------------------------ */

/** An operator chosen by name and config: one row of the table op x dtype x norm x device. */
typedef struct tern_op tern_op;

/** Looks an operator up and checks the config fields that it reads.
 *
 * @param name  one of tern_op_name(), which docs/operators.md describes.
 * @param out   the operator; NULL on error.  It holds a copy of the config.
 * @return TERN_OK; TERN_ERR_UNSUPPORTED: "unsupported transformer operation: NAME" and the known names, or a dtype, norm or
 *         device that is not there and those that are; TERN_ERR_CONFIG; TERN_ERR_MEMORY. */
TERN_API tern_status tern_op_create(tern_ctx *ctx, const char *name, const tern_config *config, tern_op **out);
/** Frees the operator and sets *op to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_op_destroy(tern_op **op);

/** Number of operators. */
TERN_API int tern_op_count(void);
/** Name of one, NULL outside of 0 .. tern_op_count() - 1.  Static storage. */
TERN_API const char *tern_op_name(int index);

/** Index of a name, -1 for one that there is none of.  Also knows second names ("fp16_matmul" is matmul). */
TERN_API int tern_op_find(const char *name);

/** One named tensor of a call.  Names are those of the parameters of the typed function. */
typedef struct tern_op_io {
    const char *name;
    tern_tensor *tensor;
} tern_op_io;

/** The operators' own parameters, those that are no field of a config.  Each operator reads those that `tern op NAME --help`
 *  and tern_op_key_at() list. */
typedef struct tern_op_params {
    tern_softmax_options
        softmax;      /**< softmax: layer_scale, triangular (also: causal), local_attention, window_size, head_offset */
    int32_t add_bias; /**< 1 yes, 0 no, -1 (unset): where a bias is given */
    bool do_flash_attn;      /**< linear: the result as [3, B, h, S, E'] */
    int32_t num_heads;       /**< h, where that is no config's; 0: unset */
    float scale;             /**< multiplier of q.k; NaN: unset, and then the config's, or 1 / sqrt(E) without one */
    float softcap;           /**< s = softcap tanh(s / softcap); 0: none */
    int32_t v_head_dim;      /**< width of value heads; 0: as the others */
    bool causal;             /**< functions without a config: a row sees what stands before it */
    const char *activation;  /**< name of an activation, "" for none; static storage */
    int32_t gate_layout;     /**< tern_gate_layout of gated_activation: halves, interleaved */
    float gamma;             /**< vector_add; 1 */
    int64_t head_size;       /**< width of a head, where that is no config's; 0: unset */
    int32_t k;               /**< top_k_gating: experts of each token; 1 */
    bool normalise;          /**< moe_gather: scores divided by their sum */
    int64_t offset;          /**< embedding: rows of the position table before position 0 */
    bool add_attn_bias;      /**< residual_add_bias: the parallel form adds attention_bias */
    bool pre_norm;           /**< residual_add_bias; true */
    int64_t batch;           /**< workspace: sequences at once; 1 */
    int64_t prompt_len;      /**< workspace: rows of a sequence in one step; 0: as many as it may have */
    int64_t memory;          /**< workspace: bytes that there are; 0: no limit */
    int32_t scheme;          /**< quantize, dequantize: tern_quant_scheme; checkpoint */
    int32_t bits;            /**< quantize, dequantize: 8 or 4; 8 */
    int64_t groups;          /**< quantize: groups of the tensor; 0: the scheme's default */
    int64_t group_size;      /**< quantize, dequantize, groupwise: elements of a run; 64 */
    int32_t group_dim;       /**< quantize, dequantize, groupwise: axis of the runs; 1 */
    bool mlp_extra_grouping; /**< quantize, checkpoint, and module mlp: twice the groups for a feed-forward's shapes */
    int64_t n_shards;        /**< dequantize: shards that were merged along the input axis; 1 */
    int64_t q_groups;        /**< module mlp: groups of a weight's scales; 1 */
    int32_t merge_count;     /**< module mlp: shards that were merged, a power of two; 1 */
} tern_op_params;
/** Every default. */
TERN_API tern_op_params tern_op_params_default(void);

/** What a call needs that is no tensor; only the fields that the operator reads count. */
typedef struct tern_op_call {
    const tern_op_params *params; /**< NULL is the defaults */
    tern_kv_cache *cache;         /**< softmax_context */
    int32_t layer;                /**< softmax_context */
    const tern_kv_span *spans;    /**< softmax_context */
    size_t n_spans;
} tern_op_call;

/** Runs an operator on named tensors.
 *
 * A raw int8 matrix NAME is laid out by transposed_mode like every other, and is packed for the call with the scales NAME_scale:
 * fp32 [G], G divides the output size, one for each N / G output channels in a row.
 * Where an input and an output share a name, the first tensor of that name is the input.
 * @param call  may be NULL where the operator reads none of it.
 * @return what the typed function returns; TERN_ERR_ARG for an unknown, repeated or missing name, with the known ones;
 *         TERN_ERR_DTYPE for a tensor whose dtype does not fit the config. */
TERN_API tern_status tern_op_run(tern_ctx *ctx, const tern_op *op, const tern_op_io *io, size_t n_io,
                                 const tern_op_call *call);

/* --- for tools: what an operator takes ------------------------------------------------------------------------------- */

/** Which dtypes a named tensor may have.  A is the dtype of activations: the config's, activation_dtype where that is int8. */
typedef enum tern_op_type {
    TERN_OP_ACTIVATION = 0, /**< A */
    TERN_OP_VECTOR,         /**< A or fp32 */
    TERN_OP_MATRIX, /**< a weight: A, or int8 with scales, or a tern_weight_view(); any of fp32, fp16, bf16 where dtype is fp32 */
    TERN_OP_SCALE, /**< fp32 scales of an int8 matrix */
    TERN_OP_MASK,  /**< A or fp32: added to scores; bool or integers: what is visible (see invert_mask) */
    TERN_OP_FP32,  /**< fp32 in every dtype */
    TERN_OP_INTS,  /**< int32 or int64; int32 where it is an output */
    TERN_OP_INT64,
    TERN_OP_BOOL,
    TERN_OP_ANY /**< as the formula says */
} tern_op_type;

/** One named tensor of an operator. */
typedef struct tern_op_tensor {
    const char *name;
    /** "[.., K]".  A letter is one size, the same wherever it stands; ".." any number of axes, T all of them together; "B|1" may be
     *  1 and is then repeated; "*" is any shape; a matrix is [in, out], stored [out, in] with transposed_mode. */
    const char *shape;
    tern_op_type type;
    bool optional; /**< may be left out */
    bool output;
    const char *also; /**< other names that a call may use, a space between two; or NULL */
} tern_op_tensor;

/** What an operator is. */
typedef struct tern_op_description {
    const char *name;
    const char *formula;
    const tern_op_tensor *tensors;
    size_t n_tensors;
} tern_op_description;

/** Describes an operator; all of it is static storage.  @return false for an index outside of 0 .. tern_op_count() - 1. */
TERN_API bool tern_op_describe(int index, tern_op_description *out);

/** The tensor of operator `index` that has this name, or this other name: its place in the description.  -1: none.  An input and
 *  an output may share a name; `output` says which is meant. */
TERN_API int tern_op_tensor_find(int index, const char *name, bool output);

/** A key that an operator reads: a field of the config, or a parameter of its own. */
typedef struct tern_op_key {
    const char *name;
    const char *about;
    char values[96];   /**< "true or false", "a whole number >= -1", "LayerNorm, RMSNorm" */
    char standard[32]; /**< the default; "unset" where it depends */
} tern_op_key;

/** The key number `key` (from 0) that an operator reads.  @return false where there is none.  Names are static storage. */
TERN_API bool tern_op_key_at(int index, int key, tern_op_key *out);

/** One cell of the table op x dtype x norm x device: what would run in this context.
 *
 * @param norm  0: for an operator without a norm.
 * @param text  the kernels, "layer_norm_f32_avx2, gemm_f32_avx2"; or why there are none.  Cut to `size` bytes.
 * @return whether anything runs there. */
TERN_API bool tern_op_cell(const tern_ctx *ctx, int index, tern_dtype dtype, int norm, tern_device device, char *text,
                           size_t size);

/** The modules, where tern_op_key_at(), tern_op_settings_set() and tern_op_settings_parse() take the index of an operator. */
typedef enum tern_op_module {
    TERN_MODULE_MLP = 1 << 20,
    TERN_MODULE_ATTENTION,
    TERN_MODULE_LAYER,
    TERN_MODULE_MOE
} tern_op_module;

/** All of a call that is no tensor, as texts can set it: the config, the operators' own parameters, a mixture's config. */
typedef struct tern_op_settings {
    tern_config config;
    tern_op_params params;
    tern_moe_config moe; /**< set with TERN_MODULE_MOE */
} tern_op_settings;
/** Every default. */
TERN_API tern_op_settings tern_op_settings_default(void);
/** tern_config_set() that knows the parameters of operator `index` too.  Where a name is both, it is the operator's. */
TERN_API tern_status tern_op_settings_set(tern_ctx *ctx, int index, tern_op_settings *settings, const char *key,
                                          const char *value);
/** tern_config_parse() that knows the parameters of operator `index` too.  Not in a build with TERN_COMPONENTS=ops. */
TERN_API tern_status tern_op_settings_parse(tern_ctx *ctx, int index, const char *text, size_t size, const char *where,
                                            tern_op_settings *settings);

/** Dtypes and shapes of outputs, from the inputs.
 *
 * @param params  NULL is the defaults.
 * @param io  tensors by name: inputs as for tern_op_run(), whose data are not looked at; each output that is named gets its
 *            dtype, shape and dense strides, and data NULL.
 * @return TERN_OK; TERN_ERR_ARG for a name (unknown, twice, missing) or an output that does not follow from what is given;
 *         TERN_ERR_SHAPE for inputs that do not fit.  On error no output is touched.  What tern_op_run() checks beyond shapes is
 *         checked there. */
TERN_API tern_status tern_op_infer(tern_ctx *ctx, const tern_op *op, const tern_op_params *params, const tern_op_io *io,
                                   size_t n_io);

#ifdef __cplusplus
}
#endif
#endif
