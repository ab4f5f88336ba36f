/* op.c: operators by name.
 *
 * Adding an operator is its typed function in a file of its own, a number in op_table.h, and a row here. */
#include "ops/op_table.h"

#include <stdio.h>
#include <string.h>

/* ---- from named tensors to the typed functions ---- */

static tern_status run_qkv_gemm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    (void)call;
    return tern_qkv_gemm(ctx, config, io[0], io[1], io[2], io[3], io[4], io[5], io[6]);
}

static tern_status run_softmax_context(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                       const tern_op_call *call)
{
    TERN_REQUIRE(ctx, call, TERN_ERR_ARG, "softmax_context: call is NULL, expected one with cache and spans");
    return tern_softmax_context(ctx, config, io[0], io[1], io[2], call->cache, call->layer, call->spans, call->n_spans,
                                io[3]);
}

static tern_status run_vector_matmul(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                     const tern_op_call *call)
{
    (void)call;
    return tern_vector_matmul(ctx, config, io[0], io[1], io[2]);
}

static tern_status run_mlp_gemm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                const tern_op_call *call)
{
    (void)call;
    return tern_mlp_gemm(ctx, config, io[0], io[1], io[2], io[3], io[4], io[5], io[6], io[7], io[8], io[9]);
}

static tern_status run_gelu_gemm(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                 const tern_op_call *call)
{
    (void)call;
    return tern_gelu_gemm(ctx, config, io[0], io[1], io[2], io[3], io[4]);
}

static tern_status run_residual_add(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                    const tern_op_call *call)
{
    (void)call;
    return tern_residual_add(ctx, config, io[0], io[1], io[2], io[3], io[4], io[5], io[6]);
}

static tern_status run_linear(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                              const tern_op_call *call)
{
    (void)call;
    return tern_linear(ctx, config, io[0], io[1], io[2], io[3]);
}

static tern_status run_softmax(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                               const tern_op_call *call)
{
    return tern_softmax(ctx, config, call ? call->softmax : NULL, io[0], io[1], io[2], io[3]);
}

/* ---- the table ---- */

#define FP32     (1u << TERN_FP32)
#define ANY_NORM (1u << TERN_LAYER_NORM | 1u << TERN_RMS_NORM)
#define CPU      (1u << TERN_CPU)

#define IN(name, shape)                  \
    {                                    \
        name, shape, false, false, false \
    }
#define OPTIONAL(name, shape)           \
    {                                   \
        name, shape, true, false, false \
    }
#define MATRIX(name, shape)             \
    {                                   \
        name, shape, false, false, true \
    }
#define OUT(name, shape)                \
    {                                   \
        name, shape, false, true, false \
    }
#define OPTIONAL_OUT(name, shape)      \
    {                                  \
        name, shape, true, true, false \
    }

static const struct tern_op_row rows[TERN_OP_COUNT] = {
    [TERN_OP_QKV_GEMM] = {
        .name = "qkv_gemm",
        .formula = "norm = LayerNorm or RMSNorm of input; output = norm W (+ bias)",
        .dtypes = FP32,
        .norms = ANY_NORM,
        .devices = CPU,
        .reads = TERN_READS_NORM,
        .kernels = "*_f32 gemm_f32",
        .run = run_qkv_gemm,
        .io = { IN("input", "[.., H]"), MATRIX("weight", "[H, N]"), OPTIONAL("bias", "[N]"), IN("gamma", "[H]"),
                OPTIONAL("beta", "[H]"), OUT("output", "[.., N]"), OPTIONAL_OUT("norm", "[.., H]") },
    },
    [TERN_OP_SOFTMAX_CONTEXT] = {
        .name = "softmax_context",
        .formula = "rotary, keys and values into the cache, softmax(scale q k + alibi + mask) v",
        .dtypes = FP32,
        .devices = CPU,
        .reads = TERN_READS_HEADS | TERN_READS_ATTENTION,
        .kernels = "rotary_f32 kv_store_f32 attention_f32",
        .run = run_softmax_context,
        .io = { IN("qkv", "[.., (h+2G)E]"), OPTIONAL("mask", "[T|1, n]"), OPTIONAL("alibi", "[h]"),
                OPTIONAL_OUT("output", "[.., hE]") },
    },
    [TERN_OP_VECTOR_MATMUL] = {
        .name = "vector_matmul",
        .formula = "output = input W",
        .dtypes = FP32,
        .devices = CPU,
        .kernels = "gemm_f32",
        .run = run_vector_matmul,
        .io = { IN("input", "[.., K]"), MATRIX("weight", "[K, N]"), OUT("output", "[.., N]") },
    },
    [TERN_OP_MLP_GEMM] = {
        .name = "mlp_gemm",
        .formula = "z = norm(input + input_bias + residual); output = act(z W1 + bias) W2",
        .dtypes = FP32,
        .norms = ANY_NORM,
        .devices = CPU,
        .reads = TERN_READS_NORM | TERN_READS_ACTIVATION | TERN_READS_BLOCK,
        .kernels = "*_residual_f32 gemm_f32 act_f32",
        .run = run_mlp_gemm,
        .io = { OPTIONAL("input", "[.., H]"), IN("residual", "[.., H]"), MATRIX("weight", "[H, pI]"),
                MATRIX("weight_out", "[I, N]"), OPTIONAL("input_bias", "[H]"), OPTIONAL("bias", "[pI]"),
                IN("gamma", "[H]"), OPTIONAL("beta", "[H]"), OUT("output", "[.., N]"),
                OPTIONAL_OUT("residual_add", "[.., H]") },
    },
    [TERN_OP_GELU_GEMM] = {
        .name = "gelu_gemm",
        .formula = "output = gelu(input W1 + bias) W2",
        .dtypes = FP32,
        .devices = CPU,
        .reads = TERN_READS_GELU,
        .kernels = "gemm_f32 act_f32",
        .run = run_gelu_gemm,
        .io = { IN("input", "[.., H]"), MATRIX("weight", "[H, I]"), OPTIONAL("bias", "[I]"),
                MATRIX("weight_out", "[I, N]"), OUT("output", "[.., N]") },
    },
    [TERN_OP_RESIDUAL_ADD] = {
        .name = "residual_add",
        .formula = "hidden + (residual + final_bias + attention_output + attention_bias) / mp_size, and other blocks' forms",
        .dtypes = FP32,
        .devices = CPU,
        .reads = TERN_READS_MP | TERN_READS_BLOCK,
        .kernels = "residual_add_f32",
        .run = run_residual_add,
        .io = { IN("hidden", "[.., H]"), IN("residual", "[.., H]"), OPTIONAL("attention_output", "[.., H]"),
                OPTIONAL("residual_add", "[.., H]"), OPTIONAL("attention_bias", "[H]"), OPTIONAL("final_bias", "[H]"),
                OUT("output", "[.., H]") },
    },
    [TERN_OP_LINEAR] = {
        .name = "linear",
        .formula = "output = input W (+ bias)",
        .dtypes = FP32,
        .devices = CPU,
        .kernels = "gemm_f32",
        .run = run_linear,
        .io = { IN("input", "[.., K]"), MATRIX("weight", "[K, N]"), OPTIONAL("bias", "[N]"), OUT("output", "[.., N]") },
    },
    [TERN_OP_SOFTMAX] = {
        .name = "softmax",
        .formula = "output = softmax(layer_scale scores + alibi + mask) over the last axis",
        .dtypes = FP32,
        .devices = CPU,
        .kernels = "softmax_f32",
        .run = run_softmax,
        .io = { IN("scores", "[B, h, S, T]"), OPTIONAL("mask", "[B|1, h|1, S|1, T]"), OPTIONAL("alibi", "[n]"),
                OUT("output", "[B, h, S, T]") },
    },
};

int tern_op_count(void)
{
    return TERN_OP_COUNT;
}

const struct tern_op_row *tern_op_row(int index)
{
    return index >= 0 && index < TERN_OP_COUNT ? &rows[index] : NULL;
}

const char *tern_op_name(int index)
{
    return index >= 0 && index < TERN_OP_COUNT ? rows[index].name : NULL;
}

/* ---- lists for messages ---- */

struct list {
    char text[512];
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

tern_status tern_op_check(tern_ctx *ctx, enum tern_op_id id, const tern_config *config)
{
    const struct tern_op_row *row = &rows[id];

    TERN_REQUIRE(ctx, ctx, TERN_ERR_ARG, "%s: ctx is NULL", row->name);
    TERN_REQUIRE(ctx, config, TERN_ERR_ARG, "%s: config is NULL", row->name);
    TERN_TRY(check_axis(ctx, row->name, "dtype", row->dtypes, (int)config->dtype, dtype_name));
    TERN_TRY(check_axis(ctx, row->name, "device", row->devices, (int)config->device, device_name));
    if (row->norms)
        TERN_TRY(check_axis(ctx, row->name, "norm_type", row->norms, (int)config->norm_type, norm_name));
    TERN_REQUIRE(ctx, (int)config->kernel == TERN_KERNEL_AUTO || (int)config->kernel == TERN_KERNEL_REFERENCE,
                 TERN_ERR_CONFIG, "%s: kernel is %d, expected auto 0 or reference 1", row->name, (int)config->kernel);
    return tern_check_config(ctx, row->name, config, row->reads);
}

/* ---- by name ---- */

struct tern_op {
    enum tern_op_id id;
    tern_config config;
};

tern_status tern_op_create(tern_ctx *ctx, const char *name, const tern_config *config, tern_op **out)
{
    struct tern_op *op;
    int id = 0;

    TERN_REQUIRE(ctx, out && name, TERN_ERR_ARG, "op_create: %s is NULL", out ? "name" : "out");
    *out = NULL;
    while (id < TERN_OP_COUNT && strcmp(rows[id].name, name) != 0)
        id++;
    if (id == TERN_OP_COUNT) {
        struct list known = { .used = 0 };
        for (int i = 0; i < TERN_OP_COUNT; i++)
            list_add(&known, rows[i].name, strlen(rows[i].name));
        return tern_fail(ctx, TERN_ERR_UNSUPPORTED, "unsupported transformer operation: %.100s\nknown operations: %s",
                         name, known.text);
    }
    TERN_TRY(tern_op_check(ctx, (enum tern_op_id)id, config));
    TERN_TRY(TERN_ALLOC(ctx, 1, "an operator", &op));
    *op = (struct tern_op){ .id = (enum tern_op_id)id, .config = *config };
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

static tern_status fail_io(tern_ctx *ctx, const struct tern_op_row *row, const char *what, const char *name)
{
    struct list known = { .used = 0 };

    for (int i = 0; row->io[i].name; i++)
        list_add(&known, row->io[i].name, strlen(row->io[i].name));
    return tern_fail(ctx, TERN_ERR_ARG, "%s: tensor %.100s is %s, the tensors are: %s", row->name, name, what,
                     known.text);
}

/* The named tensors in the order of the row.  What is missing is an error for inputs, for outputs only where they run. */
static tern_status sort_io(tern_ctx *ctx, const struct tern_op_row *row, const tern_op_io *io, size_t n_io,
                           bool outputs, tern_tensor *slots[TERN_OP_IO_MAX])
{
    bool named[TERN_OP_IO_MAX] = { false };

    for (size_t i = 0; i < n_io; i++) {
        int slot = 0;
        TERN_REQUIRE(ctx, io[i].name, TERN_ERR_ARG, "%s: the name of tensor %zu is NULL", row->name, i);
        while (row->io[slot].name && strcmp(row->io[slot].name, io[i].name) != 0)
            slot++;
        if (!row->io[slot].name)
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

tern_status tern_op_run(tern_ctx *ctx, const tern_op *op, const tern_op_io *io, size_t n_io, const tern_op_call *call)
{
    tern_tensor *slots[TERN_OP_IO_MAX] = { NULL };

    TERN_REQUIRE(ctx, op && (io || n_io == 0), TERN_ERR_ARG, "op_run: %s is NULL", op ? "io" : "op");
    TERN_TRY(sort_io(ctx, &rows[op->id], io, n_io, true, slots));
    return rows[op->id].run(ctx, &op->config, slots, call);
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
                for (int j = 0; j < n_given; j++)
                    s->leading[j] = t->dim[j];
            }
            i = n_given;
            continue;
        }
        const int64_t found = t->dim[io->matrix && transposed && !t->packed ? 1 - i : i];
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

tern_status tern_op_infer(tern_ctx *ctx, const tern_op *op, const tern_op_io *io, size_t n_io)
{
    tern_tensor *slots[TERN_OP_IO_MAX] = { NULL }, found[TERN_OP_IO_MAX];
    struct sizes s = { .n = 0 };

    TERN_REQUIRE(ctx, op && (io || n_io == 0), TERN_ERR_ARG, "op_infer: %s is NULL", op ? "io" : "op");
    const struct tern_op_row *row = &rows[op->id];
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
        if (!row->io[i].output && tern_given(slots[i]))
            TERN_TRY(learn(ctx, row, &row->io[i], slots[i], c->transposed_mode, &s));
    const tern_dtype dtype = c->dtype == TERN_INT8 ? c->activation_dtype : c->dtype;
    for (int i = 0; row->io[i].name; i++)
        if (row->io[i].output && slots[i])
            TERN_TRY(apply(ctx, row, &row->io[i], dtype, &s, &found[i]));
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
        snprintf(text, size, "n/a: %s has no norm", row->name);
        return false;
    }
    if (row->norms && (norm < 0 || norm >= 32 || !(row->norms >> norm & 1))) {
        if (norm == 0)
            snprintf(text, size, "n/a: %s has a norm", row->name);
        else
            not_there(text, size, row->name, norm_name(norm), row->norms, norm_name);
        return false;
    }
    for (const char *c = row->kernels; *c;) {
        const size_t n = strcspn(c, " ");
        const bool star = *c == '*';
        char name[96];
        const int length = snprintf(name, sizeof name, "%s%.*s_%s",
                                    !star                   ? ""
                                    : norm == TERN_RMS_NORM ? "rms_norm"
                                                            : "layer_norm",
                                    (int)(n - star), c + star, ctx->isa);
        list_add(&kernels, name, (size_t)length < sizeof name ? (size_t)length : sizeof name - 1);
        c += n + (c[n] == ' ');
    }
    snprintf(text, size, "%s", kernels.text);
    return true;
}
