/* softmax.c: softmax of attention scores with scale, additive mask, ALiBi, causal limit and window. */
#include "ops/mask.h"
#include "ops/op_table.h"
#include "ops/widen.h"

tern_softmax_options tern_softmax_options_default(void)
{
    return (tern_softmax_options){ .layer_scale = 1.0f, .window_size = 256 };
}

struct softmax {
    const struct tern_kernels *kernels;
    const tern_softmax_options *options;
    struct tern_mask mask;
    const float *alibi;
    size_t heads, s, t; /* t: of a row */
};

static void mask_region(void *arg, const struct tern_par *par)
{
    const struct softmax *m = arg;
    const struct tern_par with = tern_par_with(par, m->kernels);

    tern_mask_load(&with, &m->mask);
}

static void softmax_row(const void *arg, const struct tern_row *row)
{
    const struct softmax *m = arg;
    const tern_softmax_options *o = m->options;
    const size_t i = row->index % m->s, head = row->index / m->s % m->heads, b = row->index / m->s / m->heads;
    const int64_t t = (int64_t)m->t, position = (int64_t)i + t - (int64_t)m->s; /* of this row among the columns */
    int64_t last = o->triangular ? position + 1 : t;
    int64_t first = o->local_attention ? position + 1 - o->window_size : 0;

    if (last < 0)
        last = 0;
    if (first < 0)
        first = 0;
    if (first > last)
        first = last;
    const float slope = m->alibi ? m->alibi[(size_t)o->head_offset + head] : 0;
    TERN_ROW_KERNEL(row->kernels, row->dtype, softmax,
                    (row->out[0], row->in[0], tern_mask_row(&m->mask, b, head, i), row->n, (size_t)first, (size_t)last,
                     o->layer_scale, slope, &row->flow));
}

tern_status tern_softmax(tern_ctx *ctx, const tern_config *config, const tern_softmax_options *options,
                         const tern_tensor *scores, const tern_tensor *mask, const tern_tensor *alibi,
                         tern_tensor *output)
{
    static const char op[] = "softmax";
    const tern_softmax_options standard = tern_softmax_options_default();
    struct softmax m = { 0 };
    float *owned = NULL;
    tern_status status;
    size_t rows;

    TERN_TRY(tern_op_check(ctx, &tern_row_softmax, config));
    m.options = options ? options : &standard;
    TERN_REQUIRE(ctx, !m.options->local_attention || m.options->window_size >= 1, TERN_ERR_ARG,
                 "%s: window_size is %" PRId32 " with local_attention, expected 1 or more", op, m.options->window_size);
    TERN_REQUIRE(ctx, m.options->head_offset >= 0, TERN_ERR_ARG, "%s: head_offset is %" PRId32 ", expected 0 or more",
                 op, m.options->head_offset);

    const tern_dtype dtype = tern_config_activation(config);
    TERN_TRY(tern_check_float_rows(ctx, op, "scores", scores, dtype, -1, -1, &rows, NULL));
    TERN_REQUIRE(ctx, scores->rank == 4, TERN_ERR_SHAPE, "%s: scores is %s, expected [batch, heads, rows, columns]", op,
                 tern_dims_text(scores).text);
    m.heads = (size_t)scores->dim[1];
    m.s = (size_t)scores->dim[2];
    m.t = (size_t)scores->dim[3];
    TERN_TRY(tern_mask_check(ctx, op, mask, dtype));
    TERN_REQUIRE(ctx, tern_mask_fit(mask, config->invert_mask, scores->dim, false, &m.mask), TERN_ERR_SHAPE,
                 "%s: mask is %s, expected axes of 1 or the whole of scores' %s, from the right, or [batch, columns]",
                 op, tern_dims_text(mask).text, tern_dims_text(scores).text);
    if (tern_given(alibi)) {
        TERN_TRY(tern_check_float(ctx, op, "alibi", alibi, dtype, true));
        TERN_REQUIRE(ctx, alibi->rank == 1 && alibi->dim[0] >= m.options->head_offset + scores->dim[1], TERN_ERR_SHAPE,
                     "%s: alibi is %s, expected [n] with n >= %" PRId64 ", head_offset plus heads", op,
                     tern_dims_text(alibi).text, m.options->head_offset + scores->dim[1]);
    }
    TERN_TRY(tern_check_float(ctx, op, "output", output, dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 4, scores->dim));
    const struct tern_operand operands[] = { { "scores", scores, false, true },
                                             { "mask", mask, false, false },
                                             { "alibi", alibi, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0 || m.t == 0)
        return TERN_OK;

    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, alibi, &owned, &m.alibi));
    TERN_TRY_OR_FAIL(tern_mask_open(ctx, &m.mask));
    m.kernels = tern_kernels_for(ctx, config);
    if (m.mask.made)
        TERN_TRY_OR_FAIL(tern_region(ctx, mask_region, &m));
    const struct tern_row_call call = {
        .kernels = m.kernels,
        .in = { { scores->data, dtype, m.t, 0 } },
        .out = { { output->data, dtype, m.t, 0 } },
        .n_rows = rows,
        .fn = softmax_row,
        .arg = &m,
    };
    status = tern_rows_run(ctx, &call);

fail:
    tern_mask_close(ctx, &m.mask);
    tern_free(owned);
    return status;
}

/* ---- by name ---- */

static tern_status run_softmax(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                               const tern_op_call *call)
{
    return tern_softmax(ctx, config, &call->params->softmax, io[0], io[1], io[2], io[3]);
}

const struct tern_op_row tern_row_softmax = {
    .name = "softmax",
    .formula = "output = softmax(layer_scale scores + alibi + mask) over the last axis",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "softmax_",
    .params = "layer_scale triangular causal=triangular triangular_masking=triangular local_attention window_size "
              "head_offset",
    .run = run_softmax,
    .io = { TERN_IN_ALSO("scores", "[B, h, S, T]", "x"), TERN_MASK("mask", "[B|1, h|1, S|1, T|1]"),
            TERN_VECTOR_OPTIONAL("alibi", "[n]"), TERN_OUT("output", "[B, h, S, T]") },
};
