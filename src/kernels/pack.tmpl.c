/* pack.tmpl.c: panels from matrices in any order.  Built once per level; contract in kernels.h.
 *
 * Two orders are the rule.  Rows contiguous (ldn == 1, [in, out]): a step of the panel is 32 consecutive elements.  Columns
 * contiguous (ldk == 1, [out, in]): 16 steps of each column are loaded as a vector into a 2 KiB block, which is then read
 * across; so each column's cache line is read once, even where the columns share their cache sets. */
#include "kernels/vec.h"

/* The element types: how 16 of them are loaded. */
enum pack_type { PACK_F32, PACK_F16, PACK_BF16 };

V16_FN v16 pack_load_n(const enum pack_type type, const void *w, size_t at, size_t n)
{
    if (type == PACK_F32)
        return v16_load_n((const float *)w + at, n);
    if (type == PACK_F16)
        return v16_load_f16_n((const uint16_t *)w + at, n);
    return v16_load_bf16_n((const uint16_t *)w + at, n);
}

V16_FN v16 pack_load(const enum pack_type type, const void *w, size_t at)
{
    if (type == PACK_F32)
        return v16_load((const float *)w + at);
    if (type == PACK_F16)
        return v16_load_f16((const uint16_t *)w + at);
    return v16_load_bf16((const uint16_t *)w + at);
}

V16_FN void pack_rows(const enum pack_type type, float *panel, const void *w, size_t ldk, size_t k, size_t n)
{
    for (size_t i = 0; i < k; i++, panel += TERN_PANEL) {
        if (n == TERN_PANEL) {
            v16_store(panel, pack_load(type, w, i * ldk));
            v16_store(panel + 16, pack_load(type, w, i * ldk + 16));
        } else {
            v16_store(panel, pack_load_n(type, w, i * ldk, n));
            v16_store(panel + 16, n > 16 ? pack_load_n(type, w, i * ldk + 16, n - 16) : v16_set1(0));
        }
    }
}

V16_FN void pack_columns(const enum pack_type type, float *panel, const void *w, size_t ldn, size_t k, size_t n)
{
    float block[TERN_PANEL][16] = { { 0 } };

    for (size_t i = 0; i < k; i += 16) {
        const size_t steps = k - i < 16 ? k - i : 16;

        for (size_t j = 0; j < n; j++)
            v16_store(block[j],
                      steps == 16 ? pack_load(type, w, i + j * ldn) : pack_load_n(type, w, i + j * ldn, steps));
        for (size_t s = 0; s < steps; s++, panel += TERN_PANEL)
            for (size_t j = 0; j < TERN_PANEL; j++)
                panel[j] = block[j][s];
    }
}

V16_FN void pack_any(const enum pack_type type, float *panel, const void *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    if (ldn == 1) {
        pack_rows(type, panel, w, ldk, k, n);
    } else if (ldk == 1) {
        pack_columns(type, panel, w, ldn, k, n);
    } else {
        union {
            float f32[TERN_PANEL];
            uint16_t half[TERN_PANEL];
        } step = { { 0 } };

        for (size_t i = 0; i < k; i++, panel += TERN_PANEL) {
            for (size_t j = 0; j < n; j++)
                if (type == PACK_F32)
                    memcpy(&step.f32[j], (const float *)w + i * ldk + j * ldn, sizeof(float));
                else
                    memcpy(&step.half[j], (const uint16_t *)w + i * ldk + j * ldn, sizeof(uint16_t));
            v16_store(panel, pack_load(type, &step, 0));
            v16_store(panel + 16, pack_load(type, &step, 16));
        }
    }
}

static void TERN_K(pack_f32)(float *panel, const float *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    pack_any(PACK_F32, panel, w, ldk, ldn, k, n);
}

static void TERN_K(pack_f16)(float *panel, const uint16_t *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    pack_any(PACK_F16, panel, w, ldk, ldn, k, n);
}

static void TERN_K(pack_bf16)(float *panel, const uint16_t *w, size_t ldk, size_t ldn, size_t k, size_t n)
{
    pack_any(PACK_BF16, panel, w, ldk, ldn, k, n);
}
