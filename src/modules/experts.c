/* experts.c: see experts.h.  Who goes where is decided by one thread: a walk over T k numbers, beside a product of as many rows. */
#include "modules/experts.h"

#include "ops/checks.h"
#include "ops/gating.h"
#include "ops/widen.h"

#include <string.h>

/* ---- scratch ---- */

void tern_experts_work_take(struct tern_arena *arena, const struct tern_experts *experts, size_t max_rows,
                            int n_threads, struct tern_experts_work *work)
{
    const size_t hidden = (size_t)experts->router->in * sizeof(float), chosen = tern_mul_or_max(max_rows, experts->k);

    *work = (struct tern_experts_work){ 0 };
    work->logits = tern_arena_take(arena, max_rows, experts->n * sizeof(float));
    work->scores = TERN_TAKE(arena, float, chosen);
    work->chosen = TERN_TAKE(arena, int32_t, chosen);
    work->slots = TERN_TAKE(arena, int32_t, chosen);
    work->begin = TERN_TAKE(arena, size_t, experts->n + 1);
    work->choice = tern_arena_take(arena, (size_t)n_threads, 2 * experts->n * sizeof(float));
    work->grouped = tern_arena_take(arena, chosen, hidden);
    work->sum = tern_arena_take(arena, (size_t)n_threads, hidden);
    if (experts->shared.feed_forward.up) {
        work->shared = tern_arena_take(arena, max_rows, hidden);
        work->weight = TERN_TAKE(arena, float, max_rows);
    }
}

/* Experts have the same sizes: the first that is here stands for all. */
static const struct tern_feed_forward_args *shapes(const struct tern_experts *experts, int i)
{
    for (size_t e = 0; i == 0 && e < experts->n; e++)
        if (experts->experts[e].feed_forward.up)
            return &experts->experts[e].feed_forward;
    return i == 1 && experts->shared.feed_forward.up ? &experts->shared.feed_forward : NULL;
}

size_t tern_experts_inner(const struct tern_experts *experts)
{
    size_t widest = 0;

    for (int i = 0; i < 2; i++) {
        const struct tern_feed_forward_args *args = shapes(experts, i);
        if (args && (size_t)args->up->out > widest)
            widest = (size_t)args->up->out;
    }
    return widest;
}

size_t tern_experts_narrow(const struct tern_experts *experts, size_t max_rows)
{
    size_t most = 0;

    for (int i = 0; i < 2; i++) {
        const struct tern_feed_forward_args *args = shapes(experts, i);
        const size_t bytes = args ? tern_feed_forward_scratch(args, max_rows) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- who goes where ---- */

/* The k of a row in ascending order of their numbers, each with its score. */
static void sort_row(int32_t *chosen, float *scores, size_t k)
{
    for (size_t i = 1; i < k; i++)
        for (size_t j = i; j > 0 && chosen[j] < chosen[j - 1]; j--) {
            const int32_t expert = chosen[j];
            const float score = scores[j];
            chosen[j] = chosen[j - 1];
            scores[j] = scores[j - 1];
            chosen[j - 1] = expert;
            scores[j - 1] = score;
        }
}

static void choose_row(const struct tern_kernels *kernels, const struct tern_experts *experts, const float *logits,
                       float *scores, int32_t *chosen, float *scratch)
{
    float total = 0;

    tern_gate_row(kernels, logits, experts->n, experts->k, scores, chosen, scratch);
    for (size_t j = 0; j < experts->k; j++)
        total += scores[j];
    for (size_t j = 0; experts->normalize && j < experts->k; j++)
        scores[j] /= total;
    sort_row(chosen, scores, experts->k);
}

static bool is_here(const struct tern_experts *experts, int32_t expert)
{
    return experts->experts[expert].feed_forward.up != NULL;
}

/* Rows of an expert stand in the order of the batch. */
static void place(const struct tern_experts *experts, size_t n_rows, const struct tern_experts_work *work)
{
    const size_t n_chosen = n_rows * experts->k;
    size_t *begin = work->begin;

    memset(begin, 0, (experts->n + 1) * sizeof *begin);
    for (size_t i = 0; i < n_chosen; i++)
        begin[work->chosen[i] + 1] += is_here(experts, work->chosen[i]);
    for (size_t e = 0; e < experts->n; e++)
        begin[e + 1] += begin[e];
    for (size_t i = 0; i < n_chosen; i++)
        work->slots[i] = is_here(experts, work->chosen[i]) ? (int32_t)begin[work->chosen[i]]++ : -1;
    /* Each stands at its expert's end now, which is the next one's begin. */
    memmove(begin + 1, begin, experts->n * sizeof *begin);
    begin[0] = 0;
}

static void choose(const struct tern_par *par, const struct tern_experts *experts, size_t n_rows,
                   const struct tern_experts_work *work)
{
    const size_t n = experts->n, k = experts->k;
    size_t row, end;

    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++)
        choose_row(par->kernels, experts, work->logits + row * n, work->scores + row * k, work->chosen + row * k,
                   work->choice + 2 * n * (size_t)par->thread);
    tern_barrier(par);
    if (par->thread == 0)
        place(experts, n_rows, work);
    tern_barrier(par);
}

/* ---- there and back ---- */

void tern_experts_group(const struct tern_par *par, float *grouped, const float *x, const int32_t *slots, size_t n_rows,
                        size_t k, size_t n)
{
    size_t row, end;

    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++)
        for (size_t j = 0; j < k; j++)
            if (slots[row * k + j] >= 0)
                memcpy(grouped + (size_t)slots[row * k + j] * n, x + row * n, n * sizeof *x);
    tern_barrier(par);
}

void tern_experts_answer(const struct tern_par *par, const struct tern_expert *experts, size_t n_experts,
                         const size_t *begin, float *grouped, size_t n, float *inner, void *narrow)
{
    for (size_t e = 0; e < n_experts; e++) {
        const struct tern_epilogue end = { .bias = experts[e].down_b };
        float *rows = grouped + begin[e] * n;
        if (begin[e + 1] > begin[e])
            tern_feed_forward_run(par, &experts[e].feed_forward, rows, n, rows, n, begin[e + 1] - begin[e], inner, &end,
                                  narrow);
    }
}

static void run_shared(const struct tern_par *par, const struct tern_experts *experts, const float *x, size_t n_rows,
                       const struct tern_experts_work *work)
{
    const struct tern_epilogue end = { .bias = experts->shared.down_b }, plain = { .act = TERN_ACT_NONE };
    const size_t n = (size_t)experts->router->in;

    tern_feed_forward_run(par, &experts->shared.feed_forward, work->shared, n, x, n, n_rows, work->inner, &end,
                          work->narrow);
    if (experts->gate)
        tern_gemm_run(par, work->weight, 1, x, n, n_rows, experts->gate, &plain);
}

static void mix_row(const struct tern_kernels *kernels, const struct tern_experts *experts, float *sum, size_t row,
                    const struct tern_experts_work *work)
{
    const size_t n = (size_t)experts->router->in, k = experts->k;

    memset(sum, 0, n * sizeof *sum);
    for (size_t j = 0; j < k; j++)
        if (work->slots[row * k + j] >= 0)
            kernels->axpy_f32(sum, work->grouped + (size_t)work->slots[row * k + j] * n, sum, work->scores[row * k + j],
                              n, NULL);
    if (experts->shared.feed_forward.up) {
        float weight = 1;
        if (experts->gate)
            kernels->act_f32(&weight, work->weight + row, NULL, 1, TERN_ACT_SIGMOID, NULL);
        kernels->axpy_f32(sum, work->shared + row * n, sum, weight, n, NULL);
    }
}

void tern_experts_run(const struct tern_par *par, const struct tern_experts *experts, float *c, const float *x,
                      const float *residual, size_t n_rows, const struct tern_experts_work *work)
{
    const struct tern_epilogue plain = { .act = TERN_ACT_NONE };
    const size_t n = (size_t)experts->router->in;
    size_t row, end;

    tern_gemm_run(par, work->logits, experts->n, x, n, n_rows, experts->router, &plain);
    choose(par, experts, n_rows, work);
    tern_experts_group(par, work->grouped, x, work->slots, n_rows, experts->k, n);
    tern_experts_answer(par, experts->experts, experts->n, work->begin, work->grouped, n, work->inner, work->narrow);
    if (experts->shared.feed_forward.up)
        run_shared(par, experts, x, n_rows, work);

    float *sum = work->sum + (size_t)par->thread * n;
    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++) {
        mix_row(par->kernels, experts, sum, row, work);
        if (residual)
            par->kernels->axpy_f32(c + row * n, sum, residual + row * n, 1, n, NULL);
        else
            memcpy(c + row * n, sum, n * sizeof *sum);
    }
    tern_barrier(par);
}
