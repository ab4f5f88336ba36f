/* mpi_watch.c: the thread that ends the process when another rank is lost.
 *
 * Every rank gives a sign of life each tenth of a second (between hosts less often), from this thread, so that a long computation is no
 * silence.  A process that
 * was killed, stopped or cut off gives none; its peers wait `timeout` seconds for it.  Time is counted in this thread's own turns,
 * each of them at most two tenths: while a machine is suspended, or all ranks are stopped together, no one's silence grows.
 *
 * A rank that ended is no news for who started it: mpirun ends the others and says which.  So a few seconds are left to it before
 * this thread does so itself.  Rank 0 owns the run: when its program ends with an error of its own, it has said so, and the
 * others' collectives return; when another rank goes, the run cannot continue, and it is told.
 *
 * No call of MPI is made here. */
#include "mpi_group.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TURN_SECONDS    0.1
#define LONGEST_TURN    0.2 /* what one turn counts at most */
#define GONE_SECONDS    4.0 /* left to who started the ranks, to end them, which takes mpirun up to 2 */
#define TOLD_SECONDS    1.5 /* left to the process that tells why */
#define DEPUTY_SECONDS  1.5 /* left to the rank before, where ranks do not know each other yet */
#define OPENING_SECONDS 5.0 /* and one more: of MPI's start and ours */
#define CLOSING_SECONDS 7.0

struct mpi_watched {
    unsigned beats;
    double silent; /* seconds since `beats` changed */
    double gone;   /* seconds since it ended, or since it was missed after it closed the group */
};

const char *mpi_group_name(const struct mpi_group *group, int rank, char text[static 160])
{
    const struct mpi_identity *who = &group->ranks[rank];

    snprintf(text, 160, "rank %d (%s, process %lld)", rank, who->host, (long long)who->pid);
    return text;
}

/* ---- ending ------------------------------------------------------------------------------------------------------------ */

/* Whether the word is this process's.  On several hosts rank 0 has it; where that is lost, the first rank of another host, else rank 1.
 * The others give that one its time and are silent. */
static bool has_the_word(struct mpi_group *group)
{
    int deputy = 1;

    if (group->window)
        return mpi_window_claim(group);
    for (int r = group->size - 1; r > 0; r--)
        if (strcmp(group->ranks[r].host, group->ranks[0].host) != 0)
            deputy = r;
    return group->rank == 0 || group->rank == deputy;
}

/* One line on stderr. */
static void tell(const char *format, va_list args) __attribute__((format(printf, 1, 0)));
static void tell(const char *format, va_list args)
{
    char text[512] = "tern: ";
    size_t n = strlen(text);

    vsnprintf(text + n, sizeof text - n - 1, format, args);
    n = strlen(text);
    text[n++] = '\n';
    for (size_t at = 0; at < n;) {
        const ssize_t done = write(STDERR_FILENO, text + at, n - at);

        if (done < 0 && errno != EINTR)
            break;
        at += done > 0 ? (size_t)done : 0;
    }
}

void mpi_group_end(struct mpi_group *group, const char *format, ...)
{
    if (has_the_word(group)) {
        va_list args;

        va_start(args, format);
        tell(format, args);
        va_end(args);
        if (group->window)
            mpi_window_end(group);
        if (group->links)
            mpi_links_end(group);
    } else {
        mpi_group_pause(TOLD_SECONDS);
    }
    _exit(EXIT_FAILURE);
}

void mpi_group_check(struct mpi_group *group, int error, const char *call)
{
    char text[MPI_MAX_ERROR_STRING] = "", name[160];
    int n = 0;

    if (error == MPI_SUCCESS)
        return;
    MPI_Error_string(error, text, &n);
    /* The others' systems may have told them why: rank 0 has the word, and who it reaches ends without one. */
    if (group->links && group->rank != 0)
        mpi_group_pause(TOLD_SECONDS);
    mpi_group_end(group, "%s: %s failed: %s: the run ends", mpi_group_name(group, group->rank, name), call, text);
}

/* ---- watching ---------------------------------------------------------------------------------------------------------- */

static bool sees(const struct mpi_group *group, int rank)
{
    return rank != group->rank && (group->window || mpi_links_sees(group, rank));
}

static enum mpi_presence presence(const struct mpi_group *group, int rank)
{
    return group->window ? mpi_window_presence(group, rank) : mpi_links_presence(group, rank);
}

static unsigned beats(const struct mpi_group *group, int rank)
{
    return group->window ? mpi_window_beats(group, rank) : mpi_links_beats(group, rank);
}

static void judge(struct mpi_group *group, int rank, struct mpi_watched *w, double turn)
{
    const enum mpi_presence there = presence(group, rank);
    const unsigned now = beats(group, rank);
    char name[160];

    w->silent = now == w->beats ? w->silent + turn : 0;
    w->beats = now;
    if (there == MPI_RANK_HERE) {
        if (w->silent >= group->timeout)
            mpi_group_end(group, "%s has not answered for %g s (stopped, killed or cut off): the run ends",
                          mpi_group_name(group, rank, name), group->timeout);
        return;
    }
    if (rank == 0 && there != MPI_RANK_LOST) {
        atomic_store(&group->over, true);
        return;
    }
    /* Who closed the group is missed only if a collective waits for it. */
    const bool missed = there != MPI_RANK_CLOSED || atomic_load_explicit(&group->collective, memory_order_relaxed);
    w->gone = missed ? w->gone + turn : 0;
    if (w->gone >= GONE_SECONDS)
        mpi_group_end(group, "%s has ended: the run ends", mpi_group_name(group, rank, name));
}

static void wait_a_turn(struct mpi_group *group)
{
    struct pollfd stop = { .fd = group->stop, .events = POLLIN };

    if (group->links)
        mpi_links_wait(group, TURN_SECONDS);
    else
        poll(&stop, 1, (int)(TURN_SECONDS * 1000));
}

static void *watch(void *p)
{
    struct mpi_group *group = p;
    double before = mpi_group_seconds();

    while (!atomic_load(&group->stopped)) {
        wait_a_turn(group);
        const double now = mpi_group_seconds(), turn = now - before < LONGEST_TURN ? now - before : LONGEST_TURN;
        before = now;
        if (group->window ? mpi_window_ended(group) : mpi_links_ended(group))
            _exit(EXIT_FAILURE);
        if (getppid() != group->parent) /* mpirun was killed, and with it goes whoever could read a line of ours */
            _exit(EXIT_FAILURE);
        if (group->window)
            mpi_window_beat(group);
        else
            mpi_links_beat(group);
        for (int r = 0; r < group->size; r++)
            if (sees(group, r))
                judge(group, r, &group->watched[r], turn);
    }
    return NULL;
}

/* Until this thread is stopped, or `seconds` of its own turns have gone by: false. */
static bool stopped_within(struct mpi_group *group, double seconds)
{
    double before = mpi_group_seconds(), waited = 0;

    while (!atomic_load(&group->stopped) && waited < seconds) {
        struct pollfd stop = { .fd = group->stop, .events = POLLIN };

        poll(&stop, 1, (int)(TURN_SECONDS * 1000));
        const double now = mpi_group_seconds();
        waited += now - before < LONGEST_TURN ? now - before : LONGEST_TURN;
        before = now;
    }
    return atomic_load(&group->stopped);
}

/* Where ranks cannot tell each other who has the word: rank 0 speaks, unless it is the one that is missing: then rank 1.  The first that
 * ends takes all others with it. */
static void end_in_turn(struct mpi_group *group, int rank, const char *format, ...) TERN_PRINTF(3, 4);
static void end_in_turn(struct mpi_group *group, int rank, const char *format, ...)
{
    va_list args;

    if (stopped_within(group, (rank < 2 ? rank : 2) * DEPUTY_SECONDS))
        return;
    if (rank < 2) {
        va_start(args, format);
        tell(format, args);
        va_end(args);
    }
    _exit(EXIT_FAILURE);
}

/* Until the ranks know each other no one can say which of them is missing.  MPI's own start has no bound: a rank that is stopped in it
 * is waited for by all.  Nothing of `group` is read here that opening it writes. */
static void *watch_opening(void *p)
{
    struct mpi_group *group = p;

    if (!stopped_within(group, group->patience))
        end_in_turn(group, group->told,
                    "rank %d (process %d) has waited %g s for the others to join (one is stopped, killed or cut off): "
                    "the run ends",
                    group->told, (int)group->pid, group->patience);
    return NULL;
}

/* MPI's own ending waits for all ranks, one of which may be lost just now. */
static void *watch_closing(void *p)
{
    struct mpi_group *group = p;

    if (!stopped_within(group, CLOSING_SECONDS))
        end_in_turn(group, group->rank,
                    "rank %d (process %d) has waited %g s for MPI to end (another rank is stopped, killed or cut off): "
                    "the run ends",
                    group->rank, (int)group->pid, CLOSING_SECONDS);
    return NULL;
}

/* The host's signals are for the host's threads. */
static int start(struct mpi_group *group, void *(*thread)(void *))
{
    sigset_t all, before;

    atomic_store(&group->stopped, false);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&group->watcher, NULL, thread, group);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    group->watches = error == 0;
    return error;
}

static void stop(struct mpi_group *group)
{
    uint64_t count = 1;

    if (!group->watches)
        return;
    atomic_store(&group->stopped, true);
    if (write(group->stop, &count, sizeof count) == sizeof count)
        pthread_join(group->watcher, NULL);
    if (read(group->stop, &count, sizeof count) < 0)
        count = 0; /* nothing was there: fine */
    group->watches = false;
}

void mpi_watch_init(struct mpi_group *group)
{
    group->parent = getppid();
    group->patience = 1 + (group->timeout > OPENING_SECONDS ? group->timeout : OPENING_SECONDS);
    group->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void mpi_watch_opening(struct mpi_group *group, int rank)
{
    if (rank < 0 || group->watches || group->stop < 0 || group->timeout == 0)
        return;
    group->told = rank;
    (void)start(group, watch_opening); /* where there can be no thread, mpi_watch_start() will tell */
}

int mpi_watch_start(struct mpi_group *group)
{
    stop(group);
    group->watched = calloc((size_t)group->size, sizeof *group->watched);
    if (!group->watched || group->stop < 0)
        return !group->watched ? ENOMEM : EMFILE;
    return start(group, watch);
}

bool mpi_watch_leave(struct mpi_group *group)
{
    double pause = 20e-6;

    if (group->window)
        mpi_window_leave(group, MPI_RANK_CLOSED);
    else if (group->links)
        mpi_links_leave(group, MPI_RANK_CLOSED);
    for (;; mpi_group_pause(pause), pause = pause < 2e-3 ? 1.5 * pause : pause) {
        bool all = true;

        for (int r = 0; r < group->size; r++)
            if (sees(group, r)) {
                const enum mpi_presence there = presence(group, r);

                if (there == MPI_RANK_EXITED || there == MPI_RANK_LOST)
                    return false;
                all = all && there == MPI_RANK_CLOSED;
            }
        if (all && group->links)
            mpi_links_dismiss(group);
        if (all && (!group->links || mpi_links_dismissed(group)))
            return true;
    }
}

void mpi_watch_closing(struct mpi_group *group)
{
    stop(group);
    if (group->size > 1 && group->timeout > 0 && group->stop >= 0)
        (void)start(group, watch_closing); /* without it there is no bound, and that is all */
}

void mpi_watch_stop(struct mpi_group *group)
{
    stop(group);
}

void mpi_watch_free(struct mpi_group *group)
{
    stop(group);
    if (group->stop >= 0)
        close(group->stop);
    free(group->watched);
}
