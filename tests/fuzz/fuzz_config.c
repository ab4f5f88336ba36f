/* fuzz_config.c: any bytes as a config.json.  What is accepted can be computed with: sizes are positive and their products
 * do not overflow. */
#include "model/model_config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tern_ctx ctx = { 0 };
    const struct tern_arch *arch = NULL;
    struct tern_json *json;
    tern_model_config c = { 0 };
    struct tern_spec spec = { 0 };

    tern_status status = tern_json_parse(&ctx, (const char *)data, size, "input", &json);
    if (status == TERN_OK)
        status = tern_model_config_parse(&ctx, json, &arch, &c, &spec);
    if (status == TERN_ERR_MEMORY || (status != TERN_OK && !ctx.error[0]))
        abort();
    if (status == TERN_OK) {
        const tern_config layer = tern_config_from_model(&c, c.n_layers - 1);
        int64_t product;
        if (!arch || c.vocab_size < 1 || c.n_context < 1 || c.n_layers < 1 || c.heads < 1 || c.kv_heads < 1 ||
            c.head_dim < 1 || (int64_t)c.head_dim * c.heads > INT32_MAX || layer.heads != c.heads ||
            !(c.norm_eps >= 0) || c.bos_id < -1 || c.n_eos_ids < 0 || c.n_eos_ids > TERN_MAX_EOS_IDS)
            abort();
        if (__builtin_mul_overflow((int64_t)c.vocab_size * 4, (int64_t)c.hidden_size, &product) ||
            __builtin_mul_overflow((int64_t)c.intermediate_size * 4, (int64_t)c.hidden_size, &product))
            abort();
    }
    tern_spec_free(&spec, c.n_labels);
    tern_json_destroy(json);
    return 0;
}
