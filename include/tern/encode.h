/* encode.h: whole texts in one pass: states, vectors, and scores of labels. */
#ifndef TERN_ENCODE_H
#define TERN_ENCODE_H

#include <tern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One text, or a pair of them, as the model reads it: with its special tokens. */
typedef struct tern_encode_text {
    const int32_t *ids;   /**< n_ids of them, borrowed */
    const int32_t *types; /**< segment of each token, below the config's n_types; NULL: all 0 */
    int32_t n_ids;        /**< 1..n_context */
    /** Where each token has an answer: those whose answers are wanted, ascending; NULL: all. */
    const int32_t *wanted;
    int32_t n_wanted; /**< 1..n_ids; 0 with NULL */
} tern_encode_text;

/** Memory for passes of one model, for one thread at a time. */
typedef struct tern_encoder tern_encoder;

typedef struct tern_encoder_options {
    int32_t max_batch;    /**< tokens of one pass; 0: 2048, or the longest text that is allowed if that is more */
    int32_t max_texts;    /**< texts of one pass; 0: 64 */
    int32_t n_context;    /**< tokens of a text at most; 0: the model's, at most 8192 */
    uint64_t reserved[4]; /**< zero */
} tern_encoder_options;
/** Every field 0. */
TERN_API tern_encoder_options tern_encoder_options_default(void);

/** Where several ranks share the model, rank 0 alone has encoders, as it has sessions (session.h); so it is with what stands on one: an
 *  embedder (embed.h) and a scorer (score.h).
 *
 *  @param ctx    used by every later call; outlives the encoder.
 *  @param model  borrowed; outlives the encoder.
 *  @return TERN_OK, TERN_ERR_ARG (a size, by name), TERN_ERR_CAPACITY (n_context beyond the model's), TERN_ERR_STATE (the model
 *          was opened to be described; a rank other than 0), TERN_ERR_MEMORY (on any rank). */
TERN_API tern_status tern_encoder_create(tern_ctx *ctx, const tern_model *model, const tern_encoder_options *options,
                                         tern_encoder **out);
/** Frees it and sets *encoder to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_encoder_destroy(tern_encoder **encoder);

/** What an encoder has computed since it was made, and its memory. */
typedef struct tern_encoder_stats {
    uint64_t n_tokens; /**< rows of all passes: those of the texts and no others */
    uint64_t n_passes;
    uint64_t kv_bytes;      /**< keys and values of a pass */
    uint64_t scratch_bytes; /**< arena */
} tern_encoder_stats;
/** All zero for NULL. */
TERN_API tern_encoder_stats tern_encoder_get_stats(const tern_encoder *encoder);
/** The memory that tern_encoder_create() with the same arguments would take, without taking it; the model may be one that was opened
 *  to be described.  @return as tern_encoder_create(). */
TERN_API tern_status tern_encoder_measure(tern_ctx *ctx, const tern_model *model, const tern_encoder_options *options,
                                          tern_encoder_stats *out);

/** Reads texts, as many in one pass as fit; each has the same bits alone and beside others.  There is no padding.
 *
 * @param states   [sum of n_ids, H]: the states behind the last layer and the final norm, text after text; or NULL.
 * @param answers  what the config's task gives, C = tern_model_outputs(): [n_texts, C] for TERN_TASK_CLASSIFY and for the
 *                 pooled state of TERN_TASK_STATES, else [sum of n_wanted or n_ids, C]; or NULL.
 * @return TERN_OK; TERN_ERR_ARG (an id or a segment that the model does not have, n_ids, wanted), TERN_ERR_CAPACITY (a text longer
 *         than n_context, with both numbers), TERN_ERR_UNSUPPORTED (answers of a model that has none), TERN_ERR_THREAD; of a model
 *         that ranks share also TERN_ERR_STATE and what the comm answers.  Before anything is computed all texts are checked; on a later
 *         error the outputs are undefined. */
TERN_API tern_status tern_encode(tern_encoder *encoder, const tern_encode_text *texts, size_t n_texts, float *states,
                                 float *answers);

#ifdef __cplusplus
}
#endif
#endif
