/* bench_model.c: prefill and decode of a whole model, at a growing number of positions already read.
 *
 *   bench_model [MODEL [THREADS [RUNS [auto|fp32|bf16|fp16]]]]
 *
 * MODEL is the built-in one unless given: models/tiny-shakespeare in the folder where it is run.
 * One line a measurement: the median of RUNS (default 9), and the spread from the fastest to the slowest.  Prefill reads
 * S tokens in one step; decode reads one token after S others, ten times.  The implied GB/s of decode are the packed
 * weights and the keys and values that a step reads, over its time. */
#include <tern/tern.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS_MAX 99
#define DECODED  10

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

/* Reads S tokens, then DECODED single ones; their times, each per step.  false: the session has the text. */
static bool once(tern_session *session, const int32_t *ids, int32_t n, double *prefill, double *decode)
{
    int32_t sequence;
    bool ok = !tern_sequence_add(session, &sequence);

    if (!ok)
        return false;
    const double a = seconds();
    ok = !tern_session_step(session, &(tern_row){ sequence, ids, n, TERN_LOGITS_LAST }, 1);
    const double b = seconds();
    for (int i = 0; ok && i < DECODED; i++)
        ok = !tern_session_step(session, &(tern_row){ sequence, ids + n + i, 1, TERN_LOGITS_LAST }, 1);
    *prefill = b - a;
    *decode = (seconds() - b) / DECODED;
    return !tern_sequence_remove(session, sequence) && ok;
}

static void print(const char *what, int32_t n, double *t, int runs, double tokens, double bytes)
{
    qsort(t, (size_t)runs, sizeof(*t), ascending);
    printf("%-8s S=%-6d %10.3f ms  -%.0f%% +%.0f%%  %10.1f tokens/s", what, n, 1e3 * t[runs / 2],
           100 * (1 - t[0] / t[runs / 2]), 100 * (t[runs - 1] / t[runs / 2] - 1), tokens / t[runs / 2]);
    if (bytes > 0)
        printf("  %6.2f GB/s", 1e-9 * bytes / t[runs / 2]);
    putchar('\n');
}

static bool bench(tern_ctx *ctx, const tern_model *model, int runs)
{
    const tern_model_config *c = tern_model_get_config(model);
    const tern_model_stats stats = tern_model_get_stats(model);
    const int32_t largest = c->n_context - DECODED;
    tern_session_options options = tern_session_options_default();
    tern_session *session = NULL;
    int32_t *ids = malloc((size_t)c->n_context * sizeof(*ids));
    bool ok = ids && largest > 0;

    options.max_batch = c->n_context;
    ok = ok && !tern_session_create(ctx, model, &options, &session);
    for (int32_t i = 0; ok && i < c->n_context; i++)
        ids[i] = (int32_t)((uint32_t)i * 7919u % (uint32_t)c->vocab_size);
    for (int32_t n = 16; ok; n = n * 4 < largest ? n * 4 : largest) {
        double prefill[RUNS_MAX], decode[RUNS_MAX];

        if (n > largest)
            n = largest;
        ok = once(session, ids, n, prefill, decode); /* warms up */
        for (int r = 0; ok && r < runs; r++)
            ok = once(session, ids, n, &prefill[r], &decode[r]);
        if (!ok)
            break;
        const double kv = 2.0 * c->n_layers * c->kv_heads * c->head_dim * 4 * (n + DECODED / 2);
        print("prefill", n, prefill, runs, n, 0);
        print("decode", n, decode, runs, 1, (double)stats.packed_bytes + kv);
        if (n == largest)
            break;
    }
    tern_session_destroy(&session);
    free(ids);
    return ok;
}

int main(int argc, char **argv)
{
    tern_ctx_options options = tern_ctx_options_default();
    tern_ctx *ctx = NULL;
    tern_model *model = NULL;
    const char *name = argc > 1 ? argv[1] : "models/tiny-shakespeare";
    const char *dtype = argc > 4 ? argv[4] : "auto";
    int d = TERN_MODEL_AUTO;
    tern_model_options model_options = tern_model_options_default();
    char message[256] = "";
    int runs = argc > 3 ? atoi(argv[3]) : 9;
    bool ok;

    runs = runs < 1 ? 1 : runs > RUNS_MAX ? RUNS_MAX : runs;
    while (d <= TERN_MODEL_FP16 && strcmp(dtype, tern_model_dtype_name((tern_model_dtype)d)) != 0)
        d++;
    model_options.dtype = (tern_model_dtype)d; /* an unknown one is refused by tern_model_open() */
    options.n_threads = argc > 2 ? atoi(argv[2]) : 0;
    ok = !tern_ctx_create(&ctx, &options, message, sizeof(message)) &&
         !tern_model_open(ctx, name, &model_options, &model);
    if (ok) {
        printf("%s as %s, %d threads (%s), %s, %d runs\n", name, tern_model_dtype_name(model_options.dtype),
               tern_ctx_threads(ctx), tern_ctx_threads_reason(ctx), tern_ctx_isa(ctx), runs);
        ok = bench(ctx, model, runs);
    }
    if (!ok)
        fprintf(stderr, "bench_model: %s\n", ctx ? tern_error(ctx) : message);
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
    return !ok;
}
