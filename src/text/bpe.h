/* bpe.h: byte-pair encoding, from a word to the ids of its parts.
 *
 * A word starts as its characters' ids; then, again and again, the neighbours whose merge has the lowest rank become
 * one, leftmost first, until no pair has a merge.  Source: Sennrich et al. 2016, arXiv:1508.07909, section 3.2; in
 * every corner as the tokenizers library (0.23) does it, notably: merges given twice have the later rank; characters
 * that are not in the vocabulary become unk_token, or disappear where there is none. */
#ifndef TERN_TEXT_BPE_H
#define TERN_TEXT_BPE_H

#include "text/names.h"
#include "text/token_list.h"

struct tern_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: the place is free */
    uint32_t rank;
    int32_t id; /* what the pair becomes */
};

struct tern_bpe {
    struct tern_names vocab;
    struct tern_merge *merges; /* open addressing */
    size_t n_slots;            /* a power of two */
    size_t n_merges;           /* ranks are below this */
    int32_t *products;         /* of a rank: what its pair becomes */
    int32_t byte_ids[256];     /* of a byte: the id of its byte-level character, -1 if the vocabulary lacks it */
    int32_t fallback_ids[256]; /* of a byte: the id of "<0x..>", -1 if the vocabulary lacks it */
    bool one_way;              /* no two merges have the same product */
    bool has_words;            /* no merge goes on behind a word, before a U+2581 that follows another character */
    bool ignore_merges;        /* a word that is in the vocabulary is taken whole */
    bool fuse_unk;             /* neighbouring unknown characters are one unknown */
    bool byte_fallback;        /* an unknown character is the tokens of its bytes, if there are such for all of them */
    char *prefix, *suffix;     /* of characters behind the first, and of the last one; NULL without */
    size_t prefix_size, suffix_size;
    char *unk_token; /* its text; NULL without */
    int32_t unk_id;  /* -1: not in the vocabulary, an error when it is needed */
};

/* Memory that one encoding call works in, reused from word to word. */
struct tern_bpe_scratch {
    struct tern_symbol *symbols;
    size_t symbols_capacity;
    uint64_t *heap; /* rank << 32 | position */
    size_t heap_capacity;
    char *mapped; /* a word in byte-level characters */
    size_t mapped_capacity;
    char *affixed; /* a character with its affixes */
    size_t affixed_capacity;
    struct tern_word_cache *cache; /* NULL: none */
    uint32_t *lengths;             /* of the word's symbols, in bytes; where spans are wanted */
    size_t lengths_capacity;
    uint64_t steps; /* pairs looked at: what a test counts instead of time */
};
void tern_bpe_scratch_destroy(struct tern_bpe_scratch *scratch);

/* Gives the scratch a cache of short words; worth it for texts that repeat words, so from a few KiB on. */
tern_status tern_bpe_cache_create(tern_ctx *ctx, struct tern_bpe_scratch *scratch);

/* Room for n merges; the vocabulary and the affixes are already there. */
tern_status tern_bpe_merges_create(tern_ctx *ctx, struct tern_bpe *bpe, size_t n);

/* The next merge, of rank n_merges.  `where` and the rank are for the error: TERN_ERR_FORMAT if one of the three
 * tokens is not in the vocabulary.  The product is both texts, without continuing_subword_prefix before the right one:
 * as in the library, as many bytes are left out, whatever they are. */
tern_status tern_bpe_merges_add(tern_ctx *ctx, struct tern_bpe *bpe, const char *left, size_t left_size,
                                const char *right, size_t right_size, const char *where);

/* Once vocabulary, merges and unk_token are complete. */
tern_status tern_bpe_finish(tern_ctx *ctx, struct tern_bpe *bpe);
void tern_bpe_destroy(struct tern_bpe *bpe);

/* Appends the tokens of one word.  `bytes`: the word's bytes stand for their byte-level characters; else it is valid
 * UTF-8 whose characters are looked up as they are.  Spans follow one another from 0 on, each as long as the characters
 * of its token: behind a character that disappeared they are off, and bytes of affixes that are fallen back on count, as
 * in the library; so an end can be beyond the word's.  TERN_ERR_FORMAT (unk_token is needed and not in the vocabulary), TERN_ERR_CAPACITY (2^31 characters or
 * more), TERN_ERR_MEMORY. */
tern_status tern_bpe_encode(tern_ctx *ctx, const struct tern_bpe *bpe, struct tern_bpe_scratch *scratch,
                            const char *word, size_t size, bool bytes, struct tern_token_list *out);

#endif
