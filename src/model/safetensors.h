/* safetensors.h: the container that weights come in: one file, or several with an index.
 *
 * A file is an 8-byte little-endian length, a JSON header of that length that names each tensor with dtype, shape and
 * place, and the data.  Files are untrusted: after open every tensor lies inside its file, has as many bytes as its
 * shape and dtype say, shares none with another, and no byte is left over.  The data of a tensor may have any alignment.
 * Source: github.com/huggingface/safetensors, README "Format", and the checks of its reader (safetensors/src/tensor.rs). */
#ifndef TERN_MODEL_SAFETENSORS_H
#define TERN_MODEL_SAFETENSORS_H

#include "base/ctx.h"

#include <tern/tensor.h>

#define TERN_SAFETENSORS_HEADER_MAX 100000000 /* bytes of a header, as in the reference */

struct tern_safetensors; /* a file or a set of shards, mapped */

struct tern_file_tensor {
    const char *name; /* UTF-8; this and data live as long as the container */
    tern_dtype dtype;
    int rank;
    int64_t dim[TERN_MAX_RANK];
    const unsigned char *data; /* [size], any alignment */
    size_t size;               /* bytes */
    uint32_t shard;
    bool used;   /* for whoever binds: false after open */
    bool listed; /* in the index */
};

/* One file.  TERN_ERR_FORMAT with file, tensor, found and expected; TERN_ERR_UNSUPPORTED (dtype, rank);
 * TERN_ERR_NOT_FOUND, TERN_ERR_IO, TERN_ERR_MEMORY. */
tern_status tern_safetensors_open(tern_ctx *ctx, const char *path, struct tern_safetensors **out);

/* A checkpoint directory: model.safetensors, else model.safetensors.index.json and the shards that it
 * names, which stand beside it.
 * The index and the shards must agree: each listed tensor is in its shard, each tensor of a shard is listed.
 * Also TERN_ERR_NOT_FOUND (neither file) and TERN_ERR_UNSUPPORTED (weights in another format; the
 * text tells how to convert them). */
tern_status tern_safetensors_open_dir(tern_ctx *ctx, const char *dir, struct tern_safetensors **out);

void tern_safetensors_close(struct tern_safetensors **files);

/* Tensors in the order of their names. */
size_t tern_safetensors_count(const struct tern_safetensors *files);
struct tern_file_tensor *tern_safetensors_at(struct tern_safetensors *files, size_t index);
struct tern_file_tensor *tern_safetensors_find(struct tern_safetensors *files, const char *name); /* NULL: none */

/* Path of the file that holds a tensor. */
const char *tern_safetensors_path(const struct tern_safetensors *files, const struct tern_file_tensor *tensor);

/* The tensor's pages are not needed any more; they are read again if touched. */
void tern_safetensors_drop(const struct tern_safetensors *files, const struct tern_file_tensor *tensor);

/* "[2, 3]", with a dim of -1 "[2, any]", in a buffer of the caller; TERN_FILE_SHAPE_TEXT bytes hold any. */
#define TERN_FILE_SHAPE_TEXT (TERN_MAX_RANK * 22 + 3)
const char *tern_file_shape_text(char *buffer, int rank, const int64_t *dim);

/* Whether a tensor has this shape; a dim of -1 is any.  TERN_ERR_SHAPE with file, tensor, found and expected. */
tern_status tern_file_tensor_shaped(tern_ctx *ctx, const char *file, const struct tern_file_tensor *t, int rank,
                                    const int64_t *dim);
/* Whether it has numbers that weights are read from, and this shape.  t NULL is TERN_ERR_NOT_FOUND, with `dir` and `name`; else
 * TERN_ERR_DTYPE or TERN_ERR_SHAPE. */
tern_status tern_file_tensor_weight(tern_ctx *ctx, const struct tern_safetensors *files, const char *dir,
                                    const char *name, const struct tern_file_tensor *t, int rank, const int64_t *dim);

#endif
