/* tokenizer_json.c: from tokenizer.json to the components of a tokenizer.
 *
 * A file json_*.c for each part of it (json_parts.h): one function or row per component, and a component that is not
 * there is refused with its name and the names that there are.  Keys that tern does not know are refused too, since
 * they may change the ids; the library itself passes over some of them.  Which keys must be there, and what their
 * absence means, is as the library's (0.23) reader has it. */
#include "text/json_parts.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

/* ---- helpers ----------------------------------------------------------------------------------------------------- */

/* Every key of `object` is one of `keys`, a list that ends with NULL. */
tern_status tern_bind_check_keys(struct tern_binder *b, const tern_json_value *object, const char *part,
                                 const char *const *keys)
{
    for (void *it = tern_json_iter(object); it; it = tern_json_next(object, it)) {
        size_t length, i = 0;
        const char *key = tern_json_iter_key(it, &length);

        while (keys[i] && (strlen(keys[i]) != length || memcmp(keys[i], key, length) != 0))
            i++;
        TERN_REQUIRE(b->ctx, keys[i], TERN_ERR_UNSUPPORTED, "%s: %s has the unknown key '%.*s'", b->where, part,
                     (int)length, key);
    }
    return TERN_OK;
}

tern_status tern_bind_type(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                           enum tern_json_type type, const char *expected, const tern_json_value **out)
{
    *out = tern_json_get(object, key);
    TERN_REQUIRE(b->ctx, *out && tern_json_type(*out) == type, TERN_ERR_FORMAT, "%s: %s: '%s' is %s, expected %s",
                 b->where, part, key, tern_json_type_name(*out), expected);
    return TERN_OK;
}

tern_status tern_bind_bool(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                           bool *out)
{
    const tern_json_value *value;

    TERN_TRY(tern_bind_type(b, object, part, key, TERN_JSON_BOOL, "true or false", &value));
    *out = tern_json_bool(value);
    return TERN_OK;
}

tern_status tern_bind_opt_bool(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                               bool standard, bool *out)
{
    const tern_json_value *value = tern_json_get(object, key);

    *out = standard;
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    return tern_bind_bool(b, object, part, key, out);
}

tern_status tern_bind_string(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                             const char **out, size_t *size)
{
    const tern_json_value *value;

    TERN_TRY(tern_bind_type(b, object, part, key, TERN_JSON_STRING, "a string", &value));
    *out = tern_json_string(value, size);
    return TERN_OK;
}

tern_status tern_bind_text(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                           char **out, size_t *size)
{
    const char *text;

    TERN_TRY(tern_bind_string(b, object, part, key, &text, size));
    return tern_strndup(b->ctx, text, *size, part, out);
}

tern_status tern_bind_choice(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                             const char *const *names, int *out)
{
    const char *text;
    char known[128] = "";
    size_t size, used = 0;

    TERN_TRY(tern_bind_string(b, object, part, key, &text, &size));
    for (int i = 0; names[i]; i++) {
        if (tern_bind_equal(text, size, names[i])) {
            *out = i;
            return TERN_OK;
        }
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    return tern_fail(b->ctx, TERN_ERR_UNSUPPORTED, "%s: unsupported %s of %s '%.*s'; there are: %s", b->where, key,
                     part, (int)size, text, known);
}

bool tern_bind_equal(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

/* A component: NULL and null are none (*type NULL), else an object with a type. */
tern_status tern_bind_component(struct tern_binder *b, const tern_json_value *value, const char *part,
                                const char **type, size_t *size)
{
    *type = NULL;
    *size = 0;
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    TERN_REQUIRE(b->ctx, tern_json_type(value) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: %s is %s, expected an object or null", b->where, part, tern_json_type_name(value));
    return tern_bind_string(b, value, part, "type", type, size);
}

tern_status tern_bind_unknown(struct tern_binder *b, const char *part, const char *type, size_t size, const char *known)
{
    return tern_fail(b->ctx, TERN_ERR_UNSUPPORTED, "%s: unsupported %s '%.*s'; there are: %s", b->where, part,
                     (int)size, type, known);
}

tern_status tern_bind_sequence(struct tern_binder *b, const tern_json_value *value, const char *part, const char *key,
                               int depth,
                               tern_status (*bind)(struct tern_binder *b, const tern_json_value *value, int depth))
{
    const tern_json_value *list;
    char name[64];

    snprintf(name, sizeof name, "%s Sequence", part);
    TERN_REQUIRE(b->ctx, depth < TERN_BIND_NESTING_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: %s: more than %d Sequences in each other", b->where, part, TERN_BIND_NESTING_MAX);
    TERN_TRY(TERN_BIND_KEYS(b, value, name, "type", key));
    TERN_TRY(tern_bind_type(b, value, name, key, TERN_JSON_ARRAY, "an array", &list));
    for (size_t i = 0; i < tern_json_size(list); i++)
        TERN_TRY(bind(b, tern_json_at(list, i), depth + 1));
    return TERN_OK;
}

/* ---- the whole file ---------------------------------------------------------------------------------------------- */

tern_status tern_bind_rules(struct tern_binder *b, const tern_json_value *root)
{
    const tern_json_value *version;

    TERN_REQUIRE(b->ctx, tern_json_type(root) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: the file is %s, expected an object", b->where, tern_json_type_name(root));
    TERN_TRY(TERN_BIND_KEYS(b, root, "the file", "version", "truncation", "padding", "added_tokens", "normalizer",
                            "pre_tokenizer", "post_processor", "decoder", "model"));
    version = tern_json_get(root, "version");
    if (version) {
        const char *text;
        size_t size;

        TERN_TRY(tern_bind_string(b, root, "the file", "version", &text, &size));
        TERN_REQUIRE(b->ctx, tern_bind_equal(text, size, "1.0"), TERN_ERR_UNSUPPORTED,
                     "%s: version '%.*s', expected 1.0", b->where, (int)size, text);
    }
    TERN_TRY(tern_bind_limits(b, root));
    TERN_TRY(tern_bind_normalizer(b, tern_json_get(root, "normalizer"), 0));
    TERN_TRY(tern_bind_pre_tokenizer(b, tern_json_get(root, "pre_tokenizer"), 0));
    TERN_TRY(tern_bind_post_processor(b, tern_json_get(root, "post_processor"), 0));
    return tern_bind_decoder(b, tern_json_get(root, "decoder"));
}

tern_status tern_tokenizer_bind_json(tern_ctx *ctx, struct tern_tokenizer *t, const struct tern_json *json)
{
    struct tern_binder b = { ctx, t, json, tern_json_where(json) };
    const tern_json_value *root = tern_json_root(json);
    bool *used = NULL;
    size_t n_used = 0;
    tern_status status;

    TERN_TRY(tern_bind_rules(&b, root));
    TERN_TRY_OR_FAIL(tern_bind_model(&b, root, &used, &n_used));
    TERN_TRY_OR_FAIL(tern_bind_added(&b, root, used, n_used));
    status = TERN_OK;

fail:
    tern_free(used);
    return status;
}

tern_status tern_tokenizer_read_json(tern_ctx *ctx, struct tern_tokenizer *t, const char *path)
{
    struct tern_json *json;
    tern_status status;

    TERN_TRY(tern_json_read(ctx, path, TERN_TOKENIZER_FILE_MAX, &json));
    status = tern_tokenizer_bind_json(ctx, t, json);
    tern_json_destroy(json);
    return status;
}
