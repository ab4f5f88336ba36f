/* check_softmax.c: softmax of a row: all visible ranges around the lane counts, masks, slopes, nothing visible. */
#include "tc.h"

/* Rows one after the other with a rest that goes from each to the next: of other ranges, masked or not, and with y on a line or
 * beside it, which is in any case what each row is alone.  All of them with the first one's range: those that go beside each other. */
static void check_rest(struct tc *t, size_t n, bool same)
{
    enum { ROWS = 5 };
    struct tern_row_rest rest = { 0 };
    struct tern_row_flow flow = tc_flow(t, n);
    float *alone[ROWS], *streamed[ROWS], *memory[ROWS];

    flow.rest = &rest;
    for (size_t r = 0; r < ROWS; r++) {
        const size_t first = same || r == 1 ? n / 9 : n / (3 + r), last = same || r < 3 ? n - n / 7 : n - r;
        const float *x = tc_in_f32(t, n, TC_NORMAL), slope = r == 3 ? 0.5f : 0;
        float *mask = r == 2 || r == 4 ? tc_copy_f32(t, tc_in_f32(t, n, TC_NORMAL), n) : NULL;

        for (size_t i = 0; mask && i < n; i += 3)
            mask[i] = -INFINITY;
        alone[r] = tc_out_f32(t, n);
        memory[r] = tc_out_f32(t, n + 32);
        streamed[r] = memory[r];
        while (((uintptr_t)(streamed[r] + first) & 63) != (r == 3 && !same ? 4 : 0))
            streamed[r]++;
        t->new.softmax_f32(alone[r], x, mask, n, first, last, 0.5f, slope, NULL);
        rest.more = r + 1 < ROWS;
        t->new.softmax_f32(streamed[r], x, mask, n, first, last, 0.5f, slope, &flow);
    }
    tern_stream_end();
    for (size_t r = 0; r < ROWS; r++)
        tc_same_f32(t, alone[r], streamed[r], n);
}

void check_softmax_f32(struct tc *t)
{
    static const size_t sizes[] = { 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65, 257, 4099 };

    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 12; form++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu,form=%d", n, form))
                continue;
            const size_t first = form % 3 == 0 ? 0 : tc_below(t, n),
                         last = form % 3 == 2 ? n : first + tc_below(t, n - first + 1);
            const float scale = form & 1 ? 0.125f : 1, slope = form & 2 ? -0.25f : 0;
            const float *x = tc_in_f32(t, n, TC_OUTLIERS);
            float *mask = form & 4 ? tc_copy_f32(t, tc_in_f32(t, n, TC_NORMAL), n) : NULL;
            float *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n),
                  *place = tc_copy_f32(t, x, n);

            for (size_t i = 0; mask && i < n; i++)
                if (tc_below(t, 4) == 0)
                    mask[i] = -INFINITY;
            for (size_t i = 0; i < n; i++) /* what is not visible must not matter */
                if (i < first || i >= last || (mask && mask[i] == -INFINITY))
                    place[i] = i % 2 ? NAN : INFINITY;
            t->ref.softmax_f32(want, x, mask, n, first, last, scale, slope, NULL);
            t->base.softmax_f32(base, x, mask, n, first, last, scale, slope, NULL);
            t->new.softmax_f32(got, x, mask, n, first, last, scale, slope, NULL);
            t->new.softmax_f32(place, place, mask, n, first, last, scale, slope, NULL);
            tc_near_f32(t, want, got, NULL, n);
            tc_same_f32(t, base, got, n);
            tc_same_f32(t, got, place, n);

            const struct tern_row_flow flow = tc_flow(t, n);
            float *streamed = tc_out_row_f32(t, n);

            t->new.softmax_f32(streamed, x, mask, n, first, last, scale, slope, &flow);
            tc_same_row_f32(t, got, streamed, n);
        }
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int same = 0; same < 2; same++)
            if (sizes[s] >= 9 && tc_case(t, "rest,n=%zu,same=%d", sizes[s], same))
                check_rest(t, sizes[s], same);
    static const struct {
        const char *name;
        float value; /* of all */
        float one;   /* of one */
    } specials[] = { { "all -inf", -INFINITY, -INFINITY }, { "one nan", 1, NAN },      { "all nan", NAN, NAN },
                     { "nan among -inf", -INFINITY, NAN }, { "one inf", 1, INFINITY }, { "one finite", -INFINITY, 3 },
                     { "large", 3e38f, -3e38f },           { "equal", 2, 2 } };

    for (size_t s = 0; s < TC_COUNT(specials); s++)
        for (size_t n = 5; n <= 37; n += 16) {
            if (!tc_case(t, "%s,n=%zu", specials[s].name, n))
                continue;
            float *x = tc_out_f32(t, n), *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n);

            for (size_t i = 0; i < n; i++)
                x[i] = i == 3 ? specials[s].one : specials[s].value;
            t->ref.softmax_f32(want, x, NULL, n, 1, n, 1, 0, NULL);
            t->base.softmax_f32(base, x, NULL, n, 1, n, 1, 0, NULL);
            t->new.softmax_f32(got, x, NULL, n, 1, n, 1, 0, NULL);
            tc_near_f32(t, want, got, NULL, n);
            tc_same_f32(t, base, got, n);
        }
    for (size_t n = 5; n <= 37; n += 16) { /* a NaN among the visible: hidden columns stay 0 */
        if (!tc_case(t, "one nan and a mask,n=%zu", n))
            continue;
        float *x = tc_out_f32(t, n), *mask = tc_out_f32(t, n);
        float *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n);

        for (size_t i = 0; i < n; i++) {
            x[i] = i == 3 ? NAN : 1;
            mask[i] = i % 4 == 1 ? -INFINITY : 0;
        }
        t->ref.softmax_f32(want, x, mask, n, 0, n, 1, 0, NULL);
        t->base.softmax_f32(base, x, mask, n, 0, n, 1, 0, NULL);
        t->new.softmax_f32(got, x, mask, n, 0, n, 1, 0, NULL);
        tc_near_f32(t, want, got, NULL, n);
        tc_same_f32(t, base, got, n);
    }
    for (size_t n = 128; n <= 2048; n *= 4)
        if (tc_bench(t, 8.0 * (double)n, 0, "n=%zu", n)) {
            const float *x = tc_in_f32(t, n, TC_NORMAL);
            float *y = tc_out_f32(t, n);

            TC_TIME(t) t->new.softmax_f32(y, x, NULL, n, 0, n, 0.125f, 0, NULL);
        }
}
