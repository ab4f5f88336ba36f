/* clip_text.c: the text tower of CLIP.
 *
 *   x = word[id] + position[t]                                                                      [T, H]
 *   each layer:  s = x + attention(N1 x);  x = s + MLP(N2 s)          causal; GELU by a sigmoid; biases everywhere
 *   r = LayerNorm(x);  pooled = r at the end of the text
 *
 *   CLIPTextModel                  r, and pooled
 *   CLIPTextModelWithProjection    r, and text_projection pooled
 *
 * The end of a text is the first token with eos_token_id, or the first of all without one; where eos_token_id is 2, as files had it
 * before it was put right, the first token of the highest id.  A whole CLIP is refused by its name.
 *
 * Sources: Radford et al. 2021 (arXiv:2103.00020); transformers 5.23, models/clip/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

#include <string.h>

static const struct tern_names names = {
    .embed = "embeddings.token_embedding",
    .positions = "embeddings.position_embedding",
    .final_norm = "final_layer_norm",
    .attn_norm = "encoder.layers.#.layer_norm1",
    .q = "encoder.layers.#.self_attn.q_proj",
    .k = "encoder.layers.#.self_attn.k_proj",
    .v = "encoder.layers.#.self_attn.v_proj",
    .out = "encoder.layers.#.self_attn.out_proj",
    .mlp_norm = "encoder.layers.#.layer_norm2",
    .up = "encoder.layers.#.mlp.fc1",
    .down = "encoder.layers.#.mlp.fc2",
};
static const char *const prefixes[] = { "text_model.", NULL };
static const char *const ignored[] = { "embeddings.position_ids", NULL };
static const char *const unused[] = { "text_projection.weight", NULL };
static const char *const architectures[] = { "CLIPTextModel", "CLIPTextModelWithProjection", NULL };

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t width;

    spec->names = &names;
    TERN_TRY(tern_config_decoder(ctx, json, 0, c));
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_eps", 1e-5, c));
    TERN_TRY(tern_config_activation_name(ctx, json, "hidden_act", "quick_gelu", c));
    TERN_REQUIRE(ctx, c->n_eos_ids == 1 || !tern_json_get(root, "eos_token_id"), TERN_ERR_UNSUPPORTED,
                 "%s: eos_token_id has %d ids, expected one, or no eos_token_id for 49407", tern_json_where(json),
                 c->n_eos_ids);
    spec->pool_eos = c->n_eos_ids == 0 ? 49407 : c->eos_ids[0] == 2 ? -1 : c->eos_ids[0];
    c->task = TERN_TASK_STATES;
    spec->qkv_bias = spec->out_bias = spec->up_bias = spec->down_bias = true;
    spec->position_rows = c->n_context;
    spec->head.pool = TERN_POOL_EOS;
    if (strcmp(c->architecture, "CLIPTextModelWithProjection") == 0) {
        TERN_TRY(tern_json_opt_int(ctx, json, root, "projection_dim", 1, 1 << 20, 512, &width));
        spec->head.dense = "text_projection";
        spec->head.dense_width = (int32_t)width;
    }
    return TERN_OK;
}

const struct tern_arch tern_arch_clip_text = TERN_TRANSFORMER("clip_text_model", architectures, parse_config);
