/* test_stops.c: stop strings found as text arrives, compared with a search of the whole text. */
#include "faults.h"

#include "engine/stops.h"

#include <string.h>

static tern_ctx *ctx;

/* The definition: the first position at which a string ends; of those that end there the longest. */
static bool search(const char *const *strings, size_t n, const char *text, size_t size, size_t *end, size_t *length)
{
    for (*end = 1; *end <= size; (*end)++) {
        *length = 0;
        for (size_t i = 0; i < n; i++) {
            const size_t l = strlen(strings[i]);
            if (l <= *end && l > *length && memcmp(text + *end - l, strings[i], l) == 0)
                *length = l;
        }
        if (*length > 0)
            return true;
    }
    return false;
}

/* Longest end of the text that begins a string. */
static size_t held(const char *const *strings, size_t n, const char *text, size_t size)
{
    size_t longest = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t l = 1; l < strlen(strings[i]) && l <= size; l++)
            if (l > longest && memcmp(text + size - l, strings[i], l) == 0)
                longest = l;
    return longest;
}

static void check(const char *const *strings, size_t n, const char *text, uint64_t *seed)
{
    struct tern_stops *stops;
    const size_t size = strlen(text);
    size_t want_end, want_length, end = 0, length = 0, done = 0;
    bool found = false;

    const bool want = search(strings, n, text, size, &want_end, &want_length);
    assert_ok(ctx, tern_stops_create(ctx, strings, n, &stops));
    while (done < size && !found) {
        size_t k = test_random(seed) % 4;
        k = k < size - done ? k : size - done;
        found = tern_stops_read(stops, text + done, k, &end, &length);
        if (found)
            end += done;
        done += k;
        if (!found)
            assert_int_equal(tern_stops_held(stops), held(strings, n, text, done));
    }
    assert_int_equal(found, want);
    if (want) {
        assert_int_equal(end, want_end);
        assert_int_equal(length, want_length);
    }
    tern_stops_destroy(&stops);
    assert_null(stops);
}

static void test_cases(void **state)
{
    (void)state;
    uint64_t seed = 1;
    static const char *const borders[] = { "aabaaab", "abaabaaa" };
    static const char *const nested[] = { "cd", "abcd", "bcdef" };
    static const char *const characters[] = { "\xe2\x82\xac", "\xc3\xa9\n" };

    for (int i = 0; i < 50; i++) {
        check(borders, 2, "aabaabaaabaabaaa", &seed);
        check(borders, 2, "abaabaabaaab", &seed);
        check(nested, 3, "xxabcdef", &seed);
        check(nested, 3, "xxabcxcd", &seed);
        check(nested, 3, "abcabcabc", &seed);
        check(characters, 2, "1 \xe2\x82\xa9, 2 \xc3\xa9, 3 \xe2\x82\xac", &seed);
        check(NULL, 0, "anything", &seed);
    }
}

/* All strings of two letters are full of borders. */
static void test_random_texts(void **state)
{
    (void)state;
    uint64_t seed = 2;

    for (int round = 0; round < 3000; round++) {
        char text[64], words[3][12];
        const char *strings[3];
        const size_t n = test_random(&seed) % 3 + 1, size = test_random(&seed) % 60;

        for (size_t i = 0; i < size; i++)
            text[i] = test_random(&seed) % 2 ? 'a' : 'b';
        text[size] = '\0';
        for (size_t w = 0; w < n; w++) {
            const size_t l = test_random(&seed) % 9 + 3;
            for (size_t i = 0; i < l; i++)
                words[w][i] = test_random(&seed) % 2 ? 'a' : 'b';
            words[w][l] = '\0';
            strings[w] = words[w];
        }
        check(strings, n, text, &seed);
    }
}

static void test_errors(void **state)
{
    (void)state;
    static const char *const empty[] = { "a", "" }, *const null[] = { NULL }, *const bad[] = { "ok\xff" };
    struct tern_stops *stops;

    assert_fails(ctx, tern_stops_create(ctx, empty, 2, &stops), TERN_ERR_ARG, "stop string 1 is empty");
    assert_fails(ctx, tern_stops_create(ctx, null, 1, &stops), TERN_ERR_ARG, "stop string 0 is NULL");
    assert_fails(ctx, tern_stops_create(ctx, bad, 1, &stops), TERN_ERR_ARG, "at byte 2");
    assert_fails(ctx, tern_stops_create(ctx, NULL, 1, &stops), TERN_ERR_ARG, "n_stop is 1");
    assert_null(stops);
}

static void test_every_failure(void **state)
{
    (void)state;
    FAULT_NEEDED;
    static const char *const strings[] = { "one", "two" };
    struct tern_stops *stops = NULL;

    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_stops_create(ctx, strings, 2, &stops);
        FAULT_DONE(n, ctx, status, stops);
        tern_stops_destroy(&stops);
    }
    tern_stops_destroy(&stops);
}

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_every_failure),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
