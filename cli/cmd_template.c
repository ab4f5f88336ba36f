/* cmd_template.c: tern template: a conversation as the text that its chat template makes of it. */
#include "chat_options.h"
#include "cli.h"
#include "options.h"

#include <stdlib.h>
#include <string.h>

struct settings {
    const char *model, *f, *file, *name, *tools, *documents;
    struct option_texts set;
    bool no_generation_prompt, list;
};

static enum option_outcome parse(struct settings *s, int argc, char **argv)
{
    const struct option options[] = {
        { 'f', "file", "FILE", "the messages are in FILE, a JSON array of objects; - is stdin", OPTION_TEXT, &s->f,
          NULL, 0, 0, false },
        OPTION_TEMPLATE(&s->file),
        OPTION_NAME(&s->name),
        OPTION_TOOLS(&s->tools),
        { 0, "documents", "FILE", "a JSON array of documents, the variable documents", OPTION_TEXT, &s->documents, NULL,
          0, 0, false },
        OPTION_SET(&s->set),
        { 0, "no-generation-prompt", NULL, "end behind the last message, not where an answer begins", OPTION_FLAG,
          &s->no_generation_prompt, NULL, 0, 0, false },
        { 0, "list", NULL, "print the templates' names instead", OPTION_FLAG, &s->list, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "template",
        .arguments = "MODEL [-f messages.json] [OPTIONS]",
        .about =
            "Prints a conversation as MODEL's chat template renders it, and not a byte more.  Without -f the messages\n"
            "are read from stdin.  MODEL needs chat_template.jinja, additional_chat_templates or "
            "tokenizer_config.json,\n"
            "and nothing else.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s->model,
        .model_required = true,
    };

    return options_parse(&line, argc, argv);
}

static int list_names(const tern_chat *chat)
{
    for (size_t i = 0; i < tern_chat_count(chat); i++) {
        const char *name = tern_chat_name(chat, i);

        if (!cli_print(name, strlen(name)) || !cli_print("\n", 1))
            return CLI_FAIL;
    }
    return 0;
}

static int render(const struct settings *s, tern_ctx *ctx, const tern_chat *chat)
{
    tern_chat_options options = tern_chat_options_default();
    struct cli_text messages = { 0 }, tools = { 0 }, documents = { 0 };
    char *variables = NULL, *text = NULL;
    size_t size = 0;
    int code = cli_text_read("template", NULL, s->f, &messages);

    if (!code)
        code = chat_file_read(s->tools, &tools);
    if (!code)
        code = chat_file_read(s->documents, &documents);
    if (!code)
        code = chat_variables(&s->set, &variables);
    if (!code) {
        options.name = s->name;
        options.tools = tools.data;
        options.documents = documents.data;
        options.variables = variables;
        options.add_generation_prompt = !s->no_generation_prompt;
        const tern_status status =
            tern_chat_render(ctx, chat, messages.data ? messages.data : "", messages.size, &options, &text, &size);

        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    if (!code && !cli_print(text, size))
        code = CLI_FAIL;
    tern_chat_text_free(text);
    free(variables);
    cli_text_free(&messages);
    cli_text_free(&tools);
    cli_text_free(&documents);
    return code;
}

static int run(const struct settings *s)
{
    tern_ctx *ctx = NULL;
    tern_chat *chat = NULL;
    char *path = NULL;
    int code = cli_context_open(1, &ctx);

    if (!code)
        code = cli_model_find(ctx, s->model, &path);
    if (!code)
        code = chat_open(ctx, path, s->file, &chat);
    if (!code)
        code = s->list ? list_names(chat) : render(s, ctx, chat);
    tern_chat_close(&chat);
    tern_ctx_destroy(&ctx);
    free(path);
    return code;
}

int cmd_template(int argc, char **argv)
{
    struct settings s = { 0 };
    const enum option_outcome outcome = parse(&s, argc, argv);
    const int code = outcome == OPTION_PARSED ? run(&s) : options_exit(outcome);

    option_texts_free(&s.set);
    return code;
}
