/* testing.h: what every test program shares.  Include it instead of <cmocka.h>. */
#ifndef TERN_TESTING_H
#define TERN_TESTING_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <tern/context.h>

/* Which sanitizer this program is built with. */
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif

/* Paths, in one of a few static buffers: good until the eighth path after. */
const char *test_path(const char *relative);   /* in the source tree: test_path("models/tiny-shakespeare") */
const char *test_golden(const char *relative); /* in tests/golden */
/* In the data from outside: $TERN_TEST_DATA, else ../shared/data beside the source tree.  NULL where that is absent;
 * TEST_NEED_DATA skips the running test then, aloud. */
const char *test_data(const char *relative);
#define TEST_NEED_DATA(variable, relative)      \
    const char *variable = test_data(relative); \
    if (!variable)                              \
    TEST_SKIP("%s of the data from outside is not here (TERN_TEST_DATA)", (relative))

/* Leaves the test as skipped and says why on a line of its own. */
#define TEST_SKIP(...)              \
    do {                            \
        test_say_skip(__VA_ARGS__); \
        skip();                     \
    } while (0)
void test_say_skip(const char *format, ...) TERN_PRINTF(1, 2);

/* A fresh empty folder in the build tree, removed with all that it holds by test_remove_dir.  The name stays good. */
const char *test_temp_dir(void);
void test_remove_dir(const char *path);
/* Writes a file, fails the test when it cannot.  Returns its path. */
const char *test_write(const char *dir, const char *name, const void *data, size_t size);
/* A whole file with a NUL behind it, to be freed with free(); fails the test when it cannot. */
char *test_read(const char *path, size_t *size);

/* A context with `threads` threads (0: the default), or the test fails with the message. */
tern_ctx *test_ctx(int threads);

/* status is TERN_OK, or the test fails with the context's text. */
#define assert_ok(ctx, call) test_assert_ok((ctx), (call), #call, __FILE__, __LINE__)
void test_assert_ok(const tern_ctx *ctx, tern_status status, const char *call, const char *file, int line);
/* The call answers `status`, and the context's text contains `part` (which may be ""; a text must be there all the same). */
#define assert_fails(ctx, call, status, part) \
    test_assert_fails((ctx), (call), (status), (part), #call, __FILE__, __LINE__)
void test_assert_fails(const tern_ctx *ctx, tern_status got, tern_status want, const char *part, const char *call,
                       const char *file, int line);

/* Deterministic random numbers for tests (splitmix64). */
uint64_t test_random(uint64_t *state);
float test_normal(uint64_t *state); /* N(0, 1) */

#endif
