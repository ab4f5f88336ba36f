/* internlm.c: InternLM 1 and 2.  Both are LLaMA (llama.c) with other names.
 *
 *               names       q, k, v                              biases                   rotary embedding
 *   InternLM    LLaMA's     in tensors of their own              `bias`: q k v o          rotary: { type, base, scaling_factor }
 *   InternLM2   its own     wqkv: the query heads of a group,    `bias`: wqkv, wo         rope_theta, rope_scaling: linear or dynamic
 *                           its key, its value, group by group
 *
 * rotary.type is "origin" (plain) or "dynamic", with scaling_factor 1 where it is absent; without `rotary` rope_theta and rope_scaling are
 * read.  The published code turns by how long a text has become so far, tern by how long it was planned to be.
 *
 * Sources: InternLM Team 2023; Cai et al. 2024 (arXiv:2403.17297); modeling_internlm.py and modeling_internlm2.py as published with
 * internlm-7b and internlm2-7b.  transformers has no class for them: the goldens are LLaMA's, re-laid. */
#include "model/arch/llama_names.h"
#include "model/model_config.h"
#include "model/transformer.h"

#include <string.h>

static const char *const internlm_architectures[] = { "InternLMForCausalLM", "InternLMModel", NULL };
static const char *const internlm2_architectures[] = { "InternLM2ForCausalLM", "InternLM2Model", NULL };
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { "layers.#.self_attn.rotary_emb.inv_freq",
                                       "layers.#.attention.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight", "v_head.weight", NULL };

static const struct tern_names names1 = { LLAMA_ATTENTION_NAMES, LLAMA_SECOND_NORM, LLAMA_MLP_NAMES };
static const struct tern_names names2 = {
    .embed = "tok_embeddings",
    .final_norm = "norm",
    .head = "output",
    .attn_norm = "layers.#.attention_norm",
    .qkv = "layers.#.attention.wqkv",
    .out = "layers.#.attention.wo",
    .mlp_norm = "layers.#.ffn_norm",
    .up = "layers.#.feed_forward.w3",
    .gate = "layers.#.feed_forward.w1",
    .down = "layers.#.feed_forward.w2",
};

static tern_status parse_common(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_config_rms_eps(ctx, json, 1e-6, c));
    TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_act", "silu", c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    TERN_TRY(tern_json_opt_bool(ctx, json, tern_json_root(json), "bias", true, &spec->qkv_bias));
    spec->out_bias = spec->qkv_bias;
    return TERN_OK;
}

static tern_status parse_rope(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c, struct tern_spec *spec)
{
    const struct tern_rope_defaults standard = { .head_dim = c->head_dim, .theta = 10000 };

    TERN_TRY(tern_config_rope(ctx, json, NULL, &standard, &spec->rope));
    TERN_REQUIRE(ctx,
                 spec->rope.dim == c->head_dim &&
                     (spec->rope.type == TERN_ROPE_DEFAULT || spec->rope.type == TERN_ROPE_LINEAR ||
                      spec->rope.type == TERN_ROPE_DYNAMIC),
                 TERN_ERR_UNSUPPORTED,
                 "%s: the rotary embedding is of another type than linear or dynamic, or of %d of %d channels, "
                 "expected one of these and all channels",
                 tern_json_where(json), spec->rope.dim, c->head_dim);
    tern_config_stretch(&spec->rope, c);
    return TERN_OK;
}

/* `rotary`, InternLM's own object. */
static tern_status parse_rotary(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *rotary,
                                tern_model_config *c, struct tern_spec *spec)
{
    static const char *const others[] = { "rope_theta", "rope_scaling", "rope_parameters" };
    const tern_json_value *root = tern_json_root(json);
    const char *where = tern_json_where(json), *type;
    struct tern_rope *rope = &spec->rope;

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        TERN_REQUIRE(ctx, !tern_json_get(root, others[i]), TERN_ERR_FORMAT, "%s: rotary and %s, expected one of them",
                     where, others[i]);
    TERN_TRY(tern_json_opt_string(ctx, json, rotary, "type", "dynamic", &type));
    const bool dynamic = strcmp(type, "dynamic") == 0;
    TERN_REQUIRE(ctx, dynamic || strcmp(type, "origin") == 0, TERN_ERR_UNSUPPORTED,
                 "%s: rotary.type is \"%s\", expected origin or dynamic", where, type);
    *rope = (struct tern_rope){ .type = dynamic ? TERN_ROPE_DYNAMIC : TERN_ROPE_DEFAULT,
                                .dim = c->head_dim,
                                .original = c->n_context,
                                .attention_factor = 1 };
    TERN_TRY(tern_json_opt_number(ctx, json, rotary, "base", 10000, &rope->theta));
    TERN_TRY(tern_json_opt_number(ctx, json, rotary, "scaling_factor", 1, &rope->factor));
    TERN_REQUIRE(ctx, rope->theta > 1 && rope->theta < 1e30 && rope->factor >= 1 && rope->factor < 1e6, TERN_ERR_CONFIG,
                 "%s: rotary.base is %g and rotary.scaling_factor %g, expected more than 1 and at least 1", where,
                 rope->theta, rope->factor);
    TERN_REQUIRE(ctx, rope->dim % 2 == 0 && rope->dim > 2 && rope->dim <= 2 * TERN_ROTARY_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: a head has %d channels, expected an even number from 4 to %d", where, rope->dim,
                 2 * TERN_ROTARY_MAX);
    tern_rope_prepare(rope);
    tern_config_stretch(rope, c);
    return TERN_OK;
}

static tern_status parse_internlm(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                  struct tern_spec *spec)
{
    const tern_json_value *rotary;

    spec->names = &names1;
    TERN_TRY(parse_common(ctx, json, c, spec));
    TERN_REQUIRE(ctx, c->kv_heads == c->heads, TERN_ERR_UNSUPPORTED,
                 "%s: num_key_value_heads is %d, expected as many as the %d heads", tern_json_where(json), c->kv_heads,
                 c->heads);
    TERN_TRY(tern_json_opt_value(ctx, json, tern_json_root(json), "rotary", TERN_JSON_OBJECT, &rotary));
    return rotary ? parse_rotary(ctx, json, rotary, c, spec) : parse_rope(ctx, json, c, spec);
}

static tern_status parse_internlm2(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                   struct tern_spec *spec)
{
    spec->names = &names2;
    TERN_TRY(parse_common(ctx, json, c, spec));
    spec->qkv_order = TERN_QKV_BY_GROUP;
    return parse_rope(ctx, json, c, spec);
}

const struct tern_arch tern_arch_internlm = TERN_TRANSFORMER("internlm", internlm_architectures, parse_internlm);
const struct tern_arch tern_arch_internlm2 = TERN_TRANSFORMER("internlm2", internlm2_architectures, parse_internlm2);
