/* json_out.c: a comma is due before every value but the first of its level. */
#include "json_out.h"

#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int out_begin(struct json_out *j)
{
    *j = (struct json_out){ 0 };
    j->f = open_memstream(&j->text, &j->size);
    return j->f ? 0 : cli_error(CLI_FAIL, "out of memory for the answer");
}

int out_end(struct json_out *j, bool keep)
{
    int code = 0;

    if (!j->f)
        return CLI_FAIL;
    putc('\n', j->f);
    const bool failed = ferror(j->f) != 0;
    if (fclose(j->f) || failed)
        code = cli_error(CLI_FAIL, "out of memory for the answer");
    else if (keep && !cli_print(j->text, j->size))
        code = CLI_FAIL;
    free(j->text);
    *j = (struct json_out){ 0 };
    return code;
}

static void quote(FILE *f, const char *text, size_t size)
{
    putc('"', f);
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];

        switch (c) {
        case '"':
            fputs("\\\"", f);
            break;
        case '\\':
            fputs("\\\\", f);
            break;
        case '\n':
            fputs("\\n", f);
            break;
        case '\r':
            fputs("\\r", f);
            break;
        case '\t':
            fputs("\\t", f);
            break;
        default:
            if (c < 0x20 || c == 0x7f)
                fprintf(f, "\\u%04x", c);
            else
                putc(c, f);
        }
    }
    putc('"', f);
}

static void begin_value(struct json_out *j, const char *key)
{
    if (j->follows)
        putc(',', j->f);
    if (key) {
        quote(j->f, key, strlen(key));
        putc(':', j->f);
    }
    j->follows = true;
}

void out_object_begin(struct json_out *j, const char *key)
{
    begin_value(j, key);
    putc('{', j->f);
    j->follows = false;
}

void out_object_end(struct json_out *j)
{
    putc('}', j->f);
    j->follows = true;
}

void out_array_begin(struct json_out *j, const char *key)
{
    begin_value(j, key);
    putc('[', j->f);
    j->follows = false;
}

void out_array_end(struct json_out *j)
{
    putc(']', j->f);
    j->follows = true;
}

void out_text(struct json_out *j, const char *key, const char *text, size_t size)
{
    begin_value(j, key);
    quote(j->f, text, size);
}

void out_name(struct json_out *j, const char *key, const char *text)
{
    out_text(j, key, text, strlen(text));
}

void out_int(struct json_out *j, const char *key, int64_t x)
{
    begin_value(j, key);
    fprintf(j->f, "%" PRId64, x);
}

void out_uint(struct json_out *j, const char *key, uint64_t x)
{
    begin_value(j, key);
    fprintf(j->f, "%" PRIu64, x);
}

void out_number(struct json_out *j, const char *key, double x, int digits)
{
    if (!isfinite(x)) {
        out_null(j, key);
        return;
    }
    begin_value(j, key);
    fprintf(j->f, "%.*g", digits, x);
}

void out_bool(struct json_out *j, const char *key, bool x)
{
    begin_value(j, key);
    fputs(x ? "true" : "false", j->f);
}

void out_null(struct json_out *j, const char *key)
{
    begin_value(j, key);
    fputs("null", j->f);
}

void out_ids(struct json_out *j, const char *key, const int32_t *ids, size_t n)
{
    out_array_begin(j, key);
    for (size_t i = 0; i < n; i++)
        out_int(j, NULL, ids[i]);
    out_array_end(j);
}
