/* opt.c: OPT.
 *
 *   x = embed_tokens[id] project_in + embed_positions[position + 2]                                      [T, H]
 *   each layer:  x += attention(LayerNorm(x));  x += fc2(act(fc1(LayerNorm(x))))                         do_layer_norm_before
 *                x = LayerNorm(attention(x) + x);  x = LayerNorm(fc2(act(fc1(x))) + x)                   else (350m)
 *   logits = LayerNorm(x) project_out embed_tokens^T                                                     tied or not
 *
 * Causal, h heads of E = H / h.  project_in and project_out are there where word_embed_proj_dim is not hidden_size.  The last LayerNorm is
 * not there with post-LN, nor with _remove_final_layer_norm.  Biases: all but those of norms, with enable_bias; without
 * layer_norm_elementwise_affine norms have no weights.  Their eps is 1e-5.
 *
 * Names begin with "model.decoder." or "decoder.".  Sources: Zhang et al. 2022 (arXiv:2205.01068); transformers 5.23, models/opt/ (eager
 * attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "OPTForCausalLM", "OPTModel", NULL };
static const char *const prefixes[] = { "model.decoder.", "decoder.", NULL };
static const char *const ignored[] = { NULL };
static const char *const unused[] = { "score.weight", "qa_outputs.weight", "qa_outputs.bias", NULL };

#define NAMES(first_norm, second_norm, last_norm)                                                                     \
    {                                                                                                                 \
        .embed = "embed_tokens", .project_in = "project_in", .positions = "embed_positions", .final_norm = last_norm, \
        .head = "lm_head", .attn_norm = first_norm, .q = "layers.#.self_attn.q_proj",                                 \
        .k = "layers.#.self_attn.k_proj", .v = "layers.#.self_attn.v_proj", .out = "layers.#.self_attn.out_proj",     \
        .mlp_norm = second_norm, .up = "layers.#.fc1", .down = "layers.#.fc2",                                        \
    }
static const struct tern_names pre = NAMES("layers.#.self_attn_layer_norm", "layers.#.final_layer_norm",
                                           "final_layer_norm"),
                               no_last = NAMES("layers.#.self_attn_layer_norm", "layers.#.final_layer_norm", NULL),
                               post = NAMES("layers.#.final_layer_norm", "layers.#.self_attn_layer_norm", NULL);

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    bool before, removed, bias, affine;
    int64_t width;

    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "max_position_embeddings", NULL, 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_size", NULL, 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "num_hidden_layers", NULL, 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "num_attention_heads", NULL, 1, 1 << 20, &c->heads));
    TERN_TRY(tern_config_need_int(ctx, json, "ffn_dim", NULL, 1, 1 << 22, &c->intermediate_size));
    c->kv_heads = c->heads;
    TERN_TRY(tern_config_heads(ctx, json, c));
    c->norm_type = TERN_LAYER_NORM;
    c->norm_eps = 1e-5F;
    TERN_TRY(tern_config_activation_name(ctx, json, "activation_function", "relu", c));
    TERN_TRY(tern_config_tied(ctx, json, true, c));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "do_layer_norm_before", true, &before));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "_remove_final_layer_norm", false, &removed));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "enable_bias", true, &bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "layer_norm_elementwise_affine", true, &affine));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "word_embed_proj_dim", 1, 1 << 20, c->hidden_size, &width));
    spec->names = !before ? &post : removed ? &no_last : &pre;
    spec->form = before ? TERN_BLOCK_PRE : TERN_BLOCK_POST;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = bias;
    spec->norm_plain = !affine;
    spec->position_rows = c->n_context + 2;
    spec->position_offset = 2;
    if (width != c->hidden_size) {
        spec->embed_width = (int32_t)width;
        spec->head.dense = "project_out";
        spec->head.dense_prefixed = true;
        spec->head.dense_width = (int32_t)width;
    }
    return TERN_OK;
}

const struct tern_arch tern_arch_opt = TERN_TRANSFORMER("opt", architectures, parse_config);
