/* shape.c: models put together from layers and random weights.
 *
 *   x = embed[id] (+ position[t])                 an encoder: LayerNorm(x)               [T, H]
 *   each layer                                    tern_layer, pre-LN or post-LN
 *   logits = (norm(x)) head                       an encoder has no final norm           [n, V]
 *
 * Numbers are splitmix64 of a matrix's key and the place in it, so threads fill matrices as they like.  A matrix [K, N] has numbers of
 * variance 1 / K, which keeps the size of a row; the two that end in the residual stream are smaller by the root of 2 L, the number
 * of terms that add up there.  One matrix at a time stands beside the packed ones, the largest first, when there are none. */
#include "base/machine.h"
#include "base/memory.h"
#include "comm/agree.h"
#include "model/arch.h"
#include "model/group.h"
#include "model/model_config.h"

#include <tern/machine.h>
#include <tern/shape.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LLAMA(layers, hidden, inner, h, g, vocab, context, theta)                                     \
    .n_layers = layers, .hidden_size = hidden, .intermediate_size = inner, .heads = h, .kv_heads = g, \
    .vocab_size = vocab, .n_context = context, .norm_type = TERN_RMS_NORM, .norm_eps = 1e-5f,         \
    .activation = TERN_GATED_SILU, .rotary_dim = (hidden) / (h), .rope_theta = theta
#define GPT2(layers, hidden, h)                                                                           \
    .tied_embeddings = true, .biases = true, .n_layers = layers, .hidden_size = hidden,                   \
    .intermediate_size = 4 * (hidden), .heads = h, .kv_heads = h, .vocab_size = 50257, .n_context = 1024, \
    .norm_type = TERN_LAYER_NORM, .norm_eps = 1e-5f, .activation = TERN_GELU, .gelu = TERN_GELU_TANH
#define BERT(layers, hidden, h)                                                                          \
    .encoder = true, .tied_embeddings = true, .biases = true, .n_layers = layers, .hidden_size = hidden, \
    .intermediate_size = 4 * (hidden), .heads = h, .kv_heads = h, .vocab_size = 30522, .n_context = 512, \
    .norm_type = TERN_LAYER_NORM, .norm_eps = 1e-12f, .activation = TERN_GELU, .gelu = TERN_GELU_ERF

static const tern_model_shape shapes[] = {
    { .name = "bert-base", .about = "12 x 768, post-LN, GELU, 110 M weights", BERT(12, 768, 12) },
    { .name = "bert-large", .about = "24 x 1024, post-LN, GELU, 335 M", BERT(24, 1024, 16) },
    { .name = "gpt2-124m", .about = "12 x 768, GELU, learned positions", GPT2(12, 768, 12) },
    { .name = "gpt2-355m", .about = "24 x 1024", GPT2(24, 1024, 16) },
    { .name = "gpt2-774m", .about = "36 x 1280", GPT2(36, 1280, 20) },
    { .name = "gpt2-1.5b", .about = "48 x 1600", GPT2(48, 1600, 25) },
    { .name = "llama-1.1b",
      .about = "22 x 2048, SwiGLU 5632, 32 heads, 4 of keys and values",
      LLAMA(22, 2048, 5632, 32, 4, 32000, 2048, 10000) },
    { .name = "llama-7b",
      .about = "32 x 4096, SwiGLU 11008, 32 heads",
      LLAMA(32, 4096, 11008, 32, 32, 32000, 4096, 10000) },
    { .name = "llama-8b",
      .about = "32 x 4096, SwiGLU 14336, 32 heads, 8 of keys and values, vocabulary 128256",
      LLAMA(32, 4096, 14336, 32, 8, 128256, 8192, 500000) },
    { .name = "tiny", .about = "2 x 64, SwiGLU 176: for tests", LLAMA(2, 64, 176, 4, 2, 256, 256, 10000) },
    { .name = "tiny-encoder",
      .about = "2 x 64, post-LN: for tests",
      .encoder = true,
      .tied_embeddings = true,
      .biases = true,
      .n_layers = 2,
      .hidden_size = 64,
      .intermediate_size = 256,
      .heads = 4,
      .kv_heads = 4,
      .vocab_size = 256,
      .n_context = 256,
      .norm_type = TERN_LAYER_NORM,
      .norm_eps = 1e-12f,
      .activation = TERN_GELU,
      .gelu = TERN_GELU_ERF },
};

int tern_model_shape_count(void)
{
    return (int)(sizeof shapes / sizeof shapes[0]);
}

const tern_model_shape *tern_model_shape_at(int index)
{
    return index >= 0 && index < tern_model_shape_count() ? &shapes[index] : NULL;
}

const tern_model_shape *tern_model_shape_find(const char *name)
{
    for (int i = 0; name && i < tern_model_shape_count(); i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

/* ---- the model ---- */

struct random_layer {
    tern_weight *qkv;      /* [H, (h + 2G) E] */
    tern_weight *attn_out; /* [H, H] */
    tern_weight *up;       /* [H, I], gated [H, 2I] */
    tern_weight *down;     /* [I, H] */
    tern_layer *layer;
};

struct random_model {
    tern_weight *embed; /* [H, V] */
    tern_weight *head;  /* [H, V] if it is not tied, else NULL */
    float *vectors;     /* all of the following */
    float *positions;   /* [n_context, H], or NULL */
    float *norm_w;      /* [H]: the final norm's; an encoder's behind the embedding */
    float *norm_b;      /* [H], NULL with RMSNorm */
    struct tern_norm_args norm;
    bool encoder;
    int32_t n_layers;
    struct random_layer *layers;
};

static void destroy(void *weights)
{
    struct random_model *r = weights;

    if (!r)
        return;
    for (int32_t i = 0; r->layers && i < r->n_layers; i++) {
        struct random_layer *l = &r->layers[i];
        tern_layer_destroy(&l->layer);
        tern_weight_destroy(&l->qkv);
        tern_weight_destroy(&l->attn_out);
        tern_weight_destroy(&l->up);
        tern_weight_destroy(&l->down);
    }
    tern_free(r->layers);
    tern_weight_destroy(&r->embed);
    tern_weight_destroy(&r->head);
    tern_free(r->vectors);
    tern_free(r);
}

static tern_status forward(const struct tern_par *par, const tern_model *model, const struct tern_batch *batch,
                           const struct tern_model_work *work)
{
    const struct random_model *r = model->weights;
    const tern_model_config *c = &model->config;
    const struct tern_embedding embed = {
        .table = r->embed,
        .comm = model->comm->size > 1 ? model->comm : NULL,
        .first_id = model->shards.vocabulary.first,
        .scale = 1,
        .positions = r->positions,
    };
    float *x = work->x;

    TERN_TRY(tern_forward_embed(par, batch, &embed, x, NULL, &work->block)); /* [T, H] */
    if (r->encoder)
        tern_norm_run(par, x, NULL, x, NULL, NULL, batch->kv.n_rows, (size_t)c->hidden_size, &r->norm);
    tern_forward_keep(par, model, batch, 0, x);
    for (int32_t i = 0; i < r->n_layers; i++) {
        if (tern_forward_stopped(par, model, batch, work))
            return TERN_ERR_CANCELLED;
        TERN_TRY(
            tern_block_run(par, tern_layer_block(r->layers[i].layer), x, &batch->kv, i, &work->block)); /* [T, H] */
        tern_forward_keep(par, model, batch, i + 1, x);
    }
    return tern_head_run(par, &model->head, model, batch, work); /* [n_logits, V] */
}

/* Not in arch_list.h: no file is of this family. */
static const struct tern_arch arch_random = { .family = "random", .forward = forward, .destroy = destroy };

/* ---- numbers ---- */

static uint64_t mix(uint64_t z) /* splitmix64 */
{
    z += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Numbers [begin, begin + n) of a matrix, uniform in offset +- width: two from each word, begin even. */
static void random_values(float *to, uint64_t key, size_t begin, size_t n, float width, float offset)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t word = mix(key + (begin + i) / 2 * 0x9e3779b97f4a7c15);
        const int32_t half = (int32_t)(uint32_t)((begin + i) % 2 ? word >> 32 : word);
        to[i] = offset + width * ((float)half * 0x1p-31f);
    }
}

#define PIECE 256 /* numbers between the generator and their dtype */

struct fill {
    void *to;
    tern_dtype dtype; /* fp32 or bf16 */
    size_t n;
    uint64_t key;
    float width;
};

static void fill_region(void *arg, const struct tern_par *par)
{
    const struct fill *f = arg;
    float piece[PIECE];
    size_t at, end;

    tern_share(par, f->n, PIECE, &at, &end);
    for (; at < end; at += PIECE) {
        const size_t n = end - at < PIECE ? end - at : PIECE;
        random_values(f->dtype == TERN_FP32 ? (float *)f->to + at : piece, f->key, at, n, f->width, 0);
        if (f->dtype != TERN_FP32)
            par->kernels->bf16_from_f32((uint16_t *)f->to + at, piece, n);
    }
}

/* ---- making it ---- */

struct maker {
    tern_ctx *ctx;
    const tern_model_shape *shape;
    const tern_model_options *options;
    tern_model_dtype dtype;
    tern_dtype raw, packed; /* what numbers are made in, and what they become */
    void *numbers;          /* of the largest matrix */
    size_t numbers_bytes;
    uint64_t key;
    uint64_t done, total; /* packed bytes */
    const tern_comm *comm;
    bool agreed;   /* on an error */
    int64_t words; /* of the vocabulary here */
};

/* Columns of the first and the third product of a layer, where `ranks` share it. */
static int64_t qkv_columns(const tern_model_shape *s, int ranks)
{
    return ((int64_t)s->hidden_size + 2 * (int64_t)s->kv_heads * (s->hidden_size / s->heads)) / ranks;
}

static int64_t up_columns(const tern_model_shape *s, int ranks)
{
    return (s->activation == TERN_GATED_GELU || s->activation == TERN_GATED_SILU ? 2 : 1) *
           ((int64_t)s->intermediate_size / ranks);
}

static uint64_t matrix_bytes(tern_dtype dtype, int64_t in, int64_t out)
{
    const uint64_t size = tern_dtype_size(dtype), panels = ((uint64_t)out + TERN_PANEL - 1) / TERN_PANEL;
    const uint64_t per =
        4 / size; /* elements of K come in whole words; fp16 in single ones, which is at most as much */

    return panels * TERN_PANEL * (((uint64_t)in + per - 1) / per * per * size + (dtype == TERN_INT8 ? 8 : 0));
}

/* Packed bytes of all matrices. */
static uint64_t total_bytes(const struct maker *m)
{
    const tern_model_shape *s = m->shape;
    const int ranks = m->comm->size;
    const int64_t H = s->hidden_size;
    const uint64_t layer = matrix_bytes(m->packed, H, qkv_columns(s, ranks)) + matrix_bytes(m->packed, H / ranks, H) +
                           matrix_bytes(m->packed, H, up_columns(s, ranks)) +
                           matrix_bytes(m->packed, s->intermediate_size / ranks, H);

    return (uint64_t)s->n_layers * layer + (s->tied_embeddings ? 1 : 2) * matrix_bytes(m->packed, H, m->words);
}

static tern_status report(struct maker *m)
{
    const tern_model_options *o = m->options;

    TERN_REQUIRE(m->ctx, !o->progress || o->progress(o->user, m->done < m->total ? m->done : m->total, m->total),
                 TERN_ERR_CANCELLED, "%s: making it was cancelled after %" PRIu64 " of %" PRIu64 " bytes",
                 m->shape->name, m->done, m->total);
    return TERN_OK;
}

/* A matrix [in, out] of numbers whose variance is variance / in, another one on every rank. */
static tern_status make_matrix(struct maker *m, int64_t in, int64_t out, double variance, tern_weight **weight)
{
    const tern_tensor view = tern_tensor_view(m->numbers, m->raw, 2, (int64_t[]){ in, out });
    struct fill f = { .to = m->numbers,
                      .dtype = m->raw,
                      .n = (size_t)(in * out),
                      .key = mix(mix(m->key++) + (uint64_t)m->comm->rank),
                      .width = (float)sqrt(3 * variance / (double)in) };

    TERN_TRY(tern_region(m->ctx, fill_region, &f));
    TERN_TRY(tern_weight_pack_as(m->ctx, &view, false, m->packed, NULL, weight));
    m->done += tern_weight_bytes(*weight);
    return report(m);
}

/* A vector of n numbers around `offset`, the same on every rank. */
static tern_tensor make_vector(struct maker *m, float *to, int64_t n, float width, float offset)
{
    random_values(to, mix(m->key++), 0, (size_t)n, width, offset);
    return tern_tensor_view(to, TERN_FP32, 1, &n);
}

static tern_status make_layer(struct maker *m, const tern_model_config *c, int32_t index, struct random_layer *l,
                              float *vectors)
{
    const tern_model_shape *s = m->shape;
    const int ranks = m->comm->size;
    const int64_t H = s->hidden_size, I = s->intermediate_size;
    const int64_t qkv = qkv_columns(s, ranks), up = up_columns(s, ranks);
    const double end = 0.5 / s->n_layers / ranks; /* ranks' parts of a sum add up */
    const bool beta = s->norm_type == TERN_LAYER_NORM;
    tern_layer_weights w = tern_layer_weights_none();
    tern_config config = tern_config_from_model(c, index);

    TERN_TRY(make_matrix(m, H, qkv, 1, &l->qkv));
    TERN_TRY(make_matrix(m, H / ranks, H, end, &l->attn_out));
    TERN_TRY(make_matrix(m, H, up, 1, &l->up));
    TERN_TRY(make_matrix(m, I / ranks, H, end, &l->down));
    w.attn_qkvw = tern_weight_view(l->qkv);
    w.attn_ow = tern_weight_view(l->attn_out);
    w.inter_w = tern_weight_view(l->up);
    w.output_w = tern_weight_view(l->down);
    w.norm_w = make_vector(m, vectors, H, 0.1f, 1);
    w.attn_nw = make_vector(m, vectors += H, H, 0.1f, 1);
    if (beta) {
        w.norm_b = make_vector(m, vectors += H, H, 0.1f, 0);
        w.attn_nb = make_vector(m, vectors += H, H, 0.1f, 0);
    }
    if (s->biases) {
        w.attn_qkvb = make_vector(m, vectors += H, qkv, 0.1f, 0);
        w.attn_ob = make_vector(m, vectors += qkv, H, 0.1f, 0);
        w.inter_b = make_vector(m, vectors += H, up, 0.1f, 0);
        w.output_b = make_vector(m, vectors += up, H, 0.1f, 0);
    }
    config.pre_layer_norm = !s->encoder;
    config.triangular_masking = !s->encoder;
    config.rotary_dim = s->rotary_dim;
    config.rotate_half = s->rotary_dim > 0;
    if (s->rotary_dim > 0)
        config.rope_theta = s->rope_theta;
    config.mp_size = ranks;
    return tern_layer_create(m->ctx, &config, m->comm, NULL, &w, &l->layer);
}

static tern_status make_ends(struct maker *m, struct random_model *r)
{
    const tern_model_shape *s = m->shape;
    const int64_t H = s->hidden_size, V = m->words;
    const size_t positions = s->rotary_dim > 0 ? 0 : (size_t)s->n_context * (size_t)H;

    /* A row of a tied table has the size of a head's column; one that is not tied that of a normed row. */
    TERN_TRY(make_matrix(m, H, V, s->tied_embeddings ? 1 : (double)H, &r->embed));
    if (!s->tied_embeddings)
        TERN_TRY(make_matrix(m, H, V, 1, &r->head));
    TERN_TRY(TERN_ALLOC(m->ctx, positions + 2 * (size_t)H, "vectors of a model", &r->vectors));
    r->norm_w = r->vectors;
    make_vector(m, r->norm_w, H, 0.1f, 1);
    if (s->norm_type == TERN_LAYER_NORM) {
        r->norm_b = r->vectors + H;
        make_vector(m, r->norm_b, H, 0.1f, 0);
    }
    if (positions) {
        r->positions = r->vectors + 2 * H;
        random_values(r->positions, mix(m->key++), 0, positions, (float)(1 / sqrt((double)H)), 0);
    }
    return TERN_OK;
}

static void take_stats(tern_model *model, const struct random_model *r, const struct maker *m)
{
    const tern_model_shape *s = m->shape;
    const int ranks = m->comm->size;
    const int64_t H = s->hidden_size, vectors = (s->norm_type == TERN_LAYER_NORM ? 2 : 1) * H;
    const int64_t qkv = qkv_columns(s, ranks), up = up_columns(s, ranks);
    const int64_t biases = s->biases ? qkv + 2 * H + up : 0;
    tern_model_stats *stats = &model->stats;

    stats->head_bytes = tern_weight_bytes(model->head.out) + (uint64_t)vectors * sizeof(float);
    for (int32_t i = 0; i < r->n_layers; i++) {
        const struct random_layer *l = &r->layers[i];
        stats->layer_bytes += tern_weight_bytes(l->qkv) + tern_weight_bytes(l->attn_out) + tern_weight_bytes(l->up) +
                              tern_weight_bytes(l->down) + (uint64_t)(2 * vectors + biases) * sizeof(float);
    }
    stats->packed_bytes = stats->layer_bytes + stats->head_bytes + (r->head ? tern_weight_bytes(r->embed) : 0) +
                          (r->positions ? (uint64_t)s->n_context * (uint64_t)H * sizeof(float) : 0);
    stats->layer_weights =
        (uint64_t)s->n_layers * (uint64_t)H * (uint64_t)(qkv + H / ranks + up + s->intermediate_size / ranks);
    stats->head_weights = (uint64_t)H * (uint64_t)m->words;
    stats->n_parameters = stats->layer_weights + (r->head ? 2 : 1) * stats->head_weights + (uint64_t)vectors +
                          (uint64_t)s->n_layers * (uint64_t)(2 * vectors + biases) +
                          (r->positions ? (uint64_t)s->n_context * (uint64_t)H : 0);
}

/* What tern_layer_create() does not look at itself. */
static tern_status check(tern_ctx *ctx, const tern_model_shape *s)
{
    const struct {
        const char *name;
        int64_t value, low, high;
    } sizes[] = {
        { "n_layers", s->n_layers, 1, 1 << 14 },     { "hidden_size", s->hidden_size, 1, 1 << 20 },
        { "heads", s->heads, 1, 1 << 20 },           { "kv_heads", s->kv_heads, 1, 1 << 20 },
        { "vocab_size", s->vocab_size, 1, 1 << 24 }, { "intermediate_size", s->intermediate_size, 1, 1 << 22 },
        { "n_context", s->n_context, 1, 1 << 24 },   { "rotary_dim", s->rotary_dim, 0, 512 },
    };

    TERN_REQUIRE(ctx, s->name && *s->name, TERN_ERR_ARG, "model_create_random: the shape has no name");
    TERN_TRY(TERN_CHECK_RESERVED(ctx, "model_create_random", s));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        TERN_REQUIRE(ctx, sizes[i].value >= sizes[i].low && sizes[i].value <= sizes[i].high, TERN_ERR_CONFIG,
                     "%s: %s is %" PRId64 ", expected %" PRId64 "..%" PRId64, s->name, sizes[i].name, sizes[i].value,
                     sizes[i].low, sizes[i].high);
    TERN_REQUIRE(ctx, s->hidden_size % s->heads == 0, TERN_ERR_CONFIG,
                 "%s: hidden_size is %" PRId32 ", expected a multiple of heads, %" PRId32, s->name, s->hidden_size,
                 s->heads);
    TERN_REQUIRE(ctx, s->heads % s->kv_heads == 0, TERN_ERR_CONFIG,
                 "%s: heads is %" PRId32 ", expected a multiple of kv_heads, %" PRId32, s->name, s->heads, s->kv_heads);
    return TERN_OK;
}

static void fill_config(tern_model_config *c, const tern_model_shape *s, tern_model_dtype dtype, tern_dtype packed)
{
    snprintf(c->family, sizeof c->family, "%s", arch_random.family);
    snprintf(c->architecture, sizeof c->architecture, "%s", s->name);
    c->vocab_size = s->vocab_size;
    c->n_context = s->n_context;
    c->n_layers = s->n_layers;
    c->hidden_size = s->hidden_size;
    c->intermediate_size = s->intermediate_size;
    c->heads = s->heads;
    c->kv_heads = s->kv_heads;
    c->head_dim = s->hidden_size / s->heads;
    c->norm_eps = s->norm_eps;
    c->norm_type = s->norm_type;
    c->activation = s->activation;
    c->gelu = s->gelu;
    c->tied_embeddings = s->tied_embeddings;
    c->scale_attention = true;
    c->dtype = c->weight_dtype = packed;
    c->model_dtype = dtype;
    c->row_dtype = tern_model_row_dtype(dtype);
    c->bos_id = -1;
}

/* Ranks of one host each see all of its memory: what is left to make has to fit in what the others have left by now. */
static tern_status check_memory(const struct maker *m, uint64_t more)
{
    const uint64_t left = m->done < m->total ? m->total - m->done : 0, there = tern_memory_available();

    TERN_REQUIRE(
        m->ctx, left + more <= there, TERN_ERR_MEMORY,
        "%s: as %s %s %" PRIu64 " MB, and making them %" PRIu64 " MB more; %" PRIu64 " MB of memory are available",
        m->shape->name, tern_model_dtype_name(m->dtype), m->done ? "the rest of its weights takes" : "its weights take",
        left / 1000000, more / 1000000, there / 1000000);
    return TERN_OK;
}

/* Ranks hear of an error while they make their parts: one that fails alone, or is cancelled, is not waited for. */
static tern_status agree(struct maker *m, tern_status status)
{
    status = tern_agree(m->ctx, m->comm, status);
    m->agreed = status != TERN_OK;
    return status;
}

static tern_status make(struct maker *m, tern_model *model)
{
    const tern_model_shape *s = m->shape;
    const int64_t H = s->hidden_size;
    const int ranks = m->comm->size;
    const size_t vectors = (size_t)(6 * H + qkv_columns(s, ranks) + up_columns(s, ranks));
    struct random_model *r;
    float *scratch = NULL;
    tern_status status;

    TERN_TRY(TERN_ALLOC(m->ctx, 1, "a model", &r));
    model->weights = r;
    r->encoder = s->encoder;
    r->n_layers = s->n_layers;
    TERN_TRY(TERN_ALLOC(m->ctx, (size_t)s->n_layers, "the layers of a model", &r->layers));
    TERN_TRY(TERN_ALLOC(m->ctx, (size_t)s->n_layers, "the blocks of a model", &model->blocks));
    TERN_TRY(report(m));
    TERN_TRY(agree(m, make_ends(m, r)));
    TERN_TRY(TERN_ALLOC(m->ctx, vectors, "vectors of a layer", &scratch));
    for (int32_t i = 0; i < s->n_layers; i++) {
        status = check_memory(m, 0);
        if (status == TERN_OK)
            status = make_layer(m, &model->config, i, &r->layers[i], scratch);
        TERN_TRY_OR_FAIL(agree(m, status));
    }
    r->norm = (struct tern_norm_args){ s->norm_type, r->norm_w, r->norm_b, s->norm_eps };
    model->head = (struct tern_head){ .norm = r->encoder ? NULL : &r->norm, .out = r->head ? r->head : r->embed };
    for (int32_t i = 0; i < model->config.n_layers; i++)
        model->blocks[i] = tern_layer_block(r->layers[i].layer);
    if (ranks > 1) {
        model->head.comm = m->comm;
        model->head.words = s->vocab_size;
        model->head.most = model->shards.most_words;
    }
    take_stats(model, r, m);
    status = agree(m, tern_model_list_products(m->ctx, model));

fail:
    tern_free(scratch);
    return status;
}

/* Ranks have equal shares: nothing else is to be measured with numbers at random. */
static tern_status check_ranks(tern_ctx *ctx, const tern_model_shape *s, const tern_comm *comm)
{
    TERN_REQUIRE(ctx,
                 s->heads % comm->size == 0 && s->kv_heads % comm->size == 0 && s->intermediate_size % comm->size == 0,
                 TERN_ERR_UNSUPPORTED,
                 "%s: %d ranks share %" PRId32 " heads, %" PRId32 " of keys and values, and %" PRId32
                 " channels of a feed-forward, expected a divisor of all",
                 s->name, comm->size, s->heads, s->kv_heads, s->intermediate_size);
    return TERN_OK;
}

/* What a rank does alone. */
static tern_status make_here(struct maker *m, tern_model_dtype dtype, tern_model *model)
{
    const tern_model_shape *s = m->shape;
    tern_ctx *ctx = m->ctx;
    tern_status status;

    TERN_TRY(TERN_CHECK_RESERVED(ctx, "model_create_random", m->options));
    TERN_REQUIRE(ctx, tern_model_is_dtype(dtype), TERN_ERR_ARG,
                 "model_create_random: dtype is %d, expected auto 0, fp32 1, bf16 2, fp16 3 or int8 4", (int)dtype);
    TERN_TRY(check(ctx, s));
    TERN_TRY(check_ranks(ctx, s, m->comm));
    static const tern_dtype packed[] = { [TERN_MODEL_FP32] = TERN_FP32,
                                         [TERN_MODEL_BF16] = TERN_BF16,
                                         [TERN_MODEL_FP16] = TERN_FP16,
                                         [TERN_MODEL_INT8] = TERN_INT8 };
    m->dtype = dtype;
    m->packed = packed[dtype];
    model->arch = &arch_random;
    fill_config(&model->config, s, dtype, m->packed);
    TERN_TRY(tern_shards_make(ctx, &model->config, &model->spec, m->comm, &model->shards));
    m->words = model->shards.vocabulary.count;

    const int ranks = m->comm->size;
    const int64_t wide = up_columns(s, ranks) > qkv_columns(s, ranks) ? up_columns(s, ranks) : qkv_columns(s, ranks);
    const int64_t largest = wide > m->words ? wide : m->words;
    m->raw = m->packed == TERN_FP32 ? TERN_FP32 : TERN_BF16;
    m->numbers_bytes = (size_t)s->hidden_size * (size_t)largest * tern_dtype_size(m->raw);
    m->total = total_bytes(m);
    TERN_TRY(check_memory(m, m->numbers_bytes));
    TERN_TRY(tern_pages_alloc(ctx, m->numbers_bytes, "numbers of a matrix", &m->numbers));
    TERN_TRY_OR_FAIL(tern_strndup(ctx, s->name, strlen(s->name), "the name of a model", &model->path));
    status = make(m, model);

fail:
    tern_pages_free(m->numbers, m->numbers_bytes);
    return status;
}

tern_status tern_model_create_random(tern_ctx *ctx, const tern_model_shape *shape, const tern_model_options *options,
                                     tern_model **out)
{
    const tern_model_options standard = tern_model_options_default();
    struct maker m = { .ctx = ctx, .shape = shape, .options = options ? options : &standard };
    tern_model *model = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "model_create_random: out is NULL, expected a place for the model");
    *out = NULL;
    TERN_REQUIRE(ctx, ctx && shape, TERN_ERR_ARG, "model_create_random: %s is NULL", ctx ? "shape" : "ctx");

    const double start = tern_machine_seconds();
    m.comm = m.options->comm ? m.options->comm : tern_comm_self();
    TERN_TRY(tern_group_check(ctx, "model_create_random", m.comm));
    status = tern_group_model(ctx, m.comm, &model);
    if (status == TERN_OK)
        status = make_here(&m, m.options->dtype == TERN_MODEL_AUTO ? TERN_MODEL_FP32 : m.options->dtype, model);
    if (!m.agreed)
        status = tern_agree(ctx, m.comm, status);
    if (status != TERN_OK)
        goto fail;
    model->stats.load_seconds = tern_machine_seconds() - start;
    if (model->group)
        model->group->mute = false;
    *out = model;
    return TERN_OK;

fail:
    tern_model_close(&model);
    return status;
}
