/* block.c: see block.h.
 *
 * In one process biases, residuals and activations are epilogues of the products, so the norms are the only passes of their own.
 * Where several ranks share the block, A and F are partial sums: they are reduced first, and what is whole on every rank is
 * added once, after it. */
#include "modules/block.h"

#include "base/memory.h"
#include "ops/checks.h"

#include <assert.h>
#include <string.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void tern_block_work_take(struct tern_arena *arena, const struct tern_block *const *blocks, size_t n_blocks,
                          size_t max_rows, int n_threads, struct tern_block_work *work)
{
    const size_t hidden = blocks[0]->hidden * sizeof(float),
                 room = max_rows + TERN_REDUCE_ROOM; /* a row more than enough */
    const struct tern_experts *experts = NULL;
    size_t inner = 0, narrow = 0;

    for (size_t i = 0; i < n_blocks; i++) {
        const struct tern_block *b = blocks[i];
        experts = b->experts ? b->experts : experts;
        inner = larger(inner, b->experts ? tern_experts_inner(b->experts) : (size_t)b->mlp.feed_forward.up->out);
        if (!b->narrow)
            continue;
        narrow = larger(narrow, tern_attention_narrow(&b->attention, max_rows));
        narrow = larger(narrow, b->experts ? tern_experts_narrow(b->experts, max_rows)
                                           : tern_feed_forward_scratch(&b->mlp.feed_forward, max_rows));
    }
    work->max_rows = max_rows;
    work->normed = tern_arena_take(arena, max_rows, hidden);
    tern_attention_work_take(arena, &blocks[0]->attention, max_rows, n_threads, &work->attention);
    work->attn = tern_arena_take(arena, room, hidden);
    work->inner =
        tern_arena_take(arena, tern_feed_forward_most(n_threads, max_rows), tern_mul_or_max(inner, sizeof(float)));
    work->hidden = tern_arena_take(arena, room, hidden);
    work->status = TERN_TAKE(arena, tern_status, 1);
    work->narrow = blocks[0]->narrow ? tern_arena_take(arena, narrow, 1) : NULL;
    work->attention.narrow = work->narrow;
    if (experts)
        tern_experts_work_take(arena, experts, max_rows, n_threads, &work->experts);
    work->experts.inner = work->inner;
    work->experts.narrow = work->narrow;
}

/* F through `e`, which has a residual or nothing where F is a mixture.  Its rows are fp32 for the router; what its experts read is
 * rounded group by group. */
static void run_feed_forward(const struct tern_par *par, const struct tern_block *b, float *c,
                             const struct tern_mlp_input *input, bool keep, size_t n_rows,
                             const struct tern_block_work *work, const struct tern_epilogue *e)
{
    if (!b->experts) {
        tern_mlp_run(par, &b->mlp, c, input, work->normed, keep, n_rows, work->inner, e, work->narrow);
        return;
    }
    assert(b->form == TERN_BLOCK_PRE && b->mlp.norm.gamma && !e->bias && !e->residual2);
    tern_norm_run(par, work->normed, input->sum, input->x, input->bias, input->residual, n_rows, b->hidden,
                  &b->mlp.norm);
    tern_experts_run(par, b->experts, c, work->normed, e->residual, n_rows, &work->experts);
}

tern_status tern_rows_reduce(const struct tern_par *par, const tern_comm *comm, float *data, size_t n,
                             const struct tern_block_work *work)
{
    if (par->thread == 0) {
        if (work->cancel)
            data[n] = atomic_load_explicit(work->cancel, memory_order_relaxed) ? 1 : 0;
        *work->status = comm->all_reduce(comm->user, data, n + (work->cancel != NULL));
        if (work->cancel && *work->status == TERN_OK && data[n] != 0)
            *work->status = TERN_ERR_CANCELLED;
    }
    tern_barrier(par);
    return *work->status;
}

/* c through `e`, which adds nothing where other ranks have parts of it.  A rank without heads has none. */
static void run_attention(const struct tern_par *par, const struct tern_block *b, float *c, const float *x,
                          float *normed, bool keep, const struct tern_kv_batch *batch, int32_t cache_layer,
                          const struct tern_attention_work *work, const struct tern_epilogue *e)
{
    const size_t n = b->hidden;
    size_t row, end;

    if (b->attention.qkv_w) {
        tern_attention_run(par, &b->attention, c, x, normed, keep, batch, cache_layer, work, e);
        return;
    }
    if (keep && b->attention.norm.gamma)
        tern_norm_run(par, normed, NULL, x, NULL, NULL, batch->n_rows, n, &b->attention.norm);
    tern_share(par, batch->n_rows, 1, &row, &end);
    if (row < end)
        memset(c + row * n, 0, (end - row) * n * sizeof *c);
    tern_barrier(par);
}

/* x = hidden + ((residual + final_bias) + attention_bias), rows split; residual may be x. */
static void add_residual(const struct tern_par *par, float *x, const float *hidden, const float *residual,
                         const float *final_bias, const float *attention_bias, size_t n_rows, size_t n)
{
    const struct tern_residual_terms terms = {
        .attention_bias = attention_bias, .final_bias = final_bias, .inv_mp = 1, .attention_inside = true
    };
    size_t row, end;

    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++)
        par->kernels->residual_add_f32(x + row * n, hidden + row * n, residual + row * n, &terms, n, NULL);
    tern_barrier(par);
}

/* One process: A ends in x (pre) or in a sum beside it (post). */
static void run_alone(const struct tern_par *par, const struct tern_block *b, float *x,
                      const struct tern_kv_batch *batch, int32_t cache_layer, const struct tern_block_work *work)
{
    const struct tern_attention_bound *attention = &b->attention;
    const struct tern_mlp_bound *mlp = &b->mlp;
    const size_t n = b->hidden, rows = batch->n_rows;
    const bool pre = b->form == TERN_BLOCK_PRE, kept = b->norm_residual;
    float *s = pre ? x : work->attn, *end = pre ? x : work->hidden, *normed = work->normed;
    const float *rest = pre && !kept ? x : normed;
    const struct tern_epilogue attn_end = { .bias = attention->out_b, .residual = kept ? normed : x, .ld_residual = n };
    const struct tern_epilogue mlp_end = { .bias = mlp->down_b, .residual = rest, .ld_residual = n };
    const struct tern_mlp_input input = { .x = s };

    tern_attention_run(par, attention, s, x, normed, kept, batch, cache_layer, &work->attention, &attn_end);
    run_feed_forward(par, b, end, &input, !pre || kept, rows, work, &mlp_end);
    if (!pre)
        tern_norm_run(par, x, NULL, end, NULL, NULL, rows, n, &b->closing);
}

/* What comes out of attention or feed-forward is whole before it is added: it has a norm of its own, or other ranks have a part of it.
 * The bias is added where that norm is, else by whoever adds. */
static tern_status finish(const struct tern_par *par, const struct tern_block *b, float *data, const float *bias,
                          const struct tern_norm_args *norm, size_t rows, size_t n, const struct tern_block_work *work)
{
    if (b->comm->size > 1)
        TERN_TRY(tern_rows_reduce(par, b->comm, data, rows * n, work));
    if (norm->gamma)
        tern_norm_run(par, data, NULL, data, bias, NULL, rows, n, norm);
    return TERN_OK;
}

static tern_status run_in_parts(const struct tern_par *par, const struct tern_block *b, float *x,
                                const struct tern_kv_batch *batch, int32_t cache_layer,
                                const struct tern_block_work *work)
{
    const struct tern_attention_bound *attention = &b->attention;
    const struct tern_mlp_bound *mlp = &b->mlp;
    const size_t n = b->hidden, rows = batch->n_rows;
    const bool pre = b->form == TERN_BLOCK_PRE, kept = b->norm_residual;
    const struct tern_epilogue partial = { .act = TERN_ACT_NONE };
    float *normed = work->normed;
    const struct tern_mlp_input input = { .x = work->attn,
                                          .bias = b->attention_end.gamma ? NULL : attention->out_b,
                                          .residual = kept ? normed : x,
                                          .sum = pre && !kept ? x : NULL };

    run_attention(par, b, work->attn, x, normed, kept, batch, cache_layer, &work->attention, &partial);
    TERN_TRY(finish(par, b, work->attn, attention->out_b, &b->attention_end, rows, n, work));
    run_feed_forward(par, b, work->hidden, &input, !pre || kept, rows, work, &partial);
    TERN_TRY(finish(par, b, work->hidden, mlp->down_b, &b->mlp_end, rows, n, work));
    if (pre)
        add_residual(par, x, work->hidden, kept ? normed : x, b->mlp_end.gamma ? NULL : mlp->down_b, NULL, rows, n);
    else
        tern_norm_run(par, x, NULL, work->hidden, mlp->down_b, normed, rows, n, &b->closing);
    return TERN_OK;
}

static tern_status run_parallel(const struct tern_par *par, const struct tern_block *b, float *x,
                                const struct tern_kv_batch *batch, int32_t cache_layer,
                                const struct tern_block_work *work)
{
    const struct tern_attention_bound *attention = &b->attention;
    const struct tern_mlp_bound *mlp = &b->mlp;
    const size_t n = b->hidden, rows = batch->n_rows;
    const bool alone = b->comm->size == 1;
    const struct tern_epilogue attn_end = { .bias = alone ? attention->out_b : NULL };
    const bool shared = !mlp->norm.gamma;
    const struct tern_mlp_input input = { .x = shared ? work->normed : x };

    run_attention(par, b, work->attn, x, work->normed, shared, batch, cache_layer, &work->attention, &attn_end);
    if (alone) {
        const struct tern_epilogue mlp_end = {
            .bias = mlp->down_b, .residual = work->attn, .ld_residual = n, .residual2 = x, .ld_residual2 = n
        };
        tern_mlp_run(par, mlp, x, &input, work->normed, false, rows, work->inner, &mlp_end, work->narrow);
    } else {
        const struct tern_epilogue partial = { .residual = work->attn, .ld_residual = n };
        tern_mlp_run(par, mlp, work->hidden, &input, work->normed, false, rows, work->inner, &partial, work->narrow);
        TERN_TRY(tern_rows_reduce(par, b->comm, work->hidden, rows * n, work));
        add_residual(par, x, work->hidden, x, mlp->down_b, attention->out_b, rows, n);
    }
    return TERN_OK;
}

tern_status tern_block_run(const struct tern_par *par, const struct tern_block *block, float *x,
                           const struct tern_kv_batch *batch, int32_t cache_layer, const struct tern_block_work *work)
{
    static const struct tern_trace_kind kind = { "layer", { "index", "rows" } };
    const struct tern_par with = tern_par_with(par, block->kernels ? block->kernels : par->kernels);
    const double begin = tern_trace_begin(par);
    tern_status status = TERN_OK;

    if (block->form == TERN_BLOCK_PARALLEL)
        status = run_parallel(&with, block, x, batch, cache_layer, work);
    else if (block->comm->size > 1 || block->attention_end.gamma || block->mlp_end.gamma)
        status = run_in_parts(&with, block, x, batch, cache_layer, work);
    else
        run_alone(&with, block, x, batch, cache_layer, work);

    tern_trace_end(par, &kind, begin, (size_t)cache_layer, batch->n_rows, 0);
    return status;
}
