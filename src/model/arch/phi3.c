/* phi3.c: Phi-3, and what has its shape: Phi-3.5-mini, Phi-4 and Phi-4-mini.
 *
 *   x = embed_tokens[id]                                                     [T, H]
 *   each layer:  x += o(attention(RMSNorm(x)));  x += down(silu(gate(RMSNorm(x))) up(..))
 *   logits = RMSNorm(x) lm_head                                              tied or not
 *
 * qkv_proj has all q heads, all k heads, all v heads; gate_up_proj the gate first.  No biases.  Of each head the first
 * partial_rotary_factor E channels turn.  The rotary embedding is plain, or longrope ("su" in older files), which has one list of
 * frequencies for texts of up to original_max_position_embeddings and another for longer ones.  sliding_window is for all layers.
 *
 * Sources: Abdin et al. 2024 (arXiv:2404.14219); Ding et al. 2024 (arXiv:2402.13753); transformers 5.23, models/phi3/ (eager
 * attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "Phi3ForCausalLM", "Phi3Model", NULL };
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { "layers.#.self_attn.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight", "score.bias", "classifier.weight", "classifier.bias", NULL };

static const struct tern_names names = {
    .embed = "embed_tokens",
    .final_norm = "norm",
    .head = "lm_head",
    .attn_norm = "layers.#.input_layernorm",
    .qkv = "layers.#.self_attn.qkv_proj",
    .out = "layers.#.self_attn.o_proj",
    .mlp_norm = "layers.#.post_attention_layernorm",
    .gate_up = "layers.#.mlp.gate_up_proj",
    .down = "layers.#.mlp.down_proj",
};

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t original;

    spec->names = &names;
    spec->qkv_order = TERN_QKV_JOINED;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_config_rms_eps(ctx, json, 1e-5, c));
    TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_act", "silu", c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    TERN_TRY(tern_config_rope(ctx, json, NULL, &(struct tern_rope_defaults){ .head_dim = c->head_dim, .theta = 10000 },
                              &spec->rope));
    /* What the others would be is not said: the reference takes "yarn" for longrope. */
    TERN_REQUIRE(ctx, spec->rope.type == TERN_ROPE_DEFAULT || spec->rope.type == TERN_ROPE_LONGROPE,
                 TERN_ERR_UNSUPPORTED, "%s: the rotary embedding of a %s model is neither default nor longrope",
                 tern_json_where(json), c->family);
    TERN_TRY(tern_json_opt_int(ctx, json, root, "original_max_position_embeddings", 1, 1 << 24, 0, &original));
    /* The reference has a number of its own where the file has none beside the lists. */
    TERN_REQUIRE(ctx, spec->rope.type == TERN_ROPE_DEFAULT || original > 0, TERN_ERR_FORMAT,
                 "%s: rope type longrope without original_max_position_embeddings, expected it beside rope_scaling",
                 tern_json_where(json));
    return tern_config_window(ctx, json, 0, TERN_WINDOW_ALL, c, spec);
}

const struct tern_arch tern_arch_phi3 = TERN_TRANSFORMER("phi3", architectures, parse_config);
