/* gemm.tmpl.c: the product of a row tile and a panel.  Built once per level; contract in kernels.h.
 *
 *        panel, one step k:   [ 16 columns | 16 columns ]     loaded once for all rows of the tile
 *        row 0   a[0][k]  ->    r0_lo        r0_hi            one broadcast, two fused multiply-adds
 *        row 1   a[1][k]  ->    r1_lo        r1_hi
 *        ...
 *
 * An accumulator is one chain over k, so tile height and k blocks do not show in the bits.  Height is a constant of each
 * instance and the accumulators have names: gcc keeps an array in memory (a third of the speed, silently).  Row addresses
 * come from one base per three rows and the stride; one pointer per row would not fit the integer registers.
 * Heights above V16_GEMM_ROWS are done in passes over parts of the panel that stay in the first-level cache. */
#include "kernels/vec.h"

/* The rows of the tallest tile. */
#if V16_GEMM_ROWS == 14
#define GEMM_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)
#elif V16_GEMM_ROWS == 3
#define GEMM_ROWS(X) X(0) X(1) X(2)
#else
#define GEMM_ROWS(X) X(0)
#endif

/* Where to prefetch: one or two cache lines at `at`, and `step` bytes on at every k step.   step 0: nothing. */
struct gemm_hint {
    const char *at;
    size_t step;
};

/* Where prefetches go: the first-level cache for one or two rows, where they are all that hides L2.  For more rows the second
 * level: there the loop has time to fetch from it, and with a memory that gives one thread 17 GB/s it is 3 to 8 % faster for
 * M = 4 to 16 than the first level, which runs out of fill buffers (at 40 GB/s it was 2 to 7 % slower). */
#define GEMM_PREFETCH(m, p) ((m) <= 2 ? __builtin_prefetch((p), 0, 3) : __builtin_prefetch((p), 0, 2))

/* Bytes between a stream's read position and its prefetch: 4 KiB while memory is the bound, 8 KiB where a step takes longer. */
#define GEMM_STREAM_NEAR 4096
#define GEMM_STREAM_FAR  8192

/* Steps of a panel that several passes go over: 24 KiB, of a first-level cache of 32 or 48. */
#define GEMM_PART 192

V16_FN void gemm_tile(const int m, const int lines, float *c, size_t ldc, const float *a, size_t lda,
                      const float *panel, size_t k, bool accumulate, struct gemm_hint hint)
{
    const float *a0 = a, *a3 = a + 3 * lda, *a6 = a + 6 * lda, *a9 = a + 9 * lda, *a12 = a + 12 * lda;

#define GEMM_BASE(i) ((i) < 3 ? a0 : (i) < 6 ? a3 : (i) < 9 ? a6 : (i) < 12 ? a9 : a12)
#define GEMM_BEGIN(i)                                     \
    v16 r##i##_lo = v16_set1(0), r##i##_hi = v16_set1(0); \
    if (i < m && accumulate) {                            \
        r##i##_lo = v16_load(c + i * ldc);                \
        r##i##_hi = v16_load(c + i * ldc + 16);           \
    }
    GEMM_ROWS(GEMM_BEGIN)

    for (size_t step = 0; step < k; step++) {
        if (lines > 0)
            GEMM_PREFETCH(m, hint.at);
        if (lines > 1)
            GEMM_PREFETCH(m, hint.at + 64);
        hint.at += hint.step;
#if V16_GEMM_ROWS == 3
        v16_gemm_step3(m, a0, lda, panel, &r0_lo, &r0_hi, &r1_lo, &r1_hi, &r2_lo, &r2_hi);
#else
        const v16 lo = v16_load(panel), hi = v16_load(panel + 16);
#define GEMM_STEP(i)                                       \
    if (i < m) {                                           \
        const v16 x = v16_set1(GEMM_BASE(i)[i % 3 * lda]); \
        r##i##_lo = v16_fma(x, lo, r##i##_lo);             \
        r##i##_hi = v16_fma(x, hi, r##i##_hi);             \
    }
        GEMM_ROWS(GEMM_STEP)
#undef GEMM_STEP
#endif
        panel += TERN_PANEL;
        a0++, a3++, a6++, a9++, a12++;
    }

#define GEMM_END(i)                             \
    if (i < m) {                                \
        v16_store(c + i * ldc, r##i##_lo);      \
        v16_store(c + i * ldc + 16, r##i##_hi); \
    }
    GEMM_ROWS(GEMM_END)
#undef GEMM_BASE
#undef GEMM_BEGIN
#undef GEMM_END
}

/* A tile of at most V16_GEMM_ROWS rows. */
V16_FN void gemm_pass(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t k, size_t m,
                      bool accumulate, struct gemm_hint hint)
{
#define GEMM_CASE(i)                                                         \
    case i + 1:                                                              \
        if (hint.step == 0)                                                  \
            gemm_tile(i + 1, 0, c, ldc, a, lda, panel, k, accumulate, hint); \
        else if (hint.step <= 64)                                            \
            gemm_tile(i + 1, 1, c, ldc, a, lda, panel, k, accumulate, hint); \
        else                                                                 \
            gemm_tile(i + 1, 2, c, ldc, a, lda, panel, k, accumulate, hint); \
        break;
    switch (m) {
        GEMM_ROWS(GEMM_CASE)
    }
#undef GEMM_CASE
}

static void TERN_K(gemm_f32)(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t k, size_t m,
                             bool accumulate, const void *next, size_t next_bytes)
{
    struct gemm_hint hint = { NULL, 0 };

    if (next && k) {
        hint.at = next;
        hint.step = next_bytes / k;
        if (hint.step >= 128) {
            hint.step = 128;
            if (next == panel + k * TERN_PANEL)
                hint.at = (const char *)panel + (m <= 4 ? GEMM_STREAM_NEAR : GEMM_STREAM_FAR);
        }
    }
    if (V16_GEMM_ROWS == TERN_TILE_ROWS || m <= V16_GEMM_ROWS) {
        gemm_pass(c, ldc, a, lda, panel, k, m, accumulate, hint);
        return;
    }
    do {
        const size_t part = k < GEMM_PART ? k : GEMM_PART;

        for (size_t row = 0; row < m; row += V16_GEMM_ROWS) {
            const size_t rows = m - row < V16_GEMM_ROWS ? m - row : V16_GEMM_ROWS;
            const struct gemm_hint none = { NULL, 0 };

            gemm_pass(c + row * ldc, ldc, a + row * lda, lda, panel, part, rows, accumulate, row ? none : hint);
        }
        if (hint.step)
            hint.at += part * hint.step;
        a += part;
        panel += part * TERN_PANEL;
        accumulate = true;
        k -= part;
    } while (k);
}
