/* rank_group.h: ranks that are threads of the test: a tern_comm for each, sums in rank order.
 *
 * A rank that ends leaves the group; what the others ask of it from then on is TERN_ERR_IO, so that no test hangs. */
#ifndef TERN_TESTS_RANK_GROUP_H
#define TERN_TESTS_RANK_GROUP_H

#include "testing.h"

#include <tern/comm.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANKS 8

struct rank_group {
    pthread_mutex_t lock;
    pthread_cond_t change;
    int size, waiting;
    atomic_uint round;
    atomic_bool broken;
    void *data[MOST_RANKS]; /* what each rank brought to the operation in progress */
    struct rank_of {
        struct rank_group *group;
        tern_comm comm;
        size_t reduced, floats; /* calls, and floats of all of them */
    } ranks[MOST_RANKS];
};

/* Until all are here.  False: somebody will not come.  Looks a while before it sleeps, which takes longer than most waits. */
static inline bool rank_group_meet(struct rank_group *g)
{
    pthread_mutex_lock(&g->lock);
    const unsigned round = g->round;
    if (++g->waiting == g->size) {
        g->waiting = 0;
        g->round++;
        pthread_cond_broadcast(&g->change);
    }
    pthread_mutex_unlock(&g->lock);
    for (int i = 0; i < 1000 && g->round == round && !g->broken; i++)
        sched_yield();
    if (g->round != round)
        return true;
    pthread_mutex_lock(&g->lock);
    while (g->round == round && !g->broken)
        pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return g->round != round;
}

static inline void rank_group_leave(struct rank_group *g)
{
    pthread_mutex_lock(&g->lock);
    g->broken = true;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
}

static inline tern_status rank_all_reduce(void *user, float *data, size_t n)
{
    struct rank_of *r = user;
    struct rank_group *g = r->group;
    float *sum = malloc((n ? n : 1) * sizeof *sum);

    if (!sum) {
        rank_group_leave(g);
        return TERN_ERR_IO;
    }
    r->reduced++;
    r->floats += n;
    g->data[r->comm.rank] = data;
    bool met = rank_group_meet(g);
    for (size_t i = 0; met && i < n; i++) {
        sum[i] = ((const float *)g->data[0])[i];
        for (int rank = 1; rank < g->size; rank++)
            sum[i] += ((const float *)g->data[rank])[i];
    }
    met = met && rank_group_meet(g);
    if (met)
        memcpy(data, sum, n * sizeof *sum);
    free(sum);
    return met ? TERN_OK : TERN_ERR_IO;
}

static inline tern_status rank_all_gather(void *user, const float *data, float *out, size_t n)
{
    struct rank_of *r = user;
    struct rank_group *g = r->group;

    g->data[r->comm.rank] = (void *)(uintptr_t)data;
    if (!rank_group_meet(g))
        return TERN_ERR_IO;
    for (int rank = 0; rank < g->size; rank++)
        memcpy(out + (size_t)rank * n, g->data[rank], n * sizeof *out);
    return rank_group_meet(g) ? TERN_OK : TERN_ERR_IO;
}

static inline tern_status rank_broadcast(void *user, void *data, size_t bytes, int root)
{
    struct rank_of *r = user;
    struct rank_group *g = r->group;

    g->data[r->comm.rank] = data;
    if (!rank_group_meet(g))
        return TERN_ERR_IO;
    if (r->comm.rank != root)
        memcpy(data, g->data[root], bytes);
    return rank_group_meet(g) ? TERN_OK : TERN_ERR_IO;
}

static inline tern_status rank_barrier(void *user)
{
    return rank_group_meet(((struct rank_of *)user)->group) ? TERN_OK : TERN_ERR_IO;
}

static inline void rank_group_open(struct rank_group *g, int size)
{
    *g = (struct rank_group){ .size = size };
    assert_in_range(size, 1, MOST_RANKS);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->change, NULL);
    for (int i = 0; i < size; i++)
        g->ranks[i] = (struct rank_of){ .group = g,
                                        .comm = { .user = &g->ranks[i],
                                                  .rank = i,
                                                  .size = size,
                                                  .all_reduce = rank_all_reduce,
                                                  .all_gather = rank_all_gather,
                                                  .broadcast = rank_broadcast,
                                                  .barrier = rank_barrier } };
}

static inline void rank_group_close(struct rank_group *g)
{
    pthread_cond_destroy(&g->change);
    pthread_mutex_destroy(&g->lock);
}

#endif
