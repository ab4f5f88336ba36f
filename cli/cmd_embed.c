/* cmd_embed.c: tern embed: lines of text to vectors. */
#include "json_out.h"
#include "npy.h"
#include "text_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS 9 /* of a float, so that it is read back as the same one */

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
        code = cli_signal() ? CLI_SIGNAL + cli_signal() : out_begin(&j);
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

static int embed_lines(tern_ctx *ctx, tern_embedder *embedder, const struct text_lines *lines,
                       const struct text_options *o, const char *prompt_name, const char *npy)
{
    static char embedding[] = "embedding";
    const size_t width = (size_t)tern_embedder_width(embedder);
    float *vectors = malloc((lines->n * width + 1) * sizeof *vectors);
    uint64_t n_cut = 0;
    tern_embed_options options = { .progress = text_progress, .user = o->quiet ? NULL : embedding, .n_cut = &n_cut };
    int code = find_prompt(embedder, prompt_name, &options.prompt);

    if (!code && !vectors)
        code = cli_error(CLI_FAIL, "out of memory: %zu vectors of %zu numbers", lines->n, width);
    if (!code) {
        const tern_status status = tern_embed(embedder, lines->lines, lines->sizes, lines->n, &options, vectors);
        cli_progress_end();
        if (status)
            code = cli_fail(status, tern_error(ctx));
    }
    if (!code)
        text_tell_cut(n_cut, lines->n, tern_embedder_max_tokens(embedder));
    if (!code)
        code = npy ? write_npy(npy, vectors, lines->n, width) : print_vectors(embedder, vectors, lines->n, o->json);
    free(vectors);
    return code;
}

struct settings {
    struct text_options o;
    const char *npy, *prompt;
};

static int run_here(void *user, tern_ctx *ctx)
{
    const struct settings *s = user;
    const tern_model_options how = text_model_options(&s->o);
    struct text_lines lines = { 0 };
    tern_embedder *embedder = NULL;
    int code = text_lines_read(s->o.command, s->o.p, s->o.f, &lines);

    if (!code) {
        const tern_status status = tern_embedder_open(ctx, s->o.model, &how, &embedder);
        cli_progress_end();
        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    if (!code)
        code = embed_lines(ctx, embedder, &lines, &s->o, s->prompt, s->npy);
    tern_embedder_close(&embedder);
    text_lines_free(&lines);
    return code;
}

int cmd_embed(int argc, char **argv)
{
    struct settings s = { .o = { .command = "embed" } };
    const struct option options[] = {
        OPTIONS_LINES(s.o),
        { 0, "npy", "FILE", "a float32 matrix [texts, width] in NumPy's format; - is stdout", OPTION_TEXT, &s.npy, NULL,
          0, 0, false },
        { 0, "prompt", "NAME", "put the model's prompt of that name before each text (default: default_prompt_name's)",
          OPTION_TEXT, &s.prompt, NULL, 0, 0, false },
        OPTIONS_TEXTS(s.o, "one object {\"model\":...,\"width\":...,\"embeddings\":[[...],...]}"),
    };
    const struct command_line line = {
        .command = s.o.command,
        .arguments = "MODEL [-p TEXT | -f LINES] [--json | --npy FILE] [OPTIONS]",
        .about = "Turns texts into vectors, as the sentence-transformers directory MODEL says (modules.json; without "
                 "it the\n"
                 "model's states are averaged, or the last token's is taken of a language model): an array of numbers "
                 "on a line\n"
                 "for each text, in their order.  A text has the same numbers alone and beside any others.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s.o.model,
        .model_required = true,
    };

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    if (s.o.json && s.npy)
        return cli_error(CLI_USAGE, "embed takes --json or --npy, got both");
    if (s.npy && strcmp(s.npy, "-") != 0 && !cli_can_write(s.npy))
        return cli_error(CLI_FAIL, "cannot write '%s': %s", s.npy, strerror(errno));
    const struct ranks_job job = {
        .model = s.o.model, .find = cli_transformer_find, .dtype = s.o.dtype, .run = run_here, .user = &s
    };
    return ranks_run(s.o.tp, s.o.threads, &job);
}
