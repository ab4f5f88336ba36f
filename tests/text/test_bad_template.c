/* test_bad_template.c: templates that are wrong, at load and when they are rendered; limits; folders; allocations that fail. */
#include "faults.h"

#include "text/template.h"

#include <tern/chat.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bad {
    const char *source;
    tern_status status;
    const char *parts[3]; /* what the text says besides the template's name */
};

/* ---- what is known when the template is read ------------------------------------------------------------------------ */

static const struct bad at_load[] = {
    /* what tern does not have, by name and line */
    { "a\n{% include 'x' %}", TERN_ERR_UNSUPPORTED, { "line 2", "tag 'include'", "macro" } },
    { "{% extends 'x' %}", TERN_ERR_UNSUPPORTED, { "'extends'" } },
    { "{% import 'x' as y %}", TERN_ERR_UNSUPPORTED, { "'import'" } },
    { "{% from 'x' import y %}", TERN_ERR_UNSUPPORTED, { "'from'" } },
    { "{% block a %}{% endblock %}", TERN_ERR_UNSUPPORTED, { "'block'" } },
    { "{% autoescape true %}{% endautoescape %}", TERN_ERR_UNSUPPORTED, { "'autoescape'" } },
    { "{% do x %}", TERN_ERR_UNSUPPORTED, { "'do'" } },
    { "{% frobnicate %}", TERN_ERR_UNSUPPORTED, { "'frobnicate'", "line 1" } },
    { "\n\n{{ x | urlize }}", TERN_ERR_UNSUPPORTED, { "line 3", "filter 'urlize'" } },
    { "{{ x | a.b }}", TERN_ERR_UNSUPPORTED, { "filter 'a.b'" } },
    { "{% filter nope %}{% endfilter %}", TERN_ERR_UNSUPPORTED, { "filter 'nope'" } },
    { "{{ x | map('nope') }}", TERN_ERR_UNSUPPORTED, { "filter 'nope'" } },
    { "{{ x | select('nope') }}", TERN_ERR_UNSUPPORTED, { "test 'nope'" } },
    { "{{ x | rejectattr('a', 'nope') }}", TERN_ERR_UNSUPPORTED, { "test 'nope'" } },
    { "{{ x is nope }}", TERN_ERR_UNSUPPORTED, { "test 'nope'" } },
    { "{{ x is not nope(1) }}", TERN_ERR_UNSUPPORTED, { "test 'nope'" } },
    { "\n{% if false %}{{ nope(1) }}{% endif %}", TERN_ERR_UNSUPPORTED, { "line 2", "function 'nope'" } },
    { "{{ lipsum() }}", TERN_ERR_UNSUPPORTED, { "function 'lipsum'" } },
    { "{{ x.encode('utf-8') }}", TERN_ERR_UNSUPPORTED, { "method 'encode'" } },
    { "{{ x.frob().strip() }}", TERN_ERR_UNSUPPORTED, { "method 'frob'" } },
    { "{{ '\\N{DASH}' }}", TERN_ERR_FORMAT, { "\\N" } },
    { "{{ x[1:2, 3] }}", TERN_ERR_UNSUPPORTED, { "slice" } },
    /* ends that are missing, and ends of nothing */
    { "a\n{% if x %}\nb", TERN_ERR_FORMAT, { "line 2", "endif" } },
    { "{% for x in y %}{% endif %}", TERN_ERR_FORMAT, { "'endif'" } },
    { "{% endfor %}", TERN_ERR_FORMAT, { "'endfor'" } },
    { "{% else %}", TERN_ERR_UNSUPPORTED, { "'else'" } },
    { "{% macro f() %}", TERN_ERR_FORMAT, { "endmacro" } },
    { "{% set x %}", TERN_ERR_FORMAT, { "endset" } },
    { "{% raw %}{{ x", TERN_ERR_FORMAT, { "endraw" } },
    { "{# a\nb", TERN_ERR_FORMAT, { "line 1", "comment" } },
    { "{{ x", TERN_ERR_FORMAT, { "end of template" } },
    { "{% if x", TERN_ERR_FORMAT, { "end of template" } },
    { "{{ 'abc }}", TERN_ERR_FORMAT, { "no end" } },
    { "{{ (1 }}", TERN_ERR_FORMAT, { "')'" } },
    { "{{ [1) }}", TERN_ERR_FORMAT, { "')'", "']'" } },
    { "{{ 1) }}", TERN_ERR_FORMAT, { "')'" } },
    /* expressions and targets */
    { "{{ }}", TERN_ERR_FORMAT, { "expected an expression" } },
    { "{{ 1 + }}", TERN_ERR_FORMAT, { "unexpected '}}'" } },
    { "{{ a b }}", TERN_ERR_FORMAT, { "'b'" } },
    { "{{ a ! b }}", TERN_ERR_FORMAT, { "'!'" } },
    { "{{ a \xc2\xa7 }}", TERN_ERR_FORMAT, { "'\xc2\xa7'" } },
    { "{{ a. }}", TERN_ERR_FORMAT, { "name or a number" } },
    { "{{ f(a=1, 2) }}", TERN_ERR_FORMAT, { "by position" } },
    { "{{ dict(a=1, a=2) }}", TERN_ERR_FORMAT, { "'a'", "twice" } },
    { "{{ {'a' 1} }}", TERN_ERR_FORMAT, { "':'" } },
    { "{{ x is odd is even }}", TERN_ERR_FORMAT, { "tests" } },
    { "{{ '\\ud800' }}", TERN_ERR_FORMAT, { "\\uD800" } },
    { "{{ '\\x1' }}", TERN_ERR_FORMAT, { "2 hexadecimal" } },
    { "{{ 99999999999999999999 }}", TERN_ERR_FORMAT, { "64 bits" } },
    { "{% set 1 = 2 %}", TERN_ERR_FORMAT, { "assigned" } },
    { "{% for a, b, in x %}{% endfor %}", TERN_ERR_FORMAT, { "expected 'in', got 'x'" } },
    { "{{ 'a'[1,] }}", TERN_ERR_FORMAT, { "unexpected ']'" } },
    { "{{ x | }}", TERN_ERR_FORMAT, { "expected 'name', got '}}'" } },
    { "{{ x is a. }}", TERN_ERR_FORMAT, { "expected 'name', got '}}'" } },
    { "{% macro 1() %}{% endmacro %}", TERN_ERR_FORMAT, { "expected 'name', got 'integer'" } },
    { "{% macro f(a, a) %}{% endmacro %}", TERN_ERR_FORMAT, { "parameter 'a'", "twice" } },
    { "{% set true = 2 %}", TERN_ERR_FORMAT, { "assigned" } },
    { "{% for x.y in z %}{% endfor %}", TERN_ERR_FORMAT, { "'in'" } },
    { "{% for loop in x %}{% endfor %}", TERN_ERR_FORMAT, { "loop" } },
    { "{% for x in y %}{% set loop = 1 %}{% endfor %}", TERN_ERR_FORMAT, { "loop" } },
    { "{% break %}", TERN_ERR_FORMAT, { "'break'", "loop" } },
    { "{% for x in y %}{% macro f() %}{% continue %}{% endmacro %}{% endfor %}", TERN_ERR_FORMAT, { "'continue'" } },
    { "{% for x in y %}{% else %}{% break %}{% endfor %}", TERN_ERR_FORMAT, { "'break'" } },
    { "{% macro f(a=1, b) %}{% endmacro %}", TERN_ERR_FORMAT, { "default" } },
    { "{% macro f(a, a) %}{% endmacro %}", TERN_ERR_FORMAT, { "'a'", "twice" } },
    { "{% macro f(caller) %}{{ caller() }}{% endmacro %}", TERN_ERR_FORMAT, { "caller" } },
    { "{% call x %}{% endcall %}", TERN_ERR_FORMAT, { "call" } },
    { "{% for x in y %}{% else %}{% else %}{% endfor %}", TERN_ERR_FORMAT, { "'endfor'", "'else'" } },
    { "{% 7 %}", TERN_ERR_FORMAT, { "tag's name" } },
};

static void check_bad(const struct bad *b, tern_ctx *ctx, tern_status got)
{
    if (got != b->status || !strstr(tern_error(ctx), "bad.jinja"))
        fail_msg("'%s': status %d, '%s', expected %d", b->source, got, tern_error(ctx), b->status);
    for (int i = 0; i < 3 && b->parts[i]; i++)
        if (!strstr(tern_error(ctx), b->parts[i]))
            fail_msg("'%s': no \"%s\" in '%s'", b->source, b->parts[i], tern_error(ctx));
}

static void is_refused_at_load(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_chat *chat;

    (void)state;
    for (size_t i = 0; i < sizeof at_load / sizeof at_load[0]; i++) {
        check_bad(&at_load[i], ctx,
                  tern_chat_parse(ctx, "bad.jinja", at_load[i].source, strlen(at_load[i].source), &chat));
        assert_null(chat);
    }
    assert_fails(ctx, tern_chat_parse(ctx, "bad.jinja", "a\xff", 2, &chat), TERN_ERR_FORMAT, "byte 1");
    assert_fails(ctx, tern_chat_parse(ctx, NULL, "", 0, &chat), TERN_ERR_ARG, "name");
    assert_fails(ctx, tern_chat_parse(ctx, "x", NULL, 0, &chat), TERN_ERR_ARG, "source");
    assert_fails(ctx, tern_chat_parse(ctx, "x", "", 0, NULL), TERN_ERR_ARG, "out");
    tern_ctx_destroy(&ctx);
}

/* What the template gives a value, or asks about, is not refused: what it is shows when it is called. */
static void names_with_a_meaning_are_left_to_the_rendering(void **state)
{
    static const char *const good[] = {
        "{% if f is defined %}{{ f(1) }}{% endif %}",
        "{% set f = none %}{% if f %}{{ f() }}{% endif %}",
        "{% set ns = namespace(g=range) %}{{ ns.g(2) | list }}",
        "{% macro m(f) %}{% if f %}{{ f() }}{% endif %}{% endmacro %}{{ m(none) }}",
        "{% if x.frob is defined %}{{ x.frob() }}{% endif %}",
        "{% if false %}{{ [].append(1) }}{% endif %}",
        "{% for loop2 in [] %}{{ loop(1) }}{% endfor %}",
    };
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        tern_chat *chat;
        char *text = NULL;

        assert_ok(ctx, tern_chat_parse(ctx, "good.jinja", good[i], strlen(good[i]), &chat));
        if (!strstr(good[i], "x.frob")) /* x has no attributes */
            assert_ok(ctx, tern_chat_render(ctx, chat, "[]", 2, NULL, &text, NULL));
        tern_chat_text_free(text);
        tern_chat_close(&chat);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- what shows when it is rendered ---------------------------------------------------------------------------------- */

static const struct bad at_rendering[] = {
    { "\n{{ raise_exception('so ' ~ 1) }}", TERN_ERR_ARG, { "line 2", "so 1" } },
    { "{{ x.y }}", TERN_ERR_FORMAT, { "'x' is undefined" } },
    { "{{ messages[0].a.b }}", TERN_ERR_FORMAT, { "no attribute 'a'" } },
    { "{{ messages[7].a }}", TERN_ERR_FORMAT, { "no element 7" } },
    { "{{ x + 1 }}", TERN_ERR_FORMAT, { "'x' is undefined" } },
    { "{% set f = [] %}{{ f() }}", TERN_ERR_FORMAT, { "'list' object is not callable" } },
    { "{{ [].append(1) }}", TERN_ERR_FORMAT, { "append", "unsafe" } },
    { "{{ {}.update({}) }}", TERN_ERR_FORMAT, { "update", "unsafe" } },
    { "{{ ''.__class__.x }}", TERN_ERR_FORMAT, { "__class__", "unsafe" } },
    { "{{ 1 + 'a' }}", TERN_ERR_FORMAT, { "'int' and 'str'" } },
    { "{{ 'a' + 1 }}", TERN_ERR_FORMAT, { "concatenate" } },
    { "{{ -'a' }}", TERN_ERR_FORMAT, { "unary -" } },
    { "{{ 1 < 'a' }}", TERN_ERR_FORMAT, { "'int' and 'str'" } },
    { "{{ 1 in 2 }}", TERN_ERR_FORMAT, { "not iterable" } },
    { "{{ 1 in 'a' }}", TERN_ERR_FORMAT, { "requires string" } },
    { "{{ 1 // 0 }}", TERN_ERR_FORMAT, { "zero" } },
    { "{{ 1 / 0.0 }}", TERN_ERR_FORMAT, { "zero" } },
    { "{{ 5 % 0 }}", TERN_ERR_FORMAT, { "zero" } },
    { "{{ 0 ** -1 }}", TERN_ERR_FORMAT, { "negative power" } },
    { "{{ 9223372036854775807 + 1 }}", TERN_ERR_FORMAT, { "64 bits" } },
    { "{{ (-9223372036854775807 - 1) // -1 }}", TERN_ERR_FORMAT, { "64 bits" } },
    { "{{ 10 ** 30 }}", TERN_ERR_FORMAT, { "64 bits" } },
    { "{{ 1e300 | int }}", TERN_ERR_FORMAT, { "64 bits" } },
    { "{{ {[]: 1} }}", TERN_ERR_FORMAT, { "unhashable" } },
    { "{{ none[1:] }}", TERN_ERR_FORMAT, { "not subscriptable" } },
    { "{{ 'abc'['a':] }}", TERN_ERR_FORMAT, { "indices" } },
    { "{{ 'abc'[::0] }}", TERN_ERR_FORMAT, { "zero" } },
    { "{% for x in 5 %}{% endfor %}", TERN_ERR_FORMAT, { "not iterable" } },
    { "{% set a, b = [1] %}", TERN_ERR_FORMAT, { "unpack" } },
    { "{% set a, b = 1 %}", TERN_ERR_FORMAT, { "unpack" } },
    { "{% set x = 1 %}{% set x.y = 1 %}", TERN_ERR_FORMAT, { "non-namespace" } },
    { "{% set n = namespace() %}{% set n._x = 1 %}", TERN_ERR_FORMAT, { "underscore" } },
    { "{{ namespace(_x=1) }}", TERN_ERR_FORMAT, { "underscore" } },
    { "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", TERN_ERR_FORMAT, { "'f'", "1 argument" } },
    { "{% macro f(a) %}{% endmacro %}{{ f(b=2) }}", TERN_ERR_FORMAT, { "'f'", "'b'" } },
    { "{% macro f() %}{% endmacro %}{% call f() %}{% endcall %}", TERN_ERR_FORMAT, { "'caller'" } },
    { "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}", TERN_ERR_FORMAT, { "No caller" } },
    { "{% for x in [1] %}{{ loop([1]) }}{% endfor %}", TERN_ERR_FORMAT, { "recursive" } },
    { "{{ range(1000000) }}", TERN_ERR_FORMAT, { "100000" } },
    { "{{ range(1, 2, 0) }}", TERN_ERR_FORMAT, { "zero" } },
    { "{{ range('a') }}", TERN_ERR_FORMAT, { "int", "str" } },
    { "{{ dict([1]) }}", TERN_ERR_FORMAT, { "iterable" } },
    { "{{ ([1] | map('upper')) | length }}", TERN_ERR_FORMAT, { "generator", "len()" } },
    { "{{ 5 | length }}", TERN_ERR_FORMAT, { "int", "len()" } },
    { "{{ 5 | list }}", TERN_ERR_FORMAT, { "not iterable" } },
    { "{{ [1, 'a'] | sort }}", TERN_ERR_FORMAT, { "not supported" } },
    { "{{ 5 | indent }}", TERN_ERR_FORMAT, { "indent" } },
    { "{{ x | tojson }}", TERN_ERR_FORMAT, { "Undefined", "serializable" } },
    { "{{ {(1,): 1} | tojson }}", TERN_ERR_FORMAT, { "keys" } },
    { "{{ dict(x) }}", TERN_ERR_FORMAT, { "'x' is undefined" } },
    { "{{ namespace(x) }}", TERN_ERR_FORMAT, { "'x' is undefined" } },
    { "{{ 'a'.split(x) }}", TERN_ERR_FORMAT, { "wants a str", "Undefined" } },
    { "{{ 'a' | trim(x) }}", TERN_ERR_FORMAT, { "str" } },
    { "{{ [2, 1] | sort(reverse=none) }}", TERN_ERR_FORMAT, { "reverse is a NoneType, expected an int" } },
    { "{{ {} | dictsort(reverse='y') }}", TERN_ERR_FORMAT, { "reverse is a str" } },
    { "{% filter length %}a{% endfilter %}", TERN_ERR_FORMAT, { "expected str instance, int found" } },
    { "{{ '１２' | int }}", TERN_ERR_UNSUPPORTED, { "U+FF11", "0 to 9" } },
    { "{{ '٣.5' | float }}", TERN_ERR_UNSUPPORTED, { "U+0663" } },
    { "{{ '%5%' % 1 }}", TERN_ERR_FORMAT, { "'%'" } },
    { "{{ '%(a' % {} }}", TERN_ERR_FORMAT, { "incomplete format key" } },
    { "{{ '{:#s}'.format('a') }}", TERN_ERR_FORMAT, { "'#s'" } },
    { "{{ '{:,x}'.format(1) }}", TERN_ERR_FORMAT, { "','", "'x'" } },
    { "{{ '{:_n}'.format(1) }}", TERN_ERR_FORMAT, { "'_'", "'n'" } },
    { "{{ '{:+c}'.format(65) }}", TERN_ERR_FORMAT, { "Sign" } },
    { "{{ '{:c}'.format(-1) }}", TERN_ERR_FORMAT, { "0x110000" } },
    { "{{ '{:.2}'.format(5) }}", TERN_ERR_FORMAT, { "Precision" } },
    { "{% macro f() %}{{ bos_token + 'x' }}{% endmacro %}{{ f() }}{% set bos_token = 1 %}",
      TERN_ERR_FORMAT,
      { "'bos_token' is undefined" } },
    { "{{ [1] | map | list }}", TERN_ERR_FORMAT, { "map" } },
    { "{{ [1] | map('no' ~ 'pe') | list }}", TERN_ERR_UNSUPPORTED, { "'nope'" } },
    { "{{ [1] | select('no' ~ 'pe') | list }}", TERN_ERR_UNSUPPORTED, { "'nope'" } },
    { "{% set f = ''['enc' ~ 'ode'] %}{{ f() }}", TERN_ERR_UNSUPPORTED, { "'encode'" } },
    { "{{ 1 | replace('a') }}", TERN_ERR_FORMAT, { "replace", "2 arguments" } },
    { "{{ 1 | upper(2) }}", TERN_ERR_FORMAT, { "upper", "at most 0" } },
    { "{{ 1 | round(method='up') }}", TERN_ERR_FORMAT, { "common" } },
    { "{{ 'a'.split('') }}", TERN_ERR_FORMAT, { "empty separator" } },
    { "{{ 'a'.index('b') }}", TERN_ERR_FORMAT, { "not found" } },
    { "{{ ','.join([1]) }}", TERN_ERR_FORMAT, { "expected str" } },
    { "{{ 'a'.upper(1) }}", TERN_ERR_FORMAT, { "at most 0" } },
    { "{{ 'a'.replace(1, 2) }}", TERN_ERR_FORMAT, { "wants a str" } },
    { "{{ '%d' % 'a' }}", TERN_ERR_FORMAT, { "real number" } },
    { "{{ '%s %s' % 'a' }}", TERN_ERR_FORMAT, { "not enough" } },
    { "{{ '%s' % (1, 2) }}", TERN_ERR_FORMAT, { "not all" } },
    { "{{ '%y' % 1 }}", TERN_ERR_FORMAT, { "'y'" } },
    { "{{ '{' | string.format() }}", TERN_ERR_UNSUPPORTED, { "string.format" } },
    { "{{ '{}'.format() }}", TERN_ERR_FORMAT, { "out of range" } },
    { "{{ '{x}'.format() }}", TERN_ERR_FORMAT, { "'x'" } },
    { "{{ '{:q}'.format(1) }}", TERN_ERR_FORMAT, { "'q'" } },
    { "{{ '{0.__class__.x}'.format('') }}", TERN_ERR_FORMAT, { "unsafe" } },
    { "{{ strftime_now(1) }}", TERN_ERR_FORMAT, { "strftime_now" } },
    { "{{ cycler() }}", TERN_ERR_FORMAT, { "at least one" } },
};

static void is_refused_at_rendering(void **state)
{
    static const char messages[] = "[{\"role\":\"user\",\"content\":\"x\"}]";
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (size_t i = 0; i < sizeof at_rendering / sizeof at_rendering[0]; i++) {
        const struct bad *b = &at_rendering[i];
        tern_chat *chat;
        char *text = NULL;
        tern_status status = tern_chat_parse(ctx, "bad.jinja", b->source, strlen(b->source), &chat);

        if (!status)
            status = tern_chat_render(ctx, chat, messages, strlen(messages), NULL, &text, NULL);
        check_bad(b, ctx, status);
        assert_null(text);
        tern_chat_close(&chat);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- limits ---------------------------------------------------------------------------------------------------------- */

static void limited(tern_ctx *ctx, const char *source, const tern_chat_options *o, const char *limit)
{
    tern_chat *chat;
    char *text = NULL;
    tern_status status = tern_chat_parse(ctx, "bad.jinja", source, strlen(source), &chat);

    if (!status)
        status = tern_chat_render(ctx, chat, "[]", 2, o, &text, NULL);
    if (status != TERN_ERR_CAPACITY || !strstr(tern_error(ctx), limit))
        fail_msg("'%.80s': status %d, '%s', expected the limit of %s", source, status, tern_error(ctx), limit);
    assert_null(text);
    tern_chat_close(&chat);
}

/* A long text of many times `part`, `middle`, and many times `end`. */
static char *nest(size_t n, const char *part, const char *middle, const char *end)
{
    char *text = malloc(n * (strlen(part) + strlen(end)) + strlen(middle) + 1), *at = text;

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, part);
    at = stpcpy(at, middle);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, end);
    return text;
}

static void limits_are_errors_that_name_them(void **state)
{
    static const char *const deep[][3] = {
        { "(", "1", ")" },  { "[", "1", "]" },           { "{'a':", "1", "}" }, { "not ", "1", "" },
        { "-", "1", "" },   { "1 if x else ", "1", "" }, { "1 + ", "1", "" },   { "1 ~ (", "1", ")" },
        { "x", "", "|e" },  { "a", "", ".a" },           { "f(", "1", ")" },    { "1 and ", "1", "" },
        { "x[", "1", "]" }, { "a", "", "()" },           { "2 ** ", "1", "" },
    };
    tern_ctx *ctx = test_ctx(1);
    tern_chat_options o = tern_chat_options_default();

    (void)state;
    for (size_t i = 0; i < sizeof deep / sizeof deep[0]; i++) {
        char *inner = nest(5000, deep[i][0], deep[i][1], deep[i][2]), *whole = malloc(strlen(inner) + 64);

        assert_non_null(whole);
        sprintf(whole, "{%% set f = 1 %%}{%% set a = f %%}{{ %s }}", inner);
        limited(ctx, whole, NULL, "nesting");
        free(whole);
        free(inner);
    }
    char *blocks = nest(1000, "{% if 1 %}", "", "{% endif %}");
    limited(ctx, blocks, NULL, "nesting");
    free(blocks);
    blocks = nest(1000, "{% for x in y %}", "", "{% endfor %}");
    limited(ctx, blocks, NULL, "nesting");
    free(blocks);
    blocks = nest(200000, "aaaaaa", "", "");
    limited(ctx, blocks, NULL, "the limit is 1048576");
    free(blocks);
    limited(ctx, "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", NULL,
            "limit of steps");
    limited(ctx, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", NULL, "limit of depth");
    limited(ctx, "{% set n = namespace(x=[]) %}{% for i in range(5000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
            NULL, "limit of depth");
    limited(
        ctx,
        "{% set n = namespace(x=[]) %}{% for i in range(5000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | tojson }}",
        NULL, "limit of depth");
    limited(ctx,
            "{% set n = namespace(x=[], y=[]) %}{% for i in range(5000) %}{% set n.x = [n.x] %}{% set n.y = [n.y] %}{% "
            "endfor %}"
            "{{ n.x == n.y }}",
            NULL, "limit of depth");
    limited(ctx,
            "{% set n = namespace(x=[1]) %}{% for i in range(5000) %}{% set n.x = n.x | map('string') %}{% endfor %}{{ "
            "n.x | list }}",
            NULL, "limit of depth");
    limited(ctx, "{% set n = namespace() %}{% set n.x = n %}{{ n }}", NULL, "limit of depth");
    o.max_output = 1000;
    limited(ctx, "{% for i in range(1000) %}abc{% endfor %}", &o, "limit of output is 1000");
    o = tern_chat_options_default();
    o.max_memory = 100000;
    limited(ctx,
            "{% set n = namespace(x='abcdefghij') %}{% for i in range(100) %}{% set n.x = n.x ~ n.x %}{% endfor %}", &o,
            "memory");
    limited(ctx, "{{ [1] * 100000 }}", &o, "bad.jinja, line 1: the limit of memory");
    o = tern_chat_options_default();
    o.max_steps = 100;
    limited(ctx, "{% for i in range(100) %}x{% endfor %}", &o, "limit of steps is 100");
    limited(ctx, "{{ range(1000) | list }}", &o, "limit of steps");
    limited(ctx, "{{ range(200) | sort }}", &o, "limit of steps");
    o = tern_chat_options_default();
    o.max_steps = 1000000; /* what could compare or look up n times n bytes */
    limited(ctx, "{{ ('a' * 500000).rsplit('b' ~ 'a' * 250000) }}", &o, "limit of steps");
    limited(ctx, "{{ ('a' * 500000).rfind('b' ~ 'a' * 250000) }}", &o, "limit of steps");
    limited(ctx, "{% set s = 'a' * 300000 %}{% for i in range(1000) %}{{ s.isalpha() }}{% endfor %}", &o,
            "limit of steps");
    limited(ctx, "{% set s = 'a' * 300000 %}{% for i in range(1000) %}{{ s is lower }}{% endfor %}", &o,
            "limit of steps");
    limited(ctx, "{% set s = 'a' * 300000 %}{% for i in range(1000) %}{{ s | float }}{% endfor %}", &o,
            "limit of steps");
    limited(ctx, "{% set s = 'a' * 300000 %}{% for i in range(1000) %}{{ {s: 1}.x }}{% endfor %}", &o,
            "limit of steps");
    limited(ctx, "{{ ('a' * 300000).strip('b' * 300000 ~ 'a') }}", &o, "limit of steps");
    o = tern_chat_options_default();
    o.max_depth = 4;
    limited(ctx, "{{ ((1 + 2) * 3) ~ (1 + (2 - 3)) }}", &o, "limit of depth is 4");
    tern_ctx_destroy(&ctx);
}

/* A text that grows by a piece each round takes memory for itself and not for every round. */
static void growing_texts_are_cheap(void **state)
{
    static const char source[] =
        "{% set n = namespace(x='') %}{% for i in range(20000) %}{% set n.x = n.x ~ 'abcdefgh' %}{% endfor %}"
        "{% for i in range(20000) %}{% set n.x = n.x + 'abcdefgh' %}{% endfor %}{{ n.x | length }}";
    tern_ctx *ctx = test_ctx(1);
    tern_chat_options o = tern_chat_options_default();
    tern_chat *chat;
    char *text;

    (void)state;
    o.max_memory = (size_t)1 << 25;
    assert_ok(ctx, tern_chat_parse(ctx, "t", source, strlen(source), &chat));
    assert_ok(ctx, tern_chat_render(ctx, chat, "[]", 2, &o, &text, NULL));
    assert_string_equal(text, "320000");
    tern_chat_text_free(text);
    tern_chat_close(&chat);
    tern_ctx_destroy(&ctx);
}

/* ---- arguments and folders ------------------------------------------------------------------------------------------- */

static void write_text(const char *dir, const char *name, const char *text)
{
    test_write(dir, name, text, strlen(text));
}

static void refuses_wrong_arguments(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_chat_options o = tern_chat_options_default();
    tern_chat *chat;
    char *text;

    (void)state;
    assert_ok(ctx, tern_chat_parse(ctx, "t", "{{ messages }}{{ tools }}{{ x }}", 32, &chat));
#define RENDER(m) tern_chat_render(ctx, chat, (m), strlen(m), &o, &text, NULL)
    assert_fails(ctx, tern_chat_render(ctx, NULL, "[]", 2, &o, &text, NULL), TERN_ERR_ARG, "chat");
    assert_fails(ctx, tern_chat_render(ctx, chat, NULL, 2, &o, &text, NULL), TERN_ERR_ARG, "messages");
    assert_fails(ctx, tern_chat_render(ctx, chat, "[]", 2, &o, NULL, NULL), TERN_ERR_ARG, "text");
    assert_fails(ctx, RENDER("{}"), TERN_ERR_FORMAT, "an object, expected an array");
    assert_fails(ctx, RENDER("[{},7]"), TERN_ERR_FORMAT, "element 1 is an integer");
    assert_fails(ctx, RENDER("[{]"), TERN_ERR_FORMAT, "column 3");
    o.tools = "7";
    assert_fails(ctx, RENDER("[]"), TERN_ERR_FORMAT, "tools");
    o.tools = NULL;
    o.variables = "[]";
    assert_fails(ctx, RENDER("[]"), TERN_ERR_FORMAT, "variables");
    o.variables = "{\"tools\":1}";
    assert_fails(ctx, RENDER("[]"), TERN_ERR_ARG, "'tools'");
    o.variables = "{\"x\":5}";
    o.name = "other";
    assert_fails(ctx, RENDER("[]"), TERN_ERR_NOT_FOUND, "there are: default");
    o.name = NULL;
    o.reserved[2] = 1;
    assert_fails(ctx, RENDER("[]"), TERN_ERR_ARG, "reserved[2]");
    o.reserved[2] = 0;
    o.max_depth = 1001;
    assert_fails(ctx, RENDER("[]"), TERN_ERR_ARG, "max_depth");
    o.max_depth = 0;
    assert_ok(ctx, RENDER("[]"));
    assert_string_equal(text, "[]None5");
    tern_chat_text_free(text);
    tern_chat_close(&chat);
    tern_chat_close(&chat);
    tern_chat_close(NULL);
    assert_int_equal(tern_chat_count(NULL), 0);
    assert_null(tern_chat_name(NULL, 0));
    assert_null(tern_chat_special(NULL, "bos_token"));
    tern_ctx_destroy(&ctx);
}

static void render_is(tern_ctx *ctx, const tern_chat *chat, const char *name, const char *tools, const char *want)
{
    tern_chat_options o = tern_chat_options_default();
    char *text;

    o.name = name;
    o.tools = tools;
    assert_ok(ctx, tern_chat_render(ctx, chat, "[]", 2, &o, &text, NULL));
    assert_string_equal(text, want);
    tern_chat_text_free(text);
}

static void finds_a_folders_templates(void **state)
{
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    tern_chat *chat;
    char path[4096];

    (void)state;
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_NOT_FOUND, "chat_template.jinja");
    assert_null(chat);
    assert_fails(ctx, tern_chat_open(ctx, NULL, NULL, &chat), TERN_ERR_ARG, "dir");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, NULL), TERN_ERR_ARG, "out");
    assert_fails(ctx, tern_chat_open(ctx, dir, "/nowhere", &chat), TERN_ERR_NOT_FOUND, "/nowhere");

    write_text(dir, "tokenizer_config.json", "[]");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_FORMAT, "an array, expected an object");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\":7}");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_FORMAT, "chat_template is an integer");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\":[7]}");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_FORMAT, "chat_template[0]");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\":[{\"name\":\"a\"}]}");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_FORMAT, "name and a template");
    write_text(dir, "tokenizer_config.json",
               "{\"chat_template\":[{\"name\":\"a\",\"template\":\"\"},{\"name\":\"a\",\"template\":\"\"}]}");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_FORMAT, "two chat templates 'a'");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\":\"{{ x\"}");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_FORMAT,
                 "tokenizer_config.json, chat_template, line 1");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\":\"x\",\"bos_token\":7}");
    assert_fails(ctx, tern_chat_open(ctx, dir, NULL, &chat), TERN_ERR_FORMAT, "bos_token is an integer");

    /* one text; special tokens from two files */
    write_text(dir, "special_tokens_map.json", "{\"bos_token\":\"no\",\"pad_token\":{\"content\":\"<p>\"}}");
    write_text(dir, "tokenizer_config.json",
               "{\"chat_template\":\"{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token is defined "
               "}}\",\"bos_token\":\"<b>\","
               "\"eos_token\":{\"content\":\"<e>\"},\"unk_token\":null}");
    assert_ok(ctx, tern_chat_open(ctx, dir, NULL, &chat));
    assert_int_equal(tern_chat_count(chat), 1);
    assert_string_equal(tern_chat_name(chat, 0), "default");
    assert_null(tern_chat_name(chat, 1));
    assert_string_equal(tern_chat_special(chat, "eos_token"), "<e>");
    assert_null(tern_chat_special(chat, "unk_token"));
    render_is(ctx, chat, NULL, NULL, "<b><e><p>False");
    render_is(ctx, chat, NULL, "[]", "<b><e><p>False");
    tern_chat_close(&chat);

    /* several, with one that is wrong */
    write_text(dir, "tokenizer_config.json",
               "{\"chat_template\":[{\"name\":\"default\",\"template\":\"d\"},{\"name\":\"tool_use\",\"template\":\"t{{"
               " tools }}\"},"
               "{\"name\":\"bad\",\"template\":\"{{\"}]}");
    assert_ok(ctx, tern_chat_open(ctx, dir, NULL, &chat));
    render_is(ctx, chat, NULL, NULL, "d");
    render_is(ctx, chat, NULL, "[]", "t[]");
    render_is(ctx, chat, "default", "[]", "d");
    tern_chat_options o = tern_chat_options_default();
    char *text;
    o.name = "bad";
    assert_fails(ctx, tern_chat_render(ctx, chat, "[]", 2, &o, &text, NULL), TERN_ERR_FORMAT,
                 "chat_template 'bad', line 1");
    tern_chat_close(&chat);

    /* files go before the config; a byte order mark is not text */
    write_text(dir, "chat_template.jinja",
               "\xef\xbb\xbf"
               "file\r\n");
    assert_ok(ctx, tern_chat_open(ctx, dir, NULL, &chat));
    assert_int_equal(tern_chat_count(chat), 1);
    render_is(ctx, chat, NULL, NULL, "file");
    tern_chat_close(&chat);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    assert_ok(ctx, tern_chat_open(ctx, path, NULL, &chat)); /* a file stands for its folder */
    tern_chat_close(&chat);
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    assert_ok(ctx, tern_chat_open(ctx, dir, path, &chat));
    tern_chat_close(&chat);
    tern_ctx_destroy(&ctx);
    test_remove_dir(dir);
}

/* ---- allocations that fail ------------------------------------------------------------------------------------------- */

static void faults_of_opening_and_rendering(void **state)
{
    static const char source[] = "{% macro f(a, b=2) %}{{ a ~ b }}{{ varargs }}{% endmacro %}{{ f(1, 2, 3) }}{% for m "
                                 "in messages if m %}{{ m | tojson(indent=2) }}"
                                 "{{ loop.last }}{% endfor %}{{ 'a b'.split() | map('upper') | join('-') }}{% set n = "
                                 "namespace(x=1) %}{% set n.y = [n.x] * 500 %}"
                                 "{{ n.y | sort | unique | list }}{{ {'a': 1, 'b': (1, 2)} }}{{ '%5.2f' % 2.5 }}";
    static const char messages[] = "[{\"role\":\"user\",\"content\":\"x\",\"reasoning\":\"y\"}]";
    const char *dir = test_temp_dir();
    tern_ctx ctx = { 0 };
    tern_chat *chat = NULL;
    char *text = NULL;

    (void)state;
    FAULT_NEEDED;
    write_text(dir, "chat_template.jinja", source);
    write_text(dir, "tokenizer_config.json", "{\"bos_token\":\"<b>\"}");
    assert_ok(&ctx, tern_chat_open(&ctx, dir, NULL, &chat));
    assert_ok(&ctx, tern_chat_render(&ctx, chat, messages, strlen(messages), NULL, &text, NULL));
    tern_chat_text_free(text);
    text = NULL;
    tern_chat_close(&chat);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_chat_open(&ctx, dir, NULL, &chat);
        FAULT_DONE(n, &ctx, status, chat);
        tern_chat_close(&chat);
    }
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_chat_render(&ctx, chat, messages, strlen(messages), NULL, &text, NULL);
        FAULT_DONE(n, &ctx, status, text);
        tern_chat_text_free(text);
        text = NULL;
    }
    tern_chat_text_free(text);
    tern_chat_close(&chat);
    test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_refused_at_load),        cmocka_unit_test(names_with_a_meaning_are_left_to_the_rendering),
        cmocka_unit_test(is_refused_at_rendering),   cmocka_unit_test(limits_are_errors_that_name_them),
        cmocka_unit_test(growing_texts_are_cheap),   cmocka_unit_test(refuses_wrong_arguments),
        cmocka_unit_test(finds_a_folders_templates), cmocka_unit_test(faults_of_opening_and_rendering),
    };

    return cmocka_run_group_tests_name("bad templates", tests, NULL, NULL);
}
