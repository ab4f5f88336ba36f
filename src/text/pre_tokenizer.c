/* pre_tokenizer.c: a chain of steps, each handing its pieces to the next as it finds them.
 *
 * Every step works on one piece alone, so nothing has to be collected: a piece goes through all later steps before the
 * next one is looked for, and memory does not grow with the number of words.  A split holds back one piece, which its
 * successor may still join.
 *
 * ByteLevel turns bytes into characters after cutting.  As the last step, which it is nearly always, it only says so
 * (`bytes`), and the model looks bytes up in a table instead of writing and reading characters. */
#include "text/pre_tokenizer.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/characters.h"

#include <string.h>

struct run {
    tern_ctx *ctx;
    const struct tern_pre_tokenizer *pre;
    struct tern_pre_scratch *scratch;
    tern_word_fn *fn;
    void *user;
};

static tern_status step(struct run *r, size_t index, struct tern_piece piece);

void tern_pre_scratch_destroy(struct tern_pre_scratch *scratch)
{
    for (size_t i = 0; i < TERN_PRE_STEPS_MAX; i++) {
        tern_free(scratch->steps[i].changed);
        tern_free(scratch->steps[i].changed_places);
        tern_free(scratch->steps[i].mapped);
        tern_free(scratch->steps[i].mapped_places);
    }
    tern_pattern_match_destroy(scratch->match);
    *scratch = (struct tern_pre_scratch){ 0 };
}

bool tern_pre_tokenizer_add(struct tern_pre_tokenizer *pre, struct tern_pre_step step)
{
    int n_byte_levels = step.kind == TERN_PRE_BYTE_LEVEL;

    for (size_t i = 0; i < pre->n_steps; i++)
        n_byte_levels += pre->steps[i].kind == TERN_PRE_BYTE_LEVEL;
    if (pre->n_steps == TERN_PRE_STEPS_MAX || n_byte_levels > TERN_PRE_BYTE_LEVELS_MAX) {
        tern_pattern_destroy(step.pattern);
        return false;
    }
    pre->has_split = pre->has_split || step.kind == TERN_PRE_SPLIT;
    if (step.kind == TERN_PRE_METASPACE && step.scheme == TERN_PREPEND_FIRST) {
        pre->needs_origin = true;
        pre->needs_places = pre->needs_places || pre->n_steps > 0;
    }
    pre->steps[pre->n_steps++] = step;
    return true;
}

void tern_pre_tokenizer_destroy(struct tern_pre_tokenizer *pre)
{
    for (size_t i = 0; i < pre->n_steps; i++)
        tern_pattern_destroy(pre->steps[i].pattern);
    *pre = (struct tern_pre_tokenizer){ 0 };
}

/* ---- ByteLevel, Metaspace: pieces with other text ---------------------------------------------------------------- */

/* Room for a piece of `size` bytes in the step's `changed`; the piece's stretch of the original stays. */
static tern_status begin_change(struct run *r, size_t index, size_t size, struct tern_piece *piece)
{
    TERN_TRY(TERN_GROW(r->ctx, &r->scratch->steps[index].changed, &r->scratch->steps[index].changed_capacity, size,
                       "text of a pre-tokenizer"));
    if (piece->places)
        TERN_TRY(TERN_GROW(r->ctx, &r->scratch->steps[index].changed_places,
                           &r->scratch->steps[index].changed_places_capacity, size, "places of text"));
    piece->text = r->scratch->steps[index].changed;
    piece->places = piece->places ? r->scratch->steps[index].changed_places : NULL;
    piece->size = size;
    return TERN_OK;
}

static tern_status byte_level_piece(struct run *r, size_t index, struct tern_piece piece)
{
    if (index + 1 == r->pre->n_steps && !piece.places)
        return r->fn(r->user, piece, true);

    char **mapped = &r->scratch->steps[index].mapped;
    TERN_TRY(TERN_GROW(r->ctx, mapped, &r->scratch->steps[index].mapped_capacity, 2 * piece.size, "byte-level text"));
    if (piece.places) {
        struct tern_place **places = &r->scratch->steps[index].mapped_places;
        size_t n = 0;

        TERN_REQUIRE(r->ctx, piece.original_size > 0 && piece.places[0].begin < piece.places[0].end,
                     TERN_ERR_UNSUPPORTED,
                     "ByteLevel behind a Replace that put text before everything: the tokenizers library fails, too");
        TERN_TRY(TERN_GROW(r->ctx, places, &r->scratch->steps[index].mapped_places_capacity, 2 * piece.size,
                           "places of text"));
        for (size_t i = 0; i < piece.size; i++) {
            const uint32_t code = tern_byte_level_char((unsigned char)piece.text[i]);

            (*places)[n++] = piece.places[i];
            if (code >= 0x80)
                (*places)[n++] = piece.places[i];
        }
        piece.places = *places;
    }
    piece.size = tern_byte_level_encode(piece.text, piece.size, *mapped);
    piece.text = *mapped;
    return step(r, index + 1, piece);
}

static tern_status byte_level(struct run *r, size_t index, struct tern_piece piece)
{
    const struct tern_pre_step *s = &r->pre->steps[index];

    if (s->add_prefix_space && piece.text[0] != ' ') {
        const struct tern_piece from = piece;

        TERN_TRY(begin_change(r, index, from.size + 1, &piece));
        char *text = r->scratch->steps[index].changed;
        text[0] = ' ';
        memcpy(text + 1, from.text, from.size);
        if (from.places) {
            struct tern_place *places = r->scratch->steps[index].changed_places;

            places[0] = from.places[0];
            memcpy(places + 1, from.places, from.size * sizeof *places);
        }
    }
    if (!s->use_regex)
        return byte_level_piece(r, index, piece);
    for (size_t begin = 0, end; begin < piece.size; begin = end) {
        end = tern_gpt2_piece(piece.text, piece.size, begin);
        TERN_TRY(byte_level_piece(r, index, tern_piece_cut(piece, begin, end)));
    }
    return TERN_OK;
}

static tern_status metaspace(struct run *r, size_t index, struct tern_piece piece)
{
    const struct tern_pre_step *s = &r->pre->steps[index];
    const struct tern_piece from = piece;
    char mark[TERN_UTF8_MAX];
    const size_t n_mark = tern_utf8_put(s->delimiter, mark);
    size_t spaces = 0, n = 0;

    for (size_t i = 0; i < from.size; i++)
        spaces += from.text[i] == ' ';
    TERN_TRY(begin_change(r, index, from.size + spaces * (n_mark - 1) + n_mark, &piece));
    char *text = r->scratch->steps[index].changed;
    struct tern_place *places = r->scratch->steps[index].changed_places;

    const bool has_mark = from.text[0] == ' ' || (from.size >= n_mark && memcmp(from.text, mark, n_mark) == 0);
    if (!has_mark && (s->scheme == TERN_PREPEND_ALWAYS || (s->scheme == TERN_PREPEND_FIRST && from.original == 0))) {
        memcpy(text, mark, n_mark);
        for (; n < n_mark; n++)
            if (from.places)
                places[n] = from.places[0];
    }
    for (size_t i = 0; i < from.size; i++) {
        if (from.text[i] == ' ') {
            memcpy(text + n, mark, n_mark);
            for (size_t b = 0; from.places && b < n_mark; b++)
                places[n + b] = from.places[i];
            n += n_mark;
            continue;
        }
        text[n] = from.text[i];
        if (from.places)
            places[n] = from.places[i];
        n++;
    }
    piece.size = n;
    if (!s->split)
        return step(r, index + 1, piece);
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = begin;
        do
            tern_utf8_next(text, &end);
        while (end < n && !(n - end >= n_mark && memcmp(text + end, mark, n_mark) == 0));
        TERN_TRY(step(r, index + 1, tern_piece_cut(piece, begin, end)));
    }
    return TERN_OK;
}

/* ---- splits ------------------------------------------------------------------------------------------------------ */

/* The piece that a split holds back, and what it has seen. */
struct held {
    struct tern_piece from;
    size_t begin, end;
    bool any;      /* a piece is held */
    bool is_match; /* the last piece that came was a match */
};

static tern_status release(struct run *r, size_t index, struct held *h)
{
    if (!h->any)
        return TERN_OK;
    h->any = false;
    return step(r, index + 1, tern_piece_cut(h->from, h->begin, h->end));
}

/* The next stretch of text, a match or what lies between two.  Whether it joins the one that is held depends on the
 * behaviour; in the library MergedWithNext walks backwards, which comes to the same. */
static tern_status split_piece(struct run *r, size_t index, struct held *h, size_t begin, size_t end, bool is_match)
{
    const struct tern_pre_step *s = &r->pre->steps[index];
    const bool before = h->is_match;
    bool join = false;

    is_match = is_match != s->invert;
    h->is_match = is_match;
    switch (s->behavior) {
    case TERN_SPLIT_REMOVED:
        if (is_match)
            return release(r, index, h);
        break;
    case TERN_SPLIT_ISOLATED:
        break;
    case TERN_SPLIT_CONTIGUOUS:
        join = is_match == before;
        break;
    case TERN_SPLIT_MERGED_WITH_PREVIOUS:
        join = is_match && !before;
        break;
    case TERN_SPLIT_MERGED_WITH_NEXT:
        join = !is_match && before;
        break;
    }
    if (join && h->any) {
        h->end = end;
        return TERN_OK;
    }
    TERN_TRY(release(r, index, h));
    h->begin = begin;
    h->end = end;
    h->any = true;
    return TERN_OK;
}

static bool is_char(const struct tern_pre_step *s, uint32_t code)
{
    switch (s->is) {
    case TERN_PRE_IS_SPACE:
        return tern_char_is_space(code);
    case TERN_PRE_IS_PUNCTUATION:
        return tern_char_is_punctuation(code);
    case TERN_PRE_IS_NUMERIC:
        return tern_char_class(code) == TERN_CHAR_NUMBER;
    case TERN_PRE_IS_DELIMITER:
        return code == s->delimiter;
    }
    return false;
}

/* The next match, of the pattern or a character. */
static tern_status next_match(struct run *r, size_t index, struct tern_pattern_walk *walk, bool *found, size_t *begin,
                              size_t *end)
{
    const struct tern_pre_step *s = &r->pre->steps[index];

    if (s->kind == TERN_PRE_SPLIT) {
        const size_t from = walk->from;

        TERN_TRY(tern_pattern_next(r->ctx, s->pattern, r->scratch->match, walk, found, begin, end));
        r->scratch->n_bytes += (*found ? *end : walk->size) - (from < walk->size ? from : walk->size) + 1;
        return TERN_OK;
    }
    *found = false;
    while (walk->from < walk->size && !*found) {
        *begin = walk->from;
        *found = is_char(s, tern_utf8_next(walk->text, &walk->from));
        *end = walk->from;
    }
    return TERN_OK;
}

static tern_status split(struct run *r, size_t index, struct tern_piece piece)
{
    struct tern_pattern_walk walk = { piece.text, piece.size, 0, SIZE_MAX, 0 };
    struct held h = { .from = piece };
    size_t done = 0;

    for (;;) {
        size_t begin, end;
        bool found;

        TERN_TRY(next_match(r, index, &walk, &found, &begin, &end));
        if (!found)
            break;
        if (begin != done)
            TERN_TRY(split_piece(r, index, &h, done, begin, false));
        TERN_TRY(split_piece(r, index, &h, begin, end, true));
        done = end;
    }
    if (done != piece.size)
        TERN_TRY(split_piece(r, index, &h, done, piece.size, false));
    return release(r, index, &h);
}

enum word_class { BLANK, WORD, OTHER };

static enum word_class word_class(uint32_t code)
{
    return tern_char_is_space(code) ? BLANK : tern_char_is_word(code) ? WORD : OTHER;
}

static tern_status whitespace(struct run *r, size_t index, struct tern_piece piece)
{
    for (size_t begin = 0, end; begin < piece.size; begin = end) {
        end = begin;
        const enum word_class class = word_class(tern_utf8_next(piece.text, &end));

        for (size_t at = end; at < piece.size && word_class(tern_utf8_next(piece.text, &at)) == class;)
            end = at;
        if (class != BLANK)
            TERN_TRY(step(r, index + 1, tern_piece_cut(piece, begin, end)));
    }
    return TERN_OK;
}

static tern_status scripts(struct run *r, size_t index, struct tern_piece piece)
{
    uint32_t last = 0;
    size_t begin = piece.size; /* nothing before the first script */

    for (size_t at = 0; at < piece.size;) {
        const size_t here = at;
        const uint32_t script = tern_char_script(tern_utf8_next(piece.text, &at));

        if (script == 0 || script == last)
            continue;
        if (last != 0)
            TERN_TRY(step(r, index + 1, tern_piece_cut(piece, begin, here)));
        begin = here;
        last = script;
    }
    return step(r, index + 1, tern_piece_cut(piece, begin, piece.size));
}

static tern_status fixed_length(struct run *r, size_t index, struct tern_piece piece)
{
    for (size_t begin = 0, end; begin < piece.size; begin = end) {
        end = begin;
        for (size_t n = 0; n < r->pre->steps[index].length && end < piece.size; n++)
            tern_utf8_next(piece.text, &end);
        TERN_TRY(step(r, index + 1, tern_piece_cut(piece, begin, end)));
    }
    return TERN_OK;
}

/* ---- the chain --------------------------------------------------------------------------------------------------- */

static tern_status step(struct run *r, size_t index, struct tern_piece piece)
{
    if (piece.size == 0)
        return TERN_OK;
    r->scratch->n_bytes += piece.size;
    if (index == r->pre->n_steps)
        return r->fn(r->user, piece, false);
    switch (r->pre->steps[index].kind) {
    case TERN_PRE_BYTE_LEVEL:
        return byte_level(r, index, piece);
    case TERN_PRE_SPLIT:
    case TERN_PRE_SPLIT_CHAR:
        return split(r, index, piece);
    case TERN_PRE_WHITESPACE:
        return whitespace(r, index, piece);
    case TERN_PRE_METASPACE:
        return metaspace(r, index, piece);
    case TERN_PRE_SCRIPTS:
        return scripts(r, index, piece);
    case TERN_PRE_FIXED_LENGTH:
        return fixed_length(r, index, piece);
    }
    return TERN_OK;
}

tern_status tern_pre_tokenizer_run(tern_ctx *ctx, const struct tern_pre_tokenizer *pre,
                                   struct tern_pre_scratch *scratch, struct tern_piece piece, tern_word_fn *fn,
                                   void *user)
{
    struct run r = { ctx, pre, scratch, fn, user };

    if (pre->has_split && !scratch->match)
        TERN_TRY(tern_pattern_match_create(ctx, &scratch->match));
    return step(&r, 0, piece);
}
