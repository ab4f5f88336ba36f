/* fuzz_op_config.c: any bytes as a config of operators.  What is accepted holds values that its fields can have; what is refused
 * leaves the config as it was and has a text. */
#include "base/ctx.h"

#include <tern/op.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tern_ctx ctx = { 0 };
    tern_config c, before;
    tern_op_settings settings;

    memset(&c, 0, sizeof c);
    c = tern_config_default();
    memcpy(&before, &c, sizeof c);
    const tern_status status = tern_config_parse(&ctx, (const char *)data, size, "input", &c);
    if (status != TERN_OK) {
        if ((status != TERN_ERR_FORMAT && status != TERN_ERR_CONFIG && status != TERN_ERR_UNSUPPORTED) ||
            !ctx.error[0] || memcmp(&before, &c, sizeof c) != 0)
            abort();
    } else if (c.mp_size < 1 || c.heads < -1 || c.hidden_size > INT32_MAX || !(c.layer_norm_eps >= 0) ||
               !isfinite(c.rope_theta) || !(c.rope_theta > 1) || (unsigned)c.dtype > TERN_INT8 ||
               (unsigned)c.gelu > TERN_GELU_SIGMOID || c.device != TERN_CPU) {
        abort();
    }
    for (int i = 0; i < tern_op_count(); i++) {
        /* These two have a field of the config in a narrower range. */
        const bool narrower = strcmp(tern_op_name(i), "softmax") == 0 || strcmp(tern_op_name(i), "rotary") == 0;
        settings = tern_op_settings_default();
        if (tern_op_settings_parse(&ctx, i, (const char *)data, size, "input", &settings) != TERN_OK &&
            status == TERN_OK && !narrower)
            abort();
    }
    return 0;
}
