/* mpi_network.c: collectives through messages, for ranks on several hosts.
 *
 * Sums.  Few numbers: every rank sends its own to all and adds up what comes (one message's time).  Many: in pieces; rank r gets
 * part r of every rank's piece, adds up, and sends the sum to all.  Between each two ranks messages arrive in the order in which
 * they were sent, and every rank goes through the same collectives, so one tag does.
 *
 * Waiting means asking MPI again and again, since nothing moves otherwise: at once for a moment, then offering the processor, then with
 * sleeps of an eighth of what was waited for so far, 2 ms at most. */
#include "mpi_group.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE        262144u     /* floats added up at a time */
#define DIRECT_BYTES (128 << 10) /* of all ranks' numbers, up to which each rank adds up all itself */
#define GATHER_MANY \
    (1u << 22) /* floats of one message, of which each rank has one under way to each other; MPI counts in int */
#define BROADCAST_BYTES (1u << 20) /* passed on at a time */
#define SPIN_SECONDS    100e-6
#define YIELD_SECONDS   20e-6
#define SLEEP_SECONDS   2e-3
#define OVER_SECONDS    1.0 /* what was sent before rank 0 left may still be on its way for so long */

struct mpi_network {
    float *got;         /* numbers of all ranks, to be added up */
    MPI_Request *asked; /* [2 * size] */
    int n_asked;
};

/* Gives up what is under way. */
static void drop(struct mpi_network *net)
{
    for (int i = 0; i < net->n_asked; i++)
        if (net->asked[i] != MPI_REQUEST_NULL) {
            MPI_Cancel(&net->asked[i]);
            MPI_Request_free(&net->asked[i]);
        }
    net->n_asked = 0;
}

/* All that was asked for is done.  false: rank 0 has left, and the rest will not come. */
static bool finish(struct mpi_group *group)
{
    struct mpi_network *net = group->network;
    double start = 0, over = 0;

    for (unsigned turn = 0;; turn++) {
        int done = 0;

        mpi_group_check(group, MPI_Testall(net->n_asked, net->asked, &done, MPI_STATUSES_IGNORE), "MPI_Testall");
        if (done)
            break;
        if (turn < 8)
            continue;
        const double now = mpi_group_seconds(), waited = start > 0 ? now - start : 0;
        if (start <= 0)
            start = now;
        if (waited > SPIN_SECONDS)
            mpi_group_pause(waited / 8 < SLEEP_SECONDS ? waited / 8 : SLEEP_SECONDS);
        else if (waited > YIELD_SECONDS || group->crowded)
            sched_yield();
        if (!atomic_load_explicit(&group->over, memory_order_relaxed))
            continue;
        if (over <= 0)
            over = now;
        if (now - over > OVER_SECONDS) {
            drop(net);
            return false;
        }
    }
    net->n_asked = 0;
    return true;
}

static void send(struct mpi_group *group, const void *data, size_t n, MPI_Datatype type, int to)
{
    struct mpi_network *net = group->network;

    if (n > 0)
        mpi_group_check(group, MPI_Isend(data, (int)n, type, to, 0, group->comm, &net->asked[net->n_asked++]),
                        "MPI_Isend");
}

static void receive(struct mpi_group *group, void *data, size_t n, MPI_Datatype type, int from)
{
    struct mpi_network *net = group->network;

    if (n > 0)
        mpi_group_check(group, MPI_Irecv(data, (int)n, type, from, 0, group->comm, &net->asked[net->n_asked++]),
                        "MPI_Irecv");
}

/* The i-th other rank to speak to: each rank begins with its neighbour, so that not all speak to rank 0 at once. */
static int other(const struct mpi_group *group, int i)
{
    return (group->rank + 1 + i) % group->size;
}

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

/* out[0..n) = the sum of got[size][n], in rank order; the same loop on every rank. */
static void add_up(const struct mpi_group *group, float *restrict out, const float *restrict got, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = got[i] + got[n + i];
    for (int r = 2; r < group->size; r++) {
        const float *restrict x = got + (size_t)r * n;

        for (size_t i = 0; i < n; i++)
            out[i] += x[i];
    }
}

static bool reduce_directly(struct mpi_group *group, float *data, size_t n)
{
    float *got = group->network->got;

    for (int i = 0; i < group->size - 1; i++)
        receive(group, got + (size_t)other(group, i) * n, n, MPI_FLOAT, other(group, i));
    for (int i = 0; i < group->size - 1; i++)
        send(group, data, n, MPI_FLOAT, other(group, i));
    memcpy(got + (size_t)group->rank * n, data, n * sizeof *data);
    if (!finish(group))
        return false;
    add_up(group, data, got, n);
    return true;
}

static bool reduce_piece(struct mpi_group *group, float *data, size_t n)
{
    float *got = group->network->got;
    size_t begin, count, there, many;

    mpi_group_part(group, group->rank, n, &begin, &count);
    for (int i = 0; i < group->size - 1; i++)
        receive(group, got + (size_t)other(group, i) * count, count, MPI_FLOAT, other(group, i));
    for (int i = 0; i < group->size - 1; i++) {
        mpi_group_part(group, other(group, i), n, &there, &many);
        send(group, data + there, many, MPI_FLOAT, other(group, i));
    }
    memcpy(got + (size_t)group->rank * count, data + begin, count * sizeof *data);
    if (!finish(group))
        return false;
    add_up(group, data + begin, got, count);
    for (int i = 0; i < group->size - 1; i++) {
        mpi_group_part(group, other(group, i), n, &there, &many);
        receive(group, data + there, many, MPI_FLOAT, other(group, i));
    }
    for (int i = 0; i < group->size - 1; i++)
        send(group, data + begin, count, MPI_FLOAT, other(group, i));
    return finish(group);
}

/* ---- the operations -------------------------------------------------------------------------------------------------- */

static tern_status all_reduce(void *user, float *data, size_t n)
{
    struct mpi_group *group = user;
    bool good = true;

    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    if (group->size == 1)
        return mpi_group_done(group, true);
    if (n * sizeof *data <= DIRECT_BYTES / (size_t)group->size)
        good = reduce_directly(group, data, n);
    else
        for (size_t at = 0; good && at < n; at += PIECE)
            good = reduce_piece(group, data + at, n - at < PIECE ? n - at : PIECE);
    return mpi_group_done(group, good);
}

static tern_status all_gather(void *user, const float *data, float *out, size_t n)
{
    struct mpi_group *group = user;
    float *own = out + (size_t)group->rank * n;
    bool good = true;

    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    if (own != data && n > 0)
        memcpy(own, data, n * sizeof *data);
    for (size_t at = 0; good && at < n; at += GATHER_MANY) {
        const size_t count = n - at < GATHER_MANY ? n - at : GATHER_MANY;

        for (int i = 0; i < group->size - 1; i++)
            receive(group, out + (size_t)other(group, i) * n + at, count, MPI_FLOAT, other(group, i));
        for (int i = 0; i < group->size - 1; i++)
            send(group, own + at, count, MPI_FLOAT, other(group, i));
        good = finish(group);
    }
    return mpi_group_done(group, good);
}

/* Down a tree: a rank gets the bytes from the one whose number, counted from the root, lacks its lowest bit, and passes them to
 * those whose has one of the bits below instead. */
static bool broadcast_piece(struct mpi_group *group, void *data, size_t bytes, int root)
{
    const int size = group->size, number = (group->rank - root + size) % size;
    int bit = 1;

    while (bit < size && !(number & bit))
        bit *= 2;
    if (number != 0) {
        receive(group, data, bytes, MPI_BYTE, (number - bit + root) % size);
        if (!finish(group))
            return false;
    }
    for (bit /= 2; bit > 0; bit /= 2)
        if (number + bit < size)
            send(group, data, bytes, MPI_BYTE, (number + bit + root) % size);
    return finish(group);
}

static tern_status broadcast(void *user, void *data, size_t bytes, int root)
{
    struct mpi_group *group = user;
    bool good = true;

    if (root < 0 || root >= group->size)
        return TERN_ERR_ARG;
    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    for (size_t at = 0; good && at < bytes; at += BROADCAST_BYTES)
        good = broadcast_piece(group, (char *)data + at, bytes - at < BROADCAST_BYTES ? bytes - at : BROADCAST_BYTES,
                               root);
    return mpi_group_done(group, good);
}

/* In rounds: after the one with distance d every rank has heard, through others, of the 2 d ranks before it. */
static tern_status barrier(void *user)
{
    struct mpi_group *group = user;
    const int size = group->size;
    char heard, said = 0;
    bool good = true;

    if (!mpi_group_begin(group))
        return TERN_ERR_STATE;
    for (int d = 1; good && d < size; d *= 2) {
        receive(group, &heard, 1, MPI_BYTE, (group->rank - d + size) % size);
        send(group, &said, 1, MPI_BYTE, (group->rank + d) % size);
        good = finish(group);
    }
    return mpi_group_done(group, good);
}

void mpi_network_operations(tern_comm *out)
{
    out->all_reduce = all_reduce;
    out->all_gather = all_gather;
    out->broadcast = broadcast;
    out->barrier = barrier;
}

tern_status mpi_network_open(struct mpi_group *group, char *text, size_t size)
{
    const size_t n = (size_t)group->size;
    struct mpi_network *net = calloc(1, sizeof *net);
    const size_t capacity = PIECE + n * MPI_GROUP_UNIT > DIRECT_BYTES / sizeof(float) ? PIECE + n * MPI_GROUP_UNIT
                                                                                      : DIRECT_BYTES / sizeof(float);
    const bool good =
        net && (net->asked = calloc(2 * n, sizeof(MPI_Request))) && (net->got = malloc(capacity * sizeof(float)));

    group->network = net;
    if (mpi_group_agree(group, good))
        return TERN_OK;
    mpi_network_close(group);
    snprintf(text, size, "out of memory: %zu bytes for messages of %zu ranks", capacity * sizeof(float), n);
    return TERN_ERR_MEMORY;
}

void mpi_network_close(struct mpi_group *group)
{
    if (group->network) {
        free(group->network->got);
        free(group->network->asked);
        free(group->network);
    }
    group->network = NULL;
}
