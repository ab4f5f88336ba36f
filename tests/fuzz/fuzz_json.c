/* fuzz_json.c: any bytes as a JSON document.
 *
 * What is accepted is walked as a whole; two readings of it agree; an error has a text.  An answer of "out of memory" for a
 * text of this size would mean that the reader lost its way. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static size_t walk(const tern_json_value *value)
{
    size_t sum = 1, length;

    switch (tern_json_type(value)) {
    case TERN_JSON_OBJECT:
        for (void *it = tern_json_iter(value); it; it = tern_json_next(value, it)) {
            const char *key = tern_json_iter_key(it, &length);
            if (tern_json_get(value, key) != tern_json_iter_value(it) || strlen(key) != length)
                abort();
            sum += length + walk(tern_json_iter_value(it));
        }
        break;
    case TERN_JSON_ARRAY:
        for (size_t i = 0; i < tern_json_size(value); i++)
            sum += walk(tern_json_at(value, i));
        break;
    case TERN_JSON_STRING:
        if (tern_json_string(value, &length)[length] != '\0')
            abort();
        sum += length;
        break;
    case TERN_JSON_INT:
    case TERN_JSON_REAL:
        sum += tern_json_number(value) != 0;
        break;
    case TERN_JSON_BOOL:
        sum += tern_json_bool(value);
        break;
    case TERN_JSON_NULL:
        break;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *strict, *loose;

    const tern_status status = tern_json_parse(&ctx, (const char *)data, size, "input", &strict);
    if (status != TERN_OK && (status != TERN_ERR_FORMAT || strict || !ctx.error[0]))
        abort();
    const tern_status second =
        tern_json_parse_with(&ctx, (const char *)data, size, "input", TERN_JSON_LAST_WINS, &loose);
    if (status == TERN_OK) {
        int64_t number;
        if (second != TERN_OK || walk(tern_json_root(strict)) != walk(tern_json_root(loose)))
            abort();
        (void)tern_json_opt_int(&ctx, strict, tern_json_root(strict), "a", 0, 10, 5, &number);
    }
    tern_json_destroy(strict);
    tern_json_destroy(loose);
    return 0;
}
