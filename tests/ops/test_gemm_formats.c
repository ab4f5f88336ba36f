/* test_gemm_formats.c: products with weights of every storage format, computed in f32 and with rows rounded to it. */
/* labels: quick threads */
#include "faults.h"
#include "ops/op_testing.h"

#include "kernels/ref/ref.h"
#include "ops/kernel_calls.h"

static const tern_dtype formats[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
static const char *const format_names[] = { "f32", "f16", "bf16", "q8" };

struct product {
    const float *a, *bias;
    size_t m, k, n;
    const struct tern_weight *w;
    bool narrow;
    void *scratch;
    float *c;
};

static void product_region(void *arg, const struct tern_par *par)
{
    const struct product *p = arg;
    const struct tern_epilogue e = { .bias = p->bias };

    if (p->narrow)
        tern_gemm_run_narrow(par, p->c, p->n, p->a, p->k, p->m, p->w, &e, p->scratch);
    else
        tern_gemm_run(par, p->c, p->n, p->a, p->k, p->m, p->w, &e);
}

static float *multiply(tern_ctx *ctx, const float *a, const float *bias, size_t m, const struct tern_weight *w,
                       bool narrow)
{
    struct product p = { a, bias, m, (size_t)w->in, (size_t)w->out, w, narrow, NULL, NULL };
    const size_t bytes = narrow ? tern_gemm_scratch(w, m) : 0;

    p.c = test_poison(m * p.n);
    if (bytes) {
        p.scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
        assert_non_null(p.scratch);
        memset(p.scratch, 0xff, bytes);
    }
    assert_ok(ctx, tern_region(ctx, product_region, &p));
    free(p.scratch);
    return p.c;
}

/* What a packed weight holds, [k][n], exactly; q8 without its scales. */
static float *unpacked(const struct tern_weight *w)
{
    const struct tern_weight_layout layout = tern_weight_layout(w->format, (size_t)w->in);
    const size_t k = (size_t)w->in, n = (size_t)w->out;
    float *to = test_bytes(k * n * sizeof *to);

    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < n; j++) {
            const size_t at = ((j / 32 * layout.steps + i / layout.per) * 32 + j % 32) * layout.per + i % layout.per;
            if (w->format == TERN_WEIGHT_F32)
                to[i * n + j] = ((const float *)w->words)[at];
            else if (w->format == TERN_WEIGHT_F16)
                tern_f32_from_f16_ref(&to[i * n + j], (const uint16_t *)w->words + at, 1);
            else if (w->format == TERN_WEIGHT_BF16)
                tern_f32_from_bf16_ref(&to[i * n + j], (const uint16_t *)w->words + at, 1);
            else
                to[i * n + j] = ((const int8_t *)w->words)[at];
        }
    return to;
}

static const size_t sizes[][3] = {
    { 1, 1, 1 },    { 1, 0, 5 },     { 2, 7, 31 },     { 3, 64, 64 },   { 13, 41, 65 },
    { 15, 34, 32 }, { 29, 65, 34 },  { 64, 63, 70 },   { 128, 17, 33 }, { 129, 18, 70 },
    { 300, 5, 33 }, { 3, 2101, 40 }, { 16, 4099, 33 }, { 1, 3000, 70 }, { 5, 2048, 32 },
};

/* Packing keeps what a format holds, from every dtype and both orders, and a channel reads it back. */
static void test_packing(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        const size_t k = 131, n = 70;
        float *w = test_floats(k * n, 1);
        uint16_t *half = test_bytes(k * n * 2), *brain = test_bytes(k * n * 2);
        tern_f16_from_f32_ref(half, w, k * n);
        tern_bf16_from_f32_ref(brain, w, k * n);

        for (int source = TERN_FP32; source <= TERN_BF16; source++)
            for (int transposed = 0; transposed <= 1; transposed++)
                for (size_t f = 0; f < 4; f++) {
                    void *data = source == TERN_FP32 ? (void *)w : source == TERN_FP16 ? (void *)half : (void *)brain;
                    const int64_t dim[2] = { (int64_t)(transposed ? n : k), (int64_t)(transposed ? k : n) };
                    const tern_tensor t = tern_tensor_view(data, (tern_dtype)source, 2, dim);
                    tern_weight *packed;
                    assert_ok(ctx, tern_weight_pack_as(ctx, &t, transposed, formats[f], NULL, &packed));
                    assert_int_equal(tern_weight_dtype(packed), formats[f]);
                    assert_true((packed->panels != NULL) == (f == 0));
                    assert_true((packed->scale != NULL) == (f == 3));
                    const float *got = unpacked(packed);
                    float *channel = test_bytes(k * sizeof *channel);
                    for (size_t j = 0; j < n; j++) {
                        float column[131];
                        for (size_t i = 0; i < k; i++) {
                            const size_t at = transposed ? j * k + i : i * n + j;
                            if (source == TERN_FP32)
                                column[i] = w[at];
                            else if (source == TERN_FP16)
                                tern_f32_from_f16_ref(&column[i], &half[at], 1);
                            else
                                tern_f32_from_bf16_ref(&column[i], &brain[at], 1);
                        }
                        tern_weight_channel(ctx->kernels, packed, j, j, channel);
                        uint8_t codes[132];
                        float scale = 1;
                        if (f == 3) {
                            tern_quantize_row_q8_ref(codes, &scale, column, k);
                            assert_true(packed->scale[j] == scale);
                        }
                        int32_t sum = 0;
                        for (size_t i = 0; i < k; i++) {
                            uint16_t bits;
                            float want = column[i];
                            if (f == 1) {
                                tern_f16_from_f32_ref(&bits, &column[i], 1);
                                tern_f32_from_f16_ref(&want, &bits, 1);
                            } else if (f == 2) {
                                tern_bf16_from_f32_ref(&bits, &column[i], 1);
                                tern_f32_from_bf16_ref(&want, &bits, 1);
                            } else if (f == 3) {
                                want = (float)(codes[i] - 128);
                                sum += codes[i] - 128;
                            }
                            assert_true(got[i * n + j] == want);
                            assert_true(channel[i] == want * scale);
                        }
                        if (f == 3)
                            assert_int_equal(packed->start[j], -128 * sum);
                    }
                    tern_weight_destroy(&packed);
                }
        tern_ctx_destroy(&ctx);
    }
}

/* Codes with a scale for every so many output channels are kept as they are. */
static void test_codes(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    int8_t w[35 * 40];
    float scale[40];
    tern_weight *packed;

    for (size_t i = 0; i < sizeof w; i++)
        w[i] = (int8_t)(i * 37 % 256 - 128);
    for (size_t j = 0; j < 40; j++)
        scale[j] = 0.5f + (float)j;
    for (int transposed = 0; transposed <= 1; transposed++)
        for (size_t groups = 1; groups <= 40; groups++) {
            const int64_t dim[2] = { transposed ? 40 : 35, transposed ? 35 : 40 };
            const tern_tensor t = tern_tensor_view(w, TERN_INT8, 2, dim), s = t2(scale, 1, groups);
            if (40 % groups) {
                assert_fails(ctx, tern_weight_pack_as(ctx, &t, transposed, TERN_INT8, &s, &packed), TERN_ERR_SHAPE,
                             "values for 40 output channels, expected a number that divides them");
                continue;
            }
            assert_ok(ctx, tern_weight_pack_as(ctx, &t, transposed, TERN_INT8, &s, &packed));
            assert_int_equal(tern_weight_dtype(packed), TERN_INT8);
            const float *got = unpacked(packed);
            for (size_t i = 0; i < 35; i++)
                for (size_t j = 0; j < 40; j++) {
                    assert_true(got[i * 40 + j] == (float)w[transposed ? j * 35 + i : i * 40 + j]);
                    assert_true(packed->scale[j] == scale[j / (40 / groups)]);
                }
            tern_weight_destroy(&packed);
        }
    tern_ctx_destroy(&ctx);
}

static void test_bad_codes(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    int8_t w[6] = { 0 };
    float scale[3] = { 1, 2, 3 }, x[6] = { 0 };
    const tern_tensor codes = tern_tensor_view(w, TERN_INT8, 2, (int64_t[]){ 2, 3 });
    const tern_tensor none = tern_tensor_none(), plain = t2(x, 2, 3);
    tern_tensor s = t1(scale, 3), flat = tern_tensor_view(w, TERN_INT8, 1, (int64_t[]){ 6 });
    tern_weight *packed = (tern_weight *)ctx;

#define BAD(w, dtype, scale, status, text) \
    assert_fails(ctx, tern_weight_pack_as(ctx, (w), false, (dtype), (scale), &packed), (status), (text))
    BAD(&codes, TERN_INT8, NULL, TERN_ERR_ARG, "scale is NULL for a matrix of int8, expected a number for each group");
    assert_null(packed);
    BAD(&codes, TERN_INT8, &none, TERN_ERR_ARG, "scale is NULL");
    BAD(&plain, TERN_INT8, &s, TERN_ERR_ARG, "scale is given for a matrix of fp32");
    BAD(&codes, TERN_FP16, &s, TERN_ERR_DTYPE, "w is int8, expected fp32, fp16 or bf16 (codes pack as int8");
    BAD(&codes, TERN_FP32, NULL, TERN_ERR_DTYPE, "w is int8, expected fp32, fp16 or bf16");
    BAD(&plain, TERN_FP64, NULL, TERN_ERR_DTYPE, "dtype is fp64, expected fp32, fp16, bf16 or int8");
    BAD(&plain, (tern_dtype)99, NULL, TERN_ERR_DTYPE, "dtype is ?, expected");
    BAD(NULL, TERN_INT8, &s, TERN_ERR_ARG, "w is NULL");
    BAD(&flat, TERN_INT8, &s, TERN_ERR_SHAPE, "w is [6], expected a matrix");
    s.dtype = TERN_FP16;
    BAD(&codes, TERN_INT8, &s, TERN_ERR_DTYPE, "scale is fp16, expected fp32");
    s = t1(scale, 0);
    BAD(&codes, TERN_INT8, &s, TERN_ERR_SHAPE, "0 values for 3 output channels");
    s = t1(scale, 3);
    s.data = NULL;
    BAD(&codes, TERN_INT8, &s, TERN_ERR_ARG, "scale");
    for (int i = 0; i < 2; i++) {
        s = t1(scale, 3);
        scale[2] = i ? INFINITY : NAN;
        BAD(&codes, TERN_INT8, &s, TERN_ERR_ARG, "scale[2] is");
    }
#undef BAD
    assert_null(packed);
    assert_fails(ctx, tern_weight_pack_as(ctx, &plain, false, TERN_FP16, NULL, NULL), TERN_ERR_ARG, "out is NULL");
    tern_ctx_destroy(&ctx);
}

/* A finite number that fp16 cannot hold is an error with its place; infinities and NaNs are kept. */
static void test_beyond_fp16(void **state)
{
    (void)state;
    const float inside[] = { 65504, 65519.996f, -65519.996f, INFINITY, -INFINITY, NAN }, beyond[] = { 65520, -1e9f };
    const size_t k = 70, n = 90;
    tern_ctx *ctx = test_ctx(2);
    float *w = test_floats(k * n, 1);
    uint16_t *brain = test_bytes(k * n * 2);
    const tern_tensor plain = t2(w, k, n), half = tern_tensor_view(brain, TERN_BF16, 2, plain.dim);
    tern_weight *packed;

    for (int transposed = 0; transposed <= 1; transposed++) {
        for (size_t i = 0; i < 6; i++) {
            w[17 * n + 88] = inside[i];
            assert_ok(ctx, tern_weight_pack_as(ctx, &plain, transposed, TERN_FP16, NULL, &packed));
            tern_weight_destroy(&packed);
        }
        for (size_t i = 0; i < 2; i++) {
            w[17 * n + 88] = beyond[i];
            w[65 * n + 1] = 1e30f;
            assert_fails(ctx, tern_weight_pack_as(ctx, &plain, transposed, TERN_FP16, NULL, &packed), TERN_ERR_ARG,
                         i ? "w[17, 88] is -1e+09, expected at most 65504" : "w[17, 88] is 65520");
            assert_null(packed);
            tern_bf16_from_f32_ref(brain, w, k * n);
            assert_fails(ctx, tern_weight_pack_as(ctx, &half, transposed, TERN_FP16, NULL, &packed), TERN_ERR_ARG,
                         "w[17, 88] is");
            assert_ok(ctx, tern_weight_pack_as(ctx, &half, transposed, TERN_BF16, NULL, &packed));
            tern_weight_destroy(&packed);
            w[65 * n + 1] = 1;
        }
    }
    tern_ctx_destroy(&ctx);
}

/* In f32: one chain over the weights that are stored, to the bit, then the scale, then the bias. */
static void test_chains(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        tern_ctx *ctx = test_ctx(threads);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            const size_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
            float *a = test_floats(m * k, 1), *w = test_floats(k * n, 1), *b = test_floats(n, 1);
            const tern_tensor t = t2(w, k, n);
            for (size_t f = 0; f < 4; f++) {
                tern_weight *packed;
                assert_ok(ctx, tern_weight_pack_as(ctx, &t, false, formats[f], NULL, &packed));
                const float *stored = unpacked(packed);
                float *want = test_bytes(m * n * sizeof *want);
                for (size_t i = 0; i < m; i++)
                    for (size_t j = 0; j < n; j++) {
                        float sum = 0;
                        for (size_t r = 0; r < k; r++)
                            sum = fmaf(a[i * k + r], stored[r * n + j], sum);
                        sum = packed->scale ? sum * packed->scale[j] : sum;
                        want[i * n + j] = sum + b[j];
                    }
                test_equal(multiply(ctx, a, b, m, packed, false), want, m * n, format_names[f]);
                if (f < 2)
                    test_equal(multiply(ctx, a, b, m, packed, true), want, m * n, format_names[f]);
                tern_weight_destroy(&packed);
            }
            test_teardown(NULL);
        }
        tern_ctx_destroy(&ctx);
    }
}

/* Rows rounded to the weights' type, against f64. */
static void test_narrow_rows(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
        float *a = test_floats(m * k, 1), *w = test_floats(k * n, 1), *b = test_floats(n, 1);
        const tern_tensor t = t2(w, k, n);
        tern_weight *brain, *codes;

        /* bf16: products are exact, sums round as the contract of gemm_bf16 has it; sums are longer here */
        assert_ok(ctx, tern_weight_pack_as(ctx, &t, false, TERN_BF16, NULL, &brain));
        const float *stored = unpacked(brain), *got = multiply(ctx, a, b, m, brain, true);
        float *rounded = test_copy(a, m * k);
        for (size_t i = 0; i < m * k; i++) {
            uint16_t bits;
            tern_bf16_from_f32_ref(&bits, &a[i], 1);
            tern_f32_from_bf16_ref(&rounded[i], &bits, 1);
        }
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = b[j], size = fabs(sum);
                for (size_t r = 0; r < k; r++) {
                    const double term = (double)rounded[i * k + r] * stored[r * n + j];
                    sum += term;
                    size += fabs(term);
                }
                if (!(fabs(got[i * n + j] - sum) <= 4e-7 * size))
                    fail_msg("bf16 %zux%zux%zu [%zu, %zu]: %.9g, expected %.9g of %.3g", m, k, n, i, j,
                             (double)got[i * n + j], sum, size);
            }

        /* int8: exact integers between the scales, and near the plain product by half a step of each factor */
        assert_ok(ctx, tern_weight_pack_as(ctx, &t, false, TERN_INT8, NULL, &codes));
        stored = unpacked(codes);
        got = multiply(ctx, a, b, m, codes, true);
        uint8_t *row = test_bytes(k + 4);
        float *want = test_bytes(m * n * sizeof *want);
        for (size_t i = 0; i < m; i++) {
            float scale;
            tern_quantize_row_q8_ref(row, &scale, a + i * k, k);
            for (size_t j = 0; j < n; j++) {
                int64_t sum = 0;
                double plain = b[j], size = 0;
                for (size_t r = 0; r < k; r++) {
                    const double x = fabs((double)a[i * k + r]), y = fabs((double)w[r * n + j]);
                    sum += (row[r] - 128) * (int64_t)stored[r * n + j];
                    plain += (double)a[i * k + r] * w[r * n + j];
                    size += x * codes->scale[j] / 2 + y * scale / 2 + (double)scale * codes->scale[j] / 4;
                }
                want[i * n + j] = (float)sum * (scale * codes->scale[j]) + b[j];
                assert_true(fabs(got[i * n + j] - plain) <= size * 1.0001 + 1e-6 * fabs(plain));
            }
        }
        test_equal(got, want, m * n, "q8");
        tern_weight_destroy(&brain);
        tern_weight_destroy(&codes);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* One answer: threads, levels and the rows beside one do not show.  avx512bf16 has bits of its own for bf16 rows, the same
 * for any number of threads. */
static void test_one_answer(void **state)
{
    (void)state;
    static const char *const levels[] = { "portable", "neon",   "neondot",    "avx2",
                                          "avxvnni",  "avx512", "avx512vnni", "avx512bf16" };
    const size_t m = 131, k = 1203, n = 40;
    float *a = test_floats(m * k, 1), *w = test_floats(k * n, 1), *b = test_floats(n, 1);
    const tern_tensor t = t2(w, k, n);

    for (size_t f = 1; f < 4; f++)
        for (int narrow = 0; narrow <= 1; narrow++) {
            const float *want = NULL;
            for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++)
                for (int threads = 1; threads <= 3; threads++) {
                    tern_ctx *ctx = test_ctx_at(threads, levels[l]);
                    tern_weight *packed;
                    if (!ctx)
                        continue;
                    assert_ok(ctx, tern_weight_pack_as(ctx, &t, false, formats[f], NULL, &packed));
                    const float *got = multiply(ctx, a, b, m, packed, narrow);
                    const bool own_bits = formats[f] == TERN_BF16 && narrow && strcmp(levels[l], "avx512bf16") == 0;
                    if (!want || (own_bits && threads == 1))
                        want = got;
                    test_equal(got, want, m * n, format_names[f]);
                    const size_t alone[] = { 0, 77, 130 };
                    for (size_t i = 0; i < 3; i++)
                        test_equal(multiply(ctx, a + alone[i] * k, b, 1, packed, narrow), want + alone[i] * n, n,
                                   format_names[f]);
                    test_equal(multiply(ctx, a + 3 * k, b, 19, packed, narrow), want + 3 * n, 19 * n, format_names[f]);
                    tern_weight_destroy(&packed);
                    tern_ctx_destroy(&ctx);
                }
        }
}

/* A row that is not finite is NaN and leaves the others alone; so is a channel. */
static void test_not_finite(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const size_t m = 3, k = 37, n = 33;
    float *a = test_floats(m * k, 1), *w = test_floats(k * n, 1);
    const tern_tensor t = t2(w, k, n);
    tern_weight *packed;

    for (size_t i = 0; i < k; i++)
        a[i] = 0;
    a[k + 5] = INFINITY;
    w[7 * n + 32] = NAN;
    assert_ok(ctx, tern_weight_pack_as(ctx, &t, false, TERN_INT8, NULL, &packed));
    const float *c = multiply(ctx, a, NULL, m, packed, true);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            assert_int_equal(isnan(c[i * n + j]) != 0, i == 1 || j == 32);
            if (i == 0 && j < 32)
                assert_true(c[j] == 0);
        }
    tern_weight_destroy(&packed);
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(2);
    float *x = test_floats(40 * 40, 1);
    const tern_tensor w = t2(x, 40, 40);
    tern_weight *packed = NULL;

    assert_ok(ctx, tern_weight_pack_as(ctx, &w, false, TERN_INT8, NULL, &packed));
    tern_weight_destroy(&packed);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_weight_pack_as(ctx, &w, false, TERN_INT8, NULL, &packed);
        FAULT_DONE(n, ctx, status, packed);
        tern_weight_destroy(&packed);
    }
    tern_weight_destroy(&packed);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_packing),     OP_TEST(test_codes),      OP_TEST(test_bad_codes),
        OP_TEST(test_beyond_fp16), OP_TEST(test_chains),     OP_TEST(test_narrow_rows),
        OP_TEST(test_one_answer),  OP_TEST(test_not_finite), OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
