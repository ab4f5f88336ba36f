/* test_memory.c: allocation, arenas and files. */
#include "faults.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/scratch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void sizes(void **state)
{
    size_t out = 7;

    (void)state;
    assert_true(tern_size_mul(3, 5, &out));
    assert_int_equal(out, 15);
    assert_false(tern_size_mul(SIZE_MAX / 2, 3, &out));
    assert_int_equal(out, 15);
    assert_true(tern_size_mul(SIZE_MAX, 0, &out));
    assert_int_equal(out, 0);
    assert_true(tern_size_add(SIZE_MAX - 1, 1, &out));
    assert_false(tern_size_add(SIZE_MAX, 1, &out));
    assert_true(out == SIZE_MAX);
}

static void allocations(void **state)
{
    struct tern_ctx ctx = { 0 };
    unsigned char *p;
    char *text;

    (void)state;
    for (size_t n = 0; n < 300; n += 7) {
        assert_ok(&ctx, TERN_ALLOC(&ctx, n, "bytes", &p));
        assert_non_null(p);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        if (n >= TERN_ALIGN)
            assert_int_equal((uintptr_t)p % TERN_ALIGN, 0);
        tern_free(p);
    }
    assert_fails(&ctx, tern_alloc(&ctx, SIZE_MAX, 2, "a far too large thing", (void **)&p), TERN_ERR_MEMORY,
                 "a far too large thing");
    assert_null(p);
    assert_fails(&ctx, tern_alloc(&ctx, SIZE_MAX - 3, 1, "nearly everything", (void **)&p), TERN_ERR_MEMORY,
                 "nearly everything");
    assert_fails(&ctx, tern_alloc(&ctx, PTRDIFF_MAX / 2, 1, "half of it", (void **)&p), TERN_ERR_MEMORY, "half of it");

    assert_ok(&ctx, tern_strndup(&ctx, "abcdef", 3, "a text", &text));
    assert_string_equal(text, "abc");
    tern_free(text);
    assert_ok(&ctx, tern_strndup(&ctx, NULL, 0, "a text", &text));
    assert_string_equal(text, "");
    tern_free(text);
    tern_free(NULL);
}

static void growing(void **state)
{
    struct tern_ctx ctx = { 0 };
    int *list = NULL;
    size_t capacity = 0;
    int moves = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        const size_t before = capacity;
        assert_ok(&ctx, TERN_GROW(&ctx, &list, &capacity, (size_t)i + 1, "numbers"));
        moves += capacity != before;
        list[i] = i;
    }
    assert_true(moves < 25);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(list[i], i);
    const size_t before = capacity;
    assert_fails(&ctx, TERN_GROW(&ctx, &list, &capacity, SIZE_MAX / 2, "too many numbers"), TERN_ERR_MEMORY,
                 "too many numbers");
    assert_int_equal(capacity, before);
    assert_int_equal(list[9999], 9999);
    tern_free(list);
}

static void pages(void **state)
{
    static const size_t lengths[] = { 0, 1, 4096, 4097, 100000, 2 << 20, (2 << 20) + 1, 5 << 20 };
    struct tern_ctx ctx = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        void *block;
        const size_t n = lengths[i];
        assert_ok(&ctx, tern_pages_alloc(&ctx, n, "pages", &block));
        unsigned char *p = block;
        assert_int_equal((uintptr_t)p % (n >= 2 << 20 ? 2 << 20 : 4096), 0);
        for (size_t at = 0; at < n; at += 1000) {
            assert_int_equal(p[at], 0);
            p[at] = 1;
        }
        if (n)
            p[n - 1] = 1;
        tern_pages_free(p, n);
    }
    void *none;
    assert_fails(&ctx, tern_pages_alloc(&ctx, SIZE_MAX - 5, "the universe", &none), TERN_ERR_MEMORY, "the universe");
    assert_null(none);
    assert_fails(&ctx, tern_pages_alloc(&ctx, (size_t)1 << 60, "the moon", &none), TERN_ERR_MEMORY, "the moon");
    tern_pages_free(NULL, 100);
}

/* Pieces of a mapping are as pages of their own: zeroed, apart, freed one by one in any order, also when the rest is given back. */
static void carved_pages(void **state)
{
    static const size_t lengths[] = { 0,       1,       256 << 10, 1000000,        2 << 20,
                                      3000001, 9 << 20, 16 << 20,  (16 << 20) + 1, 300000 };
    enum { N = sizeof lengths / sizeof lengths[0] };
    struct tern_ctx ctx = { 0 };
    void *blocks[2 * N];

    (void)state;
    for (size_t i = 0; i < 2 * N; i++) {
        const size_t n = lengths[i % N];
        assert_ok(&ctx, tern_pages_carve(&ctx, n, "pieces", &blocks[i]));
        unsigned char *p = blocks[i];
        assert_int_equal((uintptr_t)p % 4096, 0);
        for (size_t at = 0; at < n; at += 1000) {
            assert_int_equal(p[at], 0);
            p[at] = (unsigned char)(i + 1);
        }
        if (i % 3 == 0) {
            tern_pages_free(p, n);
            blocks[i] = NULL;
        }
    }
    assert_true(ctx.uncarved_bytes > 0);
    tern_pages_drop(&ctx);
    assert_true(ctx.uncarved_bytes == 0 && !ctx.uncarved);
    tern_pages_drop(&ctx);
    for (size_t i = 0; i < 2 * N; i++) {
        for (size_t at = 0; blocks[i] && at < lengths[i % N]; at += 1000)
            assert_int_equal(((unsigned char *)blocks[i])[at], (unsigned char)(i + 1));
        tern_pages_free(blocks[i], lengths[i % N]);
    }
    void *none;
    assert_fails(&ctx, tern_pages_carve(&ctx, SIZE_MAX - 5, "the universe", &none), TERN_ERR_MEMORY, "the universe");
}

/* The same code sizes the arena and uses it. */
static void take_some(struct tern_arena *arena, float **a, unsigned char **b, double **c)
{
    *a = TERN_TAKE(arena, float, 100);
    *b = TERN_TAKE(arena, unsigned char, 1);
    (void)TERN_TAKE(arena, unsigned char, 5000);
    *c = TERN_TAKE(arena, double, 33);
}

static void arenas(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_arena counter = tern_arena_counter(), arena;
    float *a;
    unsigned char *b;
    double *c;

    (void)state;
    take_some(&counter, &a, &b, &c);
    assert_null(a);
    assert_true(counter.used > 5600 && counter.used < 7000);
    assert_ok(&ctx, tern_arena_create(&ctx, counter.used, "scratch", &arena));
    take_some(&arena, &a, &b, &c);
    assert_int_equal(arena.used, counter.used);
    assert_int_equal((uintptr_t)a % TERN_ALIGN, 0);
    assert_int_equal((uintptr_t)b % TERN_ALIGN, 0);
    memset(a, 1, 100 * sizeof *a);
    memset(c, 1, 33 * sizeof *c);
    tern_arena_destroy(&arena);
    assert_null(arena.base);
    tern_arena_destroy(&arena);

    /* A count that overflows must not turn into a small arena. */
    counter = tern_arena_counter();
    (void)tern_arena_take(&counter, SIZE_MAX / 2, 4);
    (void)tern_arena_take(&counter, 10, 4);
    assert_true(counter.used == SIZE_MAX);
    assert_fails(&ctx, tern_arena_create(&ctx, counter.used, "scratch", &arena), TERN_ERR_MEMORY, "scratch");
    assert_null(arena.base);
}

/* What one call borrowed, the next one of the context gets again, whole. */
static void borrowed_arenas(void **state)
{
    struct tern_ctx ctx = { 0 };
    struct tern_arena counter = tern_arena_counter(), arena;
    unsigned char *base = NULL, *b;
    float *a;
    double *c;

    (void)state;
    take_some(&counter, &a, &b, &c);
    for (int i = 0; i < 3; i++) {
        assert_ok(&ctx, tern_arena_borrow(&ctx, counter.used, "scratch", &arena));
        assert_true(!base || base == arena.base);
        base = arena.base;
        take_some(&arena, &a, &b, &c);
        for (int j = 0; j < 100; j++)
            a[j] = (float)j;
        *b = 1;
        c[32] = 1;
        assert_int_equal(arena.used, counter.used);
        tern_arena_return(&ctx, &arena);
        assert_null(arena.base);
        tern_arena_return(&ctx, &arena);
    }
    tern_scratch_drop(&ctx);
    assert_fails(&ctx, tern_arena_borrow(&ctx, SIZE_MAX, "scratch", &arena), TERN_ERR_MEMORY, "scratch");
    assert_null(arena.base);
    tern_scratch_drop(&ctx);
}

static void files(void **state)
{
    struct tern_ctx ctx = { 0 };
    const char *dir = test_temp_dir(), *path = test_write(dir, "some", "hello", 5);
    const char *empty = test_write(dir, "empty", "", 0);
    struct tern_map map;
    char *text, *joined;
    size_t size;

    (void)state;
    assert_ok(&ctx, tern_map_open(&ctx, path, &map));
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "hello", 5);
    tern_map_drop(&map, 0, 5);
    tern_map_drop(&map, 100, 5);
    assert_memory_equal(map.data, "hello", 5);
    tern_map_close(&map);
    assert_null(map.data);
    tern_map_close(&map);
    assert_ok(&ctx, tern_map_open(&ctx, empty, &map));
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    tern_map_drop(&map, 0, 1);
    tern_map_close(&map);

    assert_ok(&ctx, tern_file_read(&ctx, path, 5, &text, &size));
    assert_int_equal(size, 5);
    assert_string_equal(text, "hello");
    tern_free(text);
    assert_ok(&ctx, tern_file_read(&ctx, empty, 5, &text, &size));
    assert_string_equal(text, "");
    tern_free(text);
    assert_fails(&ctx, tern_file_read(&ctx, path, 4, &text, &size), TERN_ERR_FORMAT, "5 bytes, the limit is 4");
    assert_null(text);

    assert_ok(&ctx, tern_path_join(&ctx, dir, "absent", &joined));
    assert_fails(&ctx, tern_file_read(&ctx, joined, 5, &text, &size), TERN_ERR_NOT_FOUND, joined);
    assert_fails(&ctx, tern_map_open(&ctx, joined, &map), TERN_ERR_NOT_FOUND, "No such file");
    assert_fails(&ctx, tern_map_open(&ctx, dir, &map), TERN_ERR_IO, "is a directory");
    assert_int_equal(mkfifo(joined, 0600), 0);
    assert_fails(&ctx, tern_map_open(&ctx, joined, &map), TERN_ERR_IO, "is a pipe or device"); /* and does not wait */
    assert_false(tern_path_is_file(joined));
    tern_free(joined);
    assert_fails(&ctx, tern_map_open(&ctx, "/dev/null", &map), TERN_ERR_IO, "is a pipe or device");

    assert_true(tern_path_is_file(path));
    assert_false(tern_path_is_file(dir));
    assert_true(tern_path_is_dir(dir));
    assert_false(tern_path_is_dir(path));
    assert_ok(&ctx, tern_path_join(&ctx, "a/", "b", &joined));
    assert_string_equal(joined, "a/b");
    tern_free(joined);
    assert_ok(&ctx, tern_path_join(&ctx, "", "b", &joined));
    assert_string_equal(joined, "b");
    tern_free(joined);
    test_remove_dir(dir);
}

static void memory_faults(void **state)
{
    struct tern_ctx ctx = { 0 };
    const char *dir = test_temp_dir(), *path = test_write(dir, "some", "hello", 5);
    struct tern_arena arena;
    struct tern_map map;
    char *text = NULL;
    size_t size;

    (void)state;
    FAULT_NEEDED;
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_file_read(&ctx, path, 100, &text, &size);
        FAULT_DONE(n, &ctx, status, text);
        assert_int_equal(status, TERN_ERR_MEMORY);
    }
    tern_free(text);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_map_open(&ctx, path, &map);
        FAULT_DONE(n, &ctx, status, map.data);
        assert_int_equal(status, TERN_ERR_MEMORY);
    }
    tern_map_close(&map);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_arena_create(&ctx, 3 << 20, "scratch", &arena);
        FAULT_DONE(n, &ctx, status, arena.base);
        assert_int_equal(status, TERN_ERR_MEMORY);
    }
    tern_arena_destroy(&arena);
    test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),           cmocka_unit_test(allocations),  cmocka_unit_test(growing),
        cmocka_unit_test(pages),           cmocka_unit_test(carved_pages), cmocka_unit_test(arenas),
        cmocka_unit_test(borrowed_arenas), cmocka_unit_test(files),        cmocka_unit_test(memory_faults),
    };

    return cmocka_run_group_tests_name("base/memory", tests, NULL, NULL);
}
