/* binder.c: see binder.h. */
#include "model/binder.h"
#include "base/memory.h"
#include "comm/agree.h"
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
    bool transposed; /* channels are rows; values: always */
    size_t first_part, n_parts;
    int64_t first_input, n_inputs; /* of each channel */
    float offset;                  /* added to values */
    bool exact;                    /* packed in its own dtype */
};

/* A tensor [rows, length] of an item. */
struct tern_binder_part {
    const struct tern_file_tensor *tensor;
    int64_t rows, length;
    struct tern_channels channels; /* step divides the axis of channels; steps is their number */
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

/* Channels of a part behind those of the last one, from the same tensor, are one part with them. */
static bool extends(const struct tern_binder_part *last, const struct tern_file_tensor *tensor,
                    const struct tern_channels *next)
{
    const struct tern_channels *c = &last->channels;

    return last->tensor == tensor && c->step == next->step && c->steps == 1 && next->steps == 1 &&
           c->from == next->from && c->first + c->count == next->first;
}

/* A part of the item that was declared last. */
static tern_status declare_part(struct tern_binder *binder, const char *name, int rank, const int64_t *dim,
                                const struct tern_channels *channels)
{
    tern_ctx *ctx = binder->ctx;
    struct tern_binder_item *item = &binder->items[binder->n_items - 1];
    struct tern_file_tensor *t = find(binder, name);

    TERN_TRY(tern_file_tensor_weight(ctx, binder->files, binder->dir, name, t, rank, dim));
    struct tern_binder_part part = {
        .tensor = t, .rows = 1, .length = rank == 1 ? 1 : dim[rank - 1], .channels = *channels
    };
    for (int i = 0; i + 1 < rank || (rank == 1 && i == 0); i++)
        part.rows *= dim[i];
    const int64_t axis = item->transposed ? part.rows : part.length;
    if (channels->step == 0)
        part.channels = (struct tern_channels){ axis, 0, axis, 0, 1 };
    assert(axis % part.channels.step == 0);
    if (part.channels.steps == 0)
        part.channels.steps = axis / part.channels.step - part.channels.from;
    if (item->n_parts == 0)
        item->n_inputs = item->transposed ? part.length : part.rows;
    assert(item->n_inputs == (item->transposed ? part.length : part.rows));
    if (!t->used)
        binder->file_bytes += t->size;
    t->used = true;
    if (item->n_parts > 0 && extends(&binder->parts[binder->n_parts - 1], t, &part.channels)) {
        binder->parts[binder->n_parts - 1].channels.count += part.channels.count;
        return TERN_OK;
    }
    TERN_TRY(TERN_GROW(ctx, &binder->parts, &binder->parts_capacity, binder->n_parts + 1, "the list of weights"));
    binder->parts[binder->n_parts++] = part;
    item->n_parts++;
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
    TERN_TRY(tern_binder_join(binder, out, transposed));
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
    TERN_TRY(tern_binder_join_values(binder, out));
    return declare_part(binder, name, rows ? 2 : 1, dim, &all_channels);
}

tern_status tern_binder_join(struct tern_binder *binder, tern_weight **out, bool transposed)
{
    return declare_item(binder, (struct tern_binder_item){ .weight = out, .transposed = transposed });
}

tern_status tern_binder_join_values(struct tern_binder *binder, float **out)
{
    return declare_item(binder, (struct tern_binder_item){ .values = out, .transposed = true });
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

void tern_binder_inputs(struct tern_binder *binder, int64_t first, int64_t count)
{
    struct tern_binder_item *item = &binder->items[binder->n_items - 1];

    item->first_input = first;
    item->n_inputs = count;
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

static int64_t part_channels(const struct tern_binder_part *part)
{
    return part->channels.steps * part->channels.count;
}

static int64_t item_channels(const struct tern_binder *binder, const struct tern_binder_item *item)
{
    int64_t n = 0;

    for (size_t p = 0; p < item->n_parts; p++)
        n += part_channels(&binder->parts[item->first_part + p]);
    return n;
}

static uint64_t item_bytes(const struct tern_binder *binder, const struct tern_binder_item *item)
{
    const struct tern_binder_part *part = binder->parts + item->first_part;
    uint64_t bytes = 0;

    for (size_t p = 0; p < item->n_parts; p++)
        bytes += (uint64_t)part_channels(&part[p]) * (uint64_t)item->n_inputs * tern_dtype_size(part[p].tensor->dtype);
    return bytes;
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

/* Where a part goes: dense runs of `dtype`, each `step` numbers behind the last one. */
struct target {
    char *at;
    tern_dtype dtype; /* the tensor's, or fp32 */
    size_t step;
};

/* n numbers from number `from` of a tensor on, wherever the file has them. */
static void copy_run(const struct tern_binder *binder, const struct tern_file_tensor *t, int64_t from, int64_t n,
                     struct target *to)
{
    const size_t size = tern_dtype_size(t->dtype);
    const char *data = (const char *)t->data + (size_t)from * size;
    char piece[4096];

    if (to->dtype == t->dtype) {
        memcpy(to->at, data, (size_t)n * size);
    } else {
        float *at = (float *)(void *)to->at;
        for (size_t done = 0, few; done < (size_t)n; done += few) {
            few = (size_t)n - done < sizeof piece / sizeof *at ? (size_t)n - done : sizeof piece / sizeof *at;
            memcpy(piece, data + done * size, few * size); /* the file's alignment is its own */
            tern_widen(binder->ctx->kernels, at + done, piece, t->dtype, few);
        }
    }
    to->at += to->step * tern_dtype_size(to->dtype);
}

/* A part to `to`: rows of its channels, or with channels that are columns a block of them in rows of `n_channels`. */
static void copy_part(struct tern_binder *binder, const struct tern_binder_item *item,
                      const struct tern_binder_part *part, tern_dtype dtype, int64_t n_channels, char *to)
{
    const struct tern_channels *c = &part->channels;
    const int64_t first = item->first_input, n = item->n_inputs, length = part->length;
    const bool whole = n == length;

    for (int64_t k = 0; k < c->steps; k++) {
        const int64_t channel = (c->from + k) * c->step + c->first;
        struct target rows = { to + (size_t)(k * c->count * n) * tern_dtype_size(dtype), dtype, (size_t)n };
        struct target columns = { to + (size_t)(k * c->count) * tern_dtype_size(dtype), dtype, (size_t)n_channels };
        if (item->transposed && whole)
            copy_run(binder, part->tensor, channel * length, c->count * length, &rows);
        for (int64_t i = 0; item->transposed && !whole && i < c->count; i++)
            copy_run(binder, part->tensor, (channel + i) * length + first, n, &rows);
        for (int64_t i = 0; !item->transposed && i < n; i++)
            copy_run(binder, part->tensor, (first + i) * length + channel, c->count, &columns);
    }
    tern_safetensors_drop(binder->files, part->tensor);
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

/* [channels, inputs] or the other way round. */
static tern_tensor matrix_view(const struct tern_binder_item *item, void *data, tern_dtype dtype, int64_t n_channels)
{
    const int64_t dim[] = { item->transposed ? n_channels : item->n_inputs,
                            item->transposed ? item->n_inputs : n_channels };

    return tern_tensor_view(data, dtype, 2, dim);
}

/* A matrix whose numbers stand in one piece in a file, aligned, is packed from where it is mapped: where, else NULL. */
static const char *in_place(const struct tern_binder *binder, const struct tern_binder_item *item)
{
    const struct tern_binder_part *part = &binder->parts[item->first_part];
    const struct tern_channels *c = &part->channels;
    const int64_t axis = item->transposed ? part->rows : part->length;
    const int64_t inputs = item->transposed ? part->length : part->rows;
    const size_t size = tern_dtype_size(part->tensor->dtype);
    const bool whole = c->count * c->steps == axis;

    if (item->values || item->n_parts != 1 || item->n_inputs != inputs || (uintptr_t)part->tensor->data % size != 0)
        return NULL;
    if (!whole && !(item->transposed && c->steps == 1))
        return NULL;
    const int64_t first = whole ? 0 : (c->from * c->step + c->first) * part->length;
    return (const char *)part->tensor->data + (size_t)first * size;
}

static tern_status load_in_place(struct tern_binder *binder, const struct tern_binder_item *item, const char *data)
{
    const struct tern_file_tensor *t = binder->parts[item->first_part].tensor;
    const tern_tensor view = matrix_view(item, (void *)(uintptr_t)data, t->dtype, item_channels(binder, item));
    const tern_status status = pack(binder, item, &view);

    tern_safetensors_drop(binder->files, t);
    return status;
}

/* The weight's place, for who plans memory. */
static tern_status hollow(struct tern_binder *binder, const struct tern_binder_item *item, int64_t n_channels,
                          tern_dtype dtype)
{
    return tern_weight_hollow(binder->ctx, item->n_inputs, n_channels,
                              item->exact ? dtype : tern_binder_packed_dtype(binder, dtype), item->weight);
}

static tern_status load_one(struct tern_binder *binder, const struct tern_binder_item *item)
{
    tern_ctx *ctx = binder->ctx;
    const tern_dtype dtype = item->values ? TERN_FP32 : item_dtype(binder, item);
    const int64_t n_channels = item_channels(binder, item);
    const size_t n = (size_t)(n_channels * item->n_inputs), bytes = n * tern_dtype_size(dtype);
    const char *mapped = in_place(binder, item);
    void *joined = NULL;

    binder->n_parameters += n;
    if (n == 0)
        return TERN_OK;
    if (binder->options.describe)
        return item->values ? TERN_ALLOC(ctx, n, "a vector of weights", item->values)
                            : hollow(binder, item, n_channels, dtype);
    if (mapped)
        return load_in_place(binder, item, mapped);
    if (item->values) {
        TERN_TRY(TERN_ALLOC(ctx, n, "a vector of weights", item->values));
        joined = *item->values;
    } else {
        TERN_TRY(tern_pages_alloc(ctx, bytes, "a matrix put together", &joined));
    }
    char *to = joined;
    for (size_t p = 0; p < item->n_parts; p++) {
        const struct tern_binder_part *part = &binder->parts[item->first_part + p];
        copy_part(binder, item, part, dtype, n_channels, to);
        to += (size_t)(part_channels(part) * (item->transposed ? item->n_inputs : 1)) * tern_dtype_size(dtype);
    }
    if (item->values) {
        for (size_t i = 0; item->offset != 0 && i < n; i++)
            (*item->values)[i] += item->offset;
        return TERN_OK;
    }
    const tern_tensor view = matrix_view(item, joined, dtype, n_channels);
    const tern_status status = pack(binder, item, &view);
    tern_pages_free(joined, bytes);
    return status;
}

static tern_status report(const struct tern_binder *binder, uint64_t done)
{
    TERN_REQUIRE(binder->ctx,
                 !binder->options.progress ||
                     binder->options.progress(binder->options.user, done, binder->copied_bytes),
                 TERN_ERR_CANCELLED, "%s: loading was cancelled after %" PRIu64 " of %" PRIu64 " bytes", binder->dir,
                 done, binder->copied_bytes);
    return TERN_OK;
}

/* Items between two agreements have these bytes in the files, whole: an error is known everywhere within seconds. */
#define AGREE_BYTES 100000000

/* Every rank has the same items, and agrees behind the same ones. */
static tern_status load_all(struct tern_binder *binder)
{
    uint64_t done = 0, since = 0;
    tern_status status = TERN_OK;

    for (size_t i = 0; i < binder->n_items && status == TERN_OK; i++) {
        const struct tern_binder_item *item = &binder->items[i];
        status = load_one(binder, item);
        done += item_bytes(binder, item);
        if (status == TERN_OK)
            status = report(binder, done);
        for (size_t p = 0; p < item->n_parts; p++)
            since += binder->parts[item->first_part + p].tensor->size;
        if (since < AGREE_BYTES && status == TERN_OK)
            continue;
        since = 0;
        status = tern_agree(binder->ctx, binder->comm, status);
        binder->agreed = status != TERN_OK;
    }
    return status;
}

tern_status tern_binder_load(struct tern_binder *binder)
{
    uint64_t largest = 0;

    TERN_TRY(check_unread(binder));
    for (size_t i = 0; i < binder->n_items; i++) {
        const struct tern_binder_item *item = &binder->items[i];
        const uint64_t bytes = item_bytes(binder, item);
        binder->copied_bytes += bytes;
        if (bytes > largest) {
            largest = bytes;
            binder->dtype = item_dtype(binder, item);
        }
    }
    TERN_TRY(report(binder, 0));
    return load_all(binder);
}
