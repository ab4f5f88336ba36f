/* cmd_classify.c: tern classify and tern rerank: texts to scores of labels. */
#include "cli.h"
#include "json_out.h"
#include "options.h"
#include "text_lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS 6
#define LIMIT  8192 /* tokens of a text, whatever the model could read */
#define CHUNK  64   /* texts between two looks for a signal */

/* What both commands open, and the scores that they read. */
struct job {
    tern_ctx *ctx;
    tern_model *model;
    tern_tokenizer *tokenizer;
    tern_encoder *encoder;
    struct text_lines lines;
    tern_encoding *encodings; /* [n] */
    float *scores;            /* [n][labels] */
    size_t n_labels;
    int32_t limit; /* tokens of a text */
};

static void job_close(struct job *j)
{
    for (size_t i = 0; j->encodings && i < j->lines.n; i++)
        tern_encoding_free(&j->encodings[i]);
    free(j->encodings);
    free(j->scores);
    tern_encoder_destroy(&j->encoder);
    tern_model_close(&j->model);
    tern_tokenizer_close(&j->tokenizer);
    tern_ctx_destroy(&j->ctx);
    text_lines_free(&j->lines);
}

static int job_open(struct job *j, const char *name, int64_t threads, int dtype, bool bar)
{
    char *path = NULL;
    int code = cli_context_open(threads, &j->ctx);

    if (!code)
        code = cli_model_find(j->ctx, name, &path);
    if (!code)
        code = cli_open_both(j->ctx, path, dtype, bar, &j->tokenizer, &j->model);
    free(path);
    if (code)
        return code;
    const tern_model_config *c = tern_model_get_config(j->model);
    if (c->task != TERN_TASK_CLASSIFY)
        return cli_error(CLI_UNSUPPORTED,
                         "%s gives no scores of labels for a text, expected a ..ForSequenceClassification",
                         c->architecture);
    j->n_labels = (size_t)c->n_labels;
    tern_encoder_options options = tern_encoder_options_default();
    j->limit = options.n_context = c->n_context < LIMIT ? c->n_context : LIMIT;
    const tern_status status = tern_encoder_create(j->ctx, j->model, &options, &j->encoder);
    return status ? cli_fail(status, tern_error(j->ctx)) : 0;
}

/* Scores of each line, or of the pair of `query` and each line.  A text that is longer than the model reads is an error, or with
 * `cut` is cut. */
static int job_run(struct job *j, const char *query, bool cut)
{
    const tern_model_config *c = tern_model_get_config(j->model);
    const size_t n = j->lines.n;
    tern_encode_text *texts = malloc((n + 1) * sizeof *texts);
    tern_status status = TERN_OK;

    j->encodings = calloc(n + 1, sizeof *j->encodings);
    j->scores = malloc((n * j->n_labels + 1) * sizeof *j->scores);
    if (!texts || !j->encodings || !j->scores) {
        free(texts);
        return cli_error(CLI_FAIL, "out of memory: %zu texts", n);
    }
    for (size_t i = 0; !status && i < n; i++) {
        const tern_encode_options options = { .pair = query ? j->lines.lines[i] : NULL,
                                              .pair_size = query ? j->lines.sizes[i] : 0,
                                              .add_special = true,
                                              .ids_only = true,
                                              .max_length = cut ? (uint64_t)j->limit : 0 };
        tern_encoding *e = &j->encodings[i];
        status = tern_tokenizer_encode_with(j->ctx, j->tokenizer, query ? query : j->lines.lines[i],
                                            query ? strlen(query) : j->lines.sizes[i], &options, e);
        if (!status && e->count > (size_t)j->limit) {
            free(texts);
            return cli_error(CLI_FAIL, "text %zu has %zu tokens, the model reads at most %d; --cut reads so many of it",
                             i + 1, e->count, j->limit);
        }
        texts[i] = (tern_encode_text){ .ids = e->ids, .n_ids = (int32_t)e->count };
        if (c->n_types > 1)
            texts[i].types = (const int32_t *)e->type_ids;
    }
    for (size_t i = 0; !status && i < n; i += CHUNK)
        status = cli_signal() ? TERN_ERR_CANCELLED
                              : tern_encode(j->encoder, texts + i, n - i < CHUNK ? n - i : CHUNK, NULL,
                                            j->scores + i * j->n_labels);
    free(texts);
    return status ? cli_fail(status, tern_error(j->ctx)) : 0;
}

/* ---- classify ---- */

/* Softmax over the labels; a sigmoid of each where there is one, or several may be right. */
static void probabilities(const float *scores, size_t n, bool each, double *out)
{
    double largest = -INFINITY, sum = 0;

    if (n == 1 || each) {
        for (size_t i = 0; i < n; i++)
            out[i] = 1 / (1 + exp(-(double)scores[i]));
        return;
    }
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, (double)scores[i]);
    for (size_t i = 0; i < n; i++)
        sum += out[i] = exp((double)scores[i] - largest);
    for (size_t i = 0; i < n; i++)
        out[i] /= sum;
}

static const char *label_name(const tern_model *model, size_t i, char *room, size_t size)
{
    const char *name = tern_model_label(model, (int32_t)i);

    if (name)
        return name;
    snprintf(room, size, "LABEL_%zu", i);
    return room;
}

/* A line of two parts; control characters of the label, which is a file's, reach no terminal. */
static bool print_label(const char *begin, const char *label)
{
    bool ok = cli_print(begin, strlen(begin));

    for (; ok && *label; label++) {
        char shown[8];
        const unsigned char c = (unsigned char)*label;
        const int n = c < 0x20 || c == 0x7f ? snprintf(shown, sizeof shown, "\\x%02X", c)
                                            : snprintf(shown, sizeof shown, "%c", c);
        ok = cli_print(shown, (size_t)n);
    }
    return ok && cli_print("\n", 1);
}

static int print_labels(const struct job *j, bool json)
{
    const bool multi = tern_model_get_config(j->model)->labels == TERN_LABELS_MULTI;
    double *p = malloc(j->n_labels * sizeof *p);
    int code = p ? 0 : cli_error(CLI_FAIL, "out of memory: %zu labels", j->n_labels);

    for (size_t i = 0; !code && i < j->lines.n; i++) {
        const float *scores = j->scores + i * j->n_labels;
        struct json_out out;
        size_t best = 0;
        char room[32], row[32];

        probabilities(scores, j->n_labels, multi, p);
        for (size_t k = 1; k < j->n_labels; k++)
            best = p[k] > p[best] ? k : best;
        if (!json) {
            snprintf(row, sizeof row, "%.6f\t", p[best]);
            if (!print_label(row, label_name(j->model, best, room, sizeof room)))
                break;
            continue;
        }
        code = out_begin(&out);
        if (code)
            break;
        out_array_begin(&out, NULL);
        for (size_t k = 0; k < j->n_labels; k++) {
            out_object_begin(&out, NULL);
            out_name(&out, "label", label_name(j->model, k, room, sizeof room));
            out_number(&out, "probability", p[k], DIGITS);
            out_number(&out, "score", (double)scores[k], DIGITS + 3);
            out_object_end(&out);
        }
        out_array_end(&out);
        code = out_end(&out, true);
    }
    free(p);
    return code;
}

static int check_labels(const tern_model *model)
{
    if (tern_model_get_config(model)->labels == TERN_LABELS_VALUE)
        return cli_error(CLI_UNSUPPORTED,
                         "the model's problem_type is regression: its scores are no probabilities of labels");
    return 0;
}

int cmd_classify(int argc, char **argv)
{
    const char *name = NULL, *p = NULL, *f = NULL;
    int64_t threads = 0;
    int dtype = TERN_MODEL_AUTO;
    bool quiet = false, json = false, cut = false;
    const struct option options[] = {
        { 'p', "text", "TEXT", "one text", OPTION_TEXT, &p, NULL, 0, 0, false },
        { 'f', "file", "LINES", "a text on each line of the file; - is stdin", OPTION_TEXT, &f, NULL, 0, 0, false },
        { 0, "json", NULL, "an array of all labels for each text: label, probability, score", OPTION_FLAG, &json, NULL,
          0, 0, false },
        { 0, "cut", NULL, "read the beginning of a text that is too long for the model", OPTION_FLAG, &cut, NULL, 0, 0,
          false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &threads, NULL, 0, 1024, false },
        OPTION_DTYPE(&dtype, NULL),
        { 'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "classify",
        .arguments = "MODEL [-p TEXT | -f LINES] [OPTIONS]",
        .about = "The label that MODEL gives to each text, with its probability: a softmax over the labels, with a "
                 "single one a\n"
                 "sigmoid.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &name,
        .model_required = true,
    };
    struct job j = { 0 };

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    int code = text_lines_read("classify", p, f, &j.lines);
    if (!code)
        code = job_open(&j, name, threads, dtype, !quiet);
    if (!code)
        code = check_labels(j.model);
    if (!code)
        code = job_run(&j, NULL, cut);
    if (!code)
        code = print_labels(&j, json);
    job_close(&j);
    return code;
}

/* ---- rerank ---- */

struct place {
    size_t document;
    float score;
};

/* The highest score first, ties as they came, what is no number last. */
static int by_score(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (isnan(x->score) != isnan(y->score))
        return isnan(x->score) ? 1 : -1;
    if (x->score != y->score && !isnan(x->score))
        return x->score > y->score ? -1 : 1;
    return x->document < y->document ? -1 : x->document > y->document;
}

static int print_places(const struct job *j, int64_t top, bool json)
{
    const size_t n = j->lines.n, shown = top > 0 && (uint64_t)top < n ? (size_t)top : n;
    struct place *places = malloc((n + 1) * sizeof *places);
    int code = places ? 0 : cli_error(CLI_FAIL, "out of memory: %zu documents", n);

    for (size_t i = 0; !code && i < n; i++)
        places[i] = (struct place){ i, j->scores[i] };
    if (!code)
        qsort(places, n, sizeof *places, by_score);
    for (size_t i = 0; !code && i < shown; i++) {
        const struct place *at = &places[i];
        struct json_out out;
        char begin[64];

        if (!json) {
            const int size = snprintf(begin, sizeof begin, "%.6f\t%zu\t", (double)at->score, at->document + 1);
            if (!cli_print(begin, (size_t)size) ||
                !cli_print(j->lines.lines[at->document], j->lines.sizes[at->document]) || !cli_print("\n", 1))
                break;
            continue;
        }
        code = out_begin(&out);
        if (code)
            break;
        out_object_begin(&out, NULL);
        out_uint(&out, "line", at->document + 1);
        out_number(&out, "score", (double)at->score, DIGITS + 3);
        out_text(&out, "text", j->lines.lines[at->document], j->lines.sizes[at->document]);
        out_object_end(&out);
        code = out_end(&out, true);
    }
    free(places);
    return code;
}

int cmd_rerank(int argc, char **argv)
{
    const char *name = NULL, *query = NULL, *f = NULL;
    int64_t threads = 0, top = 0;
    int dtype = TERN_MODEL_AUTO;
    bool quiet = false, json = false, cut = false;
    const struct option options[] = {
        { 'p', "query", "TEXT", "the query", OPTION_TEXT, &query, NULL, 0, 0, false },
        { 'f', "file", "DOCS", "a document on each line of the file; - is stdin", OPTION_TEXT, &f, NULL, 0, 0, false },
        { 'n', "top", "N", "print the best N; 0 (the default): all", OPTION_INT, &top, NULL, 0, 1e9, false },
        { 0, "json", NULL, "an object for each document: line, score, text", OPTION_FLAG, &json, NULL, 0, 0, false },
        { 0, "cut", NULL, "cut the longer of query and document where both are too long for the model", OPTION_FLAG,
          &cut, NULL, 0, 0, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &threads, NULL, 0, 1024, false },
        OPTION_DTYPE(&dtype, NULL),
        { 'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "rerank",
        .arguments = "MODEL -p QUERY [-f DOCS] [OPTIONS]",
        .about = "Scores each document against the query with a cross-encoder, a model of one label, and prints them "
                 "with the\n"
                 "best first: score, line number, document.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &name,
        .model_required = true,
    };
    struct job j = { 0 };

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    if (!query)
        return cli_error(CLI_USAGE, "rerank wants -p QUERY");
    int code = text_lines_read("rerank", NULL, f, &j.lines);
    if (!code)
        code = job_open(&j, name, threads, dtype, !quiet);
    if (!code && j.n_labels != 1)
        code =
            cli_error(CLI_UNSUPPORTED, "the model scores %zu labels, expected a cross-encoder, with one", j.n_labels);
    if (!code)
        code = job_run(&j, query, cut);
    if (!code)
        code = print_places(&j, top, json);
    job_close(&j);
    return code;
}
