/* bench_comm.c: collectives of a group of ranks, through shared memory and through messages, beside Open MPI's own.
 *
 *   mpirun -n 2 build/release/bench_comm [--rounds N] [--out FILE.json]
 *
 * The three are timed in turn, round after round, so that whatever disturbs the machine disturbs all of them.  A round calls one of
 * them often enough for about a millisecond; data stays in the cache, as states of single tokens do.  GB/s: bytes of the
 * operation's data over its time.  Open MPI adds up in an order of its own. */
#include "answer.h"

#include <tern/tern.h>

#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY_ROUNDS 1000
#define ROUND       1e-3 /* seconds */

enum what { SUM, GATHER, BROADCAST, BARRIER, N_WHAT };
enum how { SHARED, MESSAGES, PEER, N_HOW };

static const char *const what_names[N_WHAT] = { "all_reduce", "all_gather", "broadcast", "barrier" };
static const char *const how_names[N_HOW] = { "shared memory", "messages", "Open MPI" };

struct bench {
    tern_comm *comm[N_HOW]; /* none of Open MPI; NULL: cannot be had here */
    int rank, size, rounds;
    float *data, *out;
    struct answer_file out_file; /* of --out */
    int stdout_number;           /* errno of what could not be printed, 0: none */
    bool reported;
};

static void once(const struct bench *b, enum what what, enum how how, size_t n)
{
    const tern_comm *c = b->comm[how];

    switch (what) {
    case SUM:
        if (c)
            c->all_reduce(c->user, b->data, n);
        else
            MPI_Allreduce(MPI_IN_PLACE, b->data, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        break;
    case GATHER:
        if (c)
            c->all_gather(c->user, b->data, b->out, n);
        else
            MPI_Allgather(b->data, (int)n, MPI_FLOAT, b->out, (int)n, MPI_FLOAT, MPI_COMM_WORLD);
        break;
    case BROADCAST:
        if (c)
            c->broadcast(c->user, b->data, n * sizeof(float), 0);
        else
            MPI_Bcast(b->data, (int)n, MPI_FLOAT, 0, MPI_COMM_WORLD);
        break;
    default:
        if (c)
            c->barrier(c->user);
        else
            MPI_Barrier(MPI_COMM_WORLD);
    }
}

/* Seconds of one call, of `calls` in a row. */
static double sample(const struct bench *b, enum what what, enum how how, size_t n, int calls)
{
    memset(b->data, 0, n * sizeof(float)); /* sums of sums would overflow */
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    for (int i = 0; i < calls; i++)
        once(b, what, how, n);
    return (MPI_Wtime() - start) / calls;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(struct bench *b, enum what what, enum how how, size_t bytes, double *seconds)
{
    const int n = b->rounds;

    qsort(seconds, (size_t)n, sizeof(*seconds), compare);
    const double median = seconds[n / 2], low = seconds[n / 10], high = seconds[n - 1 - n / 10];
    printf("%-10s %8zu  %-13s %10.2f %10.2f %10.2f", what_names[what], bytes, how_names[how], 1e6 * median, 1e6 * low,
           1e6 * high);
    printf(bytes ? "   %8.2f\n" : "\n", (double)bytes / median * 1e-9);
    answer_flush(stdout, &b->stdout_number);
    if (b->out_file.file)
        fprintf(b->out_file.file,
                "%s\n{\"what\":\"%s\",\"bytes\":%zu,\"how\":\"%s\",\"ranks\":%d,\"us\":%.4f,\"us_low\":%.4f,\"us_"
                "high\":%.4f}",
                b->reported ? "," : "[", what_names[what], bytes, how_names[how], b->size, 1e6 * median, 1e6 * low,
                1e6 * high);
    b->reported = true;
}

static void measure(struct bench *b, enum what what, size_t bytes)
{
    static double seconds[N_HOW][MANY_ROUNDS];
    int calls[N_HOW];

    for (int h = 0; h < N_HOW; h++) {
        const double one = sample(b, what, (enum how)h, bytes / sizeof(float), 20);

        calls[h] = one * 20 > ROUND ? (one > ROUND ? 1 : (int)(ROUND / one)) : (int)(ROUND / (one > 1e-8 ? one : 1e-8));
        MPI_Bcast(&calls[h], 1, MPI_INT, 0, MPI_COMM_WORLD); /* every rank makes as many */
    }
    for (int round = 0; round < b->rounds; round++)
        for (int h = 0; h < N_HOW; h++)
            seconds[h][round] = sample(b, what, (enum how)h, bytes / sizeof(float), calls[h]);
    for (int h = 0; b->rank == 0 && h < N_HOW; h++)
        if (b->comm[h] || h == PEER)
            report(b, what, (enum how)h, bytes, seconds[h]);
}

static bool open_group(struct bench *b, tern_ctx *ctx, enum how how, const char *path)
{
    setenv("TERN_COMM", path, 1);
    if (tern_comm_open(ctx, "mpi", &b->comm[how]) == TERN_OK)
        return true;
    fprintf(stderr, "bench_comm: %s\n", tern_error(ctx));
    return false;
}

static void usage(FILE *f, const char *program)
{
    fprintf(f, "usage: mpirun -n N %s [--rounds 1..%d] [--out FILE.json]\n", program, MANY_ROUNDS);
}

static bool parse(struct bench *b, int argc, char **argv, const char **path)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            b->rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc)
            *path = argv[++i];
        else
            return false;
    }
    return b->rounds >= 1 && b->rounds <= MANY_ROUNDS;
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = { 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20 };
    const size_t most = sizes[sizeof(sizes) / sizeof(sizes[0]) - 1];
    struct bench b = { .rounds = 101 };
    tern_ctx_options options = tern_ctx_options_default();
    const char *path = NULL;
    tern_ctx *ctx = NULL;
    char message[256];

    if (!answer_stdout_open("bench_comm"))
        return 1;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        usage(stdout, argv[0]);
        return answer_stdout_close("bench_comm", 0) ? 0 : 1;
    }
    if (!parse(&b, argc, argv, &path)) {
        usage(stderr, argv[0]);
        return 2;
    }
    MPI_Init(&argc, &argv); /* ours, so that two groups and MPI itself can be had in turn */
    MPI_Comm_rank(MPI_COMM_WORLD, &b.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &b.size);
    options.n_threads = 1;
    b.data = calloc(1, most);
    b.out = calloc((size_t)b.size, most);
    if (!b.data || !b.out || tern_ctx_create(&ctx, &options, message, sizeof(message)) != TERN_OK ||
        !open_group(&b, ctx, SHARED, "auto") || !open_group(&b, ctx, MESSAGES, "p2p")) {
        fprintf(stderr, "bench_comm: rank %d cannot begin\n", b.rank);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    if (b.rank == 0) {
        if (path && !answer_open(&b.out_file, path)) {
            fprintf(stderr, "bench_comm: cannot write '%s': %s\n", path, strerror(errno));
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
        printf("%d ranks; microseconds: median, and the bounds of the middle 80 %% of %d rounds\n", b.size, b.rounds);
        printf("%-10s %8s  %-13s %10s %10s %10s   %8s\n", "", "bytes", "", "median", "low", "high", "GB/s");
    }
    measure(&b, BARRIER, 0);
    for (int what = SUM; what < BARRIER; what++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            measure(&b, (enum what)what, sizes[i]);
    bool good = true;
    if (b.out_file.file) {
        fputs("\n]\n", b.out_file.file);
        good = answer_close(&b.out_file, true);
        if (!good)
            fprintf(stderr, "bench_comm: cannot write '%s': %s\n", path, strerror(errno));
    }
    if (b.rank == 0)
        good = answer_stdout_close("bench_comm", b.stdout_number) && good;
    tern_comm_close(&b.comm[MESSAGES]);
    tern_comm_close(&b.comm[SHARED]);
    tern_ctx_destroy(&ctx);
    free(b.data);
    free(b.out);
    MPI_Finalize();
    return !good;
}
