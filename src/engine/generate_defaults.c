/* generate_defaults.c: what a checkpoint's generation_config.json asks for.
 *
 * Keys that choose tokens and that tern has become options.  Keys that choose tokens and that tern does not have are refused
 * by name when their value has an effect: the text would silently be another one than the reference's.  All other keys
 * (lengths, caches, what is returned, versions) are ignored, as are unknown ones, which is what transformers does.
 *
 * Source: transformers 5.23, generation/configuration_utils.py (names, defaults) and GenerationMixin. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#include <tern/generate.h>

#include <float.h>
#include <math.h>

#define FILE_LIMIT     ((size_t)1 << 20)
#define TOP_K_STANDARD 50 /* transformers samples from so many when a file says do_sample and nothing of top_k */

tern_generate_options tern_generate_options_default(void)
{
    tern_generate_options options = { .sampling = tern_sampling_default(), .max_tokens = -1 };

    options.sampling.temperature = 0;
    return options;
}

/* A key without an option of ours, and the number with which it has no effect.  null, false and [] have none either. */
struct refused {
    const char *key;
    double neutral;
    bool sampling_only;
};

static const struct refused refused_keys[] = {
    { "num_beams", 1, false },
    { "no_repeat_ngram_size", 0, false },
    { "min_length", 0, false },
    { "min_new_tokens", 0, false },
    { "guidance_scale", 1, false },
    { "penalty_alpha", 0, false },
    { "typical_p", 1, true },
    { "epsilon_cutoff", 0, true },
    { "eta_cutoff", 0, true },
    { "top_h", NAN, true },
    { "sequence_bias", NAN, false },
    { "bad_words_ids", NAN, false },
    { "suppress_tokens", NAN, false },
    { "begin_suppress_tokens", NAN, false },
    { "forced_bos_token_id", NAN, false },
    { "forced_eos_token_id", NAN, false },
    { "exponential_decay_length_penalty", NAN, false },
    { "watermarking_config", NAN, false },
    { "stop_strings", NAN, false },
};

static bool has_effect(const tern_json_value *value, double neutral)
{
    switch (tern_json_type(value)) {
    case TERN_JSON_NULL:
        return false;
    case TERN_JSON_BOOL:
        return tern_json_bool(value);
    case TERN_JSON_INT:
    case TERN_JSON_REAL:
        return tern_json_number(value) != neutral;
    case TERN_JSON_ARRAY:
        return tern_json_size(value) > 0;
    default:
        return true;
    }
}

static tern_status refuse(tern_ctx *ctx, const struct tern_json *json, bool do_sample)
{
    const tern_json_value *root = tern_json_root(json);

    for (size_t i = 0; i < sizeof refused_keys / sizeof *refused_keys; i++) {
        const struct refused *r = &refused_keys[i];
        const tern_json_value *value = tern_json_get(root, r->key);
        if (!value || (r->sampling_only && !do_sample) || !has_effect(value, r->neutral))
            continue;
        const enum tern_json_type type = tern_json_type(value);
        if (type == TERN_JSON_INT || type == TERN_JSON_REAL)
            return tern_fail(ctx, TERN_ERR_UNSUPPORTED,
                             "%s: %s is %g, which tern does not have; without the key it has no effect",
                             tern_json_where(json), r->key, tern_json_number(value));
        return tern_fail(ctx, TERN_ERR_UNSUPPORTED,
                         "%s: %s is %s, which tern does not have; without the key it has no effect",
                         tern_json_where(json), r->key, tern_json_type_name(value));
    }
    return TERN_OK;
}

/* A number in [min, max], or in (min, max] when `above`.  *out keeps its value where the key is absent. */
static tern_status read_number(tern_ctx *ctx, const struct tern_json *json, const char *key, double min, bool above,
                               double max, float *out)
{
    double x;

    TERN_TRY(tern_json_opt_number(ctx, json, tern_json_root(json), key, *out, &x));
    TERN_REQUIRE(ctx, (above ? (float)x > min : x >= min) && x <= max, TERN_ERR_FORMAT,
                 "%s: %s is %g, expected a number %s %g, at most %g", tern_json_where(json), key, x,
                 above ? "above" : "of at least", min, max);
    *out = (float)x;
    return TERN_OK;
}

static tern_status add_stop_id(tern_ctx *ctx, tern_ids *ids, int64_t id)
{
    TERN_TRY(TERN_GROW(ctx, &ids->data, &ids->capacity, ids->count + 1, "end-of-text ids"));
    ids->data[ids->count++] = (int32_t)id;
    return TERN_OK;
}

/* What config.json says. */
static tern_status add_model_ids(tern_ctx *ctx, const tern_model_config *config, tern_ids *ids)
{
    for (int32_t i = 0; i < config->n_eos_ids; i++)
        TERN_TRY(add_stop_id(ctx, ids, config->eos_ids[i]));
    return TERN_OK;
}

/* eos_token_id: an id, or a list of them. */
static tern_status read_stop_ids(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *config,
                                 tern_ids *ids)
{
    const tern_json_value *root = tern_json_root(json), *value = tern_json_get(root, "eos_token_id");

    if (tern_json_type(value) != TERN_JSON_ARRAY) {
        int64_t id;
        if (!value || tern_json_type(value) == TERN_JSON_NULL)
            return add_model_ids(ctx, config, ids);
        TERN_TRY(tern_json_need_int(ctx, json, root, "eos_token_id", 0, config->vocab_size - 1, &id));
        return add_stop_id(ctx, ids, id);
    }
    for (size_t i = 0; i < tern_json_size(value); i++) {
        const tern_json_value *item = tern_json_at(value, i);
        TERN_REQUIRE(ctx, tern_json_type(item) == TERN_JSON_INT, TERN_ERR_FORMAT,
                     "%s: eos_token_id[%zu] is %s, expected an integer", tern_json_where(json), i,
                     tern_json_type_name(item));
        const int64_t id = tern_json_int(item);
        TERN_REQUIRE(ctx, id >= 0 && id < config->vocab_size, TERN_ERR_FORMAT,
                     "%s: eos_token_id[%zu] is %" PRId64 ", the vocabulary has %" PRId32 " ids", tern_json_where(json),
                     i, id, config->vocab_size);
        TERN_TRY(add_stop_id(ctx, ids, id));
    }
    return TERN_OK;
}

static tern_status read_config(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *config,
                               tern_sampling *sampling, tern_ids *ids)
{
    const tern_json_value *root = tern_json_root(json);
    bool do_sample;
    int64_t top_k;

    TERN_REQUIRE(ctx, tern_json_type(root) == TERN_JSON_OBJECT, TERN_ERR_FORMAT, "%s: holds %s, expected an object",
                 tern_json_where(json), tern_json_type_name(root));
    TERN_TRY(tern_json_opt_bool(ctx, json, root, "do_sample", false, &do_sample));
    TERN_TRY(refuse(ctx, json, do_sample));

    sampling->temperature = 1;
    TERN_TRY(read_number(ctx, json, "temperature", 0, false, FLT_MAX, &sampling->temperature));
    TERN_TRY(tern_json_opt_int(ctx, json, root, "top_k", 0, INT32_MAX, do_sample ? TOP_K_STANDARD : 0, &top_k));
    sampling->top_k = (int32_t)top_k;
    TERN_TRY(read_number(ctx, json, "top_p", 0, false, 1, &sampling->top_p));
    TERN_TRY(read_number(ctx, json, "min_p", 0, false, 1, &sampling->min_p));
    TERN_TRY(read_number(ctx, json, "repetition_penalty", 0, true, FLT_MAX, &sampling->repetition_penalty));
    if (!do_sample)
        sampling->temperature = 0;
    return read_stop_ids(ctx, json, config, ids);
}

tern_status tern_generate_defaults(tern_ctx *ctx, const tern_model *model, tern_generate_options *options,
                                   tern_ids *storage)
{
    tern_generate_options o = tern_generate_options_default();
    const tern_model_config *config;
    struct tern_json *json = NULL;
    tern_ids ids = { 0 };
    char *path = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, model && options && storage, TERN_ERR_ARG, "generate: %s is NULL",
                 !model     ? "model"
                 : !options ? "options"
                            : "storage");
    config = tern_model_get_config(model);
    TERN_TRY(tern_path_join(ctx, tern_model_path(model), "generation_config.json", &path));
    if (tern_path_is_file(path)) {
        TERN_TRY_OR_FAIL(tern_json_read(ctx, path, FILE_LIMIT, &json));
        TERN_TRY_OR_FAIL(read_config(ctx, json, config, &o.sampling, &ids));
    } else {
        TERN_TRY_OR_FAIL(add_model_ids(ctx, config, &ids));
    }
    tern_json_destroy(json);
    tern_free(path);

    tern_ids_free(storage);
    *storage = ids;
    o.stop_ids = ids.data;
    o.n_stop_ids = ids.count;
    *options = o;
    return TERN_OK;

fail:
    tern_json_destroy(json);
    tern_free(path);
    tern_ids_free(&ids);
    return status;
}
