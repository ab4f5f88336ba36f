/* cmd_bench.c: tern bench: prefill and decode of a model at growing context, beside what the machine can do. */
#include "bench.h"
#include "cli.h"
#include "options.h"
#include "ranks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct settings {
    const char *model, *shape, *contexts, *trace;
    int64_t threads, tp, sequences, decode, runs;
    int dtype;
    bool has_decode, no_ceilings, json, csv, quiet;
};

/* false: the command ends with *code. */
static bool parse(struct settings *s, int argc, char **argv, int *code)
{
    const struct option options[] = {
        { 0, "shape", "NAME", "a model of this shape with random weights, see below; no file is read", OPTION_TEXT,
          &s->shape, NULL, 0, 0, false },
        OPTION_DTYPE(&s->dtype, NULL),
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &s->threads, NULL, 0, 1024, false },
        OPTION_TP(&s->tp),
        { 0, "sequences", "N", "sequences at once; 1", OPTION_INT, &s->sequences, NULL, 1, 1024, false },
        { 0, "contexts", "16,128,512",
          "tokens of the prompts.  Without it 16, 128 and 512, or the most that the\n"
          "model reads; 16 and 128 with several sequences; 128 and 512 for an encoder",
          OPTION_TEXT, &s->contexts, NULL, 0, 0, false },
        { 0, "decode", "N", "tokens decoded after each prompt; 10", OPTION_INT, &s->decode, &s->has_decode, 1, 100000,
          false },
        { 0, "runs", "N", "measurements of each; 5.  One more before them warms up", OPTION_INT, &s->runs, NULL, 1,
          BENCH_RUNS_MAX, false },
        { 0, "no-ceilings", NULL, "leave out what the machine can do, and shares of it", OPTION_FLAG, &s->no_ceilings,
          NULL, 0, 0, false },
        OPTION_TRACE(&s->trace),
        { 0, "json", NULL, "print one JSON object", OPTION_FLAG, &s->json, NULL, 0, 0, false },
        { 0, "csv", NULL, "print lines of comma-separated values, names first", OPTION_FLAG, &s->csv, NULL, 0, 0,
          false },
        { 'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &s->quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "bench",
        .arguments = "[MODEL | --shape NAME] [OPTIONS]",
        .about =
            "Times a model: reading prompts of growing length (prefill), and single tokens after them (decode); an\n"
            "encoder's forward pass.  Medians with the spread to the fastest and the slowest run, tokens/s, the GB/s "
            "of\n"
            "weights, keys and values and the GFLOP/s of products with weights that this implies, and their shares of "
            "what\n"
            "all threads can read and compute, measured at the start.  Without MODEL: the built-in one.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s->model,
    };

    return options_parse_shapes(line, &s->shape, argc, argv, code);
}

/* --contexts as a growing list, to be freed; none without the option. */
static int parse_contexts(const char *text, int32_t **list, size_t *n)
{
    const int code = text ? cli_ids_parse("--contexts", text, list, n) : 0;

    if (code)
        return code;
    if (text && *n == 0)
        return cli_error(CLI_USAGE, "--contexts wants whole numbers like 16,128, got ''");
    for (size_t i = 0; i < *n; i++)
        if ((*list)[i] < 1 || (i && (*list)[i] <= (*list)[i - 1]))
            return cli_error(CLI_USAGE, "--contexts wants growing numbers from 1 on, got %d in place %zu", (*list)[i],
                             i + 1);
    return 0;
}

/* Holds the list to what the model reads; without one takes the usual lengths that it can. */
static int choose_contexts(int32_t **list, size_t *n, bool encoder, int64_t n_context, const struct bench_plan *plan)
{
    static const int32_t usual[] = { 16, 128, 512 };
    const size_t n_usual = sizeof(usual) / sizeof(usual[0]) - (plan->sequences > 1 && !encoder);
    const int64_t most = n_context - plan->decode;

    if (most < 1)
        return cli_error(CLI_FAIL, "the model reads at most %" PRId64 " tokens, --decode is %d", n_context,
                         plan->decode);
    if (*n && (*list)[*n - 1] > most)
        return cli_error(CLI_FAIL,
                         "a prompt of %d and %d tokens after it are more than the %" PRId64 " that the model reads",
                         (*list)[*n - 1], plan->decode, n_context);
    if (*n && encoder && (*list)[*n - 1] > (INT32_MAX >> 1) / plan->sequences)
        return cli_error(CLI_FAIL, "%d texts of %d tokens are more than the %d tokens of a pass", plan->sequences,
                         (*list)[*n - 1], INT32_MAX >> 1);
    if (*n)
        return 0;
    *list = malloc(sizeof(usual));
    if (!*list)
        return cli_error(CLI_FAIL, "out of memory for prompt lengths");
    for (size_t i = encoder; i < n_usual; i++)
        if (*n == 0 || (*list)[*n - 1] < most)
            (*list)[(*n)++] = usual[i] < most ? usual[i] : (int32_t)most;
    return 0;
}

static int run_here(void *user, tern_ctx *ctx)
{
    const struct settings *s = user;
    const tern_model_shape *shape = s->shape ? cli_shape_find(s->shape) : NULL;
    struct bench_plan plan = { .sequences = (int32_t)s->sequences, .runs = (int)s->runs, .bar = !s->quiet };
    struct bench bench = { .name = s->shape ? s->shape : s->model ? s->model : "tiny-shakespeare", .plan = &plan };
    tern_model *model = NULL;
    tern_ceilings ceilings;
    int32_t *contexts = NULL;
    char *path = NULL;
    bool encoder = shape && shape->encoder;
    int code = parse_contexts(s->contexts, &contexts, &plan.n_contexts);

    bench.shape = shape;
    if (!code && !bench.shape)
        code = cli_model_find(ctx, s->model, &path);
    if (!code && !s->no_ceilings) {
        const tern_status status = tern_ceilings_measure(ctx, &ceilings);

        code = status ? cli_fail(status, tern_error(ctx)) : cli_signal() ? CLI_SIGNAL + cli_signal() : 0;
        bench.ceilings = &ceilings;
    }
    if (!code)
        code = cli_trace_start(ctx, s->trace);
    if (!code)
        code = bench.shape ? cli_model_create(ctx, bench.shape, s->dtype, !s->quiet, &model)
                           : cli_model_open(ctx, path, s->dtype, !s->quiet, &model);
    bench.model = model;
    if (!code && !shape) {
        encoder = plan.encoder = tern_model_get_config(model)->task != TERN_TASK_GENERATE;
        if (encoder && s->has_decode)
            code = cli_error(CLI_USAGE, "%s is an encoder: there is nothing to --decode", bench.name);
    }
    plan.decode = encoder ? 0 : (int32_t)s->decode;
    if (!code)
        code = choose_contexts(&contexts, &plan.n_contexts, encoder, tern_model_get_config(model)->n_context, &plan);
    plan.contexts = contexts;
    if (!code)
        code = bench_measure(&bench, ctx);
    if (!code)
        code = s->json  ? bench_print_json(&bench, ctx)
               : s->csv ? bench_print_csv(&bench, ctx)
                        : bench_print_table(&bench, ctx);
    code = cli_trace_end(ctx, s->trace, code);
    bench_free(&bench);
    free(contexts);
    tern_model_close(&model);
    free(path);
    return code;
}

static int run(struct settings *s)
{
    const tern_model_shape *shape = s->shape ? cli_shape_find(s->shape) : NULL;
    const struct ranks_job job = { .model = s->model, .shape = shape, .dtype = s->dtype, .run = run_here, .user = s };

    if (s->shape && !shape)
        return CLI_USAGE;
    if (shape && shape->encoder && s->has_decode)
        return cli_error(CLI_USAGE, "%s is an encoder: there is nothing to --decode", s->shape);
    return ranks_run(s->tp, s->threads, &job);
}

int cmd_bench(int argc, char **argv)
{
    struct settings s = { .sequences = 1, .decode = 10, .runs = 5, .dtype = TERN_MODEL_AUTO };
    int code;

    if (!parse(&s, argc, argv, &code))
        return code;
    if (s.json && s.csv)
        return cli_error(CLI_USAGE, "bench takes --json or --csv, got both");
    return run(&s);
}
