/* bench_rows.c: operators that work on rows, beside a plain copy of as many bytes.
 *
 *   bench_rows [--op NAME,..] [--shape RxC,..] [--dtype fp32,bf16,fp16] [--threads N] [--ms N] [--rotate MIB] [--below] [--json|--csv]
 *              [--out FILE]
 *
 * Rows come from memory and go there: inputs and outputs go round in more than 192 MiB.  The copy has slots of its own and is called in
 * turn with the operator; a share is the median of single shares, round by round.  With more than one thread a share is of what all of
 * them copied when the ceilings were measured. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 64 /* width of the heads that rotary turns */

/* GPT-2's and BERT's widths, then LLaMA 7B's; the last is beyond every cache. */
static const int shapes[][2] = { { 512, 768 }, { 512, 3072 }, { 2048, 4096 } };
static const struct {
    const char *name;
    tern_dtype dtype;
} formats[] = { { "fp32", TERN_FP32 }, { "bf16", TERN_BF16 }, { "fp16", TERN_FP16 } };

/* What an operator is called with. */
struct rows {
    tern_tensor a, b, out; /* [R, C]; b only where two are read; gated: a is [R, 2C] */
    tern_tensor gamma, beta;
    tern_tensor positions; /* int32 [R] */
    tern_config config;
};

static tern_tensor with_dims(const tern_tensor *t, int rank, const int64_t *dim)
{
    return tern_tensor_view(t->data, t->dtype, rank, dim);
}

static tern_status layer_norm(tern_ctx *ctx, struct rows *r)
{
    return tern_layer_norm(ctx, &r->a, &r->gamma, &r->beta, 1e-5f, &r->out);
}

static tern_status rms_norm(tern_ctx *ctx, struct rows *r)
{
    return tern_rms_norm(ctx, &r->a, &r->gamma, 1e-5f, &r->out);
}

static tern_status softmax(tern_ctx *ctx, struct rows *r)
{
    const int64_t dim[4] = { 1, 1, r->a.dim[0], r->a.dim[1] };
    const tern_tensor scores = with_dims(&r->a, 4, dim);
    tern_tensor out = with_dims(&r->out, 4, dim);

    return tern_softmax(ctx, &r->config, NULL, &scores, NULL, NULL, &out);
}

static tern_status gelu_tanh(tern_ctx *ctx, struct rows *r)
{
    return tern_gelu(ctx, &r->a, TERN_GELU_TANH, &r->out);
}

static tern_status gelu_erf(tern_ctx *ctx, struct rows *r)
{
    return tern_gelu(ctx, &r->a, TERN_GELU_ERF, &r->out);
}

static tern_status bias_gelu(tern_ctx *ctx, struct rows *r)
{
    return tern_bias_gelu(ctx, &r->a, &r->beta, TERN_GELU_TANH, &r->out);
}

static tern_status residual_add(tern_ctx *ctx, struct rows *r)
{
    return tern_residual_add(ctx, &r->config, &r->a, &r->b, NULL, NULL, NULL, NULL, &r->out);
}

static tern_status bias_add(tern_ctx *ctx, struct rows *r)
{
    return tern_bias_add(ctx, &r->a, &r->beta, &r->out);
}

static tern_status gated_silu(tern_ctx *ctx, struct rows *r)
{
    return tern_gated_activation(ctx, &r->a, NULL, TERN_GATE_HALVES, "silu", &r->out);
}

static tern_status gated_gelu(tern_ctx *ctx, struct rows *r)
{
    return tern_gated_activation(ctx, &r->a, NULL, TERN_GATE_HALVES, "gelu_tanh", &r->out);
}

static tern_status rotary(tern_ctx *ctx, struct rows *r)
{
    const int64_t dim[3] = { r->a.dim[0], r->a.dim[1] / HEAD, HEAD };
    const tern_tensor in = with_dims(&r->a, 3, dim);
    tern_tensor out = with_dims(&r->out, 3, dim);

    return tern_rotary(ctx, &in, &r->positions, HEAD, 10000, false, &out);
}

static const struct op {
    const char *name;
    tern_status (*run)(tern_ctx *ctx, struct rows *r);
    int reads;  /* tensors of the output's size that are read */
    bool gated; /* they are the halves of one */
} ops[] = { { "layer_norm", layer_norm, 1, false }, { "rms_norm", rms_norm, 1, false },
            { "softmax", softmax, 1, false },       { "gelu_tanh", gelu_tanh, 1, false },
            { "gelu_erf", gelu_erf, 1, false },     { "gated_silu", gated_silu, 2, true },
            { "gated_gelu", gated_gelu, 2, true },  { "residual_add", residual_add, 2, false },
            { "bias_add", bias_add, 1, false },     { "bias_gelu", bias_gelu, 1, false },
            { "rotary", rotary, 1, false } };

/* ---- one case ---- */

struct subject {
    const struct bench *b;
    const struct op *op;
    tern_ctx *ctx;
    struct bench_ring ring; /* of what is read, then what is written */
    struct rows rows;
    int64_t n_rows, width;
    tern_dtype dtype;
};

static bool subject_run(void *arg)
{
    struct subject *s = arg;
    struct rows *r = &s->rows;
    const size_t size = (size_t)(s->n_rows * s->width) * tern_dtype_size(s->dtype);
    unsigned char *p = bench_ring_next(&s->ring);

    r->a = tern_tensor_view(p, s->dtype, 2, (int64_t[]){ s->n_rows, s->op->gated ? 2 * s->width : s->width });
    r->b = tern_tensor_view(p + size, s->dtype, 2, (int64_t[]){ s->n_rows, s->width });
    r->out = tern_tensor_view(p + (size_t)s->op->reads * size, s->dtype, 2, (int64_t[]){ s->n_rows, s->width });
    return !s->op->run(s->ctx, r) || bench_failed(s->b, s->ctx);
}

/* Vectors and positions; subject_free() in any case. */
static bool subject_make(const struct bench *b, struct subject *s, void **small, size_t *small_bytes)
{
    const size_t size = (size_t)(s->n_rows * s->width) * tern_dtype_size(s->dtype), reads = (size_t)s->op->reads * size;
    const int64_t vector[1] = { s->width }, positions[1] = { s->n_rows };

    *small_bytes = 2 * (size_t)s->width * sizeof(float) + (size_t)s->n_rows * sizeof(int32_t);
    if (!(*small = bench_take(b, *small_bytes)) || !bench_ring_make(b, &s->ring, reads + size))
        return false;
    for (size_t i = 0; i < s->ring.slots; i++)
        bench_fill(s->ring.memory + i * s->ring.slot, s->dtype, reads / tern_dtype_size(s->dtype), (uint32_t)i + 1);
    float *gamma = *small, *beta = gamma + s->width;
    int32_t *position = (int32_t *)(beta + s->width);
    bench_fill(gamma, TERN_FP32, 2 * (size_t)s->width, 7);
    for (int64_t i = 0; i < s->n_rows; i++)
        position[i] = (int32_t)i;
    s->rows.gamma = tern_tensor_view(gamma, TERN_FP32, 1, vector);
    s->rows.beta = tern_tensor_view(beta, TERN_FP32, 1, vector);
    s->rows.positions = tern_tensor_view(position, TERN_INT32, 1, positions);
    s->rows.config = tern_config_default();
    s->rows.config.dtype = s->dtype;
    return true;
}

static void report(struct bench *b, const struct subject *s, const char *dtype, const struct bench_sample *time,
                   double bytes, double copy_rate, const struct bench_sample *share, const char *below, double times)
{
    const struct bench_field fields[] = { { "op", s->op->name, 0 },
                                          { "dtype", dtype, 0 },
                                          { "rows", NULL, (double)s->n_rows },
                                          { "width", NULL, (double)s->width },
                                          { "seconds", NULL, time->median },
                                          { "low", NULL, time->low },
                                          { "high", NULL, time->high },
                                          { "bytes_per_s", NULL, bytes / time->median },
                                          { "copy_ceiling", NULL, copy_rate },
                                          { "of_copy", NULL, share->median },
                                          { "of_copy_low", NULL, share->low },
                                          { "of_copy_high", NULL, share->high },
                                          { "below", below ? below : "", 0 },
                                          { "times_below", NULL, times } };
    char line[200];
    const int n = snprintf(
        line, sizeof line, "%-12s %-4s %5d x %-5d %9.1f  -%2.0f%% +%3.0f%% %7.1f %7.1f %5.0f%% (%.0f..%.0f)",
        s->op->name, dtype, (int)s->n_rows, (int)s->width, 1e6 * time->median, 100 * (1 - time->low / time->median),
        100 * (time->high / time->median - 1), 1e-9 * bytes / time->median, 1e-9 * copy_rate, 100 * share->median,
        100 * share->low, 100 * share->high);

    if (below && n > 0 && (size_t)n < sizeof line)
        snprintf(line + n, sizeof line - (size_t)n, "  %.2fx %s", times, below);
    bench_report(b, fields, sizeof fields / sizeof fields[0], line);
}

static bool run_case(struct bench *b, tern_ctx *below_ctx, const struct op *op, const char *dtype_name,
                     tern_dtype dtype, const int *shape)
{
    static struct bench_call now, copy, below;
    static double shares[BENCH_ROUNDS];
    struct subject s = { .b = b, .op = op, .ctx = b->ctx, .n_rows = shape[0], .width = shape[1], .dtype = dtype },
                   lower;
    const double bytes = (double)(op->reads + 1) * shape[0] * shape[1] * (double)tern_dtype_size(dtype);
    struct bench_copy plain = { .half = 0 };
    struct bench_call *calls[3] = { &now };
    const bool alone = tern_ctx_threads(b->ctx) == 1;
    size_t small_bytes = 0, n = 1;
    void *small = NULL;
    int rounds = 0;

    now.run = below.run = subject_run;
    now.arg = &s;
    copy.run = bench_copy_run;
    copy.arg = &plain;
    if (alone)
        calls[n++] = &copy;
    if (below_ctx)
        calls[n++] = &below;
    if (subject_make(b, &s, &small, &small_bytes) && (!alone || bench_copy_make(b, &plain, (size_t)bytes))) {
        lower = s;
        lower.ctx = below_ctx;
        below.arg = &lower;
        rounds = bench_measure(b, calls, n);
    }
    if (rounds) {
        double copy_rate = b->ceilings.copy.team > 0 ? b->ceilings.copy.team : NAN;

        for (int i = 0; i < rounds; i++)
            shares[i] = alone ? copy.seconds[i] / now.seconds[i] : bytes / copy_rate / now.seconds[i];
        const struct bench_sample share = bench_sample(shares, rounds), time = bench_sample(now.seconds, rounds);
        if (alone)
            copy_rate = bytes / bench_sample(copy.seconds, rounds).median;
        report(b, &s, dtype_name, &time, bytes, copy_rate, &share, below_ctx ? tern_ctx_isa(below_ctx) : NULL,
               below_ctx ? bench_sample(below.seconds, rounds).median / time.median : NAN);
    }
    bench_copy_free(&plain);
    bench_ring_free(&s.ring);
    bench_give(small, small_bytes);
    return rounds > 0;
}

int main(int argc, char **argv)
{
    struct bench_option own[] = {
        { "--op",
          "layer_norm,rms_norm,softmax,gelu_tanh,gelu_erf,gated_silu,gated_gelu,residual_add,bias_add,bias_gelu,rotary",
          NULL },
        { "--shape", "512x768,512x3072,2048x4096", NULL }
    };
    struct bench b = { .name = "bench_rows",
                       .about = "rows from memory and back; C: a plain copy of as many bytes, in turn with each call",
                       .dtypes = "fp32,bf16,fp16",
                       .own = own,
                       .n_own = 2,
                       .heading = "operator     dtype   rows x width        us     spread     GB/s       C   of C "
                                  "          of the level below" };
    const int status = bench_open(&b, argc, argv);
    tern_ctx *below = NULL;
    bool ok = true;

    if (status >= 0)
        return status;
    const char *level = b.below ? bench_level_below(tern_ctx_isa(b.ctx), BENCH_TEXT_ROWS) : NULL;
    if (level)
        ok = (below = bench_context(&b, level)) != NULL;
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++)
        for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
            for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++)
                if (ok && bench_wants(&b, formats[f].name) && bench_picks(&own[0], ops[i].name) &&
                    bench_picks_size(&own[1], shapes[j]))
                    ok = run_case(&b, below, &ops[i], formats[f].name, formats[f].dtype, shapes[j]);
    tern_ctx_destroy(&below);
    return bench_close(&b, ok);
}
