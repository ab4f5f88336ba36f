/* json_decoder.c: the decoder of tokenizer.json. */
#include "text/json_parts.h"

tern_status tern_bind_decoder(struct tern_binder *b, const tern_json_value *value)
{
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_component(b, value, "decoder", &type, &size));
    b->t->decoder = type ? TERN_DECODE_BYTE_LEVEL : TERN_DECODE_SPACES;
    if (!type)
        return TERN_OK;
    if (!tern_bind_equal(type, size, "ByteLevel"))
        return tern_bind_unknown(b, "decoder", type, size, "ByteLevel");
    return TERN_BIND_KEYS(b, value, "decoder ByteLevel", "type", "add_prefix_space", "trim_offsets", "use_regex");
}
