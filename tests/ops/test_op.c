/* test_op.c: operators by name, configs, and everything that can be wrong with a tensor. */
#include "faults.h"
#include "ops/op_testing.h"

#include <stdio.h>

/* ---- one good call of each operator, by name ---- */

#define MAX_IO 10

struct call {
    const char *op;
    size_t n_io, n_outputs; /* outputs are the last ones */
    tern_op_io io[MAX_IO];
    tern_tensor tensors[MAX_IO];
    bool optional[MAX_IO], matrix[MAX_IO];
    float *memory[MAX_IO]; /* of each tensor */
    size_t floats[MAX_IO];
    tern_config config;
    tern_op_call extra;
    tern_kv_span span;
};

static void add(struct call *c, const char *name, bool optional, bool matrix, tern_tensor shape, bool output)
{
    const size_t i = c->n_io++;
    size_t n = 1;

    for (int d = 0; d < shape.rank; d++)
        n *= (size_t)shape.dim[d];
    c->memory[i] = output ? test_poison(n) : test_floats(n, 1);
    c->floats[i] = n;
    c->tensors[i] = shape;
    c->tensors[i].data = c->memory[i];
    c->io[i] = (tern_op_io){ name, &c->tensors[i] };
    c->optional[i] = optional;
    c->matrix[i] = matrix;
    c->n_outputs += output;
}

/* Rows 3, H 8, I 12, two heads of 4. */
static void build(struct call *c, tern_ctx *ctx, int index, tern_kv_cache **cache)
{
    const char *op = tern_op_name(index);
    float *no = NULL;

    *c = (struct call){ .op = op, .config = test_config() };
    c->config.hidden_size = 8;
    c->config.heads = 2;
    *cache = NULL;
    if (strcmp(op, "linear") == 0 || strcmp(op, "vector_matmul") == 0) {
        add(c, "input", false, false, t2(no, 3, 8), false);
        add(c, "weight", false, true, t2(no, 8, 5), false);
        if (strcmp(op, "linear") == 0)
            add(c, "bias", true, false, t1(no, 5), false);
        add(c, "output", false, false, t2(no, 3, 5), true);
    } else if (strcmp(op, "qkv_gemm") == 0) {
        add(c, "input", false, false, t2(no, 3, 8), false);
        add(c, "weight", false, true, t2(no, 8, 24), false);
        add(c, "bias", true, false, t1(no, 24), false);
        add(c, "gamma", false, false, t1(no, 8), false);
        add(c, "beta", true, false, t1(no, 8), false);
        add(c, "output", false, false, t2(no, 3, 24), true);
        add(c, "norm", true, false, t2(no, 3, 8), true);
    } else if (strcmp(op, "softmax_context") == 0) {
        const tern_kv_shape shape = {
            .n_layers = 1, .n_kv_heads = 2, .head_dim = 4, .n_positions = 64, .n_sequences = 1, .n_context = 64
        };
        int32_t sequence;
        assert_ok(ctx, tern_kv_cache_create(ctx, &shape, cache));
        assert_ok(ctx, tern_kv_sequence_add(ctx, *cache, &sequence));
        c->span = (tern_kv_span){ .sequence = sequence, .n_rows = 3 };
        assert_ok(ctx, tern_kv_reserve(ctx, *cache, &c->span, 1));
        c->extra = (tern_op_call){ .cache = *cache, .spans = &c->span, .n_spans = 1 };
        add(c, "qkv", false, false, t2(no, 3, 24), false);
        add(c, "mask", true, false, t2(no, 3, 3), false);
        add(c, "alibi", true, false, t1(no, 2), false);
        add(c, "output", true, false, t2(no, 3, 8), true);
    } else if (strcmp(op, "mlp_gemm") == 0) {
        add(c, "input", false, false, t2(no, 3, 8), false);
        add(c, "residual", false, false, t2(no, 3, 8), false);
        add(c, "weight", false, true, t2(no, 8, 12), false);
        add(c, "weight_out", false, true, t2(no, 12, 8), false);
        add(c, "input_bias", true, false, t1(no, 8), false);
        add(c, "bias", true, false, t1(no, 12), false);
        add(c, "gamma", false, false, t1(no, 8), false);
        add(c, "beta", true, false, t1(no, 8), false);
        add(c, "output", false, false, t2(no, 3, 8), true);
        add(c, "residual_add", true, false, t2(no, 3, 8), true);
    } else if (strcmp(op, "gelu_gemm") == 0) {
        add(c, "input", false, false, t2(no, 3, 8), false);
        add(c, "weight", false, true, t2(no, 8, 12), false);
        add(c, "bias", true, false, t1(no, 12), false);
        add(c, "weight_out", false, true, t2(no, 12, 8), false);
        add(c, "output", false, false, t2(no, 3, 8), true);
    } else if (strcmp(op, "residual_add") == 0) {
        add(c, "hidden", false, false, t2(no, 3, 8), false);
        add(c, "residual", false, false, t2(no, 3, 8), false);
        add(c, "attention_output", true, false, t2(no, 3, 8), false);
        add(c, "residual_add", true, false, t2(no, 3, 8), false);
        add(c, "attention_bias", true, false, t1(no, 8), false);
        add(c, "final_bias", true, false, t1(no, 8), false);
        add(c, "output", false, false, t2(no, 3, 8), true);
    } else {
        assert_string_equal(op, "softmax");
        add(c, "scores", false, false, t4(no, 1, 2, 3, 8), false);
        add(c, "mask", true, false, t4(no, 1, 1, 3, 8), false);
        add(c, "alibi", true, false, t1(no, 2), false);
        add(c, "output", false, false, t4(no, 1, 2, 3, 8), true);
    }
}

static tern_tensor *find(struct call *c, const char *name)
{
    for (size_t i = 0; i < c->n_io; i++)
        if (strcmp(c->io[i].name, name) == 0)
            return c->io[i].tensor;
    return NULL;
}

/* The same call through the typed function. */
static tern_status typed(tern_ctx *ctx, struct call *c)
{
#define T(name) find(c, #name)
    if (strcmp(c->op, "linear") == 0)
        return tern_linear(ctx, &c->config, T(input), T(weight), T(bias), T(output));
    if (strcmp(c->op, "vector_matmul") == 0)
        return tern_vector_matmul(ctx, &c->config, T(input), T(weight), T(output));
    if (strcmp(c->op, "qkv_gemm") == 0)
        return tern_qkv_gemm(ctx, &c->config, T(input), T(weight), T(bias), T(gamma), T(beta), T(output), T(norm));
    if (strcmp(c->op, "softmax_context") == 0)
        return tern_softmax_context(ctx, &c->config, NULL, T(qkv), T(mask), T(alibi), c->extra.cache, 0, &c->span, 1,
                                    T(output));
    if (strcmp(c->op, "mlp_gemm") == 0)
        return tern_mlp_gemm(ctx, &c->config, T(input), T(residual), T(weight), T(weight_out), T(input_bias), T(bias),
                             T(gamma), T(beta), T(output), T(residual_add));
    if (strcmp(c->op, "gelu_gemm") == 0)
        return tern_gelu_gemm(ctx, &c->config, T(input), T(weight), T(bias), T(weight_out), T(output));
    if (strcmp(c->op, "residual_add") == 0)
        return tern_residual_add(ctx, &c->config, T(hidden), T(residual), T(attention_output), T(residual_add),
                                 T(attention_bias), T(final_bias), T(output));
    return tern_softmax(ctx, &c->config, NULL, T(scores), T(mask), T(alibi), T(output));
#undef T
}

static void test_by_name_equals_typed(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (int i = 0; i < 8; i++) {
        tern_kv_cache *cache;
        struct call c;
        tern_op *op;
        build(&c, ctx, i, &cache);
        assert_ok(ctx, tern_op_create(ctx, c.op, &c.config, &op));
        assert_ok(ctx, tern_op_run(ctx, op, c.io, c.n_io, &c.extra));
        float *kept[MAX_IO];
        for (size_t j = c.n_io - c.n_outputs; j < c.n_io; j++) {
            kept[j] = c.memory[j];
            c.memory[j] = c.tensors[j].data = test_poison(c.floats[j]);
        }
        assert_ok(ctx, typed(ctx, &c));
        for (size_t j = c.n_io - c.n_outputs; j < c.n_io; j++)
            test_equal(kept[j], c.memory[j], c.floats[j], c.op);

        /* Optional tensors may be left out, or be there as NULL or as none. */
        tern_tensor none = tern_tensor_none();
        for (size_t j = 0; j < c.n_io; j++)
            if (c.optional[j]) {
                c.io[j].tensor = NULL;
                assert_ok(ctx, tern_op_run(ctx, op, c.io, c.n_io, &c.extra));
                c.io[j].tensor = &none;
                assert_ok(ctx, tern_op_run(ctx, op, c.io, c.n_io, &c.extra));
            }
        tern_op_destroy(&op);
        assert_null(op);
        tern_kv_cache_destroy(&cache);
    }
    tern_op_destroy(NULL);
    tern_ctx_destroy(&ctx);
}

/* ---- what can be wrong with a tensor ---- */

enum defect { NO_DATA, DTYPE, ONE_WIDER, RANK, INVALID, STRIDE, ALIGNMENT, NEGATIVE, PACKED, DEFECTS };

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
        for (int i = t->rank - 2; i >= 0; i--)
            t->stride[i] = t->stride[i + 1] * t->dim[i + 1];
        return TERN_ERR_SHAPE;
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
        t->data = (char *)t->data + 2;
        return TERN_ERR_ARG;
    case NEGATIVE:
        t->dim[0] = -1;
        return TERN_ERR_SHAPE;
    default:
        *t = packed;
        return TERN_ERR_ARG;
    }
}

static void check_outputs(const struct call *c)
{
    for (size_t i = c->n_io - c->n_outputs; i < c->n_io; i++)
        test_untouched(c->memory[i], c->floats[i], c->op);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    float *w = test_floats(8, 1);
    const tern_tensor raw = t2(w, 2, 4);
    tern_weight *weight;
    char text[64];

    assert_ok(ctx, tern_weight_pack(ctx, &raw, false, &weight));
    for (int i = 0; i < 8; i++)
        for (size_t j = 0;; j++) {
            tern_kv_cache *cache;
            struct call c;
            tern_op *op;
            build(&c, ctx, i, &cache);
            if (j >= c.n_io) {
                tern_kv_cache_destroy(&cache);
                break;
            }
            assert_ok(ctx, tern_op_create(ctx, c.op, &c.config, &op));
            const tern_tensor good = c.tensors[j];
            for (int d = 0; d < DEFECTS; d++) {
                c.tensors[j] = good;
                tern_status want = make((enum defect)d, &c.tensors[j], tern_weight_view(weight));
                if (d == PACKED && c.matrix[j])
                    want = TERN_ERR_SHAPE;
                /* Attention takes wider masks, and more slopes. */
                if (d == ONE_WIDER && ((strcmp(c.op, "softmax_context") == 0 && strcmp(c.io[j].name, "mask") == 0) ||
                                       (strcmp(c.op, "softmax") == 0 && strcmp(c.io[j].name, "alibi") == 0)))
                    continue;
                const tern_status got = tern_op_run(ctx, op, c.io, c.n_io, &c.extra);
                if (got != want)
                    fail_msg("%s: %s with defect %d gives \"%s\" (%s), expected %s", c.op, c.io[j].name, d,
                             tern_status_name(got), tern_error(ctx), tern_status_name(want));
                /* The text names operator and tensor; a wider tensor may only show in one that has to fit it. */
                snprintf(text, sizeof text, "%s: %s", c.op, c.io[j].name);
                if (strncmp(tern_error(ctx), c.op, strlen(c.op)) != 0 || !strstr(tern_error(ctx), "expected") ||
                    (d != ONE_WIDER && strncmp(tern_error(ctx), text, strlen(text)) != 0))
                    fail_msg("%s: %s with defect %d has the text \"%s\"", c.op, c.io[j].name, d, tern_error(ctx));
                check_outputs(&c);
            }
            c.tensors[j] = good;
            if (!c.optional[j]) {
                c.io[j].tensor = NULL;
                /* mlp_gemm does without input in a parallel block, so the table lets it be left out. */
                const bool later = strcmp(c.op, "mlp_gemm") == 0 && strcmp(c.io[j].name, "input") == 0;
                assert_fails(ctx, tern_op_run(ctx, op, c.io, c.n_io, &c.extra), TERN_ERR_ARG,
                             later ? "input is NULL" : "missing, the tensors are");
                assert_fails(ctx, typed(ctx, &c), TERN_ERR_ARG, "NULL, expected a tensor");
                check_outputs(&c);
            }
            tern_op_destroy(&op);
            tern_kv_cache_destroy(&cache);
        }
    tern_weight_destroy(&weight);
    tern_ctx_destroy(&ctx);
}

/* Every output on top of every other tensor, exactly and shifted by one float. */
static void test_overlaps(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (int i = 0; i < 8; i++) {
        tern_kv_cache *cache;
        struct call c;
        build(&c, ctx, i, &cache);
        float *memory = test_poison(1000);
        for (size_t o = c.n_io - c.n_outputs; o < c.n_io; o++)
            for (size_t j = 0; j < c.n_io; j++)
                for (size_t shift = 0; shift <= 1; shift++) {
                    if (j == o)
                        continue;
                    const tern_tensor kept[2] = { c.tensors[o], c.tensors[j] };
                    c.tensors[o].data = memory;
                    c.tensors[j].data = memory + shift;
                    const bool rows = c.floats[j] == c.floats[o] && j < c.n_io - c.n_outputs;
                    const bool may_be = shift == 0 && rows &&
                                        (strcmp(c.op, "residual_add") == 0 || strcmp(c.io[j].name, "scores") == 0);
                    const tern_status got = typed(ctx, &c);
                    if (may_be) {
                        assert_int_equal(got, TERN_OK);
                        memory = test_poison(1000);
                    } else {
                        assert_int_equal(got, TERN_ERR_ARG);
                        assert_non_null(strstr(tern_error(ctx), "overlaps"));
                        assert_non_null(strstr(tern_error(ctx), c.io[j].name));
                        test_untouched(memory, 1000, c.op);
                    }
                    c.tensors[o] = kept[0];
                    c.tensors[j] = kept[1];
                }
        tern_kv_cache_destroy(&cache);
        test_teardown(NULL);
    }
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
    for (int i = 0; i < 8; i++) {
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
    BAD("qkv_gemm", (bad.norm_type = TERN_RMS_NORM, bad.pre_layer_norm = false),
        "norm_type is RMSNorm and pre_layer_norm is false");
    BAD("mlp_gemm", (bad.norm_type = TERN_RMS_NORM, bad.pre_layer_norm = false),
        "norm_type is RMSNorm and pre_layer_norm is false");
    BAD("mlp_gemm", bad.mlp_act_func_type = (tern_activation)0, "mlp_act_func_type is 0, expected GELU 1");
    BAD("mlp_gemm", bad.mlp_act_func_type = (tern_activation)5, "mlp_act_func_type is 5");
    BAD("mlp_gemm", bad.gelu = (tern_gelu_form)4, "gelu is 4, expected unset 0, tanh 1, erf 2 or sigmoid 3");
    BAD("gelu_gemm", bad.gelu = (tern_gelu_form)-1, "gelu is -1");
    BAD("residual_add", bad.mp_size = -2, "mp_size is -2, expected 1 or more");
    /* Fields that an operator does not read do not matter to it. */
    GOOD("linear", (bad.heads = 5, bad.gelu = (tern_gelu_form)9, bad.mp_size = 0, bad.layer_norm_eps = -1));
#undef BAD
#undef GOOD
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

    /* Attention's scratch. */
    for (int i = 0; i < 8; i++) {
        tern_kv_cache *cache;
        struct call c;
        if (strcmp(tern_op_name(i), "softmax_context") != 0)
            continue;
        build(&c, ctx, i, &cache);
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = typed(ctx, &c);
            FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
            check_outputs(&c);
        }
        tern_kv_cache_destroy(&cache);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_by_name_equals_typed),
        OP_TEST(test_bad_tensors),
        OP_TEST(test_overlaps),
        OP_TEST(test_names),
        OP_TEST(test_table),
        OP_TEST(test_bad_configs),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/op", tests, NULL, NULL);
}
