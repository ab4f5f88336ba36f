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

#endif
