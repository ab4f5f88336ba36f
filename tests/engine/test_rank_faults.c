/* test_rank_faults.c: an allocation, a mapping or a thread that fails on any of two ranks, wherever it is: none of them hangs, both have
 * opened the model or neither, and with one text. */
/* labels: quick */
#include "faults.h"
#include "rank_group.h"

#include <tern/session.h>
#include <tern/worker.h>

#include <stdio.h>

enum { RANKS = 2, MOST_WORDS = 1000 };

struct seat {
    struct rank_of *of;
    tern_ctx *ctx;
    pthread_barrier_t *start;
    tern_status opened, status;
    char text[512];
    float scores[MOST_WORDS]; /* that rank 0 has had; all zero if it failed */
};

static tern_status use(struct seat *s, const tern_model *model)
{
    static const int32_t ids[60] = { 3, 1, 4, 1, 5, 9, 2, 6 };
    const size_t V = (size_t)tern_model_get_config(model)->vocab_size;
    tern_session *session = NULL;
    int32_t sequence;
    tern_status status = tern_session_create(s->ctx, model, NULL, &session);

    if (!status)
        status = tern_sequence_add(session, &sequence);
    if (!status) {
        const tern_row row = { sequence, ids, 60, TERN_LOGITS_LAST };
        status = tern_session_step(session, &row, 1);
    }
    if (!status)
        memcpy(s->scores, tern_session_logits(session, 0, 59), (V < MOST_WORDS ? V : MOST_WORDS) * sizeof(float));
    tern_session_destroy(&session);
    return status;
}

static void *sit(void *user)
{
    struct seat *s = user;
    tern_model_options options = tern_model_options_default();
    tern_model *model = NULL;

    options.comm = &s->of->comm;
    pthread_barrier_wait(s->start);
    s->opened = tern_model_open(s->ctx, test_golden("gpt2-tiny-fp32"), &options, &model);
    if (s->opened == TERN_OK)
        s->status = s->of->comm.rank == 0 ? use(s, model) : tern_worker_run(s->ctx, model);
    snprintf(s->text, sizeof s->text, "%s", s->opened || s->status ? tern_error(s->ctx) : "");
    if (s->status == TERN_ERR_IO || (s->status && s->of->comm.rank != 0))
        rank_group_leave(s->of->group);
    tern_model_close(&model);
    return NULL;
}

/* Arms the fault once all threads are there.  Whether both ranks went well. */
static bool run(struct seat *seats, long n)
{
    struct rank_group group;
    pthread_t threads[RANKS];
    pthread_barrier_t start;

    rank_group_open(&group, RANKS);
    pthread_barrier_init(&start, NULL, RANKS + 1);
    for (int i = 0; i < RANKS; i++) {
        seats[i] = (struct seat){ .of = &group.ranks[i], .ctx = seats[i].ctx, .start = &start };
        assert_int_equal(pthread_create(&threads[i], NULL, sit, &seats[i]), 0);
    }
    if (n >= 0)
        fault_arm(n);
    pthread_barrier_wait(&start);
    for (int i = 0; i < RANKS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    pthread_barrier_destroy(&start);
    rank_group_close(&group);
    return seats[0].opened == TERN_OK && seats[0].status == TERN_OK && seats[1].opened == TERN_OK &&
           seats[1].status == TERN_OK;
}

static void test_failures(void **state)
{
    static struct seat seats[RANKS];
    static float usual[MOST_WORDS];

    (void)state;
    FAULT_NEEDED;
    for (int i = 0; i < RANKS; i++)
        seats[i].ctx = test_ctx(1);
    assert_true(run(seats, -1));
    memcpy(usual, seats[0].scores, sizeof usual);
    assert_true(usual[0] != 0);
    for (long n = 0;; n++) {
        const bool well = run(seats, n), failed = fault_disarm();
        if (seats[0].opened != seats[1].opened)
            fail_msg("fault %ld: rank 0: %s \"%s\", rank 1: %s \"%s\"", n, tern_status_name(seats[0].opened),
                     seats[0].text, tern_status_name(seats[1].opened), seats[1].text);
        if (seats[0].opened != TERN_OK) {
            assert_string_equal(seats[0].text, seats[1].text);
            assert_non_null(strstr(seats[0].text, "of 2: "));
        }
        /* Whoever it strikes later: rank 0 says so, or has the usual scores. */
        if (seats[0].opened == TERN_OK &&
            (seats[0].status ? seats[0].text[0] == '\0' : memcmp(seats[0].scores, usual, sizeof usual) != 0))
            fail_msg("fault %ld: rank 0: %s \"%s\", with other scores than usual", n, tern_status_name(seats[0].status),
                     seats[0].text);
        if (!failed) {
            assert_true(well);
            break;
        }
    }
    for (int i = 0; i < RANKS; i++)
        tern_ctx_destroy(&seats[i].ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_failures) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
