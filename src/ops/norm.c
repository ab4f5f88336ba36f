/* norm.c: a norm over the rows of a matrix, with what is added before it. */
#include "ops/kernel_calls.h"

void tern_norm_row_ahead(const struct tern_kernels *kernels, float *y, float *sum, const float *x, const float *bias,
                         const float *residual, size_t n, const struct tern_norm_args *norm,
                         const struct tern_row_flow *flow)
{
    const bool plain = !bias && !residual && !sum;
    const float *gamma = norm->gamma, *beta = norm->beta;

    if (norm->type == TERN_LAYER_NORM && plain)
        kernels->layer_norm_f32(y, x, gamma, beta, n, norm->eps, flow);
    else if (norm->type == TERN_LAYER_NORM)
        kernels->layer_norm_residual_f32(y, sum, x, bias, residual, gamma, beta, n, norm->eps, flow);
    else if (plain)
        kernels->rms_norm_f32(y, x, gamma, n, norm->eps, flow);
    else
        kernels->rms_norm_residual_f32(y, sum, x, bias, residual, gamma, n, norm->eps, flow);
}

void tern_norm_row(const struct tern_kernels *kernels, float *y, float *sum, const float *x, const float *bias,
                   const float *residual, size_t n, const struct tern_norm_args *norm)
{
    tern_norm_row_ahead(kernels, y, sum, x, bias, residual, n, norm, NULL);
}

/* Rows are rounded for w where `rows` is given; y then is written to row by row, or to one row of this thread's. */
static void run(const struct tern_par *par, const struct tern_rows *rows, const struct tern_weight *w, float *y,
                bool keep, float *sum, const float *x, const float *bias, const float *residual, size_t n_rows,
                size_t n, const struct tern_norm_args *norm)
{
    static const struct tern_trace_kind layer = { "layer_norm", { "rows", "out" } },
                                        rms = { "rms_norm", { "rows", "out" } };
    const double start = tern_trace_begin(par);
    size_t begin, end;

    tern_share(par, n_rows, 1, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        float *yr = y + (keep ? row : begin) * n;
        const size_t next = row + 1 < end ? row + 1 : row;
        const struct tern_row_flow flow = { .ahead = { x + next * n, residual ? residual + next * n : NULL },
                                            .ahead_bytes = n * sizeof *x };

        tern_norm_row_ahead(par->kernels, yr, sum ? sum + row * n : NULL, x + row * n, bias,
                            residual ? residual + row * n : NULL, n, norm, &flow);
        if (rows)
            tern_rows_put(par->kernels, rows, w, row, yr);
    }
    tern_barrier(par);
    tern_trace_end(par, norm->type == TERN_LAYER_NORM ? &layer : &rms, start, n_rows, n, 0);
}

void tern_norm_run(const struct tern_par *par, float *y, float *sum, const float *x, const float *bias,
                   const float *residual, size_t n_rows, size_t n, const struct tern_norm_args *norm)
{
    run(par, NULL, NULL, y, true, sum, x, bias, residual, n_rows, n, norm);
}

void tern_norm_run_rows(const struct tern_par *par, struct tern_rows *rows, const struct tern_weight *w, float *y,
                        bool keep, float *sum, const float *x, const float *bias, const float *residual, size_t n_rows,
                        const struct tern_norm_args *norm)
{
    const size_t n = (size_t)w->in;

    if (rows->narrow) {
        run(par, rows, w, y, keep, sum, x, bias, residual, n_rows, n, norm);
    } else {
        run(par, NULL, NULL, y, true, sum, x, bias, residual, n_rows, n, norm);
        *rows = tern_rows_f32(y, n);
    }
}
