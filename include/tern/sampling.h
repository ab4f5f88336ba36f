/* sampling.h: from scores to the next token. */
#ifndef TERN_SAMPLING_H
#define TERN_SAMPLING_H

#include <tern/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A bias on one sequence of tokens, as transformers' sequence_bias: the bias is added to the score of the last token when the
 *  ones before it have just been generated or read.  Several for one token add up; of two for the same ids the last one counts. */
typedef struct tern_logit_bias {
    const int32_t *ids;
    int32_t n_ids; /**< >= 1; 1: added to that token always */
    float bias;    /**< a number, or -inf: never */
} tern_logit_bias;

/** How a token is chosen.  Formulas and order are those of transformers' logits processors:
 *  logit bias, repetition penalty, presence and frequency penalty, temperature, top-k, top-p, min-p.
 *  Source: transformers 5.23, generation/logits_process.py; the penalties over generated tokens: OpenAI's API reference. */
typedef struct tern_sampling {
    float
        temperature; /**< scores are divided by it; 0: greedy (the first of the largest; what follows it here is not used); 1 */
    int32_t top_k; /**< keep the k best, and all equal to the k-th; 0: all */
    float top_p; /**< keep the fewest tokens whose probability exceeds it, at least one; of equal ones the lower ids go
                                   first (torch's stable sort); 1: all */
    float min_p; /**< keep tokens with at least min_p of the best one's probability; 0: all */
    float
        repetition_penalty; /**< > 0; 1: none.  Scores of ids in prompt and generated tokens: negative ones times it, others divided */
    float presence_penalty;      /**< 0: none.  Subtracted from scores of generated ids */
    float frequency_penalty;     /**< 0: none.  Subtracted from scores of generated ids, times their number */
    const tern_logit_bias *bias; /**< n_bias of them, borrowed */
    size_t n_bias;
    uint64_t seed;        /**< key of the random numbers */
    uint64_t reserved[6]; /**< zero */
} tern_sampling;
/** Temperature 1 over all tokens, without bias and penalties, seed 0. */
TERN_API tern_sampling tern_sampling_default(void);

/** Scratch and settings of one sequence's sampling. */
typedef struct tern_sampler tern_sampler;

/** @param vocab_size  V; the scores have that many values.
 *  @param sampling    copied, the biases too.  NULL: the defaults.
 *  @return TERN_OK, TERN_ERR_ARG (a field outside of its range, by name), TERN_ERR_MEMORY. */
TERN_API tern_status tern_sampler_create(tern_ctx *ctx, int32_t vocab_size, const tern_sampling *sampling,
                                         tern_sampler **out);
/** Frees it and sets *sampler to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_sampler_destroy(tern_sampler **sampler);

/** Scores [V] in place to what the distribution is made of: everything in the order above up to min-p; what is ruled out is -inf.
 *
 * @param ids       all tokens of the sequence so far, prompt first.
 * @param n_prompt  how many of them are the prompt.
 * @return TERN_OK, TERN_ERR_ARG (an id outside of the vocabulary; a score that is NaN or +inf, or all -inf, before or after bias,
 *         penalties and temperature). */
TERN_API tern_status tern_sampler_process(tern_ctx *ctx, tern_sampler *sampler, float *scores, const int32_t *ids,
                                          size_t n_ids, size_t n_prompt);

/** What was chosen. */
typedef struct tern_choice {
    int32_t id;
    float logprob; /**< ln of its probability under the raw scores, before any processing */
} tern_choice;

/** Chooses the token at position `n_ids` of a sequence.  scores [V] is not changed.
 *
 * The random number is Philox4x32-10's for (seed, position), so neither the batch nor the number of calls before matters:
 * u = (53 bits of words 0 and 1) / 2^53 for counter (position, 0), key seed; the choice is the first id, in the order of ids, at
 * which the sum of e^(score - best) exceeds u times the whole sum.  All in f64 by operations of tern's own: the same on any machine.
 *
 * @return TERN_OK, TERN_ERR_ARG as for tern_sampler_process().
 * Accuracy: logprob within 2^-23 of the f64 definition, relative, or absolute below 1.   Cost: O(V + n_ids). */
TERN_API tern_status tern_sampler_choose(tern_ctx *ctx, tern_sampler *sampler, const float *scores, const int32_t *ids,
                                         size_t n_ids, size_t n_prompt, tern_choice *out);

/** Four random 32-bit numbers of Philox4x32-10 for a counter and a key, least significant words first.
 *  Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; checked against the authors' known answers. */
TERN_API void tern_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#ifdef __cplusplus
}
#endif
#endif
