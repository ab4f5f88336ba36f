/* qkv_gemm.c: norm of the rows, then a product. */
#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

struct qkv_gemm {
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    float *c, *normed;
    const float *a;
    size_t rows;
    const tern_weight *weight;
    struct tern_norm_args norm;
    struct tern_epilogue epilogue;
    bool keep;    /* the normed rows are asked for */
    void *narrow; /* NULL: rows stay fp32 */
};

static void qkv_gemm_region(void *arg, const struct tern_par *par)
{
    const struct qkv_gemm *q = arg;
    const struct tern_par with = tern_par_with(par, q->kernels);
    struct tern_rows rows = tern_rows_narrow(q->weight, q->narrow, q->rows);

    tern_stage_load(&with, &q->stage);
    tern_norm_run_rows(&with, &rows, q->weight, q->normed, q->keep, NULL, q->a, NULL, NULL, q->rows, &q->norm);
    tern_gemm_run_rows(&with, q->c, (size_t)q->weight->out, &rows, q->rows, q->weight, &q->epilogue);
    tern_stage_store(&with, &q->stage);
}

tern_status tern_qkv_gemm(tern_ctx *ctx, const tern_config *config, const tern_tensor *input, const tern_tensor *weight,
                          const tern_tensor *bias, const tern_tensor *gamma, const tern_tensor *beta,
                          tern_tensor *output, tern_tensor *norm)
{
    static const char op[] = "qkv_gemm";
    tern_weight *owned = NULL;
    struct qkv_gemm q = { 0 };
    size_t scratch_bytes = 0, narrow_bytes = 0, n;
    void *scratch = NULL;
    tern_status status;
    int64_t out;

    TERN_TRY(tern_op_check(ctx, &tern_row_qkv_gemm, config));
    const tern_dtype dtype = tern_config_activation(config);
    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, dtype, -1, -1, &q.rows, &n));
    const int64_t in = (int64_t)n, rows = (int64_t)q.rows;
    TERN_REQUIRE(ctx, in >= 1, TERN_ERR_SHAPE, "%s: input is %s, expected rows of at least one value", op,
                 tern_dims_text(input).text);
    TERN_TRY(tern_check_matrix(ctx, op, "weight", weight, config, in, -1, &out));
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, dtype, out, true));
    TERN_TRY(tern_check_float_vector(ctx, op, "gamma", gamma, dtype, in, false));
    TERN_TRY(tern_check_float_vector(ctx, op, "beta", beta, dtype, in, true));
    TERN_REQUIRE(ctx, config->norm_type == TERN_LAYER_NORM || !tern_given(beta), TERN_ERR_ARG,
                 "%s: beta is given with RMSNorm, expected none", op);
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, rows, out, NULL, NULL));
    if (tern_given(norm))
        TERN_TRY(tern_check_float_rows(ctx, op, "norm", norm, dtype, rows, in, NULL, NULL));
    const struct tern_operand operands[] = {
        { "input", input, false, false }, { "weight", weight, false, false }, { "bias", bias, false, false },
        { "gamma", gamma, false, false }, { "beta", beta, false, false },     { "output", output, true, false },
        { "norm", norm, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    q.norm = (struct tern_norm_args){ .type = config->norm_type, .eps = config->layer_norm_eps };
    tern_stage_in(&q.stage, input, &q.a);
    tern_stage_in(&q.stage, bias, &q.epilogue.bias);
    tern_stage_in(&q.stage, gamma, &q.norm.gamma);
    tern_stage_in(&q.stage, beta, &q.norm.beta);
    q.c = tern_gemm_store(output, (size_t)out, &q.epilogue);
    tern_stage_out(&q.stage, norm, &q.normed);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &q.stage));
    q.keep = q.normed;
    if (!q.normed) {
        scratch_bytes = q.rows * n * sizeof(float);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, scratch_bytes, "normed rows", &scratch));
        q.normed = scratch;
    }
    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight, config, &q.weight, &owned));
    if (tern_config_narrow(config)) {
        narrow_bytes = tern_gemm_scratch(q.weight, q.rows);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, narrow_bytes, "rows of a product", &q.narrow));
    }
    q.kernels = tern_kernels_for(ctx, config);
    status = tern_region(ctx, qkv_gemm_region, &q);

fail:
    tern_scratch_give(ctx, q.narrow, narrow_bytes);
    tern_scratch_give(ctx, scratch, scratch_bytes);
    tern_weight_destroy(&owned);
    tern_stage_close(ctx, &q.stage);
    return status;
}

/* ---- by name ---- */

static tern_status run_qkv_gemm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    (void)call;
    return tern_qkv_gemm(ctx, config, io[0], io[1], io[2], io[3], io[4], io[5], io[6]);
}

const struct tern_op_row tern_row_qkv_gemm = {
    .name = "qkv_gemm",
    .formula = "norm = LayerNorm or RMSNorm of input; output = norm W (+ bias)",
    .dtypes = TERN_ALL_DTYPES,
    .norms = TERN_ANY_NORM,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_NORM | TERN_READS_TUNE,
    .kernels = "*_f32 gemm",
    .run = run_qkv_gemm,
    .io = { TERN_IN("input", "[.., H]"),
            TERN_MATRIX("weight", "[H, N]"),
            TERN_VECTOR_OPTIONAL("bias", "[N]"),
            TERN_VECTOR("gamma", "[H]"),
            TERN_VECTOR_OPTIONAL("beta", "[H]"),
            TERN_OUT_ALSO("output", "[.., N]", "qkv"),
            { .name = "norm", .shape = "[.., H]", .output = true, .optional = true, .also = "normed_input" },
            TERN_SCALE("weight") },
};
