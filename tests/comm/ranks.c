/* ranks.c: what a rank does in the tests of groups; started by test_collectives.py and test_faults.py through mpirun.
 *
 *   test_ranks collectives SEED      every operation at many sizes, held against what one process computes
 *   test_ranks loop [FAULT...]       sums without end, until something ends them
 *   test_ranks idle [FAULT...]       ranks wait for a message of rank 0, which never comes
 *   test_ranks open [VERSION]        opens and closes; with VERSION as if this rank's tern were that one
 *   test_ranks absent RANK [MILLISECONDS]
 *                                    that rank stops in the middle of its opening, or that long after MPI's start has begun
 *   test_ranks fork                  a child of a rank uses the group
 *   test_ranks twice                 two groups in one process, one after and one beside the other
 *   test_ranks outlive               closes the group, and lives on for longer than MPI's ending is given
 *   test_ranks poor RANK N           that rank's plugin gets no memory the N-th time that it asks, counted from 0
 *
 * FAULT: RANK kill|stop|exit|close|return MILLISECONDS; that rank does so then, in the thread that computes.
 * With TERN_TEST_RUN each rank writes its process id to that folder as a file named after its rank, once it is in the group, and
 * before a fault the time to a file "struck".  TERN_TEST_WINDOW is 1 or 0: whether a group of several has a window to share, or
 * messages. */
#include "comm/plugin.h"

#include <tern/comm.h>
#include <tern/version.h>

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition, ...)                                                 \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: rank %d: ", __FILE__, __LINE__, rank_of); \
            fprintf(stderr, __VA_ARGS__);                                     \
            fputc('\n', stderr);                                              \
            _exit(9);                                                         \
        }                                                                     \
    } while (0)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MEMORY 0 /* sanitizers have allocators of their own */
#elif defined(__has_feature)
#define OWN_MEMORY (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define OWN_MEMORY 1
#endif

static int rank_of = -1;

static bool stops_opening;
static unsigned stops_init; /* so many milliseconds after MPI's start has begun; 0: not */

static void sleep_ms(unsigned ms)
{
    const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A line in a file of the test's folder. */
static void note(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(const char *name, const char *format, ...)
{
    const char *folder = getenv("TERN_TEST_RUN");
    char path[4096], text[64];
    va_list args;

    if (!folder)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    CHECK(f && fprintf(f, "%s\n", text) > 0 && fclose(f) == 0, "cannot write %s", path);
}

static void note_rank(int rank)
{
    char name[16];

    snprintf(name, sizeof name, "%d", rank);
    note(name, "%d", (int)getpid());
}

static void note_fault(void)
{
    note("struck", "%.6f", seconds());
}

static void *stop_later(void *unused)
{
    (void)unused;
    sleep_ms(stops_init);
    note_fault();
    kill(getpid(), SIGSTOP);
    return NULL;
}

/* The plugin calls this and the next one, and finds them here first. */
__attribute__((visibility("default"))) int MPI_Init_thread(int *argc, char ***argv, int required, int *provided);
int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    int (*real)(int *, char ***, int, int *);
    void *symbol = dlsym(RTLD_DEFAULT, "PMPI_Init_thread");
    pthread_t thread;

    memcpy(&real, &symbol, sizeof real); /* ISO C has no conversion of objects to functions */
    if (stops_init)
        CHECK(pthread_create(&thread, NULL, stop_later, NULL) == 0, "no thread");
    return real(argc, argv, required, provided);
}

/* Open MPI's handles are pointers. */
__attribute__((visibility("default"))) int MPI_Comm_split_type(void *comm, int type, int key, void *info, void *out);
int MPI_Comm_split_type(void *comm, int type, int key, void *info, void *out)
{
    int (*real)(void *, int, int, void *, void *);
    void *symbol = dlsym(RTLD_DEFAULT, "PMPI_Comm_split_type");

    memcpy(&real, &symbol, sizeof real);
    if (stops_opening) {
        note_fault();
        raise(SIGSTOP);
    }
    return real(comm, type, key, info, out);
}

/* Memory that the plugin asks for. */
static atomic_long refused = -1; /* which time there is none; -1: never */

#if OWN_MEMORY
static atomic_long asked;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);

static bool refuses(const void *caller)
{
    Dl_info info;

    if (atomic_load(&refused) < 0 || !dladdr(caller, &info) || !info.dli_fname ||
        !strstr(info.dli_fname, "libtern_mpi.so") || atomic_fetch_add(&asked, 1) != atomic_load(&refused))
        return false;
    note_fault();
    return true;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    return refuses(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size)
{
    return refuses(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}
#endif

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return x ^ x >> 32;
}

/* What `rank` brings at place i: of very different sizes, so that another order of adding gives other bits. */
static float value(uint64_t seed, int rank, size_t i)
{
    const uint64_t r = mix(seed + mix((uint64_t)rank * 0x1000003u + i));
    const float unit = (float)(r >> 40) / (float)(1 << 24) - 0.5f;

    return ldexpf(unit, (int)(r & 31) - 16);
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);

    CHECK(p, "no memory");
    return p;
}

/* ---- collectives ------------------------------------------------------------------------------------------------------- */

static void check_sum(const tern_comm *comm, uint64_t seed, size_t n)
{
    float *x = allocate((n + 1) * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = value(seed, comm->rank, i);
    x[n] = 42;
    CHECK(comm->all_reduce(comm->user, x, n) == TERN_OK, "all_reduce of %zu", n);
    for (size_t i = 0; i < n; i++) {
        float want = value(seed, 0, i);

        for (int r = 1; r < comm->size; r++)
            want += value(seed, r, i);
        CHECK(memcmp(&want, &x[i], sizeof want) == 0, "sum %zu of %zu is %.9g, expected %.9g", i, n, (double)x[i],
              (double)want);
    }
    CHECK(x[n] == 42, "all_reduce of %zu wrote behind its data", n);
    free(x);
}

/* A forked child has neither the others nor MPI, and is told so. */
static void check_child(const tern_comm *comm)
{
    float x[2] = { 1, 2 }, all[16];
    int status = -1;
    const pid_t child = fork();

    CHECK(child >= 0, "no child");
    if (child == 0)
        _exit(comm->all_reduce(comm->user, x, 2) == TERN_ERR_STATE &&
                      comm->all_gather(comm->user, x, all, 2) == TERN_ERR_STATE &&
                      comm->broadcast(comm->user, x, sizeof x, 0) == TERN_ERR_STATE &&
                      comm->barrier(comm->user) == TERN_ERR_STATE && x[0] == 1 && x[1] == 2
                  ? 0
                  : 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
    CHECK(comm->broadcast(comm->user, x, sizeof x, comm->size) == TERN_ERR_ARG, "a root that is not there");
}

/* Infinities, zeros with a sign, numbers without a leading one, and NaNs whose bits may depend on who was first. */
static void check_special_sums(const tern_comm *comm, size_t n)
{
    static const float special[] = { INFINITY, -INFINITY, NAN, -0.0f, 0.0f, 1e-45f, -1e-40f, 3e38f };
    float *x = allocate(n * sizeof *x), *all = allocate(n * (size_t)comm->size * sizeof *all);

    for (size_t i = 0; i < n; i++) {
        const uint64_t r = mix(i * 64 + (uint64_t)comm->rank);

        x[i] = special[r % 8];
        if (isnan(x[i])) {
            const uint32_t bits = 0x7fc00000u | (uint32_t)(r >> 44); /* a NaN of one's own */

            memcpy(&x[i], &bits, sizeof bits);
        }
    }
    CHECK(comm->all_reduce(comm->user, x, n) == TERN_OK, "all_reduce");
    CHECK(comm->all_gather(comm->user, x, all, n) == TERN_OK, "all_gather");
    for (int r = 0; r < comm->size; r++)
        CHECK(memcmp(x, all + (size_t)r * n, n * sizeof *x) == 0, "rank %d has other bits in a sum of %zu", r, n);
    free(x);
    free(all);
}

static void check_gather(const tern_comm *comm, uint64_t seed, size_t n, bool in_place)
{
    float *out = allocate(((size_t)comm->size * n + 1) * sizeof *out);
    float *x = in_place ? out + (size_t)comm->rank * n : allocate(n * sizeof *x);

    out[(size_t)comm->size * n] = 42;
    for (size_t i = 0; i < n; i++)
        x[i] = value(seed, comm->rank, i);
    CHECK(comm->all_gather(comm->user, x, out, n) == TERN_OK, "all_gather of %zu", n);
    for (int r = 0; r < comm->size; r++)
        for (size_t i = 0; i < n; i++)
            CHECK(out[(size_t)r * n + i] == value(seed, r, i), "rank %d's number %zu of %zu", r, i, n);
    CHECK(out[(size_t)comm->size * n] == 42, "all_gather of %zu wrote behind its data", n);
    if (!in_place)
        free(x);
    free(out);
}

static void check_broadcast(const tern_comm *comm, uint64_t seed, size_t bytes, int root)
{
    unsigned char *x = allocate(bytes + 1);

    for (size_t i = 0; i < bytes; i++)
        x[i] = comm->rank == root ? (unsigned char)mix(seed + i) : 0;
    x[bytes] = 42;
    CHECK(comm->broadcast(comm->user, x, bytes, root) == TERN_OK, "broadcast of %zu", bytes);
    for (size_t i = 0; i < bytes; i++)
        CHECK(x[i] == (unsigned char)mix(seed + i), "byte %zu of %zu from rank %d", i, bytes, root);
    CHECK(x[bytes] == 42, "broadcast of %zu wrote behind its data", bytes);
    free(x);
}

/* Each rank goes through the same operations, and none at the same time as another. */
static void check_all(const tern_comm *comm, uint64_t seed)
{
    static const size_t sizes[] = { 0,     1,     3,     17,    768,   4095,       4096,   4097,
                                    16384, 21845, 65535, 65536, 65537, 131072 + 5, 300001, 1048576 + 3 };
    static const size_t bytes[] = { 0, 1, 7, 4096, 262143, 262144, 262145, 4194304 + 3 };
    const size_t n_sizes = sizeof sizes / sizeof sizes[0], n_bytes = sizeof bytes / sizeof bytes[0];

    for (size_t s = 0; s < n_sizes; s++) {
        check_sum(comm, seed + s, sizes[s]);
        check_gather(comm, seed + s, sizes[s] < 400000 ? sizes[s] : 9, s % 2);
    }
    check_special_sums(comm, 4000);
    check_special_sums(comm, 70001);
    for (int root = 0; root < comm->size; root++)
        for (size_t s = 0; s < n_bytes; s++)
            check_broadcast(comm, seed + s, bytes[s], root);
    /* Small ones in any order, with ranks that come late, by turns and all but one. */
    for (unsigned i = 0; i < 3000; i++) {
        const uint64_t common = mix(seed * 3000 + i), own = mix(common + (uint64_t)comm->rank + 1);

        if (own % 61 == 0)
            sleep_ms((unsigned)(own >> 32) % 4);
        if (i % 1500 == 700 && (uint64_t)comm->rank != common % (uint64_t)comm->size)
            sleep_ms(250);
        switch (common % 4) {
        case 0:
            check_gather(comm, common, common >> 32 & 63, false);
            break;
        case 1:
            check_broadcast(comm, common, common >> 32 & 255, (int)(common >> 16 & 0xff) % comm->size);
            break;
        case 2:
            CHECK(comm->barrier(comm->user) == TERN_OK, "barrier");
            break;
        default:
            check_sum(comm, common, common >> 32 & 1023);
        }
    }
}

/* No one passes a barrier before the last has come. */
static void check_barrier(const tern_comm *comm)
{
    for (int late = 0; late < comm->size; late++) {
        double came[64] = { 0 }, passed;
        float own;

        CHECK(comm->barrier(comm->user) == TERN_OK, "barrier");
        if (comm->rank == late)
            sleep_ms(60);
        came[0] = seconds();
        CHECK(comm->barrier(comm->user) == TERN_OK, "barrier");
        passed = seconds();
        CHECK(comm->broadcast(comm->user, came, sizeof came[0], late) == TERN_OK, "broadcast");
        own = (float)(passed - came[0]); /* one host, one clock */
        CHECK(own >= 0, "a barrier let rank %d pass %.6f s before rank %d came", comm->rank, -(double)own, late);
    }
}

/* Who waits for long sleeps. */
static void check_idle(const tern_comm *comm)
{
    struct rusage before, after;
    const double began = seconds();
    char message = 0;

    CHECK(comm->barrier(comm->user) == TERN_OK, "barrier");
    getrusage(RUSAGE_THREAD, &before);
    if (comm->rank == 0)
        sleep_ms(300);
    CHECK(comm->broadcast(comm->user, &message, 1, 0) == TERN_OK, "broadcast");
    getrusage(RUSAGE_THREAD, &after);
    CHECK(after.ru_nvcsw > before.ru_nvcsw, "rank %d never slept while it waited", comm->rank);
    const double used =
        (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
        1e-6 * (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
                        before.ru_stime.tv_usec);
    if (getenv("TERN_TEST_FIGURES") && comm->rank == comm->size - 1)
        printf("waiting took %.1f %% of a processor\n", 100 * used / (seconds() - began));
}

/* ---- faults ------------------------------------------------------------------------------------------------------------- */

struct fault {
    int rank; /* -1: none */
    const char *what;
    double at;
};

static bool fault_due(const tern_comm *comm, const struct fault *fault)
{
    return fault->rank == comm->rank && seconds() >= fault->at;
}

/* true: the rank closes the group, or returns without doing so. */
static bool strike(const struct fault *fault)
{
    note_fault();
    if (strcmp(fault->what, "kill") == 0)
        raise(SIGKILL);
    else if (strcmp(fault->what, "stop") == 0)
        raise(SIGSTOP);
    else if (strcmp(fault->what, "exit") == 0)
        exit(7);
    else
        return true;
    return false;
}

static tern_status loop(const tern_comm *comm, const struct fault *fault)
{
    static float x[20000];
    tern_status status = TERN_OK;

    for (unsigned i = 0; status == TERN_OK; i++) {
        if (fault_due(comm, fault) && strike(fault))
            return TERN_OK;
        status = comm->all_reduce(comm->user, x, i % 7 ? 768 : 20000);
    }
    return status;
}

static tern_status idle(const tern_comm *comm, const struct fault *fault)
{
    char message;

    if (comm->rank != 0 && fault->rank != comm->rank)
        return comm->broadcast(comm->user, &message, 1, 0);
    for (;; sleep_ms(20))
        if (fault_due(comm, fault) && strike(fault))
            return TERN_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------- */

/* The plugin itself, told of another version than it would be by libtern. */
static int open_as(const char *version)
{
    const char *folder = getenv("TERN_PLUGINS");
    char path[4096], message[512] = "";
    tern_comm comm;

    snprintf(path, sizeof path, "%s/libtern_mpi.so", folder ? folder : ".");
    void *object = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    const struct tern_comm_plugin *plugin = object ? dlsym(object, TERN_COMM_PLUGIN_SYMBOL) : NULL;
    CHECK(plugin, "no plugin: %s", object ? "no symbol" : dlerror());
    if (plugin->open(version, &comm, message, sizeof message) != TERN_OK) {
        fprintf(stderr, "test: %s\n", message);
        return 3;
    }
    plugin->close(&comm);
    return 0;
}

/* Sums take the path that they were to take. */
static void check_path(const tern_comm *comm)
{
    const char *wish = getenv("TERN_TEST_WINDOW");
    FILE *maps = fopen("/proc/self/maps", "r");
    bool window = false;
    char line[4096];

    CHECK(maps, "no /proc/self/maps");
    while (fgets(line, sizeof line, maps))
        window = window || strstr(line, "/osc_sm.");
    fclose(maps);
    CHECK(!wish || comm->size == 1 || window == (strcmp(wish, "1") == 0), "the group has %s window",
          window ? "a" : "no");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    struct fault fault = { .rank = -1 };
    tern_status status = TERN_OK;
    tern_comm *comm = NULL, *other = NULL;
    tern_ctx *ctx = NULL;
    char message[256];

    if (strcmp(what, "absent") == 0) {
        const char *told = getenv("OMPI_COMM_WORLD_RANK");

        rank_of = told ? atoi(told) : 0;
        note_rank(rank_of);
        stops_opening = rank_of == atoi(argv[2]) && argc < 4;
        stops_init = rank_of == atoi(argv[2]) && argc == 4 ? (unsigned)atoi(argv[3]) : 0;
    }
    if (strcmp(what, "poor") == 0) {
        const char *told = getenv("OMPI_COMM_WORLD_RANK");

        atomic_store(&refused, OWN_MEMORY && told && atoi(told) == atoi(argv[2]) ? atol(argv[3]) : -1);
    }
    if (strcmp(what, "open") == 0 && argc == 3)
        return open_as(argv[2]);
    CHECK(tern_ctx_create(&ctx, NULL, message, sizeof message) == TERN_OK, "%s", message);
    if (tern_comm_open(ctx, "mpi", &comm) != TERN_OK) {
        fprintf(stderr, "test: %s\n", tern_error(ctx));
        return 3;
    }
    rank_of = comm->rank;
    check_path(comm);
    note_rank(rank_of);
    if (argc >= 5)
        fault = (struct fault){ atoi(argv[2]), argv[3], seconds() + 1e-3 * atof(argv[4]) };
    if (strcmp(what, "collectives") == 0) {
        check_all(comm, argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
        check_barrier(comm);
        check_idle(comm);
    } else if (strcmp(what, "fork") == 0) {
        check_child(comm);
        check_sum(comm, 1, 5000);
    } else if (strcmp(what, "twice") == 0) {
        CHECK(tern_comm_open(ctx, "mpi", &other) == TERN_OK, "%s", tern_error(ctx));
        check_sum(comm, 1, 5000);
        check_sum(other, 2, 5000);
        tern_comm_close(&comm);
        check_sum(other, 3, 5000);
        tern_comm_close(&other);
        CHECK(tern_comm_open(ctx, "mpi", &comm) == TERN_ERR_STATE, "MPI was initialised twice");
    } else if (strcmp(what, "loop") == 0) {
        status = loop(comm, &fault);
    } else if (strcmp(what, "idle") == 0) {
        status = idle(comm, &fault);
    } else if (strcmp(what, "outlive") == 0) {
        check_sum(comm, 1, 5000);
        tern_comm_close(&comm);
        sleep_ms(9000);
    }
    if (fault.rank == rank_of && strcmp(fault.what, "return") == 0)
        return 0;
    tern_comm_close(&comm);
    tern_ctx_destroy(&ctx);
    CHECK(!comm, "the group is closed and not NULL");
    return status == TERN_OK ? 0 : 20 + (int)status;
}
