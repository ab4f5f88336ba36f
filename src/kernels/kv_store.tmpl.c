/* kv_store.tmpl.c: keys and values of new positions into their storage blocks.  Built once per level; contract in kernels.h.
 *
 * Sixteen positions that fill whole vectors of a K panel are turned 16 x 16, so that each line of a block is written at once
 * and not by a float of each position; others go one by one. */
#include "kernels/kernels.h"
#include "kernels/vec.h"

/* K of m positions, 16 or 1, from word c on, a word being a channel or a pair of them: words [c][32 positions]. */
V16_FN void kv_store_words(float *to, const float *words, size_t ld, size_t c, size_t n, size_t m)
{
    for (; m == 16 && c + 16 <= n; c += 16)
        v16_transpose(to + c * TERN_PANEL, TERN_PANEL, words + c, ld);
    for (; c < n; c++)
        for (size_t j = 0; j < m; j++)
            memcpy(to + c * TERN_PANEL + j, words + j * ld + c, sizeof *to);
}

/* Rows of V, n of them, to position p of their panels: whole panels as they are, the last one filled with 0. */
V16_FN void kv_store_values(float *v_block, const float *v, size_t stride, size_t v_dim, size_t p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float *from = v + i * stride;
        float *to = v_block + (p + i) * TERN_PANEL;
        size_t left = v_dim;

        for (; left >= TERN_PANEL; left -= TERN_PANEL, from += TERN_PANEL, to += TERN_KV_BLOCK * TERN_PANEL) {
            v16_store(to, v16_load(from));
            v16_store(to + 16, v16_load(from + 16));
        }
        if (left > 0) {
            v16_store(to, v16_load_n(from, left));
            v16_store(to + 16, left > 16 ? v16_load_n(from + 16, left - 16) : v16_set1(0));
        }
    }
}

static void TERN_K(kv_store_f32)(float *k_block, float *v_block, const float *k, const float *v, size_t stride,
                                 size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    for (size_t i = 0, m; i < n; i += m) {
        const size_t at = p + i;

        m = at % 16 == 0 && n - i >= 16 ? 16 : 1;
        kv_store_words(k_block + at / TERN_PANEL * k_width * TERN_PANEL + at % TERN_PANEL, k + i * stride, stride, 0,
                       head_dim, m);
    }
    kv_store_values(v_block, v, stride, v_dim, p, n);
}

static void TERN_K(kv_store_f16)(uint16_t *k_block, uint16_t *v_block, const float *k, const float *v, size_t stride,
                                 size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;
    float turned[16 * 16];

    for (size_t i = 0, m; i < n; i += m, p += m) {
        uint16_t *to = k_block + p / TERN_PANEL * k_width * TERN_PANEL + p % TERN_PANEL;
        size_t c = 0;

        m = p % 16 == 0 && n - i >= 16 ? 16 : 1;
        for (; m == 16 && c + 16 <= head_dim; c += 16) {
            v16_transpose(turned, 16, k + i * stride + c, stride);
            for (size_t j = 0; j < 16; j++)
                v16_store_f16(to + (c + j) * TERN_PANEL, v16_load(turned + j * 16));
        }
        for (; c < head_dim; c++)
            for (size_t j = 0; j < m; j++)
                v16_store_f16_n(to + c * TERN_PANEL + j, v16_set1(k[(i + j) * stride + c]), 1);
        for (size_t j = 0; j < m; j++)
            for (c = 0; c < width; c += 16)
                v16_store_f16(v_block + (c / TERN_PANEL * TERN_KV_BLOCK + p + j) * TERN_PANEL + c % TERN_PANEL,
                              c < v_dim ? v16_load_n(v + (i + j) * stride + c, v_dim - c) : v16_set1(0));
    }
}

/* Sixteen channels of V at an even position and the one after it, side by side; of one of them, `at`, where there is no other. */
V16_FN void kv_store_pair(uint16_t *to, const uint16_t *half, const uint16_t *other, size_t at)
{
    if (other) {
        v16_zip(to, half, other);
        return;
    }
    for (size_t d = 0; d < 16; d++)
        to[2 * d + at] = half[d];
}

/* Channels of a row that are made pairs at a time. */
#define KV_STORE_PART 64

static void TERN_K(kv_store_bf16)(uint16_t *k_block, uint16_t *v_block, const float *k, const float *v, size_t stride,
                                  size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL, steps = (k_width + 1) / 2;
    float pairs[16][KV_STORE_PART / 2];
    uint16_t half[16], other[16];

    for (size_t i = 0, m; i < n; i += m, p += m) {
        m = p % 16 == 0 && n - i >= 16 ? 16 : 1;
        for (size_t c = 0; c < head_dim; c += KV_STORE_PART) {
            const size_t part = head_dim - c < KV_STORE_PART ? head_dim - c : KV_STORE_PART;
            uint16_t *to = k_block + (p / TERN_PANEL * steps + c / 2) * 2 * TERN_PANEL + p % TERN_PANEL * 2;
            for (size_t j = 0; j < m; j++)
                for (size_t d = 0; d < part; d += 16) {
                    v16_store_bf16(half, v16_load_n(k + (i + j) * stride + c + d, part - d));
                    memcpy(&pairs[j][d / 2], half, sizeof half);
                }
            kv_store_words((float *)(void *)to, pairs[0], KV_STORE_PART / 2, 0, (part + 1) / 2, m);
        }
        for (size_t c = 0; c < width; c += 16)
            for (size_t j = 0; j < m; j += 2) {
                uint16_t *to = v_block + c / TERN_PANEL * TERN_KV_BLOCK * TERN_PANEL +
                               ((p + j) / 2 * TERN_PANEL + c % TERN_PANEL) * 2;
                const float *from = v + (i + j) * stride + c;
                v16_store_bf16(half, c < v_dim ? v16_load_n(from, v_dim - c) : v16_set1(0));
                if (m > 1)
                    v16_store_bf16(other, c < v_dim ? v16_load_n(from + stride, v_dim - c) : v16_set1(0));
                kv_store_pair(to, half, m > 1 ? other : NULL, p % 2);
            }
    }
}

static void TERN_K(kv_move_f16)(uint16_t *k_block, uint16_t *v_block, const uint16_t *k, const uint16_t *v,
                                size_t stride, size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    float turned[16 * 16];

    for (size_t i = 0, m; i < n; i += m) {
        const size_t at = p + i;
        uint16_t *to = k_block + at / TERN_PANEL * k_width * TERN_PANEL + at % TERN_PANEL;
        size_t c = 0;

        m = at % 16 == 0 && n - i >= 16 ? 16 : 1;
        for (; m == 16 && stride % 2 == 0 && c + 32 <= head_dim; c += 32) { /* in words of two channels */
            v16_transpose(turned, 16, (const float *)(const void *)(k + i * stride + c), stride / 2);
            for (size_t j = 0; j < 16; j++)
                v16_unzip(to + (c + 2 * j) * TERN_PANEL, to + (c + 2 * j + 1) * TERN_PANEL, turned + j * 16);
        }
        for (; c < head_dim; c++)
            for (size_t j = 0; j < m; j++)
                to[c * TERN_PANEL + j] = k[(i + j) * stride + c];
    }
    for (size_t i = 0; i < n; i++) {
        const uint16_t *from = v + i * stride;
        uint16_t *row = v_block + (p + i) * TERN_PANEL;
        size_t left = v_dim;

        for (; left >= TERN_PANEL; left -= TERN_PANEL, from += TERN_PANEL, row += TERN_KV_BLOCK * TERN_PANEL)
            memcpy(row, from, TERN_PANEL * sizeof *row);
        if (left > 0) {
            memcpy(row, from, left * sizeof *row);
            memset(row + left, 0, (TERN_PANEL - left) * sizeof *row);
        }
    }
}

/* V at an even position and the one after it as pairs, of v_dim channels; 0 where the last panel has no more. */
V16_FN void kv_move_pairs(uint16_t *to, const uint16_t *row, const uint16_t *next, size_t v_dim)
{
    uint16_t end[2][TERN_PANEL] = { { 0 } };
    size_t left = v_dim;

    for (; left >= TERN_PANEL; left -= TERN_PANEL, row += TERN_PANEL, next += TERN_PANEL) {
        v16_zip(to, row, next);
        v16_zip(to + TERN_PANEL, row + 16, next + 16);
        to += TERN_KV_BLOCK * TERN_PANEL;
    }
    if (left > 0) {
        memcpy(end[0], row, left * sizeof *row);
        memcpy(end[1], next, left * sizeof *row);
        v16_zip(to, end[0], end[1]);
        v16_zip(to + TERN_PANEL, end[0] + 16, end[1] + 16);
    }
}

static void TERN_K(kv_move_bf16)(uint16_t *k_block, uint16_t *v_block, const uint16_t *k, const uint16_t *v,
                                 size_t stride, size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL, steps = (k_width + 1) / 2;

    for (size_t i = 0, m; i < n; i += m) {
        const size_t at = p + i;
        float *to = (float *)(void *)k_block + at / TERN_PANEL * steps * TERN_PANEL + at % TERN_PANEL;
        size_t c = 0;

        m = at % 16 == 0 && n - i >= 16 ? 16 : 1;
        if (m == 16 && stride % 2 == 0) { /* whole words of rows that are whole words apart */
            for (; c + 32 <= head_dim; c += 32)
                v16_transpose(to + c / 2 * TERN_PANEL, TERN_PANEL, (const float *)(const void *)(k + i * stride + c),
                              stride / 2);
        }
        for (size_t j = 0; j < m; j++)
            for (size_t d = c; d < head_dim; d += 2) {
                const uint16_t pair[2] = { k[(i + j) * stride + d],
                                           d + 1 < head_dim ? k[(i + j) * stride + d + 1] : 0 };
                memcpy(to + d / 2 * TERN_PANEL + j, pair, sizeof pair);
            }
    }
    for (size_t i = 0, m; i < n; i += m) {
        const size_t at = p + i;
        const uint16_t *row = v + i * stride;
        uint16_t *to = v_block + at / 2 * 2 * TERN_PANEL;

        m = at % 2 == 0 && n - i >= 2 ? 2 : 1;
        if (m == 2)
            kv_move_pairs(to, row, row + stride, v_dim);
        for (size_t c = 0; m == 1 && c < width; c += TERN_PANEL) /* one of a pair */
            for (size_t d = 0; d < TERN_PANEL; d++)
                to[c * TERN_KV_BLOCK + 2 * d + at % 2] = c + d < v_dim ? row[c + d] : 0;
    }
}
