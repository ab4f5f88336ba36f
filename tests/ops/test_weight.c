/* test_weight.c: packed weights. */
#include "faults.h"
#include "ops/op_testing.h"

#include "ops/kernel_calls.h"

static uint16_t bf16_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* Small integers are the same in every dtype, so one set of numbers checks them all. */
static void fill(float *x, uint16_t *half, uint16_t *brain, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int v = (int)(i % 2);
        x[i] = v ? 1.0f : -0.5f;
        half[i] = v ? 0x3c00 : 0xb800;
        brain[i] = bf16_bits(x[i]);
    }
}

static void test_panels(void **state)
{
    (void)state;
    static const size_t sizes[][2] = { { 1, 1 },   { 3, 31 },   { 5, 32 }, { 7, 33 },
                                       { 64, 64 }, { 65, 100 }, { 0, 5 },  { 5, 0 } };

    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            const size_t k = sizes[s][0], n = sizes[s][1];
            float *x = test_bytes(k * n * 4);
            uint16_t *half = test_bytes(k * n * 2), *brain = test_bytes(k * n * 2);
            fill(x, half, brain, k * n);
            for (int transposed = 0; transposed <= 1; transposed++)
                for (int dtype = TERN_FP32; dtype <= TERN_BF16; dtype++) {
                    void *data = dtype == TERN_FP32 ? (void *)x : dtype == TERN_FP16 ? (void *)half : (void *)brain;
                    const int64_t dim[2] = { (int64_t)(transposed ? n : k), (int64_t)(transposed ? k : n) };
                    const tern_tensor w = tern_tensor_view(data, (tern_dtype)dtype, 2, dim);
                    tern_weight *packed;
                    assert_ok(ctx, tern_weight_pack(ctx, &w, transposed, &packed));
                    const tern_tensor view = tern_weight_view(packed);
                    assert_int_equal(view.rank, 2);
                    assert_int_equal(view.dim[0], k);
                    assert_int_equal(view.dim[1], n);
                    assert_ptr_equal(view.packed, packed);
                    assert_true(tern_weight_bytes(packed) >= (n + 31) / 32 * 32 * k * 4);
                    for (size_t p = 0; p < (n + 31) / 32; p++)
                        for (size_t i = 0; i < k; i++)
                            for (size_t j = 0; j < 32; j++) {
                                const size_t col = p * 32 + j;
                                const float want = col >= n ? 0 : transposed ? x[col * k + i] : x[i * n + col];
                                assert_true(packed->panels[(p * k + i) * 32 + j] == want);
                            }
                    tern_weight_destroy(&packed);
                    assert_null(packed);
                }
        }
        tern_ctx_destroy(&ctx);
    }
}

static void test_bad_weights(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    float x[6] = { 0 };
    tern_weight *packed = (tern_weight *)ctx;
    tern_tensor w = t2(x, 2, 3);

    assert_fails(ctx, tern_weight_pack(ctx, NULL, false, &packed), TERN_ERR_ARG, "w is NULL");
    assert_null(packed);
    assert_fails(ctx, tern_weight_pack(ctx, &w, false, NULL), TERN_ERR_ARG, "out is NULL");
    w.data = NULL;
    assert_fails(ctx, tern_weight_pack(ctx, &w, false, &packed), TERN_ERR_ARG, "NULL data, expected 6");
    w = t1(x, 6);
    assert_fails(ctx, tern_weight_pack(ctx, &w, false, &packed), TERN_ERR_SHAPE, "[6], expected a matrix");
    w = t2(x, 2, 3);
    w.dtype = TERN_INT8;
    assert_fails(ctx, tern_weight_pack(ctx, &w, false, &packed), TERN_ERR_DTYPE, "int8, expected fp32, fp16 or bf16");
    w = t2(x, 2, 3);
    w.stride[0] = 4;
    assert_fails(ctx, tern_weight_pack(ctx, &w, false, &packed), TERN_ERR_SHAPE, "stride 4 along axis 0, expected 3");
    w = t2(x, 2, 3);
    w.stride[0] = 1, w.stride[1] = 2;
    assert_fails(ctx, tern_weight_pack(ctx, &w, true, &packed), TERN_ERR_SHAPE, "stride 2 along axis 1, expected 1");
    w = t2(x, 2, 3);
    w.dim[0] = -2;
    assert_fails(ctx, tern_weight_pack(ctx, &w, false, &packed), TERN_ERR_SHAPE, "-2 elements");
    assert_null(packed);

    /* A view of what is packed is no source, and nothing is a view of nothing. */
    w = t2(x, 2, 3);
    assert_ok(ctx, tern_weight_pack(ctx, &w, false, &packed));
    w = tern_weight_view(packed);
    tern_weight *again;
    assert_fails(ctx, tern_weight_pack(ctx, &w, false, &again), TERN_ERR_ARG, "packed already");
    tern_weight_destroy(&packed);
    tern_weight_destroy(&packed);
    tern_weight_destroy(NULL);
    assert_int_equal(tern_weight_view(NULL).rank, -1);
    assert_int_equal(tern_weight_bytes(NULL), 0);
    assert_int_equal(tern_weight_dtype(NULL), TERN_DTYPE_COUNT);
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(2);
    float *x = test_floats(40 * 40, 1);
    const tern_tensor w = t2(x, 40, 40);
    tern_weight *packed = NULL;

    assert_ok(ctx, tern_weight_pack(ctx, &w, false, &packed));
    tern_weight_destroy(&packed);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_weight_pack(ctx, &w, false, &packed);
        FAULT_DONE(n, ctx, status, packed);
        tern_weight_destroy(&packed);
    }
    tern_weight_destroy(&packed);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_panels),
        OP_TEST(test_bad_weights),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("ops/weight", tests, NULL, NULL);
}
