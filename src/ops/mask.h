/* mask.h: masks over scores [B, h, S, n], whatever they are given as, in the one form that kernels take.
 *
 * A mask is fp32, fp16 or bf16 and is added to the scores, where -inf hides a column altogether; or bool or integers, which say what
 * is visible.  Its axes count from the right, each whole or 1; [B, n] is a row for each sequence where it is not [S, n] as well.
 * Kernels get rows of fp32 to add: those of the tensor where it has them, else rows that are made when the region begins.
 *
 *     tern_mask_check(...), tern_mask_fit(...)        with the other checks
 *     TERN_TRY_OR_FAIL(tern_mask_open(ctx, &mask));
 *     ... in the region: tern_mask_load(par, &mask);  tern_mask_row(&mask, b, head, i)
 *     fail: tern_mask_close(ctx, &mask);
 */
#ifndef TERN_OPS_MASK_H
#define TERN_OPS_MASK_H

#include "ops/kernel_calls.h"

#include <tern/op.h>

/* All zero: there is none. */
struct tern_mask {
    const tern_tensor *tensor;
    bool visible;     /* bool and integers: what is not 0 is visible, else hidden */
    bool made;        /* rows are made, not the tensor's own */
    size_t columns;   /* of the tensor's last axis */
    size_t width;     /* of a row as it is read */
    size_t n_rows;    /* different ones */
    size_t stride[3]; /* from row to row of rows along batch, head and row of scores; 0 repeats */
    const float *rows;
    void *memory;
    size_t bytes;
};

/* Whether a mask (or none) is dense, and of `dtype`, fp32, bool or integers. */
tern_status tern_mask_check(tern_ctx *ctx, const char *op, const tern_tensor *mask, tern_dtype dtype);

/* Whether the axes of a checked mask fit scores `full`, [B, h, S, n]; if so fills *out.  The last axis may be longer with
 * `longer`.  -1 in full: that axis can only be 1.  None fits anything. */
bool tern_mask_fit(const tern_tensor *mask, bool visible, const int64_t *full, bool longer, struct tern_mask *out);

/* Memory for rows that are made.  TERN_ERR_MEMORY.  tern_mask_close() in any case. */
tern_status tern_mask_open(tern_ctx *ctx, struct tern_mask *mask);
void tern_mask_close(tern_ctx *ctx, struct tern_mask *mask);

/* Makes the rows; barrier at the end if there are any to make. */
void tern_mask_load(const struct tern_par *par, const struct tern_mask *mask);

/* The row for (b, head, i), NULL without a mask. */
static inline const float *tern_mask_row(const struct tern_mask *m, size_t b, size_t head, size_t i)
{
    return m->rows ? m->rows + b * m->stride[0] + head * m->stride[1] + i * m->stride[2] : NULL;
}

/* ---- what a call gives to attention besides rows (softmax_context.c): checked, and set in args ---- */

tern_status tern_context_options(tern_ctx *ctx, const char *op, const tern_attention_options *options,
                                 struct tern_softmax_context_args *args);
/* NULL and rank -1: none, the places in the cache. */
tern_status tern_context_positions(tern_ctx *ctx, const char *op, const tern_tensor *positions, size_t rows,
                                   struct tern_softmax_context_args *args);
/* A mask of [1|T, n], or one that broadcasts to [spans, h, rows of a span, n].  args->mask is out->rows once it is open. */
tern_status tern_context_mask(tern_ctx *ctx, const char *op, const tern_tensor *mask, const tern_config *config,
                              const struct tern_kv_batch *batch, struct tern_softmax_context_args *args,
                              struct tern_mask *out);

#endif
