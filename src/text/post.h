/* post.h: what is made of the ids of a text, or of two: special tokens, type ids, limits of length.
 *
 * What the post-processors do does not depend on the text, so it is worked out when the tokenizer is opened: a plan
 * says which special tokens stand where around the text's own tokens, and what happens to their offsets. */
#ifndef TERN_TEXT_POST_H
#define TERN_TEXT_POST_H

#include "base/ctx.h"

#define TERN_POST_FIRST     -1 /* the tokens of the first text */
#define TERN_POST_SECOND    -2
#define TERN_POST_TRIMS_MAX 8
#define TERN_POST_STEPS_MAX 16
#define TERN_PADDED_MAX     (1 << 24) /* tokens that a file may fill a text up to */

/* A special token of the file, or one of the texts. */
struct tern_post_item {
    int32_t id; /* TERN_POST_FIRST, TERN_POST_SECOND */
    uint32_t type;
    int n_trims; /* how often the white space of tokens leaves their offsets; of texts only */
    struct {
        bool prefix_space; /* one space before the first token was put there by the tokenizer, and stays */
        bool leads;        /* the text's first token is the first of all, at that time */
    } trims[TERN_POST_TRIMS_MAX];
};

struct tern_post_list {
    struct tern_post_item *items;
    size_t count, capacity;
    bool broken; /* a plan that the processors do not have */
};

enum tern_post_kind { TERN_POST_TEMPLATE, TERN_POST_BERT, TERN_POST_ROBERTA, TERN_POST_BYTE_LEVEL };

struct tern_post_step {
    enum tern_post_kind kind;
    struct tern_post_list single, pair; /* of a template; owned */
    int32_t cls, sep;
    bool trim_offsets, add_prefix_space;
};

enum tern_truncation { TERN_LONGEST_FIRST, TERN_ONLY_FIRST, TERN_ONLY_SECOND };

/* What a file says about truncation and padding. */
struct tern_limits {
    bool truncates, from_left;
    enum tern_truncation strategy;
    size_t max_length, stride;
    bool pads, pad_left;
    size_t pad_to; /* 0: the longest of the batch */
    size_t pad_multiple;
    int32_t pad_id;
    uint32_t pad_type;
};

/* All zero is no processor: the texts' own ids, one behind the other. */
struct tern_post {
    struct tern_post_step steps[TERN_POST_STEPS_MAX];
    size_t n_steps;
    bool trims;                       /* a step trims offsets */
    size_t n_added[2];                /* special tokens around one text, around two */
    struct tern_post_list plan[2][2]; /* [two texts][with special tokens] */
    struct tern_limits limits;
};
void tern_post_destroy(struct tern_post *post);

/* Appends to a list. */
tern_status tern_post_list_add(tern_ctx *ctx, struct tern_post_list *list, int32_t id, uint32_t type);

/* Once the steps are there: makes the plans.  TERN_ERR_UNSUPPORTED (a template behind one that left other than one or
 * two pieces of one text with its special tokens; without them, or with two texts, that plan is broken), TERN_ERR_FORMAT (a template for one text that names the second); `where` names the file. */
tern_status tern_post_finish(tern_ctx *ctx, struct tern_post *post, const char *where);

/* TERN_ERR_UNSUPPORTED for a plan that is broken. */
tern_status tern_post_check(tern_ctx *ctx, const struct tern_post_list *plan);

/* Which tokens of two texts are left: [begin, end) of each.  `n_added` special tokens will come to them; one text has
 * count[1] 0 and `pair` false.  TERN_ERR_ARG: the strategy needs a second text, or takes away all of one. */
tern_status tern_limits_apply(tern_ctx *ctx, const struct tern_limits *limits, bool pair, size_t n_added,
                              const size_t count[2], size_t begin[2], size_t end[2]);

/* How many tokens `count` become with padding, if `longest` are in the longest of the batch. */
size_t tern_limits_padded(const struct tern_limits *limits, size_t count, size_t longest);

#endif
