/* codes.c: see codes.h. */
#include "text/codes.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <string.h>

#define GROWTH_MAX  256 /* times its size and the next that a text may become: files can ask for more, texts do not */
#define GROWTH_FREE 65536

void tern_codes_destroy(struct tern_codes *codes)
{
    tern_free(codes->codes);
    tern_free(codes->places);
    tern_free(codes->next);
    tern_free(codes->next_places);
    *codes = (struct tern_codes){ 0 };
}

tern_status tern_codes_read(tern_ctx *ctx, struct tern_codes *codes, struct tern_piece piece)
{
    size_t n = 0;

    TERN_REQUIRE(ctx, piece.size <= INT32_MAX, TERN_ERR_CAPACITY, "%zu bytes of text to normalise, at most %d",
                 piece.size, INT32_MAX);
    TERN_TRY(TERN_GROW(ctx, &codes->codes, &codes->capacity, piece.size, "normalised text"));
    if (piece.places)
        TERN_TRY(TERN_GROW(ctx, &codes->places, &codes->places_capacity, piece.size, "places of text"));
    for (size_t at = 0; at < piece.size; n++) {
        if (piece.places)
            codes->places[n] = piece.places[at];
        codes->codes[n] = (int32_t)tern_utf8_next(piece.text, &at);
    }
    codes->n = n;
    codes->steps += n;
    codes->n_next = 0;
    codes->wants_places = piece.places != NULL;
    codes->original = piece.original;
    codes->original_size = piece.original_size;
    codes->most = piece.size * GROWTH_MAX + GROWTH_FREE;
    return TERN_OK;
}

tern_status tern_codes_reserve(tern_ctx *ctx, struct tern_codes *codes, size_t count)
{
    TERN_REQUIRE(ctx, count <= codes->most, TERN_ERR_CAPACITY,
                 "normalised text of %zu characters, at most %zu from this text", count, codes->most);
    return TERN_GROW(ctx, &codes->next, &codes->next_capacity, count, "normalised text");
}

/* The place of each code point of the text that follows, behind the first `kept` of the current one; *end is where the
 * current text goes on. */
static tern_status find_places(tern_ctx *ctx, struct tern_codes *c, size_t kept, size_t end, size_t removed)
{
    const struct tern_place nowhere = { (uint32_t)c->original, (uint32_t)c->original };
    size_t at = kept + (removed < end - kept ? removed : end - kept);

    for (size_t i = 0; i < c->n_next; i++) {
        const int32_t change = c->next[i].change;

        if (change > 0) {
            c->next_places[i] = at > 0 ? c->places[at - 1] : nowhere;
            continue;
        }
        TERN_REQUIRE(
            ctx, at < c->n, TERN_ERR_UNSUPPORTED,
            "a normalizer behind a Replace that put text before everything: the tokenizers library fails, too");
        c->next_places[i] = c->places[at];
        at += at < end;
        at += (size_t)-change < end - at ? (size_t)-change : end - at;
    }
    return TERN_OK;
}

tern_status tern_codes_take(tern_ctx *ctx, struct tern_codes *c, size_t removed)
{
    size_t kept = 0, end = c->n;

    if (c->n == 0) {
        c->n_next = 0;
        return TERN_OK;
    }
    if (c->wants_places) {
        /* The library asks which part of the text belongs to the whole original: all but empty places before it. */
        while (c->original_size > 0 && kept < c->n && c->places[kept].begin == c->places[kept].end)
            kept++;
        end = c->original_size > 0 ? c->n : 0;
        TERN_TRY(TERN_GROW(ctx, &c->next_places, &c->next_places_capacity, c->n_next, "places of text"));
        TERN_TRY(find_places(ctx, c, kept, end, removed));
    }
    const size_t behind = c->n - end, n = kept + c->n_next + behind;
    TERN_TRY(TERN_GROW(ctx, &c->codes, &c->capacity, n, "normalised text"));
    memmove(c->codes + kept + c->n_next, c->codes + end, behind * sizeof *c->codes);
    for (size_t i = 0; i < c->n_next; i++)
        c->codes[kept + i] = c->next[i].code;
    if (c->wants_places) {
        TERN_TRY(TERN_GROW(ctx, &c->places, &c->places_capacity, n, "places of text"));
        memmove(c->places + kept + c->n_next, c->places + end, behind * sizeof *c->places);
        if (c->n_next > 0)
            memcpy(c->places + kept, c->next_places, c->n_next * sizeof *c->places);
    }
    c->steps += c->n + n;
    c->n = n;
    c->n_next = 0;
    return TERN_OK;
}

tern_status tern_codes_write(tern_ctx *ctx, const struct tern_codes *codes, char **text, size_t *text_capacity,
                             struct tern_place **places, size_t *places_capacity, size_t *size)
{
    char bytes[TERN_UTF8_MAX];
    size_t need = 0, at = 0;

    for (size_t i = 0; i < codes->n; i++)
        need += codes->codes[i] < 0x80 ? 1 : tern_utf8_put((uint32_t)codes->codes[i], bytes);
    TERN_TRY(TERN_GROW(ctx, text, text_capacity, need, "normalised text"));
    if (codes->wants_places)
        TERN_TRY(TERN_GROW(ctx, places, places_capacity, need, "places of text"));
    for (size_t i = 0; i < codes->n; i++) {
        const size_t begin = at;

        if (codes->codes[i] < 0x80)
            (*text)[at++] = (char)codes->codes[i];
        else
            at += tern_utf8_put((uint32_t)codes->codes[i], *text + at);
        for (size_t b = begin; codes->wants_places && b < at; b++)
            (*places)[b] = codes->places[i];
    }
    *size = need;
    return TERN_OK;
}

void tern_places_of(const char *text, size_t size, struct tern_place *places)
{
    for (size_t at = 0; at < size;) {
        const size_t begin = at;

        tern_utf8_next(text, &at);
        for (size_t b = begin; b < at; b++)
            places[b] = (struct tern_place){ (uint32_t)begin, (uint32_t)at };
    }
}
