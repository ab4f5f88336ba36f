/* quantize.tmpl.c: rows as u8, panels of bf16 pairs and of s8 fours, and panels of codes back as f32.  Built once per level; contracts in kernels.h. */
#include "kernels/kernels.h"
#include "kernels/vec.h"

/* The largest |x|, in *sum a NaN as soon as one of x is not finite.  Four of each: one waits for the multiply-add before it, four
 * wait for memory.  Sixteen registers hold no more than two of the sums beside the four largest, which are enough for 256 bits at a time.
 * Neither depends on the order. */
V16_FN float row_largest(const float *x, size_t n, float *sum)
{
    const v16 zero = v16_set1(0);
    v16 largest0 = zero, largest1 = zero, largest2 = zero, largest3 = zero;
    v16 finite0 = zero, finite1 = zero, finite2 = zero, finite3 = zero;
    size_t i = 0;

#define ROW_LARGEST(i, of_two, load)                           \
    {                                                          \
        const v16 v = load;                                    \
        largest##i = v16_max(v16_abs(v), largest##i);          \
        if (V16_GEMM_ROWS == 3)                                \
            finite##of_two = v16_fma(v, zero, finite##of_two); \
        else                                                   \
            finite##i = v16_fma(v, zero, finite##i);           \
    }
    for (; i + 64 <= n; i += 64) {
        ROW_LARGEST(0, 0, v16_load(x + i))
        ROW_LARGEST(1, 1, v16_load(x + i + 16))
        ROW_LARGEST(2, 0, v16_load(x + i + 32))
        ROW_LARGEST(3, 1, v16_load(x + i + 48))
    }
    for (; i < n; i += 16)
        ROW_LARGEST(0, 0, v16_load_n(x + i, n - i))
#undef ROW_LARGEST
    *sum = v16_sum(v16_add(v16_add(finite0, finite1), v16_add(finite2, finite3)));
    return v16_largest(v16_max(v16_max(largest0, largest1), v16_max(largest2, largest3)));
}

V16_FN v16 row_codes(v16 x, v16 inverse)
{
    return v16_add(v16_rint(v16_mul(x, inverse)), v16_set1(128));
}

static void TERN_K(quantize_row_q8)(uint8_t *q, float *scale, const float *x, size_t n)
{
    const size_t padded = (n + 3) / 4 * 4;
    float sum;
    const float max = row_largest(x, n, &sum);
    const bool all_finite = sum == 0, plain = all_finite && max >= 0x1p-100f;
    const v16 inverse = v16_set1(plain ? 127 / max : 0);
    size_t i = 0;

    *scale = !all_finite ? NAN : plain ? max / 127 : 1;
    if (!all_finite) {
        memset(q, 128, padded);
        return;
    }
    for (; i + 16 <= n; i += 16)
        v16_store_u8(q + i, row_codes(v16_load(x + i), inverse));
    if (i < n)
        v16_store_u8_n(q + i, row_codes(v16_load_n(x + i, n - i), inverse), padded - i);
}

static void TERN_K(pair_bf16)(uint16_t *panel, const float *from, size_t k)
{
    for (size_t i = 0; i < k; i += 2, from += 2 * TERN_PANEL, panel += 2 * TERN_PANEL) {
        for (size_t j = 0; j < TERN_PANEL; j += 16) {
            uint16_t even[16], odd[16];

            v16_store_bf16(even, v16_load(from + j));
            v16_store_bf16(odd, i + 1 < k ? v16_load(from + TERN_PANEL + j) : v16_set1(0));
            v16_zip(panel + 2 * j, even, odd);
        }
    }
}

V16_FN void pack_q8_any(int8_t *panel, int32_t *start, const int8_t *w, const size_t ldk, const size_t ldn, size_t k,
                        size_t n)
{
    uint32_t sum[TERN_PANEL] = { 0 };

    for (size_t i = 0; i < k; i += 4, panel += 4 * TERN_PANEL) {
        const size_t rows = k - i < 4 ? k - i : 4;
        if (rows < 4 || n < TERN_PANEL)
            memset(panel, 0, 4 * TERN_PANEL);
        for (size_t j = 0; j < n; j++)
            for (size_t s = 0; s < rows; s++) {
                const int8_t x = w[(i + s) * ldk + j * ldn];
                panel[4 * j + s] = x;
                sum[j] += (uint32_t)x;
            }
    }
    for (size_t j = 0; j < TERN_PANEL; j++)
        start[j] = (int32_t)(0 - 128 * sum[j]);
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

/* Sixteen columns of a panel.  q + middle is exact, so unsigned codes can lie in panels of signed ones. */
V16_FN void dequant_columns(const enum v16_panel form, const bool asymmetric, const bool rows, const int column,
                            float *panel, const uint8_t *words, size_t first, size_t k, const float *scale,
                            const float *minimum, size_t ld)
{
    const size_t per = form == V16_S4 ? 8 : 4;
    const v16 middle = v16_set1(form == V16_S4 ? 8 : 128);
    v16 by = v16_load(scale + column), low = asymmetric ? v16_load(minimum + column) : by;

    panel += column;
    for (; k; words += 4 * TERN_PANEL) {
        const size_t n = per - first < k ? per - first : k;

#define DEQUANT(s)                                                                              \
    if (n == per || (first <= s && s < first + n)) {                                            \
        const v16 q = v16_weights(form, words, column, s);                                      \
        if (rows)                                                                               \
            by = v16_load(scale + (s - first) * ld + column);                                   \
        if (rows && asymmetric)                                                                 \
            low = v16_load(minimum + (s - first) * ld + column);                                \
        v16_store(panel + (s - first) * TERN_PANEL,                                             \
                  asymmetric ? v16_add(v16_div(v16_add(q, middle), by), low) : v16_mul(by, q)); \
    }
        DEQUANT(0)
        DEQUANT(1)
        DEQUANT(2)
        DEQUANT(3)
        if (form == V16_S4) {
            DEQUANT(4)
            DEQUANT(5)
            DEQUANT(6)
            DEQUANT(7)
        }
#undef DEQUANT
        panel += n * TERN_PANEL;
        scale += n * ld;
        if (asymmetric)
            minimum += n * ld;
        k -= n;
        first = 0;
    }
}

V16_FN void dequant_panel(const enum v16_panel form, float *panel, const uint8_t *words, size_t first, size_t k,
                          const float *scale, const float *minimum, size_t ld)
{
    if (k == 0)
        return;
    for (int column = 0; column < TERN_PANEL; column += 16)
        if (minimum && ld)
            dequant_columns(form, true, true, column, panel, words, first, k, scale, minimum, ld);
        else if (minimum)
            dequant_columns(form, true, false, column, panel, words, first, k, scale, minimum, ld);
        else if (ld)
            dequant_columns(form, false, true, column, panel, words, first, k, scale, minimum, ld);
        else
            dequant_columns(form, false, false, column, panel, words, first, k, scale, minimum, ld);
}

static void TERN_K(dequant_q8)(float *panel, const uint8_t *words, size_t first, size_t k, const float *scale,
                               const float *minimum, size_t ld)
{
    dequant_panel(V16_S8, panel, words, first, k, scale, minimum, ld);
}

static void TERN_K(dequant_q4)(float *panel, const uint8_t *words, size_t first, size_t k, const float *scale,
                               const float *minimum, size_t ld)
{
    dequant_panel(V16_S4, panel, words, first, k, scale, minimum, ld);
}
