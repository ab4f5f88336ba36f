/* labels: threads */
/* test_invariance.c: the bits of a score depend on the tokens before it and on nothing else: not on the chunks in which
 * they came, not on what else was in the step, not on threads, not on the instruction set (but for bf16's products by
 * avx512bf16, which have bits of their own). */
#include "checkpoint.h"

#define N 100 /* tokens: beyond one block of the cache */

static const char *const levels[] = { "portable", "neon", "avx2", "avx512", "avx512vnni", "avx512bf16" };
static const struct {
    const char *name;
    tern_model_dtype dtype;
} models[] = {
    { "gpt2-tiny-fp32", TERN_MODEL_AUTO }, { "gpt2-tiny-fp16", TERN_MODEL_AUTO }, { "gpt2-tiny-bf16", TERN_MODEL_AUTO },
    { "gpt2-tiny-fp32", TERN_MODEL_BF16 }, { "gpt2-tiny-bf16", TERN_MODEL_BF16 }, { "gpt2-tiny-bf16", TERN_MODEL_INT8 }
}; /* head widths 12, 16, 20 */

static tern_model *open_model(tern_ctx *ctx, size_t m)
{
    tern_model_options options = tern_model_options_default();
    tern_model *model;

    options.dtype = models[m].dtype;
    assert_ok(ctx, tern_model_open(ctx, test_golden(models[m].name), &options, &model));
    return model;
}

struct answer {
    size_t V, S;   /* columns of a row of scores; of all hidden states of a token */
    float *logits; /* [N][V] */
    float *hidden; /* [N][S]: states in order */
};

static struct answer answer_create(const struct runner *r)
{
    struct answer a = { .V = r->V, .S = (r->L + 2) * r->H };

    a.logits = calloc(N * a.V, sizeof *a.logits);
    a.hidden = calloc(N * a.S, sizeof *a.hidden);
    assert_true(a.logits && a.hidden);
    return a;
}

static void answer_free(struct answer *a)
{
    free(a->logits);
    free(a->hidden);
}

static void ids_fill(int32_t *ids, size_t n, uint64_t seed, int32_t vocab)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(test_random(&seed) % (uint64_t)vocab);
}

/* One step of up to three sequences; what span `mine` gave goes to rows [at, ..) of the answer. */
static void step(struct runner *r, tern_kv_span *spans, size_t n_spans, const int32_t *ids, size_t mine,
                 struct answer *a, size_t at)
{
    size_t n_rows = 0;

    for (size_t i = 0; i < n_spans; i++)
        n_rows += (size_t)spans[i].n_rows;
    float *logits = malloc(n_rows * r->V * sizeof *logits),
          *hidden = malloc((r->L + 2) * n_rows * r->H * sizeof *hidden);
    assert_true(logits && hidden);
    assert_ok(r->ctx, runner_step(r, spans, n_spans, ids, logits, hidden, NULL));

    const size_t first = (size_t)spans[mine].row, n = (size_t)spans[mine].n_rows;
    memcpy(a->logits + at * a->V, logits + first * r->V, n * r->V * sizeof *logits);
    for (size_t t = 0; t < n; t++)
        for (size_t s = 0; s < r->L + 2; s++)
            memcpy(a->hidden + (at + t) * a->S + s * r->H, hidden + (s * n_rows + first + t) * r->H,
                   r->H * sizeof *hidden);
    free(logits);
    free(hidden);
}

/* The sequence in chunks of `chunk`. */
static struct answer run_chunks(tern_ctx *ctx, const tern_model *model, const int32_t *ids, size_t chunk)
{
    struct runner r = runner_create(ctx, model, chunk, 1);
    struct answer a = answer_create(&r);
    tern_kv_span span = { 0 };

    assert_ok(ctx, tern_kv_sequence_add(ctx, r.cache, &span.sequence));
    for (size_t at = 0; at < N; at += chunk) {
        span.n_rows = (int32_t)(N - at < chunk ? N - at : chunk);
        step(&r, &span, 1, ids + at, 0, &a, at);
    }
    runner_destroy(&r);
    return a;
}

/* The sequence in chunks of changing size between two others, one that decodes and one that reads long chunks. */
static struct answer run_beside(tern_ctx *ctx, const tern_model *model, const int32_t *ids, bool whole)
{
    static const int32_t chunks[] = { 1, 7, 14, 30, 3, 1, 44 };
    struct runner r = runner_create(ctx, model, 3 * N + 12, 3);
    struct answer a = answer_create(&r);
    tern_kv_span spans[3] = { 0 };
    int32_t *all = malloc((3 * N + 12) * sizeof *all);
    size_t at = 0;

    assert_non_null(all);
    for (size_t i = 0; i < 3; i++)
        assert_ok(ctx, tern_kv_sequence_add(ctx, r.cache, &spans[i].sequence));
    for (size_t i = 0; at < N; i++) {
        const int32_t n = whole ? N : chunks[i];
        spans[0].n_rows = whole ? 108 : 1;
        spans[1].n_rows = n;
        spans[2].n_rows = whole ? 97 : 15;
        ids_fill(all, 3 * N + 12, 1000 + i, (int32_t)r.V);
        memcpy(all + spans[0].n_rows, ids + at, (size_t)n * sizeof *ids);
        step(&r, spans, 3, all, 1, &a, at);
        at += (size_t)n;
    }
    assert_int_equal(at, N);
    free(all);
    runner_destroy(&r);
    return a;
}

static void expect_same(struct answer *got, const struct answer *want, size_t m, const char *level, int threads,
                        const char *how, size_t size)
{
    char model[64];

    snprintf(model, sizeof model, "%s as %s", models[m].name, tern_model_dtype_name(models[m].dtype));
    for (size_t t = 0; t < N; t++) {
        if (memcmp(got->hidden + t * want->S, want->hidden + t * want->S, want->S * sizeof(float)) != 0)
            fail_msg("%s, %s, %d threads, %s %zu: hidden states of token %zu have other bits", model, level, threads,
                     how, size, t);
        if (memcmp(got->logits + t * want->V, want->logits + t * want->V, want->V * sizeof(float)) != 0)
            fail_msg("%s, %s, %d threads, %s %zu: scores after token %zu have other bits", model, level, threads, how,
                     size, t);
    }
    answer_free(got);
}

static void test_same_bits(void **state)
{
    /* The first ones with every number of threads, all of them with one. */
    static const size_t chunks[] = { 100, 1, 7, 65, 2, 3, 5, 8, 13, 14, 15, 28, 29, 31, 32, 33, 63, 64, 99 };
    const size_t n_all = TEST_TSAN ? 4 : sizeof chunks / sizeof chunks[0];
    int32_t ids[N];

    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct answer want = { 0 };

        for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++)
            for (int threads = 1; threads <= 3; threads++) {
                tern_ctx_options options = tern_ctx_options_default();
                tern_ctx *ctx;
                char message[256];

                options.n_threads = threads;
                options.cpu = levels[l];
                if (tern_ctx_create(&ctx, &options, message, sizeof message) != TERN_OK) {
                    test_say_skip("level %s: %s", levels[l], message);
                    break;
                }
                tern_model *model = open_model(ctx, m);
                ids_fill(ids, N, 42 + m, tern_model_get_config(model)->vocab_size);
                if (threads == 1 && models[m].dtype == TERN_MODEL_BF16 && strcmp(levels[l], "avx512bf16") == 0) {
                    answer_free(&want);
                    want = (struct answer){ 0 };
                }
                if (!want.logits)
                    want = run_chunks(ctx, model, ids, N);
                for (size_t c = 0; c < (threads == 1 ? n_all : 4); c++) {
                    struct answer got = run_chunks(ctx, model, ids, chunks[c]);
                    expect_same(&got, &want, m, levels[l], threads, "chunks of", chunks[c]);
                }
                for (int whole = 0; whole < 2; whole++) {
                    struct answer got = run_beside(ctx, model, ids, whole);
                    expect_same(&got, &want, m, levels[l], threads, "beside others, whole", (size_t)whole);
                }
                tern_model_close(&model);
                tern_ctx_destroy(&ctx);
            }
        answer_free(&want);
    }
}

/* Scores of a few rows are those rows of all scores; hidden states are a by-product. */
static void test_some_rows(void **state)
{
    static const int32_t rows[] = { 0, 3, 4, 98, 99 };
    tern_ctx *ctx = test_ctx(2);
    tern_model *model = open_model(ctx, 0);
    int32_t ids[N], positions[N];

    (void)state;
    ids_fill(ids, N, 7, tern_model_get_config(model)->vocab_size);
    for (int32_t i = 0; i < N; i++)
        positions[i] = i;
    struct answer want = run_chunks(ctx, model, ids, N);
    struct runner r = runner_create(ctx, model, N, 1);
    tern_kv_span span = { .n_rows = N };
    float *logits = malloc(5 * r.V * sizeof *logits);
    assert_non_null(logits);
    struct tern_batch batch = { .ids = ids,
                                .positions = positions,
                                .kv = { .cache = r.cache, .spans = &span, .n_spans = 1, .n_rows = N },
                                .logit_rows = rows,
                                .n_logits = 5,
                                .logits = logits };

    assert_ok(ctx, tern_kv_sequence_add(ctx, r.cache, &span.sequence));
    assert_ok(ctx, tern_kv_reserve(ctx, r.cache, &span, 1));
    assert_ok(ctx, tern_model_forward(ctx, model, &batch, &r.work));
    for (size_t i = 0; i < 5; i++)
        assert_memory_equal(logits + i * r.V, want.logits + (size_t)rows[i] * r.V, r.V * sizeof *logits);
    batch.n_logits = 0; /* again, without any */
    batch.logits = NULL;
    assert_ok(ctx, tern_model_forward(ctx, model, &batch, &r.work));
    free(logits);
    answer_free(&want);
    runner_destroy(&r);
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
}

static void test_cancel(void **state)
{
    int32_t ids[N];

    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        tern_model *model = open_model(ctx, 0);
        atomic_bool cancel;

        atomic_init(&cancel, true);
        ids_fill(ids, N, 7, tern_model_get_config(model)->vocab_size);
        struct answer want = run_chunks(ctx, model, ids, N);
        struct runner r = runner_create(ctx, model, N, 1);
        tern_kv_span span = { .n_rows = N };
        float *logits = malloc(N * r.V * sizeof *logits);
        assert_non_null(logits);

        assert_ok(ctx, tern_kv_sequence_add(ctx, r.cache, &span.sequence));
        assert_fails(ctx, runner_step(&r, &span, 1, ids, logits, NULL, &cancel), TERN_ERR_CANCELLED, "cancelled");
        assert_int_equal(tern_kv_sequence_length(r.cache, span.sequence), 0);
        atomic_store(&cancel, false);
        assert_ok(ctx, runner_step(&r, &span, 1, ids, logits, NULL, &cancel));
        assert_memory_equal(logits, want.logits, N * r.V * sizeof *logits);
        free(logits);
        answer_free(&want);
        runner_destroy(&r);
        tern_model_close(&model);
        tern_ctx_destroy(&ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_bits), cmocka_unit_test(test_some_rows),
                                        cmocka_unit_test(test_cancel) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
