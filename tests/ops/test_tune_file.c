/* test_tune_file.c: plans are kept from one context to the next; a file that is not right is told and replaced; nothing is lost when
 * two store at once, and nothing fails where nothing can be written. */
/* labels: quick threads */
#include "faults.h"
#include "ops/op_testing.h"

#include "base/memory.h"
#include "kernels/plans.h"
#include "ops/kernel_calls.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *dir;

static int setup(void **state)
{
    (void)state;
    dir = test_temp_dir();
    setenv("XDG_CACHE_HOME", dir, 1);
    unsetenv("TERN_TUNE");
    return 0;
}

static int teardown(void **state)
{
    test_remove_dir(dir);
    return test_teardown(state);
}

static struct tern_plan_entry entry(int64_t in, uint32_t tile_rows)
{
    return (struct tern_plan_entry){ .key = { in, 32, TERN_PLAN_BF16, 4, 2 },
                                     .plan = { tile_rows, 77, TERN_SPLIT_ROWS },
                                     .default_ns = 1234,
                                     .best_ns = 1000,
                                     .measured = true };
}

static void store(tern_ctx *ctx, int64_t in, uint32_t tile_rows)
{
    const struct tern_plan_entry e = entry(in, tile_rows);

    assert_ok(ctx, tern_plans_put(ctx, ctx->plans, &e));
    assert_true(tern_plans_store(ctx->plans, ctx->isa));
}

/* Tile rows of the plan for [in, 32], 0 if there is none. */
static uint32_t found(const tern_ctx *ctx, int64_t in)
{
    const struct tern_plan_entry wanted = entry(in, 0), *e = tern_plans_find(ctx->plans, &wanted.key);

    return e ? e->plan.tile_rows : 0;
}

static const char *file_path(const tern_ctx *ctx)
{
    static char path[4096];

    tern_plans_path(ctx->isa, path, sizeof path);
    return path;
}

static void test_kept(void **state)
{
    tern_ctx *ctx = test_ctx(1), *later;

    (void)state;
    assert_int_equal(ctx->plans->count, 0);
    assert_string_equal(ctx->plans->note, "");
    store(ctx, 64, 5);
    assert_string_equal(ctx->plans->note, "");
    assert_false(ctx->plans->entries[0].measured);
    later = test_ctx(1);
    assert_int_equal(later->plans->count, 1);
    const struct tern_plan_entry *e = &later->plans->entries[0], want = entry(64, 5);
    assert_true(e->key.in == want.key.in && e->key.out == want.key.out && e->key.kind == want.key.kind &&
                e->key.bucket == want.key.bucket && e->key.threads == want.key.threads);
    assert_true(e->plan.tile_rows == 5 && e->plan.k_block == 77 && e->plan.split == TERN_SPLIT_ROWS);
    assert_true(e->default_ns == 1234 && e->best_ns == 1000 && !e->measured);
    assert_string_equal(tern_error(later), "");
    tern_ctx_destroy(&later);

    /* Another level has a file of its own. */
    const tern_ctx_options portable = { .n_threads = 1, .cpu = "portable" };
    assert_int_equal(tern_ctx_create(&later, &portable, NULL, 0), TERN_OK);
    assert_int_equal(later->plans->count, strcmp(ctx->isa, "portable") == 0);
    tern_ctx_destroy(&later);
    tern_ctx_destroy(&ctx);
}

/* What another context stored since this one was made stays; of two entries for one product the later holds. */
static void test_merged(void **state)
{
    tern_ctx *one = test_ctx(1), *two = test_ctx(1);

    (void)state;
    store(one, 64, 5);
    store(one, 96, 6);
    store(two, 128, 7);
    store(two, 96, 8);
    assert_int_equal(found(two, 64), 5); /* taken over from the file */
    store(one, 160, 9);                  /* 96 was stored by `two` after `one` had measured it */
    assert_int_equal(found(one, 96), 8);
    tern_ctx *later = test_ctx(1);
    assert_int_equal(later->plans->count, 4);
    assert_int_equal(found(later, 64), 5);
    assert_int_equal(found(later, 96), 8);
    assert_int_equal(found(later, 128), 7);
    assert_int_equal(found(later, 160), 9);
    tern_ctx_destroy(&later);
    tern_ctx_destroy(&one);
    tern_ctx_destroy(&two);
}

static void *store_many(void *arg)
{
    const int64_t base = *(const int64_t *)arg;
    tern_ctx *ctx = test_ctx(1);

    for (int64_t i = 1; i <= 12; i++)
        store(ctx, base + i, 3);
    tern_ctx_destroy(&ctx);
    return NULL;
}

static void test_at_once(void **state)
{
    int64_t base[4] = { 0, 100, 200, 300 };
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, store_many, &base[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    tern_ctx *ctx = test_ctx(1);
    assert_int_equal(ctx->plans->count, 48);
    tern_ctx_destroy(&ctx);
}

/* A byte changed, cut off or added anywhere, and other programs' files: ignored with a reason, replaced by the next store. */
static void test_not_right(void **state)
{
    static const struct {
        const char *text, *note;
    } texts[] = { { "", "does not begin with" },
                  { "{\"plans\": 1}\n", "does not begin with" },
                  { "tern plans 1\n", "no checksum" },
                  { "tern plans 1\ncpu x\nchecksum 0000000000000000\n", "checksum of what it holds" } };
    tern_ctx *ctx = test_ctx(1), *later;
    const char *path = file_path(ctx);
    size_t size;

    (void)state;
    store(ctx, 64, 5);
    char *good = test_read(path, &size);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] + size + 2; i++) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        if (i < sizeof texts / sizeof texts[0]) {
            fputs(texts[i].text, f);
        } else {
            const size_t at = i - sizeof texts / sizeof texts[0];
            good[at < size ? at : 0] ^= at < size ? 1 : 0;
            fwrite(good, 1, at == size ? size - 1 : size, f);
            if (at == size + 1)
                fputc('x', f);
            good[at < size ? at : 0] ^= at < size ? 1 : 0;
        }
        fclose(f);
        later = test_ctx(1);
        assert_int_equal(later->plans->count, 0);
        assert_non_null(strstr(later->plans->note, i < sizeof texts / sizeof texts[0] ? texts[i].note : path));
        assert_non_null(strstr(later->plans->note, "ignored, and replaced when something is tuned"));
        assert_string_equal(tern_error(later), "");
        tern_ctx_destroy(&later);
    }
    later = test_ctx(1);
    store(later, 96, 6);
    assert_non_null(strstr(later->plans->note, "; replaced"));
    tern_ctx_destroy(&later);
    later = test_ctx(1);
    assert_string_equal(later->plans->note, "");
    assert_int_equal(later->plans->count, 1);
    assert_int_equal(found(later, 96), 6);
    free(good);
    tern_ctx_destroy(&later);
    tern_ctx_destroy(&ctx);
}

/* Texts with a right checksum: every field has its range, and the message its line. */
static void test_fields(void **state)
{
    static const struct {
        const char *line, *message;
    } lines[] = {
        { "f32 64 32 16 2 8 512 panels 10 9", NULL },
        { "q8 2147483647 2147483647 2048 1024 14 65536 rows 999999999999999999 0", NULL },
        { "f64 64 32 16 2 8 512 panels 10 9", "line 6: there is no kind 'f64'" },
        { "f32 0 32 16 2 8 512 panels 10 9", "line 6: in is '0', expected a number in 1..2147483647" },
        { "f32 64 -3 16 2 8 512 panels 10 9", "out is '-3'" },
        { "f32 64 32 4096 2 8 512 panels 10 9", "rows is '4096', expected a number in 1..2048" },
        { "f32 64 32 16 1025 8 512 panels 10 9", "is no entry" },
        { "f32 64 32 16 2 15 512 panels 10 9", "is no entry" },
        { "f32 64 32 16 2 8 65537 panels 10 9", "k_block is '65537'" },
        { "f32 64 32 16 2 8 512 columns 10 9", "there is no split 'columns'" },
        { "f32 64 32 16 2 8 512 panels 10 1000000000000000000", "best_ns is '1000000000000000000'" },
        { "f32 64 32 16 2 8 512 panels 10", "line 6 ends before best_ns" },
        { "f32 64 32 16 2 8 512 panels 10 9 8", "is no entry" },
        { "f32 64 32 16 2 8 512 panels 10 9 ", "is no entry" },
        { "", "line 6 ends before kind" },
    };
    tern_ctx *ctx = test_ctx(1);
    char head[512], text[1024];

    (void)state;
    tern_plans_head(ctx->isa, head, sizeof head);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct tern_plans *plans;
        size_t n = (size_t)snprintf(text, sizeof text, "%s%s\n", head, lines[i].line);
        uint64_t sum = 0xcbf29ce484222325; /* FNV-1a: Fowler, Noll, Vo; 64 bits */
        for (size_t c = 0; c < n; c++)
            sum = (sum ^ (unsigned char)text[c]) * 0x100000001b3;
        n += (size_t)snprintf(text + n, sizeof text - n, "checksum %016" PRIx64 "\n", sum);
        assert_ok(ctx, tern_plans_create(ctx, &plans));
        if (lines[i].message) {
            assert_fails(ctx, tern_plans_parse(ctx, text, n, "F", head, plans), TERN_ERR_FORMAT, lines[i].message);
        } else {
            char *again;
            size_t size;
            assert_ok(ctx, tern_plans_parse(ctx, text, n, "F", head, plans));
            assert_ok(ctx, tern_plans_format(ctx, plans, head, &again, &size));
            assert_int_equal(size, n);
            assert_memory_equal(again, text, n);
            tern_free(again);
        }
        tern_plans_destroy(plans);
    }
    tern_ctx_destroy(&ctx);
}

/* A file that would become larger than one may be loses its oldest plans. */
static void test_limit(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct tern_plans *again;
    char head[512], *text;
    size_t size;

    (void)state;
    tern_plans_head(ctx->isa, head, sizeof head);
    for (int64_t in = 1; in <= 120000; in++) {
        const struct tern_plan_entry e = entry(in, 5);
        assert_ok(ctx, tern_plans_put(ctx, ctx->plans, &e));
    }
    assert_ok(ctx, tern_plans_format(ctx, ctx->plans, head, &text, &size));
    assert_in_range(size, TERN_PLANS_FILE_MAX - 100, TERN_PLANS_FILE_MAX);
    assert_ok(ctx, tern_plans_create(ctx, &again));
    assert_ok(ctx, tern_plans_parse(ctx, text, size, "F", head, again));
    assert_in_range(again->count, 60000, 119999);
    assert_int_equal(again->entries[again->count - 1].key.in, 120000);
    assert_int_equal(again->entries[0].key.in, 120001 - (int64_t)again->count);
    tern_plans_destroy(again);
    tern_free(text);
    assert_true(tern_plans_store(ctx->plans, ctx->isa));
    store(ctx, 120001, 6);
    assert_string_equal(ctx->plans->note, "");
    tern_ctx_destroy(&ctx);
    ctx = test_ctx(1);
    const int64_t oldest = ctx->plans->entries[0].key.in;
    store(ctx, oldest, 7); /* and becomes the latest */
    store(ctx, 120002, 8);
    tern_ctx_destroy(&ctx);
    ctx = test_ctx(1);
    assert_int_equal(found(ctx, oldest), 7);
    assert_int_equal(found(ctx, 120002), 8);
    assert_int_equal(found(ctx, 120001), 6);
    assert_int_equal(found(ctx, 120000), 5);
    tern_ctx_destroy(&ctx);
}

/* Plans that cannot be kept hold in their context, and the reason is told. */
static void test_read_only(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    const struct tern_plan_entry e = entry(64, 5);
    char path[4200];

    (void)state;
    assert_ok(ctx, tern_plans_put(ctx, ctx->plans, &e));
    snprintf(path, sizeof path, "%s/tern", dir);
    test_write(dir, "tern", "x", 1); /* a file where a folder would stand: true for root too, unlike permissions */
    assert_false(tern_plans_store(ctx->plans, ctx->isa));
    assert_non_null(strstr(ctx->plans->note, "tern/tune: cannot make the folder: Not a directory"));
    assert_non_null(strstr(ctx->plans->note, "holds in this context alone"));
    assert_int_equal(found(ctx, 64), 5);
    assert_int_equal(unlink(path), 0);
    assert_true(tern_plans_store(ctx->plans, ctx->isa)); /* it was not forgotten */
    assert_int_equal(chmod(strcat(path, "/tune"), 0500), 0);
    if (geteuid() != 0) { /* permissions do not hold for root */
        const struct tern_plan_entry better = entry(64, 6);
        assert_ok(ctx, tern_plans_put(ctx, ctx->plans, &better));
        assert_false(tern_plans_store(ctx->plans, ctx->isa));
        assert_non_null(strstr(ctx->plans->note, "cannot create: Permission denied"));
        assert_int_equal(found(ctx, 64), 6);
    }
    assert_int_equal(chmod(path, 0700), 0);
    tern_ctx_destroy(&ctx);
}

static void test_no_place(void **state)
{
    const char *home = getenv("HOME");
    char *kept = home ? strdup(home) : NULL;
    tern_ctx *ctx;

    (void)state;
    setenv("XDG_CACHE_HOME", "relative", 1);
    unsetenv("HOME");
    ctx = test_ctx(1);
    const struct tern_plan_entry e = entry(64, 5);
    assert_ok(ctx, tern_plans_put(ctx, ctx->plans, &e));
    assert_false(tern_plans_store(ctx->plans, ctx->isa));
    assert_non_null(strstr(ctx->plans->note, "neither XDG_CACHE_HOME nor HOME"));
    setenv("HOME", dir, 1);
    char path[4096], want[4096];
    tern_plans_path("avx2", path, sizeof path);
    snprintf(want, sizeof want, "%s/.cache/tern/tune/avx2-", dir);
    assert_int_equal(strncmp(path, want, strlen(want)), 0);
    tern_ctx_destroy(&ctx);
    if (kept)
        setenv("HOME", kept, 1);
    free(kept);
}

static void test_off(void **state)
{
    tern_ctx *ctx = test_ctx(1), *off = NULL;
    char message[256];

    (void)state;
    store(ctx, 64, 5);
    setenv("TERN_TUNE", "off", 1);
    off = test_ctx(1);
    assert_int_equal(off->plans->count, 0);
    const struct tern_plan_entry e = entry(96, 6);
    assert_ok(off, tern_plans_put(off, off->plans, &e));
    assert_false(tern_plans_store(off->plans, off->isa));
    assert_non_null(strstr(off->plans->note, "TERN_TUNE is off"));
    tern_ctx_destroy(&off);
    setenv("TERN_TUNE", "maybe", 1);
    assert_int_equal(tern_ctx_create(&off, NULL, message, sizeof message), TERN_ERR_ARG);
    assert_string_equal(message, "TERN_TUNE: got \"maybe\", expected off, or nothing");
    unsetenv("TERN_TUNE");
    off = test_ctx(1);
    assert_int_equal(off->plans->count, 1);
    tern_ctx_destroy(&off);
    tern_ctx_destroy(&ctx);
}

/* A context whose file cannot be read for lack of memory is one without plans; one that cannot store keeps the old file. */
static void test_memory(void **state)
{
    tern_ctx *ctx, *later = NULL;

    (void)state;
    FAULT_NEEDED;
    ctx = test_ctx(1);
    store(ctx, 64, 5);
    for (long n = 0, met = 1; met; n++) {
        fault_arm(n);
        const tern_status status = tern_ctx_create(&later, NULL, NULL, 0);
        met = fault_disarm();
        assert_true(status == TERN_OK || met);
        if (status == TERN_OK)
            assert_true(later->plans->count == 1 || (later->plans->count == 0 && later->plans->note[0]));
        tern_ctx_destroy(&later);
    }
    for (long n = 0, met = 1; met; n++) {
        const struct tern_plan_entry e = entry(64, 6);
        assert_ok(ctx, tern_plans_put(ctx, ctx->plans, &e));
        fault_arm(n);
        const bool stored = tern_plans_store(ctx->plans, ctx->isa);
        met = fault_disarm();
        assert_true(stored || met);
        assert_int_equal(found(ctx, 64), 6);
        later = test_ctx(1);
        assert_int_equal(later->plans->count, 1);
        tern_ctx_destroy(&later);
    }
    tern_ctx_destroy(&ctx);
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_kept),   FILE_TEST(test_merged), FILE_TEST(test_at_once),   FILE_TEST(test_not_right),
        FILE_TEST(test_fields), FILE_TEST(test_limit),  FILE_TEST(test_read_only), FILE_TEST(test_no_place),
        FILE_TEST(test_off),    FILE_TEST(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
