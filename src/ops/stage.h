/* stage.h: activations in fp16 or bf16 around a region that computes in fp32.
 *
 * An operator names its tensors once.  Those in fp32 are used as they are; the others get a place in one piece of scratch, are
 * widened (exactly) when the region begins, and rounded, once, when it ends.
 *
 *     struct tern_stage stage = { 0 };
 *     tern_stage_in(&stage, input, &x);  tern_stage_out(&stage, output, &y);      after all checks
 *     TERN_TRY_OR_FAIL(tern_stage_open(ctx, &stage));
 *     ... in the region: tern_stage_load(par, &stage);  compute on x, y;  tern_stage_store(par, &stage);
 *     fail: tern_stage_close(ctx, &stage);
 */
#ifndef TERN_OPS_STAGE_H
#define TERN_OPS_STAGE_H

#include "ops/kernel_calls.h"

#define TERN_STAGE_MAX 16

struct tern_staged {
    void *data;
    tern_dtype dtype;
    size_t n;     /* elements */
    float **wide; /* where the operator finds it in fp32 */
    bool in, out;
};
struct tern_stage {
    struct tern_staged staged[TERN_STAGE_MAX];
    size_t count;
    void *memory;
    size_t bytes;
};

/* A checked dense fp32, fp16 or bf16 tensor that is read, written, or both.  *at gets its numbers: at once where they are fp32,
 * from open on otherwise; NULL for a tensor that is not given. */
void tern_stage_in(struct tern_stage *stage, const tern_tensor *t, const float **at);
void tern_stage_out(struct tern_stage *stage, const tern_tensor *t, float **at);
void tern_stage_in_out(struct tern_stage *stage, const tern_tensor *t, float **at);

/* Memory for all.  TERN_ERR_MEMORY.  tern_stage_close() in any case. */
tern_status tern_stage_open(tern_ctx *ctx, struct tern_stage *stage);
void tern_stage_close(tern_ctx *ctx, struct tern_stage *stage);

/* Widens what is read; barrier at the end if there was any.  Rounds what is written; to be called behind a barrier that ends the
 * last write; none at its end. */
void tern_stage_load(const struct tern_par *par, const struct tern_stage *stage);
void tern_stage_store(const struct tern_par *par, const struct tern_stage *stage);

#endif
