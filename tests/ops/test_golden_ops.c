/* test_golden_ops.c: every operator by name, in every dtype, against torch in float64 (tests/golden/make_ops.py).
 *
 * Without an argument the cases of up to 2 GFLOP; with --full the others, which `make check-full` runs.
 *
 * The tolerance of an element is the smaller of upstream's and
 *
 *   2^-24 (16 + 4 sqrt(depth)) (size + |want|)     what fp32 arithmetic may be off by
 *   + u |want|                                     the rounding at the store: u = 2^-11 for fp16, 2^-8 for bf16
 *   + inner (size + |want|)                        roundings before an inner product, where the dtype has them
 *
 * with depth, size and inner from the golden; docs/numerics.md has the reasons.  Copies and integers are exact.  A sum may be off by the
 * tolerances of all its elements together, a sum of squares by what those make of squares.  An element whose golden is a NaN must
 * not have been written. */
#include "base/json.h"
#include "ops/golden_inputs.h"
#include "ops/op_testing.h"

#include <dirent.h>
#include <stdio.h>

#define MAX_IO   16
#define SAMPLES  256
#define MOST_OPS 96

static tern_ctx *ctx;
static bool full;
static tern_op *op; /* and the cache: of the case that runs */
static tern_kv_cache *cache;

/* A call that an operator refuses is a wrong case, with the reason; the other cases still run. */
#define TRY(name, call)                                       \
    do {                                                      \
        if ((call) != TERN_OK) {                              \
            print_error("%s: %s\n", (name), tern_error(ctx)); \
            return false;                                     \
        }                                                     \
    } while (0)

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

static int64_t whole_of(const tern_json_value *object, const char *key)
{
    return tern_json_int(tern_json_get(object, key));
}

static size_t elements_of(const tern_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

/* A tensor without data, as "dtype" and "shape" say. */
static tern_tensor described(const tern_json_value *spec)
{
    const tern_json_value *shape = tern_json_get(spec, "shape");
    int64_t dim[TERN_MAX_RANK] = { 0 };
    const int rank = (int)tern_json_size(shape);
    int dtype = 0;

    for (int i = 0; i < rank; i++)
        dim[i] = tern_json_int(tern_json_at(shape, (size_t)i));
    while (dtype < TERN_DTYPE_COUNT && strcmp(tern_dtype_name((tern_dtype)dtype), string_of(spec, "dtype")) != 0)
        dtype++;
    return tern_tensor_view(NULL, (tern_dtype)dtype, rank, dim);
}

/* ---- the numbers of one tensor ---- */

static void put_float(tern_tensor *t, size_t i, float x)
{
    if (t->dtype == TERN_FP32)
        ((float *)t->data)[i] = x;
    else
        ((uint16_t *)t->data)[i] = t->dtype == TERN_FP16 ? golden_fp16(x) : golden_bf16(x);
}

static void put(tern_tensor *t, size_t i, int64_t x)
{
    switch (t->dtype) {
    case TERN_INT64:
        ((int64_t *)t->data)[i] = x;
        break;
    case TERN_INT32:
        ((int32_t *)t->data)[i] = (int32_t)x;
        break;
    case TERN_INT8:
    case TERN_BOOL:
        ((int8_t *)t->data)[i] = (int8_t)x;
        break;
    default:
        put_float(t, i, (float)x);
    }
}

static double get(const tern_tensor *t, size_t i)
{
    switch (t->dtype) {
    case TERN_FP32:
        return (double)((const float *)t->data)[i];
    case TERN_FP16:
        return golden_from_fp16(((const uint16_t *)t->data)[i]);
    case TERN_BF16:
        return golden_from_bf16(((const uint16_t *)t->data)[i]);
    case TERN_INT32:
        return (double)((const int32_t *)t->data)[i];
    default:
        assert_int_equal(t->dtype, TERN_INT64);
        return (double)((const int64_t *)t->data)[i];
    }
}

/* Where k choices of each token go: neighbouring experts from a drawn one on, and what follows from those. */
static void fill_routed(tern_tensor *t, const tern_json_value *spec, const char *full_name)
{
    const char *kind = string_of(spec, "kind");
    const size_t tokens = (size_t)whole_of(spec, "tokens"), k = (size_t)whole_of(spec, "k"),
                 count = (size_t)whole_of(spec, "count"), padding = (size_t)whole_of(spec, "padding");
    int64_t *expert = test_bytes(tokens * k * sizeof *expert), *slot = test_bytes(tokens * k * sizeof *slot);
    int64_t *counts = test_bytes(count * sizeof *counts), *ends = test_bytes(count * sizeof *ends), total = 0;
    struct golden_stream stream = golden_stream(full_name);

    memset(counts, 0, count * sizeof *counts);
    for (size_t i = 0; i < tokens; i++) {
        const size_t word = golden_word(&stream);
        for (size_t j = 0; j < k; j++) {
            const size_t e = (word + j) % count;
            const bool none = padding && (word >> 16) % padding == 0;
            expert[i * k + j] = none ? -1 : (int64_t)e;
            slot[i * k + j] = none ? -1 : counts[e]++;
        }
    }
    for (size_t e = 0; e < count; e++)
        ends[e] = total += counts[e];
    for (size_t i = 0; i < elements_of(t); i++) {
        if (strcmp(kind, "counts") == 0)
            put(t, i, counts[i]);
        else if (strcmp(kind, "row_ends") == 0)
            put(t, i, ends[i]);
        else if (strcmp(kind, "mapped_slots") == 0)
            put(t, i, expert[i] < 0 ? -1 : ends[expert[i]] - counts[expert[i]] + slot[i]);
        else
            put(t, i, strcmp(kind, "slots") == 0 ? slot[i] : expert[i]);
    }
}

static void fill(tern_tensor *t, const tern_json_value *spec, const char *case_name, const char *name)
{
    const char *kind = string_of(spec, "kind");
    const tern_json_value *key = tern_json_get(spec, "key"), *of = tern_json_get(spec, "of");
    const size_t n = elements_of(t);
    struct golden_stream stream;
    char own[96];

    snprintf(own, sizeof own, "%s/%s", case_name, of ? string_of(spec, "of") : name);
    const char *full_name = key ? string_of(spec, "key") : own;
    t->data = test_bytes(n * tern_dtype_size(t->dtype));
    stream = golden_stream(full_name);
    if (strcmp(kind, "normal") == 0 || strcmp(kind, "uniform") == 0) {
        const float scale = (float)number_of(spec, "scale"), offset = (float)number_of(spec, "offset");
        float (*const next)(struct golden_stream *, float, float) =
            strcmp(kind, "normal") == 0 ? golden_next_normal : golden_next_uniform;
        for (size_t i = 0; i < n; i++)
            put_float(t, i, next(&stream, scale, offset));
    } else if (strcmp(kind, "integers") == 0) {
        const int64_t low = whole_of(spec, "low"), count = whole_of(spec, "count");
        for (size_t i = 0; i < n; i++)
            put(t, i, (int64_t)golden_word(&stream) % count + low);
    } else if (strcmp(kind, "rare") == 0) {
        const uint32_t every = (uint32_t)whole_of(spec, "every");
        for (size_t i = 0; i < n; i++)
            put(t, i, (int64_t)number_of(spec, golden_word(&stream) % every == 0 ? "rare" : "usual"));
    } else if (strcmp(kind, "list") == 0) {
        for (size_t i = 0; i < n; i++)
            put(t, i, tern_json_int(tern_json_at(tern_json_get(spec, "values"), i)));
    } else {
        fill_routed(t, spec, full_name);
    }
}

/* ---- one case ---- */

struct golden {
    const tern_json_value *json;
    const char *name;     /* OPERATOR/NUMBER: the same in all dtypes, as the numbers of the inputs are */
    char title[64];       /* with the dtypes, for messages */
    const float *samples; /* of all cases of the operator */
    size_t n_samples;
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

static bool build(struct golden *g, int op, const tern_json_value *json_case)
{
    const tern_json_value *inputs = tern_json_get(json_case, "inputs"), *outputs = tern_json_get(json_case, "outputs"),
                          *settings = tern_json_get(json_case, "settings");
    size_t length;

    g->json = json_case;
    g->name = string_of(json_case, "name");
    snprintf(g->title, sizeof g->title, "%s in %s", g->name, string_of(settings, "dtype"));
    if (tern_json_get(settings, "activation_dtype"))
        snprintf(g->title, sizeof g->title, "%s in int8 (%s, %s)", g->name, string_of(settings, "activation_dtype"),
                 string_of(settings, "activation_quant"));
    g->n_io = 0;
    g->settings = tern_op_settings_default();
    for (void *it = tern_json_iter(settings); it; it = tern_json_next(settings, it))
        TRY(g->title, tern_op_settings_set(ctx, op, &g->settings, tern_json_iter_key(it, &length),
                                           tern_json_string(tern_json_iter_value(it), &length)));
    for (void *it = tern_json_iter(inputs); it; it = tern_json_next(inputs, it)) {
        const char *name = tern_json_iter_key(it, &length);
        tern_tensor t = described(tern_json_iter_value(it));
        fill(&t, tern_json_iter_value(it), g->name, name);
        add(g, name, t);
    }
    g->n_inputs = g->n_io;
    for (void *it = tern_json_iter(outputs); it; it = tern_json_next(outputs, it))
        add(g, tern_json_iter_key(it, &length), tern_tensor_none());
    return true;
}

static const tern_json_value *wanted(const struct golden *g, size_t index)
{
    return tern_json_get(tern_json_get(g->json, "outputs"), g->names[index]);
}

/* What stands in softmax_context's cache before and after, and is no tensor of the operator. */
static bool is_cached(const char *name)
{
    static const char *const names[] = { "past_key", "past_value", "key", "value" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static tern_tensor *tensor_of(struct golden *g, const char *name)
{
    for (size_t i = 0; i < g->n_io; i++)
        if (strcmp(g->names[i], name) == 0)
            return &g->tensors[i];
    return NULL;
}

/* The operator's tensors, those of a cache left out where there is one. */
static size_t own_tensors(struct golden *g, bool cached, tern_op_io *io)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n_io; i++)
        if (!cached || !is_cached(g->names[i]))
            io[n++] = g->io[i];
    return n;
}

/* Outputs as they follow from the inputs, or, where they cannot, as the golden has them; poisoned. */
static bool make_outputs(struct golden *g, bool cached)
{
    tern_op_io io[MAX_IO];
    const size_t n_io = own_tensors(g, cached, io);

    if (!tern_json_get(g->json, "given"))
        TRY(g->title, tern_op_infer(ctx, op, &g->settings.params, io, n_io));
    for (size_t i = g->n_inputs; i < g->n_io; i++) {
        tern_tensor *t = &g->tensors[i];
        const tern_tensor want = described(wanted(g, i));
        if (t->rank < 0)
            *t = want;
        bool same = t->dtype == want.dtype && t->rank == want.rank;
        for (int a = 0; a < t->rank && same; a++)
            same = t->dim[a] == want.dim[a];
        if (!same) {
            print_error("%s: %s would be %s of another shape or dtype than the golden's %s\n", g->title, g->names[i],
                        tern_dtype_name(t->dtype), tern_dtype_name(want.dtype));
            return false;
        }
        const size_t bytes = elements_of(t) * tern_dtype_size(t->dtype);
        t->data = test_bytes(bytes);
        memset(t->data, 0xff, bytes); /* NaNs */
    }
    return true;
}

/* Rows [first, first + n) of a batch of one, as a view. */
static tern_tensor rows_of(const tern_tensor *t, int64_t first, int64_t n)
{
    const int64_t width = t->dim[t->rank - 1];

    return tern_tensor_view((char *)t->data + (size_t)(first * width) * tern_dtype_size(t->dtype), t->dtype, 2,
                            (int64_t[]){ n, width });
}

/* Element b of the first axis. */
static tern_tensor part_of(const tern_tensor *t, int64_t b)
{
    const size_t bytes = elements_of(t) / (size_t)t->dim[0] * tern_dtype_size(t->dtype);

    return tern_tensor_view((char *)t->data + (size_t)b * bytes, t->dtype, t->rank - 1, t->dim + 1);
}

#define MOST_SPANS 8

/* softmax_context: a sequence for each of the batch, after the keys that it has already; or, as "cache" says, chunks of one sequence,
 * each a call, or sequences of several lengths in one call. */
static bool run_attention(struct golden *g)
{
    const tern_config *c = &g->settings.config;
    const tern_json_value *how = tern_json_get(g->json, "cache");
    const tern_json_value *chunks = how ? tern_json_get(how, "chunks") : NULL,
                          *lengths = how ? tern_json_get(how, "sequences") : NULL;
    tern_tensor *qkv = tensor_of(g, "qkv"), *output = tensor_of(g, "output"), *key = tensor_of(g, "key"),
                *value = tensor_of(g, "value"), *past = tensor_of(g, "past_key");
    const int64_t before = past ? past->dim[2] : 0, rows = qkv->dim[1], width = c->hidden_size / c->heads;
    const size_t n_spans = (size_t)(lengths ? (int64_t)tern_json_size(lengths) : qkv->dim[0]);
    const tern_kv_shape shape = {
        .n_layers = 1,
        .n_kv_heads = c->num_kv,
        .head_dim = (int32_t)(width > g->settings.params.v_head_dim ? width : g->settings.params.v_head_dim),
        .n_positions = (before + rows + 63) / 64 * 64 * (int64_t)n_spans,
        .n_sequences = (int32_t)n_spans,
        .n_context = before + rows
    };
    tern_kv_span spans[MOST_SPANS] = { 0 };
    int64_t done = 0;

    assert_true(n_spans <= MOST_SPANS);
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (size_t b = 0; b < n_spans; b++) {
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &spans[b].sequence));
        if (past) {
            const tern_kv_span old = { .sequence = spans[b].sequence, .n_rows = (int32_t)before };
            const tern_tensor k = part_of(past, (int64_t)b), v = part_of(tensor_of(g, "past_value"), (int64_t)b);
            assert_ok(ctx, tern_kv_reserve(ctx, cache, &old, 1));
            TRY(g->title, tern_kv_write(ctx, cache, 0, &old, &k, &v));
            assert_ok(ctx, tern_kv_commit(ctx, cache, &old, 1));
        }
        spans[b].row = (int32_t)done;
        spans[b].n_rows = (int32_t)(lengths ? tern_json_int(tern_json_at(lengths, b)) : rows);
        spans[b].position = before;
        done += spans[b].n_rows;
    }
    done = 0;
    for (size_t i = 0; i < (chunks ? tern_json_size(chunks) : 1); i++) {
        tern_tensor part[2] = { *qkv, *output };
        tern_op_io io[MAX_IO];
        const size_t n_io = own_tensors(g, true, io);
        if (chunks) {
            spans[0].n_rows = (int32_t)tern_json_int(tern_json_at(chunks, i));
            spans[0].position = done;
            part[0] = rows_of(qkv, done, spans[0].n_rows);
            part[1] = rows_of(output, done, spans[0].n_rows);
            done += spans[0].n_rows;
        }
        for (size_t t = 0; t < n_io; t++)
            if (io[t].tensor == qkv || io[t].tensor == output)
                io[t].tensor = &part[io[t].tensor == output];
        const tern_op_call call = { .params = &g->settings.params, .cache = cache, .spans = spans, .n_spans = n_spans };
        assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, n_spans));
        TRY(g->title, tern_op_run(ctx, op, io, n_io, &call));
        assert_ok(ctx, tern_kv_commit(ctx, cache, spans, n_spans));
    }
    for (size_t b = 0; key && b < n_spans; b++) {
        tern_tensor k = part_of(key, (int64_t)b), v = part_of(value, (int64_t)b);
        TRY(g->title, tern_kv_read(ctx, cache, 0, spans[b].sequence, 0, &k, &v));
    }
    return true;
}

/* ---- comparing ---- */

struct tolerance {
    double chain, store, least, inner, size, relative, absolute;
};

/* Upstream's tolerances (its tests' default, by dtype) bound ours, whatever ours come to. */
static struct tolerance tolerance_of(const tern_json_value *want, tern_dtype dtype)
{
    struct tolerance t = { .relative = 5e-4, .absolute = 5e-5 };
    const tern_json_value *limit = tern_json_get(want, "limit");

    if (tern_json_get(want, "exact"))
        return (struct tolerance){ 0 };
    if (dtype == TERN_FP16) {
        t = (struct tolerance){ .store = 0x1p-11, .least = 0x1p-25, .relative = 3e-2, .absolute = 2e-3 };
    } else if (dtype == TERN_BF16) {
        t = (struct tolerance){ .store = 0x1p-8, .relative = 4.8e-1, .absolute = 3.2e-2 };
    }
    if (limit) {
        t.relative = tern_json_number(tern_json_at(limit, 0));
        t.absolute = tern_json_number(tern_json_at(limit, 1));
    }
    t.chain = 0x1p-24 * (16 + 4 * sqrt(number_of(want, "depth")));
    t.inner = number_of(want, "inner");
    t.size = number_of(want, "size");
    return t;
}

static double allowed(const struct tolerance *t, double want)
{
    const double x = fabs(want), ours = (t->chain + t->inner) * (t->size + x) + t->store * x + t->least;

    return fmin(ours, t->relative * x + t->absolute);
}

/* Whether one element is what it should be; a golden that is no number means "not written", or an infinity. */
static bool near(double got, double want, const struct tolerance *t, double *worst)
{
    if (!isfinite(want))
        return isnan(want) ? isnan(got) : got == want;
    const double error = fabs(got - want), most = allowed(t, want);
    if (!(error <= most))
        return false;
    /* What the store does is known: how much of the rest was needed? */
    const double rest = most - t->store * fabs(want) - t->least, used = error - t->store * fabs(want) - t->least;
    if (rest > 0 && used / rest > *worst)
        *worst = used / rest;
    return true;
}

/* Prints what is wrong.  `worst` gets the largest error beyond the rounding at the store, in units of what is allowed for it. */
static bool compare(const struct golden *g, size_t index, double *worst)
{
    const char *name = g->names[index];
    const tern_tensor *t = &g->tensors[index];
    const tern_json_value *want = wanted(g, index);
    const size_t n = elements_of(t), n_samples = n < SAMPLES ? n : SAMPLES, first = (size_t)whole_of(want, "at");
    const struct tolerance tolerance = tolerance_of(want, t->dtype);
    double sum = 0, squares = 0, sum_allowed = 0, squares_allowed = 0;
    struct golden_stream stream;
    char full_name[96];

    snprintf(full_name, sizeof full_name, "%s/%s/sample", g->name, name);
    stream = golden_stream(full_name);
    assert_true(first + n_samples <= g->n_samples);
    for (size_t i = 0; i < n_samples; i++) {
        const size_t word = golden_word(&stream), at = n <= SAMPLES ? i : word % n;
        const double sample = (double)g->samples[first + i];
        if (!near(get(t, at), sample, &tolerance, worst)) {
            print_error("%s: %s[%zu] is %.9g, expected %.9g within %.3g\n", g->title, name, at, get(t, at), sample,
                        allowed(&tolerance, sample));
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        const double x = get(t, i);
        if (!isfinite(x))
            continue;
        const double most = allowed(&tolerance, x);
        sum += x;
        squares += x * x;
        sum_allowed += most;
        squares_allowed += most * (2 * fabs(x) + most);
    }
    const double rounding = 0x1p-52 * (double)n; /* of these sums themselves */
    const double want_sum = number_of(want, "sum"), want_squares = number_of(want, "squares");
    if (!(fabs(sum - want_sum) <= sum_allowed + rounding * sqrt((double)n * want_squares))) {
        print_error("%s: the sum of %s is %.12g, expected %.12g\n", g->title, name, sum, want_sum);
        return false;
    }
    if (!(fabs(squares - want_squares) <= squares_allowed + rounding * want_squares)) {
        print_error("%s: the sum of squares of %s is %.12g, expected %.12g\n", g->title, name, squares, want_squares);
        return false;
    }
    return true;
}

static int release(void **state)
{
    tern_op_destroy(&op);
    tern_kv_cache_destroy(&cache);
    return test_teardown(state);
}

static bool run(struct golden *g, const char *name, const tern_json_value *json_case, double *worst)
{
    const bool attention = strcmp(name, "softmax_context") == 0;
    const tern_op_call call = { .params = &g->settings.params };
    bool right = true;

    if (!build(g, tern_op_find(name), json_case))
        return false;
    TRY(g->title, tern_op_create(ctx, name, &g->settings.config, &op));
    if (!make_outputs(g, attention))
        return false;
    if (attention && !run_attention(g))
        return false;
    if (!attention)
        TRY(g->title, tern_op_run(ctx, op, g->io, g->n_io, &call));
    for (size_t i = g->n_inputs; i < g->n_io; i++)
        right &= compare(g, i, worst);
    return right;
}

/* ---- the files of one operator ---- */

static struct tern_json *open_golden(const char *op, float **samples, size_t *n_samples)
{
    struct tern_json *json;
    char path[96];
    size_t size;

    snprintf(path, sizeof path, "ops/%s.json", op);
    char *text = test_read(test_golden(path), &size);
    assert_ok(ctx, tern_json_parse(ctx, text, size, path, &json));
    free(text);
    snprintf(path, sizeof path, "ops/%s.bin", op);
    *samples = (float *)(void *)test_read(test_golden(path), &size);
    *n_samples = size / sizeof(float);
    return json;
}

static void test_operator(void **state)
{
    const char *name = *state;
    float *samples;
    struct golden g = { 0 };
    struct tern_json *json = open_golden(name, &samples, &g.n_samples);
    const tern_json_value *cases = tern_json_get(tern_json_root(json), "cases");
    double worst = 0;
    size_t n = 0, n_wrong = 0;

    g.samples = samples;
    if (tern_op_find(name) < 0)
        fail_msg("there are goldens of %s, but no operator", name);
    for (size_t i = 0; i < tern_json_size(cases); i++) {
        const tern_json_value *c = tern_json_at(cases, i);
        if ((tern_json_get(c, "full") != NULL) != full)
            continue;
        n_wrong += !run(&g, name, c, &worst);
        release(state);
        n++;
    }
    tern_json_destroy(json);
    free(samples);
    printf("%s: %zu cases, worst error %.2f of its tolerance, the last rounding apart\n", name, n, worst);
    if (n_wrong)
        fail_msg("%s: %zu of %zu cases are wrong", name, n_wrong, n);
}

/* ---- what holds for all of them ---- */

/* The generator here is the script's. */
static void test_generator(void **state)
{
    static const uint32_t philox[] = { 0xB5DD6244, 0x13210289, 0xFBD3739D, 0xA756CAED,
                                       0xC7CEE76B, 0xD5B2BF9E, 0xB5CBC8F9, 0xFD2D8862 };
    struct golden_stream stream = golden_stream("philox");

    (void)state;
    for (size_t i = 0; i < sizeof philox / sizeof philox[0]; i++)
        assert_int_equal(golden_word(&stream), philox[i]);
}

static bool is_norm(const tern_json_value *settings, int norm)
{
    const tern_json_value *text = tern_json_get(settings, "norm_type");
    size_t length;
    const char *name = text ? tern_json_string(text, &length) : "LayerNorm";

    return norm == 0 || strcmp(name, norm == TERN_RMS_NORM ? "RMSNorm" : "LayerNorm") == 0;
}

/* No cell of the table is without a golden, but for sizes in bytes, and for codes, whose every bit is in quantize.json. */
static void test_complete(void **state)
{
    static const char *const others[] = { "workspace", "quantize", "dequantize" };
    static const tern_dtype dtypes[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
    static const int norms[] = { 0, TERN_LAYER_NORM, TERN_RMS_NORM };
    char text[256];

    (void)state;
    for (int index = 0; index < tern_op_count(); index++) {
        const char *name = tern_op_name(index);
        float *samples;
        size_t n_samples;
        bool other = false;
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            other |= strcmp(name, others[i]) == 0;
        if (other)
            continue;
        struct tern_json *json = open_golden(name, &samples, &n_samples);
        const tern_json_value *cases = tern_json_get(tern_json_root(json), "cases");
        for (size_t d = 0; d < 4; d++)
            for (size_t n = 0; n < 3; n++) {
                bool found = !tern_op_cell(ctx, index, dtypes[d], norms[n], TERN_CPU, text, sizeof text);
                for (size_t c = 0; c < tern_json_size(cases) && !found; c++) {
                    const tern_json_value *settings = tern_json_get(tern_json_at(cases, c), "settings");
                    found = strcmp(string_of(settings, "dtype"), tern_dtype_name(dtypes[d])) == 0 &&
                            is_norm(settings, norms[n]);
                }
                if (!found)
                    fail_msg("no golden of %s in %s with norm %d", name, tern_dtype_name(dtypes[d]), norms[n]);
            }
        tern_json_destroy(json);
        free(samples);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the operators that there are goldens of. */
static size_t list(char **names)
{
    DIR *folder = opendir(test_golden("ops"));
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(folder);
    while ((entry = readdir(folder))) {
        const size_t length = strlen(entry->d_name);
        if (length < 6 || strcmp(entry->d_name + length - 5, ".json") != 0)
            continue;
        assert_true(n < MOST_OPS);
        names[n] = strdup(entry->d_name);
        names[n++][length - 5] = '\0';
    }
    closedir(folder);
    qsort(names, n, sizeof *names, by_name);
    return n;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[MOST_OPS + 2];
    char *names[MOST_OPS];
    const size_t n = list(names);
    size_t n_tests = n;

    full = argc > 1 && strcmp(argv[1], "--full") == 0;
    ctx = test_ctx(0);
    for (size_t i = 0; i < n; i++)
        tests[i] = (struct CMUnitTest){
            .name = names[i], .test_func = test_operator, .initial_state = names[i], .teardown_func = release
        };
    if (!full) {
        tests[n_tests++] = (struct CMUnitTest)cmocka_unit_test(test_generator);
        tests[n_tests++] = (struct CMUnitTest)cmocka_unit_test(test_complete);
    }
    const int failed = _cmocka_run_group_tests("golden_ops", tests, n_tests, NULL, NULL);
    tern_ctx_destroy(&ctx);
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    return failed;
}
