/* feed_forward.c: the two products of a feed-forward, with the activation or gate between them. */
#include "ops/feed_forward.h"

#include "ops/checks.h"

/* The kernels' number for an activation; GELU unset means tanh, and erf where it gates. */
static enum tern_act act_of(tern_activation activation, tern_gelu_form gelu)
{
    if (activation == TERN_RELU)
        return TERN_ACT_RELU;
    if (activation == TERN_GATED_SILU)
        return TERN_ACT_SILU;
    if (gelu == TERN_GELU_UNSET)
        gelu = activation == TERN_GATED_GELU ? TERN_GELU_ERF : TERN_GELU_TANH;
    return gelu == TERN_GELU_ERF    ? TERN_ACT_GELU_ERF
           : gelu == TERN_GELU_TANH ? TERN_ACT_GELU_TANH
                                    : TERN_ACT_GELU_SIGMOID;
}

/* inner[T][0..n) *= act(inner[T][n..2n)), rows 2n apart; the second half becomes act of itself.  Barrier at the end. */
static void gate(const struct tern_par *par, float *inner, size_t n_rows, size_t n, enum tern_act act)
{
    size_t i, end;

    /* By elements, so that the single row of a decode step is split as well; 64 are four cache lines. */
    tern_share(par, n_rows * n, 64, &i, &end);
    while (i < end) {
        const size_t row = i / n, col = i % n, count = end - i < n - col ? end - i : n - col;
        float *up = inner + row * 2 * n + col, *gates = up + n;
        par->kernels->act_f32(gates, gates, count, act, NULL);
        for (size_t j = 0; j < count; j++)
            up[j] *= gates[j];
        i += count;
    }
    tern_barrier(par);
}

void tern_feed_forward_run(const struct tern_par *par, const struct tern_feed_forward_args *args, float *c, size_t ldc,
                           const float *x, size_t ldx, size_t n_rows, float *inner, const struct tern_epilogue *e,
                           void *narrow)
{
    const size_t up = (size_t)args->up->out;
    const bool gated = tern_is_gated(args->activation);
    const enum tern_act act = act_of(args->activation, args->gelu);
    const struct tern_epilogue first = { .bias = args->up_bias, .act = gated ? TERN_ACT_NONE : act };

    tern_gemm_run_either(par, inner, up, x, ldx, n_rows, args->up, &first, narrow);
    if (gated)
        gate(par, inner, n_rows, up / 2, act);
    tern_gemm_run_either(par, c, ldc, inner, up, n_rows, args->down, e, narrow);
}

size_t tern_feed_forward_scratch(const struct tern_feed_forward_args *args, size_t n_rows)
{
    const size_t up = tern_gemm_scratch(args->up, n_rows), down = tern_gemm_scratch(args->down, n_rows);

    return up > down ? up : down;
}
