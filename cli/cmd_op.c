/* cmd_op.c: tern op: one operator, kernel function or module on NumPy files. */
#include "cli.h"
#include "op_job.h"

#include <stdlib.h>
#include <string.h>

static int settings_read(struct op_job *job, const char *config, const struct option_texts *sets)
{
    const int index = job->subject.index;

    if (config) {
        struct cli_text text;
        const int code = cli_text_read("op", NULL, config, &text);

        if (code)
            return code;
        const tern_status status =
            tern_op_settings_parse(job->ctx, index, text.data ? text.data : "", text.size, config, &job->settings);
        cli_text_free(&text);
        if (status)
            return cli_fail(status, tern_error(job->ctx));
    }
    for (size_t i = 0; i < sets->count; i++) {
        const char *value = strchr(sets->data[i], '=');

        if (!value || value == sets->data[i])
            return cli_error(CLI_USAGE, "--set wants KEY=VALUE, got '%s'", sets->data[i]);
        char *key = strndup(sets->data[i], (size_t)(value - sets->data[i]));
        if (!key)
            return cli_error(CLI_FAIL, "out of memory for --set");
        const tern_status status = tern_op_settings_set(job->ctx, index, &job->settings, key, value + 1);
        free(key);
        if (status)
            return cli_error(status == TERN_ERR_UNSUPPORTED ? CLI_UNSUPPORTED : CLI_FAIL, "--set %s: %s", sets->data[i],
                             tern_error(job->ctx));
    }
    return 0;
}

/* What was read from stdin once is gone. */
static int stdin_check(const char *config, const struct option_texts *ins)
{
    int n = config && strcmp(config, "-") == 0;

    for (size_t i = 0; i < ins->count; i++) {
        const char *file = strchr(ins->data[i], '=');
        n += file && strcmp(file, "=-") == 0;
    }
    return n <= 1 ? 0 : cli_error(CLI_USAGE, "stdin is given %d times, expected once, for --config or one --in", n);
}

static int fail_subject(const char *name)
{
    struct op_subject s;
    char known[2048] = "";
    size_t n = 0;

    for (int i = 0; op_subject_at(i, &s) && n < sizeof(known); i++)
        n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", s.name);
    return cli_error(CLI_UNSUPPORTED, "unsupported transformer operation: %s; there are: %s", name, known);
}

static int run_job(struct op_job *job, const char *config, const struct option_texts *sets,
                   const struct option_texts *ins, const struct option_texts *outs)
{
    int code = settings_read(job, config, sets);

    if (!code)
        code = op_slots_read(job, ins, false);
    if (!code)
        code = op_slots_read(job, outs, true);
    if (!code)
        code = job->subject.run(job);
    return code ? code : op_slots_write(job);
}

int cmd_op(int argc, char **argv)
{
    const char *config = NULL;
    struct option_texts sets = { 0 }, ins = { 0 }, outs = { 0 };
    struct op_subject subject;
    bool known = false;
    int64_t threads = 0;
    int code = 0;
    const struct option options[] = {
        { 0, "config", "FILE.json", "an object of keys and values; - is stdin", OPTION_TEXT, &config, NULL, 0, 0,
          false },
        { 0, "set", "KEY=VALUE", "one key, after those of --config; again for more", OPTION_TEXTS, &sets, NULL, 0, 0,
          false },
        { 0, "in", "NAME=FILE.npy", "an input; again for more", OPTION_TEXTS, &ins, NULL, 0, 0, false },
        { 0, "out", "NAME=FILE.npy", "a result; again for more", OPTION_TEXTS, &outs, NULL, 0, 0, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &threads, NULL, 0, 1024, false },
    };
    struct command_line line = {
        .command = "op",
        .arguments = "NAME [--config FILE.json] [--set KEY=VALUE]... --in NAME=FILE.npy... --out NAME=FILE.npy...",
        .about = "Runs one operator, kernel function or module on NumPy files (format 1.0 or 2.0; float32, float16, "
                 "bool and\n"
                 "integers; C order, little endian).  Existing results are replaced only when all of the new ones are "
                 "written.\n"
                 "A mask is added where it is floating; bool or integer, what is not 0 is visible (invert_mask=false: "
                 "hidden).\n"
                 "It has any shape that broadcasts to the scores' [B, h, S, T], or [B, T].",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };
    char *help;

    if (argc > 1 && argv[1][0] != '-') { /* NAME takes the command's place, and what follows are options */
        known = op_subject_find(argv[1], &subject);
        if (!known)
            return fail_subject(argv[1]);
        argc--, argv++;
    }
    help = op_help(known ? &subject : NULL);
    line.after = help;
    switch (options_parse(&line, argc, argv)) {
    case OPTION_HELP_SHOWN:
        break;
    case OPTION_WRONG:
        code = CLI_USAGE;
        break;
    case OPTION_NO_MEMORY:
        code = CLI_FAIL;
        break;
    case OPTION_PARSED: {
        struct op_job job = { .settings = tern_op_settings_default() };

        if (!known)
            code = cli_error(CLI_USAGE, "op wants the NAME of an operator; 'tern op --help' lists them");
        else if (!outs.count && !subject.printed)
            code = cli_error(CLI_USAGE, "op wants --out NAME=FILE.npy");
        else if (ins.count + outs.count > OP_MAX_TENSORS / 2)
            code = cli_error(CLI_USAGE, "op takes %d tensors at most, got %zu", OP_MAX_TENSORS / 2,
                             ins.count + outs.count);
        if (!code)
            code = stdin_check(config, &ins);
        if (!code)
            code = cli_context_open(threads, &job.ctx);
        if (!code) {
            job.subject = subject;
            code = run_job(&job, config, &sets, &ins, &outs);
        }
        op_slots_free(&job);
        tern_ctx_destroy(&job.ctx);
        break;
    }
    }
    free(help);
    option_texts_free(&sets);
    option_texts_free(&ins);
    option_texts_free(&outs);
    return code;
}
