/* protobuf.h: the fields of a message in protocol buffers' wire format, one after the other.
 *
 * Source: the format's specification, "Encoding".  Strict: a field of number 0, a group, a varint of more than 64 bits
 * and whatever is cut off are errors that name the place. */
#ifndef TERN_TEXT_PROTOBUF_H
#define TERN_TEXT_PROTOBUF_H

#include "base/ctx.h"

enum tern_wire_type { TERN_WIRE_VARINT = 0, TERN_WIRE_FIXED64 = 1, TERN_WIRE_BYTES = 2, TERN_WIRE_FIXED32 = 5 };

/* A message that is being read. */
struct tern_message {
    const char *data;
    size_t size, at;
    size_t offset;     /* of the message in the file, for errors */
    const char *where; /* the file */
};

struct tern_field {
    uint32_t number;
    enum tern_wire_type type;
    uint64_t value;    /* of a varint and of fixed ones */
    const char *bytes; /* of bytes, inside of the message */
    size_t size;
    size_t offset; /* of the bytes in the file */
};

/* The next field; *more is false at the end.  TERN_ERR_FORMAT. */
tern_status tern_message_next(tern_ctx *ctx, struct tern_message *message, struct tern_field *field, bool *more);

/* Checks that a field has a type; `name` is what it is called.  TERN_ERR_FORMAT. */
tern_status tern_field_check(tern_ctx *ctx, const struct tern_message *message, const struct tern_field *field,
                             enum tern_wire_type type, const char *name);

/* The message that a field of bytes is. */
struct tern_message tern_field_message(const struct tern_message *message, const struct tern_field *field);

#endif
