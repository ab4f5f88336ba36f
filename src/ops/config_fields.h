/* config_fields.h: the fields of a config and the operators' parameters as a table: by name, with type, range and reader. */
#ifndef TERN_OPS_CONFIG_FIELDS_H
#define TERN_OPS_CONFIG_FIELDS_H

#include "ops/op_table.h"

/* A value before its field is known to take it. */
enum tern_value_kind { TERN_VALUE_BOOL, TERN_VALUE_INT, TERN_VALUE_NUMBER, TERN_VALUE_NAME, TERN_VALUE_OTHER };
struct tern_value {
    enum tern_value_kind kind;
    bool truth;
    int64_t whole;
    double number;
    const char *name; /* for messages too: how the value was written */
};

struct tern_field;

/* The row of an operator, or what a module (enum tern_op_module) reads, in the form of one.  NULL: neither. */
const struct tern_op_row *tern_op_row_or_module(int index);

/* The parameter of operator `index` of that name, else the config's field; index -1: the config's alone.  NULL: none. */
const struct tern_field *tern_field_find(int index, const char *key);
/* What the name stands for: two names of one field give the same. */
size_t tern_field_offset(const struct tern_field *field);
/* TERN_ERR_CONFIG with the known keys.  `where` opens the text: a file's name, or "config". */
tern_status tern_field_unknown(tern_ctx *ctx, const char *where, int index, const char *key);
/* Stores a value of operator `index` (-1: of the config alone), or says what was found and what was expected: TERN_ERR_CONFIG, and
 * TERN_ERR_UNSUPPORTED for a name of a dtype, norm or device that is not there. */
tern_status tern_field_store(tern_ctx *ctx, const char *where, int index, const struct tern_field *field,
                             const struct tern_value *value, tern_op_settings *settings);

#endif
