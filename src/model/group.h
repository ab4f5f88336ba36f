/* group.h: the processes that share a model. */
#ifndef TERN_MODEL_GROUP_H
#define TERN_MODEL_GROUP_H

#include "comm/message.h"
#include "model/model.h"
#include "model/safetensors.h"

struct tern_group {
    int32_t n_objects; /* sessions and encoders that were ever made: the number of the next one */
    /* Nothing is said: before the model is open, when rank 0 has closed it, when the ranks have lost each other. */
    bool mute;
};

/* TERN_ERR_ARG: rank and size are none of a group. */
tern_status tern_group_check(tern_ctx *ctx, const char *caller, const tern_comm *comm);
/* A model that is all zero but for who shares it, comm, and its group where comm has several ranks.  TERN_ERR_MEMORY. */
tern_status tern_group_model(tern_ctx *ctx, const tern_comm *comm, tern_model **out);
/* Rank 0 says that it closes the model; the others hear that, unless they have.  Frees the group. */
void tern_group_close(tern_model *model);

/* Whether this is the rank that makes sessions and encoders of the model, `what` of them; TERN_ERR_STATE. */
tern_status tern_group_leads(tern_ctx *ctx, const tern_model *model, const char *what);
/* Rank 0 tells the others, of a model that has any; then `numbers`, unless they are the message's own or NULL.  TERN_ERR_STATE: the ranks
 * have lost each other; or what comm answers, after which they have. */
tern_status tern_group_say(tern_ctx *ctx, const tern_model *model, struct tern_message *message, int32_t *numbers,
                           size_t n_numbers);
/* `status` of what all ranks do together: any but TERN_OK parts them. */
tern_status tern_group_done(const tern_model *model, tern_status status);

/* Whether all ranks have opened the same files with the same tern and options: what rank 0 has counts.  The lists of tensors are compared
 * whole, their values in samples.  TERN_ERR_FORMAT or TERN_ERR_ARG, naming both sides, the same on every rank. */
tern_status tern_group_compare(tern_ctx *ctx, const tern_model *model, struct tern_safetensors *files,
                               const tern_model_options *options);

#endif
