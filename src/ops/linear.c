/* linear.c: output = input W + bias, and vector_matmul, the same without a bias. */
#include "ops/op_table.h"

struct linear {
    const struct tern_kernels *kernels;
    float *c;
    const float *a;
    size_t rows;
    const tern_weight *weight;
    struct tern_epilogue epilogue;
};

static void linear_region(void *arg, const struct tern_par *par)
{
    const struct linear *l = arg;
    const struct tern_par with = tern_par_with(par, l->kernels);

    tern_gemm_run(&with, l->c, (size_t)l->weight->out, l->a, (size_t)l->weight->in, l->rows, l->weight, &l->epilogue);
}

static tern_status linear(tern_ctx *ctx, const char *op, const tern_config *config, const tern_tensor *input,
                          const tern_tensor *weight, const tern_tensor *bias, tern_tensor *output)
{
    tern_weight *owned = NULL;
    struct linear l;
    int64_t out;

    TERN_TRY(tern_check_rows(ctx, op, "input", input, -1, -1, &l.rows));
    TERN_TRY(
        tern_check_weight(ctx, op, "weight", weight, config->transposed_mode, input->dim[input->rank - 1], -1, &out));
    TERN_TRY(tern_check_optional_vector(ctx, op, "bias", bias, out));
    TERN_TRY(tern_check_rows(ctx, op, "output", output, (int64_t)l.rows, out, NULL));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "weight", weight, false, false },
                                             { "bias", bias, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    TERN_TRY(tern_bind_weight(ctx, weight, config->transposed_mode, &l.weight, &owned));
    l.kernels = tern_kernels_for(ctx, config);
    l.c = output->data;
    l.a = input->data;
    l.epilogue = (struct tern_epilogue){ .bias = tern_floats(bias) };
    const tern_status status = tern_region(ctx, linear_region, &l);
    tern_weight_destroy(&owned);
    return status;
}

tern_status tern_linear(tern_ctx *ctx, const tern_config *config, const tern_tensor *input, const tern_tensor *weight,
                        const tern_tensor *bias, tern_tensor *output)
{
    TERN_TRY(tern_op_check(ctx, TERN_OP_LINEAR, config));
    return linear(ctx, "linear", config, input, weight, bias, output);
}

tern_status tern_vector_matmul(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                               const tern_tensor *weight, tern_tensor *output)
{
    TERN_TRY(tern_op_check(ctx, TERN_OP_VECTOR_MATMUL, config));
    return linear(ctx, "vector_matmul", config, input, weight, NULL, output);
}
