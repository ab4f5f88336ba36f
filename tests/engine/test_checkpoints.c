/* test_checkpoints.c: small checkpoints that others wrote with tools of their own, in the data from outside: every directory and every
 * file there loads, with transformers' answers, or is refused with the reason that is expected.
 *
 * Their goldens are tools/make_golden.py's: tests/golden/checkpoints. */
/* labels: quick */
#include "model/checkpoint.h"

#include <tern/tokenizer.h>
#include <tern/verify.h>

#include <dirent.h>
#include <math.h>

#define BERT  "checkpoints/hf-tiny-bert-fixtures"
#define LLAMA "checkpoints/hf-tiny-llama-fixtures"

/* ---- directories ---- */

static void test_directories_have_their_reference_s_answers(void **state)
{
    static const char *const names[][2] = { { BERT, "coldfire_tiny_bert" },
                                            { BERT, "jammi_tiny_bert" },
                                            { LLAMA, "tiny_llama_model" } };
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    TEST_NEED_DATA(all, "checkpoints");
    for (size_t i = 0; i < 3; i++) {
        char path[256], golden[256];
        tern_verify_report r;
        snprintf(path, sizeof path, "%s/%s", names[i][0], names[i][1]);
        snprintf(golden, sizeof golden, "checkpoints/%s.safetensors", names[i][1]);
        assert_ok(ctx, tern_verify(ctx, test_data(path), test_golden(golden), TERN_MODEL_FP32, 3e-5, &r));
        if (r.first_state >= 0 || r.logits_rel > 3e-5)
            fail_msg("%s: state %d is the first that diverges, logits are off by %g", path, r.first_state,
                     r.logits_rel);
        assert_true(r.n_prompts == 2 && r.n_states > 0 && r.n_texts == 2 && r.n_texts_same == 2);
        assert_int_equal(r.n_best, r.n_rows);
    }
    tern_ctx_destroy(&ctx);
}

/* Weights as a Python pickle: the message says how to convert them. */
static void test_a_pickle_is_refused(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;

    (void)state;
    TEST_NEED_DATA(path, BERT "/camphr_ner_bert");
    assert_fails(ctx, tern_model_open(ctx, path, NULL, &model), TERN_ERR_UNSUPPORTED, "pytorch_model.bin");
    assert_non_null(strstr(tern_error(ctx), "safetensors.torch"));
    tern_ctx_destroy(&ctx);
}

/* ---- files without a config.json ---- */

static const char *directory_of(const char *weights, const char *config)
{
    const char *dir = test_temp_dir();
    size_t size;
    char *bytes = test_read(test_data(weights), &size);

    test_write(dir, "model.safetensors", bytes, size);
    if (config)
        test_write(dir, "config.json", config, strlen(config));
    free(bytes);
    return dir;
}

static const char gpt2_config[] =
    "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 7, "
    "\"n_positions\": 4, \"n_embd\": 8, \"n_layer\": 2, \"n_head\": 2, \"n_inner\": 12}";
static const char llama_config[] = "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
                                   "\"vocab_size\": 6, \"hidden_size\": 8, \"num_hidden_layers\": 2, "
                                   "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 10}";

/* With a config.json of their sizes they are models, with finite logits. */
static void test_weights_load_with_a_config_of_their_sizes(void **state)
{
    static const struct {
        const char *weights, *config;
        tern_dtype dtype;
        uint64_t n_parameters;
    } cases[] = {
        { LLAMA "/gpt_test_weights.safetensors", gpt2_config, TERN_FP32, 1168 },
        { LLAMA "/llama_test_weights.safetensors", llama_config, TERN_FP32, 1000 },
        { LLAMA "/llama_test_weights_bf16.safetensors", llama_config, TERN_BF16, 1000 },
    };
    const int32_t ids[] = { 1, 5, 0, 3 };
    float logits[3][4 * 7];
    tern_ctx *ctx = test_ctx(1);

    (void)state;
    TEST_NEED_DATA(all, "checkpoints");
    for (size_t i = 0; i < 3; i++) {
        const char *dir = directory_of(cases[i].weights, cases[i].config);
        tern_model *model;
        assert_ok(ctx, tern_model_open(ctx, dir, NULL, &model));
        const tern_model_config *c = tern_model_get_config(model);
        assert_int_equal(c->dtype, cases[i].dtype);
        assert_int_equal(tern_model_get_stats(model).n_parameters, cases[i].n_parameters);
        assert_int_equal(tern_model_get_stats(model).n_skipped, 0);
        run_alone(ctx, model, ids, 4, logits[i], NULL);
        for (int32_t k = 0; k < 4 * c->vocab_size; k++)
            assert_true(isfinite(logits[i][k]));
        tern_model_close(&model);
        test_remove_dir(dir);
    }
    /* The second file's numbers are the first's, rounded to bf16. */
    for (size_t k = 0; k < 4 * 6; k++)
        assert_true(fabsf(logits[1][k] - logits[2][k]) <= 0.05F);
    tern_ctx_destroy(&ctx);
}

static void test_what_is_no_model_is_refused(void **state)
{
    static const struct {
        const char *weights, *config; /* config NULL: none */
        tern_status status;
        const char *words;
    } cases[] = {
        { LLAMA "/test_tensors.safetensors", llama_config, TERN_ERR_NOT_FOUND, "no tensor \"embed_tokens.weight\"" },
        { LLAMA "/test_tensors.gguf", llama_config, TERN_ERR_FORMAT, "model.safetensors" },
        { LLAMA "/gpt_test_weights.safetensors", llama_config, TERN_ERR_NOT_FOUND, "no tensor \"" },
        { LLAMA "/llama_test_weights.safetensors", gpt2_config, TERN_ERR_SHAPE,
          "tensor \"lm_head.weight\": shape is [6, 8], expected [7, 8]" },
        { LLAMA "/llama_test_weights.safetensors", NULL, TERN_ERR_NOT_FOUND, "has no config.json" },
    };
    static const char *const files[] = { LLAMA "/gpt_test_weights.safetensors", LLAMA "/llama_test_weights.safetensors",
                                         LLAMA "/llama_test_weights_bf16.safetensors",
                                         LLAMA "/test_tensors.safetensors", LLAMA "/test_tensors.gguf" };
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;

    (void)state;
    TEST_NEED_DATA(all, "checkpoints");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = directory_of(cases[i].weights, cases[i].config);
        assert_fails(ctx, tern_model_open(ctx, dir, NULL, &model), cases[i].status, cases[i].words);
        test_remove_dir(dir);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_fails(ctx, tern_model_open(ctx, test_data(files[i]), NULL, &model), TERN_ERR_ARG, "is a file");
    tern_ctx_destroy(&ctx);
}

/* The vocabulary of LLaMA 2, alone. */
static void test_a_tokenizer_alone_opens(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_tokenizer *tokenizer;
    size_t size;

    (void)state;
    TEST_NEED_DATA(path, LLAMA "/tinyllama_tokenizer.json");
    const char *dir = test_temp_dir();
    char *bytes = test_read(path, &size);
    test_write(dir, "tokenizer.json", bytes, size);
    assert_ok(ctx, tern_tokenizer_open(ctx, dir, &tokenizer));
    assert_int_equal(tern_tokenizer_vocab_size(tokenizer), 32000);
    tern_tokenizer_close(&tokenizer);
    free(bytes);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

/* ---- nothing is left out ---- */

static void test_every_entry_has_its_outcome(void **state)
{
    static const char *const known[] = { "SOURCE.md",
                                         "camphr_ner_bert",
                                         "coldfire_tiny_bert",
                                         "jammi_tiny_bert",
                                         "tiny_llama_model",
                                         "gpt_test_weights.safetensors",
                                         "llama_test_weights.safetensors",
                                         "llama_test_weights_bf16.safetensors",
                                         "test_tensors.safetensors",
                                         "test_tensors.gguf",
                                         "tinyllama_tokenizer.json" };
    static const char *const folders[] = { "hf-tiny-bert-fixtures", "hf-tiny-llama-fixtures" };

    (void)state;
    TEST_NEED_DATA(all, "checkpoints");
    DIR *top = opendir(all);
    assert_non_null(top);
    for (const struct dirent *folder; (folder = readdir(top));) {
        char path[4096];
        if (folder->d_name[0] == '.')
            continue;
        if (strcmp(folder->d_name, folders[0]) != 0 && strcmp(folder->d_name, folders[1]) != 0)
            fail_msg("checkpoints/%s has no outcome in this test", folder->d_name);
        snprintf(path, sizeof path, "%s/%s", all, folder->d_name);
        DIR *dir = opendir(path);
        assert_non_null(dir);
        for (const struct dirent *entry; (entry = readdir(dir));) {
            bool found = entry->d_name[0] == '.';
            for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
                found = found || strcmp(entry->d_name, known[i]) == 0;
            if (!found)
                fail_msg("checkpoints/%s/%s has no outcome in this test", folder->d_name, entry->d_name);
        }
        closedir(dir);
    }
    closedir(top);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directories_have_their_reference_s_answers),
        cmocka_unit_test(test_a_pickle_is_refused),
        cmocka_unit_test(test_weights_load_with_a_config_of_their_sizes),
        cmocka_unit_test(test_what_is_no_model_is_refused),
        cmocka_unit_test(test_a_tokenizer_alone_opens),
        cmocka_unit_test(test_every_entry_has_its_outcome),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
