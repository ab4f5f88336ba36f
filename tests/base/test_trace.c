/* test_trace.c: a trace begins and ends once, holds what it has room for, and leaves nothing behind when it cannot be had. */
#include "faults.h"

#include "base/trace.h"

#include <tern/trace.h>

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void region(void *arg, const struct tern_par *par)
{
    static const struct tern_trace_kind kind = { "work", { "first", NULL, "third" } };
    const double begin = tern_trace_begin(par);

    (void)arg;
    tern_barrier(par);
    tern_trace_end(par, &kind, begin, 1, 2, 3);
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, word)); at++)
        n++;
    return n;
}

static void begins_and_ends(void **state)
{
    const char *dir = test_temp_dir();

    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        tern_trace_stats stats;
        char path[4096];
        size_t size;

        snprintf(path, sizeof path, "%s/t%d", dir, threads);
        assert_fails(ctx, tern_trace_stop(ctx, path, NULL), TERN_ERR_STATE, "none is being recorded");
        assert_ok(ctx, tern_region(ctx, region, NULL)); /* without a trace */
        assert_ok(ctx, tern_trace_start(ctx));
        assert_fails(ctx, tern_trace_start(ctx), TERN_ERR_STATE, "recorded already");
        for (int i = 0; i < 5; i++)
            assert_ok(ctx, tern_region(ctx, region, NULL));
        setlocale(LC_NUMERIC, "de_DE.UTF-8"); /* where it is there it writes 1,5 */
        assert_ok(ctx, tern_trace_stop(ctx, path, &stats));
        setlocale(LC_NUMERIC, "C");
        assert_int_equal(stats.n_events, 5 * threads * (threads > 1 ? 2 : 1)); /* with the waits */
        assert_int_equal(stats.n_left_out, 0);
        char *text = test_read(path, &size);
        assert_int_equal(count(text, "\"work\""), 5 * threads);
        assert_int_equal(count(text, "\"args\":{\"first\":1,\"third\":3}"), 5 * threads);
        assert_int_equal(count(text, "\"wait\""), threads > 1 ? 5 * threads : 0);
        for (const char *at = text; (at = strstr(at, "\"dur\":")); at++) {
            const size_t whole = strspn(at + 6, "0123456789");
            assert_true(whole > 0 && at[6 + whole] == '.' && strspn(at + 7 + whole, "0123456789") == 3);
        }
        free(text);
        assert_ok(ctx, tern_region(ctx, region, NULL)); /* and again without */
        assert_ok(ctx, tern_trace_start(ctx));
        assert_ok(ctx, tern_trace_stop(ctx, NULL, &stats));
        assert_int_equal(stats.n_events, 0);
        assert_ok(ctx, tern_trace_start(ctx)); /* ended by the context's end */
        tern_ctx_destroy(&ctx);
    }
    assert_int_equal(tern_trace_start(NULL), TERN_ERR_ARG);
    assert_int_equal(tern_trace_stop(NULL, NULL, NULL), TERN_ERR_ARG);
    test_remove_dir(dir);
}

/* What has no place is counted, and the first events stay. */
static void fills_up(void **state)
{
    static const struct tern_trace_kind kind = { "event", { NULL } };
    tern_ctx *ctx = test_ctx(3);
    tern_trace_stats stats;

    (void)state;
    assert_ok(ctx, tern_trace_start(ctx));
    for (size_t i = 0; i < (1 << 22) / 3 + 7; i++)
        tern_trace_add(ctx->trace, 2, &kind, 0, 0, 0, 0);
    assert_ok(ctx, tern_trace_stop(ctx, NULL, &stats));
    assert_int_equal(stats.n_events, (1 << 22) / 3);
    assert_int_equal(stats.n_left_out, 7);
    tern_ctx_destroy(&ctx);
}

static void every_failure(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(2);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_trace_start(ctx);
        FAULT_DONE(n, ctx, status, ctx->trace);
        tern_trace_stop(ctx, NULL, NULL);
    }
    tern_trace_stop(ctx, NULL, NULL);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_and_ends),
        cmocka_unit_test(fills_up),
        cmocka_unit_test(every_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
