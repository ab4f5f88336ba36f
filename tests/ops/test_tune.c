/* test_tune.c: tuning by a clock that the test winds: the best plan is found, stored, read by the next context and used; nothing of it
 * changes a result; and every way that it can go wrong. */
/* labels: quick threads */
#include "faults.h"
#include "ops/op_testing.h"

#include "base/memory.h"
#include "kernels/plans.h"
#include "ops/kernel_calls.h"
#include "ops/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *dir;

static int setup(void **state)
{
    (void)state;
    dir = test_temp_dir();
    setenv("XDG_CACHE_HOME", dir, 1);
    unsetenv("TERN_TUNE");
    return 0;
}

static int teardown(void **state)
{
    test_remove_dir(dir);
    return test_teardown(state);
}

/* A clock for which a plan takes 1000 s, and less for each property that it has as wanted. */
struct wound {
    double now;
    struct tern_plan wanted;
    double worth;
    long asked;
};

static double wound_seconds(void *user, const struct tern_plan *plan)
{
    struct wound *w = user;
    const double right = (w->wanted.tile_rows && plan->tile_rows == w->wanted.tile_rows) +
                         (w->wanted.k_block && plan->k_block == w->wanted.k_block) +
                         (w->wanted.split && plan->split == w->wanted.split);

    w->asked++;
    w->now += 1000 - w->worth * right;
    return w->now;
}

/* Rows of the tallest tile, seen from inside. */
static const struct tern_kernels *real;
static size_t seen_rows, seen_k;

static void spy_gemm_block_f32(const struct tern_gemm_block *g)
{
    const size_t rows = (g->m + g->tiles - 1) / g->tiles;

    seen_rows = rows > seen_rows ? rows : seen_rows;
    seen_k = g->k > seen_k ? g->k : seen_k;
    real->gemm_block_f32(g);
}

/* tern_linear with 16 to 31 rows, and in *rows and *k how the kernel was called. */
static float *linear(tern_ctx *ctx, float *x, float *w, size_t m, size_t *rows, size_t *k)
{
    const struct tern_kernels *kept = ctx->kernels;
    struct tern_kernels spy = *ctx->kernels;
    const tern_tensor input = t2(x, m, 600), weight = t2(w, 600, 70);
    tern_config config = tern_config_default();
    float *y = test_poison(m * 70);
    tern_tensor output = t2(y, m, 70);

    config.dtype = TERN_FP32;
    real = kept;
    spy.gemm_block_f32 = spy_gemm_block_f32;
    seen_rows = seen_k = 0;
    ctx->kernels = &spy;
    const tern_status status = tern_linear(ctx, &config, &input, &weight, NULL, &output);
    ctx->kernels = kept;
    assert_ok(ctx, status);
    *rows = seen_rows;
    *k = seen_k;
    return y;
}

static void test_found_stored_reloaded_used(void **state)
{
    static const tern_tune_product product = { 600, 70, TERN_FP32, false };
    tern_ctx *ctx = test_ctx(1), *later;
    const uint32_t half = (uint32_t)ctx->kernels->k_block / 2;
    struct wound wound = { .wanted = { 14, half, TERN_SPLIT_AUTO }, .worth = 100 };
    const struct tern_tune_clock clock = { wound_seconds, &wound };
    float *x = test_floats(31 * 600, 1), *w = test_floats(600 * 70, 1);
    tern_tune_options options = tern_tune_options_default();
    tern_tune_result result;
    size_t rows, k;

    (void)state;
    options.min_rows = 28; /* 3 tiles by the rules, 2 of 14 rows */
    options.max_rows = 31;
    const float *before = linear(ctx, x, w, 28, &rows, &k);
    assert_true(rows <= 10 && k > half / 2);
    assert_ok(ctx, tern_tune_measure(ctx, &product, 1, &options, &clock));
    assert_string_equal(tern_tune_note(ctx), "");
    assert_true(wound.asked > 0 && wound.asked % 2 == 0);

    later = test_ctx(1);
    for (int i = 0; i < 2; i++) {
        tern_ctx *c = i ? later : ctx;
        assert_int_equal(tern_tune_count(c), 1);
        assert_true(tern_tune_at(c, 0, &result));
        assert_false(tern_tune_at(c, 1, &result));
        assert_true(result.product.in == 600 && result.product.out == 70 && result.product.dtype == TERN_FP32);
        assert_true(result.rows == 16 && result.threads == 1 && result.latest == (i == 0));
        assert_int_equal(result.tile_rows, 14);
        assert_int_equal(result.k_block, 600 > half ? half : 0);
        assert_true(result.best_seconds < result.default_seconds);
        const float *after = linear(c, x, w, 28, &rows, &k);
        assert_int_equal(rows, 14);
        assert_true(k <= half);
        assert_memory_equal(after, before, 28 * 70 * sizeof(float));
        linear(c, x, w, 15, &rows, &k); /* not of these rows */
        assert_true(rows < 14);
    }
    tern_ctx_destroy(&later);
    tern_ctx_destroy(&ctx);
}

/* Where nothing is faster by the margin the rules stay, and it is known that they are the best. */
static void test_the_rules_stay(void **state)
{
    static const tern_tune_product product = { 600, 70, TERN_BF16, true };
    static const double worths[] = { 0, 19, -100, 21 };
    tern_ctx *ctx = test_ctx(1);
    tern_tune_result result;

    (void)state;
    for (size_t i = 0; i < sizeof worths / sizeof worths[0]; i++) {
        struct wound wound = { .wanted = { 14, 0, TERN_SPLIT_AUTO }, .worth = worths[i] };
        const struct tern_tune_clock clock = { wound_seconds, &wound };
        tern_tune_options options = tern_tune_options_default();
        options.min_rows = options.max_rows = 28;
        assert_ok(ctx, tern_tune_measure(ctx, &product, 1, &options, &clock));
        assert_int_equal(tern_tune_count(ctx), 1);
        assert_true(tern_tune_at(ctx, 0, &result) && result.product.rounded);
        assert_int_equal(result.tile_rows, worths[i] > 20 ? 14 : 0);
        assert_true(worths[i] > 20 || result.best_seconds == result.default_seconds);
    }
    tern_ctx_destroy(&ctx);
}

/* Several threads have plans of their own, which threads share what is one of the choices, and a team of one does not take them. */
static void test_split(void **state)
{
    static const tern_tune_product product = { 64, 96, TERN_FP32, false };
    struct wound wound = { .wanted = { 0, 0, TERN_SPLIT_ROWS }, .worth = 500 };
    const struct tern_tune_clock clock = { wound_seconds, &wound };
    tern_ctx *ctx = test_ctx(2), *one;
    tern_tune_options options = tern_tune_options_default();
    tern_tune_result result;

    (void)state;
    options.min_rows = options.max_rows = 32;
    assert_ok(ctx, tern_tune_measure(ctx, &product, 1, &options, &clock));
    assert_true(tern_tune_at(ctx, 0, &result));
    assert_int_equal(result.split, TERN_SPLIT_ROWS);
    assert_int_equal(result.threads, 2);
    one = test_ctx(1);
    const struct tern_weight w = { .in = 64, .out = 96, .format = TERN_WEIGHT_F32 };
    struct tern_par par = { .kernels = one->kernels, .count = 1 };
    assert_int_equal(tern_gemm_plan(&par, 32, &w, false).split, TERN_SPLIT_AUTO);
    par.count = 2;
    assert_int_equal(tern_gemm_plan(&par, 32, &w, false).split, TERN_SPLIT_ROWS);
    assert_int_equal(tern_gemm_plan(&par, 31, &w, false).split, TERN_SPLIT_AUTO);
    assert_int_equal(tern_gemm_plan(&par, 64, &w, false).split, TERN_SPLIT_AUTO);
    tern_ctx_destroy(&one);
    tern_ctx_destroy(&ctx);
}

static bool is_known(const tern_ctx *ctx, int64_t in, int64_t out, tern_dtype dtype, bool rounded, int64_t rows)
{
    tern_tune_result r;

    for (int i = 0; tern_tune_at(ctx, i, &r); i++)
        if (r.product.in == in && r.product.out == out && r.product.dtype == dtype && r.product.rounded == rounded &&
            r.rows == rows)
            return true;
    return false;
}

/* The shapes of an operator: in every dtype, feed-forwards too, and rows of 1 to 16 sequences. */
static void test_autotune(void **state)
{
    static const tern_dtype dtypes[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
    tern_ctx *ctx = test_ctx(1);
    int count = 0;

    (void)state;
    for (size_t d = 0; d < 4; d++) {
        const tern_dtype dtype = dtypes[d];
        assert_ok(ctx, tern_autotune(ctx, "mlp_gemm", 2, 4, 33, dtype));
        count += 2 * 6 * (dtype == TERN_INT8 ? 2 : 1); /* 2 to 64 rows */
        assert_int_equal(tern_tune_count(ctx), count);
        for (int rounded = dtype == TERN_BF16; rounded <= (dtype == TERN_BF16 || dtype == TERN_INT8); rounded++)
            for (int64_t rows = 2; rows <= 64; rows *= 2) {
                assert_true(is_known(ctx, 33, 132, dtype, rounded, rows));
                assert_true(is_known(ctx, 132, 33, dtype, rounded, rows));
            }
    }
    assert_ok(ctx, tern_autotune(ctx, "qkv_gemm", 1, 1, 33, TERN_FP32));
    assert_true(is_known(ctx, 33, 99, TERN_FP32, false, 1) && is_known(ctx, 33, 99, TERN_FP32, false, 16));
    assert_ok(ctx, tern_autotune(ctx, "vector_matmul", 3, 3, 33, TERN_FP32));
    assert_true(is_known(ctx, 33, 33, TERN_FP32, false, 2) && is_known(ctx, 33, 33, TERN_FP32, false, 32));

    /* What a feed-forward of 256 rows asks for: its parts have 128. */
    assert_ok(ctx, tern_autotune(ctx, "mlp_gemm", 256, 256, 35, TERN_FP32));
    assert_true(is_known(ctx, 35, 140, TERN_FP32, false, 64) && is_known(ctx, 140, 35, TERN_FP32, false, 128));

    const int known = tern_tune_count(ctx);
    assert_fails(ctx, tern_autotune(ctx, "softmax", 1, 2, 33, TERN_FP32), TERN_ERR_UNSUPPORTED,
                 "softmax has no product with a weight to tune, these have: qkv_gemm");
    assert_fails(ctx, tern_autotune(ctx, "gemm", 1, 2, 33, TERN_FP32), TERN_ERR_UNSUPPORTED,
                 "there is no operator gemm");
    assert_fails(ctx, tern_autotune(ctx, NULL, 1, 2, 33, TERN_FP32), TERN_ERR_ARG, "op is NULL");
    assert_fails(ctx, tern_autotune(ctx, "linear", 0, 2, 33, TERN_FP32), TERN_ERR_ARG, "lengths are 0 to 2");
    assert_fails(ctx, tern_autotune(ctx, "linear", 3, 2, 33, TERN_FP32), TERN_ERR_ARG, "lengths are 3 to 2");
    assert_fails(ctx, tern_autotune(ctx, "linear", 1, 2, 0, TERN_FP32), TERN_ERR_ARG, "hidden_size is 0");
    assert_fails(ctx, tern_autotune(ctx, "linear", 1, 2, 33, TERN_INT32), TERN_ERR_ARG, "is int32, expected fp32");
    assert_int_equal(tern_autotune(NULL, "linear", 1, 2, 33, TERN_FP32), TERN_ERR_ARG);
    assert_int_equal(tern_tune_count(ctx), known);
    assert_int_equal(tern_tune_count(NULL), 0);
    assert_string_equal(tern_tune_note(NULL), "");
    tern_ctx_destroy(&ctx);
}

/* An operator of layer 0 that asks for it; the others find what it found. */
static void test_created(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_config c = tern_config_default();
    tern_op *op;

    (void)state;
    c.dtype = TERN_FP32;
    c.hidden_size = 48;
    c.heads = 6;
    c.num_kv = 2;
    c.intermediate_size = 40;
    c.mlp_act_func_type = TERN_GATED_SILU;
    c.min_out_tokens = 1;
    c.max_out_tokens = 2;
    const struct {
        bool asks;
        int32_t layer_id;
        tern_kernel_choice kernel;
    } not_tuned[] = { { false, 0, TERN_KERNEL_AUTO },
                      { true, 1, TERN_KERNEL_AUTO },
                      { true, -1, TERN_KERNEL_AUTO },
                      { true, 0, TERN_KERNEL_REFERENCE } };
    for (size_t i = 0; i < sizeof not_tuned / sizeof not_tuned[0]; i++) {
        c.triton_autotune = not_tuned[i].asks;
        c.layer_id = not_tuned[i].layer_id;
        c.kernel = not_tuned[i].kernel;
        assert_ok(ctx, tern_op_create(ctx, "mlp_gemm", &c, &op));
        tern_op_destroy(&op);
        assert_int_equal(tern_tune_count(ctx), 0);
    }
    c.triton_autotune = true;
    c.layer_id = 0;
    c.kernel = TERN_KERNEL_AUTO;
    assert_ok(ctx, tern_op_create(ctx, "softmax_context", &c, &op));
    tern_op_destroy(&op);
    assert_int_equal(tern_tune_count(ctx), 0);
    assert_ok(ctx, tern_op_create(ctx, "mlp_gemm", &c, &op));
    tern_op_destroy(&op);
    assert_int_equal(tern_tune_count(ctx), 12); /* 1 to 32 rows */
    assert_true(is_known(ctx, 48, 80, TERN_FP32, false, 32) && is_known(ctx, 40, 48, TERN_FP32, false, 1));
    assert_ok(ctx, tern_op_create(ctx, "qkv_gemm", &c, &op));
    tern_op_destroy(&op);
    assert_true(is_known(ctx, 48, 80, TERN_FP32, false, 32)); /* (6 + 2 x 2) x 8, the same product: known already */
    assert_int_equal(tern_tune_count(ctx), 12);

    tern_ctx *later = test_ctx(1);
    tern_tune_result r;
    assert_int_equal(tern_tune_count(later), 12);
    assert_ok(later, tern_op_create(later, "mlp_gemm", &c, &op));
    tern_op_destroy(&op);
    for (int i = 0; tern_tune_at(later, i, &r); i++)
        assert_false(r.latest);
    tern_ctx_destroy(&later);

    c.hidden_size = -1;
    assert_fails(ctx, tern_op_create(ctx, "mlp_gemm", &c, &op), TERN_ERR_CONFIG, "hidden_size is -1");
    assert_null(op);
    c.hidden_size = 48;
    c.min_out_tokens = 3;
    assert_fails(ctx, tern_op_create(ctx, "mlp_gemm", &c, &op), TERN_ERR_CONFIG, "min_out_tokens is 3");
    setenv("TERN_TUNE", "off", 1);
    c.min_out_tokens = 1;
    later = test_ctx(1);
    assert_ok(later, tern_op_create(later, "mlp_gemm", &c, &op));
    tern_op_destroy(&op);
    assert_int_equal(tern_tune_count(later), 0);
    tern_ctx_destroy(&later);
    tern_ctx_destroy(&ctx);
}

struct stop {
    size_t after, calls, total;
};

static bool stop_after(void *user, const tern_tune_result *result, size_t done, size_t total)
{
    struct stop *s = user;

    assert_true(result->rows >= 1 && result->latest);
    assert_int_equal(done, ++s->calls);
    s->total = total;
    return done < s->after;
}

/* What was found before a stop is kept; products that are there twice are measured once, and what is known not at all if so asked. */
static void test_stopped(void **state)
{
    static const tern_tune_product products[] = { { 40, 40, TERN_FP32, false },
                                                  { 40, 40, TERN_FP32, false },
                                                  { 40, 72, TERN_INT8, true } };
    tern_ctx *ctx = test_ctx(1);
    struct stop stop = { .after = 3 };
    tern_tune_options o = tern_tune_options_default();

    (void)state;
    o.max_rows = 8;
    o.progress = stop_after;
    o.user = &stop;
    assert_fails(ctx, tern_tune_products(ctx, products, 3, &o), TERN_ERR_CANCELLED, "cancelled after 3 of 8 shapes");
    assert_int_equal(tern_tune_count(ctx), 3);
    tern_ctx_destroy(&ctx);
    ctx = test_ctx(1);
    assert_int_equal(tern_tune_count(ctx), 3);
    stop = (struct stop){ .after = 100 };
    o.missing_only = true;
    assert_ok(ctx, tern_tune_products(ctx, products, 3, &o));
    assert_int_equal(stop.calls, 5);
    assert_int_equal(stop.total, 5);
    assert_int_equal(tern_tune_count(ctx), 8);
    assert_ok(ctx, tern_tune_products(ctx, NULL, 0, NULL));

    o.reserved[1] = 1;
    assert_fails(ctx, tern_tune_products(ctx, products, 3, &o), TERN_ERR_ARG, "reserved");
    o.reserved[1] = 0;
    o.min_rows = 9;
    assert_fails(ctx, tern_tune_products(ctx, products, 3, &o), TERN_ERR_ARG, "rows are 9 to 8");
    const tern_tune_product bad = { 0, 40, TERN_FP32, false };
    assert_fails(ctx, tern_tune_products(ctx, &bad, 1, NULL), TERN_ERR_ARG, "product 0 is [0, 40]");
    assert_fails(ctx, tern_tune_products(ctx, NULL, 1, NULL), TERN_ERR_ARG, "products is NULL");
    tern_ctx_destroy(&ctx);
}

/* A context that tunes is at work, while it measures and while it tells of a result. */
struct nested {
    tern_ctx *ctx;
    double now;
    int measured, told;
};

static void call_refused(const struct nested *n)
{
    static const tern_tune_product other = { 24, 40, TERN_FP32, false };
    const int count = tern_tune_count(n->ctx);

    assert_fails(n->ctx, tern_tune_products(n->ctx, &other, 1, NULL), TERN_ERR_STATE, "the context is at work");
    assert_int_equal(tern_tune_count(n->ctx), count);
}

static double nested_seconds(void *user, const struct tern_plan *plan)
{
    struct nested *n = user;

    (void)plan;
    call_refused(n);
    n->measured++;
    n->now += 1;
    return n->now;
}

static bool nested_progress(void *user, const tern_tune_result *result, size_t done, size_t total)
{
    struct nested *n = user;

    (void)result, (void)done, (void)total;
    call_refused(n);
    n->told++;
    return true;
}

static void test_at_work(void **state)
{
    const tern_tune_product product = { 40, 40, TERN_FP32, false };
    tern_tune_options o = tern_tune_options_default();

    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        struct nested n = { .ctx = test_ctx(threads) };
        const struct tern_tune_clock clock = { nested_seconds, &n };
        const int known = tern_tune_count(n.ctx);

        o.max_rows = 2;
        o.progress = nested_progress;
        o.user = &n;
        assert_ok(n.ctx, tern_tune_measure(n.ctx, &product, 1, &o, &clock));
        assert_true(n.measured > 0 && n.told == 2);
        assert_int_equal(tern_tune_count(n.ctx), known + 2);
        assert_ok(n.ctx, tern_tune_products(n.ctx, &product, 1, &(tern_tune_options){ .min_rows = 1, .max_rows = 1 }));
        tern_ctx_destroy(&n.ctx);
    }
}

/* A host that forks when it is told: both processes go on. */
static bool fork_once(void *user, const tern_tune_result *result, size_t done, size_t total)
{
    pid_t *child = user;

    (void)result, (void)total;
    if (done == 1)
        *child = fork();
    return *child >= 0;
}

static void test_forked(void **state)
{
    const tern_tune_product product = { 40, 40, TERN_FP32, false };
    tern_tune_options o = tern_tune_options_default();
    pid_t child = -1;
    int status;

    (void)state;
    if (TEST_TSAN)
        TEST_SKIP("fork: ThreadSanitizer does not follow threads that a forked child starts");
    tern_ctx *ctx = test_ctx(2);
    o.max_rows = 8;
    o.progress = fork_once;
    o.user = &child;
    const tern_status got = tern_tune_products(ctx, &product, 1, &o);
    if (child == 0)
        _exit(got == TERN_OK && tern_tune_count(ctx) == 4 && tern_tune_is_stored(ctx) ? 0 : 1);
    assert_ok(ctx, got);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(tern_tune_count(ctx), 4);
    tern_ctx_destroy(&ctx);
}

/* Memory that runs out is an error with its text, and takes nothing with it. */
static void test_memory(void **state)
{
    static const tern_tune_product product = { 40, 40, TERN_INT8, true };
    tern_tune_options o = tern_tune_options_default();
    tern_ctx *ctx;

    (void)state;
    FAULT_NEEDED;
    ctx = test_ctx(1);
    o.max_rows = 3;
    assert_ok(ctx, tern_tune_products(ctx, &product, 1, &o));
    for (long n = 0, met = 1; met; n++) {
        fault_arm(n);
        const tern_status status = tern_tune_products(ctx, &product, 1, &o);
        met = fault_disarm();
        assert_true(status == TERN_OK || (status == TERN_ERR_MEMORY && met && *tern_error(ctx)));
        assert_int_equal(tern_tune_count(ctx), 2);
    }
    tern_ctx_destroy(&ctx);
}

#define TUNE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TUNE_TEST(test_found_stored_reloaded_used),
        TUNE_TEST(test_the_rules_stay),
        TUNE_TEST(test_split),
        TUNE_TEST(test_autotune),
        TUNE_TEST(test_created),
        TUNE_TEST(test_stopped),
        TUNE_TEST(test_at_work),
        TUNE_TEST(test_forked),
        TUNE_TEST(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
