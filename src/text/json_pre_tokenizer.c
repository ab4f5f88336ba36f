/* json_pre_tokenizer.c: the pre_tokenizer of tokenizer.json. */
#include "text/json_parts.h"

#include "base/utf8.h"

static const char part[] = "pre_tokenizer";

static tern_status add_step(struct tern_binder *b, struct tern_pre_step step)
{
    TERN_REQUIRE(b->ctx, tern_pre_tokenizer_add(&b->t->pre_tokenizer, step), TERN_ERR_UNSUPPORTED,
                 "%s: pre_tokenizer has more than %d steps, or %d times ByteLevel", b->where, TERN_PRE_STEPS_MAX,
                 TERN_PRE_BYTE_LEVELS_MAX);
    return TERN_OK;
}

/* A split at each character that is something. */
static tern_status add_char_split(struct tern_binder *b, enum tern_pre_char is, enum tern_split_behavior behavior)
{
    return add_step(b, (struct tern_pre_step){ .kind = TERN_PRE_SPLIT_CHAR, .is = is, .behavior = behavior });
}

static tern_status bind_behavior(struct tern_binder *b, const tern_json_value *value, const char *where,
                                 enum tern_split_behavior *out)
{
    static const char *const behaviors[] = { "Removed",        "Isolated",   "MergedWithPrevious",
                                             "MergedWithNext", "Contiguous", NULL };
    int i = 0;

    TERN_TRY(tern_bind_choice(b, value, where, "behavior", behaviors, &i));
    *out = (enum tern_split_behavior)i;
    return TERN_OK;
}

/* A string of one character. */
tern_status tern_bind_char(struct tern_binder *b, const tern_json_value *object, const char *where, const char *key,
                           uint32_t *out)
{
    const char *text;
    size_t size, at = 0;

    TERN_TRY(tern_bind_string(b, object, where, key, &text, &size));
    if (size > 0)
        *out = tern_utf8_next(text, &at);
    TERN_REQUIRE(b->ctx, size > 0 && at == size, TERN_ERR_FORMAT, "%s: %s: '%s' is '%.*s', expected one character",
                 b->where, where, key, (int)size, text);
    return TERN_OK;
}

static tern_status bind_byte_level(struct tern_binder *b, const tern_json_value *value)
{
    struct tern_pre_step step = { .kind = TERN_PRE_BYTE_LEVEL };
    bool trim_offsets; /* the post-processor's business */

    TERN_TRY(
        TERN_BIND_KEYS(b, value, "pre_tokenizer ByteLevel", "type", "add_prefix_space", "trim_offsets", "use_regex"));
    TERN_TRY(tern_bind_bool(b, value, "pre_tokenizer ByteLevel", "add_prefix_space", &step.add_prefix_space));
    TERN_TRY(tern_bind_bool(b, value, "pre_tokenizer ByteLevel", "trim_offsets", &trim_offsets));
    TERN_TRY(tern_bind_opt_bool(b, value, "pre_tokenizer ByteLevel", "use_regex", true, &step.use_regex));
    return add_step(b, step);
}

static tern_status bind_split(struct tern_binder *b, const tern_json_value *value)
{
    struct tern_pre_step step = { .kind = TERN_PRE_SPLIT };

    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer Split", "type", "pattern", "behavior", "invert"));
    TERN_TRY(tern_bind_bool(b, value, "pre_tokenizer Split", "invert", &step.invert));
    TERN_TRY(bind_behavior(b, value, "pre_tokenizer Split", &step.behavior));
    TERN_TRY(tern_bind_pattern(b, value, "pre_tokenizer Split", &step.pattern));
    return add_step(b, step);
}

tern_status tern_bind_prepend_scheme(struct tern_binder *b, const tern_json_value *value, const char *where,
                                     enum tern_prepend_scheme *out)
{
    static const char *const schemes[] = { "always", "first", "never", NULL };
    const tern_json_value *prefix = tern_json_get(value, "add_prefix_space");
    int i = TERN_PREPEND_ALWAYS;

    if (tern_json_get(value, "prepend_scheme"))
        TERN_TRY(tern_bind_choice(b, value, where, "prepend_scheme", schemes, &i));
    *out = (enum tern_prepend_scheme)i;
    if (prefix && tern_json_type(prefix) != TERN_JSON_NULL) {
        bool wanted;

        TERN_TRY(tern_bind_bool(b, value, where, "add_prefix_space", &wanted));
        TERN_REQUIRE(b->ctx, wanted || *out == TERN_PREPEND_NEVER, TERN_ERR_FORMAT,
                     "%s: %s: add_prefix_space is false, but prepend_scheme is '%s', expected 'never'", b->where, where,
                     schemes[*out]);
    }
    return TERN_OK;
}

static tern_status bind_metaspace(struct tern_binder *b, const tern_json_value *value)
{
    struct tern_pre_step step = { .kind = TERN_PRE_METASPACE };

    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer Metaspace", "type", "replacement", "str_rep", "add_prefix_space",
                            "prepend_scheme", "split"));
    TERN_TRY(tern_bind_char(b, value, "pre_tokenizer Metaspace", "replacement", &step.delimiter));
    TERN_TRY(tern_bind_prepend_scheme(b, value, "pre_tokenizer Metaspace", &step.scheme));
    TERN_TRY(tern_bind_opt_bool(b, value, "pre_tokenizer Metaspace", "split", true, &step.split));
    return add_step(b, step);
}

static tern_status bind_bert(struct tern_binder *b, const tern_json_value *value)
{
    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer BertPreTokenizer", "type"));
    TERN_TRY(add_char_split(b, TERN_PRE_IS_SPACE, TERN_SPLIT_REMOVED));
    return add_char_split(b, TERN_PRE_IS_PUNCTUATION, TERN_SPLIT_ISOLATED);
}

static tern_status bind_digits(struct tern_binder *b, const tern_json_value *value)
{
    bool each;

    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer Digits", "type", "individual_digits"));
    TERN_TRY(tern_bind_bool(b, value, "pre_tokenizer Digits", "individual_digits", &each));
    return add_char_split(b, TERN_PRE_IS_NUMERIC, each ? TERN_SPLIT_ISOLATED : TERN_SPLIT_CONTIGUOUS);
}

static tern_status bind_punctuation(struct tern_binder *b, const tern_json_value *value)
{
    enum tern_split_behavior behavior = TERN_SPLIT_ISOLATED;

    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer Punctuation", "type", "behavior"));
    if (tern_json_get(value, "behavior"))
        TERN_TRY(bind_behavior(b, value, "pre_tokenizer Punctuation", &behavior));
    return add_char_split(b, TERN_PRE_IS_PUNCTUATION, behavior);
}

static tern_status bind_whitespace(struct tern_binder *b, const tern_json_value *value)
{
    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer Whitespace", "type"));
    return add_step(b, (struct tern_pre_step){ .kind = TERN_PRE_WHITESPACE });
}

static tern_status bind_whitespace_split(struct tern_binder *b, const tern_json_value *value)
{
    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer WhitespaceSplit", "type"));
    return add_char_split(b, TERN_PRE_IS_SPACE, TERN_SPLIT_REMOVED);
}

static tern_status bind_delimiter(struct tern_binder *b, const tern_json_value *value)
{
    struct tern_pre_step step = { .kind = TERN_PRE_SPLIT_CHAR, .is = TERN_PRE_IS_DELIMITER };

    step.behavior = TERN_SPLIT_REMOVED;
    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer CharDelimiterSplit", "type", "delimiter"));
    TERN_TRY(tern_bind_char(b, value, "pre_tokenizer CharDelimiterSplit", "delimiter", &step.delimiter));
    return add_step(b, step);
}

static tern_status bind_scripts(struct tern_binder *b, const tern_json_value *value)
{
    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer UnicodeScripts", "type"));
    return add_step(b, (struct tern_pre_step){ .kind = TERN_PRE_SCRIPTS });
}

static tern_status bind_fixed_length(struct tern_binder *b, const tern_json_value *value)
{
    int64_t length;

    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer FixedLength", "type", "length"));
    TERN_TRY(tern_json_opt_int(b->ctx, b->json, value, "length", 1, INT32_MAX, 5, &length));
    return add_step(b, (struct tern_pre_step){ .kind = TERN_PRE_FIXED_LENGTH, .length = (size_t)length });
}

tern_status tern_bind_pre_tokenizer(struct tern_binder *b, const tern_json_value *value, int depth)
{
    static const struct {
        const char *name;
        tern_status (*bind)(struct tern_binder *b, const tern_json_value *value);
    } kinds[] = {
        { "ByteLevel", bind_byte_level },
        { "BertPreTokenizer", bind_bert },
        { "Metaspace", bind_metaspace },
        { "Split", bind_split },
        { "Digits", bind_digits },
        { "Punctuation", bind_punctuation },
        { "Whitespace", bind_whitespace },
        { "WhitespaceSplit", bind_whitespace_split },
        { "CharDelimiterSplit", bind_delimiter },
        { "UnicodeScripts", bind_scripts },
        { "FixedLength", bind_fixed_length },
    };
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_component(b, value, part, &type, &size));
    if (!type)
        return TERN_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (tern_bind_equal(type, size, kinds[i].name))
            return kinds[i].bind(b, value);
    if (!tern_bind_equal(type, size, "Sequence"))
        return tern_bind_unknown(b, part, type, size,
                                 "ByteLevel, BertPreTokenizer, Metaspace, Split, Digits, Punctuation, Whitespace, "
                                 "WhitespaceSplit, CharDelimiterSplit, UnicodeScripts, FixedLength, Sequence");
    return tern_bind_sequence(b, value, part, "pretokenizers", depth, tern_bind_pre_tokenizer);
}
