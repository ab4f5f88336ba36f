/* ranks.c: what a process that is one of several does differently. */
#include "ranks.h"

#include "cli.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char **arguments;  /* of the program */
static int launcher = -1; /* the socket at which it listens; -1: there is none */
static bool silent;
static bool joined;         /* the group was opened: rank 0 is told what goes wrong here */
static bool alone;          /* --tp 1: whatever the process was started by */
static int own_stdout = -1; /* of a rank that is silent */
static bool has_share;      /* its threads are its part of those that the system grants */
static tern_comm *comm;

/* ---- who started this process ------------------------------------------------------------------------------------------ */

/* A number in the environment; -1 without. */
static int number_of(const char *name)
{
    const char *text = getenv(name);
    char *end;
    const long n = text ? strtol(text, &end, 10) : -1;

    return text && *text && !*end && n >= 0 && n < 1 << 20 ? (int)n : -1;
}

/* mpirun and srun tell their processes who they are, in words of their own; -1: no one has, or not this. */
static int told_rank(void)
{
    const int openmpi = number_of("OMPI_COMM_WORLD_RANK"), pmix = number_of("PMIX_RANK");

    return openmpi >= 0 ? openmpi : pmix;
}

static int told_size(void)
{
    const int openmpi = number_of("OMPI_COMM_WORLD_SIZE");

    return openmpi >= 0 ? openmpi : number_of("SLURM_STEP_NUM_TASKS");
}

/* Ranks on this host. */
static int told_neighbours(void)
{
    const int openmpi = number_of("OMPI_COMM_WORLD_LOCAL_SIZE");

    /* "2(x3)" or "2,1": where nodes differ, the first one's number does. */
    const char *tasks = openmpi < 0 ? getenv("SLURM_STEP_TASKS_PER_NODE") : NULL;
    return tasks ? atoi(tasks) : openmpi;
}

static bool in_group(void)
{
    return !alone && told_rank() >= 0 && told_size() != 1;
}

/* ---- with the launcher -------------------------------------------------------------------------------------------------- */

static void say(int word, int value)
{
    const struct ranks_message message = { word, value };

    if (launcher >= 0)
        (void)!send(launcher, &message, sizeof(message), MSG_NOSIGNAL);
}

static void on_stop(int number)
{
    const int reason = errno;

    say(RANKS_STOP, number);
    errno = reason;
}

/* The launcher's streams become this rank's. */
static void take_streams(void)
{
    int files[3];
    char byte;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(files))];
    } control;
    struct iovec io = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)
    };

    if (recvmsg(launcher, &message, MSG_CMSG_CLOEXEC) != 1)
        return;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(files)))
        return;
    memcpy(files, CMSG_DATA(header), sizeof(files));
    for (int i = 0; i < 3; i++) {
        dup2(files[i], i);
        close(files[i]);
    }
    struct sigaction action = { .sa_handler = on_stop, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    sigaction(SIGTSTP, &action, NULL);
    sigaction(SIGTTIN, &action, NULL); /* a terminal that is read in the background; the read begins anew */
}

static void report(const char *name, int rank)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    const size_t n = strlen(name);

    if (n > 63)
        return;
    memcpy(at.sun_path + 1, name, n);
    launcher = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (launcher < 0 ||
        connect(launcher, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n))) {
        if (launcher >= 0)
            close(launcher);
        launcher = -1;
        return;
    }
    say(RANKS_HELLO, rank);
    if (rank == 0)
        take_streams();
}

void ranks_init(char **argv, bool takes_part)
{
    const char *name = getenv(RANKS_LAUNCHER);

    arguments = argv;
    if (!takes_part || !in_group())
        return;
    if (name)
        report(name, told_rank());
    unsetenv(RANKS_LAUNCHER);
    silent = told_rank() > 0;
    const int nothing = silent ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
    if (nothing >= 0) {
        own_stdout = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        dup2(nothing, STDOUT_FILENO);
        close(nothing);
    }
}

void ranks_end(int code)
{
    say(RANKS_BYE, code);
}

bool ranks_silent(void)
{
    if (silent && !joined) {
        sleep(3);
        silent = cli_signal() != 0;
    }
    return silent;
}

/* --tp 1 stands for a process of its own, whoever started it. */
static void go_alone(void)
{
    if (own_stdout >= 0)
        dup2(own_stdout, STDOUT_FILENO);
    silent = false;
    alone = true;
}

/* Whether this process has done its part by that; true with the exit code. */
static bool start_ranks(int64_t tp, int *code)
{
    if (tp == 1)
        go_alone();
    if (tp <= 1)
        return false;
    if (told_rank() < 0) {
        *code = launch((int)tp, arguments);
        return true;
    }
    if (told_size() < 0 || told_size() == tp)
        return false;
    if (told_size() == 1)
        *code = cli_error(
            CLI_USAGE, "--tp is %d, and mpirun or srun has started this process alone: expected %d of them, or no --tp",
            (int)tp, (int)tp);
    else
        *code =
            cli_error(CLI_USAGE,
                      "--tp is %d, and this is one of %d processes that were started together: expected %d, or no --tp",
                      (int)tp, told_size(), told_size());
    return true;
}

/* ---- the group ------------------------------------------------------------------------------------------------------------- */

/* Processors in the mask of a process, 0: of this one; 0: not known. */
static int processors_of(pid_t pid)
{
    cpu_set_t set;

    return sched_getaffinity(pid, sizeof(set), &set) ? 0 : CPU_COUNT(&set);
}

/* Ranks that share the processors of this one.  Who is bound to some of them has them for itself, as far as they go round; all that there
 * are is what the starter of the ranks may use. */
static int sharers(void)
{
    const int neighbours = told_neighbours(), own = processors_of(0), all = processors_of(getppid());

    if (neighbours <= 1 || own <= 0)
        return 1;
    return all <= own ? neighbours : (int)(((int64_t)neighbours * own + all - 1) / all);
}

/* The system's threads are dealt out, unless someone has said how many. */
static int open_context(int64_t threads, tern_ctx **ctx)
{
    const char *wish = getenv("TERN_THREADS");
    const int code = cli_context_open(threads, ctx);
    const int n = code || threads || (wish && *wish && strcmp(wish, "0") != 0) ? 1 : tern_ctx_threads(*ctx);
    const int each = n / sharers();

    if (n == 1 || each == n)
        return code;
    tern_ctx_destroy(ctx);
    has_share = true;
    return cli_context_open(each > 1 ? each : 1, ctx);
}

const char *ranks_threads_reason(const tern_ctx *ctx)
{
    return has_share ? "a rank's share" : tern_ctx_threads_reason(ctx);
}

const tern_comm *ranks_comm(void)
{
    return comm;
}

static int join(int64_t threads, tern_ctx **ctx)
{
    if (!in_group())
        return cli_context_open(threads, ctx);
    const int code = open_context(threads, ctx);
    const tern_status status = code ? TERN_OK : tern_comm_open(*ctx, "mpi", &comm);

    joined = !code && !status;
    if (joined)
        say(RANKS_OPEN, 0);
    if (joined && comm->rank == 0 && cli_signal()) /* while MPI started, which did not heed it */
        return CLI_SIGNAL + cli_signal();
    return status ? cli_fail(status, tern_error(*ctx)) : code;
}

/* What is printed is out before the group is left: a rank that is lost then may end this process. */
static int leave(int code)
{
    cli_stdout_flush();
    say(RANKS_CODE, code);
    tern_comm_close(&comm);
    return code;
}

/* A rank other than 0: opens the model as rank 0 does, and takes part in what that is asked for, until it closes the model. */
static int work(tern_ctx *ctx, const struct ranks_job *job)
{
    tern_model_options options = tern_model_options_default();
    tern_model *model = NULL;
    char *path = NULL;
    tern_status status;

    options.dtype = (tern_model_dtype)job->dtype;
    options.comm = comm;
    if (job->shape) {
        status = tern_model_create_random(ctx, job->shape, &options, &model);
    } else {
        /* What is not found here is an error of all, which opening tells rank 0. */
        if ((job->find ? job->find : cli_model_find)(ctx, job->model, &path))
            path = NULL;
        status = tern_model_open(ctx, path ? path : job->model ? job->model : "tiny-shakespeare", &options, &model);
    }
    const bool opened = status == TERN_OK;
    if (opened)
        status = tern_worker_run(ctx, model);
    tern_model_close(&model);
    free(path);
    /* What went wrong until the model was open rank 0 has been told, and says; when it has left, there is nothing to say. */
    if (!opened || status == TERN_OK || status == TERN_ERR_STATE)
        return CLI_OK;
    silent = false;
    return cli_error(CLI_FAIL, "rank %d of %d: %s", comm->rank, comm->size, tern_error(ctx));
}

int ranks_run(int64_t tp, int64_t threads, const struct ranks_job *job)
{
    tern_ctx *ctx = NULL;
    int code;

    if (start_ranks(tp, &code))
        return code;
    code = join(threads, &ctx);
    if (!code)
        code = comm && comm->rank > 0 ? work(ctx, job) : job->run(job->user, ctx);
    code = leave(code);
    tern_ctx_destroy(&ctx);
    return code;
}
