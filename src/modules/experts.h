/* experts.h: a mixture of experts in place of a block's feed-forward, inside a parallel region.
 *
 *     p = softmax(x router)                              over all X experts, in fp32
 *     y = sum over the k largest p_e of w_e F_e(x)       w_e = p_e, with `normalize` p_e / (the sum of those k)
 *         (+ sigmoid(x gate) F_shared(x))                a feed-forward that every row goes through
 *
 * F are gated feed-forwards.  Of equal p the lower number counts as larger (torch.topk).  The sum is in the order of the experts'
 * numbers, as transformers adds them, whatever rows are beside this one; the shared one comes last.  So a row's bits depend on the
 * row alone.  A softmax over the k chosen ones, as other texts have it, is the same as `normalize`.
 *
 * Rows that go to the same expert stand together, so that an expert is two products of ordinary shape on packed weights, whose rows
 * are rounded as those of a dense feed-forward are.  Router and gate compute in fp32 in any dtype: who is chosen is no place for
 * rounding. */
#ifndef TERN_MODULES_EXPERTS_H
#define TERN_MODULES_EXPERTS_H

#include "base/arena.h"
#include "modules/moe.h"

struct tern_experts {
    size_t n, k;                       /* X, and how many of them a row goes to */
    bool normalize;                    /* the k weights of a row add up to 1 */
    const struct tern_weight *router;  /* [H, X] in a type of floats */
    const struct tern_expert *experts; /* [X], all of the same sizes; feed_forward.up NULL: another rank's */
    struct tern_expert shared;         /* feed_forward.up NULL: none */
    const struct tern_weight *gate;    /* [H, 1] in a type of floats; NULL: the shared one counts whole */
};

/* Scratch for up to max_rows rows. */
struct tern_experts_work {
    float *logits;   /* [T, X] */
    float *scores;   /* [T, k] */
    int32_t *chosen; /* [T, k], ascending in each row */
    int32_t *slots;  /* [T, k]: row of `grouped`; -1: another rank's expert */
    size_t *begin;   /* [X + 1] first row of each expert there */
    float *choice;   /* [threads, 2 X] */
    float *grouped;  /* [T k, H]: what experts read, then what they answer */
    float *shared;   /* [T, H] */
    float *weight;   /* [T]: what the gate says of the shared one */
    float *sum;      /* [threads, H] */
    float *inner;    /* [tern_feed_forward_most() of T, pI] of the widest feed-forward; by the owner */
    void *narrow;    /* tern_experts_narrow() bytes, or NULL where rows stay fp32; by the owner */
};

/* Takes the scratch from an arena (twice: once counting, once for real); inner and narrow are the owner's to set. */
void tern_experts_work_take(struct tern_arena *arena, const struct tern_experts *experts, size_t max_rows,
                            int n_threads, struct tern_experts_work *work);
/* Columns of `inner`, and bytes of `narrow`. */
size_t tern_experts_inner(const struct tern_experts *experts);
size_t tern_experts_narrow(const struct tern_experts *experts, size_t max_rows);

/* c [T, H] = y(x [T, H]) (+ residual, [T, H] or NULL, may be c).  c is not x.  Where experts are another rank's, or the shared one has
 * but a part of its channels here, c is this rank's part of the sum.  Called by every thread; barrier at the end. */
void tern_experts_run(const struct tern_par *par, const struct tern_experts *experts, float *c, const float *x,
                      const float *residual, size_t n_rows, const struct tern_experts_work *work);

/* --- what other mixtures share; called by every thread ------------------------------------------------------------- */

/* grouped[slots[t k + j]] = x[t], rows of n; a slot below 0 has none.  Barrier at the end. */
void tern_experts_group(const struct tern_par *par, float *grouped, const float *x, const int32_t *slots, size_t n_rows,
                        size_t k, size_t n);
/* Rows begin[e] .. begin[e + 1] of grouped [.., n] become expert e's answers to them, for each of n_experts.  inner:
 * [tern_feed_forward_most(), pI] of the most rows of one; narrow: see tern_feed_forward_run().  Barrier at the end. */
void tern_experts_answer(const struct tern_par *par, const struct tern_expert *experts, size_t n_experts,
                         const size_t *begin, float *grouped, size_t n, float *inner, void *narrow);

#endif
