/* bench_gemm.c: products of rows with packed weights beside what the machine can do: the product alone, of rows in the type that it
 * takes, and the whole of tern_linear(), which also rounds or quantises rows and looks at its tensors.
 *
 *   bench_gemm [--shape KxN,..] [--rows M,..] [--dtype fp32,bf16,int8] [--threads N] [--ms N] [--rotate MIB] [--below] [--json|--csv]
 *              [--out FILE]
 *
 * Weights come from memory, as in a model: copies of more than 192 MiB are visited in turn.  Rows stay in the caches.  Both forms are called
 * in turn; and so are samples of the ceilings, arithmetic on registers and reading a large buffer: the clock and memory change their pace
 * from one second to the next, and shares are of the medians of the case itself.
 * --below calls the operator at the next lower instruction set that has other products for the dtype as well; not where that is compiled
 * portable code, which takes minutes for 512 rows. */
#include "bench.h"

#include "kernels/peak.h"
#include "ops/kernel_calls.h"

#include <math.h>
#include <string.h>

#define ROWS_MAX 512

#define READ_BYTES  ((size_t)256 << 20) /* what reading goes round in, and how much of it is one sample */
#define READ_SAMPLE ((size_t)8 << 20)
#define PAUSE       2e-3 /* seconds of products between two samples of the ceilings */
#define CEILINGS    256

/* Widths of GPT-2 and BERT, of MiniLM, of LLaMA 7B. */
static const int shapes[][2] = { { 768, 2304 }, { 768, 3072 }, { 3072, 768 },  { 768, 768 },
                                 { 384, 1536 }, { 1536, 384 }, { 4096, 4096 }, { 4096, 11008 } };
static const int row_counts[] = { 1, 4, 8, 16, 128, ROWS_MAX };

static const struct format {
    const char *name;
    tern_dtype dtype;
    tern_dtype rows; /* input and output */
    enum tern_peak peak;
    enum bench_text text;
} formats[] = { { "fp32", TERN_FP32, TERN_FP32, TERN_PEAK_F32, BENCH_TEXT_FP32 },
                { "bf16", TERN_BF16, TERN_BF16, TERN_PEAK_BF16, BENCH_TEXT_BF16 },
                /* W8A8: tern_linear() quantises the rows */
                { "int8", TERN_INT8, TERN_FP32, TERN_PEAK_INT8, BENCH_TEXT_INT8 } };

#define N_SHAPES  (sizeof(shapes) / sizeof(shapes[0]))
#define N_ROWS    (sizeof(row_counts) / sizeof(row_counts[0]))
#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

/* ---- a matrix ---- */

/* One matrix in one format: its copies, and rows for it. */
struct matrix {
    const struct bench *b;
    const struct format *format;
    int64_t k, n, m;
    struct bench_weights weights;
    size_t next;
    size_t in_bytes, out_bytes, rounded_bytes;
    void *input, *output; /* [ROWS_MAX, k], [ROWS_MAX, n or k] */
    void *rounded;        /* m rows as the product takes them; NULL where it takes fp32 */
};

static void matrix_free(struct matrix *x)
{
    bench_weights_free(&x->weights);
    bench_give(x->input, x->in_bytes);
    bench_give(x->output, x->out_bytes);
    bench_give(x->rounded, x->rounded_bytes);
}

/* In any case matrix_free(). */
static bool matrix_make(const struct bench *b, struct matrix *x, const struct format *format, const int *shape)
{
    const size_t k = (size_t)shape[0], n = (size_t)shape[1];

    *x = (struct matrix){ .b = b, .format = format, .k = shape[0], .n = shape[1] };
    x->in_bytes = ROWS_MAX * k * sizeof(float);
    x->out_bytes = ROWS_MAX * (n > k ? n : k) * sizeof(float); /* prepare() */
    x->input = bench_take(b, x->in_bytes);
    x->output = bench_take(b, x->out_bytes);
    if (!x->input || !x->output)
        return false;
    bench_fill(x->input, format->rows, ROWS_MAX * k, 2);
    return bench_weights_make(b, &x->weights, format->dtype, x->k, x->n, 0);
}

static const tern_weight *next_copy(struct matrix *x)
{
    x->next = (x->next + 1) % x->weights.n_copies;
    return x->weights.copies[x->next];
}

struct contestant {
    struct matrix *matrix;
    tern_ctx *ctx;
};

/* The whole operator with the next copy. */
static bool operator_call(void *arg)
{
    const struct contestant *c = arg;
    struct matrix *x = c->matrix;
    const int64_t in[2] = { x->m, x->k }, out[2] = { x->m, x->n };
    const tern_tensor input = tern_tensor_view(x->input, x->format->rows, 2, in),
                      weight = tern_weight_view(next_copy(x));
    tern_tensor output = tern_tensor_view(x->output, x->format->rows, 2, out);
    tern_config config = tern_config_default();

    config.dtype = x->format->dtype;
    config.activation_dtype = x->format->rows;
    config.activation_quant = x->format->dtype == TERN_INT8 ? TERN_QUANT_ROW : TERN_QUANT_NONE;
    return !tern_linear(c->ctx, &config, &input, &weight, NULL, &output) || bench_failed(x->b, c->ctx);
}

struct product_call {
    const struct matrix *matrix;
    const tern_weight *w;
};

/* Rows as the product takes them. */
static struct tern_rows rows_of(const struct product_call *call)
{
    const struct matrix *x = call->matrix;

    return x->rounded ? tern_rows_narrow(call->w, x->rounded, (size_t)x->m) : tern_rows_f32(x->input, (size_t)x->k);
}

static void round_region(void *arg, const struct tern_par *par)
{
    const struct product_call *call = arg;
    const struct matrix *x = call->matrix;
    const struct tern_rows rows = rows_of(call);

    tern_rows_round(par, &rows, call->w, x->output, (size_t)x->k, (size_t)x->m);
}

/* Rounds the input for m rows; it is widened first where the output will be. */
static bool prepare(struct matrix *x, int64_t m)
{
    struct product_call call = { x, x->weights.copies[0] };
    float *const output = x->output;

    x->m = m;
    if (x->format->dtype == TERN_FP32)
        return true;
    bench_give(x->rounded, x->rounded_bytes);
    x->rounded_bytes = tern_gemm_scratch(call.w, (size_t)m);
    x->rounded = bench_take(x->b, x->rounded_bytes);
    if (!x->rounded)
        return false;
    for (int64_t i = 0; i < m * x->k; i++) {
        uint32_t bits;

        if (x->format->rows == TERN_BF16)
            bits = (uint32_t)((const uint16_t *)x->input)[i] << 16, memcpy(&output[i], &bits, sizeof(bits));
        else
            output[i] = ((const float *)x->input)[i];
    }
    return !tern_region(x->b->ctx, round_region, &call) || bench_failed(x->b, x->b->ctx);
}

static void product_region(void *arg, const struct tern_par *par)
{
    const struct product_call *call = arg;
    const struct matrix *x = call->matrix;
    const struct tern_epilogue none = { .act = TERN_ACT_NONE };
    const struct tern_rows rows = rows_of(call);

    tern_gemm_run_rows(par, x->output, (size_t)x->n, &rows, (size_t)x->m, call->w, &none);
}

/* The product alone with the next copy. */
static bool product_call(void *arg)
{
    const struct contestant *c = arg;
    struct product_call call = { c->matrix, next_copy(c->matrix) };

    return !tern_region(c->ctx, product_region, &call) || bench_failed(c->matrix->b, c->ctx);
}

/* ---- ceilings ---- */

/* What they are sampled with, and the samples of one case. */
struct ceilings {
    const struct bench *b;
    unsigned char *memory; /* READ_BYTES */
    size_t at;
    enum tern_peak peak;
    double ops;                /* of thread 0 in one sample, as much as any other's */
    double rates[2][CEILINGS]; /* arithmetic, reading: per second, all threads */
    int n;
};

static void arithmetic_region(void *arg, const struct tern_par *par)
{
    struct ceilings *c = arg;
    const double ops = tern_peak_arithmetic(par->kernels, c->peak);

    if (par->thread == 0)
        c->ops = ops * par->count;
}

static void read_region(void *arg, const struct tern_par *par)
{
    const struct ceilings *c = arg;
    size_t begin, end;

    tern_share(par, READ_SAMPLE, 4096, &begin, &end);
    tern_peak_read(c->memory + c->at + begin, end - begin);
}

static bool sample_ceilings(void *arg)
{
    struct ceilings *c = arg;
    const double begin = bench_seconds();

    if (tern_region(c->b->ctx, arithmetic_region, c))
        return bench_failed(c->b, c->b->ctx);
    const double middle = bench_seconds();
    if (tern_region(c->b->ctx, read_region, c))
        return bench_failed(c->b, c->b->ctx);
    if (c->n < CEILINGS) {
        c->rates[0][c->n] = c->ops / (middle - begin);
        c->rates[1][c->n++] = (double)READ_SAMPLE / (bench_seconds() - middle);
    }
    c->at = (c->at + READ_SAMPLE) % READ_BYTES;
    return true;
}

/* ---- one case ---- */

/* What a time comes to. */
struct rates {
    double ops, read, of_ops, of_read, roofline;
};

static struct rates rates_of(const struct matrix *x, double time, double ops_ceiling, double read_ceiling)
{
    const double size = (double)x->k * (double)x->n;
    struct rates r = { .ops = 2 * (double)x->m * size / time,
                       .read = (double)bench_weight_bytes(x->format->dtype) * size / time };

    r.of_ops = r.ops / ops_ceiling;
    r.of_read = r.read / read_ceiling;
    r.roofline = r.of_ops > r.of_read ? r.of_ops : r.of_read;
    return r;
}

static void report(struct bench *b, const struct matrix *x, struct ceilings *c, const struct bench_sample *t,
                   const struct bench_sample *p, const char *below, double times)
{
    const double ops = bench_sample(c->rates[0], c->n).median, read = bench_sample(c->rates[1], c->n).median;
    const struct rates all = rates_of(x, t->median, ops, read), product = rates_of(x, p->median, ops, read);
    const struct bench_field fields[] = {
        { "dtype", x->format->name, 0 },
        { "k", NULL, (double)x->k },
        { "n", NULL, (double)x->n },
        { "m", NULL, (double)x->m },
        { "seconds", NULL, t->median },
        { "low", NULL, t->low },
        { "high", NULL, t->high },
        { "ops_per_s", NULL, all.ops },
        { "bytes_per_s", NULL, all.read },
        { "ops_ceiling", NULL, ops },
        { "read_ceiling", NULL, read },
        { "of_ops", NULL, all.of_ops },
        { "of_read", NULL, all.of_read },
        { "of_roofline", NULL, all.roofline },
        { "product_seconds", NULL, p->median },
        { "product_low", NULL, p->low },
        { "product_high", NULL, p->high },
        { "product_of_ops", NULL, product.of_ops },
        { "product_of_read", NULL, product.of_read },
        { "product_of_roofline", NULL, product.roofline },
        { "below", below ? below : "", 0 },
        { "times_below", NULL, times },
    };
    char line[220];
    const int n =
        snprintf(line, sizeof line,
                 "%-4s %5d %6d %4d  %9.1f -%2.0f%% +%3.0f%% %5.1f%% %5.1f%%  %9.1f -%2.0f%% +%3.0f%% %5.1f%% %5.1f%%  "
                 "%8.0f %6.1f",
                 x->format->name, (int)x->k, (int)x->n, (int)x->m, 1e6 * p->median, 100 * (1 - p->low / p->median),
                 100 * (p->high / p->median - 1), 100 * product.of_ops, 100 * product.of_read, 1e6 * t->median,
                 100 * (1 - t->low / t->median), 100 * (t->high / t->median - 1), 100 * all.of_ops, 100 * all.of_read,
                 1e-9 * ops, 1e-9 * read);

    if (below && n > 0 && (size_t)n < sizeof line)
        snprintf(line + n, sizeof line - (size_t)n, "  %.2fx %s", times, below);
    bench_report(b, fields, sizeof fields / sizeof fields[0], line);
}

static bool run_case(struct bench *b, struct matrix *x, struct ceilings *c, tern_ctx *below_ctx)
{
    static struct bench_call whole, product, below;
    struct contestant now = { x, b->ctx }, lower = { x, below_ctx };
    struct bench_call *const calls[] = { &whole, &product, &below };
    const struct bench_between between = { sample_ceilings, c, PAUSE };

    whole.run = below.run = operator_call;
    product.run = product_call;
    whole.arg = product.arg = &now;
    below.arg = &lower;
    c->n = 0;
    const int rounds = bench_measure_between(b, calls, below_ctx ? 3 : 2, &between);
    if (rounds) {
        const struct bench_sample t = bench_sample(whole.seconds, rounds), p = bench_sample(product.seconds, rounds);
        report(b, x, c, &t, &p, below_ctx ? tern_ctx_isa(below_ctx) : NULL,
               below_ctx ? bench_sample(below.seconds, rounds).median / t.median : NAN);
    }
    return rounds > 0;
}

static bool run_matrix(struct bench *b, struct ceilings *c, const struct format *format, const int *shape,
                       const struct bench_option *rows)
{
    const char *level = b->below ? bench_level_below(tern_ctx_isa(b->ctx), format->text) : NULL;
    tern_ctx *below = level ? bench_context(b, level) : NULL;
    struct matrix matrix = { .b = b };
    bool ok = (!level || below) && matrix_make(b, &matrix, format, shape);

    c->peak = format->peak;
    for (size_t i = 0; ok && i < N_ROWS; i++)
        if (bench_picks_number(rows, row_counts[i]))
            ok = prepare(&matrix, row_counts[i]) && run_case(b, &matrix, c, below);
    matrix_free(&matrix);
    tern_ctx_destroy(&below);
    return ok;
}

int main(int argc, char **argv)
{
    struct bench_option own[] = { { "--shape",
                                    "768x2304,768x3072,3072x768,768x768,384x1536,1536x384,4096x4096,4096x11008", NULL },
                                  { "--rows", "1,4,8,16,128,512", NULL } };
    struct bench b = { .name = "bench_gemm",
                       .about =
                           "weights from memory; P and D: arithmetic and reading, medians of the case's own samples",
                       .dtypes = "fp32,bf16,int8",
                       .own = own,
                       .n_own = 2,
                       .heading =
                           "         K      N    M    product          us   of P   of D   operator          us   "
                           "of P   of D    P GF/s D GB/s  of the level below" };
    static struct ceilings ceilings;
    const int status = bench_open(&b, argc, argv);
    bool ok;

    if (status >= 0)
        return status;
    ceilings.b = &b;
    ceilings.memory = bench_take(&b, READ_BYTES);
    ok = ceilings.memory != NULL;
    for (size_t f = 0; f < N_FORMATS; f++)
        for (size_t i = 0; i < N_SHAPES; i++)
            if (ok && bench_wants(&b, formats[f].name) && bench_picks_size(&own[0], shapes[i]))
                ok = run_matrix(&b, &ceilings, &formats[f], shapes[i], &own[1]);
    bench_give(ceilings.memory, READ_BYTES);
    return bench_close(&b, ok);
}
