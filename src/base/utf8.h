/* utf8.h: UTF-8, byte by byte. */
#ifndef TERN_BASE_UTF8_H
#define TERN_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TERN_UTF8_MAX 4 /* bytes of a code point */

enum tern_utf8_kind {
    TERN_UTF8_WHOLE,  /* a character: no surrogate, no overlong form, nothing above U+10FFFF */
    TERN_UTF8_BROKEN, /* the maximal part that can never become one */
    TERN_UTF8_CUT     /* all that is left, and it could still become one */
};

/* What the bytes at text[0..size), size >= 1, begin with; *length of them are it. */
enum tern_utf8_kind tern_utf8_sequence(const char *text, size_t size, size_t *length);

/* True if text[0..size) is UTF-8; else *bad is the offset
 * of the first byte that is not part of a character. */
bool tern_utf8_check(const char *text, size_t size, size_t *bad);

/* The code point at text[*at], and *at moves behind it.  The text is valid. */
uint32_t tern_utf8_next(const char *text, size_t *at);

/* The code point that ends at text[*at] (*at > 0), and *at moves to its beginning.  The text is valid. */
uint32_t tern_utf8_previous(const char *text, size_t *at);

/* Writes a code point, at most TERN_UTF8_MAX bytes; gives their number. */
size_t tern_utf8_put(uint32_t code, char *out);

/* Copies in[0..size) to out with U+FFFD (3 bytes) for each maximal part that is no character, as Rust's
 * String::from_utf8_lossy does (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts").  out holds 3 *
 * size bytes. A character that is cut off at the end is left alone unless `last`.  *used: bytes taken from `in`.
 * Gives the bytes written. */
size_t tern_utf8_lossy(const char *in, size_t size, bool last, char *out, size_t *used);

/* The size without a character that is cut off at the end, if there is one. */
size_t tern_utf8_uncut(const char *text, size_t size);

#endif
