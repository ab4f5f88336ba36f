/* gpt_neox.c: GPT-NeoX (also Pythia).
 *
 *   x = embed_in[id]                                                          [T, H]
 *   each layer:  x += attention(LayerNorm(x)) + MLP(LayerNorm'(x))            use_parallel_residual, the default
 *                x += attention(LayerNorm(x));  x += MLP(LayerNorm'(x))       else
 *   logits = LayerNorm(x) lm_head                                             tied or not
 *
 * Causal, h heads of E = H / h.  query_key_value has q, k, v of each head side by side.  The first E rotary_pct channels of a head turn,
 * channel p with p + half of them.  Biases: the MLP's always, attention's with attention_bias.
 *
 * config.json: rotary_pct and rotary_emb_base are the old spelling of partial_rotary_factor and rope_theta; where both are there they
 * agree.  The head is embed_out in older files, lm_head in newer ones.  Sources: Black et al. 2022 (arXiv:2204.06745); transformers 5.23,
 * models/gpt_neox/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "GPTNeoXForCausalLM", "GPTNeoXModel", NULL };
static const char *const prefixes[] = { "gpt_neox.", NULL };
static const char *const ignored[] = { "layers.#.attention.bias", "layers.#.attention.masked_bias",
                                       "layers.#.attention.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight",      "classifier.weight", "classifier.bias",
                                      "qa_outputs.weight", "qa_outputs.bias",   NULL };

static const struct tern_names names = {
    .embed = "embed_in",
    .final_norm = "final_layer_norm",
    .head = "lm_head",
    .old_head = "embed_out",
    .attn_norm = "layers.#.input_layernorm",
    .qkv = "layers.#.attention.query_key_value",
    .out = "layers.#.attention.dense",
    .mlp_norm = "layers.#.post_attention_layernorm",
    .up = "layers.#.mlp.dense_h_to_4h",
    .down = "layers.#.mlp.dense_4h_to_h",
};

/* Beside rope_parameters the reference reads the old spelling alone: the new one must say the same. */
static tern_status check_spellings(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *c,
                                   const struct tern_rope *rope)
{
    const char *where = tern_json_where(json);
    double theta, partial;

    TERN_TRY(tern_json_opt_number(ctx, json, tern_json_root(json), "rope_theta", rope->theta, &theta));
    TERN_REQUIRE(ctx, theta == rope->theta, TERN_ERR_FORMAT,
                 "%s: rope_theta is %g and rotary_emb_base or its default %g, expected one value for both", where,
                 theta, rope->theta);
    TERN_TRY(tern_json_opt_number(ctx, json, tern_json_root(json), "partial_rotary_factor", -1, &partial));
    TERN_REQUIRE(ctx, partial < 0 || (int32_t)(c->head_dim * partial) == rope->dim, TERN_ERR_FORMAT,
                 "%s: partial_rotary_factor is %g, by rotary_pct or its default %d of %d channels turn, expected one "
                 "value for both",
                 where, partial, rope->dim, c->head_dim);
    return TERN_OK;
}

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    struct tern_rope_defaults standard = {
        .theta = 10000, .partial = 0.25, .theta_key = "rotary_emb_base", .partial_key = "rotary_pct"
    };
    bool parallel, bias;

    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_eps", 1e-5, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "hidden_act", "gelu", c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    standard.head_dim = c->head_dim;
    TERN_TRY(tern_config_rope(ctx, json, NULL, &standard, &spec->rope));
    tern_config_stretch(&spec->rope, c);
    TERN_TRY(check_spellings(ctx, json, c, &spec->rope));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_parallel_residual", true, &parallel));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "attention_bias", true, &bias));
    spec->form = parallel ? TERN_BLOCK_PARALLEL : TERN_BLOCK_PRE;
    spec->qkv_order = TERN_QKV_BY_HEAD;
    spec->qkv_bias = spec->out_bias = bias;
    spec->up_bias = spec->down_bias = true;
    return TERN_OK;
}

const struct tern_arch tern_arch_gpt_neox = TERN_TRANSFORMER("gpt_neox", architectures, parse_config);
