/* test_masks.c: masks of few axes: [B, n] is [B, 1, 1, n], and a single number holds everywhere, in all that takes a mask. */
#include "ops/fn_testing.h"

#include <tern/op.h>

#define B 3
#define S 5
#define T 7 /* columns of softmax and unpacked attention */
#define H 2
#define E 4

/* What each function makes of a mask, [B, n] of `columns(which)`, in an output of its own. */
enum { SOFTMAX, CONTEXT, PACKED, UNPACKED, FUNCTIONS };
static const char *const function_names[] = { "softmax", "softmax_context", "packed_attention", "unpacked_attention" };

static int64_t columns(int which)
{
    return which == SOFTMAX || which == UNPACKED ? T : S;
}

static tern_tensor answer(tern_ctx *ctx, int which, tern_dtype d, const tern_tensor *mask)
{
    tern_config config = test_config();
    test_seed = 99;
    tern_tensor scores = FN_IN(d, 1, B, H, S, T), y4 = FN_OUT(d, B, H, S, T), qkv = FN_IN(d, 1, B, S, 3 * H * E),
                y = FN_OUT(d, B, S, H * E), q = FN_IN(d, 1, B, H, S, E), k = FN_IN(d, 1, B, H, T, E),
                v = FN_IN(d, 1, B, H, T, E), context = FN_OUT(d, B, H, S, E);

    config.dtype = d;
    config.hidden_size = H * E;
    config.heads = H;
    if (which == SOFTMAX) {
        assert_ok(ctx, tern_softmax(ctx, &config, NULL, &scores, mask, NULL, &y4));
        return y4;
    }
    if (which == PACKED) {
        assert_ok(ctx, tern_packed_attention(ctx, &qkv, H, NAN, true, mask, &y));
        return y;
    }
    if (which == UNPACKED) {
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, NAN, true, mask, &context));
        return context;
    }
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = H, .head_dim = E, .n_positions = 64 * B, .n_sequences = B, .n_context = 64
    };
    tern_kv_span spans[B];
    tern_kv_cache *cache;
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (int32_t b = 0; b < B; b++) {
        spans[b] = (tern_kv_span){ .row = b * S, .n_rows = S };
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &spans[b].sequence));
    }
    assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, B));
    assert_ok(ctx, tern_softmax_context(ctx, &config, NULL, &qkv, mask, NULL, cache, 0, spans, B, &y));
    tern_kv_cache_destroy(&cache);
    return y;
}

static void test_a_row_for_each_sequence(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (int which = 0; which < FUNCTIONS; which++)
        FN_EACH_DTYPE(d)
    for (int kind = 0; kind < 3; kind++) {
        const int64_t n = columns(which), dim[] = { B, 1, 1, n };
        const tern_dtype dtype = kind == 0 ? (tern_dtype)d : kind == 1 ? TERN_FP32 : TERN_INT32;
        tern_tensor rows = FN_OUT(dtype, B, n);
        for (size_t i = 0; i < fn_elements(&rows); i++)
            if (kind == 2)
                ((int32_t *)rows.data)[i] = i * 7 % 5 < 3;
            else
                fn_put(rows.data, dtype, i, i * 7 % 5 < 3 ? -INFINITY : (double)(i % 4) - 1);
        const tern_tensor whole = tern_tensor_view(rows.data, dtype, 4, dim);
        const tern_tensor want = answer(ctx, which, (tern_dtype)d, &whole);
        const tern_tensor got = answer(ctx, which, (tern_dtype)d, &rows);
        fn_same(&got, want.data, function_names[which]);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

static void test_a_single_number(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (int which = 0; which < FUNCTIONS; which++)
        FN_EACH_DTYPE(d)
        {
            const tern_tensor none = answer(ctx, which, (tern_dtype)d, NULL);
            bool shown = true, hidden = false;
            const tern_tensor all = tern_tensor_view(&shown, TERN_BOOL, 0, NULL),
                              nothing = tern_tensor_view(&hidden, TERN_BOOL, 0, NULL);
            tern_tensor got = answer(ctx, which, (tern_dtype)d, &all);
            fn_same(&got, none.data, function_names[which]);
            got = answer(ctx, which, (tern_dtype)d, &nothing);
            for (size_t i = 0; i < fn_elements(&got); i++)
                assert_true(fn_at(&got, i) == 0);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* Where B is S, two axes are [S, n]. */
static void test_as_many_sequences_as_rows(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const tern_tensor scores = FN_IN(TERN_FP32, 1, 2, 3, 2, 5);
    tern_tensor mask = FN_IN(TERN_FP32, 1, 2, 5), want = FN_OUT(TERN_FP32, 2, 3, 2, 5),
                got = FN_OUT(TERN_FP32, 2, 3, 2, 5);
    const tern_tensor whole = tern_tensor_view(mask.data, TERN_FP32, 4, (int64_t[]){ 1, 1, 2, 5 });
    const tern_config config = test_config();

    assert_ok(ctx, tern_softmax(ctx, &config, NULL, &scores, &whole, NULL, &want));
    assert_ok(ctx, tern_softmax(ctx, &config, NULL, &scores, &mask, NULL, &got));
    fn_same(&got, want.data, "softmax");
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_a_row_for_each_sequence),
        OP_TEST(test_a_single_number),
        OP_TEST(test_as_many_sequences_as_rows),
    };
    return cmocka_run_group_tests_name("ops/masks", tests, NULL, NULL);
}
