/* test_token_models.c: each model of a tokenizer alone: words to ids and places, as the tokenizers library has them. */
#include "small_tokenizer.h"

#include "base/json.h"
#include "base/memory.h"

#define GOLDEN TERN_SOURCE_DIR "/tests/golden/text_models/"

/* One word; `expected` is a list of [id, begin, end], or null where the library refuses it. */
static size_t check_word(tern_ctx *ctx, const char *name, const struct tern_token_model *model,
                         struct tern_token_model_scratch *scratch, const char *word, size_t size,
                         const tern_json_value *expected)
{
    size_t wrong = 0;

    for (int spans = 0; spans < 2; spans++) {
        struct tern_token_list list = { .wants_spans = spans };
        const tern_status status = tern_token_model_encode(ctx, model, scratch, word, size, false, &list);
        const size_t n = tern_json_size(expected);
        bool good;

        if (tern_json_type(expected) == TERN_JSON_NULL) {
            good = status == TERN_ERR_FORMAT && list.ids.count == 0;
        } else {
            good = status == TERN_OK && list.ids.count == n;
            for (size_t i = 0; i < n && good; i++) {
                const tern_json_value *token = tern_json_at(expected, i);

                good = list.ids.data[i] == tern_json_int(tern_json_at(token, 0));
                if (spans)
                    good = good && list.spans[i].begin == tern_json_int(tern_json_at(token, 1)) &&
                           list.spans[i].end == tern_json_int(tern_json_at(token, 2));
            }
        }
        if (!good) {
            wrong++;
            print_message("%s: '%.*s' (%s): %zu tokens, expected %zu\n", name, (int)size, word,
                          spans ? "with places" : "ids", list.ids.count, n);
            for (size_t i = 0; i < list.ids.count && i < 12; i++)
                print_message("  %d%s", list.ids.data[i], i + 1 < list.ids.count ? "" : "\n");
        }
        tern_token_list_destroy(&list);
    }
    return wrong;
}

/* Scratch is reused from word to word, and words of all lengths follow one another, so leftovers would show. */
static void words_are_the_librarys(void **state)
{
    tern_ctx ctx = { 0 };
    struct tern_json *json;
    size_t wrong = 0, words = 0;

    (void)state;
    assert_ok(&ctx, tern_json_read(&ctx, GOLDEN "words.json", 1 << 24, &json));
    const tern_json_value *models = tern_json_get(tern_json_root(json), "models");
    assert_true(tern_json_size(models) >= 30);
    for (void *it = tern_json_iter(models); it; it = tern_json_next(models, it)) {
        size_t length;
        const char *name = tern_json_iter_key(it, &length);
        const tern_json_value *cases = tern_json_iter_value(it);
        struct tern_token_model_scratch scratch = { 0 };
        tern_tokenizer *t;
        char path[512];

        snprintf(path, sizeof path, "%s%s.json", GOLDEN, name);
        assert_ok(&ctx, tern_tokenizer_open(&ctx, path, &t));
        for (size_t i = 0; i < tern_json_size(cases); i++) {
            const tern_json_value *pair = tern_json_at(cases, i);
            size_t size;
            const char *word = tern_json_string(tern_json_at(pair, 0), &size);

            wrong += check_word(&ctx, name, &t->model, &scratch, word, size, tern_json_at(pair, 1));
            words++;
        }
        tern_token_model_scratch_destroy(&t->model, &scratch);
        tern_tokenizer_close(&t);
    }
    tern_json_destroy(json);
    print_message("%zu words, %zu wrong\n", words, wrong);
    assert_int_equal(wrong, 0);
}

/* ---- the trie ---------------------------------------------------------------------------------------------------- */

/* The value of a whole key, by walking; -1 without. */
static int32_t walk(const struct tern_trie *trie, const char *text, size_t size)
{
    uint32_t node = TERN_TRIE_ROOT;

    for (size_t i = 0; i < size; i++)
        if (!tern_trie_step(trie, &node, (unsigned char)text[i]))
            return -1;
    return trie->nodes[node].value;
}

/* Thousands of random keys over few and over all bytes, against a look-up in the list. */
static void trie_knows_its_keys(void **state)
{
    enum { N = 3000 };
    tern_ctx ctx = { 0 };
    uint64_t seed = 11;

    (void)state;
    for (int spread = 2; spread <= 256; spread *= 4) {
        static char text[N][8];
        struct tern_trie_key keys[N];
        struct tern_names names;
        struct tern_trie trie;
        size_t n = 0;

        assert_ok(&ctx, tern_names_create(&ctx, N, N * sizeof *text, "names", &names));
        for (int i = 0; i < N; i++) {
            const size_t size = test_random(&seed) % 8;

            for (size_t k = 0; k < size; k++)
                text[n][k] = (char)(test_random(&seed) % (uint64_t)spread);
            if (tern_names_find(&names, text[n], size) >= 0)
                continue;
            tern_names_put(&names, text[n], size, (int32_t)n);
            keys[n] = (struct tern_trie_key){ text[n], size, (int32_t)n };
            n++;
        }
        assert_ok(&ctx, tern_trie_create(&ctx, keys, n, "test", &trie));
        for (size_t i = 0; i < n; i++)
            assert_int_equal(walk(&trie, keys[i].text, keys[i].size), keys[i].size > 0 ? keys[i].value : -1);
        for (int i = 0; i < 2 * N; i++) {
            char other[8];
            const size_t size = 1 + test_random(&seed) % 7;

            for (size_t k = 0; k < size; k++)
                other[k] = (char)(test_random(&seed) % (uint64_t)spread);
            assert_int_equal(walk(&trie, other, size), tern_names_find(&names, other, size));
        }
        tern_trie_destroy(&trie);
        tern_names_destroy(&names);
    }
}

static void trie_may_be_empty(void **state)
{
    struct tern_trie_key empty = { "", 0, 0 };
    tern_ctx ctx = { 0 };
    struct tern_trie trie;

    (void)state;
    for (size_t n = 0; n < 2; n++) {
        assert_ok(&ctx, tern_trie_create(&ctx, &empty, n, "test", &trie));
        for (int byte = 0; byte < 256; byte++)
            assert_int_equal(walk(&trie, &(char){ (char)byte }, 1), -1);
        assert_int_equal(trie.longest, 0);
        tern_trie_destroy(&trie);
    }
}

static void trie_refuses_a_key_twice(void **state)
{
    struct tern_trie_key keys[] = { { "ab", 2, 7 }, { "a", 1, 1 }, { "ab", 2, 9 } };
    tern_ctx ctx = { 0 };
    struct tern_trie trie;

    (void)state;
    assert_int_equal(tern_trie_create(&ctx, keys, 3, "test", &trie), TERN_ERR_FORMAT);
    assert_non_null(strstr(tern_error(&ctx), "'ab'"));
    assert_null(trie.nodes);
}

/* ---- BPE of whole texts ------------------------------------------------------------------------------------------ */

/* Where no merge goes on behind a word a text is cut there first; nothing else may come of it, spans included. */
static void cut_and_whole_texts_agree(void **state)
{
    static const char *const options[] = { "\"unk_token\":\"<unk>\",", "\"unk_token\":\"<unk>\",\"fuse_unk\":true,", "",
                                           "\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"fuse_unk\":true," };
    static const char vocab[] = "\"vocab\":{\"<unk>\":0,\"\xE2\x96\x81\":1,\"a\":2,\"b\":3,\"ab\":4,\"\xE2\x96\x81"
                                "a\":5,\"\xE2\x96\x81"
                                "ab\":6,\"\xE2\x96\x81\xE2\x96\x81\":7,\"\xE2\x96\x81\xE2\x96\x81"
                                "a\":8,\"aa\":9,\"<0xC3>\":10,\"<0xA9>\":11,\"a\xE2\x96\x81\":12},";
    static const char inside[] = "\"\xE2\x96\x81 a\",\"a b\",\"\xE2\x96\x81 ab\",\"\xE2\x96\x81 "
                                 "\xE2\x96\x81\",\"\xE2\x96\x81\xE2\x96\x81 a\",\"a a\"";
    static const char *const parts[] = {
        "\xE2\x96\x81", "a", "b", "c", "\xC3\xA9", "aaab", "\xE2\x96\x81\xE2\x96\x81"
    };
    tern_ctx ctx = { 0 };
    uint32_t random = 1;

    (void)state;
    for (size_t o = 0; o < 5; o++) {
        tern_tokenizer *t;
        char json[1024];

        /* the last one has a merge across */
        snprintf(json, sizeof json, "{\"model\":{\"type\":\"BPE\",%s%s\"merges\":[%s%s]}}", options[o % 4], vocab,
                 inside, o == 4 ? ",\"a \xE2\x96\x81\"" : "");
        assert_ok(&ctx, tern_tokenizer_parse(&ctx, json, strlen(json), "test", &t));
        struct tern_bpe *bpe = &t->model.bpe;
        assert_int_equal(bpe->has_words, o != 2 && o != 4); /* without an unknown token characters disappear */
        for (int i = 0; i < 2000 && bpe->has_words; i++) {
            struct tern_bpe_scratch scratch = { 0 };
            struct tern_token_list lists[2] = { { .wants_spans = true }, { .wants_spans = true } };
            char text[256] = "";
            size_t size = 0;

            for (random = random * 1664525 + 1013904223; size < 40 && (size == 0 || random >> 28);) {
                const char *part = parts[(random >> 16) % 7];

                memcpy(text + size, part, strlen(part));
                size += strlen(part);
                random = random * 1664525 + 1013904223;
            }
            for (int whole = 0; whole < 2; whole++) {
                bpe->has_words = !whole;
                assert_ok(&ctx, tern_bpe_encode(&ctx, bpe, &scratch, text, size, false, &lists[whole]));
            }
            assert_int_equal(lists[0].ids.count, lists[1].ids.count);
            for (size_t k = 0; k < lists[0].ids.count; k++)
                if (lists[0].ids.data[k] != lists[1].ids.data[k] ||
                    lists[0].spans[k].begin != lists[1].spans[k].begin ||
                    lists[0].spans[k].end != lists[1].spans[k].end)
                    fail_msg("'%s': token %zu is %d of %u to %u, and of the whole %d of %u to %u", text, k,
                             lists[0].ids.data[k], lists[0].spans[k].begin, lists[0].spans[k].end, lists[1].ids.data[k],
                             lists[1].spans[k].begin, lists[1].spans[k].end);
            bpe->has_words = true;
            tern_token_list_destroy(&lists[0]);
            tern_token_list_destroy(&lists[1]);
            tern_bpe_scratch_destroy(&scratch);
        }
        tern_tokenizer_close(&t);
    }
}

/* ---- costs ------------------------------------------------------------------------------------------------------- */

/* Steps for a word of n times `unit`. */
static uint64_t steps_of(tern_ctx *ctx, const struct tern_token_model *model, const char *unit, size_t n)
{
    struct tern_token_model_scratch scratch = { 0 };
    struct tern_token_list list = { 0 };
    const size_t size = strlen(unit);
    char *word = malloc(n * size);

    assert_non_null(word);
    for (size_t i = 0; i < n; i++)
        memcpy(word + i * size, unit, size);
    assert_ok(ctx, tern_token_model_encode(ctx, model, &scratch, word, n * size, false, &list));
    const uint64_t steps = tern_token_model_steps(model, &scratch);
    tern_token_list_destroy(&list);
    tern_token_model_scratch_destroy(model, &scratch);
    free(word);
    return steps;
}

/* A word 16 times as long costs at most 16 * 2 times as many steps: n log n is below that, n^2 far above. */
static void long_words_cost_little_more(void **state)
{
    static const char *const names[] = { "bpe-ambiguous", "bpe-repeats",     "bpe-prefix",        "bpe-bytes",
                                         "unigram",       "unigram-ties",    "unigram-bytes",     "unigram-positive",
                                         "wordpiece",     "wordpiece-short", "unigram-duplicates" };
    static const char *const units[] = { "a", "ab", "the", "thea", "\xE6\x97\xA5" };
    tern_ctx ctx = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tern_tokenizer *t;
        char path[512];

        snprintf(path, sizeof path, "%s%s.json", GOLDEN, names[i]);
        assert_ok(&ctx, tern_tokenizer_open(&ctx, path, &t));
        if (t->model.kind == TERN_TOKEN_MODEL_WORDPIECE && t->model.wordpiece.max_chars == 100)
            t->model.wordpiece.max_chars = UINT64_MAX;
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            const uint64_t few = steps_of(&ctx, &t->model, units[u], 4096);
            const uint64_t many = steps_of(&ctx, &t->model, units[u], 16 * 4096);

            if (many > 32 * few)
                fail_msg("%s, '%s': %llu steps for 4096, %llu for 16 times as many", names[i], units[u],
                         (unsigned long long)few, (unsigned long long)many);
        }
        tern_tokenizer_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_the_librarys),    cmocka_unit_test(trie_knows_its_keys),
        cmocka_unit_test(trie_may_be_empty),         cmocka_unit_test(trie_refuses_a_key_twice),
        cmocka_unit_test(cut_and_whole_texts_agree), cmocka_unit_test(long_words_cost_little_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
