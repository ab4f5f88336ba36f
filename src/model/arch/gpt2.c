/* gpt2.c: GPT-2.
 *
 *   x = wte[id] + wpe[position]                                          learned positions, [T, H]
 *   each layer:  x += attention(LayerNorm(x));  x += MLP(LayerNorm(x))   causal, h heads of E = H / h; GELU; biases everywhere
 *   logits = LayerNorm(x) wte^T                                          tied with the embedding
 *
 * Matrices are Conv1D: stored [in, out].  c_attn is q, k, v side by side, each with its heads in order.
 * Names begin with "transformer." (GPT2LMHeadModel) or not (GPT2Model, and OpenAI's own files); both are read for either.
 *
 * config.json: vocab_size, n_positions, n_embd, n_layer, n_head (or the names that transformers maps to them), n_inner,
 * activation_function, layer_norm_epsilon, scale_attn_weights, scale_attn_by_inverse_layer_idx, tie_word_embeddings,
 * add_cross_attention.  reorder_and_upcast_attn only moves a scale and a cast: where scores are fp32 it changes nothing.  Absent keys
 * other than the sizes and n_head have the reference's defaults.  Token ids beyond the vocabulary in bos_token_id and
 * eos_token_id are taken as they are: such a token never comes.
 *
 * Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; transformers 5.23,
 * models/gpt2/modeling_gpt2.py and configuration_gpt2.py (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "GPT2LMHeadModel", "GPT2Model", NULL };
static const char *const prefixes[] = { "transformer.", NULL };
static const char *const ignored[] = { "h.#.attn.bias", "h.#.attn.masked_bias", NULL };
static const char *const unused[] = { "score.weight",
                                      "classifier.weight",
                                      "classifier.bias",
                                      "qa_outputs.weight",
                                      "qa_outputs.bias",
                                      "multiple_choice_head.summary.weight",
                                      "multiple_choice_head.summary.bias",
                                      NULL };

static const struct tern_names names = {
    .embed = "wte",
    .positions = "wpe",
    .final_norm = "ln_f",
    .head = "lm_head",
    .attn_norm = "h.#.ln_1",
    .qkv = "h.#.attn.c_attn",
    .out = "h.#.attn.c_proj",
    .mlp_norm = "h.#.ln_2",
    .up = "h.#.mlp.c_fc",
    .down = "h.#.mlp.c_proj",
};

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json), *pruned;
    const char *where = tern_json_where(json);
    bool upcast;

    TERN_TRY(tern_config_gpt(ctx, json, c));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "scale_attn_weights", true, &c->scale_attention));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "scale_attn_by_inverse_layer_idx", false, &c->scale_by_inverse_layer));
    /* An operator without scale_attention has no scale at all, so this pair cannot be said to it. */
    TERN_REQUIRE(
        ctx, c->scale_attention || !c->scale_by_inverse_layer, TERN_ERR_UNSUPPORTED,
        "%s: scale_attn_by_inverse_layer_idx is true and scale_attn_weights is false, tern supports the former "
        "where both are true",
        where);
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "reorder_and_upcast_attn", false, &upcast));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "tie_word_embeddings", true, &c->tied_embeddings));
    TERN_TRY(tern_config_refuse(ctx, json, "add_cross_attention"));
    TERN_TRY(tern_json_opt_value(ctx, json, root, "pruned_heads", TERN_JSON_OBJECT, &pruned));
    TERN_REQUIRE(ctx, tern_json_size(pruned) == 0, TERN_ERR_UNSUPPORTED,
                 "%s: pruned_heads names %zu layers, tern supports none", where, tern_json_size(pruned));
    spec->names = &names;
    spec->stored_in_out = true;
    spec->qkv_order = TERN_QKV_JOINED;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->position_rows = c->n_context;
    return TERN_OK;
}

const struct tern_arch tern_arch_gpt2 = TERN_TRANSFORMER("gpt2", architectures, parse_config);
