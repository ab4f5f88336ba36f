/* bloom.c: BLOOM.
 *
 *   x = LayerNorm(word_embeddings[id])                                   no positions, [T, H]
 *   each layer:  x += attention(LayerNorm(x));  x += MLP(LayerNorm(x))   causal, h heads of E = H / h; GELU; biases everywhere
 *                with apply_residual_connection_post_layernorm what the norms made is added in place of x
 *   logits = LayerNorm(x) word_embeddings^T                              tied or not
 *
 * Scores have slope j added for the key at position j (ALiBi; the slopes of `heads` heads: transformer.c).  query_key_value has q, k, v of
 * each head side by side.  I = 4 H.
 *
 * config.json: n_layer, n_head, n_embed, or num_hidden_layers, num_attention_heads, hidden_size.  The model has no bound on positions:
 * seq_length says what it was trained with, absent 2048, and that is the context.  slow_but_exact with pretraining_tp above 1 drops
 * biases in the reference, and is refused.  Sources: Le Scao et al. 2022 (arXiv:2211.05100); Press et al. 2021 (arXiv:2108.12409);
 * transformers 5.23, models/bloom/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "BloomForCausalLM", "BloomModel", NULL };
static const char *const prefixes[] = { "transformer.", NULL };
static const char *const ignored[] = { NULL };
static const char *const unused[] = { "score.weight",      "classifier.weight", "classifier.bias",
                                      "qa_outputs.weight", "qa_outputs.bias",   NULL };

static const struct tern_names names = {
    .embed = "word_embeddings",
    .embed_norm = "word_embeddings_layernorm",
    .final_norm = "ln_f",
    .head = "lm_head",
    .attn_norm = "h.#.input_layernorm",
    .qkv = "h.#.self_attention.query_key_value",
    .out = "h.#.self_attention.dense",
    .mlp_norm = "h.#.post_attention_layernorm",
    .up = "h.#.mlp.dense_h_to_4h",
    .down = "h.#.mlp.dense_4h_to_h",
};

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t context, parts;
    bool slow;

    spec->names = &names;
    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_size", "n_embed", 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_layer", "num_hidden_layers", 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "n_head", "num_attention_heads", 1, 1 << 20, &c->heads));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "seq_length", 1, 1 << 24, 2048, &context));
    c->n_context = (int32_t)context;
    c->kv_heads = c->heads;
    TERN_TRY(tern_config_heads(ctx, json, c));
    c->intermediate_size = 4 * c->hidden_size;
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_epsilon", 1e-5, c));
    c->activation = TERN_GELU;
    c->gelu = TERN_GELU_TANH;
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(
        tern_json_opt_bool(ctx, json, root, "apply_residual_connection_post_layernorm", false, &spec->norm_residual));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "slow_but_exact", false, &slow));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "pretraining_tp", 1, INT32_MAX, 1, &parts));
    TERN_REQUIRE(ctx, !slow || parts == 1, TERN_ERR_UNSUPPORTED,
                 "%s: slow_but_exact is true and pretraining_tp is %" PRId64 ", tern supports one of them",
                 tern_json_where(json), parts);
    spec->qkv_order = TERN_QKV_BY_HEAD;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->alibi = TERN_ALIBI_SLOPES;
    return TERN_OK;
}

const struct tern_arch tern_arch_bloom = TERN_TRANSFORMER("bloom", architectures, parse_config);
