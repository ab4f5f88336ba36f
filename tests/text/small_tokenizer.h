/* small_tokenizer.h: a tokenizer.json of a few tokens, with places where a test puts its own parts. */
#ifndef TERN_SMALL_TOKENIZER_H
#define TERN_SMALL_TOKENIZER_H

#include "testing.h"

#include "text/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_VOCAB                                                                                           \
    "\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"\\u0120\":5,\"ab\":6,\"abc\":7,\"\\u0120a\":8," \
    "\"\\u00e9\":9}"
#define SMALL_MERGES  "\"merges\":[\"a b\",[\"ab\",\"c\"],\"\\u0120 a\"]"
#define SMALL_BPE     "{\"type\":\"BPE\"," SMALL_VOCAB "," SMALL_MERGES "}"
#define SMALL_BYTES   "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define SMALL_NO_RULE "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"

/* The parts as JSON; NULL: null, or the standard one for the model. */
struct small_tokenizer {
    const char *added, *normalizer, *pre_tokenizer, *post_processor, *decoder, *model, *more;
};

/* The file; freed with free(). */
static inline char *small_json(struct small_tokenizer s)
{
    static const char format[] =
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":%s,\"normalizer\":%s,"
        "\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":%s,\"model\":%s%s}";
    const char *none = "null", *added = s.added ? s.added : "[]", *normalizer = s.normalizer ? s.normalizer : none;
    const char *pre = s.pre_tokenizer ? s.pre_tokenizer : none, *post = s.post_processor ? s.post_processor : none;
    const char *decoder = s.decoder ? s.decoder : none, *model = s.model ? s.model : SMALL_BPE;
    const char *more = s.more ? s.more : "";
    const int size = snprintf(NULL, 0, format, added, normalizer, pre, post, decoder, model, more);
    char *text = malloc((size_t)size + 1);

    assert_non_null(text);
    snprintf(text, (size_t)size + 1, format, added, normalizer, pre, post, decoder, model, more);
    return text;
}

static inline tern_status small_open(tern_ctx *ctx, struct small_tokenizer s, tern_tokenizer **out)
{
    char *json = small_json(s);
    const tern_status status = tern_tokenizer_parse(ctx, json, strlen(json), "small.json", out);

    free(json);
    return status;
}

/* The ids of a text are the list that ends with -1. */
#define SMALL_END -1
#define assert_ids(ctx, t, text, ...) \
    small_assert_ids((ctx), (t), (text), (const int32_t[]){ __VA_ARGS__, SMALL_END }, __FILE__, __LINE__)
static inline void small_assert_ids(tern_ctx *ctx, const tern_tokenizer *t, const char *text, const int32_t *want,
                                    const char *file, int line)
{
    tern_ids ids = { 0 };
    size_t n = 0;

    while (want[n] != SMALL_END)
        n++;
    test_assert_ok(ctx, tern_tokenizer_encode(ctx, t, text, strlen(text), true, &ids), text, file, line);
    if (ids.count != n || (n > 0 && memcmp(ids.data, want, n * sizeof *want) != 0)) {
        print_error("'%s' became", text);
        for (size_t i = 0; i < ids.count; i++)
            print_error(" %d", ids.data[i]);
        print_error(", expected");
        for (size_t i = 0; i < n; i++)
            print_error(" %d", want[i]);
        print_error("\n");
        _fail(file, line);
    }
    tern_ids_free(&ids);
}

/* Opens, compares one text, closes. */
#define assert_small(ctx, text, parts, ...)                    \
    do {                                                       \
        tern_tokenizer *small_t_;                              \
        assert_ok((ctx), small_open((ctx), parts, &small_t_)); \
        assert_ids((ctx), small_t_, (text), __VA_ARGS__);      \
        tern_tokenizer_close(&small_t_);                       \
    } while (0)
#define PARTS(...) ((struct small_tokenizer){ __VA_ARGS__ })

#endif
