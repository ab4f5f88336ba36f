/* word_level.h: a word is a token or the unknown one.
 *
 * As in the tokenizers library (0.23), down to the error where the unknown token is needed and not there. */
#ifndef TERN_TEXT_WORD_LEVEL_H
#define TERN_TEXT_WORD_LEVEL_H

#include "text/names.h"
#include "text/token_list.h"

struct tern_word_level {
    struct tern_names vocab;
    char *unk_token; /* its text */
    int32_t unk_id;  /* -1: not in the vocabulary, an error when it is needed */
};

/* Once the vocabulary is complete; a copy of the unknown token's text is kept. */
tern_status tern_word_level_finish(tern_ctx *ctx, struct tern_word_level *model, const char *unk, size_t unk_size);
void tern_word_level_destroy(struct tern_word_level *model);

/* Appends the token of a word; its span is all of it.  O(size).  TERN_ERR_FORMAT (the unknown token is not in the
 * vocabulary), TERN_ERR_MEMORY. */
tern_status tern_word_level_encode(tern_ctx *ctx, const struct tern_word_level *model, const char *word, size_t size,
                                   struct tern_token_list *out);

#endif
