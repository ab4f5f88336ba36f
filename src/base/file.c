/* file.c: files as input. */
#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The system's words for an errno, in the caller's buffer: strerror() is not for threads. */
static const char *error_words(int error, char *buffer, size_t size)
{
    return strerror_r(error, buffer, size); /* the GNU form, which returns the text */
}

static tern_status fail_errno(tern_ctx *ctx, const char *path, const char *action, int error)
{
    char words[128];
    const tern_status status = error == ENOENT || error == ENOTDIR ? TERN_ERR_NOT_FOUND
                               : error == ENOMEM                   ? TERN_ERR_MEMORY
                                                                   : TERN_ERR_IO;

    return tern_fail(ctx, status, "%s: cannot %s: %s", path, action, error_words(error, words, sizeof words));
}

/* Opens a regular file.  A pipe or a device is refused before it can block or turn out endless. */
static tern_status open_regular(tern_ctx *ctx, const char *path, int *fd, size_t *size)
{
    struct stat st;

    do
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (*fd < 0 && errno == EINTR);
    if (*fd < 0)
        return fail_errno(ctx, path, "open", errno);
    if (fstat(*fd, &st) != 0) {
        const int error = errno;
        close(*fd);
        return fail_errno(ctx, path, "open", error);
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return tern_fail(ctx, TERN_ERR_IO, "%s: is %s, expected a regular file", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "a pipe or device");
    }
    *size = (size_t)st.st_size;
    return TERN_OK;
}

static bool begins_with(const char *text, size_t size, const char *word)
{
    return size >= strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

/* What downloads leave in the place of a file when they go wrong: no file of a model begins like this. */
static tern_status check_download(tern_ctx *ctx, const char *path, const char *text, size_t size)
{
    TERN_REQUIRE(ctx, !begins_with(text, size, "version https://git-lfs.github.com/spec/"), TERN_ERR_FORMAT,
                 "%s: is a Git LFS pointer in place of the file; in its repository: git lfs pull", path);
    while (size > 0 && strchr(" \t\r\n", *text) && *text)
        text++, size--;
    TERN_REQUIRE(ctx, !begins_with(text, size, "<!doctype html") && !begins_with(text, size, "<html"), TERN_ERR_FORMAT,
                 "%s: is an HTML page in place of the file: a download that failed", path);
    return TERN_OK;
}

tern_status tern_map_open(tern_ctx *ctx, const char *path, struct tern_map *out)
{
    int fd;
    size_t size;

    *out = (struct tern_map){ 0 };
    TERN_TRY(open_regular(ctx, path, &fd, &size));
    if (size > 0) {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            const int error = errno;
            close(fd);
            return fail_errno(ctx, path, "map", error);
        }
        *out = (struct tern_map){ .data = data, .size = size };
    }
    close(fd);
    const tern_status status = check_download(ctx, path, (const char *)out->data, out->size);
    if (status != TERN_OK)
        tern_map_close(out);
    return status;
}

void tern_map_close(struct tern_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct tern_map){ 0 };
}

void tern_map_drop(const struct tern_map *map, size_t offset, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (!map->data || offset >= map->size)
        return;
    if (size > map->size - offset)
        size = map->size - offset;
    /* Only pages that lie wholly inside: their neighbours may still be in use.  The file's last page has no neighbour. */
    const size_t begin = (offset + page - 1) / page * page;
    const size_t end = offset + size == map->size ? map->size : (offset + size) / page * page;
    if (begin < end)
        (void)madvise((void *)(uintptr_t)(map->data + begin), end - begin, MADV_DONTNEED);
}

tern_status tern_file_read(tern_ctx *ctx, const char *path, size_t limit, char **out, size_t *size)
{
    int fd;
    size_t expected, n = 0;
    char *text = NULL;
    tern_status status;

    *out = NULL;
    *size = 0;
    TERN_TRY(open_regular(ctx, path, &fd, &expected));
    TERN_REQUIRE_OR_FAIL(ctx, expected <= limit, TERN_ERR_FORMAT, "%s: file has %zu bytes, the limit is %zu", path,
                         expected, limit);
    TERN_TRY_OR_FAIL(tern_alloc(ctx, expected + 1, 1, path, (void **)&text));
    /* A file that grows meanwhile is read up to the size that was checked; one that shrinks is read to its end. */
    while (n < expected) {
        const ssize_t got = read(fd, text + n, expected - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = fail_errno(ctx, path, "read", errno);
            goto fail;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    text[n] = '\0';
    TERN_TRY_OR_FAIL(check_download(ctx, path, text, n));
    close(fd);
    *out = text;
    *size = n;
    return TERN_OK;

fail:
    close(fd);
    tern_free(text);
    return status;
}

tern_status tern_path_join(tern_ctx *ctx, const char *dir, const char *name, char **out)
{
    const size_t dir_len = strlen(dir), size = dir_len + strlen(name) + 2;
    const char *slash = dir_len == 0 || dir[dir_len - 1] == '/' ? "" : "/";

    TERN_TRY(tern_alloc(ctx, size, 1, "a path", (void **)out));
    snprintf(*out, size, "%s%s%s", dir, slash, name);
    return TERN_OK;
}

bool tern_path_is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool tern_path_is_absent(const char *path)
{
    struct stat st;

    return stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

bool tern_path_is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}
