/* fn_elementwise.c: activations, biases, gates and weighted sums of stored rows. */
#include "ops/op_table.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <math.h>

/* Elements that are one row where a tensor is taken as a string of numbers. */
#define STRING_ROW 1024

static tern_status gelu_act(tern_ctx *ctx, const char *op, tern_gelu_form form, enum tern_act unset, enum tern_act *act)
{
    const int number = (int)form;

    TERN_REQUIRE(ctx, number >= TERN_GELU_UNSET && number <= TERN_GELU_SIGMOID, TERN_ERR_ARG,
                 "%s: form is %d, expected unset 0, tanh 1, erf 2 or sigmoid 3", op, number);
    *act = form == TERN_GELU_TANH      ? TERN_ACT_GELU_TANH
           : form == TERN_GELU_ERF     ? TERN_ACT_GELU_ERF
           : form == TERN_GELU_SIGMOID ? TERN_ACT_GELU_SIGMOID
                                       : unset;
    return TERN_OK;
}

/* b has a's shape and dtype. */
static tern_status check_like(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *b,
                              const tern_tensor *a)
{
    TERN_TRY(tern_check_float(ctx, op, name, b, a->dtype, false));
    return tern_check_dims(ctx, op, name, b, a->rank, a->dim);
}

static struct tern_row_operand string_of(const tern_tensor *t)
{
    return (struct tern_row_operand){ t->data, t->dtype, STRING_ROW, tern_elements(t) };
}

static size_t string_rows(size_t n)
{
    return (n + STRING_ROW - 1) / STRING_ROW;
}

/* ---- strings of numbers ---- */

static void gelu_row(const void *arg, const struct tern_row *row)
{
    TERN_ROW_KERNEL(row->kernels, row->dtype, act,
                    (row->out[0], row->in[0], NULL, row->n, *(const enum tern_act *)arg, &row->flow));
}

tern_status tern_gelu(tern_ctx *ctx, const tern_tensor *input, tern_gelu_form form, tern_tensor *output)
{
    static const char op[] = "gelu";
    enum tern_act act = TERN_ACT_NONE;

    TERN_TRY(tern_check_float(ctx, op, "input", input, TERN_ANY_FLOAT, false));
    TERN_TRY(gelu_act(ctx, op, form, TERN_ACT_GELU_ERF, &act));
    TERN_TRY(check_like(ctx, op, "output", output, input));
    const struct tern_operand operands[] = { { "input", input, false, true }, { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    const struct tern_row_call call = {
        .in = { string_of(input) },
        .out = { string_of(output) },
        .n_rows = string_rows(tern_elements(input)),
        .fn = gelu_row,
        .arg = &act,
    };
    return tern_rows_run(ctx, &call);
}

static void vector_add_row(const void *arg, const struct tern_row *row)
{
    TERN_ROW_KERNEL(row->kernels, row->dtype, axpy,
                    (row->out[0], row->in[0], row->in[1], *(const float *)arg, row->n, &row->flow));
}

tern_status tern_vector_add(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, float gamma, tern_tensor *output)
{
    static const char op[] = "vector_add";

    TERN_TRY(tern_check_float(ctx, op, "a", a, TERN_ANY_FLOAT, false));
    TERN_TRY(check_like(ctx, op, "b", b, a));
    TERN_REQUIRE(ctx, isfinite(gamma), TERN_ERR_ARG, "%s: gamma is %g, expected a finite number", op, (double)gamma);
    TERN_TRY(check_like(ctx, op, "output", output, a));
    const struct tern_operand operands[] = { { "a", a, false, true },
                                             { "b", b, false, true },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    const struct tern_row_call call = {
        .in = { string_of(a), string_of(b) },
        .out = { string_of(output) },
        .n_rows = string_rows(tern_elements(a)),
        .fn = vector_add_row,
        .arg = &gamma,
    };
    return tern_rows_run(ctx, &call);
}

/* ---- rows with a bias ---- */

struct bias {
    const float *bias; /* or NULL */
    enum tern_act act;
};

/* in: x, residual or NULL.  With a residual and no activation: a residual add with one rank, as what is multiplied by 1 stays. */
static void bias_row(const void *arg, const struct tern_row *row)
{
    const struct bias *b = arg;
    const struct tern_residual_terms terms = { .attention_bias = b->bias, .inv_mp = 1 };

    if (row->in[1])
        TERN_ROW_KERNEL(row->kernels, row->dtype, residual_add,
                        (row->out[0], row->in[0], row->in[1], &terms, row->n, &row->flow));
    else
        TERN_ROW_KERNEL(row->kernels, row->dtype, act, (row->out[0], row->in[0], b->bias, row->n, b->act, &row->flow));
}

static tern_status bias(tern_ctx *ctx, const char *op, const tern_tensor *input, const tern_tensor *residual,
                        bool with_residual, const tern_tensor *bias_tensor, enum tern_act act, tern_tensor *output)
{
    struct bias b = { .act = act };
    float *owned = NULL;
    size_t rows, cols;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, TERN_ANY_FLOAT, -1, -1, &rows, &cols));
    const tern_dtype dtype = input->dtype;
    if (with_residual)
        TERN_TRY(tern_check_float_rows(ctx, op, "residual", residual, dtype, (int64_t)rows, (int64_t)cols, NULL, NULL));
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias_tensor, dtype, (int64_t)cols, with_residual));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, (int64_t)rows, (int64_t)cols, NULL, NULL));
    const struct tern_operand operands[] = { { "input", input, false, true },
                                             { "residual", residual, false, true },
                                             { "bias", bias_tensor, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0 || cols == 0)
        return TERN_OK;

    TERN_TRY(tern_widen_tensor(ctx, bias_tensor, &owned, &b.bias));
    const struct tern_row_call call = {
        .in = { { input->data, dtype, cols, 0 }, { with_residual ? residual->data : NULL, dtype, cols, 0 } },
        .out = { { output->data, dtype, cols, 0 } },
        .n_rows = rows,
        .fn = bias_row,
        .arg = &b,
    };
    const tern_status status = tern_rows_run(ctx, &call);
    tern_free(owned);
    return status;
}

tern_status tern_bias_add(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias_tensor, tern_tensor *output)
{
    return bias(ctx, "bias_add", input, NULL, false, bias_tensor, TERN_ACT_NONE, output);
}

tern_status tern_bias_gelu(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias_tensor, tern_gelu_form form,
                           tern_tensor *output)
{
    enum tern_act act = TERN_ACT_NONE;

    TERN_TRY(gelu_act(ctx, "bias_gelu", form, TERN_ACT_GELU_TANH, &act));
    return bias(ctx, "bias_gelu", input, NULL, false, bias_tensor, act, output);
}

tern_status tern_bias_relu(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias_tensor, tern_tensor *output)
{
    return bias(ctx, "bias_relu", input, NULL, false, bias_tensor, TERN_ACT_RELU, output);
}

tern_status tern_bias_residual(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *residual,
                               const tern_tensor *bias_tensor, tern_tensor *output)
{
    return bias(ctx, "bias_residual", input, residual, true, bias_tensor, TERN_ACT_NONE, output);
}

/* ---- gates ---- */

struct gate {
    const float *bias; /* [2C] or NULL */
    size_t up, gate;   /* where both begin */
    bool pairs;        /* side by side */
    enum tern_act act;
};

static void gate_row(const void *arg, const struct tern_row *row)
{
    const struct gate *g = arg;
    const float *up_bias = g->bias ? g->bias + g->up : NULL, *gate_bias = g->bias ? g->bias + g->gate : NULL;
    const void *up = tern_at(row->in[0], row->dtype, g->up), *gate = tern_at(row->in[0], row->dtype, g->gate);

    TERN_ROW_KERNEL(row->kernels, row->dtype, gate,
                    (row->out[0], up, gate, up_bias, gate_bias, g->pairs, row->n / 2, g->act, &row->flow));
}

/* The first one, which stands for gelu, by name alone. */
static const char *const gate_activations[] = { "", "gelu", "gelu_tanh", "gelu_sigmoid", "relu", "silu", NULL };

tern_status tern_gated_activation(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *bias_tensor,
                                  tern_gate_layout layout, const char *activation, tern_tensor *output)
{
    static const char op[] = "gated_activation";
    struct gate g = { 0 };
    float *owned = NULL;
    size_t rows, cols;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, TERN_ANY_FLOAT, -1, -1, &rows, &cols));
    const tern_dtype dtype = input->dtype;
    TERN_REQUIRE(ctx, cols % 2 == 0, TERN_ERR_SHAPE, "%s: input is %s, expected an even number of channels", op,
                 tern_dims_text(input).text);
    TERN_TRY(tern_check_float_vector(ctx, op, "bias", bias_tensor, dtype, (int64_t)cols, true));
    TERN_REQUIRE(ctx, layout == TERN_GATE_HALVES || layout == TERN_GATE_INTERLEAVED, TERN_ERR_ARG,
                 "%s: layout is %d, expected halves 0 or interleaved 1", op, (int)layout);
    TERN_TRY(tern_activation_parse(ctx, op, activation, gate_activations + 1, &g.act));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, (int64_t)rows, (int64_t)cols / 2, NULL, NULL));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "bias", bias_tensor, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0 || cols == 0)
        return TERN_OK;

    TERN_TRY(tern_widen_tensor(ctx, bias_tensor, &owned, &g.bias));
    g.pairs = layout == TERN_GATE_INTERLEAVED;
    g.up = layout == TERN_GATE_HALVES ? 0 : 1;
    g.gate = layout == TERN_GATE_HALVES ? cols / 2 : 0;
    const struct tern_row_call call = {
        .in = { { input->data, dtype, cols, 0 } },
        .out = { { output->data, dtype, cols / 2, 0 } },
        .n_rows = rows,
        .fn = gate_row,
        .arg = &g,
    };
    const tern_status status = tern_rows_run(ctx, &call);
    tern_free(owned);
    return status;
}

/* ---- the residual mixture of experts ---- */

struct moe_res {
    const float *shared; /* [2C], or NULL: each row has a pair */
    tern_dtype pair_dtype;
};

/* in: residual, experts, the row's pair or NULL */
static void moe_res_row(const void *arg, const struct tern_row *row)
{
    const struct moe_res *m = arg;
    float pair[2];

    if (!m->shared)
        tern_wide_load(row->kernels, pair, row->in[2], m->pair_dtype, 0, 2);
    TERN_ROW_KERNEL(row->kernels, row->dtype, mix,
                    (row->out[0], row->in[0], row->in[1], m->shared ? m->shared : pair + 1,
                     m->shared ? m->shared + row->n : pair, m->shared != NULL, row->n, &row->flow));
}

tern_status tern_moe_res_matmul(tern_ctx *ctx, const tern_tensor *residual, const tern_tensor *coef,
                                const tern_tensor *experts, tern_tensor *output)
{
    static const char op[] = "moe_res_matmul";
    struct moe_res m = { 0 };
    float *owned = NULL;
    size_t rows, cols;

    TERN_TRY(tern_check_float_rows(ctx, op, "residual", residual, TERN_ANY_FLOAT, -1, -1, &rows, &cols));
    const tern_dtype dtype = residual->dtype;
    const int64_t t = (int64_t)rows, c = (int64_t)cols;
    TERN_TRY(tern_check_float_rows(ctx, op, "experts", experts, dtype, t, c, NULL, NULL));
    TERN_TRY(tern_check_float(ctx, op, "coef", coef, dtype, true));
    const bool vector = coef->rank == 1;
    if (vector)
        TERN_TRY(tern_check_float_rows(ctx, op, "coef", coef, coef->dtype, 1, 2 * c, NULL, NULL));
    else
        TERN_TRY(tern_check_float_rows(ctx, op, "coef", coef, coef->dtype, t, 2, NULL, NULL));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, t, c, NULL, NULL));
    const struct tern_operand operands[] = { { "residual", residual, false, true },
                                             { "coef", coef, false, false },
                                             { "experts", experts, false, true },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0 || cols == 0)
        return TERN_OK;

    m.pair_dtype = coef->dtype;
    if (vector)
        TERN_TRY(tern_widen_tensor(ctx, coef, &owned, &m.shared));
    const struct tern_row_call call = {
        .in = { { residual->data, dtype, cols, 0 },
                { experts->data, dtype, cols, 0 },
                { vector ? NULL : coef->data, coef->dtype, 2, 0 } },
        .out = { { output->data, dtype, cols, 0 } },
        .n_rows = rows,
        .fn = moe_res_row,
        .arg = &m,
    };
    const tern_status status = tern_rows_run(ctx, &call);
    tern_free(owned);
    return status;
}

/* ---- by name ---- */

static tern_status run_gelu(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io, const tern_op_call *call)
{
    (void)call;
    return tern_gelu(ctx, io[0], config->gelu, io[1]);
}

const struct tern_op_row tern_row_gelu = {
    .name = "gelu",
    .formula = "output = gelu(input)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_GELU,
    .kernels = "act_",
    .function = true,
    .run = run_gelu,
    .io = { TERN_IN("input", "[..]"), TERN_OUT("output", "[..]") },
};

static tern_status run_vector_add(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                  const tern_op_call *call)
{
    (void)config;
    return tern_vector_add(ctx, io[0], io[1], call->params->gamma, io[2]);
}

const struct tern_op_row tern_row_vector_add = {
    .name = "vector_add",
    .formula = "output = gamma a + b",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "gamma",
    .kernels = "axpy_",
    .function = true,
    .run = run_vector_add,
    .io = { TERN_IN("a", "[..]"), TERN_IN("b", "[..]"), TERN_OUT("output", "[..]") },
};

static tern_status run_bias_add(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_bias_add(ctx, io[0], io[1], io[2]);
}

const struct tern_op_row tern_row_bias_add = {
    .name = "bias_add",
    .formula = "output = input + bias",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "act_",
    .function = true,
    .run = run_bias_add,
    .io = { TERN_IN_ALSO("input", "[.., C]", "x"), TERN_VECTOR_ALSO("bias", "[C]", "b"),
            TERN_OUT("output", "[.., C]") },
};

static tern_status run_bias_gelu(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                 const tern_op_call *call)
{
    (void)call;
    return tern_bias_gelu(ctx, io[0], io[1], config->gelu, io[2]);
}

const struct tern_op_row tern_row_bias_gelu = {
    .name = "bias_gelu",
    .formula = "output = gelu(input + bias)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_GELU,
    .kernels = "act_",
    .function = true,
    .run = run_bias_gelu,
    .io = { TERN_IN_ALSO("input", "[.., C]", "x"), TERN_VECTOR_ALSO("bias", "[C]", "b"),
            TERN_OUT("output", "[.., C]") },
};

static tern_status run_bias_relu(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                 const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_bias_relu(ctx, io[0], io[1], io[2]);
}

const struct tern_op_row tern_row_bias_relu = {
    .name = "bias_relu",
    .formula = "output = max(input + bias, 0)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "act_",
    .function = true,
    .run = run_bias_relu,
    .io = { TERN_IN_ALSO("input", "[.., C]", "x"), TERN_VECTOR_ALSO("bias", "[C]", "b"),
            TERN_OUT("output", "[.., C]") },
};

static tern_status run_gated_activation(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                        const tern_op_call *call)
{
    const char *name = call->params->activation ? call->params->activation : "";

    return tern_gated_activation(ctx, io[0], io[1], (tern_gate_layout)call->params->gate_layout,
                                 tern_gelu_named(*name ? name : "gelu", config->gelu), io[2]);
}

const struct tern_op_row tern_row_gated_activation = {
    .name = "gated_activation",
    .formula = "output = (up + bias) act(gate + bias), input = [up | gate] or gate, up, gate, up, ..",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_GELU,
    .params = "activation gate_layout",
    .activations = gate_activations,
    .kernels = "gate_",
    .function = true,
    .run = run_gated_activation,
    .io = { TERN_IN_ALSO("input", "[.., 2C]", "x"), TERN_VECTOR_OPTIONAL_ALSO("bias", "[2C]", "b"),
            TERN_OUT("output", "[.., C]") },
};

static tern_status run_moe_res_matmul(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                      const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_moe_res_matmul(ctx, io[0], io[1], io[2], io[3]);
}

const struct tern_op_row tern_row_moe_res_matmul = {
    .name = "moe_res_matmul",
    .formula = "output = residual coef[c] + experts coef[C + c], or experts coef[t, 0] + residual coef[t, 1]",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "mix_",
    .function = true,
    .run = run_moe_res_matmul,
    .io = { TERN_IN("residual", "[.., C]"), TERN_VECTOR("coef", "*"), TERN_IN_ALSO("experts", "[.., C]", "output"),
            TERN_OUT("output", "[.., C]") },
};

static tern_status run_bias_residual(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                     const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_bias_residual(ctx, io[0], io[1], io[2], io[3]);
}

const struct tern_op_row tern_row_bias_residual = {
    .name = "bias_residual",
    .formula = "output = (input + residual) + bias",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "residual_add_",
    .function = true,
    .run = run_bias_residual,
    .io = { TERN_IN_ALSO("input", "[.., C]", "x"), TERN_IN("residual", "[.., C]"),
            TERN_VECTOR_OPTIONAL_ALSO("bias", "[C]", "b"), TERN_OUT("output", "[.., C]") },
};
