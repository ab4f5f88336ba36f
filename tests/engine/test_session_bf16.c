/* test_session_bf16.c: a session in bf16 gives the same bits whatever is beside a row in its step, however a prompt is cut, and with
 * any number of threads. */
/* labels: quick threads */
#include "engine_testing.h"

static const struct {
    const char *directory;
    tern_model_dtype dtype;
} models[] = {
    { "gpt2-tiny-bf16", TERN_MODEL_BF16 }, /* bf16 arithmetic from weights that are bf16 */
    { "gpt2-tiny-fp32", TERN_MODEL_BF16 }, /* from weights that are rounded to it */
    { "gpt2-tiny-bf16", TERN_MODEL_AUTO }, /* bf16 panels, fp32 arithmetic */
};
#define N_MODELS (sizeof models / sizeof models[0])

/* A model on a context, and the scores of each golden sequence read in one step, alone. */
struct reading {
    tern_ctx *ctx;
    tern_model *model;
    const struct golden *golden;
    const char *what;
    size_t n_scores;
    float *truth[GOLDEN_PROMPTS];
};

static tern_session *new_session(const struct reading *r, int32_t n_sequences, size_t max_batch)
{
    tern_session_options options = tern_session_options_default();
    tern_session *session;

    options.n_sequences = n_sequences;
    options.max_batch = options.max_logits = (int32_t)max_batch;
    assert_ok(r->ctx, tern_session_create(r->ctx, r->model, &options, &session));
    return session;
}

static void same(const struct reading *r, const float *got, size_t prompt, size_t position, const char *how)
{
    const size_t bytes = r->n_scores * sizeof *got;

    assert_non_null(got);
    if (memcmp(got, r->truth[prompt] + position * r->n_scores, bytes) != 0)
        fail_msg("%s, %s, %d threads: prompt %zu: scores after position %zu have other bits", r->what, how,
                 tern_ctx_threads(r->ctx), prompt, position);
}

/* Scores of a whole sequence, read in chunks. */
static float *read_alone(const struct reading *r, size_t prompt, size_t chunk)
{
    const size_t n = r->golden->n_ids[prompt], v = r->n_scores;
    tern_session *session = new_session(r, 1, chunk);
    float *scores = malloc(n * v * sizeof *scores);
    int32_t sequence;

    assert_non_null(scores);
    assert_ok(r->ctx, tern_sequence_add(session, &sequence));
    for (size_t done = 0, k; done < n; done += k) {
        k = n - done < chunk ? n - done : chunk;
        const tern_row row = { sequence, r->golden->ids[prompt] + done, (int32_t)k, TERN_LOGITS_ALL };
        assert_ok(r->ctx, tern_session_step(session, &row, 1));
        for (size_t i = 0; i < k; i++)
            memcpy(scores + (done + i) * v, tern_session_logits(session, 0, (int32_t)i), v * sizeof *scores);
    }
    tern_session_destroy(&session);
    return scores;
}

static void check_chunks(const struct reading *r, const size_t *chunks, size_t n)
{
    for (size_t p = 0; p < GOLDEN_PROMPTS; p++)
        for (size_t c = 0; c < n; c++) {
            float *scores = read_alone(r, p, chunks[c]);
            for (size_t i = 0; i < r->golden->n_ids[p]; i++)
                same(r, scores + i * r->n_scores, p, i, "in chunks");
            free(scores);
        }
}

/* All sequences in one session: each step takes a few ids of some, so that chunks of prompts stand beside single tokens. */
static void check_together(const struct reading *r, uint64_t seed)
{
    enum { MOST = 13 };
    tern_session *session = new_session(r, GOLDEN_PROMPTS, GOLDEN_PROMPTS * MOST);
    size_t done[GOLDEN_PROMPTS] = { 0 }, left = 0;
    int32_t sequence[GOLDEN_PROMPTS];

    for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
        assert_ok(r->ctx, tern_sequence_add(session, &sequence[p]));
        left += r->golden->n_ids[p];
    }
    while (left) {
        tern_row rows[GOLDEN_PROMPTS];
        size_t who[GOLDEN_PROMPTS], n = 0;
        for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
            const size_t rest = r->golden->n_ids[p] - done[p],
                         wish = test_random(&seed) % 3 ? 1 : test_random(&seed) % (MOST + 1);
            const size_t k = wish < rest ? wish : rest;
            if (!k)
                continue;
            rows[n] = (tern_row){ sequence[p], r->golden->ids[p] + done[p], (int32_t)k, TERN_LOGITS_ALL };
            who[n++] = p;
        }
        if (!n)
            continue;
        assert_ok(r->ctx, tern_session_step(session, rows, n));
        for (size_t i = 0; i < n; i++) {
            for (int32_t t = 0; t < rows[i].n_ids; t++)
                same(r, tern_session_logits(session, i, t), who[i], done[who[i]] + (size_t)t, "together");
            done[who[i]] += (size_t)rows[i].n_ids;
            left -= (size_t)rows[i].n_ids;
        }
    }
    tern_session_destroy(&session);
}

/* At each level; avx512bf16 has bits of its own, so each level is its own truth. */
static void test_the_bits_do_not_depend_on_batch_chunks_and_threads(void **state)
{
    static const size_t chunks[] = { 1, 7, 64 }, few[] = { 16 };

    (void)state;
    for (size_t m = 0; m < N_MODELS; m++)
        for (size_t level = 0; level < N_ISA_LEVELS; level++) {
            struct reading r = { .what = models[m].directory };
            struct golden golden;
            for (int threads = 1; threads <= 3; threads++) {
                tern_model_options options = tern_model_options_default();
                options.dtype = models[m].dtype;
                r.ctx = ctx_at(threads, isa_levels[level]);
                if (!r.ctx)
                    break;
                assert_ok(r.ctx, tern_model_open(r.ctx, test_golden(models[m].directory), &options, &r.model));
                if (threads == 1) {
                    golden = golden_read(r.ctx, test_golden(models[m].directory));
                    r.golden = &golden;
                    r.n_scores = (size_t)tern_model_get_config(r.model)->vocab_size;
                    for (size_t p = 0; p < GOLDEN_PROMPTS; p++)
                        r.truth[p] = read_alone(&r, p, golden.n_ids[p]);
                    check_chunks(&r, chunks, sizeof chunks / sizeof chunks[0]);
                } else {
                    check_chunks(&r, few, 1);
                }
                check_together(&r, (uint64_t)threads);
                tern_model_close(&r.model);
                tern_ctx_destroy(&r.ctx);
            }
            for (size_t p = 0; p < GOLDEN_PROMPTS; p++)
                free(r.truth[p]);
        }
}

/* Levels without instructions of their own for bf16 agree with each other; and bf16 is no fp32. */
static void test_levels_agree(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct golden golden;
        float *first = NULL;
        for (size_t level = 0; level + 1 < N_ISA_LEVELS; level++) {
            struct reading r = { .ctx = ctx_at(1, isa_levels[level]), .golden = &golden };
            tern_model_options options = tern_model_options_default();
            options.dtype = models[m].dtype;
            if (!r.ctx)
                break;
            golden = golden_read(r.ctx, test_golden(models[m].directory));
            assert_ok(r.ctx, tern_model_open(r.ctx, test_golden(models[m].directory), &options, &r.model));
            r.n_scores = (size_t)tern_model_get_config(r.model)->vocab_size;
            const size_t bytes = golden.n_ids[0] * r.n_scores * sizeof *first;
            float *scores = read_alone(&r, 0, golden.n_ids[0]);
            if (!first) { /* what fp32 arithmetic makes of the same checkpoint */
                tern_model_close(&r.model);
                options.dtype = TERN_MODEL_FP32;
                assert_ok(r.ctx, tern_model_open(r.ctx, test_golden(models[m].directory), &options, &r.model));
                float *wide = read_alone(&r, 0, golden.n_ids[0]);
                assert_int_equal(memcmp(wide, scores, bytes) == 0, models[m].dtype == TERN_MODEL_AUTO);
                free(wide);
                first = scores;
            } else {
                if (memcmp(first, scores, bytes) != 0)
                    fail_msg("%s: %s has other bits than portable", models[m].directory, isa_levels[level]);
                free(scores);
            }
            tern_model_close(&r.model);
            tern_ctx_destroy(&r.ctx);
        }
        assert_non_null(first);
        free(first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_bits_do_not_depend_on_batch_chunks_and_threads),
        cmocka_unit_test(test_levels_agree),
    };
    return cmocka_run_group_tests_name("engine/session_bf16", tests, NULL, NULL);
}
