/* norm.c: a norm over the rows of a matrix, with what is added before it. */
#include "ops/kernel_calls.h"

void tern_norm_run(const struct tern_par *par, float *y, float *sum, const float *x, const float *bias,
                   const float *residual, size_t n_rows, size_t n, const struct tern_norm_args *norm)
{
    static const struct tern_trace_kind layer = { "layer_norm", { "rows", "out" } },
                                        rms = { "rms_norm", { "rows", "out" } };
    const double start = tern_trace_begin(par);
    const struct tern_kernels *k = par->kernels;
    const bool plain = !bias && !residual && !sum;
    size_t row, end;

    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++) {
        float *yr = y + row * n, *sr = sum ? sum + row * n : NULL;
        const float *xr = x + row * n, *rr = residual ? residual + row * n : NULL;
        if (norm->type == TERN_LAYER_NORM) {
            if (plain)
                k->layer_norm_f32(yr, xr, norm->gamma, norm->beta, n, norm->eps, NULL);
            else
                k->layer_norm_residual_f32(yr, sr, xr, bias, rr, norm->gamma, norm->beta, n, norm->eps, NULL);
        } else if (plain) {
            k->rms_norm_f32(yr, xr, norm->gamma, n, norm->eps, NULL);
        } else {
            k->rms_norm_residual_f32(yr, sr, xr, bias, rr, norm->gamma, n, norm->eps, NULL);
        }
    }
    tern_barrier(par);
    tern_trace_end(par, norm->type == TERN_LAYER_NORM ? &layer : &rms, start, n_rows, n, 0);
}
