/* cmd_op.c: tern op: one operator on NumPy files. */
#include "cli.h"
#include "npy.h"
#include "options.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 24

/* One tensor of the call: an input that was read, or an output that will be written. */
struct slot {
    char name[32];
    const char *file; /* NULL: an output that no one asked for */
    tern_tensor tensor;
    bool output, beside; /* beside: no tensor of the operator itself, but of the cache around it */
};

struct job {
    tern_ctx *ctx;
    int index;
    tern_op_description op;
    tern_op_settings settings;
    tern_op *run;
    struct slot slots[MAX_TENSORS];
    int n_slots;
};

/* ---- what the cache holds is named too ---- */

struct beside {
    const char *op, *name, *shape;
    bool output;
};
static const struct beside around[] = {
    { "softmax_context", "past_key", "[B, G, P, E]", false },
    { "softmax_context", "past_value", "[B, G, P, E]", false },
    { "softmax_context", "key", "[B, G, P+S, E]", true },
    { "softmax_context", "value", "[B, G, P+S, E]", true },
};
#define N_AROUND (sizeof(around) / sizeof(around[0]))

static bool is_op(const struct job *job, const char *name)
{
    return strcmp(job->op.name, name) == 0;
}

static struct slot *find(struct job *job, const char *name)
{
    for (int i = 0; i < job->n_slots; i++)
        if (strcmp(job->slots[i].name, name) == 0)
            return &job->slots[i];
    return NULL;
}

static struct slot *add(struct job *job, const char *name, const char *file, bool output, bool beside)
{
    struct slot *slot = &job->slots[job->n_slots++];

    *slot = (struct slot){ .file = file, .output = output, .beside = beside, .tensor = tern_tensor_none() };
    snprintf(slot->name, sizeof(slot->name), "%s", name);
    return slot;
}

static int fail(const struct job *job, tern_status status)
{
    /* A file of another dtype is bad input; what is not there in any form is unsupported. */
    return cli_fail(status == TERN_ERR_DTYPE ? TERN_ERR_SHAPE : status, tern_error(job->ctx));
}

/* ---- --help ---- */

static char *help_of(int index)
{
    tern_op_description op;
    tern_op_key key;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    if (tern_op_describe(index, &op)) {
        fprintf(f, "%s: %s\n\ntensors:\n", op.name, op.formula);
        for (size_t i = 0; i < op.n_tensors; i++)
            fprintf(f, "  %-5s %-18s %s%s\n", op.tensors[i].output ? "--out" : "--in", op.tensors[i].name,
                    op.tensors[i].shape, op.tensors[i].optional ? "  (may be left out)" : "");
        for (size_t i = 0; i < N_AROUND; i++)
            if (strcmp(around[i].op, op.name) == 0)
                fprintf(f, "  %-5s %-18s %s  (may be left out)\n", around[i].output ? "--out" : "--in", around[i].name,
                        around[i].shape);
        fputs("\nkeys:\n", f);
        for (int k = 0; tern_op_key_at(index, k, &key); k++)
            fprintf(f, "  %-32s %s (%s; default %s)\n", key.name, key.about, key.values, key.standard);
        fputs("\nAll other fields of a config are accepted, and without effect on this operator.", f);
    } else {
        fputs("operators:\n", f);
        for (int i = 0; tern_op_describe(i, &op); i++)
            fprintf(f, "  %-16s %s\n", op.name, op.formula);
        fputs("\n'tern op NAME --help' lists the tensors and keys of one.", f);
    }
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- reading ---- */

static int settings_read(struct job *job, const char *config, const struct option_texts *sets)
{
    if (config) {
        struct cli_text text;
        const int code = cli_text_read("op", NULL, config, &text);

        if (code)
            return code;
        const tern_status status =
            tern_op_settings_parse(job->ctx, job->index, text.data ? text.data : "", text.size, config, &job->settings);
        cli_text_free(&text);
        if (status)
            return cli_error(CLI_FAIL, "%s", tern_error(job->ctx));
    }
    for (size_t i = 0; i < sets->count; i++) {
        const char *value = strchr(sets->data[i], '=');
        char key[64];

        if (!value || value == sets->data[i] || (size_t)(value - sets->data[i]) >= sizeof(key))
            return cli_error(CLI_USAGE, "--set wants KEY=VALUE, got '%s'", sets->data[i]);
        snprintf(key, sizeof(key), "%.*s", (int)(value - sets->data[i]), sets->data[i]);
        if (tern_op_settings_set(job->ctx, job->index, &job->settings, key, value + 1))
            return cli_error(CLI_USAGE, "--set %s: %s", sets->data[i], tern_error(job->ctx));
    }
    return 0;
}

/* The names that --in or --out may give. */
static int fail_name(const struct job *job, const char *text, bool output)
{
    char known[512] = "";
    size_t n = 0;

    for (size_t i = 0; i < job->op.n_tensors; i++)
        if (job->op.tensors[i].output == output)
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", job->op.tensors[i].name);
    for (size_t i = 0; i < N_AROUND; i++)
        if (around[i].output == output && is_op(job, around[i].op))
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", around[i].name);
    return cli_error(CLI_USAGE, "%s %s wants NAME=FILE.npy with a NAME of: %s; got '%s'", output ? "--out" : "--in",
                     job->op.name, known, text);
}

static int slots_read(struct job *job, const struct option_texts *texts, bool output)
{
    for (size_t i = 0; i < texts->count; i++) {
        const char *text = texts->data[i], *equals = strchr(text, '=');
        char name[32];
        bool known = false, beside = false;

        if (!equals || !equals[1] || (size_t)(equals - text) >= sizeof(name))
            return fail_name(job, text, output);
        snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
        if (is_op(job, "softmax_context") && strcmp(name, "attn_mask") == 0)
            snprintf(name, sizeof(name), "mask");
        for (size_t t = 0; t < job->op.n_tensors; t++)
            known |= job->op.tensors[t].output == output && strcmp(job->op.tensors[t].name, name) == 0;
        for (size_t a = 0; a < N_AROUND; a++)
            beside |= around[a].output == output && is_op(job, around[a].op) && strcmp(around[a].name, name) == 0;
        if (!known && !beside)
            return fail_name(job, text, output);
        if (find(job, name))
            return cli_error(CLI_USAGE, "%s %s is given twice", output ? "--out" : "--in", name);
        for (int s = 0; output && s < job->n_slots; s++)
            if (job->slots[s].output && strcmp(job->slots[s].file, equals + 1) == 0)
                return cli_error(CLI_USAGE, "--out %s and --out %s are one file, '%s'", job->slots[s].name, name,
                                 equals + 1);
        struct slot *slot = add(job, name, equals + 1, output, beside);
        const int code = output ? 0 : npy_read(slot->file, &slot->tensor);
        if (code)
            return code;
    }
    return 0;
}

/* ---- masks ---- */

static size_t elements_of(const tern_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

/* Memory for a dense tensor of this shape; its size in *bytes.  0 or the exit code. */
static int allocate(tern_tensor *t, size_t *bytes)
{
    size_t n = tern_dtype_size(t->dtype);
    bool fits = true;

    for (int i = 0; i < t->rank; i++)
        fits = fits && !__builtin_mul_overflow(n, (size_t)t->dim[i], &n);
    t->data = fits && n <= PTRDIFF_MAX ? calloc(1, n ? n : 1) : NULL;
    *bytes = n;
    return t->data ? 0 : cli_error(CLI_FAIL, "out of memory for a tensor");
}

/* A mask of any dtype as additive fp32: true and 1 are visible (or hidden, with invert_mask = false), what is hidden is -inf. */
static int mask_widen(struct job *job, struct slot *mask)
{
    const tern_tensor from = mask->tensor;
    const bool hides = !job->settings.config.invert_mask;
    size_t bytes;

    if (from.dtype == TERN_FP32)
        return 0;
    if (from.dtype == TERN_FP16)
        return cli_error(CLI_FAIL, "%s: mask is float16, expected float32, or bool or integers of 0 and 1",
                         job->op.name);
    tern_tensor to = tern_tensor_view(NULL, TERN_FP32, from.rank, from.dim);
    const int code = allocate(&to, &bytes);
    if (code)
        return code;
    const size_t n = elements_of(&from), size = tern_dtype_size(from.dtype);
    for (size_t i = 0; i < n; i++) {
        bool set = false;
        for (size_t b = 0; b < size; b++)
            set |= ((const char *)from.data)[i * size + b] != 0;
        ((float *)to.data)[i] = set != hides ? 0.0f : -INFINITY;
    }
    free(from.data);
    mask->tensor = to;
    return 0;
}

/* The mask repeated to `rank` sizes, each its own or 1; aligned at the last axis. */
static int mask_repeat(struct job *job, struct slot *mask, int rank, const int64_t *dim)
{
    const tern_tensor from = mask->tensor;
    tern_tensor to = tern_tensor_view(NULL, TERN_FP32, rank, dim);
    int64_t stride[TERN_MAX_RANK] = { 0 };
    size_t bytes;
    bool fits = from.rank <= rank;

    for (int i = 0; fits && i < from.rank; i++) {
        const int at = rank - from.rank + i;
        fits = from.dim[i] == 1 || from.dim[i] == dim[at];
        stride[at] = from.dim[i] == 1 ? 0 : from.stride[i];
    }
    if (!fits)
        return cli_error(CLI_FAIL, "%s: mask does not broadcast to the scores' shape", job->op.name);
    const int code = allocate(&to, &bytes);
    if (code)
        return code;
    const size_t n = elements_of(&to);
    for (size_t i = 0; i < n; i++) {
        size_t rest = i;
        int64_t at = 0;
        for (int axis = rank - 1; axis >= 0; axis--) {
            at += (int64_t)(rest % (size_t)dim[axis]) * stride[axis];
            rest /= (size_t)dim[axis];
        }
        ((float *)to.data)[i] = ((const float *)from.data)[at];
    }
    free(from.data);
    mask->tensor = to;
    return 0;
}

/* ---- running ---- */

static tern_status run_op(struct job *job, const tern_op_call *call)
{
    tern_op_io io[MAX_TENSORS];
    size_t n = 0;

    for (int i = 0; i < job->n_slots; i++)
        if (!job->slots[i].beside)
            io[n++] = (tern_op_io){ job->slots[i].name, &job->slots[i].tensor };
    return tern_op_run(job->ctx, job->run, io, n, call);
}

/* Outputs that the operator must have, and the memory of all. */
static int outputs_allocate(struct job *job)
{
    tern_op_io io[MAX_TENSORS];
    size_t n = 0, bytes;

    for (size_t t = 0; t < job->op.n_tensors; t++)
        if (job->op.tensors[t].output && !job->op.tensors[t].optional && !find(job, job->op.tensors[t].name))
            add(job, job->op.tensors[t].name, NULL, true, false);
    for (int i = 0; i < job->n_slots; i++)
        if (!job->slots[i].beside)
            io[n++] = (tern_op_io){ job->slots[i].name, &job->slots[i].tensor };
    const tern_status status = tern_op_infer(job->ctx, job->run, &job->settings.params, io, n);
    if (status)
        return fail(job, status);
    for (int i = 0; i < job->n_slots; i++)
        if (job->slots[i].output && !job->slots[i].beside) {
            const int code = allocate(&job->slots[i].tensor, &bytes);
            if (code)
                return code;
        }
    return 0;
}

static int run_softmax(struct job *job)
{
    const tern_op_call call = { .params = &job->settings.params };
    struct slot *mask = find(job, "mask"), *scores = find(job, "scores");
    int code = 0;

    if (mask && scores && scores->tensor.rank == 4) {
        tern_tensor *m = &mask->tensor;
        code = mask_widen(job, mask);
        if (!code && m->rank == 2 && m->dim[0] == scores->tensor.dim[0]) /* [B, T] */
            *m = tern_tensor_view(m->data, TERN_FP32, 4, (int64_t[]){ m->dim[0], 1, 1, m->dim[1] });
        if (!code && (m->rank < 4 || m->dim[3] != scores->tensor.dim[3]))
            code = mask_repeat(job, mask, 4, scores->tensor.dim);
    }
    if (!code)
        code = outputs_allocate(job);
    if (code)
        return code;
    const tern_status status = run_op(job, &call);
    return status ? fail(job, status) : 0;
}

/* ---- softmax_context: a cache of its own for each call ---- */

struct attention {
    int64_t batch, rows, past, width, heads, groups, head_dim; /* rows and heads of one sequence and rank */
    tern_kv_cache *cache;
    tern_kv_span *spans;
};

static int attention_sizes(struct job *job, struct attention *a)
{
    const tern_config *c = &job->settings.config;
    struct slot *qkv = find(job, "qkv"), *past[2] = { find(job, "past_key"), find(job, "past_value") };
    const tern_tensor *t = &qkv->tensor;

    a->head_dim = c->hidden_size / c->heads; /* the operator was created: these divide */
    a->heads = c->heads / c->mp_size;
    a->groups = (c->num_kv < 0 ? c->heads : c->num_kv) / c->mp_size;
    a->width = (a->heads + 2 * a->groups) * a->head_dim;
    a->rows = t->rank >= 2 ? t->dim[t->rank - 2] : 1;
    a->batch = 1;
    for (int i = 0; i + 2 < t->rank; i++)
        a->batch *= t->dim[i];
    if (!past[0] != !past[1])
        return cli_error(CLI_USAGE, "softmax_context wants past_key and past_value, or neither");
    for (int i = 0; past[0] && i < 2; i++) {
        const tern_tensor *p = &past[i]->tensor;
        if (p->dtype != TERN_FP32 || p->rank != 4 || p->dim[0] != a->batch || p->dim[1] != a->groups ||
            p->dim[3] != a->head_dim || p->dim[2] != past[0]->tensor.dim[2])
            return cli_error(CLI_FAIL,
                             "softmax_context: %s does not fit, expected float32 [%" PRId64 ", %" PRId64 ", P, %" PRId64
                             "] with one P",
                             past[i]->name, a->batch, a->groups, a->head_dim);
        a->past = p->dim[2];
    }
    return 0;
}

/* Rows [batch, n] of q, k and v as the operator writes them into the cache: those of the past have been turned already. */
static tern_status append(struct job *job, struct attention *a, const tern_config *config, tern_tensor *qkv,
                          int64_t position, int64_t n, tern_tensor *mask, tern_tensor *alibi, tern_tensor *output)
{
    const size_t n_spans = n ? (size_t)a->batch : 0;
    tern_status status;

    for (size_t b = 0; b < n_spans; b++) {
        a->spans[b].row = (int32_t)((int64_t)b * n);
        a->spans[b].n_rows = (int32_t)n;
        a->spans[b].position = position;
    }
    status = tern_kv_reserve(job->ctx, a->cache, a->spans, n_spans);
    if (!status)
        status = tern_softmax_context(job->ctx, config, qkv, mask, alibi, a->cache, 0, a->spans, n_spans, output);
    if (!status)
        status = tern_kv_commit(job->ctx, a->cache, a->spans, n_spans);
    return status;
}

static int past_append(struct job *job, struct attention *a)
{
    tern_config config = job->settings.config;
    tern_tensor qkv = tern_tensor_view(NULL, TERN_FP32, 3, (int64_t[]){ a->batch, a->past, a->width });
    size_t bytes;
    int code;

    if (!a->past || !a->batch)
        return 0;
    code = allocate(&qkv, &bytes);
    if (code)
        return code;
    const size_t e = (size_t)a->head_dim, groups = (size_t)a->groups, past = (size_t)a->past;
    for (int i = 0; i < 2; i++) {
        const float *from = find(job, i ? "past_value" : "past_key")->tensor.data;
        const size_t column = (size_t)a->heads * e + (size_t)i * groups * e;
        for (size_t b = 0; b < (size_t)a->batch; b++)
            for (size_t g = 0; g < groups; g++)
                for (size_t p = 0; p < past; p++)
                    memcpy((float *)qkv.data + (b * past + p) * (size_t)a->width + column + g * e,
                           from + ((b * groups + g) * past + p) * e, e * sizeof(float));
    }
    config.rotary_dim = -1;
    const tern_status status = append(job, a, &config, &qkv, 0, a->past, NULL, NULL, NULL);
    free(qkv.data);
    return status ? fail(job, status) : 0;
}

/* key and value: the past, then what the operator left in qkv. */
static int cache_show(struct job *job, const struct attention *a)
{
    const size_t e = (size_t)a->head_dim, groups = (size_t)a->groups, past = (size_t)a->past, rows = (size_t)a->rows;
    const float *qkv = find(job, "qkv")->tensor.data;
    size_t bytes;

    for (int i = 0; i < 2; i++) {
        struct slot *out = find(job, i ? "value" : "key"), *before = find(job, i ? "past_value" : "past_key");
        const size_t column = (size_t)a->heads * e + (size_t)i * groups * e;
        if (!out)
            continue;
        out->tensor =
            tern_tensor_view(NULL, TERN_FP32, 4, (int64_t[]){ a->batch, a->groups, a->past + a->rows, a->head_dim });
        const int code = allocate(&out->tensor, &bytes);
        if (code)
            return code;
        for (size_t bg = 0; bg < (size_t)a->batch * groups; bg++) {
            float *to = (float *)out->tensor.data + bg * (past + rows) * e;
            if (past)
                memcpy(to, (const float *)before->tensor.data + bg * past * e, past * e * sizeof(float));
            for (size_t s = 0; s < rows; s++)
                memcpy(to + (past + s) * e,
                       qkv + (bg / groups * rows + s) * (size_t)a->width + column + bg % groups * e, e * sizeof(float));
        }
    }
    return 0;
}

/* To [B S, n]: [n], [B, n], [S, n], [B S, n], or up to [B, 1, S, n]. */
static int attention_mask(struct job *job, const struct attention *a, struct slot *mask)
{
    tern_tensor *t = &mask->tensor;
    int code = mask_widen(job, mask);

    if (code)
        return code;
    if (t->rank < 1 || t->rank > 4)
        return cli_error(CLI_FAIL, "softmax_context: mask has rank %d, expected 1 to 4", t->rank);
    const int64_t n = t->dim[t->rank - 1];
    if (t->rank == 2 && t->dim[0] == a->batch)
        *t = tern_tensor_view(t->data, TERN_FP32, 3, (int64_t[]){ a->batch, 1, n });
    else if (t->rank == 2 && t->dim[0] == a->batch * a->rows)
        *t = tern_tensor_view(t->data, TERN_FP32, 3, (int64_t[]){ a->batch, a->rows, n });
    else if (t->rank >= 3 && t->dim[t->rank - 3] != 1)
        return cli_error(CLI_UNSUPPORTED, "softmax_context: a mask for each head is not there, there is: one for all");
    else if (t->rank == 4)
        *t = tern_tensor_view(t->data, TERN_FP32, 3, (int64_t[]){ t->dim[0], t->dim[2], n });
    code = mask_repeat(job, mask, 3, (int64_t[]){ a->batch, a->rows, n });
    if (!code)
        *t = tern_tensor_view(t->data, TERN_FP32, 2, (int64_t[]){ a->batch * a->rows, n });
    return code;
}

static int attend(struct job *job, struct attention *a)
{
    const int64_t sequences = a->batch > 0 ? a->batch : 1, length = a->past + a->rows > 0 ? a->past + a->rows : 1;
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = (int32_t)a->groups,
                                  .head_dim = (int32_t)a->head_dim,
                                  .n_positions = sequences * ((length + 63) / 64 * 64),
                                  .n_sequences = (int32_t)sequences,
                                  .n_context = length };
    struct slot *mask = find(job, "mask"), *alibi = find(job, "alibi"), *output = find(job, "output");
    tern_status status;
    int code = 0;

    if (a->batch > INT32_MAX / 64 || a->batch * length > INT32_MAX)
        return cli_error(CLI_FAIL, "softmax_context: qkv has %" PRId64 " sequences of %" PRId64 ", which is too much",
                         a->batch, length);
    a->spans = calloc((size_t)sequences, sizeof(*a->spans));
    if (!a->spans)
        return cli_error(CLI_FAIL, "out of memory for %" PRId64 " sequences", sequences);
    status = tern_kv_cache_create(job->ctx, &shape, &a->cache);
    for (int64_t b = 0; !status && b < a->batch; b++)
        status = tern_kv_sequence_add(job->ctx, a->cache, &a->spans[b].sequence);
    if (status)
        return fail(job, status);
    code = past_append(job, a);
    if (!code && mask)
        code = attention_mask(job, a, mask);
    if (code)
        return code;
    status = append(job, a, &job->settings.config, &find(job, "qkv")->tensor, a->past, a->rows,
                    mask ? &mask->tensor : NULL, alibi ? &alibi->tensor : NULL, output ? &output->tensor : NULL);
    return status ? fail(job, status) : cache_show(job, a);
}

static int run_softmax_context(struct job *job)
{
    struct attention a = { 0 };
    struct slot *mask = find(job, "mask");
    const char *file = mask ? mask->file : NULL;
    int code;

    /* The operator's mask is one row for each row of qkv; what a file holds is fitted to that below. */
    if (file)
        snprintf(mask->name, sizeof(mask->name), "-"), mask->beside = true;
    code = outputs_allocate(job);
    if (file)
        snprintf(mask->name, sizeof(mask->name), "mask"), mask->beside = false;
    if (!code)
        code = attention_sizes(job, &a);
    if (!code)
        code = attend(job, &a);
    tern_kv_cache_destroy(&a.cache);
    free(a.spans);
    return code;
}

static int run_plain(struct job *job)
{
    int code = outputs_allocate(job);

    if (!code) {
        const tern_status status = run_op(job, NULL);
        code = status ? fail(job, status) : 0;
    }
    return code;
}

/* ---- writing ---- */

/* All files are complete under temporary names before the first takes its own. */
static int write_outputs(struct job *job)
{
    struct npy files[MAX_TENSORS];
    int code = 0, n = 0;

    for (int i = 0; !code && i < job->n_slots; i++) {
        const struct slot *slot = &job->slots[i];
        if (!slot->output || !slot->file)
            continue;
        code = npy_create_tensor(&files[n++], slot->file, &slot->tensor);
        if (!code)
            code = npy_write_bytes(&files[n - 1], slot->tensor.data,
                                   elements_of(&slot->tensor) * tern_dtype_size(slot->tensor.dtype));
    }
    for (int i = 0; !code && i < n; i++)
        code = npy_commit(&files[i]);
    for (int i = 0; i < n; i++)
        npy_abort(&files[i]);
    return code;
}

static int run_job(struct job *job, const char *config, const struct option_texts *sets, const struct option_texts *ins,
                   const struct option_texts *outs)
{
    int code = settings_read(job, config, sets);

    if (!code) {
        const tern_status status = tern_op_create(job->ctx, job->op.name, &job->settings.config, &job->run);
        code = status ? cli_fail(status, tern_error(job->ctx)) : 0;
    }
    if (!code)
        code = slots_read(job, ins, false);
    if (!code)
        code = slots_read(job, outs, true);
    if (!code)
        code = is_op(job, "softmax")           ? run_softmax(job)
               : is_op(job, "softmax_context") ? run_softmax_context(job)
                                               : run_plain(job);
    return code ? code : write_outputs(job);
}

static int find_op(const char *name, int *index)
{
    char known[1024] = "";
    size_t n = 0;

    for (int i = 0; i < tern_op_count(); i++) {
        if (strcmp(tern_op_name(i), name) == 0) {
            *index = i;
            return 0;
        }
        if (n < sizeof(known))
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", tern_op_name(i));
    }
    return cli_error(CLI_UNSUPPORTED, "unsupported transformer operation: %s; there are: %s", name, known);
}

int cmd_op(int argc, char **argv)
{
    const char *config = NULL;
    struct option_texts sets = { 0 }, ins = { 0 }, outs = { 0 };
    int64_t threads = 0;
    int index = -1, code = 0;
    const struct option options[] = {
        { 0, "config", "FILE.json", "an object of keys and values; - is stdin", OPTION_TEXT, &config, NULL, 0, 0,
          false },
        { 0, "set", "KEY=VALUE", "one key, after those of --config; again for more", OPTION_TEXTS, &sets, NULL, 0, 0,
          false },
        { 0, "in", "NAME=FILE.npy", "an input; again for more", OPTION_TEXTS, &ins, NULL, 0, 0, false },
        { 0, "out", "NAME=FILE.npy", "a result; again for more", OPTION_TEXTS, &outs, NULL, 0, 0, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &threads, NULL, 0, 1024, false },
    };
    struct command_line line = {
        .command = "op",
        .arguments = "NAME [--config FILE.json] [--set KEY=VALUE]... --in NAME=FILE.npy... --out NAME=FILE.npy...",
        .about =
            "Runs one operator on NumPy files (format 1.0 or 2.0; float32, float16, int8, int32, int64, bool; C "
            "order,\n"
            "little endian).  Existing results are replaced only when all of the new ones are written.  A mask is\n"
            "float32 and added, or bool or integer, where true and 1 mean visible (invert_mask=false: hidden); it has "
            "any\n"
            "shape that broadcasts to the scores', or [B, T].",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };
    char *help;

    if (argc > 1 && argv[1][0] != '-') { /* NAME takes the command's place, and what follows are options */
        code = find_op(argv[1], &index);
        if (code)
            return code;
        argc--, argv++;
    }
    help = help_of(index);
    line.after = help;
    switch (options_parse(&line, argc, argv)) {
    case OPTION_HELP_SHOWN:
        break;
    case OPTION_WRONG:
        code = CLI_USAGE;
        break;
    case OPTION_NO_MEMORY:
        code = CLI_FAIL;
        break;
    case OPTION_PARSED: {
        struct job job = { .index = index, .settings = tern_op_settings_default() };

        if (index < 0)
            code = cli_error(CLI_USAGE, "op wants the NAME of an operator; 'tern op --help' lists them");
        else if (!outs.count)
            code = cli_error(CLI_USAGE, "op wants --out NAME=FILE.npy");
        else if (ins.count + outs.count > MAX_TENSORS / 2)
            code =
                cli_error(CLI_USAGE, "op takes %d tensors at most, got %zu", MAX_TENSORS / 2, ins.count + outs.count);
        if (!code)
            code = cli_context_open(threads, &job.ctx);
        if (!code) {
            tern_op_describe(job.index, &job.op);
            code = run_job(&job, config, &sets, &ins, &outs);
        }
        for (int i = 0; i < job.n_slots; i++)
            free(job.slots[i].tensor.data);
        tern_op_destroy(&job.run);
        tern_ctx_destroy(&job.ctx);
        break;
    }
    }
    free(help);
    option_texts_free(&sets);
    option_texts_free(&ins);
    option_texts_free(&outs);
    return code;
}
