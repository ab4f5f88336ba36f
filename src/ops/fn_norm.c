/* fn_norm.c: layer norm and RMS norm of stored rows, alone and of a sum. */
#include "ops/op_table.h"
#include "ops/widen.h"

#include <tern/function.h>

struct norm {
    const float *gamma, *beta, *bias;
    float eps;
    bool rms, sums; /* sums: the norm is of input + bias + residual */
};

/* in: x, residual;  out: y, sum. */
static void norm_row(const void *arg, const struct tern_row *row)
{
    const struct norm *m = arg;
    const struct tern_kernels *kernels = row->kernels;
    const tern_dtype dtype = row->dtype;
    const void *x = row->in[0], *residual = row->in[1];
    void *y = row->out[0], *sum = row->out[1];

    if (m->rms && m->sums)
        TERN_ROW_KERNEL(kernels, dtype, rms_norm_residual,
                        (y, sum, x, NULL, residual, m->gamma, row->n, m->eps, &row->flow));
    else if (m->rms)
        TERN_ROW_KERNEL(kernels, dtype, rms_norm, (y, x, m->gamma, row->n, m->eps, &row->flow));
    else if (m->sums)
        TERN_ROW_KERNEL(kernels, dtype, layer_norm_residual,
                        (y, sum, x, m->bias, residual, m->gamma, m->beta, row->n, m->eps, &row->flow));
    else
        TERN_ROW_KERNEL(kernels, dtype, layer_norm, (y, x, m->gamma, m->beta, row->n, m->eps, &row->flow));
}

struct norm_tensors {
    const tern_tensor *input, *bias, *residual, *gamma, *beta;
    tern_tensor *output, *sum;
};

static tern_status norm(tern_ctx *ctx, const char *op, const struct norm_tensors *t, struct norm *m)
{
    float *owned[3] = { NULL };
    size_t rows, cols;
    tern_status status;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", t->input, TERN_ANY_FLOAT, -1, -1, &rows, &cols));
    const tern_dtype dtype = t->input->dtype;
    const int64_t n = (int64_t)cols, count = (int64_t)rows;
    TERN_TRY(tern_check_float_vector(ctx, op, "input_bias", t->bias, dtype, n, true));
    if (m->sums)
        TERN_TRY(tern_check_float_rows(ctx, op, "residual", t->residual, dtype, count, n, NULL, NULL));
    TERN_TRY(tern_check_float_vector(ctx, op, "gamma", t->gamma, dtype, n, false));
    TERN_TRY(tern_check_float_vector(ctx, op, "beta", t->beta, dtype, n, true));
    TERN_TRY(tern_check_eps(ctx, op, m->eps));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", t->output, dtype, count, n, NULL, NULL));
    const char *sum = m->rms ? "residual (output)" : "sum";
    if (tern_given(t->sum))
        TERN_TRY(tern_check_float_rows(ctx, op, sum, t->sum, dtype, count, n, NULL, NULL));
    const struct tern_operand operands[] = {
        { "input", t->input, false, true },
        { "input_bias", t->bias, false, false },
        { "residual", m->sums ? t->residual : NULL, false, true },
        { "gamma", t->gamma, false, false },
        { "beta", t->beta, false, false },
        { "output", t->output, true, false },
        { sum, t->sum, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0 || cols == 0)
        return TERN_OK;

    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, t->gamma, &owned[0], &m->gamma));
    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, t->beta, &owned[1], &m->beta));
    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, t->bias, &owned[2], &m->bias));
    const struct tern_row_call call = {
        .in = { { t->input->data, dtype, cols, 0 }, { m->sums ? t->residual->data : NULL, dtype, cols, 0 } },
        .out = { { t->output->data, dtype, cols, 0 }, { tern_floats(t->sum), dtype, cols, 0 } },
        .n_rows = rows,
        .fn = norm_row,
        .arg = m,
    };
    status = tern_rows_run(ctx, &call);
fail:
    for (int i = 0; i < 3; i++)
        tern_free(owned[i]);
    return status;
}

tern_status tern_layer_norm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *gamma, const tern_tensor *beta,
                            float eps, tern_tensor *output)
{
    struct norm m = { .eps = eps };

    return norm(ctx, "layer_norm",
                &(struct norm_tensors){ .input = input, .gamma = gamma, .beta = beta, .output = output }, &m);
}

tern_status tern_layer_norm_residual(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *input_bias,
                                     const tern_tensor *residual, const tern_tensor *gamma, const tern_tensor *beta,
                                     float eps, tern_tensor *output, tern_tensor *sum)
{
    struct norm m = { .eps = eps, .sums = true };

    return norm(ctx, "layer_norm_residual",
                &(struct norm_tensors){ input, input_bias, residual, gamma, beta, output, sum }, &m);
}

tern_status tern_rms_norm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *gamma, float eps,
                          tern_tensor *output)
{
    struct norm m = { .eps = eps, .rms = true };

    return norm(ctx, "rms_norm", &(struct norm_tensors){ .input = input, .gamma = gamma, .output = output }, &m);
}

tern_status tern_pre_rms_norm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *residual,
                              const tern_tensor *gamma, float eps, tern_tensor *output, tern_tensor *sum)
{
    struct norm m = { .eps = eps, .rms = true, .sums = true };

    return norm(
        ctx, "pre_rms_norm",
        &(struct norm_tensors){ .input = input, .residual = residual, .gamma = gamma, .output = output, .sum = sum },
        &m);
}

/* ---- by name ---- */

static tern_status run_layer_norm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                  const tern_op_call *call)
{
    (void)call;
    return tern_layer_norm(ctx, io[0], io[1], io[2], config->layer_norm_eps, io[3]);
}

const struct tern_op_row tern_row_layer_norm = {
    .name = "layer_norm",
    .formula = "output = (input - mean) / sqrt(var + eps) gamma + beta",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_EPS,
    .kernels = "layer_norm_",
    .function = true,
    .run = run_layer_norm,
    .io = { TERN_IN_ALSO("input", "[.., H]", "x"), TERN_VECTOR_ALSO("gamma", "[H]", "w"),
            TERN_VECTOR_OPTIONAL_ALSO("beta", "[H]", "b"), TERN_OUT("output", "[.., H]") },
};

static tern_status run_layer_norm_residual(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                           const tern_op_call *call)
{
    (void)call;
    return tern_layer_norm_residual(ctx, io[0], io[1], io[2], io[3], io[4], config->layer_norm_eps, io[5], io[6]);
}

const struct tern_op_row tern_row_layer_norm_residual = {
    .name = "layer_norm_residual",
    .formula = "sum = (input + input_bias) + residual; output = layer_norm(sum)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_EPS,
    .kernels = "layer_norm_residual_",
    .function = true,
    .run = run_layer_norm_residual,
    .io = { TERN_IN_ALSO("input", "[.., H]", "x"), TERN_VECTOR_OPTIONAL("input_bias", "[H]"),
            TERN_IN("residual", "[.., H]"), TERN_VECTOR_ALSO("gamma", "[H]", "w"),
            TERN_VECTOR_OPTIONAL_ALSO("beta", "[H]", "b"), TERN_OUT("output", "[.., H]"),
            TERN_OUT_OPTIONAL("sum", "[.., H]") },
};

static tern_status run_rms_norm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    (void)call;
    return tern_rms_norm(ctx, io[0], io[1], config->layer_norm_eps, io[2]);
}

const struct tern_op_row tern_row_rms_norm = {
    .name = "rms_norm",
    .formula = "output = input / sqrt(mean(input^2) + eps) gamma",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_EPS,
    .kernels = "rms_norm_",
    .function = true,
    .run = run_rms_norm,
    .io = { TERN_IN_ALSO("input", "[.., H]", "x"), TERN_VECTOR("gamma", "[H]"), TERN_OUT("output", "[.., H]") },
};

static tern_status run_pre_rms_norm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                    const tern_op_call *call)
{
    (void)call;
    return tern_pre_rms_norm(ctx, io[0], io[1], io[2], config->layer_norm_eps, io[3], io[4]);
}

const struct tern_op_row tern_row_pre_rms_norm = {
    .name = "pre_rms_norm",
    .formula = "residual (output) = input + residual; output = rms_norm of that sum",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_EPS,
    .kernels = "rms_norm_residual_",
    .function = true,
    .run = run_pre_rms_norm,
    .io = { TERN_IN_ALSO("input", "[.., H]", "x"), TERN_IN_ALSO("residual", "[.., H]", "r"),
            TERN_VECTOR("gamma", "[H]"), TERN_OUT("output", "[.., H]"), TERN_OUT_OPTIONAL("residual", "[.., H]") },
};
