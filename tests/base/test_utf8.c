/* test_utf8.c: UTF-8 checked, stepped through, replaced and cut. */
#include "testing.h"

#include "base/utf8.h"

#include <string.h>

static void checks(void **state)
{
    static const struct {
        const char *text;
        size_t bad; /* the whole length: good */
    } cases[] = {
        { "", 0 },
        { "plain text, longer than eight bytes", 35 },
        { "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 25 },
        { "12345678\x80", 8 },
        { "a\xC0\x80", 1 },
        { "a\xC1\xBF", 1 },
        { "ab\xE0\x9F\xBF", 2 },
        { "\xED\xA0\x80", 0 }, /* a surrogate */
        { "\xF0\x8F\xBF\xBF", 0 },
        { "\xF4\x90\x80\x80", 0 },
        { "\xF5\x80\x80\x80", 0 },
        { "ok\xE2\x82", 2 },
        { "\xC3\xA9\xC3", 2 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t size = strlen(cases[i].text);
        size_t bad = size;

        assert_int_equal(tern_utf8_check(cases[i].text, size, &bad), cases[i].bad == size);
        assert_int_equal(bad, cases[i].bad);
    }
    for (uint32_t code = 0; code < 0x110000; code++) {
        char text[TERN_UTF8_MAX];
        size_t at = 0, bad;
        const size_t size = tern_utf8_put(code, text);

        assert_int_equal(tern_utf8_check(text, size, &bad), code < 0xD800 || code > 0xDFFF);
        assert_int_equal(tern_utf8_next(text, &at), code);
        assert_int_equal(at, size);
        assert_int_equal(tern_utf8_previous(text, &at), code);
        assert_int_equal(at, 0);
    }
}

static void replaces(void **state)
{
    /* Unicode 15, section 3.9, tables 3-8 to 3-11, with r for U+FFFD */
    static const struct {
        const char *in, *out;
    } cases[] = {
        { "a\xC0\xAF\xE0\x80\xBF\xF0\x81\x82z", "arrrrrrrrz" },
        { "\xED\xA0\x80\xED\xBF\xBF\xED\xAFz", "rrrrrrrrz" },
        { "\xF4\x91\x92\x93\xFFz\x80\xBF", "rrrrrzrr" },
        { "\xE1\x80\xE2\xF0\x91\x92\xF1\xBFz", "rrrrz" },
        { "\xF0\x9F\x98", "r" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t size = strlen(cases[i].in);
        char want[128], got[128];
        size_t n = 0, used, written;

        for (const char *c = cases[i].out; *c; c++) {
            if (*c == 'r') {
                memcpy(want + n, "\xEF\xBF\xBD", 3);
                n += 3;
            } else {
                want[n++] = *c;
            }
        }
        written = tern_utf8_lossy(cases[i].in, size, true, got, &used);
        assert_int_equal(used, size);
        assert_int_equal(written, n);
        assert_memory_equal(got, want, n);

        /* cut anywhere, with the rest handed in again */
        for (size_t cut = 0; cut <= size; cut++) {
            written = tern_utf8_lossy(cases[i].in, cut, false, got, &used);
            assert_true(used <= cut && cut - used < TERN_UTF8_MAX);
            const size_t first = used;
            written += tern_utf8_lossy(cases[i].in + first, size - first, true, got + written, &used);
            assert_int_equal(written, n);
            assert_memory_equal(got, want, n);
        }
    }
}

/* A text that was cut somewhere loses what is left of the character there, and nothing else. */
static void uncuts(void **state)
{
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    static const size_t want[] = { 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11 };

    (void)state;
    for (size_t n = 0; n < sizeof text; n++)
        assert_int_equal(tern_utf8_uncut(text, n), want[n]);
    /* what is no character anyway stays */
    assert_int_equal(tern_utf8_uncut("ab\x80", 3), 3);
    assert_int_equal(tern_utf8_uncut("\x80\x80\x80\x80", 4), 4);
    assert_int_equal(tern_utf8_uncut("a\xE0\x80", 3), 3);
    assert_int_equal(tern_utf8_uncut("a\xFF", 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks),
        cmocka_unit_test(replaces),
        cmocka_unit_test(uncuts),
    };
    return cmocka_run_group_tests_name("base/utf8", tests, NULL, NULL);
}
