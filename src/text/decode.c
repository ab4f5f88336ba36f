/* decode.c: ids to text, all at once and as they come.
 *
 * A chain of decoders (decode_chain.h) does both ways the same.  Without one, or with ByteLevel alone, both put the
 * tokens' bytes one behind the other and turn them into characters with tern_utf8_lossy().  A
 * stream keeps the beginning of a character that its bytes so far may still become, at most three bytes, so that all
 * pieces together are the text of the one call.  Its memory is made at the start, for the longest token: a push
 * allocates nothing. */
#include "text/text.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/sentencepiece_decode.h"

#include <string.h>

#define KEPT_MAX (TERN_UTF8_MAX - 1)

void tern_text_free(char *text)
{
    tern_free(text);
}

/* The token of an id: *token is NULL if it adds nothing (no token has this id, or it is special and these are left
 * out). */
static tern_status look_up(tern_ctx *ctx, const struct tern_tokenizer *t, int32_t id, bool skip_special,
                           const struct tern_token **token)
{
    TERN_REQUIRE(ctx, id >= 0 && (size_t)id < t->n_tokens, TERN_ERR_ARG, "token id %d, the vocabulary ends at %zu", id,
                 t->n_tokens);
    *token = &t->tokens[id];
    if (!(*token)->used || (skip_special && (*token)->special))
        *token = NULL;
    return TERN_OK;
}

/* With a chain. */
static tern_status decode_chain(tern_ctx *ctx, const struct tern_tokenizer *t, const int32_t *ids, size_t n_ids,
                                bool skip_special, char **text, size_t *size)
{
    struct tern_decode_run run = { .chain = &t->chain };
    tern_status status;

    for (size_t i = 0; i < n_ids; i++) {
        const struct tern_token *token = NULL;

        TERN_TRY_OR_FAIL(look_up(ctx, t, ids[i], skip_special, &token));
        if (token)
            TERN_TRY_OR_FAIL(tern_decode_run_push(ctx, &run, t->bytes + token->begin, token->size));
    }
    TERN_TRY_OR_FAIL(tern_decode_run_finish(ctx, &run));
    TERN_TRY_OR_FAIL(TERN_GROW(ctx, &run.out.text, &run.out.capacity, run.out.size + 1, "text"));
    run.out.text[run.out.size] = 0;
    *text = run.out.text;
    if (size)
        *size = run.out.size;
    run.out.text = NULL;
    status = TERN_OK;

fail:
    tern_decode_run_destroy(&run);
    return status;
}

/* With a SentencePiece model, whose pieces have rules of their own. */
static tern_status decode_pieces(tern_ctx *ctx, const struct tern_tokenizer *t, const int32_t *ids, size_t n_ids,
                                 char **text, size_t *size)
{
    const struct tern_sentencepiece *model = &t->model.sentencepiece;
    const size_t room = tern_sentencepiece_decode_room(model);
    struct tern_piece_decoding state = { 0 };
    const struct tern_token *token;
    size_t n = 0, capacity = 0;
    char *out = NULL;
    tern_status status;

    for (size_t i = 0; i < n_ids; i++) {
        TERN_TRY_OR_FAIL(look_up(ctx, t, ids[i], false, &token));
        TERN_TRY_OR_FAIL(TERN_GROW(ctx, &out, &capacity, n + room, "text"));
        n += tern_sentencepiece_decode_next(model, &state, ids[i], out + n);
    }
    TERN_TRY_OR_FAIL(TERN_GROW(ctx, &out, &capacity, n + room + 1, "text"));
    n += tern_sentencepiece_decode_end(&state, out + n);
    out[n] = 0;
    *text = out;
    if (size)
        *size = n;
    return TERN_OK;

fail:
    tern_free(out);
    return status;
}

tern_status tern_tokenizer_decode(tern_ctx *ctx, const tern_tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                                  bool skip_special, char **text, size_t *size)
{
    char *bytes = NULL, *out = NULL;
    size_t n = 0, used, written, room;
    const struct tern_token *token;
    bool first = true;
    tern_status status;

    TERN_REQUIRE(ctx, text, TERN_ERR_ARG, "tokenizer_decode: text is NULL");
    *text = NULL;
    TERN_REQUIRE(ctx, tokenizer && (ids || n_ids == 0), TERN_ERR_ARG, "tokenizer_decode: tokenizer or ids is NULL");
    if (tokenizer->decoder == TERN_DECODE_SENTENCEPIECE)
        return decode_pieces(ctx, tokenizer, ids, n_ids, text, size);
    if (tokenizer->decoder == TERN_DECODE_CHAIN)
        return decode_chain(ctx, tokenizer, ids, n_ids, skip_special, text, size);

    for (size_t i = 0; i < n_ids; i++) {
        TERN_TRY(look_up(ctx, tokenizer, ids[i], skip_special, &token));
        TERN_REQUIRE(ctx, !token || tern_size_add(n, (size_t)token->size + 1, &n), TERN_ERR_MEMORY,
                     "out of memory: the text of %zu tokens", n_ids);
    }
    TERN_REQUIRE(ctx, tern_size_mul(n, 3, &room) && tern_size_add(room, 1, &room), TERN_ERR_MEMORY,
                 "out of memory: the text of %zu tokens", n_ids);
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "the bytes of tokens", &bytes));
    n = 0;
    for (size_t i = 0; i < n_ids; i++) {
        TERN_TRY_OR_FAIL(look_up(ctx, tokenizer, ids[i], skip_special, &token));
        if (!token)
            continue;
        if (!first && tokenizer->decoder == TERN_DECODE_SPACES)
            bytes[n++] = ' ';
        memcpy(bytes + n, tokenizer->bytes + token->begin, token->size);
        n += token->size;
        first = false;
    }
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, room, "text", &out));
    written = tern_utf8_lossy(bytes, n, true, out, &used);
    out[written] = 0;
    tern_free(bytes);
    *text = out;
    if (size)
        *size = written;
    return TERN_OK;

fail:
    tern_free(bytes);
    tern_free(out);
    return status;
}

struct tern_decoder {
    const struct tern_tokenizer *t;
    bool skip_special;
    bool started; /* a token has come */
    char *bytes;  /* the kept ones, a space, the longest token */
    size_t n_kept;
    char *text;
    struct tern_piece_decoding pieces; /* of a SentencePiece model */
    struct tern_decode_run run;        /* of a chain, which needs none of the memory above */
};

tern_status tern_decoder_create(tern_ctx *ctx, const tern_tokenizer *tokenizer, bool skip_special, tern_decoder **out)
{
    struct tern_decoder *d = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "decoder_create: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, tokenizer, TERN_ERR_ARG, "decoder_create: tokenizer is NULL");

    size_t room = KEPT_MAX + 1 + tokenizer->longest;
    if (tokenizer->decoder == TERN_DECODE_SENTENCEPIECE)
        room += tern_sentencepiece_decode_room(&tokenizer->model.sentencepiece);
    TERN_TRY(TERN_ALLOC(ctx, 1, "a decoder", &d));
    d->t = tokenizer;
    d->skip_special = skip_special;
    d->run.chain = &tokenizer->chain;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, room, "a decoder", &d->bytes));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, 3 * room + 1, "a decoder", &d->text));
    *out = d;
    return TERN_OK;

fail:
    tern_decoder_destroy(&d);
    return status;
}

void tern_decoder_destroy(tern_decoder **decoder)
{
    if (!decoder || !*decoder)
        return;
    tern_free((*decoder)->bytes);
    tern_free((*decoder)->text);
    tern_decode_run_destroy(&(*decoder)->run);
    tern_free(*decoder);
    *decoder = NULL;
}

/* Hands out what has become certain with a chain. */
static tern_status hand_out_chain(tern_ctx *ctx, struct tern_decoder *d, const char **text, size_t *size)
{
    struct tern_decode_buffer *out = &d->run.out;

    TERN_TRY(TERN_GROW(ctx, &out->text, &out->capacity, out->size + 1, "text"));
    out->text[out->size] = 0;
    *text = out->text;
    if (size)
        *size = out->size;
    return TERN_OK;
}

/* Hands out text[0..n). */
static void hand_out_pieces(struct tern_decoder *d, size_t n, const char **text, size_t *size)
{
    d->text[n] = 0;
    *text = d->text;
    if (size)
        *size = n;
}

/* Hands out what of bytes[0..n) is certain and keeps the rest. */
static void hand_out(struct tern_decoder *d, size_t n, bool last, const char **text, size_t *size)
{
    size_t used;
    const size_t written = tern_utf8_lossy(d->bytes, n, last, d->text, &used);

    memmove(d->bytes, d->bytes + used, n - used);
    d->n_kept = n - used;
    d->text[written] = 0;
    *text = d->text;
    if (size)
        *size = written;
}

tern_status tern_decoder_push(tern_ctx *ctx, tern_decoder *decoder, int32_t id, const char **text, size_t *size)
{
    const struct tern_token *token;

    TERN_REQUIRE(ctx, decoder && text, TERN_ERR_ARG, "decoder_push: decoder or text is NULL");
    TERN_TRY(look_up(ctx, decoder->t, id, decoder->skip_special, &token));

    if (decoder->t->decoder == TERN_DECODE_SENTENCEPIECE) {
        hand_out_pieces(
            decoder,
            tern_sentencepiece_decode_next(&decoder->t->model.sentencepiece, &decoder->pieces, id, decoder->text), text,
            size);
        return TERN_OK;
    }
    if (decoder->t->decoder == TERN_DECODE_CHAIN) {
        decoder->run.out.size = 0;
        if (token)
            TERN_TRY(tern_decode_run_push(ctx, &decoder->run, decoder->t->bytes + token->begin, token->size));
        return hand_out_chain(ctx, decoder, text, size);
    }

    size_t n = decoder->n_kept;
    if (token) {
        if (decoder->started && decoder->t->decoder == TERN_DECODE_SPACES)
            decoder->bytes[n++] = ' ';
        memcpy(decoder->bytes + n, decoder->t->bytes + token->begin, token->size);
        n += token->size;
        decoder->started = true;
    }
    hand_out(decoder, n, false, text, size);
    return TERN_OK;
}

tern_status tern_decoder_finish(tern_ctx *ctx, tern_decoder *decoder, const char **text, size_t *size)
{
    TERN_REQUIRE(ctx, decoder && text, TERN_ERR_ARG, "decoder_finish: decoder or text is NULL");
    if (decoder->t->decoder == TERN_DECODE_SENTENCEPIECE) {
        hand_out_pieces(decoder, tern_sentencepiece_decode_end(&decoder->pieces, decoder->text), text, size);
        return TERN_OK;
    }
    if (decoder->t->decoder == TERN_DECODE_CHAIN) {
        decoder->run.out.size = 0;
        TERN_TRY(tern_decode_run_finish(ctx, &decoder->run));
        return hand_out_chain(ctx, decoder, text, size);
    }
    hand_out(decoder, decoder->n_kept, true, text, size);
    decoder->started = false;
    return TERN_OK;
}
