/* ceilings.c: measuring what a machine can do, in one parallel region.
 *
 * First the caller's thread alone, while the others wait at a barrier and soon park; then all of them.  A sample of the team is timed
 * from where the first of them begins, behind a barrier that everybody has just left awake, to a barrier that everybody has reached: one
 * that the system keeps waiting at the first, as it does where threads are more than processors, must not be who takes the time.  Of
 * several samples the best counts: noise, from others on the machine above all, only ever makes one slower. */
#include "base/ctx.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernels/peak.h"

#include <tern/machine.h>

#include <string.h>
#include <unistd.h>

#define ARITHMETIC_SECONDS 0.03 /* for each of 3 types, twice */
#define MEMORY_SECONDS     0.08 /* for each of 3 ways, twice */
#define MEMORY_LEAST       ((size_t)256 << 20)
#define MEMORY_MOST        ((size_t)1 << 30)
#define UNIT               4096 /* threads share the buffer in pages */

enum { READ, COPY, COPY_STREAMING, MEMORY_COUNT };

struct ceilings {
    unsigned char *memory;
    size_t bytes;                   /* of memory, a multiple of 2 UNIT; 0: none */
    bool more;                      /* whether the team takes another sample: from thread 0, behind a barrier */
    double start[TERN_MAX_THREADS]; /* of each thread, in the sample that is taken; seconds */
    tern_rate arithmetic[TERN_PEAK_COUNT], rates[MEMORY_COUNT];
};

/* What one sample is: the work that `count` threads together do, of which this is thread `thread`'s part. */
typedef double sample_fn(const struct ceilings *c, const struct tern_par *part, int what);

static double arithmetic(const struct ceilings *c, const struct tern_par *part, int what)
{
    (void)c;
    return tern_peak_arithmetic(part->kernels, (enum tern_peak)what) * part->count;
}

static double memory(const struct ceilings *c, const struct tern_par *part, int what)
{
    const size_t half = c->bytes / 2;
    size_t begin, end;

    if (what == READ) {
        tern_share(part, c->bytes, UNIT, &begin, &end);
        tern_peak_read(c->memory + begin, end - begin);
    } else {
        tern_share(part, half, UNIT, &begin, &end);
        tern_peak_copy(c->memory + half + begin, c->memory + begin, end - begin, what == COPY_STREAMING);
    }
    return (double)c->bytes;
}

static double best_of_one(const struct ceilings *c, const struct tern_par *par, sample_fn *sample, int what,
                          double seconds)
{
    const struct tern_par alone = { .kernels = par->kernels, .team = NULL, .thread = 0, .count = 1 };
    const double begin = tern_machine_seconds();
    double best = 0, end;

    do {
        const double start = tern_machine_seconds(), work = sample(c, &alone, what);
        end = tern_machine_seconds();
        best = work > best * (end - start) ? work / (end - start) : best;
    } while (end < begin + seconds);
    return best;
}

static double first(const double *start, int n)
{
    double least = start[0];

    for (int i = 1; i < n; i++)
        least = start[i] < least ? start[i] : least;
    return least;
}

/* Called by all threads; the answer is thread 0's. */
static double best_of_team(struct ceilings *c, const struct tern_par *par, sample_fn *sample, int what, double seconds)
{
    const double begin = tern_machine_seconds();
    double best = 0;
    bool more;

    do {
        tern_barrier(par); /* may wake those who park, the next one finds all awake */
        tern_barrier(par);
        c->start[par->thread] = tern_machine_seconds();
        const double work = sample(c, par, what);
        tern_barrier(par);
        const double end = tern_machine_seconds(), start = first(c->start, par->count);
        best = work > best * (end - start) ? work / (end - start) : best;
        if (par->thread == 0)
            c->more = end < begin + seconds;
        tern_barrier(par);
        more = c->more;
    } while (more);
    return best;
}

static void measure(struct ceilings *c, const struct tern_par *par, sample_fn *sample, int what, double seconds,
                    tern_rate *rate)
{
    double team = 0;

    if (par->thread == 0)
        rate->one = best_of_one(c, par, sample, what, seconds);
    if (par->count > 1)
        team = best_of_team(c, par, sample, what, seconds);
    if (par->thread == 0)
        rate->team = par->count > 1 ? team : rate->one;
}

static void ceilings_region(void *arg, const struct tern_par *par)
{
    struct ceilings *c = arg;

    for (int i = 0; i < TERN_PEAK_COUNT; i++)
        measure(c, par, arithmetic, i, ARITHMETIC_SECONDS, &c->arithmetic[i]);
    if (!c->bytes)
        return;

    /* Both halves are placed by those who will read and write them. */
    size_t begin, end;
    tern_share(par, c->bytes / 2, UNIT, &begin, &end);
    memset(c->memory + begin, 1, end - begin);
    memset(c->memory + c->bytes / 2 + begin, 1, end - begin);
    tern_barrier(par);
    for (int i = 0; i < MEMORY_COUNT; i++)
        measure(c, par, memory, i, MEMORY_SECONDS, &c->rates[i]);
}

static size_t last_level_cache(void)
{
    long bytes = 0;

#ifdef _SC_LEVEL3_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (bytes <= 0)
        bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (size_t)bytes : 0;
}

/* Eight times the cache, less where memory is short; none where what is left would be held by the cache. */
static void take_memory(tern_ctx *ctx, struct ceilings *c)
{
    const size_t cache = last_level_cache();
    const uint64_t quarter = tern_memory_available() / 4;
    size_t bytes = cache > MEMORY_MOST / 8 ? MEMORY_MOST : 8 * cache;

    bytes = bytes < MEMORY_LEAST ? MEMORY_LEAST : bytes;
    while (bytes > quarter)
        bytes /= 2;
    for (bytes = bytes / (2 * UNIT) * (2 * UNIT); bytes > 2 * cache && bytes > UNIT;
         bytes = bytes / (4 * UNIT) * (2 * UNIT)) {
        void *pages = NULL;
        char text[TERN_ERROR_SIZE];

        /* A buffer that is not to be had is no error of the call, and the context's last one stays. */
        memcpy(text, ctx->error, sizeof text);
        if (tern_pages_alloc(ctx, bytes, "measuring memory", &pages) == TERN_OK) {
            c->memory = pages;
            c->bytes = bytes;
            return;
        }
        memcpy(ctx->error, text, sizeof text);
    }
}

tern_status tern_ceilings_measure(tern_ctx *ctx, tern_ceilings *out)
{
    const double start = tern_machine_seconds();
    struct ceilings c = { .bytes = 0 };

    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "ceilings: %s is NULL", ctx ? "out" : "ctx");
    take_memory(ctx, &c);
    const tern_status status = tern_region(ctx, ceilings_region, &c);
    tern_pages_free(c.memory, c.bytes);
    if (status)
        return status;
    *out = (tern_ceilings){
        .fp32 = c.arithmetic[TERN_PEAK_F32],
        .bf16 = c.arithmetic[TERN_PEAK_BF16],
        .int8 = c.arithmetic[TERN_PEAK_INT8],
        .read = c.rates[READ],
        .copy = c.rates[COPY],
        .copy_streaming = c.rates[COPY_STREAMING],
        .memory_bytes = c.bytes,
        .seconds = tern_machine_seconds() - start,
    };
    return TERN_OK;
}
