/* test_session.c: steps give the same bits however they are cut and whatever is beside them; the pool; errors.
 *
 * The truth is each sequence of the goldens read in one step, alone, with one thread: its argmaxes are checked against the
 * reference's ids, and every other way of reading it is compared with it by memcmp. */
#include "engine_testing.h"
#include "faults.h"

#include <signal.h>

static tern_ctx *ctx;
static tern_model *model;
static struct golden golden;
static int32_t V;
static float *truth[GOLDEN_PROMPTS]; /* [n_ids][V] */

/* ---- helpers ---- */

static tern_session *new_session(tern_ctx *c, const tern_model *m, int32_t n_sequences, int32_t max_batch,
                                 int32_t max_logits)
{
    tern_session_options options = tern_session_options_default();
    tern_session *session;

    options.n_sequences = n_sequences;
    options.max_batch = max_batch;
    options.max_logits = max_logits;
    assert_ok(c, tern_session_create(c, m, &options, &session));
    return session;
}

static tern_row row_of(int32_t sequence, const int32_t *ids, size_t n, tern_logits logits)
{
    return (tern_row){ .sequence = sequence, .ids = ids, .n_ids = (int32_t)n, .logits = logits };
}

/* Reads ids[0..n) in chunks and gives the scores of all of them. */
static float *read_alone(tern_ctx *c, const tern_model *m, const int32_t *ids, size_t n, size_t chunk)
{
    const int32_t v = tern_model_get_config(m)->vocab_size;
    tern_session *session = new_session(c, m, 1, (int32_t)chunk, (int32_t)chunk);
    float *scores = malloc(n * (size_t)v * sizeof *scores);
    int32_t sequence;

    assert_ok(c, tern_sequence_add(session, &sequence));
    for (size_t done = 0, k; done < n; done += k) {
        k = n - done < chunk ? n - done : chunk;
        const tern_row row = row_of(sequence, ids + done, k, TERN_LOGITS_ALL);
        assert_ok(c, tern_session_step(session, &row, 1));
        for (size_t i = 0; i < k; i++)
            memcpy(scores + (done + i) * (size_t)v, tern_session_logits(session, 0, (int32_t)i),
                   (size_t)v * sizeof *scores);
        assert_int_equal(tern_sequence_length(session, sequence), done + k);
    }
    tern_session_destroy(&session);
    return scores;
}

static void same(const float *got, const float *want, const char *what, size_t prompt, size_t position)
{
    assert_non_null(got);
    if (memcmp(got, want, (size_t)V * sizeof *got) != 0)
        fail_msg("%s: prompt %zu: scores after position %zu have other bits", what, prompt, position);
}

/* ---- the reference's ids ---- */

static void check_greedy_ids(const char *directory, const char *golden_directory)
{
    tern_model *m = open_model(ctx, directory);
    const struct golden g = golden_read(ctx, golden_directory);
    const int32_t v = tern_model_get_config(m)->vocab_size;

    for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
        float *scores = read_alone(ctx, m, g.ids[p], g.n_ids[p], g.n_ids[p]);
        for (size_t i = g.n_prompt[p]; i < g.n_ids[p]; i++)
            if (argmax(scores + (i - 1) * (size_t)v, v) != g.ids[p][i])
                fail_msg("%s: prompt %zu: id %zu is %d, transformers has %d", directory, p, i - g.n_prompt[p],
                         (int)argmax(scores + (i - 1) * (size_t)v, v), (int)g.ids[p][i]);
        free(scores);
    }
    tern_model_close(&m);
}

static void test_greedy_ids(void **state)
{
    (void)state;
    static const char *const names[] = { "gpt2-tiny-fp32", "gpt2-tiny-fp16", "gpt2-tiny-bf16" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_greedy_ids(test_golden(names[i]), test_golden(names[i]));
}

/* ---- the same bits ---- */

static void test_chunks(void **state)
{
    (void)state;
    static const size_t chunks[] = { 1, 2, 3, 7, 16, 63, 64, 65 };

    for (size_t p = 0; p < GOLDEN_PROMPTS; p++)
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            float *scores = read_alone(ctx, model, golden.ids[p], golden.n_ids[p], chunks[c]);
            for (size_t i = 0; i < golden.n_ids[p]; i++)
                same(scores + i * (size_t)V, truth[p] + i * (size_t)V, "chunks", p, i);
            free(scores);
        }
}

/* A sequence that is being read: which golden it follows and how far it is. */
struct reader {
    int32_t sequence;
    size_t prompt, done;
};

/* Continuous batching: chunks of some beside single tokens of others, sequences that end, new ones that take their place. */
static void read_together(tern_ctx *c, const tern_model *m, uint64_t seed, int n_steps)
{
    enum { N = 5, BATCH = 48 };
    tern_session *session = new_session(c, m, N, BATCH, BATCH);
    struct reader readers[N];
    size_t next = 0;

    for (size_t r = 0; r < N; r++) {
        readers[r] = (struct reader){ .prompt = next++ % GOLDEN_PROMPTS };
        assert_ok(c, tern_sequence_add(session, &readers[r].sequence));
    }
    for (int step = 0; step < n_steps; step++) {
        tern_row rows[N];
        size_t who[N], n = 0, left = BATCH;

        for (size_t r = 0; r < N; r++) {
            struct reader *reader = &readers[r];
            const size_t rest = golden.n_ids[reader->prompt] - reader->done;
            size_t k = reader->done < golden.n_prompt[reader->prompt] ? 1 + test_random(&seed) % 24 : 1;
            if (test_random(&seed) % 4 == 0)
                continue;
            k = k < rest ? k : rest;
            k = k < left ? k : left;
            if (k == 0)
                continue;
            left -= k;
            rows[n] = row_of(reader->sequence, golden.ids[reader->prompt] + reader->done, k,
                             (tern_logits)(test_random(&seed) % 3));
            who[n++] = r;
        }
        if (n == 0)
            continue;
        assert_ok(c, tern_session_step(session, rows, n));
        for (size_t i = 0; i < n; i++) {
            struct reader *reader = &readers[who[i]];
            for (int32_t t = 0; t < rows[i].n_ids; t++) {
                const float *scores = tern_session_logits(session, i, t);
                if (rows[i].logits == TERN_LOGITS_ALL || (rows[i].logits == TERN_LOGITS_LAST && t == rows[i].n_ids - 1))
                    same(scores, truth[reader->prompt] + (reader->done + (size_t)t) * (size_t)V, "together",
                         reader->prompt, reader->done + (size_t)t);
                else
                    assert_null(scores);
            }
            reader->done += (size_t)rows[i].n_ids;
            assert_int_equal(tern_sequence_length(session, reader->sequence), reader->done);
            if (reader->done == golden.n_ids[reader->prompt] || test_random(&seed) % 64 == 0) {
                assert_ok(c, tern_sequence_remove(session, reader->sequence));
                reader->done = 0;
                reader->prompt = next++ % GOLDEN_PROMPTS;
                assert_ok(c, tern_sequence_add(session, &reader->sequence));
            }
        }
    }
    tern_session_destroy(&session);
}

static void test_together(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++)
        read_together(ctx, model, seed, 150);
}

/* Every level, 1 to 3 threads, a model that each context has opened for itself, alone and together. */
static void test_threads_and_levels(void **state)
{
    (void)state;
    for (size_t level = 0; level < N_ISA_LEVELS; level++)
        for (int threads = 1; threads <= 3; threads++) {
            tern_ctx *c = ctx_at(threads, isa_levels[level]);
            if (!c)
                break;
            assert_int_equal(tern_ctx_threads(c), threads);
            tern_model *m = open_model(c, test_golden("gpt2-tiny-fp32"));
            for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
                float *scores = read_alone(c, m, golden.ids[p], golden.n_ids[p], golden.n_ids[p]);
                for (size_t i = 0; i < golden.n_ids[p]; i++)
                    same(scores + i * (size_t)V, truth[p] + i * (size_t)V, isa_levels[level], p, i);
                free(scores);
            }
            read_together(c, m, 17 + (uint64_t)threads, 60);
            tern_model_close(&m);
            tern_ctx_destroy(&c);
        }
}

/* ---- forks and truncation ---- */

static void read_on(tern_session *session, int32_t sequence, size_t prompt, size_t from, size_t to, const char *what)
{
    for (size_t i = from; i < to; i++) {
        const tern_row row = row_of(sequence, golden.ids[prompt] + i, 1, TERN_LOGITS_LAST);
        assert_ok(ctx, tern_session_step(session, &row, 1));
        same(tern_session_logits(session, 0, 0), truth[prompt] + i * (size_t)V, what, prompt, i);
    }
}

static void test_fork(void **state)
{
    (void)state;
    static const size_t lengths[] = { 1, 40, 63, 64, 65, 100 };
    const size_t p = 3, n = golden.n_ids[p];

    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        const size_t at = lengths[l];
        tern_session *session = new_session(ctx, model, 3, 128, 0);
        int32_t a, b, c;
        int32_t other[8];

        assert_ok(ctx, tern_sequence_add(session, &a));
        const tern_row row = row_of(a, golden.ids[p], at, TERN_LOGITS_NONE);
        assert_ok(ctx, tern_session_step(session, &row, 1));
        assert_ok(ctx, tern_sequence_fork(session, a, &b));
        assert_ok(ctx, tern_sequence_fork(session, b, &c));
        assert_int_equal(tern_sequence_length(session, b), at);

        /* c goes its own way, which alone has the scores that the same ids have from the beginning. */
        int32_t *ids = malloc((at + 8) * sizeof *ids);
        memcpy(ids, golden.ids[p], at * sizeof *ids);
        for (size_t i = 0; i < 8; i++)
            ids[at + i] = other[i] = (int32_t)(i * 13 + 1);
        float *want = read_alone(ctx, model, ids, at + 8, at + 8);
        for (size_t i = 0; i < 8 && at + i < n; i++) {
            const tern_row rows[] = { row_of(c, other + i, 1, TERN_LOGITS_LAST),
                                      row_of(a, golden.ids[p] + at + i, 1, TERN_LOGITS_LAST),
                                      row_of(b, golden.ids[p] + at + i, 1, TERN_LOGITS_LAST) };
            if (at + i >= n)
                break;
            assert_ok(ctx, tern_session_step(session, rows, 3 - (i == 7))); /* b stays one behind */
            same(tern_session_logits(session, 0, 0), want + (at + i) * (size_t)V, "fork's own way", p, at + i);
            same(tern_session_logits(session, 1, 0), truth[p] + (at + i) * (size_t)V, "forked", p, at + i);
        }
        free(want);
        free(ids);
        /* The origin ends, the fork lives on. */
        const size_t a_at = (size_t)tern_sequence_length(session, a), b_at = (size_t)tern_sequence_length(session, b);
        read_on(session, a, p, a_at, n, "forked");
        assert_ok(ctx, tern_sequence_remove(session, a));
        assert_ok(ctx, tern_sequence_remove(session, c));
        read_on(session, b, p, b_at, n, "fork");
        tern_session_destroy(&session);
    }
}

static void test_truncate(void **state)
{
    (void)state;
    static const int64_t lengths[] = { 103, 65, 64, 63, 20, 1, 0 };
    const size_t p = 3, n = golden.n_ids[p];
    tern_session *session = new_session(ctx, model, 2, 128, 0);
    int32_t a, fork;

    assert_ok(ctx, tern_sequence_add(session, &a));
    read_on(session, a, p, 0, n, "truncated");
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        /* Writing again over what a fork still reads does not reach the fork. */
        assert_ok(ctx, tern_sequence_fork(session, a, &fork));
        assert_ok(ctx, tern_sequence_truncate(session, a, lengths[l]));
        assert_int_equal(tern_sequence_length(session, a), lengths[l]);
        const int32_t wrong[] = { 7, 8, 9 };
        const tern_row row = row_of(a, wrong, 3, TERN_LOGITS_NONE);
        assert_ok(ctx, tern_session_step(session, &row, 1));
        assert_ok(ctx, tern_sequence_truncate(session, a, lengths[l]));
        read_on(session, a, p, (size_t)lengths[l], n, "truncated");
        assert_ok(ctx, tern_sequence_truncate(session, fork, (int64_t)n - 1));
        read_on(session, fork, p, n - 1, n, "fork of the truncated");
        assert_ok(ctx, tern_sequence_remove(session, fork));
    }
    assert_fails(ctx, tern_sequence_truncate(session, a, (int64_t)n + 1), TERN_ERR_ARG, "");
    tern_session_destroy(&session);
}

/* ---- the pool ---- */

static void test_pool(void **state)
{
    (void)state;
    enum { N = 6 };
    tern_session_options options = tern_session_options_default();
    tern_session *session;
    int32_t sequences[N], extra;

    options.n_sequences = N;
    options.n_positions = 4 * 64;
    options.max_batch = 128;
    assert_ok(ctx, tern_session_create(ctx, model, &options, &session));
    assert_int_equal(tern_session_get_stats(session).free_positions, 256);
    assert_true(tern_session_get_stats(session).kv_bytes > 0 && tern_session_get_stats(session).scratch_bytes > 0);
    tern_session_stats measured;
    assert_ok(ctx, tern_session_measure(ctx, model, &options, &measured));
    assert_int_equal(measured.kv_bytes, tern_session_get_stats(session).kv_bytes);
    assert_int_equal(measured.scratch_bytes, tern_session_get_stats(session).scratch_bytes);
    assert_int_equal(measured.free_positions, 256);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++)
            assert_ok(ctx, tern_sequence_add(session, &sequences[i]));
        assert_fails(ctx, tern_sequence_add(session, &extra), TERN_ERR_CAPACITY, "6");

        const tern_row full[] = { row_of(sequences[0], golden.ids[3], 64, TERN_LOGITS_LAST),
                                  row_of(sequences[1], golden.ids[3], 60, TERN_LOGITS_NONE) };
        assert_ok(ctx, tern_session_step(session, full, 2));
        same(tern_session_logits(session, 0, 63), truth[3] + 63 * (size_t)V, "pool", 3, 63);
        const tern_row more[] = { row_of(sequences[2], golden.ids[1], 5, TERN_LOGITS_NONE),
                                  row_of(sequences[1], golden.ids[3] + 60, 10, TERN_LOGITS_LAST) };
        assert_ok(ctx, tern_session_step(session, more, 2));
        same(tern_session_logits(session, 1, 9), truth[3] + 69 * (size_t)V, "pool", 3, 69);
        assert_int_equal(tern_session_get_stats(session).free_positions, 0);

        /* Nothing is left: the step that needs a block fails as a whole, one that does not goes on. */
        const tern_row both[] = { row_of(sequences[2], golden.ids[1] + 5, 1, TERN_LOGITS_LAST),
                                  row_of(sequences[3], golden.ids[1], 1, TERN_LOGITS_NONE) };
        assert_fails(ctx, tern_session_step(session, both, 2), TERN_ERR_CAPACITY, "");
        assert_int_equal(tern_sequence_length(session, sequences[2]), 5);
        assert_int_equal(tern_sequence_length(session, sequences[3]), 0);
        assert_null(tern_session_logits(session, 0, 0));
        assert_ok(ctx, tern_session_step(session, both, 1));
        same(tern_session_logits(session, 0, 0), truth[1] + 5 * (size_t)V, "full pool", 1, 5);

        /* One block comes back and is enough. */
        assert_ok(ctx, tern_sequence_remove(session, sequences[0]));
        assert_int_equal(tern_session_get_stats(session).free_positions, 64);
        assert_ok(ctx, tern_session_step(session, both + 1, 1));
        for (size_t i = 1; i < N; i++)
            assert_ok(ctx, tern_sequence_remove(session, sequences[i]));
        assert_int_equal(tern_session_get_stats(session).free_positions, 256);
    }
    tern_session_destroy(&session);
}

/* The default pool has room for as many full sequences as the session has, although each one ends inside a block. */
static void test_default_pool(void **state)
{
    (void)state;
    enum { N = 3 };
    tern_session_options options = tern_session_options_default();
    tern_session *session;
    int32_t sequence;

    options.n_sequences = N;
    options.n_context = 65;
    assert_ok(ctx, tern_session_create(ctx, model, &options, &session));
    for (size_t i = 0; i < N; i++) {
        assert_ok(ctx, tern_sequence_add(session, &sequence));
        const tern_row row = row_of(sequence, golden.ids[3], 65, TERN_LOGITS_LAST);
        assert_ok(ctx, tern_session_step(session, &row, 1));
        same(tern_session_logits(session, 0, 64), truth[3] + 64 * (size_t)V, "short context", 3, 64);
    }
    tern_session_destroy(&session);
}

/* ---- no allocation ---- */

static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_session *session = new_session(ctx, model, 3, 64, 0);
    int32_t a, b, c;

    fault_count_start();
    for (int round = 0; round < 3; round++) {
        assert_ok(ctx, tern_sequence_add(session, &a));
        assert_ok(ctx, tern_sequence_add(session, &b));
        const tern_row chunk = row_of(a, golden.ids[3], 30, TERN_LOGITS_LAST);
        assert_ok(ctx, tern_session_step(session, &chunk, 1));
        for (size_t i = 30; i < golden.n_ids[3]; i++) { /* across the border of a block, for both */
            const tern_row rows[] = { row_of(a, golden.ids[3] + i, 1, TERN_LOGITS_LAST),
                                      row_of(b, golden.ids[3] + i - 30, 1, TERN_LOGITS_LAST) };
            assert_ok(ctx, tern_session_step(session, rows, 2));
        }
        assert_ok(ctx, tern_sequence_fork(session, a, &c));
        const tern_row rows[] = { row_of(a, golden.ids[0], 1, TERN_LOGITS_LAST),
                                  row_of(c, golden.ids[1], 1, TERN_LOGITS_LAST) };
        assert_ok(ctx, tern_session_step(session, rows, 2));
        assert_ok(ctx, tern_sequence_truncate(session, a, 10));
        assert_ok(ctx, tern_sequence_remove(session, a));
        assert_ok(ctx, tern_sequence_remove(session, b));
        assert_ok(ctx, tern_sequence_remove(session, c));
    }
    assert_int_equal(fault_count(), 0);
    tern_session_destroy(&session);
}

static void test_every_failure(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_session *session = NULL;

    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_session_create(ctx, model, NULL, &session);
        FAULT_DONE(n, ctx, status, session);
        tern_session_destroy(&session);
    }
    tern_session_destroy(&session);
}

/* ---- cancelling ---- */

static tern_session *interrupted;

static void on_signal(int number)
{
    (void)number;
    tern_session_cancel(interrupted);
}

static void test_cancel(void **state)
{
    (void)state;
    tern_session *session = interrupted = new_session(ctx, model, 2, 128, 0);
    struct sigaction action = { .sa_handler = on_signal }, before;
    int32_t a, b;

    assert_ok(ctx, tern_sequence_add(session, &a));
    assert_ok(ctx, tern_sequence_add(session, &b));
    const tern_row first = row_of(a, golden.ids[3], 50, TERN_LOGITS_NONE);
    assert_ok(ctx, tern_session_step(session, &first, 1));
    const int64_t free_before = tern_session_get_stats(session).free_positions;

    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    raise(SIGUSR1);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    const tern_row rows[] = { row_of(a, golden.ids[3] + 50, 30, TERN_LOGITS_LAST),
                              row_of(b, golden.ids[1], 5, TERN_LOGITS_LAST) };
    for (int again = 0; again < 2; again++) { /* until it is resumed */
        assert_fails(ctx, tern_session_step(session, rows, 2), TERN_ERR_CANCELLED, "");
        assert_int_equal(tern_sequence_length(session, a), 50);
        assert_int_equal(tern_sequence_length(session, b), 0);
        assert_int_equal(tern_session_get_stats(session).free_positions, free_before);
        assert_null(tern_session_logits(session, 0, 29));
    }
    tern_session_resume(session);
    assert_ok(ctx, tern_session_step(session, rows, 2));
    same(tern_session_logits(session, 0, 29), truth[3] + 79 * (size_t)V, "after cancelling", 3, 79);
    same(tern_session_logits(session, 1, 4), truth[1] + 4 * (size_t)V, "after cancelling", 1, 4);
    tern_session_destroy(&session);
}

/* ---- errors ---- */

static void test_step_errors(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 3, 40, 4);
    const int32_t *ids = golden.ids[3], bad[] = { 5, V, 6 }, negative[] = { -1 };
    int32_t a, b;

    assert_ok(ctx, tern_sequence_add(session, &a));
    assert_ok(ctx, tern_sequence_add(session, &b));
    const tern_row first = row_of(a, ids, 9, TERN_LOGITS_LAST);
    assert_ok(ctx, tern_session_step(session, &first, 1));

#define FAILS(status, part, ...)                                                                       \
    do {                                                                                               \
        const tern_row rows[] = { __VA_ARGS__ };                                                       \
        assert_fails(ctx, tern_session_step(session, rows, sizeof rows / sizeof *rows), status, part); \
        assert_int_equal(tern_sequence_length(session, a), 9);                                         \
        assert_int_equal(tern_sequence_length(session, b), 0);                                         \
        assert_null(tern_session_logits(session, 0, 0));                                               \
        assert_string_equal(tern_session_error(session), tern_error(ctx));                             \
    } while (0)
    const tern_row good = row_of(b, ids, 2, TERN_LOGITS_LAST);

    FAILS(TERN_ERR_ARG, "row 1: ids[1] is 131, the vocabulary has 131 ids", good, row_of(a, bad, 3, TERN_LOGITS_NONE));
    FAILS(TERN_ERR_ARG, "ids[0] is -1", good, row_of(a, negative, 1, TERN_LOGITS_NONE));
    FAILS(TERN_ERR_ARG, "no sequence 77", good, row_of(77, ids, 1, TERN_LOGITS_NONE));
    FAILS(TERN_ERR_ARG, "no sequence -1", good, row_of(-1, ids, 1, TERN_LOGITS_NONE));
    FAILS(TERN_ERR_ARG, "row 2: sequence", row_of(a, ids, 1, TERN_LOGITS_NONE), good, good);
    FAILS(TERN_ERR_ARG, "n_ids is 0", good, row_of(a, ids, 0, TERN_LOGITS_NONE));
    FAILS(TERN_ERR_ARG, "ids NULL", good, row_of(a, NULL, 1, TERN_LOGITS_NONE));
    FAILS(TERN_ERR_ARG, "logits is 3", good, row_of(a, ids, 1, (tern_logits)3));
    FAILS(TERN_ERR_CAPACITY, "41 tokens in 2 rows, max_batch is 40", good, row_of(a, ids, 39, TERN_LOGITS_NONE));
    FAILS(TERN_ERR_CAPACITY, "scores of 5 tokens are asked for, max_logits is 4", good,
          row_of(a, ids, 4, TERN_LOGITS_ALL));
    FAILS(TERN_ERR_CAPACITY, "has 9 positions and gets 104 more, the context is 112", good,
          row_of(a, ids, 104, TERN_LOGITS_NONE));
#undef FAILS
    assert_fails(ctx, tern_session_step(session, &good, 0), TERN_ERR_ARG, "n_rows is 0");
    assert_fails(ctx, tern_session_step(session, NULL, 1), TERN_ERR_ARG, "rows NULL");

    /* The errors have left nothing behind. */
    const tern_row rows[] = { row_of(a, ids + 9, 2, TERN_LOGITS_LAST), good };
    assert_ok(ctx, tern_session_step(session, rows, 2));
    same(tern_session_logits(session, 0, 1), truth[3] + 10 * (size_t)V, "after errors", 3, 10);
    same(tern_session_logits(session, 1, 1), truth[3] + (size_t)V, "after errors", 3, 1);
    assert_null(tern_session_logits(session, 0, 0));
    assert_null(tern_session_logits(session, 0, 2));
    assert_null(tern_session_logits(session, 0, -1));
    assert_null(tern_session_logits(session, 2, 0));
    assert_fails(ctx, tern_sequence_remove(session, 77), TERN_ERR_ARG, "");
    assert_int_equal(tern_sequence_length(session, 77), -1);
    tern_session_destroy(&session);

    /* A handle after its destruction. */
    assert_null(session);
    tern_session_destroy(&session);
    tern_session_destroy(NULL);
    assert_int_equal(tern_session_step(session, rows, 2), TERN_ERR_ARG);
    assert_int_equal(tern_sequence_add(session, &a), TERN_ERR_ARG);
    assert_int_equal(tern_sequence_length(session, 0), -1);
    assert_null(tern_session_logits(session, 0, 0));
}

static void test_option_errors(void **state)
{
    (void)state;
    tern_session_options o;
    tern_session *session = (tern_session *)&ctx;

#define REFUSED(field, value, status, part)                                         \
    o = tern_session_options_default();                                             \
    o.field = (value);                                                              \
    assert_fails(ctx, tern_session_create(ctx, model, &o, &session), status, part); \
    assert_null(session)

    REFUSED(n_sequences, 0, TERN_ERR_ARG, "n_sequences is 0");
    REFUSED(n_sequences, -3, TERN_ERR_ARG, "n_sequences is -3");
    REFUSED(max_batch, 0, TERN_ERR_ARG, "max_batch is 0");
    REFUSED(reserved[0], 5, TERN_ERR_ARG, "reserved[0] is 5, expected 0");
    REFUSED(max_logits, -1, TERN_ERR_ARG, "max_logits is -1");
    REFUSED(n_context, -1, TERN_ERR_ARG, "n_context is -1");
    REFUSED(n_positions, -1, TERN_ERR_ARG, "n_positions is -1");
    REFUSED(n_context, 113, TERN_ERR_CAPACITY, "n_context is 113, the model has 112");
#undef REFUSED
    assert_fails(ctx, tern_session_create(ctx, NULL, NULL, &session), TERN_ERR_ARG, "model is NULL");
}

/* ---- set-up ---- */

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(1);
    model = open_model(ctx, test_golden("gpt2-tiny-fp32"));
    golden = golden_read(ctx, test_golden("gpt2-tiny-fp32"));
    V = tern_model_get_config(model)->vocab_size;
    for (size_t p = 0; p < GOLDEN_PROMPTS; p++)
        truth[p] = read_alone(ctx, model, golden.ids[p], golden.n_ids[p], golden.n_ids[p]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t p = 0; p < GOLDEN_PROMPTS; p++)
        free(truth[p]);
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_ids),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_threads_and_levels),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_truncate),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_default_pool),
        cmocka_unit_test(test_steps_allocate_nothing),
        cmocka_unit_test(test_every_failure),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_step_errors),
        cmocka_unit_test(test_option_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
