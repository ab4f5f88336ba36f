/* safetensors.c: see safetensors.h.
 *
 * All tensors of all files stand in one array, sorted by name once everything is read: then a repeated name is a pair
 * of neighbours, and a name is found by halving.  Whether the data of a file are covered exactly once is seen by walking
 * its tensors in the order of their offsets: each has to begin where the one before ends. */
#include "model/safetensors.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_MAX  ((size_t)256 << 20) /* bytes of an index file */
#define SHARDS_MAX 65536

struct shard {
    char *path;
    struct tern_map map;
    struct tern_json *header; /* owns the tensors' names */
};

struct tern_safetensors {
    struct shard *shards;
    size_t n_shards;
    struct tern_file_tensor *tensors;
    size_t n_tensors, capacity;
};

static const struct {
    const char *name;
    tern_dtype dtype;
} dtype_names[] = {
    { "F64", TERN_FP64 },         { "F32", TERN_FP32 },         { "F16", TERN_FP16 },   { "BF16", TERN_BF16 },
    { "F8_E4M3", TERN_FP8_E4M3 }, { "F8_E5M2", TERN_FP8_E5M2 }, { "I64", TERN_INT64 },  { "I32", TERN_INT32 },
    { "I16", TERN_INT16 },        { "I8", TERN_INT8 },          { "U64", TERN_UINT64 }, { "U32", TERN_UINT32 },
    { "U16", TERN_UINT16 },       { "U8", TERN_UINT8 },         { "BOOL", TERN_BOOL },
};

const char *tern_file_shape_text(char *buffer, int rank, const int64_t *dim)
{
    char *p = buffer;

    *p++ = '[';
    for (int i = 0; i < rank; i++)
        p +=
            dim[i] < 0 ? snprintf(p, 23, "%sany", i ? ", " : "") : snprintf(p, 23, "%s%" PRId64, i ? ", " : "", dim[i]);
    *p++ = ']';
    *p = '\0';
    return buffer;
}

tern_status tern_file_tensor_shaped(tern_ctx *ctx, const char *file, const struct tern_file_tensor *t, int rank,
                                    const int64_t *dim)
{
    char found[TERN_FILE_SHAPE_TEXT], expected[TERN_FILE_SHAPE_TEXT];
    bool same = t->rank == rank;

    for (int i = 0; same && i < rank; i++)
        same = dim[i] < 0 || t->dim[i] == dim[i];
    TERN_REQUIRE(ctx, same, TERN_ERR_SHAPE, "%s: tensor \"%s\": shape is %s, expected %s", file, t->name,
                 tern_file_shape_text(found, t->rank, t->dim), tern_file_shape_text(expected, rank, dim));
    return TERN_OK;
}

tern_status tern_file_tensor_weight(tern_ctx *ctx, const struct tern_safetensors *files, const char *dir,
                                    const char *name, const struct tern_file_tensor *t, int rank, const int64_t *dim)
{
    char expected[TERN_FILE_SHAPE_TEXT];

    TERN_REQUIRE(ctx, t, TERN_ERR_NOT_FOUND, "%s: no tensor \"%s\", expected one of fp32, fp16 or bf16 with shape %s",
                 dir, name, tern_file_shape_text(expected, rank, dim));
    const char *path = tern_safetensors_path(files, t);
    TERN_REQUIRE(ctx, t->dtype == TERN_FP32 || t->dtype == TERN_FP16 || t->dtype == TERN_BF16, TERN_ERR_DTYPE,
                 "%s: tensor \"%s\": dtype is %s, expected fp32, fp16 or bf16", path, t->name,
                 tern_dtype_name(t->dtype));
    return tern_file_tensor_shaped(ctx, path, t, rank, dim);
}

/* ---- one tensor's entry in a header ---- */

static tern_status read_dtype(tern_ctx *ctx, const struct tern_json *json, const char *name,
                              const tern_json_value *value, tern_dtype *out)
{
    TERN_REQUIRE(ctx, value && tern_json_type(value) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": dtype is %s, expected a string", tern_json_where(json), name,
                 tern_json_type_name(value));

    size_t length;
    const char *text = tern_json_string(value, &length);
    for (size_t i = 0; i < sizeof dtype_names / sizeof dtype_names[0]; i++)
        if (strlen(dtype_names[i].name) == length && memcmp(dtype_names[i].name, text, length) == 0) {
            *out = dtype_names[i].dtype;
            return TERN_OK;
        }
    return tern_fail(
        ctx, TERN_ERR_UNSUPPORTED,
        "%s: tensor \"%s\": dtype is \"%s\", expected F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, "
        "U64, U32, U16, U8 or BOOL",
        tern_json_where(json), name, text);
}

/* Shape, and the bytes that it takes. */
static tern_status read_shape(tern_ctx *ctx, const struct tern_json *json, const char *name,
                              const tern_json_value *value, struct tern_file_tensor *t, size_t *bytes)
{
    const char *where = tern_json_where(json);
    const size_t rank = tern_json_size(value);
    bool fits = true;

    TERN_REQUIRE(ctx, value && tern_json_type(value) == TERN_JSON_ARRAY, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": shape is %s, expected an array", where, name, tern_json_type_name(value));
    TERN_REQUIRE(ctx, rank <= TERN_MAX_RANK, TERN_ERR_UNSUPPORTED,
                 "%s: tensor \"%s\": shape has %zu dimensions, expected at most %d", where, name, rank, TERN_MAX_RANK);

    *bytes = tern_dtype_size(t->dtype);
    t->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const tern_json_value *d = tern_json_at(value, i);
        TERN_REQUIRE(ctx, tern_json_type(d) == TERN_JSON_INT, TERN_ERR_FORMAT,
                     "%s: tensor \"%s\": shape[%zu] is %s, expected an integer", where, name, i,
                     tern_json_type_name(d));
        t->dim[i] = tern_json_int(d);
        TERN_REQUIRE(ctx, t->dim[i] >= 0, TERN_ERR_FORMAT,
                     "%s: tensor \"%s\": shape[%zu] is %" PRId64 ", expected at least 0", where, name, i, t->dim[i]);
        fits = fits && tern_size_mul(*bytes, (size_t)t->dim[i], bytes);
    }
    char text[TERN_FILE_SHAPE_TEXT];
    TERN_REQUIRE(ctx, fits, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": shape %s of %s overflows, expected a size that fits the file", where, name,
                 tern_file_shape_text(text, t->rank, t->dim), tern_dtype_name(t->dtype));
    return TERN_OK;
}

/* Place in the data, against their size and the tensor's. */
static tern_status read_place(tern_ctx *ctx, const struct tern_json *json, const char *name,
                              const tern_json_value *value, const unsigned char *data, size_t data_size, size_t bytes,
                              struct tern_file_tensor *t)
{
    const char *where = tern_json_where(json);
    const tern_json_value *begin = tern_json_at(value, 0), *end = tern_json_at(value, 1);

    TERN_REQUIRE(ctx, value, TERN_ERR_FORMAT, "%s: tensor \"%s\": has no data_offsets, expected an array of 2 integers",
                 where, name);
    TERN_REQUIRE(ctx, tern_json_type(value) == TERN_JSON_ARRAY && tern_json_size(value) == 2, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": data_offsets is %s with %zu items, expected an array of 2 integers", where, name,
                 tern_json_type_name(value), tern_json_size(value));
    TERN_REQUIRE(ctx, tern_json_type(begin) == TERN_JSON_INT && tern_json_type(end) == TERN_JSON_INT, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": data_offsets is an array of %s and %s, expected 2 integers", where, name,
                 tern_json_type_name(begin), tern_json_type_name(end));
    const int64_t b = tern_json_int(begin), e = tern_json_int(end);
    TERN_REQUIRE(ctx, b >= 0 && b <= e, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": data_offsets are [%" PRId64 ", %" PRId64 "], expected 0 <= begin <= end", where,
                 name, b, e);
    TERN_REQUIRE(ctx, (uint64_t)e <= data_size, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\": data_offsets are [%" PRId64 ", %" PRId64 "], the file has %zu bytes of data",
                 where, name, b, e, data_size);
    char text[TERN_FILE_SHAPE_TEXT];
    TERN_REQUIRE(
        ctx, (uint64_t)(e - b) == bytes, TERN_ERR_FORMAT,
        "%s: tensor \"%s\": data_offsets are [%" PRId64 ", %" PRId64 "], %" PRId64 " bytes; %s of %s takes %zu", where,
        name, b, e, e - b, tern_file_shape_text(text, t->rank, t->dim), tern_dtype_name(t->dtype), bytes);
    t->data = data + b;
    t->size = bytes;
    return TERN_OK;
}

static tern_status read_tensor(tern_ctx *ctx, const struct tern_json *json, const char *name,
                               const tern_json_value *entry, const unsigned char *data, size_t data_size,
                               struct tern_file_tensor *t)
{
    const char *where = tern_json_where(json);
    size_t bytes, length;

    TERN_REQUIRE(ctx, tern_json_type(entry) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: tensor \"%s\" is %s, expected an object", where, name, tern_json_type_name(entry));
    for (void *it = tern_json_iter(entry); it; it = tern_json_next(entry, it)) {
        const char *key = tern_json_iter_key(it, &length);
        TERN_REQUIRE(ctx, !strcmp(key, "dtype") || !strcmp(key, "shape") || !strcmp(key, "data_offsets"),
                     TERN_ERR_FORMAT, "%s: tensor \"%s\": unknown key \"%s\", expected dtype, shape and data_offsets",
                     where, name, key);
    }
    t->name = name;
    TERN_TRY(read_dtype(ctx, json, name, tern_json_get(entry, "dtype"), &t->dtype));
    TERN_TRY(read_shape(ctx, json, name, tern_json_get(entry, "shape"), t, &bytes));
    return read_place(ctx, json, name, tern_json_get(entry, "data_offsets"), data, data_size, bytes, t);
}

/* ---- one file ---- */

static int by_place(const void *a, const void *b)
{
    const struct tern_file_tensor *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tern_file_tensor *)a)->name, ((const struct tern_file_tensor *)b)->name);
}

/* The tensors of one file cover its data once, without holes. */
static tern_status check_cover(tern_ctx *ctx, const char *path, struct tern_file_tensor *t, size_t n,
                               const unsigned char *data, size_t data_size)
{
    size_t end = 0;

    qsort(t, n, sizeof *t, by_place);
    for (size_t i = 0; i < n; i++) {
        const size_t begin = (size_t)(t[i].data - data);
        TERN_REQUIRE(
            ctx, begin >= end, TERN_ERR_FORMAT,
            "%s: tensor \"%s\" begins at byte %zu of the data, inside of tensor \"%s\" that ends at %zu: they overlap",
            path, t[i].name, begin, t[i - 1].name, end);
        TERN_REQUIRE(
            ctx, begin == end, TERN_ERR_FORMAT,
            "%s: tensor \"%s\" begins at byte %zu of the data, expected %zu: no tensor covers the bytes between", path,
            t[i].name, begin, end);
        end = begin + t[i].size;
    }
    TERN_REQUIRE(ctx, end == data_size, TERN_ERR_FORMAT,
                 "%s: tensors end at byte %zu of the data, the file has %zu bytes of data", path, end, data_size);
    return TERN_OK;
}

static tern_status check_metadata(tern_ctx *ctx, const char *path, const tern_json_value *metadata)
{
    size_t length;

    TERN_REQUIRE(ctx, tern_json_type(metadata) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: __metadata__ is %s, expected an object of strings", path, tern_json_type_name(metadata));
    for (void *it = tern_json_iter(metadata); it; it = tern_json_next(metadata, it)) {
        const tern_json_value *value = tern_json_iter_value(it);
        TERN_REQUIRE(ctx, tern_json_type(value) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                     "%s: __metadata__: \"%s\" is %s, expected a string", path, tern_json_iter_key(it, &length),
                     tern_json_type_name(value));
    }
    return TERN_OK;
}

/* Maps one file and appends its tensors; shard->path is set.  What was made so far belongs to `files` in any case. */
static tern_status read_file(tern_ctx *ctx, struct tern_safetensors *files, uint32_t index)
{
    struct shard *shard = &files->shards[index];
    const char *path = shard->path;
    uint64_t header_size = 0;

    TERN_TRY(tern_map_open(ctx, path, &shard->map));
    const unsigned char *bytes = shard->map.data;
    const size_t size = shard->map.size;
    TERN_REQUIRE(ctx, size >= 8, TERN_ERR_FORMAT,
                 "%s: file has %zu bytes, expected at least the 8 of the header's length", path, size);
    for (int i = 7; i >= 0; i--)
        header_size = header_size << 8 | bytes[i];
    TERN_REQUIRE(ctx, header_size <= TERN_SAFETENSORS_HEADER_MAX, TERN_ERR_FORMAT,
                 "%s: header has %" PRIu64 " bytes, expected at most %d", path, header_size,
                 TERN_SAFETENSORS_HEADER_MAX);
    TERN_REQUIRE(ctx, header_size <= size - 8, TERN_ERR_FORMAT,
                 "%s: header has %" PRIu64 " bytes, the file ends after %zu of them: truncated", path, header_size,
                 size - 8);
    TERN_REQUIRE(ctx, header_size >= 1 && bytes[8] == '{', TERN_ERR_FORMAT,
                 "%s: header does not begin with {, expected a JSON object: not a safetensors file", path);
    TERN_TRY(tern_json_parse(ctx, (const char *)bytes + 8, (size_t)header_size, path, &shard->header));

    /* Room for one more than there are: the list is an array even where it is empty. */
    const tern_json_value *root = tern_json_root(shard->header);
    const unsigned char *data = bytes + 8 + header_size;
    const size_t data_size = size - 8 - (size_t)header_size, first = files->n_tensors;
    TERN_REQUIRE(ctx, tern_json_type(root) == TERN_JSON_OBJECT, TERN_ERR_FORMAT, "%s: header is %s, expected an object",
                 path, tern_json_type_name(root));
    TERN_TRY(
        TERN_GROW(ctx, &files->tensors, &files->capacity, first + tern_json_size(root) + 1, "the list of tensors"));
    for (void *it = tern_json_iter(root); it; it = tern_json_next(root, it)) {
        size_t length;
        const char *name = tern_json_iter_key(it, &length);
        struct tern_file_tensor *t = &files->tensors[files->n_tensors];

        if (strcmp(name, "__metadata__") == 0) {
            TERN_TRY(check_metadata(ctx, path, tern_json_iter_value(it)));
            continue;
        }
        *t = (struct tern_file_tensor){ .shard = index };
        TERN_TRY(read_tensor(ctx, shard->header, name, tern_json_iter_value(it), data, data_size, t));
        files->n_tensors++;
    }
    return check_cover(ctx, path, files->tensors + first, files->n_tensors - first, data, data_size);
}

/* After all files are read: find() works from here on. */
static tern_status sort_names(tern_ctx *ctx, struct tern_safetensors *files)
{
    struct tern_file_tensor *t = files->tensors;

    qsort(t, files->n_tensors, sizeof *t, by_name);
    for (size_t i = 1; i < files->n_tensors; i++)
        TERN_REQUIRE(ctx, strcmp(t[i - 1].name, t[i].name) != 0, TERN_ERR_FORMAT,
                     "%s: tensor \"%s\" is also in %s, expected it once", tern_safetensors_path(files, &t[i]),
                     t[i].name, tern_safetensors_path(files, &t[i - 1]));
    return TERN_OK;
}

static tern_status files_create(tern_ctx *ctx, size_t n_shards, struct tern_safetensors **out)
{
    struct tern_safetensors *files;

    TERN_TRY(TERN_ALLOC(ctx, 1, "a set of weight files", &files));
    const tern_status status = TERN_ALLOC(ctx, n_shards, "a list of weight files", &files->shards);
    if (status != TERN_OK) {
        tern_free(files);
        return status;
    }
    files->n_shards = n_shards;
    *out = files;
    return TERN_OK;
}

tern_status tern_safetensors_open(tern_ctx *ctx, const char *path, struct tern_safetensors **out)
{
    struct tern_safetensors *files = NULL;
    tern_status status;

    *out = NULL;
    TERN_TRY_OR_FAIL(files_create(ctx, 1, &files));
    TERN_TRY_OR_FAIL(tern_strndup(ctx, path, strlen(path), "a path", &files->shards[0].path));
    TERN_TRY_OR_FAIL(read_file(ctx, files, 0));
    TERN_TRY_OR_FAIL(sort_names(ctx, files));
    *out = files;
    return TERN_OK;

fail:
    tern_safetensors_close(&files);
    return status;
}

void tern_safetensors_close(struct tern_safetensors **files)
{
    if (!*files)
        return;
    for (size_t i = 0; i < (*files)->n_shards; i++) {
        tern_map_close(&(*files)->shards[i].map);
        tern_json_destroy((*files)->shards[i].header);
        tern_free((*files)->shards[i].path);
    }
    tern_free((*files)->shards);
    tern_free((*files)->tensors);
    tern_free(*files);
    *files = NULL;
}

/* ---- several files with an index ---- */

struct listing {
    const char *shard, *name; /* both live as long as the index */
};

static int by_shard(const void *a, const void *b)
{
    return strcmp(((const struct listing *)a)->shard, ((const struct listing *)b)->shard);
}

/* The entries of weight_map, sorted by shard, with the shards' names checked: they name files beside the index. */
static tern_status read_weight_map(tern_ctx *ctx, const struct tern_json *index, struct listing **out, size_t *n_out,
                                   size_t *n_shards)
{
    const char *where = tern_json_where(index);
    const tern_json_value *root = tern_json_root(index);
    const tern_json_value *map = tern_json_get(root, "weight_map");
    struct listing *list = NULL;
    size_t n = 0, length;
    tern_status status;

    TERN_REQUIRE(ctx, tern_json_type(root) == TERN_JSON_OBJECT, TERN_ERR_FORMAT, "%s: is %s, expected an object", where,
                 tern_json_type_name(root));
    TERN_REQUIRE(ctx, map, TERN_ERR_FORMAT, "%s: has no weight_map, expected an object", where);
    TERN_REQUIRE(ctx, tern_json_type(map) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: weight_map is %s, expected an object", where, tern_json_type_name(map));
    TERN_REQUIRE(ctx, tern_json_size(map) > 0, TERN_ERR_FORMAT, "%s: weight_map is empty, expected at least one tensor",
                 where);
    TERN_TRY(TERN_ALLOC(ctx, tern_json_size(map), "the index of the weight files", &list));
    for (void *it = tern_json_iter(map); it; it = tern_json_next(map, it)) {
        const char *name = tern_json_iter_key(it, &length);
        const tern_json_value *value = tern_json_iter_value(it);
        TERN_REQUIRE_OR_FAIL(ctx, tern_json_type(value) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                             "%s: weight_map: \"%s\" is %s, expected the name of a file", where, name,
                             tern_json_type_name(value));
        const char *shard = tern_json_string(value, &length);
        TERN_REQUIRE_OR_FAIL(
            ctx,
            length > 0 && length == strlen(shard) && !strchr(shard, '/') && !strchr(shard, '\\') &&
                !strstr(shard, ".."),
            TERN_ERR_FORMAT,
            "%s: weight_map: \"%s\" is in \"%s\", expected the name of a file beside the index (no path, no ..)", where,
            name, shard);
        list[n++] = (struct listing){ shard, name };
    }
    qsort(list, n, sizeof *list, by_shard);
    *n_shards = 0;
    for (size_t i = 0; i < n; i++)
        *n_shards += i == 0 || strcmp(list[i].shard, list[i - 1].shard) != 0;
    TERN_REQUIRE_OR_FAIL(ctx, *n_shards <= SHARDS_MAX, TERN_ERR_FORMAT,
                         "%s: weight_map names %zu files, expected at most %d", where, *n_shards, SHARDS_MAX);
    *out = list;
    *n_out = n;
    return TERN_OK;

fail:
    tern_free(list);
    return status;
}

/* The index says what the files say. */
static tern_status check_listing(tern_ctx *ctx, const char *where, struct tern_safetensors *files,
                                 const struct listing *list, size_t n)
{
    uint32_t shard = 0;

    for (size_t i = 0; i < n; i++) {
        shard += i > 0 && strcmp(list[i].shard, list[i - 1].shard) != 0;
        struct tern_file_tensor *t = tern_safetensors_find(files, list[i].name);
        TERN_REQUIRE(ctx, t, TERN_ERR_FORMAT, "%s: tensor \"%s\" is said to be in %s, found it in no file", where,
                     list[i].name, list[i].shard);
        TERN_REQUIRE(ctx, t->shard == shard, TERN_ERR_FORMAT, "%s: tensor \"%s\" is said to be in %s, found it in %s",
                     where, list[i].name, list[i].shard, files->shards[t->shard].path);
        t->listed = true;
    }
    for (size_t i = 0; i < files->n_tensors; i++)
        TERN_REQUIRE(ctx, files->tensors[i].listed, TERN_ERR_FORMAT, "%s: tensor \"%s\" is not in the weight_map of %s",
                     tern_safetensors_path(files, &files->tensors[i]), files->tensors[i].name, where);
    return TERN_OK;
}

static tern_status open_index(tern_ctx *ctx, const char *dir, const char *path, struct tern_safetensors **out)
{
    struct tern_safetensors *files = NULL;
    struct tern_json *index = NULL;
    struct listing *list = NULL;
    size_t n = 0, n_shards = 0;
    tern_status status;

    TERN_TRY_OR_FAIL(tern_json_read(ctx, path, INDEX_MAX, &index));
    TERN_TRY_OR_FAIL(read_weight_map(ctx, index, &list, &n, &n_shards));
    TERN_TRY_OR_FAIL(files_create(ctx, n_shards, &files));
    uint32_t shard = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(list[i].shard, list[i - 1].shard) != 0) {
            TERN_TRY_OR_FAIL(tern_path_join(ctx, dir, list[i].shard, &files->shards[shard].path));
            TERN_TRY_OR_FAIL(read_file(ctx, files, shard++));
        }
    TERN_TRY_OR_FAIL(sort_names(ctx, files));
    TERN_TRY_OR_FAIL(check_listing(ctx, path, files, list, n));
    *out = files;
    files = NULL;
    status = TERN_OK;

fail:
    tern_safetensors_close(&files);
    tern_free(list);
    tern_json_destroy(index);
    return status;
}

/* ---- a directory ---- */

/* Neither file is there: what is? */
static tern_status explain_missing(tern_ctx *ctx, const char *dir)
{
    static const char *const torch[] = { "pytorch_model.bin", "pytorch_model.bin.index.json" };
    static const char *const others[] = { "tf_model.h5",   "flax_model.msgpack",       "model.ckpt.index",
                                          "rust_model.ot", "consolidated.safetensors", "adapter_model.safetensors" };
    char *path, hint[TERN_SNAPSHOT_HINT];

    for (size_t i = 0; i < sizeof torch / sizeof torch[0]; i++) {
        TERN_TRY(tern_path_join(ctx, dir, torch[i], &path));
        const bool there = tern_path_is_file(path);
        tern_free(path);
        TERN_REQUIRE(
            ctx, !there, TERN_ERR_UNSUPPORTED,
            "%s: weights are in %s (a Python pickle), expected model.safetensors.  To convert it once, there: python3 "
            "-c "
            "\"import torch; from safetensors.torch import save_file; w = torch.load('pytorch_model.bin', "
            "map_location='cpu', weights_only=True); save_file({k: v.clone().contiguous() for k, v in w.items()}, "
            "'model.safetensors', {'format': 'pt'})\"%s",
            dir, torch[i], i ? "  (for each of its shards; or transformers' save_pretrained on the loaded model)" : "");
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        TERN_TRY(tern_path_join(ctx, dir, others[i], &path));
        const bool there = tern_path_is_file(path);
        tern_free(path);
        TERN_REQUIRE(ctx, !there, TERN_ERR_UNSUPPORTED, "%s: weights are in %s, expected model.safetensors", dir,
                     others[i]);
    }
    return tern_fail(ctx, TERN_ERR_NOT_FOUND,
                     "%s: no model in this directory: neither model.safetensors nor model.safetensors.index.json%s",
                     dir, tern_snapshot_hint(dir, hint, sizeof hint));
}

tern_status tern_safetensors_open_dir(tern_ctx *ctx, const char *dir, struct tern_safetensors **out)
{
    char *single = NULL, *index = NULL;
    tern_status status;

    *out = NULL;
    TERN_TRY_OR_FAIL(tern_path_join(ctx, dir, "model.safetensors", &single));
    TERN_TRY_OR_FAIL(tern_path_join(ctx, dir, "model.safetensors.index.json", &index));
    if (tern_path_is_file(single))
        status = tern_safetensors_open(ctx, single, out); /* where both are, the reference takes this one */
    else if (tern_path_is_file(index))
        status = open_index(ctx, dir, index, out);
    else
        status = explain_missing(ctx, dir);

fail:
    tern_free(single);
    tern_free(index);
    return status;
}

/* ---- reading ---- */

size_t tern_safetensors_count(const struct tern_safetensors *files)
{
    return files->n_tensors;
}

struct tern_file_tensor *tern_safetensors_at(struct tern_safetensors *files, size_t index)
{
    return &files->tensors[index];
}

struct tern_file_tensor *tern_safetensors_find(struct tern_safetensors *files, const char *name)
{
    const struct tern_file_tensor key = { .name = name };

    return bsearch(&key, files->tensors, files->n_tensors, sizeof key, by_name);
}

const char *tern_safetensors_path(const struct tern_safetensors *files, const struct tern_file_tensor *tensor)
{
    return files->shards[tensor->shard].path;
}

void tern_safetensors_drop(const struct tern_safetensors *files, const struct tern_file_tensor *tensor)
{
    const struct tern_map *map = &files->shards[tensor->shard].map;

    tern_map_drop(map, (size_t)(tensor->data - map->data), tensor->size);
}
