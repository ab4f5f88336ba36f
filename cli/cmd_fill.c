/* cmd_fill.c: tern fill: what a masked language model puts in the place of a mask token. */
#include "token_job.h"

#include <stdlib.h>
#include <string.h>

#define DIGITS  9
#define TOP_MAX 1000

struct filler {
    struct text_options o;
    int64_t top;
    double *p;     /* [V] */
    int32_t *best; /* [top] ids, the likeliest first */
    int32_t *ids;  /* [limit] a text with one in place */
};

/* The mask token is the special one that is written so; a vocabulary may hold the other writing as a plain word. */
static int find_mask(struct token_job *j, const char **mask)
{
    static const char *const known[] = { "[MASK]", "<mask>" };

    *mask = NULL;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const int32_t id = tern_tokenizer_find(j->tokenizer, known[i]);
        const char *bytes;
        size_t size;
        bool special = false;

        if (id < 0 || tern_tokenizer_token(j->ctx, j->tokenizer, id, &bytes, &size, &special) || !special)
            continue;
        if (*mask)
            return cli_error(CLI_UNSUPPORTED, "the tokenizer has two mask tokens, %s and %s", *mask, known[i]);
        *mask = known[i];
        j->wanted = id;
    }
    return *mask ? 0
                 : cli_error(CLI_UNSUPPORTED, "the tokenizer has no mask token, expected %s or %s as a special token",
                             known[0], known[1]);
}

/* The ids of the `top` highest scores, ties by id. */
static size_t choose(struct filler *f, const float *scores, size_t n)
{
    size_t count = 0;

    for (size_t id = 0; id < n; id++) {
        size_t at = count;
        if (count == (size_t)f->top && !(scores[id] > scores[f->best[count - 1]]))
            continue;
        if (count < (size_t)f->top)
            count++;
        else
            at--;
        for (; at > 0 && scores[id] > scores[f->best[at - 1]]; at--)
            f->best[at] = f->best[at - 1];
        f->best[at] = (int32_t)id;
    }
    return count;
}

/* One id in the place of a mask: the token's text, and the whole.  Other masks stay where there are several. */
static int write_choice(struct filler *f, struct token_job *j, size_t line, size_t mask, const tern_encoding *tokens,
                        int32_t place, bool only, int32_t id)
{
    char *word = NULL, *whole = NULL;
    size_t word_size, whole_size;

    memcpy(f->ids, tokens->ids, tokens->count * sizeof *f->ids);
    f->ids[place] = id;
    tern_status status = tern_tokenizer_decode(j->ctx, j->tokenizer, &id, 1, false, &word, &word_size);
    if (!status)
        status = tern_tokenizer_decode(j->ctx, j->tokenizer, f->ids, tokens->count, only, &whole, &whole_size);
    if (!status && j->options->json) {
        out_object_begin(&j->json, NULL);
        out_int(&j->json, "id", id);
        out_number(&j->json, "probability", f->p[id], DIGITS);
        out_text(&j->json, "token", word, word_size);
        out_text(&j->json, "text", whole, whole_size);
        out_object_end(&j->json);
    } else if (!status) {
        fprintf(j->out, "%zu\t%zu\t%.6f\t", line + 1, mask + 1, f->p[id]);
        cli_put_shown(j->out, word);
        putc('\t', j->out);
        cli_put_shown(j->out, whole);
        putc('\n', j->out);
    }
    tern_text_free(word);
    tern_text_free(whole);
    return status ? cli_fail(status, tern_error(j->ctx)) : 0;
}

static int write_line(void *user, struct token_job *j, size_t line, const tern_encoding *tokens, const int32_t *places,
                      size_t n, const float *scores)
{
    const size_t V = (size_t)tern_model_outputs(j->model);
    struct filler *f = user;
    int code = 0;

    if (j->options->json)
        out_array_begin(&j->json, NULL);
    for (size_t i = 0; i < n; i++) {
        const size_t count = choose(f, scores + i * V, V);

        token_softmax(scores + i * V, V, f->p);
        if (j->options->json)
            out_array_begin(&j->json, NULL);
        for (size_t k = 0; !code && k < count; k++)
            code = write_choice(f, j, line, i, tokens, places[i], n == 1, f->best[k]);
        if (j->options->json)
            out_array_end(&j->json);
    }
    if (j->options->json) {
        out_array_end(&j->json);
        putc('\n', j->out);
        j->json.follows = false;
    }
    return code;
}

static int prepare(struct token_job *j, struct filler *f)
{
    const tern_model_config *c = tern_model_get_config(j->model);
    const size_t V = (size_t)tern_model_outputs(j->model);

    if (c->task != TERN_TASK_FILL)
        return cli_error(CLI_UNSUPPORTED, "%s gives no scores of missing words, expected a ..ForMaskedLM",
                         c->architecture);
    f->p = malloc(V * sizeof *f->p);
    f->best = malloc((size_t)f->top * sizeof *f->best);
    f->ids = malloc((size_t)j->limit * sizeof *f->ids);
    return f->p && f->best && f->ids ? 0 : cli_error(CLI_FAIL, "out of memory: scores of %zu tokens", V);
}

static int run_here(void *user, tern_ctx *ctx)
{
    struct filler *f = user;
    struct token_job j = { 0 };
    const char *mask;
    int code = text_lines_read(f->o.command, f->o.p, f->o.f, &j.lines);

    if (!code)
        code = token_job_open(&j, ctx, &f->o);
    if (!code)
        code = prepare(&j, f);
    if (!code)
        code = find_mask(&j, &mask);
    if (!code)
        code = token_job_run(&j, write_line, f);
    if (!code)
        code = token_job_print(&j);
    token_job_close(&j);
    free(f->p);
    free(f->best);
    free(f->ids);
    return code;
}

int cmd_fill(int argc, char **argv)
{
    struct filler f = { .o = { .command = "fill" }, .top = 5 };
    const struct option options[] = {
        OPTIONS_LINES(f.o),
        { 'n', "top", "N", "the N likeliest tokens (5)", OPTION_INT, &f.top, NULL, 1, TOP_MAX, false },
        OPTION_CUT(f.o, "read the beginning of a text that is too long for the model"),
        OPTIONS_TEXTS(f.o, "an array for each text, of an array for each mask: id, probability, token, text"),
    };
    const struct command_line line = {
        .command = f.o.command,
        .arguments = "MODEL [-p TEXT | -f LINES] [OPTIONS]",
        .about = "What MODEL, a masked language model (..ForMaskedLM), puts in the place of each mask token, [MASK] or "
                 "<mask> as its\n"
                 "vocabulary has it: line, mask, probability, token, and the text with it.",
        .after = "Example:\n  tern fill google-bert/bert-base-uncased -p 'Paris is the [MASK] of France.'",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &f.o.model,
        .model_required = true,
    };

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    return text_run(&f.o, run_here, &f);
}
