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

static const struct tern_op_row rows[TERN_OP_COUNT] = {
    [TERN_OP_QKV_GEMM] = { "qkv_gemm",
                           FP32,
                           ANY_NORM,
                           CPU,
                           TERN_READS_NORM,
                           run_qkv_gemm,
                           { "input", "weight", "bias?", "gamma", "beta?", "output", "norm?" } },
    [TERN_OP_SOFTMAX_CONTEXT] = { "softmax_context",
                                  FP32,
                                  0,
                                  CPU,
                                  TERN_READS_HEADS | TERN_READS_ATTENTION,
                                  run_softmax_context,
                                  { "qkv", "mask?", "alibi?", "output?" } },
    [TERN_OP_VECTOR_MATMUL] = { "vector_matmul", FP32, 0, CPU, 0, run_vector_matmul, { "input", "weight", "output" } },
    [TERN_OP_MLP_GEMM] = { "mlp_gemm",
                           FP32,
                           ANY_NORM,
                           CPU,
                           TERN_READS_NORM | TERN_READS_ACTIVATION,
                           run_mlp_gemm,
                           { "input?", "residual", "weight", "weight_out", "input_bias?", "bias?", "gamma", "beta?",
                             "output", "residual_add?" } },
    [TERN_OP_GELU_GEMM] = { "gelu_gemm",
                            FP32,
                            0,
                            CPU,
                            TERN_READS_GELU,
                            run_gelu_gemm,
                            { "input", "weight", "bias?", "weight_out", "output" } },
    [TERN_OP_RESIDUAL_ADD] = { "residual_add",
                               FP32,
                               0,
                               CPU,
                               TERN_READS_MP,
                               run_residual_add,
                               { "hidden", "residual", "attention_output?", "residual_add?", "attention_bias?",
                                 "final_bias?", "output" } },
    [TERN_OP_LINEAR] = { "linear", FP32, 0, CPU, 0, run_linear, { "input", "weight", "bias?", "output" } },
    [TERN_OP_SOFTMAX] = { "softmax", FP32, 0, CPU, 0, run_softmax, { "scores", "mask?", "alibi?", "output" } },
};

int tern_op_count(void)
{
    return TERN_OP_COUNT;
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

static size_t io_length(const char *name)
{
    return strcspn(name, "?");
}

static tern_status fail_io(tern_ctx *ctx, const struct tern_op_row *row, const char *what, const char *name,
                           size_t length)
{
    struct list known = { .used = 0 };

    for (int i = 0; row->io[i]; i++)
        list_add(&known, row->io[i], io_length(row->io[i]));
    return tern_fail(ctx, TERN_ERR_ARG, "%s: tensor %.*s is %s, the tensors are: %s", row->name,
                     (int)(length < 100 ? length : 100), name, what, known.text);
}

tern_status tern_op_run(tern_ctx *ctx, const tern_op *op, const tern_op_io *io, size_t n_io, const tern_op_call *call)
{
    tern_tensor *slots[TERN_OP_IO_MAX] = { NULL };
    bool named[TERN_OP_IO_MAX] = { false };

    TERN_REQUIRE(ctx, op && (io || n_io == 0), TERN_ERR_ARG, "op_run: %s is NULL", op ? "io" : "op");
    const struct tern_op_row *row = &rows[op->id];
    for (size_t i = 0; i < n_io; i++) {
        int slot = 0;
        TERN_REQUIRE(ctx, io[i].name, TERN_ERR_ARG, "%s: the name of tensor %zu is NULL", row->name, i);
        const size_t length = strlen(io[i].name);
        while (row->io[slot] && (io_length(row->io[slot]) != length || strncmp(row->io[slot], io[i].name, length) != 0))
            slot++;
        if (!row->io[slot])
            return fail_io(ctx, row, "unknown", io[i].name, length);
        if (named[slot])
            return fail_io(ctx, row, "given twice", io[i].name, length);
        named[slot] = true;
        slots[slot] = io[i].tensor;
    }
    for (int slot = 0; row->io[slot]; slot++)
        if (!slots[slot] && row->io[slot][io_length(row->io[slot])] != '?')
            return fail_io(ctx, row, "missing", row->io[slot], io_length(row->io[slot]));
    return row->run(ctx, &op->config, slots, call);
}
