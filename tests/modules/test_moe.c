/* test_moe.c: what must hold of a mixture of experts; its numbers are held to torch in test_moe_golden.c. */
/* labels: quick threads */
#include "faults.h"
#include "ops/fn_testing.h"

#include <tern/moe.h>
#include <tern/quantize.h>

#include <fenv.h>
#include <stdio.h>

/* A mixture that tests change before they run it. */
struct mixture {
    tern_config config;
    tern_moe_config moe;
    tern_moe_weights w;
    size_t rows;
    tern_tensor input;
};

struct shape {
    tern_dtype dtype, a; /* a: activations with int8 */
    tern_activation act;
    int64_t h, i, x;
    int32_t k;
    int64_t rows;
    bool residual;
};

static tern_tensor matrix(tern_dtype dtype, const int64_t *dim)
{
    if (dtype != TERN_INT8)
        return fn_in(dtype, 0.4f, dim);
    tern_tensor t = fn_out(dtype, dim);
    for (size_t i = 0; i < fn_elements(&t); i++)
        ((int8_t *)t.data)[i] = (int8_t)(test_random(&test_seed) >> 40);
    return t;
}
#define MATRIX(dtype, ...) matrix((dtype), (int64_t[]){ __VA_ARGS__, -1 })

static tern_tensor scales(const int64_t *dim)
{
    tern_tensor t = fn_out(TERN_FP32, dim);

    for (size_t i = 0; i < fn_elements(&t); i++)
        ((float *)t.data)[i] = 0.002f + 0.001f * fabsf(test_normal(&test_seed));
    return t;
}
#define SCALES(...) scales((int64_t[]){ __VA_ARGS__, -1 })

static struct mixture make(struct shape s)
{
    const int64_t up = s.act >= TERN_GATED_GELU ? 2 * s.i : s.i;
    const tern_dtype a = s.dtype == TERN_INT8 ? s.a : s.dtype;
    struct mixture m = { .config = test_config(), .moe = tern_moe_config_default(), .rows = (size_t)s.rows };

    m.config.dtype = s.dtype;
    m.config.activation_dtype = a;
    m.config.hidden_size = s.h;
    m.config.intermediate_size = s.i;
    m.config.mlp_act_func_type = s.act;
    m.moe.global_experts = (int32_t)s.x;
    m.moe.k = s.k;
    m.moe.mlp_type = s.residual ? TERN_MOE_RESIDUAL : TERN_MOE_STANDARD;
    m.moe.drop_tokens = false;
    m.input = FN_IN(a, 1, s.rows, s.h);
    m.w = tern_moe_weights_none();
    m.w.gate_w = FN_IN(TERN_FP32, 0.5f, s.h, s.x);
    m.w.inter_w = MATRIX(s.dtype, s.x, s.h, up);
    m.w.inter_b = FN_IN(a, 0.3f, s.x, up);
    m.w.output_w = MATRIX(s.dtype, s.x, s.i, s.h);
    m.w.output_b = FN_IN(a, 0.3f, s.x, s.h);
    if (s.residual) {
        m.w.res_inter_w = MATRIX(s.dtype, s.h, up);
        m.w.res_inter_b = FN_IN(a, 0.3f, up);
        m.w.res_output_w = MATRIX(s.dtype, s.i, s.h);
        m.w.res_output_b = FN_IN(a, 0.3f, s.h);
        m.w.res_coef_w = FN_IN(a, 0.5f, s.h, 2);
        m.w.res_coef_b = FN_IN(TERN_FP32, 0.5f, 2);
    }
    if (s.dtype == TERN_INT8) {
        m.w.inter_scale = SCALES(s.x, up);
        m.w.output_scale = SCALES(s.x, 1);
        if (s.residual) {
            m.w.res_inter_scale = SCALES(up / 2);
            m.w.res_output_scale = SCALES(s.h);
        }
    }
    return m;
}

static tern_tensor like(const tern_tensor *t)
{
    return FN_OUT(t->dtype, t->dim[0], t->dim[1]);
}

static tern_tensor run_with(tern_ctx *ctx, const struct mixture *m, const tern_comm *comm)
{
    tern_tensor output = like(&m->input);
    tern_moe *moe;

    assert_ok(ctx, tern_moe_create(ctx, &m->config, &m->moe, comm, &m->w, &moe));
    assert_ok(ctx, tern_moe_forward(ctx, moe, &m->input, &output));
    tern_moe_destroy(&moe);
    return output;
}

static tern_tensor run(tern_ctx *ctx, const struct mixture *m)
{
    return run_with(ctx, m, NULL);
}

/* Rows [first, first + n) as a view. */
static tern_tensor rows_of(const tern_tensor *t, size_t first, size_t n)
{
    char *data = t->data;

    return tern_tensor_view(data + first * (size_t)t->dim[1] * tern_dtype_size(t->dtype), t->dtype, 2,
                            (int64_t[]){ (int64_t)n, t->dim[1] });
}

static void fill(tern_tensor *t, double x)
{
    for (size_t i = 0; i < fn_elements(t); i++)
        fn_put(t->data, t->dtype, i, x);
}

/* Every kind of dtype, by number; false beyond the last. */
static bool kind(int i, struct shape *s, tern_activation_quant *quant)
{
    static const struct {
        tern_dtype dtype, a;
        tern_activation_quant quant;
    } kinds[] = {
        { TERN_FP32, TERN_FP32, TERN_QUANT_NONE }, { TERN_FP16, TERN_FP16, TERN_QUANT_NONE },
        { TERN_BF16, TERN_BF16, TERN_QUANT_NONE }, { TERN_INT8, TERN_FP16, TERN_QUANT_NONE },
        { TERN_INT8, TERN_FP32, TERN_QUANT_NONE }, { TERN_INT8, TERN_BF16, TERN_QUANT_NONE },
        { TERN_INT8, TERN_FP16, TERN_QUANT_ROW },  { TERN_INT8, TERN_FP32, TERN_QUANT_ROW },
        { TERN_INT8, TERN_BF16, TERN_QUANT_ROW },
    };

    if ((size_t)i >= sizeof kinds / sizeof kinds[0])
        return false;
    s->dtype = kinds[i].dtype;
    s->a = kinds[i].a;
    *quant = kinds[i].quant;
    return true;
}

/* ---- one answer ---- */

/* The whole is the kernel functions put together, to the bit. */
static void test_parts(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (int i = 0; i < 6; i++) {
        const int32_t k = (int32_t[]){ 1, 2, 4 }[i / 2];
        const struct shape s = { TERN_FP32, TERN_FP32, i % 2 ? TERN_RELU : TERN_GELU, 24, 40, 6, k, 33, i % 2 };
        struct mixture m = make(s);
        const tern_tensor whole = run(ctx, &m);
        tern_tensor logits = FN_OUT(TERN_FP32, 33, 6), scores = FN_OUT(TERN_FP32, 33, k), output = like(&m.input);
        tern_tensor experts = FN_OUT(TERN_INT32, 33, k), slots = FN_OUT(TERN_INT32, 33, k);
        tern_tensor counts = FN_OUT(TERN_INT32, 6), ends = FN_OUT(TERN_INT64, 6);
        tern_tensor grouped = FN_OUT(TERN_FP32, 33 * k, 24), inner = FN_OUT(TERN_FP32, 33 * k, 40);
        tern_tensor answers = FN_OUT(TERN_FP32, 33 * k, 24), dense = like(&m.input), wide = FN_OUT(TERN_FP32, 33, 40);
        tern_tensor pair = FN_OUT(TERN_FP32, 33, 2);
        const char *act = s.act == TERN_RELU ? "relu" : "gelu_tanh";

        assert_ok(ctx, tern_matmul(ctx, &m.input, &m.w.gate_w, NULL, "", &logits));
        assert_ok(ctx, tern_top_k_gating(ctx, &logits, k, NULL, &scores, &experts, &slots, &counts));
        assert_ok(ctx, tern_moe_scatter(ctx, &m.input, &experts, &slots, &counts, &grouped, &slots, &ends));
        assert_ok(ctx, tern_moe_gemm(ctx, &grouped, &m.w.inter_w, &m.w.inter_b, &ends, act, &inner));
        assert_ok(ctx, tern_moe_gemm(ctx, &inner, &m.w.output_w, &m.w.output_b, &ends, "", &answers));
        assert_ok(ctx, tern_moe_gather(ctx, &answers, &scores, &slots, k > 1, &output));
        if (s.residual) {
            assert_ok(ctx, tern_matmul(ctx, &m.input, &m.w.res_inter_w, &m.w.res_inter_b, act, &wide));
            assert_ok(ctx, tern_matmul(ctx, &wide, &m.w.res_output_w, &m.w.res_output_b, "", &dense));
            assert_ok(ctx, tern_matmul(ctx, &m.input, &m.w.res_coef_w, &m.w.res_coef_b, "", &pair));
            tern_tensor scores4 = tern_tensor_view(pair.data, TERN_FP32, 4, (int64_t[]){ 1, 1, 33, 2 });
            assert_ok(ctx, tern_softmax(ctx, &m.config, NULL, &scores4, NULL, NULL, &scores4));
            assert_ok(ctx, tern_moe_res_matmul(ctx, &dense, &pair, &output, &output));
        }
        fn_same(&whole, output.data, "the mixture");
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

static void run_floats(void *arg, tern_ctx *ctx, float *out)
{
    const struct mixture *m = arg;
    const tern_tensor output = run(ctx, m);

    memcpy(out, output.data, fn_elements(&output) * tern_dtype_size(output.dtype));
}

/* Whatever the number of threads and the level.  bf16 has products of its own at one level: threads alone. */
static void test_same_bits_everywhere(void **state)
{
    tern_activation_quant quant;
    struct shape s = { .act = TERN_GATED_SILU, .h = 40, .i = 72, .x = 5, .k = 2, .rows = 150, .residual = true };

    (void)state;
    for (int i = 0; kind(i, &s, &quant); i++) {
        struct mixture m = make(s);
        m.config.activation_quant = quant;
        m.moe.drop_tokens = true;
        const size_t floats = fn_elements(&m.input) * tern_dtype_size(m.input.dtype) / sizeof(float);
        if (s.dtype != TERN_BF16) {
            test_same_bits(run_floats, &m, floats);
        } else {
            float *want = test_poison(floats), *got = test_poison(floats);
            for (int threads = 1; threads <= 3; threads++) {
                tern_ctx *ctx = test_ctx(threads);
                run_floats(&m, ctx, threads == 1 ? want : got);
                if (threads > 1)
                    assert_memory_equal(want, got, floats * sizeof *want);
                tern_ctx_destroy(&ctx);
            }
        }
        test_teardown(NULL);
    }
}

/* A token alone has the bits that it has among others, a NaN among these included. */
static void test_alone_and_in_a_batch(void **state)
{
    tern_activation_quant quant;
    struct shape s = { .act = TERN_GELU, .h = 40, .i = 72, .x = 6, .k = 2, .rows = 140, .residual = true };
    tern_ctx *ctx = test_ctx(2);

    (void)state;
    for (int i = 0; kind(i, &s, &quant); i++) {
        struct mixture m = make(s);
        m.config.activation_quant = quant;
        fn_put(m.input.data, m.input.dtype, 40 * 70 + 3, (double)NAN);
        const tern_tensor whole = run(ctx, &m);
        for (size_t first = 0; first < m.rows; first += 46) {
            struct mixture one = m;
            const size_t n = first == 46 ? 5 : 1;
            one.input = rows_of(&m.input, first, n);
            const tern_tensor alone = run(ctx, &one), part = rows_of(&whole, first, n);
            fn_same(&alone, part.data, "a token alone");
        }
        assert_true(isnan(fn_at(&whole, 40 * 70)) && !isnan(fn_at(&whole, 40 * 69)) && !isnan(fn_at(&whole, 40 * 71)));
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

static tern_tensor transposed(const tern_tensor *t)
{
    const size_t rank = (size_t)t->rank, size = tern_dtype_size(t->dtype), n = fn_elements(t);
    const size_t in = (size_t)t->dim[rank - 2], out = (size_t)t->dim[rank - 1];
    tern_tensor to = *t;
    const char *from = t->data;
    char *data = test_bytes(n * size);

    for (size_t i = 0; i < n; i++) {
        const size_t of = i / (in * out), row = i / out % in, col = i % out;
        memcpy(data + (of * in * out + col * in + row) * size, from + i * size, size);
    }
    to = tern_tensor_view(data, t->dtype, t->rank,
                          rank == 3 ? (int64_t[]){ t->dim[0], t->dim[2], t->dim[1] }
                                    : (int64_t[]){ t->dim[1], t->dim[0], 0 });
    return to;
}

/* Packed ahead, [out, in] or as they are: the same bits; packed ones may go to two modules. */
static void test_packed_and_transposed(void **state)
{
    tern_activation_quant quant;
    struct shape s = { .act = TERN_GATED_GELU, .h = 20, .i = 36, .x = 4, .k = 2, .rows = 11, .residual = true };
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (int i = 0; kind(i, &s, &quant); i++) {
        struct mixture m = make(s), flipped, packed;
        m.config.activation_quant = quant;
        const tern_tensor want = run(ctx, &m);

        flipped = m;
        flipped.config.transposed_mode = true;
        tern_tensor *const all[] = { &flipped.w.gate_w,      &flipped.w.inter_w,      &flipped.w.output_w,
                                     &flipped.w.res_inter_w, &flipped.w.res_output_w, &flipped.w.res_coef_w };
        for (size_t t = 0; t < sizeof all / sizeof all[0]; t++)
            *all[t] = transposed(all[t]);
        const tern_tensor got = run(ctx, &flipped);
        fn_same(&got, want.data, "transposed weights");

        tern_weight *owned[10];
        packed = m;
        for (size_t e = 0; e < 10; e++) {
            const bool inter = e % 2 == 0, dense = e >= 8;
            const tern_tensor *of =
                dense ? (inter ? &m.w.res_inter_w : &m.w.res_output_w) : (inter ? &m.w.inter_w : &m.w.output_w);
            const tern_tensor *scale = dense ? (inter ? &m.w.res_inter_scale : &m.w.res_output_scale)
                                             : (inter ? &m.w.inter_scale : &m.w.output_scale);
            const int64_t *dim = of->dim + !dense, groups = scale->dim[scale->rank > 0 ? scale->rank - 1 : 0];
            const size_t at = dense ? 0 : e / 2 * (size_t)(dim[0] * dim[1]);
            tern_tensor one = tern_tensor_view((char *)of->data + at * tern_dtype_size(of->dtype), of->dtype, 2, dim);
            tern_tensor its = *scale;
            if (scale->rank == 2)
                its = tern_tensor_view((float *)scale->data + e / 2 * (size_t)groups, TERN_FP32, 1, &groups);
            assert_ok(ctx, tern_weight_pack_as(ctx, &one, false, of->dtype, &its, &owned[e]));
        }
        const tern_weight *inter[] = { owned[0], owned[2], owned[4], owned[6] };
        const tern_weight *output[] = { owned[1], owned[3], owned[5], owned[7] };
        packed.w.inter_w = packed.w.output_w = packed.w.inter_scale = packed.w.output_scale = tern_tensor_none();
        packed.w.res_inter_scale = packed.w.res_output_scale = tern_tensor_none();
        packed.w.inter_packed = inter;
        packed.w.output_packed = output;
        packed.w.res_inter_w = tern_weight_view(owned[8]);
        packed.w.res_output_w = tern_weight_view(owned[9]);
        for (int twice = 0; twice < 2; twice++) {
            const tern_tensor result = run(ctx, &packed);
            fn_same(&result, want.data, "packed weights");
        }
        for (size_t e = 0; e < 10; e++)
            tern_weight_destroy(&owned[e]);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* Experts in codes of 4 bits with scales along K: the bits of fp32 experts that hold what the codes stand for.  Integer rows,
 * which such codes do not have, are refused. */
static void test_experts_in_4_bits(void **state)
{
    tern_quant_options options = tern_quant_options_default(TERN_QUANT_GROUPWISE);
    tern_ctx *ctx = test_ctx(2);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GATED_SILU, 32, 48, 3, 2, 17, false }),
                   codes = m;
    tern_weight *owned[6];
    tern_moe *moe;

    (void)state;
    options.bits = 4;
    options.group_size = 16;
    options.group_dim = 0;
    for (size_t i = 0; i < 6; i++) {
        const tern_tensor *of = i % 2 ? &m.w.output_w : &m.w.inter_w;
        const size_t at = i / 2 * (size_t)(of->dim[1] * of->dim[2]);
        tern_tensor one = tern_tensor_view((float *)of->data + at, TERN_FP32, 2, of->dim + 1);
        tern_qtensor *q;
        assert_ok(ctx, tern_weight_quantize(ctx, &one, &options, &q));
        assert_ok(ctx, tern_weight_dequantize(ctx, q, &one));
        assert_ok(ctx, tern_weight_pack_quantized(ctx, q, false, &owned[i]));
        tern_qtensor_destroy(&q);
    }
    const tern_weight *inter[] = { owned[0], owned[2], owned[4] }, *output[] = { owned[1], owned[3], owned[5] };
    codes.config.dtype = TERN_INT8;
    codes.config.activation_dtype = TERN_FP32;
    codes.w.inter_w = codes.w.output_w = tern_tensor_none();
    codes.w.inter_packed = inter;
    codes.w.output_packed = output;
    const tern_tensor want = run(ctx, &m), got = run(ctx, &codes);
    fn_same(&got, want.data, "experts in 4 bits");
    codes.config.activation_quant = TERN_QUANT_ROW;
    assert_fails(ctx, tern_moe_create(ctx, &codes.config, &codes.moe, NULL, &codes.w, &moe), TERN_ERR_UNSUPPORTED,
                 "moe: inter_w[0] is a quantised weight that has no product with rows of int8");
    assert_null(moe);
    for (size_t i = 0; i < 6; i++)
        tern_weight_destroy(&owned[i]);
    tern_ctx_destroy(&ctx);
}

/* Integer sums are exact up to 131072 summands: rows beyond are refused, not computed otherwise. */
static void test_rows_too_long_for_integers(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = make((struct shape){ TERN_INT8, TERN_FP32, TERN_GELU, 131073, 1, 1, 1, 1, false });
    tern_moe *moe;

    (void)state;
    run(ctx, &m);
    m.config.activation_quant = TERN_QUANT_ROW;
    assert_fails(ctx, tern_moe_create(ctx, &m.config, &m.moe, NULL, &m.w, &moe), TERN_ERR_UNSUPPORTED,
                 "moe: inter_w has 131073 inputs");
    assert_null(moe);
    tern_ctx_destroy(&ctx);
}

static void test_output_may_be_input(void **state)
{
    tern_activation_quant quant;
    struct shape s = { .act = TERN_GELU, .h = 20, .i = 36, .x = 4, .k = 2, .rows = 11, .residual = true };
    tern_ctx *ctx = test_ctx(2);

    (void)state;
    for (int i = 0; kind(i, &s, &quant); i++) {
        struct mixture m = make(s);
        tern_moe *moe;
        m.config.activation_quant = quant;
        const tern_tensor want = run(ctx, &m);
        assert_ok(ctx, tern_moe_create(ctx, &m.config, &m.moe, NULL, &m.w, &moe));
        assert_ok(ctx, tern_moe_forward(ctx, moe, &m.input, &m.input));
        fn_same(&m.input, want.data, "output over input");
        tern_moe_destroy(&moe);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* The definitions answer the same within the kernels' bounds. */
static void test_reference_kernels(void **state)
{
    const struct shape s = { TERN_FP32, TERN_FP32, TERN_GATED_SILU, 20, 36, 4, 2, 11, true };
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = make(s);

    (void)state;
    const tern_tensor fast = run(ctx, &m);
    m.config.kernel = TERN_KERNEL_REFERENCE;
    const tern_tensor slow = run(ctx, &m);
    test_near(fast.data, fn_doubles(&slow), fn_elements(&fast), 1e-6, "definitions");
    tern_ctx_destroy(&ctx);
}

/* ---- who goes where ---- */

/* Experts that answer a constant: expert e says e + 1.  The gate reads a token's numbers as its logits.  H = X. */
static struct mixture constant_experts(int64_t x, int32_t k, int64_t rows, const float *logits)
{
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_RELU, x, 1, x, k, rows, false });

    fill(&m.w.gate_w, 0);
    fill(&m.w.output_w, 0);
    for (int64_t e = 0; e < x; e++) {
        ((float *)m.w.gate_w.data)[e * x + e] = 1;
        for (int64_t j = 0; j < x; j++)
            ((float *)m.w.output_b.data)[e * x + j] = (float)(e + 1);
    }
    memcpy(m.input.data, logits, (size_t)(rows * x) * sizeof(float));
    m.moe.drop_tokens = true;
    return m;
}

static void expect(tern_ctx *ctx, const struct mixture *m, const double *want, const char *what)
{
    const tern_tensor got = run(ctx, m);
    const size_t x = (size_t)m->input.dim[1];

    for (size_t t = 0; t < m->rows; t++)
        if (!(fabs(fn_at(&got, t * x) - want[t]) <= 1e-6))
            fail_msg("%s: token %zu gets %.7g, expected %.7g", what, t, fn_at(&got, t * x), want[t]);
}

static void test_capacity(void **state)
{
    /* Experts 0, 0, 1, 0, 1, 0 with rising certainty; logits 3 and more ahead of 0. */
    static const float one[] = { 3, 0, 3.5f, 0, 0, 3, 4, 0, 0, 4, 5, 0 };
    double p[6];
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = constant_experts(2, 1, 6, one);

    (void)state;
    for (int t = 0; t < 6; t++)
        p[t] = 1 / (1 + exp(-(double)fmaxf(one[2 * t], one[2 * t + 1])));
    /* C = ceil(6 / 2 * 1) = 3: the fourth token for expert 0 gets nothing. */
    expect(ctx, &m, (double[]){ p[0], p[1], 2 * p[2], p[3], 2 * p[4], 0 }, "factor 1");
    m.moe.eval_capacity_factor = 0.3; /* C = ceil(0.9) = 1 */
    expect(ctx, &m, (double[]){ p[0], 0, 2 * p[2], 0, 0, 0 }, "factor 0.3");
    m.moe.drop_policy = TERN_MOE_DROP_PROBS;
    expect(ctx, &m, (double[]){ 0, 0, 0, 0, 2 * p[4], p[5] }, "the most probable");
    m.moe.eval_capacity_factor = 0.6; /* 2 */
    expect(ctx, &m, (double[]){ 0, 0, 2 * p[2], p[3], 2 * p[4], p[5] }, "the two most probable");
    m.moe.drop_policy = TERN_MOE_DROP_ORDER;
    m.moe.min_capacity = 3;
    expect(ctx, &m, (double[]){ p[0], p[1], 2 * p[2], p[3], 2 * p[4], 0 }, "min_capacity");
    m.moe.min_capacity = 100;
    expect(ctx, &m, (double[]){ p[0], p[1], 2 * p[2], p[3], 2 * p[4], p[5] }, "min_capacity beyond the tokens");
    m.moe.min_capacity = 0;
    m.moe.eval_capacity_factor = 0;
    expect(ctx, &m, (double[]){ 0, 0, 0, 0, 0, 0 }, "no room at all");
    m.moe.drop_policy = TERN_MOE_DROP_PROBS;
    expect(ctx, &m, (double[]){ 0, 0, 0, 0, 0, 0 }, "no room at all");
    m.moe.eval_capacity_factor = 1e300;
    expect(ctx, &m, (double[]){ p[0], p[1], 2 * p[2], p[3], 2 * p[4], p[5] }, "a large factor");
    m.moe.eval_capacity_factor = 0;
    m.moe.drop_tokens = false;
    expect(ctx, &m, (double[]){ p[0], p[1], 2 * p[2], p[3], 2 * p[4], p[5] }, "drop_tokens off");
    tern_ctx_destroy(&ctx);
}

/* k = 2: the second choices stand behind all first ones, and who loses one choice has the other with all of the weight. */
/* 6 / 18 is rounded up and 3 times it down, to 1: rounded upward both times there would be room for a second token. */
static void test_capacity_in_every_rounding_mode(void **state)
{
    static const int modes[] = { FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    float logits[6 * 18] = { 0 };
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (int t = 0; t < 6; t++)
        logits[18 * t] = 4;
    struct mixture m = constant_experts(18, 1, 6, logits);
    m.moe.eval_capacity_factor = 3;
    const double p = 1 / (1 + 17 * exp(-4.0));
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        fesetround(modes[i]);
        expect(ctx, &m, (double[]){ p, 0, 0, 0, 0, 0 }, "one token for each expert");
        fesetround(FE_TONEAREST);
    }
    tern_ctx_destroy(&ctx);
}

static void test_second_choices_come_last(void **state)
{
    /* Tokens 0 and 1 choose (0, 1), tokens 2 and 3 choose (1, 0); three experts. */
    static const float two[] = { 4, 2, 0, 4, 2, 0, 2, 4, 0, 2, 4, 0 };
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = constant_experts(3, 2, 4, two);
    const double a = 1 / (1 + exp(-2.0)), b = 1 - a;

    (void)state;
    m.moe.eval_capacity_factor = 0.7; /* ceil(4 / 3 * 1.4) = 2 */
    expect(ctx, &m, (double[]){ 1, 1, 2, 2 }, "first choices fill both experts");
    m.moe.eval_capacity_factor = 1; /* ceil(4 / 3 * 2) = 3 */
    expect(ctx, &m, (double[]){ a + 2 * b, 1, 2 * a + b, 2 }, "one second choice each");
    m.moe.normalize = 0;
    const double sum = exp(4) + exp(2) + 1;
    expect(ctx, &m,
           (double[]){ (exp(4) + 2 * exp(2)) / sum, exp(4) / sum, (2 * exp(4) + exp(2)) / sum, 2 * exp(4) / sum },
           "without normalising");
    tern_ctx_destroy(&ctx);
}

/* Equal probabilities: the earlier tokens stay. */
static void test_equal_tokens_by_probability(void **state)
{
    static const float same[] = { 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0 };
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = constant_experts(2, 1, 6, same);
    const double p = 1 / (1 + exp(-2));

    (void)state;
    m.moe.drop_policy = TERN_MOE_DROP_PROBS;
    expect(ctx, &m, (double[]){ p, p, p, 0, 0, 0 }, "equal tokens");
    tern_ctx_destroy(&ctx);
}

/* What is left of a token after its certain choice was dropped is divided by 2^-23, not by less. */
static void test_a_sum_near_zero(void **state)
{
    static const float sure[] = { 20, 0, 20, 0 };
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = constant_experts(2, 2, 2, sure);
    const double rest = 2 / (1 + exp(20));

    (void)state;
    m.moe.eval_capacity_factor = 0.5; /* ceil(2 / 2 * 1) = 1: token 0 has expert 0, and its second choice expert 1 */
    expect(ctx, &m, (double[]){ 1, 0 }, "both places taken");
    ((float *)m.input.data)[0] = 21; /* surer than token 1, which so is expert 1's more probable one */
    m.moe.drop_policy = TERN_MOE_DROP_PROBS;
    expect(ctx, &m, (double[]){ 1, rest / 0x1p-23 }, "the second choice alone");
    tern_ctx_destroy(&ctx);
}

/* k > 2: token after token, each with all of its choices. */
static void test_three_choices_in_order(void **state)
{
    static const float three[] = { 9, 8, 7, 0, 7, 8, 9, 0, 8, 0, 7, 9 };
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = constant_experts(4, 3, 3, three);

    (void)state;
    m.moe.normalize = 0;
    m.moe.eval_capacity_factor =
        0.4; /* ceil(3 / 4 * 1.2) = 1: the first token takes 0, 1, 2, the third one has 3 left */
    const double sum = exp(9) + exp(8) + exp(7) + 1;
    expect(ctx, &m, (double[]){ (exp(9) + 2 * exp(8) + 3 * exp(7)) / sum, 0, 4 * exp(9) / sum }, "three choices");
    tern_ctx_destroy(&ctx);
}

/* Equal logits go to the lower index, with every k; a smaller negative one never beats a larger (B62). */
static void test_ties_and_negative_logits(void **state)
{
    static const float equal[] = { -5, -5, -5, -5, -7, -6, -6, -9 };
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (int32_t k = 1; k <= 4; k++) {
        struct mixture m = constant_experts(4, k, 2, equal);
        const double want[4][2] = { { 1, 2 }, { 1.5, 2.5 }, { 2, 0 }, { 2.5, 0 } };
        const double e = exp(-1), q = exp(-3);
        m.moe.drop_tokens = false;
        m.moe.normalize = 1;
        const double second = k == 3   ? (2 + 3 + e) / (2 + e)
                              : k == 4 ? (2 + 3 + e + 4 * q) / (2 + e + q)
                                       : want[k - 1][1];
        expect(ctx, &m, (double[]){ want[k - 1][0], second }, "ties");
    }
    tern_ctx_destroy(&ctx);
}

/* One expert alone is a feed-forward: its score is 1. */
static void test_one_expert(void **state)
{
    tern_ctx *ctx = test_ctx(2);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 24, 40, 1, 1, 9, false });
    tern_tensor w = tern_tensor_view(m.w.inter_w.data, TERN_FP32, 2, m.w.inter_w.dim + 1);
    tern_tensor b = tern_tensor_view(m.w.inter_b.data, TERN_FP32, 1, m.w.inter_b.dim + 1);
    tern_tensor v = tern_tensor_view(m.w.output_w.data, TERN_FP32, 2, m.w.output_w.dim + 1);
    tern_tensor output = like(&m.input);

    (void)state;
    m.w.output_b = tern_tensor_none();
    m.moe.drop_tokens = true; /* C = ceil(9 / 1) */
    const tern_tensor got = run(ctx, &m);
    assert_ok(ctx, tern_gelu_gemm(ctx, &m.config, &m.input, &w, &b, &v, &output));
    fn_same(&got, output.data, "one expert");
    tern_ctx_destroy(&ctx);
}

static void test_no_tokens(void **state)
{
    tern_ctx *ctx = test_ctx(2);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 24, 40, 4, 2, 0, true });

    (void)state;
    run(ctx, &m);
    m.moe.drop_tokens = true;
    m.moe.drop_policy = TERN_MOE_DROP_PROBS;
    run(ctx, &m);
    tern_ctx_destroy(&ctx);
}

/* ---- defects of the reference ---- */

/* B72: the first coefficient is the experts', the second the dense feed-forward's; the bias of the coefficients counts. */
static void test_coefficients_in_the_order_of_training(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 24, 40, 4, 2, 9, true });
    struct mixture experts = m, dense = m;
    float *b = m.w.res_coef_b.data;

    (void)state;
    fill(&m.w.res_coef_w, 0);
    experts.moe.mlp_type = TERN_MOE_STANDARD;
    experts.w.res_inter_w = experts.w.res_inter_b = experts.w.res_output_w = experts.w.res_output_b =
        experts.w.res_coef_w = experts.w.res_coef_b = tern_tensor_none();
    dense = experts;
    dense.moe.global_experts = dense.moe.k = 1;
    dense.w.gate_w = FN_IN(TERN_FP32, 1, 24, 1);
    dense.w.inter_w = tern_tensor_view(m.w.res_inter_w.data, TERN_FP32, 3, (int64_t[]){ 1, 24, 40 });
    dense.w.inter_b = tern_tensor_view(m.w.res_inter_b.data, TERN_FP32, 2, (int64_t[]){ 1, 40 });
    dense.w.output_w = tern_tensor_view(m.w.res_output_w.data, TERN_FP32, 3, (int64_t[]){ 1, 40, 24 });
    dense.w.output_b = tern_tensor_view(m.w.res_output_b.data, TERN_FP32, 2, (int64_t[]){ 1, 24 });
    for (int first = 0; first < 2; first++) {
        b[0] = first ? 200 : -200;
        b[1] = -b[0];
        const tern_tensor got = run(ctx, &m), want = run(ctx, first ? &experts : &dense);
        test_near(got.data, fn_doubles(&want), fn_elements(&got), 0, first ? "c_0" : "c_1");
    }
    tern_ctx_destroy(&ctx);
}

/* B62: two calls with one input agree. */
static void test_the_gate_has_no_noise(void **state)
{
    tern_ctx *ctx = test_ctx(3);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 24, 40, 8, 2, 50, false });

    (void)state;
    m.moe.drop_tokens = true;
    const tern_tensor want = run(ctx, &m);
    for (int i = 0; i < 5; i++) {
        const tern_tensor got = run(ctx, &m);
        fn_same(&got, want.data, "a second call");
    }
    tern_ctx_destroy(&ctx);
}

/* B63: what the module gives holds neither its input nor anything of a call before: a mixture of zeros is zero. */
static void test_the_block_input_is_the_callers(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 24, 40, 4, 2, 9, true });

    (void)state;
    fill(&m.w.output_w, 0);
    fill(&m.w.output_b, 0);
    fill(&m.w.res_output_w, 0);
    fill(&m.w.res_output_b, 0);
    const tern_tensor got = run(ctx, &m);
    for (size_t i = 0; i < fn_elements(&got); i++)
        assert_true(fn_at(&got, i) == 0);
    tern_ctx_destroy(&ctx);
}

/* The gate reads its weights in fp32 in every dtype: two columns that bf16 and s8 cannot tell apart are told apart. */
static void test_the_gate_is_fp32(void **state)
{
    tern_activation_quant quant;
    struct shape s = { .act = TERN_RELU, .h = 4, .i = 3, .x = 2, .k = 1, .rows = 2 };
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (int i = 0; kind(i, &s, &quant); i++) {
        struct mixture m = make(s);
        float *g = m.w.gate_w.data;
        m.config.activation_quant = quant;
        fill(&m.w.output_w, 0);
        fill(&m.input, 1);
        fn_put(m.input.data, m.input.dtype, 4, -1);
        fill(&m.w.gate_w, 1);
        g[1] = 1.0001f; /* [0][1]: token 0 to expert 1, token 1 to expert 0 */
        for (size_t e = 0; e < 2; e++)
            for (size_t j = 0; j < 4; j++)
                fn_put(m.w.output_b.data, m.w.output_b.dtype, e * 4 + j, e ? 64 : 2);
        const tern_tensor got = run(ctx, &m);
        assert_true(fn_at(&got, 0) > 31 && fn_at(&got, 0) < 33);
        assert_true(fn_at(&got, 4) > 0.9 && fn_at(&got, 4) < 1.1);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- ranks ---- */

struct rank {
    int calls;
    size_t n;
    tern_status status;
    const float *others; /* what the ranks before gave, or NULL */
    float *given;        /* what this one gave */
};

static tern_status sum_ranks(void *user, float *data, size_t n)
{
    struct rank *r = user;

    r->calls++;
    r->n = n;
    r->given = test_copy(data, n);
    for (size_t i = 0; r->others && i < n; i++)
        data[i] += r->others[i];
    return r->status;
}

/* Each rank has some of the experts; one sum over the ranks, and the dense feed-forward counts once. */
static void test_ranks(void **state)
{
    tern_ctx *ctx = test_ctx(2);

    (void)state;
    for (int i = 0; i < 12; i++) {
        const int size = 2 + i % 2;
        struct mixture m =
            make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 24, 40, 6, 1 + i / 2 % 3, 31, i >= 6 });
        m.moe.drop_tokens = i % 4 > 0;
        m.moe.eval_capacity_factor = 0.7;
        const tern_tensor whole = run(ctx, &m);
        const float *sum = NULL;
        for (int r = 0; r < size; r++) {
            struct mixture part = m;
            struct rank rank = { .others = sum };
            const tern_comm comm = { .user = &rank, .rank = r, .size = size, .all_reduce = sum_ranks };
            tern_tensor *const all[] = { &part.w.inter_w, &part.w.inter_b, &part.w.output_w, &part.w.output_b };
            for (size_t t = 0; t < 4; t++) {
                const size_t bytes = fn_elements(all[t]) * sizeof(float) / (size_t)size;
                all[t]->dim[0] /= size;
                all[t]->data = (char *)all[t]->data + (size_t)r * bytes;
            }
            const tern_tensor got = run_with(ctx, &part, &comm);
            assert_int_equal(rank.calls, 1);
            assert_int_equal(rank.n, 31 * 24);
            if (r == size - 1 && m.moe.k == 1) /* all of a token is on one rank */
                test_near(got.data, fn_doubles(&whole), fn_elements(&got), 0, "ranks");
            else if (r == size - 1)
                test_near(got.data, fn_doubles(&whole), fn_elements(&got), 1e-6, "ranks");
            float *next = rank.given;
            for (size_t j = 0; sum && j < rank.n; j++)
                next[j] += sum[j];
            sum = next;
        }
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

static void test_a_failing_sum_leaves_the_output(void **state)
{
    tern_ctx *ctx = test_ctx(2);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 24, 40, 3, 1, 31, true });
    struct rank rank = { .status = TERN_ERR_IO };
    const tern_comm comm = { .user = &rank, .rank = 1, .size = 2, .all_reduce = sum_ranks };
    tern_tensor output = like(&m.input);
    tern_moe *moe;

    (void)state;
    m.moe.global_experts = 6;
    m.w.gate_w = FN_IN(TERN_FP32, 1, 24, 6);
    assert_ok(ctx, tern_moe_create(ctx, &m.config, &m.moe, &comm, &m.w, &moe));
    assert_fails(ctx, tern_moe_forward(ctx, moe, &m.input, &output), TERN_ERR_IO, "moe: all_reduce failed");
    assert_true(fn_untouched(&output));
    tern_tensor none = rows_of(&m.input, 0, 0);
    assert_ok(ctx, tern_moe_forward(ctx, moe, &none, &none));
    assert_int_equal(rank.calls, 1);
    tern_moe_destroy(&moe);
    tern_ctx_destroy(&ctx);
}

/* ---- what can be wrong ---- */

static void test_bad_mixtures(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct rank rank = { 0 };
    const tern_comm three = { .user = &rank, .rank = 0, .size = 3, .all_reduce = sum_ranks };
    const tern_comm two = { .user = &rank, .rank = 0, .size = 2, .all_reduce = sum_ranks };
    const tern_comm none = { .rank = 0, .size = 2 }, outside = { .rank = 2, .size = 2, .all_reduce = sum_ranks };
    const tern_comm *comm;
    struct mixture m;
    tern_moe *moe = (tern_moe *)ctx;
    tern_weight *f32, *bf16, *narrow;

    (void)state;
    const struct mixture good = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 8, 12, 4, 2, 3, true });
    const struct mixture codes = make((struct shape){ TERN_INT8, TERN_FP32, TERN_GELU, 8, 12, 4, 2, 3, false });
    tern_tensor w = FN_IN(TERN_FP32, 1, 8, 12), v = FN_IN(TERN_FP32, 1, 8, 11);
    assert_ok(ctx, tern_weight_pack_as(ctx, &w, false, TERN_FP32, NULL, &f32));
    assert_ok(ctx, tern_weight_pack_as(ctx, &w, false, TERN_BF16, NULL, &bf16));
    assert_ok(ctx, tern_weight_pack_as(ctx, &v, false, TERN_FP32, NULL, &narrow));
    const tern_weight *const wide[] = { f32, f32, f32, f32 }, *const odd[] = { f32, f32, bf16, narrow },
                             *const holes[] = { f32, NULL, f32, f32 };
#define TRY(from, change, status, part)                                                         \
    m = (from);                                                                                 \
    comm = NULL;                                                                                \
    change;                                                                                     \
    assert_fails(ctx, tern_moe_create(ctx, &m.config, &m.moe, comm, &m.w, &moe), status, part); \
    assert_null(moe)
#define BAD(change, status, part) TRY(good, change, status, part)
    BAD(m.moe.global_experts = 0, TERN_ERR_CONFIG, "moe: global_experts is 0, expected 1 or more");
    BAD(m.moe.moe_experts = -1, TERN_ERR_CONFIG, "moe: moe_experts is -1, expected 1 or more");
    BAD(m.moe.moe_experts = 3, TERN_ERR_CONFIG, "moe_experts is 3, expected 4, global_experts 4 divided among 1 ranks");
    BAD((m.moe.moe_experts = INT32_MAX, m.moe.global_experts = 1, comm = &two), TERN_ERR_CONFIG, "experts in all");
    BAD(comm = &three, TERN_ERR_CONFIG, "global_experts is 4, expected a multiple of the 3 ranks of comm");
    BAD(comm = &two, TERN_ERR_SHAPE, "moe: inter_w is [4, 8, 12], expected [2, 8, 12]");
    BAD(comm = &none, TERN_ERR_ARG, "moe: comm has no all_reduce, expected one for 2 ranks");
    BAD(comm = &outside, TERN_ERR_CONFIG, "moe: comm is rank 2 of 2");
    BAD(m.moe.k = 0, TERN_ERR_CONFIG, "moe: k is 0, expected 1..4 experts");
    BAD(m.moe.k = 5, TERN_ERR_CONFIG, "moe: k is 5, expected 1..4 experts");
    BAD(m.moe.capacity_factor = -1, TERN_ERR_CONFIG, "moe: capacity_factor is -1");
    BAD(m.moe.eval_capacity_factor = (double)NAN, TERN_ERR_CONFIG, "moe: eval_capacity_factor is nan");
    BAD(m.moe.min_capacity = -1, TERN_ERR_CONFIG, "moe: min_capacity is -1, expected 0 or more");
    BAD(m.moe.noisy_gate_policy = TERN_MOE_RSAMPLE, TERN_ERR_UNSUPPORTED,
        "noisy_gate_policy is RSample, there is: None");
    BAD(m.moe.noisy_gate_policy = TERN_MOE_JITTER, TERN_ERR_UNSUPPORTED, "noisy_gate_policy is Jitter, there is: None");
    BAD(m.moe.noisy_gate_policy = (tern_moe_noise)3, TERN_ERR_CONFIG, "noisy_gate_policy is 3, expected None 0");
    BAD(m.moe.use_rts = true, TERN_ERR_UNSUPPORTED, "moe: use_rts is true, there is: false");
    BAD(m.moe.mlp_type = (tern_moe_form)2, TERN_ERR_CONFIG, "moe: mlp_type is 2, expected standard 0 or residual 1");
    BAD(m.moe.normalize = 2, TERN_ERR_CONFIG, "moe: normalize is 2");
    BAD(m.moe.drop_policy = (tern_moe_drop)2, TERN_ERR_CONFIG, "moe: drop_policy is 2, expected order 0 or probs 1");
    BAD(m.moe.reserved[2] = 1, TERN_ERR_ARG, "reserved");
    BAD(m.config.dtype = TERN_FP64, TERN_ERR_UNSUPPORTED, "moe: dtype is fp64, there is: fp32, fp16, bf16, int8");
    BAD(m.config.device = (tern_device)1, TERN_ERR_UNSUPPORTED, "moe: device is 1, there is: cpu");
    BAD(m.config.kernel = (tern_kernel_choice)2, TERN_ERR_CONFIG, "moe: kernel is 2");
    BAD(m.config.hidden_size = 0, TERN_ERR_CONFIG, "moe: hidden_size is 0");
    BAD(m.config.mlp_act_func_type = (tern_activation)9, TERN_ERR_CONFIG, "moe: mlp_act_func_type is 9");
    BAD(m.config.mp_size = 2, TERN_ERR_CONFIG, "moe: mp_size is 2, expected 1");
    BAD(m.w.gate_w = tern_tensor_none(), TERN_ERR_ARG, "moe: gate_w is not there, expected a matrix 8 in, 4 out");
    BAD(m.w.gate_w.dim[1] = 3, TERN_ERR_SHAPE, "moe: gate_w");
    BAD(m.w.gate_w = tern_weight_view(f32), TERN_ERR_ARG, "moe: gate_w is a packed weight, expected plain numbers");
    BAD(m.w.gate_w.dtype = TERN_INT8, TERN_ERR_DTYPE, "moe: gate_w is int8, expected fp32, fp16 or bf16");
    BAD(m.w.inter_w = tern_tensor_none(), TERN_ERR_ARG, "moe: inter_w is not there, expected matrices 8 in, 12 out");
    BAD(m.w.inter_w = w, TERN_ERR_SHAPE, "moe: inter_w is [8, 12], expected [4, 8, 12]");
    BAD(m.w.inter_w.data = NULL, TERN_ERR_ARG, "moe: inter_w has NULL data");
    BAD(m.w.inter_w = tern_weight_view(f32), TERN_ERR_SHAPE,
        "inter_w is one packed matrix, expected one for each of 4");
    BAD(m.w.inter_packed = wide, TERN_ERR_ARG, "moe: inter_w is given both raw and packed, expected one of them");
    BAD((m.w.inter_w = tern_tensor_none(), m.w.inter_packed = odd), TERN_ERR_SHAPE,
        "moe: inter_w[3] is [8, 11] ([in, out]): 8 in, 11 out, expected 8 in, 12 out");
    BAD((m.w.inter_w = tern_tensor_none(), m.w.inter_packed = holes), TERN_ERR_ARG, "moe: inter_w[1] packed is NULL");
    BAD(m.w.inter_scale = codes.w.inter_scale, TERN_ERR_ARG, "moe: inter_w_scale is given for a fp32, expected none");
    BAD(m.w.output_w.stride[1] = 9, TERN_ERR_SHAPE, "moe: output_w has stride 9");
    BAD(m.w.inter_b.dim[0] = 3, TERN_ERR_SHAPE, "moe: inter_b is [3, 12], expected [4, 12]");
    BAD(m.w.output_b.dtype = TERN_INT32, TERN_ERR_DTYPE, "moe: output_b is int32, expected fp32, fp16 or bf16");
    BAD(m.w.res_inter_w = tern_tensor_none(), TERN_ERR_ARG, "moe: res_inter_w is not there");
    BAD(m.w.res_output_w = tern_weight_view(narrow), TERN_ERR_SHAPE, "moe: res_output_w");
    BAD(m.w.res_coef_w = tern_tensor_none(), TERN_ERR_ARG,
        "moe: res_coef_w is not there, expected a matrix 8 in, 2 out");
    BAD(m.w.res_coef_b.dim[0] = 1, TERN_ERR_SHAPE, "moe: res_coef_b is [1], expected [2]");
    BAD(m.moe.mlp_type = TERN_MOE_STANDARD, TERN_ERR_ARG, "moe: res_inter_w is given with mlp_type standard");
    BAD(m.config.dtype = TERN_FP16, TERN_ERR_DTYPE, "moe: inter_w is fp32, expected fp16");
    BAD(m.config.dtype = TERN_BF16, TERN_ERR_DTYPE, "moe: inter_w is fp32, expected bf16");
    BAD((m.config.dtype = TERN_INT8, m.config.activation_dtype = TERN_FP32), TERN_ERR_DTYPE,
        "moe: inter_w is fp32, expected int8");
    BAD((m.config.dtype = TERN_FP16, m.w.inter_w = tern_tensor_none(), m.w.inter_packed = odd), TERN_ERR_DTYPE,
        "moe: inter_w[2] is a packed weight that does not fit dtype fp16");
    BAD((m.config.dtype = TERN_BF16, m.w.inter_w = tern_tensor_none(), m.w.inter_packed = wide), TERN_ERR_DTYPE,
        "moe: inter_w[0] is a packed weight that does not fit dtype bf16");
#undef BAD
#define BAD(change, status, part) TRY(codes, change, status, part)
    BAD(m.config.activation_dtype = TERN_INT8, TERN_ERR_CONFIG,
        "activation_dtype is int8, expected fp32, fp16 or bf16");
    BAD(m.config.activation_quant = (tern_activation_quant)2, TERN_ERR_CONFIG, "activation_quant is 2");
    BAD(m.w.inter_scale = tern_tensor_none(), TERN_ERR_ARG,
        "moe: inter_w_scale is not there, expected the scales of inter_w");
    BAD(m.w.inter_scale.dim[1] = 5, TERN_ERR_SHAPE, "inter_w_scale has stride");
    BAD((m.w.inter_scale = FN_IN(TERN_FP32, 1, 4, 5)), TERN_ERR_SHAPE,
        "moe: inter_w_scale has 5 scales, expected a divisor of the 12 output channels of inter_w");
    BAD((m.w.inter_scale = FN_IN(TERN_FP32, 1, 4, 12), ((float *)m.w.inter_scale.data)[7] = INFINITY), TERN_ERR_ARG,
        "moe: inter_w_scale has inf at 7, expected finite numbers");
    BAD((m.w.inter_scale = FN_IN(TERN_FP16, 1, 4, 12)), TERN_ERR_DTYPE, "moe: inter_w_scale is fp16, expected fp32");
    BAD((m.w.inter_scale = m.w.inter_w = tern_tensor_none(), m.w.inter_packed = wide), TERN_ERR_DTYPE,
        "moe: inter_w[0] is a packed weight that does not fit dtype int8");
#undef BAD
#undef TRY
    m = good;
    assert_fails(ctx, tern_moe_create(ctx, NULL, &m.moe, NULL, &m.w, &moe), TERN_ERR_ARG, "moe: config is NULL");
    assert_fails(ctx, tern_moe_create(ctx, &m.config, NULL, NULL, &m.w, &moe), TERN_ERR_ARG, "moe: moe is NULL");
    assert_fails(ctx, tern_moe_create(ctx, &m.config, &m.moe, NULL, NULL, &moe), TERN_ERR_ARG, "weights is NULL");
    assert_fails(ctx, tern_moe_create(ctx, &m.config, &m.moe, NULL, &m.w, NULL), TERN_ERR_ARG, "moe: out is NULL");
    assert_int_equal(tern_moe_create(NULL, &m.config, &m.moe, NULL, &m.w, &moe), TERN_ERR_ARG);
    tern_weight_destroy(&f32);
    tern_weight_destroy(&bf16);
    tern_weight_destroy(&narrow);
    tern_ctx_destroy(&ctx);
}

static void test_bad_calls(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = make((struct shape){ TERN_FP32, TERN_FP32, TERN_GELU, 8, 12, 4, 2, 3, true });
    tern_tensor out = like(&m.input), t;
    tern_moe *moe;

    (void)state;
    assert_ok(ctx, tern_moe_create(ctx, &m.config, &m.moe, NULL, &m.w, &moe));
    assert_fails(ctx, tern_moe_forward(ctx, NULL, &m.input, &out), TERN_ERR_ARG, "moe: moe is NULL");
    assert_fails(ctx, tern_moe_forward(ctx, moe, NULL, &out), TERN_ERR_ARG, "moe: input is NULL");
    assert_fails(ctx, tern_moe_forward(ctx, moe, &m.input, NULL), TERN_ERR_ARG, "moe: output is NULL");
    assert_int_equal(tern_moe_forward(NULL, moe, &m.input, &out), TERN_ERR_ARG);
    t = tern_tensor_view(m.input.data, TERN_FP32, 2, (int64_t[]){ 3, 7 });
    assert_fails(ctx, tern_moe_forward(ctx, moe, &t, &out), TERN_ERR_SHAPE, "rows of 7 values, expected rows of 8");
    t = tern_tensor_view(m.input.data, TERN_FP16, 2, (int64_t[]){ 3, 8 });
    assert_fails(ctx, tern_moe_forward(ctx, moe, &t, &out), TERN_ERR_DTYPE, "moe: input is fp16, expected fp32");
    t = rows_of(&m.input, 0, 2);
    assert_fails(ctx, tern_moe_forward(ctx, moe, &t, &out), TERN_ERR_SHAPE, "3 rows, expected 2 rows");
    t = m.input;
    t.stride[0] = 9;
    assert_fails(ctx, tern_moe_forward(ctx, moe, &t, &out), TERN_ERR_SHAPE, "moe: input has stride 9");
    t = m.input;
    t.data = NULL;
    assert_fails(ctx, tern_moe_forward(ctx, moe, &t, &out), TERN_ERR_ARG, "moe: input has NULL data");
    t = rows_of(&out, 1, 2);
    tern_tensor over = rows_of(&out, 0, 2);
    assert_fails(ctx, tern_moe_forward(ctx, moe, &over, &t), TERN_ERR_ARG, "moe: output overlaps input");
    assert_true(fn_untouched(&out));
    tern_moe_destroy(&moe);
    tern_moe_destroy(&moe);
    tern_moe_destroy(NULL);
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);
    struct mixture m = make((struct shape){ TERN_INT8, TERN_FP16, TERN_GATED_SILU, 8, 12, 3, 2, 5, true });
    tern_tensor output = like(&m.input);
    tern_moe *moe = NULL;

    m.config.activation_quant = TERN_QUANT_ROW;
    m.moe.drop_tokens = true;
    m.moe.drop_policy = TERN_MOE_DROP_PROBS;
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_moe_create(ctx, &m.config, &m.moe, NULL, &m.w, &moe);
        FAULT_DONE(n, ctx, status, moe);
        tern_moe_destroy(&moe);
    }
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_moe_forward(ctx, moe, &m.input, &output);
        FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
        assert_true(fn_untouched(&output));
    }
    tern_moe_destroy(&moe);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_parts),
        OP_TEST(test_same_bits_everywhere),
        OP_TEST(test_alone_and_in_a_batch),
        OP_TEST(test_packed_and_transposed),
        OP_TEST(test_experts_in_4_bits),
        OP_TEST(test_rows_too_long_for_integers),
        OP_TEST(test_output_may_be_input),
        OP_TEST(test_reference_kernels),
        OP_TEST(test_capacity),
        OP_TEST(test_capacity_in_every_rounding_mode),
        OP_TEST(test_second_choices_come_last),
        OP_TEST(test_equal_tokens_by_probability),
        OP_TEST(test_a_sum_near_zero),
        OP_TEST(test_three_choices_in_order),
        OP_TEST(test_ties_and_negative_logits),
        OP_TEST(test_one_expert),
        OP_TEST(test_no_tokens),
        OP_TEST(test_coefficients_in_the_order_of_training),
        OP_TEST(test_the_gate_has_no_noise),
        OP_TEST(test_the_block_input_is_the_callers),
        OP_TEST(test_the_gate_is_fp32),
        OP_TEST(test_ranks),
        OP_TEST(test_a_failing_sum_leaves_the_output),
        OP_TEST(test_bad_mixtures),
        OP_TEST(test_bad_calls),
        OP_TEST(test_allocation_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
