/* test_vocab_files.c: directories with a vocabulary and no tokenizer.json: what transformers' classes make of texts. */
#include "testing.h"

#include "base/json.h"
#include "base/memory.h"
#include "text/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TERN_SOURCE_DIR "/tests/golden/vocab_files/"

static bool same_ids(const tern_encoding *e, const tern_json_value *ids)
{
    bool same = e->count == tern_json_size(ids);

    for (size_t i = 0; i < e->count && same; i++)
        same = e->ids[i] == tern_json_int(tern_json_at(ids, i));
    return same;
}

static bool same_offsets(const tern_encoding *e, const tern_json_value *offsets)
{
    bool same = e->count == tern_json_size(offsets);

    for (size_t i = 0; i < e->count && same; i++)
        same = e->offsets[i].begin == tern_json_int(tern_json_at(tern_json_at(offsets, i), 0)) &&
               e->offsets[i].end == tern_json_int(tern_json_at(tern_json_at(offsets, i), 1));
    return same;
}

/* One text: ids, offsets, and what the ids decode to. */
static size_t check_text(tern_ctx *ctx, const char *name, const tern_tokenizer *t, const tern_json_value *text,
                         const tern_json_value *expected)
{
    const tern_encode_options options = { .add_special = true };
    tern_encoding e = { 0 };
    size_t size, decoded_size, wrong = 0, want_size;
    const char *bytes = tern_json_string(text, &size), *want = tern_json_string(tern_json_at(expected, 2), &want_size);
    char *decoded;

    assert_ok(ctx, tern_tokenizer_encode_with(ctx, t, bytes, size, &options, &e));
    if (!same_ids(&e, tern_json_at(expected, 0))) {
        wrong++;
        print_message("%s: '%.*s': ids:", name, (int)size, bytes);
        for (size_t i = 0; i < e.count && i < 16; i++)
            print_message(" %d", e.ids[i]);
        print_message("\n");
    } else if (!same_offsets(&e, tern_json_at(expected, 1))) {
        wrong++;
        print_message("%s: '%.*s': offsets:", name, (int)size, bytes);
        for (size_t i = 0; i < e.count && i < 16; i++)
            print_message(" %u-%u", e.offsets[i].begin, e.offsets[i].end);
        print_message("\n");
    } else {
        assert_ok(ctx, tern_tokenizer_decode(ctx, t, e.ids, e.count, true, &decoded, &decoded_size));
        if (decoded_size != want_size || memcmp(decoded, want, want_size) != 0) {
            wrong++;
            print_message("%s: '%.*s' decoded '%s', expected '%s'\n", name, (int)size, bytes, decoded, want);
        }
        tern_text_free(decoded);
    }
    tern_encoding_free(&e);
    return wrong;
}

static size_t check_pair(tern_ctx *ctx, const char *name, const tern_tokenizer *t, const tern_json_value *expected)
{
    const tern_encode_options options = { .add_special = true, .pair = "fox the", .pair_size = 7 };
    tern_encoding e = { 0 };
    bool same;

    assert_ok(ctx, tern_tokenizer_encode_with(ctx, t, "the quick", 9, &options, &e));
    same = same_ids(&e, tern_json_at(expected, 0));
    for (size_t i = 0; i < e.count && same; i++)
        same = e.type_ids[i] == tern_json_int(tern_json_at(tern_json_at(expected, 1), i));
    if (!same)
        print_message("%s: the pair\n", name);
    tern_encoding_free(&e);
    return !same;
}

static void classes_are_those_of_transformers(void **state)
{
    tern_ctx ctx = { 0 };
    struct tern_json *json;
    size_t wrong = 0, checked = 0;

    (void)state;
    assert_ok(&ctx, tern_json_read(&ctx, GOLDEN "texts.json", 1 << 24, &json));
    const tern_json_value *root = tern_json_root(json), *texts = tern_json_get(root, "texts"),
                          *folders = tern_json_get(root, "folders");
    assert_true(tern_json_size(folders) >= 25);
    for (void *it = tern_json_iter(folders); it; it = tern_json_next(folders, it)) {
        const tern_json_value *cases = tern_json_get(tern_json_iter_value(it), "cases");
        tern_tokenizer *t;
        char path[512];
        size_t length;
        const char *name = tern_json_iter_key(it, &length);

        snprintf(path, sizeof path, "%s%s", GOLDEN, name);
        assert_ok(&ctx, tern_tokenizer_open(&ctx, path, &t));
        for (size_t i = 0; i < tern_json_size(cases); i++, checked++)
            wrong += check_text(&ctx, name, t, tern_json_at(texts, i), tern_json_at(cases, i));
        wrong += check_pair(&ctx, name, t, tern_json_get(tern_json_iter_value(it), "pair"));
        tern_tokenizer_close(&t);
    }
    tern_json_destroy(json);
    print_message("%zu texts, %zu wrong\n", checked, wrong);
    assert_int_equal(wrong, 0);
}

/* ---- bad folders ------------------------------------------------------------------------------------------------- */

static void refuse(const char *dir, tern_status expected, const char *one, const char *other)
{
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    const tern_status status = tern_tokenizer_open(&ctx, dir, &t);

    if (status != expected || !strstr(tern_error(&ctx), one) || !strstr(tern_error(&ctx), other))
        fail_msg("status %d, '%s', expected %d with '%s' and '%s'", (int)status, tern_error(&ctx), (int)expected, one,
                 other);
    assert_null(t);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    test_write(dir, name, text, strlen(text));
}

static void refuses_what_is_unknown_or_damaged(void **state)
{
    const char *dir = test_temp_dir();
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;

    (void)state;
    write_text(dir, "vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\n");
    write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"BertJapaneseTokenizer\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "BertJapaneseTokenizer", "MPNet");
    write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"GPT2TokenizerFast\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "GPT2TokenizerFast needs vocab.json", "vocab.txt");
    write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":7}");
    refuse(dir, TERN_ERR_FORMAT, "\"tokenizer_class\" is 7", "a string");
    write_text(dir, "tokenizer_config.json", "{\"do_lower_case\":\"yes\"}");
    refuse(dir, TERN_ERR_FORMAT, "do_lower_case", "a string");
    write_text(dir, "tokenizer_config.json", "{\"unk_token\":null}");
    refuse(dir, TERN_ERR_FORMAT, "BertTokenizer", "unk_token");
    write_text(dir, "tokenizer_config.json", "{\"cls_token\":null}");
    refuse(dir, TERN_ERR_FORMAT, "BertTokenizer needs a cls_token", "none");
    write_text(dir, "tokenizer_config.json", "{\"sep_token\":[]}");
    refuse(dir, TERN_ERR_FORMAT, "sep_token", "array");
    write_text(dir, "tokenizer_config.json", "{}");
    write_text(dir, "config.json", "{\"tokenizer_class\":\"RoFormerTokenizer\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "config.json", "RoFormerTokenizer");
    write_text(dir, "config.json", "{\"model_type\":\"roformer\"}");
    write_text(dir, "vocab.txt", "a\n\xFF\n");
    refuse(dir, TERN_ERR_FORMAT, "vocab.txt", "0xFF at offset 2");
    write_text(dir, "vocab.txt", "[UNK]\r\n[CLS]\r\n[SEP]\r\n[PAD]\r\n[MASK]\r\na  \r\na");
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t)); /* ends of lines are white space; the last of two counts */
    assert_int_equal(tern_tokenizer_find(t, "[SEP]"), 2);
    assert_int_equal(tern_tokenizer_find(t, "a"), 6);
    tern_tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_those_of_transformers),
        cmocka_unit_test(refuses_what_is_unknown_or_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
