/* check_gemm.c: products of a row tile and a panel; then over whole matrices, weights hot and cold. */
#include "tc.h"

#include <stdlib.h>

void check_gemm_f32(struct tc *t)
{
    static const size_t ks[] = { 0, 1, 2, 3, 15, 64, 257 };
    static const struct {
        size_t lda_more, ldc;
    } strides[] = { { 0, 32 }, { 5, 71 } };

    for (size_t m = 1; m <= TERN_TILE_ROWS; m++)
        for (size_t s = 0; s < TC_COUNT(ks); s++)
            for (int form = 0; form < 4; form++) {
                const size_t k = ks[s], lda = k + strides[form & 1].lda_more, ldc = strides[form & 1].ldc;
                const size_t a_size = k ? (m - 1) * lda + k : 0, c_size = (m - 1) * ldc + 32;
                const bool accumulate = form >> 1;

                if (!tc_case(t, "m=%zu,k=%zu,ldc=%zu%s", m, k, ldc, accumulate ? ",accumulate" : ""))
                    continue;
                const float *a = tc_in_f32(t, a_size, TC_OUTLIERS), *panel = tc_in_panel(t, k * 32, TC_NORMAL);
                const float *c = tc_in_f32(t, c_size, TC_NORMAL);
                float *want = tc_copy_f32(t, c, c_size), *base = tc_copy_f32(t, c, c_size),
                      *got = tc_copy_f32(t, c, c_size);
                const size_t half = k / 2;
                const float *end = panel + 32 * k;
                const struct tern_gemm_next next[] = {
                    { end, 128 * k, TERN_PREFETCH_L1 },  { end, 128 * k, TERN_PREFETCH_L2 },
                    { end, 128 * k, TERN_PREFETCH_FEW }, { a, 64 * k, TERN_PREFETCH_L1 },
                    { panel, 1, TERN_PREFETCH_L2 },
                };

                t->ref.gemm_f32(want, ldc, a, lda, panel, k, m, accumulate, NULL);
                t->base.gemm_f32(base, ldc, a, lda, panel, k, m, accumulate, &next[3]);
                t->new.gemm_f32(got, ldc, a, lda, panel, k, m, accumulate, &next[m % 3]);
                tc_near_f32(t, want, got, NULL, c_size);
                tc_same_f32(t, base, got, c_size);

                /* in two calls over k, the second with rows cut in two */
                memcpy(got, c, c_size * sizeof *c);
                t->new.gemm_f32(got, ldc, a, lda, panel, half, m, accumulate, &next[4]);
                t->new.gemm_f32(got, ldc, a + half, lda, panel + 32 * half, k - half, (m + 1) / 2, true, NULL);
                if (m > 1)
                    t->new.gemm_f32(got + (m + 1) / 2 * ldc, ldc, a + half + (m + 1) / 2 * lda, lda, panel + 32 * half,
                                    k - half, m / 2, true, NULL);
                tc_same_f32(t, want, got, c_size);
            }

    if (tc_case(t, "special")) {
        const float *a = tc_in_f32(t, 7 * 40, TC_SPECIAL), *panel = tc_in_panel(t, 40 * 32, TC_FINITE);
        float *want = tc_out_f32(t, 7 * 32), *got = tc_out_f32(t, 7 * 32);

        t->ref.gemm_f32(want, 32, a, 40, panel, 40, 7, false, NULL);
        t->new.gemm_f32(got, 32, a, 40, panel, 40, 7, false, NULL);
        tc_same_f32(t, want, got, 7 * 32);
    }

    /* A whole product as ops do it: panels outermost, then equal blocks of k, then even row tiles, each asking for its share of
     * the next block.  Cold weights go round in 256 MiB. */
    static const struct {
        size_t k, n;
    } shapes[] = { { 768, 3072 }, { 3072, 768 }, { 768, 768 } };
    static const size_t rows[] = { 1, 2, 4, 8, 13, 16, 32, 64, 128 };

    for (size_t s = 0; s < TC_COUNT(shapes); s++)
        for (size_t r = 0; r < TC_COUNT(rows); r++)
            for (int cold = 0; cold < 2; cold++) {
                const size_t k = shapes[s].k, n = shapes[s].n, m = rows[r];
                const size_t blocks = (k + t->new.k_block - 1) / t->new.k_block, step = (k + blocks - 1) / blocks;
                const size_t tiles = (m + 13) / 14 == 1 ? 1 : (m + 7) / 8;
                const size_t copies = cold ? ((size_t)256 << 20) / (k * n * 4) : 1;

                if (t->new.isa == TERN_ISA_PORTABLE && (cold || m > 8)) /* seconds each */
                    continue;
                if (!tc_bench(t, 4.0 * (double)(k * n), 2.0 * (double)(k * n * m), "K=%zu,N=%zu,M=%zu,%s", k, n, m,
                              cold ? "cold" : "hot"))
                    continue;
                const float *a = tc_in_f32(t, m * k, TC_NORMAL);
                const float *w = tc_in_panel(t, copies * k * n, TC_NORMAL);
                float *tile = tc_out_panel(t, m * 32);

                TC_TIME(t)
                {
                    const float *panel = w + tc_turn(t) % copies * k * n;

                    for (size_t p = 0; p < n / 32; p++)
                        for (size_t b = 0; b < k; b += step) {
                            const size_t now = k - b < step ? k - b : step;
                            const size_t share = now * 128 / tiles;

                            for (size_t i = 0, row = 0; i < tiles; i++) {
                                const size_t height = (m - row) / (tiles - i);
                                const struct tern_gemm_next next = { (const char *)(panel + now * 32) + i * share,
                                                                     share, tern_prefetch_of(&t->new, m) };

                                t->new.gemm_f32(tile + row * 32, 32, a + row * k + b, k, panel, now, height, b != 0,
                                                &next);
                                row += height;
                            }
                            panel += now * 32;
                        }
                }
            }
}
