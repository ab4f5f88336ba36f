/* test_text_costs.c: a text of any size costs n log n steps on every way that it can go: a single line of characters that
 * are hard for one part or another, through every committed tokenizer, there and back.
 *
 * TERN_TOKENIZERS_FULL in the environment: up to 4 MiB instead of 128 KiB. */
#include "testing.h"

#include "base/json.h"
#include "text/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TERN_SOURCE_DIR "/tests/golden/tokenizers/"

/* Steps for each byte and doubling of the size: 16 normalizers and pre-tokenizers read and write a text at most a few
 * times each, a heap takes two steps a level. */
#define EACH 8.0

/* What a line is made of. */
static const char *const units[] = {
    " ",                /* no word */
    "a",                /* one word */
    "\xCC\x81\xCC\x96", /* marks out of order, in one run */
    "abcdefghijklmnop", /* no spaces */
    "a b1.,",           /* words without end */
    "\xE6\x97\xA5\xE6\x9C\xAC",
    "!",
    "'",
    "<s",           /* nearly an added token */
    "\xEF\xB7\xBA", /* one character that becomes 18 */
    "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8",
    "\xF0\x9F\x91\xA8\xE2\x80\x8D", /* one grapheme */
    "\xE2\x96\x81",
};
#define N_UNITS (sizeof units / sizeof *units)

static char *line_of(const char *unit, size_t size)
{
    const size_t length = strlen(unit);
    char *text = malloc(size + length);

    assert_non_null(text);
    for (size_t at = 0; at < size; at += length)
        memcpy(text + at, unit, length);
    return text;
}

static double log_2(size_t n)
{
    double result = 0;

    for (; n > 1; n /= 2)
        result++;
    return result;
}

/* There and back: steps of encoding, and bytes that decoders had to do with, for each byte of the text and of the tokens'
 * texts; both in units of n log n. */
static void costs_of(tern_ctx *ctx, const struct tern_tokenizer *t, const char *unit, size_t size, double *there,
                     double *back)
{
    const size_t n = size / strlen(unit) * strlen(unit);
    struct tern_decode_run run = { .chain = &t->chain };
    tern_ids ids = { 0 };
    char *text = line_of(unit, n);
    uint64_t steps;
    size_t bytes = 1;

    assert_ok(ctx, tern_tokenizer_encode_counted(ctx, t, text, n, true, &ids, &steps));
    for (size_t i = 0; i < ids.count; i++) {
        const struct tern_token *token = &t->tokens[ids.data[i]];

        bytes += token->size + 1;
        if (t->decoder == TERN_DECODE_CHAIN)
            assert_ok(ctx, tern_decode_run_push(ctx, &run, t->bytes + token->begin, token->size));
    }
    assert_ok(ctx, tern_decode_run_finish(ctx, &run));
    *there = (double)steps / ((double)n * log_2(n));
    *back = (double)run.n_bytes / ((double)bytes * log_2(bytes));
    tern_decode_run_destroy(&run);
    tern_ids_free(&ids);
    free(text);
}

static void check_tokenizer(tern_ctx *ctx, const char *name, double *most_there, double *most_back)
{
    const size_t first = getenv("TERN_TOKENIZERS_FULL") ? (size_t)1 << 20 : (size_t)1 << 15;
    tern_tokenizer *t;
    char path[512];

    snprintf(path, sizeof path, GOLDEN "%s.json", name);
    assert_ok(ctx, tern_tokenizer_open(ctx, path, &t));
    for (size_t u = 0; u < N_UNITS; u++)
        for (size_t size = first; size <= 4 * first; size *= 2) {
            double there, back;

            costs_of(ctx, t, units[u], size, &there, &back);
            *most_there = there > *most_there ? there : *most_there;
            *most_back = back > *most_back ? back : *most_back;
            if (there > EACH || back > EACH)
                fail_msg("%s, %zu bytes of '%s': %.1f n log n steps there and %.1f back, at most %.1f", name, size,
                         units[u], there, back, EACH);
        }
    tern_tokenizer_close(&t);
}

static void a_line_costs_n_log_n(void **state)
{
    tern_ctx ctx = { 0 };
    struct tern_json *digests;
    double there = 0, back = 0;

    (void)state;
    assert_ok(&ctx, tern_json_read(&ctx, GOLDEN "digests.json", 1 << 26, &digests));
    const tern_json_value *root = tern_json_root(digests);
    for (void *it = tern_json_iter(root); it; it = tern_json_next(root, it)) {
        size_t length;
        const char *name = tern_json_iter_key(it, &length);

        if (!strchr(name, '/'))
            check_tokenizer(&ctx, name, &there, &back);
    }
    print_message("at most %.2f n log n steps there, %.2f back\n", there, back);
    tern_json_destroy(digests);
}

/* ---- the expressions of vocabularies in use ---------------------------------------------------------------------- */

/* Items that a walk over all of a text comes to, and the bytes of its matches. */
static uint64_t walk(tern_ctx *ctx, const char *regex, const char *text, size_t size)
{
    struct tern_pattern_walk w = { text, size, 0, SIZE_MAX, 0 };
    struct tern_pattern *pattern;
    struct tern_pattern_match *match;
    uint64_t steps = 0;
    size_t begin, end;
    bool found = true;

    assert_ok(ctx, tern_pattern_create_counting(ctx, regex, strlen(regex), "test", &steps, &pattern));
    assert_ok(ctx, tern_pattern_match_create(ctx, &match));
    while (found) {
        assert_ok(ctx, tern_pattern_next(ctx, pattern, match, &w, &found, &begin, &end));
        steps += found ? end - begin : 0;
    }
    tern_pattern_match_destroy(match);
    tern_pattern_destroy(pattern);
    return steps;
}

static void expressions_cost_n(void **state)
{
    static const struct {
        const char *of, *regex;
    } expressions[] = {
        { "GPT-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" },
        { "cl100k", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
        { "o200k", "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|"
                   "'re|'ve|'m|'ll|'d)?|"
                   "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|"
                   "'re|'ve|'m|'ll|'d)?|"
                   "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
        { "Qwen 2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
        { "DeepSeek 3",
          "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
          "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
        { "BLOOM", " ?[^(\\s|[.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C])]+" },
        { "CLIP",
          "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+" },
    };
    const size_t size = 1 << 14;
    tern_ctx ctx = { 0 };
    uint64_t most = 0;

    (void)state;
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++)
        for (size_t u = 0; u < N_UNITS; u++)
            for (int end = 0; end < 2; end++) { /* with a letter behind the line, too: white space gives a space back */
                const size_t n = size / strlen(units[u]) * strlen(units[u]);
                char *text = line_of(units[u], n);

                text[n - 1] = end ? 'x' : text[n - 1];
                if (end && (unsigned char)units[u][0] >= 0x80) { /* not into a character */
                    free(text);
                    continue;
                }
                const uint64_t steps = walk(&ctx, expressions[i].regex, text, n);
                most = steps > most ? steps : most;
                if (steps > 32 * n)
                    fail_msg("%s, %zu bytes of '%s': %llu steps, expected at most 32 for each", expressions[i].of, n,
                             units[u], (unsigned long long)steps);
                free(text);
            }
    print_message("at most %.1f steps for each byte\n", (double)most / (double)size);
}

/* The counting itself: one that is quadratic shows. */
static void counting_sees_squares(void **state)
{
    tern_ctx ctx = { 0 };
    char *text = line_of("a", 4096);

    (void)state;
    assert_true(walk(&ctx, "(?:a|b)+x|a", text, 4096) > (uint64_t)4096 * 4096 / 2);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_line_costs_n_log_n), cmocka_unit_test(expressions_cost_n),
                                        cmocka_unit_test(counting_sees_squares) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
