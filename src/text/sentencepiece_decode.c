/* sentencepiece_decode.c: spaces, bytes and the unknown. */
#include "text/sentencepiece_decode.h"

#include <string.h>

static const char space_symbol[] = "\xE2\x96\x81"; /* U+2581 */
#define SPACE_SIZE (sizeof space_symbol - 1)

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */
#define REPLACEMENT_SIZE (sizeof replacement - 1)

size_t tern_sentencepiece_decode_room(const struct tern_sentencepiece *model)
{
    const size_t piece = model->longest > model->unk_surface_size ? model->longest : model->unk_surface_size;

    return piece + TERN_UTF8_MAX * REPLACEMENT_SIZE;
}

/* text[0..size) with spaces for their symbols. */
static size_t put_text(const char *text, size_t size, char *out)
{
    size_t n = 0;

    for (size_t at = 0; at < size;) {
        if (size - at >= SPACE_SIZE && memcmp(text + at, space_symbol, SPACE_SIZE) == 0) {
            out[n++] = ' ';
            at += SPACE_SIZE;
        } else {
            out[n++] = text[at++];
        }
    }
    return n;
}

/* The characters that the bytes so far are, and with `last` what is left of them. */
static size_t put_bytes(struct tern_piece_decoding *state, bool last, char *out)
{
    size_t n = 0;

    while (state->n_bytes > 0) {
        size_t length;
        const enum tern_utf8_kind kind = tern_utf8_sequence(state->bytes, state->n_bytes, &length);

        if (kind == TERN_UTF8_CUT && !last)
            break;
        if (kind == TERN_UTF8_WHOLE) {
            memcpy(out + n, state->bytes, length);
            n += length;
        } else { /* each byte for itself */
            length = 1;
            memcpy(out + n, replacement, REPLACEMENT_SIZE);
            n += REPLACEMENT_SIZE;
        }
        state->n_bytes -= length;
        memmove(state->bytes, state->bytes + length, state->n_bytes);
    }
    state->wrote = state->wrote || n > 0;
    return n;
}

/* The byte that a byte piece, "<0x41>", stands for. */
static char byte_of(const char *text)
{
    const int high = text[3] <= '9' ? text[3] - '0' : text[3] - 'A' + 10;
    const int low = text[4] <= '9' ? text[4] - '0' : text[4] - 'A' + 10;

    return (char)(high << 4 | low);
}

size_t tern_sentencepiece_decode_next(const struct tern_sentencepiece *model, struct tern_piece_decoding *state,
                                      int32_t id, char *out)
{
    const struct tern_spm_piece *piece = &model->pieces[id];
    const char *text = model->text + piece->begin;
    size_t size = piece->size, n;
    bool took_space = false;

    if (piece->type == TERN_PIECE_BYTE) {
        state->bytes[state->n_bytes++] = byte_of(text);
        return put_bytes(state, false, out);
    }
    n = put_bytes(state, true, out);
    state->begun = state->begun || state->wrote;
    if (piece->type == TERN_PIECE_CONTROL)
        return n;
    if (!state->begun && (model->add_dummy_prefix || model->remove_extra_whitespaces) && size >= SPACE_SIZE &&
        memcmp(text, space_symbol, SPACE_SIZE) == 0) {
        text += SPACE_SIZE;
        size -= SPACE_SIZE;
        took_space = !model->remove_extra_whitespaces; /* else all spaces at the beginning go */
    }
    const size_t before = n;
    if (piece->type == TERN_PIECE_UNKNOWN) {
        memcpy(out + n, model->unk_surface, model->unk_surface_size);
        n += model->unk_surface_size;
    } else {
        n += put_text(text, size, out + n);
    }
    state->wrote = state->wrote || n > before;
    state->begun = state->begun || took_space || state->wrote;
    return n;
}

size_t tern_sentencepiece_decode_end(struct tern_piece_decoding *state, char *out)
{
    const size_t n = put_bytes(state, true, out);

    *state = (struct tern_piece_decoding){ 0 };
    return n;
}

size_t tern_sentencepiece_bytes(const struct tern_sentencepiece *model, int32_t id, char *out)
{
    const struct tern_spm_piece *piece = &model->pieces[id];
    const char *text = model->text + piece->begin;

    if (piece->type != TERN_PIECE_BYTE)
        return put_text(text, piece->size, out);
    out[0] = byte_of(text);
    return 1;
}
