/* test_layer.c: a layer in its four forms, against f64 and against the typed operators put together. */
/* labels: quick threads */
#include "faults.h"
#include "ops/checks.h"
#include "ops/dtype_testing.h"

#include <tern/quantize.h>

#include <pthread.h>
#include <stdio.h>

enum form { PRE, POST, PARALLEL_OWN, PARALLEL_SHARED };

/* Everything about a layer that a test varies. */
struct block {
    enum form form;
    size_t h, heads, kv_heads, inner, rows;
    bool biases, rms, transposed;
    tern_activation act;
    tern_config config;
    float *norm_w, *norm_b, *qkvw, *qkvb, *ow, *ob, *nw, *nb, *iw, *ib, *fw, *fb; /* [in, out] */
    float *x;
    size_t up, qkv, chunk;
    bool packed;
};

static void fill(struct block *b)
{
    const size_t e = b->h / b->heads;
    const bool own = b->form != PARALLEL_SHARED;

    b->config = test_config();
    b->config.hidden_size = (int64_t)b->h;
    b->config.heads = (int32_t)b->heads;
    b->config.num_kv = (int32_t)b->kv_heads;
    b->config.intermediate_size = (int64_t)b->inner;
    b->config.mlp_act_func_type = b->act;
    b->config.norm_type = b->rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
    b->config.pre_layer_norm = b->form != POST;
    b->config.mlp_after_attn = b->form == PRE || b->form == POST;
    b->config.transposed_mode = b->transposed;
    b->up = b->act >= TERN_GATED_GELU ? 2 * b->inner : b->inner;
    b->qkv = (b->heads + 2 * b->kv_heads) * e;
    b->chunk = 1000000;
    b->norm_w = test_floats(b->h, 1);
    b->norm_b = b->biases && !b->rms ? test_floats(b->h, 1) : NULL;
    b->qkvw = test_floats(b->h * b->qkv, 0.3f);
    b->qkvb = b->biases ? test_floats(b->qkv, 1) : NULL;
    b->ow = test_floats(b->heads * e * b->h, 0.3f);
    b->ob = b->biases ? test_floats(b->h, 1) : NULL;
    b->nw = own ? test_floats(b->h, 1) : NULL;
    b->nb = own && b->biases && !b->rms ? test_floats(b->h, 1) : NULL;
    b->iw = test_floats(b->h * b->up, 0.3f);
    b->ib = b->biases ? test_floats(b->up, 1) : NULL;
    b->fw = test_floats(b->inner * b->h, 0.3f);
    b->fb = b->biases ? test_floats(b->h, 1) : NULL;
    b->x = test_floats(b->rows * b->h, 1);
}

static tern_tensor vector(float *data, size_t n)
{
    return data ? t1(data, n) : tern_tensor_none();
}

static tern_tensor matrix(const struct block *b, float *w, size_t in, size_t out)
{
    return b->transposed ? t2(test_transposed(w, in, out), out, in) : t2(w, in, out);
}

static tern_layer_weights weights_of(const struct block *b)
{
    return (tern_layer_weights){
        .norm_w = vector(b->norm_w, b->h),
        .norm_b = vector(b->norm_b, b->h),
        .attn_qkvb = vector(b->qkvb, b->qkv),
        .attn_ob = vector(b->ob, b->h),
        .attn_nw = vector(b->nw, b->h),
        .attn_nb = vector(b->nb, b->h),
        .inter_b = vector(b->ib, b->up),
        .output_b = vector(b->fb, b->h),
        .attn_qkvw = matrix(b, b->qkvw, b->h, b->qkv),
        .attn_ow = matrix(b, b->ow, b->h, b->h),
        .inter_w = matrix(b, b->iw, b->h, b->up),
        .output_w = matrix(b, b->fw, b->inner, b->h),
    };
}

static void start(tern_ctx *ctx, const struct block *b, tern_kv_cache **cache, int32_t *sequence)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = (int32_t)(b->kv_heads),
                                  .head_dim = (int32_t)(b->h / b->heads),
                                  .n_positions = 512,
                                  .n_sequences = 1,
                                  .n_context = 512 };

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, *cache, sequence));
}

static void run_layer(void *arg, tern_ctx *ctx, float *out)
{
    const struct block *b = arg;
    tern_layer_weights weights = weights_of(b);
    tern_weight *packed[4] = { NULL };
    tern_kv_cache *cache;
    int32_t sequence;
    tern_layer *layer;

    if (b->packed) {
        tern_tensor *const m[4] = { &weights.attn_qkvw, &weights.attn_ow, &weights.inter_w, &weights.output_w };
        for (int i = 0; i < 4; i++) {
            assert_ok(ctx, tern_weight_pack(ctx, m[i], b->transposed, &packed[i]));
            *m[i] = tern_weight_view(packed[i]);
        }
    }
    assert_ok(ctx, tern_layer_create(ctx, &b->config, NULL, NULL, &weights, &layer));
    start(ctx, b, &cache, &sequence);
    memcpy(out, b->x, b->rows * b->h * 4);
    for (size_t at = 0; at < b->rows; at += b->chunk) {
        const size_t n = b->rows - at < b->chunk ? b->rows - at : b->chunk;
        const tern_kv_span span = { .sequence = sequence, .n_rows = (int32_t)n, .position = (int64_t)at };
        tern_tensor x = t2(out + at * b->h, n, b->h);
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_layer_forward(ctx, layer, &x, cache, 0, &span, 1));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    }
    tern_layer_destroy(&layer);
    assert_null(layer);
    tern_kv_cache_destroy(&cache);
    for (int i = 0; i < 4; i++)
        tern_weight_destroy(&packed[i]);
}

static double *naive_layer(const struct block *b)
{
    const size_t n = b->rows * b->h, e = b->h / b->heads;
    const struct naive_attention a = { .heads = b->heads,
                                       .kv_heads = b->kv_heads,
                                       .head_dim = e,
                                       .causal = true,
                                       .scale = 1 / sqrt((double)e),
                                       .theta = 10000 };
    const double eps = b->config.layer_norm_eps, *x = test_widen(b->x, n);
    const double *n1 = b->form == POST ? x : naive_norm(x, b->norm_w, b->norm_b, b->rows, b->h, eps, b->rms);
    const double *qkv = naive_matmul(n1, b->qkvw, b->qkvb, b->rows, b->h, b->qkv);
    float *narrow = test_bytes(b->rows * b->qkv * 4);
    for (size_t i = 0; i < b->rows * b->qkv; i++)
        narrow[i] = (float)qkv[i];
    const double *attn = naive_matmul(naive_attention(&a, narrow, b->rows), b->ow, b->ob, b->rows, b->h, b->h);
    double *s = test_doubles(n), *out = test_doubles(n);
    for (size_t i = 0; i < n; i++)
        s[i] = x[i] + attn[i];
    const double *z = b->form == PARALLEL_SHARED
                          ? n1
                          : naive_norm(b->form == PARALLEL_OWN ? x : s, b->nw, b->nb, b->rows, b->h, eps, b->rms);
    const double *f = naive_mlp(z, b->iw, b->ib, b->fw, b->rows, b->h, b->up, b->h, b->act, TERN_GELU_UNSET);
    for (size_t i = 0; i < n; i++)
        out[i] = f[i] + (b->fb ? b->fb[i % b->h] : 0) + (b->form == POST ? z[i] : s[i]);
    return b->form == POST ? naive_norm(out, b->norm_w, b->norm_b, b->rows, b->h, eps, false) : out;
}

/* The same layer from the typed operators. */
static float *by_operators(tern_ctx *ctx, const struct block *b)
{
    const size_t m = b->rows, h = b->h;
    const tern_layer_weights w = weights_of(b);
    float *qkv_data = test_poison(m * b->qkv), *normed_data = test_poison(m * h), *context_data = test_poison(m * h);
    float *attn_data = test_poison(m * h), *mlp_data = test_poison(m * h), *add_data = test_poison(m * h),
          *out_data = test_poison(m * h);
    const tern_tensor x = t2(b->x, m, h);
    tern_tensor qkv = t2(qkv_data, m, b->qkv), normed = t2(normed_data, m, h), context = t2(context_data, m, h);
    tern_tensor attn = t2(attn_data, m, h), mlp = t2(mlp_data, m, h), added = t2(add_data, m, h),
                out = t2(out_data, m, h);
    tern_kv_cache *cache;
    tern_kv_span span = { .n_rows = (int32_t)m };

    start(ctx, b, &cache, &span.sequence);
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    if (b->form == POST)
        assert_ok(ctx, tern_linear(ctx, &b->config, &x, &w.attn_qkvw, &w.attn_qkvb, &qkv));
    else
        assert_ok(ctx,
                  tern_qkv_gemm(ctx, &b->config, &x, &w.attn_qkvw, &w.attn_qkvb, &w.norm_w, &w.norm_b, &qkv, &normed));
    assert_ok(ctx, tern_softmax_context(ctx, &b->config, NULL, &qkv, NULL, NULL, cache, 0, &span, 1, &context));
    assert_ok(ctx, tern_vector_matmul(ctx, &b->config, &context, &w.attn_ow, &attn));
    if (b->form == PARALLEL_SHARED)
        assert_ok(ctx, tern_gelu_gemm(ctx, &b->config, &normed, &w.inter_w, &w.inter_b, &w.output_w, &mlp));
    else
        assert_ok(ctx, tern_mlp_gemm(ctx, &b->config, &attn, &x, &w.inter_w, &w.output_w, &w.attn_ob, &w.inter_b,
                                     &w.attn_nw, &w.attn_nb, &mlp, &added));
    /* With RMSNorm residual_add holds residual, attention and its bias already. */
    const bool holds = b->rms && b->form == PRE;
    assert_ok(ctx, tern_residual_add(ctx, &b->config, &mlp, holds ? &added : &x, holds ? NULL : &attn,
                                     b->form == POST ? &added : NULL, holds ? NULL : &w.attn_ob, &w.output_b, &out));
    tern_kv_cache_destroy(&cache);
    if (b->form != POST)
        return out_data;

    /* The final norm, through an identity. */
    float *identity = test_bytes(h * h * 4), *dummy = test_poison(m * h);
    memset(identity, 0, h * h * 4);
    const tern_tensor unit = t2(identity, h, h);
    tern_tensor nothing = t2(dummy, m, h), result = t2(normed_data, m, h);
    assert_ok(ctx, tern_qkv_gemm(ctx, &b->config, &out, &unit, NULL, &w.norm_w, &w.norm_b, &nothing, &result));
    return normed_data;
}

static struct block variant(int i)
{
    struct block b = { .form = (enum form)(i % 4),
                       .h = 24,
                       .heads = 4,
                       .kv_heads = i & 4 ? 2 : 4,
                       .inner = 40,
                       .rows = 1 + (size_t)i % 3 * 9,
                       .biases = i & 8,
                       .transposed = i & 16,
                       .packed = i & 32 };

    b.rms = b.form == PRE && i & 64;
    b.act = b.form == PARALLEL_SHARED ? TERN_GELU : (tern_activation)(1 + i / 4 % 4);
    fill(&b);
    return b;
}

/* A layer's products add some tens of terms, whose fp32 rounding (6e-8 each) stays below 1e-6 of the largest; its norms may
 * enlarge that by the ratio of a row's largest value to its spread, up to 20 for these inputs. */
#define LAYER_BOUND 2e-5

static void test_forms(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (int i = 0; i < 128; i++) {
        struct block b = variant(i);
        const size_t n = b.rows * b.h;
        const double *want = naive_layer(&b);
        float *got = test_poison(n);
        run_layer(&b, ctx, got);
        test_near(got, want, n, LAYER_BOUND, "layer");

        const float *parts = by_operators(ctx, &b);
        if (!b.biases)
            test_equal(got, parts, n, "layer by operators, no biases: the same order of additions");
        else
            test_near(parts, want, n, LAYER_BOUND, "layer by operators");

        float *again = test_poison(n);
        b.packed = !b.packed;
        run_layer(&b, ctx, again);
        test_equal(again, got, n, "layer with packed weights");
        b.chunk = 4;
        run_layer(&b, ctx, again);
        test_equal(again, got, n, "layer in chunks");
        b.config.kernel = TERN_KERNEL_REFERENCE;
        run_layer(&b, ctx, again);
        test_near(again, want, n, LAYER_BOUND, "layer, the definition");
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

static void test_same_bits_everywhere(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct block big = { .form = (enum form)i,
                             .h = 96,
                             .heads = 6,
                             .kv_heads = 3,
                             .inner = 130,
                             .rows = i == PRE ? 300 : 30, /* in parts through the feed-forward, and not */
                             .biases = true,
                             .act = i == 3 ? TERN_GELU : (tern_activation)(1 + i) };
        fill(&big);
        test_same_bits(run_layer, &big, big.rows * big.h);
        if (big.rows == 300) {
            tern_ctx *ctx = test_ctx(1);
            float *whole = test_poison(big.rows * big.h), *parts = test_poison(big.rows * big.h);
            run_layer(&big, ctx, whole);
            big.chunk = 64;
            run_layer(&big, ctx, parts);
            test_equal(parts, whole, big.rows * big.h, "64 rows at a time");
            tern_ctx_destroy(&ctx);
        }
        test_teardown(NULL);
    }
}

/* ---- ranks ---- */

/* Two ranks are two threads, each with a context of its own; sums are added in rank order. */
struct group {
    pthread_barrier_t barrier;
    float *data[2];
};

struct rank {
    struct group *group;
    int rank, calls, fail_at;
    size_t floats; /* of the last reduction */
    tern_comm comm;
    tern_ctx *ctx;
    struct block part;
    tern_layer_weights weights;
    float *x;
    tern_status status;
    char error[256];
};

static tern_status sum_ranks(void *user, float *data, size_t n)
{
    struct rank *r = user;
    struct group *g = r->group;
    float *sum = NULL;

    if (r->calls++ == r->fail_at)
        return TERN_ERR_IO;
    g->data[r->rank] = data;
    r->floats = n;
    pthread_barrier_wait(&g->barrier);
    sum = malloc(n * sizeof *sum);
    for (size_t i = 0; i < n; i++)
        sum[i] = g->data[0][i] + g->data[1][i];
    pthread_barrier_wait(&g->barrier);
    memcpy(data, sum, n * sizeof *sum);
    free(sum);
    return TERN_OK;
}

/* No asserts here: they belong to the main thread. */
static void *run_rank(void *user)
{
    struct rank *r = user;
    const struct block *p = &r->part;
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = (int32_t)p->kv_heads / 2,
                                  .head_dim = (int32_t)(p->h / p->heads),
                                  .n_positions = 64,
                                  .n_sequences = 1,
                                  .n_context = 64 };
    tern_kv_span span = { .n_rows = (int32_t)p->rows };
    tern_tensor x = t2(r->x, p->rows, p->h);
    tern_kv_cache *cache = NULL;
    tern_layer *layer = NULL;

    r->status = tern_layer_create(r->ctx, &p->config, &r->comm, NULL, &r->weights, &layer);
    if (r->status == TERN_OK)
        r->status = tern_kv_cache_create(r->ctx, &shape, &cache);
    if (r->status == TERN_OK)
        r->status = tern_kv_sequence_add(r->ctx, cache, &span.sequence);
    if (r->status == TERN_OK)
        r->status = tern_kv_reserve(r->ctx, cache, &span, 1);
    if (r->status == TERN_OK)
        r->status = tern_layer_forward(r->ctx, layer, &x, cache, 0, &span, 1);
    snprintf(r->error, sizeof r->error, "%s", tern_error(r->ctx));
    tern_layer_destroy(&layer);
    tern_kv_cache_destroy(&cache);
    return NULL;
}

/* w[rows][cols] without the other rank's half of the columns [c0, c1), which `to` [rows][ld] gets. */
static void half(float *to, size_t ld, const float *w, size_t rows, size_t cols, size_t c0, size_t c1, int rank)
{
    const size_t n = (c1 - c0) / 2;

    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * ld, w + r * cols + c0 + (rank ? n : 0), n * sizeof *to);
}

/* Columns of q, k, v, of up and gate by halves; rows of the two output products by halves; biases of those whole. */
static void split(struct rank *r, const struct block *b)
{
    struct block *p = &r->part;
    const size_t e = b->h / b->heads, q = b->heads * e, kv = b->kv_heads * e, gates = b->up / b->inner;
    const size_t cut[4] = { 0, q, q + kv, q + 2 * kv };

    *p = *b;
    p->config.mp_size = 2;
    p->qkv = b->qkv / 2;
    p->up = b->up / 2;
    p->qkvw = test_poison(b->h * p->qkv);
    p->qkvb = b->qkvb ? test_poison(p->qkv) : NULL;
    for (int i = 0; i < 3; i++) {
        half(p->qkvw + cut[i] / 2, p->qkv, b->qkvw, b->h, b->qkv, cut[i], cut[i + 1], r->rank);
        if (b->qkvb)
            half(p->qkvb + cut[i] / 2, p->qkv, b->qkvb, 1, b->qkv, cut[i], cut[i + 1], r->rank);
    }
    p->iw = test_poison(b->h * p->up);
    p->ib = b->ib ? test_poison(p->up) : NULL;
    for (size_t i = 0; i < gates; i++) {
        half(p->iw + i * b->inner / 2, p->up, b->iw, b->h, b->up, i * b->inner, (i + 1) * b->inner, r->rank);
        if (b->ib)
            half(p->ib + i * b->inner / 2, p->up, b->ib, 1, b->up, i * b->inner, (i + 1) * b->inner, r->rank);
    }
    r->weights = weights_of(p);
    r->weights.attn_ow = t2(b->ow + (r->rank ? q / 2 * b->h : 0), q / 2, b->h);
    r->weights.output_w = t2(b->fw + (r->rank ? b->inner / 2 * b->h : 0), b->inner / 2, b->h);
}

static void test_two_ranks(void **state)
{
    (void)state;
    for (int i = 0; i < 32; i++) {
        struct block b = { .form = (enum form)(i % 4),
                           .h = 24,
                           .heads = 4,
                           .kv_heads = i & 4 ? 2 : 4,
                           .inner = 40,
                           .rows = 9,
                           .biases = i & 8 };
        const int failing = i & 16 ? i % 3 : -1, reductions = b.form == PRE || b.form == POST ? 2 : 1;
        b.act = b.form == PARALLEL_SHARED ? TERN_GELU : i & 4 ? TERN_GATED_SILU : TERN_GELU;
        fill(&b);
        const size_t n = b.rows * b.h;
        const double *want = naive_layer(&b);
        struct group group;
        struct rank ranks[2];
        pthread_t threads[2];

        pthread_barrier_init(&group.barrier, NULL, 2);
        for (int r = 0; r < 2; r++) {
            ranks[r] = (struct rank){ .group = &group, .rank = r, .fail_at = failing, .ctx = test_ctx(1 + r) };
            ranks[r].comm = (tern_comm){ .user = &ranks[r], .rank = r, .size = 2, .all_reduce = sum_ranks };
            ranks[r].x = test_copy(b.x, n);
            split(&ranks[r], &b);
        }
        for (int r = 0; r < 2; r++)
            assert_int_equal(pthread_create(&threads[r], NULL, run_rank, &ranks[r]), 0);
        for (int r = 0; r < 2; r++)
            pthread_join(threads[r], NULL);

        for (int r = 0; r < 2; r++) {
            if (failing >= 0 && failing < reductions) {
                assert_int_equal(ranks[r].status, TERN_ERR_IO);
                assert_non_null(strstr(ranks[r].error, "all_reduce failed"));
                assert_int_equal(ranks[r].calls, failing + 1);
            } else {
                if (ranks[r].status != TERN_OK)
                    fail_msg("rank %d: %s", r, ranks[r].error);
                assert_int_equal(ranks[r].calls, reductions);
                assert_int_equal(ranks[r].floats, n);
                test_near(ranks[r].x, want, n, LAYER_BOUND, "layer on two ranks");
            }
            tern_ctx_destroy(&ranks[r].ctx);
        }
        if (failing < 0 || failing >= reductions)
            test_equal(ranks[0].x, ranks[1].x, n, "the two ranks");
        pthread_barrier_destroy(&group.barrier);
        test_teardown(NULL);
    }
}

/* ---- dtypes ---- */

/* A layer whose weights and rows are stored in a dtype. */
struct stored {
    struct block b;             /* its numbers as they are stored, in fp32 */
    tern_layer_weights weights; /* raw */
    bool pack;
    tern_tensor x;
};

static tern_tensor narrowed(const tern_tensor *t, tern_dtype dtype)
{
    tern_tensor n = tern_tensor_view(NULL, dtype, t->rank, t->dim);

    if (t->rank < 0 || !t->data)
        return *t;
    n.data = test_bytes(fn_elements(t) * tern_dtype_size(dtype));
    for (size_t i = 0; i < fn_elements(t); i++)
        fn_put(n.data, dtype, i, fn_at(t, i));
    return n;
}

static void round_floats(float *x, size_t n, tern_dtype dtype)
{
    for (size_t i = 0; x && i < n; i++) {
        float stored;
        fn_put(&stored, dtype, 0, (double)x[i]);
        x[i] = (float)fn_get(&stored, dtype, 0);
    }
}

/* What the codes of a packed matrix stand for, [in, out]. */
static float *decoded(tern_ctx *ctx, const tern_weight *packed)
{
    const size_t in = (size_t)packed->in, out = (size_t)packed->out;
    float *numbers = test_bytes(in * out * 4), *channel = test_bytes(in * 4);

    for (size_t j = 0; j < out; j++) {
        tern_weight_channel(ctx->kernels, packed, j, j, channel);
        for (size_t k = 0; k < in; k++)
            numbers[k * out + j] = channel[k];
    }
    return numbers;
}

/* A matrix [in, out] as int8 and back. */
static float *through_int8(tern_ctx *ctx, float *w, size_t in, size_t out)
{
    const tern_tensor view = t2(w, in, out);
    tern_weight *packed;

    assert_ok(ctx, tern_weight_pack_as(ctx, &view, false, TERN_INT8, NULL, &packed));
    float *numbers = decoded(ctx, packed);
    tern_weight_destroy(&packed);
    return numbers;
}

static struct stored store(tern_ctx *ctx, const struct block *from, tern_dtype dtype, tern_dtype activation,
                           tern_activation_quant quant)
{
    struct stored s = { .b = *from, .pack = dtype == TERN_INT8 || from->packed };
    struct block *b = &s.b;
    const size_t h = b->h;

    b->config.dtype = dtype;
    b->config.activation_dtype = activation;
    b->config.activation_quant = quant;
    round_floats(b->x, b->rows * h, activation);
    const tern_tensor x = t2(b->x, b->rows, h);
    s.x = narrowed(&x, activation);
    if (dtype == TERN_INT8) {
        s.weights = weights_of(b);
        b->qkvw = through_int8(ctx, b->qkvw, h, b->qkv);
        b->ow = through_int8(ctx, b->ow, h, h);
        b->iw = through_int8(ctx, b->iw, h, b->up);
        b->fw = through_int8(ctx, b->fw, b->inner, h);
        return s;
    }
    const struct {
        float *x;
        size_t n;
    } all[] = { { b->norm_w, h },
                { b->norm_b, h },
                { b->qkvw, h * b->qkv },
                { b->qkvb, b->qkv },
                { b->ow, h * h },
                { b->ob, h },
                { b->nw, h },
                { b->nb, h },
                { b->iw, h * b->up },
                { b->ib, b->up },
                { b->fw, b->inner * h },
                { b->fb, h } };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        round_floats(all[i].x, all[i].n, dtype);
    s.weights = weights_of(b);
    tern_tensor *t = &s.weights.norm_w;
    for (size_t i = 0; i < sizeof s.weights / sizeof *t; i++)
        t[i] = narrowed(&t[i], dtype);
    return s;
}

static void run_stored(void *arg, tern_ctx *ctx, float *out)
{
    const struct stored *s = arg;
    const struct block *b = &s->b;
    tern_layer_weights weights = s->weights;
    tern_tensor *const m[] = { &weights.attn_qkvw, &weights.attn_ow, &weights.inter_w, &weights.output_w };
    tern_weight *packed[4] = { NULL };
    tern_tensor all = narrowed(&s->x, s->x.dtype);
    tern_kv_cache *cache;
    int32_t sequence;
    tern_layer *layer;

    for (int i = 0; s->pack && i < 4; i++) {
        assert_ok(ctx, tern_weight_pack_as(ctx, m[i], b->transposed, b->config.dtype, NULL, &packed[i]));
        *m[i] = tern_weight_view(packed[i]);
    }
    assert_ok(ctx, tern_layer_create(ctx, &b->config, NULL, NULL, &weights, &layer));
    start(ctx, b, &cache, &sequence);
    for (size_t at = 0; at < b->rows; at += b->chunk) {
        const size_t n = b->rows - at < b->chunk ? b->rows - at : b->chunk;
        const tern_kv_span span = { .sequence = sequence, .n_rows = (int32_t)n, .position = (int64_t)at };
        tern_tensor x = tern_tensor_view((char *)all.data + at * b->h * tern_dtype_size(all.dtype), all.dtype, 2,
                                         (int64_t[]){ (int64_t)n, (int64_t)b->h });
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_layer_forward(ctx, layer, &x, cache, 0, &span, 1));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    }
    for (size_t i = 0; i < b->rows * b->h; i++)
        out[i] = (float)fn_at(&all, i);
    tern_layer_destroy(&layer);
    tern_kv_cache_destroy(&cache);
    for (int i = 0; i < 4; i++)
        tern_weight_destroy(&packed[i]);
}

/* Against f64 on the stored numbers.  A rounding of rows, keys, values and the result to fp16 is up to 2^-11 of each, to bf16
 * 2^-8, to s8 half of the largest's 127th; norms enlarge what comes before them, as they do with LAYER_BOUND. */
static const struct kind {
    tern_dtype dtype, activation;
    tern_activation_quant quant;
    double bound;
} kinds[] = {
    { TERN_FP16, TERN_FP16, TERN_QUANT_NONE, 2e-3 }, { TERN_BF16, TERN_BF16, TERN_QUANT_NONE, 3e-2 },
    { TERN_INT8, TERN_FP32, TERN_QUANT_NONE, 2e-5 }, { TERN_INT8, TERN_FP16, TERN_QUANT_NONE, 2e-3 },
    { TERN_INT8, TERN_BF16, TERN_QUANT_NONE, 3e-2 }, { TERN_INT8, TERN_FP32, TERN_QUANT_ROW, 8e-2 },
    { TERN_INT8, TERN_FP16, TERN_QUANT_ROW, 8e-2 },
};

static void test_dtypes(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        double worst = 0;
        for (int i = 0; i < 128; i += 3) {
            struct block b = variant(i);
            struct stored s = store(ctx, &b, kinds[k].dtype, kinds[k].activation, kinds[k].quant);
            const size_t n = b.rows * b.h;
            const double *want = naive_layer(&s.b);
            float *got = test_poison(n), *again = test_poison(n);

            run_stored(&s, ctx, got);
            for (size_t e = 0; e < n; e++)
                worst = fmax(worst, fabs((double)got[e] - want[e]) / test_largest(want, n));
            test_near(got, want, n, kinds[k].bound, "layer in a dtype");
            s.pack = kinds[k].dtype == TERN_INT8 || !s.pack;
            s.b.chunk = 4;
            run_stored(&s, ctx, again);
            test_equal(again, got, n, "layer in a dtype, packed or not, in chunks");
            test_teardown(NULL);
        }
        print_message("%s, activations %s%s: largest error %.1e, bound %.0e\n", tern_dtype_name(kinds[k].dtype),
                      tern_dtype_name(kinds[k].activation), kinds[k].quant ? ", rows in s8" : "", worst,
                      kinds[k].bound);
    }
    tern_ctx_destroy(&ctx);
}

/* Codes of 4 bits with a scale and a minimum for every 4 inputs: the bits of the layer with the numbers that they stand for. */
static void test_quantised_weights(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    tern_quant_options options = tern_quant_options_default(TERN_QUANT_GROUPWISE);

    options.bits = 4;
    options.group_size = 4;
    options.group_dim = 0;
    for (int i = 0; i < 16; i++) {
        struct block b = variant(i);
        struct stored s = { .b = b, .weights = weights_of(&b), .x = t2(b.x, b.rows, b.h) };
        tern_tensor *const m[] = { &s.weights.attn_qkvw, &s.weights.attn_ow, &s.weights.inter_w, &s.weights.output_w };
        float **const numbers[] = { &b.qkvw, &b.ow, &b.iw, &b.fw };
        tern_weight *packed[4];
        const size_t n = b.rows * b.h;
        float *got = test_poison(n), *want = test_poison(n);

        for (int j = 0; j < 4; j++) {
            tern_qtensor *q;
            assert_ok(ctx, tern_weight_quantize(ctx, m[j], &options, &q));
            assert_ok(ctx, tern_weight_pack_quantized(ctx, q, false, &packed[j]));
            tern_qtensor_destroy(&q);
            *m[j] = tern_weight_view(packed[j]);
            *numbers[j] = decoded(ctx, packed[j]);
        }
        run_layer(&b, ctx, want);
        s.b.config.dtype = TERN_INT8;
        s.b.config.activation_dtype = TERN_FP32;
        run_stored(&s, ctx, got);
        test_equal(got, want, n, "layer with codes of 4 bits");

        tern_layer *layer;
        s.b.config.activation_quant = TERN_QUANT_ROW;
        assert_fails(ctx, tern_layer_create(ctx, &s.b.config, NULL, NULL, &s.weights, &layer), TERN_ERR_UNSUPPORTED,
                     "layer: attn_qkvw is a quantised weight that has no product with rows of int8");
        for (int j = 0; j < 4; j++)
            tern_weight_destroy(&packed[j]);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* bf16 at one level only: avx512bf16 has bits of its own. */
static void test_same_bits_in_dtypes(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (int form = 0; form < 4; form += 3) {
            struct block b = { .form = (enum form)form,
                               .h = 96,
                               .heads = 6,
                               .kv_heads = 3,
                               .inner = 130,
                               .rows = 30,
                               .biases = true,
                               .act = form == 3 ? TERN_GELU : TERN_GATED_SILU };
            tern_ctx *ctx = test_ctx(1);

            fill(&b);
            struct stored s = store(ctx, &b, kinds[k].dtype, kinds[k].activation, kinds[k].quant);
            const size_t n = b.rows * b.h;
            if (kinds[k].dtype == TERN_BF16) {
                float *want = test_poison(n), *got = test_poison(n);
                run_stored(&s, ctx, want);
                for (int threads = 2; threads <= 3; threads++) {
                    tern_ctx *more = test_ctx(threads);
                    run_stored(&s, more, got);
                    test_equal(got, want, n, "layer in bf16, more threads");
                    tern_ctx_destroy(&more);
                }
            } else {
                test_same_bits(run_stored, &s, n);
            }
            tern_ctx_destroy(&ctx);
            test_teardown(NULL);
        }
}

/* Columns [from, to) of a raw matrix [in, n]. */
static tern_tensor columns(const struct dt_matrix *m, size_t in, size_t from, size_t to)
{
    const size_t size = tern_dtype_size(m->raw.dtype), all = (size_t)m->raw.dim[1], n = to - from;
    char *data = test_bytes(in * n * size);

    for (size_t i = 0; i < in; i++)
        memcpy(data + i * n * size, (const char *)m->raw.data + (i * all + from) * size, n * size);
    return tern_tensor_view(data, m->raw.dtype, 2, (int64_t[]){ (int64_t)in, (int64_t)n });
}

/* Matrices raw, int8 with a scale for each channel, and in parts: the bits of the whole, packed ones. */
static void test_raw_matrices_in_parts(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++) {
        const struct dt_kind *kind = &dt_kinds[k];
        const bool int8 = kind->dtype == TERN_INT8;
        const tern_tensor none = tern_tensor_none();
        struct block b = {
            .form = PRE, .h = 24, .heads = 4, .kv_heads = 2, .inner = 40, .rows = 7, .act = TERN_GATED_SILU
        };
        fill(&b);
        b.config.dtype = kind->dtype;
        b.config.activation_dtype = kind->a;
        b.config.activation_quant = kind->quant;
        b.config.set_empty_params = true;
        struct dt_matrix qkv = dt_matrix(ctx, kind, false, 24, 48, 0.3f, 48),
                         o = dt_matrix(ctx, kind, false, 24, 24, 0.3f, 2),
                         up = dt_matrix(ctx, kind, false, 24, 80, 0.3f, 80),
                         down = dt_matrix(ctx, kind, false, 40, 24, 0.3f, 3);
        const tern_tensor norm = FN_IN(kind->a, 1, 24), input = FN_IN(kind->a, 1, 7, 24);
        const tern_layer_weights whole = { .norm_w = norm,
                                           .attn_nw = norm,
                                           .attn_qkvw = qkv.given,
                                           .attn_ow = o.given,
                                           .inter_w = up.given,
                                           .output_w = down.given };
        tern_layer_weights parts = { .norm_w = norm, .attn_nw = norm, .attn_ow = o.raw, .output_w = down.raw };
        parts.attn_ow_scale = o.scale;
        parts.output_w_scale = down.scale;
        const struct {
            const struct dt_matrix *m;
            tern_tensor *w, *scale;
            size_t from, to;
        } part[] = { { &qkv, &parts.attn_qw, &parts.attn_qw_scale, 0, 24 },
                     { &qkv, &parts.attn_kw, &parts.attn_kw_scale, 24, 36 },
                     { &qkv, &parts.attn_vw, &parts.attn_vw_scale, 36, 48 },
                     { &up, &parts.inter_up_w, &parts.inter_up_w_scale, 0, 40 },
                     { &up, &parts.inter_gate_w, &parts.inter_gate_w_scale, 40, 80 } };
        for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
            *part[i].w = columns(part[i].m, 24, part[i].from, part[i].to);
            *part[i].scale = int8 ? t1((float *)part[i].m->scale.data + part[i].from, part[i].to - part[i].from) : none;
        }
        tern_tensor out[2];
        for (int way = 0; way < 2; way++) {
            tern_layer *layer;
            tern_kv_cache *cache;
            tern_kv_span span = { .n_rows = 7 };
            out[way] = narrowed(&input, kind->a);
            start(ctx, &b, &cache, &span.sequence);
            assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
            assert_ok(ctx, tern_layer_create(ctx, &b.config, NULL, NULL, way ? &parts : &whole, &layer));
            assert_ok(ctx, tern_layer_forward(ctx, layer, &out[way], cache, 0, &span, 1));
            tern_layer_destroy(&layer);
            tern_kv_cache_destroy(&cache);
        }
        fn_same(&out[1], out[0].data, kind->name);
        assert_true(memcmp(out[0].data, input.data, fn_elements(&input) * tern_dtype_size(kind->a)) != 0);
        struct dt_matrix *const all[] = { &qkv, &o, &up, &down };
        for (int i = 0; i < 4; i++)
            tern_weight_destroy(&all[i]->packed);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- what can be wrong ---- */

static void test_bad_layers(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct block b = {
        .form = PRE, .h = 24, .heads = 4, .kv_heads = 4, .inner = 40, .rows = 3, .biases = true, .act = TERN_GELU
    };
    tern_layer *layer = (tern_layer *)ctx;
    tern_layer_weights w;
    tern_config config;

    fill(&b);
#define BAD(change, status, part)                                                             \
    config = b.config;                                                                        \
    w = weights_of(&b);                                                                       \
    change;                                                                                   \
    assert_fails(ctx, tern_layer_create(ctx, &config, NULL, NULL, &w, &layer), status, part); \
    assert_null(layer)
    BAD(w.norm_w = tern_tensor_none(), TERN_ERR_ARG, "layer: norm_w is not there, expected [24]");
    BAD(w.attn_nw = tern_tensor_none(), TERN_ERR_ARG, "layer: attn_nw is not there, expected [24]");
    BAD(w.norm_w = t1(b.norm_w, 23), TERN_ERR_SHAPE, "layer: norm_w is [23], expected [24]");
    BAD(w.norm_b.data = NULL, TERN_ERR_ARG, "layer: norm_b has NULL data");
    BAD(w.inter_b = t1(b.ib, 39), TERN_ERR_SHAPE, "layer: inter_b is [39], expected [40]");
    BAD(w.output_b.dtype = TERN_INT8, TERN_ERR_DTYPE, "layer: output_b is int8, expected fp32, fp16 or bf16");
    BAD(w.attn_qkvw = tern_tensor_none(), TERN_ERR_SHAPE, "layer: attn_qkvw has rank -1");
    BAD(w.attn_qkvw = t2(b.qkvw, 24, 71), TERN_ERR_SHAPE, "24 in, 71 out, expected 24 in, 72 out");
    BAD(w.attn_ow = t2(b.ow, 23, 24), TERN_ERR_SHAPE, "layer: attn_ow is [23, 24]");
    BAD(w.inter_w = t2(b.iw, 24, 20), TERN_ERR_SHAPE, "expected 24 in, 40 out");
    BAD(w.output_w = t2(b.fw, 20, 24), TERN_ERR_SHAPE, "expected 40 in, 24 out");
    BAD(w.output_w.data = NULL, TERN_ERR_ARG, "layer: output_w has NULL data");
    BAD(config.dtype = TERN_BF16, TERN_ERR_DTYPE, "layer: attn_qkvw is fp32, expected bf16");
    BAD(config.dtype = TERN_FP16, TERN_ERR_DTYPE, "layer: attn_qkvw is fp32, expected fp16");
    BAD(config.dtype = TERN_INT8, TERN_ERR_DTYPE, "layer: attn_qkvw is fp32, expected a packed int8 weight");
    BAD(config.dtype = TERN_FP64, TERN_ERR_UNSUPPORTED, "dtype fp64");
    BAD((config.dtype = TERN_INT8, config.activation_dtype = TERN_INT8), TERN_ERR_UNSUPPORTED, "activation_dtype int8");
    BAD(config.hidden_size = 0, TERN_ERR_CONFIG, "hidden_size is 0");
    BAD(config.mp_size = 2, TERN_ERR_CONFIG, "comm is rank 0 of 1, expected mp_size = 2 ranks");
    BAD((config.pre_layer_norm = false, config.mlp_after_attn = false), TERN_ERR_UNSUPPORTED, "are both false");
    BAD(config.norm_type = TERN_RMS_NORM, TERN_ERR_ARG, "norm_b is given with RMSNorm");
    BAD((config.mlp_after_attn = false, w.attn_nw = tern_tensor_none()), TERN_ERR_ARG,
        "attn_nb is given without attn_nw");
#undef BAD
    w = weights_of(&b);
    assert_fails(ctx, tern_layer_create(ctx, NULL, NULL, NULL, &w, &layer), TERN_ERR_ARG, "config is NULL");
    assert_fails(ctx, tern_layer_create(ctx, &b.config, NULL, NULL, NULL, &layer), TERN_ERR_ARG, "weights is NULL");
    assert_fails(ctx, tern_layer_create(ctx, &b.config, NULL, NULL, &w, NULL), TERN_ERR_ARG, "out is NULL");

    /* And what a good layer can be given. */
    tern_kv_cache *cache, *other;
    tern_kv_span span = { .n_rows = 3 };
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 2, .head_dim = 6, .n_positions = 64, .n_sequences = 1, .n_context = 64
    };
    start(ctx, &b, &cache, &span.sequence);
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &other));
    assert_ok(ctx, tern_layer_create(ctx, &b.config, NULL, NULL, &w, &layer));
    float *x = test_poison(72);
    tern_tensor t = t2(x, 3, 24), narrow = t2(x, 3, 23);
    assert_fails(ctx, tern_layer_forward(ctx, layer, &t, cache, 0, &span, 1), TERN_ERR_STATE,
                 "tern_kv_reserve() comes first");
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_fails(ctx, tern_layer_forward(ctx, layer, &narrow, cache, 0, &span, 1), TERN_ERR_SHAPE,
                 "rows of 23 values, expected rows of 24");
    assert_fails(ctx, tern_layer_forward(ctx, layer, NULL, cache, 0, &span, 1), TERN_ERR_ARG, "x is NULL");
    assert_fails(ctx, tern_layer_forward(ctx, layer, &t, NULL, 0, &span, 1), TERN_ERR_ARG, "cache is NULL");
    assert_fails(ctx, tern_layer_forward(ctx, NULL, &t, cache, 0, &span, 1), TERN_ERR_ARG, "layer is NULL");
    assert_fails(ctx, tern_layer_forward(ctx, layer, &t, cache, 1, &span, 1), TERN_ERR_ARG,
                 "cache_layer is 1, expected 0..0");
    assert_fails(ctx, tern_layer_forward(ctx, layer, &t, other, 0, &span, 1), TERN_ERR_SHAPE,
                 "the cache has 2 heads of 6, expected 4 of 6");
    assert_fails(ctx, tern_layer_forward(ctx, layer, &t, cache, 0, &span, 0), TERN_ERR_ARG,
                 "the spans have 0 rows, expected 3");
    test_untouched(x, 72, "x");
    tern_layer_destroy(&layer);
    tern_layer_destroy(&layer);
    tern_layer_destroy(NULL);
    tern_kv_cache_destroy(&cache);
    tern_kv_cache_destroy(&other);
    tern_ctx_destroy(&ctx);
}

static void test_half_precision_weights(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct block b = {
        .form = PRE, .h = 8, .heads = 2, .kv_heads = 2, .inner = 12, .rows = 3, .biases = true, .act = TERN_GELU
    };

    fill(&b);
    /* Numbers that bf16 holds exactly, as fp32 and as bf16. */
    tern_layer_weights wide = weights_of(&b), narrow = wide;
    tern_tensor *const from = &wide.norm_w, *const to = &narrow.norm_w;
    for (size_t i = 0; i < sizeof wide / sizeof wide.norm_w; i++) {
        size_t n = 1;
        if (!from[i].data)
            continue;
        for (int d = 0; d < from[i].rank; d++)
            n *= (size_t)from[i].dim[d];
        uint32_t *bits = from[i].data;
        uint16_t *half = test_bytes(n * 2);
        for (size_t j = 0; j < n; j++) {
            bits[j] &= 0xffff0000u;
            half[j] = (uint16_t)(bits[j] >> 16);
        }
        to[i].data = half;
        to[i].dtype = TERN_BF16;
    }
    float *x[2];
    for (int i = 0; i < 2; i++) {
        tern_kv_cache *cache;
        tern_layer *layer;
        tern_kv_span span = { .n_rows = 3 };
        start(ctx, &b, &cache, &span.sequence);
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_layer_create(ctx, &b.config, NULL, NULL, i ? &narrow : &wide, &layer));
        x[i] = test_copy(b.x, 24);
        tern_tensor t = t2(x[i], 3, 8);
        assert_ok(ctx, tern_layer_forward(ctx, layer, &t, cache, 0, &span, 1));
        tern_layer_destroy(&layer);
        tern_kv_cache_destroy(&cache);
    }
    test_equal(x[0], x[1], 24, "layer with bf16 weights");
    tern_ctx_destroy(&ctx);
}

static void test_self(void **state)
{
    (void)state;
    const tern_comm *self = tern_comm_self();
    float x[3] = { 1, 2, 3 }, y[3];

    assert_int_equal(self->rank, 0);
    assert_int_equal(self->size, 1);
    assert_int_equal(self->all_reduce(self->user, x, 3), TERN_OK);
    assert_int_equal(self->all_gather(self->user, x, y, 3), TERN_OK);
    assert_int_equal(self->broadcast(self->user, x, sizeof x, 0), TERN_OK);
    assert_int_equal(self->barrier(self->user), TERN_OK);
    assert_true(x[0] == 1 && x[2] == 3 && memcmp(x, y, sizeof x) == 0);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);
    struct block b = {
        .form = PRE, .h = 8, .heads = 2, .kv_heads = 2, .inner = 12, .rows = 3, .biases = true, .act = TERN_GELU
    };
    tern_layer *layer = NULL;
    tern_kv_cache *cache;
    tern_kv_span span = { .n_rows = 3 };

    fill(&b);
    const tern_layer_weights w = weights_of(&b);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_layer_create(ctx, &b.config, NULL, NULL, &w, &layer);
        FAULT_DONE(n, ctx, status, layer);
        tern_layer_destroy(&layer);
    }
    start(ctx, &b, &cache, &span.sequence);
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    float *x = test_copy(b.x, 24);
    tern_tensor t = t2(x, 3, 8);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_layer_forward(ctx, layer, &t, cache, 0, &span, 1);
        FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
        test_equal(x, b.x, 24, "x after an error");
    }
    tern_layer_destroy(&layer);
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_forms),
        OP_TEST(test_same_bits_everywhere),
        OP_TEST(test_two_ranks),
        OP_TEST(test_dtypes),
        OP_TEST(test_quantised_weights),
        OP_TEST(test_same_bits_in_dtypes),
        OP_TEST(test_raw_matrices_in_parts),
        OP_TEST(test_bad_layers),
        OP_TEST(test_half_precision_weights),
        OP_TEST(test_self),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("modules/layer", tests, NULL, NULL);
}
