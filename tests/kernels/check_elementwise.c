/* check_elementwise.c: axpy, mixtures, residual add: the definition's bits. */
#include "tc.h"

static const size_t sizes[] = { 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100 };

void check_axpy_f32(struct tc *t)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++) {
        const size_t n = sizes[s];

        if (!tc_case(t, "n=%zu", n))
            continue;
        const float *x = tc_in_f32(t, n, TC_SPECIAL), *y = tc_in_f32(t, n, TC_SPECIAL);
        float *want = tc_out_f32(t, n), *got = tc_out_f32(t, n), *place = tc_copy_f32(t, x, n);

        t->ref.axpy_f32(want, x, y, 0.3f, n, NULL);
        t->new.axpy_f32(got, x, y, 0.3f, n, NULL);
        t->new.axpy_f32(place, place, y, 0.3f, n, NULL);
        tc_same_f32(t, want, got, n);
        tc_same_f32(t, want, place, n);
        const struct tern_row_flow flow = tc_flow(t, n);
        float *streamed = tc_out_row_f32(t, n);

        t->new.axpy_f32(streamed, x, y, 0.3f, n, &flow);
        tc_same_row_f32(t, want, streamed, n);
        memcpy(place, y, n * sizeof *y);
        t->new.axpy_f32(place, x, place, 0.3f, n, NULL);
        tc_same_f32(t, want, place, n);
    }
    if (tc_bench(t, 12.0 * 768, 0, "n=768")) {
        const float *x = tc_in_f32(t, 768, TC_NORMAL), *y = tc_in_f32(t, 768, TC_NORMAL);
        float *out = tc_out_f32(t, 768);

        TC_TIME(t) t->new.axpy_f32(out, x, y, 0.5f, 768, NULL);
    }
}

void check_mix_f32(struct tc *t)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int each = 0; each < 2; each++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu%s", n, each ? ",each" : ""))
                continue;
            const float *x = tc_in_f32(t, n, TC_SPECIAL), *y = tc_in_f32(t, n, TC_NORMAL);
            const float *of_x = tc_in_f32(t, each ? n : 1, TC_NORMAL), *of_y = tc_in_f32(t, each ? n : 1, TC_NORMAL);
            float *want = tc_out_f32(t, n), *got = tc_out_f32(t, n), *place = tc_copy_f32(t, x, n);
            float *streamed = tc_out_row_f32(t, n);
            const struct tern_row_flow flow = tc_flow(t, n);

            t->ref.mix_f32(want, x, y, of_x, of_y, each, n, NULL);
            t->new.mix_f32(got, x, y, of_x, of_y, each, n, NULL);
            t->new.mix_f32(place, place, y, of_x, of_y, each, n, NULL);
            t->new.mix_f32(streamed, x, y, of_x, of_y, each, n, &flow);
            tc_same_f32(t, want, got, n);
            tc_same_f32(t, want, place, n);
            tc_same_row_f32(t, want, streamed, n);
            memcpy(place, y, n * sizeof *y);
            t->new.mix_f32(place, x, place, of_x, of_y, each, n, NULL);
            tc_same_f32(t, want, place, n);
        }
    for (int each = 0; each < 2; each++)
        if (tc_bench(t, 12.0 * 768, 0, "n=768%s", each ? ",each" : "")) {
            const float *x = tc_in_f32(t, 768, TC_NORMAL), *y = tc_in_f32(t, 768, TC_NORMAL);
            float *out = tc_out_f32(t, 768);

            TC_TIME(t) t->new.mix_f32(out, x, y, x, y, each, 768, NULL);
        }
}

void check_residual_add_f32(struct tc *t)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 32; form++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu%s%s%s%s%s", n, form & 1 ? ",attention" : "", form & 2 ? ",attention bias" : "",
                         form & 4 ? ",final bias" : "", form & 8 ? ",inside" : "", form & 16 ? ",divided" : ""))
                continue;
            const float *x = tc_in_f32(t, n, TC_SPECIAL), *residual = tc_in_f32(t, n, TC_NORMAL);
            const float *attention = tc_in_f32(t, n, TC_NORMAL), *a_bias = tc_in_f32(t, n, TC_NORMAL);
            const float *f_bias = tc_in_f32(t, n, TC_NORMAL);
            const struct tern_residual_terms terms = { form & 1 ? attention : NULL,
                                                       form & 2 ? a_bias : NULL,
                                                       form & 4 ? f_bias : NULL,
                                                       1 / 3.0f,
                                                       form & 8,
                                                       form & 16 };
            float *want = tc_out_f32(t, n), *got = tc_out_f32(t, n), *place = tc_copy_f32(t, residual, n);

            t->ref.residual_add_f32(want, x, residual, &terms, n, NULL);
            t->new.residual_add_f32(got, x, residual, &terms, n, NULL);
            t->new.residual_add_f32(place, x, place, &terms, n, NULL);
            tc_same_f32(t, want, got, n);
            tc_same_f32(t, want, place, n);

            const struct tern_row_flow flow = tc_flow(t, n);
            float *streamed = tc_out_row_f32(t, n);

            t->new.residual_add_f32(streamed, x, residual, &terms, n, &flow);
            tc_same_row_f32(t, want, streamed, n);
        }
    if (tc_bench(t, 24.0 * 768, 0, "n=768")) {
        const float *x = tc_in_f32(t, 768, TC_NORMAL), *y = tc_in_f32(t, 768, TC_NORMAL);
        const struct tern_residual_terms terms = { y, x, x, 1, true, false };
        float *out = tc_out_f32(t, 768);

        TC_TIME(t) t->new.residual_add_f32(out, x, y, &terms, 768, NULL);
    }
}
