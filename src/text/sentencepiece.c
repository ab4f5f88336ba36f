/* sentencepiece.c: normalise, cut, and write down what comes out. */
#include "text/sentencepiece.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <string.h>

static const char space_symbol[] = "\xE2\x96\x81"; /* U+2581 */

void tern_sentencepiece_scratch_destroy(struct tern_sentencepiece_scratch *s)
{
    tern_free(s->text);
    tern_free(s->origins);
    tern_free(s->best);
    tern_free(s->scores);
    tern_free(s->symbols);
    tern_free(s->heap);
    tern_free(s->splits);
    *s = (struct tern_sentencepiece_scratch){ 0 };
}

void tern_sentencepiece_destroy(struct tern_sentencepiece *model)
{
    tern_names_destroy(&model->vocab);
    tern_free(model->pieces);
    tern_free(model->text);
    tern_trie_destroy(&model->trie);
    tern_trie_destroy(&model->user);
    tern_free(model->unk_surface);
    tern_charsmap_destroy(model->charsmap);
    *model = (struct tern_sentencepiece){ 0 };
}

size_t tern_sentencepiece_user_piece(const struct tern_sentencepiece *model, const char *text, size_t size)
{
    uint32_t node = TERN_TRIE_ROOT;
    size_t length = 0;

    if (!model->has_user)
        return 0;
    for (size_t i = 0; i < size && tern_trie_step(&model->user, &node, (unsigned char)text[i]); i++)
        if (model->user.nodes[node].value >= 0)
            length = i + 1;
    return length;
}

/* ---- normalising ------------------------------------------------------------------------------------------------- */

struct normalizing {
    tern_ctx *ctx;
    const struct tern_sentencepiece *model;
    struct tern_sentencepiece_scratch *s;
    bool wants_origins;
    const char *space;
    size_t space_size;
};

/* What the beginning of text[0..size) becomes; gives how much of it that is.  size > 0. */
static size_t replace_prefix(const struct tern_sentencepiece *model, const char *text, size_t size, const char **out,
                             size_t *out_size)
{
    size_t used = tern_sentencepiece_user_piece(model, text, size);

    if (used == 0 && model->charsmap) {
        *out = tern_charsmap_find(model->charsmap, text, size, true, &used, out_size);
        if (*out)
            return used;
        used = 0;
    }
    if (used == 0)
        tern_utf8_next(text, &used);
    *out = text;
    *out_size = used;
    return used;
}

static tern_status append(struct normalizing *n, const char *text, size_t size, size_t origin)
{
    struct tern_sentencepiece_scratch *s = n->s;

    TERN_TRY(TERN_GROW(n->ctx, &s->text, &s->text_capacity, s->size + size, "a normalised text"));
    memcpy(s->text + s->size, text, size);
    if (n->wants_origins) {
        TERN_TRY(TERN_GROW(n->ctx, &s->origins, &s->origins_capacity, s->size + size + 1, "places in a text"));
        for (size_t i = 0; i < size; i++)
            s->origins[s->size + i] = (uint32_t)origin;
    }
    s->size += size;
    return TERN_OK;
}

/* A replacement, with its spaces as the space symbol. */
static tern_status append_spaced(struct normalizing *n, const char *text, size_t size, size_t origin)
{
    for (size_t at = 0; at < size;) {
        const char *blank = memchr(text + at, ' ', size - at);
        const size_t plain = blank ? (size_t)(blank - text) - at : size - at;

        if (plain > 0)
            TERN_TRY(append(n, text + at, plain, origin));
        at += plain;
        if (blank) {
            TERN_TRY(append(n, n->space, n->space_size, origin));
            at++;
        }
    }
    return TERN_OK;
}

/* Takes the space symbols from the end; gives where the text that is left ended. */
static size_t drop_trailing(struct normalizing *n, size_t end)
{
    struct tern_sentencepiece_scratch *s = n->s;

    while (s->size >= n->space_size && memcmp(s->text + s->size - n->space_size, n->space, n->space_size) == 0) {
        s->size -= n->space_size;
        if (n->wants_origins)
            end = s->origins[s->size];
    }
    return end;
}

tern_status tern_sentencepiece_normalize(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                         struct tern_sentencepiece_scratch *s, const char *text, size_t size,
                                         bool wants_origins)
{
    struct normalizing n = { ctx, model, s, wants_origins, " ", 1 };
    const char *piece;
    size_t at = 0, length, used;
    bool after_space = model->remove_extra_whitespaces;

    if (model->escape_whitespaces) {
        n.space = space_symbol;
        n.space_size = sizeof space_symbol - 1;
    }
    s->size = 0;
    while (model->remove_extra_whitespaces && at < size) {
        used = replace_prefix(model, text + at, size - at, &piece, &length);
        if (length != 1 || piece[0] != ' ')
            break;
        at += used;
    }
    if (at == size)
        return TERN_OK;

    if (model->add_dummy_prefix && !model->treat_whitespace_as_suffix)
        TERN_TRY(append(&n, n.space, n.space_size, at));
    for (; at < size; at += used) {
        used = replace_prefix(model, text + at, size - at, &piece, &length);
        for (; after_space && length > 0 && piece[0] == ' '; length--)
            piece++;
        if (length > 0) {
            TERN_TRY(append_spaced(&n, piece, length, at));
            after_space = model->remove_extra_whitespaces && piece[length - 1] == ' ';
        }
    }
    if (model->remove_extra_whitespaces)
        at = drop_trailing(&n, at);
    if (model->add_dummy_prefix && model->treat_whitespace_as_suffix)
        TERN_TRY(append(&n, n.space, n.space_size, at));
    if (wants_origins) {
        TERN_TRY(TERN_GROW(ctx, &s->origins, &s->origins_capacity, s->size + 1, "places in a text"));
        s->origins[s->size] = (uint32_t)at;
    }
    return TERN_OK;
}

/* ---- pieces to tokens -------------------------------------------------------------------------------------------- */

struct writing {
    tern_ctx *ctx;
    const struct tern_sentencepiece *model;
    const struct tern_sentencepiece_scratch *s;
    struct tern_token_list *out;
    size_t at; /* in the normalised text */
    bool after_unknown;
};

static tern_status write_bytes(struct writing *w, size_t end, size_t from, size_t to)
{
    for (; w->at < end; w->at++)
        TERN_TRY(tern_token_list_push(w->ctx, w->out, w->model->byte_ids[(unsigned char)w->s->text[w->at]], from,
                                      w->at + 1 == end ? to : from));
    return TERN_OK;
}

static tern_status take_piece(void *user, size_t size, int32_t id)
{
    struct writing *w = user;
    const bool unknown = id < 0 || id == w->model->unk_id;
    const size_t end = w->at + size;
    size_t from = 0, to = 0;

    if (w->out->wants_spans) {
        from = w->s->origins[w->at];
        to = w->s->origins[end];
    }
    if (unknown && w->model->byte_fallback) {
        TERN_TRY(write_bytes(w, end, from, to));
    } else if (unknown && w->after_unknown) {
        if (w->out->wants_spans)
            w->out->spans[w->out->ids.count - 1].end = (uint32_t)to;
    } else {
        TERN_TRY(tern_token_list_push(w->ctx, w->out, id, from, to));
    }
    w->at = end;
    w->after_unknown = unknown;
    return TERN_OK;
}

tern_status tern_sentencepiece_encode(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                      struct tern_sentencepiece_scratch *s, const char *text, size_t size,
                                      struct tern_token_list *out)
{
    struct writing w = { .ctx = ctx, .model = model, .s = s, .out = out };

    TERN_REQUIRE(ctx, size < UINT32_MAX / 4, TERN_ERR_CAPACITY, "a text of %zu bytes, at most %" PRIu32, size,
                 UINT32_MAX / 4);
    TERN_TRY(tern_sentencepiece_normalize(ctx, model, s, text, size, out->wants_spans));
    if (s->size == 0)
        return TERN_OK;
    TERN_REQUIRE(ctx, s->size < UINT32_MAX / 2, TERN_ERR_CAPACITY, "a normalised text of %zu bytes, at most %" PRIu32,
                 s->size, UINT32_MAX / 2);
    return model->is_bpe ? tern_sentencepiece_bpe(ctx, model, s, take_piece, &w)
                         : tern_sentencepiece_unigram(ctx, model, s, take_piece, &w);
}
