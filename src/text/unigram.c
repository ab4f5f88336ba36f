/* unigram.c: the best way to every place in a word, from left to right, then back along it.
 *
 * A place knows the last token of the best way there and nothing else: the token's size says where it began.  Scores are
 * needed only as far ahead as a token reaches, and so kept in a ring; that makes 4 bytes a byte of text. */
#include "text/unigram.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

#define UNKNOWN     (-1)      /* one character that is no token */
#define UNREACHED   INT32_MIN /* no way here yet */
#define UNK_PENALTY 10.0

void tern_unigram_scratch_destroy(struct tern_unigram_scratch *scratch)
{
    tern_free(scratch->best);
    tern_free(scratch->scores);
    *scratch = (struct tern_unigram_scratch){ 0 };
}

tern_status tern_unigram_create(tern_ctx *ctx, struct tern_unigram *model, size_t n, size_t bytes)
{
    TERN_TRY(tern_names_create(ctx, n, bytes, "the vocabulary", &model->vocab));
    TERN_TRY(TERN_ALLOC(ctx, n, "the scores of tokens", &model->scores));
    TERN_TRY(TERN_ALLOC(ctx, n, "the sizes of tokens", &model->sizes));
    model->n_tokens = n;
    model->unk_id = -1;
    return TERN_OK;
}

void tern_unigram_put(struct tern_unigram *model, int32_t id, const char *text, size_t size, double score)
{
    tern_names_put_behind(&model->vocab, text, size, id);
    model->scores[id] = score;
    model->sizes[id] = (uint32_t)size;
}

tern_status tern_unigram_finish(tern_ctx *ctx, struct tern_unigram *model)
{
    double lowest = INFINITY;

    for (size_t i = 0; i < model->n_tokens; i++)
        lowest = model->scores[i] < lowest ? model->scores[i] : lowest;
    model->unk_score = lowest - UNK_PENALTY;
    tern_names_find_bytes(&model->vocab, model->byte_ids);
    return tern_names_trie(ctx, &model->vocab, &model->trie);
}

void tern_unigram_destroy(struct tern_unigram *model)
{
    tern_names_destroy(&model->vocab);
    tern_trie_destroy(&model->trie);
    tern_free(model->scores);
    tern_free(model->sizes);
    *model = (struct tern_unigram){ 0 };
}

/* Bytes of the character that begins with `lead`. */
static size_t char_size(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* A way to `end` with this last token: taken if it is the first or a better one. */
static bool take(struct tern_unigram_scratch *s, size_t ring, size_t end, double score)
{
    double *there = &s->scores[end & ring];

    if (s->best[end] != UNREACHED && !(score > *there))
        return false;
    *there = score;
    return true;
}

/* The last token of the best way to every place. */
static tern_status search(tern_ctx *ctx, const struct tern_unigram *model, struct tern_unigram_scratch *s, size_t ring,
                          const char *word, size_t size)
{
    for (size_t at = 0, length; at < size; at += length) {
        const double here = s->scores[at & ring];
        uint32_t node = TERN_TRIE_ROOT;
        bool alone = false; /* the character is a token */

        length = char_size((unsigned char)word[at]);
        for (size_t end = at; end < size && tern_trie_step(&model->trie, &node, (unsigned char)word[end]);) {
            const int32_t id = model->trie.nodes[node].value;

            end++;
            s->steps++;
            if (id < 0)
                continue;
            if (take(s, ring, end, model->scores[id] + here))
                s->best[end] = id;
            alone = alone || end == at + length;
        }
        if (!alone && take(s, ring, at + length, model->unk_score + here)) {
            TERN_REQUIRE(ctx, model->unk_id >= 0, TERN_ERR_FORMAT,
                         "the text needs an unknown token for '%.*s', and the vocabulary of %zu tokens names none",
                         (int)length, word + at, model->n_tokens);
            s->best[at + length] = UNKNOWN;
        }
    }
    return TERN_OK;
}

/* From the last tokens of ends to the tokens that begin at a place, along the best way. */
static void turn_round(const struct tern_unigram *model, int32_t *best, const char *word, size_t size)
{
    int32_t id = best[size];

    for (size_t at = size; at > 0;) {
        if (id == UNKNOWN)
            while (((unsigned char)word[--at] & 0xC0) == 0x80) {
            }
        else
            at -= model->sizes[id];

        const int32_t before = best[at];
        best[at] = id;
        id = before;
    }
}

static tern_status push_unknown(tern_ctx *ctx, const struct tern_unigram *model, const char *word, size_t begin,
                                size_t end, struct tern_token_list *out)
{
    const int32_t id = tern_names_find(&model->vocab, word + begin, end - begin);
    bool bytes = model->byte_fallback && id < 0;

    for (size_t i = begin; i < end && bytes; i++)
        bytes = model->byte_ids[(unsigned char)word[i]] >= 0;
    if (!bytes)
        return tern_token_list_push(ctx, out, id >= 0 ? id : model->unk_id, begin, end);
    for (size_t i = begin; i < end; i++)
        TERN_TRY(tern_token_list_push(ctx, out, model->byte_ids[(unsigned char)word[i]], begin, end));
    return TERN_OK;
}

tern_status tern_unigram_encode(tern_ctx *ctx, const struct tern_unigram *model, struct tern_unigram_scratch *s,
                                const char *word, size_t size, struct tern_token_list *out)
{
    size_t ring = 8;

    while (ring <= model->trie.longest)
        ring *= 2;
    TERN_TRY(TERN_GROW(ctx, &s->best, &s->best_capacity, size + 1, "the best way through a word"));
    TERN_TRY(TERN_GROW(ctx, &s->scores, &s->scores_capacity, ring, "scores"));
    for (size_t i = 0; i <= size; i++)
        s->best[i] = UNREACHED;
    s->scores[0] = 0;
    TERN_TRY(search(ctx, model, s, ring - 1, word, size));
    turn_round(model, s->best, word, size);

    for (size_t at = 0; at < size;) {
        const size_t begin = at;
        const int32_t id = s->best[at];

        if (id != UNKNOWN && id != model->unk_id) {
            at += model->sizes[id];
            TERN_TRY(tern_token_list_push(ctx, out, id, begin, at));
            continue;
        }
        while (at < size && (s->best[at] == UNKNOWN || s->best[at] == model->unk_id))
            at += s->best[at] == UNKNOWN ? char_size((unsigned char)word[at]) : model->sizes[model->unk_id];
        TERN_TRY(push_unknown(ctx, model, word, begin, at, out));
    }
    return TERN_OK;
}
