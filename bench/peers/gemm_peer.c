/* gemm_peer.c: the main program of each contestant.  run.py says what to do, a line each, and reads a line for each:
 *
 *   (start)              name TEXT
 *   case DTYPE K N M     ready COPIES  |  none           the case is set up, and its result checked
 *   run MS               times T T T ...                  seconds, in order; at least one
 *   ceilings             ceilings FP32 BF16 INT8 READ  |  none
 *
 * A wrong result, or a line that is none of these, ends the program with a message. */
#include "gemm_peer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define ROTATE     ((size_t)192 << 20)
#define RUNS_MAX   2000
#define LARGE_PAGE ((size_t)2 << 20)

void *peer_take(size_t size)
{
    const size_t whole = (size + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    void *data = aligned_alloc(LARGE_PAGE, whole);

    if (!data) {
        fprintf(stderr, "%s: out of memory for %zu bytes\n", peer_name(), size);
        exit(1);
    }
    madvise(data, whole, MADV_HUGEPAGE); /* advice: pages of 4 KiB do as well */
    return data;
}

void peer_give(void *data)
{
    free(data);
}

void peer_fill(void *out, enum peer_dtype dtype, const int8_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float v = values[i];
        uint32_t bits;

        memcpy(&bits, &v, sizeof(bits));
        if (dtype == PEER_FP32)
            ((float *)out)[i] = v;
        else
            ((uint16_t *)out)[i] = (uint16_t)(bits >> 16); /* exact */
    }
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

/* Places of the result against sums of whole numbers; results in bf16 are rounded once. */
static void check(const struct peer_case *c, void *state)
{
    uint32_t random = 7;

    for (int i = 0; i < 32; i++) {
        const int row = (int)(next_random(&random) % (uint32_t)c->m),
                  column = (int)(next_random(&random) % (uint32_t)c->n);
        double want = 0;

        for (int j = 0; j < c->k; j++)
            want +=
                (double)c->x[(size_t)row * (size_t)c->k + (size_t)j] * c->w[(size_t)j * (size_t)c->n + (size_t)column];
        const double got = peer_result(state, row, column);
        if (!(fabs(got - want) <= (c->dtype == PEER_BF16 ? fabs(want) / 256 : 0))) {
            fprintf(stderr, "%s: wrong: [%d, %d] is %g, expected %g\n", peer_name(), row, column, got, want);
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

int main(int argc, char **argv)
{
    static const char *const names[] = { "fp32", "bf16", "int8" };
    static const size_t bytes[] = { 4, 2, 1 };
    struct peer_case c = { .threads = argc > 1 ? atoi(argv[1]) : 1 };
    void *state = NULL;
    int8_t *x = NULL, *w = NULL;
    size_t copy = 0;
    char line[256], dtype[8];

    printf("name %s\n", peer_name());
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        double ms, ops[3], read;

        if (sscanf(line, "case %7s %d %d %d", dtype, &c.k, &c.n, &c.m) == 4) {
            if (state)
                peer_close(state);
            free(x);
            free(w);
            for (int i = 0; i < 3; i++)
                if (!strcmp(dtype, names[i]))
                    c.dtype = (enum peer_dtype)i;
            c.copies = ROTATE / ((size_t)c.k * (size_t)c.n * bytes[c.dtype]) + 1;
            c.copies += c.copies < 2;
            x = malloc((size_t)c.m * (size_t)c.k);
            w = malloc((size_t)c.k * (size_t)c.n);
            if (!x || !w) {
                fprintf(stderr, "%s: out of memory for a case\n", peer_name());
                return 1;
            }
            make_values(&c, x, w);
            c.x = x;
            c.w = w;
            copy = 0;
            state = peer_open(&c);
            if (state) {
                for (size_t i = 0; i < 2; i++)
                    peer_run(state, i);
                check(&c, state);
                printf("ready %zu\n", c.copies);
            } else
                puts("none");
        } else if (state && sscanf(line, "run %lf", &ms) == 1)
            print_times(&c, state, &copy, 1e-3 * ms);
        else if (!strcmp(line, "ceilings\n")) {
            if (peer_ceilings(c.threads, ops, &read))
                printf("ceilings %.6g %.6g %.6g %.6g\n", ops[0], ops[1], ops[2], read);
            else
                puts("none");
        } else {
            fprintf(stderr, "%s: cannot do: %s", peer_name(), line);
            return 1;
        }
        fflush(stdout);
    }
    if (state)
        peer_close(state);
    free(x);
    free(w);
    return 0;
}
