/* embed_modules.c: modules.json and the folders that it names.
 *
 *   modules.json                       [{ "idx", "name", "path", "type" }, ..]: type ends in .Transformer, .Pooling, .Dense, ..
 *   config_sentence_transformers.json  prompts, default_prompt_name, truncate_dim
 *   N_Pooling/config.json              pooling_mode: a name or a list of them; older: pooling_mode_mean_tokens and the like
 *   N_Dense/                           config.json, model.safetensors: linear.weight [out, in], linear.bias, residual.weight
 *   N_LayerNorm/                       config.json, model.safetensors: norm.weight, norm.bias
 *
 * Source: sentence-transformers 6.2. */
#include "engine/embed_modules.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/module_list.h"

#include <string.h>

#define FILE_LIMIT ((size_t)1 << 20)

void embed_modules_free(struct embed_modules *m)
{
    for (size_t i = 0; i < m->n_steps; i++) {
        tern_weight_destroy(&m->steps[i].weight);
        tern_weight_destroy(&m->steps[i].residual_weight);
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

tern_status embed_read_json(tern_ctx *ctx, const char *dir, const char *name, bool required, enum tern_json_type type,
                            struct tern_json **json)
{
    char *path;

    *json = NULL;
    TERN_TRY(tern_path_join(ctx, dir, name, &path));
    const bool there = required || !tern_path_is_absent(path); /* what is there and is no file is an error */
    tern_status status = there ? tern_json_read(ctx, path, FILE_LIMIT, json) : TERN_OK;
    if (status == TERN_OK && there && tern_json_type(tern_json_root(*json)) != type) {
        status =
            tern_fail(ctx, TERN_ERR_FORMAT, "%s: is %s, expected %s", path, tern_json_type_name(tern_json_root(*json)),
                      type == TERN_JSON_ARRAY ? "an array of modules" : "an object");
        tern_json_destroy(*json);
        *json = NULL;
    }
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

static bool has_pool(const struct embed_modules *m, int mode)
{
    bool there = false;

    for (size_t p = 0; p < m->n_pools; p++)
        there = there || (int)m->pools[p] == mode;
    return there;
}

/* The keys of files before sentence-transformers 5.5, a bool for each mode; beside pooling_mode they say the same. */
static tern_status read_older_pooling(tern_ctx *ctx, const struct tern_json *json, bool told, struct embed_modules *m)
{
    const tern_json_value *root = tern_json_root(json);

    for (void *it = tern_json_iter(root); it; it = tern_json_next(root, it)) {
        size_t length;
        const char *key = tern_json_iter_key(it, &length);
        int mode = 0;
        bool on;
        if (strncmp(key, "pooling_mode_", strlen("pooling_mode_")) != 0)
            continue;
        while (mode < EMBED_POOL_MODES && strcmp(key, pool_names[mode].older) != 0)
            mode++;
        TERN_REQUIRE(ctx, mode < EMBED_POOL_MODES, TERN_ERR_UNSUPPORTED,
                     "%s: has \"%s\", which is no mode of a Pooling that tern knows", tern_json_where(json), key);
        TERN_TRY(tern_json_opt_bool(ctx, json, root, key, false, &on));
        TERN_REQUIRE(ctx, !told || on == has_pool(m, mode), TERN_ERR_FORMAT,
                     "%s: %s is %s and pooling_mode has %s\"%s\", expected both to say the same", tern_json_where(json),
                     key, on ? "true" : "false", on ? "no " : "", pool_names[mode].name);
    }
    for (int i = 0; !told && i < EMBED_POOL_MODES; i++) {
        bool on;
        TERN_TRY(tern_json_opt_bool(ctx, json, root, pool_names[i].older, false, &on));
        if (on)
            m->pools[m->n_pools++] = (enum embed_pool)i;
    }
    return TERN_OK;
}

static tern_status read_pooling(tern_ctx *ctx, const struct tern_json *json, struct embed_modules *m)
{
    const tern_json_value *root = tern_json_root(json), *mode = tern_json_get(root, "pooling_mode");
    int64_t width, newer;

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
    TERN_REQUIRE(ctx, !mode || m->n_pools > 0, TERN_ERR_FORMAT, "%s: pooling_mode is an empty array, expected a mode",
                 tern_json_where(json));
    TERN_TRY(read_older_pooling(ctx, json, mode != NULL, m));
    if (m->n_pools == 0)
        m->pools[m->n_pools++] = EMBED_POOL_MEAN;
    return TERN_OK;
}

/* ---- the list ---- */

/* alone: without modules.json the library reads none of the files of its own. */
static tern_status read_transformer(tern_ctx *ctx, const char *dir, bool alone, struct embed_modules *m)
{
    TERN_TRY(copy_string(ctx, dir, &m->transformer));
    return alone ? embed_model_max_read(ctx, dir, &m->max_tokens)
                 : embed_transformer_read(ctx, dir, "feature-extraction", &m->max_tokens);
}

static tern_status add_module(tern_ctx *ctx, const char *dir, const struct tern_json *json, size_t index,
                              struct embed_modules *m)
{
    static const struct {
        const char *name;
        int kind; /* of a step; -1 the transformer, -2 the pooling */
    } known[] = { { "Transformer", -1 },
                  { "Pooling", -2 },
                  { "Dense", EMBED_DENSE },
                  { "LayerNorm", EMBED_LAYER_NORM },
                  { "Normalize", EMBED_NORMALIZE } };
    const char *type, *last;
    tern_status status;
    char *folder;
    size_t i = 0;

    TERN_TRY(tern_module_entry(ctx, dir, json, index, &type, &folder));
    last = tern_module_class(type);
    while (i < sizeof known / sizeof known[0] && strcmp(known[i].name, last) != 0)
        i++;
    TERN_REQUIRE_OR_FAIL(
        ctx, i < sizeof known / sizeof known[0], TERN_ERR_UNSUPPORTED,
        "%s: module %zu is \"%s\", expected sentence_transformers' Transformer, Pooling, Dense, LayerNorm or "
        "Normalize",
        tern_json_where(json), index, type);
    TERN_REQUIRE_OR_FAIL(ctx, index != 0 ? known[i].kind != -1 : known[i].kind == -1, TERN_ERR_UNSUPPORTED,
                         "%s: module %zu is \"%s\", expected a Transformer as the first and no other one",
                         tern_json_where(json), index, type);
    TERN_REQUIRE_OR_FAIL(ctx, index != 1 ? known[i].kind != -2 : known[i].kind == -2, TERN_ERR_UNSUPPORTED,
                         "%s: module %zu is \"%s\", expected a Pooling as the second and no other one",
                         tern_json_where(json), index, type);
    if (known[i].kind == -1) {
        status = read_transformer(ctx, folder, false, m);
    } else if (known[i].kind == -2) {
        struct tern_json *config = NULL;
        status = embed_read_json(ctx, folder, "config.json", true, TERN_JSON_OBJECT, &config);
        if (status == TERN_OK)
            status = read_pooling(ctx, config, m);
        tern_json_destroy(config);
    } else {
        status = embed_step_read(ctx, folder, (enum embed_kind)known[i].kind, m);
    }

fail:
    tern_free(folder);
    return status;
}

static tern_status read_settings(tern_ctx *ctx, const struct tern_json *json, struct embed_modules *m)
{
    const tern_json_value *root = tern_json_root(json), *prompts;
    const char *standard;
    int64_t kept;

    TERN_TRY(tern_json_opt_int(ctx, json, root, "truncate_dim", 1, INT32_MAX, 0, &kept));
    m->kept = (int32_t)kept;
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
    struct tern_json *list = NULL, *settings = NULL;
    tern_status status;

    *out = (struct embed_modules){ .include_prompt = true };
    TERN_TRY_OR_FAIL(embed_read_json(ctx, dir, "modules.json", false, TERN_JSON_ARRAY, &list));
    if (!list)
        return read_transformer(ctx, dir, true, out);
    TERN_TRY_OR_FAIL(
        embed_read_json(ctx, dir, "config_sentence_transformers.json", false, TERN_JSON_OBJECT, &settings));
    if (settings)
        TERN_TRY_OR_FAIL(read_settings(ctx, settings, out));
    const size_t n = tern_json_size(tern_json_root(list));
    TERN_REQUIRE_OR_FAIL(ctx, n >= 2, TERN_ERR_FORMAT,
                         "%s: has %zu modules, expected at least a Transformer and a Pooling", tern_json_where(list),
                         n);
    for (size_t i = 0; i < n; i++)
        TERN_TRY_OR_FAIL(add_module(ctx, dir, list, i, out));

fail:
    tern_json_destroy(settings);
    tern_json_destroy(list);
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

int32_t embed_kept_width(const struct embed_modules *m, int32_t hidden)
{
    const int32_t width = embed_width(m, hidden);

    return m->kept && m->kept < width ? m->kept : width;
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
