/* op_modules.c: modules on files: weights bound for one run. */
#include "op_modules.h"

#include "cli.h"

#include <stddef.h>
#include <string.h>

/* clang-format off */
#define IN(n, s)              { .name = n, .shape = s }
#define IN_OPTIONAL(n, s)     { .name = n, .shape = s, .optional = true }
#define VECTOR(n, s)          { .name = n, .shape = s, .type = TERN_OP_VECTOR, .optional = true }
#define MATRIX(n, s)          { .name = n, .shape = s, .type = TERN_OP_MATRIX }
#define MATRIX_OPTIONAL(n, s) { .name = n, .shape = s, .type = TERN_OP_MATRIX, .optional = true }
#define SCALE(n)              { .name = n, .shape = "[G]", .type = TERN_OP_SCALE, .optional = true }
#define SCALES(n)             { .name = n, .shape = "[X, G]", .type = TERN_OP_SCALE, .optional = true }
#define OUT(n, s)             { .name = n, .shape = s, .output = true }
#define OUT_OPTIONAL(n, s)    { .name = n, .shape = s, .output = true, .optional = true }

/* The weights of a layer's parts; those of _PARTS with set_empty_params. */
#define ATTENTION_WEIGHTS                                              \
    VECTOR("norm_w", "[H]"), VECTOR("norm_b", "[H]"),                  \
    MATRIX_OPTIONAL("attn_qkvw", "[H, (h+G)E+GE']"), SCALE("attn_qkvw_scale"), VECTOR("attn_qkvb", "[(h+G)E+GE']"), \
    MATRIX("attn_ow", "[hE', H]"), SCALE("attn_ow_scale")
#define ATTENTION_PARTS                                                \
    MATRIX_OPTIONAL("attn_qw", "[H, hE]"), SCALE("attn_qw_scale"), VECTOR("attn_qb", "[hE]"), \
    MATRIX_OPTIONAL("attn_kw", "[H, GE]"), SCALE("attn_kw_scale"), VECTOR("attn_kb", "[GE]"), \
    MATRIX_OPTIONAL("attn_vw", "[H, GE']"), SCALE("attn_vw_scale"), VECTOR("attn_vb", "[GE']")
#define MLP_WEIGHTS                                                    \
    VECTOR("attn_nw", "[H]"), VECTOR("attn_nb", "[H]"),                \
    MATRIX_OPTIONAL("inter_w", "[H, pI]"), SCALE("inter_w_scale"), VECTOR("inter_b", "[pI]"), \
    MATRIX("output_w", "[I, H]"), SCALE("output_w_scale"), VECTOR("output_b", "[H]")
#define MLP_PARTS                                                      \
    MATRIX_OPTIONAL("inter_up_w", "[H, I]"), SCALE("inter_up_w_scale"), VECTOR("inter_up_b", "[I]"), \
    MATRIX_OPTIONAL("inter_gate_w", "[H, I]"), SCALE("inter_gate_w_scale"), VECTOR("inter_gate_b", "[I]")
#define Q_SCALES { .name = "q_scales", .shape = "[4, L]", .type = TERN_OP_SCALE, .optional = true }
/* clang-format on */

static const struct {
    const char *name;
    size_t offset;
} layer_fields[] = {
#define FIELD(f)                            \
    {                                       \
#f, offsetof(tern_layer_weights, f) \
    }
    FIELD(norm_w),          FIELD(norm_b),       FIELD(attn_qkvw),
    FIELD(attn_qkvw_scale), FIELD(attn_qkvb),    FIELD(attn_ow),
    FIELD(attn_ow_scale),   FIELD(attn_ob),      FIELD(attn_nw),
    FIELD(attn_nb),         FIELD(inter_w),      FIELD(inter_w_scale),
    FIELD(inter_b),         FIELD(output_w),     FIELD(output_w_scale),
    FIELD(output_b),        FIELD(attn_qw),      FIELD(attn_qw_scale),
    FIELD(attn_qb),         FIELD(attn_kw),      FIELD(attn_kw_scale),
    FIELD(attn_kb),         FIELD(attn_vw),      FIELD(attn_vw_scale),
    FIELD(attn_vb),         FIELD(inter_up_w),   FIELD(inter_up_w_scale),
    FIELD(inter_up_b),      FIELD(inter_gate_w), FIELD(inter_gate_w_scale),
    FIELD(inter_gate_b),
#undef FIELD
};

static tern_layer_weights weights_of(struct op_job *job)
{
    tern_layer_weights w = tern_layer_weights_none();

    for (size_t i = 0; i < sizeof(layer_fields) / sizeof(layer_fields[0]); i++) {
        const tern_tensor t = op_tensor(job, layer_fields[i].name);
        memcpy((char *)&w + layer_fields[i].offset, &t, sizeof(t));
    }
    return w;
}

/* q_scales points into the job. */
static tern_module_quant quant_of(struct op_job *job)
{
    const struct op_slot *scales = op_slot_find(job, "q_scales", false);
    tern_module_quant q = tern_module_quant_default();

    q.q_scales = scales ? &scales->tensor : NULL;
    q.q_groups = (int32_t)job->settings.params.q_groups;
    q.merge_count = job->settings.params.merge_count;
    q.mlp_extra_grouping = job->settings.params.mlp_extra_grouping;
    return q;
}

/* A given tensor, NULL for none. */
static const tern_tensor *given(struct op_job *job, const char *name)
{
    const struct op_slot *slot = op_slot_find(job, name, false);

    return slot ? &slot->tensor : NULL;
}

static int answer(struct op_job *job, tern_status status)
{
    return status ? op_fail(job, status) : 0;
}

/* The input, checked for the sizes that are needed before the module checks the rest. */
static int input_of(struct op_job *job, tern_tensor *input)
{
    *input = op_tensor(job, "input");
    if (input->rank < 0)
        return cli_error(CLI_FAIL, "%s: tensor input is missing", job->subject.name);
    if (input->rank < 1)
        return cli_error(CLI_FAIL, "%s: input is a scalar, expected [.., H]", job->subject.name);
    return 0;
}

/* The output `output` like `input`, whether or not it was asked for. */
static int output_like(struct op_job *job, const tern_tensor *input, tern_tensor **out)
{
    struct op_slot *slot = op_slot_find(job, "output", true);

    for (size_t t = 0; !slot && t < job->subject.n_tensors; t++)
        if (job->subject.tensors[t].output && strcmp(job->subject.tensors[t].name, "output") == 0) {
            slot = &job->slots[job->n_slots++];
            *slot = (struct op_slot){ .is = &job->subject.tensors[t], .output = true };
        }
    slot->tensor = tern_tensor_view(NULL, input->dtype, input->rank, input->dim);
    *out = &slot->tensor;
    return op_allocate(*out, "output");
}

/* What attention reads besides its tensors.  The cache was made for this width of a value head, so the weights must have it. */
static tern_attention_options options_of(struct op_job *job, const struct op_cache *cache)
{
    const tern_op_params *params = &job->settings.params;

    return (tern_attention_options){ .scale = params->scale,
                                     .softcap = params->softcap,
                                     .v_head_dim = (int32_t)cache->value_dim,
                                     .position_ids = given(job, "position_ids") };
}

/* ---- mlp ---- */

static const tern_op_tensor mlp_tensors[] = {
    IN_OPTIONAL("input", "[.., H]"),
    IN("residual", "[.., H]"),
    IN_OPTIONAL("residual_norm", "[.., H]"),
    VECTOR("bias", "[H]"),
    MLP_WEIGHTS,
    MLP_PARTS,
    Q_SCALES,
    OUT("output", "[.., H]"),
};

static int run_mlp(struct op_job *job)
{
    const tern_layer_weights weights = weights_of(job);
    const tern_module_quant quant = quant_of(job);
    const tern_tensor *residual = given(job, "residual");
    tern_tensor *output = NULL;
    tern_mlp *mlp = NULL;
    int code = answer(job, tern_mlp_create(job->ctx, &job->settings.config, NULL, &quant, &weights, &mlp));

    if (!code && !residual)
        code = cli_error(CLI_FAIL, "mlp: tensor residual is missing, expected the block's input");
    if (!code)
        code = output_like(job, residual, &output);
    if (!code)
        code = answer(job, tern_mlp_forward(job->ctx, mlp, given(job, "input"), residual, given(job, "residual_norm"),
                                            given(job, "bias"), output));
    tern_mlp_destroy(&mlp);
    return code;
}

/* ---- attention ---- */

static const tern_op_tensor attention_tensors[] = {
    IN("input", "[.., S, H]"),
    { .name = "mask", .shape = "to [B, h, S, n]", .type = TERN_OP_MASK, .optional = true, .also = "attn_mask" },
    VECTOR("alibi", "[h]"),
    { .name = "position_ids", .shape = "[.., S]", .type = TERN_OP_INTS, .optional = true },
    ATTENTION_WEIGHTS,
    ATTENTION_PARTS,
    Q_SCALES,
    OUT("output", "[.., S, H]"),
    OUT_OPTIONAL("norm", "[.., S, H]"),
};

static int run_attention(struct op_job *job)
{
    const tern_layer_weights weights = weights_of(job);
    const tern_module_quant quant = quant_of(job);
    tern_attention *attention = NULL;
    struct op_cache cache = { 0 };
    struct op_slot *norm = op_slot_find(job, "norm", true);
    tern_tensor input, *output = NULL;
    int code = answer(job, tern_attention_create(job->ctx, &job->settings.config, NULL, &quant, &weights, &attention));

    if (!code)
        code = input_of(job, &input);
    if (!code)
        code = op_cache_open(job, &input, &cache);
    if (!code)
        code = output_like(job, &input, &output);
    if (!code)
        code = op_output(job, "norm", input.dtype, input.rank, input.dim);
    if (!code) {
        const tern_attention_options options = options_of(job, &cache);
        op_mask_fit(job, cache.batch);
        code = answer(job, tern_attention_forward(job->ctx, attention, &options, &input, given(job, "mask"),
                                                  given(job, "alibi"), cache.cache, 0, cache.spans, cache.n_spans,
                                                  output, norm ? &norm->tensor : NULL));
    }
    if (!code)
        code = op_cache_show(job, &cache);
    op_cache_close(&cache);
    tern_attention_destroy(&attention);
    return code;
}

/* ---- layer ---- */

static const tern_op_tensor layer_tensors[] = {
    IN("input", "[.., S, H]"),
    { .name = "mask", .shape = "to [B, h, S, n]", .type = TERN_OP_MASK, .optional = true, .also = "attn_mask" },
    VECTOR("alibi", "[h]"),
    { .name = "position_ids", .shape = "[.., S]", .type = TERN_OP_INTS, .optional = true },
    ATTENTION_WEIGHTS,
    VECTOR("attn_ob", "[H]"),
    MLP_WEIGHTS,
    ATTENTION_PARTS,
    MLP_PARTS,
    Q_SCALES,
    OUT("output", "[.., S, H]"),
};

static int run_layer(struct op_job *job)
{
    const tern_layer_weights weights = weights_of(job);
    const tern_module_quant quant = quant_of(job);
    struct op_cache cache = { 0 };
    tern_layer *layer = NULL;
    tern_tensor input, *output = NULL;
    int code = answer(job, tern_layer_create(job->ctx, &job->settings.config, NULL, &quant, &weights, &layer));

    if (!code)
        code = input_of(job, &input);
    if (!code)
        code = op_cache_open(job, &input, &cache);
    if (!code)
        code = output_like(job, &input, &output);
    if (!code) {
        memcpy(output->data, input.data, op_elements(&input) * tern_dtype_size(input.dtype));
        const int64_t rows[] = { cache.batch * cache.rows, input.dim[input.rank - 1] };
        tern_tensor x = tern_tensor_view(output->data, input.dtype, 2, rows);
        const tern_attention_options options = options_of(job, &cache);
        op_mask_fit(job, cache.batch);
        code = answer(job, tern_layer_forward_masked(job->ctx, layer, &options, &x, given(job, "mask"),
                                                     given(job, "alibi"), cache.cache, 0, cache.spans, cache.n_spans));
    }
    if (!code)
        code = op_cache_show(job, &cache);
    op_cache_close(&cache);
    tern_layer_destroy(&layer);
    return code;
}

/* ---- moe ---- */

static const tern_op_tensor moe_tensors[] = {
    IN("input", "[.., H]"),
    { .name = "gate_w", .shape = "[H, X]", .type = TERN_OP_VECTOR },
    MATRIX("inter_w", "[X, H, pI]"),
    SCALES("inter_w_scale"),
    VECTOR("inter_b", "[X, pI]"),
    MATRIX("output_w", "[X, I, H]"),
    SCALES("output_w_scale"),
    VECTOR("output_b", "[X, H]"),
    MATRIX_OPTIONAL("res_inter_w", "[H, pI]"),
    SCALE("res_inter_w_scale"),
    VECTOR("res_inter_b", "[pI]"),
    MATRIX_OPTIONAL("res_output_w", "[I, H]"),
    SCALE("res_output_w_scale"),
    VECTOR("res_output_b", "[H]"),
    VECTOR("res_coef_w", "[H, 2]"),
    VECTOR("res_coef_b", "[2]"),
    OUT("output", "[.., H]"),
};

static int run_moe(struct op_job *job)
{
    tern_moe_weights w = tern_moe_weights_none();
    tern_moe *moe = NULL;
    tern_tensor input, *output = NULL;
    int code = input_of(job, &input);

    w.gate_w = op_tensor(job, "gate_w");
    w.inter_w = op_tensor(job, "inter_w");
    w.inter_scale = op_tensor(job, "inter_w_scale");
    w.inter_b = op_tensor(job, "inter_b");
    w.output_w = op_tensor(job, "output_w");
    w.output_scale = op_tensor(job, "output_w_scale");
    w.output_b = op_tensor(job, "output_b");
    w.res_inter_w = op_tensor(job, "res_inter_w");
    w.res_inter_scale = op_tensor(job, "res_inter_w_scale");
    w.res_inter_b = op_tensor(job, "res_inter_b");
    w.res_output_w = op_tensor(job, "res_output_w");
    w.res_output_scale = op_tensor(job, "res_output_w_scale");
    w.res_output_b = op_tensor(job, "res_output_b");
    w.res_coef_w = op_tensor(job, "res_coef_w");
    w.res_coef_b = op_tensor(job, "res_coef_b");
    if (!code) {
        const tern_status status = tern_moe_create(job->ctx, &job->settings.config, &job->settings.moe, NULL, &w, &moe);
        code = status ? op_fail(job, status) : output_like(job, &input, &output);
    }
    if (!code) {
        const tern_status status = tern_moe_forward(job->ctx, moe, &input, output);
        code = status ? op_fail(job, status) : 0;
    }
    tern_moe_destroy(&moe);
    return code;
}

/* ---- the list ---- */

#define TENSORS(list) .tensors = list, .n_tensors = sizeof(list) / sizeof((list)[0])
#define CACHE         .around = op_cache_tensors, .n_around = OP_CACHE_TENSORS
const struct op_subject op_modules[] = {
    { .name = "mlp",
      .formula = "module: norm, feed-forward and residual, what follows the attention in a block",
      TENSORS(mlp_tensors),
      .index = TERN_MODULE_MLP,
      .run = run_mlp },
    { .name = "attention",
      .formula = "module: softmax_context(norm(input) attn_qkvw + attn_qkvb) attn_ow",
      TENSORS(attention_tensors),
      CACHE,
      .index = TERN_MODULE_ATTENTION,
      .run = run_attention },
    { .name = "layer",
      .formula = "module: one transformer layer, norms, attention and feed-forward with their residuals",
      TENSORS(layer_tensors),
      CACHE,
      .index = TERN_MODULE_LAYER,
      .run = run_layer },
    { .name = "moe",
      .formula = "module: a gate sends each token to k of X feed-forwards and adds up what they answer",
      .notes = "gate_w and res_coef_w lie as the matrices do: [out, in] with transposed_mode.\n",
      TENSORS(moe_tensors),
      .index = TERN_MODULE_MOE,
      .run = run_moe },
};
const size_t op_n_modules = sizeof(op_modules) / sizeof(op_modules[0]);
