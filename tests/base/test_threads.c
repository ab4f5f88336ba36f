/* labels: quick threads */
/* test_threads.c: the team: regions, barriers, shares, and what can happen to threads. */
#include "faults.h"

#include "base/machine.h"
#include "base/memory.h"
#include "base/threads.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- regions and barriers ---- */

#define MOST 16

struct visit {
    int count[MOST];
    int teams[MOST];
};

static void visit(void *arg, const struct tern_par *par)
{
    struct visit *v = arg;

    v->count[par->thread]++; /* plain: nobody else's, and ordered by the region */
    v->teams[par->thread] = par->count;
}

static void each_thread_once(void **state)
{
    (void)state;
    for (int n = 1; n <= 9; n++) {
        tern_ctx *ctx = test_ctx(n);
        struct visit v = { 0 };
        for (int i = 0; i < 300; i++)
            assert_ok(ctx, tern_region(ctx, visit, &v));
        for (int t = 0; t < MOST; t++) {
            assert_int_equal(v.count[t], t < n ? 300 : 0);
            assert_int_equal(v.teams[t], t < n ? n : 0);
        }
        tern_ctx_destroy(&ctx);
    }
}

/* Every thread writes its slot, all meet, every thread reads the others' slots. */
struct rounds {
    int slot[MOST];
    int wrong[MOST];
    int n;
};

static void meet(void *arg, const struct tern_par *par)
{
    struct rounds *r = arg;

    for (int i = 1; i <= r->n; i++) {
        r->slot[par->thread] = i;
        tern_barrier(par);
        for (int t = 0; t < par->count; t++)
            r->wrong[par->thread] += r->slot[t] != i;
        tern_barrier(par);
    }
}

static void barriers(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++) {
        tern_ctx *ctx = test_ctx(n);
        struct rounds r = { .n = TEST_TSAN ? 200 : 2000 };
        for (int i = 0; i < 3; i++)
            assert_ok(ctx, tern_region(ctx, meet, &r));
        for (int t = 0; t < n; t++)
            assert_int_equal(r.wrong[t], 0);
        tern_ctx_destroy(&ctx);
    }
}

/* More threads than processors must not crawl: a barrier of 8 on 2 cores takes microseconds, not a time slice each. */
static void oversubscribed(void **state)
{
    const int n = 4 * tern_machine_allowed() < MOST ? 4 * tern_machine_allowed() : MOST;
    tern_ctx *ctx = test_ctx(n);
    struct rounds r = { .n = 500 };
    const double start = tern_machine_seconds();

    (void)state;
    assert_ok(ctx, tern_region(ctx, meet, &r));
    const double seconds = tern_machine_seconds() - start;
    print_message("%d threads on %d processors: %.1f us a barrier\n", n, tern_machine_allowed(),
                  seconds * 1e6 / (2 * r.n));
    for (int t = 0; t < n; t++)
        assert_int_equal(r.wrong[t], 0);
    assert_true(seconds < 20);
    tern_ctx_destroy(&ctx);
}

static void nap(void *arg, const struct tern_par *par)
{
    const struct timespec pause = { .tv_nsec = 5000000 };

    /* One thread is late by far more than the others spin, so they park, at the barrier and at the end. */
    if (par->thread == *(int *)arg)
        nanosleep(&pause, NULL);
    tern_barrier(par);
    if (par->thread == (*(int *)arg + 1) % par->count)
        nanosleep(&pause, NULL);
}

static void late_threads(void **state)
{
    tern_ctx *ctx = test_ctx(4);

    (void)state;
    for (int late = 0; late < 4; late++)
        for (int i = 0; i < 3; i++)
            assert_ok(ctx, tern_region(ctx, nap, &late));
    tern_ctx_destroy(&ctx);
}

static void destroyed_while_parked(void **state)
{
    const struct timespec pause = { .tv_nsec = 3000000 };
    struct visit v = { 0 };

    (void)state;
    for (int i = 0; i < 10; i++) {
        tern_ctx *ctx = test_ctx(4);
        if (i % 2)
            assert_ok(ctx, tern_region(ctx, visit, &v));
        if (i % 3)
            nanosleep(&pause, NULL);
        tern_ctx_destroy(&ctx);
    }
}

/* ---- shares ---- */

static void shares(void **state)
{
    (void)state;
    for (int count = 1; count <= 9; count++)
        for (size_t unit = 1; unit <= 64; unit = unit * 3 + 1)
            for (size_t n = 0; n < 300; n += 7) {
                size_t expected = 0, smallest = SIZE_MAX, largest = 0;
                for (int thread = 0; thread < count; thread++) {
                    const struct tern_par par = { .thread = thread, .count = count };
                    size_t begin, end;
                    tern_share(&par, n, unit, &begin, &end);
                    assert_int_equal(begin, expected);
                    assert_true(begin <= end && end <= n);
                    assert_true(begin % unit == 0 || begin == n);
                    const size_t units = (end - begin + unit - 1) / unit;
                    smallest = units < smallest ? units : smallest;
                    largest = units > largest ? units : largest;
                    expected = end;
                }
                assert_int_equal(expected, n);
                assert_true(largest - smallest <= 1);
            }
    /* No overflow at the end of the range. */
    const struct tern_par par = { .thread = 1, .count = 2 };
    size_t begin, end;
    tern_share(&par, SIZE_MAX, 32, &begin, &end);
    assert_true(end == SIZE_MAX && begin % 32 == 0);
}

/* ---- several contexts in several threads of the host ---- */

static void *use_context(void *arg)
{
    tern_ctx *ctx;
    tern_ctx_options options = tern_ctx_options_default();

    (void)arg;
    options.n_threads = 3;
    for (int i = 0; i < 5; i++) {
        struct rounds r = { .n = 50 };
        if (tern_ctx_create(&ctx, &options, NULL, 0) != TERN_OK)
            return "no context";
        for (int j = 0; j < 10; j++)
            if (tern_region(ctx, meet, &r) != TERN_OK)
                return "no region";
        tern_ctx_destroy(&ctx);
        for (int t = 0; t < 3; t++)
            if (r.wrong[t])
                return "a barrier let someone through";
    }
    return NULL;
}

static void many_contexts(void **state)
{
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_context, NULL), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        if (wrong)
            fail_msg("%s", (const char *)wrong);
    }
}

/* ---- fork ---- */

/* The child's answer is its exit code; a child that hangs is ended by its alarm. */
static int in_child(tern_ctx *ctx, int depth)
{
    const pid_t pid = fork();

    if (pid == 0) {
        struct visit v = { 0 };
        alarm(20);
        for (int i = 0; i < 10; i++)
            if (tern_region(ctx, visit, &v) != TERN_OK)
                _exit(2);
        for (int t = 0; t < tern_ctx_threads(ctx); t++)
            if (v.count[t] != 10)
                _exit(3);
        if (depth > 0 && in_child(ctx, depth - 1) != 0)
            _exit(4);
        tern_ctx_destroy(&ctx);
        _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void forks(void **state)
{
    (void)state;
    if (TEST_TSAN)
        TEST_SKIP("fork: ThreadSanitizer does not follow threads that a forked child starts");
    for (int n = 1; n <= 3; n++) {
        tern_ctx *ctx = test_ctx(n);
        struct visit v = { 0 };
        assert_int_equal(in_child(ctx, 0), 0); /* before the parent's first region */
        assert_ok(ctx, tern_region(ctx, visit, &v));
        assert_int_equal(in_child(ctx, 2), 0); /* after it, and grandchildren */
        assert_ok(ctx, tern_region(ctx, visit, &v));
        assert_int_equal(v.count[n - 1], 2); /* the parent's team is as it was */
        tern_ctx_destroy(&ctx);
    }
}

static void child_that_only_destroys(void **state)
{
    tern_ctx *ctx = test_ctx(3);
    const pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0) {
        alarm(20);
        tern_ctx_destroy(&ctx);
        _exit(ctx == NULL ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    tern_ctx_destroy(&ctx);
}

/* A child that cannot start its threads says so, and can once there is room again. */
static void fork_without_threads(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(3);
    const pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct visit v = { 0 };
        alarm(20);
        fault_arm_from(0);
        const tern_status first = tern_region(ctx, visit, &v);
        fault_disarm();
        if (first != TERN_ERR_THREAD || v.count[0] != 0)
            _exit(1);
        if (tern_region(ctx, visit, &v) != TERN_OK || v.count[2] != 1)
            _exit(2);
        tern_ctx_destroy(&ctx);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    tern_ctx_destroy(&ctx);
}

/* ---- modes, signals, failures ---- */

struct modes {
    int rounding[MOST];
    float tiny[MOST];
    bool blocked[MOST];
};

static void look(void *arg, const struct tern_par *par)
{
    struct modes *m = arg;
    volatile float smallest = 1.17549435e-38f, half = 0.5f;
    sigset_t set;

    m->rounding[par->thread] = fegetround();
    m->tiny[par->thread] = smallest * half;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    m->blocked[par->thread] = sigismember(&set, SIGINT) == 1;
}

static void modes_are_put_aside(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n += 2) {
        struct modes m = { 0 };
        fesetround(FE_DOWNWARD);
#if defined(__x86_64__)
        __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040); /* flush to zero, denormals are zero */
#endif
        /* The context is made under the odd modes too: its threads must not inherit them. */
        tern_ctx *ctx = test_ctx(n);
        assert_ok(ctx, tern_region(ctx, look, &m));
        const int rounding = fegetround();
#if defined(__x86_64__)
        assert_int_equal(__builtin_ia32_stmxcsr() & 0x8040, 0x8040);
        __builtin_ia32_ldmxcsr(0x1F80);
#endif
        fesetround(FE_TONEAREST);
        assert_int_equal(rounding, FE_DOWNWARD);
        for (int t = 0; t < n; t++) {
            assert_int_equal(m.rounding[t], FE_TONEAREST);
            assert_true(m.tiny[t] > 0);
            assert_int_equal(m.blocked[t], t > 0); /* signals stay with the host's threads */
        }
        tern_ctx_destroy(&ctx);
    }
}

static void threads_that_do_not_start(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_team *team;

    (void)state;
    FAULT_NEEDED;
    assert_ok(&ctx, tern_team_create(&ctx, 4, &team));
    tern_team_destroy(team);
    fault_arm(2); /* the memory, the first thread, and then */
    const tern_status status = tern_team_create(&ctx, 4, &team);
    assert_true(fault_disarm());
    assert_fails(&ctx, status, TERN_ERR_THREAD, "cannot start thread");
    assert_null(team);
}

static void team_arguments(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_team *team;
    struct visit v = { 0 };

    (void)state;
    assert_fails(&ctx, tern_team_create(&ctx, 0, &team), TERN_ERR_ARG, "got 0");
    assert_fails(&ctx, tern_team_create(&ctx, 1025, &team), TERN_ERR_ARG, "got 1025");
    tern_team_destroy(NULL);
    assert_int_equal(tern_team_size(NULL), 1);
    /* A context without a team computes alone. */
    assert_ok(&ctx, tern_region(&ctx, visit, &v));
    assert_int_equal(v.count[0], 1);
}

static void nothing(void *arg, const struct tern_par *par)
{
    (void)arg, (void)par;
}

/* Not a bound, the machine may be busy: a figure to look at. */
static void figures(void **state)
{
    tern_ctx *ctx = test_ctx(tern_machine_allowed() < MOST ? tern_machine_allowed() : MOST);
    struct rounds r = { .n = 2000 };
    const int n = 2000;

    (void)state;
    double start = tern_machine_seconds();
    for (int i = 0; i < n; i++)
        assert_ok(ctx, tern_region(ctx, nothing, NULL));
    const double region = (tern_machine_seconds() - start) / n;
    start = tern_machine_seconds();
    assert_ok(ctx, tern_region(ctx, meet, &r));
    const double barrier = (tern_machine_seconds() - start) / (2 * r.n);
    print_message("%d threads: %.2f us a region, %.2f us a barrier\n", tern_ctx_threads(ctx), region * 1e6,
                  barrier * 1e6);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_thread_once),
        cmocka_unit_test(barriers),
        cmocka_unit_test(oversubscribed),
        cmocka_unit_test(late_threads),
        cmocka_unit_test(destroyed_while_parked),
        cmocka_unit_test(shares),
        cmocka_unit_test(many_contexts),
        cmocka_unit_test(forks),
        cmocka_unit_test(child_that_only_destroys),
        cmocka_unit_test(fork_without_threads),
        cmocka_unit_test(modes_are_put_aside),
        cmocka_unit_test(threads_that_do_not_start),
        cmocka_unit_test(team_arguments),
        cmocka_unit_test(figures),
    };

    return cmocka_run_group_tests_name("base/threads", tests, NULL, NULL);
}
