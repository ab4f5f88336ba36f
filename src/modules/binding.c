/* binding.c: see binding.h. */
#include "modules/binding.h"

#include "ops/checks.h"
#include "ops/tune.h"

#include <assert.h>

static tern_status check_vector(tern_ctx *ctx, const char *owner, const struct tern_bind_vector *v)
{
    const tern_tensor *t = v->from;

    TERN_REQUIRE(ctx, tern_given(t) || !v->required, TERN_ERR_ARG, "%s: %s is not there, expected [%" PRId64 "]", owner,
                 v->name, v->n);
    if (!tern_given(t))
        return TERN_OK;
    TERN_REQUIRE(ctx, t->dtype == TERN_FP32 || t->dtype == TERN_FP16 || t->dtype == TERN_BF16, TERN_ERR_DTYPE,
                 "%s: %s is %s, expected fp32, fp16 or bf16", owner, v->name, tern_dtype_name(t->dtype));
    TERN_TRY(tern_check_tensor(ctx, owner, v->name, t, t->dtype));
    TERN_REQUIRE(ctx, t->rank == 1 && t->dim[0] == v->n, TERN_ERR_SHAPE, "%s: %s is %s, expected [%" PRId64 "]", owner,
                 v->name, tern_dims_text(t).text, v->n);
    return TERN_OK;
}

/* Floats that a vector's copy takes, in whole cache lines, so that each starts aligned. */
static size_t room(const struct tern_bind_vector *v)
{
    const size_t line = TERN_ALIGN / sizeof(float);

    return tern_given(v->from) ? ((size_t)v->n + line - 1) / line * line : 0;
}

tern_status tern_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                      const struct tern_bind_vector *vectors, size_t n_vectors, const struct tern_bind_matrix *matrices,
                      size_t n_matrices, struct tern_binding *binding)
{
    const struct tern_weight *bound[TERN_BIND_MATRICES];
    size_t floats = 0;

    assert(n_matrices <= TERN_BIND_MATRICES);
    for (size_t i = 0; i < n_vectors; i++) {
        TERN_TRY(check_vector(ctx, owner, &vectors[i]));
        floats += room(&vectors[i]);
    }
    for (size_t i = 0; i < n_matrices; i++)
        TERN_TRY(tern_check_matrix(ctx, owner, matrices[i].name, matrices[i].from, config, matrices[i].in,
                                   matrices[i].out, NULL));

    TERN_TRY(TERN_ALLOC(ctx, floats, "vectors of a module", &binding->vectors));
    float *to = binding->vectors;
    for (size_t i = 0; i < n_vectors; i++) {
        const struct tern_bind_vector *v = &vectors[i];
        if (!tern_given(v->from))
            continue;
        tern_widen(ctx->kernels, to, v->from->data, v->from->dtype, (size_t)v->n);
        *v->to = to;
        to += room(v);
    }
    for (size_t i = 0; i < n_matrices; i++)
        TERN_TRY(tern_bind_matrix(ctx, matrices[i].from, config, matrices[i].to, &binding->packed[i]));
    for (size_t i = 0; i < n_matrices; i++)
        bound[i] = *matrices[i].to;
    return tern_tune_bound(ctx, owner, config, bound, n_matrices);
}

void tern_binding_free(struct tern_binding *binding)
{
    tern_free(binding->vectors);
    for (size_t i = 0; i < TERN_BIND_MATRICES; i++)
        tern_weight_destroy(&binding->packed[i]);
    *binding = (struct tern_binding){ 0 };
}

tern_status tern_check_block(tern_ctx *ctx, const char *owner, const tern_config *config)
{
    TERN_REQUIRE(
        ctx, config->pre_layer_norm || config->mlp_after_attn, TERN_ERR_UNSUPPORTED,
        "%s: pre_layer_norm and mlp_after_attn are both false, there is: both or one of them true (no block is "
        "parallel and post-LN)",
        owner);
    return TERN_OK;
}

tern_status tern_check_comm(tern_ctx *ctx, const char *owner, const tern_config *config, const tern_comm *comm)
{
    TERN_REQUIRE(ctx, comm->size == config->mp_size && comm->rank >= 0 && comm->rank < comm->size, TERN_ERR_CONFIG,
                 "%s: comm is rank %d of %d, expected mp_size = %" PRId32 " ranks", owner, comm->rank, comm->size,
                 config->mp_size);
    TERN_REQUIRE(ctx, comm->size == 1 || comm->all_reduce, TERN_ERR_ARG, "%s: comm has no all_reduce", owner);
    return TERN_OK;
}
