/* model_config.c: see model_config.h. */
#include "model/model_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TERN_ARCH(name) extern const struct tern_arch tern_arch_##name;
#include "model/arch_list.h"
#undef TERN_ARCH

static const struct tern_arch *const archs[] = {
#define TERN_ARCH(name) &tern_arch_##name,
#include "model/arch_list.h"
#undef TERN_ARCH
};

#define N_ARCHS (sizeof archs / sizeof archs[0])

/* ---- which family ---- */

/* "bloom, falcon, gpt2" */
static const char *known_families(char *buffer, size_t size)
{
    size_t n = 0;

    buffer[0] = '\0';
    for (size_t i = 0; i < N_ARCHS && n < size; i++)
        n += (size_t)snprintf(buffer + n, size - n, "%s%s", n ? ", " : "", archs[i]->family);
    return buffer;
}

static const struct tern_arch *arch_of_architecture(const char *name)
{
    for (size_t i = 0; i < N_ARCHS; i++)
        for (const char *const *a = archs[i]->architectures; *a; a++)
            if (strcmp(*a, name) == 0)
                return archs[i];
    return NULL;
}

static const struct tern_arch *arch_of_family(const char *name)
{
    for (size_t i = 0; i < N_ARCHS; i++)
        if (strcmp(archs[i]->family, name) == 0)
            return archs[i];
    return NULL;
}

/* The first of "architectures", else what "model_type" stands for. */
static tern_status choose_arch(tern_ctx *ctx, const struct tern_json *json, const struct tern_arch **arch,
                               const char **name)
{
    const char *where = tern_json_where(json), *model_type = NULL;
    const tern_json_value *root = tern_json_root(json), *list;
    char known[2048];

    TERN_TRY(tern_json_opt_string(ctx, json, root, "model_type", NULL, &model_type));
    TERN_TRY(tern_json_opt_value(ctx, json, root, "architectures", TERN_JSON_ARRAY, &list));
    if (tern_json_size(list) == 0) {
        TERN_REQUIRE(ctx, model_type, TERN_ERR_FORMAT,
                     "%s: neither architectures nor model_type, expected one of the families %s", where,
                     known_families(known, sizeof known));
        *arch = arch_of_family(model_type);
        TERN_REQUIRE(ctx, *arch, TERN_ERR_UNSUPPORTED,
                     "%s: model_type is \"%s\", which tern does not run; its families are %s", where, model_type,
                     known_families(known, sizeof known));
        *name = (*arch)->architectures[0];
        return TERN_OK;
    }

    const tern_json_value *first = tern_json_at(list, 0);
    size_t length;
    TERN_REQUIRE(ctx, tern_json_type(first) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                 "%s: architectures[0] is %s, expected a string", where, tern_json_type_name(first));
    *name = tern_json_string(first, &length);
    *arch = length == strlen(*name) ? arch_of_architecture(*name) : NULL;
    TERN_REQUIRE(ctx, *arch, TERN_ERR_UNSUPPORTED,
                 "%s: architecture is \"%s\", which tern does not run; its families are %s", where, *name,
                 known_families(known, sizeof known));
    TERN_REQUIRE(ctx, !model_type || strcmp(model_type, (*arch)->family) == 0, TERN_ERR_FORMAT,
                 "%s: model_type is \"%s\", architecture %s expects \"%s\"", where, model_type, *name, (*arch)->family);
    return TERN_OK;
}

/* Weights that are not what their dtype says. */
static tern_status refuse_quantization(tern_ctx *ctx, const struct tern_json *json)
{
    const tern_json_value *quantization;
    const char *method;

    TERN_TRY(
        tern_json_opt_value(ctx, json, tern_json_root(json), "quantization_config", TERN_JSON_OBJECT, &quantization));
    if (!quantization)
        return TERN_OK;
    TERN_TRY(tern_json_opt_string(ctx, json, quantization, "quant_method", "no quant_method", &method));
    return tern_fail(ctx, TERN_ERR_UNSUPPORTED,
                     "%s: quantization_config (%s): tern does not read quantised checkpoints, expected fp32, "
                     "fp16 or bf16 weights",
                     tern_json_where(json), method);
}

/* torch_dtype and dtype tell nothing that the files do not: it is enough that they agree. */
static tern_status check_dtype(tern_ctx *ctx, const struct tern_json *json)
{
    const tern_json_value *root = tern_json_root(json);
    const char *older, *newer;

    TERN_TRY(tern_json_opt_string(ctx, json, root, "torch_dtype", NULL, &older));
    TERN_TRY(tern_json_opt_string(ctx, json, root, "dtype", older, &newer));
    TERN_REQUIRE(ctx, !older || strcmp(older, newer) == 0, TERN_ERR_FORMAT,
                 "%s: torch_dtype is \"%s\" and dtype is \"%s\", expected one value for both", tern_json_where(json),
                 older, newer);
    return TERN_OK;
}

tern_status tern_model_config_parse(tern_ctx *ctx, const struct tern_json *json, const struct tern_arch **arch,
                                    tern_model_config *out, struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json);
    const char *name;

    *arch = NULL;
    *spec = tern_spec_default(NULL);
    *out = (tern_model_config){ .bos_id = -1 };
    TERN_REQUIRE(ctx, tern_json_type(root) == TERN_JSON_OBJECT, TERN_ERR_FORMAT, "%s: is %s, expected an object",
                 tern_json_where(json), tern_json_type_name(root));
    TERN_TRY(choose_arch(ctx, json, arch, &name));
    snprintf(out->family, sizeof out->family, "%s", (*arch)->family);
    snprintf(out->architecture, sizeof out->architecture, "%s", name);

    TERN_TRY(check_dtype(ctx, json));
    TERN_TRY(refuse_quantization(ctx, json));
    TERN_TRY(tern_config_refuse(ctx, json, "is_encoder_decoder"));
    TERN_TRY(tern_config_ids(ctx, json, out));
    TERN_TRY((*arch)->parse_config(ctx, json, out, spec));
    out->parallel_layers = spec->form == TERN_BLOCK_PARALLEL;
    return TERN_OK;
}

/* ---- pieces ---- */

tern_status tern_config_need_int(tern_ctx *ctx, const struct tern_json *json, const char *key, const char *alias,
                                 int64_t min, int64_t max, int32_t *out)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t value, other;

    if (alias && tern_json_get(root, alias)) {
        TERN_TRY(tern_json_need_int(ctx, json, root, alias, min, max, &other));
        TERN_TRY(tern_json_opt_int(ctx, json, root, key, min, max, other, &value));
        TERN_REQUIRE(ctx, value == other, TERN_ERR_FORMAT,
                     "%s: %s is %" PRId64 " and %s is %" PRId64 ", expected one value for both", tern_json_where(json),
                     key, value, alias, other);
    } else {
        TERN_TRY(tern_json_need_int(ctx, json, root, key, min, max, &value));
    }
    *out = (int32_t)value;
    return TERN_OK;
}

tern_status tern_config_activation_name(tern_ctx *ctx, const struct tern_json *json, const char *key,
                                        const char *standard, tern_model_config *config)
{
    /* Names of transformers' ACT2FN.  gelu_fast and gelu_accurate are the tanh form written differently. */
    static const struct {
        const char *name;
        tern_activation activation;
        tern_gelu_form gelu;
    } known[] = {
        { "gelu_new", TERN_GELU, TERN_GELU_TANH },
        { "gelu_pytorch_tanh", TERN_GELU, TERN_GELU_TANH },
        { "gelu_python_tanh", TERN_GELU, TERN_GELU_TANH },
        { "gelu_fast", TERN_GELU, TERN_GELU_TANH },
        { "gelu_accurate", TERN_GELU, TERN_GELU_TANH },
        { "gelu", TERN_GELU, TERN_GELU_ERF },
        { "gelu_python", TERN_GELU, TERN_GELU_ERF },
        { "quick_gelu", TERN_GELU, TERN_GELU_SIGMOID },
        { "relu", TERN_RELU, TERN_GELU_UNSET },
    };
    const char *name;

    TERN_TRY(tern_json_opt_string(ctx, json, tern_json_root(json), key, standard, &name));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].name, name) == 0) {
            config->activation = known[i].activation;
            config->gelu = known[i].gelu;
            return TERN_OK;
        }
    return tern_fail(
        ctx, TERN_ERR_UNSUPPORTED,
        "%s: %s is \"%s\", expected gelu_new, gelu_pytorch_tanh, gelu_python_tanh, gelu_fast, gelu_accurate, gelu, "
        "gelu_python, quick_gelu or relu",
        tern_json_where(json), key, name);
}

/* Up to `max` token ids: one, or a list of them.  -1 stands for none in older files. */
static tern_status read_ids(tern_ctx *ctx, const struct tern_json *json, const char *key, size_t max, int32_t *ids,
                            int32_t *n_ids)
{
    const tern_json_value *value = tern_json_get(tern_json_root(json), key);
    const bool list = value && tern_json_type(value) == TERN_JSON_ARRAY;
    const size_t n = list ? tern_json_size(value) : value && tern_json_type(value) != TERN_JSON_NULL;

    *n_ids = 0;
    TERN_REQUIRE(ctx, n <= max, TERN_ERR_UNSUPPORTED, "%s: %s has %zu ids, expected at most %zu", tern_json_where(json),
                 key, n, max);
    for (size_t i = 0; i < n; i++) {
        const tern_json_value *item = list ? tern_json_at(value, i) : value;
        char at[24] = "";
        if (list)
            snprintf(at, sizeof at, "[%zu]", i);
        TERN_REQUIRE(ctx, tern_json_type(item) == TERN_JSON_INT, TERN_ERR_FORMAT, "%s: %s%s is %s, expected an integer",
                     tern_json_where(json), key, at, tern_json_type_name(item));
        const int64_t id = tern_json_int(item);
        TERN_REQUIRE(ctx, id >= -1 && id <= INT32_MAX, TERN_ERR_FORMAT, "%s: %s is %" PRId64 ", expected a token id",
                     tern_json_where(json), key, id);
        if (id >= 0)
            ids[(*n_ids)++] = (int32_t)id;
    }
    return TERN_OK;
}

tern_status tern_config_ids(tern_ctx *ctx, const struct tern_json *json, tern_model_config *config)
{
    int32_t n_bos, bos;

    TERN_TRY(read_ids(ctx, json, "bos_token_id", 1, &bos, &n_bos));
    if (n_bos)
        config->bos_id = bos;
    return read_ids(ctx, json, "eos_token_id", TERN_MAX_EOS_IDS, config->eos_ids, &config->n_eos_ids);
}

tern_status tern_config_refuse(tern_ctx *ctx, const struct tern_json *json, const char *key)
{
    bool on;

    TERN_TRY(tern_json_opt_bool(ctx, json, tern_json_root(json), key, false, &on));
    TERN_REQUIRE(ctx, !on, TERN_ERR_UNSUPPORTED, "%s: %s is true, tern supports false", tern_json_where(json), key);
    return TERN_OK;
}

/* ---- a layer's config ---- */

tern_config tern_config_from_model(const tern_model_config *model, int32_t layer)
{
    tern_config c = tern_config_default();

    c.hidden_size = model->hidden_size;
    c.intermediate_size = model->intermediate_size;
    c.heads = model->heads;
    c.num_kv = model->kv_heads;
    c.num_hidden_layers = model->n_layers;
    c.layer_norm_eps = model->norm_eps;
    c.dtype = model->row_dtype;
    if (c.dtype == TERN_INT8) {
        c.activation_dtype = TERN_FP32;
        c.activation_quant = TERN_QUANT_ROW;
    }
    c.pre_layer_norm = true;
    c.norm_type = model->norm_type;
    c.scale_attention = model->scale_attention;
    c.scale_attn_by_inverse_layer_idx = model->scale_by_inverse_layer;
    c.triangular_masking = true;
    c.mlp_after_attn = true;
    c.mlp_act_func_type = model->activation;
    c.gelu = model->gelu;
    c.max_out_tokens = model->n_context;
    c.layer_id = layer;
    return c;
}
