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
    TERN_FINISH_LENGTH = 1,   /**< max_tokens, or the context is full: "length" */
    TERN_FINISH_STOP = 2,     /**< an end-of-text id or a stop string: "stop" */
    TERN_FINISH_CANCELLED = 3 /**< the callback or tern_session_cancel(): "cancelled" */
} tern_finish;
/** The word for it; "none" for any other number.  Never NULL; static storage. */
TERN_API const char *tern_finish_name(tern_finish finish);

/** A piece of the answer, called once for each generated token.
 *
 * @param id       the token; -1 in one last call with what was held back, made only if there is any (its answer is ignored).
 * @param logprob  ln of its probability under the raw scores; 0 in that last call.
 * @param text     `size` bytes of whole UTF-8 characters, possibly none, not NUL-terminated, valid for the call.  It never holds a
 *                 stop string or the beginning of one that completes: what may become one waits for the next call.
 * @return false ends the generation; no call follows.  All pieces together are the text of the result. */
typedef bool tern_token_fn(void *user, int32_t id, float logprob, const char *text, size_t size);

typedef struct tern_generate_options {
    tern_sampling sampling;
    int64_t max_tokens; /**< tokens to generate at most, 0 is none; -1: until end of text or full context (or pool) */
    const int32_t *stop_ids; /**< n_stop_ids of them end the text and are not part of it */
    size_t n_stop_ids;
    const char *const
        *stop; /**< n_stop strings (UTF-8, not empty) that end the text and are not part of it, also across tokens;
                                    the first that completes counts, the longest of those that end together */
    size_t n_stop;
    tern_token_fn *on_token; /**< or NULL */
    void *user;
    /** NULL: a sequence of its own, removed afterwards.  Else one that stays: -1 is set to a new one (unless there is an error); of an
     * existing one the caller knows that its tokens are the prompt's first ones, and these are not read again.  Afterwards it
     * has read the first tern_sequence_length() of the prompt's and the generated ids. */
    int32_t *sequence;
    uint64_t reserved[5]; /**< zero */
} tern_generate_options;

/** Greedy, no limit, nothing that ends the text. */
TERN_API tern_generate_options tern_generate_options_default(void);

/** The same with the model's end-of-text id; then what the directory's generation_config.json says, if there is one
 *  (do_sample, temperature, top_k, top_p, min_p, repetition_penalty, eos_token_id as an id or a list).
 *
 * Without do_sample it is greedy, the other fields are set all the same: they count once a temperature is given.  With it, a
 * missing top_k is 50, as in transformers.  Lengths (max_length, max_new_tokens) and keys that tern does not know are ignored.
 * A key that changes which tokens come and that tern does not have (num_beams, no_repeat_ngram_size, sequence_bias,
 * bad_words_ids, typical_p, ...) is refused by name, unless its value has no effect.
 *
 * @param storage  zero-initialised before its first use; gets the stop ids that the options point to: keep it as long as the
 *                 options; freed with tern_ids_free().
 * @return TERN_OK, TERN_ERR_FORMAT (the file, key, found and expected), TERN_ERR_UNSUPPORTED (the key), TERN_ERR_IO,
 *         TERN_ERR_MEMORY.  On error options and storage are unchanged. */
TERN_API tern_status tern_generate_defaults(tern_ctx *ctx, const tern_model *model, tern_generate_options *options,
                                            tern_ids *storage);

/** Tokens read and the time it took.  Prefill is the prompt.  Decode is all that follows, choosing included: its tokens are those
 *  read one at a time, so one less than generated where max_tokens ended it. */
typedef struct tern_timing {
    uint64_t prefill_tokens, decode_tokens;
    double prefill_seconds, decode_seconds;
} tern_timing;

/** What a generation gave; freed with tern_generation_free(). */
typedef struct tern_generation {
    tern_ids
        ids; /**< generated tokens; an end-of-text id that ended it is not among them, tokens of a stop string are */
    float *logprobs; /**< one per id: ln of its probability under the raw scores */
    char *text;      /**< decoded, special tokens left out, cut before a stop string; NUL-terminated */
    size_t text_size;
    tern_finish finish;
    tern_timing timing;
} tern_generation;
/** Frees what a generation holds and empties it.  NULL and an empty one are fine. */
TERN_API void tern_generation_free(tern_generation *generation);

/** Runs one prompt to its end in a session, in a sequence of its own that is removed afterwards, or in the options' one.
 *
 * @param tokenizer  for text and stop strings; NULL: ids only (then stop strings are an error).
 * @param prompt     n_prompt >= 1 ids.  An empty prompt is TERN_ERR_ARG.
 * @param options    NULL: tern_generate_options_default().  Borrowed for the call, with all that it points to.
 * @param out        zero-initialised by the call; on error empty.
 * @return TERN_OK (also when cancelled, by the callback or by tern_session_cancel(): out->finish says so, what was generated
 *         until then is there); TERN_ERR_CAPACITY before the first token when prompt plus max_tokens exceed the context or the
 *         pool's free positions: the text states both numbers; the statuses of step, sampler, decoder. */
TERN_API tern_status tern_generate(tern_session *session, const tern_tokenizer *tokenizer, const int32_t *prompt,
                                   size_t n_prompt, const tern_generate_options *options, tern_generation *out);

#ifdef __cplusplus
}
#endif
#endif
