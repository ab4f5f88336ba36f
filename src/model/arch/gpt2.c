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
#include "base/memory.h"
#include "model/arch.h"
#include "model/model_config.h"

#include <math.h>
#include <string.h>

struct gpt2_layer {
    tern_weight *qkv;      /* [H, 3H] */
    tern_weight *attn_out; /* [H, H] */
    tern_weight *fc;       /* [H, I] */
    tern_weight *proj;     /* [I, H] */
    tern_layer *layer;     /* all of the above and the vectors, put together */

    /* Until the layer has its own copies. */
    float *ln_1_w, *ln_1_b, *qkv_b, *attn_out_b, *ln_2_w, *ln_2_b, *fc_b, *proj_b;
};

struct gpt2 {
    tern_weight *embed; /* [H, V]: wte, packed for the head; the embedding reads its columns */
    tern_weight *head;  /* [H, V] if it is not tied, else NULL */
    float *positions;   /* [n_positions, H] */
    float *ln_f_w, *ln_f_b;
    int32_t n_layers;
    struct gpt2_layer *layers;
};

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

/* ---- config ---- */

static tern_status parse_config(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c)
{
    const tern_json_value *root = tern_json_root(json), *pruned;
    const char *where = tern_json_where(json);
    bool upcast;
    int64_t inner;
    double eps;

    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_positions", "max_position_embeddings", 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "n_embd", "hidden_size", 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_layer", "num_hidden_layers", 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "n_head", "num_attention_heads", 1, 1 << 20, &c->heads));
    TERN_REQUIRE(ctx, c->hidden_size % c->heads == 0, TERN_ERR_CONFIG,
                 "%s: n_embd is %d, expected a multiple of n_head, %d", where, c->hidden_size, c->heads);
    c->kv_heads = c->heads;
    c->head_dim = c->hidden_size / c->heads;
    TERN_REQUIRE(ctx, c->head_dim <= 512, TERN_ERR_UNSUPPORTED,
                 "%s: n_embd / n_head is %d, tern supports heads of up to 512", where, c->head_dim);
    TERN_TRY(tern_json_opt_int(ctx, json, root, "n_inner", 1, 1 << 22, (int64_t)4 * c->hidden_size, &inner));
    c->intermediate_size = (int32_t)inner;

    TERN_TRY(tern_json_opt_number(ctx, json, root, "layer_norm_epsilon", 1e-5, &eps));
    TERN_REQUIRE(ctx, eps > 0 && eps <= 1, TERN_ERR_CONFIG,
                 "%s: layer_norm_epsilon is %g, expected above 0 and at most 1", where, eps);
    c->norm_eps = (float)eps;
    c->norm_type = TERN_LAYER_NORM;
    TERN_TRY(tern_config_activation_name(ctx, json, "activation_function", "gelu_new", c));

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
    return TERN_OK;
}

/* ---- bind ---- */

static void free_vectors(struct gpt2_layer *l)
{
    float **vectors[] = { &l->ln_1_w, &l->ln_1_b, &l->qkv_b, &l->attn_out_b,
                          &l->ln_2_w, &l->ln_2_b, &l->fc_b,  &l->proj_b };

    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        tern_free(*vectors[i]);
        *vectors[i] = NULL;
    }
}

static void destroy(void *weights)
{
    struct gpt2 *g = weights;

    if (!g)
        return;
    for (int32_t i = 0; g->layers && i < g->n_layers; i++) {
        struct gpt2_layer *l = &g->layers[i];
        tern_layer_destroy(&l->layer);
        tern_weight_destroy(&l->qkv);
        tern_weight_destroy(&l->attn_out);
        tern_weight_destroy(&l->fc);
        tern_weight_destroy(&l->proj);
        free_vectors(l);
    }
    tern_free(g->layers);
    tern_weight_destroy(&g->embed);
    tern_weight_destroy(&g->head);
    tern_free(g->positions);
    tern_free(g->ln_f_w);
    tern_free(g->ln_f_b);
    tern_free(g);
}

static bool same_tensor(const struct tern_file_tensor *a, const struct tern_file_tensor *b)
{
    return a->dtype == b->dtype && a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* The embedding and the head.  A tied checkpoint has either name, or both with the same values; with different ones versions
 * of the reference disagree on which it is, so such a file is refused. */
static tern_status bind_embedding(struct tern_binder *b, struct gpt2 *g, const tern_model_config *c)
{
    static const char head_name[] = "lm_head.weight";
    struct tern_file_tensor *wte = tern_binder_find(b, "wte.weight"),
                            *head = tern_safetensors_find(b->files, head_name);
    const char *prefix = b->prefix;
    const int64_t H = c->hidden_size, V = c->vocab_size;

    if (wte || !c->tied_embeddings || !head)
        TERN_TRY(tern_binder_matrix(b, &g->embed, true, H, V, "wte.weight"));
    if (!head && c->tied_embeddings)
        return TERN_OK;
    if (c->tied_embeddings && wte) {
        char found[TERN_FILE_SHAPE_TEXT], expected[TERN_FILE_SHAPE_TEXT];
        TERN_REQUIRE(b->ctx, head->rank == 2 && head->dim[0] == V && head->dim[1] == H, TERN_ERR_SHAPE,
                     "%s: tensor \"%s\": shape is %s, expected %s, that of \"%s\"",
                     tern_safetensors_path(b->files, head), head_name,
                     tern_file_shape_text(found, head->rank, head->dim),
                     tern_file_shape_text(expected, wte->rank, wte->dim), wte->name);
        TERN_REQUIRE(b->ctx, same_tensor(wte, head), TERN_ERR_FORMAT,
                     "%s: tensor \"%s\" differs from \"%s\", expected the same values as tie_word_embeddings is true",
                     tern_safetensors_path(b->files, head), head_name, wte->name);
        tern_safetensors_drop(b->files, wte);
        tern_safetensors_drop(b->files, head);
        return tern_binder_skip(b, head);
    }
    b->prefix = "";
    const tern_status status =
        tern_binder_matrix(b, c->tied_embeddings ? &g->embed : &g->head, true, H, V, "%s", head_name);
    b->prefix = prefix;
    return status;
}

static tern_status bind_layer(struct tern_binder *b, struct gpt2_layer *l, const tern_model_config *c, int i)
{
    const int64_t H = c->hidden_size, I = c->intermediate_size;

    TERN_TRY(tern_binder_values(b, &l->ln_1_w, 0, H, "h.%d.ln_1.weight", i));
    TERN_TRY(tern_binder_values(b, &l->ln_1_b, 0, H, "h.%d.ln_1.bias", i));
    TERN_TRY(tern_binder_matrix(b, &l->qkv, false, H, 3 * H, "h.%d.attn.c_attn.weight", i));
    TERN_TRY(tern_binder_values(b, &l->qkv_b, 0, 3 * H, "h.%d.attn.c_attn.bias", i));
    TERN_TRY(tern_binder_matrix(b, &l->attn_out, false, H, H, "h.%d.attn.c_proj.weight", i));
    TERN_TRY(tern_binder_values(b, &l->attn_out_b, 0, H, "h.%d.attn.c_proj.bias", i));
    TERN_TRY(tern_binder_values(b, &l->ln_2_w, 0, H, "h.%d.ln_2.weight", i));
    TERN_TRY(tern_binder_values(b, &l->ln_2_b, 0, H, "h.%d.ln_2.bias", i));
    TERN_TRY(tern_binder_matrix(b, &l->fc, false, H, I, "h.%d.mlp.c_fc.weight", i));
    TERN_TRY(tern_binder_values(b, &l->fc_b, 0, I, "h.%d.mlp.c_fc.bias", i));
    TERN_TRY(tern_binder_matrix(b, &l->proj, false, I, H, "h.%d.mlp.c_proj.weight", i));
    TERN_TRY(tern_binder_values(b, &l->proj_b, 0, H, "h.%d.mlp.c_proj.bias", i));
    return TERN_OK;
}

static tern_tensor vector(float *data, int64_t n)
{
    return tern_tensor_view(data, TERN_FP32, 1, &n);
}

static tern_status create_layer(tern_ctx *ctx, struct gpt2_layer *l, const tern_model_config *c, int32_t i)
{
    const int64_t H = c->hidden_size, I = c->intermediate_size;
    const tern_config config = tern_config_from_model(c, i);
    const tern_layer_weights w = {
        .norm_w = vector(l->ln_1_w, H),
        .norm_b = vector(l->ln_1_b, H),
        .attn_qkvw = tern_weight_view(l->qkv),
        .attn_qkvb = vector(l->qkv_b, 3 * H),
        .attn_ow = tern_weight_view(l->attn_out),
        .attn_ob = vector(l->attn_out_b, H),
        .attn_nw = vector(l->ln_2_w, H),
        .attn_nb = vector(l->ln_2_b, H),
        .inter_w = tern_weight_view(l->fc),
        .inter_b = vector(l->fc_b, I),
        .output_w = tern_weight_view(l->proj),
        .output_b = vector(l->proj_b, H),
    };

    TERN_TRY(tern_layer_create(ctx, &config, NULL, NULL, &w, &l->layer));
    free_vectors(l);
    return TERN_OK;
}

static tern_status bind(tern_ctx *ctx, tern_model *model, struct tern_binder *b)
{
    const tern_model_config *c = &model->config;
    const int64_t H = c->hidden_size;
    struct gpt2 *g;

    TERN_TRY(TERN_ALLOC(ctx, 1, "a GPT-2 model", &g));
    model->weights = g;
    g->n_layers = c->n_layers;
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->n_layers, "the layers of a GPT-2 model", &g->layers));

    tern_binder_prefix(b, "wpe.weight");
    TERN_TRY(bind_embedding(b, g, c));
    TERN_TRY(tern_binder_values(b, &g->positions, c->n_context, H, "wpe.weight"));
    for (int32_t i = 0; i < c->n_layers; i++)
        TERN_TRY(bind_layer(b, &g->layers[i], c, i));
    TERN_TRY(tern_binder_values(b, &g->ln_f_w, 0, H, "ln_f.weight"));
    TERN_TRY(tern_binder_values(b, &g->ln_f_b, 0, H, "ln_f.bias"));
    TERN_TRY(tern_binder_load(b));

    const struct tern_weight *head = g->head ? g->head : g->embed;
    uint64_t layers = 0;
    for (int32_t i = 0; i < c->n_layers; i++) {
        struct gpt2_layer *l = &g->layers[i];
        TERN_TRY(create_layer(ctx, l, c, i));
        layers += tern_weight_bytes(l->qkv) + tern_weight_bytes(l->attn_out) + tern_weight_bytes(l->fc) +
                  tern_weight_bytes(l->proj) + (size_t)(9 * H + c->intermediate_size) * sizeof(float);
    }
    model->stats.layer_bytes = layers;
    model->stats.head_bytes = tern_weight_bytes(head) + 2 * (size_t)H * sizeof(float);
    model->stats.packed_bytes = layers + model->stats.head_bytes + (g->head ? tern_weight_bytes(g->embed) : 0) +
                                (size_t)c->n_context * (size_t)H * sizeof(float);
    model->stats.layer_weights = (uint64_t)(c->n_layers * H) * (uint64_t)(4 * H + 2 * (int64_t)c->intermediate_size);
    model->stats.head_weights = (uint64_t)H * (uint64_t)c->vocab_size;
    model->head = head;
    model->block = tern_layer_block(g->layers[0].layer);
    return TERN_OK;
}

/* ---- forward ---- */

static tern_status forward(const struct tern_par *par, const tern_model *model, const struct tern_batch *batch,
                           const struct tern_model_work *work)
{
    const struct gpt2 *g = model->weights;
    const struct tern_norm_args ln_f = { TERN_LAYER_NORM, g->ln_f_w, g->ln_f_b, model->config.norm_eps };
    float *x = work->x;

    tern_forward_embed(par, batch, g->embed, g->positions, x); /* [T, H] */
    tern_forward_keep(par, model, batch, 0, x);
    for (int32_t i = 0; i < g->n_layers; i++) {
        if (tern_forward_stopped(par, batch, work))
            return TERN_ERR_CANCELLED;
        TERN_TRY(
            tern_block_run(par, tern_layer_block(g->layers[i].layer), x, &batch->kv, i, &work->block)); /* [T, H] */
        tern_forward_keep(par, model, batch, i + 1, x);
    }
    tern_forward_head(par, model, batch, work, &ln_f); /* [n_logits, V] */
    return TERN_OK;
}

const struct tern_arch tern_arch_gpt2 = { "gpt2",       architectures, ignored, unused, prefixes,
                                          parse_config, bind,          forward, destroy };
