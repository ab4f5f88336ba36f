/* bench_mlp.c: what a feed-forward costs beyond its products.
 *
 *   bench_mlp [--what gelu,block] [--shape HxI,..] [--rows M,..] [--dtype fp32,bf16,int8] [--threads N] [--ms N] [--rotate MIB] [--below]
 *             [--json|--csv] [--out FILE]
 *
 * gelu   rows [M, H] times a matrix [H, I] with bias and GELU (tanh), over the same product alone (tern_linear).  The operator is
 *        tern_gelu_gemm() with a second matrix of one panel, whose own product is measured and taken off.
 * block  norm, product, bias, GELU, product, bias, residual (tern_mlp_forward), over its two products alone (tern_linear), each from rows
 *        and to rows of their own.
 *
 * Weights come from memory: copies of both matrices go round in more than 192 MiB.  The contestants are called in turn, and a ratio is the
 * median of the ratios of single rounds.  int8 is W8A8: rows are quantised within each call. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PANEL 32 /* the fewest columns that a packed matrix takes */

/* GPT-2 and BERT-base, LLaMA 7B. */
static const int shapes[][2] = { { 768, 3072 }, { 4096, 11008 } };
static const int row_counts[] = { 1, 16, 128, 512 };
static const struct format {
    const char *name;
    tern_dtype dtype, rows;
    enum bench_text text;
} formats[] = { { "fp32", TERN_FP32, TERN_FP32, BENCH_TEXT_FP32 },
                { "bf16", TERN_BF16, TERN_BF16, BENCH_TEXT_BF16 },
                { "int8", TERN_INT8, TERN_FP32, BENCH_TEXT_INT8 } };

#define ROWS_MAX 512

/* A feed-forward's matrices and rows, and who works on them. */
struct feed_forward {
    const struct bench *b;
    const struct format *format;
    int64_t h, i, m;
    tern_config config;
    struct bench_weights up, down; /* [H, I], [I, H] */
    tern_weight *narrow;           /* [I, PANEL] */
    tern_mlp **blocks;             /* one for each copy */
    size_t next;                   /* copy */
    unsigned char *memory;         /* all rows and vectors */
    size_t bytes;
    tern_tensor wide, inner, out, residual, thin; /* [ROWS_MAX, H], [.., I], [.., H], [.., H], [.., PANEL] */
    tern_tensor gamma, beta, bias_in, bias_up, bias_down;
};

static tern_tensor place(struct feed_forward *f, size_t *at, tern_dtype dtype, int64_t rows, int64_t columns)
{
    const int64_t dim[2] = { rows, columns };
    void *data = f->memory ? f->memory + *at : NULL;
    const tern_tensor t = tern_tensor_view(data, dtype, rows ? 2 : 1, rows ? dim : dim + 1);
    const size_t count = (size_t)((rows ? rows : 1) * columns);

    if (data)
        bench_fill(data, dtype, count, (uint32_t)*at + 1);
    *at += (count * tern_dtype_size(dtype) + 63) / 64 * 64;
    return t;
}

/* Where everything lies; without memory, how much that is. */
static size_t place_all(struct feed_forward *f)
{
    const tern_dtype rows = f->format->rows;
    size_t at = 0;

    f->wide = place(f, &at, rows, ROWS_MAX, f->h);
    f->inner = place(f, &at, rows, ROWS_MAX, f->i);
    f->out = place(f, &at, rows, ROWS_MAX, f->h);
    f->residual = place(f, &at, rows, ROWS_MAX, f->h);
    f->thin = place(f, &at, rows, ROWS_MAX, PANEL);
    f->gamma = place(f, &at, TERN_FP32, 0, f->h);
    f->beta = place(f, &at, TERN_FP32, 0, f->h);
    f->bias_in = place(f, &at, TERN_FP32, 0, f->h);
    f->bias_up = place(f, &at, TERN_FP32, 0, f->i);
    f->bias_down = place(f, &at, TERN_FP32, 0, f->h);
    return at;
}

static void feed_forward_free(struct feed_forward *f)
{
    for (size_t i = 0; f->blocks && i < f->up.n_copies; i++)
        tern_mlp_destroy(&f->blocks[i]);
    free(f->blocks);
    bench_weights_free(&f->up);
    bench_weights_free(&f->down);
    tern_weight_destroy(&f->narrow);
    bench_give(f->memory, f->bytes);
}

static bool make_narrow(struct feed_forward *f)
{
    const size_t count = (size_t)f->i * PANEL;
    const int64_t dim[2] = { f->i, PANEL };
    float *raw = bench_take(f->b, count * sizeof(float));
    bool ok = raw != NULL;

    if (ok) {
        const tern_tensor view = tern_tensor_view(raw, TERN_FP32, 2, dim);
        bench_fill(raw, TERN_FP32, count, 3);
        ok = !tern_weight_pack_as(f->b->ctx, &view, false, f->format->dtype, NULL, &f->narrow) ||
             bench_failed(f->b, f->b->ctx);
    }
    bench_give(raw, count * sizeof(float));
    return ok;
}

/* In any case feed_forward_free(). */
static bool feed_forward_make(const struct bench *b, struct feed_forward *f, const struct format *format,
                              const int *shape)
{
    *f = (struct feed_forward){
        .b = b, .format = format, .h = shape[0], .i = shape[1], .config = tern_config_default()
    };
    const size_t bytes = (size_t)(f->h * f->i) * bench_weight_bytes(format->dtype);

    f->config.hidden_size = f->h;
    f->config.intermediate_size = f->i;
    f->config.heads = 1;
    f->config.dtype = format->dtype;
    f->config.activation_dtype = format->rows;
    f->config.activation_quant = format->dtype == TERN_INT8 ? TERN_QUANT_ROW : TERN_QUANT_NONE;
    f->config.gelu = TERN_GELU_TANH;
    f->bytes = place_all(f);
    f->memory = bench_take(b, f->bytes);
    bool ok = f->memory && bench_weights_make(b, &f->up, format->dtype, f->h, f->i, bytes) &&
              bench_weights_make(b, &f->down, format->dtype, f->i, f->h, bytes) && make_narrow(f);
    if (!ok)
        return false;
    place_all(f);
    f->blocks = calloc(f->up.n_copies, sizeof(*f->blocks));
    for (size_t i = 0; f->blocks && ok && i < f->up.n_copies; i++) {
        tern_layer_weights w = tern_layer_weights_none();

        w.attn_nw = f->gamma;
        w.attn_nb = f->beta;
        w.inter_w = tern_weight_view(f->up.copies[i]);
        w.inter_b = f->bias_up;
        w.output_w = tern_weight_view(f->down.copies[i]);
        w.output_b = f->bias_down;
        ok = !tern_mlp_create(b->ctx, &f->config, NULL, NULL, &w, &f->blocks[i]) || bench_failed(b, b->ctx);
    }
    return ok && f->blocks;
}

/* ---- contestants: each takes the next copy ---- */

struct contestant {
    struct feed_forward *f;
    tern_ctx *ctx;
};

static tern_tensor first_rows(const tern_tensor *t, int64_t m)
{
    return tern_tensor_view(t->data, t->dtype, 2, (int64_t[]){ m, t->dim[1] });
}

static size_t next_copy(struct feed_forward *f)
{
    f->next = (f->next + 1) % f->up.n_copies;
    return f->next;
}

static bool linear(const struct contestant *c, const tern_tensor *in, const tern_weight *weight, const tern_tensor *out)
{
    struct feed_forward *f = c->f;
    const tern_tensor input = first_rows(in, f->m), w = tern_weight_view(weight);
    tern_tensor output = first_rows(out, f->m);

    return !tern_linear(c->ctx, &f->config, &input, &w, NULL, &output) || bench_failed(f->b, c->ctx);
}

static bool run_up(void *arg)
{
    const struct contestant *c = arg;

    return linear(c, &c->f->wide, c->f->up.copies[next_copy(c->f)], &c->f->inner);
}

static bool run_down(void *arg)
{
    const struct contestant *c = arg;

    return linear(c, &c->f->inner, c->f->down.copies[next_copy(c->f)], &c->f->out);
}

static bool run_narrow(void *arg)
{
    const struct contestant *c = arg;

    return linear(c, &c->f->inner, c->f->narrow, &c->f->thin);
}

static bool run_gelu(void *arg)
{
    const struct contestant *c = arg;
    struct feed_forward *f = c->f;
    const tern_tensor in = first_rows(&f->wide, f->m), up = tern_weight_view(f->up.copies[next_copy(f)]),
                      narrow = tern_weight_view(f->narrow);
    tern_tensor out = first_rows(&f->thin, f->m);

    return !tern_gelu_gemm(c->ctx, &f->config, &in, &up, &f->bias_up, &narrow, &out) || bench_failed(f->b, c->ctx);
}

static bool run_block(void *arg)
{
    const struct contestant *c = arg;
    struct feed_forward *f = c->f;
    const tern_tensor in = first_rows(&f->wide, f->m), residual = first_rows(&f->residual, f->m);
    tern_tensor out = first_rows(&f->out, f->m);

    return !tern_mlp_forward(c->ctx, f->blocks[next_copy(f)], &in, &residual, NULL, &f->bias_in, &out) ||
           bench_failed(f->b, c->ctx);
}

/* ---- one case ---- */

static void report(struct bench *b, const struct feed_forward *f, bool block, const struct bench_sample *time,
                   const struct bench_sample *bare, const struct bench_sample *ratio, const char *below, double times)
{
    const double products = block ? 2 : 1, size = products * (double)f->h * (double)f->i,
                 ops = 2.0 * (double)f->m * size / time->median, ceiling = bench_arithmetic(b, f->format->dtype),
                 read = size * (double)bench_weight_bytes(f->format->dtype) / time->median,
                 memory = b->ceilings.read.team;
    const char *what = block ? "block" : "gelu";
    const struct bench_field fields[] = {
        { "what", what, 0 },
        { "dtype", f->format->name, 0 },
        { "h", NULL, (double)f->h },
        { "i", NULL, (double)f->i },
        { "m", NULL, (double)f->m },
        { "seconds", NULL, time->median },
        { "low", NULL, time->low },
        { "high", NULL, time->high },
        { "bare_seconds", NULL, bare->median },
        { "ratio", NULL, ratio->median },
        { "ratio_low", NULL, ratio->low },
        { "ratio_high", NULL, ratio->high },
        { "ops_per_s", NULL, ops },
        { "ops_ceiling", NULL, ceiling },
        { "of_ops", NULL, ops / ceiling },
        { "bytes_per_s", NULL, read },
        { "read_ceiling", NULL, memory > 0 ? memory : NAN },
        { "of_read", NULL, memory > 0 ? read / memory : NAN },
        { "below", below ? below : "", 0 },
        { "times_below", NULL, times },
    };
    char line[220];
    const int n = snprintf(
        line, sizeof line,
        "%-5s %-4s %5dx%-5d %4d %11.1f  -%2.0f%% +%3.0f%% %11.1f %7.3f (%.3f..%.3f) %8.1f %4.0f%% %7.1f %4.0f%%", what,
        f->format->name, (int)f->h, (int)f->i, (int)f->m, 1e6 * time->median, 100 * (1 - time->low / time->median),
        100 * (time->high / time->median - 1), 1e6 * bare->median, ratio->median, ratio->low, ratio->high, 1e-9 * ops,
        100 * ops / ceiling, 1e-9 * read, memory > 0 ? 100 * read / memory : 0);

    if (below && n > 0 && (size_t)n < sizeof line)
        snprintf(line + n, sizeof line - (size_t)n, "  %.2fx %s", times, below);
    bench_report(b, fields, sizeof fields / sizeof fields[0], line);
}

static bool run_case(struct bench *b, struct feed_forward *f, tern_ctx *below_ctx, bool block)
{
    static struct bench_call whole, first, second, below;
    static double ratios[BENCH_ROUNDS], bare[BENCH_ROUNDS];
    struct contestant now = { f, b->ctx }, lower = { f, below_ctx };
    struct bench_call *const calls[] = { &first, &second, &whole, &below };

    whole.run = below.run = block ? run_block : run_gelu;
    first.run = run_up;
    second.run = block ? run_down : run_narrow;
    whole.arg = first.arg = second.arg = &now;
    below.arg = &lower;
    const int rounds = bench_measure(b, calls, below_ctx ? 4 : 3);
    for (int i = 0; i < rounds; i++) {
        if (block) {
            bare[i] = first.seconds[i] + second.seconds[i];
        } else { /* without the product that is not part of it */
            bare[i] = first.seconds[i];
            whole.seconds[i] -= second.seconds[i];
            below.seconds[i] -= second.seconds[i];
        }
        ratios[i] = whole.seconds[i] / bare[i];
    }
    if (rounds) {
        const struct bench_sample time = bench_sample(whole.seconds, rounds), alone = bench_sample(bare, rounds),
                                  ratio = bench_sample(ratios, rounds);
        report(b, f, block, &time, &alone, &ratio, below_ctx ? tern_ctx_isa(below_ctx) : NULL,
               below_ctx ? bench_sample(below.seconds, rounds).median / time.median : NAN);
    }
    return rounds > 0;
}

static bool run_shape(struct bench *b, const struct format *format, const int *shape, const struct bench_option *what,
                      const struct bench_option *rows)
{
    const char *level = b->below ? bench_level_below(tern_ctx_isa(b->ctx), format->text) : NULL;
    tern_ctx *below = level ? bench_context(b, level) : NULL;
    struct feed_forward f = { .blocks = NULL };
    bool ok = (!level || below) && bench_ceilings(b) && feed_forward_make(b, &f, format, shape);

    for (int block = 0; block < 2; block++)
        for (size_t i = 0; ok && i < sizeof row_counts / sizeof row_counts[0]; i++) {
            f.m = row_counts[i];
            if (bench_picks_number(rows, row_counts[i]) && bench_picks(what, block ? "block" : "gelu"))
                ok = run_case(b, &f, below, block);
        }
    feed_forward_free(&f);
    tern_ctx_destroy(&below);
    return ok;
}

int main(int argc, char **argv)
{
    struct bench_option own[] = { { "--what", "gelu,block", NULL },
                                  { "--shape", "768x3072,4096x11008", NULL },
                                  { "--rows", "1,16,128,512", NULL } };
    struct bench b = { .name = "bench_mlp",
                       .about = "weights from memory; P and D: arithmetic and reading at best",
                       .dtypes = "fp32,bf16,int8",
                       .own = own,
                       .n_own = 3,
                       .heading =
                           "what  dtype     HxI        M          us     spread     products   ratio               "
                           "     GFLOP/s   of P   GB/s   of D  of the level below" };
    const int status = bench_open(&b, argc, argv);
    bool ok = true;

    if (status >= 0)
        return status;
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            if (ok && bench_wants(&b, formats[f].name) && bench_picks_size(&own[1], shapes[i]))
                ok = run_shape(&b, &formats[f], shapes[i], &own[0], &own[2]);
    return bench_close(&b, ok);
}
