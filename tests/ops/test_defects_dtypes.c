/* test_defects_dtypes.c: places where the reference goes wrong in one dtype and not in another, and what holds in every dtype
 * here.  Numbers are those of docs/operators.md. */
#include "ops/dtype_testing.h"

#include <tern/quantize.h>

#include <stdio.h>

static tern_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

#define EACH_KIND(kind) for (const struct dt_kind *kind = dt_kinds; kind < dt_kinds + DT_KINDS; kind++)

/* By name, with the raw matrix and the scales of int8. */
static tern_status by_name(const tern_config *config, const char *name, const tern_op_params *params, tern_op_io *io,
                           size_t n)
{
    const tern_op_call call = { .params = params };
    tern_op *op;
    const tern_status created = tern_op_create(ctx, name, config, &op);

    if (created != TERN_OK)
        return created;
    const tern_status status = tern_op_run(ctx, op, io, n, &call);
    tern_op_destroy(&op);
    return status;
}

/* ---- norms ---- */

static void test_b5_b6_b7_norms_of_any_width_and_number_of_rows(void **state)
{
    static const int64_t sizes[][2] = { { 33, 100 }, { 33, 127 }, { 3, 1 }, { 2, 16385 } };

    (void)state;
    EACH_KIND(kind)
    for (size_t s = 0; s < 4; s++)
        for (int norm = TERN_LAYER_NORM; norm <= TERN_RMS_NORM; norm += TERN_RMS_NORM - TERN_LAYER_NORM) {
            const int64_t m = sizes[s][0], n = sizes[s][1];
            struct dt_matrix w = dt_matrix(ctx, kind, false, (size_t)n, 1, 0.1f, 1);
            const tern_tensor x = FN_IN(kind->a, 1, m, n), g = FN_IN(kind->a, 1, n), b = FN_IN(kind->a, 1, n);
            const bool rms = norm == TERN_RMS_NORM;
            tern_tensor y = FN_OUT(kind->a, m, 1), z = FN_OUT(kind->a, m, n);
            tern_config c = dt_config(kind);
            c.norm_type = (tern_norm)norm;
            assert_ok(ctx, tern_qkv_gemm(ctx, &c, &x, &w.given, NULL, &g, rms ? NULL : &b, &y, &z));
            const double *want =
                naive_norm(fn_doubles(&x), dt_floats(&g), rms ? NULL : dt_floats(&b), (size_t)m, (size_t)n, 1e-5f, rms);
            fn_near(&z, want, 3e-6, "norm");
            fn_near(&y, naive_matmul(dt_rows(kind, want, (size_t)m, (size_t)n), w.wide, NULL, (size_t)m, (size_t)n, 1),
                    kind->bound, "output");
            fn_nothing_behind(&z);
            fn_nothing_behind(&y);
            tern_weight_destroy(&w.packed);
            test_teardown(NULL);
        }
}

/* The operator of a norm is a kernel of its own, in every dtype, and what the table says is what runs. */
static void test_b32_layer_norm_by_name_is_the_kernel(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        const tern_tensor x = FN_IN(kind->a, 1, 5, 33), g = FN_IN(kind->a, 1, 33), b = FN_IN(kind->a, 1, 33);
        tern_tensor got = FN_OUT(kind->a, 5, 33), want = FN_OUT(kind->a, 5, 33);
        const tern_config c = dt_config(kind);
        tern_op_io io[] = { { "input", (tern_tensor *)&x },
                            { "gamma", (tern_tensor *)&g },
                            { "beta", (tern_tensor *)&b },
                            { "output", &got } };
        char text[256];
        assert_ok(ctx, by_name(&c, "layer_norm", NULL, io, 4));
        assert_ok(ctx, tern_layer_norm(ctx, &x, &g, &b, 1e-5f, &want));
        fn_same(&got, want.data, "layer_norm by name");
        if (!tern_op_cell(ctx, tern_op_find("layer_norm"), kind->dtype, 0, TERN_CPU, text, sizeof text))
            assert_true(tern_op_cell(ctx, tern_op_find("layer_norm"), kind->dtype, TERN_LAYER_NORM, TERN_CPU, text,
                                     sizeof text));
        assert_non_null(strstr(text, kind->dtype == TERN_FP16   ? "layer_norm_f16"
                                     : kind->dtype == TERN_BF16 ? "layer_norm_bf16"
                                                                : "layer_norm_f32"));
    }
}

/* ---- products ---- */

/* The scale of every output channel counts, the codes lie as transposed_mode says, and int8 without a scale is an error. */
static void test_b25_b27_int8_products_are_scaled(void **state)
{
    (void)state;
    EACH_KIND(kind)
    for (int t = 0; t < 2; t++) {
        struct dt_matrix w = dt_matrix(ctx, kind, t, 33, 66, 0.4f, 6);
        const tern_tensor x = FN_IN(kind->a, 1, 5, 33), b = FN_IN(kind->a, 1, 66);
        const double *rows = dt_rows(kind, fn_doubles(&x), 5, 33);
        tern_config c = dt_config(kind);
        const bool int8 = kind->dtype == TERN_INT8;
        c.transposed_mode = t;
        for (int bias = 0; bias < 2; bias++) {
            tern_tensor y = FN_OUT(kind->a, 5, 66);
            tern_op_io io[] = { { "input", (tern_tensor *)&x },
                                { "weight", &w.raw },
                                { "output", &y },
                                { bias ? "bias" : "weight_scale", bias ? (tern_tensor *)&b : &w.scale },
                                { "weight_scale", &w.scale } };
            const char *name = bias ? "linear" : "vector_matmul";
            assert_ok(ctx, by_name(&c, name, NULL, io, bias ? 5 : 4));
            fn_near(&y, naive_matmul(rows, w.wide, bias ? dt_floats(&b) : NULL, 5, 33, 66), kind->bound, name);
            if (!int8)
                continue;
            tern_tensor untouched = FN_OUT(kind->a, 5, 66);
            io[2].tensor = &untouched;
            assert_fails(ctx, by_name(&c, name, NULL, io, 3), TERN_ERR_ARG, "weight_scale is missing");
            assert_true(fn_untouched(&untouched));
        }
        tern_weight_destroy(&w.packed);
    }
}

/* What asks for another implementation is without effect, and does not take away the one that was chosen. */
static void test_b26_nothing_replaces_the_chosen_implementation(void **state)
{
    (void)state;
    EACH_KIND(kind)
    for (int kernel = TERN_KERNEL_AUTO; kernel <= TERN_KERNEL_REFERENCE; kernel++) {
        struct dt_matrix w = dt_matrix(ctx, kind, false, 33, 66, 0.4f, 1);
        const tern_tensor x = FN_IN(kind->a, 1, 5, 33), b = FN_IN(kind->a, 1, 66);
        tern_tensor plain = FN_OUT(kind->a, 5, 66), asked = FN_OUT(kind->a, 5, 66);
        tern_config c = dt_config(kind);
        c.kernel = (tern_kernel_choice)kernel;
        assert_ok(ctx, tern_linear(ctx, &c, &x, &w.given, &b, &plain));
        c.use_triton = c.triton_autotune = true;
        c.layer_id = 0;
        assert_ok(ctx, tern_linear(ctx, &c, &x, &w.given, &b, &asked));
        fn_same(&asked, plain.data, "linear");
        tern_weight_destroy(&w.packed);
    }
}

static void test_b29_transposed_mode_holds_in_every_product(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        const tern_tensor x = FN_IN(kind->a, 1, 3, 10), b = FN_IN(kind->a, 1, 14);
        const uint64_t seed = test_seed;
        tern_tensor y[2];
        for (int t = 0; t < 2; t++) {
            test_seed = seed;
            struct dt_matrix w1 = dt_matrix(ctx, kind, t, 10, 14, 0.4f, 2),
                             w2 = dt_matrix(ctx, kind, t, 14, 6, 0.4f, 3);
            tern_config c = dt_config(kind);
            c.transposed_mode = t;
            y[t] = FN_OUT(kind->a, 3, 6);
            tern_op_io io[] = {
                { "input", (tern_tensor *)&x },   { "bias", (tern_tensor *)&b }, { "weight", &w1.raw },
                { "weight_out", &w2.raw },        { "output", &y[t] },           { "weight_scale", &w1.scale },
                { "weight_out_scale", &w2.scale }
            };
            assert_ok(ctx, by_name(&c, "gelu_gemm", NULL, io, 7));
            tern_weight_destroy(&w1.packed);
            tern_weight_destroy(&w2.packed);
        }
        fn_same(&y[1], y[0].data, "gelu_gemm");
    }
}

/* Rows of a gated product are [up | gate], 2I apart; sizes come from the axes that transposed_mode names. */
static void test_b37_gated_rms_rows_have_their_stride(void **state)
{
    (void)state;
    EACH_KIND(kind)
    for (int t = 0; t < 2; t++)
        for (int act = TERN_GATED_GELU; act <= TERN_GATED_SILU; act++) {
            const size_t m = 5, h = 20, inner = 33;
            struct dt_matrix w1 = dt_matrix(ctx, kind, t, h, 2 * inner, 0.4f, 6);
            struct dt_matrix w2 = dt_matrix(ctx, kind, t, inner, h, 0.4f, 4);
            tern_tensor x = FN_IN(kind->a, 1, 5, 20), r = FN_IN(kind->a, 1, 5, 20), g = FN_IN(kind->a, 1, 20);
            tern_tensor b = FN_IN(kind->a, 1, 66), y = FN_OUT(kind->a, 5, 20);
            double *sum = test_doubles(m * h);
            tern_config c = dt_config(kind);
            c.norm_type = TERN_RMS_NORM;
            c.mlp_act_func_type = (tern_activation)act;
            c.transposed_mode = t;
            for (size_t i = 0; i < m * h; i++)
                sum[i] = fn_at(&x, i) + fn_at(&r, i);
            const double *z = naive_norm(sum, dt_floats(&g), NULL, m, h, 1e-5f, true);
            tern_op_io io[] = { { "input", &x },
                                { "residual", &r },
                                { "weight", &w1.raw },
                                { "weight_out", &w2.raw },
                                { "bias", &b },
                                { "gamma", &g },
                                { "output", &y },
                                { "weight_scale", &w1.scale },
                                { "weight_out_scale", &w2.scale } };
            assert_ok(ctx, by_name(&c, "mlp_gemm", NULL, io, 9));
            fn_near(&y, dt_mlp(kind, z, w1.wide, dt_floats(&b), w2.wide, m, h, 2 * inner, h, (tern_activation)act, 0),
                    kind->bound, "mlp_gemm");
            fn_nothing_behind(&y);
            tern_weight_destroy(&w1.packed);
            tern_weight_destroy(&w2.packed);
        }
}

static void test_b36_an_unknown_activation_is_an_error_in_every_dtype(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        tern_config c = dt_config(kind);
        tern_op_params params = tern_op_params_default();
        tern_tensor x = FN_IN(kind->a, 1, 2, 4), y = FN_OUT(kind->a, 2, 2);
        tern_op_io io[] = { { "input", &x }, { "output", &y } };
        tern_op *op;
        c.mlp_act_func_type = (tern_activation)0;
        assert_fails(ctx, tern_op_create(ctx, "mlp_gemm", &c, &op), TERN_ERR_CONFIG, "mlp_act_func_type is 0");
        params.activation = "unknown";
        assert_fails(ctx, by_name(&c, "gated_activation", &params, io, 2), TERN_ERR_ARG, "\"unknown\"");
        assert_true(fn_untouched(&y));
    }
}

/* RMSNorm's sum goes to residual_add alone: what was given is as it was. */
static void test_b38_mlp_gemm_writes_none_of_its_inputs(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        struct dt_matrix w1 = dt_matrix(ctx, kind, false, 20, 34, 0.4f, 1);
        struct dt_matrix w2 = dt_matrix(ctx, kind, false, 34, 20, 0.4f, 1);
        const tern_tensor x = FN_IN(kind->a, 1, 5, 20), r = FN_IN(kind->a, 1, 5, 20), g = FN_IN(kind->a, 1, 20);
        const tern_tensor b = FN_IN(kind->a, 1, 20);
        const void *kept_x = fn_keep(&x), *kept_r = fn_keep(&r);
        tern_tensor y = FN_OUT(kind->a, 5, 20), sum = FN_OUT(kind->a, 5, 20);
        tern_config c = dt_config(kind);
        c.norm_type = TERN_RMS_NORM;
        assert_ok(ctx, tern_mlp_gemm(ctx, &c, &x, &r, &w1.given, &w2.given, &b, NULL, &g, NULL, &y, &sum));
        fn_same(&x, kept_x, "input");
        fn_same(&r, kept_r, "residual");
        for (size_t i = 0; i < 100; i++) {
            const double want = fn_at(&x, i) + fn_at(&r, i) + fn_at(&b, i % 20);
            assert_true(fabs(fn_at(&sum, i) - want) <= 1e-6 + fn_half_ulp(kind->a, want));
        }
        tern_weight_destroy(&w1.packed);
        tern_weight_destroy(&w2.packed);
    }
}

/* ---- the dtype of a tensor ---- */

/* Tensors are of the config's dtype, and of activation_dtype with int8: others are refused, and none is read as another. */
static void test_b30_the_dtype_is_that_of_the_tensors(void **state)
{
    static const char *const names[] = { "bias_add", "bias_gelu", "bias_relu", "bias_residual" };

    (void)state;
    EACH_KIND(kind)
    for (size_t i = 0; i < 4; i++)
        FN_EACH_DTYPE(d)
        {
            const tern_config c = dt_config(kind);
            tern_tensor x = FN_FILLED(d, 1.5, 3, 5), r = FN_FILLED(d, 0.25, 3, 5), b = FN_FILLED(d, -3, 5),
                        y = FN_OUT(d, 3, 5);
            tern_op_io io[] = { { "input", &x }, { "bias", &b }, { "output", &y }, { "residual", &r } };
            const double sum = -1.5;
            const double want = i == 0 ? sum
                                : i == 1
                                    ? 0.5 * sum * (1 + tanh(0.7978845608028654 * (sum + 0.044715 * sum * sum * sum)))
                                : i == 2 ? 0
                                         : sum + 0.25;
            const tern_status status = by_name(&c, names[i], NULL, io, i == 3 ? 4 : 3);
            if ((tern_dtype)d != kind->a) {
                assert_int_equal(status, TERN_ERR_DTYPE);
                assert_true(fn_untouched(&y));
                continue;
            }
            assert_int_equal(status, TERN_OK);
            for (size_t j = 0; j < 15; j++)
                assert_true(fabs(fn_at(&y, j) - want) <= 1e-7 + fn_half_ulp((tern_dtype)d, want));
        }
}

/* The same for what the reference has in one dtype alone. */
static void test_b21_b30_padding_and_einsum_in_every_dtype(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        const tern_config c = dt_config(kind);
        tern_op_params params = tern_op_params_default();
        tern_tensor q = FN_FILLED(kind->a, 1.5, 1, 77, 6), padded = FN_OUT(kind->a, 1, 2, 79, 4);
        tern_op_io pad[] = { { "query", &q }, { "query_output", &padded } };
        params.num_heads = 2;
        assert_ok(ctx, by_name(&c, "pad_transform", &params, pad, 2));
        for (size_t i = 0; i < fn_elements(&padded); i++)
            assert_true(fn_at(&padded, i) == (i % 4 < 3 && i / 4 % 79 < 77 ? 1.5 : 0));
        fn_nothing_behind(&padded);
        tern_tensor s = FN_FILLED(kind->a, 2, 3, 5, 7), w = FN_FILLED(kind->a, 0.5, 3, 9), y = FN_OUT(kind->a, 5, 7, 9);
        tern_op_io sum[] = { { "q", &s }, { "w", &w }, { "output", &y } };
        assert_ok(ctx, by_name(&c, "einsum_sec_sm_ecm", NULL, sum, 3));
        for (size_t i = 0; i < fn_elements(&y); i++)
            assert_true(fn_at(&y, i) == 3);
    }
}

/* ---- codes ---- */

/* A scheme's codes of a weight cut by rows are the rows of its codes; a weight is cut before it is quantised. */
static void test_b43_scales_of_a_part_are_those_of_its_rows(void **state)
{
    (void)state;
    float *w = test_floats(12 * 10, 1);
    const tern_tensor whole = t2(w, 12, 10);
    const tern_quant_options o = tern_quant_options_default(TERN_QUANT_INJECTION);
    tern_qtensor *all;

    assert_ok(ctx, tern_weight_quantize(ctx, &whole, &o, &all));
    for (size_t ranks = 1; ranks <= 4; ranks++)
        for (size_t r = 0; r < ranks; r++) {
            const size_t rows = 12 / ranks;
            const tern_tensor cut = t2(w + r * rows * 10, rows, 10);
            tern_qtensor *part;
            assert_ok(ctx, tern_weight_quantize(ctx, &cut, &o, &part));
            assert_int_equal(tern_qtensor_layout(part).n_groups, rows);
            assert_memory_equal(tern_qtensor_codes(part), tern_qtensor_codes(all) + r * rows * 10, rows * 10);
            assert_memory_equal(tern_qtensor_scales(part), tern_qtensor_scales(all) + r * rows, rows * 4);
            tern_qtensor_destroy(&part);
        }
    tern_qtensor_destroy(&all);
}

/* A group of zeros, or of one value, is finite and comes back as it was, in every scheme, number of bits and dtype. */
static void test_b45_groups_of_one_value_come_back(void **state)
{
    static const double values[] = { 0, 3, -0.5 };

    (void)state;
    FN_EACH_DTYPE(d)
    for (int s = TERN_QUANT_CHECKPOINT; s <= TERN_QUANT_GROUPWISE; s++)
        for (int bits = 4; bits <= 8; bits += 4)
            for (size_t v = 0; v < 3; v++) {
                const double x = values[v], step = s == TERN_QUANT_GROUPWISE ? 0 : fabs(x) * 2 / (1 << bits);
                const tern_tensor w = FN_FILLED(d, x, 2, 64);
                tern_quant_options o = tern_quant_options_default((tern_quant_scheme)s);
                tern_tensor back = FN_OUT(d, 2, 64);
                tern_qtensor *q;
                o.bits = bits;
                assert_ok(ctx, tern_weight_quantize(ctx, &w, &o, &q));
                assert_ok(ctx, tern_weight_dequantize(ctx, q, &back));
                for (size_t i = 0; i < 128; i++) /* the largest positive value is clamped to a code less */
                    assert_true(fabs(fn_at(&back, i) - x) <= step + 1e-5 + fn_half_ulp((tern_dtype)d, x));
                for (int64_t i = 0; i < tern_qtensor_layout(q).n_groups; i++)
                    assert_true(isfinite(tern_qtensor_scales(q)[i]) && tern_qtensor_scales(q)[i] > 0);
                tern_qtensor_destroy(&q);
            }
}

/* A float weight does not become int8 by a cast, nor int8 codes a weight without their scales. */
static void test_b46_no_weight_is_cast_to_int8(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        if (kind->dtype != TERN_INT8)
            continue;
        const tern_config c = dt_config(kind);
        tern_tensor x = FN_IN(kind->a, 1, 3, 8), y = FN_OUT(kind->a, 3, 6), one = FN_FILLED(TERN_FP32, 1, 1);
        FN_EACH_DTYPE(d)
        {
            tern_tensor w = FN_IN(d, 1, 8, 6);
            tern_op_io io[] = { { "input", &x }, { "weight", &w }, { "output", &y }, { "weight_scale", &one } };
            assert_fails(ctx, tern_linear(ctx, &c, &x, &w, NULL, &y), TERN_ERR_DTYPE, "int8");
            assert_fails(ctx, by_name(&c, "linear", NULL, io, 3), TERN_ERR_DTYPE, "int8");
            assert_fails(ctx, by_name(&c, "linear", NULL, io, 4), TERN_ERR_ARG, "weight_scale");
        }
        tern_tensor codes = FN_OUT(TERN_INT8, 8, 6);
        assert_int_not_equal(tern_linear(ctx, &c, &x, &codes, NULL, &y), TERN_OK);
        assert_true(fn_untouched(&y));
    }
}

/* Codes are restored in the dtype that is asked for, to the last element of any width, from any number of groups. */
static void test_b47_b48_codes_are_restored_whole_in_every_dtype(void **state)
{
    static const int64_t widths[] = { 1, 3, 5, 6, 64, 129 };

    (void)state;
    EACH_KIND(kind)
    for (size_t i = 0; i < 6; i++)
        for (int64_t rows = 1; rows <= 33; rows += 16) {
            const tern_config c = dt_config(kind);
            const int64_t n = widths[i];
            tern_tensor codes = FN_OUT(TERN_INT8, rows, n), scale = FN_IN(TERN_FP32, 0.1f, rows),
                        y = FN_OUT(kind->a, rows, n);
            tern_op_params params = tern_op_params_default();
            tern_op_io io[] = { { "input", &codes }, { "scale", &scale }, { "output", &y } };
            params.scheme = TERN_QUANT_INJECTION;
            for (int64_t j = 0; j < rows * n; j++)
                ((int8_t *)codes.data)[j] = (int8_t)((int)(test_random(&test_seed) % 255) - 127);
            assert_ok(ctx, by_name(&c, "dequantize", &params, io, 3));
            for (int64_t j = 0; j < rows * n; j++) {
                const double want = (double)((int8_t *)codes.data)[j] * fn_at(&scale, (size_t)(j / n));
                assert_true(fabs(fn_at(&y, (size_t)j) - want) <= 1e-6 * fabs(want) + fn_half_ulp(kind->a, want));
            }
            fn_nothing_behind(&y);
            test_teardown(NULL);
        }
}

/* ---- attention over a cache ---- */

/* Heads of one channel: a cache for them, and rows of (q, k, v) through it. */
static tern_kv_cache *narrow_cache(int32_t sequences, int64_t positions)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = 1,
                                  .head_dim = 1,
                                  .n_positions = 64 * ((positions + 63) / 64) * sequences,
                                  .n_sequences = sequences,
                                  .n_context = positions };
    tern_kv_cache *cache;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    return cache;
}

static tern_tensor attended(const struct dt_kind *kind, tern_config config, tern_kv_cache *cache,
                            const tern_kv_span *spans, size_t n_spans, const double *rows, size_t n)
{
    tern_tensor qkv = FN_OUT(kind->a, (int64_t)n, 3), output = FN_OUT(kind->a, (int64_t)n, 1);

    config.hidden_size = config.heads = 1;
    for (size_t i = 0; i < 3 * n; i++)
        fn_put(qkv.data, kind->a, i, rows[i]);
    assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, n_spans));
    assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &qkv, NULL, NULL, cache, 0, spans, n_spans, &output));
    assert_ok(ctx, tern_kv_commit(ctx, cache, spans, n_spans));
    return output;
}

static void test_b49_b51_caches_are_of_their_callers_size_and_do_not_meet(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        /* One sequence first, then four at once; another cache between them. */
        tern_kv_cache *cache = narrow_cache(5, 64), *other = narrow_cache(1, 64);
        tern_kv_span spans[4], alone = { .n_rows = 1 };
        assert_ok(ctx, tern_kv_sequence_add(ctx, other, &alone.sequence));
        for (int32_t n = 1; n <= 4; n += 3) {
            double rows[12];
            for (int32_t i = 0; i < n; i++) {
                spans[i] = (tern_kv_span){ .row = i, .n_rows = 1 };
                assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &spans[i].sequence));
                rows[3 * i] = rows[3 * i + 1] = 1;
                rows[3 * i + 2] = i + 10;
            }
            const tern_tensor y = attended(kind, dt_config(kind), cache, spans, (size_t)n, rows, (size_t)n);
            for (size_t i = 0; i < (size_t)n; i++)
                assert_true(fn_at(&y, i) == (double)i + 10);
            const tern_tensor z =
                attended(kind, dt_config(kind), other, &alone, 1, (double[]){ 0, 0, n == 1 ? 2 : 6 }, 1);
            assert_true(fn_at(&z, 0) == (n == 1 ? 2 : 4)); /* the mean of its own two keys, no others */
            alone.position++;
        }
        tern_kv_cache_destroy(&cache);
        tern_kv_cache_destroy(&other);
        test_teardown(NULL);
    }
}

static void test_b52_several_tokens_continue_a_sequence_and_capacity_is_checked(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        double rows[3 * 12], all[12];
        for (size_t i = 0; i < 36; i++)
            rows[i] = (double)test_normal(&test_seed);
        for (size_t chunk = 1; chunk <= 12; chunk += chunk == 1 ? 4 : 7) {
            tern_kv_cache *cache = narrow_cache(1, 100);
            tern_kv_span span = { .n_rows = 0 };
            assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
            for (size_t at = 0; at < 12; at += chunk) {
                span.position = (int64_t)at;
                span.n_rows = (int32_t)(12 - at < chunk ? 12 - at : chunk);
                const tern_tensor y =
                    attended(kind, dt_config(kind), cache, &span, 1, rows + 3 * at, (size_t)span.n_rows);
                for (size_t i = 0; i < (size_t)span.n_rows; i++)
                    if (chunk == 1)
                        all[at + i] = fn_at(&y, i);
                    else
                        assert_true(fn_at(&y, i) == all[at + i]);
            }
            span.position = 12;
            span.n_rows = 89;
            assert_fails(ctx, tern_kv_reserve(ctx, cache, &span, 1), TERN_ERR_CAPACITY, "100");
            tern_kv_cache_destroy(&cache);
        }
        test_teardown(NULL);
    }
}

/* Two keys with scores 0 and 6 / (layer + 1): the weight of the second tells the scale.  What is rounded on the way is exact
 * here, the exponential of the larger score being 1; so only the store is left. */
static void test_b53_the_scale_by_layer_comes_from_the_config(void **state)
{
    (void)state;
    EACH_KIND(kind)
    for (int layer = 0; layer < 4; layer++) {
        tern_config config = dt_config(kind);
        tern_kv_cache *cache = narrow_cache(1, 64);
        tern_kv_span span = { .n_rows = 2 };
        const double want = 1 / (1 + exp(-6.0 / (layer + 1)));
        config.scale_attn_by_inverse_layer_idx = true;
        config.layer_id = layer;
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
        const tern_tensor y = attended(kind, config, cache, &span, 1, (double[]){ 2, 0, 0, 2, 3, 1 }, 2);
        assert_true(fabs(fn_at(&y, 1) - want) < 1e-6 + fn_half_ulp(kind->a, want));
        tern_kv_cache_destroy(&cache);
        test_teardown(NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_b5_b6_b7_norms_of_any_width_and_number_of_rows),
        OP_TEST(test_b32_layer_norm_by_name_is_the_kernel),
        OP_TEST(test_b25_b27_int8_products_are_scaled),
        OP_TEST(test_b26_nothing_replaces_the_chosen_implementation),
        OP_TEST(test_b29_transposed_mode_holds_in_every_product),
        OP_TEST(test_b37_gated_rms_rows_have_their_stride),
        OP_TEST(test_b36_an_unknown_activation_is_an_error_in_every_dtype),
        OP_TEST(test_b38_mlp_gemm_writes_none_of_its_inputs),
        OP_TEST(test_b30_the_dtype_is_that_of_the_tensors),
        OP_TEST(test_b21_b30_padding_and_einsum_in_every_dtype),
        OP_TEST(test_b43_scales_of_a_part_are_those_of_its_rows),
        OP_TEST(test_b45_groups_of_one_value_come_back),
        OP_TEST(test_b46_no_weight_is_cast_to_int8),
        OP_TEST(test_b47_b48_codes_are_restored_whole_in_every_dtype),
        OP_TEST(test_b49_b51_caches_are_of_their_callers_size_and_do_not_meet),
        OP_TEST(test_b52_several_tokens_continue_a_sequence_and_capacity_is_checked),
        OP_TEST(test_b53_the_scale_by_layer_comes_from_the_config),
    };
    return cmocka_run_group_tests_name("ops/defects_dtypes", tests, setup, end);
}
