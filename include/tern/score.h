/* score.h: texts, or pairs of them, to scores of labels: classifiers and cross-encoders. */
#ifndef TERN_SCORE_H
#define TERN_SCORE_H

#include <tern/encode.h>
#include <tern/tokenizer.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A model of TERN_TASK_CLASSIFY with its tokenizer.  Used by one thread at a time. */
typedef struct tern_scorer tern_scorer;

/** What sentence-transformers' CrossEncoder makes of a score. */
typedef enum tern_score_activation {
    TERN_SCORE_IDENTITY = 0, /**< nothing: the score as the model gives it */
    TERN_SCORE_SIGMOID = 1   /**< 1 / (1 + exp(-score)) */
} tern_score_activation;

/** Opens a directory: a ..ForSequenceClassification as transformers saves it, or a CrossEncoder of sentence-transformers.
 *
 * @param name     what tern_model_find() takes.
 * @param options  of the model; NULL: the defaults.
 * @return as tern_model_open() and tern_tokenizer_open(); TERN_ERR_UNSUPPORTED: the model gives no scores of labels for a text, or
 *         modules.json, activation_fn have what tern does not do, by name.  *out is NULL on error. */
TERN_API tern_status tern_scorer_open(tern_ctx *ctx, const char *name, const tern_model_options *options,
                                      tern_scorer **out);
/** Frees it and sets *scorer to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_scorer_close(tern_scorer **scorer);

/** Its model, whose config has the number of labels and their kind; valid as long as it is. */
TERN_API const tern_model *tern_scorer_model(const tern_scorer *scorer);
/** Tokens of a text or a pair that are read at most: the tokenizer's model_max_length, or what the model can. */
TERN_API int32_t tern_scorer_max_tokens(const tern_scorer *scorer);
/** activation_fn of config_sentence_transformers.json, else of config.json's sentence_transformers, else
 *  sbert_ce_default_activation_function; where none is there, a sigmoid for one label, nothing for several. */
TERN_API tern_score_activation tern_scorer_activation(const tern_scorer *scorer);
/** What it has computed so far. */
TERN_API tern_encoder_stats tern_scorer_get_stats(const tern_scorer *scorer);

typedef struct tern_score_options {
    const char *query; /**< the first text of a pair, of which each text is the second; NULL: texts alone */
    size_t query_size; /**< bytes of it */
    bool cut;          /**< what is too long is shortened, in a pair the longer text; else it is an error */
    tern_progress_fn
        *progress; /**< or NULL: `done` of `total` texts, 0 of them while they become ids; false ends it with
                                     TERN_ERR_CANCELLED */
    void *user;
    uint64_t *n_cut;      /**< NULL, or gets how many texts were shortened */
    uint64_t reserved[4]; /**< zero */
} tern_score_options;

/** Scores [n][labels] of texts as the model gives them, in the order of the texts.  They are read sorted by length, as many at once as
 *  fit, without padding; a text has the same bits alone and beside any others.
 *
 * @param texts, sizes  [n] UTF-8.
 * @param options       NULL: all zero.
 * @return TERN_OK; TERN_ERR_FORMAT (invalid UTF-8; a score that is not finite), TERN_ERR_CAPACITY (too long), each with the text's
 *         number, from 1 on; TERN_ERR_ARG, TERN_ERR_CANCELLED, TERN_ERR_MEMORY, TERN_ERR_THREAD. */
TERN_API tern_status tern_score(tern_scorer *scorer, const char *const *texts, const size_t *sizes, size_t n,
                                const tern_score_options *options, float *scores);

#ifdef __cplusplus
}
#endif
#endif
