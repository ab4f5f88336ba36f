/* fn_matmul_int8.c: the products of fn_matmul.c with packed weights and int8 codes as their right-hand side. */
#include "ops/fn_matmul.h"
#include "ops/stage.h"
#include "ops/widen.h"

#include <tern/function.h>

/* Rows in groups, each through a packed weight of its own: output rows [ends[i - 1], ends[i]) by weight i.  groups >= 1. */
struct quantised {
    struct tern_stage stage;
    const float *a, *bias;
    float *c;
    const tern_weight *const *weight;
    const int64_t *ends;
    size_t groups, in, out;
    enum tern_act act;
    void *narrow; /* NULL: rows stay fp32 */
};

static void quantised_region(void *arg, const struct tern_par *par)
{
    const struct quantised *q = arg;
    size_t row = 0;

    tern_stage_load(par, &q->stage);
    for (size_t i = 0; i < q->groups; i++) {
        const size_t end = (size_t)q->ends[i];
        const struct tern_epilogue e = { .bias = q->bias ? q->bias + i * q->out : NULL, .act = q->act };
        if (end > row)
            tern_gemm_run_either(par, q->c + row * q->out, q->out, q->a + row * q->in, q->in, end - row, q->weight[i],
                                 &e, q->narrow);
        row = end;
    }
    tern_stage_store(par, &q->stage);
}

static tern_status run_quantised(tern_ctx *ctx, struct quantised *q, const tern_tensor *input, const tern_tensor *bias,
                                 tern_activation_quant quant, tern_tensor *output)
{
    size_t narrow_bytes = 0, most = 0;
    tern_tensor written = *output;
    tern_status status;

    for (size_t i = 0, row = 0; i < q->groups; i++) {
        most = (size_t)q->ends[i] - row > most ? (size_t)q->ends[i] - row : most;
        row = (size_t)q->ends[i];
    }
    /* Rows behind the last group are no one's: they are neither read nor written. */
    if (written.rank == 2)
        written.dim[0] = q->ends[q->groups - 1];
    tern_stage_in(&q->stage, input, &q->a);
    tern_stage_in(&q->stage, bias, &q->bias);
    tern_stage_out(&q->stage, &written, &q->c);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &q->stage));
    if (quant == TERN_QUANT_ROW && most) {
        narrow_bytes = tern_gemm_scratch(q->weight[0], most);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, narrow_bytes, "rows of a product", &q->narrow));
    }
    status = tern_region(ctx, quantised_region, q);
fail:
    tern_scratch_give(ctx, q->narrow, narrow_bytes);
    tern_stage_close(ctx, &q->stage);
    return status;
}

/* `in`: elements of a row. */
static tern_status check_quant(tern_ctx *ctx, const char *op, tern_activation_quant quant, size_t in)
{
    TERN_REQUIRE(ctx, (int)quant == TERN_QUANT_NONE || (int)quant == TERN_QUANT_ROW, TERN_ERR_ARG,
                 "%s: activation_quant is %d, expected none 0 or row 1", op, (int)quant);
    TERN_REQUIRE(ctx, quant != TERN_QUANT_ROW || in <= TERN_ROWS_Q8_LONGEST, TERN_ERR_UNSUPPORTED,
                 "%s: rows have %zu values, which activation_quant row cannot add up, expected %d at most", op, in,
                 TERN_ROWS_Q8_LONGEST);
    return TERN_OK;
}

/* Codes [.., K, N], the last two axes dense in one order or the other; *transposed tells which. */
static tern_status check_codes(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int rank,
                               bool *transposed)
{
    tern_tensor dense;

    TERN_REQUIRE(ctx, ctx && t, TERN_ERR_ARG, "%s: %s is NULL, expected a tensor", op, ctx ? name : "ctx");
    dense = *t;
    *transposed = t->rank == rank && t->stride[rank - 1] != 1 && t->dim[rank - 1] > 1;
    if (*transposed) {
        dense.dim[rank - 1] = t->dim[rank - 2];
        dense.dim[rank - 2] = t->dim[rank - 1];
        dense.stride[rank - 1] = t->stride[rank - 2];
        dense.stride[rank - 2] = t->stride[rank - 1];
    }
    TERN_TRY(tern_check_tensor(ctx, op, name, &dense, TERN_INT8));
    TERN_REQUIRE(ctx, t->rank == rank, TERN_ERR_SHAPE, "%s: %s is %s, expected rank %d", op, name,
                 tern_dims_text(t).text, rank);
    return TERN_OK;
}

/* Matrix i of checked codes [.., K, N] as it lies in memory. */
static tern_tensor codes_at(const tern_tensor *t, bool transposed, int64_t i)
{
    const int64_t k = t->dim[t->rank - 2], n = t->dim[t->rank - 1];

    return tern_tensor_view((int8_t *)t->data + i * k * n, TERN_INT8, 2,
                            transposed ? (int64_t[]){ n, k } : (int64_t[]){ k, n });
}

/* b packed, in a format that fits config, or raw codes. */
static tern_status matmul_weight(tern_ctx *ctx, const tern_config *config, const tern_tensor *a, const tern_tensor *b,
                                 const tern_tensor *b_scale, const tern_tensor *bias, const char *activation,
                                 tern_tensor *output)
{
    static const char op[] = "matmul";
    const tern_activation_quant quant = config->activation_quant;
    const bool packed = b && b->packed;
    tern_weight *owned = NULL;
    struct quantised q = { .groups = 1 };
    bool transposed = false;
    tern_status status;
    size_t rows;

    TERN_TRY(tern_check_float_rows(ctx, op, "a", a, TERN_ANY_FLOAT, -1, -1, &rows, &q.in));
    TERN_REQUIRE(ctx, a->rank == 2 || a->rank == 3, TERN_ERR_SHAPE, "%s: a is %s, expected rank 2..3", op,
                 tern_dims_text(a).text);
    if (packed) {
        TERN_TRY(tern_check_matrix(ctx, op, "b", b, config, (int64_t)q.in, -1, NULL));
        TERN_REQUIRE(ctx, !tern_given(b_scale), TERN_ERR_ARG, "%s: b_scale is given, expected none where b is packed",
                     op);
    } else {
        TERN_TRY(check_codes(ctx, op, "b", b, 2, &transposed));
        TERN_REQUIRE(ctx, b->dim[0] == (int64_t)q.in, TERN_ERR_SHAPE, "%s: b is %s, expected %zu rows as a is %s", op,
                     tern_dims_text(b).text, q.in, tern_dims_text(a).text);
        TERN_TRY(tern_check_scales(ctx, op, "b", b_scale, 1, b->dim[1]));
    }
    const int64_t n = b->dim[1], ends = (int64_t)rows;
    int64_t dim[3] = { a->dim[0], a->dim[1], n };
    dim[a->rank - 1] = n;
    TERN_TRY(check_quant(ctx, op, quant, packed ? 0 : q.in)); /* a packed one has its own answer above */
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, a->dtype, n, true));
    TERN_TRY(tern_activation_parse(ctx, op, activation, tern_matmul_activations, &q.act));
    TERN_TRY(tern_check_float(ctx, op, "output", output, a->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, a->rank, dim));
    const struct tern_operand operands[] = { { "a", a, false, false },
                                             { "b", b, false, false },
                                             { "b_scale", b_scale, false, false },
                                             { "bias", bias, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    if (rows == 0 || n == 0)
        return TERN_OK;

    if (!packed) {
        const tern_tensor codes = codes_at(b, transposed, 0);
        TERN_TRY(tern_weight_pack_as(ctx, &codes, transposed, TERN_INT8, b_scale, &owned));
    }
    const tern_weight *const weights[] = { packed ? b->packed : owned };
    q.weight = weights;
    q.ends = &ends;
    q.out = (size_t)n;
    status = run_quantised(ctx, &q, a, bias, quant, output);
    tern_weight_destroy(&owned);
    return status;
}

tern_status tern_matmul_int8(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, const tern_tensor *b_scale,
                             tern_activation_quant quant, const tern_tensor *bias, const char *activation,
                             tern_tensor *output)
{
    const tern_config config = { .dtype = TERN_INT8, .activation_quant = quant };

    return matmul_weight(ctx, &config, a, b, b_scale, bias, activation, output);
}

tern_status tern_matmul_packed(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, const tern_tensor *bias,
                               const char *activation, tern_tensor *output)
{
    const tern_config config = { .dtype = a->dtype }; /* rows of bf16 are rounded already */

    return matmul_weight(ctx, &config, a, b, NULL, bias, activation, output);
}

tern_status tern_moe_gemm_int8(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *weight,
                               const tern_tensor *weight_scale, tern_activation_quant quant, const tern_tensor *bias,
                               const tern_tensor *row_ends, const char *activation, tern_tensor *output)
{
    static const char op[] = "moe_gemm";
    static const int64_t any[] = { -1, -1 };
    struct quantised q = { 0 };
    tern_weight **owned = NULL;
    int64_t *ends = NULL;
    bool transposed;
    tern_status status;

    TERN_TRY(tern_check_float(ctx, op, "input", input, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "input", input, 2, any));
    TERN_TRY(check_codes(ctx, op, "weight", weight, 3, &transposed));
    TERN_REQUIRE(ctx, weight->dim[1] == input->dim[1], TERN_ERR_SHAPE,
                 "%s: weight is %s, expected [experts, %" PRId64 ", out] as input is %s", op,
                 tern_dims_text(weight).text, input->dim[1], tern_dims_text(input).text);
    const int64_t experts = weight->dim[0], n = weight->dim[2];
    TERN_TRY(tern_check_scales(ctx, op, "weight", weight_scale, experts, n));
    TERN_TRY(check_quant(ctx, op, quant, (size_t)input->dim[1]));
    TERN_TRY(tern_check_row_groups(ctx, op, input, bias, row_ends, experts, n));
    TERN_TRY(tern_activation_parse(ctx, op, activation, tern_moe_gemm_activations, &q.act));
    TERN_TRY(tern_check_float(ctx, op, "output", output, input->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 2, (int64_t[]){ input->dim[0], n }));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "weight", weight, false, false },
                                             { "weight_scale", weight_scale, false, false },
                                             { "bias", bias, false, false },
                                             { "row_ends", row_ends, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    if (experts == 0 || n == 0)
        return TERN_OK;

    const int64_t groups = (int64_t)tern_elements(weight_scale) / experts;
    q.groups = (size_t)experts;
    q.in = (size_t)input->dim[1];
    q.out = (size_t)n;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, q.groups, "ends of groups", &ends));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, q.groups, "packed weights", &owned));
    for (int64_t e = 0; e < experts; e++) {
        const tern_tensor codes = codes_at(weight, transposed, e);
        const tern_tensor scale = tern_tensor_view((float *)weight_scale->data + e * groups, TERN_FP32, 1, &groups);
        ends[e] = tern_int_at(row_ends, (size_t)e);
        TERN_TRY_OR_FAIL(tern_weight_pack_as(ctx, &codes, transposed, TERN_INT8, &scale, &owned[e]));
    }
    q.weight = (const tern_weight *const *)owned;
    q.ends = ends;
    status = run_quantised(ctx, &q, input, bias, quant, output);
fail:
    for (size_t e = 0; owned && e < q.groups; e++)
        tern_weight_destroy(&owned[e]);
    tern_free(owned);
    tern_free(ends);
    return status;
}
