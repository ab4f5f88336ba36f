/* fuzz_vocab_folder.c: any bytes as the files of a folder that holds a vocabulary and no tokenizer.json.
 *
 * The input is the files one behind the other: a line of @ and a letter begins one, and what is before the first such line
 * is passed over.  A folder that opens must encode and decode; an error has a text. */
#include "use_tokenizer.h"

#include <stdio.h>
#include <unistd.h>

static const struct {
    char letter;
    const char *name;
} files[] = {
    { 'v', "vocab.txt" },
    { 'j', "vocab.json" },
    { 'm', "merges.txt" },
    { 'a', "added_tokens.json" },
    { 's', "special_tokens_map.json" },
    { 't', "tokenizer_config.json" },
    { 'c', "config.json" },
};
#define N_FILES (sizeof files / sizeof *files)

static char folder[] = "/tmp/tern-fuzz-XXXXXX";

static void path_of(char path[64], size_t file)
{
    snprintf(path, 64, "%s/%s", folder, files[file].name);
}

static void clear(void)
{
    char path[64];

    for (size_t i = 0; i < N_FILES; i++) {
        path_of(path, i);
        unlink(path);
    }
}

static void leave(void)
{
    clear();
    rmdir(folder);
}

/* Whether a file begins at data[at..size): "@x\n" at the beginning of a line; which one in *file. */
static bool begins(const uint8_t *data, size_t size, size_t at, size_t *file)
{
    if (size - at < 3 || data[at] != '@' || data[at + 2] != '\n' || (at > 0 && data[at - 1] != '\n'))
        return false;
    for (*file = 0; *file < N_FILES; ++*file)
        if (files[*file].letter == (char)data[at + 1])
            return true;
    return false;
}

static void write_file(size_t file, const uint8_t *data, size_t size)
{
    char path[64];

    path_of(path, file);
    FILE *f = fopen(path, "wb");
    if (!f || (size > 0 && fwrite(data, 1, size, f) != size))
        abort();
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] =
        "Hello  world's <s> aB [MASK] ab\xC3\xA9 123\n\n\xF0\x9F\x98\x80 </w>\xE6\x97\xA5 aaaaaaaaaaaa\x1C";
    static bool there;
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    size_t file, next;

    if (!there) {
        if (!mkdtemp(folder))
            abort();
        atexit(leave);
        there = true;
    }
    for (size_t at = 0; at < size;) {
        if (!begins(data, size, at, &file)) {
            at++;
            continue;
        }
        size_t end = at + 3;
        while (end < size && !begins(data, size, end, &next))
            end++;
        write_file(file, data + at + 3, end - at - 3);
        at = end;
    }
    if (tern_tokenizer_open(&ctx, folder, &t) == TERN_OK) {
        use_tokenizer(t, sample, sizeof sample - 1);
        tern_tokenizer_close(&t);
    } else if (t || !tern_error(&ctx)[0]) {
        abort();
    }
    clear();
    return 0;
}
