/* template_filters_lists.c: jinja2's filters of lists as a whole: their ends, their length, their order. */
#include "text/template_filter.h"

/* ---- lists as a whole ---- */

TERN_FILTER(length)
{
    TERN_TRY(tern_filter_no_args(r, "length", call));
    if (!tern_value_has_length(v))
        TERN_RAISE(r, "object of type '%s' has no len()", tern_value_type(v));
    *out = TERN_INT_VALUE((int64_t)tern_value_length(v));
    return TERN_OK;
}

TERN_FILTER(list)
{
    TERN_TRY(tern_filter_no_args(r, "list", call));
    return tern_value_to_list(r, v, out);
}

TERN_FILTER(first)
{
    struct tern_viter *it;
    bool done;

    TERN_TRY(tern_filter_no_args(r, "first", call));
    TERN_TRY(tern_value_iter(r, v, &it));
    TERN_TRY(tern_iter_next(r, it, out, &done));
    return done ? tern_value_undefined(r, out, "No first item, sequence was empty.") : TERN_OK;
}

TERN_FILTER(last)
{
    tern_value list;

    TERN_TRY(tern_filter_no_args(r, "last", call));
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

TERN_FILTER(reverse)
{
    const struct tern_vstring nothing = { .data = "" };
    struct tern_viter *it;
    tern_value list;

    TERN_TRY(tern_filter_no_args(r, "reverse", call));
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

TERN_FILTER(join)
{
    enum { SEPARATOR, ATTRIBUTE, N };
    tern_value args[N], list = v;
    struct tern_path path;

    TERN_TRY(tern_call_bind(r, "join", call, "d, attribute", 0, args, N));
    TERN_TRY(tern_value_str(r, args[SEPARATOR], &args[SEPARATOR]));
    if (!TERN_NONE_OR_ABSENT(args[ATTRIBUTE])) {
        TERN_TRY(tern_path_make(r, args[ATTRIBUTE], false, &path));
        TERN_TRY(tern_value_to_list(r, v, &list));
        for (size_t i = 0; i < list.as.list->count; i++)
            TERN_TRY(tern_path_follow(r, &path, list.as.list->items[i], &list.as.list->items[i]));
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

/* The elements in the order of their keys; reverse: an argument, an int if it is given. */
static tern_status sorted_list(struct tern_render *r, struct sorted *items, size_t n, tern_value reverse,
                               tern_value *out)
{
    int64_t backwards;

    TERN_TRY(tern_argument_int(r, "reverse", reverse, 0, &backwards));
    TERN_TRY(sort_items(r, items, n, backwards != 0));
    TERN_TRY(tern_value_list(r, TERN_V_LIST, n, out));
    for (size_t i = 0; i < n; i++)
        TERN_TRY(tern_list_push(r, out->as.list, items[i].value));
    return TERN_OK;
}

TERN_FILTER(sort)
{
    enum { REVERSE, CASE, ATTRIBUTE, N };
    const struct tern_vstring comma = { .data = ",", .size = 1, .n_chars = 1 };
    tern_value args[N], list, names;
    struct sorted *items;
    struct tern_path *paths;

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
        TERN_TRY(tern_path_make(r, names.as.list->items[i], !tern_value_true(args[CASE]), &paths[i]));
    TERN_TRY(tern_value_to_list(r, v, &list));
    TERN_TRY(TERN_RENDER_TAKE(r, list.as.list->count, &items));
    for (size_t i = 0; i < list.as.list->count; i++) {
        items[i].value = list.as.list->items[i];
        TERN_TRY(tern_value_list(r, TERN_V_LIST, n_paths, &items[i].key));
        for (size_t k = 0; k < n_paths; k++) {
            tern_value key;

            TERN_TRY(tern_path_follow(r, &paths[k], items[i].value, &key));
            TERN_TRY(tern_list_push(r, items[i].key.as.list, key));
        }
    }
    return sorted_list(r, items, list.as.list->count, args[REVERSE], out);
}

TERN_FILTER(dictsort)
{
    enum { CASE, BY, REVERSE, N };
    tern_value args[N];
    struct sorted *items;

    TERN_TRY(tern_call_bind(r, "dictsort", call, "case_sensitive, by, reverse", 0, args, N));
    const bool by_value = tern_string_is(args[BY], "value");
    if (!by_value && !tern_value_is_absent(args[BY]) && !tern_string_is(args[BY], "key"))
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
    return sorted_list(r, items, dict->count, args[REVERSE], out);
}

static tern_status extreme(struct tern_render *r, const char *what, tern_value v, const struct tern_call *call, char op,
                           tern_value *out)
{
    enum { CASE, ATTRIBUTE, N };
    tern_value args[N], item, key, best;
    struct tern_path path;
    struct tern_viter *it;
    bool done, better;

    TERN_TRY(tern_call_bind(r, what, call, "case_sensitive, attribute", 0, args, N));
    TERN_TRY(tern_path_make(r, args[ATTRIBUTE], !tern_value_true(args[CASE]), &path));
    TERN_TRY(tern_value_iter(r, v, &it));
    TERN_TRY(tern_iter_next(r, it, out, &done));
    if (done)
        return tern_value_undefined(r, out, "No aggregated item, sequence was empty.");
    TERN_TRY(tern_path_follow(r, &path, *out, &best));
    for (;;) {
        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return TERN_OK;
        TERN_TRY(tern_path_follow(r, &path, item, &key));
        TERN_TRY(tern_value_ordered(r, op, key, best, &better));
        if (better) {
            *out = item;
            best = key;
        }
    }
}

TERN_FILTER(min)
{
    return extreme(r, "min", v, call, '<', out);
}

TERN_FILTER(max)
{
    return extreme(r, "max", v, call, '>', out);
}

/* [(key, [elements with that key])], by key. */
TERN_FILTER(groupby)
{
    enum { ATTRIBUTE, STANDARD, CASE, N };
    tern_value args[N], list, group = TERN_UNDEFINED_VALUE;
    struct tern_path path, shown;
    struct sorted *items;

    TERN_TRY(tern_call_bind(r, "groupby", call, "attribute, default, case_sensitive", 1, args, N));
    TERN_TRY(tern_path_make(r, args[ATTRIBUTE], !tern_value_true(args[CASE]), &path));
    path.standard = args[STANDARD];
    path.has_standard = !TERN_NONE_OR_ABSENT(args[STANDARD]);
    shown = path;
    shown.lower = false;
    TERN_TRY(tern_value_to_list(r, v, &list));
    const size_t n = list.as.list->count;
    TERN_TRY(TERN_RENDER_TAKE(r, n, &items));
    for (size_t i = 0; i < n; i++) {
        items[i].value = list.as.list->items[i];
        TERN_TRY(tern_path_follow(r, &path, items[i].value, &items[i].key));
    }
    TERN_TRY(sort_items(r, items, n, false));
    TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, out));
    for (size_t i = 0; i < n; i++) {
        bool same = false;

        if (i > 0)
            TERN_TRY(tern_value_equal(r, items[i - 1].key, items[i].key, &same));
        if (!same) {
            tern_value key, pair;

            TERN_TRY(tern_path_follow(r, &shown, items[i].value, &key));
            TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, &group));
            TERN_TRY(tern_value_pair(r, key, group, &pair));
            TERN_TRY(tern_list_push(r, out->as.list, pair));
        }
        TERN_TRY(tern_list_push(r, group.as.list, items[i].value));
    }
    return TERN_OK;
}
