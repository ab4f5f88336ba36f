/* normalizer.h: what happens to a text before it is cut into words. */
#ifndef TERN_TEXT_NORMALIZER_H
#define TERN_TEXT_NORMALIZER_H

#include "text/charsmap.h"
#include "text/codes.h"
#include "text/pattern.h"

enum tern_normalizer_kind {
    TERN_NORMALIZE_NFC,
    TERN_NORMALIZE_NFD,
    TERN_NORMALIZE_NFKC,
    TERN_NORMALIZE_NFKD,
    TERN_NORMALIZE_LOWERCASE,     /* of each character alone, in full: U+0130 becomes two */
    TERN_NORMALIZE_STRIP_ACCENTS, /* marks are taken out */
    TERN_NORMALIZE_STRIP,         /* white space at the ends: left, right */
    TERN_NORMALIZE_NMT,           /* controls are taken out, some characters become spaces */
    TERN_NORMALIZE_BERT,          /* clean_text, chinese_chars, accents, lowercase */
    TERN_NORMALIZE_BYTE_LEVEL,    /* bytes as characters */
    TERN_NORMALIZE_PREPEND,       /* text before it, unless it is empty */
    TERN_NORMALIZE_REPLACE,       /* matches of the pattern become text */
    TERN_NORMALIZE_PRECOMPILED    /* SentencePiece's table */
};

struct tern_normalizer_step {
    enum tern_normalizer_kind kind;
    bool left, right;
    bool clean_text, chinese_chars, accents, lowercase;
    char *text; /* owned, like what follows */
    size_t text_size;
    struct tern_pattern *pattern;
    struct tern_charsmap *charsmap;
};

/* A list of steps; all zero does nothing. */
struct tern_normalizer {
    struct tern_normalizer_step *steps;
    size_t n_steps, capacity;
    bool needs_places; /* what a step does depends on where text came from */
};

/* Memory that one call works in. */
struct tern_normalizer_scratch {
    struct tern_codes codes;
    struct tern_code_change *sorted; /* marks in canonical order */
    size_t sorted_capacity;
    char *text;
    size_t text_capacity;
    struct tern_place *places;
    size_t places_capacity;
    char *plain; /* the text that a pattern looks at */
    size_t plain_capacity;
    struct tern_pattern_match *match;
    uint64_t steps;              /* as in codes.h */
    bool (*goes_on)(void *user); /* or NULL: asked before each step of a long text */
    void *user;
};
void tern_normalizer_scratch_destroy(struct tern_normalizer_scratch *scratch);

/* Takes what the step owns, on error, too. */
tern_status tern_normalizer_add(tern_ctx *ctx, struct tern_normalizer *normalizer, struct tern_normalizer_step step);
void tern_normalizer_step_destroy(struct tern_normalizer_step *step);
void tern_normalizer_destroy(struct tern_normalizer *normalizer);

/* The normalised text: `piece` itself if there are no steps or it is empty, else in the scratch, valid until its next
 * use.  The piece has places if `needs_places`.  Also TERN_ERR_CANCELLED. */
tern_status tern_normalizer_run(tern_ctx *ctx, const struct tern_normalizer *normalizer,
                                struct tern_normalizer_scratch *scratch, struct tern_piece piece,
                                struct tern_piece *out);

/* One of the four normal forms of the scratch's codes (normal_form.c). */
tern_status tern_normal_form(tern_ctx *ctx, struct tern_normalizer_scratch *scratch, enum tern_normalizer_kind kind);

#endif
