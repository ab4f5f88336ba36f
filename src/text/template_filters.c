/* template_filters.c: value | filter: jinja2's own filters, with tojson as transformers has it.
 *
 * Those that go through elements one by one (map, select, unique, ...) are generators as in jinja2: they have no length and no
 * subscripts, they are true even where nothing comes out of them, and each element comes once. */
#include "text/template_render.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NONE_OR_ABSENT(v) ((v).kind == TERN_V_NONE || (v).kind == TERN_V_UNDEFINED)

#define FILTER(name) \
    static tern_status name(struct tern_render *r, tern_value v, const struct tern_call *call, tern_value *out)

static tern_status no_args(struct tern_render *r, const char *what, const struct tern_call *call)
{
    return tern_call_bind(r, what, call, "", 0, NULL, 0);
}

static tern_status need_int(struct tern_render *r, const char *what, tern_value v, int64_t standard, int64_t *out)
{
    *out = standard;
    if (v.kind == TERN_V_UNDEFINED)
        return TERN_OK;
    if (!tern_value_is_int(v))
        TERN_RAISE(r, "%s is a %s, expected an int", what, tern_value_type(v));
    *out = tern_value_int(v);
    return TERN_OK;
}

static tern_status new_iterator(struct tern_render *r, tern_next_fn *next, tern_value source, const void *how,
                                tern_value *out)
{
    TERN_TRY(tern_value_iterator(r, next, source, out));
    out->as.iter->how = how;
    return TERN_OK;
}

/* ---- attributes by name, "a.b.0" ---- */

struct path {
    tern_value *parts;
    size_t n;
    bool lower; /* strings are compared in lower case */
    bool has_standard;
    tern_value standard; /* instead of undefined */
};

static bool all_digits(const struct tern_vstring *s)
{
    for (size_t i = 0; i < s->size; i++)
        if (s->data[i] < '0' || s->data[i] > '9')
            return false;
    return s->size > 0;
}

/* attribute: none, an integer, or names and numbers with dots between them. */
static tern_status make_path(struct tern_render *r, tern_value attribute, bool lower, struct path *path)
{
    const struct tern_vstring dot = { .data = ".", .size = 1, .n_chars = 1 };
    tern_value list;

    *path = (struct path){ .lower = lower };
    if (NONE_OR_ABSENT(attribute))
        return TERN_OK;
    if (attribute.kind != TERN_V_STRING) {
        TERN_TRY(TERN_RENDER_TAKE(r, 1, &path->parts));
        path->parts[0] = attribute;
        path->n = 1;
        return TERN_OK;
    }
    TERN_TRY(tern_string_split(r, attribute.as.string, &dot, -1, false, &list));
    path->parts = list.as.list->items;
    path->n = list.as.list->count;
    for (size_t i = 0; i < path->n; i++)
        if (all_digits(path->parts[i].as.string)) {
            int64_t number;
            bool ok;

            TERN_TRY(tern_int_parse(r, path->parts[i].as.string, 10, &number, &ok));
            path->parts[i] = TERN_INT_VALUE(number);
        }
    return TERN_OK;
}

static tern_status follow(struct tern_render *r, const struct path *path, tern_value v, tern_value *out)
{
    for (size_t i = 0; i < path->n; i++) {
        TERN_TRY(tern_value_getitem(r, v, path->parts[i], &v));
        if (path->has_standard && v.kind == TERN_V_UNDEFINED)
            v = path->standard;
    }
    if (path->lower && v.kind == TERN_V_STRING)
        TERN_TRY(tern_string_case(r, v.as.string, TERN_CASE_LOWER, &v));
    *out = v;
    return TERN_OK;
}

/* ---- texts ---- */

static tern_status change_case(struct tern_render *r, const char *what, tern_value v, const struct tern_call *call,
                               enum tern_case how, tern_value *out)
{
    TERN_TRY(no_args(r, what, call));
    TERN_TRY(tern_value_str(r, v, &v));
    return tern_string_case(r, v.as.string, how, out);
}

FILTER(do_upper)
{
    return change_case(r, "upper", v, call, TERN_CASE_UPPER, out);
}

FILTER(do_lower)
{
    return change_case(r, "lower", v, call, TERN_CASE_LOWER, out);
}

FILTER(do_capitalize)
{
    return change_case(r, "capitalize", v, call, TERN_CASE_CAPITALIZE, out);
}

static bool begins_word(uint32_t code)
{
    return tern_char_is_python_space(code) || (code < 0x80 && code && strchr("-({[<", (int)code));
}

/* Each run of other characters than those that words begin behind: its first in upper case, the rest in lower case. */
FILTER(do_title)
{
    const struct tern_vstring *s;
    struct tern_out text = { 0 };

    TERN_TRY(no_args(r, "title", call));
    TERN_TRY(tern_value_str(r, v, &v));
    s = v.as.string;
    for (size_t begin = 0, at = 0; at < s->size;) {
        tern_value first, rest;
        size_t next = at;

        begin = at;
        if (begins_word(tern_utf8_next(s->data, &next))) {
            TERN_TRY(tern_out_put(r, &text, s->data + at, next - at));
            at = next;
            continue;
        }
        size_t end = at = next;
        while (end < s->size && !begins_word(tern_utf8_next(s->data, &end)))
            at = end;
        TERN_TRY(tern_value_borrowed(r, s->data + begin, next - begin, &first));
        TERN_TRY(tern_string_case(r, first.as.string, TERN_CASE_UPPER, &first));
        TERN_TRY(tern_value_borrowed(r, s->data + next, at - next, &rest));
        TERN_TRY(tern_string_case(r, rest.as.string, TERN_CASE_LOWER, &rest));
        TERN_TRY(tern_out_value(r, &text, first));
        TERN_TRY(tern_out_value(r, &text, rest));
    }
    return tern_out_string(r, &text, out);
}

FILTER(do_trim)
{
    tern_value chars;

    TERN_TRY(tern_call_bind(r, "trim", call, "chars", 0, &chars, 1));
    if (!NONE_OR_ABSENT(chars) && chars.kind != TERN_V_STRING)
        TERN_RAISE(r, "strip arg must be None or str");
    TERN_TRY(tern_value_str(r, v, &v));
    return tern_string_strip(r, v.as.string, chars.kind == TERN_V_STRING ? chars.as.string : NULL, true, true, out);
}

FILTER(do_replace)
{
    enum { OLD, NEW, COUNT, N };
    tern_value args[N];
    int64_t count = -1;

    TERN_TRY(tern_call_bind(r, "replace", call, "old, new, count", 2, args, N));
    if (!NONE_OR_ABSENT(args[COUNT]))
        TERN_TRY(need_int(r, "replace: count", args[COUNT], -1, &count));
    TERN_TRY(tern_value_str(r, v, &v));
    TERN_TRY(tern_value_str(r, args[OLD], &args[OLD]));
    TERN_TRY(tern_value_str(r, args[NEW], &args[NEW]));
    return tern_string_replace(r, v.as.string, args[OLD].as.string, args[NEW].as.string, count, out);
}

FILTER(do_string)
{
    TERN_TRY(no_args(r, "string", call));
    return tern_value_str(r, v, out);
}

FILTER(do_safe)
{
    TERN_TRY(no_args(r, "safe", call));
    TERN_TRY(tern_value_str(r, v, out));
    return tern_string_mark(r, out->as.string, true, out);
}

FILTER(do_escape)
{
    TERN_TRY(no_args(r, "escape", call));
    TERN_TRY(tern_value_str(r, v, out));
    if (!out->as.string->markup)
        TERN_TRY(tern_string_escape(r, out->as.string, out));
    return tern_string_mark(r, out->as.string, true, out);
}

FILTER(do_indent)
{
    enum { WIDTH, FIRST, BLANK, N };
    tern_value args[N], lines, newline;
    struct tern_out text = { 0 };
    int64_t width = 4;

    TERN_TRY(tern_call_bind(r, "indent", call, "width, first, blank", 0, args, N));
    if (args[WIDTH].kind != TERN_V_STRING) {
        struct tern_out blanks = { 0 };

        TERN_TRY(need_int(r, "indent: width", args[WIDTH], 4, &width));
        for (int64_t i = 0; i < width; i++)
            TERN_TRY(tern_out_text(r, &blanks, " "));
        TERN_TRY(tern_out_string(r, &blanks, &args[WIDTH]));
    }
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (v.kind != TERN_V_STRING)
        TERN_RAISE(r, "indent: the value is a %s, expected a str", tern_value_type(v));
    TERN_TRY(tern_value_borrowed(r, "\n", 1, &newline));
    TERN_TRY(tern_string_concat(r, v.as.string, newline.as.string, &v));
    TERN_TRY(tern_string_lines(r, v.as.string, false, &lines));
    for (size_t i = 0; i < lines.as.list->count; i++) {
        const tern_value line = lines.as.list->items[i];
        const bool blank = line.as.string->size == 0;

        if (i > 0)
            TERN_TRY(tern_out_text(r, &text, "\n"));
        if (i == 0 ? tern_value_true(args[FIRST]) : !blank || tern_value_true(args[BLANK]))
            TERN_TRY(tern_out_value(r, &text, args[WIDTH]));
        TERN_TRY(tern_out_value(r, &text, line));
    }
    return tern_out_string(r, &text, out);
}

FILTER(do_center)
{
    tern_value arg;
    struct tern_out text = { 0 };
    int64_t width, missing;

    TERN_TRY(tern_call_bind(r, "center", call, "width", 0, &arg, 1));
    TERN_TRY(need_int(r, "center: width", arg, 80, &width));
    TERN_TRY(tern_value_str(r, v, &v));
    missing = width - (int64_t)v.as.string->n_chars;
    const int64_t left = missing > 0 ? missing / 2 + (missing & width & 1) : 0;
    for (int64_t i = 0; i < left; i++)
        TERN_TRY(tern_out_text(r, &text, " "));
    TERN_TRY(tern_out_value(r, &text, v));
    for (int64_t i = left; i < missing; i++)
        TERN_TRY(tern_out_text(r, &text, " "));
    return tern_out_string(r, &text, out);
}

FILTER(do_truncate)
{
    enum { LENGTH, KILLWORDS, END, LEEWAY, N };
    tern_value args[N], cut, words;
    int64_t length, leeway = 5;

    TERN_TRY(tern_call_bind(r, "truncate", call, "length, killwords, end, leeway", 0, args, N));
    TERN_TRY(need_int(r, "truncate: length", args[LENGTH], 255, &length));
    if (args[LEEWAY].kind != TERN_V_NONE)
        TERN_TRY(need_int(r, "truncate: leeway", args[LEEWAY], 5, &leeway));
    if (args[END].kind == TERN_V_UNDEFINED)
        TERN_TRY(tern_value_borrowed(r, "...", 3, &args[END]));
    if (!tern_value_has_length(v) || args[END].kind != TERN_V_STRING)
        TERN_RAISE(r, "truncate: the value and its end are a %s and a %s, expected str", tern_value_type(v),
                   tern_value_type(args[END]));
    const int64_t n_end = (int64_t)args[END].as.string->n_chars;
    if (length < n_end || leeway < 0 || length > INT64_MAX - leeway)
        TERN_RAISE(r,
                   "truncate: a length of %" PRId64 " and a leeway of %" PRId64 ", expected at least %" PRId64 " and 0",
                   length, leeway, n_end);
    *out = v;
    if ((int64_t)tern_value_length(v) <= length + leeway)
        return TERN_OK; /* whatever it is */
    if (v.kind != TERN_V_STRING)
        TERN_RAISE(r, "truncate: the value is a %s, expected a str", tern_value_type(v));
    TERN_TRY(tern_string_part(r, v.as.string, 0, (size_t)(length - n_end), &cut));
    if (!tern_value_true(args[KILLWORDS])) {
        const struct tern_vstring blank = { .data = " ", .size = 1, .n_chars = 1 };

        TERN_TRY(tern_string_split(r, cut.as.string, &blank, 1, true, &words));
        cut = words.as.list->items[0];
    }
    return tern_string_concat(r, cut.as.string, args[END].as.string, out);
}

FILTER(do_format)
{
    tern_value values;

    TERN_TRY(tern_value_str(r, v, &v));
    if (call->n_args > 0 && call->n_keywords > 0)
        TERN_RAISE(r, "format: arguments by position and by name at once");
    if (call->n_keywords > 0) {
        TERN_TRY(tern_value_dict(r, &values));
        for (size_t i = 0; i < call->n_keywords; i++)
            TERN_TRY(tern_dict_set(r, values.as.dict,
                                   (tern_value){ .kind = TERN_V_STRING, .as.string = call->keywords[i].name },
                                   call->keywords[i].value));
    } else {
        TERN_TRY(tern_value_list(r, TERN_V_TUPLE, call->n_args, &values));
        for (size_t i = 0; i < call->n_args; i++)
            TERN_TRY(tern_list_push(r, values.as.list, call->args[i]));
    }
    return tern_string_percent(r, v.as.string, values, out);
}

FILTER(do_tojson)
{
    return tern_value_to_json(r, v, call, out);
}

/* ---- numbers ---- */

static tern_status real_to_int(struct tern_render *r, double x, bool *ok, int64_t *out)
{
    *ok = isfinite(x);
    if (*ok && !(x > -9223372036854775808.0 && x < 9223372036854775808.0))
        TERN_RAISE(r, "an integer with more than 64 bits");
    if (*ok)
        *out = (int64_t)x;
    return TERN_OK;
}

FILTER(do_int)
{
    enum { STANDARD, BASE, N };
    tern_value args[N];
    int64_t base, number = 0;
    double x;
    bool ok = false;

    TERN_TRY(tern_call_bind(r, "int", call, "default, base", 0, args, N));
    TERN_TRY(need_int(r, "int: base", args[BASE], 10, &base));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (tern_value_is_int(v)) {
        number = tern_value_int(v);
        ok = true;
    } else if (v.kind == TERN_V_FLOAT) {
        TERN_TRY(real_to_int(r, v.as.real, &ok, &number));
    } else if (v.kind == TERN_V_STRING) {
        TERN_TRY(tern_int_parse(r, v.as.string, base, &number, &ok));
        if (!ok && tern_float_parse(v.as.string, &x))
            TERN_TRY(real_to_int(r, x, &ok, &number));
    }
    *out = ok ? TERN_INT_VALUE(number) : args[STANDARD].kind == TERN_V_UNDEFINED ? TERN_INT_VALUE(0) : args[STANDARD];
    return TERN_OK;
}

FILTER(do_float)
{
    tern_value standard;
    double x;

    TERN_TRY(tern_call_bind(r, "float", call, "default", 0, &standard, 1));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (tern_value_is_number(v))
        *out = TERN_FLOAT_VALUE(tern_value_real(v));
    else if (v.kind == TERN_V_STRING && tern_float_parse(v.as.string, &x))
        *out = TERN_FLOAT_VALUE(x);
    else
        *out = standard.kind == TERN_V_UNDEFINED ? TERN_FLOAT_VALUE(0) : standard;
    return TERN_OK;
}

FILTER(do_abs)
{
    TERN_TRY(no_args(r, "abs", call));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (!tern_value_is_number(v))
        TERN_RAISE(r, "bad operand type for abs(): '%s'", tern_value_type(v));
    if (v.kind == TERN_V_FLOAT)
        *out = TERN_FLOAT_VALUE(fabs(v.as.real));
    else if (tern_value_int(v) == INT64_MIN)
        TERN_RAISE(r, "an integer with more than 64 bits");
    else
        *out = TERN_INT_VALUE(tern_value_int(v) < 0 ? -tern_value_int(v) : tern_value_int(v));
    return TERN_OK;
}

/* Python's round(x, n): to nearest by the exact decimal value of x, ties to even. */
static double round_real(double x, int64_t precision)
{
    char text[700];

    if (!isfinite(x) || precision > 330)
        return x;
    if (precision < -330)
        return copysign(0, x);
    if (precision >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)precision, x);
        return strtod(text, NULL);
    }
    const double unit = pow(10, (double)-precision);
    return nearbyint(x / unit) * unit;
}

static tern_status round_int(struct tern_render *r, int64_t i, int64_t precision, tern_value *out)
{
    int64_t unit = 1;

    for (; precision < 0; precision++)
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            *out = TERN_INT_VALUE(0);
            return TERN_OK;
        }
    int64_t rest = i % unit, down = i - rest;
    if (rest < 0) {
        rest += unit;
        if (__builtin_sub_overflow(down, unit, &down))
            TERN_RAISE(r, "an integer with more than 64 bits");
    }
    if ((rest > unit - rest || (rest == unit - rest && down / unit % 2 != 0)) &&
        __builtin_add_overflow(down, unit, &down))
        TERN_RAISE(r, "an integer with more than 64 bits");
    *out = TERN_INT_VALUE(down);
    return TERN_OK;
}

FILTER(do_round)
{
    enum { PRECISION, METHOD, N };
    tern_value args[N], scale, scaled, whole;
    int64_t precision;

    TERN_TRY(tern_call_bind(r, "round", call, "precision, method", 0, args, N));
    TERN_TRY(need_int(r, "round: precision", args[PRECISION], 0, &precision));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (!tern_value_is_number(v))
        TERN_RAISE(r, "type %s doesn't define __round__ method", tern_value_type(v));
    const bool common = args[METHOD].kind == TERN_V_UNDEFINED || tern_string_is(args[METHOD], "common");
    if (!common && !tern_string_is(args[METHOD], "ceil") && !tern_string_is(args[METHOD], "floor"))
        TERN_RAISE(r, "method must be common, ceil or floor");
    if (common) {
        if (v.kind != TERN_V_FLOAT)
            return round_int(r, tern_value_int(v), precision, out);
        *out = TERN_FLOAT_VALUE(round_real(v.as.real, precision));
        return TERN_OK;
    }
    TERN_TRY(tern_value_binary(r, TERN_OP_POW, TERN_INT_VALUE(10), TERN_INT_VALUE(precision), &scale));
    TERN_TRY(tern_value_binary(r, TERN_OP_MUL, v, scale, &scaled));
    whole = scaled;
    if (scaled.kind == TERN_V_FLOAT) {
        int64_t number = 0;
        bool ok;

        TERN_TRY(real_to_int(r, tern_string_is(args[METHOD], "ceil") ? ceil(scaled.as.real) : floor(scaled.as.real),
                             &ok, &number));
        if (!ok)
            TERN_RAISE(r, "cannot convert a float that is not finite to integer");
        whole = TERN_INT_VALUE(number);
    }
    return tern_value_binary(r, TERN_OP_DIV, whole, scale, out);
}

FILTER(do_sum)
{
    enum { ATTRIBUTE, START, N };
    tern_value args[N], item;
    struct path path;
    struct tern_viter *it;
    bool done;

    TERN_TRY(tern_call_bind(r, "sum", call, "attribute, start", 0, args, N));
    TERN_TRY(make_path(r, args[ATTRIBUTE], false, &path));
    *out = args[START].kind == TERN_V_UNDEFINED ? TERN_INT_VALUE(0) : args[START];
    if (out->kind == TERN_V_STRING)
        TERN_RAISE(r, "sum() can't sum strings [use ''.join(seq) instead]");
    TERN_TRY(tern_value_iter(r, v, &it));
    for (;;) {
        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return TERN_OK;
        TERN_TRY(follow(r, &path, item, &item));
        TERN_TRY(tern_value_binary(r, TERN_OP_ADD, *out, item, out));
    }
}

/* ---- lists as a whole ---- */

FILTER(do_length)
{
    TERN_TRY(no_args(r, "length", call));
    if (!tern_value_has_length(v))
        TERN_RAISE(r, "object of type '%s' has no len()", tern_value_type(v));
    *out = TERN_INT_VALUE((int64_t)tern_value_length(v));
    return TERN_OK;
}

FILTER(do_list)
{
    TERN_TRY(no_args(r, "list", call));
    return tern_value_to_list(r, v, out);
}

FILTER(do_first)
{
    struct tern_viter *it;
    bool done;

    TERN_TRY(no_args(r, "first", call));
    TERN_TRY(tern_value_iter(r, v, &it));
    TERN_TRY(tern_iter_next(r, it, out, &done));
    return done ? tern_value_undefined(r, out, "No first item, sequence was empty.") : TERN_OK;
}

FILTER(do_last)
{
    tern_value list;

    TERN_TRY(no_args(r, "last", call));
    if (!tern_value_has_length(v))
        TERN_RAISE(r, "'%s' object is not reversible", tern_value_type(v));
    if (tern_value_length(v) == 0)
        return tern_value_undefined(r, out, "No last item, sequence was empty.");
    if (v.kind == TERN_V_LIST || v.kind == TERN_V_TUPLE || v.kind == TERN_V_STRING || v.kind == TERN_V_RANGE)
        return tern_value_at(r, v, tern_value_length(v) - 1, out);
    TERN_TRY(tern_value_to_list(r, v, &list));
    *out = list.as.list->items[list.as.list->count - 1];
    return TERN_OK;
}

static tern_status reversed_list(struct tern_render *r, tern_value v, tern_value *out)
{
    tern_value list;

    TERN_TRY(tern_value_to_list(r, v, &list));
    TERN_TRY(tern_value_list(r, TERN_V_LIST, list.as.list->count, out));
    for (size_t i = list.as.list->count; i > 0; i--)
        TERN_TRY(tern_list_push(r, out->as.list, list.as.list->items[i - 1]));
    return TERN_OK;
}

FILTER(do_reverse)
{
    const struct tern_vstring nothing = { .data = "" };
    struct tern_viter *it;
    tern_value list;

    TERN_TRY(no_args(r, "reverse", call));
    TERN_TRY(reversed_list(r, v, &list));
    *out = list;
    if (v.kind == TERN_V_STRING)
        return tern_string_join(r, &nothing, list, false, out);
    if (v.kind == TERN_V_ITERATOR) /* reversed() cannot, so a list is made of it */
        return TERN_OK;
    TERN_TRY(tern_value_iter(r, list, &it));
    *out = (tern_value){ .kind = TERN_V_ITERATOR, .as.iter = it };
    return TERN_OK;
}

FILTER(do_join)
{
    enum { SEPARATOR, ATTRIBUTE, N };
    tern_value args[N], list = v;
    struct path path;

    TERN_TRY(tern_call_bind(r, "join", call, "d, attribute", 0, args, N));
    TERN_TRY(tern_value_str(r, args[SEPARATOR], &args[SEPARATOR]));
    if (!NONE_OR_ABSENT(args[ATTRIBUTE])) {
        TERN_TRY(make_path(r, args[ATTRIBUTE], false, &path));
        TERN_TRY(tern_value_to_list(r, v, &list));
        for (size_t i = 0; i < list.as.list->count; i++)
            TERN_TRY(follow(r, &path, list.as.list->items[i], &list.as.list->items[i]));
    }
    return tern_string_join(r, args[SEPARATOR].as.string, list, true, out);
}

/* ---- order ---- */

struct sorted {
    tern_value key, value;
};

/* Merges [0, half) and [half, n) of `from` into `to`; of equal ones the earlier comes first. */
static tern_status merge(struct tern_render *r, const struct sorted *from, struct sorted *to, size_t half, size_t n,
                         bool reverse)
{
    size_t a = 0, b = half;

    for (size_t i = 0; i < n; i++) {
        bool second = a == half;

        if (a < half && b < n)
            TERN_TRY(reverse ? tern_value_ordered(r, '<', from[a].key, from[b].key, &second)
                             : tern_value_ordered(r, '<', from[b].key, from[a].key, &second));
        to[i] = second ? from[b++] : from[a++];
    }
    return TERN_OK;
}

static tern_status sort_items(struct tern_render *r, struct sorted *items, size_t n, bool reverse)
{
    struct sorted *from = items, *to;

    TERN_TRY(TERN_RENDER_TAKE(r, n, &to));
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            const size_t left = n - at, half = left < width ? left : width, both = left < 2 * width ? left : 2 * width;

            TERN_TRY(merge(r, from + at, to + at, half, both, reverse));
        }
        struct sorted *const swapped = from;
        from = to;
        to = swapped;
    }
    if (from != items)
        memcpy(items, from, n * sizeof *items);
    return TERN_OK;
}

/* The elements of `list` in the order of their keys. */
static tern_status sorted_list(struct tern_render *r, struct sorted *items, size_t n, bool reverse, tern_value *out)
{
    TERN_TRY(sort_items(r, items, n, reverse));
    TERN_TRY(tern_value_list(r, TERN_V_LIST, n, out));
    for (size_t i = 0; i < n; i++)
        TERN_TRY(tern_list_push(r, out->as.list, items[i].value));
    return TERN_OK;
}

FILTER(do_sort)
{
    enum { REVERSE, CASE, ATTRIBUTE, N };
    const struct tern_vstring comma = { .data = ",", .size = 1, .n_chars = 1 };
    tern_value args[N], list, names;
    struct sorted *items;
    struct path *paths;

    TERN_TRY(tern_call_bind(r, "sort", call, "reverse, case_sensitive, attribute", 0, args, N));
    if (args[ATTRIBUTE].kind == TERN_V_STRING) {
        TERN_TRY(tern_string_split(r, args[ATTRIBUTE].as.string, &comma, -1, false, &names));
    } else {
        TERN_TRY(tern_value_list(r, TERN_V_LIST, 1, &names));
        TERN_TRY(tern_list_push(r, names.as.list, args[ATTRIBUTE]));
    }
    const size_t n_paths = names.as.list->count;
    TERN_TRY(TERN_RENDER_TAKE(r, n_paths, &paths));
    for (size_t i = 0; i < n_paths; i++)
        TERN_TRY(make_path(r, names.as.list->items[i], !tern_value_true(args[CASE]), &paths[i]));
    TERN_TRY(tern_value_to_list(r, v, &list));
    TERN_TRY(TERN_RENDER_TAKE(r, list.as.list->count, &items));
    for (size_t i = 0; i < list.as.list->count; i++) {
        items[i].value = list.as.list->items[i];
        TERN_TRY(tern_value_list(r, TERN_V_LIST, n_paths, &items[i].key));
        for (size_t k = 0; k < n_paths; k++) {
            tern_value key;

            TERN_TRY(follow(r, &paths[k], items[i].value, &key));
            TERN_TRY(tern_list_push(r, items[i].key.as.list, key));
        }
    }
    return sorted_list(r, items, list.as.list->count, tern_value_true(args[REVERSE]), out);
}

FILTER(do_dictsort)
{
    enum { CASE, BY, REVERSE, N };
    tern_value args[N];
    struct sorted *items;

    TERN_TRY(tern_call_bind(r, "dictsort", call, "case_sensitive, by, reverse", 0, args, N));
    const bool by_value = tern_string_is(args[BY], "value");
    if (!by_value && args[BY].kind != TERN_V_UNDEFINED && !tern_string_is(args[BY], "key"))
        TERN_RAISE(r, "You can only sort by either \"key\" or \"value\"");
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (v.kind != TERN_V_DICT)
        TERN_RAISE(r, "'%s' object has no attribute 'items'", tern_value_type(v));
    const struct tern_vdict *dict = v.as.dict;
    TERN_TRY(TERN_RENDER_TAKE(r, dict->count, &items));
    for (size_t i = 0; i < dict->count; i++) {
        tern_value key = by_value ? dict->entries[i].value : dict->entries[i].key;

        if (!tern_value_true(args[CASE]) && key.kind == TERN_V_STRING)
            TERN_TRY(tern_string_case(r, key.as.string, TERN_CASE_LOWER, &key));
        items[i].key = key;
        TERN_TRY(tern_value_pair(r, dict->entries[i].key, dict->entries[i].value, &items[i].value));
    }
    return sorted_list(r, items, dict->count, tern_value_true(args[REVERSE]), out);
}

static tern_status extreme(struct tern_render *r, const char *what, tern_value v, const struct tern_call *call, char op,
                           tern_value *out)
{
    enum { CASE, ATTRIBUTE, N };
    tern_value args[N], item, key, best;
    struct path path;
    struct tern_viter *it;
    bool done, better;

    TERN_TRY(tern_call_bind(r, what, call, "case_sensitive, attribute", 0, args, N));
    TERN_TRY(make_path(r, args[ATTRIBUTE], !tern_value_true(args[CASE]), &path));
    TERN_TRY(tern_value_iter(r, v, &it));
    TERN_TRY(tern_iter_next(r, it, out, &done));
    if (done)
        return tern_value_undefined(r, out, "No aggregated item, sequence was empty.");
    TERN_TRY(follow(r, &path, *out, &best));
    for (;;) {
        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return TERN_OK;
        TERN_TRY(follow(r, &path, item, &key));
        TERN_TRY(tern_value_ordered(r, op, key, best, &better));
        if (better) {
            *out = item;
            best = key;
        }
    }
}

FILTER(do_min)
{
    return extreme(r, "min", v, call, '<', out);
}

FILTER(do_max)
{
    return extreme(r, "max", v, call, '>', out);
}

/* [(key, [elements with that key])], by key. */
FILTER(do_groupby)
{
    enum { ATTRIBUTE, STANDARD, CASE, N };
    tern_value args[N], list, group = TERN_UNDEFINED_VALUE;
    struct path path, shown;
    struct sorted *items;

    TERN_TRY(tern_call_bind(r, "groupby", call, "attribute, default, case_sensitive", 1, args, N));
    TERN_TRY(make_path(r, args[ATTRIBUTE], !tern_value_true(args[CASE]), &path));
    path.standard = args[STANDARD];
    path.has_standard = !NONE_OR_ABSENT(args[STANDARD]);
    shown = path;
    shown.lower = false;
    TERN_TRY(tern_value_to_list(r, v, &list));
    const size_t n = list.as.list->count;
    TERN_TRY(TERN_RENDER_TAKE(r, n, &items));
    for (size_t i = 0; i < n; i++) {
        items[i].value = list.as.list->items[i];
        TERN_TRY(follow(r, &path, items[i].value, &items[i].key));
    }
    TERN_TRY(sort_items(r, items, n, false));
    TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, out));
    for (size_t i = 0; i < n; i++) {
        bool same = false;

        if (i > 0)
            TERN_TRY(tern_value_equal(r, items[i - 1].key, items[i].key, &same));
        if (!same) {
            tern_value key, pair;

            TERN_TRY(follow(r, &shown, items[i].value, &key));
            TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, &group));
            TERN_TRY(tern_value_pair(r, key, group, &pair));
            TERN_TRY(tern_list_push(r, out->as.list, pair));
        }
        TERN_TRY(tern_list_push(r, group.as.list, items[i].value));
    }
    return TERN_OK;
}

/* ---- generators ---- */

static tern_status next_of_items(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct tern_vdict *dict = it->source.as.dict;

    if (it->source.kind == TERN_V_UNDEFINED) {
        *done = true;
        return TERN_OK;
    }
    if (it->source.kind != TERN_V_DICT)
        TERN_RAISE(r, "Can only get item pairs from a mapping.");
    *done = it->at >= dict->count;
    if (*done)
        return TERN_OK;
    it->at++;
    return tern_value_pair(r, dict->entries[it->at - 1].key, dict->entries[it->at - 1].value, out);
}

FILTER(do_items)
{
    TERN_TRY(no_args(r, "items", call));
    return new_iterator(r, next_of_items, v, NULL, out);
}

/* What map, select and their kin do with each element. */
struct picker {
    struct path path;
    const struct tern_filter *filter; /* of map */
    const struct tern_test *test;
    struct tern_call call;
    bool wanted; /* elements of which this is true stay */
};

/* The source's iterator, once; NULL for a source that is false: it has no elements. */
static tern_status start_inner(struct tern_render *r, struct tern_viter *it, bool *empty)
{
    *empty = !tern_value_true(it->source);
    if (!*empty && !it->inner)
        TERN_TRY(tern_value_iter(r, it->source, &it->inner));
    return TERN_OK;
}

static tern_status next_of_map(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct picker *p = it->how;
    tern_value v;

    TERN_TRY(start_inner(r, it, done));
    if (*done)
        return TERN_OK;
    TERN_TRY(tern_iter_next(r, it->inner, &v, done));
    if (*done)
        return TERN_OK;
    return p->filter ? p->filter->run(r, v, &p->call, out) : follow(r, &p->path, v, out);
}

/* The rest of a call behind its first n arguments. */
static struct tern_call rest_of_call(const struct tern_call *call, size_t n)
{
    struct tern_call rest = *call;

    rest.args += n < rest.n_args ? n : rest.n_args;
    rest.n_args -= n < rest.n_args ? n : rest.n_args;
    return rest;
}

FILTER(do_map)
{
    struct picker *p;
    tern_value args[2];

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &p));
    if (call->n_args == 0 && call->n_keywords > 0) {
        TERN_TRY(tern_call_bind(r, "map", call, "attribute, default", 1, args, 2));
        TERN_TRY(make_path(r, args[0], false, &p->path));
        p->path.standard = args[1];
        p->path.has_standard = !NONE_OR_ABSENT(args[1]);
    } else {
        if (call->n_args == 0)
            TERN_RAISE(r, "map requires a filter argument");
        if (call->args[0].kind != TERN_V_STRING)
            TERN_RAISE(r, "map: a filter's name is a %s, expected a str", tern_value_type(call->args[0]));
        p->filter = tern_filter_find(call->args[0].as.string->data, call->args[0].as.string->size);
        if (!p->filter)
            return tern_render_fail(r, TERN_ERR_UNSUPPORTED, "the filter '%.*s' is not one that tern has",
                                    (int)call->args[0].as.string->size, call->args[0].as.string->data);
        p->call = rest_of_call(call, 1);
    }
    return new_iterator(r, next_of_map, v, p, out);
}

static tern_status next_of_select(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct picker *p = it->how;

    for (;;) {
        tern_value v;
        bool holds;

        TERN_TRY(start_inner(r, it, done));
        if (*done)
            return TERN_OK;
        TERN_TRY(tern_iter_next(r, it->inner, out, done));
        if (*done)
            return TERN_OK;
        TERN_TRY(follow(r, &p->path, *out, &v));
        if (p->test)
            TERN_TRY(p->test->run(r, v, &p->call, &holds));
        else
            holds = tern_value_true(v);
        if (holds == p->wanted)
            return TERN_OK;
    }
}

static tern_status pick(struct tern_render *r, tern_value v, const struct tern_call *call, bool by_attribute,
                        bool wanted, tern_value *out)
{
    const size_t n = by_attribute;
    struct picker *p;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &p));
    p->wanted = wanted;
    if (by_attribute) {
        if (call->n_args == 0)
            TERN_RAISE(r, "Missing parameter for attribute name");
        TERN_TRY(make_path(r, call->args[0], false, &p->path));
    }
    if (call->n_args > n) {
        const tern_value name = call->args[n];

        if (name.kind != TERN_V_STRING)
            TERN_RAISE(r, "a test's name is a %s, expected a str", tern_value_type(name));
        p->test = tern_test_find(name.as.string->data, name.as.string->size);
        if (!p->test)
            return tern_render_fail(r, TERN_ERR_UNSUPPORTED, "the test '%.*s' is not one that tern has",
                                    (int)name.as.string->size, name.as.string->data);
        p->call = rest_of_call(call, n + 1);
    }
    return new_iterator(r, next_of_select, v, p, out);
}

FILTER(do_select)
{
    return pick(r, v, call, false, true, out);
}

FILTER(do_reject)
{
    return pick(r, v, call, false, false, out);
}

FILTER(do_selectattr)
{
    return pick(r, v, call, true, true, out);
}

FILTER(do_rejectattr)
{
    return pick(r, v, call, true, false, out);
}

struct uniquer {
    struct path path;
    struct tern_vdict *seen;
};

static tern_status next_of_unique(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct uniquer *u = it->how;

    if (!it->inner)
        TERN_TRY(tern_value_iter(r, it->source, &it->inner));
    for (;;) {
        const struct tern_ventry *entry;
        tern_value key;

        TERN_TRY(tern_iter_next(r, it->inner, out, done));
        if (*done)
            return TERN_OK;
        TERN_TRY(follow(r, &u->path, *out, &key));
        TERN_TRY(tern_dict_find(r, u->seen, key, &entry));
        if (!entry)
            return tern_dict_set(r, u->seen, key, TERN_NONE_VALUE);
    }
}

FILTER(do_unique)
{
    enum { CASE, ATTRIBUTE, N };
    tern_value args[N], seen;
    struct uniquer *u;

    TERN_TRY(tern_call_bind(r, "unique", call, "case_sensitive, attribute", 0, args, N));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &u));
    TERN_TRY(make_path(r, args[ATTRIBUTE], !tern_value_true(args[CASE]), &u->path));
    TERN_TRY(tern_value_dict(r, &seen));
    u->seen = seen.as.dict;
    return new_iterator(r, next_of_unique, v, u, out);
}

struct batcher {
    int64_t count;
    tern_value fill;
};

static tern_status next_of_batch(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct batcher *b = it->how;
    tern_value item;
    bool end = false;

    if (!it->inner)
        TERN_TRY(tern_value_iter(r, it->source, &it->inner));
    TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, out));
    while ((int64_t)out->as.list->count != b->count || b->count <= 0) {
        TERN_TRY(tern_iter_next(r, it->inner, &item, &end));
        if (end)
            break;
        TERN_TRY(tern_list_push(r, out->as.list, item));
    }
    *done = out->as.list->count == 0;
    while (!*done && end && !NONE_OR_ABSENT(b->fill) && (int64_t)out->as.list->count < b->count) {
        TERN_TRY(tern_render_spend(r, 1));
        TERN_TRY(tern_list_push(r, out->as.list, b->fill));
    }
    return TERN_OK;
}

FILTER(do_batch)
{
    enum { COUNT, FILL, N };
    tern_value args[N];
    struct batcher *b;

    TERN_TRY(tern_call_bind(r, "batch", call, "linecount, fill_with", 1, args, N));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &b));
    TERN_TRY(need_int(r, "batch: linecount", args[COUNT], 0, &b->count));
    if (b->count < 1)
        TERN_RAISE(r, "batch: linecount is %" PRId64 ", expected at least 1", b->count);
    b->fill = args[FILL];
    return new_iterator(r, next_of_batch, v, b, out);
}

/* `count` lists of nearly the same length. */
FILTER(do_slice)
{
    enum { COUNT, FILL, N };
    tern_value args[N], list, part, parts;
    struct tern_viter *it;
    int64_t count;
    size_t begin = 0;

    TERN_TRY(tern_call_bind(r, "slice", call, "slices, fill_with", 1, args, N));
    TERN_TRY(need_int(r, "slice: slices", args[COUNT], 0, &count));
    TERN_TRY(tern_value_to_list(r, v, &list));
    if (count < 1)
        TERN_RAISE(r, "slice: slices is %" PRId64 ", expected at least 1", count);
    const size_t n = list.as.list->count, each = n / (size_t)count, more = n % (size_t)count;
    TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, &parts));
    for (size_t i = 0; i < (size_t)count; i++) {
        const size_t end = begin + each + (i < more);

        TERN_TRY(tern_render_spend(r, 1));
        TERN_TRY(tern_value_list(r, TERN_V_LIST, end - begin, &part));
        for (; begin < end; begin++)
            TERN_TRY(tern_list_push(r, part.as.list, list.as.list->items[begin]));
        if (!NONE_OR_ABSENT(args[FILL]) && i >= more)
            TERN_TRY(tern_list_push(r, part.as.list, args[FILL]));
        TERN_TRY(tern_list_push(r, parts.as.list, part));
    }
    TERN_TRY(tern_value_iter(r, parts, &it));
    *out = (tern_value){ .kind = TERN_V_ITERATOR, .as.iter = it };
    return TERN_OK;
}

/* ---- anything ---- */

FILTER(do_default)
{
    enum { VALUE, BOOLEAN, N };
    tern_value args[N];

    TERN_TRY(tern_call_bind(r, "default", call, "default_value, boolean", 0, args, N));
    *out = v;
    if (v.kind != TERN_V_UNDEFINED && (!tern_value_true(args[BOOLEAN]) || tern_value_true(v)))
        return TERN_OK;
    *out = args[VALUE];
    return call->n_args == 0 && args[VALUE].kind == TERN_V_UNDEFINED ? tern_value_borrowed(r, "", 0, out) : TERN_OK;
}

FILTER(do_attr)
{
    tern_value name;

    TERN_TRY(tern_call_bind(r, "attr", call, "name", 1, &name, 1));
    if (name.kind != TERN_V_STRING)
        TERN_RAISE(r, "attr: a name is a %s, expected a str", tern_value_type(name));
    if (v.kind == TERN_V_DICT && !tern_method_find(v.kind, name.as.string->data, name.as.string->size))
        return tern_value_undefined(r, out, "'dict object' has no attribute '%.*s'",
                                    (int)(name.as.string->size > 100 ? 100 : name.as.string->size),
                                    name.as.string->data);
    return tern_value_getattr(r, v, name.as.string, out);
}

static const struct tern_filter filters[] = {
    { "abs", do_abs },           { "attr", do_attr },
    { "batch", do_batch },       { "capitalize", do_capitalize },
    { "center", do_center },     { "count", do_length },
    { "d", do_default },         { "default", do_default },
    { "dictsort", do_dictsort }, { "e", do_escape },
    { "escape", do_escape },     { "first", do_first },
    { "float", do_float },       { "format", do_format },
    { "groupby", do_groupby },   { "indent", do_indent },
    { "int", do_int },           { "items", do_items },
    { "join", do_join },         { "last", do_last },
    { "length", do_length },     { "list", do_list },
    { "lower", do_lower },       { "map", do_map },
    { "max", do_max },           { "min", do_min },
    { "reject", do_reject },     { "rejectattr", do_rejectattr },
    { "replace", do_replace },   { "reverse", do_reverse },
    { "round", do_round },       { "safe", do_safe },
    { "select", do_select },     { "selectattr", do_selectattr },
    { "slice", do_slice },       { "sort", do_sort },
    { "string", do_string },     { "sum", do_sum },
    { "title", do_title },       { "tojson", do_tojson },
    { "trim", do_trim },         { "truncate", do_truncate },
    { "unique", do_unique },     { "upper", do_upper },
};

const struct tern_filter *tern_filter_find(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (strlen(filters[i].name) == size && memcmp(filters[i].name, name, size) == 0)
            return &filters[i];
    return NULL;
}
