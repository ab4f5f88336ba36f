/* template_print.c: texts in the making, and values as Python prints them: str, repr, json.dumps. */
#include "text/template_value.h"

#include "base/utf8.h"
#include "text/template_render.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

tern_status tern_out_put(struct tern_render *r, struct tern_out *out, const char *data, size_t size)
{
    struct tern_vbuffer *buffer = out->buffer;

    if (size == 0)
        return TERN_OK;
    if (size > r->limits->output - r->output)
        return tern_render_fail(r, TERN_ERR_CAPACITY, "the limit of output is %zu bytes, and there is more",
                                r->limits->output);
    r->output += size;
    TERN_TRY(tern_render_spend(r, size / 64));
    if (!buffer || buffer->capacity - buffer->used < size) {
        const size_t used = buffer ? buffer->used : 0, capacity = 2 * used + size + 56;

        TERN_TRY(tern_pool_take(r->ctx, &r->pool, sizeof *buffer + capacity, (void **)&buffer));
        if (used > 0)
            memcpy(buffer->data, out->buffer->data, used);
        buffer->used = used;
        buffer->capacity = capacity;
        out->buffer = buffer;
    }
    memcpy(buffer->data + buffer->used, data, size);
    buffer->used += size;
    return TERN_OK;
}

tern_status tern_out_text(struct tern_render *r, struct tern_out *out, const char *text)
{
    return tern_out_put(r, out, text, strlen(text));
}

tern_status tern_out_code(struct tern_render *r, struct tern_out *out, uint32_t code)
{
    char bytes[TERN_UTF8_MAX];

    return tern_out_put(r, out, bytes, tern_utf8_put(code, bytes));
}

tern_status tern_out_printf(struct tern_render *r, struct tern_out *out, const char *format, ...)
{
    char text[128];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tern_out_text(r, out, text);
}

tern_status tern_out_string(struct tern_render *r, const struct tern_out *out, tern_value *value)
{
    if (!out->buffer)
        return tern_value_borrowed(r, "", 0, value);
    struct tern_vstring *s;
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &s));
    s->data = out->buffer->data;
    s->size = out->buffer->used;
    s->n_chars = tern_utf8_count(s->data, s->size);
    s->buffer = out->buffer;
    *value = (tern_value){ .kind = TERN_V_STRING, .as.string = s };
    return TERN_OK;
}

/* ---- numbers ---- */

/* The shortest number of digits that reads back as x is found by trying.  Digits are taken out of what printf writes one by one, as the
 * host's locale may have another decimal point. */
void tern_float_repr(double x, char out[32])
{
    char text[48], digits[20];
    size_t n = 0, at = 0;
    int exponent, precision = 0;

    if (isnan(x) || isinf(x)) {
        snprintf(out, 32, "%s", isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
        return;
    }
    do
        snprintf(text, sizeof text, "%.*e", precision, x);
    while (strtod(text, NULL) != x && ++precision < 17);
    const char *e = strchr(text, 'e');
    for (const char *c = text; c < e; c++)
        if (isdigit((unsigned char)*c))
            digits[n++] = *c;
    exponent = (int)strtol(e + 1, NULL, 10);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (signbit(x))
        out[at++] = '-';
    if (exponent >= -4 && exponent < 16) {
        if (exponent < 0) {
            out[at++] = '0';
            out[at++] = '.';
            for (int i = -1; i > exponent; i--)
                out[at++] = '0';
        }
        for (size_t i = 0; i < n || (int)i <= exponent; i++) {
            out[at++] = i < n ? digits[i] : '0';
            if ((int)i == exponent)
                out[at++] = '.';
        }
        if (out[at - 1] == '.')
            out[at++] = '0';
    } else {
        out[at++] = digits[0];
        if (n > 1)
            out[at++] = '.';
        for (size_t i = 1; i < n; i++)
            out[at++] = digits[i];
        at += (size_t)snprintf(out + at, 32 - at, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    out[at] = '\0';
}

/* ---- repr ---- */

static tern_status string_repr(struct tern_render *r, struct tern_out *out, const struct tern_vstring *s)
{
    const char quote = memchr(s->data, '\'', s->size) && !memchr(s->data, '"', s->size) ? '"' : '\'';

    TERN_TRY(tern_out_put(r, out, &quote, 1));
    for (size_t at = 0, begin; at < s->size;) {
        begin = at;
        const uint32_t code = tern_utf8_next(s->data, &at);

        if (code == (uint32_t)quote || code == '\\')
            TERN_TRY(tern_out_printf(r, out, "\\%c", (char)code));
        else if (code == '\n' || code == '\r' || code == '\t')
            TERN_TRY(tern_out_text(r, out, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t"));
        else if (tern_char_is_printable(code))
            TERN_TRY(tern_out_put(r, out, s->data + begin, at - begin));
        else if (code < 0x100)
            TERN_TRY(tern_out_printf(r, out, "\\x%02" PRIx32, code));
        else if (code < 0x10000)
            TERN_TRY(tern_out_printf(r, out, "\\u%04" PRIx32, code));
        else
            TERN_TRY(tern_out_printf(r, out, "\\U%08" PRIx32, code));
    }
    return tern_out_put(r, out, &quote, 1);
}

static tern_status list_repr(struct tern_render *r, struct tern_out *out, const struct tern_vlist *list, bool tuple)
{
    TERN_TRY(tern_out_text(r, out, tuple ? "(" : "["));
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            TERN_TRY(tern_out_text(r, out, ", "));
        TERN_TRY(tern_out_repr(r, out, list->items[i]));
    }
    return tern_out_text(r, out, !tuple ? "]" : list->count == 1 ? ",)" : ")");
}

static tern_status dict_repr(struct tern_render *r, struct tern_out *out, const struct tern_vdict *dict)
{
    TERN_TRY(tern_out_text(r, out, "{"));
    for (size_t i = 0; i < dict->count; i++) {
        if (i > 0)
            TERN_TRY(tern_out_text(r, out, ", "));
        TERN_TRY(tern_out_repr(r, out, dict->entries[i].key));
        TERN_TRY(tern_out_text(r, out, ": "));
        TERN_TRY(tern_out_repr(r, out, dict->entries[i].value));
    }
    return tern_out_text(r, out, "}");
}

static tern_status view_repr(struct tern_render *r, struct tern_out *out, tern_value v)
{
    tern_value list;

    TERN_TRY(tern_value_to_list(r, v, &list));
    TERN_TRY(tern_out_text(r, out, tern_value_type(v)));
    TERN_TRY(tern_out_text(r, out, "("));
    TERN_TRY(list_repr(r, out, list.as.list, false));
    return tern_out_text(r, out, ")");
}

static tern_status plain_repr(struct tern_render *r, struct tern_out *out, tern_value v)
{
    char text[32];

    switch (v.kind) {
    case TERN_V_UNDEFINED:
        return tern_out_text(r, out, "Undefined");
    case TERN_V_NONE:
        return tern_out_text(r, out, "None");
    case TERN_V_BOOL:
        return tern_out_text(r, out, v.as.boolean ? "True" : "False");
    case TERN_V_INT:
        return tern_out_printf(r, out, "%" PRId64, v.as.integer);
    case TERN_V_FLOAT:
        tern_float_repr(v.as.real, text);
        return tern_out_text(r, out, text);
    case TERN_V_STRING:
        TERN_TRY(v.as.string->markup ? tern_out_text(r, out, "Markup(") : TERN_OK);
        TERN_TRY(string_repr(r, out, v.as.string));
        return v.as.string->markup ? tern_out_text(r, out, ")") : TERN_OK;
    case TERN_V_LIST:
    case TERN_V_TUPLE:
        return list_repr(r, out, v.as.list, v.kind == TERN_V_TUPLE);
    case TERN_V_DICT:
        return dict_repr(r, out, v.as.dict);
    case TERN_V_NAMESPACE:
        TERN_TRY(tern_out_text(r, out, "<Namespace "));
        TERN_TRY(dict_repr(r, out, v.as.dict));
        return tern_out_text(r, out, ">");
    case TERN_V_RANGE:
        TERN_TRY(tern_out_printf(r, out, "range(%" PRId64 ", %" PRId64, v.as.range->start, v.as.range->stop));
        if (v.as.range->step != 1)
            TERN_TRY(tern_out_printf(r, out, ", %" PRId64, v.as.range->step));
        return tern_out_text(r, out, ")");
    case TERN_V_VIEW:
        return view_repr(r, out, v);
    case TERN_V_MACRO:
        TERN_TRY(tern_out_text(r, out, "<Macro "));
        if (tern_macro_name(v.as.macro))
            TERN_TRY(string_repr(r, out, tern_macro_name(v.as.macro)));
        else
            TERN_TRY(tern_out_text(r, out, "anonymous"));
        return tern_out_text(r, out, ">");
    case TERN_V_LOOP:
        return tern_loop_describe(r, v.as.loop, out);
    default: /* Python prints an address */
        return tern_out_printf(r, out, "<%s object>", tern_value_type(v));
    }
}

tern_status tern_out_repr(struct tern_render *r, struct tern_out *out, tern_value v)
{
    TERN_TRY(tern_render_spend(r, 1));
    TERN_TRY(tern_render_enter(r));
    TERN_TRY(plain_repr(r, out, v));
    tern_render_leave(r);
    return TERN_OK;
}

tern_status tern_out_value(struct tern_render *r, struct tern_out *out, tern_value v)
{
    if (v.kind == TERN_V_STRING)
        return tern_out_put(r, out, v.as.string->data, v.as.string->size);
    return v.kind == TERN_V_UNDEFINED ? TERN_OK : tern_out_repr(r, out, v);
}

tern_status tern_value_str(struct tern_render *r, tern_value v, tern_value *out)
{
    struct tern_out text = { 0 };

    if (v.kind == TERN_V_STRING) {
        *out = v;
        return TERN_OK;
    }
    TERN_TRY(tern_out_value(r, &text, v));
    return tern_out_string(r, &text, out);
}

/* ---- JSON ---- */

struct json_style {
    bool ascii, sort;
    const struct tern_vstring *indent; /* of one level; NULL: all on one line */
    const struct tern_vstring *item, *key;
};

static tern_status json_string(struct tern_render *r, struct tern_out *out, const struct tern_vstring *s, bool ascii)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";

    TERN_TRY(tern_out_text(r, out, "\""));
    for (size_t at = 0, begin; at < s->size;) {
        begin = at;
        const uint32_t code = tern_utf8_next(s->data, &at);
        const char *escaped = code && code < 0x80 ? strchr(from, (int)code) : NULL;

        if (escaped)
            TERN_TRY(tern_out_printf(r, out, "\\%c", to[escaped - from]));
        else if (code >= 0x20 && (!ascii || code < 0x7f))
            TERN_TRY(tern_out_put(r, out, s->data + begin, at - begin));
        else if (code < 0x10000)
            TERN_TRY(tern_out_printf(r, out, "\\u%04" PRIx32, code));
        else
            TERN_TRY(tern_out_printf(r, out, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xd7c0 + (code >> 10),
                                     0xdc00 + (code & 0x3ff)));
    }
    return tern_out_text(r, out, "\"");
}

static tern_status json_number(struct tern_render *r, struct tern_out *out, tern_value v)
{
    char text[32];

    if (v.kind == TERN_V_INT)
        return tern_out_printf(r, out, "%" PRId64, v.as.integer);
    if (v.kind == TERN_V_BOOL)
        return tern_out_text(r, out, v.as.boolean ? "true" : "false");
    if (!isfinite(v.as.real))
        return tern_out_text(r, out, isnan(v.as.real) ? "NaN" : v.as.real < 0 ? "-Infinity" : "Infinity");
    tern_float_repr(v.as.real, text);
    return tern_out_text(r, out, text);
}

static tern_status json_break(struct tern_render *r, struct tern_out *out, const struct json_style *style,
                              unsigned level)
{
    if (!style->indent)
        return TERN_OK;
    TERN_TRY(tern_out_text(r, out, "\n"));
    for (unsigned i = 0; i < level; i++)
        TERN_TRY(tern_out_put(r, out, style->indent->data, style->indent->size));
    return TERN_OK;
}

static tern_status json_value(struct tern_render *r, struct tern_out *out, const struct json_style *style, tern_value v,
                              unsigned level);

static tern_status json_list(struct tern_render *r, struct tern_out *out, const struct json_style *style,
                             const struct tern_vlist *list, unsigned level)
{
    if (list->count == 0)
        return tern_out_text(r, out, "[]");
    TERN_TRY(tern_out_text(r, out, "["));
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            TERN_TRY(tern_out_put(r, out, style->item->data, style->item->size));
        TERN_TRY(json_break(r, out, style, level + 1));
        TERN_TRY(json_value(r, out, style, list->items[i], level + 1));
    }
    TERN_TRY(json_break(r, out, style, level));
    return tern_out_text(r, out, "]");
}

static tern_status json_key(struct tern_render *r, struct tern_out *out, const struct json_style *style, tern_value key)
{
    struct tern_out text = { 0 };
    tern_value string = key;

    if (key.kind != TERN_V_STRING) {
        if (key.kind != TERN_V_NONE && !tern_value_is_number(key))
            TERN_RAISE(r, "keys must be str, int, float, bool or None, not %s", tern_value_type(key));
        TERN_TRY(key.kind == TERN_V_NONE ? tern_out_text(r, &text, "null") : json_number(r, &text, key));
        TERN_TRY(tern_out_string(r, &text, &string));
    }
    return json_string(r, out, string.as.string, style->ascii);
}

static tern_status json_dict(struct tern_render *r, struct tern_out *out, const struct json_style *style,
                             const struct tern_vdict *dict, unsigned level)
{
    size_t *order = NULL;

    if (dict->count == 0)
        return tern_out_text(r, out, "{}");
    TERN_TRY(TERN_RENDER_TAKE(r, dict->count, &order));
    for (size_t i = 0; i < dict->count; i++) {
        size_t at = i;

        while (style->sort && at > 0) { /* few keys: by insertion */
            bool less;

            TERN_TRY(tern_value_ordered(r, '<', dict->entries[i].key, dict->entries[order[at - 1]].key, &less));
            if (!less)
                break;
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
    TERN_TRY(tern_out_text(r, out, "{"));
    for (size_t i = 0; i < dict->count; i++) {
        const struct tern_ventry *entry = &dict->entries[order[i]];

        if (i > 0)
            TERN_TRY(tern_out_put(r, out, style->item->data, style->item->size));
        TERN_TRY(json_break(r, out, style, level + 1));
        TERN_TRY(json_key(r, out, style, entry->key));
        TERN_TRY(tern_out_put(r, out, style->key->data, style->key->size));
        TERN_TRY(json_value(r, out, style, entry->value, level + 1));
    }
    TERN_TRY(json_break(r, out, style, level));
    return tern_out_text(r, out, "}");
}

static tern_status json_value(struct tern_render *r, struct tern_out *out, const struct json_style *style, tern_value v,
                              unsigned level)
{
    TERN_TRY(tern_render_spend(r, 1));
    switch (v.kind) {
    case TERN_V_NONE:
        return tern_out_text(r, out, "null");
    case TERN_V_BOOL:
    case TERN_V_INT:
    case TERN_V_FLOAT:
        return json_number(r, out, v);
    case TERN_V_STRING:
        return json_string(r, out, v.as.string, style->ascii);
    case TERN_V_LIST:
    case TERN_V_TUPLE:
    case TERN_V_DICT:
        TERN_TRY(tern_render_enter(r));
        TERN_TRY(v.kind == TERN_V_DICT ? json_dict(r, out, style, v.as.dict, level)
                                       : json_list(r, out, style, v.as.list, level));
        tern_render_leave(r);
        return TERN_OK;
    default:
        TERN_RAISE(r, "Object of type %s is not JSON serializable", tern_value_type(v));
    }
}

static tern_status json_separators(struct tern_render *r, tern_value separators, struct json_style *style)
{
    tern_value list;

    TERN_TRY(tern_value_to_list(r, separators, &list));
    if (list.as.list->count != 2)
        TERN_RAISE(r, "tojson: separators has %zu elements, expected 2", list.as.list->count);
    for (int i = 0; i < 2; i++)
        if (list.as.list->items[i].kind != TERN_V_STRING)
            TERN_RAISE(r, "tojson: a separator is a %s, expected a str", tern_value_type(list.as.list->items[i]));
    style->item = list.as.list->items[0].as.string;
    style->key = list.as.list->items[1].as.string;
    return TERN_OK;
}

tern_status tern_value_to_json(struct tern_render *r, tern_value v, const struct tern_call *call, tern_value *out)
{
    enum { ASCII, INDENT, SEPARATORS, SORT, N_ARGS };
    tern_value args[N_ARGS], text;
    struct json_style style = { 0 };
    struct tern_out json = { 0 };

    TERN_TRY(tern_call_bind(r, "tojson", call, "ensure_ascii, indent, separators, sort_keys", 0, args, N_ARGS));
    style.ascii = tern_value_true(args[ASCII]);
    style.sort = tern_value_true(args[SORT]);
    if (tern_value_is_int(args[INDENT])) {
        const int64_t width = tern_value_int(args[INDENT]);
        struct tern_out blanks = { 0 };

        if (width > 1000)
            TERN_RAISE(r, "tojson: an indent of %" PRId64 ", expected at most 1000", width);
        for (int64_t i = 0; i < width; i++)
            TERN_TRY(tern_out_text(r, &blanks, " "));
        TERN_TRY(tern_out_string(r, &blanks, &text));
        style.indent = text.as.string;
    } else if (args[INDENT].kind == TERN_V_STRING) {
        style.indent = args[INDENT].as.string;
    } else if (args[INDENT].kind != TERN_V_NONE && !tern_value_is_absent(args[INDENT])) {
        TERN_RAISE(r, "tojson: indent is a %s, expected an int or a str", tern_value_type(args[INDENT]));
    }
    TERN_TRY(tern_value_borrowed(r, style.indent ? "," : ", ", style.indent ? 1 : 2, &text));
    style.item = text.as.string;
    TERN_TRY(tern_value_borrowed(r, ": ", 2, &text));
    style.key = text.as.string;
    if (args[SEPARATORS].kind != TERN_V_NONE && !tern_value_is_absent(args[SEPARATORS]))
        TERN_TRY(json_separators(r, args[SEPARATORS], &style));
    TERN_TRY(json_value(r, &json, &style, v, 0));
    return tern_out_string(r, &json, out);
}
