/* test_kv_cache.c: sequences, blocks, forks and limits of the cache; its contents are test_attention.c's matter. */
#include "faults.h"
#include "ops/op_testing.h"

#include "ops/kv_pool.h"

static tern_kv_cache *cache_of(tern_ctx *ctx, int64_t positions, int32_t sequences, int64_t context)
{
    const tern_kv_shape shape = { .n_layers = 2,
                                  .n_kv_heads = 3,
                                  .head_dim = 5,
                                  .n_positions = positions,
                                  .n_sequences = sequences,
                                  .n_context = context };
    tern_kv_cache *cache;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    return cache;
}

static tern_status append(tern_ctx *ctx, tern_kv_cache *cache, int32_t sequence, int32_t n)
{
    const tern_kv_span span = { .sequence = sequence,
                                .n_rows = n,
                                .position = tern_kv_sequence_length(cache, sequence) };
    const tern_status status = tern_kv_reserve(ctx, cache, &span, 1);

    if (status == TERN_OK)
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    return status;
}

/* Every byte of a block, of all layers and heads. */
static void assert_block_holds(const tern_kv_cache *cache, int32_t block, unsigned char value)
{
    for (int32_t layer = 0; layer < cache->shape.n_layers; layer++)
        for (int32_t g = 0; g < cache->shape.n_kv_heads; g++) {
            const struct kv_place place = kv_place(cache, block, layer, g);
            for (size_t i = 0; i < cache->k_bytes; i++)
                assert_int_equal(place.k[i], value);
            for (size_t i = 0; i < cache->v_bytes; i++)
                assert_int_equal(place.v[i], value);
        }
}

static void test_each_byte_of_the_pool_has_one_place(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (int32_t n = 1; n <= 17; n += 4) { /* less than a group, one and a part, two and a part */
        tern_kv_cache *cache = cache_of(ctx, 64 * n, 1, 64 * n);
        for (int32_t block = 0; block < n; block++)
            for (int32_t layer = 0; layer < 2; layer++)
                for (int32_t g = 0; g < 3; g++) {
                    const struct kv_place place = kv_place(cache, block, layer, g);
                    assert_true(place.k >= cache->pool && place.v + cache->v_bytes <= cache->pool + cache->pool_bytes);
                    for (size_t i = 0; i < cache->k_bytes; i++)
                        place.k[i]++;
                    for (size_t i = 0; i < cache->v_bytes; i++)
                        place.v[i]++;
                }
        for (size_t i = 0; i < cache->pool_bytes; i++)
            assert_int_equal(cache->pool[i], 1);
        tern_kv_cache_destroy(&cache);
    }
    tern_ctx_destroy(&ctx);
}

static void test_sequences_that_grow_in_turn_have_blocks_in_order(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 64 * (3 * KV_GROUP), 3, 64 * 2 * KV_GROUP);
    int32_t ids[3];

    for (int i = 0; i < 3; i++)
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &ids[i]));
    for (int block = 0; block < KV_GROUP; block++)
        for (int i = 0; i < 3; i++)
            assert_ok(ctx, append(ctx, cache, ids[i], 64));
    for (int i = 0; i < 3; i++)
        for (int block = 0; block < KV_GROUP; block++)
            assert_int_equal(kv_table(cache, ids[i])[block], kv_table(cache, ids[i])[0] + block);

    /* Where no group is left, what is free of others' is taken. */
    assert_ok(ctx, tern_kv_sequence_truncate(ctx, cache, ids[2], 64));
    assert_ok(ctx, append(ctx, cache, ids[0], 64 * (KV_GROUP - 1)));
    assert_int_equal(tern_kv_cache_free_positions(cache), 0);
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_fill_free_refill(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 64 * 10 - 5, 20, 1000);
    int32_t ids[20];

    assert_int_equal(tern_kv_cache_free_positions(cache), 640);
    assert_true(tern_kv_cache_bytes(cache) == 640u * 2 * 3 * (5 + 32) * 4);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++) {
            assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &ids[i]));
            assert_ok(ctx, append(ctx, cache, ids[i], 1 + i * 6));
            assert_int_equal(tern_kv_sequence_length(cache, ids[i]), 1 + i * 6);
        }
        assert_int_equal(tern_kv_cache_free_positions(cache), 0);
        assert_ok(ctx, append(ctx, cache, ids[0], 63)); /* to the end of its block */
        assert_fails(ctx, append(ctx, cache, ids[0], 1), TERN_ERR_CAPACITY,
                     "needs 64 more positions, 0 of 640 are free");
        assert_int_equal(tern_kv_sequence_length(cache, ids[0]), 64);
        for (int i = 9; i >= 0; i--)
            assert_ok(ctx, tern_kv_sequence_remove(ctx, cache, ids[i]));
        assert_int_equal(tern_kv_cache_free_positions(cache), 640);
        assert_int_equal(tern_kv_sequence_length(cache, ids[0]), -1);
    }
    tern_kv_cache_destroy(&cache);
    assert_null(cache);
    tern_kv_cache_destroy(&cache);
    tern_kv_cache_destroy(NULL);
    tern_ctx_destroy(&ctx);
}

static void test_blocks_come_back_zeroed(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 128, 2, 128);
    int32_t a;

    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    assert_ok(ctx, append(ctx, cache, a, 128));
    for (size_t i = 0; i < tern_kv_cache_bytes(cache); i++)
        cache->pool[i] = 7;
    assert_ok(ctx, tern_kv_sequence_truncate(ctx, cache, a, 64));
    assert_ok(ctx, append(ctx, cache, a, 1));
    assert_block_holds(cache, kv_table(cache, a)[0], 7);
    assert_block_holds(cache, kv_table(cache, a)[1], 0);
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_fork(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 64 * 8, 4, 512);
    int32_t a, b, c;

    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    assert_ok(ctx, append(ctx, cache, a, 64 + 10));
    for (size_t i = 0; i < tern_kv_cache_bytes(cache); i++)
        cache->pool[i] = 3;
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &b));
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, b, &c));
    assert_int_equal(tern_kv_sequence_length(cache, c), 74);
    assert_int_equal(tern_kv_cache_free_positions(cache), 64 * 6);

    /* All three append in one batch: two copies are made, the last holder keeps the block. */
    tern_kv_span spans[3] = { { .sequence = a, .n_rows = 1, .position = 74 },
                              { .sequence = b, .row = 1, .n_rows = 2, .position = 74 },
                              { .sequence = c, .row = 3, .n_rows = 1, .position = 74 } };
    assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, 3));
    assert_ok(ctx, tern_kv_commit(ctx, cache, spans, 3));
    assert_int_equal(tern_kv_cache_free_positions(cache), 64 * 4);
    assert_int_equal(tern_kv_sequence_length(cache, b), 76);
    const int32_t ba = kv_table(cache, a)[1], bb = kv_table(cache, b)[1], bc = kv_table(cache, c)[1];
    assert_true(ba != bb && bb != bc && ba != bc);
    assert_true(kv_table(cache, a)[0] == kv_table(cache, b)[0] && kv_table(cache, b)[0] == kv_table(cache, c)[0]);
    for (size_t i = 0; i < 3; i++)
        assert_block_holds(cache, (int32_t[]){ ba, bb, bc }[i], 3);

    /* Shared blocks live until the last holder goes. */
    assert_ok(ctx, tern_kv_sequence_remove(ctx, cache, a));
    assert_int_equal(tern_kv_cache_free_positions(cache), 64 * 5);
    assert_ok(ctx, tern_kv_sequence_remove(ctx, cache, c));
    assert_int_equal(tern_kv_cache_free_positions(cache), 64 * 6);

    /* Writing again inside a shared whole block copies it. */
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, b, &a));
    spans[0] = (tern_kv_span){ .sequence = a, .n_rows = 3, .position = 5 };
    const int32_t shared = kv_table(cache, b)[0];
    assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, 1));
    assert_ok(ctx, tern_kv_commit(ctx, cache, spans, 1));
    assert_int_equal(tern_kv_sequence_length(cache, a), 8);
    assert_true(kv_table(cache, a)[0] != shared && kv_table(cache, b)[0] == shared);
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_commit_takes_reserved_spans_alone(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 256, 4, 512);
    int32_t a, b;

    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    tern_kv_span span = { .sequence = a, .n_rows = 10 };
    assert_fails(ctx, tern_kv_commit(ctx, NULL, &span, 1), TERN_ERR_ARG, "cache is NULL");
    assert_fails(ctx, tern_kv_commit(ctx, cache, NULL, 1), TERN_ERR_ARG, "spans is NULL");
    assert_fails(ctx, tern_kv_commit(ctx, cache, &span, 1), TERN_ERR_STATE,
                 "has room for 0 positions, the span ends at 10");
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    span.sequence = 3;
    assert_fails(ctx, tern_kv_commit(ctx, cache, &span, 1), TERN_ERR_ARG, "3");
    const tern_kv_span twice[2] = { { .sequence = a, .n_rows = 10 }, { .sequence = a, .row = 10, .n_rows = 1 } };
    assert_fails(ctx, tern_kv_commit(ctx, cache, twice, 2), TERN_ERR_ARG, "twice");
    assert_int_equal(tern_kv_sequence_length(cache, a), 0);
    span.sequence = a;
    assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    assert_int_equal(tern_kv_sequence_length(cache, a), 10);

    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &b));
    span = (tern_kv_span){ .sequence = b, .n_rows = 1, .position = 10 };
    assert_fails(ctx, tern_kv_commit(ctx, cache, &span, 1), TERN_ERR_STATE, "shares its positions");
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_last_holder_needs_no_block(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 128, 4, 512);
    int32_t a, b;

    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    assert_ok(ctx, append(ctx, cache, a, 10));
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &b));
    const tern_kv_span spans[2] = { { .sequence = a, .n_rows = 1, .position = 10 },
                                    { .sequence = b, .row = 1, .n_rows = 1, .position = 10 } };
    assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, 2)); /* one free block is enough */
    assert_int_equal(tern_kv_cache_free_positions(cache), 0);
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 64 * 3, 4, 130);
    int32_t a, b, c;

    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &b));
    const tern_kv_span too_many[2] = { { .sequence = a, .n_rows = 65 }, { .sequence = b, .row = 65, .n_rows = 65 } };
    assert_fails(ctx, tern_kv_reserve(ctx, cache, too_many, 2), TERN_ERR_CAPACITY,
                 "needs 256 more positions, 192 of 192 are free");
    assert_int_equal(tern_kv_cache_free_positions(cache), 192);
    const tern_kv_span too_long[2] = { { .sequence = a, .n_rows = 1 }, { .sequence = b, .row = 1, .n_rows = 131 } };
    assert_fails(ctx, tern_kv_reserve(ctx, cache, too_long, 2), TERN_ERR_CAPACITY,
                 "would hold 131 positions, the context has 130");
    assert_int_equal(tern_kv_cache_free_positions(cache), 192);

    /* What was reserved and not committed is the sequence's until it is cut. */
    const tern_kv_span one = { .sequence = a, .n_rows = 10 };
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &one, 1));
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &one, 1));
    assert_int_equal(tern_kv_cache_free_positions(cache), 128);
    assert_int_equal(tern_kv_sequence_length(cache, a), 0);
    assert_ok(ctx, tern_kv_sequence_truncate(ctx, cache, a, 0));
    assert_int_equal(tern_kv_cache_free_positions(cache), 192);

    /* Bad spans. */
    const tern_kv_span twice[2] = { { .sequence = a, .n_rows = 1 }, { .sequence = a, .row = 1, .n_rows = 1 } };
    assert_fails(ctx, tern_kv_reserve(ctx, cache, twice, 2), TERN_ERR_ARG, "named twice");
    const tern_kv_span unknown = { .sequence = 3, .n_rows = 1 }, below = { .sequence = -1, .n_rows = 1 };
    assert_fails(ctx, tern_kv_reserve(ctx, cache, &unknown, 1), TERN_ERR_ARG, "no sequence 3");
    assert_fails(ctx, tern_kv_reserve(ctx, cache, &below, 1), TERN_ERR_ARG, "no sequence -1");
    const tern_kv_span gap = { .sequence = a, .n_rows = 1, .position = 1 },
                       negative = { .sequence = a, .n_rows = 1, .position = -1 };
    assert_fails(ctx, tern_kv_reserve(ctx, cache, &gap, 1), TERN_ERR_ARG, "position 1, expected 0..0");
    assert_fails(ctx, tern_kv_reserve(ctx, cache, &negative, 1), TERN_ERR_ARG, "position -1");
    const tern_kv_span empty = { .sequence = a, .n_rows = 0 };
    assert_fails(ctx, tern_kv_reserve(ctx, cache, &empty, 1), TERN_ERR_ARG, "0 rows, expected 1 or more");
    assert_fails(ctx, tern_kv_reserve(ctx, cache, NULL, 1), TERN_ERR_ARG, "spans is NULL");
    assert_fails(ctx, tern_kv_reserve(ctx, NULL, &one, 1), TERN_ERR_ARG, "cache is NULL");
    assert_ok(ctx, tern_kv_reserve(ctx, cache, NULL, 0));

    assert_ok(ctx, append(ctx, cache, a, 70));
    assert_fails(ctx, tern_kv_sequence_truncate(ctx, cache, a, 71), TERN_ERR_ARG, "71 positions, expected 0..70");
    assert_fails(ctx, tern_kv_sequence_truncate(ctx, cache, a, -1), TERN_ERR_ARG, "-1 positions");
    assert_ok(ctx, tern_kv_sequence_truncate(ctx, cache, a, 64));
    assert_int_equal(tern_kv_cache_free_positions(cache), 128);
    assert_fails(ctx, tern_kv_sequence_remove(ctx, cache, 2), TERN_ERR_ARG, "no sequence 2");
    assert_fails(ctx, tern_kv_sequence_fork(ctx, cache, 2, &c), TERN_ERR_ARG, "no sequence 2");
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &c));
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &c));
    assert_fails(ctx, tern_kv_sequence_fork(ctx, cache, a, &c), TERN_ERR_CAPACITY, "4 sequences are in use");
    assert_fails(ctx, tern_kv_sequence_add(ctx, cache, &c), TERN_ERR_CAPACITY, "4 sequences are in use");
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_bad_shapes(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const tern_kv_shape good = {
        .n_layers = 1, .n_kv_heads = 1, .head_dim = 1, .n_positions = 1, .n_sequences = 1, .n_context = 1
    };
    tern_kv_cache *cache = (tern_kv_cache *)ctx;
    tern_kv_shape bad;

    assert_fails(ctx, tern_kv_cache_create(ctx, NULL, &cache), TERN_ERR_ARG, "shape is NULL");
    assert_null(cache);
    assert_fails(ctx, tern_kv_cache_create(ctx, &good, NULL), TERN_ERR_ARG, "out is NULL");
#define BAD(field, value) \
    bad = good;           \
    bad.field = (value);  \
    assert_fails(ctx, tern_kv_cache_create(ctx, &bad, &cache), TERN_ERR_ARG, #field " is " #value ", expected 1..")
    BAD(n_layers, 0);
    BAD(n_kv_heads, -1);
    BAD(head_dim, 513);
    BAD(n_positions, 0);
    BAD(n_positions, 9000000000000000000);
    BAD(n_sequences, 0);
    BAD(n_context, 0);
    BAD(n_context, 3000000000);
#undef BAD
    bad = good;
    bad.n_positions = (int64_t)1 << 36;
    bad.n_layers = bad.n_kv_heads = 1 << 20;
    bad.head_dim = 512;
    assert_fails(ctx, tern_kv_cache_create(ctx, &bad, &cache), TERN_ERR_MEMORY, "KV pool");
    assert_null(cache);
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);
    tern_kv_cache *cache = cache_of(ctx, 640, 3, 200);
    const tern_kv_shape shape = {
        .n_layers = 2, .n_kv_heads = 3, .head_dim = 5, .n_positions = 640, .n_sequences = 3, .n_context = 200
    };
    int32_t a, b;

    /* Nothing is allocated after creation. */
    fault_count_start();
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    assert_ok(ctx, append(ctx, cache, a, 150));
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &b));
    assert_ok(ctx, append(ctx, cache, b, 50));
    assert_ok(ctx, tern_kv_sequence_remove(ctx, cache, a));
    const long calls = fault_count();
    fault_disarm();
    assert_int_equal(calls, 0);
    tern_kv_cache_destroy(&cache);

    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_kv_cache_create(ctx, &shape, &cache);
        FAULT_DONE(n, ctx, status, cache);
        tern_kv_cache_destroy(&cache);
    }
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_each_byte_of_the_pool_has_one_place),
        OP_TEST(test_sequences_that_grow_in_turn_have_blocks_in_order),
        OP_TEST(test_fill_free_refill),
        OP_TEST(test_blocks_come_back_zeroed),
        OP_TEST(test_fork),
        OP_TEST(test_commit_takes_reserved_spans_alone),
        OP_TEST(test_last_holder_needs_no_block),
        OP_TEST(test_all_or_nothing),
        OP_TEST(test_bad_shapes),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/kv_cache", tests, NULL, NULL);
}
