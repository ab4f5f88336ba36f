/* test_tokenizer_describe.c: what is told of a tokenizer is what opening it gives. */
#include "testing.h"

#include <tern/tokenizer.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether the file can be opened; then it is described as it is. */
static bool check(tern_ctx *ctx, const char *path)
{
    tern_tokenizer_info info;
    tern_tokenizer *t;

    if (tern_tokenizer_open(ctx, path, &t))
        return false;
    assert_ok(ctx, tern_tokenizer_describe(ctx, path, &info));
    if (info.n_ids != tern_tokenizer_vocab_size(t))
        print_message("%s\n", path);
    assert_int_equal(info.n_ids, tern_tokenizer_vocab_size(t));
    assert_true(info.kind[0] && info.n_added >= 0 && info.n_added <= info.n_ids);
    tern_tokenizer_close(&t);
    return true;
}

static int check_folder(tern_ctx *ctx, const char *folder)
{
    DIR *dir = opendir(test_golden(folder));
    const struct dirent *entry;
    int n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        char path[512];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        n += check(ctx, test_golden(path));
    }
    closedir(dir);
    return n;
}

static void test_every_golden(void **state)
{
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    assert_true(check_folder(ctx, "tokenizers") >= 30);
    assert_true(check_folder(ctx, "text_models") >= 25);
    assert_true(check_folder(ctx, "sentencepiece") >= 20);
    assert_true(check_folder(ctx, "sentences") >= 10);
    assert_true(check(ctx, test_path("models/tiny-shakespeare")));
    tern_ctx_destroy(&ctx);
}

static void test_downloaded_ones(void **state)
{
    static const char *const names[] = { "gpt2",         "falcon",        "bert-base-uncased", "bert-base-cased",
                                         "roberta-base", "open_llama_3b", "t5-small",          "added-tokens" };
    tern_ctx *ctx = test_ctx(1);
    int n = 0;

    (void)state;
    TEST_NEED_DATA(folder, "tokenizers");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        n += check(ctx, path);
    }
    assert_true(n >= 6);
    tern_ctx_destroy(&ctx);
}

static void test_kinds(void **state)
{
    static const struct {
        const char *file, *kind;
        int32_t n_ids, n_added;
    } cases[] = { { "sentences/mean", "WordPiece", 83, 0 },
                  { "sentencepiece/unigram.model", "SentencePiece", 0, 0 },
                  { "text_models/unigram.json", "Unigram", 0, 0 },
                  { "text_models/word-level.json", "WordLevel", 0, 0 },
                  { "text_models/word-level-legacy.json", "WordLevel", 0, 0 },
                  { "text_models/bpe.json", "BPE", 0, 0 } };
    tern_ctx *ctx = test_ctx(1);
    tern_tokenizer_info info;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ok(ctx, tern_tokenizer_describe(ctx, test_golden(cases[i].file), &info));
        assert_string_equal(info.kind, cases[i].kind);
        if (cases[i].n_ids) {
            assert_int_equal(info.n_ids, cases[i].n_ids);
            assert_int_equal(info.n_added, cases[i].n_added);
        }
    }
    tern_ctx_destroy(&ctx);
}

/* What is wrong with a file's rules is told as opening it tells it; cut anywhere, or with bytes of its beginning changed, it is described,
 * or refused with a reason. */
static void test_damaged_files(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    const char *dir = test_temp_dir(), *path;
    size_t size;
    char *good = test_read(test_golden("sentences/mean/tokenizer.json"), &size), *bad = malloc(size + 64);
    tern_tokenizer_info info;
    tern_tokenizer *t;
    uint64_t random = 11;

    (void)state;
    assert_non_null(bad);
    char *at = strstr(good, "BertNormalizer");
    assert_non_null(at);
    memcpy(bad, good, size);
    memcpy(bad + (at - good), "BertPuzzlement", 14);
    path = test_write(dir, "tokenizer.json", bad, size);
    assert_fails(ctx, tern_tokenizer_open(ctx, dir, &t), TERN_ERR_UNSUPPORTED,
                 "unsupported normalizer 'BertPuzzlement'");
    assert_fails(ctx, tern_tokenizer_describe(ctx, dir, &info), TERN_ERR_UNSUPPORTED,
                 "unsupported normalizer 'BertPuzzlement'");
    assert_true(info.n_ids == 0 && !info.kind[0]);
    for (int i = 0; i < 600; i++) {
        size_t n = size;
        memcpy(bad, good, size);
        if (i % 2)
            n = test_random(&random) % size;
        else
            for (int k = 0; k < 3; k++)
                bad[test_random(&random) % size] = "\"\\{}[],:0a\0 "[test_random(&random) % 12];
        path = test_write(dir, "tokenizer.json", bad, n);
        const tern_status opened = tern_tokenizer_open(ctx, path, &t);
        tern_tokenizer_close(&t);
        const tern_status described = tern_tokenizer_describe(ctx, path, &info);
        if (opened == TERN_OK)
            assert_int_equal(described, TERN_OK);
        assert_true(described == TERN_OK || *tern_error(ctx));
    }
    assert_fails(ctx, tern_tokenizer_describe(ctx, test_path("src"), &info), TERN_ERR_NOT_FOUND, "has no tokenizer");
    assert_fails(ctx, tern_tokenizer_describe(ctx, NULL, &info), TERN_ERR_ARG, "path is NULL");
    free(good);
    free(bad);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_golden),
        cmocka_unit_test(test_downloaded_ones),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_damaged_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
