/* test_golden_ops.c: every operator by name against torch in float64 (tests/golden/make_ops.py).
 *
 * The tolerance of an element is 2^-24 (16 + 4 sqrt(depth)) (rms + |want|), where rms is that of the whole output and depth, in
 * the golden, the length of the longest chain of sums behind an element.  2^-24 is one rounding of fp32; the roundings of a
 * chain are independent in sign, so that their sum grows with the root of its length, and 4 standard deviations leave room for
 * thousands of samples; the 16 is for what is no chain: exp, erf and tanh (docs/numerics.md), a square root, a division.
 * Errors that cancellation leaves are relative to the terms, hence to rms, and not to a result that happens to be small.
 * At its widest (16385 summands) this is 3.2e-5, at 1024 8.6e-6: below upstream's 5e-4 |want| + 5e-5 throughout.
 * The sum may be off by that of all its elements; the sum of squares by twice that share. */
#include "base/json.h"
#include "ops/golden_inputs.h"
#include "ops/op_testing.h"

#include <stdio.h>

#define MAX_IO  12
#define SAMPLES 256

static tern_ctx *ctx;
static struct tern_json *json;

static int setup(void **state)
{
    size_t size;
    char *text = test_read(test_golden("ops/fp32.json"), &size);

    (void)state;
    ctx = test_ctx(0);
    assert_ok(ctx, tern_json_parse(ctx, text, size, "ops/fp32.json", &json));
    free(text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_json_destroy(json);
    tern_ctx_destroy(&ctx);
    return 0;
}

static const char *string_of(const tern_json_value *object, const char *key)
{
    size_t length;
    const tern_json_value *value = tern_json_get(object, key);

    assert_int_equal(tern_json_type(value), TERN_JSON_STRING);
    return tern_json_string(value, &length);
}

static double number_of(const tern_json_value *object, const char *key)
{
    return tern_json_number(tern_json_get(object, key));
}

static size_t elements_of(const tern_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

static tern_tensor shape_of(const tern_json_value *shape)
{
    int64_t dim[TERN_MAX_RANK] = { 0 };
    const int rank = (int)tern_json_size(shape);

    for (int i = 0; i < rank; i++)
        dim[i] = tern_json_int(tern_json_at(shape, (size_t)i));
    return tern_tensor_view(NULL, TERN_FP32, rank, dim);
}

/* ---- one case ---- */

struct golden {
    const tern_json_value *json;
    const char *name, *op;
    tern_op_settings settings;
    size_t n_io, n_inputs; /* inputs come first */
    tern_op_io io[MAX_IO];
    tern_tensor tensors[MAX_IO];
    char names[MAX_IO][32];
};

static void add(struct golden *g, const char *name, tern_tensor t)
{
    assert_true(g->n_io < MAX_IO);
    snprintf(g->names[g->n_io], sizeof g->names[0], "%s", name);
    g->tensors[g->n_io] = t;
    g->io[g->n_io] = (tern_op_io){ g->names[g->n_io], &g->tensors[g->n_io] };
    g->n_io++;
}

static void build(struct golden *g, const tern_json_value *json_case)
{
    const tern_json_value *inputs = tern_json_get(json_case, "inputs"), *outputs = tern_json_get(json_case, "outputs");
    const char *settings = string_of(json_case, "settings");
    char full[96];
    int index = 0;
    size_t length;

    *g = (struct golden){ .json = json_case, .name = string_of(json_case, "name"), .op = string_of(json_case, "op") };
    g->settings = tern_op_settings_default();
    while (tern_op_name(index) && strcmp(tern_op_name(index), g->op) != 0)
        index++;
    assert_ok(ctx, tern_op_settings_parse(ctx, index, settings, strlen(settings), g->name, &g->settings));
    for (void *it = tern_json_iter(inputs); it; it = tern_json_next(inputs, it)) {
        const char *name = tern_json_iter_key(it, &length);
        const tern_json_value *spec = tern_json_iter_value(it);
        tern_tensor t = shape_of(tern_json_get(spec, "shape"));
        const size_t n = elements_of(&t);
        const float scale = (float)number_of(spec, "scale"), offset = (float)number_of(spec, "offset");
        t.data = test_bytes(n * sizeof(float));
        snprintf(full, sizeof full, "%s/%s", g->name, name);
        if (strcmp(string_of(spec, "kind"), "uniform") == 0)
            golden_uniform(t.data, n, full, scale, offset);
        else
            golden_normal(t.data, n, full, scale, offset);
        add(g, name, t);
    }
    g->n_inputs = g->n_io;
    for (void *it = tern_json_iter(outputs); it; it = tern_json_next(outputs, it))
        add(g, tern_json_iter_key(it, &length), tern_tensor_none());
}

/* Rows [first, first + n) of a batch of one, as a view. */
static tern_tensor rows_of(const tern_tensor *t, int64_t first, int64_t n)
{
    const int64_t width = t->dim[t->rank - 1];

    return tern_tensor_view((float *)t->data + first * width, TERN_FP32, 2, (int64_t[]){ n, width });
}

/* softmax_context: one sequence of each batch, in as many calls as the golden has chunks. */
static void run_attention(struct golden *g, const tern_op *op)
{
    const tern_config *c = &g->settings.config;
    const tern_json_value *chunks = tern_json_get(g->json, "chunks");
    tern_tensor *qkv = &g->tensors[0], *output = &g->tensors[g->n_inputs];
    const int64_t batch = qkv->dim[0], rows = qkv->dim[1];
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = c->num_kv,
                                  .head_dim = (int32_t)(c->hidden_size / c->heads),
                                  .n_positions = batch * ((rows + 63) / 64 * 64),
                                  .n_sequences = (int32_t)batch,
                                  .n_context = rows };
    tern_kv_span spans[8];
    tern_kv_cache *cache;
    int64_t done = 0;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (int64_t b = 0; b < batch; b++) {
        spans[b] = (tern_kv_span){ .row = (int32_t)(b * rows), .n_rows = (int32_t)rows };
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &spans[b].sequence));
    }
    for (size_t i = 0; i < (chunks ? tern_json_size(chunks) : 1); i++) {
        tern_tensor part[2] = { *qkv, *output };
        tern_op_io io[MAX_IO];
        if (chunks) {
            spans[0].n_rows = (int32_t)tern_json_int(tern_json_at(chunks, i));
            spans[0].position = done;
            part[0] = rows_of(qkv, done, spans[0].n_rows);
            part[1] = rows_of(output, done, spans[0].n_rows);
            done += spans[0].n_rows;
        }
        for (size_t t = 0; t < g->n_io; t++) {
            io[t] = g->io[t];
            if (io[t].tensor == qkv || io[t].tensor == output)
                io[t].tensor = &part[io[t].tensor == output];
        }
        const tern_op_call call = { .cache = cache, .spans = spans, .n_spans = (size_t)batch };
        assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, (size_t)batch));
        assert_ok(ctx, tern_op_run(ctx, op, io, g->n_io, &call));
        assert_ok(ctx, tern_kv_commit(ctx, cache, spans, (size_t)batch));
    }
    tern_kv_cache_destroy(&cache);
}

static void decode(const char *text, void *to, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *bytes = to;
    uint32_t bits = 0;
    int n_bits = 0;
    size_t n = 0;

    for (; *text && *text != '='; text++) {
        const char *digit = strchr(digits, *text);
        assert_non_null(digit);
        bits = bits << 6 | (uint32_t)(digit - digits);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            assert_true(n < size);
            bytes[n++] = (uint8_t)(bits >> n_bits);
        }
    }
    assert_int_equal(n, size);
}

/* The largest error in units of the tolerance. */
static double compare(const struct golden *g, size_t index)
{
    const char *name = g->names[index];
    const tern_tensor *t = &g->tensors[index];
    const tern_json_value *want = tern_json_get(tern_json_get(g->json, "outputs"), name);
    const tern_tensor shape = shape_of(tern_json_get(want, "shape"));
    const size_t n = elements_of(t), n_samples = n < SAMPLES ? n : SAMPLES;
    const float *got = t->data;
    float samples[SAMPLES];
    double sum = 0, squares = 0, magnitude = 0, worst = 0;
    char full[96];

    assert_int_equal(t->rank, shape.rank);
    for (int i = 0; i < t->rank; i++)
        assert_int_equal(t->dim[i], shape.dim[i]);
    decode(string_of(want, "samples"), samples, n_samples * sizeof(float));
    const double want_squares = number_of(want, "squares"),
                 unit = 0x1p-24 * (16 + 4 * sqrt(number_of(g->json, "depth")));
    const double rms = n ? sqrt(want_squares / (double)n) : 0;

    snprintf(full, sizeof full, "%s/%s/sample", g->name, name);
    for (size_t i = 0; i < n_samples; i++) {
        uint32_t word[4];
        golden_philox(golden_key(full), i / 4, word);
        const size_t at = n <= SAMPLES ? i : word[i % 4] % n;
        const double tolerance = unit * (rms + fabs((double)samples[i])), error = fabs((double)got[at] - samples[i]);
        if (!(error <= tolerance))
            fail_msg("%s: %s[%zu] is %.9g, expected %.9g within %.3g (%s)", g->name, name, at, (double)got[at],
                     (double)samples[i], tolerance, string_of(g->json, "settings"));
        if (tolerance > 0 && error / tolerance > worst)
            worst = error / tolerance;
    }
    for (size_t i = 0; i < n; i++) {
        sum += got[i];
        squares += (double)got[i] * got[i];
        magnitude += rms + fabs((double)got[i]);
    }
    if (!(fabs(sum - number_of(want, "sum")) <= unit * magnitude))
        fail_msg("%s: the sum of %s is %.12g, expected %.12g", g->name, name, sum, number_of(want, "sum"));
    if (!(fabs(squares - want_squares) <= 4 * unit * want_squares))
        fail_msg("%s: the sum of squares of %s is %.12g, expected %.12g", g->name, name, squares, want_squares);
    return worst;
}

static double run(const tern_json_value *json_case)
{
    struct golden g;
    tern_op *op;
    double worst = 0;

    build(&g, json_case);
    assert_ok(ctx, tern_op_create(ctx, g.op, &g.settings.config, &op));
    assert_ok(ctx, tern_op_infer(ctx, op, &g.settings.params, g.io, g.n_io));
    for (size_t i = g.n_inputs; i < g.n_io; i++)
        g.tensors[i].data = test_poison(elements_of(&g.tensors[i]));
    if (strcmp(g.op, "softmax_context") == 0) {
        run_attention(&g, op);
    } else {
        const tern_op_call call = { .params = &g.settings.params };
        assert_ok(ctx, tern_op_run(ctx, op, g.io, g.n_io, &call));
    }
    tern_op_destroy(&op);
    for (size_t i = g.n_inputs; i < g.n_io; i++)
        worst = fmax(worst, compare(&g, i));
    test_teardown(NULL);
    return worst;
}

static void run_all(const char *op)
{
    const tern_json_value *cases = tern_json_get(tern_json_root(json), "cases");
    double worst = 0;
    size_t n = 0;

    for (size_t i = 0; i < tern_json_size(cases); i++) {
        const tern_json_value *c = tern_json_at(cases, i);
        if (strcmp(string_of(c, "op"), op) != 0)
            continue;
        worst = fmax(worst, run(c));
        n++;
    }
    assert_true(n > 0);
    printf("%s: %zu cases, worst error %.2f of its tolerance\n", op, n, worst);
}

/* ---- the tests ---- */

/* The generator here is the script's. */
static void test_generator(void **state)
{
    const tern_json_value *list = tern_json_get(tern_json_root(json), "philox");
    uint32_t word[4];

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        golden_philox(golden_key("philox"), i / 4, word);
        assert_int_equal(word[i % 4], tern_json_int(tern_json_at(list, i)));
    }
}

/* No operator is without goldens. */
static void test_complete(void **state)
{
    static const char *const there[] = { "qkv_gemm",  "softmax_context", "vector_matmul", "mlp_gemm",
                                         "gelu_gemm", "residual_add",    "linear",        "softmax" };
    const tern_json_value *cases = tern_json_get(tern_json_root(json), "cases");

    (void)state;
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++) {
        bool found = false;
        for (size_t c = 0; c < tern_json_size(cases) && !found; c++)
            found = strcmp(string_of(tern_json_at(cases, c), "op"), there[i]) == 0;
        assert_true(found);
    }
}

#define GOLDEN_TEST(op)                 \
    static void test_##op(void **state) \
    {                                   \
        (void)state;                    \
        run_all(#op);                   \
    }
GOLDEN_TEST(linear)
GOLDEN_TEST(vector_matmul)
GOLDEN_TEST(qkv_gemm)
GOLDEN_TEST(mlp_gemm)
GOLDEN_TEST(gelu_gemm)
GOLDEN_TEST(residual_add)
GOLDEN_TEST(softmax)
GOLDEN_TEST(softmax_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_generator), OP_TEST(test_complete),        OP_TEST(test_linear),    OP_TEST(test_vector_matmul),
        OP_TEST(test_qkv_gemm),  OP_TEST(test_mlp_gemm),        OP_TEST(test_gelu_gemm), OP_TEST(test_residual_add),
        OP_TEST(test_softmax),   OP_TEST(test_softmax_context),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
