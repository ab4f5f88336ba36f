/* test_tokenizer.c: ids and texts are those of the tokenizers library.
 *
 * Two sources that nobody here computed: tests/golden/text/text.json, made by the library for small vocabularies,
 * and GPT-2's own vocabulary with its published ids in the data from outside. */
#include "testing.h"

#include "base/json.h"

#include <tern/tokenizer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_same_ids(const tern_ids *got, const tern_json_value *want, const char *name, size_t number)
{
    bool same = got->count == tern_json_size(want);

    for (size_t i = 0; same && i < got->count; i++)
        same = got->data[i] == tern_json_int(tern_json_at(want, i));
    if (!same)
        fail_msg("%s: ids of text %zu differ (%zu, expected %zu)", name, number, got->count, tern_json_size(want));
}

static void assert_same_text(const char *got, size_t size, const tern_json_value *want, const char *name, size_t number)
{
    size_t length;
    const char *text = tern_json_string(want, &length);

    if (size != length || memcmp(got, text, size) != 0)
        fail_msg("%s: decoding %zu gives '%s', expected '%s'", name, number, got, text);
}

/* ids to text at once, and as a stream whose pieces are whole characters. */
static void check_decode(tern_ctx *ctx, const tern_tokenizer *t, const tern_json_value *ids,
                         const tern_json_value *entry, const char *name, size_t number)
{
    const size_t n = tern_json_size(ids);
    int32_t *list = malloc((n + 1) * sizeof *list);

    for (size_t i = 0; i < n; i++)
        list[i] = (int32_t)tern_json_int(tern_json_at(ids, i));
    for (int skip = 0; skip < 2; skip++) {
        const tern_json_value *want = tern_json_get(entry, skip ? "decoded_skip_special" : "decoded");
        char *text, *streamed;
        size_t size, used = 0;
        tern_decoder *decoder;

        assert_ok(ctx, tern_tokenizer_decode(ctx, t, list, n, skip, &text, &size));
        assert_int_equal(text[size], 0);
        assert_same_text(text, size, want, name, number);

        streamed = malloc(size + 1);
        assert_ok(ctx, tern_decoder_create(ctx, t, skip, &decoder));
        for (size_t i = 0; i <= n; i++) {
            const char *piece;
            size_t piece_size;

            if (i < n)
                assert_ok(ctx, tern_decoder_push(ctx, decoder, list[i], &piece, &piece_size));
            else
                assert_ok(ctx, tern_decoder_finish(ctx, decoder, &piece, &piece_size));
            assert_true(used + piece_size <= size);
            assert_true(piece_size == 0 || ((unsigned char)piece[0] & 0xC0) != 0x80);
            assert_int_equal(piece[piece_size], 0);
            memcpy(streamed + used, piece, piece_size);
            used += piece_size;
        }
        assert_same_text(streamed, used, want, name, number);
        tern_decoder_destroy(&decoder);
        tern_text_free(text);
        free(streamed);
    }
    free(list);
}

static void check_golden(tern_ctx *ctx, const char *name, const tern_json_value *entry, const tern_json_value *texts)
{
    const tern_json_value *cases = tern_json_get(entry, "cases"), *decode = tern_json_get(entry, "decode");
    size_t length;
    tern_tokenizer *t;
    tern_ids ids = { 0 };

    assert_ok(ctx, tern_tokenizer_open(ctx, test_path(tern_json_string(tern_json_get(entry, "path"), &length)), &t));
    assert_int_equal(tern_tokenizer_vocab_size(t), tern_json_int(tern_json_get(entry, "vocab_size")));
    assert_true(tern_json_size(cases) > 0);
    for (size_t i = 0; i < tern_json_size(cases); i++) {
        const tern_json_value *c = tern_json_at(cases, i);
        const size_t number = (size_t)tern_json_int(tern_json_get(c, "text"));
        const char *text = tern_json_string(tern_json_at(texts, number), &length);

        assert_ok(ctx, tern_tokenizer_encode(ctx, t, text, length, true, &ids));
        assert_same_ids(&ids, tern_json_get(c, "ids"), name, number);
        assert_ok(ctx, tern_tokenizer_encode(ctx, t, text, length, false, &ids));
        assert_same_ids(&ids, tern_json_get(c, "ids_no_special"), name, number);
        check_decode(ctx, t, tern_json_get(c, "ids"), c, name, number);
    }
    for (size_t i = 0; i < tern_json_size(decode); i++)
        check_decode(ctx, t, tern_json_get(tern_json_at(decode, i), "ids"), tern_json_at(decode, i), name, i);
    tern_ids_free(&ids);
    tern_tokenizer_close(&t);
    assert_null(t);
}

static void golden(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;
    size_t length;

    (void)state;
    assert_ok(&ctx, tern_json_read(&ctx, test_golden("text/text.json"), (size_t)1 << 26, &json));
    const tern_json_value *list = tern_json_get(tern_json_root(json), "tokenizers");
    const tern_json_value *texts = tern_json_get(tern_json_root(json), "texts");
    assert_true(tern_json_size(list) >= 4);
    for (void *it = tern_json_iter(list); it; it = tern_json_next(list, it))
        check_golden(&ctx, tern_json_iter_key(it, &length), tern_json_iter_value(it), texts);
    tern_json_destroy(json);
}

/* The 46 texts and the published ids. */
static void check_published(tern_ctx *ctx, const tern_tokenizer *t)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    size_t size, n = 0;
    char *texts = test_read(test_data("tokenizers/goldens/ggml-vocab-gpt-2.gguf.inp"), &size);
    char *lines = test_read(test_data("tokenizers/goldens/ggml-vocab-gpt-2.gguf.out"), &size);
    char *text = texts, *line = lines;
    tern_ids ids = { 0 };

    for (; text; n++) {
        char *end = strstr(text, mark), *next = end ? end + sizeof mark - 1 : NULL;

        if (end)
            *end = 0;
        else if (!*text)
            break; /* behind the last mark */
        assert_ok(ctx, tern_tokenizer_encode(ctx, t, text, strlen(text), false, &ids));
        for (size_t i = 0; i < ids.count; i++)
            if (strtol(line, &line, 10) != ids.data[i])
                fail_msg("id %zu of text %zu is %d", i, n, ids.data[i]);
        line += strspn(line, " ");
        assert_int_equal(*line, '\n');
        line++;
        text = next;
    }
    assert_int_equal(n, 46);
    tern_ids_free(&ids);
    free(texts);
    free(lines);
}

static void gpt2(void **state)
{
    static const char *const files[] = { "vocab.json", "merges.txt" };
    TEST_NEED_DATA(dir, "tokenizers/gpt2");
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    const char *copy = test_temp_dir();

    (void)state;
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    assert_int_equal(tern_tokenizer_vocab_size(t), 50257);
    check_published(&ctx, t);
    tern_tokenizer_close(&t);

    /* the same without tokenizer.json */
    for (size_t i = 0; i < 2; i++) {
        char name[64];
        size_t size;

        snprintf(name, sizeof name, "tokenizers/gpt2/%s", files[i]);
        char *text = test_read(test_data(name), &size);
        test_write(copy, files[i], text, size);
        free(text);
    }
    assert_ok(&ctx, tern_tokenizer_open(&ctx, copy, &t));
    assert_int_equal(tern_tokenizer_vocab_size(t), 50257);
    check_published(&ctx, t);

    const char *bytes;
    size_t size;
    bool special;
    assert_int_equal(tern_tokenizer_find(t, "<|endoftext|>"), 50256);
    assert_ok(&ctx, tern_tokenizer_token(&ctx, t, 50256, &bytes, &size, &special));
    assert_true(special);
    assert_int_equal(size, 13);
    assert_int_equal(tern_tokenizer_find(t, "\xC4\xA0the"), 262);
    assert_ok(&ctx, tern_tokenizer_token(&ctx, t, 262, &bytes, &size, &special));
    assert_false(special);
    assert_memory_equal(bytes, " the", 4);
    tern_tokenizer_close(&t);
    test_remove_dir(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
        cmocka_unit_test(gpt2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
