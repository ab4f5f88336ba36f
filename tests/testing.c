/* testing.c: see testing.h. */
#include "testing.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* An allocation that cannot be met answers NULL under sanitizers too: that is what many tests are about. */
#if TEST_ASAN
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif
#if TEST_TSAN
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

static char *next_buffer(void)
{
    static char buffers[8][4096];
    static unsigned next;

    return buffers[next++ % 8];
}

static const char *joined(const char *dir, const char *relative)
{
    char *path = next_buffer();

    snprintf(path, 4096, "%s%s%s", dir, *relative ? "/" : "", relative);
    return path;
}

const char *test_path(const char *relative)
{
    return joined(TERN_SOURCE_DIR, relative);
}

const char *test_golden(const char *relative)
{
    return joined(TERN_SOURCE_DIR "/tests/golden", relative);
}

const char *test_data(const char *relative)
{
    const char *dir = getenv("TERN_TEST_DATA");
    const char *path = joined(dir && *dir ? dir : TERN_SOURCE_DIR "/../shared/data", relative);

    return access(path, R_OK) == 0 ? path : NULL;
}

void test_say_skip(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("skipped: ", stdout);
    vfprintf(stdout, format, args);
    fputc('\n', stdout);
    fflush(stdout);
    va_end(args);
}

const char *test_temp_dir(void)
{
    static char paths[64][4096];
    static unsigned next;
    char *path = paths[next++ % 64];

    snprintf(path, sizeof paths[0], "%s/tmp-XXXXXX", TERN_BINARY_DIR);
    if (!mkdtemp(path))
        fail_msg("cannot make %s", path);
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void test_remove_dir(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_write(const char *dir, const char *name, const void *data, size_t size)
{
    const char *path = joined(dir, name);
    FILE *f = fopen(path, "wb");

    if (!f)
        fail_msg("cannot write %s", path);
    const size_t written = size ? fwrite(data, 1, size, f) : 0;
    if (fclose(f) != 0 || written != size)
        fail_msg("cannot write %s", path);
    return path;
}

char *test_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    struct stat st;

    if (!f || fstat(fileno(f), &st) != 0)
        fail_msg("cannot read %s", path);
    char *text = malloc((size_t)st.st_size + 1);
    assert_non_null(text);
    *size = fread(text, 1, (size_t)st.st_size, f);
    text[*size] = '\0';
    fclose(f);
    return text;
}

tern_ctx *test_ctx(int threads)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[512];
    tern_ctx *ctx;

    options.n_threads = threads;
    if (tern_ctx_create(&ctx, &options, message, sizeof message) != TERN_OK)
        fail_msg("no context with %d threads: %s", threads, message);
    return ctx;
}

void test_assert_ok(const tern_ctx *ctx, tern_status status, const char *call, const char *file, int line)
{
    if (status == TERN_OK)
        return;
    print_error("%s: %s: %s\n", call, tern_status_name(status), tern_error(ctx));
    _fail(file, line);
}

void test_assert_fails(const tern_ctx *ctx, tern_status got, tern_status want, const char *part, const char *call,
                       const char *file, int line)
{
    const char *text = tern_error(ctx);

    if (got == want && *text && strstr(text, part))
        return;
    print_error("%s: got %s, \"%s\"\n  expected %s, a text with \"%s\"\n", call, tern_status_name(got),
                got == TERN_OK ? "" : text, tern_status_name(want), part);
    _fail(file, line);
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

float test_normal(uint64_t *state)
{
    const double u = ((double)(test_random(state) >> 11) + 1) * 0x1p-53,
                 v = (double)(test_random(state) >> 11) * 0x1p-53;

    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}
