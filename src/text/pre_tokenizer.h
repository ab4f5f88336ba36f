/* pre_tokenizer.h: how a text is cut into the words that the model sees. */
#ifndef TERN_TEXT_PRE_TOKENIZER_H
#define TERN_TEXT_PRE_TOKENIZER_H

#include "text/pattern.h"
#include "text/piece.h"

/* What becomes of a match; the library's names. */
enum tern_split_behavior {
    TERN_SPLIT_REMOVED,
    TERN_SPLIT_ISOLATED,
    TERN_SPLIT_MERGED_WITH_PREVIOUS,
    TERN_SPLIT_MERGED_WITH_NEXT,
    TERN_SPLIT_CONTIGUOUS /* neighbouring matches are one */
};

enum tern_pre_step_kind {
    TERN_PRE_BYTE_LEVEL,
    TERN_PRE_SPLIT,      /* at matches of the pattern */
    TERN_PRE_SPLIT_CHAR, /* at each character that is */
    TERN_PRE_WHITESPACE, /* runs of characters of words, runs of others, without white space: \w+|[^\w\s]+ */
    TERN_PRE_METASPACE,
    TERN_PRE_SCRIPTS, /* where the script changes; common characters before the first script are dropped */
    TERN_PRE_FIXED_LENGTH
};

enum tern_pre_char { TERN_PRE_IS_SPACE, TERN_PRE_IS_PUNCTUATION, TERN_PRE_IS_NUMERIC, TERN_PRE_IS_DELIMITER };

enum tern_prepend_scheme { TERN_PREPEND_ALWAYS, TERN_PREPEND_FIRST, TERN_PREPEND_NEVER };

struct tern_pre_step {
    enum tern_pre_step_kind kind;
    bool add_prefix_space, use_regex; /* ByteLevel */
    struct tern_pattern *pattern;     /* Split; owned */
    enum tern_pre_char is;            /* of a split at characters */
    uint32_t delimiter;               /* TERN_PRE_IS_DELIMITER; Metaspace's replacement of a space */
    enum tern_split_behavior behavior;
    bool invert;                     /* what lies between the matches counts as the match */
    enum tern_prepend_scheme scheme; /* Metaspace: where the replacement is put before a piece */
    bool split;                      /* Metaspace: at each replacement, too */
    size_t length;                   /* FixedLength: characters */
};

#define TERN_PRE_STEPS_MAX       16
#define TERN_PRE_BYTE_LEVELS_MAX 4 /* each makes text twice as long */

/* Steps, each working on the pieces that the one before left.  All zero: the text is one word. */
struct tern_pre_tokenizer {
    struct tern_pre_step steps[TERN_PRE_STEPS_MAX];
    size_t n_steps;
    bool has_split;
    bool needs_origin; /* a step asks whether a piece begins where the text does */
    bool needs_places; /* and it can be answered by places alone, since pieces were cut before */
};

/* Memory that one call works in. */
struct tern_pre_scratch {
    struct {
        char *changed; /* a piece with something before it, or with other characters */
        size_t changed_capacity;
        struct tern_place *changed_places;
        size_t changed_places_capacity;
        char *mapped; /* a piece in byte-level characters, for the steps behind */
        size_t mapped_capacity;
        struct tern_place *mapped_places;
        size_t mapped_places_capacity;
    } steps[TERN_PRE_STEPS_MAX];
    struct tern_pattern_match *match;
    uint64_t n_bytes; /* that were looked at or moved: what a test counts instead of time */
};
void tern_pre_scratch_destroy(struct tern_pre_scratch *scratch);

/* Appends a step and takes its pattern, on error, too.  False: there are too many. */
bool tern_pre_tokenizer_add(struct tern_pre_tokenizer *pre, struct tern_pre_step step);
void tern_pre_tokenizer_destroy(struct tern_pre_tokenizer *pre);

/* Takes a word, never empty.  `bytes`: its bytes stand for their byte-level characters; never so with places. */
typedef tern_status tern_word_fn(void *user, struct tern_piece word, bool bytes);

/* Cuts a piece, valid UTF-8, and calls `fn` with each word in order.  TERN_ERR_CAPACITY: a pattern's limit;
 * TERN_ERR_UNSUPPORTED: ByteLevel meets text that a Replace has put before everything, where the library fails. */
tern_status tern_pre_tokenizer_run(tern_ctx *ctx, const struct tern_pre_tokenizer *pre,
                                   struct tern_pre_scratch *scratch, struct tern_piece piece, tern_word_fn *fn,
                                   void *user);

#endif
