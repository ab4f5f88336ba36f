/* convert.tmpl.c: f32 from and to halves.  Built once per level; contract in kernels.h. */
#include "kernels/flow.h"

static void TERN_K(f32_from_f16)(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        v16_store(y + i, v16_load_f16(x + i));
    if (i < n)
        v16_store_n(y + i, v16_load_f16_n(x + i, n - i), n - i);
}

static void TERN_K(f32_from_bf16)(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        v16_store(y + i, v16_load_bf16(x + i));
    if (i < n)
        v16_store_n(y + i, v16_load_bf16_n(x + i, n - i), n - i);
}

static void TERN_K(f16_from_f32)(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        v16_store_f16(y + i, v16_load(x + i));
    if (i < n)
        v16_store_f16_n(y + i, v16_load_n(x + i, n - i), n - i);
}

static void TERN_K(bf16_from_f32)(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        v16_store_bf16(y + i, v16_load(x + i));
    if (i < n)
        v16_store_bf16_n(y + i, v16_load_n(x + i, n - i), n - i);
}
