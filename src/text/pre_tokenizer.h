/* pre_tokenizer.h: how a text is cut into the words that the model sees. */
#ifndef TERN_TEXT_PRE_TOKENIZER_H
#define TERN_TEXT_PRE_TOKENIZER_H

#include "text/pattern.h"

/* What becomes of a match; the library's names. */
enum tern_split_behavior {
    TERN_SPLIT_REMOVED,
    TERN_SPLIT_ISOLATED,
    TERN_SPLIT_MERGED_WITH_PREVIOUS,
    TERN_SPLIT_MERGED_WITH_NEXT,
    TERN_SPLIT_CONTIGUOUS /* neighbouring matches are one */
};

enum tern_pre_step_kind { TERN_PRE_BYTE_LEVEL, TERN_PRE_SPLIT };

struct tern_pre_step {
    enum tern_pre_step_kind kind;
    bool add_prefix_space, use_regex; /* ByteLevel */
    struct tern_pattern *pattern;     /* Split; owned */
    enum tern_split_behavior behavior;
    bool invert; /* what lies between the matches counts as the match */
};

#define TERN_PRE_STEPS_MAX 16

/* Steps, each working on the pieces that the one before left.  All zero: the text is one word. */
struct tern_pre_tokenizer {
    struct tern_pre_step steps[TERN_PRE_STEPS_MAX];
    size_t n_steps;
    bool has_split;
};

/* Memory that one call works in. */
struct tern_pre_scratch {
    struct {
        char *prefixed; /* the piece with a space before it */
        size_t prefixed_capacity;
        char *mapped; /* a piece in byte-level characters, for the steps behind */
        size_t mapped_capacity;
    } steps[TERN_PRE_STEPS_MAX];
    struct tern_pattern_match *match;
};
void tern_pre_scratch_destroy(struct tern_pre_scratch *scratch);
void tern_pre_tokenizer_destroy(struct tern_pre_tokenizer *pre);

/* Takes a word, never empty.  `bytes`: its bytes stand for their byte-level characters. */
typedef tern_status tern_word_fn(void *user, const char *word, size_t size, bool bytes);

/* Cuts text[0..size), valid UTF-8, and calls `fn` with each word in order. */
tern_status tern_pre_tokenizer_run(tern_ctx *ctx, const struct tern_pre_tokenizer *pre,
                                   struct tern_pre_scratch *scratch, const char *text, size_t size, tern_word_fn *fn,
                                   void *user);

#endif
