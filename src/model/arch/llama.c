/* llama.c: LLaMA and its siblings Mistral, Qwen2 and Qwen3.
 *
 *   x = embed_tokens[id]                                                     [T, H]
 *   each layer:  x += o(attention(RMSNorm(x)));  x += down(silu(gate(RMSNorm(x))) up(..))
 *   logits = RMSNorm(x) lm_head                                              tied or not
 *
 * Heads of E = head_dim channels (absent: H / h, in Qwen3 128) turn whole, channel p with p + E / 2; h query heads share G of keys and values.
 *
 *               biases                          norm of q and k   window
 *   LLaMA       attention_bias: q k v o; mlp_bias: gate up down
 *   Mistral                                                       sliding_window, all layers
 *   Qwen2       q k v                                             use_sliding_window: layer_types, else from max_window_layers on
 *   Qwen3       attention_bias: q k v o         RMSNorm, each     the same
 *
 * pretraining_tp only says how the reference cuts its products.  Sources: Touvron et al. 2023 (arXiv:2302.13971); Jiang et al. 2023
 * (arXiv:2310.06825); transformers 5.23, models/{llama,mistral,qwen2,qwen3}/ (eager attention). */
#include "model/arch/llama_names.h"
#include "model/model_config.h"
#include "model/transformer.h"

#include <string.h>

static const struct tern_names names = { LLAMA_ATTENTION_NAMES, LLAMA_HEAD_NORM_NAMES, LLAMA_SECOND_NORM,
                                         LLAMA_MLP_NAMES };
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { "layers.#.self_attn.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight", "score.bias", "qa_outputs.weight", "qa_outputs.bias", NULL };

static const char *const llama_architectures[] = { "LlamaForCausalLM", "LlamaModel", NULL };
static const char *const mistral_architectures[] = { "MistralForCausalLM", "MistralModel", NULL };
static const char *const qwen2_architectures[] = { "Qwen2ForCausalLM", "Qwen2Model", NULL };
static const char *const qwen3_architectures[] = { "Qwen3ForCausalLM", "Qwen3Model", NULL };

/* What all of them have.  kv_heads: how many there are where the file does not say; 0: one for each query head. */
static tern_status parse_common(tern_ctx *ctx, const struct tern_json *json, int32_t kv_heads, tern_model_config *c,
                                struct tern_spec *spec)
{
    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, kv_heads, c));
    TERN_TRY(tern_config_rms_eps(ctx, json, 1e-6, c));
    TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_act", "silu", c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    TERN_TRY(tern_config_rope(ctx, json, NULL, &(struct tern_rope_defaults){ .head_dim = c->head_dim, .theta = 10000 },
                              &spec->rope));
    tern_config_stretch(&spec->rope, c);
    return TERN_OK;
}

static tern_status parse_llama(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                               struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    bool attention, mlp;

    c->n_context = 2048; /* the first files do not say */
    TERN_TRY(parse_common(ctx, json, 0, c, spec));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "attention_bias", false, &attention));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "mlp_bias", false, &mlp));
    spec->qkv_bias = spec->out_bias = attention;
    spec->up_bias = spec->down_bias = mlp;
    return TERN_OK;
}

static tern_status parse_mistral(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                 struct tern_spec *spec)
{
    TERN_TRY(parse_common(ctx, json, 8, c, spec));
    return tern_config_window(ctx, json, 4096, TERN_WINDOW_ALL, c, spec);
}

static tern_status parse_qwen2(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                               struct tern_spec *spec)
{
    TERN_TRY(parse_common(ctx, json, 32, c, spec));
    spec->qkv_bias = true;
    return tern_config_window(ctx, json, 4096, TERN_WINDOW_IF_USED, c, spec);
}

static tern_status parse_qwen3(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                               struct tern_spec *spec)
{
    bool bias;

    c->head_dim = 128;
    TERN_TRY(parse_common(ctx, json, 32, c, spec));
    TERN_TRY(tern_json_opt_bool(ctx, json, tern_json_root(json), "attention_bias", false, &bias));
    spec->qkv_bias = spec->out_bias = bias;
    spec->qk_norm = TERN_QK_NORM_SHARED;
    return tern_config_window(ctx, json, 4096, TERN_WINDOW_IF_USED, c, spec);
}

const struct tern_arch tern_arch_llama = TERN_TRANSFORMER("llama", llama_architectures, parse_llama);
const struct tern_arch tern_arch_mistral = TERN_TRANSFORMER("mistral", mistral_architectures, parse_mistral);
const struct tern_arch tern_arch_qwen2 = TERN_TRANSFORMER("qwen2", qwen2_architectures, parse_qwen2);
const struct tern_arch tern_arch_qwen3 = TERN_TRANSFORMER("qwen3", qwen3_architectures, parse_qwen3);
