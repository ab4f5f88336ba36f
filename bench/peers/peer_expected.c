/* peer_expected.c: the definitions of what is timed, one number at a time, in double. */
#include "peer.h"

#include <math.h>
#include <stdlib.h>

static double gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

/* (x - mean) / sqrt(var + eps) of row `row` of PEER_X, [n]; without_mean: x / sqrt(mean(x^2) + eps). */
static void normed(double *out, int row, int n, int without_mean)
{
    double mean = 0, var = 0;

    for (int i = 0; i < n; i++) {
        out[i] = peer_value(PEER_X, (size_t)row * (size_t)n + (size_t)i);
        mean += without_mean ? 0 : out[i] / n;
    }
    for (int i = 0; i < n; i++)
        var += (out[i] - mean) * (out[i] - mean) / n;
    for (int i = 0; i < n; i++)
        out[i] = (out[i] - mean) / sqrt(var + (double)PEER_EPS);
}

static double *numbers(int n)
{
    double *x = malloc((size_t)n * sizeof(*x));

    if (!x)
        exit(1);
    return x;
}

static double norm_expected(const struct peer_case *c, int row, int column)
{
    const int rms = c->op == PEER_RMS_NORM;
    double *x = numbers(c->n);

    normed(x, row, c->n, rms);
    const double y =
        x[column] * peer_value(PEER_GAMMA, (size_t)column) + (rms ? 0 : peer_value(PEER_BETA, (size_t)column));
    free(x);
    return y;
}

static double softmax_expected(const struct peer_case *c, int row, int column)
{
    const size_t first = (size_t)row * (size_t)c->n;
    double sum = 0;

    for (int i = 0; i < c->n; i++)
        sum += exp((double)peer_value(PEER_X, first + (size_t)i));
    return exp((double)peer_value(PEER_X, first + (size_t)column)) / sum;
}

static double attention_expected(const struct peer_case *c, int row, int column)
{
    const size_t width = (size_t)c->n * PEER_HEAD, head = (size_t)(column / PEER_HEAD) * PEER_HEAD;
    double sum = 0, y = 0;

    for (int j = 0; j < (c->k ? row + 1 : c->m); j++) {
        double score = 0;

        for (size_t e = 0; e < PEER_HEAD; e++)
            score += (double)peer_value(PEER_Q, (size_t)row * width + head + e) *
                     peer_value(PEER_K, (size_t)j * width + head + e);
        const double p = exp(score / 8);
        sum += p;
        y += p * peer_value(PEER_V, (size_t)j * width + (size_t)column);
    }
    return y / sum;
}

static double mlp_expected(const struct peer_case *c, int row, int column)
{
    const size_t k = (size_t)c->k, n = (size_t)c->n;
    double *x = numbers(c->k), *inner = numbers(c->n);
    double y = peer_value(PEER_X, (size_t)row * k + (size_t)column) + peer_value(PEER_B2, (size_t)column);

    normed(x, row, c->k, 0);
    for (size_t j = 0; j < n; j++)
        inner[j] = peer_value(PEER_B1, j);
    for (size_t i = 0; i < k; i++) {
        const double z = x[i] * peer_value(PEER_GAMMA, i) + peer_value(PEER_BETA, i);
        for (size_t j = 0; j < n; j++)
            inner[j] += z * peer_value(PEER_W1, i * n + j);
    }
    for (size_t j = 0; j < n; j++)
        y += gelu_tanh(inner[j]) * peer_value(PEER_W2, j * k + (size_t)column);
    free(x);
    free(inner);
    return y;
}

double peer_expected(const struct peer_case *c, int row, int column)
{
    const size_t at = (size_t)row * (size_t)c->n + (size_t)column;
    const double x = peer_value(PEER_X, at);

    switch (c->op) {
    case PEER_LAYER_NORM:
    case PEER_RMS_NORM:
        return norm_expected(c, row, column);
    case PEER_SOFTMAX:
        return softmax_expected(c, row, column);
    case PEER_GELU_TANH:
        return gelu_tanh(x);
    case PEER_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case PEER_ADD:
        return x + peer_value(PEER_Z, at);
    case PEER_ATTENTION:
        return attention_expected(c, row, column);
    case PEER_MLP:
        return mlp_expected(c, row, column);
    case PEER_GEMM:
        break;
    }
    return NAN;
}

int peer_columns(const struct peer_case *c)
{
    return c->op == PEER_ATTENTION ? c->n * PEER_HEAD : c->op == PEER_MLP ? c->k : c->n;
}
