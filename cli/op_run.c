/* op_run.c: operators and kernel functions run by name, and the cache that attention needs around them. */
#include "cli.h"
#include "op_job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The operator's own tensors, by name. */
static size_t io_of(struct op_job *job, tern_op_io io[OP_MAX_TENSORS])
{
    size_t n = 0;

    for (int i = 0; i < job->n_slots; i++)
        if (!job->slots[i].around)
            io[n++] = (tern_op_io){ job->slots[i].is->name, &job->slots[i].tensor };
    return n;
}

/* Outputs that the operator must have, and the memory of all. */
static int outputs_allocate(struct op_job *job, const tern_op *op)
{
    const struct op_subject *s = &job->subject;
    tern_op_io io[OP_MAX_TENSORS];
    int code = 0;

    for (size_t t = 0; t < s->n_tensors; t++)
        if (!s->tensors[t].output && !s->tensors[t].optional && !op_slot_find(job, s->tensors[t].name, false))
            return cli_error(CLI_FAIL, "%s: tensor %s is missing, expected --in %s=FILE.npy", s->name,
                             s->tensors[t].name, s->tensors[t].name);
    for (size_t t = 0; t < s->n_tensors; t++)
        if (s->tensors[t].output && !s->tensors[t].optional && !op_slot_find(job, s->tensors[t].name, true))
            job->slots[job->n_slots++] =
                (struct op_slot){ .is = &s->tensors[t], .output = true, .tensor = tern_tensor_none() };
    const size_t n = io_of(job, io);
    const tern_status status = tern_op_infer(job->ctx, op, &job->settings.params, io, n);
    if (status)
        return op_fail(job, status);
    for (int i = 0; !code && i < job->n_slots; i++) {
        struct op_slot *slot = &job->slots[i];
        if (!slot->output || slot->around)
            continue;
        if (slot->tensor.rank < 0)
            code = cli_error(CLI_FAIL, "%s: there is no %s with these inputs and keys, expected no --out %s", s->name,
                             slot->is->name, slot->is->name);
        else
            code = op_allocate(&slot->tensor, slot->is->name);
    }
    return code;
}

static int run(struct op_job *job, const tern_op *op, const tern_op_call *call)
{
    tern_op_io io[OP_MAX_TENSORS];
    const size_t n = io_of(job, io);
    const tern_status status = tern_op_run(job->ctx, op, io, n, call);

    return status ? op_fail(job, status) : 0;
}

void op_mask_fit(struct op_job *job, int64_t batch)
{
    struct op_slot *mask = op_slot_find(job, "mask", false);

    if (mask && mask->tensor.rank == 0)
        mask->tensor = tern_tensor_view(mask->tensor.data, mask->tensor.dtype, 1, (int64_t[]){ 1 });
    if (mask && mask->tensor.rank == 2 && mask->tensor.dim[0] == batch) {
        const tern_tensor *t = &mask->tensor;
        mask->tensor = tern_tensor_view(t->data, t->dtype, 4, (int64_t[]){ batch, 1, 1, t->dim[1] });
    }
}

/* The sequences of a batch, by the operator's tensor that has them as its first axis; -1 where there is none. */
static int64_t batch_of(struct op_job *job)
{
    static const char *const names[] = { "scores", "qkv", "q" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const tern_tensor t = op_tensor(job, names[i]);
        if (t.rank >= 3)
            return t.dim[0];
    }
    return -1;
}

/* ---- the cache ---- */

const tern_op_tensor op_cache_tensors[OP_CACHE_TENSORS] = {
    { .name = "past_key", .shape = "[B, G, P, E]", .optional = true },
    { .name = "past_value", .shape = "[B, G, P, E']", .optional = true },
    { .name = "key", .shape = "[B, G, P+S, E]", .optional = true, .output = true },
    { .name = "value", .shape = "[B, G, P+S, E']", .optional = true, .output = true },
};

static int fail_past(const struct op_cache *c, const struct op_job *job, const char *name, int64_t dim,
                     const tern_tensor *t)
{
    char found[OP_SHAPE_TEXT];

    op_shape_text(t, found);
    return cli_error(CLI_FAIL,
                     "%s: %s is %s, expected %s [%" PRId64 ", %" PRId64 ", P, %" PRId64 "] with one P for both",
                     job->subject.name, name, found, tern_dtype_name(op_activation(job)), c->batch, c->groups, dim);
}

static int past_check(struct op_job *job, struct op_cache *c)
{
    const tern_tensor key = op_tensor(job, "past_key"), value = op_tensor(job, "past_value");

    if ((key.rank < 0) != (value.rank < 0))
        return cli_error(CLI_USAGE, "%s wants past_key and past_value, or neither", job->subject.name);
    if (key.rank < 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        const tern_tensor *t = i ? &value : &key;
        const int64_t dim = i ? c->value_dim : c->key_dim;
        if (t->dtype != op_activation(job) || t->rank != 4 || t->dim[0] != c->batch || t->dim[1] != c->groups ||
            t->dim[3] != dim || t->dim[2] != key.dim[2])
            return fail_past(c, job, i ? "past_value" : "past_key", dim, t);
    }
    c->past = key.dim[2];
    return 0;
}

/* Sequence b of [B, G, n, E]. */
static tern_tensor sequence_of(const tern_tensor *t, int64_t b)
{
    const size_t bytes = op_elements(t) / (size_t)t->dim[0] * tern_dtype_size(t->dtype);

    return tern_tensor_view((char *)t->data + (size_t)b * bytes, t->dtype, 3, t->dim + 1);
}

static tern_status past_store(struct op_job *job, struct op_cache *c)
{
    const tern_tensor keys = op_tensor(job, "past_key"), values = op_tensor(job, "past_value");
    tern_status status = TERN_OK;

    for (int64_t b = 0; !status && c->past && b < c->batch; b++) {
        const tern_kv_span span = { .sequence = c->spans[b].sequence, .n_rows = (int32_t)c->past };
        const tern_tensor key = sequence_of(&keys, b), value = sequence_of(&values, b);
        status = tern_kv_reserve(job->ctx, c->cache, &span, 1);
        if (!status)
            status = tern_kv_write(job->ctx, c->cache, 0, &span, &key, &value);
        if (!status)
            status = tern_kv_commit(job->ctx, c->cache, &span, 1);
    }
    return status;
}

int op_cache_open(struct op_job *job, const tern_tensor *rows, struct op_cache *c)
{
    const tern_config *config = &job->settings.config;
    tern_status status;
    int code;

    /* The config was checked: these divide. */
    *c = (struct op_cache){ .batch = 1, .rows = rows->rank >= 2 ? rows->dim[rows->rank - 2] : 1 };
    c->key_dim = config->hidden_size / config->heads;
    c->value_dim = job->settings.params.v_head_dim ? job->settings.params.v_head_dim : c->key_dim;
    c->groups = (config->num_kv < 0 ? config->heads : config->num_kv) / config->mp_size;
    for (int i = 0; i + 2 < rows->rank; i++)
        if (__builtin_mul_overflow(c->batch, rows->dim[i], &c->batch))
            c->batch = INT64_MAX;
    code = past_check(job, c);
    if (code)
        return code;
    const int64_t sequences = c->batch > 0 ? c->batch : 1;
    const int64_t length = c->rows > INT32_MAX || c->past > INT32_MAX ? INT64_MAX / 2 : c->past + c->rows;
    if (sequences > INT32_MAX / 64 || (length && sequences > INT32_MAX / length))
        return cli_error(CLI_FAIL,
                         "%s: there are %" PRId64 " sequences of %" PRId64 " positions, expected less than %d in all",
                         job->subject.name, c->batch, length, INT32_MAX);
    const int64_t context = length ? length : 1;
    const tern_kv_shape shape = {
        .n_layers = 1,
        .n_kv_heads = (int32_t)c->groups,
        .head_dim = (int32_t)(c->key_dim > c->value_dim ? c->key_dim : c->value_dim),
        .n_positions = sequences * ((context + 63) / 64 * 64),
        .n_sequences = (int32_t)sequences,
        .n_context = context,
    };
    c->spans = calloc((size_t)sequences, sizeof(*c->spans));
    if (!c->spans)
        return cli_error(CLI_FAIL, "out of memory for %" PRId64 " sequences", sequences);
    status = tern_kv_cache_create(job->ctx, &shape, &c->cache);
    for (int64_t b = 0; !status && b < c->batch; b++) {
        status = tern_kv_sequence_add(job->ctx, c->cache, &c->spans[b].sequence);
        c->spans[b].row = (int32_t)(b * c->rows);
        c->spans[b].n_rows = (int32_t)c->rows;
        c->spans[b].position = c->past;
    }
    if (!status)
        status = past_store(job, c);
    c->n_spans = c->rows ? (size_t)c->batch : 0;
    if (!status)
        status = tern_kv_reserve(job->ctx, c->cache, c->spans, c->n_spans);
    return status ? op_fail(job, status) : 0;
}

int op_cache_show(struct op_job *job, struct op_cache *c)
{
    const tern_dtype dtype = op_activation(job);
    const int64_t length = c->past + c->rows;
    const int64_t key_dim[] = { c->batch, c->groups, length, c->key_dim };
    const int64_t value_dim[] = { c->batch, c->groups, length, c->value_dim };
    struct op_slot *key = op_slot_find(job, "key", true), *value = op_slot_find(job, "value", true);
    tern_tensor other =
        tern_tensor_view(NULL, dtype, 4, key ? value_dim : key_dim); /* the one of both that no one wants */
    tern_status status = tern_kv_commit(job->ctx, c->cache, c->spans, c->n_spans);
    int code = status ? op_fail(job, status) : 0;

    if (code || (!key && !value))
        return code;
    code = op_output(job, "key", dtype, 4, key_dim);
    if (!code)
        code = op_output(job, "value", dtype, 4, value_dim);
    if (!code && (!key || !value))
        code = op_allocate(&other, key ? "value" : "key");
    for (int64_t b = 0; !code && length && b < c->batch; b++) {
        tern_tensor k = sequence_of(key ? &key->tensor : &other, b),
                    v = sequence_of(value ? &value->tensor : &other, b);
        status = tern_kv_read(job->ctx, c->cache, 0, c->spans[b].sequence, 0, &k, &v);
        code = status ? op_fail(job, status) : 0;
    }
    free(other.data);
    return code;
}

void op_cache_close(struct op_cache *c)
{
    tern_kv_cache_destroy(&c->cache);
    free(c->spans);
}

/* ---- the two ways to run ---- */

static int op_open(struct op_job *job, tern_op **op)
{
    const tern_status status = tern_op_create(job->ctx, job->subject.name, &job->settings.config, op);

    return status ? op_fail(job, status) : 0;
}

int op_run_plain(struct op_job *job)
{
    const tern_op_call call = { .params = &job->settings.params };
    tern_op *op;
    int code = op_open(job, &op);

    op_mask_fit(job, batch_of(job));
    if (!code)
        code = outputs_allocate(job, op);
    if (!code)
        code = run(job, op, &call);
    tern_op_destroy(&op);
    return code;
}

int op_run_softmax_context(struct op_job *job)
{
    struct op_cache cache = { 0 };
    tern_op *op;
    const tern_tensor qkv = op_tensor(job, "qkv");
    int code = op_open(job, &op);

    op_mask_fit(job, batch_of(job));
    if (!code)
        code = outputs_allocate(job, op);
    if (!code)
        code = op_cache_open(job, &qkv, &cache);
    if (!code) {
        const tern_op_call call = {
            .params = &job->settings.params, .cache = cache.cache, .spans = cache.spans, .n_spans = cache.n_spans
        };
        code = run(job, op, &call);
    }
    if (!code)
        code = op_cache_show(job, &cache);
    op_cache_close(&cache);
    tern_op_destroy(&op);
    return code;
}

int op_run_printed(struct op_job *job)
{
    const struct op_subject *s = &job->subject;
    int code;

    for (size_t t = 0; t < s->n_tensors; t++)
        if (s->tensors[t].output && !op_slot_find(job, s->tensors[t].name, true))
            job->slots[job->n_slots++] =
                (struct op_slot){ .is = &s->tensors[t], .output = true, .tensor = tern_tensor_none() };
    code = op_run_plain(job);
    for (size_t t = 0; !code && t < s->n_tensors; t++) {
        const struct op_slot *slot = op_slot_find(job, s->tensors[t].name, true);
        if (slot && !slot->file)
            printf("%-12s %" PRId64 "\n", s->tensors[t].name, *(const int64_t *)slot->tensor.data);
    }
    return code;
}
