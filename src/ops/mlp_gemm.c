/* mlp_gemm.c: what follows attention: residual, norm, and a feed-forward of two products. */
#include "ops/feed_forward.h"
#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

struct mlp_gemm {
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    const float *input, *residual, *input_bias;
    float *z, *sum, *inner, *c; /* sum may be NULL */
    size_t rows;
    struct tern_norm_args norm;
    struct tern_feed_forward_args mlp;
    struct tern_epilogue end;
    bool residual_alone; /* z = norm(residual) */
    bool keep;           /* z is asked for */
    void *narrow;        /* NULL: rows of the products stay fp32 */
};

static void mlp_gemm_region(void *arg, const struct tern_par *par)
{
    const struct mlp_gemm *m = arg;
    const struct tern_par with = tern_par_with(par, m->kernels);
    const size_t out = (size_t)m->mlp.down->out;
    struct tern_rows rows = tern_feed_forward_rows(&m->mlp, m->rows, m->narrow);
    const bool alone = m->residual_alone;

    tern_stage_load(&with, &m->stage);
    tern_norm_run_rows(&with, &rows, m->mlp.up, m->z, m->keep, m->sum, alone ? m->residual : m->input,
                       alone ? NULL : m->input_bias, alone ? NULL : m->residual, m->rows, &m->norm);
    tern_feed_forward_run_rows(&with, &m->mlp, m->c, out, &rows, m->rows, m->inner, &m->end, m->narrow);
    tern_stage_store(&with, &m->stage);
}

tern_status tern_mlp_gemm(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                          const tern_tensor *residual, const tern_tensor *weight, const tern_tensor *weight_out,
                          const tern_tensor *input_bias, const tern_tensor *bias, const tern_tensor *gamma,
                          const tern_tensor *beta, tern_tensor *output, tern_tensor *residual_add)
{
    static const char op[] = "mlp_gemm";
    tern_weight *owned_up = NULL, *owned_down = NULL;
    struct mlp_gemm m = { 0 };
    size_t z_bytes = 0, inner_bytes = 0, narrow_bytes = 0, n;
    void *z = NULL, *inner = NULL;
    tern_status status;
    int64_t up, out;

    TERN_TRY(tern_op_check(ctx, &tern_row_mlp_gemm, config));
    const tern_dtype dtype = tern_config_activation(config);
    const bool rms = config->norm_type == TERN_RMS_NORM, gated = tern_is_gated(config->mlp_act_func_type);
    m.residual_alone = !config->mlp_after_attn && !rms;

    TERN_TRY(tern_check_float_rows(ctx, op, "residual", residual, dtype, -1, -1, &m.rows, &n));
    const int64_t in = (int64_t)n, rows = (int64_t)m.rows;
    TERN_REQUIRE(ctx, in >= 1, TERN_ERR_SHAPE, "%s: residual is %s, expected rows of at least one value", op,
                 tern_dims_text(residual).text);
    if (!m.residual_alone || tern_given(input))
        TERN_TRY(tern_check_float_rows(ctx, op, "input", input, dtype, rows, in, NULL, NULL));
    TERN_TRY(tern_check_matrix(ctx, op, "weight", weight, config, in, -1, &up));
    TERN_REQUIRE(ctx, !gated || up % 2 == 0, TERN_ERR_SHAPE,
                 "%s: weight has %" PRId64 " columns with a gated activation, expected an even number (up | gate)", op,
                 up);
    TERN_TRY(tern_check_matrix(ctx, op, "weight_out", weight_out, config, gated ? up / 2 : up, -1, &out));
    TERN_TRY(tern_check_float_vector(ctx, op, "input_bias", input_bias, dtype, in, true));
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, dtype, up, true));
    TERN_TRY(tern_check_float_vector(ctx, op, "gamma", gamma, dtype, in, false));
    TERN_TRY(tern_check_float_vector(ctx, op, "beta", beta, dtype, in, true));
    TERN_REQUIRE(ctx, !rms || !tern_given(beta), TERN_ERR_ARG, "%s: beta is given with RMSNorm, expected none", op);
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, rows, out, NULL, NULL));
    if (tern_given(residual_add))
        TERN_TRY(tern_check_float_rows(ctx, op, "residual_add", residual_add, dtype, rows, in, NULL, NULL));
    const struct tern_operand operands[] = {
        { "input", input, false, false },           { "residual", residual, false, false },
        { "weight", weight, false, false },         { "weight_out", weight_out, false, false },
        { "input_bias", input_bias, false, false }, { "bias", bias, false, false },
        { "gamma", gamma, false, false },           { "beta", beta, false, false },
        { "output", output, true, false },          { "residual_add", residual_add, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    m.norm = (struct tern_norm_args){ .type = config->norm_type, .eps = config->layer_norm_eps };
    tern_stage_in(&m.stage, residual, &m.residual);
    if (!m.residual_alone)
        tern_stage_in(&m.stage, input, &m.input);
    tern_stage_in(&m.stage, input_bias, &m.input_bias);
    tern_stage_in(&m.stage, bias, &m.mlp.up_bias);
    tern_stage_in(&m.stage, gamma, &m.norm.gamma);
    tern_stage_in(&m.stage, beta, &m.norm.beta);
    m.c = tern_gemm_store(output, (size_t)out, &m.end);
    tern_stage_out(&m.stage, residual_add, rms ? &m.sum : &m.z);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &m.stage));
    m.keep = m.z;
    if (!m.z) {
        z_bytes = m.rows * n * sizeof(float);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, z_bytes, "normed rows", &z));
        m.z = z;
    }
    const size_t most = tern_feed_forward_most(tern_ctx_threads(ctx), m.rows);
    TERN_REQUIRE_OR_FAIL(ctx, tern_size_mul(most, (size_t)up * sizeof(float), &inner_bytes), TERN_ERR_MEMORY,
                         "out of memory: %zu rows of %" PRId64 " values", most, up);
    TERN_TRY_OR_FAIL(tern_scratch_take(ctx, inner_bytes, "rows of a feed-forward", &inner));
    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight, config, &m.mlp.up, &owned_up));
    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight_out, config, &m.mlp.down, &owned_down));
    if (tern_config_narrow(config)) {
        narrow_bytes = tern_feed_forward_scratch(&m.mlp, m.rows);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, narrow_bytes, "rows of a product", &m.narrow));
    }
    m.kernels = tern_kernels_for(ctx, config);
    m.inner = inner;
    m.mlp.activation = config->mlp_act_func_type;
    m.mlp.gelu = config->gelu;
    status = tern_region(ctx, mlp_gemm_region, &m);

fail:
    tern_weight_destroy(&owned_up);
    tern_weight_destroy(&owned_down);
    tern_scratch_give(ctx, m.narrow, narrow_bytes);
    tern_scratch_give(ctx, z, z_bytes);
    tern_scratch_give(ctx, inner, inner_bytes);
    tern_stage_close(ctx, &m.stage);
    return status;
}

/* ---- by name ---- */

static tern_status run_mlp_gemm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    (void)call;
    return tern_mlp_gemm(ctx, config, io[0], io[1], io[2], io[3], io[4], io[5], io[6], io[7], io[8], io[9]);
}

const struct tern_op_row tern_row_mlp_gemm = {
    .name = "mlp_gemm",
    .formula = "z = norm(input + input_bias + residual); output = act(z W1 + bias) W2",
    .dtypes = TERN_ALL_DTYPES,
    .norms = TERN_ANY_NORM,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_NORM | TERN_READS_ACTIVATION | TERN_READS_BLOCK | TERN_READS_TUNE,
    .kernels = "*_residual_f32 gemm act_f32",
    .run = run_mlp_gemm,
    .io = { TERN_IN_OPTIONAL("input", "[.., H]"), TERN_IN("residual", "[.., H]"),
            TERN_MATRIX_ALSO("weight", "[H, pI]", "weight_interm"), TERN_MATRIX("weight_out", "[I, N]"),
            TERN_VECTOR_OPTIONAL("input_bias", "[H]"), TERN_VECTOR_OPTIONAL("bias", "[pI]"),
            TERN_VECTOR("gamma", "[H]"), TERN_VECTOR_OPTIONAL("beta", "[H]"), TERN_OUT("output", "[.., N]"),
            TERN_OUT_OPTIONAL("residual_add", "[.., H]"), TERN_SCALE_ALSO("weight", "weight_interm_scale"),
            TERN_SCALE("weight_out") },
};
