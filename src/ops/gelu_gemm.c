/* gelu_gemm.c: a feed-forward without a norm: output = gelu(input W1 + bias) W2. */
#include "ops/feed_forward.h"
#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

struct gelu_gemm {
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    const float *a;
    float *inner, *c;
    size_t rows;
    struct tern_feed_forward_args mlp;
    struct tern_epilogue end;
    void *narrow;           /* NULL: rows of the products stay fp32 */
    struct tern_rows ready; /* the input, where the first product reads it as it is; else NULL in both */
};

static void gelu_gemm_region(void *arg, const struct tern_par *par)
{
    const struct gelu_gemm *g = arg;
    const struct tern_par with = tern_par_with(par, g->kernels);
    const size_t out = (size_t)g->mlp.down->out;

    tern_stage_load(&with, &g->stage);
    if (g->ready.narrow)
        tern_feed_forward_run_rows(&with, &g->mlp, g->c, out, &g->ready, g->rows, g->inner, &g->end, g->narrow);
    else
        tern_feed_forward_run(&with, &g->mlp, g->c, out, g->a, (size_t)g->mlp.up->in, g->rows, g->inner, &g->end,
                              g->narrow);
}

tern_status tern_gelu_gemm(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                           const tern_tensor *weight, const tern_tensor *bias, const tern_tensor *weight_out,
                           tern_tensor *output)
{
    static const char op[] = "gelu_gemm";
    tern_weight *owned_up = NULL, *owned_down = NULL;
    struct gelu_gemm g = { 0 };
    size_t inner_bytes = 0, narrow_bytes = 0, in;
    void *inner = NULL;
    tern_status status;
    int64_t up, out;

    TERN_TRY(tern_op_check(ctx, &tern_row_gelu_gemm, config));
    const tern_dtype dtype = tern_config_activation(config);
    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, dtype, -1, -1, &g.rows, &in));
    TERN_TRY(tern_check_matrix(ctx, op, "weight", weight, config, (int64_t)in, -1, &up));
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, dtype, up, true));
    TERN_TRY(tern_check_matrix(ctx, op, "weight_out", weight_out, config, up, -1, &out));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, (int64_t)g.rows, out, NULL, NULL));
    const struct tern_operand operands[] = {
        { "input", input, false, false },           { "weight", weight, false, false }, { "bias", bias, false, false },
        { "weight_out", weight_out, false, false }, { "output", output, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (g.rows == 0 || out == 0)
        return TERN_OK;

    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight, config, &g.mlp.up, &owned_up));
    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight_out, config, &g.mlp.down, &owned_down));
    if (tern_config_narrow(config))
        g.ready = tern_rows_of(input, g.mlp.up);
    if (!g.ready.narrow)
        tern_stage_in(&g.stage, input, &g.a);
    tern_stage_in(&g.stage, bias, &g.mlp.up_bias);
    g.c = tern_gemm_store(output, (size_t)out, &g.end);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &g.stage));
    const size_t most = tern_feed_forward_most(tern_ctx_threads(ctx), g.rows);
    TERN_REQUIRE_OR_FAIL(ctx, tern_size_mul(most, (size_t)up * sizeof(float), &inner_bytes), TERN_ERR_MEMORY,
                         "out of memory: %zu rows of %" PRId64 " values", most, up);
    TERN_TRY_OR_FAIL(tern_scratch_take(ctx, inner_bytes, "rows of a feed-forward", &inner));
    if (tern_config_narrow(config)) {
        narrow_bytes = tern_feed_forward_scratch(&g.mlp, g.rows);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, narrow_bytes, "rows of a product", &g.narrow));
    }
    g.kernels = tern_kernels_for(ctx, config);
    g.inner = inner;
    g.mlp.activation = TERN_GELU;
    g.mlp.gelu = config->gelu;
    status = tern_region(ctx, gelu_gemm_region, &g);

fail:
    tern_weight_destroy(&owned_up);
    tern_weight_destroy(&owned_down);
    tern_scratch_give(ctx, g.narrow, narrow_bytes);
    tern_scratch_give(ctx, inner, inner_bytes);
    tern_stage_close(ctx, &g.stage);
    return status;
}

/* ---- by name ---- */

static tern_status run_gelu_gemm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                 const tern_op_call *call)
{
    (void)call;
    return tern_gelu_gemm(ctx, config, io[0], io[1], io[2], io[3], io[4]);
}

const struct tern_op_row tern_row_gelu_gemm = {
    .name = "gelu_gemm",
    .formula = "output = gelu(input W1 + bias) W2",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_GELU | TERN_READS_TUNE,
    .kernels = "gemm act_f32",
    .run = run_gelu_gemm,
    .io = { TERN_IN("input", "[.., H]"), TERN_MATRIX("weight", "[H, I]"), TERN_VECTOR_OPTIONAL("bias", "[I]"),
            TERN_MATRIX("weight_out", "[I, N]"), TERN_OUT("output", "[.., N]"), TERN_SCALE("weight"),
            TERN_SCALE("weight_out") },
};
