/* comm_self.c: the group of one. */
#include <tern/comm.h>

#include <string.h>

static tern_status all_reduce(void *user, float *data, size_t n)
{
    (void)user;
    (void)data;
    (void)n;
    return TERN_OK;
}

static tern_status all_gather(void *user, const float *data, float *out, size_t n)
{
    (void)user;
    if (out != data && n > 0)
        memcpy(out, data, n * sizeof *out);
    return TERN_OK;
}

static tern_status broadcast(void *user, void *data, size_t bytes, int root)
{
    (void)user;
    (void)data;
    (void)bytes;
    (void)root;
    return TERN_OK;
}

static tern_status barrier(void *user)
{
    (void)user;
    return TERN_OK;
}

const tern_comm *tern_comm_self(void)
{
    static const tern_comm self = { .rank = 0,
                                    .size = 1,
                                    .all_reduce = all_reduce,
                                    .all_gather = all_gather,
                                    .broadcast = broadcast,
                                    .barrier = barrier };

    return &self;
}
