/* protobuf.c: tags, varints and lengths. */
#include "text/protobuf.h"

static tern_status read_varint(tern_ctx *ctx, struct tern_message *m, uint64_t *out)
{
    const size_t begin = m->at;

    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        TERN_REQUIRE(ctx, m->at < m->size, TERN_ERR_FORMAT, "%s: a number at byte %zu goes on behind its message",
                     m->where, m->offset + begin);
        const unsigned char byte = (unsigned char)m->data[m->at++];

        TERN_REQUIRE(ctx, shift < 63 || byte < 2, TERN_ERR_FORMAT, "%s: a number of more than 64 bits at byte %zu",
                     m->where, m->offset + begin);
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return TERN_OK;
    }
    return tern_fail(ctx, TERN_ERR_FORMAT, "%s: a number of more than 64 bits at byte %zu", m->where,
                     m->offset + begin);
}

static tern_status read_fixed(tern_ctx *ctx, struct tern_message *m, size_t size, uint64_t *out)
{
    TERN_REQUIRE(ctx, size <= m->size - m->at, TERN_ERR_FORMAT,
                 "%s: a field of %zu bytes at byte %zu, but its message ends at %zu", m->where, size, m->offset + m->at,
                 m->offset + m->size);
    *out = 0;
    for (size_t i = 0; i < size; i++)
        *out |= (uint64_t)(unsigned char)m->data[m->at++] << 8 * i;
    return TERN_OK;
}

tern_status tern_message_next(tern_ctx *ctx, struct tern_message *m, struct tern_field *field, bool *more)
{
    const size_t begin = m->offset + m->at;
    uint64_t tag, size;

    *field = (struct tern_field){ 0 };
    *more = m->at < m->size;
    if (!*more)
        return TERN_OK;
    TERN_TRY(read_varint(ctx, m, &tag));
    TERN_REQUIRE(ctx, tag >= 8 && tag <= UINT32_MAX, TERN_ERR_FORMAT,
                 "%s: the field at byte %zu has number %" PRIu64 ", expected 1 to 536870911", m->where, begin,
                 tag >> 3);
    field->number = (uint32_t)(tag >> 3);
    field->type = (enum tern_wire_type)(tag & 7);
    switch (field->type) {
    case TERN_WIRE_VARINT:
        return read_varint(ctx, m, &field->value);
    case TERN_WIRE_FIXED64:
        return read_fixed(ctx, m, 8, &field->value);
    case TERN_WIRE_FIXED32:
        return read_fixed(ctx, m, 4, &field->value);
    case TERN_WIRE_BYTES:
        TERN_TRY(read_varint(ctx, m, &size));
        TERN_REQUIRE(ctx, size <= m->size - m->at, TERN_ERR_FORMAT,
                     "%s: field %" PRIu32 " at byte %zu has %" PRIu64 " bytes, but its message ends at %zu", m->where,
                     field->number, begin, size, m->offset + m->size);
        field->bytes = m->data + m->at;
        field->size = (size_t)size;
        field->offset = m->offset + m->at;
        m->at += field->size;
        return TERN_OK;
    }
    return tern_fail(ctx, TERN_ERR_FORMAT, "%s: field %" PRIu32 " at byte %zu has wire type %d, expected 0, 1, 2 or 5",
                     m->where, field->number, begin, (int)(tag & 7));
}

tern_status tern_field_check(tern_ctx *ctx, const struct tern_message *m, const struct tern_field *field,
                             enum tern_wire_type type, const char *name)
{
    TERN_REQUIRE(ctx, field->type == type, TERN_ERR_FORMAT, "%s: %s before byte %zu has wire type %d, expected %d",
                 m->where, name, m->offset + m->at, (int)field->type, (int)type);
    return TERN_OK;
}

struct tern_message tern_field_message(const struct tern_message *m, const struct tern_field *field)
{
    return (struct tern_message){ field->bytes, field->size, 0, field->offset, m->where };
}
