/* test_json.c: the JSON reader, against cases of our own and against the test suite of others. */
#include "faults.h"

#include "base/json.h"
#include "base/memory.h"

#include <dirent.h>
#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tern_status parse(struct tern_ctx *ctx, const char *text, struct tern_json **out)
{
    return tern_json_parse(ctx, text, strlen(text), "a.json", out);
}

static void values(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;
    size_t length;

    (void)state;
    assert_ok(&ctx, parse(&ctx,
                          " {\"z\":[1,-2.5,\"\\u00e9\\ud83d\\ude00\\u0000x\",true,false,null],\n\"a\":{}, \"big\":"
                          "-9223372036854775808}\n",
                          &json));
    const tern_json_value *root = tern_json_root(json), *z = tern_json_get(root, "z");
    assert_string_equal(tern_json_where(json), "a.json");
    assert_int_equal(tern_json_type(root), TERN_JSON_OBJECT);
    assert_int_equal(tern_json_size(root), 3);
    assert_int_equal(tern_json_size(z), 6);
    assert_int_equal(tern_json_int(tern_json_at(z, 0)), 1);
    assert_true(tern_json_number(tern_json_at(z, 1)) == -2.5);
    assert_true(tern_json_number(tern_json_at(z, 0)) == 1.0);
    assert_memory_equal(tern_json_string(tern_json_at(z, 2), &length), "\xC3\xA9\xF0\x9F\x98\x80\0x", 8);
    assert_int_equal(length, 8);
    assert_true(tern_json_bool(tern_json_at(z, 3)));
    assert_false(tern_json_bool(tern_json_at(z, 4)));
    assert_int_equal(tern_json_type(tern_json_at(z, 5)), TERN_JSON_NULL);
    assert_null(tern_json_at(z, 6));
    assert_null(tern_json_at(root, 0));
    assert_null(tern_json_get(z, "z"));
    assert_null(tern_json_get(NULL, "z"));
    assert_int_equal(tern_json_size(NULL), 0);
    assert_true(tern_json_int(tern_json_get(root, "big")) == INT64_MIN);
    assert_string_equal(tern_json_type_name(z), "an array");
    assert_string_equal(tern_json_type_name(NULL), "nothing");

    /* In the order of the file. */
    static const char *const keys[] = { "z", "a", "big" };
    size_t i = 0;
    for (void *it = tern_json_iter(root); it; it = tern_json_next(root, it)) {
        assert_string_equal(tern_json_iter_key(it, &length), keys[i]);
        assert_int_equal(length, strlen(keys[i]));
        assert_ptr_equal(tern_json_iter_value(it), tern_json_get(root, keys[i++]));
    }
    assert_int_equal(i, 3);
    tern_json_destroy(json);
    tern_json_destroy(NULL);
}

static void refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "", "a.json: line 1, column 1: the text ends, expected a value" },
        { "{\"a\": 1,\n  \"b\" 2}", "line 2, column 7: got '2', expected ':'" },
        { "[1,\n\n ]", "line 3, column 2: got ']', expected a value" },
        { "[1 2]", "got '2', expected ',' or ']'" },
        { "{\"a\":1 \"b\"", "got '\"', expected ',' or '}'" },
        { "{a:1}", "got 'a', expected a key in quotes" },
        { "{\"a\":1,}", "got '}', expected a key in quotes" },
        { "[1] x", "got 'x', expected the end of the text" },
        { "tru", "got 't', expected a value" },
        { "NaN", "got 'N', expected a value" },
        { "01", "got '1', expected the end of the text" },
        { "-", "the text ends, expected a digit" },
        { "1.", "expected a digit after the decimal point" },
        { "1e+", "expected a digit in the exponent" },
        { "\"abc", "the text ends, expected the closing quote of a string" },
        { "\"a\nb\"", "got byte 0x0A, expected no bare control character in a string" },
        { "\"\\x\"", "expected an escape" },
        { "\"\\u12g4\"", "got 'g', expected four hexadecimal digits" },
        { "\"\xC0\x80\"", "got byte 0xC0, expected UTF-8" },
        { "\"\xED\xA0\x80\"", "got byte 0xED, expected UTF-8" },
        { "\"\\ud800\"", "column 2: the first half of a surrogate pair" },
        { "\"\\ude00\"", "column 2: the second half of a surrogate pair" },
        { "\"\\ud800\\u0041\"", "the first half of a surrogate pair" },
        { "{\"key\":1,\"k\\u0065y\":2}", "column 10: the key \"key\" is there twice" },
        { "{\"ab\\u0000c\":1}", "column 2: the key that starts with \"ab\" contains a NUL" },
        { "[1e400]", "a number beyond the range of a double" },
        { "\xEF\xBB\xBF{}", "got byte 0xEF, expected a value" },
    };
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_fails(&ctx, parse(&ctx, cases[i].text, &json), TERN_ERR_FORMAT, cases[i].message);
        assert_null(json);
    }
}

/* Hugging Face's tools write model_max_length with 31 digits where there is no limit. */
static void large_integers(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = { { "1000000000000000019884624838656", 1e30 },
                  { "9223372036854775808", 9223372036854775808.0 },
                  { "-9223372036854775809", -9223372036854775808.0 } };
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = strlen(cases[i].text);
        assert_ok(&ctx, tern_json_parse(&ctx, cases[i].text, n, "x", &json));
        assert_int_equal(tern_json_type(tern_json_root(json)), TERN_JSON_REAL);
        assert_true(tern_json_number(tern_json_root(json)) == cases[i].value);
        tern_json_destroy(json);
        assert_fails(&ctx, tern_json_parse_with(&ctx, cases[i].text, n, "x", TERN_JSON_EXACT, &json), TERN_ERR_FORMAT,
                     "an integer beyond 64 bits");
    }
}

static void duplicates(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;

    (void)state;
    assert_ok(&ctx, tern_json_parse_with(&ctx, "{\"a\":1,\"b\":0,\"a\":[2]}", 21, "x", TERN_JSON_LAST_WINS, &json));
    assert_int_equal(tern_json_size(tern_json_root(json)), 2);
    assert_int_equal(tern_json_int(tern_json_at(tern_json_get(tern_json_root(json), "a"), 0)), 2);
    tern_json_destroy(json);
}

static void depth(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;
    const size_t huge = 1000000;
    char *text = malloc(huge);

    (void)state;
    assert_non_null(text);
    memset(text, '[', TERN_JSON_DEPTH);
    memset(text + TERN_JSON_DEPTH, ']', TERN_JSON_DEPTH);
    assert_ok(&ctx, tern_json_parse(&ctx, text, 2 * TERN_JSON_DEPTH, "deep", &json));
    tern_json_destroy(json);
    memset(text, '[', huge);
    assert_fails(&ctx, tern_json_parse(&ctx, text, huge, "deep", &json), TERN_ERR_FORMAT,
                 "nested deeper than 64 levels");
    free(text);
}

static void host_settings(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;

    (void)state;
    /* Where the host's locale writes 1,5 the files still say 1.5; a rounding mode of the host does not matter either. */
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8"))
        setlocale(LC_NUMERIC, "C");
    fesetround(FE_UPWARD);
    assert_ok(&ctx, parse(&ctx, "[1.5, 0.3]", &json));
    assert_int_equal(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    assert_true(tern_json_number(tern_json_at(tern_json_root(json), 0)) == 1.5);
    assert_true(tern_json_number(tern_json_at(tern_json_root(json), 1)) == 0.3);
    setlocale(LC_NUMERIC, "C");
    tern_json_destroy(json);
}

static void fields(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;
    const char *text;
    const tern_json_value *value;
    int64_t i;
    double d;
    bool b;

    (void)state;
    assert_ok(
        &ctx,
        parse(&ctx,
              "{\"i\": 12, \"r\": 1.5, \"t\": true, \"n\": null, \"s\": \"text\", \"nul\": \"a\\u0000b\", \"o\": {}}",
              &json));
    const tern_json_value *root = tern_json_root(json);
    assert_ok(&ctx, tern_json_need_int(&ctx, json, root, "i", 1, 12, &i));
    assert_int_equal(i, 12);
    assert_fails(&ctx, tern_json_need_int(&ctx, json, root, "i", 1, 11, &i), TERN_ERR_FORMAT,
                 "a.json: \"i\" is 12, expected an integer from 1 to 11");
    assert_fails(&ctx, tern_json_need_int(&ctx, json, root, "absent", 1, 11, &i), TERN_ERR_FORMAT,
                 "\"absent\" is missing, expected an integer");
    assert_fails(&ctx, tern_json_need_int(&ctx, json, root, "r", 1, 11, &i), TERN_ERR_FORMAT, "\"r\" is 1.5, expected");
    assert_fails(&ctx, tern_json_need_int(&ctx, json, root, "n", 1, 11, &i), TERN_ERR_FORMAT,
                 "\"n\" is null, expected");
    assert_ok(&ctx, tern_json_opt_int(&ctx, json, root, "n", 1, 11, 5, &i));
    assert_int_equal(i, 5);
    assert_fails(&ctx, tern_json_opt_int(&ctx, json, root, "s", 1, 11, 5, &i), TERN_ERR_FORMAT,
                 "\"s\" is the string \"text\", expected an integer");
    assert_ok(&ctx, tern_json_opt_number(&ctx, json, root, "i", 0.5, &d));
    assert_true(d == 12);
    assert_ok(&ctx, tern_json_opt_number(&ctx, json, root, "absent", 0.5, &d));
    assert_true(d == 0.5);
    assert_fails(&ctx, tern_json_opt_number(&ctx, json, root, "o", 0.5, &d), TERN_ERR_FORMAT, "\"o\" is an object");
    assert_ok(&ctx, tern_json_opt_bool(&ctx, json, root, "t", false, &b));
    assert_true(b);
    assert_fails(&ctx, tern_json_opt_bool(&ctx, json, root, "i", false, &b), TERN_ERR_FORMAT, "expected true or false");
    assert_ok(&ctx, tern_json_opt_string(&ctx, json, root, "s", NULL, &text));
    assert_string_equal(text, "text");
    assert_ok(&ctx, tern_json_opt_string(&ctx, json, root, "n", NULL, &text));
    assert_null(text);
    assert_fails(&ctx, tern_json_opt_string(&ctx, json, root, "nul", NULL, &text), TERN_ERR_FORMAT, "without NUL");
    assert_fails(&ctx, tern_json_opt_string(&ctx, json, root, "t", NULL, &text), TERN_ERR_FORMAT, "\"t\" is true");
    assert_ok(&ctx, tern_json_opt_value(&ctx, json, root, "o", TERN_JSON_OBJECT, &value));
    assert_ptr_equal(value, tern_json_get(root, "o"));
    assert_fails(&ctx, tern_json_opt_value(&ctx, json, root, "o", TERN_JSON_ARRAY, &value), TERN_ERR_FORMAT,
                 "\"o\" is an object, expected an array");
    tern_json_destroy(json);
}

/* Every file of the suite: y_ must parse, n_ must not, i_ may do either. */
static void suite(void **state)
{
    struct tern_ctx ctx = { 0 };
    int counts[3] = { 0 };

    (void)state;
    TEST_NEED_DATA(dir_path, "json-test-suite");
    DIR *dir = opendir(dir_path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        const char *name = e->d_name, *dot = strrchr(name, '.');
        char path[4096], *text;
        struct tern_json *json;
        size_t size;

        if (!dot || strcmp(dot, ".json") != 0 || name[1] != '_')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir_path, name);
        text = test_read(path, &size);
        const tern_status status = tern_json_parse_with(&ctx, text, size, name, TERN_JSON_LAST_WINS, &json);
        const bool nul_key = status == TERN_ERR_FORMAT && strstr(tern_error(&ctx), "contains a NUL");
        if (status != TERN_OK && status != TERN_ERR_FORMAT)
            fail_msg("%s: %s: %s", name, tern_status_name(status), tern_error(&ctx));
        if (name[0] == 'y' && status != TERN_OK && !nul_key)
            fail_msg("%s: must parse: %s", name, tern_error(&ctx));
        if (name[0] == 'n' && status == TERN_OK)
            fail_msg("%s: must be refused", name);
        counts[name[0] == 'y' ? 0 : name[0] == 'n' ? 1 : 2]++;
        tern_json_destroy(json);
        free(text);
    }
    closedir(dir);
    print_message("suite: %d y, %d n, %d i\n", counts[0], counts[1], counts[2]);
    assert_true(counts[0] > 90 && counts[1] > 180);
}

static void json_faults(void **state)
{
    static const char text[] =
        "{\"a key longer than any small buffer of a lexer\": [1, 2.5, \"a text that has to grow, and "
        "then to grow again, \\u00e9 before it fits\"], \"b\": {\"c\": true}, \"d\": 5}";
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;

    (void)state;
    FAULT_NEEDED;
    assert_ok(&ctx, parse(&ctx, text, &json));
    tern_json_destroy(json);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = parse(&ctx, text, &json);
        FAULT_DONE(n, &ctx, status, json);
        assert_int_equal(status, TERN_ERR_MEMORY);
    }
    const tern_json_value *list = tern_json_get(tern_json_root(json), "a key longer than any small buffer of a lexer");
    assert_string_equal(tern_json_string(tern_json_at(list, 2), NULL),
                        "a text that has to grow, and then to grow again, \xC3\xA9 before it fits");
    tern_json_destroy(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),     cmocka_unit_test(refusals), cmocka_unit_test(large_integers),
        cmocka_unit_test(duplicates), cmocka_unit_test(depth),    cmocka_unit_test(host_settings),
        cmocka_unit_test(fields),     cmocka_unit_test(suite),    cmocka_unit_test(json_faults),
    };

    return cmocka_run_group_tests_name("base/json", tests, NULL, NULL);
}
