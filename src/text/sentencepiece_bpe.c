/* sentencepiece_bpe.c: neighbours whose text together is a piece are joined, highest score first, leftmost first.
 *
 * A heap of pairs over a doubly linked list of symbols, as in bpe.c: a pair whose symbols have changed since is dropped
 * when it comes up.  An entry is a score and the left symbol's place; it is good if what stands there now has that score,
 * since a pair that came to stand there has an entry of its own, equal to it.  What is joined to a piece that is not used is taken apart again at the end, the way it was joined.
 *
 * Where no piece has a space behind another character, nothing is ever joined across such a place: there a text is cut
 * into words first, whose heaps are small and stay in the cache.  Not where pieces are unused: how one is taken apart
 * depends on what was joined last in all of the text. */
#include "base/memory.h"
#include "base/utf8.h"
#include "text/sentencepiece.h"

#include <string.h>

#define END UINT32_MAX
static const char space_symbol[] = "\xE2\x96\x81"; /* U+2581 */
#define SPACE_SIZE (sizeof space_symbol - 1)

#define EXACT_FROM (1U << 20) /* symbols from which on room is made for no more than there can be */

#define DEPTH_MAX 100 /* the library's: what is joined of more is left whole */

struct joining {
    tern_ctx *ctx;
    const struct tern_sentencepiece *model;
    struct tern_sentencepiece_scratch *s;
    size_t n_heap;
    tern_piece_fn *fn;
    void *user;
};

/* Lower keys come first: higher scores (by their bits, in floats' total order), then lower places. */
static uint64_t key_of(float score, uint32_t left)
{
    uint32_t bits;

    memcpy(&bits, &score, sizeof bits);
    bits = bits & 0x80000000U ? ~bits : bits | 0x80000000U;
    return (uint64_t)~bits << 32 | left;
}

static bool is_reserved(const struct tern_sentencepiece *model, int32_t id)
{
    const enum tern_piece_type type = model->pieces[id].type;

    return type != TERN_PIECE_NORMAL && type != TERN_PIECE_USER && type != TERN_PIECE_UNUSED;
}

/* The piece of text[0..size), or -1; reserved ones are none. */
static int32_t find(const struct joining *j, const char *text, size_t size)
{
    const int32_t id = size <= j->model->longest ? tern_names_find(&j->model->vocab, text, size) : -1;

    return id >= 0 && !is_reserved(j->model, id) ? id : -1;
}

static tern_status push(struct joining *j, uint64_t key)
{
    struct tern_sentencepiece_scratch *s = j->s;

    TERN_TRY(TERN_GROW(j->ctx, &s->heap, &s->heap_capacity, j->n_heap + 1, "pairs of pieces"));
    size_t i = j->n_heap++;
    for (; i > 0 && s->heap[(i - 1) / 2] > key; i = (i - 1) / 2) {
        s->steps++;
        s->heap[i] = s->heap[(i - 1) / 2];
    }
    s->heap[i] = key;
    return TERN_OK;
}

static uint64_t pop(struct joining *j)
{
    uint64_t *heap = j->s->heap;
    const uint64_t top = heap[0], last = heap[--j->n_heap];
    size_t i = 0;

    for (size_t child; (child = 2 * i + 1) < j->n_heap; i = child) {
        j->s->steps++;
        if (child + 1 < j->n_heap && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* The piece that a symbol and the one behind it are together, or -1. */
static int32_t pair_at(struct joining *j, uint32_t left)
{
    const struct tern_piece_symbol *a = &j->s->symbols[left], *b = &j->s->symbols[a->next];

    j->s->steps++;
    return a->frozen || b->frozen ? -1 : find(j, j->s->text + a->begin, (size_t)a->size + b->size);
}

/* The pair that begins at a symbol, if its text is a piece. */
static tern_status consider(struct joining *j, uint32_t left)
{
    if (left == END || j->s->symbols[left].next == END)
        return TERN_OK;
    const int32_t id = pair_at(j, left);
    if (id < 0)
        return TERN_OK;
    if (j->model->pieces[id].type == TERN_PIECE_UNUSED)
        j->s->splits[id] = j->s->symbols[left].size;
    return push(j, key_of(j->model->pieces[id].score, left));
}

/* The symbols of a word: from *at on to where the next one begins, or of all that is left; moves *at. */
static tern_status make_symbols(struct joining *j, size_t *word, uint32_t *count)
{
    struct tern_sentencepiece_scratch *s = j->s;
    bool spaces = true; /* nothing else has come */
    uint32_t n = 0;
    size_t at;

    for (at = *word; at < s->size;) {
        const size_t begin = at;
        const size_t user = tern_sentencepiece_user_piece(j->model, s->text + at, s->size - at);
        const bool space = s->size - at >= SPACE_SIZE && memcmp(s->text + at, space_symbol, SPACE_SIZE) == 0;

        if (j->model->has_words && space && !spaces)
            break;
        spaces = spaces && space && user <= SPACE_SIZE;

        if (user > 0)
            at += user;
        else
            tern_utf8_next(s->text, &at);
        TERN_TRY(TERN_GROW(j->ctx, &s->symbols, &s->symbols_capacity,
                           n < EXACT_FROM ? (size_t)n + 1 : n + (s->size - begin), "symbols of a text"));
        s->symbols[n] = (struct tern_piece_symbol){ .begin = (uint32_t)begin,
                                                    .size = (uint32_t)(at - begin) & INT32_MAX,
                                                    .frozen = user > 0,
                                                    .previous = n > 0 ? n - 1 : END,
                                                    .next = n + 1 };
        n++;
    }
    s->symbols[n - 1].next = END;
    *word = at;
    *count = n;
    return TERN_OK;
}

static tern_status join(struct joining *j)
{
    struct tern_piece_symbol *symbols = j->s->symbols;

    while (j->n_heap > 0) {
        const uint64_t top = pop(j);
        const uint32_t left = (uint32_t)top, right = symbols[left].next;
        int32_t id;

        if (symbols[left].size == 0 || right == END)
            continue;
        if ((id = pair_at(j, left)) < 0 || key_of(j->model->pieces[id].score, left) != top)
            continue;
        symbols[left].size += symbols[right].size;
        symbols[left].next = symbols[right].next;
        if (symbols[right].next != END)
            symbols[symbols[right].next].previous = left;
        symbols[right].size = 0;
        TERN_TRY(consider(j, symbols[left].previous));
        TERN_TRY(consider(j, left));
    }
    return TERN_OK;
}

/* One symbol as pieces that are in use. */
static tern_status take_apart(struct joining *j, size_t begin, size_t size, int depth)
{
    const int32_t id = find(j, j->s->text + begin, size);

    if (id >= 0 && j->model->pieces[id].type == TERN_PIECE_UNUSED && depth <= DEPTH_MAX) {
        const size_t left = j->s->splits[id];

        if (left == 0)
            return j->fn(j->user, size, j->model->unk_id);
        TERN_TRY(take_apart(j, begin, left, depth + 1));
        return take_apart(j, begin + left, size - left, depth + 1);
    }
    return j->fn(j->user, size, id >= 0 ? id : j->model->unk_id);
}

tern_status tern_sentencepiece_bpe(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                   struct tern_sentencepiece_scratch *s, tern_piece_fn *fn, void *user)
{
    struct joining j = { ctx, model, s, 0, fn, user };
    uint32_t n;

    if (model->has_unused) {
        TERN_TRY(TERN_GROW(ctx, &s->splits, &s->splits_capacity, model->n_pieces, "parts of unused pieces"));
        memset(s->splits, 0, model->n_pieces * sizeof *s->splits);
    }
    for (size_t at = 0; at < s->size;) {
        TERN_TRY(make_symbols(&j, &at, &n));
        TERN_TRY(TERN_GROW(ctx, &s->heap, &s->heap_capacity, n, "pairs of pieces"));
        for (uint32_t i = 0; i + 1 < n; i++)
            TERN_TRY(consider(&j, i));
        TERN_TRY(join(&j));
        for (uint32_t i = 0; i != END; i = s->symbols[i].next)
            TERN_TRY(take_apart(&j, s->symbols[i].begin, s->symbols[i].size, 0));
    }
    return TERN_OK;
}
