/* token_job.c: see token_job.h. */
#include "token_job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK   16   /* lines that are read together */
#define LONGEST 8192 /* tokens of a text, whatever the model could read */

int token_job_open(struct token_job *j, tern_ctx *ctx, const struct text_options *o)
{
    tern_encoder_options options = tern_encoder_options_default();
    char *path = NULL;

    j->ctx = ctx;
    j->options = o;
    j->wanted = -1;
    int code = cli_model_find(j->ctx, o->model, &path);
    if (!code)
        code = cli_open_both(j->ctx, path, o->dtype, !o->quiet, &j->tokenizer, &j->model);
    free(path);
    if (code)
        return code;
    const int32_t context = tern_model_get_config(j->model)->n_context;
    j->limit = options.n_context = context < LONGEST ? context : LONGEST;
    const tern_status status = tern_encoder_create(j->ctx, j->model, &options, &j->encoder);
    if (status)
        return cli_fail(status, tern_error(j->ctx));
    j->out = open_memstream(&j->text, &j->size);
    j->json.f = j->out;
    return j->out ? 0 : cli_error(CLI_FAIL, "out of memory for the answer");
}

/* One line as ids, and the places of the tokens whose answers are wanted. */
static int read_line(struct token_job *j, size_t line, tern_encoding *e, int32_t **places, tern_encode_text *text)
{
    const tern_model_config *c = tern_model_get_config(j->model);
    const tern_encode_options options = { .add_special = true,
                                          .max_length = j->options->cut ? (uint64_t)j->limit : 0,
                                          .goes_on = cli_goes_on };
    int32_t n = 0;

    const tern_status status =
        tern_tokenizer_encode_with(j->ctx, j->tokenizer, j->lines.lines[line], j->lines.sizes[line], &options, e);
    if (status == TERN_ERR_CANCELLED)
        return cli_fail(status, NULL);
    if (status)
        return cli_error(CLI_FAIL, "text %zu: %s", line + 1, tern_error(j->ctx));
    if (e->count > (size_t)j->limit)
        return cli_error(CLI_FAIL,
                         "text %zu has %zu tokens, the model reads at most %d; with --cut so many of it are read",
                         line + 1, e->count, j->limit);
    if (e->count == 0)
        return cli_error(CLI_FAIL, "text %zu has no tokens: there is nothing to read", line + 1);
    j->n_cut += e->n_left_out > 0;
    *places = malloc(e->count * sizeof **places);
    if (!*places)
        return cli_error(CLI_FAIL, "out of memory: %zu tokens", e->count);
    for (size_t t = 0; t < e->count; t++)
        if (j->wanted < 0 || e->ids[t] == j->wanted)
            (*places)[n++] = (int32_t)t;
    if (n == 0)
        return cli_error(CLI_FAIL, "text %zu has no mask token", line + 1);
    *text = (tern_encode_text){ .ids = e->ids, .n_ids = (int32_t)e->count, .wanted = *places, .n_wanted = n };
    if (c->n_types > 1)
        text->types = (const int32_t *)e->type_ids;
    return 0;
}

/* Lines [at, at + n), read together. */
static int run_chunk(struct token_job *j, size_t at, size_t n, token_line_fn *each, void *user)
{
    const size_t C = (size_t)tern_model_outputs(j->model);
    tern_encoding encodings[CHUNK] = { { 0 } };
    tern_encode_text texts[CHUNK];
    int32_t *places[CHUNK] = { NULL };
    float *scores = NULL;
    size_t rows = 0;
    int code = 0;

    for (size_t i = 0; !code && i < n; i++) {
        code = read_line(j, at + i, &encodings[i], &places[i], &texts[i]);
        rows += code ? 0 : (size_t)texts[i].n_wanted;
    }
    if (!code && !(scores = malloc(rows * C * sizeof *scores)))
        code = cli_error(CLI_FAIL, "out of memory: scores of %zu tokens", rows);
    if (!code) {
        const tern_status status = tern_encode(j->encoder, texts, n, NULL, scores);
        code = status ? cli_fail(status, tern_error(j->ctx)) : 0;
    }
    const float *from = scores;
    for (size_t i = 0; !code && i < n; i++) {
        const size_t n_wanted = (size_t)texts[i].n_wanted;

        for (size_t k = 0; !code && k < n_wanted * C; k++)
            if (!isfinite(from[k]))
                code = cli_error(CLI_FAIL, "text %zu: the model gives a number that is not finite: %g for token %d",
                                 at + i + 1, (double)from[k], places[i][k / C]);
        if (!code)
            code = each(user, j, at + i, &encodings[i], places[i], n_wanted, from);
        from += n_wanted * C;
    }
    for (size_t i = 0; i < n; i++) {
        tern_encoding_free(&encodings[i]);
        free(places[i]);
    }
    free(scores);
    return code;
}

int token_job_run(struct token_job *j, token_line_fn *each, void *user)
{
    static char reading[] = "reading";
    int code = 0;

    for (size_t at = 0, n; !code && at < j->lines.n; at += n) {
        n = j->lines.n - at < CHUNK ? j->lines.n - at : CHUNK;
        if (!text_progress(j->options->quiet ? NULL : reading, at, j->lines.n))
            code = CLI_SIGNAL + cli_signal();
        if (!code)
            code = run_chunk(j, at, n, each, user);
    }
    cli_progress_end();
    if (!code)
        text_tell_cut(j->n_cut, j->lines.n, j->limit);
    return code;
}

int token_job_print(struct token_job *j)
{
    const bool whole = !ferror(j->out) && fflush(j->out) == 0;

    if (!whole)
        return cli_error(CLI_FAIL, "out of memory for the answer");
    return cli_print(j->text, j->size) ? 0 : CLI_FAIL;
}

void token_job_close(struct token_job *j)
{
    if (j->out)
        fclose(j->out);
    free(j->text);
    tern_encoder_destroy(&j->encoder);
    tern_model_close(&j->model);
    tern_tokenizer_close(&j->tokenizer);
    text_lines_free(&j->lines);
}

void token_softmax(const float *scores, size_t n, double *out)
{
    double largest = -INFINITY, sum = 0;

    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, (double)scores[i]);
    for (size_t i = 0; i < n; i++)
        sum += out[i] = exp((double)scores[i] - largest);
    for (size_t i = 0; i < n; i++)
        out[i] /= sum;
}
