/* tokenizer_digest.h: hashes of what a tokenizer makes of texts, and random texts; the same as in make_tokenizers.py. */
#ifndef TERN_TOKENIZER_DIGEST_H
#define TERN_TOKENIZER_DIGEST_H

#include "base/utf8.h"

#include <tern/tokenizer.h>

#include <stdio.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t digest_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint32_t digest_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(digest_next(state) >> 32) % n;
}

static inline uint64_t digest_mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

/* Code points assigned in Unicode 13, of tests/golden/tokenizers/assigned13.txt. */
struct digest_ranges {
    uint32_t first[1024], last[1024], count;
};

static inline bool digest_read_ranges(const char *path, struct digest_ranges *out)
{
    FILE *f = fopen(path, "r");
    char line[256];

    out->count = 0;
    while (f && fgets(line, sizeof line, f))
        if (out->count < 1024 && sscanf(line, "%x %x", &out->first[out->count], &out->last[out->count]) == 2)
            out->count++;
    if (f)
        fclose(f);
    return out->count > 0;
}

#define DIGEST_TEXT_MAX 64 /* bytes of a random text */

static inline size_t digest_random_text(uint64_t *state, const struct digest_ranges *ranges, char *out)
{
    static const uint32_t plain[] = { ' ',  '\t', '\n',  ' ',    ' ',    'a',    'e',    'i',    'n',   'o',
                                      't',  's',  'r',   'A',    'B',    'C',    'x',    'y',    'z',   '0',
                                      '1',  '9',  '.',   ',',    '-',    '\'',   0x2581, 0x301,  0x327, 0x3099,
                                      0xE9, 0xDF, 0x130, 0xFB01, 0x2126, 0xAC00, 0x1100, 0x1161, 0x11A8 };
    const uint32_t n = 1 + digest_below(state, 14);
    size_t size = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (digest_below(state, 3) == 0) {
            size += tern_utf8_put(plain[digest_below(state, sizeof plain / sizeof *plain)], out + size);
        } else {
            const uint32_t r = digest_below(state, ranges->count);

            size += tern_utf8_put(ranges->first[r] + digest_below(state, ranges->last[r] - ranges->first[r] + 1),
                                  out + size);
        }
    }
    return size;
}

/* Mixes in the text that ids become, and says in *streams whether a stream gives the same. */
static inline uint64_t digest_decoded(tern_ctx *ctx, const tern_tokenizer *t, const int32_t *ids, size_t n, bool skip,
                                      uint64_t h, bool *streams)
{
    char *text = NULL;
    const char *part;
    size_t size = 0, part_size, at = 0;
    tern_decoder *decoder = NULL;

    if (tern_tokenizer_decode(ctx, t, ids, n, skip, &text, &size))
        return digest_mix(h, UINT32_MAX);
    h = digest_mix(h, size);
    for (size_t i = 0; i < size; i++)
        h = digest_mix(h, (unsigned char)text[i]);
    bool same = tern_decoder_create(ctx, t, skip, &decoder) == TERN_OK;
    for (size_t i = 0; i <= n && same; i++) {
        same = (i < n ? tern_decoder_push(ctx, decoder, ids[i], &part, &part_size)
                      : tern_decoder_finish(ctx, decoder, &part, &part_size)) == TERN_OK &&
               part_size <= size - at && (part_size == 0 || memcmp(text + at, part, part_size) == 0);
        at += part_size;
    }
    *streams = *streams && same && at == size;
    tern_decoder_destroy(&decoder);
    tern_text_free(text);
    return h;
}

/* Mixes in all that is made of a text, and of a second one unless it is NULL.  *streams: as above, and the ids alone are
 * those that come with offsets. */
static inline uint64_t digest_text(tern_ctx *ctx, const tern_tokenizer *t, const char *text, size_t size,
                                   const char *pair, size_t pair_size, uint64_t h, bool *streams)
{
    tern_encode_options options = { .pair = pair, .pair_size = pair_size, .add_special = true, .apply_limits = true };
    tern_encoding e = { 0 }, ids = { 0 };

    if (tern_tokenizer_encode_with(ctx, t, text, size, &options, &e))
        return digest_mix(h, UINT32_MAX);
    h = digest_mix(h, e.count);
    for (size_t i = 0; i < e.count; i++) {
        h = digest_mix(h, (uint32_t)e.ids[i]);
        h = digest_mix(h, e.offsets[i].begin);
        h = digest_mix(h, e.offsets[i].end);
        h = digest_mix(h, e.type_ids[i]);
        h = digest_mix(h, e.attention[i]);
    }
    h = digest_decoded(ctx, t, e.ids, e.count, false, h, streams);
    h = digest_decoded(ctx, t, e.ids, e.count, true, h, streams);
    options.ids_only = true;
    *streams = *streams && !tern_tokenizer_encode_with(ctx, t, text, size, &options, &ids) && ids.count == e.count &&
               (e.count == 0 || memcmp(ids.ids, e.ids, e.count * sizeof *e.ids) == 0);
    tern_encoding_free(&ids);
    tern_encoding_free(&e);
    return h;
}

#endif
