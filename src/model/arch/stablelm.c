/* stablelm.c: StableLM.
 *
 *   x = embed_tokens[id]                                                                     [T, H]
 *   each layer:  x += o(attention(LayerNorm(x)));  x += MLP(LayerNorm'(x))                   MLP = down(silu(gate(..)) up(..))
 *                n = LayerNorm(x);  x += o(attention(n)) + MLP(n)                            with use_parallel_residual
 *   logits = LayerNorm(x) lm_head                                                            tied or not
 *
 * Causal, h query heads of E = H / h share G of keys and values.  The first E partial_rotary_factor channels of a head turn (absent: a
 * quarter), channel p with p + half of them; with qk_layernorm each head of q and k has a LayerNorm of its own before it, without beta.
 * Biases: those of q, k and v, with use_qkv_bias.
 *
 * Sources: Bellagente et al. 2024 (arXiv:2402.17834); transformers 5.23, models/stablelm/ (eager attention). */
#include "model/arch/llama_names.h"
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "StableLmForCausalLM", "StableLmModel", NULL };
static const char *const prefixes[] = { "model.", NULL };
static const char *const ignored[] = { "layers.#.self_attn.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight", "classifier.weight", "classifier.bias", NULL };

#define NAMES                                                                                 \
    LLAMA_ATTENTION_NAMES, LLAMA_MLP_NAMES, .q_norm = "layers.#.self_attn.q_layernorm.norms", \
                                            .k_norm = "layers.#.self_attn.k_layernorm.norms"
static const struct tern_names sequential = { NAMES, LLAMA_SECOND_NORM }, parallel = { NAMES };

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    struct tern_rope_defaults standard = { .theta = 10000, .partial = 0.25 };
    bool norms, both;

    TERN_TRY(tern_config_decoder(ctx, json, 32, c));
    TERN_REQUIRE(ctx, (int64_t)c->heads * c->head_dim == c->hidden_size, TERN_ERR_UNSUPPORTED,
                 "%s: %d heads of %d channels, expected hidden_size, %d, together", tern_json_where(json), c->heads,
                 c->head_dim, c->hidden_size);
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_eps", 1e-5, c));
    TERN_TRY(tern_config_gated_activation(ctx, json, "hidden_act", "silu", c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    standard.head_dim = c->head_dim;
    TERN_TRY(tern_config_rope(ctx, json, NULL, &standard, &spec->rope));
    tern_config_stretch(&spec->rope, c);
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_qkv_bias", false, &spec->qkv_bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "qk_layernorm", false, &norms));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_parallel_residual", false, &both));
    spec->names = both ? &parallel : &sequential;
    spec->form = both ? TERN_BLOCK_PARALLEL : TERN_BLOCK_PRE;
    spec->qk_norm = norms ? TERN_QK_NORM_EACH : TERN_QK_NORM_NONE;
    return TERN_OK;
}

const struct tern_arch tern_arch_stablelm = TERN_TRANSFORMER("stablelm", architectures, parse_config);
