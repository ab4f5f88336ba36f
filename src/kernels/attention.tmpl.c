/* attention.tmpl.c: storage of keys and values, and attention over them.  Built once per level; contracts in kernels.h.
 *
 * Softmax blocks of TERN_ATTN_BLOCK positions, cut at absolute positions.  For each block that a row sees a part of:
 *
 *   strip[8][512]   scores: tiles of gemm_f32, queries [rows][E] times K panels [E][32]
 *   per row         scale, softcap, slope, mask; maximum; if it grew, rescale sum and output; exponentials, in place, and
 *                   their sum in 32 lanes keyed by position mod 32
 *   out[8][E']      += strip times V panels [positions][32]: tiles of gemm_f32 that go on from the values in out
 *
 * What keeps a row's bits its own: a score or output element is one chain of its own; lanes of positions that the row
 * does not see hold -inf before and add +0 after the exponential; and the chain over V takes exactly the positions that the
 * row sees: where rows of a tile do not see the same, what a row does not see is marked in the strip and leaves its sums alone. */
#include "kernels/vec_math.h"

#include <float.h>

#define ATTN_HALF_BLOCK (TERN_KV_BLOCK / TERN_PANEL) /* K panels of a storage block */

#if V16_GEMM_ROWS == 14
#define ATTN_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define ATTN_ROWS(X) X(0)
#endif

static void TERN_K(kv_store_f32)(float *k_block, float *v_block, const float *k, const float *v, size_t stride,
                                 size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;

    for (size_t i = 0, m; i < n; i += m, p += m) {
        float *to = k_block + p / TERN_PANEL * k_width * TERN_PANEL + p % TERN_PANEL;
        size_t c = 0;

        m = p % 16 == 0 && n - i >= 16 ? 16 : 1;
        for (; m == 16 && c + 16 <= head_dim; c += 16)
            v16_transpose(to + c * TERN_PANEL, TERN_PANEL, k + i * stride + c, stride);
        for (; c < head_dim; c++)
            for (size_t j = 0; j < m; j++)
                to[c * TERN_PANEL + j] = k[(i + j) * stride + c];
        for (size_t j = 0; j < m; j++)
            for (c = 0; c < width; c += 16)
                v16_store(v_block + (c / TERN_PANEL * TERN_KV_BLOCK + p + j) * TERN_PANEL + c % TERN_PANEL,
                          c < v_dim ? v16_load_n(v + (i + j) * stride + c, v_dim - c) : v16_set1(0));
    }
}

/* The state of a call, in its scratch. */
struct attention_state {
    float *strip;  /* [8][TERN_ATTN_BLOCK] scores, then exponentials, of positions block .. block + TERN_ATTN_BLOCK */
    float *out;    /* [n_rows][width] sums of exponential times value */
    float *sum;    /* [n_rows][32] sums of exponentials */
    size_t width;  /* E' rounded up to panels */
    int64_t block; /* first position of the softmax block */
    float top[TERN_ATTN_ROWS];                          /* maximum so far */
    int64_t begin[TERN_ATTN_ROWS], end[TERN_ATTN_ROWS]; /* what a row sees of the block; begin == end: nothing */
};

/* Rows of the block that are done together, what they see, and how much of that all of them see. */
struct attention_tile {
    size_t row, m;
    int64_t begin, end;         /* the positions that any row sees */
    int64_t all_begin, all_end; /* the positions that all rows see */
    bool hides;                 /* whether a mask hides any of them from any row */
};

/* What stands in the strip for a position that a row does not see: no exponential is below 0. */
#define ATTN_UNSEEN (-1.0f)

/* Lanes [begin, end) of sixteen floats of which p is the first; the other lanes are `rest` and their memory is not read. */
V16_FN v16 attention_load(const float *p, int64_t begin, int64_t end, float rest)
{
    float lanes[16];

    if (begin <= 0 && end >= 16)
        return v16_load(p);
    for (int64_t i = 0; i < 16; i++)
        lanes[i] = i >= begin && i < end ? p[i] : rest;
    return v16_load(lanes);
}

/* v in the lanes [begin, end), the others `rest`. */
V16_FN v16 attention_within(v16 v, int64_t begin, int64_t end, v16 rest)
{
    if (begin > 0)
        v = v16_select(v16_first((size_t)begin), rest, v);
    if (end < 16)
        v = v16_select(v16_first(end > 0 ? (size_t)end : 0), v, rest);
    return v;
}

/* The panel of K that holds positions [32 p, 32 p + 32). */
V16_FN const float *attention_keys(const struct tern_attention_f32 *a, int64_t p)
{
    return a->k_blocks[p / ATTN_HALF_BLOCK] + (size_t)(p % ATTN_HALF_BLOCK) * a->k_width * TERN_PANEL;
}

/* Scores of the tile for the K panels that hold what it sees. */
V16_FN void attention_scores(const struct tern_attention_f32 *a, const struct attention_state *s,
                             const struct attention_tile *t)
{
    const size_t e = a->head_dim;

    for (int64_t p = t->begin / TERN_PANEL; p * TERN_PANEL < t->end; p++) {
        const float *next = (p + 1) * TERN_PANEL < t->end ? attention_keys(a, p + 1) : NULL;

        TERN_K(gemm_f32)
        (s->strip + (p * TERN_PANEL - s->block), TERN_ATTN_BLOCK, a->q + t->row * a->q_stride, a->q_stride,
         attention_keys(a, p), e, t->m, false, next, e * TERN_PANEL * sizeof *next);
    }
}

/* To bf16 and back. */
V16_FN v16 attention_round(v16 v)
{
    uint16_t half[16];

    v16_store_bf16(half, v);
    return v16_load_bf16(half);
}

/* Scores j .. j + 15 of row r, whose products stand at p, -inf where it does not see; *least is the smallest mask so far. */
V16_FN v16 attention_score(const struct tern_attention_f32 *a, const struct attention_state *s, size_t r, int64_t j,
                           const float *p, v16 *least)
{
    static const float steps[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const v16 nothing = v16_set1(-INFINITY), cap = v16_set1(a->softcap);
    const float *mask = a->mask ? a->mask[r] : NULL;
    v16 v = v16_mul(v16_load(p), v16_set1(a->scale));

    if (a->softcap > 0)
        v = v16_mul(cap, v16_tanh(v16_div(v, cap)));
    if (a->slope)
        v = v16_fma(v16_set1(a->slope[r]), v16_add(v16_set1((float)j), v16_load(steps)), v);
    if (mask) {
        const v16 add = attention_load(mask + j, s->begin[r] - j, s->end[r] - j, 0);
        *least = v16_min(add, *least);
        v = v16_select(v16_less(add, v16_set1(-FLT_MAX)), nothing, v16_add(v, add));
    }
    return attention_within(v, s->begin[r] - j, s->end[r] - j, nothing);
}

/* Takes row r's maximum on; rescales what it has so far where it grew.  Gives what is subtracted from its scores. */
V16_FN float attention_maximum(struct attention_state *s, size_t r, float largest)
{
    const float before = s->top[r];
    const bool grew = largest > before;
    const float now = grew ? largest : before;
    float *sum = s->sum + r * 32, *out = s->out + r * s->width;

    if (grew && before != -INFINITY) {
        const v16 factor = v16_exp(v16_sub(v16_set1(before), v16_set1(now)));
        for (size_t i = 0; i < 32; i += 16)
            v16_store(sum + i, v16_mul(v16_load(sum + i), factor));
        for (size_t i = 0; i < s->width; i += 16)
            v16_store(out + i, v16_mul(v16_load(out + i), factor));
    }
    s->top[r] = now;
    return now == -INFINITY ? 0 : now;
}

/* The exponential of a difference to the maximum; as it meets the values. */
V16_FN v16 attention_weight(const struct tern_attention_f32 *a, v16 e)
{
    return a->round_bf16 ? attention_round(e) : e;
}

/* The vectors, in twos, that hold what row r sees: [from, to); those of [whole, whole_end) have no edges. */
struct attention_span {
    int64_t from, to, whole, whole_end;
};

V16_FN struct attention_span attention_span(const struct attention_state *s, size_t r)
{
    const int64_t begin = s->begin[r], end = s->end[r];
    struct attention_span v = { begin / 32 * 32, (end + 31) / 32 * 32, (begin + 31) / 32 * 32, end / 32 * 32 };

    if (v.whole >= v.whole_end)
        v.whole = v.whole_end = v.to;
    return v;
}

/* Row r's products of q and K become scores, -inf where it does not see; gives the largest. */
V16_FN float attention_largest(const struct tern_attention_f32 *a, const struct attention_state *s,
                               struct attention_tile *t, size_t r)
{
    const struct attention_span span = attention_span(s, r);
    const int64_t begin = s->begin[r], end = s->end[r];
    const bool plain = !(a->softcap > 0) && !a->slope && !(a->mask && a->mask[r]);
    const v16 scale = v16_set1(a->scale), nothing = v16_set1(-INFINITY);
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK - s->block;
    v16 top0 = nothing, top1 = nothing, least = v16_set1(0);
    int64_t j = span.from;

    if (!plain) {
        for (; j < span.to; j += 16) {
            const v16 v = attention_score(a, s, r, j, strip + j, &least);
            top0 = v16_max(v, top0);
            v16_store(strip + j, v);
        }
        t->hides |= a->mask && v16_largest(v16_sub(v16_set1(0), least)) == INFINITY;
        return v16_largest(top0);
    }
    while (j < span.to) {
        for (; j >= span.whole && j < span.whole_end; j += 32) {
            const v16 v0 = v16_mul(v16_load(strip + j), scale), v1 = v16_mul(v16_load(strip + j + 16), scale);
            top0 = v16_max(v0, top0);
            top1 = v16_max(v1, top1);
            v16_store(strip + j, v0);
            v16_store(strip + j + 16, v1);
        }
        if (j < span.to) {
            const v16 v0 = v16_mul(v16_load(strip + j), scale), v1 = v16_mul(v16_load(strip + j + 16), scale);
            const v16 w0 = attention_within(v0, begin - j, end - j, nothing);
            const v16 w1 = attention_within(v1, begin - j - 16, end - j - 16, nothing);
            top0 = v16_max(w0, top0);
            top1 = v16_max(w1, top1);
            v16_store(strip + j, w0);
            v16_store(strip + j + 16, w1);
            j += 32;
        }
    }
    return v16_largest(v16_max(top0, top1));
}

/* Marks what row r does not see of what its tile sees. */
V16_FN void attention_mark(const struct tern_attention_f32 *a, const struct attention_state *s,
                           const struct attention_tile *t, size_t r)
{
    const int64_t begin = s->begin[r], end = s->end[r];
    const float *mask = t->hides && a->mask ? a->mask[r] : NULL;
    const v16 unseen = v16_set1(ATTN_UNSEEN);
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK - s->block;

    for (int64_t j = t->begin / 16 * 16; j < t->end; j += 16) {
        if (j >= begin && j + 16 <= end && !mask) {
            j = end / 16 * 16 - 16;
            continue;
        }
        v16 v = attention_within(v16_load(strip + j), begin - j, end - j, unseen);
        if (mask)
            v = v16_select(v16_less(attention_load(mask + j, begin - j, end - j, 0), v16_set1(-FLT_MAX)), unseen, v);
        v16_store(strip + j, v);
    }
}

/* Row r's scores become exponentials of their difference to `base`; its sum goes on, in 32 lanes. */
V16_FN void attention_exponentials(const struct tern_attention_f32 *a, const struct attention_state *s,
                                   const struct attention_tile *t, size_t r, float base)
{
    const struct attention_span span = attention_span(s, r);
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK - s->block, *sum = s->sum + r * 32;
    const v16 less = v16_set1(base);
    v16 sum0 = v16_load(sum), sum1 = v16_load(sum + 16);

    for (int64_t j = span.from; j < span.to; j += 32) {
        const v16 e0 = v16_exp(v16_sub(v16_load(strip + j), less));
        const v16 e1 = v16_exp(v16_sub(v16_load(strip + j + 16), less));
        sum0 = v16_add(sum0, e0);
        sum1 = v16_add(sum1, e1);
        v16_store(strip + j, attention_weight(a, e0));
        v16_store(strip + j + 16, attention_weight(a, e1));
    }
    v16_store(sum, sum0);
    v16_store(sum + 16, sum1);
}

/* c[m][32] goes on over `steps` positions of a panel of V, each row over those that it sees. */
V16_FN void attention_seen(const int m, float *c, size_t ldc, const float *a, size_t lda, const float *panel,
                           size_t steps)
{
#define ATTN_BEGIN(i) \
    v16 r##i##_lo = v16_load(c + (i < m ? i : 0) * ldc), r##i##_hi = v16_load(c + (i < m ? i : 0) * ldc + 16);
#define ATTN_STEP(i)                                                          \
    if (i < m) {                                                              \
        const v16 x = v16_set1(a[i * lda]);                                   \
        const m16 unseen = v16_less(x, v16_set1(0));                          \
        r##i##_lo = v16_select(unseen, r##i##_lo, v16_fma(x, lo, r##i##_lo)); \
        r##i##_hi = v16_select(unseen, r##i##_hi, v16_fma(x, hi, r##i##_hi)); \
    }
#define ATTN_END(i)                             \
    if (i < m) {                                \
        v16_store(c + i * ldc, r##i##_lo);      \
        v16_store(c + i * ldc + 16, r##i##_hi); \
    }
    ATTN_ROWS(ATTN_BEGIN)
    for (size_t step = 0; step < steps; step++, a++, panel += TERN_PANEL) {
        const v16 lo = v16_load(panel), hi = v16_load(panel + 16);
        ATTN_ROWS(ATTN_STEP)
    }
    ATTN_ROWS(ATTN_END)
#undef ATTN_BEGIN
#undef ATTN_STEP
#undef ATTN_END
}

V16_FN void attention_seen_rows(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t steps,
                                size_t m)
{
#if V16_GEMM_ROWS == 14
#define ATTN_CASE(i)                                         \
    case i + 1:                                              \
        attention_seen(i + 1, c, ldc, a, lda, panel, steps); \
        break;
    switch (m) {
        ATTN_ROWS(ATTN_CASE)
    }
#undef ATTN_CASE
#else
    for (size_t i = 0; i < m; i++)
        attention_seen(1, c + i * ldc, ldc, a + i * lda, lda, panel, steps);
#endif
}

/* out += exponentials times values for the tile, positions [begin, end).   all: every row sees every one of them. */
V16_FN void attention_values(const struct tern_attention_f32 *a, const struct attention_state *s,
                             const struct attention_tile *t, int64_t begin, int64_t end, bool all)
{
    while (begin < end) {
        const int64_t block = begin / TERN_KV_BLOCK,
                      stop = (block + 1) * TERN_KV_BLOCK < end ? (block + 1) * TERN_KV_BLOCK : end;
        const size_t n = (size_t)(stop - begin);
        const float *strip = s->strip + (begin - s->block);

        for (size_t c = 0; c < s->width; c += TERN_PANEL) {
            const float *panel = a->v_blocks[block] + c * TERN_KV_BLOCK + (size_t)(begin % TERN_KV_BLOCK) * TERN_PANEL;
            const float *next = c + TERN_PANEL < s->width ? a->v_blocks[block] + (c + TERN_PANEL) * TERN_KV_BLOCK
                                : stop < end              ? a->v_blocks[block + 1]
                                                          : NULL;
            float *out = s->out + t->row * s->width + c;

            if (all)
                TERN_K(gemm_f32)
            (out, s->width, strip, TERN_ATTN_BLOCK, panel, n, t->m, true, next, n * TERN_PANEL * sizeof *panel);
            else attention_seen_rows(out, s->width, strip, TERN_ATTN_BLOCK, panel, n, t->m);
        }
        begin = stop;
    }
}

/* One softmax block for neighbouring rows, all of which see a part of it. */
V16_FN void attention_block(const struct tern_attention_f32 *a, struct attention_state *s, size_t row, size_t m)
{
    struct attention_tile t = { .row = row, .m = m, .begin = INT64_MAX, .all_end = INT64_MAX };

    for (size_t r = row; r < row + m; r++) {
        t.begin = s->begin[r] < t.begin ? s->begin[r] : t.begin;
        t.end = s->end[r] > t.end ? s->end[r] : t.end;
        t.all_begin = s->begin[r] > t.all_begin ? s->begin[r] : t.all_begin;
        t.all_end = s->end[r] < t.all_end ? s->end[r] : t.all_end;
    }
    attention_scores(a, s, &t);
    float base[TERN_ATTN_ROWS];
    for (size_t r = row; r < row + m; r++)
        base[r - row] = attention_maximum(s, r, attention_largest(a, s, &t, r));
    for (size_t r = row; r < row + m; r++)
        attention_exponentials(a, s, &t, r, base[r - row]);
    if (t.hides || t.all_begin > t.begin || t.all_end < t.end)
        for (size_t r = row; r < row + m; r++)
            attention_mark(a, s, &t, r);
    if (t.hides || t.all_begin >= t.all_end) {
        attention_values(a, s, &t, t.begin, t.end, false);
        return;
    }
    attention_values(a, s, &t, t.begin, t.all_begin, false);
    attention_values(a, s, &t, t.all_begin, t.all_end, true);
    attention_values(a, s, &t, t.all_end, t.end, false);
}

static void TERN_K(attention_f32)(const struct tern_attention_f32 *a)
{
    struct attention_state s = { 0 };
    int64_t first = INT64_MAX, last = 0;

    s.width = (a->v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;
    s.strip = a->scratch;
    s.out = s.strip + TERN_ATTN_ROWS * TERN_ATTN_BLOCK;
    s.sum = s.out + TERN_ATTN_ROWS * s.width;
    memset(s.out, 0, a->n_rows * s.width * sizeof *s.out);
    memset(s.sum, 0, a->n_rows * 32 * sizeof *s.sum);
    for (size_t r = 0; r < a->n_rows; r++) {
        s.top[r] = -INFINITY;
        if (a->first[r] < a->last[r]) {
            first = a->first[r] < first ? a->first[r] : first;
            last = a->last[r] > last ? a->last[r] : last;
        }
    }

    for (s.block = first / TERN_ATTN_BLOCK * TERN_ATTN_BLOCK; s.block < last; s.block += TERN_ATTN_BLOCK) {
        const int64_t stop = s.block + TERN_ATTN_BLOCK;

        for (size_t r = 0; r < a->n_rows; r++) {
            s.begin[r] = a->first[r] > s.block ? a->first[r] : s.block;
            s.end[r] = a->last[r] < stop ? a->last[r] : stop;
        }
        for (size_t r = 0, m; r < a->n_rows; r += m) { /* runs of neighbours that see a part of the block */
            for (m = 0; r + m < a->n_rows && s.begin[r + m] < s.end[r + m]; m++)
                ;
            if (m)
                attention_block(a, &s, r, m);
            else
                m = 1;
        }
    }

    for (size_t r = 0; r < a->n_rows; r++) {
        const float total = v16_sum32(v16_load(s.sum + r * 32), v16_load(s.sum + r * 32 + 16));
        const v16 divisor = v16_set1(total);

        for (size_t c = 0; c < a->v_dim; c += 16) {
            const v16 v = total == 0 ? v16_set1(0) : v16_div(v16_load(s.out + r * s.width + c), divisor);
            v16_store_n(a->out + r * a->out_stride + c, v, a->v_dim - c);
        }
    }
}
