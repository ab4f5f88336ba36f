/* model.h: the inside of tern_model, and its forward pass. */
#ifndef TERN_MODEL_MODEL_H
#define TERN_MODEL_MODEL_H

#include "base/arena.h"
#include "modules/layer.h"

#include <tern/model.h>

#include <stdatomic.h>

/* One pass over the weights: T rows of one or more sequences. */
struct tern_batch {
    const int32_t *ids;        /* [T], each inside the vocabulary (checked by the caller) */
    const int32_t *types;      /* [T] segment of each, inside the table; NULL: 0 */
    const int32_t *positions;  /* [T], each inside the context; -1: the row before the first */
    struct tern_kv_batch kv;   /* spans reserved by the caller, who commits them after success; kv.n_rows is T */
    const int32_t *logit_rows; /* [n_logits] rows whose scores are wanted, ascending; head.h */
    size_t n_logits;
    float *logits; /* [n_logits][C] */
    float *hidden; /* NULL, or [L + 2][T][H]: after the embedding, after each layer, after the final norm, if any */
    float *states; /* NULL, or [T][H]: after the final norm */
    bool one_pass; /* nothing is read again: all layers keep keys and values in the cache's only one */
    const atomic_bool *cancel; /* NULL, or checked before each layer */
};

/* Scratch of a forward pass, for up to max_rows rows and max_logits rows of scores. */
struct tern_model_work {
    size_t max_rows, max_logits;
    float *x;        /* [T, H] residual stream */
    float *embedded; /* [T, width] rows of the embedding, where they are projected */
    float *final;    /* [n_logits, H] rows that the head reads, after the final norm */
    float *second;   /* [n_logits, D] behind the head's first product, where it has two */
    void *narrow;    /* rows of the head's products, rounded; NULL where they stay fp32 */
    float *words;    /* [n_logits, most] this rank's scores, where several share the head */
    float *gathered; /* [ranks, gather_rows, most] */
    size_t gather_rows;
    struct tern_block_work block;
    atomic_bool *stop; /* what thread 0 saw of the cancel flag: the same decision for all threads */
};

/* How to complete a model: ".  To download all of it: ..." where `dir` is a snapshot in the Hugging Face cache, else "". */
#define TERN_SNAPSHOT_HINT 320
const char *tern_snapshot_hint(const char *dir, char *buffer, size_t size);

/* Whether it is one of the enum, and what rows are rounded to before a product. */
bool tern_model_is_dtype(tern_model_dtype dtype);
tern_dtype tern_model_row_dtype(tern_model_dtype dtype);

/* Whether it was opened to be described: TERN_ERR_STATE with the caller's name, as it cannot be run. */
tern_status tern_model_check_whole(tern_ctx *ctx, const tern_model *model, const char *caller);

/* Heads of keys and values that a cache holds for this rank, 1 where it has none. */
int32_t tern_model_kv_heads(const tern_model *model);

/* The positions of tokens that follow `first` others: counted on, but for RoBERTa's padding id, which has none. */
void tern_model_places(const tern_model *model, const int32_t *ids, int32_t n, int32_t first, int32_t *positions);

/* The token whose row a text's answer is made from, where that is a token's. */
int32_t tern_model_pool_token(const tern_model *model, const int32_t *ids, int32_t n);

/* Takes the scratch from an arena (twice: once counting, once for real). */
void tern_model_work_take(struct tern_arena *arena, const tern_model *model, size_t max_rows, size_t max_logits,
                          int n_threads, struct tern_model_work *work);

/* Runs the batch in one parallel region.  TERN_OK, TERN_ERR_CANCELLED, TERN_ERR_THREAD. */
tern_status tern_model_forward(tern_ctx *ctx, const tern_model *model, const struct tern_batch *batch,
                               const struct tern_model_work *work);

#endif
