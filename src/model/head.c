/* head.c: see head.h. */
#include "model/head.h"

#include "base/math_f64.h"
#include "model/arch.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define GATHERED ((size_t)1 << 16) /* scores of a rank that go on their way together, or a row of them */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void tern_head_work_take(struct tern_arena *arena, const struct tern_head *head, size_t hidden, size_t max_logits,
                         bool narrow, struct tern_model_work *work)
{
    size_t scratch = 0;

    work->final = TERN_TAKE(arena, float, max_logits *hidden);
    if (head->comm) {
        const size_t most = (size_t)head->most, rows = GATHERED / most > 1 ? GATHERED / most : 1;
        work->gather_rows = rows < max_logits ? rows : max_logits;
        work->words = TERN_TAKE(arena, float, max_logits *most);
        work->gathered = tern_arena_take(arena, (size_t)head->comm->size, work->gather_rows * most * sizeof(float));
    }
    if (head->dense || head->mean)
        work->second = TERN_TAKE(arena, float, max_logits *larger(hidden, head->dense ? (size_t)head->dense->out : 0));
    if (!narrow)
        return;
    if (head->dense)
        scratch = tern_gemm_scratch(head->dense, max_logits);
    if (head->out)
        scratch = larger(scratch, tern_gemm_scratch(head->out, max_logits));
    work->narrow = tern_arena_take(arena, scratch, 1);
}

size_t tern_head_width(const struct tern_head *head, size_t hidden)
{
    return head->comm    ? (size_t)head->words
           : head->out   ? (size_t)head->out->out
           : head->dense ? (size_t)head->dense->out
                         : hidden;
}

/* One row behind the final norm. */
static void norm_row(const struct tern_par *par, const struct tern_head *head, float *to, const float *x, size_t n)
{
    if (head->norm)
        tern_norm_row(par->kernels, to, NULL, x, NULL, NULL, n, head->norm);
    else
        memcpy(to, x, n * sizeof *x);
}

/* The mean of a span's rows, added up in order. */
static void mean_row(const struct tern_par *par, const struct tern_head *head, float *to, float *row,
                     const tern_kv_span *span, const float *x, size_t n)
{
    const float share = 1 / (float)span->n_rows;

    memset(to, 0, n * sizeof *to);
    for (int32_t t = 0; t < span->n_rows; t++) {
        norm_row(par, head, row, x + ((size_t)span->row + (size_t)t) * n, n);
        for (size_t k = 0; k < n; k++)
            to[k] += row[k];
    }
    for (size_t k = 0; k < n; k++)
        to[k] *= share;
}

/* cap tanh(x / cap) of n rows of `width`, ld apart, each thread a share.  In f64, where 1 - 2 / (e^2x + 1) loses nothing that f32
 * has. */
static void cap_logits(const struct tern_par *par, float *logits, size_t n, size_t width, size_t ld, float cap)
{
    size_t i, end;

    tern_share(par, n * width, 16, &i, &end);
    for (; i < end; i++) {
        float *logit = &logits[i / width * ld + i % width];
        const double x = (double)*logit / (double)cap;
        /* Beyond 20 it is 1 to f64; the exponential of a large number is not asked for. */
        const double t = fabs(x) > 20 ? copysign(1, x) : 1 - 2 / (tern_exp_f64(2 * x) + 1);
        *logit = isnan(x) ? *logit : (float)((double)cap * t);
    }
    tern_barrier(par);
}

/* c [n_rows, ld] = act(rows W + bias) through the rows that the weight's products take. */
static void product(const struct tern_par *par, float *c, size_t ld, const float *x, size_t n_rows,
                    const struct tern_weight *w, const float *bias, enum tern_act act, void *narrow)
{
    const struct tern_epilogue end = { .bias = bias, .act = act };
    const struct tern_rows rows = tern_rows_from(par, w, narrow, x, (size_t)w->in, n_rows);

    tern_gemm_run_rows(par, c, ld, &rows, n_rows, w, &end);
}

/* The columns of all ranks side by side in logits [n, C], on every rank; NULL: for the others' sake.  Thread 0 speaks
 * for the process. */
static tern_status gather(const struct tern_head *head, float *logits, size_t n, const struct tern_model_work *work)
{
    const tern_comm *comm = head->comm;
    const size_t most = (size_t)head->most, C = (size_t)head->words;

    for (size_t row = 0, rows; row < n; row += rows) {
        rows = n - row < work->gather_rows ? n - row : work->gather_rows;
        TERN_TRY(comm->all_gather(comm->user, work->words + row * most, work->gathered, rows * most));
        for (int rank = 0; logits && rank < comm->size; rank++) {
            const struct tern_shard shard = tern_shard_of(head->words, TERN_PANEL, rank, comm->size);
            for (size_t r = 0; r < rows; r++)
                memcpy(logits + (row + r) * C + (size_t)shard.first, work->gathered + ((size_t)rank * rows + r) * most,
                       (size_t)shard.count * sizeof *logits);
        }
    }
    return TERN_OK;
}

tern_status tern_head_run(const struct tern_par *par, const struct tern_head *head, const tern_model *model,
                          const struct tern_batch *batch, const struct tern_model_work *work)
{
    const size_t H = (size_t)model->config.hidden_size, n_rows = batch->kv.n_rows, n = batch->n_logits;
    const float *from = work->final;
    size_t row, end, width = H;

    if (batch->hidden && head->norm)
        tern_norm_run(par, batch->hidden + ((size_t)model->config.n_layers + 1) * n_rows * H, NULL, work->x, NULL, NULL,
                      n_rows, H, head->norm); /* [T, H] */
    else if (batch->hidden)
        tern_forward_keep(par, model, batch, model->config.n_layers + 1, work->x);
    if (batch->states) {
        tern_share(par, n_rows, 1, &row, &end);
        for (; row < end; row++)
            norm_row(par, head, batch->states + row * H, work->x + row * H, H);
    }
    if (n == 0) {
        tern_barrier(par);
        return TERN_OK;
    }
    assert(!head->mean || n == batch->kv.n_spans);
    tern_share(par, n, 1, &row, &end);
    for (; row < end; row++) {
        float *to = work->final + row * H;
        if (head->mean)
            mean_row(par, head, to, work->second + row * H, &batch->kv.spans[row], work->x, H);
        else
            norm_row(par, head, to, work->x + (size_t)batch->logit_rows[row] * H, H);
    }
    tern_barrier(par);
    if (head->dense) {
        float *to = head->out ? work->second : batch->logits;
        width = (size_t)head->dense->out;
        product(par, to, width, from, n, head->dense, head->dense_bias, head->act, work->narrow); /* [n, D] */
        if (head->dense_norm)
            tern_norm_run(par, to, NULL, to, NULL, NULL, n, width, head->dense_norm);
        from = to;
    }
    if (head->out) {
        float *to = head->comm ? work->words : batch->logits;
        const size_t ld = head->comm ? (size_t)head->most : (size_t)head->out->out;
        product(par, to, ld, from, n, head->out, head->bias, TERN_ACT_NONE, work->narrow); /* [n, C] */
        if (head->cap > 0)
            cap_logits(par, to, n, (size_t)head->out->out, ld, head->cap);
        if (head->comm) {
            if (par->thread == 0)
                *work->block.status = gather(head, batch->logits, n, work);
            tern_barrier(par);
            return *work->block.status;
        }
    } else if (!head->dense) {
        tern_share(par, n, 1, &row, &end);
        if (row < end)
            memcpy(batch->logits + row * width, from + row * width, (end - row) * width * sizeof *from);
        tern_barrier(par);
    }
    return TERN_OK;
}
