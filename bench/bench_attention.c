/* bench_attention.c: attention over 12 heads of 64 as a caller has it: prompts, single tokens, and tensors without a cache.
 *
 *   bench_attention [--what prompt,store,plain,decode] [--length S,..] [--dtype fp32,bf16,fp16] [--threads N] [--ms N] [--rotate MIB]
 *                   [--below] [--json|--csv] [--out FILE]
 *
 * prompt  tern_softmax_context() of S rows: keys and values into the cache, scores, softmax, values; full and causal
 * store   the same without an output: what of it goes into the cache
 * plain   tern_unpacked_attention() of q, k and v [1, 12, S, 64]
 * decode  tern_softmax_context() of one row behind S - 1 others: 12 heads with keys of their own, and 32 that share 8.  Keys and values come
 *         from memory: layers of a cache of more than --rotate MiB are visited in turn.
 *
 * A cache keeps the dtype of the rows.  Operations: 4 S S 64 for each head, half of them where causal, whatever is computed.  Bytes: keys
 * and values in the cache. */
#include "bench.h"

#include <math.h>
#include <string.h>

enum what { PROMPT, STORE, PLAIN, DECODE, N_WHAT };
static const char *const names[N_WHAT] = { "prompt", "store", "plain", "decode" };
static const int lengths[] = { 128, 512, 2048 };
static const struct format {
    const char *name;
    tern_dtype dtype;
    enum bench_text text;
} formats[] = { { "fp32", TERN_FP32, BENCH_TEXT_FP32 },
                { "bf16", TERN_BF16, BENCH_TEXT_BF16 },
                { "fp16", TERN_FP16, BENCH_TEXT_FP32 } };
static const int groups[][2] = { { 12, 12 }, { 32, 8 } };

enum { WIDTH = 64, TENSORS = 4 };

/* Rows, a cache and what is done with them. */
struct attention {
    const struct bench *b;
    const struct format *format;
    enum what what;
    bool causal;
    int64_t heads, kv_heads, length;
    tern_config config;
    tern_kv_cache *cache;
    tern_kv_span span;
    int32_t n_layers, layer; /* the next one */
    unsigned char *memory;
    size_t bytes;
    tern_tensor t[TENSORS]; /* qkv and output, or q, k, v and output */
};

struct contestant {
    struct attention *a;
    tern_ctx *ctx;
};

static bool run(void *arg)
{
    const struct contestant *c = arg;
    struct attention *a = c->a;
    const tern_tensor none = tern_tensor_none();
    tern_tensor *out = a->what == STORE ? NULL : &a->t[3];
    tern_status status;

    if (a->what == PLAIN) {
        status = tern_unpacked_attention(c->ctx, &a->t[0], &a->t[1], &a->t[2], NAN, a->causal, &none, out);
    } else {
        status =
            tern_softmax_context(c->ctx, &a->config, NULL, &a->t[0], NULL, NULL, a->cache, a->layer, &a->span, 1, out);
        a->layer = (a->layer + 1) % a->n_layers;
    }
    return !status || bench_failed(a->b, c->ctx);
}

static void attention_free(struct attention *a)
{
    tern_kv_cache_destroy(&a->cache);
    bench_give(a->memory, a->bytes);
}

/* Where the tensors lie; without memory, how much that is. */
static size_t place(struct attention *a, int64_t rows)
{
    const tern_dtype dtype = a->format->dtype;
    const int64_t qkv[] = { rows, (a->heads + 2 * a->kv_heads) * WIDTH }, out[] = { rows, a->heads * WIDTH };
    const int64_t plain[] = { 1, a->heads, rows, WIDTH };
    size_t at = 0;

    for (int i = 0; i < TENSORS; i++) {
        void *data = a->memory ? a->memory + at : NULL;
        size_t count = 1;

        a->t[i] = a->what == PLAIN ? tern_tensor_view(data, dtype, 4, plain)
                                   : tern_tensor_view(data, dtype, 2, i == 3 ? out : qkv);
        if (a->what != PLAIN && (i == 1 || i == 2))
            continue;
        for (int d = 0; d < a->t[i].rank; d++)
            count *= (size_t)a->t[i].dim[d];
        if (data)
            bench_fill(data, dtype, count, (uint32_t)i + 1);
        at += (count * tern_dtype_size(dtype) + 63) / 64 * 64;
    }
    return at;
}

/* The cache; for one token behind others these are stored in every layer. */
static bool make_cache(struct attention *a)
{
    const struct bench *b = a->b;
    const size_t layer = (size_t)(a->kv_heads * a->length * 2 * WIDTH) * tern_dtype_size(a->format->dtype);
    int32_t sequence;

    a->n_layers = a->what == DECODE ? (int32_t)(b->rotate / layer) + 2 : 1;
    const tern_kv_shape shape = { .n_layers = a->n_layers,
                                  .n_kv_heads = (int32_t)a->kv_heads,
                                  .head_dim = WIDTH,
                                  .n_positions = a->length,
                                  .n_sequences = 1,
                                  .n_context = (int32_t)a->length,
                                  .dtype = a->format->dtype };
    if (tern_kv_cache_create(b->ctx, &shape, &a->cache) || tern_kv_sequence_add(b->ctx, a->cache, &sequence))
        return bench_failed(b, b->ctx);
    a->span = (tern_kv_span){ .sequence = sequence, .n_rows = (int32_t)a->length };
    if (tern_kv_reserve(b->ctx, a->cache, &a->span, 1))
        return bench_failed(b, b->ctx);
    if (a->what != DECODE)
        return true;

    a->span.n_rows--;
    a->t[0].dim[0]--;
    for (int32_t i = 0; i < a->n_layers; i++)
        if (tern_softmax_context(b->ctx, &a->config, NULL, &a->t[0], NULL, NULL, a->cache, i, &a->span, 1, NULL))
            return bench_failed(b, b->ctx);
    if (tern_kv_commit(b->ctx, a->cache, &a->span, 1))
        return bench_failed(b, b->ctx);
    a->span = (tern_kv_span){ .sequence = sequence, .n_rows = 1, .position = a->length - 1 };
    a->t[0].dim[0] = a->t[3].dim[0] = 1;
    return !tern_kv_reserve(b->ctx, a->cache, &a->span, 1) || bench_failed(b, b->ctx);
}

/* In any case attention_free(). */
static bool attention_make(struct attention *a)
{
    a->config = tern_config_default();
    a->config.dtype = a->format->dtype;
    a->config.hidden_size = a->heads * WIDTH;
    a->config.heads = (int32_t)a->heads;
    a->config.num_kv = (int32_t)a->kv_heads;
    a->config.triangular_masking = a->causal;
    a->bytes = place(a, a->length);
    a->memory = bench_take(a->b, a->bytes);
    if (!a->memory)
        return false;
    place(a, a->length);
    return a->what == PLAIN || make_cache(a);
}

static void report(struct bench *b, const struct attention *a, const struct bench_sample *time, const char *below,
                   double times)
{
    const double rows = a->what == DECODE ? 1 : (double)a->length, length = (double)a->length;
    const double ops = a->what == STORE ? NAN
                                        : 4 * rows * length * WIDTH * (double)a->heads /
                                              (a->causal && a->what != DECODE ? 2 : 1) / time->median;
    const double ceiling = bench_arithmetic(b, a->format->dtype), memory = b->ceilings.read.team;
    const double read =
        2 * length * WIDTH * (double)a->kv_heads * (double)tern_dtype_size(a->format->dtype) / time->median;
    const struct bench_field fields[] = {
        { "what", names[a->what], 0 },
        { "dtype", a->format->name, 0 },
        { "heads", NULL, (double)a->heads },
        { "kv_heads", NULL, (double)a->kv_heads },
        { "length", NULL, length },
        { "causal", NULL, a->causal },
        { "seconds", NULL, time->median },
        { "low", NULL, time->low },
        { "high", NULL, time->high },
        { "ops_per_s", NULL, ops },
        { "ops_ceiling", NULL, ceiling },
        { "of_ops", NULL, ops / ceiling },
        { "bytes_per_s", NULL, read },
        { "read_ceiling", NULL, memory > 0 ? memory : NAN },
        { "of_read", NULL, memory > 0 ? read / memory : NAN },
        { "below", below ? below : "", 0 },
        { "times_below", NULL, times },
    };
    char line[200], computed[32] = "       -     -";

    if (a->what != STORE)
        snprintf(computed, sizeof computed, "%8.1f %4.0f%%", 1e-9 * ops, 100 * ops / ceiling);
    const int n =
        snprintf(line, sizeof line, "%-6s %-4s %2d/%-2d %5d %-6s %10.1f  -%2.0f%% +%3.0f%% %s %7.1f %4.0f%%",
                 names[a->what], a->format->name, (int)a->heads, (int)a->kv_heads, (int)a->length,
                 a->what == DECODE ? ""
                 : a->causal       ? "causal"
                                   : "full",
                 1e6 * time->median, 100 * (1 - time->low / time->median), 100 * (time->high / time->median - 1),
                 computed, 1e-9 * read, memory > 0 ? 100 * read / memory : 0);

    if (below && n > 0 && (size_t)n < sizeof line)
        snprintf(line + n, sizeof line - (size_t)n, "  %.2fx %s", times, below);
    bench_report(b, fields, sizeof fields / sizeof fields[0], line);
}

static bool run_case(struct bench *b, struct attention a, tern_ctx *below_ctx)
{
    static struct bench_call whole, below;
    struct contestant now = { &a, b->ctx }, lower = { &a, below_ctx };
    struct bench_call *const calls[] = { &whole, &below };
    int rounds = 0;

    whole.run = below.run = run;
    whole.arg = &now;
    below.arg = &lower;
    if (bench_ceilings(b) && attention_make(&a))
        rounds = bench_measure(b, calls, below_ctx ? 2 : 1);
    if (rounds) {
        const struct bench_sample time = bench_sample(whole.seconds, rounds);
        report(b, &a, &time, below_ctx ? tern_ctx_isa(below_ctx) : NULL,
               below_ctx ? bench_sample(below.seconds, rounds).median / time.median : NAN);
    }
    attention_free(&a);
    return rounds > 0;
}

/* All of one kind in one dtype. */
static bool run_kind(struct bench *b, const struct format *format, enum what what, const struct bench_option *length,
                     tern_ctx *below)
{
    struct attention a = { .b = b, .format = format, .what = what };
    bool ok = true;

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (int variant = 0; ok && variant < 2; variant++) {
            const int *heads = groups[what == DECODE ? variant : 0];

            if (!bench_picks_number(length, lengths[i]) || (what == STORE && variant))
                continue;
            a.length = lengths[i];
            a.heads = heads[0];
            a.kv_heads = heads[1];
            a.causal = what == DECODE || variant;
            ok = run_case(b, a, below);
        }
    return ok;
}

int main(int argc, char **argv)
{
    struct bench_option own[] = { { "--what", "prompt,store,plain,decode", NULL },
                                  { "--length", "128,512,2048", NULL } };
    struct bench b = { .name = "bench_attention",
                       .about = "heads of 64; P and D: arithmetic and reading at best",
                       .dtypes = "fp32,bf16,fp16",
                       .own = own,
                       .n_own = 2,
                       .heading =
                           "what   dtype heads   S                    us     spread     GFLOP/s  of P    GB/s  of D"
                           "  of the level below" };
    const int status = bench_open(&b, argc, argv);
    bool ok = true;

    if (status >= 0)
        return status;
    for (size_t f = 0; ok && f < sizeof formats / sizeof formats[0]; f++) {
        const char *level = b.below ? bench_level_below(tern_ctx_isa(b.ctx), formats[f].text) : NULL;
        tern_ctx *below = NULL;

        if (!bench_wants(&b, formats[f].name))
            continue;
        ok = !level || (below = bench_context(&b, level)) != NULL;
        for (int w = 0; ok && w < N_WHAT; w++)
            if (bench_picks(&own[0], names[w]))
                ok = run_kind(&b, &formats[f], (enum what)w, &own[1], below);
        tern_ctx_destroy(&below);
    }
    return bench_close(&b, ok);
}
