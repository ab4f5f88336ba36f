/* rows_quantize.c: weights to codes and back, by name: codes, scales and minima as tensors. */
#include "ops/op_table.h"
#include "ops/quantize_spans.h"

#include <stdio.h>
#include <string.h>

static bool is_symmetric(const tern_op_params *params)
{
    return params->scheme != TERN_QUANT_GROUPWISE;
}

/* uint8 but for signed codes of a byte each. */
static tern_dtype code_dtype(const tern_op_params *params)
{
    return params->bits == 8 && is_symmetric(params) ? TERN_INT8 : TERN_UINT8;
}

/* The text of an error that another function wrote, under this operator's name. */
static tern_status fail_as(tern_ctx *ctx, const char *op, tern_status status)
{
    char text[TERN_ERROR_SIZE];

    if (status == TERN_OK || status == TERN_ERR_MEMORY || status == TERN_ERR_THREAD || status == TERN_ERR_STATE)
        return status;
    snprintf(text, sizeof text, "%s", tern_error(ctx));
    return tern_fail(ctx, status, "%s: %s", op, text);
}

static tern_quant_options options_of(const tern_config *config, const tern_op_params *params)
{
    tern_quant_options options = tern_quant_options_default((tern_quant_scheme)params->scheme);

    options.bits = params->bits;
    if (params->scheme == TERN_QUANT_GROUPWISE) {
        options.group_size = params->group_size;
        options.group_dim = params->group_dim;
    } else if (params->groups) {
        options.groups = params->groups;
    }
    if (params->scheme == TERN_QUANT_CHECKPOINT) {
        options.mlp_extra_grouping = params->mlp_extra_grouping;
        options.mp_size = config->mp_size;
    }
    return options;
}

/* ---- quantize ---- */

static tern_status infer_quantize(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                  tern_tensor *const *io, tern_tensor *found)
{
    const tern_quant_options options = options_of(config, params);
    const tern_tensor *w = io[0];
    tern_tensor codes = *w, scale = *w;

    TERN_REQUIRE(ctx, w->rank >= 1 && w->rank <= TERN_MAX_RANK, TERN_ERR_SHAPE,
                 "quantize: input is %s, expected rank 1..%d", tern_dims_text(w).text, TERN_MAX_RANK);
    if (params->bits == 4)
        codes.dim[w->rank - 1] /= 2;
    if (params->scheme == TERN_QUANT_GROUPWISE) {
        TERN_REQUIRE(ctx, options.group_size >= 1, TERN_ERR_ARG,
                     "quantize: group_size is %" PRId64 ", expected 1 or more", options.group_size);
        TERN_REQUIRE(ctx, options.group_dim >= 0 && options.group_dim < w->rank, TERN_ERR_SHAPE,
                     "quantize: group_dim is %d, expected 0..%d for input %s", options.group_dim, w->rank - 1,
                     tern_dims_text(w).text);
        scale.dim[options.group_dim] /= options.group_size;
    } else {
        scale.rank = 1;
        scale.dim[0] = tern_quant_groups(&options, w, 1);
    }
    found[1] = tern_tensor_view(NULL, code_dtype(params), codes.rank, codes.dim);
    found[2] = tern_tensor_view(NULL, TERN_FP32, scale.rank, scale.dim);
    found[3] = found[2];
    return TERN_OK;
}

static tern_status run_quantize(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    static const char op[] = "quantize";
    const tern_quant_options options = options_of(config, call->params);
    const bool symmetric = is_symmetric(call->params);
    tern_tensor want[4];
    tern_qtensor *q = NULL;
    tern_status status;

    TERN_TRY(tern_check_tensor(ctx, op, "input", io[0], tern_config_activation(config)));
    TERN_TRY(infer_quantize(ctx, config, call->params, io, want));
    TERN_REQUIRE(ctx, !symmetric || !tern_given(io[3]), TERN_ERR_ARG,
                 "quantize: minimum is given with scheme %s, expected none but with groupwise",
                 tern_quant_scheme_name(options.scheme));
    const char *const names[] = { "input", "output", "scale", "minimum" };
    for (int i = 1; i < (symmetric ? 3 : 4); i++) {
        TERN_TRY(tern_check_tensor(ctx, op, names[i], io[i], want[i].dtype));
        bool same = io[i]->rank == want[i].rank;
        for (int d = 0; d < want[i].rank && same; d++)
            same = io[i]->dim[d] == want[i].dim[d];
        TERN_REQUIRE(ctx, same, TERN_ERR_SHAPE, "%s: %s is %s, expected %s", op, names[i], tern_dims_text(io[i]).text,
                     tern_dims_text(&want[i]).text);
    }
    const struct tern_operand operands[] = { { "input", io[0], false, false },
                                             { "output", io[1], true, false },
                                             { "scale", io[2], true, false },
                                             { "minimum", io[3], true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    status = tern_weight_quantize(ctx, io[0], &options, &q);
    if (status)
        return fail_as(ctx, op, status);
    memcpy(io[1]->data, q->codes, q->code_bytes);
    memcpy(io[2]->data, q->scales, (size_t)q->layout.n_groups * sizeof(float));
    if (!symmetric)
        memcpy(io[3]->data, q->minima, (size_t)q->layout.n_groups * sizeof(float));
    tern_qtensor_destroy(&q);
    return TERN_OK;
}

const struct tern_op_row tern_row_quantize = {
    .name = "quantize",
    .formula = "output = codes of input with a scale for each group, and a minimum in groupwise",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_MP,
    .params = "scheme bits groups group_size group_dim mlp_extra_grouping",
    .kernels = "",
    .function = true,
    .run = run_quantize,
    .infer = infer_quantize,
    .io = { TERN_IN("input", "*"),
            TERN_OUT_TYPED("output", "*", TERN_OP_ANY),
            TERN_OUT_TYPED("scale", "*", TERN_OP_FP32),
            { .name = "minimum", .shape = "*", .type = TERN_OP_FP32, .optional = true, .output = true } },
};

/* ---- dequantize ---- */

/* The shape of the numbers: two codes of 4 bits are a byte. */
static tern_status infer_dequantize(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                    tern_tensor *const *io, tern_tensor *found)
{
    tern_tensor shape = *io[0];

    TERN_REQUIRE(ctx, shape.rank >= 1 && shape.rank <= TERN_MAX_RANK, TERN_ERR_SHAPE,
                 "dequantize: input is %s, expected rank 1..%d", tern_dims_text(&shape).text, TERN_MAX_RANK);
    if (params->bits == 4)
        TERN_REQUIRE(ctx, !__builtin_mul_overflow(shape.dim[shape.rank - 1], 2, &shape.dim[shape.rank - 1]),
                     TERN_ERR_SHAPE, "dequantize: input is %s, more elements than there can be",
                     tern_dims_text(io[0]).text);
    found[3] = tern_tensor_view(NULL, tern_config_activation(config), shape.rank, shape.dim);
    return TERN_OK;
}

static tern_status run_dequantize(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                  const tern_op_call *call)
{
    static const char op[] = "dequantize";
    const tern_op_params *p = call->params;
    const bool symmetric = is_symmetric(p);
    tern_tensor want[4];
    tern_qtensor *q = NULL;
    int64_t elements = 1;
    tern_status status;

    TERN_TRY(tern_check_tensor(ctx, op, "input", io[0], code_dtype(p)));
    TERN_TRY(tern_check_tensor(ctx, op, "scale", io[1], TERN_FP32));
    TERN_REQUIRE(ctx, symmetric != tern_given(io[2]), TERN_ERR_ARG, "%s: minimum is %s with scheme %s, expected %s", op,
                 symmetric ? "given" : "missing", tern_quant_scheme_name((tern_quant_scheme)p->scheme),
                 symmetric ? "none but with groupwise" : "one for each scale");
    if (!symmetric)
        TERN_TRY(tern_check_tensor(ctx, op, "minimum", io[2], TERN_FP32));
    TERN_TRY(tern_check_tensor(ctx, op, "output", io[3], tern_config_activation(config)));
    TERN_TRY(infer_dequantize(ctx, config, p, io, want));
    tern_quant_layout layout = { .bits = p->bits,
                                 .symmetric = symmetric,
                                 .grouping = symmetric ? TERN_QUANT_FLAT : TERN_QUANT_AXIS,
                                 .axis = symmetric ? io[0]->rank - 1 : p->group_dim,
                                 .n_groups = 1,
                                 .n_shards = p->n_shards,
                                 .rank = io[0]->rank };
    for (int i = 0; i < io[1]->rank; i++)
        layout.n_groups *= io[1]->dim[i];
    for (int i = 0; i < want[3].rank; i++) {
        layout.dim[i] = want[3].dim[i];
        TERN_REQUIRE(ctx, !__builtin_mul_overflow(elements, layout.dim[i], &elements), TERN_ERR_SHAPE,
                     "%s: input is %s, more elements than there can be", op, tern_dims_text(io[0]).text);
    }
    TERN_REQUIRE(ctx, elements >= 1 && layout.n_groups >= 1 && elements % layout.n_groups == 0, TERN_ERR_SHAPE,
                 "%s: scale is %s, expected a number of groups that divides %" PRId64 " elements of input %s", op,
                 tern_dims_text(io[1]).text, elements, tern_dims_text(io[0]).text);
    layout.group_size = elements / layout.n_groups;
    const struct tern_operand operands[] = { { "input", io[0], false, false },
                                             { "scale", io[1], false, false },
                                             { "minimum", io[2], false, false },
                                             { "output", io[3], true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    TERN_TRY_OR_FAIL(tern_qtensor_create(ctx, &layout, io[0], io[1], io[2], &q));
    TERN_TRY_OR_FAIL(tern_weight_dequantize(ctx, q, io[3]));
fail:
    tern_qtensor_destroy(&q);
    return fail_as(ctx, op, status);
}

const struct tern_op_row tern_row_dequantize = {
    .name = "dequantize",
    .formula = "output = scale input, or input / scale + minimum in groupwise",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "scheme bits group_dim n_shards",
    .kernels = "",
    .function = true,
    .run = run_dequantize,
    .infer = infer_dequantize,
    .io = { { .name = "input", .shape = "*", .type = TERN_OP_ANY },
            { .name = "scale", .shape = "*", .type = TERN_OP_FP32 },
            { .name = "minimum", .shape = "*", .type = TERN_OP_FP32, .optional = true },
            TERN_OUT("output", "*") },
};
