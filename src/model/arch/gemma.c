/* gemma.c: Gemma 1, 2 and the text models of Gemma 3.
 *
 *   x = embed_tokens[id] sqrt(H)                                                          [T, H]
 *   each layer   1        x += o(attention(N x));        x += F(N x)                      F = down(gelu(gate(..)) up(..))
 *                2 and 3  x += N o(attention(N x));      x += N F(N x)
 *   logits = N x lm_head                                                                  tied or not
 *   2 and 3: cap tanh(logits / cap), cap = final_logit_softcapping
 *
 * N is RMSNorm times 1 + weight.  Heads of E = head_dim channels (absent: 256) turn whole, p with p + E / 2; q, k, v and o have biases
 * with attention_bias.  The tanh form of GELU: "gelu" in hidden_act means it too, as the first files say it so.
 *
 *             scores                                                  layers that see sliding_window positions only
 *   Gemma 1   q k / sqrt(E)                                           none
 *   Gemma 2   c tanh(q k / sqrt(query_pre_attn_scalar) / c),          those of layer_types, else every other from the first on
 *             c = attn_logit_softcapping
 *   Gemma 3   N q N k / sqrt(query_pre_attn_scalar), N of each head   those of layer_types, else all but each
 *                                                                     sliding_window_pattern-th; they turn by rope_local_base_freq
 *
 * The scale of the embedding is that of float32 in every dtype: the reference rounds it to the dtype that it runs in.
 *
 * Sources: Gemma Team 2024 (arXiv:2403.08295, arXiv:2408.00118) and 2025 (arXiv:2503.19786); transformers 5.23,
 * models/{gemma,gemma2,gemma3}/ (eager attention; with it Gemma 3 has no attn_logit_softcapping). */
#include "model/arch/llama_names.h"
#include "model/model_config.h"
#include "model/transformer.h"

#include <math.h>
#include <string.h>

#define GEMMA_NAMES LLAMA_ATTENTION_NAMES, LLAMA_MLP_NAMES

static const struct tern_names gemma_names = { GEMMA_NAMES, LLAMA_SECOND_NORM };
static const struct tern_names gemma2_names = {
    GEMMA_NAMES,
    .attn_end = "layers.#.post_attention_layernorm",
    .mlp_norm = "layers.#.pre_feedforward_layernorm",
    .mlp_end = "layers.#.post_feedforward_layernorm",
};
static const struct tern_names gemma3_names = {
    GEMMA_NAMES,
    .attn_end = "layers.#.post_attention_layernorm",
    .mlp_norm = "layers.#.pre_feedforward_layernorm",
    .mlp_end = "layers.#.post_feedforward_layernorm",
    LLAMA_HEAD_NORM_NAMES,
};
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { "layers.#.self_attn.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight", "score.bias", NULL };

static const char *const gemma_architectures[] = { "GemmaForCausalLM", "GemmaModel", NULL };
static const char *const gemma2_architectures[] = { "Gemma2ForCausalLM", "Gemma2Model", NULL };
static const char *const gemma3_architectures[] = { "Gemma3ForCausalLM", "Gemma3TextModel", NULL };

/* hidden_act and hidden_activation: files have the one, the other or both; versions of the reference differ in which counts. */
static tern_status parse_activation(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c)
{
    const tern_json_value *root = tern_json_root(json);
    const char *act, *activation;

    c->activation = TERN_GATED_GELU;
    c->gelu = TERN_GELU_TANH;
    TERN_TRY(tern_json_opt_string(ctx, json, root, "hidden_act", NULL, &act));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "hidden_activation", NULL, &activation));
    if (act && strcmp(act, "gelu") != 0)
        TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_act", NULL, c));
    if (!activation)
        return TERN_OK;
    tern_model_config other = *c;
    TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_activation", NULL, &other));
    TERN_REQUIRE(ctx, !act || (c->activation == other.activation && c->gelu == other.gelu), TERN_ERR_FORMAT,
                 "%s: hidden_act is \"%s\" and hidden_activation is \"%s\", expected one function",
                 tern_json_where(json), act, activation);
    c->activation = other.activation;
    c->gelu = other.gelu;
    return TERN_OK;
}

/* What all of them have.  kv_heads: how many there are where the file does not say. */
static tern_status parse_common(tern_ctx *ctx, const struct tern_json *json, int32_t kv_heads, tern_model_config *c,
                                struct tern_spec *spec)
{
    bool bias;

    c->head_dim = 256;
    TERN_TRY(tern_config_decoder(ctx, json, kv_heads, c));
    TERN_TRY(tern_config_rms_eps(ctx, json, 1e-6, c));
    TERN_TRY(parse_activation(ctx, json, c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(tern_config_refuse(ctx, json, "use_bidirectional_attention"));
    TERN_TRY(tern_json_opt_bool(ctx, json, tern_json_root(json), "attention_bias", false, &bias));
    spec->qkv_bias = spec->out_bias = bias;
    spec->norm_offset = 1;
    spec->embed_scale = (float)sqrt((double)c->hidden_size);
    return TERN_OK;
}

static tern_status parse_gemma(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                               struct tern_spec *spec)
{
    spec->names = &gemma_names;
    TERN_TRY(parse_common(ctx, json, 16, c, spec));
    TERN_TRY(tern_config_rope(ctx, json, NULL, &(struct tern_rope_defaults){ .head_dim = c->head_dim, .theta = 10000 },
                              &spec->rope));
    tern_config_stretch(&spec->rope, c);
    return TERN_OK;
}

/* A cap of tanh: 0 where it is null. */
static tern_status parse_cap(tern_ctx *ctx, const struct tern_json *json, const char *key, double standard, float *cap)
{
    const tern_json_value *root = tern_json_root(json), *given = tern_json_get(root, key);
    double value;

    *cap = 0;
    if (given && tern_json_type(given) == TERN_JSON_NULL)
        return TERN_OK;
    TERN_TRY(tern_json_opt_number(ctx, json, root, key, standard, &value));
    TERN_REQUIRE(ctx, (value >= 1e-6 && value <= 1e6) || !given, TERN_ERR_CONFIG,
                 "%s: %s is %g, expected a number from 1e-6 to 1e6, or null", tern_json_where(json), key, value);
    *cap = (float)value;
    return TERN_OK;
}

/* What Gemma 2 and 3 share beside it. */
static tern_status parse_later(tern_ctx *ctx, const struct tern_json *json, double logit_cap, tern_model_config *c,
                               struct tern_spec *spec)
{
    const char *where = tern_json_where(json);
    const tern_json_value *root = tern_json_root(json), *window = tern_json_get(root, "sliding_window");
    double scalar;

    TERN_REQUIRE(ctx, !window || tern_json_type(window) != TERN_JSON_NULL, TERN_ERR_UNSUPPORTED,
                 "%s: sliding_window is null, expected a number of positions", where);
    TERN_TRY(parse_common(ctx, json, 4, c, spec));
    TERN_TRY(tern_json_opt_number(ctx, json, root, "query_pre_attn_scalar", 256, &scalar));
    TERN_REQUIRE(ctx, scalar >= 1e-6 && scalar <= 1e12, TERN_ERR_CONFIG,
                 "%s: query_pre_attn_scalar is %g, expected a number from 1e-6 to 1e12", where, scalar);
    spec->scale = (float)(1 / sqrt(scalar));
    return parse_cap(ctx, json, "final_logit_softcapping", logit_cap, &spec->logit_cap);
}

static tern_status parse_gemma2(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    spec->names = &gemma2_names;
    TERN_TRY(parse_later(ctx, json, 30, c, spec));
    TERN_TRY(parse_cap(ctx, json, "attn_logit_softcapping", 50, &spec->softcap));
    TERN_TRY(tern_config_rope(ctx, json, NULL, &(struct tern_rope_defaults){ .head_dim = c->head_dim, .theta = 10000 },
                              &spec->rope));
    tern_config_stretch(&spec->rope, c);
    return tern_config_window(ctx, json, 4096, TERN_WINDOW_EVERY_OTHER, c, spec);
}

static tern_status parse_gemma3(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const struct tern_rope_defaults global = { .theta = 1e6 },
                                    local = { .theta = 10000, .theta_key = "rope_local_base_freq", .unscaled = true };
    struct tern_rope_defaults standard;
    float cap;

    spec->names = &gemma3_names;
    spec->qk_norm = TERN_QK_NORM_SHARED;
    TERN_TRY(parse_later(ctx, json, 0, c, spec));
    /* The reference keeps this one and never computes with it. */
    TERN_TRY(parse_cap(ctx, json, "attn_logit_softcapping", 0, &cap));
    TERN_REQUIRE(ctx, cap == 0, TERN_ERR_UNSUPPORTED, "%s: attn_logit_softcapping is %g, expected null in a %s model",
                 tern_json_where(json), (double)cap, c->family);
    TERN_TRY(tern_config_window(ctx, json, 4096, TERN_WINDOW_PATTERN, c, spec));
    standard = global;
    standard.head_dim = c->head_dim;
    TERN_TRY(tern_config_rope(ctx, json, "full_attention", &standard, &spec->rope));
    standard = local;
    standard.head_dim = c->head_dim;
    TERN_TRY(tern_config_rope(ctx, json, "sliding_attention", &standard, &spec->local_rope));
    tern_config_stretch(&spec->rope, c);
    return TERN_OK;
}

const struct tern_arch tern_arch_gemma = TERN_TRANSFORMER("gemma", gemma_architectures, parse_gemma);
const struct tern_arch tern_arch_gemma2 = TERN_TRANSFORMER("gemma2", gemma2_architectures, parse_gemma2);
const struct tern_arch tern_arch_gemma3 = TERN_TRANSFORMER("gemma3_text", gemma3_architectures, parse_gemma3);
