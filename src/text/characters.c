/* characters.c: see characters.h. */
#include "text/characters.h"

#include "text/character_tables.h"

#include <utf8proc.h>

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

static bool in_ranges(const struct tern_code_range *ranges, size_t n, uint32_t code)
{
    return tern_code_range_find(ranges, n, code) < n;
}

bool tern_char_is_other(uint32_t code)
{
    return in_ranges(tern_chars_other, tern_n_chars_other, code);
}

bool tern_char_is_punctuation(uint32_t code)
{
    if (code < 0x80)
        return (code > 0x20 && code < '0') || (code > '9' && code < 'A') || (code > 'Z' && code < 'a') ||
               (code > 'z' && code < 0x7F);
    return in_ranges(tern_chars_punctuation, tern_n_chars_punctuation, code);
}

bool tern_char_is_mark(uint32_t code)
{
    return code >= 0x300 && in_ranges(tern_chars_mark, tern_n_chars_mark, code);
}

bool tern_char_is_nonspacing(uint32_t code)
{
    return code >= 0x300 && in_ranges(tern_chars_nonspacing, tern_n_chars_nonspacing, code);
}

uint32_t tern_char_script(uint32_t code)
{
    const size_t i = tern_code_range_find(tern_chars_scripts, tern_n_chars_scripts, code);

    return i < tern_n_chars_scripts ? tern_chars_script[i] : 0;
}
