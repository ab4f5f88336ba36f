/* op_modules.c: modules on files: weights bound for one run. */
#include "op_modules.h"

#include "cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define IN(n, s)               { .name = n, .shape = s }
#define VECTOR(n, s)           { .name = n, .shape = s, .type = TERN_OP_VECTOR, .optional = true }
#define MATRIX(n, s)           { .name = n, .shape = s, .type = TERN_OP_MATRIX }
#define MATRIX_OPTIONAL(n, s)  { .name = n, .shape = s, .type = TERN_OP_MATRIX, .optional = true }
#define SCALE(n)               { .name = n "_scale", .shape = "[G]", .type = TERN_OP_SCALE, .optional = true }
#define SCALES(n)              { .name = n "_scale", .shape = "[X, G]", .type = TERN_OP_SCALE, .optional = true }
#define OUT(n, s)              { .name = n, .shape = s, .output = true }
/* clang-format on */

/* ---- matrices that the modules take packed: int8 with its scales ---- */

#define MAX_MATRICES 16

struct matrices {
    tern_weight *packed[MAX_MATRICES];
    int n;
};

static void matrices_free(struct matrices *m)
{
    while (m->n)
        tern_weight_destroy(&m->packed[--m->n]);
}

/* The matrix `name` as it is, or packed with NAME_scale where it is int8.  Nothing where it was not given. */
static int matrix(struct op_job *job, const char *name, struct matrices *m, tern_tensor *out)
{
    char scale_name[64];

    *out = op_tensor(job, name);
    snprintf(scale_name, sizeof(scale_name), "%s_scale", name);
    const tern_tensor scale = op_tensor(job, scale_name);
    const bool codes = out->rank >= 0 && out->dtype == TERN_INT8;
    if (codes != (scale.rank >= 0))
        return cli_error(CLI_FAIL, "%s: %s is %s, expected %s", job->subject.name, scale_name,
                         codes ? "missing" : "given",
                         codes ? "the scales of the int8 matrix" : "none without an int8 matrix");
    if (!codes)
        return 0;
    const tern_status status =
        tern_weight_pack_as(job->ctx, out, job->settings.config.transposed_mode, TERN_INT8, &scale, &m->packed[m->n]);
    if (status)
        return op_fail(job, status);
    *out = tern_weight_view(m->packed[m->n++]);
    return 0;
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
    return op_allocate(*out);
}

/* ---- layer ---- */

static const tern_op_tensor layer_tensors[] = {
    IN("input", "[.., S, H]"),
    VECTOR("norm_w", "[H]"),
    VECTOR("norm_b", "[H]"),
    MATRIX("attn_qkvw", "[H, (h+2G)E]"),
    SCALE("attn_qkvw"),
    VECTOR("attn_qkvb", "[(h+2G)E]"),
    MATRIX("attn_ow", "[hE, H]"),
    SCALE("attn_ow"),
    VECTOR("attn_ob", "[H]"),
    VECTOR("attn_nw", "[H]"),
    VECTOR("attn_nb", "[H]"),
    MATRIX("inter_w", "[H, pI]"),
    SCALE("inter_w"),
    VECTOR("inter_b", "[pI]"),
    MATRIX("output_w", "[I, H]"),
    SCALE("output_w"),
    VECTOR("output_b", "[H]"),
    OUT("output", "[.., S, H]"),
};

static int layer_weights(struct op_job *job, struct matrices *m, tern_layer_weights *w)
{
    int code;

    *w = (tern_layer_weights){ .norm_w = op_tensor(job, "norm_w"),
                               .norm_b = op_tensor(job, "norm_b"),
                               .attn_qkvb = op_tensor(job, "attn_qkvb"),
                               .attn_ob = op_tensor(job, "attn_ob"),
                               .attn_nw = op_tensor(job, "attn_nw"),
                               .attn_nb = op_tensor(job, "attn_nb"),
                               .inter_b = op_tensor(job, "inter_b"),
                               .output_b = op_tensor(job, "output_b") };
    code = matrix(job, "attn_qkvw", m, &w->attn_qkvw);
    if (!code)
        code = matrix(job, "attn_ow", m, &w->attn_ow);
    if (!code)
        code = matrix(job, "inter_w", m, &w->inter_w);
    if (!code)
        code = matrix(job, "output_w", m, &w->output_w);
    return code;
}

static int run_layer(struct op_job *job)
{
    struct matrices m = { .n = 0 };
    struct op_cache cache = { 0 };
    tern_layer_weights weights;
    tern_layer *layer = NULL;
    tern_tensor input, *output = NULL;
    int code = input_of(job, &input);

    if (!code)
        code = layer_weights(job, &m, &weights);
    if (!code) {
        const tern_status status = tern_layer_create(job->ctx, &job->settings.config, NULL, &weights, &layer);
        code = status ? op_fail(job, status) : 0;
    }
    if (!code)
        code = op_cache_open(job, &input, &cache);
    if (!code)
        code = output_like(job, &input, &output);
    if (!code) {
        memcpy(output->data, input.data, op_elements(&input) * tern_dtype_size(input.dtype));
        const int64_t rows[] = { cache.batch * cache.rows, input.dim[input.rank - 1] };
        tern_tensor x = tern_tensor_view(output->data, input.dtype, 2, rows);
        const tern_status status = tern_layer_forward(job->ctx, layer, &x, cache.cache, 0, cache.spans, cache.n_spans);
        code = status ? op_fail(job, status) : op_cache_show(job, &cache);
    }
    op_cache_close(&cache);
    tern_layer_destroy(&layer);
    matrices_free(&m);
    return code;
}

/* ---- moe ---- */

static const tern_op_tensor moe_tensors[] = {
    IN("input", "[.., H]"),
    { .name = "gate_w", .shape = "[H, X]", .type = TERN_OP_VECTOR },
    MATRIX("inter_w", "[X, H, pI]"),
    SCALES("inter_w"),
    VECTOR("inter_b", "[X, pI]"),
    MATRIX("output_w", "[X, I, H]"),
    SCALES("output_w"),
    VECTOR("output_b", "[X, H]"),
    MATRIX_OPTIONAL("res_inter_w", "[H, pI]"),
    SCALE("res_inter_w"),
    VECTOR("res_inter_b", "[pI]"),
    MATRIX_OPTIONAL("res_output_w", "[I, H]"),
    SCALE("res_output_w"),
    VECTOR("res_output_b", "[H]"),
    VECTOR("res_coef_w", "[H, 2]"),
    VECTOR("res_coef_b", "[2]"),
    OUT("output", "[.., H]"),
};

static int run_moe(struct op_job *job)
{
    tern_moe_config config = job->settings.moe;
    tern_moe_weights w = tern_moe_weights_none();
    tern_moe *moe = NULL;
    tern_tensor input, *output = NULL;
    int code = input_of(job, &input);

    config.k = job->settings.params.k;
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
        const tern_status status = tern_moe_create(job->ctx, &job->settings.config, &config, NULL, &w, &moe);
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
const struct op_subject op_modules[] = {
    { .name = "layer",
      .formula = "module: one transformer layer, norms, attention and feed-forward with their residuals",
      TENSORS(layer_tensors),
      .around = op_cache_tensors,
      .n_around = OP_CACHE_TENSORS,
      .index = TERN_MODULE_LAYER,
      .run = run_layer },
    { .name = "moe",
      .formula = "module: a gate sends each token to k of X feed-forwards and adds up what they answer",
      TENSORS(moe_tensors),
      .index = TERN_MODULE_MOE,
      .run = run_moe },
};
const size_t op_n_modules = sizeof(op_modules) / sizeof(op_modules[0]);
