/* head.h: the end of a model: from the rows behind the last block to what is asked of it.
 *
 *     r = norm(x)                                    the final norm, where there is one       [T, H]
 *     p = rows of r, or one for each sequence: its first, another one, or the mean of all     [n, H]
 *     p = norm(act(p dense + bias))                  each part where the head has it          [n, D]
 *     logits = cap(p head + bias)                    without a head: p                        [n, C]
 *
 * Which rows is batch->logit_rows; with pool mean, row i is the mean of span i's. */
#ifndef TERN_MODEL_HEAD_H
#define TERN_MODEL_HEAD_H

#include "model/model.h"

struct tern_head {
    const struct tern_norm_args *norm; /* NULL: none */
    bool mean;
    const struct tern_weight *dense; /* [H, D] or NULL */
    const float *dense_bias;         /* [D] or NULL */
    enum tern_act act;
    const struct tern_norm_args *dense_norm; /* [D], NULL: none */
    const struct tern_weight *out;           /* [D, C] or NULL */
    const float *bias;                       /* [C] or NULL */
    float cap;                               /* 0: none; else logits are cap tanh(logit / cap) */
    const tern_comm *comm;                   /* who has the other columns of out and bias; NULL: all are here */
    /* With comm: columns of all ranks, dealt out by tern_shard_of(words, 32, ..), and the most of one. */
    int64_t words, most;
};

/* Scratch for max_logits rows, to the parts of work that are the head's. */
void tern_head_work_take(struct tern_arena *arena, const struct tern_head *head, size_t hidden, size_t max_logits,
                         bool narrow, struct tern_model_work *work);
/* C. */
size_t tern_head_width(const struct tern_head *head, size_t hidden);

/* Logits of batch->logit_rows to batch->logits; with batch->hidden, the final norm of all rows is its last state.  Called by every
 * thread; barrier at the end.  TERN_OK, or with head->comm what that answers, the same on every thread. */
tern_status tern_head_run(const struct tern_par *par, const struct tern_head *head, const tern_model *model,
                          const struct tern_batch *batch, const struct tern_model_work *work);

#endif
