/* transformer_bind.c: which tensors a model's weights are, and what of them. */
#include "model/model_config.h"
#include "model/transformer_parts.h"

#include <stdio.h>
#include <string.h>

/* What binding a model's parts has at hand. */
struct bind {
    struct tern_binder *binder;
    const tern_model_config *config;
    const struct tern_spec *spec;
    const struct tern_shards *shards;
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

/* A matrix of which every rank has some inputs, and the bias of the sum, which all have. */
static tern_status bind_rows(struct bind *b, tern_weight **weight, float **bias, bool has_bias, int64_t in, int64_t out,
                             const struct tern_shard *inputs, const char *pattern)
{
    TERN_TRY(tern_binder_matrix(b->binder, weight, !b->spec->stored_in_out, in, out, "%s.weight", named(b, pattern)));
    tern_binder_inputs(b->binder, inputs->first, inputs->count);
    return has_bias ? bind_vector(b, bias, out, pattern, ".bias") : TERN_OK;
}

/* Channels of a matrix of `out` ones, or of its bias, as the next part. */
static tern_status bind_part(struct bind *b, bool bias, const struct tern_channels *channels, int64_t in, int64_t out,
                             const char *pattern)
{
    const bool turned = b->spec->stored_in_out && !bias;
    const int64_t dim[] = { turned ? in : out, turned ? out : in };

    return tern_binder_part(b->binder, channels, bias ? 1 : 2, dim, "%s%s", named(b, pattern),
                            bias ? ".bias" : ".weight");
}

/* One of a kind of `total` channels behind `before` others in a tensor of `all`. */
static struct tern_channels channels_of(const struct tern_shard *shard, int64_t before, int64_t all)
{
    return (struct tern_channels){ .step = all, .first = before + shard->first, .count = shard->count };
}

static struct tern_shard times(const struct tern_shard *shard, int64_t n)
{
    return (struct tern_shard){ shard->first * n, shard->count * n };
}

/* q, k and v, or their biases. */
static tern_status bind_qkv_parts(struct bind *b, bool bias)
{
    const struct tern_names *names = b->spec->names;
    const tern_model_config *c = b->config;
    const struct tern_shard *kv_heads = &b->shards->kv_heads;
    const int64_t H = c->hidden_size, E = c->head_dim, G = c->kv_heads, group = c->heads / G;
    const int64_t n_q = c->heads * E, n_k = G * E, all = n_q + 2 * n_k, step = (group + 2) * E;
    const struct tern_shard q = times(&b->shards->heads, E), k = times(kv_heads, E);
    const struct tern_channels apart[] = { channels_of(&q, 0, n_q), channels_of(&k, 0, n_k) };
    /* A rank has whole groups, or some query heads of one. */
    const int64_t in_group = q.first - kv_heads->first * group * E,
                  some = kv_heads->count ? q.count / kv_heads->count : 0;
    const int64_t groups = kv_heads->count ? kv_heads->count : 1;
    const struct tern_channels joined[] = { channels_of(&q, 0, all), channels_of(&k, n_q, all),
                                            channels_of(&k, n_q + n_k, all) },
                               by_group[] = { { step, in_group, some, kv_heads->first, groups },
                                              { step, group * E, k.count / groups, kv_heads->first, groups },
                                              { step, (group + 1) * E, k.count / groups, kv_heads->first, groups } },
                               by_channel[] = { { 3, 0, q.count > 0, q.first, q.count ? q.count : 1 },
                                                { 3, 1, q.count > 0, q.first, q.count ? q.count : 1 },
                                                { 3, 2, q.count > 0, q.first, q.count ? q.count : 1 } };
    const struct tern_channels *parts = b->spec->qkv_order == TERN_QKV_JOINED       ? joined
                                        : b->spec->qkv_order == TERN_QKV_BY_CHANNEL ? by_channel
                                                                                    : by_group;

    if (b->spec->qkv_order == TERN_QKV_APART) {
        TERN_TRY(bind_part(b, bias, &apart[0], H, n_q, names->q));
        TERN_TRY(bind_part(b, bias, &apart[1], H, n_k, names->k));
        return bind_part(b, bias, &apart[1], H, n_k, names->v);
    }
    for (int i = 0; i < 3; i++)
        TERN_TRY(bind_part(b, bias, &parts[i], H, all, names->qkv));
    return TERN_OK;
}

static tern_status bind_qkv(struct bind *b, struct tern_transformer_layer *l)
{
    TERN_TRY(tern_binder_join(b->binder, &l->qkv, !b->spec->stored_in_out));
    TERN_TRY(bind_qkv_parts(b, false));
    if (!b->spec->qkv_bias)
        return TERN_OK;
    TERN_TRY(tern_binder_join_values(b->binder, &l->vectors[QKV_BIAS]));
    return bind_qkv_parts(b, true);
}

/* Gated: tern's columns are [up | gate]. */
static tern_status bind_up(struct bind *b, struct tern_transformer_layer *l)
{
    const struct tern_names *names = b->spec->names;
    const int64_t H = b->config->hidden_size, I = b->config->intermediate_size;
    const struct tern_channels alone = channels_of(&b->shards->channels, 0, I),
                               gate = channels_of(&b->shards->channels, 0, 2 * I),
                               up = channels_of(&b->shards->channels, I, 2 * I);

    for (int bias = 0; bias <= (int)b->spec->up_bias; bias++) {
        TERN_TRY(bias ? tern_binder_join_values(b->binder, &l->vectors[UP_BIAS])
                      : tern_binder_join(b->binder, &l->up, !b->spec->stored_in_out));
        if (names->gate_up) {
            TERN_TRY(bind_part(b, bias, &up, H, 2 * I, names->gate_up));
            TERN_TRY(bind_part(b, bias, &gate, H, 2 * I, names->gate_up));
        } else {
            TERN_TRY(bind_part(b, bias, &alone, H, I, names->up));
            if (names->gate)
                TERN_TRY(bind_part(b, bias, &alone, H, I, names->gate));
        }
    }
    return TERN_OK;
}

/* A norm of the heads of q or k. */
static tern_status bind_head_norm(struct bind *b, float **gamma, float **beta, int32_t n_heads,
                                  const struct tern_shard *heads, const char *pattern)
{
    const int64_t E = b->config->head_dim;

    if (b->spec->qk_norm == TERN_QK_NORM_EACH) {
        TERN_TRY(tern_binder_join_values(b->binder, gamma));
        for (int32_t h = 0; h < n_heads; h++) {
            const bool here = h >= heads->first && h < heads->first + heads->count;
            const struct tern_channels channels = { .step = E, .count = here ? E : 0 };
            TERN_TRY(tern_binder_part(b->binder, &channels, 1, &E, "%s.%" PRId32 ".weight", named(b, pattern), h));
        }
    } else {
        TERN_TRY(bind_vector(b, gamma, E, pattern, ".weight"));
    }
    tern_binder_offset(b->binder, b->spec->norm_offset);
    return b->spec->qk_norm_bias ? bind_vector(b, beta, E, pattern, ".bias") : TERN_OK;
}

static tern_status bind_layer(struct bind *b, struct tern_transformer_layer *l)
{
    const struct tern_spec *s = b->spec;
    const struct tern_names *names = s->names;
    const tern_model_config *c = b->config;
    const int64_t H = c->hidden_size, I = c->intermediate_size;
    float **v = l->vectors;

    TERN_TRY(bind_qkv(b, l));
    const struct tern_shard context = times(&b->shards->heads, c->head_dim);
    TERN_TRY(
        bind_rows(b, &l->out, &v[OUT_BIAS], s->out_bias, (int64_t)c->heads * c->head_dim, H, &context, names->out));
    if (tern_mixture_here(s, b->layer)) {
        TERN_TRY(tern_mixture_bind(b->binder, c, s, b->shards, b->layer, &l->mixture));
    } else {
        TERN_TRY(bind_up(b, l));
        TERN_TRY(bind_rows(b, &l->down, &v[DOWN_BIAS], s->down_bias, I, H, &b->shards->channels, names->down));
    }
    if (!s->first_plain || b->layer > 0)
        TERN_TRY(bind_norm(b, &v[ATTN_NORM], &v[ATTN_NORM_BIAS], names->attn_norm));
    TERN_TRY(bind_norm(b, &v[MLP_NORM], &v[MLP_NORM_BIAS], names->mlp_norm));
    TERN_TRY(bind_norm(b, &v[ATTN_END], &v[ATTN_END_BIAS], names->attn_end));
    TERN_TRY(bind_norm(b, &v[MLP_END], &v[MLP_END_BIAS], names->mlp_end));
    if (s->qk_norm == TERN_QK_NORM_NONE)
        return TERN_OK;
    TERN_TRY(bind_head_norm(b, &v[Q_NORM], &v[Q_NORM_BIAS], c->heads, &b->shards->heads, names->q_norm));
    return bind_head_norm(b, &v[K_NORM], &v[K_NORM_BIAS], c->kv_heads, &b->shards->kv_heads, names->k_norm);
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

/* A matrix [V, in] of the files, of whose words each rank has some. */
static tern_status bind_words(struct bind *b, tern_weight **weight, int64_t in, const char *name)
{
    const int64_t dim[] = { b->config->vocab_size, in };
    const struct tern_channels words = channels_of(&b->shards->vocabulary, 0, dim[0]);

    TERN_TRY(tern_binder_join(b->binder, weight, true));
    return tern_binder_part(b->binder, &words, 2, dim, "%s.weight", name);
}

/* A bias of words, or of the labels of a head, which every rank has. */
static tern_status bind_head_bias(struct bind *b, float **to, int32_t n_labels, const char *name, const char *kind)
{
    const int64_t V = b->config->vocab_size;
    const struct tern_channels words = channels_of(&b->shards->vocabulary, 0, V);

    if (n_labels)
        return tern_binder_values(b->binder, to, 0, n_labels, "%s%s", name, kind);
    TERN_TRY(tern_binder_join_values(b->binder, to));
    return tern_binder_part(b->binder, &words, 1, &V, "%s%s", name, kind);
}

/* The bias of a head's last product.  Some files have it under a name of its own as well: the same values where the head is
 * tied; where it is not, that one is not read. */
static tern_status bind_out_bias(struct bind *b, struct tern_transformer *t, bool tied)
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
    return bind_head_bias(b, &t->head_bias, h->n_out, name, end);
}

/* The embedding and the head, the largest tensors.  A tied checkpoint has either name, or both with the same values. */
static tern_status bind_ends(struct bind *b, struct tern_transformer *t)
{
    const struct tern_head_spec *h = &b->spec->head;
    const tern_model_config *c = b->config;
    struct tern_binder *binder = b->binder;
    const bool generate = c->task == TERN_TASK_GENERATE, tied = c->tied_embeddings && h->n_out == 0;
    const char *name = generate ? head_name(binder, b->spec->names) : h->out, *prefix = binder->prefix;
    const int64_t H = c->hidden_size, D = h->dense_width ? h->dense_width : H;
    const int64_t P = b->spec->embed_width ? b->spec->embed_width : H;
    struct tern_file_tensor *embed = tern_binder_find(binder, "%s.weight", b->spec->names->embed), *head = NULL;

    binder->prefix = "";
    if (name)
        head = tern_binder_find(binder, "%s.weight", name);
    binder->prefix = prefix;
    if (embed || !tied || !head)
        TERN_TRY(bind_words(b, &t->embed, P, b->spec->names->embed));
    if (!name)
        return TERN_OK;
    if (tied && embed && head)
        TERN_TRY(check_tied(binder, embed, head));
    binder->prefix = "";
    if (!tied || (head && !embed)) {
        tern_weight **weight = tied ? &t->embed : &t->head;
        TERN_TRY(h->n_out ? tern_binder_matrix(binder, weight, true, D, h->n_out, "%s.weight", name)
                          : bind_words(b, weight, D, name));
    }
    if (generate && b->spec->head_bias)
        TERN_TRY(bind_head_bias(b, &t->head_bias, 0, name, ".bias"));
    else if (!generate && h->out_bias)
        TERN_TRY(bind_out_bias(b, t, tied));
    binder->prefix = prefix;
    return TERN_OK;
}

/* The first product of a head that has two, or the only one of a pooler. */
static tern_status bind_dense(struct bind *b, struct tern_transformer *t)
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

int64_t tern_transformer_table_width(const tern_model_config *c, const struct tern_spec *s)
{
    return s->embed_inside ? s->embed_width : c->hidden_size;
}

static tern_status bind_all(struct bind *b, struct tern_transformer *t)
{
    const struct tern_spec *s = b->spec;
    const int64_t H = b->config->hidden_size, W = tern_transformer_table_width(b->config, s);

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

tern_status tern_transformer_declare(tern_model *model, struct tern_binder *binder, struct tern_transformer *t)
{
    struct bind b = { .binder = binder, .config = &model->config, .spec = &model->spec, .shards = &model->shards };
    char first[sizeof b.name + 8]; /* a tensor that tells the prefix: the embedding may be there as the head alone */

    for (const struct tern_names *names = model->spec.names; names; names = names->other) {
        snprintf(first, sizeof first, "%s.weight", named(&b, names->out));
        tern_binder_prefix(binder, first);
        if (tern_binder_find(binder, "%s", first) && tern_binder_find(binder, "%s.weight", names->embed) &&
            tern_mixture_named(binder, &model->spec, names)) {
            model->spec.names = names;
            break;
        }
    }
    if (b.config->task == TERN_TASK_GENERATE && tern_config_task(b.config) == TERN_TASK_STATES &&
        !has_head(binder, b.config, b.spec))
        model->config.task = TERN_TASK_STATES;
    return bind_all(&b, t);
}
