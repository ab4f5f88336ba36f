/* test_ceilings.c: ceilings are measured at every level and with any team; without memory for a buffer only those of arithmetic. */
#include "faults.h"

#include "base/machine.h"

#include <tern/machine.h>

#include <math.h>

static tern_ctx *context(int n_threads, const char *cpu)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[256];
    tern_ctx *ctx;

    options.n_threads = n_threads;
    options.cpu = cpu;
    if (tern_ctx_create(&ctx, &options, message, sizeof message))
        fail_msg("%s", message);
    return ctx;
}

static void is_rate(const char *name, tern_rate rate)
{
    if (!(rate.one > 0 && isfinite(rate.one) && rate.team > 0 && isfinite(rate.team)))
        fail_msg("%s: %g alone, %g together", name, rate.one, rate.team);
}

static void are_measured(const tern_ceilings *c)
{
    is_rate("fp32", c->fp32);
    is_rate("bf16", c->bf16);
    is_rate("int8", c->int8);
    is_rate("read", c->read);
    is_rate("copy", c->copy);
    is_rate("streaming copy", c->copy_streaming);
    assert_true(c->memory_bytes > 0 && c->seconds > 0);
}

static void at_every_level(void **state)
{
    (void)state;
    for (int isa = 0; isa <= (int)tern_machine_isa(); isa++) {
        if (!tern_machine_has((enum tern_isa)isa))
            continue;
        tern_ctx *ctx = context(1, tern_isa_name((enum tern_isa)isa));
        tern_ceilings c;

        assert_ok(ctx, tern_ceilings_measure(ctx, &c));
        are_measured(&c);
        assert_true(c.fp32.one == c.fp32.team && c.read.one == c.read.team); /* one thread is the whole team */
        tern_ctx_destroy(&ctx);
    }
}

static void with_threads(void **state)
{
    (void)state;
    for (int n = 2; n <= 3; n++) {
        tern_ctx *ctx = context(n, NULL);
        tern_ceilings c;

        assert_ok(ctx, tern_ceilings_measure(ctx, &c));
        are_measured(&c);
        tern_ctx_destroy(&ctx);
    }
}

static void without_memory(void **state)
{
    tern_ceilings c;

    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = context(2, NULL);
    assert_fails(ctx, tern_ceilings_measure(ctx, NULL), TERN_ERR_ARG, "out is NULL");
    assert_int_equal(tern_ceilings_measure(NULL, &c), TERN_ERR_ARG);
    fault_arm_from(0);
    const tern_status status = tern_ceilings_measure(ctx, &c);
    fault_disarm();
    assert_int_equal(status, TERN_OK);
    is_rate("fp32", c.fp32);
    assert_true(c.memory_bytes == 0 && c.read.one == 0 && c.copy.team == 0 && c.copy_streaming.team == 0);
    assert_string_equal(tern_error(ctx), "ceilings: out is NULL"); /* not what the buffer failed with */
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_every_level),
        cmocka_unit_test(with_threads),
        cmocka_unit_test(without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
