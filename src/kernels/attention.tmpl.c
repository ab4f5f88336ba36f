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
 * row sees, the ones that all rows share in one tile, the ragged ends, and what a mask hides from some, row by row. */
#include "kernels/vec_math.h"

#include <float.h>

#define ATTN_HALF_BLOCK (TERN_KV_BLOCK / TERN_PANEL) /* K panels of a storage block */

static void TERN_K(kv_store_f32)(float *k_block, float *v_block, const float *k, const float *v, size_t stride,
                                 size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t panels = (v_dim + TERN_PANEL - 1) / TERN_PANEL;

    for (size_t i = 0; i < n; i++, p++) {
        float *to = k_block + p / TERN_PANEL * k_width * TERN_PANEL + p % TERN_PANEL;

        for (size_t c = 0; c < head_dim; c++)
            to[c * TERN_PANEL] = k[i * stride + c];
        for (size_t c = 0; c < panels; c++)
            for (size_t j = 0; j < TERN_PANEL; j += 16) {
                const size_t at = c * TERN_PANEL + j;
                v16_store(v_block + (c * TERN_KV_BLOCK + p) * TERN_PANEL + j,
                          at < v_dim ? v16_load_n(v + i * stride + at, v_dim - at) : v16_set1(0));
            }
    }
}

/* The state of a call, in its scratch. */
struct attention_state {
    float *strip;  /* [8][TERN_ATTN_BLOCK] scores, then exponentials, of positions block .. block + TERN_ATTN_BLOCK */
    float *out;    /* [8][width] sums of exponential times value */
    float *sum;    /* [8][32] sums of exponentials */
    size_t width;  /* E' rounded up to panels */
    int64_t block; /* first position of the softmax block */
    float top[TERN_ATTN_ROWS];                          /* maximum so far */
    int64_t begin[TERN_ATTN_ROWS], end[TERN_ATTN_ROWS]; /* what a row sees of the block; begin == end: nothing */
    bool hides[TERN_ATTN_ROWS];                         /* whether its mask hides any of that */
};

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

/* Scores of rows [row, row + m) for the K panels that hold positions [begin, end). */
V16_FN void attention_scores(const struct tern_attention_f32 *a, const struct attention_state *s, size_t row, size_t m,
                             int64_t begin, int64_t end)
{
    const size_t e = a->head_dim, step = a->k_width * TERN_PANEL;

    for (int64_t p = begin / TERN_PANEL; p * TERN_PANEL < end; p++) {
        const float *panel = a->k_blocks[p / ATTN_HALF_BLOCK] + (size_t)(p % ATTN_HALF_BLOCK) * step;
        const int64_t q = p + 1;
        const float *next =
            q * TERN_PANEL < end ? a->k_blocks[q / ATTN_HALF_BLOCK] + (size_t)(q % ATTN_HALF_BLOCK) * step : NULL;

        TERN_K(gemm_f32)
        (s->strip + row * TERN_ATTN_BLOCK + (p * TERN_PANEL - s->block), TERN_ATTN_BLOCK, a->q + row * a->q_stride,
         a->q_stride, panel, e, m, false, next, e * TERN_PANEL * sizeof *panel);
    }
}

/* To bf16 and back. */
V16_FN v16 attention_round(v16 v)
{
    uint16_t half[16];

    v16_store_bf16(half, v);
    return v16_load_bf16(half);
}

/* Turns a row's scores into exponentials, takes its maximum and sum on, and rescales what it has so far. */
V16_FN void attention_softmax(const struct tern_attention_f32 *a, struct attention_state *s, size_t r)
{
    static const float steps[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const int64_t from = s->begin[r] / 16 * 16, end = s->end[r];
    const float *mask = a->mask ? a->mask[r] : NULL;
    const v16 nothing = v16_set1(-INFINITY), scale = v16_set1(a->scale), cap = v16_set1(a->softcap);
    const v16 slope = v16_set1(a->slope ? a->slope[r] : 0);
    float *strip = s->strip + r * TERN_ATTN_BLOCK;
    float *sum = s->sum + r * 32, *out = s->out + r * s->width;
    v16 top = nothing, least = v16_set1(0);

    for (int64_t j = from; j < end; j += 16) {
        v16 v = v16_mul(v16_load(strip + (j - s->block)), scale);

        if (a->softcap > 0)
            v = v16_mul(cap, v16_tanh(v16_div(v, cap)));
        if (a->slope)
            v = v16_fma(slope, v16_add(v16_set1((float)j), v16_load(steps)), v);
        if (mask) {
            const v16 add = attention_load(mask + j, s->begin[r] - j, end - j, 0);
            least = v16_min(add, least);
            v = v16_select(v16_less(add, v16_set1(-FLT_MAX)), nothing, v16_add(v, add));
        }
        if (j < s->begin[r])
            v = v16_select(v16_first((size_t)(s->begin[r] - j)), nothing, v);
        if (end - j < 16)
            v = v16_select(v16_first((size_t)(end - j)), v, nothing);
        top = v16_max(v, top);
        v16_store(strip + (j - s->block), v);
    }

    const float before = s->top[r], largest = v16_largest(top);
    const bool grew = largest > before;
    const float now = grew ? largest : before;

    if (grew && before != -INFINITY) {
        const v16 factor = v16_exp(v16_sub(v16_set1(before), v16_set1(now)));
        for (size_t i = 0; i < 32; i += 16)
            v16_store(sum + i, v16_mul(v16_load(sum + i), factor));
        for (size_t i = 0; i < s->width; i += 16)
            v16_store(out + i, v16_mul(v16_load(out + i), factor));
    }
    s->top[r] = now;
    s->hides[r] = mask && v16_largest(v16_sub(v16_set1(0), least)) == INFINITY;

    const v16 base = v16_set1(now == -INFINITY ? 0 : now);
    v16 lanes[2] = { v16_load(sum), v16_load(sum + 16) };

    for (int64_t j = from; j < end; j += 16) {
        const v16 e = v16_exp(v16_sub(v16_load(strip + (j - s->block)), base));
        const size_t half = (size_t)(j / 16 % 2);
        lanes[half] = v16_add(lanes[half], e);
        v16_store(strip + (j - s->block), e);
    }
    v16_store(sum, lanes[0]);
    v16_store(sum + 16, lanes[1]);
    for (int64_t j = from; a->round_bf16 && j < end; j += 16)
        v16_store(strip + (j - s->block), attention_round(v16_load(strip + (j - s->block))));
}

/* out += exponentials times values, rows [row, row + m), positions [begin, end). */
V16_FN void attention_values(const struct tern_attention_f32 *a, const struct attention_state *s, size_t row, size_t m,
                             int64_t begin, int64_t end)
{
    while (begin < end) {
        const int64_t block = begin / TERN_KV_BLOCK,
                      stop = (block + 1) * TERN_KV_BLOCK < end ? (block + 1) * TERN_KV_BLOCK : end;
        const size_t n = (size_t)(stop - begin);

        for (size_t c = 0; c < s->width; c += TERN_PANEL) {
            const float *panel = a->v_blocks[block] + c * TERN_KV_BLOCK + (size_t)(begin % TERN_KV_BLOCK) * TERN_PANEL;
            const float *next = c + TERN_PANEL < s->width ? a->v_blocks[block] + (c + TERN_PANEL) * TERN_KV_BLOCK
                                : stop < end              ? a->v_blocks[block + 1]
                                                          : NULL;

            TERN_K(gemm_f32)
            (s->out + row * s->width + c, s->width, s->strip + row * TERN_ATTN_BLOCK + (begin - s->block),
             TERN_ATTN_BLOCK, panel, n, m, true, next, n * TERN_PANEL * sizeof *panel);
        }
        begin = stop;
    }
}

/* Whether the mask of row r hides position j. */
V16_FN bool attention_hidden(const struct tern_attention_f32 *a, const struct attention_state *s, size_t r, int64_t j)
{
    return s->hides[r] && a->mask[r][j] == -INFINITY;
}

/* How many of the rows [row, row + m) see position j. */
V16_FN size_t attention_seeing(const struct tern_attention_f32 *a, const struct attention_state *s, size_t row,
                               size_t m, int64_t j)
{
    size_t n = 0;

    for (size_t r = row; r < row + m; r++)
        n += !attention_hidden(a, s, r, j);
    return n;
}

/* attention_values where masks hide some of it: runs of positions that all rows see, that none sees, and others, those row by
 * row.  Called, not copied into the loop: that one is for rows without gaps. */
static void attention_gaps(const struct tern_attention_f32 *a, const struct attention_state *s, size_t row, size_t m,
                           int64_t begin, int64_t end)
{
    while (begin < end) {
        const size_t seeing = attention_seeing(a, s, row, m, begin);
        int64_t stop = begin + 1;

        while (stop < end && attention_seeing(a, s, row, m, stop) == seeing)
            stop++;
        if (seeing == m)
            attention_values(a, s, row, m, begin, stop);
        for (size_t r = row; seeing > 0 && seeing < m && r < row + m; r++)
            attention_gaps(a, s, r, 1, begin, stop);
        begin = stop;
    }
}

/* attention_values without what masks hide. */
V16_FN void attention_visible(const struct tern_attention_f32 *a, const struct attention_state *s, size_t row, size_t m,
                              int64_t begin, int64_t end)
{
    bool any = false;

    for (size_t r = row; a->mask && r < row + m; r++)
        any |= s->hides[r];
    if (any)
        attention_gaps(a, s, row, m, begin, end);
    else
        attention_values(a, s, row, m, begin, end);
}

/* One softmax block for rows [row, row + m), all of which see a part of it. */
V16_FN void attention_block(const struct tern_attention_f32 *a, struct attention_state *s, size_t row, size_t m)
{
    int64_t all_begin = INT64_MAX, all_end = 0; /* the positions that any row sees */
    int64_t begin = 0, end = INT64_MAX;         /* the positions that all rows see */

    for (size_t r = row; r < row + m; r++) {
        all_begin = s->begin[r] < all_begin ? s->begin[r] : all_begin;
        all_end = s->end[r] > all_end ? s->end[r] : all_end;
        begin = s->begin[r] > begin ? s->begin[r] : begin;
        end = s->end[r] < end ? s->end[r] : end;
    }
    attention_scores(a, s, row, m, all_begin, all_end);
    for (size_t r = row; r < row + m; r++)
        attention_softmax(a, s, r);
    if (begin >= end) {
        for (size_t r = row; r < row + m; r++)
            attention_visible(a, s, r, 1, s->begin[r], s->end[r]);
        return;
    }
    for (size_t r = row; r < row + m; r++)
        attention_visible(a, s, r, 1, s->begin[r], begin);
    attention_visible(a, s, row, m, begin, end);
    for (size_t r = row; r < row + m; r++)
        attention_visible(a, s, r, 1, end, s->end[r]);
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
