/* sentencepiece_decode.h: from pieces back to running text, a piece at a time, as the sentencepiece library (0.2).
 *
 * U+2581 is a space, but none at the beginning where the normaliser would have put one there; control pieces are nothing,
 * the unknown one is a text of the model's.  Bytes become characters, U+FFFD each where they do not form any. */
#ifndef TERN_TEXT_SENTENCEPIECE_DECODE_H
#define TERN_TEXT_SENTENCEPIECE_DECODE_H

#include "base/utf8.h"
#include "text/sentencepiece.h"

/* All zero: nothing has come yet. */
struct tern_piece_decoding {
    bool begun; /* text has been written, or the space before it was taken away */
    bool wrote;
    char bytes[TERN_UTF8_MAX]; /* the beginning of a character */
    size_t n_bytes;
};

/* Bytes that one of the next two writes at most. */
size_t tern_sentencepiece_decode_room(const struct tern_sentencepiece *model);

/* The text that becomes certain with a piece; gives its bytes.  id is a piece's. */
size_t tern_sentencepiece_decode_next(const struct tern_sentencepiece *model, struct tern_piece_decoding *state,
                                      int32_t id, char *out);

/* What is left at the end; the state is as before the first piece. */
size_t tern_sentencepiece_decode_end(struct tern_piece_decoding *state, char *out);

/* The bytes that a piece stands for by itself, at most its size. */
size_t tern_sentencepiece_bytes(const struct tern_sentencepiece *model, int32_t id, char *out);

#endif
