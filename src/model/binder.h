/* binder.h: from names in files to packed weights.
 *
 * A family first declares what it needs: each declaration finds the tensor and checks its dtype and shape.  Then
 * tern_binder_load() refuses what nobody asked for and reads everything in the order of the declarations.  So a file
 * that does not fit is refused before anything is packed, and progress knows its total.  Declare the largest tensor first: while one is
 * packed its mapped pages are in memory beside the packed ones, and they are dropped after it. */
#ifndef TERN_MODEL_BINDER_H
#define TERN_MODEL_BINDER_H

#include "model/safetensors.h"

#include <tern/model.h>

struct tern_arch;
struct tern_binder_item;
struct tern_binder_part;

struct tern_binder {
    tern_ctx *ctx;
    const char *dir; /* for messages */
    const struct tern_arch *arch;
    struct tern_safetensors *files;
    const char *prefix; /* stands before every declared name, by tern_binder_prefix() */
    tern_model_options options;
    const tern_comm *comm; /* who else loads its part */
    bool agreed;           /* loading has failed, and every rank knows of it */

    struct tern_binder_item *items;
    size_t n_items, capacity;
    struct tern_binder_part *parts; /* of the items, in order */
    size_t n_parts, parts_capacity;

    /* What was loaded, and what was left. */
    uint64_t n_parameters;
    uint64_t file_bytes, copied_bytes; /* of the tensors that were declared, and of what was declared of them */
    tern_dtype dtype;                  /* of the largest weight */
    char **skipped;                    /* freed by tern_binder_free() unless taken (set to NULL) */
    uint32_t n_skipped;
};

/* Chooses the prefix under which `name` is there, among arch->prefixes and ""; without any it stays "". */
void tern_binder_prefix(struct tern_binder *binder, const char *name);

/* The tensor PREFIX + format, or NULL. */
struct tern_file_tensor *tern_binder_find(struct tern_binder *binder, const char *format, ...) TERN_PRINTF(2, 3);

/* A matrix [in, out] (stored [out, in] when `transposed`), to be packed to *out as options.dtype says.
 * TERN_ERR_NOT_FOUND, TERN_ERR_DTYPE, TERN_ERR_SHAPE with the tensor's name, found and expected; TERN_ERR_MEMORY. */
tern_status tern_binder_matrix(struct tern_binder *binder, tern_weight **out, bool transposed, int64_t in,
                               int64_t n_out, const char *format, ...) TERN_PRINTF(6, 7);

/* [rows, n] values (rows 0: a vector [n]), to be widened to fp32 at *out, which tern_free() frees. */
tern_status tern_binder_values(struct tern_binder *binder, float **out, int64_t rows, int64_t n, const char *format,
                               ...) TERN_PRINTF(5, 6);

/* A matrix [in, N], or a vector of N, that is put together: the channels of its parts, one behind the other, N in all.  It is packed
 * in the dtype of its parts, fp32 where they differ.  Declare the parts next; with N 0 *out stays NULL. */
tern_status tern_binder_join(struct tern_binder *binder, tern_weight **out, bool transposed);
tern_status tern_binder_join_values(struct tern_binder *binder, float **out);

/* Which channels of a stored tensor: `count` from `first` on of each `step` of them, from the step numbered `from` on, `steps` of them;
 * steps 0: of all; step 0: all channels. */
struct tern_channels {
    int64_t step, first, count, from, steps;
};

/* The next part: channels of a tensor of `rank` axes.  They are its last axis where it is a matrix that is not transposed, else all
 * others.  Errors as tern_binder_matrix(). */
tern_status tern_binder_part(struct tern_binder *binder, const struct tern_channels *channels, int rank,
                             const int64_t *dim, const char *format, ...) TERN_PRINTF(5, 6);

/* What was declared last, a matrix, is packed as it is in the files, whatever options.dtype says. */
void tern_binder_exact(struct tern_binder *binder);
/* What was declared last, a matrix, has `count` of its inputs from `first` on; with 0 it stays NULL. */
void tern_binder_inputs(struct tern_binder *binder, int64_t first, int64_t count);
/* What was declared last, a vector, has `offset` added to each value. */
void tern_binder_offset(struct tern_binder *binder, float offset);

/* A tensor that is there and not needed: skipped by name. */
tern_status tern_binder_skip(struct tern_binder *binder, struct tern_file_tensor *tensor);

/* Every other tensor must be one that the family ignores or skips; then loads what was declared.
 * TERN_ERR_FORMAT (a tensor that nobody knows), TERN_ERR_ARG (a value that fp16 has none for), TERN_ERR_CANCELLED (progress),
 * TERN_ERR_MEMORY, TERN_ERR_THREAD.  Where ranks share the model they tell each other now and then how it goes. */
tern_status tern_binder_load(struct tern_binder *binder);

/* What a matrix that is `dtype` in the files is packed as. */
tern_dtype tern_binder_packed_dtype(const struct tern_binder *binder, tern_dtype dtype);

void tern_binder_free(struct tern_binder *binder);

/* Whether a name has the form of a pattern: # is one or more digits. */
bool tern_name_matches(const char *pattern, const char *name);

#endif
