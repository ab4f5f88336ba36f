/* transformer.c: see transformer.h. */
#include "model/transformer.h"
#include "base/memory.h"
#include "model/model_config.h"
#include "model/relative_bias.h"
#include "model/transformer_parts.h"
#include "ops/checks.h"

#include <math.h>
#include <string.h>

#define BIAS_MAX (1 << 28) /* numbers of a table of what positions add to scores */

struct tern_spec tern_spec_default(const struct tern_names *names)
{
    return (struct tern_spec){ .names = names, .embed_scale = 1, .norm_bias = true };
}

void tern_spec_free(struct tern_spec *spec, int32_t n_labels)
{
    tern_free(spec->local);
    for (int32_t i = 0; spec->labels && i < n_labels; i++)
        tern_free(spec->labels[i]);
    tern_free(spec->labels);
    tern_free(spec->experts.dense);
    spec->local = spec->experts.dense = NULL;
    spec->labels = NULL;
}

tern_status tern_spec_local(tern_ctx *ctx, const tern_model_config *config, struct tern_spec *spec)
{
    return TERN_ALLOC(ctx, (size_t)config->n_layers, "the kinds of a model's layers", &spec->local);
}

void tern_transformer_destroy(void *weights)
{
    struct tern_transformer *t = weights;

    if (!t)
        return;
    for (int32_t i = 0; t->layers && i < t->n_layers; i++) {
        struct tern_transformer_layer *l = &t->layers[i];
        tern_weight_destroy(&l->qkv);
        tern_weight_destroy(&l->out);
        tern_weight_destroy(&l->up);
        tern_weight_destroy(&l->down);
        tern_mixture_free(t->spec, &l->mixture);
        for (int v = 0; v < N_LAYER_VECTORS; v++)
            tern_free(l->vectors[v]);
    }
    tern_free(t->layers);
    tern_weight_destroy(&t->embed);
    tern_weight_destroy(&t->head);
    tern_weight_destroy(&t->project);
    tern_weight_destroy(&t->dense);
    tern_free(t->positions);
    tern_free(t->types);
    tern_free(t->project_bias);
    tern_free(t->embed_norm);
    tern_free(t->embed_norm_bias);
    tern_free(t->final_norm);
    tern_free(t->final_norm_bias);
    tern_free(t->dense_bias);
    tern_free(t->dense_norm);
    tern_free(t->dense_norm_bias);
    tern_free(t->head_bias);
    tern_free(t->slopes);
    tern_free(t->bias);
    tern_free(t->relative);
    tern_free(t->ones);
    tern_free(t);
}

/* ---- putting together ---- */

static struct tern_norm_args norm_of(const tern_model_config *c, const float *gamma, const float *beta)
{
    return (struct tern_norm_args){ c->norm_type, gamma, beta, c->norm_eps };
}

/* A norm that has a name, of weights that it may not have. */
static struct tern_norm_args named_norm(const tern_model_config *c, const struct tern_transformer *t, const char *name,
                                        const float *gamma, const float *beta)
{
    return norm_of(c, gamma || !name ? gamma : t->ones, beta);
}

static float scale_of(const tern_model_config *c, const struct tern_spec *s, int32_t layer)
{
    if (!c->scale_attention)
        return 1;
    if (!c->scale_by_inverse_layer)
        return s->scale != 0 ? s->scale : tern_standard_scale(c->head_dim);
    return (float)(1 / sqrt((double)c->head_dim) / (layer + 1.0));
}

static struct tern_softmax_context_args context_of(const tern_model *model, const struct tern_transformer *t,
                                                   int32_t layer)
{
    const tern_model_config *c = &model->config;
    const struct tern_spec *s = &model->spec;
    const bool local = s->local && s->local[layer];
    const struct tern_rope *rope = local ? &s->local_rope : &s->rope;
    const struct tern_transformer_layer *l = &t->layers[layer];
    const bool each = s->qk_norm == TERN_QK_NORM_EACH, relative = s->relative_rows > 0;
    const ptrdiff_t n = c->n_context, head = model->shards.heads.first, step = relative ? 2 * n - 1 : n;

    return (struct tern_softmax_context_args){
        .heads = (int32_t)model->shards.heads.count,
        .kv_heads = (int32_t)model->shards.kv_heads.count,
        .head_dim = c->head_dim,
        .v_dim = c->head_dim,
        .causal = !c->bidirectional,
        .window = local ? s->window : 0,
        .around = local && s->window > 0 && c->bidirectional,
        .scale = scale_of(c, s, layer),
        .softcap = s->softcap,
        .alibi = t->bias || !t->slopes ? NULL : t->slopes + head,
        .mask = t->bias ? t->bias + head * step + (relative ? n - 1 : 0) : NULL,
        .mask_stride = { 0, step, relative ? -1 : 0, 0 },
        .rotary_dim = rope->dim,
        .rotate_neighbours = rope->neighbours,
        .rope = rope->dim ? rope : NULL,
        .q_norm = norm_of(c, l->vectors[Q_NORM], l->vectors[Q_NORM_BIAS]),
        .k_norm = norm_of(c, l->vectors[K_NORM], l->vectors[K_NORM_BIAS]),
        .q_norm_step = each ? (size_t)c->head_dim : 0,
        .k_norm_step = each ? (size_t)c->head_dim : 0,
        .store = c->row_dtype == TERN_BF16 ? TERN_BF16 : TERN_FP32,
        .round_bf16 = c->row_dtype == TERN_BF16,
    };
}

static void make_block(const tern_model *model, const struct tern_transformer *t, int32_t index)
{
    const tern_model_config *c = &model->config;
    const struct tern_spec *s = &model->spec;
    struct tern_transformer_layer *l = &t->layers[index];
    float *const *v = l->vectors;
    const struct tern_norm_args none = norm_of(c, NULL, NULL);
    const struct tern_norm_args attn_norm = named_norm(c, t, s->names->attn_norm, v[ATTN_NORM], v[ATTN_NORM_BIAS]);
    const bool post = s->form == TERN_BLOCK_POST;

    l->block = (struct tern_block){
        .form = s->form,
        .norm_residual = s->norm_residual,
        .comm = model->comm,
        .hidden = (size_t)c->hidden_size,
        .narrow = c->row_dtype != TERN_FP32,
        .attention = { .norm = post ? none : attn_norm,
                       .qkv_w = l->qkv,
                       .out_w = l->out,
                       .qkv_b = v[QKV_BIAS],
                       .out_b = v[OUT_BIAS],
                       .context = context_of(model, t, index) },
        .mlp = { .norm = named_norm(c, t, s->names->mlp_norm, v[MLP_NORM], v[MLP_NORM_BIAS]),
                 .feed_forward = { .up = l->up,
                                   .down = l->down,
                                   .up_bias = v[UP_BIAS],
                                   .activation = c->activation,
                                   .gelu = c->gelu },
                 .down_b = v[DOWN_BIAS] },
        .experts = tern_mixture_here(s, index) ? &l->mixture.bound : NULL,
        .attention_end = norm_of(c, v[ATTN_END], v[ATTN_END_BIAS]),
        .mlp_end = norm_of(c, v[MLP_END], v[MLP_END_BIAS]),
        .closing = post ? attn_norm : none,
    };
}

/* 2^(-8 i / n), i from 1 on, n the power of two below the heads; further ones lie between them. */
static tern_status make_slopes(tern_ctx *ctx, struct tern_transformer *t, int32_t heads)
{
    int32_t n = 1;

    TERN_TRY(TERN_ALLOC(ctx, (size_t)heads, "the slopes of a model", &t->slopes));
    while (2 * n <= heads)
        n *= 2;
    for (int32_t i = 0; i < heads; i++)
        t->slopes[i] = (float)exp2(i < n ? -8.0 * (i + 1) / n : -4.0 * (2 * (i - n) + 1) / n);
    return TERN_OK;
}

static uint64_t bytes_of(const tern_weight *w)
{
    return w ? tern_weight_bytes(w) : 0;
}

static uint64_t elements_of(const tern_weight *w)
{
    return w ? (uint64_t)w->in * (uint64_t)w->out : 0;
}

/* A small whole number or a slope, or their product: rounded to bf16, to nearest even. */
static float as_bf16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What each position adds to scores: products of bf16 numbers, as a tensor of them has. */
static tern_status make_bias(tern_ctx *ctx, struct tern_transformer *t, const tern_model_config *c)
{
    const size_t n = (size_t)c->n_context;
    const float scale = tern_standard_scale(c->head_dim);

    TERN_REQUIRE(ctx, n <= BIAS_MAX / (size_t)c->heads, TERN_ERR_UNSUPPORTED,
                 "the table of what %" PRId32 " positions add to the scores of %" PRId32 " heads has over %d numbers",
                 c->n_context, c->heads, BIAS_MAX);
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->heads * n, "what positions add to the scores of a model", &t->bias));
    for (size_t h = 0; h < (size_t)c->heads; h++)
        for (size_t j = 0; j < n; j++)
            t->bias[h * n + j] = as_bf16(as_bf16(t->slopes[h]) * as_bf16((float)j)) * scale;
    return TERN_OK;
}

static void take_stats(tern_model *model, const struct tern_transformer *t)
{
    const tern_model_config *c = &model->config;
    const uint64_t H = (uint64_t)c->hidden_size;
    const uint64_t norms = H * ((t->final_norm != NULL) + (t->final_norm_bias != NULL));
    const uint64_t W = (uint64_t)tern_transformer_table_width(c, &model->spec), mapped = t->project_bias ? H : 0;
    const uint64_t tables = W * ((uint64_t)model->spec.position_rows + (uint64_t)c->n_types);
    const uint64_t inner = t->dense ? (uint64_t)t->dense->out : 0;
    const uint64_t head = norms + (t->head_bias ? (uint64_t)model->head.out->out : 0) +
                          inner * ((t->dense_bias != NULL) + (t->dense_norm != NULL) + (t->dense_norm_bias != NULL));
    const uint64_t embed = W * ((t->embed_norm != NULL) + (t->embed_norm_bias != NULL)) + tables + mapped;
    tern_model_stats *stats = &model->stats;
    uint64_t idle_bytes = 0, idle_weights = 0; /* of experts that a row does not go to */

    for (int32_t i = 0; i < t->n_layers; i++) {
        const struct tern_transformer_layer *l = &t->layers[i];
        const tern_weight *const matrices[] = { l->qkv, l->out, l->up, l->down };
        for (size_t m = 0; m < sizeof matrices / sizeof matrices[0]; m++) {
            stats->layer_bytes += bytes_of(matrices[m]);
            stats->layer_weights += elements_of(matrices[m]);
        }
        const struct tern_mixture_stats mixture = tern_mixture_stats(&l->mixture);
        stats->layer_bytes += mixture.met_bytes;
        stats->layer_weights += mixture.met_elements;
        idle_bytes += mixture.bytes - mixture.met_bytes;
        idle_weights += mixture.elements - mixture.met_elements;
    }
    stats->head_weights = elements_of(model->head.out) + elements_of(t->dense);
    /* The rest of the parameters are the layers' vectors, in fp32. */
    const uint64_t ends =
        elements_of(t->embed) + elements_of(t->project) + elements_of(t->head) + elements_of(t->dense) + head + embed;
    stats->layer_bytes += (stats->n_parameters - ends - stats->layer_weights - idle_weights) * sizeof(float);
    stats->head_bytes = bytes_of(model->head.out) + bytes_of(t->dense) + head * sizeof(float);
    stats->packed_bytes = stats->layer_bytes + idle_bytes + stats->head_bytes + bytes_of(t->project) +
                          embed * sizeof(float) + (model->head.out == t->embed ? 0 : bytes_of(t->embed));
    if (model->spec.shared_layers)
        stats->layer_weights *= (uint64_t)c->n_layers;
}

tern_status tern_transformer_bind(tern_ctx *ctx, tern_model *model, struct tern_binder *binder)
{
    const tern_model_config *c = &model->config;
    const struct tern_spec *s = &model->spec;
    struct tern_transformer *t;

    TERN_TRY(TERN_ALLOC(ctx, 1, "a model", &t));
    model->weights = t;
    t->n_layers = s->shared_layers ? 1 : c->n_layers;
    t->spec = s;
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->n_layers, "the layers of a model", &t->layers));
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->n_layers, "the blocks of a model", &model->blocks));
    TERN_TRY(tern_transformer_declare(model, binder, t));
    TERN_TRY(tern_binder_load(binder));

    if (s->alibi)
        TERN_TRY(make_slopes(ctx, t, c->heads));
    if (s->alibi == TERN_ALIBI_ROUNDED && !model->hollow)
        TERN_TRY(make_bias(ctx, t, c));
    if (s->relative_rows && !model->hollow)
        TERN_TRY(tern_relative_bias(ctx, t->relative, c->heads, c->n_context, &t->bias));
    if (s->norm_plain) {
        TERN_TRY(TERN_ALLOC(ctx, (size_t)c->hidden_size, "the weights of a model's norms", &t->ones));
        for (int32_t i = 0; i < c->hidden_size; i++)
            t->ones[i] = 1;
    }
    for (int32_t i = 0; i < t->n_layers; i++) {
        if (tern_mixture_here(s, i))
            tern_mixture_finish(c, s, &t->layers[i].mixture);
        make_block(model, t, i);
    }
    for (int32_t i = 0; i < c->n_layers; i++)
        model->blocks[i] = &t->layers[s->shared_layers ? 0 : i].block;
    t->final = named_norm(c, t, s->names->final_norm, t->final_norm, t->final_norm_bias);
    t->behind_dense = norm_of(c, t->dense_norm, t->dense_norm_bias);
    model->head = (struct tern_head){
        .norm = t->final.gamma ? &t->final : NULL,
        .mean = s->head.pool == TERN_POOL_MEAN,
        .dense = t->dense,
        .dense_bias = t->dense_bias,
        .act = s->head.act,
        .dense_norm = t->dense_norm ? &t->behind_dense : NULL,
        .out = t->head                                                ? t->head
               : c->task == TERN_TASK_GENERATE || s->head.out != NULL ? t->embed
                                                                      : NULL,
        .bias = t->head_bias,
        .cap = s->logit_cap,
    };
    if (model->comm->size > 1 && model->head.out && s->head.n_out == 0) {
        model->head.comm = model->comm;
        model->head.words = c->vocab_size;
        model->head.most = model->shards.most_words;
    }
    model->embed_width = (size_t)s->embed_width;
    model->project = t->project;
    model->stats.n_parameters = binder->n_parameters;
    take_stats(model, t);
    return tern_model_list_products(ctx, model);
}

/* ---- forward ---- */

tern_status tern_transformer_forward(const struct tern_par *par, const tern_model *model,
                                     const struct tern_batch *batch, const struct tern_model_work *work)
{
    const struct tern_transformer *t = model->weights;
    const tern_model_config *c = &model->config;
    const struct tern_spec *s = &model->spec;
    const struct tern_norm_args embed_norm = norm_of(c, t->embed_norm, t->embed_norm_bias);
    const struct tern_embedding embed = {
        .table = t->embed,
        .comm = model->comm->size > 1 ? model->comm : NULL,
        .first_id = model->shards.vocabulary.first,
        .project = t->project,
        .scale = s->embed_scale,
        .types = t->types,
        .positions = t->positions ? t->positions + s->position_offset * tern_transformer_table_width(c, s) : NULL,
        .project_bias = t->project_bias,
        .inside = s->embed_inside,
        .norm = t->embed_norm ? &embed_norm : NULL,
    };
    float *x = work->x;

    TERN_TRY(tern_forward_embed(par, batch, &embed, x, work->embedded, &work->block)); /* [T, H] */
    if (t->embed_norm && !s->embed_inside)
        tern_norm_run(par, x, NULL, x, NULL, NULL, batch->kv.n_rows, (size_t)c->hidden_size, &embed_norm);
    tern_forward_keep(par, model, batch, 0, x);
    for (int32_t i = 0; i < c->n_layers; i++) {
        if (tern_forward_stopped(par, model, batch, work))
            return TERN_ERR_CANCELLED;
        TERN_TRY(
            tern_block_run(par, model->blocks[i], x, &batch->kv, batch->one_pass ? 0 : i, &work->block)); /* [T, H] */
        tern_forward_keep(par, model, batch, i + 1, x);
    }
    return tern_head_run(par, &model->head, model, batch, work); /* [n_logits, C] */
}
