/* template_filters.c: value | filter: their names, and what they share. */
#include "text/template_filter.h"

tern_status tern_filter_no_args(struct tern_render *r, const char *what, const struct tern_call *call)
{
    return tern_call_bind(r, what, call, "", 0, NULL, 0);
}

tern_status tern_argument_int(struct tern_render *r, const char *what, tern_value v, int64_t standard, int64_t *out)
{
    *out = standard;
    if (tern_value_is_absent(v))
        return TERN_OK;
    if (!tern_value_is_int(v))
        TERN_RAISE(r, "%s is a %s, expected an int", what, tern_value_type(v));
    *out = tern_value_int(v);
    return TERN_OK;
}

/* ---- attributes by name, "a.b.0" ---- */

static bool all_digits(const struct tern_vstring *s)
{
    for (size_t i = 0; i < s->size; i++)
        if (s->data[i] < '0' || s->data[i] > '9')
            return false;
    return s->size > 0;
}

tern_status tern_path_make(struct tern_render *r, tern_value attribute, bool lower, struct tern_path *path)
{
    const struct tern_vstring dot = { .data = ".", .size = 1, .n_chars = 1 };
    tern_value list;

    *path = (struct tern_path){ .lower = lower };
    if (TERN_NONE_OR_ABSENT(attribute))
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

tern_status tern_path_follow(struct tern_render *r, const struct tern_path *path, tern_value v, tern_value *out)
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

/* ---- filters of anything, and the names of all ---- */

static TERN_FILTER(default)
{
    enum { VALUE, BOOLEAN, N };
    tern_value args[N];

    TERN_TRY(tern_call_bind(r, "default", call, "default_value, boolean", 0, args, N));
    *out = v;
    if (v.kind != TERN_V_UNDEFINED && (!tern_value_true(args[BOOLEAN]) || tern_value_true(v)))
        return TERN_OK;
    *out = args[VALUE];
    return tern_value_is_absent(args[VALUE]) ? tern_value_borrowed(r, "", 0, out) : TERN_OK;
}

static TERN_FILTER(attr)
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
    { "abs", tern_filter_abs },           { "attr", tern_filter_attr },
    { "batch", tern_filter_batch },       { "capitalize", tern_filter_capitalize },
    { "center", tern_filter_center },     { "count", tern_filter_length },
    { "d", tern_filter_default },         { "default", tern_filter_default },
    { "dictsort", tern_filter_dictsort }, { "e", tern_filter_escape },
    { "escape", tern_filter_escape },     { "first", tern_filter_first },
    { "float", tern_filter_float },       { "format", tern_filter_format },
    { "groupby", tern_filter_groupby },   { "indent", tern_filter_indent },
    { "int", tern_filter_int },           { "items", tern_filter_items },
    { "join", tern_filter_join },         { "last", tern_filter_last },
    { "length", tern_filter_length },     { "list", tern_filter_list },
    { "lower", tern_filter_lower },       { "map", tern_filter_map },
    { "max", tern_filter_max },           { "min", tern_filter_min },
    { "reject", tern_filter_reject },     { "rejectattr", tern_filter_rejectattr },
    { "replace", tern_filter_replace },   { "reverse", tern_filter_reverse },
    { "round", tern_filter_round },       { "safe", tern_filter_safe },
    { "select", tern_filter_select },     { "selectattr", tern_filter_selectattr },
    { "slice", tern_filter_slice },       { "sort", tern_filter_sort },
    { "string", tern_filter_string },     { "sum", tern_filter_sum },
    { "title", tern_filter_title },       { "tojson", tern_filter_tojson },
    { "trim", tern_filter_trim },         { "truncate", tern_filter_truncate },
    { "unique", tern_filter_unique },     { "upper", tern_filter_upper },
};

const struct tern_filter *tern_filter_find(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (strlen(filters[i].name) == size && memcmp(filters[i].name, name, size) == 0)
            return &filters[i];
    return NULL;
}
