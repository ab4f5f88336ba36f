/* binder.c: see binder.h. */
#include "model/binder.h"
#include "base/memory.h"
#include "model/arch.h"
#include "ops/checks.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 256 /* longest name that a family builds */

struct tern_binder_item {
    tern_weight **weight; /* one of these two */
    float **values;
    bool transposed;
    int64_t in; /* of a row of each part */
    size_t first_part, n_parts;
    float offset; /* added to values */
    bool exact;   /* packed in its own dtype */
};

struct tern_binder_part {
    const struct tern_file_tensor *tensor;
    int64_t rows;                  /* of the tensor */
    struct tern_channels channels; /* step divides rows */
};

void tern_binder_free(struct tern_binder *binder)
{
    tern_free(binder->items);
    tern_free(binder->parts);
    for (uint32_t i = 0; binder->skipped && i < binder->n_skipped; i++)
        tern_free(binder->skipped[i]);
    tern_free(binder->skipped);
    binder->items = NULL;
    binder->parts = NULL;
    binder->skipped = NULL;
}

/* ---- names ---- */

bool tern_name_matches(const char *pattern, const char *name)
{
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*name++ != *pattern)
                return false;
            continue;
        }
        if (*name < '0' || *name > '9')
            return false;
        while (*name >= '0' && *name <= '9')
            name++;
    }
    return *name == '\0';
}

static bool matches_any(const char *const *patterns, const char *name)
{
    for (; *patterns; patterns++)
        if (tern_name_matches(*patterns, name))
            return true;
    return false;
}

/* With any of the family's prefixes before it, or none. */
static bool known_as(const struct tern_arch *arch, const char *const *patterns, const char *name)
{
    if (matches_any(patterns, name))
        return true;
    for (const char *const *p = arch->prefixes; *p; p++)
        if (strncmp(name, *p, strlen(*p)) == 0 && matches_any(patterns, name + strlen(*p)))
            return true;
    return false;
}

void tern_binder_prefix(struct tern_binder *binder, const char *name)
{
    char full[NAME_SIZE];

    for (const char *const *p = binder->arch->prefixes; *p; p++) {
        snprintf(full, sizeof full, "%s%s", *p, name);
        if (tern_safetensors_find(binder->files, full)) {
            binder->prefix = *p;
            return;
        }
    }
}

/* Cannot be cut: the families' names and prefixes are short literals. */
static void name_print(const struct tern_binder *binder, char *name, const char *format, va_list args)
{
    const int n = snprintf(name, NAME_SIZE, "%s", binder->prefix);

    vsnprintf(name + n, NAME_SIZE - (size_t)n, format, args);
}

/* A tensor by its name, or by the one that it had in older files: LayerNorm.gamma and LayerNorm.beta. */
static struct tern_file_tensor *find(const struct tern_binder *binder, const char *name)
{
    static const char *const endings[][2] = { { "LayerNorm.weight", "gamma" }, { "LayerNorm.bias", "beta" } };
    struct tern_file_tensor *t = tern_safetensors_find(binder->files, name);
    const size_t n = strlen(name);
    char older[NAME_SIZE + 8];

    for (size_t i = 0; !t && i < sizeof endings / sizeof endings[0]; i++) {
        const size_t tail = strlen(endings[i][0]), kept = strlen("LayerNorm.");
        if (n < tail || strcmp(name + n - tail, endings[i][0]) != 0)
            continue;
        snprintf(older, sizeof older, "%.*s%s", (int)(n - tail + kept), name, endings[i][1]);
        t = tern_safetensors_find(binder->files, older);
    }
    return t;
}

struct tern_file_tensor *tern_binder_find(struct tern_binder *binder, const char *format, ...)
{
    char name[NAME_SIZE];
    va_list args;

    va_start(args, format);
    name_print(binder, name, format, args);
    va_end(args);
    return find(binder, name);
}

/* ---- declarations ---- */

static tern_status declare_item(struct tern_binder *binder, struct tern_binder_item item)
{
    TERN_TRY(TERN_GROW(binder->ctx, &binder->items, &binder->capacity, binder->n_items + 1, "the list of weights"));
    item.first_part = binder->n_parts;
    binder->items[binder->n_items++] = item;
    return TERN_OK;
}

/* A part of the item that was declared last. */
static tern_status declare_part(struct tern_binder *binder, const char *name, int rank, const int64_t *dim,
                                const struct tern_channels *channels)
{
    tern_ctx *ctx = binder->ctx;
    struct tern_file_tensor *t = find(binder, name);

    TERN_TRY(tern_file_tensor_weight(ctx, binder->files, binder->dir, name, t, rank, dim));
    TERN_TRY(TERN_GROW(ctx, &binder->parts, &binder->parts_capacity, binder->n_parts + 1, "the list of weights"));
    struct tern_binder_part *part = &binder->parts[binder->n_parts++];
    *part = (struct tern_binder_part){ .tensor = t, .rows = 1 };
    for (int i = 0; i + 1 < rank || (rank == 1 && i == 0); i++)
        part->rows *= dim[i];
    part->channels = channels->step ? *channels : (struct tern_channels){ part->rows, 0, part->rows };
    assert(part->rows % part->channels.step == 0);
    binder->items[binder->n_items - 1].n_parts++;
    t->used = true;
    return TERN_OK;
}

static const struct tern_channels all_channels;

tern_status tern_binder_matrix(struct tern_binder *binder, tern_weight **out, bool transposed, int64_t in,
                               int64_t n_out, const char *format, ...)
{
    const int64_t dim[] = { transposed ? n_out : in, transposed ? in : n_out };
    char name[NAME_SIZE];
    va_list args;

    va_start(args, format);
    name_print(binder, name, format, args);
    va_end(args);
    TERN_TRY(declare_item(binder, (struct tern_binder_item){ .weight = out, .transposed = transposed, .in = dim[1] }));
    return declare_part(binder, name, 2, dim, &all_channels);
}

tern_status tern_binder_values(struct tern_binder *binder, float **out, int64_t rows, int64_t n, const char *format,
                               ...)
{
    const int64_t dim[] = { rows ? rows : n, n };
    char name[NAME_SIZE];
    va_list args;

    va_start(args, format);
    name_print(binder, name, format, args);
    va_end(args);
    TERN_TRY(declare_item(binder, (struct tern_binder_item){ .values = out, .in = rows ? n : 1 }));
    return declare_part(binder, name, rows ? 2 : 1, dim, &all_channels);
}

tern_status tern_binder_join(struct tern_binder *binder, tern_weight **out, int64_t in)
{
    return declare_item(binder, (struct tern_binder_item){ .weight = out, .transposed = true, .in = in });
}

tern_status tern_binder_join_values(struct tern_binder *binder, float **out)
{
    return declare_item(binder, (struct tern_binder_item){ .values = out, .in = 1 });
}

tern_status tern_binder_part(struct tern_binder *binder, const struct tern_channels *channels, int rank,
                             const int64_t *dim, const char *format, ...)
{
    char name[NAME_SIZE];
    va_list args;

    va_start(args, format);
    name_print(binder, name, format, args);
    va_end(args);
    return declare_part(binder, name, rank, dim, channels);
}

void tern_binder_exact(struct tern_binder *binder)
{
    binder->items[binder->n_items - 1].exact = true;
}

void tern_binder_offset(struct tern_binder *binder, float offset)
{
    binder->items[binder->n_items - 1].offset = offset;
}

tern_status tern_binder_skip(struct tern_binder *binder, struct tern_file_tensor *tensor)
{
    tern_ctx *ctx = binder->ctx;

    if (!binder->skipped)
        TERN_TRY(
            TERN_ALLOC(ctx, tern_safetensors_count(binder->files), "the list of skipped tensors", &binder->skipped));
    TERN_TRY(tern_strndup(ctx, tensor->name, strlen(tensor->name), "the name of a skipped tensor",
                          &binder->skipped[binder->n_skipped]));
    binder->n_skipped++;
    tensor->used = true;
    return TERN_OK;
}

/* ---- loading ---- */

static tern_status check_unread(struct tern_binder *binder)
{
    for (size_t i = 0; i < tern_safetensors_count(binder->files); i++) {
        struct tern_file_tensor *t = tern_safetensors_at(binder->files, i);
        char shape[TERN_FILE_SHAPE_TEXT];

        if (t->used || known_as(binder->arch, binder->arch->ignored, t->name))
            continue;
        TERN_REQUIRE(binder->ctx, known_as(binder->arch, binder->arch->unused, t->name), TERN_ERR_FORMAT,
                     "%s: tensor \"%s\" (%s %s) is none that a %s model of this config has",
                     tern_safetensors_path(binder->files, t), t->name, tern_dtype_name(t->dtype),
                     tern_file_shape_text(shape, t->rank, t->dim), binder->arch->family);
        TERN_TRY(tern_binder_skip(binder, t));
    }
    return TERN_OK;
}

/* The tensor's data where its elements are aligned: the mapping, or a copy that the caller frees. */
static tern_status aligned_data(tern_ctx *ctx, const struct tern_file_tensor *t, const void **data, void **copy)
{
    *copy = NULL;
    *data = t->data;
    if ((uintptr_t)t->data % tern_dtype_size(t->dtype) == 0)
        return TERN_OK;
    TERN_TRY(tern_alloc(ctx, t->size, 1, "an aligned copy of a tensor", copy));
    memcpy(*copy, t->data, t->size);
    *data = *copy;
    return TERN_OK;
}

tern_dtype tern_binder_packed_dtype(const struct tern_binder *binder, tern_dtype dtype)
{
    switch (binder->options.dtype) {
    case TERN_MODEL_AUTO:
        break;
    case TERN_MODEL_FP32:
        return TERN_FP32;
    case TERN_MODEL_BF16:
        return TERN_BF16;
    case TERN_MODEL_FP16:
        return TERN_FP16;
    case TERN_MODEL_INT8:
        return TERN_INT8;
    }
    return dtype;
}

static int64_t part_rows(const struct tern_binder_part *part)
{
    return part->rows / part->channels.step * part->channels.count;
}

static uint64_t part_bytes(const struct tern_binder_item *item, const struct tern_binder_part *part)
{
    return (uint64_t)part_rows(part) * (uint64_t)item->in * tern_dtype_size(part->tensor->dtype);
}

static bool is_whole(const struct tern_binder_part *part)
{
    return part->channels.count == part->rows;
}

/* What an item is packed from, before options: fp32 where its parts differ. */
static tern_dtype item_dtype(const struct tern_binder *binder, const struct tern_binder_item *item)
{
    const struct tern_binder_part *part = binder->parts + item->first_part;
    tern_dtype dtype = part->tensor->dtype;

    for (size_t i = 1; i < item->n_parts; i++)
        if (part[i].tensor->dtype != dtype)
            dtype = TERN_FP32;
    return dtype;
}

/* Rows of a part to `to`, as dtype: that of the tensor, or fp32. */
static tern_status copy_rows(struct tern_binder *binder, const struct tern_binder_item *item,
                             const struct tern_binder_part *part, tern_dtype dtype, char *to)
{
    const struct tern_file_tensor *t = part->tensor;
    const struct tern_channels *c = &part->channels;
    const size_t run = (size_t)(c->count * item->in), size = tern_dtype_size(t->dtype);
    const void *data;
    void *copy;

    TERN_TRY(aligned_data(binder->ctx, t, &data, &copy));
    for (int64_t at = c->first; at < part->rows; at += c->step) {
        const char *from = (const char *)data + (size_t)(at * item->in) * size;
        if (dtype == t->dtype)
            memcpy(to, from, run * size);
        else
            tern_widen(binder->ctx->kernels, (float *)(void *)to, from, t->dtype, run);
        to += run * tern_dtype_size(dtype);
    }
    tern_free(copy);
    tern_safetensors_drop(binder->files, t);
    return TERN_OK;
}

/* A value that fp16 has none for is told with the tensor's name. */
static tern_status pack(struct tern_binder *binder, const struct tern_binder_item *item, const tern_tensor *view)
{
    const struct tern_file_tensor *t = binder->parts[item->first_part].tensor;
    const tern_dtype dtype = item->exact ? view->dtype : tern_binder_packed_dtype(binder, view->dtype);
    const tern_status status = tern_weight_pack_as(binder->ctx, view, item->transposed, dtype, NULL, item->weight);
    char text[512];

    if (status != TERN_ERR_ARG)
        return status;
    snprintf(text, sizeof text, "%s", tern_error(binder->ctx));
    return tern_fail(binder->ctx, status, "%s: tensor \"%s\"%s: %s", tern_safetensors_path(binder->files, t), t->name,
                     item->n_parts > 1 ? " and those beside it" : "", text);
}

/* A matrix that is one whole tensor is packed from where it is mapped. */
static tern_status load_whole(struct tern_binder *binder, const struct tern_binder_item *item)
{
    const struct tern_file_tensor *t = binder->parts[item->first_part].tensor;
    const void *data;
    void *copy;

    TERN_TRY(aligned_data(binder->ctx, t, &data, &copy));
    const int64_t dim[] = { (int64_t)(t->size / tern_dtype_size(t->dtype)) / item->in, item->in };
    const tern_tensor view = tern_tensor_view((void *)(uintptr_t)data, t->dtype, 2, dim);
    const tern_status status = pack(binder, item, &view);
    tern_free(copy);
    tern_safetensors_drop(binder->files, t);
    return status;
}

/* The weight's place, for who plans memory. */
static tern_status hollow(struct tern_binder *binder, const struct tern_binder_item *item, int64_t rows,
                          tern_dtype dtype)
{
    return tern_weight_hollow(binder->ctx, item->transposed ? item->in : rows, item->transposed ? rows : item->in,
                              item->exact ? dtype : tern_binder_packed_dtype(binder, dtype), item->weight);
}

static tern_status load_one(struct tern_binder *binder, const struct tern_binder_item *item)
{
    tern_ctx *ctx = binder->ctx;
    const struct tern_binder_part *part = binder->parts + item->first_part, *end = part + item->n_parts;
    const tern_dtype dtype = item->values ? TERN_FP32 : item_dtype(binder, item);
    tern_status status = TERN_OK;
    int64_t rows = 0;

    for (const struct tern_binder_part *p = part; p < end; p++)
        rows += part_rows(p);
    const size_t n = (size_t)(rows * item->in), bytes = n * tern_dtype_size(dtype);
    binder->n_parameters += n;
    if (binder->options.describe)
        return item->values ? TERN_ALLOC(ctx, n, "a vector of weights", item->values)
                            : hollow(binder, item, rows, dtype);
    if (item->weight && item->n_parts == 1 && is_whole(part))
        return load_whole(binder, item);

    void *joined = NULL;
    if (item->values) {
        TERN_TRY(TERN_ALLOC(ctx, n, "a vector of weights", item->values));
        joined = *item->values;
    } else {
        TERN_TRY(tern_pages_alloc(ctx, bytes, "a matrix put together", &joined));
    }
    char *to = joined;
    for (; part < end && status == TERN_OK; part++) {
        status = copy_rows(binder, item, part, dtype, to);
        to += (size_t)(part_rows(part) * item->in) * tern_dtype_size(dtype);
    }
    if (item->values) {
        for (size_t i = 0; status == TERN_OK && item->offset != 0 && i < n; i++)
            (*item->values)[i] += item->offset;
        return status;
    }
    const tern_tensor view = tern_tensor_view(joined, dtype, 2, (int64_t[]){ rows, item->in });
    if (status == TERN_OK)
        status = pack(binder, item, &view);
    tern_pages_free(joined, bytes);
    return status;
}

static tern_status report(const struct tern_binder *binder, uint64_t done)
{
    TERN_REQUIRE(binder->ctx,
                 !binder->options.progress || binder->options.progress(binder->options.user, done, binder->file_bytes),
                 TERN_ERR_CANCELLED, "%s: loading was cancelled after %" PRIu64 " of %" PRIu64 " bytes", binder->dir,
                 done, binder->file_bytes);
    return TERN_OK;
}

tern_status tern_binder_load(struct tern_binder *binder)
{
    uint64_t done = 0, largest = 0;

    TERN_TRY(check_unread(binder));
    for (size_t i = 0; i < binder->n_items; i++) {
        const struct tern_binder_item *item = &binder->items[i];
        uint64_t bytes = 0;
        for (size_t p = 0; p < item->n_parts; p++)
            bytes += part_bytes(item, &binder->parts[item->first_part + p]);
        binder->file_bytes += bytes;
        if (bytes > largest) {
            largest = bytes;
            binder->dtype = item_dtype(binder, item);
        }
    }
    TERN_TRY(report(binder, 0));
    for (size_t i = 0; i < binder->n_items; i++) {
        const struct tern_binder_item *item = &binder->items[i];
        TERN_TRY(load_one(binder, item));
        for (size_t p = 0; p < item->n_parts; p++)
            done += part_bytes(item, &binder->parts[item->first_part + p]);
        TERN_TRY(report(binder, done));
    }
    return TERN_OK;
}
