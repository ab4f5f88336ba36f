/* utf8.h: UTF-8 and the few properties of characters that the rules of tokenizers ask for. */
#ifndef TERN_TEXT_UTF8_H
#define TERN_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TERN_UTF8_MAX 4 /* bytes of a code point */

/* True if text[0..size) is UTF-8 (no surrogates, no overlong forms, nothing above U+10FFFF); else *bad is the offset
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

enum tern_char_class { TERN_CHAR_OTHER, TERN_CHAR_LETTER, TERN_CHAR_NUMBER, TERN_CHAR_SPACE };

/* \p{L}, \p{N}, White_Space, or none of them. */
enum tern_char_class tern_char_class(uint32_t code);
/* White_Space: what \s means to both regex engines of the tokenizers library. */
bool tern_char_is_space(uint32_t code);
/* \w of the Rust regex crate: Alphabetic, marks, decimal digits, connector punctuation, join controls. */
bool tern_char_is_word(uint32_t code);

#endif
