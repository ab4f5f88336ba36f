/* normalizer.c: the steps of a normalizer, over a buffer of code points.
 *
 * The text becomes code points once, every step writes what follows from them (codes.h), and they become UTF-8 again at
 * the end.  Each step does what the library's does, in what it makes of text and in what it says about where that came
 * from. */
#include "text/normalizer.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/characters.h"

#include <string.h>
#include <utf8proc.h>

#define KEEP_MAX ((size_t)1 << 20) /* code points that the scratch keeps room for from one text to the next */
#define ASK      ((size_t)1 << 18) /* bytes of a text that is long enough to be asked about */

void tern_normalizer_step_destroy(struct tern_normalizer_step *step)
{
    tern_free(step->text);
    tern_pattern_destroy(step->pattern);
    tern_charsmap_destroy(step->charsmap);
}

tern_status tern_normalizer_add(tern_ctx *ctx, struct tern_normalizer *normalizer, struct tern_normalizer_step step)
{
    const tern_status status =
        TERN_GROW(ctx, &normalizer->steps, &normalizer->capacity, normalizer->n_steps + 1, "a normalizer");

    if (status != TERN_OK) {
        tern_normalizer_step_destroy(&step);
        return status;
    }
    /* Text can come to stand before everything, and what the library makes of such text depends on that. */
    if ((step.kind == TERN_NORMALIZE_REPLACE && step.text_size > 0 && tern_pattern_matches_empty(step.pattern)) ||
        (step.kind == TERN_NORMALIZE_PREPEND && step.text_size == 0))
        normalizer->needs_places = true;
    normalizer->steps[normalizer->n_steps++] = step;
    return TERN_OK;
}

void tern_normalizer_destroy(struct tern_normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->n_steps; i++)
        tern_normalizer_step_destroy(&normalizer->steps[i]);
    tern_free(normalizer->steps);
    *normalizer = (struct tern_normalizer){ 0 };
}

void tern_normalizer_scratch_destroy(struct tern_normalizer_scratch *scratch)
{
    tern_codes_destroy(&scratch->codes);
    tern_free(scratch->sorted);
    tern_free(scratch->text);
    tern_free(scratch->places);
    tern_free(scratch->plain);
    tern_pattern_match_destroy(scratch->match);
    *scratch = (struct tern_normalizer_scratch){ 0 };
}

/* ---- each character alone ---------------------------------------------------------------------------------------- */

typedef bool is_fn(int32_t code);
typedef int32_t map_fn(int32_t code);

/* Takes out the characters that are. */
static tern_status take_out(tern_ctx *ctx, struct tern_codes *c, is_fn *is)
{
    size_t removed = 0;

    TERN_TRY(tern_codes_reserve(ctx, c, c->n));
    for (size_t i = 0; i < c->n; i++) {
        if (!is(c->codes[i]))
            tern_codes_put(c, c->codes[i], 0);
        else if (c->n_next > 0)
            c->next[c->n_next - 1].change--;
        else
            removed++;
    }
    return tern_codes_take(ctx, c, removed);
}

static tern_status map(tern_ctx *ctx, struct tern_codes *c, map_fn *fn)
{
    TERN_TRY(tern_codes_reserve(ctx, c, c->n));
    for (size_t i = 0; i < c->n; i++)
        tern_codes_put(c, fn(c->codes[i]), 0);
    return tern_codes_take(ctx, c, 0);
}

static tern_status lower_case(tern_ctx *ctx, struct tern_codes *c)
{
    TERN_TRY(tern_codes_reserve(ctx, c, 2 * c->n));
    for (size_t i = 0; i < c->n; i++) {
        if (c->codes[i] == 0x130) {
            tern_codes_put(c, 'i', 0);
            tern_codes_put(c, 0x307, 1);
        } else {
            tern_codes_put(c, utf8proc_tolower(c->codes[i]), 0);
        }
    }
    return tern_codes_take(ctx, c, 0);
}

static bool is_mark(int32_t code)
{
    return tern_char_is_mark((uint32_t)code);
}

static bool is_nonspacing(int32_t code)
{
    return tern_char_is_nonspacing((uint32_t)code);
}

static bool is_nmt_control(int32_t code)
{
    return (code >= 0x1 && code <= 0x8) || code == 0xB || (code >= 0xE && code <= 0x1F) || code == 0x7F ||
           code == 0x8F || code == 0x9F;
}

static int32_t nmt_space(int32_t code)
{
    switch (code) {
    case 0x9:
    case 0xA:
    case 0xC:
    case 0xD:
    case 0x1680:
    case 0x200B:
    case 0x200C:
    case 0x200D:
    case 0x200E:
    case 0x200F:
    case 0x2028:
    case 0x2029:
    case 0x2581:
    case 0xFEFF:
    case 0xFFFD:
        return ' ';
    default:
        return code;
    }
}

static tern_status strip(tern_ctx *ctx, struct tern_codes *c, bool left, bool right)
{
    size_t begin = 0, end = c->n;

    while (left && begin < c->n && tern_char_is_space((uint32_t)c->codes[begin]))
        begin++;
    while (right && end > 0 && tern_char_is_space((uint32_t)c->codes[end - 1]))
        end--;
    if (begin == 0 && end == c->n)
        return TERN_OK;
    TERN_TRY(tern_codes_reserve(ctx, c, c->n));
    for (size_t i = begin; i < end; i++)
        tern_codes_put(c, c->codes[i], 0);
    return tern_codes_take(ctx, c, begin);
}

static tern_status byte_level(tern_ctx *ctx, struct tern_codes *c)
{
    TERN_TRY(tern_codes_reserve(ctx, c, c->n * TERN_UTF8_MAX));
    for (size_t i = 0; i < c->n; i++) {
        char bytes[TERN_UTF8_MAX];
        const size_t n = tern_utf8_put((uint32_t)c->codes[i], bytes);

        for (size_t b = 0; b < n; b++)
            tern_codes_put(c, (int32_t)tern_byte_level_char((unsigned char)bytes[b]), b > 0);
    }
    return tern_codes_take(ctx, c, 0);
}

/* ---- BERT -------------------------------------------------------------------------------------------------------- */

static bool is_bert_control(int32_t code)
{
    return code == 0 || code == 0xFFFD || tern_char_is_other((uint32_t)code);
}

static int32_t bert_space(int32_t code)
{
    return tern_char_is_space((uint32_t)code) ? ' ' : code;
}

/* The blocks of CJK ideographs, as the library lists them. */
static bool is_ideograph(int32_t code)
{
    return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
           (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2B73F) ||
           (code >= 0x2B740 && code <= 0x2B81F) || (code >= 0x2B920 && code <= 0x2CEAF) ||
           (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x2F800 && code <= 0x2FA1F);
}

static tern_status part_ideographs(tern_ctx *ctx, struct tern_codes *c)
{
    TERN_TRY(tern_codes_reserve(ctx, c, 3 * c->n));
    for (size_t i = 0; i < c->n; i++) {
        if (is_ideograph(c->codes[i])) {
            tern_codes_put(c, ' ', 0);
            tern_codes_put(c, c->codes[i], 1);
            tern_codes_put(c, ' ', 1);
        } else {
            tern_codes_put(c, c->codes[i], 0);
        }
    }
    return tern_codes_take(ctx, c, 0);
}

static tern_status bert(tern_ctx *ctx, struct tern_normalizer_scratch *s, const struct tern_normalizer_step *step)
{
    if (step->clean_text) {
        TERN_TRY(take_out(ctx, &s->codes, is_bert_control));
        TERN_TRY(map(ctx, &s->codes, bert_space));
    }
    if (step->chinese_chars)
        TERN_TRY(part_ideographs(ctx, &s->codes));
    if (step->accents) {
        TERN_TRY(tern_normal_form(ctx, s, TERN_NORMALIZE_NFD));
        TERN_TRY(take_out(ctx, &s->codes, is_nonspacing));
    }
    return step->lowercase ? lower_case(ctx, &s->codes) : TERN_OK;
}

/* ---- text that is put in ----------------------------------------------------------------------------------------- */

/* The current text becomes next[0..n_next), whose places are next_places. */
static tern_status take_with_places(tern_ctx *ctx, struct tern_codes *c)
{
    TERN_TRY(TERN_GROW(ctx, &c->codes, &c->capacity, c->n_next, "normalised text"));
    for (size_t i = 0; i < c->n_next; i++)
        c->codes[i] = c->next[i].code;
    if (c->wants_places) {
        struct tern_place *places = c->places;
        const size_t capacity = c->places_capacity;

        c->places = c->next_places;
        c->places_capacity = c->next_places_capacity;
        c->next_places = places;
        c->next_places_capacity = capacity;
    }
    c->steps += c->n + c->n_next;
    c->n = c->n_next;
    c->n_next = 0;
    return TERN_OK;
}

static tern_status put_with_place(tern_ctx *ctx, struct tern_codes *c, int32_t code, struct tern_place place)
{
    TERN_TRY(tern_codes_reserve(ctx, c, c->n_next + 1));
    if (c->wants_places) {
        TERN_TRY(TERN_GROW(ctx, &c->next_places, &c->next_places_capacity, c->n_next + 1, "places of text"));
        c->next_places[c->n_next] = place;
    }
    tern_codes_put(c, code, 0);
    return TERN_OK;
}

static tern_status put_text(tern_ctx *ctx, struct tern_codes *c, const char *text, size_t size, struct tern_place place)
{
    for (size_t at = 0; at < size;)
        TERN_TRY(put_with_place(ctx, c, (int32_t)tern_utf8_next(text, &at), place));
    return TERN_OK;
}

static tern_status put_rest(tern_ctx *ctx, struct tern_codes *c, size_t begin, size_t end)
{
    const struct tern_place none = { 0, 0 };

    for (size_t i = begin; i < end; i++)
        TERN_TRY(put_with_place(ctx, c, c->codes[i], c->wants_places ? c->places[i] : none));
    return TERN_OK;
}

/* Where text goes that is put behind codes[0..at). */
static struct tern_place place_before(const struct tern_codes *c, size_t at)
{
    const struct tern_place before_all = { (uint32_t)c->original, (uint32_t)c->original };

    return c->wants_places && at > 0 ? c->places[at - 1] : before_all;
}

/* What is prepended shares the first character's place; an empty text takes that away (the library's way). */
static tern_status prepend(tern_ctx *ctx, struct tern_codes *c, const struct tern_normalizer_step *step)
{
    if (c->n == 0)
        return TERN_OK;
    TERN_TRY(put_text(ctx, c, step->text, step->text_size, place_before(c, 1)));
    TERN_TRY(put_rest(ctx, c, 0, c->n));
    if (c->wants_places && step->text_size == 0)
        c->next_places[0] = place_before(c, 0);
    return take_with_places(ctx, c);
}

static tern_status replace(tern_ctx *ctx, struct tern_normalizer_scratch *s, const struct tern_normalizer_step *step)
{
    struct tern_codes *c = &s->codes;
    struct tern_codes plain = *c;
    struct tern_pattern_walk walk = { NULL, 0, 0, SIZE_MAX, 0 };
    size_t at = 0, byte = 0, begin, end; /* code point `at` is at `byte` */
    bool found;

    if (c->n == 0)
        return TERN_OK;
    if (!s->match)
        TERN_TRY(tern_pattern_match_create(ctx, &s->match));
    plain.wants_places = false;
    TERN_TRY(tern_codes_write(ctx, &plain, &s->plain, &s->plain_capacity, NULL, NULL, &walk.size));
    walk.text = s->plain;
    for (;;) {
        size_t first = at;

        TERN_TRY(tern_pattern_next(ctx, step->pattern, s->match, &walk, &found, &begin, &end));
        if (!found)
            break;
        for (; byte < begin; at++)
            tern_utf8_next(s->plain, &byte);
        TERN_TRY(put_rest(ctx, c, first, at));
        for (; byte < end; at++)
            tern_utf8_next(s->plain, &byte);
        TERN_TRY(put_text(ctx, c, step->text, step->text_size, place_before(c, at)));
    }
    TERN_TRY(put_rest(ctx, c, at, c->n));
    return take_with_places(ctx, c);
}

/* ---- SentencePiece's table --------------------------------------------------------------------------------------- */

#define GRAPHEME_MAX 6 /* a grapheme of fewer bytes is looked up as a whole */

/* `n_old` characters become text[0..size). */
static tern_status put_replacement(tern_ctx *ctx, struct tern_codes *c, size_t n_old, const char *text, size_t size)
{
    size_t n_new = 0;

    TERN_TRY(tern_codes_reserve(ctx, c, c->n_next + size));
    for (size_t at = 0; at < size; n_new++)
        tern_codes_put(c, (int32_t)tern_utf8_next(text, &at), 0);
    /* The last of more are new.  Of fewer, the last one takes the difference, whichever piece that belongs to; before
     * the first character nobody does. */
    for (size_t k = n_old; k < n_new; k++)
        c->next[c->n_next - 1 - (k - n_old)].change = 1;
    if (n_new < n_old && c->n_next > 0)
        c->next[c->n_next - 1].change -= (int32_t)(n_old - n_new);
    return TERN_OK;
}

static tern_status precompiled(tern_ctx *ctx, struct tern_codes *c, const struct tern_charsmap *charsmap)
{
    bool modified = false;
    size_t end, used, size;
    const char *text;

    for (size_t i = 0; i < c->n; i = end) {
        char bytes[GRAPHEME_MAX + TERN_UTF8_MAX];
        utf8proc_int32_t state = 0;
        size_t n = 0;

        end = i;
        do {
            if (n < GRAPHEME_MAX)
                n += tern_utf8_put((uint32_t)c->codes[end], bytes + n);
            end++;
        } while (end < c->n && !utf8proc_grapheme_break_stateful(c->codes[end - 1], c->codes[end], &state));
        c->steps += end - i;
        if (n < GRAPHEME_MAX && (text = tern_charsmap_find(charsmap, bytes, n, false, &used, &size))) {
            TERN_TRY(put_replacement(ctx, c, end - i, text, size));
            modified = true;
            continue;
        }
        for (size_t k = i; k < end; k++) {
            n = tern_utf8_put((uint32_t)c->codes[k], bytes);
            text = tern_charsmap_find(charsmap, bytes, n, false, &used, &size);
            modified = modified || text;
            if (text) {
                TERN_TRY(put_replacement(ctx, c, 1, text, size));
            } else {
                TERN_TRY(tern_codes_reserve(ctx, c, c->n_next + 1));
                tern_codes_put(c, c->codes[k], 0);
            }
        }
    }
    if (modified)
        return tern_codes_take(ctx, c, 0);
    c->n_next = 0;
    return TERN_OK;
}

/* ---- all steps --------------------------------------------------------------------------------------------------- */

static tern_status run_step(tern_ctx *ctx, struct tern_normalizer_scratch *s, const struct tern_normalizer_step *step)
{
    struct tern_codes *c = &s->codes;

    switch (step->kind) {
    case TERN_NORMALIZE_NFC:
    case TERN_NORMALIZE_NFD:
    case TERN_NORMALIZE_NFKC:
    case TERN_NORMALIZE_NFKD:
        return tern_normal_form(ctx, s, step->kind);
    case TERN_NORMALIZE_LOWERCASE:
        return lower_case(ctx, c);
    case TERN_NORMALIZE_STRIP_ACCENTS:
        return take_out(ctx, c, is_mark);
    case TERN_NORMALIZE_STRIP:
        return strip(ctx, c, step->left, step->right);
    case TERN_NORMALIZE_NMT:
        TERN_TRY(take_out(ctx, c, is_nmt_control));
        return map(ctx, c, nmt_space);
    case TERN_NORMALIZE_BERT:
        return bert(ctx, s, step);
    case TERN_NORMALIZE_BYTE_LEVEL:
        return byte_level(ctx, c);
    case TERN_NORMALIZE_PREPEND:
        return prepend(ctx, c, step);
    case TERN_NORMALIZE_REPLACE:
        return replace(ctx, s, step);
    case TERN_NORMALIZE_PRECOMPILED:
        return precompiled(ctx, c, step->charsmap);
    }
    return TERN_OK;
}

tern_status tern_normalizer_run(tern_ctx *ctx, const struct tern_normalizer *normalizer,
                                struct tern_normalizer_scratch *scratch, struct tern_piece piece,
                                struct tern_piece *out)
{
    *out = piece;
    if (normalizer->n_steps == 0 || piece.size == 0)
        return TERN_OK;
    TERN_TRY(tern_codes_read(ctx, &scratch->codes, piece));
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        TERN_REQUIRE(ctx, piece.size < ASK || !scratch->goes_on || scratch->goes_on(scratch->user), TERN_ERR_CANCELLED,
                     "cancelled in a text of %zu bytes", piece.size);
        TERN_TRY(run_step(ctx, scratch, &normalizer->steps[i]));
    }
    TERN_TRY(tern_codes_write(ctx, &scratch->codes, &scratch->text, &scratch->text_capacity, &scratch->places,
                              &scratch->places_capacity, &out->size));
    scratch->steps += scratch->codes.steps + out->size;
    scratch->codes.steps = 0;
    if (scratch->codes.capacity > KEEP_MAX) {
        /* the model works next, and may need as much */
        tern_codes_destroy(&scratch->codes);
        tern_free(scratch->sorted);
        scratch->sorted = NULL;
        scratch->sorted_capacity = 0;
    }
    out->text = scratch->text;
    out->places = piece.places ? scratch->places : NULL;
    return TERN_OK;
}
