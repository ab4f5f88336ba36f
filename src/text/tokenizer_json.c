/* tokenizer_json.c: from tokenizer.json to the components of a tokenizer.
 *
 * One function per part of the file, one row or branch per component: a component that is not there is refused with its
 * name and the names that there are.  Keys that tern does not know are refused too, since they may change the ids; the
 * library itself passes over some of them.  Which keys must be there, and what their absence means, is as the library's
 * (0.23) reader has it. */
#include "text/text.h"

#include "base/memory.h"

#include <string.h>

struct binder {
    tern_ctx *ctx;
    struct tern_tokenizer *t;
    const struct tern_json *json;
    const char *where; /* the file */
};

/* ---- helpers ----------------------------------------------------------------------------------------------------- */

/* Every key of `object` is one of `keys`, a list that ends with NULL. */
static tern_status check_keys(struct binder *b, const tern_json_value *object, const char *part,
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
#define CHECK_KEYS(b, object, part, ...) check_keys((b), (object), (part), (const char *const[]){ __VA_ARGS__, NULL })

static tern_status need_type(struct binder *b, const tern_json_value *object, const char *part, const char *key,
                             enum tern_json_type type, const char *expected, const tern_json_value **out)
{
    *out = tern_json_get(object, key);
    TERN_REQUIRE(b->ctx, *out && tern_json_type(*out) == type, TERN_ERR_FORMAT, "%s: %s: '%s' is %s, expected %s",
                 b->where, part, key, tern_json_type_name(*out), expected);
    return TERN_OK;
}

static tern_status need_bool(struct binder *b, const tern_json_value *object, const char *part, const char *key,
                             bool *out)
{
    const tern_json_value *value;

    TERN_TRY(need_type(b, object, part, key, TERN_JSON_BOOL, "true or false", &value));
    *out = tern_json_bool(value);
    return TERN_OK;
}

static tern_status opt_bool(struct binder *b, const tern_json_value *object, const char *part, const char *key,
                            bool standard, bool *out)
{
    const tern_json_value *value = tern_json_get(object, key);

    *out = standard;
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    return need_bool(b, object, part, key, out);
}

static tern_status need_string(struct binder *b, const tern_json_value *object, const char *part, const char *key,
                               const char **out, size_t *size)
{
    const tern_json_value *value;

    TERN_TRY(need_type(b, object, part, key, TERN_JSON_STRING, "a string", &value));
    *out = tern_json_string(value, size);
    return TERN_OK;
}

static bool equal(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

/* A component: NULL and null are none (*type NULL), else an object with a type. */
static tern_status component(struct binder *b, const tern_json_value *value, const char *part, const char **type,
                             size_t *size)
{
    *type = NULL;
    *size = 0;
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    TERN_REQUIRE(b->ctx, tern_json_type(value) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: %s is %s, expected an object or null", b->where, part, tern_json_type_name(value));
    return need_string(b, value, part, "type", type, size);
}

static tern_status unknown(struct binder *b, const char *part, const char *type, size_t size, const char *known)
{
    return tern_fail(b->ctx, TERN_ERR_UNSUPPORTED, "%s: unsupported %s '%.*s'; there are: %s", b->where, part,
                     (int)size, type, known);
}

/* ---- normalizer -------------------------------------------------------------------------------------------------- */

#define NESTING_MAX 8 /* Sequences in Sequences */

static tern_status bind_normalizer(struct binder *b, const tern_json_value *value, int depth)
{
    static const struct {
        const char *name;
        enum tern_normalizer_kind kind;
    } kinds[] = {
        { "NFC", TERN_NORMALIZE_NFC },
        { "NFD", TERN_NORMALIZE_NFD },
        { "NFKC", TERN_NORMALIZE_NFKC },
        { "NFKD", TERN_NORMALIZE_NFKD },
        { "Lowercase", TERN_NORMALIZE_LOWERCASE },
    };
    const tern_json_value *list;
    const char *type;
    size_t size;

    TERN_TRY(component(b, value, "normalizer", &type, &size));
    if (!type)
        return TERN_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (equal(type, size, kinds[i].name)) {
            TERN_TRY(CHECK_KEYS(b, value, "normalizer", "type"));
            return tern_normalizer_add(b->ctx, &b->t->normalizer, kinds[i].kind);
        }
    if (!equal(type, size, "Sequence"))
        return unknown(b, "normalizer", type, size, "NFC, NFD, NFKC, NFKD, Lowercase, Sequence");

    TERN_REQUIRE(b->ctx, depth < NESTING_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: normalizer: more than %d Sequences in each other", b->where, NESTING_MAX);
    TERN_TRY(CHECK_KEYS(b, value, "normalizer Sequence", "type", "normalizers"));
    TERN_TRY(need_type(b, value, "normalizer Sequence", "normalizers", TERN_JSON_ARRAY, "an array", &list));
    for (size_t i = 0; i < tern_json_size(list); i++)
        TERN_TRY(bind_normalizer(b, tern_json_at(list, i), depth + 1));
    return TERN_OK;
}

/* ---- pre-tokenizer ----------------------------------------------------------------------------------------------- */

static tern_status add_pre_step(struct binder *b, struct tern_pre_step step)
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

static tern_status bind_byte_level(struct binder *b, const tern_json_value *value)
{
    struct tern_pre_step step = { .kind = TERN_PRE_BYTE_LEVEL };
    bool trim_offsets; /* moves offsets, never ids */

    TERN_TRY(CHECK_KEYS(b, value, "pre_tokenizer ByteLevel", "type", "add_prefix_space", "trim_offsets", "use_regex"));
    TERN_TRY(need_bool(b, value, "pre_tokenizer ByteLevel", "add_prefix_space", &step.add_prefix_space));
    TERN_TRY(need_bool(b, value, "pre_tokenizer ByteLevel", "trim_offsets", &trim_offsets));
    TERN_TRY(opt_bool(b, value, "pre_tokenizer ByteLevel", "use_regex", true, &step.use_regex));
    return add_pre_step(b, step);
}

static tern_status bind_split(struct binder *b, const tern_json_value *value)
{
    static const char *const behaviors[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                             "Contiguous" };
    struct tern_pre_step step = { .kind = TERN_PRE_SPLIT };
    const tern_json_value *pattern;
    const char *text, *behavior;
    size_t size, behavior_size;
    size_t i = 0;

    TERN_TRY(CHECK_KEYS(b, value, "pre_tokenizer Split", "type", "pattern", "behavior", "invert"));
    TERN_TRY(need_bool(b, value, "pre_tokenizer Split", "invert", &step.invert));
    TERN_TRY(need_string(b, value, "pre_tokenizer Split", "behavior", &behavior, &behavior_size));
    while (i < sizeof behaviors / sizeof *behaviors && !equal(behavior, behavior_size, behaviors[i]))
        i++;
    if (i == sizeof behaviors / sizeof *behaviors)
        return unknown(b, "behavior of pre_tokenizer Split", behavior, behavior_size,
                       "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
    step.behavior = (enum tern_split_behavior)i;

    TERN_TRY(need_type(b, value, "pre_tokenizer Split", "pattern", TERN_JSON_OBJECT, "an object", &pattern));
    TERN_TRY(CHECK_KEYS(b, pattern, "pattern of pre_tokenizer Split", "Regex", "String"));
    TERN_REQUIRE(b->ctx, tern_json_size(pattern) == 1, TERN_ERR_FORMAT,
                 "%s: pattern of pre_tokenizer Split has %zu keys, expected one of Regex and String", b->where,
                 tern_json_size(pattern));
    const bool literal = tern_json_get(pattern, "String") != NULL;
    TERN_TRY(need_string(b, pattern, "pattern of pre_tokenizer Split", literal ? "String" : "Regex", &text, &size));
    TERN_TRY(tern_pattern_create(b->ctx, text, size, literal, b->where, &step.pattern));
    return add_pre_step(b, step);
}

static tern_status bind_pre_tokenizer(struct binder *b, const tern_json_value *value, int depth)
{
    const tern_json_value *list;
    const char *type;
    size_t size;

    TERN_TRY(component(b, value, "pre_tokenizer", &type, &size));
    if (!type)
        return TERN_OK;
    if (equal(type, size, "ByteLevel"))
        return bind_byte_level(b, value);
    if (equal(type, size, "Split"))
        return bind_split(b, value);
    if (!equal(type, size, "Sequence"))
        return unknown(b, "pre_tokenizer", type, size, "ByteLevel, Split, Sequence");

    TERN_REQUIRE(b->ctx, depth < NESTING_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: pre_tokenizer: more than %d Sequences in each other", b->where, NESTING_MAX);
    TERN_TRY(CHECK_KEYS(b, value, "pre_tokenizer Sequence", "type", "pretokenizers"));
    TERN_TRY(need_type(b, value, "pre_tokenizer Sequence", "pretokenizers", TERN_JSON_ARRAY, "an array", &list));
    for (size_t i = 0; i < tern_json_size(list); i++)
        TERN_TRY(bind_pre_tokenizer(b, tern_json_at(list, i), depth + 1));
    return TERN_OK;
}

/* ---- model ------------------------------------------------------------------------------------------------------- */

tern_status tern_vocab_read(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *vocab,
                            struct tern_bpe *bpe, bool **used, size_t *n_used)
{
    const char *where = tern_json_where(json);
    size_t bytes = 0, length;
    int64_t top = -1;
    tern_status status;

    *used = NULL;
    *n_used = 0;
    for (void *it = tern_json_iter(vocab); it; it = tern_json_next(vocab, it)) {
        const tern_json_value *value = tern_json_iter_value(it);
        const char *key = tern_json_iter_key(it, &length);

        TERN_REQUIRE(ctx, tern_json_type(value) == TERN_JSON_INT, TERN_ERR_FORMAT,
                     "%s: the id of '%.*s' in the vocabulary is %s, expected an integer", where, (int)length, key,
                     tern_json_type_name(value));
        const int64_t id = tern_json_int(value);
        TERN_REQUIRE(ctx, id >= 0 && id <= TERN_TOKEN_ID_MAX, TERN_ERR_FORMAT,
                     "%s: the id of '%.*s' in the vocabulary is %" PRId64 ", expected 0 to %d", where, (int)length, key,
                     id, TERN_TOKEN_ID_MAX);
        top = id > top ? id : top;
        bytes += length;
    }
    TERN_TRY(tern_names_create(ctx, tern_json_size(vocab), bytes, "the vocabulary", &bpe->vocab));
    TERN_TRY(TERN_ALLOC(ctx, (size_t)(top + 1), "the vocabulary", used));
    *n_used = (size_t)(top + 1);
    for (void *it = tern_json_iter(vocab); it; it = tern_json_next(vocab, it)) {
        const int32_t id = (int32_t)tern_json_int(tern_json_iter_value(it));
        const char *key = tern_json_iter_key(it, &length);

        if ((*used)[id]) {
            size_t i = 0, n = 0;
            const char *other = "";

            while (bpe->vocab.slots[i].id != id)
                i++;
            other = bpe->vocab.text + bpe->vocab.slots[i].begin;
            n = bpe->vocab.slots[i].size;
            TERN_REQUIRE_OR_FAIL(ctx, false, TERN_ERR_FORMAT,
                                 "%s: '%.*s' and '%.*s' in the vocabulary have the same id %d", where, (int)n, other,
                                 (int)length, key, id);
        }
        (*used)[id] = true;
        tern_names_put(&bpe->vocab, key, length, id);
    }
    return TERN_OK;

fail:
    tern_free(*used);
    *used = NULL;
    return status;
}

/* ["a b", ...] or [["a", "b"], ...]. */
static tern_status bind_merges(struct binder *b, const tern_json_value *merges)
{
    const size_t n = tern_json_size(merges);

    TERN_TRY(tern_bpe_merges_create(b->ctx, &b->t->bpe, n));
    for (size_t i = 0; i < n; i++) {
        const tern_json_value *merge = tern_json_at(merges, i),
                              *pair[2] = { tern_json_at(merge, 0), tern_json_at(merge, 1) };
        const char *left, *right;
        size_t left_size, right_size;

        if (tern_json_type(merge) == TERN_JSON_STRING) {
            size_t size;

            left = tern_json_string(merge, &size);
            right = memchr(left, ' ', size);
            TERN_REQUIRE(b->ctx, right && !memchr(right + 1, ' ', size - (size_t)(right + 1 - left)), TERN_ERR_FORMAT,
                         "%s: merge %zu is '%.*s', expected two tokens with one space between them", b->where, i,
                         (int)size, left);
            left_size = (size_t)(right - left);
            right_size = size - left_size - 1;
            right++;
        } else {
            TERN_REQUIRE(b->ctx,
                         tern_json_size(merge) == 2 && pair[0] && pair[1] &&
                             tern_json_type(pair[0]) == TERN_JSON_STRING && tern_json_type(pair[1]) == TERN_JSON_STRING,
                         TERN_ERR_FORMAT, "%s: merge %zu is %s, expected \"a b\" or [\"a\", \"b\"]", b->where, i,
                         tern_json_type_name(merge));
            left = tern_json_string(pair[0], &left_size);
            right = tern_json_string(pair[1], &right_size);
        }
        TERN_TRY(tern_bpe_merges_add(b->ctx, &b->t->bpe, left, left_size, right, right_size, b->where));
    }
    return TERN_OK;
}

/* An affix of sub-words: absent, null or empty. */
static tern_status need_no_affix(struct binder *b, const tern_json_value *model, const char *key)
{
    const tern_json_value *value = tern_json_get(model, key);
    size_t size;
    const char *text;

    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    TERN_TRY(need_string(b, model, "model BPE", key, &text, &size));
    TERN_REQUIRE(b->ctx, size == 0, TERN_ERR_UNSUPPORTED, "%s: model BPE: %s '%.*s' is not supported, expected none",
                 b->where, key, (int)size, text);
    return TERN_OK;
}

static tern_status bind_bpe(struct binder *b, const tern_json_value *model, bool **used, size_t *n_used)
{
    struct tern_bpe *bpe = &b->t->bpe;
    const tern_json_value *vocab, *merges, *value;
    bool byte_fallback;

    TERN_TRY(CHECK_KEYS(b, model, "model BPE", "type", "dropout", "unk_token", "continuing_subword_prefix",
                        "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"));
    value = tern_json_get(model, "dropout");
    TERN_REQUIRE(b->ctx, !value || tern_json_type(value) == TERN_JSON_NULL, TERN_ERR_UNSUPPORTED,
                 "%s: model BPE: dropout is %s, which is not supported; expected null", b->where,
                 tern_json_type_name(value));
    TERN_TRY(need_no_affix(b, model, "continuing_subword_prefix"));
    TERN_TRY(need_no_affix(b, model, "end_of_word_suffix"));
    TERN_TRY(opt_bool(b, model, "model BPE", "fuse_unk", false, &bpe->fuse_unk));
    TERN_TRY(opt_bool(b, model, "model BPE", "ignore_merges", false, &bpe->ignore_merges));
    TERN_TRY(opt_bool(b, model, "model BPE", "byte_fallback", false, &byte_fallback));
    TERN_REQUIRE(b->ctx, !byte_fallback, TERN_ERR_UNSUPPORTED, "%s: model BPE: byte_fallback true is not supported",
                 b->where);

    value = tern_json_get(model, "unk_token");
    if (value && tern_json_type(value) != TERN_JSON_NULL) {
        const char *text;
        size_t size;

        TERN_TRY(need_string(b, model, "model BPE", "unk_token", &text, &size));
        TERN_REQUIRE(b->ctx, !memchr(text, 0, size), TERN_ERR_UNSUPPORTED, "%s: model BPE: unk_token has a NUL inside",
                     b->where);
        TERN_TRY(tern_strndup(b->ctx, text, size, "the unknown token", &bpe->unk_token));
    }
    TERN_TRY(need_type(b, model, "model BPE", "vocab", TERN_JSON_OBJECT, "an object", &vocab));
    TERN_TRY(need_type(b, model, "model BPE", "merges", TERN_JSON_ARRAY, "an array", &merges));
    TERN_TRY(tern_vocab_read(b->ctx, b->json, vocab, bpe, used, n_used));
    TERN_TRY(bind_merges(b, merges));
    return tern_bpe_finish(b->ctx, bpe);
}

static tern_status bind_model(struct binder *b, const tern_json_value *root, bool **used, size_t *n_used)
{
    const tern_json_value *model;
    const char *type;
    size_t size;

    TERN_TRY(need_type(b, root, "the file", "model", TERN_JSON_OBJECT, "an object", &model));
    if (tern_json_get(model, "type")) {
        TERN_TRY(need_string(b, model, "model", "type", &type, &size));
        if (!equal(type, size, "BPE"))
            return unknown(b, "model", type, size, "BPE");
    } else {
        /* Files from before 0.8 do not name the model; what has a vocabulary and merges is a BPE. */
        TERN_REQUIRE(b->ctx, tern_json_get(model, "vocab") && tern_json_get(model, "merges"), TERN_ERR_UNSUPPORTED,
                     "%s: the model has no type, nor vocab and merges like a BPE", b->where);
    }
    return bind_bpe(b, model, used, n_used);
}

/* ---- added tokens ------------------------------------------------------------------------------------------------ */

static tern_status bind_added(struct binder *b, const tern_json_value *root, const bool *used, size_t n_used)
{
    const tern_json_value *list = tern_json_get(root, "added_tokens");
    size_t bytes = 0, size;
    const char *text;

    if (list && tern_json_type(list) == TERN_JSON_NULL)
        list = NULL;
    TERN_REQUIRE(b->ctx, !list || tern_json_type(list) == TERN_JSON_ARRAY, TERN_ERR_FORMAT,
                 "%s: added_tokens is %s, expected an array", b->where, tern_json_type_name(list));
    for (size_t i = 0; i < tern_json_size(list); i++) {
        TERN_TRY(need_string(b, tern_json_at(list, i), "added_tokens", "content", &text, &size));
        bytes += size;
    }
    TERN_TRY(tern_added_tokens_create(b->ctx, tern_json_size(list), bytes, &b->t->added));
    for (size_t i = 0; i < tern_json_size(list); i++) {
        const tern_json_value *entry = tern_json_at(list, i);
        struct tern_added_token token = { 0 };
        int64_t id;

        TERN_TRY(CHECK_KEYS(b, entry, "added_tokens", "id", "content", "single_word", "lstrip", "rstrip", "normalized",
                            "special"));
        /* The library reads the id and gives the token the next one all the same (with a warning), unless the
         * vocabulary has it. */
        TERN_TRY(tern_json_need_int(b->ctx, b->json, entry, "id", 0, TERN_TOKEN_ID_MAX, &id));
        TERN_TRY(need_string(b, entry, "added_tokens", "content", &text, &size));
        TERN_TRY(need_bool(b, entry, "added_tokens", "single_word", &token.single_word));
        TERN_TRY(need_bool(b, entry, "added_tokens", "lstrip", &token.lstrip));
        TERN_TRY(need_bool(b, entry, "added_tokens", "rstrip", &token.rstrip));
        TERN_TRY(need_bool(b, entry, "added_tokens", "normalized", &token.normalized));
        TERN_TRY(need_bool(b, entry, "added_tokens", "special", &token.special));
        TERN_TRY(
            tern_added_tokens_add(b->ctx, &b->t->added, &b->t->bpe.vocab, used, n_used, text, size, token, b->where));
    }
    return tern_added_tokens_finish(b->ctx, &b->t->added, &b->t->normalizer);
}

/* ---- post-processor ---------------------------------------------------------------------------------------------- */

static tern_status add_post(struct binder *b, int32_t id)
{
    struct tern_tokenizer *t = b->t;

    TERN_TRY(TERN_GROW(b->ctx, &t->post, &t->post_capacity, t->n_post + 1, "the post-processor"));
    t->post[t->n_post++].id = id;
    return TERN_OK;
}

/* A special token of a template: the ids that its name has in special_tokens. */
static tern_status bind_template_token(struct binder *b, const tern_json_value *specials, const char *name, size_t size)
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
    TERN_TRY(need_type(b, entry, "post_processor TemplateProcessing: special_tokens", "ids", TERN_JSON_ARRAY,
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

static tern_status bind_template(struct binder *b, const tern_json_value *value)
{
    static const char part[] = "post_processor TemplateProcessing";
    const tern_json_value *single, *specials;

    TERN_REQUIRE(b->ctx, b->t->n_post == 0, TERN_ERR_UNSUPPORTED,
                 "%s: post_processor has more than one TemplateProcessing", b->where);
    TERN_TRY(CHECK_KEYS(b, value, part, "type", "single", "pair", "special_tokens"));
    TERN_TRY(need_type(b, value, part, "single", TERN_JSON_ARRAY, "an array", &single));
    TERN_TRY(need_type(b, value, part, "special_tokens", TERN_JSON_OBJECT, "an object", &specials));
    for (size_t i = 0; i < tern_json_size(single); i++) {
        const tern_json_value *piece = tern_json_at(single, i), *inner;
        const char *id;
        size_t size;

        if ((inner = tern_json_get(piece, "Sequence"))) {
            TERN_TRY(need_string(b, inner, part, "id", &id, &size));
            TERN_REQUIRE(b->ctx, equal(id, size, "A"), TERN_ERR_UNSUPPORTED,
                         "%s: %s: single names the sequence '%.*s', expected 'A'", b->where, part, (int)size, id);
            TERN_TRY(add_post(b, -1));
        } else if ((inner = tern_json_get(piece, "SpecialToken"))) {
            TERN_TRY(need_string(b, inner, part, "id", &id, &size));
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

static tern_status bind_post_processor(struct binder *b, const tern_json_value *value, int depth)
{
    const tern_json_value *list;
    const char *type;
    size_t size;

    TERN_TRY(component(b, value, "post_processor", &type, &size));
    if (!type)
        return TERN_OK;
    if (equal(type, size, "ByteLevel")) /* moves offsets, never ids */
        return CHECK_KEYS(b, value, "post_processor ByteLevel", "type", "add_prefix_space", "trim_offsets",
                          "use_regex");
    if (equal(type, size, "TemplateProcessing"))
        return bind_template(b, value);
    if (!equal(type, size, "Sequence"))
        return unknown(b, "post_processor", type, size, "ByteLevel, TemplateProcessing, Sequence");

    TERN_REQUIRE(b->ctx, depth < NESTING_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: post_processor: more than %d Sequences in each other", b->where, NESTING_MAX);
    TERN_TRY(CHECK_KEYS(b, value, "post_processor Sequence", "type", "processors"));
    TERN_TRY(need_type(b, value, "post_processor Sequence", "processors", TERN_JSON_ARRAY, "an array", &list));
    for (size_t i = 0; i < tern_json_size(list); i++)
        TERN_TRY(bind_post_processor(b, tern_json_at(list, i), depth + 1));
    return TERN_OK;
}

/* ---- decoder and the whole file ---------------------------------------------------------------------------------- */

static tern_status bind_decoder(struct binder *b, const tern_json_value *value)
{
    const char *type;
    size_t size;

    TERN_TRY(component(b, value, "decoder", &type, &size));
    b->t->decoder = type ? TERN_DECODE_BYTE_LEVEL : TERN_DECODE_SPACES;
    if (!type)
        return TERN_OK;
    if (!equal(type, size, "ByteLevel"))
        return unknown(b, "decoder", type, size, "ByteLevel");
    return CHECK_KEYS(b, value, "decoder ByteLevel", "type", "add_prefix_space", "trim_offsets", "use_regex");
}

/* A setting that changes ids and that tern does not have yet: absent or null. */
static tern_status need_none(struct binder *b, const tern_json_value *root, const char *key)
{
    const tern_json_value *value = tern_json_get(root, key), *strategy = tern_json_get(value, "strategy");

    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    return tern_fail(
        b->ctx, TERN_ERR_UNSUPPORTED, "%s: %s%s%s is not supported, expected null", b->where, key,
        strategy && tern_json_type(strategy) == TERN_JSON_STRING ? " with strategy " : "",
        strategy && tern_json_type(strategy) == TERN_JSON_STRING ? tern_json_string(strategy, &(size_t){ 0 }) : "");
}

tern_status tern_tokenizer_bind_json(tern_ctx *ctx, struct tern_tokenizer *t, const struct tern_json *json)
{
    struct binder b = { ctx, t, json, tern_json_where(json) };
    const tern_json_value *root = tern_json_root(json), *version;
    bool *used = NULL;
    size_t n_used = 0;
    tern_status status;

    TERN_REQUIRE(ctx, tern_json_type(root) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: the file is %s, expected an object", b.where, tern_json_type_name(root));
    TERN_TRY(CHECK_KEYS(&b, root, "the file", "version", "truncation", "padding", "added_tokens", "normalizer",
                        "pre_tokenizer", "post_processor", "decoder", "model"));
    version = tern_json_get(root, "version");
    if (version) {
        const char *text;
        size_t size;

        TERN_TRY(need_string(&b, root, "the file", "version", &text, &size));
        TERN_REQUIRE(ctx, equal(text, size, "1.0"), TERN_ERR_UNSUPPORTED, "%s: version '%.*s', expected 1.0", b.where,
                     (int)size, text);
    }
    TERN_TRY(need_none(&b, root, "truncation"));
    TERN_TRY(need_none(&b, root, "padding"));
    TERN_TRY(bind_normalizer(&b, tern_json_get(root, "normalizer"), 0));
    TERN_TRY(bind_pre_tokenizer(&b, tern_json_get(root, "pre_tokenizer"), 0));
    TERN_TRY(bind_post_processor(&b, tern_json_get(root, "post_processor"), 0));
    TERN_TRY(bind_decoder(&b, tern_json_get(root, "decoder")));
    TERN_TRY_OR_FAIL(bind_model(&b, root, &used, &n_used));
    TERN_TRY_OR_FAIL(bind_added(&b, root, used, n_used));
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
