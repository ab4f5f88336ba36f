/* group.h: the processes that share a model. */
#ifndef TERN_MODEL_GROUP_H
#define TERN_MODEL_GROUP_H

#include "comm/message.h"
#include "model/model.h"
#include "model/safetensors.h"

struct tern_group {
    int32_t n_sessions; /* that were ever made: the number of the next one */
    bool
        over; /* before the model is open; when rank 0 has closed it; when the ranks have lost each other: nothing is said */
};

/* TERN_ERR_ARG: rank and size are none of a group. */
tern_status tern_group_check(tern_ctx *ctx, const char *caller, const tern_comm *comm);
/* A model that is all zero but for who shares it, comm, and its group where comm has several ranks.  TERN_ERR_MEMORY. */
tern_status tern_group_model(tern_ctx *ctx, const tern_comm *comm, tern_model **out);
/* Rank 0 says that it closes the model; the others hear that, unless they have.  Frees the group. */
void tern_group_close(tern_model *model);

/* Whether all ranks have opened the same files with the same tern and options: what rank 0 has counts.  The lists of tensors are compared
 * whole, their values in samples.  TERN_ERR_FORMAT or TERN_ERR_ARG, naming both sides, the same on every rank. */
tern_status tern_group_compare(tern_ctx *ctx, const tern_model *model, struct tern_safetensors *files,
                               const tern_model_options *options);

#endif
