/* labels: quick threads */
/* test_session_threads.c: one model shared by threads of the host, each with a context and a session of its own; and a step
 * that another thread cancels. */
#include "engine_testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define N_HOSTS 2
#define ROUNDS  6

static tern_ctx *ctx;
static tern_model *model;
static struct golden golden;

struct host {
    pthread_t thread;
    tern_ctx *ctx;
    int n_wrong; /* cmocka's assertions belong to the main thread */
    int status;
};

/* Reads prompt after prompt, generates, and compares with the goldens. */
static void *generate_all(void *arg)
{
    struct host *host = arg;
    tern_session_options session_options = tern_session_options_default();
    tern_generate_options options = tern_generate_options_default();
    tern_session *session;

    session_options.max_batch = 16;
    options.max_tokens = 64;
    host->status = tern_session_create(host->ctx, model, &session_options, &session);
    for (int round = 0; round < ROUNDS && host->status == TERN_OK; round++) {
        const size_t p = (size_t)round % GOLDEN_PROMPTS;
        tern_generation out;
        host->status = tern_generate(session, NULL, golden.ids[p], golden.n_prompt[p], &options, &out);
        if (host->status != TERN_OK)
            break;
        if (out.ids.count != 64 || memcmp(out.ids.data, golden.ids[p] + golden.n_prompt[p], 64 * sizeof(int32_t)) != 0)
            host->n_wrong++;
        tern_generation_free(&out);
    }
    tern_session_destroy(&session);
    return NULL;
}

static void test_shared_model(void **state)
{
    (void)state;
    struct host hosts[N_HOSTS];

    for (int h = 0; h < N_HOSTS; h++) {
        hosts[h] = (struct host){ .ctx = test_ctx(1 + h) };
        assert_int_equal(pthread_create(&hosts[h].thread, NULL, generate_all, &hosts[h]), 0);
    }
    for (int h = 0; h < N_HOSTS; h++) {
        assert_int_equal(pthread_join(hosts[h].thread, NULL), 0);
        assert_int_equal(hosts[h].status, TERN_OK);
        assert_int_equal(hosts[h].n_wrong, 0);
        tern_ctx_destroy(&hosts[h].ctx);
    }
}

/* ---- cancelling from outside ---- */

struct canceller {
    tern_session *session;
    atomic_bool done;
};

static void *cancel_often(void *arg)
{
    struct canceller *c = arg;
    struct timespec pause = { .tv_nsec = 30000 };

    while (!atomic_load(&c->done)) {
        tern_session_cancel(c->session);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* Steps succeed or change nothing, wherever the flag catches them; in the end the scores are those of an undisturbed session. */
static void test_cancel_from_another_thread(void **state)
{
    (void)state;
    enum { N = 100, TRIES = 5000, WANTED = 20 };
    const int32_t v = tern_model_get_config(model)->vocab_size;
    tern_ctx *c2 = test_ctx(2);
    struct canceller canceller = { 0 };
    tern_session *undisturbed;
    pthread_t thread;
    int32_t a, b;
    int n_between = 0, n_tries = 0;

    assert_ok(c2, tern_session_create(c2, model, NULL, &canceller.session));
    assert_ok(ctx, tern_session_create(ctx, model, NULL, &undisturbed));
    assert_ok(c2, tern_sequence_add(canceller.session, &a));
    assert_ok(ctx, tern_sequence_add(undisturbed, &b));
    const int64_t n_free = tern_session_get_stats(canceller.session).free_positions;
    const tern_row row = { a, golden.ids[3], N, TERN_LOGITS_LAST };
    atomic_init(&canceller.done, false);
    assert_int_equal(pthread_create(&thread, NULL, cancel_often, &canceller), 0);
    for (; n_tries < TRIES && n_between < WANTED; n_tries++) {
        const tern_status status = tern_session_step(canceller.session, &row, 1);
        if (status == TERN_ERR_CANCELLED) {
            assert_int_equal(tern_sequence_length(canceller.session, a), 0);
            assert_int_equal(tern_session_get_stats(canceller.session).free_positions, n_free);
            assert_null(tern_session_logits(canceller.session, 0, N - 1));
            n_between += !strstr(tern_error(c2), "before it began");
            tern_session_resume(canceller.session);
        } else {
            assert_ok(c2, status);
            assert_int_equal(tern_sequence_length(canceller.session, a), N);
            assert_ok(c2, tern_sequence_truncate(canceller.session, a, 0));
        }
    }
    atomic_store(&canceller.done, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    printf("%d of %d steps were stopped between two layers\n", n_between, n_tries);
    assert_true(n_between > 0);

    tern_session_resume(canceller.session);
    const tern_row all = { b, golden.ids[3], N, TERN_LOGITS_LAST };
    assert_ok(c2, tern_session_step(canceller.session, &row, 1));
    assert_ok(ctx, tern_session_step(undisturbed, &all, 1));
    assert_memory_equal(tern_session_logits(canceller.session, 0, N - 1), tern_session_logits(undisturbed, 0, N - 1),
                        (size_t)v * sizeof(float));
    tern_session_destroy(&canceller.session);
    tern_session_destroy(&undisturbed);
    tern_ctx_destroy(&c2);
}

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(1);
    model = open_model(ctx, test_golden("gpt2-tiny-fp32"));
    golden = golden_read(ctx, test_golden("gpt2-tiny-fp32"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_model),
        cmocka_unit_test(test_cancel_from_another_thread),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
