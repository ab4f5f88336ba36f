/* npy_header.c: the header of a NumPy file: magic, version, length, and a Python dictionary of three keys.
 *
 * Source: numpy.lib.format.  Versions 1.0 and 2.0 differ in the length's size alone. */
#include "npy.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LONGEST_HEADER (1 << 20)

struct reader {
    const char *at, *end;
    char *message;
    size_t message_size;
};

static bool fail(struct reader *r, const char *format, ...) TERN_PRINTF(2, 3);
static bool fail(struct reader *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(r->message, r->message_size, format, args);
    va_end(args);
    return false;
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n'))
        r->at++;
}

/* One character, spaces before it left out. */
static bool accept(struct reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* 'text' or "text", without escapes. */
static bool read_string(struct reader *r, const char **text, int *length)
{
    skip_space(r);
    if (r->at == r->end || (*r->at != '\'' && *r->at != '"'))
        return fail(r, "its header has no string where one is expected");
    const char quote = *r->at++;
    *text = r->at;
    while (r->at < r->end && *r->at != quote)
        if (*r->at < ' ' || *r->at == '\\' || *r->at++ == 0x7f)
            return fail(r, "its header has a string that is not plain text");
    if (r->at == r->end)
        return fail(r, "its header has a string without an end");
    *length = (int)(r->at++ - *text);
    return true;
}

static bool read_descr(struct reader *r, struct npy_header *out)
{
    static const struct {
        const char *name;
        tern_dtype dtype;
    } known[] = { { "<f4", TERN_FP32 },   { "<f2", TERN_FP16 },  { "|b1", TERN_BOOL },   { "|i1", TERN_INT8 },
                  { "|u1", TERN_UINT8 },  { "<i2", TERN_INT16 }, { "<u2", TERN_UINT16 }, { "<i4", TERN_INT32 },
                  { "<u4", TERN_UINT32 }, { "<i8", TERN_INT64 }, { "<u8", TERN_UINT64 } };
    const char *text;
    int length;

    skip_space(r);
    if (r->at < r->end && *r->at == '[')
        return fail(r, "its elements are records, expected one number each");
    if (!read_string(r, &text, &length))
        return false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (length == 3 && memcmp(text, known[i].name, 3) == 0) {
            out->dtype = known[i].dtype;
            return true;
        }
    return fail(r,
                "its numbers are '%.*s', expected <f4, <f2, |b1, or integers: |i1, |u1, <i2, <u2, <i4, <u4, <i8, <u8",
                length < 40 ? length : 40, text);
}

static bool read_order(struct reader *r)
{
    skip_space(r);
    const size_t left = (size_t)(r->end - r->at);

    if (left >= 5 && memcmp(r->at, "False", 5) == 0) {
        r->at += 5;
        return true;
    }
    if (left >= 4 && memcmp(r->at, "True", 4) == 0)
        return fail(r, "it is in Fortran order, expected C order (numpy.ascontiguousarray)");
    return fail(r, "fortran_order is neither True nor False");
}

static bool read_shape(struct reader *r, struct npy_header *out)
{
    bool comma = true;

    if (!accept(r, '('))
        return fail(r, "shape is no tuple");
    for (out->rank = 0; !accept(r, ')'); out->rank++) {
        int64_t size = 0;
        const char *begin;

        if (!comma)
            return fail(r, "shape has no comma after size %d", out->rank);
        skip_space(r);
        begin = r->at;
        for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
            if (__builtin_mul_overflow(size, 10, &size) || __builtin_add_overflow(size, *r->at - '0', &size))
                return fail(r, "shape has a size that is too large");
        if (r->at == begin)
            return fail(r, "shape has something that is no size");
        if (out->rank == TERN_MAX_RANK)
            return fail(r, "it has more than %d axes", TERN_MAX_RANK);
        out->dim[out->rank] = size;
        comma = accept(r, ',');
    }
    return out->rank != 1 || comma || fail(r, "shape is no tuple");
}

static bool read_dictionary(struct reader *r, struct npy_header *out)
{
    static const char *const keys[] = { "descr", "fortran_order", "shape" };
    unsigned seen = 0;
    bool comma = true;

    if (!accept(r, '{'))
        return fail(r, "its header is no dictionary");
    while (!accept(r, '}')) {
        const char *text;
        int length, key = 0;

        if (!comma)
            return fail(r, "its header has no comma between keys");
        if (!read_string(r, &text, &length))
            return false;
        while (key < 3 && (strlen(keys[key]) != (size_t)length || memcmp(keys[key], text, (size_t)length) != 0))
            key++;
        if (key == 3 || seen >> key & 1)
            return fail(r, "its header has the key '%.*s' %s, expected descr, fortran_order and shape",
                        length < 40 ? length : 40, text, key == 3 ? "too" : "twice");
        if (!accept(r, ':'))
            return fail(r, "its header has no colon after %s", keys[key]);
        if (!(key == 0 ? read_descr(r, out) : key == 1 ? read_order(r) : read_shape(r, out)))
            return false;
        seen |= 1u << key;
        comma = accept(r, ',');
    }
    for (int key = 0; key < 3; key++)
        if (!(seen >> key & 1))
            return fail(r, "its header has no %s", keys[key]);
    skip_space(r);
    return r->at == r->end || fail(r, "its header has something after the dictionary");
}

bool npy_header_parse(const void *data, size_t size, struct npy_header *out, char *message, size_t message_size)
{
    const unsigned char *bytes = data;
    struct reader r = { .message = message, .message_size = message_size };
    size_t begin, length, elements = 1;

    *out = (struct npy_header){ .dtype = TERN_FP32 };
    if (size < 10 || memcmp(bytes, NPY_MAGIC, 6) != 0)
        return fail(&r, "it is no NumPy file (.npy)");
    if ((bytes[6] != 1 && bytes[6] != 2) || bytes[7] != 0)
        return fail(&r, "it has format %d.%d, expected 1.0 or 2.0", bytes[6], bytes[7]);
    begin = bytes[6] == 1 ? 10 : 12;
    length = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] == 2) {
        if (size < begin)
            return fail(&r, "it ends inside of its header");
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    }
    if (length > LONGEST_HEADER)
        return fail(&r, "its header has %zu bytes, expected %d at most", length, LONGEST_HEADER);
    if (length > size - begin)
        return fail(&r, "it ends inside of its header");
    out->offset = begin + length;
    r.at = (const char *)bytes + begin;
    r.end = r.at + length;
    if (!read_dictionary(&r, out))
        return false;
    if (tern_tensor_view(NULL, out->dtype, out->rank, out->dim).rank != out->rank)
        return fail(&r, "its shape has more numbers than there can be");
    bool none = false;
    for (int i = 0; i < out->rank; i++)
        none |= out->dim[i] == 0;
    for (int i = 0; i < out->rank && !none; i++)
        if (__builtin_mul_overflow(elements, (size_t)out->dim[i], &elements))
            return fail(&r, "its shape has more numbers than there can be");
    if (none)
        elements = 0;
    if (__builtin_mul_overflow(elements, tern_dtype_size(out->dtype), &out->bytes))
        return fail(&r, "its shape has more numbers than there can be");
    if (size - out->offset != out->bytes)
        return fail(&r, "it has %zu bytes of numbers, expected %zu", size - out->offset, out->bytes);
    return true;
}
