/* json_model.c: the model of tokenizer.json. */
#include "text/json_parts.h"

#include "base/memory.h"

#include <string.h>

tern_status tern_vocab_read(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *vocab,
                            struct tern_names *names, bool **used, size_t *n_used)
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
    TERN_TRY(tern_names_create(ctx, tern_json_size(vocab), bytes, "the vocabulary", names));
    TERN_TRY(TERN_ALLOC(ctx, (size_t)(top + 1), "the vocabulary", used));
    *n_used = (size_t)(top + 1);
    for (void *it = tern_json_iter(vocab); it; it = tern_json_next(vocab, it)) {
        const int32_t id = (int32_t)tern_json_int(tern_json_iter_value(it));
        const char *key = tern_json_iter_key(it, &length);

        if ((*used)[id]) {
            size_t i = 0, n = 0;
            const char *other = "";

            while (names->slots[i].id != id)
                i++;
            other = names->text + names->slots[i].begin;
            n = names->slots[i].size;
            TERN_REQUIRE_OR_FAIL(ctx, false, TERN_ERR_FORMAT,
                                 "%s: '%.*s' and '%.*s' in the vocabulary have the same id %d", where, (int)n, other,
                                 (int)length, key, id);
        }
        (*used)[id] = true;
        tern_names_put(names, key, length, id);
    }
    return TERN_OK;

fail:
    tern_free(*used);
    *used = NULL;
    return status;
}

/* ["a b", ...] or [["a", "b"], ...]. */
static tern_status bind_merges(struct tern_binder *b, const tern_json_value *merges)
{
    const size_t n = tern_json_size(merges);

    TERN_TRY(tern_bpe_merges_create(b->ctx, &b->t->model.bpe, n));
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
        TERN_TRY(tern_bpe_merges_add(b->ctx, &b->t->model.bpe, left, left_size, right, right_size, b->where));
    }
    return TERN_OK;
}

/* An affix of sub-words; absent, null and empty are none. */
static tern_status bind_affix(struct tern_binder *b, const tern_json_value *model, const char *key, char **out,
                              size_t *size)
{
    const tern_json_value *value = tern_json_get(model, key);
    const char *text;

    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    TERN_TRY(tern_bind_string(b, model, "model BPE", key, &text, size));
    return tern_strndup(b->ctx, text, *size, "an affix", out);
}

/* Merges are left out at random where dropout is above 0: there is no one answer then. */
static tern_status check_dropout(struct tern_binder *b, const tern_json_value *model)
{
    const tern_json_value *value = tern_json_get(model, "dropout");
    const enum tern_json_type type = value ? tern_json_type(value) : TERN_JSON_NULL;

    if (type == TERN_JSON_NULL)
        return TERN_OK;
    TERN_REQUIRE(b->ctx, type == TERN_JSON_INT || type == TERN_JSON_REAL, TERN_ERR_FORMAT,
                 "%s: model BPE: dropout is %s, expected a number or null", b->where, tern_json_type_name(value));
    TERN_REQUIRE(b->ctx, tern_json_number(value) == 0, TERN_ERR_UNSUPPORTED,
                 "%s: model BPE: dropout %g is not supported, expected null or 0", b->where, tern_json_number(value));
    return TERN_OK;
}

static tern_status bind_bpe(struct tern_binder *b, const tern_json_value *model, bool **used, size_t *n_used)
{
    struct tern_bpe *bpe = &b->t->model.bpe;
    const tern_json_value *vocab, *merges, *value;

    b->t->model.kind = TERN_TOKEN_MODEL_BPE;
    TERN_TRY(TERN_BIND_KEYS(b, model, "model BPE", "type", "dropout", "unk_token", "continuing_subword_prefix",
                            "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"));
    TERN_TRY(check_dropout(b, model));
    TERN_TRY(bind_affix(b, model, "continuing_subword_prefix", &bpe->prefix, &bpe->prefix_size));
    TERN_TRY(bind_affix(b, model, "end_of_word_suffix", &bpe->suffix, &bpe->suffix_size));
    TERN_TRY(tern_bind_opt_bool(b, model, "model BPE", "fuse_unk", false, &bpe->fuse_unk));
    TERN_TRY(tern_bind_opt_bool(b, model, "model BPE", "ignore_merges", false, &bpe->ignore_merges));
    TERN_TRY(tern_bind_opt_bool(b, model, "model BPE", "byte_fallback", false, &bpe->byte_fallback));

    value = tern_json_get(model, "unk_token");
    if (value && tern_json_type(value) != TERN_JSON_NULL) {
        const char *text;
        size_t size;

        TERN_TRY(tern_bind_string(b, model, "model BPE", "unk_token", &text, &size));
        TERN_REQUIRE(b->ctx, !memchr(text, 0, size), TERN_ERR_UNSUPPORTED, "%s: model BPE: unk_token has a NUL inside",
                     b->where);
        TERN_TRY(tern_strndup(b->ctx, text, size, "the unknown token", &bpe->unk_token));
    }
    TERN_TRY(tern_bind_type(b, model, "model BPE", "vocab", TERN_JSON_OBJECT, "an object", &vocab));
    TERN_TRY(tern_bind_type(b, model, "model BPE", "merges", TERN_JSON_ARRAY, "an array", &merges));
    TERN_TRY(tern_vocab_read(b->ctx, b->json, vocab, &bpe->vocab, used, n_used));
    TERN_TRY(bind_merges(b, merges));
    return tern_bpe_finish(b->ctx, bpe);
}

static tern_status bind_wordpiece(struct tern_binder *b, const tern_json_value *model, bool **used, size_t *n_used)
{
    static const char part[] = "model WordPiece";
    struct tern_wordpiece *wordpiece = &b->t->model.wordpiece;
    const tern_json_value *vocab;
    const char *unk, *prefix;
    size_t unk_size, prefix_size;
    int64_t max_chars;

    b->t->model.kind = TERN_TOKEN_MODEL_WORDPIECE;
    TERN_TRY(TERN_BIND_KEYS(b, model, part, "type", "unk_token", "continuing_subword_prefix",
                            "max_input_chars_per_word", "vocab"));
    TERN_TRY(tern_bind_string(b, model, part, "unk_token", &unk, &unk_size));
    TERN_TRY(tern_bind_string(b, model, part, "continuing_subword_prefix", &prefix, &prefix_size));
    TERN_TRY(tern_json_need_int(b->ctx, b->json, model, "max_input_chars_per_word", 0, INT64_MAX, &max_chars));
    TERN_TRY(tern_bind_type(b, model, part, "vocab", TERN_JSON_OBJECT, "an object", &vocab));
    TERN_TRY(tern_vocab_read(b->ctx, b->json, vocab, &wordpiece->vocab, used, n_used));
    wordpiece->max_chars = (uint64_t)max_chars;
    return tern_wordpiece_finish(b->ctx, wordpiece, unk, unk_size, prefix, prefix_size);
}

static tern_status bind_word_level(struct tern_binder *b, const tern_json_value *model, bool **used, size_t *n_used)
{
    static const char part[] = "model WordLevel";
    struct tern_word_level *word_level = &b->t->model.word_level;
    const tern_json_value *vocab;
    const char *unk;
    size_t size;

    b->t->model.kind = TERN_TOKEN_MODEL_WORD_LEVEL;
    TERN_TRY(TERN_BIND_KEYS(b, model, part, "type", "unk_token", "vocab"));
    TERN_TRY(tern_bind_string(b, model, part, "unk_token", &unk, &size));
    TERN_TRY(tern_bind_type(b, model, part, "vocab", TERN_JSON_OBJECT, "an object", &vocab));
    TERN_TRY(tern_vocab_read(b->ctx, b->json, vocab, &word_level->vocab, used, n_used));
    return tern_word_level_finish(b->ctx, word_level, unk, size);
}

/* [["a", -1.5], ...], by id. */
static tern_status bind_scores(struct tern_binder *b, const tern_json_value *vocab, bool **used, size_t *n_used)
{
    const size_t n = tern_json_size(vocab);
    size_t bytes = 0, size;

    TERN_REQUIRE(b->ctx, n <= (size_t)TERN_TOKEN_ID_MAX + 1, TERN_ERR_FORMAT,
                 "%s: model Unigram: a vocabulary of %zu tokens, at most %d", b->where, n, TERN_TOKEN_ID_MAX + 1);
    for (size_t i = 0; i < n; i++) {
        const tern_json_value *entry = tern_json_at(vocab, i), *text = tern_json_at(entry, 0),
                              *score = tern_json_at(entry, 1);

        TERN_REQUIRE(b->ctx,
                     tern_json_size(entry) == 2 && text && tern_json_type(text) == TERN_JSON_STRING && score &&
                         (tern_json_type(score) == TERN_JSON_REAL || tern_json_type(score) == TERN_JSON_INT),
                     TERN_ERR_FORMAT, "%s: model Unigram: entry %zu of the vocabulary is %s, expected [\"a\", -1.5]",
                     b->where, i, tern_json_type_name(entry));
        tern_json_string(text, &size);
        bytes += size;
    }
    TERN_TRY(tern_unigram_create(b->ctx, &b->t->model.unigram, n, bytes));
    TERN_TRY(TERN_ALLOC(b->ctx, n, "the vocabulary", used));
    *n_used = n;
    for (size_t i = n; i-- > 0;) {
        const tern_json_value *entry = tern_json_at(vocab, i);
        const char *text = tern_json_string(tern_json_at(entry, 0), &size);

        (*used)[i] = true;
        tern_unigram_put(&b->t->model.unigram, (int32_t)i, text, size, tern_json_number(tern_json_at(entry, 1)));
    }
    return TERN_OK;
}

static tern_status bind_unigram(struct tern_binder *b, const tern_json_value *model, bool **used, size_t *n_used)
{
    static const char part[] = "model Unigram";
    struct tern_unigram *unigram = &b->t->model.unigram;
    const tern_json_value *vocab, *unk_id = tern_json_get(model, "unk_id");

    b->t->model.kind = TERN_TOKEN_MODEL_UNIGRAM;
    TERN_TRY(TERN_BIND_KEYS(b, model, part, "type", "unk_id", "byte_fallback", "vocab"));
    TERN_TRY(tern_bind_type(b, model, part, "vocab", TERN_JSON_ARRAY, "an array", &vocab));
    TERN_TRY(bind_scores(b, vocab, used, n_used));
    TERN_TRY(tern_bind_opt_bool(b, model, part, "byte_fallback", false, &unigram->byte_fallback));
    if (unk_id && tern_json_type(unk_id) != TERN_JSON_NULL) {
        int64_t id;

        TERN_TRY(tern_json_need_int(b->ctx, b->json, model, "unk_id", 0, INT64_MAX, &id));
        TERN_REQUIRE(b->ctx, (uint64_t)id < unigram->n_tokens, TERN_ERR_FORMAT,
                     "%s: model Unigram: unk_id is %" PRId64 ", expected an id of the vocabulary of %zu tokens",
                     b->where, id, unigram->n_tokens);
        unigram->unk_id = (int32_t)id;
    }
    return tern_unigram_finish(b->ctx, unigram);
}

/* Older files do not name the model.  The library takes the first in this order that can be read. */
static const char *guess_model(const tern_json_value *model)
{
    const tern_json_value *vocab = tern_json_get(model, "vocab"), *unk = tern_json_get(model, "unk_token");

    if (!vocab)
        return NULL;
    if (tern_json_type(vocab) == TERN_JSON_ARRAY)
        return "Unigram";
    if (tern_json_get(model, "merges"))
        return "BPE";
    if (!unk || tern_json_type(unk) != TERN_JSON_STRING)
        return NULL;
    return tern_json_get(model, "continuing_subword_prefix") && tern_json_get(model, "max_input_chars_per_word")
               ? "WordPiece"
               : "WordLevel";
}

static const struct {
    const char *name;
    enum tern_token_model_kind kind;
    tern_status (*bind)(struct tern_binder *b, const tern_json_value *model, bool **used, size_t *n_used);
} models[] = {
    { "BPE", TERN_TOKEN_MODEL_BPE, bind_bpe },
    { "WordPiece", TERN_TOKEN_MODEL_WORDPIECE, bind_wordpiece },
    { "WordLevel", TERN_TOKEN_MODEL_WORD_LEVEL, bind_word_level },
    { "Unigram", TERN_TOKEN_MODEL_UNIGRAM, bind_unigram },
};

/* The row of a file's model. */
static tern_status find_model(struct tern_binder *b, const tern_json_value *root, const tern_json_value **model,
                              size_t *row)
{
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_type(b, root, "the file", "model", TERN_JSON_OBJECT, "an object", model));
    if (tern_json_get(*model, "type")) {
        TERN_TRY(tern_bind_string(b, *model, "model", "type", &type, &size));
    } else {
        type = guess_model(*model);
        TERN_REQUIRE(b->ctx, type, TERN_ERR_UNSUPPORTED,
                     "%s: the model has no type, nor vocab and merges like a BPE, vocab and unk_token like a WordPiece "
                     "or WordLevel, or a list as vocab like a Unigram",
                     b->where);
        size = strlen(type);
    }
    for (*row = 0; *row < sizeof models / sizeof *models; (*row)++)
        if (tern_bind_equal(type, size, models[*row].name))
            return TERN_OK;
    return tern_bind_unknown(b, "model", type, size, "BPE, WordPiece, WordLevel, Unigram");
}

tern_status tern_bind_model_kind(struct tern_binder *b, const tern_json_value *root, enum tern_token_model_kind *out)
{
    const tern_json_value *model;
    size_t row;

    TERN_TRY(find_model(b, root, &model, &row));
    *out = models[row].kind;
    return TERN_OK;
}

tern_status tern_bind_model(struct tern_binder *b, const tern_json_value *root, bool **used, size_t *n_used)
{
    const tern_json_value *model;
    size_t row;

    TERN_TRY(find_model(b, root, &model, &row));
    return models[row].bind(b, model, used, n_used);
}
