/* quantize.tmpl.c: rows as u8, panels of bf16 pairs and of s8 fours.  Built once per level; contracts in kernels.h. */
#include "kernels/kernels.h"
#include "kernels/vec.h"

static void TERN_K(quantize_row_q8)(uint8_t *q, float *scale, const float *x, size_t n)
{
    const size_t padded = (n + 3) / 4 * 4;
    v16 largest = v16_set1(0), finite = v16_set1(0);

    for (size_t i = 0; i < n; i += 16) {
        const v16 v = n - i < 16 ? v16_load_n(x + i, n - i) : v16_load(x + i);
        largest = v16_max(v16_abs(v), largest);
        finite = v16_fma(v, v16_set1(0), finite); /* a NaN as soon as one of x is not finite */
    }
    const float max = v16_largest(largest);
    const bool all_finite = v16_sum(finite) == 0, plain = all_finite && max >= 0x1p-100f;
    const v16 inverse = v16_set1(plain ? 127 / max : 0), middle = v16_set1(128);

    *scale = !all_finite ? NAN : plain ? max / 127 : 1;
    if (!all_finite) {
        memset(q, 128, padded);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        const v16 v = n - i < 16 ? v16_load_n(x + i, n - i) : v16_load(x + i);
        const v16 u = v16_add(v16_rint(v16_mul(v, inverse)), middle);
        if (padded - i < 16)
            v16_store_u8_n(q + i, u, padded - i);
        else
            v16_store_u8(q + i, u);
    }
}

static void TERN_K(pair_bf16)(uint16_t *panel, const float *from, size_t k)
{
    for (size_t i = 0; i < k; i += 2, from += 2 * TERN_PANEL, panel += 2 * TERN_PANEL) {
        uint16_t even[TERN_PANEL], odd[TERN_PANEL] = { 0 };

        for (size_t j = 0; j < TERN_PANEL; j += 16) {
            v16_store_bf16(even + j, v16_load(from + j));
            if (i + 1 < k)
                v16_store_bf16(odd + j, v16_load(from + TERN_PANEL + j));
        }
        for (size_t j = 0; j < TERN_PANEL; j++) {
            panel[2 * j] = even[j];
            panel[2 * j + 1] = odd[j];
        }
    }
}

V16_FN void pack_q8_any(int8_t *panel, int32_t *start, const int8_t *w, const size_t ldk, const size_t ldn, size_t k,
                        size_t n)
{
    int32_t sum[TERN_PANEL] = { 0 };

    for (size_t i = 0; i < k; i += 4, panel += 4 * TERN_PANEL) {
        const size_t rows = k - i < 4 ? k - i : 4;
        if (rows < 4 || n < TERN_PANEL)
            memset(panel, 0, 4 * TERN_PANEL);
        for (size_t j = 0; j < n; j++)
            for (size_t s = 0; s < rows; s++) {
                const int8_t x = w[(i + s) * ldk + j * ldn];
                panel[4 * j + s] = x;
                sum[j] += x;
            }
    }
    for (size_t j = 0; j < TERN_PANEL; j++)
        start[j] = -128 * sum[j];
}

static void TERN_K(pack_q8)(int8_t *panel, int32_t *start, const int8_t *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    if (ldk == 1)
        pack_q8_any(panel, start, w, 1, ldn, k, n);
    else if (ldn == 1)
        pack_q8_any(panel, start, w, ldk, 1, k, n);
    else
        pack_q8_any(panel, start, w, ldk, ldn, k, n);
}
