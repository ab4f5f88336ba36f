/* gemm.c: a product of rows with a packed weight.
 *
 * Order: panels outermost, then equal blocks of k, then row tiles.  A block of a panel stays in the second-level cache
 * while all row tiles use it, and while they do, each tile prefetches its share of the next block, so that arithmetic and
 * memory overlap even at 16 rows.  Each element is one chain of fused multiply-adds over k, held in a scratch tile between
 * blocks of k: neither the cut of k, nor that of the rows, nor the number of threads shows in the bits.  A finished tile
 * goes through the epilogue to C once: lines of C are not read back behind stores that miss. */
#include "ops/kernel_calls.h"

/* Rows whose partial tiles are kept between blocks of k: 16 KiB of stack.  More rows walk the panel again; from the cache
 * that costs 3 % of a group's arithmetic at most. */
#define GROUP_ROWS 128

/* From here on threads split rows: each then streams all weights, which pays off once they are read from a shared cache. */
#define SPLIT_ROWS 128

/* Row tiles of m rows.  14 rows and fewer are one tile: its weights are read once.  Then even tiles, of 8 rows where
 * there are many, of up to 10 where a short last tile would cost more than wider ones. */
static size_t count_tiles(size_t m)
{
    const size_t rows = m <= TERN_TILE_ROWS ? TERN_TILE_ROWS : m < 64 ? 10 : 8;

    return (m + rows - 1) / rows;
}

/* Begin of part i of n things in `parts` parts that differ by one at most. */
static size_t part(size_t n, size_t parts, size_t i)
{
    return n / parts * i + (i < n % parts ? i : n % parts);
}

/* Panel `panel` for rows [row, row + m), m <= GROUP_ROWS.  next: what is read after it, or NULL. */
static void panel_product(const struct tern_kernels *kernels, float *c, size_t ldc, const float *a, size_t lda,
                          size_t row, size_t m, const struct tern_weight *w, size_t panel, const float *next,
                          const struct tern_epilogue *e)
{
    const size_t k = (size_t)w->in, col = panel * TERN_PANEL, left = (size_t)w->out - col;
    const size_t n_blocks = k > kernels->k_block ? (k + kernels->k_block - 1) / kernels->k_block : 1;
    const size_t n_tiles = count_tiles(m);
    const float *weights = w->panels + panel * k * TERN_PANEL;
    _Alignas(64) float tiles[GROUP_ROWS * TERN_PANEL];

    for (size_t block = 0; block < n_blocks; block++) {
        const size_t k0 = part(k, n_blocks, block), k1 = part(k, n_blocks, block + 1);
        const bool last = block + 1 == n_blocks;
        const float *ahead = last ? next : weights + k1 * TERN_PANEL;
        const size_t ahead_steps = !ahead ? 0 : last ? part(k, n_blocks, 1) : part(k, n_blocks, block + 2) - k1;
        for (size_t t = 0; t < n_tiles; t++) {
            const size_t r0 = part(m, n_tiles, t), rows = part(m, n_tiles, t + 1) - r0;
            const size_t s0 = part(ahead_steps, n_tiles, t), s1 = part(ahead_steps, n_tiles, t + 1);
            float *tile =
                n_blocks > 1 ? tiles + r0 * TERN_PANEL : tiles; /* one that stays in the first level, if it may */
            kernels->gemm_f32(tile, TERN_PANEL, a + (row + r0) * lda + k0, lda, weights + k0 * TERN_PANEL, k1 - k0,
                              rows, block > 0, s1 > s0 ? ahead + s0 * TERN_PANEL : NULL,
                              (s1 - s0) * TERN_PANEL * sizeof(float));
            if (last)
                kernels->epilogue_f32(c, ldc, tile, e, row + r0, col, rows, left < TERN_PANEL ? left : TERN_PANEL);
        }
    }
}

void tern_gemm_run(const struct tern_par *par, float *c, size_t ldc, const float *a, size_t lda, size_t m,
                   const struct tern_weight *w, const struct tern_epilogue *e)
{
    const size_t n_panels = ((size_t)w->out + TERN_PANEL - 1) / TERN_PANEL;
    size_t panel = 0, panel_end = n_panels, row0 = 0, row_end = m;

    if (m < SPLIT_ROWS)
        tern_share(par, n_panels, 1, &panel, &panel_end);
    else
        tern_share(par, m, 8, &row0, &row_end);

    const size_t m_here = row_end - row0, n_groups = (m_here + GROUP_ROWS - 1) / GROUP_ROWS;
    for (; panel < panel_end; panel++) {
        const float *here = w->panels + panel * (size_t)w->in * TERN_PANEL;
        const float *following = panel + 1 < panel_end ? here + (size_t)w->in * TERN_PANEL : NULL;
        for (size_t g = 0; g < n_groups; g++) {
            const size_t r0 = part(m_here, n_groups, g), r1 = part(m_here, n_groups, g + 1);
            panel_product(par->kernels, c, ldc, a, lda, row0 + r0, r1 - r0, w, panel,
                          g + 1 < n_groups ? here : following, e);
        }
    }
    tern_barrier(par);
}
