/* threads.c: the team of a context.
 *
 * Workers wait for `epoch` to change, run the region's function and count themselves out; the last one sets `finished` to
 * the region's epoch, which the caller waits for.  A barrier is a count of arrivals and a phase: the last to arrive
 * resets the count and moves the phase on.  So every wait is "until this word is no longer what it was", and one
 * function does it: spin, then park.
 *
 * Parking is on the word itself (futex): the system lets a thread sleep only while the word is still what it was.  A waiter
 * announces itself in `parked` before that, a waker changes the word before it looks at `parked`; both sides are
 * sequentially consistent, so at least one sees the other, and no wake-up is lost.  A waker with no one parked, as in a hot
 * region, makes no system call.  There is no lock that a forked child could find taken, and none that a host's thread could
 * be cancelled with: nothing here is a cancellation point.
 *
 * Spinning costs nothing while every thread has a processor of its own and everything otherwise: the thread waited for
 * may be the one that is kept from running.  So a spinning thread soon offers its processor (two threads that a busy
 * machine had put on one: 103 us a barrier without, 0.25 us with it), and a team larger than the processors that it is
 * granted parks almost at once (8 threads on 2: 35 us a barrier then); under a quota spinning also spends what is there for work.
 *
 * Fork.  The child has the memory and one thread.  It knows by `guard`, a page that the system empties in a child; by its
 * process id where there is no such page.  The id alone does not do: in a namespace of its own a child can have its
 * parent's. */
#include "base/threads.h"
#include "base/cpus.h"
#include "base/fpmode.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/trace.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CACHE_LINE           64
#define SPIN_SECONDS         100e-6 /* before parking: about twice what parking and being woken costs */
#define YIELD_SECONDS        4e-6   /* before the processor is offered to others in between */
#define SPIN_CROWDED_SECONDS 2e-6   /* before parking where there are more threads than processors */

struct worker {
    struct tern_team *team;
    pthread_t handle;
    int thread;
};

struct tern_team {
    /* Written by the caller before it moves the epoch, read by workers after they saw it move. */
    tern_region_fn *fn;
    void *arg;
    const struct tern_kernels *kernels;
    struct tern_trace *trace;
    bool stop;
    double spin_seconds;

    _Alignas(CACHE_LINE) atomic_uint epoch;
    _Alignas(CACHE_LINE) atomic_uint running; /* workers still in the region */
    _Alignas(CACHE_LINE) atomic_uint finished;
    _Alignas(CACHE_LINE) atomic_uint arrived; /* at the current barrier */
    _Alignas(CACHE_LINE) atomic_uint phase;
    _Alignas(CACHE_LINE) atomic_uint parked;

    atomic_bool busy; /* a call has the context, in a region or between two */

    int size;
    bool started;
    pid_t pid;   /* of the process that the workers live in */
    bool *guard; /* true there, false in a child; NULL where the system has no such page */
    struct worker workers[];
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* FUTEX_WAIT: sleeps if *word is `value`.  FUTEX_WAKE: wakes up to `value` sleepers.  Answers are not looked at: a waiter
 * looks at its word again whatever it was woken by. */
static void futex(atomic_uint *word, int operation, unsigned value)
{
    static_assert(sizeof *word == 4, "the system's futex is a word of 32 bits");
    (void)syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

/* Returns when *word is no longer `old`; what its writer did before is visible then. */
static void wait_while(struct tern_team *team, atomic_uint *word, unsigned old)
{
    for (int i = 0; i < 64; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old)
            return;
        cpu_relax();
    }
    /* By the clock and not by counting: one pause takes from 10 to 140 cycles, depending on the machine. */
    const double start = tern_machine_seconds();
    for (double now = start; now < start + team->spin_seconds; now = tern_machine_seconds()) {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old)
                return;
            cpu_relax();
        }
        if (now > start + YIELD_SECONDS)
            sched_yield();
    }

    atomic_fetch_add(&team->parked, 1);
    while (atomic_load(word) == old)
        futex(word, FUTEX_WAIT_PRIVATE, old);
    atomic_fetch_sub(&team->parked, 1);
}

/* Gives *word a new value and wakes who parked on it. */
static void move(struct tern_team *team, atomic_uint *word, unsigned value)
{
    atomic_store(word, value);
    if (atomic_load(&team->parked) > 0)
        futex(word, FUTEX_WAKE_PRIVATE, INT_MAX);
}

static void *work(void *p)
{
    const struct worker *self = p;
    struct tern_team *team = self->team;
    const int thread = self->thread;
    unsigned epoch = 0;

    /* A thread starts with the modes of the one that made it. */
    (void)tern_fpmode_enter();
    for (;;) {
        wait_while(team, &team->epoch, epoch);
        epoch++;
        if (team->stop)
            return NULL;
        const struct tern_par par = {
            .kernels = team->kernels, .team = team, .thread = thread, .count = team->size, .trace = team->trace
        };
        team->fn(team->arg, &par);
        if (atomic_fetch_sub_explicit(&team->running, 1, memory_order_acq_rel) == 1)
            move(team, &team->finished, epoch);
    }
}

/* Ends the first n workers, all of them waiting for a region. */
static void stop_workers(struct tern_team *team, int n)
{
    team->stop = true;
    move(team, &team->epoch, atomic_load(&team->epoch) + 1);
    for (int i = 0; i < n; i++)
        pthread_join(team->workers[i].handle, NULL);
    team->started = false;
}

/* Whether the workers live in this process, which is not so in a forked child. */
static bool at_home(const struct tern_team *team)
{
    return team->guard ? *team->guard : team->pid == getpid();
}

/* Starts the workers, for a new team or again in a forked child.  There the memory was copied in whatever state it was in
 * and the old workers do not exist, so everything is set anew. */
static tern_status start_workers(tern_ctx *ctx, struct tern_team *team)
{
    sigset_t all, before;
    int error = 0, n = 0;

    atomic_init(&team->epoch, 0);
    atomic_init(&team->running, 0);
    atomic_init(&team->finished, 0);
    atomic_init(&team->arrived, 0);
    atomic_init(&team->phase, 0);
    atomic_init(&team->parked, 0);
    atomic_init(&team->busy, false);
    team->stop = false;
    team->started = true;
    team->pid = getpid();
    if (team->guard)
        *team->guard = true;
    if (team->size > 1)
        team->spin_seconds = team->size <= tern_cpus_granted() ? SPIN_SECONDS : SPIN_CROWDED_SECONDS;

    /* The host's signals are for the host's threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; n < team->size - 1; n++) {
        struct worker *worker = &team->workers[n];
        *worker = (struct worker){ .team = team, .thread = n + 1 };
        error = pthread_create(&worker->handle, NULL, work, worker);
        if (error)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    if (error) {
        char words[128];
        stop_workers(team, n);
        return tern_fail(ctx, TERN_ERR_THREAD, "cannot start thread %d of %d: %s", n + 2, team->size,
                         strerror_r(error, words, sizeof words));
    }
    return TERN_OK;
}

/* A page of its own, which the system empties in a forked child; NULL where it does not know how to (Linux before 4.14). */
static bool *guard_create(void)
{
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, size, MADV_WIPEONFORK) == 0)
        return page;
    munmap(page, size);
    return NULL;
}

static void team_free(struct tern_team *team)
{
    if (team->guard)
        munmap(team->guard, (size_t)sysconf(_SC_PAGESIZE));
    tern_free(team);
}

tern_status tern_team_create(tern_ctx *ctx, int n, struct tern_team **out)
{
    struct tern_team *team;

    *out = NULL;
    TERN_REQUIRE(ctx, n >= 1 && n <= TERN_MAX_THREADS, TERN_ERR_ARG, "threads: got %d, expected 1..%d", n,
                 TERN_MAX_THREADS);
    /* At least a line is asked for, which tern_alloc aligns: the words above stand on lines of their own. */
    TERN_TRY(tern_alloc(ctx, 1, sizeof *team + sizeof team->workers[0] * (size_t)(n - 1), "a team of threads",
                        (void **)&team));
    team->size = n;
    team->guard = guard_create();
    const tern_status status = start_workers(ctx, team);
    if (status != TERN_OK) {
        team_free(team);
        return status;
    }
    *out = team;
    return TERN_OK;
}

void tern_team_destroy(struct tern_team *team)
{
    if (!team)
        return;
    /* In a forked child that never used it there is no one to stop. */
    if (team->started && at_home(team))
        stop_workers(team, team->size - 1);
    team_free(team);
}

int tern_team_size(const struct tern_team *team)
{
    return team ? team->size : 1;
}

static void run_alone(tern_ctx *ctx, tern_region_fn *fn, void *arg)
{
    const struct tern_par par = { .kernels = ctx->kernels, .team = NULL, .thread = 0, .count = 1, .trace = ctx->trace };
    const tern_fpmode caller = tern_fpmode_enter();

    fn(arg, &par);
    tern_fpmode_leave(caller);
}

static void run_together(tern_ctx *ctx, struct tern_team *team, tern_region_fn *fn, void *arg)
{
    const struct tern_par par = {
        .kernels = ctx->kernels, .team = team, .thread = 0, .count = team->size, .trace = ctx->trace
    };
    const unsigned epoch = atomic_load_explicit(&team->epoch, memory_order_relaxed) + 1;

    team->fn = fn;
    team->arg = arg;
    team->kernels = ctx->kernels;
    team->trace = ctx->trace;
    atomic_store_explicit(&team->running, (unsigned)team->size - 1, memory_order_relaxed);
    move(team, &team->epoch, epoch);

    const tern_fpmode caller = tern_fpmode_enter();
    fn(arg, &par);
    tern_fpmode_leave(caller);

    wait_while(team, &team->finished, epoch - 1);
}

tern_status tern_team_take(tern_ctx *ctx)
{
    struct tern_team *team = ctx->team;

    if (!team)
        return TERN_OK;
    if (!team->started || !at_home(team))
        TERN_TRY(start_workers(ctx, team));
    TERN_REQUIRE(ctx, !atomic_exchange_explicit(&team->busy, true, memory_order_acquire), TERN_ERR_STATE,
                 "the context is at work: another thread's call is under way, or the one that this call was made in; "
                 "expected one call at a time (each thread makes its own context)");
    return TERN_OK;
}

void tern_team_give(tern_ctx *ctx)
{
    if (ctx->team)
        atomic_store_explicit(&ctx->team->busy, false, memory_order_release);
}

tern_status tern_team_keep(tern_ctx *ctx)
{
    return !ctx->team || at_home(ctx->team) ? TERN_OK : tern_team_take(ctx);
}

void tern_region_taken(tern_ctx *ctx, tern_region_fn *fn, void *arg)
{
    if (!ctx->team || ctx->team->size == 1)
        run_alone(ctx, fn, arg);
    else
        run_together(ctx, ctx->team, fn, arg);
}

tern_status tern_region(tern_ctx *ctx, tern_region_fn *fn, void *arg)
{
    TERN_TRY(tern_team_take(ctx));
    tern_region_taken(ctx, fn, arg);
    tern_team_give(ctx);
    return TERN_OK;
}

static void meet(const struct tern_par *par)
{
    struct tern_team *team = par->team;

    /* The phase cannot move before this thread has arrived, so it is read first and without order. */
    const unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)par->count) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        move(team, &team->phase, phase + 1);
    } else {
        wait_while(team, &team->phase, phase);
    }
}

void tern_barrier(const struct tern_par *par)
{
    static const struct tern_trace_kind kind = { "wait", { NULL } };

    if (par->count == 1)
        return;
    const double begin = tern_trace_begin(par);
    meet(par);
    tern_trace_end(par, &kind, begin, 0, 0, 0);
}

void tern_share(const struct tern_par *par, size_t n, size_t unit, size_t *begin, size_t *end)
{
    assert(unit >= 1);
    const size_t units = n / unit + (n % unit != 0), count = (size_t)par->count, thread = (size_t)par->thread;
    const size_t each = units / count, more = units % count; /* the first `more` threads take one unit more */
    const size_t first = thread * each + (thread < more ? thread : more);
    const size_t last = first + each + (thread < more);

    /* Only the very last unit can be short, and last * unit can pass n only there. */
    *begin = first >= units ? n : first * unit;
    *end = last >= units ? n : last * unit;
}
