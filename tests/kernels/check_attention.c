/* check_attention.c: the cache layout, attention against its formula, and that a row's bits are its own. */
#include "tc.h"

#include <stdlib.h>

void check_kv_store_f32(struct tc *t)
{
    static const size_t dims[] = { 1, 8, 15, 31, 32, 33, 64, 80, 100 };
    static const struct {
        size_t p, n;
    } places[] = { { 0, 0 }, { 0, 1 }, { 31, 1 }, { 63, 1 }, { 30, 5 }, { 0, 64 }, { 17, 47 } };

    for (size_t d = 0; d < TC_COUNT(dims); d++)
        for (size_t i = 0; i < TC_COUNT(places); i++) {
            const size_t e = dims[d], v_dim = i % 3 ? e : dims[(d + 4) % TC_COUNT(dims)];
            const size_t p = places[i].p, n = places[i].n, stride = (e > v_dim ? e : v_dim) + 7 * (i & 1);
            const size_t k_width = e > v_dim ? e : v_dim, k_size = k_width * TERN_KV_BLOCK,
                         v_size = (v_dim + 31) / 32 * 32 * TERN_KV_BLOCK;

            if (!tc_case(t, "E=%zu,E'=%zu,p=%zu,n=%zu", e, v_dim, p, n))
                continue;
            const float *k = tc_in_f32(t, n ? (n - 1) * stride + e : 0, TC_SPECIAL);
            const float *v = tc_in_f32(t, n ? (n - 1) * stride + v_dim : 0, TC_SPECIAL);
            float *want_k = tc_out_panel(t, k_size), *got_k = tc_out_panel(t, k_size);
            float *want_v = tc_out_panel(t, v_size), *got_v = tc_out_panel(t, v_size);

            t->ref.kv_store_f32(want_k, want_v, k, v, stride, e, v_dim, k_width, p, n);
            t->new.kv_store_f32(got_k, got_v, k, v, stride, e, v_dim, k_width, p, n);
            tc_same_f32(t, want_k, got_k, k_size);
            tc_same_f32(t, want_v, got_v, v_size);
        }
    for (size_t n = 1; n <= 64; n *= 64)
        if (tc_bench(t, 16.0 * 64 * (double)n, 0, "E=64,n=%zu", n)) {
            const float *k = tc_in_f32(t, 64 * 768, TC_NORMAL);
            float *to_k = tc_out_panel(t, 64 * 64), *to_v = tc_out_panel(t, 64 * 64);

            TC_TIME(t) t->new.kv_store_f32(to_k, to_v, k, k + 64, 768, 64, 64, 64, n == 1 ? 5 : 0, n);
        }
}

#define MAX_BLOCKS 20

/* One head's keys and values, as rows and as stored. */
struct head {
    size_t e, v_dim, k_width, positions, blocks;
    const float *k, *v; /* [positions][e], [positions][v_dim] */
    float *k_blocks[MAX_BLOCKS], *v_blocks[MAX_BLOCKS];
};

/* Stores the positions of [first, last) that `mask` (or NULL) does not hide; everything else is NaN. */
static void store(struct tc *t, struct head *h, int64_t first, int64_t last, const float *mask)
{
    for (size_t b = 0; b < h->blocks; b++) {
        for (size_t i = 0; i < h->k_width * 64; i++)
            h->k_blocks[b][i] = NAN;
        for (size_t i = 0; i < (h->v_dim + 31) / 32 * 32 * 64; i++)
            h->v_blocks[b][i] = NAN;
    }
    for (int64_t p = first; p < last; p++)
        if (!mask || mask[p] != -INFINITY)
            t->ref.kv_store_f32(h->k_blocks[p / 64], h->v_blocks[p / 64], h->k + (size_t)p * h->e,
                                h->v + (size_t)p * h->v_dim, h->e, h->e, h->v_dim, h->k_width, (size_t)(p % 64), 1);
}

static struct head make_head(struct tc *t, size_t e, size_t v_dim, size_t positions, enum tc_data data)
{
    struct head h = { .e = e, .v_dim = v_dim, .positions = positions, .blocks = (positions + 63) / 64 };

    h.k_width = e > v_dim ? e : v_dim;
    h.k = tc_in_f32(t, positions * e, data);
    h.v = tc_in_f32(t, positions * v_dim, data);
    for (size_t b = 0; b < h.blocks; b++) {
        h.k_blocks[b] = tc_out_panel(t, h.k_width * 64);
        h.v_blocks[b] = tc_out_panel(t, (v_dim + 31) / 32 * 32 * 64);
    }
    store(t, &h, 0, (int64_t)positions, NULL);
    return h;
}

/* The largest value times (1 + the largest score before cancellation): what an error in a score moves the output by.  Where
 * weights are rounded to bf16, what the rounding of all of them to the other side would: the bound of the list is 2e-7 of a scale. */
static float scale_of_row(const struct tern_attention_f32 *a, const struct head *h, size_t r)
{
    double largest = 0, value = 0;

    for (int64_t j = a->first[r]; j < a->last[r]; j++) {
        double s = 0;
        for (size_t c = 0; c < h->e; c++)
            s += fabs((double)a->q[r * a->q_stride + c] * h->k[(size_t)j * h->e + c]);
        for (size_t c = 0; c < h->v_dim; c++)
            value = fmax(value, fabs(h->v[(size_t)j * h->v_dim + c]));
        s *= a->scale;
        if (a->slope)
            s += fabs((double)a->slope[r] * (double)j);
        if (a->mask && a->mask[r] && isfinite(a->mask[r][j]))
            s += fabs(a->mask[r][j]);
        largest = fmax(largest, s);
    }
    return (float)(value * (1 + largest + (a->round_bf16 ? 0x1p-8 / 2e-7 : 0)));
}

/* Row r of `a` alone, into out. */
static void run_row(tern_attention_f32_fn *run, const struct tern_attention_f32 *a, size_t r, float *out)
{
    struct tern_attention_f32 one = *a;

    one.n_rows = 1;
    one.q += r * a->q_stride;
    one.out = out;
    one.first += r;
    one.last += r;
    one.slope = a->slope ? a->slope + r : NULL;
    one.mask = a->mask ? a->mask + r : NULL;
    run(&one);
}

enum ranges { CAUSAL, WINDOW, DECODE, RANDOM, BLOCK_BORDER };
static const char *const range_names[] = { "causal", "window", "decode", "random", "block border" };

static void make_ranges(struct tc *t, enum ranges ranges, size_t positions, size_t rows, int64_t *first, int64_t *last)
{
    const int64_t n = (int64_t)positions;

    for (size_t r = 0; r < rows; r++) {
        const int64_t i = (int64_t)r;
        first[r] = 0;
        last[r] = n;
        switch (ranges) {
        case CAUSAL:
            last[r] = n - (int64_t)rows + i + 1 > 0 ? n - (int64_t)rows + i + 1 : 1;
            break;
        case WINDOW:
            last[r] = n - (int64_t)rows + i + 1 > 0 ? n - (int64_t)rows + i + 1 : 1;
            first[r] = last[r] > 37 ? last[r] - 37 : 0;
            break;
        case DECODE:
            break;
        case RANDOM: /* some of them empty */
            first[r] = (int64_t)tc_below(t, positions);
            last[r] = (int64_t)tc_below(t, positions + 1);
            break;
        case BLOCK_BORDER:
            last[r] = 510 + i < n ? 510 + i : n;
            first[r] = i % 3 == 2 ? last[r] - 1 : i;
        }
    }
}

void check_attention_f32(struct tc *t)
{
    static const struct {
        size_t e, positions;
    } shapes[] = { { 1, 3 }, { 8, 40 }, { 64, 65 }, { 33, 150 }, { 64, 530 }, { 16, 1100 }, { 100, 100 }, { 512, 70 } };
    enum { SLOPE = 1, MASK = 2, CAP = 4, IN_PLACE = 8, OUTLIERS = 16, BF16 = 32, V_DIM = 64 };
    static const int forms[] = { 0,        SLOPE, MASK,        CAP,          SLOPE | MASK | CAP,
                                 IN_PLACE, BF16,  MASK | BF16, V_DIM | MASK, OUTLIERS };

    for (size_t s = 0; s < TC_COUNT(shapes); s++)
        for (int ranges = CAUSAL; ranges <= BLOCK_BORDER; ranges++)
            for (size_t f = 0; f < TC_COUNT(forms); f++) {
                const size_t e = shapes[s].e, positions = shapes[s].positions, rows = f == 0 ? 8 : 1 + (s * 3 + f) % 8;
                const size_t v_dim = forms[f] & V_DIM ? shapes[(s + 3) % TC_COUNT(shapes)].e : e;
                const size_t stride = (e > v_dim ? e : v_dim) + 5, size = (rows - 1) * stride + stride - 5;
                int64_t first[8], last[8];
                float slope[8], scale[512];
                const float *mask[8];

                if (ranges == BLOCK_BORDER && positions < 520)
                    continue;
                if (!tc_case(t, "E=%zu,S=%zu,rows=%zu,%s%s%s%s%s%s%s%s", e, positions, rows, range_names[ranges],
                             forms[f] & SLOPE ? ",slope" : "", forms[f] & MASK ? ",mask" : "",
                             forms[f] & CAP ? ",softcap" : "", forms[f] & IN_PLACE ? ",in place" : "",
                             forms[f] & OUTLIERS ? ",outliers" : "", forms[f] & BF16 ? ",bf16" : "",
                             forms[f] & V_DIM ? ",V apart" : ""))
                    continue;
                struct head h = make_head(t, e, v_dim, positions, forms[f] & OUTLIERS ? TC_OUTLIERS : TC_NORMAL);
                const float *q = tc_in_f32(t, size, forms[f] & OUTLIERS ? TC_OUTLIERS : TC_NORMAL);
                float *want = tc_out_f32(t, size), *base = tc_out_f32(t, size), *got = tc_out_f32(t, size);
                float *alone = tc_out_f32(t, v_dim), *scratch = tc_out_panel(t, tern_attention_scratch(v_dim));

                make_ranges(t, (enum ranges)ranges, positions, rows, first, last);
                for (size_t r = 0; r < rows; r++) {
                    float *m = tc_copy_f32(t, tc_in_f32(t, positions, TC_NORMAL), positions);
                    for (size_t j = 0; j < positions; j++)
                        if (tc_below(t, 3) == 0)
                            m[j] = -INFINITY;
                    mask[r] = r % 4 == 3 ? NULL : m;
                    slope[r] = -0.01f * (float)(r + 1);
                }
                struct tern_attention_f32 a = { .q = q,
                                                .out = want,
                                                .q_stride = stride,
                                                .out_stride = stride,
                                                .n_rows = rows,
                                                .head_dim = e,
                                                .v_dim = v_dim,
                                                .k_width = h.k_width,
                                                .k_blocks = (const float *const *)h.k_blocks,
                                                .v_blocks = (const float *const *)h.v_blocks,
                                                .first = first,
                                                .last = last,
                                                .slope = forms[f] & SLOPE ? slope : NULL,
                                                .mask = forms[f] & MASK ? mask : NULL,
                                                .scale = 1 / sqrtf((float)e),
                                                .softcap = forms[f] & CAP ? 3 : 0,
                                                .round_bf16 = forms[f] & BF16,
                                                .scratch = scratch };

                t->ref.attention_f32(&a);
                a.out = base;
                t->base.attention_f32(&a);
                a.out = got;
                if (forms[f] & IN_PLACE) {
                    for (size_t r = 0; r < rows; r++)
                        memcpy(got + r * stride, q + r * stride, e * sizeof *q);
                    a.q = got;
                }
                t->new.attention_f32(&a);
                a.q = q;
                tc_same_f32(t, base, got, size);
                for (size_t r = 0; r < rows; r++) {
                    const float all = scale_of_row(&a, &h, r);
                    for (size_t c = 0; c < v_dim; c++)
                        scale[c] = all;
                    tc_near_f32(t, want + r * stride, got + r * stride, scale, v_dim);
                }

                /* alone; then, where it is quick, beside the same rows with NaN in all that this row does not see */
                for (size_t r = 0; r < rows; r++) {
                    run_row(t->new.attention_f32, &a, r, alone);
                    tc_same_f32(t, got + r * stride, alone, v_dim);
                }
                for (size_t r = 0; r < rows && (t->new.isa != TERN_ISA_PORTABLE || positions <= 100); r++) {
                    store(t, &h, first[r], last[r], a.mask ? a.mask[r] : NULL);
                    a.out = base;
                    t->new.attention_f32(&a);
                    tc_same_f32(t, got + r * stride, base + r * stride, v_dim);
                    run_row(t->new.attention_f32, &a, r, alone);
                    tc_same_f32(t, got + r * stride, alone, v_dim);
                }
            }

    /* Prefill: the last 8 rows of S, causal; decode: one row, or 4 that share the head.  Four heads go round. */
    static const struct {
        size_t positions, rows;
    } loads[] = { { 128, 8 }, { 512, 8 }, { 2048, 8 }, { 512, 1 }, { 2048, 1 }, { 2048, 4 } };

    for (size_t i = 0; i < TC_COUNT(loads); i++) {
        const size_t positions = loads[i].positions, rows = loads[i].rows;
        const double size = (double)(positions * 64);

        if (!tc_bench(t, rows < 8 ? 8.0 * size : 0, 4.0 * size * (double)rows, "E=64,S=%zu,rows=%zu", positions, rows))
            continue;
        const float *q = tc_in_f32(t, 8 * 64, TC_NORMAL), *cache = tc_in_panel(t, 2 * positions * 64, TC_NORMAL);
        float *out = tc_out_f32(t, 8 * 64), *scratch = tc_out_panel(t, tern_attention_scratch(64));
        const float *k[2048 / 64], *v[2048 / 64];
        int64_t first[8] = { 0 }, last[8];

        for (size_t b = 0; b < positions / 64; b++) {
            k[b] = cache + b * 64 * 64;
            v[b] = cache + (positions + b * 64) * 64;
        }
        for (size_t r = 0; r < rows; r++)
            last[r] = (int64_t)(rows == 8 ? positions - 7 + r : positions);
        const struct tern_attention_f32 a = { .q = q,
                                              .out = out,
                                              .q_stride = 64,
                                              .out_stride = 64,
                                              .n_rows = rows,
                                              .head_dim = 64,
                                              .v_dim = 64,
                                              .k_width = 64,
                                              .k_blocks = k,
                                              .v_blocks = v,
                                              .first = first,
                                              .last = last,
                                              .scale = 0.125f,
                                              .scratch = scratch };

        TC_TIME(t) t->new.attention_f32(&a);
    }
}
