/* template_methods.c: value.method(...): what Python's str, dict, list and their kin have, and the global functions.
 *
 * The tables name every public attribute of each type, since an attribute goes before an item of the same name: d.items is the method
 * even where d has a key "items".  Those that change their object are undefined in the sandbox, as in transformers. */
#include "text/template_render.h"

#include "base/utf8.h"
#include "text/characters.h"

#include <stdlib.h>
#include <time.h>

#include <utf8proc.h>

#define METHOD(name) \
    static tern_status name(struct tern_render *r, tern_value self, const struct tern_call *call, tern_value *out)

#define RANGE_MAX 100000 /* jinja2.sandbox.MAX_RANGE */

static tern_status bind(struct tern_render *r, const char *what, const struct tern_call *call, size_t n_required,
                        tern_value *args, size_t n)
{
    if (call->n_keywords > 0)
        TERN_RAISE(r, "%s takes no keyword arguments", what);
    return tern_call_bind(r, what, call, "", n_required, args, n);
}

static tern_status need_string(struct tern_render *r, const char *what, tern_value v, const struct tern_vstring **out)
{
    if (v.kind != TERN_V_STRING)
        TERN_RAISE(r, "%s wants a str, got %s", what, tern_value_type(v));
    *out = v.as.string;
    return TERN_OK;
}

static tern_status opt_int(struct tern_render *r, const char *what, tern_value v, int64_t standard, int64_t *out)
{
    *out = standard;
    if (tern_value_is_absent(v))
        return TERN_OK;
    if (!tern_value_is_int(v))
        TERN_RAISE(r, "%s wants an int, got %s", what, tern_value_type(v));
    *out = tern_value_int(v);
    return TERN_OK;
}

/* ---- str ---- */

#define CASE_METHOD(name, how)                                 \
    METHOD(name)                                               \
    {                                                          \
        TERN_TRY(bind(r, "a str's method", call, 0, NULL, 0)); \
        return tern_string_case(r, self.as.string, how, out);  \
    }

CASE_METHOD(str_upper, TERN_CASE_UPPER)
CASE_METHOD(str_lower, TERN_CASE_LOWER)
CASE_METHOD(str_title, TERN_CASE_TITLE)
CASE_METHOD(str_capitalize, TERN_CASE_CAPITALIZE)
CASE_METHOD(str_swapcase, TERN_CASE_SWAP)
CASE_METHOD(str_casefold, TERN_CASE_FOLD)

static tern_status strip(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call,
                         bool left, bool right, tern_value *out)
{
    const struct tern_vstring *chars = NULL;
    tern_value arg;

    TERN_TRY(bind(r, what, call, 0, &arg, 1));
    if (arg.kind != TERN_V_NONE && !tern_value_is_absent(arg))
        TERN_TRY(need_string(r, what, arg, &chars));
    return tern_string_strip(r, self.as.string, chars, left, right, out);
}

METHOD(str_strip)
{
    return strip(r, "strip", self, call, true, true, out);
}

METHOD(str_lstrip)
{
    return strip(r, "lstrip", self, call, true, false, out);
}

METHOD(str_rstrip)
{
    return strip(r, "rstrip", self, call, false, true, out);
}

static tern_status split(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call,
                         bool from_right, tern_value *out)
{
    const struct tern_vstring *separator = NULL;
    tern_value args[2];
    int64_t limit;

    TERN_TRY(tern_call_bind(r, what, call, "sep, maxsplit", 0, args, 2));
    if (args[0].kind != TERN_V_NONE && !tern_value_is_absent(args[0]))
        TERN_TRY(need_string(r, what, args[0], &separator));
    TERN_TRY(opt_int(r, what, args[1], -1, &limit));
    return tern_string_split(r, self.as.string, separator, limit < 0 ? -1 : limit, from_right, out);
}

METHOD(str_split)
{
    return split(r, "split", self, call, false, out);
}

METHOD(str_rsplit)
{
    return split(r, "rsplit", self, call, true, out);
}

METHOD(str_splitlines)
{
    tern_value keep;

    TERN_TRY(tern_call_bind(r, "splitlines", call, "keepends", 0, &keep, 1));
    return tern_string_lines(r, self.as.string, tern_value_true(keep), out);
}

METHOD(str_join)
{
    tern_value items;

    TERN_TRY(bind(r, "join", call, 1, &items, 1));
    return tern_string_join(r, self.as.string, items, false, out);
}

METHOD(str_replace)
{
    const struct tern_vstring *old = NULL, *fresh = NULL;
    tern_value args[3];
    int64_t count;

    TERN_TRY(bind(r, "replace", call, 2, args, 3));
    TERN_TRY(need_string(r, "replace", args[0], &old));
    TERN_TRY(need_string(r, "replace", args[1], &fresh));
    TERN_TRY(opt_int(r, "replace", args[2], -1, &count));
    return tern_string_replace(r, self.as.string, old, fresh, count < 0 ? -1 : count, out);
}

/* The part of self that optional start and stop leave, as code points from *from; false: nothing, not even the empty string. */
static tern_status part_of(struct tern_render *r, const char *what, tern_value self, const tern_value *args,
                           tern_value *part, int64_t *from, bool *there)
{
    const int64_t n = (int64_t)self.as.string->n_chars;
    int64_t stop;

    TERN_TRY(opt_int(r, what, args[0].kind == TERN_V_NONE ? TERN_UNDEFINED_VALUE : args[0], 0, from));
    TERN_TRY(opt_int(r, what, args[1].kind == TERN_V_NONE ? TERN_UNDEFINED_VALUE : args[1], n, &stop));
    *from = *from < 0 ? (*from < -n ? 0 : *from + n) : *from;
    stop = stop < 0 ? (stop < -n ? 0 : stop + n) : stop > n ? n : stop;
    *there = *from <= stop && *from <= n;
    if (!*there)
        return TERN_OK;
    return tern_string_part(r, self.as.string, (size_t)*from, (size_t)stop, part);
}

static tern_status affix(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call,
                         bool at_end, tern_value *out)
{
    tern_value args[3], part = TERN_UNDEFINED_VALUE;
    int64_t from;
    bool there, found = false;

    TERN_TRY(bind(r, what, call, 1, args, 3));
    TERN_TRY(part_of(r, what, self, args + 1, &part, &from, &there));
    const bool tuple = args[0].kind == TERN_V_TUPLE;
    const size_t n = tuple ? args[0].as.list->count : 1;
    for (size_t i = 0; i < n; i++) {
        const struct tern_vstring *s = NULL;

        TERN_TRY(need_string(r, what, tuple ? args[0].as.list->items[i] : args[0], &s));
        if (there && s->size <= part.as.string->size)
            found = found ||
                    memcmp(part.as.string->data + (at_end ? part.as.string->size - s->size : 0), s->data, s->size) == 0;
    }
    *out = TERN_BOOL_VALUE(found);
    return TERN_OK;
}

METHOD(str_startswith)
{
    return affix(r, "startswith", self, call, false, out);
}

METHOD(str_endswith)
{
    return affix(r, "endswith", self, call, true, out);
}

static tern_status find(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call,
                        bool from_right, bool required, tern_value *out)
{
    const struct tern_vstring *needle = NULL;
    tern_value args[3], part = TERN_UNDEFINED_VALUE;
    size_t at = SIZE_MAX;
    int64_t from;
    bool there;

    TERN_TRY(bind(r, what, call, 1, args, 3));
    TERN_TRY(need_string(r, what, args[0], &needle));
    TERN_TRY(part_of(r, what, self, args + 1, &part, &from, &there));
    if (there) {
        TERN_TRY(tern_render_spend(r, part.as.string->size / 16 * (from_right ? 1 + needle->size / 64 : 1)));
        at = tern_string_search(part.as.string, 0, needle);
        if (from_right && needle->size == 0)
            at = part.as.string->size;
        else if (from_right && at != SIZE_MAX)
            for (size_t back = part.as.string->size - needle->size; back > at; back--)
                if (memcmp(part.as.string->data + back, needle->data, needle->size) == 0)
                    at = back;
    }
    if (at == SIZE_MAX && required)
        TERN_RAISE(r, "substring not found");
    *out = TERN_INT_VALUE(at == SIZE_MAX ? -1 : from + (int64_t)tern_utf8_count(part.as.string->data, at));
    return TERN_OK;
}

METHOD(str_find)
{
    return find(r, "find", self, call, false, false, out);
}

METHOD(str_rfind)
{
    return find(r, "rfind", self, call, true, false, out);
}

METHOD(str_index)
{
    return find(r, "index", self, call, false, true, out);
}

METHOD(str_rindex)
{
    return find(r, "rindex", self, call, true, true, out);
}

METHOD(str_count)
{
    const struct tern_vstring *needle = NULL;
    tern_value args[3], part = TERN_UNDEFINED_VALUE;
    int64_t from, n = 0;
    bool there;

    TERN_TRY(bind(r, "count", call, 1, args, 3));
    TERN_TRY(need_string(r, "count", args[0], &needle));
    TERN_TRY(part_of(r, "count", self, args + 1, &part, &from, &there));
    if (there && needle->size == 0)
        n = (int64_t)part.as.string->n_chars + 1;
    else if (there)
        for (size_t at = 0; (at = tern_string_search(part.as.string, at, needle)) != SIZE_MAX; at += needle->size)
            n++;
    TERN_TRY(tern_render_spend(r, there ? part.as.string->size / 16 : 0));
    *out = TERN_INT_VALUE(n);
    return TERN_OK;
}

static tern_status remove_affix(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call,
                                bool at_end, tern_value *out)
{
    const struct tern_vstring *s = self.as.string, *part = NULL;
    tern_value arg;

    TERN_TRY(bind(r, what, call, 1, &arg, 1));
    TERN_TRY(need_string(r, what, arg, &part));
    *out = self;
    if (part->size == 0 || part->size > s->size ||
        memcmp(s->data + (at_end ? s->size - part->size : 0), part->data, part->size) != 0)
        return TERN_OK;
    return tern_value_borrowed(r, s->data + (at_end ? 0 : part->size), s->size - part->size, out);
}

METHOD(str_removeprefix)
{
    return remove_affix(r, "removeprefix", self, call, false, out);
}

METHOD(str_removesuffix)
{
    return remove_affix(r, "removesuffix", self, call, true, out);
}

static tern_status partition(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call,
                             bool from_right, tern_value *out)
{
    const struct tern_vstring *separator = NULL;
    tern_value arg, parts, tuple, empty;

    TERN_TRY(bind(r, what, call, 1, &arg, 1));
    TERN_TRY(need_string(r, what, arg, &separator));
    TERN_TRY(tern_string_split(r, self.as.string, separator, 1, from_right, &parts));
    TERN_TRY(tern_value_borrowed(r, "", 0, &empty));
    TERN_TRY(tern_value_list(r, TERN_V_TUPLE, 3, &tuple));
    const bool found = parts.as.list->count == 2;
    TERN_TRY(tern_list_push(r, tuple.as.list, found || !from_right ? parts.as.list->items[0] : empty));
    TERN_TRY(tern_list_push(r, tuple.as.list, found ? arg : empty));
    TERN_TRY(tern_list_push(r, tuple.as.list, found ? parts.as.list->items[1] : from_right ? self : empty));
    *out = tuple;
    return TERN_OK;
}

METHOD(str_partition)
{
    return partition(r, "partition", self, call, false, out);
}

METHOD(str_rpartition)
{
    return partition(r, "rpartition", self, call, true, out);
}

/* self with `left` and `right` more of a character. */
static tern_status padded(struct tern_render *r, tern_value self, int64_t left, int64_t right, uint32_t fill,
                          tern_value *out)
{
    struct tern_out text = { 0 };

    for (int64_t i = 0; i < left; i++)
        TERN_TRY(tern_out_code(r, &text, fill));
    TERN_TRY(tern_out_value(r, &text, self));
    for (int64_t i = 0; i < right; i++)
        TERN_TRY(tern_out_code(r, &text, fill));
    return tern_out_string(r, &text, out);
}

static tern_status pad(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call, int side,
                       tern_value *out)
{
    tern_value args[2];
    int64_t width, missing, left;
    uint32_t fill = ' ';

    TERN_TRY(bind(r, what, call, 1, args, 2));
    TERN_TRY(opt_int(r, what, args[0], 0, &width));
    if (!tern_value_is_absent(args[1])) {
        size_t at = 0;

        if (args[1].kind != TERN_V_STRING || args[1].as.string->n_chars != 1)
            TERN_RAISE(r, "The fill character must be exactly one character long");
        fill = tern_utf8_next(args[1].as.string->data, &at);
    }
    missing = width > (int64_t)self.as.string->n_chars ? width - (int64_t)self.as.string->n_chars : 0;
    left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & width & 1);
    return padded(r, self, left, missing - left, fill, out);
}

METHOD(str_ljust)
{
    return pad(r, "ljust", self, call, -1, out);
}

METHOD(str_rjust)
{
    return pad(r, "rjust", self, call, 1, out);
}

METHOD(str_center)
{
    return pad(r, "center", self, call, 0, out);
}

METHOD(str_zfill)
{
    const struct tern_vstring *s = self.as.string;
    struct tern_out text = { 0 };
    tern_value arg;
    int64_t width;

    TERN_TRY(bind(r, "zfill", call, 1, &arg, 1));
    TERN_TRY(opt_int(r, "zfill", arg, 0, &width));
    const size_t sign = s->size > 0 && (s->data[0] == '+' || s->data[0] == '-');
    TERN_TRY(tern_out_put(r, &text, s->data, sign));
    for (int64_t i = (int64_t)s->n_chars; i < width; i++)
        TERN_TRY(tern_out_text(r, &text, "0"));
    TERN_TRY(tern_out_put(r, &text, s->data + sign, s->size - sign));
    return tern_out_string(r, &text, out);
}

METHOD(str_format)
{
    return tern_string_format(r, self.as.string, call, out);
}

/* Numeric_Type=Digit without the decimal ones. */
static const uint32_t digits[][2] = {
    { 0xb2, 0xb3 },     { 0xb9, 0xb9 },       { 0x1369, 0x1371 },   { 0x19da, 0x19da },   { 0x2070, 0x2070 },
    { 0x2074, 0x2079 }, { 0x2080, 0x2089 },   { 0x2460, 0x2468 },   { 0x2474, 0x247c },   { 0x2488, 0x2490 },
    { 0x24ea, 0x24ea }, { 0x24f5, 0x24fd },   { 0x24ff, 0x24ff },   { 0x2776, 0x277e },   { 0x2780, 0x2788 },
    { 0x278a, 0x2792 }, { 0x10a40, 0x10a43 }, { 0x10e60, 0x10e68 }, { 0x11052, 0x1105a }, { 0x1f100, 0x1f10a },
};

static bool is_decimal(uint32_t code)
{
    return utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_ND;
}

static bool is_digit(uint32_t code)
{
    for (size_t i = 0; i < sizeof digits / sizeof digits[0]; i++)
        if (code >= digits[i][0] && code <= digits[i][1])
            return true;
    return is_decimal(code);
}

static bool is_alpha(uint32_t code)
{
    return tern_char_class(code) == TERN_CHAR_LETTER;
}

static bool is_alnum(uint32_t code)
{
    return is_alpha(code) || tern_char_class(code) == TERN_CHAR_NUMBER;
}

static bool is_ascii(uint32_t code)
{
    return code < 0x80;
}

static tern_status all_are(struct tern_render *r, tern_value self, const struct tern_call *call, bool (*test)(uint32_t),
                           bool if_empty, tern_value *out)
{
    bool all = self.as.string->size > 0 || if_empty;

    TERN_TRY(bind(r, "a str's method", call, 0, NULL, 0));
    TERN_TRY(tern_render_spend(r, self.as.string->size / 16));
    for (size_t at = 0; all && at < self.as.string->size;)
        all = test(tern_utf8_next(self.as.string->data, &at));
    *out = TERN_BOOL_VALUE(all);
    return TERN_OK;
}

#define ALL_METHOD(name, test, if_empty)                    \
    METHOD(name)                                            \
    {                                                       \
        return all_are(r, self, call, test, if_empty, out); \
    }

ALL_METHOD(str_isalpha, is_alpha, false)
ALL_METHOD(str_isalnum, is_alnum, false)
ALL_METHOD(str_isdigit, is_digit, false)
ALL_METHOD(str_isdecimal, is_decimal, false)
ALL_METHOD(str_isspace, tern_char_is_python_space, false)
ALL_METHOD(str_isascii, is_ascii, true)
ALL_METHOD(str_isprintable, tern_char_is_printable, true)

static tern_status is_cased(struct tern_render *r, const char *what, tern_value self, const struct tern_call *call,
                            bool upper, tern_value *out)
{
    bool holds;

    TERN_TRY(bind(r, what, call, 0, NULL, 0));
    TERN_TRY(tern_string_is_cased(r, self.as.string, upper, &holds));
    *out = TERN_BOOL_VALUE(holds);
    return TERN_OK;
}

METHOD(str_isupper)
{
    return is_cased(r, "isupper", self, call, true, out);
}

METHOD(str_islower)
{
    return is_cased(r, "islower", self, call, false, out);
}

/* ---- dict ---- */

static tern_status view(struct tern_render *r, tern_value self, const struct tern_call *call, enum tern_view_kind kind,
                        tern_value *out)
{
    struct tern_vview *made;

    TERN_TRY(bind(r, "a dict's method", call, 0, NULL, 0));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &made));
    *made = (struct tern_vview){ self.as.dict, kind };
    *out = (tern_value){ .kind = TERN_V_VIEW, .as.view = made };
    return TERN_OK;
}

METHOD(dict_keys)
{
    return view(r, self, call, TERN_VIEW_KEYS, out);
}

METHOD(dict_values)
{
    return view(r, self, call, TERN_VIEW_VALUES, out);
}

METHOD(dict_items)
{
    return view(r, self, call, TERN_VIEW_ITEMS, out);
}

METHOD(dict_get)
{
    const struct tern_ventry *entry;
    tern_value args[2];

    TERN_TRY(bind(r, "get", call, 1, args, 2));
    TERN_TRY(tern_dict_find(r, self.as.dict, args[0], &entry));
    *out = entry ? entry->value : call->n_args > 1 ? args[1] : TERN_NONE_VALUE;
    return TERN_OK;
}

METHOD(dict_copy)
{
    TERN_TRY(bind(r, "copy", call, 0, NULL, 0));
    *out = self; /* nothing can change either of them */
    return TERN_OK;
}

/* ---- list, tuple, range ---- */

METHOD(list_index)
{
    tern_value args[3];
    int64_t from, to;
    bool equal = false;
    const int64_t n = (int64_t)tern_value_length(self);

    TERN_TRY(bind(r, "index", call, 1, args, 3));
    TERN_TRY(opt_int(r, "index", args[1], 0, &from));
    TERN_TRY(opt_int(r, "index", args[2], n, &to));
    from = from < 0 ? (from < -n ? 0 : from + n) : from;
    to = to < 0 ? (to < -n ? 0 : to + n) : to > n ? n : to;
    for (int64_t i = from; i < to; i++) {
        tern_value item;

        TERN_TRY(tern_value_at(r, self, (size_t)i, &item));
        TERN_TRY(tern_value_equal(r, item, args[0], &equal));
        if (equal) {
            *out = TERN_INT_VALUE(i);
            return TERN_OK;
        }
    }
    TERN_RAISE(r, "the value is not in the %s", tern_value_type(self));
}

METHOD(list_count)
{
    tern_value arg;
    int64_t n = 0;

    TERN_TRY(bind(r, "count", call, 1, &arg, 1));
    for (size_t i = 0; i < tern_value_length(self); i++) {
        tern_value item;
        bool equal;

        TERN_TRY(tern_value_at(r, self, i, &item));
        TERN_TRY(tern_value_equal(r, item, arg, &equal));
        n += equal;
    }
    *out = TERN_INT_VALUE(n);
    return TERN_OK;
}

METHOD(list_copy)
{
    TERN_TRY(bind(r, "copy", call, 0, NULL, 0));
    return tern_value_to_list(r, self, out);
}

/* ---- int, float, loop, cycler ---- */

METHOD(float_is_integer)
{
    TERN_TRY(bind(r, "is_integer", call, 0, NULL, 0));
    *out = TERN_BOOL_VALUE(self.as.real >= -1e300 && self.as.real <= 1e300 &&
                           self.as.real == __builtin_trunc(self.as.real));
    return TERN_OK;
}

METHOD(loop_cycle)
{
    return tern_loop_cycle(r, self.as.loop, call, out);
}

METHOD(loop_changed)
{
    return tern_loop_changed(r, self.as.loop, call, out);
}

METHOD(cycler_next)
{
    struct tern_vcycler *cycler = self.as.cycler;

    TERN_TRY(bind(r, "next", call, 0, NULL, 0));
    *out = cycler->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->count;
    return TERN_OK;
}

METHOD(cycler_reset)
{
    TERN_TRY(bind(r, "reset", call, 0, NULL, 0));
    self.as.cycler->at = 0;
    *out = TERN_NONE_VALUE;
    return TERN_OK;
}

/* run NULL: Python has it and tern does not; changes: the sandbox has taken it away. */
static const struct tern_method methods[] = {
    { TERN_V_STRING, "capitalize", str_capitalize, false },
    { TERN_V_STRING, "casefold", str_casefold, false },
    { TERN_V_STRING, "center", str_center, false },
    { TERN_V_STRING, "count", str_count, false },
    { TERN_V_STRING, "encode", NULL, false },
    { TERN_V_STRING, "endswith", str_endswith, false },
    { TERN_V_STRING, "expandtabs", NULL, false },
    { TERN_V_STRING, "find", str_find, false },
    { TERN_V_STRING, "format", str_format, false },
    { TERN_V_STRING, "format_map", NULL, false },
    { TERN_V_STRING, "index", str_index, false },
    { TERN_V_STRING, "isalnum", str_isalnum, false },
    { TERN_V_STRING, "isalpha", str_isalpha, false },
    { TERN_V_STRING, "isascii", str_isascii, false },
    { TERN_V_STRING, "isdecimal", str_isdecimal, false },
    { TERN_V_STRING, "isdigit", str_isdigit, false },
    { TERN_V_STRING, "isidentifier", NULL, false },
    { TERN_V_STRING, "islower", str_islower, false },
    { TERN_V_STRING, "isnumeric", NULL, false },
    { TERN_V_STRING, "isprintable", str_isprintable, false },
    { TERN_V_STRING, "isspace", str_isspace, false },
    { TERN_V_STRING, "istitle", NULL, false },
    { TERN_V_STRING, "isupper", str_isupper, false },
    { TERN_V_STRING, "join", str_join, false },
    { TERN_V_STRING, "ljust", str_ljust, false },
    { TERN_V_STRING, "lower", str_lower, false },
    { TERN_V_STRING, "lstrip", str_lstrip, false },
    { TERN_V_STRING, "maketrans", NULL, false },
    { TERN_V_STRING, "partition", str_partition, false },
    { TERN_V_STRING, "removeprefix", str_removeprefix, false },
    { TERN_V_STRING, "removesuffix", str_removesuffix, false },
    { TERN_V_STRING, "replace", str_replace, false },
    { TERN_V_STRING, "rfind", str_rfind, false },
    { TERN_V_STRING, "rindex", str_rindex, false },
    { TERN_V_STRING, "rjust", str_rjust, false },
    { TERN_V_STRING, "rpartition", str_rpartition, false },
    { TERN_V_STRING, "rsplit", str_rsplit, false },
    { TERN_V_STRING, "rstrip", str_rstrip, false },
    { TERN_V_STRING, "split", str_split, false },
    { TERN_V_STRING, "splitlines", str_splitlines, false },
    { TERN_V_STRING, "startswith", str_startswith, false },
    { TERN_V_STRING, "strip", str_strip, false },
    { TERN_V_STRING, "swapcase", str_swapcase, false },
    { TERN_V_STRING, "title", str_title, false },
    { TERN_V_STRING, "translate", NULL, false },
    { TERN_V_STRING, "upper", str_upper, false },
    { TERN_V_STRING, "zfill", str_zfill, false },
    { TERN_V_DICT, "clear", NULL, true },
    { TERN_V_DICT, "copy", dict_copy, false },
    { TERN_V_DICT, "fromkeys", NULL, false },
    { TERN_V_DICT, "get", dict_get, false },
    { TERN_V_DICT, "items", dict_items, false },
    { TERN_V_DICT, "keys", dict_keys, false },
    { TERN_V_DICT, "pop", NULL, true },
    { TERN_V_DICT, "popitem", NULL, true },
    { TERN_V_DICT, "setdefault", NULL, true },
    { TERN_V_DICT, "update", NULL, true },
    { TERN_V_DICT, "values", dict_values, false },
    { TERN_V_LIST, "append", NULL, true },
    { TERN_V_LIST, "clear", NULL, true },
    { TERN_V_LIST, "copy", list_copy, false },
    { TERN_V_LIST, "count", list_count, false },
    { TERN_V_LIST, "extend", NULL, true },
    { TERN_V_LIST, "index", list_index, false },
    { TERN_V_LIST, "insert", NULL, true },
    { TERN_V_LIST, "pop", NULL, true },
    { TERN_V_LIST, "remove", NULL, true },
    { TERN_V_LIST, "reverse", NULL, true },
    { TERN_V_LIST, "sort", NULL, true },
    { TERN_V_TUPLE, "count", list_count, false },
    { TERN_V_TUPLE, "index", list_index, false },
    { TERN_V_RANGE, "count", list_count, false },
    { TERN_V_RANGE, "index", list_index, false },
    { TERN_V_FLOAT, "is_integer", float_is_integer, false },
    { TERN_V_LOOP, "cycle", loop_cycle, false },
    { TERN_V_LOOP, "changed", loop_changed, false },
    { TERN_V_CYCLER, "next", cycler_next, false },
    { TERN_V_CYCLER, "reset", cycler_reset, false },
};

const struct tern_method *tern_method_find(enum tern_value_kind kind, const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (methods[i].kind == kind && strlen(methods[i].name) == size && memcmp(methods[i].name, name, size) == 0)
            return &methods[i];
    return NULL;
}

bool tern_method_known(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if ((methods[i].run || methods[i].changes) && strlen(methods[i].name) == size &&
            memcmp(methods[i].name, name, size) == 0)
            return true;
    return false;
}

/* ---- global functions ---- */

#define FUNCTION(name) static tern_status name(struct tern_render *r, const struct tern_call *call, tern_value *out)

FUNCTION(do_range)
{
    tern_value args[3];
    int64_t start = 0, stop, step;
    struct tern_vrange *range;

    TERN_TRY(bind(r, "range", call, 1, args, 3));
    TERN_TRY(opt_int(r, "range", args[0], 0, &stop));
    if (call->n_args > 1) {
        start = stop;
        TERN_TRY(opt_int(r, "range", args[1], 0, &stop));
    }
    TERN_TRY(opt_int(r, "range", args[2], 1, &step));
    if (step == 0)
        TERN_RAISE(r, "range() arg 3 must not be zero");
    uint64_t count = 0;
    if (step > 0 && start < stop)
        count = ((uint64_t)stop - (uint64_t)start - 1) / (uint64_t)step + 1;
    if (step < 0 && start > stop)
        count = ((uint64_t)start - (uint64_t)stop - 1) / (0 - (uint64_t)step) + 1;
    if (count > RANGE_MAX)
        TERN_RAISE(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", RANGE_MAX);
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &range));
    *range = (struct tern_vrange){ start, stop, step, (size_t)count };
    *out = (tern_value){ .kind = TERN_V_RANGE, .as.range = range };
    return TERN_OK;
}

/* Pairs, or a dict, into a new dict. */
static tern_status add_pairs(struct tern_render *r, tern_value from, struct tern_vdict *dict)
{
    struct tern_viter *it;

    if (from.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, from);

    if (from.kind == TERN_V_DICT) {
        for (size_t i = 0; i < from.as.dict->count; i++)
            TERN_TRY(tern_dict_set(r, dict, from.as.dict->entries[i].key, from.as.dict->entries[i].value));
        return tern_render_spend(r, from.as.dict->count);
    }
    TERN_TRY(tern_value_iter(r, from, &it));
    for (;;) {
        tern_value item, pair;
        bool done;

        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return TERN_OK;
        TERN_TRY(tern_value_to_list(r, item, &pair));
        if (pair.as.list->count != 2)
            TERN_RAISE(r, "a dict is made of pairs, got a sequence of length %zu", pair.as.list->count);
        TERN_TRY(tern_dict_set(r, dict, pair.as.list->items[0], pair.as.list->items[1]));
    }
}

FUNCTION(do_dict)
{
    tern_value dict;

    if (call->n_args > 1)
        TERN_RAISE(r, "dict expected at most 1 argument, got %zu", call->n_args);
    TERN_TRY(tern_value_dict(r, &dict));
    if (call->n_args == 1)
        TERN_TRY(add_pairs(r, call->args[0], dict.as.dict));
    for (size_t i = 0; i < call->n_keywords; i++)
        TERN_TRY(tern_dict_set(r, dict.as.dict,
                               (tern_value){ .kind = TERN_V_STRING, .as.string = call->keywords[i].name },
                               call->keywords[i].value));
    *out = dict;
    return TERN_OK;
}

FUNCTION(do_namespace)
{
    TERN_TRY(do_dict(r, call, out));
    for (size_t i = 0; i < out->as.dict->count; i++) {
        const tern_value key = out->as.dict->entries[i].key;

        if (key.kind == TERN_V_STRING && key.as.string->size > 0 && key.as.string->data[0] == '_')
            TERN_RAISE(r, "a namespace takes no names that begin with an underscore, got '%.*s'",
                       (int)(key.as.string->size > 100 ? 100 : key.as.string->size), key.as.string->data);
    }
    out->kind = TERN_V_NAMESPACE;
    return TERN_OK;
}

FUNCTION(do_cycler)
{
    struct tern_vcycler *cycler;

    if (call->n_args == 0 || call->n_keywords > 0)
        TERN_RAISE(r, "at least one item has to be provided");
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &cycler));
    *cycler = (struct tern_vcycler){ call->args, call->n_args, 0 };
    *out = (tern_value){ .kind = TERN_V_CYCLER, .as.cycler = cycler };
    return TERN_OK;
}

FUNCTION(do_joiner)
{
    struct tern_vjoiner *joiner;
    tern_value separator;

    TERN_TRY(tern_call_bind(r, "joiner", call, "sep", 0, &separator, 1));
    if (tern_value_is_absent(separator))
        TERN_TRY(tern_value_borrowed(r, ", ", 2, &separator));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &joiner));
    joiner->separator = separator;
    *out = (tern_value){ .kind = TERN_V_JOINER, .as.joiner = joiner };
    return TERN_OK;
}

FUNCTION(do_raise)
{
    tern_value message, text;

    (void)out;
    TERN_TRY(tern_call_bind(r, "raise_exception", call, "message", 1, &message, 1));
    TERN_TRY(tern_value_str(r, message, &text));
    return tern_render_fail(r, TERN_ERR_ARG, "%.*s", (int)(text.as.string->size > 600 ? 600 : text.as.string->size),
                            text.as.string->data);
}

FUNCTION(do_strftime)
{
    tern_value format;
    const time_t now = (time_t)r->now;
    struct tm local;
    struct tern_out zero_ended = { 0 };
    char text[512];

    TERN_TRY(tern_call_bind(r, "strftime_now", call, "format", 1, &format, 1));
    if (format.kind != TERN_V_STRING)
        TERN_RAISE(r, "strftime_now: a format is a %s, expected a str", tern_value_type(format));
    if (format.as.string->size > 200)
        TERN_RAISE(r, "strftime_now: a format of %zu bytes, expected at most 200", format.as.string->size);
    TERN_TRY(tern_out_value(r, &zero_ended, format));
    TERN_TRY(tern_out_put(r, &zero_ended, "", 1));
    if (!localtime_r(&now, &local))
        TERN_RAISE(r, "strftime_now: the system has no local time");
    const size_t n = strftime(text, sizeof text, zero_ended.buffer->data, &local);
    size_t bad;
    if (!tern_utf8_check(text, n, &bad))
        TERN_RAISE(r, "strftime_now: the locale's names are no UTF-8");
    return tern_value_string(r, text, n, out);
}

static const struct tern_function functions[] = {
    { "range", do_range },           { "dict", do_dict },     { "namespace", do_namespace },
    { "cycler", do_cycler },         { "joiner", do_joiner }, { "raise_exception", do_raise },
    { "strftime_now", do_strftime },
};

const struct tern_function *tern_function_find(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (strlen(functions[i].name) == size && memcmp(functions[i].name, name, size) == 0)
            return &functions[i];
    return NULL;
}
