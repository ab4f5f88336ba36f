/* fuzz_charsmap.c: any bytes as SentencePiece's table of replacements, which is then asked about a text, and the bytes
 * behind the table about themselves. */
#include "base/utf8.h"
#include "text/charsmap.h"

#include <stdlib.h>
#include <string.h>

static void ask(const struct tern_charsmap *map, const char *text, size_t size)
{
    for (size_t at = 0; at < size; at++)
        for (int longest = 0; longest < 2; longest++) {
            size_t used = 0, found_size = 0;
            const char *found = tern_charsmap_find(map, text + at, size - at, longest, &used, &found_size);

            size_t bad;

            if (found && (used == 0 || used > size - at || strlen(found) != found_size ||
                          !tern_utf8_check(found, found_size, &bad)))
                abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] = "A\xCC\x8A e\xCC\x81 \xEF\xAC\x81 \xC2\xAD \xE3\x80\x80 \xC4\xB0 AB x\xCC\x81";
    struct tern_charsmap *map;
    tern_ctx ctx = { 0 };

    if (tern_charsmap_create(&ctx, (const char *)data, size, "input", &map) == TERN_OK) {
        ask(map, sample, sizeof sample - 1);
        ask(map, (const char *)data, size < 4096 ? size : 4096);
        tern_charsmap_destroy(map);
    } else if (map || !tern_error(&ctx)[0]) {
        abort();
    }
    if (tern_charsmap_create_base64(&ctx, (const char *)data, size, "input", &map) == TERN_OK)
        tern_charsmap_destroy(map);
    else if (map || !tern_error(&ctx)[0])
        abort();
    return 0;
}
