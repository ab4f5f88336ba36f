/* embed.h: sentences to vectors, as a sentence-transformers directory says. */
#ifndef TERN_EMBED_H
#define TERN_EMBED_H

#include <tern/encode.h>
#include <tern/tokenizer.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A model with its tokenizer and what stands behind it.  Used by one thread at a time. */
typedef struct tern_embedder tern_embedder;

/** The transformer of a sentence-transformers directory: what tern_model_open() takes on ranks other than 0, where several share an
 *  embedder's model and rank 0 has the embedder (encode.h).
 *
 * @param name  what tern_model_find() takes.
 * @param path  its directory, freed with tern_path_free(); NULL on error.
 * @return as tern_embedder_open(). */
TERN_API tern_status tern_embedder_find(tern_ctx *ctx, const char *name, char **path);

/** Opens a directory.
 *
 * With modules.json: Transformer (max_seq_length), Pooling in all its modes and their combinations, Dense, LayerNorm, Normalize, in
 * the order of the file; config_sentence_transformers.json's prompts and truncate_dim.  Without it the directory is a transformer
 * alone; its states are averaged, or the last token's is taken of a ..ForCausalLM, as sentence-transformers does.
 * Any other module, pooling mode or activation is refused by name.
 *
 * @param name     what tern_model_find() takes.
 * @param options  of the model; NULL: the defaults.
 * @return as tern_model_open() and tern_tokenizer_open(); *out is NULL on error. */
TERN_API tern_status tern_embedder_open(tern_ctx *ctx, const char *name, const tern_model_options *options,
                                        tern_embedder **out);
/** Frees it and sets *embedder to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_embedder_close(tern_embedder **embedder);

/** Numbers of a vector. */
TERN_API int32_t tern_embedder_width(const tern_embedder *embedder);
/** Tokens of a text that are read at most: max_seq_length, or what the model can. */
TERN_API int32_t tern_embedder_max_tokens(const tern_embedder *embedder);
/** Its model; valid as long as it is. */
TERN_API const tern_model *tern_embedder_model(const tern_embedder *embedder);
/** Name of a prompt; NULL past the last and for NULL. */
TERN_API const char *tern_embedder_prompt_name(const tern_embedder *embedder, size_t index);
/** What it has computed so far. */
TERN_API tern_encoder_stats tern_embedder_get_stats(const tern_embedder *embedder);
/** The prompt of a name, or of default_prompt_name where that is NULL; NULL where there is none. */
TERN_API const char *tern_embedder_prompt(const tern_embedder *embedder, const char *name);

typedef struct tern_embed_options {
    const char *prompt; /**< put before each text; NULL: none */
    tern_progress_fn
        *progress; /**< or NULL: `done` of `total` texts, 0 of them while they become ids; false ends it with
                                     TERN_ERR_CANCELLED */
    void *user;
    uint64_t *n_cut;      /**< NULL, or gets how many texts were longer than tern_embedder_max_tokens() and cut there */
    uint64_t reserved[4]; /**< zero */
} tern_embed_options;

/** Vectors [n][width] of texts, in their order.  They are read sorted by length, as many at once as fit; a text has the same
 *  bits alone and beside any others.
 *
 * @param texts, sizes  [n] UTF-8.
 * @param options       NULL: all zero.
 * @return TERN_OK; TERN_ERR_FORMAT (invalid UTF-8, with the text's number, from 1 on, and the byte; a vector with a number that is not
 *         finite, with the text's number), TERN_ERR_ARG, TERN_ERR_CANCELLED,
 *         TERN_ERR_MEMORY, TERN_ERR_THREAD. */
TERN_API tern_status tern_embed(tern_embedder *embedder, const char *const *texts, const size_t *sizes, size_t n,
                                const tern_embed_options *options, float *vectors);

#ifdef __cplusplus
}
#endif
#endif
