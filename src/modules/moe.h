/* moe.h: a mixture of experts as it is bound: moe.c makes it, moe_forward.c runs it. */
#ifndef TERN_MODULES_MOE_H
#define TERN_MODULES_MOE_H

#include "ops/feed_forward.h"

#include <tern/moe.h>

/* One feed-forward: an expert, or the dense one. */
struct tern_expert {
    struct tern_feed_forward_args feed_forward;
    const float *down_b;                /* [H] or NULL */
    tern_weight *owned_up, *owned_down; /* those that were raw */
};

struct tern_moe {
    tern_config config;
    tern_moe_config moe;
    const tern_comm *comm;
    size_t hidden, inner, up; /* H, I, pI */
    size_t n_experts;         /* X */
    size_t first, n_here;     /* this rank's experts */
    bool residual, normalize;
    struct tern_expert *experts; /* [n_here], then the dense one with `residual` */
    tern_weight *gate, *coef;    /* [H, X], [H, 2]; fp32 arithmetic whatever the dtype */
    const float *coef_b;         /* [2] or NULL */
    float *vectors;              /* all biases */
};

#endif
