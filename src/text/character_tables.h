/* character_tables.h: ranges of code points, in order; characters.h asks them. */
#ifndef TERN_TEXT_CHARACTER_TABLES_H
#define TERN_TEXT_CHARACTER_TABLES_H

#include <stddef.h>
#include <stdint.h>

struct tern_code_range {
    uint32_t first, last;
};

/* The range of n that a code point is in, or n. */
static inline size_t tern_code_range_find(const struct tern_code_range *ranges, size_t n, uint32_t code)
{
    size_t low = 0, high = n;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (ranges[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && ranges[low].first <= code ? low : n;
}

extern const struct tern_code_range tern_chars_other[], tern_chars_punctuation[], tern_chars_mark[],
    tern_chars_nonspacing[];
extern const size_t tern_n_chars_other, tern_n_chars_punctuation, tern_n_chars_mark, tern_n_chars_nonspacing;
/* tern_chars_script[i] is the script of tern_chars_scripts[i]. */
extern const struct tern_code_range tern_chars_scripts[];
extern const uint8_t tern_chars_script[];
extern const size_t tern_n_chars_scripts;

#endif
