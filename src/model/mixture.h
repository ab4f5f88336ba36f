/* mixture.h: the experts of a model's layer, from files to what the block runs (experts.h).
 *
 * Files have them one by one, up, gate and down apart, or all in one: [X, 2 I, H] of gate and up, the gate first, and [X, H, I].  The
 * second kind of name has no ".weight". */
#ifndef TERN_MODEL_MIXTURE_H
#define TERN_MODEL_MIXTURE_H

#include "model/binder.h"
#include "model/shard.h"
#include "modules/experts.h"

/* All zero: a layer without experts. */
struct tern_mixture {
    tern_weight *router, *gate;  /* packed as they are in the files, whatever the model's dtype */
    struct tern_expert *experts; /* [X], those of other ranks without weights; then the shared one if there is one */
    struct tern_experts bound;
};

/* Whether layer i of a model has experts. */
bool tern_mixture_here(const struct tern_spec *spec, int32_t layer);
/* Whether the files have a router of these names, where the model has any. */
bool tern_mixture_named(struct tern_binder *binder, const struct tern_spec *spec, const struct tern_names *names);
/* Declares the weights of a layer.  *out is all zero before; tern_mixture_free() frees it in any case. */
tern_status tern_mixture_bind(struct tern_binder *binder, const tern_model_config *config, const struct tern_spec *spec,
                              const struct tern_shards *shards, int32_t layer, struct tern_mixture *out);
/* After tern_binder_load(). */
void tern_mixture_finish(const tern_model_config *config, const struct tern_spec *spec, struct tern_mixture *mixture);
void tern_mixture_free(const struct tern_spec *spec, struct tern_mixture *mixture);

/* What its matrices take: all of them, and those that one row meets. */
struct tern_mixture_stats {
    uint64_t bytes, elements, met_bytes, met_elements;
};
struct tern_mixture_stats tern_mixture_stats(const struct tern_mixture *mixture);

#endif
