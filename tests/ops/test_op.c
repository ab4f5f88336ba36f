/* test_op.c: operators by name, configs, and everything that can be wrong with a tensor: for every row of the table, in every dtype.
 *
 * A row here lists the tensors of one good call and the typed function that it stands for.  An operator without a row fails. */
#include "faults.h"
#include "ops/dtype_testing.h"

#include <tern/workspace.h>

#include <stdio.h>

/* ---- one good call of each operator ---- */

#define MAX_ARGS 12
#define MAX_IO   (MAX_ARGS + 2) /* with the scales of int8 matrices */

enum {
    OUT = 1,
    TIED = 2,    /* optional, and there exactly with another one */
    WIDER = 4,   /* may have one more column */
    STRIDED = 8, /* takes any strides */
    SCALAR = 16  /* may be one number */
};

struct arg {
    const char *name;
    int64_t dim[6];
    unsigned flags;
    unsigned may; /* outputs: bits of the tensors whose memory it may be */
    const int32_t *ints;
};

/* What a typed function is called with: tensors in the order of the row here, scales beside their matrices. */
struct given {
    const tern_config *config;
    const tern_op_params *params;
    tern_tensor *t[MAX_ARGS], *scale[MAX_ARGS];
    const tern_op_call *call;
};

struct row {
    const char *op;
    const char *set; /* keys and values; NULL: the defaults */
    tern_status (*typed)(tern_ctx *ctx, const struct given *g);
    struct arg arg[MAX_ARGS];
};

#define TYPED(op, ...)                                                  \
    static tern_status typed_##op(tern_ctx *ctx, const struct given *g) \
    {                                                                   \
        const tern_config *c = g->config;                               \
        const tern_op_params *p = g->params;                            \
        tern_tensor *const *t = g->t;                                   \
        (void)c;                                                        \
        (void)p;                                                        \
        return __VA_ARGS__;                                             \
    }

TYPED(linear, tern_linear(ctx, c, t[0], t[1], t[2], t[3]))
TYPED(vector_matmul, tern_vector_matmul(ctx, c, t[0], t[1], t[2]))
TYPED(qkv_gemm, tern_qkv_gemm(ctx, c, t[0], t[1], t[2], t[3], t[4], t[5], t[6]))
TYPED(softmax_context,
      tern_softmax_context(ctx, c, NULL, t[0], t[1], t[2], g->call->cache, 0, g->call->spans, g->call->n_spans, t[3]))
TYPED(mlp_gemm, tern_mlp_gemm(ctx, c, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9]))
TYPED(gelu_gemm, tern_gelu_gemm(ctx, c, t[0], t[1], t[2], t[3], t[4]))
TYPED(residual_add, tern_residual_add(ctx, c, t[0], t[1], t[2], t[3], t[4], t[5], t[6]))
TYPED(softmax, tern_softmax(ctx, c, NULL, t[0], t[1], t[2], t[3]))
TYPED(bias_add, tern_bias_add(ctx, t[0], t[1], t[2]))
TYPED(bias_gelu, tern_bias_gelu(ctx, t[0], t[1], TERN_GELU_UNSET, t[2]))
TYPED(bias_relu, tern_bias_relu(ctx, t[0], t[1], t[2]))
TYPED(bias_residual, tern_bias_residual(ctx, t[0], t[1], t[2], t[3]))
TYPED(gated_activation, tern_gated_activation(ctx, t[0], t[1], TERN_GATE_HALVES, "gelu", t[2]))
TYPED(layer_norm, tern_layer_norm(ctx, t[0], t[1], t[2], c->layer_norm_eps, t[3]))
TYPED(layer_norm_residual, tern_layer_norm_residual(ctx, t[0], t[1], t[2], t[3], t[4], c->layer_norm_eps, t[5], t[6]))
TYPED(rms_norm, tern_rms_norm(ctx, t[0], t[1], c->layer_norm_eps, t[2]))
TYPED(pre_rms_norm, tern_pre_rms_norm(ctx, t[0], t[1], t[2], c->layer_norm_eps, t[3], t[4]))
TYPED(residual_add_bias, tern_residual_add_bias(ctx, t[0], t[1], t[2], t[3], t[4], 2, true, true, false, t[5]))
TYPED(moe_res_matmul, tern_moe_res_matmul(ctx, t[0], t[1], t[2], t[3]))
TYPED(einsum_sec_sm_ecm, tern_einsum_sec_sm_ecm(ctx, t[0], t[1], t[2]))
TYPED(pad_transform, tern_pad_transform(ctx, t[0], t[1], t[2], p->num_heads, t[3], t[4], t[5]))
TYPED(vector_add, tern_vector_add(ctx, t[0], t[1], p->gamma, t[2]))
TYPED(gelu, tern_gelu(ctx, t[0], TERN_GELU_UNSET, t[1]))
TYPED(matmul_4d, tern_matmul_4d(ctx, t[0], t[1], t[2]))
TYPED(score_4d_matmul, tern_score_4d_matmul(ctx, t[0], p->head_size, 0.5f, p->causal, t[1]))
TYPED(context_4d_matmul, tern_context_4d_matmul(ctx, t[0], t[1], p->head_size, t[2]))
TYPED(packed_attention, tern_packed_attention(ctx, t[0], p->num_heads, 0.5f, p->causal, t[1], t[2]))
TYPED(unpacked_attention, tern_unpacked_attention(ctx, t[0], t[1], t[2], 0.5f, p->causal, t[3], t[4]))
TYPED(rotary, tern_rotary(ctx, t[0], t[1], c->rotary_dim, c->rope_theta, true, t[2]))
TYPED(top_k_gating, tern_top_k_gating(ctx, t[0], p->k, t[1], t[2], t[3], t[4], t[5]))
TYPED(moe_scatter, tern_moe_scatter(ctx, t[0], t[1], t[2], t[3], t[4], t[5], t[6]))
TYPED(moe_gather, tern_moe_gather(ctx, t[0], t[1], t[2], p->normalise, t[3]))
TYPED(kv_copy, tern_kv_copy(ctx, t[0], t[1], c->rotary_dim, c->rope_theta, true, t[2], t[3], t[4], t[5]))
TYPED(embedding, tern_embedding(ctx, t[0], t[1], t[2], t[3], p->offset, t[4]))
TYPED(logits_gather, tern_logits_gather(ctx, t[0], t[1], t[2]))
TYPED(matmul, c->dtype == TERN_INT8
                  ? tern_matmul_int8(ctx, t[0], t[1], g->scale[1], c->activation_quant, t[2], p->activation, t[3])
                  : tern_matmul(ctx, t[0], t[1], t[2], p->activation, t[3]))
TYPED(moe_gemm, c->dtype == TERN_INT8 ? tern_moe_gemm_int8(ctx, t[0], t[1], g->scale[1], c->activation_quant, t[2],
                                                           t[3], p->activation, t[4])
                                      : tern_moe_gemm(ctx, t[0], t[1], t[2], t[3], p->activation, t[4]))

static const int32_t at4[] = { 3, 0, 77, 12 }, places[] = { 5, 6, 0, 1 };
static const int32_t chosen[] = { 1, 0, -1, -1, 0, 2, 1, 2 }, slots[] = { 0, 1, -1, -1, 0, 1, 1, 0 };
static const int32_t counts[] = { 2, 2, 2 }, mapped[] = { 2, 1, -1, -1, 0, 5, 3, 4 }, ends[] = { 2, 2, 5 };
static const int32_t ids[] = { 3, 0, 6 }, lengths[] = { 1, 3, 1 }, within[] = { 0, 1, 2 };

#define D(...)          \
    {                   \
        __VA_ARGS__, -1 \
    }
#define IN(name, flags, ...)              \
    {                                     \
        name, D(__VA_ARGS__), flags, 0, 0 \
    }
#define INTS(name, flags, from, ...)         \
    {                                        \
        name, D(__VA_ARGS__), flags, 0, from \
    }
#define RESULT(name, may, ...)            \
    {                                     \
        name, D(__VA_ARGS__), OUT, may, 0 \
    }
#define NUMBER(name)            \
    {                           \
        name, { -1 }, OUT, 0, 0 \
    }

/* clang-format off */
static const struct row rows[] = {
    { "linear", 0, typed_linear, { IN("input", 0, 3, 8), IN("weight", 0, 8, 8), IN("bias", 0, 8), RESULT("output", 0, 3, 8) } },
    { "vector_matmul", 0, typed_vector_matmul, { IN("input", 0, 3, 8), IN("weight", 0, 8, 8), RESULT("output", 0, 3, 8) } },
    { "qkv_gemm", 0, typed_qkv_gemm,
      { IN("input", 0, 3, 8), IN("weight", 0, 8, 20), IN("bias", 0, 20), IN("gamma", 0, 8), IN("beta", 0, 8), RESULT("output", 0, 3, 20),
        RESULT("norm", 0, 3, 8) } },
    { "softmax_context", "hidden_size=8 heads=2", typed_softmax_context,
      { IN("qkv", 0, 3, 24), IN("mask", WIDER | SCALAR, 3, 3), IN("alibi", 0, 2), RESULT("output", 0, 3, 8) } },
    { "mlp_gemm", 0, typed_mlp_gemm,
      { IN("input", TIED, 3, 8), IN("residual", 0, 3, 8), IN("weight", 0, 8, 16), IN("weight_out", 0, 16, 8), IN("input_bias", 0, 8),
        IN("bias", 0, 16), IN("gamma", 0, 8), IN("beta", 0, 8), RESULT("output", 0, 3, 8), RESULT("residual_add", 0, 3, 8) } },
    { "gelu_gemm", 0, typed_gelu_gemm,
      { IN("input", 0, 3, 8), IN("weight", 0, 8, 16), IN("bias", 0, 16), IN("weight_out", 0, 16, 8), RESULT("output", 0, 3, 8) } },
    { "residual_add", 0, typed_residual_add,
      { IN("hidden", 0, 3, 8), IN("residual", 0, 3, 8), IN("attention_output", 0, 3, 8), IN("residual_add", 0, 3, 8),
        IN("attention_bias", 0, 8), IN("final_bias", 0, 8), RESULT("output", 15, 3, 8) } },
    { "softmax", 0, typed_softmax,
      { IN("scores", 0, 1, 2, 3, 8), IN("mask", SCALAR, 1, 1, 3, 8), IN("alibi", WIDER, 2), RESULT("output", 1, 1, 2, 3, 8) } },
    { "bias_add", 0, typed_bias_add, { IN("input", 0, 2, 2, 9), IN("bias", 0, 9), RESULT("output", 1, 2, 2, 9) } },
    { "bias_gelu", 0, typed_bias_gelu, { IN("input", 0, 2, 2, 9), IN("bias", 0, 9), RESULT("output", 1, 2, 2, 9) } },
    { "bias_relu", 0, typed_bias_relu, { IN("input", 0, 2, 2, 9), IN("bias", 0, 9), RESULT("output", 1, 2, 2, 9) } },
    { "bias_residual", 0, typed_bias_residual,
      { IN("input", 0, 4, 9), IN("residual", 0, 4, 9), IN("bias", 0, 9), RESULT("output", 3, 4, 9) } },
    { "gated_activation", 0, typed_gated_activation, { IN("input", 0, 4, 18), IN("bias", 0, 18), RESULT("output", 0, 4, 9) } },
    { "layer_norm", 0, typed_layer_norm,
      { IN("input", 0, 4, 9), IN("gamma", 0, 9), IN("beta", 0, 9), RESULT("output", 1, 4, 9) } },
    { "layer_norm_residual", 0, typed_layer_norm_residual,
      { IN("input", 0, 4, 9), IN("input_bias", 0, 9), IN("residual", 0, 4, 9), IN("gamma", 0, 9), IN("beta", 0, 9),
        RESULT("output", 5, 4, 9), RESULT("sum", 5, 4, 9) } },
    { "rms_norm", 0, typed_rms_norm, { IN("input", 0, 4, 9), IN("gamma", 0, 9), RESULT("output", 1, 4, 9) } },
    { "pre_rms_norm", 0, typed_pre_rms_norm,
      { IN("input", 0, 4, 9), IN("residual", 0, 4, 9), IN("gamma", 0, 9), RESULT("output", 3, 4, 9), RESULT("residual", 3, 4, 9) } },
    { "residual_add_bias", "mp_size=2", typed_residual_add_bias,
      { IN("hidden", 0, 4, 9), IN("residual", 0, 4, 9), IN("attention_output", 0, 4, 9), IN("attention_bias", 0, 9),
        IN("final_bias", 0, 9), RESULT("output", 7, 4, 9) } },
    { "moe_res_matmul", 0, typed_moe_res_matmul,
      { IN("residual", 0, 4, 9), IN("coef", 0, 4, 2), IN("experts", 0, 4, 9), RESULT("output", 5, 4, 9) } },
    { "einsum_sec_sm_ecm", 0, typed_einsum_sec_sm_ecm, { IN("q", 0, 5, 3, 4), IN("w", 0, 5, 7), RESULT("output", 0, 3, 4, 7) } },
    { "pad_transform", "num_heads=3", typed_pad_transform,
      { IN("query", 0, 2, 3, 15), IN("key", TIED, 2, 4, 15), IN("value", TIED, 2, 4, 15), { "query_output", D(2, 3, 3, 32), OUT | WIDER, 0, 0 },
        { "key_output", D(2, 3, 6, 32), OUT | TIED | WIDER, 0, 0 }, { "value_output", D(2, 3, 6, 32), OUT | TIED | WIDER, 0, 0 } } },
    { "vector_add", "gamma=0.5", typed_vector_add, { IN("a", 0, 4, 9), IN("b", 0, 4, 9), RESULT("output", 3, 4, 9) } },
    { "workspace", "hidden_size=8 heads=2 batch=2", NULL,
      { NUMBER("tokens"), NUMBER("rows"), NUMBER("qkv"), NUMBER("normed"), NUMBER("context"), NUMBER("inner"), NUMBER("output"),
        NUMBER("scores"), NUMBER("cache"), NUMBER("total") } },
    { "gelu", 0, typed_gelu, { IN("input", 0, 4, 9), RESULT("output", 1, 4, 9) } },
    { "matmul", "activation=gelu", typed_matmul,
      { IN("a", STRIDED, 3, 8), IN("b", STRIDED, 8, 10), IN("bias", 0, 10), RESULT("output", 0, 3, 10) } },
    { "matmul_4d", 0, typed_matmul_4d, { IN("a", 0, 2, 2, 3, 5), IN("b", 0, 2, 2, 5, 4), RESULT("output", 0, 2, 2, 3, 4) } },
    { "score_4d_matmul", "head_size=4 causal=true", typed_score_4d_matmul, { IN("qkv", 0, 2, 5, 24), RESULT("output", 0, 2, 2, 5, 5) } },
    { "context_4d_matmul", "head_size=4", typed_context_4d_matmul,
      { IN("prob", 0, 2, 2, 5, 5), IN("qkv", 0, 2, 5, 24), RESULT("output", 0, 2, 5, 8) } },
    { "packed_attention", "num_heads=2 causal=true", typed_packed_attention,
      { IN("qkv", 0, 2, 5, 24), IN("mask", SCALAR, 5, 5), RESULT("output", 0, 2, 5, 8) } },
    { "unpacked_attention", "scale=0.5 causal=true", typed_unpacked_attention,
      { IN("q", 0, 2, 4, 3, 8), IN("k", 0, 2, 2, 5, 8), IN("v", 0, 2, 2, 5, 6), IN("mask", SCALAR, 3, 5), RESULT("output", 0, 2, 4, 3, 6) } },
    { "rotary", "rotary_dim=4", typed_rotary, { IN("input", 0, 4, 3, 8), INTS("position_ids", 0, at4, 4), RESULT("output", 1, 4, 3, 8) } },
    { "top_k_gating", "k=2", typed_top_k_gating,
      { IN("logits", 0, 4, 5), IN("padding", 0, 4), RESULT("scores", 0, 4, 2), RESULT("experts", 0, 4, 2), RESULT("slots", 0, 4, 2),
        RESULT("counts", 0, 5) } },
    { "moe_scatter", 0, typed_moe_scatter,
      { IN("input", 0, 4, 9), INTS("experts", 0, chosen, 4, 2), INTS("slots", 0, slots, 4, 2), INTS("counts", 0, counts, 3),
        RESULT("output", 0, 6, 9), RESULT("mapped_slots", 4, 4, 2), RESULT("row_ends", 0, 3) } },
    { "moe_gemm", "activation=gelu_tanh", typed_moe_gemm,
      { IN("input", 0, 5, 8), IN("weight", STRIDED, 3, 8, 10), IN("bias", 0, 3, 10), INTS("row_ends", 0, ends, 3), RESULT("output", 0, 5, 10) } },
    { "moe_gather", "normalise=true", typed_moe_gather,
      { IN("input", 0, 6, 9), IN("scores", 0, 4, 2), INTS("mapped_slots", 0, mapped, 4, 2), RESULT("output", 0, 4, 9) } },
    { "kv_copy", "rotary_dim=4", typed_kv_copy,
      { IN("input", 0, 2, 2, 2, 3, 8), INTS("position_ids", TIED, places, 2, 2), IN("past_key", TIED, 2, 3, 7, 8),
        IN("past_value", TIED, 2, 3, 7, 8), RESULT("key", 0, 2, 3, 7, 8), RESULT("value", 0, 2, 3, 7, 8) } },
    { "embedding", "offset=1", typed_embedding,
      { INTS("ids", 0, ids, 3), IN("table", 0, 7, 9), IN("position_table", 0, 4, 9), INTS("position_ids", TIED, within, 3), RESULT("output", 0, 3, 9) } },
    { "logits_gather", 0, typed_logits_gather, { IN("input", 0, 5, 9), INTS("lengths", 0, lengths, 3), RESULT("output", 0, 3, 9) } },
    { "quantize", "scheme=injection", NULL, { IN("input", 0, 3, 7), RESULT("output", 0, 3, 7), RESULT("scale", 0, 3) } },
    { "dequantize", "scheme=injection", NULL, { IN("input", 0, 3, 7), IN("scale", SCALAR, 3), RESULT("output", 0, 3, 7) } },
};
/* clang-format on */
#define N_ROWS (sizeof rows / sizeof rows[0])

static void test_every_operator_has_a_row(void **state)
{
    (void)state;
    for (int i = 0; i < tern_op_count(); i++) {
        bool found = false;
        for (size_t r = 0; r < N_ROWS; r++)
            found |= strcmp(rows[r].op, tern_op_name(i)) == 0;
        if (!found)
            fail_msg("%s has no row in %s", tern_op_name(i), __FILE__);
    }
}

struct call {
    const struct row *row;
    const struct dt_kind *kind;
    size_t n, n_args; /* tensors, and those of them that the row lists: scales come behind */
    tern_op_io io[MAX_IO];
    tern_tensor t[MAX_IO];
    size_t bytes[MAX_IO];
    tern_op_type type[MAX_IO];
    bool optional[MAX_IO], out[MAX_IO];
    int of[MAX_IO]; /* the matrix of scales; -1: none */
    char scale_name[2][32];
    tern_op_settings settings;
    tern_op_call extra;
    tern_kv_cache *cache;
    tern_kv_span span;
    tern_op *op;
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

static tern_tensor filled(const struct arg *a, tern_dtype dtype)
{
    if (a->flags & OUT)
        return fn_out(dtype, a->dim);
    if (a->ints)
        return fn_ints(a->ints, a->dim);
    if (dtype != TERN_BOOL && dtype != TERN_INT8)
        return fn_in(dtype, 0.7f, a->dim);
    tern_tensor t = fn_out(dtype, a->dim);
    for (size_t i = 0; i < fn_elements(&t); i++)
        if (dtype == TERN_BOOL)
            ((bool *)t.data)[i] = i % 3 == 2;
        else
            ((int8_t *)t.data)[i] = (int8_t)((int)(test_random(&test_seed) % 255) - 127);
    return t;
}

static void add(struct call *c, const char *name, tern_tensor t, tern_op_type type, bool optional, bool out, int of)
{
    const size_t i = c->n++;

    c->t[i] = t;
    c->bytes[i] = fn_elements(&t) * tern_dtype_size(t.dtype);
    c->type[i] = type;
    c->optional[i] = optional;
    c->out[i] = out;
    c->of[i] = of;
    c->io[i] = (tern_op_io){ name, &c->t[i] };
}

static void build(tern_ctx *ctx, struct call *c, const struct row *row, const struct dt_kind *kind)
{
    const int index = tern_op_find(row->op);
    tern_op_description d;
    char text[128], *rest = text;

    *c = (struct call){ .row = row,
                        .kind = kind,
                        .settings = { .config = dt_config(kind), .params = tern_op_params_default() } };
    snprintf(text, sizeof text, "%s", row->set ? row->set : "");
    for (char *key; (key = strtok_r(rest, " =", &rest));)
        assert_ok(ctx, tern_op_settings_set(ctx, index, &c->settings, key, strtok_r(rest, " ", &rest)));
    assert_true(tern_op_describe(index, &d));
    test_seed = 4711;
    for (const struct arg *a = row->arg; a < row->arg + MAX_ARGS && a->name; a++) {
        const int slot = tern_op_tensor_find(index, a->name, a->flags & OUT);
        if (slot < 0)
            fail_msg("%s has no tensor %s", row->op, a->name);
        const tern_op_type type = d.tensors[slot].type;
        add(c, a->name, filled(a, dtype_of(kind, type)), type, d.tensors[slot].optional, a->flags & OUT, -1);
    }
    c->n_args = c->n;
    for (size_t i = 0, scales = 0; i < c->n_args && kind->dtype == TERN_INT8; i++) {
        if (c->type[i] != TERN_OP_MATRIX)
            continue;
        tern_tensor s = c->t[i].rank == 3 ? FN_OUT(TERN_FP32, c->t[i].dim[0], 2) : FN_OUT(TERN_FP32, 2);
        for (size_t e = 0; e < fn_elements(&s); e++)
            ((float *)s.data)[e] = 0.003f + 0.001f * (float)e;
        snprintf(c->scale_name[scales], sizeof c->scale_name[scales], "%s_scale", c->io[i].name);
        add(c, c->scale_name[scales++], s, TERN_OP_SCALE, false, false, (int)i);
    }
    c->extra.params = &c->settings.params;
    if (strcmp(row->op, "softmax_context") == 0) {
        const tern_kv_shape shape = {
            .n_layers = 1, .n_kv_heads = 2, .head_dim = 4, .n_positions = 64, .n_sequences = 1, .n_context = 64
        };
        assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &c->cache));
        assert_ok(ctx, tern_kv_sequence_add(ctx, c->cache, &c->span.sequence));
        c->span.n_rows = 3;
        assert_ok(ctx, tern_kv_reserve(ctx, c->cache, &c->span, 1));
        c->extra.cache = c->cache;
        c->extra.spans = &c->span;
        c->extra.n_spans = 1;
    }
    assert_ok(ctx, tern_op_create(ctx, row->op, &c->settings.config, &c->op));
}

static void finish(struct call *c)
{
    tern_op_destroy(&c->op);
    assert_null(c->op);
    tern_kv_cache_destroy(&c->cache);
}

#define EACH_CALL(row, kind)                                       \
    for (const struct row *row = rows; row < rows + N_ROWS; row++) \
        for (const struct dt_kind *kind = dt_kinds; kind < dt_kinds + DT_KINDS; kind++)

static tern_status named(tern_ctx *ctx, struct call *c)
{
    return tern_op_run(ctx, c->op, c->io, c->n, &c->extra);
}

/* The same call through the typed function, where there is one: int8 matrices are packed for those that take a config. */
static tern_status typed(tern_ctx *ctx, struct call *c)
{
    const bool function = strcmp(c->row->op, "matmul") == 0 || strcmp(c->row->op, "moe_gemm") == 0;
    struct given g = { .config = &c->settings.config, .params = &c->settings.params, .call = &c->extra };
    tern_weight *packed[MAX_IO] = { NULL };
    tern_tensor views[MAX_IO];

    for (size_t i = 0; i < c->n_args; i++)
        g.t[i] = c->io[i].tensor;
    for (size_t i = c->n_args; i < c->n; i++) {
        const int of = c->of[i];
        g.scale[of] = c->io[i].tensor;
        if (function || !g.t[of])
            continue;
        assert_ok(ctx, tern_weight_pack_as(ctx, g.t[of], false, TERN_INT8, c->io[i].tensor, &packed[of]));
        views[of] = tern_weight_view(packed[of]);
        g.t[of] = &views[of];
    }
    const tern_status status = c->row->typed(ctx, &g);
    for (size_t i = 0; i < MAX_IO; i++)
        tern_weight_destroy(&packed[i]);
    return status;
}

static void check_outputs(const struct call *c)
{
    for (size_t i = 0; i < c->n; i++)
        for (size_t b = 0; c->out[i] && c->t[i].data && b < c->bytes[i]; b++)
            if (((const unsigned char *)c->t[i].data)[b] != FN_POISON && c->t[i].rank >= 0)
                fail_msg("%s in %s: %s was written on error", c->row->op, c->kind->name, c->io[i].name);
}

static void test_by_name_equals_typed(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    EACH_CALL(row, kind)
    {
        tern_tensor none = tern_tensor_none();
        struct call c;
        build(ctx, &c, row, kind);
        if (named(ctx, &c) != TERN_OK)
            fail_msg("%s in %s: %s", row->op, kind->name, tern_error(ctx));
        void *kept[MAX_IO];
        for (size_t i = 0; i < c.n; i++) {
            kept[i] = fn_keep(&c.t[i]);
            if (c.out[i])
                memset(c.t[i].data, FN_POISON, c.bytes[i]);
        }
        if (row->typed) {
            assert_ok(ctx, typed(ctx, &c));
            for (size_t i = 0; i < c.n; i++)
                if (memcmp(kept[i], c.t[i].data, c.bytes[i]) != 0)
                    fail_msg("%s in %s: %s by name has other bits", row->op, kind->name, c.io[i].name);
        }
        /* Optional tensors may be left out, or be there as NULL or as none. */
        for (size_t i = 0; i < c.n_args; i++)
            if (c.optional[i] && !(row->arg[i].flags & TIED)) {
                const tern_op_io kept_io = c.io[i];
                c.io[i].tensor = NULL;
                assert_ok(ctx, named(ctx, &c));
                c.io[i].tensor = &none;
                assert_ok(ctx, named(ctx, &c));
                c.io[i] = c.io[--c.n];
                assert_ok(ctx, named(ctx, &c));
                c.io[c.n++] = c.io[i];
                c.io[i] = kept_io;
                for (size_t k = 0; k < c.n; k++)
                    c.io[k].tensor = &c.t[k];
            }
        finish(&c);
        test_teardown(NULL);
    }
    tern_op_destroy(NULL);
    tern_ctx_destroy(&ctx);
}

/* The tensors of a row under their other names: the same bits. */
static void test_other_names_of_tensors(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    int found = 0;

    EACH_CALL(row, kind)
    {
        const int index = tern_op_find(row->op);
        tern_op_description d;
        char other[MAX_IO][32];
        void *kept[MAX_IO];
        struct call c;

        build(ctx, &c, row, kind);
        assert_true(tern_op_describe(index, &d));
        assert_ok(ctx, named(ctx, &c));
        for (size_t i = 0; i < c.n; i++)
            kept[i] = fn_keep(&c.t[i]);
        for (size_t word = 0; word < 2; word++) {
            finish(&c);
            build(ctx, &c, row, kind);
            for (size_t i = 0; i < c.n; i++) {
                const char *also = d.tensors[tern_op_tensor_find(index, c.io[i].name, c.out[i])].also;
                for (size_t skip = word; also && skip > 0 && (also = strchr(also, ' ')); skip--)
                    also++;
                if (!also)
                    continue;
                snprintf(other[i], sizeof other[i], "%.*s", (int)strcspn(also, " "), also);
                c.io[i].name = other[i];
                found++;
            }
            if (named(ctx, &c) != TERN_OK)
                fail_msg("%s in %s under other names: %s", row->op, kind->name, tern_error(ctx));
            for (size_t i = 0; i < c.n; i++)
                if (memcmp(kept[i], c.t[i].data, c.bytes[i]) != 0)
                    fail_msg("%s in %s: %s under its other name has other bits", row->op, kind->name, c.io[i].name);
        }
        finish(&c);
        test_teardown(NULL);
    }
    assert_true(found > 100);
    /* Those of the specification's signatures. */
    static const char *const names[][3] = {
        { "mlp_gemm", "weight_interm", "weight" },
        { "mlp_gemm", "weight_interm_scale", "weight_scale" },
        { "softmax_context", "attn_mask", "mask" },
        { "residual_add", "hidden_state", "hidden" },
        { "bias_add", "x", "input" },
        { "moe_res_matmul", "output", "experts" },
        { "einsum_sec_sm_ecm", "Q", "q" },
        { "pad_transform", "q", "query" },
        { "fp16_matmul", "A", "a" },
        { "layer_norm", "w", "gamma" },
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const int index = tern_op_find(names[i][0]), slot = tern_op_tensor_find(index, names[i][1], false);
        tern_op_description d;
        assert_true(slot >= 0 && tern_op_describe(index, &d));
        assert_string_equal(d.tensors[slot].name, names[i][2]);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- what can be wrong with a tensor ---- */

enum defect { NO_DATA, DTYPE, ONE_WIDER, RANK, INVALID, STRIDE, ALIGNMENT, NEGATIVE, PACKED, DEFECTS };

/* TERN_OK: any error will do, as which one it is depends on what else there is. */
static tern_status make(enum defect defect, tern_tensor *t, tern_tensor packed)
{
    switch (defect) {
    case NO_DATA:
        t->data = NULL;
        return TERN_ERR_ARG;
    case DTYPE:
        t->dtype = TERN_FP8_E4M3; /* bool and integers may be masks */
        return TERN_ERR_DTYPE;
    case ONE_WIDER: /* dense, with one more column */
        t->dim[t->rank - 1]++;
        *t = tern_tensor_view(t->data, t->dtype, t->rank, t->dim);
        return TERN_OK;
    case RANK:
        t->rank = 0;
        return TERN_ERR_SHAPE;
    case INVALID:
        t->rank = 9;
        return TERN_ERR_SHAPE;
    case STRIDE:
        t->stride[t->rank - 1] = 2;
        return TERN_ERR_SHAPE;
    case ALIGNMENT:
        t->data = (char *)t->data + 1;
        return TERN_ERR_ARG;
    case NEGATIVE:
        t->dim[0] = -1;
        return TERN_ERR_SHAPE;
    default:
        *t = packed;
        return TERN_OK;
    }
}

/* Whether tensor i can have this defect at all. */
static bool can_have(const struct call *c, size_t i, enum defect defect)
{
    const unsigned flags = i < c->n_args ? c->row->arg[i].flags : 0;

    if (c->t[i].rank == 0 && (defect == ONE_WIDER || defect == RANK || defect == STRIDE || defect == NEGATIVE))
        return false;
    return !(defect == ONE_WIDER && flags & WIDER) && !(defect == RANK && flags & SCALAR) &&
           !(defect == STRIDE && flags & STRIDED && c->kind->dtype != TERN_INT8) &&
           !(defect == ALIGNMENT && tern_dtype_size(c->t[i].dtype) == 1);
}

static void try_defect(tern_ctx *ctx, struct call *c, size_t i, enum defect defect, tern_tensor packed)
{
    const tern_tensor good = c->t[i];
    const bool matrix = c->type[i] == TERN_OP_MATRIX || c->of[i] >= 0;
    char text[96];
    tern_status want = make(defect, &c->t[i], packed);

    if (matrix || c->kind->dtype == TERN_INT8)
        want = matrix ? TERN_OK : want; /* a matrix in int8 is told with its scales */
    const tern_status got = named(ctx, c);
    if (got == TERN_OK || (want != TERN_OK && got != want))
        fail_msg("%s in %s: %s with defect %d gives \"%s\" (%s), expected %s", c->row->op, c->kind->name, c->io[i].name,
                 (int)defect, tern_status_name(got), tern_error(ctx), tern_status_name(want));
    /* The text names operator and tensor; a wider tensor, or one of rank 0, may only show in one that has to fit it. */
    const bool elsewhere = matrix || defect == ONE_WIDER || defect == RANK || defect == NEGATIVE;
    snprintf(text, sizeof text, "%s: %s", c->row->op, elsewhere ? "" : c->io[i].name);
    if (strncmp(tern_error(ctx), text, strlen(text)) != 0 || !strstr(tern_error(ctx), "expected"))
        fail_msg("%s in %s: %s with defect %d has the text \"%s\"", c->row->op, c->kind->name, c->io[i].name,
                 (int)defect, tern_error(ctx));
    c->t[i] = good;
    check_outputs(c);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    float *w = test_floats(8, 1);
    const tern_tensor raw = t2(w, 2, 4);
    tern_weight *weight;

    assert_ok(ctx, tern_weight_pack(ctx, &raw, false, &weight));
    EACH_CALL(row, kind)
    {
        struct call c;
        build(ctx, &c, row, kind);
        for (size_t i = 0; i < c.n; i++)
            for (int d = 0; d < DEFECTS; d++)
                if (can_have(&c, i, (enum defect)d))
                    try_defect(ctx, &c, i, (enum defect)d, tern_weight_view(weight));
        for (size_t i = 0; i < c.n_args; i++)
            if (!c.optional[i] ||
                (row->arg[i].flags & TIED && c.type[i] == TERN_OP_ACTIVATION && strcmp(row->op, "mlp_gemm") == 0)) {
                c.io[i].tensor = NULL;
                /* mlp_gemm does without input in a parallel block, so the table lets it be left out. */
                assert_fails(ctx, named(ctx, &c), TERN_ERR_ARG,
                             c.optional[i] ? "input is NULL" : "missing, the tensors are");
                if (row->typed)
                    assert_fails(ctx, typed(ctx, &c), TERN_ERR_ARG, "NULL, expected a tensor");
                c.io[i].tensor = &c.t[i];
                check_outputs(&c);
            }
        if (row->typed) {
            struct given g = { .config = &c.settings.config, .params = &c.settings.params, .call = &c.extra };
            for (size_t i = 0; i < c.n_args; i++)
                g.t[i] = &c.t[i];
            assert_int_equal(row->typed(NULL, &g), TERN_ERR_ARG);
            check_outputs(&c);
        }
        finish(&c);
    }
    tern_weight_destroy(&weight);
    tern_ctx_destroy(&ctx);
}

/* Every output on top of every other tensor, exactly and shifted by eight bytes. */
static void test_overlaps(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    EACH_CALL(row, kind)
    {
        struct call c;
        build(ctx, &c, row, kind);
        for (size_t o = 0; o < c.n; o++)
            for (size_t i = 0; i < c.n; i++)
                for (size_t shift = 0; shift <= 8; shift += 8) {
                    if (!c.out[o] || i == o || c.bytes[o] <= shift)
                        continue;
                    const size_t room = 16 + shift + (c.bytes[o] > c.bytes[i] ? c.bytes[o] : c.bytes[i]);
                    char *memory = test_bytes(room), *before = test_bytes(room);
                    const tern_tensor kept[2] = { c.t[o], c.t[i] };
                    memset(memory, FN_POISON, room);
                    memcpy(memory + shift, c.t[i].data, c.bytes[i]);
                    memcpy(before, memory, room);
                    c.t[o].data = memory;
                    c.t[i].data = memory + shift;
                    const tern_status got = named(ctx, &c);
                    if (shift == 0 && i < c.n_args && row->arg[o].may >> i & 1) {
                        assert_ok(ctx, got);
                    } else if (c.type[i] == TERN_OP_MATRIX && kind->dtype == TERN_INT8 && c.t[i].rank == 2 &&
                               row->typed != typed_matmul) {
                        assert_ok(ctx, got); /* it was packed before anything was written */
                    } else if (c.of[i] >= 0 && c.t[c.of[i]].rank == 2 && row->typed != typed_matmul) {
                        assert_ok(ctx, got);
                    } else {
                        if (got != TERN_ERR_ARG || !strstr(tern_error(ctx), "overlaps") ||
                            strncmp(tern_error(ctx), row->op, strlen(row->op)) != 0 ||
                            !strstr(tern_error(ctx), c.io[i].name))
                            fail_msg("%s in %s: %s over %s gives \"%s\" (%s)", row->op, kind->name, c.io[o].name,
                                     c.io[i].name, tern_status_name(got), tern_error(ctx));
                        assert_memory_equal(memory, before, room);
                    }
                    c.t[o] = kept[0];
                    c.t[i] = kept[1];
                }
        finish(&c);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* Raw int8 matrices come with their scales: G numbers that divide the output channels, all finite; and only they do. */
static void test_scales_of_int8(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    EACH_CALL(row, kind)
    {
        struct call c;
        build(ctx, &c, row, kind);
        for (size_t i = 0; i < c.n; i++) {
            if (c.of[i] >= 0) {
                float *scale = c.t[i].data, one = scale[1];
                c.io[i].tensor = NULL;
                assert_fails(ctx, named(ctx, &c), TERN_ERR_ARG, "_scale is ");
                c.io[i].tensor = &c.t[i];
                scale[1] = INFINITY;
                assert_fails(ctx, named(ctx, &c), TERN_ERR_ARG, "_scale has inf at 1, expected a finite number");
                scale[1] = one;
                check_outputs(&c);
                /* One for all channels, and one for each. */
                const tern_tensor kept = c.t[i], *m = &c.t[c.of[i]];
                const int64_t n = m->dim[m->rank - 1];
                for (int each = 0; each < 2; each++) {
                    tern_tensor s = m->rank == 3 ? FN_IN(TERN_FP32, 0.01f, m->dim[0], each ? n : 1)
                                                 : FN_IN(TERN_FP32, 0.01f, each ? n : 1);
                    c.t[i] = s;
                    assert_ok(ctx, named(ctx, &c));
                }
                c.t[i] = kept;
                for (size_t k = 0; k < c.n; k++)
                    if (c.out[k])
                        memset(c.t[k].data, FN_POISON, c.bytes[k]);
            } else if (c.type[i] == TERN_OP_MATRIX && kind->dtype != TERN_INT8) {
                tern_tensor s = FN_IN(TERN_FP32, 1, 2);
                char name[32];
                snprintf(name, sizeof name, "%s_scale", c.io[i].name);
                c.io[c.n++] = (tern_op_io){ name, &s };
                assert_fails(ctx, named(ctx, &c), TERN_ERR_ARG, "_scale is given");
                c.n--;
                check_outputs(&c);
            }
        }
        finish(&c);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* fp16_matmul is matmul's name at fp16 alone. */
static void test_another_name(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_config config = test_config();
    tern_op *op;

    assert_int_equal(tern_op_find("fp16_matmul"), tern_op_find("matmul"));
    assert_fails(ctx, tern_op_create(ctx, "fp16_matmul", &config, &op), TERN_ERR_UNSUPPORTED,
                 "fp16_matmul: dtype is fp32, expected fp16, or the name matmul");
    assert_null(op);
    config.dtype = TERN_FP16;
    assert_ok(ctx, tern_op_create(ctx, "fp16_matmul", &config, &op));
    tern_op_destroy(&op);
    tern_ctx_destroy(&ctx);
}

/* ---- names and configs ---- */

static void test_names(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const tern_config config = test_config();
    tern_op *op = (tern_op *)ctx;
    float x[4] = { 0 };
    tern_tensor t = t2(x, 2, 2);

    assert_true(tern_op_count() > 8);
    assert_null(tern_op_name(-1));
    assert_null(tern_op_name(tern_op_count()));
    assert_fails(ctx, tern_op_create(ctx, "conv", &config, &op), TERN_ERR_UNSUPPORTED,
                 "unsupported transformer operation: conv\nknown operations: qkv_gemm, softmax_context, vector_matmul, "
                 "mlp_gemm, "
                 "gelu_gemm, residual_add, linear, softmax");
    assert_null(op);
    assert_fails(ctx, tern_op_create(ctx, "", &config, &op), TERN_ERR_UNSUPPORTED,
                 "unsupported transformer operation: \n");
    assert_fails(ctx, tern_op_create(ctx, "linea", &config, &op), TERN_ERR_UNSUPPORTED, "operation: linea\n");
    assert_fails(ctx, tern_op_create(ctx, NULL, &config, &op), TERN_ERR_ARG, "name is NULL");
    assert_fails(ctx, tern_op_create(ctx, "linear", NULL, &op), TERN_ERR_ARG, "config is NULL");
    assert_fails(ctx, tern_op_create(ctx, "linear", &config, NULL), TERN_ERR_ARG, "out is NULL");

    assert_ok(ctx, tern_op_create(ctx, "linear", &config, &op));
    const tern_op_io unknown[] = { { "input", &t }, { "wieght", &t } }, twice[] = { { "input", &t }, { "input", &t } };
    const tern_op_io prefix[] = { { "bia", &t } }, marked[] = { { "bias?", &t } }, unnamed[] = { { NULL, &t } };
    assert_fails(ctx, tern_op_run(ctx, op, unknown, 2, NULL), TERN_ERR_ARG,
                 "linear: tensor wieght is unknown, the tensors are: input, weight, bias, output");
    assert_fails(ctx, tern_op_run(ctx, op, twice, 2, NULL), TERN_ERR_ARG, "tensor input is given twice");
    assert_fails(ctx, tern_op_run(ctx, op, prefix, 1, NULL), TERN_ERR_ARG, "tensor bia is unknown");
    assert_fails(ctx, tern_op_run(ctx, op, marked, 1, NULL), TERN_ERR_ARG, "tensor bias? is unknown");
    assert_fails(ctx, tern_op_run(ctx, op, unnamed, 1, NULL), TERN_ERR_ARG, "the name of tensor 0 is NULL");
    assert_fails(ctx, tern_op_run(ctx, op, unknown, 1, NULL), TERN_ERR_ARG, "tensor weight is missing");
    assert_fails(ctx, tern_op_run(ctx, op, NULL, 1, NULL), TERN_ERR_ARG, "io is NULL");
    assert_fails(ctx, tern_op_run(ctx, NULL, NULL, 0, NULL), TERN_ERR_ARG, "op is NULL");
    tern_op_destroy(&op);
    tern_ctx_destroy(&ctx);
}

static void test_table(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_config config = test_config();
    tern_op *op;

    config.hidden_size = 8;
    config.heads = 2;
    for (int i = 0; i < tern_op_count(); i++) {
        const char *name = tern_op_name(i);
        const bool normed = strcmp(name, "qkv_gemm") == 0 || strcmp(name, "mlp_gemm") == 0;
        tern_config bad = config;
        bad.dtype = TERN_FP64;
        assert_fails(ctx, tern_op_create(ctx, name, &bad, &op), TERN_ERR_UNSUPPORTED,
                     ": dtype fp64 (4) is not there, there is: fp32");
        bad.dtype = (tern_dtype)77;
        assert_fails(ctx, tern_op_create(ctx, name, &bad, &op), TERN_ERR_UNSUPPORTED, "(77) is not there");
        bad = config;
        bad.device = (tern_device)1;
        assert_fails(ctx, tern_op_create(ctx, name, &bad, &op), TERN_ERR_UNSUPPORTED,
                     "device ? (1) is not there, there is: cpu");
        bad = config;
        bad.kernel = (tern_kernel_choice)2;
        assert_fails(ctx, tern_op_create(ctx, name, &bad, &op), TERN_ERR_CONFIG, "kernel is 2");
        bad = config;
        bad.norm_type = (tern_norm)2; /* GroupNorm */
        if (normed)
            assert_fails(ctx, tern_op_create(ctx, name, &bad, &op), TERN_ERR_UNSUPPORTED,
                         "norm_type ? (2) is not there, there is: LayerNorm, RMSNorm");
        else
            assert_ok(ctx, tern_op_create(ctx, name, &bad, &op));
        tern_op_destroy(&op);
    }
    /* The default of a config is fp16, as in DeepSpeed. */
    assert_int_equal(tern_config_default().dtype, TERN_FP16);
    tern_ctx_destroy(&ctx);
}

static void test_bad_configs(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_config good = test_config(), bad;
    tern_op *op;

    good.hidden_size = 24;
    good.heads = 4;
    good.num_kv = 2;
#define BAD(name, change, part)                                                     \
    bad = good;                                                                     \
    change;                                                                         \
    assert_fails(ctx, tern_op_create(ctx, name, &bad, &op), TERN_ERR_CONFIG, part); \
    assert_null(op)
#define GOOD(name, change)                                \
    bad = good;                                           \
    change;                                               \
    assert_ok(ctx, tern_op_create(ctx, name, &bad, &op)); \
    tern_op_destroy(&op)
    BAD("softmax_context", bad.hidden_size = -1, "hidden_size is -1, expected 1 or more");
    BAD("softmax_context", bad.heads = -1, "heads is -1, expected a divisor of hidden_size 24");
    BAD("softmax_context", bad.heads = 5, "heads is 5, expected a divisor of hidden_size 24");
    BAD("softmax_context", (bad.hidden_size = 1026, bad.heads = 2), "heads of 513 values, expected 512 at most");
    BAD("softmax_context", bad.num_kv = 0, "num_kv is 0");
    BAD("softmax_context", bad.num_kv = 3, "num_kv is 3, expected a divisor of heads 4");
    BAD("softmax_context", bad.mp_size = 0, "mp_size is 0");
    BAD("softmax_context", bad.mp_size = 4, "mp_size is 4, expected a divisor of heads 4 and of num_kv 2");
    BAD("softmax_context", bad.rotary_dim = 3, "rotary_dim is 3, expected an even number up to 6");
    BAD("softmax_context", bad.rotary_dim = 8, "rotary_dim is 8, expected an even number up to 6");
    BAD("softmax_context", (bad.rotary_dim = 4, bad.rope_theta = 1), "rope_theta is 1");
    BAD("softmax_context", (bad.rotary_dim = 4, bad.rope_theta = NAN), "rope_theta is nan");
    BAD("softmax_context", (bad.rotary_dim = 4, bad.rotate_every_two = 2), "rotate_every_two is 2");
    BAD("softmax_context", (bad.rotary_dim = 4, bad.rotate_every_two = 0), "neither rotate_half nor rotate_every_two");
    BAD("softmax_context", (bad.local_attention = true, bad.window_size = 0), "window_size is 0");
    BAD("softmax_context", bad.scale_attn_by_inverse_layer_idx = true, "layer_id is -1");
    GOOD("softmax_context", bad.rotary_dim = 4);
    GOOD("softmax_context", (bad.rotary_dim = 0, bad.rotate_half = true, bad.rotate_every_two = 1)); /* nothing turns */
    BAD("qkv_gemm", bad.layer_norm_eps = -1, "layer_norm_eps is -1");
    BAD("qkv_gemm", bad.layer_norm_eps = NAN, "layer_norm_eps is nan");
    BAD("mlp_gemm", bad.mlp_act_func_type = (tern_activation)0, "mlp_act_func_type is 0, expected GELU 1");
    BAD("mlp_gemm", bad.mlp_act_func_type = (tern_activation)5, "mlp_act_func_type is 5");
    BAD("mlp_gemm", bad.gelu = (tern_gelu_form)4, "gelu is 4, expected unset 0, tanh 1, erf 2 or sigmoid 3");
    BAD("gelu_gemm", bad.gelu = (tern_gelu_form)-1, "gelu is -1");
    BAD("residual_add", bad.mp_size = -2, "mp_size is -2, expected 1 or more");
    /* Fields that an operator does not read do not matter to it. */
    GOOD("linear", (bad.heads = 5, bad.gelu = (tern_gelu_form)9, bad.mp_size = 0, bad.layer_norm_eps = -1));
#undef BAD
#undef GOOD
    /* The norm is not there in that block, each alone is. */
    bad = good;
    bad.norm_type = TERN_RMS_NORM;
    bad.pre_layer_norm = false;
    assert_fails(ctx, tern_op_create(ctx, "qkv_gemm", &bad, &op), TERN_ERR_UNSUPPORTED,
                 "norm_type is RMSNorm and pre_layer_norm is false, there is: LayerNorm");
    assert_fails(ctx, tern_op_create(ctx, "mlp_gemm", &bad, &op), TERN_ERR_UNSUPPORTED,
                 "norm_type is RMSNorm and pre_layer_norm is false, there is: LayerNorm");
    bad = good;
    bad.bigscience_bloom = true;
    assert_fails(ctx, tern_op_create(ctx, "softmax_context", &bad, &op), TERN_ERR_CONFIG,
                 "num_kv is 2 with bigscience_bloom, expected heads 4");
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);
    const tern_config config = test_config();
    tern_op *op = NULL;

    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_op_create(ctx, "linear", &config, &op);
        FAULT_DONE(n, ctx, status, op);
        tern_op_destroy(&op);
    }
    tern_op_destroy(&op);

    EACH_CALL(row, kind)
    {
        struct call c;
        build(ctx, &c, row, kind);
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = named(ctx, &c);
            FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
            check_outputs(&c);
        }
        finish(&c);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_every_operator_has_a_row),
        OP_TEST(test_by_name_equals_typed),
        OP_TEST(test_other_names_of_tensors),
        OP_TEST(test_bad_tensors),
        OP_TEST(test_overlaps),
        OP_TEST(test_scales_of_int8),
        OP_TEST(test_another_name),
        OP_TEST(test_names),
        OP_TEST(test_table),
        OP_TEST(test_bad_configs),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/op", tests, NULL, NULL);
}
