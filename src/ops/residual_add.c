/* residual_add.c: the end of a block. */
#include "ops/op_table.h"

struct residual_add {
    const struct tern_kernels *kernels;
    float *out;
    const float *x, *residual, *attention;
    size_t rows, n;
    int32_t mp;
    struct tern_residual_terms terms;
};

static void residual_add_region(void *arg, const struct tern_par *par)
{
    const struct residual_add *r = arg;
    struct tern_residual_terms terms = r->terms;
    size_t row, end;

    terms.inv_mp = 1.0f / (float)r->mp;
    tern_share(par, r->rows, 1, &row, &end);
    for (; row < end; row++) {
        const size_t at = row * r->n;
        terms.attention = r->attention ? r->attention + at : NULL;
        r->kernels->residual_add_f32(r->out + at, r->x + at, r->residual + at, &terms, r->n);
    }
}

tern_status tern_residual_add(tern_ctx *ctx, const tern_config *config, const tern_tensor *hidden,
                              const tern_tensor *residual, const tern_tensor *attention_output,
                              const tern_tensor *residual_add, const tern_tensor *attention_bias,
                              const tern_tensor *final_bias, tern_tensor *output)
{
    static const char op[] = "residual_add";
    struct residual_add r = { 0 };

    TERN_TRY(tern_op_check(ctx, &tern_row_residual_add, config));
    TERN_TRY(tern_check_rows(ctx, op, "hidden", hidden, -1, -1, &r.rows));
    const int64_t n = hidden->dim[hidden->rank - 1], rows = (int64_t)r.rows;
    TERN_TRY(tern_check_rows(ctx, op, "residual", residual, rows, n, NULL));
    if (tern_given(attention_output))
        TERN_TRY(tern_check_rows(ctx, op, "attention_output", attention_output, rows, n, NULL));
    if (tern_given(residual_add))
        TERN_TRY(tern_check_rows(ctx, op, "residual_add", residual_add, rows, n, NULL));
    TERN_TRY(tern_check_optional_vector(ctx, op, "attention_bias", attention_bias, n));
    TERN_TRY(tern_check_optional_vector(ctx, op, "final_bias", final_bias, n));
    TERN_TRY(tern_check_rows(ctx, op, "output", output, rows, n, NULL));
    const struct tern_operand operands[] = {
        { "hidden", hidden, false, true },
        { "residual", residual, false, true },
        { "attention_output", attention_output, false, true },
        { "residual_add", residual_add, false, true },
        { "attention_bias", attention_bias, false, false },
        { "final_bias", final_bias, false, false },
        { "output", output, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    const bool post = config->mlp_after_attn && !config->pre_layer_norm;
    r.kernels = tern_kernels_for(ctx, config);
    r.out = output->data;
    r.x = hidden->data;
    r.residual = post && tern_given(residual_add) ? residual_add->data : residual->data;
    r.attention = post ? NULL : tern_floats(attention_output);
    r.n = (size_t)n;
    r.mp = config->mp_size;
    r.terms.attention_bias = post ? NULL : tern_floats(attention_bias);
    r.terms.final_bias = tern_floats(final_bias);
    r.terms.attention_inside = config->mlp_after_attn;
    r.terms.attention_bias_divided = true;
    return tern_region(ctx, residual_add_region, &r);
}

/* ---- by name ---- */

static tern_status run_residual_add(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                    const tern_op_call *call)
{
    (void)call;
    return tern_residual_add(ctx, config, io[0], io[1], io[2], io[3], io[4], io[5], io[6]);
}

const struct tern_op_row tern_row_residual_add = {
    .name = "residual_add",
    .formula =
        "hidden + (residual + final_bias + attention_output + attention_bias) / mp_size, and other blocks' forms",
    .dtypes = 1u << TERN_FP32,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_MP | TERN_READS_BLOCK,
    .kernels = "residual_add_f32",
    .run = run_residual_add,
    .io = { TERN_IN_ALSO("hidden", "[.., H]", "hidden_state"), TERN_IN("residual", "[.., H]"),
            TERN_IN_OPTIONAL("attention_output", "[.., H]"), TERN_IN_OPTIONAL("residual_add", "[.., H]"),
            TERN_VECTOR_OPTIONAL("attention_bias", "[H]"), TERN_VECTOR_OPTIONAL("final_bias", "[H]"),
            TERN_OUT("output", "[.., H]") },
};
