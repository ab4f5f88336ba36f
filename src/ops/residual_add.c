/* residual_add.c: the end of a block. */
#include "ops/residual_add.h"

#include "ops/op_table.h"
#include "ops/widen.h"

/* mp_size, mlp_after_attn and pre_layer_norm say which terms there are; the residual of a post-LN block is `residual_add` where it is
 * given. */
static bool is_post(const tern_config *config)
{
    return config->mlp_after_attn && !config->pre_layer_norm;
}

/* Inside a region, where the caller's rounding mode is put aside: 1 / mp_size is rounded. */
static struct tern_residual_terms terms_of(const tern_config *config, const float *attention_bias,
                                           const float *final_bias)
{
    return (struct tern_residual_terms){
        .attention_bias = is_post(config) ? NULL : attention_bias,
        .final_bias = final_bias,
        .inv_mp = 1.0f / (float)config->mp_size,
        .attention_inside = config->mlp_after_attn,
        .attention_bias_divided = true,
    };
}

void tern_residual_add_row(const struct tern_kernels *kernels, const tern_config *config, float *out, const float *x,
                           const struct tern_residual_add_inputs *in, size_t n)
{
    const float *residual = is_post(config) && in->residual_add ? in->residual_add : in->residual;
    struct tern_residual_terms terms = terms_of(config, in->attention_bias, in->final_bias);

    terms.attention = is_post(config) ? NULL : in->attention;
    kernels->residual_add_f32(out, x, residual, &terms, n, NULL);
}

void tern_residual_add_run(const struct tern_par *par, const tern_config *config, float *out, const float *x,
                           const struct tern_residual_add_inputs *in, size_t n_rows, size_t n)
{
    size_t row, end;

    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++) {
        const size_t at = row * n;
        struct tern_residual_add_inputs of_row = *in;
        of_row.residual = in->residual + at;
        of_row.attention = in->attention ? in->attention + at : NULL;
        of_row.residual_add = in->residual_add ? in->residual_add + at : NULL;
        tern_residual_add_row(par->kernels, config, out + at, x + at, &of_row, n);
    }
    tern_barrier(par);
}

struct residual_add {
    const tern_config *config;
    const float *attention_bias, *final_bias;
};

/* in: hidden, residual, attention output or NULL. */
static void residual_add_row(const void *arg, const struct tern_row *row)
{
    const struct residual_add *r = arg;
    struct tern_residual_terms terms = terms_of(r->config, r->attention_bias, r->final_bias);

    terms.attention = row->in[2];
    TERN_ROW_KERNEL(row->kernels, row->dtype, residual_add,
                    (row->out[0], row->in[0], row->in[1], &terms, row->n, &row->flow));
}

tern_status tern_residual_add(tern_ctx *ctx, const tern_config *config, const tern_tensor *hidden,
                              const tern_tensor *residual, const tern_tensor *attention_output,
                              const tern_tensor *residual_add, const tern_tensor *attention_bias,
                              const tern_tensor *final_bias, tern_tensor *output)
{
    static const char op[] = "residual_add";
    struct residual_add r = { .config = config };
    float *owned[2] = { NULL };
    size_t n_rows, n_cols;
    tern_status status;

    TERN_TRY(tern_op_check(ctx, &tern_row_residual_add, config));
    const tern_dtype dtype = tern_config_activation(config);
    TERN_TRY(tern_check_float_rows(ctx, op, "hidden", hidden, dtype, -1, -1, &n_rows, &n_cols));
    const int64_t n = (int64_t)n_cols, rows = (int64_t)n_rows;
    TERN_TRY(tern_check_float_rows(ctx, op, "residual", residual, dtype, rows, n, NULL, NULL));
    if (tern_given(attention_output))
        TERN_TRY(tern_check_float_rows(ctx, op, "attention_output", attention_output, dtype, rows, n, NULL, NULL));
    if (tern_given(residual_add))
        TERN_TRY(tern_check_float_rows(ctx, op, "residual_add", residual_add, dtype, rows, n, NULL, NULL));
    TERN_TRY(tern_check_float_vector(ctx, op, "attention_bias", attention_bias, dtype, n, true));
    TERN_TRY(tern_check_float_vector(ctx, op, "final_bias", final_bias, dtype, n, true));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, rows, n, NULL, NULL));
    const struct tern_operand operands[] = {
        { "hidden", hidden, false, true },
        { "residual", residual, false, true },
        { "attention_output", attention_output, false, true },
        { "residual_add", residual_add, false, true },
        { "attention_bias", attention_bias, false, false },
        { "final_bias", final_bias, false, false },
        { "output", output, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0 || n == 0)
        return TERN_OK;

    const tern_tensor *before = is_post(config) && tern_given(residual_add) ? residual_add : residual;
    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, attention_bias, &owned[0], &r.attention_bias));
    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, final_bias, &owned[1], &r.final_bias));
    const struct tern_row_call call = {
        .kernels = tern_kernels_for(ctx, config),
        .in = { { hidden->data, dtype, n_cols, 0 },
                { before->data, dtype, n_cols, 0 },
                { is_post(config) ? NULL : tern_floats(attention_output), dtype, n_cols, 0 } },
        .out = { { output->data, dtype, n_cols, 0 } },
        .n_rows = n_rows,
        .fn = residual_add_row,
        .arg = &r,
    };
    status = tern_rows_run(ctx, &call);

fail:
    tern_free(owned[0]);
    tern_free(owned[1]);
    return status;
}

/* ---- by name ---- */

static tern_status run_residual_add(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                    const tern_op_call *call)
{
    const int32_t add = call->params->add_bias;

    TERN_REQUIRE(ctx, add != 1 || tern_given(io[4]), TERN_ERR_ARG,
                 "residual_add: add_bias is true and attention_bias is not there, expected [H]");
    return tern_residual_add(ctx, config, io[0], io[1], io[2], io[3], add == 0 ? NULL : io[4], io[5], io[6]);
}

const struct tern_op_row tern_row_residual_add = {
    .name = "residual_add",
    .formula =
        "hidden + (residual + final_bias + attention_output + attention_bias) / mp_size, and other blocks' forms",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_MP | TERN_READS_BLOCK,
    .params = "add_bias",
    .kernels = "residual_add_",
    .run = run_residual_add,
    .io = { TERN_IN_ALSO("hidden", "[.., H]", "hidden_state"), TERN_IN("residual", "[.., H]"),
            TERN_IN_OPTIONAL("attention_output", "[.., H]"), TERN_IN_OPTIONAL("residual_add", "[.., H]"),
            TERN_VECTOR_OPTIONAL("attention_bias", "[H]"), TERN_VECTOR_OPTIONAL("final_bias", "[H]"),
            TERN_OUT("output", "[.., H]") },
};
