/* fuzz_sentencepiece.c: any bytes as a .model file.
 *
 * A file that opens must cut a text whose pieces cover it in order and decode to UTF-8; an error has a text.  The text is
 * a fixed one and the file's own bytes where they are UTF-8. */
#include "text/sentencepiece_decode.h"

#include <stdlib.h>
#include <string.h>

static void use(const struct tern_sentencepiece *model, const char *text, size_t size)
{
    struct tern_sentencepiece_scratch scratch = { 0 };
    struct tern_token_list list = { .wants_spans = true };
    struct tern_piece_decoding state = { 0 };
    char *out = malloc(tern_sentencepiece_decode_room(model));
    tern_ctx ctx = { 0 };
    size_t bad, n;

    if (!out || tern_sentencepiece_encode(&ctx, model, &scratch, text, size, &list) != TERN_OK)
        abort();
    for (size_t i = 0; i <= list.ids.count; i++) {
        if (i < list.ids.count) {
            const struct tern_span span = list.spans[i];

            if (list.ids.data[i] < 0 || (size_t)list.ids.data[i] >= model->n_pieces || span.begin > span.end ||
                span.end > size || (i > 0 && span.begin < list.spans[i - 1].begin))
                abort();
            n = tern_sentencepiece_decode_next(model, &state, list.ids.data[i], out);
        } else {
            n = tern_sentencepiece_decode_end(&state, out);
        }
        if (!tern_utf8_check(out, n, &bad))
            abort();
    }
    tern_token_list_destroy(&list);
    tern_sentencepiece_scratch_destroy(&scratch);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] = " Hello  world abcab\xC3\xA9\xE2\x96\x81 \xF0\x9F\x98\x80 aaaaaaaaaaaaa <s>\n\t";
    struct tern_sentencepiece model = { 0 };
    tern_ctx ctx = { 0 };
    size_t bad;

    if (tern_sentencepiece_read(&ctx, &model, (const char *)data, size, "input") == TERN_OK) {
        use(&model, sample, sizeof sample - 1);
        if (size < 4096 && tern_utf8_check((const char *)data, size, &bad))
            use(&model, (const char *)data, size);
    } else if (!tern_error(&ctx)[0]) {
        abort();
    }
    tern_sentencepiece_destroy(&model);
    return 0;
}
