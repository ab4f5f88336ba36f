/* characters.h: the few properties of characters that the rules of tokenizers ask for. */
#ifndef TERN_TEXT_CHARACTERS_H
#define TERN_TEXT_CHARACTERS_H

#include <stdbool.h>
#include <stdint.h>

enum tern_char_class { TERN_CHAR_OTHER, TERN_CHAR_LETTER, TERN_CHAR_NUMBER, TERN_CHAR_SPACE };

/* \p{L}, \p{N}, White_Space, or none of them. */
enum tern_char_class tern_char_class(uint32_t code);
/* White_Space: what \s means to both regex engines of the tokenizers library. */
bool tern_char_is_space(uint32_t code);
/* \w of the Rust regex crate: Alphabetic, marks, decimal digits, connector punctuation, join controls. */
bool tern_char_is_word(uint32_t code);

/* As the tokenizers library's crates have them, whose tables are of several versions (character_tables.c). */
bool tern_char_is_other(uint32_t code); /* Cc, Cf, Co, but for tabulator and ends of lines, which are white space */
bool tern_char_is_punctuation(uint32_t code); /* P, and ASCII's symbols */
bool tern_char_is_mark(uint32_t code);        /* M */
bool tern_char_is_nonspacing(uint32_t code);  /* Mn, of characters that do not decompose */
/* A number for each script; 0 where it is common, inherited or not known.  Hiragana and Katakana are Han. */
uint32_t tern_char_script(uint32_t code);

#endif
