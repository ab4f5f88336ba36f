/* gemm_tile.h: the product of a row tile and a panel, in all forms of a panel; gemm.tmpl.c, isa_avx512vnni.c
 * and isa_avx512bf16.c make kernels of it.
 *
 *        panel, one step k:   [ 16 columns | 16 columns ]     loaded once for all rows of the tile
 *        row 0   a[0][k]  ->    r0_lo        r0_hi            one broadcast, two fused multiply-adds
 *        row 1   a[1][k]  ->    r1_lo        r1_hi
 *        ...
 *
 * An accumulator is one chain over k, so tile height and k blocks do not show in the bits.  Height is a constant of each
 * instance and the accumulators have names: gcc keeps an array in memory (a third of the speed, silently).  Row addresses
 * come from one base per three rows and the stride; one pointer per row would not fit the integer registers.
 * A step of bf16 pairs or s8 fours is two or four such steps, each widened from the same cache line.
 * Heights above V16_GEMM_ROWS are done in passes over parts of the panel that stay in the first-level cache; each pass sends for its share of
 * a part to come, to the second level, as two parts would not fit the first: so all of them overlap with memory. */
#ifndef TERN_KERNELS_GEMM_TILE_H
#define TERN_KERNELS_GEMM_TILE_H

#include "kernels/kernels.h"
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
    enum tern_prefetch prefetch;
};

/* To the first-level cache where memory is the bound, or nowhere (table.c): a line that has to be fetched from the second one then costs 10 to
 * 40 % of the time.  Where arithmetic is, it depends on the processor (table.c): the lines that a core waits for are few, and a demand may have to wait for them. */
#define GEMM_PREFETCH_L1(p)   __builtin_prefetch((p), 0, 3)
#define GEMM_PREFETCH_L2(p)   __builtin_prefetch((p), 0, 2)
#define GEMM_PREFETCH_NONE(p) ((void)(p))

V16_FN void gemm_prefetch(const char *at, const int lines, enum tern_prefetch prefetch)
{
    if (prefetch != TERN_PREFETCH_L1) {
        GEMM_PREFETCH_L2(at);
        if (lines > 1)
            GEMM_PREFETCH_L2(at + 64);
    } else {
        GEMM_PREFETCH_L1(at);
        if (lines > 1)
            GEMM_PREFETCH_L1(at + 64);
    }
}

/* Bytes between a stream's read position and its prefetch: 4 KiB while memory is the bound, 8 KiB where a step takes longer. */
#define GEMM_STREAM_NEAR 4096
#define GEMM_STREAM_FAR  8192

/* Steps of a panel that several passes go over: 24 KiB, of a first-level cache of 32 or 48. */
#define GEMM_PART 192

/* k elements and bytes of a step. */
#define GEMM_PER(form)   ((form) == V16_BF16 ? 2 : (form) == V16_S8 ? 4 : 1)
#define GEMM_BYTES(form) ((form) == V16_F16 ? 64 : 128)

/* `a` has a word of the row where form is V16_BF16_DOT or V16_S8_DOT: bytes that are never read as a number. */
V16_FN v16 gemm_broadcast(const enum v16_panel form, const float *a)
{
    if (form == V16_BF16_DOT || form == V16_S8_DOT) {
        float word;
        memcpy(&word, a, sizeof word);
        return v16_set1(word);
    }
    return v16_set1(*a);
}

V16_FN v16 gemm_multiply_add(const enum v16_panel form, v16 a, v16 w, v16 sum)
{
#ifdef TERN_VEC_BF16
    if (form == V16_BF16_DOT)
        return v16_dot_bf16(a, w, sum);
#endif
#ifdef TERN_VEC_VNNI
    if (form == V16_S8_DOT)
        return v16_dot_u8s8(a, w, sum);
#endif
    (void)form;
    return v16_fma(a, w, sum);
}

V16_FN void gemm_tile(const enum v16_panel form, const int m, const bool passes, const int lines, float *c, size_t ldc,
                      const float *a, size_t lda, const char *panel, size_t steps, bool accumulate,
                      struct gemm_hint hint)
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

#if V16_GEMM_ROWS == 3
#define GEMM_ELEMENT(s) v16_gemm_step3(form, s, m, a0 + s, lda, panel, &r0_lo, &r0_hi, &r1_lo, &r1_hi, &r2_lo, &r2_hi);
#else
#define GEMM_STEP(i)                                                         \
    if (i < m) {                                                             \
        const v16 x = gemm_broadcast(form, GEMM_BASE(i) + i % 3 * lda + at); \
        r##i##_lo = gemm_multiply_add(form, x, lo, r##i##_lo);               \
        r##i##_hi = gemm_multiply_add(form, x, hi, r##i##_hi);               \
    }
#define GEMM_ELEMENT(s)                                                                      \
    {                                                                                        \
        const v16 lo = v16_weights(form, panel, 0, s), hi = v16_weights(form, panel, 16, s); \
        const int at = s;                                                                    \
        GEMM_ROWS(GEMM_STEP)                                                                 \
    }
#endif
    for (size_t step = 0; step < steps; step++) {
        if (lines > 0) {
            gemm_prefetch(hint.at, lines, passes || m >= TERN_FAR_ROWS ? hint.prefetch : TERN_PREFETCH_L1);
            hint.at += hint.step;
        }
        GEMM_ELEMENT(0)
        if (GEMM_PER(form) > 1)
            GEMM_ELEMENT(1)
        if (GEMM_PER(form) > 2) {
            GEMM_ELEMENT(2)
            GEMM_ELEMENT(3)
        }
        panel += GEMM_BYTES(form);
        a0 += GEMM_PER(form), a3 += GEMM_PER(form), a6 += GEMM_PER(form), a9 += GEMM_PER(form), a12 += GEMM_PER(form);
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
#undef GEMM_ELEMENT
#undef GEMM_STEP
}

/* A tile of at most V16_GEMM_ROWS rows.  Widened steps take long enough to hide a prefetch of what is there already, so they have
 * one instance per height. */
V16_FN void gemm_pass(const enum v16_panel form, const bool passes, float *c, size_t ldc, const float *a, size_t lda,
                      const char *panel, size_t steps, size_t m, bool accumulate, struct gemm_hint hint)
{
    const bool widened = form == V16_F16 || form == V16_BF16 || form == V16_S8;

    if (widened && hint.step == 0)
        hint.at = panel;
#define GEMM_CASE(i)                                                                                                 \
    case i + 1:                                                                                                      \
        if (widened)                                                                                                 \
            gemm_tile(form, i + 1, passes, form == V16_F16 ? 1 : 2, c, ldc, a, lda, panel, steps, accumulate, hint); \
        else if (hint.step == 0)                                                                                     \
            gemm_tile(form, i + 1, passes, 0, c, ldc, a, lda, panel, steps, accumulate, hint);                       \
        else if (hint.step <= 64)                                                                                    \
            gemm_tile(form, i + 1, passes, 1, c, ldc, a, lda, panel, steps, accumulate, hint);                       \
        else                                                                                                         \
            gemm_tile(form, i + 1, passes, 2, c, ldc, a, lda, panel, steps, accumulate, hint);                       \
        break;
    switch (m) {
        GEMM_ROWS(GEMM_CASE)
    }
#undef GEMM_CASE
}

/* Whether a tile takes several passes over the parts of its panel. */
V16_FN bool gemm_has_passes(const enum v16_panel form, size_t m)
{
    const bool halves = V16_GEMM_ROWS == 3 && (form == V16_BF16 || form == V16_S8);

    return V16_GEMM_ROWS < TERN_TILE_ROWS && m > (halves ? 2 : V16_GEMM_ROWS);
}

/* Where a kernel prefetches, from its arguments: `next` is spread over `steps` steps, unless it follows the panel directly.  The passes over a
 * part share what comes a part later. */
V16_FN struct gemm_hint gemm_hint(const void *panel, size_t steps, size_t step_bytes, size_t m, const bool passes,
                                  const struct tern_gemm_next *next)
{
    const size_t distance = passes   ? (steps < GEMM_PART ? steps : GEMM_PART) * step_bytes
                            : m <= 4 ? GEMM_STREAM_NEAR
                                     : GEMM_STREAM_FAR;
    struct gemm_hint hint = { NULL, 0, TERN_PREFETCH_L1 };

    if (next && next->at && steps) {
        hint = (struct gemm_hint){ next->at, next->bytes / steps, next->prefetch };
        if (hint.step >= step_bytes) {
            hint.step = step_bytes;
            if (next->at == (const void *)((const char *)panel + steps * step_bytes))
                hint.at = (const char *)panel + distance;
        }
    }
    return hint;
}

#if V16_GEMM_ROWS == 3
/* Fours of s8 are kept in a register from one number to the next, and leave room for the sums of five rows. */
#define GEMM_HALF_ROWS(form) ((form) == V16_S8 ? 5 : 6)
#define GEMM_EACH_HALF(X)    X(0) X(1) X(2) X(3) X(4) X(5)

/* Widened weights want registers beside the sums: three rows of 32 columns leave none of sixteen, and a sum that goes through memory at each
 * step costs a quarter of the speed.  Six rows of 16 columns have as many sums, and widen a vector for twice the rows.
 *
 *        panel, one step k:   [ 16 columns ]   a cache line, so that both halves together read each line once */
V16_FN void gemm_half_tile(const enum v16_panel form, const int m, float *c, size_t ldc, const float *a, size_t lda,
                           const char *panel, size_t steps, bool accumulate, struct gemm_hint hint)
{
    const float *a0 = a, *a3 = a + 3 * lda;

#define GEMM_BEGIN(i)        \
    v16 r##i = v16_set1(0);  \
    if (i < m && accumulate) \
        r##i = v16_load(c + i * ldc);
    GEMM_EACH_HALF(GEMM_BEGIN)

#define GEMM_STEP(i) \
    if (i < m)       \
        r##i = v16_fma(v16_set1(((i) < 3 ? a0 : a3)[i % 3 * lda + at]), w, r##i);
#define GEMM_ELEMENT(s)                               \
    if (s < GEMM_PER(form)) {                         \
        const v16 w = v16_weights(form, panel, 0, s); \
        const int at = s;                             \
        GEMM_EACH_HALF(GEMM_STEP)                     \
    }
    for (size_t step = 0; step < steps; step++) {
        GEMM_PREFETCH_L2(hint.at);
        hint.at += hint.step;
        GEMM_ELEMENT(0)
        GEMM_ELEMENT(1)
        GEMM_ELEMENT(2)
        GEMM_ELEMENT(3)
        panel += GEMM_BYTES(form);
        a0 += GEMM_PER(form), a3 += GEMM_PER(form);
    }

#define GEMM_END(i) \
    if (i < m)      \
        v16_store(c + i * ldc, r##i);
    GEMM_EACH_HALF(GEMM_END)
#undef GEMM_BEGIN
#undef GEMM_STEP
#undef GEMM_ELEMENT
#undef GEMM_END
}

/* Whole steps, any number of rows.  Passes over the rows differ by a row at most: the fewest sums are bound by the time that one takes. */
V16_FN void gemm_half_steps(const enum v16_panel form, float *c, size_t ldc, const float *a, size_t lda,
                            const char *panel, size_t steps, size_t m, bool accumulate, struct gemm_hint hint)
{
    const size_t passes = (m + GEMM_HALF_ROWS(form) - 1) / GEMM_HALF_ROWS(form);

    do {
        const size_t part = steps < GEMM_PART ? steps : GEMM_PART;

        for (size_t half = 0; half < 2; half++)
            for (size_t pass = 0; pass < passes; pass++) {
                const size_t row = m * pass / passes, rows = m * (pass + 1) / passes - row;
                const char *at = panel + 64 * half;
                const size_t share = half * passes + pass, each = (hint.step + 2 * passes - 1) / (2 * passes);
                const struct gemm_hint own = { hint.step ? hint.at + share * part * each : at, each, TERN_PREFETCH_L2 };
                float *to = c + row * ldc + 16 * half;

#define GEMM_CASE(i)                                                                             \
    case i + 1:                                                                                  \
        if (i < GEMM_HALF_ROWS(form))                                                            \
            gemm_half_tile(form, i + 1, to, ldc, a + row * lda, lda, at, part, accumulate, own); \
        break;
                switch (rows) {
                    GEMM_EACH_HALF(GEMM_CASE)
                }
#undef GEMM_CASE
            }
        if (hint.step)
            hint.at += part * hint.step;
        a += part * GEMM_PER(form);
        panel += part * GEMM_BYTES(form);
        accumulate = true;
        steps -= part;
    } while (steps);
}
#endif

/* Whole steps, any number of rows up to TERN_TILE_ROWS. */
V16_FN void gemm_steps(const enum v16_panel form, float *c, size_t ldc, const float *a, size_t lda, const char *panel,
                       size_t steps, size_t m, bool accumulate, struct gemm_hint hint)
{
#if V16_GEMM_ROWS == 3
    if ((form == V16_BF16 || form == V16_S8) && m > 2) {
        gemm_half_steps(form, c, ldc, a, lda, panel, steps, m, accumulate, hint);
        return;
    }
#endif
    if (V16_GEMM_ROWS == TERN_TILE_ROWS || m <= V16_GEMM_ROWS) {
        gemm_pass(form, false, c, ldc, a, lda, panel, steps, m, accumulate, hint);
        return;
    }
    const size_t passes = (m + V16_GEMM_ROWS - 1) / V16_GEMM_ROWS, each = (hint.step + passes - 1) / passes;

    do {
        const size_t part = steps < GEMM_PART ? steps : GEMM_PART;
        struct gemm_hint own = { hint.at, each, TERN_PREFETCH_L2 };

        for (size_t row = 0; row < m; row += V16_GEMM_ROWS) {
            const size_t rows = m - row < V16_GEMM_ROWS ? m - row : V16_GEMM_ROWS;

            gemm_pass(form, true, c + row * ldc, ldc, a + row * lda, lda, panel, part, rows, accumulate, own);
            if (each)
                own.at += part * each;
        }
        if (hint.step)
            hint.at += part * hint.step;
        a += part * GEMM_PER(form);
        panel += part * GEMM_BYTES(form);
        accumulate = true;
        steps -= part;
    } while (steps);
}

#endif
