/* decode_chain.h: how the texts of tokens become one text: the decoders of tokenizer.json other than ByteLevel alone.
 *
 * In the library each decoder turns a list of texts into another, and the last list is put together.  Here texts come
 * one by one, perhaps in parts, and go on as soon as nothing that may still come can change them. */
#ifndef TERN_TEXT_DECODE_CHAIN_H
#define TERN_TEXT_DECODE_CHAIN_H

#include "text/pattern.h"
#include "text/pre_tokenizer.h"

enum tern_decode_kind {
    TERN_DECODE_STEP_BPE,           /* `text` becomes a space, nothing in the last one */
    TERN_DECODE_STEP_BYTE_FALLBACK, /* <0x41> is a byte; bytes side by side are a text, or U+FFFD each */
    TERN_DECODE_STEP_BYTE_LEVEL,    /* all texts are one, of the bytes that their characters stand for */
    TERN_DECODE_STEP_CTC,           /* equal neighbours are one; `text` is nothing; `more` is a space, with cleanup */
    TERN_DECODE_STEP_FUSE,          /* all texts are one */
    TERN_DECODE_STEP_METASPACE,     /* `code` is a space; in the first text nothing, unless the scheme is never */
    TERN_DECODE_STEP_REPLACE,       /* matches of the pattern become `text` */
    TERN_DECODE_STEP_STRIP,         /* up to `start` times `code` goes from the beginning, `stop` times from the end */
    TERN_DECODE_STEP_WORDPIECE      /* without `text` before it, or else with a space, unless it is the first */
};

struct tern_decode_step {
    enum tern_decode_kind kind;
    char *text, *more; /* owned, like the pattern */
    size_t text_size, more_size;
    struct tern_pattern *pattern;
    uint32_t code;
    enum tern_prepend_scheme scheme;
    size_t start, stop;
    bool cleanup; /* no spaces before punctuation and English contractions */
};

#define TERN_DECODE_STEPS_MAX 16

struct tern_decode_chain {
    struct tern_decode_step steps[TERN_DECODE_STEPS_MAX];
    size_t n_steps;
};
void tern_decode_step_destroy(struct tern_decode_step *step);
void tern_decode_chain_destroy(struct tern_decode_chain *chain);

struct tern_decode_buffer {
    char *text;
    size_t size, capacity;
};

/* One text in the making.  All zero, with the chain, is its beginning. */
struct tern_decode_run {
    const struct tern_decode_chain *chain;
    struct tern_decode_buffer out; /* what has become certain; the caller takes from it */
    struct {
        struct tern_decode_buffer token; /* the text that has not come to its end */
        struct tern_decode_buffer held;  /* the one before, or bytes */
        struct tern_decode_buffer work[2];
        size_t count; /* texts that have come */
        size_t cut;   /* characters taken from the beginning of this one; SIZE_MAX: no more */
        struct tern_pattern_match *match;
    } states[TERN_DECODE_STEPS_MAX];
    uint64_t n_bytes; /* that came to all steps together: what a test counts instead of time */
};
void tern_decode_run_destroy(struct tern_decode_run *run);

/* The next token's text.  TERN_ERR_CAPACITY (a pattern's limit), TERN_ERR_MEMORY. */
tern_status tern_decode_run_push(tern_ctx *ctx, struct tern_decode_run *run, const char *text, size_t size);
/* There are no more; the run is then at its beginning again, but for `out`. */
tern_status tern_decode_run_finish(tern_ctx *ctx, struct tern_decode_run *run);

/* The bytes that a token stands for in the middle of a text, appended to *out: what each step makes of it alone. */
tern_status tern_decode_alone(tern_ctx *ctx, struct tern_decode_run *run, const char *text, size_t size,
                              struct tern_decode_buffer *out);

#endif
