/* template_members.c: what is in a value: obj.name, obj[key] and obj[a:b:c].
 *
 * As in jinja2's sandbox: obj.name looks for an attribute first and for an item then, obj["name"] the other way round, and what neither
 * has is undefined. */
#include "text/template_render.h"

/* ---- attributes and items ---- */

static tern_status undefined_member(struct tern_render *r, tern_value obj, tern_value key, tern_value *out)
{
    if (key.kind == TERN_V_STRING)
        return tern_value_undefined(r, out, "'%s object' has no attribute '%.*s'", tern_value_type(obj),
                                    (int)(key.as.string->size > 100 ? 100 : key.as.string->size), key.as.string->data);
    struct tern_out text = { 0 };
    tern_value shown;
    TERN_TRY(tern_out_repr(r, &text, key));
    TERN_TRY(tern_out_string(r, &text, &shown));
    return tern_value_undefined(r, out, "%s object has no element %.*s", tern_value_type(obj),
                                (int)(shown.as.string->size > 100 ? 100 : shown.as.string->size),
                                shown.as.string->data);
}

static bool starts_with(const struct tern_vstring *s, const char *prefix)
{
    return s->size >= strlen(prefix) && memcmp(s->data, prefix, strlen(prefix)) == 0;
}

static bool name_is(const struct tern_vstring *name, const char *text)
{
    return name->size == strlen(text) && memcmp(name->data, text, name->size) == 0;
}

/* What Python's getattr finds, and the sandbox lets through or makes undefined. */
static tern_status find_attribute(struct tern_render *r, tern_value obj, const struct tern_vstring *name,
                                  tern_value *out, bool *found)
{
    const struct tern_method *method;
    struct tern_vmethod *bound;

    *found = true;
    if (obj.kind == TERN_V_NAMESPACE) {
        const tern_value *v = tern_dict_get(obj.as.dict, name->data, name->size);

        *found = v != NULL;
        if (v)
            *out = *v;
        return TERN_OK;
    }
    if (obj.kind == TERN_V_LOOP) {
        TERN_TRY(tern_loop_attribute(r, obj.as.loop, name, out, found));
        if (*found)
            return TERN_OK;
        *found = true;
    }
    if (obj.kind == TERN_V_CYCLER && name_is(name, "current")) {
        *out = obj.as.cycler->items[obj.as.cycler->at];
        return TERN_OK;
    }
    if (obj.kind == TERN_V_MACRO && name_is(name, "name") && tern_macro_name(obj.as.macro))
        return tern_value_borrowed(r, tern_macro_name(obj.as.macro)->data, tern_macro_name(obj.as.macro)->size, out);
    method = tern_method_find(obj.kind, name->data, name->size);
    if ((method && method->changes) ||
        (starts_with(name, "__") && name->size > 4 && memcmp(name->data + name->size - 2, "__", 2) == 0))
        return tern_value_undefined(r, out, "access to attribute '%.*s' of '%s' object is unsafe.",
                                    (int)(name->size > 100 ? 100 : name->size), name->data, tern_value_type(obj));
    *found = method != NULL;
    if (!method)
        return TERN_OK;
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &bound));
    *bound = (struct tern_vmethod){ obj, method };
    *out = (tern_value){ .kind = TERN_V_METHOD, .as.method = bound };
    return TERN_OK;
}

/* obj[key] of Python; not found where that raises TypeError or LookupError. */
static tern_status find_item(struct tern_render *r, tern_value obj, tern_value key, tern_value *out, bool *found)
{
    *found = false;
    if (obj.kind == TERN_V_DICT) {
        const struct tern_ventry *entry = NULL;

        if (key.kind == TERN_V_LIST || key.kind == TERN_V_DICT)
            return TERN_OK;
        TERN_TRY(tern_dict_find(r, obj.as.dict, key, &entry));
        if (entry)
            *out = entry->value;
        *found = entry != NULL;
        return TERN_OK;
    }
    if (obj.kind != TERN_V_LIST && obj.kind != TERN_V_TUPLE && obj.kind != TERN_V_STRING && obj.kind != TERN_V_RANGE)
        return TERN_OK;
    if (!tern_value_is_int(key))
        return TERN_OK;
    const int64_t length = (int64_t)tern_value_length(obj), index = tern_value_int(key);
    if (index >= length || index < -length)
        return TERN_OK;
    *found = true;
    return tern_value_at(r, obj, (size_t)(index < 0 ? index + length : index), out);
}

tern_status tern_value_getattr(struct tern_render *r, tern_value obj, const struct tern_vstring *name, tern_value *out)
{
    const tern_value key = { .kind = TERN_V_STRING, .as.string = name };
    bool found;

    if (obj.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, obj);
    TERN_TRY(find_attribute(r, obj, name, out, &found));
    if (found)
        return TERN_OK;
    if (obj.kind == TERN_V_DICT) {
        const tern_value *item = tern_dict_get(obj.as.dict, name->data, name->size);

        if (item) {
            *out = *item;
            return TERN_OK;
        }
    }
    return undefined_member(r, obj, key, out);
}

tern_status tern_value_getitem(struct tern_render *r, tern_value obj, tern_value key, tern_value *out)
{
    bool found;

    if (obj.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, obj);
    TERN_TRY(find_item(r, obj, key, out, &found));
    if (!found && key.kind == TERN_V_STRING)
        TERN_TRY(find_attribute(r, obj, key.as.string, out, &found));
    return found ? TERN_OK : undefined_member(r, obj, key, out);
}

/* ---- slices ---- */

static tern_status slice_part(struct tern_render *r, tern_value v, bool *given, int64_t *out)
{
    *given = v.kind != TERN_V_NONE;
    if (!*given)
        return TERN_OK;
    if (v.kind == TERN_V_UNDEFINED || !tern_value_is_int(v))
        TERN_RAISE(r, "slice indices must be integers or None or have an __index__ method");
    *out = tern_value_int(v);
    return TERN_OK;
}

/* As Python's slice.indices(): where it begins and ends, and how many elements it has. */
static void slice_range(int64_t length, bool has_start, int64_t *start, bool has_stop, int64_t *stop, int64_t step,
                        size_t *count)
{
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? length - 1 : length;

    if (!has_start)
        *start = step < 0 ? high : low;
    else if (*start < 0)
        *start = *start < -length ? low : *start + length;
    else if (*start > high)
        *start = high;
    if (!has_stop)
        *stop = step < 0 ? low : high;
    else if (*stop < 0)
        *stop = *stop < -length ? low : *stop + length;
    else if (*stop > high)
        *stop = high;
    if (step < 0)
        *count = *stop < *start ? (size_t)((uint64_t)(*start - *stop - 1) / (0 - (uint64_t)step) + 1) : 0;
    else
        *count = *start < *stop ? (size_t)((uint64_t)(*stop - *start - 1) / (uint64_t)step + 1) : 0;
}

/* A range of a range: nothing is gone through. */
static tern_status slice_of_range(struct tern_render *r, const struct tern_vrange *of, int64_t from, int64_t to,
                                  int64_t by, size_t count, tern_value *out)
{
    struct tern_vrange *range;
    int64_t start, stop, step;

    if (__builtin_mul_overflow(by, of->step, &step) || __builtin_mul_overflow(from, of->step, &start) ||
        __builtin_add_overflow(of->start, start, &start) || __builtin_mul_overflow(to, of->step, &stop) ||
        __builtin_add_overflow(of->start, stop, &stop))
        TERN_RAISE(r, "an integer with more than 64 bits");
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &range));
    *range = (struct tern_vrange){ start, stop, step, count };
    *out = (tern_value){ .kind = TERN_V_RANGE, .as.range = range };
    return TERN_OK;
}

tern_status tern_value_slice(struct tern_render *r, tern_value v, tern_value start, tern_value stop, tern_value step,
                             tern_value *out)
{
    bool has_start, has_stop, has_step;
    int64_t from = 0, to = 0, by = 1;
    size_t count;

    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (v.kind != TERN_V_STRING && v.kind != TERN_V_LIST && v.kind != TERN_V_TUPLE && v.kind != TERN_V_RANGE)
        TERN_RAISE(r, "'%s' object is not subscriptable", tern_value_type(v));
    TERN_TRY(slice_part(r, start, &has_start, &from));
    TERN_TRY(slice_part(r, stop, &has_stop, &to));
    TERN_TRY(slice_part(r, step, &has_step, &by));
    if (by == 0)
        TERN_RAISE(r, "slice step cannot be zero");
    slice_range((int64_t)tern_value_length(v), has_start, &from, has_stop, &to, by, &count);
    if (v.kind == TERN_V_RANGE)
        return slice_of_range(r, v.as.range, from, to, by, count, out);
    if (v.kind == TERN_V_STRING && by == 1)
        return tern_string_part(r, v.as.string, count ? (size_t)from : 0, count ? (size_t)from + count : 0, out);
    tern_value list = v;
    if (v.kind == TERN_V_STRING) /* its characters by number */
        TERN_TRY(tern_value_to_list(r, v, &list));
    tern_value items;
    TERN_TRY(tern_render_spend(r, count));
    TERN_TRY(tern_value_list(r, v.kind == TERN_V_TUPLE ? TERN_V_TUPLE : TERN_V_LIST, count, &items));
    for (size_t i = 0; i < count; i++) {
        tern_value item;

        TERN_TRY(tern_value_at(r, list, (size_t)(from + (int64_t)i * by), &item));
        TERN_TRY(tern_list_push(r, items.as.list, item));
    }
    *out = items;
    if (v.kind == TERN_V_STRING) {
        const struct tern_vstring nothing = { .data = "" };

        return tern_string_join(r, &nothing, items, false, out);
    }
    return TERN_OK;
}
