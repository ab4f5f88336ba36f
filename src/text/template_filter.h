/* template_filter.h: what jinja2's filters share, and their names. */
#ifndef TERN_TEXT_TEMPLATE_FILTER_H
#define TERN_TEXT_TEMPLATE_FILTER_H

#include "text/template_render.h"

/* An argument that was not given, or is none: most filters make no difference. */
#define TERN_NONE_OR_ABSENT(v) ((v).kind == TERN_V_NONE || tern_value_is_absent(v))

/* value | name(call) */
#define TERN_FILTER(name) \
    tern_status tern_filter_##name(struct tern_render *r, tern_value v, const struct tern_call *call, tern_value *out)

/* The filter of that name takes no arguments: an error where there are any. */
tern_status tern_filter_no_args(struct tern_render *r, const char *what, const struct tern_call *call);
/* An argument that is an integer; `standard` where it was not given. */
tern_status tern_argument_int(struct tern_render *r, const char *what, tern_value v, int64_t standard, int64_t *out);

/* ---- attributes by name, "a.b.0" ---- */
struct tern_path {
    tern_value *parts;
    size_t n;
    bool lower; /* strings are compared in lower case */
    bool has_standard;
    tern_value standard; /* instead of undefined */
};
/* attribute: none, an integer, or names and numbers with dots between them. */
tern_status tern_path_make(struct tern_render *r, tern_value attribute, bool lower, struct tern_path *path);
tern_status tern_path_follow(struct tern_render *r, const struct tern_path *path, tern_value v, tern_value *out);

/* ---- template_filters_text.c ---- */
TERN_FILTER(upper);
TERN_FILTER(lower);
TERN_FILTER(capitalize);
TERN_FILTER(title);
TERN_FILTER(trim);
TERN_FILTER(replace);
TERN_FILTER(string);
TERN_FILTER(safe);
TERN_FILTER(escape);
TERN_FILTER(indent);
TERN_FILTER(center);
TERN_FILTER(truncate);
TERN_FILTER(format);
TERN_FILTER(tojson);

/* ---- template_filters_numbers.c ---- */
TERN_FILTER(int);
TERN_FILTER(float);
TERN_FILTER(abs);
TERN_FILTER(round);
TERN_FILTER(sum);

/* ---- template_filters_lists.c ---- */
TERN_FILTER(length);
TERN_FILTER(list);
TERN_FILTER(first);
TERN_FILTER(last);
TERN_FILTER(reverse);
TERN_FILTER(join);
TERN_FILTER(sort);
TERN_FILTER(dictsort);
TERN_FILTER(min);
TERN_FILTER(max);
TERN_FILTER(groupby);

/* ---- template_filters_picks.c ---- */
TERN_FILTER(items);
TERN_FILTER(map);
TERN_FILTER(select);
TERN_FILTER(reject);
TERN_FILTER(selectattr);
TERN_FILTER(rejectattr);
TERN_FILTER(unique);
TERN_FILTER(batch);
TERN_FILTER(slice);

#endif
