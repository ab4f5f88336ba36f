/* test_attention_hidden.c: attention without a cache leaves out what a mask hides, whatever stands there; and its scale. */
#include "ops/fn_testing.h"

static tern_ctx *ctx;

enum { B = 2, HEADS = 4, GROUPS = 2, S = 17, T = 45, E = 6, E2 = 35 };

/* Which keys of a sequence a mask hides from every row: some at both ends, some in a row, some alone. */
static bool hidden(size_t b, size_t j, size_t n)
{
    return j < b || j + 2 > n || (j > 4 && j < 8) || j % 7 == 3;
}

/* Visible as a mask of a type: [B, 1, 1, n]. */
static tern_tensor keys_mask(tern_dtype dtype, size_t n)
{
    tern_tensor m = FN_OUT(dtype, B, 1, 1, (int64_t)n);

    for (size_t i = 0; i < B * n; i++) {
        const bool see = !hidden(i / n, i % n, n);
        if (dtype == TERN_BOOL)
            ((bool *)m.data)[i] = see;
        else if (dtype == TERN_INT32)
            ((int32_t *)m.data)[i] = see ? -3 : 0;
        else
            fn_put(m.data, dtype, i, see ? 0 : -INFINITY);
    }
    return m;
}

static const double filling[] = { NAN, INFINITY, -INFINITY, 1000 };
#define FILLINGS (sizeof filling / sizeof filling[0])

/* Head rows of hidden keys [.., n, width], `heads` of them in a sequence. */
static void fill(tern_tensor *t, size_t heads, size_t n, size_t width, double x)
{
    for (size_t i = 0; i < B * heads * n * width; i++)
        if (hidden(i / (heads * n * width), i / width % n, n))
            fn_put(t->data, t->dtype, i, x);
}

static bool all_finite(const tern_tensor *t)
{
    for (size_t i = 0; i < fn_elements(t); i++)
        if (!isfinite(fn_at(t, i)))
            return false;
    return true;
}

/* The keys that are not hidden, of one sequence, as if there were no others. */
static tern_tensor without_hidden(const tern_tensor *t, size_t b, size_t n, size_t width)
{
    size_t left = 0, to = 0;

    for (size_t j = 0; j < n; j++)
        left += !hidden(b, j, n);
    tern_tensor some = FN_OUT(t->dtype, 1, GROUPS, (int64_t)left, (int64_t)width);
    for (size_t g = 0; g < GROUPS; g++)
        for (size_t j = 0; j < n; j++)
            for (size_t c = 0; c < width && !hidden(b, j, n); c++)
                fn_put(some.data, t->dtype, to++, fn_at(t, ((b * GROUPS + g) * n + j) * width + c));
    return some;
}

static tern_dtype types(size_t i, tern_dtype d)
{
    return i == 0 ? TERN_BOOL : i == 1 ? TERN_INT32 : d;
}

static void test_hidden_keys_may_hold_anything(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    for (size_t type = 0; type < 3; type++)
        for (int causal = 0; causal < 2; causal++) {
            const tern_tensor q = FN_IN(d, 1, B, HEADS, S, E), mask = keys_mask(types(type, d), T);
            tern_tensor k = FN_IN(d, 1, B, GROUPS, T, E), v = FN_IN(d, 1, B, GROUPS, T, E2);
            tern_tensor want = FN_OUT(d, B, HEADS, S, E2), got = FN_OUT(d, B, HEADS, S, E2);

            assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 0.4f, causal, &mask, &want));
            assert_true(all_finite(&want));
            for (size_t f = 0; f < FILLINGS; f++) {
                fill(&k, GROUPS, T, E, filling[f]);
                fill(&v, GROUPS, T, E2, filling[FILLINGS - 1 - f]);
                assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 0.4f, causal, &mask, &got));
                fn_same(&got, want.data, "unpacked_attention, hidden keys and values");
            }
            /* And is attention over the others alone: sums of the same terms, in fp32, in another order. */
            for (size_t b = 0; b < B && !causal; b++) {
                const size_t part = (size_t)HEADS * S, size = tern_dtype_size((tern_dtype)d);
                const tern_tensor some_k = without_hidden(&k, b, T, E), some_v = without_hidden(&v, b, T, E2);
                const tern_tensor one = tern_tensor_view((char *)q.data + b * part * E * size, (tern_dtype)d, 4,
                                                         (int64_t[]){ 1, HEADS, S, E });
                tern_tensor alone = FN_OUT(d, 1, HEADS, S, E2);
                assert_ok(ctx, tern_unpacked_attention(ctx, &one, &some_k, &some_v, 0.4f, false, NULL, &alone));
                const tern_tensor mine = tern_tensor_view((char *)got.data + b * part * E2 * size, (tern_dtype)d, 4,
                                                          (int64_t[]){ 1, HEADS, S, E2 });
                /* Both are rounded at the store; with bf16 so are the probabilities, by 2^-9, of either side. */
                fn_near(&mine, fn_doubles(&alone),
                        5e-6 + (d == TERN_BF16   ? 0x1p-8
                                : d == TERN_FP16 ? 0x1p-11
                                                 : 0),
                        "attention over the visible keys alone");
            }
            test_teardown(NULL);
        }
}

static void test_hidden_tokens_of_packed_rows_may_hold_anything(void **state)
{
    (void)state;
    const size_t width = 3 * HEADS * E, h = HEADS * E;

    FN_EACH_DTYPE(d)
    for (size_t type = 0; type < 3; type++)
        for (int causal = 0; causal < 2; causal++) {
            tern_tensor qkv = FN_IN(d, 1, B, T, (int64_t)width), mask = keys_mask(types(type, d), T);
            tern_tensor want = FN_OUT(d, B, T, (int64_t)h), got = FN_OUT(d, B, T, (int64_t)h);

            assert_ok(ctx, tern_packed_attention(ctx, &qkv, HEADS, 0.4f, causal, &mask, &want));
            assert_true(all_finite(&want));
            for (size_t f = 0; f < FILLINGS; f++) {
                for (size_t i = 0; i < B * T * width; i++) /* keys and values, not what asks for them */
                    if (i % width >= h && hidden(i / width / T, i / width % T, T))
                        fn_put(qkv.data, (tern_dtype)d, i, filling[f]);
                assert_ok(ctx, tern_packed_attention(ctx, &qkv, HEADS, 0.4f, causal, &mask, &got));
                fn_same(&got, want.data, "packed_attention, hidden keys and values");
            }
            /* The whole token, as padding is: its own row is lost, no other. */
            for (size_t i = 0; i < B * T * width; i++)
                if (hidden(i / width / T, i / width % T, T))
                    fn_put(qkv.data, (tern_dtype)d, i, NAN);
            assert_ok(ctx, tern_packed_attention(ctx, &qkv, HEADS, 0.4f, causal, &mask, &got));
            for (size_t r = 0; r < (size_t)B * T; r++)
                if (!hidden(r / T, r % T, T))
                    for (size_t c = 0; c < h; c++)
                        assert_true(fn_at(&got, r * h + c) == fn_at(&want, r * h + c));
            test_teardown(NULL);
        }
}

/* A key that some rows of a tile see and others do not: a NaN comes to those that see it, and to no other. */
static void test_a_nan_reaches_the_rows_that_see_it_alone(void **state)
{
    (void)state;
    FN_EACH_DTYPE(d)
    for (int in_values = 0; in_values < 2; in_values++) {
        tern_tensor q = FN_IN(d, 1, B, HEADS, S, E), k = FN_IN(d, 1, B, GROUPS, T, E),
                    v = FN_IN(d, 1, B, GROUPS, T, E2);
        tern_tensor mask = FN_OUT(TERN_BOOL, B, HEADS, S, T), y = FN_OUT(d, B, HEADS, S, E2);
        bool *see = mask.data;

        for (size_t i = 0; i < fn_elements(&mask); i++)
            see[i] = (i * 2654435761u >> 7) % 3 != 0;
        for (size_t i = 0; i < T; i++)
            see[i] = false; /* the first row of all sees nothing */
        tern_tensor *const t = in_values ? &v : &k;
        const size_t key = 20, width = in_values ? E2 : E;
        for (size_t b = 0; b < (size_t)B * GROUPS; b++) /* one number of key 20 of each head */
            fn_put(t->data, (tern_dtype)d, (b * T + key) * width + 3, NAN);
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &v, 0.4f, false, &mask, &y));
        for (size_t r = 0; r < (size_t)B * HEADS * S; r++)
            for (size_t c = 0; c < E2; c++) {
                const bool lost = see[r * T + key] && (!in_values || c == 3);
                if (isnan(fn_at(&y, r * E2 + c)) != lost || (r == 0 && fn_at(&y, c) != 0))
                    fail_msg("%s: NaN in %s: row %zu, column %zu is %g", tern_dtype_name((tern_dtype)d),
                             in_values ? "values" : "keys", r, c, fn_at(&y, r * E2 + c));
            }
        test_teardown(NULL);
    }
}

/* A NaN stands for 1 / sqrt(E); no other number that is not finite is a scale. */
static void test_scale(void **state)
{
    (void)state;
    static const float wrong[] = { INFINITY, -INFINITY };

    FN_EACH_DTYPE(d)
    for (int64_t e = 1; e < 70; e += 11) {
        const tern_tensor qkv = FN_IN(d, 1, B, S, 3 * 2 * e), q = FN_IN(d, 1, B, 2, S, e), k = FN_IN(d, 1, B, 1, T, e);
        const float scale = (float)(1 / sqrt((double)e));
        tern_tensor want = FN_OUT(d, B, S, 2 * e), got = FN_OUT(d, B, S, 2 * e);
        tern_tensor want4 = FN_OUT(d, B, 2, S, e), got4 = FN_OUT(d, B, 2, S, e);

        assert_ok(ctx, tern_packed_attention(ctx, &qkv, 2, scale, true, NULL, &want));
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &k, scale, true, NULL, &want4));
        for (size_t i = 0; i < 2; i++) {
            assert_fails(ctx, tern_packed_attention(ctx, &qkv, 2, wrong[i], true, NULL, &got), TERN_ERR_ARG,
                         "packed_attention: scale is ");
            assert_fails(ctx, tern_unpacked_attention(ctx, &q, &k, &k, wrong[i], true, NULL, &got4), TERN_ERR_ARG,
                         "unpacked_attention: scale is ");
        }
        assert_true(fn_untouched(&got) && fn_untouched(&got4));
        assert_ok(ctx, tern_packed_attention(ctx, &qkv, 2, NAN, true, NULL, &got));
        assert_ok(ctx, tern_unpacked_attention(ctx, &q, &k, &k, NAN, true, NULL, &got4));
        fn_same(&got, want.data, "a NaN for the scale, packed");
        fn_same(&got4, want4.data, "a NaN for the scale, unpacked");
        test_teardown(NULL);
    }
}

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_hidden_keys_may_hold_anything),
        OP_TEST(test_hidden_tokens_of_packed_rows_may_hold_anything),
        OP_TEST(test_a_nan_reaches_the_rows_that_see_it_alone),
        OP_TEST(test_scale),
    };
    return cmocka_run_group_tests_name("ops/attention_hidden", tests, setup, end);
}
