/* mixtral.c: Mixtral, Qwen2-MoE and Qwen3-MoE: LLaMA's shape with experts (experts.h) in place of feed-forwards.
 *
 *   x = embed_tokens[id]                                                     [T, H]
 *   each layer:  x += o(attention(RMSNorm(x)));  x += F(RMSNorm(x))
 *   logits = RMSNorm(x) lm_head                                              tied or not
 *
 * Heads of E = head_dim channels (absent: H / h) turn whole, p with p + E / 2.  An expert is down(silu(gate(x)) up(x)).
 *
 *               experts in                weights of the k     biases             norm of q, k   window
 *   Mixtral     all layers                add up to 1                                            sliding_window: all layers
 *   Qwen2-MoE   decoder_sparse_step,      norm_topk_prob: 1    qkv_bias: q k v                   use_sliding_window: layer_types,
 *               not mlp_only_layers                                                              else even ones below max_window_layers
 *   Qwen3-MoE   the same                  the same             attention_bias:    RMSNorm, each  use_sliding_window: all layers
 *                                                              q k v o
 *
 * A Qwen2-MoE layer has an expert that every row goes to besides, times sigmoid(shared_expert_gate(x)).  Layers without experts have a
 * feed-forward of intermediate_size; experts are moe_intermediate_size wide, in Mixtral intermediate_size.
 *
 * Names: the experts of Qwen are gate_proj, up_proj and down_proj; Mixtral's w1 (gate), w3 (up) and w2 (down) below block_sparse_moe, or,
 * as the reference holds them, below mlp.  All in one they are gate_up_proj and down_proj: mixture.h.
 *
 * Sources: Jiang et al. 2024 (arXiv:2401.04088); Yang et al. 2024 (arXiv:2407.10671) and 2025 (arXiv:2505.09388); transformers 5.23,
 * models/{mixtral,qwen2_moe,qwen3_moe}/ (eager attention). */
#include "model/arch/llama_names.h"
#include "model/model_config.h"
#include "model/transformer.h"

#include "base/memory.h"

#define MIXTRAL_NAMES(block)                                                                            \
    .router = "layers.#." block ".gate", .expert_up = "layers.#." block ".experts.#.w3",                \
    .expert_gate = "layers.#." block ".experts.#.w1", .expert_down = "layers.#." block ".experts.#.w2", \
    .experts_gate_up = "layers.#." block ".experts.gate_up_proj",                                       \
    .experts_down = "layers.#." block ".experts.down_proj"

static const struct tern_names mixtral_other_names = { LLAMA_ATTENTION_NAMES, LLAMA_SECOND_NORM, MIXTRAL_NAMES("mlp") };
static const struct tern_names mixtral_names = { LLAMA_ATTENTION_NAMES, LLAMA_SECOND_NORM,
                                                 MIXTRAL_NAMES("block_sparse_moe"), .other = &mixtral_other_names };
static const struct tern_names qwen_names = {
    LLAMA_ATTENTION_NAMES,
    LLAMA_SECOND_NORM,
    LLAMA_HEAD_NORM_NAMES,
    LLAMA_MLP_NAMES,
    .router = "layers.#.mlp.gate",
    .expert_up = "layers.#.mlp.experts.#.up_proj",
    .expert_gate = "layers.#.mlp.experts.#.gate_proj",
    .expert_down = "layers.#.mlp.experts.#.down_proj",
    .experts_gate_up = "layers.#.mlp.experts.gate_up_proj",
    .experts_down = "layers.#.mlp.experts.down_proj",
    .shared_up = "layers.#.mlp.shared_expert.up_proj",
    .shared_gate = "layers.#.mlp.shared_expert.gate_proj",
    .shared_down = "layers.#.mlp.shared_expert.down_proj",
    .shared_weight = "layers.#.mlp.shared_expert_gate",
};
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { "layers.#.self_attn.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight", "score.bias", "qa_outputs.weight", "qa_outputs.bias", NULL };

static const char *const mixtral_architectures[] = { "MixtralForCausalLM", "MixtralModel", NULL };
static const char *const qwen2_moe_architectures[] = { "Qwen2MoeForCausalLM", "Qwen2MoeModel", NULL };
static const char *const qwen3_moe_architectures[] = { "Qwen3MoeForCausalLM", "Qwen3MoeModel", NULL };

/* What all of them have.  kv_heads: how many there are where the file does not say. */
static tern_status parse_common(tern_ctx *ctx, const struct tern_json *json, int32_t kv_heads, double eps, double theta,
                                tern_model_config *c, struct tern_spec *spec)
{
    struct tern_experts_spec *s = &spec->experts;

    TERN_TRY(tern_config_decoder(ctx, json, kv_heads, c));
    TERN_TRY(tern_config_rms_eps(ctx, json, eps, c));
    TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_act", "silu", c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    TERN_TRY(tern_config_rope(ctx, json, NULL, &(struct tern_rope_defaults){ .head_dim = c->head_dim, .theta = theta },
                              &spec->rope));
    tern_config_stretch(&spec->rope, c);
    TERN_TRY(tern_config_need_int(ctx, json, "num_experts", "num_local_experts", 1, 1 << 16, &s->n));
    TERN_TRY(tern_config_need_int(ctx, json, "num_experts_per_tok", NULL, 1, 1 << 16, &s->k));
    TERN_REQUIRE(ctx, s->k <= s->n, TERN_ERR_CONFIG, "%s: num_experts_per_tok is %d, expected at most the %d experts",
                 tern_json_where(json), s->k, s->n);
    return TERN_OK;
}

static tern_status parse_mixtral(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                 struct tern_spec *spec)
{
    spec->names = &mixtral_names;
    TERN_TRY(parse_common(ctx, json, 8, 1e-5, 1e6, c, spec));
    spec->experts.width = c->intermediate_size;
    spec->experts.normalize = true;
    return tern_config_window(ctx, json, 0, TERN_WINDOW_ALL, c, spec);
}

/* Layers without experts: those in mlp_only_layers, and those whose number, from 1 on, decoder_sparse_step does not divide. */
static tern_status parse_dense(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *c,
                               struct tern_experts_spec *s)
{
    const char *where = tern_json_where(json);
    const tern_json_value *root = tern_json_root(json), *only;
    int64_t step;
    bool any = false;

    TERN_TRY(tern_json_opt_int(ctx, json, root, "decoder_sparse_step", 1, INT32_MAX, 1, &step));
    TERN_TRY(tern_json_opt_value(ctx, json, root, "mlp_only_layers", TERN_JSON_ARRAY, &only));
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->n_layers, "the kinds of a model's layers", &s->dense));
    for (int32_t i = 0; i < c->n_layers; i++)
        s->dense[i] = (i + 1) % step != 0;
    for (size_t i = 0; i < tern_json_size(only); i++) {
        const tern_json_value *item = tern_json_at(only, i);
        TERN_REQUIRE(ctx, tern_json_type(item) == TERN_JSON_INT && tern_json_int(item) >= 0, TERN_ERR_FORMAT,
                     "%s: mlp_only_layers[%zu] is %s, expected the number of a layer", where, i,
                     tern_json_type_name(item));
        if (tern_json_int(item) < c->n_layers)
            s->dense[tern_json_int(item)] = 1;
    }
    for (int32_t i = 0; i < c->n_layers; i++)
        any = any || !s->dense[i];
    if (!any)
        s->n = 0;
    return TERN_OK;
}

static tern_status parse_qwen(tern_ctx *ctx, const struct tern_json *json, int32_t kv_heads, tern_model_config *c,
                              struct tern_spec *spec)
{
    struct tern_experts_spec *s = &spec->experts;

    spec->names = &qwen_names;
    TERN_TRY(parse_common(ctx, json, kv_heads, 1e-6, 10000, c, spec));
    TERN_TRY(tern_config_need_int(ctx, json, "moe_intermediate_size", NULL, 1, 1 << 22, &s->width));
    TERN_TRY(tern_json_opt_bool(ctx, json, tern_json_root(json), "norm_topk_prob", false, &s->normalize));
    return parse_dense(ctx, json, c, s);
}

static tern_status parse_qwen2_moe(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                   struct tern_spec *spec)
{
    TERN_TRY(parse_qwen(ctx, json, 16, c, spec));
    TERN_TRY(tern_config_need_int(ctx, json, "shared_expert_intermediate_size", NULL, 1, 1 << 22,
                                  &spec->experts.shared_width));
    TERN_TRY(tern_json_opt_bool(ctx, json, tern_json_root(json), "qkv_bias", true, &spec->qkv_bias));
    return tern_config_window(ctx, json, 4096, TERN_WINDOW_EARLY, c, spec);
}

static tern_status parse_qwen3_moe(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                   struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    bool bias, window;

    TERN_TRY(parse_qwen(ctx, json, 4, c, spec));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "attention_bias", false, &bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_sliding_window", false, &window));
    spec->qkv_bias = spec->out_bias = bias;
    spec->qk_norm = TERN_QK_NORM_SHARED;
    return window ? tern_config_window(ctx, json, 4096, TERN_WINDOW_ALL, c, spec) : TERN_OK;
}

const struct tern_arch tern_arch_mixtral = TERN_TRANSFORMER("mixtral", mixtral_architectures, parse_mixtral);
const struct tern_arch tern_arch_qwen2_moe = TERN_TRANSFORMER("qwen2_moe", qwen2_moe_architectures, parse_qwen2_moe);
const struct tern_arch tern_arch_qwen3_moe = TERN_TRANSFORMER("qwen3_moe", qwen3_moe_architectures, parse_qwen3_moe);
