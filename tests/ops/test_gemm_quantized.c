/* test_gemm_quantized.c: products with quantised weights of every layout, in f32 and with rows of u8. */
/* labels: quick threads */
#include "faults.h"
#include "ops/op_testing.h"

#include "base/ctx.h"
#include "kernels/ref/ref.h"
#include "ops/checks.h"
#include "ops/quantize_weight.h"

static const char *const levels[] = { "portable", "neon",   "neondot",    "avx2",
                                      "avxvnni",  "avx512", "avx512vnni", "avx512bf16" };
#define N_LEVELS (sizeof levels / sizeof levels[0])

/* ---- products ---- */

struct product {
    const float *a, *bias, *residual;
    size_t m;
    const struct tern_weight *w;
    bool narrow, reference;
    void *scratch;
    float *c;
};

static void product_region(void *arg, const struct tern_par *par)
{
    const struct product *p = arg;
    const size_t k = (size_t)p->w->in, n = (size_t)p->w->out;
    const struct tern_epilogue e = { .bias = p->bias, .residual = p->residual, .ld_residual = n };
    const struct tern_par with = tern_par_with(par, p->reference ? tern_kernels_reference() : par->kernels);

    if (p->narrow)
        tern_gemm_run_narrow(&with, p->c, n, p->a, k, p->m, p->w, &e, p->scratch);
    else
        tern_gemm_run(&with, p->c, n, p->a, k, p->m, p->w, &e);
}

static void run_product(tern_ctx *ctx, struct product *p)
{
    const size_t bytes = p->narrow ? tern_gemm_scratch(p->w, p->m) : 0;

    if (bytes) {
        p->scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
        assert_non_null(p->scratch);
        memset(p->scratch, 0xff, bytes);
    }
    assert_ok(ctx, tern_region(ctx, product_region, p));
    free(p->scratch);
}

static float *multiply(tern_ctx *ctx, const float *a, const float *bias, const float *residual, size_t m,
                       const struct tern_weight *w, bool narrow)
{
    struct product p = { a, bias, residual, m, w, narrow, false, NULL, test_poison(m * (size_t)w->out) };

    run_product(ctx, &p);
    return p.c;
}

/* ---- layouts ---- */

static const struct layout {
    const char *name;
    tern_quant_scheme scheme;
    int64_t rows, cols, shards; /* of a shard; of them */
    int bits, merge_axis, group_dim;
    int64_t groups, group_size;
} layouts[] = {
#define FLAT(name, scheme, rows, cols, bits, groups)                    \
    {                                                                   \
        name, TERN_QUANT_##scheme, rows, cols, 1, bits, 0, 0, groups, 0 \
    }
#define SHARDS(name, rows, cols, shards, axis, bits, groups)                      \
    {                                                                             \
        name, TERN_QUANT_CHECKPOINT, rows, cols, shards, bits, axis, 0, groups, 0 \
    }
#define RUNS(name, rows, cols, bits, dim, size)                          \
    {                                                                    \
        name, TERN_QUANT_GROUPWISE, rows, cols, 1, bits, 0, dim, 0, size \
    }
    FLAT("one group", CHECKPOINT, 33, 70, 8, 1),
    FLAT("one group of 4 bits", CHECKPOINT, 33, 70, 4, 1),
    FLAT("a group for each row", CHECKPOINT, 35, 129, 8, 35),
    FLAT("groups of some rows", INJECTION, 36, 66, 8, 9),
    FLAT("groups of half a row", CHECKPOINT, 31, 128, 8, 62),
    FLAT("groups of 64", INJECTION, 64, 192, 8, 192),
    FLAT("groups that end in rows", CHECKPOINT, 40, 63, 8, 63),
    FLAT("long groups that end in rows", CHECKPOINT, 40, 63, 8, 15),
    FLAT("groups that end in rows, 4 bits", INJECTION, 40, 62, 4, 16),
    FLAT("groups of three", CHECKPOINT, 33, 34, 8, 374),
    FLAT("a group for each element", INJECTION, 7, 40, 8, 280),
    FLAT("one element", INJECTION, 1, 1, 8, 1),
    FLAT("one row", CHECKPOINT, 1, 70, 4, 1),
    SHARDS("shards side by side", 34, 65, 2, 1, 8, 34),
    SHARDS("shards of whole groups of rows", 36, 40, 4, 1, 8, 6),
    SHARDS("short shards", 33, 5, 7, 1, 8, 1),
    SHARDS("very short shards", 33, 3, 7, 1, 8, 3),
    SHARDS("shards with groups in rows", 32, 48, 3, 1, 8, 128),
    SHARDS("shards with groups that end in rows", 10, 27, 3, 1, 8, 6),
    SHARDS("shards side by side, 4 bits", 34, 66, 2, 1, 4, 17),
    SHARDS("shards one after the other", 20, 65, 3, 0, 8, 20),
    RUNS("runs of 64", 40, 192, 8, 1, 64),
    RUNS("runs of 64, 4 bits", 40, 192, 4, 1, 64),
    RUNS("runs of 64 down", 128, 70, 8, 0, 64),
    RUNS("runs of 64 down, 4 bits", 128, 70, 4, 0, 64),
    RUNS("short runs", 33, 70, 8, 1, 7),
    RUNS("short runs, 4 bits", 33, 70, 4, 1, 5),
    RUNS("short runs down, 4 bits", 66, 34, 4, 0, 3),
    RUNS("runs of one", 9, 34, 8, 1, 1),
#undef FLAT
#undef SHARDS
#undef RUNS
};
#define N_LAYOUTS (sizeof layouts / sizeof layouts[0])

static tern_qtensor *quantized(tern_ctx *ctx, const struct layout *l)
{
    tern_quant_options o = tern_quant_options_default(l->scheme);
    tern_tensor shards[8];
    tern_qtensor *q;

    o.bits = l->bits;
    o.groups = l->groups;
    o.group_size = l->group_size;
    o.group_dim = l->group_dim;
    o.merge_axis = l->merge_axis;
    o.mlp_extra_grouping = false;
    for (int64_t s = 0; s < l->shards; s++)
        shards[s] = t2(test_floats((size_t)(l->rows * l->cols), 1), (size_t)l->rows, (size_t)l->cols);
    if (l->shards == 1)
        assert_ok(ctx, tern_weight_quantize(ctx, shards, &o, &q));
    else
        assert_ok(ctx, tern_weight_quantize_shards(ctx, shards, l->shards, &o, &q));
    return q;
}

/* Merged shards as the specification has them stored, [in, out]: the same numbers the other way round. */
static tern_qtensor *input_major(tern_ctx *ctx, const tern_qtensor *q)
{
    tern_quant_layout l = tern_qtensor_layout(q);
    const int64_t out = l.dim[0], in = l.dim[1];
    int8_t *codes = test_bytes((size_t)(out * in));
    tern_qtensor *turned;

    l.axis = 0;
    l.dim[0] = in;
    l.dim[1] = out;
    for (int64_t i = 0; i < in; i++)
        for (int64_t j = 0; j < out; j++)
            codes[i * out + j] = (int8_t)tern_qtensor_codes(q)[j * in + i];
    const tern_tensor c = tern_tensor_view(codes, TERN_INT8, 2, l.dim);
    const tern_tensor scales = t1((float *)(uintptr_t)tern_qtensor_scales(q), (size_t)l.n_groups);
    assert_ok(ctx, tern_qtensor_create(ctx, &l, &c, &scales, NULL, &turned));
    return turned;
}

/* Layout i; beyond N_LAYOUTS: those of shards side by side with 8 bits, input-major. */
static tern_qtensor *quantized_at(tern_ctx *ctx, size_t i, const char **name)
{
    *name = layouts[i % N_LAYOUTS].name;
    if (i < N_LAYOUTS)
        return quantized(ctx, &layouts[i]);
    if (layouts[i - N_LAYOUTS].merge_axis != 1 || layouts[i - N_LAYOUTS].bits != 8)
        return NULL;
    tern_qtensor *q = quantized(ctx, &layouts[i - N_LAYOUTS]), *turned = input_major(ctx, q);
    tern_qtensor_destroy(&q);
    return turned;
}

/* The weight in fp32, as it is stored. */
static tern_tensor restored(tern_ctx *ctx, const tern_qtensor *q)
{
    const tern_quant_layout l = tern_qtensor_layout(q);
    tern_tensor t = t2(test_poison((size_t)(l.dim[0] * l.dim[1])), (size_t)l.dim[0], (size_t)l.dim[1]);

    assert_ok(ctx, tern_weight_dequantize(ctx, q, &t));
    return t;
}

/* ---- tests ---- */

/* A channel, and any block of a panel, has the numbers that dequantising gives. */
static void test_numbers(void **state)
{
    (void)state;
    for (size_t level = 0; level < N_LEVELS; level++) {
        tern_ctx *ctx = test_ctx_at(1 + (int)level % 3, levels[level]);
        const char *name;
        if (!ctx)
            continue;
        for (size_t i = 0; i < 2 * N_LAYOUTS; i++)
            for (int transposed = 0; transposed <= 1; transposed++) {
                tern_qtensor *q = quantized_at(ctx, i, &name);
                if (!q)
                    continue;
                const tern_tensor t = restored(ctx, q);
                const size_t k = (size_t)t.dim[transposed], n = (size_t)t.dim[!transposed];
                float *channel = test_poison(k), *want = test_bytes(k * sizeof *want);
                float *block = aligned_alloc(64, k * 32 * sizeof *block);
                tern_weight *packed;
                assert_non_null(block);
                assert_ok(ctx, tern_weight_pack_quantized(ctx, q, transposed, &packed));
                assert_int_equal(tern_weight_dtype(packed), TERN_INT8);
                assert_int_equal(tern_weight_view(packed).dim[0], k);
                assert_int_equal(tern_weight_view(packed).dim[1], n);
                for (size_t o = 0; o < n; o++) {
                    for (size_t r = 0; r < k; r++)
                        want[r] = ((float *)t.data)[transposed ? o * k + r : r * n + o];
                    tern_weight_channel(ctx->kernels, packed, o, o, channel);
                    test_equal(channel, want, k, name);
                }
                for (size_t panel = 0; packed->groups && panel < (n + 31) / 32; panel++)
                    for (size_t first = 0; first<k; first += k> 40 ? 13 : 1) {
                        const size_t some = (k - first + 1) / 2;
                        tern_groups_block(ctx->kernels, packed, panel, first, some, block);
                        for (size_t r = 0; r < some; r++)
                            for (size_t o = panel * 32; o < n && o < panel * 32 + 32; o++) {
                                const size_t at = transposed ? o * k + first + r : (first + r) * n + o;
                                test_equal(&block[r * 32 + o % 32], (const float *)t.data + at, 1, name);
                            }
                    }
                free(block);
                tern_weight_destroy(&packed);
                tern_qtensor_destroy(&q);
                test_teardown(NULL);
            }
        tern_ctx_destroy(&ctx);
    }
}

/* The product is that of the restored weight in fp32, to the bit; sums of codes that have one scale are scaled at their end. */
static void test_products(void **state)
{
    (void)state;
    static const size_t rows[] = { 1, 2, 5, 14, 15, 37, 127, 128, 131 };

    for (size_t level = 0; level < N_LEVELS; level++)
        for (int threads = 1; threads <= 3; threads++) {
            tern_ctx *ctx = test_ctx_at(threads, levels[level]);
            const char *name;
            if (!ctx)
                continue;
            for (size_t i = 0; i < 2 * N_LAYOUTS; i++)
                for (int transposed = 0; transposed <= 1; transposed++) {
                    tern_qtensor *q = quantized_at(ctx, i, &name);
                    if (!q)
                        continue;
                    const tern_tensor t = restored(ctx, q);
                    const size_t k = (size_t)t.dim[transposed], n = (size_t)t.dim[!transposed];
                    float *a = test_floats(131 * k, 1), *b = test_floats(n, 1), *r = test_floats(131 * n, 1);
                    tern_weight *packed, *plain;
                    assert_ok(ctx, tern_weight_pack_quantized(ctx, q, transposed, &packed));
                    if (packed->groups) {
                        assert_ok(ctx, tern_weight_pack(ctx, &t, transposed, &plain));
                    } else {
                        const tern_quant_layout l = tern_qtensor_layout(q);
                        const tern_tensor codes =
                            tern_tensor_view((void *)(uintptr_t)tern_qtensor_codes(q), TERN_INT8, 2, l.dim);
                        float *scale = test_bytes(n * sizeof *scale);
                        memcpy(scale, packed->scale, n * sizeof *scale); /* test_numbers held it to the layout */
                        const tern_tensor s = t1(scale, n);
                        assert_ok(ctx, tern_weight_pack_as(ctx, &codes, transposed, TERN_INT8, &s, &plain));
                    }
                    const float *want = multiply(ctx, a, b, r, 131, plain, false);
                    for (size_t m = 0; m < sizeof rows / sizeof rows[0]; m++)
                        test_equal(multiply(ctx, a, b, r, rows[m], packed, false), want, rows[m] * n, name);
                    test_equal(multiply(ctx, a + 77 * k, b, r + 77 * n, 1, packed, false), want + 77 * n, n, name);
                    if (!packed->groups && threads == 2)
                        test_equal(multiply(ctx, a, b, r, 37, packed, true), multiply(ctx, a, b, r, 37, plain, true),
                                   37 * n, name);
                    tern_weight_destroy(&packed);
                    tern_weight_destroy(&plain);
                    tern_qtensor_destroy(&q);
                    test_teardown(NULL);
                }
            tern_ctx_destroy(&ctx);
        }
}

/* Every number of rows, and longer K than one block of numbers and one block of a panel. */
static void test_every_number_of_rows(void **state)
{
    (void)state;
    static const struct layout some[] = {
        { "runs of 64, 4 bits", TERN_QUANT_GROUPWISE, 70, 320, 1, 4, 0, 1, 0, 64 },
        { "groups that end in rows", TERN_QUANT_INJECTION, 37, 387, 1, 8, 0, 0, 129, 0 },
        { "shards", TERN_QUANT_CHECKPOINT, 34, 131, 2, 8, 1, 0, 2, 0 },
    };

    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
            tern_qtensor *q = quantized(ctx, &some[i]);
            const tern_tensor t = restored(ctx, q);
            const size_t k = (size_t)t.dim[1], n = (size_t)t.dim[0];
            float *a = test_floats(200 * k, 1);
            tern_weight *packed, *plain;
            assert_ok(ctx, tern_weight_pack_quantized(ctx, q, true, &packed));
            assert_ok(ctx, tern_weight_pack(ctx, &t, true, &plain));
            const float *want = multiply(ctx, a, NULL, NULL, 200, plain, false);
            const float *narrow = multiply(ctx, a, NULL, NULL, 200, packed, true);
            for (size_t m = 1; m <= 200; m++) {
                test_equal(multiply(ctx, a, NULL, NULL, m, packed, false), want, m * n, some[i].name);
                test_equal(multiply(ctx, a, NULL, NULL, m, packed, true), narrow, m * n, some[i].name);
            }
            tern_weight_destroy(&packed);
            tern_weight_destroy(&plain);
            tern_qtensor_destroy(&q);
            test_teardown(NULL);
        }
        tern_ctx_destroy(&ctx);
    }
}

/* Rows of u8 and scales that change along K: integers for each part, added up in order, the same everywhere. */
static void test_parts(void **state)
{
    (void)state;
    static const struct {
        struct layout layout;
        size_t parts;
    } cases[] = {
        { { "two shards", TERN_QUANT_CHECKPOINT, 33, 64, 2, 8, 1, 0, 33, 0 }, 2 },
        { { "three shards of 65", TERN_QUANT_CHECKPOINT, 34, 65, 3, 8, 1, 0, 1, 0 }, 3 },
        { { "four shards of 7", TERN_QUANT_CHECKPOINT, 40, 7, 4, 8, 1, 0, 8, 0 }, 4 },
        { { "two shards with groups in rows", TERN_QUANT_CHECKPOINT, 36, 48, 2, 8, 1, 0, 72, 0 }, 4 },
        { { "groups of 32", TERN_QUANT_INJECTION, 70, 160, 1, 8, 0, 0, 350, 0 }, 5 },
        { { "two long shards", TERN_QUANT_CHECKPOINT, 3, 4611, 2, 8, 1, 0, 3, 0 }, 2 },
    };
    const size_t m = 131;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float *want = NULL;
        const char *name = cases[i].layout.name;
        const uint64_t seed = test_seed;
        for (size_t level = 0; level < N_LEVELS; level++)
            for (int threads = 1; threads <= 3; threads++) {
                tern_ctx *ctx = test_ctx_at(threads, levels[level]);
                if (!ctx)
                    continue;
                test_seed = seed;
                tern_qtensor *q = quantized(ctx, &cases[i].layout), *turned = NULL;
                const size_t n = (size_t)tern_qtensor_layout(q).dim[0], k = (size_t)tern_qtensor_layout(q).dim[1];
                float *a = test_floats(m * k, 1), *b = test_floats(n, 1), *r = test_floats(m * n, 1);
                tern_weight *packed;
                for (size_t c = 0; c < k; c++)
                    a[5 * k + c] = 0;
                a[77 * k + 3] = INFINITY;
                if (!want) {
                    const size_t part = k / cases[i].parts;
                    const tern_quant_layout l = tern_qtensor_layout(q);
                    const size_t shards = (size_t)l.n_shards, in = k / shards;
                    uint8_t *row = test_bytes(k + 4);
                    want = malloc(m * n * sizeof *want);
                    assert_non_null(want);
                    for (size_t y = 0; y < m; y++) {
                        float row_scale;
                        tern_quantize_row_q8_ref(row, &row_scale, a + y * k, k);
                        for (size_t x = 0; x < n; x++) {
                            float sum = 0;
                            for (size_t p = 0; p < cases[i].parts; p++) {
                                int64_t exact = 0;
                                const size_t c0 = p * part;
                                const size_t group = (c0 % in + x * in) / (size_t)l.group_size * shards + c0 / in;
                                for (size_t c = c0; c < c0 + part; c++)
                                    exact += (int64_t)(row[c] - 128) * (int8_t)tern_qtensor_codes(q)[x * k + c];
                                const float term = (float)exact * (row_scale * tern_qtensor_scales(q)[group]);
                                sum = p ? sum + term : term;
                            }
                            want[y * n + x] = (sum + b[x]) + r[y * n + x];
                        }
                    }
                }
                for (int turn = 0; turn < 2; turn++) {
                    if (turn && cases[i].layout.shards > 1)
                        turned = input_major(ctx, q);
                    else if (turn)
                        continue;
                    assert_ok(ctx, tern_weight_pack_quantized(ctx, turn ? turned : q, !turn, &packed));
                    assert_true(tern_weight_has_rows_q8(packed));
                    assert_int_equal(packed->groups->n_parts, cases[i].parts);
                    const float *got = multiply(ctx, a, b, r, m, packed, true);
                    for (size_t e = 0; e < m * n; e++)
                        if (e / n == 77)
                            assert_true(isnan(got[e]) && isnan(want[e]));
                        else
                            test_equal(got + e, want + e, 1, name);
                    test_equal(multiply(ctx, a + 9 * k, b, r + 9 * n, 1, packed, true), want + 9 * n, n, name);
                    test_equal(multiply(ctx, a + 80 * k, b, r + 80 * n, 19, packed, true), want + 80 * n, 19 * n, name);
                    if (level == 0) {
                        struct product p = { a, b, r, 20, packed, true, true, NULL, test_poison(20 * n) };
                        run_product(ctx, &p);
                        test_equal(p.c, want, 20 * n, name);
                    }
                    tern_weight_destroy(&packed);
                }
                tern_qtensor_destroy(&q);
                tern_qtensor_destroy(&turned);
                tern_ctx_destroy(&ctx);
                test_teardown(NULL);
            }
        free(want);
    }
}

/* Which weights rows of u8 exist for; products with the others take no scratch and are those in f32. */
static void test_rows_q8(void **state)
{
    (void)state;
    static const struct {
        struct layout layout;
        bool transposed, has;
    } cases[] = {
        { { "one", TERN_QUANT_CHECKPOINT, 33, 64, 1, 8, 0, 0, 1, 0 }, true, true },
        { { "channels", TERN_QUANT_INJECTION, 33, 64, 1, 8, 0, 0, 33, 0 }, true, true },
        { { "channels", TERN_QUANT_INJECTION, 33, 64, 1, 8, 0, 0, 33, 0 }, false, false }, /* a scale for each k */
        { { "groups of 16 of K", TERN_QUANT_INJECTION, 64, 33, 1, 8, 0, 0, 4, 0 }, false, true },
        { { "parts of 16", TERN_QUANT_CHECKPOINT, 33, 64, 1, 8, 0, 0, 132, 0 }, true, true },
        { { "parts of 4", TERN_QUANT_CHECKPOINT, 33, 64, 1, 8, 0, 0, 528, 0 }, true, true },
        { { "parts of 3", TERN_QUANT_CHECKPOINT, 33, 63, 1, 8, 0, 0, 693, 0 }, true, false },
        { { "ending anywhere", TERN_QUANT_CHECKPOINT, 40, 63, 1, 8, 0, 0, 63, 0 }, true, false },
        { { "4 bits", TERN_QUANT_CHECKPOINT, 33, 64, 1, 4, 0, 0, 33, 0 }, true, false },
        { { "4 bits, one", TERN_QUANT_CHECKPOINT, 33, 64, 1, 4, 0, 0, 1, 0 }, true, false },
        { { "asymmetric", TERN_QUANT_GROUPWISE, 33, 64, 1, 8, 0, 1, 0, 64 }, true, false },
        { { "asymmetric", TERN_QUANT_GROUPWISE, 33, 64, 1, 8, 0, 1, 0, 16 }, true, false },
    };
    tern_ctx *ctx = test_ctx(2);

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tern_qtensor *q = quantized(ctx, &cases[i].layout);
        tern_weight *packed;
        assert_ok(ctx, tern_weight_pack_quantized(ctx, q, cases[i].transposed, &packed));
        const size_t k = (size_t)packed->in, n = (size_t)packed->out;
        if (tern_weight_has_rows_q8(packed) != cases[i].has)
            fail_msg("%s: rows of u8 %s", cases[i].layout.name, cases[i].has ? "are missing" : "exist");
        assert_int_equal(tern_gemm_scratch(packed, 3) == 0, !cases[i].has);
        if (!cases[i].has) {
            float *a = test_floats(3 * k, 1);
            test_equal(multiply(ctx, a, NULL, NULL, 3, packed, true), multiply(ctx, a, NULL, NULL, 3, packed, false),
                       3 * n, cases[i].layout.name);
        }
        tern_weight_destroy(&packed);
        tern_qtensor_destroy(&q);
    }
    float x[64] = { 0 };
    for (int dtype = TERN_FP32; dtype <= TERN_INT8; dtype++) {
        const tern_tensor t = t2(x, 8, 8);
        tern_weight *packed;
        assert_ok(ctx, tern_weight_pack_as(ctx, &t, false, (tern_dtype)dtype, NULL, &packed));
        assert_int_equal(tern_weight_has_rows_q8(packed), dtype == TERN_INT8);
        tern_weight_destroy(&packed);
    }
    tern_ctx_destroy(&ctx);
}

/* Operators take them as int8 weights; with activation_quant row those that have rows of u8, and say so of the others. */
static void test_operators(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    const char *name;

    for (size_t i = 0; i < 2 * N_LAYOUTS; i++) {
        tern_qtensor *q = quantized_at(ctx, i, &name);
        if (!q)
            continue;
        tern_config config = test_config();
        tern_weight *packed;
        config.dtype = TERN_INT8;
        config.activation_dtype = TERN_FP32;
        assert_ok(ctx, tern_weight_pack_quantized(ctx, q, true, &packed));
        const size_t k = (size_t)packed->in, n = (size_t)packed->out;
        float *a = test_floats(5 * k, 1), *b = test_floats(n, 1);
        const tern_tensor input = t2(a, 5, k), bias = t1(b, n), weight = tern_weight_view(packed);
        for (int row = 0; row <= 1; row++) {
            tern_tensor output = t2(test_poison(5 * n), 5, n);
            config.activation_quant = row ? TERN_QUANT_ROW : TERN_QUANT_NONE;
            if (row && !tern_weight_has_rows_q8(packed)) {
                assert_fails(ctx, tern_linear(ctx, &config, &input, &weight, &bias, &output), TERN_ERR_UNSUPPORTED,
                             "linear: weight is a quantised weight that has no product with rows of int8");
                test_untouched(output.data, 5 * n, name);
                continue;
            }
            assert_ok(ctx, tern_linear(ctx, &config, &input, &weight, &bias, &output));
            test_equal(output.data, multiply(ctx, a, b, NULL, 5, packed, row), 5 * n, name);
        }
        tern_weight_destroy(&packed);
        tern_qtensor_destroy(&q);
    }
    tern_ctx_destroy(&ctx);
}

/* A packed weight is its codes and scales: nothing is kept of the numbers, and a product asks for no memory. */
static void test_bytes_are_codes(void **state)
{
    (void)state;
    static const struct {
        struct layout layout;
        bool transposed;
    } cases[] = {
        { { "runs along K, 8 bits", TERN_QUANT_GROUPWISE, 512, 1024, 1, 8, 0, 1, 0, 64 }, true },
        { { "runs along K, 4 bits", TERN_QUANT_GROUPWISE, 512, 1024, 1, 4, 0, 1, 0, 64 }, true },
        { { "runs along N, 4 bits", TERN_QUANT_GROUPWISE, 1024, 512, 1, 4, 0, 1, 0, 64 }, false },
        { { "short runs along N", TERN_QUANT_GROUPWISE, 1024, 512, 1, 4, 0, 1, 0, 8 }, false },
        { { "one group of 4 bits", TERN_QUANT_CHECKPOINT, 512, 1024, 1, 4, 0, 0, 1, 0 }, true },
        { { "a scale for each k", TERN_QUANT_INJECTION, 1024, 512, 1, 8, 0, 0, 1024, 0 }, false },
        { { "groups that end in rows", TERN_QUANT_INJECTION, 512, 1024, 1, 8, 0, 0, 1 << 10, 0 }, true },
        { { "shards", TERN_QUANT_CHECKPOINT, 512, 512, 2, 8, 1, 0, 512, 0 }, true },
    };
    tern_ctx *ctx = test_ctx(2);

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tern_qtensor *q = quantized(ctx, &cases[i].layout);
        tern_weight *packed;
        assert_ok(ctx, tern_weight_pack_quantized(ctx, q, cases[i].transposed, &packed));
        const size_t k = (size_t)packed->in, n = (size_t)packed->out, elements = k * n;
        /* scales and minima as they are, or one of each for 64 elements; one start for each column of a part; structs */
        const size_t groups = (size_t)tern_qtensor_layout(q).n_groups;
        const size_t most = tern_qtensor_code_bytes(q) + (groups > elements / 64 ? groups : elements / 64) * 8 + 1024;
        if (tern_weight_bytes(packed) > most)
            fail_msg("%s: %zu bytes, expected at most %zu", cases[i].layout.name, tern_weight_bytes(packed), most);
        assert_true(tern_weight_bytes(packed) < elements * 2);

        struct product p = { test_floats(3 * k, 1), NULL, NULL, 3, packed, false, false, NULL, test_poison(3 * n) };
        assert_ok(ctx, tern_region(ctx, product_region, &p)); /* what threads take at their first task is taken */
        if (fault_available()) {
            fault_count_start();
            const tern_status status = tern_region(ctx, product_region, &p);
            const long calls = fault_count();
            fault_disarm();
            assert_ok(ctx, status);
            assert_int_equal(calls, 0);
        }
        tern_weight_destroy(&packed);
        tern_qtensor_destroy(&q);
    }
    tern_ctx_destroy(&ctx);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    const tern_quant_options options = { .scheme = TERN_QUANT_INJECTION, .bits = 8, .groups = 2 };
    float x[24] = { 0 };
    const tern_tensor vector = t1(x, 24), cube = t3(x, 2, 3, 4), matrix = t2(x, 4, 6);
    tern_qtensor *flat, *deep, *good;
    tern_weight *packed = (tern_weight *)ctx;

    assert_ok(ctx, tern_weight_quantize(ctx, &vector, &options, &flat));
    assert_ok(ctx, tern_weight_quantize(ctx, &cube, &options, &deep));
    assert_ok(ctx, tern_weight_quantize(ctx, &matrix, &options, &good));
    assert_fails(ctx, tern_weight_pack_quantized(ctx, NULL, true, &packed), TERN_ERR_ARG, "q is NULL, expected");
    assert_null(packed);
    assert_fails(ctx, tern_weight_pack_quantized(ctx, good, true, NULL), TERN_ERR_ARG, "out is NULL");
    assert_int_equal(tern_weight_pack_quantized(NULL, good, true, &packed), TERN_ERR_ARG);
    assert_fails(ctx, tern_weight_pack_quantized(ctx, flat, true, &packed), TERN_ERR_SHAPE,
                 "q has rank 1, expected a matrix");
    assert_fails(ctx, tern_weight_pack_quantized(ctx, deep, true, &packed), TERN_ERR_SHAPE,
                 "q has rank 3, expected a matrix");
    assert_null(packed);
    tern_qtensor_destroy(&flat);
    tern_qtensor_destroy(&deep);
    tern_qtensor_destroy(&good);
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(2);
    static const size_t some[] = { 0, 6, 12, 21, 23 };

    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        tern_qtensor *q = quantized(ctx, &layouts[some[i]]);
        tern_weight *packed = NULL;
        assert_ok(ctx, tern_weight_pack_quantized(ctx, q, true, &packed));
        tern_weight_destroy(&packed);
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_weight_pack_quantized(ctx, q, true, &packed);
            FAULT_DONE(n, ctx, status, packed);
            tern_weight_destroy(&packed);
        }
        tern_weight_destroy(&packed);
        tern_qtensor_destroy(&q);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_numbers),         OP_TEST(test_products),      OP_TEST(test_every_number_of_rows),
        OP_TEST(test_parts),           OP_TEST(test_rows_q8),       OP_TEST(test_operators),
        OP_TEST(test_bytes_are_codes), OP_TEST(test_bad_arguments), OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/gemm_quantized", tests, NULL, NULL);
}
