/* test_generate_defaults.c: what is taken from generation_config.json, and what is refused. */
#include "engine_testing.h"
#include "faults.h"

#include <unistd.h>

static tern_ctx *ctx;
static tern_model *model;
static const char *dir;

/* A checkpoint with this generation_config.json (NULL: none) beside it. */
static void write_config(const char *text)
{
    if (text) {
        test_write(dir, "generation_config.json", text, strlen(text));
    } else {
        char path[4200];
        snprintf(path, sizeof path, "%s/generation_config.json", dir);
        unlink(path);
    }
}

static tern_generate_options defaults(const char *text, tern_ids *ids)
{
    tern_generate_options options;

    write_config(text);
    assert_ok(ctx, tern_generate_defaults(ctx, model, &options, ids));
    assert_ptr_equal(options.stop_ids, ids->data);
    assert_int_equal(options.n_stop_ids, ids->count);
    assert_int_equal(options.max_tokens, -1);
    assert_null(options.stop);
    assert_null(options.on_token);
    return options;
}

static void test_without_file(void **state)
{
    (void)state;
    tern_ids ids = { 0 };
    const tern_generate_options options = defaults(NULL, &ids);

    assert_true(options.sampling.temperature == 0 && options.sampling.top_k == 0 && options.sampling.top_p == 1);
    assert_true(options.sampling.min_p == 0 && options.sampling.repetition_penalty == 1);
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.data[0], 130); /* config.json's */
    tern_ids_free(&ids);
}

static void test_values(void **state)
{
    (void)state;
    tern_ids ids = { 0 };
    tern_generate_options o =
        defaults("{\"do_sample\": true, \"temperature\": 0.5, \"top_k\": 7, \"top_p\": 0.25, "
                 "\"min_p\": 0.125, \"repetition_penalty\": 1.5, \"eos_token_id\": [3, 4, 130], "
                 "\"bos_token_id\": 1, \"max_length\": 20, \"max_new_tokens\": 3, \"whatever\": {}, "
                 "\"_from_model_config\": true, \"transformers_version\": \"5.23.0\"}",
                 &ids);

    assert_true(o.sampling.temperature == 0.5f && o.sampling.top_k == 7 && o.sampling.top_p == 0.25f);
    assert_true(o.sampling.min_p == 0.125f && o.sampling.repetition_penalty == 1.5f);
    assert_int_equal(ids.count, 3);
    assert_true(ids.data[0] == 3 && ids.data[1] == 4 && ids.data[2] == 130);

    /* Sampling without more: temperature 1, and transformers' 50. */
    o = defaults("{\"do_sample\": true}", &ids);
    assert_true(o.sampling.temperature == 1 && o.sampling.top_k == 50 && o.sampling.top_p == 1);
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.data[0], 130);
    assert_true(defaults("{\"do_sample\": true, \"top_k\": 0}", &ids).sampling.top_k == 0);
    assert_true(defaults("{\"do_sample\": true, \"temperature\": 0.0}", &ids).sampling.temperature == 0);

    /* Greedy, whatever the rest says; it is there for who gives a temperature. */
    o = defaults("{\"temperature\": 0.5, \"top_p\": 0.5, \"eos_token_id\": 9}", &ids);
    assert_true(o.sampling.temperature == 0 && o.sampling.top_p == 0.5f && o.sampling.top_k == 0);
    assert_int_equal(ids.data[0], 9);

    /* Absent, null and an empty list. */
    o = defaults("{\"do_sample\": null, \"eos_token_id\": null, \"top_k\": null}", &ids);
    assert_true(o.sampling.temperature == 0);
    assert_int_equal(ids.data[0], 130);
    defaults("{\"eos_token_id\": []}", &ids);
    assert_int_equal(ids.count, 0);
    tern_ids_free(&ids);
}

static void fails(const char *text, tern_status status, const char *part)
{
    const int32_t one = 1;
    tern_generate_options options = { .max_tokens = 77, .stop_ids = &one };
    tern_ids ids = { 0 };

    write_config(text);
    assert_fails(ctx, tern_generate_defaults(ctx, model, &options, &ids), status, part);
    assert_non_null(strstr(tern_error(ctx), "generation_config.json"));
    assert_true(options.max_tokens == 77 && options.stop_ids == &one && ids.data == NULL);
}

static void test_errors(void **state)
{
    (void)state;
    fails("[]", TERN_ERR_FORMAT, "expected an object");
    fails("{\"do_sample\": true", TERN_ERR_FORMAT, "");
    fails("{\"do_sample\": true, \"do_sample\": false}", TERN_ERR_FORMAT, "do_sample");
    fails("{\"do_sample\": 1}", TERN_ERR_FORMAT, "do_sample");
    fails("{\"temperature\": \"hot\"}", TERN_ERR_FORMAT, "temperature");
    fails("{\"temperature\": -1}", TERN_ERR_FORMAT, "temperature is -1");
    fails("{\"temperature\": 1e300}", TERN_ERR_FORMAT, "temperature");
    fails("{\"top_k\": 1.5}", TERN_ERR_FORMAT, "top_k");
    fails("{\"top_k\": -1}", TERN_ERR_FORMAT, "top_k");
    fails("{\"top_p\": 1.01}", TERN_ERR_FORMAT, "top_p is 1.01");
    fails("{\"min_p\": [0.1]}", TERN_ERR_FORMAT, "min_p");
    fails("{\"repetition_penalty\": 0}", TERN_ERR_FORMAT, "repetition_penalty is 0");
    fails("{\"repetition_penalty\": 1e-300}", TERN_ERR_FORMAT, "repetition_penalty");
    fails("{\"eos_token_id\": 131}", TERN_ERR_FORMAT, "131");
    fails("{\"eos_token_id\": -1}", TERN_ERR_FORMAT, "-1");
    fails("{\"eos_token_id\": \"<eos>\"}", TERN_ERR_FORMAT, "eos_token_id");
    fails("{\"eos_token_id\": [1, 131]}", TERN_ERR_FORMAT, "eos_token_id[1] is 131, the vocabulary has 131");
    fails("{\"eos_token_id\": [1.0]}", TERN_ERR_FORMAT, "eos_token_id[0] is a number, expected an integer");
}

/* What would change the tokens is refused by name, and is fine where it changes nothing. */
static void test_refused(void **state)
{
    (void)state;
    tern_ids ids = { 0 };

    fails("{\"num_beams\": 4}", TERN_ERR_UNSUPPORTED, "num_beams is 4");
    fails("{\"no_repeat_ngram_size\": 3}", TERN_ERR_UNSUPPORTED, "no_repeat_ngram_size is 3");
    fails("{\"sequence_bias\": [[[1], 2.0]]}", TERN_ERR_UNSUPPORTED, "sequence_bias is an array");
    fails("{\"watermarking_config\": {}}", TERN_ERR_UNSUPPORTED, "watermarking_config is an object");
    fails("{\"do_sample\": true, \"typical_p\": 0.9}", TERN_ERR_UNSUPPORTED, "typical_p is 0.9");
    defaults("{\"num_beams\": 1, \"no_repeat_ngram_size\": 0, \"sequence_bias\": null, \"suppress_tokens\": [], "
             "\"typical_p\": 0.9, \"min_length\": 0, \"forced_bos_token_id\": null}",
             &ids);
    tern_ids_free(&ids);
}

static void test_every_failure(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_generate_options options;
    tern_ids ids = { 0 };

    defaults("{\"do_sample\": true, \"eos_token_id\": [1, 2, 3]}", &ids);
    tern_ids_free(&ids);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_generate_defaults(ctx, model, &options, &ids);
        FAULT_DONE(n, ctx, status, ids.data);
        tern_ids_free(&ids);
    }
    tern_ids_free(&ids);
}

static int setup(void **state)
{
    (void)state;
    static const char *const files[] = { "config.json", "model.safetensors" };

    ctx = test_ctx(1);
    dir = test_temp_dir();
    for (size_t i = 0; i < 2; i++) {
        char path[64];
        size_t size;
        snprintf(path, sizeof path, "gpt2-tiny-fp32/%s", files[i]);
        char *text = test_read(test_golden(path), &size);
        test_write(dir, files[i], text, size);
        free(text);
    }
    model = open_model(ctx, dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
    test_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_file), cmocka_unit_test(test_values),        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_every_failure),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
