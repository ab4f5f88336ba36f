/* json_normalizer.c: the normalizer of tokenizer.json. */
#include "text/json_parts.h"

tern_status tern_bind_normalizer(struct tern_binder *b, const tern_json_value *value, int depth)
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

    TERN_TRY(tern_bind_component(b, value, "normalizer", &type, &size));
    if (!type)
        return TERN_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (tern_bind_equal(type, size, kinds[i].name)) {
            TERN_TRY(TERN_BIND_KEYS(b, value, "normalizer", "type"));
            return tern_normalizer_add(b->ctx, &b->t->normalizer, kinds[i].kind);
        }
    if (!tern_bind_equal(type, size, "Sequence"))
        return tern_bind_unknown(b, "normalizer", type, size, "NFC, NFD, NFKC, NFKD, Lowercase, Sequence");

    TERN_REQUIRE(b->ctx, depth < TERN_BIND_NESTING_MAX, TERN_ERR_UNSUPPORTED,
                 "%s: normalizer: more than %d Sequences in each other", b->where, TERN_BIND_NESTING_MAX);
    TERN_TRY(TERN_BIND_KEYS(b, value, "normalizer Sequence", "type", "normalizers"));
    TERN_TRY(tern_bind_type(b, value, "normalizer Sequence", "normalizers", TERN_JSON_ARRAY, "an array", &list));
    for (size_t i = 0; i < tern_json_size(list); i++)
        TERN_TRY(tern_bind_normalizer(b, tern_json_at(list, i), depth + 1));
    return TERN_OK;
}
