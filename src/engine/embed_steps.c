/* embed_steps.c: what may stand behind a pooling: Dense, LayerNorm, Normalize, each in a folder of its own.
 *
 * Source: sentence-transformers 6.2. */
#include "engine/embed_modules.h"

#include "base/file.h"
#include "base/memory.h"
#include "model/safetensors.h"
#include "ops/widen.h"

#include <string.h>

static tern_status read_tensor(tern_ctx *ctx, struct tern_safetensors *files, const char *dir, const char *name,
                               int rank, const int64_t *dim, struct tern_file_tensor **out)
{
    struct tern_file_tensor *t = tern_safetensors_find(files, name);

    TERN_TRY(tern_file_tensor_weight(ctx, files, dir, name, t, rank, dim));
    t->used = true;
    *out = t;
    return TERN_OK;
}

/* A tensor's values as fp32, wherever it lies in its file. */
static tern_status read_values(tern_ctx *ctx, struct tern_safetensors *files, const char *dir, const char *name,
                               int rank, const int64_t *dim, float **out)
{
    struct tern_file_tensor *t;
    void *copy;

    TERN_TRY(read_tensor(ctx, files, dir, name, rank, dim, &t));
    const size_t n = t->size / tern_dtype_size(t->dtype);
    TERN_TRY(tern_alloc(ctx, t->size, 1, "a copy of a tensor", &copy));
    memcpy(copy, t->data, t->size);
    const tern_status status = TERN_ALLOC(ctx, n, "a module's weights", out);
    if (status == TERN_OK)
        tern_widen(ctx->kernels, *out, copy, t->dtype, n);
    tern_free(copy);
    return status;
}

static tern_status dense_activation(tern_ctx *ctx, const struct tern_json *json, enum tern_act *act)
{
    static const struct {
        const char *name;
        enum tern_act act;
    } known[] = { { "Tanh", TERN_ACT_TANH },      { "Identity", TERN_ACT_NONE },
                  { "ReLU", TERN_ACT_RELU },      { "LeakyReLU", TERN_ACT_LEAKY_RELU },
                  { "GELU", TERN_ACT_GELU_ERF },  { "SiLU", TERN_ACT_SILU },
                  { "Sigmoid", TERN_ACT_SIGMOID } };
    const char *name;

    TERN_TRY(tern_json_opt_string(ctx, json, tern_json_root(json), "activation_function",
                                  "torch.nn.modules.activation.Tanh", &name));
    /* A class of another package with the same last name is code of its own. */
    const char *last = strncmp(name, "torch.nn.", strlen("torch.nn.")) == 0 ? strrchr(name, '.') + 1 : "";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(last, known[i].name) == 0) {
            *act = known[i].act;
            return TERN_OK;
        }
    return tern_fail(ctx, TERN_ERR_UNSUPPORTED,
                     "%s: activation_function is \"%s\", expected torch.nn's Tanh, Identity, ReLU, "
                     "LeakyReLU, GELU, SiLU or Sigmoid",
                     tern_json_where(json), name);
}

/* Both are about the one vector that pooling made. */
static tern_status check_names(tern_ctx *ctx, const struct tern_json *json)
{
    const tern_json_value *root = tern_json_root(json);
    const char *input, *output;

    TERN_TRY(tern_json_opt_string(ctx, json, root, "module_input_name", "sentence_embedding", &input));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "module_output_name", input, &output));
    TERN_REQUIRE(ctx, strcmp(input, "sentence_embedding") == 0 && strcmp(output, input) == 0, TERN_ERR_UNSUPPORTED,
                 "%s: module_input_name is \"%s\" and module_output_name \"%s\", expected sentence_embedding for both",
                 tern_json_where(json), input, output);
    return TERN_OK;
}

static tern_status read_matrix(tern_ctx *ctx, struct tern_safetensors *files, const char *dir, const char *name,
                               const struct embed_step *step, tern_weight **out)
{
    const int64_t dim[] = { step->out, step->in };
    float *values;

    TERN_TRY(read_values(ctx, files, dir, name, 2, dim, &values));
    const tern_tensor view = tern_tensor_view(values, TERN_FP32, 2, dim);
    const tern_status status = tern_weight_pack(ctx, &view, true, out);
    tern_free(values);
    return status;
}

static tern_status read_dense(tern_ctx *ctx, const struct tern_json *json, struct embed_step *step, bool *bias)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t in, out;

    TERN_TRY(check_names(ctx, json));
    TERN_TRY(tern_json_need_int(ctx, json, root, "in_features", 1, 1 << 20, &in));
    TERN_TRY(tern_json_need_int(ctx, json, root, "out_features", 1, 1 << 20, &out));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "bias", true, bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_residual", false, &step->residual));
    step->in = (int32_t)in;
    step->out = (int32_t)out;
    return dense_activation(ctx, json, &step->act);
}

static tern_status load_dense(tern_ctx *ctx, struct tern_safetensors *files, const char *dir, bool bias,
                              struct embed_step *step)
{
    if (bias)
        TERN_TRY(read_values(ctx, files, dir, "linear.bias", 1, (int64_t[]){ step->out }, &step->bias));
    TERN_TRY(read_matrix(ctx, files, dir, "linear.weight", step, &step->weight));
    return step->residual && step->in != step->out
               ? read_matrix(ctx, files, dir, "residual.weight", step, &step->residual_weight)
               : TERN_OK;
}

static tern_status read_layer_norm(tern_ctx *ctx, const struct tern_json *json, struct embed_step *step)
{
    int64_t n;

    TERN_TRY(tern_json_need_int(ctx, json, tern_json_root(json), "dimension", 1, 1 << 20, &n));
    step->in = step->out = (int32_t)n;
    return TERN_OK;
}

static tern_status load_layer_norm(tern_ctx *ctx, struct tern_safetensors *files, const char *dir,
                                   struct embed_step *step)
{
    const int64_t n = step->in;

    TERN_TRY(read_values(ctx, files, dir, "norm.weight", 1, &n, &step->gamma));
    return read_values(ctx, files, dir, "norm.bias", 1, &n, &step->bias);
}

/* A Normalize's config says which vector it is about; older ones have none. */
static tern_status read_normalize(tern_ctx *ctx, const char *dir)
{
    struct tern_json *json;

    TERN_TRY(embed_read_json(ctx, dir, "config.json", false, TERN_JSON_OBJECT, &json));
    const tern_status status = json ? check_names(ctx, json) : TERN_OK;
    tern_json_destroy(json);
    return status;
}

tern_status embed_step_read(tern_ctx *ctx, const char *dir, enum embed_kind kind, struct embed_modules *m)
{
    struct tern_safetensors *files = NULL;
    struct tern_json *json = NULL;
    tern_status status;
    bool bias = false;

    TERN_REQUIRE(ctx, m->n_steps < EMBED_STEPS, TERN_ERR_UNSUPPORTED, "%s: more than %d modules behind the pooling",
                 dir, EMBED_STEPS);
    struct embed_step *step = &m->steps[m->n_steps++];
    *step = (struct embed_step){ .kind = kind };
    if (kind == EMBED_NORMALIZE)
        return read_normalize(ctx, dir);
    TERN_TRY_OR_FAIL(embed_read_json(ctx, dir, "config.json", true, TERN_JSON_OBJECT, &json));
    TERN_TRY_OR_FAIL(kind == EMBED_DENSE ? read_dense(ctx, json, step, &bias) : read_layer_norm(ctx, json, step));
    TERN_TRY_OR_FAIL(tern_safetensors_open_dir(ctx, dir, &files));
    TERN_TRY_OR_FAIL(kind == EMBED_DENSE ? load_dense(ctx, files, dir, bias, step)
                                         : load_layer_norm(ctx, files, dir, step));
    for (size_t i = 0; status == TERN_OK && i < tern_safetensors_count(files); i++) {
        const struct tern_file_tensor *t = tern_safetensors_at(files, i);
        TERN_REQUIRE_OR_FAIL(ctx, t->used, TERN_ERR_FORMAT,
                             "%s: tensor \"%s\" is none that a module of this config has", dir, t->name);
    }

fail:
    tern_safetensors_close(&files);
    tern_json_destroy(json);
    return status;
}
