/* test_gemm_fused.c: what products take from their neighbours and do for them, against the passes that it replaces, to the bit. */
/* labels: quick threads */
#include "ops/op_testing.h"

#include "kernels/ref/ref.h"
#include "ops/kernel_calls.h"

#include <tern/quantize.h>

enum form { PLAIN, FROM_ROWS, HALVES, GATED, GATED_HALVES };

struct product {
    const float *a, *bias, *residual;
    size_t m;
    const struct tern_weight *w, *next; /* next: what reads the result */
    enum form form;
    enum tern_act act;
    void *scratch, *scratch_next;
    float *c;
    struct tern_rows rows_next;
};

static void product_region(void *arg, const struct tern_par *par)
{
    struct product *p = arg;
    const size_t k = (size_t)p->w->in, n = (size_t)p->w->out, width = p->form >= GATED ? n / 2 : n;
    struct tern_epilogue e = { .bias = p->bias, .residual = p->residual, .ld_residual = width };

    if (p->form == PLAIN) {
        tern_gemm_run_either(par, p->c, n, p->a, k, p->m, p->w, &e, p->scratch);
        return;
    }
    struct tern_rows rows = tern_rows_narrow(p->w, p->scratch, p->m);
    if (rows.narrow) {
        size_t row, end;
        tern_share(par, p->m, 1, &row, &end);
        for (; row < end; row++)
            tern_rows_put(par->kernels, &rows, p->w, row, p->a + row * k);
        tern_barrier(par);
    } else {
        rows = tern_rows_f32(p->a, k);
    }
    if (p->form == HALVES || p->form == GATED_HALVES) {
        const struct tern_rows next = tern_rows_narrow(p->next, p->scratch_next, p->m);
        assert_true(tern_rows_halves(par, &next, p->next, p->m, &e));
        if (par->thread == 0)
            p->rows_next = next;
    }
    if (p->form >= GATED)
        tern_gemm_run_gated(par, e.half ? NULL : p->c, width, &rows, p->m, p->w, &e, p->act);
    else
        tern_gemm_run_rows(par, e.half ? NULL : p->c, width, &rows, p->m, p->w, &e);
}

static void *scratch_of(const struct tern_weight *w, size_t m)
{
    const size_t bytes = (tern_gemm_scratch(w, m) + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes ? bytes : 64);

    assert_non_null(p);
    return memset(p, 0xff, bytes);
}

/* The result, as f32 [m][width] or as the bf16 rows that `next` reads. */
static void run(tern_ctx *ctx, struct product *p, bool narrow)
{
    const size_t n = (size_t)p->w->out;

    p->scratch = narrow ? scratch_of(p->w, p->m) : NULL;
    p->scratch_next = p->next ? scratch_of(p->next, p->m) : NULL;
    p->c = test_poison(p->m * n);
    assert_ok(ctx, tern_region(ctx, product_region, p));
    free(p->scratch);
}

static void expect_halves(const struct product *p, const float *want, size_t width, const char *what)
{
    for (size_t i = 0; i < p->m; i++) {
        const uint16_t *row = (const uint16_t *)p->rows_next.narrow + i * p->rows_next.ld;
        for (size_t j = 0; j < width; j++) {
            uint16_t bits;
            tern_bf16_from_f32_ref(&bits, &want[i * width + j], 1);
            if (row[j] != bits)
                fail_msg("%s: row %zu, column %zu is %04x, expected %04x", what, i, j, row[j], bits);
        }
        if (width % 2)
            assert_int_equal(row[width], 0);
    }
    free(p->scratch_next);
}

static const tern_dtype formats[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
static const char *const format_names[] = { "f32", "f16", "bf16", "q8", "groups" };

/* A weight of each format, and one of codes in groups along K. */
static tern_weight *pack(tern_ctx *ctx, float *w, size_t k, size_t n, size_t f)
{
    const tern_tensor t = t2(w, k, n);
    tern_weight *packed;

    if (f < 4) {
        assert_ok(ctx, tern_weight_pack_as(ctx, &t, false, formats[f], NULL, &packed));
        return packed;
    }
    tern_quant_options o = tern_quant_options_default(TERN_QUANT_INJECTION);
    tern_qtensor *q;
    const tern_tensor turned = t2(test_transposed(w, k, n), n, k);
    o.bits = 8;
    o.groups = (int64_t)(2 * n); /* halves of each channel */
    o.mlp_extra_grouping = false;
    assert_ok(ctx, tern_weight_quantize(ctx, &turned, &o, &q));
    assert_ok(ctx, tern_weight_pack_quantized(ctx, q, true, &packed));
    tern_qtensor_destroy(&q);
    return packed;
}

/* Whatever this machine wants: prefetches go another way with each number of threads, and gates are pairs with three of them. */
static tern_ctx *prefetch_ctx(int threads)
{
    tern_ctx *ctx = test_ctx(threads);

    ((struct tern_kernels *)(uintptr_t)ctx->kernels)->prefetch = (enum tern_prefetch)(threads % 3);
    return ctx;
}

static const size_t heights[] = { 1, 3, 15, 129, 300 };

/* Rows that their maker rounded, and bf16 rows for the next product. */
static void test_rows_and_halves(void **state)
{
    (void)state;
    static const size_t widths[] = { 1, 31, 64, 97 };

    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = prefetch_ctx(threads);
        for (size_t f = 0; f < 5; f++)
            for (size_t s = 0; s < 4; s++)
                for (size_t h = 0; h < 5; h++) {
                    const size_t m = heights[h], k = 38 + 4 * s, n = widths[s];
                    float *a = test_floats(m * k, 1), *b = test_floats(n, 1), *r = test_floats(m * n, 1);
                    tern_weight *w = pack(ctx, test_floats(k * n, 1), k, n, f);
                    const tern_tensor after = t2(test_floats(n * 5, 1), n, 5);
                    tern_weight *next;
                    assert_ok(ctx, tern_weight_pack_as(ctx, &after, false, TERN_BF16, NULL, &next));
                    for (int narrow = 0; narrow < 2; narrow++) {
                        struct product plain = { .a = a, .bias = b, .residual = r, .m = m, .w = w }, p = plain;
                        run(ctx, &plain, narrow);
                        p.form = FROM_ROWS;
                        run(ctx, &p, narrow);
                        test_equal(p.c, plain.c, m * n, format_names[f]);
                        p.form = HALVES;
                        p.next = next;
                        run(ctx, &p, narrow);
                        expect_halves(&p, plain.c, n, format_names[f]);
                    }
                    tern_weight_destroy(&w);
                    tern_weight_destroy(&next);
                    test_teardown(NULL);
                }
        tern_ctx_destroy(&ctx);
    }
}

/* Gates: the first half of the columns times the activation of the second. */
static void test_gates(void **state)
{
    (void)state;
    static const size_t widths[] = { 32, 96 };
    static const enum tern_act acts[] = { TERN_ACT_SILU, TERN_ACT_GELU_ERF };

    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = prefetch_ctx(threads);
        for (size_t f = 0; f < 5; f++)
            for (size_t s = 0; s < 2; s++)
                for (size_t h = 0; h < 5; h++) {
                    const size_t m = heights[h], k = s ? 1306 : 42, n = widths[s];
                    float *a = test_floats(m * k, 1), *b = test_floats(2 * n, 1);
                    tern_weight *w = pack(ctx, test_floats(k * 2 * n, 1), k, 2 * n, f);
                    const tern_tensor after = t2(test_floats(n * 5, 1), n, 5);
                    tern_weight *next;
                    assert_true(tern_gemm_gates(w));
                    assert_ok(ctx, tern_weight_pack_as(ctx, &after, false, TERN_BF16, NULL, &next));
                    for (int narrow = 0; narrow < 2; narrow++) {
                        struct product plain = { .a = a, .bias = b, .m = m, .w = w }, p = plain;
                        float *want = test_bytes(m * n * sizeof *want);
                        run(ctx, &plain, narrow);
                        for (size_t i = 0; i < m; i++) {
                            float *row = plain.c + i * 2 * n;
                            ctx->kernels->act_f32(row + n, row + n, NULL, n, acts[s], NULL);
                            for (size_t j = 0; j < n; j++)
                                want[i * n + j] = row[j] * row[n + j];
                        }
                        p.form = GATED;
                        p.act = acts[s];
                        run(ctx, &p, narrow);
                        test_equal(p.c, want, m * n, format_names[f]);
                        p.form = GATED_HALVES;
                        p.next = next;
                        run(ctx, &p, narrow);
                        expect_halves(&p, want, n, format_names[f]);
                    }
                    tern_weight_destroy(&w);
                    tern_weight_destroy(&next);
                    test_teardown(NULL);
                }
        tern_ctx_destroy(&ctx);
    }
}

/* A norm that rounds its rows for a product leaves what a rounding pass of its own does, and keeps the normed rows if asked to. */
struct normed {
    const float *x;
    size_t m;
    const struct tern_weight *w;
    struct tern_norm_args norm;
    void *scratch[2];
    float *y[2], *c[2];
    bool keep;
};

static void normed_region(void *arg, const struct tern_par *par)
{
    const struct normed *p = arg;
    const struct tern_epilogue plain = { 0 };
    const size_t k = (size_t)p->w->in, n = (size_t)p->w->out;
    struct tern_rows rows = tern_rows_narrow(p->w, p->scratch[1], p->m);

    tern_norm_run(par, p->y[0], NULL, p->x, NULL, NULL, p->m, k, &p->norm);
    tern_gemm_run_either(par, p->c[0], n, p->y[0], k, p->m, p->w, &plain, p->scratch[0]);
    tern_norm_run_rows(par, &rows, p->w, p->y[1], p->keep, NULL, p->x, NULL, NULL, p->m, &p->norm);
    tern_gemm_run_rows(par, p->c[1], n, &rows, p->m, p->w, &plain);
}

static void test_norms(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = prefetch_ctx(threads);
        for (size_t f = 0; f < 5; f++)
            for (size_t h = 0; h < 5; h++)
                for (int form = 0; form < 8; form++) {
                    const size_t m = heights[h], k = 46, n = 33;
                    tern_weight *w = pack(ctx, test_floats(k * n, 1), k, n, f);
                    struct normed p = { .x = test_floats(m * k, 1), .m = m, .w = w, .keep = form & 1 };
                    p.norm = (struct tern_norm_args){ form & 2 ? TERN_RMS_NORM : TERN_LAYER_NORM, test_floats(k, 1),
                                                      form & 2 ? NULL : test_floats(k, 1), 1e-5f };
                    for (int i = 0; i < 2; i++) {
                        p.scratch[i] = form & 4 ? scratch_of(w, m) : NULL;
                        p.y[i] = test_poison(m * k);
                        p.c[i] = test_poison(m * n);
                    }
                    assert_ok(ctx, tern_region(ctx, normed_region, &p));
                    test_equal(p.c[1], p.c[0], m * n, format_names[f]);
                    if (p.keep)
                        test_equal(p.y[1], p.y[0], m * k, format_names[f]);
                    free(p.scratch[0]);
                    free(p.scratch[1]);
                    tern_weight_destroy(&w);
                    test_teardown(NULL);
                }
        tern_ctx_destroy(&ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_rows_and_halves),
        OP_TEST(test_gates),
        OP_TEST(test_norms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
