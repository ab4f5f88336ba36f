/* check_attention.c: the cache layout, attention against its formula, and that a row's bits are its own. */
#include "tc.h"

#include <stdlib.h>

/* What the numbers of a block are; two bytes each but for the first. */
enum kv { KV_F32, KV_F16, KV_BF16 };

/* An attention kernel and its blocks. */
enum attention { ATTENTION_F32, ATTENTION_F32_F16, ATTENTION_F32_BF16, ATTENTION_BF16 };

/* Numbers of a K block and of a V block. */
static size_t k_numbers(enum kv kv, size_t k_width)
{
    return (kv == KV_BF16 ? (k_width + 1) / 2 * 2 : k_width) * 64;
}

static size_t v_numbers(size_t v_dim)
{
    return (v_dim + 31) / 32 * 32 * 64;
}

/* A block beside an unmapped page. */
static void *out_block(struct tc *t, enum kv kv, size_t numbers)
{
    return tc_out_panel(t, kv == KV_F32 ? numbers : numbers / 2);
}

static void kv_store(const struct tern_kernels *kernels, enum kv kv, void *k_block, void *v_block, const float *k,
                     const float *v, size_t stride, size_t e, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    if (kv == KV_F16)
        kernels->kv_store_f16(k_block, v_block, k, v, stride, e, v_dim, k_width, p, n);
    else if (kv == KV_BF16)
        kernels->kv_store_bf16(k_block, v_block, k, v, stride, e, v_dim, k_width, p, n);
    else
        kernels->kv_store_f32(k_block, v_block, k, v, stride, e, v_dim, k_width, p, n);
}

static void check_store(struct tc *t, enum kv kv)
{
    static const size_t dims[] = { 1, 8, 15, 31, 32, 33, 64, 80, 100 };
    static const struct {
        size_t p, n;
    } places[] = { { 0, 0 }, { 0, 1 }, { 31, 1 }, { 63, 1 }, { 30, 5 }, { 0, 64 }, { 17, 47 }, { 16, 17 } };

    for (size_t d = 0; d < TC_COUNT(dims); d++)
        for (size_t i = 0; i < TC_COUNT(places); i++) {
            const size_t e = dims[d], v_dim = i % 3 ? e : dims[(d + 4) % TC_COUNT(dims)];
            const size_t p = places[i].p, n = places[i].n, stride = (e > v_dim ? e : v_dim) + 7 * (i & 1);
            const size_t k_width = e > v_dim ? e : v_dim;
            const size_t k_size = k_numbers(kv, k_width), v_size = v_numbers(v_dim);

            if (!tc_case(t, "E=%zu,E'=%zu,p=%zu,n=%zu", e, v_dim, p, n))
                continue;
            const enum tc_data data = kv == KV_F32 ? TC_SPECIAL : TC_OUTLIERS;
            const float *k = tc_in_f32(t, n ? (n - 1) * stride + e : 0, data);
            const float *v = tc_in_f32(t, n ? (n - 1) * stride + v_dim : 0, data);
            void *want_k = out_block(t, kv, k_size), *got_k = out_block(t, kv, k_size);
            void *want_v = out_block(t, kv, v_size), *got_v = out_block(t, kv, v_size);

            kv_store(&t->ref, kv, want_k, want_v, k, v, stride, e, v_dim, k_width, p, n);
            kv_store(&t->new, kv, got_k, got_v, k, v, stride, e, v_dim, k_width, p, n);
            tc_same_f32(t, want_k, got_k, kv == KV_F32 ? k_size : k_size / 2);
            tc_same_f32(t, want_v, got_v, kv == KV_F32 ? v_size : v_size / 2);
        }
    for (size_t n = 1; n <= 64; n *= 64)
        if (tc_bench(t, (kv == KV_F32 ? 16.0 : 12.0) * 64 * (double)n, 0, "E=64,n=%zu", n)) {
            const float *k = tc_in_f32(t, 64 * 768, TC_NORMAL);
            float *to_k = tc_out_panel(t, 64 * 64), *to_v = tc_out_panel(t, 64 * 64);

            TC_TIME(t) kv_store(&t->new, kv, to_k, to_v, k, k + 64, 768, 64, 64, 64, n == 1 ? 5 : 0, n);
        }
}

void check_kv_store_f32(struct tc *t)
{
    check_store(t, KV_F32);
}

void check_kv_store_f16(struct tc *t)
{
    check_store(t, KV_F16);
}

void check_kv_store_bf16(struct tc *t)
{
    check_store(t, KV_BF16);
}

static void check_move(struct tc *t, enum kv kv)
{
    static const size_t dims[] = { 1, 8, 15, 31, 32, 33, 64, 80, 100 };
    static const struct {
        size_t p, n;
    } places[] = { { 0, 0 }, { 0, 1 }, { 31, 1 }, { 63, 1 }, { 30, 5 }, { 0, 64 }, { 17, 47 }, { 16, 17 } };

    for (size_t d = 0; d < TC_COUNT(dims); d++)
        for (size_t i = 0; i < TC_COUNT(places); i++) {
            const size_t e = dims[d], v_dim = i % 3 ? e : dims[(d + 4) % TC_COUNT(dims)];
            const size_t p = places[i].p, n = places[i].n, stride = (e > v_dim ? e : v_dim) + 7 * (i & 1);
            const size_t k_width = e > v_dim ? e : v_dim;
            const size_t k_size = k_numbers(kv, k_width), v_size = v_numbers(v_dim);

            if (!tc_case(t, "E=%zu,E'=%zu,p=%zu,n=%zu", e, v_dim, p, n))
                continue;
            /* ends at an unmapped page where the number of halves is even, else one half before it */
            const size_t halves = n ? (n - 1) * stride + (e > v_dim ? e : v_dim) : 0;
            const uint16_t *k = (const uint16_t *)tc_in_f32(t, (halves + 1) / 2, TC_NORMAL);
            const uint16_t *v = (const uint16_t *)tc_in_f32(t, (halves + 1) / 2, TC_NORMAL);
            void *want_k = out_block(t, kv, k_size), *got_k = out_block(t, kv, k_size);
            void *want_v = out_block(t, kv, v_size), *got_v = out_block(t, kv, v_size);

            if (kv == KV_F16) {
                t->ref.kv_move_f16(want_k, want_v, k, v, stride, e, v_dim, k_width, p, n);
                t->new.kv_move_f16(got_k, got_v, k, v, stride, e, v_dim, k_width, p, n);
            } else {
                t->ref.kv_move_bf16(want_k, want_v, k, v, stride, e, v_dim, k_width, p, n);
                t->new.kv_move_bf16(got_k, got_v, k, v, stride, e, v_dim, k_width, p, n);
            }
            tc_same_f32(t, want_k, got_k, k_size / 2);
            tc_same_f32(t, want_v, got_v, v_size / 2);
        }
    if (tc_bench(t, 8.0 * 64 * 64, 0, "E=64,n=64")) {
        const uint16_t *k = (const uint16_t *)tc_in_f32(t, 64 * 384, TC_NORMAL);
        void *to_k = tc_out_panel(t, 64 * 32), *to_v = tc_out_panel(t, 64 * 32);

        TC_TIME(t)
        {
            if (kv == KV_F16)
                t->new.kv_move_f16(to_k, to_v, k, k + 64, 768, 64, 64, 64, 0, 64);
            else
                t->new.kv_move_bf16(to_k, to_v, k, k + 64, 768, 64, 64, 64, 0, 64);
        }
    }
}

void check_kv_move_f16(struct tc *t)
{
    check_move(t, KV_F16);
}

void check_kv_move_bf16(struct tc *t)
{
    check_move(t, KV_BF16);
}

#define MAX_BLOCKS 20

/* One head's keys and values, as rows and as stored. */
struct head {
    enum kv kv;
    size_t e, v_dim, k_width, positions, blocks;
    const float *k, *v; /* [positions][e], [positions][v_dim] */
    void *k_blocks[MAX_BLOCKS], *v_blocks[MAX_BLOCKS];
};

/* Stores the positions of [first, last) that `mask` (or NULL) does not hide; everything else is NaN. */
static void store(struct tc *t, struct head *h, int64_t first, int64_t last, const float *mask)
{
    const size_t size = h->kv == KV_F32 ? 4 : 2;

    for (size_t b = 0; b < h->blocks; b++) { /* all bits set: a NaN of each type */
        memset(h->k_blocks[b], 0xff, k_numbers(h->kv, h->k_width) * size);
        memset(h->v_blocks[b], 0xff, v_numbers(h->v_dim) * size);
    }
    for (int64_t p = first; p < last; p++)
        if (!mask || mask[p] != -INFINITY)
            kv_store(&t->ref, h->kv, h->k_blocks[p / 64], h->v_blocks[p / 64], h->k + (size_t)p * h->e,
                     h->v + (size_t)p * h->v_dim, h->e, h->e, h->v_dim, h->k_width, (size_t)(p % 64), 1);
}

static struct head make_head(struct tc *t, enum kv kv, size_t e, size_t v_dim, size_t positions, enum tc_data data)
{
    struct head h = { .kv = kv, .e = e, .v_dim = v_dim, .positions = positions, .blocks = (positions + 63) / 64 };

    h.k_width = e > v_dim ? e : v_dim;
    h.k = tc_in_f32(t, positions * e, data);
    h.v = tc_in_f32(t, positions * v_dim, data);
    for (size_t b = 0; b < h.blocks; b++) {
        h.k_blocks[b] = out_block(t, kv, k_numbers(kv, h.k_width));
        h.v_blocks[b] = out_block(t, kv, v_numbers(v_dim));
    }
    store(t, &h, 0, (int64_t)positions, NULL);
    return h;
}

/* The largest value times (1 + the largest score before cancellation): what an error in a score moves the output by.  Where
 * weights are rounded to bf16, what the rounding of all of them to the other side would: the bound of the list is 2e-7 of a scale.
 * Values of two bytes are rounded, and no larger than 1 + 2^-8 times what they were. */
static float scale_of_row(const struct tern_attention_rows *a, const struct head *h, size_t r)
{
    double largest = 0, value = 0;

    for (int64_t j = a->first[r]; j < a->last[r]; j++) {
        double s = 0;
        for (size_t c = 0; c < h->e; c++)
            s += fabs((double)((const float *)a->q)[r * a->q_stride + c] * h->k[(size_t)j * h->e + c]);
        for (size_t c = 0; c < h->v_dim; c++)
            value = fmax(value, fabs(h->v[(size_t)j * h->v_dim + c]));
        s *= a->scale;
        if (a->slope)
            s += fabs((double)a->slope[r] * (double)j);
        if (a->mask && a->mask[r] && isfinite(a->mask[r][j]))
            s += fabs(a->mask[r][j]);
        largest = fmax(largest, s);
    }
    const bool rounds = a->round_bf16 || h->kv == KV_BF16;
    return (float)((h->kv == KV_F32 ? 1 : 1 + 0x1p-8) * value * (1 + largest + (rounds ? 0x1p-8 / 2e-7 : 0)));
}

/* Row r of `a` alone, into out. */
static void run_row(tern_attention_f32_fn *run, const struct tern_attention_rows *a, size_t r, float *out)
{
    struct tern_attention_rows one = *a;

    one.n_rows = 1;
    one.q = (const float *)a->q + r * a->q_stride;
    one.out = out;
    one.first += r;
    one.last += r;
    one.slope = a->slope ? a->slope + r : NULL;
    one.mask = a->mask ? a->mask + r : NULL;
    run(&one);
}

#define MAX_ROWS 19

/* All rows of `a` in calls of one softmax block each, with the addresses of its storage blocks only. */
static void run_blocks(tern_attention_f32_fn *run, const struct tern_attention_rows *a, int64_t positions)
{
    int64_t first[MAX_ROWS], last[MAX_ROWS];
    struct tern_attention_rows part = *a;

    part.first = first;
    part.last = last;
    for (int64_t begin = 0; begin < positions; begin += TERN_ATTN_BLOCK) {
        const int64_t end = begin + TERN_ATTN_BLOCK;
        for (size_t r = 0; r < a->n_rows; r++) {
            first[r] = a->first[r] > begin ? a->first[r] : begin;
            last[r] = a->last[r] < end ? a->last[r] : end;
        }
        part.origin = begin;
        part.k_blocks = a->k_blocks + begin / 64;
        part.v_blocks = a->v_blocks + begin / 64;
        part.resume = begin > 0;
        part.more = end < positions;
        run(&part);
    }
}

/* All rows of `a`, with the addresses of no storage block before the first that a row sees. */
static void run_seen(tern_attention_f32_fn *run, const struct tern_attention_rows *a, int64_t positions)
{
    struct tern_attention_rows seen = *a;
    int64_t begin = positions;

    for (size_t r = 0; r < a->n_rows; r++)
        if (a->first[r] < a->last[r] && a->first[r] < begin)
            begin = a->first[r];
    seen.origin = begin / TERN_KV_BLOCK * TERN_KV_BLOCK;
    seen.k_blocks = a->k_blocks + begin / TERN_KV_BLOCK;
    seen.v_blocks = a->v_blocks + begin / TERN_KV_BLOCK;
    run(&seen);
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

static tern_attention_f32_fn *attention_of(const struct tern_kernels *kernels, enum attention which)
{
    tern_attention_f32_fn *const all[] = { kernels->attention_f32, kernels->attention_f32_f16,
                                           kernels->attention_f32_bf16, kernels->attention_bf16 };
    return all[which];
}

static void narrow(const struct tc *t, enum kv kv, uint16_t *to, const float *from, size_t n)
{
    if (kv == KV_F16)
        t->ref.f16_from_f32(to, from, n);
    else
        t->ref.bf16_from_f32(to, from, n);
}

static void widen(const struct tc *t, enum kv kv, float *to, const uint16_t *from, size_t n)
{
    if (kv == KV_F16)
        t->ref.f32_from_f16(to, from, n);
    else
        t->ref.f32_from_bf16(to, from, n);
}

/* Rows in two bytes a number: the results of the same queries in f32, rounded once. */
static void check_halves(struct tc *t, tern_attention_f32_fn *run, enum kv kv, const struct tern_attention_rows *a,
                         size_t size)
{
    const size_t words = (size + 1) / 2;
    float *q = tc_out_f32(t, size), *out = tc_out_f32(t, size);
    uint16_t *half = (uint16_t *)tc_out_f32(t, words), *got = (uint16_t *)tc_out_f32(t, words);
    uint16_t *want = (uint16_t *)tc_out_f32(t, words);
    struct tern_attention_rows b = *a;

    narrow(t, kv, half, a->q, size);
    widen(t, kv, q, half, size);
    b.q = q;
    b.out = out;
    run(&b);
    b.q = half;
    b.out = got;
    b.half = true;
    run(&b);
    for (size_t r = 0; r < a->n_rows; r++)
        narrow(t, kv, want + r * a->out_stride, out + r * a->out_stride, a->v_dim);
    tc_same_f32(t, (const float *)(const void *)want, (const float *)(const void *)got, words);
}

static void check_attention(struct tc *t, enum attention which)
{
    const enum kv kv = which == ATTENTION_F32 ? KV_F32 : which == ATTENTION_F32_F16 ? KV_F16 : KV_BF16;

    static const struct {
        size_t e, positions;
    } shapes[] = { { 1, 3 }, { 8, 40 }, { 64, 65 }, { 33, 150 }, { 64, 530 }, { 16, 1100 }, { 100, 100 }, { 512, 70 } };
    enum { SLOPE = 1, MASK = 2, CAP = 4, IN_PLACE = 8, OUTLIERS = 16, BF16 = 32, V_DIM = 64, HALF = 128 };
    static const int forms[] = { 0,        SLOPE, MASK,        CAP,          SLOPE | MASK | CAP,
                                 IN_PLACE, BF16,  MASK | BF16, V_DIM | MASK, OUTLIERS };

    for (size_t s = 0; s < TC_COUNT(shapes); s++)
        for (int ranges = CAUSAL; ranges <= BLOCK_BORDER; ranges++)
            for (size_t f = 0; f < TC_COUNT(forms); f++) {
                if (kv != KV_F32 && (forms[f] & BF16) && (s + f) % 4) /* says nothing there */
                    continue;
                const size_t e = shapes[s].e, positions = shapes[s].positions, rows = f == 0 ? 19 : 1 + (s * 3 + f) % 8;
                const size_t v_dim = forms[f] & V_DIM ? shapes[(s + 3) % TC_COUNT(shapes)].e : e;
                const size_t stride = (e > v_dim ? e : v_dim) + 5, size = (rows - 1) * stride + stride - 5;
                int64_t first[MAX_ROWS], last[MAX_ROWS];
                float slope[MAX_ROWS], scale[512];
                const float *mask[MAX_ROWS];

                if (ranges == BLOCK_BORDER && positions < 520)
                    continue;
                if (!tc_case(t, "E=%zu,S=%zu,rows=%zu,%s%s%s%s%s%s%s%s", e, positions, rows, range_names[ranges],
                             forms[f] & SLOPE ? ",slope" : "", forms[f] & MASK ? ",mask" : "",
                             forms[f] & CAP ? ",softcap" : "", forms[f] & IN_PLACE ? ",in place" : "",
                             forms[f] & OUTLIERS ? ",outliers" : "", forms[f] & BF16 ? ",bf16" : "",
                             forms[f] & V_DIM ? ",V apart" : ""))
                    continue;
                struct head h = make_head(t, kv, e, v_dim, positions, forms[f] & OUTLIERS ? TC_OUTLIERS : TC_NORMAL);
                const float *q = tc_in_f32(t, size, forms[f] & OUTLIERS ? TC_OUTLIERS : TC_NORMAL);
                float *want = tc_out_f32(t, size), *base = tc_out_f32(t, size), *got = tc_out_f32(t, size);
                float *alone = tc_out_f32(t, v_dim), *scratch = tc_out_panel(t, tern_attention_scratch(e));
                float *state = tc_out_panel(t, tern_attention_state(v_dim, rows));

                make_ranges(t, (enum ranges)ranges, positions, rows, first, last);
                for (size_t r = 0; r < rows; r++) {
                    float *m = tc_copy_f32(t, tc_in_f32(t, positions, TC_NORMAL), positions);
                    for (size_t j = 0; j < positions; j++)
                        if (tc_below(t, 3) == 0)
                            m[j] = -INFINITY;
                    mask[r] = r % 4 == 3 ? NULL : m;
                    slope[r] = -0.01f * (float)(r + 1);
                }
                struct tern_attention_rows a = { .q = q,
                                                 .out = want,
                                                 .q_stride = stride,
                                                 .out_stride = stride,
                                                 .n_rows = rows,
                                                 .head_dim = e,
                                                 .v_dim = v_dim,
                                                 .k_width = h.k_width,
                                                 .k_blocks = (const void *const *)h.k_blocks,
                                                 .v_blocks = (const void *const *)h.v_blocks,
                                                 .first = first,
                                                 .last = last,
                                                 .slope = forms[f] & SLOPE ? slope : NULL,
                                                 .mask = forms[f] & MASK ? mask : NULL,
                                                 .scale = 1 / sqrtf((float)e),
                                                 .softcap = forms[f] & CAP ? 3 : 0,
                                                 .round_bf16 = forms[f] & BF16,
                                                 .scratch = scratch,
                                                 .state = state };

                attention_of(&t->ref, which)(&a);
                a.out = base;
                a.prefetch = TERN_PREFETCH_L2; /* hints */
                attention_of(&t->base, which)(&a);
                a.prefetch = (enum tern_prefetch)((s + f) % 3);
                a.out = got;
                if (forms[f] & IN_PLACE) {
                    for (size_t r = 0; r < rows; r++)
                        memcpy(got + r * stride, q + r * stride, e * sizeof *q);
                    a.q = got;
                }
                attention_of(&t->new, which)(&a);
                a.q = q;
                if (which != ATTENTION_BF16 ||
                    t->new.isa < TERN_ISA_AVX512BF16) /* there an instruction rounds in its own way */
                    tc_same_f32(t, base, got, size);
                for (size_t r = 0; r < rows; r++) {
                    const float all = scale_of_row(&a, &h, r);
                    for (size_t c = 0; c < v_dim; c++)
                        scale[c] = all;
                    tc_near_f32(t, want + r * stride, got + r * stride, scale, v_dim);
                }

                a.out = base;
                run_blocks(attention_of(&t->new, which), &a, (int64_t)positions);
                tc_same_f32(t, got, base, size);
                if (ranges == WINDOW || ranges == RANDOM) {
                    a.out = base = tc_out_f32(t, size);
                    run_seen(attention_of(&t->new, which), &a, (int64_t)positions);
                    tc_same_f32(t, got, base, size);
                }
                a.out = got;

                if (f == 0 && kv != KV_F32)
                    check_halves(t, attention_of(&t->new, which), kv, &a, size);

                /* alone; then, where it is quick, beside the same rows with NaN in all that this row does not see */
                for (size_t r = 0; r < rows; r++) {
                    run_row(attention_of(&t->new, which), &a, r, alone);
                    tc_same_f32(t, got + r * stride, alone, v_dim);
                }
                for (size_t r = 0; r < rows && (t->new.isa != TERN_ISA_PORTABLE || positions <= 100); r++) {
                    store(t, &h, first[r], last[r], a.mask ? a.mask[r] : NULL);
                    a.out = base;
                    attention_of(&t->new, which)(&a);
                    tc_same_f32(t, got + r * stride, base + r * stride, v_dim);
                    run_row(attention_of(&t->new, which), &a, r, alone);
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

        if (!tc_bench(t, rows < 8 ? (kv == KV_F32 ? 8.0 : 4.0) * size : 0, 4.0 * size * (double)rows,
                      "E=64,S=%zu,rows=%zu", positions, rows))
            continue;
        const float *q = tc_in_f32(t, 8 * 64, TC_NORMAL), *rows_of = tc_in_f32(t, 64 * 64, TC_NORMAL);
        const size_t number = kv == KV_F32 ? 4 : 2;
        char *cache = (char *)tc_in_panel(t, 2 * positions * 64, TC_NORMAL);
        float *out = tc_out_f32(t, 8 * 64), *scratch = tc_out_panel(t, tern_attention_scratch(64));
        float *state = tc_out_panel(t, tern_attention_state(64, 8));
        const void *k[2048 / 64], *v[2048 / 64];
        int64_t first[8] = { 0 }, last[8];

        for (size_t b = 0; b < positions / 64; b++) {
            char *to_k = cache + b * 2 * 64 * 64 * number, *to_v = to_k + 64 * 64 * number;
            kv_store(&t->new, kv, to_k, to_v, rows_of, rows_of, 64, 64, 64, 64, 0, 64);
            k[b] = to_k;
            v[b] = to_v;
        }
        for (size_t r = 0; r < rows; r++)
            last[r] = (int64_t)(rows == 8 ? positions - 7 + r : positions);
        const struct tern_attention_rows a = { .q = q,
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
                                               .prefetch = t->new.prefetch,
                                               .scratch = scratch,
                                               .state = state };

        TC_TIME(t) attention_of(&t->new, which)(&a);
    }
}

void check_attention_f32(struct tc *t)
{
    check_attention(t, ATTENTION_F32);
}

void check_attention_f32_f16(struct tc *t)
{
    check_attention(t, ATTENTION_F32_F16);
}

void check_attention_f32_bf16(struct tc *t)
{
    check_attention(t, ATTENTION_F32_BF16);
}

void check_attention_bf16(struct tc *t)
{
    check_attention(t, ATTENTION_BF16);
}
