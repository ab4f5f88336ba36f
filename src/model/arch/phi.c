/* phi.c: Phi (1, 1.5, 2).
 *
 *   x = embed_tokens[id]                                                [T, H]
 *   each layer:  n = LayerNorm(x);  x += attention(n) + MLP(n)          causal; biases everywhere
 *   logits = LayerNorm(x) lm_head + bias                                tied or not, the bias is there in any case
 *
 * h query heads of E = H / h share G of keys and values.  The first E partial_rotary_factor channels of a head turn (absent: half of
 * them), channel p with p + half of them; with qk_layernorm heads of q and k have a LayerNorm before it, one for all.
 *
 * Sources: Li et al. 2023 (arXiv:2309.05463); transformers 5.23, models/phi/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "PhiForCausalLM", "PhiModel", NULL };
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { "layers.#.self_attn.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight", "classifier.weight", "classifier.bias", NULL };

static const struct tern_names names = {
    .embed = "embed_tokens",
    .final_norm = "final_layernorm",
    .head = "lm_head",
    .attn_norm = "layers.#.input_layernorm",
    .q = "layers.#.self_attn.q_proj",
    .k = "layers.#.self_attn.k_proj",
    .v = "layers.#.self_attn.v_proj",
    .out = "layers.#.self_attn.dense",
    .q_norm = "layers.#.self_attn.q_layernorm",
    .k_norm = "layers.#.self_attn.k_layernorm",
    .up = "layers.#.mlp.fc1",
    .down = "layers.#.mlp.fc2",
};

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    struct tern_rope_defaults standard = { .theta = 10000, .partial = 0.5 };
    bool norms;

    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_eps", 1e-5, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "hidden_act", "gelu_new", c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    standard.head_dim = c->head_dim;
    TERN_TRY(tern_config_rope(ctx, json, NULL, &standard, &spec->rope));
    tern_config_stretch(&spec->rope, c);
    TERN_TRY(tern_json_opt_bool(ctx, json, tern_json_root(json), "qk_layernorm", false, &norms));
    spec->qk_norm = norms ? TERN_QK_NORM_SHARED : TERN_QK_NORM_NONE;
    spec->qk_norm_bias = norms;
    spec->form = TERN_BLOCK_PARALLEL;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = spec->head_bias = true;
    return TERN_OK;
}

const struct tern_arch tern_arch_phi = TERN_TRANSFORMER("phi", architectures, parse_config);
