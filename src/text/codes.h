/* codes.h: a text as code points while it is being normalised.
 *
 * A step reads codes[0..n) and writes the text that follows with tern_codes_put(), each code point with how it stands
 * to the text before: 0, it replaces the next one; 1, it is new behind the last one; -k, it replaces the next one, and
 * the k behind that are gone.  tern_codes_take() makes the new text the current one and works out where its code points
 * came from, as the library's NormalizedString::transform() does. */
#ifndef TERN_TEXT_CODES_H
#define TERN_TEXT_CODES_H

#include "base/ctx.h"
#include "text/piece.h"

struct tern_code_change {
    int32_t code, change;
};

/* All zero is empty. */
struct tern_codes {
    int32_t *codes;
    size_t n, capacity;
    struct tern_place *places; /* [n] where wants_places */
    size_t places_capacity;
    struct tern_code_change *next;
    size_t n_next, next_capacity;
    struct tern_place *next_places; /* room to work out new ones */
    size_t next_places_capacity;
    bool wants_places;
    size_t original, original_size; /* of the piece */
    size_t most;                    /* code points that may be made of it */
    uint64_t steps;                 /* code points read, written and moved: what a test counts instead of time */
};

void tern_codes_destroy(struct tern_codes *codes);

/* Replaces all by the characters of a piece; places are wanted if it has them.  TERN_ERR_CAPACITY (2^31 bytes or
 * more), TERN_ERR_MEMORY. */
tern_status tern_codes_read(tern_ctx *ctx, struct tern_codes *codes, struct tern_piece piece);

/* Room for `count` code points in all in the text that follows.  TERN_ERR_CAPACITY: far more than the text that was
 * read; TERN_ERR_MEMORY. */
tern_status tern_codes_reserve(tern_ctx *ctx, struct tern_codes *codes, size_t count);

/* Appends to the text that follows, within the room. */
static inline void tern_codes_put(struct tern_codes *codes, int32_t code, int32_t change)
{
    codes->next[codes->n_next++] = (struct tern_code_change){ code, change };
}

/* The text that follows is the current one; `removed` code points were taken from its beginning.  TERN_ERR_UNSUPPORTED:
 * text that was put before everything is in the way, where the library fails, too. */
tern_status tern_codes_take(tern_ctx *ctx, struct tern_codes *codes, size_t removed);

/* The current text as UTF-8 in *text, with places in *places where they are wanted; both grow as needed. */
tern_status tern_codes_write(tern_ctx *ctx, const struct tern_codes *codes, char **text, size_t *text_capacity,
                             struct tern_place **places, size_t *places_capacity, size_t *size);

#endif
