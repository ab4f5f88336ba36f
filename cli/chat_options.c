/* chat_options.c: files and variables for a chat template. */
#include "chat_options.h"

#include "json_out.h"

#include <stdlib.h>
#include <string.h>

int chat_open(tern_ctx *ctx, const char *dir, const char *file, tern_chat **out)
{
    const tern_status status = tern_chat_open(ctx, dir, file, out);

    if (status == TERN_ERR_NOT_FOUND && !file)
        return cli_error(CLI_FAIL, "%s; --template FILE names one", tern_error(ctx));
    return status ? cli_fail(status, tern_error(ctx)) : 0;
}

int chat_file_read(const char *file, struct cli_text *out)
{
    int code;
    char *grown;

    *out = (struct cli_text){ 0 };
    if (!file)
        return 0;
    code = cli_file_read(file, "", out);
    if (code)
        return code;
    grown = realloc(out->data, out->size + 1);
    if (!grown) {
        cli_text_free(out);
        return cli_error(CLI_FAIL, "out of memory for '%s'", file);
    }
    out->data = grown;
    out->data[out->size] = '\0';
    if (strlen(out->data) != out->size) {
        cli_text_free(out);
        return cli_error(CLI_FAIL, "'%s' has a NUL, expected JSON", file);
    }
    return 0;
}

/* A text without quotes is the likely mistake; the rest is found where the values are read. */
static bool begins_as_json(const char *value)
{
    static const char *const words[] = { "true", "false", "null" };

    value += strspn(value, " \t\r\n");
    for (int i = 0; i < 3; i++)
        if (strncmp(value, words[i], strlen(words[i])) == 0)
            return true;
    return *value && strchr("{[\"-0123456789", *value);
}

int chat_variables(const struct option_texts *set, char **out)
{
    struct json_out j = { 0 };
    size_t size = 0;

    *out = NULL;
    if (set->count == 0)
        return 0;
    for (size_t i = 0; i < set->count; i++) {
        const char *equals = strchr(set->data[i], '=');

        if (!equals || equals == set->data[i] || !equals[1])
            return cli_error(CLI_USAGE, "--set wants NAME=JSON, got '%s'", set->data[i]);
        if (!begins_as_json(equals + 1))
            return cli_error(CLI_USAGE, "--set wants NAME=JSON, got '%s'; a text has quotes: '%.*s=\"%s\"'",
                             set->data[i], (int)(equals - set->data[i]), set->data[i], equals + 1);
    }
    j.f = open_memstream(out, &size);
    if (!j.f)
        return cli_error(CLI_FAIL, "out of memory for variables");
    putc('{', j.f);
    for (size_t i = 0; i < set->count; i++) {
        const char *equals = strchr(set->data[i], '=');

        if (i > 0)
            putc(',', j.f);
        j.follows = false;
        out_text(&j, NULL, set->data[i], (size_t)(equals - set->data[i]));
        fprintf(j.f, ":%s", equals + 1);
    }
    putc('}', j.f);
    if (fclose(j.f)) {
        free(*out);
        *out = NULL;
        return cli_error(CLI_FAIL, "out of memory for variables");
    }
    return 0;
}
