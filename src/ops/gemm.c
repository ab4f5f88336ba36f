/* gemm.c: a product of rows with a packed weight of any format.
 *
 * Order: panels outermost (two neighbours at a time where there are many rows), then equal blocks of k, then row tiles.  A block
 * stays in the second-level cache while all row tiles use it, and while they do, each tile prefetches its share of the next block, so
 * that arithmetic and memory overlap even at 16 rows.  Each element is one chain of fused multiply-adds over k (or one sum of
 * integers), held in scratch between blocks of k: neither the cut of k, nor that of the rows, nor the number of threads shows in the
 * bits, so a plan (plans.h) may choose them.  A finished tile goes to C once, from the kernel's registers where only scale and bias
 * follow, else through the epilogue: lines of C are not read back behind stores that miss.  A gated product of many rows takes a panel
 * and that of its gates as the two of a tile.
 *
 * Weights in groups have no product of codes with f32: a block of a panel becomes f32 numbers in the first-level cache, for all
 * row tiles of a group.  With rows of u8 they have one for each part of K that shares scales.
 *
 * k is counted in steps here, the 32 words of a panel that one instruction takes: 1 element of f32 and f16, 2 of bf16, 4 of s8. */
#include "base/memory.h"
#include "kernels/plans.h"
#include "ops/quantize_weight.h"

#include <string.h>

/* Rows whose sums are kept between blocks of k: 16 KiB of stack for each panel.  More rows walk the panel again; from the cache
 * that costs 3 % of a group's arithmetic at most. */
#define GROUP_ROWS 128

/* Rows of gates that wait for what they are multiplied with: 4 KiB. */
#define GATE_ROWS 32

/* Without a plan threads split rows from here on: each then streams all weights, which pays off once they are read from a shared cache. */
#define SPLIT_ROWS 128

/* Elements of K that are numbers at a time, 16 KiB of stack: a third of the first-level cache. */
#define NUMBERS 128

/* A product, its rows in the type that the kernel takes. */
struct product {
    const struct tern_kernels *kernels;
    const struct tern_weight *w;
    struct tern_epilogue e;
    float *c;
    size_t ldc;
    const void *a; /* f32, or narrow: bf16 bits or u8 */
    size_t lda;
    bool narrow;
    const float *row_scale; /* [M], u8 rows only */
    bool gated;             /* the second half of the panels are gates: */
    size_t pair;            /* panels from one to that of its gates */
    enum tern_act gate_act;
    struct tern_weight_layout layout;
    struct tern_plan plan;
};

/* Row tiles of m rows.  Without a plan 14 rows and fewer are one tile: its weights are read once.  Then even tiles, of 8 rows
 * where there are many, of up to 10 where a short last tile would cost more than wider ones. */
static size_t count_tiles(const struct tern_plan *plan, size_t m)
{
    const size_t rows = plan->tile_rows ? plan->tile_rows : m <= TERN_TILE_ROWS ? TERN_TILE_ROWS : m < 64 ? 10 : 8;

    return (m + rows - 1) / rows;
}

/* Equal blocks of so many steps of a panel. */
static size_t count_blocks(const struct tern_kernels *kernels, const struct tern_plan *plan, size_t steps,
                           size_t step_bytes)
{
    const size_t block = (plan->k_block ? plan->k_block : kernels->k_block) * TERN_PANEL * sizeof(float) / step_bytes;

    return steps > block ? (steps + block - 1) / block : 1;
}

static bool splits_rows(const struct tern_plan *plan, size_t m)
{
    return plan->split == TERN_SPLIT_AUTO ? m >= SPLIT_ROWS : plan->split == TERN_SPLIT_ROWS;
}

/* Whether kernels of blocks take two panels at a time: with many rows, unless a plan says how high tiles of one panel are. */
static bool pairs_panels(const struct tern_kernels *kernels, const struct tern_plan *plan, size_t m)
{
    return m >= kernels->pair_rows && !plan->tile_rows;
}

/* Whether they take a panel and that of its gates, where there are such kernels: bytes of s8 are read fast enough for two streams as soon as
 * one tile does not hold all rows, where the first-level cache takes what is sent for. */
static bool pairs_gates(const struct tern_kernels *kernels, const struct tern_plan *plan, size_t m, bool q8)
{
    return pairs_panels(kernels, plan, m) || (q8 && m > TERN_TILE_ROWS && kernels->pair_rows < SIZE_MAX &&
                                              !plan->tile_rows && tern_prefetch_of(kernels, m) == TERN_PREFETCH_L1);
}

/* n things in `parts` parts that differ by one at most.  Between two calls of a kernel there is no time for divisions. */
struct cut {
    size_t each, more; /* the first `more` parts have one more */
};

static struct cut cut(size_t n, size_t parts)
{
    return (struct cut){ n / parts, n % parts };
}

/* Where part i begins. */
static size_t cut_at(struct cut c, size_t i)
{
    return c.each * i + (i < c.more ? i : c.more);
}

static size_t part(size_t n, size_t parts, size_t i)
{
    return cut_at(cut(n, parts), i);
}

/* Steps [s0, s1) of a panel for `rows` rows of f32 from `row` on, weights widened.  Other products are blocks. */
static void tile_product(const struct product *p, float *sums, size_t row, size_t rows, size_t panel, size_t s0,
                         size_t s1, const struct tern_gemm_next *next)
{
    const struct tern_kernels *kernels = p->kernels;
    const size_t per = p->layout.per, in = (size_t)p->w->in, k0 = s0 * per, k = (s1 * per < in ? s1 * per : in) - k0;
    const float *a = (const float *)p->a + row * p->lda + k0;
    const char *words = (const char *)p->w->words + (panel * p->layout.steps + s0) * p->layout.step_bytes;
    const bool more = s0 > 0;

    if (p->w->format == TERN_WEIGHT_F16)
        kernels->gemm_f32_f16(sums, TERN_PANEL, a, p->lda, (const uint16_t *)(const void *)words, k, rows, more, next);
    else if (p->w->format == TERN_WEIGHT_BF16)
        kernels->gemm_f32_bf16(sums, TERN_PANEL, a, p->lda, (const uint16_t *)(const void *)words, k, rows, more, next);
    else
        kernels->gemm_f32_q8(sums, TERN_PANEL, a, p->lda, (const int8_t *)words, k, rows, more, next);
}

/* Panel `panel` for rows [row, row + m), m <= GROUP_ROWS. */
struct piece {
    size_t row, m, panel;
    size_t panels;    /* 1, or 2: neighbours, or of a gated product the panel of its gates too */
    const char *next; /* what is read after it, or NULL */
    void *gates;      /* sums [m][32] of a gated product: filled by the panel of gates, read by the other; else NULL */
    bool is_gate;
    bool cold; /* the first of all, and of more than a row: a single one gains nothing */
};

/* A finished tile of floats or integers, for `rows` rows from `row` on, of panel `panel`; gate: that of its gates, or NULL. */
static void finish_tile(const struct product *p, size_t row, size_t rows, size_t panel, const float *sums,
                        const int32_t *integers, const void *gate)
{
    const struct tern_kernels *kernels = p->kernels;
    const size_t col = panel * TERN_PANEL, left = (size_t)p->w->out - col, n = left < TERN_PANEL ? left : TERN_PANEL;
    const struct tern_epilogue *e = &p->e;
    struct tern_epilogue gated;

    if (gate) {
        gated = *e;
        gated.act = p->gate_act;
        gated.gate = gate;
        gated.gate_columns = p->pair * TERN_PANEL;
        e = &gated;
    }
    if (integers)
        kernels->epilogue_s32(p->c, p->ldc, integers, p->row_scale + row, e, row, col, rows, n);
    else
        kernels->epilogue_f32(p->c, p->ldc, sums, e, row, col, rows, n);
}

/* The same of the piece's panel `i`, for rows [r0, r0 + rows) of the piece. */
static void finish(const struct product *p, const struct piece *piece, size_t i, const float *sums,
                   const int32_t *integers, size_t r0, size_t rows)
{
    char *gate = piece->gates ? (char *)piece->gates + r0 * TERN_PANEL * sizeof *sums : NULL;

    if (gate && piece->is_gate)
        memcpy(gate, integers ? (const void *)integers : sums, rows * TERN_PANEL * sizeof *sums);
    else
        finish_tile(p, piece->row + r0, rows, piece->panel + i, sums, integers, gate);
}

/* Whether nothing but scale and bias follows the sums: kernels of blocks store them then. */
static bool is_plain(const struct product *p)
{
    const struct tern_epilogue *e = &p->e;

    return !p->gated && e->act == TERN_ACT_NONE && !e->residual && !e->residual2 && !e->half;
}

static tern_gemm_block_f32_fn *block_kernel(const struct product *p)
{
    switch (p->w->format) {
    case TERN_WEIGHT_F32:
        return p->kernels->gemm_block_f32;
    case TERN_WEIGHT_BF16:
        return p->narrow ? p->kernels->gemm_block_bf16 : NULL;
    case TERN_WEIGHT_Q8:
        return p->narrow ? p->kernels->gemm_block_q8 : NULL;
    case TERN_WEIGHT_F16:
    case TERN_WEIGHT_GROUPS:
        break;
    }
    return NULL;
}

/* Of a row as kernels of blocks take it. */
static size_t element_bytes(enum tern_weight_format format)
{
    return format == TERN_WEIGHT_F32 ? 4 : format == TERN_WEIGHT_BF16 ? 2 : 1;
}

/* From the first to the second of two panels. */
static size_t panels_apart(const struct product *p)
{
    return p->gated ? p->pair : 1;
}

/* What a kernel of blocks adds up: f32, or s32 where rows and weights are integers. */
union block_sums {
    float f32[2 * GROUP_ROWS * TERN_PANEL];
    int32_t s32[2 * GROUP_ROWS * TERN_PANEL];
};

/* Whose sums a kernel of blocks is to pass on: blocks of the piece's panels, the piece's being the first. */
struct block_end {
    const struct product *p;
    const struct piece *piece;
    size_t second; /* sums to the second panel's */
};

static void block_finish(void *user, size_t block, size_t row, size_t rows, const void *sums)
{
    const struct block_end *end = user;
    const bool integers = end->p->row_scale != NULL;

    if (end->p->gated && end->piece->panels == 2) {
        finish_tile(end->p, end->piece->row + row, rows, end->piece->panel + block, sums, integers ? sums : NULL,
                    (const float *)sums + end->second);
        return;
    }
    for (size_t i = 0, at = 0; i < end->piece->panels; i++, at += end->second)
        finish(end->p, end->piece, block * end->piece->panels + i, (const float *)sums + at,
               integers ? (const int32_t *)sums + at : NULL, row, rows);
}

/* Rows of the residual from `row` on, at the columns of so many panels; NULL where there are none, or not all of the columns. */
static const float *read_rows(const struct product *p, size_t row, size_t panel, size_t panels)
{
    const bool all = p->e.residual && !p->gated && (panel + panels) * TERN_PANEL <= (size_t)p->w->out;

    return all ? p->e.residual + row * p->e.ld_residual + panel * TERN_PANEL : NULL;
}

/* One panel or two by a kernel of blocks. */
static void block_product(const struct product *p, const struct piece *piece, tern_gemm_block_f32_fn *kernel)
{
    const size_t steps = p->layout.steps, step_bytes = p->layout.step_bytes, panels = piece->panels;
    const size_t n_blocks = count_blocks(p->kernels, &p->plan, steps, step_bytes), col = piece->panel * TERN_PANEL;
    const size_t element = element_bytes(p->w->format), row = piece->row;
    const size_t in = (size_t)p->w->in, per = p->layout.per;
    const char *words = (const char *)p->w->words + piece->panel * steps * step_bytes;
    const struct cut blocks = cut(steps, n_blocks);
    const bool plain = is_plain(p) && col + panels * TERN_PANEL <= (size_t)p->w->out;
    _Alignas(64) union block_sums sums;
    struct block_end end = { p, piece, GROUP_ROWS * TERN_PANEL };
    struct tern_gemm_block g = { .lda = p->lda,
                                 .second = steps * step_bytes,
                                 .panels = panels,
                                 .apart = panels_apart(p),
                                 .count = 1,
                                 .m = piece->m,
                                 .tiles = panels == 2 ? (piece->m + TERN_PAIR_ROWS - 1) / TERN_PAIR_ROWS
                                                      : count_tiles(&p->plan, piece->m),
                                 .sums = &sums,
                                 .sums_second = end.second,
                                 .start = p->w->start ? p->w->start + col : NULL,
                                 .next_second = panels_apart(p) * steps * step_bytes,
                                 .ldc = p->ldc,
                                 .user = &end,
                                 .ld_read = p->e.ld_residual,
                                 .scale = p->e.scale ? p->e.scale + col : NULL,
                                 .bias = p->e.bias ? p->e.bias + col : NULL,
                                 .row_scale = p->row_scale ? p->row_scale + row : NULL };

    for (size_t block = 0; block < n_blocks; block++) {
        const size_t s0 = cut_at(blocks, block), s1 = cut_at(blocks, block + 1);
        const bool last = block + 1 == n_blocks;
        const size_t ahead = last ? cut_at(blocks, 1) : cut_at(blocks, block + 2) - s1;

        g.a = (const char *)p->a + (row * p->lda + s0 * per) * element;
        g.panel = words + s0 * step_bytes;
        g.k = (s1 * per < in ? s1 * per : in) - s0 * per;
        g.cold = piece->cold && block == 0;
        g.begin = block == 0;
        g.next = last ? piece->next : words + s1 * step_bytes;
        g.next_bytes = ahead * step_bytes;
        g.prefetch = tern_prefetch_of(p->kernels, piece->m);
        g.c = last && plain ? p->c + row * p->ldc + col : NULL;
        g.finish = last && !plain ? block_finish : NULL;
        g.read = g.finish ? read_rows(p, row, piece->panel, panels) : NULL;
        kernel(&g);
    }
}

/* Rows [row, row + m) with the panels [panel, panel_end) in one call, if all of K is one block and gates, if any, are panels of pairs: with
 * few rows a call for each panel would cost a twentieth of its product.  How many panels that are: 0 if not so, else all but those that
 * are no block of `panels`, or not full where the kernel stores them. */
static size_t whole_product(const struct product *p, size_t row, size_t m, size_t panel, size_t panel_end,
                            size_t panels)
{
    const size_t steps = p->layout.steps, step_bytes = p->layout.step_bytes, col = panel * TERN_PANEL;
    const size_t full = (size_t)p->w->out / TERN_PANEL;
    const bool plain = is_plain(p);
    const size_t last = plain && full < panel_end ? full : panel_end;
    const size_t each = p->gated ? 1 : panels; /* panels of a block, but for those of gates */
    const size_t count = last > panel ? (last - panel) / each : 0, done = panel + count * each;
    const char *words = (const char *)p->w->words;
    tern_gemm_block_f32_fn *const kernel = block_kernel(p);
    _Alignas(64) union {
        float f32[2 * TERN_FINISH_ROWS * TERN_PANEL];
        int32_t s32[2 * TERN_FINISH_ROWS * TERN_PANEL];
    } sums; /* of some tiles */
    const struct piece piece = { .row = row, .m = m, .panel = panel, .panels = panels };
    struct block_end end = { p, &piece, TERN_FINISH_ROWS * TERN_PANEL };

    if (!kernel || !count || !m || (p->gated && panels == 1) ||
        count_blocks(p->kernels, &p->plan, steps, step_bytes) > 1)
        return 0;
    kernel(&(struct tern_gemm_block){ .a = (const char *)p->a + row * p->lda * element_bytes(p->w->format),
                                      .lda = p->lda,
                                      .panel = words + panel * steps * step_bytes,
                                      .second = steps * step_bytes,
                                      .panels = panels,
                                      .apart = panels_apart(p),
                                      .count = count,
                                      .cold = m > 1,
                                      .k = (size_t)p->w->in,
                                      .m = m,
                                      .tiles = panels == 2 ? (m + TERN_PAIR_ROWS - 1) / TERN_PAIR_ROWS
                                                           : count_tiles(&p->plan, m),
                                      .begin = true,
                                      .start = p->w->start ? p->w->start + col : NULL,
                                      .sums = &sums,
                                      .sums_second = end.second,
                                      .next = done < panel_end ? words + done * steps * step_bytes : NULL,
                                      .next_bytes = steps * step_bytes,
                                      .prefetch = tern_prefetch_of(p->kernels, m),
                                      .c = plain ? p->c + row * p->ldc + col : NULL,
                                      .ldc = p->ldc,
                                      .finish = plain ? NULL : block_finish,
                                      .user = &end,
                                      .read = read_rows(p, row, panel, count * panels),
                                      .ld_read = p->e.ld_residual,
                                      .scale = p->e.scale ? p->e.scale + col : NULL,
                                      .bias = p->e.bias ? p->e.bias + col : NULL,
                                      .row_scale = p->row_scale ? p->row_scale + row : NULL });
    return count * each;
}

static void panel_product(const struct product *p, const struct piece *piece)
{
    const size_t row = piece->row, m = piece->m, panel = piece->panel;
    const struct tern_kernels *kernels = p->kernels;
    const size_t steps = p->layout.steps, step_bytes = p->layout.step_bytes;
    const size_t n_blocks = count_blocks(kernels, &p->plan, steps, step_bytes);
    const size_t n_tiles = count_tiles(&p->plan, m);
    const char *words = (const char *)p->w->words + panel * steps * step_bytes;
    _Alignas(64) float sums[GROUP_ROWS * TERN_PANEL];

    for (size_t block = 0; block < n_blocks; block++) {
        const size_t s0 = part(steps, n_blocks, block), s1 = part(steps, n_blocks, block + 1);
        const bool last = block + 1 == n_blocks;
        const char *ahead = last ? piece->next : words + s1 * step_bytes;
        const size_t ahead_steps = !ahead ? 0 : last ? part(steps, n_blocks, 1) : part(steps, n_blocks, block + 2) - s1;
        for (size_t t = 0; t < n_tiles; t++) {
            const size_t r0 = part(m, n_tiles, t), rows = part(m, n_tiles, t + 1) - r0;
            const size_t h0 = part(ahead_steps, n_tiles, t), h1 = part(ahead_steps, n_tiles, t + 1);
            const size_t at = n_blocks > 1 ? r0 : 0; /* a tile that stays in the first level, if it may */

            const struct tern_gemm_next next = { h1 > h0 ? ahead + h0 * step_bytes : NULL, (h1 - h0) * step_bytes,
                                                 tern_prefetch_of(kernels, m) };

            tile_product(p, sums + at * TERN_PANEL, row + r0, rows, panel, s0, s1, &next);
            if (last)
                finish(p, piece, 0, sums + at * TERN_PANEL, NULL, r0, rows);
        }
    }
}

/* The same for a panel of codes with groups, in f32. */
static void panel_groups(const struct product *p, const struct piece *piece)
{
    const struct tern_kernels *kernels = p->kernels;
    const size_t row = piece->row, m = piece->m, panel = piece->panel;
    const size_t in = (size_t)p->w->in, n_tiles = count_tiles(&p->plan, m);
    _Alignas(64) float sums[GROUP_ROWS * TERN_PANEL], numbers[NUMBERS * TERN_PANEL];

    for (size_t k0 = 0; k0 < in; k0 += NUMBERS) {
        const size_t k = in - k0 < NUMBERS ? in - k0 : NUMBERS;
        tern_groups_block(kernels, p->w, panel, k0, k, numbers);
        for (size_t t = 0; t < n_tiles; t++) {
            const size_t r0 = part(m, n_tiles, t), rows = part(m, n_tiles, t + 1) - r0;
            float *tile = sums + r0 * TERN_PANEL;
            kernels->gemm_f32(tile, TERN_PANEL, (const float *)p->a + (row + r0) * p->lda + k0, p->lda, numbers, k,
                              rows, k0 > 0, NULL);
            if (k0 + k == in)
                finish(p, piece, 0, tile, NULL, r0, rows);
        }
    }
}

/* The same with rows of u8: integers for each part of K, added up as f32. */
static void panel_parts(const struct product *p, const struct piece *piece)
{
    const struct tern_kernels *kernels = p->kernels;
    const struct tern_weight_groups *g = p->w->groups;
    const size_t row = piece->row, m = piece->m, panel = piece->panel;
    const size_t n_tiles = count_tiles(&p->plan, m), steps = g->part_steps, step_bytes = 4 * TERN_PANEL;
    const size_t n_blocks = count_blocks(kernels, &p->plan, steps, step_bytes);
    _Alignas(64) float sums[GROUP_ROWS * TERN_PANEL];
    _Alignas(64) int32_t codes[GROUP_ROWS * TERN_PANEL];

    for (size_t i = 0; i < g->n_parts; i++)
        for (size_t block = 0; block < n_blocks; block++) {
            const size_t s0 = part(steps, n_blocks, block), s1 = part(steps, n_blocks, block + 1), k0 = 4 * s0;
            const size_t k = (4 * s1 < g->part ? 4 * s1 : g->part) - k0, at = panel * g->n_parts + i;
            const int8_t *words = (const int8_t *)p->w->words + (at * steps + s0) * step_bytes;
            for (size_t t = 0; t < n_tiles; t++) {
                const size_t r0 = part(m, n_tiles, t), rows = part(m, n_tiles, t + 1) - r0;
                const uint8_t *a = (const uint8_t *)p->a + (row + r0) * p->lda + 4 * steps * i + k0;
                float *tile = sums + r0 * TERN_PANEL;
                int32_t *exact = codes + r0 * TERN_PANEL;
                kernels->gemm_q8(exact, TERN_PANEL, a, p->lda, words, g->start + at * TERN_PANEL, k, rows, block > 0,
                                 NULL);
                if (block + 1 < n_blocks)
                    continue;
                const struct tern_epilogue add = { .scale = g->scale + at * TERN_PANEL,
                                                   .residual = i ? tile : NULL,
                                                   .ld_residual = TERN_PANEL };
                kernels->epilogue_s32(tile, TERN_PANEL, exact, p->row_scale + row + r0, &add, 0, 0, rows, TERN_PANEL);
                if (i + 1 == g->n_parts)
                    finish(p, piece, 0, tile, NULL, r0, rows);
            }
        }
}

static void run_piece(const struct product *p, const struct piece *piece)
{
    tern_gemm_block_f32_fn *const kernel = block_kernel(p);

    if (kernel)
        block_product(p, piece, kernel);
    else if (p->w->format != TERN_WEIGHT_GROUPS)
        panel_product(p, piece);
    else if (p->narrow)
        panel_parts(p, piece);
    else
        panel_groups(p, piece);
}

/* A gated product of rows that are a single tile: some panels of gates, and then those that are multiplied by them.  Memory is what is waited
 * for, and it takes a while wherever its stream has a gap. */
static void run_streams(const struct product *p, size_t row, size_t m, size_t panel, size_t panel_end, size_t pair)
{
    const size_t panel_bytes = p->layout.steps * p->layout.step_bytes, most = GATE_ROWS > m ? GATE_ROWS / m : 1;
    _Alignas(64) union {
        float f32[GATE_ROWS * TERN_PANEL];
        int32_t s32[GATE_ROWS * TERN_PANEL];
    } gates;

    for (size_t end; panel < panel_end; panel = end) {
        end = panel_end - panel < most ? panel_end : panel + most;
        for (int is_gate = 1; is_gate >= 0; is_gate--)
            for (size_t i = panel; i < end; i++) {
                const size_t at = is_gate ? i + pair : i;
                run_piece(p, &(struct piece){ .row = row,
                                              .m = m,
                                              .panel = at,
                                              .panels = 1,
                                              .next = (const char *)p->w->words + (at + 1) * panel_bytes,
                                              .gates = gates.f32 + (i - panel) * m * TERN_PANEL,
                                              .is_gate = is_gate,
                                              .cold = m > 1 && i == panel });
            }
    }
}

/* Panels, or panels of gates and those that are multiplied by them: as pairs of the kernel, or else one after the other, gates first. */
static void run(const struct tern_par *par, const struct product *p, size_t m)
{
    const size_t n_panels = ((size_t)p->w->out + TERN_PANEL - 1) / TERN_PANEL;
    const size_t panel_bytes = p->layout.steps * p->layout.step_bytes, pair = p->pair;
    size_t panel = 0, panel_end = p->gated ? pair : n_panels, row0 = 0, row_end = m;
    _Alignas(64) union {
        float f32[GROUP_ROWS * TERN_PANEL];
        int32_t s32[GROUP_ROWS * TERN_PANEL];
    } gates;

    if (splits_rows(&p->plan, m))
        tern_share(par, m, 8, &row0, &row_end);
    else
        tern_share(par, panel_end, 1, &panel, &panel_end);

    const size_t m_here = row_end - row0, n_groups = (m_here + GROUP_ROWS - 1) / GROUP_ROWS;
    const bool q8 = p->row_scale != NULL;
    const bool pairs =
        p->gated ? pairs_gates(p->kernels, &p->plan, m_here, q8) : pairs_panels(p->kernels, &p->plan, m_here);
    const size_t most = block_kernel(p) && pairs ? 2 : 1;
    const size_t begin = panel;
    if (p->gated && m_here > 0 && m_here <= GATE_ROWS && count_tiles(&p->plan, m_here) == 1) {
        run_streams(p, row0, m_here, panel, panel_end, pair);
        panel = panel_end;
    }
    panel += whole_product(p, row0, m_here, panel, panel_end, most);
    const bool gates_first = p->gated && most == 1;
    for (size_t panels, each; panel < panel_end; panel += each) {
        panels = panel_end - panel < most && !p->gated ? 1 : most;
        each = p->gated ? 1 : panels;
        const char *here = (const char *)p->w->words + panel * panel_bytes,
                   *first = gates_first ? here + pair * panel_bytes : here;
        const char *following = panel + each < panel_end ? first + each * panel_bytes : NULL;
        for (size_t g = 0; g < n_groups; g++) {
            const size_t r0 = part(m_here, n_groups, g), r1 = part(m_here, n_groups, g + 1);
            struct piece piece = { .row = row0 + r0,
                                   .m = r1 - r0,
                                   .panel = panel,
                                   .panels = panels,
                                   .cold = m > 1 && panel == begin && g == 0 };
            if (gates_first) {
                piece.panel = panel + pair;
                piece.gates = &gates;
                piece.is_gate = true;
                piece.next = here;
                run_piece(p, &piece);
                piece.is_gate = false;
                piece.cold = false;
                piece.panel = panel;
            }
            piece.next = g + 1 < n_groups ? first : following;
            run_piece(p, &piece);
        }
    }
    tern_barrier(par);
}

static struct product product_of(const struct tern_par *par, float *c, size_t ldc, const struct tern_rows *rows,
                                 const struct tern_weight *w, const struct tern_epilogue *e)
{
    struct product p = { .kernels = par->kernels,
                         .w = w,
                         .e = *e,
                         .c = c,
                         .ldc = ldc,
                         .a = rows->f32 ? rows->f32 : rows->narrow,
                         .lda = rows->ld,
                         .narrow = !rows->f32,
                         .row_scale = rows->f32 ? NULL : rows->scale,
                         .layout = tern_weight_layout(w->format, (size_t)w->in) };

    if (w->scale)
        p.e.scale = w->scale;
    if (w->groups)
        p.layout = (struct tern_weight_layout){ (size_t)1 << w->groups->shift, 4 * TERN_PANEL,
                                                w->groups->n_parts * w->groups->part_steps };
    return p;
}

/* A product in a trace, by whether rows were rounded and the format of the weights. */
static void trace(const struct tern_par *par, bool narrow, const struct tern_weight *w, size_t m, double begin)
{
    static const char *const names[2][5] = {
        { [TERN_WEIGHT_F32] = "gemm_f32",
          [TERN_WEIGHT_F16] = "gemm_f32_f16",
          [TERN_WEIGHT_BF16] = "gemm_f32_bf16",
          [TERN_WEIGHT_Q8] = "gemm_f32_q8",
          [TERN_WEIGHT_GROUPS] = "gemm_f32_groups" },
        { [TERN_WEIGHT_BF16] = "gemm_bf16", [TERN_WEIGHT_Q8] = "gemm_q8", [TERN_WEIGHT_GROUPS] = "gemm_q8_groups" },
    };

    tern_trace_end(par, &(const struct tern_trace_kind){ names[narrow][w->format], { "rows", "in", "out" } }, begin, m,
                   (size_t)w->in, (size_t)w->out);
}

/* ---- rows rounded to the type of the weights ---- */

bool tern_weight_has_rows_q8(const struct tern_weight *w)
{
    if (w->format == TERN_WEIGHT_GROUPS)
        return w->groups->start && w->groups->part <= TERN_ROWS_Q8_LONGEST;
    return w->format == TERN_WEIGHT_Q8 && w->in <= TERN_ROWS_Q8_LONGEST;
}

/* Elements of a narrow row with what fills its parts up. */
static size_t narrow_elements(const struct tern_weight *w)
{
    return w->groups ? w->groups->n_parts * w->groups->part_steps * 4 : (size_t)w->in;
}

/* Elements from one narrow row to the next: whole cache lines, and no multiple of 4 KiB, where rows share their cache sets. */
static size_t narrow_stride(const struct tern_weight *w)
{
    const size_t element = w->format == TERN_WEIGHT_BF16 ? 2 : 1;
    const size_t bytes = (narrow_elements(w) * element + 63) / 64 * 64;

    return (bytes % 4096 ? bytes : bytes + 64) / element;
}

size_t tern_gemm_scratch(const struct tern_weight *w, size_t m)
{
    if (w->format == TERN_WEIGHT_BF16)
        return tern_mul_or_max(m, narrow_stride(w) * 2);
    return tern_weight_has_rows_q8(w) ? tern_mul_or_max(m, narrow_stride(w) + sizeof(float)) : 0;
}

/* Moves the parts of a row to where their steps begin.  What fills a part up stands for 0. */
static void spread_parts(uint8_t *row, const struct tern_weight_groups *g)
{
    const size_t room = 4 * g->part_steps;

    if (room == g->part)
        return;
    for (size_t i = g->n_parts; i-- > 0;) { /* from the end: no part is moved onto one that is still to go */
        memmove(row + i * room, row + i * g->part, g->part);
        memset(row + i * room + g->part, 128, room - g->part);
    }
}

struct tern_rows tern_rows_narrow(const struct tern_weight *w, void *scratch, size_t m)
{
    const bool u8 = tern_weight_has_rows_q8(w);
    const size_t stride = narrow_stride(w);

    if (!scratch || (!u8 && w->format != TERN_WEIGHT_BF16))
        return (struct tern_rows){ 0 };
    return (struct tern_rows){ .narrow = scratch,
                               .scale = u8 ? (float *)(void *)((char *)scratch + m * stride) : NULL,
                               .ld = stride };
}

void tern_rows_put(const struct tern_kernels *kernels, const struct tern_rows *rows, const struct tern_weight *w,
                   size_t row, const float *x)
{
    const size_t in = (size_t)w->in;

    if (rows->scale) {
        uint8_t *to = (uint8_t *)rows->narrow + row * rows->ld;
        kernels->quantize_row_q8(to, &rows->scale[row], x, in);
        if (w->groups)
            spread_parts(to, w->groups);
    } else {
        uint16_t *to = (uint16_t *)rows->narrow + row * rows->ld;
        kernels->bf16_from_f32(to, x, in);
        if (in % 2)
            to[in] = 0;
    }
}

void tern_rows_round(const struct tern_par *par, const struct tern_rows *rows, const struct tern_weight *w,
                     const float *a, size_t lda, size_t m)
{
    static const struct tern_trace_kind kinds[] = { { "bf16_from_f32", { "rows", "in" } },
                                                    { "quantize_row_q8", { "rows", "in" } } };
    const double begin = tern_trace_begin(par);
    size_t row, end;

    tern_share(par, m, 1, &row, &end);
    for (; row < end; row++)
        tern_rows_put(par->kernels, rows, w, row, a + row * lda);
    tern_barrier(par);
    tern_trace_end(par, &kinds[rows->scale != NULL], begin, m, (size_t)w->in, 0);
}

struct tern_rows tern_rows_from(const struct tern_par *par, const struct tern_weight *w, void *scratch, const float *a,
                                size_t lda, size_t m)
{
    const struct tern_rows rows = tern_rows_narrow(w, scratch, m);

    if (!rows.narrow)
        return tern_rows_f32(a, lda);
    tern_rows_round(par, &rows, w, a, lda, m);
    return rows;
}

bool tern_rows_halves(const struct tern_par *par, const struct tern_rows *rows, const struct tern_weight *w, size_t m,
                      struct tern_epilogue *e)
{
    size_t row, end;

    if (!rows->narrow || rows->scale)
        return false;
    e->half = rows->narrow;
    e->ld_half = rows->ld;
    if (w->in % 2) {
        tern_share(par, m, 1, &row, &end);
        for (; row < end; row++)
            e->half[row * rows->ld + (size_t)w->in] = 0;
    }
    return true;
}

struct tern_rows tern_rows_of(const tern_tensor *input, const struct tern_weight *w)
{
    const bool fits = input->dtype == TERN_BF16 && w->format == TERN_WEIGHT_BF16 && w->in % 2 == 0 &&
                      (uintptr_t)input->data % sizeof(uint32_t) == 0;

    return fits ? (struct tern_rows){ .narrow = input->data, .ld = (size_t)w->in } : (struct tern_rows){ 0 };
}

float *tern_gemm_store(const tern_tensor *output, size_t columns, struct tern_epilogue *e)
{
    if (output->dtype == TERN_FP32)
        return output->data;
    e->half = output->data;
    e->ld_half = columns;
    e->half_is_f16 = output->dtype == TERN_FP16;
    return NULL;
}

/* ---- plans ---- */

bool tern_gemm_plan_kind(const struct tern_weight *w, bool narrow, enum tern_plan_kind *kind)
{
    switch (w->format) {
    case TERN_WEIGHT_F32:
        *kind = TERN_PLAN_F32;
        return true;
    case TERN_WEIGHT_F16:
        *kind = TERN_PLAN_F32_F16;
        return true;
    case TERN_WEIGHT_BF16:
        *kind = narrow ? TERN_PLAN_BF16 : TERN_PLAN_F32_BF16;
        return true;
    case TERN_WEIGHT_Q8:
        *kind = narrow && tern_weight_has_rows_q8(w) ? TERN_PLAN_Q8 : TERN_PLAN_F32_Q8;
        return true;
    case TERN_WEIGHT_GROUPS: /* widened in tiles: another loop, which is never measured */
        break;
    }
    return false;
}

struct tern_plan tern_gemm_plan(const struct tern_par *par, size_t m, const struct tern_weight *w, bool narrow)
{
    const struct tern_plans *plans = par->kernels->plans;
    struct tern_plan_key key = { w->in, w->out, TERN_PLAN_F32, tern_plan_bucket(m), (uint32_t)par->count };
    const struct tern_plan_entry *found = NULL;

    if (plans && plans->count && tern_gemm_plan_kind(w, narrow, &key.kind))
        found = tern_plans_find(plans, &key);
    return found ? found->plan : (struct tern_plan){ 0 };
}

struct tern_gemm_cut tern_gemm_cut(const struct tern_kernels *kernels, int n_threads, size_t m,
                                   const struct tern_weight *w, const struct tern_plan *plan)
{
    const struct tern_weight_layout layout = tern_weight_layout(w->format, (size_t)w->in);
    const bool by_rows = n_threads > 1 && splits_rows(plan, m);
    const size_t units = (m + 7) / 8, threads = (size_t)n_threads;
    const size_t most = by_rows ? (units + threads - 1) / threads * 8 : m, here = most < m ? most : m;
    const size_t n_groups = (here + GROUP_ROWS - 1) / GROUP_ROWS;

    return (struct tern_gemm_cut){ .tiles = count_tiles(plan, (here + n_groups - 1) / n_groups),
                                   .blocks = count_blocks(kernels, plan, layout.steps, layout.step_bytes),
                                   .pairs = pairs_panels(kernels, plan, here),
                                   .by_rows = by_rows };
}

/* ---- the product ---- */

static void run_traced(const struct tern_par *par, const struct product *p, size_t m)
{
    const double begin = tern_trace_begin(par);

    run(par, p, m);
    trace(par, p->narrow, p->w, m, begin);
}

void tern_gemm_run_plan(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                        const struct tern_weight *w, const struct tern_epilogue *e, void *scratch,
                        const struct tern_plan *plan)
{
    const struct tern_rows rows = tern_rows_from(par, w, scratch, a, lda, m);
    struct product p = product_of(par, c, ldc, &rows, w, e);

    p.plan = *plan;
    run_traced(par, &p, m);
}

void tern_gemm_run(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                   const struct tern_weight *w, const struct tern_epilogue *e)
{
    const struct tern_rows rows = tern_rows_f32(a, lda);

    tern_gemm_run_rows(par, c, ldc, &rows, m, w, e);
}

void tern_gemm_run_narrow(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                          const struct tern_weight *w, const struct tern_epilogue *e, void *scratch)
{
    const struct tern_plan plan = tern_gemm_plan(par, m, w, scratch != NULL);

    tern_gemm_run_plan(par, c, ldc, a, lda, m, w, e, scratch, &plan);
}

void tern_gemm_run_rows(const struct tern_par *par, float *c, size_t ldc, const struct tern_rows *rows, size_t m,
                        const struct tern_weight *w, const struct tern_epilogue *e)
{
    struct product p = product_of(par, c, ldc, rows, w, e);

    p.plan = tern_gemm_plan(par, m, w, p.narrow);
    run_traced(par, &p, m);
}

bool tern_gemm_gates(const struct tern_weight *w)
{
    return w->out % (2 * TERN_PANEL) == 0;
}

void tern_gemm_run_gated(const struct tern_par *par, float *c, size_t ldc, const struct tern_rows *rows, size_t m,
                         const struct tern_weight *w, const struct tern_epilogue *e, enum tern_act act)
{
    struct product p = product_of(par, c, ldc, rows, w, e);

    p.gated = true;
    p.pair = (size_t)w->out / TERN_PANEL / 2;
    p.gate_act = act;
    p.plan = tern_gemm_plan(par, m, w, p.narrow);
    run_traced(par, &p, m);
}
