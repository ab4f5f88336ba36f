/* folder.h: an input as the files of a folder.
 *
 * The files are one behind the other: a line of @ and a letter begins one, and what is before the first such line is passed over.  Of a
 * safetensors file the input has the header's text alone: its length is put before it, and as much data behind it as the offsets in it
 * ask for, so that a changed header is still one. */
#ifndef TERN_FUZZ_FOLDER_H
#define TERN_FUZZ_FOLDER_H

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_DATA_MAX ((size_t)1 << 18) /* bytes of tensors */

struct fuzz_file {
    char letter;
    const char *name; /* may be in a folder of its own */
    bool safetensors;
};

static char fuzz_folder[] = "/tmp/tern-fuzz-XXXXXX";
static const struct fuzz_file *fuzz_files;
static size_t fuzz_n_files;

static inline void folder_path(char path[96], size_t file)
{
    snprintf(path, 96, "%s/%s", fuzz_folder, fuzz_files[file].name);
}

static inline void folder_clear(void)
{
    char path[96];

    for (size_t i = 0; i < fuzz_n_files; i++) {
        folder_path(path, i);
        unlink(path);
    }
}

static inline void folder_leave(void)
{
    char path[96];

    folder_clear();
    for (size_t i = 0; i < fuzz_n_files; i++) {
        folder_path(path, i);
        *strrchr(path, '/') = '\0';
        rmdir(path);
    }
    rmdir(fuzz_folder);
}

/* Whether a file begins at data[at..size): "@x\n" at the beginning of a line; which one in *file. */
static inline bool folder_begins(const uint8_t *data, size_t size, size_t at, size_t *file)
{
    if (size - at < 3 || data[at] != '@' || data[at + 2] != '\n' || (at > 0 && data[at - 1] != '\n'))
        return false;
    for (*file = 0; *file < fuzz_n_files; ++*file)
        if (fuzz_files[*file].letter == (char)data[at + 1])
            return true;
    return false;
}

/* Bytes that the tensors of a header end at. */
static inline size_t folder_data_size(const uint8_t *header, size_t size)
{
    struct tern_ctx ctx = { 0 };
    struct tern_json *json;
    size_t end = 0;

    if (tern_json_parse(&ctx, (const char *)header, size, "header", &json) != TERN_OK)
        return 0;
    const tern_json_value *root = tern_json_root(json);
    void *it = tern_json_type(root) == TERN_JSON_OBJECT ? tern_json_iter(root) : NULL;
    for (; it; it = tern_json_next(root, it)) {
        const tern_json_value *t = tern_json_iter_value(it);
        const tern_json_value *offsets =
            tern_json_type(t) == TERN_JSON_OBJECT ? tern_json_get(t, "data_offsets") : NULL;
        const tern_json_value *last =
            offsets && tern_json_type(offsets) == TERN_JSON_ARRAY ? tern_json_at(offsets, 1) : NULL;
        if (last && tern_json_type(last) == TERN_JSON_INT && tern_json_int(last) > 0 &&
            (uint64_t)tern_json_int(last) <= FOLDER_DATA_MAX && (size_t)tern_json_int(last) > end)
            end = (size_t)tern_json_int(last);
    }
    tern_json_destroy(json);
    return end;
}

static inline void folder_write(size_t file, const uint8_t *data, size_t size)
{
    char path[96];

    folder_path(path, file);
    FILE *f = fopen(path, "wb");
    if (!f)
        abort();
    if (fuzz_files[file].safetensors) {
        const size_t n = folder_data_size(data, size);
        for (int i = 0; i < 8; i++)
            fputc((int)(size >> 8 * i & 0xff), f);
        if (size > 0 && fwrite(data, 1, size, f) != size)
            abort();
        for (size_t i = 0; i < n; i++) /* numbers around 1 in each dtype */
            fputc(i % 2 ? 0x3c + (int)(i % 3) : (int)(i * 7 & 0xff), f);
    } else if (size > 0 && fwrite(data, 1, size, f) != size) {
        abort();
    }
    fclose(f);
}

/* The input's files, in the folder that fuzz_folder names. */
static inline void folder_fill(const struct fuzz_file *files, size_t n_files, const uint8_t *data, size_t size)
{
    static bool there;
    size_t file, next;

    if (!there) {
        fuzz_files = files;
        fuzz_n_files = n_files;
        if (!mkdtemp(fuzz_folder))
            abort();
        for (size_t i = 0; i < n_files; i++) {
            char path[96];
            folder_path(path, i);
            *strrchr(path, '/') = '\0';
            mkdir(path, 0700);
        }
        atexit(folder_leave);
        there = true;
    }
    for (size_t at = 0; at < size;) {
        if (!folder_begins(data, size, at, &file)) {
            at++;
            continue;
        }
        size_t end = at + 3;
        while (end < size && !folder_begins(data, size, end, &next))
            end++;
        folder_write(file, data + at + 3, end - at - 3);
        at = end;
    }
}

#endif
