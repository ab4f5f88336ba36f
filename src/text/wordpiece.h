/* wordpiece.h: a word as the longest token that it begins with, then the longest that goes on from there, and so on.
 *
 * A token that goes on has a prefix in the vocabulary ("##").  A word that cannot be cut to its end so, or that is too
 * long, is the unknown token as a whole.  Source: Schuster and Nakajima 2012; corners as in the tokenizers library
 * (0.23). */
#ifndef TERN_TEXT_WORDPIECE_H
#define TERN_TEXT_WORDPIECE_H

#include "text/names.h"
#include "text/token_list.h"
#include "text/trie.h"

struct tern_wordpiece {
    struct tern_names vocab;
    struct tern_trie trie;
    uint32_t inside;    /* the node behind the prefix */
    bool has_inside;    /* false: no token begins with the prefix */
    uint64_t max_chars; /* of a word; a longer one is unknown */
    char *unk_token;    /* its text */
    int32_t unk_id;     /* -1: not in the vocabulary, an error when it is needed */
};

struct tern_wordpiece_scratch {
    uint64_t steps; /* bytes looked at */
};

/* Once the vocabulary and max_chars are there. */
tern_status tern_wordpiece_finish(tern_ctx *ctx, struct tern_wordpiece *model, const char *unk, size_t unk_size,
                                  const char *prefix, size_t prefix_size);
void tern_wordpiece_destroy(struct tern_wordpiece *model);

/* Appends the tokens of a word, valid UTF-8; spans follow one another, or all of the word is one unknown.  At most the
 * longest token's bytes are looked at for each token.  TERN_ERR_FORMAT (the unknown token is not in the vocabulary),
 * TERN_ERR_MEMORY. */
tern_status tern_wordpiece_encode(tern_ctx *ctx, const struct tern_wordpiece *model,
                                  struct tern_wordpiece_scratch *scratch, const char *word, size_t size,
                                  struct tern_token_list *out);

#endif
