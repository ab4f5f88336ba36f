/* check_quantize.c: rows as u8, panels of pairs and fours, and codes back as numbers. */
#include "tc.h"

void check_quantize_row_q8(struct tc *t)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 4, 7, 15, 16, 17, 31, 33, 64, 100, 257 };
    static const struct {
        const char *name;
        enum tc_data data;
        float times;
    } rows[] = { { "normal", TC_NORMAL, 1 },       { "outliers", TC_OUTLIERS, 1 },
                 { "special", TC_SPECIAL, 1 },     { "finite", TC_FINITE, 1 },
                 { "tiny", TC_NORMAL, 0x1p-99f },  { "denormal", TC_NORMAL, 0x1p-140f },
                 { "large", TC_NORMAL, 0x1p125f }, { "zero", TC_NORMAL, 0 },
                 { "halves", TC_NORMAL, -1 } };

    for (size_t r = 0; r < TC_COUNT(rows); r++)
        for (size_t s = 0; s < TC_COUNT(sizes); s++) {
            const size_t n = sizes[s], padded = (n + 3) / 4 * 4;

            if (!tc_case(t, "%s,n=%zu", rows[r].name, n))
                continue;
            float *x = tc_in_f32(t, n, rows[r].data);
            uint8_t *want = tc_out_u8(t, padded), *got = tc_out_u8(t, padded);
            float scale[2] = { -1, -1 };

            for (size_t i = 0; i < n; i++)
                x[i] = rows[r].times < 0 ? (float)(i ? (double)tc_below(t, 254) - 126.5 : 127) : x[i] * rows[r].times;
            t->ref.quantize_row_q8(want, &scale[0], x, n);
            t->new.quantize_row_q8(got, &scale[1], x, n);
            tc_same_u8(t, want, got, padded);
            tc_same_f32(t, &scale[0], &scale[1], 1);
            for (size_t i = 0; i < n && rows[r].data == TC_NORMAL; i++) /* within half a step */
                if (!(fabs((double)scale[1] * (got[i] - 128) - x[i]) <= 0.50001 * scale[1]))
                    tc_fail(t, "[%zu]: %g became %d times %g", i, x[i], got[i] - 128, scale[1]);
        }
    if (tc_bench(t, 5.0 * 4096, 0, "n=4096")) {
        const float *x = tc_in_f32(t, 4096, TC_NORMAL);
        uint8_t *q = tc_out_u8(t, 4096);
        float scale;

        TC_TIME(t) t->new.quantize_row_q8(q, &scale, x, 4096);
    }
}

void check_pair_bf16(struct tc *t)
{
    for (size_t k = 0; k < 8; k++) {
        const size_t size = (k + 1) / 2 * 64;

        if (!tc_case(t, "k=%zu", k))
            continue;
        const float *from = tc_in_panel(t, k * 32, k & 1 ? TC_BITS : TC_FINITE);
        uint16_t *want = tc_out_u16(t, size), *got = tc_out_u16(t, size);

        t->ref.pair_bf16(want, from, k);
        t->new.pair_bf16(got, from, k);
        for (size_t i = 0; i < size; i++) /* a NaN is a NaN */
            if ((want[i] & 0x7fff) > 0x7f80 && (got[i] & 0x7fff) > 0x7f80)
                got[i] = want[i];
        tc_same_u16(t, want, got, size);
    }
    if (tc_bench(t, 6.0 * 768 * 32, 0, "k=768")) {
        const float *from = tc_in_panel(t, 768 * 32, TC_NORMAL);
        uint16_t *got = tc_out_u16(t, 768 * 32);

        TC_TIME(t) t->new.pair_bf16(got, from, 768);
    }
}

void check_pack_q8(struct tc *t)
{
    static const struct {
        size_t k, n, ldk, ldn;
    } shapes[] = { { 1, 1, 1, 1 },    { 4, 32, 32, 1 },  { 17, 32, 40, 1 }, { 6, 15, 15, 1 },
                   { 16, 32, 1, 16 }, { 35, 32, 1, 35 }, { 15, 31, 1, 64 }, { 7, 9, 3, 50 },
                   { 0, 32, 32, 1 },  { 4, 0, 1, 4 },    { 2, 32, 1, 2 } };

    for (size_t i = 0; i < TC_COUNT(shapes); i++) {
        const size_t k = shapes[i].k, n = shapes[i].n, ldk = shapes[i].ldk, ldn = shapes[i].ldn;
        const size_t size = (k + 3) / 4 * 128;

        if (!tc_case(t, "k=%zu,n=%zu,ldk=%zu,ldn=%zu", k, n, ldk, ldn))
            continue;
        const int8_t *w = (const int8_t *)tc_in_u8(t, k && n ? (k - 1) * ldk + (n - 1) * ldn + 1 : 0);
        uint8_t *want = tc_out_u8(t, size), *got = tc_out_u8(t, size);
        int32_t *want_start = tc_out_s32(t, 32), *start = tc_out_s32(t, 32);

        t->ref.pack_q8((int8_t *)want, want_start, w, ldk, ldn, k, n);
        t->new.pack_q8((int8_t *)got, start, w, ldk, ldn, k, n);
        tc_same_u8(t, want, got, size);
        tc_same_s32(t, want_start, start, 32);
    }
    for (int columns = 0; columns < 2; columns++)
        if (tc_bench(t, 2.0 * 768 * 32, 0, "k=768,%s", columns ? "columns" : "rows")) {
            const int8_t *w = (const int8_t *)tc_in_u8(t, 768 * 768);
            uint8_t *got = tc_out_u8(t, 768 * 32);
            int32_t start[32];

            TC_TIME(t) t->new.pack_q8((int8_t *)got, start, w, columns ? 1 : 768, columns ? 768 : 1, 768, 32);
        }
}

static void check_dequant(struct tc *t, size_t per, tern_dequant_q8_fn *ref, tern_dequant_q8_fn *tested)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 64, 67 }, strides[] = { 0, 32, 37 };

    for (int asymmetric = 0; asymmetric < 2; asymmetric++)
        for (size_t first = 0; first < per; first++)
            for (size_t s = 0; s < TC_COUNT(sizes) * TC_COUNT(strides); s++) {
                const size_t k = sizes[s / TC_COUNT(strides)], ld = strides[s % TC_COUNT(strides)];
                const size_t steps = k ? (first + k + per - 1) / per : 0, n = k ? (k - 1) * ld + 32 : 0;

                if (!tc_case(t, "%s,first=%zu,k=%zu,ld=%zu", asymmetric ? "asymmetric" : "symmetric", first, k, ld))
                    continue;
                const uint8_t *words = tc_in_u8(t, steps * 128);
                float *scale = tc_in_f32(t, n, TC_FINITE), *minimum = tc_in_f32(t, n, TC_NORMAL);
                float *want = tc_out_panel(t, k * 32), *got = tc_out_panel(t, k * 32);

                for (size_t i = 0; i < n && asymmetric; i++)
                    scale[i] = fabsf(scale[i]) + 0x1p-120f; /* no quotient overflows: NaNs have no bits to compare */
                ref(want, words, first, k, scale, asymmetric ? minimum : NULL, ld);
                tested(got, words, first, k, scale, asymmetric ? minimum : NULL, ld);
                tc_same_f32(t, want, got, k * 32);
            }
    for (int form = 0; form < 4; form++) {
        const bool asymmetric = form & 1, rows = form & 2;
        if (tc_bench(t, 128.0 * 64 / (double)per + (rows ? asymmetric + 2 : 1) * 128 * 64, 0, "k=64,%s%s",
                     asymmetric ? "asymmetric" : "symmetric", rows ? ",rows" : "")) {
            const uint8_t *words = tc_in_u8(t, 64 / per * 128);
            const float *scale = tc_in_f32(t, 64 * 32, TC_NORMAL), *minimum = tc_in_f32(t, 64 * 32, TC_NORMAL);
            float *got = tc_out_panel(t, 64 * 32);

            TC_TIME(t) tested(got, words, 0, 64, scale, asymmetric ? minimum : NULL, rows ? 32 : 0);
        }
    }
}

void check_dequant_q8(struct tc *t)
{
    check_dequant(t, 4, t->ref.dequant_q8, t->new.dequant_q8);
}

void check_dequant_q4(struct tc *t)
{
    check_dequant(t, 8, t->ref.dequant_q4, t->new.dequant_q4);
}
