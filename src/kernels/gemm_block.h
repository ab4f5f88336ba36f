/* gemm_block.h: all rows of a product with a block of one panel or of two, neighbours or `apart`; gemm.tmpl.c, isa_avx512vnni.c and
 * isa_avx512bf16.c make kernels of it.
 *
 * What a product loses beside its multiply-adds stands between two tiles: with short chains (s8, K = 384: 96 steps of 8 cycles) a call
 * for each tile, its sums in memory and the epilogue's pass over them are 150 cycles a tile.  So all tiles are one call here, and where
 * nothing but scale and bias follows the sums go to C from their registers.
 *
 *        two panels, one step k:  [ 16 | 16 ] [ 16 | 16 ]     four vectors, loaded once for up to six rows
 *        row i   a[i][k]  ->        4 multiply-adds           one broadcast
 *
 * Loops go two steps at a time: the end of a loop of 192 is not foreseen on a Zen 5, that of 96 is.  (For two panels that takes a register
 * more than there is, so the loop's end is read from the frame.)
 *
 * Sums of several tiles are passed on together, which saves calls; but a tile's alone where it is a gate's pair or a residual is read:
 * stores to memory then have the next tile's time to get there.  The residual is sent for by the tile's first steps; a burst of
 * prefetches in front of them does half of that.
 *
 * Two panels halve the loads of rows and give 24 sums instead of 16: longer between two ends of tiles.  That needs 32 registers; other
 * levels go tile by tile through their kernels of one. */
#ifndef TERN_KERNELS_GEMM_BLOCK_H
#define TERN_KERNELS_GEMM_BLOCK_H

#include "kernels/gemm_tile.h"

/* What stands for a scale or a bias that is not given: numbers that change nothing, not even the sign of a zero. */
struct gemm_vectors {
    _Alignas(64) float ones[2 * TERN_PANEL], nothing[2 * TERN_PANEL];
};

V16_FN void gemm_vectors(const struct tern_gemm_block *g, struct gemm_vectors *v)
{
    for (size_t j = 0; g->c && j < g->panels * TERN_PANEL; j += 16) {
        v16_store(v->ones + j, v16_set1(1));
        v16_store(v->nothing + j, v16_set1(-0.0f));
    }
}

/* One of the blocks: the same product with other columns. */
struct gemm_columns {
    const char *panel, *next;
    size_t next_bytes, next_second;
    size_t second, second_column; /* to the second panel and its columns */
    const int32_t *start;
    const float *scale, *bias, *read;
    float *c;
};

/* Panels from a block's first one to the next block's. */
V16_FN size_t gemm_panels_each(const struct tern_gemm_block *g)
{
    return g->panels == 2 && g->apart == 1 ? 2 : 1;
}

/* Steps that a tile of a pair sends for such rows in: two for each. */
#define GEMM_READ_STEPS (2 * TERN_PAIR_ROWS)

/* What stands beside the panels of the next block: a line or two of each, which no stream brings in time. */
V16_FN void gemm_columns_ahead(const struct tern_gemm_block *g, size_t i)
{
    const size_t first = (i + 1) * gemm_panels_each(g) * TERN_PANEL;

    for (size_t p = 0; i + 1 < g->count && p < g->panels; p++)
        for (size_t j = 0, col = first + p * g->apart * TERN_PANEL; j < TERN_PANEL; j += 16) {
            if (g->start)
                GEMM_PREFETCH_L1(g->start + col + j);
            if (g->scale)
                GEMM_PREFETCH_L1(g->scale + col + j);
            if (g->bias)
                GEMM_PREFETCH_L1(g->bias + col + j);
        }
}

V16_FN struct gemm_columns gemm_columns(const struct tern_gemm_block *g, const struct gemm_vectors *v, size_t i,
                                        size_t bytes_each)
{
    const size_t each = gemm_panels_each(g), col = i * each * TERN_PANEL, bytes = i * each * g->second;
    const bool last = i + 1 == g->count;

    return (struct gemm_columns){ .panel = (const char *)g->panel + bytes,
                                  .next = last ? g->next : (const char *)g->panel + bytes + each * g->second,
                                  .next_bytes = last ? g->next_bytes : bytes_each,
                                  .next_second = last             ? g->next_second
                                                 : g->panels == 2 ? g->apart * g->second
                                                                  : 0,
                                  .second = g->apart * g->second,
                                  .second_column = g->apart * TERN_PANEL,
                                  .start = g->start ? g->start + col : NULL,
                                  .scale = g->scale ? g->scale + col : v->ones,
                                  .bias = g->bias ? g->bias + col : v->nothing,
                                  .read = g->read && bytes_each >= GEMM_READ_STEPS * 128 ? g->read + col : NULL,
                                  .c = g->c ? g->c + col : NULL };
}

/* How rows are cut: tiles differ by a row at most, the first `more` have one more. */
struct gemm_cut {
    size_t each, more;
};

V16_FN struct gemm_cut gemm_cut(const struct tern_gemm_block *g)
{
    return (struct gemm_cut){ g->m / g->tiles, g->m % g->tiles };
}

/* What `tiles` tiles prefetch at each step, for each panel, from `at` on. */
V16_FN struct gemm_hint gemm_block_hint(const struct tern_gemm_block *g, const struct gemm_columns *b, size_t steps,
                                        size_t tiles, const bool passes)
{
    const size_t all = steps * tiles;

    if (!b->next || !all)
        return (struct gemm_hint){ b->panel, 0, TERN_PREFETCH_L1 };
    if (g->tiles == 1 && g->panels == 1)
        return gemm_hint(b->panel, steps, 128, g->m, passes,
                         &(struct tern_gemm_next){ b->next, b->next_bytes, g->prefetch });
    const size_t step = (b->next_bytes + all - 1) / all;
    return (struct gemm_hint){ b->next, step < 128 ? step : 128, g->prefetch };
}

/* Where the sums of a row begin: `whole` rows are finished. */
V16_FN size_t gemm_sums_at(const struct tern_gemm_block *g, size_t row, size_t whole)
{
    return TERN_PANEL * (!g->begin ? row : g->c ? 0 : g->finish ? row - whole : row);
}

/* Rows [row, end) of block `block` are summed up, and a tile has `tallest` rows at most.  Returns the first that is not finished. */
V16_FN size_t gemm_finish(const struct tern_gemm_block *g, size_t block, size_t row, size_t end, size_t tallest)
{
    const bool alone = g->read || (g->panels == 2 && g->apart > 1);

    if (!alone && end < g->m && end + tallest <= row + TERN_FINISH_ROWS)
        return row;
    g->finish(g->user, block, row, end - row, (const float *)g->sums + gemm_sums_at(g, row, row));
    return end;
}

/* Weights that nobody has sent for: the first lines at once, unless the processor keeps ahead of them, and the rest by the first tile, so far
 * ahead of itself. */
V16_FN struct gemm_hint gemm_block_cold(const struct tern_gemm_block *g, size_t steps)
{
    const size_t distance = g->tiles == 1 && g->m > 4 ? GEMM_STREAM_FAR : GEMM_STREAM_NEAR, all = steps * 128;

    for (size_t p = 0; p < g->panels && g->prefetch != TERN_PREFETCH_FEW; p++)
        for (size_t at = 0; at < distance && at < all; at += 64)
            GEMM_PREFETCH_L1((const char *)g->panel + p * g->apart * g->second + at);
    return (struct gemm_hint){ (const char *)g->panel + distance, 128, g->prefetch };
}

#if V16_GEMM_ROWS == 14

#define GEMM_PAIR_ROWS    6
#define GEMM_EACH_PAIR(X) X(0) X(1) X(2) X(3) X(4) X(5)

/* A tile: where its rows, sums and results begin.  Rows are counted in words of 4 bytes. */
struct gemm_place {
    const float *a;
    size_t lda;
    const char *panel, *end;
    size_t second;     /* bytes to the second panel */
    const float *from; /* where sums begin, NULL: at 0 */
    size_t ld_from, from_second;
    float *sums; /* where they end, unless c is given */
    size_t sums_second;
    float *c;
    size_t ldc;
    const float *row_scale, *scale, *bias;
    const float *read; /* what finish reads: sent for; NULL: nothing */
    size_t ld_read;
};

V16_FN v16 gemm_finished(const enum v16_panel form, v16 sum, v16 by_row, const float *scale, const float *bias)
{
#ifdef TERN_VEC_VNNI
    if (form == V16_S8_DOT)
        return v16_add(v16_mul(v16_from_s32(sum), v16_mul(by_row, v16_load(scale))), v16_load(bias));
#endif
    (void)form;
    (void)by_row;
    return v16_add(v16_mul(sum, v16_load(scale)), v16_load(bias));
}

V16_FN void gemm_one_tile(const enum v16_panel form, const int m, const struct gemm_place *p, struct gemm_hint hint)
{
    const size_t lda = p->lda;
    const float *a0 = p->a, *a3 = a0 + 3 * lda, *a6 = a0 + 6 * lda, *a9 = a0 + 9 * lda, *a12 = a0 + 12 * lda;
    const char *panel = p->panel, *const end = p->end;

#define GEMM_BASE(i) ((i) < 3 ? a0 : (i) < 6 ? a3 : (i) < 9 ? a6 : (i) < 12 ? a9 : a12)
#define GEMM_BEGIN(i)                                       \
    v16 r##i##_0 = v16_set1(0), r##i##_1 = v16_set1(0);     \
    if (i < m && p->from) {                                 \
        r##i##_0 = v16_load(p->from + i * p->ld_from);      \
        r##i##_1 = v16_load(p->from + i * p->ld_from + 16); \
    }
    GEMM_ROWS(GEMM_BEGIN)

#define GEMM_STEP(i)                                                    \
    if (i < m) {                                                        \
        const v16 x = gemm_broadcast(form, GEMM_BASE(i) + i % 3 * lda); \
        r##i##_0 = gemm_multiply_add(form, x, w0, r##i##_0);            \
        r##i##_1 = gemm_multiply_add(form, x, w1, r##i##_1);            \
    }
#define GEMM_ONE_STEP(prefetch)                                                          \
    const v16 w0 = v16_weights(form, panel, 0, 0), w1 = v16_weights(form, panel, 16, 0); \
                                                                                         \
    prefetch(hint.at);                                                                   \
    prefetch(hint.at + 64);                                                              \
    hint.at += hint.step;                                                                \
    GEMM_ROWS(GEMM_STEP)                                                                 \
    a0++, a3++, a6++, a9++, a12++;
/* Two steps at a time, unless they would not fit the integer registers. */
#define GEMM_ONE_LOOP(prefetch)                                    \
    if (m <= 10) {                                                 \
        _Pragma("GCC unroll 2") for (; panel != end; panel += 128) \
        {                                                          \
            GEMM_ONE_STEP(prefetch)                                \
        }                                                          \
    } else {                                                       \
        for (; panel != end; panel += 128) {                       \
            GEMM_ONE_STEP(prefetch)                                \
        }                                                          \
    }
    if (m >= TERN_FAR_ROWS && hint.prefetch != TERN_PREFETCH_L1) {
        GEMM_ONE_LOOP(GEMM_PREFETCH_L2)
    } else if (m < TERN_FAR_ROWS && hint.prefetch == TERN_PREFETCH_FEW) {
        GEMM_ONE_LOOP(GEMM_PREFETCH_NONE)
    } else {
        GEMM_ONE_LOOP(GEMM_PREFETCH_L1)
    }
#undef GEMM_ONE_LOOP
#undef GEMM_ONE_STEP

#define GEMM_FINISH(i)                                                                                         \
    if (i < m) {                                                                                               \
        const v16 by_row = form == V16_S8_DOT ? v16_set1(p->row_scale[i]) : v16_set1(1);                       \
        v16_store(p->c + i * p->ldc, gemm_finished(form, r##i##_0, by_row, p->scale, p->bias));                \
        v16_store(p->c + i * p->ldc + 16, gemm_finished(form, r##i##_1, by_row, p->scale + 16, p->bias + 16)); \
    }
#define GEMM_KEEP(i)                                        \
    if (i < m) {                                            \
        v16_store(p->sums + i * TERN_PANEL, r##i##_0);      \
        v16_store(p->sums + i * TERN_PANEL + 16, r##i##_1); \
    }
    if (p->c) {
        GEMM_ROWS(GEMM_FINISH)
    } else {
        GEMM_ROWS(GEMM_KEEP)
    }
#undef GEMM_BASE
#undef GEMM_BEGIN
#undef GEMM_STEP
#undef GEMM_FINISH
#undef GEMM_KEEP
}

V16_FN void gemm_pair_tile(const enum v16_panel form, const int m, const struct gemm_place *p, struct gemm_hint hint,
                           size_t hint_second)
{
    const size_t lda = p->lda, second = p->second;
    const float *a0 = p->a, *a3 = a0 + 3 * lda;
    const char *panel = p->panel, *const end = p->end;

#define GEMM_BASE(i) ((i) < 3 ? a0 : a3)
#define GEMM_BEGIN(i)                                                                                      \
    v16 r##i##_0 = v16_set1(0), r##i##_1 = v16_set1(0), r##i##_2 = v16_set1(0), r##i##_3 = v16_set1(0);    \
    if (i < m && p->from) {                                                                                \
        r##i##_0 = v16_load(p->from + i * p->ld_from), r##i##_1 = v16_load(p->from + i * p->ld_from + 16); \
        r##i##_2 = v16_load(p->from + i * p->ld_from + p->from_second);                                    \
        r##i##_3 = v16_load(p->from + i * p->ld_from + p->from_second + 16);                               \
    }
    GEMM_EACH_PAIR(GEMM_BEGIN)

#define GEMM_STEP(i)                                                    \
    if (i < m) {                                                        \
        const v16 x = gemm_broadcast(form, GEMM_BASE(i) + i % 3 * lda); \
        r##i##_0 = gemm_multiply_add(form, x, w0, r##i##_0);            \
        r##i##_1 = gemm_multiply_add(form, x, w1, r##i##_1);            \
        r##i##_2 = gemm_multiply_add(form, x, w2, r##i##_2);            \
        r##i##_3 = gemm_multiply_add(form, x, w3, r##i##_3);            \
    }
#define GEMM_PAIR_STEP                                                                                     \
    const v16 w0 = v16_weights(form, panel, 0, 0), w1 = v16_weights(form, panel, 16, 0);                   \
    const v16 w2 = v16_weights(form, panel + second, 0, 0), w3 = v16_weights(form, panel + second, 16, 0); \
                                                                                                           \
    GEMM_PREFETCH_L1(hint.at);                                                                             \
    GEMM_PREFETCH_L1(hint.at + hint_second);                                                               \
    hint.at += hint.step;                                                                                  \
    GEMM_EACH_PAIR(GEMM_STEP)                                                                              \
    a0++, a3++, panel += 128;

    if (p->read) { /* four lines of each row */
        const float *row = p->read;
        for (int i = 0; i < m; i++, row += p->ld_read)
            for (int j = 0; j < 2 * TERN_PANEL; j += TERN_PANEL) {
                GEMM_PREFETCH_L1(row + j);
                GEMM_PREFETCH_L1(row + j + 16);
                GEMM_PAIR_STEP
            }
    }
#pragma GCC unroll 2
    while (panel != end) {
        GEMM_PAIR_STEP
    }

#define GEMM_FINISH(i)                                                                                         \
    if (i < m) {                                                                                               \
        const v16 by_row = form == V16_S8_DOT ? v16_set1(p->row_scale[i]) : v16_set1(1);                       \
        v16_store(p->c + i * p->ldc, gemm_finished(form, r##i##_0, by_row, p->scale, p->bias));                \
        v16_store(p->c + i * p->ldc + 16, gemm_finished(form, r##i##_1, by_row, p->scale + 16, p->bias + 16)); \
        v16_store(p->c + i * p->ldc + 32, gemm_finished(form, r##i##_2, by_row, p->scale + 32, p->bias + 32)); \
        v16_store(p->c + i * p->ldc + 48, gemm_finished(form, r##i##_3, by_row, p->scale + 48, p->bias + 48)); \
    }
#define GEMM_KEEP(i)                                                         \
    if (i < m) {                                                             \
        v16_store(p->sums + i * TERN_PANEL, r##i##_0);                       \
        v16_store(p->sums + i * TERN_PANEL + 16, r##i##_1);                  \
        v16_store(p->sums + i * TERN_PANEL + p->sums_second, r##i##_2);      \
        v16_store(p->sums + i * TERN_PANEL + p->sums_second + 16, r##i##_3); \
    }
    if (p->c) {
        GEMM_EACH_PAIR(GEMM_FINISH)
    } else {
        GEMM_EACH_PAIR(GEMM_KEEP)
    }
#undef GEMM_BASE
#undef GEMM_BEGIN
#undef GEMM_STEP
#undef GEMM_PAIR_STEP
#undef GEMM_FINISH
#undef GEMM_KEEP
}

/* Forms with one word a step: f32, pairs of bf16, fours of s8. */
V16_FN void gemm_block(const enum v16_panel form, const size_t per_word, const struct tern_gemm_block *g)
{
    const size_t steps = (g->k + per_word - 1) / per_word, lda = g->lda / per_word;
    const struct gemm_cut cut = gemm_cut(g);
    struct gemm_vectors v;

    gemm_vectors(g, &v);
    for (size_t i = 0; i < g->count; i++) {
        const struct gemm_columns b = gemm_columns(g, &v, i, steps * 128);
        const float *start = form == V16_S8_DOT ? (const float *)(const void *)b.start : NULL;
        const bool cold = g->cold && i == 0, streams = cold && g->tiles > 1;
        const struct gemm_hint own =
            cold ? gemm_block_cold(g, steps) : (struct gemm_hint){ b.panel, 0, TERN_PREFETCH_L1 };
        const struct gemm_hint ahead = gemm_block_hint(g, &b, steps, g->tiles - streams, false);
        struct gemm_hint hint = streams ? own : ahead;

        gemm_columns_ahead(g, i);
        for (size_t tile = 0, row = 0, whole = 0; tile < g->tiles; tile++) {
            const size_t rows = cut.each + (tile < cut.more), end = row + rows;
            float *sums = (float *)g->sums + gemm_sums_at(g, row, whole);
            const struct gemm_place p = { .a = (const float *)g->a + row * lda,
                                          .lda = lda,
                                          .panel = b.panel,
                                          .end = b.panel + steps * 128,
                                          .second = b.second,
                                          .from = g->begin ? start : sums,
                                          .ld_from = g->begin ? 0 : TERN_PANEL,
                                          .from_second = g->begin ? b.second_column : g->sums_second,
                                          .sums = sums,
                                          .sums_second = g->sums_second,
                                          .c = b.c ? b.c + row * g->ldc : NULL,
                                          .ldc = g->ldc,
                                          .row_scale = g->row_scale ? g->row_scale + row : NULL,
                                          .scale = b.scale,
                                          .bias = b.bias,
                                          .read = b.read ? b.read + row * g->ld_read : NULL,
                                          .ld_read = g->ld_read };

#define GEMM_CASE(i)                          \
    case i + 1:                               \
        gemm_one_tile(form, i + 1, &p, hint); \
        break;
#define GEMM_PAIR_CASE(i)                                                                       \
    case i + 1:                                                                                 \
        gemm_pair_tile(form, i + 1, &p, hint, streams && tile == 0 ? b.second : b.next_second); \
        break;
            if (g->panels == 1)
                switch (rows) {
                    GEMM_ROWS(GEMM_CASE)
                }
            else
                switch (rows) {
                    GEMM_EACH_PAIR(GEMM_PAIR_CASE)
                }
#undef GEMM_CASE
#undef GEMM_PAIR_CASE
            hint.at += steps * hint.step;
            if (streams && tile == 0)
                hint = ahead;
            if (g->finish)
                whole = gemm_finish(g, i, whole, end, cut.each + (cut.more > 0));
            row = end;
        }
    }
}

#endif

/* ---- tile by tile ---- */

/* A finished tile of one panel in the block's sums: to C, with what follows a product. */
V16_FN void gemm_block_finish(const struct tern_gemm_block *g, const bool integers, const struct gemm_columns *b,
                              size_t panel, size_t at, size_t row, size_t end)
{
    for (; row < end; row++, at += TERN_PANEL) {
        float *to = b->c + row * g->ldc + panel * TERN_PANEL;

        for (size_t j = 0; j < TERN_PANEL; j += 16) {
            const v16 scale = v16_load(b->scale + panel * TERN_PANEL + j);
            const v16 bias = v16_load(b->bias + panel * TERN_PANEL + j);
            if (integers)
                v16_store(to + j, v16_add(v16_mul(v16_load_s32((const int32_t *)g->sums + at + j),
                                                  v16_mul(v16_set1(g->row_scale[row]), scale)),
                                          bias));
            else
                v16_store(to + j, v16_add(v16_mul(v16_load((const float *)g->sums + at + j), scale), bias));
        }
    }
}

/* Tile by tile through a level's kernel of one tile, which takes several passes or one: `call` for one panel's rows [row, end), sums from `at`
 * on. */
#define GEMM_BLOCK_BY_TILES(integers, per, passes, call)                                                          \
    do {                                                                                                          \
        const size_t block_steps = (g->k + (per)-1) / (per);                                                      \
        const struct gemm_cut cut = gemm_cut(g);                                                                  \
        struct gemm_vectors v;                                                                                    \
        gemm_vectors(g, &v);                                                                                      \
        for (size_t block = 0; block < g->count; block++) {                                                       \
            const struct gemm_columns b = gemm_columns(g, &v, block, block_steps * 128);                          \
            const struct gemm_hint hint = gemm_block_hint(g, &b, block_steps, g->tiles, passes);                  \
            const char *ahead = hint.at;                                                                          \
            for (size_t tile = 0, row = 0, whole = 0; tile < g->tiles; tile++) {                                  \
                const size_t end = row + cut.each + (tile < cut.more);                                            \
                const size_t bytes = hint.step * block_steps;                                                     \
                for (size_t panel = 0; panel < g->panels; panel++) {                                              \
                    const size_t at = panel * g->sums_second + gemm_sums_at(g, row, whole);                       \
                    const char *words = b.panel + panel * b.second;                                               \
                    const int32_t *start = b.start ? b.start + panel * b.second_column : NULL;                    \
                    const struct tern_gemm_next next = { hint.step ? ahead + panel * b.next_second : NULL, bytes, \
                                                         g->prefetch };                                           \
                    (void)start;                                                                                  \
                    call;                                                                                         \
                    if (g->c)                                                                                     \
                        gemm_block_finish(g, integers, &b, panel, at, row, end);                                  \
                }                                                                                                 \
                ahead += bytes;                                                                                   \
                if (g->finish)                                                                                    \
                    whole = gemm_finish(g, block, whole, end, cut.each + (cut.more > 0));                         \
                row = end;                                                                                        \
            }                                                                                                     \
        }                                                                                                         \
    } while (0)

#endif
