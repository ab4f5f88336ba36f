/* peer.c: the main program of each contestant.  run.py says what to do, a line each, and reads a line for each:
 *
 *   (start)                 name TEXT
 *   case OP DTYPE K N M     ready COPIES  |  none           the case is set up, and its result checked; sizes as in peer.h
 *   run MS                  times T T T ...                  seconds, in order; at least one
 *   ceilings                ceilings FP32 BF16 INT8 READ  |  none
 *
 * A wrong result, or a line that is none of these, ends the program with a message. */
#include "peer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define ROTATE     ((size_t)192 << 20)
#define RUNS_MAX   2000
#define LARGE_PAGE ((size_t)2 << 20)
#define CHECKED    32 /* places of a result */

static const char *const ops[] = { "gemm",     "layer_norm", "rms_norm",  "softmax", "gelu_tanh",
                                   "gelu_erf", "add",        "attention", "mlp" };

void *peer_take(size_t size)
{
    const size_t whole = (size + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    void *data = aligned_alloc(LARGE_PAGE, whole);

    if (!data) {
        fprintf(stderr, "%s: out of memory for %zu bytes\n", peer_name(), size);
        exit(1);
    }
    madvise(data, whole, MADV_HUGEPAGE); /* advice: pages of 4 KiB do as well */
    memset(data, 0, whole);              /* results have their pages before they are timed */
    return data;
}

void peer_give(void *data)
{
    free(data);
}

/* v is exact in both. */
static void store(void *out, size_t i, enum peer_dtype dtype, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof(bits));
    if (dtype == PEER_FP32)
        ((float *)out)[i] = v;
    else
        ((uint16_t *)out)[i] = (uint16_t)(bits >> 16);
}

void peer_fill(void *out, enum peer_dtype dtype, const int8_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        store(out, i, dtype, values[i]);
}

float peer_value(enum peer_input input, size_t i)
{
    uint32_t h = (uint32_t)i * 2654435761u + (uint32_t)input * 40503u + 1; /* a multiplicative hash: Knuth */

    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    const float v = (float)(int)(h % 255) - 127; /* of 8 bits */
    return input == PEER_W1 || input == PEER_W2 ? v / 4096 : input == PEER_GAMMA ? 1 + (float)(h % 32) / 128 : v / 64;
}

void peer_values(void *out, enum peer_dtype dtype, enum peer_input input, size_t count)
{
    for (size_t i = 0; i < count; i++)
        store(out, i, dtype, peer_value(input, i));
}

double peer_from_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static double gemm_expected(const struct peer_case *c, int row, int column)
{
    double sum = 0;

    for (int j = 0; j < c->k; j++)
        sum += (double)c->x[(size_t)row * (size_t)c->k + (size_t)j] * c->w[(size_t)j * (size_t)c->n + (size_t)column];
    return sum;
}

/* Places of the result against the definition.  Sums of whole numbers are exact, and rounded once in bf16.  What has sums and functions is
 * off by the roundings on the way: of each number that is stored in bf16, in fp32 of the sums. */
static void check(const struct peer_case *c, void *state, size_t copy)
{
    const double share =
        c->op == PEER_GEMM ? (c->dtype == PEER_BF16 ? 1.0 / 256 : 0) : (c->dtype == PEER_BF16 ? 1.0 / 32 : 1.0 / 4096);
    const int columns = peer_columns(c), places = c->op == PEER_MLP ? 4 : CHECKED;
    uint32_t random = 7;

    for (int i = 0; i < places; i++) {
        const int row = (int)(next_random(&random) % (uint32_t)c->m),
                  column = (int)(next_random(&random) % (uint32_t)columns);
        const double want = c->op == PEER_GEMM ? gemm_expected(c, row, column) : peer_expected(c, row, column),
                     got = peer_result(state, copy, row, column),
                     scale = c->op == PEER_GEMM || c->op == PEER_SOFTMAX ? fabs(want) : 1 + fabs(want);
        if (!(fabs(got - want) <= share * scale)) {
            fprintf(stderr, "%s: %s is wrong: [%d, %d] is %g, expected %g\n", peer_name(), ops[c->op], row, column, got,
                    want);
            exit(1);
        }
    }
}

static void make_values(const struct peer_case *c, int8_t *x, int8_t *w)
{
    const size_t k = (size_t)c->k;
    uint32_t random = 1;

    for (size_t i = 0; i < k * (size_t)c->n; i++)
        w[i] = (int8_t)((int)(next_random(&random) % 7) - 3);
    for (size_t i = 0; i < k * (size_t)c->m; i++)
        x[i] = (int8_t)(i % k ? next_random(&random) % 128 : 127);
}

/* What must come from memory, in bytes: weights, or rows in and out.  Attention follows its projection and finds its rows in a cache. */
static size_t cold_bytes(const struct peer_case *c)
{
    static const size_t bytes[] = { 4, 2, 1 };
    const size_t k = (size_t)c->k, n = (size_t)c->n, m = (size_t)c->m;

    switch (c->op) {
    case PEER_GEMM:
        return k * n * bytes[c->dtype];
    case PEER_MLP:
        return 2 * k * n * bytes[c->dtype];
    case PEER_ATTENTION:
        return ROTATE;
    case PEER_ADD:
        return 3 * m * n * bytes[c->dtype];
    default:
        return 2 * m * n * bytes[c->dtype];
    }
}

static void print_times(const struct peer_case *c, void *state, size_t *copy, double budget)
{
    static double t[RUNS_MAX];
    double total = 0;
    int n = 0;

    while (n == 0 || (total < budget && n < RUNS_MAX)) {
        const double begin = seconds();

        peer_run(state, *copy);
        t[n] = seconds() - begin;
        total += t[n++];
        *copy = (*copy + 1) % c->copies;
    }
    printf("times");
    for (int i = 0; i < n; i++)
        printf(" %.9f", t[i]);
    putchar('\n');
}

/* The index of a word, -1 if it is none of them. */
static int find(const char *word, const char *const *words, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(word, words[i]))
            return i;
    return -1;
}

/* A contestant with a case, or with none. */
struct contestant {
    struct peer_case c;
    int8_t *x, *w;
    void *state; /* NULL: none */
    size_t copy;
};

static void close_case(struct contestant *p)
{
    if (p->state)
        peer_close(p->state);
    free(p->x);
    free(p->w);
    p->state = NULL;
    p->x = p->w = NULL;
    p->c.x = p->c.w = NULL;
}

static void open_case(struct contestant *p)
{
    struct peer_case *c = &p->c;

    c->copies = ROTATE / cold_bytes(c) + 1;
    c->copies += c->copies < 2;
    if (c->op == PEER_GEMM) {
        p->x = malloc((size_t)c->m * (size_t)c->k);
        p->w = malloc((size_t)c->k * (size_t)c->n);
        if (!p->x || !p->w) {
            fprintf(stderr, "%s: out of memory for a case\n", peer_name());
            exit(1);
        }
        make_values(c, p->x, p->w);
        c->x = p->x;
        c->w = p->w;
    }
    p->copy = 0;
    p->state = peer_open(c);
    if (!p->state) {
        puts("none");
        return;
    }
    for (size_t i = 0; i < 2; i++)
        peer_run(p->state, i);
    check(c, p->state, 1);
    printf("ready %zu\n", c->copies);
}

int main(int argc, char **argv)
{
    static const char *const dtypes[] = { "fp32", "bf16", "int8" };
    struct contestant p = { .c.threads = argc > 1 ? atoi(argv[1]) : 1 };
    char line[256], op[16], dtype[8];

    printf("name %s\n", peer_name());
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        double ms, best[3], read;
        int i = -1, j = -1;

        if (sscanf(line, "case %15s %7s %d %d %d", op, dtype, &p.c.k, &p.c.n, &p.c.m) == 5) {
            i = find(op, ops, sizeof(ops) / sizeof(ops[0]));
            j = find(dtype, dtypes, 3);
        }
        if (i >= 0 && j >= 0) {
            close_case(&p);
            p.c.op = (enum peer_op)i;
            p.c.dtype = (enum peer_dtype)j;
            open_case(&p);
        } else if (p.state && sscanf(line, "run %lf", &ms) == 1)
            print_times(&p.c, p.state, &p.copy, 1e-3 * ms);
        else if (!strcmp(line, "ceilings\n")) {
            if (peer_ceilings(p.c.threads, best, &read))
                printf("ceilings %.6g %.6g %.6g %.6g\n", best[0], best[1], best[2], read);
            else
                puts("none");
        } else {
            fprintf(stderr, "%s: cannot do: %s", peer_name(), line);
            return 1;
        }
        fflush(stdout);
    }
    close_case(&p);
    return 0;
}
