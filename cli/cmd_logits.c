/* cmd_logits.c: tern logits: the scores after every position of a text. */
#include "cli.h"
#include "npy.h"
#include "options.h"
#include "ranks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Scores of one step take at most this much memory. */
#define CHUNK_BYTES (32 << 20)

static int ids_of_text(tern_ctx *ctx, const char *path, const struct cli_text *text, tern_ids *ids)
{
    tern_tokenizer *tokenizer = NULL;
    tern_status status = tern_tokenizer_open(ctx, path, &tokenizer);

    if (!status)
        status = tern_tokenizer_encode(ctx, tokenizer, text->data ? text->data : "", text->size, true, ids);
    tern_tokenizer_close(&tokenizer);
    return status ? cli_fail(status, tern_error(ctx)) : 0;
}

static int write_scores(tern_ctx *ctx, const tern_model *model, const int32_t *ids, size_t n_ids, const char *name,
                        bool bar)
{
    const tern_model_config *config = tern_model_get_config(model);
    const int64_t chunk_max = CHUNK_BYTES / 4 / config->vocab_size;
    const int32_t chunk = chunk_max < 1 ? 1 : chunk_max > 256 ? 256 : (int32_t)chunk_max;
    tern_session_options options = tern_session_options_default();
    tern_session *session = NULL;
    struct npy npy = { .fd = -1 };
    int32_t sequence;
    int code;

    if (n_ids > (size_t)config->n_context)
        return cli_error(CLI_FAIL, "the text has %zu tokens, the model reads at most %d", n_ids, config->n_context);
    options.max_batch = options.max_logits = chunk;
    code = cli_session_open(ctx, model, &options, &session);
    if (!code)
        code = npy_create(&npy, name, (int64_t)n_ids, config->vocab_size);
    if (!code && (tern_sequence_add(session, &sequence) || tern_sequence_plan(session, sequence, (int64_t)n_ids)))
        code = cli_fail(TERN_ERR_CAPACITY, tern_session_error(session));
    for (size_t done = 0; !code && done < n_ids;) {
        const size_t left = n_ids - done;
        const int32_t n = left < (size_t)chunk ? (int32_t)left : chunk;
        const tern_row row = { sequence, ids + done, n, TERN_LOGITS_ALL };
        const tern_status status = tern_session_step(session, &row, 1);

        if (status)
            code = cli_fail(status, tern_session_error(session));
        for (int32_t i = 0; !code && i < n; i++)
            code = npy_write(&npy, tern_session_logits(session, 0, i), (size_t)config->vocab_size);
        done += (size_t)n;
        if (bar)
            cli_progress("reading", done, n_ids);
    }
    if (bar)
        cli_progress_end();
    if (!code)
        code = npy_commit(&npy);
    npy_abort(&npy);
    cli_session_close(&session);
    return code;
}

struct settings {
    const char *model, *p, *f, *list, *output;
    int64_t threads, tp;
    int dtype;
    bool quiet;
};

static enum option_outcome parse(struct settings *s, int argc, char **argv)
{
    const struct option options[] = {
        { 'p', "prompt", "TEXT", "the text", OPTION_TEXT, &s->p, NULL, 0, 0, false },
        { 'f', "file", "FILE", "the text is in FILE; - is stdin", OPTION_TEXT, &s->f, NULL, 0, 0, false },
        { 0, "ids", "1,2,3", "token ids instead of a text: no tokenizer is needed", OPTION_TEXT, &s->list, NULL, 0, 0,
          false },
        { 'o', "output", "FILE.npy", "where to; - is stdout", OPTION_TEXT, &s->output, NULL, 0, 0, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &s->threads, NULL, 0, 1024, false },
        OPTION_TP(&s->tp),
        OPTION_DTYPE(&s->dtype, NULL),
        { 'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &s->quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "logits",
        .arguments = "MODEL (-p TEXT | -f FILE | --ids 1,2,3) -o FILE.npy [OPTIONS]",
        .about =
            "Writes the model's scores as a float32 matrix [tokens, vocabulary] in NumPy's format: row t scores what\n"
            "follows token t.  An existing FILE is replaced only when all of the new one is written.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s->model,
        .model_required = true,
    };

    return options_parse(&line, argc, argv);
}

static int run_here(void *user, tern_ctx *ctx)
{
    const struct settings *s = user;
    struct cli_text text = { 0 };
    tern_model *model = NULL;
    tern_ids from_text = { 0 };
    int32_t *given = NULL;
    size_t n_given = 0;
    char *path = NULL;
    int code = s->list ? cli_ids_parse("--ids", s->list, &given, &n_given) : cli_text_read("logits", s->p, s->f, &text);

    if (!code)
        code = cli_model_find(ctx, s->model, &path);
    if (!code && !s->list)
        code = ids_of_text(ctx, path, &text, &from_text);
    if (!code && (s->list ? n_given : from_text.count) == 0)
        code = cli_error(CLI_FAIL, "the text has no token ids: there is nothing to score");
    if (!code)
        code = cli_model_open(ctx, path, s->dtype, !s->quiet, &model);
    if (!code)
        code = write_scores(ctx, model, s->list ? given : from_text.data, s->list ? n_given : from_text.count,
                            s->output, !s->quiet);
    tern_model_close(&model);
    tern_ids_free(&from_text);
    cli_text_free(&text);
    free(given);
    free(path);
    return code;
}

int cmd_logits(int argc, char **argv)
{
    struct settings s = { .dtype = TERN_MODEL_AUTO };
    const enum option_outcome outcome = parse(&s, argc, argv);

    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    if (!s.output || !*s.output)
        return cli_error(CLI_USAGE, "logits wants -o FILE.npy");
    if (s.list && (s.p || s.f))
        return cli_error(CLI_USAGE, "logits takes a text or --ids, got both");
    if (strcmp(s.output, "-") == 0 && isatty(STDOUT_FILENO))
        return cli_error(CLI_USAGE, "logits -o - writes binary data, and stdout is a terminal");
    const struct ranks_job job = { .model = s.model, .dtype = s.dtype, .run = run_here, .user = &s };
    return ranks_run(s.tp, s.threads, &job);
}
