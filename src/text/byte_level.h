/* byte_level.h: bytes written as printable characters, as GPT-2's vocabulary has them.
 *
 * The 188 bytes that are printable in Latin-1 stand for themselves (U+0021..7E, A1..AC, AE..FF); the other 68, in
 * order, are U+0100, U+0101, ...: a space is U+0120.  Source: bytes_to_unicode() of openai/gpt-2, encoder.py. */
#ifndef TERN_TEXT_BYTE_LEVEL_H
#define TERN_TEXT_BYTE_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character of a byte. */
uint32_t tern_byte_level_char(unsigned char byte);

/* Writes the characters of bytes[0..size), at most 2 bytes each; gives the bytes written. */
size_t tern_byte_level_encode(const char *bytes, size_t size, char *out);

/* The bytes that a token's text (valid UTF-8) stands for: if every character is one of the 256, their bytes, else
 * the text itself, as the library's decoder has it.  out holds `size` bytes.  Gives the bytes written. */
size_t tern_byte_level_decode(const char *text, size_t size, char *out);

#endif
