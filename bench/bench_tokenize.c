/* bench_tokenize.c: a tokenizer's speed: opening it, text to ids, ids to text, and the text in parts as a batch.
 *
 *   bench_tokenize MODEL TEXT [SECONDS]
 *
 * One thread, but for batch_threads, which has all.  Each figure is the best of as many runs as fit into a fifth of
 * SECONDS (3), and of three at least: what the machine does besides only ever adds.  Prints one line of JSON:
 * peers/text_tokenizers.py puts others' figures beside it. */
#include "answer.h"

#include <tern/tern.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#define PARTS 256

struct job {
    tern_ctx *ctx;
    const char *model, *text;
    size_t size;
    tern_tokenizer *tokenizer;
    tern_ids ids;
    const char *parts[PARTS];
    size_t part_sizes[PARTS], n_parts;
    tern_encoding encodings[PARTS];
    tern_ctx *batch_ctx;
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

static tern_status batch_once(struct job *j)
{
    static const tern_encode_options options = { .add_special = true, .ids_only = true };

    return tern_tokenizer_encode_batch(j->batch_ctx, j->tokenizer, j->parts, j->part_sizes, j->n_parts, &options,
                                       j->encodings);
}

/* Parts of about the same size, each up to a newline. */
static void cut(struct job *j)
{
    for (size_t at = 0, end; at < j->size && j->n_parts < PARTS; at = end) {
        end = j->n_parts + 1 < PARTS ? at + j->size / PARTS + 1 : j->size;
        while (end < j->size && j->text[end - 1] != '\n')
            end++;
        end = end < j->size ? end : j->size;
        j->parts[j->n_parts] = j->text + at;
        j->part_sizes[j->n_parts++] = end - at;
    }
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

static void usage(FILE *f)
{
    fprintf(f, "usage: bench_tokenize MODEL TEXT [SECONDS]\n");
}

int main(int argc, char **argv)
{
    const double seconds = (argc > 3 ? atof(argv[3]) : 3) / 5;
    tern_ctx_options one = tern_ctx_options_default();
    struct job j = { 0 };
    char message[256];
    double opening, encoding, decoding, batch, batch_threads;
    tern_ctx *single = NULL;
    int failed;

    if (!answer_stdout_open("bench_tokenize"))
        return 1;
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        usage(stdout);
        return !answer_stdout_close("bench_tokenize", 0);
    }
    if (argc < 3) {
        usage(stderr);
        return 2;
    }
    one.n_threads = 1;
    if (tern_ctx_create(&j.ctx, NULL, message, sizeof message) != TERN_OK ||
        tern_ctx_create(&single, &one, message, sizeof message) != TERN_OK) {
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
    cut(&j);
    j.batch_ctx = single;
    failed = failed || best_of(&j, batch_once, seconds, &batch) != TERN_OK;
    j.batch_ctx = j.ctx;
    failed = failed || best_of(&j, batch_once, seconds, &batch_threads) != TERN_OK;
    if (failed)
        fprintf(stderr, "bench_tokenize: %s\n", tern_error(j.ctx));
    else
        printf("{\"name\":\"tern\",\"bytes\":%zu,\"tokens\":%zu,\"open_ms\":%.2f,\"encode_mb_s\":%.2f,\"decode_mb_s\":%"
               ".2f,\"batch_mb_s\":%.2f,\"batch_threads_mb_s\":%.2f}\n",
               j.size, j.ids.count, 1e3 * opening, 1e-6 * (double)j.size / encoding, 1e-6 * (double)j.size / decoding,
               1e-6 * (double)j.size / batch, 1e-6 * (double)j.size / batch_threads);
    failed |= !answer_stdout_close("bench_tokenize", 0);
    for (size_t i = 0; i < j.n_parts; i++)
        tern_encoding_free(&j.encodings[i]);
    tern_ctx_destroy(&single);
    tern_ids_free(&j.ids);
    tern_tokenizer_close(&j.tokenizer);
    tern_ctx_destroy(&j.ctx);
    free(text);
    return failed;
}
