/* sentencepiece_unigram.c: the best way through a normalised text, as in unigram.c, but in floats and with the
 * library's rules: unused pieces are passed over, the user's have a score of their length, and scores are moved towards
 * zero when they get so large that floats would lose the differences. */
#include "base/memory.h"
#include "text/sentencepiece.h"

#include <math.h>

#define UNKNOWN   (-1)
#define UNREACHED INT32_MIN
#define SCORE_MAX 100000.0F

struct search {
    const struct tern_sentencepiece *model;
    struct tern_sentencepiece_scratch *s;
    size_t ring;  /* the ring's size less 1 */
    size_t front; /* the last place that was reached */
};

static size_t char_size(unsigned char lead)
{
    return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

static void take(struct search *w, size_t end, float score, int32_t id)
{
    float *there = &w->s->scores[end & w->ring];

    w->front = end > w->front ? end : w->front;
    if (w->s->best[end] != UNREACHED && !(score > *there))
        return;
    *there = score;
    w->s->best[end] = id;
}

/* The score of the best way to `at`, after it was moved to zero if it is large. */
static float score_here(struct search *w, size_t at)
{
    float *scores = w->s->scores;
    const float here = scores[at & w->ring];

    if (!(here < -SCORE_MAX) && !(here > SCORE_MAX))
        return here;
    for (size_t i = at; i <= w->front; i++)
        if (i == at || w->s->best[i] != UNREACHED)
            scores[i & w->ring] -= here;
    return 0;
}

static void search(struct search *w)
{
    const struct tern_sentencepiece *model = w->model;
    const char *text = w->s->text;
    const size_t size = w->s->size;

    for (size_t at = 0, length; at < size; at += length) {
        const float here = score_here(w, at);
        uint32_t node = TERN_TRIE_ROOT;
        bool alone = false;

        length = char_size((unsigned char)text[at]);
        for (size_t end = at; end < size && tern_trie_step(&model->trie, &node, (unsigned char)text[end]);) {
            const int32_t id = model->trie.nodes[node].value;

            end++;
            w->s->steps++;
            if (id < 0 || model->pieces[id].type == TERN_PIECE_UNUSED)
                continue;
            const float score = model->pieces[id].type == TERN_PIECE_USER ? (float)(0.1 * (double)(end - at - 1))
                                                                          : model->pieces[id].score;
            take(w, end, score + here, id);
            alone = alone || end == at + length;
        }
        if (!alone)
            take(w, at + length, model->unk_score + here, UNKNOWN);
    }
}

tern_status tern_sentencepiece_unigram(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                       struct tern_sentencepiece_scratch *s, tern_piece_fn *fn, void *user)
{
    struct search w = { .model = model, .s = s };
    const size_t size = s->size;
    size_t ring = 8;

    while (ring <= model->trie.longest)
        ring *= 2;
    TERN_TRY(TERN_GROW(ctx, &s->best, &s->best_capacity, size + 1, "the best way through a text"));
    TERN_TRY(TERN_GROW(ctx, &s->scores, &s->scores_capacity, ring, "scores"));
    for (size_t i = 0; i <= size; i++)
        s->best[i] = UNREACHED;
    s->scores[0] = 0;
    w.ring = ring - 1;
    search(&w);

    int32_t id = s->best[size];
    for (size_t at = size; at > 0;) { /* from ends to beginnings, along the best way */
        if (id == UNKNOWN)
            while (((unsigned char)s->text[--at] & 0xC0) == 0x80) {
            }
        else
            at -= model->pieces[id].size;

        const int32_t before = s->best[at];
        s->best[at] = id;
        id = before;
    }
    for (size_t at = 0, length; at < size; at += length) {
        id = s->best[at];
        length = id == UNKNOWN ? char_size((unsigned char)s->text[at]) : model->pieces[id].size;
        TERN_TRY(fn(user, length, id == UNKNOWN ? model->unk_id : id));
    }
    return TERN_OK;
}
