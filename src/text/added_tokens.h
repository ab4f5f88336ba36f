/* added_tokens.h: tokens that are found in the text before any other rule looks at it. */
#ifndef TERN_TEXT_ADDED_TOKENS_H
#define TERN_TEXT_ADDED_TOKENS_H

#include "text/names.h"
#include "text/normalizer.h"

struct tern_added_token {
    uint32_t begin, size; /* in the text of `names` */
    int32_t id;
    bool single_word;               /* only between characters that are no part of a word */
    bool lstrip;                    /* takes the white space before it */
    bool rstrip;                    /* takes the white space behind it */
    bool normalized;                /* looked for in the normalised text, in its normalised form */
    bool special;                   /* left out on request when ids become text */
    uint32_t form_begin, form_size; /* of normalized ones: the normalised form, in the text of that pass */
};

/* What one pass looks for: texts in byte order, longest match first. */
struct tern_added_pass {
    struct tern_added_pattern *patterns;
    size_t n_patterns;
    bool first[256]; /* the bytes that a pattern begins with */
    char *text;      /* normalised forms; NULL where the texts are those of `names` */
};

struct tern_added_tokens {
    struct tern_names names;         /* of a text: its index in `tokens` */
    struct tern_added_token *tokens; /* in the order in which they were added */
    size_t count, capacity;
    int32_t max_id; /* -1 while there is none */
    struct tern_added_pass raw, normalized;
};

/* Room for `count` tokens of `bytes` bytes in all. */
tern_status tern_added_tokens_create(tern_ctx *ctx, size_t count, size_t bytes, struct tern_added_tokens *out);
void tern_added_tokens_destroy(struct tern_added_tokens *added);

/* Adds a token as the library does: its id is the vocabulary's if that has its text, else the next free one behind
 * the vocabulary and the tokens added so far.  An empty text, and one that was added before with the same flags,
 * does nothing. `token` gives the flags.  TERN_ERR_UNSUPPORTED (added before with other flags), TERN_ERR_FORMAT (the
 * next free id belongs to a token of the vocabulary, since that has holes); `where` names the file. */
tern_status tern_added_tokens_add(tern_ctx *ctx, struct tern_added_tokens *added, const struct tern_names *vocab,
                                  const bool *used, size_t n_used, const char *text, size_t size,
                                  struct tern_added_token token, const char *where);

/* Once all are added. */
tern_status tern_added_tokens_finish(tern_ctx *ctx, struct tern_added_tokens *added,
                                     const struct tern_normalizer *normalizer);

/* The text that a token becomes when ids become text: the library writes normalized ones in their normalised form. */
const char *tern_added_token_text(const struct tern_added_tokens *added, const struct tern_added_token *token,
                                  size_t *size);

/* Whether the library takes it for special then: if that text is a special token's text as it was added. */
bool tern_added_token_is_special(const struct tern_added_tokens *added, const struct tern_added_token *token);

/* The leftmost match of a pass at or behind `from`, and of those that begin there the longest.  *steps grows by the bytes
 * that were looked at. */
const struct tern_added_token *tern_added_tokens_find(const struct tern_added_tokens *added,
                                                      const struct tern_added_pass *pass, const char *text, size_t size,
                                                      size_t from, size_t *begin, size_t *end, uint64_t *steps);

#endif
