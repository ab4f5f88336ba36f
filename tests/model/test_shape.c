/* test_shape.c: models of random weights: they compute ordinary numbers in every dtype, the same ones with any number of threads, and
 * what cannot be made is refused before anything is. */
#include "faults.h"

#include <tern/shape.h>
#include <tern/session.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N 40

static tern_model *make(tern_ctx *ctx, const char *name, tern_model_dtype dtype)
{
    tern_model_options options = tern_model_options_default();
    tern_model *model;

    options.dtype = dtype;
    assert_ok(ctx, tern_model_create_random(ctx, tern_model_shape_find(name), &options, &model));
    return model;
}

/* Scores of all N tokens of one text, read in one step; freed with free(). */
static float *scores(tern_ctx *ctx, const tern_model *model)
{
    const size_t V = (size_t)tern_model_get_config(model)->vocab_size;
    tern_session_options options = tern_session_options_default();
    tern_session *session;
    int32_t ids[N], sequence;
    float *all = malloc(N * V * sizeof *all);

    assert_non_null(all);
    for (int32_t i = 0; i < N; i++)
        ids[i] = i * 37 % (int32_t)V;
    options.max_logits = N;
    assert_ok(ctx, tern_session_create(ctx, model, &options, &session));
    assert_ok(ctx, tern_sequence_add(session, &sequence));
    assert_ok(ctx, tern_session_step(session, &(tern_row){ sequence, ids, N, TERN_LOGITS_ALL }, 1));
    for (int32_t i = 0; i < N; i++)
        memcpy(all + (size_t)i * V, tern_session_logits(session, 0, i), V * sizeof *all);
    tern_session_destroy(&session);
    return all;
}

static double rms(const float *a, const float *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (b ? (double)b[i] : 0);
        sum += d * d;
    }
    return sqrt(sum / (double)n);
}

static const char *const small[] = { "tiny", "tiny-encoder" };

static void ordinary_numbers(void **state)
{
    static const struct {
        tern_model_dtype dtype;
        tern_dtype packed, rows;
        double
            near; /* rms distance from fp32, in shares of the scores' own: far above rounding, far below a wrong answer */
    } cases[] = {
        { TERN_MODEL_FP32, TERN_FP32, TERN_FP32, 0 },
        { TERN_MODEL_FP16, TERN_FP16, TERN_FP32, 0.02 }, /* weights are made in bf16 */
        { TERN_MODEL_BF16, TERN_BF16, TERN_BF16, 0.04 },
        { TERN_MODEL_INT8, TERN_INT8, TERN_INT8, 0.1 },
    };
    tern_ctx *ctx = test_ctx(2);

    (void)state;
    for (size_t s = 0; s < sizeof small / sizeof small[0]; s++) {
        float *exact = NULL;

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            tern_model *model = make(ctx, small[s], cases[i].dtype);
            const tern_model_config *c = tern_model_get_config(model);
            const size_t n = N * (size_t)c->vocab_size;
            float *got = scores(ctx, model);
            const double size = rms(got, NULL, n);

            exact = exact ? exact : got;
            print_message("%s as %s: scores of size %.3g, %.2g of it from fp32\n", small[s],
                          tern_model_dtype_name(cases[i].dtype), size, rms(got, exact, n) / size);
            assert_true(size > 0.1 && size < 10);
            assert_true(rms(got, exact, n) <= cases[i].near * size);
            assert_true(c->weight_dtype == cases[i].packed && c->row_dtype == cases[i].rows);
            assert_string_equal(c->family, "random");
            assert_string_equal(c->architecture, small[s]);
            assert_string_equal(tern_model_path(model), small[s]);
            if (got != exact)
                free(got);
            tern_model_close(&model);
        }
        free(exact);
    }
    tern_ctx_destroy(&ctx);
}

static void same_with_any_threads(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof small / sizeof small[0]; s++)
        for (int d = TERN_MODEL_FP32; d <= TERN_MODEL_INT8; d++) {
            float *want = NULL;

            for (int threads = 1; threads <= 3; threads++) {
                tern_ctx *ctx = test_ctx(threads);
                tern_model *model = make(ctx, small[s], (tern_model_dtype)d);
                float *got = scores(ctx, model);

                if (want)
                    assert_memory_equal(got, want,
                                        N * (size_t)tern_model_get_config(model)->vocab_size * sizeof(float));
                if (want)
                    free(got);
                else
                    want = got;
                tern_model_close(&model);
                tern_ctx_destroy(&ctx);
            }
            free(want);
        }
}

/* An encoder's first token sees what comes after it, a decoder's does not. */
static void who_sees_whom(void **state)
{
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (size_t s = 0; s < sizeof small / sizeof small[0]; s++) {
        tern_model *model = make(ctx, small[s], TERN_MODEL_FP32);
        const size_t V = (size_t)tern_model_get_config(model)->vocab_size;
        tern_session_options options = tern_session_options_default();
        tern_session *session;
        int32_t first, second;
        float got[2][1024];

        options.n_sequences = 2;
        options.max_logits = 4;
        assert_ok(ctx, tern_session_create(ctx, model, &options, &session));
        assert_ok(ctx, tern_sequence_add(session, &first));
        assert_ok(ctx, tern_sequence_add(session, &second));
        const tern_row rows[] = { { first, (int32_t[]){ 1, 2 }, 2, TERN_LOGITS_ALL },
                                  { second, (int32_t[]){ 1, 3 }, 2, TERN_LOGITS_ALL } };
        assert_ok(ctx, tern_session_step(session, rows, 2));
        for (size_t r = 0; r < 2; r++)
            memcpy(got[r], tern_session_logits(session, r, 0), V * sizeof(float));
        assert_int_equal(memcmp(got[0], got[1], V * sizeof(float)) == 0, s == 0);
        tern_session_destroy(&session);
        tern_model_close(&model);
    }
    tern_ctx_destroy(&ctx);
}

/* Figures by hand: H 64, I 176, h 4, G 2, V 256, 2 layers of RMSNorm without biases. */
static void stats(void **state)
{
    const uint64_t layer = 64 * (64 + 2 * 32) + 64 * 64 + 64 * 352 + 176 * 64, vectors = (2 * 2 + 1) * 64;
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    for (int d = TERN_MODEL_FP32; d <= TERN_MODEL_INT8; d++) {
        tern_model *model = make(ctx, "tiny", (tern_model_dtype)d);
        const tern_model_stats s = tern_model_get_stats(model);
        const uint64_t size = tern_dtype_size(tern_model_get_config(model)->weight_dtype);
        /* the struct of a packed weight, and 8 bytes a column with int8 */
        const uint64_t beside = 9 * 128 + (d == TERN_MODEL_INT8 ? 8 * (2 * (128 + 64 + 352 + 64) + 256) : 0);
        const uint64_t step = size * (2 * layer + 64 * 256) + 4 * vectors;

        assert_int_equal(s.layer_weights, 2 * layer);
        assert_int_equal(s.head_weights, 64 * 256);
        assert_int_equal(s.n_parameters, 2 * layer + 2 * 64 * 256 + vectors);
        assert_in_range(s.layer_bytes + s.head_bytes, step, step + beside);
        assert_in_range(s.head_bytes, size * 64 * 256 + 4 * 64, size * 64 * 256 + 4 * 64 + 8 * 256 + 128);
        assert_in_range(s.packed_bytes - s.layer_bytes - s.head_bytes, size * 64 * 256,
                        size * 64 * 256 + 8 * 256 + 128);
        assert_true(s.file_bytes == 0 && s.n_skipped == 0 && s.load_seconds > 0);
        tern_model_close(&model);
    }
    tern_ctx_destroy(&ctx);
}

static void names(void **state)
{
    const int n = tern_model_shape_count();

    (void)state;
    assert_true(n > 5 && !tern_model_shape_at(-1) && !tern_model_shape_at(n));
    for (int i = 0; i < n; i++) {
        const tern_model_shape *s = tern_model_shape_at(i);
        assert_ptr_equal(tern_model_shape_find(s->name), s);
        assert_non_null(s->about);
    }
    assert_true(!tern_model_shape_find("gpt5") && !tern_model_shape_find(NULL));
}

static bool stop_late(void *user, uint64_t done, uint64_t total)
{
    int *calls = user;

    assert_true(done <= total && total > 0);
    return ++*calls < 6;
}

static void refused(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_model_options options = tern_model_options_default();
    tern_model_shape s = *tern_model_shape_find("tiny");
    tern_model *model;
    int calls = 0;

    (void)state;
    assert_fails(ctx, tern_model_create_random(ctx, NULL, NULL, &model), TERN_ERR_ARG, "shape is NULL");
    assert_null(model);
    assert_fails(ctx, tern_model_create_random(ctx, &s, NULL, NULL), TERN_ERR_ARG, "out is NULL");
    options.dtype = (tern_model_dtype)5;
    assert_fails(ctx, tern_model_create_random(ctx, &s, &options, &model), TERN_ERR_ARG, "dtype is 5");
    options.dtype = TERN_MODEL_AUTO;
    options.reserved[0] = 1;
    assert_fails(ctx, tern_model_create_random(ctx, &s, &options, &model), TERN_ERR_ARG, "reserved[0] is 1");
    options.reserved[0] = 0;
    options.progress = stop_late;
    options.user = &calls;
    assert_fails(ctx, tern_model_create_random(ctx, &s, &options, &model), TERN_ERR_CANCELLED, "tiny");
    assert_null(model);
    s.heads = 5;
    assert_fails(ctx, tern_model_create_random(ctx, &s, NULL, &model), TERN_ERR_CONFIG,
                 "hidden_size is 64, expected a multiple of heads, 5");
    s.heads = 4;
    s.kv_heads = 3;
    assert_fails(ctx, tern_model_create_random(ctx, &s, NULL, &model), TERN_ERR_CONFIG,
                 "heads is 4, expected a multiple of kv_heads, 3");
    s.kv_heads = 2;
    s.rotary_dim = 17;
    assert_fails(ctx, tern_model_create_random(ctx, &s, NULL, &model), TERN_ERR_CONFIG, "rotary_dim");
    s.rotary_dim = 16;
    s.n_layers = 0;
    assert_fails(ctx, tern_model_create_random(ctx, &s, NULL, &model), TERN_ERR_CONFIG, "n_layers is 0");
    s.n_layers = 2;
    s.name = "";
    assert_fails(ctx, tern_model_create_random(ctx, &s, NULL, &model), TERN_ERR_ARG, "no name");
    /* 16384 layers of 2 TB each: both numbers are told, nothing is made. */
    s.name = "huge";
    s.n_layers = 1 << 14;
    s.hidden_size = s.intermediate_size = 1 << 18;
    s.heads = 1 << 12;
    assert_fails(ctx, tern_model_create_random(ctx, &s, NULL, &model), TERN_ERR_MEMORY,
                 "huge: as fp32 its weights take");
    assert_non_null(strstr(tern_error(ctx), "MB of memory are available"));
    assert_null(model);
    tern_ctx_destroy(&ctx);
}

static void every_failure(void **state)
{
    const tern_model_shape *shape = tern_model_shape_find("tiny");
    tern_model *model;

    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(2);
    assert_ok(ctx, tern_model_create_random(ctx, shape, NULL, &model));
    tern_model_close(&model);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_model_create_random(ctx, shape, NULL, &model);
        FAULT_DONE(n, ctx, status, model);
        tern_model_close(&model);
    }
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_numbers),
        cmocka_unit_test(same_with_any_threads),
        cmocka_unit_test(who_sees_whom),
        cmocka_unit_test(stats),
        cmocka_unit_test(names),
        cmocka_unit_test(refused),
        cmocka_unit_test(every_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
