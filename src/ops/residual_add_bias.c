/* residual_add_bias.c: the end of a block, by the flags of the reference's kernel. */
#include "ops/op_table.h"
#include "ops/widen.h"

#include <tern/function.h>

struct residual {
    struct tern_residual_terms terms;
    int32_t ranks; /* that share the residual */
};

/* in: hidden, residual, attention output or NULL. */
static void residual_row(const void *arg, const struct tern_row *row)
{
    const struct residual *r = arg;
    struct tern_residual_terms terms = r->terms;

    terms.inv_mp = 1 / (float)r->ranks; /* here, where the caller's rounding mode is put aside */
    terms.attention = row->in[2];
    TERN_ROW_KERNEL(row->kernels, row->dtype, residual_add,
                    (row->out[0], row->in[0], row->in[1], &terms, row->n, &row->flow));
}

tern_status tern_residual_add_bias(tern_ctx *ctx, const tern_tensor *hidden, const tern_tensor *residual,
                                   const tern_tensor *attention_output, const tern_tensor *attention_bias,
                                   const tern_tensor *final_bias, int32_t mp_size, bool mlp_after_attn, bool pre_norm,
                                   bool add_attn_bias, tern_tensor *output)
{
    static const char op[] = "residual_add_bias";
    const bool post = mlp_after_attn && !pre_norm;
    struct residual r = { .terms = { .attention_inside = mlp_after_attn, .attention_bias_divided = true },
                          .ranks = post ? 1 : mp_size };
    float *owned[2] = { NULL };
    size_t rows, cols;
    tern_status status;

    TERN_TRY(tern_check_float_rows(ctx, op, "hidden", hidden, TERN_ANY_FLOAT, -1, -1, &rows, &cols));
    const tern_dtype dtype = hidden->dtype;
    const int64_t t = (int64_t)rows, n = (int64_t)cols;
    TERN_TRY(tern_check_float_rows(ctx, op, "residual", residual, dtype, t, n, NULL, NULL));
    if (tern_given(attention_output))
        TERN_TRY(tern_check_float_rows(ctx, op, "attention_output", attention_output, dtype, t, n, NULL, NULL));
    TERN_TRY(tern_check_float_vector(ctx, op, "attention_bias", attention_bias, dtype, n, true));
    TERN_TRY(tern_check_float_vector(ctx, op, "final_bias", final_bias, dtype, n, true));
    TERN_REQUIRE(ctx, mp_size >= 1, TERN_ERR_ARG, "%s: mp_size is %" PRId32 ", expected 1 or more", op, mp_size);
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, t, n, NULL, NULL));
    const struct tern_operand operands[] = { { "hidden", hidden, false, true },
                                             { "residual", residual, false, true },
                                             { "attention_output", attention_output, false, true },
                                             { "attention_bias", attention_bias, false, false },
                                             { "final_bias", final_bias, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0 || cols == 0)
        return TERN_OK;

    if (!post && (mlp_after_attn || add_attn_bias))
        TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, attention_bias, &owned[0], &r.terms.attention_bias));
    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, final_bias, &owned[1], &r.terms.final_bias));
    const struct tern_row_call call = {
        .in = { { hidden->data, dtype, cols, 0 },
                { residual->data, dtype, cols, 0 },
                { post ? NULL : tern_floats(attention_output), dtype, cols, 0 } },
        .out = { { output->data, dtype, cols, 0 } },
        .n_rows = rows,
        .fn = residual_row,
        .arg = &r,
    };
    status = tern_rows_run(ctx, &call);
fail:
    tern_free(owned[0]);
    tern_free(owned[1]);
    return status;
}

/* ---- by name ---- */

static tern_status run_residual_add_bias(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                         const tern_op_call *call)
{
    const tern_op_params *p = call->params;

    return tern_residual_add_bias(ctx, io[0], io[1], io[2], io[3], io[4], config->mp_size, config->mlp_after_attn,
                                  p->pre_norm, p->add_attn_bias, io[5]);
}

const struct tern_op_row tern_row_residual_add_bias = {
    .name = "residual_add_bias",
    .formula = "hidden + (residual + final_bias + attention_output + attention_bias) / mp_size, and other flags' forms",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_MP | TERN_READS_AFTER,
    .params = "pre_norm add_attn_bias",
    .kernels = "residual_add_",
    .function = true,
    .run = run_residual_add_bias,
    .io = { TERN_IN("hidden", "[.., H]"),
            TERN_IN("residual", "[.., H]"),
            { .name = "attention_output", .shape = "[.., H]", .optional = true, .also = "attn_out attn_output" },
            { .name = "attention_bias", .shape = "[H]", .type = TERN_OP_VECTOR, .optional = true, .also = "attn_bias" },
            TERN_VECTOR_OPTIONAL("final_bias", "[H]"),
            TERN_OUT("output", "[.., H]") },
};
