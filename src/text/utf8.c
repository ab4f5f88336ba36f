/* utf8.c: UTF-8 by the table of well-formed sequences (Unicode 15, table 3-7), and character classes.
 *
 * One function, sequence(), reads that table: it says how many bytes at a place belong together and whether they are a
 * character, a wrong start, or a start that the end of the text cuts off.  Checking and replacing are loops over it. */
#include "text/utf8.h"

#include <string.h>
#include <utf8proc.h>

enum sequence_kind { WHOLE, BROKEN, CUT };

/* The bytes at s[0..n), n >= 1: *length of them are one character (WHOLE), the maximal part that can never become one
 * (BROKEN), or all that is left and could still become one (CUT). */
static enum sequence_kind sequence(const unsigned char *s, size_t n, size_t *length)
{
    const unsigned char lead = s[0];
    unsigned char low = 0x80, high = 0xBF;
    size_t want;

    *length = 1;
    if (lead < 0x80)
        return WHOLE;
    if (lead >= 0xC2 && lead <= 0xDF) {
        want = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        want = 3;
        low = lead == 0xE0 ? 0xA0 : 0x80;
        high = lead == 0xED ? 0x9F : 0xBF;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        want = 4;
        low = lead == 0xF0 ? 0x90 : 0x80;
        high = lead == 0xF4 ? 0x8F : 0xBF;
    } else {
        return BROKEN;
    }
    for (; *length < want; ++*length) {
        if (*length == n)
            return CUT;
        if (s[*length] < low || s[*length] > high)
            return BROKEN;
        low = 0x80;
        high = 0xBF;
    }
    return WHOLE;
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
        if (sequence((const unsigned char *)text + at, size - at, &length) != WHOLE) {
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
        const enum sequence_kind kind = sequence((const unsigned char *)in + at, size - at, &length);

        if (kind == CUT && !last)
            break;
        if (kind == WHOLE) {
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

bool tern_char_is_space(uint32_t code)
{
    if (code < 0x80)
        return code == ' ' || (code >= '\t' && code <= '\r');
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

enum tern_char_class tern_char_class(uint32_t code)
{
    if (code < 0x80) {
        if ((code | 0x20) >= 'a' && (code | 0x20) <= 'z')
            return TERN_CHAR_LETTER;
        if (code >= '0' && code <= '9')
            return TERN_CHAR_NUMBER;
        return tern_char_is_space(code) ? TERN_CHAR_SPACE : TERN_CHAR_OTHER;
    }
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return TERN_CHAR_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return TERN_CHAR_NUMBER;
    default:
        return tern_char_is_space(code) ? TERN_CHAR_SPACE : TERN_CHAR_OTHER;
    }
}

bool tern_char_is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* join controls, and the symbols that are Alphabetic: circled and squared letters */
        return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
               (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
               (code >= 0x1F170 && code <= 0x1F189);
    }
}
