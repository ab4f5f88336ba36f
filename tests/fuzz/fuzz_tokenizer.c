/* fuzz_tokenizer.c: any bytes as a tokenizer.json, and any bytes as a text.
 *
 * A file that opens must encode and decode; an error has a text.  As a text, the bytes go through a small tokenizer
 * with every component: what is UTF-8 has ids, these decode, and a stream of them gives the same text in whole
 * characters. */
#include "text/text.h"
#include "use_tokenizer.h"

static const char fixed[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":true,"
    "\"normalized\":false,"
    "\"special\":true},{\"id\":0,\"content\":\"aB\",\"single_word\":true,\"lstrip\":false,\"rstrip\":true,"
    "\"normalized\":true,"
    "\"special\":false}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":"
    "\"Lowercase\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\w+|"
    "\\\\s\"},"
    "\"behavior\":\"MergedWithNext\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_"
    "offsets\":true,"
    "\"use_regex\":true}]},\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true},"
    "\"model\":{\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1,\"b\":2,\"ab\":3,\"\\u0120\":4,\"\\u0120a\":5,"
    "\"\\u00c3\":6,"
    "\"\\u00c3\\u00a9\":7,\"\\u00a9\":8,\"aa\":9,\"aaaa\":10},\"merges\":[\"a b\",\"\\u0120 a\",\"\\u00c3 "
    "\\u00a9\",\"a a\",\"aa aa\"]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] =
        "Hello  world's <s> aB ab\xC3\xA9 123\n\n\xF0\x9F\x98\x80 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static tern_tokenizer *small; /* read-only, made once */
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;

    if (!small && tern_tokenizer_parse(&ctx, fixed, sizeof fixed - 1, "fixed", &small) != TERN_OK)
        abort();
    use_tokenizer(small, (const char *)data, size);

    if (tern_tokenizer_parse(&ctx, (const char *)data, size, "input", &t) == TERN_OK) {
        use_tokenizer(t, sample, sizeof sample - 1);
        tern_tokenizer_close(&t);
    } else if (t || !tern_error(&ctx)[0]) {
        abort();
    }
    return 0;
}
