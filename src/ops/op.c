/* op.c: operators by name.
 *
 * Adding an operator is its typed function and its row in a file of its own, and its name in op_list.h. */
#include "ops/op_table.h"
#include "ops/tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the table ---- */

static const struct tern_op_row *const rows[] = {
#define TERN_OP(name) &tern_row_##name,
#include "ops/op_list.h"
#undef TERN_OP
};
#define N_ROWS ((int)(sizeof rows / sizeof rows[0]))

int tern_op_count(void)
{
    return N_ROWS;
}

const struct tern_op_row *tern_op_row(int index)
{
    return index >= 0 && index < N_ROWS ? rows[index] : NULL;
}

const char *tern_op_name(int index)
{
    return index >= 0 && index < N_ROWS ? rows[index]->name : NULL;
}

/* ---- lists for messages ---- */

struct list {
    char text[TERN_ERROR_SIZE];
    size_t used;
};

static void list_add(struct list *list, const char *name, size_t length)
{
    const int n = snprintf(list->text + list->used, sizeof list->text - list->used, "%s%.*s", list->used ? ", " : "",
                           (int)length, name);

    if (n > 0 && list->used + (size_t)n < sizeof list->text)
        list->used += (size_t)n;
}

static const char *norm_name(int norm)
{
    return norm == TERN_LAYER_NORM ? "LayerNorm" : norm == TERN_RMS_NORM ? "RMSNorm" : "?";
}

static const char *device_name(int device)
{
    return device == TERN_CPU ? "cpu" : "?";
}

static const char *dtype_name(int dtype)
{
    return tern_dtype_name((tern_dtype)dtype);
}

/* One axis of the table: is `value` among the bits? */
static tern_status check_axis(tern_ctx *ctx, const char *op, const char *axis, unsigned bits, int value,
                              const char *(*name)(int))
{
    struct list there = { .used = 0 };

    if (value >= 0 && value < 32 && bits >> value & 1)
        return TERN_OK;
    for (int i = 0; i < 32; i++)
        if (bits >> i & 1)
            list_add(&there, name(i), strlen(name(i)));
    return tern_fail(ctx, TERN_ERR_UNSUPPORTED, "%s: %s %s (%d) is not there, there is: %s", op, axis, name(value),
                     value, there.text);
}

tern_status tern_op_check(tern_ctx *ctx, const struct tern_op_row *row, const tern_config *config)
{
    TERN_REQUIRE(ctx, ctx, TERN_ERR_ARG, "%s: ctx is NULL", row->name);
    TERN_REQUIRE(ctx, config, TERN_ERR_ARG, "%s: config is NULL", row->name);
    TERN_TRY(check_axis(ctx, row->name, "dtype", row->dtypes, (int)config->dtype, dtype_name));
    TERN_TRY(check_axis(ctx, row->name, "device", row->devices, (int)config->device, device_name));
    if (row->norms)
        TERN_TRY(check_axis(ctx, row->name, "norm_type", row->norms, (int)config->norm_type, norm_name));
    TERN_REQUIRE(ctx, (int)config->kernel == TERN_KERNEL_AUTO || (int)config->kernel == TERN_KERNEL_REFERENCE,
                 TERN_ERR_CONFIG, "%s: kernel is %d, expected auto 0 or reference 1", row->name, (int)config->kernel);
    if (config->dtype == TERN_INT8) {
        const unsigned floats = 1u << TERN_FP32 | 1u << TERN_FP16 | 1u << TERN_BF16;
        TERN_TRY(check_axis(ctx, row->name, "activation_dtype", floats, (int)config->activation_dtype, dtype_name));
        TERN_REQUIRE(
            ctx, (int)config->activation_quant == TERN_QUANT_NONE || (int)config->activation_quant == TERN_QUANT_ROW,
            TERN_ERR_CONFIG, "%s: activation_quant is %d, expected none 0 or row 1", row->name,
            (int)config->activation_quant);
    }
    if (row->reads & TERN_READS_EPS)
        TERN_REQUIRE(ctx, isfinite(config->layer_norm_eps) && config->layer_norm_eps >= 0, TERN_ERR_CONFIG,
                     "%s: layer_norm_eps is %g, expected a finite number, 0 or more", row->name,
                     (double)config->layer_norm_eps);
    return tern_check_config(ctx, row->name, config, row->reads);
}

/* ---- by name ---- */

struct tern_op {
    const struct tern_op_row *row;
    tern_config config;
};

static int find(const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i]->name, name) == 0 || (rows[i]->also && strcmp(rows[i]->also, name) == 0))
            return i;
    return -1;
}

int tern_op_find(const char *name)
{
    return name ? find(name) : -1;
}

tern_status tern_op_create(tern_ctx *ctx, const char *name, const tern_config *config, tern_op **out)
{
    struct tern_op *op;

    TERN_REQUIRE(ctx, out && name, TERN_ERR_ARG, "op_create: %s is NULL", out ? "name" : "out");
    *out = NULL;
    const int index = find(name);
    if (index < 0) {
        struct list known = { .used = 0 };
        for (int i = 0; i < N_ROWS; i++)
            list_add(&known, rows[i]->name, strlen(rows[i]->name));
        return tern_fail(ctx, TERN_ERR_UNSUPPORTED, "unsupported transformer operation: %.100s\nknown operations: %s",
                         name, known.text);
    }
    TERN_TRY(tern_op_check(ctx, rows[index], config));
    if (strcmp(rows[index]->name, name) != 0)
        TERN_REQUIRE(ctx, config->dtype == rows[index]->also_dtype, TERN_ERR_UNSUPPORTED,
                     "%s: dtype is %s, expected %s, or the name %s", name, tern_dtype_name(config->dtype),
                     tern_dtype_name(rows[index]->also_dtype), rows[index]->name);
    TERN_TRY(tern_tune_created(ctx, rows[index], config));
    TERN_TRY(TERN_ALLOC(ctx, 1, "an operator", &op));
    *op = (struct tern_op){ .row = rows[index], .config = *config };
    *out = op;
    return TERN_OK;
}

void tern_op_destroy(tern_op **op)
{
    if (!op)
        return;
    tern_free(*op);
    *op = NULL;
}

/* Whether a tensor has this name, or this other name. */
static bool is_named(const tern_op_tensor *t, const char *name)
{
    const size_t n = strlen(name);

    if (strcmp(t->name, name) == 0)
        return true;
    for (const char *c = t->also ? t->also : ""; n && *c; c += strspn(c, " ")) {
        const size_t length = strcspn(c, " ");
        if (length == n && memcmp(c, name, n) == 0)
            return true;
        c += length;
    }
    return false;
}

int tern_op_tensor_find(int index, const char *name, bool output)
{
    const struct tern_op_row *row = tern_op_row(index);

    for (int i = 0; row && name && row->io[i].name; i++)
        if (row->io[i].output == output && is_named(&row->io[i], name))
            return i;
    return -1;
}

static tern_status fail_io(tern_ctx *ctx, const struct tern_op_row *row, const char *what, const char *name)
{
    struct list known = { .used = 0 };

    for (int i = 0; row->io[i].name; i++)
        list_add(&known, row->io[i].name, strlen(row->io[i].name));
    return tern_fail(ctx, TERN_ERR_ARG, "%s: tensor %.100s is %s, the tensors are: %s", row->name, name, what,
                     known.text);
}

/* What tensor i of a call stands for: what has this name, else this other name, and is not there yet.  Where the call has the name
 * twice, an input and an output share it, and the first one is the input.  -1: nothing has it. */
static int slot_of(const struct tern_op_row *row, const tern_op_io *io, size_t n_io, size_t i, const bool *named)
{
    size_t times = 0;
    int exact = -1, first = -1, any = -1;

    for (size_t j = 0; j < n_io; j++)
        times += io[j].name && strcmp(io[j].name, io[i].name) == 0;
    for (int slot = 0; row->io[slot].name; slot++) {
        if (!is_named(&row->io[slot], io[i].name))
            continue;
        any = slot;
        if (named[slot])
            continue;
        if (first < 0)
            first = slot;
        if (exact < 0 && strcmp(row->io[slot].name, io[i].name) == 0)
            exact = slot;
    }
    return first < 0 ? any : exact >= 0 && times == 1 ? exact : first;
}

/* The named tensors in the order of the row.  What is missing is an error for inputs, for outputs only where they run. */
static tern_status sort_io(tern_ctx *ctx, const struct tern_op_row *row, const tern_op_io *io, size_t n_io,
                           bool outputs, tern_tensor *slots[TERN_OP_IO_MAX])
{
    bool named[TERN_OP_IO_MAX] = { false };

    for (size_t i = 0; i < n_io; i++) {
        TERN_REQUIRE(ctx, io[i].name, TERN_ERR_ARG, "%s: the name of tensor %zu is NULL", row->name, i);
        const int slot = slot_of(row, io, n_io, i, named);
        if (slot < 0)
            return fail_io(ctx, row, "unknown", io[i].name);
        if (named[slot])
            return fail_io(ctx, row, "given twice", io[i].name);
        named[slot] = true;
        slots[slot] = io[i].tensor;
    }
    for (int slot = 0; row->io[slot].name; slot++)
        if (!slots[slot] && !row->io[slot].optional && (outputs || !row->io[slot].output))
            return fail_io(ctx, row, "missing", row->io[slot].name);
    return TERN_OK;
}

/* Whether a tensor of type `type` may have `dtype`, and in `expected` what it may have. */
static bool type_fits(const tern_config *config, tern_op_type type, bool output, const tern_tensor *t, char *expected,
                      size_t size)
{
    const tern_dtype a = tern_config_activation(config), d = t->dtype;
    const char *name = tern_dtype_name(a);

    switch (type) {
    case TERN_OP_ACTIVATION:
        snprintf(expected, size, "%s", name);
        return d == a;
    case TERN_OP_VECTOR:
        snprintf(expected, size, a == TERN_FP32 ? "%s" : "%s or fp32", name);
        return d == a || d == TERN_FP32;
    case TERN_OP_SCALE:
    case TERN_OP_FP32:
        snprintf(expected, size, "fp32");
        return d == TERN_FP32;
    case TERN_OP_MASK:
        snprintf(expected, size, a == TERN_FP32 ? "%s, bool or integers" : "%s, fp32, bool or integers", name);
        return d == a || d == TERN_FP32 || tern_is_integer(d);
    case TERN_OP_INTS:
        snprintf(expected, size, output ? "int32" : "int32 or int64");
        return d == TERN_INT32 || (!output && d == TERN_INT64);
    case TERN_OP_INT64:
        snprintf(expected, size, "int64");
        return d == TERN_INT64;
    case TERN_OP_BOOL:
        snprintf(expected, size, "bool");
        return d == TERN_BOOL;
    case TERN_OP_MATRIX: /* the operator's own check knows the rest */
    case TERN_OP_ANY:
        break;
    }
    return true;
}

static tern_status check_types(tern_ctx *ctx, const struct tern_op_row *row, const tern_config *config,
                               tern_tensor *const *slots)
{
    char expected[64];

    for (int i = 0; row->io[i].name; i++)
        if (tern_given(slots[i]) && !slots[i]->packed)
            TERN_REQUIRE(ctx,
                         type_fits(config, row->io[i].type, row->io[i].output, slots[i], expected, sizeof expected),
                         TERN_ERR_DTYPE, "%s: %s is %s, expected %s", row->name, row->io[i].name,
                         tern_dtype_name(slots[i]->dtype), expected);
    return TERN_OK;
}

/* The scales of matrix `slot`, -1 if the row has none. */
static int scales_of(const struct tern_op_row *row, int slot)
{
    const size_t n = strlen(row->io[slot].name);

    for (int i = 0; row->io[i].name; i++)
        if (row->io[i].type == TERN_OP_SCALE && strncmp(row->io[i].name, row->io[slot].name, n) == 0 &&
            strcmp(row->io[i].name + n, "_scale") == 0)
            return i;
    return -1;
}

/* Raw int8 matrices, packed for a call. */
struct packed {
    tern_weight *weight[TERN_OP_IO_MAX];
    tern_tensor view[TERN_OP_IO_MAX];
};

static tern_status pack_int8(tern_ctx *ctx, const struct tern_op_row *row, const tern_config *config,
                             tern_tensor **slots, struct packed *packed)
{
    for (int i = 0; row->io[i].name; i++) {
        const int scales = row->io[i].type == TERN_OP_MATRIX && !row->function ? scales_of(row, i) : -1;
        if (scales < 0 || !tern_given(slots[i]))
            continue;
        const bool raw = config->dtype == TERN_INT8 && !slots[i]->packed && slots[i]->dtype == TERN_INT8;
        TERN_REQUIRE(ctx, raw == tern_given(slots[scales]), TERN_ERR_ARG, "%s: %s %s, expected %s", row->name,
                     row->io[scales].name, raw ? "is missing" : "is given",
                     raw ? "the scales of the int8 matrix" : "none where the matrix is not raw int8");
        if (!raw)
            continue;
        TERN_TRY(tern_pack_int8(ctx, row->name, row->io[i].name, slots[i], config->transposed_mode, slots[scales],
                                &packed->weight[i]));
        packed->view[i] = tern_weight_view(packed->weight[i]);
        slots[i] = &packed->view[i];
    }
    return TERN_OK;
}

tern_status tern_op_run(tern_ctx *ctx, const tern_op *op, const tern_op_io *io, size_t n_io, const tern_op_call *call)
{
    const tern_op_params standard = tern_op_params_default();
    tern_op_call full = call ? *call : (tern_op_call){ .params = NULL };
    tern_tensor *slots[TERN_OP_IO_MAX] = { NULL };
    struct packed packed = { .weight = { NULL } };
    tern_status status;

    TERN_REQUIRE(ctx, ctx && op && (io || n_io == 0), TERN_ERR_ARG, "op_run: %s is NULL",
                 !ctx ? "ctx"
                 : op ? "io"
                      : "op");
    const struct tern_op_row *row = op->row;
    if (!full.params)
        full.params = &standard;
    TERN_TRY(sort_io(ctx, row, io, n_io, true, slots));
    TERN_TRY(check_types(ctx, row, &op->config, slots));
    TERN_TRY_OR_FAIL(pack_int8(ctx, row, &op->config, slots, &packed));
    const struct tern_kernels *kernels = ctx->kernels;
    if (row->function) /* it has no config, so it takes the kernels that the context has */
        ctx->kernels = tern_kernels_for(ctx, &op->config);
    status = row->run(ctx, &op->config, slots, &full);
    ctx->kernels = kernels;
fail:
    for (int i = 0; i < TERN_OP_IO_MAX; i++)
        tern_weight_destroy(&packed.weight[i]);
    return status;
}

/* ---- shapes of outputs ---- */

/* One axis of a shape text: a symbol, perhaps times a number or with a 1 in its place; or the axes "..". */
struct axis {
    const char *symbol;
    size_t length;
    int64_t times;
    bool or_one, leading;
};

/* The next axis of a shape text at *at, which moves behind it; false at the end. */
static bool next_axis(const char **at, struct axis *axis)
{
    const char *c = *at + strspn(*at, "[, ");

    if (!*c || *c == ']')
        return false;
    size_t n = strcspn(c, ",]");
    *at = c + n;
    *axis = (struct axis){ .times = 1, .leading = n == 2 && c[0] == '.' };
    if (n > 2 && c[n - 2] == '|') {
        axis->or_one = true;
        n -= 2;
    }
    if (*c >= '0' && *c <= '9')
        for (axis->times = 0; n && *c >= '0' && *c <= '9'; c++, n--)
            axis->times = axis->times * 10 + (*c - '0');
    axis->symbol = c;
    axis->length = n;
    return true;
}

/* The sizes that the inputs gave to the symbols. */
struct sizes {
    struct {
        const char *symbol;
        size_t length;
        int64_t value;
    } known[16];
    int n;
    bool has_leading;
    int n_leading;
    int64_t leading[TERN_MAX_RANK];
};

static int64_t *size_of(struct sizes *s, const char *symbol, size_t length)
{
    for (int i = 0; i < s->n; i++)
        if (s->known[i].length == length && memcmp(s->known[i].symbol, symbol, length) == 0)
            return &s->known[i].value;
    return NULL;
}

static void size_add(struct sizes *s, const char *symbol, size_t length, int64_t value)
{
    if (s->n == (int)(sizeof s->known / sizeof s->known[0]))
        return;
    s->known[s->n].symbol = symbol;
    s->known[s->n].length = length;
    s->known[s->n++].value = value;
}

static tern_status learn(tern_ctx *ctx, const struct tern_op_row *row, const tern_op_tensor *io, const tern_tensor *t,
                         bool transposed, struct sizes *s)
{
    int n_axes = 0, n_given;
    bool any = false;
    const char *at = io->shape;
    struct axis axis;

    TERN_REQUIRE(ctx, t->rank >= 0 && t->rank <= TERN_MAX_RANK, TERN_ERR_SHAPE, "%s: %s has rank %d, expected 0..%d",
                 row->name, io->name, t->rank, TERN_MAX_RANK);
    if (strcmp(at, "*") == 0 || io->type == TERN_OP_SCALE) /* each matrix has its own G, in any shape */
        return TERN_OK;
    while (next_axis(&at, &axis)) {
        any |= axis.leading;
        n_axes += !axis.leading;
    }
    n_given = t->rank - n_axes;
    TERN_REQUIRE(ctx, any ? n_given >= 0 : n_given == 0, TERN_ERR_SHAPE, "%s: %s is %s, expected %s", row->name,
                 io->name, tern_dims_text(t).text, io->shape);
    at = io->shape;
    for (int i = 0; next_axis(&at, &axis);) {
        if (axis.leading) {
            if (!s->has_leading) {
                s->has_leading = true;
                s->n_leading = n_given;
                int64_t all = 1;
                for (int j = 0; j < n_given; j++) {
                    s->leading[j] = t->dim[j];
                    if (__builtin_mul_overflow(all, t->dim[j], &all))
                        all = -1; /* the operator's own check refuses it */
                }
                if (!size_of(s, "T", 1))
                    size_add(s, "T", 1, all);
            }
            i = n_given;
            continue;
        }
        const bool turned = io->type == TERN_OP_MATRIX && transposed && !t->packed && n_axes >= 2 && i >= n_axes - 2;
        const int64_t found = t->dim[turned ? 2 * n_axes - 3 - i : i];
        const int64_t *known = size_of(s, axis.symbol, axis.length);
        i++;
        if (axis.or_one && found == 1)
            continue;
        TERN_REQUIRE(ctx, found >= 0 && (known ? found == *known * axis.times : found % axis.times == 0),
                     TERN_ERR_SHAPE, "%s: %s is %s, expected %s with %.*s = %" PRId64, row->name, io->name,
                     tern_dims_text(t).text, io->shape, (int)axis.length, axis.symbol,
                     known ? *known : found / axis.times);
        if (!known)
            size_add(s, axis.symbol, axis.length, found / axis.times);
    }
    return TERN_OK;
}

static tern_status apply(tern_ctx *ctx, const struct tern_op_row *row, const tern_op_tensor *io, tern_dtype dtype,
                         struct sizes *s, tern_tensor *out)
{
    int64_t dim[2 * TERN_MAX_RANK] = { 0 };
    const char *at = io->shape;
    struct axis axis;
    int rank = 0;

    while (next_axis(&at, &axis)) {
        if (axis.leading) {
            TERN_REQUIRE(ctx, s->has_leading, TERN_ERR_ARG, "%s: %s %s does not follow from the inputs", row->name,
                         io->name, io->shape);
            for (int j = 0; j < s->n_leading; j++)
                dim[rank++] = s->leading[j];
            continue;
        }
        const int64_t *known = size_of(s, axis.symbol, axis.length);
        TERN_REQUIRE(ctx, known || axis.length == 0, TERN_ERR_ARG, "%s: %s %s does not follow from the inputs",
                     row->name, io->name, io->shape);
        dim[rank++] = axis.times * (known ? *known : 1);
    }
    *out = tern_tensor_view(NULL, dtype, rank, dim);
    TERN_REQUIRE(ctx, out->rank == rank, TERN_ERR_SHAPE, "%s: %s of rank %d is larger than a tensor can be", row->name,
                 io->name, rank);
    return TERN_OK;
}

/* What an output is stored in. */
static tern_dtype output_dtype(const tern_config *config, tern_op_type type)
{
    return type == TERN_OP_INTS                            ? TERN_INT32
           : type == TERN_OP_INT64                         ? TERN_INT64
           : type == TERN_OP_BOOL                          ? TERN_BOOL
           : type == TERN_OP_FP32 || type == TERN_OP_SCALE ? TERN_FP32
                                                           : tern_config_activation(config);
}

tern_status tern_op_infer(tern_ctx *ctx, const tern_op *op, const tern_op_params *params, const tern_op_io *io,
                          size_t n_io)
{
    const tern_op_params standard = tern_op_params_default();
    tern_tensor *slots[TERN_OP_IO_MAX] = { NULL }, found[TERN_OP_IO_MAX];
    struct sizes s = { .n = 0 };

    TERN_REQUIRE(ctx, op && (io || n_io == 0), TERN_ERR_ARG, "op_infer: %s is NULL", op ? "io" : "op");
    const struct tern_op_row *row = op->row;
    const tern_config *c = &op->config;
    TERN_TRY(sort_io(ctx, row, io, n_io, false, slots));
    if (row->reads & TERN_READS_HEADS) {
        const struct tern_config_sizes sizes = tern_config_sizes(c);
        size_add(&s, "(h+2G)E", 7, sizes.qkv);
        size_add(&s, "hE", 2, sizes.context);
        size_add(&s, "h", 1, sizes.heads);
        size_add(&s, "G", 1, sizes.kv_heads);
        size_add(&s, "E", 1, sizes.head_dim);
    }
    for (int i = 0; row->io[i].name; i++)
        /* A mask broadcasts in ways that its text does not tell in full, and decides no size. */
        if (!row->io[i].output && row->io[i].type != TERN_OP_MASK && tern_given(slots[i]))
            TERN_TRY(learn(ctx, row, &row->io[i], slots[i], c->transposed_mode, &s));
    for (int i = 0; row->io[i].name; i++) {
        if (!row->io[i].output || !slots[i])
            continue;
        const tern_status status = apply(ctx, row, &row->io[i], output_dtype(c, row->io[i].type), &s, &found[i]);
        if (status && !row->infer)
            return status;
        if (status) {
            found[i] = tern_tensor_none();
            found[i].dtype = output_dtype(c, row->io[i].type);
        }
    }
    if (row->infer)
        TERN_TRY(row->infer(ctx, c, params ? params : &standard, slots, found));
    for (int i = 0; row->io[i].name; i++)
        if (row->io[i].output && slots[i])
            *slots[i] = found[i];
    return TERN_OK;
}

/* ---- for tools ---- */

bool tern_op_describe(int index, tern_op_description *out)
{
    const struct tern_op_row *row = tern_op_row(index);

    if (!row || !out)
        return false;
    *out = (tern_op_description){ .name = row->name, .formula = row->formula, .tensors = row->io };
    while (row->io[out->n_tensors].name)
        out->n_tensors++;
    return true;
}

/* "n/a: NAME has no WHAT kernel, there is: ..." */
static bool not_there(char *text, size_t size, const char *op, const char *what, unsigned bits,
                      const char *(*name)(int))
{
    struct list there = { .used = 0 };

    for (int i = 0; i < 32; i++)
        if (bits >> i & 1)
            list_add(&there, name(i), strlen(name(i)));
    snprintf(text, size, "n/a: %s has no %s kernel, there is: %s", op, what, there.text);
    return false;
}

bool tern_op_cell(const tern_ctx *ctx, int index, tern_dtype dtype, int norm, tern_device device, char *text,
                  size_t size)
{
    const struct tern_op_row *row = tern_op_row(index);
    struct list kernels = { .used = 0 };

    if (!row || !ctx || !text)
        return false;
    if ((unsigned)dtype >= TERN_DTYPE_COUNT || !(row->dtypes >> dtype & 1))
        return not_there(text, size, row->name, tern_dtype_name(dtype), row->dtypes, dtype_name);
    if ((unsigned)device >= 32 || !(row->devices >> device & 1))
        return not_there(text, size, row->name, device_name((int)device), row->devices, device_name);
    if (norm && !row->norms) {
        snprintf(text, size,
                 strstr(row->kernels, "_norm") ? "n/a: %s is a norm itself, norm_type does not matter"
                                               : "n/a: %s has no norm",
                 row->name);
        return false;
    }
    if (row->norms && (norm < 0 || norm >= 32 || !(row->norms >> norm & 1))) {
        if (norm == 0)
            snprintf(text, size, "n/a: %s has a norm", row->name);
        else
            not_there(text, size, row->name, norm_name(norm), row->norms, norm_name);
        return false;
    }
    bool weights = false;
    for (const char *c = row->kernels; *c;) {
        const size_t n = strcspn(c, " ");
        const bool star = *c == '*', gemm = n == 4 && memcmp(c, "gemm", 4) == 0;
        const char *form = c[n - 1] != '_' ? "" : dtype == TERN_FP16 ? "f16" : dtype == TERN_BF16 ? "bf16" : "f32";
        const char *begin = star                                  ? (norm == TERN_RMS_NORM ? "rms_norm" : "layer_norm")
                            : !gemm                               ? ""
                            : row->function && dtype != TERN_INT8 ? "gemm_f32" /* it widens what it multiplies */
                            : dtype == TERN_FP16                  ? "gemm_f32_f16"
                            : dtype == TERN_BF16                  ? "gemm_bf16"
                            : dtype == TERN_INT8                  ? "gemm_f32_q8"
                                                                  : "gemm_f32";
        char name[96], rows[48] = "";
        if (gemm && dtype == TERN_INT8)
            snprintf(rows, sizeof rows, " (rows as int8: gemm_q8_%s)", ctx->isa);
        const int length = snprintf(name, sizeof name, "%s%.*s%s_%s%s", begin, gemm ? 0 : (int)(n - star), c + star,
                                    form, ctx->isa, rows);
        weights |= gemm;
        list_add(&kernels, name, (size_t)length < sizeof name ? (size_t)length : sizeof name - 1);
        c += n + (c[n] == ' ');
    }
    snprintf(text, size, "%s%s", dtype == TERN_INT8 && !weights ? "as activation_dtype: " : "",
             *row->kernels ? kernels.text : "plain C");
    return true;
}
