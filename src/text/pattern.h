/* pattern.h: what a pre-tokenizer looks for in a text. */
#ifndef TERN_TEXT_PATTERN_H
#define TERN_TEXT_PATTERN_H

#include "base/ctx.h"

/* The end of the piece of text[from..size) that GPT-2's pattern takes at `from` < size.  Every character belongs to
 * a piece:
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * Source: openai/gpt-2, encoder.py. */
size_t tern_gpt2_piece(const char *text, size_t size, size_t from);

/* A compiled regular expression; shared by threads. */
struct tern_pattern;

/* One thread's place for matches. */
struct tern_pattern_match;

/* A regular expression in the language of Oniguruma, or a string to be found as it is (`literal`).  TERN_ERR_FORMAT
 * (not a regular expression; `where` and the offset are named), TERN_ERR_UNSUPPORTED (a construct whose meaning
 * could differ). */
tern_status tern_pattern_create(tern_ctx *ctx, const char *text, size_t size, bool literal, const char *where,
                                struct tern_pattern **out);

/* The same with a count: *steps, which must outlive the pattern, grows by one for each item of the expression that a search
 * comes to, also once more after going back.  Without JIT, whose shortcuts would hide some.  For tests of growth. */
tern_status tern_pattern_create_counting(tern_ctx *ctx, const char *text, size_t size, const char *where,
                                         uint64_t *steps, struct tern_pattern **out);
void tern_pattern_destroy(struct tern_pattern *pattern);

/* Whether a match can have no characters. */
bool tern_pattern_matches_empty(const struct tern_pattern *pattern);

tern_status tern_pattern_match_create(tern_ctx *ctx, struct tern_pattern_match **out);
void tern_pattern_match_destroy(struct tern_pattern_match *match);

/* A walk over the matches in one text. */
struct tern_pattern_walk {
    const char *text;
    size_t size;
    size_t from;     /* where the next search begins; above `size`: the walk is over */
    size_t last_end; /* end of the last match, SIZE_MAX before there is one */
    size_t n_long;   /* places that needed more steps than the limit */
};

/* The next match [*begin, *end); *found is false when there is none.  An empty match right behind the last match
 * does not count.  TERN_ERR_CAPACITY: the expression needs more steps than it may take. */
tern_status tern_pattern_next(tern_ctx *ctx, const struct tern_pattern *pattern, struct tern_pattern_match *match,
                              struct tern_pattern_walk *walk, bool *found, size_t *begin, size_t *end);

#endif
