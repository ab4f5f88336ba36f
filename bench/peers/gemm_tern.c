/* gemm_tern.c: tern_linear() with packed weights.  int8 is W8A8: rows come in fp32 and are quantised, results are scaled, within the
 * time that is measured. */
#include "peer.h"

#include <tern/tern.h>

#include <stdio.h>
#include <stdlib.h>

struct state {
    struct peer_case c;
    tern_ctx *ctx;
    tern_config config;
    tern_weight **copies;
    tern_tensor x, y;
};

const char *peer_name(void)
{
    static char name[64];

    snprintf(name, sizeof(name), "tern %s", tern_version());
    return name;
}

static tern_ctx *open_context(int threads)
{
    tern_ctx_options options = tern_ctx_options_default();
    tern_ctx *ctx;
    char message[256];

    options.n_threads = threads;
    if (tern_ctx_create(&ctx, &options, message, sizeof(message))) {
        fprintf(stderr, "tern: %s\n", message);
        exit(1);
    }
    return ctx;
}

static void check(const struct state *s, tern_status status)
{
    if (status) {
        fprintf(stderr, "tern: %s\n", tern_error(s->ctx));
        exit(1);
    }
}

void *peer_open(const struct peer_case *c)
{
    static const tern_dtype dtypes[] = { TERN_FP32, TERN_BF16, TERN_INT8 };
    const tern_dtype rows = c->dtype == PEER_BF16 ? TERN_BF16 : TERN_FP32;
    const enum peer_dtype as = c->dtype == PEER_BF16 ? PEER_BF16 : PEER_FP32;
    const size_t count = (size_t)c->k * (size_t)c->n, n = (size_t)c->n, m = (size_t)c->m;
    const int64_t w_dim[2] = { c->k, c->n }, x_dim[2] = { c->m, c->k }, y_dim[2] = { c->m, c->n };
    struct state *s = calloc(1, sizeof(*s));
    void *raw = peer_take(count * sizeof(float));
    float *scales = peer_take(n * sizeof(*scales));
    tern_tensor w, scale = tern_tensor_view(scales, TERN_FP32, 1, y_dim + 1);

    if (!s)
        exit(1);
    s->c = *c;
    s->ctx = open_context(c->threads);
    s->config = tern_config_default();
    s->config.dtype = dtypes[c->dtype];
    s->config.activation_dtype = rows;
    s->config.activation_quant = c->dtype == PEER_INT8 ? TERN_QUANT_ROW : TERN_QUANT_NONE;
    for (size_t i = 0; i < n; i++)
        scales[i] = 1;
    if (c->dtype == PEER_INT8)
        w = tern_tensor_view((void *)c->w, TERN_INT8, 2, w_dim);
    else {
        peer_fill(raw, PEER_FP32, c->w, count);
        w = tern_tensor_view(raw, TERN_FP32, 2, w_dim);
    }
    s->copies = calloc(c->copies, sizeof(*s->copies));
    if (!s->copies)
        exit(1);
    for (size_t i = 0; i < c->copies; i++)
        check(s, tern_weight_pack_as(s->ctx, &w, false, dtypes[c->dtype], c->dtype == PEER_INT8 ? &scale : NULL,
                                     &s->copies[i]));
    peer_give(raw);
    peer_give(scales);
    s->x = tern_tensor_view(peer_take(m * (size_t)c->k * sizeof(float)), rows, 2, x_dim);
    s->y = tern_tensor_view(peer_take(m * n * sizeof(float)), rows, 2, y_dim);
    peer_fill(s->x.data, as, c->x, m * (size_t)c->k);
    return s;
}

void peer_run(void *state, size_t copy)
{
    struct state *s = state;
    const tern_tensor w = tern_weight_view(s->copies[copy]);

    check(s, tern_linear(s->ctx, &s->config, &s->x, &w, NULL, &s->y));
}

double peer_result(void *state, size_t copy, int row, int column)
{
    const struct state *s = state;
    const size_t at = (size_t)row * (size_t)s->c.n + (size_t)column;

    (void)copy; /* all write to one place */
    return s->c.dtype == PEER_BF16 ? peer_from_bf16(((const uint16_t *)s->y.data)[at]) : ((const float *)s->y.data)[at];
}

void peer_close(void *state)
{
    struct state *s = state;

    for (size_t i = 0; i < s->c.copies; i++)
        tern_weight_destroy(&s->copies[i]);
    free(s->copies);
    peer_give(s->x.data);
    peer_give(s->y.data);
    tern_ctx_destroy(&s->ctx);
    free(s);
}

int peer_ceilings(int threads, double ops[3], double *read)
{
    tern_ctx *ctx = open_context(threads);
    tern_ceilings c;
    const tern_status status = tern_ceilings_measure(ctx, &c);

    tern_ctx_destroy(&ctx);
    if (status)
        return 0;
    ops[0] = c.fp32.team;
    ops[1] = c.bf16.team;
    ops[2] = c.int8.team;
    *read = c.read.team;
    return 1;
}
