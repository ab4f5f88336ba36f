/* test_onnx.c: operators on the test vectors of the ONNX standard (numpy's numbers), where they lie beside the tree. */
#include "ops/op_testing.h"

#include <stdio.h>

/* ---- a TensorProto: dims (field 1), data_type (2), raw_data (9) ---- */

struct vector {
    size_t rank, dim[8], n;
    float *data;
};

static uint64_t varint(const unsigned char **p, const unsigned char *end)
{
    uint64_t value = 0;

    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        const unsigned char byte = *(*p)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    fail_msg("a varint does not end");
    return 0;
}

static struct vector load(const char *path)
{
    struct vector v = { .n = 1 };
    size_t size;
    char *file = test_read(path, &size);
    const unsigned char *p = (const unsigned char *)file, *end = p + size;

    while (p < end) {
        const uint64_t key = varint(&p, end), field = key >> 3, wire = key & 7;
        assert_true(wire == 0 || wire == 2);
        const uint64_t value = varint(&p, end);
        if (wire == 0) {
            if (field == 1)
                v.dim[v.rank++] = (size_t)value;
            if (field == 2)
                assert_int_equal(value, 1); /* f32 */
            continue;
        }
        assert_true(value <= (uint64_t)(end - p));
        if (field == 1)
            for (const unsigned char *q = p; q < p + value;)
                v.dim[v.rank++] = (size_t)varint(&q, p + value);
        if (field == 9) {
            v.data = test_bytes(value);
            memcpy(v.data, p, value);
            assert_int_equal(value % 4, 0);
        }
        p += value;
    }
    for (size_t i = 0; i < v.rank; i++)
        v.n *= v.dim[i];
    assert_non_null(v.data);
    free(file);
    return v;
}

static struct vector part(const char *folder, const char *name, const char *what)
{
    char path[1024];

    snprintf(path, sizeof path, "%s/%s/test_data_set_0/%s.pb", folder, name, what);
    return load(path);
}

static size_t product(const struct vector *v, size_t from, size_t to)
{
    size_t n = 1;

    for (size_t i = from; i < to; i++)
        n *= v->dim[i];
    return n;
}

static void check(const float *got, const struct vector *want, double bound, const char *name)
{
    test_near(got, test_widen(want->data, want->n), want->n, bound, name);
}

static float *identity(size_t n)
{
    float *w = test_bytes(n * n * sizeof *w);

    memset(w, 0, n * n * sizeof *w);
    for (size_t i = 0; i < n; i++)
        w[i * n + i] = 1;
    return w;
}

/* The expected values are f32 themselves, written by another program in f32 arithmetic: both sides carry a few roundings of
 * 6e-8 each. */
#define VECTOR_BOUND 1e-6

/* Norm over the axes from `axis` on: the norm that qkv_gemm gives out. */
static void check_norm(tern_ctx *ctx, const char *folder, const char *name, size_t axis, float eps, bool rms)
{
    struct vector x = part(folder, name, "input_0"), w = part(folder, name, "input_1"),
                  y = part(folder, name, "output_0");
    struct vector b = { .n = 0 };
    const size_t rows = product(&x, 0, axis), n = product(&x, axis, x.rank);
    tern_config config = test_config();
    float *out = test_poison(y.n), *product_out = test_poison(rows * n);

    if (!rms)
        b = part(folder, name, "input_2");
    assert_int_equal(w.n, n);
    config.layer_norm_eps = eps;
    config.norm_type = rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
    const tern_tensor input = t2(x.data, rows, n), weight = t2(identity(n), n, n), gamma = t1(w.data, n),
                      beta = t1(b.data, b.n);
    tern_tensor output = t2(product_out, rows, n), norm = t2(out, rows, n);
    assert_ok(ctx, tern_qkv_gemm(ctx, &config, &input, &weight, NULL, &gamma, rms ? NULL : &beta, &output, &norm));
    check(out, &y, VECTOR_BOUND, name);
    test_equal(product_out, out, rows * n, name); /* times one */
}

static void test_norms(void **state)
{
    (void)state;
    TEST_NEED_DATA(folder, "op-vectors");
    tern_ctx *ctx = test_ctx(1);
    char name[128];

    for (int rms = 0; rms < 2; rms++) {
        const char *kind = rms ? "rms_normalization" : "layer_normalization";
        for (int rank = 2; rank <= 4; rank++)
            for (int axis = 0; axis < rank; axis++)
                for (int negative = 0; negative < 2; negative++) {
                    snprintf(name, sizeof name, "%s_%dd_axis%s%d%s", kind, rank, negative ? "_negative_" : "",
                             negative ? rank - axis : axis, rank == 3 ? "_epsilon" : "");
                    check_norm(ctx, folder, name, (size_t)axis, rank == 3 ? 0.1f : 1e-5f, rms);
                }
        snprintf(name, sizeof name, "%s_default_axis", kind);
        check_norm(ctx, folder, name, 3, 1e-5f, rms);
    }
    tern_ctx_destroy(&ctx);
}

static void test_softmax(void **state)
{
    (void)state;
    TEST_NEED_DATA(folder, "op-vectors");
    static const char *const names[] = { "softmax_axis_2", "softmax_default_axis", "softmax_example",
                                         "softmax_large_number", "softmax_negative_axis" };
    const tern_config config = test_config();
    tern_ctx *ctx = test_ctx(1);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct vector x = part(folder, names[i], "input_0"), y = part(folder, names[i], "output_0");
        float *out = test_poison(y.n);
        const size_t t = x.dim[x.rank - 1];
        const tern_tensor scores = t4(x.data, 1, 1, x.n / t, t);
        tern_tensor output = t4(out, 1, 1, x.n / t, t);
        assert_ok(ctx, tern_softmax(ctx, &config, NULL, &scores, NULL, NULL, &output));
        check(out, &y, 3e-7, names[i]);
    }
    tern_ctx_destroy(&ctx);
}

static void test_gelu(void **state)
{
    (void)state;
    TEST_NEED_DATA(folder, "op-vectors");
    static const char *const names[] = { "gelu_default_1", "gelu_default_2", "gelu_tanh_1", "gelu_tanh_2" };
    tern_ctx *ctx = test_ctx(1);

    for (size_t i = 0; i < 4; i++) {
        struct vector x = part(folder, names[i], "input_0"), y = part(folder, names[i], "output_0");
        tern_config config = test_config();
        const size_t n = x.dim[x.rank - 1];
        float *out = test_poison(y.n);
        config.gelu = i < 2 ? TERN_GELU_ERF : TERN_GELU_TANH;
        const tern_tensor input = t2(x.data, x.n / n, n), unit = t2(identity(n), n, n);
        tern_tensor output = t2(out, x.n / n, n);
        assert_ok(ctx, tern_gelu_gemm(ctx, &config, &input, &unit, NULL, &unit, &output));
        check(out, &y, 3e-7, names[i]);
    }
    tern_ctx_destroy(&ctx);
}

static void test_products(void **state)
{
    (void)state;
    TEST_NEED_DATA(folder, "op-vectors");
    static const char *const names[] = {
        "gemm_default_no_bias", "gemm_default_vector_bias", "gemm_transposeB", "matmul_2d", "matmul_3d", "matmul_4d"
    };
    tern_ctx *ctx = test_ctx(1);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct vector a = part(folder, names[i], "input_0"), w = part(folder, names[i], "input_1"),
                      y = part(folder, names[i], "output_0");
        struct vector b = { .n = 0 };
        tern_config config = test_config();
        const size_t m = a.dim[a.rank - 2], k = a.dim[a.rank - 1], n = y.dim[y.rank - 1], batch = a.n / m / k;
        float *out = test_poison(y.n);
        config.transposed_mode = i == 2;
        if (i == 1 || i == 2)
            b = part(folder, names[i], "input_2");
        if (b.n != n)
            b.data = NULL;
        assert_true(i != 1 || b.data);
        for (size_t j = 0; j < batch; j++) {
            const tern_tensor input = t2(a.data + j * m * k, m, k), bias = t1(b.data, n);
            const tern_tensor weight = i == 2 ? t2(w.data, n, k) : t2(w.data + j * k * n, k, n);
            tern_tensor output = t2(out + j * m * n, m, n);
            assert_ok(ctx, tern_linear(ctx, &config, &input, &weight, b.data ? &bias : NULL, &output));
        }
        check(out, &y, VECTOR_BOUND, names[i]);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_norms),
        OP_TEST(test_softmax),
        OP_TEST(test_gelu),
        OP_TEST(test_products),
    };
    return cmocka_run_group_tests_name("ops/onnx", tests, NULL, NULL);
}
