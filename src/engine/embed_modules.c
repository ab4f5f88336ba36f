/* embed_modules.c: modules.json and the folders that it names.
 *
 *   modules.json                       [{ "idx", "name", "path", "type" }, ..]: type ends in .Transformer, .Pooling, .Dense, ..
 *   sentence_bert_config.json          max_seq_length, do_lower_case
 *   config_sentence_transformers.json  prompts, default_prompt_name
 *   N_Pooling/config.json              pooling_mode: a name or a list of them; older: pooling_mode_mean_tokens and the like
 *   N_Dense/                           config.json, model.safetensors: linear.weight [out, in], linear.bias
 *   N_LayerNorm/                       config.json, model.safetensors: norm.weight, norm.bias
 *
 * Source: sentence-transformers 6.2. */
#include "engine/embed_modules.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/safetensors.h"
#include "ops/widen.h"

#include <string.h>

#define FILE_LIMIT ((size_t)1 << 20)

void embed_modules_free(struct embed_modules *m)
{
    for (size_t i = 0; i < m->n_steps; i++) {
        tern_weight_destroy(&m->steps[i].weight);
        tern_free(m->steps[i].bias);
        tern_free(m->steps[i].gamma);
    }
    for (size_t i = 0; m->prompts && i < m->n_prompts; i++) {
        tern_free(m->prompts[i].name);
        tern_free(m->prompts[i].text);
    }
    tern_free(m->prompts);
    tern_free(m->transformer);
    tern_free(m->default_prompt);
    *m = (struct embed_modules){ 0 };
}

/* A file of a folder; *json is NULL where it is absent and need not be there. */
static tern_status read_json(tern_ctx *ctx, const char *dir, const char *name, bool required, struct tern_json **json)
{
    char *path;

    *json = NULL;
    TERN_TRY(tern_path_join(ctx, dir, name, &path));
    const bool there = required || !tern_path_is_absent(path); /* what is there and is no file is an error */
    const tern_status status = there ? tern_json_read(ctx, path, FILE_LIMIT, json) : TERN_OK;
    tern_free(path);
    return status;
}

static tern_status copy_string(tern_ctx *ctx, const char *text, char **out)
{
    return tern_strndup(ctx, text, strlen(text), "a string of a model's modules", out);
}

/* ---- pooling ---- */

static const struct {
    const char *name, *older;
} pool_names[EMBED_POOL_MODES] = {
    [EMBED_POOL_CLS] = { "cls", "pooling_mode_cls_token" },
    [EMBED_POOL_MAX] = { "max", "pooling_mode_max_tokens" },
    [EMBED_POOL_MEAN] = { "mean", "pooling_mode_mean_tokens" },
    [EMBED_POOL_MEAN_SQRT] = { "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens" },
    [EMBED_POOL_WEIGHTED] = { "weightedmean", "pooling_mode_weightedmean_tokens" },
    [EMBED_POOL_LAST] = { "lasttoken", "pooling_mode_lasttoken" },
};

static tern_status add_pool(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *value,
                            struct embed_modules *m)
{
    const char *name = "";
    size_t length;

    TERN_REQUIRE(ctx, tern_json_type(value) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                 "%s: pooling_mode is %s, expected a string or an array of them", tern_json_where(json),
                 tern_json_type_name(value));
    name = tern_json_string(value, &length);
    for (int i = 0; i < EMBED_POOL_MODES; i++)
        if (strcmp(name, pool_names[i].name) == 0) {
            for (size_t p = 0; p < m->n_pools; p++)
                TERN_REQUIRE(ctx, (int)m->pools[p] != i, TERN_ERR_FORMAT, "%s: pooling_mode has \"%s\" twice",
                             tern_json_where(json), name);
            m->pools[m->n_pools++] = (enum embed_pool)i;
            return TERN_OK;
        }
    return tern_fail(
        ctx, TERN_ERR_UNSUPPORTED,
        "%s: pooling_mode is \"%s\", expected cls, max, mean, mean_sqrt_len_tokens, weightedmean or lasttoken",
        tern_json_where(json), name);
}

static tern_status read_pooling(tern_ctx *ctx, const struct tern_json *json, struct embed_modules *m)
{
    const tern_json_value *root = tern_json_root(json), *mode = tern_json_get(root, "pooling_mode");
    int64_t width, newer;
    bool on;

    TERN_TRY(tern_json_opt_int(ctx, json, root, "word_embedding_dimension", 1, 1 << 20, 0, &width));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "embedding_dimension", 1, 1 << 20, width, &newer));
    TERN_REQUIRE(ctx, width == 0 || width == newer, TERN_ERR_FORMAT,
                 "%s: word_embedding_dimension is %" PRId64 " and embedding_dimension %" PRId64
                 ", expected one value for both",
                 tern_json_where(json), width, newer);
    m->width = (int32_t)newer;
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "include_prompt", true, &m->include_prompt));
    if (mode && tern_json_type(mode) == TERN_JSON_ARRAY) {
        for (size_t i = 0; i < tern_json_size(mode); i++)
            TERN_TRY(add_pool(ctx, json, tern_json_at(mode, i), m));
    } else if (mode) {
        TERN_TRY(add_pool(ctx, json, mode, m));
    }
    for (int i = 0; !mode && i < EMBED_POOL_MODES; i++) {
        TERN_TRY(tern_json_opt_bool(ctx, json, root, pool_names[i].older, false, &on));
        if (on)
            m->pools[m->n_pools++] = (enum embed_pool)i;
    }
    if (m->n_pools == 0)
        m->pools[m->n_pools++] = EMBED_POOL_MEAN;
    return TERN_OK;
}

/* ---- steps ---- */

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
    } known[] = { { "Tanh", TERN_ACT_TANH },     { "Identity", TERN_ACT_NONE }, { "ReLU", TERN_ACT_RELU },
                  { "GELU", TERN_ACT_GELU_ERF }, { "SiLU", TERN_ACT_SILU },     { "Sigmoid", TERN_ACT_SIGMOID } };
    const char *name;

    TERN_TRY(tern_json_opt_string(ctx, json, tern_json_root(json), "activation_function",
                                  "torch.nn.modules.activation.Tanh", &name));
    const char *last = strrchr(name, '.');
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(last ? last + 1 : name, known[i].name) == 0) {
            *act = known[i].act;
            return TERN_OK;
        }
    return tern_fail(ctx, TERN_ERR_UNSUPPORTED,
                     "%s: activation_function is \"%s\", expected torch's Tanh, Identity, ReLU, GELU, SiLU or Sigmoid",
                     tern_json_where(json), name);
}

static tern_status read_dense(tern_ctx *ctx, const struct tern_json *json, const char *dir,
                              struct tern_safetensors *files, struct embed_step *step)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t in, out;
    bool bias, residual;
    float *weight = NULL;
    const char *input, *output;

    TERN_TRY(tern_json_need_int(ctx, json, root, "in_features", 1, 1 << 20, &in));
    TERN_TRY(tern_json_need_int(ctx, json, root, "out_features", 1, 1 << 20, &out));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "bias", true, &bias));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_residual", false, &residual));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "module_input_name", "sentence_embedding", &input));
    TERN_REQUIRE(ctx, !residual, TERN_ERR_UNSUPPORTED, "%s: use_residual is true, tern supports false",
                 tern_json_where(json));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "module_output_name", input, &output));
    TERN_REQUIRE(ctx, strcmp(input, "sentence_embedding") == 0 && strcmp(output, input) == 0, TERN_ERR_UNSUPPORTED,
                 "%s: module_input_name is \"%s\" and module_output_name \"%s\", expected sentence_embedding for both",
                 tern_json_where(json), input, output);
    TERN_TRY(dense_activation(ctx, json, &step->act));
    step->in = (int32_t)in;
    step->out = (int32_t)out;
    if (bias)
        TERN_TRY(read_values(ctx, files, dir, "linear.bias", 1, &out, &step->bias));
    TERN_TRY(read_values(ctx, files, dir, "linear.weight", 2, (int64_t[]){ out, in }, &weight));
    const tern_tensor view = tern_tensor_view(weight, TERN_FP32, 2, (int64_t[]){ out, in });
    const tern_status status = tern_weight_pack(ctx, &view, true, &step->weight);
    tern_free(weight);
    return status;
}

static tern_status read_layer_norm(tern_ctx *ctx, const struct tern_json *json, const char *dir,
                                   struct tern_safetensors *files, struct embed_step *step)
{
    int64_t n;

    TERN_TRY(tern_json_need_int(ctx, json, tern_json_root(json), "dimension", 1, 1 << 20, &n));
    step->in = step->out = (int32_t)n;
    TERN_TRY(read_values(ctx, files, dir, "norm.weight", 1, &n, &step->gamma));
    return read_values(ctx, files, dir, "norm.bias", 1, &n, &step->bias);
}

static tern_status add_step(tern_ctx *ctx, const char *dir, enum embed_kind kind, struct embed_modules *m)
{
    struct tern_safetensors *files = NULL;
    struct tern_json *json = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, m->n_steps < EMBED_STEPS, TERN_ERR_UNSUPPORTED, "%s: more than %d modules behind the pooling",
                 dir, EMBED_STEPS);
    struct embed_step *step = &m->steps[m->n_steps++];
    *step = (struct embed_step){ .kind = kind };
    if (kind == EMBED_NORMALIZE)
        return TERN_OK;
    TERN_TRY_OR_FAIL(read_json(ctx, dir, "config.json", true, &json));
    TERN_TRY_OR_FAIL(tern_safetensors_open_dir(ctx, dir, &files));
    status =
        kind == EMBED_DENSE ? read_dense(ctx, json, dir, files, step) : read_layer_norm(ctx, json, dir, files, step);
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

/* ---- the list ---- */

/* What the tokenizer's file says where the module's does not: model_max_length, unless it is a number that stands for none. */
static tern_status read_model_max(tern_ctx *ctx, const char *dir, struct embed_modules *m)
{
    struct tern_json *json;
    double max = 0;

    TERN_TRY(read_json(ctx, dir, "tokenizer_config.json", false, &json));
    if (!json)
        return TERN_OK;
    const tern_status status = tern_json_opt_number(ctx, json, tern_json_root(json), "model_max_length", 0, &max);
    tern_json_destroy(json);
    m->max_tokens = max >= 1 && max <= 1 << 24 ? (int32_t)max : 0;
    return status;
}

static tern_status read_transformer_config(tern_ctx *ctx, const struct tern_json *json, struct embed_modules *m)
{
    const tern_json_value *root = tern_json_root(json);
    bool lower_case;
    const char *task;
    int64_t max;

    TERN_TRY(tern_json_opt_int(ctx, json, root, "max_seq_length", 1, 1 << 24, 0, &max));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "do_lower_case", false, &lower_case));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "transformer_task", "feature-extraction", &task));
    TERN_REQUIRE(ctx, !lower_case, TERN_ERR_UNSUPPORTED,
                 "%s: do_lower_case is true, tern supports false: the tokenizer's own", tern_json_where(json));
    TERN_REQUIRE(ctx, strcmp(task, "feature-extraction") == 0, TERN_ERR_UNSUPPORTED,
                 "%s: transformer_task is \"%s\", expected feature-extraction", tern_json_where(json), task);
    m->max_tokens = (int32_t)max;
    return TERN_OK;
}

static tern_status read_transformer(tern_ctx *ctx, const char *dir, struct embed_modules *m)
{
    struct tern_json *json;
    tern_status status = TERN_OK;

    TERN_TRY(copy_string(ctx, dir, &m->transformer));
    TERN_TRY(read_json(ctx, dir, "sentence_bert_config.json", false, &json));
    if (json)
        status = read_transformer_config(ctx, json, m);
    tern_json_destroy(json);
    return status == TERN_OK && m->max_tokens == 0 ? read_model_max(ctx, dir, m) : status;
}

/* A folder below the directory: a plain relative path, which stays there. */
static tern_status check_path(tern_ctx *ctx, const struct tern_json *json, const char *path)
{
    TERN_REQUIRE(ctx, path[0] != '/' && !strstr(path, ".."), TERN_ERR_FORMAT,
                 "%s: path is \"%s\", expected a folder inside of the directory", tern_json_where(json), path);
    return TERN_OK;
}

static tern_status add_module(tern_ctx *ctx, const char *dir, const struct tern_json *json,
                              const tern_json_value *module, size_t index, struct embed_modules *m)
{
    static const struct {
        const char *name;
        int kind; /* of a step; -1 the transformer, -2 the pooling */
    } known[] = { { "Transformer", -1 },
                  { "Pooling", -2 },
                  { "Dense", EMBED_DENSE },
                  { "LayerNorm", EMBED_LAYER_NORM },
                  { "Normalize", EMBED_NORMALIZE } };
    const char *type, *path;
    char *folder;
    size_t i = 0;

    TERN_TRY(tern_json_opt_string(ctx, json, module, "type", "", &type));
    TERN_TRY(tern_json_opt_string(ctx, json, module, "path", "", &path));
    TERN_TRY(check_path(ctx, json, path));
    /* Modules of other packages may have the same last name, and are code of their own. */
    const bool theirs = strncmp(type, "sentence_transformers.", strlen("sentence_transformers.")) == 0;
    const char *last = theirs ? strrchr(type, '.') + 1 : type;
    while (i < sizeof known / sizeof known[0] && strcmp(known[i].name, last) != 0)
        i++;
    TERN_REQUIRE(ctx, i < sizeof known / sizeof known[0], TERN_ERR_UNSUPPORTED,
                 "%s: module %zu is \"%s\", expected sentence_transformers' Transformer, Pooling, Dense, LayerNorm or "
                 "Normalize",
                 tern_json_where(json), index, type);
    TERN_REQUIRE(ctx, index != 0 ? known[i].kind != -1 : known[i].kind == -1, TERN_ERR_UNSUPPORTED,
                 "%s: module %zu is \"%s\", expected a Transformer as the first and no other one",
                 tern_json_where(json), index, type);
    TERN_REQUIRE(ctx, index != 1 ? known[i].kind != -2 : known[i].kind == -2, TERN_ERR_UNSUPPORTED,
                 "%s: module %zu is \"%s\", expected a Pooling as the second and no other one", tern_json_where(json),
                 index, type);
    TERN_TRY(path[0] ? tern_path_join(ctx, dir, path, &folder) : copy_string(ctx, dir, &folder));
    tern_status status = TERN_OK;
    if (known[i].kind == -1) {
        status = read_transformer(ctx, folder, m);
    } else if (known[i].kind == -2) {
        struct tern_json *config = NULL;
        status = read_json(ctx, folder, "config.json", true, &config);
        if (status == TERN_OK)
            status = read_pooling(ctx, config, m);
        tern_json_destroy(config);
    } else {
        status = add_step(ctx, folder, (enum embed_kind)known[i].kind, m);
    }
    tern_free(folder);
    return status;
}

static tern_status read_prompts(tern_ctx *ctx, const struct tern_json *json, struct embed_modules *m)
{
    const tern_json_value *root = tern_json_root(json), *prompts;
    const char *standard;

    TERN_TRY(tern_json_opt_value(ctx, json, root, "prompts", TERN_JSON_OBJECT, &prompts));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "default_prompt_name", NULL, &standard));
    TERN_TRY(TERN_ALLOC(ctx, tern_json_size(prompts) + 1, "prompts", &m->prompts));
    for (void *it = prompts ? tern_json_iter(prompts) : NULL; it; it = tern_json_next(prompts, it)) {
        const tern_json_value *value = tern_json_iter_value(it);
        size_t length;
        const char *name = tern_json_iter_key(it, &length);
        TERN_REQUIRE(ctx, tern_json_type(value) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                     "%s: prompt \"%s\" is %s, expected a string", tern_json_where(json), name,
                     tern_json_type_name(value));
        struct embed_prompt *p = &m->prompts[m->n_prompts++];
        TERN_TRY(copy_string(ctx, name, &p->name));
        TERN_TRY(copy_string(ctx, tern_json_string(value, &length), &p->text));
    }
    bool there = !standard;
    for (size_t i = 0; i < m->n_prompts; i++)
        there = there || strcmp(m->prompts[i].name, standard) == 0;
    TERN_REQUIRE(ctx, there, TERN_ERR_FORMAT, "%s: default_prompt_name is \"%s\", and there is no prompt of that name",
                 tern_json_where(json), standard);
    return standard ? copy_string(ctx, standard, &m->default_prompt) : TERN_OK;
}

tern_status embed_modules_read(tern_ctx *ctx, const char *dir, struct embed_modules *out)
{
    struct tern_json *json = NULL;
    tern_status status;

    *out = (struct embed_modules){ .include_prompt = true };
    TERN_TRY_OR_FAIL(read_json(ctx, dir, "config_sentence_transformers.json", false, &json));
    if (json)
        TERN_TRY_OR_FAIL(read_prompts(ctx, json, out));
    tern_json_destroy(json);
    json = NULL;
    TERN_TRY_OR_FAIL(read_json(ctx, dir, "modules.json", false, &json));
    if (!json) {
        out->pools[out->n_pools++] = EMBED_POOL_MEAN;
        return read_transformer(ctx, dir, out);
    }
    const tern_json_value *list = tern_json_root(json);
    status = TERN_OK;
    if (tern_json_type(list) != TERN_JSON_ARRAY || tern_json_size(list) < 2)
        status = tern_fail(ctx, TERN_ERR_FORMAT,
                           "%s: is %s of %zu, expected an array of at least a Transformer and a Pooling",
                           tern_json_where(json), tern_json_type_name(list), tern_json_size(list));
    for (size_t i = 0; status == TERN_OK && i < tern_json_size(list); i++)
        status = add_module(ctx, dir, json, tern_json_at(list, i), i, out);

fail:
    tern_json_destroy(json);
    return status;
}

/* ---- widths ---- */

int32_t embed_pooled_width(const struct embed_modules *m, int32_t hidden)
{
    return (int32_t)m->n_pools * hidden;
}

int32_t embed_width(const struct embed_modules *m, int32_t hidden)
{
    int32_t width = embed_pooled_width(m, hidden);

    for (size_t i = 0; i < m->n_steps; i++)
        width = m->steps[i].kind == EMBED_NORMALIZE ? width : m->steps[i].out;
    return width;
}

tern_status embed_modules_check(tern_ctx *ctx, const char *dir, const struct embed_modules *m, int32_t hidden)
{
    int32_t width = embed_pooled_width(m, hidden);

    TERN_REQUIRE(ctx, m->width == 0 || m->width == hidden, TERN_ERR_SHAPE,
                 "%s: pooling expects states of %" PRId32 " numbers, the model's have %" PRId32, dir, m->width, hidden);
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct embed_step *step = &m->steps[i];
        if (step->kind == EMBED_NORMALIZE)
            continue;
        TERN_REQUIRE(ctx, step->in == width, TERN_ERR_SHAPE,
                     "%s: module %zu expects %" PRId32 " numbers, the one before gives %" PRId32, dir, i + 2, step->in,
                     width);
        width = step->out;
    }
    return TERN_OK;
}
