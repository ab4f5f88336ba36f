/* utf8.c: UTF-8 by the table of well-formed sequences (Unicode 15, table 3-7).
 *
 * One function, tern_utf8_sequence(), reads that table; checking, replacing and cutting are loops over it. */
#include "base/utf8.h"

#include <string.h>

enum tern_utf8_kind tern_utf8_sequence(const char *text, size_t size, size_t *length)
{
    const unsigned char *s = (const unsigned char *)text, lead = s[0];
    unsigned char low = 0x80, high = 0xBF;
    size_t want;

    *length = 1;
    if (lead < 0x80)
        return TERN_UTF8_WHOLE;
    if (lead >= 0xC2 && lead <= 0xDF) {
        want = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        want = 3;
        low = lead == 0xE0 ? 0xA0 : 0x80;  /* no overlong forms */
        high = lead == 0xED ? 0x9F : 0xBF; /* no surrogates */
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        want = 4;
        low = lead == 0xF0 ? 0x90 : 0x80;  /* no overlong forms */
        high = lead == 0xF4 ? 0x8F : 0xBF; /* nothing above U+10FFFF */
    } else {
        return TERN_UTF8_BROKEN;
    }
    for (; *length < want; ++*length) {
        if (*length == size)
            return TERN_UTF8_CUT;
        if (s[*length] < low || s[*length] > high)
            return TERN_UTF8_BROKEN;
        low = 0x80;
        high = 0xBF;
    }
    return TERN_UTF8_WHOLE;
}

/* Bytes from s on that are ASCII, found eight at a time. */
static size_t ascii_run(const char *s, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, s + i, 8);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (i < n && (unsigned char)s[i] < 0x80)
        i++;
    return i;
}

bool tern_utf8_check(const char *text, size_t size, size_t *bad)
{
    size_t at = 0;

    while (at < size) {
        size_t length;

        at += ascii_run(text + at, size - at);
        if (at == size)
            break;
        if (tern_utf8_sequence(text + at, size - at, &length) != TERN_UTF8_WHOLE) {
            *bad = at;
            return false;
        }
        at += length;
    }
    return true;
}

uint32_t tern_utf8_next(const char *text, size_t *at)
{
    const unsigned char *s = (const unsigned char *)text + *at;

    if (s[0] < 0x80) {
        *at += 1;
        return s[0];
    }
    if (s[0] < 0xE0) {
        *at += 2;
        return (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3F);
    }
    if (s[0] < 0xF0) {
        *at += 3;
        return (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
    }
    *at += 4;
    return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 | (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3F);
}

uint32_t tern_utf8_previous(const char *text, size_t *at)
{
    size_t begin = *at - 1;

    while (((unsigned char)text[begin] & 0xC0) == 0x80)
        begin--;
    *at = begin;
    return tern_utf8_next(text, &begin);
}

size_t tern_utf8_put(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

size_t tern_utf8_lossy(const char *in, size_t size, bool last, char *out, size_t *used)
{
    size_t at = 0, written = 0;

    while (at < size) {
        size_t length;
        const enum tern_utf8_kind kind = tern_utf8_sequence(in + at, size - at, &length);

        if (kind == TERN_UTF8_CUT && !last)
            break;
        if (kind == TERN_UTF8_WHOLE) {
            memcpy(out + written, in + at, length);
            written += length;
        } else {
            memcpy(out + written, "\xEF\xBF\xBD", 3);
            written += 3;
        }
        at += length;
    }
    *used = at;
    return written;
}

size_t tern_utf8_uncut(const char *text, size_t size)
{
    size_t length;

    for (size_t back = 1; back < TERN_UTF8_MAX && back <= size; back++)
        if (((unsigned char)text[size - back] & 0xC0) != 0x80)
            return tern_utf8_sequence(text + size - back, back, &length) == TERN_UTF8_CUT ? size - back : size;
    return size;
}
