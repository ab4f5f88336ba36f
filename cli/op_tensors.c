/* op_tensors.c: the tensors of tern op: read, converted to what the config wants, allocated, written. */
#include "cli.h"
#include "npy.h"
#include "op_job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int op_fail(const struct op_job *job, tern_status status)
{
    /* A file of another dtype is bad input; what is not there in any form is unsupported. */
    return cli_fail(status == TERN_ERR_DTYPE ? TERN_ERR_SHAPE : status, tern_error(job->ctx));
}

tern_dtype op_activation(const struct op_job *job)
{
    const tern_config *c = &job->settings.config;

    return c->dtype == TERN_INT8 ? c->activation_dtype : c->dtype;
}

size_t op_elements(const tern_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

void op_shape_text(const tern_tensor *t, char text[OP_SHAPE_TEXT])
{
    size_t n = (size_t)snprintf(text, OP_SHAPE_TEXT, "%s [", tern_dtype_name(t->dtype));

    for (int i = 0; i < t->rank; i++)
        n += (size_t)snprintf(text + n, OP_SHAPE_TEXT - n, "%s%" PRId64, i ? ", " : "", t->dim[i]);
    snprintf(text + n, OP_SHAPE_TEXT - n, "]");
}

int op_allocate(tern_tensor *t, const char *name)
{
    char shape[OP_SHAPE_TEXT];
    size_t n = tern_dtype_size(t->dtype);
    bool fits = true;

    for (int i = 0; i < t->rank; i++)
        fits = fits && !__builtin_mul_overflow(n, (size_t)t->dim[i], &n);
    t->data = fits && n <= PTRDIFF_MAX ? calloc(1, n ? n : 1) : NULL;
    if (t->data)
        return 0;
    op_shape_text(t, shape);
    return cli_error(CLI_FAIL, "out of memory for %s, %s", name, shape);
}

/* ---- names ---- */

static bool is_named(const tern_op_tensor *t, const char *name)
{
    const size_t n = strlen(name);

    if (strcmp(t->name, name) == 0)
        return true;
    for (const char *c = t->also ? t->also : ""; *c; c += strspn(c, " ")) {
        const size_t length = strcspn(c, " ");
        if (length == n && memcmp(c, name, n) == 0)
            return true;
        c += length;
    }
    return false;
}

/* What a name stands for; *around: it is one of the cache. */
static const tern_op_tensor *tensor_named(const struct op_subject *s, const char *name, bool output, bool *around)
{
    for (size_t i = 0; i < s->n_tensors + s->n_around; i++) {
        const tern_op_tensor *t = i < s->n_tensors ? &s->tensors[i] : &s->around[i - s->n_tensors];
        *around = i >= s->n_tensors;
        if (t->output == output && is_named(t, name))
            return t;
    }
    return NULL;
}

static int fail_name(const struct op_job *job, const char *text, bool output)
{
    const struct op_subject *s = &job->subject;
    char known[1024] = "";
    size_t n = 0;

    for (size_t i = 0; i < s->n_tensors + s->n_around && n < sizeof(known); i++) {
        const tern_op_tensor *t = i < s->n_tensors ? &s->tensors[i] : &s->around[i - s->n_tensors];
        if (t->output == output)
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", t->name);
    }
    return cli_error(CLI_USAGE, "%s %s wants NAME=FILE.npy with a NAME of: %s; got '%s'", output ? "--out" : "--in",
                     s->name, n ? known : "(it has none)", text);
}

struct op_slot *op_slot_find(struct op_job *job, const char *name, bool output)
{
    for (int i = 0; i < job->n_slots; i++)
        if (job->slots[i].output == output && strcmp(job->slots[i].is->name, name) == 0)
            return &job->slots[i];
    return NULL;
}

tern_tensor op_tensor(struct op_job *job, const char *name)
{
    const struct op_slot *slot = op_slot_find(job, name, false);

    return slot ? slot->tensor : tern_tensor_none();
}

int op_output(struct op_job *job, const char *name, tern_dtype dtype, int rank, const int64_t *dim)
{
    struct op_slot *slot = op_slot_find(job, name, true);

    if (!slot)
        return 0;
    slot->tensor = tern_tensor_view(NULL, dtype, rank, dim);
    return op_allocate(&slot->tensor, name);
}

/* ---- files are fp32 where tensors are bf16 ---- */

/* To nearest, ties to even; a NaN stays one. */
static uint16_t to_bf16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void narrow(tern_tensor *t)
{
    const size_t n = op_elements(t);
    uint16_t *to = t->data; /* number i is read before the place that it leaves is needed */

    for (size_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, (const char *)t->data + i * sizeof(x), sizeof(x));
        to[i] = to_bf16(x);
    }
    *t = tern_tensor_view(t->data, TERN_BF16, t->rank, t->dim);
}

static int widen(tern_tensor *t, const char *name)
{
    tern_tensor wide = tern_tensor_view(NULL, TERN_FP32, t->rank, t->dim);
    const int code = op_allocate(&wide, name);
    const size_t n = op_elements(t);

    if (code)
        return code;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
        memcpy((char *)wide.data + i * sizeof(bits), &bits, sizeof(bits));
    }
    free(t->data);
    *t = wide;
    return 0;
}

/* Whether a float32 file of this tensor stands for bf16. */
static bool is_bf16(const struct op_job *job, tern_op_type type)
{
    switch (type) {
    case TERN_OP_ACTIVATION:
    case TERN_OP_VECTOR:
    case TERN_OP_MASK:
        return op_activation(job) == TERN_BF16;
    case TERN_OP_MATRIX:
    case TERN_OP_ANY:
        return job->settings.config.dtype == TERN_BF16;
    case TERN_OP_SCALE:
    case TERN_OP_FP32:
    case TERN_OP_INTS:
    case TERN_OP_INT64:
    case TERN_OP_BOOL:
        break;
    }
    return false;
}

/* ---- reading and writing ---- */

static int slot_read(struct op_job *job, const char *text, bool output)
{
    const char *equals = strchr(text, '=');
    const tern_op_tensor *is;
    char name[64];
    bool around;

    if (!equals || !equals[1] || (size_t)(equals - text) >= sizeof(name))
        return fail_name(job, text, output);
    snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
    is = tensor_named(&job->subject, name, output, &around);
    if (!is)
        return fail_name(job, text, output);
    if (op_slot_find(job, is->name, output))
        return cli_error(CLI_USAGE, "%s %s is given twice", output ? "--out" : "--in", is->name);
    for (int i = 0; output && i < job->n_slots; i++)
        if (job->slots[i].output && npy_same_target(job->slots[i].file, equals + 1))
            return cli_error(CLI_USAGE, "--out %s and --out %s are one file, '%s'", job->slots[i].is->name, is->name,
                             equals + 1);
    struct op_slot *slot = &job->slots[job->n_slots++];
    *slot = (struct op_slot){
        .is = is, .file = equals + 1, .tensor = tern_tensor_none(), .output = output, .around = around
    };
    if (output)
        return 0;
    const int code = npy_read(slot->file, &slot->tensor);
    if (code || !is_bf16(job, is->type))
        return code;
    const tern_dtype dtype = slot->tensor.dtype;
    const bool other = is->type == TERN_OP_MASK && dtype != TERN_FP16; /* bool and integers */
    if (dtype == TERN_FP32)
        narrow(&slot->tensor);
    else if (is->type != TERN_OP_ANY && !other)
        return cli_error(CLI_FAIL,
                         "%s: %s is %s, expected fp32 (a file has no bf16: float32 is rounded to it on input)",
                         job->subject.name, is->name, tern_dtype_name(dtype));
    return 0;
}

int op_slots_read(struct op_job *job, const struct option_texts *texts, bool output)
{
    int code = 0;

    for (size_t i = 0; !code && i < texts->count; i++)
        code = slot_read(job, texts->data[i], output);
    return code;
}

void op_slots_free(struct op_job *job)
{
    for (int i = 0; i < job->n_slots; i++)
        free(job->slots[i].tensor.data);
}

/* All files are complete under temporary names before the first takes its own. */
int op_slots_write(struct op_job *job)
{
    struct npy files[OP_MAX_TENSORS];
    int code = 0, n = 0;

    for (int i = 0; !code && i < job->n_slots; i++) {
        struct op_slot *slot = &job->slots[i];
        if (!slot->output || !slot->file)
            continue;
        if (slot->tensor.dtype == TERN_BF16)
            code = widen(&slot->tensor, slot->is->name);
        if (!code)
            code = npy_create_tensor(&files[n++], slot->file, &slot->tensor);
        if (!code)
            code = npy_write_bytes(&files[n - 1], slot->tensor.data,
                                   op_elements(&slot->tensor) * tern_dtype_size(slot->tensor.dtype));
    }
    for (int i = 0; !code && i < n; i++)
        code = npy_finish(&files[i]);
    for (int i = 0; !code && i < n; i++)
        code = npy_commit(&files[i]);
    for (int i = 0; i < n; i++)
        npy_abort(&files[i]);
    return code;
}
