/* pre_tokenizer.c: a chain of steps, each handing its pieces to the next as it finds them.
 *
 * Every step works on one piece alone, so nothing has to be collected: a piece goes through all later steps before the
 * next one is looked for, and memory does not grow with the number of words.  A Split holds back one piece, which its
 * successor may still join.
 *
 * ByteLevel turns bytes into characters after cutting.  As the last step, which it is nearly always, it only says so
 * (`bytes`), and the model looks bytes up in a table instead of writing and reading characters. */
#include "text/pre_tokenizer.h"

#include "base/memory.h"
#include "text/byte_level.h"

#include <string.h>

struct run {
    tern_ctx *ctx;
    const struct tern_pre_tokenizer *pre;
    struct tern_pre_scratch *scratch;
    tern_word_fn *fn;
    void *user;
};

static tern_status step(struct run *r, size_t index, const char *text, size_t size);

void tern_pre_scratch_destroy(struct tern_pre_scratch *scratch)
{
    for (size_t i = 0; i < TERN_PRE_STEPS_MAX; i++) {
        tern_free(scratch->steps[i].prefixed);
        tern_free(scratch->steps[i].mapped);
    }
    tern_pattern_match_destroy(scratch->match);
    *scratch = (struct tern_pre_scratch){ 0 };
}

void tern_pre_tokenizer_destroy(struct tern_pre_tokenizer *pre)
{
    for (size_t i = 0; i < pre->n_steps; i++)
        tern_pattern_destroy(pre->steps[i].pattern);
    *pre = (struct tern_pre_tokenizer){ 0 };
}

/* ---- ByteLevel --------------------------------------------------------------------------------------------------- */

static tern_status byte_level_piece(struct run *r, size_t index, const char *text, size_t size)
{
    if (index + 1 == r->pre->n_steps)
        return r->fn(r->user, text, size, true);

    char **mapped = &r->scratch->steps[index].mapped;
    TERN_TRY(TERN_GROW(r->ctx, mapped, &r->scratch->steps[index].mapped_capacity, 2 * size, "byte-level text"));
    return step(r, index + 1, *mapped, tern_byte_level_encode(text, size, *mapped));
}

static tern_status byte_level(struct run *r, size_t index, const char *text, size_t size)
{
    const struct tern_pre_step *s = &r->pre->steps[index];

    if (s->add_prefix_space && text[0] != ' ') {
        char **prefixed = &r->scratch->steps[index].prefixed;

        TERN_TRY(
            TERN_GROW(r->ctx, prefixed, &r->scratch->steps[index].prefixed_capacity, size + 1, "text with a space"));
        (*prefixed)[0] = ' ';
        memcpy(*prefixed + 1, text, size);
        text = *prefixed;
        size++;
    }
    if (!s->use_regex)
        return byte_level_piece(r, index, text, size);
    for (size_t begin = 0, end; begin < size; begin = end) {
        end = tern_gpt2_piece(text, size, begin);
        TERN_TRY(byte_level_piece(r, index, text + begin, end - begin));
    }
    return TERN_OK;
}

/* ---- Split ------------------------------------------------------------------------------------------------------- */

/* The piece that a Split holds back, and what it has seen. */
struct held {
    const char *text;
    size_t begin, end;
    bool any;      /* a piece is held */
    bool is_match; /* the last piece that came was a match */
};

static tern_status release(struct run *r, size_t index, struct held *h)
{
    if (!h->any)
        return TERN_OK;
    h->any = false;
    return step(r, index + 1, h->text + h->begin, h->end - h->begin);
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

static tern_status split(struct run *r, size_t index, const char *text, size_t size)
{
    struct tern_pattern_walk walk = { text, size, 0, SIZE_MAX };
    struct held h = { .text = text };
    size_t done = 0;

    for (;;) {
        size_t begin, end;
        bool found;

        TERN_TRY(
            tern_pattern_next(r->ctx, r->pre->steps[index].pattern, r->scratch->match, &walk, &found, &begin, &end));
        if (!found)
            break;
        if (begin != done)
            TERN_TRY(split_piece(r, index, &h, done, begin, false));
        TERN_TRY(split_piece(r, index, &h, begin, end, true));
        done = end;
    }
    if (done != size)
        TERN_TRY(split_piece(r, index, &h, done, size, false));
    return release(r, index, &h);
}

/* ---- the chain --------------------------------------------------------------------------------------------------- */

static tern_status step(struct run *r, size_t index, const char *text, size_t size)
{
    if (size == 0)
        return TERN_OK;
    if (index == r->pre->n_steps)
        return r->fn(r->user, text, size, false);
    return r->pre->steps[index].kind == TERN_PRE_BYTE_LEVEL ? byte_level(r, index, text, size)
                                                            : split(r, index, text, size);
}

tern_status tern_pre_tokenizer_run(tern_ctx *ctx, const struct tern_pre_tokenizer *pre,
                                   struct tern_pre_scratch *scratch, const char *text, size_t size, tern_word_fn *fn,
                                   void *user)
{
    struct run r = { ctx, pre, scratch, fn, user };

    if (pre->has_split && !scratch->match)
        TERN_TRY(tern_pattern_match_create(ctx, &scratch->match));
    return step(&r, 0, text, size);
}
