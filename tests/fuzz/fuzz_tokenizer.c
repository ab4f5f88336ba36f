/* fuzz_tokenizer.c: any bytes as a tokenizer.json, and any bytes as a text.
 *
 * A file that opens must encode and decode; an error has a text.  As a text, the bytes go through a small tokenizer
 * with every component: what is UTF-8 has ids, these decode, and a stream of them gives the same text in whole
 * characters. */
#include "text/text.h"
#include "base/utf8.h"

#include <tern/tokenizer.h>

#include <stdlib.h>
#include <string.h>

static const char fixed[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":true,"
    "\"normalized\":false,"
    "\"special\":true},{\"id\":0,\"content\":\"aB\",\"single_word\":true,\"lstrip\":false,\"rstrip\":true,"
    "\"normalized\":true,"
    "\"special\":false}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":"
    "\"Lowercase\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\w+|"
    "\\\\s\"},"
    "\"behavior\":\"MergedWithNext\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_"
    "offsets\":true,"
    "\"use_regex\":true}]},\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true},"
    "\"model\":{\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1,\"b\":2,\"ab\":3,\"\\u0120\":4,\"\\u0120a\":5,"
    "\"\\u00c3\":6,"
    "\"\\u00c3\\u00a9\":7,\"\\u00a9\":8,\"aa\":9,\"aaaa\":10},\"merges\":[\"a b\",\"\\u0120 a\",\"\\u00c3 "
    "\\u00a9\",\"a a\",\"aa aa\"]}}";

/* Offsets and limits: the ids of one text without limits are those that come alone, and two texts stay in bounds. */
static void use_with(const tern_tokenizer *t, const char *text, size_t size, const tern_ids *ids)
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
static void use(const tern_tokenizer *t, const char *text, size_t size)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] =
        "Hello  world's <s> aB ab\xC3\xA9 123\n\n\xF0\x9F\x98\x80 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static tern_tokenizer *small; /* read-only, made once */
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;

    if (!small && tern_tokenizer_parse(&ctx, fixed, sizeof fixed - 1, "fixed", &small) != TERN_OK)
        abort();
    use(small, (const char *)data, size);

    if (tern_tokenizer_parse(&ctx, (const char *)data, size, "input", &t) == TERN_OK) {
        use(t, sample, sizeof sample - 1);
        tern_tokenizer_close(&t);
    } else if (t || !tern_error(&ctx)[0]) {
        abort();
    }
    return 0;
}
