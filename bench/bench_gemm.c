/* bench_gemm.c: products of rows with packed weights beside what the machine can do: the product alone, of rows in the type that it
 * takes, and the whole of tern_linear(), which also rounds or quantises rows and looks at its tensors.
 *
 *   bench_gemm [--threads N] [--dtype fp32|bf16|int8] [--shape KxN] [--rows M] [--ms N] [--below] [--json|--csv] [--out FILE]
 *
 * Weights come from memory, as in a model: copies of more than 192 MiB are visited in turn.  Rows stay in the caches.  Each case runs
 * for --ms (150) milliseconds and at least 9 times after one call that warms up, both forms in turn.  So are samples of the ceilings,
 * arithmetic on registers and reading a large buffer: the clock and memory change their pace from one second to the next, and
 * shares are of the medians of the case itself.
 * --below measures the same at the next lower instruction set that has other products for the dtype; not where that is compiled
 * portable code, which takes minutes for 512 rows.  --out writes the JSON object to a file, whatever is printed. */
#include "base/memory.h"
#include "kernels/peak.h"
#include "ops/kernel_calls.h"

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

#define READ_BYTES  ((size_t)256 << 20) /* what reading goes round in, and how much of it is one sample */
#define READ_SAMPLE ((size_t)8 << 20)
#define PAUSE       2e-3 /* seconds of products between two samples of the ceilings */
#define CEILINGS    256
#define SHORT_CALL  2e-3 /* calls that feel it when others have used the caches are warmed up again */

/* Widths of GPT-2 and BERT, of MiniLM, of LLaMA 7B. */
static const int shapes[][2] = { { 768, 2304 }, { 768, 3072 }, { 3072, 768 },  { 768, 768 },
                                 { 384, 1536 }, { 1536, 384 }, { 4096, 4096 }, { 4096, 11008 } };
static const int row_counts[] = { 1, 4, 8, 16, 128, ROWS_MAX };

static const struct format {
    const char *name;
    tern_dtype dtype;
    tern_dtype rows; /* input and output */
    size_t weight_bytes;
    enum tern_peak peak;
} formats[] = { { "fp32", TERN_FP32, TERN_FP32, 4, TERN_PEAK_F32 },
                { "bf16", TERN_BF16, TERN_BF16, 2, TERN_PEAK_BF16 },
                { "int8", TERN_INT8, TERN_FP32, 1, TERN_PEAK_INT8 } }; /* W8A8: tern_linear() quantises the rows */

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
    void *input, *output; /* [ROWS_MAX, k], [ROWS_MAX, n or k] */
    void *rounded;        /* rows as the product takes them, for `rounded_m` of them */
    int64_t rounded_m;
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
    free(x->rounded);
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
    x->output = take((size_t)(ROWS_MAX * (n > k ? n : k)) * sizeof(float)); /* prepare() */
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

/* The whole operator with the next copy. */
static bool operator_call(tern_ctx *ctx, struct matrix *x, int64_t m)
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
    return !tern_linear(ctx, &config, &input, &weight, NULL, &output);
}

struct product_call {
    const struct matrix *matrix;
    const struct tern_weight *w;
    size_t m;
};

/* Rows as the product takes them. */
static struct tern_rows rows_of(const struct product_call *call)
{
    const struct matrix *x = call->matrix;

    return x->rounded ? tern_rows_narrow(call->w, x->rounded, call->m) : tern_rows_f32(x->input, (size_t)x->k);
}

static void round_region(void *arg, const struct tern_par *par)
{
    const struct product_call *call = arg;
    const struct tern_rows rows = rows_of(call);

    tern_rows_round(par, &rows, call->w, call->matrix->output, (size_t)call->matrix->k, call->m);
}

/* Rounds the input for m rows; it is widened first where the output will be. */
static bool prepare(tern_ctx *ctx, struct matrix *x, int64_t m)
{
    struct product_call call = { x, x->copies[0], (size_t)m };
    float *const output = x->output;

    if (x->format->dtype == TERN_FP32 || x->rounded_m == m)
        return true;
    free(x->rounded);
    x->rounded = take(tern_gemm_scratch(call.w, call.m));
    x->rounded_m = m;
    if (!x->rounded)
        return false;
    for (int64_t i = 0; i < m * x->k; i++) {
        uint32_t bits;

        if (x->format->rows == TERN_BF16)
            bits = (uint32_t)((const uint16_t *)x->input)[i] << 16, memcpy(&output[i], &bits, sizeof(bits));
        else
            output[i] = ((const float *)x->input)[i];
    }
    return !tern_region(ctx, round_region, &call);
}

static void product_region(void *arg, const struct tern_par *par)
{
    const struct product_call *call = arg;
    const struct matrix *x = call->matrix;
    const struct tern_epilogue none = { .act = TERN_ACT_NONE };
    const struct tern_rows rows = rows_of(call);

    tern_gemm_run_rows(par, x->output, (size_t)x->n, &rows, call->m, call->w, &none);
}

/* The product alone with the next copy. */
static bool product_call(tern_ctx *ctx, struct matrix *x, int64_t m)
{
    struct product_call call = { x, x->copies[x->next], (size_t)m };

    x->next = (x->next + 1) % x->n_copies;
    return !tern_region(ctx, product_region, &call);
}

/* ---- samples ---- */

struct samples {
    double *t;
    int n, max;
    double total;
};

static void samples_add(struct samples *s, double x)
{
    if (s->n < s->max)
        s->t[s->n++] = x;
    s->total += x;
}

static struct sample samples_sort(struct samples *s)
{
    qsort(s->t, (size_t)s->n, sizeof(*s->t), ascending);
    return s->n ? (struct sample){ s->t[s->n / 2], s->t[s->n / 10], s->t[s->n - 1 - s->n / 10] } : (struct sample){ 0 };
}

/* What the ceilings are sampled with. */
struct machine {
    unsigned char *memory; /* READ_BYTES, NULL where memory is short */
    size_t at;
};

struct ceiling_call {
    const struct machine *machine;
    enum tern_peak peak;
    double ops; /* of thread 0, as much as any other's */
};

static void arithmetic_region(void *arg, const struct tern_par *par)
{
    struct ceiling_call *call = arg;
    const double ops = tern_peak_arithmetic(par->kernels, call->peak);

    if (par->thread == 0)
        call->ops = ops * par->count;
}

static void read_region(void *arg, const struct tern_par *par)
{
    const struct ceiling_call *call = arg;
    size_t begin, end;

    tern_share(par, READ_SAMPLE, 4096, &begin, &end);
    tern_peak_read(call->machine->memory + call->machine->at + begin, end - begin);
}

static bool sample_ceilings(tern_ctx *ctx, struct machine *machine, enum tern_peak peak, struct samples *ops,
                            struct samples *read)
{
    struct ceiling_call call = { machine, peak, 0 };
    double begin = seconds();

    if (tern_region(ctx, arithmetic_region, &call))
        return false;
    samples_add(ops, call.ops / (seconds() - begin));
    if (!machine->memory)
        return true;
    begin = seconds();
    if (tern_region(ctx, read_region, &call))
        return false;
    samples_add(read, (double)READ_SAMPLE / (seconds() - begin));
    machine->at = (machine->at + READ_SAMPLE) % READ_BYTES;
    return true;
}

struct figures {
    struct sample operator, product;  /* seconds */
    double ops_ceiling, read_ceiling; /* of all threads; 0: not known */
};

typedef bool call_fn(tern_ctx *ctx, struct matrix *x, int64_t m);

static bool timed(tern_ctx *ctx, call_fn *call, struct matrix *x, int64_t m, struct samples *out)
{
    const double begin = seconds();

    if (!call(ctx, x, m))
        return false;
    samples_add(out, seconds() - begin);
    return true;
}

static bool measure(tern_ctx *ctx, struct machine *machine, struct matrix *x, int64_t m, double budget,
                    struct figures *out)
{
    static double t[2][RUNS_MAX], rates[2][CEILINGS];
    struct samples whole = { t[0], 0, RUNS_MAX, 0 }, product = { t[1], 0, RUNS_MAX, 0 };
    struct samples ops = { rates[0], 0, CEILINGS, 0 }, read = { rates[1], 0, CEILINGS, 0 };
    double last = -PAUSE;
    bool ok = prepare(ctx, x, m) && operator_call(ctx, x, m) && product_call(ctx, x, m);

    while (ok && (whole.n < RUNS_MIN || (whole.total < budget && whole.n < RUNS_MAX))) {
        if (whole.total + product.total >= last + PAUSE) {
            last = whole.total + product.total;
            ok = sample_ceilings(ctx, machine, x->format->peak, &ops, &read);
            if (ok && last < SHORT_CALL * (whole.n + product.n + 1))
                ok = operator_call(ctx, x, m) && product_call(ctx, x, m);
        }
        ok = ok && timed(ctx, operator_call, x, m, &whole) && timed(ctx, product_call, x, m, &product);
    }
    if (!ok)
        fprintf(stderr, "bench_gemm: %s\n", tern_error(ctx));
    *out = (struct figures){ samples_sort(&whole), samples_sort(&product), samples_sort(&ops).median,
                             samples_sort(&read).median };
    return ok;
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
    struct figures figures;
    const char *below_isa; /* NULL: not measured */
    struct sample below;   /* the operator */
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

/* What a time comes to; NAN where a ceiling is not known. */
struct rates {
    double ops, read, of_ops, of_read, roofline;
};

static struct rates rates_of(const struct row *r, double time)
{
    struct rates x = { .ops = 2.0 * r->m * r->k * r->n / time,
                       .read = (double)r->format->weight_bytes * r->k * r->n / time };

    x.of_ops = share(x.ops, r->figures.ops_ceiling);
    x.of_read = share(x.read, r->figures.read_ceiling);
    x.roofline = isnan(x.of_read) || x.of_ops > x.of_read ? x.of_ops : x.of_read;
    return x;
}

static void print_row(FILE *f, enum output output, const struct row *r, bool first)
{
    const struct sample t = r->figures.operator, p = r->figures.product;
    const struct rates all = rates_of(r, t.median), product = rates_of(r, p.median);
    const double ratio = r->below_isa ? r->below.median / t.median : NAN, reads = r->figures.read_ceiling;

    switch (output) {
    case OUTPUT_JSON:
        fprintf(f, "%s\n    {\"dtype\": \"%s\", \"k\": %d, \"n\": %d, \"m\": %d", first ? "" : ",", r->format->name,
                r->k, r->n, r->m);
        print_number(f, ", \"seconds\": ", t.median);
        print_number(f, ", \"low\": ", t.low);
        print_number(f, ", \"high\": ", t.high);
        print_number(f, ", \"ops_per_s\": ", all.ops);
        print_number(f, ", \"bytes_per_s\": ", all.read);
        print_number(f, ", \"ops_ceiling\": ", r->figures.ops_ceiling);
        print_number(f, ", \"read_ceiling\": ", reads > 0 ? reads : NAN);
        print_number(f, ", \"of_ops\": ", all.of_ops);
        print_number(f, ", \"of_read\": ", all.of_read);
        print_number(f, ", \"of_roofline\": ", all.roofline);
        print_number(f, ", \"product_seconds\": ", p.median);
        print_number(f, ", \"product_low\": ", p.low);
        print_number(f, ", \"product_high\": ", p.high);
        print_number(f, ", \"product_of_ops\": ", product.of_ops);
        print_number(f, ", \"product_of_read\": ", product.of_read);
        print_number(f, ", \"product_of_roofline\": ", product.roofline);
        if (r->below_isa) {
            fprintf(f, ", \"below\": \"%s\"", r->below_isa);
            print_number(f, ", \"below_seconds\": ", r->below.median);
        }
        putc('}', f);
        break;
    case OUTPUT_CSV:
        fprintf(f, "%s,%d,%d,%d", r->format->name, r->k, r->n, r->m);
        print_number(f, ",", t.median);
        print_number(f, ",", t.low);
        print_number(f, ",", t.high);
        print_number(f, ",", all.ops);
        print_number(f, ",", all.read);
        print_number(f, ",", all.of_ops);
        print_number(f, ",", all.of_read);
        print_number(f, ",", all.roofline);
        fprintf(f, ",%s", r->below_isa ? r->below_isa : "");
        print_number(f, ",", ratio);
        print_number(f, ",", p.median);
        print_number(f, ",", product.of_ops);
        print_number(f, ",", product.of_read);
        print_number(f, ",", product.roofline);
        putc('\n', f);
        break;
    case OUTPUT_TABLE:
        if (first)
            fprintf(f, "%-4s %5s %6s %4s  %9s %11s %6s %6s  %9s %11s %6s %6s  %8s %6s  %s\n", "", "K", "N", "M",
                    "product", "us", "of P", "of D", "operator", "us", "of P", "of D", "P GF/s", "D GB/s",
                    "of the level below");
        fprintf(
            f,
            "%-4s %5d %6d %4d  %9.1f -%2.0f%% +%3.0f%% %5.1f%% %5.1f%%  %9.1f -%2.0f%% +%3.0f%% %5.1f%% %5.1f%%  %8.0f "
            "%6.1f",
            r->format->name, r->k, r->n, r->m, 1e6 * p.median, 100 * (1 - p.low / p.median),
            100 * (p.high / p.median - 1), 100 * product.of_ops, 100 * product.of_read, 1e6 * t.median,
            100 * (1 - t.low / t.median), 100 * (t.high / t.median - 1), 100 * all.of_ops, 100 * all.of_read,
            1e-9 * r->figures.ops_ceiling, 1e-9 * reads);
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
        fputs("dtype,k,n,m,seconds,low,high,ops_per_s,bytes_per_s,of_ops,of_read,of_roofline,below,times_below,"
              "product_seconds,product_of_ops,product_of_read,product_of_roofline\n",
              f);
    else
        fprintf(f, "tern %s, %s, %d thread%s, weights in turn over %zu MiB; P and D: arithmetic and reading, medians\n",
                tern_version(), tern_ctx_isa(ctx), tern_ctx_threads(ctx), tern_ctx_threads(ctx) == 1 ? "" : "s",
                ROTATE >> 20);
}

/* ---- all of it ---- */

static bool run_matrix(const struct settings *s, tern_ctx *ctx, struct machine *machine, const struct format *format,
                       const int shape[2], bool *first)
{
    const char *below_isa = s->below ? level_below(tern_ctx_isa(ctx), format->dtype) : NULL;
    struct matrix matrix = { .format = format };
    tern_ctx *below = NULL;
    bool ok = !below_isa || (below = open_context(tern_ctx_threads(ctx), below_isa));

    ok = ok && matrix_make(ctx, &matrix, format, shape[0], shape[1]);
    for (size_t i = 0; ok && i < N_ROWS; i++) {
        struct row row = { format, shape[0], shape[1], row_counts[i], .below_isa = below_isa };
        struct figures lower = { 0 };

        if (s->rows && s->rows != row.m)
            continue;
        ok = measure(ctx, machine, &matrix, row.m, s->budget, &row.figures) &&
             (!below || measure(below, machine, &matrix, row.m, s->budget / 2, &lower));
        row.below = lower.operator;
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
    struct machine machine = { 0 };
    bool ok = ctx != NULL, first = true;
    void *memory = NULL;

    if (ok)
        print_begin(stdout, s->output, ctx);
    if (ok && s->file)
        print_begin(s->file, OUTPUT_JSON, ctx);
    if (ok && !tern_pages_alloc(ctx, READ_BYTES, "reading", &memory))
        machine.memory = memset(memory, 1, READ_BYTES);
    for (size_t f = 0; ok && f < N_FORMATS; f++)
        for (size_t i = 0; ok && i < N_SHAPES; i++)
            if ((!s->dtype || !strcmp(s->dtype, formats[f].name)) &&
                (!s->k || (s->k == shapes[i][0] && s->n == shapes[i][1])))
                ok = run_matrix(s, ctx, &machine, &formats[f], shapes[i], &first);
    if (s->output == OUTPUT_JSON && ok)
        puts("\n]}");
    if (s->file && ok)
        fputs("\n]}\n", s->file);
    tern_pages_free(memory, READ_BYTES);
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
