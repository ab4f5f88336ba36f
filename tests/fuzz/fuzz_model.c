/* fuzz_model.c: any bytes as a model's directory: folder.h's @c config.json, @s model.safetensors, @i model.safetensors.index.json,
 * @1 model-1.safetensors and @2 model-2.safetensors.
 *
 * What opens is a model: it opens to be described as well, with the same figures, and runs a few tokens.  What does not has a text. */
#include "folder.h"

#include "model/model.h"

#include <tern/encode.h>

#define TOKENS 3

static const struct fuzz_file files[] = {
    { 'c', "config.json", false },
    { 's', "model.safetensors", true },
    { 'i', "model.safetensors.index.json", false },
    { '1', "model-1.safetensors", true },
    { '2', "model-2.safetensors", true },
};

/* Sizes that take a blink: nothing in the files bounds the positions of a model that computes them, nor the heads of one that has no
 * layers' worth of them. */
static bool is_small(const tern_model *model)
{
    const tern_model_config *c = tern_model_get_config(model);

    return c->n_layers <= 64 && (int64_t)c->heads * c->n_context <= 1 << 18 && c->hidden_size <= 4096 &&
           c->vocab_size <= 1 << 16;
}

static void run(tern_ctx *ctx, const tern_model *model)
{
    const tern_model_config *c = tern_model_get_config(model);
    const int32_t n = c->n_context < TOKENS ? c->n_context : TOKENS;
    const int32_t ids[TOKENS] = { 0, c->vocab_size - 1, c->vocab_size / 2 };
    const tern_encoder_options options = { .n_context = n, .max_batch = n, .max_texts = 1 };
    const tern_encode_text text = { .ids = ids, .n_ids = n };
    const int32_t C = tern_model_outputs(model);
    float *states = malloc((size_t)n * (size_t)c->hidden_size * sizeof *states);
    float *answers = C > 0 ? malloc((size_t)n * (size_t)C * sizeof *answers) : NULL;
    tern_encoder *encoder;

    if (!states || tern_encoder_create(ctx, model, &options, &encoder) != TERN_OK)
        abort();
    if (tern_encode(encoder, &text, 1, states, answers) != TERN_OK)
        abort();
    tern_encoder_destroy(&encoder);
    free(states);
    free(answers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tern_ctx *ctx;
    tern_model_options options = tern_model_options_default();
    tern_model *described, *model;

    if (!ctx) {
        tern_ctx_options one = tern_ctx_options_default();
        one.n_threads = 1;
        if (tern_ctx_create(&ctx, &one, NULL, 0) != TERN_OK)
            abort();
    }
    folder_fill(files, sizeof files / sizeof *files, data, size);
    options.describe = true;
    const tern_status status = tern_model_open(ctx, fuzz_folder, &options, &described);
    if ((status == TERN_OK) != (described != NULL) || (status != TERN_OK && !tern_error(ctx)[0]))
        abort();
    if (described && is_small(described)) {
        options.describe = false;
        options.dtype = (tern_model_dtype)(size % 5);
        const tern_status whole = tern_model_open(ctx, fuzz_folder, &options, &model);
        /* Its numbers may be what it is refused for: a head that is tied and differs, a value beyond fp16. */
        if (whole != TERN_OK && whole != TERN_ERR_FORMAT && whole != TERN_ERR_ARG)
            abort();
        if (model) {
            if (tern_model_get_stats(model).n_parameters != tern_model_get_stats(described).n_parameters)
                abort();
            run(ctx, model);
        }
        tern_model_close(&model);
    }
    tern_model_close(&described);
    folder_clear();
    return 0;
}
