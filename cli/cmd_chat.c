/* cmd_chat.c: tern chat: a conversation in the terminal, or through a pipe.
 *
 * Each turn the whole conversation is rendered and encoded anew, since a template may change what it made of earlier messages (it drops
 * old reasoning, say).  Ids that the sequence has read already, from the first one on, are not computed again. */
#include "chat_history.h"
#include "chat_options.h"
#include "cli.h"
#include "line_reader.h"
#include "options.h"
#include "ranks.h"
#include "sampling_options.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASTE_MILLISECONDS 20 /* lines of one paste come with less between them */

struct settings {
    const char *model, *template, *name, *tools, *system, *trace;
    struct option_texts set;
    int64_t n, threads, tp;
    struct sampling_settings sampling;
    int dtype;
    bool has_n, print_prompt, figures, quiet;
};

static enum option_outcome parse(struct settings *s, int argc, char **argv)
{
    const struct option options[] = {
        { 0, "system", "TEXT", "what the conversation begins with, as the system's message", OPTION_TEXT, &s->system,
          NULL, 0, 0, false },
        OPTION_TEMPLATE(&s->template),
        OPTION_NAME(&s->name),
        OPTION_TOOLS(&s->tools),
        OPTION_SET(&s->set),
        { 'n', "max-tokens", "N", "tokens of an answer; without it until it ends or the context is full", OPTION_INT,
          &s->n, &s->has_n, 0, 2147483647, false },
        OPTIONS_SAMPLING(&s->sampling),
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &s->threads, NULL, 0, 1024, false },
        OPTION_TP(&s->tp),
        OPTION_DTYPE(&s->dtype, NULL),
        { 0, "print-prompt", NULL, "print what the model gets before each answer: the rendered text, then its ids",
          OPTION_FLAG, &s->print_prompt, NULL, 0, 0, false },
        { 0, "figures", NULL, "tokens read and generated, and their speed, on stderr after each answer", OPTION_FLAG,
          &s->figures, NULL, 0, 0, false },
        OPTION_TRACE(&s->trace),
        { 'q', "quiet", NULL, "no notes on stderr", OPTION_FLAG, &s->quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "chat",
        .arguments = "[MODEL] [OPTIONS]",
        .about =
            "Talks with MODEL by its chat template.  On a terminal each line is a message (one that ends with \\ goes "
            "on\n"
            "in the next; what is pasted is one message), /help lists the commands, Ctrl-C stops an answer, Ctrl-D\n"
            "ends.  From a pipe or a file each line is a turn, and answers alone are printed.\n"
            "How tokens are chosen is the model's generation_config.json's to say, else greedy, unless options say "
            "otherwise.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s->model,
    };

    return options_parse(&line, argc, argv);
}

struct talk {
    const struct settings *s;
    tern_ctx *ctx;
    tern_tokenizer *tokenizer;
    tern_model *model;
    tern_session *session;
    tern_chat *chat;
    tern_chat_options render;
    tern_generate_options generate;
    tern_ids model_stops; /* the model's own */
    int32_t *stops;       /* n_stops of them, with the template's */
    size_t n_stops;
    struct chat_history history;
    int32_t sequence; /* -1: none yet */
    int32_t *read;    /* n_read ids that it has read */
    size_t n_read;
    bool terminal; /* messages are typed */
    bool failed;   /* stdout took no more */
    char last;     /* byte of the answer that was printed last */
};

/* ---- the prompt ------------------------------------------------------------------------------------------------------ */

static bool begins_with(const tern_ids *ids, const int32_t *prefix, size_t n)
{
    return ids->count >= n && memcmp(ids->data, prefix, n * sizeof(*prefix)) == 0;
}

/* What the tokenizer puts before a text (beginning of text), unless the template has written it.  What it puts behind a text is left out:
 * the text goes on. */
static int add_beginning(struct talk *t, const char *text, size_t size, tern_ids *ids)
{
    tern_ids with = { 0 };
    const tern_status status = tern_tokenizer_encode(t->ctx, t->tokenizer, text, size, true, &with);
    size_t n = 0;

    if (status)
        return cli_fail(status, tern_error(t->ctx));
    while (n + ids->count <= with.count && memcmp(with.data + n, ids->data, ids->count * sizeof(*ids->data)) != 0)
        n++;
    if (n == 0 || n + ids->count > with.count || begins_with(ids, with.data, n)) {
        tern_ids_free(&with);
        return 0;
    }
    with.count = n + ids->count;
    tern_ids_free(ids);
    *ids = with;
    return 0;
}

static void print_prompt(struct talk *t, const char *text, size_t size, const tern_ids *ids)
{
    bool good = cli_print(text, size) && cli_print("\n[", 2);

    for (size_t i = 0; good && i < ids->count; i++) {
        char number[16];

        snprintf(number, sizeof(number), "%s%" PRId32, i ? ", " : "", ids->data[i]);
        good = cli_print(number, strlen(number));
    }
    t->failed = !good || !cli_print("]\n", 2);
}

/* The conversation as ids. */
static int make_prompt(struct talk *t, tern_ids *ids)
{
    char *messages = NULL, *text = NULL;
    size_t size = 0, n = 0;
    int code = chat_history_json(&t->history, &messages, &size);
    tern_status status = TERN_OK;

    if (!code)
        status = tern_chat_render(t->ctx, t->chat, messages, size, &t->render, &text, &n);
    if (!code && !status)
        status = tern_tokenizer_encode(t->ctx, t->tokenizer, text, n, false, ids);
    if (status)
        code = cli_fail(status, tern_error(t->ctx));
    if (!code)
        code = add_beginning(t, text, n, ids);
    if (!code && t->s->print_prompt)
        print_prompt(t, text, n, ids);
    if (!code && ids->count == 0)
        code = cli_error(CLI_FAIL, "the template makes no text of this conversation");
    tern_chat_text_free(text);
    free(messages);
    return code;
}

/* ---- what ends an answer ---------------------------------------------------------------------------------------------- */

/* The special token that the template writes behind an answer, found by letting it write one: -1 if there is none, or if it does not
 * take such a conversation. */
static int32_t end_of_turn(struct talk *t)
{
    static const char probe[] = "{answer}",
                      messages[] = "[{\"role\":\"user\",\"content\":\"{question}\"},{\"role\":\"assistant\","
                                   "\"content\":\"{answer}\"}]";
    tern_chat_options options = t->render;
    tern_ids ids = { 0 };
    const char *bytes, *behind;
    char *text = NULL;
    size_t size;
    bool special = false;
    int32_t id = -1;

    options.add_generation_prompt = false;
    if (tern_chat_render(t->ctx, t->chat, messages, sizeof(messages) - 1, &options, &text, NULL))
        return -1;
    behind = strstr(text, probe);
    if (behind) {
        behind += sizeof(probe) - 1;
        behind += strspn(behind, " \t\r\n");
        if (*behind && tern_tokenizer_encode(t->ctx, t->tokenizer, behind, strlen(behind), false, &ids) == TERN_OK &&
            ids.count > 0 &&
            tern_tokenizer_token(t->ctx, t->tokenizer, ids.data[0], &bytes, &size, &special) == TERN_OK && special)
            id = ids.data[0];
    }
    tern_ids_free(&ids);
    tern_chat_text_free(text);
    return id;
}

/* The model's end-of-text ids, the tokenizer's, and the template's end of a turn. */
static int find_stops(struct talk *t)
{
    const char *eos = tern_chat_special(t->chat, "eos_token");
    const int32_t more[] = { eos ? tern_tokenizer_find(t->tokenizer, eos) : -1, end_of_turn(t) };

    if (t->s->sampling.ignore_eos)
        return 0;
    t->stops = malloc((t->generate.n_stop_ids + 2) * sizeof(*t->stops));
    if (!t->stops)
        return cli_error(CLI_FAIL, "out of memory for ids that end an answer");
    for (size_t i = 0; i < t->generate.n_stop_ids; i++)
        t->stops[t->n_stops++] = t->generate.stop_ids[i];
    for (size_t i = 0; i < 2; i++)
        if (more[i] >= 0)
            t->stops[t->n_stops++] = more[i];
    t->generate.stop_ids = t->stops;
    t->generate.n_stop_ids = t->n_stops;
    return 0;
}

/* ---- an answer -------------------------------------------------------------------------------------------------------- */

static bool on_token(void *user, int32_t id, float logprob, const char *text, size_t size)
{
    struct talk *t = user;

    (void)id, (void)logprob;
    if (size) {
        t->last = text[size - 1];
        t->failed = t->failed || !cli_print(text, size);
    }
    return !t->failed;
}

/* The ids that prompt and sequence begin with alike stay in the sequence. */
static int keep_common(struct talk *t, const tern_ids *prompt)
{
    size_t n = 0;

    while (n < prompt->count && n < t->n_read && prompt->data[n] == t->read[n])
        n++;
    if (t->sequence < 0)
        return 0;
    t->n_read = n;
    const tern_status status = tern_sequence_truncate(t->session, t->sequence, (int64_t)n);
    return status ? cli_fail(status, tern_session_error(t->session)) : 0;
}

/* What the sequence has read of prompt and answer by now. */
static int note_read(struct talk *t, const tern_ids *prompt, const tern_generation *g)
{
    const int64_t length = t->sequence < 0 ? 0 : tern_sequence_length(t->session, t->sequence);
    int32_t *data = malloc(((size_t)length + 1) * sizeof(*data));

    if (!data)
        return cli_error(CLI_FAIL, "out of memory for %" PRId64 " ids", length);
    for (size_t i = 0; i < (size_t)length; i++)
        data[i] = i < prompt->count ? prompt->data[i] : g->ids.data[i - prompt->count];
    free(t->read);
    t->read = data;
    t->n_read = (size_t)length;
    return 0;
}

static void print_figures(size_t n_prompt, const tern_generation *g)
{
    const tern_timing *time = &g->timing;

    fprintf(stderr,
            "prompt %zu tokens, %" PRIu64
            " of them new, at %.1f tokens/s; answer %zu tokens at %.1f tokens/s, ended by %s\n",
            n_prompt, time->prefill_tokens,
            time->prefill_seconds > 0 ? (double)time->prefill_tokens / time->prefill_seconds : 0.0, g->ids.count,
            time->decode_seconds > 0 ? (double)time->decode_tokens / time->decode_seconds : 0.0,
            tern_finish_name(g->finish));
}

/* Lets the model answer the conversation as it is.  Ctrl-C: what there is of the answer counts. */
static int answer(struct talk *t)
{
    tern_ids prompt = { 0 };
    tern_generation g = { 0 };
    int code = make_prompt(t, &prompt);

    if (!code)
        code = keep_common(t, &prompt);
    if (!code) {
        t->last = '\0';
        const tern_status status = tern_generate(t->session, t->tokenizer, prompt.data, prompt.count, &t->generate, &g);

        code = status ? cli_fail(status, tern_session_error(t->session)) : note_read(t, &prompt, &g);
        if (status == TERN_ERR_CAPACITY && t->terminal && !t->s->quiet)
            fputs("tern: note: the message is left out; /undo and /reset make room\n", stderr);
    }
    if (!code && t->last != '\n' && !t->failed)
        t->failed = !cli_print("\n", 1);
    if (!code && t->failed)
        code = CLI_FAIL;
    if (!code && t->s->figures)
        print_figures(prompt.count, &g);
    if (!code && g.finish == TERN_FINISH_LENGTH && !t->s->has_n && !t->s->quiet)
        fputs("tern: note: the context is full; /undo or /reset makes room\n", stderr);
    if (!code && g.finish == TERN_FINISH_CANCELLED && g.text_size == 0) /* as if it had never been asked */
        chat_history_cut(&t->history, t->history.count - 1);
    else if (!code)
        code = chat_history_add(&t->history, "assistant", g.text ? g.text : "", g.text_size);
    tern_generation_free(&g);
    tern_ids_free(&prompt);
    return code;
}

/* A message, and the answer to it; after an error the message is gone again. */
static int turn(struct talk *t, const char *text, size_t size)
{
    const size_t before = t->history.count;
    tern_ids ids = { 0 };
    /* What is no UTF-8 is told with its place in the message. */
    const tern_status status = tern_tokenizer_encode(t->ctx, t->tokenizer, text, size, false, &ids);
    int code = status ? cli_fail(status, tern_error(t->ctx)) : 0;

    tern_ids_free(&ids);
    if (!code)
        code = chat_history_add(&t->history, "user", text, size);
    if (!code)
        code = answer(t);
    if (code)
        chat_history_cut(&t->history, before);
    return code;
}

/* ---- commands --------------------------------------------------------------------------------------------------------- */

static const char help[] = "/help          this list\n"
                           "/reset         begin anew; the system's message stays\n"
                           "/system TEXT   the system's message from now on; without TEXT there is none\n"
                           "/undo          take the last message and its answer back\n"
                           "/retry         another answer to the last message\n"
                           "/show          the conversation so far\n"
                           "/save FILE     write it as a JSON array of messages\n"
                           "/load FILE     go on with one that was written\n"
                           "/quit, /exit   end; so does Ctrl-D\n"
                           "//TEXT         a message that begins with /\n";

static int retry(struct talk *t)
{
    const size_t user = chat_history_last(&t->history, 'u');

    if (user == t->history.count)
        return cli_error(CLI_FAIL, "/retry: there is no message yet");
    chat_history_cut(&t->history, user + 1);
    t->generate.sampling.seed++; /* another draw */
    return answer(t);
}

static int undo(struct talk *t)
{
    const size_t user = chat_history_last(&t->history, 'u');

    if (user == t->history.count)
        return cli_error(CLI_FAIL, "/undo: there is no message yet");
    chat_history_cut(&t->history, user);
    return 0;
}

static int load(struct talk *t, const char *file)
{
    const int code = chat_history_load(t->ctx, &t->history, file);

    if (!code && !t->s->quiet)
        fprintf(stderr, "%zu messages\n", t->history.count);
    return code;
}

/* A line that begins with /.  *ended: nothing follows. */
static int command(struct talk *t, const char *line, bool *ended)
{
    const size_t n = strcspn(line, " ");
    const char *rest = line + n + strspn(line + n, " ");
#define IS(name) (n == sizeof(name) - 1 && memcmp(line, name, n) == 0)

    if (IS("/help"))
        fputs(help, stderr);
    else if (IS("/reset"))
        chat_history_cut(&t->history, t->history.count > 0 && t->history.data[0].role == 's');
    else if (IS("/system"))
        return chat_history_system(&t->history, rest);
    else if (IS("/undo"))
        return undo(t);
    else if (IS("/retry"))
        return retry(t);
    else if (IS("/show"))
        return chat_history_show(t->ctx, &t->history);
    else if ((IS("/save") || IS("/load")) && !*rest)
        return cli_error(CLI_FAIL, "%.5s wants a FILE", line);
    else if (IS("/save"))
        return chat_history_save(&t->history, rest);
    else if (IS("/load"))
        return load(t, rest);
    else if (IS("/quit") || IS("/exit"))
        *ended = true;
    else
        return cli_error(CLI_FAIL, "there is no command '%.*s'; /help lists them", (int)n, line);
    return 0;
#undef IS
}

/* ---- the conversation ------------------------------------------------------------------------------------------------- */

static void prompt_user(const struct talk *t, bool more)
{
    if (t->terminal) {
        fputs(more ? ". " : "> ", stderr);
        fflush(stderr);
    }
}

/* A message in the making. */
struct message {
    char *text; /* NULL: not begun */
    size_t size;
};

static void forget(struct message *m)
{
    free(m->text);
    *m = (struct message){ 0 };
}

/* more: a newline, and something that follows it. */
static int add_line(struct message *m, const char *line, size_t n, bool more)
{
    char *grown = realloc(m->text, m->size + n + 2);

    if (!grown)
        return cli_error(CLI_FAIL, "out of memory for a message");
    memcpy(grown + m->size, line, n);
    m->size += n;
    if (more)
        grown[m->size++] = '\n';
    grown[m->size] = '\0';
    m->text = grown;
    return 0;
}

/* What to do with a whole message: 0 or the exit code. */
static int take(struct talk *t, const char *message, size_t size, bool *ended)
{
    int code = 0;

    if (strspn(message, " \t\r") == size)
        return 0;
    if (message[0] == '/' && message[1] != '/')
        code = command(t, message, ended);
    else
        code = turn(t, message + (message[0] == '/'), size - (message[0] == '/'));
    return code;
}

/* A signal at the prompt or during an answer: 0 to go on, else the exit code. */
static int on_interrupt(struct talk *t, bool at_prompt, bool *warned)
{
    const int number = cli_signal();

    if (number != SIGINT || !t->terminal || (at_prompt && *warned))
        return CLI_SIGNAL + number;
    cli_signal_forget();
    if (at_prompt)
        fputs("\n(Ctrl-C again, /quit or Ctrl-D ends)\n", stderr);
    *warned = at_prompt;
    return 0;
}

/* A line that ends with \ on a terminal goes on in the next.  So do lines that come at once, which nobody types: they were pasted, and
 * are one message; but not those that wait already when the prompt appears (ahead). */
static int take_line(const struct talk *t, struct line_reader *in, struct message *m, char *line, size_t n, bool ahead,
                     bool *more)
{
    *more = false;
    if (t->terminal && n >= LINE_OF_TERMINAL)
        return cli_error(
            CLI_FAIL,
            "the terminal gives %d bytes of a line at most, and the rest of this one is lost: break it with "
            "\\, or /load it from a file",
            LINE_OF_TERMINAL);
    if (n > 0 && line[n - 1] == '\r')
        n--;
    const bool command = !m->text && n > 0 && line[0] == '/';
    const bool pasted = t->terminal && !ahead && !command && line_waiting(in, PASTE_MILLISECONDS);
    const bool goes_on = t->terminal && !pasted && n > 0 && line[n - 1] == '\\';
    *more = pasted || goes_on;
    return add_line(m, line, n - goes_on, *more);
}

static int converse(struct talk *t)
{
    struct line_reader in = { 0 };
    struct message m = { 0 };
    char *line = NULL;
    size_t n = 0;
    bool ended = false, warned = false, more = false, ahead = false;
    int code = 0, result = 0;

    while (!ended && !code) {
        if (!more)
            ahead = line_waiting(&in, 0);
        if (!more || !line_waiting(&in, 0))
            prompt_user(t, more);
        const enum line_outcome outcome = line_read(&in, &line, &n);

        if (outcome == LINE_SIGNAL) {
            code = on_interrupt(t, true, &warned);
            forget(&m);
            more = false;
            continue;
        }
        if (outcome != LINE_READ) {
            code = outcome == LINE_FAILED ? CLI_FAIL : 0;
            break;
        }
        warned = false;
        code = take_line(t, &in, &m, line, n, ahead, &more);
        if (!code && more)
            continue;
        if (!code)
            code = take(t, m.text, m.size, &ended);
        forget(&m);
        more = false;
        if (cli_signal())
            code = on_interrupt(t, false, &warned);
        if (code == CLI_FAIL && t->terminal && !t->failed)
            code = 0; /* it has been told, and the conversation goes on */
        result = code ? code : result;
    }
    if (t->terminal && !code && !ended)
        fputs("\n", stderr); /* behind Ctrl-D */
    forget(&m);
    line_reader_free(&in);
    return code ? code : result;
}

static int prepare(struct talk *t, struct cli_text *tools, char **variables, tern_logit_bias **biases)
{
    const tern_session_options session = tern_session_options_default();
    const struct settings *s = t->s;
    int code = chat_file_read(s->tools, tools);

    if (!code)
        code = chat_variables(&s->set, variables);
    if (code)
        return code;
    t->render = tern_chat_options_default();
    t->render.name = s->name;
    t->render.tools = tools->data;
    t->render.variables = *variables;
    code = sampling_prepare(&s->sampling, t->ctx, t->model, s->has_n ? s->n : -1, s->quiet, &t->generate,
                            &t->model_stops, biases);
    if (!code)
        code = find_stops(t);
    t->generate.on_token = on_token;
    t->generate.user = t;
    t->generate.sequence = &t->sequence;
    if (!code && t->terminal && !s->quiet && !s->sampling.has_seed && t->generate.sampling.temperature > 0)
        fprintf(stderr, "seed %" PRIu64 "\n", t->generate.sampling.seed);
    if (!code && s->system)
        code = chat_history_system(&t->history, s->system);
    return code ? code : cli_session_open(t->ctx, t->model, &session, &t->session);
}

static int run_here(void *user, tern_ctx *ctx)
{
    struct settings *s = user;
    struct talk t = { .s = s, .ctx = ctx, .sequence = -1, .terminal = isatty(STDIN_FILENO) };
    struct cli_text tools = { 0 };
    tern_logit_bias *biases = NULL;
    char *path = NULL, *variables = NULL;
    int code = cli_trace_start(t.ctx, s->trace);
    if (!code)
        code = cli_model_find(t.ctx, s->model, &path);
    if (!code)
        code = chat_open(t.ctx, path, s->template, &t.chat);
    if (!code)
        code = cli_open_both(t.ctx, path, s->dtype, !s->quiet, &t.tokenizer, &t.model);
    if (!code)
        code = prepare(&t, &tools, &variables, &biases);
    if (!code)
        code = converse(&t);
    code = cli_trace_end(t.ctx, s->trace, code);
    cli_session_close(&t.session);
    chat_history_free(&t.history);
    free(t.read);
    free(t.stops);
    tern_ids_free(&t.model_stops);
    tern_chat_close(&t.chat);
    tern_tokenizer_close(&t.tokenizer);
    tern_model_close(&t.model);
    sampling_free(&s->sampling, biases);
    cli_text_free(&tools);
    free(variables);
    free(path);
    return code;
}

int cmd_chat(int argc, char **argv)
{
    struct settings s = { 0 };
    const enum option_outcome outcome = parse(&s, argc, argv);
    const struct ranks_job job = { .model = s.model, .dtype = s.dtype, .run = run_here, .user = &s };
    const int code = outcome == OPTION_PARSED ? ranks_run(s.tp, s.threads, &job) : options_exit(outcome);

    sampling_free(&s.sampling, NULL);
    option_texts_free(&s.set);
    return code;
}
