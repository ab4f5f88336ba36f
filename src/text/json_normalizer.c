/* json_normalizer.c: the normalizer of tokenizer.json. */
#include "text/json_parts.h"

#include "base/memory.h"

static const char part[] = "normalizer";

/* {"String": ...} or {"Regex": ...}. */
tern_status tern_bind_pattern(struct tern_binder *b, const tern_json_value *object, const char *where,
                              struct tern_pattern **out)
{
    const tern_json_value *pattern;
    const char *text;
    size_t size;

    TERN_TRY(tern_bind_type(b, object, where, "pattern", TERN_JSON_OBJECT, "an object", &pattern));
    TERN_TRY(TERN_BIND_KEYS(b, pattern, where, "Regex", "String"));
    TERN_REQUIRE(b->ctx, tern_json_size(pattern) == 1, TERN_ERR_FORMAT,
                 "%s: pattern of %s has %zu keys, expected one of Regex and String", b->where, where,
                 tern_json_size(pattern));
    const bool literal = tern_json_get(pattern, "String") != NULL;
    TERN_TRY(tern_bind_string(b, pattern, where, literal ? "String" : "Regex", &text, &size));
    return tern_pattern_create(b->ctx, text, size, literal, b->where, out);
}

static tern_status bind_bert(struct tern_binder *b, const tern_json_value *value, struct tern_normalizer_step *step)
{
    TERN_TRY(TERN_BIND_KEYS(b, value, "normalizer BertNormalizer", "type", "clean_text", "handle_chinese_chars",
                            "strip_accents", "lowercase"));
    TERN_TRY(tern_bind_bool(b, value, part, "clean_text", &step->clean_text));
    TERN_TRY(tern_bind_bool(b, value, part, "handle_chinese_chars", &step->chinese_chars));
    TERN_TRY(tern_bind_bool(b, value, part, "lowercase", &step->lowercase));
    return tern_bind_opt_bool(b, value, part, "strip_accents", step->lowercase, &step->accents);
}

/* What the step's kind reads from the file. */
static tern_status bind_step(struct tern_binder *b, const tern_json_value *value, struct tern_normalizer_step *step)
{
    const char *text;
    size_t size;

    switch (step->kind) {
    case TERN_NORMALIZE_BERT:
        return bind_bert(b, value, step);
    case TERN_NORMALIZE_STRIP:
        TERN_TRY(TERN_BIND_KEYS(b, value, "normalizer Strip", "type", "strip_left", "strip_right"));
        TERN_TRY(tern_bind_bool(b, value, part, "strip_left", &step->left));
        return tern_bind_bool(b, value, part, "strip_right", &step->right);
    case TERN_NORMALIZE_PREPEND:
        TERN_TRY(TERN_BIND_KEYS(b, value, "normalizer Prepend", "type", "prepend"));
        return tern_bind_text(b, value, part, "prepend", &step->text, &step->text_size);
    case TERN_NORMALIZE_REPLACE:
        TERN_TRY(TERN_BIND_KEYS(b, value, "normalizer Replace", "type", "pattern", "content"));
        TERN_TRY(tern_bind_text(b, value, part, "content", &step->text, &step->text_size));
        return tern_bind_pattern(b, value, "normalizer Replace", &step->pattern);
    case TERN_NORMALIZE_PRECOMPILED:
        TERN_TRY(TERN_BIND_KEYS(b, value, "normalizer Precompiled", "type", "precompiled_charsmap"));
        TERN_TRY(tern_bind_string(b, value, part, "precompiled_charsmap", &text, &size));
        return tern_charsmap_create_base64(b->ctx, text, size, b->where, &step->charsmap);
    default:
        return TERN_BIND_KEYS(b, value, part, "type");
    }
}

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
        { "Nmt", TERN_NORMALIZE_NMT },
        { "Lowercase", TERN_NORMALIZE_LOWERCASE },
        { "StripAccents", TERN_NORMALIZE_STRIP_ACCENTS },
        { "Strip", TERN_NORMALIZE_STRIP },
        { "BertNormalizer", TERN_NORMALIZE_BERT },
        { "Bert", TERN_NORMALIZE_BERT }, /* the library reads both */
        { "Replace", TERN_NORMALIZE_REPLACE },
        { "Prepend", TERN_NORMALIZE_PREPEND },
        { "Precompiled", TERN_NORMALIZE_PRECOMPILED },
        { "ByteLevel", TERN_NORMALIZE_BYTE_LEVEL },
    };
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_component(b, value, part, &type, &size));
    if (!type)
        return TERN_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (tern_bind_equal(type, size, kinds[i].name)) {
            struct tern_normalizer_step step = { .kind = kinds[i].kind };
            const tern_status status = bind_step(b, value, &step);

            if (status == TERN_OK)
                return tern_normalizer_add(b->ctx, &b->t->normalizer, step);
            tern_normalizer_step_destroy(&step);
            return status;
        }
    if (!tern_bind_equal(type, size, "Sequence"))
        return tern_bind_unknown(b, part, type, size,
                                 "NFC, NFD, NFKC, NFKD, Nmt, Lowercase, StripAccents, Strip, BertNormalizer, Replace, "
                                 "Prepend, Precompiled, ByteLevel, Sequence");
    return tern_bind_sequence(b, value, part, "normalizers", depth, tern_bind_normalizer);
}
