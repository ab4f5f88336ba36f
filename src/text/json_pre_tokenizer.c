/* json_pre_tokenizer.c: the pre_tokenizer of tokenizer.json. */
#include "text/json_parts.h"

static tern_status add_pre_step(struct tern_binder *b, struct tern_pre_step step)
{
    struct tern_pre_tokenizer *pre = &b->t->pre_tokenizer;

    if (pre->n_steps == TERN_PRE_STEPS_MAX) {
        tern_pattern_destroy(step.pattern);
        return tern_fail(b->ctx, TERN_ERR_UNSUPPORTED, "%s: pre_tokenizer has more than %d steps", b->where,
                         TERN_PRE_STEPS_MAX);
    }
    pre->has_split = pre->has_split || step.kind == TERN_PRE_SPLIT;
    pre->steps[pre->n_steps++] = step;
    return TERN_OK;
}

static tern_status bind_byte_level(struct tern_binder *b, const tern_json_value *value)
{
    struct tern_pre_step step = { .kind = TERN_PRE_BYTE_LEVEL };
    bool trim_offsets; /* moves offsets, never ids */

    TERN_TRY(
        TERN_BIND_KEYS(b, value, "pre_tokenizer ByteLevel", "type", "add_prefix_space", "trim_offsets", "use_regex"));
    TERN_TRY(tern_bind_bool(b, value, "pre_tokenizer ByteLevel", "add_prefix_space", &step.add_prefix_space));
    TERN_TRY(tern_bind_bool(b, value, "pre_tokenizer ByteLevel", "trim_offsets", &trim_offsets));
    TERN_TRY(tern_bind_opt_bool(b, value, "pre_tokenizer ByteLevel", "use_regex", true, &step.use_regex));
    return add_pre_step(b, step);
}

static tern_status bind_split(struct tern_binder *b, const tern_json_value *value)
{
    static const char *const behaviors[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                             "Contiguous" };
    struct tern_pre_step step = { .kind = TERN_PRE_SPLIT };
    const tern_json_value *pattern;
    const char *text, *behavior;
    size_t size, behavior_size;
    size_t i = 0;

    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer Split", "type", "pattern", "behavior", "invert"));
    TERN_TRY(tern_bind_bool(b, value, "pre_tokenizer Split", "invert", &step.invert));
    TERN_TRY(tern_bind_string(b, value, "pre_tokenizer Split", "behavior", &behavior, &behavior_size));
    while (i < sizeof behaviors / sizeof *behaviors && !tern_bind_equal(behavior, behavior_size, behaviors[i]))
        i++;
    if (i == sizeof behaviors / sizeof *behaviors)
        return tern_bind_unknown(b, "behavior of pre_tokenizer Split", behavior, behavior_size,
                                 "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
    step.behavior = (enum tern_split_behavior)i;

    TERN_TRY(tern_bind_type(b, value, "pre_tokenizer Split", "pattern", TERN_JSON_OBJECT, "an object", &pattern));
    TERN_TRY(TERN_BIND_KEYS(b, pattern, "pattern of pre_tokenizer Split", "Regex", "String"));
    TERN_REQUIRE(b->ctx, tern_json_size(pattern) == 1, TERN_ERR_FORMAT,
                 "%s: pattern of pre_tokenizer Split has %zu keys, expected one of Regex and String", b->where,
                 tern_json_size(pattern));
    const bool literal = tern_json_get(pattern, "String") != NULL;
    TERN_TRY(
        tern_bind_string(b, pattern, "pattern of pre_tokenizer Split", literal ? "String" : "Regex", &text, &size));
    TERN_TRY(tern_pattern_create(b->ctx, text, size, literal, b->where, &step.pattern));
    return add_pre_step(b, step);
}

tern_status tern_bind_pre_tokenizer(struct tern_binder *b, const tern_json_value *value, int depth)
{
    const tern_json_value *list;
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_component(b, value, "pre_tokenizer", &type, &size));
    if (!type)
        return TERN_OK;
    if (tern_bind_equal(type, size, "ByteLevel"))
        return bind_byte_level(b, value);
    if (tern_bind_equal(type, size, "Split"))
        return bind_split(b, value);
    if (!tern_bind_equal(type, size, "Sequence"))
        return tern_bind_unknown(b, "pre_tokenizer", type, size, "ByteLevel, Split, Sequence");

    TERN_REQUIRE(b->ctx, depth < TERN_BIND_NESTING_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: pre_tokenizer: more than %d Sequences in each other", b->where, TERN_BIND_NESTING_MAX);
    TERN_TRY(TERN_BIND_KEYS(b, value, "pre_tokenizer Sequence", "type", "pretokenizers"));
    TERN_TRY(tern_bind_type(b, value, "pre_tokenizer Sequence", "pretokenizers", TERN_JSON_ARRAY, "an array", &list));
    for (size_t i = 0; i < tern_json_size(list); i++)
        TERN_TRY(tern_bind_pre_tokenizer(b, tern_json_at(list, i), depth + 1));
    return TERN_OK;
}
