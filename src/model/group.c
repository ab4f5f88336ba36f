/* group.c: see group.h. */
#include "model/group.h"

#include "base/file.h"
#include "base/memory.h"
#include "comm/agree.h"
#include "model/arch.h"
#include "model/model_config.h"

#include <tern/version.h>

#include <stdio.h>
#include <string.h>

tern_status tern_group_check(tern_ctx *ctx, const char *caller, const tern_comm *comm)
{
    TERN_REQUIRE(ctx, comm->size >= 1 && comm->size <= TERN_MAX_RANKS && comm->rank >= 0 && comm->rank < comm->size,
                 TERN_ERR_ARG, "%s: this is rank %d of %d, expected 0 <= rank < size <= %d", caller, comm->rank,
                 comm->size, TERN_MAX_RANKS);
    return TERN_OK;
}

tern_status tern_group_model(tern_ctx *ctx, const tern_comm *comm, tern_model **out)
{
    tern_status status;

    TERN_TRY(TERN_ALLOC(ctx, 1, "a model", out));
    (*out)->comm = comm;
    if (comm->size == 1)
        return TERN_OK;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, 1, "the ranks of a model", &(*out)->group));
    (*out)->group->mute = true;
    return TERN_OK;

fail:
    tern_free(*out);
    *out = NULL;
    return status;
}

void tern_group_close(tern_model *model)
{
    struct tern_message message = { .kind = TERN_SAY_CLOSE };

    if (!model->group)
        return;
    /* The model is gone whatever comes of it. */
    if (!model->group->mute)
        (void)tern_message_pass(NULL, model->comm, &message);
    tern_free(model->group);
    model->group = NULL;
}

tern_status tern_group_leads(tern_ctx *ctx, const tern_model *model, const char *what)
{
    TERN_REQUIRE(ctx, model->comm->rank == 0, TERN_ERR_STATE,
                 "%s: this is rank %d of %d, expected 0: the others call tern_worker_run()", what, model->comm->rank,
                 model->comm->size);
    TERN_REQUIRE(ctx, !model->group || !model->group->mute, TERN_ERR_STATE,
                 "%s: the ranks of the model have lost each other", what);
    return TERN_OK;
}

tern_status tern_group_say(tern_ctx *ctx, const tern_model *model, struct tern_message *message, int32_t *numbers,
                           size_t n_numbers)
{
    if (!model->group)
        return TERN_OK;
    TERN_REQUIRE(ctx, !model->group->mute, TERN_ERR_STATE, "the ranks of the model have lost each other");
    tern_status status = tern_message_pass(ctx, model->comm, message);
    if (status == TERN_OK && numbers && numbers != message->numbers)
        status = tern_message_share(ctx, model->comm, numbers, n_numbers * sizeof *numbers);
    return tern_group_done(model, status);
}

tern_status tern_group_done(const tern_model *model, tern_status status)
{
    if (model->group && status != TERN_OK)
        model->group->mute = true;
    return status;
}

/* ---- the same on every rank ---- */

#define SAMPLES      4  /* of a tensor's values, evenly over it */
#define SAMPLE_BYTES 64 /* of each */

/* What a rank has.  Its layout stays as it is, so that versions can tell that they are not the same. */
struct fingerprint {
    char version[48];
    int64_t dtype;
    uint64_t config, tensors, values; /* digests: FNV-1a, 64 bits */
};

static const uint64_t digest_start = 0xcbf29ce484222325;

static uint64_t digest(uint64_t h, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * 0x100000001b3;
    return h;
}

static tern_status take_fingerprint(tern_ctx *ctx, const tern_model *model, struct tern_safetensors *files,
                                    const tern_model_options *options, struct fingerprint *out)
{
    char *path = NULL, *text = NULL;
    size_t size;
    tern_status status;

    *out = (struct fingerprint){ .dtype = options->dtype, .tensors = digest_start, .values = digest_start };
    snprintf(out->version, sizeof out->version, "%s", tern_version());
    TERN_TRY_OR_FAIL(tern_path_join(ctx, model->path, "config.json", &path));
    TERN_TRY_OR_FAIL(tern_file_read(ctx, path, TERN_MODEL_CONFIG_FILE_MAX, &text, &size));
    out->config = digest(digest_start, text, size);
    for (size_t i = 0; i < tern_safetensors_count(files); i++) {
        const struct tern_file_tensor *t = tern_safetensors_at(files, i);
        const int32_t kind[] = { (int32_t)t->dtype, t->rank };
        const size_t n = t->size < SAMPLE_BYTES ? t->size : SAMPLE_BYTES;

        out->tensors = digest(out->tensors, t->name, strlen(t->name) + 1);
        out->tensors = digest(out->tensors, kind, sizeof kind);
        out->tensors = digest(out->tensors, t->dim, (size_t)t->rank * sizeof *t->dim);
        for (size_t s = 0; s < SAMPLES; s++)
            out->values = digest(out->values, t->data + (t->size - n) / (SAMPLES - 1) * s, n);
        tern_safetensors_drop(files, t);
    }

fail:
    tern_free(path);
    tern_free(text);
    return status;
}

/* What this rank has beside what rank 0 has. */
static tern_status compare(tern_ctx *ctx, const tern_model *model, const struct fingerprint *mine,
                           const struct fingerprint *first)
{
    TERN_REQUIRE(ctx, strcmp(mine->version, first->version) == 0, TERN_ERR_STATE,
                 "this is tern %s, expected %s, rank 0's", mine->version, first->version);
    TERN_REQUIRE(ctx, mine->dtype == first->dtype, TERN_ERR_ARG, "model_open: dtype is %s, expected %s, rank 0's",
                 tern_model_dtype_name((tern_model_dtype)mine->dtype),
                 tern_model_dtype_name((tern_model_dtype)first->dtype));
    TERN_REQUIRE(ctx, mine->config == first->config, TERN_ERR_FORMAT,
                 "%s: config.json has the digest %016" PRIx64 ", expected %016" PRIx64 ", rank 0's", model->path,
                 mine->config, first->config);
    TERN_REQUIRE(ctx, mine->tensors == first->tensors, TERN_ERR_FORMAT,
                 "%s: names, dtypes and shapes of its tensors have the digest %016" PRIx64 ", expected %016" PRIx64
                 ", rank 0's",
                 model->path, mine->tensors, first->tensors);
    TERN_REQUIRE(ctx, mine->values == first->values, TERN_ERR_FORMAT,
                 "%s: samples of its weights have the digest %016" PRIx64 ", expected %016" PRIx64 ", rank 0's",
                 model->path, mine->values, first->values);
    return TERN_OK;
}

tern_status tern_group_compare(tern_ctx *ctx, const tern_model *model, struct tern_safetensors *files,
                               const tern_model_options *options)
{
    const tern_comm *comm = model->comm;
    struct fingerprint mine, first;
    tern_status status = take_fingerprint(ctx, model, files, options, &mine);

    first = mine;
    TERN_TRY(tern_message_share(ctx, comm, &first, sizeof first));
    if (status == TERN_OK)
        status = compare(ctx, model, &mine, &first);
    return tern_agree(ctx, comm, status);
}
