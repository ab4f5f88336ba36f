/* labels: quick threads */
/* test_threads.c: the team: regions, barriers, shares, and what can happen to threads. */
#include "faults.h"

#include "base/cpus.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/threads.h"

#include <dirent.h>
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

/* Threads of this process. */
static int count_tasks(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;

    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* The first test: no thread of another one is on its way out. */
static void one_starts_no_thread(void **state)
{
    struct visit v = { 0 };
    const int before = count_tasks();

    (void)state;
    tern_ctx *ctx = test_ctx(1);
    assert_int_equal(count_tasks(), before);
    assert_ok(ctx, tern_region(ctx, visit, &v));
    assert_int_equal(count_tasks(), before);
    assert_int_equal(v.count[0], 1);
    tern_ctx_destroy(&ctx);
    if (TEST_TSAN)
        return; /* it may start a thread of its own with the first of ours */
    ctx = test_ctx(4);
    assert_int_equal(count_tasks(), before + 3);
    tern_ctx_destroy(&ctx);
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

/* More threads than processors come through; what a barrier takes is a figure to look at. */
static void oversubscribed(void **state)
{
    const double granted = tern_cpus_granted();
    const int n = 4 * granted < MOST ? (int)ceil(4 * granted) : MOST;
    tern_ctx *ctx = test_ctx(n);
    struct rounds r = { .n = 500 };
    const double start = tern_machine_seconds();

    (void)state;
    assert_ok(ctx, tern_region(ctx, meet, &r));
    const double seconds = tern_machine_seconds() - start;
    print_message("%d threads on %.4g processors: %.1f us a barrier\n", n, granted, seconds * 1e6 / (2 * r.n));
    for (int t = 0; t < n; t++)
        assert_int_equal(r.wrong[t], 0);
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

/* ---- one context in several threads of the host ---- */

/* A region that stays until it is let go. */
struct stay {
    tern_ctx *ctx;
    atomic_int inside;
    atomic_bool go;
    tern_status status;
};

static void stay(void *arg, const struct tern_par *par)
{
    struct stay *s = arg;

    atomic_fetch_add(&s->inside, 1);
    while (!atomic_load(&s->go))
        sched_yield();
    tern_barrier(par);
}

static void *stay_in_a_region(void *arg)
{
    struct stay *s = arg;

    s->status = tern_region(s->ctx, stay, s);
    return NULL;
}

static pthread_t start_to_stay(struct stay *s)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, stay_in_a_region, s), 0);
    while (atomic_load(&s->inside) < tern_ctx_threads(s->ctx))
        sched_yield();
    return thread;
}

static void let_go(struct stay *s, pthread_t thread)
{
    atomic_store(&s->go, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ok(s->ctx, s->status);
}

static void a_second_caller_is_refused(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++) {
        tern_ctx *ctx = test_ctx(n);
        struct stay s = { .ctx = ctx };
        struct visit v = { 0 };
        const pthread_t thread = start_to_stay(&s);
        assert_fails(ctx, tern_region(ctx, visit, &v), TERN_ERR_STATE, "the context is at work");
        assert_int_equal(v.count[0], 0);
        let_go(&s, thread);
        assert_ok(ctx, tern_region(ctx, visit, &v)); /* one after the other, from any thread */
        assert_int_equal(v.count[n - 1], 1);
        tern_ctx_destroy(&ctx);
    }
}

struct nested {
    tern_ctx *own;          /* the context of the region */
    tern_ctx *others[MOST]; /* one for each of its threads */
    tern_status own_status;
    tern_status other_status[MOST];
    struct visit visits[MOST];
};

static void call_within(void *arg, const struct tern_par *par)
{
    struct nested *n = arg;

    if (par->thread == par->count - 1)
        n->own_status = tern_region(n->own, visit, &n->visits[par->thread]);
    tern_barrier(par);
    n->other_status[par->thread] = tern_region(n->others[par->thread], visit, &n->visits[par->thread]);
}

static void nested_calls(void **state)
{
    (void)state;
    for (int count = 1; count <= 3; count++) {
        struct nested n = { .own = test_ctx(count) };
        for (int t = 0; t < count; t++)
            n.others[t] = test_ctx(1 + t);
        assert_ok(n.own, tern_region(n.own, call_within, &n));
        assert_int_equal(n.own_status, TERN_ERR_STATE);
        for (int t = 0; t < count; t++) {
            assert_ok(n.others[t], n.other_status[t]);
            for (int i = 0; i < MOST; i++)
                assert_int_equal(n.visits[t].count[i], i <= t);
            tern_ctx_destroy(&n.others[t]);
        }
        tern_ctx_destroy(&n.own);
    }
}

/* The host may end its thread while it waits for the team: the region is finished first, and the context lives on. */
struct ended {
    struct stay stay;
    atomic_bool finished;
};

static void wait_for_the_others(void *arg, const struct tern_par *par)
{
    struct ended *e = arg;

    if (par->thread == 0)
        atomic_fetch_add(&e->stay.inside, 1);
    else
        while (!atomic_load(&e->stay.go))
            sched_yield();
}

static void *end_in_a_region(void *arg)
{
    struct ended *e = arg;

    e->stay.status = tern_region(e->stay.ctx, wait_for_the_others, e);
    atomic_store(&e->finished, true);
    pthread_testcancel();
    return NULL;
}

static void cancelled_caller(void **state)
{
    const struct timespec pause = { .tv_nsec = 3000000 };
    struct ended e = { .stay = { .ctx = test_ctx(3) } };
    struct visit v = { 0 };
    pthread_t thread;
    void *result;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, end_in_a_region, &e), 0);
    while (!atomic_load(&e.stay.inside))
        sched_yield();
    nanosleep(&pause, NULL); /* by now it is parked, or a busy machine tests less */
    assert_int_equal(pthread_cancel(thread), 0);
    nanosleep(&pause, NULL);
    atomic_store(&e.stay.go, true);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_true(result == PTHREAD_CANCELED);
    assert_true(atomic_load(&e.finished));
    assert_ok(e.stay.ctx, e.stay.status);
    assert_ok(e.stay.ctx, tern_region(e.stay.ctx, visit, &v));
    assert_int_equal(v.count[2], 1);
    tern_ctx_destroy(&e.stay.ctx);
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

/* The parent's region goes on in threads that the child does not have. */
static void fork_during_a_region(void **state)
{
    (void)state;
    if (TEST_TSAN)
        TEST_SKIP("fork: ThreadSanitizer does not follow threads that a forked child starts");
    for (int n = 1; n <= 3; n++) {
        struct stay s = { .ctx = test_ctx(n) };
        const pthread_t thread = start_to_stay(&s);
        const int wrong = in_child(s.ctx, 1);
        let_go(&s, thread);
        assert_int_equal(wrong, 0);
        tern_ctx_destroy(&s.ctx);
    }
}

static void give_up(int signal)
{
    (void)signal;
    _exit(90);
}

/* Process 1 of a process namespace of its own, with a team; its child is process 1 of another one. */
static int first_of_a_namespace(void)
{
    tern_ctx *ctx = NULL;
    tern_ctx_options options = tern_ctx_options_default();
    struct visit v = { 0 };
    int status;

    options.n_threads = 3;
    /* A handler, because the first process of a namespace is not ended by a signal that it has none for. */
    signal(SIGALRM, give_up);
    alarm(20);
    if (getpid() != 1 || tern_ctx_create(&ctx, &options, NULL, 0) != TERN_OK || tern_region(ctx, visit, &v) != TERN_OK)
        return 1;
    if (unshare(CLONE_NEWPID) != 0)
        return 80;
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        _exit(getpid() != 1 ? 2 : tern_region(ctx, visit, &v) != TERN_OK ? 3 : v.count[2] == 2 ? 0 : 4);
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 5;
}

static void child_with_its_parents_id(void **state)
{
    int status;

    (void)state;
    if (TEST_TSAN)
        TEST_SKIP("fork: ThreadSanitizer does not follow threads that a forked child starts");
    const pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWPID) != 0)
            _exit(80);
        const pid_t first = fork();
        if (first == 0)
            _exit(first_of_a_namespace());
        _exit(waitpid(first, &status, 0) == first && WIFEXITED(status) ? WEXITSTATUS(status) : 6);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 80)
        TEST_SKIP("process namespaces: the system does not let this user make one");
    assert_int_equal(WEXITSTATUS(status), 0);
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
    fault_arm(3); /* the memory, the page that tells a fork, the first thread, and then */
    const tern_status status = tern_team_create(&ctx, 4, &team);
    assert_true(fault_disarm());
    assert_fails(&ctx, status, TERN_ERR_THREAD, "cannot start thread");
    assert_null(team);
}

/* The system itself refuses: there is no room for so many stacks. */
static void no_room_for_threads(void **state)
{
    int status;

    (void)state;
    if (TEST_ASAN || TEST_TSAN)
        TEST_SKIP("a limit of address space: the sanitizer has more than that reserved");
    const pid_t pid = fork();
    if (pid == 0) {
        tern_ctx_options options = tern_ctx_options_default();
        char message[256] = "", words[64] = "";
        struct rlimit limit, before;
        struct visit v = { 0 };
        tern_ctx *ctx;
        FILE *f = fopen("/proc/self/statm", "r");
        unsigned long pages = 0;

        alarm(20);
        if (!f || !fgets(words, sizeof words, f) || sscanf(words, "%lu", &pages) != 1 || fclose(f) != 0)
            _exit(1);
        getrlimit(RLIMIT_AS, &before);
        limit = before;
        limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (4 << 20);
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(2);
        options.n_threads = 1000;
        const tern_status first = tern_ctx_create(&ctx, &options, message, sizeof message);
        setrlimit(RLIMIT_AS, &before);
        if (first != TERN_ERR_THREAD || ctx || !strstr(message, "of 1000"))
            _exit(3);
        options.n_threads = 3;
        if (tern_ctx_create(&ctx, &options, NULL, 0) != TERN_OK || tern_region(ctx, visit, &v) != TERN_OK ||
            v.count[2] != 1)
            _exit(4);
        tern_ctx_destroy(&ctx);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
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
    tern_ctx *ctx = test_ctx(tern_cpus_granted() < MOST ? (int)ceil(tern_cpus_granted()) : MOST);
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
        cmocka_unit_test(one_starts_no_thread),
        cmocka_unit_test(each_thread_once),
        cmocka_unit_test(barriers),
        cmocka_unit_test(oversubscribed),
        cmocka_unit_test(late_threads),
        cmocka_unit_test(destroyed_while_parked),
        cmocka_unit_test(shares),
        cmocka_unit_test(many_contexts),
        cmocka_unit_test(a_second_caller_is_refused),
        cmocka_unit_test(nested_calls),
        cmocka_unit_test(cancelled_caller),
        cmocka_unit_test(forks),
        cmocka_unit_test(fork_during_a_region),
        cmocka_unit_test(child_with_its_parents_id),
        cmocka_unit_test(child_that_only_destroys),
        cmocka_unit_test(fork_without_threads),
        cmocka_unit_test(modes_are_put_aside),
        cmocka_unit_test(threads_that_do_not_start),
        cmocka_unit_test(no_room_for_threads),
        cmocka_unit_test(team_arguments),
        cmocka_unit_test(figures),
    };

    return cmocka_run_group_tests_name("base/threads", tests, NULL, NULL);
}
