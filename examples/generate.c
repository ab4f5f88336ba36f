#include <stdio.h>
#include <string.h>
#include <tern/tern.h>

int main(int argc, char **argv)
{
    static tern_ctx *ctx;     /* threads, instruction set, text of the last error */
    static tern_model *model; /* packed weights: read-only, shared by threads */
    static tern_tokenizer *tokenizer;
    static tern_session *session; /* keys and values: one thread at a time */
    static tern_ids prompt, stop;
    static tern_generate_options options;
    static tern_generation answer;

    bool ok = argc == 3 && !tern_ctx_create(&ctx, NULL, NULL, 0) && !tern_model_open(ctx, argv[1], NULL, &model) &&
              !tern_tokenizer_open(ctx, tern_model_path(model), &tokenizer) &&
              !tern_tokenizer_encode(ctx, tokenizer, argv[2], strlen(argv[2]), true, &prompt) &&
              !tern_session_create(ctx, model, NULL, &session) &&
              !tern_generate_defaults(ctx, model, &options, &stop) &&
              !tern_generate(session, tokenizer, prompt.data, prompt.count, &options, &answer);
    return puts(ok ? answer.text : ctx ? tern_error(ctx) : "usage: generate MODEL TEXT") < 0 || !ok;
}
