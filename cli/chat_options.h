/* chat_options.h: what tern template and tern chat have in common. */
#ifndef TERN_CLI_CHAT_OPTIONS_H
#define TERN_CLI_CHAT_OPTIONS_H

#include "cli.h"
#include "options.h"

#define OPTION_TEMPLATE(out)                                                                                           \
    {                                                                                                                  \
        0, "template", "FILE", "a Jinja template to use instead of MODEL's own", OPTION_TEXT, (out), NULL, 0, 0, false \
    }
#define OPTION_NAME(out)                                                                                          \
    {                                                                                                             \
        0, "name", "NAME", "which of MODEL's templates; without it tool_use where there are tools, else default", \
            OPTION_TEXT, (out), NULL, 0, 0, false                                                                 \
    }
#define OPTION_TOOLS(out)                                                                                      \
    {                                                                                                          \
        0, "tools", "FILE", "a JSON array of tools, the variable tools", OPTION_TEXT, (out), NULL, 0, 0, false \
    }
#define OPTION_SET(out)                                                                                               \
    {                                                                                                                 \
        0, "set", "NAME=JSON", "a variable for the template.  Can be given several times", OPTION_TEXTS, (out), NULL, \
            0, 0, false                                                                                               \
    }

/* The templates of a directory, or the one in `file`.  0 or the exit code. */
int chat_open(tern_ctx *ctx, const char *dir, const char *file, tern_chat **out);
/* A JSON file as a text that ends with a NUL; nothing where `file` is NULL. */
int chat_file_read(const char *file, struct cli_text *out);
/* "NAME=JSON" texts as one JSON object, freed with free(); NULL where there are none. */
int chat_variables(const struct option_texts *set, char **out);

#endif
