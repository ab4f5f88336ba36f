/* bench_gemm.c: products of rows with packed weights, through tern_linear(), beside what the machine can do.
 *
 *   bench_gemm [--threads N] [--dtype fp32|bf16|int8] [--shape KxN] [--rows M] [--ms N] [--below] [--json|--csv] [--out FILE]
 *
 * Weights come from memory, as in a model: copies of more than 192 MiB are visited in turn.  Rows stay in the caches.  Each case runs
 * for --ms (150) milliseconds and at least 9 times after one call that warms up.  Ceilings are measured anew before each matrix.
 * --below measures the same at the next lower instruction set that has other products for the dtype; not where that is compiled
 * portable code, which takes minutes for 512 rows.  --out writes the JSON object to a file, whatever is printed. */
#include <tern/tern.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROTATE    ((size_t)192 << 20)
#define RUNS_MAX  4000
#define RUNS_MIN  9
#define ROWS_MAX  512
#define ALIGNMENT 64

/* Widths of GPT-2 and BERT, of MiniLM, of LLaMA 7B. */
static const int shapes[][2] = { { 768, 2304 }, { 768, 3072 }, { 3072, 768 },  { 768, 768 },
                                 { 384, 1536 }, { 1536, 384 }, { 4096, 4096 }, { 4096, 11008 } };
static const int row_counts[] = { 1, 4, 8, 16, 128, ROWS_MAX };

static const struct format {
    const char *name;
    tern_dtype dtype;
    tern_dtype rows; /* input and output */
    size_t weight_bytes;
} formats[] = { { "fp32", TERN_FP32, TERN_FP32, 4 },
                { "bf16", TERN_BF16, TERN_BF16, 2 },
                { "int8", TERN_INT8, TERN_FP32, 1 } }; /* W8A8: rows are quantised within the call */

#define N_SHAPES  (sizeof(shapes) / sizeof(shapes[0]))
#define N_ROWS    (sizeof(row_counts) / sizeof(row_counts[0]))
#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_CSV };

struct settings {
    int threads, k, n, rows; /* 0: all */
    double budget;           /* seconds a case */
    const char *dtype;       /* NULL: all */
    bool below;
    enum output output;
    const char *path; /* NULL: no file */
    FILE *file;
};

/* One matrix in one format: its copies, and rows for it. */
struct matrix {
    const struct format *format;
    int64_t k, n;
    tern_weight **copies; /* [n_copies] */
    size_t n_copies, next;
    void *input, *output; /* [ROWS_MAX, k], [ROWS_MAX, n] */
};

struct sample {
    double median, low, high; /* seconds; the middle 80 % lie between low and high */
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Numbers in [-1, 1), the same in every run. */
static float uniform(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1;
}

static void *take(size_t size)
{
    return aligned_alloc(ALIGNMENT, (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/* ---- a matrix ---- */

static void matrix_free(struct matrix *x)
{
    for (size_t i = 0; x->copies && i < x->n_copies; i++)
        tern_weight_destroy(&x->copies[i]);
    free(x->copies);
    free(x->input);
    free(x->output);
}

/* In any case matrix_free(). */
static bool matrix_make(tern_ctx *ctx, struct matrix *x, const struct format *format, int64_t k, int64_t n)
{
    const size_t count = (size_t)k * (size_t)n, bytes = count * format->weight_bytes;
    const int64_t dim[2] = { k, n };
    uint32_t state = 1;
    bool ok;

    *x = (struct matrix){ .format = format, .k = k, .n = n, .n_copies = ROTATE / bytes + 1 };
    if (x->n_copies < 2)
        x->n_copies = 2;
    float *w = take(count * sizeof(*w));
    x->copies = calloc(x->n_copies, sizeof(*x->copies));
    x->input = take((size_t)(ROWS_MAX * k) * sizeof(float));
    x->output = take((size_t)(ROWS_MAX * n) * sizeof(float));
    ok = w && x->copies && x->input && x->output;
    if (!ok)
        fprintf(stderr, "bench_gemm: out of memory for a matrix of %d x %d\n", (int)k, (int)n);
    for (size_t i = 0; ok && i < count; i++)
        w[i] = uniform(&state);
    for (int64_t i = 0; ok && i < ROWS_MAX * k; i++) {
        const float v = uniform(&state);
        uint32_t bits;

        memcpy(&bits, &v, sizeof(bits));
        if (format->rows == TERN_BF16)
            ((uint16_t *)x->input)[i] = (uint16_t)(bits >> 16);
        else
            ((float *)x->input)[i] = v;
    }
    for (size_t i = 0; ok && i < x->n_copies; i++) {
        const tern_tensor raw = tern_tensor_view(w, TERN_FP32, 2, dim);

        ok = !tern_weight_pack_as(ctx, &raw, false, format->dtype, NULL, &x->copies[i]);
        if (!ok)
            fprintf(stderr, "bench_gemm: %s\n", tern_error(ctx));
    }
    free(w);
    return ok;
}

/* One product with the next copy. */
static bool product(tern_ctx *ctx, struct matrix *x, int64_t m)
{
    const int64_t in[2] = { m, x->k }, out[2] = { m, x->n };
    const tern_tensor input = tern_tensor_view(x->input, x->format->rows, 2, in),
                      weight = tern_weight_view(x->copies[x->next]);
    tern_tensor output = tern_tensor_view(x->output, x->format->rows, 2, out);
    tern_config config = tern_config_default();

    config.dtype = x->format->dtype;
    config.activation_dtype = x->format->rows;
    config.activation_quant = x->format->dtype == TERN_INT8 ? TERN_QUANT_ROW : TERN_QUANT_NONE;
    x->next = (x->next + 1) % x->n_copies;
    if (tern_linear(ctx, &config, &input, &weight, NULL, &output)) {
        fprintf(stderr, "bench_gemm: %s\n", tern_error(ctx));
        return false;
    }
    return true;
}

static bool measure(tern_ctx *ctx, struct matrix *x, int64_t m, double budget, struct sample *out)
{
    static double t[RUNS_MAX];
    double total = 0;
    int n = 0;

    if (!product(ctx, x, m))
        return false;
    while (n < RUNS_MIN || (total < budget && n < RUNS_MAX)) {
        const double begin = seconds();

        if (!product(ctx, x, m))
            return false;
        t[n] = seconds() - begin;
        total += t[n++];
    }
    qsort(t, (size_t)n, sizeof(*t), ascending);
    *out = (struct sample){ t[n / 2], t[n / 10], t[n - 1 - n / 10] };
    return true;
}

/* ---- levels ---- */

/* The next lower level whose products of this dtype are others, NULL where that is portable code. */
static const char *level_below(const char *isa, tern_dtype dtype)
{
    static const struct {
        const char *isa, *fp32, *bf16, *int8;
    } levels[] = { { "avxvnni", NULL, NULL, "avx2" },
                   { "avx512", "avx2", "avx2", "avx2" },
                   { "avx512vnni", "avx2", "avx2", "avx512" },
                   { "avx512bf16", "avx2", "avx512vnni", "avx512" },
                   { "neondot", NULL, NULL, "neon" } };

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (!strcmp(isa, levels[i].isa))
            return dtype == TERN_FP32 ? levels[i].fp32 : dtype == TERN_BF16 ? levels[i].bf16 : levels[i].int8;
    return NULL;
}

static tern_ctx *open_context(int threads, const char *cpu)
{
    tern_ctx_options options = tern_ctx_options_default();
    tern_ctx *ctx = NULL;
    char message[256];

    options.n_threads = threads;
    options.cpu = cpu;
    if (tern_ctx_create(&ctx, &options, message, sizeof(message)))
        fprintf(stderr, "bench_gemm: %s\n", message);
    return ctx;
}

/* ---- what is shown ---- */

struct row {
    const struct format *format;
    int k, n, m;
    struct sample sample;
    double ops_ceiling, read_ceiling; /* of all threads; 0: not known */
    const char *below_isa;            /* NULL: not measured */
    struct sample below;
};

static double share(double rate, double ceiling)
{
    return ceiling > 0 ? rate / ceiling : NAN;
}

static void print_number(FILE *f, const char *prefix, double x)
{
    if (isnan(x))
        fprintf(f, "%s%s", prefix, strchr(prefix, ':') ? "null" : "");
    else
        fprintf(f, "%s%.6g", prefix, x);
}

static void print_row(FILE *f, enum output output, const struct row *r, bool first)
{
    const double ops = 2.0 * r->m * r->k * r->n / r->sample.median,
                 read = (double)r->format->weight_bytes * r->k * r->n / r->sample.median,
                 of_ops = share(ops, r->ops_ceiling), of_read = share(read, r->read_ceiling),
                 roofline = isnan(of_read) || of_ops > of_read ? of_ops : of_read,
                 ratio = r->below_isa ? r->below.median / r->sample.median : NAN;

    switch (output) {
    case OUTPUT_JSON:
        fprintf(f, "%s\n    {\"dtype\": \"%s\", \"k\": %d, \"n\": %d, \"m\": %d", first ? "" : ",", r->format->name,
                r->k, r->n, r->m);
        print_number(f, ", \"seconds\": ", r->sample.median);
        print_number(f, ", \"low\": ", r->sample.low);
        print_number(f, ", \"high\": ", r->sample.high);
        print_number(f, ", \"ops_per_s\": ", ops);
        print_number(f, ", \"bytes_per_s\": ", read);
        print_number(f, ", \"ops_ceiling\": ", r->ops_ceiling);
        print_number(f, ", \"read_ceiling\": ", r->read_ceiling > 0 ? r->read_ceiling : NAN);
        print_number(f, ", \"of_ops\": ", of_ops);
        print_number(f, ", \"of_read\": ", of_read);
        print_number(f, ", \"of_roofline\": ", roofline);
        if (r->below_isa) {
            fprintf(f, ", \"below\": \"%s\"", r->below_isa);
            print_number(f, ", \"below_seconds\": ", r->below.median);
        }
        putc('}', f);
        break;
    case OUTPUT_CSV:
        fprintf(f, "%s,%d,%d,%d", r->format->name, r->k, r->n, r->m);
        print_number(f, ",", r->sample.median);
        print_number(f, ",", r->sample.low);
        print_number(f, ",", r->sample.high);
        print_number(f, ",", ops);
        print_number(f, ",", read);
        print_number(f, ",", of_ops);
        print_number(f, ",", of_read);
        print_number(f, ",", roofline);
        fprintf(f, ",%s", r->below_isa ? r->below_isa : "");
        print_number(f, ",", ratio);
        putc('\n', f);
        break;
    case OUTPUT_TABLE:
        if (first)
            fprintf(f, "%-4s %5s %6s %4s %11s %11s %9s %6s %8s %6s %9s  %s\n", "", "K", "N", "M", "us", "spread",
                    "GFLOP/s", "of P", "GB/s", "of D", "roofline", "of the level below");
        fprintf(f, "%-4s %5d %6d %4d %11.1f  -%2.0f%% +%3.0f%% %9.1f %5.0f%% %8.1f %5.0f%% %8.0f%%", r->format->name,
                r->k, r->n, r->m, 1e6 * r->sample.median, 100 * (1 - r->sample.low / r->sample.median),
                100 * (r->sample.high / r->sample.median - 1), 1e-9 * ops, 100 * of_ops, 1e-9 * read, 100 * of_read,
                100 * roofline);
        if (r->below_isa)
            fprintf(f, "  %.2fx %s", ratio, r->below_isa);
        putc('\n', f);
        break;
    }
    fflush(f);
}

static void print_begin(FILE *f, enum output output, tern_ctx *ctx)
{
    if (output == OUTPUT_JSON)
        fprintf(f, "{\"version\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"rotate_bytes\": %zu, \"rows\": [",
                tern_version(), tern_ctx_isa(ctx), tern_ctx_threads(ctx), ROTATE);
    else if (output == OUTPUT_CSV)
        fputs("dtype,k,n,m,seconds,low,high,ops_per_s,bytes_per_s,of_ops,of_read,of_roofline,below,times_below\n", f);
    else
        fprintf(f, "tern %s, %s, %d thread%s, weights in turn over %zu MiB; P and D: arithmetic and reading at best\n",
                tern_version(), tern_ctx_isa(ctx), tern_ctx_threads(ctx), tern_ctx_threads(ctx) == 1 ? "" : "s",
                ROTATE >> 20);
}

/* ---- all of it ---- */

static bool run_matrix(const struct settings *s, tern_ctx *ctx, const struct format *format, const int shape[2],
                       bool *first)
{
    const char *below_isa = s->below ? level_below(tern_ctx_isa(ctx), format->dtype) : NULL;
    struct matrix matrix = { .format = format };
    tern_ctx *below = NULL;
    tern_ceilings ceilings;
    bool ok = !below_isa || (below = open_context(tern_ctx_threads(ctx), below_isa));

    if (ok && tern_ceilings_measure(ctx, &ceilings)) {
        fprintf(stderr, "bench_gemm: %s\n", tern_error(ctx));
        ok = false;
    }
    ok = ok && matrix_make(ctx, &matrix, format, shape[0], shape[1]);
    for (size_t i = 0; ok && i < N_ROWS; i++) {
        struct row row = { format, shape[0], shape[1], row_counts[i], .below_isa = below_isa };

        if (s->rows && s->rows != row.m)
            continue;
        row.ops_ceiling = (format->dtype == TERN_FP32   ? ceilings.fp32
                           : format->dtype == TERN_BF16 ? ceilings.bf16
                                                        : ceilings.int8)
                              .team;
        row.read_ceiling = ceilings.read.team;
        ok = measure(ctx, &matrix, row.m, s->budget, &row.sample) &&
             (!below || measure(below, &matrix, row.m, s->budget / 2, &row.below));
        if (ok)
            print_row(stdout, s->output, &row, *first);
        if (ok && s->file)
            print_row(s->file, OUTPUT_JSON, &row, *first);
        *first = false;
    }
    matrix_free(&matrix);
    tern_ctx_destroy(&below);
    return ok;
}

static bool run(const struct settings *s)
{
    tern_ctx *ctx = open_context(s->threads, NULL);
    bool ok = ctx != NULL, first = true;

    if (ok)
        print_begin(stdout, s->output, ctx);
    if (ok && s->file)
        print_begin(s->file, OUTPUT_JSON, ctx);
    for (size_t f = 0; ok && f < N_FORMATS; f++)
        for (size_t i = 0; ok && i < N_SHAPES; i++)
            if ((!s->dtype || !strcmp(s->dtype, formats[f].name)) &&
                (!s->k || (s->k == shapes[i][0] && s->n == shapes[i][1])))
                ok = run_matrix(s, ctx, &formats[f], shapes[i], &first);
    if (s->output == OUTPUT_JSON && ok)
        puts("\n]}");
    if (s->file && ok)
        fputs("\n]}\n", s->file);
    tern_ctx_destroy(&ctx);
    if (ok && first)
        fprintf(stderr, "bench_gemm: there is no such case\n");
    return ok && !first;
}

static bool parse_int(const char *text, int *out)
{
    char *end;
    const long x = strtol(text, &end, 10);

    *out = (int)x;
    return *text && !*end && x >= 0 && x <= 100000;
}

static bool parse(struct settings *s, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        char end;
        int ms;

        if (!strcmp(name, "--below"))
            s->below = true;
        else if (!strcmp(name, "--json"))
            s->output = OUTPUT_JSON;
        else if (!strcmp(name, "--csv"))
            s->output = OUTPUT_CSV;
        else if (!strcmp(name, "--threads") && parse_int(value, &s->threads))
            i++;
        else if (!strcmp(name, "--rows") && parse_int(value, &s->rows))
            i++;
        else if (!strcmp(name, "--ms") && parse_int(value, &ms))
            s->budget = 1e-3 * ms, i++;
        else if (!strcmp(name, "--shape") && sscanf(value, "%dx%d%c", &s->k, &s->n, &end) == 2)
            i++;
        else if (!strcmp(name, "--dtype") && *value)
            s->dtype = value, i++;
        else if (!strcmp(name, "--out") && *value)
            s->path = value, i++;
        else {
            fprintf(
                stderr,
                "bench_gemm: '%s %s' is none of --threads N, --dtype fp32|bf16|int8, --shape KxN, --rows M, --ms N, "
                "--below, --json, --csv, --out FILE\n",
                name, value);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct settings s = { .budget = 0.15 };

    if (!parse(&s, argc, argv))
        return 2;
    if (s.path && !(s.file = fopen(s.path, "we"))) {
        perror(s.path);
        return 1;
    }
    bool ok = run(&s);
    if (s.file && fclose(s.file)) {
        perror(s.path);
        ok = false;
    }
    return ok ? 0 : 1;
}
