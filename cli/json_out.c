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

/* Bytes of the UTF-8 character that text begins with, 0 if it begins with none. */
static size_t character(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    const size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

    if (n > size)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90)) /* overlong */
        return 0;
    if ((s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf4 && s[1] >= 0x90)) /* surrogates; above U+10FFFF */
        return 0;
    return n;
}

/* A file's name need not be UTF-8, JSON is: a byte that belongs to no character becomes U+FFFD. */
static void quote(FILE *f, const char *text, size_t size)
{
    putc('"', f);
    for (size_t i = 0, n; i < size; i += n ? n : 1) {
        const unsigned char c = (unsigned char)text[i];

        n = character(text + i, size - i);
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
            else if (n)
                fwrite(text + i, 1, n, f);
            else
                fputs("\xef\xbf\xbd", f);
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
