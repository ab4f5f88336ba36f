/* test_quantize.c: codes and scales against torch's, to the bit. */
/* labels: quick threads */
#include "faults.h"
#include "ops/op_testing.h"

#include "base/json.h"
#include "ops/quantize_spans.h"

#include <tern/quantize.h>

#include <float.h>

/* ---- goldens ---- */

static struct tern_json *goldens(tern_ctx *ctx)
{
    struct tern_json *json = NULL;

    assert_ok(ctx, tern_json_read(ctx, test_golden("quantize.json"), 1 << 24, &json));
    return json;
}

static const char *text(const tern_json_value *object, const char *key)
{
    const tern_json_value *value = tern_json_get(object, key);

    assert_int_equal(tern_json_type(value), TERN_JSON_STRING);
    return tern_json_string(value, NULL);
}

static int64_t number(const tern_json_value *object, const char *key, int64_t standard)
{
    const tern_json_value *value = tern_json_get(object, key);

    return value ? tern_json_int(value) : standard;
}

/* Values of `size` bytes each from hexadecimal digits, high digit first. */
static void *from_hex(const char *hex, size_t size, size_t *n)
{
    const size_t digits = strlen(hex);

    assert_int_equal(digits % (2 * size), 0);
    *n = digits / 2 / size;
    uint8_t *bytes = test_bytes(*n * size);
    for (size_t i = 0; i < *n; i++) {
        char one[9] = { 0 };
        memcpy(one, hex + i * 2 * size, 2 * size);
        const uint32_t value = (uint32_t)strtoul(one, NULL, 16);
        for (size_t b = 0; b < size; b++)
            bytes[i * size + b] = (uint8_t)(value >> 8 * b);
    }
    return bytes;
}

struct golden {
    const char *name;
    tern_quant_options options;
    tern_tensor shards[8];
    int64_t n_shards;
    size_t n; /* elements of all */
    const tern_json_value *value;
};

static tern_dtype dtype_of(const char *name)
{
    for (int d = TERN_FP32; d <= TERN_BF16; d++)
        if (strcmp(name, tern_dtype_name((tern_dtype)d)) == 0)
            return (tern_dtype)d;
    fail();
    return TERN_FP32;
}

static struct golden golden_at(tern_ctx *ctx, const struct tern_json *json, size_t i)
{
    const tern_json_value *v = tern_json_at(tern_json_get(tern_json_root(json), "cases"), i);
    const tern_json_value *o = tern_json_get(v, "options"), *shape = tern_json_get(v, "shape");
    struct golden g = { .name = text(v, "name"), .n_shards = number(v, "shards", 1), .value = v };
    tern_quant_scheme scheme = (tern_quant_scheme)0;
    int64_t dim[TERN_MAX_RANK];

    assert_ok(ctx, tern_quant_scheme_find(ctx, text(v, "scheme"), &scheme));
    g.options = tern_quant_options_default(scheme);
    g.options.bits = (int)number(v, "bits", 8);
    g.options.groups = number(o, "groups", g.options.groups);
    g.options.group_size = number(o, "group_size", g.options.group_size);
    g.options.group_dim = (int)number(o, "group_dim", g.options.group_dim);
    g.options.mp_size = (int)number(o, "mp_size", g.options.mp_size);
    g.options.merge_axis = (int)number(o, "merge_axis", g.options.merge_axis);
    if (tern_json_get(o, "mlp_extra_grouping"))
        g.options.mlp_extra_grouping = tern_json_bool(tern_json_get(o, "mlp_extra_grouping"));

    const tern_dtype dtype = dtype_of(text(v, "dtype"));
    const size_t size = tern_dtype_size(dtype);
    uint8_t *w = from_hex(text(v, "w"), size, &g.n);
    assert_true(g.n_shards >= 1 && g.n_shards <= 8);
    for (size_t d = 0; d < tern_json_size(shape); d++)
        dim[d] = tern_json_int(tern_json_at(shape, d));
    for (int64_t s = 0; s < g.n_shards; s++)
        g.shards[s] =
            tern_tensor_view(w + (size_t)s * (g.n / (size_t)g.n_shards) * size, dtype, (int)tern_json_size(shape), dim);
    return g;
}

static tern_qtensor *quantize(tern_ctx *ctx, const struct golden *g)
{
    tern_qtensor *q = NULL;

    if (g->n_shards == 1)
        assert_ok(ctx, tern_weight_quantize(ctx, g->shards, &g->options, &q));
    else
        assert_ok(ctx, tern_weight_quantize_shards(ctx, g->shards, g->n_shards, &g->options, &q));
    return q;
}

static void same(const struct golden *g, const char *what, const void *got, const void *want, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp((const char *)got + i * size, (const char *)want + i * size, size) != 0) {
            uint32_t a = 0, b = 0;
            memcpy(&a, (const char *)got + i * size, size);
            memcpy(&b, (const char *)want + i * size, size);
            fail_msg("%s: %s[%zu] is %x, expected %x", g->name, what, i, a, b);
        }
}

/* A tensor to dequantise to, of the layout's shape. */
static tern_tensor room(const tern_qtensor *q, tern_dtype dtype)
{
    const tern_quant_layout l = tern_qtensor_layout(q);
    size_t n = 1;

    for (int i = 0; i < l.rank; i++)
        n *= (size_t)l.dim[i];
    return tern_tensor_view(test_poison(n), dtype, l.rank, l.dim);
}

static void check_back(tern_ctx *ctx, const struct golden *g, const tern_qtensor *q)
{
    for (int d = TERN_FP32; d <= TERN_BF16; d++) {
        const char *dtype = tern_dtype_name((tern_dtype)d);
        const size_t size = tern_dtype_size((tern_dtype)d);
        size_t n;
        const void *want = from_hex(text(tern_json_get(g->value, "back"), dtype), size, &n);
        tern_tensor out = room(q, (tern_dtype)d);
        assert_int_equal(n, g->n);
        assert_ok(ctx, tern_weight_dequantize(ctx, q, &out));
        same(g, dtype, out.data, want, n, size);
    }
}

static void test_goldens(void **state)
{
    (void)state;
    static const char *const levels[] = { "portable", "avx2", "avx512" };

    for (size_t l = 0; l < 3; l++)
        for (int threads = 1; threads <= 3; threads++) {
            tern_ctx *ctx = test_ctx_at(threads, levels[l]);
            if (!ctx)
                continue;
            struct tern_json *json = goldens(ctx);
            const size_t n = tern_json_size(tern_json_get(tern_json_root(json), "cases"));
            assert_true(n > 70);
            for (size_t i = 0; i < n; i++) {
                const struct golden g = golden_at(ctx, json, i);
                tern_qtensor *q = quantize(ctx, &g);
                size_t n_codes, n_scales, n_minima;
                const void *codes = from_hex(text(g.value, "codes"), 1, &n_codes);
                const void *scales = from_hex(text(g.value, "scales"), 4, &n_scales);
                const void *minima = from_hex(text(g.value, "minima"), 4, &n_minima);
                const tern_quant_layout layout = tern_qtensor_layout(q);
                assert_int_equal(tern_qtensor_code_bytes(q), n_codes);
                assert_int_equal(layout.n_groups, n_scales);
                assert_int_equal(n_minima, layout.symmetric ? 0 : n_scales);
                assert_true((tern_qtensor_minima(q) == NULL) == layout.symmetric);
                assert_true(tern_qtensor_bytes(q) >= n_codes + 4 * (n_scales + n_minima));
                same(&g, "scales", tern_qtensor_scales(q), scales, n_scales, 4);
                same(&g, "codes", tern_qtensor_codes(q), codes, n_codes, 1);
                if (n_minima)
                    same(&g, "minima", tern_qtensor_minima(q), minima, n_minima, 4);
                check_back(ctx, &g, q);
                tern_qtensor_destroy(&q);
                assert_null(q);
                test_teardown(NULL);
            }
            tern_json_destroy(json);
            tern_ctx_destroy(&ctx);
        }
}

/* ---- the container ---- */

/* A tensor made of another's layout, codes and scales is the same tensor. */
static void test_create(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct tern_json *json = goldens(ctx);

    for (size_t i = 0; i < tern_json_size(tern_json_get(tern_json_root(json), "cases")); i++) {
        const struct golden g = golden_at(ctx, json, i);
        tern_qtensor *q = quantize(ctx, &g), *again = NULL;
        const tern_quant_layout l = tern_qtensor_layout(q);
        int64_t dim[TERN_MAX_RANK];
        memcpy(dim, l.dim, sizeof dim);
        dim[l.rank - 1] /= l.bits == 4 ? 2 : 1;
        const tern_tensor codes = tern_tensor_view((void *)(uintptr_t)tern_qtensor_codes(q),
                                                   l.symmetric && l.bits == 8 ? TERN_INT8 : TERN_UINT8, l.rank, dim);
        const tern_tensor scales = t1((float *)(uintptr_t)tern_qtensor_scales(q), (size_t)l.n_groups);
        const tern_tensor minima =
            l.symmetric ? tern_tensor_none() : t1((float *)(uintptr_t)tern_qtensor_minima(q), (size_t)l.n_groups);
        assert_ok(ctx, tern_qtensor_create(ctx, &l, &codes, &scales, &minima, &again));
        tern_qtensor_destroy(&q);
        check_back(ctx, &g, again);
        tern_qtensor_destroy(&again);
        test_teardown(NULL);
    }
    tern_json_destroy(json);
    tern_ctx_destroy(&ctx);
}

/* Merged shards stored as [in, out]: axis 0 of the layout, the same numbers transposed. */
static void test_input_major(void **state)
{
    (void)state;
    static const struct {
        int64_t out, in, shards, groups;
    } sizes[] = { { 6, 5, 4, 2 }, { 4, 6, 2, 3 }, { 3, 7, 1, 7 }, { 8, 8, 2, 8 }, { 2, 9, 3, 18 }, { 5, 4, 1, 1 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const int64_t out = sizes[s].out, in = sizes[s].in, n = sizes[s].shards, all = in * n;
        tern_quant_options o = tern_quant_options_default(TERN_QUANT_CHECKPOINT);
        tern_tensor shards[4];
        tern_qtensor *q, *turned;
        o.groups = sizes[s].groups;
        o.merge_axis = 1;
        o.mlp_extra_grouping = false;
        for (int64_t i = 0; i < n; i++)
            shards[i] = t2(test_floats((size_t)(out * in), 1), (size_t)out, (size_t)in);
        assert_ok(ctx, tern_weight_quantize_shards(ctx, shards, n, &o, &q));

        tern_quant_layout l = tern_qtensor_layout(q);
        assert_int_equal(l.dim[0], out);
        assert_int_equal(l.dim[1], all);
        assert_int_equal(l.n_shards, n);
        l.axis = 0;
        l.dim[0] = all;
        l.dim[1] = out;
        int8_t *codes = test_bytes((size_t)(out * all));
        for (int64_t i = 0; i < all; i++)
            for (int64_t j = 0; j < out; j++)
                codes[i * out + j] = (int8_t)tern_qtensor_codes(q)[j * all + i];
        const tern_tensor c = tern_tensor_view(codes, TERN_INT8, 2, l.dim);
        const tern_tensor scales = t1((float *)(uintptr_t)tern_qtensor_scales(q), (size_t)l.n_groups);
        assert_ok(ctx, tern_qtensor_create(ctx, &l, &c, &scales, NULL, &turned));

        tern_tensor a = room(q, TERN_FP32), b = room(turned, TERN_FP32);
        assert_ok(ctx, tern_weight_dequantize(ctx, q, &a));
        assert_ok(ctx, tern_weight_dequantize(ctx, turned, &b));
        const int64_t stride = in * out / o.groups;
        for (int64_t i = 0; i < all; i++)
            for (int64_t j = 0; j < out; j++) {
                /* the formula as it is written */
                const int64_t scale = (i % in + j * in) / stride * n + i / in;
                const float want = tern_qtensor_scales(q)[scale] * (float)codes[i * out + j];
                assert_true(((float *)b.data)[i * out + j] == want);
                assert_true(((float *)a.data)[j * all + i] == want);
            }
        tern_qtensor_destroy(&q);
        tern_qtensor_destroy(&turned);
    }
    tern_ctx_destroy(&ctx);
}

/* Any piece of a tensor is what the whole has there. */
static void test_spans(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct tern_json *json = goldens(ctx);

    for (size_t i = 0; i < tern_json_size(tern_json_get(tern_json_root(json), "cases")); i++) {
        const struct golden g = golden_at(ctx, json, i);
        tern_qtensor *q = quantize(ctx, &g);
        tern_tensor whole = room(q, TERN_FP32);
        assert_ok(ctx, tern_weight_dequantize(ctx, q, &whole));
        const size_t n = g.n < 60 ? g.n : 60;
        for (size_t first = 0; first < n; first++)
            for (size_t count = 1; first + count <= n; count += 3) {
                float part[60];
                tern_dequant_span(q, part, first, count);
                same(&g, "span", part, (const float *)whole.data + first, count, sizeof *part);
            }
        tern_qtensor_destroy(&q);
        test_teardown(NULL);
    }
    tern_json_destroy(json);
    tern_ctx_destroy(&ctx);
}

static void test_expand_scales(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    float scales[6] = { 1, 2, 3, 4, 5, 6 }, out[12];
    tern_tensor g = t2(scales, 1, 3), o = t1(out, 12);

    assert_ok(ctx, tern_quant_expand_scales(ctx, &g, &o));
    for (int i = 0; i < 12; i++)
        assert_true(out[i] == scales[i / 4]);
    g = t1(scales, 6);
    o = t1(scales, 6);
    assert_ok(ctx, tern_quant_expand_scales(ctx, &g, &o));
    assert_true(scales[5] == 6);

    o = t1(out, 10);
    out[0] = 77;
    assert_fails(ctx, tern_quant_expand_scales(ctx, &g, &o), TERN_ERR_SHAPE, "6 scales for 10 output channels");
    g = t1(scales, 0);
    assert_fails(ctx, tern_quant_expand_scales(ctx, &g, &o), TERN_ERR_SHAPE, "0 scales for 10");
    g = t1(scales, 2);
    o = t1(scales + 1, 4);
    assert_fails(ctx, tern_quant_expand_scales(ctx, &g, &o), TERN_ERR_ARG, "out overlaps scales");
    o = t2(out, 2, 2);
    assert_fails(ctx, tern_quant_expand_scales(ctx, &g, &o), TERN_ERR_SHAPE, "expected a vector");
    assert_fails(ctx, tern_quant_expand_scales(ctx, &g, NULL), TERN_ERR_ARG, "out is NULL");
    assert_true(out[0] == 77);
    tern_ctx_destroy(&ctx);
}

/* ---- errors ---- */

static void test_bad_weights(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    float x[24];
    tern_tensor w = t2(x, 3, 8), two[2] = { w, w };
    tern_qtensor *q = (tern_qtensor *)ctx;
    tern_quant_options c = tern_quant_options_default(TERN_QUANT_CHECKPOINT);
    tern_quant_options g = tern_quant_options_default(TERN_QUANT_GROUPWISE);

    for (int i = 0; i < 24; i++)
        x[i] = (float)i;
    assert_fails(ctx, tern_weight_quantize(ctx, NULL, &c, &q), TERN_ERR_ARG, "w is NULL");
    assert_null(q);
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, NULL), TERN_ERR_ARG, "out is NULL");
    c.groups = 5;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_SHAPE,
                 "24 elements, expected a multiple of 5 groups");
    c.groups = 25;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_SHAPE,
                 "24 elements, expected a multiple of 25 groups");
    c.groups = INT64_MAX;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_SHAPE,
                 "a multiple of 9223372036854775807 groups");
    g.group_size = 3;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &g, &q), TERN_ERR_SHAPE,
                 "8 elements along axis 1, expected a multiple of group_size 3");
    g.group_size = 4;
    g.group_dim = 2;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &g, &q), TERN_ERR_SHAPE, "group_dim is 2, expected 0..1");
    c.groups = 1;
    c.bits = 4;
    w = t2(x, 8, 3);
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_SHAPE,
                 "3 elements along the last axis, expected an even");
    c.bits = 8;
    w = t2(x, 0, 3);
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_SHAPE,
                 "w is [0, 3], expected at least one element");
    w = tern_tensor_view(x, TERN_FP32, 0, NULL);
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_SHAPE, "w has rank 0");
    w = tern_tensor_view(x, TERN_INT8, 1, (int64_t[]){ 4 });
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_DTYPE, "w is int8, expected fp32, fp16 or bf16");
    w = t2(x, 3, 4);
    w.stride[0] = 8;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_SHAPE, "stride 8 along axis 0, expected 4");

    assert_fails(ctx, tern_weight_quantize_shards(ctx, NULL, 2, &c, &q), TERN_ERR_ARG, "shards is NULL");
    assert_fails(ctx, tern_weight_quantize_shards(ctx, two, 0, &c, &q), TERN_ERR_ARG, "n is 0");
    two[1] = t2(x, 8, 3);
    assert_fails(ctx, tern_weight_quantize_shards(ctx, two, 2, &c, &q), TERN_ERR_SHAPE,
                 "shards[1] is [8, 3], expected [3, 8]");
    two[1] = tern_tensor_view(x, TERN_FP16, 2, two[0].dim);
    assert_fails(ctx, tern_weight_quantize_shards(ctx, two, 2, &c, &q), TERN_ERR_DTYPE,
                 "shards[1] is fp16, expected fp32");
    two[0] = two[1] = t1(x, 4);
    assert_fails(ctx, tern_weight_quantize_shards(ctx, two, 2, &c, &q), TERN_ERR_SHAPE, "expected a matrix");
    two[0] = two[1] = t2(x, 2, 4);
    g.group_dim = 1;
    assert_fails(ctx, tern_weight_quantize_shards(ctx, two, 2, &g, &q), TERN_ERR_CONFIG,
                 "2 shards with the scheme groupwise");
    assert_null(q);
    tern_ctx_destroy(&ctx);
}

static void test_bad_options(void **state)
{
    (void)state;
    static const struct {
        tern_quant_scheme scheme;
        size_t offset, size;
        int value;
        const char *text;
    } bad[] = {
#define BAD(scheme, field, value, text) \
    { TERN_QUANT_##scheme, offsetof(tern_quant_options, field), sizeof((tern_quant_options *)0)->field, value, text }
        BAD(CHECKPOINT, bits, 5, "bits is 5, expected 8 or 4"),
        BAD(CHECKPOINT, groups, 0, "groups is 0, expected 1"),
        BAD(CHECKPOINT, mp_size, 0, "mp_size is 0"),
        BAD(CHECKPOINT, merge_axis, 2, "merge_axis is 2"),
        BAD(CHECKPOINT, group_size, 64, "group_size is 64, expected 0: the scheme checkpoint does not read it"),
        BAD(CHECKPOINT, group_dim, 1, "group_dim is 1, expected 0"),
        BAD(INJECTION, mp_size, 1, "mp_size is 1, expected 0"),
        BAD(INJECTION, merge_axis, 1, "merge_axis is 1, expected 0"),
        BAD(INJECTION, mlp_extra_grouping, 1, "mlp_extra_grouping is 1, expected 0"),
        BAD(GROUPWISE, groups, 2, "groups is 2, expected 0"),
        BAD(GROUPWISE, group_size, 0, "group_size is 0, expected 1"),
        BAD(GROUPWISE, bits, 2, "bits is 2"),
        BAD(GROUPWISE, scheme, 4, "scheme is 4, expected checkpoint 1"),
        BAD(GROUPWISE, scheme, 0, "scheme is 0"),
    };
    tern_ctx *ctx = test_ctx(1);
    float x[64] = { 0 };
    const tern_tensor w = t2(x, 1, 64);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tern_quant_options o = tern_quant_options_default(bad[i].scheme);
        tern_qtensor *q = (tern_qtensor *)ctx;
        const int64_t value = bad[i].value; /* low bytes first, on every machine that tern runs on */
        memcpy((char *)&o + bad[i].offset, &value, bad[i].size);
        assert_fails(ctx, tern_weight_quantize(ctx, &w, &o, &q), TERN_ERR_CONFIG, bad[i].text);
        assert_null(q);
    }

    tern_quant_options o = tern_quant_options_default(TERN_QUANT_GROUPWISE);
    tern_qtensor *q = NULL;
    o.reserved[3] = 1;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &o, &q), TERN_ERR_ARG, "reserved[3] is 1, expected 0");

    tern_quant_scheme scheme = TERN_QUANT_INJECTION;
    assert_fails(ctx, tern_quant_scheme_find(ctx, "gptq", &scheme), TERN_ERR_UNSUPPORTED,
                 "gptq, expected checkpoint, injection or groupwise");
    assert_int_equal(scheme, TERN_QUANT_INJECTION);
    assert_fails(ctx, tern_quant_scheme_find(ctx, NULL, &scheme), TERN_ERR_ARG, "name is NULL");
    assert_string_equal(tern_quant_scheme_name(TERN_QUANT_GROUPWISE), "groupwise");
    assert_null(tern_quant_scheme_name((tern_quant_scheme)4));
    assert_int_equal(tern_quant_options_default((tern_quant_scheme)9).scheme, 0);
    tern_ctx_destroy(&ctx);
}

/* The first value that is not finite is named, whoever finds one first. */
static void test_not_finite(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        for (int s = TERN_QUANT_CHECKPOINT; s <= TERN_QUANT_GROUPWISE; s++) {
            tern_quant_options o = tern_quant_options_default((tern_quant_scheme)s);
            tern_qtensor *q = NULL;
            float x[96] = { 0 };
            uint16_t half[96] = { 0 };
            const tern_tensor w = t2(x, 6, 16), h = tern_tensor_view(half, TERN_FP16, 2, w.dim),
                              brain = tern_tensor_view(half, TERN_BF16, 2, w.dim);
            if (s == TERN_QUANT_CHECKPOINT)
                o.groups = 6;
            if (s == TERN_QUANT_GROUPWISE) {
                o.group_dim = 0;
                o.group_size = 3;
            }
            x[5 * 16 + 1] = -INFINITY;
            x[3 * 16 + 7] = NAN;
            x[90] = INFINITY;
            assert_fails(ctx, tern_weight_quantize(ctx, &w, &o, &q), TERN_ERR_ARG, "w[3, 7] is nan, expected a finite");
            x[3 * 16 + 7] = 0;
            assert_fails(ctx, tern_weight_quantize(ctx, &w, &o, &q), TERN_ERR_ARG, "w[5, 1] is -inf");
            half[17] = 0x7c01;
            assert_fails(ctx, tern_weight_quantize(ctx, &h, &o, &q), TERN_ERR_ARG, "w[1, 1] is nan");
            half[17] = 0xff80;
            assert_fails(ctx, tern_weight_quantize(ctx, &brain, &o, &q), TERN_ERR_ARG, "w[1, 1] is -inf");
            assert_null(q);
        }
        float x[8] = { 0 }, y[8] = { 0 };
        const tern_tensor shards[2] = { t2(x, 2, 4), t2(y, 2, 4) };
        tern_qtensor *q = NULL;
        y[6] = NAN;
        assert_fails(ctx, tern_weight_quantize_shards(ctx, shards, 2, NULL, &q), TERN_ERR_ARG,
                     "shards[1][1, 2] is nan");
        tern_ctx_destroy(&ctx);
    }
}

/* Spans that the arithmetic cannot hold are refused, not turned into a scale of 0. */
static void test_too_wide(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_qtensor *q = NULL;
    float x[4] = { 0, 0, 3e38f, -3e38f };
    uint16_t half[4] = { 0, 0, 0x7b00, 0xfb00 };
    const tern_tensor w = t2(x, 2, 2), h = tern_tensor_view(half, TERN_FP16, 2, w.dim);
    tern_quant_options c = tern_quant_options_default(TERN_QUANT_CHECKPOINT);
    tern_quant_options i = tern_quant_options_default(TERN_QUANT_INJECTION);
    tern_quant_options g = tern_quant_options_default(TERN_QUANT_GROUPWISE);

    g.group_size = 2;
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &c, &q), TERN_ERR_ARG,
                 "group 0 of shard 0 reaches from -3e+38 to 3e+38");
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &i, &q), TERN_ERR_ARG,
                 "group 1 of shard 0 reaches from -3e+38 to 3e+38");
    assert_fails(ctx, tern_weight_quantize(ctx, &w, &g, &q), TERN_ERR_ARG,
                 "group 1 of shard 0 reaches from -3e+38 to 3e+38");
    assert_fails(ctx, tern_weight_quantize(ctx, &h, &g, &q), TERN_ERR_ARG,
                 "group 1 of shard 0 reaches from -57344 to 57344, expected a span of at most 65504");
    assert_null(q);
    tern_ctx_destroy(&ctx);
}

static void test_bad_codes(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    tern_quant_layout l = { .bits = 8,
                            .grouping = TERN_QUANT_AXIS,
                            .axis = 1,
                            .group_size = 2,
                            .n_groups = 6,
                            .n_shards = 1,
                            .rank = 2,
                            .dim = { 3, 4 } };
    uint8_t bytes[12] = { 0 };
    float s[6] = { 1, 1, 1, 1, 1, 1 }, m[6] = { 0 };
    tern_tensor codes = tern_tensor_view(bytes, TERN_UINT8, 2, l.dim), scales = t2(s, 3, 2), minima = t2(m, 3, 2);
    tern_qtensor *q = NULL;
    tern_quant_layout bad = l;

#define REFUSED(status, text) \
    assert_fails(ctx, tern_qtensor_create(ctx, &bad, &codes, &scales, &minima, &q), (status), (text)), bad = l
    bad.bits = 3;
    REFUSED(TERN_ERR_ARG, "bits is 3, expected 8 or 4");
    bad.rank = 9;
    REFUSED(TERN_ERR_SHAPE, "rank is 9");
    bad.dim[0] = 0;
    REFUSED(TERN_ERR_SHAPE, "0 elements along axis 0");
    bad.dim[0] = INT64_MAX;
    REFUSED(TERN_ERR_SHAPE, "more elements than there can be");
    bad.axis = 2;
    REFUSED(TERN_ERR_SHAPE, "axis is 2, expected 0..1");
    bad.group_size = 3;
    REFUSED(TERN_ERR_SHAPE, "4 elements along axis 1, expected a multiple of group_size 3");
    bad.group_size = 0;
    REFUSED(TERN_ERR_SHAPE, "group_size is 0");
    bad.n_groups = 5;
    REFUSED(TERN_ERR_SHAPE, "n_groups is 5, expected 6");
    bad.n_shards = 2;
    REFUSED(TERN_ERR_SHAPE, "2 shards of groups along an axis");
    bad.n_shards = 0;
    REFUSED(TERN_ERR_SHAPE, "n_shards is 0");
    bad.grouping = TERN_QUANT_FLAT;
    bad.n_shards = 3;
    REFUSED(TERN_ERR_SHAPE, "4 elements along axis 1, expected a multiple of n_shards 3");
    bad.grouping = (tern_quant_grouping)2;
    REFUSED(TERN_ERR_ARG, "grouping is 2");
    bad.bits = 4;
    REFUSED(TERN_ERR_SHAPE, "codes is [3, 4], expected [3, 4] with half of the last axis");
    bad.symmetric = true;
    REFUSED(TERN_ERR_DTYPE, "codes is uint8, expected int8");
    bad.symmetric = true;
    bad.bits = 4;
    codes = tern_tensor_view(bytes, TERN_UINT8, 2, (int64_t[]){ 3, 2 });
    REFUSED(TERN_ERR_ARG, "minima of symmetric codes are [3, 2], expected none");
    codes = tern_tensor_view(bytes, TERN_UINT8, 2, l.dim);
    s[4] = 0;
    REFUSED(TERN_ERR_ARG, "scales[4] is 0, expected a finite number above 0");
    s[4] = NAN;
    REFUSED(TERN_ERR_ARG, "scales[4] is nan");
    s[4] = 1;
    m[5] = INFINITY;
    REFUSED(TERN_ERR_ARG, "minima[5] is inf");
    m[5] = 0;
    scales = t1(s, 5);
    REFUSED(TERN_ERR_SHAPE, "scales is [5], 5 values, expected 6");
    scales = t2(s, 3, 2);
    minima = tern_tensor_none();
    REFUSED(TERN_ERR_SHAPE, "minima has rank -1");
    assert_null(q);
    assert_fails(ctx, tern_qtensor_create(ctx, NULL, &codes, &scales, &minima, &q), TERN_ERR_ARG, "layout is NULL");

    minima = t1(m, 6);
    assert_ok(ctx, tern_qtensor_create(ctx, &l, &codes, &scales, &minima, &q));
    float out[12] = { 77 };
    tern_tensor o = t2(out, 4, 3);
    assert_fails(ctx, tern_weight_dequantize(ctx, q, &o), TERN_ERR_SHAPE, "out is [4, 3], expected [3, 4]");
    o = tern_tensor_view(out, TERN_FP64, 2, l.dim);
    assert_fails(ctx, tern_weight_dequantize(ctx, q, &o), TERN_ERR_DTYPE, "out is fp64");
    assert_fails(ctx, tern_weight_dequantize(ctx, NULL, &o), TERN_ERR_ARG, "q is NULL");
    assert_true(out[0] == 77);
    tern_qtensor_destroy(&q);
    tern_qtensor_destroy(&q);
    tern_qtensor_destroy(NULL);
    assert_int_equal(tern_qtensor_bytes(NULL), 0);
    assert_int_equal(tern_qtensor_code_bytes(NULL), 0);
    assert_null(tern_qtensor_codes(NULL));
    assert_null(tern_qtensor_scales(NULL));
    assert_null(tern_qtensor_minima(NULL));
    assert_int_equal(tern_qtensor_layout(NULL).rank, 0);
    tern_ctx_destroy(&ctx);
}

/* ---- what upstream's own tests ask ---- */

/* The mean and the largest difference of two rows. */
static void differences(const float *a, const float *b, size_t n, double *mean, double *largest)
{
    *mean = *largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        *mean += d / (double)n;
        *largest = d > *largest ? d : *largest;
    }
}

/* 32768 groups of 64: mean error below 0.15, largest below 0.5. */
static void test_upstream_groups(void **state)
{
    (void)state;
    const size_t rows = 32768, size = 64, n = rows * size;
    tern_ctx *ctx = test_ctx(2);
    float *x = test_floats(n, 1), *back = test_poison(n), *widened = test_poison(n);
    uint16_t *half = test_bytes(n * sizeof *half);

    ctx->kernels->f16_from_f32(half, x, n);
    ctx->kernels->f32_from_f16(widened, half, n);
    for (int bits = 4; bits <= 8; bits += 4)
        for (int dtype = TERN_FP32; dtype <= TERN_FP16; dtype++) {
            tern_quant_options o = tern_quant_options_default(TERN_QUANT_GROUPWISE);
            const tern_tensor w = tern_tensor_view(dtype == TERN_FP32 ? (void *)x : (void *)half, (tern_dtype)dtype, 2,
                                                   (int64_t[]){ (int64_t)rows, (int64_t)size });
            tern_tensor out = t2(back, rows, size);
            tern_qtensor *q;
            double mean, largest;
            o.bits = bits;
            assert_ok(ctx, tern_weight_quantize(ctx, &w, &o, &q));
            assert_ok(ctx, tern_weight_dequantize(ctx, q, &out));
            differences(back, dtype == TERN_FP32 ? x : widened, n, &mean, &largest);
            assert_true(mean < 0.15 && largest < 0.5);
            if (bits == 8)
                assert_true(mean < 0.015 && largest < 0.05); /* 16 times finer */
            tern_qtensor_destroy(&q);
        }
    tern_ctx_destroy(&ctx);
}

/* Five 128 x 128 linears in a row, groups of 64 along either axis: mean error of the output below 0.15. */
static void test_upstream_linears(void **state)
{
    (void)state;
    enum { H = 128, ROWS = 8 };
    tern_ctx *ctx = test_ctx(2);

    for (int bits = 4; bits <= 8; bits += 4)
        for (int axis = 0; axis <= 1; axis++) {
            float *a = test_floats(ROWS * H, 1), *b = test_copy(a, ROWS * H);
            double mean, largest;
            for (int layer = 0; layer < 5; layer++) {
                tern_quant_options o = tern_quant_options_default(TERN_QUANT_GROUPWISE);
                const tern_config config = test_config();
                float *w = test_bytes(H * H * sizeof *w), *y = test_poison(ROWS * H), *z = test_poison(ROWS * H);
                const tern_tensor weight = t2(w, H, H), in_a = t2(a, ROWS, H), in_b = t2(b, ROWS, H);
                tern_tensor back = t2(test_poison(H * H), H, H), out_a = t2(y, ROWS, H), out_b = t2(z, ROWS, H);
                tern_qtensor *q;
                for (size_t i = 0; i < H * H; i++) /* uniform, as Linear starts: +- 1 / sqrt H */
                    w[i] = ((float)(test_random(&test_seed) >> 40) / (float)(1 << 23) - 1) / sqrtf(H);
                o.bits = bits;
                o.group_dim = axis;
                assert_ok(ctx, tern_weight_quantize(ctx, &weight, &o, &q));
                assert_ok(ctx, tern_weight_dequantize(ctx, q, &back));
                tern_qtensor_destroy(&q);
                assert_ok(ctx, tern_linear(ctx, &config, &in_a, &weight, NULL, &out_a));
                assert_ok(ctx, tern_linear(ctx, &config, &in_b, &back, NULL, &out_b));
                a = y;
                b = z;
            }
            differences(a, b, ROWS * H, &mean, &largest);
            assert_true(mean < 0.15);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- threads and failures ---- */

static void test_threads(void **state)
{
    (void)state;
    const size_t rows = 37, cols = 1026, n = rows * cols;
    float *x = test_floats(n, 1), *y = test_floats(n, 1);
    const tern_tensor shards[2] = { t2(x, rows, cols), t2(y, rows, cols) };

    for (int bits = 4; bits <= 8; bits += 4)
        for (int s = TERN_QUANT_CHECKPOINT; s <= TERN_QUANT_GROUPWISE; s++) {
            tern_qtensor *q[3] = { NULL };
            tern_quant_options o = tern_quant_options_default((tern_quant_scheme)s);
            o.bits = bits;
            if (s == TERN_QUANT_CHECKPOINT) {
                o.groups = 19 * 3 * 37; /* 18 elements each */
                o.merge_axis = 1;
            } else if (s == TERN_QUANT_GROUPWISE) {
                o.group_dim = 0;
                o.group_size = 37;
            }
            for (int threads = 1; threads <= 3; threads++) {
                tern_ctx *ctx = test_ctx(threads);
                assert_ok(ctx, tern_weight_quantize_shards(ctx, shards, s == TERN_QUANT_CHECKPOINT ? 2 : 1, &o,
                                                           &q[threads - 1]));
                tern_ctx_destroy(&ctx);
            }
            for (int t = 1; t < 3; t++) {
                const size_t groups = (size_t)tern_qtensor_layout(q[0]).n_groups;
                assert_memory_equal(tern_qtensor_codes(q[0]), tern_qtensor_codes(q[t]), tern_qtensor_code_bytes(q[0]));
                assert_memory_equal(tern_qtensor_scales(q[0]), tern_qtensor_scales(q[t]), groups * sizeof(float));
            }
            for (int t = 0; t < 3; t++)
                tern_qtensor_destroy(&q[t]);
        }
}

static void test_faults(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(2);
    float *x = test_floats(64, 1);
    const tern_tensor w = t2(x, 1, 64);
    tern_quant_options o = tern_quant_options_default(TERN_QUANT_GROUPWISE);
    tern_qtensor *q = NULL;

    o.bits = 4;
    assert_ok(ctx, tern_weight_quantize(ctx, &w, &o, &q));
    tern_qtensor_destroy(&q);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_weight_quantize(ctx, &w, &o, &q);
        FAULT_DONE(n, ctx, status, q);
        tern_qtensor_destroy(&q);
    }

    const tern_quant_layout l = tern_qtensor_layout(q);
    const tern_tensor codes =
        tern_tensor_view((void *)(uintptr_t)tern_qtensor_codes(q), TERN_UINT8, 2, (int64_t[]){ 1, 32 });
    const tern_tensor scales = t1((float *)(uintptr_t)tern_qtensor_scales(q), 1);
    const tern_tensor minima = t1((float *)(uintptr_t)tern_qtensor_minima(q), 1);
    tern_qtensor *again = NULL;
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_qtensor_create(ctx, &l, &codes, &scales, &minima, &again);
        FAULT_DONE(n, ctx, status, again);
        tern_qtensor_destroy(&again);
    }
    tern_qtensor_destroy(&again);
    tern_qtensor_destroy(&q);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_goldens),     OP_TEST(test_create),          OP_TEST(test_input_major),
        OP_TEST(test_spans),       OP_TEST(test_expand_scales),   OP_TEST(test_bad_weights),
        OP_TEST(test_bad_options), OP_TEST(test_not_finite),      OP_TEST(test_too_wide),
        OP_TEST(test_bad_codes),   OP_TEST(test_upstream_groups), OP_TEST(test_upstream_linears),
        OP_TEST(test_threads),     OP_TEST(test_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
