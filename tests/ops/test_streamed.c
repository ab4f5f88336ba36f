/* test_streamed.c: outputs beyond the second-level cache, which are written past it, are what their rows alone are.
 *
 * Rows of an odd width whose first begins in the middle of a cache line; the rows alone are few enough to be stored as usual. */
#include "base/ctx.h"
#include "kernels/kernels.h"
#include "ops/fn_testing.h"

#define COLS 1009

enum {
    LAYER_NORM,
    LAYER_NORM_RESIDUAL,
    RMS_NORM,
    PRE_RMS_NORM,
    SOFTMAX,
    GELU,
    RESIDUAL_ADD,
    RESIDUAL_ADD_BIAS,
    BIAS_ADD,
    BIAS_GELU,
    BIAS_RESIDUAL,
    VECTOR_ADD,
    N_OPS
};

/* Rows [from, from + n) of a tensor of rows. */
static tern_tensor rows_of(const tern_tensor *t, size_t from, size_t n)
{
    return tern_tensor_view((char *)t->data + from * COLS * tern_dtype_size(t->dtype), t->dtype, 2,
                            (int64_t[]){ (int64_t)n, COLS });
}

static tern_status run(tern_ctx *ctx, int op, const tern_tensor *x, const tern_tensor *z, const tern_tensor *v,
                       tern_tensor *y, tern_tensor *sum)
{
    tern_config config = test_config();
    const int64_t dim4[] = { 1, 1, x->dim[0], COLS };
    const tern_tensor x4 = tern_tensor_view(x->data, x->dtype, 4, dim4);
    tern_tensor y4 = tern_tensor_view(y->data, y->dtype, 4, dim4);

    config.dtype = x->dtype;
    switch (op) {
    case LAYER_NORM:
        return tern_layer_norm(ctx, x, v, v, 1e-5f, y);
    case LAYER_NORM_RESIDUAL:
        return tern_layer_norm_residual(ctx, x, v, z, v, v, 1e-5f, y, NULL);
    case RMS_NORM:
        return tern_rms_norm(ctx, x, v, 1e-5f, y);
    case PRE_RMS_NORM:
        return tern_pre_rms_norm(ctx, x, z, v, 1e-5f, y, sum);
    case SOFTMAX:
        return tern_softmax(ctx, &config, NULL, &x4, NULL, NULL, &y4);
    case GELU:
        return tern_gelu(ctx, x, TERN_GELU_ERF, y);
    case RESIDUAL_ADD:
        return tern_residual_add(ctx, &config, x, z, NULL, NULL, v, v, y);
    case RESIDUAL_ADD_BIAS:
        return tern_residual_add_bias(ctx, x, z, x, v, v, 2, true, true, true, y);
    case BIAS_ADD:
        return tern_bias_add(ctx, x, v, y);
    case BIAS_GELU:
        return tern_bias_gelu(ctx, x, v, TERN_GELU_TANH, y);
    case BIAS_RESIDUAL:
        return tern_bias_residual(ctx, x, z, v, y);
    default:
        return tern_vector_add(ctx, x, z, 0.5f, y);
    }
}

static void test_streamed(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++)
        FN_EACH_DTYPE(dtype)
        {
            tern_ctx *ctx = test_ctx(threads);
            const size_t size = tern_dtype_size((tern_dtype)dtype), row_bytes = COLS * size;
            const size_t rows = (size_t)threads * ctx->kernels->cache_bytes / row_bytes + 5, part = 37;
            const int64_t n = (int64_t)rows;
            /* One number more than there are, so that rows can begin at the second. */
            tern_tensor x = FN_IN(dtype, 1, n * COLS + 1), z = FN_IN(dtype, 1, n * COLS + 1);
            tern_tensor whole = FN_OUT(dtype, n * COLS + 1), parts = FN_OUT(dtype, n * COLS + 1);
            tern_tensor sum = FN_OUT(dtype, n * COLS + 1), sum_parts = FN_OUT(dtype, n * COLS + 1);
            const tern_tensor v = FN_IN(dtype, 1, COLS);
            tern_tensor *const all[] = { &x, &z, &whole, &parts, &sum, &sum_parts };

            for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
                all[i]->data = (char *)all[i]->data + size;
            for (int op = 0; op < N_OPS; op++) {
                tern_tensor xr = rows_of(&x, 0, rows), zr = rows_of(&z, 0, rows), yr = rows_of(&whole, 0, rows);
                tern_tensor sr = rows_of(&sum, 0, rows);

                memset(whole.data, FN_POISON, rows * row_bytes);
                assert_ok(ctx, run(ctx, op, &xr, &zr, &v, &yr, &sr));
                for (size_t from = 0; from < rows; from += part) {
                    const size_t count = rows - from < part ? rows - from : part;
                    xr = rows_of(&x, from, count);
                    zr = rows_of(&z, from, count);
                    yr = rows_of(&parts, from, count);
                    sr = rows_of(&sum_parts, from, count);
                    assert_ok(ctx, run(ctx, op, &xr, &zr, &v, &yr, &sr));
                }
                assert_memory_equal(whole.data, parts.data, rows * row_bytes);
                if (op == PRE_RMS_NORM)
                    assert_memory_equal(sum.data, sum_parts.data, rows * row_bytes);
                for (size_t i = 0; i < size; i++) {
                    assert_int_equal(((const unsigned char *)whole.data - size)[i], FN_POISON);
                    assert_int_equal(((const unsigned char *)whole.data + rows * row_bytes)[i], 0);
                }
                /* in place it is stored, and the same */
                memcpy(whole.data, x.data, rows * row_bytes);
                xr = yr = rows_of(&whole, 0, rows);
                zr = rows_of(&z, 0, rows);
                sr = rows_of(&sum, 0, rows);
                assert_ok(ctx, run(ctx, op, &xr, &zr, &v, &yr, &sr));
                assert_memory_equal(whole.data, parts.data, rows * row_bytes);
            }
            tern_ctx_destroy(&ctx);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { OP_TEST(test_streamed) };
    return cmocka_run_group_tests_name("ops/streamed", tests, NULL, NULL);
}
