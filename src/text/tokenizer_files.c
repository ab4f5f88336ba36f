/* tokenizer_files.c: which files a tokenizer is in.
 *
 * tokenizer.json goes before all others; it is what the library itself reads. */
#include "text/text.h"

#include "base/file.h"
#include "base/memory.h"
#include "text/vocab_class.h"

#include <string.h>

/* Names that SentencePiece models have in checkpoints. */
static const char *const model_names[] = { "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
                                           "sentencepiece.model", "spm.model" };
#define N_MODEL_NAMES (sizeof model_names / sizeof *model_names)

static bool ends_with(const char *path, const char *end)
{
    const size_t size = strlen(path), length = strlen(end);

    return size >= length && strcmp(path + size - length, end) == 0;
}

/* ---- a SentencePiece model --------------------------------------------------------------------------------------- */

/* The class's ends, or what add_bos_token and add_eos_token of tokenizer_config.json make of them: the library adds
 * neither unless it is asked to. */
static tern_status read_ends(tern_ctx *ctx, const char *dir, struct tern_piece_class *ends)
{
    struct tern_json *json = NULL;
    char *path;
    tern_status status;

    *ends = (struct tern_piece_class){ 0 };
    if (!dir)
        return TERN_OK;
    TERN_TRY(tern_path_join(ctx, dir, "tokenizer_config.json", &path));
    if (tern_path_is_file(path))
        TERN_TRY_OR_FAIL(tern_json_read(ctx, path, TERN_TOKENIZER_FILE_MAX, &json));
    TERN_TRY_OR_FAIL(tern_piece_class_of(ctx, dir, json, ends));
    if (json) {
        const tern_json_value *root = tern_json_root(json);

        TERN_TRY_OR_FAIL(tern_json_opt_bool(ctx, json, root, "add_bos_token", ends->adds_bos, &ends->adds_bos));
        TERN_TRY_OR_FAIL(tern_json_opt_bool(ctx, json, root, "add_eos_token", ends->adds_eos, &ends->adds_eos));
    }
    status = TERN_OK;

fail:
    tern_json_destroy(json);
    tern_free(path);
    return status;
}

static tern_status add_text(tern_ctx *ctx, struct tern_post_list *list, int32_t text, int32_t bos, int32_t eos,
                            uint32_t type)
{
    if (bos >= 0)
        TERN_TRY(tern_post_list_add(ctx, list, bos, type));
    TERN_TRY(tern_post_list_add(ctx, list, text, type));
    return eos >= 0 ? tern_post_list_add(ctx, list, eos, type) : TERN_OK;
}

static tern_status add_ends(tern_ctx *ctx, struct tern_tokenizer *t, const char *where, const char *dir)
{
    const struct tern_sentencepiece *model = &t->model.sentencepiece;
    struct tern_piece_class ends;

    TERN_TRY(read_ends(ctx, dir, &ends));
    TERN_REQUIRE(ctx, !ends.adds_bos || model->bos_id >= 0, TERN_ERR_FORMAT,
                 "the class or tokenizer_config.json says add_bos_token, but %s has no piece for the beginning", where);
    TERN_REQUIRE(ctx, !ends.adds_eos || model->eos_id >= 0, TERN_ERR_FORMAT,
                 "the class or tokenizer_config.json says add_eos_token, but %s has no piece for the end", where);
    if (!ends.adds_bos && !ends.adds_eos)
        return TERN_OK;

    const int32_t first = ends.adds_bos ? model->bos_id : -1, last = ends.adds_eos ? model->eos_id : -1;
    struct tern_post_step *step = &t->post.steps[t->post.n_steps++];
    *step = (struct tern_post_step){ .kind = TERN_POST_TEMPLATE };
    TERN_TRY(add_text(ctx, &step->single, TERN_POST_FIRST, first, last, 0));
    TERN_TRY(add_text(ctx, &step->pair, TERN_POST_FIRST, first, last, 0));
    return add_text(ctx, &step->pair, TERN_POST_SECOND, first, last, !ends.one_type);
}

tern_status tern_tokenizer_read_sentencepiece(tern_ctx *ctx, struct tern_tokenizer *t, const char *path,
                                              const char *dir)
{
    char *data;
    size_t size;

    TERN_TRY(tern_file_read(ctx, path, TERN_TOKENIZER_FILE_MAX, &data, &size));
    t->model.kind = TERN_TOKEN_MODEL_SENTENCEPIECE;
    t->decoder = TERN_DECODE_SENTENCEPIECE;
    const tern_status status = tern_sentencepiece_read(ctx, &t->model.sentencepiece, data, size, path);
    tern_free(data);
    TERN_TRY(status);
    return add_ends(ctx, t, path, dir);
}

/* ---- whichever there is ------------------------------------------------------------------------------------------ */

/* "dir/name" if that is a file, else NULL. */
static tern_status find_file(tern_ctx *ctx, const char *dir, const char *name, char **out)
{
    TERN_TRY(tern_path_join(ctx, dir, name, out));
    if (!tern_path_is_file(*out)) {
        tern_free(*out);
        *out = NULL;
    }
    return TERN_OK;
}

static tern_status read_dir(tern_ctx *ctx, struct tern_tokenizer *t, const char *dir)
{
    char *json = NULL, *vocab = NULL, *merges = NULL, *words = NULL, *model = NULL;
    tern_status status;

    TERN_TRY_OR_FAIL(find_file(ctx, dir, "tokenizer.json", &json));
    TERN_TRY_OR_FAIL(find_file(ctx, dir, "vocab.json", &vocab));
    TERN_TRY_OR_FAIL(find_file(ctx, dir, "merges.txt", &merges));
    TERN_TRY_OR_FAIL(find_file(ctx, dir, "vocab.txt", &words));
    for (size_t i = 0; i < N_MODEL_NAMES && !model; i++)
        TERN_TRY_OR_FAIL(find_file(ctx, dir, model_names[i], &model));
    if (json)
        TERN_TRY_OR_FAIL(tern_tokenizer_read_json(ctx, t, json));
    else if (vocab || merges)
        TERN_TRY_OR_FAIL(tern_tokenizer_read_vocab(ctx, t, dir, false));
    else if (words)
        TERN_TRY_OR_FAIL(tern_tokenizer_read_vocab(ctx, t, dir, true));
    else if (model)
        TERN_TRY_OR_FAIL(tern_tokenizer_read_sentencepiece(ctx, t, model, dir));
    else
        TERN_REQUIRE_OR_FAIL(ctx, false, TERN_ERR_NOT_FOUND,
                             "%s has no tokenizer: expected tokenizer.json, vocab.json and merges.txt, vocab.txt or "
                             "tokenizer.model",
                             dir);
    status = TERN_OK;

fail:
    tern_free(json);
    tern_free(vocab);
    tern_free(merges);
    tern_free(words);
    tern_free(model);
    return status;
}

tern_status tern_tokenizer_read(tern_ctx *ctx, struct tern_tokenizer *t, const char *path)
{
    if (tern_path_is_dir(path))
        return read_dir(ctx, t, path);
    if (ends_with(path, ".model") || ends_with(path, ".spm"))
        return tern_tokenizer_read_sentencepiece(ctx, t, path, NULL);
    return tern_tokenizer_read_json(ctx, t, path);
}
