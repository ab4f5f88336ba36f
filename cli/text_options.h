/* text_options.h: what the commands have in common that read lines of text with a model: embed, rerank, classify, fill. */
#ifndef TERN_CLI_TEXT_OPTIONS_H
#define TERN_CLI_TEXT_OPTIONS_H

#include "cli.h"
#include "options.h"
#include "ranks.h"
#include "text_lines.h"

struct text_options {
    const char *command, *model;
    const char *p, *f; /* -p TEXT, -f FILE */
    int64_t threads, tp;
    int dtype;
    bool quiet, json, cut;
};

/* Parts of an options table; `o` is a struct text_options.  -p and -f: */
#define OPTIONS_LINES(o)                                                                                            \
    { 'p', "text", "TEXT", "one text", OPTION_TEXT, &(o).p, NULL, 0, 0, false },                                    \
    {                                                                                                               \
        'f', "file", "LINES", "a text on each line of the file; - is stdin", OPTION_TEXT, &(o).f, NULL, 0, 0, false \
    }
/* --cut */
#define OPTION_CUT(o, help)                                            \
    {                                                                  \
        0, "cut", NULL, help, OPTION_FLAG, &(o).cut, NULL, 0, 0, false \
    }
/* --json, --threads, --tp, --dtype and -q: */
#define OPTIONS_TEXTS(o, json_help)                                                                                \
    { 0, "json", NULL, json_help, OPTION_FLAG, &(o).json, NULL, 0, 0, false },                                     \
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &(o).threads, NULL, 0, 1024, false }, \
        OPTION_TP(&(o).tp), OPTION_DTYPE(&(o).dtype, NULL),                                                        \
    {                                                                                                              \
        'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &(o).quiet, NULL, 0, 0, false                          \
    }

/* A progress function of a model and of texts whose `user` is the word to show, "embedding", or NULL to show nothing. */
bool text_progress(void *user, uint64_t done, uint64_t total);
/* Options of the model, with progress. */
tern_model_options text_model_options(const struct text_options *o);
/* Runs a command on all ranks; 0 or the exit code, as ranks_run(). */
int text_run(const struct text_options *o, int (*run)(void *user, tern_ctx *ctx), void *user);
/* Says on stderr how many texts were cut. */
void text_tell_cut(uint64_t n_cut, size_t n, int32_t max_tokens);

#endif
