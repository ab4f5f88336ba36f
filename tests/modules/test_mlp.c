/* test_mlp.c: the feed-forward module, in every dtype, against f64; int8 scales as DeepSpeed hands them over; ranks. */
#include "faults.h"
#include "ops/dtype_testing.h"

#include <tern/quantize.h>

enum norm { NO_NORM, LAYER, RMS };

/* A feed-forward and its rows, as they are stored. */
struct block {
    const struct dt_kind *kind;
    tern_config config;
    enum norm norm;
    size_t rows, h, inner, up;
    struct dt_matrix w1, w2;
    tern_tensor nw, nb, b1, b2;                     /* vectors; none where the norm or biases are left out */
    tern_tensor input, residual, residual_norm, ob; /* of forward */
};

static struct block block_of(tern_ctx *ctx, const struct dt_kind *kind, int variant, size_t rows)
{
    struct block b = { .kind = kind, .norm = (enum norm)(variant % 3), .h = 24, .inner = 33 };
    const bool post = variant % 7 == 3 && b.norm != RMS, biases = variant % 4 != 1;
    const tern_dtype v = variant & 2 ? TERN_FP32 : kind->a;
    const tern_activation act = (tern_activation)(1 + variant / 3 % 4);
    const int64_t M = (int64_t)(b.rows = rows), H = 24;

    b.config = dt_config(kind);
    b.config.hidden_size = 24;
    b.config.heads = 4;
    b.config.intermediate_size = 33;
    b.config.norm_type = b.norm == RMS ? TERN_RMS_NORM : TERN_LAYER_NORM;
    b.config.pre_layer_norm = !post;
    b.config.mlp_after_attn = post || variant % 5 < 3; /* no block is parallel and post-LN */
    b.config.mlp_act_func_type = act;
    b.config.transposed_mode = variant & 1;
    b.up = act >= TERN_GATED_GELU ? 66 : 33;
    b.w1 = dt_matrix(ctx, kind, variant & 1, b.h, b.up, 0.3f, 3);
    b.w2 = dt_matrix(ctx, kind, variant & 1, b.inner, b.h, 0.3f, 4);
    b.nw = b.norm ? FN_IN(v, 1, H) : tern_tensor_none();
    b.nb = b.norm == LAYER && biases ? FN_IN(v, 1, H) : tern_tensor_none();
    b.b1 = biases ? FN_IN(v, 1, (int64_t)b.up) : tern_tensor_none();
    b.b2 = biases ? FN_IN(v, 1, H) : tern_tensor_none();
    b.input = FN_IN(kind->a, 1, M, H);
    b.residual = FN_IN(kind->a, 1, M, H);
    b.residual_norm = FN_IN(kind->a, 1, M, H);
    b.ob = variant % 11 ? FN_IN(v, 1, H) : tern_tensor_none();
    return b;
}

static struct block block(tern_ctx *ctx, const struct dt_kind *kind, int variant)
{
    return block_of(ctx, kind, variant, variant % 5 == 4 ? 19 : (size_t)variant % 3 * 2 + 1);
}

static void drop(struct block *b)
{
    tern_weight_destroy(&b->w1.packed);
    tern_weight_destroy(&b->w2.packed);
}

static double at(const tern_tensor *t, size_t i)
{
    return t->rank < 0 ? 0 : fn_at(t, i);
}

/* The output on one rank, from the formulas of the header. */
static double *naive(const struct block *b)
{
    const size_t n = b->rows * b->h, h = b->h;
    const tern_config *c = &b->config;
    const bool alone = !c->mlp_after_attn && b->norm == LAYER, post = c->mlp_after_attn && !c->pre_layer_norm;
    double *sum = test_doubles(n), *out = test_doubles(n), *z = sum;

    for (size_t i = 0; i < n; i++)
        sum[i] = b->norm ? at(&b->residual, i) + (alone ? 0 : at(&b->input, i) + at(&b->ob, i % h))
                         : at(&b->residual_norm, i);
    if (b->norm)
        z = naive_norm(sum, dt_floats(&b->nw), dt_floats(&b->nb), b->rows, h, 1e-5f, b->norm == RMS);
    const double *x = dt_mlp(b->kind, z, b->w1.wide, dt_floats(&b->b1), b->w2.wide, b->rows, h, b->up, h,
                             c->mlp_act_func_type, TERN_GELU_UNSET);
    for (size_t i = 0; i < n; i++) {
        const double f = at(&b->b2, i % h), r = at(&b->residual, i), a = at(&b->input, i);
        out[i] = x[i] + (post ? (b->norm ? z[i] : r) + f : r + f + a + at(&b->ob, i % h));
    }
    return out;
}

static tern_layer_weights weights_of(const struct block *b)
{
    return (tern_layer_weights){ .attn_nw = b->nw,
                                 .attn_nb = b->nb,
                                 .inter_w = b->w1.given,
                                 .inter_b = b->b1,
                                 .output_w = b->w2.given,
                                 .output_b = b->b2 };
}

static void run(tern_ctx *ctx, const struct block *b, const tern_layer_weights *w, const tern_module_quant *quant,
                const tern_comm *comm, tern_tensor *out)
{
    tern_mlp *mlp;

    assert_ok(ctx, tern_mlp_create(ctx, &b->config, comm, quant, w, &mlp));
    assert_ok(ctx, tern_mlp_forward(ctx, mlp, &b->input, &b->residual, &b->residual_norm, &b->ob, out));
    tern_mlp_destroy(&mlp);
    assert_null(mlp);
}

/* Columns [from, to) of a raw matrix. */
static tern_tensor columns(const struct dt_matrix *m, bool transposed, size_t in, size_t from, size_t to)
{
    const size_t size = tern_dtype_size(m->raw.dtype), n = to - from, all = (size_t)m->raw.dim[!transposed];
    const int64_t dim[2] = { (int64_t)(transposed ? n : in), (int64_t)(transposed ? in : n) };
    char *data = test_bytes(in * n * size);
    const char *raw = m->raw.data;

    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < n; o++)
            memcpy(data + (transposed ? o * in + i : i * n + o) * size,
                   raw + (transposed ? (o + from) * in + i : i * all + o + from) * size, size);
    return tern_tensor_view(data, m->raw.dtype, 2, dim);
}

static tern_tensor slice(const tern_tensor *t, size_t from, size_t to)
{
    const int64_t n = (int64_t)(to - from);

    return t->rank < 0 ? *t : tern_tensor_view((char *)t->data + from * tern_dtype_size(t->dtype), t->dtype, 1, &n);
}

/* Matrices raw, with int8 scales beside them; and in parts. */
static void check_other_ways(tern_ctx *ctx, struct block *b, const tern_tensor *want)
{
    const bool gated = b->up != b->inner, t = b->config.transposed_mode, int8 = b->kind->dtype == TERN_INT8;
    tern_tensor out = FN_OUT(b->kind->a, (int64_t)b->rows, (int64_t)b->h);
    tern_layer_weights w = weights_of(b);

    w.inter_w = b->w1.raw;
    w.output_w = b->w2.raw;
    w.inter_w_scale = b->w1.scale;
    w.output_w_scale = b->w2.scale;
    run(ctx, b, &w, NULL, NULL, &out);
    fn_same(&out, want->data, "raw matrices");

    /* The scales of inter_w, three groups, as one for each channel. */
    tern_tensor scale = int8 ? FN_OUT(TERN_FP32, (int64_t)b->up) : tern_tensor_none();
    if (int8)
        assert_ok(ctx, tern_quant_expand_scales(ctx, &b->w1.scale, &scale));
    w.inter_w = w.inter_b = w.inter_w_scale = tern_tensor_none();
    w.inter_up_w = columns(&b->w1, t, b->h, 0, b->inner);
    w.inter_up_b = slice(&b->b1, 0, b->inner);
    w.inter_up_w_scale = slice(&scale, 0, b->inner);
    if (gated) {
        w.inter_gate_w = columns(&b->w1, t, b->h, b->inner, b->up);
        w.inter_gate_b = slice(&b->b1, b->inner, b->up);
        w.inter_gate_w_scale = slice(&scale, b->inner, b->up);
    }
    tern_mlp *mlp;
    assert_fails(ctx, tern_mlp_create(ctx, &b->config, NULL, NULL, &w, &mlp), TERN_ERR_ARG,
                 "mlp: inter_up_w is given, expected inter_w (set_empty_params is false)");
    assert_null(mlp);
    b->config.set_empty_params = true;
    memset(out.data, FN_POISON, fn_elements(&out) * tern_dtype_size(out.dtype));
    run(ctx, b, &w, NULL, NULL, &out);
    fn_same(&out, want->data, "matrices in parts");
    b->config.set_empty_params = false;
}

static void test_forms(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 60; variant++) {
            struct block b = block(ctx, &dt_kinds[k], variant);
            tern_tensor out = FN_OUT(b.kind->a, (int64_t)b.rows, (int64_t)b.h);
            const tern_layer_weights w = weights_of(&b);
            run(ctx, &b, &w, NULL, NULL, &out);
            fn_near(&out, naive(&b), b.kind->bound, b.kind->name);
            check_other_ways(ctx, &b, &out);

            /* In place, over each input. */
            tern_tensor *const over[] = { &b.input, &b.residual, &b.residual_norm };
            for (size_t i = 0; i < 3; i++) {
                void *kept = fn_keep(over[i]);
                run(ctx, &b, &w, NULL, NULL, over[i]);
                fn_same(over[i], out.data, "in place");
                memcpy(over[i]->data, kept, fn_elements(over[i]) * tern_dtype_size(b.kind->a));
            }
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* In fp32 the module is the operators put together, to the bit. */
static void test_is_its_operators(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (int variant = 0; variant < 60; variant++) {
        struct block b = block(ctx, &dt_kinds[0], variant);
        const int64_t M = (int64_t)b.rows, H = (int64_t)b.h;
        tern_tensor got = FN_OUT(TERN_FP32, M, H), want = FN_OUT(TERN_FP32, M, H), y = FN_OUT(TERN_FP32, M, H),
                    z = FN_OUT(TERN_FP32, M, H);
        const tern_config *c = &b.config;
        const tern_layer_weights w = weights_of(&b);

        if (b.norm || c->mlp_act_func_type == TERN_GELU) {
            run(ctx, &b, &w, NULL, NULL, &got);
            if (b.norm)
                assert_ok(ctx, tern_mlp_gemm(ctx, c, &b.input, &b.residual, &w.inter_w, &w.output_w, &b.ob, &b.b1,
                                             &b.nw, &b.nb, &y, &z));
            else
                assert_ok(ctx, tern_gelu_gemm(ctx, c, &b.residual_norm, &w.inter_w, &b.b1, &w.output_w, &y));
            assert_ok(ctx,
                      tern_residual_add(ctx, c, &y, &b.residual, &b.input, b.norm ? &z : NULL, &b.ob, &b.b2, &want));
            fn_same(&got, want.data, "the operators put together");
        }
        drop(&b);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- q_scales ---- */

/* Replaces a block's int8 numbers by what a record's scales make of the same codes; the formulas are the header's. */
static void rescale(struct block *b, const float *inter, const float *output, int64_t groups, int64_t shards)
{
    const bool t = b->config.transposed_mode;
    const int64_t in = (int64_t)b->inner, up = (int64_t)b->up, h = (int64_t)b->h, part = in / shards;

    for (int64_t i = 0; i < h; i++)
        for (int64_t o = 0; o < up; o++)
            b->w1.wide[i * up + o] =
                (float)((int8_t *)b->w1.raw.data)[t ? o * h + i : i * up + o] * inter[o / (up / (groups * shards))];
    for (int64_t i = 0; i < in; i++)
        for (int64_t o = 0; o < h; o++)
            b->w2.wide[i * h + o] = (float)((int8_t *)b->w2.raw.data)[t ? o * in + i : i * h + o] *
                                    output[(i % part + o * part) / (part * h / groups) * shards + i / part];
}

static void test_q_scales(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 3; k < DT_KINDS; k++)
        for (int variant = 0; variant < 48; variant++) {
            const int64_t groups = 1 + variant % 3, shards = 1 << variant / 3 % 3;
            const bool extra = variant & 1, transposed = variant & 2;
            const int64_t g = extra ? 2 * groups : groups, n = g * shards, length = n + 3;
            struct block b = block(ctx, &dt_kinds[k], 1);
            const int form = variant / 16; /* [2, L], [4, L], [1, 4, L] */
            drop(&b);
            b.inner = 48;
            b.up = 96;
            b.config.intermediate_size = 48;
            b.config.mlp_act_func_type = TERN_GATED_SILU;
            b.config.transposed_mode = transposed;
            b.w1 = dt_matrix(ctx, b.kind, transposed, b.h, b.up, 0.3f, 1);
            b.w2 = dt_matrix(ctx, b.kind, transposed, b.inner, b.h, 0.3f, 1);
            b.b1 = tern_tensor_none();

            tern_tensor record = form == 0   ? FN_IN(TERN_FP32, 0, 2, length)
                                 : form == 1 ? FN_IN(TERN_FP32, 0, 4, length)
                                             : FN_IN(TERN_FP32, 0, 1, 4, length);
            float *s = record.data, *inter = s + (form ? 2 * length : 0), *output = inter + length;
            for (size_t i = 0; i < fn_elements(&record); i++)
                s[i] = NAN; /* rows of other matrices and what fills a row up are not read */
            for (int64_t i = 0; i < n; i++) {
                inter[i] = 0.002f + 0.001f * (float)(i % 5);
                output[i] = 0.003f + 0.001f * (float)(i * 3 % 7);
            }
            rescale(&b, inter, output, g, shards);

            tern_layer_weights w = weights_of(&b);
            tern_module_quant quant = tern_module_quant_default();
            tern_tensor out = FN_OUT(b.kind->a, (int64_t)b.rows, (int64_t)b.h);
            w.inter_w = b.w1.raw;
            w.output_w = b.w2.raw;
            quant.q_scales = &record;
            quant.q_groups = (int32_t)groups;
            quant.merge_count = (int32_t)shards;
            quant.mlp_extra_grouping = extra;
            run(ctx, &b, &w, &quant, NULL, &out);
            fn_near(&out, naive(&b), b.kind->bound, b.kind->name);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* Codes and scales that the checkpoint quantiser makes of shards are those that the module takes. */
static void test_q_scales_of_the_checkpoint_scheme(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct block b = block(ctx, &dt_kinds[4], 1);
    tern_quant_options options = tern_quant_options_default(TERN_QUANT_CHECKPOINT);
    tern_qtensor *up[1], *down[1];
    tern_tensor shards1[2], shards2[2], restored;
    tern_module_quant quant = tern_module_quant_default();
    tern_layer_weights w = weights_of(&b);
    tern_tensor out = FN_OUT(TERN_FP32, (int64_t)b.rows, 24);

    drop(&b);
    b.inner = b.up = 48;
    b.config.intermediate_size = 48;
    b.config.mlp_act_func_type = TERN_RELU;
    b.config.transposed_mode = true;
    options.groups = 4;
    options.mlp_extra_grouping = false;
    for (int i = 0; i < 2; i++) {
        shards1[i] = FN_IN(TERN_FP32, 0.3f, 24, 24);
        shards2[i] = FN_IN(TERN_FP32, 0.3f * (float)(1 + i), 24, 24);
    }
    assert_ok(ctx, tern_weight_quantize_shards(ctx, shards1, 2, &options, up));
    options.merge_axis = 1;
    assert_ok(ctx, tern_weight_quantize_shards(ctx, shards2, 2, &options, down));

    tern_tensor record = FN_IN(TERN_FP32, 0, 2, 8);
    memcpy(record.data, tern_qtensor_scales(up[0]), 32);
    memcpy((float *)record.data + 8, tern_qtensor_scales(down[0]), 32);
    w.inter_w = tern_tensor_view((void *)(uintptr_t)tern_qtensor_codes(up[0]), TERN_INT8, 2, (int64_t[]){ 48, 24 });
    w.output_w = tern_tensor_view((void *)(uintptr_t)tern_qtensor_codes(down[0]), TERN_INT8, 2, (int64_t[]){ 24, 48 });
    w.inter_b = b.b1 = tern_tensor_none();
    quant.q_scales = &record;
    quant.q_groups = 4;
    quant.merge_count = 2;
    run(ctx, &b, &w, &quant, NULL, &out);

    restored = FN_OUT(TERN_FP32, 48, 24);
    assert_ok(ctx, tern_weight_dequantize(ctx, up[0], &restored));
    b.w1.wide = test_transposed(restored.data, 48, 24);
    restored = FN_OUT(TERN_FP32, 24, 48);
    assert_ok(ctx, tern_weight_dequantize(ctx, down[0], &restored));
    b.w2.wide = test_transposed(restored.data, 24, 48);
    fn_near(&out, naive(&b), 8e-6, "checkpoint codes");
    tern_qtensor_destroy(up);
    tern_qtensor_destroy(down);
    tern_ctx_destroy(&ctx);
}

/* ---- ranks ---- */

struct counter {
    int calls;
    size_t n;
    const float *other; /* what the other rank has, or NULL */
    float *kept;        /* what this rank had */
    tern_status status;
};

static tern_status count(void *user, float *data, size_t n)
{
    struct counter *c = user;

    c->calls++;
    c->n = n;
    if (c->kept)
        memcpy(c->kept, data, n * sizeof *data);
    for (size_t i = 0; c->other && i < n; i++)
        data[i] += c->other[i];
    return c->status;
}

static void test_one_reduction_exactly_with_ranks(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < 4; k++)
        for (int variant = 0; variant < 30; variant++) {
            struct block b = block(ctx, &dt_kinds[k], variant);
            const size_t n = b.rows * b.h;
            struct counter counter = { .status = TERN_OK };
            tern_comm comm = { .user = &counter, .size = 1, .all_reduce = count };
            tern_tensor alone = FN_OUT(b.kind->a, (int64_t)b.rows, 24), out = FN_OUT(b.kind->a, (int64_t)b.rows, 24);
            tern_layer_weights w = weights_of(&b);

            run(ctx, &b, &w, NULL, &comm, &alone);
            assert_int_equal(counter.calls, 0);

            /* Two ranks with the same part of the weights. */
            b.config.mp_size = comm.size = 2;
            b.config.intermediate_size = 66;
            counter.kept = test_poison(n);
            run(ctx, &b, &w, NULL, &comm, &out);
            assert_int_equal(counter.calls, 1);
            assert_int_equal(counter.n, n);
            counter.other = test_copy(counter.kept, n);
            run(ctx, &b, &w, NULL, &comm, &out);
            assert_int_equal(counter.calls, 2);
            for (size_t i = 0; i < n; i++)
                assert_true(counter.kept[i] == counter.other[i]);
            tern_tensor want = FN_OUT(b.kind->a, (int64_t)b.rows, 24);
            for (size_t i = 0; i < n; i++)
                fn_put(want.data, b.kind->a, i, (double)(counter.other[i] + counter.other[i]));
            fn_same(&out, want.data, "the sum of the ranks, rounded once");

            /* A reduction that fails says so, and the output stays. */
            tern_mlp *mlp;
            counter.status = TERN_ERR_IO;
            out = FN_OUT(b.kind->a, (int64_t)b.rows, 24);
            assert_ok(ctx, tern_mlp_create(ctx, &b.config, &comm, NULL, &w, &mlp));
            assert_fails(ctx, tern_mlp_forward(ctx, mlp, &b.input, &b.residual, &b.residual_norm, &b.ob, &out),
                         TERN_ERR_IO, "mlp: all_reduce failed");
            assert_true(fn_untouched(&out));
            tern_mlp_destroy(&mlp);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* Two ranks with half of the inner columns each give what one gives: nothing is counted twice. */
static void test_two_ranks_are_one(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (int variant = 0; variant < 60; variant++) {
        struct block b = block(ctx, &dt_kinds[0], variant);
        if (b.config.transposed_mode || b.up != b.inner)
            continue;
        const size_t n = b.rows * b.h, half = b.inner / 2, m = 2 * half;
        const bool parallel = !b.config.mlp_after_attn;
        float *input = dt_floats(&b.input), *part[2];
        tern_tensor out = FN_OUT(TERN_FP32, (int64_t)b.rows, 24);
        struct block whole = b;

        whole.inner = whole.up = m;
        whole.w1.raw = columns(&b.w1, false, b.h, 0, m);
        whole.w1.wide = whole.w1.raw.data;
        whole.b1 = slice(&b.b1, 0, m);
        b.config.mp_size = 2;
        b.config.intermediate_size = (int64_t)m;
        for (int r = 0; r < 2; r++) {
            struct counter counter = { .kept = part[r] = test_poison(n), .status = TERN_OK };
            const tern_comm comm = { .user = &counter, .rank = r, .size = 2, .all_reduce = count };
            tern_layer_weights w = weights_of(&b);
            w.inter_w = columns(&b.w1, false, b.h, r ? half : 0, r ? m : half);
            w.inter_b = slice(&b.b1, r ? half : 0, r ? m : half);
            w.output_w = t2(b.w2.wide + (r ? half * b.h : 0), half, b.h);
            /* In a parallel block each rank has its own part of the attention's output, unless a norm reads it: then it is
             * whole, and counts twice. */
            for (size_t i = 0; parallel && b.norm != RMS && i < n; i++)
                ((float *)b.input.data)[i] = input[i] * (r ? 0.25f : 0.75f);
            run(ctx, &b, &w, NULL, &comm, &out);
        }
        memcpy(whole.input.data, input, n * 4);
        double *want = naive(&whole);
        for (size_t i = 0; i < n; i++) {
            want[i] += parallel && b.norm == RMS ? (double)input[i] : 0;
            part[0][i] += part[1][i];
        }
        test_near(part[0], want, n, 1e-5, "two ranks");
        drop(&b);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- what can be wrong ---- */

static void test_bad_modules(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct block b = block(ctx, &dt_kinds[0], 7), q = block(ctx, &dt_kinds[4], 7);
    tern_mlp *mlp;
    tern_layer_weights w;
    tern_config config;
    tern_module_quant quant;
    tern_tensor record = FN_IN(TERN_FP32, 1, 4, 2), threes = FN_IN(TERN_FP32, 1, 3, 2), five = FN_IN(TERN_FP32, 1, 5);

#define BAD(from, change, status, part)                                                     \
    config = (from).config;                                                                 \
    w = weights_of(&(from));                                                                \
    quant = tern_module_quant_default();                                                    \
    mlp = (tern_mlp *)ctx;                                                                  \
    change;                                                                                 \
    assert_fails(ctx, tern_mlp_create(ctx, &config, NULL, &quant, &w, &mlp), status, part); \
    assert_null(mlp)
    BAD(b, w.inter_w = tern_tensor_none(), TERN_ERR_SHAPE, "mlp: inter_w has rank -1");
    BAD(b, w.output_w = w.inter_w, TERN_ERR_SHAPE, "mlp: output_w is [");
    BAD(b, w.inter_b = five, TERN_ERR_SHAPE, "mlp: inter_b is [5], expected [");
    BAD(b, w.attn_nw = tern_tensor_none(), TERN_ERR_ARG, "mlp: attn_nb is given without attn_nw");
    BAD(b, config.norm_type = TERN_RMS_NORM, TERN_ERR_ARG, "mlp: attn_nb is given with RMSNorm");
    BAD(b, config.mp_size = 3, TERN_ERR_CONFIG, "mlp: comm is rank 0 of 1, expected mp_size = 3");
    BAD(b, config.hidden_size = 0, TERN_ERR_CONFIG, "hidden_size is 0");
    BAD(b, config.dtype = TERN_INT16, TERN_ERR_UNSUPPORTED, "there is: fp32, fp16, bf16, int8");
    BAD(b, (config.pre_layer_norm = config.mlp_after_attn = false, config.norm_type = TERN_LAYER_NORM),
        TERN_ERR_UNSUPPORTED, "mlp: pre_layer_norm and mlp_after_attn are both false");
    BAD(b, quant.merge_count = 3, TERN_ERR_CONFIG, "mlp: merge_count is 3, expected a power of two");
    BAD(b, quant.merge_count = 0, TERN_ERR_CONFIG, "mlp: merge_count is 0, expected a power of two");
    BAD(b, quant.q_groups = 0, TERN_ERR_CONFIG, "mlp: q_groups is 0, expected 1 or more");
    BAD(b, quant.reserved[1] = 1, TERN_ERR_ARG, "reserved");
    BAD(b, quant.q_scales = &record, TERN_ERR_ARG, "mlp: q_scales is given with dtype fp32, expected int8");
    BAD(b, w.inter_w_scale = five, TERN_ERR_ARG, "mlp: inter_w_scale is given, expected none");
    BAD(b, (config.set_empty_params = true, w.inter_up_w = w.inter_w), TERN_ERR_ARG,
        "mlp: inter_w and inter_up_w are given, expected the whole or its parts");
    BAD(b, (config.set_empty_params = true, w.inter_w = w.inter_b = tern_tensor_none(), w.inter_up_b = five),
        TERN_ERR_ARG, "mlp: inter_up_w is not there beside the other parts of inter_w");
    BAD(q, w.inter_w = q.w1.raw, TERN_ERR_ARG,
        "mlp: inter_w is raw int8 with no scales, expected inter_w_scale or q_scales");
    BAD(q, (w.inter_w = q.w1.raw, w.inter_w_scale = q.w1.scale, quant.q_scales = &record), TERN_ERR_ARG,
        "mlp: inter_w is raw int8 with both");
    BAD(q, (w.inter_w = q.w1.raw, w.inter_w_scale = five), TERN_ERR_SHAPE, "inter_w");
    BAD(q, (w.inter_w = q.w1.raw, quant.q_scales = &threes), TERN_ERR_SHAPE,
        "mlp: q_scales is [3, 2], expected [4, L]");
    BAD(q, (w.inter_w = q.w1.raw, quant.q_scales = &record, quant.q_groups = 2, quant.mlp_extra_grouping = true),
        TERN_ERR_SHAPE, "mlp: q_scales has rows of 2 scales, expected q_groups * merge_count = 4 or more");
    BAD(q, w.inter_w = b.w1.raw, TERN_ERR_DTYPE, "mlp: inter_w is fp32, expected a packed int8 weight");
#undef BAD
    w = weights_of(&b);
    assert_fails(ctx, tern_mlp_create(ctx, NULL, NULL, NULL, &w, &mlp), TERN_ERR_ARG, "config is NULL");
    assert_fails(ctx, tern_mlp_create(ctx, &b.config, NULL, NULL, NULL, &mlp), TERN_ERR_ARG, "weights is NULL");
    assert_fails(ctx, tern_mlp_create(ctx, &b.config, NULL, NULL, &w, NULL), TERN_ERR_ARG, "out is NULL");

    tern_tensor out = FN_OUT(TERN_FP32, (int64_t)b.rows, 24), narrow = FN_IN(TERN_FP32, 1, (int64_t)b.rows, 23);
    tern_tensor half = FN_IN(TERN_FP16, 1, (int64_t)b.rows, 24), shifted = b.input;
    assert_ok(ctx, tern_mlp_create(ctx, &b.config, NULL, NULL, &w, &mlp));
    assert_fails(ctx, tern_mlp_forward(ctx, NULL, &b.input, &b.residual, NULL, NULL, &out), TERN_ERR_ARG,
                 "mlp is NULL");
    assert_fails(ctx, tern_mlp_forward(ctx, mlp, &b.input, NULL, NULL, NULL, &out), TERN_ERR_ARG, "residual is NULL");
    assert_fails(ctx, tern_mlp_forward(ctx, mlp, &narrow, &b.residual, NULL, NULL, &out), TERN_ERR_SHAPE,
                 "mlp: input is [");
    assert_fails(ctx, tern_mlp_forward(ctx, mlp, &half, &b.residual, NULL, NULL, &out), TERN_ERR_DTYPE,
                 "mlp: input is fp16, expected fp32");
    assert_fails(ctx, tern_mlp_forward(ctx, mlp, &b.input, &b.residual, NULL, &five, &out), TERN_ERR_SHAPE,
                 "mlp: bias is [5], expected [24]");
    assert_fails(ctx, tern_mlp_forward(ctx, mlp, &b.input, &b.residual, NULL, NULL, &narrow), TERN_ERR_SHAPE,
                 "mlp: output is [");
    shifted.data = (float *)b.input.data + 1;
    assert_fails(ctx, tern_mlp_forward(ctx, mlp, &b.input, &b.residual, NULL, NULL, &shifted), TERN_ERR_ARG,
                 "mlp: output overlaps input");
    tern_mlp_destroy(&mlp);
    tern_mlp_destroy(&mlp);
    tern_mlp_destroy(NULL);

    w.attn_nw = w.attn_nb = tern_tensor_none();
    assert_ok(ctx, tern_mlp_create(ctx, &b.config, NULL, NULL, &w, &mlp));
    assert_fails(ctx, tern_mlp_forward(ctx, mlp, &b.input, &b.residual, NULL, NULL, &out), TERN_ERR_ARG,
                 "mlp: residual_norm is NULL");
    assert_true(fn_untouched(&out));
    tern_mlp_destroy(&mlp);
    drop(&b);
    drop(&q);
    tern_ctx_destroy(&ctx);
}

/* ---- one answer, faults ---- */

struct answer {
    struct block b;
    tern_layer_weights w;
};

static void run_answer(void *arg, tern_ctx *ctx, float *out)
{
    const struct answer *a = arg;
    tern_tensor y = FN_OUT(a->b.kind->a, (int64_t)a->b.rows, 24);

    run(ctx, &a->b, &a->w, NULL, NULL, &y);
    for (size_t i = 0; i < fn_elements(&y); i++)
        out[i] = (float)fn_at(&y, i);
}

/* Row r alone has the bits that it has among all. */
static void check_alone(tern_ctx *ctx, const struct answer *a, size_t r, const float *all)
{
    struct answer one = *a;
    tern_tensor *const t[] = { &one.b.input, &one.b.residual, &one.b.residual_norm };
    float *row = test_poison(24);

    one.b.rows = 1;
    for (int i = 0; i < 3; i++)
        *t[i] = tern_tensor_view((char *)t[i]->data + r * 24 * tern_dtype_size(t[i]->dtype), t[i]->dtype, 2,
                                 (int64_t[]){ 1, 24 });
    run_answer(&one, ctx, row);
    test_equal(row, all + r * 24, 24, "a row alone");
}

static void test_one_answer(void **state)
{
    (void)state;
    for (size_t k = 0; k < DT_KINDS; k++) {
        if (dt_kinds[k].dtype == TERN_BF16)
            continue; /* the same at one level, see numerics.md */
        tern_ctx *ctx = test_ctx(1);
        struct answer a = { .b = block(ctx, &dt_kinds[k], 10) };
        a.w = weights_of(&a.b);
        a.w.inter_w = a.b.w1.raw;
        a.w.output_w = a.b.w2.raw;
        a.w.inter_w_scale = a.b.w1.scale;
        a.w.output_w_scale = a.b.w2.scale;
        test_same_bits(run_answer, &a, a.b.rows * 24);

        float *all = test_poison(a.b.rows * 24);
        run_answer(&a, ctx, all);
        for (size_t r = 0; r < a.b.rows; r++)
            check_alone(ctx, &a, r, all);
        drop(&a.b);
        tern_ctx_destroy(&ctx);
        test_teardown(NULL);
    }
}

/* More rows than go through both products at once, in threads that share them in other ways; the output in the place of an input. */
static void test_many_rows(void **state)
{
    static const size_t picked[] = { 0, 99, 100, 127, 128, 149, 150, 299 };

    (void)state;
    for (int variant = 10; variant <= 16; variant += 6)
        for (size_t k = 0; k < DT_KINDS; k++) {
            tern_ctx *ctx = test_ctx(1);
            struct answer a = { .b = block_of(ctx, &dt_kinds[k], variant, 300) };
            const size_t n = a.b.rows * 24, size = tern_dtype_size(a.b.kind->a);
            float *all = test_poison(n);
            a.w = weights_of(&a.b);
            run_answer(&a, ctx, all);

            for (size_t i = 0; i < sizeof picked / sizeof *picked; i++)
                check_alone(ctx, &a, picked[i], all);
            for (int threads = 2; threads <= 3; threads++) {
                tern_ctx *more = test_ctx(threads);
                float *got = test_poison(n);
                run_answer(&a, more, got);
                test_equal(got, all, n, "threads");
                tern_ctx_destroy(&more);
            }
            tern_tensor *const in[] = { &a.b.residual, &a.b.input };
            for (int i = 0; i < 2; i++) {
                struct answer same = a;
                tern_tensor place = FN_OUT(a.b.kind->a, 300, 24);
                memcpy(place.data, in[i]->data, n * size);
                *(i ? &same.b.input : &same.b.residual) = place;
                run(ctx, &same.b, &same.w, NULL, NULL, &place);
                for (size_t j = 0; j < n; j++)
                    assert_true((float)fn_at(&place, j) == all[j]);
            }
            drop(&a.b);
            tern_ctx_destroy(&ctx);
            test_teardown(NULL);
        }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < DT_KINDS; k++) {
        struct block b = block(ctx, &dt_kinds[k], 10);
        const bool int8 = b.kind->dtype == TERN_INT8;
        tern_layer_weights w = weights_of(&b);
        tern_tensor record = FN_IN(TERN_FP32, 1, 2, 1), out = FN_OUT(b.kind->a, (int64_t)b.rows, 24);
        tern_module_quant quant = tern_module_quant_default();
        tern_mlp *mlp = NULL;

        b.config.set_empty_params = true;
        w.inter_w = w.inter_b = tern_tensor_none();
        w.inter_up_w = columns(&b.w1, b.config.transposed_mode, b.h, 0, b.inner);
        if (b.up != b.inner)
            w.inter_gate_w = columns(&b.w1, b.config.transposed_mode, b.h, b.inner, b.up);
        w.output_w = b.w2.raw;
        quant.q_scales = int8 ? &record : NULL;
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_mlp_create(ctx, &b.config, NULL, &quant, &w, &mlp);
            FAULT_DONE(n, ctx, status, mlp);
            tern_mlp_destroy(&mlp);
        }
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_mlp_forward(ctx, mlp, &b.input, &b.residual, &b.residual_norm, &b.ob, &out);
            FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
            assert_true(fn_untouched(&out));
        }
        tern_mlp_destroy(&mlp);
        drop(&b);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_forms),
        OP_TEST(test_is_its_operators),
        OP_TEST(test_q_scales),
        OP_TEST(test_q_scales_of_the_checkpoint_scheme),
        OP_TEST(test_one_reduction_exactly_with_ranks),
        OP_TEST(test_two_ranks_are_one),
        OP_TEST(test_bad_modules),
        OP_TEST(test_one_answer),
        OP_TEST(test_many_rows),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("modules/mlp", tests, NULL, NULL);
}
