/* megatron_gpt.c: GPT as Megatron-LM trains it: GPT-2 (gpt2.c) with other names, matrices [out, in], and q, k and v in an order that
 * depends on checkpoint_version.
 *
 *   checkpoint_version   rows of query_key_value
 *   0                    [3, h, E]     all q, all k, all v
 *   1.0                  [h, E, 3]     q, k, v of each channel
 *   2.0 and above        [h, 3, E]     q, k, v of each head
 *
 * Names, for whichever of them the files have:
 *   embedding.word_embeddings, embedding.position_embeddings; transformer.layers.# or encoder.layers.#; .final_layernorm
 *   word_embeddings, position_embeddings; transformer.layers.#
 *   a layer's attention is `attention` or `self_attention`; "language_model.", "model.language_model." or "module." may come before all
 *
 * config.json has the names of Megatron's arguments: hidden_size, num_layers, num_attention_heads, max_position_embeddings, padded_vocab_size
 * or vocab_size, ffn_hidden_size, layernorm_epsilon, or what transformers calls them; checkpoint_version is required.  activation_function
 * is by transformers' name, absent gelu_new.  The head is the embedding.
 *
 * Sources: Shoeybi et al. 2019 (arXiv:1909.08053); NVIDIA/Megatron-LM, megatron/checkpointing.py; DeepSpeed,
 * runtime/state_dict_factory.py.  transformers has no class for it: the goldens are GPT-2's, re-laid. */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "MegatronGPTModel", "MegatronGPT2Model", NULL };
static const char *const prefixes[] = { "model.language_model.", "language_model.", "module.", NULL };
static const char *const ignored[] = { NULL };
static const char *const unused[] = { NULL };

#define NAMES(embedding, layers, attention, others)                                                                \
    {                                                                                                              \
        .other = others, .embed = embedding "word_embeddings", .positions = embedding "position_embeddings",       \
        .final_norm = layers "final_layernorm", .head = "lm_head", .attn_norm = layers "layers.#.input_layernorm", \
        .qkv = layers "layers.#." attention ".query_key_value", .out = layers "layers.#." attention ".dense",      \
        .mlp_norm = layers "layers.#.post_attention_layernorm", .up = layers "layers.#.mlp.dense_h_to_4h",         \
        .down = layers "layers.#.mlp.dense_4h_to_h",                                                               \
    }
static const struct tern_names encoder = NAMES("embedding.", "encoder.", "self_attention", NULL),
                               later = NAMES("embedding.", "transformer.", "self_attention", &encoder),
                               flat = NAMES("", "transformer.", "attention", &later),
                               names = NAMES("embedding.", "transformer.", "attention", &flat);

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    const char *where = tern_json_where(json);
    double version;
    int64_t inner;

    spec->names = &names;
    if (tern_json_get(root, "padded_vocab_size"))
        TERN_TRY(tern_config_need_int(ctx, json, "padded_vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    else
        TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "max_position_embeddings", "n_positions", 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_size", "n_embd", 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "num_layers", "num_hidden_layers", 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "num_attention_heads", "n_head", 1, 1 << 20, &c->heads));
    c->kv_heads = c->heads;
    TERN_TRY(tern_config_heads(ctx, json, c));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "ffn_hidden_size", 1, 1 << 22, (int64_t)4 * c->hidden_size, &inner));
    c->intermediate_size = (int32_t)inner;
    TERN_TRY(tern_config_layer_norm(ctx, json, "layernorm_epsilon", 1e-5, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "activation_function", "gelu_new", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_REQUIRE(ctx, c->tied_embeddings, TERN_ERR_UNSUPPORTED, "%s: tie_word_embeddings is false, expected true",
                 where);
    TERN_REQUIRE(ctx, tern_json_get(root, "checkpoint_version"), TERN_ERR_FORMAT,
                 "%s: no checkpoint_version, expected 0, 1.0, 2.0 or 3.0: the order of query_key_value", where);
    TERN_TRY(tern_json_opt_number(ctx, json, root, "checkpoint_version", -1, &version));
    TERN_REQUIRE(ctx, version == 0 || version == 1 || version == 2 || version == 3, TERN_ERR_UNSUPPORTED,
                 "%s: checkpoint_version is %g, expected 0, 1.0, 2.0 or 3.0", where, version);
    spec->qkv_order = version == 0 ? TERN_QKV_JOINED : version == 1 ? TERN_QKV_BY_CHANNEL : TERN_QKV_BY_HEAD;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->position_rows = c->n_context;
    return TERN_OK;
}

const struct tern_arch tern_arch_megatron_gpt = TERN_TRANSFORMER("megatron_gpt", architectures, parse_config);
