/* word_level.c: one look-up. */
#include "text/word_level.h"

#include "base/memory.h"

tern_status tern_word_level_finish(tern_ctx *ctx, struct tern_word_level *model, const char *unk, size_t unk_size)
{
    TERN_TRY(tern_strndup(ctx, unk, unk_size, "the unknown token", &model->unk_token));
    model->unk_id = tern_names_find(&model->vocab, unk, unk_size);
    return TERN_OK;
}

void tern_word_level_destroy(struct tern_word_level *model)
{
    tern_names_destroy(&model->vocab);
    tern_free(model->unk_token);
    *model = (struct tern_word_level){ 0 };
}

tern_status tern_word_level_encode(tern_ctx *ctx, const struct tern_word_level *model, const char *word, size_t size,
                                   struct tern_token_list *out)
{
    const int32_t id = tern_names_find(&model->vocab, word, size);

    TERN_REQUIRE(ctx, id >= 0 || model->unk_id >= 0, TERN_ERR_FORMAT,
                 "the text needs the unknown token '%s', which the vocabulary of %zu tokens does not have",
                 model->unk_token, model->vocab.count);
    return tern_token_list_push(ctx, out, id >= 0 ? id : model->unk_id, 0, size);
}
