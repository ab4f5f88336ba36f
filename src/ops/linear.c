/* linear.c: output = input W + bias, and vector_matmul, the same without a bias. */
#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

struct linear {
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    float *c;
    const float *a;
    size_t rows;
    const tern_weight *weight;
    struct tern_epilogue epilogue;
    void *narrow; /* NULL: rows stay fp32 */
};

static void linear_region(void *arg, const struct tern_par *par)
{
    const struct linear *l = arg;
    const struct tern_par with = tern_par_with(par, l->kernels);
    const size_t in = (size_t)l->weight->in, out = (size_t)l->weight->out;

    tern_stage_load(&with, &l->stage);
    tern_gemm_run_either(&with, l->c, out, l->a, in, l->rows, l->weight, &l->epilogue, l->narrow);
    tern_stage_store(&with, &l->stage);
}

static tern_status linear(tern_ctx *ctx, const char *op, const tern_config *config, const tern_tensor *input,
                          const tern_tensor *weight, const tern_tensor *bias, tern_tensor *output)
{
    const tern_dtype dtype = tern_config_activation(config);
    tern_weight *owned = NULL;
    struct linear l = { 0 };
    size_t in, narrow_bytes = 0;
    tern_status status;
    int64_t out;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, dtype, -1, -1, &l.rows, &in));
    TERN_TRY(tern_check_matrix(ctx, op, "weight", weight, config, (int64_t)in, -1, &out));
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, dtype, out, true));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, (int64_t)l.rows, out, NULL, NULL));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "weight", weight, false, false },
                                             { "bias", bias, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    tern_stage_in(&l.stage, input, &l.a);
    tern_stage_in(&l.stage, bias, &l.epilogue.bias);
    tern_stage_out(&l.stage, output, &l.c);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &l.stage));
    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight, config, &l.weight, &owned));
    if (tern_config_narrow(config)) {
        narrow_bytes = tern_gemm_scratch(l.weight, l.rows);
        TERN_TRY_OR_FAIL(tern_pages_alloc(ctx, narrow_bytes, "rows of a product", &l.narrow));
    }
    l.kernels = tern_kernels_for(ctx, config);
    status = tern_region(ctx, linear_region, &l);

fail:
    tern_pages_free(l.narrow, narrow_bytes);
    tern_weight_destroy(&owned);
    tern_stage_close(&l.stage);
    return status;
}

tern_status tern_linear(tern_ctx *ctx, const tern_config *config, const tern_tensor *input, const tern_tensor *weight,
                        const tern_tensor *bias, tern_tensor *output)
{
    TERN_TRY(tern_op_check(ctx, &tern_row_linear, config));
    return linear(ctx, "linear", config, input, weight, bias, output);
}

tern_status tern_vector_matmul(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                               const tern_tensor *weight, tern_tensor *output)
{
    TERN_TRY(tern_op_check(ctx, &tern_row_vector_matmul, config));
    return linear(ctx, "vector_matmul", config, input, weight, NULL, output);
}

/* ---- by name ---- */

static tern_status run_linear(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                              const tern_op_call *call)
{
    (void)call;
    return tern_linear(ctx, config, io[0], io[1], io[2], io[3]);
}

const struct tern_op_row tern_row_linear = {
    .name = "linear",
    .formula = "output = input W (+ bias)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "gemm",
    .run = run_linear,
    .io = { TERN_IN("input", "[.., K]"), TERN_MATRIX("weight", "[K, N]"), TERN_VECTOR_OPTIONAL("bias", "[N]"),
            TERN_OUT("output", "[.., N]"), TERN_SCALE("weight") },
};

static tern_status run_vector_matmul(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                     const tern_op_call *call)
{
    (void)call;
    return tern_vector_matmul(ctx, config, io[0], io[1], io[2]);
}

const struct tern_op_row tern_row_vector_matmul = {
    .name = "vector_matmul",
    .formula = "output = input W",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "gemm",
    .run = run_vector_matmul,
    .io = { TERN_IN("input", "[.., K]"), TERN_MATRIX("weight", "[K, N]"), TERN_OUT("output", "[.., N]"),
            TERN_SCALE("weight") },
};
