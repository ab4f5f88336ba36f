/* template_value.h: what a template computes with: Python's values, as far as chat templates know them.
 *
 * A value is 16 bytes; what it points to lies in the rendering's pool (or in the template, or in the JSON document that it came from)
 * and is never freed on its own.  Strings, lists, tuples and dicts do not change once they can be seen; namespaces, iterators,
 * loops, cyclers and joiners do.  Integers have 64 bits: beyond them is an error, where Python goes on. */
#ifndef TERN_TEXT_TEMPLATE_VALUE_H
#define TERN_TEXT_TEMPLATE_VALUE_H

#include "base/ctx.h"
#include "base/json.h"
#include "text/template_memory.h"

#include <string.h>

struct tern_render; /* template_render.h */

enum tern_value_kind {
    TERN_V_UNDEFINED,
    TERN_V_NONE,
    TERN_V_BOOL,
    TERN_V_INT,
    TERN_V_FLOAT,
    TERN_V_STRING,
    TERN_V_LIST,
    TERN_V_TUPLE,
    TERN_V_DICT,
    TERN_V_NAMESPACE,
    TERN_V_RANGE,
    TERN_V_VIEW,     /* keys(), values() or items() of a dict */
    TERN_V_ITERATOR, /* a generator: gives each element once, has no length, is true */
    TERN_V_FUNCTION, /* a global one: range, namespace, ... */
    TERN_V_METHOD,   /* bound to its object */
    TERN_V_MACRO,
    TERN_V_LOOP,
    TERN_V_CYCLER,
    TERN_V_JOINER
};

struct tern_vstring;
struct tern_vlist;
struct tern_vdict;
struct tern_vrange;
struct tern_vview;
struct tern_viter;
struct tern_vmethod;
struct tern_vmacro;
struct tern_vloop;
struct tern_vcycler;
struct tern_vjoiner;
struct tern_vundefined;

typedef struct tern_value {
    enum tern_value_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct tern_vstring *string;
        struct tern_vlist *list; /* lists and tuples */
        struct tern_vdict *dict; /* dicts and namespaces */
        const struct tern_vrange *range;
        const struct tern_vview *view;
        struct tern_viter *iter;
        const struct tern_function *function;
        const struct tern_vmethod *method;
        struct tern_vmacro *macro;
        struct tern_vloop *loop;
        struct tern_vcycler *cycler;
        struct tern_vjoiner *joiner;
        const struct tern_vundefined *undefined; /* NULL: nothing is known of it */
        const void *identity;
    } as;
} tern_value;

/* Bytes that strings share: the one that ends where the bytes end can be continued in place. */
struct tern_vbuffer {
    size_t used, capacity;
    char data[];
};

struct tern_vstring {
    const char *data; /* UTF-8, need not end with a NUL */
    size_t size;
    size_t n_chars;              /* code points */
    struct tern_vbuffer *buffer; /* that data lies in, or NULL */
    bool markup;                 /* what safe and escape made: + escapes what it is put together with */
};

struct tern_vlist {
    tern_value *items;
    size_t count, capacity;
};

struct tern_ventry {
    tern_value key, value;
    uint64_t hash;
};

struct tern_vdict {
    struct tern_ventry *entries; /* in the order in which they came */
    size_t count, capacity;
    uint32_t *index; /* of entries, by hash; n_index of them, 0: empty, else the entry's number plus one */
    size_t n_index;  /* a power of two; 0: searched one by one */
};

struct tern_vrange {
    int64_t start, stop, step;
    size_t count;
};

enum tern_view_kind { TERN_VIEW_KEYS, TERN_VIEW_VALUES, TERN_VIEW_ITEMS };
struct tern_vview {
    const struct tern_vdict *dict;
    enum tern_view_kind kind;
};

struct tern_call;

/* Gives the next element, or sets *done. */
typedef tern_status tern_next_fn(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done);
struct tern_viter {
    tern_next_fn *next;
    tern_value source; /* what is gone through */
    size_t at;
    struct tern_viter *inner; /* of filters: where their elements come from */
    void *how;                /* of filters: what is done with them; belongs to the filter */
    bool finished;
    bool has_length; /* of reversed(): none; of views and lists in a for loop: they have */
};

struct tern_vmethod {
    tern_value self;
    const struct tern_method *method;
};

struct tern_vcycler {
    const tern_value *items;
    size_t count, at;
};

struct tern_vjoiner {
    tern_value separator;
    bool used;
};

/* How an undefined value came about; its use says so. */
struct tern_vundefined {
    const char *text; /* "'x' is undefined"; NUL-terminated */
    bool unsafe;      /* the sandbox has taken it away */
};

/* What a function, filter, test or macro is called with. */
struct tern_keyword {
    const struct tern_vstring *name;
    tern_value value;
};
struct tern_call {
    const tern_value *args;
    size_t n_args;
    const struct tern_keyword *keywords;
    size_t n_keywords;
};

/* ---- making ---- */
#define TERN_UNDEFINED_VALUE ((tern_value){ .kind = TERN_V_UNDEFINED }) /* of which nothing is known */
#define TERN_NONE_VALUE      ((tern_value){ .kind = TERN_V_NONE })
#define TERN_BOOL_VALUE(b)   ((tern_value){ .kind = TERN_V_BOOL, .as.boolean = (b) })
#define TERN_INT_VALUE(i)    ((tern_value){ .kind = TERN_V_INT, .as.integer = (i) })
#define TERN_FLOAT_VALUE(x)  ((tern_value){ .kind = TERN_V_FLOAT, .as.real = (x) })

/* A string over bytes that stay: valid UTF-8, `n_chars` code points or SIZE_MAX to have them counted. */
tern_status tern_string_borrow(tern_ctx *ctx, struct tern_pool *pool, const char *data, size_t size, size_t n_chars,
                               const struct tern_vstring **out);
size_t tern_utf8_count(const char *data, size_t size);
uint64_t tern_bytes_hash(const char *data, size_t size);

tern_status tern_value_string(struct tern_render *r, const char *data, size_t size, tern_value *out); /* a copy */
tern_status tern_value_borrowed(struct tern_render *r, const char *data, size_t size, tern_value *out);
tern_status tern_value_list(struct tern_render *r, enum tern_value_kind kind, size_t capacity, tern_value *out);
tern_status tern_list_push(struct tern_render *r, struct tern_vlist *list, tern_value item);
tern_status tern_value_pair(struct tern_render *r, tern_value a, tern_value b, tern_value *out); /* (a, b) */
tern_status tern_value_dict(struct tern_render *r, tern_value *out);
/* Sets or replaces.  TERN_ERR_FORMAT for a key that Python cannot hash. */
tern_status tern_dict_set(struct tern_render *r, struct tern_vdict *dict, tern_value key, tern_value value);
tern_status tern_dict_find(struct tern_render *r, const struct tern_vdict *dict, tern_value key,
                           const struct tern_ventry **out);                                   /* NULL: not there */
const tern_value *tern_dict_get(const struct tern_vdict *dict, const char *key, size_t size); /* NULL: not there */
tern_status tern_dict_set_name(struct tern_render *r, struct tern_vdict *dict, const char *name, tern_value value);
tern_status tern_value_iterator(struct tern_render *r, tern_next_fn *next, tern_value source, tern_value *out);
tern_status tern_value_undefined(struct tern_render *r, tern_value *out, const char *format, ...) TERN_PRINTF(3, 4);
/* From a JSON document, which must stay; integers stay integers, all else floats. */
tern_status tern_value_from_json(struct tern_render *r, const tern_json_value *json, tern_value *out);

/* ---- asking ---- */
/* "str", "list", ...: Python's name of the type. */
const char *tern_value_type(tern_value v);
/* An argument that was not given: not even an undefined value, which knows how it came about. */
bool tern_value_is_absent(tern_value v);
bool tern_value_true(tern_value v);
/* True for bools too, which are numbers in Python. */
bool tern_value_is_int(tern_value v);
bool tern_value_is_number(tern_value v);
int64_t tern_value_int(tern_value v); /* of one that is_int */
double tern_value_real(tern_value v); /* of one that is_number */
bool tern_value_has_length(tern_value v);
size_t tern_value_length(tern_value v); /* of one that has_length */
bool tern_string_is(tern_value v, const char *text);
bool tern_string_equal(const struct tern_vstring *a, const struct tern_vstring *b);
int tern_string_compare(const struct tern_vstring *a, const struct tern_vstring *b);

/* ==, as Python has it between all types. */
tern_status tern_value_equal(struct tern_render *r, tern_value a, tern_value b, bool *out);
/* a < b (op '<'), a <= b ('l'), a > b ('>'), a >= b ('g'): an error between types that have no order. */
tern_status tern_value_ordered(struct tern_render *r, char op, tern_value a, tern_value b, bool *out);
tern_status tern_value_in(struct tern_render *r, tern_value item, tern_value container, bool *out);
tern_status tern_value_hash(struct tern_render *r, tern_value v, uint64_t *out);

/* An iterator over anything that has elements; one over an iterator is itself. */
tern_status tern_value_iter(struct tern_render *r, tern_value v, struct tern_viter **out);
tern_status tern_iter_next(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done);
/* All elements as a new list. */
tern_status tern_value_to_list(struct tern_render *r, tern_value v, tern_value *out);
/* Element `index` of a list, tuple or range, or a code point of a string. */
tern_status tern_value_at(struct tern_render *r, tern_value v, size_t index, tern_value *out);

/* ---- texts in the making ---- */
struct tern_out {
    struct tern_vbuffer *buffer; /* NULL: nothing yet */
};
tern_status tern_out_put(struct tern_render *r, struct tern_out *out, const char *data, size_t size);
tern_status tern_out_text(struct tern_render *r, struct tern_out *out, const char *text);
tern_status tern_out_code(struct tern_render *r, struct tern_out *out, uint32_t code);
tern_status tern_out_printf(struct tern_render *r, struct tern_out *out, const char *format, ...) TERN_PRINTF(3, 4);
tern_status tern_out_value(struct tern_render *r, struct tern_out *out, tern_value v); /* str(v) */
tern_status tern_out_repr(struct tern_render *r, struct tern_out *out, tern_value v);  /* repr(v) */
tern_status tern_out_string(struct tern_render *r, const struct tern_out *out, tern_value *value);
tern_status tern_string_escape(struct tern_render *r, const struct tern_vstring *s, tern_value *out); /* for HTML */
/* The same text as markup, or as none. */
tern_status tern_string_mark(struct tern_render *r, const struct tern_vstring *s, bool markup, tern_value *out);
tern_status tern_value_str(struct tern_render *r, tern_value v,
                           tern_value *out); /* str(v): itself where it is a string */
/* a ~ b; continues a's bytes in place where nothing else has. */
tern_status tern_string_concat(struct tern_render *r, const struct tern_vstring *a, const struct tern_vstring *b,
                               tern_value *out);

/* repr of a float: the shortest digits that are read back as x, as Python prints them.  At most 32 bytes with the NUL. */
void tern_float_repr(double x, char out[32]);
/* json.dumps as transformers' tojson calls it.  indent: none, an integer or a string; separators: none or a pair. */
tern_status tern_value_to_json(struct tern_render *r, tern_value v, const struct tern_call *call, tern_value *out);

#endif
