/* charsmap.c: see charsmap.h.
 *
 * A unit of the trie: bits 0 to 7 the byte that leads to it, bit 31 set in a leaf; bit 8, a leaf hangs here; bits 10 and
 * up the offset to the children, times 256 if bit 9 is set.  A leaf is its key's place in the texts. */
#include "text/charsmap.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <string.h>

struct tern_charsmap {
    uint32_t *units;
    size_t n_units;
    char *texts;
    size_t n_texts;
};

static uint32_t little_endian(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

tern_status tern_charsmap_create(tern_ctx *ctx, const char *bytes, size_t size, const char *where,
                                 struct tern_charsmap **out)
{
    const unsigned char *in = (const unsigned char *)bytes;
    struct tern_charsmap *map = NULL;
    tern_status status;
    size_t bad;

    *out = NULL;
    TERN_REQUIRE(ctx, size >= 4, TERN_ERR_FORMAT, "%s: precompiled_charsmap has %zu bytes, expected 4 or more", where,
                 size);
    const size_t n = little_endian(in) / 4;
    TERN_REQUIRE(ctx, n > 0 && n <= (size - 4) / 4, TERN_ERR_FORMAT,
                 "%s: the trie of precompiled_charsmap has %zu units, expected 1 to %zu in %zu bytes", where, n,
                 (size - 4) / 4, size);
    const char *texts = bytes + 4 + 4 * n;
    const size_t n_texts = size - 4 - 4 * n;
    TERN_REQUIRE(ctx, tern_utf8_check(texts, n_texts, &bad), TERN_ERR_FORMAT,
                 "%s: the texts of precompiled_charsmap are not UTF-8 at byte %zu of %zu", where, bad, n_texts);

    TERN_TRY(TERN_ALLOC(ctx, 1, "a table of characters", &map));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "a table of characters", &map->units));
    TERN_TRY_OR_FAIL(tern_strndup(ctx, texts, n_texts, "a table of characters", &map->texts));
    for (size_t i = 0; i < n; i++)
        map->units[i] = little_endian(in + 4 + 4 * i);
    map->n_units = n;
    map->n_texts = n_texts;
    *out = map;
    return TERN_OK;

fail:
    tern_charsmap_destroy(map);
    return status;
}

static int sextet(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

tern_status tern_charsmap_create_base64(tern_ctx *ctx, const char *text, size_t size, const char *where,
                                        struct tern_charsmap **out)
{
    char *bytes = NULL;
    uint32_t bits = 0;
    size_t n = 0, letters = size;
    tern_status status;

    *out = NULL;
    while (letters > 0 && size - letters < 2 && text[letters - 1] == '=')
        letters--;
    TERN_REQUIRE(ctx, size % 4 == 0, TERN_ERR_FORMAT,
                 "%s: precompiled_charsmap has %zu characters, expected base64, a multiple of 4", where, size);
    TERN_TRY(TERN_ALLOC(ctx, size / 4 * 3, "a table of characters", &bytes));
    for (size_t i = 0; i < letters; i++) {
        const int value = sextet((unsigned char)text[i]);

        TERN_REQUIRE_OR_FAIL(ctx, value >= 0, TERN_ERR_FORMAT,
                             "%s: precompiled_charsmap has the byte 0x%02X at %zu, expected base64", where,
                             (unsigned char)text[i], i);
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 0)
            bytes[n++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xFF);
    }
    status = tern_charsmap_create(ctx, bytes, n, where, out);

fail:
    tern_free(bytes);
    return status;
}

void tern_charsmap_destroy(struct tern_charsmap *map)
{
    if (!map)
        return;
    tern_free(map->units);
    tern_free(map->texts);
    tern_free(map);
}

static size_t children(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
}

/* Whether [at] is the beginning of a character, or the end. */
static bool is_boundary(const char *text, size_t size, size_t at)
{
    return at == size || ((unsigned char)text[at] & 0xC0) != 0x80;
}

const char *tern_charsmap_find(const struct tern_charsmap *map, const char *text, size_t size, bool longest,
                               size_t *used, size_t *out_size)
{
    size_t at = children(map->units[0]), found = SIZE_MAX;

    for (size_t i = 0; i < size && text[i]; i++) {
        const unsigned char byte = (unsigned char)text[i];

        at ^= byte;
        if (at >= map->n_units || (map->units[at] & 0x800000FF) != byte)
            break;
        const bool leaf = map->units[at] & 0x100;
        at ^= children(map->units[at]);
        if (at >= map->n_units)
            break;
        const size_t value = map->units[at] & 0x7FFFFFFF;
        if (leaf && value < map->n_texts && is_boundary(text, size, i + 1) &&
            is_boundary(map->texts, map->n_texts, value)) {
            found = value;
            *used = i + 1;
            if (!longest)
                break;
        }
    }
    if (found == SIZE_MAX)
        return NULL;
    *out_size = strlen(map->texts + found);
    return map->texts + found;
}
