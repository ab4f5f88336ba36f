/* test_tune_plans.c: a plan decides how a product is cut, is looked up by shape, rows and threads, and never shows in the bits. */
/* labels: quick threads */
#include "faults.h"
#include "ops/op_testing.h"

#include "kernels/plans.h"
#include "ops/kernel_calls.h"

struct product {
    const float *a;
    float *c;
    size_t m;
    const struct tern_weight *w;
    void *scratch; /* NULL: rows stay f32 */
    const struct tern_plan *plan;
    const struct tern_kernels *kernels; /* NULL: the context's */
};

static void product_region(void *arg, const struct tern_par *par)
{
    const struct product *p = arg;
    const struct tern_epilogue e = { 0 };
    const size_t in = (size_t)p->w->in, out = (size_t)p->w->out;
    struct tern_par with = *par;

    if (p->kernels)
        with.kernels = p->kernels;
    if (p->plan)
        tern_gemm_run_plan(&with, p->c, out, p->a, in, p->m, p->w, &e, p->scratch, p->plan);
    else
        tern_gemm_run_either(&with, p->c, out, p->a, in, p->m, p->w, &e, p->scratch);
}

static void *scratch_for(const struct tern_weight *w, size_t m)
{
    const size_t bytes = (tern_gemm_scratch(w, m) + 63) / 64 * 64;
    void *scratch = bytes ? aligned_alloc(64, bytes) : NULL;

    assert_true(!bytes || scratch);
    return scratch;
}

/* Each element is one chain over k, or one sum of integers: tiles, blocks of k and who computes what are free. */
static void test_bits(void **state)
{
    static const tern_dtype formats[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
    static const size_t rows[] = { 1, 2, 9, 16, 31, 130, 259 };
    static const uint32_t tiles[] = { 0, 1, 3, 6, 8, 9, 10, 12, 14 }, blocks[] = { 0, 1, 17, 64, 512, TERN_PLAN_K_MAX };
    const size_t k = 203, n = 70;

    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        const tern_tensor raw = tern_tensor_view(test_floats(k * n, 1), TERN_FP32, 2, (int64_t[]){ 203, 70 });
        const float *a = test_floats(259 * k, 2);

        for (size_t f = 0; f < 4; f++) {
            tern_weight *w;
            assert_ok(ctx, tern_weight_pack_as(ctx, &raw, false, formats[f], NULL, &w));
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
                for (int narrow = 0; narrow <= (f >= 2); narrow++) {
                    const size_t m = rows[r], bytes = m * n * sizeof(float);
                    const struct tern_plan rules = { 0 };
                    void *scratch = narrow ? scratch_for(w, m) : NULL;
                    struct product p = { a, test_poison(m * n), m, w, scratch, &rules, NULL };
                    const float *want = p.c;
                    assert_ok(ctx, tern_region(ctx, product_region, &p));
                    float *got = test_poison(m * n);
                    for (size_t t = 0; t < sizeof tiles / sizeof tiles[0]; t++)
                        for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++)
                            for (int split = 0; split < TERN_SPLITS; split++) {
                                const struct tern_plan plan = { tiles[t], blocks[b], (enum tern_plan_split)split };
                                memset(got, 0xff, bytes);
                                p.c = got;
                                p.plan = &plan;
                                assert_ok(ctx, tern_region(ctx, product_region, &p));
                                assert_memory_equal(got, want, bytes);
                            }
                    free(scratch);
                }
            tern_weight_destroy(&w);
        }
        tern_ctx_destroy(&ctx);
    }
}

/* What a kernel was called with: the tallest tile, and the longest block of k. */
static _Thread_local size_t seen_rows, seen_k;
static const struct tern_kernels *seen_kernels;

static void spy_gemm_block_f32(const struct tern_gemm_block *g)
{
    const size_t rows = (g->m + g->tiles - 1) / g->tiles;

    seen_rows = rows > seen_rows ? rows : seen_rows;
    seen_k = g->k > seen_k ? g->k : seen_k;
    seen_kernels->gemm_block_f32(g);
}

/* A product takes the plan of its own shape, bucket of rows and number of threads, and no other's. */
static void test_lookup(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    const tern_tensor raw = tern_tensor_view(test_floats(96 * 40, 1), TERN_FP32, 2, (int64_t[]){ 96, 40 });
    struct tern_plans *plans;
    struct tern_kernels spy = *ctx->kernels;
    tern_weight *w;

    (void)state;
    assert_ok(ctx, tern_weight_pack_as(ctx, &raw, false, TERN_FP32, NULL, &w));
    assert_ok(ctx, tern_plans_create(ctx, &plans));
    seen_kernels = ctx->kernels;
    spy.gemm_block_f32 = spy_gemm_block_f32;
    spy.plans = plans;
    struct product p = { test_floats(64 * 96, 2), test_poison(64 * 40), 0, w, NULL, NULL, &spy };

    const struct tern_plan_entry entries[] = {
        { .key = { 96, 40, TERN_PLAN_F32, tern_plan_bucket(16), 1 }, .plan = { 5, 24, TERN_SPLIT_AUTO } },
        { .key = { 96, 40, TERN_PLAN_F32, tern_plan_bucket(32), 2 }, .plan = { 3, 8, TERN_SPLIT_AUTO } },
        { .key = { 96, 41, TERN_PLAN_F32, tern_plan_bucket(32), 1 }, .plan = { 3, 8, TERN_SPLIT_AUTO } },
        { .key = { 96, 40, TERN_PLAN_F32_F16, tern_plan_bucket(32), 1 }, .plan = { 3, 8, TERN_SPLIT_AUTO } },
    };
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        assert_ok(ctx, tern_plans_put(ctx, plans, &entries[i]));
    for (p.m = 1; p.m <= 64; p.m++) {
        const bool planned = p.m >= 16 && p.m < 32;
        seen_rows = seen_k = 0;
        assert_ok(ctx, tern_region(ctx, product_region, &p));
        assert_true(planned ? seen_rows <= 5 : seen_rows > 5 || p.m <= 5);
        assert_int_equal(seen_k, planned ? 24 : 96);
    }
    tern_plans_destroy(plans);
    tern_weight_destroy(&w);
    tern_ctx_destroy(&ctx);
}

/* Many entries, each found; one of the same key takes the place of the first; memory that runs out leaves the table whole. */
static void test_table(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct tern_plans *plans;

    (void)state;
    assert_ok(ctx, tern_plans_create(ctx, &plans));
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 3000; i++) {
            const struct tern_plan_entry e = { .key = { 1 + i / 7, 1 + i % 7 * 32, TERN_PLAN_Q8, i % 12, 1 + i % 5 },
                                               .plan = { 1 + (i + round) % 14, i, TERN_SPLIT_ROWS } };
            assert_true(tern_plan_entry_is_valid(&e));
            assert_ok(ctx, tern_plans_put(ctx, plans, &e));
        }
    assert_int_equal(plans->count, 3000);
    for (uint32_t i = 0; i < 3000; i++) {
        struct tern_plan_key key = { 1 + i / 7, 1 + i % 7 * 32, TERN_PLAN_Q8, i % 12, 1 + i % 5 };
        const struct tern_plan_entry *e = tern_plans_find(plans, &key);
        assert_non_null(e);
        assert_int_equal(e->plan.tile_rows, 1 + (i + 1) % 14);
        assert_int_equal(e->plan.k_block, i);
        key.in += 1000;
        assert_null(tern_plans_find(plans, &key));
    }
    if (fault_available())
        for (long n = 0; n < 2; n++) {
            struct tern_plan_entry e = { .key = { 5000, 1, TERN_PLAN_Q8, 0, 1 } };
            const size_t count = plans->count;
            for (plans->capacity = count; plans->count < 4096 && n; e.key.in++) /* until the slots must grow too */
                assert_ok(ctx, tern_plans_put(ctx, plans, &e));
            e.key.in++;
            const size_t before = plans->count;
            fault_arm(0);
            const tern_status status = tern_plans_put(ctx, plans, &e);
            if (fault_disarm()) {
                assert_int_equal(status, TERN_ERR_MEMORY);
                assert_int_equal(plans->count, before);
                assert_null(tern_plans_find(plans, &e.key));
            }
            assert_ok(ctx, tern_plans_put(ctx, plans, &e));
            assert_non_null(tern_plans_find(plans, &e.key));
        }
    tern_plans_destroy(plans);
    tern_ctx_destroy(&ctx);
}

static void test_buckets(void **state)
{
    (void)state;
    assert_int_equal(tern_plan_bucket(1), 0);
    assert_int_equal(tern_plan_bucket(2), 1);
    assert_int_equal(tern_plan_bucket(3), 1);
    assert_int_equal(tern_plan_bucket(127), 6);
    assert_int_equal(tern_plan_bucket(128), 7);
    assert_int_equal(tern_plan_bucket(2048), 11);
    assert_int_equal(tern_plan_bucket(SIZE_MAX), 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_buckets),
        OP_TEST(test_table),
        OP_TEST(test_lookup),
        OP_TEST(test_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
