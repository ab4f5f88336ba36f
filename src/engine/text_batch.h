/* text_batch.h: texts on their way through an encoder: to ids, by length, in groups. */
#ifndef TERN_ENGINE_TEXT_BATCH_H
#define TERN_ENGINE_TEXT_BATCH_H

#include <tern/encode.h>
#include <tern/tokenizer.h>

struct text_batch {
    tern_ctx *ctx;
    const tern_tokenizer *tokenizer;
    const tern_model *model;
    const char *what; /* "embed", for error texts */
    tern_progress_fn *progress;
    void *user;
    size_t n;

    tern_encoding *encodings; /* [n] */
    size_t *order;            /* [n] of texts, the longest first, ties as they came */
    tern_encode_text *group;  /* [group_texts] */
    size_t group_texts, group_rows;
    uint64_t n_cut;
};

/* How a text becomes ids. */
struct text_how {
    const char *prefix; /* put before each, or NULL */
    const char *query;  /* the first text of a pair of which each text is the second, or NULL */
    size_t query_size;
    int32_t max_tokens; /* of a text or a pair, special ones included */
    bool cut;           /* what is longer is shortened, and counted; else it is an error */
};

/* Fills encodings and order, and plans groups of at most `texts` texts and, where not one text has more, `rows` tokens.  Errors name
 * the text, from 1 on: TERN_ERR_FORMAT (UTF-8), TERN_ERR_ARG (no tokens, ids or segments that the model does not have),
 * TERN_ERR_CAPACITY (too long), TERN_ERR_CANCELLED, TERN_ERR_MEMORY. */
tern_status text_batch_read(struct text_batch *b, const char *const *texts, const size_t *sizes,
                            const struct text_how *how, size_t group_texts, size_t group_rows);
/* The texts of the order from `at` on that are one group, in b->group.  Their number. */
size_t text_batch_group(struct text_batch *b, size_t at);
/* The caller hears that `done` texts are done, and may end the work: TERN_ERR_CANCELLED. */
tern_status text_batch_tell(const struct text_batch *b, size_t done);
void text_batch_free(struct text_batch *b);

#endif
