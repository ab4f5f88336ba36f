/* attention.tmpl.c: attention over stored keys and values.  Built once per level; contracts in kernels.h.
 *
 * Softmax blocks of TERN_ATTN_BLOCK positions, cut at absolute positions.  For each block, eight rows after the other:
 *
 *   strip[8][512]   scores: queries [rows][E] times K panels [E][32]
 *   per row         scale, softcap, slope, mask; maximum; if it grew, rescale sum and output; exponentials, in place, and
 *                   their sum in 32 lanes keyed by position mod 32
 *   out[8][E']      += strip times V panels [positions][32], whose sums stay in registers over all storage blocks
 *
 * so that the keys and values of a block are read from memory once for all rows of a call, and then from the second-level cache.
 *
 * What keeps a row's bits its own: a score or output element is one chain of its own; lanes of positions that the row
 * does not see hold -inf before and add +0 after the exponential; and the chain over V takes exactly the positions that the
 * row sees: where rows of a tile do not see the same, what a row does not see is marked in the strip and leaves its sums alone. */
#include "kernels/vec_math.h"

#include "kernels/gemm_tile.h"

#include <float.h>

#define ATTN_HALF_BLOCK (TERN_KV_BLOCK / TERN_PANEL) /* K panels of a storage block */

/* Rows that are done together. */
#define ATTN_TILE 8

/* Elements of a step of a panel, and bytes of the steps that hold k of them. */
#define ATTN_PER(form)      ((form) == V16_BF16 || (form) == V16_BF16_DOT ? 2 : 1)
#define ATTN_STEPS(form, k) (((size_t)(k) + ATTN_PER(form) - 1) / ATTN_PER(form))
#define ATTN_BYTES(form, k) (ATTN_STEPS(form, k) * GEMM_BYTES(form))

#if V16_GEMM_ROWS == 14
#define ATTN_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define ATTN_ROWS(X) X(0)
#endif

/* The state of a call; out, sum and top are what it leaves to the next one. */
struct attention_state {
    const float *q; /* rows q_stride apart; two bf16 to a word for products of pairs */
    size_t q_stride;
    float *strip;  /* [8][TERN_ATTN_BLOCK] scores, then exponentials, of positions block .. block + TERN_ATTN_BLOCK */
    float *out;    /* [n_rows][width] sums of exponential times value */
    float *sum;    /* [n_rows][32] sums of exponentials */
    float *top;    /* [n_rows] maximum so far */
    size_t width;  /* E' rounded up to panels */
    int64_t block; /* first position of the softmax block */
    int64_t begin[TERN_ATTN_ROWS], end[TERN_ATTN_ROWS]; /* what a row sees of the block; begin == end: nothing */
};

/* Rows of the block that are done together, what they see, and how much of that all of them see. */
struct attention_tile {
    size_t row, m;
    int64_t begin, end;         /* the positions that any row sees */
    int64_t all_begin, all_end; /* the positions that all rows see */
    bool hides;                 /* whether a mask hides any of them from any row */
    const char *next;           /* what is read after the tile; a hint */
};

/* What stands in the strip for a position that a row does not see: no exponential is below 0.  Pairs of bf16 have the sign alone,
 * which no exponential has either. */
#define ATTN_UNSEEN(form) ((form) == V16_BF16_DOT ? -0.0f : -1.0f)

/* Exponentials i .. i + 15 of a strip, as f32 or, for products of pairs, as bf16 in the first half of a row. */
V16_FN v16 attention_strip(const enum v16_panel form, const float *strip, int64_t i)
{
    return form == V16_BF16_DOT ? v16_load_bf16((const uint16_t *)strip + i) : v16_load(strip + i);
}

V16_FN void attention_strip_set(const enum v16_panel form, float *strip, int64_t i, v16 v)
{
    if (form == V16_BF16_DOT)
        v16_store_bf16((uint16_t *)strip + i, v);
    else
        v16_store(strip + i, v);
}

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
V16_FN const char *attention_keys(const enum v16_panel form, const struct tern_attention_rows *a, int64_t p)
{
    return (const char *)a->k_blocks[p / ATTN_HALF_BLOCK - a->origin / TERN_KV_BLOCK] +
           (size_t)(p % ATTN_HALF_BLOCK) * ATTN_BYTES(form, a->k_width);
}

/* Position p, the first of a step, in panel c / 32 of V. */
V16_FN const char *attention_panel(const enum v16_panel form, const struct tern_attention_rows *a, int64_t p, size_t c)
{
    return (const char *)a->v_blocks[(p - a->origin) / TERN_KV_BLOCK] +
           c / TERN_PANEL * ATTN_BYTES(form, TERN_KV_BLOCK) + ATTN_BYTES(form, p % TERN_KV_BLOCK);
}

/* The end of p's storage block, `end` where that comes first. */
V16_FN int64_t attention_stop(int64_t p, int64_t end)
{
    const int64_t stop = (p / TERN_KV_BLOCK + 1) * TERN_KV_BLOCK;

    return stop < end ? stop : end;
}

#if V16_GEMM_ROWS == 14
/* Sums of a tile of m rows and 32 columns, or 64 of two panels: names, as gcc keeps an array in memory. */
#define ATTN_BEGIN(i) \
    v16 r##i##_a = v16_set1(0), r##i##_b = v16_set1(0), r##i##_c = v16_set1(0), r##i##_d = v16_set1(0);
#define ATTN_LOAD(i)                               \
    if (i < m) {                                   \
        r##i##_a = v16_load(c + i * ldc);          \
        r##i##_b = v16_load(c + i * ldc + 16);     \
        if (two) {                                 \
            r##i##_c = v16_load(c + i * ldc + 32); \
            r##i##_d = v16_load(c + i * ldc + 48); \
        }                                          \
    }
#define ATTN_STORE(i)                              \
    if (i < m) {                                   \
        v16_store(c + i * ldc, r##i##_a);          \
        v16_store(c + i * ldc + 16, r##i##_b);     \
        if (two) {                                 \
            v16_store(c + i * ldc + 32, r##i##_c); \
            v16_store(c + i * ldc + 48, r##i##_d); \
        }                                          \
    }
#define ATTN_STEP(i)                                                                           \
    if (i < m) {                                                                               \
        const v16 x = gemm_broadcast(form, (i < 3 ? a0 : i < 6 ? a3 : a6) + i % 3 * lda + at); \
        r##i##_a = gemm_multiply_add(form, x, w0, r##i##_a);                                   \
        r##i##_b = gemm_multiply_add(form, x, w1, r##i##_b);                                   \
        if (two) {                                                                             \
            r##i##_c = gemm_multiply_add(form, x, w2, r##i##_c);                               \
            r##i##_d = gemm_multiply_add(form, x, w3, r##i##_d);                               \
        }                                                                                      \
    }
#define ATTN_ELEMENT(e)                                                                                            \
    {                                                                                                              \
        const v16 w0 = v16_weights(form, panel, 0, e), w1 = v16_weights(form, panel, 16, e);                       \
        const v16 w2 = two ? v16_weights(form, other, 0, e) : w0, w3 = two ? v16_weights(form, other, 16, e) : w1; \
        const int at = e;                                                                                          \
        ATTN_ROWS(ATTN_STEP)                                                                                       \
    }
/* `steps` steps of a panel, and of the `other` one where there are two; `next` is prefetched meanwhile, as many bytes. */
#define ATTN_LOOP(steps)                                                  \
    for (size_t step = 0; step < (steps); step++) {                       \
        GEMM_PREFETCH(next);                                              \
        if (GEMM_BYTES(form) > 64 || two)                                 \
            GEMM_PREFETCH(next + 64);                                     \
        if (GEMM_BYTES(form) > 64 && two) {                               \
            GEMM_PREFETCH(next + 128);                                    \
            GEMM_PREFETCH(next + 192);                                    \
        }                                                                 \
        next += GEMM_BYTES(form) * (two ? 2 : 1);                         \
        ATTN_ELEMENT(0)                                                   \
        if (form == V16_BF16)                                             \
            ATTN_ELEMENT(1)                                               \
        panel += GEMM_BYTES(form), other += GEMM_BYTES(form);             \
        a0 += GEMM_PER(form), a3 += GEMM_PER(form), a6 += GEMM_PER(form); \
    }

V16_FN void attention_scores_of(const enum v16_panel form, const int m, const struct tern_attention_rows *a,
                                const struct attention_state *s, const struct attention_tile *t)
{
    const size_t steps = ATTN_STEPS(form, a->head_dim), lda = s->q_stride, ldc = TERN_ATTN_BLOCK;
    const bool two = false;

    for (int64_t p = t->begin / TERN_PANEL; p * TERN_PANEL < t->end; p++) {
        const char *panel = attention_keys(form, a, p), *other = panel;
        const char *next = (p + 1) * TERN_PANEL < t->end ? attention_keys(form, a, p + 1)
                                                         : attention_panel(form, a, t->begin / 2 * 2, 0);
        const float *a0 = s->q + t->row * lda, *a3 = a0 + 3 * lda, *a6 = a3 + 3 * lda;
        float *c = s->strip + (p * TERN_PANEL - s->block);

        ATTN_ROWS(ATTN_BEGIN)
        ATTN_LOOP(steps)
        ATTN_ROWS(ATTN_STORE)
    }
}

V16_FN void attention_values_of(const enum v16_panel form, const int m, const bool two,
                                const struct tern_attention_rows *a, const struct attention_state *s,
                                const struct attention_tile *t, int64_t begin, int64_t end, size_t column)
{
    const size_t ldc = s->width, lda = TERN_ATTN_BLOCK;
    const float *a0 = s->strip + (begin - s->block) / (form == V16_BF16_DOT ? 2 : 1);
    const float *a3 = a0 + 3 * lda, *a6 = a3 + 3 * lda;
    const size_t after = column + (two ? 2 : 1) * TERN_PANEL;
    float *c = s->out + t->row * ldc + column;

    ATTN_ROWS(ATTN_BEGIN)
    ATTN_ROWS(ATTN_LOAD)
    for (int64_t p = begin, stop; p < end; p = stop) {
        const char *panel = attention_panel(form, a, p, column), *other = panel + ATTN_BYTES(form, TERN_KV_BLOCK);

        stop = attention_stop(p, end);
        const char *next = stop < end         ? attention_panel(form, a, stop, column)
                           : after < s->width ? attention_panel(form, a, begin, after)
                                              : t->next;
        ATTN_LOOP((size_t)(stop - p) / ATTN_PER(form))
    }
    ATTN_ROWS(ATTN_STORE)
}
#undef ATTN_BEGIN
#undef ATTN_LOAD
#undef ATTN_STORE
#undef ATTN_STEP
#undef ATTN_ELEMENT
#undef ATTN_LOOP

/* Scores of the tile for the K panels that hold what it sees. */
V16_FN void attention_scores(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t)
{
#define ATTN_CASE(i)                               \
    case i + 1:                                    \
        attention_scores_of(form, i + 1, a, s, t); \
        break;
    switch (t->m) {
        ATTN_ROWS(ATTN_CASE)
    }
#undef ATTN_CASE
}

/* out += exponentials times values for the tile, positions [begin, end), whole steps, of which every row sees every one. */
V16_FN void attention_values(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t, int64_t begin,
                             int64_t end)
{
    size_t c = 0;

    if (begin >= end)
        return;
#define ATTN_CASE(i)                                                         \
    case i + 1:                                                              \
        for (; i < 4 && c + 2 * TERN_PANEL <= s->width; c += 2 * TERN_PANEL) \
            attention_values_of(form, i + 1, true, a, s, t, begin, end, c);  \
        for (; c < s->width; c += TERN_PANEL)                                \
            attention_values_of(form, i + 1, false, a, s, t, begin, end, c); \
        break;
    switch (t->m) {
        ATTN_ROWS(ATTN_CASE)
    }
#undef ATTN_CASE
}
#else
/* c[m][32] (+)= a[m][k] times a panel, by the product of the form. */
V16_FN void attention_product(const enum v16_panel form, float *c, size_t ldc, const float *a, size_t lda,
                              const char *panel, size_t k, size_t m, bool accumulate, const char *next)
{
    const size_t bytes = ATTN_BYTES(form, k);

    if (form == V16_F16)
        TERN_K(gemm_f32_f16)(c, ldc, a, lda, (const uint16_t *)panel, k, m, accumulate, next, bytes);
    else if (form == V16_BF16)
        TERN_K(gemm_f32_bf16)(c, ldc, a, lda, (const uint16_t *)panel, k, m, accumulate, next, bytes);
    else
        TERN_K(gemm_f32)(c, ldc, a, lda, (const float *)panel, k, m, accumulate, next, bytes);
}

V16_FN void attention_scores(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t)
{
    for (int64_t p = t->begin / TERN_PANEL; p * TERN_PANEL < t->end; p++)
        attention_product(form, s->strip + (p * TERN_PANEL - s->block), TERN_ATTN_BLOCK, s->q + t->row * s->q_stride,
                          s->q_stride, attention_keys(form, a, p), a->head_dim, t->m, false,
                          (p + 1) * TERN_PANEL < t->end ? attention_keys(form, a, p + 1) : NULL);
}

V16_FN void attention_values(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t, int64_t begin,
                             int64_t end)
{
    for (int64_t stop; begin < end; begin = stop) {
        stop = attention_stop(begin, end);
        for (size_t c = 0; c < s->width; c += TERN_PANEL)
            attention_product(form, s->out + t->row * s->width + c, s->width, s->strip + (begin - s->block),
                              TERN_ATTN_BLOCK, attention_panel(form, a, begin, c), (size_t)(stop - begin), t->m, true,
                              c + TERN_PANEL < s->width ? attention_panel(form, a, begin, c + TERN_PANEL)
                              : stop < end              ? attention_panel(form, a, stop, 0)
                                                        : NULL);
    }
}
#endif

/* To bf16 and back. */
V16_FN v16 attention_round(v16 v)
{
    uint16_t half[16];

    v16_store_bf16(half, v);
    return v16_load_bf16(half);
}

/* Scores j .. j + 15 of row r, whose products stand at p, -inf where it does not see; *least is the smallest mask so far. */
V16_FN v16 attention_score(const struct tern_attention_rows *a, const struct attention_state *s, size_t r, int64_t j,
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

/* exp(v - base), v - base being at most 0: 2^(n + r), n whole and |r| <= 1/2.  Its argument in units of ln 2 is clamped to where the result
 * is 0 anyway (max hands a NaN through as its second operand).  Errors: 0.9 ulp and, in `brief` for what is rounded to bf16, 3.6e-6 of
 * the polynomial, and the rounding of the argument. */
V16_FN v16 attention_exp(v16 v, float base, const bool brief)
{
    const v16 x = v16_max(v16_set1(-151), v16_mul(v16_sub(v, v16_set1(base)), v16_set1(1.44269504f)));
    const v16 n = v16_rint(x), r = v16_sub(x, n);
    v16 p;

    if (brief) {
        p = v16_fma1(v16_set1(0.00978291221f), r, 0.0559768826f);
        p = v16_fma1(p, r, 0.240207106f);
        p = v16_fma1(p, r, 0.693113625f);
    } else {
        p = v16_fma1(v16_set1(0.000155946764f), r, 0.00134066434f);
        p = v16_fma1(p, r, 0.00961769279f);
        p = v16_fma1(p, r, 0.0555031039f);
        p = v16_fma1(p, r, 0.240226522f);
        p = v16_fma1(p, r, 0.693147242f);
    }
    return v16_scale(v16_fma1(p, r, 1), n);
}

/* Takes row r's maximum on; rescales what it has so far where it grew.  Gives what is subtracted from its scores. */
V16_FN float attention_maximum(struct attention_state *s, size_t r, float largest)
{
    const float before = s->top[r];
    const bool grew = largest > before;
    const float now = grew ? largest : before;
    float *sum = s->sum + r * 32, *out = s->out + r * s->width;

    if (grew && before != -INFINITY) {
        const v16 factor = attention_exp(v16_set1(before), now, false);
        for (size_t i = 0; i < 32; i += 16)
            v16_store(sum + i, v16_mul(v16_load(sum + i), factor));
        for (size_t i = 0; i < s->width; i += 16)
            v16_store(out + i, v16_mul(v16_load(out + i), factor));
    }
    s->top[r] = now;
    return now == -INFINITY ? 0 : now;
}

/* Exponentials i .. i + 31 into a strip, rounded to bf16 where `round`.  Pairs are rounded by an instruction that takes denormals for 0, as
 * the product does. */
V16_FN void attention_weights(const enum v16_panel form, float *strip, int64_t i, v16 e0, v16 e1, const bool round)
{
#ifdef TERN_VEC_BF16
    if (form == V16_BF16_DOT) {
        v16_store_bf16_pair((uint16_t *)strip + i, e0, e1);
        return;
    }
#endif
    (void)form;
    v16_store(strip + i, round ? attention_round(e0) : e0);
    v16_store(strip + i + 16, round ? attention_round(e1) : e1);
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

/* Whether scores of row r are products times a scale above 0 and nothing else. */
V16_FN bool attention_plain(const struct tern_attention_rows *a, size_t r)
{
    return a->scale > 0 && !(a->softcap > 0) && !a->slope && !(a->mask && a->mask[r]);
}

/* Row r's products of q and K become -inf where it does not see, and scores where these are not plain; gives the largest score. */
V16_FN float attention_largest(const struct tern_attention_rows *a, const struct attention_state *s,
                               struct attention_tile *t, size_t r)
{
    const struct attention_span span = attention_span(s, r);
    const int64_t begin = s->begin[r], end = s->end[r];
    const v16 nothing = v16_set1(-INFINITY);
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK - s->block;
    v16 top0 = nothing, top1 = nothing, least = v16_set1(0);

    if (!attention_plain(a, r)) {
        for (int64_t j = span.from; j < span.to; j += 16) {
            const v16 v = attention_score(a, s, r, j, strip + j, &least);
            top0 = v16_max(v, top0);
            v16_store(strip + j, v);
        }
        t->hides |= a->mask && v16_largest(v16_sub(v16_set1(0), least)) == INFINITY;
        return v16_largest(top0);
    }
    for (int64_t j = span.from; j < span.to; j += 32) {
        if (j < span.whole || j >= span.whole_end) {
            v16_store(strip + j, attention_within(v16_load(strip + j), begin - j, end - j, nothing));
            v16_store(strip + j + 16,
                      attention_within(v16_load(strip + j + 16), begin - j - 16, end - j - 16, nothing));
        }
        top0 = v16_max(v16_load(strip + j), top0);
        top1 = v16_max(v16_load(strip + j + 16), top1);
    }
    const float largest = v16_largest(v16_max(top0, top1));
    return largest == -INFINITY ? largest : largest * a->scale;
}

/* Marks what row r does not see of what its tile sees. */
V16_FN void attention_mark(const enum v16_panel form, const struct tern_attention_rows *a,
                           const struct attention_state *s, const struct attention_tile *t, size_t r)
{
    const int64_t begin = s->begin[r], end = s->end[r];
    const float *mask = t->hides && a->mask ? a->mask[r] : NULL;
    const v16 unseen = v16_set1(ATTN_UNSEEN(form));
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK;

    for (int64_t j = t->begin / 16 * 16; j < t->end; j += 16) {
        if (j >= begin && j + 16 <= end && !mask) {
            j = end / 16 * 16 - 16;
            continue;
        }
        v16 v = attention_within(attention_strip(form, strip, j - s->block), begin - j, end - j, unseen);
        if (mask)
            v = v16_select(v16_less(attention_load(mask + j, begin - j, end - j, 0), v16_set1(-FLT_MAX)), unseen, v);
        attention_strip_set(form, strip, j - s->block, v);
    }
}

/* Row r's scores become exponentials of their difference to `base`; its sum goes on, in 32 lanes. */
V16_FN void attention_exponentials(const enum v16_panel form, const struct tern_attention_rows *a,
                                   const struct attention_state *s, const struct attention_tile *t, size_t r,
                                   float base)
{
    const struct attention_span span = attention_span(s, r);
    const bool brief = form == V16_BF16 || form == V16_BF16_DOT || a->round_bf16;
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK, *sum = s->sum + r * 32;
    const v16 scale = v16_set1(attention_plain(a, r) ? a->scale : 1);
    v16 sum0 = v16_load(sum), sum1 = v16_load(sum + 16);

#define ATTN_EXPONENTIALS(brief)                                                             \
    for (int64_t j = span.from; j < span.to; j += 32) {                                      \
        const int64_t i = j - s->block;                                                      \
        const v16 e0 = attention_exp(v16_mul(v16_load(strip + i), scale), base, brief);      \
        const v16 e1 = attention_exp(v16_mul(v16_load(strip + i + 16), scale), base, brief); \
        sum0 = v16_add(sum0, e0);                                                            \
        sum1 = v16_add(sum1, e1);                                                            \
        attention_weights(form, strip, i, e0, e1, brief);                                    \
    }
    if (brief)
        ATTN_EXPONENTIALS(true)
    else
        ATTN_EXPONENTIALS(false)
#undef ATTN_EXPONENTIALS
    v16_store(sum, sum0);
    v16_store(sum + 16, sum1);
}

/* Where a row sees one of a pair only, the other's value is taken for 0; where it sees neither, its sum stays as it is. */
V16_FN v16 attention_seen_pair(float word, v16 w, v16 sum)
{
#ifdef TERN_VEC_BF16
    return v16_dot_bf16_seen(v16_set1(word), w, sum);
#else
    (void)word, (void)w;
    return sum;
#endif
}

/* c[m][32] goes on over `steps` steps of a panel of V, each row over the positions that it sees. */
V16_FN void attention_seen(const enum v16_panel form, const int m, float *c, size_t ldc, const float *a, size_t lda,
                           const char *panel, size_t steps)
{
#define ATTN_BEGIN(i) \
    v16 r##i##_lo = v16_load(c + (i < m ? i : 0) * ldc), r##i##_hi = v16_load(c + (i < m ? i : 0) * ldc + 16);
#define ATTN_STEP(i)                                                          \
    if (i < m && form == V16_BF16_DOT) {                                      \
        r##i##_lo = attention_seen_pair(a[i * lda], lo, r##i##_lo);           \
        r##i##_hi = attention_seen_pair(a[i * lda], hi, r##i##_hi);           \
    } else if (i < m) {                                                       \
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
#define ATTN_ELEMENT(s)                                                                      \
    {                                                                                        \
        const v16 lo = v16_weights(form, panel, 0, s), hi = v16_weights(form, panel, 16, s); \
        ATTN_ROWS(ATTN_STEP)                                                                 \
        a++;                                                                                 \
    }
    ATTN_ROWS(ATTN_BEGIN)
    for (size_t step = 0; step < steps; step++, panel += GEMM_BYTES(form)) {
        ATTN_ELEMENT(0)
        if (form == V16_BF16)
            ATTN_ELEMENT(1)
    }
    ATTN_ROWS(ATTN_END)
#undef ATTN_BEGIN
#undef ATTN_STEP
#undef ATTN_END
#undef ATTN_ELEMENT
}

V16_FN void attention_seen_rows(const enum v16_panel form, float *c, size_t ldc, const float *a, size_t lda,
                                const char *panel, size_t steps, size_t m)
{
#if V16_GEMM_ROWS == 14
#define ATTN_CASE(i)                                               \
    case i + 1:                                                    \
        attention_seen(form, i + 1, c, ldc, a, lda, panel, steps); \
        break;
    switch (m) {
        ATTN_ROWS(ATTN_CASE)
    }
#undef ATTN_CASE
#else
    for (size_t i = 0; i < m; i++)
        attention_seen(form, 1, c + i * ldc, ldc, a + i * lda, lda, panel, steps);
#endif
}

/* out += exponentials times values for the tile, positions [begin, end), whole steps, each row over those that it sees. */
V16_FN void attention_values_seen(const enum v16_panel form, const struct tern_attention_rows *a,
                                  const struct attention_state *s, const struct attention_tile *t, int64_t begin,
                                  int64_t end)
{
    for (int64_t stop; begin < end; begin = stop) {
        stop = attention_stop(begin, end);
        for (size_t c = 0; c < s->width; c += TERN_PANEL)
            attention_seen_rows(form, s->out + t->row * s->width + c, s->width,
                                s->strip + (begin - s->block) / (form == V16_BF16_DOT ? 2 : 1), TERN_ATTN_BLOCK,
                                attention_panel(form, a, begin, c), (size_t)(stop - begin) / ATTN_PER(form), t->m);
    }
}

/* One softmax block for neighbouring rows, all of which see a part of it. */
V16_FN void attention_block(const enum v16_panel form, const struct tern_attention_rows *a, struct attention_state *s,
                            size_t row, size_t m, const char *next)
{
    const int64_t per = ATTN_PER(form);
    struct attention_tile t = { .row = row, .m = m, .begin = INT64_MAX, .all_end = INT64_MAX, .next = next };

    for (size_t r = row; r < row + m; r++) {
        t.begin = s->begin[r] < t.begin ? s->begin[r] : t.begin;
        t.end = s->end[r] > t.end ? s->end[r] : t.end;
        t.all_begin = s->begin[r] > t.all_begin ? s->begin[r] : t.all_begin;
        t.all_end = s->end[r] < t.all_end ? s->end[r] : t.all_end;
    }
    attention_scores(form, a, s, &t);
    float base[ATTN_TILE];
    for (size_t r = row; r < row + m; r++)
        base[r - row] = attention_maximum(s, r, attention_largest(a, s, &t, r));
    for (size_t r = row; r < row + m; r++)
        attention_exponentials(form, a, s, &t, r, base[r - row]);
    /* Whole steps: a pair of which no row sees one position is not for the tile of all. */
    const int64_t begin = t.begin / per * per, end = (t.end + per - 1) / per * per;
    const int64_t all_begin = (t.all_begin + per - 1) / per * per, all_end = t.all_end / per * per;

    if (t.hides || all_begin > begin || all_end < end)
        for (size_t r = row; r < row + m; r++)
            attention_mark(form, a, s, &t, r);
    if (t.hides || all_begin >= all_end) {
        attention_values_seen(form, a, s, &t, begin, end);
        return;
    }
    attention_values_seen(form, a, s, &t, begin, all_begin);
    attention_values(form, a, s, &t, all_begin, all_end);
    attention_values_seen(form, a, s, &t, all_end, end);
}

/* Elements c .. of row r of q. */
V16_FN v16 attention_query_load(const enum v16_panel form, const struct tern_attention_rows *a, size_t r, size_t c)
{
    const size_t at = r * a->q_stride + c, n = a->head_dim - c;

    if (form == V16_F32 || !a->half)
        return v16_load_n((const float *)a->q + at, n);
    return form == V16_F16 ? v16_load_f16_n((const uint16_t *)a->q + at, n)
                           : v16_load_bf16_n((const uint16_t *)a->q + at, n);
}

/* Rows [r, end) of q, side by side: rounded to bf16 for products with bf16, as pairs where they take them. */
V16_FN void attention_queries(const enum v16_panel form, const struct tern_attention_rows *a,
                              const struct attention_state *s, float *q, size_t r, size_t end)
{
    for (; r < end; r++) {
        float *to = q + r * s->q_stride;

        for (size_t c = 0; c < a->head_dim; c += 16) {
            const v16 v = attention_query_load(form, a, r, c);
            if (form == V16_BF16_DOT)
                v16_store_bf16((uint16_t *)to + c, v);
            else
                v16_store(to + c, form == V16_BF16 ? attention_round(v) : v);
        }
    }
}

V16_FN void attention_results(const enum v16_panel form, const struct tern_attention_rows *a,
                              const struct attention_state *s, size_t r, size_t end)
{
    for (; r < end; r++) {
        const float total = v16_sum32(v16_load(s->sum + r * 32), v16_load(s->sum + r * 32 + 16));
        const v16 divisor = v16_set1(total);

        for (size_t c = 0; c < a->v_dim; c += 16) {
            const v16 v = total == 0 ? v16_set1(0) : v16_div(v16_load(s->out + r * s->width + c), divisor);
            const size_t at = r * a->out_stride + c, n = a->v_dim - c;
            if (form == V16_F32 || !a->half)
                v16_store_n((float *)a->out + at, v, n);
            else if (form == V16_F16)
                v16_store_f16_n((uint16_t *)a->out + at, v, n);
            else
                v16_store_bf16_n((uint16_t *)a->out + at, v, n);
        }
    }
}

/* Rows [r, end) of q and of out come into the first-level cache while others are computed. */
V16_FN void attention_rows_ahead(const struct tern_attention_rows *a, size_t r, size_t end)
{
    const size_t size = a->half ? 2 : 4;

    for (; r < end; r++) {
        for (size_t b = 0; b < a->head_dim * size; b += 64)
            __builtin_prefetch((const char *)a->q + r * a->q_stride * size + b, 0, 3);
        for (size_t b = 0; b < a->v_dim * size; b += 64)
            __builtin_prefetch((char *)a->out + r * a->out_stride * size + b, 1, 3);
    }
}

V16_FN size_t attention_least(size_t x, size_t y)
{
    return x < y ? x : y;
}

V16_FN void attention_rows(const enum v16_panel form, const struct tern_attention_rows *a)
{
    float *const q = a->scratch + ATTN_TILE * TERN_ATTN_BLOCK;
    struct attention_state s = { .q = q, .q_stride = (a->head_dim + 15) / 16 * 16, .strip = a->scratch };
    int64_t first = INT64_MAX, last = 0;

    s.width = (a->v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;
    s.sum = a->state;
    s.top = s.sum + a->n_rows * 32;
    s.out = s.top + (a->n_rows + 15) / 16 * 16;
    if (!a->resume) {
        memset(s.out, 0, a->n_rows * s.width * sizeof *s.out);
        memset(s.sum, 0, a->n_rows * 32 * sizeof *s.sum);
        for (size_t r = 0; r < a->n_rows; r++)
            s.top[r] = -INFINITY;
    }
    for (size_t r = 0; r < a->n_rows; r++)
        if (a->first[r] < a->last[r]) {
            first = a->first[r] < first ? a->first[r] : first;
            last = a->last[r] > last ? a->last[r] : last;
        }

    const int64_t from = first / TERN_ATTN_BLOCK * TERN_ATTN_BLOCK;
    for (s.block = from; s.block < last; s.block += TERN_ATTN_BLOCK) {
        const int64_t stop = s.block + TERN_ATTN_BLOCK;
        const char *next = attention_keys(form, a, (stop < last ? stop : s.block) / TERN_PANEL);

        for (size_t r = 0; r < a->n_rows; r++) {
            s.begin[r] = a->first[r] > s.block ? a->first[r] : s.block;
            s.end[r] = a->last[r] < stop ? a->last[r] : stop;
        }
        for (size_t r = 0, m; r < a->n_rows; r += m) { /* runs of neighbours that see a part of the block */
            for (m = 0; m < ATTN_TILE && r + m < a->n_rows && s.begin[r + m] < s.end[r + m]; m++)
                ;
            const size_t end = m ? r + m : r + 1;
            if (s.block == from) {
                attention_queries(form, a, &s, q, r, end);
                attention_rows_ahead(a, end, attention_least(end + ATTN_TILE, a->n_rows));
            }
            if (m)
                attention_block(form, a, &s, r, m, next);
            if (stop >= last && !a->more)
                attention_results(form, a, &s, r, end);
            m = end - r;
        }
    }
    if (from >= last && !a->more) /* none sees anything here */
        attention_results(form, a, &s, 0, a->n_rows);
}

#ifdef TERN_VEC_BF16
static void TERN_K(attention_bf16)(const struct tern_attention_rows *a)
{
    attention_rows(V16_BF16_DOT, a);
}
#else
static void TERN_K(attention_f32)(const struct tern_attention_rows *a)
{
    attention_rows(V16_F32, a);
}

static void TERN_K(attention_f32_f16)(const struct tern_attention_rows *a)
{
    attention_rows(V16_F16, a);
}

static void TERN_K(attention_bf16)(const struct tern_attention_rows *a)
{
    attention_rows(V16_BF16, a);
}
#endif
