/* cmd_embed.c: tern embed: lines of text to vectors. */
#include "cli.h"
#include "json_out.h"
#include "npy.h"
#include "options.h"
#include "text_lines.h"

#include <stdlib.h>
#include <string.h>

#define DIGITS 9 /* of a float, so that it is read back as the same one */

static bool loaded(void *user, uint64_t done, uint64_t total)
{
    if (user)
        cli_progress("loading", done, total);
    return !cli_signal();
}

static bool embedded(void *user, uint64_t done, uint64_t total)
{
    if (user)
        cli_progress("embedding", done, total);
    return !cli_signal();
}

static void out_vector(struct json_out *j, const char *key, const float *vector, size_t width)
{
    out_array_begin(j, key);
    for (size_t k = 0; k < width; k++)
        out_number(j, NULL, (double)vector[k], DIGITS);
    out_array_end(j);
}

/* One object of all, or a line for each. */
static int print_vectors(const tern_embedder *embedder, const float *vectors, size_t n, bool json)
{
    const size_t width = (size_t)tern_embedder_width(embedder);
    struct json_out j;
    int code = 0;

    if (json) {
        code = out_begin(&j);
        if (code)
            return code;
        out_object_begin(&j, NULL);
        out_name(&j, "model", tern_model_path(tern_embedder_model(embedder)));
        out_uint(&j, "width", width);
        out_array_begin(&j, "embeddings");
        for (size_t i = 0; i < n; i++)
            out_vector(&j, NULL, vectors + i * width, width);
        out_array_end(&j);
        out_object_end(&j);
        return out_end(&j, true);
    }
    for (size_t i = 0; !code && i < n; i++) {
        code = out_begin(&j);
        if (code)
            return code;
        out_vector(&j, NULL, vectors + i * width, width);
        code = out_end(&j, true);
    }
    return code;
}

static int write_npy(const char *file, const float *vectors, size_t n, size_t width)
{
    struct npy npy = { .fd = -1 };
    int code = npy_create(&npy, file, (int64_t)n, (int64_t)width);

    if (!code)
        code = npy_write(&npy, vectors, n * width);
    if (!code)
        code = npy_commit(&npy);
    npy_abort(&npy);
    return code;
}

/* The prompt's text; code 1 where the model has none of that name. */
static int find_prompt(const tern_embedder *embedder, const char *name, const char **prompt)
{
    char names[512] = "none";
    const char *other;
    size_t n = 0;

    *prompt = tern_embedder_prompt(embedder, name);
    if (!name || *prompt)
        return 0;
    for (size_t i = 0; n < sizeof names && (other = tern_embedder_prompt_name(embedder, i)); i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s\"%s\"", i ? ", " : "", other);
    return cli_error(CLI_FAIL, "the model has no prompt \"%s\"; there are: %s", name, names);
}

static int embed_lines(tern_ctx *ctx, tern_embedder *embedder, const struct text_lines *lines, const char *prompt_name,
                       const char *npy, bool json, bool bar)
{
    const size_t width = (size_t)tern_embedder_width(embedder);
    float *vectors = malloc((lines->n * width + 1) * sizeof *vectors);
    uint64_t n_cut = 0;
    tern_embed_options options = { .progress = embedded, .user = bar ? &bar : NULL, .n_cut = &n_cut };
    int code = find_prompt(embedder, prompt_name, &options.prompt);

    if (!code && !vectors)
        code = cli_error(CLI_FAIL, "out of memory: %zu vectors of %zu numbers", lines->n, width);
    if (!code) {
        const tern_status status = tern_embed(embedder, lines->lines, lines->sizes, lines->n, &options, vectors);
        if (bar)
            cli_progress_end();
        if (status)
            code = cli_fail(status, tern_error(ctx));
    }
    if (!code && n_cut > 0)
        fprintf(stderr, "tern: %llu of %zu texts have more than %d tokens and were cut there\n",
                (unsigned long long)n_cut, lines->n, tern_embedder_max_tokens(embedder));
    if (!code)
        code = npy ? write_npy(npy, vectors, lines->n, width) : print_vectors(embedder, vectors, lines->n, json);
    free(vectors);
    return code;
}

int cmd_embed(int argc, char **argv)
{
    const char *name = NULL, *p = NULL, *f = NULL, *npy = NULL, *prompt = NULL;
    int64_t threads = 0;
    int dtype = TERN_MODEL_AUTO;
    bool quiet = false, json = false;
    const struct option options[] = {
        { 'p', "text", "TEXT", "one text", OPTION_TEXT, &p, NULL, 0, 0, false },
        { 'f', "file", "LINES", "a text on each line of the file; - is stdin", OPTION_TEXT, &f, NULL, 0, 0, false },
        { 0, "json", NULL, "one object {\"model\":...,\"width\":...,\"embeddings\":[[...],...]}", OPTION_FLAG, &json,
          NULL, 0, 0, false },
        { 0, "npy", "FILE", "a float32 matrix [texts, width] in NumPy's format; - is stdout", OPTION_TEXT, &npy, NULL,
          0, 0, false },
        { 0, "prompt", "NAME", "put the model's prompt of that name before each text (default: default_prompt_name's)",
          OPTION_TEXT, &prompt, NULL, 0, 0, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &threads, NULL, 0, 1024, false },
        OPTION_DTYPE(&dtype, NULL),
        { 'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "embed",
        .arguments = "MODEL [-p TEXT | -f LINES] [--json | --npy FILE] [OPTIONS]",
        .about = "Turns texts into vectors, as the sentence-transformers directory MODEL says (modules.json; without "
                 "it the\n"
                 "model's states are averaged): an array of numbers on a line for each text, in their order.\n"
                 "A text has the same numbers alone and beside any others.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &name,
        .model_required = true,
    };
    struct text_lines lines = { 0 };
    tern_embedder *embedder = NULL;
    tern_ctx *ctx = NULL;
    int code;

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    if (json && npy)
        return cli_error(CLI_USAGE, "embed takes --json or --npy, got both");
    code = text_lines_read("embed", p, f, &lines);
    if (!code)
        code = cli_context_open(threads, &ctx);
    if (!code) {
        const tern_model_options how = { .dtype = (tern_model_dtype)dtype,
                                         .progress = loaded,
                                         .user = quiet ? NULL : &quiet };
        const tern_status status = tern_embedder_open(ctx, name, &how, &embedder);
        cli_progress_end();
        if (status)
            code = cli_fail(status, tern_error(ctx));
    }
    if (!code)
        code = embed_lines(ctx, embedder, &lines, prompt, npy, json, !quiet);
    tern_embedder_close(&embedder);
    tern_ctx_destroy(&ctx);
    text_lines_free(&lines);
    return code;
}
