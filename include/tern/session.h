/* session.h: sequences that grow: what a model has read so far, and the scores of what may come next. */
#ifndef TERN_SESSION_H
#define TERN_SESSION_H

#include <tern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sequences, their KV cache and all scratch of one model, for one thread at a time.  Nothing is allocated after creation. */
typedef struct tern_session tern_session;

typedef struct tern_session_options {
    int64_t
        n_positions; /**< positions of all sequences together; 0: n_sequences full ones, each in whole blocks of 64 */
    int32_t n_sequences;  /**< sequences at once; 1 */
    int64_t n_context;    /**< positions of one sequence at most; 0: the model's */
    int32_t max_batch;    /**< tokens of one step at most; 512 */
    int32_t max_logits;   /**< rows of scores of one step at most; 0: n_sequences */
    uint64_t reserved[6]; /**< zero */
} tern_session_options;
/** One sequence of the model's context, steps of at most 512 tokens. */
TERN_API tern_session_options tern_session_options_default(void);

/** Makes a session.
 *
 *  Where several ranks share the model (tern_model_options.comm), rank 0 alone has sessions, and every call on one, its destruction
 *  too, is made from the thread that opened the comm: the others do the same in tern_worker_run().  Such a call answers
 *  TERN_ERR_STATE after the ranks have lost each other, and what the comm answers when they do, besides what stands below.
 *
 *  @param ctx      used by every later call on the session; outlives it.
 *  @param model    borrowed; outlives the session.
 *  @return TERN_OK, TERN_ERR_ARG (a size, by name), TERN_ERR_CAPACITY (n_context beyond the model's), TERN_ERR_UNSUPPORTED (a model
 *          that gives no scores of a next token), TERN_ERR_STATE (one that was opened to be described; a rank other than 0), TERN_ERR_MEMORY
 *          (on any rank). */
TERN_API tern_status tern_session_create(tern_ctx *ctx, const tern_model *model, const tern_session_options *options,
                                         tern_session **out);
/** Frees the session with its sequences and sets *session to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_session_destroy(tern_session **session);

/** Starts an empty sequence.  @return TERN_OK, TERN_ERR_CAPACITY (all n_sequences in use). */
TERN_API tern_status tern_sequence_add(tern_session *session, int32_t *sequence);
/** Tells how many positions an empty sequence will have, prompt and answer together; without it they are the session's context.
 *  A rotary embedding whose frequencies depend on the length of a text (rope types dynamic and longrope) takes this one, however
 *  the text is cut; it is no limit.
 *  @return TERN_OK, TERN_ERR_ARG (no such sequence, n_positions below 1), TERN_ERR_STATE (it has read tokens). */
TERN_API tern_status tern_sequence_plan(tern_session *session, int32_t sequence, int64_t n_positions);
/** Ends a sequence and gives its blocks back.  @return TERN_OK, TERN_ERR_ARG (no such sequence). */
TERN_API tern_status tern_sequence_remove(tern_session *session, int32_t sequence);
/** A second sequence that has read the same tokens; blocks are shared until one of them changes.
 *  It has the first one's plan.
 *  @return TERN_OK, TERN_ERR_ARG (no such sequence), TERN_ERR_CAPACITY (all n_sequences in use). */
TERN_API tern_status tern_sequence_fork(tern_session *session, int32_t sequence, int32_t *fork);
/** Forgets the tokens from `length` on.  @return TERN_OK, TERN_ERR_ARG (no such sequence, or longer than it is). */
TERN_API tern_status tern_sequence_truncate(tern_session *session, int32_t sequence, int64_t length);
/** Tokens that a sequence has read, -1 if there is no such sequence. */
TERN_API int64_t tern_sequence_length(const tern_session *session, int32_t sequence);

/** Which scores a row of a step wants. */
typedef enum tern_logits { TERN_LOGITS_NONE = 0, TERN_LOGITS_LAST = 1, TERN_LOGITS_ALL = 2 } tern_logits;

/** The next tokens of one sequence: a chunk of its prompt, or one decoded token. */
typedef struct tern_row {
    int32_t sequence;
    const int32_t *ids; /**< appended to the sequence; borrowed for the call */
    int32_t n_ids;      /**< >= 1 */
    tern_logits logits;
} tern_row;

/** Reads tokens: chunks and single tokens of different sequences in one pass over the weights.
 *
 * The scores of a token are the same bits whatever else is in the step, however the sequence was cut, whatever the number of
 * threads and the instruction set.
 *
 * @param rows    each sequence at most once.
 * @return TERN_OK; TERN_ERR_ARG (id outside of the vocabulary, unknown or repeated sequence, n_ids), TERN_ERR_CAPACITY (max_batch,
 *         max_logits, context or pool, with both numbers), TERN_ERR_CANCELLED, TERN_ERR_THREAD.  On error no sequence has grown. */
TERN_API tern_status tern_session_step(tern_session *session, const tern_row *rows, size_t n_rows);

/** Scores [V] f32 after token `token` of row `row` of the last step (LAST: token must be n_ids - 1).  NULL if they were not
 *  asked for or the last step failed.  Valid until the next step. */
TERN_API const float *tern_session_logits(const tern_session *session, size_t row, int32_t token);

/** Stops the step in progress at its next layer, from any thread or a signal handler; a step that is not running is stopped
 *  when it begins.  tern_session_resume() clears the flag. */
TERN_API void tern_session_cancel(tern_session *session);
/** Clears the cancel flag: steps run again. */
TERN_API void tern_session_resume(tern_session *session);

/** Error text of the session's context. */
TERN_API const char *tern_session_error(const tern_session *session);

/** Memory of a session. */
typedef struct tern_session_stats {
    uint64_t kv_bytes;      /**< KV pool */
    uint64_t scratch_bytes; /**< arena */
    int64_t free_positions; /**< of the pool, in whole blocks */
} tern_session_stats;
/** What tern_session_create() with the same arguments would take, without taking it.
 *  @return as tern_session_create(). */
TERN_API tern_status tern_session_measure(tern_ctx *ctx, const tern_model *model, const tern_session_options *options,
                                          tern_session_stats *out);
/** The session's memory and what is free of it now. */
TERN_API tern_session_stats tern_session_get_stats(const tern_session *session);

#ifdef __cplusplus
}
#endif
#endif
