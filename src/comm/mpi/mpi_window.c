/* mpi_window.c: collectives of one host, through memory that all ranks map.
 *
 * Every rank has a mailbox and two slots for what it gives.  A collective is one or more steps, numbered by the same counter on
 * every rank.  In step k a rank writes slot k % 2, says `arrived = k`, waits until those whose data it needs say so too, and
 * reads their slots.  Who arrives at step k has read all that it wanted of step k - 1; so slot k % 2 may be written when all
 * ranks have arrived at k - 1, and a step costs one wait and not two.
 *
 * Sums.  Few numbers: each rank adds up all slots itself (one step).  Many: in pieces; each rank adds up its part of a piece and
 * puts the sum into a second pair of slots, which the others read in the next step, together with giving the next piece.
 * With N ranks the first reads N - 1 times the data from other cores, the second 2 (N - 1) / N times and waits once more, so
 * two ranks always take the first, and more of them up to where reading costs what waiting does.  Either way sums are added in rank order.
 *
 * Waiting: for a moment by looking, then by offering the processor (at once where ranks outnumber processors: 3 instead of 14 us a
 * barrier of three ranks on two), then asleep on the mailbox's word (futex), as
 * base/threads.c does within a process; a rank that waits for a user takes no time. */
#include "mpi_group.h"

#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* 1 MiB on two ranks in pieces of 4096, 16384, 65536 and 131072 floats: 90, 83, 66 and 56 us. */
#define PIECE             65536u /* floats of a slot: with both of them and the sums, within a core's second level cache */
#define DIRECT_MANY       16384u /* floats of all ranks up to which more than two add up all themselves */
#define DIRECT_CROWDED    65536u /* floats of one rank where waiting costs a change of processes */
#define BLOCK             1024u  /* floats that stay in the first level cache while rank after rank is added */
#define SPIN_SECONDS      100e-6
#define YIELD_SECONDS     4e-6
#define SLEEP_NANOSECONDS 100000000  /* between looks at whether the group still is */
#define SPARE             (64 << 10) /* bytes of MPI's own beside the windows */

struct mailbox {
    _Alignas(MPI_GROUP_LINE) atomic_uint arrived; /* the step; written by its owner alone */
    _Alignas(MPI_GROUP_LINE) atomic_uint parked;  /* ranks asleep on `arrived` */
    _Alignas(MPI_GROUP_LINE) atomic_uint beats;   /* signs of life */
    atomic_uint presence;                         /* enum mpi_presence */
    atomic_uint told, ended;                      /* rank 0's alone: someone says, or has said, why the run ends */
};

struct mpi_window {
    MPI_Win win;
    struct mailbox **box; /* [size] */
    float **slots;        /* [size]: [2][PIECE] */
    float **sums;         /* [size]: [2][part of a piece] */
    uint32_t step;
    size_t part;   /* floats of `sums` */
    size_t direct; /* floats up to which each rank adds up all itself */
};

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Between processes, so not the private kind. */
static void sleep_on(atomic_uint *word, unsigned old)
{
    const struct timespec longest = { .tv_nsec = SLEEP_NANOSECONDS };

    (void)syscall(SYS_futex, word, FUTEX_WAIT, old, &longest, NULL, 0);
}

static void wake(struct mailbox *box)
{
    if (atomic_load(&box->parked) > 0)
        (void)syscall(SYS_futex, &box->arrived, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool reached(uint32_t at, uint32_t step)
{
    return (int32_t)(at - step) >= 0; /* the counter may run over */
}

/* false: rank 0 has left, and that rank will not come. */
static bool wait_long(struct mpi_group *group, struct mailbox *box, uint32_t step)
{
    struct mpi_window *w = group->window;
    const double start = mpi_group_seconds();

    for (double now = start; now < start + SPIN_SECONDS; now = mpi_group_seconds()) {
        for (int i = 0; i < (group->crowded ? 1 : 32); i++) {
            if (reached(atomic_load_explicit(&box->arrived, memory_order_acquire), step))
                return true;
            relax();
        }
        if (group->crowded || now > start + YIELD_SECONDS)
            sched_yield();
    }

    bool here = true;
    atomic_fetch_add(&box->parked, 1);
    for (;;) {
        const unsigned at = atomic_load(&box->arrived);
        if (reached(at, step))
            break;
        if (atomic_load(&w->box[0]->presence) != MPI_RANK_HERE) {
            here = reached(atomic_load(&box->arrived), step); /* it may have come between the two, and left */
            break;
        }
        sleep_on(&box->arrived, at);
    }
    atomic_fetch_sub(&box->parked, 1);
    return here;
}

static bool wait_for(struct mpi_group *group, int rank, uint32_t step)
{
    struct mailbox *box = group->window->box[rank];

    for (int i = 0; i < 64; i++) {
        if (reached(atomic_load_explicit(&box->arrived, memory_order_acquire), step))
            return true;
        relax();
    }
    return wait_long(group, box, step);
}

static bool wait_for_all(struct mpi_group *group, uint32_t step)
{
    for (int r = 0; r < group->size; r++)
        if (r != group->rank && !wait_for(group, r, step))
            return false;
    return true;
}

/* Says that this rank is at the window's step. */
static void arrive(struct mpi_group *group)
{
    struct mpi_window *w = group->window;
    struct mailbox *box = w->box[group->rank];

    atomic_store(&box->arrived, w->step);
    wake(box);
}

static float *slot_of(const struct mpi_window *w, int rank)
{
    return w->slots[rank] + (w->step % 2) * (size_t)PIECE;
}

static float *sums_of(const struct mpi_window *w, int rank, uint32_t step)
{
    return w->sums[rank] + (step % 2) * w->part;
}

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

/* Every rank runs these same loops, so that even of two NaNs each keeps the same one. */
static void add_two(float *restrict out, const float *restrict a, const float *restrict b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void add(float *restrict out, const float *restrict a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] += a[i];
}

/* out[0..n) becomes the sum of that part of every rank's slot. */
static void add_slots(const struct mpi_group *group, float *out, size_t begin, size_t n)
{
    const struct mpi_window *w = group->window;

    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t count = n - at < BLOCK ? n - at : BLOCK;

        add_two(out + at, slot_of(w, 0) + begin + at, slot_of(w, 1) + begin + at, count);
        for (int r = 2; r < group->size; r++)
            add(out + at, slot_of(w, r) + begin + at, count);
    }
}

static bool reduce_directly(struct mpi_group *group, float *data, size_t n)
{
    struct mpi_window *w = group->window;

    for (size_t at = 0; at < n; at += PIECE) {
        const size_t count = n - at < PIECE ? n - at : PIECE;

        if (!wait_for_all(group, w->step))
            return false;
        w->step++;
        memcpy(slot_of(w, group->rank), data + at, count * sizeof *data);
        arrive(group);
        if (!wait_for_all(group, w->step))
            return false;
        add_slots(group, data + at, 0, count);
    }
    return true;
}

static bool reduce_in_parts(struct mpi_group *group, float *data, size_t n)
{
    struct mpi_window *w = group->window;
    const size_t pieces = (n + PIECE - 1) / PIECE;

    if (!wait_for_all(group, w->step))
        return false;
    for (size_t p = 0; p <= pieces; p++) {
        const size_t at = p * PIECE, now = p < pieces ? (n - at < PIECE ? n - at : PIECE) : 0;

        w->step++;
        if (now > 0)
            memcpy(slot_of(w, group->rank), data + at, now * sizeof *data);
        arrive(group);
        if (!wait_for_all(group, w->step))
            return false;
        for (int r = 0; p > 0 && r < group->size; r++) { /* the sums of the piece before, each from who has it */
            size_t begin, count;

            mpi_group_part(group, r, at > n ? n - (at - PIECE) : PIECE, &begin, &count);
            memcpy(data + (at - PIECE) + begin, sums_of(w, r, w->step - 1), count * sizeof *data);
        }
        if (now > 0) {
            size_t begin, count;

            mpi_group_part(group, group->rank, now, &begin, &count);
            add_slots(group, sums_of(w, group->rank, w->step), begin, count);
        }
    }
    return true;
}

/* ---- the operations -------------------------------------------------------------------------------------------------- */

static tern_status all_reduce(void *user, float *data, size_t n)
{
    struct mpi_group *group = user;

    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    return mpi_group_done(group, n <= group->window->direct ? reduce_directly(group, data, n)
                                                            : reduce_in_parts(group, data, n));
}

static tern_status all_gather(void *user, const float *data, float *out, size_t n)
{
    struct mpi_group *group = user;
    struct mpi_window *w = group->window;
    bool good = true;

    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    for (size_t at = 0; good && at < n; at += PIECE) {
        const size_t count = n - at < PIECE ? n - at : PIECE;

        good = wait_for_all(group, w->step);
        if (!good)
            break;
        w->step++;
        memcpy(slot_of(w, group->rank), data + at, count * sizeof *data);
        arrive(group);
        for (int r = 0; good && r < group->size; r++) {
            float *row = out + (size_t)r * n + at;

            if (r != group->rank)
                good = wait_for(group, r, w->step);
            if (good && row != data + at)
                memcpy(row, slot_of(w, r), count * sizeof *data);
        }
    }
    return mpi_group_done(group, good);
}

static tern_status broadcast(void *user, void *data, size_t bytes, int root)
{
    struct mpi_group *group = user;
    struct mpi_window *w = group->window;
    const size_t piece = PIECE * sizeof(float);
    bool good = true;

    if (root < 0 || root >= group->size)
        return TERN_ERR_ARG;
    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    for (size_t at = 0; good && at < bytes; at += piece) {
        const size_t count = bytes - at < piece ? bytes - at : piece;
        unsigned char *here = (unsigned char *)data + at;

        if (group->rank == root)
            good = wait_for_all(group, w->step);
        if (!good)
            break;
        w->step++;
        if (group->rank == root)
            memcpy(slot_of(w, root), here, count);
        arrive(group);
        if (group->rank != root) {
            good = wait_for(group, root, w->step);
            if (good)
                memcpy(here, slot_of(w, root), count);
        }
    }
    return mpi_group_done(group, good);
}

static tern_status barrier(void *user)
{
    struct mpi_group *group = user;

    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    group->window->step++;
    arrive(group);
    return mpi_group_done(group, wait_for_all(group, group->window->step));
}

void mpi_window_operations(tern_comm *out)
{
    out->all_reduce = all_reduce;
    out->all_gather = all_gather;
    out->broadcast = broadcast;
    out->barrier = barrier;
}

/* ---- signs of life ---------------------------------------------------------------------------------------------------- */

void mpi_window_beat(struct mpi_group *group)
{
    atomic_fetch_add_explicit(&group->window->box[group->rank]->beats, 1, memory_order_relaxed);
}

unsigned mpi_window_beats(const struct mpi_group *group, int rank)
{
    return atomic_load_explicit(&group->window->box[rank]->beats, memory_order_relaxed);
}

enum mpi_presence mpi_window_presence(const struct mpi_group *group, int rank)
{
    return (enum mpi_presence)atomic_load(&group->window->box[rank]->presence);
}

void mpi_window_leave(struct mpi_group *group, enum mpi_presence how)
{
    atomic_store(&group->window->box[group->rank]->presence, how);
    for (int r = 0; r < group->size; r++) /* who sleeps on another's word has to see it too */
        wake(group->window->box[r]);
}

bool mpi_window_claim(struct mpi_group *group)
{
    return atomic_exchange(&group->window->box[0]->told, 1) == 0;
}

void mpi_window_end(struct mpi_group *group)
{
    atomic_store(&group->window->box[0]->ended, 1);
}

bool mpi_window_ended(const struct mpi_group *group)
{
    return atomic_load(&group->window->box[0]->ended) != 0;
}

/* ---- the window itself -------------------------------------------------------------------------------------------------- */

/* Where a rank's part lies: as far into its segment everywhere, since segments are mapped at pages. */
static void place(struct mpi_window *w, int rank, void *base)
{
    unsigned char *p = (unsigned char *)base + (MPI_GROUP_LINE - (uintptr_t)base % MPI_GROUP_LINE) % MPI_GROUP_LINE;

    w->box[rank] = (struct mailbox *)(void *)p;
    w->slots[rank] = (float *)(void *)(p + sizeof(struct mailbox));
    w->sums[rank] = w->slots[rank] + (size_t)2 * PIECE;
}

static void window_free(struct mpi_window *w)
{
    if (w) {
        free(w->box);
        free(w->slots);
        free(w->sums);
        free(w);
    }
}

/* Where Open MPI keeps windows on Linux. */
static const char *folder_of_windows(void)
{
    const char *folder = getenv("OMPI_MCA_osc_sm_backing_directory");

    return folder && *folder ? folder : "/dev/shm";
}

/* Whether that folder has room for all windows, as every rank sees it: MPI does not say where it has none, and its ranks then wait for each
 * other.  A folder that cannot be asked is left to MPI. */
static bool has_room(struct mpi_group *group, size_t bytes, char *text, size_t size)
{
    struct statvfs shm;
    const int64_t needed = (int64_t)bytes * group->size + SPARE;
    int64_t mine = statvfs(folder_of_windows(), &shm) ? INT64_MAX : (int64_t)shm.f_bavail * (int64_t)shm.f_frsize;
    int64_t least = 0;

    mpi_group_check(group, MPI_Allreduce(&mine, &least, 1, MPI_INT64_T, MPI_MIN, group->comm), "MPI_Allreduce");
    if (least < needed)
        snprintf(text, size,
                 "%s has %" PRId64 " bytes left, and %d ranks share %" PRId64
                 " there: make it larger (containers: --shm-size), or do without by TERN_COMM=p2p, which is slower",
                 folder_of_windows(), least, group->size, needed);
    return least >= needed;
}

tern_status mpi_window_open(struct mpi_group *group, char *text, size_t size)
{
    const size_t n = (size_t)group->size;
    struct mpi_window *w = calloc(1, sizeof *w);
    bool good = w && (w->box = calloc(n, sizeof(*w->box))) && (w->slots = calloc(n, sizeof(*w->slots))) &&
                (w->sums = calloc(n, sizeof(*w->sums)));
    void *base = NULL;

    if (!mpi_group_agree(group, good)) {
        window_free(w);
        snprintf(text, size, "out of memory for a window of %zu ranks", n);
        return TERN_ERR_MEMORY;
    }
    w->part = round_up((PIECE + n - 1) / n, MPI_GROUP_UNIT);
    w->direct = group->size == 2 ? SIZE_MAX : group->crowded ? DIRECT_CROWDED : DIRECT_MANY / n;
    const size_t bytes =
        round_up(sizeof(struct mailbox) + 2 * (PIECE + w->part) * sizeof(float) + MPI_GROUP_LINE, 4096);
    if (!has_room(group, bytes, text, size)) {
        window_free(w);
        return TERN_ERR_IO;
    }
    const int error = MPI_Win_allocate_shared((MPI_Aint)bytes, 1, MPI_INFO_NULL, group->comm, &base, &w->win);
    good = error == MPI_SUCCESS;
    if (!mpi_group_agree(group, good)) {
        window_free(w);
        snprintf(text, size, "MPI_Win_allocate_shared refuses %zu bytes for each of %zu ranks", bytes, n);
        return TERN_ERR_IO;
    }
    mpi_group_check(group, MPI_Win_lock_all(MPI_MODE_NOCHECK, w->win), "MPI_Win_lock_all");
    for (int r = 0; r < group->size; r++) {
        MPI_Aint there;
        int unit;
        void *p;

        mpi_group_check(group, MPI_Win_shared_query(w->win, r, &there, &unit, &p), "MPI_Win_shared_query");
        place(w, r, p);
    }
    memset(base, 0, bytes); /* by its owner, in whose memory it then lies */
    group->window = w;
    mpi_group_check(group, MPI_Barrier(group->comm), "MPI_Barrier");
    return TERN_OK;
}

void mpi_window_close(struct mpi_group *group)
{
    struct mpi_window *w = group->window;

    if (!w)
        return;
    MPI_Win_unlock_all(w->win);
    MPI_Win_free(&w->win);
    window_free(w);
    group->window = NULL;
}
