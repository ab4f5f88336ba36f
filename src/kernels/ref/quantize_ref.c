/* quantize_ref.c: rows as u8, and panels of the narrow types. */
#include "kernels/ref/ref.h"

#include <math.h>

void tern_quantize_row_q8_ref(uint8_t *q, float *scale, const float *x, size_t n)
{
    float max = 0;
    bool finite = true;

    for (size_t i = 0; i < n; i++) {
        max = fmaxf(max, fabsf(x[i]));
        finite = finite && isfinite(x[i]);
    }
    const bool plain = finite && max >= 0x1p-100f;
    *scale = !finite ? NAN : plain ? max / 127 : 1;
    for (size_t i = 0; i < (n + 3) / 4 * 4; i++)
        q[i] = (uint8_t)(128 + (plain && i < n ? (int)rintf(x[i] * (127 / max)) : 0));
}

void tern_pair_bf16_ref(uint16_t *panel, const float *from, size_t k)
{
    for (size_t i = 0; i < (k + 1) / 2 * 2; i++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            const float x = i < k ? from[i * TERN_PANEL + j] : 0;
            tern_bf16_from_f32_ref(&panel[(i / 2 * TERN_PANEL + j) * 2 + i % 2], &x, 1);
        }
}

void tern_dequant_q8_ref(float *panel, const uint8_t *words, size_t first, size_t k, const float *scale,
                         const float *minimum, size_t ld)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            const size_t at = first + i;
            const int q = (int8_t)words[(at / 4 * TERN_PANEL + j) * 4 + at % 4];
            const float by = scale[i * ld + j];
            panel[i * TERN_PANEL + j] = minimum ? (float)(q + 128) / by + minimum[i * ld + j] : by * (float)q;
        }
}

void tern_dequant_q4_ref(float *panel, const uint8_t *words, size_t first, size_t k, const float *scale,
                         const float *minimum, size_t ld)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < TERN_PANEL; j++) {
            const size_t at = first + i;
            const uint8_t pair = words[(at / 8 * TERN_PANEL + j) * 4 + at % 8 / 2];
            const int nibble = at % 2 ? pair >> 4 : pair & 15, q = nibble < 8 ? nibble : nibble - 16;
            const float by = scale[i * ld + j];
            panel[i * TERN_PANEL + j] = minimum ? (float)(q + 8) / by + minimum[i * ld + j] : by * (float)q;
        }
}

void tern_pack_q8_ref(int8_t *panel, int32_t *start, const int8_t *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    for (size_t j = 0; j < TERN_PANEL; j++) {
        start[j] = 0;
        for (size_t i = 0; i < (k + 3) / 4 * 4; i++) {
            const int8_t x = (int8_t)(i < k && j < n ? w[i * ldk + j * ldn] : 0);
            panel[(i / 4 * TERN_PANEL + j) * 4 + i % 4] = x;
            start[j] = (int32_t)((uint32_t)start[j] - 128 * (uint32_t)x);
        }
    }
}
