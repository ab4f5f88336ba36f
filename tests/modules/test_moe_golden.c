/* test_moe_golden.c: the mixture of experts against torch in float64 (tests/golden/make_moe.py).
 *
 * The tolerance of an element is the sum of, with u = 2^-24 (16 + 4 sqrt(H + I + k)) and rms that of the whole output:
 *   fp32 arithmetic    u (rms + |want|), as for operators (docs/numerics.md): H + I + k is the longest chain of sums
 *   the store          half a unit of the activations' dtype: 2^-11 |want| + 2^-25 (fp16), 2^-8 |want| (bf16)
 *   bf16 products      2^-7 rms: the I activated values are rounded by up to 2^-8 of each, independently, so that the standard
 *                      deviation of their sum is 0.4 2^-8 of its size; five of those, of the outputs' rms
 *   W8A8               8 / (127 sqrt(I)) rms: the reference rounds rows by the same rule, but where a value stands at the
 *                      middle between two codes the error of its fp32 arithmetic decides; one such value moves an output by
 *                      a step, max / 127, times a weight: at most 5.2 of these units for values of a normal distribution
 * The sum may be off by that of all its elements; the sum of squares by twice that times the largest, in proportion. */
#include "base/json.h"
#include "ops/fn_testing.h"
#include "ops/golden_inputs.h"

#include <tern/moe.h>

#include <stdio.h>

#define SAMPLES 256

static tern_ctx *ctx;
static struct tern_json *json;

static int setup(void **state)
{
    size_t size;
    char *text = test_read(test_golden("moe/moe.json"), &size);

    (void)state;
    ctx = test_ctx(0);
    assert_ok(ctx, tern_json_parse(ctx, text, size, "moe/moe.json", &json));
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

static bool truth_of(const tern_json_value *object, const char *key)
{
    return tern_json_bool(tern_json_get(object, key));
}

static tern_dtype dtype_of(const char *name)
{
    for (int d = 0; d < TERN_DTYPE_COUNT; d++)
        if (strcmp(tern_dtype_name((tern_dtype)d), name) == 0)
            return (tern_dtype)d;
    fail_msg("no dtype %s", name);
    return TERN_FP32;
}

static tern_tensor dense(tern_dtype dtype, const tern_json_value *shape)
{
    int64_t dim[TERN_MAX_RANK] = { 0 };
    const int rank = (int)tern_json_size(shape);

    for (int i = 0; i < rank; i++)
        dim[i] = tern_json_int(tern_json_at(shape, (size_t)i));
    tern_tensor t = tern_tensor_view(NULL, dtype, rank, dim);
    t.data = test_bytes(fn_elements(&t) * tern_dtype_size(dtype));
    return t;
}

/* ---- inputs ---- */

static tern_tensor generate(const char *name, const tern_json_value *spec)
{
    const char *kind = string_of(spec, "kind");
    tern_tensor t = dense(dtype_of(string_of(spec, "dtype")), tern_json_get(spec, "shape"));
    const size_t n = fn_elements(&t);

    if (strcmp(kind, "codes") == 0) {
        struct golden_stream words = golden_stream(name);
        for (size_t i = 0; i < n; i++)
            ((int8_t *)t.data)[i] = (int8_t)((int)(golden_word(&words) >> 24) - 128);
        return t;
    }
    const float scale = (float)number_of(spec, "scale"), offset = (float)number_of(spec, "offset");
    float *wide = test_bytes(n * sizeof *wide);
    if (strcmp(kind, "uniform") == 0)
        golden_uniform(wide, n, name, scale, offset);
    else
        golden_normal(wide, n, name, scale, offset);
    for (size_t i = 0; i < n; i++)
        fn_put(t.data, t.dtype, i, (double)wide[i]);
    return t;
}

/* Expert 2j + 1 gets the gate of expert 2j. */
static void make_twins(tern_tensor *gate, bool transposed)
{
    const size_t rows = (size_t)gate->dim[0], cols = (size_t)gate->dim[1];
    float *w = gate->data;

    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            w[r * cols + c] = transposed ? w[r / 2 * 2 * cols + c] : w[r * cols + c / 2 * 2];
}

struct mixture {
    tern_config config;
    tern_moe_config moe;
    tern_moe_weights weights;
    tern_tensor input;
};

static void build(const tern_json_value *c, struct mixture *x)
{
    const tern_json_value *m = tern_json_get(c, "moe"), *inputs = tern_json_get(c, "inputs");
    const char *config = string_of(c, "config"), *name = string_of(c, "name");
    tern_moe_weights *w = &x->weights;
    const struct {
        const char *name;
        tern_tensor *to;
    } all[] = {
        { "input", &x->input },
        { "gate_w", &w->gate_w },
        { "inter_w", &w->inter_w },
        { "inter_scale", &w->inter_scale },
        { "inter_b", &w->inter_b },
        { "output_w", &w->output_w },
        { "output_scale", &w->output_scale },
        { "output_b", &w->output_b },
        { "res_inter_w", &w->res_inter_w },
        { "res_inter_scale", &w->res_inter_scale },
        { "res_inter_b", &w->res_inter_b },
        { "res_output_w", &w->res_output_w },
        { "res_output_scale", &w->res_output_scale },
        { "res_output_b", &w->res_output_b },
        { "res_coef_w", &w->res_coef_w },
        { "res_coef_b", &w->res_coef_b },
    };
    size_t found = 0;
    char full[96];

    x->config = tern_config_default();
    assert_ok(ctx, tern_config_parse(ctx, config, strlen(config), name, &x->config));
    x->moe = tern_moe_config_default();
    x->moe.global_experts = (int32_t)number_of(m, "global_experts");
    x->moe.k = (int32_t)number_of(m, "k");
    x->moe.eval_capacity_factor = number_of(m, "eval_capacity_factor");
    x->moe.min_capacity = (int32_t)number_of(m, "min_capacity");
    x->moe.drop_tokens = truth_of(m, "drop_tokens");
    x->moe.mlp_type = strcmp(string_of(m, "mlp_type"), "residual") == 0 ? TERN_MOE_RESIDUAL : TERN_MOE_STANDARD;
    x->moe.normalize = (int32_t)number_of(m, "normalize");
    x->moe.drop_policy = strcmp(string_of(m, "drop_policy"), "probs") == 0 ? TERN_MOE_DROP_PROBS : TERN_MOE_DROP_ORDER;
    *w = tern_moe_weights_none();
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const tern_json_value *spec = tern_json_get(inputs, all[i].name);
        if (!spec)
            continue;
        snprintf(full, sizeof full, "%s/%s", name, all[i].name);
        *all[i].to = generate(full, spec);
        if (tern_json_get(spec, "twins"))
            make_twins(all[i].to, x->config.transposed_mode);
        found++;
    }
    assert_int_equal(found, tern_json_size(inputs));
}

/* ---- comparison ---- */

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

static double tolerance_of(const struct mixture *x, tern_dtype stored, double rms, double want)
{
    const tern_config *c = &x->config;
    const double inner = (double)c->intermediate_size,
                 u = 0x1p-24 * (16 + 4 * sqrt((double)c->hidden_size + inner + x->moe.k));
    double tolerance = u * (rms + fabs(want));

    if (stored == TERN_FP16)
        tolerance += 0x1p-11 * fabs(want) + 0x1p-25;
    if (stored == TERN_BF16)
        tolerance += 0x1p-8 * fabs(want);
    if (c->dtype == TERN_BF16)
        tolerance += 0x1p-7 * rms;
    if (c->dtype == TERN_INT8 && c->activation_quant == TERN_QUANT_ROW)
        tolerance += 8 / (127 * sqrt(inner)) * rms;
    return tolerance;
}

/* The largest error in units of the tolerance. */
static double compare(const tern_json_value *c, const struct mixture *x, const tern_tensor *got)
{
    const tern_json_value *want = tern_json_get(c, "output");
    const char *name = string_of(c, "name");
    const size_t n = fn_elements(got), n_samples = n < SAMPLES ? n : SAMPLES;
    const double want_squares = number_of(want, "squares"), rms = n ? sqrt(want_squares / (double)n) : 0;
    double sum = 0, squares = 0, off = 0, off_squares = 0, worst = 0;
    float samples[SAMPLES];
    char full[96];

    decode(string_of(want, "samples"), samples, n_samples * sizeof(float));
    snprintf(full, sizeof full, "%s/output/sample", name);
    struct golden_stream words = golden_stream(full);
    for (size_t i = 0; i < n_samples; i++) {
        const size_t at = n <= SAMPLES ? i : golden_word(&words) % n;
        const double is = fn_at(got, at), tolerance = tolerance_of(x, got->dtype, rms, (double)samples[i]);
        const double error = fabs(is - (double)samples[i]);
        if (!(error <= tolerance))
            fail_msg("%s: output[%zu] is %.9g, expected %.9g within %.3g (%s)", name, at, is, (double)samples[i],
                     tolerance, string_of(c, "config"));
        if (tolerance > 0 && error / tolerance > worst)
            worst = error / tolerance;
    }
    for (size_t i = 0; i < n; i++) {
        const double is = fn_at(got, i), tolerance = tolerance_of(x, got->dtype, rms, is);
        sum += is;
        squares += is * is;
        off += tolerance;
        off_squares += tolerance * (2 * fabs(is) + tolerance);
    }
    if (!(fabs(sum - number_of(want, "sum")) <= off))
        fail_msg("%s: the sum is %.12g, expected %.12g", name, sum, number_of(want, "sum"));
    if (!(fabs(squares - want_squares) <= off_squares))
        fail_msg("%s: the sum of squares is %.12g, expected %.12g", name, squares, want_squares);
    return worst;
}

static double run(const tern_json_value *c)
{
    struct mixture x;
    tern_moe *moe;

    build(c, &x);
    tern_tensor output = dense(x.input.dtype, tern_json_get(tern_json_get(c, "output"), "shape"));
    memset(output.data, 0x7f, fn_elements(&output) * tern_dtype_size(output.dtype));
    assert_ok(ctx, tern_moe_create(ctx, &x.config, &x.moe, NULL, &x.weights, &moe));
    assert_ok(ctx, tern_moe_forward(ctx, moe, &x.input, &output));
    tern_moe_destroy(&moe);
    const double worst = compare(c, &x, &output);
    test_teardown(NULL);
    return worst;
}

static void run_dtype(tern_dtype dtype)
{
    const tern_json_value *cases = tern_json_get(tern_json_root(json), "cases");
    char mark[32];
    double worst = 0;
    size_t n = 0, dropping = 0;

    snprintf(mark, sizeof mark, "\"dtype\": \"%s\"", tern_dtype_name(dtype));
    for (size_t i = 0; i < tern_json_size(cases); i++) {
        const tern_json_value *c = tern_json_at(cases, i);
        if (!strstr(string_of(c, "config"), mark))
            continue;
        worst = fmax(worst, run(c));
        dropping += number_of(c, "dropped") > 0;
        n++;
    }
    assert_true(n > 0 && dropping > 0);
    printf("%s: %zu cases, %zu with dropped tokens, worst error %.2f of its tolerance\n", tern_dtype_name(dtype), n,
           dropping, worst);
}

static void test_fp32(void **state)
{
    (void)state;
    run_dtype(TERN_FP32);
}

static void test_fp16(void **state)
{
    (void)state;
    run_dtype(TERN_FP16);
}

static void test_bf16(void **state)
{
    (void)state;
    run_dtype(TERN_BF16);
}

static void test_int8(void **state)
{
    (void)state;
    run_dtype(TERN_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = { OP_TEST(test_fp32), OP_TEST(test_fp16), OP_TEST(test_bf16),
                                        OP_TEST(test_int8) };

    return cmocka_run_group_tests(tests, setup, teardown);
}
