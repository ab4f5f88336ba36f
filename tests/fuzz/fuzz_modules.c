/* fuzz_modules.c: any bytes as what stands beside the model of a sentence-transformers directory: folder.h's files below.
 *
 * What is read fits together, or the check says why not; what is refused has a text and leaves nothing behind. */
#include "folder.h"

#include "engine/embed_modules.h"

#include <tern/context.h>

static const struct fuzz_file files[] = {
    { 'm', "modules.json", false },
    { 's', "sentence_bert_config.json", false },
    { 'c', "config_sentence_transformers.json", false },
    { 't', "tokenizer_config.json", false },
    { 'p', "1_Pooling/config.json", false },
    { 'd', "2_Dense/config.json", false },
    { 'w', "2_Dense/model.safetensors", true },
    { 'n', "3_LayerNorm/config.json", false },
    { 'g', "3_LayerNorm/model.safetensors", true },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tern_ctx *ctx;
    struct embed_modules modules;

    if (!ctx) {
        tern_ctx_options one = tern_ctx_options_default();
        one.n_threads = 1;
        if (tern_ctx_create(&ctx, &one, NULL, 0) != TERN_OK)
            abort();
    }
    folder_fill(files, sizeof files / sizeof *files, data, size);
    const tern_status status = embed_modules_read(ctx, fuzz_folder, &modules);
    if (status != TERN_OK && !tern_error(ctx)[0])
        abort();
    if (status == TERN_OK) {
        if (modules.n_pools > EMBED_POOL_MODES || modules.n_steps > EMBED_STEPS)
            abort();
        /* Without a modules.json the model decides what is pooled. */
        if (modules.n_pools > 0 && embed_modules_check(ctx, fuzz_folder, &modules, 24) == TERN_OK &&
            embed_kept_width(&modules, 24) < 1)
            abort();
    }
    embed_modules_free(&modules);
    folder_clear();
    return 0;
}
