/* peer.h: what a library has to offer to be timed beside others; peer.c talks to run.py.
 *
 * A case is one of
 *
 *   gemm        y[m, n] = x[m, k] w[k, n].  x holds whole numbers 0..127, with a 127 in each row, so that a scale of a row is 1; w holds -3..3.
 *               All are exact in every dtype, and so are the sums: below 2^24 for k <= 44000.
 *   layer_norm, rms_norm, softmax, gelu_tanh, gelu_erf    y[m, n] from rows x[m, n]
 *   add         y[m, n] = x[m, n] + z[m, n]
 *   attention   y[m, n 64] of m positions with n heads of 64, causal if k is 1: one sequence, scale 1/8
 *   mlp         y[m, k] = x + gelu_tanh(layer_norm(x) w1 + b1) w2 + b2,  x[m, k], w1[k, n], w2[n, k]
 *
 * Rows and results are fp32 for fp32 and bf16 for bf16; for int8 they are what the library offers.  The numbers of all but gemm are
 * peer_value()'s, exact in bf16.  Inputs that come from memory in a model (weights; rows that another operator wrote) lie `copies` times
 * in memory, more than the caches hold, in the layout that the library likes best: making that is not timed.  peer_take() is memory for
 * them that any library can have: in large pages where the system gives them. */
#ifndef TERN_BENCH_PEER_H
#define TERN_BENCH_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEER_HEAD 64 /* width of a head of attention */
#define PEER_EPS  1e-5f

enum peer_op {
    PEER_GEMM,
    PEER_LAYER_NORM,
    PEER_RMS_NORM,
    PEER_SOFTMAX,
    PEER_GELU_TANH,
    PEER_GELU_ERF,
    PEER_ADD,
    PEER_ATTENTION,
    PEER_MLP
};
enum peer_dtype { PEER_FP32, PEER_BF16, PEER_INT8 };

struct peer_case {
    enum peer_op op;
    enum peer_dtype dtype;
    int k, n, m, threads;
    size_t copies;
    const int8_t *x, *w; /* gemm: [m, k], [k, n]; else NULL */
};

/* What numbers are for. */
enum peer_input { PEER_X, PEER_Z, PEER_Q, PEER_K, PEER_V, PEER_GAMMA, PEER_BETA, PEER_W1, PEER_B1, PEER_W2, PEER_B2 };

/* ---- of each library ---- */

/* "OpenBLAS 0.3.21": one line, static storage. */
const char *peer_name(void);
/* NULL: not offered.  The case stays until peer_close(). */
void *peer_open(const struct peer_case *c);
/* Once, with that copy, finished on return. */
void peer_run(void *state, size_t copy);
/* y[row, column] of the last run, which was with that copy. */
double peer_result(void *state, size_t copy, int row, int column);
void peer_close(void *state);
/* Operations and bytes a second at best, of all threads; 0: does not measure them. */
int peer_ceilings(int threads, double ops[3], double *read);

/* ---- of peer.c ---- */

/* Memory for weights and rows, to be freed with peer_give().  Where there is none the program ends. */
void *peer_take(size_t size);
void peer_give(void *data);
/* x or w of a gemm in fp32 or bf16. */
void peer_fill(void *out, enum peer_dtype dtype, const int8_t *values, size_t count);
double peer_from_bf16(uint16_t bits);

/* Number i of an input: -1.98 to 1.98; the numbers of matrices below 0.04 in size, gamma's around 1. */
float peer_value(enum peer_input input, size_t i);
/* The first `count` of them, in fp32 or bf16. */
void peer_values(void *out, enum peer_dtype dtype, enum peer_input input, size_t count);

/* ---- of peer_expected.c ---- */

/* y[row, column] by the definition, in double.  Not for gemm. */
double peer_expected(const struct peer_case *c, int row, int column);
/* Columns of y. */
int peer_columns(const struct peer_case *c);

#ifdef __cplusplus
}
#endif
#endif
