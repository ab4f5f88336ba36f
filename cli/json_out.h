/* json_out.h: writes one JSON value, compact, to a stream.
 *
 * Names begin with out_: json_ belongs to jansson, whose shared library would call a json_null() of ours. */
#ifndef TERN_CLI_JSON_OUT_H
#define TERN_CLI_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_out {
    FILE *f;
    bool follows; /* a value came before on this level: a comma is due */
    char *text;
    size_t size;
};

/* Into memory, so that what fails half-way leaves no half object: 0 or the exit code. */
int out_begin(struct json_out *j);
/* The line goes to stdout if `keep`.  0 or the exit code.  Called once after out_begin(), also after a failure. */
int out_end(struct json_out *j, bool keep);

/* `key` is NULL inside of an array and at the top. */

void out_object_begin(struct json_out *j, const char *key);
void out_object_end(struct json_out *j);
void out_array_begin(struct json_out *j, const char *key);
void out_array_end(struct json_out *j);
/* UTF-8 of `size` bytes; quotes, backslashes and control characters are escaped. */
void out_text(struct json_out *j, const char *key, const char *text, size_t size);
void out_name(struct json_out *j, const char *key, const char *text);
void out_int(struct json_out *j, const char *key, int64_t x);
void out_uint(struct json_out *j, const char *key, uint64_t x);
/* `digits` significant ones; null for what JSON has no number for. */
void out_number(struct json_out *j, const char *key, double x, int digits);
void out_bool(struct json_out *j, const char *key, bool x);
void out_null(struct json_out *j, const char *key);
void out_ids(struct json_out *j, const char *key, const int32_t *ids, size_t n);

#endif
