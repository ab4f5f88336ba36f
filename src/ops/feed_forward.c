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

/* inner[T][0..n) *= act(inner[T][n..2n)), rows 2n apart.  Barrier at the end. */
static void gate(const struct tern_par *par, float *inner, size_t n_rows, size_t n, enum tern_act act)
{
    size_t i, end;

    /* By elements, so that the single row of a decode step is split as well; 64 are four cache lines. */
    tern_share(par, n_rows * n, 64, &i, &end);
    while (i < end) {
        const size_t row = i / n, col = i % n, count = end - i < n - col ? end - i : n - col;
        float *up = inner + row * 2 * n + col;
        par->kernels->gate_f32(up, up, up + n, NULL, NULL, false, count, act, NULL);
        i += count;
    }
    tern_barrier(par);
}

size_t tern_feed_forward_most(int n_threads, size_t n_rows)
{
    const size_t most = TERN_FEED_FORWARD_ROWS * (size_t)n_threads;

    return n_rows < most ? n_rows : most;
}

/* Bytes of the rows of the first product, in front of those of the second; SIZE_MAX where there cannot be so many. */
static size_t first_bytes(const struct tern_feed_forward_args *args, size_t n_rows)
{
    const size_t bytes = tern_gemm_scratch(args->up, n_rows);

    return bytes > SIZE_MAX - 63 ? SIZE_MAX : (bytes + 63) / 64 * 64;
}

size_t tern_feed_forward_scratch(const struct tern_feed_forward_args *args, size_t n_rows)
{
    const size_t up = first_bytes(args, n_rows), down = tern_gemm_scratch(args->down, n_rows);

    return up > SIZE_MAX - down ? SIZE_MAX : up + down;
}

struct tern_rows tern_feed_forward_rows(const struct tern_feed_forward_args *args, size_t n_rows, void *narrow)
{
    return tern_rows_narrow(args->up, narrow, n_rows);
}

/* From row `row` on. */
static struct tern_rows rows_from(const struct tern_rows *rows, size_t row)
{
    const size_t at = row * rows->ld;

    if (rows->f32)
        return tern_rows_f32(rows->f32 + at, rows->ld);
    return (struct tern_rows){ .narrow = (char *)rows->narrow + at * (rows->scale ? 1 : sizeof(uint16_t)),
                               .scale = rows->scale ? rows->scale + row : NULL,
                               .ld = rows->ld };
}

static struct tern_epilogue epilogue_from(const struct tern_epilogue *e, size_t row)
{
    struct tern_epilogue from = *e;

    if (e->residual)
        from.residual += row * e->ld_residual;
    if (e->residual2)
        from.residual2 += row * e->ld_residual2;
    if (e->half)
        from.half += row * e->ld_half;
    return from;
}

/* Activated rows are stored once as the second product reads them: as bf16 by the epilogue of the first.  A gate is its epilogue
 * too, where up and gate begin with whole panels.  narrow: NULL, or room for the rows of the second product. */
static void run_some(const struct tern_par *par, const struct tern_feed_forward_args *args, float *c, size_t ldc,
                     const struct tern_rows *x, size_t n_rows, float *inner, const struct tern_epilogue *e,
                     void *narrow)
{
    const size_t up = (size_t)args->up->out;
    const bool gated = tern_is_gated(args->activation), fused = gated && tern_gemm_gates(args->up);
    const bool pass = gated && !fused;
    const enum tern_act act = act_of(args->activation, args->gelu);
    const size_t width = fused ? up / 2 : up;
    struct tern_epilogue first = { .bias = args->up_bias, .act = gated ? TERN_ACT_NONE : act };
    struct tern_rows rows = tern_rows_narrow(args->down, narrow, n_rows);
    const bool halves = !pass && tern_rows_halves(par, &rows, args->down, n_rows, &first);
    float *to = halves ? NULL : inner;

    if (fused)
        tern_gemm_run_gated(par, to, width, x, n_rows, args->up, &first, act);
    else
        tern_gemm_run_rows(par, to, width, x, n_rows, args->up, &first);
    if (pass)
        gate(par, inner, n_rows, up / 2, act);
    if (!rows.narrow)
        rows = tern_rows_f32(inner, width);
    else if (!halves)
        tern_rows_round(par, &rows, args->down, inner, width, n_rows);
    tern_gemm_run_rows(par, c, ldc, &rows, n_rows, args->down, e);
}

void tern_feed_forward_run_rows(const struct tern_par *par, const struct tern_feed_forward_args *args, float *c,
                                size_t ldc, const struct tern_rows *x, size_t n_rows, float *inner,
                                const struct tern_epilogue *e, void *narrow)
{
    const size_t most = tern_feed_forward_most(par->count, n_rows), parts = most ? (n_rows + most - 1) / most : 0;
    char *const second = narrow ? (char *)narrow + first_bytes(args, n_rows) : NULL;

    for (size_t i = 0; i < parts; i++) {
        const size_t row = n_rows * i / parts, end = n_rows * (i + 1) / parts;
        const struct tern_rows rows = rows_from(x, row);
        const struct tern_epilogue from = epilogue_from(e, row);

        run_some(par, args, c ? c + row * ldc : NULL, ldc, &rows, end - row, inner, &from, second);
    }
}

void tern_feed_forward_run(const struct tern_par *par, const struct tern_feed_forward_args *args, float *c, size_t ldc,
                           const float *x, size_t ldx, size_t n_rows, float *inner, const struct tern_epilogue *e,
                           void *narrow)
{
    const struct tern_rows rows = tern_rows_from(par, args->up, narrow, x, ldx, n_rows);

    tern_feed_forward_run_rows(par, args, c, ldc, &rows, n_rows, inner, e, narrow);
}
