/* gptj.c: GPT-J.
 *
 *   x = wte[id]                                                       [T, H]
 *   each layer:  n = LayerNorm(x);  x += attention(n) + MLP(n)        causal, h heads of E = H / h; biases in the MLP alone
 *   logits = LayerNorm(x) lm_head + bias                              tied or not, the bias is there in any case
 *
 * The first rotary_dim channels of a head turn, neighbours with each other; theta is 10000.
 *
 * config.json: the names of GPT-2, or those that transformers maps to them; rotary_dim.  Sources: Wang and Komatsuzaki 2021, "GPT-J-6B";
 * transformers 5.23, models/gptj/ (eager attention). */
#include "model/model_config.h"
#include "model/transformer.h"

static const char *const architectures[] = { "GPTJForCausalLM", "GPTJModel", NULL };
static const char *const prefixes[] = { "transformer.", NULL };
static const char *const ignored[] = { "h.#.attn.bias", "h.#.attn.masked_bias", "h.#.attn.embed_positions", NULL };
static const char *const unused[] = { "score.weight", "qa_outputs.weight", "qa_outputs.bias", NULL };

static const struct tern_names names = {
    .embed = "wte",
    .final_norm = "ln_f",
    .head = "lm_head",
    .attn_norm = "h.#.ln_1",
    .q = "h.#.attn.q_proj",
    .k = "h.#.attn.k_proj",
    .v = "h.#.attn.v_proj",
    .out = "h.#.attn.out_proj",
    .up = "h.#.mlp.fc_in",
    .down = "h.#.mlp.fc_out",
};

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                                struct tern_spec *spec)
{
    const char *where = tern_json_where(json);
    const tern_json_value *root = tern_json_root(json), *given = tern_json_get(root, "rotary_dim");
    int64_t dim;

    spec->names = &names;
    TERN_TRY(tern_config_gpt(ctx, json, c));
    TERN_TRY(tern_config_tied(ctx, json, false, c));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "rotary_dim", 0, INT32_MAX, 64, &dim));
    /* The reference fails on null and 0, which would have it turn more channels than a head has. */
    TERN_REQUIRE(ctx, !given || tern_json_type(given) != TERN_JSON_NULL, TERN_ERR_UNSUPPORTED,
                 "%s: rotary_dim is null, expected the number of channels that turn", where);
    TERN_REQUIRE(ctx, dim > 0 && dim % 2 == 0 && dim <= c->head_dim && dim <= 2 * TERN_ROTARY_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: rotary_dim is %" PRId64 ", expected an even number up to %d, the channels of a head", where, dim,
                 c->head_dim < 2 * TERN_ROTARY_MAX ? c->head_dim : 2 * TERN_ROTARY_MAX);
    spec->rope = (struct tern_rope){
        .dim = (int32_t)dim, .neighbours = true, .theta = 10000, .factor = 1, .attention_factor = 1
    };
    tern_rope_prepare(&spec->rope);
    spec->form = TERN_BLOCK_PARALLEL;
    spec->up_bias = spec->down_bias = spec->head_bias = true;
    return TERN_OK;
}

const struct tern_arch tern_arch_gptj = TERN_TRANSFORMER("gptj", architectures, parse_config);
