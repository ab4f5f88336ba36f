/* test_model_faults.c: every allocation and mapping of a load fails once: an error, nothing left behind. */
#include "faults.h"

#include <tern/model.h>

static void fail_each(const char *path)
{
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;

    assert_ok(ctx, tern_model_open(ctx, path, NULL, &model));
    tern_model_close(&model);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_model_open(ctx, path, NULL, &model);
        FAULT_DONE(n, ctx, status, model);
        tern_model_close(&model);
    }
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
}

static void test_single(void **state)
{
    (void)state;
    FAULT_NEEDED;
    fail_each(test_golden("gpt2-tiny-fp16"));
}

static void test_sharded(void **state)
{
    (void)state;
    FAULT_NEEDED;
    fail_each(test_golden("gpt2-tiny-sharded"));
}

/* What only some families make: tables of what positions or distances add, norms of ones, the kinds of layers, matrices put together,
 * labels, one layer for all. */
static void test_families(void **state)
{
    (void)state;
    FAULT_NEEDED;
    fail_each(test_golden("models/falcon-alibi"));
    fail_each(test_golden("models/mpnet-classify"));
    fail_each(test_golden("models/modernbert-classify"));
    fail_each(test_golden("models/albert-fill"));
    fail_each(test_golden("models/opt-plain"));
    fail_each(test_golden("models/gpt-neo-tiny"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_single), cmocka_unit_test(test_sharded),
                                        cmocka_unit_test(test_families) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
