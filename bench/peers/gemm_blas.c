/* gemm_blas.c: a library with the C interface of BLAS: OpenBLAS, or BLIS where PEER_BLIS is defined.  fp32; weights are rows of [k, n],
 * since there is no packing ahead.  One row is a product of a matrix with a vector. */
#include "peer.h"

#include <cblas.h>
#ifdef PEER_BLIS
#include <blis.h>
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state {
    struct peer_case c;
    float *x, *w, *y;
};

const char *peer_name(void)
{
    static char name[128];

#ifdef PEER_BLIS
    snprintf(name, sizeof(name), "BLIS %s", bli_info_get_version_str());
#else
    char config[128];

    /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    snprintf(config, sizeof(config), "%s", openblas_get_config());
    char *end = strchr(config, ' ');
    end = end ? strchr(end + 1, ' ') : NULL;
    if (end)
        *end = 0;
    snprintf(name, sizeof(name), "%s", config);
#endif
    return name;
}

void *peer_open(const struct peer_case *c)
{
    const size_t count = (size_t)c->k * (size_t)c->n;
    struct state *s;

    if (c->dtype != PEER_FP32)
        return NULL;
#ifdef PEER_BLIS
    bli_thread_set_num_threads(c->threads);
#else
    openblas_set_num_threads(c->threads);
#endif
    s = calloc(1, sizeof(*s));
    if (!s)
        exit(1);
    s->c = *c;
    s->w = peer_take(c->copies * count * sizeof(*s->w));
    s->x = peer_take((size_t)c->m * (size_t)c->k * sizeof(*s->x));
    s->y = peer_take((size_t)c->m * (size_t)c->n * sizeof(*s->y));
    for (size_t i = 0; i < c->copies; i++)
        peer_fill(s->w + i * count, PEER_FP32, c->w, count);
    peer_fill(s->x, PEER_FP32, c->x, (size_t)c->m * (size_t)c->k);
    return s;
}

void peer_run(void *state, size_t copy)
{
    struct state *s = state;
    const int k = s->c.k, n = s->c.n, m = s->c.m;
    const float *w = s->w + copy * (size_t)k * (size_t)n;

    if (m == 1)
        cblas_sgemv(CblasRowMajor, CblasTrans, k, n, 1, w, n, s->x, 1, 0, s->y, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, s->x, k, w, n, 0, s->y, n);
}

double peer_result(void *state, size_t copy, int row, int column)
{
    const struct state *s = state;

    (void)copy; /* all write to one place */
    return s->y[(size_t)row * (size_t)s->c.n + (size_t)column];
}

void peer_close(void *state)
{
    struct state *s = state;

    peer_give(s->w);
    peer_give(s->x);
    peer_give(s->y);
    free(s);
}

int peer_ceilings(int threads, double ops[3], double *read)
{
    (void)threads;
    (void)ops;
    (void)read;
    return 0;
}
