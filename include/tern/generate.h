/* generate.h: a prompt goes in, text comes out. */
#ifndef TERN_GENERATE_H
#define TERN_GENERATE_H

#include <tern/sampling.h>
#include <tern/session.h>
#include <tern/tokenizer.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Why a generation ended. */
typedef enum tern_finish {
    TERN_FINISH_NONE = 0,
    TERN_FINISH_LENGTH = 1,  /**< max_tokens, or the context is full: "length" */
    TERN_FINISH_STOP = 2,    /**< an end-of-text id or a stop string: "stop" */
    TERN_FINISH_CANCELLED = 3 /**< the callback or tern_session_cancel(): "cancelled" */
} tern_finish;
TERN_API const char *tern_finish_name(tern_finish finish);

/** A piece of the answer.  `text` is whole UTF-8 characters, possibly none; it never holds a stop string or the beginning of
 *  one that completes.  `id` is -1 in the last call, which hands out what was held back.  @return false ends the generation. */
typedef bool tern_token_fn(void *user, int32_t id, float logprob, const char *text, size_t size);

typedef struct tern_generate_options {
    tern_sampling sampling;
    int64_t max_tokens;        /**< tokens to generate at most; -1: until end of text or full context */
    const int32_t *stop_ids;   /**< n_stop_ids of them end the text and are not part of it */
    size_t n_stop_ids;
    const char *const *stop;   /**< n_stop strings (UTF-8, not empty) that end the text and are not part of it, also across tokens */
    size_t n_stop;
    tern_token_fn *on_token;   /**< or NULL */
    void *user;
    uint64_t reserved[6];      /**< zero */
} tern_generate_options;

/** The defaults: greedy, no limit, the model's end-of-text id; then what the directory's generation_config.json says
 *  (do_sample, temperature, top_k, top_p, min_p, repetition_penalty, eos_token_id; a missing do_sample is greedy).
 *
 * @param storage  gets the stop ids that the options point to: keep it as long as the options; freed with tern_ids_free().
 * @return TERN_OK, TERN_ERR_FORMAT (the file, key, found and expected), TERN_ERR_IO, TERN_ERR_MEMORY. */
TERN_API tern_status tern_generate_defaults(tern_ctx *ctx, const tern_model *model, tern_generate_options *options,
                                            tern_ids *storage);

typedef struct tern_timing {
    uint64_t prefill_tokens, decode_tokens;
    double prefill_seconds, decode_seconds;
} tern_timing;

/** What a generation gave; freed with tern_generation_free(). */
typedef struct tern_generation {
    tern_ids ids;        /**< generated tokens; an end-of-text id that ended it is not among them */
    float *logprobs;     /**< one per id */
    char *text;          /**< decoded, special tokens left out, cut before a stop string; NUL-terminated */
    size_t text_size;
    tern_finish finish;
    tern_timing timing;
} tern_generation;
TERN_API void tern_generation_free(tern_generation *generation);

/** Runs one prompt to its end in a session, in a sequence of its own that is removed afterwards.
 *
 * @param tokenizer  for text and stop strings; NULL: ids only (then stop strings are an error).
 * @param prompt     n_prompt >= 1 ids.  An empty prompt is TERN_ERR_ARG.
 * @param out        zero-initialised by the call; on error empty.
 * @return TERN_OK (also when cancelled by the callback: out->finish says so); TERN_ERR_CAPACITY before the first token when
 *         prompt plus max_tokens exceed the context: the text states both numbers; the statuses of step, sampler, decoder. */
TERN_API tern_status tern_generate(tern_session *session, const tern_tokenizer *tokenizer, const int32_t *prompt, size_t n_prompt,
                                   const tern_generate_options *options, tern_generation *out);

#ifdef __cplusplus
}
#endif
#endif
