/* test_workspace.c: the memory between operators: what is measured is what is held, and nothing leaves its own. */
#include "faults.h"
#include "ops/op_testing.h"

#include <tern/workspace.h>

#include <stdio.h>

/* H 24 in 4 heads that share 2, I 4 H, 3 layers, 100 positions. */
static tern_config config_of(void)
{
    tern_config c = test_config();

    c.hidden_size = 24;
    c.heads = 4;
    c.num_kv = 2;
    c.num_hidden_layers = 3;
    c.max_out_tokens = 100;
    c.min_out_tokens = 10;
    return c;
}

static size_t lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static void test_sizes_are_those_of_rows_and_of_the_cache(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    tern_config c = config_of();
    tern_workspace_options o = tern_workspace_options_default();
    tern_workspace_sizes s;

    assert_int_equal(o.batch, 1);
    o.batch = 5;
    o.prompt_len = 7;
    assert_ok(ctx, tern_workspace_measure(ctx, &c, &o, &s));
    assert_int_equal(s.tokens, 100);
    assert_int_equal(s.rows, 35);
    assert_int_equal(s.part[TERN_WORKSPACE_QKV], lines(35 * 48 * 4));
    assert_int_equal(s.part[TERN_WORKSPACE_NORMED], lines(35 * 24 * 4));
    assert_int_equal(s.part[TERN_WORKSPACE_CONTEXT], lines(35 * 24 * 4));
    assert_int_equal(s.part[TERN_WORKSPACE_INNER], lines(35 * 96 * 4));
    assert_int_equal(s.part[TERN_WORKSPACE_OUTPUT], lines(35 * 24 * 4));
    /* 128 positions of 3 layers and 2 heads: 6 numbers of a key, and 32 of a value, whose panels are that wide. */
    assert_int_equal(s.cache, (size_t)5 * 128 * 3 * 2 * (6 + 32) * 4);
    size_t sum = s.scores + s.cache;
    for (int i = 0; i < TERN_WORKSPACE_PARTS; i++)
        sum += s.part[i];
    assert_int_equal(s.total, sum);

    /* Half the numbers in fp16; int8 as its activations; gated feed-forwards are twice as wide; ranks share. */
    const tern_workspace_sizes full = s;
    c.dtype = TERN_FP16;
    assert_ok(ctx, tern_workspace_measure(ctx, &c, &o, &s));
    assert_int_equal(s.part[TERN_WORKSPACE_QKV], lines(full.part[TERN_WORKSPACE_QKV] / 2));
    c.dtype = TERN_INT8;
    c.activation_dtype = TERN_FP32;
    c.mlp_act_func_type = TERN_GATED_SILU;
    c.mp_size = 2;
    assert_ok(ctx, tern_workspace_measure(ctx, &c, &o, &s));
    assert_int_equal(s.part[TERN_WORKSPACE_QKV], lines(full.part[TERN_WORKSPACE_QKV] / 2));
    assert_int_equal(s.part[TERN_WORKSPACE_INNER], full.part[TERN_WORKSPACE_INNER]);
    assert_int_equal(s.cache, full.cache / 2);
    /* A cache of the caller's is no part of it. */
    c.bigscience_bloom = true;
    c.num_kv = -1;
    assert_ok(ctx, tern_workspace_measure(ctx, &c, &o, &s));
    assert_int_equal(s.cache, 0);
    tern_ctx_destroy(&ctx);
}

/* B50 in one dtype: with `memory` short of all, as many tokens as fit, one more not; the parts of what is made lie apart, each in its
 * bytes. */
static void b50_in(tern_ctx *ctx, const tern_config *c)
{
    const size_t size = tern_dtype_size(c->dtype == TERN_INT8 ? c->activation_dtype : c->dtype);
    tern_workspace_options o = { .batch = 3 };
    tern_workspace_sizes all, s, next;
    tern_workspace *w;

    assert_ok(ctx, tern_workspace_measure(ctx, c, &o, &all));
    o.memory = (int64_t)all.total;
    assert_ok(ctx, tern_workspace_measure(ctx, c, &o, &s));
    assert_int_equal(s.tokens, 100);
    for (int64_t memory = (int64_t)all.total - 1; memory > 0; memory -= 9973) {
        o.memory = memory;
        s = all;
        const tern_status status = tern_workspace_measure(ctx, c, &o, &s);
        if (status == TERN_ERR_CAPACITY) {
            assert_non_null(strstr(tern_error(ctx), "10 tokens (min_out_tokens)"));
            assert_memory_equal(&s, &all, sizeof s);
            continue;
        }
        assert_ok(ctx, status);
        assert_true(s.total <= (size_t)memory && s.tokens >= 10 && s.tokens < 100);
        /* One more would not fit. */
        tern_config more = *c;
        more.max_out_tokens = more.min_out_tokens = (int32_t)s.tokens + 1;
        assert_fails(ctx, tern_workspace_measure(ctx, &more, &o, &next), TERN_ERR_CAPACITY, "expected at most");
    }

    o = (tern_workspace_options){ .batch = 3, .prompt_len = 4 };
    assert_ok(ctx, tern_workspace_create(ctx, c, &o, &w));
    s = tern_workspace_sizes_of(w);
    uintptr_t end = 0;
    for (int i = 0; i < TERN_WORKSPACE_PARTS; i++) {
        tern_tensor t;
        assert_ok(ctx, tern_workspace_tensor(ctx, w, (tern_workspace_part)i, 12, &t));
        assert_int_equal(tern_dtype_size(t.dtype), size);
        const size_t bytes = (size_t)(12 * t.dim[1]) * size;
        assert_true((uintptr_t)t.data >= end && bytes <= s.part[i]);
        memset(t.data, i + 1, bytes); /* all of it is there */
        end = (uintptr_t)t.data + s.part[i];
    }
    tern_workspace_destroy(&w);
}

/* B50: bytes are counted in bytes of what is stored, and fewer tokens than min_out_tokens are an error. */
static void test_b50_memory_decides_how_many_tokens_there_are(void **state)
{
    static const tern_dtype dtypes[][2] = { { TERN_FP32, TERN_FP16 }, { TERN_FP16, TERN_FP16 },
                                            { TERN_BF16, TERN_FP16 }, { TERN_INT8, TERN_FP32 },
                                            { TERN_INT8, TERN_FP16 }, { TERN_INT8, TERN_BF16 } };

    (void)state;
    tern_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        tern_config c = config_of();
        c.dtype = dtypes[i][0];
        c.activation_dtype = dtypes[i][1];
        b50_in(ctx, &c);
    }
    tern_ctx_destroy(&ctx);
}

/* B49, B51: two models have two workspaces, each of the size that its caller gave, whichever came first. */
static void test_b49_b51_a_workspace_is_its_callers(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const tern_config c = config_of();
    const tern_workspace_options small = { .batch = 1, .prompt_len = 2 }, large = { .batch = 4, .prompt_len = 5 };
    tern_workspace *a, *b;
    tern_tensor t[TERN_WORKSPACE_PARTS], none = tern_tensor_none();

    assert_ok(ctx, tern_workspace_create(ctx, &c, &small, &a));
    assert_ok(ctx, tern_workspace_create(ctx, &c, &large, &b));
    assert_int_equal(tern_workspace_sizes_of(b).rows, 20);
    assert_ptr_not_equal(tern_workspace_cache(a), tern_workspace_cache(b));
    assert_int_equal(tern_kv_cache_bytes(tern_workspace_cache(b)), tern_workspace_sizes_of(b).cache);

    /* Parts have all rows, lie apart and are aligned; a row more is an error. */
    static const int64_t width[] = { 48, 24, 24, 96, 24 };
    for (int i = 0; i < TERN_WORKSPACE_PARTS; i++) {
        assert_ok(ctx, tern_workspace_tensor(ctx, b, (tern_workspace_part)i, 20, &t[i]));
        assert_int_equal(t[i].dim[0], 20);
        assert_int_equal(t[i].dim[1], width[i]);
        assert_int_equal((uintptr_t)t[i].data % 64, 0);
        memset(t[i].data, i + 1, (size_t)(20 * width[i]) * 4);
        assert_fails(ctx, tern_workspace_tensor(ctx, b, (tern_workspace_part)i, 21, &none), TERN_ERR_CAPACITY,
                     "21 rows, expected at most the 20");
    }
    for (int i = 0; i < TERN_WORKSPACE_PARTS; i++)
        assert_int_equal(((const char *)t[i].data)[0], i + 1);
    assert_int_equal(none.rank, -1);
    tern_workspace_destroy(&a);
    assert_null(a);
    assert_int_equal(((const char *)t[0].data)[0], 1);
    tern_workspace_destroy(&b);
    tern_workspace_destroy(NULL);
    tern_ctx_destroy(&ctx);
}

static void test_release_retake_and_reset(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_config c = config_of();
    const tern_workspace_options o = { .batch = 2, .prompt_len = 3 };
    tern_workspace *w;
    tern_tensor t;

    assert_ok(ctx, tern_workspace_create(ctx, &c, &o, &w));
    assert_true(tern_workspace_is_allocated(w));
    tern_kv_span spans[] = { { .sequence = 0, .row = 0, .n_rows = 3 }, { .sequence = 1, .row = 3, .n_rows = 3 } };
    assert_ok(ctx, tern_kv_reserve(ctx, tern_workspace_cache(w), spans, 2));
    assert_ok(ctx, tern_kv_commit(ctx, tern_workspace_cache(w), spans, 2));
    assert_int_equal(tern_kv_sequence_length(tern_workspace_cache(w), 1), 3);
    assert_ok(ctx, tern_workspace_reset_cache(ctx, w));
    assert_int_equal(tern_kv_sequence_length(tern_workspace_cache(w), 0), 0);
    assert_int_equal(tern_kv_sequence_length(tern_workspace_cache(w), 1), 0);
    /* Every sequence has all of its positions, whatever the others hold; one more is an error. */
    spans[0].n_rows = 100;
    spans[1] = (tern_kv_span){ .sequence = 1, .row = 100, .n_rows = 100 };
    assert_ok(ctx, tern_kv_reserve(ctx, tern_workspace_cache(w), spans, 2));
    spans[1].n_rows = 101;
    assert_fails(ctx, tern_kv_reserve(ctx, tern_workspace_cache(w), spans, 2), TERN_ERR_CAPACITY, "101");

    const tern_workspace_sizes before = tern_workspace_sizes_of(w);
    tern_workspace_release(w);
    tern_workspace_release(w);
    assert_false(tern_workspace_is_allocated(w));
    assert_null(tern_workspace_cache(w));
    assert_fails(ctx, tern_workspace_reset_cache(ctx, w), TERN_ERR_STATE, "it was released");
    assert_fails(ctx, tern_workspace_tensor(ctx, w, TERN_WORKSPACE_QKV, 1, &t), TERN_ERR_STATE, "it was released");
    assert_ok(ctx, tern_workspace_retake(ctx, w));
    assert_ok(ctx, tern_workspace_retake(ctx, w));
    assert_true(tern_workspace_is_allocated(w));
    const tern_workspace_sizes after = tern_workspace_sizes_of(w);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(tern_kv_sequence_length(tern_workspace_cache(w), 1), 0);
    tern_workspace_destroy(&w);

    c.bigscience_bloom = true;
    c.num_kv = -1;
    assert_ok(ctx, tern_workspace_create(ctx, &c, &o, &w));
    assert_null(tern_workspace_cache(w));
    assert_fails(ctx, tern_workspace_reset_cache(ctx, w), TERN_ERR_STATE, "its caller has");
    tern_workspace_destroy(&w);
    tern_ctx_destroy(&ctx);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const tern_config good = config_of();
    tern_workspace_sizes s = { .tokens = -7 };
    tern_workspace *w = (tern_workspace *)ctx;
    tern_tensor t;

    static const tern_workspace_options bad[] = {
        { .batch = 0 }, { .batch = -1 }, { .batch = 1, .prompt_len = -1 }, { .batch = 1, .memory = -1 }
    };
    for (size_t i = 0; i < 4; i++)
        assert_fails(ctx, tern_workspace_measure(ctx, &good, &bad[i], &s), TERN_ERR_ARG, "expected");
    tern_config c = good;
    c.min_out_tokens = 101;
    assert_fails(ctx, tern_workspace_measure(ctx, &c, NULL, &s), TERN_ERR_CONFIG, "min_out_tokens is 101");
    c = good;
    c.max_out_tokens = 0;
    assert_fails(ctx, tern_workspace_measure(ctx, &c, NULL, &s), TERN_ERR_CONFIG, "max_out_tokens is 0");
    c = good;
    c.num_hidden_layers = 0;
    assert_fails(ctx, tern_workspace_measure(ctx, &c, NULL, &s), TERN_ERR_CONFIG, "num_hidden_layers is 0");
    c = good;
    c.mlp_act_func_type = (tern_activation)9;
    assert_fails(ctx, tern_workspace_create(ctx, &c, NULL, &w), TERN_ERR_CONFIG, "mlp_act_func_type is 9");
    assert_null(w);
    c = good;
    c.heads = 5;
    assert_fails(ctx, tern_workspace_measure(ctx, &c, NULL, &s), TERN_ERR_CONFIG, "heads is 5");
    c = good;
    c.hidden_size = 511;
    c.heads = 1;
    c.num_kv = -1;
    c.max_out_tokens = INT32_MAX;
    c.num_hidden_layers = INT32_MAX;
    const tern_workspace_options most = { .batch = INT32_MAX };
    assert_int_not_equal(tern_workspace_measure(ctx, &c, &most, &s), TERN_OK);
    assert_fails(ctx, tern_workspace_measure(ctx, NULL, NULL, &s), TERN_ERR_ARG, "config is NULL");
    assert_fails(ctx, tern_workspace_measure(ctx, &good, NULL, NULL), TERN_ERR_ARG, "sizes is NULL");
    assert_int_equal(s.tokens, -7);
    assert_fails(ctx, tern_workspace_create(ctx, &good, NULL, NULL), TERN_ERR_ARG, "out is NULL");
    assert_fails(ctx, tern_workspace_retake(ctx, NULL), TERN_ERR_ARG, "workspace is NULL");
    assert_fails(ctx, tern_workspace_reset_cache(ctx, NULL), TERN_ERR_ARG, "workspace is NULL");
    assert_ok(ctx, tern_workspace_create(ctx, &good, NULL, &w));
    assert_fails(ctx, tern_workspace_tensor(ctx, w, (tern_workspace_part)5, 1, &t), TERN_ERR_ARG, "part is 5");
    assert_fails(ctx, tern_workspace_tensor(ctx, w, TERN_WORKSPACE_QKV, -1, &t), TERN_ERR_ARG, "rows is -1");
    assert_fails(ctx, tern_workspace_tensor(ctx, w, TERN_WORKSPACE_QKV, 1, NULL), TERN_ERR_ARG, "out is NULL");
    assert_fails(ctx, tern_workspace_tensor(ctx, NULL, TERN_WORKSPACE_QKV, 1, &t), TERN_ERR_ARG, "workspace is NULL");
    tern_workspace_destroy(&w);
    assert_false(tern_workspace_is_allocated(NULL));
    assert_null(tern_workspace_cache(NULL));
    assert_int_equal(tern_workspace_sizes_of(NULL).total, 0);
    tern_workspace_release(NULL);
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);
    const tern_config c = config_of();
    tern_workspace *w = NULL;

    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_workspace_create(ctx, &c, NULL, &w);
        FAULT_DONE(n, ctx, status, w);
        tern_workspace_destroy(&w);
    }
    tern_workspace_release(w);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_workspace_retake(ctx, w);
        FAULT_DONE(n, ctx, status, tern_workspace_cache(w));
        assert_false(tern_workspace_is_allocated(w));
    }
    tern_workspace_destroy(&w);
    tern_ctx_destroy(&ctx);
}

/* The numbers that the operator gives are those of the function. */
static void test_by_name(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    static const char *const names[] = { "tokens", "rows",   "qkv",    "normed", "context",
                                         "inner",  "output", "scores", "cache",  "total" };
    tern_op_settings settings = tern_op_settings_default();
    const tern_op_call call = { .params = &settings.params };
    const int index = tern_op_find("workspace");
    int64_t got[10];
    tern_tensor t[10];
    tern_op_io io[10];
    tern_workspace_sizes s;
    tern_op *op;

    settings.config = config_of();
    assert_ok(ctx, tern_op_settings_set(ctx, index, &settings, "batch", "4"));
    assert_ok(ctx, tern_op_settings_set(ctx, index, &settings, "prompt_len", "9"));
    assert_ok(ctx, tern_op_create(ctx, "workspace", &settings.config, &op));
    for (int i = 0; i < 10; i++) {
        t[i] = tern_tensor_view(&got[i], TERN_INT64, 0, NULL);
        io[i] = (tern_op_io){ names[i], &t[i] };
    }
    assert_ok(ctx, tern_op_run(ctx, op, io, 10, &call));
    const tern_workspace_options o = { .batch = 4, .prompt_len = 9 };
    assert_ok(ctx, tern_workspace_measure(ctx, &settings.config, &o, &s));
    const int64_t want[] = { s.tokens,           s.rows,
                             (int64_t)s.part[0], (int64_t)s.part[1],
                             (int64_t)s.part[2], (int64_t)s.part[3],
                             (int64_t)s.part[4], (int64_t)s.scores,
                             (int64_t)s.cache,   (int64_t)s.total };
    assert_memory_equal(got, want, sizeof want);
    tern_op_destroy(&op);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_sizes_are_those_of_rows_and_of_the_cache),
        OP_TEST(test_b50_memory_decides_how_many_tokens_there_are),
        OP_TEST(test_b49_b51_a_workspace_is_its_callers),
        OP_TEST(test_release_retake_and_reset),
        OP_TEST(test_bad_arguments),
        OP_TEST(test_allocation_failures),
        OP_TEST(test_by_name),
    };
    return cmocka_run_group_tests_name("ops/workspace", tests, NULL, NULL);
}
