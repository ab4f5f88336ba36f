/* gemm_q8.tmpl.c: u8 rows times s8 panels, in integers.  Built once per level; contract in kernels.h.
 *
 * The loop is that of gemm_tile.h: named sums, one base per three rows.  (vpdpbusd has the words of the rows and the panel as they
 * are: isa_avx512vnni.c.)  Integer sums are exact in any order, so levels without an instruction for u8 times s8 take half a panel
 * at a time, widen both sides to 16 bits (vpmaddubsw would be shorter, and saturates) and keep two sums per column; the rows are
 * widened once for a part of the panel that stays in the first-level cache. */
#include "kernels/gemm_block.h"

#if Q8_WIDE
typedef uint16_t q8_type;
#define Q8_STEPS GEMM_PART
#else
typedef uint8_t q8_type;
#define Q8_STEPS GEMM_PART
#endif

/* Whether m rows take several passes over the parts of a panel. */
#define Q8_HAS_PASSES(m) (Q8_COLUMNS < TERN_PANEL || (m) > V16_GEMM_ROWS)

V16_FN void q8_tile(const int m, const bool ahead, int32_t *c, size_t ldc, const int32_t *from, size_t ld_from,
                    const q8_type *a, size_t lda, const int8_t *panel, size_t steps, struct gemm_hint hint)
{
    const q8_type *a0 = a, *a3 = a + 3 * lda, *a6 = a + 6 * lda, *a9 = a + 9 * lda, *a12 = a + 12 * lda;

#define Q8_BASE(i) ((i) < 3 ? a0 : (i) < 6 ? a3 : (i) < 9 ? a6 : (i) < 12 ? a9 : a12)
#if V16_GEMM_ROWS == 3
#define Q8_BEGIN(i) q8_sum r##i = q8_zero();
#define Q8_END(i) \
    if (i < m)    \
        q8_store(c + i * ldc, from + i * ld_from, r##i);
#else
#define Q8_BEGIN(i) q8_sum r##i##_lo = q8_zero(), r##i##_hi = q8_zero();
#define Q8_STEP(i)                                                 \
    if (i < m) {                                                   \
        const q8_activations x = q8_row(Q8_BASE(i) + i % 3 * lda); \
        r##i##_lo = q8_step(r##i##_lo, x, lo);                     \
        r##i##_hi = q8_step(r##i##_hi, x, hi);                     \
    }
#define Q8_END(i)                                                                               \
    if (i < m) {                                                                                \
        q8_store(c + i * ldc, from + i * ld_from, r##i##_lo);                                   \
        q8_store(c + i * ldc + Q8_COLUMNS / 2, from + i * ld_from + Q8_COLUMNS / 2, r##i##_hi); \
    }
#endif
    GEMM_ROWS(Q8_BEGIN)

    for (size_t step = 0; step < steps; step++) {
        if (ahead) {
            const bool shared = hint.prefetch != TERN_PREFETCH_L1; /* by several passes: a line at most */
            gemm_prefetch(hint.at, shared ? 1 : 2, hint.prefetch);
            hint.at += hint.step;
        }
#if V16_GEMM_ROWS == 3
        q8_step3(m, a0, lda, panel, &r0, &r1, &r2);
#else
        const q8_weights lo = q8_load(panel), hi = q8_load(panel + 2 * Q8_COLUMNS);
        GEMM_ROWS(Q8_STEP)
#endif
        panel += 4 * TERN_PANEL;
        a0 += 4, a3 += 4, a6 += 4, a9 += 4, a12 += 4;
    }
    GEMM_ROWS(Q8_END)
#undef Q8_BASE
#undef Q8_BEGIN
#undef Q8_STEP
#undef Q8_END
}

V16_FN void q8_pass(int32_t *c, size_t ldc, const int32_t *from, size_t ld_from, const q8_type *a, size_t lda,
                    const int8_t *panel, size_t steps, size_t m, struct gemm_hint hint)
{
#define Q8_CASE(i)                                                                    \
    case i + 1:                                                                       \
        if (hint.step)                                                                \
            q8_tile(i + 1, true, c, ldc, from, ld_from, a, lda, panel, steps, hint);  \
        else                                                                          \
            q8_tile(i + 1, false, c, ldc, from, ld_from, a, lda, panel, steps, hint); \
        break;
    switch (m) {
        GEMM_ROWS(Q8_CASE)
    }
#undef Q8_CASE
}

static void TERN_K(gemm_q8)(int32_t *c, size_t ldc, const uint8_t *a, size_t lda, const int8_t *panel,
                            const int32_t *start, size_t k, size_t m, bool accumulate,
                            const struct tern_gemm_next *next)
{
    size_t steps = (k + 3) / 4;
    struct gemm_hint hint = gemm_hint(panel, steps, 128, m, Q8_HAS_PASSES(m), next);
    const size_t passes = (m + V16_GEMM_ROWS - 1) / V16_GEMM_ROWS * (TERN_PANEL / Q8_COLUMNS);
    const size_t each = (hint.step + passes - 1) / passes;
    const int32_t *from = accumulate ? c : start;
    size_t ld_from = accumulate ? ldc : 0;
#if Q8_WIDE
    _Alignas(64) uint16_t wide[TERN_TILE_ROWS * 4 * Q8_STEPS];
    const size_t ld_row = 4 * Q8_STEPS;
#else
    const size_t ld_row = lda;
#endif

    do {
        const size_t part = steps < Q8_STEPS ? steps : Q8_STEPS;
#if Q8_WIDE
        for (size_t i = 0; i < m; i++)
            for (size_t s = 0; s < 4 * part; s++)
                wide[i * ld_row + s] = a[i * lda + s];
        const uint16_t *rows = wide;
#else
        const uint8_t *rows = a;
#endif
        struct gemm_hint own = { hint.at, each, Q8_HAS_PASSES(m) ? TERN_PREFETCH_L2 : TERN_PREFETCH_L1 };

        for (size_t row = 0; row < m; row += V16_GEMM_ROWS)
            for (size_t col = 0; col < TERN_PANEL; col += Q8_COLUMNS) {
                q8_pass(c + row * ldc + col, ldc, from + row * ld_from + col, ld_from, rows + row * ld_row, ld_row,
                        panel + 4 * col, part, m - row < V16_GEMM_ROWS ? m - row : V16_GEMM_ROWS, own);
                if (each)
                    own.at += part * each;
            }
        if (hint.step)
            hint.at += part * hint.step;
        a += 4 * part;
        panel += part * 4 * TERN_PANEL;
        from = c;
        ld_from = ldc;
        steps -= part;
    } while (steps);
}

static void TERN_K(gemm_block_q8)(const struct tern_gemm_block *g)
{
    GEMM_BLOCK_BY_TILES(true, 4, Q8_HAS_PASSES(g->m),
                        TERN_K(gemm_q8)((int32_t *)g->sums + at, TERN_PANEL, (const uint8_t *)g->a + row * g->lda,
                                        g->lda, (const int8_t *)words, start, g->k, end - row, !g->begin, &next));
}
