/* test_one_answer.c: every row of the table of operators gives one answer: the same bits at every instruction set level, with 1, 2
 * and 3 threads, alone and inside a larger batch; and the definition gives that answer too.
 *
 * A row here lists the tensors of a call; the tests go through all operators that there are, in every dtype. */
#include "ops/dtype_testing.h"

#include <stdio.h>

#define MAX_ARGS  16
#define MAX_CELLS 24

enum {
    ALONG = 1, /* axis 0 is the batch */
    OUT = 2,
    PLACES = 4, /* an output that is about the whole batch: counts, places in it */
    FLAGS = 8   /* of bool: whether a row is there */
};

struct arg {
    const char *name;
    int64_t dim[6];
    unsigned flags;
    const int32_t *ints;   /* of an integer tensor */
    const int32_t *one[2]; /* the same for the first and for the last of the batch alone */
};

#define D(...)          \
    {                   \
        __VA_ARGS__, -1 \
    }

struct call {
    const char *op;
    int64_t batch; /* 0: it has none */
    struct arg arg[MAX_ARGS];
    const char *set; /* keys and values, as --set takes them; NULL: the defaults */
};

static const int32_t at9[] = { 3, 0, 77, 12, 5, 6, 1000, 9, 64 };
static const int32_t at12[] = { 5, 6, 7, 8, 0, 1, 2, 3, 40, 41, 42, 43 };
static const int32_t chosen[] = { 1, 0, -1, -1, 0, 2, 1, 2 }, slots[] = { 0, 1, -1, -1, 0, 1, 1, 0 };
static const int32_t counts[] = { 2, 2, 2 }, mapped[] = { 2, 1, -1, -1, 0, 5, 3, 4 };
static const int32_t ends[] = { 9, 9, 19 }, first_end[] = { 1, 1, 1 }, last_end[] = { 0, 0, 1 };
static const int32_t ids[] = { 3, 0, 6, 1, 1, 5, 2, 2, 0 }, lengths[] = { 1, 3, 5 };
static const int32_t within[] = { 0, 1, 2, 0, 1, 2, 3, 3, 0 };

static const struct call calls[] = {
    { "linear",
      19,
      { { "input", D(19, 50), ALONG, 0, { 0 } },
        { "weight", D(50, 134), 0, 0, { 0 } },
        { "bias", D(134), 0, 0, { 0 } },
        { "output", D(19, 134), ALONG | OUT, 0, { 0 } } },
      0 },
    { "vector_matmul",
      19,
      { { "input", D(19, 50), ALONG, 0, { 0 } },
        { "weight", D(50, 134), 0, 0, { 0 } },
        { "output", D(19, 134), ALONG | OUT, 0, { 0 } } },
      0 },
    { "qkv_gemm",
      19,
      { { "input", D(19, 50), ALONG, 0, { 0 } },
        { "weight", D(50, 134), 0, 0, { 0 } },
        { "bias", D(134), 0, 0, { 0 } },
        { "gamma", D(50), 0, 0, { 0 } },
        { "output", D(19, 134), ALONG | OUT, 0, { 0 } },
        { "norm", D(19, 50), ALONG | OUT, 0, { 0 } } },
      "norm_type=RMSNorm" },
    { "qkv_gemm",
      19,
      { { "input", D(19, 50), ALONG, 0, { 0 } },
        { "weight", D(50, 134), 0, 0, { 0 } },
        { "gamma", D(50), 0, 0, { 0 } },
        { "beta", D(50), 0, 0, { 0 } },
        { "output", D(19, 134), ALONG | OUT, 0, { 0 } } },
      0 },
    { "softmax_context",
      3,
      { { "qkv", D(3, 70, 160), ALONG, 0, { 0 } },
        { "mask", D(3, 1, 70, 70), ALONG, 0, { 0 } },
        { "alibi", D(4), 0, 0, { 0 } },
        { "output", D(3, 70, 80), ALONG | OUT, 0, { 0 } } },
      "hidden_size=80 heads=4 num_kv=2 rotary_dim=14 softcap=20" },
    { "mlp_gemm",
      19,
      { { "input", D(19, 50), ALONG, 0, { 0 } },
        { "residual", D(19, 50), ALONG, 0, { 0 } },
        { "weight", D(50, 134), 0, 0, { 0 } },
        { "weight_out", D(67, 50), 0, 0, { 0 } },
        { "input_bias", D(50), 0, 0, { 0 } },
        { "bias", D(134), 0, 0, { 0 } },
        { "gamma", D(50), 0, 0, { 0 } },
        { "output", D(19, 50), ALONG | OUT, 0, { 0 } },
        { "residual_add", D(19, 50), ALONG | OUT, 0, { 0 } } },
      "norm_type=RMSNorm mlp_act_func_type=GATED_SILU" },
    { "gelu_gemm",
      19,
      { { "input", D(19, 50), ALONG, 0, { 0 } },
        { "weight", D(50, 134), 0, 0, { 0 } },
        { "bias", D(134), 0, 0, { 0 } },
        { "weight_out", D(134, 34), 0, 0, { 0 } },
        { "output", D(19, 34), ALONG | OUT, 0, { 0 } } },
      0 },
    { "residual_add",
      9,
      { { "hidden", D(9, 33), ALONG, 0, { 0 } },
        { "residual", D(9, 33), ALONG, 0, { 0 } },
        { "attention_output", D(9, 33), ALONG, 0, { 0 } },
        { "attention_bias", D(33), 0, 0, { 0 } },
        { "final_bias", D(33), 0, 0, { 0 } },
        { "output", D(9, 33), ALONG | OUT, 0, { 0 } } },
      0 },
    { "residual_add_bias",
      9,
      { { "hidden", D(9, 33), ALONG, 0, { 0 } },
        { "residual", D(9, 33), ALONG, 0, { 0 } },
        { "attention_output", D(9, 33), ALONG, 0, { 0 } },
        { "attention_bias", D(33), 0, 0, { 0 } },
        { "final_bias", D(33), 0, 0, { 0 } },
        { "output", D(9, 33), ALONG | OUT, 0, { 0 } } },
      "mp_size=2 mlp_after_attn=false add_attn_bias=true" },
    { "softmax",
      3,
      { { "scores", D(3, 3, 9, 70), ALONG, 0, { 0 } },
        { "mask", D(3, 1, 1, 70), ALONG, 0, { 0 } },
        { "alibi", D(4), 0, 0, { 0 } },
        { "output", D(3, 3, 9, 70), ALONG | OUT, 0, { 0 } } },
      "triangular=true layer_scale=0.3 head_offset=1" },
    { "bias_add",
      9,
      { { "input", D(9, 4, 33), ALONG, 0, { 0 } },
        { "bias", D(33), 0, 0, { 0 } },
        { "output", D(9, 4, 33), ALONG | OUT, 0, { 0 } } },
      0 },
    { "bias_gelu",
      9,
      { { "input", D(9, 4, 33), ALONG, 0, { 0 } },
        { "bias", D(33), 0, 0, { 0 } },
        { "output", D(9, 4, 33), ALONG | OUT, 0, { 0 } } },
      0 },
    { "bias_relu",
      9,
      { { "input", D(9, 4, 33), ALONG, 0, { 0 } },
        { "bias", D(33), 0, 0, { 0 } },
        { "output", D(9, 4, 33), ALONG | OUT, 0, { 0 } } },
      0 },
    { "bias_residual",
      9,
      { { "input", D(9, 4, 33), ALONG, 0, { 0 } },
        { "residual", D(9, 4, 33), ALONG, 0, { 0 } },
        { "bias", D(33), 0, 0, { 0 } },
        { "output", D(9, 4, 33), ALONG | OUT, 0, { 0 } } },
      0 },
    { "gated_activation",
      9,
      { { "input", D(9, 66), ALONG, 0, { 0 } },
        { "bias", D(66), 0, 0, { 0 } },
        { "output", D(9, 33), ALONG | OUT, 0, { 0 } } },
      "activation=silu" },
    { "layer_norm",
      9,
      { { "input", D(9, 77), ALONG, 0, { 0 } },
        { "gamma", D(77), 0, 0, { 0 } },
        { "beta", D(77), 0, 0, { 0 } },
        { "output", D(9, 77), ALONG | OUT, 0, { 0 } } },
      0 },
    { "layer_norm_residual",
      9,
      { { "input", D(9, 77), ALONG, 0, { 0 } },
        { "input_bias", D(77), 0, 0, { 0 } },
        { "residual", D(9, 77), ALONG, 0, { 0 } },
        { "gamma", D(77), 0, 0, { 0 } },
        { "beta", D(77), 0, 0, { 0 } },
        { "output", D(9, 77), ALONG | OUT, 0, { 0 } },
        { "sum", D(9, 77), ALONG | OUT, 0, { 0 } } },
      0 },
    { "rms_norm",
      9,
      { { "input", D(9, 77), ALONG, 0, { 0 } },
        { "gamma", D(77), 0, 0, { 0 } },
        { "output", D(9, 77), ALONG | OUT, 0, { 0 } } },
      0 },
    { "pre_rms_norm",
      9,
      { { "input", D(9, 77), ALONG, 0, { 0 } },
        { "residual", D(9, 77), ALONG, 0, { 0 } },
        { "gamma", D(77), 0, 0, { 0 } },
        { "output", D(9, 77), ALONG | OUT, 0, { 0 } },
        { "residual", D(9, 77), ALONG | OUT, 0, { 0 } } },
      0 },
    { "moe_res_matmul",
      9,
      { { "residual", D(9, 33), ALONG, 0, { 0 } },
        { "coef", D(9, 2), ALONG, 0, { 0 } },
        { "experts", D(9, 33), ALONG, 0, { 0 } },
        { "output", D(9, 33), ALONG | OUT, 0, { 0 } } },
      0 },
    { "einsum_sec_sm_ecm",
      0,
      { { "q", D(19, 3, 7), 0, 0, { 0 } }, { "w", D(19, 33), 0, 0, { 0 } }, { "output", D(3, 7, 33), OUT, 0, { 0 } } },
      0 },
    { "pad_transform",
      3,
      { { "query", D(3, 9, 60), ALONG, 0, { 0 } },
        { "key", D(3, 9, 60), ALONG, 0, { 0 } },
        { "value", D(3, 9, 60), ALONG, 0, { 0 } },
        { "query_output", D(3, 3, 11, 32), ALONG | OUT, 0, { 0 } },
        { "key_output", D(3, 3, 16, 32), ALONG | OUT, 0, { 0 } },
        { "value_output", D(3, 3, 16, 32), ALONG | OUT, 0, { 0 } } },
      "num_heads=3" },
    { "vector_add",
      9,
      { { "a", D(9, 501), ALONG, 0, { 0 } },
        { "b", D(9, 501), ALONG, 0, { 0 } },
        { "output", D(9, 501), ALONG | OUT, 0, { 0 } } },
      0 },
    { "workspace",
      0,
      { { "cache", { -1 }, OUT, 0, { 0 } }, { "total", { -1 }, OUT | PLACES, 0, { 0 } } },
      "hidden_size=80 heads=4 num_hidden_layers=3 batch=2" },
    { "gelu", 9, { { "input", D(9, 501), ALONG, 0, { 0 } }, { "output", D(9, 501), ALONG | OUT, 0, { 0 } } }, 0 },
    { "matmul",
      19,
      { { "a", D(19, 50), ALONG, 0, { 0 } },
        { "b", D(50, 134), 0, 0, { 0 } },
        { "bias", D(134), 0, 0, { 0 } },
        { "output", D(19, 134), ALONG | OUT, 0, { 0 } } },
      "activation=gelu" },
    { "matmul_4d",
      3,
      { { "a", D(3, 2, 17, 33), ALONG, 0, { 0 } },
        { "b", D(3, 2, 33, 35), ALONG, 0, { 0 } },
        { "output", D(3, 2, 17, 35), ALONG | OUT, 0, { 0 } } },
      0 },
    { "score_4d_matmul",
      3,
      { { "qkv", D(3, 35, 180), ALONG, 0, { 0 } }, { "output", D(3, 3, 35, 35), ALONG | OUT, 0, { 0 } } },
      "head_size=20 causal=true" },
    { "context_4d_matmul",
      3,
      { { "prob", D(3, 3, 35, 35), ALONG, 0, { 0 } },
        { "qkv", D(3, 35, 180), ALONG, 0, { 0 } },
        { "output", D(3, 35, 60), ALONG | OUT, 0, { 0 } } },
      "head_size=20" },
    { "packed_attention",
      3,
      { { "qkv", D(3, 70, 180), ALONG, 0, { 0 } },
        { "mask", D(3, 1, 1, 70), ALONG, 0, { 0 } },
        { "output", D(3, 70, 60), ALONG | OUT, 0, { 0 } } },
      "num_heads=3 causal=true" },
    { "unpacked_attention",
      3,
      { { "q", D(3, 4, 17, 20), ALONG, 0, { 0 } },
        { "k", D(3, 2, 70, 20), ALONG, 0, { 0 } },
        { "v", D(3, 2, 70, 35), ALONG, 0, { 0 } },
        { "output", D(3, 4, 17, 35), ALONG | OUT, 0, { 0 } } },
      "causal=true" },
    { "rotary",
      9,
      { { "input", D(9, 3, 20), ALONG, 0, { 0 } },
        { "position_ids", D(9), ALONG, at9, { 0 } },
        { "output", D(9, 3, 20), ALONG | OUT, 0, { 0 } } },
      "rotary_dim=14 rotate_every_two=true" },
    { "top_k_gating",
      9,
      { { "logits", D(9, 7), ALONG, 0, { 0 } },
        { "padding", D(9), ALONG | FLAGS, 0, { 0 } },
        { "scores", D(9, 2), ALONG | OUT, 0, { 0 } },
        { "experts", D(9, 2), ALONG | OUT, 0, { 0 } },
        { "slots", D(9, 2), ALONG | OUT | PLACES, 0, { 0 } },
        { "counts", D(7), OUT | PLACES, 0, { 0 } } },
      "k=2" },
    { "moe_scatter", /* rows move to places that the whole batch decides */
      0,
      { { "input", D(4, 33), 0, 0, { 0 } },
        { "experts", D(4, 2), 0, chosen, { 0 } },
        { "slots", D(4, 2), 0, slots, { 0 } },
        { "counts", D(3), 0, counts, { 0 } },
        { "output", D(6, 33), OUT, 0, { 0 } },
        { "mapped_slots", D(4, 2), OUT, 0, { 0 } },
        { "row_ends", D(3), OUT, 0, { 0 } } },
      0 },
    { "moe_gemm",
      19,
      { { "input", D(19, 50), ALONG, 0, { 0 } },
        { "weight", D(3, 50, 70), 0, 0, { 0 } },
        { "bias", D(3, 70), 0, 0, { 0 } },
        { "row_ends", D(3), 0, ends, { first_end, last_end } },
        { "output", D(19, 70), ALONG | OUT, 0, { 0 } } },
      "activation=gelu" },
    { "moe_gather",
      4,
      { { "input", D(6, 33), 0, 0, { 0 } },
        { "scores", D(4, 2), ALONG, 0, { 0 } },
        { "mapped_slots", D(4, 2), ALONG, mapped, { 0 } },
        { "output", D(4, 33), ALONG | OUT, 0, { 0 } } },
      "normalise=true" },
    { "kv_copy",
      3,
      { { "input", D(3, 4, 2, 2, 20), ALONG, 0, { 0 } },
        { "position_ids", D(3, 4), ALONG, at12, { 0 } },
        { "past_key", D(3, 2, 44, 20), ALONG, 0, { 0 } },
        { "past_value", D(3, 2, 44, 20), ALONG, 0, { 0 } },
        { "key", D(3, 2, 44, 20), ALONG | OUT, 0, { 0 } },
        { "value", D(3, 2, 44, 20), ALONG | OUT, 0, { 0 } } },
      "rotary_dim=14 rotate_every_two=true" },
    { "embedding",
      9,
      { { "ids", D(9), ALONG, ids, { 0 } },
        { "table", D(7, 33), 0, 0, { 0 } },
        { "position_table", D(4, 33), 0, 0, { 0 } },
        { "position_ids", D(9), ALONG, within, { 0 } },
        { "output", D(9, 33), ALONG | OUT, 0, { 0 } } },
      0 },
    { "logits_gather", /* rows are copied; which ones, all lengths together say */
      0,
      { { "input", D(9, 33), 0, 0, { 0 } },
        { "lengths", D(3), 0, lengths, { 0 } },
        { "output", D(3, 33), OUT, 0, { 0 } } },
      0 },
    { "quantize",
      9,
      { { "input", D(9, 70), ALONG, 0, { 0 } },
        { "output", D(9, 70), ALONG | OUT, 0, { 0 } },
        { "scale", D(9), ALONG | OUT, 0, { 0 } } },
      "scheme=injection" },
    { "dequantize",
      9,
      { { "input", D(9, 70), ALONG, 0, { 0 } },
        { "scale", D(9), ALONG, 0, { 0 } },
        { "output", D(9, 70), ALONG | OUT, 0, { 0 } } },
      "scheme=injection" },
};
#define N_CALLS (sizeof calls / sizeof calls[0])

/* ---- tensors of a call ---- */

struct tensors {
    size_t n;
    tern_tensor t[2 * MAX_ARGS]; /* with the scales of int8 matrices */
    const char *name[2 * MAX_ARGS];
    const struct arg *arg[2 * MAX_ARGS]; /* NULL: scales */
};

static tern_dtype dtype_of(const struct dt_kind *kind, tern_op_type type)
{
    return type == TERN_OP_FP32 || type == TERN_OP_SCALE ? TERN_FP32
           : type == TERN_OP_MATRIX                      ? kind->dtype
           : type == TERN_OP_INTS                        ? TERN_INT32
           : type == TERN_OP_INT64                       ? TERN_INT64
           : type == TERN_OP_BOOL                        ? TERN_BOOL
           : type == TERN_OP_ANY                         ? TERN_INT8
                                                         : kind->a;
}

static tern_tensor codes(const int64_t *dim)
{
    tern_tensor t = fn_out(TERN_INT8, dim);

    for (size_t i = 0; i < fn_elements(&t); i++)
        ((int8_t *)t.data)[i] = (int8_t)((int)(test_random(&test_seed) % 255) - 127);
    return t;
}

static tern_tensor filled(const struct arg *a, tern_dtype dtype)
{
    tern_tensor t;

    if (a->flags & OUT)
        return fn_out(dtype, a->dim);
    if (a->ints)
        return fn_ints(a->ints, a->dim);
    if (dtype == TERN_INT8)
        return codes(a->dim);
    if (dtype != TERN_BOOL)
        return fn_in(dtype, 0.7f, a->dim);
    t = fn_out(dtype, a->dim);
    for (size_t i = 0; i < fn_elements(&t); i++)
        ((bool *)t.data)[i] = i % 5 == 3;
    return t;
}

static struct tensors make(const struct call *call, int index, const struct dt_kind *kind)
{
    tern_op_description d;
    struct tensors s = { .n = 0 };

    assert_true(tern_op_describe(index, &d));
    for (const struct arg *a = call->arg; a < call->arg + MAX_ARGS && a->name; a++) {
        const int slot = tern_op_tensor_find(index, a->name, a->flags & OUT);
        if (slot < 0)
            fail_msg("%s has no tensor %s", call->op, a->name);
        const tern_op_type type = d.tensors[slot].type;
        s.t[s.n] = filled(a, dtype_of(kind, type));
        s.name[s.n] = a->name;
        s.arg[s.n++] = a;
        if (type != TERN_OP_MATRIX || kind->dtype != TERN_INT8)
            continue;
        char *name = test_bytes(64);
        snprintf(name, 64, "%s_scale", a->name);
        const int64_t three[] = { a->dim[0], 2, -1 }, two[] = { 2, -1 };
        s.t[s.n] = fn_out(TERN_FP32, s.t[s.n - 1].rank == 3 ? three : two);
        for (size_t i = 0; i < fn_elements(&s.t[s.n]); i++)
            ((float *)s.t[s.n].data)[i] = 0.003f + 0.001f * (float)i;
        s.name[s.n++] = name;
    }
    return s;
}

/* Element b of the batch of a tensor, or a copy of all of it (b < 0). */
static tern_tensor part(const tern_tensor *t, const struct arg *a, int64_t b, int64_t batch)
{
    tern_tensor p = *t;
    size_t from = 0;

    if (b >= 0 && a && a->one[0]) {
        p.data = fn_ints(a->one[b != 0], a->dim).data;
        return p;
    }
    if (b >= 0 && a && a->flags & ALONG) {
        assert_int_equal(p.dim[0], batch);
        p.dim[0] = 1;
        from = (size_t)b * fn_elements(&p) * tern_dtype_size(p.dtype);
    }
    const size_t bytes = fn_elements(&p) * tern_dtype_size(p.dtype);
    p.data = test_bytes(bytes);
    if (a && a->flags & OUT)
        memset(p.data, FN_POISON, bytes);
    else if (bytes)
        memcpy(p.data, (char *)t->data + from, bytes);
    return p;
}

static void set(tern_ctx *ctx, const struct call *call, tern_op_settings *settings)
{
    char text[128], *rest = text;

    snprintf(text, sizeof text, "%s", call->set ? call->set : "");
    for (char *key; (key = strtok_r(rest, " =", &rest));)
        assert_ok(ctx, tern_op_settings_set(ctx, tern_op_find(call->op), settings, key, strtok_r(rest, " ", &rest)));
}

/* Runs all of the batch, or element b of it, on fresh copies. */
static struct tensors run(tern_ctx *ctx, const struct call *call, const struct dt_kind *kind, tern_kernel_choice kernel,
                          const struct tensors *all, int64_t b)
{
    tern_op_settings settings = { .config = dt_config(kind), .params = tern_op_params_default() };
    tern_op_call extra = { .params = &settings.params };
    tern_op_io io[2 * MAX_ARGS];
    tern_kv_span spans[4];
    struct tensors s = *all;
    tern_kv_cache *cache = NULL;
    tern_op *op;

    settings.config.kernel = kernel;
    set(ctx, call, &settings);
    for (size_t i = 0; i < s.n; i++) {
        s.t[i] = part(&all->t[i], s.arg[i], b, call->batch);
        io[i] = (tern_op_io){ s.name[i], &s.t[i] };
    }
    if (strcmp(call->op, "softmax_context") == 0) {
        const tern_kv_shape shape = {
            .n_layers = 1, .n_kv_heads = 2, .head_dim = 20, .n_positions = 384, .n_sequences = 3, .n_context = 128
        };
        assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
        for (int32_t i = 0; i < s.t[0].dim[0]; i++) {
            spans[i] = (tern_kv_span){ .row = i * 70, .n_rows = 70 };
            assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &spans[i].sequence));
        }
        extra.cache = cache;
        extra.spans = spans;
        extra.n_spans = (size_t)s.t[0].dim[0];
        assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, extra.n_spans));
    }
    assert_ok(ctx, tern_op_create(ctx, call->op, &settings.config, &op));
    const tern_status status = tern_op_run(ctx, op, io, s.n, &extra);
    if (status != TERN_OK)
        fail_msg("%s in %s: %s", call->op, kind->name, tern_error(ctx));
    tern_op_destroy(&op);
    tern_kv_cache_destroy(&cache);
    return s;
}

/* ---- one answer ---- */

/* A context for each level that there is and number of threads. */
static struct cell {
    tern_ctx *ctx;
    const char *level;
    int threads;
} cells[MAX_CELLS];
static size_t n_cells;

static int setup(void **state)
{
    static const char *const levels[] = { "portable", "neon",   "neondot",    "avx2",
                                          "avxvnni",  "avx512", "avx512vnni", "avx512bf16" };

    (void)state;
    for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++)
        for (int threads = 1; threads <= 3; threads++) {
            tern_ctx *ctx = test_ctx_at(threads, levels[l]);
            if (!ctx)
                continue;
            cells[n_cells++] = (struct cell){ ctx, levels[l], threads };
        }
    assert_true(n_cells >= 3);
    return 0;
}

static int end(void **state)
{
    (void)state;
    while (n_cells)
        tern_ctx_destroy(&cells[--n_cells].ctx);
    return 0;
}

/* Outputs, and what an operator turns in place. */
static void expect_same(const struct call *call, const struct dt_kind *kind, const struct cell *cell,
                        const struct tensors *got, const struct tensors *want, int64_t b)
{
    for (size_t i = 0; i < got->n; i++) {
        const struct arg *a = got->arg[i];
        const size_t bytes = fn_elements(&got->t[i]) * tern_dtype_size(got->t[i].dtype);
        if (!a || (b >= 0 && (a->one[0] || !(a->flags & ALONG) || a->flags & PLACES)))
            continue;
        /* Scratch of attention is counted for each thread. */
        if (b < 0 && got->t[i].rank == 0 && a->flags & PLACES)
            continue;
        if (bytes && memcmp(got->t[i].data, (char *)want->t[i].data + (b > 0 ? (size_t)b : 0) * bytes, bytes) != 0)
            fail_msg("%s in %s, %s with %d threads, %s: %s has other bits than portable with 1 thread gives", call->op,
                     kind->name, cell->level, cell->threads, b < 0 ? "the batch" : "one alone", got->name[i]);
    }
}

static void test_the_bits_are_the_same_at_every_level_with_any_threads_alone_and_in_a_batch(void **state)
{
    (void)state;
    for (size_t c = 0; c < N_CALLS; c++)
        for (size_t k = 0; k < DT_KINDS; k++) {
            const struct call *call = &calls[c];
            const struct dt_kind *kind = &dt_kinds[k];
            test_seed = 4711;
            const struct tensors all = make(call, tern_op_find(call->op), kind);
            struct tensors want = run(cells[0].ctx, call, kind, TERN_KERNEL_AUTO, &all, -1);
            for (size_t i = 0; i < n_cells; i++) {
                /* Products of bf16 have bits of their own there, for any batch and number of threads. */
                if (kind->dtype == TERN_BF16 && strcmp(cells[i].level, "avx512bf16") == 0 && cells[i].threads == 1)
                    want = run(cells[i].ctx, call, kind, TERN_KERNEL_AUTO, &all, -1);
                const struct tensors got = run(cells[i].ctx, call, kind, TERN_KERNEL_AUTO, &all, -1);
                expect_same(call, kind, &cells[i], &got, &want, -1);
                for (int64_t b = 0; b < call->batch; b += call->batch - 1) {
                    const struct tensors one = run(cells[i].ctx, call, kind, TERN_KERNEL_AUTO, &all, b);
                    expect_same(call, kind, &cells[i], &one, &want, b);
                }
            }
            test_teardown(NULL);
        }
}

/* B71: both implementations are held to the same answer.  Either is within the bound, and each stored number is rounded once. */
static void test_b71_the_definition_gives_the_same_answer(void **state)
{
    (void)state;
    for (size_t c = 0; c < N_CALLS; c++)
        for (size_t k = 0; k < DT_KINDS; k++) {
            const struct call *call = &calls[c];
            const struct dt_kind *kind = &dt_kinds[k];
            test_seed = 4711;
            const struct tensors all = make(call, tern_op_find(call->op), kind);
            const struct tensors got = run(cells[0].ctx, call, kind, TERN_KERNEL_AUTO, &all, -1);
            const struct tensors want = run(cells[0].ctx, call, kind, TERN_KERNEL_REFERENCE, &all, -1);
            for (size_t i = 0; i < got.n; i++) {
                const tern_tensor *x = &got.t[i], *y = &want.t[i];
                const size_t n = fn_elements(x);
                if (!got.arg[i] || !(got.arg[i]->flags & OUT))
                    continue;
                if (x->dtype != TERN_FP32 && x->dtype != TERN_FP16 && x->dtype != TERN_BF16) {
                    assert_memory_equal(x->data, y->data, n * tern_dtype_size(x->dtype));
                    continue;
                }
                const double scale = fmax(test_largest(fn_doubles(y), n), 0.25);
                for (size_t j = 0; j < n; j++) {
                    const double a = fn_at(x, j), b = fn_at(y, j);
                    if (a != b &&
                        !(fabs(a - b) <= 2 * fn_half_ulp(x->dtype, fmax(fabs(a), fabs(b))) + 2 * kind->bound * scale))
                        fail_msg("%s in %s: element %zu of %s is %.9g, and %.9g by the definition", call->op,
                                 kind->name, j, got.name[i], a, b);
                }
            }
            test_teardown(NULL);
        }
}

/* B24, B27: every operator is here, on the cpu, in every dtype. */
static void test_b24_b27_every_operator_runs_on_the_cpu_in_every_dtype(void **state)
{
    static const tern_dtype dtypes[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
    char text[512];

    (void)state;
    for (int i = 0; i < tern_op_count(); i++) {
        bool found = false;
        for (size_t c = 0; c < N_CALLS; c++)
            found |= strcmp(calls[c].op, tern_op_name(i)) == 0;
        if (!found)
            fail_msg("%s has no call in %s", tern_op_name(i), __FILE__);
        for (size_t d = 0; d < 4; d++) {
            const bool plain = tern_op_cell(cells[0].ctx, i, dtypes[d], 0, TERN_CPU, text, sizeof text);
            for (int norm = TERN_LAYER_NORM; !plain && norm <= TERN_RMS_NORM; norm += 2)
                if (!tern_op_cell(cells[0].ctx, i, dtypes[d], norm, TERN_CPU, text, sizeof text))
                    fail_msg("%s in %s: %s", tern_op_name(i), tern_dtype_name(dtypes[d]), text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_b24_b27_every_operator_runs_on_the_cpu_in_every_dtype),
        OP_TEST(test_the_bits_are_the_same_at_every_level_with_any_threads_alone_and_in_a_batch),
        OP_TEST(test_b71_the_definition_gives_the_same_answer),
    };
    return cmocka_run_group_tests_name("ops/one_answer", tests, setup, end);
}
