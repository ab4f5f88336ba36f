/* token_model.c: one branch per model. */
#include "text/token_model.h"

#include "base/memory.h"
#include "text/byte_level.h"

#define CACHE_FROM 2048 /* bytes of text from which on a cache of words pays for its 128 KiB of zeros */

void tern_token_model_destroy(struct tern_token_model *model)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        tern_bpe_destroy(&model->bpe);
        break;
    case TERN_TOKEN_MODEL_WORDPIECE:
        tern_wordpiece_destroy(&model->wordpiece);
        break;
    case TERN_TOKEN_MODEL_WORD_LEVEL:
        tern_word_level_destroy(&model->word_level);
        break;
    case TERN_TOKEN_MODEL_UNIGRAM:
        tern_unigram_destroy(&model->unigram);
        break;
    case TERN_TOKEN_MODEL_SENTENCEPIECE:
        tern_sentencepiece_destroy(&model->sentencepiece);
        break;
    }
}

void tern_token_model_scratch_destroy(const struct tern_token_model *model, struct tern_token_model_scratch *scratch)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        tern_bpe_scratch_destroy(&scratch->bpe);
        break;
    case TERN_TOKEN_MODEL_UNIGRAM:
        tern_unigram_scratch_destroy(&scratch->unigram);
        break;
    case TERN_TOKEN_MODEL_SENTENCEPIECE:
        tern_sentencepiece_scratch_destroy(&scratch->sentencepiece);
        break;
    case TERN_TOKEN_MODEL_WORDPIECE:
    case TERN_TOKEN_MODEL_WORD_LEVEL:
        break;
    }
    tern_free(scratch->mapped);
    scratch->mapped = NULL;
    scratch->mapped_capacity = 0;
}

tern_status tern_token_model_begin(tern_ctx *ctx, const struct tern_token_model *model,
                                   struct tern_token_model_scratch *scratch, size_t size)
{
    if (model->kind == TERN_TOKEN_MODEL_BPE && size >= CACHE_FROM)
        return tern_bpe_cache_create(ctx, &scratch->bpe);
    return TERN_OK;
}

tern_status tern_token_model_encode(tern_ctx *ctx, const struct tern_token_model *model,
                                    struct tern_token_model_scratch *scratch, const char *word, size_t size, bool bytes,
                                    struct tern_token_list *out)
{
    if (bytes && model->kind != TERN_TOKEN_MODEL_BPE) {
        TERN_TRY(TERN_GROW(ctx, &scratch->mapped, &scratch->mapped_capacity, 2 * size, "a word"));
        size = tern_byte_level_encode(word, size, scratch->mapped);
        word = scratch->mapped;
    }
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        return tern_bpe_encode(ctx, &model->bpe, &scratch->bpe, word, size, bytes, out);
    case TERN_TOKEN_MODEL_WORDPIECE:
        return tern_wordpiece_encode(ctx, &model->wordpiece, &scratch->wordpiece, word, size, out);
    case TERN_TOKEN_MODEL_WORD_LEVEL:
        return tern_word_level_encode(ctx, &model->word_level, word, size, out);
    case TERN_TOKEN_MODEL_UNIGRAM:
        return tern_unigram_encode(ctx, &model->unigram, &scratch->unigram, word, size, out);
    case TERN_TOKEN_MODEL_SENTENCEPIECE:
        return tern_sentencepiece_encode(ctx, &model->sentencepiece, &scratch->sentencepiece, word, size, out);
    }
    return TERN_OK;
}

bool tern_token_model_is_loose(const struct tern_token_model *model, int32_t id)
{
    return model->kind == TERN_TOKEN_MODEL_UNIGRAM && id == model->unigram.unk_id;
}

bool tern_token_model_is_special(const struct tern_token_model *model, int32_t id)
{
    return model->kind == TERN_TOKEN_MODEL_SENTENCEPIECE && model->sentencepiece.pieces[id].type == TERN_PIECE_CONTROL;
}

const struct tern_names *tern_token_model_vocab(const struct tern_token_model *model)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        return &model->bpe.vocab;
    case TERN_TOKEN_MODEL_WORDPIECE:
        return &model->wordpiece.vocab;
    case TERN_TOKEN_MODEL_WORD_LEVEL:
        return &model->word_level.vocab;
    case TERN_TOKEN_MODEL_UNIGRAM:
        return &model->unigram.vocab;
    case TERN_TOKEN_MODEL_SENTENCEPIECE:
        return &model->sentencepiece.vocab;
    }
    return NULL;
}

uint64_t tern_token_model_steps(const struct tern_token_model *model, const struct tern_token_model_scratch *scratch)
{
    switch (model->kind) {
    case TERN_TOKEN_MODEL_BPE:
        return scratch->bpe.steps;
    case TERN_TOKEN_MODEL_WORDPIECE:
        return scratch->wordpiece.steps;
    case TERN_TOKEN_MODEL_UNIGRAM:
        return scratch->unigram.steps;
    case TERN_TOKEN_MODEL_SENTENCEPIECE:
        return scratch->sentencepiece.steps;
    case TERN_TOKEN_MODEL_WORD_LEVEL:
        break;
    }
    return 0;
}
