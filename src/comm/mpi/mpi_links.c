/* mpi_links.c: signs of life between hosts: a TCP connection of each rank with rank 0.
 *
 * Rank 0 listens at a port that the system picks, on every interface (on the loopback alone where all ranks are on one host), and
 * tells the others through MPI its addresses and a word that no one else knows.  A rank tries all addresses at once and keeps the first one
 * that answers: an address of rank 0's host may be someone else's here (bridges of containers).
 *
 * A message is one byte.  Signs of life go both ways; what a rank says of itself is 'c' (closed) or 'x' (exited), what rank 0 says to all is
 * 'd' (all have closed) or 'e' (the run ends, and why has been told). */
#include "mpi_group.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORD         16
#define MANY         16  /* addresses that are tried */
#define CALL_SECONDS 4.0 /* until every rank has called */
#define BEAT_SECONDS 0.4 /* between two signs of life: fewer than within a host, they are messages */

struct place {
    int port;
    int n;
    unsigned char word[WORD];
    char address[MANY][INET6_ADDRSTRLEN];
};

struct hello {
    unsigned char word[WORD];
    uint32_t rank; /* in the network's order */
};

struct link {
    int fd;    /* -1: none */
    bool shut; /* nothing comes any more; the watching thread's */
    _Atomic(unsigned) beats;
    _Atomic(int) presence;
};

struct mpi_links {
    struct link *link;     /* [size]: rank 0 has one to each, the others one to rank 0 */
    struct pollfd *polled; /* [1 + size]; the watching thread's */
    atomic_bool ended, dismissed;
    double beaten; /* when signs of life were sent */
};

static void nonblocking(int fd)
{
    const int on = 1;

    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* A listening socket; -1: errno. */
static int listen_anywhere(bool loopback, int *port)
{
    struct sockaddr_in6 any6 = { .sin6_family = AF_INET6 };
    struct sockaddr_in any4 = { .sin_family = AF_INET };
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr any;
    } is;
    socklen_t length = sizeof is;
    const int off = 0;
    int fd = loopback ? -1 : socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) ||
                    bind(fd, (struct sockaddr *)&any6, sizeof any6))) {
        close(fd);
        fd = -1;
    }
    if (fd < 0) { /* the host may know no IPv6 */
        any4.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && bind(fd, (struct sockaddr *)&any4, sizeof any4)) {
            close(fd);
            return -1;
        }
    }
    if (fd < 0)
        return -1;
    if (listen(fd, 1024) || getsockname(fd, &is.any, &length)) {
        close(fd);
        return -1;
    }
    nonblocking(fd);
    *port = ntohs(is.any.sa_family == AF_INET6 ? is.v6.sin6_port : is.v4.sin_port);
    return fd;
}

/* Addresses at which others may reach this host. */
static void list_addresses(bool loopback, struct place *place)
{
    struct ifaddrs *all = NULL;

    if (loopback) {
        memcpy(place->address[place->n++], "127.0.0.1", sizeof "127.0.0.1");
        return;
    }
    if (getifaddrs(&all))
        return;
    for (const struct ifaddrs *a = all; a && place->n < MANY; a = a->ifa_next) {
        char *text = place->address[place->n];

        if (!a->ifa_addr || !(a->ifa_flags & IFF_UP) || (a->ifa_flags & IFF_LOOPBACK))
            continue;
        if (a->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a->ifa_addr;

            place->n += inet_ntop(AF_INET, &in->sin_addr, text, INET6_ADDRSTRLEN) != NULL;
        } else if (a->ifa_addr->sa_family == AF_INET6) {
            const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a->ifa_addr;

            if (!IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
                place->n += inet_ntop(AF_INET6, &in6->sin6_addr, text, INET6_ADDRSTRLEN) != NULL;
        }
    }
    freeifaddrs(all);
}

static double left_of(double deadline)
{
    const double left = deadline - mpi_group_seconds();

    return left > 0 ? left : 0;
}

/* ---- rank 0 is called ---------------------------------------------------------------------------------------------------- */

/* Answers the calls of all other ranks.  -1: they were all there; else the first rank that is missing, and why if the system said so. */
static int answer_calls(struct mpi_group *group, int listening, const struct place *place, int *reason)
{
    struct mpi_links *links = group->links;
    const double deadline = mpi_group_seconds() + CALL_SECONDS;
    int missing = group->size - 1;

    while (missing > 0 && left_of(deadline) > 0) {
        struct pollfd p = { .fd = listening, .events = POLLIN };
        struct hello hello;

        poll(&p, 1, (int)(left_of(deadline) * 1000) + 1);
        const int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            *reason = errno;
            break;
        }
        if (fd < 0)
            continue;
        /* What is said comes at once: a stranger who says nothing is not waited for. */
        const struct timeval patience = { .tv_sec = 1 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        const bool said = recv(fd, &hello, sizeof hello, MSG_WAITALL) == sizeof hello;
        const uint32_t rank = said ? ntohl(hello.rank) : 0;
        if (!said || memcmp(hello.word, place->word, WORD) != 0 || rank < 1 || rank >= (uint32_t)group->size ||
            links->link[rank].fd >= 0 || send(fd, "k", 1, MSG_NOSIGNAL) != 1) {
            close(fd);
            continue;
        }
        nonblocking(fd);
        links->link[rank].fd = fd;
        missing--;
    }
    for (int r = 1; r < group->size; r++)
        if (links->link[r].fd < 0)
            return r;
    return -1;
}

/* ---- the others call ------------------------------------------------------------------------------------------------------ */

struct call {
    int fd;
    bool said;
};

static int begin_call(const char *address, int port)
{
    struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
    struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    const bool v4 = inet_pton(AF_INET, address, &to4.sin_addr) == 1;

    if (!v4 && inet_pton(AF_INET6, address, &to6.sin6_addr) != 1)
        return -1;
    const int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    nonblocking(fd);
    const int error =
        v4 ? connect(fd, (struct sockaddr *)&to4, sizeof to4) : connect(fd, (struct sockaddr *)&to6, sizeof to6);
    if (error && errno != EINPROGRESS) {
        const int reason = errno;

        close(fd);
        errno = reason;
        return -1;
    }
    return fd;
}

static int call_failed(struct call *call, int *reason)
{
    *reason = errno ? errno : *reason;
    close(call->fd);
    call->fd = -1;
    return 0;
}

/* One step of a call: 1 when rank 0 has answered. */
static int move_on(struct call *call, const struct hello *hello, int *reason)
{
    char answer;

    if (!call->said) {
        socklen_t length = sizeof errno;
        int error = 0;

        getsockopt(call->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        errno = error;
        if (error || send(call->fd, hello, sizeof *hello, MSG_NOSIGNAL) != sizeof *hello)
            return call_failed(call, reason);
        call->said = true;
        return 0;
    }
    const ssize_t n = recv(call->fd, &answer, 1, 0);
    if (n == 1 && answer == 'k')
        return 1;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n >= 0)
        errno = ECONNREFUSED; /* someone else lives there */
    return call_failed(call, reason);
}

/* A connection with rank 0; -1: *reason. */
static int call_out(const struct mpi_group *group, const struct place *place, int *reason)
{
    const double deadline = mpi_group_seconds() + CALL_SECONDS;
    struct hello hello = { .rank = htonl((uint32_t)group->rank) };
    struct call calls[MANY];
    int found = -1;

    *reason = ETIMEDOUT;
    memcpy(hello.word, place->word, WORD);
    for (int i = 0; i < place->n; i++) {
        errno = 0;
        calls[i] = (struct call){ .fd = begin_call(place->address[i], place->port) };
        if (calls[i].fd < 0 && errno)
            *reason = errno;
    }
    while (found < 0 && left_of(deadline) > 0) {
        struct pollfd p[MANY];
        int open = 0;

        for (int i = 0; i < place->n; i++) {
            p[i] = (struct pollfd){ .fd = calls[i].fd, .events = calls[i].said ? POLLIN : POLLOUT };
            open += calls[i].fd >= 0;
        }
        if (!open)
            break;
        poll(p, (nfds_t)place->n, (int)(left_of(deadline) * 1000) + 1);
        for (int i = 0; found < 0 && i < place->n; i++)
            if (calls[i].fd >= 0 && p[i].revents && move_on(&calls[i], &hello, reason))
                found = i;
    }
    for (int i = 0; i < place->n; i++)
        if (i != found && calls[i].fd >= 0)
            close(calls[i].fd);
    return found < 0 ? -1 : calls[found].fd;
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------------- */

void mpi_links_close(struct mpi_group *group)
{
    struct mpi_links *links = group->links;

    group->links = NULL;
    if (!links)
        return;
    for (int r = 0; links->link && r < group->size; r++)
        if (links->link[r].fd >= 0)
            close(links->link[r].fd);
    free(links->link);
    free(links->polled);
    free(links);
}

static void describe(const struct place *place, char *text, size_t size)
{
    size_t n = 0;

    text[0] = '\0';
    for (int i = 0; i < place->n && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", place->address[i]);
}

static bool links_allocate(struct mpi_group *group)
{
    struct mpi_links *links = calloc(1, sizeof *links);

    group->links = links;
    if (!links)
        return false;
    links->link = malloc((size_t)group->size * sizeof *links->link);
    links->polled = calloc((size_t)group->size + 1, sizeof *links->polled);
    for (int r = 0; links->link && r < group->size; r++)
        links->link[r] = (struct link){ .fd = -1 };
    return links->link && links->polled;
}

/* Every rank learns where rank 0 listens; its socket, -1 on the others.  0 or the system's error number. */
static int find_rank_0(struct mpi_group *group, struct place *place, int *listening)
{
    int reason = 0;

    *listening = -1;
    if (group->rank == 0) {
        list_addresses(group->one_host, place);
        *listening = listen_anywhere(group->one_host, &place->port);
        reason = *listening < 0 ? errno : 0;
        if (*listening >= 0 && getrandom(place->word, WORD, 0) != WORD)
            reason = EIO;
    }
    mpi_group_check(group, MPI_Bcast(&reason, 1, MPI_INT, 0, group->comm), "MPI_Bcast");
    if (!reason)
        mpi_group_check(group, MPI_Bcast(place, sizeof *place, MPI_BYTE, 0, group->comm), "MPI_Bcast");
    return reason;
}

/* -1: every rank has its connection; else one that has none, and why, on every rank alike. */
static int connect_all(struct mpi_group *group, const struct place *place, int listening, int *reason)
{
    int bad, worst = -1;

    *reason = 0;
    if (group->rank == 0) {
        bad = answer_calls(group, listening, place, reason);
    } else {
        group->links->link[0].fd = call_out(group, place, reason);
        bad = group->links->link[0].fd < 0 ? group->rank : -1;
    }
    /* Where rank 0 could not accept, its reason is the one. */
    int reasons[2] = { group->rank == 0 ? *reason : 0, 0 };
    mpi_group_check(group, MPI_Allreduce(&bad, &worst, 1, MPI_INT, MPI_MAX, group->comm), "MPI_Allreduce");
    if (worst < 0)
        return worst;
    reasons[1] = group->rank == worst ? *reason : 0;
    mpi_group_check(group, MPI_Bcast(&reasons[0], 1, MPI_INT, 0, group->comm), "MPI_Bcast");
    mpi_group_check(group, MPI_Bcast(&reasons[1], 1, MPI_INT, worst, group->comm), "MPI_Bcast");
    *reason = reasons[0] ? reasons[0] : reasons[1];
    return worst;
}

tern_status mpi_links_open(struct mpi_group *group, char *text, size_t size)
{
    struct place place = { .port = 0 };
    char where[256];
    int listening;

    if (!mpi_group_agree(group, links_allocate(group))) {
        mpi_links_close(group);
        snprintf(text, size, "out of memory for connections of %d ranks", group->size);
        return TERN_ERR_MEMORY;
    }
    int reason = find_rank_0(group, &place, &listening);
    const bool listens = !reason;
    const int missing = listens ? connect_all(group, &place, listening, &reason) : 0;
    if (listening >= 0)
        close(listening);
    if (listens && missing < 0)
        return TERN_OK;
    mpi_links_close(group);
    describe(&place, where, sizeof where);
    if (!listens)
        snprintf(text, size, "rank 0 (%s) cannot listen for the others: %s", group->ranks[0].host, strerror(reason));
    else
        snprintf(text, size,
                 "rank %d (%s) does not reach rank 0 (%s) at port %d of %s%s%s; TERN_COMM_TIMEOUT=0 does without",
                 missing, group->ranks[missing].host, group->ranks[0].host, place.port, place.n ? where : "no address",
                 reason ? ": " : "", reason ? strerror(reason) : "");
    return TERN_ERR_IO;
}

/* ---- messages ---------------------------------------------------------------------------------------------------------------- */

/* Whether it fits or not: who does not read has other worries. */
static void say(struct mpi_group *group, char what)
{
    for (int r = 0; r < group->size; r++)
        if (group->links->link[r].fd >= 0)
            (void)!send(group->links->link[r].fd, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void mpi_links_leave(struct mpi_group *group, enum mpi_presence how)
{
    say(group, how == MPI_RANK_CLOSED ? 'c' : 'x');
}

void mpi_links_end(struct mpi_group *group)
{
    if (group->rank == 0)
        say(group, 'e');
}

void mpi_links_beat(struct mpi_group *group)
{
    struct mpi_links *links = group->links;
    const double now = mpi_group_seconds();

    if (now - links->beaten < BEAT_SECONDS && links->beaten > 0)
        return;
    links->beaten = now;
    say(group, 'h');
}

static void take(struct mpi_links *links, struct link *from, const char *said, size_t n)
{
    atomic_fetch_add_explicit(&from->beats, 1, memory_order_relaxed);
    for (size_t i = 0; i < n; i++)
        switch (said[i]) {
        case 'c':
            atomic_store(&from->presence, MPI_RANK_CLOSED);
            break;
        case 'x':
            atomic_store(&from->presence, MPI_RANK_EXITED);
            break;
        case 'd':
            atomic_store(&links->dismissed, true);
            break;
        case 'e':
            atomic_store(&links->ended, true);
            break;
        default: /* a sign of life */
            break;
        }
}

static void hear(struct mpi_links *links, struct link *from)
{
    char said[256];

    for (;;) {
        const ssize_t n = recv(from->fd, said, sizeof said, MSG_DONTWAIT);

        if (n > 0) {
            take(links, from, said, (size_t)n);
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        /* The system at the other end closed it, or tells that there is none. */
        if (atomic_load(&from->presence) == MPI_RANK_HERE)
            atomic_store(&from->presence, MPI_RANK_LOST);
        from->shut = true;
        return;
    }
}

void mpi_links_wait(struct mpi_group *group, double seconds)
{
    struct mpi_links *links = group->links;
    int n = 0;

    links->polled[n++] = (struct pollfd){ .fd = group->stop, .events = POLLIN };
    for (int r = 0; r < group->size; r++)
        if (links->link[r].fd >= 0 && !links->link[r].shut)
            links->polled[n++] = (struct pollfd){ .fd = links->link[r].fd, .events = POLLIN };
    if (poll(links->polled, (nfds_t)n, (int)(seconds * 1000)) <= 0)
        return;
    for (int r = 0; r < group->size; r++)
        if (links->link[r].fd >= 0 && !links->link[r].shut)
            hear(links, &links->link[r]);
}

bool mpi_links_sees(const struct mpi_group *group, int rank)
{
    return group->links && group->links->link[rank].fd >= 0;
}

unsigned mpi_links_beats(const struct mpi_group *group, int rank)
{
    return atomic_load_explicit(&group->links->link[rank].beats, memory_order_relaxed);
}

enum mpi_presence mpi_links_presence(const struct mpi_group *group, int rank)
{
    return (enum mpi_presence)atomic_load(&group->links->link[rank].presence);
}

bool mpi_links_ended(const struct mpi_group *group)
{
    return atomic_load(&group->links->ended);
}

void mpi_links_dismiss(struct mpi_group *group)
{
    if (group->rank == 0)
        say(group, 'd');
}

bool mpi_links_dismissed(const struct mpi_group *group)
{
    return group->rank == 0 || atomic_load(&group->links->dismissed);
}
