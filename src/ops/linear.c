/* linear.c: output = input W + bias, also with q, k and v apart; and vector_matmul, the same without a bias. */
#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <string.h>

struct linear {
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    float *c;
    const float *a;
    size_t rows;
    const tern_weight *weight;
    struct tern_epilogue epilogue;
    void *narrow;           /* NULL: rows stay fp32 */
    struct tern_rows ready; /* the input, where the product reads it as it is; else NULL in both */
};

static void linear_region(void *arg, const struct tern_par *par)
{
    const struct linear *l = arg;
    const struct tern_par with = tern_par_with(par, l->kernels);
    const size_t in = (size_t)l->weight->in, out = (size_t)l->weight->out;

    tern_stage_load(&with, &l->stage);
    if (l->ready.narrow)
        tern_gemm_run_rows(&with, l->c, out, &l->ready, l->rows, l->weight, &l->epilogue);
    else
        tern_gemm_run_either(&with, l->c, out, l->a, in, l->rows, l->weight, &l->epilogue, l->narrow);
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
    if (l.rows == 0 || out == 0)
        return TERN_OK;

    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight, config, &l.weight, &owned));
    const bool narrow = tern_config_narrow(config);
    if (narrow)
        l.ready = tern_rows_of(input, l.weight);
    const bool ready = l.ready.narrow;
    if (!ready)
        tern_stage_in(&l.stage, input, &l.a);
    tern_stage_in(&l.stage, bias, &l.epilogue.bias);
    l.c = tern_gemm_store(output, (size_t)out, &l.epilogue);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &l.stage));
    if (narrow && !ready) {
        narrow_bytes = tern_gemm_scratch(l.weight, l.rows);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, narrow_bytes, "rows of a product", &l.narrow));
    }
    l.kernels = tern_kernels_for(ctx, config);
    status = tern_region(ctx, linear_region, &l);

fail:
    tern_scratch_give(ctx, l.narrow, narrow_bytes);
    tern_weight_destroy(&owned);
    tern_stage_close(ctx, &l.stage);
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

/* ---- q, k and v apart ---- */

struct linear_heads {
    struct linear linear; /* its c is scratch, [B S, 3 h E] */
    float *out;           /* [3, B, h, S, E'] */
    size_t batch, heads, seq, head_dim, padded;
};

static void linear_heads_region(void *arg, const struct tern_par *par)
{
    const struct linear_heads *h = arg;
    const struct linear *l = &h->linear;
    const struct tern_par with = tern_par_with(par, l->kernels);
    const size_t width = (size_t)l->weight->out, size = h->head_dim * sizeof(float);
    size_t row, end;

    tern_stage_load(&with, &l->stage);
    tern_gemm_run_either(&with, l->c, width, l->a, (size_t)l->weight->in, l->rows, l->weight, &l->epilogue, l->narrow);
    tern_share(&with, 3 * l->rows * h->heads, 1, &row, &end);
    for (; row < end; row++) {
        const size_t s = row % h->seq, head = row / h->seq % h->heads, b = row / h->seq / h->heads % h->batch;
        const size_t part = row / h->seq / h->heads / h->batch;
        float *to = h->out + row * h->padded;
        memcpy(to, l->c + (b * h->seq + s) * width + (part * h->heads + head) * h->head_dim, size);
        memset(to + h->head_dim, 0, h->padded * sizeof(float) - size);
    }
    tern_barrier(&with);
    tern_stage_store(&with, &l->stage);
}

static tern_status check_heads(tern_ctx *ctx, const char *op, const tern_tensor *input, int64_t columns,
                               int32_t num_heads)
{
    TERN_REQUIRE(ctx, num_heads >= 1, TERN_ERR_CONFIG, "%s: num_heads is %" PRId32 ", expected 1 or more", op,
                 num_heads);
    TERN_REQUIRE(ctx, input->rank == 3, TERN_ERR_SHAPE, "%s: input is %s, expected [B, S, K]", op,
                 tern_dims_text(input).text);
    TERN_REQUIRE(ctx, columns % (3 * (int64_t)num_heads) == 0 && columns > 0, TERN_ERR_SHAPE,
                 "%s: weight has %" PRId64 " columns, expected a multiple of 3 num_heads = %" PRId64, op, columns,
                 3 * (int64_t)num_heads);
    return TERN_OK;
}

tern_status tern_linear_heads(tern_ctx *ctx, const tern_config *config, const tern_tensor *input,
                              const tern_tensor *weight, const tern_tensor *bias, int32_t num_heads,
                              tern_tensor *output)
{
    static const char op[] = "linear";
    tern_weight *owned = NULL;
    struct linear_heads h = { .heads = 0 };
    struct linear *l = &h.linear;
    size_t in, bytes = 0, narrow_bytes = 0;
    void *scratch = NULL;
    tern_status status;
    int64_t columns;

    TERN_TRY(tern_op_check(ctx, &tern_row_linear, config));
    const tern_dtype dtype = tern_config_activation(config);
    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, dtype, -1, -1, &l->rows, &in));
    TERN_TRY(tern_check_matrix(ctx, op, "weight", weight, config, (int64_t)in, -1, &columns));
    TERN_TRY(check_heads(ctx, op, input, columns, num_heads));
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, dtype, columns, true));
    const int64_t head_dim = columns / 3 / num_heads;
    const int64_t dim[5] = { 3, input->dim[0], num_heads, input->dim[1], tern_pad_head_size(head_dim) };
    TERN_TRY(tern_check_float(ctx, op, "output", output, dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 5, dim));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "weight", weight, false, false },
                                             { "bias", bias, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    tern_stage_in(&l->stage, input, &l->a);
    tern_stage_in(&l->stage, bias, &l->epilogue.bias);
    tern_stage_out(&l->stage, output, &h.out);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &l->stage));
    bytes = tern_mul_or_max(l->rows, (size_t)columns * sizeof(float));
    TERN_TRY_OR_FAIL(tern_scratch_take(ctx, bytes, "q, k and v", &scratch));
    TERN_TRY_OR_FAIL(tern_bind_matrix(ctx, weight, config, &l->weight, &owned));
    if (tern_config_narrow(config)) {
        narrow_bytes = tern_gemm_scratch(l->weight, l->rows);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, narrow_bytes, "rows of a product", &l->narrow));
    }
    l->kernels = tern_kernels_for(ctx, config);
    l->c = scratch;
    h.batch = (size_t)dim[1];
    h.heads = (size_t)num_heads;
    h.seq = (size_t)dim[3];
    h.head_dim = (size_t)head_dim;
    h.padded = (size_t)dim[4];
    status = tern_region(ctx, linear_heads_region, &h);

fail:
    tern_scratch_give(ctx, l->narrow, narrow_bytes);
    tern_scratch_give(ctx, scratch, bytes);
    tern_weight_destroy(&owned);
    tern_stage_close(ctx, &l->stage);
    return status;
}

/* ---- by name ---- */

static tern_status run_linear(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                              const tern_op_call *call)
{
    const tern_op_params *p = call->params;

    TERN_REQUIRE(ctx, p->add_bias != 1 || tern_given(io[2]), TERN_ERR_ARG,
                 "linear: add_bias is true and bias is not there, expected [N]");
    const tern_tensor *bias = p->add_bias == 0 ? NULL : io[2];
    if (p->do_flash_attn)
        return tern_linear_heads(ctx, config, io[0], io[1], bias, p->num_heads, io[3]);
    return tern_linear(ctx, config, io[0], io[1], bias, io[3]);
}

static tern_status infer_linear(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                tern_tensor *const *io, tern_tensor *found)
{
    if (!params->do_flash_attn || !io[3])
        return TERN_OK;
    const int64_t columns = io[1]->dim[!(config->transposed_mode && !io[1]->packed)];
    TERN_TRY(check_heads(ctx, "linear", io[0], columns, params->num_heads));
    const int64_t head_dim = columns / 3 / params->num_heads;
    const int64_t dim[5] = { 3, io[0]->dim[0], params->num_heads, io[0]->dim[1], tern_pad_head_size(head_dim) };
    found[3] = tern_tensor_view(NULL, found[3].dtype, 5, dim);
    return TERN_OK;
}

const struct tern_op_row tern_row_linear = {
    .name = "linear",
    .formula = "output = input W (+ bias); with do_flash_attn as [3, B, num_heads, S, E'], zero padded",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_TUNE,
    .params = "add_bias do_flash_attn num_heads",
    .kernels = "gemm",
    .run = run_linear,
    .infer = infer_linear,
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
    .reads = TERN_READS_TUNE,
    .kernels = "gemm",
    .run = run_vector_matmul,
    .io = { TERN_IN("input", "[.., K]"), TERN_MATRIX("weight", "[K, N]"), TERN_OUT("output", "[.., N]"),
            TERN_SCALE("weight") },
};
