/* transformer.c: see transformer.h. */
#include "model/transformer.h"
#include "base/memory.h"
#include "model/mixture.h"
#include "model/model_config.h"
#include "model/relative_bias.h"
#include "ops/checks.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BIAS_MAX (1 << 28) /* numbers of a table of what positions add to scores */

/* Vectors of a layer. */
enum vector {
    ATTN_NORM,
    ATTN_NORM_BIAS,
    QKV_BIAS,
    OUT_BIAS,
    Q_NORM,
    Q_NORM_BIAS,
    K_NORM,
    K_NORM_BIAS,
    ATTN_END,
    ATTN_END_BIAS,
    MLP_NORM,
    MLP_NORM_BIAS,
    UP_BIAS,
    DOWN_BIAS,
    MLP_END,
    MLP_END_BIAS,
    N_VECTORS
};

struct layer {
    tern_weight *qkv;            /* [H, (h + 2G) E] */
    tern_weight *out;            /* [h E, H] */
    tern_weight *up;             /* [H, pI] */
    tern_weight *down;           /* [I, H] */
    struct tern_mixture mixture; /* in place of up and down */
    float *vectors[N_VECTORS];
    struct tern_block block;
};

struct transformer {
    tern_weight *embed;   /* [H, V] or [width, V], packed for the head where tied; the embedding reads its columns */
    tern_weight *head;    /* [D, C] if it is not tied, else NULL */
    tern_weight *project; /* [width, H]: what makes H of the embedding's columns, or NULL */
    tern_weight *dense;   /* [H, D]: the first product of a head that has two */
    float *positions;     /* [position_rows, H], or [.., width] as types and embed_norm */
    float *types;         /* [n_types, H] */
    float *project_bias;  /* [H] */
    float *embed_norm, *embed_norm_bias, *final_norm, *final_norm_bias;
    float *ones;                                      /* [H]: gamma of norms that have no weights */
    float *dense_bias, *dense_norm, *dense_norm_bias; /* [D] */
    float *head_bias;                                 /* [C] */
    float *slopes;                                    /* [heads]: ALiBi's */
    float *bias;     /* [heads, n_context]: the same as what each position has added; or tern_relative_bias()'s */
    float *relative; /* [relative_rows, heads] */
    struct tern_norm_args final, behind_dense; /* what model->head points to */
    const struct tern_spec *spec;              /* the model's */
    int32_t n_layers;                          /* 1 where all are one */
    struct layer *layers;
};

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
    struct transformer *t = weights;

    if (!t)
        return;
    for (int32_t i = 0; t->layers && i < t->n_layers; i++) {
        struct layer *l = &t->layers[i];
        tern_weight_destroy(&l->qkv);
        tern_weight_destroy(&l->out);
        tern_weight_destroy(&l->up);
        tern_weight_destroy(&l->down);
        tern_mixture_free(t->spec, &l->mixture);
        for (int v = 0; v < N_VECTORS; v++)
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

/* ---- bind ---- */

/* What binding a model's parts has at hand. */
struct bind {
    struct tern_binder *binder;
    const tern_model_config *config;
    const struct tern_spec *spec;
    int32_t layer; /* of names with # */
    char name[128];
};

/* A name with its layer. */
static const char *named(struct bind *b, const char *pattern)
{
    const char *mark = strchr(pattern, '#');

    if (mark)
        snprintf(b->name, sizeof b->name, "%.*s%" PRId32 "%s", (int)(mark - pattern), pattern, b->layer, mark + 1);
    else
        snprintf(b->name, sizeof b->name, "%s", pattern);
    return b->name;
}

static tern_status bind_vector(struct bind *b, float **to, int64_t n, const char *pattern, const char *kind)
{
    return tern_binder_values(b->binder, to, 0, n, "%s%s", named(b, pattern), kind);
}

static tern_status bind_norm_of(struct bind *b, float **gamma, float **beta, int64_t n, const char *pattern)
{
    if (!pattern || b->spec->norm_plain)
        return TERN_OK;
    TERN_TRY(bind_vector(b, gamma, n, pattern, ".weight"));
    tern_binder_offset(b->binder, b->spec->norm_offset);
    if (b->config->norm_type == TERN_LAYER_NORM && b->spec->norm_bias)
        TERN_TRY(bind_vector(b, beta, n, pattern, ".bias"));
    return TERN_OK;
}

static tern_status bind_norm(struct bind *b, float **gamma, float **beta, const char *pattern)
{
    return bind_norm_of(b, gamma, beta, b->config->hidden_size, pattern);
}

/* A matrix that is one tensor, and its bias. */
static tern_status bind_linear(struct bind *b, tern_weight **weight, float **bias, bool has_bias, int64_t in,
                               int64_t out, const char *pattern)
{
    TERN_TRY(tern_binder_matrix(b->binder, weight, !b->spec->stored_in_out, in, out, "%s.weight", named(b, pattern)));
    return has_bias ? bind_vector(b, bias, out, pattern, ".bias") : TERN_OK;
}

/* Rows of a matrix [out, in], or of its bias, as the next part. */
static tern_status bind_part(struct bind *b, bool bias, const struct tern_channels *channels, int64_t in, int64_t out,
                             const char *pattern)
{
    const int64_t dim[] = { out, in };

    return tern_binder_part(b->binder, channels, bias ? 1 : 2, dim, "%s%s", named(b, pattern),
                            bias ? ".bias" : ".weight");
}

/* q, k and v, or their biases. */
static tern_status bind_qkv_parts(struct bind *b, bool bias)
{
    const struct tern_names *names = b->spec->names;
    const tern_model_config *c = b->config;
    const int64_t H = c->hidden_size, E = c->head_dim, G = c->kv_heads, group = c->heads / G;
    const int64_t q = c->heads * E, k = G * E, all = q + 2 * k, step = (group + 2) * E;
    const struct tern_channels whole = { 0 },
                               by_group[] = { { step, 0, group * E },
                                              { step, group * E, E },
                                              { step, (group + 1) * E, E } },
                               by_channel[] = { { 3, 0, 1 }, { 3, 1, 1 }, { 3, 2, 1 } };
    const bool channels = b->spec->qkv_order == TERN_QKV_BY_CHANNEL;

    if (b->spec->qkv_order == TERN_QKV_APART) {
        TERN_TRY(bind_part(b, bias, &whole, H, q, names->q));
        TERN_TRY(bind_part(b, bias, &whole, H, k, names->k));
        return bind_part(b, bias, &whole, H, k, names->v);
    }
    for (int i = 0; i < 3; i++)
        TERN_TRY(bind_part(b, bias, channels ? &by_channel[i] : &by_group[i], H, all, names->qkv));
    return TERN_OK;
}

static tern_status bind_qkv(struct bind *b, struct layer *l)
{
    const tern_model_config *c = b->config;
    const int64_t H = c->hidden_size, all = ((int64_t)c->heads + 2 * c->kv_heads) * c->head_dim;

    if (b->spec->qkv_order == TERN_QKV_JOINED)
        return bind_linear(b, &l->qkv, &l->vectors[QKV_BIAS], b->spec->qkv_bias, H, all, b->spec->names->qkv);
    TERN_TRY(tern_binder_join(b->binder, &l->qkv, H));
    TERN_TRY(bind_qkv_parts(b, false));
    if (!b->spec->qkv_bias)
        return TERN_OK;
    TERN_TRY(tern_binder_join_values(b->binder, &l->vectors[QKV_BIAS]));
    return bind_qkv_parts(b, true);
}

/* Gated: tern's columns are [up | gate]. */
static tern_status bind_up(struct bind *b, struct layer *l)
{
    const struct tern_names *names = b->spec->names;
    const int64_t H = b->config->hidden_size, I = b->config->intermediate_size;
    const struct tern_channels first = { 2 * I, 0, I }, second = { 2 * I, I, I }, whole = { 0 };

    if (!names->gate && !names->gate_up)
        return bind_linear(b, &l->up, &l->vectors[UP_BIAS], b->spec->up_bias, H, I, names->up);
    for (int bias = 0; bias <= (int)b->spec->up_bias; bias++) {
        TERN_TRY(bias ? tern_binder_join_values(b->binder, &l->vectors[UP_BIAS])
                      : tern_binder_join(b->binder, &l->up, H));
        if (names->gate_up) {
            TERN_TRY(bind_part(b, bias, &second, H, 2 * I, names->gate_up));
            TERN_TRY(bind_part(b, bias, &first, H, 2 * I, names->gate_up));
        } else {
            TERN_TRY(bind_part(b, bias, &whole, H, I, names->up));
            TERN_TRY(bind_part(b, bias, &whole, H, I, names->gate));
        }
    }
    return TERN_OK;
}

/* A norm of the heads of q or k. */
static tern_status bind_head_norm(struct bind *b, float **gamma, float **beta, int32_t heads, const char *pattern)
{
    const int64_t E = b->config->head_dim;

    if (b->spec->qk_norm == TERN_QK_NORM_EACH) {
        TERN_TRY(tern_binder_join_values(b->binder, gamma));
        for (int32_t h = 0; h < heads; h++)
            TERN_TRY(tern_binder_part(b->binder, &(struct tern_channels){ 0 }, 1, &E, "%s.%" PRId32 ".weight",
                                      named(b, pattern), h));
    } else {
        TERN_TRY(bind_vector(b, gamma, E, pattern, ".weight"));
    }
    tern_binder_offset(b->binder, b->spec->norm_offset);
    return b->spec->qk_norm_bias ? bind_vector(b, beta, E, pattern, ".bias") : TERN_OK;
}

static tern_status bind_layer(struct bind *b, struct layer *l)
{
    const struct tern_spec *s = b->spec;
    const struct tern_names *names = s->names;
    const tern_model_config *c = b->config;
    const int64_t H = c->hidden_size, I = c->intermediate_size;
    float **v = l->vectors;

    TERN_TRY(bind_qkv(b, l));
    TERN_TRY(bind_linear(b, &l->out, &v[OUT_BIAS], s->out_bias, (int64_t)c->heads * c->head_dim, H, names->out));
    if (tern_mixture_here(s, b->layer)) {
        TERN_TRY(tern_mixture_bind(b->binder, c, s, b->layer, &l->mixture));
    } else {
        TERN_TRY(bind_up(b, l));
        TERN_TRY(bind_linear(b, &l->down, &v[DOWN_BIAS], s->down_bias, I, H, names->down));
    }
    if (!s->first_plain || b->layer > 0)
        TERN_TRY(bind_norm(b, &v[ATTN_NORM], &v[ATTN_NORM_BIAS], names->attn_norm));
    TERN_TRY(bind_norm(b, &v[MLP_NORM], &v[MLP_NORM_BIAS], names->mlp_norm));
    TERN_TRY(bind_norm(b, &v[ATTN_END], &v[ATTN_END_BIAS], names->attn_end));
    TERN_TRY(bind_norm(b, &v[MLP_END], &v[MLP_END_BIAS], names->mlp_end));
    if (s->qk_norm == TERN_QK_NORM_NONE)
        return TERN_OK;
    TERN_TRY(bind_head_norm(b, &v[Q_NORM], &v[Q_NORM_BIAS], c->heads, names->q_norm));
    return bind_head_norm(b, &v[K_NORM], &v[K_NORM_BIAS], c->kv_heads, names->k_norm);
}

static bool same_tensor(const struct tern_file_tensor *a, const struct tern_file_tensor *b)
{
    return a->dtype == b->dtype && a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* A head that is tied and there nevertheless: the embedding's values, or versions of the reference disagree on which counts. */
static tern_status check_tied(struct tern_binder *b, struct tern_file_tensor *embed, struct tern_file_tensor *head)
{
    char found[TERN_FILE_SHAPE_TEXT], expected[TERN_FILE_SHAPE_TEXT];

    TERN_REQUIRE(
        b->ctx, head->rank == embed->rank && memcmp(head->dim, embed->dim, (size_t)head->rank * sizeof *head->dim) == 0,
        TERN_ERR_SHAPE, "%s: tensor \"%s\": shape is %s, expected %s, that of \"%s\"",
        tern_safetensors_path(b->files, head), head->name, tern_file_shape_text(found, head->rank, head->dim),
        tern_file_shape_text(expected, embed->rank, embed->dim), embed->name);
    TERN_REQUIRE(b->ctx, b->options.describe || same_tensor(embed, head), TERN_ERR_FORMAT,
                 "%s: tensor \"%s\" differs from \"%s\", expected the same values as tie_word_embeddings is true",
                 tern_safetensors_path(b->files, head), head->name, embed->name);
    tern_safetensors_drop(b->files, embed);
    tern_safetensors_drop(b->files, head);
    return tern_binder_skip(b, head);
}

/* The name of the head in these files. */
static const char *head_name(struct tern_binder *binder, const struct tern_names *names)
{
    const char *prefix = binder->prefix;
    bool old;

    binder->prefix = "";
    old = names->old_head && tern_binder_find(binder, "%s.weight", names->old_head) &&
          !tern_binder_find(binder, "%s.weight", names->head);
    binder->prefix = prefix;
    return old ? names->old_head : names->head;
}

/* Whether a model whose name has no task ("..Model") comes with a head nevertheless: it gives states alone without one. */
static bool has_head(struct tern_binder *binder, const tern_model_config *c, const struct tern_spec *s)
{
    const char *prefix = binder->prefix, *name = head_name(binder, s->names);
    bool there;

    binder->prefix = "";
    there = (c->tied_embeddings || tern_binder_find(binder, "%s.weight", name)) &&
            (!s->head_bias || tern_binder_find(binder, "%s.bias", name));
    binder->prefix = prefix;
    return there;
}

/* The bias of a head's last product.  Some files have it under a name of its own as well: the same values where the head is
 * tied; where it is not, that one is not read. */
static tern_status bind_out_bias(struct bind *b, struct transformer *t, bool tied)
{
    const struct tern_head_spec *h = &b->spec->head;
    struct tern_binder *binder = b->binder;
    struct tern_file_tensor *plain = tern_binder_find(binder, "%s.bias", h->out);
    struct tern_file_tensor *apart = tern_binder_find(binder, "%s", h->out_bias);
    const char *name = plain || !apart ? h->out : h->out_bias, *end = plain || !apart ? ".bias" : "";

    if (plain && apart && plain != apart) {
        TERN_REQUIRE(b->binder->ctx, !tied || same_tensor(plain, apart), TERN_ERR_FORMAT,
                     "%s: tensor \"%s\" differs from \"%s\", expected the same values as tie_word_embeddings is true",
                     tern_safetensors_path(binder->files, plain), plain->name, apart->name);
        TERN_TRY(tern_binder_skip(binder, apart));
    }
    return tern_binder_values(binder, &t->head_bias, 0, h->n_out ? h->n_out : b->config->vocab_size, "%s%s", name, end);
}

/* The embedding and the head, the largest tensors.  A tied checkpoint has either name, or both with the same values. */
static tern_status bind_ends(struct bind *b, struct transformer *t)
{
    const struct tern_head_spec *h = &b->spec->head;
    const tern_model_config *c = b->config;
    struct tern_binder *binder = b->binder;
    const bool generate = c->task == TERN_TASK_GENERATE, tied = c->tied_embeddings && h->n_out == 0;
    const char *name = generate ? head_name(binder, b->spec->names) : h->out, *prefix = binder->prefix;
    const int64_t H = c->hidden_size, V = c->vocab_size, D = h->dense_width ? h->dense_width : H;
    const int64_t P = b->spec->embed_width ? b->spec->embed_width : H;
    struct tern_file_tensor *embed = tern_binder_find(binder, "%s.weight", b->spec->names->embed), *head = NULL;

    binder->prefix = "";
    if (name)
        head = tern_binder_find(binder, "%s.weight", name);
    binder->prefix = prefix;
    if (embed || !tied || !head)
        TERN_TRY(tern_binder_matrix(binder, &t->embed, true, P, V, "%s.weight", b->spec->names->embed));
    if (!name)
        return TERN_OK;
    if (tied && embed && head)
        TERN_TRY(check_tied(binder, embed, head));
    binder->prefix = "";
    if (!tied || (head && !embed))
        TERN_TRY(tern_binder_matrix(binder, tied ? &t->embed : &t->head, true, D, h->n_out ? h->n_out : V, "%s.weight",
                                    name));
    if (generate && b->spec->head_bias)
        TERN_TRY(tern_binder_values(binder, &t->head_bias, 0, V, "%s.bias", name));
    else if (!generate && h->out_bias)
        TERN_TRY(bind_out_bias(b, t, tied));
    binder->prefix = prefix;
    return TERN_OK;
}

/* The first product of a head that has two, or the only one of a pooler. */
static tern_status bind_dense(struct bind *b, struct transformer *t)
{
    const struct tern_head_spec *h = &b->spec->head;
    const int64_t H = b->config->hidden_size, D = h->dense_width ? h->dense_width : H;
    const char *prefix = b->binder->prefix;

    if (!h->dense)
        return TERN_OK;
    b->binder->prefix = h->dense_prefixed ? prefix : "";
    /* A model that gives states alone may have a pooler, or none. */
    if (b->config->task == TERN_TASK_STATES && h->dense_prefixed && !tern_binder_find(b->binder, "%s.weight", h->dense))
        return TERN_OK;
    TERN_TRY(tern_binder_matrix(b->binder, &t->dense, true, H, D, "%s.weight", h->dense));
    if (h->dense_bias)
        TERN_TRY(tern_binder_values(b->binder, &t->dense_bias, 0, D, "%s.bias", h->dense));
    if (h->dense_norm) {
        TERN_TRY(tern_binder_values(b->binder, &t->dense_norm, 0, D, "%s.weight", h->dense_norm));
        if (b->config->norm_type == TERN_LAYER_NORM && b->spec->norm_bias)
            TERN_TRY(tern_binder_values(b->binder, &t->dense_norm_bias, 0, D, "%s.bias", h->dense_norm));
    }
    b->binder->prefix = prefix;
    return TERN_OK;
}

/* Numbers of a row that positions and types are added to. */
static int64_t table_width(const tern_model_config *c, const struct tern_spec *s)
{
    return s->embed_inside ? s->embed_width : c->hidden_size;
}

static tern_status bind_all(struct bind *b, struct transformer *t)
{
    const struct tern_spec *s = b->spec;
    const int64_t H = b->config->hidden_size, W = table_width(b->config, s);

    TERN_TRY(bind_ends(b, t));
    if (s->embed_width)
        TERN_TRY(
            tern_binder_matrix(b->binder, &t->project, true, s->embed_width, H, "%s.weight", s->names->project_in));
    if (s->project_bias)
        TERN_TRY(tern_binder_values(b->binder, &t->project_bias, 0, H, "%s.bias", s->names->project_in));
    if (s->position_rows)
        TERN_TRY(tern_binder_values(b->binder, &t->positions, s->position_rows, W, "%s.weight", s->names->positions));
    if (s->relative_rows)
        TERN_TRY(tern_binder_values(b->binder, &t->relative, s->relative_rows, b->config->heads, "%s.weight",
                                    s->names->relative));
    if (b->config->n_types)
        TERN_TRY(tern_binder_values(b->binder, &t->types, b->config->n_types, W, "%s.weight", s->names->types));
    TERN_TRY(bind_norm_of(b, &t->embed_norm, &t->embed_norm_bias, W, s->names->embed_norm));
    TERN_TRY(bind_dense(b, t));
    for (int32_t i = 0; i < t->n_layers; i++) {
        b->layer = i;
        TERN_TRY(bind_layer(b, &t->layers[i]));
    }
    return bind_norm(b, &t->final_norm, &t->final_norm_bias, s->names->final_norm);
}

/* ---- putting together ---- */

static struct tern_norm_args norm_of(const tern_model_config *c, const float *gamma, const float *beta)
{
    return (struct tern_norm_args){ c->norm_type, gamma, beta, c->norm_eps };
}

/* A norm that has a name, of weights that it may not have. */
static struct tern_norm_args named_norm(const tern_model_config *c, const struct transformer *t, const char *name,
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

static struct tern_softmax_context_args context_of(const tern_model_config *c, const struct tern_spec *s,
                                                   const struct transformer *t, int32_t layer)
{
    const bool local = s->local && s->local[layer];
    const struct tern_rope *rope = local ? &s->local_rope : &s->rope;
    const struct layer *l = &t->layers[layer];
    const bool each = s->qk_norm == TERN_QK_NORM_EACH, relative = s->relative_rows > 0;
    const ptrdiff_t n = c->n_context;

    return (struct tern_softmax_context_args){
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->head_dim,
        .v_dim = c->head_dim,
        .causal = !c->bidirectional,
        .window = local ? s->window : 0,
        .around = local && s->window > 0 && c->bidirectional,
        .scale = scale_of(c, s, layer),
        .softcap = s->softcap,
        .alibi = t->bias ? NULL : t->slopes,
        .mask = relative ? t->bias + (n - 1) : t->bias,
        .mask_stride = { 0, relative ? 2 * n - 1 : n, relative ? -1 : 0, 0 },
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

static void make_block(const tern_model_config *c, const struct tern_spec *s, const struct transformer *t,
                       int32_t index)
{
    struct layer *l = &t->layers[index];
    float *const *v = l->vectors;
    const struct tern_norm_args none = norm_of(c, NULL, NULL);
    const struct tern_norm_args attn_norm = named_norm(c, t, s->names->attn_norm, v[ATTN_NORM], v[ATTN_NORM_BIAS]);
    const bool post = s->form == TERN_BLOCK_POST;

    l->block = (struct tern_block){
        .form = s->form,
        .norm_residual = s->norm_residual,
        .comm = tern_comm_self(),
        .narrow = c->row_dtype != TERN_FP32,
        .attention = { .norm = post ? none : attn_norm,
                       .qkv_w = l->qkv,
                       .out_w = l->out,
                       .qkv_b = v[QKV_BIAS],
                       .out_b = v[OUT_BIAS],
                       .context = context_of(c, s, t, index) },
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
static tern_status make_slopes(tern_ctx *ctx, struct transformer *t, int32_t heads)
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
static tern_status make_bias(tern_ctx *ctx, struct transformer *t, const tern_model_config *c)
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

static void take_stats(tern_model *model, const struct transformer *t)
{
    const tern_model_config *c = &model->config;
    const uint64_t H = (uint64_t)c->hidden_size;
    const uint64_t norms = H * ((t->final_norm != NULL) + (t->final_norm_bias != NULL));
    const uint64_t W = (uint64_t)table_width(c, &model->spec), mapped = t->project_bias ? H : 0;
    const uint64_t tables = W * ((uint64_t)model->spec.position_rows + (uint64_t)c->n_types);
    const uint64_t inner = t->dense ? (uint64_t)t->dense->out : 0;
    const uint64_t head = norms + (t->head_bias ? (uint64_t)model->head.out->out : 0) +
                          inner * ((t->dense_bias != NULL) + (t->dense_norm != NULL) + (t->dense_norm_bias != NULL));
    const uint64_t embed = W * ((t->embed_norm != NULL) + (t->embed_norm_bias != NULL)) + tables + mapped;
    tern_model_stats *stats = &model->stats;
    uint64_t idle_bytes = 0, idle_weights = 0; /* of experts that a row does not go to */

    for (int32_t i = 0; i < t->n_layers; i++) {
        const struct layer *l = &t->layers[i];
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
    struct bind b = { .binder = binder, .config = c, .spec = s };
    struct transformer *t;
    char first[sizeof b.name + 8]; /* a tensor that tells the prefix: the embedding may be there as the head alone */

    TERN_TRY(TERN_ALLOC(ctx, 1, "a model", &t));
    model->weights = t;
    t->n_layers = s->shared_layers ? 1 : c->n_layers;
    t->spec = s;
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->n_layers, "the layers of a model", &t->layers));
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->n_layers, "the blocks of a model", &model->blocks));
    for (const struct tern_names *names = s->names; names; names = names->other) {
        snprintf(first, sizeof first, "%s.weight", named(&b, names->out));
        tern_binder_prefix(binder, first);
        if (tern_binder_find(binder, "%s", first) && tern_binder_find(binder, "%s.weight", names->embed) &&
            tern_mixture_named(binder, s, names)) {
            model->spec.names = names;
            break;
        }
    }
    if (c->task == TERN_TASK_GENERATE && tern_config_task(c) == TERN_TASK_STATES && !has_head(binder, c, s))
        model->config.task = TERN_TASK_STATES;
    TERN_TRY(bind_all(&b, t));
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
        make_block(c, s, t, i);
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
    model->embed_width = (size_t)s->embed_width;
    model->stats.n_parameters = binder->n_parameters;
    take_stats(model, t);
    return TERN_OK;
}

/* ---- forward ---- */

tern_status tern_transformer_forward(const struct tern_par *par, const tern_model *model,
                                     const struct tern_batch *batch, const struct tern_model_work *work)
{
    const struct transformer *t = model->weights;
    const tern_model_config *c = &model->config;
    const struct tern_spec *s = &model->spec;
    const struct tern_norm_args embed_norm = norm_of(c, t->embed_norm, t->embed_norm_bias);
    const struct tern_embedding embed = {
        .table = t->embed,
        .project = t->project,
        .scale = s->embed_scale,
        .types = t->types,
        .positions = t->positions ? t->positions + s->position_offset * table_width(c, s) : NULL,
        .project_bias = t->project_bias,
        .inside = s->embed_inside,
        .norm = t->embed_norm ? &embed_norm : NULL,
    };
    float *x = work->x;

    tern_forward_embed(par, batch, &embed, x, work->embedded); /* [T, H] */
    if (t->embed_norm && !s->embed_inside)
        tern_norm_run(par, x, NULL, x, NULL, NULL, batch->kv.n_rows, (size_t)c->hidden_size, &embed_norm);
    tern_forward_keep(par, model, batch, 0, x);
    for (int32_t i = 0; i < c->n_layers; i++) {
        if (tern_forward_stopped(par, batch, work))
            return TERN_ERR_CANCELLED;
        TERN_TRY(
            tern_block_run(par, model->blocks[i], x, &batch->kv, batch->one_pass ? 0 : i, &work->block)); /* [T, H] */
        tern_forward_keep(par, model, batch, i + 1, x);
    }
    tern_head_run(par, &model->head, model, batch, work); /* [n_logits, C] */
    return TERN_OK;
}
