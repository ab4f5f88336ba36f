/* json_post.c: the post_processor of tokenizer.json, truncation and padding. */
#include "text/json_parts.h"

#include <string.h>

/* The next processor; there is room for it. */
static struct tern_post_step *add_step(struct tern_binder *b, enum tern_post_kind kind)
{
    struct tern_post_step *step = &b->t->post.steps[b->t->post.n_steps++];

    *step = (struct tern_post_step){ .kind = kind };
    return step;
}

static tern_status bind_id(struct tern_binder *b, const tern_json_value *value, const char *part, const char *what,
                           int32_t *out)
{
    TERN_REQUIRE(b->ctx,
                 value && tern_json_type(value) == TERN_JSON_INT && tern_json_int(value) >= 0 &&
                     tern_json_int(value) <= TERN_TOKEN_ID_MAX,
                 TERN_ERR_FORMAT, "%s: %s: the id of %s is %s, expected an id of 0 to %d", b->where, part, what,
                 tern_json_type_name(value), TERN_TOKEN_ID_MAX);
    *out = (int32_t)tern_json_int(value);
    return TERN_OK;
}

/* ---- TemplateProcessing ------------------------------------------------------------------------------------------ */

static const char template_part[] = "post_processor TemplateProcessing";

/* A special token of a template: the ids that its name has in special_tokens. */
static tern_status bind_special(struct tern_binder *b, const tern_json_value *specials, const char *name, size_t size,
                                uint32_t type, struct tern_post_list *list)
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
                 "%s: %s: the template names '%.*s', which special_tokens does not have", b->where, template_part,
                 (int)size, name);
    TERN_TRY(tern_bind_type(b, entry, "post_processor TemplateProcessing: special_tokens", "ids", TERN_JSON_ARRAY,
                            "an array", &ids));
    for (size_t i = 0; i < tern_json_size(ids); i++) {
        int32_t id;

        TERN_TRY(bind_id(b, tern_json_at(ids, i), template_part, "a special token", &id));
        TERN_TRY(tern_post_list_add(b->ctx, list, id, type));
    }
    return TERN_OK;
}

static tern_status bind_piece(struct tern_binder *b, const tern_json_value *piece, const tern_json_value *specials,
                              const char *which, size_t index, struct tern_post_list *list)
{
    const tern_json_value *sequence = tern_json_get(piece, "Sequence"), *token = tern_json_get(piece, "SpecialToken");
    const tern_json_value *inner = sequence ? sequence : token;
    const char *id;
    int64_t type;
    size_t size;

    TERN_REQUIRE(b->ctx, inner, TERN_ERR_FORMAT, "%s: %s: piece %zu of %s is %s without Sequence or SpecialToken",
                 b->where, template_part, index, which, tern_json_type_name(piece));
    TERN_TRY(tern_bind_string(b, inner, template_part, "id", &id, &size));
    TERN_TRY(tern_json_opt_int(b->ctx, b->json, inner, "type_id", 0, UINT32_MAX, 0, &type));
    if (!sequence)
        return bind_special(b, specials, id, size, (uint32_t)type, list);
    TERN_REQUIRE(b->ctx, tern_bind_equal(id, size, "A") || tern_bind_equal(id, size, "B"), TERN_ERR_FORMAT,
                 "%s: %s: %s names the sequence '%.*s', expected 'A' or 'B'", b->where, template_part, which, (int)size,
                 id);
    return tern_post_list_add(b->ctx, list, id[0] == 'A' ? TERN_POST_FIRST : TERN_POST_SECOND, (uint32_t)type);
}

static tern_status bind_template(struct tern_binder *b, const tern_json_value *value)
{
    static const char *const names[2] = { "single", "pair" };
    const tern_json_value *specials, *list;
    struct tern_post_step *step = add_step(b, TERN_POST_TEMPLATE);

    TERN_TRY(TERN_BIND_KEYS(b, value, template_part, "type", "single", "pair", "special_tokens"));
    TERN_TRY(tern_bind_type(b, value, template_part, "special_tokens", TERN_JSON_OBJECT, "an object", &specials));
    for (int i = 0; i < 2; i++) {
        TERN_TRY(tern_bind_type(b, value, template_part, names[i], TERN_JSON_ARRAY, "an array", &list));
        for (size_t k = 0; k < tern_json_size(list); k++)
            TERN_TRY(bind_piece(b, tern_json_at(list, k), specials, names[i], k, i ? &step->pair : &step->single));
    }
    return TERN_OK;
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

/* ["[SEP]", 102]. */
static tern_status bind_named_id(struct tern_binder *b, const tern_json_value *value, const char *part, const char *key,
                                 int32_t *out)
{
    const tern_json_value *pair;

    TERN_TRY(tern_bind_type(b, value, part, key, TERN_JSON_ARRAY, "an array", &pair));
    TERN_REQUIRE(b->ctx, tern_json_size(pair) == 2 && tern_json_type(tern_json_at(pair, 0)) == TERN_JSON_STRING,
                 TERN_ERR_FORMAT, "%s: %s: '%s' has %zu values, expected a token and its id", b->where, part, key,
                 tern_json_size(pair));
    return bind_id(b, tern_json_at(pair, 1), part, key, out);
}

static tern_status bind_bert(struct tern_binder *b, const tern_json_value *value, bool roberta)
{
    const char *part = roberta ? "post_processor RobertaProcessing" : "post_processor BertProcessing";
    struct tern_post_step *step = add_step(b, roberta ? TERN_POST_ROBERTA : TERN_POST_BERT);

    TERN_TRY(bind_named_id(b, value, part, "sep", &step->sep));
    TERN_TRY(bind_named_id(b, value, part, "cls", &step->cls));
    if (!roberta)
        return TERN_BIND_KEYS(b, value, part, "type", "sep", "cls");
    TERN_TRY(tern_bind_bool(b, value, part, "trim_offsets", &step->trim_offsets));
    TERN_TRY(tern_bind_bool(b, value, part, "add_prefix_space", &step->add_prefix_space));
    return TERN_BIND_KEYS(b, value, part, "type", "sep", "cls", "trim_offsets", "add_prefix_space");
}

static tern_status bind_byte_level(struct tern_binder *b, const tern_json_value *value)
{
    static const char part[] = "post_processor ByteLevel";
    struct tern_post_step *step = add_step(b, TERN_POST_BYTE_LEVEL);
    bool use_regex; /* the pre-tokenizer's business */

    TERN_TRY(TERN_BIND_KEYS(b, value, part, "type", "add_prefix_space", "trim_offsets", "use_regex"));
    TERN_TRY(tern_bind_bool(b, value, part, "add_prefix_space", &step->add_prefix_space));
    TERN_TRY(tern_bind_opt_bool(b, value, part, "use_regex", true, &use_regex));
    return tern_bind_bool(b, value, part, "trim_offsets", &step->trim_offsets);
}

tern_status tern_bind_post_processor(struct tern_binder *b, const tern_json_value *value, int depth)
{
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_component(b, value, "post_processor", &type, &size));
    if (!type)
        return TERN_OK;
    TERN_REQUIRE(b->ctx, b->t->post.n_steps < TERN_POST_STEPS_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: post_processor has more than %d processors", b->where, TERN_POST_STEPS_MAX - 1);
    if (tern_bind_equal(type, size, "ByteLevel"))
        return bind_byte_level(b, value);
    if (tern_bind_equal(type, size, "TemplateProcessing"))
        return bind_template(b, value);
    if (tern_bind_equal(type, size, "BertProcessing"))
        return bind_bert(b, value, false);
    if (tern_bind_equal(type, size, "RobertaProcessing"))
        return bind_bert(b, value, true);
    if (!tern_bind_equal(type, size, "Sequence"))
        return tern_bind_unknown(b, "post_processor", type, size,
                                 "ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing, Sequence");
    return tern_bind_sequence(b, value, "post_processor", "processors", depth, tern_bind_post_processor);
}

/* ---- truncation and padding -------------------------------------------------------------------------------------- */

static tern_status bind_side(struct tern_binder *b, const tern_json_value *value, const char *part, bool needed,
                             bool *left)
{
    static const char *const sides[] = { "Right", "Left", NULL };
    int side = 0;

    if (needed || tern_json_get(value, "direction"))
        TERN_TRY(tern_bind_choice(b, value, part, "direction", sides, &side));
    *left = side == 1;
    return TERN_OK;
}

static tern_status bind_truncation(struct tern_binder *b, const tern_json_value *value)
{
    static const char *const strategies[] = { "LongestFirst", "OnlyFirst", "OnlySecond", NULL };
    struct tern_limits *limits = &b->t->post.limits;
    int64_t max_length, stride;
    int i = 0;

    TERN_REQUIRE(b->ctx, tern_json_type(value) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: truncation is %s, expected an object or null", b->where, tern_json_type_name(value));
    TERN_TRY(TERN_BIND_KEYS(b, value, "truncation", "direction", "max_length", "strategy", "stride"));
    TERN_TRY(bind_side(b, value, "truncation", false, &limits->from_left));
    TERN_TRY(tern_json_need_int(b->ctx, b->json, value, "max_length", 0, INT64_MAX, &max_length));
    TERN_TRY(tern_json_need_int(b->ctx, b->json, value, "stride", 0, INT64_MAX, &stride));
    TERN_TRY(tern_bind_choice(b, value, "truncation", "strategy", strategies, &i));
    limits->strategy = (enum tern_truncation)i;
    limits->max_length = (size_t)max_length;
    limits->stride = (size_t)stride;
    limits->truncates = true;
    return TERN_OK;
}

/* "BatchLongest" or {"Fixed": n}. */
static tern_status bind_padding_strategy(struct tern_binder *b, const tern_json_value *value,
                                         struct tern_limits *limits)
{
    const tern_json_value *strategy = tern_json_get(value, "strategy");
    int64_t fixed;

    limits->pads = true;
    if (strategy && tern_json_type(strategy) == TERN_JSON_OBJECT) {
        TERN_TRY(TERN_BIND_KEYS(b, strategy, "strategy of padding", "Fixed"));
        TERN_TRY(tern_json_need_int(b->ctx, b->json, strategy, "Fixed", 0, TERN_PADDED_MAX, &fixed));
        limits->pad_to = (size_t)fixed;
        limits->pads = fixed > 0;
        return TERN_OK;
    }
    const char *text;
    size_t size;
    TERN_TRY(tern_bind_string(b, value, "padding", "strategy", &text, &size));
    return tern_bind_equal(text, size, "BatchLongest")
               ? TERN_OK
               : tern_bind_unknown(b, "strategy of padding", text, size, "BatchLongest, {\"Fixed\": n}");
}

static tern_status bind_padding(struct tern_binder *b, const tern_json_value *value)
{
    struct tern_limits *limits = &b->t->post.limits;
    const char *token;
    int64_t multiple, id, type;
    size_t size;

    TERN_REQUIRE(b->ctx, tern_json_type(value) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: padding is %s, expected an object or null", b->where, tern_json_type_name(value));
    TERN_TRY(TERN_BIND_KEYS(b, value, "padding", "strategy", "direction", "pad_to_multiple_of", "pad_id", "pad_type_id",
                            "pad_token"));
    TERN_TRY(bind_side(b, value, "padding", true, &limits->pad_left));
    TERN_TRY(tern_json_opt_int(b->ctx, b->json, value, "pad_to_multiple_of", 0, TERN_PADDED_MAX, 0, &multiple));
    TERN_TRY(tern_json_need_int(b->ctx, b->json, value, "pad_id", 0, INT32_MAX, &id));
    TERN_TRY(tern_json_need_int(b->ctx, b->json, value, "pad_type_id", 0, UINT32_MAX, &type));
    TERN_TRY(tern_bind_string(b, value, "padding", "pad_token", &token, &size));
    limits->pad_multiple = (size_t)multiple;
    limits->pad_id = (int32_t)id;
    limits->pad_type = (uint32_t)type;
    return bind_padding_strategy(b, value, limits);
}

tern_status tern_bind_limits(struct tern_binder *b, const tern_json_value *root)
{
    const tern_json_value *truncation = tern_json_get(root, "truncation"), *padding = tern_json_get(root, "padding");

    if (truncation && tern_json_type(truncation) != TERN_JSON_NULL)
        TERN_TRY(bind_truncation(b, truncation));
    if (padding && tern_json_type(padding) != TERN_JSON_NULL)
        TERN_TRY(bind_padding(b, padding));
    return TERN_OK;
}
