/* test_kv_rows.c: keys and values into a cache and out of it again. */
#include "ops/op_testing.h"

#include "ops/kv_pool.h"

#include <stdlib.h>
#include <string.h>

#define HEADS 3
#define WIDTH 40
#define N     130 /* two whole blocks and a bit */

static tern_tensor tensor(void *data, tern_dtype dtype, int64_t n, int64_t width)
{
    return tern_tensor_view(data, dtype, 3, (int64_t[]){ HEADS, n, width });
}

static tern_kv_cache *cache_of(tern_ctx *ctx, int32_t *sequence)
{
    const tern_kv_shape shape = {
        .n_layers = 2, .n_kv_heads = HEADS, .head_dim = WIDTH, .n_positions = 256, .n_sequences = 2, .n_context = 256
    };
    tern_kv_cache *cache;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, sequence));
    return cache;
}

/* Positions [from, from + n) of what a whole tensor holds. */
static float *part(const float *all, int64_t width, int64_t from, int64_t n)
{
    float *out = malloc((size_t)(HEADS * n * width) * sizeof(float));

    for (int64_t g = 0; g < HEADS; g++)
        memcpy(out + g * n * width, all + (g * N + from) * width, (size_t)(n * width) * sizeof(float));
    return out;
}

static void test_what_is_written_is_read_again(void **state)
{
    (void)state;
    static const int64_t cuts[] = { 0, 1, 64, 70, N };
    tern_ctx *ctx = test_ctx(1);
    static float k[HEADS * N * WIDTH], v[HEADS * N * 24], k2[HEADS * N * WIDTH], v2[HEADS * N * 24];
    int32_t sequence;
    tern_kv_cache *cache = cache_of(ctx, &sequence);

    for (size_t i = 0; i < sizeof k / sizeof *k; i++)
        k[i] = (float)i;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        v[i] = -(float)i;
    for (size_t c = 0; c + 1 < sizeof cuts / sizeof *cuts; c++) {
        const tern_kv_span span = {
            .sequence = sequence, .row = 7, .n_rows = (int32_t)(cuts[c + 1] - cuts[c]), .position = cuts[c]
        };
        float *key = part(k, WIDTH, cuts[c], span.n_rows), *value = part(v, 24, cuts[c], span.n_rows);
        const tern_tensor tk = tensor(key, TERN_FP32, span.n_rows, WIDTH);
        const tern_tensor tv = tensor(value, TERN_FP32, span.n_rows, 24);
        if (c == 0)
            assert_fails(ctx, tern_kv_write(ctx, cache, 1, &span, &tk, &tv), TERN_ERR_STATE, "it has room for 0");
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_kv_write(ctx, cache, 1, &span, &tk, &tv));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
        free(key);
        free(value);
    }
    tern_tensor tk = tensor(k2, TERN_FP32, N, WIDTH), tv = tensor(v2, TERN_FP32, N, 24);
    assert_ok(ctx, tern_kv_read(ctx, cache, 1, sequence, 0, &tk, &tv));
    assert_memory_equal(k, k2, sizeof k);
    assert_memory_equal(v, v2, sizeof v);
    /* Narrower than they were written, from the middle, of the other layer: zeros. */
    tk = tensor(k2, TERN_FP32, 3, 5), tv = tensor(v2, TERN_FP32, 3, WIDTH - 1);
    assert_ok(ctx, tern_kv_read(ctx, cache, 1, sequence, 63, &tk, &tv));
    for (int64_t g = 0; g < HEADS; g++)
        for (int64_t i = 0; i < 3; i++) {
            assert_memory_equal(k2 + (g * 3 + i) * 5, k + (g * N + 63 + i) * WIDTH, 5 * sizeof(float));
            assert_memory_equal(v2 + (g * 3 + i) * (WIDTH - 1), v + (g * N + 63 + i) * 24, 24 * sizeof(float));
            for (int64_t c = 24; c < WIDTH - 1; c++)
                assert_true(v2[(g * 3 + i) * (WIDTH - 1) + c] == 0);
        }
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_halves_keep_their_bits(void **state)
{
    (void)state;
    static const tern_dtype dtypes[] = { TERN_FP16, TERN_BF16 };
    tern_ctx *ctx = test_ctx(1);
    uint16_t k[HEADS * 2 * 3], v[HEADS * 2 * 3], k2[HEADS * 2 * 3], v2[HEADS * 2 * 3];

    for (int d = 0; d < 2; d++) {
        int32_t sequence;
        tern_kv_cache *cache = cache_of(ctx, &sequence);
        const tern_kv_span span = { .sequence = sequence, .n_rows = 2 };
        tern_tensor tk = tensor(k, dtypes[d], 2, 3), tv = tensor(v, dtypes[d], 2, 3);
        for (size_t i = 0; i < sizeof k / sizeof *k; i++)
            k[i] = (uint16_t)(0x3c00 + i * 7), v[i] = (uint16_t)(0xbc01 + i * 5);
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_kv_write(ctx, cache, 0, &span, &tk, &tv));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
        tern_tensor rk = tensor(k2, dtypes[d], 2, 3), rv = tensor(v2, dtypes[d], 2, 3);
        assert_ok(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &rk, &rv));
        assert_memory_equal(k, k2, sizeof k);
        assert_memory_equal(v, v2, sizeof v);
        tern_kv_cache_destroy(&cache);
    }
    tern_ctx_destroy(&ctx);
}

static void test_what_cannot_be_is_told_and_nothing_is_written(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    float k[HEADS * 4 * WIDTH] = { 0 }, v[HEADS * 4 * WIDTH] = { 0 };
    int32_t sequence;
    tern_kv_cache *cache = cache_of(ctx, &sequence);
    const tern_kv_span span = { .sequence = sequence, .n_rows = 4 };
    tern_tensor tk = tensor(k, TERN_FP32, 4, WIDTH), tv = tensor(v, TERN_FP32, 4, WIDTH);
    tern_tensor none = tern_tensor_none(), short_v = tensor(v, TERN_FP32, 3, WIDTH);
    tern_tensor half = tensor(v, TERN_FP16, 4, WIDTH), ids = tensor(k, TERN_INT32, 4, WIDTH);

    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_ok(ctx, tern_kv_write(ctx, cache, 0, &span, &tk, &tv));
    k[0] = v[0] = 5;
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &tk, &tv), TERN_ERR_STATE, "holds 0 positions, 4");
    assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    assert_fails(ctx, tern_kv_read(ctx, cache, 2, sequence, 0, &tk, &tv), TERN_ERR_ARG, "layer is 2, expected 0..1");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, 9, 0, &tk, &tv), TERN_ERR_ARG, "sequence 9");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, -1, &tk, &tv), TERN_ERR_STATE, "4 positions from -1");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, INT64_MAX, &tk, &tv), TERN_ERR_STATE, "room for 64");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 1, &tk, &tv), TERN_ERR_STATE, "holds 4 positions, 5");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &tk, &tk), TERN_ERR_ARG, "overlap");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &tk, &none), TERN_ERR_ARG, "value is missing");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &tk, NULL), TERN_ERR_ARG, "value is missing");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &tk, &short_v), TERN_ERR_SHAPE, "value is [3, 3, 40]");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &tk, &half), TERN_ERR_DTYPE, "value is fp16");
    assert_fails(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &ids, &tv), TERN_ERR_DTYPE, "key is int32");
    assert_fails(ctx, tern_kv_read(ctx, NULL, 0, sequence, 0, &tk, &tv), TERN_ERR_ARG, "cache is NULL");
    assert_true(k[0] == 5 && v[0] == 5);
    const tern_kv_span less = { .sequence = sequence, .n_rows = 3 };
    assert_fails(ctx, tern_kv_write(ctx, cache, 0, &less, &tk, &tv), TERN_ERR_SHAPE,
                 "key has 4 positions, the span has 3");
    assert_fails(ctx, tern_kv_write(ctx, cache, 0, NULL, &tk, &tv), TERN_ERR_ARG, "span is NULL");
    assert_ok(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &tk, &tv));
    assert_true(k[0] == 0 && v[0] == 0);
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read_again),
        cmocka_unit_test(test_halves_keep_their_bits),
        cmocka_unit_test(test_what_cannot_be_is_told_and_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
