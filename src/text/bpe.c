/* bpe.c: the merges of a word, by scanning when it is short and with a heap when it is long.
 *
 * Long words: a heap of (rank, position) over a doubly linked list of symbols.  Entries are never removed when a
 * neighbour changes; an entry that does not describe its pair any more is dropped when it comes up.  Each merge adds
 * at most two entries, so a word of n characters costs O(n log n), whatever it is made of.
 *
 * An entry is also good if its pair has changed into another one with the same product: so it is in the library, and
 * where two merges have the same product it can decide the order.  Vocabularies that were trained have no such
 * merges (`one_way`), and there the pair of lowest rank, leftmost first, is all that the heap can find; so words of
 * up to SCAN_MAX symbols are merged by looking for it in an array, which is faster than any heap at that size.
 *
 * Where no product of a merge has U+2581 behind another character, no merge is ever made across such a place, and what
 * merges are made on one side of it depends on nothing on the other: there a text that comes as one word is cut into
 * words first, which the scan and the cache below are for.
 *
 * Words repeat: for longer texts the ids of words up to 15 bytes are kept in a small direct-mapped table of the
 * call. It belongs to the call and not to the tokenizer, so that threads share nothing that is written. */
#include "text/bpe.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/byte_level.h"

#include <assert.h>
#include <string.h>

static const char word_mark[] = "\xE2\x96\x81"; /* U+2581 */
#define MARK_SIZE (sizeof word_mark - 1)

#define SCAN_MAX 24
#define NO_RANK  UINT32_MAX
#define END      UINT32_MAX /* no symbol there */

/* Where the word that begins at `at` ends: before the next U+2581 behind another character. */
static size_t word_end(const char *text, size_t size, size_t at)
{
    bool other = false;

    for (; at < size; at++) {
        if (text[at] == word_mark[0] && size - at >= MARK_SIZE && memcmp(text + at, word_mark, MARK_SIZE) == 0) {
            if (other)
                return at;
            at += MARK_SIZE - 1;
        } else {
            other = true;
        }
    }
    return size;
}

struct tern_symbol {
    int32_t id; /* -1: merged into the one before */
    uint32_t previous, next;
};

/* ---- the table of merges ----------------------------------------------------------------------------------------- */

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static struct tern_merge *merge_slot(const struct tern_bpe *bpe, uint64_t pair)
{
    size_t i = (size_t)((pair * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (bpe->n_slots - 1);

    while (bpe->merges[i].pair != pair && bpe->merges[i].pair != UINT64_MAX)
        i = (i + 1) & (bpe->n_slots - 1);
    return &bpe->merges[i];
}

/* The rank of a pair's merge, or NO_RANK. */
static uint32_t rank_of(const struct tern_bpe *bpe, int32_t left, int32_t right)
{
    const uint64_t pair = pair_of(left, right);
    const struct tern_merge *slot = merge_slot(bpe, pair);

    return slot->pair == pair ? slot->rank : NO_RANK;
}

tern_status tern_bpe_merges_create(tern_ctx *ctx, struct tern_bpe *bpe, size_t n)
{
    size_t n_slots = 16;

    TERN_REQUIRE(ctx, n < INT32_MAX / 4, TERN_ERR_FORMAT, "%zu merges, expected fewer than %d", n, INT32_MAX / 4);
    while (n_slots < 2 * n)
        n_slots *= 2;
    TERN_TRY(TERN_ALLOC(ctx, n_slots, "merges", &bpe->merges));
    for (size_t i = 0; i < n_slots; i++)
        bpe->merges[i].pair = UINT64_MAX;
    bpe->n_slots = n_slots;
    return TERN_ALLOC(ctx, n, "merges", &bpe->products);
}

/* "both|ways" is looked up in `buffer`, or in memory of its own if it is long. */
static tern_status joined_id(tern_ctx *ctx, const struct tern_bpe *bpe, const char *left, size_t left_size,
                             const char *right, size_t right_size, int32_t *out)
{
    char buffer[256], *joined = buffer;

    if (left_size + right_size > sizeof buffer)
        TERN_TRY(TERN_ALLOC(ctx, left_size + right_size, "a merge", &joined));
    memcpy(joined, left, left_size);
    memcpy(joined + left_size, right, right_size);
    *out = tern_names_find(&bpe->vocab, joined, left_size + right_size);
    if (joined != buffer)
        tern_free(joined);
    return TERN_OK;
}

tern_status tern_bpe_merges_add(tern_ctx *ctx, struct tern_bpe *bpe, const char *left, size_t left_size,
                                const char *right, size_t right_size, const char *where)
{
    const int32_t a = tern_names_find(&bpe->vocab, left, left_size);
    const int32_t b = tern_names_find(&bpe->vocab, right, right_size);
    const size_t rank = bpe->n_merges;
    int32_t id;

    TERN_REQUIRE(ctx,
                 right_size >= bpe->prefix_size &&
                     (right_size == bpe->prefix_size || ((unsigned char)right[bpe->prefix_size] & 0xC0) != 0x80),
                 TERN_ERR_FORMAT, "%s: merge %zu joins '%.*s' and '%.*s', expected '%s' before the second", where, rank,
                 (int)left_size, left, (int)right_size, right, bpe->prefix);
    TERN_TRY(joined_id(ctx, bpe, left, left_size, right + bpe->prefix_size, right_size - bpe->prefix_size, &id));
    TERN_REQUIRE(
        ctx, a >= 0 && b >= 0 && id >= 0, TERN_ERR_FORMAT,
        "%s: merge %zu joins '%.*s' and '%.*s', but the vocabulary of %zu tokens does not have '%.*s%.*s'", where, rank,
        (int)left_size, left, (int)right_size, right, bpe->vocab.count, b >= 0 || a < 0 ? (int)left_size : 0, left,
        a < 0 ? 0 : (int)(right_size - (b >= 0 ? bpe->prefix_size : 0)), right + (b >= 0 ? bpe->prefix_size : 0));

    struct tern_merge *slot = merge_slot(bpe, pair_of(a, b));
    *slot = (struct tern_merge){ pair_of(a, b), (uint32_t)rank, id };
    bpe->products[rank] = id;
    bpe->n_merges = rank + 1;
    return TERN_OK;
}

/* Whether U+2581 stands behind another character. */
static bool goes_on(const char *text, size_t size)
{
    for (size_t at = 0; at < size;)
        if ((at = word_end(text, size, at)) < size)
            return true;
    return false;
}

/* Whether a text can be cut before each U+2581 that follows another character: that one is in the vocabulary, so that no
 * unknown is fused across it; no character disappears, which would bring others together; and no product of a merge
 * (products[id]) has one inside. */
static bool find_words(const struct tern_bpe *bpe, const unsigned char *products, int32_t top)
{
    const int32_t mark = tern_names_find(&bpe->vocab, word_mark, MARK_SIZE);

    if (mark < 0 || bpe->ignore_merges || bpe->prefix_size > 0 || bpe->suffix_size > 0)
        return false;
    if (bpe->unk_id < 0 || bpe->unk_token[0] == 0 || bpe->unk_token[0] == word_mark[0])
        return false;
    for (size_t i = 0; i < bpe->vocab.n_slots; i++) {
        const struct tern_name *name = &bpe->vocab.slots[i];

        if (name->id >= 0 && name->id <= top && products[name->id] &&
            goes_on(bpe->vocab.text + name->begin, name->size))
            return false;
    }
    return true;
}

tern_status tern_bpe_finish(tern_ctx *ctx, struct tern_bpe *bpe)
{
    int32_t top = -1;
    unsigned char *seen;

    for (int byte = 0; byte < 256; byte++) {
        char text[TERN_UTF8_MAX];
        const size_t size = tern_utf8_put(tern_byte_level_char((unsigned char)byte), text);

        bpe->byte_ids[byte] = tern_names_find(&bpe->vocab, text, size);
    }
    tern_names_find_bytes(&bpe->vocab, bpe->fallback_ids);
    bpe->unk_id = bpe->unk_token ? tern_names_find(&bpe->vocab, bpe->unk_token, strlen(bpe->unk_token)) : -1;

    for (size_t i = 0; i < bpe->n_merges; i++)
        top = bpe->products[i] > top ? bpe->products[i] : top;
    TERN_TRY(TERN_ALLOC(ctx, (size_t)top + 1, "merges", &seen));
    bpe->one_way = true;
    for (size_t i = 0; i < bpe->n_merges; i++) {
        bpe->one_way = bpe->one_way && !seen[bpe->products[i]];
        seen[bpe->products[i]] = 1;
    }
    bpe->has_words = find_words(bpe, seen, top);
    tern_free(seen);
    return TERN_OK;
}

void tern_bpe_destroy(struct tern_bpe *bpe)
{
    tern_names_destroy(&bpe->vocab);
    tern_free(bpe->merges);
    tern_free(bpe->products);
    tern_free(bpe->unk_token);
    tern_free(bpe->prefix);
    tern_free(bpe->suffix);
    *bpe = (struct tern_bpe){ 0 };
}

/* ---- words that were seen before --------------------------------------------------------------------------------- */

#define CACHE_SLOTS 4096 /* 128 KiB: half of the smallest L2 in use */
#define CACHE_BYTES 15
#define CACHE_IDS   4

struct word_key {
    uint64_t half[2]; /* the word, zeros, and its size in the last byte */
};

struct tern_word_cache {
    struct {
        struct word_key key;    /* size 0: free */
        int32_t ids[CACHE_IDS]; /* -1 behind the last one */
    } slots[CACHE_SLOTS];
};

tern_status tern_bpe_cache_create(tern_ctx *ctx, struct tern_bpe_scratch *scratch)
{
    return scratch->cache ? TERN_OK : TERN_ALLOC(ctx, 1, "a cache of words", &scratch->cache);
}

void tern_bpe_scratch_destroy(struct tern_bpe_scratch *scratch)
{
    tern_free(scratch->symbols);
    tern_free(scratch->heap);
    tern_free(scratch->mapped);
    tern_free(scratch->affixed);
    tern_free(scratch->lengths);
    tern_free(scratch->cache);
    *scratch = (struct tern_bpe_scratch){ 0 };
}

static struct word_key word_key(const char *word, size_t size)
{
    unsigned char bytes[16] = { 0 };
    struct word_key key;

    memcpy(bytes, word, size);
    bytes[15] = (unsigned char)size;
    memcpy(&key, bytes, sizeof key);
    return key;
}

static size_t cache_slot(struct word_key key)
{
    uint64_t h = (key.half[0] ^ key.half[1] * UINT64_C(0xD6E8FEB86659FD93)) * UINT64_C(0x9E3779B97F4A7C15);

    h ^= h >> 29;
    return (size_t)((h * UINT64_C(0xD6E8FEB86659FD93)) >> 52) % CACHE_SLOTS;
}

/* ---- one word ---------------------------------------------------------------------------------------------------- */

/* The symbols of a word as they are found. */
struct symbols {
    int32_t *ids;
    uint32_t *lengths; /* in bytes; NULL: not wanted */
    size_t count;
};

static void add_symbol(struct symbols *symbols, int32_t id, size_t length)
{
    if (symbols->lengths)
        symbols->lengths[symbols->count] = (uint32_t)length;
    symbols->ids[symbols->count++] = id;
}

/* A character with the affixes of its place: *text, *size become what the vocabulary is asked for. */
static tern_status add_affixes(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *s, bool first,
                               bool last, const char **text, size_t *size)
{
    const size_t before = first ? 0 : bpe->prefix_size, behind = last ? bpe->suffix_size : 0;

    if (before + behind == 0)
        return TERN_OK;
    TERN_TRY(TERN_GROW(ctx, &s->affixed, &s->affixed_capacity, before + *size + behind, "a character"));
    if (before > 0)
        memcpy(s->affixed, bpe->prefix, before);
    memcpy(s->affixed + before, *text, *size);
    if (behind > 0)
        memcpy(s->affixed + before + *size, bpe->suffix, behind);
    *text = s->affixed;
    *size += before + behind;
    return TERN_OK;
}

/* The tokens of text's bytes; false and nothing if the vocabulary lacks one of them. */
static bool fall_back(const struct tern_bpe *bpe, const char *text, size_t size, struct symbols *symbols)
{
    for (size_t i = 0; i < size; i++)
        if (bpe->fallback_ids[(unsigned char)text[i]] < 0)
            return false;
    for (size_t i = 0; i < size; i++)
        add_symbol(symbols, bpe->fallback_ids[(unsigned char)text[i]], 1);
    return true;
}

/* The symbols of the word's characters.  As in the library, an unknown one is added when a known one follows, so that
 * what is fallen back on meanwhile comes before it. */
static tern_status characters(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *s, const char *word,
                              size_t size, bool bytes, struct symbols *symbols)
{
    size_t unknown = 0; /* bytes of the unknown token that is not added yet */

    for (size_t at = 0; at < size;) {
        const size_t begin = at;
        const char *text = word + begin;
        size_t length = 0;
        int32_t id;

        if (bytes) {
            id = bpe->byte_ids[(unsigned char)word[at++]];
        } else {
            tern_utf8_next(word, &at);
            length = at - begin;
            TERN_TRY(add_affixes(ctx, bpe, s, begin == 0, at == size, &text, &length));
            id = tern_names_find(&bpe->vocab, text, length);
        }
        if (id >= 0) {
            if (unknown > 0)
                add_symbol(symbols, bpe->unk_id, unknown);
            unknown = 0;
            add_symbol(symbols, id, at - begin);
            continue;
        }
        if (bpe->byte_fallback && fall_back(bpe, text, length, symbols))
            continue;
        if (!bpe->unk_token)
            continue;
        TERN_REQUIRE(ctx, bpe->unk_id >= 0, TERN_ERR_FORMAT,
                     "the text needs the unknown token '%s', which the vocabulary of %zu tokens does not have",
                     bpe->unk_token, bpe->vocab.count);
        if (unknown > 0 && !bpe->fuse_unk) {
            add_symbol(symbols, bpe->unk_id, unknown);
            unknown = 0;
        }
        unknown += at - begin;
    }
    if (unknown > 0)
        add_symbol(symbols, bpe->unk_id, unknown);
    return TERN_OK;
}

/* How many symbols there can be: one a byte, and where affixes fall back to bytes, those too. */
static size_t symbols_at_most(const struct tern_bpe *bpe, size_t size)
{
    const size_t each = bpe->byte_fallback ? 1 + bpe->prefix_size : 1;

    return tern_mul_or_max(size, each) < SIZE_MAX / 8 - bpe->suffix_size ? size * each + bpe->suffix_size
                                                                         : SIZE_MAX / 8;
}

/* Merges ids[0..n), and their lengths if there are any, in place by looking for the lowest rank each time; gives how
 * many are left.  2 <= n <= SCAN_MAX. */
static size_t merge_by_scan(const struct tern_bpe *bpe, int32_t *ids, uint32_t *lengths, size_t n, uint64_t *steps)
{
    uint32_t rank[SCAN_MAX];

    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(bpe, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;

        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        *steps += n - 1;
        if (rank[best] == NO_RANK)
            break;
        ids[best] = bpe->products[rank[best]];
        n--;
        if (lengths) {
            lengths[best] += lengths[best + 1];
            memmove(lengths + best + 1, lengths + best + 2, (n - best - 1) * sizeof *lengths);
        }
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            rank[i - 1] = rank[i];
        }
        if (best > 0)
            rank[best - 1] = rank_of(bpe, ids[best - 1], ids[best]);
        if (best + 1 < n)
            rank[best] = rank_of(bpe, ids[best], ids[best + 1]);
    }
    return n;
}

/* A binary heap, the lowest entry first. */
static void heap_sink(uint64_t *heap, size_t n, size_t i, uint64_t *steps)
{
    const uint64_t entry = heap[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        ++*steps;
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= entry)
            break;
        heap[i] = heap[child];
    }
    heap[i] = entry;
}

static tern_status heap_push(tern_ctx *ctx, struct tern_bpe_scratch *s, size_t *n, uint64_t entry)
{
    TERN_TRY(TERN_GROW(ctx, &s->heap, &s->heap_capacity, *n + 1, "a word's merges"));

    size_t i = (*n)++;
    for (; i > 0 && s->heap[(i - 1) / 2] > entry; i = (i - 1) / 2) {
        s->steps++;
        s->heap[i] = s->heap[(i - 1) / 2];
    }
    s->heap[i] = entry;
    return TERN_OK;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n, uint64_t *steps)
{
    const uint64_t top = heap[0];

    heap[0] = heap[--*n];
    if (*n > 0)
        heap_sink(heap, *n, 0, steps);
    return top;
}

/* An entry for the pair that begins at `at`, if there is such a pair and it has a merge. */
static tern_status push_pair(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *s, size_t *n_heap,
                             uint32_t at)
{
    if (at == END || s->symbols[at].next == END)
        return TERN_OK;

    const uint32_t rank = rank_of(bpe, s->symbols[at].id, s->symbols[s->symbols[at].next].id);
    return rank == NO_RANK ? TERN_OK : heap_push(ctx, s, n_heap, (uint64_t)rank << 32 | at);
}

static tern_status merge_by_heap(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *s, int32_t *ids,
                                 uint32_t *lengths, size_t *count)
{
    const size_t n = *count;
    size_t n_heap = 0, left = 0;

    TERN_REQUIRE(ctx, n <= INT32_MAX, TERN_ERR_CAPACITY, "a word of %zu characters, at most %d", n, INT32_MAX);
    TERN_TRY(TERN_GROW(ctx, &s->symbols, &s->symbols_capacity, n, "a word's symbols"));
    for (size_t i = 0; i < n; i++)
        s->symbols[i] =
            (struct tern_symbol){ ids[i], i > 0 ? (uint32_t)i - 1 : END, i + 1 < n ? (uint32_t)i + 1 : END };

    for (size_t i = 0; i + 1 < n; i++) {
        const uint32_t rank = rank_of(bpe, ids[i], ids[i + 1]);

        if (rank == NO_RANK)
            continue;
        TERN_TRY(TERN_GROW(ctx, &s->heap, &s->heap_capacity, n_heap + 1, "a word's merges"));
        s->heap[n_heap++] = (uint64_t)rank << 32 | i;
    }
    for (size_t i = n_heap / 2; i-- > 0;)
        heap_sink(s->heap, n_heap, i, &s->steps);

    while (n_heap > 0) {
        const uint64_t top = heap_pop(s->heap, &n_heap, &s->steps);
        const uint32_t at = (uint32_t)top, next = s->symbols[at].next;
        const int32_t product = bpe->products[top >> 32];

        s->steps++;
        if (s->symbols[at].id < 0 || next == END)
            continue;
        const uint32_t rank = rank_of(bpe, s->symbols[at].id, s->symbols[next].id);
        if (rank == NO_RANK || bpe->products[rank] != product)
            continue; /* a neighbour has changed since */

        s->symbols[at].id = product;
        s->symbols[at].next = s->symbols[next].next;
        s->symbols[next].id = -1;
        if (lengths)
            lengths[at] += lengths[next];
        if (s->symbols[at].next != END)
            s->symbols[s->symbols[at].next].previous = at;
        TERN_TRY(push_pair(ctx, bpe, s, &n_heap, s->symbols[at].previous));
        TERN_TRY(push_pair(ctx, bpe, s, &n_heap, at));
    }
    for (uint32_t at = 0; at != END; at = s->symbols[at].next) {
        if (lengths)
            lengths[left] = lengths[at];
        ids[left++] = s->symbols[at].id;
    }
    *count = left;
    return TERN_OK;
}

/* Whether the word's bytes can be looked up one by one in byte_ids. */
static bool has_plain_bytes(const struct tern_bpe *bpe)
{
    return !bpe->ignore_merges && !bpe->byte_fallback && bpe->prefix_size == 0 && bpe->suffix_size == 0;
}

static tern_status encode(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *s, const char *word,
                          size_t size, bool bytes, struct tern_token_list *list)
{
    struct symbols symbols = { 0 };

    if (bytes && !has_plain_bytes(bpe)) {
        TERN_TRY(TERN_GROW(ctx, &s->mapped, &s->mapped_capacity, 2 * size, "a word"));
        size = tern_byte_level_encode(word, size, s->mapped);
        word = s->mapped;
        bytes = false;
    }
    if (bpe->ignore_merges) {
        const int32_t id = tern_names_find(&bpe->vocab, word, size);

        if (id >= 0)
            return tern_token_list_push(ctx, list, id, 0, size);
    }
    const size_t room = symbols_at_most(bpe, size);
    TERN_TRY(tern_token_list_reserve(ctx, list, room));
    if (list->wants_spans) {
        TERN_TRY(TERN_GROW(ctx, &s->lengths, &s->lengths_capacity, room, "a word's symbols"));
        symbols.lengths = s->lengths;
    }
    symbols.ids = list->ids.data + list->ids.count;
    TERN_TRY(characters(ctx, bpe, s, word, size, bytes, &symbols));
    size_t n = symbols.count;
    if (n > 1 && n <= SCAN_MAX && bpe->one_way)
        n = merge_by_scan(bpe, symbols.ids, symbols.lengths, n, &s->steps);
    else if (n > 1)
        TERN_TRY(merge_by_heap(ctx, bpe, s, symbols.ids, symbols.lengths, &n));
    for (uint32_t i = 0, at = 0; symbols.lengths && i < n; at += symbols.lengths[i++])
        list->spans[list->ids.count + i] = (struct tern_span){ at, at + symbols.lengths[i] };
    list->ids.count += n;
    return TERN_OK;
}

/* What is no longer than the cache's words comes from there, if it can. */
static tern_status encode_cached(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *scratch,
                                 const char *word, size_t size, bool bytes, struct tern_token_list *list)
{
    struct tern_ids *ids = &list->ids;
    const size_t begin = ids->count;

    if (!scratch->cache || list->wants_spans || size == 0 || size > CACHE_BYTES)
        return encode(ctx, bpe, scratch, word, size, bytes, list);

    const struct word_key key = word_key(word, size);
    const size_t slot = cache_slot(key);
    int32_t *cached = scratch->cache->slots[slot].ids;
    const struct word_key there = scratch->cache->slots[slot].key;

    if (there.half[0] == key.half[0] && there.half[1] == key.half[1]) {
        TERN_TRY(TERN_GROW(ctx, &ids->data, &ids->capacity, ids->count + CACHE_IDS, "token ids"));
        for (int i = 0; i < CACHE_IDS && cached[i] >= 0; i++)
            ids->data[ids->count++] = cached[i];
        return TERN_OK;
    }
    TERN_TRY(encode(ctx, bpe, scratch, word, size, bytes, list));
    const size_t n = ids->count - begin;
    if (n <= CACHE_IDS) {
        scratch->cache->slots[slot].key = key;
        for (size_t i = 0; i < CACHE_IDS; i++)
            cached[i] = i < n ? ids->data[begin + i] : -1;
    }
    return TERN_OK;
}

tern_status tern_bpe_encode(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *scratch,
                            const char *word, size_t size, bool bytes, struct tern_token_list *list)
{
    uint32_t at = 0; /* spans follow one another, from word to word, too */

    if (bytes || !bpe->has_words)
        return encode_cached(ctx, bpe, scratch, word, size, bytes, list);
    for (size_t begin = 0, end; begin < size; begin = end) {
        const size_t first = list->ids.count;

        end = word_end(word, size, begin);
        TERN_TRY(encode_cached(ctx, bpe, scratch, word + begin, end - begin, false, list));
        if (!list->wants_spans)
            continue;
        for (size_t i = first; i < list->ids.count; i++) {
            list->spans[i].begin += at;
            list->spans[i].end += at;
        }
        at = list->ids.count > first ? list->spans[list->ids.count - 1].end : at;
    }
    return TERN_OK;
}
