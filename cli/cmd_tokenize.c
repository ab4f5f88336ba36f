/* cmd_tokenize.c: tern tokenize, tern detokenize. */
#include "cli.h"
#include "json_out.h"
#include "options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_tokenizer(const char *model, tern_ctx **ctx, tern_tokenizer **tokenizer)
{
    char *path = NULL;
    int code = cli_context_open(1, ctx);

    if (!code)
        code = cli_model_find(*ctx, model, &path);
    if (!code) {
        const tern_status status = tern_tokenizer_open(*ctx, path, tokenizer);

        code = status ? cli_fail(status, tern_error(*ctx)) : 0;
    }
    free(path);
    return code;
}

static void out_encoding(struct json_out *j, const tern_encoding *encoding, bool offsets)
{
    out_object_begin(j, NULL);
    out_ids(j, "ids", encoding->ids, encoding->count);
    if (offsets) {
        out_array_begin(j, "offsets");
        for (size_t i = 0; i < encoding->count; i++) {
            out_array_begin(j, NULL);
            out_uint(j, NULL, encoding->offsets[i].begin);
            out_uint(j, NULL, encoding->offsets[i].end);
            out_array_end(j);
        }
        out_array_end(j);
        out_array_begin(j, "type_ids");
        for (size_t i = 0; i < encoding->count; i++)
            out_uint(j, NULL, encoding->type_ids[i]);
        out_array_end(j);
        out_array_begin(j, "attention_mask");
        for (size_t i = 0; i < encoding->count; i++)
            out_uint(j, NULL, encoding->attention[i]);
        out_array_end(j);
    }
    out_object_end(j);
}

int cmd_tokenize(int argc, char **argv)
{
    const char *model = NULL, *p = NULL, *f = NULL, *pair = NULL;
    bool json = false, no_special = false, offsets = false;
    const struct option options[] = {
        { 'p', "prompt", "TEXT", "the text", OPTION_TEXT, &p, NULL, 0, 0, false },
        { 'f', "file", "FILE", "the text is in FILE, its bytes as they are; - is stdin", OPTION_TEXT, &f, NULL, 0, 0,
          false },
        { 0, "json", NULL, "the same: the answer is JSON in any case", OPTION_FLAG, &json, NULL, 0, 0, false },
        { 0, "no-special", NULL, "without the ids that the tokenizer adds around a text", OPTION_FLAG, &no_special,
          NULL, 0, 0, false },
        { 0, "pair", "TEXT", "a second text, behind the first as the tokenizer puts two together", OPTION_TEXT, &pair,
          NULL, 0, 0, false },
        { 0, "offsets", NULL,
          "also, for each id, the characters [begin, end) of its text that it came from,\n"
          "which text it counts to (type_ids) and where padding is (attention_mask)",
          OPTION_FLAG, &offsets, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "tokenize",
        .arguments = "MODEL [-p TEXT | -f FILE] [OPTIONS]",
        .about =
            "Prints the token ids of a text as {\"ids\":[...]}.  Without -p and -f the text is read from stdin.\n"
            "Truncation and padding are as the tokenizer's file says.\n"
            "MODEL needs tokenizer.json, vocab.json and merges.txt, vocab.txt or tokenizer.model, and nothing else.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &model,
        .model_required = true,
    };
    struct cli_text text = { 0 };
    tern_ctx *ctx = NULL;
    tern_tokenizer *tokenizer = NULL;
    tern_encoding encoding = { 0 };
    int code;

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    code = cli_text_read("tokenize", p, f, &text);
    if (!code)
        code = open_tokenizer(model, &ctx, &tokenizer);
    if (!code) {
        const tern_encode_options wanted = {
            .pair = pair,
            .pair_size = pair ? strlen(pair) : 0,
            .add_special = !no_special,
            .apply_limits = true,
            .ids_only = !offsets,
            .goes_on = cli_goes_on,
        };
        const tern_status status =
            tern_tokenizer_encode_with(ctx, tokenizer, text.data ? text.data : "", text.size, &wanted, &encoding);

        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    struct json_out j = { 0 };
    if (!code)
        code = out_begin(&j);
    if (!code) {
        out_encoding(&j, &encoding, offsets);
        code = out_end(&j, true);
    }
    tern_encoding_free(&encoding);
    tern_tokenizer_close(&tokenizer);
    tern_ctx_destroy(&ctx);
    cli_text_free(&text);
    return code;
}

int cmd_detokenize(int argc, char **argv)
{
    const char *model = NULL, *list = NULL;
    bool json = false, no_special = false;
    const struct option options[] = {
        { 0, "ids", "1,2,3", "the token ids", OPTION_TEXT, &list, NULL, 0, 0, false },
        { 0, "json", NULL, "print {\"text\":...}", OPTION_FLAG, &json, NULL, 0, 0, false },
        { 0, "no-special", NULL, "leave special tokens out", OPTION_FLAG, &no_special, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "detokenize",
        .arguments = "MODEL --ids 1,2,3 [OPTIONS]",
        .about = "Prints the text of token ids, and not a byte more.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &model,
        .model_required = true,
    };
    tern_ctx *ctx = NULL;
    tern_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0, size = 0;
    char *text = NULL;
    int code;

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    if (!list)
        return cli_error(CLI_USAGE, "detokenize wants --ids 1,2,3");
    code = cli_ids_parse("--ids", list, &ids, &n_ids);
    if (!code)
        code = open_tokenizer(model, &ctx, &tokenizer);
    if (!code) {
        const tern_status status = tern_tokenizer_decode(ctx, tokenizer, ids, n_ids, no_special, &text, &size);

        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    struct json_out j = { 0 };
    if (!code && json)
        code = out_begin(&j);
    if (!code && json) {
        out_object_begin(&j, NULL);
        out_text(&j, "text", text, size);
        out_object_end(&j);
        code = out_end(&j, true);
    } else if (!code) {
        code = cli_print(text, size) && (!isatty(STDOUT_FILENO) || cli_print("\n", 1)) ? 0 : CLI_FAIL;
    }
    tern_text_free(text);
    free(ids);
    tern_tokenizer_close(&tokenizer);
    tern_ctx_destroy(&ctx);
    return code;
}
