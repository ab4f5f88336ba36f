/* verify.h: a checkpoint held against what its reference computed. */
#ifndef TERN_VERIFY_H
#define TERN_VERIFY_H

#include <tern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How far tern is from a golden file.  Errors are absolute, or relative to the largest number of what is compared. */
typedef struct tern_verify_report {
    int32_t n_prompts; /**< lists of ids that were run */
    int64_t n_rows;    /**< rows of logits that were compared */
    int64_t n_best;    /**< of them those whose largest number is at the same place */
    double logits_abs, logits_rel;
    int32_t
        n_states; /**< states of a prompt that were compared: embedding, what each layer made; 0: none are in the file */
    int32_t
        first_state; /**< first one off by more than the tolerance: 0 the embedding, s what layer s - 1 made; -1: none is */
    bool final_norm; /**< the last state is behind the model's final norm, not only behind its last layer */
    double states_abs, states_rel;
    int32_t n_answers; /**< pooled states or scores of labels that were compared */
    double answers_abs, answers_rel;
    int32_t n_texts, n_texts_same; /**< texts whose ids were compared, and those with the golden's */
    int32_t n_chats, n_chats_same; /**< conversations that were rendered, and those with the golden's text */
    int32_t n_vectors;             /**< sentences that were embedded */
    double vectors_abs, vectors_rel;
} tern_verify_report;

/** Replays a golden file: a safetensors file with tensors for i = 0, 1, ..
 *
 *    ids.i        I32 [T]            a prompt
 *    segments.i   I32 [T]            and its segments, for models that have some; optional
 *    logits.i     F32 [R, V]         scores of its last R tokens (labels of tokens: V is their number); optional
 *    answer.i     F32 [C]            its pooled state, or scores of labels; optional
 *    hidden.i     F32 [L, T, H]      what each layer reads; optional
 *    final.i      F32 [T, H]         behind the final norm (where the model has none: behind the last layer); optional
 *    text.i       U8                 a text whose ids, special ones included, are ids.i; optional
 *    chat.i       U8                 messages as JSON, and rendered.i, U8, what the chat template makes of them for an answer
 *    sentence.i   U8                 a text, and vector.i, F32 [W], what sentence-transformers makes of it
 *
 *  ids, chat and sentence count separately.  tools/make_golden.py writes such a file.
 *
 * @param name       what tern_model_find() takes.
 * @param dtype      what the model is opened as.
 * @param tolerance  of a state: relative.
 * @return TERN_OK when everything could be compared, however far off; TERN_ERR_NOT_FOUND, TERN_ERR_FORMAT, TERN_ERR_DTYPE, TERN_ERR_SHAPE (a tensor
 *         of the golden that does not fit the model: name, found, expected; nothing to compare), and what opening and running the model
 *         answers. */
TERN_API tern_status tern_verify(tern_ctx *ctx, const char *name, const char *golden, tern_model_dtype dtype,
                                 double tolerance, tern_verify_report *report);

#ifdef __cplusplus
}
#endif
#endif
