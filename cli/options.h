/* options.h: one table says what a command takes: it parses, checks ranges, and prints --help. */
#ifndef TERN_CLI_OPTIONS_H
#define TERN_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char * */
    OPTION_TEXTS,  /* struct option_texts: may be given several times */
    OPTION_INT,    /* int64_t in [low, high] */
    OPTION_SEED,   /* uint64_t, all of it */
    OPTION_NUMBER, /* float in [low, high], or above low if `above`; finite */
    OPTION_CHOICE  /* int: which of the words in `value`, "one|two|three" */
};

struct option_texts {
    const char **data; /* into argv; the array is freed with option_texts_free() */
    size_t count;
};
void option_texts_free(struct option_texts *texts);

struct option {
    char letter;       /* 'n' for -n; 0: none */
    const char *name;  /* "temp" for --temp; NULL: none */
    const char *value; /* how --help calls its value; NULL for a flag */
    const char *help;  /* may have several lines */
    enum option_kind kind;
    void *out;   /* untouched where the option is not given */
    bool *given; /* or NULL */
    double low, high;
    bool above; /* the range is open below */
};

/* --dtype of every command that opens a model: a tern_model_dtype. */
#define OPTION_DTYPE(out, given)                                                               \
    {                                                                                          \
        0, "dtype", "auto|fp32|bf16|fp16|int8",                                                \
            "what weights are packed as; auto (the default): as in the files.  auto, fp32\n"   \
            "and fp16 compute in fp32; bf16 also rounds to bf16 what enters a product, int8\n" \
            "to int8 with a scale for each row",                                               \
            OPTION_CHOICE, (out), (given), 0, 0, false                                         \
    }

/* --trace of commands that run a model. */
#define OPTION_TRACE(out)                                                                     \
    {                                                                                         \
        0, "trace", "FILE",                                                                   \
            "write what each thread did when (steps, layers, operators, waits) as a Chrome\n" \
            "trace, for about:tracing or ui.perfetto.dev",                                    \
            OPTION_TEXT, (out), NULL, 0, 0, false                                             \
    }

struct command_line {
    const char *command;   /* "run" */
    const char *arguments; /* "[MODEL] -p TEXT" */
    const char *about;     /* what it does, some lines; before the options */
    const char *after;     /* examples; after the options; or NULL */
    const struct option *options;
    size_t n_options;
    const char **model;  /* gets the one positional argument, or NULL */
    bool model_required; /* its absence is an error */
};

enum option_outcome { OPTION_PARSED, OPTION_HELP_SHOWN, OPTION_WRONG, OPTION_NO_MEMORY };

/* argv[0] is the command's name.  "--name=value", "--name value", "-n 5", "-n5"; "--" ends the options.
 * What is wrong has been printed, with what was wanted and what was got. */
enum option_outcome options_parse(const struct command_line *line, int argc, char **argv);
/* The exit code of a command that has nothing left to do. */
int options_exit(enum option_outcome outcome);

/* options_parse() of a command that takes a MODEL or --shape: its help ends with the shapes that there are, and both at once are refused.
 * `shape` is where that option's value goes.  false: the command ends with *code. */
bool options_parse_shapes(struct command_line line, const char *const *shape, int argc, char **argv, int *code);

#endif
