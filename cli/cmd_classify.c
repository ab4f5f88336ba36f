/* cmd_classify.c: tern classify: texts to labels, or the labels of their tokens. */
#include "json_out.h"
#include "score_job.h"
#include "tags.h"
#include "token_job.h"

#include <stdlib.h>
#include <string.h>

#define DIGITS 6

static const char *label_name(const tern_model *model, size_t i, char *room, size_t size)
{
    const char *name = tern_model_label(model, (int32_t)i);

    if (name)
        return name;
    snprintf(room, size, "LABEL_%zu", i);
    return room;
}

/* Softmax over the labels; a sigmoid of each where there is one, or several may be right; a value as it is. */
static void probabilities(const float *scores, size_t n, tern_label_kind kind, double *out)
{
    if (n > 1 && kind == TERN_LABELS_SINGLE) {
        token_softmax(scores, n, out);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = kind == TERN_LABELS_VALUE ? (double)scores[i] : score_sigmoid((double)scores[i]);
}

static int print_text(const struct score_job *j, const float *scores, const double *p, bool json)
{
    const tern_model *model = tern_scorer_model(j->scorer);
    const bool value = tern_model_get_config(model)->labels == TERN_LABELS_VALUE;
    struct json_out out;
    size_t best = 0;
    char room[32];

    for (size_t k = 1; k < j->n_labels; k++)
        best = p[k] > p[best] ? k : best;
    if (!json) {
        fprintf(stdout, "%.6f\t", p[best]);
        cli_put_shown(stdout, label_name(model, best, room, sizeof room));
        return cli_print("\n", 1) ? 0 : CLI_FAIL;
    }
    const int code = out_begin(&out);
    if (code)
        return code;
    out_array_begin(&out, NULL);
    for (size_t k = 0; k < j->n_labels; k++) {
        out_object_begin(&out, NULL);
        out_name(&out, "label", label_name(model, k, room, sizeof room));
        if (!value)
            out_number(&out, "probability", p[k], DIGITS);
        out_number(&out, "score", (double)scores[k], DIGITS + 3);
        out_object_end(&out);
    }
    out_array_end(&out);
    return out_end(&out, true);
}

static int print_texts(const struct score_job *j, bool json)
{
    const tern_label_kind kind = tern_model_get_config(tern_scorer_model(j->scorer))->labels;
    double *p = malloc(j->n_labels * sizeof *p);
    int code = p ? 0 : cli_error(CLI_FAIL, "out of memory: %zu labels", j->n_labels);

    for (size_t i = 0; !code && i < j->lines.n; i++) {
        const float *scores = j->scores + i * j->n_labels;

        probabilities(scores, j->n_labels, kind, p);
        code = cli_signal() ? CLI_SIGNAL + cli_signal() : print_text(j, scores, p, json);
    }
    free(p);
    return code;
}

struct settings {
    struct text_options o;
    const char *pair;
    bool tokens, tags;
};

static int classify_texts(const struct settings *s, tern_ctx *ctx)
{
    const struct text_options *o = &s->o;
    struct score_job j = { 0 };
    int code = text_lines_read(o->command, o->p, o->f, &j.lines);

    if (!code)
        code = score_job_open(&j, ctx, o);
    if (!code)
        code = score_job_run(&j, o, s->pair);
    if (!code)
        code = print_texts(&j, o->json);
    score_job_close(&j);
    return code;
}

static int run_here(void *user, tern_ctx *ctx)
{
    const struct settings *s = user;

    return s->tags ? tags_run(&s->o, ctx, s->tokens) : classify_texts(s, ctx);
}

/* Whether the model labels tokens; all else is told where it is opened for good. */
static int labels_tokens(const char *name, bool *tags)
{
    tern_model_options options = tern_model_options_default();
    tern_model *model = NULL;
    tern_ctx *ctx = NULL;
    int code = cli_context_open(1, &ctx);

    if (code)
        return code;
    options.describe = true;
    const tern_status status = tern_model_open(ctx, name, &options, &model);
    if (status)
        code = cli_fail(status, tern_error(ctx));
    else
        *tags = tern_model_get_config(model)->task == TERN_TASK_TAG;
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
    return code;
}

int cmd_classify(int argc, char **argv)
{
    struct settings s = { .o = { .command = "classify" } };
    const struct option options[] = {
        OPTIONS_LINES(s.o),
        { 0, "pair", "TEXT", "TEXT is the first of two texts that are read together, each line the second", OPTION_TEXT,
          &s.pair, NULL, 0, 0, false },
        { 0, "tokens", NULL, "of a model that labels tokens: each token apart, with its own label", OPTION_FLAG,
          &s.tokens, NULL, 0, 0, false },
        OPTION_CUT(s.o, "read the beginning of a text that is too long for the model"),
        OPTIONS_TEXTS(s.o, "an array for each text, of all labels (label, probability, score) or of\n"
                           "entities (label, probability, begin, end, text)"),
    };
    const struct command_line line = {
        .command = s.o.command,
        .arguments = "MODEL [-p TEXT | -f LINES] [OPTIONS]",
        .about = "The label that MODEL gives to each text: probability, label.  The probability is a softmax over the "
                 "labels, of\n"
                 "a single one or where several may be right a sigmoid; a regression's value is printed as it is.\n"
                 "With a model that labels tokens (..ForTokenClassification) what it finds in each text: line, "
                 "probability, label,\n"
                 "begin and end in characters, text; neighbours of one label are one, their probability is the mean; "
                 "O is left out.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s.o.model,
        .model_required = true,
    };

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    const int code = labels_tokens(s.o.model, &s.tags);
    if (code)
        return code;
    if (s.tags && s.pair)
        return cli_error(CLI_USAGE,
                         "the model labels tokens: it reads one text at a time, --pair is for labels of texts");
    if (!s.tags && s.tokens)
        return cli_error(CLI_USAGE, "the model labels texts, --tokens is for labels of tokens");
    return text_run(&s.o, run_here, &s);
}
