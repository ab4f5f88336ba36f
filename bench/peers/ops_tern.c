/* ops_tern.c: norms, activations, sums, attention and a feed-forward of tern.  Attention is that of a model: rows of queries, keys and
 * values, which go into a cache that is kept in the dtype of the rows. */
#include "peer.h"

#include <tern/tern.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state {
    struct peer_case c;
    tern_ctx *ctx;
    tern_config config;
    tern_dtype dtype;
    size_t row, bytes; /* elements of a row of y; bytes of y */
    /* rows: slots of x, z where it is read, y, one behind the other; the others: y alone */
    unsigned char *slots;
    size_t slot;
    void *inputs[11]; /* by enum peer_input */
    /* attention */
    tern_kv_cache *cache;
    tern_kv_span span;
    void *qkv;
    /* mlp */
    tern_weight **up, **down; /* [copies] */
    tern_mlp **blocks;
    void *zeros;
};

const char *peer_name(void)
{
    static char name[64];

    snprintf(name, sizeof(name), "tern %s", tern_version());
    return name;
}

static void fail(const char *text)
{
    fprintf(stderr, "tern: %s\n", text);
    exit(1);
}

static void check(const struct state *s, tern_status status)
{
    if (status)
        fail(tern_error(s->ctx));
}

static void *take_values(struct state *s, enum peer_input input, size_t count)
{
    void *data = peer_take(count * sizeof(float));

    peer_values(data, s->c.dtype, input, count);
    s->inputs[input] = data;
    return data;
}

static tern_tensor vector(struct state *s, enum peer_input input, int count)
{
    return tern_tensor_view(s->inputs[input], s->dtype, 1, (int64_t[]){ count });
}

static void open_rows(struct state *s)
{
    const size_t reads = s->c.op == PEER_ADD ? 2 : 1;

    take_values(s, PEER_GAMMA, s->row);
    take_values(s, PEER_BETA, s->row);
    s->slot = (reads + 1) * s->bytes;
    s->slots = peer_take(s->c.copies * s->slot);
    for (size_t i = 0; i < s->c.copies; i++)
        for (size_t j = 0; j < reads; j++)
            peer_values(s->slots + i * s->slot + j * s->bytes, s->c.dtype, j ? PEER_Z : PEER_X,
                        (size_t)s->c.m * s->row);
}

static void open_attention(struct state *s)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = s->c.n,
                                  .head_dim = PEER_HEAD,
                                  .n_positions = s->c.m,
                                  .n_sequences = 1,
                                  .n_context = s->c.m,
                                  .dtype = s->dtype };
    const size_t size = tern_dtype_size(s->dtype), row = s->row * size;

    s->slots = peer_take(s->bytes);
    s->qkv = peer_take(3 * s->bytes);
    for (int i = 0; i < 3; i++) {
        const unsigned char *from = take_values(s, (enum peer_input)(PEER_Q + i), (size_t)s->c.m * s->row);
        for (size_t m = 0; m < (size_t)s->c.m; m++)
            memcpy((unsigned char *)s->qkv + (3 * m + (size_t)i) * row, from + m * row, row);
    }
    s->config.heads = s->c.n;
    s->config.hidden_size = s->c.n * PEER_HEAD;
    s->config.triangular_masking = s->c.k != 0;
    check(s, tern_kv_cache_create(s->ctx, &shape, &s->cache));
    check(s, tern_kv_sequence_add(s->ctx, s->cache, &s->span.sequence));
    s->span.n_rows = s->c.m;
    check(s, tern_kv_reserve(s->ctx, s->cache, &s->span, 1));
}

/* [rows, columns] of an input, packed. */
static tern_weight *pack(struct state *s, enum peer_input input, int rows, int columns)
{
    const tern_tensor raw = tern_tensor_view(s->inputs[input], s->dtype, 2, (int64_t[]){ rows, columns });
    tern_weight *w;

    check(s, tern_weight_pack_as(s->ctx, &raw, false, s->dtype, NULL, &w));
    return w;
}

static void open_mlp(struct state *s)
{
    const int h = s->c.k, inner = s->c.n;

    s->slots = peer_take(s->bytes);
    s->zeros = peer_take(s->bytes);
    memset(s->zeros, 0, s->bytes);
    take_values(s, PEER_X, (size_t)s->c.m * (size_t)h);
    take_values(s, PEER_GAMMA, (size_t)h);
    take_values(s, PEER_BETA, (size_t)h);
    take_values(s, PEER_B1, (size_t)inner);
    take_values(s, PEER_B2, (size_t)h);
    take_values(s, PEER_W1, (size_t)h * (size_t)inner);
    take_values(s, PEER_W2, (size_t)h * (size_t)inner);
    s->config.hidden_size = h;
    s->config.intermediate_size = inner;
    s->config.heads = 1;
    s->config.gelu = TERN_GELU_TANH;
    s->config.layer_norm_eps = PEER_EPS;
    s->up = calloc(s->c.copies, sizeof(*s->up));
    s->down = calloc(s->c.copies, sizeof(*s->down));
    s->blocks = calloc(s->c.copies, sizeof(*s->blocks));
    if (!s->up || !s->down || !s->blocks)
        fail("out of memory for a case");
    for (size_t i = 0; i < s->c.copies; i++) {
        tern_layer_weights w = tern_layer_weights_none();

        s->up[i] = pack(s, PEER_W1, h, inner);
        s->down[i] = pack(s, PEER_W2, inner, h);
        w.attn_nw = vector(s, PEER_GAMMA, h);
        w.attn_nb = vector(s, PEER_BETA, h);
        w.inter_w = tern_weight_view(s->up[i]);
        w.inter_b = vector(s, PEER_B1, inner);
        w.output_w = tern_weight_view(s->down[i]);
        w.output_b = vector(s, PEER_B2, h);
        check(s, tern_mlp_create(s->ctx, &s->config, NULL, NULL, &w, &s->blocks[i]));
    }
}

void *peer_open(const struct peer_case *c)
{
    tern_ctx_options options = tern_ctx_options_default();
    struct state *s;
    char message[256];

    if (c->op == PEER_GEMM || c->dtype == PEER_INT8)
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s)
        fail("out of memory for a case");
    s->c = *c;
    s->dtype = c->dtype == PEER_BF16 ? TERN_BF16 : TERN_FP32;
    s->row = (size_t)peer_columns(c);
    s->bytes = (size_t)c->m * s->row * tern_dtype_size(s->dtype);
    options.n_threads = c->threads;
    if (tern_ctx_create(&s->ctx, &options, message, sizeof(message)))
        fail(message);
    s->config = tern_config_default();
    s->config.dtype = s->dtype;
    if (c->op == PEER_ATTENTION)
        open_attention(s);
    else if (c->op == PEER_MLP)
        open_mlp(s);
    else
        open_rows(s);
    return s;
}

static tern_status run_rows(struct state *s, size_t copy)
{
    unsigned char *at = s->slots + copy * s->slot;
    const int64_t dim[4] = { 1, 1, s->c.m, s->c.n };
    const bool scores = s->c.op == PEER_SOFTMAX;
    const tern_tensor x = tern_tensor_view(at, s->dtype, scores ? 4 : 2, scores ? dim : dim + 2),
                      z = tern_tensor_view(at + s->bytes, s->dtype, 2, dim + 2), gamma = vector(s, PEER_GAMMA, s->c.n),
                      beta = vector(s, PEER_BETA, s->c.n);
    tern_tensor y = tern_tensor_view(at + s->slot - s->bytes, s->dtype, scores ? 4 : 2, scores ? dim : dim + 2);

    switch (s->c.op) {
    case PEER_LAYER_NORM:
        return tern_layer_norm(s->ctx, &x, &gamma, &beta, PEER_EPS, &y);
    case PEER_RMS_NORM:
        return tern_rms_norm(s->ctx, &x, &gamma, PEER_EPS, &y);
    case PEER_SOFTMAX:
        return tern_softmax(s->ctx, &s->config, NULL, &x, NULL, NULL, &y);
    case PEER_ADD:
        return tern_residual_add(s->ctx, &s->config, &x, &z, NULL, NULL, NULL, NULL, &y);
    default:
        return tern_gelu(s->ctx, &x, s->c.op == PEER_GELU_ERF ? TERN_GELU_ERF : TERN_GELU_TANH, &y);
    }
}

void peer_run(void *state, size_t copy)
{
    struct state *s = state;
    const int64_t dim[2] = { s->c.m, (int64_t)s->row };

    if (s->c.op == PEER_ATTENTION) {
        tern_tensor y = tern_tensor_view(s->slots, s->dtype, 2, dim);
        tern_tensor qkv = tern_tensor_view(s->qkv, s->dtype, 2, (int64_t[]){ dim[0], 3 * dim[1] });
        check(s, tern_softmax_context(s->ctx, &s->config, NULL, &qkv, NULL, NULL, s->cache, 0, &s->span, 1, &y));
    } else if (s->c.op == PEER_MLP) {
        tern_tensor y = tern_tensor_view(s->slots, s->dtype, 2, dim);
        const tern_tensor x = tern_tensor_view(s->inputs[PEER_X], s->dtype, 2, dim),
                          zeros = tern_tensor_view(s->zeros, s->dtype, 2, dim);
        check(s, tern_mlp_forward(s->ctx, s->blocks[copy], &x, &zeros, NULL, NULL, &y));
    } else
        check(s, run_rows(s, copy));
}

double peer_result(void *state, size_t copy, int row, int column)
{
    const struct state *s = state;
    const size_t at = (size_t)row * s->row + (size_t)column;
    const void *y = s->slot ? s->slots + (copy + 1) * s->slot - s->bytes : s->slots;

    return s->c.dtype == PEER_BF16 ? peer_from_bf16(((const uint16_t *)y)[at]) : ((const float *)y)[at];
}

void peer_close(void *state)
{
    struct state *s = state;

    for (size_t i = 0; s->blocks && i < s->c.copies; i++) {
        tern_mlp_destroy(&s->blocks[i]);
        tern_weight_destroy(&s->up[i]);
        tern_weight_destroy(&s->down[i]);
    }
    free(s->blocks);
    free(s->up);
    free(s->down);
    tern_kv_cache_destroy(&s->cache);
    for (size_t i = 0; i < sizeof(s->inputs) / sizeof(s->inputs[0]); i++)
        peer_give(s->inputs[i]);
    peer_give(s->slots);
    peer_give(s->qkv);
    peer_give(s->zeros);
    tern_ctx_destroy(&s->ctx);
    free(s);
}

int peer_ceilings(int threads, double ops[3], double *read)
{
    (void)threads, (void)ops, (void)read; /* gemm_tern.c measures them */
    return 0;
}
