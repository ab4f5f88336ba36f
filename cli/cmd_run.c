/* cmd_run.c: tern run: a prompt is continued, and the text streams to stdout. */
#include "cli.h"
#include "json_out.h"
#include "options.h"
#include "ranks.h"
#include "sampling_options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

struct settings {
    const char *model, *p, *f, *trace;
    int64_t n, threads, tp;
    struct sampling_settings sampling;
    int dtype;
    bool logprobs, echo, json, quiet;
    bool has_n;
};

static enum option_outcome parse(struct settings *s, int argc, char **argv)
{
    const struct option options[] = {
        { 'p', "prompt", "TEXT", "the prompt", OPTION_TEXT, &s->p, NULL, 0, 0, false },
        { 'f', "file", "FILE", "the prompt is in FILE, its bytes as they are; - is stdin", OPTION_TEXT, &s->f, NULL, 0,
          0, false },
        { 'n', "max-tokens", "N", "tokens to generate; without it until end-of-text or a full context", OPTION_INT,
          &s->n, &s->has_n, 0, 2147483647, false },
        OPTIONS_SAMPLING(&s->sampling),
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &s->threads, NULL, 0, 1024, false },
        OPTION_TP(&s->tp),
        OPTION_DTYPE(&s->dtype, NULL),
        { 0, "logprobs", NULL, "log-probability of each token: in the object with --json, else on stderr", OPTION_FLAG,
          &s->logprobs, NULL, 0, 0, false },
        { 0, "echo", NULL, "print the prompt first", OPTION_FLAG, &s->echo, NULL, 0, 0, false },
        OPTION_TRACE(&s->trace),
        { 0, "json", NULL, "print one JSON object at the end instead of the text", OPTION_FLAG, &s->json, NULL, 0, 0,
          false },
        { 'q', "quiet", NULL, "neither progress bar nor figures on stderr", OPTION_FLAG, &s->quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "run",
        .arguments = "[MODEL] [-p TEXT | -f FILE] [OPTIONS]",
        .about =
            "Continues a prompt.  Without MODEL: the built-in one (its folder is looked for in $TERN_MODELS if that is "
            "set).\n"
            "Without -p and -f the prompt is read from stdin.\n"
            "How tokens are chosen is the model's generation_config.json's to say, else greedy, unless options say "
            "otherwise.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s->model,
    };

    return options_parse(&line, argc, argv);
}

/* ---- what comes out -------------------------------------------------------------------------------------------------- */

struct answer {
    const struct cli_text *echo; /* printed before the first token, so that an error comes alone; then NULL */
    bool json;
    bool failed; /* stdout took no more */
    char last;   /* byte that was printed last */
};

static void print_text(struct answer *answer, const char *text, size_t size)
{
    if (!size)
        return;
    answer->last = text[size - 1];
    if (!cli_print(text, size))
        answer->failed = true;
}

static void print_echo(struct answer *answer)
{
    if (answer->echo)
        print_text(answer, answer->echo->data, answer->echo->size);
    answer->echo = NULL;
}

static bool on_token(void *user, int32_t id, float logprob, const char *text, size_t size)
{
    struct answer *answer = user;

    (void)id, (void)logprob;
    if (!answer->json) {
        print_echo(answer);
        print_text(answer, text, size);
    }
    return !answer->failed;
}

static double rate(uint64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

static int print_object(const struct settings *s, const tern_ids *prompt, const tern_generation *g, double load_seconds)
{
    struct json_out j;

    if (out_begin(&j))
        return CLI_FAIL;
    out_object_begin(&j, NULL);
    out_ids(&j, "prompt_ids", prompt->data, prompt->count);
    out_ids(&j, "ids", g->ids.data, g->ids.count);
    if (s->logprobs) {
        out_array_begin(&j, "logprobs");
        for (size_t i = 0; i < g->ids.count; i++)
            out_number(&j, NULL, (double)g->logprobs[i], 9);
        out_array_end(&j);
    }
    out_text(&j, "text", g->text ? g->text : "", g->text_size);
    out_name(&j, "finish_reason", tern_finish_name(g->finish));
    out_object_begin(&j, "timing");
    out_number(&j, "load_s", load_seconds, 6);
    out_uint(&j, "prefill_tokens", g->timing.prefill_tokens);
    out_number(&j, "prefill_tokens_per_s", rate(g->timing.prefill_tokens, g->timing.prefill_seconds), 6);
    out_uint(&j, "decode_tokens", g->timing.decode_tokens);
    out_number(&j, "decode_tokens_per_s", rate(g->timing.decode_tokens, g->timing.decode_seconds), 6);
    out_uint(&j, "peak_rss_bytes", cli_peak_rss());
    out_object_end(&j);
    out_object_end(&j);
    return out_end(&j, true);
}

static void print_logprobs(tern_ctx *ctx, const tern_tokenizer *tokenizer, const tern_generation *g)
{
    for (size_t i = 0; i < g->ids.count; i++) {
        const char *bytes = "";
        size_t size = 0;
        bool special = false;
        struct json_out j = { .f = stderr };

        fprintf(stderr, "%" PRId32 "\t%.6f\t", g->ids.data[i], (double)g->logprobs[i]);
        if (tern_tokenizer_token(ctx, tokenizer, g->ids.data[i], &bytes, &size, &special) == TERN_OK)
            out_text(&j, NULL, bytes, size);
        putc('\n', stderr);
    }
}

static void print_figures(tern_ctx *ctx, const tern_timing *t, double load_seconds)
{
    const int threads = tern_ctx_threads(ctx);

    fprintf(stderr,
            "load %.3f s, prefill %" PRIu64 " tokens at %.1f tokens/s, decode %" PRIu64 " tokens at %.1f tokens/s, "
            "%d thread%s (%s), %s\n",
            load_seconds, t->prefill_tokens, rate(t->prefill_tokens, t->prefill_seconds), t->decode_tokens,
            rate(t->decode_tokens, t->decode_seconds), threads, threads == 1 ? "" : "s", ranks_threads_reason(ctx),
            tern_ctx_isa(ctx));
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

/* Room for what is asked for, not for all that the model could hold.  A request beyond the context gets the whole of it, and
 * its error from tern_generate(), which knows both numbers. */
static int open_session(const struct settings *s, tern_ctx *ctx, const tern_model *model, size_t n_prompt,
                        tern_session **session)
{
    tern_session_options options = tern_session_options_default();
    const int64_t n_context = tern_model_get_config(model)->n_context;

    if (s->has_n && s->n < n_context && n_prompt <= (size_t)(n_context - s->n))
        options.n_positions = (int64_t)n_prompt + s->n;
    return cli_session_open(ctx, model, &options, session);
}

static int generate(struct settings *s, const struct cli_text *text, tern_ctx *ctx, const tern_tokenizer *tokenizer,
                    const tern_model *model, double began)
{
    struct answer answer = { .echo = s->echo ? text : NULL, .json = s->json };
    tern_generate_options options;
    tern_ids prompt = { 0 }, stop_ids = { 0 };
    tern_session *session = NULL;
    tern_generation g = { 0 };
    tern_logit_bias *biases = NULL;
    tern_status status = tern_tokenizer_encode(ctx, tokenizer, text->data ? text->data : "", text->size, true, &prompt);
    int code = status ? cli_fail(status, tern_error(ctx)) : 0;

    if (!code && prompt.count == 0)
        code = cli_error(CLI_FAIL, "the prompt has no token ids: there is nothing to continue");
    if (!code)
        code = sampling_prepare(&s->sampling, ctx, model, s->has_n ? s->n : -1, s->quiet, &options, &stop_ids, &biases);
    if (!code)
        code = open_session(s, ctx, model, prompt.count, &session);
    const double load_seconds = cli_seconds() - began;
    if (!code) {
        options.on_token = on_token;
        options.user = &answer;
        status = tern_generate(session, tokenizer, prompt.data, prompt.count, &options, &g);
        if (status && status != TERN_ERR_CANCELLED)
            code = cli_fail(status, tern_session_error(session));
        else
            print_echo(&answer);
        if (!code && answer.failed)
            code = CLI_FAIL;
        if (!code) {
            if (s->json)
                code = print_object(s, &prompt, &g, load_seconds);
            else if (isatty(STDOUT_FILENO) && answer.last && answer.last != '\n')
                fputs("\n", stderr); /* the cursor's line is not full: what follows here starts a new one */
            if (s->logprobs && !s->json)
                print_logprobs(ctx, tokenizer, &g);
            if (!code && !s->quiet && !s->sampling.has_seed && options.sampling.temperature > 0)
                fprintf(stderr, "seed %" PRIu64 "%s", options.sampling.seed, s->json ? "\n" : ", ");
            if (!s->quiet && !s->json)
                print_figures(ctx, &g.timing, load_seconds);
        }
        if (cli_signal())
            code = CLI_SIGNAL + cli_signal();
    }
    cli_session_close(&session);
    tern_generation_free(&g);
    tern_ids_free(&stop_ids);
    tern_ids_free(&prompt);
    sampling_free(&s->sampling, biases);
    return code;
}

static int run_here(void *user, tern_ctx *ctx)
{
    struct settings *s = user;
    struct cli_text text = { 0 };
    tern_tokenizer *tokenizer = NULL;
    tern_model *model = NULL;
    char *path = NULL;
    int code = cli_text_read("run", s->p, s->f, &text);
    const double began = cli_seconds();

    if (!code)
        code = cli_trace_start(ctx, s->trace);
    if (!code)
        code = cli_model_find(ctx, s->model, &path);
    if (!code)
        code = cli_open_both(ctx, path, s->dtype, !s->quiet, &tokenizer, &model);
    if (!code)
        code = generate(s, &text, ctx, tokenizer, model, began);
    code = cli_trace_end(ctx, s->trace, code);
    tern_tokenizer_close(&tokenizer);
    tern_model_close(&model);
    cli_text_free(&text);
    free(path);
    return code;
}

static int run(struct settings *s)
{
    const struct ranks_job job = { .model = s->model, .dtype = s->dtype, .run = run_here, .user = s };

    if (s->echo && s->json)
        return cli_error(CLI_USAGE, "run takes --echo or --json, got both: the object has the prompt's ids");
    return ranks_run(s->tp, s->threads, &job);
}

int cmd_run(int argc, char **argv)
{
    struct settings s = { 0 };
    const enum option_outcome outcome = parse(&s, argc, argv);
    const int code = outcome == OPTION_PARSED ? run(&s) : options_exit(outcome);

    sampling_free(&s.sampling, NULL);
    return code;
}
