/* tc.c: tern-check's cases, buffers, comparisons, measurements, and its main. */
#include "tc.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define TC_BUFFERS        128
#define TC_SAMPLES        21
#define TC_SAMPLE_SECONDS 400e-6 /* a sample repeats its call for about this long */
#define TC_WRONG_SHOWN    5
#define TC_DIGEST_START   0xcbf29ce484222325
#define TC_COLD_BYTES     ((size_t)256 << 20)

#define TERN_EXACT \
    {              \
        0, 0, 0    \
    }
#define TERN_ULP(n) \
    {               \
        n, 0, 0     \
    }
#define TERN_ULP_OR(n, floor) \
    {                         \
        n, floor, 0           \
    }
#define TERN_REL(e) \
    {               \
        0, 0, e     \
    }

struct tc_kernel {
    const char *name, *bound_text;
    struct tc_bound bound;
    void (*check)(struct tc *t);
    size_t slot; /* where it is in struct tern_kernels */
};

static const struct tc_kernel kernels[] = {
#define TERN_KERNEL(name, bound) { #name, #bound, bound, check_##name, offsetof(struct tern_kernels, name) },
#include "kernels/kernel_list.h"
#undef TERN_KERNEL
};

/* [guard page][size bytes][guard page], kept from case to case and grown when too small */
struct tc_buffer {
    unsigned char *map;
    size_t size;
};

struct tc_result {
    char name[160];
    double seconds; /* median */
};

struct tc_state {
    enum tern_isa isa;
    bool at_start; /* buffers begin, not end, at an unmapped page */

    /* options */
    uint64_t seed;
    bool benchmark, json, verbose, digests, unguarded;
    char **filters;
    int n_filters;

    /* the running case */
    char name[160];
    uint64_t random;
    struct tc_buffer buffers[TC_BUFFERS];
    int n_buffers;
    bool running, failed;
    int passed_count, failed_count;
    double worst;    /* in shares of the bound, of this kernel and level */
    uint64_t digest; /* of all that this kernel gave at this level */

    /* the running benchmark */
    double bytes, flops, peak_flops[TERN_ISA_COUNT], peak_read;
    double samples[TC_SAMPLES], start;
    size_t calls, call, turn;
    int sample; /* -1: calibrating */
    bool timing;
    struct tc_result results[512];
    int n_results, n_json;
};

/* ---- random data ---- */

static uint64_t next_random(uint64_t *s) /* splitmix64 */
{
    uint64_t z = *s += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static double uniform(uint64_t *s) /* (0, 1) */
{
    return ((double)(next_random(s) >> 12) + 0.5) * 0x1p-52;
}

/* Sum of twelve uniform numbers less six: near enough to N(0, 1), never beyond 6. */
static float normal(uint64_t *s)
{
    double sum = -6;

    for (int i = 0; i < 4; i++) {
        const uint64_t r = next_random(s);
        sum += ((double)(r & 0x1fffff) + (double)(r >> 21 & 0x1fffff) + (double)(r >> 42 & 0x1fffff) + 1.5) * 0x1p-21;
    }
    return (float)sum;
}

static float special(uint64_t *s, bool finite)
{
    static const float values[] = {
        0.0f,  -0.0f,    1e-45f,    -1e-45f, 1.1754942e-38f, 1.1754944e-38f, 3.4028235e38f, -3.4028235e38f, 1.0f,
        -1.0f, INFINITY, -INFINITY, NAN
    };
    return values[next_random(s) % (TC_COUNT(values) - (finite ? 3 : 0))];
}

static float value(uint64_t *s, enum tc_data data)
{
    uint32_t bits;
    float x = 0;

    switch (data) {
    case TC_NORMAL:
        return normal(s);
    case TC_OUTLIERS:
        x = normal(s);
        return next_random(s) % 1000 ? x : 80 * x;
    case TC_NEAR_ONE:
        return 1 + normal(s) / 16;
    case TC_SPECIAL:
    case TC_FINITE:
        return next_random(s) % 4 ? normal(s) : special(s, data == TC_FINITE);
    case TC_BITS:
        bits = (uint32_t)next_random(s);
        memcpy(&x, &bits, sizeof x);
    }
    return x;
}

size_t tc_below(struct tc *t, size_t n)
{
    return (size_t)(uniform(&t->state->random) * (double)n);
}

/* ---- cases and buffers ---- */

static void finish_case(struct tc *t)
{
    struct tc_state *s = t->state;

    if (s->running)
        *(s->failed ? &s->failed_count : &s->passed_count) += 1;
    s->running = s->failed = false;
    s->n_buffers = 0;
}

static bool selected(const struct tc *t)
{
    const struct tc_state *s = t->state;

    for (int i = 0; i < s->n_filters; i++)
        if (fnmatch(s->filters[i], s->name, 0) == 0 || fnmatch(s->filters[i], t->kernel, 0) == 0)
            return true;
    return s->n_filters == 0;
}

static void name_case(struct tc *t, const char *format, va_list args)
{
    struct tc_state *s = t->state;
    const int used = snprintf(s->name, sizeof s->name, "%s/%s/", t->kernel, tern_isa_name(s->isa));

    vsnprintf(s->name + used, sizeof s->name - (size_t)used, format, args);
    s->random = s->seed; /* the same data at every level */
    for (const char *c = t->kernel; *c; c++)
        s->random = s->random * 31 + (unsigned char)*c;
    for (const char *c = s->name + used; *c; c++)
        s->random = s->random * 31 + (unsigned char)*c;
}

bool tc_case(struct tc *t, const char *format, ...)
{
    struct tc_state *s = t->state;
    va_list args;

    finish_case(t);
    va_start(args, format);
    name_case(t, format, args);
    va_end(args);
    return s->running = !s->benchmark && selected(t);
}

static void *buffer(struct tc *t, size_t bytes)
{
    struct tc_state *s = t->state;
    struct tc_buffer *b = &s->buffers[s->n_buffers++];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (s->n_buffers > TC_BUFFERS)
        abort();
    if (!b->map || b->size < bytes) {
        if (b->map)
            munmap(b->map, b->size + 2 * page);
        b->size = (bytes / page + 1) * page;
        b->map = mmap(NULL, b->size + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (b->map == MAP_FAILED || (!s->unguarded && (mprotect(b->map, page, PROT_NONE) ||
                                                       mprotect(b->map + page + b->size, page, PROT_NONE)))) {
            perror("tern-check: mmap");
            exit(1);
        }
        if (s->benchmark) /* as packed weights are */
            madvise(b->map, b->size + 2 * page, MADV_HUGEPAGE);
    }
    return s->at_start || s->benchmark ? b->map + page : b->map + page + b->size - bytes;
}

static void poison(void *p, size_t bytes)
{
    memset(p, 0xa5, bytes); /* as f32: -2.87e-16, which random data do not hit */
}

float *tc_in_f32(struct tc *t, size_t n, enum tc_data data)
{
    float *p = buffer(t, n * sizeof *p);

    for (size_t i = 0; i < n; i++)
        p[i] = t->state->benchmark && i >= 4096 ? p[i - 4096] : value(&t->state->random, data);
    return p;
}

uint16_t *tc_in_u16(struct tc *t, size_t n, enum tc_data data)
{
    uint16_t *p = buffer(t, n * sizeof *p);

    for (size_t i = 0; i < n; i++) {
        const float x = value(&t->state->random, data);
        if (t->state->benchmark && i >= 4096)
            p[i] = p[i - 4096];
        else if (data == TC_BITS)
            p[i] = (uint16_t)next_random(&t->state->random);
        else
            tern_f16_from_f32_ref(p + i, &x, 1);
    }
    return p;
}

float *tc_in_panel(struct tc *t, size_t n, enum tc_data data)
{
    return tc_in_f32(t, (n + 15) / 16 * 16, data);
}

float *tc_out_f32(struct tc *t, size_t n)
{
    float *p = buffer(t, n * sizeof *p);

    poison(p, n * sizeof *p);
    return p;
}

uint16_t *tc_out_u16(struct tc *t, size_t n)
{
    uint16_t *p = buffer(t, n * sizeof *p);

    poison(p, n * sizeof *p);
    return p;
}

uint8_t *tc_in_u8(struct tc *t, size_t n)
{
    uint8_t *p = buffer(t, n);

    for (size_t i = 0; i < n; i++)
        p[i] = t->state->benchmark && i >= 4096 ? p[i - 4096] : (uint8_t)next_random(&t->state->random);
    return p;
}

uint8_t *tc_out_u8(struct tc *t, size_t n)
{
    uint8_t *p = buffer(t, n);

    poison(p, n);
    return p;
}

int32_t *tc_out_s32(struct tc *t, size_t n)
{
    int32_t *p = buffer(t, n * sizeof *p);

    poison(p, n * sizeof *p);
    return p;
}

float *tc_out_panel(struct tc *t, size_t n)
{
    return tc_out_f32(t, (n + 15) / 16 * 16);
}

struct tern_row_flow tc_flow(struct tc *t, size_t n)
{
    static const char nothing;
    return (struct tern_row_flow){ { &nothing, &nothing }, 4 * n, true, tc_out_f32(t, n), NULL };
}

#define ROW_LINE 64 /* bytes before a row, at least */

static void *row_place(struct tc *t, size_t bytes, size_t element)
{
    const size_t before = ROW_LINE + tc_below(t, ROW_LINE / element) * element;
    char *p = buffer(t, before + bytes);

    poison(p, before + bytes);
    return p + before;
}

static void same_before(struct tc *t, const void *got)
{
    char untouched[ROW_LINE];

    poison(untouched, ROW_LINE);
    if (memcmp((const char *)got - ROW_LINE, untouched, ROW_LINE) != 0)
        tc_fail(t, "writes before its row");
}

float *tc_out_row_f32(struct tc *t, size_t n)
{
    return row_place(t, n * sizeof(float), sizeof(float));
}

uint16_t *tc_out_row_u16(struct tc *t, size_t n)
{
    return row_place(t, n * sizeof(uint16_t), sizeof(uint16_t));
}

void tc_same_row_f32(struct tc *t, const float *want, const float *got, size_t n)
{
    tc_same_f32(t, want, got, n);
    same_before(t, got);
}

void tc_same_row_u16(struct tc *t, const uint16_t *want, const uint16_t *got, size_t n)
{
    tc_same_u16(t, want, got, n);
    same_before(t, got);
}

float *tc_copy_f32(struct tc *t, const float *from, size_t n)
{
    float *p = buffer(t, n * sizeof *p);

    memcpy(p, from, n * sizeof *p);
    return p;
}

/* ---- comparisons ---- */

static void print_repeat(const struct tc_state *s)
{
    printf("    repeat: tern-check --seed=%" PRIu64 " '%s'\n", s->seed, s->name);
}

void tc_fail(struct tc *t, const char *format, ...)
{
    struct tc_state *s = t->state;
    va_list args;

    if (!s->failed) {
        printf("FAILED %s (buffers %s an unmapped page)\n", s->name, s->at_start ? "begin behind" : "end before");
        print_repeat(s);
    }
    s->failed = true;
    va_start(args, format);
    printf("    ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

static double ulp(double x)
{
    int exponent;

    frexp(fabs(x), &exponent);
    return ldexp(1, exponent - 24 > -149 ? exponent - 24 : -149);
}

/* The error in shares of what is allowed. */
static double share(const struct tc_bound *b, double want, double got, double scale)
{
    const double error = fabs(want - got), size = fmax(fabs(want), scale);
    double allowed = fmax(b->floor, b->relative * size);

    if (want == got || (isnan(want) && isnan(got)))
        return 0;
    if (!isfinite(want) || !isfinite(got))
        return INFINITY;
    if (b->ulps > 0)
        allowed = fmax(allowed, b->ulps * ulp(size));
    return allowed > 0 ? error / allowed : INFINITY;
}

/* Results of the level, as the comparisons see them: FNV-1a over words. */
static void digest(struct tc *t, uint32_t word)
{
    t->state->digest = (t->state->digest ^ word) * 0x100000001b3;
}

static void digest_f32(struct tc *t, const float *got, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0x7fc00000; /* a NaN is a NaN */

        if (!isnan(got[i]))
            memcpy(&bits, got + i, sizeof bits);
        digest(t, bits);
    }
}

void tc_near_f32(struct tc *t, const float *want, const float *got, const float *scale, size_t n)
{
    int wrong = 0;

    for (size_t i = 0; i < n; i++) {
        const double part = share(&t->bound, want[i], got[i], scale ? scale[i] : 0);

        if (part > t->state->worst)
            t->state->worst = part;
        if (part > 1 && ++wrong <= TC_WRONG_SHOWN)
            tc_fail(t, "[%zu]: want %.9g, got %.9g: off by %.3g ulp, %.3g of the bound", i, want[i], got[i],
                    fabs((double)want[i] - got[i]) / ulp(want[i]), part);
    }
    digest_f32(t, got, n);
    if (wrong > TC_WRONG_SHOWN)
        tc_fail(t, "and %d more of %zu", wrong - TC_WRONG_SHOWN, n);
}

void tc_same_f32(struct tc *t, const float *want, const float *got, size_t n)
{
    int wrong = 0;

    for (size_t i = 0; i < n; i++)
        if (memcmp(want + i, got + i, sizeof *got) != 0 && !(isnan(want[i]) && isnan(got[i])) &&
            ++wrong <= TC_WRONG_SHOWN)
            tc_fail(t, "[%zu]: want %a, got %a, not the same bits", i, want[i], got[i]);
    digest_f32(t, got, n);
    if (wrong > TC_WRONG_SHOWN)
        tc_fail(t, "and %d more of %zu", wrong - TC_WRONG_SHOWN, n);
}

void tc_same_u16(struct tc *t, const uint16_t *want, const uint16_t *got, size_t n)
{
    int wrong = 0;

    for (size_t i = 0; i < n; i++)
        if (want[i] != got[i] && ++wrong <= TC_WRONG_SHOWN)
            tc_fail(t, "[%zu]: want %04x, got %04x", i, want[i], got[i]);
    for (size_t i = 0; i < n; i++)
        digest(t, (uint32_t)got[i]);
    if (wrong > TC_WRONG_SHOWN)
        tc_fail(t, "and %d more of %zu", wrong - TC_WRONG_SHOWN, n);
}

void tc_same_u8(struct tc *t, const uint8_t *want, const uint8_t *got, size_t n)
{
    int wrong = 0;

    for (size_t i = 0; i < n; i++)
        if (want[i] != got[i] && ++wrong <= TC_WRONG_SHOWN)
            tc_fail(t, "[%zu]: want %d, got %d", i, want[i], got[i]);
    for (size_t i = 0; i < n; i++)
        digest(t, (uint32_t)got[i]);
    if (wrong > TC_WRONG_SHOWN)
        tc_fail(t, "and %d more of %zu", wrong - TC_WRONG_SHOWN, n);
}

void tc_same_s32(struct tc *t, const int32_t *want, const int32_t *got, size_t n)
{
    int wrong = 0;

    for (size_t i = 0; i < n; i++)
        if (want[i] != got[i] && ++wrong <= TC_WRONG_SHOWN)
            tc_fail(t, "[%zu]: want %" PRId32 ", got %" PRId32, i, want[i], got[i]);
    for (size_t i = 0; i < n; i++)
        digest(t, (uint32_t)got[i]);
    if (wrong > TC_WRONG_SHOWN)
        tc_fail(t, "and %d more of %zu", wrong - TC_WRONG_SHOWN, n);
}

/* ---- measurements ---- */

bool tc_bench(struct tc *t, double bytes, double flops, const char *format, ...)
{
    struct tc_state *s = t->state;
    va_list args;

    finish_case(t);
    va_start(args, format);
    name_case(t, format, args);
    va_end(args);
    s->bytes = bytes;
    s->flops = flops;
    return s->benchmark && selected(t);
}

size_t tc_turn(const struct tc *t)
{
    return t->state->turn;
}

void tc_time_begin(struct tc *t)
{
    t->state->timing = false;
    t->state->turn = 0;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of the level below in the same benchmark, 0 if there is none; and remembers this one's. */
static double below(struct tc *t, double median)
{
    struct tc_state *s = t->state;
    char key[sizeof s->name];
    const char *rest = strchr(strchr(s->name, '/') + 1, '/');

    snprintf(key, sizeof key, "%s%s", t->kernel, rest);
    for (int i = 0; i < s->n_results; i++)
        if (strcmp(s->results[i].name, key) == 0) {
            const double was = s->results[i].seconds;
            s->results[i].seconds = median;
            return was;
        }
    if (s->n_results < (int)TC_COUNT(s->results)) {
        memcpy(s->results[s->n_results].name, key, sizeof key);
        s->results[s->n_results++].seconds = median;
    }
    return 0;
}

static void report(struct tc *t)
{
    struct tc_state *s = t->state;
    double sorted[TC_SAMPLES], median, spread, was;

    memcpy(sorted, s->samples, sizeof sorted);
    qsort(sorted, TC_SAMPLES, sizeof *sorted, by_size);
    median = sorted[TC_SAMPLES / 2];
    spread = (sorted[TC_SAMPLES * 9 / 10] - sorted[TC_SAMPLES / 10]) / median / 2;
    was = below(t, median);

    if (s->json) {
        printf("%s\n  {\"name\": \"%s\", \"bytes\": %.0f, \"flops\": %.0f, \"samples_s\": [", s->n_json++ ? "," : "",
               s->name, s->bytes, s->flops);
        for (int i = 0; i < TC_SAMPLES; i++)
            printf("%s%.4g", i ? ", " : "", s->samples[i]);
        printf("]}");
        return;
    }
    printf("%-62s %10.3f us +- %4.1f %%", s->name, median * 1e6, spread * 100);
    if (s->flops > 0) {
        printf("  %7.2f GFLOP/s", s->flops / median * 1e-9);
        if (s->peak_flops[s->isa] > 0)
            printf(" %3.0f %%", s->flops / median / s->peak_flops[s->isa] * 100);
        else
            printf("    - ");
    }
    if (s->bytes > 0)
        printf("  %7.2f GB/s %3.0f %%", s->bytes / median * 1e-9, s->bytes / median / s->peak_read * 100);
    if (was > 0)
        printf("  x%.2f", was / median);
    printf("\n");
}

/* First a call to warm up, then rounds until one lasts long enough, then the samples. */
bool tc_time_more(struct tc *t)
{
    struct tc_state *s = t->state;
    const double now = tern_machine_seconds();

    if (!s->timing) {
        s->timing = true;
        s->sample = -2;
        s->calls = 1;
        s->call = 0;
    } else if (s->turn++, ++s->call == s->calls) {
        const double seconds = now - s->start;

        s->call = 0;
        if (s->sample == -2) {
            s->sample = -1;
        } else if (s->sample == -1) {
            if (seconds < TC_SAMPLE_SECONDS)
                s->calls *= seconds < TC_SAMPLE_SECONDS / 8 ? 8 : 2;
            else
                s->sample = 0;
        } else {
            s->samples[s->sample++] = seconds / (double)s->calls;
            if (s->sample == TC_SAMPLES) {
                report(t);
                return false;
            }
        }
    } else {
        return true;
    }
    s->start = tern_machine_seconds();
    return true;
}

/* ---- main ---- */

static struct tc_state *crashing;

/* A kernel that touches an unmapped page, or an instruction that this CPU lacks: name the case, and end. */
static void on_crash(int signal)
{
    fflush(stdout);
    printf("FAILED %s: %s (buffers %s an unmapped page)\n", crashing->name, strsignal(signal),
           crashing->at_start ? "begin behind" : "end before");
    print_repeat(crashing);
    printf("%d passed, %d failed, the rest not run\n", crashing->passed_count, crashing->failed_count + 1);
    fflush(stdout);
    _exit(1);
}

/* Whether a level has a function of its own for this kernel.  The levels above AVX-512 have few, and the rest from below. */
static bool own_kernel(const struct tc_kernel *kernel, enum tern_isa isa)
{
    struct tern_kernels at, under;

    if (isa == TERN_ISA_PORTABLE)
        return true;
    tern_kernels_init(&at, isa);
    tern_kernels_init(&under, isa - 1);
    return memcmp((char *)&at + kernel->slot, (char *)&under + kernel->slot, sizeof at.gemm_f32) != 0;
}

static void print_support(enum tern_isa limit)
{
    printf("%-26s %-22s", "kernel", "bound");
    for (int isa = 0; isa < TERN_ISA_COUNT; isa++)
        printf(" %-10s", tern_isa_name(isa));
    printf("\n");
    for (size_t i = 0; i < TC_COUNT(kernels); i++) {
        printf("%-26s %-22s", kernels[i].name, kernels[i].bound_text + strlen("TERN_"));
        for (int isa = 0; isa < TERN_ISA_COUNT; isa++)
            printf(" %-10s", isa > (int)limit || !tern_machine_has((enum tern_isa)isa) ? "-"
                             : own_kernel(&kernels[i], (enum tern_isa)isa)             ? "yes"
                                                                                       : "as before");
        printf("\n");
    }
}

static void measure_peaks(struct tc_state *s, enum tern_isa limit)
{
    unsigned char *cold = mmap(NULL, TC_COLD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (cold == MAP_FAILED) {
        perror("tern-check: mmap");
        exit(1);
    }
    madvise(cold, TC_COLD_BYTES, MADV_HUGEPAGE);
    memset(cold, 1, TC_COLD_BYTES);
    s->peak_read = tc_peak_read(cold, TC_COLD_BYTES);
    munmap(cold, TC_COLD_BYTES);
    for (int isa = 0; isa <= (int)limit; isa++) {
        struct tern_kernels kernels;

        if (!tern_machine_has((enum tern_isa)isa))
            continue;
        tern_kernels_init(&kernels, (enum tern_isa)isa);
        s->peak_flops[isa] = tc_peak_flops(&kernels);
    }
    if (s->json) {
        printf("{\"peak_read_bytes_per_s\": %.4g, \"peak_flops_per_s\": {", s->peak_read);
        for (int isa = 0; isa <= (int)limit; isa++)
            printf("%s\"%s\": %.4g", isa ? ", " : "", tern_isa_name(isa), s->peak_flops[isa]);
        printf("}, \"results\": [");
        return;
    }
    printf("one thread: %.1f GB/s read", s->peak_read * 1e-9);
    for (int isa = 1; isa <= (int)limit; isa++)
        if (s->peak_flops[isa] > 0)
            printf(", %.1f GFLOP/s %s", s->peak_flops[isa] * 1e-9, tern_isa_name(isa));
    printf("\n");
}

static const char help[] =
    "usage: tern-check [OPTION]... [FILTER]...\n"
    "Holds every kernel to its contract at every ISA level up to TERN_CPU (" TERN_ISA_NAMES ").\n"
    "\n"
    "  FILTER       glob over kernel names, or over cases: 'gemm*', 'softmax_f32/avx2/*'\n"
    "  --seed=N     random data of another run (default 1)\n"
    "  --verbose    the largest error of each kernel, in shares of its bound\n"
    "  --digests    a number for all results of each kernel at each level, to compare machines by\n"
    "  --unguarded  no unmapped pages: emulators load lanes that a mask leaves out\n"
    "  --bench      time instead of check\n"
    "  --json       with --bench: all samples, as JSON\n"
    "  --support    the table of kernels, bounds and levels\n";

int main(int argc, char **argv)
{
    static struct tc_state state;
    struct tc t = { .state = &state };
    enum tern_isa limit = tern_machine_isa(), wanted;
    const char *cpu = getenv("TERN_CPU");
    bool support = false;

    state.seed = 1;
    state.filters = malloc((size_t)argc * sizeof *state.filters);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--seed=", 7) == 0)
            state.seed = strtoull(argv[i] + 7, NULL, 0);
        else if (strcmp(argv[i], "--bench") == 0)
            state.benchmark = true;
        else if (strcmp(argv[i], "--json") == 0)
            state.json = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            state.verbose = true;
        else if (strcmp(argv[i], "--support") == 0)
            support = true;
        else if (strcmp(argv[i], "--digests") == 0)
            state.digests = true;
        else if (strcmp(argv[i], "--unguarded") == 0)
            state.unguarded = true;
        else if (argv[i][0] == '-')
            return fputs(help, strcmp(argv[i], "--help") == 0 ? stdout : stderr),
                   strcmp(argv[i], "--help") == 0 ? 0 : 2;
        else
            state.filters[state.n_filters++] = argv[i];
    }
    if (cpu && *cpu) {
        if (!tern_isa_parse(cpu, &wanted))
            return fprintf(stderr, "tern-check: TERN_CPU is '%s', expected " TERN_ISA_NAMES "\n", cpu), 2;
        limit = wanted < limit ? wanted : limit;
    }
    if (support)
        return print_support(limit), 0;

    crashing = &state;
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
    signal(SIGILL, on_crash);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (state.benchmark)
        measure_peaks(&state, limit);
    else
        printf("seed %" PRIu64 ", levels up to %s\n", state.seed, tern_isa_name(limit));

    tern_kernels_init_ref(&t.ref);
    tern_kernels_init(&t.base, TERN_ISA_PORTABLE);
    for (size_t i = 0; i < TC_COUNT(kernels); i++)
        for (state.isa = TERN_ISA_PORTABLE; state.isa <= limit; state.isa++) {
            if (!tern_machine_has(state.isa) || !own_kernel(&kernels[i], state.isa))
                continue;
            tern_kernels_init(&t.new, state.isa);
            t.kernel = kernels[i].name;
            t.bound = kernels[i].bound;
            state.worst = 0;
            state.digest = TC_DIGEST_START;
            for (int pass = 0; pass < (state.benchmark ? 1 : 2); pass++) {
                state.at_start = pass == 1;
                kernels[i].check(&t);
                finish_case(&t);
            }
            if (state.verbose && !state.benchmark)
                printf("%-24s %-10s %-22s worst %.3g of the bound\n", t.kernel, tern_isa_name(state.isa),
                       kernels[i].bound_text, state.worst);
            if (state.digests && state.digest != TC_DIGEST_START)
                printf("digest %-24s %-10s %016" PRIx64 "\n", t.kernel, tern_isa_name(state.isa), state.digest);
        }

    free(state.filters);
    if (state.benchmark) {
        if (state.json)
            printf("\n]}\n");
        return 0;
    }
    printf("%d passed, %d failed\n", state.passed_count, state.failed_count);
    if (state.passed_count + state.failed_count == 0)
        return fprintf(stderr, "tern-check: no case has such a name\n"), 2;
    return state.failed_count != 0;
}
