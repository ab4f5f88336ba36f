/* test_ctx.c: statuses, error texts, tensors, contexts. */
#include "faults.h"

#include "base/ctx.h"
#include "base/machine.h"
#include "base/threads.h"

#include <tern/tensor.h>
#include <tern/version.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void status_names(void **state)
{
    (void)state;
    for (int i = 0; i <= TERN_ERR_STATE; i++) {
        assert_non_null(tern_status_name((tern_status)i));
        assert_string_not_equal(tern_status_name((tern_status)i), "unknown status");
        for (int j = 0; j < i; j++)
            assert_string_not_equal(tern_status_name((tern_status)i), tern_status_name((tern_status)j));
    }
    assert_string_equal(tern_status_name(TERN_ERR_SHAPE), "shape mismatch");
    assert_string_equal(tern_status_name((tern_status)99), "unknown status");
}

static void version_agrees(void **state)
{
    (void)state;
    assert_string_equal(tern_version(), TERN_VERSION);
    assert_non_null(strstr(tern_build_info(), "compiler: "));
    assert_non_null(strstr(tern_build_info(), "\nlibraries: jansson "));
    assert_non_null(strstr(tern_build_info(), "\nlevels: portable"));
}

static void fail_records(void **state)
{
    struct tern_ctx ctx = { 0 };
    char text[3000];

    (void)state;
    assert_int_equal(tern_fail(NULL, TERN_ERR_IO, "nobody listens"), TERN_ERR_IO);
    assert_int_equal(tern_fail(&ctx, TERN_ERR_IO, "%s and %d", "one", 2), TERN_ERR_IO);
    assert_string_equal(tern_error(&ctx), "one and 2");
    /* Its own old text may be an argument. */
    tern_fail(&ctx, TERN_ERR_IO, "before: %s", ctx.error);
    assert_string_equal(tern_error(&ctx), "before: one and 2");
    assert_string_equal(tern_error(NULL), "");

    /* A text that is too long ends with a whole character, wherever the cut falls. */
    for (size_t shift = 0; shift < 8; shift++) {
        size_t n = 0;
        memset(text, 'a', shift);
        for (n = shift; n < 2000; n += 4)
            memcpy(text + n, "\xF0\x9F\x98\x80", 4);
        text[n] = '\0';
        tern_fail(&ctx, TERN_ERR_IO, "%s", text);
        const size_t length = strlen(tern_error(&ctx));
        assert_true(length < TERN_ERROR_SIZE && length >= TERN_ERROR_SIZE - 4);
        assert_int_equal((length - shift) % 4, 0);
        assert_memory_equal(tern_error(&ctx), text, length);
    }
    memset(text, 'b', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    tern_fail(&ctx, TERN_ERR_IO, "%s", text);
    assert_int_equal(strlen(tern_error(&ctx)), TERN_ERROR_SIZE - 1);
}

static void dtypes(void **state)
{
    (void)state;
    assert_int_equal(tern_dtype_size(TERN_FP32), 4);
    assert_int_equal(tern_dtype_size(TERN_BF16), 2);
    assert_int_equal(tern_dtype_size(TERN_FP8_E5M2), 1);
    assert_int_equal(tern_dtype_size(TERN_DTYPE_COUNT), 0);
    assert_int_equal(tern_dtype_size((tern_dtype)-1), 0);
    assert_string_equal(tern_dtype_name(TERN_FP16), "fp16");
    assert_string_equal(tern_dtype_name((tern_dtype)-1), "?");
    for (int i = 0; i < TERN_DTYPE_COUNT; i++) {
        assert_true(tern_dtype_size((tern_dtype)i) > 0);
        assert_string_not_equal(tern_dtype_name((tern_dtype)i), "?");
    }
}

static void views(void **state)
{
    float data[24];
    const int64_t dim[] = { 2, 3, 4 }, empty[] = { 2, 0, 4 }, negative[] = { 2, -1 };
    const int64_t huge[] = { INT64_MAX / 2, 4 }, huge_empty[] = { 0, INT64_MAX, 2 };

    (void)state;
    tern_tensor t = tern_tensor_view(data, TERN_FP32, 3, dim);
    assert_int_equal(t.rank, 3);
    assert_ptr_equal(t.data, data);
    assert_null(t.packed);
    assert_int_equal(t.stride[0], 12);
    assert_int_equal(t.stride[1], 4);
    assert_int_equal(t.stride[2], 1);
    t = tern_tensor_view(NULL, TERN_FP32, 3, empty);
    assert_int_equal(t.rank, 3);
    assert_int_equal(t.dim[1], 0);
    assert_int_equal(tern_tensor_view(data, TERN_FP32, 0, NULL).rank, 0);
    assert_int_equal(tern_tensor_none().rank, -1);
    assert_int_equal(tern_tensor_view(data, TERN_FP32, 1, NULL).rank, -1);
    assert_int_equal(tern_tensor_view(data, TERN_FP32, 2, negative).rank, -1);
    assert_int_equal(tern_tensor_view(data, TERN_FP32, TERN_MAX_RANK + 1, dim).rank, -1);
    assert_int_equal(tern_tensor_view(data, TERN_FP32, -1, dim).rank, -1);
    assert_int_equal(tern_tensor_view(data, TERN_DTYPE_COUNT, 3, dim).rank, -1);
    assert_int_equal(tern_tensor_view(data, TERN_INT8, 2, huge).rank, -1);
    assert_int_equal(tern_tensor_view(data, TERN_INT8, 3, huge_empty).rank, -1);
}

static void context_answers(void **state)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[256] = "old";
    tern_ctx *ctx = NULL;

    (void)state;
    assert_int_equal(tern_ctx_create(&ctx, NULL, message, sizeof message), TERN_OK);
    assert_string_equal(message, "");
    assert_string_equal(tern_error(ctx), "");
    assert_true(tern_ctx_threads(ctx) >= 1);
    assert_string_not_equal(tern_ctx_threads_reason(ctx), "option");
    tern_ctx_destroy(&ctx);
    assert_null(ctx);
    tern_ctx_destroy(&ctx);
    tern_ctx_destroy(NULL);

    options.n_threads = 3;
    options.cpu = "portable";
    assert_int_equal(tern_ctx_create(&ctx, &options, NULL, 0), TERN_OK);
    assert_int_equal(tern_ctx_threads(ctx), 3);
    assert_string_equal(tern_ctx_threads_reason(ctx), "option");
    assert_string_equal(tern_ctx_isa(ctx), "portable");
    tern_ctx_destroy(&ctx);
}

static void context_refuses(void **state)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[256];
    tern_ctx *ctx;

    (void)state;
    options.n_threads = 1025;
    ctx = (tern_ctx *)&options;
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_ERR_ARG);
    assert_null(ctx);
    assert_string_equal(message, "n_threads: got 1025, expected 0..1024");
    assert_int_equal(tern_ctx_create(&ctx, &options, message, 10), TERN_ERR_ARG);
    assert_string_equal(message, "n_threads");

    options.n_threads = -1;
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_ERR_ARG);
    options.n_threads = 1;
    options.cpu = "avx9";
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_ERR_ARG);
    assert_string_equal(
        message,
        "cpu: got \"avx9\", expected portable, neon, neondot, avx2, avxvnni, avx512, avx512vnni or avx512bf16");
    options.cpu = NULL;
    options.reserved[5] = 7;
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_ERR_ARG);
    assert_non_null(strstr(message, "reserved[5] is 7"));
    assert_int_equal(tern_ctx_create(NULL, NULL, message, sizeof message), TERN_ERR_ARG);
    assert_non_null(strstr(message, "out is NULL"));
}

static void environment_limits(void **state)
{
    tern_ctx_options options = tern_ctx_options_default();
    const char *old = getenv("TERN_CPU");
    char message[256], *kept = old ? strdup(old) : NULL;
    tern_ctx *ctx;

    (void)state;
    options.n_threads = 1;
    setenv("TERN_CPU", "portable", 1);
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_OK);
    assert_string_equal(tern_ctx_isa(ctx), "portable");
    tern_ctx_destroy(&ctx);
    setenv("TERN_CPU", "fast", 1);
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_ERR_ARG);
    assert_non_null(strstr(message, "TERN_CPU: got \"fast\""));
    /* The option comes before the environment. */
    options.cpu = "portable";
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_OK);
    tern_ctx_destroy(&ctx);
    options.cpu = NULL;
    setenv("TERN_CPU", "", 1);
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_OK);
    assert_string_equal(tern_ctx_isa(ctx), tern_isa_name(tern_machine_isa()));
    tern_ctx_destroy(&ctx);

    if (kept)
        setenv("TERN_CPU", kept, 1);
    else
        unsetenv("TERN_CPU");
    free(kept);
}

static void environment_counts_threads(void **state)
{
    static const char *const wrong[] = { "two", "-1", "1025", "2x", " 2", "+2", "99999999999999999999" };
    tern_ctx_options options = tern_ctx_options_default();
    const char *old = getenv("TERN_THREADS");
    char message[256], *kept = old ? strdup(old) : NULL;
    tern_ctx *ctx;

    (void)state;
    setenv("TERN_THREADS", "3", 1);
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_OK);
    assert_int_equal(tern_ctx_threads(ctx), 3);
    assert_string_equal(tern_ctx_threads_reason(ctx), "TERN_THREADS");
    tern_ctx_destroy(&ctx);
    /* The option comes before the environment. */
    options.n_threads = 2;
    assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_OK);
    assert_int_equal(tern_ctx_threads(ctx), 2);
    assert_string_equal(tern_ctx_threads_reason(ctx), "option");
    tern_ctx_destroy(&ctx);
    options.n_threads = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char expected[128];
        setenv("TERN_THREADS", wrong[i], 1);
        assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_ERR_ARG);
        assert_null(ctx);
        snprintf(expected, sizeof expected, "TERN_THREADS: got \"%s\", expected a number in 0..1024", wrong[i]);
        assert_string_equal(message, expected);
    }
    for (int i = 0; i < 3; i++) {
        if (i < 2)
            setenv("TERN_THREADS", i ? "0" : "", 1);
        else
            unsetenv("TERN_THREADS");
        assert_int_equal(tern_ctx_create(&ctx, &options, message, sizeof message), TERN_OK);
        assert_string_not_equal(tern_ctx_threads_reason(ctx), "TERN_THREADS");
        tern_ctx_destroy(&ctx);
    }
    if (kept)
        setenv("TERN_THREADS", kept, 1);
    free(kept);
}

static void context_faults(void **state)
{
    tern_ctx_options options = tern_ctx_options_default();
    tern_ctx *ctx = NULL;

    (void)state;
    FAULT_NEEDED;
    options.n_threads = 4;
    assert_int_equal(tern_ctx_create(&ctx, &options, NULL, 0), TERN_OK);
    tern_ctx_destroy(&ctx);

    FAULT_EACH(n)
    {
        char message[256];
        fault_arm(n);
        const tern_status status = tern_ctx_create(&ctx, &options, message, sizeof message);
        FAULT_DONE(n, NULL, status, ctx);
        if (status != TERN_OK)
            assert_string_not_equal(message, "");
        tern_ctx_destroy(&ctx);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_names),
        cmocka_unit_test(version_agrees),
        cmocka_unit_test(fail_records),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(views),
        cmocka_unit_test(context_answers),
        cmocka_unit_test(context_refuses),
        cmocka_unit_test(environment_limits),
        cmocka_unit_test(environment_counts_threads),
        cmocka_unit_test(context_faults),
    };

    return cmocka_run_group_tests_name("base/ctx", tests, NULL, NULL);
}
