/* json.h: reading JSON, the one caller of jansson.
 *
 * A document is parsed strictly: RFC 8259, valid UTF-8 only, duplicate keys refused, a NUL inside a key refused by name,
 * at most TERN_JSON_DEPTH levels, numbers that do not fit a double refused.  `where` is the file's name for error texts,
 * which give line and column (in bytes, both from 1).  TERN_ERR_FORMAT, TERN_ERR_MEMORY; a document can be read from several threads.
 * The typed getters answer TERN_ERR_FORMAT with file, key, what was found and what was expected.
 * Getters with a default give it when the key is absent or null. */
#ifndef TERN_BASE_JSON_H
#define TERN_BASE_JSON_H

#include "base/ctx.h"

#define TERN_JSON_DEPTH 64

struct tern_json;                               /* a whole document */
typedef struct tern_json_value tern_json_value; /* a value inside it, valid as long as the document */

/* RFC 8259 leaves open what a key that is there twice means.  In a file that describes a model it is a mistake that would go
 * unnoticed, and so refused; where others' texts must be taken as they come, the last one may win.  Where numbers are printed
 * again, they must be exact. */
enum {
    TERN_JSON_LAST_WINS = 1,
    TERN_JSON_EXACT =
        2 /* an integer beyond 64 bits is refused, else it is a real: model_max_length has 31 digits where it means none */
};

/* text: `size` bytes, need not end with a NUL; borrowed for the call.  *out is NULL on error. */
tern_status tern_json_parse_with(tern_ctx *ctx, const char *text, size_t size, const char *where, unsigned flags,
                                 struct tern_json **out);
tern_status tern_json_parse(tern_ctx *ctx, const char *text, size_t size, const char *where,
                            struct tern_json **out);                                               /* no flags */
tern_status tern_json_read(tern_ctx *ctx, const char *path, size_t limit, struct tern_json **out); /* where = path */
void tern_json_destroy(struct tern_json *json);                                                    /* NULL is fine */
const tern_json_value *tern_json_root(const struct tern_json *json);
const char *tern_json_where(const struct tern_json *json);

enum tern_json_type {
    TERN_JSON_NULL,
    TERN_JSON_BOOL,
    TERN_JSON_INT,
    TERN_JSON_REAL,
    TERN_JSON_STRING,
    TERN_JSON_ARRAY,
    TERN_JSON_OBJECT
};
enum tern_json_type tern_json_type(const tern_json_value *value);
const char *tern_json_type_name(const tern_json_value *value); /* "an object", "a string", "null", "nothing" for NULL */

/* Navigation: NULL if absent, out of range, or the value is of another type (or NULL itself). */
const tern_json_value *tern_json_get(const tern_json_value *object, const char *key);
const tern_json_value *tern_json_at(const tern_json_value *array, size_t index);
size_t tern_json_size(const tern_json_value *array_or_object); /* 0 for other types */

/* Iteration over an object, in file order: for (it = tern_json_iter(o); it; it = tern_json_next(o, it)). */
void *tern_json_iter(const tern_json_value *object);
void *tern_json_next(const tern_json_value *object, void *it);
const char *tern_json_iter_key(void *it, size_t *length);
const tern_json_value *tern_json_iter_value(void *it);

/* Raw contents: the type must be right (asserted). */
const char *tern_json_string(const tern_json_value *value, size_t *length); /* UTF-8, may hold NULs */
int64_t tern_json_int(const tern_json_value *value);
double tern_json_number(const tern_json_value *value); /* int or real */
bool tern_json_bool(const tern_json_value *value);

/* Typed getters of an object's field.  `json` names the file, `object` is a value in it. */
tern_status tern_json_need_int(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                               const char *key, int64_t min, int64_t max, int64_t *out);
tern_status tern_json_opt_int(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                              const char *key, int64_t min, int64_t max, int64_t standard, int64_t *out);
tern_status tern_json_opt_number(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                                 const char *key, double standard, double *out);
tern_status tern_json_opt_bool(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                               const char *key, bool standard, bool *out);
/* Borrowed from the document; refuses strings with a NUL inside.  `standard` may be NULL. */
tern_status tern_json_opt_string(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                                 const char *key, const char *standard, const char **out);
/* An object or array; *out is NULL if absent or null. */
tern_status tern_json_opt_value(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                                const char *key, enum tern_json_type type, const tern_json_value **out);

#endif
