/* binding.h: the weights of a module, checked and taken once. */
#ifndef TERN_MODULES_BINDING_H
#define TERN_MODULES_BINDING_H

#include "ops/kernel_calls.h"

#include <tern/comm.h>

/* A vector [n] that is copied as fp32; *to stays NULL where it is absent. */
struct tern_bind_vector {
    const char *name;
    const tern_tensor *from;
    int64_t n;
    bool required;
    const float **to;
};

/* A matrix [in, out]: a packed one is borrowed, a raw one is packed in its own dtype. */
struct tern_bind_matrix {
    const char *name;
    const tern_tensor *from;
    int64_t in, out;
    const tern_weight **to;
};

#define TERN_BIND_MATRICES 2 /* the most of one module */

/* What a module owns of what it was bound to.  All zero is nothing. */
struct tern_binding {
    float *vectors;                          /* copies of all of them */
    tern_weight *packed[TERN_BIND_MATRICES]; /* those that were raw */
};

/* Checks all of them, then takes them.  Which matrix fits config->dtype, and its layout: tern_check_matrix().  Texts begin with
 * the owner, the module that is made, and the weight's name.  TERN_ERR_ARG (absent, no data), TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_MEMORY,
 * TERN_ERR_THREAD.  In any case tern_binding_free() frees what was taken. */
tern_status tern_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                      const struct tern_bind_vector *vectors, size_t n_vectors, const struct tern_bind_matrix *matrices,
                      size_t n_matrices, struct tern_binding *binding);
void tern_binding_free(struct tern_binding *binding);

/* Whether there is a block of this form: sequential, pre-LN or post-LN, or parallel.  TERN_ERR_UNSUPPORTED. */
tern_status tern_check_block(tern_ctx *ctx, const char *owner, const tern_config *config);
/* Whether a group of ranks is the one that config->mp_size tells of, and can do what modules ask of it. */
tern_status tern_check_comm(tern_ctx *ctx, const char *owner, const tern_config *config, const tern_comm *comm);

#endif
