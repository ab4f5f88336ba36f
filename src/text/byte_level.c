/* byte_level.c: the byte alphabet, by arithmetic: its three printable ranges leave three gaps. */
#include "text/byte_level.h"

#include "base/utf8.h"

#include <string.h>

uint32_t tern_byte_level_char(unsigned char byte)
{
    if (byte <= 0x20)
        return 0x100u + byte; /* 33 of them: 100..120 */
    if (byte >= 0x7F && byte <= 0xA0)
        return 0x121u + (byte - 0x7Fu); /* 34: 121..142 */
    if (byte == 0xAD)
        return 0x143u;
    return byte;
}

size_t tern_byte_level_encode(const char *bytes, size_t size, char *out)
{
    size_t written = 0;

    for (size_t i = 0; i < size; i++)
        written += tern_utf8_put(tern_byte_level_char((unsigned char)bytes[i]), out + written);
    return written;
}

/* The byte of a character, or -1. */
static int byte_of(uint32_t code)
{
    if (code >= 0x100 && code <= 0x120)
        return (int)(code - 0x100);
    if (code >= 0x121 && code <= 0x142)
        return (int)(code - 0x121 + 0x7F);
    if (code == 0x143)
        return 0xAD;
    if (code < 0x100 && tern_byte_level_char((unsigned char)code) == code)
        return (int)code;
    return -1;
}

size_t tern_byte_level_decode(const char *text, size_t size, char *out)
{
    size_t written = 0;

    for (size_t at = 0; at < size;) {
        const int byte = byte_of(tern_utf8_next(text, &at));

        if (byte < 0) {
            memcpy(out, text, size);
            return size;
        }
        out[written++] = (char)byte;
    }
    return written;
}
