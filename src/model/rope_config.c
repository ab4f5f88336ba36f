/* rope_config.c: how config.json tells the rotary embedding, in its old and its new spelling.
 *
 *   old   rope_theta; rope_scaling: { type or rope_type, factor, .. }, or null
 *   new   rope_parameters: { rope_type, rope_theta, factor, .. }, or one such object for each type of layer
 *
 * partial_rotary_factor and original_max_position_embeddings stand in the object or beside it.  A value that is told twice must be
 * the same.  Source: transformers 5.23, modeling_rope_utils.py. */
#include "model/model_config.h"
#include "base/math_f64.h"

#include <math.h>
#include <string.h>

struct reader {
    tern_ctx *ctx;
    const struct tern_json *json;
    const tern_json_value *root, *object; /* object: NULL, rope_scaling or rope_parameters */
};

/* A number in the object or beside it, where it may have another name; *there says whether. */
static tern_status number_as(const struct reader *r, const char *key, const char *name, double standard, double *out,
                             bool *there)
{
    const tern_json_value *inside = tern_json_get(r->object, key), *beside = tern_json_get(r->root, name);
    double other = standard;

    *out = standard;
    *there =
        (inside && tern_json_type(inside) != TERN_JSON_NULL) || (beside && tern_json_type(beside) != TERN_JSON_NULL);
    if (r->object)
        TERN_TRY(tern_json_opt_number(r->ctx, r->json, r->object, key, standard, out));
    TERN_TRY(tern_json_opt_number(r->ctx, r->json, r->root, name, *out, &other));
    TERN_REQUIRE(r->ctx, !inside || tern_json_type(inside) == TERN_JSON_NULL || other == *out, TERN_ERR_FORMAT,
                 "%s: %s is %g, and %g in the object of the rotary embedding, expected one value for both",
                 tern_json_where(r->json), name, other, *out);
    *out = other;
    TERN_REQUIRE(r->ctx, isfinite(*out), TERN_ERR_CONFIG, "%s: %s is %g, expected a finite number",
                 tern_json_where(r->json), name, *out);
    return TERN_OK;
}

static tern_status number(const struct reader *r, const char *key, double standard, double *out, bool *there)
{
    return number_as(r, key, key, standard, out, there);
}

/* A number that the type needs, above `low`. */
static tern_status need(const struct reader *r, const char *type, const char *key, double low, double *out)
{
    bool there;

    TERN_TRY(number(r, key, 0, out, &there));
    TERN_REQUIRE(r->ctx, there, TERN_ERR_FORMAT, "%s: rope type %s without %s, expected a number",
                 tern_json_where(r->json), type, key);
    TERN_REQUIRE(r->ctx, *out > low, TERN_ERR_CONFIG, "%s: %s is %g, expected more than %g", tern_json_where(r->json),
                 key, *out, low);
    return TERN_OK;
}

static tern_status factors(const struct reader *r, const char *key, int32_t n, float *out)
{
    const tern_json_value *list;

    TERN_TRY(tern_json_opt_value(r->ctx, r->json, r->object, key, TERN_JSON_ARRAY, &list));
    TERN_REQUIRE(r->ctx, tern_json_size(list) == (size_t)n, TERN_ERR_CONFIG, "%s: %s has %zu numbers, expected %d",
                 tern_json_where(r->json), key, tern_json_size(list), n);
    for (int32_t i = 0; i < n; i++) {
        const tern_json_value *item = tern_json_at(list, (size_t)i);
        const bool is_number = tern_json_type(item) == TERN_JSON_INT || tern_json_type(item) == TERN_JSON_REAL;
        TERN_REQUIRE(r->ctx, is_number && tern_json_number(item) > 0, TERN_ERR_FORMAT,
                     "%s: %s[%d] is %s, expected a number above 0", tern_json_where(r->json), key, i,
                     tern_json_type_name(item));
        out[i] = (float)tern_json_number(item);
    }
    return TERN_OK;
}

/* rope_parameters, or the object in it that is for the layers of `layer_type`; else rope_scaling, but where that is for others. */
static tern_status choose(struct reader *r, const char *layer_type, bool unscaled)
{
    const char *where = tern_json_where(r->json);
    const tern_json_value *parameters, *scaling;

    TERN_TRY(tern_json_opt_value(r->ctx, r->json, r->root, "rope_parameters", TERN_JSON_OBJECT, &parameters));
    TERN_TRY(tern_json_opt_value(r->ctx, r->json, r->root, "rope_scaling", TERN_JSON_OBJECT, &scaling));
    TERN_REQUIRE(r->ctx, !parameters || !scaling, TERN_ERR_FORMAT,
                 "%s: rope_parameters and rope_scaling are both there, expected one of them", where);
    const bool per_type = tern_json_get(parameters, "full_attention") || tern_json_get(parameters, "sliding_attention");
    TERN_REQUIRE(r->ctx, !parameters || per_type == (layer_type != NULL), TERN_ERR_FORMAT,
                 "%s: rope_parameters has %s, expected %s in this family", where,
                 per_type ? "an object for each type of layer" : "one set for all layers",
                 layer_type ? "an object for each type of layer" : "one set for all layers");
    if (per_type)
        return tern_json_opt_value(r->ctx, r->json, parameters, layer_type, TERN_JSON_OBJECT, &r->object);
    r->object = parameters ? parameters : unscaled ? NULL : scaling;
    return TERN_OK;
}

static tern_status rope_type(const struct reader *r, enum tern_rope_type *out, const char **name)
{
    static const struct {
        const char *name;
        enum tern_rope_type type;
    } known[] = {
        { "default", TERN_ROPE_DEFAULT }, { "linear", TERN_ROPE_LINEAR }, { "dynamic", TERN_ROPE_DYNAMIC },
        { "llama3", TERN_ROPE_LLAMA3 },   { "yarn", TERN_ROPE_YARN },     { "longrope", TERN_ROPE_LONGROPE },
        { "su", TERN_ROPE_LONGROPE },
    };
    const char *other;

    *name = "default";
    *out = TERN_ROPE_DEFAULT;
    if (!r->object)
        return TERN_OK;
    TERN_TRY(tern_json_opt_string(r->ctx, r->json, r->object, "rope_type", NULL, name));
    TERN_TRY(tern_json_opt_string(r->ctx, r->json, r->object, "type", *name, &other));
    TERN_REQUIRE(r->ctx, !*name || strcmp(*name, other) == 0, TERN_ERR_FORMAT,
                 "%s: rope_type is \"%s\" and type is \"%s\", expected one of them", tern_json_where(r->json), *name,
                 other);
    *name = other ? other : "default";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].name, *name) == 0) {
            *out = known[i].type;
            return TERN_OK;
        }
    return tern_fail(r->ctx, TERN_ERR_UNSUPPORTED,
                     "%s: rope type is \"%s\", expected default, linear, dynamic, llama3, yarn or longrope",
                     tern_json_where(r->json), *name);
}

static double yarn_scale(double factor, double by)
{
    return factor <= 1 ? 1 : 0.1 * by * tern_log_f64(factor) + 1;
}

/* What cosines and sines are multiplied by. */
static tern_status attention_factor(const struct reader *r, struct tern_rope *rope)
{
    double given, mscale, all;
    bool there, has_mscale, has_all;

    TERN_TRY(number(r, "attention_factor", 1, &given, &there));
    TERN_TRY(number(r, "mscale", 0, &mscale, &has_mscale));
    TERN_TRY(number(r, "mscale_all_dim", 0, &all, &has_all));
    if (!there && rope->type == TERN_ROPE_YARN)
        given = mscale != 0 && all != 0 ? yarn_scale(rope->factor, mscale) / yarn_scale(rope->factor, all)
                                        : yarn_scale(rope->factor, 1);
    else if (!there)
        given = rope->factor <= 1 ? 1 : sqrt(1 + tern_log_f64(rope->factor) / tern_log_f64(rope->original));
    rope->attention_factor = (float)given;
    return TERN_OK;
}

tern_status tern_config_rope(tern_ctx *ctx, const struct tern_json *json, const char *layer_type,
                             const struct tern_rope_defaults *standard, struct tern_rope *out)
{
    const char *where = tern_json_where(json), *type;
    struct reader r = { .ctx = ctx, .json = json, .root = tern_json_root(json) };
    double context, partial;
    bool there;

    *out = (struct tern_rope){ .factor = 1, .attention_factor = 1, .truncate = true };
    TERN_TRY(choose(&r, layer_type, standard->unscaled));
    TERN_TRY(rope_type(&r, &out->type, &type));
    TERN_TRY(number_as(&r, "rope_theta", standard->theta_key ? standard->theta_key : "rope_theta", standard->theta,
                       &out->theta, &there));
    TERN_REQUIRE(ctx, out->theta > 1 && isfinite(out->theta), TERN_ERR_CONFIG,
                 "%s: rope_theta is %g, expected more than 1", where, out->theta);
    TERN_TRY(number_as(&r, "partial_rotary_factor",
                       standard->partial_key ? standard->partial_key : "partial_rotary_factor",
                       standard->partial > 0 ? standard->partial : 1, &partial, &there));
    TERN_REQUIRE(ctx, partial > 0 && partial <= 1, TERN_ERR_CONFIG,
                 "%s: partial_rotary_factor is %g, expected above 0 and at most 1", where, partial);
    out->dim = (int32_t)(standard->head_dim * partial);
    TERN_REQUIRE(ctx, out->dim > 0 && out->dim % 2 == 0 && out->dim <= 2 * TERN_ROTARY_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: %d of %d channels of a head turn, expected an even number up to %d", where, out->dim,
                 standard->head_dim, 2 * TERN_ROTARY_MAX);
    TERN_TRY(tern_json_opt_number(ctx, json, r.root, "max_position_embeddings", 0, &context));
    out->original = context;

    if (out->type == TERN_ROPE_LINEAR || out->type == TERN_ROPE_DYNAMIC || out->type == TERN_ROPE_LLAMA3)
        TERN_TRY(need(&r, type, "factor", 0, &out->factor));
    if (out->type == TERN_ROPE_DYNAMIC) {
        TERN_REQUIRE(ctx, out->factor >= 1, TERN_ERR_CONFIG, "%s: factor is %g, expected at least 1", where,
                     out->factor);
        TERN_REQUIRE(ctx, out->dim > 2, TERN_ERR_UNSUPPORTED,
                     "%s: rope type dynamic turns %d channels, expected more than 2", where, out->dim);
    }
    if (out->type == TERN_ROPE_LLAMA3 || out->type == TERN_ROPE_YARN || out->type == TERN_ROPE_LONGROPE)
        TERN_TRY(number(&r, "original_max_position_embeddings", context, &out->original, &there));
    TERN_REQUIRE(ctx, out->type == TERN_ROPE_DEFAULT || out->type == TERN_ROPE_LINEAR || out->original > 1,
                 TERN_ERR_CONFIG, "%s: rope type %s with %g original positions, expected more than 1", where, type,
                 out->original);
    if (out->type == TERN_ROPE_LLAMA3) {
        TERN_TRY(need(&r, type, "low_freq_factor", 0, &out->low_freq_factor));
        TERN_TRY(need(&r, type, "high_freq_factor", out->low_freq_factor, &out->high_freq_factor));
    }
    if (out->type == TERN_ROPE_YARN || out->type == TERN_ROPE_LONGROPE) {
        TERN_TRY(number(&r, "factor", context / out->original, &out->factor, &there));
        TERN_REQUIRE(ctx, out->factor > 0, TERN_ERR_CONFIG, "%s: factor is %g, expected more than 0", where,
                     out->factor);
        TERN_TRY(attention_factor(&r, out));
    }
    if (out->type == TERN_ROPE_YARN) {
        TERN_TRY(number(&r, "beta_fast", 32, &out->beta_fast, &there));
        TERN_TRY(number(&r, "beta_slow", 1, &out->beta_slow, &there));
        TERN_TRY(tern_json_opt_bool(ctx, json, r.object, "truncate", true, &out->truncate));
        TERN_REQUIRE(ctx, out->beta_fast > 0 && out->beta_slow > 0, TERN_ERR_CONFIG,
                     "%s: beta_fast is %g and beta_slow %g, expected more than 0", where, out->beta_fast,
                     out->beta_slow);
    }
    if (out->type == TERN_ROPE_LONGROPE) {
        TERN_TRY(factors(&r, "short_factor", out->dim / 2, out->short_factor));
        TERN_TRY(factors(&r, "long_factor", out->dim / 2, out->long_factor));
    }
    tern_rope_prepare(out);
    return TERN_OK;
}

void tern_config_stretch(const struct tern_rope *rope, tern_model_config *c)
{
    const double n = rope->original * rope->factor;

    if (rope->type == TERN_ROPE_DYNAMIC && n > c->n_context)
        c->n_context = n < 1 << 24 ? (int32_t)n : 1 << 24;
}
