/* unigram.h: of all ways to cut a word into tokens, the one whose scores add up to most.
 *
 * Source: Kudo 2018, arXiv:1804.10959; the best path by Viterbi's algorithm, exactly as the tokenizers library (0.23):
 * scores are f64; of paths with equal scores the one found first stays (tokens are looked at by where they begin, then
 * by length); a character that is no token by itself costs the lowest score less 10; neighbouring unknowns are one. */
#ifndef TERN_TEXT_UNIGRAM_H
#define TERN_TEXT_UNIGRAM_H

#include "text/names.h"
#include "text/token_list.h"
#include "text/trie.h"

struct tern_unigram {
    struct tern_names vocab;
    struct tern_trie trie;
    double *scores;  /* by id */
    uint32_t *sizes; /* by id: bytes of the token */
    size_t n_tokens; /* ids are below this */
    double unk_score;
    int32_t unk_id;        /* -1: there is none, an error when it is needed */
    bool byte_fallback;    /* an unknown is the tokens of its bytes, if there are such for all of them */
    int32_t byte_ids[256]; /* of "<0x00>" to "<0xFF>"; -1: not in the vocabulary */
};

struct tern_unigram_scratch {
    int32_t *best; /* of an end: the last token on the best way there */
    size_t best_capacity;
    double *scores; /* of ends near by, in a ring */
    size_t scores_capacity;
    uint64_t steps; /* bytes looked at */
};
void tern_unigram_scratch_destroy(struct tern_unigram_scratch *scratch);

/* Room for n tokens of `bytes` bytes in all. */
tern_status tern_unigram_create(tern_ctx *ctx, struct tern_unigram *model, size_t n, size_t bytes);

/* Gives an id its token.  Ids go down from n - 1 to 0: of tokens with the same text, the last one is found. */
void tern_unigram_put(struct tern_unigram *model, int32_t id, const char *text, size_t size, double score);

/* Once all tokens, unk_id and byte_fallback are there. */
tern_status tern_unigram_finish(tern_ctx *ctx, struct tern_unigram *model);
void tern_unigram_destroy(struct tern_unigram *model);

/* Appends the tokens of a word, valid UTF-8.  Spans follow one another; the bytes of a fallback all have the span of
 * what was unknown.  For each character at most the longest token's bytes are looked at; 4 bytes of memory a byte.
 * TERN_ERR_FORMAT (an unknown token is needed and there is none), TERN_ERR_MEMORY. */
tern_status tern_unigram_encode(tern_ctx *ctx, const struct tern_unigram *model, struct tern_unigram_scratch *scratch,
                                const char *word, size_t size, struct tern_token_list *out);

#endif
