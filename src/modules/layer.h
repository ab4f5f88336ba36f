/* layer.h: a layer as a model runs it: inside a parallel region, on scratch that a session planned once. */
#ifndef TERN_MODULES_LAYER_H
#define TERN_MODULES_LAYER_H

#include "modules/attention.h"

/* Scratch of one layer for up to max_rows rows; all layers of a model share one. */
struct tern_layer_work {
    size_t max_rows;
    float *normed; /* [T, H] */
    struct tern_attention_work attention;
    float *attn;         /* [T, H]: attention output before the residual */
    float *inner;        /* [T, pI] */
    float *hidden;       /* [T, H]: feed-forward output */
    void *narrow;        /* rows of a product, rounded; NULL where they stay fp32 */
    tern_status *status; /* of the last all-reduce, from thread 0 to the others */
};

/* Takes the scratch from an arena (twice: once counting, once for real).  It fits every layer of the same sizes whose weights
 * have the same formats. */
void tern_layer_work_take(struct tern_arena *arena, const tern_layer *layer, size_t max_rows, int n_threads,
                          struct tern_layer_work *work);

/* x [T, H] in place.  Called by every thread; barrier at the end.  Statuses come from comm alone, the same on every thread:
 * TERN_OK for a group of one. */
tern_status tern_layer_run(const struct tern_par *par, const tern_layer *layer, float *x,
                           const struct tern_kv_batch *batch, int32_t cache_layer, const struct tern_layer_work *work);

#endif
