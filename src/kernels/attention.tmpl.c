/* attention.tmpl.c: attention over stored keys and values.  Built once per level; contracts in kernels.h.
 *
 * Softmax blocks of TERN_ATTN_BLOCK positions, cut at absolute positions.  For each block, eight rows after the other:
 *
 *   strip[8][512]   products of queries [rows][E] with K panels [E][32]
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

/* Rows that are done together, and of how many of them the sums of 32 columns are in registers. */
#define ATTN_TILE 8
#if V16_GEMM_ROWS == 14
#define ATTN_HEIGHT  8
#define ATTN_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define ATTN_HEIGHT  1
#define ATTN_ROWS(X) X(0)
#endif

/* Rows with which memory is waited for: steps are in turns of four, so that fewer instructions stand between two lines of a panel and more
 * lines are under way. */
#define ATTN_FEW      4
#define ATTN_TURNS(m) ((m) <= ATTN_FEW ? 4 : 1)

/* Whether scores of a tile end with half a panel where no row sees the other half. */
#define ATTN_HALVES(m) (ATTN_HEIGHT == ATTN_TILE && (m) == ATTN_TILE)

/* Vector operations on a line of keys or values: widening and m multiply-adds for each vector of numbers. */
#define ATTN_WIDENS(form)        ((form) == V16_F16 || (form) == V16_BF16)
#define ATTN_OPERATIONS(form, m) (ATTN_WIDENS(form) ? 2 * (1 + (m)) : (m))

/* Bytes between what is read and what is prefetched.  One row of few instructions is back sooner.  At 8 KiB prefetches and reads are in
 * different pages, and the hardware prefetcher suffers (bench/LOG.md). */
#define ATTN_AHEAD(form, m, prefetch) \
    (ATTN_OPERATIONS(form, m) > 1 ? 6144 : (form) == V16_F32 ? 3072 : (prefetch) != TERN_PREFETCH_L1 ? 4096 : 6144)

/* Whether few rows send for keys and values, which under TERN_PREFETCH_FEW depends: with 2 to 5 operations a line the hardware prefetcher alone is
 * up to a quarter faster, with one or more than 5 it is up to a tenth slower (bench/LOG.md). */
#define ATTN_SENDS(form, m, prefetch) \
    ((prefetch) != TERN_PREFETCH_FEW || ATTN_OPERATIONS(form, m) == 1 || ATTN_OPERATIONS(form, m) > 5)

/* Elements of a step of a panel, and bytes of the steps that hold k of them. */
#define ATTN_PER(form)      ((form) == V16_BF16 || (form) == V16_BF16_DOT ? 2 : 1)
#define ATTN_STEPS(form, k) (((size_t)(k) + ATTN_PER(form) - 1) / ATTN_PER(form))
#define ATTN_BYTES(form, k) (ATTN_STEPS(form, k) * GEMM_BYTES(form))

/* Words of a row of the strip that k positions take: products of pairs have bf16 exponentials, in the first half of a row. */
#define ATTN_WORDS(form, k) ((k) / ((form) == V16_BF16_DOT ? 2 : 1))

/* What stands in the strip for a position that a row does not see: no exponential is below 0.  Pairs of bf16 have the sign alone,
 * which no exponential has either. */
#define ATTN_UNSEEN(form) ((form) == V16_BF16_DOT ? -0.0f : -1.0f)

/* The state of a call.  sum, top and out are what it leaves to the next one. */
struct attention_state {
    const float *q; /* rows q_stride apart, in words: two bf16 to one for products of pairs */
    float *copy;    /* where q is not read where it stands: q */
    size_t q_stride;
    float *strip;               /* [8][TERN_ATTN_BLOCK] of positions block .. block + TERN_ATTN_BLOCK */
    float *sum;                 /* [n_rows][32] sums of exponentials */
    float *top;                 /* [n_rows] maximum so far */
    float *out;                 /* [n_rows][width] sums of exponential times value */
    size_t width;               /* E' rounded up to panels */
    size_t block;               /* first position of the softmax block */
    bool fresh[TERN_ATTN_ROWS]; /* sum and out are not written yet, and 0 */
    size_t begin[TERN_ATTN_ROWS], end[TERN_ATTN_ROWS]; /* what a row sees of the block; begin >= end: nothing */
};

/* Neighbouring rows in one softmax block, all of which see a part of it. */
struct attention_tile {
    size_t row, m;
    size_t begin, end;         /* the positions that any row sees */
    size_t all_begin, all_end; /* the positions that all rows see; whole steps, none where all_begin >= all_end */
    size_t from,
        to; /* the vectors that hold what any row sees: in twos, but for the last one where `to` is no multiple of 32 */
    size_t whole, whole_end; /* those that all rows see all of; at `to` where there are none */
    bool plain;              /* scores are products times a scale above 0, no more */
    bool hides;              /* whether a mask hides any of them from any row */
    bool stairs;             /* the last eight positions begin a multiple of eight, and row i sees i + 1 of them */
    bool even;               /* nothing in the strip has to be marked: rows see the same, or stairs */
    bool fresh;              /* as of all rows */
    const char *next;        /* what is read after the tile; a hint */
};

/* Lanes [begin, end) of v; the others `rest`.  Positions: lane 0 is p. */
V16_FN v16 attention_within(v16 v, size_t p, size_t begin, size_t end, v16 rest)
{
    if (begin > p)
        v = v16_select(v16_first(begin - p), rest, v);
    return v16_select(v16_first(end > p ? end - p : 0), v, rest);
}

/* Positions p .. p + 15 of a mask, 0 outside of [begin, end), where it is not read. */
V16_FN v16 attention_mask(const float *mask, size_t p, size_t begin, size_t end)
{
    float lanes[16];

    if (begin <= p && end >= p + 16)
        return v16_load(mask + p);
    for (size_t i = 0; i < 16; i++)
        lanes[i] = p + i >= begin && p + i < end ? mask[p + i] : 0;
    return v16_load(lanes);
}

/* ---- products ---- */

/* The panel of K that position p begins, or stands in. */
V16_FN const char *attention_keys(const enum v16_panel form, const struct tern_attention_rows *a, size_t p)
{
    return (const char *)a->k_blocks[(p - (size_t)a->origin) / TERN_KV_BLOCK] +
           p / TERN_PANEL % ATTN_HALF_BLOCK * ATTN_BYTES(form, a->k_width);
}

/* Position p, the first of a step, in panel c / 32 of V. */
V16_FN const char *attention_panel(const enum v16_panel form, const struct tern_attention_rows *a, size_t p, size_t c)
{
    return (const char *)a->v_blocks[(p - (size_t)a->origin) / TERN_KV_BLOCK] +
           c / TERN_PANEL * ATTN_BYTES(form, TERN_KV_BLOCK) + ATTN_BYTES(form, p % TERN_KV_BLOCK);
}

/* The end of p's storage block, `end` where that comes first. */
V16_FN size_t attention_stop(size_t p, size_t end)
{
    const size_t stop = (p / TERN_KV_BLOCK + 1) * TERN_KV_BLOCK;

    return stop < end ? stop : end;
}

/* Where a row sees one of a pair only, the other's value is taken for 0; where it sees neither, its sum stays as it is.  A NaN is no mark. */
V16_FN v16 attention_seen(const enum v16_panel form, v16 x, v16 w, v16 sum)
{
#ifdef TERN_VEC_BF16
    if (form == V16_BF16_DOT)
        return v16_dot_bf16_seen(x, w, sum);
#endif
    (void)form;
    return v16_select(v16_less(x, v16_set1(0)), sum, v16_fma(x, w, sum));
}

/* Of a pair the first alone. */
V16_FN v16 attention_first(const enum v16_panel form, v16 x, v16 w, v16 sum)
{
#ifdef TERN_VEC_BF16
    return v16_dot_bf16_first(x, w, sum);
#endif
    return gemm_multiply_add(form, x, w, sum);
}

/* Sums of m rows and 32 columns: names, as gcc keeps an array in memory. */
#define ATTN_ZERO(i) v16 r##i##_a = v16_set1(0), r##i##_b = v16_set1(0);
#define ATTN_LOAD(i)                           \
    if (i < m) {                               \
        r##i##_a = v16_load(c + i * ldc);      \
        r##i##_b = v16_load(c + i * ldc + 16); \
    }
#define ATTN_STORE(i)                              \
    if (i < m) {                                   \
        v16_store(c + i * ldc, r##i##_a);          \
        if (!narrow)                               \
            v16_store(c + i * ldc + 16, r##i##_b); \
    }
#define ATTN_STEP(i, add)                                                                      \
    if (i < m) {                                                                               \
        const v16 x = gemm_broadcast(form, (i < 3 ? a0 : i < 6 ? a3 : a6) + i % 3 * lda + at); \
        r##i##_a = add(form, x, w0, r##i##_a);                                                 \
        if (!narrow)                                                                           \
            r##i##_b = add(form, x, w1, r##i##_b);                                             \
    }
#define ATTN_STEP_ALL(i)  ATTN_STEP(i, gemm_multiply_add)
#define ATTN_STEP_SEEN(i) ATTN_STEP(i, attention_seen)
/* A step of stairs, whose first position is the one that row `stair` is the first to see. */
#define ATTN_STEP_STAIR(i)                                         \
    if (form == V16_BF16_DOT && i == stair) {                      \
        ATTN_STEP(i, attention_first)                              \
    } else if (i >= (form == V16_BF16_DOT ? stair : stair + at)) { \
        ATTN_STEP_ALL(i)                                           \
    }
#define ATTN_ELEMENT(e, STEP)                                                                \
    {                                                                                        \
        const v16 w0 = v16_weights(form, panel, 0, e), w1 = v16_weights(form, panel, 16, e); \
        const int at = e;                                                                    \
        ATTN_ROWS(STEP)                                                                      \
    }
/* `steps` steps of a panel, and meanwhile what is `ahead` is prefetched.  Few rows: in turns of four, and from so far ahead for the first
 * steps, from elsewhere for the others. */
#define ATTN_TURN(STEP)        \
    ATTN_ELEMENT(0, STEP)      \
    if (form == V16_BF16)      \
        ATTN_ELEMENT(1, STEP)  \
    panel += GEMM_BYTES(form); \
    a0 += GEMM_PER(form), a3 += GEMM_PER(form), a6 += GEMM_PER(form);
#define ATTN_PREFETCH(from, steps, prefetch)                           \
    for (size_t line = 0; line < (steps)*GEMM_BYTES(form); line += 64) \
        prefetch((const char *)(from) + line);
/* (A branch within the loop costs a tenth of a row's time on a Zen 4.  Where nothing is sent for, steps are single: gcc reorders the loads of
 * four, with which the hardware prefetcher is a seventh slower.) */
#define ATTN_LOOP_FEW(prefetch, STEP)                           \
    for (; left >= 4; left -= 4) {                              \
        ATTN_PREFETCH((uintptr_t)panel + distance, 4, prefetch) \
        ATTN_TURN(STEP)                                         \
        ATTN_TURN(STEP)                                         \
        ATTN_TURN(STEP)                                         \
        ATTN_TURN(STEP)                                         \
    }                                                           \
    for (; left > 0; left--) {                                  \
        ATTN_PREFETCH((uintptr_t)panel + distance, 1, prefetch) \
        ATTN_TURN(STEP)                                         \
    }
#define ATTN_LOOP(steps, turn, STEP)                                     \
    const char *line_ahead = ahead.then;                                 \
    for (size_t left = (turn) == 1 ? (steps) : 0; left > 0; left--) {    \
        ATTN_PREFETCH(line_ahead, 1, GEMM_PREFETCH_L1)                   \
        line_ahead += GEMM_BYTES(form);                                  \
        ATTN_TURN(STEP)                                                  \
    }                                                                    \
    for (int part = 0; (turn) == 4 && part < 2; part++) {                \
        const uintptr_t distance = part ? ahead.beyond : ahead.distance; \
        size_t left = part ? (steps)-ahead.steps : ahead.steps;          \
        if (!ATTN_SENDS(form, m, a->prefetch)) {                         \
            for (; left > 0; left--) {                                   \
                ATTN_TURN(STEP)                                          \
            }                                                            \
        } else if (a->prefetch != TERN_PREFETCH_L1) {                    \
            ATTN_LOOP_FEW(GEMM_PREFETCH_L2, STEP)                        \
        } else {                                                         \
            ATTN_LOOP_FEW(GEMM_PREFETCH_L1, STEP)                        \
        }                                                                \
    }
/* Position i of stairs, the first of its step. */
#define ATTN_STAIR(i)              \
    if (i % ATTN_PER(form) == 0) { \
        const int stair = i;       \
        ATTN_TURN(ATTN_STEP_STAIR) \
    }
/* The steps of positions [begin, end) of V, storage block by storage block. */
#define ATTN_POSITIONS(begin, end, turn, STEP)                                                                         \
    for (size_t p = (begin), stop; p < (end); p = stop) {                                                              \
        const char *panel = attention_panel(form, a, p, column);                                                       \
        stop = attention_stop(p, end);                                                                                 \
        const size_t steps = (stop - p) / ATTN_PER(form);                                                              \
        const bool whole = (turn) == 4 && stop - p == TERN_KV_BLOCK; /* and its panels are read one after the other */ \
        const char *const stream = whole ? attention_panel(form, a, p, s->width) : panel + steps * GEMM_BYTES(form);   \
        const char *const then = whole ? next : stop < last ? attention_panel(form, a, stop, column) : after;          \
        const struct attention_ahead ahead = attention_ahead(form, m, a->prefetch, turn, panel, steps, stream, then);  \
        ATTN_LOOP(steps, turn, STEP)                                                                                   \
    }

V16_FN size_t attention_least(size_t x, size_t y)
{
    return x < y ? x : y;
}

/* x, or the end of [low, high] that is nearer. */
V16_FN size_t attention_clip(size_t x, size_t low, size_t high)
{
    return x < low ? low : attention_least(x, high);
}

/* Where a panel's stream goes on, and how far from its steps what they prefetch lies: `distance` for the first `steps` of them, `beyond` for
 * those that reach over the end of the stream. */
struct attention_ahead {
    const char *then;
    uintptr_t distance, beyond;
    size_t steps;
};

/* `steps` steps of a stream that ends at `end` and goes on at `then`.  Many rows, in single steps, find what they read in the second-level
 * cache, and bring what begins at `then`, whatever its distance. */
V16_FN struct attention_ahead attention_ahead(const enum v16_panel form, const int m, enum tern_prefetch prefetch,
                                              const int turn, const char *panel, size_t steps, const char *end,
                                              const char *then)
{
    const size_t bytes = GEMM_BYTES(form), distance = ATTN_AHEAD(form, m, prefetch), left = (size_t)(end - panel);
    struct attention_ahead ahead = { then, distance, distance, steps };

    if (turn > 1 && then != end && left < distance + steps * bytes) {
        const size_t near = left > distance ? (left - distance + 4 * bytes - 1) / (4 * bytes) * 4 : 0;
        ahead.steps = attention_least(near, steps);
        ahead.beyond = (uintptr_t)then - (uintptr_t)panel - near * bytes + (left > distance ? 0 : distance - left);
    }
    return ahead;
}

/* What is read behind the keys. */
V16_FN const char *attention_first_values(const enum v16_panel form, const struct tern_attention_rows *a,
                                          const struct attention_tile *t)
{
    return attention_panel(form, a, t->begin / ATTN_PER(form) * ATTN_PER(form), 0);
}

/* Products of a tile of m rows with the K panels that hold what it sees.  In a plain tile what a row does not see is -inf, and largest[m] gets
 * vectors that have the largest of each row: while they are in registers. */
V16_FN void attention_scores_of(const enum v16_panel form, const int m, const struct tern_attention_rows *a,
                                const struct attention_state *s, const struct attention_tile *t, v16 *largest)
{
    const size_t steps = ATTN_STEPS(form, a->head_dim), lda = s->q_stride, ldc = TERN_ATTN_BLOCK;

/* Widened pairs leave no registers for maxima. */
#define ATTN_TOP(i)                   \
    v16 top##i = v16_set1(-INFINITY); \
    if (form == V16_BF16 && i < m)    \
        largest[i] = top##i;
#define ATTN_TOP_OF(i)                                                       \
    if (i < m) {                                                             \
        v16 top = v16_max(r##i##_a, form == V16_BF16 ? largest[i] : top##i); \
        if (!narrow)                                                         \
            top = v16_max(r##i##_b, top);                                    \
        if (form == V16_BF16)                                                \
            largest[i] = top;                                                \
        else                                                                 \
            top##i = top;                                                    \
    }
#define ATTN_TOP_STORE(i)          \
    if (form != V16_BF16 && i < m) \
        largest[i] = top##i;
#define ATTN_EDGE(i)                                                                        \
    if (i < m) {                                                                            \
        const size_t begin = s->begin[t->row + i], end = s->end[t->row + i];                \
        r##i##_a = attention_within(r##i##_a, p, begin, end, v16_set1(-INFINITY));          \
        if (!narrow)                                                                        \
            r##i##_b = attention_within(r##i##_b, p + 16, begin, end, v16_set1(-INFINITY)); \
    }
    ATTN_ROWS(ATTN_TOP)
/* One panel, or the first half of it. */
#define ATTN_SCORES(half)                                                                               \
    {                                                                                                   \
        const bool narrow = half;                                                                       \
        const size_t piece = ATTN_TURNS(m) == 1 ? p + TERN_PANEL : attention_stop(p, last);             \
        const char *panel = attention_keys(form, a, p);                                                 \
        const char *const end = attention_keys(form, a, piece - TERN_PANEL) + steps * GEMM_BYTES(form); \
        const char *const then = piece < last ? attention_keys(form, a, piece) : values;                \
        const struct attention_ahead ahead =                                                            \
            attention_ahead(form, m, a->prefetch, ATTN_TURNS(m), panel, steps, end, then);              \
        const float *a0 = s->q + t->row * lda, *a3 = a0 + 3 * lda, *a6 = a3 + 3 * lda;                  \
        float *c = s->strip + (p - s->block);                                                           \
                                                                                                        \
        ATTN_ROWS(ATTN_ZERO)                                                                            \
        ATTN_LOOP(steps, ATTN_TURNS(m), ATTN_STEP_ALL)                                                  \
        if (t->plain) {                                                                                 \
            if (p < t->whole || p + TERN_PANEL > t->whole_end) {                                        \
                ATTN_ROWS(ATTN_EDGE)                                                                    \
            }                                                                                           \
            ATTN_ROWS(ATTN_TOP_OF)                                                                      \
        }                                                                                               \
        ATTN_ROWS(ATTN_STORE)                                                                           \
    }
    const size_t last = (t->to + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;
    const char *const values = attention_first_values(form, a, t);
    size_t p = t->from;

    for (; p + TERN_PANEL <= t->to; p += TERN_PANEL)
        ATTN_SCORES(false)
    if (ATTN_HALVES(m) && p < t->to)
        ATTN_SCORES(true)
    ATTN_ROWS(ATTN_TOP_STORE)
#undef ATTN_TOP
#undef ATTN_TOP_OF
#undef ATTN_TOP_STORE
#undef ATTN_EDGE
#undef ATTN_SCORES
}

/* out += exponentials times values for m rows from `row` on and a panel of columns: positions [begin, all_begin) and
 * [all_end, last) each row over those that it sees, those between them all.  next: what is read after the last panel. */
V16_FN void attention_values_of(const enum v16_panel form, const int m, const bool fresh,
                                const struct tern_attention_rows *a, const struct attention_state *s,
                                const struct attention_tile *t, size_t row, size_t begin, size_t all_begin,
                                size_t all_end, size_t last, size_t column, const char *next)
{
    const size_t ldc = s->width, lda = TERN_ATTN_BLOCK, right = column + TERN_PANEL;
    const char *const after = right < s->width ? attention_panel(form, a, begin, right) : next;
    const float *a0 = s->strip + (row - t->row) * lda + ATTN_WORDS(form, begin - s->block);
    const float *a3 = a0 + 3 * lda, *a6 = a3 + 3 * lda;
    float *c = s->out + row * ldc + column;
    const bool narrow = false;

    ATTN_ROWS(ATTN_ZERO)
    if (!fresh) {
        ATTN_ROWS(ATTN_LOAD)
    }
    ATTN_POSITIONS(begin, all_begin, 1, ATTN_STEP_SEEN)
    ATTN_POSITIONS(all_begin, all_end, ATTN_TURNS(m), ATTN_STEP_ALL)
    if (m == ATTN_TILE && t->stairs) {
        const char *panel = attention_panel(form, a, all_end, column);
        ATTN_STAIR(0)
        ATTN_STAIR(1)
        ATTN_STAIR(2)
        ATTN_STAIR(3)
        ATTN_STAIR(4)
        ATTN_STAIR(5)
        ATTN_STAIR(6)
        ATTN_STAIR(7)
    } else {
        ATTN_POSITIONS(all_end, last, 1, ATTN_STEP_SEEN)
    }
    ATTN_ROWS(ATTN_STORE)
}
#undef ATTN_ZERO
#undef ATTN_LOAD
#undef ATTN_STORE
#undef ATTN_STEP
#undef ATTN_STEP_ALL
#undef ATTN_STEP_SEEN
#undef ATTN_STEP_STAIR
#undef ATTN_STAIR
#undef ATTN_ELEMENT
#undef ATTN_TURN
#undef ATTN_PREFETCH
#undef ATTN_LOOP_FEW
#undef ATTN_LOOP
#undef ATTN_POSITIONS

#if ATTN_HEIGHT == ATTN_TILE
/* Products of the tile, by attention_scores_of(). */
V16_FN void attention_scores_in(const enum v16_panel form, const struct tern_attention_rows *a,
                                const struct attention_state *s, const struct attention_tile *t, v16 *largest)
{
#define ATTN_CASE(i)                                        \
    case i + 1:                                             \
        attention_scores_of(form, i + 1, a, s, t, largest); \
        break;
    switch (t->m) {
        ATTN_ROWS(ATTN_CASE)
    }
#undef ATTN_CASE
}

/* out += exponentials times values for the tile.  Whole steps: a pair of which no row sees one position is not for the sums of all. */
V16_FN void attention_values_in(const enum v16_panel form, const struct tern_attention_rows *a,
                                const struct attention_state *s, const struct attention_tile *t)
{
    const size_t begin = t->begin / ATTN_PER(form) * ATTN_PER(form);
    const size_t end = (t->end + ATTN_PER(form) - 1) / ATTN_PER(form) * ATTN_PER(form);
    const bool none = t->hides || t->all_begin >= t->all_end;
    const size_t all_begin = none ? begin : t->all_begin, all_end = none ? begin : t->all_end;

    /* Few rows read the panels of a storage block as they stand in memory, others a panel of all storage blocks with sums in registers. */
#define ATTN_CASE(i)                                                                                             \
    case i + 1:                                                                                                  \
        for (size_t p = begin, stop; p < end; p = stop) {                                                        \
            stop = i < ATTN_FEW ? attention_stop(p, end) : end;                                                  \
            const char *const next = stop < end ? attention_panel(form, a, stop, 0) : t->next;                   \
            const size_t low = attention_clip(all_begin, p, stop), high = attention_clip(all_end, p, stop);      \
            for (size_t c = 0; c < s->width; c += TERN_PANEL)                                                    \
                attention_values_of(form, i + 1, t->fresh && p == begin, a, s, t, t->row, p, low, high, stop, c, \
                                    next);                                                                       \
        }                                                                                                        \
        break;
    switch (t->m) {
        ATTN_ROWS(ATTN_CASE)
    }
#undef ATTN_CASE
}

/* Functions of their own: within a kernel, gcc would have strides of their innermost loops out of integer registers. */
#define ATTN_APART(suffix, form)                                                                              \
    static __attribute__((noinline)) void TERN_K(attention_scores_##suffix)(                                  \
        const struct tern_attention_rows *a, const struct attention_state *s, const struct attention_tile *t, \
        v16 *largest)                                                                                         \
    {                                                                                                         \
        attention_scores_in(form, a, s, t, largest);                                                          \
    }                                                                                                         \
    static __attribute__((noinline)) void TERN_K(attention_values_##suffix)(                                  \
        const struct tern_attention_rows *a, const struct attention_state *s, const struct attention_tile *t) \
    {                                                                                                         \
        attention_values_in(form, a, s, t);                                                                   \
    }
#ifdef TERN_VEC_BF16
ATTN_APART(bf16, V16_BF16_DOT)
#define ATTN_CALL(form, name, ...) ((void)(form), TERN_K(attention_##name##_bf16)(__VA_ARGS__))
#else
ATTN_APART(f32, V16_F32)
ATTN_APART(f32_f16, V16_F16)
ATTN_APART(f32_bf16, V16_BF16)
#define ATTN_CALL(form, name, ...)                                         \
    ((form) == V16_F32   ? TERN_K(attention_##name##_f32)(__VA_ARGS__)     \
     : (form) == V16_F16 ? TERN_K(attention_##name##_f32_f16)(__VA_ARGS__) \
                         : TERN_K(attention_##name##_f32_bf16)(__VA_ARGS__))
#endif
#undef ATTN_APART

V16_FN void attention_scores(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t, v16 *largest)
{
    ATTN_CALL(form, scores, a, s, t, largest);
}

V16_FN void attention_values(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t)
{
    ATTN_CALL(form, values, a, s, t);
}
#undef ATTN_CALL
#else
/* c[m][32] (+)= a[m][k] times a panel, by the product of the form. */
V16_FN void attention_product(const enum v16_panel form, float *c, size_t ldc, const float *a, size_t lda,
                              const char *panel, size_t k, size_t m, bool accumulate, const char *next)
{
    const struct tern_gemm_next ahead = { next, next ? ATTN_BYTES(form, k) : 0, TERN_PREFETCH_L1 };

    if (form == V16_F16)
        TERN_K(gemm_f32_f16)(c, ldc, a, lda, (const uint16_t *)panel, k, m, accumulate, &ahead);
    else if (form == V16_BF16)
        TERN_K(gemm_f32_bf16)(c, ldc, a, lda, (const uint16_t *)panel, k, m, accumulate, &ahead);
    else
        TERN_K(gemm_f32)(c, ldc, a, lda, (const float *)panel, k, m, accumulate, &ahead);
}

V16_FN void attention_scores(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t, v16 *largest)
{
    for (size_t p = t->from; p < t->to; p += TERN_PANEL)
        attention_product(form, s->strip + (p - s->block), TERN_ATTN_BLOCK, s->q + t->row * s->q_stride, s->q_stride,
                          attention_keys(form, a, p), a->head_dim, t->m, false,
                          p + TERN_PANEL < t->to ? attention_keys(form, a, p + TERN_PANEL) : NULL);
    for (size_t i = 0; i < t->m; i++) {
        const size_t r = t->row + i;
        v16 top = v16_set1(-INFINITY);

        for (size_t p = t->from; t->plain && p < t->to; p += 16) {
            float *at = s->strip + i * TERN_ATTN_BLOCK + (p - s->block);
            v16 v = v16_load(at);
            if (p < t->whole || p >= t->whole_end) {
                v = attention_within(v, p, s->begin[r], s->end[r], v16_set1(-INFINITY));
                v16_store(at, v);
            }
            top = v16_max(v, top);
        }
        largest[i] = top;
    }
}

/* Where rows do not see the same, one row after the other; what all see by products. */
V16_FN void attention_values(const enum v16_panel form, const struct tern_attention_rows *a,
                             const struct attention_state *s, const struct attention_tile *t)
{
    const size_t begin = t->begin / ATTN_PER(form) * ATTN_PER(form);
    const size_t end = (t->end + ATTN_PER(form) - 1) / ATTN_PER(form) * ATTN_PER(form);
    const bool none = t->hides || t->all_begin >= t->all_end;
    const size_t all_begin = none ? end : t->all_begin, all_end = none ? end : t->all_end;
    const char *const all = all_begin < all_end ? attention_panel(form, a, all_begin, 0) : t->next;

    if (t->fresh)
        memset(s->out + t->row * s->width, 0, t->m * s->width * sizeof *s->out);
    for (size_t c = 0; begin < all_begin && c < s->width; c += TERN_PANEL)
        for (size_t i = 0; i < t->m; i++)
            attention_values_of(form, 1, false, a, s, t, t->row + i, begin, all_begin, all_begin, all_begin, c, all);
    for (size_t p = all_begin, stop; p < all_end; p = stop) {
        stop = attention_stop(p, all_end);
        const char *const next = stop < all_end ? attention_panel(form, a, stop, 0) : t->next;
        for (size_t c = 0; c < s->width; c += TERN_PANEL)
            attention_product(form, s->out + t->row * s->width + c, s->width, s->strip + (p - s->block),
                              TERN_ATTN_BLOCK, attention_panel(form, a, p, c), stop - p, t->m, true,
                              c + TERN_PANEL < s->width ? attention_panel(form, a, p, c + TERN_PANEL) : next);
    }
    for (size_t c = 0; all_end < end && c < s->width; c += TERN_PANEL)
        for (size_t i = 0; i < t->m; i++)
            attention_values_of(form, 1, false, a, s, t, t->row + i, all_end, end, end, end, c, t->next);
}
#endif

/* ---- softmax ---- */

/* To bf16 and back. */
V16_FN v16 attention_round(v16 v)
{
    uint16_t half[16];

    v16_store_bf16(half, v);
    return v16_load_bf16(half);
}

/* exp(v - base), v - base being at most 0: 2^(n + r), n whole and |r| <= 1/2, within 0.9 ulp and the rounding of the argument.
 * That, in units of ln 2, is clamped to where the result is 0 anyway (max hands a NaN through as its second operand). */
V16_FN v16 attention_exp(v16 v, v16 base)
{
    const v16 x = v16_max(v16_set1(-151), v16_mul(v16_sub(v, base), v16_set1(1.44269504f)));
    const v16 n = v16_rint(x), r = v16_sub(x, n);
    v16 p = v16_fma1(v16_set1(0.000155946764f), r, 0.00134066434f);

    p = v16_fma1(p, r, 0.00961769279f);
    p = v16_fma1(p, r, 0.0555031039f);
    p = v16_fma1(p, r, 0.240226522f);
    p = v16_fma1(p, r, 0.693147242f);
    return v16_scale(v16_fma1(p, r, 1), n);
}

/* Scores p .. p + 15 of row r, whose products stand at `products`, -inf where it does not see; *least is the smallest mask so far. */
V16_FN v16 attention_score(const struct tern_attention_rows *a, const struct attention_state *s, size_t r, size_t p,
                           const float *products, v16 *least)
{
    static const float steps[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const v16 nothing = v16_set1(-INFINITY), cap = v16_set1(a->softcap);
    const float *mask = a->mask ? a->mask[r] : NULL;
    v16 v = v16_mul(v16_load(products), v16_set1(a->scale));

    if (a->softcap > 0)
        v = v16_mul(cap, v16_tanh(v16_div(v, cap)));
    if (a->slope)
        v = v16_fma(v16_set1(a->slope[r]), v16_add(v16_set1((float)p), v16_load(steps)), v);
    if (mask) {
        const v16 add = attention_mask(mask, p, s->begin[r], s->end[r]);
        *least = v16_min(add, *least);
        v = v16_select(v16_less(add, v16_set1(-FLT_MAX)), nothing, v16_add(v, add));
    }
    return attention_within(v, p, s->begin[r], s->end[r], nothing);
}

/* The products of row r become scores, -inf where it does not see; gives the largest. */
V16_FN float attention_largest(const struct tern_attention_rows *a, const struct attention_state *s,
                               struct attention_tile *t, size_t r)
{
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK;
    v16 top = v16_set1(-INFINITY), least = v16_set1(0);

    for (size_t p = t->from; p < t->to; p += 16) {
        const v16 v = attention_score(a, s, r, p, strip + (p - s->block), &least);
        top = v16_max(v, top);
        v16_store(strip + (p - s->block), v);
    }
    t->hides |= a->mask && v16_largest(v16_sub(v16_set1(0), least)) == INFINITY;
    return v16_largest(top);
}

/* The largest score, of the largest product. */
V16_FN float attention_scaled(const struct tern_attention_rows *a, float largest)
{
    return largest == -INFINITY ? largest : largest * a->scale;
}

/* Takes row r's maximum on; rescales what it has so far where it grew.  Gives what is subtracted from its scores. */
V16_FN float attention_maximum(struct attention_state *s, size_t r, bool fresh, float largest)
{
    const float before = fresh ? -INFINITY : s->top[r];
    const float now = largest > before ? largest : before;

    if (before != -INFINITY && largest > before) {
        const v16 factor = attention_exp(v16_set1(before), v16_set1(now));
        float *sum = s->sum + r * 32, *out = s->out + r * s->width;
        for (size_t i = 0; i < 32; i += 16)
            v16_store(sum + i, v16_mul(v16_load(sum + i), factor));
        for (size_t i = 0; i < s->width; i += 16)
            v16_store(out + i, v16_mul(v16_load(out + i), factor));
    }
    s->top[r] = now;
    return now == -INFINITY ? 0 : now;
}

/* Exponentials p .. p + 31 into a strip, rounded to bf16 where `round`.  Pairs are rounded by an instruction that takes
 * denormals for 0, as the product does. */
V16_FN void attention_weights(const enum v16_panel form, float *strip, v16 e0, v16 e1, const bool round)
{
#ifdef TERN_VEC_BF16
    if (form == V16_BF16_DOT) {
        v16_store_bf16_pair((uint16_t *)strip, e0, e1);
        return;
    }
#endif
    (void)form;
    v16_store(strip, round ? attention_round(e0) : e0);
    v16_store(strip + 16, round ? attention_round(e1) : e1);
}

/* Lines of values that are prefetched for 32 exponentials: as many as memory brings meanwhile, and rows of two bytes a number are half as many. */
#define ATTN_LINES(form) (ATTN_PER(form) == 2 ? 4 : 2)

/* With few rows memory is what is waited for, and would rest while exponentials are made: meanwhile values are prefetched, behind those that
 * scores prefetch and those of the rows before.  NULL: none are. */
V16_FN const char *attention_values_ahead(const enum v16_panel form, const struct tern_attention_rows *a,
                                          const struct attention_state *s, const struct attention_tile *t, size_t i)
{
    const size_t bytes = s->width / TERN_PANEL * ATTN_BYTES(form, TERN_KV_BLOCK);
    const size_t each = ATTN_LINES(form) * TERN_ATTN_BLOCK / 32 * 64,
                 at = ATTN_AHEAD(form, t->m, a->prefetch) + i * each;
    const size_t p = t->begin / TERN_KV_BLOCK * TERN_KV_BLOCK + at / bytes * TERN_KV_BLOCK;

    if (t->m > ATTN_FEW || p >= t->end || !ATTN_SENDS(form, t->m, a->prefetch))
        return NULL;
    const char *ahead = attention_panel(form, a, p, 0) + at % bytes;
    if (ATTN_HEIGHT == ATTN_TILE)
        return ahead;
    for (size_t line = 0; line < each; line += 64) /* at once: 16 registers have no room for the place */
        gemm_prefetch(ahead + line, 1, a->prefetch);
    return NULL;
}

/* Row r's scores become exponentials of their difference to `base`, marked where it does not see; its sum goes on, in 32 lanes. */
V16_FN void attention_exponentials(const enum v16_panel form, const bool round, const struct attention_state *s,
                                   const struct attention_tile *t, size_t r, float scale, float base, const char *ahead,
                                   enum tern_prefetch prefetch)
{
    const float *from = s->strip + (r - t->row) * TERN_ATTN_BLOCK;
    float *to = s->strip + (r - t->row) * TERN_ATTN_BLOCK, *sum = s->sum + r * 32;
    const v16 factor = v16_set1(scale), less = v16_set1(base), unseen = v16_set1(ATTN_UNSEEN(form));
    v16 sum0 = v16_set1(0), sum1 = v16_set1(0);

    if (!t->fresh) {
        sum0 = v16_load(sum);
        sum1 = v16_load(sum + 16);
    }
#define ATTN_EXPONENTIALS(low, high, edge)                                           \
    for (size_t p = (low); p < (high); p += 32) {                                    \
        const float *at = from + (p - s->block);                                     \
        for (size_t line = 0; ahead && line < ATTN_LINES(form); line++, ahead += 64) \
            gemm_prefetch(ahead, 1, prefetch);                                       \
        v16 e0 = attention_exp(v16_mul(v16_load(at), factor), less);                 \
        v16 e1 = v16_set1(0);                                                        \
        if (!(edge) || p + 16 < t->to)                                               \
            e1 = attention_exp(v16_mul(v16_load(at + 16), factor), less);            \
        sum0 = v16_add(sum0, e0);                                                    \
        sum1 = v16_add(sum1, e1);                                                    \
        if ((edge) && !t->even) {                                                    \
            e0 = attention_within(e0, p, s->begin[r], s->end[r], unseen);            \
            e1 = attention_within(e1, p + 16, s->begin[r], s->end[r], unseen);       \
        }                                                                            \
        attention_weights(form, to + ATTN_WORDS(form, p - s->block), e0, e1, round); \
    }
    const size_t whole = t->even ? t->from : t->whole, whole_end = t->even ? t->to / 32 * 32 : t->whole_end;

    ATTN_EXPONENTIALS(t->from, whole, true)
    ATTN_EXPONENTIALS(whole, whole_end, false)
    ATTN_EXPONENTIALS(whole_end, t->to, true)
#undef ATTN_EXPONENTIALS
    v16_store(sum, sum0);
    v16_store(sum + 16, sum1);
}

/* Marks what a mask hides from row r. */
V16_FN void attention_hide(const enum v16_panel form, const struct tern_attention_rows *a,
                           const struct attention_state *s, const struct attention_tile *t, size_t r)
{
    const float *mask = a->mask[r];
    const v16 unseen = v16_set1(ATTN_UNSEEN(form));
    float *strip = s->strip + (r - t->row) * TERN_ATTN_BLOCK;

    for (size_t p = t->from; mask && p < t->to; p += 16) {
        const m16 hidden = v16_less(attention_mask(mask, p, s->begin[r], s->end[r]), v16_set1(-FLT_MAX));
        float *at = strip + ATTN_WORDS(form, p - s->block);
        if (form == V16_BF16_DOT)
            v16_store_bf16((uint16_t *)at, v16_select(hidden, unseen, v16_load_bf16((const uint16_t *)at)));
        else
            v16_store(at, v16_select(hidden, unseen, v16_load(at)));
    }
}

/* ---- rows ---- */

/* Row r's sums are written for the first time. */
V16_FN void attention_zero(struct attention_state *s, size_t r)
{
    memset(s->out + r * s->width, 0, s->width * sizeof *s->out);
    memset(s->sum + r * 32, 0, 32 * sizeof *s->sum);
    s->top[r] = -INFINITY;
    s->fresh[r] = false;
}

/* The sums of a tile: where all rows are new they begin with 0 by themselves. */
V16_FN void attention_begin(struct attention_state *s, struct attention_tile *t)
{
    t->fresh = true;
    for (size_t r = t->row; r < t->row + t->m; r++)
        t->fresh &= s->fresh[r];
    for (size_t r = t->row; r < t->row + t->m; r++) {
        if (s->fresh[r] && !t->fresh)
            attention_zero(s, r);
        s->fresh[r] = false;
    }
}

/* Whether the last positions that eight rows from `row` on see are stairs. */
V16_FN bool attention_stairs(const struct attention_state *s, size_t row, size_t m)
{
    bool stairs = m == ATTN_TILE && s->end[row] % ATTN_TILE == 1 && s->begin[row] < s->end[row];

    for (size_t i = 1; i < m; i++)
        stairs &= s->end[row + i] == s->end[row] + i;
    return stairs;
}

/* One softmax block for neighbouring rows, all of which see a part of it. */
V16_FN void attention_block(const enum v16_panel form, const struct tern_attention_rows *a, struct attention_state *s,
                            size_t row, size_t m, const char *next)
{
    const size_t per = ATTN_PER(form);
    const bool round = form == V16_BF16 || form == V16_BF16_DOT || a->round_bf16;
    struct attention_tile t = { .row = row, .m = m, .begin = SIZE_MAX, .all_end = SIZE_MAX, .next = next };
    v16 largest[ATTN_TILE];
    float base[ATTN_TILE];

    t.plain = a->scale > 0 && !(a->softcap > 0) && !a->slope;
    for (size_t r = row; r < row + m; r++) {
        t.begin = s->begin[r] < t.begin ? s->begin[r] : t.begin;
        t.end = s->end[r] > t.end ? s->end[r] : t.end;
        t.all_begin = s->begin[r] > t.all_begin ? s->begin[r] : t.all_begin;
        t.all_end = s->end[r] < t.all_end ? s->end[r] : t.all_end;
        t.plain &= !(a->mask && a->mask[r]);
    }
    t.from = t.begin / 32 * 32;
    t.to = ATTN_HALVES(m) ? (t.end + 15) / 16 * 16 : (t.end + 31) / 32 * 32;
    t.whole = (t.all_begin + 31) / 32 * 32;
    t.whole_end = t.all_end / 32 * 32;
    if (t.whole >= t.whole_end)
        t.whole = t.whole_end = t.to;
    const bool same_begin = t.begin == t.all_begin && t.begin % per == 0;
    t.stairs = ATTN_HEIGHT == ATTN_TILE && same_begin && !a->mask && attention_stairs(s, row, m);
    t.even = t.stairs || (same_begin && !a->mask && t.end == t.all_end && t.end % per == 0);
    t.all_begin = (t.all_begin + per - 1) / per * per;
    t.all_end = t.stairs ? t.all_end - 1 : t.all_end / per * per;
    attention_begin(s, &t);

    attention_scores(form, a, s, &t, largest);
    if (t.plain)
        for (size_t i = 0; i < m; i++)
            base[i] = attention_maximum(s, row + i, t.fresh, attention_scaled(a, v16_largest(largest[i])));
    else
        for (size_t i = 0; i < m; i++)
            base[i] = attention_maximum(s, row + i, t.fresh, attention_largest(a, s, &t, row + i));
    for (size_t i = 0; i < m; i++) {
        const char *ahead = attention_values_ahead(form, a, s, &t, i);
        if (round && ahead)
            attention_exponentials(form, true, s, &t, row + i, t.plain ? a->scale : 1, base[i], ahead, a->prefetch);
        else if (round)
            attention_exponentials(form, true, s, &t, row + i, t.plain ? a->scale : 1, base[i], NULL, TERN_PREFETCH_L1);
        else if (ahead)
            attention_exponentials(form, false, s, &t, row + i, t.plain ? a->scale : 1, base[i], ahead, a->prefetch);
        else
            attention_exponentials(form, false, s, &t, row + i, t.plain ? a->scale : 1, base[i], NULL,
                                   TERN_PREFETCH_L1);
    }
    for (size_t i = 0; t.hides && i < m; i++)
        attention_hide(form, a, s, &t, row + i);
    attention_values(form, a, s, &t);
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

/* A row of halves as pairs, 0 beyond its end. */
V16_FN void attention_query_pairs(const struct tern_attention_rows *a, size_t r, float *to)
{
    const uint16_t *from = (const uint16_t *)a->q + r * a->q_stride;
    uint16_t *half = (uint16_t *)to;
    size_t c = 0;

    for (; c + 32 <= a->head_dim; c += 32) /* words, never read as numbers */
        v16_store(to + c / 2, v16_load((const float *)(const void *)(from + c)));
    for (; c < a->head_dim; c++)
        half[c] = from[c];
    for (; c % 2; c++)
        half[c] = 0;
}

/* Whether products can read q where it stands: the type is theirs, and rows do not all share their sets of the first-level cache. */
V16_FN bool attention_in_place(const enum v16_panel form, const struct tern_attention_rows *a)
{
    const size_t size = a->half ? 2 : 4;
    const bool pairs = a->half && a->head_dim % 2 == 0 && a->q_stride % 2 == 0 && (uintptr_t)a->q % sizeof(float) == 0;

    return (form == V16_F32 || (form == V16_F16 && !a->half) || (form == V16_BF16_DOT && pairs)) &&
           a->q_stride * size % 4096 != 0;
}

/* Rows [r, end) of q, side by side: rounded to bf16 for products with bf16, as pairs where they take them. */
V16_FN void attention_queries(const enum v16_panel form, const struct tern_attention_rows *a,
                              const struct attention_state *s, size_t r, size_t end)
{
    for (; s->copy && r < end; r++) {
        float *to = s->copy + r * s->q_stride;

        if (form == V16_BF16_DOT && a->half) {
            attention_query_pairs(a, r, to);
            continue;
        }
        for (size_t c = 0; c < a->head_dim; c += 16) {
            const v16 v = attention_query_load(form, a, r, c);
            if (form == V16_BF16_DOT)
                v16_store_bf16((uint16_t *)to + c, v);
            else
                v16_store(to + c, form == V16_BF16 ? attention_round(v) : v);
        }
    }
}

/* n <= 16 elements of out from `at` on. */
V16_FN void attention_store(const enum v16_panel form, const struct tern_attention_rows *a, size_t at, v16 v, size_t n)
{
    if (form == V16_F32 || !a->half) {
        float *to = (float *)a->out + at;
        if (n == 16)
            v16_store(to, v);
        else
            v16_store_n(to, v, n);
    } else if (form == V16_F16) {
        uint16_t *to = (uint16_t *)a->out + at;
        if (n == 16)
            v16_store_f16(to, v);
        else
            v16_store_f16_n(to, v, n);
    } else {
        uint16_t *to = (uint16_t *)a->out + at;
        if (n == 16)
            v16_store_bf16(to, v);
        else
            v16_store_bf16_n(to, v, n);
    }
}

/* Sums of exponentials are 1 or more where anything is seen, so that their reciprocals are numbers. */
V16_FN void attention_results(const enum v16_panel form, const struct tern_attention_rows *a,
                              const struct attention_state *s, size_t r, size_t end)
{
    for (; r < end; r++) {
        const float *sum = s->sum + r * 32, *out = s->out + r * s->width;
        const float total = s->fresh[r] ? 0 : v16_sum32(v16_load(sum), v16_load(sum + 16));
        const v16 factor = v16_set1(1 / total);

        for (size_t c = 0; c < a->v_dim; c += 16) {
            const size_t left = a->v_dim - c;
            attention_store(form, a, r * a->out_stride + c,
                            total == 0 ? v16_set1(0) : v16_mul(v16_load(out + c), factor), left < 16 ? left : 16);
        }
    }
}

/* `rows` rows of `bytes` bytes come into the first-level cache while others are computed. */
V16_FN void attention_rows_ahead(const char *at, size_t rows, size_t stride, size_t bytes, const bool written)
{
    for (; rows > 0; rows--, at += stride)
        for (size_t b = 0; b < bytes; b += 64)
            if (written)
                __builtin_prefetch(at + b, 1, 3);
            else
                __builtin_prefetch(at + b, 0, 3);
}

/* Rows [r, end) of q and of out, where these are read or written next; where there are no more, the next call's q.  A function of its
 * own: calls that have none of it gain by not sharing registers with it. */
static __attribute__((noinline)) void TERN_K(attention_ahead_of)(const struct tern_attention_rows *a, size_t r,
                                                                 size_t end, bool queries, bool results)
{
    const size_t size = a->half ? 2 : 4, q_stride = a->q_stride * size, out_stride = a->out_stride * size;

    __asm__ volatile(""); /* a function that does no more than prefetch would not be called at all */
    if (queries && r == a->n_rows && a->next_q)
        attention_rows_ahead(a->next_q, attention_least(ATTN_TILE, a->n_rows), q_stride, a->head_dim * size, false);
    if (queries)
        attention_rows_ahead((const char *)a->q + r * q_stride, end - r, q_stride, a->head_dim * size, false);
    if (results)
        attention_rows_ahead((const char *)a->out + r * out_stride, end - r, out_stride, a->v_dim * size, true);
}

V16_FN void attention_rows(const enum v16_panel form, const struct tern_attention_rows *a)
{
    struct attention_state s;
    size_t first = SIZE_MAX, last = 0;

    s.strip = a->scratch;
    if (attention_in_place(form, a)) {
        s.q = a->q;
        s.copy = NULL;
        s.q_stride = a->q_stride * (a->half ? sizeof(uint16_t) : sizeof(float)) / sizeof(float);
    } else {
        s.q = s.copy = a->scratch + ATTN_TILE * TERN_ATTN_BLOCK;
        s.q_stride = (a->head_dim + 15) / 16 * 16;
    }
    s.width = (a->v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;
    s.sum = a->state;
    s.top = s.sum + a->n_rows * 32;
    s.out = s.top + (a->n_rows + 15) / 16 * 16;
    for (size_t r = 0; r < a->n_rows; r++) {
        s.fresh[r] = !a->resume;
        if (a->first[r] < a->last[r]) {
            first = attention_least((size_t)a->first[r], first);
            last = (size_t)a->last[r] > last ? (size_t)a->last[r] : last;
        }
    }

    const size_t from = first / TERN_ATTN_BLOCK * TERN_ATTN_BLOCK;
    /* with few positions sending for rows takes as long as waiting for them (fp16: not) */
    const bool many = form == V16_F16 || last > from + TERN_ATTN_BLOCK / 2;
    for (s.block = from; s.block < last; s.block += TERN_ATTN_BLOCK) {
        const size_t stop = s.block + TERN_ATTN_BLOCK;
        const char *next = stop < last ? attention_keys(form, a, stop)
                           : a->next   ? a->next
                                       : attention_keys(form, a, first);

        for (size_t r = 0; r < a->n_rows; r++) {
            const size_t begin = (size_t)a->first[r], end = a->last[r] > 0 ? (size_t)a->last[r] : 0;
            s.begin[r] = begin > s.block ? begin : s.block;
            s.end[r] = attention_least(end, stop);
        }
        for (size_t r = 0, end; r < a->n_rows; r = end) { /* runs of neighbours that see a part of the block */
            for (end = r; end < r + ATTN_TILE && end < a->n_rows && s.begin[end] < s.end[end]; end++)
                ;
            const size_t m = end - r;
            end = m ? end : r + 1;
            if (s.block == from)
                attention_queries(form, a, &s, r, end);
            const size_t ahead = attention_least(end + ATTN_TILE, a->n_rows);
            if (many)
                TERN_K(attention_ahead_of)(a, end, ahead, s.block == from || !s.copy, stop >= last && !a->more);
            if (m)
                attention_block(form, a, &s, r, m, next);
            if (stop >= last && !a->more)
                attention_results(form, a, &s, r, end);
        }
    }
    if (from >= last && !a->more) /* no row sees anything here */
        attention_results(form, a, &s, 0, a->n_rows);
    for (size_t r = 0; a->more && r < a->n_rows; r++)
        if (s.fresh[r])
            attention_zero(&s, r);
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

static void TERN_K(attention_f32_bf16)(const struct tern_attention_rows *a)
{
    attention_rows(V16_BF16, a);
}

static void TERN_K(attention_bf16)(const struct tern_attention_rows *a)
{
    TERN_K(attention_f32_bf16)(a);
}
#endif
