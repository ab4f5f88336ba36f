/* normalizer.h: what happens to a text before it is cut into words. */
#ifndef TERN_TEXT_NORMALIZER_H
#define TERN_TEXT_NORMALIZER_H

#include "base/ctx.h"

enum tern_normalizer_kind {
    TERN_NORMALIZE_NFC,
    TERN_NORMALIZE_NFD,
    TERN_NORMALIZE_NFKC,
    TERN_NORMALIZE_NFKD,
    TERN_NORMALIZE_LOWERCASE
};

/* A list of steps; all zero does nothing. */
struct tern_normalizer {
    enum tern_normalizer_kind *steps;
    size_t n_steps, capacity;
};

/* Memory that one call works in. */
struct tern_normalizer_scratch {
    int32_t *codes;
    size_t codes_capacity;
    int32_t *sorted;
    size_t sorted_capacity;
    char *text;
    size_t text_capacity;
};
void tern_normalizer_scratch_destroy(struct tern_normalizer_scratch *scratch);

tern_status tern_normalizer_add(tern_ctx *ctx, struct tern_normalizer *normalizer, enum tern_normalizer_kind kind);
void tern_normalizer_destroy(struct tern_normalizer *normalizer);

/* The normalised text: `text` itself if there are no steps, else in the scratch, valid until its next use. */
tern_status tern_normalizer_run(tern_ctx *ctx, const struct tern_normalizer *normalizer,
                                struct tern_normalizer_scratch *scratch, const char *text, size_t size,
                                const char **out, size_t *out_size);

#endif
