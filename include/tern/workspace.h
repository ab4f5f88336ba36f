/* workspace.h: the memory that a model's operators need between them, planned and held by its caller.
 *
 * A workspace is made for one model and one batch: the tensors that one layer hands from operator to operator, the scratch of
 * attention, and the keys and values of all layers.  Nothing about it is global, and sizes come from the call: a second model has its
 * own, and what does not fit is an error.
 *
 * Source: DeepSpeed 0.16.5 WorkspaceOp (allocate, release, retake, reset_cache, is_allocated); docs/operators.md lists the
 * differences. */
#ifndef TERN_WORKSPACE_H
#define TERN_WORKSPACE_H

#include <tern/op.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a workspace is made for, besides the config. */
typedef struct tern_workspace_options {
    int64_t batch;      /**< sequences at once; 1 */
    int64_t prompt_len; /**< rows of a sequence in one step; 0: as many as it may have positions */
    int64_t memory;     /**< bytes that there are: max_out_tokens shrinks until all of it fits; 0: no limit */
} tern_workspace_options;
/** One sequence, prompts of any length, no limit. */
TERN_API tern_workspace_options tern_workspace_options_default(void);

/** The tensors of a workspace, each with a row for every row of a step. */
typedef enum tern_workspace_part {
    TERN_WORKSPACE_QKV = 0,     /**< [rows, (h + 2G) E] */
    TERN_WORKSPACE_NORMED = 1,  /**< [rows, H] */
    TERN_WORKSPACE_CONTEXT = 2, /**< [rows, h E] */
    TERN_WORKSPACE_INNER = 3,   /**< [rows, p I], p = 2 for gated activations */
    TERN_WORKSPACE_OUTPUT = 4,  /**< [rows, H] */
    TERN_WORKSPACE_PARTS = 5
} tern_workspace_part;

/** Sizes of a workspace: tokens and rows in numbers, all others in bytes. */
typedef struct tern_workspace_sizes {
    int64_t tokens; /**< positions that a sequence can have, prompt and output: max_out_tokens, or what memory allows */
    int64_t rows;   /**< rows of one step, of all sequences */
    size_t part[TERN_WORKSPACE_PARTS]; /**< of each tensor, in whole cache lines */
    size_t scores;                     /**< attention's scratch, of all threads; it takes it for each call */
    size_t cache;                      /**< keys and values of all layers; 0 where the cache is external */
    size_t total;
} tern_workspace_sizes;

/** Works the sizes out and allocates nothing.
 *
 * @param config   reads hidden_size, intermediate_size, heads, num_kv, mp_size, mlp_act_func_type, num_hidden_layers (-1: 1),
 *                 max_out_tokens, min_out_tokens, bigscience_bloom (the cache is external, and no part of this), dtype, activation_dtype.
 * @param options  NULL: the defaults.
 * @return TERN_OK; TERN_ERR_ARG (a NULL, a number outside of its range), TERN_ERR_CONFIG, TERN_ERR_UNSUPPORTED (dtype);
 *         TERN_ERR_CAPACITY: fewer than min_out_tokens fit into memory, with both numbers; TERN_ERR_MEMORY: more bytes than there
 *         can be.  On error sizes are unchanged. */
TERN_API tern_status tern_workspace_measure(tern_ctx *ctx, const tern_config *config,
                                            const tern_workspace_options *options, tern_workspace_sizes *sizes);

/** The memory itself.  Serves one thread at a time. */
typedef struct tern_workspace tern_workspace;

/** Measures and allocates.  @return as tern_workspace_measure(); TERN_ERR_MEMORY.  *out is NULL on error. */
TERN_API tern_status tern_workspace_create(tern_ctx *ctx, const tern_config *config,
                                           const tern_workspace_options *options, tern_workspace **out);
/** Frees all of it and sets *workspace to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_workspace_destroy(tern_workspace **workspace);

/** Gives the memory back and keeps the sizes; tensors and cache are gone.  Twice is fine. */
TERN_API void tern_workspace_release(tern_workspace *workspace);
/** Allocates the same sizes again, with empty sequences; does nothing where it is allocated.
 *  @return TERN_OK, TERN_ERR_ARG, TERN_ERR_MEMORY. */
TERN_API tern_status tern_workspace_retake(tern_ctx *ctx, tern_workspace *workspace);
/** Whether it holds memory; false for NULL. */
TERN_API bool tern_workspace_is_allocated(const tern_workspace *workspace);
/** Its sizes; all zero for NULL. */
TERN_API tern_workspace_sizes tern_workspace_sizes_of(const tern_workspace *workspace);

/** The cache, with sequences 0 .. batch - 1 in it.  Borrowed; NULL where it is external, or released, and for NULL. */
TERN_API tern_kv_cache *tern_workspace_cache(const tern_workspace *workspace);
/** Empties all sequences.  @return TERN_OK, TERN_ERR_ARG (NULL), TERN_ERR_STATE (released, or without a cache). */
TERN_API tern_status tern_workspace_reset_cache(tern_ctx *ctx, tern_workspace *workspace);

/** A view of one part: its first `rows` rows, in the dtype of activations.
 *  @return TERN_OK, TERN_ERR_ARG, TERN_ERR_STATE (released), TERN_ERR_CAPACITY (more rows than it has, with both numbers).  *out is
 *  unchanged on error. */
TERN_API tern_status tern_workspace_tensor(tern_ctx *ctx, const tern_workspace *workspace, tern_workspace_part part,
                                           int64_t rows, tern_tensor *out);

#ifdef __cplusplus
}
#endif
#endif
