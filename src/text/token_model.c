/* token_model.c: one branch per model. */
#include "text/token_model.h"

#define CACHE_FROM 2048 /* bytes of text from which on a cache of words pays for its 128 KiB of zeros */

void tern_token_model_destroy(struct tern_token_model *model)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        tern_bpe_destroy(&model->bpe);
        break;
    }
}

void tern_token_model_scratch_destroy(const struct tern_token_model *model, struct tern_token_model_scratch *scratch)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        tern_bpe_scratch_destroy(&scratch->bpe);
        break;
    }
}

tern_status tern_token_model_begin(tern_ctx *ctx, const struct tern_token_model *model,
                                   struct tern_token_model_scratch *scratch, size_t size)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        return size >= CACHE_FROM ? tern_bpe_cache_create(ctx, &scratch->bpe) : TERN_OK;
    }
    return TERN_OK;
}

tern_status tern_token_model_encode(tern_ctx *ctx, const struct tern_token_model *model,
                                    struct tern_token_model_scratch *scratch, const char *word, size_t size, bool bytes,
                                    struct tern_token_list *out)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        return tern_bpe_encode(ctx, &model->bpe, &scratch->bpe, word, size, bytes, out);
    }
    return TERN_OK;
}

const struct tern_names *tern_token_model_vocab(const struct tern_token_model *model)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        return &model->bpe.vocab;
    }
    return NULL;
}

uint64_t tern_token_model_steps(const struct tern_token_model *model, const struct tern_token_model_scratch *scratch)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        return scratch->bpe.steps;
    }
    return 0;
}
