/* config_json.c: configs from JSON.  The one file of this folder that needs base's JSON, and so stays out of a build with
 * TERN_COMPONENTS=ops. */
#include "base/json.h"
#include "ops/config_fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_KEYS 128 /* more than there are names */

static struct tern_value value_of(const tern_json_value *json, char text[32])
{
    struct tern_value v = { .kind = TERN_VALUE_OTHER, .name = tern_json_type_name(json) };
    size_t length;

    switch (tern_json_type(json)) {
    case TERN_JSON_BOOL:
        v.kind = TERN_VALUE_BOOL;
        v.truth = tern_json_bool(json);
        v.name = v.truth ? "true" : "false";
        break;
    case TERN_JSON_INT:
        v.kind = TERN_VALUE_INT;
        v.whole = tern_json_int(json);
        snprintf(text, 32, "%" PRId64, v.whole);
        v.name = text;
        break;
    case TERN_JSON_REAL:
        v.number = tern_json_number(json);
        v.kind = TERN_VALUE_NUMBER;
        if (fabs(v.number) <= 1LL << 53 && v.number == (double)(int64_t)v.number && !signbit(v.number)) {
            v.kind = TERN_VALUE_INT; /* 4.0 is 4 */
            v.whole = (int64_t)v.number;
        }
        snprintf(text, 32, "%.17g", v.number);
        v.name = text;
        break;
    case TERN_JSON_STRING:
        v.name = tern_json_string(json, &length);
        v.kind = TERN_VALUE_NAME;
        if (strlen(v.name) != length) {
            v.kind = TERN_VALUE_OTHER;
            v.name = "a string with a NUL";
        }
        break;
    case TERN_JSON_NULL:
    case TERN_JSON_ARRAY:
    case TERN_JSON_OBJECT:
        break;
    }
    return v;
}

static tern_status read_object(tern_ctx *ctx, const char *where, int index, const tern_json_value *object,
                               tern_op_settings *settings)
{
    const struct tern_field *seen[MAX_KEYS];
    const char *names[MAX_KEYS];
    size_t n = 0, length;
    char text[32];

    for (void *it = tern_json_iter(object); it; it = tern_json_next(object, it)) {
        const char *key = tern_json_iter_key(it, &length);
        const tern_json_value *json = tern_json_iter_value(it);
        const struct tern_field *field = tern_field_find(index, key);

        if (!field)
            return tern_field_unknown(ctx, where, index, key);
        for (size_t i = 0; i < n; i++)
            TERN_REQUIRE(ctx, tern_field_offset(seen[i]) != tern_field_offset(field), TERN_ERR_CONFIG,
                         "%.200s: %s and %s are one field, expected one of them", where, names[i], key);
        if (n < MAX_KEYS) {
            seen[n] = field;
            names[n++] = key;
        }
        if (tern_json_type(json) == TERN_JSON_NULL)
            continue;
        const struct tern_value value = value_of(json, text);
        TERN_TRY(tern_field_store(ctx, where, index, field, &value, settings));
    }
    return TERN_OK;
}

static tern_status parse(tern_ctx *ctx, int index, const char *text, size_t size, const char *where,
                         tern_op_settings *settings)
{
    struct tern_json *json;
    tern_op_settings read = *settings;

    TERN_TRY(tern_json_parse(ctx, text, size, where, &json));
    const tern_json_value *root = tern_json_root(json);
    tern_status status = TERN_OK;
    if (tern_json_type(root) != TERN_JSON_OBJECT)
        status = tern_fail(ctx, TERN_ERR_FORMAT, "%.200s: found %s, expected an object of config fields", where,
                           tern_json_type_name(root));
    else
        status = read_object(ctx, where, index, root, &read);
    tern_json_destroy(json);
    if (status == TERN_OK)
        *settings = read;
    return status;
}

tern_status tern_config_parse(tern_ctx *ctx, const char *text, size_t size, const char *where, tern_config *config)
{
    tern_op_settings settings = tern_op_settings_default();

    TERN_REQUIRE(ctx, (text || size == 0) && where && config, TERN_ERR_ARG, "config_parse: %s is NULL",
                 !where   ? "where"
                 : config ? "text"
                          : "config");
    settings.config = *config;
    TERN_TRY(parse(ctx, -1, text ? text : "", size, where, &settings));
    *config = settings.config;
    return TERN_OK;
}

tern_status tern_op_settings_parse(tern_ctx *ctx, int index, const char *text, size_t size, const char *where,
                                   tern_op_settings *settings)
{
    TERN_REQUIRE(ctx, (text || size == 0) && where && settings, TERN_ERR_ARG, "op_settings_parse: %s is NULL",
                 !where     ? "where"
                 : settings ? "text"
                            : "settings");
    TERN_REQUIRE(ctx, tern_op_row_or_module(index), TERN_ERR_ARG,
                 "op_settings_parse: index is %d, expected 0..%d or a module", index, tern_op_count() - 1);
    return parse(ctx, index, text ? text : "", size, where, settings);
}
