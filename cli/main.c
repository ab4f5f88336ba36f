/* main.c: the tern command: finds the command that is asked for and runs it. */
#include "cli.h"
#include "ranks.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
    bool ranks; /* it has --tp */
} commands[] = {
    { "run", cmd_run, "continue a text", true },
    { "chat", cmd_chat, "a conversation", true },
    { "template", cmd_template, "a conversation as its chat template renders it", false },
    { "tokenize", cmd_tokenize, "text to token ids", false },
    { "detokenize", cmd_detokenize, "token ids to text", false },
    { "embed", cmd_embed, "texts to vectors", true },
    { "rerank", cmd_rerank, "documents in the order in which they answer a query", true },
    { "classify", cmd_classify, "labels of texts, or of what stands in them", true },
    { "fill", cmd_fill, "the words that are missing in a text", true },
    { "verify", cmd_verify, "a model held against what its reference computed", false },
    { "logits", cmd_logits, "scores of every position, as a NumPy file", true },
    { "perplexity", cmd_perplexity, "how well a model predicts a text, in bits per byte", true },
    { "op", cmd_op, "one operator on NumPy files", false },
    { "bench", cmd_bench, "how fast a model is, beside what the machine can do", true },
    { "tune", cmd_tune, "measure how products are best cut on this machine, and remember it", false },
    { "info", cmd_info, "a model, or this machine", false },
};

static void print_help(FILE *f)
{
    fputs("usage: tern COMMAND [OPTIONS]\n\nTransformer inference on the CPU, from Hugging Face checkpoints as they "
          "are.\n\n",
          f);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].about);
    fputs("\n"
          "  tern COMMAND --help   what a command takes\n"
          "  tern --version        version, build, libraries, instruction set\n"
          "\n"
          "MODEL is a directory with config.json and model.safetensors, or org/name in the local Hugging Face cache.\n"
          "Results go to stdout, all else to stderr.  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a model that tern "
          "does\n"
          "not support, 130 stopped by Ctrl-C.  TERN_CPU=NAME lowers the instruction set (portable, neon, neondot, "
          "avx2,\n"
          "avxvnni, avx512, avx512vnni, avx512bf16), TERN_THREADS=N is the number of threads where --threads does not\n"
          "say, TERN_TUNE=off leaves out what tern tune found.\n",
          f);
}

static int version(void)
{
    tern_ctx *ctx = NULL;
    tern_ctx_options options = tern_ctx_options_default();
    char message[256];

    printf("tern %s\n%s\n", tern_version(), tern_build_info());
    options.n_threads = 1;
    if (tern_ctx_create(&ctx, &options, message, sizeof(message)))
        return cli_error(CLI_FAIL, "%s", message);
    printf("in use: %s\n", tern_ctx_isa(ctx));
    tern_ctx_destroy(&ctx);
    return CLI_OK;
}

static int dispatch(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    static char help[] = "--help";
    char *help_of[] = { NULL, help };

    if (!name) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || (strcmp(name, "help") == 0 && argc == 2)) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        return version();
    argc--, argv++;
    if (strcmp(name, "help") == 0) {
        name = help_of[0] = argv[1];
        argc = 2, argv = help_of;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc, argv);
    return cli_error(CLI_USAGE, "there is no command '%s'; 'tern --help' lists them", name);
}

static bool has_ranks(const char *name)
{
    for (size_t i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].ranks;
    return false;
}

int main(int argc, char **argv)
{
    cli_init();
    ranks_init(argv, has_ranks(argc > 1 ? argv[1] : NULL));
    const int code = cli_stdout_end(dispatch(argc, argv));
    ranks_end(code);
    return code;
}
