/* fn_matmul.c: products of two stored matrices, alone and in batches. */
#include "ops/fn_matmul.h"

#include "ops/op_table.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <math.h>

/* A tensor with any strides >= 0 whose numbers are there; *extent is the same memory as a dense vector, for overlaps. */
static tern_status check_strided(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int min_rank,
                                 int max_rank, tern_dtype dtype, tern_tensor *extent)
{
    size_t last = 0; /* index of the last element */
    bool empty = false;

    TERN_REQUIRE(ctx, ctx && t, TERN_ERR_ARG, "%s: %s is NULL, expected a tensor", op, ctx ? name : "ctx");
    TERN_REQUIRE(ctx, t->rank >= min_rank && t->rank <= max_rank, TERN_ERR_SHAPE, "%s: %s is %s, expected rank %d..%d",
                 op, name, tern_dims_text(t).text, min_rank, max_rank);
    for (int i = 0; i < t->rank; i++) {
        size_t step;
        TERN_REQUIRE(ctx, t->dim[i] >= 0, TERN_ERR_SHAPE,
                     "%s: %s has %" PRId64 " elements along axis %d, expected 0 or more", op, name, t->dim[i], i);
        TERN_REQUIRE(ctx, t->stride[i] >= 0 || t->dim[i] <= 1, TERN_ERR_SHAPE,
                     "%s: %s has stride %" PRId64 " along axis %d, expected 0 or more", op, name, t->stride[i], i);
        empty = empty || t->dim[i] == 0;
        if (t->dim[i] > 1)
            TERN_REQUIRE(ctx,
                         tern_size_mul((size_t)t->dim[i] - 1, (size_t)t->stride[i], &step) &&
                             tern_size_add(last, step, &last) && last < PTRDIFF_MAX / 8,
                         TERN_ERR_SHAPE,
                         "%s: %s is %s with stride %" PRId64 " along axis %d, more than memory can hold", op, name,
                         tern_dims_text(t).text, t->stride[i], i);
    }
    *extent = tern_tensor_view(t->data, t->dtype, 1, &(int64_t){ empty ? 0 : (int64_t)last + 1 });
    extent->packed = t->packed;
    return tern_check_float(ctx, op, name, extent, dtype, false);
}

/* Stride along an axis that is never stepped along does not count. */
static size_t stride(const tern_tensor *t, int axis)
{
    return t->dim[axis] > 1 ? (size_t)t->stride[axis] : 1;
}

/* A size that a product of two other sizes must stay below: rows times columns of what does not exist as one tensor. */
static tern_status check_product(tern_ctx *ctx, const char *op, size_t a, size_t b)
{
    size_t n;

    TERN_REQUIRE(ctx, tern_size_mul(a, b, &n) && n <= PTRDIFF_MAX / 8, TERN_ERR_SHAPE,
                 "%s: %zu times %zu values, more than there can be", op, a, b);
    return TERN_OK;
}

/* What the matrix beside rows of `a` may be stored in: any float beside fp32, into which it widens exactly, else what a is. */
static tern_dtype matrix_dtype(const tern_tensor *a)
{
    return a->dtype == TERN_FP32 ? TERN_ANY_FLOAT : a->dtype;
}

const char *const tern_matmul_activations[] = { "",          "relu",         "leaky_relu", "gelu",
                                                "gelu_tanh", "gelu_sigmoid", "sigmoid",    NULL };
const char *const tern_moe_gemm_activations[] = { "", "relu", "gelu", "gelu_tanh", "gelu_sigmoid", "silu", NULL };

tern_status tern_matmul(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, const tern_tensor *bias,
                        const char *activation, tern_tensor *output)
{
    static const char op[] = "matmul";
    struct tern_wide_gemm g = { .batches = { 1, 1 } };
    tern_tensor a_extent, b_extent;
    float *owned = NULL;

    if (a && b && b->packed)
        return tern_matmul_packed(ctx, a, b, bias, activation, output);
    TERN_TRY(check_strided(ctx, op, "a", a, 2, 3, TERN_ANY_FLOAT, &a_extent));
    const int k_axis = a->rank - 1, m_axis = a->rank - 2;
    const int64_t k = a->dim[k_axis], n_b = a->rank == 3 ? a->dim[0] : 1;
    int64_t m;
    if (a->rank == 3)
        TERN_REQUIRE(ctx,
                     a->dim[0] <= 1 || a->dim[1] == 0 || a->stride[0] == (int64_t)((size_t)a->dim[1] * stride(a, 1)) ||
                         (a->dim[1] == 1 && a->dim[0] > 0),
                     TERN_ERR_SHAPE,
                     "%s: a is %s with strides %" PRId64 ", %" PRId64 ", expected first axes that flatten to rows", op,
                     tern_dims_text(a).text, a->stride[0], a->stride[1]);
    TERN_REQUIRE(ctx, !__builtin_mul_overflow(n_b, a->dim[m_axis], &m), TERN_ERR_SHAPE,
                 "%s: a is %s, more rows than there can be", op, tern_dims_text(a).text);
    TERN_TRY(check_strided(ctx, op, "b", b, 2, 2, matrix_dtype(a), &b_extent));
    TERN_REQUIRE(ctx, b->dim[0] == k, TERN_ERR_SHAPE, "%s: b is %s, %" PRId64 " rows, expected %" PRId64 " as a is %s",
                 op, tern_dims_text(b).text, b->dim[0], k, tern_dims_text(a).text);
    const int64_t n = b->dim[1];
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias, a->dtype, n, true));
    TERN_TRY(tern_activation_parse(ctx, op, activation, tern_matmul_activations, &g.act));
    TERN_TRY(tern_check_float(ctx, op, "output", output, a->dtype, false));
    const int64_t dims2[] = { m, n }, dims3[] = { n_b, a->dim[m_axis], n };
    TERN_TRY(tern_check_dims(ctx, op, "output", output, a->rank, a->rank == 3 ? dims3 : dims2));
    TERN_TRY(check_product(ctx, op, (size_t)m, (size_t)k));
    TERN_TRY(check_product(ctx, op, (size_t)n, (size_t)k));
    const struct tern_operand operands[] = { { "a", &a_extent, false, false },
                                             { "b", &b_extent, false, false },
                                             { "bias", bias, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    TERN_TRY(tern_widen_tensor(ctx, bias, &owned, &g.bias));
    g.dtype = a->dtype;
    g.b_dtype = b->dtype;
    g.a = a->data;
    g.b = b->data;
    g.c = output->data;
    g.m = (size_t)m;
    g.n = (size_t)n;
    g.k = (size_t)k;
    g.a_row = a->rank == 3 && a->dim[1] == 1 ? stride(a, 0) : stride(a, m_axis);
    g.a_col = stride(a, k_axis);
    g.b_row = stride(b, 0);
    g.b_col = stride(b, 1);
    g.c_row = (size_t)n;
    const tern_status status = tern_wide_gemm(ctx, &g);
    tern_free(owned);
    return status;
}

tern_status tern_matmul_4d(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, tern_tensor *output)
{
    static const char op[] = "matmul_4d";
    static const int64_t any[] = { -1, -1, -1, -1 };

    TERN_TRY(tern_check_float(ctx, op, "a", a, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "a", a, 4, any));
    TERN_TRY(tern_check_float(ctx, op, "b", b, a->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "b", b, 4, (int64_t[]){ a->dim[0], a->dim[1], a->dim[3], -1 }));
    TERN_TRY(tern_check_float(ctx, op, "output", output, a->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 4, (int64_t[]){ a->dim[0], a->dim[1], a->dim[2], b->dim[3] }));
    const struct tern_operand operands[] = { { "a", a, false, false },
                                             { "b", b, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    const size_t m = (size_t)a->dim[2], k = (size_t)a->dim[3], n = (size_t)b->dim[3], h = (size_t)a->dim[1];
    return tern_wide_gemm(ctx, &(struct tern_wide_gemm){
                                   .dtype = a->dtype,
                                   .b_dtype = a->dtype,
                                   .a = a->data,
                                   .b = b->data,
                                   .c = output->data,
                                   .m = m,
                                   .n = n,
                                   .k = k,
                                   .a_row = k,
                                   .a_col = 1,
                                   .b_row = n,
                                   .b_col = 1,
                                   .c_row = n,
                                   .batches = { (size_t)a->dim[0], h },
                                   .a_batch = { h * m * k, m * k },
                                   .b_batch = { h * k * n, k * n },
                                   .c_batch = { h * m * n, m * n },
                               });
}

/* qkv [B, S, 3H] with H = h head_size; *heads gets h. */
static tern_status check_qkv(tern_ctx *ctx, const char *op, const tern_tensor *qkv, tern_dtype dtype, int64_t head_size,
                             int64_t *heads)
{
    static const int64_t any[] = { -1, -1, -1 };

    TERN_TRY(tern_check_float(ctx, op, "qkv", qkv, dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "qkv", qkv, 3, any));
    TERN_REQUIRE(ctx, head_size >= 1, TERN_ERR_ARG, "%s: head_size is %" PRId64 ", expected 1 or more", op, head_size);
    TERN_REQUIRE(ctx, qkv->dim[2] % 3 == 0 && qkv->dim[2] / 3 % head_size == 0, TERN_ERR_SHAPE,
                 "%s: qkv is %s, expected rows of 3 h heads of %" PRId64 " values", op, tern_dims_text(qkv).text,
                 head_size);
    *heads = qkv->dim[2] / 3 / head_size;
    return TERN_OK;
}

tern_status tern_score_4d_matmul(tern_ctx *ctx, const tern_tensor *qkv, int64_t head_size, float scale, bool causal,
                                 tern_tensor *output)
{
    static const char op[] = "score_4d_matmul";
    int64_t heads;

    TERN_TRY(check_qkv(ctx, op, qkv, TERN_ANY_FLOAT, head_size, &heads));
    TERN_REQUIRE(ctx, isfinite(scale), TERN_ERR_ARG, "%s: scale is %g, expected a finite number", op, (double)scale);
    const int64_t batch = qkv->dim[0], rows = qkv->dim[1];
    TERN_TRY(tern_check_float(ctx, op, "output", output, qkv->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 4, (int64_t[]){ batch, heads, rows, rows }));
    const struct tern_operand operands[] = { { "qkv", qkv, false, false }, { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (heads == 0)
        return TERN_OK;

    const size_t s = (size_t)rows, h = (size_t)heads, d = (size_t)head_size, ld = 3 * h * d;
    return tern_wide_gemm(ctx, &(struct tern_wide_gemm){
                                   .dtype = qkv->dtype,
                                   .b_dtype = qkv->dtype,
                                   .a = qkv->data,
                                   .b = tern_at(qkv->data, qkv->dtype, h * d),
                                   .c = output->data,
                                   .m = s,
                                   .n = s,
                                   .k = d,
                                   .a_row = ld,
                                   .a_col = 1,
                                   .b_row = 1,
                                   .b_col = ld,
                                   .c_row = s,
                                   .batches = { (size_t)batch, h },
                                   .a_batch = { s * ld, d },
                                   .b_batch = { s * ld, d },
                                   .c_batch = { h * s * s, s * s },
                                   .scaled = true,
                                   .scale = scale,
                                   .causal = causal,
                               });
}

tern_status tern_context_4d_matmul(tern_ctx *ctx, const tern_tensor *prob, const tern_tensor *qkv, int64_t head_size,
                                   tern_tensor *output)
{
    static const char op[] = "context_4d_matmul";
    int64_t heads;

    TERN_TRY(check_qkv(ctx, op, qkv, TERN_ANY_FLOAT, head_size, &heads));
    const int64_t batch = qkv->dim[0], rows = qkv->dim[1];
    TERN_TRY(tern_check_float(ctx, op, "prob", prob, qkv->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "prob", prob, 4, (int64_t[]){ batch, heads, rows, rows }));
    TERN_TRY(tern_check_float(ctx, op, "output", output, qkv->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 3, (int64_t[]){ batch, rows, heads * head_size }));
    const struct tern_operand operands[] = { { "prob", prob, false, false },
                                             { "qkv", qkv, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (heads == 0)
        return TERN_OK;

    const size_t s = (size_t)rows, h = (size_t)heads, d = (size_t)head_size, ld = 3 * h * d;
    return tern_wide_gemm(ctx, &(struct tern_wide_gemm){
                                   .dtype = qkv->dtype,
                                   .b_dtype = qkv->dtype,
                                   .a = prob->data,
                                   .b = tern_at(qkv->data, qkv->dtype, 2 * h * d),
                                   .c = output->data,
                                   .m = s,
                                   .n = d,
                                   .k = s,
                                   .a_row = s,
                                   .a_col = 1,
                                   .b_row = ld,
                                   .b_col = 1,
                                   .c_row = h * d,
                                   .batches = { (size_t)batch, h },
                                   .a_batch = { h * s * s, s * s },
                                   .b_batch = { s * ld, d },
                                   .c_batch = { s * h * d, d },
                               });
}

tern_status tern_einsum_sec_sm_ecm(tern_ctx *ctx, const tern_tensor *q, const tern_tensor *w, tern_tensor *output)
{
    static const char op[] = "einsum_sec_sm_ecm";
    static const int64_t any[] = { -1, -1, -1 };

    TERN_TRY(tern_check_float(ctx, op, "q", q, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "q", q, 3, any));
    TERN_TRY(tern_check_float(ctx, op, "w", w, q->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "w", w, 2, (int64_t[]){ q->dim[0], -1 }));
    TERN_TRY(tern_check_float(ctx, op, "output", output, q->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 3, (int64_t[]){ q->dim[1], q->dim[2], w->dim[1] }));
    const struct tern_operand operands[] = { { "q", q, false, false },
                                             { "w", w, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    /* One product: Q as [S, E C], transposed by its strides. */
    const size_t rows = (size_t)q->dim[1] * (size_t)q->dim[2], m = (size_t)w->dim[1];
    return tern_wide_gemm(ctx, &(struct tern_wide_gemm){
                                   .dtype = q->dtype,
                                   .b_dtype = q->dtype,
                                   .a = q->data,
                                   .b = w->data,
                                   .c = output->data,
                                   .m = rows,
                                   .n = m,
                                   .k = (size_t)q->dim[0],
                                   .a_row = 1,
                                   .a_col = rows,
                                   .b_row = m,
                                   .b_col = 1,
                                   .c_row = m,
                                   .batches = { 1, 1 },
                               });
}

tern_status tern_check_row_groups(tern_ctx *ctx, const char *op, const tern_tensor *input, const tern_tensor *bias,
                                  const tern_tensor *row_ends, int64_t experts, int64_t n)
{
    const int64_t rows = input->dim[0];

    if (tern_given(bias)) {
        TERN_TRY(tern_check_float(ctx, op, "bias", bias, input->dtype, true));
        TERN_TRY(tern_check_dims(ctx, op, "bias", bias, 2, (int64_t[]){ experts, n }));
    }
    TERN_TRY(tern_check_ints(ctx, op, "row_ends", row_ends, 1, &experts));
    for (int64_t e = 0, before = 0; e < experts; e++) {
        const int64_t end = tern_int_at(row_ends, (size_t)e);
        TERN_REQUIRE(ctx, end >= before && end <= rows, TERN_ERR_ARG,
                     "%s: row_ends[%" PRId64 "] is %" PRId64 ", expected %" PRId64 "..%" PRId64, op, e, end, before,
                     rows);
        before = end;
    }
    return TERN_OK;
}

tern_status tern_moe_gemm(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *weight, const tern_tensor *bias,
                          const tern_tensor *row_ends, const char *activation, tern_tensor *output)
{
    static const char op[] = "moe_gemm";
    static const int64_t any[] = { -1, -1 };
    struct tern_wide_gemm g = { 0 };
    tern_tensor extent;
    int64_t *ends = NULL;
    float *owned = NULL;
    tern_status status;

    TERN_TRY(tern_check_float(ctx, op, "input", input, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "input", input, 2, any));
    TERN_TRY(check_strided(ctx, op, "weight", weight, 3, 3, matrix_dtype(input), &extent));
    TERN_TRY(tern_check_dims(ctx, op, "weight", weight, 3, (int64_t[]){ -1, input->dim[1], -1 }));
    const int64_t rows = input->dim[0], experts = weight->dim[0], n = weight->dim[2];
    TERN_TRY(tern_check_row_groups(ctx, op, input, bias, row_ends, experts, n));
    TERN_TRY(tern_activation_parse(ctx, op, activation, tern_moe_gemm_activations, &g.act));
    TERN_TRY(tern_check_float(ctx, op, "output", output, input->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 2, (int64_t[]){ rows, n }));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "weight", &extent, false, false },
                                             { "bias", bias, false, false },
                                             { "row_ends", row_ends, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(check_product(ctx, op, (size_t)n, (size_t)input->dim[1]));
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    TERN_TRY_OR_FAIL(tern_widen_tensor(ctx, bias, &owned, &g.bias));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)experts, "ends of groups", &ends));
    for (size_t e = 0; e < (size_t)experts; e++)
        ends[e] = tern_int_at(row_ends, e);
    g.dtype = input->dtype;
    g.b_dtype = weight->dtype;
    g.a = input->data;
    g.b = weight->data;
    g.c = output->data;
    g.m = (size_t)rows;
    g.n = (size_t)n;
    g.k = (size_t)input->dim[1];
    g.a_row = g.k;
    g.a_col = 1;
    g.b_row = stride(weight, 1);
    g.b_col = stride(weight, 2);
    g.c_row = g.n;
    g.batches[0] = (size_t)experts;
    g.batches[1] = 1;
    g.b_batch[0] = stride(weight, 0);
    g.row_ends = ends;
    g.bias_batch = g.n;
    status = tern_wide_gemm(ctx, &g);
fail:
    tern_free(ends);
    tern_free(owned);
    return status;
}

/* ---- by name ---- */

/* The last two axes exchanged: how [.., out, in] is read as [.., in, out]. */
static tern_tensor turned(const tern_tensor *t, bool transposed)
{
    tern_tensor turned = *t;

    if (transposed && !t->packed && t->rank >= 2 && t->rank <= TERN_MAX_RANK) {
        turned.dim[t->rank - 1] = t->dim[t->rank - 2];
        turned.dim[t->rank - 2] = t->dim[t->rank - 1];
        turned.stride[t->rank - 1] = t->stride[t->rank - 2];
        turned.stride[t->rank - 2] = t->stride[t->rank - 1];
    }
    return turned;
}

static tern_status refuse_scale(tern_ctx *ctx, const char *op, const char *name, const tern_config *config,
                                const tern_tensor *scale)
{
    TERN_REQUIRE(ctx, !tern_given(scale), TERN_ERR_ARG, "%s: %s_scale is given and dtype is %s, expected int8", op,
                 name, tern_dtype_name(config->dtype));
    return TERN_OK;
}

static tern_status run_matmul(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                              const tern_op_call *call)
{
    const char *activation = tern_gelu_named(call->params->activation, config->gelu);
    const tern_tensor b = turned(io[1], config->transposed_mode);

    if (config->dtype == TERN_INT8)
        return tern_matmul_int8(ctx, io[0], &b, io[4], config->activation_quant, io[2], activation, io[3]);
    TERN_TRY(refuse_scale(ctx, "matmul", "b", config, io[4]));
    return tern_matmul(ctx, io[0], &b, io[2], activation, io[3]);
}

const struct tern_op_row tern_row_matmul = {
    .name = "matmul",
    .also = "fp16_matmul",
    .also_dtype = TERN_FP16,
    .formula = "output = act(a b + bias)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_GELU,
    .params = "activation",
    .activations = tern_matmul_activations,
    .kernels = "gemm",
    .function = true,
    .run = run_matmul,
    .io = { TERN_IN_ALSO("a", "[.., K]", "A input"), TERN_MATRIX_ALSO("b", "[K, N]", "B weight"),
            TERN_VECTOR_OPTIONAL("bias", "[N]"), TERN_OUT("output", "[.., N]"),
            TERN_SCALE_ALSO("b", "B_scale weight_scale") },
};

static tern_status run_matmul_4d(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                 const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_matmul_4d(ctx, io[0], io[1], io[2]);
}

const struct tern_op_row tern_row_matmul_4d = {
    .name = "matmul_4d",
    .formula = "output[i, j] = a[i, j] b[i, j]",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "gemm_f32",
    .function = true,
    .run = run_matmul_4d,
    .io = { TERN_IN("a", "[B, h, M, K]"), TERN_IN("b", "[B, h, K, N]"), TERN_OUT("output", "[B, h, M, N]") },
};

/* The multiplier of q.k: 1 / sqrt(head_size) where it is unset. */
static float scale_of(const tern_op_params *params)
{
    return isnan(params->scale) && params->head_size > 0 ? tern_standard_scale(params->head_size) : params->scale;
}

static tern_status run_score_4d_matmul(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                       const tern_op_call *call)
{
    (void)config;
    return tern_score_4d_matmul(ctx, io[0], call->params->head_size, scale_of(call->params), call->params->causal,
                                io[1]);
}

static tern_status infer_score_4d_matmul(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                         tern_tensor *const *io, tern_tensor *found)
{
    (void)config;
    TERN_REQUIRE(ctx, params->head_size >= 1, TERN_ERR_ARG,
                 "score_4d_matmul: head_size is %" PRId64 ", expected 1 or more", params->head_size);
    found[1] = tern_tensor_view(
        NULL, found[1].dtype, 4,
        (int64_t[]){ io[0]->dim[0], io[0]->dim[2] / 3 / params->head_size, io[0]->dim[1], io[0]->dim[1] });
    return TERN_OK;
}

const struct tern_op_row tern_row_score_4d_matmul = {
    .name = "score_4d_matmul",
    .formula = "output[b, n, i, j] = scale q[b, i, n] . k[b, j, n], qkv = [q | k | v]",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "head_size scale causal",
    .kernels = "gemm_f32",
    .function = true,
    .run = run_score_4d_matmul,
    .infer = infer_score_4d_matmul,
    .io = { TERN_IN("qkv", "[B, S, 3H]"), TERN_OUT("output", "[B, h, S, S]") },
};

static tern_status run_context_4d_matmul(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                         const tern_op_call *call)
{
    (void)config;
    return tern_context_4d_matmul(ctx, io[0], io[1], call->params->head_size, io[2]);
}

const struct tern_op_row tern_row_context_4d_matmul = {
    .name = "context_4d_matmul",
    .formula = "output[b, i, n] = sum over j of prob[b, n, i, j] v[b, j, n], qkv = [q | k | v]",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "head_size",
    .kernels = "gemm_f32",
    .function = true,
    .run = run_context_4d_matmul,
    .io = { TERN_IN("prob", "[B, h, S, S]"), TERN_IN("qkv", "[B, S, 3H]"), TERN_OUT("output", "[B, S, H]") },
};

static tern_status run_einsum_sec_sm_ecm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                         const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_einsum_sec_sm_ecm(ctx, io[0], io[1], io[2]);
}

const struct tern_op_row tern_row_einsum_sec_sm_ecm = {
    .name = "einsum_sec_sm_ecm",
    .formula = "output[e, c, m] = sum over s of q[s, e, c] w[s, m]",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "gemm_f32",
    .function = true,
    .run = run_einsum_sec_sm_ecm,
    .io = { TERN_IN_ALSO("q", "[S, E, C]", "Q"), TERN_IN_ALSO("w", "[S, M]", "W"), TERN_OUT("output", "[E, C, M]") },
};

static tern_status run_moe_gemm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    const char *activation = tern_gelu_named(call->params->activation, config->gelu);
    const tern_tensor weight = turned(io[1], config->transposed_mode);

    if (config->dtype == TERN_INT8)
        return tern_moe_gemm_int8(ctx, io[0], &weight, io[5], config->activation_quant, io[2], io[3], activation,
                                  io[4]);
    TERN_TRY(refuse_scale(ctx, "moe_gemm", "weight", config, io[5]));
    return tern_moe_gemm(ctx, io[0], &weight, io[2], io[3], activation, io[4]);
}

const struct tern_op_row tern_row_moe_gemm = {
    .name = "moe_gemm",
    .formula = "output[r] = act(input[r] weight[e] + bias[e]) for the rows of each expert e",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_GELU,
    .params = "activation",
    .activations = tern_moe_gemm_activations,
    .kernels = "gemm",
    .function = true,
    .run = run_moe_gemm,
    .io = { TERN_IN("input", "[R, K]"), TERN_MATRIX("weight", "[X, K, N]"), TERN_VECTOR_OPTIONAL("bias", "[X, N]"),
            TERN_INTS("row_ends", "[X]"), TERN_OUT("output", "[R, N]"), TERN_SCALES("weight") },
};
