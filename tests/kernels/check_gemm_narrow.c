/* check_gemm_narrow.c: products with panels of f16, bf16 and s8, from rows of f32, bf16 and u8. */
#include "tc.h"

#include <stdlib.h>

/* The kernels behind one signature: what they read is bytes here. */
enum form { F32_F16, F32_BF16, F32_Q8, BF16, Q8 };

static const struct {
    size_t per, bytes;           /* k elements and bytes of a step of the panel */
    size_t element, row_element; /* bytes of an element of the panel, of the rows */
} forms[] = { { 1, 64, 2, 4 }, { 2, 128, 2, 4 }, { 4, 128, 1, 4 }, { 2, 128, 2, 2 }, { 4, 128, 1, 1 } };

struct args {
    void *c;
    size_t ldc;
    const void *a;
    size_t lda;
    const void *panel;
    const int32_t *start;
    size_t k, m;
    bool accumulate;
    struct tern_gemm_next next;
};

static void call(const struct tern_kernels *kernels, enum form form, const struct args *x)
{
    const struct tern_gemm_next *next = x->next.at ? &x->next : NULL;

    switch (form) {
    case F32_F16:
        kernels->gemm_f32_f16(x->c, x->ldc, x->a, x->lda, x->panel, x->k, x->m, x->accumulate, next);
        break;
    case F32_BF16:
        kernels->gemm_f32_bf16(x->c, x->ldc, x->a, x->lda, x->panel, x->k, x->m, x->accumulate, next);
        break;
    case F32_Q8:
        kernels->gemm_f32_q8(x->c, x->ldc, x->a, x->lda, x->panel, x->k, x->m, x->accumulate, next);
        break;
    case BF16:
        kernels->gemm_bf16(x->c, x->ldc, x->a, x->lda, x->panel, x->k, x->m, x->accumulate, next);
        break;
    case Q8:
        kernels->gemm_q8(x->c, x->ldc, x->a, x->lda, x->panel, x->start, x->k, x->m, x->accumulate, next);
        break;
    }
}

/* `k` as two calls, the second with rows cut in two. */
static void call_in_parts(const struct tern_kernels *kernels, enum form form, const struct args *x)
{
    const size_t half = x->k / 2 / forms[form].per * forms[form].per, rows = (x->m + 1) / 2;
    struct args first = *x, second = *x;

    first.k = half;
    call(kernels, form, &first);
    second.k -= half;
    second.accumulate = true;
    second.a = (const char *)x->a + half * forms[form].row_element;
    second.panel = (const char *)x->panel + half / forms[form].per * forms[form].bytes;
    second.m = rows;
    call(kernels, form, &second);
    second.m = x->m - rows;
    second.a = (const char *)second.a + rows * x->lda * forms[form].row_element;
    second.c = (char *)x->c + rows * x->ldc * 4;
    if (second.m)
        call(kernels, form, &second);
}

/* bf16 bits of ordinary numbers. */
static uint16_t *normal_bf16(struct tc *t, size_t n)
{
    uint16_t *p = tc_out_u16(t, n);
    const float *x = tc_in_f32(t, n, TC_NORMAL);

    for (size_t i = 0; i < n; i++)
        tern_bf16_from_f32_ref(p + i, x + i, 1);
    return p;
}

/* The sizes of the terms, for a bound: |c0| + sum |a w|. */
static float *term_sizes(struct tc *t, const struct args *x, const float *c, size_t c_size)
{
    float *size = tc_copy_f32(t, c, c_size);

    for (size_t i = 0; i < x->m; i++)
        for (size_t j = 0; j < 32; j++) {
            double sum = x->accumulate ? fabsf(c[i * x->ldc + j]) : 0;
            for (size_t s = 0; s < x->k; s++) {
                float a, w;
                tern_f32_from_bf16_ref(&a, (const uint16_t *)x->a + i * x->lda + s, 1);
                tern_f32_from_bf16_ref(&w, (const uint16_t *)x->panel + (s / 2 * 32 + j) * 2 + s % 2, 1);
                sum += fabs((double)a * w);
            }
            size[i * x->ldc + j] = (float)sum;
        }
    return size;
}

static void check_form(struct tc *t, const enum form form)
{
    static const size_t ks[] = { 0, 1, 2, 3, 5, 15, 64, 257, 1030 };
    static const struct {
        size_t lda_more, ldc;
    } strides[] = { { 0, 32 }, { 8, 71 } };

    for (size_t m = 1; m <= TERN_TILE_ROWS; m++)
        for (size_t s = 0; s < TC_COUNT(ks); s++)
            for (int variant = 0; variant < 4; variant++) {
                const size_t per = forms[form].per, k = ks[s], padded = (k + per - 1) / per * per;
                const bool f32_rows = form < BF16;
                const size_t width = f32_rows ? k : padded, lda = width + strides[variant & 1].lda_more;
                const size_t ldc = strides[variant & 1].ldc, c_size = (m - 1) * ldc + 32;
                const size_t a_size = k ? (m - 1) * lda + width : 0, steps = padded / per;
                const bool accumulate = variant >> 1;

                if (k > 64 && m % 4 != 1 && m != TERN_TILE_ROWS)
                    continue;
                if (!tc_case(t, "m=%zu,k=%zu,ldc=%zu%s", m, k, ldc, accumulate ? ",accumulate" : ""))
                    continue;
                struct args x = { .ldc = ldc, .lda = lda, .k = k, .m = m, .accumulate = accumulate };
                const float *c = tc_in_f32(t, c_size, TC_NORMAL);
                int32_t *start = tc_out_s32(t, 32);

                for (size_t j = 0; j < 32; j++)
                    start[j] = (int32_t)tc_below(t, 1000000) - 500000;
                x.start = start;
                if (f32_rows) {
                    x.a = tc_in_f32(t, a_size, TC_OUTLIERS);
                } else if (form == BF16) {
                    uint16_t *rows = normal_bf16(t, a_size);
                    for (size_t i = 0; i < m && padded > k; i++)
                        rows[i * lda + k] = 0;
                    x.a = rows;
                } else {
                    x.a = tc_in_u8(t, a_size);
                }
                if (form == F32_F16) {
                    x.panel = tc_in_u16(t, steps * 32, TC_NORMAL);
                } else if (forms[form].element == 2) {
                    uint16_t *panel = normal_bf16(t, steps * 64);
                    for (size_t j = 0; j < 32 && padded > k; j++)
                        panel[((steps - 1) * 32 + j) * 2 + 1] = 0;
                    x.panel = panel;
                } else {
                    uint8_t *panel = tc_in_u8(t, steps * 128);
                    for (size_t i = k; i < padded; i++)
                        for (size_t j = 0; j < 32; j++)
                            panel[(i / 4 * 32 + j) * 4 + i % 4] = 0;
                    x.panel = panel;
                }
                float *want = tc_copy_f32(t, c, c_size), *base = tc_copy_f32(t, c, c_size),
                      *got = tc_copy_f32(t, c, c_size), *parts = tc_copy_f32(t, c, c_size);
                const struct tern_kernels *kernels[] = { &t->ref, &t->base, &t->new };
                float *out[] = { want, base, got };

                for (int i = 0; i < 3; i++) {
                    x.c = out[i];
                    x.next.at = i ? (const char *)x.panel + steps * forms[form].bytes : NULL;
                    x.next.bytes = i == 1 ? 30 * steps : steps * forms[form].bytes;
                    x.next.prefetch = (enum tern_prefetch)(m % 3);
                    call(kernels[i], form, &x);
                }
                x.c = parts;
                call_in_parts(&t->new, form, &x);
                if (form == Q8) {
                    tc_same_s32(t, (int32_t *)(void *)want, (int32_t *)(void *)got, c_size);
                    tc_same_s32(t, (int32_t *)(void *)want, (int32_t *)(void *)parts, c_size);
                    continue;
                }
                tc_near_f32(t, want, got, form == BF16 ? term_sizes(t, &x, c, c_size) : NULL, c_size);
                if (form != BF16 || t->new.isa < TERN_ISA_AVX512BF16) /* there an instruction rounds in its own way */
                    tc_same_f32(t, base, got, c_size);
                tc_same_f32(t, got, parts, c_size);
            }

    if (form < BF16 && tc_case(t, "special")) {
        const size_t steps = 40 / forms[form].per;
        struct args x = { .ldc = 32, .a = tc_in_f32(t, 7 * 40, TC_SPECIAL), .lda = 40, .k = 40, .m = 7 };
        float *want = tc_out_f32(t, 7 * 32), *got = tc_out_f32(t, 7 * 32);

        x.panel = tc_in_u8(t, steps * forms[form].bytes); /* any bits: NaN, infinities and denormals among the halves */
        x.c = want;
        call(&t->ref, form, &x);
        x.c = got;
        call(&t->new, form, &x);
        tc_same_f32(t, want, got, 7 * 32);
    }

    /* A whole product as ops do it; see check_gemm.c. */
    static const size_t rows[] = { 1, 4, 8, 16, 32, 128 };

    for (size_t r = 0; r < TC_COUNT(rows); r++)
        for (int cold = 0; cold < 2; cold++) {
            const size_t k = 768, n = 3072, m = rows[r], steps = k / forms[form].per;
            const size_t tiles = (m + 13) / 14 == 1 ? 1 : (m + 7) / 8;
            const size_t panel_bytes = steps * forms[form].bytes, w_bytes = n / 32 * panel_bytes;
            const size_t copies = cold ? ((size_t)256 << 20) / w_bytes : 1;

            if (t->new.isa == TERN_ISA_PORTABLE && (cold || m > 4)) /* seconds each */
                continue;
            if (!tc_bench(t, (double)w_bytes, 2.0 * (double)(k * n * m), "K=%zu,N=%zu,M=%zu,%s", k, n, m,
                          cold ? "cold" : "hot"))
                continue;
            const char *w = (const char *)tc_in_u16(t, copies * w_bytes / 2, TC_NORMAL);
            int32_t start[32] = { 0 };
            float *tile = tc_out_panel(t, m * 32);
            struct args x = { .ldc = 32, .lda = k, .k = k, .start = start };
            const char *a = (const char *)(form < BF16    ? (const void *)tc_in_f32(t, m * k, TC_NORMAL)
                                           : form == BF16 ? (const void *)normal_bf16(t, m * k)
                                                          : (const void *)tc_in_u8(t, m * k));

            TC_TIME(t)
            {
                const char *panel = w + tc_turn(t) % copies * w_bytes;

                for (size_t p = 0; p < n / 32; p++, panel += panel_bytes)
                    for (size_t i = 0, row = 0; i < tiles; i++, row += x.m) {
                        x.m = (m - row) / (tiles - i);
                        x.c = tile + row * 32;
                        x.a = a + row * k * forms[form].row_element;
                        x.panel = panel;
                        x.next.bytes = panel_bytes / tiles;
                        x.next.prefetch = tern_prefetch_of(&t->new, m);
                        x.next.at = panel + panel_bytes + i * x.next.bytes;
                        call(&t->new, form, &x);
                    }
            }
        }
}

void check_gemm_f32_f16(struct tc *t)
{
    check_form(t, F32_F16);
}

void check_gemm_f32_bf16(struct tc *t)
{
    check_form(t, F32_BF16);
}

void check_gemm_f32_q8(struct tc *t)
{
    check_form(t, F32_Q8);
}

void check_gemm_bf16(struct tc *t)
{
    check_form(t, BF16);
}

void check_gemm_q8(struct tc *t)
{
    check_form(t, Q8);
    if (tc_case(t, "extremes")) { /* pairs of 255 * -128 leave 16 bits */
        const size_t k = 1024, m = 5;
        uint8_t *a = tc_in_u8(t, m * k), *panel = tc_in_u8(t, k * 32);
        int32_t *want = tc_out_s32(t, m * 32), *got = tc_out_s32(t, m * 32), *start = tc_out_s32(t, 32);

        for (size_t i = 0; i < m * k; i++)
            a[i] = i / k % 2 ? 0 : 255;
        for (size_t i = 0; i < k * 32; i++)
            panel[i] = i % 128 < 64 ? 0x80 : 0x7f;
        for (size_t i = 0; i < 32; i++)
            start[i] = i < 16 ? 128 * 128 * 1024 : -128 * 127 * 1024;
        t->ref.gemm_q8(want, 32, a, k, (const int8_t *)panel, start, k, m, false, NULL);
        t->new.gemm_q8(got, 32, a, k, (const int8_t *)panel, start, k, m, false, NULL);
        tc_same_s32(t, want, got, m * 32);
        if (got[0] != 127 * -128 * 1024 || got[63] != -128 * 127 * 1024)
            tc_fail(t, "want %d and %d, got %d and %d", 127 * -128 * 1024, -128 * 127 * 1024, got[0], got[63]);
    }
}
