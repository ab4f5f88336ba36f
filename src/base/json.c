/* json.c: JSON text into jansson's values, and typed reads from them.
 *
 * jansson holds the values (ordered objects with seeded hashes, arrays, strings); the text is read here.  Its own reader
 * (2.14) does not look whether its token buffer could grow: when an allocation fails there it drops a character and goes
 * on, so a string comes out silently shorter.  tern promises an error for that, and besides wants a limit on nesting,
 * keys with a NUL refused by name, and positions in every message.
 *
 * The reader descends recursively; TERN_JSON_DEPTH bounds it, and with it the recursion that frees a document. */
#include "base/json.h"
#include "base/file.h"
#include "base/fpmode.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tern_json {
    json_t *root;
    char where[];
};

/* ---- text to values ---- */

struct reader {
    tern_ctx *ctx;
    const char *where;
    const unsigned char *text;
    size_t size, at;
    unsigned flags;
    locale_t c_locale; /* where a decimal point is a point */
    char *scratch;     /* the string or number being read */
    size_t scratch_capacity, scratch_used;
};

/* A position in words: lines and columns count from 1, columns in bytes. */
static tern_status fail_at(struct reader *r, size_t at, const char *text)
{
    size_t line = 1, line_start = 0;

    for (size_t i = 0; i < at; i++)
        if (r->text[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    return tern_fail(r->ctx, TERN_ERR_FORMAT, "%s: line %zu, column %zu: %s", r->where, line, at - line_start + 1,
                     text);
}

static tern_status fail_expected(struct reader *r, const char *expected)
{
    char text[160];

    if (r->at >= r->size)
        snprintf(text, sizeof text, "the text ends, expected %s", expected);
    else if (r->text[r->at] > ' ' && r->text[r->at] < 0x7F)
        snprintf(text, sizeof text, "got '%c', expected %s", r->text[r->at], expected);
    else
        snprintf(text, sizeof text, "got byte 0x%02X, expected %s", r->text[r->at], expected);
    return fail_at(r, r->at, text);
}

/* What a message quotes of a text from outside: a beginning of whole characters, nothing that could steer a terminal. */
#define EXCERPT 64
static const char *excerpt(char out[EXCERPT + 4], const char *text)
{
    size_t n = strlen(text), kept = n;

    if (n > EXCERPT) {
        for (kept = EXCERPT; kept > 0 && ((unsigned char)text[kept] & 0xC0) == 0x80;)
            kept--;
    }
    for (size_t i = 0; i < kept; i++)
        out[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7F ? '?' : text[i];
    memcpy(out + kept, kept < n ? "..." : "", kept < n ? 4 : 1);
    return out;
}

static tern_status fail_memory(struct reader *r)
{
    return tern_fail(r->ctx, TERN_ERR_MEMORY, "out of memory: a JSON value of %s", r->where);
}

static void skip_space(struct reader *r)
{
    while (r->at < r->size &&
           (r->text[r->at] == ' ' || r->text[r->at] == '\n' || r->text[r->at] == '\t' || r->text[r->at] == '\r'))
        r->at++;
}

static bool take(struct reader *r, unsigned char c)
{
    if (r->at >= r->size || r->text[r->at] != c)
        return false;
    r->at++;
    return true;
}

static tern_status push(struct reader *r, const void *bytes, size_t n)
{
    /* Never more than the text's size, so the sum cannot overflow. */
    TERN_TRY(TERN_GROW(r->ctx, &r->scratch, &r->scratch_capacity, r->scratch_used + n + 1, "a JSON string"));
    memcpy(r->scratch + r->scratch_used, bytes, n);
    r->scratch_used += n;
    r->scratch[r->scratch_used] = '\0';
    return TERN_OK;
}

static tern_status read_hex4(struct reader *r, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned char c = r->at < r->size ? r->text[r->at] : 0;
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10u;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10u;
        else
            return fail_expected(r, "four hexadecimal digits after \\u");
        *out = *out << 4 | digit;
        r->at++;
    }
    return TERN_OK;
}

/* Behind the backslash. */
static tern_status read_escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const size_t start = r->at - 1;
    const char *known = r->at < r->size && r->text[r->at] ? strchr(from, r->text[r->at]) : NULL;
    char bytes[TERN_UTF8_MAX];
    unsigned c, second;

    if (known) {
        r->at++;
        return push(r, &to[known - from], 1);
    }
    if (!take(r, 'u'))
        return fail_expected(r, "an escape: one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX");
    TERN_TRY(read_hex4(r, &c));
    if (c >= 0xDC00 && c <= 0xDFFF)
        return fail_at(r, start, "the second half of a surrogate pair without its first");
    if (c >= 0xD800 && c <= 0xDBFF) {
        if (!take(r, '\\') || !take(r, 'u'))
            return fail_at(r, start, "the first half of a surrogate pair without its second");
        TERN_TRY(read_hex4(r, &second));
        if (second < 0xDC00 || second > 0xDFFF)
            return fail_at(r, start, "the first half of a surrogate pair without its second");
        c = 0x10000 + ((c - 0xD800) << 10) + (second - 0xDC00);
    }
    return push(r, bytes, tern_utf8_put(c, bytes));
}

/* A string, from behind its opening quote, into the scratch. */
static tern_status read_string(struct reader *r)
{
    r->scratch_used = 0;
    TERN_TRY(push(r, "", 0));
    for (;;) {
        size_t run = r->at;
        while (run < r->size && r->text[run] >= ' ' && r->text[run] < 0x80 && r->text[run] != '"' &&
               r->text[run] != '\\')
            run++;
        if (run > r->at) {
            TERN_TRY(push(r, r->text + r->at, run - r->at));
            r->at = run;
        }
        if (take(r, '"'))
            return TERN_OK;
        if (take(r, '\\')) {
            TERN_TRY(read_escape(r));
            continue;
        }
        if (r->at >= r->size)
            return fail_expected(r, "the closing quote of a string");
        if (r->text[r->at] < ' ')
            return fail_expected(r, "no bare control character in a string");
        size_t n;
        if (tern_utf8_sequence((const char *)r->text + r->at, r->size - r->at, &n) != TERN_UTF8_WHOLE)
            return fail_expected(r, "UTF-8");
        TERN_TRY(push(r, r->text + r->at, n));
        r->at += n;
    }
}

static size_t read_digits(struct reader *r)
{
    const size_t start = r->at;

    while (r->at < r->size && r->text[r->at] >= '0' && r->text[r->at] <= '9')
        r->at++;
    return r->at - start;
}

static tern_status read_number(struct reader *r, json_t **out)
{
    const size_t start = r->at;
    bool real = false;

    take(r, '-');
    if (!take(r, '0') && read_digits(r) == 0)
        return fail_expected(r, "a digit");
    if (take(r, '.')) {
        real = true;
        if (read_digits(r) == 0)
            return fail_expected(r, "a digit after the decimal point");
    }
    if (take(r, 'e') || take(r, 'E')) {
        real = true;
        if (!take(r, '+'))
            take(r, '-');
        if (read_digits(r) == 0)
            return fail_expected(r, "a digit in the exponent");
    }

    r->scratch_used = 0;
    TERN_TRY(push(r, r->text + start, r->at - start));
    errno = 0;
    const long long whole = real ? 0 : strtoll(r->scratch, NULL, 10);
    if (errno == ERANGE) {
        if (r->flags & TERN_JSON_EXACT)
            return fail_at(r, start, "an integer beyond 64 bits");
        real = true;
    }
    if (real) {
        const double value = strtod_l(r->scratch, NULL, r->c_locale);
        if (!isfinite(value))
            return fail_at(r, start, "a number beyond the range of a double");
        *out = json_real(value);
    } else {
        *out = json_integer(whole);
    }
    return *out ? TERN_OK : fail_memory(r);
}

static tern_status read_word(struct reader *r, const char *word, json_t *value, json_t **out)
{
    const size_t n = strlen(word);

    if (r->size - r->at < n || memcmp(r->text + r->at, word, n) != 0)
        return fail_expected(r, "a value");
    r->at += n;
    *out = value;
    return TERN_OK;
}

static tern_status read_value(struct reader *r, int depth, json_t **out);

static tern_status read_array(struct reader *r, int depth, json_t **out)
{
    tern_status status = TERN_OK;
    json_t *array = json_array(), *value;

    if (!array)
        return fail_memory(r);
    skip_space(r);
    if (!take(r, ']'))
        do {
            TERN_TRY_OR_FAIL(read_value(r, depth, &value));
            if (json_array_append_new(array, value) != 0) {
                status = fail_memory(r);
                goto fail;
            }
            skip_space(r);
            if (take(r, ']'))
                break;
            if (!take(r, ',')) {
                status = fail_expected(r, "',' or ']'");
                goto fail;
            }
        } while (true);
    *out = array;
    return TERN_OK;

fail:
    json_decref(array);
    return status;
}

/* A key, from its opening quote to behind the colon.  Its place in the object is taken at once, with null: the scratch
 * that holds the key is needed for the value. */
static tern_status read_key(struct reader *r, json_t *object, void **place)
{
    char text[128], quoted[EXCERPT + 4];

    skip_space(r);
    const size_t start = r->at;
    if (!take(r, '"'))
        return fail_expected(r, "a key in quotes");
    TERN_TRY(read_string(r));
    const char *key = r->scratch;
    if (memchr(key, '\0', r->scratch_used)) {
        snprintf(text, sizeof text, "the key that starts with \"%s\" contains a NUL", excerpt(quoted, key));
        return fail_at(r, start, text);
    }
    if (!(r->flags & TERN_JSON_LAST_WINS) && json_object_get(object, key)) {
        snprintf(text, sizeof text, "the key \"%s\" is there twice", excerpt(quoted, key));
        return fail_at(r, start, text);
    }
    if (json_object_set_new_nocheck(object, key, json_null()) != 0)
        return fail_memory(r);
    *place = json_object_iter_at(object, key);
    skip_space(r);
    return take(r, ':') ? TERN_OK : fail_expected(r, "':'");
}

static tern_status read_object(struct reader *r, int depth, json_t **out)
{
    tern_status status = TERN_OK;
    json_t *object = json_object(), *value;
    void *place = NULL;

    if (!object)
        return fail_memory(r);
    skip_space(r);
    if (!take(r, '}'))
        do {
            TERN_TRY_OR_FAIL(read_key(r, object, &place));
            TERN_TRY_OR_FAIL(read_value(r, depth, &value));
            json_object_iter_set_new(object, place, value); /* replaces a value: cannot fail */
            skip_space(r);
            if (take(r, '}'))
                break;
            if (!take(r, ',')) {
                status = fail_expected(r, "',' or '}'");
                goto fail;
            }
        } while (true);
    *out = object;
    return TERN_OK;

fail:
    json_decref(object);
    return status;
}

/* `depth` is the number of arrays and objects around this value. */
static tern_status read_value(struct reader *r, int depth, json_t **out)
{
    char text[64];

    skip_space(r);
    const unsigned char c = r->at < r->size ? r->text[r->at] : 0;
    if ((c == '[' || c == '{') && depth >= TERN_JSON_DEPTH) {
        snprintf(text, sizeof text, "nested deeper than %d levels", TERN_JSON_DEPTH);
        return fail_at(r, r->at, text);
    }
    switch (c) {
    case '[':
        r->at++;
        return read_array(r, depth + 1, out);
    case '{':
        r->at++;
        return read_object(r, depth + 1, out);
    case '"':
        r->at++;
        TERN_TRY(read_string(r));
        *out = json_stringn_nocheck(r->scratch, r->scratch_used);
        return *out ? TERN_OK : fail_memory(r);
    case 't':
        return read_word(r, "true", json_true(), out);
    case 'f':
        return read_word(r, "false", json_false(), out);
    case 'n':
        return read_word(r, "null", json_null(), out);
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return read_number(r, out);
        return fail_expected(r, "a value");
    }
}

tern_status tern_json_parse_with(tern_ctx *ctx, const char *text, size_t size, const char *where, unsigned flags,
                                 struct tern_json **out)
{
    struct reader r = { .ctx = ctx, .where = where, .text = (const unsigned char *)text, .size = size, .flags = flags };
    const tern_fpmode caller = tern_fpmode_enter(); /* strtod rounds as the mode says */
    struct tern_json *json = NULL;
    tern_status status;

    *out = NULL;
    r.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!r.c_locale) {
        status = tern_fail_memory(ctx, sizeof r.c_locale, "a locale");
        goto fail;
    }
    TERN_TRY_OR_FAIL(tern_alloc(ctx, 1, sizeof *json + strlen(where) + 1, "a JSON document", (void **)&json));
    memcpy(json->where, where, strlen(where) + 1);
    TERN_TRY_OR_FAIL(read_value(&r, 0, &json->root));
    skip_space(&r);
    if (r.at < size) {
        status = fail_expected(&r, "the end of the text");
        goto fail;
    }
    *out = json;
    json = NULL;

fail:
    tern_json_destroy(json);
    tern_free(r.scratch);
    if (r.c_locale)
        freelocale(r.c_locale);
    tern_fpmode_leave(caller);
    return status;
}

tern_status tern_json_parse(tern_ctx *ctx, const char *text, size_t size, const char *where, struct tern_json **out)
{
    return tern_json_parse_with(ctx, text, size, where, 0, out);
}

tern_status tern_json_read(tern_ctx *ctx, const char *path, size_t limit, struct tern_json **out)
{
    char *text;
    size_t size;

    *out = NULL;
    TERN_TRY(tern_file_read(ctx, path, limit, &text, &size));
    const tern_status status = tern_json_parse(ctx, text, size, path, out);
    tern_free(text);
    return status;
}

void tern_json_destroy(struct tern_json *json)
{
    if (!json)
        return;
    json_decref(json->root);
    tern_free(json);
}

/* ---- looking at values ----
 *
 * Reference counts stay untouched by reading, so a document may be read from several threads. */

static const json_t *in(const tern_json_value *value)
{
    return (const json_t *)value;
}

static const tern_json_value *out_of(const json_t *value)
{
    return (const tern_json_value *)value;
}

const tern_json_value *tern_json_root(const struct tern_json *json)
{
    return out_of(json->root);
}

const char *tern_json_where(const struct tern_json *json)
{
    return json->where;
}

enum tern_json_type tern_json_type(const tern_json_value *value)
{
    switch (value ? json_typeof(in(value)) : JSON_NULL) {
    case JSON_OBJECT:
        return TERN_JSON_OBJECT;
    case JSON_ARRAY:
        return TERN_JSON_ARRAY;
    case JSON_STRING:
        return TERN_JSON_STRING;
    case JSON_INTEGER:
        return TERN_JSON_INT;
    case JSON_REAL:
        return TERN_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return TERN_JSON_BOOL;
    case JSON_NULL:
        break;
    }
    return TERN_JSON_NULL;
}

static const char *type_words(enum tern_json_type type)
{
    static const char *const words[] = {
        [TERN_JSON_NULL] = "null",        [TERN_JSON_BOOL] = "a boolean",  [TERN_JSON_INT] = "an integer",
        [TERN_JSON_REAL] = "a number",    [TERN_JSON_STRING] = "a string", [TERN_JSON_ARRAY] = "an array",
        [TERN_JSON_OBJECT] = "an object",
    };

    return words[type];
}

const char *tern_json_type_name(const tern_json_value *value)
{
    return value ? type_words(tern_json_type(value)) : "nothing";
}

const tern_json_value *tern_json_get(const tern_json_value *object, const char *key)
{
    return out_of(json_object_get(in(object), key)); /* NULL for other types, and for NULL */
}

const tern_json_value *tern_json_at(const tern_json_value *array, size_t index)
{
    return out_of(json_array_get(in(array), index));
}

size_t tern_json_size(const tern_json_value *array_or_object)
{
    const json_t *value = in(array_or_object);

    return json_is_array(value) ? json_array_size(value) : json_object_size(value);
}

/* jansson's iteration takes objects that may change; ours do not. */
static json_t *writable(const tern_json_value *value)
{
    return (json_t *)(uintptr_t)value;
}

void *tern_json_iter(const tern_json_value *object)
{
    return json_object_iter(writable(object));
}

void *tern_json_next(const tern_json_value *object, void *it)
{
    return json_object_iter_next(writable(object), it);
}

const char *tern_json_iter_key(void *it, size_t *length)
{
    const char *key = json_object_iter_key(it);

    if (length)
        *length = strlen(key); /* keys hold no NUL */
    return key;
}

const tern_json_value *tern_json_iter_value(void *it)
{
    return out_of(json_object_iter_value(it));
}

const char *tern_json_string(const tern_json_value *value, size_t *length)
{
    assert(json_is_string(in(value)));
    if (length)
        *length = json_string_length(in(value));
    return json_string_value(in(value));
}

int64_t tern_json_int(const tern_json_value *value)
{
    assert(json_is_integer(in(value)));
    return json_integer_value(in(value));
}

double tern_json_number(const tern_json_value *value)
{
    assert(json_is_number(in(value)));
    return json_number_value(in(value));
}

bool tern_json_bool(const tern_json_value *value)
{
    assert(json_is_boolean(in(value)));
    return json_is_true(in(value));
}

/* ---- typed reads of a field ---- */

/* "file: "key" is 17, expected ..." */
static tern_status fail_field(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *value,
                              const char *key, const char *expected)
{
    char found[96], quoted[EXCERPT + 4];

    switch (tern_json_type(value)) {
    case TERN_JSON_INT:
        snprintf(found, sizeof found, "%" PRId64, tern_json_int(value));
        break;
    case TERN_JSON_REAL:
        snprintf(found, sizeof found, "%.17g", tern_json_number(value));
        break;
    case TERN_JSON_BOOL:
        snprintf(found, sizeof found, "%s", tern_json_bool(value) ? "true" : "false");
        break;
    case TERN_JSON_STRING:
        snprintf(found, sizeof found, "the string \"%s\"", excerpt(quoted, tern_json_string(value, NULL)));
        break;
    default:
        snprintf(found, sizeof found, "%s", tern_json_type_name(value));
    }
    return tern_fail(ctx, TERN_ERR_FORMAT, "%s: \"%s\" is %s, expected %s", json->where, key, value ? found : "missing",
                     expected);
}

/* The field, NULL if it is absent or null. */
static const tern_json_value *field(const tern_json_value *object, const char *key)
{
    const tern_json_value *value = tern_json_get(object, key);

    return tern_json_type(value) == TERN_JSON_NULL ? NULL : value;
}

tern_status tern_json_need_int(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                               const char *key, int64_t min, int64_t max, int64_t *out)
{
    const tern_json_value *value = tern_json_get(object, key);
    char expected[96];

    if (json_is_integer(in(value)) && tern_json_int(value) >= min && tern_json_int(value) <= max) {
        *out = tern_json_int(value);
        return TERN_OK;
    }
    snprintf(expected, sizeof expected, "an integer from %" PRId64 " to %" PRId64, min, max);
    return fail_field(ctx, json, value, key, expected);
}

tern_status tern_json_opt_int(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                              const char *key, int64_t min, int64_t max, int64_t standard, int64_t *out)
{
    if (field(object, key))
        return tern_json_need_int(ctx, json, object, key, min, max, out);
    *out = standard;
    return TERN_OK;
}

tern_status tern_json_opt_number(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                                 const char *key, double standard, double *out)
{
    const tern_json_value *value = field(object, key);

    if (value && !json_is_number(in(value)))
        return fail_field(ctx, json, value, key, "a number");
    *out = value ? tern_json_number(value) : standard;
    return TERN_OK;
}

tern_status tern_json_opt_bool(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                               const char *key, bool standard, bool *out)
{
    const tern_json_value *value = field(object, key);

    if (value && !json_is_boolean(in(value)))
        return fail_field(ctx, json, value, key, "true or false");
    *out = value ? tern_json_bool(value) : standard;
    return TERN_OK;
}

tern_status tern_json_opt_string(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                                 const char *key, const char *standard, const char **out)
{
    const tern_json_value *value = field(object, key);

    *out = standard;
    if (!value)
        return TERN_OK;
    if (!json_is_string(in(value)))
        return fail_field(ctx, json, value, key, "a string");
    if (strlen(tern_json_string(value, NULL)) != json_string_length(in(value)))
        return fail_field(ctx, json, value, key, "a string without NUL characters");
    *out = tern_json_string(value, NULL);
    return TERN_OK;
}

tern_status tern_json_opt_value(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *object,
                                const char *key, enum tern_json_type type, const tern_json_value **out)
{
    const tern_json_value *value = field(object, key);

    *out = NULL;
    if (value && tern_json_type(value) != type)
        return fail_field(ctx, json, value, key, type_words(type));
    *out = value;
    return TERN_OK;
}
