/* template_numbers.c: texts to numbers, and numbers into texts: int(), float(), "%d" % x, "{:5}".format(x). */
#include "base/utf8.h"
#include "text/template_render.h"

#include "base/fpmode.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <utf8proc.h>

#define NUMBER_MAX 400 /* characters of a number that is read; digits of a float beyond 17 decide nothing but ties */
#define WIDTH_MAX  10000

/* ---- reading ---- */

/* Without the white space around it. */
static struct tern_vstring trimmed(const struct tern_vstring *s)
{
    struct tern_vstring t = *s;

    while (t.size > 0) {
        size_t next = 0;

        if (!tern_char_is_python_space(tern_utf8_next(t.data, &next)))
            break;
        t.data += next;
        t.size -= next;
    }
    while (t.size > 0) {
        size_t before = t.size;

        if (!tern_char_is_python_space(tern_utf8_previous(t.data, &before)))
            break;
        t.size = before;
    }
    return t;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'z' ? c - 'a' + 10
           : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                  : 99;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

tern_status tern_check_digits(struct tern_render *r, const struct tern_vstring *s)
{
    TERN_TRY(tern_render_spend(r, s->size / 16));
    for (size_t at = 0; at < s->size;) {
        const uint32_t code = tern_utf8_next(s->data, &at);

        if (code >= 0x80 && utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_ND)
            return tern_render_fail(r, TERN_ERR_UNSUPPORTED,
                                    "a number with the digit U+%04" PRIX32 ": tern reads 0 to 9 alone", code);
    }
    return TERN_OK;
}

tern_status tern_int_parse(struct tern_render *r, const struct tern_vstring *s, int64_t base, int64_t *out, bool *ok)
{
    const struct tern_vstring t = trimmed(s);
    size_t at = 0;
    bool negative = false, digit = false, too_large = false;
    int64_t number = 0;

    *ok = false;
    *out = 0;
    if (base != 0 && (base < 2 || base > 36))
        return TERN_OK;
    if (at < t.size && (t.data[at] == '+' || t.data[at] == '-'))
        negative = t.data[at++] == '-';
    if (at + 1 < t.size && t.data[at] == '0') {
        const char c = lower(t.data[at + 1]);
        const int64_t named = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;

        if (named && (base == named || base == 0)) {
            base = named;
            at += 2;
            if (at < t.size && t.data[at] == '_')
                at++;
        }
    }
    const bool plain = base == 0; /* then leading zeros are refused, but for zero itself */
    const size_t first = at;
    if (plain)
        base = 10;
    for (; at < t.size; at++) {
        if (t.data[at] == '_' && digit && at + 1 < t.size && t.data[at + 1] != '_')
            continue;
        if (digit_of(t.data[at]) >= base)
            return TERN_OK;
        digit = true;
        too_large = too_large || __builtin_mul_overflow(number, base, &number) ||
                    __builtin_sub_overflow(number, digit_of(t.data[at]), &number);
    }
    if (!digit || (plain && t.data[first] == '0' && (too_large || number != 0)))
        return TERN_OK;
    if (too_large || (!negative && number == INT64_MIN))
        TERN_RAISE(r, "an integer with more than 64 bits");
    *out = negative ? number : -number;
    *ok = true;
    return TERN_OK;
}

static bool is_word(const char *text, size_t size, const char *word)
{
    size_t i = 0;

    for (; i < size && word[i]; i++)
        if (lower(text[i]) != word[i])
            return false;
    return i == size && !word[i];
}

bool tern_float_parse(const struct tern_vstring *s, double *out)
{
    const struct tern_vstring t = trimmed(s);
    char text[NUMBER_MAX + 1], *end;
    size_t n = 0, at = t.size > 0 && (t.data[0] == '+' || t.data[0] == '-');
    const bool negative = at && t.data[0] == '-';

    if (is_word(t.data + at, t.size - at, "inf") || is_word(t.data + at, t.size - at, "infinity") ||
        is_word(t.data + at, t.size - at, "nan")) {
        *out = lower(t.data[at]) == 'n' ? (double)NAN : (double)INFINITY;
        if (negative)
            *out = -*out;
        return true;
    }
    for (size_t i = 0; i < t.size; i++) {
        const char c = t.data[i];

        if (c == '_') { /* between digits alone */
            if (i == 0 || i + 1 == t.size || digit_of(t.data[i - 1]) > 9 || digit_of(t.data[i + 1]) > 9)
                return false;
            continue;
        }
        if ((digit_of(c) > 9 && c != '.' && c != '+' && c != '-' && c != 'e' && c != 'E') || n == NUMBER_MAX)
            return false;
        text[n++] = c;
    }
    text[n] = '\0';
    const locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale || n == 0) {
        if (c_locale)
            freelocale(c_locale);
        return false;
    }
    const tern_fpmode caller = tern_fpmode_enter(); /* strtod rounds as the mode says */
    *out = strtod_l(text, &end, c_locale);
    tern_fpmode_leave(caller);
    freelocale(c_locale);
    return *end == '\0';
}

/* ---- writing ---- */

struct spec {
    uint32_t fill;
    char align; /* < > ^ =, 0: by the type */
    char sign;  /* + - or space */
    bool alternate, zero;
    char grouping;            /* , or _, or 0 */
    int64_t width, precision; /* precision -1: none */
    char type;                /* 0: none */
};

/* The C library's own spelling with the decimal point that Python has. */
static void format_real(char *out, size_t size, char type, int64_t precision, bool alternate, double x)
{
    char format[16];

    snprintf(format, sizeof format, "%%%s.*%c", alternate ? "#" : "", type);
    snprintf(out, size, format, (int)precision, x);
    for (char *c = out; *c; c++)
        if (*c == ',')
            *c = '.';
}

static void format_integer(char *out, size_t size, char type, int64_t value)
{
    const uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    if (type == 'b') {
        size_t n = 0;

        for (int bit = 63; bit >= 0; bit--)
            if (magnitude >> bit & 1 || n > 0 || bit == 0)
                out[n++] = magnitude >> bit & 1 ? '1' : '0';
        out[n] = '\0';
    } else {
        snprintf(out, size,
                 type == 'x'   ? "%" PRIx64
                 : type == 'X' ? "%" PRIX64
                 : type == 'o' ? "%" PRIo64
                               : "%" PRIu64,
                 magnitude);
    }
}

/* [sign][prefix][zeros or fill]digits, filled to the width. */
static tern_status put_padded(struct tern_render *r, struct tern_out *out, const struct spec *spec, const char *prefix,
                              const char *body, size_t size, char standard)
{
    const char align = spec->align ? spec->align : standard;
    const size_t used = strlen(prefix) + tern_utf8_count(body, size);
    const size_t missing = spec->width > 0 && (size_t)spec->width > used ? (size_t)spec->width - used : 0;
    const size_t left = align == '<' || align == '=' ? 0 : align == '^' ? missing / 2 : missing;

    for (size_t i = 0; i < left; i++)
        TERN_TRY(tern_out_code(r, out, spec->fill));
    TERN_TRY(tern_out_text(r, out, prefix));
    for (size_t i = 0; align == '=' && i < missing; i++)
        TERN_TRY(tern_out_code(r, out, spec->fill));
    TERN_TRY(tern_out_put(r, out, body, size));
    for (size_t i = left; align != '=' && i < missing; i++)
        TERN_TRY(tern_out_code(r, out, spec->fill));
    return TERN_OK;
}

/* Zeros before the digits up to the point, so many that with separators between every `every` of them they are `width` wide or, where
 * they would begin with a separator, one more; then the separators. */
static void group(char *digits, size_t size, char separator, size_t every, size_t width)
{
    const size_t whole = strspn(digits, "0123456789abcdefABCDEF");
    size_t length = strlen(digits), n = whole;

    while (n + (n - 1) / every + (length - whole) < width && n + (n - 1) / every + (length - whole) + 2 < size)
        n++;
    memmove(digits + (n - whole), digits, length + 1);
    memset(digits, '0', n - whole);
    length += n - whole;
    for (size_t at = n; at > every && length + 1 < size;) {
        at -= every;
        memmove(digits + at + 1, digits + at, length - at + 1);
        digits[at] = separator;
        length++;
    }
}

/* As "g", but with a point or an exponent always: where "g" would use up all digits before the point, an exponent. */
static void format_short(char *out, size_t size, int64_t precision, double x)
{
    char *e, *end;

    precision = precision ? precision : 1;
    snprintf(out, size, "%.*e", (int)precision - 1, x);
    e = strchr(out, 'e');
    if (!e || strtol(e + 1, NULL, 10) != precision - 1) {
        format_real(out, size, 'g', precision, false, x);
        if (!strpbrk(out, ".e"))
            snprintf(out + strlen(out), 3, ".0");
        return;
    }
    for (end = e; precision > 1 && end[-1] == '0'; end--)
        ;
    end -= precision > 1 && (end[-1] < '0' || end[-1] > '9');
    memmove(end, e, strlen(e) + 1);
    for (char *c = out; *c; c++)
        if (*c == ',')
            *c = '.';
}

static tern_status real_body(struct tern_render *r, const struct spec *spec, double x, char *body, size_t size)
{
    const int64_t precision = spec->precision < 0 ? 6 : spec->precision;
    const char type = spec->type;

    if (precision > 300)
        TERN_RAISE(r, "a precision of %" PRId64 ", expected at most 300", precision);
    if (type == '%')
        x *= 100;
    if (!isfinite(x))
        snprintf(body, size, "%s", isnan(x) ? "nan" : "inf");
    else if (!type && spec->precision < 0)
        tern_float_repr(x, body);
    else if (!type)
        format_short(body, size, precision, x);
    else
        format_real(body, size, type == '%' ? 'f' : type == 'n' ? 'g' : type, precision, spec->alternate, x);
    if (isupper((unsigned char)type))
        for (char *c = body; *c; c++)
            *c = (char)toupper((unsigned char)*c);
    if (type == '%')
        snprintf(body + strlen(body), 2, "%%");
    return TERN_OK;
}

static tern_status put_number(struct tern_render *r, struct tern_out *out, struct spec *spec, tern_value v)
{
    char body[NUMBER_MAX + WIDTH_MAX + 400] = "", prefix[8] = "";
    size_t n = 0;
    const char type = spec->type;
    const bool real = v.kind == TERN_V_FLOAT || (type && strchr("eEfFgG%", type));

    if (real) {
        const double x = tern_value_real(v);

        if (signbit(x) && !isnan(x))
            prefix[n++] = '-';
        TERN_TRY(real_body(r, spec, fabs(x), body, sizeof body));
    } else {
        const int64_t i = tern_value_int(v);

        if (i < 0)
            prefix[n++] = '-';
        format_integer(body, sizeof body, type, i);
        if (spec->precision > (int64_t)strlen(body)) { /* at least so many digits */
            const size_t length = strlen(body), zeros = (size_t)spec->precision - length;

            memmove(body + zeros, body, length + 1);
            memset(body, '0', zeros);
        }
    }
    if (n == 0 && (spec->sign == '+' || spec->sign == ' '))
        prefix[n++] = spec->sign;
    if (!real && spec->alternate && type && strchr("xXob", type)) {
        prefix[n++] = '0';
        prefix[n++] = type;
    }
    prefix[n] = '\0';
    if (spec->zero && !spec->align) {
        spec->align = '=';
        spec->fill = '0';
    }
    if (spec->grouping) {
        const bool zeros = spec->align == '=' && spec->fill == '0' && (size_t)spec->width > n;

        group(body, sizeof body, spec->grouping, type && strchr("xXob", type) && !real ? 4 : 3,
              zeros ? (size_t)spec->width - n : 0);
    }
    return put_padded(r, out, spec, prefix, body, strlen(body), '>');
}

static tern_status put_string(struct tern_render *r, struct tern_out *out, struct spec *spec,
                              const struct tern_vstring *s, char standard)
{
    size_t size = s->size;

    if (spec->precision >= 0 && (size_t)spec->precision < s->n_chars) {
        size = 0;
        for (int64_t i = 0; i < spec->precision; i++)
            (void)tern_utf8_next(s->data, &size);
    }
    return put_padded(r, out, spec, "", s->data, size, standard);
}

/* ---- "..." % values ---- */

struct percent {
    tern_value values; /* what stands behind % */
    size_t at;         /* of a tuple's elements, or 1 once a single value is used */
};

static tern_status next_value(struct tern_render *r, struct percent *p, tern_value *out)
{
    const bool tuple = p->values.kind == TERN_V_TUPLE;
    const size_t n = tuple ? p->values.as.list->count : 1;

    if (p->at >= n)
        TERN_RAISE(r, "not enough arguments for format string");
    *out = tuple ? p->values.as.list->items[p->at] : p->values;
    p->at++;
    return TERN_OK;
}

/* Digits, or a * for the next value. */
static tern_status percent_number(struct tern_render *r, struct percent *p, const struct tern_vstring *s, size_t *at,
                                  int64_t *out)
{
    tern_value v;

    if (*at < s->size && s->data[*at] == '*') {
        (*at)++;
        TERN_TRY(next_value(r, p, &v));
        if (!tern_value_is_int(v))
            TERN_RAISE(r, "* wants int");
        *out = tern_value_int(v);
    } else {
        for (*out = 0; *at < s->size && digit_of(s->data[*at]) <= 9; (*at)++)
            *out = *out > WIDTH_MAX ? *out : 10 * *out + digit_of(s->data[*at]);
    }
    if (*out > WIDTH_MAX || *out < -WIDTH_MAX)
        TERN_RAISE(r, "a width of %" PRId64 " in a format string, expected at most %d", *out, WIDTH_MAX);
    return TERN_OK;
}

/* One conversion behind its "%" and "(name)". */
static tern_status percent_put(struct tern_render *r, struct tern_out *out, struct spec *spec, tern_value v)
{
    tern_value text = v;

    switch (spec->type) {
    case 's':
        TERN_TRY(tern_value_str(r, v, &text));
        return put_string(r, out, spec, text.as.string, '>');
    case 'r':
    case 'a': {
        struct tern_out repr = { 0 };

        TERN_TRY(tern_out_repr(r, &repr, v));
        TERN_TRY(tern_out_string(r, &repr, &text));
        return put_string(r, out, spec, text.as.string, '>');
    }
    case 'c': {
        struct tern_out one = { 0 };

        if (v.kind != TERN_V_STRING || v.as.string->n_chars != 1) {
            if (!tern_value_is_int(v) || tern_value_int(v) < 0 || tern_value_int(v) > 0x10ffff ||
                (tern_value_int(v) >= 0xd800 && tern_value_int(v) < 0xe000))
                TERN_RAISE(r, "%%c requires int or char");
            TERN_TRY(tern_out_code(r, &one, (uint32_t)tern_value_int(v)));
            TERN_TRY(tern_out_string(r, &one, &text));
        }
        spec->precision = -1;
        return put_string(r, out, spec, text.as.string, '>');
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        if (!tern_value_is_number(v) || (v.kind == TERN_V_FLOAT && strchr("xXo", spec->type)))
            TERN_RAISE(r, "%%%c format: a real number is required, not %s", spec->type, tern_value_type(v));
        if (v.kind == TERN_V_FLOAT) {
            if (!(v.as.real > -9223372036854775808.0 && v.as.real < 9223372036854775808.0))
                TERN_RAISE(r, "an integer with more than 64 bits");
            v = TERN_INT_VALUE((int64_t)v.as.real);
        }
        if (strchr("diu", spec->type))
            spec->type = 0;
        return put_number(r, out, spec, v);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!tern_value_is_number(v))
            TERN_RAISE(r, "must be real number, not %s", tern_value_type(v));
        return put_number(r, out, spec, v);
    default:
        TERN_RAISE(r, "unsupported format character '%c'", spec->type);
    }
}

static tern_status percent_one(struct tern_render *r, struct percent *p, const struct tern_vstring *s, size_t *at,
                               struct tern_out *out)
{
    struct spec spec = { .fill = ' ', .precision = -1 };
    const tern_value *named = NULL;
    bool left = false;
    tern_value v;

    if (*at < s->size && s->data[*at] == '%') {
        (*at)++;
        return tern_out_text(r, out, "%");
    }
    if (*at < s->size && s->data[*at] == '(') {
        const size_t begin = ++*at;
        unsigned open = 1; /* parentheses of the name itself come in pairs */

        for (; *at < s->size && open > 0; (*at)++)
            open = s->data[*at] == '(' ? open + 1 : s->data[*at] == ')' ? open - 1 : open;
        if (open > 0 || p->values.kind != TERN_V_DICT)
            TERN_RAISE(r, open > 0 ? "incomplete format key" : "format requires a mapping");
        const size_t size = *at - 1 - begin;
        named = tern_dict_get(p->values.as.dict, s->data + begin, size);
        if (!named)
            TERN_RAISE(r, "there is no key '%.*s'", (int)(size > 100 ? 100 : size), s->data + begin);
        p->at = 1;
    }
    for (; *at < s->size && s->data[*at] && strchr("-+ 0#", s->data[*at]); (*at)++) {
        const char c = s->data[*at];

        left = left || c == '-';
        spec.sign = c == '+' || (c == ' ' && spec.sign != '+') ? c : spec.sign;
        spec.zero = spec.zero || c == '0';
        spec.alternate = spec.alternate || c == '#';
    }
    TERN_TRY(percent_number(r, p, s, at, &spec.width));
    if (spec.width < 0) {
        left = true;
        spec.width = -spec.width;
    }
    if (*at < s->size && s->data[*at] == '.') {
        (*at)++;
        TERN_TRY(percent_number(r, p, s, at, &spec.precision));
    }
    if (*at < s->size && s->data[*at] && strchr("hlL", s->data[*at]))
        (*at)++;
    if (*at == s->size)
        TERN_RAISE(r, "incomplete format");
    spec.type = s->data[(*at)++];
    spec.align = left ? '<' : 0;
    if (named)
        v = *named;
    else
        TERN_TRY(next_value(r, p, &v));
    return percent_put(r, out, &spec, v);
}

/* What has subscripts may be there for "%(name)s" alone, and need not be used. */
static bool has_items(tern_value v)
{
    return v.kind == TERN_V_DICT || v.kind == TERN_V_LIST || v.kind == TERN_V_RANGE || v.kind == TERN_V_UNDEFINED;
}

tern_status tern_string_percent(struct tern_render *r, const struct tern_vstring *s, tern_value values, tern_value *out)
{
    struct percent p = { .values = values };
    struct tern_out text = { 0 };

    for (size_t at = 0; at < s->size;) {
        const char *sign = memchr(s->data + at, '%', s->size - at);
        const size_t end = sign ? (size_t)(sign - s->data) : s->size;

        TERN_TRY(tern_out_put(r, &text, s->data + at, end - at));
        at = end;
        if (sign) {
            at++;
            TERN_TRY(percent_one(r, &p, s, &at, &text));
        }
    }
    if (values.kind == TERN_V_TUPLE ? p.at < values.as.list->count : p.at == 0 && !has_items(values))
        TERN_RAISE(r, "not all arguments converted during string formatting");
    return tern_out_string(r, &text, out);
}

/* ---- "...".format(...) ---- */

static tern_status parse_spec(struct tern_render *r, const struct tern_vstring *s, struct spec *spec)
{
    size_t at = 0, next = 0;

    *spec = (struct spec){ .fill = ' ', .precision = -1 };
    if (s->size > 0) {
        const uint32_t fill = tern_utf8_next(s->data, &next);

        if (next < s->size && strchr("<>^=", s->data[next])) {
            spec->fill = fill;
            spec->align = s->data[next];
            at = next + 1;
        } else if (strchr("<>^=", s->data[0])) {
            spec->align = s->data[0];
            at = 1;
        }
    }
    if (at < s->size && strchr("+- ", s->data[at]))
        spec->sign = s->data[at++];
    if (at < s->size && s->data[at] == '#') {
        spec->alternate = true;
        at++;
    }
    if (at < s->size && s->data[at] == '0') {
        spec->zero = true;
        at++;
    }
    for (; at < s->size && digit_of(s->data[at]) <= 9; at++)
        spec->width = spec->width > WIDTH_MAX ? spec->width : 10 * spec->width + digit_of(s->data[at]);
    if (at < s->size && (s->data[at] == ',' || s->data[at] == '_'))
        spec->grouping = s->data[at++];
    if (at < s->size && s->data[at] == '.') {
        spec->precision = 0;
        for (at++; at < s->size && digit_of(s->data[at]) <= 9; at++)
            spec->precision =
                spec->precision > WIDTH_MAX ? spec->precision : 10 * spec->precision + digit_of(s->data[at]);
    }
    if (at < s->size)
        spec->type = s->data[at++];
    if (at != s->size || spec->width > WIDTH_MAX)
        TERN_RAISE(r, "Invalid format specifier '%.*s'", (int)(s->size > 60 ? 60 : s->size), s->data);
    return TERN_OK;
}

/* "{:c}": the character of a code point. */
static tern_status put_char(struct tern_render *r, struct tern_out *out, const struct spec *spec, tern_value v)
{
    const int64_t code = tern_value_int(v);
    char bytes[TERN_UTF8_MAX];

    if (spec->sign || spec->alternate)
        TERN_RAISE(r, "%s not allowed with integer format specifier 'c'", spec->sign ? "Sign" : "Alternate form");
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        TERN_RAISE(r, "%%c arg not in range(0x110000): %" PRId64, code);
    return put_padded(r, out, spec, "", bytes, tern_utf8_put((uint32_t)code, bytes), '>');
}

static tern_status format_value(struct tern_render *r, struct tern_out *out, tern_value v,
                                const struct tern_vstring *how)
{
    struct spec spec;

    if (how->size == 0)
        return tern_out_value(r, out, v);
    TERN_TRY(parse_spec(r, how, &spec));
    if (v.kind == TERN_V_STRING) {
        if ((spec.type && spec.type != 's') || spec.align == '=' || spec.sign || spec.grouping || spec.alternate)
            TERN_RAISE(r, "Invalid format specifier '%.*s' for a str", (int)(how->size > 60 ? 60 : how->size),
                       how->data);
        if (spec.zero && !spec.align)
            spec.fill = '0';
        return put_string(r, out, &spec, v.as.string, '<');
    }
    if (!tern_value_is_number(v))
        TERN_RAISE(r, "unsupported format string passed to %s.__format__", tern_value_type(v));
    if (spec.type && !strchr(v.kind == TERN_V_FLOAT ? "eEfFgG%n" : "bcdoxXneEfFgG%", spec.type))
        TERN_RAISE(r, "Unknown format code '%c' for object of type '%s'", spec.type, tern_value_type(v));
    if (spec.grouping && spec.type && strchr(spec.grouping == ',' ? "bcoxXn" : "cn", spec.type))
        TERN_RAISE(r, "Cannot specify '%c' with '%c'.", spec.grouping, spec.type);
    const bool real = v.kind == TERN_V_FLOAT || (spec.type && strchr("eEfFgG%", spec.type));
    if (!real && spec.precision >= 0)
        TERN_RAISE(r, "Precision not allowed in integer format specifier");
    if (spec.type == 'c')
        return put_char(r, out, &spec, v);
    if (spec.type == 'd' || (spec.type == 'n' && !real))
        spec.type = 0;
    return put_number(r, out, &spec, v);
}

struct formatting {
    const struct tern_call *call;
    size_t next; /* of the positions that "{}" takes */
};

static tern_status find_field(struct tern_render *r, struct formatting *f, const char *name, size_t size,
                              tern_value *out)
{
    size_t end = 0;

    while (end < size && name[end] != '.' && name[end] != '[')
        end++;
    bool digits = true;
    size_t index = 0;
    for (size_t i = 0; i < end; i++) {
        digits = digits && digit_of(name[i]) <= 9;
        index = index > 100000 ? index : 10 * index + (size_t)(digit_of(name[i]) % 10);
    }
    if (end == 0)
        index = f->next++;
    if (digits) {
        if (index >= f->call->n_args)
            TERN_RAISE(r, "Replacement index %zu out of range for positional args tuple", index);
        *out = f->call->args[index];
    } else {
        size_t i = 0;

        while (i < f->call->n_keywords &&
               (f->call->keywords[i].name->size != end || memcmp(f->call->keywords[i].name->data, name, end) != 0))
            i++;
        if (i == f->call->n_keywords)
            TERN_RAISE(r, "format: there is no argument '%.*s'", (int)(end > 60 ? 60 : end), name);
        *out = f->call->keywords[i].value;
    }
    while (end < size) {
        const bool item = name[end] == '[';
        const size_t begin = ++end;
        tern_value key;
        int64_t number;
        bool ok = false;

        while (end < size && (item ? name[end] != ']' : name[end] != '.' && name[end] != '['))
            end++;
        TERN_TRY(tern_value_string(r, name + begin, end - begin, &key));
        if (!item) {
            TERN_TRY(tern_value_getattr(r, *out, key.as.string, out));
            continue;
        }
        if (end == size)
            TERN_RAISE(r, "expected '}' before end of string");
        end++;
        if (key.as.string->size > 0 && strspn(name + begin, "0123456789") >= key.as.string->size)
            TERN_TRY(tern_int_parse(r, key.as.string, 10, &number, &ok));
        TERN_TRY(tern_value_getitem(r, *out, ok ? TERN_INT_VALUE(number) : key, out));
    }
    return TERN_OK;
}

static tern_status format_into(struct tern_render *r, struct formatting *f, const char *s, size_t size, unsigned level,
                               struct tern_out *out);

/* "{name!r:spec}" without its braces. */
static tern_status format_field(struct tern_render *r, struct formatting *f, const char *s, size_t size, unsigned level,
                                struct tern_out *out)
{
    size_t end = 0;
    char conversion = 0;
    struct tern_out inner = { 0 };
    tern_value v, how;
    bool bracket = false;

    for (; end < size && (bracket || (s[end] != '!' && s[end] != ':')); end++)
        bracket = s[end] == '[' || (bracket && s[end] != ']');
    TERN_TRY(find_field(r, f, s, end, &v));
    if (end < size && s[end] == '!') {
        if (end + 1 >= size || !strchr("rsa", s[end + 1]) || (end + 2 < size && s[end + 2] != ':'))
            TERN_RAISE(r, "format: a conversion is one of !r, !s and !a");
        conversion = s[end + 1];
        end += 2;
    }
    if (end < size)
        TERN_TRY(format_into(r, f, s + end + 1, size - end - 1, level + 1, &inner));
    TERN_TRY(tern_out_string(r, &inner, &how));
    if (conversion == 's') {
        TERN_TRY(tern_value_str(r, v, &v));
    } else if (conversion) {
        struct tern_out repr = { 0 };

        TERN_TRY(tern_out_repr(r, &repr, v));
        TERN_TRY(tern_out_string(r, &repr, &v));
    }
    return format_value(r, out, v, how.as.string);
}

static tern_status format_into(struct tern_render *r, struct formatting *f, const char *s, size_t size, unsigned level,
                               struct tern_out *out)
{
    if (level > 2)
        TERN_RAISE(r, "Max string recursion exceeded");
    for (size_t at = 0; at < size;) {
        size_t end = at, open = 1;

        while (end < size && s[end] != '{' && s[end] != '}')
            end++;
        TERN_TRY(tern_out_put(r, out, s + at, end - at));
        if (end == size)
            break;
        if (end + 1 < size && s[end + 1] == s[end]) {
            TERN_TRY(tern_out_put(r, out, s + end, 1));
            at = end + 2;
            continue;
        }
        if (s[end] == '}')
            TERN_RAISE(r, "Single '}' encountered in format string");
        at = ++end;
        for (; end < size && open > 0; end++)
            open = s[end] == '{' ? open + 1 : s[end] == '}' ? open - 1 : open;
        if (open > 0)
            TERN_RAISE(r, "Single '{' encountered in format string");
        TERN_TRY(format_field(r, f, s + at, end - at - 1, level, out));
        at = end;
    }
    return TERN_OK;
}

tern_status tern_string_format(struct tern_render *r, const struct tern_vstring *s, const struct tern_call *call,
                               tern_value *out)
{
    struct formatting f = { .call = call };
    struct tern_out text = { 0 };

    TERN_TRY(format_into(r, &f, s->data, s->size, 1, &text));
    return tern_out_string(r, &text, out);
}
