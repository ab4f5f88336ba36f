/* moe_forward.c: a mixture of experts: gate, groups of rows, a feed-forward for each group, the weighted sum.
 *
 * The experts' rows stand together in one matrix, each expert's behind those of the one before, so that an expert is two
 * products of ordinary shape on packed weights.  Its answer takes the place of its rows.  Who goes where is decided by one
 * thread: a walk over T k numbers, beside a product of as many rows.
 *
 * With several ranks each has some of the experts and all of the tokens.  Gate, capacity and normalisation are the same
 * everywhere, so that one sum over the ranks ends it; what every rank has whole (the dense feed-forward) is added after it. */
#include "modules/experts.h"

#include "base/arena.h"
#include "base/fpmode.h"
#include "ops/gating.h"
#include "ops/widen.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const char op[] = "moe";

struct forward {
    const struct tern_moe *m;
    const struct tern_kernels *kernels;
    size_t rows, k, capacity; /* tokens that an expert takes at most, <= rows */
    const void *input;
    void *output;
    tern_dtype dtype;
    tern_status status; /* of the all-reduce; thread 0's */

    float *wide;      /* [T][H]: the input where it is not fp32 */
    float *logits;    /* [T][X] */
    float *scores;    /* [T][k], 0 where dropped */
    int32_t *experts; /* [T][k] */
    int32_t *slots;   /* [T][k]: place in the expert's queue, then row of `grouped`; -1: dropped, or of another rank */
    int32_t *counts;  /* [X] tokens taken */
    size_t *begin;    /* [X' + 1] rows of `grouped` */
    float *gate;      /* [threads][2 X] */
    int32_t *queue;   /* [T] with drop_policy probs: a heap of choices */
    float *grouped;   /* [rows of all experts][H]: what they read, then what they answer */
    float *inner;     /* [most][pI], tern_feed_forward_most of T */
    void *narrow;     /* of the products, or NULL */
    float *mixed;     /* [T][H] */
    float *dense;     /* [T][H] of the dense feed-forward */
    float *pair;      /* [T][2] */
};

/* ceil(T / X f k) in fp32, as the reference has it.  volatile holds the arithmetic between the two calls. */
static float most_tokens(const struct tern_moe *m, size_t rows)
{
    const tern_fpmode caller = tern_fpmode_enter();
    volatile double tokens = (double)rows, given = m->moe.eval_capacity_factor;
    const float share = (float)(tokens / (double)m->n_experts), factor = (float)(given * m->moe.k);
    volatile float most = ceilf(share * factor);

    tern_fpmode_leave(caller);
    return most;
}

/* C of T tokens, at most T, which is as good as no limit: a token chooses an expert once. */
static size_t capacity_of(const struct tern_moe *m, size_t rows)
{
    const float most = most_tokens(m, rows);

    if (!m->moe.drop_tokens || most >= (float)rows)
        return rows;
    const size_t least = (size_t)m->moe.min_capacity, capacity = (size_t)most;
    return capacity >= least ? capacity : least < rows ? least : rows;
}

static void take_scratch(struct tern_arena *arena, int n_threads, struct forward *f)
{
    const struct tern_moe *m = f->m;
    const size_t k_here = f->k < m->n_here ? f->k : m->n_here, limit = tern_mul_or_max(m->n_here, f->capacity);
    const size_t chosen = f->rows * k_here, grouped = chosen < limit ? chosen : limit;
    const size_t largest = m->residual ? f->rows : f->capacity, hidden = m->hidden * sizeof(float);
    size_t narrow = 0;

    for (size_t e = 0; tern_config_narrow(&m->config) && e < m->n_here + m->residual; e++) {
        const size_t rows = e < m->n_here ? f->capacity : f->rows;
        const size_t bytes = tern_feed_forward_scratch(&m->experts[e].feed_forward, rows);
        narrow = bytes > narrow ? bytes : narrow;
    }
    f->wide = f->dtype != TERN_FP32 ? tern_arena_take(arena, f->rows, hidden) : NULL;
    f->logits = tern_arena_take(arena, f->rows, m->n_experts * sizeof(float));
    f->scores = TERN_TAKE(arena, float, f->rows * f->k);
    f->experts = TERN_TAKE(arena, int32_t, f->rows * f->k);
    f->slots = TERN_TAKE(arena, int32_t, f->rows * f->k);
    f->counts = TERN_TAKE(arena, int32_t, m->n_experts);
    f->begin = TERN_TAKE(arena, size_t, m->n_here + 1);
    f->gate = tern_arena_take(arena, (size_t)n_threads, 2 * m->n_experts * sizeof(float));
    f->queue = m->moe.drop_policy == TERN_MOE_DROP_PROBS ? TERN_TAKE(arena, int32_t, f->capacity) : NULL;
    f->grouped = tern_arena_take(arena, grouped, hidden);
    f->inner = tern_arena_take(arena, tern_feed_forward_most(n_threads, largest), m->up * sizeof(float));
    f->narrow = narrow ? tern_arena_take(arena, narrow, 1) : NULL;
    f->mixed = tern_arena_take(arena, f->rows, hidden);
    f->dense = m->residual ? tern_arena_take(arena, f->rows, hidden) : NULL;
    f->pair = m->residual ? TERN_TAKE(arena, float, 2 * f->rows) : NULL;
}

/* ---- who goes where ---- */

static void drop(struct forward *f, size_t choice)
{
    f->slots[choice] = -1;
    f->scores[choice] = 0;
}

/* Offers choice i (of token i / k) to its expert, which has taken counts[e] so far. */
static void offer(struct forward *f, size_t i)
{
    const int32_t e = f->experts[i];

    if ((size_t)f->counts[e] < f->capacity) {
        f->slots[i] = f->counts[e]++;
    } else {
        drop(f, i);
    }
}

/* With k = 2 the second choices come after all first ones, as in the reference; else token after token. */
static void take_in_order(struct forward *f)
{
    const size_t passes = f->k == 2 ? 2 : 1;

    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = pass; i < f->rows * f->k; i += passes)
            offer(f, i);
}

/* Whether choice a gives way to choice b: a smaller probability (no number is the smallest), or the same and a later token. */
static bool gives_way(const struct forward *f, int32_t a, int32_t b)
{
    const float p = isnan(f->scores[a]) ? -1 : f->scores[a], q = isnan(f->scores[b]) ? -1 : f->scores[b];

    return p < q || (p == q && a > b);
}

/* Lets queue[at] sink in a heap of n whose top gives way to all others. */
static void sink(const struct forward *f, size_t at, size_t n)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
            if (gives_way(f, f->queue[child], f->queue[least]))
                least = child;
        if (least == at)
            return;
        const int32_t other = f->queue[least];
        f->queue[least] = f->queue[at];
        f->queue[at] = other;
        at = least;
    }
}

/* Leaves expert e its `capacity` most probable choices: a heap of them, the next to give way at its top. */
static void drop_improbable(struct forward *f, int32_t e)
{
    size_t n = 0;

    for (int32_t i = 0; (size_t)i < f->rows * f->k; i++) {
        if (f->experts[i] != e)
            continue;
        if (n < f->capacity) {
            f->queue[n++] = i;
            for (size_t at = n == f->capacity ? n / 2 : 0; at-- > 0;)
                sink(f, at, n);
        } else if (n && gives_way(f, f->queue[0], i)) {
            drop(f, (size_t)f->queue[0]);
            f->queue[0] = i;
            sink(f, 0, n);
        } else {
            drop(f, (size_t)i);
        }
    }
}

static void take_most_probable(struct forward *f)
{
    const size_t n = f->rows * f->k;

    for (size_t i = 0; i < n; i++)
        f->slots[i] = f->counts[f->experts[i]]++;
    for (size_t e = 0; e < f->m->n_experts; e++) {
        if ((size_t)f->counts[e] > f->capacity)
            drop_improbable(f, (int32_t)e);
        f->counts[e] = 0;
    }
    for (size_t i = 0; i < n; i++)
        if (f->slots[i] >= 0)
            f->slots[i] = f->counts[f->experts[i]]++;
}

/* Slots, then the rows of `grouped` that they are.  One thread. */
static void place(struct forward *f)
{
    const struct tern_moe *m = f->m;

    memset(f->counts, 0, m->n_experts * sizeof *f->counts);
    if (m->moe.drop_policy == TERN_MOE_DROP_PROBS)
        take_most_probable(f);
    else
        take_in_order(f);
    f->begin[0] = 0;
    for (size_t e = 0; e < m->n_here; e++)
        f->begin[e + 1] = f->begin[e] + (size_t)f->counts[m->first + e];
    for (size_t i = 0; i < f->rows * f->k; i++) {
        const size_t e = (size_t)f->experts[i];
        const bool here = e >= m->first && e - m->first < m->n_here;
        if (f->slots[i] >= 0)
            f->slots[i] = here ? (int32_t)f->begin[e - m->first] + f->slots[i] : -1;
    }
}

static void choose(const struct tern_par *par, struct forward *f)
{
    const size_t n = f->m->n_experts;
    size_t row, end;

    tern_share(par, f->rows, 1, &row, &end);
    for (; row < end; row++)
        tern_gate_row(par->kernels, f->logits + row * n, n, f->k, f->scores + row * f->k, f->experts + row * f->k,
                      f->gate + 2 * n * (size_t)par->thread);
    tern_barrier(par);
    if (par->thread == 0)
        place(f);
    tern_barrier(par);
}

/* ---- there and back ---- */

static void widen_rows(const struct tern_par *par, struct forward *f)
{
    const size_t n = f->m->hidden;
    size_t row, end;

    tern_share(par, f->rows, 1, &row, &end);
    if (row < end)
        tern_wide_load(par->kernels, f->wide + row * n, f->input, f->dtype, row * n, (end - row) * n);
    tern_barrier(par);
}

static void mix_rows(const struct tern_par *par, struct forward *f)
{
    const size_t n = f->m->hidden;
    size_t row, end;

    tern_share(par, f->rows, 1, &row, &end);
    for (; row < end; row++) {
        const float *scores = f->scores + row * f->k;
        const int32_t *slots = f->slots + row * f->k;
        float *sum = f->mixed + row * n, total = 0;

        for (size_t j = 0; j < f->k; j++)
            total += scores[j];
        total = !f->m->normalize ? 1 : total > FLT_EPSILON ? total : FLT_EPSILON;
        memset(sum, 0, n * sizeof *sum);
        for (size_t j = 0; j < f->k; j++)
            if (slots[j] >= 0)
                par->kernels->axpy_f32(sum, f->grouped + (size_t)slots[j] * n, sum, scores[j] / total, n, NULL);
    }
    tern_barrier(par);
}

/* mixed = c_0 mixed + c_1 dense. */
static void run_dense(const struct tern_par *par, struct forward *f, const float *x)
{
    const struct tern_moe *m = f->m;
    const struct tern_expert *dense = &m->experts[m->n_here];
    const struct tern_epilogue end = { .bias = dense->down_b }, pair = { .bias = m->coef_b };
    const size_t n = m->hidden;
    size_t row, rows_end;

    tern_feed_forward_run(par, &dense->feed_forward, f->dense, n, x, n, f->rows, f->inner, &end, f->narrow);
    tern_gemm_run(par, f->pair, 2, x, n, f->rows, m->coef, &pair);
    tern_share(par, f->rows, 1, &row, &rows_end);
    for (; row < rows_end; row++) {
        const float *y = f->dense + row * n;
        float *mixed = f->mixed + row * n, c[2];
        par->kernels->softmax_f32(c, f->pair + 2 * row, NULL, 2, 0, 2, 1, 0, NULL);
        for (size_t i = 0; i < n; i++)
            mixed[i] = mixed[i] * c[0] + y[i] * c[1];
    }
    tern_barrier(par);
}

static void forward_region(void *arg, const struct tern_par *team)
{
    struct forward *f = arg;
    const struct tern_moe *m = f->m;
    const struct tern_par par = tern_par_with(team, f->kernels);
    const struct tern_epilogue plain = { .act = TERN_ACT_NONE };
    const float *x = f->wide ? f->wide : f->input;
    size_t row, end;

    if (f->wide)
        widen_rows(&par, f);
    tern_gemm_run(&par, f->logits, m->n_experts, x, m->hidden, f->rows, m->gate, &plain);
    choose(&par, f);
    tern_experts_group(&par, f->grouped, x, f->slots, f->rows, f->k, m->hidden);
    tern_experts_answer(&par, m->experts, m->n_here, f->begin, f->grouped, m->hidden, f->inner, f->narrow);
    mix_rows(&par, f);
    if (m->comm->size > 1) {
        if (par.thread == 0)
            f->status = m->comm->all_reduce(m->comm->user, f->mixed, f->rows * m->hidden);
        tern_barrier(&par);
        if (f->status != TERN_OK)
            return;
    }
    if (m->residual)
        run_dense(&par, f, x);
    tern_share(&par, f->rows, 1, &row, &end);
    if (row < end)
        tern_wide_store(par.kernels, f->output, f->dtype, row * m->hidden, f->mixed + row * m->hidden,
                        (end - row) * m->hidden);
}

tern_status tern_moe_forward(tern_ctx *ctx, const tern_moe *moe, const tern_tensor *input, tern_tensor *output)
{
    struct tern_arena arena = tern_arena_counter();
    struct forward f = { .m = moe };

    TERN_REQUIRE(ctx, ctx && moe, TERN_ERR_ARG, "%s: %s is NULL", op, ctx ? "moe" : "ctx");
    const int64_t hidden = (int64_t)moe->hidden;
    f.dtype = tern_config_activation(&moe->config);
    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, f.dtype, -1, hidden, &f.rows, NULL));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, f.dtype, (int64_t)f.rows, hidden, NULL, NULL));
    const struct tern_operand operands[] = { { "input", input, false, true }, { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    f.k = (size_t)moe->moe.k;
    TERN_REQUIRE(ctx, f.rows <= INT32_MAX / f.k, TERN_ERR_SHAPE,
                 "%s: %zu rows with %zu experts each, expected at most %d", op, f.rows, f.k, INT32_MAX);
    if (f.rows == 0)
        return TERN_OK;

    f.kernels = tern_kernels_for(ctx, &moe->config);
    f.capacity = capacity_of(moe, f.rows);
    f.input = input->data;
    f.output = output->data;
    take_scratch(&arena, tern_ctx_threads(ctx), &f);
    TERN_TRY(tern_arena_borrow(ctx, arena.used, "scratch of a mixture of experts", &arena));
    take_scratch(&arena, tern_ctx_threads(ctx), &f);
    tern_status status = tern_region(ctx, forward_region, &f);
    if (status == TERN_OK && f.status != TERN_OK)
        status = tern_fail(ctx, f.status, "%s: all_reduce failed: %s", op, tern_status_name(f.status));
    tern_arena_return(ctx, &arena);
    return status;
}
