/* test_tokenizer_goldens.c: tokenizers in which every component occurs, against digests of what the tokenizers library
 * makes of nasty texts, pairs of them, random ids and random texts (tests/golden/make_tokenizers.py).
 *
 * TERN_TOKENIZERS_FULL in the environment: all 100,000 random texts, and the table of docs/tokenizers.md on stdout.
 * TERN_TOKENIZERS_DIR: the tokenizers of another folder (tests/golden/diff_tokenizers.py). */
#include "testing.h"
#include "tokenizer_digest.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#include <stdlib.h>

#define GOLDEN TERN_SOURCE_DIR "/tests/golden/tokenizers/"

static struct digest_ranges ranges;
static const char *folder;
static bool full;

struct tally {
    size_t cases, wrong;
};

static const char *in_folder(char path[1024], const char *name, const char *suffix)
{
    snprintf(path, 1024, "%s/%s%s", folder, name, suffix);
    return path;
}

static uint64_t number(const tern_json_value *value)
{
    size_t size;

    return value && tern_json_type(value) == TERN_JSON_STRING ? strtoull(tern_json_string(value, &size), NULL, 16) : 0;
}

static void count(struct tally *tally, size_t cases, bool good, const char *name, const char *what, size_t index)
{
    tally->cases += cases;
    if (good)
        return;
    if (tally->wrong++ < 12)
        print_message("%s: %s %zu differs\n", name, what, index);
}

/* A text of nasty.json alone, or with the one behind it. */
static void check_nasty(tern_ctx *ctx, const tern_tokenizer *t, const char *name, const tern_json_value *nasty,
                        const tern_json_value *golden, bool pairs, struct tally *tally)
{
    const tern_json_value *list = tern_json_get(golden, pairs ? "pairs" : "nasty");

    assert_int_equal(tern_json_size(list), tern_json_size(nasty) - pairs);
    for (size_t i = 0; i < tern_json_size(list); i++) {
        size_t size, pair_size = 0;
        const char *text = tern_json_string(tern_json_at(nasty, i), &size);
        const char *pair = pairs ? tern_json_string(tern_json_at(nasty, i + 1), &pair_size) : NULL;
        bool streams = true;
        const uint64_t got = digest_text(ctx, t, text, size, pair, pair_size, 0, &streams);

        count(tally, 1, got == number(tern_json_at(list, i)), name, pairs ? "pair" : "nasty text", i);
        count(tally, 0, streams, name, pairs ? "stream of pair" : "stream of nasty text", i);
    }
}

static void check_ids(tern_ctx *ctx, const tern_tokenizer *t, const char *name, const tern_json_value *golden,
                      struct tally *tally)
{
    const tern_json_value *list = tern_json_get(golden, "ids");
    const uint32_t size = (uint32_t)tern_json_int(tern_json_get(golden, "size"));
    uint64_t state = 7;

    assert_int_equal(tern_json_size(list), 200);
    for (size_t i = 0; i < 200; i++) {
        int32_t ids[20];
        const uint32_t n = digest_below(&state, 20);
        bool streams = true;

        for (uint32_t k = 0; k < n; k++)
            ids[k] = (int32_t)digest_below(&state, size);
        const uint64_t got = digest_decoded(ctx, t, ids, n, i % 2 == 1, 0, &streams);
        count(tally, 1, got == number(tern_json_at(list, i)), name, "ids", i);
        count(tally, 0, streams, name, "stream of ids", i);
    }
}

static void check_random(tern_ctx *ctx, const tern_tokenizer *t, const char *name, const tern_json_value *golden,
                         struct tally *tally)
{
    const tern_json_value *marks = tern_json_get(golden, "random");
    size_t n = 0;
    char texts[2][DIGEST_TEXT_MAX];
    size_t sizes[2] = { 0, 0 }, done = 0;
    uint64_t state = 13, h = 0;
    bool streams = true;

    for (void *it = tern_json_iter(marks); it; it = tern_json_next(marks, it)) {
        size_t length;
        const size_t mark = strtoull(tern_json_iter_key(it, &length), NULL, 10);

        n = mark > n && (full || mark <= 1000) ? mark : n;
    }
    for (size_t i = 0; i < n; i++) {
        char key[24], *text = texts[i % 2];
        const bool pair = i % 4 == 3;

        sizes[i % 2] = digest_random_text(&state, &ranges, text);
        h = digest_text(ctx, t, text, sizes[i % 2], pair ? texts[(i + 1) % 2] : NULL, sizes[(i + 1) % 2], h, &streams);
        snprintf(key, sizeof key, "%zu", i + 1);
        if (!tern_json_get(marks, key))
            continue;
        count(tally, i + 1 - done, h == number(tern_json_get(marks, key)), name, "a random text up to", i + 1);
        count(tally, 0, streams, name, "the stream of a random text up to", i + 1);
        done = i + 1;
    }
    assert_int_equal(done, n);
}

static void check_naughty(tern_ctx *ctx, const tern_tokenizer *t, const char *name, const tern_json_value *golden,
                          struct tally *tally)
{
    const char *path = test_data("unicode/blns.json");
    struct tern_json *json;
    uint64_t h = 0;
    bool streams = true;

    if (!path || !tern_json_get(golden, "blns"))
        return;
    assert_ok(ctx, tern_json_read(ctx, path, 1 << 20, &json));
    const tern_json_value *list = tern_json_root(json);
    for (size_t i = 0; i < tern_json_size(list); i++) {
        size_t size;
        const char *text = tern_json_string(tern_json_at(list, i), &size);

        h = digest_mix(h, digest_text(ctx, t, text, size, NULL, 0, 0, &streams) >> 32);
    }
    count(tally, tern_json_size(list), h == number(tern_json_get(golden, "blns")), name, "naughty strings", 0);
    count(tally, 0, streams, name, "streams of naughty strings", 0);
    tern_json_destroy(json);
}

/* What all tokenizers of a file of digests come to. */
struct total {
    size_t tokenizers, wrong, skipped, unlisted;
};

/* A folder with the files of ../shared/data/tokenizers that a golden names, and its tokenizer_config.json.  False: they are
 * not here. */
static bool make_folder(tern_ctx *ctx, const char *name, const tern_json_value *golden, char path[1024])
{
    const tern_json_value *files = tern_json_get(golden, "files");
    const char *dir = test_temp_dir();
    char *text;
    size_t size;

    for (size_t i = 0; i < tern_json_size(files); i++) {
        const char *file = tern_json_string(tern_json_at(files, i), &size);
        char relative[256];

        snprintf(relative, sizeof relative, "tokenizers/%.*s/%s", (int)strcspn(name, "/"), name, file);
        const char *found = test_data(relative);
        if (!found) {
            test_remove_dir(dir);
            return false;
        }
        assert_ok(ctx, tern_file_read(ctx, found, 1 << 24, &text, &size));
        test_write(dir, file, text, size);
        tern_free(text);
    }
    const char *config = tern_json_string(tern_json_get(golden, "tokenizer_config"), &size);
    test_write(dir, "tokenizer_config.json", config, size);
    snprintf(path, 1024, "%s", dir);
    return true;
}

/* A row of the table; true if docs/tokenizers.md keeps it. */
static bool print_row(const char *name, const tern_json_value *golden, const struct tally *tally, const char *docs)
{
    const tern_json_value *files = tern_json_get(golden, "files");
    char row[256], count[64];
    size_t n, size;

    const size_t length = files ? strcspn(name, "/") + 1 : strlen(name);
    const bool is_folder = length > 2 && strcmp(name + length - 2, "/.") == 0;
    n = (size_t)snprintf(row, sizeof row, "| %.*s", (int)(is_folder ? length - 2 : length), name);
    for (size_t i = 0; i < tern_json_size(files); i++)
        n += (size_t)snprintf(row + n, sizeof row - n, "%s%s", i > 0 ? ", " : "",
                              tern_json_string(tern_json_at(files, i), &size));
    if (files && strcmp(tern_json_string(tern_json_get(golden, "tokenizer_config"), &size), "{}") != 0)
        n += (size_t)snprintf(row + n, sizeof row - n, " with `%s`",
                              tern_json_string(tern_json_get(golden, "tokenizer_config"), &size));
    snprintf(count, sizeof count, " | %zu | %zu |\n", tally->cases, tally->wrong);
    assert_true(n + strlen(count) < sizeof row);
    memcpy(row + n, count, strlen(count) + 1);
    print_message("%s", row);
    return !docs || strstr(docs, row);
}

static void check_file(tern_ctx *ctx, const char *file, const tern_json_value *nasty, const char *docs,
                       struct total *total)
{
    struct tern_json *digests;
    char path[1024];

    assert_ok(ctx, tern_json_read(ctx, in_folder(path, file, ""), 1 << 26, &digests));
    for (void *it = tern_json_iter(tern_json_root(digests)); it; it = tern_json_next(tern_json_root(digests), it)) {
        size_t length;
        const char *name = tern_json_iter_key(it, &length);
        const tern_json_value *golden = tern_json_iter_value(it);
        struct tally tally = { 0, 0 };
        tern_tokenizer *t;

        if (tern_json_get(golden, "files")) {
            if (!make_folder(ctx, name, golden, path)) {
                total->skipped++;
                continue;
            }
        } else if (strchr(name, '/')) {
            char relative[256];

            snprintf(relative, sizeof relative, "tokenizers/%s", name);
            const char *found = test_data(relative);
            if (!found) {
                total->skipped++;
                continue;
            }
            snprintf(path, sizeof path, "%s", found);
        } else {
            in_folder(path, name, ".json");
        }
        assert_ok(ctx, tern_tokenizer_open(ctx, path, &t));
        check_nasty(ctx, t, name, nasty, golden, false, &tally);
        check_nasty(ctx, t, name, nasty, golden, true, &tally);
        check_ids(ctx, t, name, golden, &tally);
        check_naughty(ctx, t, name, golden, &tally);
        check_random(ctx, t, name, golden, &tally);
        if (full)
            total->unlisted += !print_row(name, golden, &tally, docs);
        total->wrong += tally.wrong;
        total->tokenizers++;
        tern_tokenizer_close(&t);
        if (tern_json_get(golden, "files"))
            test_remove_dir(path);
    }
    tern_json_destroy(digests);
}

static void exact(void **state)
{
    struct total total = { 0 };
    struct tern_json *nasty;
    tern_ctx ctx = { 0 };
    char path[1024], *docs = NULL;
    size_t size;

    (void)state;
    full = getenv("TERN_TOKENIZERS_FULL") != NULL;
    folder = getenv("TERN_TOKENIZERS_DIR") ? getenv("TERN_TOKENIZERS_DIR") : GOLDEN;
    assert_true(digest_read_ranges(in_folder(path, "assigned13.txt", ""), &ranges));
    assert_ok(&ctx, tern_json_read(&ctx, in_folder(path, "nasty.json", ""), 1 << 26, &nasty));
    if (full) {
        print_message("\n| tokenizer | cases | differences |\n|---|---|---|\n");
        if (strcmp(folder, GOLDEN) == 0)
            assert_ok(&ctx, tern_file_read(&ctx, TERN_SOURCE_DIR "/docs/tokenizers.md", 1 << 20, &docs, &size));
    }
    check_file(&ctx, "digests.json", tern_json_root(nasty), docs, &total);
    if (strcmp(folder, GOLDEN) == 0)
        check_file(&ctx, "digests_files.json", tern_json_root(nasty), docs, &total);
    if (total.skipped)
        print_message("%zu vocabularies are not here (../shared/data/tokenizers): skipped\n", total.skipped);
    assert_true(total.tokenizers >= 30 || strcmp(folder, GOLDEN) != 0);
    assert_int_equal(total.wrong, 0);
    if (total.unlisted > 0)
        fail_msg("docs/tokenizers.md lacks %zu rows of this table", total.unlisted);
    tern_free(docs);
    tern_json_destroy(nasty);
}

/* What a token stands for in running text, before it is known what stands beside it. */
static void running_text(void **state)
{
    static const struct {
        const char *name, *token, *text;
    } cases[] = {
        { "llama", "\xE2\x96\x81the", " the" },
        { "llama", "<0x41>", "A" },
        { "t5",
          "\xE2\x96\x81"
          "a",
          " a" },
        { "bert", "##e", "e" },
        { "bert", "the", " the" },
        { "gpt2", "\xC4\xA0the", " the" },
        { "bpe-suffix", "s</w>", "s " },
        { "nmt", "<0xC3>", "\xC3" },
        { "words", "the", "the" },
    };
    tern_ctx ctx = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        tern_tokenizer *t;
        const char *bytes;
        size_t size;

        snprintf(path, sizeof path, GOLDEN "%s.json", cases[i].name);
        assert_ok(&ctx, tern_tokenizer_open(&ctx, path, &t));
        const int32_t id = tern_tokenizer_find(t, cases[i].token);
        if (id < 0)
            fail_msg("%s has no token '%s'", cases[i].name, cases[i].token);
        assert_ok(&ctx, tern_tokenizer_token(&ctx, t, id, &bytes, &size, NULL));
        if (size != strlen(cases[i].text) || memcmp(bytes, cases[i].text, size) != 0)
            fail_msg("%s: '%s' is '%.*s', expected '%s'", cases[i].name, cases[i].token, (int)size, bytes,
                     cases[i].text);
        tern_tokenizer_close(&t);
    }
}

/* Text goes out as soon as it is certain: a letter at once, bytes when they have come to their end. */
static void streams_at_once(void **state)
{
    static const char *const tokens[] = { "\xE2\x96\x81t", "h", "<0xC3>", "<0xA9>", "e", "\xE2\x96\x81" };
    static const char *const texts[] = { "t", "h", "", "", "\xC3\xA9\x65", " ", "" };
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    tern_decoder *decoder;

    (void)state;
    assert_ok(&ctx, tern_tokenizer_open(&ctx, GOLDEN "llama.json", &t));
    assert_ok(&ctx, tern_decoder_create(&ctx, t, true, &decoder));
    for (size_t i = 0; i < 7; i++) {
        const char *part;
        size_t size;

        if (i < 6)
            assert_ok(&ctx, tern_decoder_push(&ctx, decoder, tern_tokenizer_find(t, tokens[i]), &part, &size));
        else
            assert_ok(&ctx, tern_decoder_finish(&ctx, decoder, &part, &size));
        assert_string_equal(part, texts[i]);
        assert_int_equal(size, strlen(texts[i]));
    }
    tern_decoder_destroy(&decoder);
    tern_tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(exact), cmocka_unit_test(running_text),
                                        cmocka_unit_test(streams_at_once) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
