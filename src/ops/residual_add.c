/* residual_add.c: the end of a block. */
#include "ops/residual_add.h"

#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

void tern_residual_add_run(const struct tern_par *par, const tern_config *config, float *out, const float *x,
                           const struct tern_residual_add_inputs *in, size_t n_rows, size_t n)
{
    const bool post = config->mlp_after_attn && !config->pre_layer_norm;
    const float *residual = post && in->residual_add ? in->residual_add : in->residual;
    struct tern_residual_terms terms = {
        .attention_bias = post ? NULL : in->attention_bias,
        .final_bias = in->final_bias,
        .inv_mp = 1.0f / (float)config->mp_size,
        .attention_inside = config->mlp_after_attn,
        .attention_bias_divided = true,
    };
    size_t row, end;

    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++) {
        const size_t at = row * n;
        terms.attention = in->attention && !post ? in->attention + at : NULL;
        par->kernels->residual_add_f32(out + at, x + at, residual + at, &terms, n);
    }
    tern_barrier(par);
}

struct residual_add {
    const struct tern_kernels *kernels;
    const tern_config *config;
    struct tern_stage stage;
    float *out;
    const float *x;
    struct tern_residual_add_inputs in;
    size_t rows, n;
};

static void residual_add_region(void *arg, const struct tern_par *par)
{
    const struct residual_add *r = arg;
    const struct tern_par with = tern_par_with(par, r->kernels);

    tern_stage_load(&with, &r->stage);
    tern_residual_add_run(&with, r->config, r->out, r->x, &r->in, r->rows, r->n);
    tern_stage_store(&with, &r->stage);
}

tern_status tern_residual_add(tern_ctx *ctx, const tern_config *config, const tern_tensor *hidden,
                              const tern_tensor *residual, const tern_tensor *attention_output,
                              const tern_tensor *residual_add, const tern_tensor *attention_bias,
                              const tern_tensor *final_bias, tern_tensor *output)
{
    static const char op[] = "residual_add";
    struct residual_add r = { .config = config };
    tern_status status;

    TERN_TRY(tern_op_check(ctx, &tern_row_residual_add, config));
    const tern_dtype dtype = tern_config_activation(config);
    TERN_TRY(tern_check_float_rows(ctx, op, "hidden", hidden, dtype, -1, -1, &r.rows, &r.n));
    const int64_t n = (int64_t)r.n, rows = (int64_t)r.rows;
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

    tern_stage_in(&r.stage, hidden, &r.x);
    tern_stage_in(&r.stage, residual, &r.in.residual);
    tern_stage_in(&r.stage, attention_output, &r.in.attention);
    tern_stage_in(&r.stage, residual_add, &r.in.residual_add);
    tern_stage_in(&r.stage, attention_bias, &r.in.attention_bias);
    tern_stage_in(&r.stage, final_bias, &r.in.final_bias);
    tern_stage_out(&r.stage, output, &r.out);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &r.stage));
    r.kernels = tern_kernels_for(ctx, config);
    status = tern_region(ctx, residual_add_region, &r);

fail:
    tern_stage_close(ctx, &r.stage);
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
    .kernels = "residual_add_f32",
    .run = run_residual_add,
    .io = { TERN_IN_ALSO("hidden", "[.., H]", "hidden_state"), TERN_IN("residual", "[.., H]"),
            TERN_IN_OPTIONAL("attention_output", "[.., H]"), TERN_IN_OPTIONAL("residual_add", "[.., H]"),
            TERN_VECTOR_OPTIONAL("attention_bias", "[H]"), TERN_VECTOR_OPTIONAL("final_bias", "[H]"),
            TERN_OUT("output", "[.., H]") },
};
