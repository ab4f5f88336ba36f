/* launch.c: starts the ranks of this host through mpirun, and stands between them and who started us.
 *
 * mpirun passes on what ranks read and write, but through terminals and pipes of its own, and ends everything at a Ctrl-C.  So it is
 * given a process group of its own, and rank 0 gets our three streams themselves, through a socket at which every rank reports;
 * signals go to rank 0 alone, which ends the run in order.  What mpirun and the other ranks have to say is kept, and shown only where
 * no one else has said why a run failed.
 *
 * A terminal that is our stdin, and listens to us, is handed to rank 0's process group, since no other one may read it; Ctrl-C and Ctrl-Z
 * arrive there once the group is open (MPI's start would not heed them).  In the background rank 0 is stopped when it reads, and all with
 * it, until the shell brings us to the foreground.  Stopping stops all ranks together, which they do not take for each other's death. */
#include "cli.h"
#include "ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEPT        (64 << 10) /* bytes of what mpirun and the other ranks say */
#define CROWD       8          /* ranks for each processor at most */
#define ASKED_TWICE 2          /* signals that are left to rank 0 */
#define PATIENCE \
    3 /* seconds until a signal is heeded where the group is not open: MPI's start may not come to an end */

struct rank {
    pid_t pid; /* 0: not known yet */
    int fd;    /* -1: none */
};

struct launcher {
    int n;
    struct rank *ranks;            /* [n] */
    struct pollfd *polled;         /* [n + 3] */
    int listening, signals, words; /* words: mpirun's stderr; -1: not there */
    pid_t mpirun;
    pid_t handed; /* the group that the terminal was handed to; 0: none */
    bool open;    /* the group */
    int asked;    /* signals so far */
    double since; /* when the first of them came */
    int signal;   /* the last of them */
    /* The first rank that ended without a word; -1: none; n: before all had reported, so another may have been first. */
    int lost;
    bool lost_early;     /* before rank 0 knew its exit code */
    int code;            /* rank 0's exit code; -1: not known */
    bool told;           /* someone has said why the run failed */
    size_t n_kept, line; /* bytes in `kept`; where its last line begins */
    char kept[KEPT];
};

/* ---- ranks report --------------------------------------------------------------------------------------------------- */

static int listen_for_ranks(char name[static 64])
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    uint64_t random = 0;
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0 || getrandom(&random, sizeof(random), 0) != sizeof(random))
        return -1;
    snprintf(name, 64, "tern-%d-%016" PRIx64, (int)getpid(), random);
    memcpy(at.sun_path + 1, name, strlen(name)); /* a name without a file */
    const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    return bind(fd, (struct sockaddr *)&at, length) || listen(fd, SOMAXCONN) ? -1 : fd;
}

static void send_streams(int fd)
{
    const int files[3] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
    char byte = 0;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(files))];
    } control = { .space = { 0 } };
    struct iovec io = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(files));
    memcpy(CMSG_DATA(header), files, sizeof(files));
    (void)!sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* Rank 0's process group becomes the one that the terminal listens to, if now that is ours.  mpirun has made it one. */
static void hand_on_terminal(struct launcher *l)
{
    const pid_t group = l->ranks[0].pid ? getpgid(l->ranks[0].pid) : -1;

    if (group > 0 && group != getpgrp() && tcgetpgrp(STDIN_FILENO) == getpgrp() && tcsetpgrp(STDIN_FILENO, group) == 0)
        l->handed = group;
}

/* In the background it is someone else's by now. */
static void take_back_terminal(const struct launcher *l)
{
    if (l->handed && tcgetpgrp(STDIN_FILENO) == l->handed)
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
}

static void accept_rank(struct launcher *l)
{
    const int fd = accept4(l->listening, NULL, NULL, SOCK_CLOEXEC);
    const struct timeval patience = { .tv_sec = 1 };
    struct ranks_message hello;
    struct ucred who;
    socklen_t length = sizeof(who);

    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) || who.uid != geteuid() ||
        recv(fd, &hello, sizeof(hello), 0) != sizeof(hello) || hello.word != RANKS_HELLO || hello.value < 0 ||
        hello.value >= l->n || l->ranks[hello.value].pid) {
        close(fd);
        return;
    }
    l->ranks[hello.value] = (struct rank){ .pid = who.pid, .fd = fd };
    if (hello.value == 0)
        send_streams(fd);
}

static bool all_reported(const struct launcher *l)
{
    for (int r = 0; r < l->n; r++)
        if (!l->ranks[r].pid)
            return false;
    return true;
}

/* ---- signals ---------------------------------------------------------------------------------------------------------- */

static void signal_ranks(const struct launcher *l, int number)
{
    for (int r = 0; r < l->n; r++)
        if (l->ranks[r].pid && l->ranks[r].fd >= 0)
            kill(l->ranks[r].pid, number);
}

/* All stop together, this process last, and go on together. */
static void stop_together(struct launcher *l)
{
    signal_ranks(l, SIGSTOP);
    raise(SIGSTOP);
    if (l->open)
        hand_on_terminal(l);
    signal_ranks(l, SIGCONT);
}

/* Rank 0 was stopped by its terminal.  One that it could not read may be ours by now, if the shell has brought us to the foreground without
 * our having been stopped; and what it says of one that it was handed since is old. */
static void heed_stop(struct launcher *l, int number)
{
    if (number == SIGTTIN) {
        hand_on_terminal(l);
        if (l->handed && tcgetpgrp(STDIN_FILENO) == l->handed)
            return;
    }
    stop_together(l);
}

static void ask_to_end(struct launcher *l, int number)
{
    l->signal = number;
    if (l->asked++ == 0)
        l->since = cli_seconds();
    if (l->ranks[0].fd >= 0 && l->asked <= ASKED_TWICE)
        kill(l->ranks[0].pid, number); /* the first one lets it end in order, the second kills it */
    else
        kill(l->mpirun, l->asked <= ASKED_TWICE + 1 ? SIGTERM : SIGKILL);
}

/* Milliseconds until heed_signal() is due; -1: never. */
static int until_heeded(const struct launcher *l)
{
    const double left = l->since + PATIENCE - cli_seconds();

    return l->asked == 0 || l->asked > ASKED_TWICE || l->open ? -1 : left > 0 ? (int)(left * 1000) + 1 : 0;
}

/* Rank 0 has not ended, and may never look. */
static void heed_signal(struct launcher *l)
{
    l->asked = ASKED_TWICE + 1;
    kill(l->mpirun, SIGTERM);
}

static void take_signal(struct launcher *l)
{
    struct signalfd_siginfo info;

    if (read(l->signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGTSTP)
        stop_together(l);
    else
        ask_to_end(l, (int)info.ssi_signo);
}

static void hear_rank(struct launcher *l, int r)
{
    struct ranks_message message;
    const ssize_t n = recv(l->ranks[r].fd, &message, sizeof(message), MSG_DONTWAIT);

    if (n == sizeof(message) && message.word == RANKS_STOP) {
        heed_stop(l, message.value);
    } else if (n == sizeof(message) && message.word == RANKS_OPEN) {
        if (r == 0) {
            l->open = true;
            hand_on_terminal(l);
        }
    } else if (n == sizeof(message) && message.word == RANKS_CODE) {
        l->code = r == 0 ? message.value : l->code;
    } else if (n == sizeof(message) && message.word == RANKS_BYE) {
        l->code = r == 0 ? message.value : l->code;
        close(l->ranks[r].fd);
        l->ranks[r].fd = -1;
    } else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
        if (l->lost < 0)
            l->lost_early = l->code < 0;
        if (l->lost < 0)
            l->lost = all_reported(l) ? r : l->n;
        close(l->ranks[r].fd);
        l->ranks[r].fd = -1;
    }
}

/* ---- what mpirun and the other ranks say ------------------------------------------------------------------------------ */

/* A rank that has found another one lost says so in a line of ours: that one is passed on. */
static void end_line(struct launcher *l)
{
    static const char ours[] = "tern: ";

    if (l->n_kept - l->line >= sizeof(ours) - 1 && memcmp(l->kept + l->line, ours, sizeof(ours) - 1) == 0) {
        fwrite(l->kept + l->line, 1, l->n_kept - l->line, stderr);
        l->told = true;
        l->n_kept = l->line;
    }
    l->line = l->n_kept;
}

/* false: there is no more. */
static bool hear_words(struct launcher *l)
{
    char text[4096];
    const ssize_t n = read(l->words, text, sizeof(text));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    for (ssize_t i = 0; i < n; i++) {
        if (l->n_kept == KEPT) { /* the beginning is forgotten */
            memmove(l->kept, l->kept + KEPT / 2, KEPT / 2);
            l->line = l->line > KEPT / 2 ? l->line - KEPT / 2 : 0;
            l->n_kept = KEPT / 2;
        }
        l->kept[l->n_kept++] = text[i];
        if (text[i] == '\n')
            end_line(l);
    }
    return n > 0;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

static void become_mpirun(pid_t launcher, const sigset_t *mask, int words, char **command)
{
    static const int usual[] = { SIGINT, SIGTERM, SIGHUP };
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct sigaction before;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* should the launcher be killed, mpirun ends the ranks */
    if (getppid() != launcher)        /* it was, before */
        _exit(126);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    signal(SIGTTOU, SIG_DFL);
    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) /* one that waits ends mpirun before it begins */
        if (sigaction(usual[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            signal(usual[i], SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0 ||
        dup2(words, STDERR_FILENO) < 0)
        _exit(126);
    execvp(command[0], command);
    _exit(127);
}

/* mpirun's options: ranks of this host and no other, also within a batch system's job; as many as asked for; none bound to a processor,
 * since each has a team of threads; no stack on stderr for a rank that crashes. */
static char **compose(int n, const char *program, char **argv, char number[static 16], char host[static 32])
{
    static const char *const options[] = { "-q",
                                           "--mca",
                                           "plm",
                                           "isolated",
                                           "--mca",
                                           "ras",
                                           "^slurm,gridengine,tm,lsf,loadleveler,alps",
                                           "--mca",
                                           "opal_signal",
                                           "",
                                           "--bind-to",
                                           "none",
                                           "--oversubscribe" };
    const size_t n_options = sizeof(options) / sizeof(options[0]);
    size_t count = 0, n_arguments = 0;

    while (argv[n_arguments])
        n_arguments++;
    char **command = calloc(n_options + n_arguments + 10, sizeof(*command));
    if (!command)
        return NULL;
    snprintf(number, 16, "%d", n);
    snprintf(host, 32, "localhost:%d", n);
    const char *first[] = { "mpirun", "-n", number, "--host", host };
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++)
        command[count++] = (char *)(uintptr_t)first[i]; /* exec's arguments are not const, and not written */
    for (size_t i = 0; i < n_options; i++)
        command[count++] = (char *)(uintptr_t)options[i];
    if (geteuid() == 0)
        command[count++] = (char *)(uintptr_t) "--allow-run-as-root";
    command[count++] = (char *)(uintptr_t)program;
    for (size_t i = 1; i < n_arguments; i++)
        command[count++] = argv[i];
    return command;
}

static void watch(struct launcher *l)
{
    struct pollfd *p = l->polled;
    bool words = true;

    while (words) { /* ranks and mpirun hold the other end, so its end is theirs */
        nfds_t n = 0;

        p[n++] = (struct pollfd){ .fd = l->words, .events = POLLIN };
        p[n++] = (struct pollfd){ .fd = l->signals, .events = POLLIN };
        p[n++] = (struct pollfd){ .fd = l->listening, .events = POLLIN };
        for (int r = 0; r < l->n; r++)
            p[n++] = (struct pollfd){ .fd = l->ranks[r].fd, .events = POLLIN };
        if (poll(p, n, until_heeded(l)) < 0 && errno != EINTR)
            break;
        if (until_heeded(l) == 0)
            heed_signal(l);
        for (int r = 0; r < l->n; r++)
            if (p[3 + r].revents && l->ranks[r].fd >= 0)
                hear_rank(l, r);
        if (p[2].revents)
            accept_rank(l);
        if (p[1].revents)
            take_signal(l);
        if (p[0].revents)
            words = hear_words(l);
    }
    /* mpirun has seen the ranks' ends, unless it was killed: then they find that out. */
    const double deadline = cli_seconds() + 5;
    for (int r = 0; r < l->n; r++)
        while (l->ranks[r].fd >= 0 && cli_seconds() < deadline) {
            p[0] = (struct pollfd){ .fd = l->ranks[r].fd, .events = POLLIN };
            if (poll(p, 1, 100) > 0)
                hear_rank(l, r);
        }
}

/* Whether rank 0 has come to an end of its own, and so has said all that there is to say.  When a rank is lost, mpirun ends the others with
 * a signal, which rank 0 may take for the user's. */
static bool ended_by_itself(const struct launcher *l, int code)
{
    if (l->code < 0)
        return false;
    return l->signal || (l->code == 0 ? code == 0 : l->code < CLI_SIGNAL || !l->lost_early);
}

/* The exit code, behind a line if the run failed and no one has said why. */
static int sum_up(struct launcher *l, int status)
{
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : CLI_SIGNAL + WTERMSIG(status);

    if (ended_by_itself(l, code))
        return l->code;
    if (l->signal)
        return CLI_SIGNAL + l->signal;
    if (code == 127 && !l->ranks[0].pid && l->n_kept == 0)
        return cli_error(
            CLI_FAIL, "--tp starts its processes through mpirun, and there is none in PATH: Open MPI has it (Debian: "
                      "apt-get install openmpi-bin)");
    if (l->told)
        return CLI_FAIL;
    if (WIFSIGNALED(status))
        return cli_error(CLI_FAIL, "mpirun (process %d) was ended by signal %d (%s): the run ends", (int)l->mpirun,
                         WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (code > CLI_SIGNAL && l->lost >= 0 && l->lost < l->n)
        return cli_error(CLI_FAIL, "rank %d of %d (process %d) was ended by signal %d (%s): the run ends", l->lost,
                         l->n, (int)l->ranks[l->lost].pid, code - CLI_SIGNAL, strsignal(code - CLI_SIGNAL));
    if (code > CLI_SIGNAL && all_reported(l))
        return cli_error(CLI_FAIL, "one of %d ranks was ended by signal %d (%s): the run ends", l->n, code - CLI_SIGNAL,
                         strsignal(code - CLI_SIGNAL));
    if (code > CLI_SIGNAL)
        return cli_error(CLI_FAIL, "one of %d ranks was ended by signal %d (%s) before all were there: the run ends",
                         l->n, code - CLI_SIGNAL, strsignal(code - CLI_SIGNAL));
    if (!l->ranks[0].pid || code != CLI_FAIL) {
        fwrite(l->kept, 1, l->n_kept, stderr);
        return cli_error(CLI_FAIL, "mpirun ended with status %d%s", code,
                         l->ranks[0].pid ? "" : " before rank 0 was there");
    }
    return CLI_FAIL; /* a rank's own watch has ended it, with a line */
}

static int processors(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) ? INT_MAX / CROWD : CPU_COUNT(&set);
}

/* Where mpirun keeps what belongs to a run; what it says itself where it cannot is of no use to who did not start it. */
static int check_folder(void)
{
    static const char *const names[] = { "TMPDIR", "TEMP", "TMP" };
    const char *folder = NULL;

    for (size_t i = 0; !folder && i < sizeof(names) / sizeof(names[0]); i++)
        folder = getenv(names[i]);
    folder = folder ? folder : "/tmp";
    if (access(folder, W_OK | X_OK) == 0 || errno == ENOENT) /* one that is not there it makes */
        return 0;
    return cli_error(CLI_FAIL,
                     "--tp starts its processes through mpirun, which keeps files in '%s' meanwhile: %s; TMPDIR names "
                     "another folder",
                     folder, strerror(errno));
}

/* Signals that are not ignored are read in turn from here on. */
static int catch_signals(sigset_t *before)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGTSTP };
    sigset_t caught;

    sigemptyset(&caught);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct sigaction action;

        if (sigaction(numbers[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&caught, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &caught, before);
    signal(SIGTTOU, SIG_IGN); /* handing on the terminal */
    return signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* 0, or the exit code: behind a line, but for a signal's. */
static int start(struct launcher *l, char **command)
{
    char name[64];
    sigset_t before;
    int words[2];

    l->signals = catch_signals(&before);
    if (cli_signal()) /* it came before they were read here */
        return CLI_SIGNAL + cli_signal();
    l->listening = listen_for_ranks(name);
    if (l->signals < 0 || l->listening < 0 || setenv(RANKS_LAUNCHER, name, 1) || pipe2(words, O_CLOEXEC))
        return cli_error(CLI_FAIL, "cannot prepare for %d ranks: %s", l->n, strerror(errno));
    l->words = words[0];
    const pid_t own = getpid();
    l->mpirun = fork();
    if (l->mpirun == 0)
        become_mpirun(own, &before, words[1], command);
    const int reason = errno;
    close(words[1]);
    return l->mpirun < 0 ? cli_error(CLI_FAIL, "cannot start mpirun: %s", strerror(reason)) : 0;
}

static void launcher_free(struct launcher *l)
{
    if (!l)
        return;
    const int files[] = { l->words, l->signals, l->listening };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (files[i] >= 0)
            close(files[i]);
    free(l->ranks);
    free(l->polled);
    free(l);
}

static struct launcher *launcher_create(int n)
{
    struct launcher *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->n = n;
    l->lost = l->code = l->words = l->signals = l->listening = -1;
    l->ranks = calloc((size_t)n, sizeof(*l->ranks));
    l->polled = calloc((size_t)n + 3, sizeof(*l->polled));
    if (!l->ranks || !l->polled) {
        launcher_free(l);
        return NULL;
    }
    for (int r = 0; r < n; r++)
        l->ranks[r].fd = -1;
    return l;
}

int launch(int n, char **argv)
{
    char program[PATH_MAX], number[16], host[32];
    int status = 0;

    if (n > CROWD * processors())
        return cli_error(CLI_USAGE,
                         "--tp is %d, expected at most %d: this process is granted %d processors, and %d ranks on each "
                         "are many",
                         n, CROWD * processors(), processors(), CROWD);
    int code = check_folder();
    if (code)
        return code;
    const ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[length < 0 ? 0 : length] = '\0';
    char **command = compose(n, program, argv, number, host);
    struct launcher *l = launcher_create(n);
    code = command && l ? start(l, command) : cli_error(CLI_FAIL, "out of memory for %d ranks", n);
    if (!code) {
        watch(l);
        while (waitpid(l->mpirun, &status, 0) < 0 && errno == EINTR)
            ;
        take_back_terminal(l);
        code = sum_up(l, status);
    }
    launcher_free(l);
    free(command);
    return code;
}
