/* json_post.c: the post_processor of tokenizer.json. */
#include "text/json_parts.h"

#include "base/memory.h"

#include <string.h>

static tern_status add_post(struct tern_binder *b, int32_t id)
{
    struct tern_tokenizer *t = b->t;

    TERN_TRY(TERN_GROW(b->ctx, &t->post, &t->post_capacity, t->n_post + 1, "the post-processor"));
    t->post[t->n_post++].id = id;
    return TERN_OK;
}

/* A special token of a template: the ids that its name has in special_tokens. */
static tern_status bind_template_token(struct tern_binder *b, const tern_json_value *specials, const char *name,
                                       size_t size)
{
    const tern_json_value *ids;
    const tern_json_value *entry = NULL;

    for (void *it = tern_json_iter(specials); it; it = tern_json_next(specials, it)) {
        size_t length;
        const char *key = tern_json_iter_key(it, &length);

        if (length == size && memcmp(key, name, size) == 0)
            entry = tern_json_iter_value(it);
    }
    TERN_REQUIRE(b->ctx, entry, TERN_ERR_FORMAT,
                 "%s: post_processor TemplateProcessing: the template names '%.*s', which special_tokens does not have",
                 b->where, (int)size, name);
    TERN_TRY(tern_bind_type(b, entry, "post_processor TemplateProcessing: special_tokens", "ids", TERN_JSON_ARRAY,
                            "an array", &ids));
    for (size_t i = 0; i < tern_json_size(ids); i++) {
        const tern_json_value *id = tern_json_at(ids, i);

        TERN_REQUIRE(
            b->ctx,
            tern_json_type(id) == TERN_JSON_INT && tern_json_int(id) >= 0 && tern_json_int(id) <= TERN_TOKEN_ID_MAX,
            TERN_ERR_FORMAT, "%s: post_processor TemplateProcessing: id %zu of '%.*s' is %s, expected an id of 0 to %d",
            b->where, i, (int)size, name, tern_json_type_name(id), TERN_TOKEN_ID_MAX);
        TERN_TRY(add_post(b, (int32_t)tern_json_int(id)));
    }
    return TERN_OK;
}

static tern_status bind_template(struct tern_binder *b, const tern_json_value *value)
{
    static const char part[] = "post_processor TemplateProcessing";
    const tern_json_value *single, *specials;

    TERN_REQUIRE(b->ctx, b->t->n_post == 0, TERN_ERR_UNSUPPORTED,
                 "%s: post_processor has more than one TemplateProcessing", b->where);
    TERN_TRY(TERN_BIND_KEYS(b, value, part, "type", "single", "pair", "special_tokens"));
    TERN_TRY(tern_bind_type(b, value, part, "single", TERN_JSON_ARRAY, "an array", &single));
    TERN_TRY(tern_bind_type(b, value, part, "special_tokens", TERN_JSON_OBJECT, "an object", &specials));
    for (size_t i = 0; i < tern_json_size(single); i++) {
        const tern_json_value *piece = tern_json_at(single, i), *inner;
        const char *id;
        size_t size;

        if ((inner = tern_json_get(piece, "Sequence"))) {
            TERN_TRY(tern_bind_string(b, inner, part, "id", &id, &size));
            TERN_REQUIRE(b->ctx, tern_bind_equal(id, size, "A"), TERN_ERR_UNSUPPORTED,
                         "%s: %s: single names the sequence '%.*s', expected 'A'", b->where, part, (int)size, id);
            TERN_TRY(add_post(b, -1));
        } else if ((inner = tern_json_get(piece, "SpecialToken"))) {
            TERN_TRY(tern_bind_string(b, inner, part, "id", &id, &size));
            TERN_TRY(bind_template_token(b, specials, id, size));
        } else {
            return tern_fail(b->ctx, TERN_ERR_FORMAT,
                             "%s: %s: piece %zu of single is %s without Sequence or SpecialToken", b->where, part, i,
                             tern_json_type_name(piece));
        }
    }
    TERN_REQUIRE(b->ctx, b->t->n_post > 0, TERN_ERR_UNSUPPORTED, "%s: %s: single is empty", b->where, part);
    return TERN_OK;
}

tern_status tern_bind_post_processor(struct tern_binder *b, const tern_json_value *value, int depth)
{
    const tern_json_value *list;
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_component(b, value, "post_processor", &type, &size));
    if (!type)
        return TERN_OK;
    if (tern_bind_equal(type, size, "ByteLevel")) /* moves offsets, never ids */
        return TERN_BIND_KEYS(b, value, "post_processor ByteLevel", "type", "add_prefix_space", "trim_offsets",
                              "use_regex");
    if (tern_bind_equal(type, size, "TemplateProcessing"))
        return bind_template(b, value);
    if (!tern_bind_equal(type, size, "Sequence"))
        return tern_bind_unknown(b, "post_processor", type, size, "ByteLevel, TemplateProcessing, Sequence");

    TERN_REQUIRE(b->ctx, depth < TERN_BIND_NESTING_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: post_processor: more than %d Sequences in each other", b->where, TERN_BIND_NESTING_MAX);
    TERN_TRY(TERN_BIND_KEYS(b, value, "post_processor Sequence", "type", "processors"));
    TERN_TRY(tern_bind_type(b, value, "post_processor Sequence", "processors", TERN_JSON_ARRAY, "an array", &list));
    for (size_t i = 0; i < tern_json_size(list); i++)
        TERN_TRY(tern_bind_post_processor(b, tern_json_at(list, i), depth + 1));
    return TERN_OK;
}
