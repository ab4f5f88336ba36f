/* decode_chain.c: see decode_chain.h.
 *
 * Each step gets texts in parts: a part, and whether the text ends with it.  Most steps collect a text, change it and
 * hand it on; Fuse and ByteLevel make one text of all, and hand on parts at once.  What only the end can decide waits:
 * the last text of a BPEDecoder, a run of bytes in ByteFallback, whatever a step behind a Fuse has to see as a whole. */
#include "text/decode_chain.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/byte_level.h"

#include <string.h>

#define TEXT_MAX (1 << 30) /* bytes that decoding makes at once */

void tern_decode_step_destroy(struct tern_decode_step *step)
{
    tern_free(step->text);
    tern_free(step->more);
    tern_pattern_destroy(step->pattern);
}

void tern_decode_chain_destroy(struct tern_decode_chain *chain)
{
    for (size_t i = 0; i < chain->n_steps; i++)
        tern_decode_step_destroy(&chain->steps[i]);
    *chain = (struct tern_decode_chain){ 0 };
}

void tern_decode_run_destroy(struct tern_decode_run *run)
{
    for (size_t i = 0; i < TERN_DECODE_STEPS_MAX; i++) {
        tern_free(run->states[i].token.text);
        tern_free(run->states[i].held.text);
        tern_free(run->states[i].work[0].text);
        tern_free(run->states[i].work[1].text);
        tern_pattern_match_destroy(run->states[i].match);
    }
    tern_free(run->out.text);
    *run = (struct tern_decode_run){ 0 };
}

static tern_status append(tern_ctx *ctx, struct tern_decode_buffer *b, const char *text, size_t size)
{
    size_t need;

    TERN_REQUIRE(ctx, tern_size_add(b->size, size, &need) && need <= TEXT_MAX, TERN_ERR_CAPACITY,
                 "a decoder's text of more than %d bytes", TEXT_MAX);
    TERN_TRY(TERN_GROW(ctx, &b->text, &b->capacity, need, "text"));
    if (size > 0)
        memcpy(b->text + b->size, text, size);
    b->size = need;
    return TERN_OK;
}

/* Appends text[0..size) with every `from` as `to`; nothing stands between all characters, and around them. */
static tern_status append_replaced(tern_ctx *ctx, struct tern_decode_buffer *b, const char *text, size_t size,
                                   const char *from, size_t from_size, const char *to, size_t to_size)
{
    for (size_t at = 0; at < size;) {
        size_t next = at;

        if (size - at >= from_size && memcmp(text + at, from, from_size) == 0) {
            TERN_TRY(append(ctx, b, to, to_size));
            next += from_size;
        }
        if (from_size == 0 || next == at) {
            tern_utf8_next(text, &next);
            TERN_TRY(append(ctx, b, text + at, next - at));
        }
        at = next;
    }
    return from_size == 0 ? append(ctx, b, to, to_size) : TERN_OK;
}

/* In place: no `to` is longer than its `from`. */
static size_t replace_in_place(char *text, size_t size, const char *from, const char *to)
{
    const size_t from_size = strlen(from), to_size = strlen(to);
    size_t n = 0;

    for (size_t at = 0; at < size;) {
        if (size - at >= from_size && memcmp(text + at, from, from_size) == 0) {
            memcpy(text + n, to, to_size);
            n += to_size;
            at += from_size;
        } else {
            text[n++] = text[at++];
        }
    }
    return n;
}

static void clean_up(struct tern_decode_buffer *b)
{
    static const char *const pairs[][2] = {
        { " .", "." },   { " ?", "?" },     { " !", "!" },     { " ,", "," },
        { " ' ", "'" },  { " n't", "n't" }, { " 'm", "'m" },   { " do not", " don't" },
        { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" },
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        b->size = replace_in_place(b->text, b->size, pairs[i][0], pairs[i][1]);
}

/* ---- a text as a whole ------------------------------------------------------------------------------------------- */

static tern_status emit(tern_ctx *ctx, struct tern_decode_run *run, size_t index, const char *text, size_t size,
                        bool ends);

static tern_status word_piece(tern_ctx *ctx, const struct tern_decode_step *s, const char *text, size_t size,
                              bool first, struct tern_decode_buffer *out)
{
    if (!first) {
        if (size >= s->text_size && memcmp(text, s->text, s->text_size) == 0) {
            text += s->text_size;
            size -= s->text_size;
        } else {
            TERN_TRY(append(ctx, out, " ", 1));
        }
    }
    TERN_TRY(append(ctx, out, text, size));
    if (s->cleanup)
        clean_up(out);
    return TERN_OK;
}

static tern_status metaspace(tern_ctx *ctx, const struct tern_decode_step *s, const char *text, size_t size, bool first,
                             struct tern_decode_buffer *out)
{
    const bool drop = first && s->scheme != TERN_PREPEND_NEVER;
    char mark[TERN_UTF8_MAX];

    return append_replaced(ctx, out, text, size, mark, tern_utf8_put(s->code, mark), " ", drop ? 0 : 1);
}

static tern_status ctc(tern_ctx *ctx, const struct tern_decode_step *s, const char *text, size_t size,
                       struct tern_decode_buffer work[2], const struct tern_decode_buffer **out)
{
    work[0].size = work[1].size = 0;
    TERN_TRY(append_replaced(ctx, &work[0], text, size, s->text, s->text_size, "", 0));
    *out = &work[0];
    if (!s->cleanup)
        return TERN_OK;
    clean_up(&work[0]);
    *out = &work[1];
    return append_replaced(ctx, &work[1], work[0].text, work[0].size, s->more, s->more_size, " ", 1);
}

static tern_status replace(tern_ctx *ctx, const struct tern_decode_step *s, struct tern_pattern_match **match,
                           const char *text, size_t size, struct tern_decode_buffer *out)
{
    struct tern_pattern_walk walk = { text, size, 0, SIZE_MAX, 0 };
    size_t done = 0, begin, end;
    bool found;

    if (size == 0)
        return TERN_OK;
    if (!*match)
        TERN_TRY(tern_pattern_match_create(ctx, match));
    for (;;) {
        TERN_TRY(tern_pattern_next(ctx, s->pattern, *match, &walk, &found, &begin, &end));
        if (!found)
            return append(ctx, out, done > 0 ? text + done : text, size - done);
        TERN_TRY(append(ctx, out, text + done, begin - done));
        TERN_TRY(append(ctx, out, s->text, s->text_size));
        done = end;
    }
}

/* Takes `code` from the end, at most `stop` times and not before `least`. */
static size_t strip_end(const struct tern_decode_step *s, const char *text, size_t size, size_t least)
{
    for (size_t i = 0; i < s->stop && size > least; i++) {
        size_t begin = size;

        if (tern_utf8_previous(text, &begin) != s->code)
            break;
        size = begin;
    }
    return size;
}

static size_t strip_start(const struct tern_decode_step *s, const char *text, size_t size, size_t *cut)
{
    size_t at = 0;

    while (*cut < s->start && at < size) {
        size_t next = at;

        if (tern_utf8_next(text, &next) != s->code) {
            *cut = SIZE_MAX;
            return at;
        }
        at = next;
        ++*cut;
    }
    return at;
}

/* The byte of "<0x41>", or -1. */
static int byte_of(const char *text, size_t size)
{
    int value = 0;

    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        const char c = text[i];
        const int letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;

        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (letter >= 0)
            value = value * 16 + letter;
        else if (!(i == 3 && c == '+')) /* the library's reader of numbers takes a sign */
            return -1;
    }
    return value;
}

static tern_status flush_bytes(tern_ctx *ctx, struct tern_decode_run *run, size_t index)
{
    struct tern_decode_buffer *held = &run->states[index].held;
    const size_t n = held->size;
    size_t bad;

    if (n == 0)
        return TERN_OK;
    held->size = 0;
    if (tern_utf8_check(held->text, n, &bad))
        return emit(ctx, run, index + 1, held->text, n, true);
    for (size_t i = 0; i < n; i++)
        TERN_TRY(emit(ctx, run, index + 1, "\xEF\xBF\xBD", 3, true));
    return TERN_OK;
}

/* A whole text has come to a step. */
static tern_status take_text(tern_ctx *ctx, struct tern_decode_run *run, size_t index, const char *text, size_t size)
{
    const struct tern_decode_step *s = &run->chain->steps[index];
    struct tern_decode_buffer *held = &run->states[index].held, *work = run->states[index].work;
    const struct tern_decode_buffer *result = &work[0];
    const bool first = run->states[index].count++ == 0;
    size_t cut = 0;

    work[0].size = 0;
    switch (s->kind) {
    case TERN_DECODE_STEP_BPE:
        if (!first) {
            TERN_TRY(append_replaced(ctx, &work[0], held->text, held->size, s->text, s->text_size, " ", 1));
            TERN_TRY(emit(ctx, run, index + 1, work[0].text, work[0].size, true));
        }
        held->size = 0;
        return append(ctx, held, text, size);
    case TERN_DECODE_STEP_BYTE_FALLBACK:
        if (byte_of(text, size) >= 0) {
            const char byte = (char)byte_of(text, size);
            return append(ctx, held, &byte, 1);
        }
        TERN_TRY(flush_bytes(ctx, run, index));
        return emit(ctx, run, index + 1, text, size, true);
    case TERN_DECODE_STEP_CTC:
        if (!first && held->size == size && (size == 0 || memcmp(held->text, text, size) == 0))
            return TERN_OK;
        held->size = 0;
        TERN_TRY(append(ctx, held, text, size));
        TERN_TRY(ctc(ctx, s, text, size, work, &result));
        return result->size > 0 ? emit(ctx, run, index + 1, result->text, result->size, true) : TERN_OK;
    case TERN_DECODE_STEP_METASPACE:
        TERN_TRY(metaspace(ctx, s, text, size, first, &work[0]));
        break;
    case TERN_DECODE_STEP_REPLACE:
        TERN_TRY(replace(ctx, s, &run->states[index].match, text, size, &work[0]));
        break;
    case TERN_DECODE_STEP_STRIP:
        cut = strip_start(s, text, size, &cut);
        return emit(ctx, run, index + 1, cut > 0 ? text + cut : text, strip_end(s, text, size, cut) - cut, true);
    case TERN_DECODE_STEP_WORDPIECE:
        TERN_TRY(word_piece(ctx, s, text, size, first, &work[0]));
        break;
    case TERN_DECODE_STEP_BYTE_LEVEL:
    case TERN_DECODE_STEP_FUSE:
        break;
    }
    return emit(ctx, run, index + 1, work[0].text, work[0].size, true);
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

/* The bytes of a whole text, and what of all bytes so far is certain goes on. */
static tern_status byte_level(tern_ctx *ctx, struct tern_decode_run *run, size_t index, const char *text, size_t size,
                              bool last)
{
    struct tern_decode_buffer *held = &run->states[index].held, *work = &run->states[index].work[0];
    size_t used, room;

    TERN_TRY(TERN_GROW(ctx, &held->text, &held->capacity, held->size + size + 1, "text"));
    if (size > 0)
        held->size += tern_byte_level_decode(text, size, held->text + held->size);
    TERN_REQUIRE(ctx, tern_size_mul(held->size, 3, &room), TERN_ERR_MEMORY, "out of memory: text");
    TERN_TRY(TERN_GROW(ctx, &work->text, &work->capacity, room + 1, "text"));
    const size_t n = tern_utf8_lossy(held->text, held->size, last, work->text, &used);
    if (used < held->size)
        memmove(held->text, held->text + used, held->size - used);
    held->size -= used;
    return emit(ctx, run, index + 1, work->text, n, last);
}

/* A part of a text comes to a step; behind the last step it is part of the whole. */
static tern_status emit(tern_ctx *ctx, struct tern_decode_run *run, size_t index, const char *text, size_t size,
                        bool ends)
{
    run->n_bytes += size;
    if (index == run->chain->n_steps)
        return append(ctx, &run->out, text, size);

    const struct tern_decode_step *s = &run->chain->steps[index];
    struct tern_decode_buffer *token = &run->states[index].token;
    if (s->kind == TERN_DECODE_STEP_FUSE)
        return size > 0 ? emit(ctx, run, index + 1, text, size, false) : TERN_OK;
    if (s->kind == TERN_DECODE_STEP_STRIP && s->stop == 0) {
        const size_t begin = strip_start(s, text, size, &run->states[index].cut);

        if (ends)
            run->states[index].cut = 0;
        return emit(ctx, run, index + 1, begin > 0 ? text + begin : text, size - begin, ends);
    }
    if (token->size > 0 || !ends) {
        TERN_TRY(append(ctx, token, text, size));
        if (!ends)
            return TERN_OK;
        text = token->text;
        size = token->size;
        token->size = 0; /* no step appends to it before it is done with the text */
    }
    return s->kind == TERN_DECODE_STEP_BYTE_LEVEL ? byte_level(ctx, run, index, text, size, false)
                                                  : take_text(ctx, run, index, text, size);
}

tern_status tern_decode_run_push(tern_ctx *ctx, struct tern_decode_run *run, const char *text, size_t size)
{
    return emit(ctx, run, 0, text, size, true);
}

tern_status tern_decode_run_finish(tern_ctx *ctx, struct tern_decode_run *run)
{
    for (size_t i = 0; i < run->chain->n_steps; i++) {
        const struct tern_decode_step *s = &run->chain->steps[i];
        struct tern_decode_buffer *held = &run->states[i].held, *work = &run->states[i].work[0];

        if (s->kind == TERN_DECODE_STEP_FUSE)
            TERN_TRY(emit(ctx, run, i + 1, "", 0, true));
        if (s->kind == TERN_DECODE_STEP_BYTE_LEVEL)
            TERN_TRY(byte_level(ctx, run, i, "", 0, true));
        if (s->kind == TERN_DECODE_STEP_BYTE_FALLBACK)
            TERN_TRY(flush_bytes(ctx, run, i));
        if (s->kind == TERN_DECODE_STEP_BPE && run->states[i].count > 0) {
            work->size = 0;
            TERN_TRY(append_replaced(ctx, work, held->text, held->size, s->text, s->text_size, "", 0));
            TERN_TRY(emit(ctx, run, i + 1, work->text, work->size, true));
        }
        held->size = 0;
        run->states[i].token.size = 0;
        run->states[i].count = run->states[i].cut = 0;
    }
    return TERN_OK;
}

tern_status tern_decode_alone(tern_ctx *ctx, struct tern_decode_run *run, const char *text, size_t size,
                              struct tern_decode_buffer *out)
{
    struct tern_decode_buffer *from = &run->states[0].token, *to = &run->states[0].held;

    from->size = 0;
    TERN_TRY(append(ctx, from, text, size));
    for (size_t i = 0; i < run->chain->n_steps; i++) {
        const struct tern_decode_step *s = &run->chain->steps[i];
        struct tern_decode_buffer *swap = from;

        to->size = 0;
        switch (s->kind) {
        case TERN_DECODE_STEP_BPE:
            TERN_TRY(append_replaced(ctx, to, from->text, from->size, s->text, s->text_size, " ", 1));
            break;
        case TERN_DECODE_STEP_BYTE_FALLBACK:
            if (byte_of(from->text, from->size) < 0)
                continue;
            const char byte = (char)byte_of(from->text, from->size);
            from->size = 0;
            return append(ctx, out, &byte, 1);
        case TERN_DECODE_STEP_BYTE_LEVEL:
            TERN_TRY(TERN_GROW(ctx, &to->text, &to->capacity, from->size, "text"));
            if (from->size > 0)
                to->size = tern_byte_level_decode(from->text, from->size, to->text);
            from->size = 0;
            return append(ctx, out, to->text, to->size);
        case TERN_DECODE_STEP_METASPACE:
            TERN_TRY(metaspace(ctx, s, from->text, from->size, false, to));
            break;
        case TERN_DECODE_STEP_REPLACE:
            TERN_TRY(replace(ctx, s, &run->states[i].match, from->text, from->size, to));
            break;
        case TERN_DECODE_STEP_WORDPIECE:
            TERN_TRY(word_piece(ctx, s, from->text, from->size, false, to));
            break;
        case TERN_DECODE_STEP_CTC:
        case TERN_DECODE_STEP_FUSE:
        case TERN_DECODE_STEP_STRIP:
            continue;
        }
        from = to;
        to = swap;
    }
    TERN_TRY(append(ctx, out, from->text, from->size));
    run->states[0].token.size = run->states[0].held.size = 0;
    return TERN_OK;
}
