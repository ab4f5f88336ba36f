/* qkv_gemm.c: norm of the rows, then a product. */
#include "ops/op_table.h"

struct qkv_gemm {
    const struct tern_kernels *kernels;
    float *c, *normed;
    const float *a;
    size_t rows;
    const tern_weight *weight;
    struct tern_norm_args norm;
    struct tern_epilogue epilogue;
};

static void qkv_gemm_region(void *arg, const struct tern_par *par)
{
    const struct qkv_gemm *q = arg;
    const struct tern_par with = tern_par_with(par, q->kernels);
    const size_t in = (size_t)q->weight->in;

    tern_norm_run(&with, q->normed, NULL, q->a, NULL, NULL, q->rows, in, &q->norm);
    tern_gemm_run(&with, q->c, (size_t)q->weight->out, q->normed, in, q->rows, q->weight, &q->epilogue);
}

tern_status tern_qkv_gemm(tern_ctx *ctx, const tern_config *config, const tern_tensor *input, const tern_tensor *weight,
                          const tern_tensor *bias, const tern_tensor *gamma, const tern_tensor *beta,
                          tern_tensor *output, tern_tensor *norm)
{
    static const char op[] = "qkv_gemm";
    tern_weight *owned = NULL;
    void *scratch = NULL;
    size_t scratch_bytes = 0;
    struct qkv_gemm q;
    tern_status status;
    int64_t out;

    TERN_TRY(tern_op_check(ctx, TERN_OP_QKV_GEMM, config));
    TERN_TRY(tern_check_rows(ctx, op, "input", input, -1, -1, &q.rows));
    const int64_t in = input->dim[input->rank - 1];
    TERN_REQUIRE(ctx, in >= 1, TERN_ERR_SHAPE, "%s: input is %s, expected rows of at least one value", op,
                 tern_dims_text(input).text);
    TERN_TRY(tern_check_weight(ctx, op, "weight", weight, config->transposed_mode, in, -1, &out));
    TERN_TRY(tern_check_optional_vector(ctx, op, "bias", bias, out));
    TERN_TRY(tern_check_vector(ctx, op, "gamma", gamma, in));
    TERN_TRY(tern_check_optional_vector(ctx, op, "beta", beta, in));
    TERN_REQUIRE(ctx, config->norm_type == TERN_LAYER_NORM || !tern_given(beta), TERN_ERR_ARG,
                 "%s: beta is given with RMSNorm, expected NULL", op);
    TERN_TRY(tern_check_rows(ctx, op, "output", output, (int64_t)q.rows, out, NULL));
    if (tern_given(norm))
        TERN_TRY(tern_check_rows(ctx, op, "norm", norm, (int64_t)q.rows, in, NULL));
    const struct tern_operand operands[] = {
        { "input", input, false, false }, { "weight", weight, false, false }, { "bias", bias, false, false },
        { "gamma", gamma, false, false }, { "beta", beta, false, false },     { "output", output, true, false },
        { "norm", norm, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    q.normed = tern_floats(norm);
    if (!q.normed) {
        scratch_bytes = q.rows * (size_t)in * sizeof(float);
        TERN_TRY_OR_FAIL(tern_pages_alloc(ctx, scratch_bytes, "normed rows", &scratch));
        q.normed = scratch;
    }
    TERN_TRY_OR_FAIL(tern_bind_weight(ctx, weight, config->transposed_mode, &q.weight, &owned));
    q.kernels = tern_kernels_for(ctx, config);
    q.c = output->data;
    q.a = input->data;
    q.norm = (struct tern_norm_args){ config->norm_type, gamma->data, tern_floats(beta), config->layer_norm_eps };
    q.epilogue = (struct tern_epilogue){ .bias = tern_floats(bias) };
    status = tern_region(ctx, qkv_gemm_region, &q);

fail:
    tern_weight_destroy(&owned);
    tern_pages_free(scratch, scratch_bytes);
    return status;
}
