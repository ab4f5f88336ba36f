/* fuzz_vocab_folder.c: any bytes as the files of a folder that holds a vocabulary and no tokenizer.json: folder.h's.
 *
 * A folder that opens must encode and decode; an error has a text. */
#include "folder.h"
#include "use_tokenizer.h"

static const struct fuzz_file files[] = {
    { 'v', "vocab.txt", false },
    { 'j', "vocab.json", false },
    { 'm', "merges.txt", false },
    { 'a', "added_tokens.json", false },
    { 's', "special_tokens_map.json", false },
    { 't', "tokenizer_config.json", false },
    { 'c', "config.json", false },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] =
        "Hello  world's <s> aB [MASK] ab\xC3\xA9 123\n\n\xF0\x9F\x98\x80 </w>\xE6\x97\xA5 aaaaaaaaaaaa\x1C";
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;

    folder_fill(files, sizeof files / sizeof *files, data, size);
    if (tern_tokenizer_open(&ctx, fuzz_folder, &t) == TERN_OK) {
        use_tokenizer(t, sample, sizeof sample - 1);
        tern_tokenizer_close(&t);
    } else if (t || !tern_error(&ctx)[0]) {
        abort();
    }
    folder_clear();
    return 0;
}
