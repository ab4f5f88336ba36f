/* names.c: an open-addressing table, sized once.
 *
 * Slots are at least twice the names, so a look-up touches one or two of them; the hash kept in the slot spares most
 * comparisons of text.  A vocabulary is filled once and read millions of times, and nothing is ever removed. */
#include "text/names.h"

#include "base/memory.h"

#include <assert.h>
#include <string.h>

/* Eight bytes at a time through a multiply and a fold (the mixing step of wyhash). */
static uint32_t hash_of(const char *text, size_t size)
{
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ size;

    while (size > 0) {
        const size_t n = size < 8 ? size : 8;
        uint64_t word = 0;

        memcpy(&word, text, n);
        h = (h ^ word) * UINT64_C(0xD6E8FEB86659FD93);
        h ^= h >> 32;
        text += n;
        size -= n;
    }
    h *= UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(h >> 32);
}

tern_status tern_names_create(tern_ctx *ctx, size_t count, size_t bytes, const char *what, struct tern_names *out)
{
    size_t n_slots = 16;
    tern_status status;

    *out = (struct tern_names){ 0 };
    TERN_REQUIRE(ctx, bytes < UINT32_MAX && count < UINT32_MAX / 4, TERN_ERR_FORMAT,
                 "%s: %zu names of %zu bytes, expected fewer than 2^30 and less than 4 GiB", what, count, bytes);
    while (n_slots < 2 * count)
        n_slots *= 2;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n_slots, what, &out->slots));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, bytes, what, &out->text));
    out->n_slots = n_slots;
    out->text_capacity = bytes;
    for (size_t i = 0; i < n_slots; i++)
        out->slots[i].id = -1;
    return TERN_OK;

fail:
    tern_names_destroy(out);
    return status;
}

void tern_names_destroy(struct tern_names *names)
{
    tern_free(names->slots);
    tern_free(names->text);
    *names = (struct tern_names){ 0 };
}

/* The slot of a name, or the free one where it would be. */
static size_t slot_of(const struct tern_names *names, const char *text, size_t size, uint32_t hash)
{
    size_t i = hash & (names->n_slots - 1);

    for (;; i = (i + 1) & (names->n_slots - 1)) {
        const struct tern_name *slot = &names->slots[i];

        if (slot->id < 0 ||
            (slot->hash == hash && slot->size == size && memcmp(names->text + slot->begin, text, size) == 0))
            return i;
    }
}

static void fill(struct tern_names *names, size_t slot, const char *text, size_t size, uint32_t hash, int32_t id)
{
    assert(names->slots[slot].id < 0 && id >= 0 && 2 * names->count < names->n_slots);
    assert(names->text_size + size <= names->text_capacity);
    memcpy(names->text + names->text_size, text, size);
    names->slots[slot] = (struct tern_name){ hash, (uint32_t)names->text_size, (uint32_t)size, id };
    names->text_size += size;
    names->count++;
}

void tern_names_put(struct tern_names *names, const char *text, size_t size, int32_t id)
{
    const uint32_t hash = hash_of(text, size);

    fill(names, slot_of(names, text, size, hash), text, size, hash, id);
}

void tern_names_put_behind(struct tern_names *names, const char *text, size_t size, int32_t id)
{
    const uint32_t hash = hash_of(text, size);
    size_t i = hash & (names->n_slots - 1);

    while (names->slots[i].id >= 0)
        i = (i + 1) & (names->n_slots - 1);
    fill(names, i, text, size, hash, id);
}

tern_status tern_names_trie(tern_ctx *ctx, const struct tern_names *names, struct tern_trie *out)
{
    struct tern_trie_key *keys;
    size_t n = 0;

    TERN_TRY(TERN_ALLOC(ctx, names->count, "the trie of a vocabulary", &keys));
    for (size_t i = 0; i < names->n_slots; i++) {
        const struct tern_name *name = &names->slots[i];
        const char *text = names->text + name->begin;

        if (name->id >= 0 && tern_names_find(names, text, name->size) == name->id)
            keys[n++] = (struct tern_trie_key){ text, name->size, name->id };
    }
    const tern_status status = tern_trie_create(ctx, keys, n, "the vocabulary", out);
    tern_free(keys);
    return status;
}

void tern_names_find_bytes(const struct tern_names *names, int32_t ids[256])
{
    static const char digits[] = "0123456789ABCDEF";

    for (int byte = 0; byte < 256; byte++) {
        const char name[] = { '<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>' };

        ids[byte] = tern_names_find(names, name, sizeof name);
    }
}

int32_t tern_names_find(const struct tern_names *names, const char *text, size_t size)
{
    if (names->n_slots == 0)
        return -1;
    return names->slots[slot_of(names, text, size, hash_of(text, size))].id;
}
