/* tune.h: measuring how products are best cut on this machine.
 *
 * A product of rows with a weight can be cut in many ways: rows of a tile, steps of K between two visits of a tile, panels or rows
 * for each thread.  All give the same bits.  Rules choose among them; tuning measures, and where something else is at least 2 %
 * faster it remembers that, for a weight's sizes and type, numbers of rows [2^b, 2^(b+1)), and as many threads.
 *
 * What was found is kept in a file for each processor, instruction set level and version of tern, below $XDG_CACHE_HOME/tern/tune or
 * ~/.cache/tern/tune, and every context that is made later uses it.  It is stored when a tuning call ends, never at another time;
 * what other programs stored meanwhile stays.  A directory that cannot be written to is no error: tern_tune_note() tells, and what
 * was found holds in its context.  With TERN_TUNE=off in the environment no file is read or written. */
#ifndef TERN_TUNE_H
#define TERN_TUNE_H

#include <tern/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sequences at once that tern_autotune() and operators reckon with: products have up to so many times the longest length of rows. */
#define TERN_TUNE_BATCH 16

/** A kind of product. */
typedef struct tern_tune_product {
    int64_t in, out;  /**< K, N of the weight [K, N] */
    tern_dtype dtype; /**< what the weight is packed as: fp32, fp16, bf16, int8 */
    bool rounded;     /**< rows are rounded to the weight's type first: bf16; int8 (W8A8) */
} tern_tune_product;

/** What is known of a product with so many rows. */
typedef struct tern_tune_result {
    tern_tune_product product;
    int64_t rows;    /**< the least of those that this holds for, up to twice as many; 2048: and all above */
    int32_t threads; /**< size of the team that it holds for */
    double default_seconds,
        best_seconds;  /**< of one product, measured one in turn with the other; equal where the rules stay */
    int32_t tile_rows; /**< most rows of a tile; 0: by the rules */
    int32_t k_block;   /**< most steps of K, of 4 bytes, between two visits of a tile; 0: by the rules */
    int32_t split;     /**< threads share panels 1 or rows 2; 0: by the rules */
    bool latest;       /**< found by the latest tuning call of this context */
} tern_tune_result;

typedef struct tern_tune_options {
    int64_t min_rows, max_rows; /**< rows of the products; 1, 1024.  Above 2048 all are alike */
    bool missing_only;          /**< leave out what is known already */
    /** Called after each measured shape; the context is at work then, and can be asked what is known alone.  false: stop; what was found by then is kept and stored. */
    bool (*progress)(void *user, const tern_tune_result *result, size_t done, size_t total);
    void *user;
    uint64_t reserved[4]; /**< zero */
} tern_tune_options;
/** Options with every field at its default. */
TERN_API tern_tune_options tern_tune_options_default(void);

/** Measures products on made-up data with the context's team, and stores what it finds.
 *
 * Weights are read from memory, not from the caches, as a model's are; those of many rows are timed on as many columns as 2^30
 * multiply-adds take, of 256 MiB at most.
 * @param products  `n` of them; one that is there twice is measured once.
 * @param options   NULL: the defaults.
 * @return TERN_OK, also where nothing could be stored; TERN_ERR_ARG (NULL, a size outside of 1..2^24, a dtype, rows that are not in
 *         1 <= min <= max, a reserved field); TERN_ERR_MEMORY, TERN_ERR_THREAD, TERN_ERR_STATE (the context is at work),
 *         TERN_ERR_CANCELLED: what was found before is kept and stored. */
TERN_API tern_status tern_tune_products(tern_ctx *ctx, const tern_tune_product *products, size_t n,
                                        const tern_tune_options *options);

/** Tunes an operator's products for texts of min_len to max_len tokens, alone and up to TERN_TUNE_BATCH at once: rows from
 *  min_len, or from 64 for each thread where that is less (feed-forwards take more rows in parts), to TERN_TUNE_BATCH * max_len.  An
 *  operator that is created with triton_autotune=true and layer_id=0 does the same with min_out_tokens, max_out_tokens and the sizes
 *  of its config, for what is not known yet; attention, mlp and layer (module.h) with the sizes of their weights.
 *
 * @param op     linear, qkv_gemm: [H, 3H]; vector_matmul: [H, H]; mlp_gemm, gelu_gemm: [H, 4H] and [4H, H].  Another of
 *               tern_op_name(): TERN_ERR_UNSUPPORTED, for there is nothing in it that may be chosen; a name that there is none of: the same.
 * @param dtype  fp32, fp16, bf16, or int8: with rows in fp32, and with rows as int8.
 * @return as tern_tune_products(); TERN_ERR_ARG too where lengths are not 1 <= min_len <= max_len.
 * Source: DeepSpeed's Fp16Matmul autotune (0.16.5), for every dtype, feed-forwards and batches too. */
TERN_API tern_status tern_autotune(tern_ctx *ctx, const char *op, int64_t min_len, int64_t max_len, int64_t hidden_size,
                                   tern_dtype dtype);

/** Number of shapes that the context knows of, from the file and measured. */
TERN_API int tern_tune_count(const tern_ctx *ctx);
/** One of them.  @return false outside of 0 .. tern_tune_count() - 1. */
TERN_API bool tern_tune_at(const tern_ctx *ctx, int index, tern_tune_result *out);
/** Whether all that this context measured is in the file. */
TERN_API bool tern_tune_is_stored(const tern_ctx *ctx);
/** What was wrong with the file when it was last read or written, in a line; "" if nothing.  Valid until the next tuning call. */
TERN_API const char *tern_tune_note(const tern_ctx *ctx);
/** Path of the context's file, whether or not it is there; "" where the environment names no place, or the path takes more than `size`
 *  bytes. */
TERN_API void tern_tune_path(const tern_ctx *ctx, char *out, size_t size);

#ifdef __cplusplus
}
#endif
#endif
