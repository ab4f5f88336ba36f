/* ranks.h: one command on several processes that share a model.
 *
 * Ranks are started by mpirun or srun, or by this command itself where it is given --tp N: then this process is their launcher and
 * computes nothing (launch.c).  Rank 0 is the command as it is without ranks, with the launcher's own stdin, stdout and stderr; the
 * others open the model and take part until rank 0 closes it, and say nothing. */
#ifndef TERN_CLI_RANKS_H
#define TERN_CLI_RANKS_H

#include <tern/tern.h>

#include <sys/types.h>

/* --tp of commands whose model ranks can share. */
#define OPTION_TP(out)                                                                          \
    {                                                                                           \
        0, "tp", "N",                                                                           \
            "share the model between N processes of this machine, started through mpirun; on\n" \
            "several machines: mpirun -n N tern ... (docs/distributed.md)",                     \
            OPTION_INT, (out), NULL, 1, 1024, false                                             \
    }

/* At the start of the program: takes the launcher's streams, and silences a rank that is not the first if its command has OPTION_TP. */
void ranks_init(char **argv, bool takes_part);
/* At its end, with the exit code. */
void ranks_end(int code);
/* Whether this process is to keep its line to itself: a rank other than 0's would be one too many.  Before the group is open it may be the
 * only one with a line to say: then this waits for 3 s whether it is ended, because rank 0 has failed and said so, and is false if not. */
bool ranks_silent(void);

/* What ranks share. */
struct ranks_job {
    /* The model that rank 0 opens and the others with it; `shape`: NULL, or what is made instead of opening `model`. */
    const char *model;
    const tern_model_shape *shape;
    int dtype;
    /* The model's directory, freed with free(); NULL: cli_model_find(). */
    int (*find)(tern_ctx *ctx, const char *name, char **path);
    /* The command itself, on rank 0; the model is closed when it returns. */
    int (*run)(void *user, tern_ctx *ctx);
    void *user;
};

/* Runs a command on the ranks that there are, with cli_context_open() and this rank's share of the processors; or on this process alone;
 * or, where --tp (0: not given) asks for ranks that are not there, starts them and waits for their end.  The exit code. */
int ranks_run(int64_t tp, int64_t threads, const struct ranks_job *job);
/* Why the context has the threads it has. */
const char *ranks_threads_reason(const tern_ctx *ctx);
/* For tern_model_options; NULL: one process. */
const tern_comm *ranks_comm(void);

/* ---- launch.c ---- */
/* A rank and its launcher speak in these, through a socket whose name is in TERN_LAUNCHER. */
enum ranks_word {
    RANKS_HELLO, /* value: the rank; rank 0 is answered with three files */
    RANKS_STOP,  /* rank 0 was stopped by its terminal; value: the signal */
    RANKS_OPEN,  /* the group is open: from here on rank 0 ends the run when it is asked to */
    RANKS_CODE, /* value: the exit code, as far as it is known: leaving the group may fail where mpirun is at its end */
    RANKS_BYE   /* value: the exit code */
};
struct ranks_message {
    int32_t word, value;
};
#define RANKS_LAUNCHER "TERN_LAUNCHER"

int launch(int n, char **argv);

#endif
