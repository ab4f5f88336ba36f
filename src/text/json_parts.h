/* json_parts.h: what the readers of tokenizer.json's parts share.  One file json_*.c for each part. */
#ifndef TERN_TEXT_JSON_PARTS_H
#define TERN_TEXT_JSON_PARTS_H

#include "text/text.h"

#define TERN_BIND_NESTING_MAX 8 /* Sequences in Sequences */

struct tern_binder {
    tern_ctx *ctx;
    struct tern_tokenizer *t;
    const struct tern_json *json;
    const char *where; /* the file */
};

/* The parts.  Each fills its component of b->t; `value` is the part's own, NULL and null are none. */
tern_status tern_bind_normalizer(struct tern_binder *b, const tern_json_value *value, int depth);
tern_status tern_bind_pre_tokenizer(struct tern_binder *b, const tern_json_value *value, int depth);
tern_status tern_bind_post_processor(struct tern_binder *b, const tern_json_value *value, int depth);
/* All but the model and the added tokens; `root` is the whole file. */
tern_status tern_bind_rules(struct tern_binder *b, const tern_json_value *root);
/* Truncation and padding; `root` is the whole file. */
tern_status tern_bind_limits(struct tern_binder *b, const tern_json_value *root);
tern_status tern_bind_decoder(struct tern_binder *b, const tern_json_value *value);
/* Which of its four models a file has. */
tern_status tern_bind_model_kind(struct tern_binder *b, const tern_json_value *root, enum tern_token_model_kind *out);
/* `used` is by id, n_used long, freed by the caller; `root` is the whole file. */
tern_status tern_bind_model(struct tern_binder *b, const tern_json_value *root, bool **used, size_t *n_used);
/* Behind all the others. */
tern_status tern_bind_added(struct tern_binder *b, const tern_json_value *root, const bool *used, size_t n_used);

/* ---- helpers: `part` names what is being read, for the error ---- */

/* Every key of `object` is one of `keys`, a list that ends with NULL. */
tern_status tern_bind_check_keys(struct tern_binder *b, const tern_json_value *object, const char *part,
                                 const char *const *keys);
#define TERN_BIND_KEYS(b, object, part, ...) \
    tern_bind_check_keys((b), (object), (part), (const char *const[]){ __VA_ARGS__, NULL })

/* The value of a key that must be there with this type; `expected` is the type in words. */
tern_status tern_bind_type(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                           enum tern_json_type type, const char *expected, const tern_json_value **out);
tern_status tern_bind_bool(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                           bool *out);
/* Absent and null give `standard`. */
tern_status tern_bind_opt_bool(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                               bool standard, bool *out);
tern_status tern_bind_string(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                             const char **out, size_t *size);

/* A string, copied. */
tern_status tern_bind_text(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                           char **out, size_t *size);
/* A string that is one of `names`, a list that ends with NULL: which one.  TERN_ERR_UNSUPPORTED. */
tern_status tern_bind_choice(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                             const char *const *names, int *out);
/* A string of one character. */
tern_status tern_bind_char(struct tern_binder *b, const tern_json_value *object, const char *part, const char *key,
                           uint32_t *out);
/* The field "pattern": {"String": ...} or {"Regex": ...}. */
tern_status tern_bind_pattern(struct tern_binder *b, const tern_json_value *object, const char *part,
                              struct tern_pattern **out);
/* Metaspace's prepend_scheme, and add_prefix_space of older files. */
tern_status tern_bind_prepend_scheme(struct tern_binder *b, const tern_json_value *object, const char *part,
                                     enum tern_prepend_scheme *out);

/* Whether text[0..size) is the word. */
bool tern_bind_equal(const char *text, size_t size, const char *word);

/* A component: NULL and null are none (*type NULL), else an object with a type. */
tern_status tern_bind_component(struct tern_binder *b, const tern_json_value *value, const char *part,
                                const char **type, size_t *size);

/* TERN_ERR_UNSUPPORTED: a type that is not among the `known` ones. */
tern_status tern_bind_unknown(struct tern_binder *b, const char *part, const char *type, size_t size,
                              const char *known);

/* A Sequence: `bind` takes each component of the list under `key`, one level deeper. */
tern_status tern_bind_sequence(struct tern_binder *b, const tern_json_value *value, const char *part, const char *key,
                               int depth,
                               tern_status (*bind)(struct tern_binder *b, const tern_json_value *value, int depth));

#endif
