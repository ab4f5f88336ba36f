/* decode.c: ids to text, all at once and as they come.
 *
 * Both ways put the tokens' bytes one behind the other and turn them into characters with tern_utf8_lossy().  A
 * stream keeps the beginning of a character that its bytes so far may still become, at most three bytes, so that all
 * pieces together are the text of the one call.  Its memory is made at the start, for the longest token: a push
 * allocates nothing. */
#include "text/text.h"

#include "base/memory.h"
#include "base/utf8.h"

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
};

tern_status tern_decoder_create(tern_ctx *ctx, const tern_tokenizer *tokenizer, bool skip_special, tern_decoder **out)
{
    struct tern_decoder *d = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "decoder_create: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, tokenizer, TERN_ERR_ARG, "decoder_create: tokenizer is NULL");

    const size_t room = KEPT_MAX + 1 + tokenizer->longest;
    TERN_TRY(TERN_ALLOC(ctx, 1, "a decoder", &d));
    d->t = tokenizer;
    d->skip_special = skip_special;
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
    tern_free(*decoder);
    *decoder = NULL;
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
    hand_out(decoder, decoder->n_kept, true, text, size);
    decoder->started = false;
    return TERN_OK;
}
