/* mpi_collective.c: what collectives through a window and through messages share, and the clock of all files. */
#include "mpi_group.h"

#include <time.h>

double mpi_group_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void mpi_group_pause(double seconds)
{
    const struct timespec t = { .tv_sec = (time_t)seconds,
                                .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

    nanosleep(&t, NULL);
}

bool mpi_group_agree(struct mpi_group *group, bool good)
{
    int mine = good, all = 0;

    mpi_group_check(group, MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, group->comm), "MPI_Allreduce");
    return all;
}

/* Asking the system for the process's number at each sum would take a tenth of a short one. */
static bool in_child;

void mpi_group_forked(void)
{
    in_child = true;
}

bool mpi_group_begin(struct mpi_group *group)
{
    if (in_child)
        return false;
    atomic_store_explicit(&group->collective, true, memory_order_relaxed);
    return true;
}

tern_status mpi_group_done(struct mpi_group *group, bool good)
{
    atomic_store_explicit(&group->collective, false, memory_order_relaxed);
    return good ? TERN_OK : TERN_ERR_STATE;
}

void mpi_group_part(const struct mpi_group *group, int rank, size_t n, size_t *begin, size_t *count)
{
    const size_t size = (size_t)group->size, unit = MPI_GROUP_UNIT,
                 each = ((n + size - 1) / size + unit - 1) / unit * unit;
    const size_t first = (size_t)rank * each < n ? (size_t)rank * each : n;

    *begin = first;
    *count = n - first < each ? n - first : each;
}
