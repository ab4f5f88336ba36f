/* use_tokenizer.h: what a tokenizer that opened must be able to do, whatever was in its files. */
#ifndef TERN_FUZZ_USE_TOKENIZER_H
#define TERN_FUZZ_USE_TOKENIZER_H

#include "base/ctx.h"
#include "base/utf8.h"

#include <tern/tokenizer.h>

#include <stdlib.h>
#include <string.h>

/* Offsets and limits: the ids of one text without limits are those that come alone, and two texts stay in bounds. */
static inline void use_with(const tern_tokenizer *t, const char *text, size_t size, const tern_ids *ids)
{
    tern_ctx ctx = { 0 };
    tern_encode_options options = { .add_special = true };
    tern_encoding e = { 0 };
    size_t characters = 0;

    if (tern_tokenizer_encode_with(&ctx, t, text, size, &options, &e) != TERN_OK || e.count != ids->count ||
        (e.count > 0 && memcmp(e.ids, ids->data, e.count * sizeof *e.ids) != 0))
        abort();
    for (size_t at = 0; at < size; characters++)
        tern_utf8_next(text, &at);
    options.pair = text;
    options.pair_size = size;
    options.apply_limits = true;
    if (tern_tokenizer_encode_with(&ctx, t, text, size, &options, &e) == TERN_OK) {
        for (size_t i = 0; i < e.count; i++)
            if (e.attention[i] > 1 || (e.offsets[i].begin < characters && e.offsets[i].end > size))
                abort();
    } else if (!tern_error(&ctx)[0]) {
        abort();
    }
    tern_encoding_free(&e);
}

/* All that can be done with a tokenizer and a text. */
static inline void use_tokenizer(const tern_tokenizer *t, const char *text, size_t size)
{
    tern_ctx ctx = { 0 };
    tern_ids ids = { 0 };
    tern_decoder *decoder;
    char *decoded;
    const char *piece;
    size_t decoded_size, piece_size, used = 0;

    if (tern_tokenizer_encode(&ctx, t, text, size, true, &ids) != TERN_OK) {
        if (!tern_error(&ctx)[0])
            abort();
        return;
    }
    use_with(t, text, size, &ids);
    const tern_status decodes = tern_tokenizer_decode(&ctx, t, ids.data, ids.count, false, &decoded, &decoded_size);
    if (decodes == TERN_ERR_CAPACITY) { /* a decoder's pattern has its limit, too */
        tern_ids_free(&ids);
        return;
    }
    if (decodes != TERN_OK || tern_decoder_create(&ctx, t, false, &decoder) != TERN_OK)
        abort();
    for (size_t i = 0; i <= ids.count; i++) {
        const tern_status status = i < ids.count ? tern_decoder_push(&ctx, decoder, ids.data[i], &piece, &piece_size)
                                                 : tern_decoder_finish(&ctx, decoder, &piece, &piece_size);
        size_t bad;

        if (status != TERN_OK || !tern_utf8_check(piece, piece_size, &bad) || used + piece_size > decoded_size ||
            memcmp(decoded + used, piece, piece_size) != 0)
            abort();
        used += piece_size;
    }
    if (used != decoded_size)
        abort();
    tern_decoder_destroy(&decoder);
    tern_text_free(decoded);
    tern_ids_free(&ids);
}

#endif
