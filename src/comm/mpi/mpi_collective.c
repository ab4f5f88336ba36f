/* mpi_collective.c: what collectives through a window and through messages share. */
#include "mpi_group.h"

void mpi_group_begin(struct mpi_group *group)
{
    atomic_store_explicit(&group->collective, true, memory_order_relaxed);
}

tern_status mpi_group_done(struct mpi_group *group, bool all)
{
    atomic_store_explicit(&group->collective, false, memory_order_relaxed);
    return all ? TERN_OK : TERN_ERR_STATE;
}

void mpi_group_part(const struct mpi_group *group, int rank, size_t n, size_t *begin, size_t *count)
{
    const size_t size = (size_t)group->size, unit = MPI_GROUP_UNIT,
                 each = ((n + size - 1) / size + unit - 1) / unit * unit;
    const size_t first = (size_t)rank * each < n ? (size_t)rank * each : n;

    *begin = first;
    *count = n - first < each ? n - first : each;
}
