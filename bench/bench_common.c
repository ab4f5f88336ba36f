/* bench_common.c: options, memory, timing and answers of the programs in this folder. */
#define _DEFAULT_SOURCE /* madvise, realpath */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define LINE      ((size_t)64)

double bench_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t round_up(size_t x, size_t to)
{
    return (x + to - 1) / to * to;
}

/* ---- options ---- */

static void usage(const struct bench *b, FILE *f)
{
    fprintf(f, "usage: %s [--threads N] [--dtype %s] [--ms N] [--rotate MIB] [--below] [--json|--csv] [--out FILE]\n",
            b->name, b->dtypes);
    for (size_t i = 0; i < b->n_own; i++)
        fprintf(f, "       [%s %s]\n", b->own[i].name, b->own[i].all);
}

static bool parse_number(const char *text, int *out)
{
    char *end;
    const long x = strtol(text, &end, 10);

    *out = (int)x;
    return *text && !*end && x >= 0 && x <= 1000000;
}

/* Whether a list, words with commas between, has this one. */
static bool has_word(const char *list, const char *word, size_t size)
{
    for (const char *at = list;; at++) {
        const size_t n = strcspn(at, ",");

        if (n == size && !memcmp(at, word, n))
            return true;
        at += n;
        if (!*at)
            return false;
    }
}

/* Words of `value` that are all in `all`. */
static bool parse_words(const struct bench *b, const char *name, const char *all, const char *value, const char **out)
{
    for (const char *at = value;; at++) {
        const size_t n = strcspn(at, ",");

        if (!has_word(all, at, n)) {
            fprintf(stderr, "%s: %s: '%.*s' is none of %s\n", b->name, name, (int)n, at, all);
            return false;
        }
        at += n;
        if (!*at)
            break;
    }
    *out = value;
    return true;
}

static bool parse_numeric(struct bench *b, const char *name, const char *value)
{
    int number;

    if (!parse_number(value, &number)) {
        fprintf(stderr, "%s: %s takes a number from 0 to 1000000, got '%s'\n", b->name, name, value);
        return false;
    }
    if (!strcmp(name, "--threads"))
        b->threads = number;
    else if (!strcmp(name, "--ms"))
        b->budget = 1e-3 * number;
    else
        b->rotate = (size_t)number << 20;
    return true;
}

static bool takes_value(const struct bench *b, const char *name)
{
    static const char *const common[] = { "--threads", "--dtype", "--ms", "--rotate", "--out" };

    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++)
        if (!strcmp(name, common[i]))
            return true;
    for (size_t i = 0; i < b->n_own; i++)
        if (!strcmp(name, b->own[i].name))
            return true;
    return false;
}

/* An option that takes one. */
static bool parse_valued(struct bench *b, const char *name, const char *value)
{
    if (!strcmp(name, "--threads") || !strcmp(name, "--ms") || !strcmp(name, "--rotate"))
        return parse_numeric(b, name, value);
    if (!strcmp(name, "--dtype"))
        return parse_words(b, name, b->dtypes, value, &b->dtype);
    for (size_t i = 0; i < b->n_own; i++)
        if (!strcmp(name, b->own[i].name))
            return parse_words(b, name, b->own[i].all, value, &b->own[i].given);
    b->path = value;
    if (!*value)
        fprintf(stderr, "%s: %s takes the name of a file, got ''\n", b->name, name);
    return *value;
}

static bool parse(struct bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--below"))
            b->below = true;
        else if (!strcmp(argv[i], "--json"))
            b->output = BENCH_JSON;
        else if (!strcmp(argv[i], "--csv"))
            b->output = BENCH_CSV;
        else if (!takes_value(b, argv[i])) {
            fprintf(stderr, "%s: '%s' is no option\n", b->name, argv[i]);
            usage(b, stderr);
            return false;
        } else if (i + 1 == argc) {
            fprintf(stderr, "%s: %s needs a value\n", b->name, argv[i]);
            return false;
        } else if (!parse_valued(b, argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    return true;
}

int bench_open(struct bench *b, int argc, char **argv)
{
    b->budget = 0.15;
    b->rotate = (size_t)192 << 20;
    if (!answer_stdout_open(b->name))
        return 1;
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        usage(b, stdout);
        return answer_stdout_close(b->name, 0) ? 0 : 1;
    }
    if (!parse(b, argc, argv))
        return 2;
    if (b->path && !answer_open(&b->out, b->path)) {
        perror(b->path);
        return 1;
    }
    if (!(b->ctx = bench_context(b, NULL)) || !bench_ceilings(b)) {
        tern_ctx_destroy(&b->ctx);
        if (b->out.file)
            answer_close(&b->out, false);
        return 1;
    }
    return -1;
}

bool bench_wants(const struct bench *b, const char *dtype)
{
    return !b->dtype || has_word(b->dtype, dtype, strlen(dtype));
}

bool bench_picks(const struct bench_option *o, const char *word)
{
    return !o->given || has_word(o->given, word, strlen(word));
}

bool bench_picks_number(const struct bench_option *o, int number)
{
    char word[16];

    snprintf(word, sizeof word, "%d", number);
    return bench_picks(o, word);
}

bool bench_picks_size(const struct bench_option *o, const int size[2])
{
    char word[32];

    snprintf(word, sizeof word, "%dx%d", size[0], size[1]);
    return bench_picks(o, word);
}

bool bench_failed(const struct bench *b, tern_ctx *ctx)
{
    fprintf(stderr, "%s: %s\n", b->name, tern_error(ctx));
    return false;
}

bool bench_ceilings(struct bench *b)
{
    return !tern_ceilings_measure(b->ctx, &b->ceilings) || bench_failed(b, b->ctx);
}

double bench_arithmetic(const struct bench *b, tern_dtype dtype)
{
    const tern_rate *rate = dtype == TERN_BF16   ? &b->ceilings.bf16
                            : dtype == TERN_INT8 ? &b->ceilings.int8
                                                 : &b->ceilings.fp32;

    return rate->team;
}

/* ---- levels ---- */

const char *bench_level_below(const char *isa, enum bench_text text)
{
    static const struct {
        const char *isa, *below[4]; /* by enum bench_text */
    } levels[] = { { "avx2", { "portable", NULL, NULL, NULL } },
                   { "avxvnni", { "portable", NULL, NULL, "avx2" } },
                   { "avx512", { "avx2", "avx2", "avx2", "avx2" } },
                   { "avx512vnni", { "avx2", "avx2", "avx2", "avx512" } },
                   { "avx512bf16", { "avx2", "avx2", "avx512vnni", "avx512" } },
                   { "neon", { "portable", NULL, NULL, NULL } },
                   { "neondot", { "portable", NULL, NULL, "neon" } } };

    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (!strcmp(isa, levels[i].isa))
            return levels[i].below[text];
    return NULL;
}

tern_ctx *bench_context(const struct bench *b, const char *isa)
{
    tern_ctx_options options = tern_ctx_options_default();
    tern_ctx *ctx = NULL;
    char message[256];

    options.n_threads = b->ctx ? tern_ctx_threads(b->ctx) : b->threads;
    options.cpu = isa;
    if (tern_ctx_create(&ctx, &options, message, sizeof message))
        fprintf(stderr, "%s: %s\n", b->name, message);
    return ctx;
}

/* ---- memory ---- */

/* A whole number of large pages, so that the system can give them; it aligns what is as long as that. */
void *bench_take(const struct bench *b, size_t size)
{
    const size_t bytes = round_up(size, HUGE_PAGE);
    unsigned char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        fprintf(stderr, "%s: out of memory: %zu bytes\n", b->name, bytes);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE);
#endif
    memset(p, 0, bytes);
    return p;
}

void bench_give(void *memory, size_t size)
{
    if (memory)
        munmap(memory, round_up(size, HUGE_PAGE));
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Sign and fraction at random, one of the five powers of two below 1. */
void bench_fill(void *data, tern_dtype dtype, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t r = next_random(&seed), sign = r & 1, power = (r >> 1) % 5;

        if (dtype == TERN_FP32)
            ((uint32_t *)data)[i] = sign << 31 | (122 + power) << 23 | (r >> 4 << 3 & 0x7fffff);
        else if (dtype == TERN_BF16)
            ((uint16_t *)data)[i] = (uint16_t)(sign << 15 | (122 + power) << 7 | (r >> 8 & 0x7f));
        else
            ((uint16_t *)data)[i] = (uint16_t)(sign << 15 | (10 + power) << 10 | (r >> 8 & 0x3ff));
    }
}

bool bench_ring_make(const struct bench *b, struct bench_ring *ring, size_t size)
{
    const size_t slot = round_up(size, LINE), slots = b->rotate / slot + 2;

    *ring = (struct bench_ring){ .bytes = slot * slots, .slot = slot, .slots = slots };
    ring->memory = bench_take(b, ring->bytes);
    return ring->memory != NULL;
}

void bench_ring_free(struct bench_ring *ring)
{
    bench_give(ring->memory, ring->bytes);
    *ring = (struct bench_ring){ .memory = NULL };
}

void *bench_ring_next(struct bench_ring *ring)
{
    void *p = ring->memory + ring->next * ring->slot;

    ring->next = (ring->next + 1) % ring->slots;
    return p;
}

size_t bench_weight_bytes(tern_dtype dtype)
{
    return dtype == TERN_FP32 ? 4 : dtype == TERN_INT8 ? 1 : 2;
}

bool bench_weights_make(const struct bench *b, struct bench_weights *w, tern_dtype dtype, int64_t k, int64_t n,
                        size_t with)
{
    const size_t count = (size_t)(k * n), bytes = count * bench_weight_bytes(dtype) + with;
    const int64_t dim[2] = { k, n };
    float *raw = bench_take(b, count * sizeof(float));
    bool ok;

    *w = (struct bench_weights){ .n_copies = b->rotate / bytes + 2 };
    w->copies = calloc(w->n_copies, sizeof(*w->copies));
    ok = raw && w->copies;
    if (ok)
        bench_fill(raw, TERN_FP32, count, 1);
    for (size_t i = 0; ok && i < w->n_copies; i++) {
        const tern_tensor view = tern_tensor_view(raw, TERN_FP32, 2, dim);

        ok = !tern_weight_pack_as(b->ctx, &view, false, dtype, NULL, &w->copies[i]) || bench_failed(b, b->ctx);
    }
    bench_give(raw, count * sizeof(float));
    return ok;
}

void bench_weights_free(struct bench_weights *w)
{
    for (size_t i = 0; w->copies && i < w->n_copies; i++)
        tern_weight_destroy(&w->copies[i]);
    free(w->copies);
    *w = (struct bench_weights){ .copies = NULL };
}

/* ---- timing ---- */

static bool run_all(struct bench_call *const *calls, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!calls[i]->run(calls[i]->arg))
            return false;
    return true;
}

int bench_measure_between(const struct bench *b, struct bench_call *const *calls, size_t n,
                          const struct bench_between *between)
{
    double total = 0, last = 0;
    int round;

    if (!run_all(calls, n))
        return 0;
    for (round = 0; round < BENCH_LEAST || (total < b->budget && round < BENCH_ROUNDS); round++) {
        if (between && (!round || total >= last + between->pause)) {
            if (!between->run(between->arg))
                return 0;
            if (total < between->pause * (double)n * (round + 1) && !run_all(calls, n))
                return 0;
            last = total;
        }
        for (size_t i = 0; i < n; i++) {
            struct bench_call *call = calls[round % 2 ? n - 1 - i : i];
            const double begin = bench_seconds();

            if (!call->run(call->arg))
                return 0;
            call->seconds[round] = bench_seconds() - begin;
            total += call->seconds[round];
        }
    }
    return round;
}

int bench_measure(const struct bench *b, struct bench_call *const *calls, size_t n)
{
    return bench_measure_between(b, calls, n, NULL);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct bench_sample bench_sample(double *values, int n)
{
    qsort(values, (size_t)n, sizeof(*values), ascending);
    return (struct bench_sample){ values[n / 2], values[n / 10], values[n - 1 - n / 10] };
}

bool bench_copy_make(const struct bench *b, struct bench_copy *copy, size_t bytes)
{
    copy->half = round_up(bytes / 2, LINE);
    return bench_ring_make(b, &copy->ring, 2 * copy->half);
}

void bench_copy_free(struct bench_copy *copy)
{
    bench_ring_free(&copy->ring);
}

/* Word by word, a cache line at a time; the barrier keeps it from becoming a call of memcpy(), which writes past the caches. */
bool bench_copy_run(void *arg)
{
    typedef uint64_t words __attribute__((vector_size(16)));
    struct bench_copy *copy = arg;
    const words *from = bench_ring_next(&copy->ring);
    words *to = (words *)((unsigned char *)from + copy->half);

    for (size_t i = 0; i < copy->half / sizeof(words); i += 4) {
        for (size_t j = 0; j < 4; j++)
            to[i + j] = from[i + j];
        __asm__ volatile("" ::: "memory");
    }
    return true;
}

/* ---- answers ---- */

static void print_number(FILE *f, double x, const char *unknown)
{
    if (isnan(x))
        fputs(unknown, f);
    else
        fprintf(f, "%.6g", x);
}

static void print_json(const struct bench *b, FILE *f, const struct bench_field *fields, size_t n)
{
    if (!b->reported)
        fprintf(f,
                "{\"bench\": \"%s\", \"version\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"rotate_bytes\": %zu, "
                "\"rows\": [",
                b->name, tern_version(), tern_ctx_isa(b->ctx), tern_ctx_threads(b->ctx), b->rotate);
    fputs(b->reported ? ",\n    {" : "\n    {", f);
    for (size_t i = 0; i < n; i++) {
        fprintf(f, "%s\"%s\": ", i ? ", " : "", fields[i].name);
        if (fields[i].text)
            fprintf(f, "\"%s\"", fields[i].text);
        else
            print_number(f, fields[i].number, "null");
    }
    putc('}', f);
}

static void print_csv(const struct bench *b, const struct bench_field *fields, size_t n)
{
    for (size_t i = 0; !b->reported && i < n; i++)
        printf("%s%s", fields[i].name, i + 1 < n ? "," : "\n");
    for (size_t i = 0; i < n; i++) {
        if (fields[i].text)
            fputs(fields[i].text, stdout);
        else
            print_number(stdout, fields[i].number, "");
        putchar(i + 1 < n ? ',' : '\n');
    }
}

static void print_table(const struct bench *b, const char *line)
{
    const int threads = tern_ctx_threads(b->ctx);

    if (!b->reported)
        printf("tern %s, %s, %d thread%s; %s\n%s\n", tern_version(), tern_ctx_isa(b->ctx), threads,
               threads == 1 ? "" : "s", b->about, b->heading);
    puts(line);
}

void bench_report(struct bench *b, const struct bench_field *fields, size_t n, const char *line)
{
    if (b->output == BENCH_JSON)
        print_json(b, stdout, fields, n);
    else if (b->output == BENCH_CSV)
        print_csv(b, fields, n);
    else
        print_table(b, line);
    answer_flush(stdout, &b->stdout_number);
    if (b->out.file) {
        print_json(b, b->out.file, fields, n);
        answer_flush(b->out.file, &b->out.number);
    }
    b->reported++;
}

int bench_close(struct bench *b, bool ok)
{
    if (ok && !b->reported) {
        fprintf(stderr, "%s: there is no such case\n", b->name);
        ok = false;
    }
    if (ok && b->output == BENCH_JSON)
        puts("\n]}");
    if (ok && b->out.file)
        fputs("\n]}\n", b->out.file);
    if (b->out.file && !answer_close(&b->out, ok)) {
        perror(b->path);
        ok = false;
    }
    ok = answer_stdout_close(b->name, b->stdout_number) && ok;
    tern_ctx_destroy(&b->ctx);
    return ok ? 0 : 1;
}
