/* falcon.c: Falcon.
 *
 *   x = word_embeddings[id]                                                [T, H]
 *   each layer, by config.json:
 *     new_decoder_architecture     x += attention(ln_attn(x)) + MLP(ln_mlp(x))                40b; num_ln_in_parallel_attn 2, the default
 *                                  n = input_layernorm(x);  x += attention(n) + MLP(n)        11b; num_ln_in_parallel_attn 1
 *     else with parallel_attn      n = input_layernorm(x);  x += attention(n) + MLP(n)        7b
 *     else                         x += attention(input_layernorm(x));  x += MLP(post_attention_layernorm(x))      rw
 *   logits = LayerNorm(x) word_embeddings^T                                tied or not
 *
 * h query heads of E = H / h.  query_key_value has the query heads of a group, its key, its value, group by group: num_kv_heads groups with
 * new_decoder_architecture, one with multi_query, h without.  Biases: all or none, by `bias`.
 *
 * Heads turn whole, channel p with p + E / 2; or with alibi scores have a bias by the key's position j, which the reference computes in
 * bfloat16 and scales as scores are: bf16(bf16(slope) bf16(j)) / sqrt(E).  Its eager attention adds that bias twice, its default (sdpa)
 * once, as the models were trained: tern does the latter.
 *
 * Sources: Almazrouei et al. 2023 (arXiv:2311.16867); Press et al. 2021 (arXiv:2108.12409); transformers 5.23, models/falcon/. */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "FalconForCausalLM", "FalconModel", NULL };
static const char *const prefixes[] = { "transformer.", NULL };
static const char *const ignored[] = { "h.#.self_attention.rotary_emb.inv_freq", NULL };
static const char *const unused[] = { "score.weight",      "classifier.weight", "classifier.bias",
                                      "qa_outputs.weight", "qa_outputs.bias",   NULL };

#define NAMES(first_norm, second_norm)                                                                           \
    {                                                                                                            \
        .embed = "word_embeddings", .final_norm = "ln_f", .head = "lm_head", .attn_norm = first_norm,            \
        .qkv = "h.#.self_attention.query_key_value", .out = "h.#.self_attention.dense", .mlp_norm = second_norm, \
        .up = "h.#.mlp.dense_h_to_4h", .down = "h.#.mlp.dense_4h_to_h",                                          \
    }
static const struct tern_names one_norm = NAMES("h.#.input_layernorm", NULL),
                               two_norms = NAMES("h.#.ln_attn", "h.#.ln_mlp"),
                               sequential = NAMES("h.#.input_layernorm", "h.#.post_attention_layernorm");

/* Which of the four forms it is, and how many heads of k and v. */
static tern_status parse_form(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c, struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    const char *where = tern_json_where(json);
    bool grouped, shared, parallel;
    int64_t kv_heads, norms;

    TERN_TRY(tern_json_opt_bool(ctx, json, root, "new_decoder_architecture", false, &grouped));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "multi_query", true, &shared));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "parallel_attn", true, &parallel));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "num_kv_heads", 1, 1 << 20, c->heads, &kv_heads));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "num_ln_in_parallel_attn", 1, 2, grouped ? 2 : 1, &norms));
    /* What the reference fails on. */
    TERN_REQUIRE(ctx, !grouped || parallel, TERN_ERR_UNSUPPORTED,
                 "%s: new_decoder_architecture is true and parallel_attn is false, expected both to be true", where);
    TERN_REQUIRE(ctx, grouped || !parallel || norms == 1, TERN_ERR_UNSUPPORTED,
                 "%s: num_ln_in_parallel_attn is %" PRId64 " without new_decoder_architecture, expected 1", where,
                 norms);
    TERN_REQUIRE(ctx, grouped || shared || kv_heads == c->heads, TERN_ERR_UNSUPPORTED,
                 "%s: num_kv_heads is %" PRId64 " of %d heads with neither multi_query nor new_decoder_architecture, "
                 "expected as many as heads",
                 where, kv_heads, c->heads);
    c->kv_heads = grouped || !shared ? (int32_t)kv_heads : 1;
    spec->names = !parallel ? &sequential : norms == 2 ? &two_norms : &one_norm;
    spec->form = parallel ? TERN_BLOCK_PARALLEL : TERN_BLOCK_PRE;
    spec->qkv_order = TERN_QKV_BY_GROUP;
    return TERN_OK;
}

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    bool alibi, bias;
    int64_t context, inner;

    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_size", "n_embed", 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "num_hidden_layers", NULL, 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "num_attention_heads", NULL, 1, 1 << 20, &c->heads));
    TERN_TRY(parse_form(ctx, json, c, spec));
    TERN_TRY(tern_config_heads(ctx, json, c));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "max_position_embeddings", 1, 1 << 24, 2048, &context));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "ffn_hidden_size", 1, 1 << 22, (int64_t)4 * c->hidden_size, &inner));
    c->n_context = (int32_t)context;
    c->intermediate_size = (int32_t)inner;
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_epsilon", 1e-5, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "activation", "gelu", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "bias", false, &bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "alibi", false, &alibi));
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = bias;
    if (alibi) {
        spec->alibi = TERN_ALIBI_ROUNDED;
        return TERN_OK;
    }
    TERN_TRY(tern_config_rope(ctx, json, NULL, &(struct tern_rope_defaults){ .head_dim = c->head_dim, .theta = 10000 },
                              &spec->rope));
    TERN_REQUIRE(ctx, spec->rope.dim == c->head_dim, TERN_ERR_UNSUPPORTED,
                 "%s: %d of %d channels of a head turn, expected all of them", tern_json_where(json), spec->rope.dim,
                 c->head_dim);
    tern_config_stretch(&spec->rope, c);
    return TERN_OK;
}

const struct tern_arch tern_arch_falcon = TERN_TRANSFORMER("falcon", architectures, parse_config);
