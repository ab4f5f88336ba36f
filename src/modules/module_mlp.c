/* module_mlp.c: a feed-forward as a module of its own: norm, products, residual, and the sum over the ranks. */
#include "base/arena.h"
#include "modules/mlp.h"
#include "modules/weights.h"
#include "ops/op_table.h"
#include "ops/residual_add.h"
#include "ops/stage.h"
#include "ops/widen.h"

#include <string.h>

static const char op[] = "mlp";

struct tern_mlp {
    tern_config config;
    const tern_comm *comm;
    int64_t hidden, up;
    bool residual_alone; /* the norm takes residual alone */
    struct tern_mlp_bound bound;
    struct tern_own_weights own;
};

/* ---- binding ---- */

static tern_status check_config(tern_ctx *ctx, const tern_config *config, const tern_comm *comm)
{
    TERN_TRY(tern_op_check(ctx, &tern_row_mlp_gemm, config));
    TERN_TRY(tern_op_check(ctx, &tern_row_residual_add, config));
    TERN_TRY(tern_check_config(ctx, op, config, TERN_READS_SIZES));
    TERN_TRY(tern_check_block(ctx, op, config));
    return tern_check_comm(ctx, op, config, comm);
}

static tern_status check_norm(tern_ctx *ctx, const tern_config *config, const tern_layer_weights *w)
{
    TERN_REQUIRE(ctx, config->norm_type != TERN_RMS_NORM || !tern_given(&w->attn_nb), TERN_ERR_ARG,
                 "%s: attn_nb is given with RMSNorm, expected none", op);
    TERN_REQUIRE(ctx, tern_given(&w->attn_nw) || !tern_given(&w->attn_nb), TERN_ERR_ARG,
                 "%s: attn_nb is given without attn_nw, expected both or none", op);
    return TERN_OK;
}

tern_status tern_mlp_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                            const tern_module_quant *quant, const tern_layer_weights *weights, tern_mlp **out)
{
    struct tern_mlp *m = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "%s: out is NULL", op);
    *out = NULL;
    TERN_REQUIRE(ctx, ctx && config && weights, TERN_ERR_ARG, "%s: %s is NULL", op,
                 !ctx      ? "ctx"
                 : !config ? "config"
                           : "weights");
    if (!comm)
        comm = tern_comm_self();
    TERN_TRY(check_config(ctx, config, comm));

    TERN_TRY(TERN_ALLOC(ctx, 1, "a feed-forward", &m));
    m->config = *config;
    m->comm = comm;
    TERN_TRY_OR_FAIL(tern_own_weights(ctx, op, config, quant, TERN_PART_MLP, weights, &m->own));
    TERN_TRY_OR_FAIL(check_norm(ctx, config, &m->own.all));
    TERN_TRY_OR_FAIL(tern_mlp_bind(ctx, op, config, &m->own.all, &m->bound));
    tern_own_weights_bound(&m->own);
    m->hidden = m->bound.feed_forward.up->in;
    m->up = m->bound.feed_forward.up->out;
    m->residual_alone = !config->mlp_after_attn && config->norm_type != TERN_RMS_NORM;
    *out = m;
    return TERN_OK;

fail:
    tern_mlp_destroy(&m);
    return status;
}

void tern_mlp_destroy(tern_mlp **mlp)
{
    struct tern_mlp *m = mlp ? *mlp : NULL;

    if (!m)
        return;
    tern_mlp_free(&m->bound);
    tern_own_weights_free(&m->own);
    tern_free(m);
    *mlp = NULL;
}

/* ---- running ---- */

struct forward {
    const tern_mlp *mlp;
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    struct tern_residual_add_inputs in;
    const float *residual_norm;
    float *z, *inner, *x, *out; /* out is x where ranks are to be added up */
    void *narrow;
    size_t rows, most; /* at a time, where attention comes before */
    bool few;          /* x has room for so many */
    tern_tensor *output;

    /* Where attention comes before: its rows are read as they are stored, and the output is stored by the last product. */
    const tern_tensor *attention, *residual, *normed; /* each may be NULL */
    float *own;                                       /* [threads][4][H] */
};

/* Row `row` in fp32: where it is, or widened to `to`.  NULL without a tensor. */
static const float *row_of(const struct tern_kernels *kernels, const tern_tensor *t, size_t row, size_t n, float *to)
{
    if (!t)
        return NULL;
    if (t->dtype == TERN_FP32)
        return (const float *)t->data + row * n;
    tern_wide_load(kernels, to, t->data, t->dtype, row * n, n);
    return to;
}

/* Where a row begins, for a hint: NULL without a tensor. */
static const void *row_at(const tern_tensor *t, size_t row, size_t n)
{
    return t ? (const char *)t->data + row * n * tern_dtype_size(t->dtype) : NULL;
}

/* All that is to be done with rows [first, first + n_rows) before the products, while each is in the cache: its norm, rounded for the
 * first of them, and in x the terms that are added to the second. */
static struct tern_rows begin_rows(const struct tern_par *par, const struct forward *f, float *x, size_t first,
                                   size_t n_rows)
{
    static const struct tern_trace_kind kind = { "mlp_rows", { "rows", "in" } };
    const double begin = tern_trace_begin(par);
    const struct tern_mlp_bound *bound = &f->mlp->bound;
    const struct tern_weight *up = bound->feed_forward.up;
    const struct tern_kernels *kernels = par->kernels;
    const size_t n = (size_t)f->mlp->hidden;
    struct tern_rows rows = tern_feed_forward_rows(&bound->feed_forward, n_rows, f->narrow);
    float *own = f->own + 4 * n * (size_t)par->thread, *none = own + 2 * n, *normed = own + 3 * n;
    struct tern_residual_add_inputs in = f->in;
    size_t row, end;

    for (size_t i = 0; i < n; i++)
        none[i] = -0.0f; /* what a sum begins with that is not there */
    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++) {
        const size_t at = first + row, next = row + 1 < end ? at + 1 : at;
        const struct tern_row_flow flow = { .ahead = { row_at(f->attention, next, n), row_at(f->residual, next, n) },
                                            .ahead_bytes = n * tern_dtype_size(f->output->dtype) };
        float *y = rows.narrow ? normed : f->z + row * n;

        in.residual = row_of(kernels, f->residual, at, n, own);
        in.attention = row_of(kernels, f->attention, at, n, own + n);
        if (bound->norm.gamma)
            tern_norm_row_ahead(kernels, y, NULL, in.attention, in.attention_bias, in.residual, n, &bound->norm, &flow);
        else
            memcpy(y, row_of(kernels, f->normed, at, n, normed), n * sizeof *y);
        in.residual_add = bound->norm.gamma ? y : NULL;
        if (rows.narrow)
            tern_rows_put(kernels, &rows, up, row, y);
        tern_residual_add_row(kernels, &f->mlp->config, x + row * n, none, &in, n);
    }
    tern_barrier(par);
    tern_trace_end(par, &kind, begin, n_rows, n, 0);
    return rows.narrow ? rows : tern_rows_f32(f->z, n);
}

static void sequential_region(void *arg, const struct tern_par *par)
{
    const struct forward *f = arg;
    const struct tern_mlp *m = f->mlp;
    const struct tern_par with = tern_par_with(par, f->kernels);
    const size_t n = (size_t)m->hidden, parts = (f->rows + f->most - 1) / f->most;

    tern_stage_load(&with, &f->stage);
    for (size_t i = 0; i < parts; i++) {
        const size_t first = f->rows * i / parts, n_rows = f->rows * (i + 1) / parts - first, at = first * n;
        float *x = f->x + (f->few ? 0 : at);
        struct tern_epilogue end = { .residual = x, .ld_residual = n };
        float *c = m->comm->size == 1 ? tern_gemm_store(f->output, n, &end) : f->x;
        const struct tern_rows rows = begin_rows(&with, f, x, first, n_rows);

        if (end.half)
            end.half += at;
        tern_feed_forward_run_rows(&with, &m->bound.feed_forward, c ? c + at : NULL, n, &rows, n_rows, f->inner, &end,
                                   f->narrow);
    }
}

/* Attention beside the feed-forward: its output comes after the sums, in the reference's order. */
static void parallel_region(void *arg, const struct tern_par *par)
{
    const struct forward *f = arg;
    const struct tern_mlp *m = f->mlp;
    const struct tern_par with = tern_par_with(par, f->kernels);
    const struct tern_epilogue plain = { .act = TERN_ACT_NONE };
    const bool norm = m->bound.norm.gamma, alone = m->residual_alone;
    struct tern_residual_add_inputs in = f->in;
    const struct tern_mlp_input input = { .x = !norm   ? f->residual_norm
                                               : alone ? in.residual
                                                       : in.attention,
                                          .bias = norm && !alone ? in.attention_bias : NULL,
                                          .residual = norm && !alone ? in.residual : NULL };

    tern_stage_load(&with, &f->stage);
    in.residual_add = norm ? f->z : NULL;
    tern_mlp_run(&with, &m->bound, f->x, &input, f->z, true, f->rows, f->inner, &plain, f->narrow);
    tern_residual_add_run(&with, &m->config, f->out, f->x, &in, f->rows, (size_t)m->hidden);
    if (f->out != f->x)
        tern_stage_store(&with, &f->stage);
}

/* The reduced sums to the output. */
static void store_region(void *arg, const struct tern_par *par)
{
    const struct forward *f = arg;
    size_t begin, end;

    tern_share(par, f->rows * (size_t)f->mlp->hidden, 64, &begin, &end);
    if (begin < end)
        tern_wide_store(f->kernels, f->output->data, f->output->dtype, begin, f->x + begin, end - begin);
}

static void work_take(struct tern_arena *arena, int n_threads, struct forward *f)
{
    const tern_mlp *m = f->mlp;
    const size_t hidden = (size_t)m->hidden * sizeof(float);
    const bool sequential = m->config.mlp_after_attn;
    const bool direct = sequential && m->comm->size == 1 && f->output->dtype == TERN_FP32;
    const size_t most = tern_feed_forward_most(n_threads, f->rows), rows = sequential ? most : f->rows;

    f->most = most;
    f->few = sequential && m->comm->size == 1 && !direct;
    f->own = sequential ? tern_arena_take(arena, 4 * (size_t)n_threads, hidden) : NULL;
    f->z = m->bound.norm.gamma || sequential ? tern_arena_take(arena, rows, hidden) : NULL;
    /* A line that is stored twice waits for memory once: where the output's lines can hold x they do. */
    f->x = direct ? f->output->data : tern_arena_take(arena, f->few ? rows : f->rows, hidden);
    f->inner = tern_arena_take(arena, most, (size_t)m->up * sizeof(float));
    f->narrow = tern_config_narrow(&m->config)
                    ? tern_arena_take(arena, tern_feed_forward_scratch(&m->bound.feed_forward, rows), 1)
                    : NULL;
}

static tern_status check_tensors(tern_ctx *ctx, const tern_mlp *m, const tern_tensor *input,
                                 const tern_tensor *residual, const tern_tensor *residual_norm, const tern_tensor *bias,
                                 const tern_tensor *output, size_t *n_rows)
{
    const tern_dtype dtype = tern_config_activation(&m->config);
    const bool norm = m->bound.norm.gamma;

    TERN_TRY(tern_check_float_rows(ctx, op, "residual", residual, dtype, -1, m->hidden, n_rows, NULL));
    const int64_t rows = (int64_t)*n_rows;
    if (tern_given(input) || (norm && !m->residual_alone))
        TERN_TRY(tern_check_float_rows(ctx, op, "input", input, dtype, rows, m->hidden, NULL, NULL));
    if (tern_given(residual_norm) || !norm)
        TERN_TRY(tern_check_float_rows(ctx, op, "residual_norm", residual_norm, dtype, rows, m->hidden, NULL, NULL));
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, dtype, m->hidden, true));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, rows, m->hidden, NULL, NULL));
    const struct tern_operand operands[] = {
        { "input", input, false, true },
        { "residual", residual, false, true },
        { "residual_norm", residual_norm, false, true },
        { "bias", bias, false, false },
        { "output", output, true, false },
    };
    return tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]);
}

tern_status tern_mlp_forward(tern_ctx *ctx, const tern_mlp *mlp, const tern_tensor *input, const tern_tensor *residual,
                             const tern_tensor *residual_norm, const tern_tensor *bias, tern_tensor *output)
{
    struct tern_arena arena = tern_arena_counter();
    struct forward f = { .mlp = mlp, .output = output };
    tern_status status;

    TERN_REQUIRE(ctx, ctx && mlp, TERN_ERR_ARG, "%s: %s is NULL", op, ctx ? "mlp" : "ctx");
    TERN_TRY(check_tensors(ctx, mlp, input, residual, residual_norm, bias, output, &f.rows));
    if (f.rows == 0)
        return TERN_OK;

    const bool sequential = mlp->config.mlp_after_attn, alone = mlp->comm->size == 1;
    f.kernels = tern_kernels_for(ctx, &mlp->config);
    f.in.final_bias = mlp->bound.down_b;
    tern_stage_in(&f.stage, bias, &f.in.attention_bias);
    if (sequential) {
        f.residual = residual;
        f.attention = tern_given(input) ? input : NULL;
        f.normed = residual_norm;
    } else {
        tern_stage_in(&f.stage, residual, &f.in.residual);
        tern_stage_in(&f.stage, input, &f.in.attention);
        if (!mlp->bound.norm.gamma)
            tern_stage_in(&f.stage, residual_norm, &f.residual_norm);
        if (alone)
            tern_stage_out(&f.stage, output, &f.out);
    }
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &f.stage));
    work_take(&arena, tern_ctx_threads(ctx), &f);
    TERN_TRY_OR_FAIL(tern_arena_borrow(ctx, arena.used, "scratch of a feed-forward", &arena));
    work_take(&arena, tern_ctx_threads(ctx), &f);
    if (!alone)
        f.out = f.x;
    TERN_TRY_OR_FAIL(tern_region(ctx, sequential ? sequential_region : parallel_region, &f));
    if (!alone) {
        status = mlp->comm->all_reduce(mlp->comm->user, f.x, f.rows * (size_t)mlp->hidden);
        if (status)
            status = tern_fail(ctx, status, "%s: all_reduce failed: %s", op, tern_status_name(status));
        else
            status = tern_region(ctx, store_region, &f);
    }

fail:
    tern_arena_return(ctx, &arena);
    tern_stage_close(ctx, &f.stage);
    return status;
}
