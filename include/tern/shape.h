/* shape.h: models of a given shape with random weights: for measuring without a file, and for trying sizes. */
#ifndef TERN_SHAPE_H
#define TERN_SHAPE_H

#include <tern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sizes of a model, and how its layers are put together.
 *
 *  A decoder is pre-LN and causal: embedding, layers, final norm, head.  An encoder is post-LN and sees all of a step's tokens
 *  at once: embedding, norm, layers, head; it reads a text in one step.  Positions turn heads where rotary_dim is above 0, in
 *  pairs (m, m + rotary_dim / 2), and are learned vectors where it is 0. */
typedef struct tern_model_shape {
    const char *name;  /**< for messages, and what tern_model_path() gives; borrowed */
    const char *about; /**< a line for lists, or NULL; borrowed */
    bool encoder;
    bool tied_embeddings;      /**< the head is the embedding */
    bool biases;               /**< of all four products of a layer */
    int32_t n_layers;          /**< L */
    int32_t hidden_size;       /**< H */
    int32_t intermediate_size; /**< I */
    int32_t heads;             /**< h, dividing H */
    int32_t kv_heads;          /**< G, dividing h */
    int32_t vocab_size;        /**< V */
    int32_t n_context;         /**< positions at most */
    tern_norm norm_type;
    float norm_eps;
    tern_activation activation;
    tern_gelu_form gelu;
    int32_t rotary_dim;   /**< even, 0 to H / h */
    float rope_theta;     /**< read with rotary_dim */
    uint64_t reserved[4]; /**< zero */
} tern_model_shape;

/** Number of shapes that tern knows by name. */
TERN_API int tern_model_shape_count(void);
/** One of them, NULL outside of 0 .. tern_model_shape_count() - 1.  Static storage. */
TERN_API const tern_model_shape *tern_model_shape_at(int index);
/** By name, NULL if there is none. */
TERN_API const tern_model_shape *tern_model_shape_find(const char *name);

/** Makes such a model.  Weights are numbers of a generator, the same on every machine, so scaled that what goes through the model keeps
 *  an ordinary size: they say nothing, and take as long as any others.
 *
 * @param options  NULL: the defaults.  dtype: auto is fp32; fp16, bf16 and int8 as for tern_model_open().  With comm each rank makes its
 *                 share: sizes as the parts of such a model have them, but other numbers than on one process.
 * @param out      the model, as from tern_model_open(); its family is "random", its architecture the shape's name.  NULL on error.
 * @return TERN_OK; TERN_ERR_ARG (NULL, a reserved field, dtype), TERN_ERR_CONFIG (a size, by name), TERN_ERR_UNSUPPORTED (heads or channels
 *         that the ranks cannot share alike), TERN_ERR_MEMORY (also where
 *         tern_memory_available() is less than the weights need, with both numbers), TERN_ERR_THREAD, TERN_ERR_CANCELLED
 *         (progress, which counts packed bytes).
 *
 * Memory: the packed weights, and the largest matrix once more while weights are made (2 bytes a number, 4 for fp32). */
TERN_API tern_status tern_model_create_random(tern_ctx *ctx, const tern_model_shape *shape,
                                              const tern_model_options *options, tern_model **out);

#ifdef __cplusplus
}
#endif
#endif
