/* cmd_rerank.c: tern rerank: documents in the order in which they answer a query. */
#include "json_out.h"
#include "score_job.h"

#include <stdlib.h>

#define DIGITS 9 /* of a float, so that it is read back as the same one */

struct place {
    size_t document;
    float score;
};

/* The highest score first, ties as they came. */
static int by_score(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->document < y->document ? -1 : x->document > y->document;
}

static int print_place(const struct score_job *j, const struct place *at, double score, bool json)
{
    const size_t line = at->document;
    struct json_out out;
    char begin[64];

    if (!json) {
        const int size = snprintf(begin, sizeof begin, "%.6f\t%zu\t", score, line + 1);
        return cli_print(begin, (size_t)size) && cli_print(j->lines.lines[line], j->lines.sizes[line]) &&
                       cli_print("\n", 1)
                   ? 0
                   : CLI_FAIL;
    }
    const int code = out_begin(&out);
    if (code)
        return code;
    out_object_begin(&out, NULL);
    out_uint(&out, "line", line + 1);
    out_number(&out, "score", score, DIGITS);
    out_number(&out, "logit", (double)at->score, DIGITS);
    out_text(&out, "text", j->lines.lines[line], j->lines.sizes[line]);
    out_object_end(&out);
    return out_end(&out, true);
}

static int print_places(const struct score_job *j, int64_t top, bool raw, bool json)
{
    const bool sigmoid = !raw && tern_scorer_activation(j->scorer) == TERN_SCORE_SIGMOID;
    const size_t n = j->lines.n, shown = top > 0 && (uint64_t)top < n ? (size_t)top : n;
    struct place *places = malloc((n + 1) * sizeof *places);
    int code = places ? 0 : cli_error(CLI_FAIL, "out of memory: %zu documents", n);

    for (size_t i = 0; !code && i < n; i++)
        places[i] = (struct place){ i, j->scores[i] };
    if (!code)
        qsort(places, n, sizeof *places, by_score);
    for (size_t i = 0; !code && i < shown; i++) {
        const double score = (double)places[i].score;

        code = cli_signal() ? CLI_SIGNAL + cli_signal()
                            : print_place(j, &places[i], sigmoid ? score_sigmoid(score) : score, json);
    }
    free(places);
    return code;
}

struct settings {
    struct text_options o;
    const char *query;
    int64_t top;
    bool raw;
};

static int run_here(void *user, tern_ctx *ctx)
{
    const struct settings *s = user;
    struct score_job j = { 0 };
    int code = text_lines_read(s->o.command, NULL, s->o.f, &j.lines);

    if (!code)
        code = score_job_open(&j, ctx, &s->o);
    if (!code && j.n_labels != 1)
        code = cli_error(CLI_UNSUPPORTED,
                         "the model scores %zu labels, expected a cross-encoder, with one; tern classify --pair has "
                         "them all",
                         j.n_labels);
    if (!code)
        code = score_job_run(&j, &s->o, s->query);
    if (!code)
        code = print_places(&j, s->top, s->raw, s->o.json);
    score_job_close(&j);
    return code;
}

int cmd_rerank(int argc, char **argv)
{
    struct settings s = { .o = { .command = "rerank" } };
    const struct option options[] = {
        { 'p', "query", "TEXT", "the query", OPTION_TEXT, &s.query, NULL, 0, 0, false },
        { 'f', "file", "DOCS", "a document on each line of the file; - is stdin", OPTION_TEXT, &s.o.f, NULL, 0, 0,
          false },
        { 'n', "top", "N", "print the best N; 0 (the default): all", OPTION_INT, &s.top, NULL, 0, 1e9, false },
        { 0, "raw", NULL, "scores as the model gives them, without the activation", OPTION_FLAG, &s.raw, NULL, 0, 0,
          false },
        OPTION_CUT(s.o, "cut the longer of query and document where both are too long for the model"),
        OPTIONS_TEXTS(s.o, "an object for each document: line, score, logit (before the activation), text"),
    };
    const struct command_line line = {
        .command = s.o.command,
        .arguments = "MODEL -p QUERY [-f DOCS] [OPTIONS]",
        .about = "Scores each document against the query with a cross-encoder, a model of one label, and prints them "
                 "with the\n"
                 "best first: score, line number, document.  Scores are those of sentence-transformers' CrossEncoder: "
                 "through the\n"
                 "activation that the model's files name (activation_fn, sbert_ce_default_activation_function), a "
                 "sigmoid where they\n"
                 "name none; no order changes by it.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s.o.model,
        .model_required = true,
    };

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    if (!s.query)
        return cli_error(CLI_USAGE, "rerank wants -p QUERY");
    return text_run(&s.o, run_here, &s);
}
