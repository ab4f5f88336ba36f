/* test_text_parts.c: each component of a tokenizer alone, and the rules of tokenizer.json one by one. */
#include "small_tokenizer.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/characters.h"

/* ---- characters -------------------------------------------------------------------------------------------------- */

static void classes(void **state)
{
    (void)state;
    assert_int_equal(tern_char_class('a'), TERN_CHAR_LETTER);
    assert_int_equal(tern_char_class('7'), TERN_CHAR_NUMBER);
    assert_int_equal(tern_char_class('\v'), TERN_CHAR_SPACE);
    assert_int_equal(tern_char_class('_'), TERN_CHAR_OTHER);
    assert_int_equal(tern_char_class(0xE9), TERN_CHAR_LETTER);
    assert_int_equal(tern_char_class(0xBD), TERN_CHAR_NUMBER);
    assert_int_equal(tern_char_class(0x85), TERN_CHAR_SPACE);
    assert_int_equal(tern_char_class(0x180E), TERN_CHAR_OTHER); /* white space until Unicode 6.2 */
    assert_int_equal(tern_char_class(0x3000), TERN_CHAR_SPACE);
    assert_int_equal(tern_char_class(0x0301), TERN_CHAR_OTHER);
    assert_int_equal(tern_char_class(0x6F22), TERN_CHAR_LETTER);
    assert_true(tern_char_is_word(0x0301) && tern_char_is_word('_') && tern_char_is_word(0x24B6));
    assert_true(tern_char_is_word(0x200D) && !tern_char_is_word(0xBD) && !tern_char_is_word('-'));
}

/* ---- the byte alphabet ------------------------------------------------------------------------------------------- */

static void byte_alphabet(void **state)
{
    bool seen[0x144] = { false };

    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        const char in = (char)byte;
        char text[2 * TERN_UTF8_MAX], back[2 * TERN_UTF8_MAX];
        const uint32_t code = tern_byte_level_char((unsigned char)byte);
        const size_t size = tern_byte_level_encode(&in, 1, text);

        assert_true(code < 0x144 && !seen[code]);
        seen[code] = true;
        assert_int_equal(tern_byte_level_decode(text, size, back), 1);
        assert_int_equal((unsigned char)back[0], byte);
    }
    assert_int_equal(tern_byte_level_char(' '), 0x120);
    assert_int_equal(tern_byte_level_char('\n'), 0x10A);
    assert_int_equal(tern_byte_level_char(0xAD), 0x143);

    char back[16]; /* one character outside of the alphabet: the text stays as it is */
    assert_int_equal(tern_byte_level_decode("\xC4\xA0 a", 4, back), 4);
    assert_memory_equal(back, "\xC4\xA0 a", 4);
}

/* ---- patterns ---------------------------------------------------------------------------------------------------- */

/* The pieces with a bar between them. */
static void gpt2_pieces(void **state)
{
    static const struct {
        const char *text, *pieces;
    } cases[] = {
        { "Hello world", "Hello| world" },
        { "I'm we'll they've 'tis 'S", "I|'m| we|'ll| they|'ve| '|tis| '|S" },
        { "a  b   c", "a| | b|  | c" },
        { "a\n\nb\t c ", "a|\n|\n|b|\t| c| " },
        { "a \n", "a| \n" },
        { "x1 22y!? #1", "x|1| 22|y|!?| #|1" },
        { "'", "'" },
        { "'r're're", "'|r|'re|'re" },
        { "\xC2\xA0\xC2\xA0x", "\xC2\xA0|\xC2\xA0|x" },
        { " \xC2\xA0 x", " \xC2\xA0| x" },
        { "\xC3\xA9t\xC3\xA9 e\xCC\x81", "\xC3\xA9t\xC3\xA9| e|\xCC\x81" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t size = strlen(cases[i].text);
        char got[128];
        size_t n = 0;

        for (size_t begin = 0, end; begin < size; begin = end) {
            end = tern_gpt2_piece(cases[i].text, size, begin);
            assert_true(end > begin && end <= size);
            if (begin > 0)
                got[n++] = '|';
            memcpy(got + n, cases[i].text + begin, end - begin);
            n += end - begin;
        }
        got[n] = 0;
        assert_string_equal(got, cases[i].pieces);
    }
}

/* The hand-written matcher against the expression itself. */
static void gpt2_is_its_pattern(void **state)
{
    static const char expression[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    static const uint32_t codes[] = { ' ',    ' ',    ' ',    '\n',    '\t',    'a',      's',    't',
                                      'r',    'e',    'v',    'l',     'l',     'm',      'd',    '\'',
                                      '\'',   '1',    '!',    0xA0,    0x85,    0xE9,     0xBD,   0x301,
                                      0x6F22, 0x3000, 0x180E, 0x1D7D8, 0x1F600, 0x10FFFF, 0x2028, 0xD7FF };
    tern_ctx ctx = { 0 };
    struct tern_pattern *pattern;
    struct tern_pattern_match *match;
    uint64_t seed = 7;

    (void)state;
    assert_ok(&ctx, tern_pattern_create(&ctx, expression, strlen(expression), false, "test", &pattern));
    assert_ok(&ctx, tern_pattern_match_create(&ctx, &match));
    for (int round = 0; round < 3000; round++) {
        char text[64 * TERN_UTF8_MAX];
        size_t size = 0, at = 0;

        for (uint64_t n = 1 + test_random(&seed) % 40; n > 0; n--)
            size += tern_utf8_put(codes[test_random(&seed) % (sizeof codes / sizeof *codes)], text + size);
        struct tern_pattern_walk walk = { text, size, 0, SIZE_MAX, 0 };
        while (at < size) {
            size_t begin, end;
            bool found;

            assert_ok(&ctx, tern_pattern_next(&ctx, pattern, match, &walk, &found, &begin, &end));
            assert_true(found);
            assert_int_equal(begin, at);
            assert_int_equal(end, tern_gpt2_piece(text, size, at));
            at = end;
        }
    }
    tern_pattern_match_destroy(match);
    tern_pattern_destroy(pattern);
}

static void pattern_language(void **state)
{
    /* each matches `yes` as a whole and nothing at the start of `no` */
    static const struct {
        const char *pattern, *yes, *no;
    } cases[] = {
        { "\\s", "\xE3\x80\x80", "\xE1\xA0\x8E" },
        { "[\\s]", "\xC2\x85", "a" },
        { "\\S", "\xE1\xA0\x8E", " " },
        { "[\\Sx]", "\xE1\xA0\x8E", "\n" },
        { "\\w", "\xCC\x81", "-" },
        { "\\w", "\xC2\xBD", "\xE2\x85\x93" }, /* 1/2 yes, 1/3 no: Oniguruma's table below U+0100 */
        { "[^\\w]", "\xC2\xBD", "_" },         /* but not in a set */
        { "\\W", "-", "_" },
        { "\\d", "\xD9\xA3", "a" },
        { "\\p{Han}", "\xE6\xBC\xA2", "\xE3\x80\x82" }, /* the script, not its extensions */
        { "\\p{^L}", "1", "a" },
        { "\\P{L}", "1", "a" },
        { "\\x41", "A", "B" },
        { "\\u00e9", "\xC3\xA9", "e" },
        { "\\x{1F600}", "\xF0\x9F\x98\x80", "a" },
        { "a{,2}b", "aab", "c" },
        { "a{2}", "aa", "b" },
        { "{", "{", "a" },
        { "a{,}", "a{,}", "b" },
        { "(?i:'s)", "'S", "s" },
        { "(?i:a)ss(?i:b(?-i:ss))", "AssBss", "assBSS" },
        { "(?>a|ab)c", "ac", "abc" },
        { "a?+a", "aa", "b" },
        { "(?i)ab", "AB", "b" },
        { "[^\\r\\n\\p{L}]", "1", "\n" },
        { "\\.\\-\\[\\\\", ".-[\\", "a" },
        { "\\bab\\b", "ab", "-" },
        { ".", "a", "\n" },
        { "[^(\\s|[.,!])]", "x", "!" }, /* a set inside of one is part of it */
        { "[a[bc]d]", "c", "[" },
    };
    static const struct {
        const char *pattern;
        tern_status status;
        const char *part;
    } bad[] = {
        { "a(", TERN_ERR_FORMAT, "not a regular expression" },
        { "[a", TERN_ERR_FORMAT, "']'" },
        { "a\\", TERN_ERR_FORMAT, "backslash" },
        { "*a", TERN_ERR_FORMAT, "not a regular expression" },
        { "\\h", TERN_ERR_UNSUPPORTED, "\\h" },
        { "\\v", TERN_ERR_UNSUPPORTED, "\\v" },
        { "\\R", TERN_ERR_UNSUPPORTED, "\\R" },
        { "\\K", TERN_ERR_UNSUPPORTED, "\\K" },
        { "(a)\\1", TERN_ERR_UNSUPPORTED, "\\1" },
        { "[a[^b]]", TERN_ERR_UNSUPPORTED, "inside of a set" },
        { "[[:alpha:]]", TERN_ERR_UNSUPPORTED, "inside of a set" },
        { "[a-[b]]", TERN_ERR_UNSUPPORTED, "hyphen" },
        { "[a[-b]]", TERN_ERR_UNSUPPORTED, "hyphen" },
        { "[a[b-]c]", TERN_ERR_UNSUPPORTED, "hyphen" },
        { "[[a]-c]", TERN_ERR_UNSUPPORTED, "hyphen" },
        { "[a[b]", TERN_ERR_FORMAT, "']'" },
        { "[a-z&&b]", TERN_ERR_UNSUPPORTED, "&&" },
        { "[\\W]", TERN_ERR_UNSUPPORTED, "\\W" },
        { "a{2}+", TERN_ERR_UNSUPPORTED, "{...}" },
        { "a(?i)b", TERN_ERR_UNSUPPORTED, "group" },
        { "(?m:a)", TERN_ERR_UNSUPPORTED, "group" },
        { "(?i:(?:straSSe))", TERN_ERR_UNSUPPORTED, "pair of letters" },
        { "(?i)\\p{Lu}", TERN_ERR_UNSUPPORTED, "without case" },
        { "(?i:[a\xC3\x9F])", TERN_ERR_UNSUPPORTED, "without case" },
        { "(?<n>a)", TERN_ERR_UNSUPPORTED, "group" },
        { "(*ACCEPT)", TERN_ERR_UNSUPPORTED, "(*" },
        { "\\pL", TERN_ERR_UNSUPPORTED, "\\p" },
        { "\\p{NoSuchScript}", TERN_ERR_FORMAT, "not a regular expression" },
    };
    tern_ctx ctx = { 0 };
    struct tern_pattern *pattern;
    struct tern_pattern_match *match;
    size_t begin, end;
    bool found;

    (void)state;
    assert_ok(&ctx, tern_pattern_match_create(&ctx, &match));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t size = strlen(cases[i].yes);

        assert_ok(&ctx, tern_pattern_create(&ctx, cases[i].pattern, strlen(cases[i].pattern), false, "test", &pattern));
        struct tern_pattern_walk yes = { cases[i].yes, size, 0, SIZE_MAX, 0 };
        assert_ok(&ctx, tern_pattern_next(&ctx, pattern, match, &yes, &found, &begin, &end));
        if (!found || begin != 0 || end != size)
            fail_msg("%s does not match %s", cases[i].pattern, cases[i].yes);
        struct tern_pattern_walk no = { cases[i].no, strlen(cases[i].no), 0, SIZE_MAX, 0 };
        assert_ok(&ctx, tern_pattern_next(&ctx, pattern, match, &no, &found, &begin, &end));
        if (found && begin == 0)
            fail_msg("%s matches %s", cases[i].pattern, cases[i].no);
        tern_pattern_destroy(pattern);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_fails(&ctx, tern_pattern_create(&ctx, bad[i].pattern, strlen(bad[i].pattern), false, "a.json", &pattern),
                     bad[i].status, bad[i].part);
        assert_null(pattern);
        assert_non_null(strstr(tern_error(&ctx), "a.json"));
    }

    /* steps without end are an error, not a hang */
    char text[64];
    memset(text, 'a', sizeof text);
    assert_ok(&ctx, tern_pattern_create(&ctx, "(?:a|aa|aaa)+b", 14, false, "test", &pattern));
    struct tern_pattern_walk walk = { text, sizeof text, 0, SIZE_MAX, 0 };
    const tern_status status = tern_pattern_next(&ctx, pattern, match, &walk, &found, &begin, &end);
    assert_true(status == TERN_ERR_CAPACITY || (status == TERN_OK && !found));
    tern_pattern_destroy(pattern);
    tern_pattern_match_destroy(match);
}

/* A text of n times `unit` and an x behind: how far the first match of a pattern goes. */
static tern_status first_match(tern_ctx *ctx, const char *regex, const char *unit, size_t n, size_t *end)
{
    const size_t length = strlen(unit), size = n * length + 1;
    struct tern_pattern *pattern;
    struct tern_pattern_match *match;
    char *text = malloc(size);
    bool found = false;
    size_t begin;

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        memcpy(text + i * length, unit, length);
    text[size - 1] = 'x';
    struct tern_pattern_walk walk = { text, size, 0, SIZE_MAX, 0 };
    assert_ok(ctx, tern_pattern_create(ctx, regex, strlen(regex), false, "test", &pattern));
    assert_ok(ctx, tern_pattern_match_create(ctx, &match));
    const tern_status status = tern_pattern_next(ctx, pattern, match, &walk, &found, &begin, end);
    if (status == TERN_OK && (!found || begin != 0))
        *end = 0;
    tern_pattern_match_destroy(match);
    tern_pattern_destroy(pattern);
    free(text);
    return status;
}

/* Runs of more characters than the limit of steps: what matches there matches, and what does not is an error with the
 * place and the limit. */
static void long_runs_are_matched(void **state)
{
    tern_ctx ctx = { 0 };
    size_t end;

    (void)state;
    assert_ok(&ctx, first_match(&ctx, "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", " ", 12000000, &end));
    assert_int_equal(end, 11999999); /* the last space is the next piece's */
    assert_ok(&ctx, first_match(&ctx, "(?:ab)+", "ab", 4000000, &end));
    assert_int_equal(end, 8000000);
    assert_int_equal(first_match(&ctx, "\\s+\\d", " ", 12000000, &end), TERN_ERR_CAPACITY);
    assert_non_null(strstr(tern_error(&ctx), "at byte 0 of 12000001"));
    assert_non_null(strstr(tern_error(&ctx), "limit of 10000000"));
}

/* ---- normalizer -------------------------------------------------------------------------------------------------- */

static void normal_forms(void **state)
{
    static const struct {
        enum tern_normalizer_kind kind;
        const char *in, *out;
    } cases[] = {
        { TERN_NORMALIZE_NFC, "e\xCC\x81", "\xC3\xA9" },
        { TERN_NORMALIZE_NFD, "\xC3\xA9", "e\xCC\x81" },
        { TERN_NORMALIZE_NFC, "\xEF\xAC\x81", "\xEF\xAC\x81" },
        { TERN_NORMALIZE_NFKC, "\xEF\xAC\x81", "fi" },
        { TERN_NORMALIZE_NFKD, "\xEA\xB0\x81", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8" },
        { TERN_NORMALIZE_NFC, "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81" },
        { TERN_NORMALIZE_NFD, "a\xCC\x81\xCC\xA3", "a\xCC\xA3\xCC\x81" }, /* marks in order of their class */
        { TERN_NORMALIZE_NFC, "a\xCC\x81\xCC\xA3", "\xE1\xBA\xA1\xCC\x81" },
        { TERN_NORMALIZE_NFKC, "\xE3\x8B\xBF", "\xE3\x8B\xBF" }, /* U+32FF is younger than the library's tables */
        { TERN_NORMALIZE_NFC, "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0", "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0" },
        { TERN_NORMALIZE_LOWERCASE, "\xC4\xB0X\xCE\xA3", "i\xCC\x87x\xCF\x83" },
        { TERN_NORMALIZE_LOWERCASE, "", "" },
    };
    tern_ctx ctx = { 0 };
    struct tern_normalizer_scratch scratch = { 0 };
    struct tern_piece out;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tern_piece in = { cases[i].in, strlen(cases[i].in), NULL, 0, strlen(cases[i].in) };
        struct tern_normalizer normalizer = { 0 };

        assert_ok(&ctx, tern_normalizer_add(&ctx, &normalizer, (struct tern_normalizer_step){ .kind = cases[i].kind }));
        assert_ok(&ctx, tern_normalizer_run(&ctx, &normalizer, &scratch, in, &out));
        assert_int_equal(out.size, strlen(cases[i].out));
        assert_memory_equal(out.text, cases[i].out, out.size);
        tern_normalizer_destroy(&normalizer);
    }

    /* a long run of marks: sorted, stable, and all there */
    struct tern_normalizer nfd = { 0 };
    char text[3 + 2 * 3000];
    size_t n = 0;
    text[n++] = 'a';
    for (int i = 0; i < 3000; i++)
        n += tern_utf8_put(i % 2 ? 0x316 : 0x301, text + n);
    assert_ok(&ctx, tern_normalizer_add(&ctx, &nfd, (struct tern_normalizer_step){ .kind = TERN_NORMALIZE_NFD }));
    assert_ok(&ctx, tern_normalizer_run(&ctx, &nfd, &scratch, (struct tern_piece){ text, n, NULL, 0, n }, &out));
    assert_int_equal(out.size, n);
    for (size_t at = 1, i = 0; at < out.size; i++)
        assert_int_equal(tern_utf8_next(out.text, &at), i < 1500 ? 0x316 : 0x301);
    tern_normalizer_destroy(&nfd);
    tern_normalizer_scratch_destroy(&scratch);
}

/* A file's expression that would take the age of the world ends with an error, in every part that has one. */
static void patterns_give_up(void **state)
{
#define SLOW "\"pattern\":{\"Regex\":\"(?:a|aa)+\\\\d\"}"
    static const struct small_tokenizer slow[] = {
        { .pre_tokenizer = "{\"type\":\"Split\"," SLOW ",\"behavior\":\"Isolated\",\"invert\":false}" },
        { .normalizer = "{\"type\":\"Replace\"," SLOW ",\"content\":\"b\"}" },
    };
    const char *text =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    tern_ctx ctx = { 0 };
    tern_ids ids = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++) {
        tern_tokenizer *t;

        assert_ok(&ctx, small_open(&ctx, slow[i], &t));
        assert_fails(&ctx, tern_tokenizer_encode(&ctx, t, text, strlen(text), true, &ids), TERN_ERR_CAPACITY,
                     "more steps than the limit");
        assert_int_equal(ids.count, 0);
        tern_tokenizer_close(&t);
    }
}

/* ---- rules of tokenizer.json ------------------------------------------------------------------------------------- */

#define AT(id, content, flags) "{\"id\":" id ",\"content\":\"" content "\"," flags "}"
#define FLAGS(single, left, right, normalized, special)                                              \
    "\"single_word\":" single ",\"lstrip\":" left ",\"rstrip\":" right ",\"normalized\":" normalized \
    ",\"special\":" special
#define PLAIN FLAGS("false", "false", "false", "false", "false")

static void merges(void **state)
{
    tern_ctx ctx = { 0 };

    (void)state;
    assert_small(&ctx, "abcab ac ab", PARTS(.pre_tokenizer = SMALL_BYTES), 7, 6, 8, 3, 5, 6);
    assert_small(&ctx, "abxc", PARTS(.pre_tokenizer = SMALL_BYTES), 7); /* no unknown token: x is gone */
    assert_small(
        &ctx, "axbxxc",
        PARTS(.pre_tokenizer = SMALL_BYTES, .model = "{\"unk_token\":\"<unk>\"," SMALL_VOCAB "," SMALL_MERGES "}"), 1,
        0, 2, 0, 0, 3);
    assert_small(&ctx, "axbxxc",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .model = "{\"unk_token\":\"<unk>\",\"fuse_unk\":true," SMALL_VOCAB "," SMALL_MERGES "}"),
                 1, 0, 2, 0, 3);
    /* characters as they are: e acute is in the vocabulary as a character, a space is not */
    assert_small(&ctx, "ab \xC3\xA9", PARTS(.model = SMALL_BPE), 6, 9);
    /* ... and as a byte-level character it is one byte of others */
    assert_small(&ctx, "ab \xC3\xA9", PARTS(.pre_tokenizer = SMALL_BYTES), 6, 5);
    /* the whole word before any merge */
    assert_small(&ctx, " a abd",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .model =
                           "{\"ignore_merges\":true,\"vocab\":{\"a\":1,\"b\":2,\"d\":3,\"\\u0120\":5,\"\\u0120a\":8,"
                           "\"\\u0120abd\":9},\"merges\":[]}"),
                 8, 9);
    /* a merge that is there twice has the later rank; equal products: an entry for one is good for the other */
    assert_small(&ctx, "abc",
                 PARTS(.pre_tokenizer = SMALL_BYTES, .model = "{\"vocab\":{\"a\":1,\"b\":2,\"c\":3,\"ab\":4,\"bc\":5},"
                                                              "\"merges\":[\"a b\",\"b c\",\"a b\"]}"),
                 1, 5);
}

static void long_words(void **state)
{
    /* steps grow like n log n */
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    tern_ids ids = { 0 };
    uint64_t steps[2];

    (void)state;
    assert_ok(&ctx, small_open(&ctx,
                               PARTS(.pre_tokenizer = SMALL_NO_RULE,
                                     .model = "{\"vocab\":{\"a\":0,\"aa\":1,\"aaaa\":2,\"aaaaaaaa\":3},\"merges\":"
                                              "[\"a a\",\"aa aa\",\"aaaa aaaa\"]}"),
                               &t));
    for (int i = 0; i < 2; i++) {
        const size_t size = i ? 1u << 20 : 1u << 16;
        char *text = malloc(size);

        memset(text, 'a', size);
        assert_ok(&ctx, tern_tokenizer_encode_counted(&ctx, t, text, size, true, &ids, &steps[i]));
        assert_int_equal(ids.count, size / 8);
        for (size_t k = 0; k < ids.count; k++)
            assert_int_equal(ids.data[k], 3);
        assert_true(steps[i] < (uint64_t)size * 4 * 20);
        free(text);
    }
    assert_true(steps[1] < steps[0] * 16 * 2);
    tern_ids_free(&ids);
    tern_tokenizer_close(&t);
}

static void short_and_long_ways_agree(void **state)
{
    /* the same words through the scan, the heap and the cache: a vocabulary with equal products never scans */
    static const char one_way[] = "{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"ba\":3,\"abba\":4,\"aa\":5},"
                                  "\"merges\":[\"b a\",\"a b\",\"ab ba\",\"a a\"]}";
    static const char heap_only[] = "{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"ba\":3,\"abba\":4,\"aa\":5,\"x\":6,\"y\":7,"
                                    "\"xy\":8,\"xyx\":9,\"yx\":10},\"merges\":[\"b a\",\"a b\",\"ab ba\",\"a a\","
                                    "\"x y\",\"y x\",\"xy x\",\"x yx\"]}";
    tern_ctx ctx = { 0 };
    tern_tokenizer *scan, *heap;
    tern_ids a = { 0 }, b = { 0 };
    uint64_t seed = 3;

    (void)state;
    assert_ok(&ctx, small_open(&ctx, PARTS(.pre_tokenizer = SMALL_BYTES, .model = one_way), &scan));
    assert_ok(&ctx, small_open(&ctx, PARTS(.pre_tokenizer = SMALL_BYTES, .model = heap_only), &heap));
    assert_true(scan->model.bpe.one_way && !heap->model.bpe.one_way);
    for (int round = 0; round < 300; round++) {
        char text[4096];
        const size_t size = 1 + (size_t)(test_random(&seed) % (round % 3 ? 60 : sizeof text));

        for (size_t i = 0; i < size; i++)
            text[i] = "abababababab!"[test_random(&seed) % (round % 2 ? 13 : 12)];
        assert_ok(&ctx, tern_tokenizer_encode(&ctx, scan, text, size, true, &a));
        assert_ok(&ctx, tern_tokenizer_encode(&ctx, heap, text, size, true, &b));
        assert_int_equal(a.count, b.count);
        assert_memory_equal(a.data, b.data, a.count * sizeof *a.data);
    }
    tern_ids_free(&a);
    tern_ids_free(&b);
    tern_tokenizer_close(&scan);
    tern_tokenizer_close(&heap);
}

static void added_tokens(void **state)
{
    tern_ctx ctx = { 0 };

    (void)state;
    /* ids follow the vocabulary, whatever the file says; the longest match at the leftmost place */
    assert_small(&ctx, "a<x><xy>b",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .added = "[" AT("10", "<x", PLAIN) "," AT("40", "<x>", PLAIN) "," AT("11", "<xy>", PLAIN) "]"),
                 1, 11, 12, 2);
    /* a token of the vocabulary keeps its id */
    assert_small(&ctx, "dabc", PARTS(.pre_tokenizer = SMALL_BYTES, .added = "[" AT("6", "ab", PLAIN) "]"), 4, 6, 3);
    assert_small(&ctx, "ab dab ab",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .added = "[" AT("10", "ab", FLAGS("true", "false", "false", "false", "false")) "]"),
                 6, 5, 4, 6, 5, 6);
    /* white space around it goes, on the sides that are asked for */
    assert_small(&ctx, "a \n<x> b<x>",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .added = "[" AT("10", "<x>", FLAGS("false", "true", "false", "false", "false")) "]"),
                 1, 10, 5, 2, 10);
    assert_small(&ctx, " <x> \xC2\xA0 b",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .added = "[" AT("10", "<x>", FLAGS("false", "false", "true", "false", "true")) "]"),
                 5, 10, 2);
    /* a match inside of white space that is gone is none; one that reaches out of it is */
    assert_small(&ctx, "   ",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .added = "[" AT("10", " ", FLAGS("false", "true", "true", "false", "false")) "]"),
                 10);
    /* normalized ones are found in the normalised text, in their normalised form */
    assert_small(&ctx, "ABaB",
                 PARTS(.pre_tokenizer = SMALL_BYTES, .normalizer = "{\"type\":\"Lowercase\"}",
                       .added = "[" AT("10", "BA", FLAGS("false", "false", "false", "true", "false")) "]"),
                 1, 10, 2);
    assert_small(&ctx, "ABaB",
                 PARTS(.pre_tokenizer = SMALL_BYTES, .normalizer = "{\"type\":\"Lowercase\"}",
                       .added = "[" AT("10", "Ba", PLAIN) "]"),
                 1, 10, 2);
    assert_small(&ctx, "",
                 PARTS(.pre_tokenizer = SMALL_BYTES, .added = "[" AT("10", "", PLAIN) "," AT("10", "", PLAIN) "]"),
                 SMALL_END);
}

#define SPLIT(pattern, behavior, invert)                                                                               \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{" pattern "},\"behavior\":\"" behavior \
    "\",\"invert\":" invert "}," SMALL_NO_RULE "]}"

static void pre_tokenizers(void **state)
{
    tern_ctx ctx = { 0 };
    static const char prefix[] =
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}";

    (void)state;
    assert_small(&ctx, "a", PARTS(.pre_tokenizer = prefix), 8);
    assert_small(&ctx, " a", PARTS(.pre_tokenizer = prefix), 8);
    assert_small(&ctx, "", PARTS(.pre_tokenizer = prefix), SMALL_END);
    assert_small(&ctx, "a<x>a", PARTS(.pre_tokenizer = prefix, .added = "[" AT("10", "<x>", PLAIN) "]"), 8, 10, 8);

    /* ab|c: where the cut falls shows in the merges */
    assert_small(&ctx, "abcabc", PARTS(.pre_tokenizer = SPLIT("\"String\":\"c\"", "Isolated", "false")), 6, 3, 6, 3);
    assert_small(&ctx, "abcabc", PARTS(.pre_tokenizer = SPLIT("\"Regex\":\"b\"", "Isolated", "false")), 1, 2, 3, 1, 2,
                 3);
    assert_small(&ctx, "abcabc", PARTS(.pre_tokenizer = SPLIT("\"String\":\"c\"", "Removed", "false")), 6, 6);
    assert_small(&ctx, "abcabc", PARTS(.pre_tokenizer = SPLIT("\"String\":\"c\"", "Removed", "true")), 3, 3);
    assert_small(&ctx, "abcabc", PARTS(.pre_tokenizer = SPLIT("\"String\":\"c\"", "MergedWithPrevious", "false")), 7,
                 7);
    assert_small(&ctx, "abccab", PARTS(.pre_tokenizer = SPLIT("\"String\":\"b\"", "MergedWithPrevious", "false")), 6, 3,
                 3, 6);
    assert_small(&ctx, "abab", PARTS(.pre_tokenizer = SPLIT("\"String\":\"a\"", "MergedWithNext", "false")), 6, 6);
    assert_small(&ctx, "baab", PARTS(.pre_tokenizer = SPLIT("\"String\":\"a\"", "MergedWithNext", "false")), 2, 1, 6);
    assert_small(&ctx, "abcabd", PARTS(.pre_tokenizer = SPLIT("\"Regex\":\"[ab]\"", "Contiguous", "false")), 6, 3, 6,
                 4);
    /* what follows ByteLevel sees its characters: U+0120 for a space */
    assert_small(&ctx, " a",
                 PARTS(.pre_tokenizer =
                           "{\"type\":\"Sequence\",\"pretokenizers\":[" SMALL_NO_RULE
                           ",{\"type\":\"Split\",\"pattern\":{\"String\":\"\\u0120\"},\"behavior\":\"Isolated\","
                           "\"invert\":false}]}"),
                 5, 1);
}

#define TEMPLATE                                                                                                 \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"S\",\"type_id\":0}},"              \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"E\",\"type_id\":0}}],\"pair\":[],"  \
    "\"special_tokens\":{\"S\":{\"id\":\"S\",\"ids\":[4],\"tokens\":[\"d\"]},\"E\":{\"id\":\"E\",\"ids\":[0,4]," \
    "\"tokens\":[]}}}"

static void post_processors(void **state)
{
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    tern_ids ids = { 0 };

    (void)state;
    assert_small(&ctx, "ab", PARTS(.pre_tokenizer = SMALL_BYTES, .post_processor = TEMPLATE), 4, 6, 0, 4);
    assert_small(&ctx, "", PARTS(.pre_tokenizer = SMALL_BYTES, .post_processor = TEMPLATE), 4, 0, 4);
    assert_small(&ctx, "ab",
                 PARTS(.pre_tokenizer = SMALL_BYTES,
                       .post_processor =
                           "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                           "\"trim_offsets\":false,\"use_regex\":true}," TEMPLATE "]}"),
                 4, 6, 0, 4);
    assert_ok(&ctx, small_open(&ctx, PARTS(.pre_tokenizer = SMALL_BYTES, .post_processor = TEMPLATE), &t));
    assert_ok(&ctx, tern_tokenizer_encode(&ctx, t, "ab", 2, false, &ids));
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.data[0], 6);
    tern_ids_free(&ids);
    tern_tokenizer_close(&t);
}

static void decoding(void **state)
{
    static const char bytes_model[] = "{\"vocab\":{\"\\u00e2\":0,\"\\u0124\":1,\"\\u00ac\":2,\"a\":3},\"merges\":[]}";
    static const char replaced_a[] = { (char)0xEF, (char)0xBF, (char)0xBD, 'a', 0 };
    static const int32_t euro[] = { 3, 0, 1, 2, 3, 0, 1, 3, 0 };
    const char *const pieces[] = { "a", "", "", "\xE2\x82\xAC", "a", "", "", replaced_a, "" };
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    tern_decoder *decoder;
    const char *piece;
    char *text;
    size_t size;

    (void)state;
    assert_ok(&ctx,
              small_open(&ctx,
                         PARTS(.pre_tokenizer = SMALL_BYTES, .decoder = SMALL_BYTES, .model = bytes_model,
                               .added = "[" AT("4", "<s>", FLAGS("false", "false", "false", "false", "true")) "]"),
                         &t));
    assert_int_equal(tern_tokenizer_vocab_size(t), 5);
    assert_ok(&ctx, tern_decoder_create(&ctx, t, false, &decoder));
    for (size_t i = 0; i < sizeof euro / sizeof *euro; i++) {
        assert_ok(&ctx, tern_decoder_push(&ctx, decoder, euro[i], &piece, &size));
        assert_string_equal(piece, pieces[i]);
        assert_int_equal(size, strlen(pieces[i]));
    }
    assert_fails(&ctx, tern_decoder_push(&ctx, decoder, 5, &piece, &size), TERN_ERR_ARG, "5");
    assert_ok(&ctx, tern_decoder_finish(&ctx, decoder, &piece, &size));
    assert_string_equal(piece, "\xEF\xBF\xBD");
    tern_decoder_destroy(&decoder);
    tern_decoder_destroy(&decoder);

    assert_ok(&ctx, tern_tokenizer_decode(&ctx, t, (int32_t[]){ 3, 4, 3 }, 3, false, &text, &size));
    assert_string_equal(text, "a<s>a");
    tern_text_free(text);
    assert_ok(&ctx, tern_tokenizer_decode(&ctx, t, (int32_t[]){ 3, 4, 3 }, 3, true, &text, NULL));
    assert_string_equal(text, "aa");
    tern_text_free(text);
    assert_ok(&ctx, tern_tokenizer_decode(&ctx, t, NULL, 0, true, &text, &size));
    assert_string_equal(text, "");
    tern_text_free(text);
    assert_fails(&ctx, tern_tokenizer_decode(&ctx, t, (int32_t[]){ 3, -1 }, 2, true, &text, &size), TERN_ERR_ARG, "-1");
    assert_null(text);
    assert_fails(&ctx, tern_tokenizer_token(&ctx, t, 5, &piece, &size, NULL), TERN_ERR_ARG, "token id 5");
    assert_int_equal(tern_tokenizer_find(t, "<s>"), 4);
    assert_int_equal(tern_tokenizer_find(t, "nothing"), -1);
    tern_tokenizer_close(&t);

    /* no decoder: a space between tokens; ids without a token add nothing */
    assert_ok(&ctx, small_open(&ctx, PARTS(.model = "{\"vocab\":{\"a\":0,\"b\":2},\"merges\":[]}"), &t));
    assert_ok(&ctx, tern_tokenizer_decode(&ctx, t, (int32_t[]){ 0, 1, 2 }, 3, false, &text, &size));
    assert_string_equal(text, "a b");
    tern_text_free(text);
    tern_tokenizer_close(&t);
    tern_tokenizer_close(&t);
    tern_tokenizer_close(NULL);
}

static void bad_text(void **state)
{
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    tern_ids ids = { 0 };

    (void)state;
    assert_ok(&ctx, small_open(&ctx, PARTS(.pre_tokenizer = SMALL_BYTES), &t));
    assert_ok(&ctx, tern_tokenizer_encode(&ctx, t, "ab", 2, true, &ids));
    assert_fails(&ctx, tern_tokenizer_encode(&ctx, t, "abc\xFF", 4, true, &ids), TERN_ERR_FORMAT, "offset 3 of 4");
    assert_fails(&ctx, tern_tokenizer_encode(&ctx, t, NULL, 4, true, &ids), TERN_ERR_ARG, "");
    assert_int_equal(ids.count, 1); /* as it was */
    assert_int_equal(ids.data[0], 6);
    assert_ok(&ctx, tern_tokenizer_encode(&ctx, t, "a\0b", 3, true, &ids)); /* a NUL is a byte like others */
    assert_int_equal(ids.count, 2);
    assert_ok(&ctx, tern_tokenizer_encode(&ctx, t, NULL, 0, true, &ids));
    assert_int_equal(ids.count, 0);
    tern_ids_free(&ids);
    tern_ids_free(NULL);
    tern_tokenizer_close(&t);

    assert_ok(&ctx, small_open(&ctx,
                               PARTS(.pre_tokenizer = SMALL_BYTES,
                                     .model = "{\"unk_token\":\"<none>\"," SMALL_VOCAB "," SMALL_MERGES "}"),
                               &t));
    assert_ids(&ctx, t, "ab", 6);
    assert_fails(&ctx, tern_tokenizer_encode(&ctx, t, "x", 1, true, &ids), TERN_ERR_FORMAT, "<none>");
    tern_tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes),
        cmocka_unit_test(byte_alphabet),
        cmocka_unit_test(gpt2_pieces),
        cmocka_unit_test(gpt2_is_its_pattern),
        cmocka_unit_test(pattern_language),
        cmocka_unit_test(long_runs_are_matched),
        cmocka_unit_test(normal_forms),
        cmocka_unit_test(patterns_give_up),
        cmocka_unit_test(merges),
        cmocka_unit_test(long_words),
        cmocka_unit_test(short_and_long_ways_agree),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(pre_tokenizers),
        cmocka_unit_test(post_processors),
        cmocka_unit_test(decoding),
        cmocka_unit_test(bad_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
