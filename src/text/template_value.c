/* template_value.c: making values, asking them, comparing them, going through them. */
#include "text/template_value.h"

#include "base/utf8.h"
#include "text/template_render.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define LIST_START   4
#define INDEX_FROM   9  /* entries from which a dict has an index */
#define BYTES_A_STEP 64 /* of strings that are compared or searched */

/* ---- strings ---- */

size_t tern_utf8_count(const char *data, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < size; i++)
        n += ((unsigned char)data[i] & 0xc0) != 0x80;
    return n;
}

tern_status tern_string_borrow(tern_ctx *ctx, struct tern_pool *pool, const char *data, size_t size, size_t n_chars,
                               const struct tern_vstring **out)
{
    struct tern_vstring *s;

    TERN_TRY(TERN_POOL_TAKE(ctx, pool, 1, &s));
    *s = (struct tern_vstring){ .data = data ? data : "",
                                .size = size,
                                .n_chars = n_chars == SIZE_MAX ? tern_utf8_count(data, size) : n_chars };
    *out = s;
    return TERN_OK;
}

tern_status tern_value_borrowed(struct tern_render *r, const char *data, size_t size, tern_value *out)
{
    const struct tern_vstring *s;

    TERN_TRY(tern_render_spend(r, size / BYTES_A_STEP));
    TERN_TRY(tern_string_borrow(r->ctx, &r->pool, data, size, SIZE_MAX, &s));
    *out = (tern_value){ .kind = TERN_V_STRING, .as.string = s };
    return TERN_OK;
}

tern_status tern_value_string(struct tern_render *r, const char *data, size_t size, tern_value *out)
{
    char *copy;

    TERN_TRY(TERN_RENDER_TAKE(r, size, &copy));
    if (size > 0)
        memcpy(copy, data, size);
    return tern_value_borrowed(r, copy, size, out);
}

bool tern_string_is(tern_value v, const char *text)
{
    return v.kind == TERN_V_STRING && v.as.string->size == strlen(text) &&
           memcmp(v.as.string->data, text, v.as.string->size) == 0;
}

bool tern_string_equal(const struct tern_vstring *a, const struct tern_vstring *b)
{
    return a == b || (a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
}

/* By code points, which is the order of UTF-8's bytes. */
int tern_string_compare(const struct tern_vstring *a, const struct tern_vstring *b)
{
    const int order = memcmp(a->data, b->data, a->size < b->size ? a->size : b->size);

    return order ? order : (a->size > b->size) - (a->size < b->size);
}

tern_status tern_string_concat(struct tern_render *r, const struct tern_vstring *a, const struct tern_vstring *b,
                               tern_value *out)
{
    const size_t size = a->size + b->size;
    struct tern_vbuffer *buffer = a->buffer;
    struct tern_vstring *s;

    if (b->size == 0 || a->size == 0) {
        *out = (tern_value){ .kind = TERN_V_STRING, .as.string = b->size == 0 ? a : b };
        return TERN_OK;
    }
    TERN_TRY(tern_render_spend(r, b->size / BYTES_A_STEP));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &s));
    if (!buffer || a->data + a->size != buffer->data + buffer->used || buffer->capacity - buffer->used < b->size) {
        const size_t capacity = size < 64 ? size : 2 * size; /* long ones are likely to go on */

        TERN_TRY(tern_render_spend(r, a->size / BYTES_A_STEP));
        TERN_TRY(tern_pool_take(r->ctx, &r->pool, sizeof *buffer + capacity, (void **)&buffer));
        buffer->capacity = capacity;
        memcpy(buffer->data, a->data, a->size);
        buffer->used = a->size;
        s->data = buffer->data;
    } else {
        s->data = a->data;
    }
    memcpy(buffer->data + buffer->used, b->data, b->size);
    buffer->used += b->size;
    s->size = size;
    s->n_chars = a->n_chars + b->n_chars;
    s->buffer = buffer;
    *out = (tern_value){ .kind = TERN_V_STRING, .as.string = s };
    return TERN_OK;
}

tern_status tern_value_undefined(struct tern_render *r, tern_value *out, const char *format, ...)
{
    struct tern_vundefined *u;
    char text[256], *copy;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const size_t size = tern_utf8_uncut(text, strlen(text));
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &u));
    TERN_TRY(TERN_RENDER_TAKE(r, size + 1, &copy));
    memcpy(copy, text, size);
    u->text = copy;
    *out = (tern_value){ .kind = TERN_V_UNDEFINED, .as.undefined = u };
    return TERN_OK;
}

/* ---- lists ---- */

tern_status tern_value_list(struct tern_render *r, enum tern_value_kind kind, size_t capacity, tern_value *out)
{
    struct tern_vlist *list;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &list));
    if (capacity > 0)
        TERN_TRY(TERN_RENDER_TAKE(r, capacity, &list->items));
    list->capacity = capacity;
    *out = (tern_value){ .kind = kind, .as.list = list };
    return TERN_OK;
}

tern_status tern_list_push(struct tern_render *r, struct tern_vlist *list, tern_value item)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : LIST_START;
        tern_value *items;

        TERN_TRY(TERN_RENDER_TAKE(r, capacity, &items));
        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return TERN_OK;
}

tern_status tern_value_pair(struct tern_render *r, tern_value a, tern_value b, tern_value *out)
{
    TERN_TRY(tern_value_list(r, TERN_V_TUPLE, 2, out));
    TERN_TRY(tern_list_push(r, out->as.list, a));
    return tern_list_push(r, out->as.list, b);
}

/* ---- dicts ---- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

uint64_t tern_bytes_hash(const char *data, size_t size)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */

    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)data[i]) * 1099511628211u;
    return mix(h);
}

/* Numbers that are equal have equal hashes, whatever their types. */
static uint64_t hash_real(double x)
{
    uint64_t bits;

    if (x >= -9007199254740992.0 && x <= 9007199254740992.0 && x == floor(x))
        return mix((uint64_t)(int64_t)x);
    memcpy(&bits, &x, sizeof bits);
    return mix(bits);
}

static uint64_t hash_int(int64_t i)
{
    return i >= -9007199254740992 && i <= 9007199254740992 ? mix((uint64_t)i) : hash_real((double)i);
}

tern_status tern_value_hash(struct tern_render *r, tern_value v, uint64_t *out)
{
    switch (v.kind) {
    case TERN_V_STRING:
        *out = tern_bytes_hash(v.as.string->data, v.as.string->size);
        return tern_render_spend(r, v.as.string->size / 16); /* one by one */
    case TERN_V_BOOL:
    case TERN_V_INT:
        *out = hash_int(tern_value_int(v));
        return TERN_OK;
    case TERN_V_FLOAT:
        *out = hash_real(v.as.real);
        return TERN_OK;
    case TERN_V_TUPLE:
        *out = 1;
        TERN_TRY(tern_render_enter(r));
        for (size_t i = 0; i < v.as.list->count; i++) {
            uint64_t h;

            TERN_TRY(tern_value_hash(r, v.as.list->items[i], &h));
            *out = mix(*out * 31 + h);
        }
        tern_render_leave(r);
        return tern_render_spend(r, v.as.list->count);
    case TERN_V_LIST:
    case TERN_V_DICT:
        TERN_RAISE(r, "unhashable type: '%s'", tern_value_type(v));
    case TERN_V_NONE:
    case TERN_V_UNDEFINED: /* all of them are equal */
        *out = mix(v.kind);
        return TERN_OK;
    default:
        if (v.kind == TERN_V_VIEW && v.as.view->kind != TERN_VIEW_VALUES)
            TERN_RAISE(r, "unhashable type: '%s'", tern_value_type(v));
        *out = mix((uint64_t)(uintptr_t)v.as.identity);
        return TERN_OK;
    }
}

tern_status tern_value_dict(struct tern_render *r, tern_value *out)
{
    struct tern_vdict *dict;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &dict));
    *out = (tern_value){ .kind = TERN_V_DICT, .as.dict = dict };
    return TERN_OK;
}

static void index_entry(struct tern_vdict *dict, size_t entry)
{
    size_t at = dict->entries[entry].hash & (dict->n_index - 1);

    while (dict->index[at])
        at = (at + 1) & (dict->n_index - 1);
    dict->index[at] = (uint32_t)entry + 1;
}

static tern_status find_hashed(struct tern_render *r, const struct tern_vdict *dict, tern_value key, uint64_t hash,
                               struct tern_ventry **out)
{
    bool equal = false;

    *out = NULL;
    if (dict->n_index == 0) {
        for (size_t i = 0; i < dict->count && !equal; i++)
            if (dict->entries[i].hash == hash) {
                TERN_TRY(tern_value_equal(r, dict->entries[i].key, key, &equal));
                if (equal)
                    *out = &dict->entries[i];
            }
        return TERN_OK;
    }
    for (size_t at = hash & (dict->n_index - 1); dict->index[at] && !equal; at = (at + 1) & (dict->n_index - 1)) {
        struct tern_ventry *entry = &dict->entries[dict->index[at] - 1];

        if (entry->hash == hash) {
            TERN_TRY(tern_value_equal(r, entry->key, key, &equal));
            if (equal)
                *out = entry;
        }
        TERN_TRY(tern_render_spend(r, 1));
    }
    return TERN_OK;
}

tern_status tern_dict_find(struct tern_render *r, const struct tern_vdict *dict, tern_value key,
                           const struct tern_ventry **out)
{
    struct tern_ventry *found;
    uint64_t hash;

    TERN_TRY(tern_value_hash(r, key, &hash));
    TERN_TRY(find_hashed(r, dict, key, hash, &found));
    *out = found;
    return TERN_OK;
}

const tern_value *tern_dict_get(const struct tern_vdict *dict, const char *key, size_t size)
{
    const uint64_t hash = tern_bytes_hash(key, size);
    const struct tern_ventry *entry;

    if (dict->n_index == 0) {
        for (size_t i = 0; i < dict->count; i++) {
            entry = &dict->entries[i];
            if (entry->hash == hash && entry->key.kind == TERN_V_STRING && entry->key.as.string->size == size &&
                memcmp(entry->key.as.string->data, key, size) == 0)
                return &entry->value;
        }
        return NULL;
    }
    for (size_t at = hash & (dict->n_index - 1); dict->index[at]; at = (at + 1) & (dict->n_index - 1)) {
        entry = &dict->entries[dict->index[at] - 1];
        if (entry->hash == hash && entry->key.kind == TERN_V_STRING && entry->key.as.string->size == size &&
            memcmp(entry->key.as.string->data, key, size) == 0)
            return &entry->value;
    }
    return NULL;
}

tern_status tern_dict_set(struct tern_render *r, struct tern_vdict *dict, tern_value key, tern_value value)
{
    struct tern_ventry *entry;
    uint64_t hash;

    TERN_TRY(tern_value_hash(r, key, &hash));
    TERN_TRY(find_hashed(r, dict, key, hash, &entry));
    if (entry) {
        entry->value = value;
        return TERN_OK;
    }
    if (dict->count == dict->capacity) {
        const size_t capacity = dict->capacity ? 2 * dict->capacity : LIST_START;
        struct tern_ventry *entries;

        TERN_TRY(TERN_RENDER_TAKE(r, capacity, &entries));
        if (dict->count > 0)
            memcpy(entries, dict->entries, dict->count * sizeof *entries);
        dict->entries = entries;
        dict->capacity = capacity;
        if (capacity >= INDEX_FROM) {
            uint32_t *index;

            TERN_TRY(TERN_RENDER_TAKE(r, 2 * capacity, &index));
            dict->index = index;
            dict->n_index = 2 * capacity;
            for (size_t i = 0; i < dict->count; i++)
                index_entry(dict, i);
        }
    }
    dict->entries[dict->count++] = (struct tern_ventry){ key, value, hash };
    if (dict->n_index > 0)
        index_entry(dict, dict->count - 1);
    return TERN_OK;
}

tern_status tern_dict_set_name(struct tern_render *r, struct tern_vdict *dict, const char *name, tern_value value)
{
    tern_value key;

    TERN_TRY(tern_value_string(r, name, strlen(name), &key));
    return tern_dict_set(r, dict, key, value);
}

tern_status tern_value_from_json(struct tern_render *r, const tern_json_value *json, tern_value *out)
{
    const char *text;
    size_t size;

    TERN_TRY(tern_render_spend(r, 1));
    switch (tern_json_type(json)) {
    case TERN_JSON_NULL:
        *out = TERN_NONE_VALUE;
        return TERN_OK;
    case TERN_JSON_BOOL:
        *out = TERN_BOOL_VALUE(tern_json_bool(json));
        return TERN_OK;
    case TERN_JSON_INT:
        *out = TERN_INT_VALUE(tern_json_int(json));
        return TERN_OK;
    case TERN_JSON_REAL:
        *out = TERN_FLOAT_VALUE(tern_json_number(json));
        return TERN_OK;
    case TERN_JSON_STRING:
        text = tern_json_string(json, &size);
        return tern_value_borrowed(r, text, size, out);
    case TERN_JSON_ARRAY:
        TERN_TRY(tern_value_list(r, TERN_V_LIST, tern_json_size(json), out));
        for (size_t i = 0; i < tern_json_size(json); i++) {
            tern_value item;

            TERN_TRY(tern_value_from_json(r, tern_json_at(json, i), &item));
            TERN_TRY(tern_list_push(r, out->as.list, item));
        }
        return TERN_OK;
    case TERN_JSON_OBJECT:
        break;
    }
    TERN_TRY(tern_value_dict(r, out));
    for (void *it = tern_json_iter(json); it; it = tern_json_next(json, it)) {
        tern_value key, value;

        text = tern_json_iter_key(it, &size);
        TERN_TRY(tern_value_borrowed(r, text, size, &key));
        TERN_TRY(tern_value_from_json(r, tern_json_iter_value(it), &value));
        TERN_TRY(tern_dict_set(r, out->as.dict, key, value));
    }
    return TERN_OK;
}

/* ---- asking ---- */

const char *tern_value_type(tern_value v)
{
    static const char *const views[] = { "dict_keys", "dict_values", "dict_items" };
    static const char *const names[] = {
        [TERN_V_UNDEFINED] = "Undefined", [TERN_V_NONE] = "NoneType",
        [TERN_V_BOOL] = "bool",           [TERN_V_INT] = "int",
        [TERN_V_FLOAT] = "float",         [TERN_V_STRING] = "str",
        [TERN_V_LIST] = "list",           [TERN_V_TUPLE] = "tuple",
        [TERN_V_DICT] = "dict",           [TERN_V_NAMESPACE] = "Namespace",
        [TERN_V_RANGE] = "range",         [TERN_V_ITERATOR] = "generator",
        [TERN_V_FUNCTION] = "function",   [TERN_V_METHOD] = "method",
        [TERN_V_MACRO] = "Macro",         [TERN_V_LOOP] = "LoopContext",
        [TERN_V_CYCLER] = "Cycler",       [TERN_V_JOINER] = "Joiner",
        [TERN_V_VIEW] = "dict_items",
    };

    return v.kind == TERN_V_VIEW ? views[v.as.view->kind] : names[v.kind];
}

bool tern_value_is_absent(tern_value v)
{
    return v.kind == TERN_V_UNDEFINED && !v.as.undefined;
}

bool tern_value_has_length(tern_value v)
{
    switch (v.kind) {
    case TERN_V_STRING:
    case TERN_V_LIST:
    case TERN_V_TUPLE:
    case TERN_V_DICT:
    case TERN_V_RANGE:
    case TERN_V_VIEW:
    case TERN_V_UNDEFINED:
        return true;
    default:
        return false;
    }
}

size_t tern_value_length(tern_value v)
{
    switch (v.kind) {
    case TERN_V_STRING:
        return v.as.string->n_chars;
    case TERN_V_LIST:
    case TERN_V_TUPLE:
        return v.as.list->count;
    case TERN_V_DICT:
        return v.as.dict->count;
    case TERN_V_RANGE:
        return v.as.range->count;
    case TERN_V_VIEW:
        return v.as.view->dict->count;
    default:
        return 0;
    }
}

bool tern_value_true(tern_value v)
{
    switch (v.kind) {
    case TERN_V_NONE:
        return false;
    case TERN_V_BOOL:
        return v.as.boolean;
    case TERN_V_INT:
        return v.as.integer != 0;
    case TERN_V_FLOAT:
        return v.as.real != 0;
    default:
        return !tern_value_has_length(v) || tern_value_length(v) > 0;
    }
}

bool tern_value_is_int(tern_value v)
{
    return v.kind == TERN_V_INT || v.kind == TERN_V_BOOL;
}

bool tern_value_is_number(tern_value v)
{
    return tern_value_is_int(v) || v.kind == TERN_V_FLOAT;
}

int64_t tern_value_int(tern_value v)
{
    return v.kind == TERN_V_BOOL ? v.as.boolean : v.as.integer;
}

double tern_value_real(tern_value v)
{
    return v.kind == TERN_V_FLOAT ? v.as.real : (double)tern_value_int(v);
}

/* ---- comparing ---- */

/* -1, 0, 1, or 2 where one is no number: exact between integers and floats. */
static int compare_numbers(tern_value a, tern_value b)
{
    if (a.kind == TERN_V_FLOAT && b.kind == TERN_V_FLOAT)
        return a.as.real < b.as.real ? -1 : a.as.real > b.as.real ? 1 : a.as.real == b.as.real ? 0 : 2;
    if (a.kind == TERN_V_FLOAT) {
        const int other = compare_numbers(b, a);

        return other == 2 ? 2 : -other;
    }
    const int64_t i = tern_value_int(a);
    if (b.kind != TERN_V_FLOAT) {
        const int64_t j = tern_value_int(b);

        return (i > j) - (i < j);
    }
    const double x = b.as.real;
    if (isnan(x))
        return 2;
    if (x >= 9223372036854775808.0)
        return -1;
    if (x < -9223372036854775808.0)
        return 1;
    const int64_t whole = (int64_t)x;
    if (i != whole)
        return i < whole ? -1 : 1;
    const double rest = x - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static tern_status lists_equal(struct tern_render *r, const struct tern_vlist *a, const struct tern_vlist *b, bool *out)
{
    *out = a->count == b->count;
    TERN_TRY(tern_render_enter(r));
    for (size_t i = 0; *out && i < a->count; i++)
        TERN_TRY(tern_value_equal(r, a->items[i], b->items[i], out));
    tern_render_leave(r);
    return TERN_OK;
}

static tern_status dicts_equal(struct tern_render *r, const struct tern_vdict *a, const struct tern_vdict *b, bool *out)
{
    *out = a->count == b->count;
    TERN_TRY(tern_render_enter(r));
    for (size_t i = 0; *out && i < a->count; i++) {
        struct tern_ventry *entry;

        TERN_TRY(find_hashed(r, b, a->entries[i].key, a->entries[i].hash, &entry));
        *out = entry != NULL;
        if (entry)
            TERN_TRY(tern_value_equal(r, a->entries[i].value, entry->value, out));
    }
    tern_render_leave(r);
    return TERN_OK;
}

tern_status tern_value_equal(struct tern_render *r, tern_value a, tern_value b, bool *out)
{
    TERN_TRY(tern_render_spend(r, 1));
    *out = false;
    if (tern_value_is_number(a) && tern_value_is_number(b)) {
        *out = compare_numbers(a, b) == 0;
        return TERN_OK;
    }
    if (a.kind != b.kind)
        return TERN_OK;
    switch (a.kind) {
    case TERN_V_UNDEFINED:
    case TERN_V_NONE:
        *out = true;
        return TERN_OK;
    case TERN_V_STRING:
        TERN_TRY(tern_render_spend(r, a.as.string->size / BYTES_A_STEP));
        *out = tern_string_equal(a.as.string, b.as.string);
        return TERN_OK;
    case TERN_V_LIST:
    case TERN_V_TUPLE:
        *out = true;
        return a.as.list == b.as.list ? TERN_OK : lists_equal(r, a.as.list, b.as.list, out);
    case TERN_V_DICT:
        *out = true;
        return a.as.dict == b.as.dict ? TERN_OK : dicts_equal(r, a.as.dict, b.as.dict, out);
    case TERN_V_RANGE:
        *out = a.as.range->count == b.as.range->count &&
               (a.as.range->count == 0 || (a.as.range->start == b.as.range->start &&
                                           (a.as.range->count == 1 || a.as.range->step == b.as.range->step)));
        return TERN_OK;
    case TERN_V_METHOD:
        *out = a.as.method->method == b.as.method->method &&
               a.as.method->self.as.identity == b.as.method->self.as.identity;
        return TERN_OK;
    default:
        *out = a.as.identity == b.as.identity;
        return TERN_OK;
    }
}

static bool order_holds(char op, int order)
{
    switch (op) {
    case '<':
        return order == -1;
    case 'l':
        return order == -1 || order == 0;
    case '>':
        return order == 1;
    default:
        return order == 1 || order == 0;
    }
}

/* Python's: the first elements that differ decide, else the lengths. */
static tern_status order_lists(struct tern_render *r, char op, const struct tern_vlist *a, const struct tern_vlist *b,
                               bool *out)
{
    size_t i = 0;

    TERN_TRY(tern_render_enter(r));
    for (; i < a->count && i < b->count; i++) {
        bool equal;

        TERN_TRY(tern_value_equal(r, a->items[i], b->items[i], &equal));
        if (!equal)
            break;
    }
    if (i < a->count && i < b->count)
        TERN_TRY(tern_value_ordered(r, op, a->items[i], b->items[i], out));
    else
        *out = order_holds(op, (a->count > b->count) - (a->count < b->count));
    tern_render_leave(r);
    return TERN_OK;
}

tern_status tern_value_ordered(struct tern_render *r, char op, tern_value a, tern_value b, bool *out)
{
    TERN_TRY(tern_render_spend(r, 1));
    if (a.kind == TERN_V_UNDEFINED || b.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, a.kind == TERN_V_UNDEFINED ? a : b);
    if (tern_value_is_number(a) && tern_value_is_number(b)) {
        *out = order_holds(op, compare_numbers(a, b));
        return TERN_OK;
    }
    if (a.kind == TERN_V_STRING && b.kind == TERN_V_STRING) {
        const int order = tern_string_compare(a.as.string, b.as.string);

        TERN_TRY(tern_render_spend(r, a.as.string->size / BYTES_A_STEP));
        *out = order_holds(op, (order > 0) - (order < 0));
        return TERN_OK;
    }
    if (a.kind == b.kind && (a.kind == TERN_V_LIST || a.kind == TERN_V_TUPLE))
        return order_lists(r, op, a.as.list, b.as.list, out);
    TERN_RAISE(r, "'%s' not supported between instances of '%s' and '%s'",
               op == '<'   ? "<"
               : op == 'l' ? "<="
               : op == '>' ? ">"
                           : ">=",
               tern_value_type(a), tern_value_type(b));
}

tern_status tern_value_in(struct tern_render *r, tern_value item, tern_value container, bool *out)
{
    const struct tern_ventry *entry;
    struct tern_viter *it;
    bool done = false;

    *out = false;
    if (container.kind == TERN_V_STRING) {
        if (item.kind != TERN_V_STRING)
            TERN_RAISE(r, "'in <string>' requires string as left operand, not %s", tern_value_type(item));
        TERN_TRY(tern_render_spend(r, container.as.string->size / BYTES_A_STEP));
        *out = tern_string_search(container.as.string, 0, item.as.string) != SIZE_MAX;
        return TERN_OK;
    }
    if (container.kind == TERN_V_DICT || (container.kind == TERN_V_VIEW && container.as.view->kind == TERN_VIEW_KEYS)) {
        TERN_TRY(tern_dict_find(r, container.kind == TERN_V_DICT ? container.as.dict : container.as.view->dict, item,
                                &entry));
        *out = entry != NULL;
        return TERN_OK;
    }
    if (!tern_value_has_length(container) && container.kind != TERN_V_ITERATOR)
        TERN_RAISE(r, "argument of type '%s' is not iterable", tern_value_type(container));
    TERN_TRY(tern_value_iter(r, container, &it));
    while (!*out) {
        tern_value element;

        TERN_TRY(tern_iter_next(r, it, &element, &done));
        if (done)
            break;
        TERN_TRY(tern_value_equal(r, element, item, out));
    }
    return TERN_OK;
}

/* ---- going through ---- */

tern_status tern_value_iterator(struct tern_render *r, tern_next_fn *next, tern_value source, tern_value *out)
{
    struct tern_viter *it;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &it));
    it->next = next;
    it->source = source;
    *out = (tern_value){ .kind = TERN_V_ITERATOR, .as.iter = it };
    return TERN_OK;
}

tern_status tern_iter_next(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    *done = it->finished;
    *out = TERN_UNDEFINED_VALUE;
    if (*done)
        return TERN_OK;
    TERN_TRY(tern_render_spend(r, 1));
    TERN_TRY(tern_render_enter(r)); /* filters of filters of filters */
    TERN_TRY(it->next(r, it, out, done));
    tern_render_leave(r);
    it->finished = *done;
    return TERN_OK;
}

tern_status tern_value_at(struct tern_render *r, tern_value v, size_t index, tern_value *out)
{
    if (v.kind == TERN_V_LIST || v.kind == TERN_V_TUPLE) {
        *out = v.as.list->items[index];
        return TERN_OK;
    }
    if (v.kind == TERN_V_RANGE) {
        *out = TERN_INT_VALUE(v.as.range->start + (int64_t)index * v.as.range->step);
        return TERN_OK;
    }
    return tern_string_part(r, v.as.string, index, index + 1, out);
}

static tern_status next_nothing(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    (void)r, (void)it, (void)out;
    *done = true;
    return TERN_OK;
}

static tern_status next_item(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    *done = it->at >= tern_value_length(it->source);
    return *done ? TERN_OK : tern_value_at(r, it->source, it->at++, out);
}

/* `at` is a byte offset here. */
static tern_status next_char(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct tern_vstring *s = it->source.as.string, *c;
    const size_t begin = it->at;

    *done = begin >= s->size;
    if (*done)
        return TERN_OK;
    (void)tern_utf8_next(s->data, &it->at);
    TERN_TRY(tern_string_borrow(r->ctx, &r->pool, s->data + begin, it->at - begin, 1, &c));
    *out = (tern_value){ .kind = TERN_V_STRING, .as.string = c };
    return TERN_OK;
}

static tern_status next_entry(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const bool view = it->source.kind == TERN_V_VIEW;
    const struct tern_vdict *dict = view ? it->source.as.view->dict : it->source.as.dict;
    const enum tern_view_kind kind = view ? it->source.as.view->kind : TERN_VIEW_KEYS;

    *done = it->at >= dict->count;
    if (*done)
        return TERN_OK;
    const struct tern_ventry *entry = &dict->entries[it->at++];
    if (kind == TERN_VIEW_ITEMS)
        return tern_value_pair(r, entry->key, entry->value, out);
    *out = kind == TERN_VIEW_KEYS ? entry->key : entry->value;
    return TERN_OK;
}

tern_status tern_value_iter(struct tern_render *r, tern_value v, struct tern_viter **out)
{
    tern_next_fn *next;
    tern_value it;

    switch (v.kind) {
    case TERN_V_ITERATOR:
        *out = v.as.iter;
        return TERN_OK;
    case TERN_V_LIST:
    case TERN_V_TUPLE:
    case TERN_V_RANGE:
        next = next_item;
        break;
    case TERN_V_STRING:
        next = next_char;
        break;
    case TERN_V_DICT:
    case TERN_V_VIEW:
        next = next_entry;
        break;
    case TERN_V_UNDEFINED:
        next = next_nothing;
        break;
    default:
        TERN_RAISE(r, "'%s' object is not iterable", tern_value_type(v));
    }
    TERN_TRY(tern_value_iterator(r, next, v, &it));
    *out = it.as.iter;
    return TERN_OK;
}

tern_status tern_value_to_list(struct tern_render *r, tern_value v, tern_value *out)
{
    struct tern_viter *it;
    bool done;

    TERN_TRY(tern_value_list(r, TERN_V_LIST, tern_value_has_length(v) ? tern_value_length(v) : 0, out));
    TERN_TRY(tern_value_iter(r, v, &it));
    for (;;) {
        tern_value item;

        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return TERN_OK;
        TERN_TRY(tern_list_push(r, out->as.list, item));
    }
}
