/* gemm_peer.h: what a library has to offer to be timed on products of rows with weights; gemm_peer.c talks to run.py.
 *
 * A case is y[m, n] = x[m, k] w[k, n].  x holds whole numbers 0..127, with a 127 in each row, so that a scale of a row is 1; w holds
 * -3..3.  All are exact in every dtype, and so are the sums: below 2^24 for k <= 44000.  Rows and results are fp32 for fp32 and bf16
 * for bf16; for int8 they are what the library offers.
 *
 * Weights lie `copies` times in memory, more than the caches hold, in the layout that the library likes best: making that is
 * not timed.  peer_take() is memory for them that any library can have: in large pages where the system gives them. */
#ifndef TERN_BENCH_GEMM_PEER_H
#define TERN_BENCH_GEMM_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum peer_dtype { PEER_FP32, PEER_BF16, PEER_INT8 };

struct peer_case {
    enum peer_dtype dtype;
    int k, n, m, threads;
    size_t copies;
    const int8_t *x, *w; /* [m, k], [k, n] */
};

/* ---- of each library ---- */

/* "OpenBLAS 0.3.21": one line, static storage. */
const char *peer_name(void);
/* NULL: not offered.  The case stays until peer_close(). */
void *peer_open(const struct peer_case *c);
/* One product with that copy, finished on return. */
void peer_run(void *state, size_t copy);
/* y[row, column] of the last product. */
double peer_result(void *state, int row, int column);
void peer_close(void *state);
/* Operations and bytes a second at best, of all threads; 0: does not measure them. */
int peer_ceilings(int threads, double ops[3], double *read);

/* ---- of gemm_peer.c ---- */

/* Memory for weights and rows, to be freed with peer_give().  Where there is none the program ends. */
void *peer_take(size_t size);
void peer_give(void *data);
/* x or w in fp32 or bf16. */
void peer_fill(void *out, enum peer_dtype dtype, const int8_t *values, size_t count);
double peer_from_bf16(uint16_t bits);

#ifdef __cplusplus
}
#endif
#endif
