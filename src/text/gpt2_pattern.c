/* gpt2_pattern.c: GPT-2's pattern, written out.
 *
 * Most byte-level vocabularies cut text by this one expression, so it is worth a matcher of its own: one look at each
 * character decides everything.  The alternatives are tried in order, and each takes as much as it can:
 * - a contraction, which an apostrophe alone begins;
 * - a run of letters, of numbers, or of others, each with one plain space before it if there is one;
 * - white space: all of it at the end of the text; else all but the last character, which stays for the next piece
 *   (\s+(?!\S) gives it back); if it is only one character, that one (\s+). */
#include "text/pattern.h"

#include "base/utf8.h"
#include "text/characters.h"

#include <string.h>

enum { O = TERN_CHAR_OTHER, L = TERN_CHAR_LETTER, N = TERN_CHAR_NUMBER, S = TERN_CHAR_SPACE };

static const unsigned char ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, /* controls */
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O, /* space to ? */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* @ to _ */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O  /* ` to DEL */
};

/* The class of the character at *at, which moves behind it. */
static int class_next(const char *text, size_t *at)
{
    const unsigned char c = (unsigned char)text[*at];

    if (c < 0x80) {
        ++*at;
        return ascii_class[c];
    }
    return tern_char_class(tern_utf8_next(text, at));
}

/* Length of the contraction at an apostrophe, 0 if there is none. */
static size_t contraction(const char *text, size_t left)
{
    if (left < 2)
        return 0;
    switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
        return 2;
    case 'r':
    case 'v':
        return left >= 3 && text[2] == 'e' ? 3 : 0;
    case 'l':
        return left >= 3 && text[2] == 'l' ? 3 : 0;
    default:
        return 0;
    }
}

size_t tern_gpt2_piece(const char *text, size_t size, size_t from)
{
    size_t at = from, behind;
    int first;

    if (text[at] == '\'') {
        const size_t length = contraction(text + at, size - at);

        if (length)
            return at + length;
    }
    first = class_next(text, &at);
    if (text[from] == ' ' && at < size) {
        behind = at;
        const int second = class_next(text, &behind);

        if (second != S) {
            first = second;
            at = behind;
        }
    }

    size_t last = from; /* where the last character of the run begins */
    while (at < size) {
        behind = at;
        if (class_next(text, &behind) != first)
            break;
        last = at;
        at = behind;
    }
    if (first != S || at == size || last == from)
        return at;
    return last;
}
