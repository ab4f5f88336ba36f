/* test_kv_dtypes.c: caches of two bytes a number: the answers of an fp32 cache, and one answer however rows are cut. */
/* labels: quick threads */
#include "ops/op_testing.h"

#include <stdlib.h>
#include <string.h>

#define HEADS    4
#define KV_HEADS 2
#define E        33 /* odd: the last pair is half empty */
#define N        150
#define WIDTH    ((HEADS + 2 * KV_HEADS) * E)

/* Rows that every case begins with, in A: numbers of either sign between 1/2 and 1. */
static void fill(tern_dtype dtype, uint16_t *qkv)
{
    for (uint32_t i = 0; i < N * WIDTH; i++) {
        const uint32_t word = (i + 1) * 2654435761u, fraction = word >> 20, sign = word >> 8 & 0x8000;
        qkv[i] = (uint16_t)(sign | (dtype == TERN_BF16 ? 0x3f00 | (fraction & 0x7f) : 0x3800 | (fraction & 0x3ff)));
    }
}

/* The contexts of N rows, given `chunk` at a time. */
static void run(tern_ctx *ctx, tern_dtype dtype, tern_dtype kept, int32_t window, int32_t chunk, uint16_t *out)
{
    tern_config config = test_config();
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = KV_HEADS,
                                  .head_dim = E,
                                  .n_positions = 192,
                                  .n_sequences = 1,
                                  .n_context = 192,
                                  .dtype = kept };
    tern_kv_cache *cache;
    int32_t sequence;
    uint16_t *qkv = malloc(N * WIDTH * sizeof *qkv);

    config.dtype = dtype;
    config.heads = HEADS;
    config.num_kv = KV_HEADS;
    config.hidden_size = HEADS * E;
    config.triangular_masking = true;
    config.local_attention = window > 0;
    config.window_size = window;
    config.rotary_dim = 8;
    fill(dtype, qkv);
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &sequence));
    for (int32_t p = 0; p < N; p += chunk) {
        const int32_t n = N - p < chunk ? N - p : chunk;
        const tern_kv_span span = { .sequence = sequence, .n_rows = n, .position = p };
        tern_tensor in = tern_tensor_view(qkv + (size_t)p * WIDTH, dtype, 2, (int64_t[]){ n, WIDTH });
        tern_tensor context = tern_tensor_view(out + (size_t)p * HEADS * E, dtype, 2, (int64_t[]){ n, HEADS * E });
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &in, NULL, NULL, cache, 0, &span, 1, &context));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    }
    tern_kv_cache_destroy(&cache);
    free(qkv);
}

static tern_ctx *ctx_of(int n_threads, const char *cpu)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[256];
    tern_ctx *ctx;

    options.n_threads = n_threads;
    options.cpu = cpu;
    return tern_ctx_create(&ctx, &options, message, sizeof message) == TERN_OK ? ctx : NULL;
}

static void test_the_bits_of_a_cache_in_fp32(void **state)
{
    (void)state;
    static const tern_dtype dtypes[] = { TERN_FP16, TERN_BF16 };
    static const char *const levels[] = { "portable", "avx2", "avx512", "neon" };
    static uint16_t want[N * HEADS * E], got[N * HEADS * E];

    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        tern_ctx *ctx = ctx_of(1, levels[l]);
        for (int i = 0; ctx && i < 2; i++)
            for (int32_t window = 0; window <= 37; window += 37) {
                run(ctx, dtypes[i], TERN_FP32, window, N, want);
                run(ctx, dtypes[i], dtypes[i], window, N, got);
                assert_memory_equal(want, got, sizeof want);
            }
        tern_ctx_destroy(&ctx);
    }
}

static void test_one_answer(void **state)
{
    (void)state;
    static const tern_dtype dtypes[] = { TERN_FP16, TERN_BF16 };
    static const int32_t chunks[] = { 1, 7, 64, 101 };
    static uint16_t want[N * HEADS * E], got[N * HEADS * E];

    for (int i = 0; i < 2; i++)
        for (int32_t window = 0; window <= 37; window += 37)
            for (int n_threads = 1; n_threads <= 3; n_threads++) {
                tern_ctx *ctx = ctx_of(n_threads, NULL); /* the best level: pairs of bf16 where there are some */
                assert_non_null(ctx);
                if (n_threads == 1)
                    run(ctx, dtypes[i], dtypes[i], window, N, want);
                for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
                    run(ctx, dtypes[i], dtypes[i], window, chunks[c], got);
                    assert_memory_equal(want, got, sizeof want);
                }
                tern_ctx_destroy(&ctx);
            }
}

static void test_half_the_bytes(void **state)
{
    (void)state;
    tern_ctx *ctx = ctx_of(1, NULL);
    tern_kv_shape shape = {
        .n_layers = 2, .n_kv_heads = 3, .head_dim = 64, .n_positions = 128, .n_sequences = 1, .n_context = 128
    };
    size_t wide, narrow;

    assert_ok(ctx, tern_kv_cache_measure(ctx, &shape, &wide));
    for (int i = 0; i < 2; i++) {
        shape.dtype = i ? TERN_BF16 : TERN_FP16;
        assert_ok(ctx, tern_kv_cache_measure(ctx, &shape, &narrow));
        assert_int_equal(2 * narrow, wide);
    }
    shape.dtype = TERN_INT8;
    assert_fails(ctx, tern_kv_cache_measure(ctx, &shape, &narrow), TERN_ERR_ARG,
                 "dtype is int8, expected fp32, fp16 or bf16");
    tern_ctx_destroy(&ctx);
}

/* Numbers that both types have come back as they were, at odd and even positions and channels. */
static void test_what_is_written_is_read_again(void **state)
{
    (void)state;
    static float k[70 * E], v[70 * E], k2[70 * E], v2[70 * E];
    tern_ctx *ctx = ctx_of(1, NULL);

    for (size_t i = 0; i < 70 * E; i++) {
        k[i] = (float)(i % 251);
        v[i] = -(float)(i % 241);
    }
    for (int d = 0; d < 2; d++) {
        const tern_kv_shape shape = { .n_layers = 1,
                                      .n_kv_heads = 1,
                                      .head_dim = E,
                                      .n_positions = 128,
                                      .n_sequences = 1,
                                      .n_context = 128,
                                      .dtype = d ? TERN_BF16 : TERN_FP16 };
        const tern_kv_span span = { .n_rows = 70 };
        const int64_t dim[] = { 1, 70, E };
        tern_tensor key = tern_tensor_view(k, TERN_FP32, 3, dim), value = tern_tensor_view(v, TERN_FP32, 3, dim);
        tern_kv_cache *cache;
        int32_t sequence;
        assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &sequence));
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_kv_write(ctx, cache, 0, &span, &key, &value));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
        key.data = k2;
        value.data = v2;
        assert_ok(ctx, tern_kv_read(ctx, cache, 0, sequence, 0, &key, &value));
        assert_memory_equal(k, k2, sizeof k);
        assert_memory_equal(v, v2, sizeof v);
        tern_kv_cache_destroy(&cache);
    }
    tern_ctx_destroy(&ctx);
}

static void test_activations_of_another_dtype_are_told(void **state)
{
    (void)state;
    tern_ctx *ctx = ctx_of(1, NULL);
    tern_config config = test_config();
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = KV_HEADS,
                                  .head_dim = E,
                                  .n_positions = 64,
                                  .n_sequences = 1,
                                  .n_context = 64,
                                  .dtype = TERN_BF16 };
    const tern_kv_span span = { .n_rows = 1 };
    tern_kv_cache *cache;
    int32_t sequence;
    float qkv[WIDTH] = { 0 };
    tern_tensor in = tern_tensor_view(qkv, TERN_FP32, 2, (int64_t[]){ 1, WIDTH });

    config.heads = HEADS;
    config.num_kv = KV_HEADS;
    config.hidden_size = HEADS * E;
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &sequence));
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_fails(ctx, tern_softmax_context(ctx, &config, NULL, &in, NULL, NULL, cache, 0, &span, 1, NULL),
                 TERN_ERR_DTYPE, "the cache keeps bf16, expected fp32, as the activations are fp32");
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_bits_of_a_cache_in_fp32),
        cmocka_unit_test(test_one_answer),
        cmocka_unit_test(test_half_the_bytes),
        cmocka_unit_test(test_what_is_written_is_read_again),
        cmocka_unit_test(test_activations_of_another_dtype_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
