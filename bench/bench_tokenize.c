/* bench_tokenize.c: a tokenizer's speed: opening it, text to ids, ids to text.
 *
 *   bench_tokenize MODEL TEXT [SECONDS]
 *
 * One thread.  Each figure is the best of as many runs as fit into a third of SECONDS (3), and of three at least: what
 * the machine does besides only ever adds.  Prints one line of JSON: peers/text_tokenizers.py puts others' figures beside it. */
#include <tern/tern.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *data = NULL;
    size_t capacity = 0, n;

    *size = 0;
    if (!f)
        return NULL;
    do {
        if (*size == capacity) {
            char *more = realloc(data, capacity = capacity ? 2 * capacity : 1 << 16);

            if (!more)
                break;
            data = more;
        }
        n = fread(data + *size, 1, capacity - *size, f);
        *size += n;
    } while (n > 0);
    fclose(f);
    return data;
}

struct job {
    tern_ctx *ctx;
    const char *model, *text;
    size_t size;
    tern_tokenizer *tokenizer;
    tern_ids ids;
};

static tern_status open_once(struct job *j)
{
    tern_tokenizer_close(&j->tokenizer);
    return tern_tokenizer_open(j->ctx, j->model, &j->tokenizer);
}

static tern_status encode_once(struct job *j)
{
    return tern_tokenizer_encode(j->ctx, j->tokenizer, j->text, j->size, true, &j->ids);
}

static tern_status decode_once(struct job *j)
{
    char *text;
    const tern_status status =
        tern_tokenizer_decode(j->ctx, j->tokenizer, j->ids.data, j->ids.count, false, &text, NULL);

    tern_text_free(text);
    return status;
}

/* The shortest of the runs that fit into the time, in seconds. */
static tern_status best_of(struct job *j, tern_status (*run)(struct job *), double seconds, double *best)
{
    const double until = now() + seconds;

    *best = 1e9;
    for (int i = 0; i < 3 || now() < until; i++) {
        const double begin = now();
        const tern_status status = run(j);

        if (status != TERN_OK)
            return status;
        if (now() - begin < *best)
            *best = now() - begin;
    }
    return TERN_OK;
}

int main(int argc, char **argv)
{
    const double seconds = (argc > 3 ? atof(argv[3]) : 3) / 3;
    struct job j = { 0 };
    char message[256];
    double opening, encoding, decoding;
    int failed;

    if (argc < 3) {
        fprintf(stderr, "usage: bench_tokenize MODEL TEXT [SECONDS]\n");
        return 2;
    }
    if (tern_ctx_create(&j.ctx, NULL, message, sizeof message) != TERN_OK) {
        fprintf(stderr, "bench_tokenize: %s\n", message);
        return 1;
    }
    char *text = read_file(argv[2], &j.size);
    if (!text) {
        fprintf(stderr, "bench_tokenize: cannot read %s\n", argv[2]);
        return 1;
    }
    j.model = argv[1];
    j.text = text;
    failed = best_of(&j, open_once, seconds, &opening) != TERN_OK ||
             best_of(&j, encode_once, seconds, &encoding) != TERN_OK ||
             best_of(&j, decode_once, seconds, &decoding) != TERN_OK;
    if (failed)
        fprintf(stderr, "bench_tokenize: %s\n", tern_error(j.ctx));
    else
        printf("{\"name\":\"tern\",\"bytes\":%zu,\"tokens\":%zu,\"open_ms\":%.2f,\"encode_mb_s\":%.2f,\"decode_mb_s\":%"
               ".2f}\n",
               j.size, j.ids.count, 1e3 * opening, 1e-6 * (double)j.size / encoding, 1e-6 * (double)j.size / decoding);
    tern_ids_free(&j.ids);
    tern_tokenizer_close(&j.tokenizer);
    tern_ctx_destroy(&j.ctx);
    free(text);
    return failed;
}
