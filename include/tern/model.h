/* model.h: a checkpoint as it was downloaded, ready to run. */
#ifndef TERN_MODEL_H
#define TERN_MODEL_H

#include <tern/comm.h>
#include <tern/config.h>
#include <tern/tune.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A checkpoint with its weights packed.  Read-only after open: shared by threads, each with a context of its own. */
typedef struct tern_model tern_model;

/** Progress of loading: `done` of `total` bytes of weights packed.  @return false stops the loading with TERN_ERR_CANCELLED. */
typedef bool tern_progress_fn(void *user, uint64_t done, uint64_t total);

/** What matrices are packed as, and what is computed with them.  The residual stream, vectors (norms, biases), learned positions
 *  and all sums are fp32 in any case. */
typedef enum tern_model_dtype {
    TERN_MODEL_AUTO = 0, /**< each matrix as it is in the files; widened exactly, so the same bits as TERN_MODEL_FP32 */
    TERN_MODEL_FP32 = 1, /**< fp32 */
    TERN_MODEL_BF16 =
        2, /**< bf16, and so are rows that enter a product, keys, values, queries and attention probabilities;
                              in a prompt and in decode alike */
    TERN_MODEL_FP16 =
        3, /**< fp16, computed with in fp32; a matrix with a finite value that fp16 has none for is an error */
    TERN_MODEL_INT8 =
        4 /**< int8 codes with one scale for each output channel, embedding and head included, made while the files are read
                              (tern_weight_pack_as()); rows that enter a product become int8 with one scale each, and sums are
                              integers.  Attention is fp32 */
} tern_model_dtype;

/** "auto", "fp32", "bf16", "fp16", "int8"; "?" for a number that is none of them.  Static storage. */
TERN_API const char *tern_model_dtype_name(tern_model_dtype dtype);

typedef struct tern_model_options {
    tern_progress_fn *progress; /**< or NULL; called from the calling thread */
    void *user;
    tern_model_dtype dtype; /**< auto */
    bool describe; /**< everything is checked but no weight is read: for its config and figures; it cannot be run */
    /** Who shares the model: every rank opens the same directory at the same time, with the same dtype, and gets its part of the
     *  matrices.  NULL: nobody.  Borrowed, outlives the model.  See tern_worker_run(). */
    const tern_comm *comm;
    uint64_t reserved[4]; /**< zero */
} tern_model_options;

/** Options with every field at its default: no progress function, dtype auto, one process. */
TERN_API tern_model_options tern_model_options_default(void);

/** Finds a model's directory.
 *
 * @param name  a directory; or "org/name", looked up in the local Hugging Face cache (HF_HUB_CACHE, else HF_HOME/hub, else
 *              $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub; the snapshot that refs/main names, or the
 *              only one).  Nothing is ever downloaded.  Of a sentence-transformers directory without a config.json of its
 *              own it is the folder of the transformer that modules.json names.
 * @param path  the directory, freed with tern_path_free(); NULL on error.
 * @return TERN_OK; TERN_ERR_NOT_FOUND (the text gives the download command), TERN_ERR_ARG (an empty name, a file),
 *         TERN_ERR_FORMAT (refs/main), TERN_ERR_IO, TERN_ERR_MEMORY. */
TERN_API tern_status tern_model_find(tern_ctx *ctx, const char *name, char **path);
/** The same without its last step: the directory with modules.json itself, where there is one. */
TERN_API tern_status tern_directory_find(tern_ctx *ctx, const char *name, char **path);
/** Frees what they gave.  NULL is fine. */
TERN_API void tern_path_free(char *path);

/** Opens a checkpoint directory: config.json, and model.safetensors or model.safetensors.index.json with its shards.
 *
 * Every tensor that the family needs is there with the right dtype and shape, and every tensor in the files is one that the
 * family knows; anything else is an error with name, found and expected.  docs/models.md has the families.
 * Weights are packed by all threads.
 *
 * @param ctx      threads and error text.  The model is independent of it afterwards.
 * @param name     what tern_model_find() takes.
 * @param options  NULL: the defaults.
 * @param out      the model; NULL on error.
 * @return TERN_OK; TERN_ERR_ARG (NULL, a reserved field, dtype; a value that fp16 has none for), TERN_ERR_NOT_FOUND, TERN_ERR_FORMAT (damaged file), TERN_ERR_UNSUPPORTED (architecture, activation,
 *         file kind: by name), TERN_ERR_CONFIG, TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_IO, TERN_ERR_MEMORY, TERN_ERR_THREAD,
 *         TERN_ERR_CANCELLED.  With options->comm every rank gets the status and text of the lowest one that failed, behind its number;
 *         also TERN_ERR_FORMAT and TERN_ERR_ARG (not the files or the dtype of rank 0), TERN_ERR_STATE (not its version of tern),
 *         TERN_ERR_UNSUPPORTED (more ranks than the model can be shared by).
 *
 * Memory: the packed weights (2 bytes a number where they are fp16 or bf16, 1 where int8); the mapped files are dropped as they are read. */
TERN_API tern_status tern_model_open(tern_ctx *ctx, const char *name, const tern_model_options *options,
                                     tern_model **out);

/** Frees the model and sets *model to NULL.  NULL and a pointer to NULL are fine.  Its sessions are destroyed first.
 *  A model that several ranks share is closed by each of them; rank 0's call ends the others' tern_worker_run(). */
TERN_API void tern_model_close(tern_model **model);

#define TERN_MAX_EOS_IDS 8

/** What scores of labels mean: config.json's problem_type. */
typedef enum tern_label_kind {
    TERN_LABELS_SINGLE = 0, /**< one label is right: a softmax over all; a sigmoid where there is one label */
    TERN_LABELS_MULTI = 1,  /**< each may be right: a sigmoid of each */
    TERN_LABELS_VALUE = 2   /**< regression: the scores are the answer */
} tern_label_kind;

/** What a model answers: tern_model_outputs() numbers for each token, or for each text. */
typedef enum tern_task {
    TERN_TASK_GENERATE = 0, /**< scores of the next token */
    TERN_TASK_FILL = 1,     /**< scores of every token in a text (masked LM) */
    TERN_TASK_STATES =
        2, /**< no scores: the states behind the last layer, and a pooled one for the text where the model has a pooler */
    TERN_TASK_CLASSIFY = 3, /**< scores of labels for a text, or for a pair of them */
    TERN_TASK_TAG = 4       /**< scores of labels for every token */
} tern_task;

/** What a config.json says, in tern's words. */
typedef struct tern_model_config {
    char family[32];       /**< "gpt2" */
    char architecture[64]; /**< "GPT2LMHeadModel" */
    tern_task task;
    int32_t n_labels;          /**< of TERN_TASK_CLASSIFY and TERN_TASK_TAG, else 0 */
    tern_label_kind labels;    /**< what scores of labels mean */
    bool bidirectional;        /**< an encoder: each token sees the whole text, which is read at once */
    int32_t vocab_size;        /**< V */
    int32_t n_types;           /**< segments that tokens can be of; 0: the model knows none */
    int32_t n_context;         /**< positions at most */
    int32_t n_layers;          /**< L */
    int32_t hidden_size;       /**< H */
    int32_t intermediate_size; /**< I */
    int32_t heads;             /**< h */
    int32_t kv_heads;          /**< G */
    int32_t head_dim;          /**< E */
    float norm_eps;
    tern_norm norm_type;
    tern_activation activation;
    tern_gelu_form gelu;
    bool tied_embeddings;
    bool scale_attention;         /**< GPT-2's scale_attn_weights */
    bool scale_by_inverse_layer;  /**< GPT-2's scale_attn_by_inverse_layer_idx */
    bool parallel_layers;         /**< attention and feed-forward both read a layer's input */
    tern_dtype dtype;             /**< of the largest weight in the files */
    tern_model_dtype model_dtype; /**< what the model was opened as */
    tern_dtype weight_dtype;      /**< what the largest weight is packed as */
    tern_dtype row_dtype;         /**< what rows are rounded to before a product: bf16, int8, or fp32 (not at all) */
    int32_t bos_id;               /**< beginning of text; -1: none */
    int32_t eos_ids[TERN_MAX_EOS_IDS]; /**< end of text, n_eos_ids of them */
    int32_t n_eos_ids;
} tern_model_config;

/** The model's config; valid as long as the model.  NULL for NULL. */
TERN_API const tern_model_config *tern_model_get_config(const tern_model *model);
/** Its directory; valid as long as the model.  NULL for NULL. */
TERN_API const char *tern_model_path(const tern_model *model);

/** Numbers of one answer: V, n_labels, or the width of a pooled state; 0 if the model gives states alone. */
TERN_API int32_t tern_model_outputs(const tern_model *model);
/** Name of a label (id2label), 0 <= index < n_labels; NULL past the end and for NULL. */
TERN_API const char *tern_model_label(const tern_model *model, int32_t index);

/** What a model was made of, and what it takes. */
typedef struct tern_model_stats {
    uint64_t n_parameters;        /**< elements of the weights, tied ones once; here and below: of this rank's share */
    uint64_t file_bytes;          /**< of the weights in the files, of all ranks */
    uint64_t weight_bytes_copied; /**< of these what was read into memory: all of them, or this rank's share */
    uint64_t packed_bytes;        /**< memory that the weights occupy */
    uint64_t
        layer_bytes; /**< of packed_bytes those that every step reads: the layers', of experts as many as a token goes to */
    uint64_t head_bytes;    /**< and those that a step with scores reads besides: the final norm's and the head's */
    uint64_t layer_weights; /**< elements of those matrices: a token is two operations for each */
    uint64_t head_weights;  /**< elements of the head, H V: a row of scores is two operations for each */
    double load_seconds;
    uint32_t n_skipped; /**< tensors in the files that the task does not use */
} tern_model_stats;
/** The model's figures; all zero for NULL. */
TERN_API tern_model_stats tern_model_get_stats(const tern_model *model);
/** Name of a tensor that was skipped, index < n_skipped; NULL past the end and for NULL. */
TERN_API const char *tern_model_skipped(const tern_model *model, uint32_t index);

/** Number of kinds of product, of rows with weights, that the model's steps take: what tern_tune_products() is to be asked for.  A
 *  model that was opened to be described has them too; one that ranks share has those of this rank's share. */
TERN_API int tern_model_product_count(const tern_model *model);
/** One of them.
 *
 * @param answers  or NULL; true: of the rows that are answered (a head's), false: of all tokens of a step (of TERN_TASK_TAG a head's too).
 * @return false outside of 0 .. tern_model_product_count() - 1. */
TERN_API bool tern_model_product_at(const tern_model *model, int index, tern_tune_product *out, bool *answers);

#ifdef __cplusplus
}
#endif
#endif
