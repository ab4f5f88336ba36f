/* check_gemm_block.c: all rows of a product with a block of one or two panels, kept as sums, stored with scale and bias, or passed on
 * as they are finished, and with several such blocks. */
#include "tc.h"

enum form { F32, BF16, Q8 };

/* k elements of a step of 128 bytes; bytes of an element of the rows. */
static const size_t per[] = { 1, 2, 4 }, element[] = { 4, 2, 1 };

static void call(const struct tern_kernels *kernels, enum form form, const struct tern_gemm_block *g)
{
    if (form == F32)
        kernels->gemm_block_f32(g);
    else if (form == BF16)
        kernels->gemm_block_bf16(g);
    else
        kernels->gemm_block_q8(g);
}

/* Rows of `width` elements, lda apart, ordinary numbers as bf16; the last is 0 where k is odd. */
static uint16_t *normal_bf16(struct tc *t, size_t n)
{
    uint16_t *p = tc_out_u16(t, n);
    const float *x = tc_in_f32(t, n, TC_NORMAL);

    for (size_t i = 0; i < n; i++)
        tern_bf16_from_f32_ref(p + i, x + i, 1);
    return p;
}

static const void *make_rows(struct tc *t, enum form form, size_t k, size_t padded, size_t lda, size_t m)
{
    const size_t n = padded ? (m - 1) * lda + padded : 0;

    if (form == F32)
        return tc_in_f32(t, n, TC_OUTLIERS);
    if (form == Q8)
        return tc_in_u8(t, n);
    uint16_t *rows = normal_bf16(t, n);
    for (size_t i = 0; i < m && padded > k; i++)
        rows[i * lda + k] = 0;
    return rows;
}

/* Two panels of `steps` steps each, `second` bytes apart; nothing stands beyond k. */
static const void *make_panels(struct tc *t, enum form form, size_t k, size_t steps, size_t second, size_t panels)
{
    const size_t bytes = steps ? (panels - 1) * second + steps * 128 : 0;

    if (form == F32)
        return tc_in_panel(t, bytes / 4, TC_NORMAL);
    if (form == BF16) {
        uint16_t *words = normal_bf16(t, bytes / 2);
        for (size_t p = 0; p < panels && k % 2; p++)
            for (size_t j = 0; j < 32; j++)
                words[p * second / 2 + ((steps - 1) * 32 + j) * 2 + 1] = 0;
        return words;
    }
    uint8_t *words = tc_in_u8(t, bytes);
    for (size_t p = 0; p < panels; p++)
        for (size_t i = k; i < steps * 4; i++)
            for (size_t j = 0; j < 32; j++)
                words[p * second + (i / 4 * 32 + j) * 4 + i % 4] = 0;
    return words;
}

/* Panel `p` of all blocks' panels, as many as count * panels: where it stands among the weights. */
static size_t panel_at(const struct tern_gemm_block *g, size_t p)
{
    return g->apart > 1 ? p / g->panels + p % g->panels * g->apart : p;
}

/* For a bound: the sizes of all terms of a result, or of a sum where c is not given. */
static void term_sizes(const struct tern_gemm_block *g, const float *sums, float *size, size_t ld)
{
    for (size_t p = 0; p < g->count * g->panels; p++)
        for (size_t i = 0; i < g->m; i++)
            for (size_t j = 0; j < 32; j++) {
                const uint16_t *panel =
                    (const uint16_t *)(const void *)((const char *)g->panel + panel_at(g, p) * g->second);
                const size_t col = p * 32 + j;
                double sum = g->begin ? 0 : fabsf(sums[p * g->sums_second + i * 32 + j]);
                for (size_t s = 0; s < g->k; s++) {
                    float a, w;
                    tern_f32_from_bf16_ref(&a, (const uint16_t *)g->a + i * g->lda + s, 1);
                    tern_f32_from_bf16_ref(&w, panel + (s / 2 * 32 + j) * 2 + s % 2, 1);
                    sum += fabs((double)a * w);
                }
                if (g->c)
                    sum = sum * (g->scale ? fabsf(g->scale[col]) : 1) + (g->bias ? fabsf(g->bias[col]) : 0);
                size[g->c || g->finish ? i * ld + col : p * g->sums_second + i * 32 + j] = (float)sum;
            }
}

static void compare(struct tc *t, enum form form, const struct tern_gemm_block *g, const float *sums,
                    float *const results[3], size_t n)
{
    if (form == Q8 && !g->c) {
        tc_same_s32(t, (const int32_t *)(const void *)results[0], (const int32_t *)(const void *)results[2], n);
        return;
    }
    float *size = NULL;

    if (form == BF16) {
        size = tc_copy_f32(t, results[0], n);
        term_sizes(g, sums, size, g->ldc);
    }
    tc_near_f32(t, results[0], results[2], size, n);
    if (form != BF16 || t->new.isa < TERN_ISA_AVX512BF16) /* there an instruction rounds in its own way */
        tc_same_f32(t, results[1], results[2], n);
}

/* What finish got: the bits of all sums, a row of c being those of all blocks. */
struct passed_on {
    float *c;
    size_t ldc, panels, second, m;
    size_t rows[4]; /* of each block, so far */
    bool right;     /* in order, and no more at once than there may be */
};

static void pass_on(void *user, size_t block, size_t row, size_t rows, const void *sums)
{
    struct passed_on *to = user;

    to->right = to->right && row == to->rows[block] && rows > 0 && rows <= TERN_FINISH_ROWS && row + rows <= to->m;
    to->rows[block] += rows;
    for (size_t p = 0; p < to->panels; p++)
        for (size_t i = 0; i < rows; i++)
            memcpy(to->c + (row + i) * to->ldc + (block * to->panels + p) * 32,
                   (const float *)sums + p * to->second + i * 32, 32 * sizeof(float));
}

/* The block in two calls over k, tiles of other heights in the second. */
static void call_in_parts(const struct tern_kernels *kernels, enum form form, const struct tern_gemm_block *g,
                          size_t tiles)
{
    const size_t half = g->k / 2 / per[form] * per[form];
    struct tern_gemm_block part = *g;

    part.k = half;
    part.c = NULL;
    part.finish = NULL;
    part.next = (const char *)g->panel + half / per[form] * 128;
    part.next_bytes = 128;
    call(kernels, form, &part);
    part = *g;
    part.begin = false;
    part.k -= half;
    part.a = (const char *)g->a + half * element[form];
    part.panel = (const char *)g->panel + half / per[form] * 128;
    part.tiles = tiles;
    call(kernels, form, &part);
}

static void check_form(struct tc *t, const enum form form)
{
    static const size_t ms[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 29, 65 };
    static const size_t ks[] = { 0, 1, 2, 3, 4, 15, 64, 257 };

    for (size_t panels = 1; panels <= 2; panels++)
        for (size_t s = 0; s < TC_COUNT(ks); s++)
            for (size_t i = 0; i < TC_COUNT(ms); i++)
                for (int variant = 0; variant < 13; variant++) {
                    if (variant >= 11 && panels == 1)
                        continue;
                    const size_t m = ms[i], k = ks[s], steps = (k + per[form] - 1) / per[form];
                    const size_t padded = steps * per[form], highest = panels == 2 ? TERN_PAIR_ROWS : TERN_TILE_ROWS;
                    const size_t count = variant == 6 || variant == 10 || variant == 11 ? 2 : variant == 7 ? 3 : 1;
                    const size_t apart = variant >= 11 ? 3 : 1, results_panels = count * panels;
                    const size_t all_panels = apart > 1 ? count + apart : results_panels;
                    const size_t lda = padded + (variant & 1 ? 8 : 0),
                                 ldc = 32 * results_panels + (variant & 1 ? 7 : 0);
                    const bool finished = variant >= 8 && variant != 12, stored = variant >= 2 && variant < 8,
                               dense = stored || finished;
                    const bool begin = variant != 1 && variant != 5 && variant != 9;
                    const size_t room = finished ? TERN_FINISH_ROWS : highest, kept = count > 1 && m > room ? room : m;
                    const size_t sums_second = 32 * kept + (variant & 1 ? 16 : 0);
                    const size_t sums_size = (panels - 1) * sums_second + 32 * kept,
                                 c_size = (m - 1) * ldc + 32 * results_panels;

                    if (k > 64 && m % 4 != 1 && m != TERN_TILE_ROWS)
                        continue;
                    if (finished &&
                        (k % 3 != 0 || (m < 12 && m != 1 && m != 6))) /* 0, 3, 15: where it is called, not what with */
                        continue;
                    if (!tc_case(t, "panels=%zu,m=%zu,k=%zu%s%s%s", panels, m, k, apart > 1 ? ",apart" : "",
                                 !dense         ? ""
                                 : finished     ? (count > 1 ? ",finished,count=2" : ",finished")
                                 : variant == 2 ? ",stored"
                                 : variant == 3 ? ",scale"
                                 : variant == 4 ? ",bias"
                                 : variant == 5 ? ",scale,bias"
                                 : variant == 6 ? ",scale,bias,count=2"
                                                : ",bias,count=3",
                                 begin ? "" : ",accumulate"))
                        continue;
                    struct tern_gemm_block g = { .a = make_rows(t, form, k, padded, lda, m),
                                                 .lda = lda,
                                                 .second = (steps + 1) * 128,
                                                 .panels = panels,
                                                 .apart = apart,
                                                 .count = count,
                                                 .k = k,
                                                 .m = m,
                                                 .tiles = (m + highest - 1) / highest,
                                                 .begin = begin,
                                                 .sums_second = sums_second,
                                                 .ldc = ldc };
                    const float *sums = tc_in_f32(t, sums_size, TC_NORMAL);
                    float *all[4], *results[4];
                    int32_t *start = tc_out_s32(t, 32 * all_panels);

                    g.panel = make_panels(t, form, k, steps, g.second, all_panels);
                    for (size_t j = 0; j < 32 * all_panels; j++)
                        start[j] = (int32_t)tc_below(t, 1000000) - 500000;
                    g.start = start;
                    if (variant == 3 || variant == 5 || variant == 6)
                        g.scale = tc_in_f32(t, 32 * all_panels, TC_NORMAL);
                    if (variant >= 4 && stored)
                        g.bias = tc_in_f32(t, 32 * all_panels, TC_NORMAL);
                    g.row_scale = tc_in_f32(t, m, TC_NEAR_ONE);
                    const struct tern_kernels *kernels[] = { &t->ref, &t->base, &t->new };
                    for (int n = 0; n < 4; n++) {
                        float *const at = tc_out_panel(t, (sums_size + 15) / 16 * 16);
                        memcpy(at, sums, sums_size * sizeof(*at));
                        all[n] = dense ? tc_out_f32(t, c_size) : at;
                        struct passed_on to = { all[n], ldc, panels, sums_second, m, { 0 }, true };
                        results[n] = all[n];
                        g.sums = at;
                        g.c = stored ? all[n] : NULL;
                        g.finish = finished ? pass_on : NULL;
                        g.user = &to;
                        g.next = n == 1 ? (const char *)g.panel + steps * 128 : n == 2 ? g.panel : NULL;
                        g.next_bytes = steps * 128 / (n == 2 ? 3 : 1);
                        g.next_second = panels == 2 ? g.second : 0;
                        g.read = n % 2 == 0 && finished && apart == 1 ? all[n] : NULL;
                        g.ld_read = ldc;
                        g.cold = n % 2;
                        g.prefetch = (enum tern_prefetch)((n + g.m + g.k) % 3);
                        if (n == 3 && count > 1)
                            g.tiles = m;
                        if (n < 3 || count > 1)
                            call(kernels[n < 3 ? n : 2], form, &g);
                        else
                            call_in_parts(&t->new, form, &g, m);
                        for (size_t b = 0; finished && b < count; b++)
                            if (!to.right || to.rows[b] != m)
                                tc_fail(t, "finish: %zu rows of %zu of block %zu%s", to.rows[b], m, b,
                                        to.right ? "" : ", not as promised");
                    }
                    compare(t, form, &g, sums, results, dense ? c_size : sums_size);
                    if (form == Q8 && !stored)
                        tc_same_s32(t, (const int32_t *)(const void *)all[2], (const int32_t *)(const void *)all[3],
                                    dense ? c_size : sums_size);
                    else
                        tc_same_f32(t, all[2], all[3], dense ? c_size : sums_size);
                }

    if (form == F32 && tc_case(t, "special"))
        for (size_t panels = 1; panels <= 2; panels++) {
            const float *a = tc_in_f32(t, 7 * 40, TC_SPECIAL), *panel = tc_in_panel(t, 80 * 32, TC_FINITE);
            float *sums = tc_out_panel(t, 2 * 7 * 32), *want = tc_out_f32(t, 7 * 64), *got = tc_out_f32(t, 7 * 64);
            struct tern_gemm_block g = { .a = a,
                                         .lda = 40,
                                         .panel = panel,
                                         .second = 40 * 128,
                                         .panels = panels,
                                         .apart = 1,
                                         .count = 1,
                                         .k = 40,
                                         .m = 7,
                                         .tiles = 2 };

            g.begin = true;
            g.sums = sums;
            g.sums_second = 7 * 32;
            g.ldc = 64;
            g.c = want;
            call(&t->ref, form, &g);
            g.c = got;
            call(&t->new, form, &g);
            for (size_t i = 0; i < 7; i++)
                tc_same_f32(t, want + 64 * i, got + 64 * i, 32 * panels);
        }

    /* A product from the cache: what the loop itself reaches. */
    static const size_t rows[] = { 1, 8, 16, 64, 128 };

    for (size_t panels = 1; panels <= 2; panels++)
        for (size_t i = 0; i < TC_COUNT(rows); i++) {
            const size_t m = rows[i], steps = 384, k = steps * per[form];
            struct tern_gemm_block g = {
                .lda = k + 64, .second = steps * 128, .panels = panels, .apart = 1, .count = 1, .k = k, .m = m
            };

            if (t->new.isa == TERN_ISA_PORTABLE && m > 8) /* seconds each */
                continue;
            if (!tc_bench(t, (double)(panels * steps * 128), 64.0 * (double)(panels * k * m), "panels=%zu,k=%zu,m=%zu",
                          panels, k, m))
                continue;
            int32_t *start = tc_out_s32(t, 64);
            memset(start, 0, 64 * sizeof(*start));
            g.a = make_rows(t, form, k, k, g.lda, m);
            g.panel = make_panels(t, form, k, steps, g.second, panels);
            g.tiles = panels == 2 ? (m + TERN_PAIR_ROWS - 1) / TERN_PAIR_ROWS : m > 8 ? m / 8 : 1;
            g.begin = true;
            g.start = start;
            g.sums = tc_out_panel(t, panels * m * 32);
            g.sums_second = m * 32;
            g.c = tc_out_f32(t, m * 64);
            g.ldc = 64;
            g.row_scale = tc_in_f32(t, m, TC_NEAR_ONE);
            TC_TIME(t) call(&t->new, form, &g);
        }
}

void check_gemm_block_f32(struct tc *t)
{
    check_form(t, F32);
}

void check_gemm_block_bf16(struct tc *t)
{
    check_form(t, BF16);
}

void check_gemm_block_q8(struct tc *t)
{
    check_form(t, Q8);
}
