/* model.c: opening a checkpoint, and the parts of a forward pass that families share. */
#include "model/model.h"
#include "base/file.h"
#include "base/machine.h"
#include "base/memory.h"
#include "comm/agree.h"
#include "model/arch.h"
#include "model/group.h"
#include "model/model_config.h"

#include <assert.h>
#include <string.h>

static const char *const dtype_names[] = {
    [TERN_MODEL_AUTO] = "auto", [TERN_MODEL_FP32] = "fp32", [TERN_MODEL_BF16] = "bf16",
    [TERN_MODEL_FP16] = "fp16", [TERN_MODEL_INT8] = "int8",
};

bool tern_model_is_dtype(tern_model_dtype dtype)
{
    return (size_t)dtype < sizeof dtype_names / sizeof dtype_names[0];
}

const char *tern_model_dtype_name(tern_model_dtype dtype)
{
    return tern_model_is_dtype(dtype) ? dtype_names[dtype] : "?";
}

tern_dtype tern_model_row_dtype(tern_model_dtype dtype)
{
    return dtype == TERN_MODEL_BF16 ? TERN_BF16 : dtype == TERN_MODEL_INT8 ? TERN_INT8 : TERN_FP32;
}

tern_model_options tern_model_options_default(void)
{
    return (tern_model_options){ 0 };
}

/* ---- open and close ---- */

static tern_status read_config(tern_ctx *ctx, tern_model *model)
{
    struct tern_json *json = NULL;
    char *path = NULL, hint[TERN_SNAPSHOT_HINT];
    tern_status status;

    TERN_TRY_OR_FAIL(tern_path_join(ctx, model->path, "config.json", &path));
    TERN_REQUIRE_OR_FAIL(ctx, !tern_path_is_absent(path), TERN_ERR_NOT_FOUND,
                         "%s: no model in this directory: it has no config.json%s", model->path,
                         tern_snapshot_hint(model->path, hint, sizeof hint));
    TERN_TRY_OR_FAIL(tern_json_read(ctx, path, TERN_MODEL_CONFIG_FILE_MAX, &json));
    status = tern_model_config_parse(ctx, json, &model->arch, &model->config, &model->spec);

fail:
    tern_json_destroy(json);
    tern_free(path);
    return status;
}

static tern_status read_weights(tern_ctx *ctx, tern_model *model, struct tern_safetensors *files,
                                const tern_model_options *options)
{
    model->config.model_dtype = options->dtype;
    model->config.row_dtype = tern_model_row_dtype(options->dtype);
    model->hollow = options->describe;
    struct tern_binder binder = { .ctx = ctx,
                                  .dir = model->path,
                                  .arch = model->arch,
                                  .files = files,
                                  .prefix = "",
                                  .options = *options,
                                  .comm = model->comm };
    tern_status status = model->arch->bind(ctx, model, &binder);

    if (!binder.agreed)
        status = tern_agree(ctx, model->comm, status);
    model->config.dtype = binder.dtype;
    model->config.weight_dtype = tern_binder_packed_dtype(&binder, binder.dtype);
    model->stats.n_parameters = binder.n_parameters;
    model->stats.file_bytes = binder.file_bytes;
    model->stats.weight_bytes_copied = binder.copied_bytes;
    model->stats.n_skipped = binder.n_skipped;
    model->skipped = binder.skipped;
    binder.skipped = NULL;
    tern_binder_free(&binder);
    return status;
}

/* What a rank does alone. */
static tern_status open_here(tern_ctx *ctx, const char *name, const tern_model_options *options, tern_model *model,
                             struct tern_safetensors **files)
{
    TERN_TRY(TERN_CHECK_RESERVED(ctx, "model_open", options));
    TERN_REQUIRE(ctx, tern_model_is_dtype(options->dtype), TERN_ERR_ARG,
                 "model_open: dtype is %d, expected auto 0, fp32 1, bf16 2, fp16 3 or int8 4", (int)options->dtype);
    TERN_TRY(tern_model_find(ctx, name, &model->path));
    TERN_TRY(read_config(ctx, model));
    TERN_TRY(tern_shards_make(ctx, &model->config, &model->spec, model->comm, &model->shards));
    return tern_safetensors_open_dir(ctx, model->path, files);
}

tern_status tern_model_open(tern_ctx *ctx, const char *name, const tern_model_options *options, tern_model **out)
{
    const tern_model_options standard = tern_model_options_default();
    const double start = tern_machine_seconds();
    struct tern_safetensors *files = NULL;
    tern_model *model = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "model_open: out is NULL, expected a place for the model");
    *out = NULL;
    TERN_REQUIRE(NULL, ctx, TERN_ERR_ARG, "model_open: ctx is NULL");
    options = options ? options : &standard;
    const tern_comm *comm = options->comm ? options->comm : tern_comm_self();
    TERN_TRY(tern_group_check(ctx, "model_open", comm));
    status = tern_group_model(ctx, comm, &model);
    if (status == TERN_OK)
        status = open_here(ctx, name, options, model, &files);
    TERN_TRY_OR_FAIL(tern_agree(ctx, comm, status));
    if (comm->size > 1)
        TERN_TRY_OR_FAIL(tern_group_compare(ctx, model, files, options));
    TERN_TRY_OR_FAIL(read_weights(ctx, model, files, options));
    tern_safetensors_close(&files);
    model->stats.load_seconds = tern_machine_seconds() - start;
    if (model->group)
        model->group->mute = false;
    *out = model;
    return TERN_OK;

fail:
    tern_safetensors_close(&files);
    tern_model_close(&model);
    return status;
}

void tern_model_close(tern_model **model)
{
    if (!model || !*model)
        return;
    tern_model *m = *model;
    tern_group_close(m);
    if (m->arch)
        m->arch->destroy(m->weights);
    for (uint32_t i = 0; m->skipped && i < m->stats.n_skipped; i++)
        tern_free(m->skipped[i]);
    tern_free(m->skipped);
    tern_free(m->blocks);
    tern_free(m->products);
    tern_spec_free(&m->spec, m->config.n_labels);
    tern_free(m->path);
    tern_free(m);
    *model = NULL;
}

const tern_model_config *tern_model_get_config(const tern_model *model)
{
    return model ? &model->config : NULL;
}

const char *tern_model_path(const tern_model *model)
{
    return model ? model->path : NULL;
}

tern_model_stats tern_model_get_stats(const tern_model *model)
{
    return model ? model->stats : (tern_model_stats){ 0 };
}

const char *tern_model_skipped(const tern_model *model, uint32_t index)
{
    return model && index < model->stats.n_skipped ? model->skipped[index] : NULL;
}

int32_t tern_model_outputs(const tern_model *model)
{
    const bool end = model && model->spec.head.pool == TERN_POOL_EOS; /* a pooled state without a product */

    if (!model || (!model->head.out && !model->head.dense && !end))
        return 0;
    return (int32_t)tern_head_width(&model->head, (size_t)model->config.hidden_size);
}

const char *tern_model_label(const tern_model *model, int32_t index)
{
    return model && model->spec.labels && index >= 0 && index < model->config.n_labels ? model->spec.labels[index]
                                                                                       : NULL;
}

/* ---- forward ---- */

tern_status tern_model_check_whole(tern_ctx *ctx, const tern_model *model, const char *caller)
{
    TERN_REQUIRE(ctx, !model->hollow, TERN_ERR_STATE,
                 "%s: the model was opened to be described, expected one with its weights", caller);
    return TERN_OK;
}

int32_t tern_model_kv_heads(const tern_model *model)
{
    return model->shards.kv_heads.count ? (int32_t)model->shards.kv_heads.count : 1;
}

int32_t tern_model_pool_token(const tern_model *model, const int32_t *ids, int32_t n)
{
    const struct tern_spec *s = &model->spec;
    int32_t best = 0;

    for (int32_t t = 0; s->head.pool == TERN_POOL_EOS && t < n; t++) {
        if (s->pool_eos >= 0 && ids[t] == s->pool_eos)
            return t;
        if (s->pool_eos < 0 && ids[t] > ids[best])
            best = t;
    }
    return best;
}

void tern_model_places(const tern_model *model, const int32_t *ids, int32_t n, int32_t first, int32_t *positions)
{
    const int32_t pad = model->spec.position_pad - 1;

    for (int32_t t = 0; t < n; t++)
        positions[t] = pad >= 0 && ids[t] == pad ? -1 : first++;
}

void tern_model_work_take(struct tern_arena *arena, const tern_model *model, size_t max_rows, size_t max_logits,
                          int n_threads, struct tern_model_work *work)
{
    const size_t H = (size_t)model->config.hidden_size;

    *work = (struct tern_model_work){ .max_rows = max_rows, .max_logits = max_logits };
    work->x = TERN_TAKE(arena, float, max_rows *H + TERN_REDUCE_ROOM);
    if (model->embed_width)
        work->embedded = TERN_TAKE(arena, float, max_rows * model->embed_width + TERN_REDUCE_ROOM);
    work->stop = TERN_TAKE(arena, atomic_bool, 1);
    tern_head_work_take(arena, &model->head, H, max_logits, model->config.row_dtype != TERN_FP32, work);
    tern_block_work_take(arena, model->blocks, (size_t)model->config.n_layers, max_rows, n_threads, &work->block);
}

struct forward {
    const tern_model *model;
    const struct tern_batch *batch;
    const struct tern_model_work *work;
    tern_status status;
};

static void run_forward(void *arg, const struct tern_par *par)
{
    struct forward *f = arg;
    const tern_status status = f->model->arch->forward(par, f->model, f->batch, f->work);

    if (par->thread == 0)
        f->status = status;
}

tern_status tern_model_forward(tern_ctx *ctx, const tern_model *model, const struct tern_batch *batch,
                               const struct tern_model_work *work)
{
    static const struct tern_trace_kind kind = { "step", { "tokens", "sequences", "scores" } };
    static const atomic_bool never;
    struct tern_model_work with = *work;
    struct forward f = { model, batch, &with, TERN_OK };

    if (model->comm->size > 1)
        with.block.cancel = batch->cancel ? batch->cancel : &never;
    assert(batch->kv.n_rows <= work->max_rows && batch->n_logits <= work->max_logits);
    const double begin = ctx->trace ? tern_machine_seconds() : 0;
    TERN_TRY(tern_region(ctx, run_forward, &f));
    if (ctx->trace)
        tern_trace_add(ctx->trace, 0, &kind, begin, batch->kv.n_rows, batch->kv.n_spans, batch->n_logits);
    TERN_REQUIRE(ctx, f.status != TERN_ERR_CANCELLED, f.status, "the step was cancelled");
    TERN_REQUIRE(ctx, f.status == TERN_OK, f.status, "rank %d of %d: the ranks cannot add up what each has: %s",
                 model->comm->rank, model->comm->size, tern_status_name(f.status));
    return TERN_OK;
}

void tern_forward_keep(const struct tern_par *par, const tern_model *model, const struct tern_batch *batch,
                       int32_t index, const float *x)
{
    const size_t n = batch->kv.n_rows * (size_t)model->config.hidden_size;
    size_t begin, end;

    if (!batch->hidden)
        return;
    tern_share(par, n, 16, &begin, &end);
    if (begin < end)
        memcpy(batch->hidden + (size_t)index * n + begin, x + begin, (end - begin) * sizeof *x);
}

/* Thread 0 looks and writes, the others read behind a barrier.  It writes again only after the barriers of a
 * layer, when all have read. */
bool tern_forward_stopped(const struct tern_par *par, const tern_model *model, const struct tern_batch *batch,
                          const struct tern_model_work *work)
{
    if (!batch->cancel || model->comm->size > 1)
        return false;
    if (par->thread == 0)
        atomic_store_explicit(work->stop, atomic_load_explicit(batch->cancel, memory_order_relaxed),
                              memory_order_relaxed);
    tern_barrier(par);
    return atomic_load_explicit(work->stop, memory_order_relaxed);
}

/* What a row has added for its segment and its place. */
static void add_places(const struct tern_batch *batch, const struct tern_embedding *embed, size_t t, size_t H,
                       float *row)
{
    const float *type = embed->types ? embed->types + (size_t)(batch->types ? batch->types[t] : 0) * H : NULL;
    const float *position = embed->positions ? embed->positions + batch->positions[t] * (ptrdiff_t)H : NULL;

    for (size_t k = 0; type && k < H; k++)
        row[k] += type[k];
    for (size_t k = 0; position && k < H; k++)
        row[k] += position[k];
}

static bool has_id(const struct tern_embedding *embed, int32_t id)
{
    const int64_t column = id - embed->first_id;

    return column >= 0 && column < embed->table->out;
}

/* A row of the table, scaled; 0 where another rank has it.   next: what is looked up after it. */
static void look_up(const struct tern_par *par, const struct tern_embedding *embed, int32_t id, int32_t next,
                    float *row)
{
    const size_t width = (size_t)embed->table->in;

    if (!has_id(embed, id)) {
        memset(row, 0, width * sizeof *row);
        return;
    }
    tern_weight_channel(par->kernels, embed->table, (size_t)(id - embed->first_id),
                        (size_t)((has_id(embed, next) ? next : id) - embed->first_id), row);
    for (size_t k = 0; embed->scale != 1 && k < width; k++)
        row[k] *= embed->scale;
}

tern_status tern_forward_embed(const struct tern_par *par, const struct tern_batch *batch,
                               const struct tern_embedding *embed, float *x, float *narrow,
                               const struct tern_block_work *work)
{
    static const struct tern_trace_kind kind = { "embedding", { "rows" } };
    const double start = tern_trace_begin(par);
    const struct tern_weight *project = embed->project;
    const size_t width = (size_t)embed->table->in, H = project ? (size_t)project->out : width;
    const size_t n = batch->kv.n_rows;
    float *rows = project ? narrow : x;
    size_t begin, end;

    tern_share(par, n, 1, &begin, &end);
    for (size_t t = begin; t < end; t++)
        look_up(par, embed, batch->ids[t], batch->ids[t + 1 < end ? t + 1 : t], rows + t * width);
    if (embed->comm) {
        tern_barrier(par);
        TERN_TRY(tern_rows_reduce(par, embed->comm, rows, n * width, work));
    }
    for (size_t t = begin; t < end; t++) {
        float *row = rows + t * width;
        if (!project || embed->inside)
            add_places(batch, embed, t, width, row);
        if (embed->inside && embed->norm)
            tern_norm_row(par->kernels, row, NULL, row, NULL, NULL, width, embed->norm);
    }
    tern_barrier(par);
    if (project) {
        const struct tern_epilogue with_bias = { .bias = embed->project_bias };
        tern_gemm_run(par, x, H, narrow, width, n, project, &with_bias); /* [T, H] */
        for (size_t t = begin; t < end && !embed->inside; t++)
            add_places(batch, embed, t, H, x + t * H);
        tern_barrier(par);
    }
    tern_trace_end(par, &kind, start, n, 0, 0);
    return TERN_OK;
}
