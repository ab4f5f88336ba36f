/* check_rotary.c: rotary, its angles and rows of f32: the definitions' bits. */
#include "tc.h"

#include <math.h>

void check_rotary_angles(struct tc *t)
{
    static const double positions[] = { 0, 1, 2, 3, 7, 100, 4095, 131071, 1e6, 1e9, 0x1p44 };

    for (size_t n = 0; n <= 130; n += n < 35 ? 1 : 19)
        for (size_t i = 0; i < TC_COUNT(positions); i++) {
            if (!tc_case(t, "n=%zu,position=%g", n, positions[i]))
                continue;
            double frequency[130];
            float *want = tc_out_f32(t, 2 * n), *got = tc_out_f32(t, 2 * n);

            for (size_t p = 0; p < n; p++)
                frequency[p] = p % 5 == 4 ? (double)tc_below(t, 1000) / 999 : pow(10000, -(double)p / (double)n);
            t->ref.rotary_angles(want, want + n, frequency, n, positions[i]);
            t->new.rotary_angles(got, got + n, frequency, n, positions[i]);
            tc_same_f32(t, want, got, 2 * n);
        }
    for (size_t n = 32; n <= 64; n *= 2)
        if (tc_bench(t, 0, 0, "n=%zu", n)) {
            double frequency[64];
            float *out = tc_out_f32(t, 2 * n);

            for (size_t p = 0; p < n; p++)
                frequency[p] = pow(10000, -(double)p / (double)n);
            TC_TIME(t) t->new.rotary_angles(out, out + n, frequency, n, 1000);
        }
}

void check_rotary_f32(struct tc *t)
{
    for (size_t rot = 0; rot <= 130; rot += rot < 40 ? 2 : 30)
        for (int form = 0; form < 4; form++) {
            const bool neighbours = form & 1;
            const size_t heads = form & 2 ? 3 : 1, stride = rot + (rot % 3), n = (heads - 1) * stride + rot;

            if (!tc_case(t, "rot=%zu,heads=%zu%s", rot, heads, neighbours ? ",neighbours" : ""))
                continue;
            const float *x = tc_in_f32(t, n, TC_SPECIAL);
            const float *cos = tc_in_f32(t, rot / 2, TC_NORMAL), *sin = tc_in_f32(t, rot / 2, TC_NORMAL);
            float *want = tc_copy_f32(t, x, n), *got = tc_copy_f32(t, x, n);
            float *want_other = tc_out_f32(t, n), *other = tc_out_f32(t, n);

            t->ref.rotary_f32(want, want, cos, sin, rot, neighbours, heads, stride, NULL);
            t->ref.rotary_f32(want_other, x, cos, sin, rot, neighbours, heads, stride, NULL);
            t->new.rotary_f32(got, got, cos, sin, rot, neighbours, heads, stride, NULL);
            t->new.rotary_f32(other, x, cos, sin, rot, neighbours, heads, stride, NULL);
            tc_same_f32(t, want, got, n);
            tc_same_f32(t, want_other, other, n);
        }
    for (size_t rot = 64; rot <= 160;
         rot += 32) /* whole lines, if not the odd multiples of 32, with and without channels between */
        for (int form = 0; form < 8; form++) {
            const bool neighbours = form & 1;
            const size_t stride = rot + (form & 2 ? 48 : 0), n = 3 * stride, line = form & 4 ? 1 : 0;

            if (!tc_case(t, "streamed,rot=%zu,form=%d", rot, form))
                continue;
            const float *x = tc_in_f32(t, n, TC_SPECIAL);
            const float *cos = tc_in_f32(t, rot / 2, TC_NORMAL), *sin = tc_in_f32(t, rot / 2, TC_NORMAL);
            float *want = tc_out_f32(t, n), *got = tc_out_f32(t, n + 17);
            const struct tern_row_flow flow = tc_flow(t, n);

            got += (64 - (uintptr_t)got % 64) % 64 / sizeof *got + line;
            memcpy(got, want, n * sizeof *got);
            t->ref.rotary_f32(want, x, cos, sin, rot, neighbours, 3, stride, NULL);
            t->new.rotary_f32(got, x, cos, sin, rot, neighbours, 3, stride, &flow);
            tern_stream_end();
            tc_same_f32(t, want, got, n);
        }
    for (int neighbours = 0; neighbours < 2; neighbours++)
        if (tc_bench(t, 8.0 * 128, 0, "rot=128%s", neighbours ? ",neighbours" : "")) {
            const float *cos = tc_in_f32(t, 64, TC_NORMAL);
            float *x = tc_out_f32(t, 128);

            TC_TIME(t) t->new.rotary_f32(x, x, cos, cos, 128, neighbours, 1, 0, NULL);
        }
}
