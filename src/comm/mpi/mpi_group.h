/* mpi_group.h: the ranks of MPI_COMM_WORLD as a tern_comm: what the files of the plugin share.
 *
 *   mpi_plugin.c      opening and closing, MPI itself, who the ranks are
 *   mpi_collective.c  what the next two share
 *   mpi_window.c      ranks of one host: collectives through an MPI-3 shared window
 *   mpi_network.c     ranks of several hosts: collectives through messages
 *   mpi_watch.c       the thread that ends the process when another rank is lost
 *   mpi_links.c       what that thread knows of ranks on other hosts: a TCP connection of each rank with rank 0
 *
 * All but the watching thread's part runs on the thread that opened the group. */
#ifndef TERN_COMM_MPI_GROUP_H
#define TERN_COMM_MPI_GROUP_H

#include <tern/comm.h>

#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define MPI_GROUP_LINE 64  /* bytes of a cache line */
#define MPI_GROUP_UNIT 16u /* floats of one */

/* Where a rank is, as the others see it. */
enum mpi_presence {
    MPI_RANK_HERE,
    MPI_RANK_CLOSED, /* it has closed the group */
    MPI_RANK_EXITED, /* its program ended without doing so */
    MPI_RANK_LOST    /* the system says that it is gone */
};

/* What ranks tell each other at the start, laid out alike in every version. */
struct mpi_identity {
    uint32_t magic, abi;
    char version[32];
    char host[72];
    int64_t pid;
};

struct mpi_window;
struct mpi_network;
struct mpi_links;
struct mpi_watched;

struct mpi_group {
    MPI_Comm comm; /* our own duplicate */
    int rank, size;
    struct mpi_identity *ranks; /* [size] */
    pid_t pid;                  /* of the process that opened it: a forked child leaves it alone */
    bool one_host;
    bool crowded; /* more ranks than processors on a host: who waits gives way at once */

    struct mpi_window *window;   /* either this, */
    struct mpi_network *network; /* or this one */
    struct mpi_links *links;     /* with network, if the ranks are watched */

    double timeout;  /* seconds without a sign of life; 0: no one watches */
    double patience; /* seconds until all ranks have joined */
    int told;        /* this rank's number, as far as the thread knows that watches until then */
    pthread_t watcher;
    bool watches; /* that thread runs */
    int stop;     /* eventfd that wakes it */
    atomic_bool stopped;
    struct mpi_watched *watched; /* [size]; its own */
    pid_t parent;                /* who started this process: its end is the run's */
    atomic_bool collective;      /* the opening thread is in a collective */
    atomic_bool over;            /* rank 0 has left: collectives answer TERN_ERR_STATE */

    struct mpi_group *next; /* of the groups that are open in this process */
};

/* A line on stderr, unless another rank of this host has had the word, and the end of every process.  Does not return.
 * From any thread. */
void mpi_group_end(struct mpi_group *group, const char *format, ...) TERN_PRINTF(2, 3) __attribute__((noreturn));
/* "rank 2 (host, process 4711)" */
const char *mpi_group_name(const struct mpi_group *group, int rank, char text[static 160]);
/* A failed call of MPI ends the run. */
void mpi_group_check(struct mpi_group *group, int error, const char *call);

/* ---- mpi_collective.c: what both kinds of collectives share ---- */
/* Seconds of a clock that stands while the machine is suspended. */
double mpi_group_seconds(void);
void mpi_group_pause(double seconds);
/* Whether all ranks have `good`. */
bool mpi_group_agree(struct mpi_group *group, bool good);
/* In the child of a fork, which has neither the others nor MPI. */
void mpi_group_forked(void);
/* A collective begins on the opening thread (false: not in a forked child), and ends: TERN_OK, or TERN_ERR_STATE where rank 0 has left. */
bool mpi_group_begin(struct mpi_group *group);
tern_status mpi_group_done(struct mpi_group *group, bool good);
/* The part of n floats that a rank adds up: whole cache lines, none for ranks beyond the last of them. */
void mpi_group_part(const struct mpi_group *group, int rank, size_t n, size_t *begin, size_t *count);

/* ---- mpi_window.c ---- */
/* Collective, like all that opens or closes.  TERN_OK on every rank; or TERN_ERR_MEMORY, or TERN_ERR_IO where MPI has no window for us, on
 * every rank: `text` says why. */
tern_status mpi_window_open(struct mpi_group *group, char *text, size_t size);
void mpi_window_close(struct mpi_group *group);
void mpi_window_operations(tern_comm *out);
/* Signs of life, from the watching thread. */
void mpi_window_beat(struct mpi_group *group);
unsigned mpi_window_beats(const struct mpi_group *group, int rank);
enum mpi_presence mpi_window_presence(const struct mpi_group *group, int rank);
void mpi_window_leave(struct mpi_group *group, enum mpi_presence how);
/* Whether this process is the one to tell why the run ends. */
bool mpi_window_claim(struct mpi_group *group);
void mpi_window_end(struct mpi_group *group);
/* Another process has told it. */
bool mpi_window_ended(const struct mpi_group *group);

/* ---- mpi_network.c ---- */
/* TERN_OK on every rank, or TERN_ERR_MEMORY on every rank. */
tern_status mpi_network_open(struct mpi_group *group, char *text, size_t size);
void mpi_network_close(struct mpi_group *group);
void mpi_network_operations(tern_comm *out);

/* ---- mpi_links.c ---- */
/* TERN_OK on every rank, or an error on every rank. */
tern_status mpi_links_open(struct mpi_group *group, char *text, size_t size);
void mpi_links_close(struct mpi_group *group);
void mpi_links_leave(struct mpi_group *group, enum mpi_presence how);
/* From the watching thread.  Waits up to `seconds` for news or for group->stop, and takes in what came. */
void mpi_links_wait(struct mpi_group *group, double seconds);
void mpi_links_beat(struct mpi_group *group);
/* Whether this process sees that rank: rank 0 sees all, the others rank 0. */
bool mpi_links_sees(const struct mpi_group *group, int rank);
unsigned mpi_links_beats(const struct mpi_group *group, int rank);
enum mpi_presence mpi_links_presence(const struct mpi_group *group, int rank);
bool mpi_links_ended(const struct mpi_group *group);
/* Rank 0 tells the others that the run ends. */
void mpi_links_end(struct mpi_group *group);
/* Rank 0 tells that all ranks have closed the group; whether it has. */
void mpi_links_dismiss(struct mpi_group *group);
bool mpi_links_dismissed(const struct mpi_group *group);

/* ---- mpi_watch.c ---- */
/* Before anything else; what fails here mpi_watch_start() tells. */
void mpi_watch_init(struct mpi_group *group);
/* Watches that MPI's start and the opening come to their end, as far as this rank's own wish for a timeout goes.  `rank`: -1 where it is
 * not known yet; then, and where it watches already, nothing happens. */
void mpi_watch_opening(struct mpi_group *group, int rank);
/* Watches the ranks instead.  0 or the system's error number. */
int mpi_watch_start(struct mpi_group *group);
/* This rank leaves: returns when every rank has, or one is gone for good (false). */
bool mpi_watch_leave(struct mpi_group *group);
/* Watches that MPI's own ending comes to its end, which gets some seconds. */
void mpi_watch_closing(struct mpi_group *group);
/* Ends the watching, of whatever kind. */
void mpi_watch_stop(struct mpi_group *group);
void mpi_watch_free(struct mpi_group *group);

#endif
