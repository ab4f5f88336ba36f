/* mpi_plugin.c: MPI itself, who the ranks are, and what of the rest they need. */
#include "mpi_group.h"
#include "../plugin.h"

#include <tern/version.h>

#include <limits.h>
#include <locale.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x7465726eu /* "tern" */

/* MPI is one for the whole process, and so is what we know of it. */
static struct mpi_group *open_groups;
static bool initialised; /* by us, who therefore finalise it */
static bool watches_forks;

static tern_status fail(tern_status status, char *message, size_t size, const char *format, ...) TERN_PRINTF(4, 5);
static tern_status fail(tern_status status, char *message, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(message, size, format, args);
    va_end(args);
    return status;
}

/* ---- the environment ------------------------------------------------------------------------------------------------ */

struct wishes {
    bool p2p;
    double timeout;
};

static tern_status read_environment(struct wishes *out, char *message, size_t size)
{
    const char *path = getenv("TERN_COMM"), *timeout = getenv("TERN_COMM_TIMEOUT");
    char *rest = NULL;

    *out = (struct wishes){ .timeout = 5 };
    if (path && strcmp(path, "p2p") != 0 && strcmp(path, "auto") != 0 && *path)
        return fail(TERN_ERR_ARG, message, size, "TERN_COMM is '%s', expected auto or p2p", path);
    out->p2p = path && strcmp(path, "p2p") == 0;
    if (timeout && *timeout) {
        /* The host's locale may have another decimal point. */
        const locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        out->timeout = c_locale ? strtod_l(timeout, &rest, c_locale) : strtod(timeout, &rest);
        if (c_locale)
            freelocale(c_locale);
        if (*rest || !(out->timeout >= 0 && out->timeout <= 86400) || (out->timeout > 0 && out->timeout < 1))
            return fail(TERN_ERR_ARG, message, size, "TERN_COMM_TIMEOUT is '%s', expected 0 or 1 to 86400 seconds",
                        timeout);
    }
    return TERN_OK;
}

/* The rank that who started this process has told it, before MPI does; -1: none, or in words of its own. */
static int told_rank(void)
{
    static const char *const names[] = { "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = getenv(names[i]);
        char *rest = NULL;
        const long n = text ? strtol(text, &rest, 10) : -1;

        if (text && rest != text && !*rest && n >= 0 && n <= INT_MAX)
            return (int)n;
    }
    return -1;
}

/* ---- MPI -------------------------------------------------------------------------------------------------------------- */

static tern_status start_mpi(char *message, size_t size)
{
    int flag = 0, provided = MPI_THREAD_SINGLE;

    MPI_Finalized(&flag);
    if (flag)
        return fail(TERN_ERR_STATE, message, size,
                    "MPI was finalised in this process, and cannot be initialised again");
    MPI_Initialized(&flag);
    if (flag) {
        int main_thread = 0;

        MPI_Is_thread_main(&main_thread);
        MPI_Query_thread(&provided);
        if (!main_thread && provided < MPI_THREAD_SERIALIZED)
            return fail(TERN_ERR_STATE, message, size,
                        "the group is opened by another thread than the one that initialised MPI, expected that one");
    } else {
        const int error = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);

        if (error != MPI_SUCCESS)
            return fail(TERN_ERR_IO, message, size, "MPI_Init_thread failed with error %d", error);
        initialised = true;
    }
    if (!watches_forks)
        watches_forks = pthread_atfork(NULL, NULL, mpi_group_forked) == 0;
    /* A program that has initialised MPI without threads has ours beside it all the same; they call nothing of MPI. */
    return TERN_OK;
}

static void stop_mpi(void)
{
    int flag = 0;

    MPI_Finalized(&flag);
    if (!flag && initialised && !open_groups)
        MPI_Finalize();
}

/* ---- who the ranks are -------------------------------------------------------------------------------------------------- */

static void introduce(struct mpi_identity *own, const char *version)
{
    *own = (struct mpi_identity){ .magic = MAGIC, .abi = TERN_COMM_PLUGIN_ABI, .pid = getpid() };
    snprintf(own->version, sizeof own->version, "%s", version);
    if (gethostname(own->host, sizeof own->host - 1))
        own->host[0] = '?';
}

/* Every rank sees the same list, so every rank comes to the same error. */
static tern_status compare(const struct mpi_group *group, char *message, size_t size)
{
    for (int r = 0; r < group->size; r++) {
        const struct mpi_identity *a = &group->ranks[0], *b = &group->ranks[r];

        if (b->magic != MAGIC || b->abi != a->abi || strcmp(a->version, b->version) != 0)
            return fail(TERN_ERR_UNSUPPORTED, message, size,
                        "rank %d (%.64s) runs tern %.32s (interface %u), rank 0 (%.64s) tern %.32s (interface %u), "
                        "expected the same",
                        r, b->host, b->version, b->abi, a->host, a->version, a->abi);
    }
    return TERN_OK;
}

/* Whether there are more ranks on this host than processors that they may use between them. */
static bool is_crowded(struct mpi_group *group, MPI_Comm host, int ranks_here)
{
    cpu_set_t own, all;

    CPU_ZERO(&own);
    CPU_ZERO(&all);
    if (sched_getaffinity(0, sizeof own, &own))
        CPU_ZERO(&own);
    mpi_group_check(group, MPI_Allreduce(&own, &all, sizeof own, MPI_BYTE, MPI_BOR, host), "MPI_Allreduce");
    return CPU_COUNT(&all) > 0 && CPU_COUNT(&all) < ranks_here;
}

/* Whether all ranks share a host, and how full it is. */
static void look_around(struct mpi_group *group)
{
    MPI_Comm host = MPI_COMM_NULL;
    int here = 0, fewest = 0;

    mpi_group_check(group, MPI_Comm_split_type(group->comm, MPI_COMM_TYPE_SHARED, group->rank, MPI_INFO_NULL, &host),
                    "MPI_Comm_split_type");
    mpi_group_check(group, MPI_Comm_size(host, &here), "MPI_Comm_size");
    mpi_group_check(group, MPI_Allreduce(&here, &fewest, 1, MPI_INT, MPI_MIN, group->comm), "MPI_Allreduce");
    group->one_host = fewest == group->size;
    group->crowded = is_crowded(group, host, here);
    MPI_Comm_free(&host);
}

/* ---- opening -------------------------------------------------------------------------------------------------------------- */

static void group_free(struct mpi_group *group)
{
    int finalised = 0;

    if (!group)
        return;
    mpi_watch_free(group);
    MPI_Finalized(&finalised);
    if (!finalised && group->comm != MPI_COMM_NULL)
        MPI_Comm_free(&group->comm);
    free(group->ranks);
    free(group);
}

/* Everything that needs the others; each step answers alike on every rank. */
static tern_status join(struct mpi_group *group, const char *version, struct wishes *wishes, char *message, size_t size)
{
    struct mpi_identity own;
    double common[2] = { wishes->p2p, wishes->timeout };

    introduce(&own, version);
    mpi_group_check(group, MPI_Allgather(&own, sizeof own, MPI_BYTE, group->ranks, sizeof own, MPI_BYTE, group->comm),
                    "MPI_Allgather");
    const tern_status status = compare(group, message, size);
    if (status != TERN_OK)
        return status;
    /* Environments may differ: rank 0's counts. */
    mpi_group_check(group, MPI_Bcast(common, 2, MPI_DOUBLE, 0, group->comm), "MPI_Bcast");
    group->timeout = common[1];
    look_around(group);
    if (group->size > 1 && group->one_host && common[0] == 0)
        return mpi_window_open(group, message, size);
    const tern_status opened = mpi_network_open(group, message, size);
    return opened == TERN_OK && group->size > 1 && group->timeout > 0 ? mpi_links_open(group, message, size) : opened;
}

static void leave(struct mpi_group *group)
{
    mpi_window_close(group);
    mpi_network_close(group);
    mpi_links_close(group);
}

static tern_status watch(struct mpi_group *group, char *message, size_t size)
{
    const bool wanted = group->size > 1 && group->timeout > 0;
    int error = wanted ? mpi_watch_start(group) : 0;
    int mine = error ? group->rank : -1, worst = -1;

    mpi_group_check(group, MPI_Allreduce(&mine, &worst, 1, MPI_INT, MPI_MAX, group->comm), "MPI_Allreduce");
    if (!wanted || worst >= 0)
        mpi_watch_stop(group);
    if (worst < 0)
        return TERN_OK;
    mpi_group_check(group, MPI_Bcast(&error, 1, MPI_INT, worst, group->comm), "MPI_Bcast");
    return fail(TERN_ERR_THREAD, message, size, "rank %d (%s) cannot start the thread that watches the others: %s",
                worst, group->ranks[worst].host, strerror(error));
}

/* NULL: no memory, which group_create() tells all ranks. */
static struct mpi_group *group_begin(const struct wishes *wishes)
{
    struct mpi_group *group = calloc(1, sizeof *group);

    if (!group)
        return NULL;
    group->comm = MPI_COMM_NULL;
    group->pid = getpid();
    group->timeout = wishes->timeout;
    mpi_watch_init(group);
    mpi_watch_opening(group, told_rank());
    return group;
}

static tern_status group_create(struct mpi_group *group, const char *version, struct wishes *wishes, char *message,
                                size_t size)
{
    int good = group != NULL, all = 0, n = 0;

    MPI_Comm_size(MPI_COMM_WORLD, &n);
    if (group) {
        group->size = n;
        MPI_Comm_rank(MPI_COMM_WORLD, &group->rank);
        if (n > 1)
            mpi_watch_opening(group, group->rank);
        group->ranks = calloc((size_t)n, sizeof *group->ranks);
        good = group->ranks != NULL;
    }
    /* Where one rank has no memory, those that have some do not go on without it. */
    if (MPI_Allreduce(&good, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD) != MPI_SUCCESS || !all)
        return fail(TERN_ERR_MEMORY, message, size, "out of memory on a rank: a group of %d ranks", n);
    if (MPI_Comm_dup(MPI_COMM_WORLD, &group->comm) != MPI_SUCCESS)
        return fail(TERN_ERR_IO, message, size, "MPI_Comm_dup failed");
    MPI_Comm_set_errhandler(group->comm, MPI_ERRORS_RETURN);
    tern_status status = join(group, version, wishes, message, size);
    if (status == TERN_OK)
        status = watch(group, message, size);
    if (status != TERN_OK)
        leave(group);
    return status;
}

static tern_status open_mpi(const char *version, tern_comm *out, char *message, size_t size)
{
    struct wishes wishes;
    tern_status status = read_environment(&wishes, message, size);

    if (status != TERN_OK)
        return status;
    struct mpi_group *group = group_begin(&wishes);
    status = start_mpi(message, size);
    if (status == TERN_OK)
        status = group_create(group, version, &wishes, message, size);
    if (status != TERN_OK) {
        group_free(group);
        stop_mpi();
        return status;
    }
    group->next = open_groups;
    open_groups = group;
    *out = (tern_comm){ .user = group, .rank = group->rank, .size = group->size };
    if (group->window)
        mpi_window_operations(out);
    else
        mpi_network_operations(out);
    return TERN_OK;
}

static void close_mpi(tern_comm *comm)
{
    struct mpi_group *group = comm->user;

    for (struct mpi_group **g = &open_groups; *g; g = &(*g)->next)
        if (*g == group) {
            *g = group->next;
            break;
        }
    if (group->pid != getpid())
        return; /* a forked child has neither the others nor MPI */
    if (!mpi_watch_leave(group)) {
        /* A rank is gone, for which MPI would wait: the program ends as it is. */
        initialised = false;
        mpi_watch_stop(group);
        return;
    }
    mpi_watch_closing(group);
    leave(group);
    MPI_Comm_free(&group->comm);
    stop_mpi();
    group_free(group);
}

/* A program that ends without closing the group: the others are told, and do not take it for a crash. */
__attribute__((destructor)) static void at_exit(void)
{
    for (struct mpi_group *g = open_groups; g; g = g->next)
        if (g->pid == getpid() && g->window)
            mpi_window_leave(g, MPI_RANK_EXITED);
        else if (g->pid == getpid() && g->links)
            mpi_links_leave(g, MPI_RANK_EXITED);
}

__attribute__((visibility("default"))) extern const struct tern_comm_plugin tern_comm_plugin;
const struct tern_comm_plugin tern_comm_plugin = {
    .abi = TERN_COMM_PLUGIN_ABI,
    .version = TERN_VERSION,
    .open = open_mpi,
    .close = close_mpi,
};
