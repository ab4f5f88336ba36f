/* piece.h: a stretch of text on its way to the model, and where in the original text it came from. */
#ifndef TERN_TEXT_PIECE_H
#define TERN_TEXT_PIECE_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the original text.  An empty place (begin == end) is that of text that was put before everything. */
struct tern_place {
    uint32_t begin, end;
};

/* The library's NormalizedString: text, and for each of its bytes the original character, or characters, that it came
 * from; all bytes of a character have the same place, and places never go back.  `original` and `original_size` are
 * the stretch of the original that belongs to the piece; a piece that was cut from another has from its first byte's
 * place to its last byte's.  Without places (NULL: nobody asked) both are those of the stretch that it was cut from. */
struct tern_piece {
    const char *text;
    size_t size;
    const struct tern_place *places; /* [size], or NULL */
    size_t original, original_size;
};

/* [begin, end) of a piece, at borders of characters. */
static inline struct tern_piece tern_piece_cut(struct tern_piece piece, size_t begin, size_t end)
{
    struct tern_piece cut = piece;

    cut.text = piece.text + begin;
    cut.size = end - begin;
    if (piece.places) {
        cut.places = piece.places + begin;
        if (begin < end) {
            cut.original = piece.places[begin].begin;
            cut.original_size = piece.places[end - 1].end - cut.original;
        }
    }
    return cut;
}

/* The places of a text as it is: each character's own bytes.  text is valid UTF-8; places has room for `size`. */
void tern_places_of(const char *text, size_t size, struct tern_place *places);

#endif
