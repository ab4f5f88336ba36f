/* test_attention.c: softmax_context: rotary, cache, masks and windows against f64, and the same bits however a sequence is cut. */
/* labels: quick threads */
#include "ops/op_testing.h"

#define MAX_SEQUENCES 4

/* Sequences that attend each to itself, and how they are fed. */
struct scene {
    tern_config config;
    size_t n_sequences, length[MAX_SEQUENCES];
    float *qkv[MAX_SEQUENCES];  /* [length][width] */
    float *mask[MAX_SEQUENCES]; /* [length][longest] or NULL */
    float *alibi;               /* [h] or NULL */
    size_t heads, kv_heads, head_dim;
    size_t chunk; /* tokens of each sequence in one call */
};

static size_t width(const struct scene *s)
{
    return (s->heads + 2 * s->kv_heads) * s->head_dim;
}

static size_t longest(const struct scene *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_sequences; i++)
        n = s->length[i] > n ? s->length[i] : n;
    return n;
}

static struct scene scene(size_t heads, size_t kv_heads, size_t head_dim, size_t n_sequences, const size_t *length)
{
    struct scene s = { .config = test_config(),
                       .n_sequences = n_sequences,
                       .heads = heads,
                       .kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .chunk = 1000000 };

    s.config.hidden_size = (int64_t)(heads * head_dim);
    s.config.heads = (int32_t)heads;
    s.config.num_kv = (int32_t)kv_heads;
    for (size_t i = 0; i < n_sequences; i++) {
        s.length[i] = length[i];
        s.qkv[i] = test_floats(length[i] * width(&s), 1.5f);
    }
    return s;
}

/* All contexts, one sequence after the other. */
static void run_scene(void *arg, tern_ctx *ctx, float *out)
{
    const struct scene *s = arg;
    const size_t w = width(s), n = s->heads * s->head_dim, stride = longest(s);
    const tern_kv_shape shape = { .n_layers = 2,
                                  .n_kv_heads = (int32_t)s->kv_heads,
                                  .head_dim = (int32_t)s->head_dim,
                                  .n_positions = 64 * 60,
                                  .n_sequences = MAX_SEQUENCES,
                                  .n_context = 2000 };
    size_t done[MAX_SEQUENCES] = { 0 }, total = 0, before[MAX_SEQUENCES];
    int32_t ids[MAX_SEQUENCES];
    tern_kv_cache *cache;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (size_t i = 0; i < s->n_sequences; i++) {
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &ids[i]));
        before[i] = total;
        total += s->length[i];
    }
    float *qkv = malloc(total * w * 4 + 4), *context = malloc(total * n * 4 + 4),
          *mask = malloc(total * stride * 4 + 4);
    for (;;) {
        tern_kv_span spans[MAX_SEQUENCES];
        size_t rows = 0, n_spans = 0;
        for (size_t i = 0; i < s->n_sequences; i++) {
            const size_t left = s->length[i] - done[i], take = left < s->chunk ? left : s->chunk;
            if (take == 0)
                continue;
            spans[n_spans++] = (tern_kv_span){ ids[i], (int32_t)rows, (int32_t)take, (int64_t)done[i] };
            memcpy(qkv + rows * w, s->qkv[i] + done[i] * w, take * w * 4);
            if (s->mask[0])
                memcpy(mask + rows * stride, s->mask[i] + done[i] * stride, take * stride * 4);
            rows += take;
        }
        if (rows == 0)
            break;
        tern_tensor in = t2(qkv, rows, w), output = t3(context, 1, rows, n);
        const tern_tensor m = t2(mask, rows, stride), alibi = t1(s->alibi, s->heads);
        assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, n_spans));
        assert_ok(ctx, tern_softmax_context(ctx, &s->config, NULL, &in, s->mask[0] ? &m : NULL,
                                            s->alibi ? &alibi : NULL, cache, 1, spans, n_spans, &output));
        assert_ok(ctx, tern_kv_commit(ctx, cache, spans, n_spans));
        for (size_t k = 0, i = 0; k < n_spans; k++, i++) {
            while (ids[i] != spans[k].sequence)
                i++;
            memcpy(out + (before[i] + done[i]) * n, context + (size_t)spans[k].row * n,
                   (size_t)spans[k].n_rows * n * 4);
            done[i] += (size_t)spans[k].n_rows;
        }
    }
    free(qkv);
    free(context);
    free(mask);
    tern_kv_cache_destroy(&cache);
}

static struct naive_attention naive_of(const struct scene *s, size_t sequence)
{
    const tern_config *c = &s->config;
    struct naive_attention a = {
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .causal = c->triangular_masking,
        .window = c->local_attention ? (size_t)c->window_size : 0,
        .scale = 1,
        .rotary_dim = c->rotary_dim > 0 ? (size_t)c->rotary_dim : 0,
        .neighbours = !c->rotate_half,
        .theta = c->rope_theta,
        .alibi = s->alibi,
        .mask = s->mask[sequence],
        .mask_stride = longest(s),
    };

    if (c->scale_attention)
        a.scale = (c->use_mup ? 1.0 / (double)s->head_dim : 1 / sqrt((double)s->head_dim)) /
                  (c->scale_attn_by_inverse_layer_idx ? c->layer_id + 1.0 : 1.0);
    return a;
}

/* The scene whole against f64; then in chunks, alone and with the definition. */
static void check_scene(tern_ctx *ctx, struct scene *s, double bound)
{
    const size_t n = s->heads * s->head_dim;
    size_t total = 0, at = 0;

    for (size_t i = 0; i < s->n_sequences; i++)
        total += s->length[i];
    float *whole = test_poison(total * n), *other = test_poison(total * n);
    double *wanted = test_doubles(total * n);
    run_scene(s, ctx, whole);
    for (size_t i = 0; i < s->n_sequences; i++) {
        const struct naive_attention a = naive_of(s, i);
        const double *want = naive_attention(&a, s->qkv[i], s->length[i]);
        memcpy(wanted + at * n, want, s->length[i] * n * sizeof *want);
        test_near(whole + at * n, want, s->length[i] * n, bound, "attention");
        at += s->length[i];
    }

    s->config.kernel = TERN_KERNEL_REFERENCE;
    run_scene(s, ctx, other);
    test_near(other, wanted, total * n, bound, "attention, the definition");
    s->config.kernel = TERN_KERNEL_AUTO;

    if (!s->config.triangular_masking) /* then a chunk sees what is there, not what comes */
        return;
    static const size_t chunks[] = { 1, 5, 64, 100 };
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        s->chunk = chunks[c];
        run_scene(s, ctx, other);
        test_equal(other, whole, total * n, "attention in chunks");
    }
    s->chunk = 1000000;

    at = 0;
    for (size_t i = 0; i < s->n_sequences && !s->mask[0]; i++) {
        struct scene one = *s;
        one.n_sequences = 1;
        one.length[0] = s->length[i];
        one.qkv[0] = s->qkv[i];
        run_scene(&one, ctx, other);
        test_equal(other, whole + at * n, s->length[i] * n, "attention alone");
        at += s->length[i];
    }
}

static void test_shapes(void **state)
{
    (void)state;
    static const size_t shapes[][3] = { { 1, 1, 1 },  { 3, 3, 5 },   { 4, 2, 16 }, { 12, 1, 33 },
                                        { 2, 2, 64 }, { 10, 5, 20 }, { 1, 1, 257 } };
    static const size_t lengths[][4] = { { 1, 2, 3, 9 }, { 64, 65, 1, 130 }, { 70, 8, 16, 17 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t l = 0; l < 3; l++) {
            struct scene s = scene(shapes[i][0], shapes[i][1], shapes[i][2], 1 + l + (i & 1), lengths[l]);
            check_scene(ctx, &s, 3e-6);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

static void test_options(void **state)
{
    (void)state;
    static const size_t lengths[] = { 70, 33 };
    tern_ctx *ctx = test_ctx(3);

    for (int kind = 0; kind < 128; kind++) {
        struct scene s = scene(4, 2, 24, 2, lengths);
        s.config.triangular_masking = !(kind & 1);
        s.config.local_attention = kind & 2;
        s.config.window_size = kind & 4 ? 1 : 20;
        if (kind & 8) {
            s.config.rotary_dim = kind & 4 ? 24 : 10;
            s.config.rotate_half = kind & 16;
            s.config.rope_theta = kind & 2 ? 500000.0f : 10000.0f;
        }
        s.config.scale_attention = kind & 32 ? (kind & 64) != 0 : true;
        s.config.use_mup = kind & 16;
        s.config.scale_attn_by_inverse_layer_idx = kind & 64;
        s.config.layer_id = 3;
        if (!s.config.scale_attention)
            for (size_t i = 0; i < s.n_sequences; i++) /* scores of reasonable size without a scale */
                for (size_t j = 0; j < s.length[i] * width(&s); j++)
                    s.qkv[i][j] *= 0.4f;
        if (kind & 32)
            s.alibi = test_floats(4, 0.1f);
        if (kind & 64)
            for (size_t i = 0; i < 2; i++) {
                s.mask[i] = test_floats(s.length[i] * longest(&s), 1);
                for (size_t j = 0; j < s.length[i] * longest(&s); j += 7)
                    s.mask[i][j] = -INFINITY;
            }
        check_scene(ctx, &s, 6e-6);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

/* Beyond the positions between two rescalings. */
static void test_long(void **state)
{
    (void)state;
    static const size_t lengths[] = { 1100 };
    tern_ctx *ctx = test_ctx(2);
    struct scene s = scene(2, 1, 8, 1, lengths);

    s.config.rotary_dim = 8;
    s.config.rotate_half = true;
    check_scene(ctx, &s, 6e-6);
    s.config.local_attention = true;
    s.config.window_size = 530;
    check_scene(ctx, &s, 6e-6);
    tern_ctx_destroy(&ctx);
}

static void test_same_bits_everywhere(void **state)
{
    (void)state;
    static const size_t lengths[] = { 70, 3, 130 };
    struct scene s = scene(6, 2, 20, 3, lengths);

    s.config.rotary_dim = 20;
    s.config.rotate_half = true;
    test_same_bits(run_scene, &s, (70 + 3 + 130) * 120);
    s.chunk = 9;
    s.config.rotate_half = false;
    test_same_bits(run_scene, &s, (70 + 3 + 130) * 120);
}

/* A row whose keys are all hidden gives zeros. */
static void test_nothing_seen(void **state)
{
    (void)state;
    static const size_t lengths[] = { 9 };
    tern_ctx *ctx = test_ctx(1);
    struct scene s = scene(2, 2, 8, 1, lengths);
    float *out = test_poison(9 * 16);

    s.mask[0] = test_floats(81, 1);
    for (size_t j = 0; j < 9; j++)
        s.mask[0][4 * 9 + j] = -INFINITY;
    run_scene(&s, ctx, out);
    for (size_t i = 0; i < 9 * 16; i++)
        assert_true(i / 16 == 4 ? out[i] == 0 : isfinite(out[i]) && out[i] != 0);
    tern_ctx_destroy(&ctx);
}

/* A NaN in one sequence, or in a later token, stays where it is seen. */
static void test_nan_stays(void **state)
{
    (void)state;
    static const size_t lengths[] = { 40, 30 };
    tern_ctx *ctx = test_ctx(2);
    struct scene s = scene(2, 2, 8, 2, lengths);
    float *clean = test_poison(70 * 16), *out = test_poison(70 * 16);

    run_scene(&s, ctx, clean);
    for (size_t c = 0; c < width(&s); c++)
        s.qkv[0][20 * width(&s) + c] = c % 2 ? NAN : INFINITY;
    run_scene(&s, ctx, out);
    test_equal(out, clean, 20 * 16, "before the NaN");
    test_equal(out + 40 * 16, clean + 40 * 16, 30 * 16, "the other sequence");
    for (size_t i = 20 * 16; i < 40 * 16; i++)
        assert_true(isnan(out[i]));
    tern_ctx_destroy(&ctx);
}

/* Forks share what they have in common and go their own ways; a sequence that is cut and continued is as if it had
 * never been longer; blocks of sequences that ended serve new ones. */
static void test_fork_truncate_reuse(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);
    const size_t lengths[] = { 200 }, n = 16;
    struct scene s = scene(2, 1, 8, 1, lengths);
    const size_t w = width(&s);
    float *want = test_poison(200 * n), *out = test_poison(200 * n), *qkv = test_copy(s.qkv[0], 200 * w),
          *junk = test_floats(60 * w, 5);
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 1, .head_dim = 8, .n_positions = 64 * 5, .n_sequences = 3, .n_context = 300
    };
    tern_kv_cache *cache;
    int32_t a, b;

    run_scene(&s, ctx, want);
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (int round = 0; round < 3; round++) {
        memcpy(qkv, s.qkv[0], 200 * w * 4);
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
        tern_tensor in = t2(qkv, 100, w), o = t2(out, 100, n);
        tern_kv_span span = { .sequence = a, .n_rows = 100 };
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_softmax_context(ctx, &s.config, NULL, &in, NULL, NULL, cache, 0, &span, 1, &o));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));

        /* The fork goes elsewhere, is cut back, and then both read on. */
        assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &b));
        float *j = test_copy(junk, 60 * w), *jo = test_poison(60 * n);
        in = t2(j, 60, w), o = t2(jo, 60, n);
        span = (tern_kv_span){ .sequence = b, .n_rows = 60, .position = 100 };
        assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
        assert_ok(ctx, tern_softmax_context(ctx, &s.config, NULL, &in, NULL, NULL, cache, 0, &span, 1, &o));
        assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
        assert_ok(ctx, tern_kv_sequence_truncate(ctx, cache, b, 90));

        float *both = test_bytes(210 * w * 4), *bo = test_poison(210 * n);
        memcpy(both, s.qkv[0] + 90 * w, 30 * w * 4);
        memcpy(both + 30 * w, s.qkv[0] + 100 * w, 92 * w * 4);
        const tern_kv_span spans[2] = { { .sequence = b, .n_rows = 30, .position = 90 },
                                        { .sequence = a, .row = 30, .n_rows = 92, .position = 100 } };
        in = t2(both, 122, w), o = t2(bo, 122, n);
        assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, 2));
        assert_ok(ctx, tern_softmax_context(ctx, &s.config, NULL, &in, NULL, NULL, cache, 0, spans, 2, &o));
        assert_ok(ctx, tern_kv_commit(ctx, cache, spans, 2));
        test_equal(out, want, 100 * n, "the first tokens");
        test_equal(bo, want + 90 * n, 30 * n, "a fork that was cut");
        test_equal(bo + 30 * n, want + 100 * n, 92 * n, "the sequence that was forked");
        assert_ok(ctx, tern_kv_sequence_remove(ctx, cache, a));
        assert_ok(ctx, tern_kv_sequence_remove(ctx, cache, b));
        assert_int_equal(tern_kv_cache_free_positions(cache), 320);
    }
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

/* Without an output the cache is written all the same. */
static void test_store_only(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const size_t lengths[] = { 20 }, n = 16;
    struct scene s = scene(2, 2, 8, 1, lengths);
    const size_t w = width(&s);
    float *want = test_poison(20 * n), *out = test_poison(n), *qkv = test_copy(s.qkv[0], 20 * w);
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 2, .head_dim = 8, .n_positions = 64, .n_sequences = 1, .n_context = 64
    };
    tern_kv_cache *cache;
    int32_t a;

    run_scene(&s, ctx, want);
    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    tern_tensor in = t2(qkv, 19, w), last = t2(qkv + 19 * w, 1, w), o = t2(out, 1, n);
    tern_kv_span span = { .sequence = a, .n_rows = 19 };
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_ok(ctx, tern_softmax_context(ctx, &s.config, NULL, &in, NULL, NULL, cache, 0, &span, 1, NULL));
    assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    span = (tern_kv_span){ .sequence = a, .n_rows = 1, .position = 19 };
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_ok(ctx, tern_softmax_context(ctx, &s.config, NULL, &last, NULL, NULL, cache, 0, &span, 1, &o));
    test_equal(out, want + 19 * n, n, "the last token");
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

/* What only this operator can be given wrong. */
static void test_bad_calls(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    const size_t lengths[] = { 4 }, n = 16;
    struct scene s = scene(2, 2, 8, 1, lengths);
    const size_t w = width(&s);
    const tern_kv_shape shape = {
        .n_layers = 1, .n_kv_heads = 2, .head_dim = 8, .n_positions = 640, .n_sequences = 2, .n_context = 100
    };
    float *out = test_poison(4 * n), *m = test_floats(64, 1);
    tern_tensor in = t2(s.qkv[0], 4, w), o = t2(out, 4, n);
    tern_kv_cache *cache;
    int32_t a, b;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &a));
    tern_kv_span span = { .sequence = a, .n_rows = 4 };
#define CALL(cache, layer, spans, n_spans) \
    tern_softmax_context(ctx, &s.config, NULL, &in, NULL, NULL, cache, layer, spans, n_spans, &o)
    assert_fails(ctx, CALL(cache, 0, &span, 1), TERN_ERR_STATE, "room for 0 positions, the span ends at 4");
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_fails(ctx, CALL(NULL, 0, &span, 1), TERN_ERR_ARG, "cache is NULL");
    assert_fails(ctx, CALL(cache, 1, &span, 1), TERN_ERR_ARG, "layer is 1, expected 0..0");
    assert_fails(ctx, CALL(cache, -1, &span, 1), TERN_ERR_ARG, "layer is -1, expected 0..0");
    assert_fails(ctx, CALL(cache, 0, NULL, 1), TERN_ERR_ARG, "spans is NULL");
    assert_fails(ctx, CALL(cache, 0, NULL, 0), TERN_ERR_ARG, "the spans have 0 rows, expected 4");
    span.n_rows = 3;
    assert_fails(ctx, CALL(cache, 0, &span, 1), TERN_ERR_ARG, "the spans have 3 rows, expected 4");
    span.row = 1;
    assert_fails(ctx, CALL(cache, 0, &span, 1), TERN_ERR_ARG, "begins at row 1, expected row 0");
    span = (tern_kv_span){ .sequence = 1, .n_rows = 4 };
    assert_fails(ctx, CALL(cache, 0, &span, 1), TERN_ERR_ARG, "no sequence 1");
    span.sequence = a;
    const tern_kv_span twice[2] = { { .sequence = a, .n_rows = 2 }, { .sequence = a, .row = 2, .n_rows = 2 } };
    assert_fails(ctx, CALL(cache, 0, twice, 2), TERN_ERR_ARG, "named twice");
    assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
    assert_ok(ctx, tern_kv_sequence_fork(ctx, cache, a, &b));
    span.position = 4;
    assert_fails(ctx, CALL(cache, 0, &span, 1), TERN_ERR_STATE, "shares its positions from 0 on");
    span.position = 0;
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));

    const tern_tensor narrow = t2(m, 4, 3), few = t2(m, 3, 4), wide = t1(m, 3);
    assert_fails(ctx, tern_softmax_context(ctx, &s.config, NULL, &in, &narrow, NULL, cache, 0, &span, 1, &o),
                 TERN_ERR_SHAPE,
                 "mask is [4, 3], expected [n], [T|B|1, n] or [B|1, h|1, S|1, n] with T = 4 rows, B = 1 spans, h = 2, "
                 "S = 4, n 1 or at least 4");
    assert_fails(ctx, tern_softmax_context(ctx, &s.config, NULL, &in, &few, NULL, cache, 0, &span, 1, &o),
                 TERN_ERR_SHAPE, "mask is [3, 4]");
    assert_fails(ctx, tern_softmax_context(ctx, &s.config, NULL, &in, NULL, &wide, cache, 0, &span, 1, &o),
                 TERN_ERR_SHAPE, "alibi is [3], expected [2]");
    s.config.num_kv = 1;
    in = t2(s.qkv[0], 4, 32);
    assert_fails(ctx, CALL(cache, 0, &span, 1), TERN_ERR_SHAPE, "the cache has 2 heads of 8, expected 1 of 8");
#undef CALL
    test_untouched(out, 4 * n, "output");
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_shapes),
        OP_TEST(test_options),
        OP_TEST(test_long),
        OP_TEST(test_same_bits_everywhere),
        OP_TEST(test_nothing_seen),
        OP_TEST(test_nan_stays),
        OP_TEST(test_fork_truncate_reuse),
        OP_TEST(test_store_only),
        OP_TEST(test_bad_calls),
    };
    return cmocka_run_group_tests_name("ops/attention", tests, NULL, NULL);
}
