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

/* An affix of sub-words: absent, null or empty. */
static tern_status need_no_affix(struct tern_binder *b, const tern_json_value *model, const char *key)
{
    const tern_json_value *value = tern_json_get(model, key);
    size_t size;
    const char *text;

    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    TERN_TRY(tern_bind_string(b, model, "model BPE", key, &text, &size));
    TERN_REQUIRE(b->ctx, size == 0, TERN_ERR_UNSUPPORTED, "%s: model BPE: %s '%.*s' is not supported, expected none",
                 b->where, key, (int)size, text);
    return TERN_OK;
}

static tern_status bind_bpe(struct tern_binder *b, const tern_json_value *model, bool **used, size_t *n_used)
{
    struct tern_bpe *bpe = &b->t->model.bpe;
    const tern_json_value *vocab, *merges, *value;
    bool byte_fallback;

    TERN_TRY(TERN_BIND_KEYS(b, model, "model BPE", "type", "dropout", "unk_token", "continuing_subword_prefix",
                            "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"));
    value = tern_json_get(model, "dropout");
    TERN_REQUIRE(b->ctx, !value || tern_json_type(value) == TERN_JSON_NULL, TERN_ERR_UNSUPPORTED,
                 "%s: model BPE: dropout is %s, which is not supported; expected null", b->where,
                 tern_json_type_name(value));
    TERN_TRY(need_no_affix(b, model, "continuing_subword_prefix"));
    TERN_TRY(need_no_affix(b, model, "end_of_word_suffix"));
    TERN_TRY(tern_bind_opt_bool(b, model, "model BPE", "fuse_unk", false, &bpe->fuse_unk));
    TERN_TRY(tern_bind_opt_bool(b, model, "model BPE", "ignore_merges", false, &bpe->ignore_merges));
    TERN_TRY(tern_bind_opt_bool(b, model, "model BPE", "byte_fallback", false, &byte_fallback));
    TERN_REQUIRE(b->ctx, !byte_fallback, TERN_ERR_UNSUPPORTED, "%s: model BPE: byte_fallback true is not supported",
                 b->where);

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

tern_status tern_bind_model(struct tern_binder *b, const tern_json_value *root, bool **used, size_t *n_used)
{
    const tern_json_value *model;
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_type(b, root, "the file", "model", TERN_JSON_OBJECT, "an object", &model));
    if (tern_json_get(model, "type")) {
        TERN_TRY(tern_bind_string(b, model, "model", "type", &type, &size));
        if (!tern_bind_equal(type, size, "BPE"))
            return tern_bind_unknown(b, "model", type, size, "BPE");
    } else {
        /* Files from before 0.8 do not name the model; what has a vocabulary and merges is a BPE. */
        TERN_REQUIRE(b->ctx, tern_json_get(model, "vocab") && tern_json_get(model, "merges"), TERN_ERR_UNSUPPORTED,
                     "%s: the model has no type, nor vocab and merges like a BPE", b->where);
    }
    return bind_bpe(b, model, used, n_used);
}
