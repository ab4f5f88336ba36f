/* template_filters_picks.c: jinja2's filters that go through elements one by one: map, select, unique, batch, ...
 *
 * They are generators as in jinja2: they have no length and no subscripts, they are true even where nothing comes out of them, and each
 * element comes once. */
#include "text/template_filter.h"

static tern_status new_iterator(struct tern_render *r, tern_next_fn *next, tern_value source, void *how,
                                tern_value *out)
{
    TERN_TRY(tern_value_iterator(r, next, source, out));
    out->as.iter->how = how;
    return TERN_OK;
}

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

TERN_FILTER(items)
{
    TERN_TRY(tern_filter_no_args(r, "items", call));
    return new_iterator(r, next_of_items, v, NULL, out);
}

/* What map, select and their kin do with each element. */
struct picker {
    struct tern_path path;
    const struct tern_filter *filter; /* of map */
    const struct tern_test *test;
    struct tern_call call; /* all of it at first, later what is left for filter or test */
    bool by_attribute;
    bool wanted; /* elements of which this is true stay */
};

/* The rest of a call behind its first n arguments. */
static struct tern_call rest_of_call(const struct tern_call *call, size_t n)
{
    struct tern_call rest = *call;

    rest.args += n < rest.n_args ? n : rest.n_args;
    rest.n_args -= n < rest.n_args ? n : rest.n_args;
    return rest;
}

static tern_status prepare_map(struct tern_render *r, struct picker *p)
{
    const struct tern_call *call = &p->call;
    tern_value args[2];

    if (call->n_args == 0 && call->n_keywords > 0) {
        TERN_TRY(tern_call_bind(r, "map", call, "attribute, default", 1, args, 2));
        TERN_TRY(tern_path_make(r, args[0], false, &p->path));
        p->path.standard = args[1];
        p->path.has_standard = !TERN_NONE_OR_ABSENT(args[1]);
        return TERN_OK;
    }
    if (call->n_args == 0)
        TERN_RAISE(r, "map requires a filter argument");
    const tern_value name = call->args[0];
    if (name.kind != TERN_V_STRING)
        TERN_RAISE(r, "map: a filter's name is a %s, expected a str", tern_value_type(name));
    p->filter = tern_filter_find(name.as.string->data, name.as.string->size);
    if (!p->filter)
        return tern_render_fail(r, TERN_ERR_UNSUPPORTED, "the filter '%.*s' is not one that tern has",
                                (int)name.as.string->size, name.as.string->data);
    p->call = rest_of_call(call, 1);
    return TERN_OK;
}

static tern_status prepare_select(struct tern_render *r, struct picker *p)
{
    const struct tern_call *call = &p->call;
    const size_t n = p->by_attribute;

    if (p->by_attribute) {
        if (call->n_args == 0)
            TERN_RAISE(r, "Missing parameter for attribute name");
        TERN_TRY(tern_path_make(r, call->args[0], false, &p->path));
    }
    if (call->n_args <= n)
        return TERN_OK;
    const tern_value name = call->args[n];
    if (name.kind != TERN_V_STRING)
        TERN_RAISE(r, "a test's name is a %s, expected a str", tern_value_type(name));
    p->test = tern_test_find(name.as.string->data, name.as.string->size);
    if (!p->test)
        return tern_render_fail(r, TERN_ERR_UNSUPPORTED, "the test '%.*s' is not one that tern has",
                                (int)name.as.string->size, name.as.string->data);
    p->call = rest_of_call(call, n + 1);
    return TERN_OK;
}

/* The next element of the source.  Only at the first are the arguments looked at, as in jinja2, and a source that is false has none. */
static tern_status next_of_source(struct tern_render *r, struct tern_viter *it,
                                  tern_status (*prepare)(struct tern_render *r, struct picker *p), tern_value *out,
                                  bool *done)
{
    *done = !tern_value_true(it->source);
    if (*done)
        return TERN_OK;
    if (!it->inner) {
        TERN_TRY(prepare(r, it->how));
        TERN_TRY(tern_value_iter(r, it->source, &it->inner));
    }
    return tern_iter_next(r, it->inner, out, done);
}

static tern_status next_of_map(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct picker *p = it->how;
    tern_value v;

    TERN_TRY(next_of_source(r, it, prepare_map, &v, done));
    if (*done)
        return TERN_OK;
    return p->filter ? p->filter->run(r, v, &p->call, out) : tern_path_follow(r, &p->path, v, out);
}

static tern_status next_of_select(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct picker *p = it->how;

    for (;;) {
        tern_value v;
        bool holds;

        TERN_TRY(next_of_source(r, it, prepare_select, out, done));
        if (*done)
            return TERN_OK;
        TERN_TRY(tern_path_follow(r, &p->path, *out, &v));
        if (p->test)
            TERN_TRY(p->test->run(r, v, &p->call, &holds));
        else
            holds = tern_value_true(v);
        if (holds == p->wanted)
            return TERN_OK;
    }
}

static tern_status pick(struct tern_render *r, tern_next_fn *next, tern_value v, const struct tern_call *call,
                        bool by_attribute, bool wanted, tern_value *out)
{
    struct picker *p;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &p));
    *p = (struct picker){ .call = *call, .by_attribute = by_attribute, .wanted = wanted };
    return new_iterator(r, next, v, p, out);
}

TERN_FILTER(map)
{
    return pick(r, next_of_map, v, call, false, true, out);
}

TERN_FILTER(select)
{
    return pick(r, next_of_select, v, call, false, true, out);
}

TERN_FILTER(reject)
{
    return pick(r, next_of_select, v, call, false, false, out);
}

TERN_FILTER(selectattr)
{
    return pick(r, next_of_select, v, call, true, true, out);
}

TERN_FILTER(rejectattr)
{
    return pick(r, next_of_select, v, call, true, false, out);
}

struct uniquer {
    struct tern_path path;
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
        TERN_TRY(tern_path_follow(r, &u->path, *out, &key));
        TERN_TRY(tern_dict_find(r, u->seen, key, &entry));
        if (!entry)
            return tern_dict_set(r, u->seen, key, TERN_NONE_VALUE);
    }
}

TERN_FILTER(unique)
{
    enum { CASE, ATTRIBUTE, N };
    tern_value args[N], seen;
    struct uniquer *u;

    TERN_TRY(tern_call_bind(r, "unique", call, "case_sensitive, attribute", 0, args, N));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &u));
    TERN_TRY(tern_path_make(r, args[ATTRIBUTE], !tern_value_true(args[CASE]), &u->path));
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
    while (!*done && end && !TERN_NONE_OR_ABSENT(b->fill) && (int64_t)out->as.list->count < b->count) {
        TERN_TRY(tern_render_spend(r, 1));
        TERN_TRY(tern_list_push(r, out->as.list, b->fill));
    }
    return TERN_OK;
}

TERN_FILTER(batch)
{
    enum { COUNT, FILL, N };
    tern_value args[N];
    struct batcher *b;

    TERN_TRY(tern_call_bind(r, "batch", call, "linecount, fill_with", 1, args, N));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &b));
    TERN_TRY(tern_argument_int(r, "batch: linecount", args[COUNT], 0, &b->count));
    if (b->count < 1)
        TERN_RAISE(r, "batch: linecount is %" PRId64 ", expected at least 1", b->count);
    b->fill = args[FILL];
    return new_iterator(r, next_of_batch, v, b, out);
}

/* `count` lists of nearly the same length. */
TERN_FILTER(slice)
{
    enum { COUNT, FILL, N };
    tern_value args[N], list, part, parts;
    struct tern_viter *it;
    int64_t count;
    size_t begin = 0;

    TERN_TRY(tern_call_bind(r, "slice", call, "slices, fill_with", 1, args, N));
    TERN_TRY(tern_argument_int(r, "slice: slices", args[COUNT], 0, &count));
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
        if (!TERN_NONE_OR_ABSENT(args[FILL]) && i >= more)
            TERN_TRY(tern_list_push(r, part.as.list, args[FILL]));
        TERN_TRY(tern_list_push(r, parts.as.list, part));
    }
    TERN_TRY(tern_value_iter(r, parts, &it));
    *out = (tern_value){ .kind = TERN_V_ITERATOR, .as.iter = it };
    return TERN_OK;
}
