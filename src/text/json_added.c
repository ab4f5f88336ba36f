/* json_added.c: the added tokens of tokenizer.json. */
#include "text/json_parts.h"

tern_status tern_bind_added(struct tern_binder *b, const tern_json_value *root, const bool *used, size_t n_used)
{
    const tern_json_value *list = tern_json_get(root, "added_tokens");
    size_t bytes = 0, size;
    const char *text;

    if (list && tern_json_type(list) == TERN_JSON_NULL)
        list = NULL;
    TERN_REQUIRE(b->ctx, !list || tern_json_type(list) == TERN_JSON_ARRAY, TERN_ERR_FORMAT,
                 "%s: added_tokens is %s, expected an array", b->where, tern_json_type_name(list));
    for (size_t i = 0; i < tern_json_size(list); i++) {
        TERN_TRY(tern_bind_string(b, tern_json_at(list, i), "added_tokens", "content", &text, &size));
        bytes += size;
    }
    TERN_TRY(tern_added_tokens_create(b->ctx, tern_json_size(list), bytes, &b->t->added));
    for (size_t i = 0; i < tern_json_size(list); i++) {
        const tern_json_value *entry = tern_json_at(list, i);
        struct tern_added_token token = { 0 };
        int64_t id;

        TERN_TRY(TERN_BIND_KEYS(b, entry, "added_tokens", "id", "content", "single_word", "lstrip", "rstrip",
                                "normalized", "special"));
        /* The library reads the id and gives the token the next one all the same (with a warning), unless the
         * vocabulary has it. */
        TERN_TRY(tern_json_need_int(b->ctx, b->json, entry, "id", 0, TERN_TOKEN_ID_MAX, &id));
        TERN_TRY(tern_bind_string(b, entry, "added_tokens", "content", &text, &size));
        TERN_TRY(tern_bind_bool(b, entry, "added_tokens", "single_word", &token.single_word));
        TERN_TRY(tern_bind_bool(b, entry, "added_tokens", "lstrip", &token.lstrip));
        TERN_TRY(tern_bind_bool(b, entry, "added_tokens", "rstrip", &token.rstrip));
        TERN_TRY(tern_bind_bool(b, entry, "added_tokens", "normalized", &token.normalized));
        TERN_TRY(tern_bind_bool(b, entry, "added_tokens", "special", &token.special));
        TERN_TRY(tern_added_tokens_add(b->ctx, &b->t->added, tern_token_model_vocab(&b->t->model), used, n_used, text,
                                       size, token, b->where));
    }
    return tern_added_tokens_finish(b->ctx, &b->t->added, &b->t->normalizer);
}
