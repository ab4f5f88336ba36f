/* template_filters_text.c: jinja2's filters of texts. */
#include "base/utf8.h"
#include "text/template_filter.h"

static tern_status change_case(struct tern_render *r, const char *what, tern_value v, const struct tern_call *call,
                               enum tern_case how, tern_value *out)
{
    TERN_TRY(tern_filter_no_args(r, what, call));
    TERN_TRY(tern_value_str(r, v, &v));
    return tern_string_case(r, v.as.string, how, out);
}

TERN_FILTER(upper)
{
    return change_case(r, "upper", v, call, TERN_CASE_UPPER, out);
}

TERN_FILTER(lower)
{
    return change_case(r, "lower", v, call, TERN_CASE_LOWER, out);
}

TERN_FILTER(capitalize)
{
    return change_case(r, "capitalize", v, call, TERN_CASE_CAPITALIZE, out);
}

static bool begins_word(uint32_t code)
{
    return tern_char_is_python_space(code) || (code < 0x80 && code && strchr("-({[<", (int)code));
}

/* Each run of other characters than those that words begin behind: its first in upper case, the rest in lower case. */
TERN_FILTER(title)
{
    const struct tern_vstring *s;
    struct tern_out text = { 0 };

    TERN_TRY(tern_filter_no_args(r, "title", call));
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

TERN_FILTER(trim)
{
    tern_value chars;

    TERN_TRY(tern_call_bind(r, "trim", call, "chars", 0, &chars, 1));
    if (!TERN_NONE_OR_ABSENT(chars) && chars.kind != TERN_V_STRING)
        TERN_RAISE(r, "strip arg must be None or str");
    TERN_TRY(tern_value_str(r, v, &v));
    return tern_string_strip(r, v.as.string, chars.kind == TERN_V_STRING ? chars.as.string : NULL, true, true, out);
}

TERN_FILTER(replace)
{
    enum { OLD, NEW, COUNT, N };
    tern_value args[N];
    int64_t count = -1;

    TERN_TRY(tern_call_bind(r, "replace", call, "old, new, count", 2, args, N));
    if (!TERN_NONE_OR_ABSENT(args[COUNT]))
        TERN_TRY(tern_argument_int(r, "replace: count", args[COUNT], -1, &count));
    TERN_TRY(tern_value_str(r, v, &v));
    TERN_TRY(tern_value_str(r, args[OLD], &args[OLD]));
    TERN_TRY(tern_value_str(r, args[NEW], &args[NEW]));
    return tern_string_replace(r, v.as.string, args[OLD].as.string, args[NEW].as.string, count, out);
}

TERN_FILTER(string)
{
    TERN_TRY(tern_filter_no_args(r, "string", call));
    return tern_value_str(r, v, out);
}

TERN_FILTER(safe)
{
    TERN_TRY(tern_filter_no_args(r, "safe", call));
    TERN_TRY(tern_value_str(r, v, out));
    return tern_string_mark(r, out->as.string, true, out);
}

TERN_FILTER(escape)
{
    TERN_TRY(tern_filter_no_args(r, "escape", call));
    TERN_TRY(tern_value_str(r, v, out));
    if (!out->as.string->markup)
        TERN_TRY(tern_string_escape(r, out->as.string, out));
    return tern_string_mark(r, out->as.string, true, out);
}

TERN_FILTER(indent)
{
    enum { WIDTH, FIRST, BLANK, N };
    tern_value args[N], lines, newline;
    struct tern_out text = { 0 };
    int64_t width = 4;

    TERN_TRY(tern_call_bind(r, "indent", call, "width, first, blank", 0, args, N));
    if (args[WIDTH].kind != TERN_V_STRING) {
        struct tern_out blanks = { 0 };

        TERN_TRY(tern_argument_int(r, "indent: width", args[WIDTH], 4, &width));
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

TERN_FILTER(center)
{
    tern_value arg;
    struct tern_out text = { 0 };
    int64_t width, missing;

    TERN_TRY(tern_call_bind(r, "center", call, "width", 0, &arg, 1));
    TERN_TRY(tern_argument_int(r, "center: width", arg, 80, &width));
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

TERN_FILTER(truncate)
{
    enum { LENGTH, KILLWORDS, END, LEEWAY, N };
    tern_value args[N], cut, words;
    int64_t length, leeway = 5;

    TERN_TRY(tern_call_bind(r, "truncate", call, "length, killwords, end, leeway", 0, args, N));
    TERN_TRY(tern_argument_int(r, "truncate: length", args[LENGTH], 255, &length));
    if (args[LEEWAY].kind != TERN_V_NONE)
        TERN_TRY(tern_argument_int(r, "truncate: leeway", args[LEEWAY], 5, &leeway));
    if (tern_value_is_absent(args[END]))
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

TERN_FILTER(format)
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

TERN_FILTER(tojson)
{
    return tern_value_to_json(r, v, call, out);
}
