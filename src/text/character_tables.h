/* character_tables.h: ranges of code points, in order; characters.h asks them. */
#ifndef TERN_TEXT_CHARACTER_TABLES_H
#define TERN_TEXT_CHARACTER_TABLES_H

#include <stddef.h>
#include <stdint.h>

struct tern_code_range {
    uint32_t first, last;
};

struct tern_script_range {
    uint32_t first, last, script;
};

extern const struct tern_code_range tern_chars_other[], tern_chars_punctuation[], tern_chars_mark[],
    tern_chars_nonspacing[];
extern const size_t tern_n_chars_other, tern_n_chars_punctuation, tern_n_chars_mark, tern_n_chars_nonspacing;
extern const struct tern_script_range tern_chars_scripts[];
extern const size_t tern_n_chars_scripts;

#endif
