/* test_embed.c: sentence-transformers directories against the vectors of the library (tests/golden/make_sentences.py). */
#include "base/file.h"
#include "base/json.h"
#include "testing.h"

#include <tern/embed.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TOLERANCE 1e-5 /* of the largest number: both compute in float32 */
#define MAX_TEXTS 16

struct texts {
    tern_ctx *ctx;
    struct tern_json *json;
    const char *text[MAX_TEXTS];
    size_t size[MAX_TEXTS], n;
};

static void texts_open(struct texts *t)
{
    t->ctx = test_ctx(2);
    assert_ok(t->ctx, tern_json_read(t->ctx, test_golden("sentences/texts.json"), 1 << 20, &t->json));
    const tern_json_value *list = tern_json_get(tern_json_root(t->json), "texts");
    t->n = tern_json_size(list);
    assert_true(t->n > 0 && t->n <= MAX_TEXTS);
    for (size_t i = 0; i < t->n; i++)
        t->text[i] = tern_json_string(tern_json_at(list, i), &t->size[i]);
}

static void texts_close(struct texts *t)
{
    tern_json_destroy(t->json);
    tern_ctx_destroy(&t->ctx);
}

static tern_embedder *open_case(tern_ctx *ctx, const char *name)
{
    char path[128];
    tern_embedder *embedder;

    snprintf(path, sizeof path, "sentences/%s", name);
    assert_ok(ctx, tern_embedder_open(ctx, test_golden(path), NULL, &embedder));
    return embedder;
}

/* The library's vectors: the numbers behind the header of a NumPy file of version 1.0. */
static const float *golden(const char *name, size_t n, char **file)
{
    char path[128];
    size_t size;

    snprintf(path, sizeof path, "sentences/%s/vectors.npy", name);
    *file = test_read(test_golden(path), &size);
    const size_t header = 10 + (unsigned char)(*file)[8] + 256 * (size_t)(unsigned char)(*file)[9];
    assert_int_equal(size, header + n * sizeof(float));
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    memcpy(values, *file + header, n * sizeof *values);
    free(*file);
    *file = (char *)values;
    return values;
}

static void test_vectors(void **state)
{
    static const char *const names[] = { "mean",        "cls-dense",       "max-norm",  "sqrt-plain",   "weighted-last",
                                         "prompt",      "prompt-left-out", "all-modes", "prompt-alone", "older",
                                         "activations", "causal",          "bare" };
    struct texts t;

    (void)state;
    texts_open(&t);
    for (size_t c = 0; c < sizeof names / sizeof names[0]; c++) {
        tern_embedder *embedder = open_case(t.ctx, names[c]);
        const size_t width = (size_t)tern_embedder_width(embedder), n = t.n * width;
        const char *prompt = NULL;
        const tern_json_value *prompts = tern_json_get(tern_json_root(t.json), "prompts");
        assert_ok(t.ctx, tern_json_opt_string(t.ctx, t.json, prompts, names[c], NULL, &prompt));
        uint64_t n_cut;
        const tern_embed_options options = { .prompt = tern_embedder_prompt(embedder, prompt), .n_cut = &n_cut };
        float *got = malloc(n * sizeof *got), *alone = malloc(width * sizeof *alone);
        char *file;
        const float *want = golden(names[c], n, &file);
        double worst = 0, largest = 0;

        assert_true(got && alone);
        assert_ok(t.ctx, tern_embed(embedder, t.text, t.size, t.n, &options, got));
        for (size_t i = 0; i < n; i++) {
            const double d = fabs((double)got[i] - (double)want[i]);
            worst = d <= worst ? worst : isnan(d) ? INFINITY : d;
            largest = fmax(largest, fabs((double)want[i]));
        }
        print_message("%s: largest error %.2g of %.3g\n", names[c], worst, largest);
        assert_true(worst <= TOLERANCE * largest);
        assert_true(n_cut > 0);
        for (size_t i = 0; i < t.n; i++) {
            assert_ok(t.ctx, tern_embed(embedder, t.text + i, t.size + i, 1, &options, alone));
            assert_memory_equal(alone, got + i * width, width * sizeof *alone);
        }
        free(got);
        free(alone);
        free(file);
        tern_embedder_close(&embedder);
    }
    texts_close(&t);
}

#define MANY 700

/* Texts of 1 to 60 letters, so that passes and groups end anywhere. */
static void many_texts(char (*room)[64], const char **texts, size_t *sizes)
{
    uint64_t state = 3;

    for (size_t i = 0; i < MANY; i++) {
        sizes[i] = 1 + test_random(&state) % 60;
        for (size_t k = 0; k < sizes[i]; k++)
            room[i][k] = (char)('a' + test_random(&state) % 26);
        texts[i] = room[i];
    }
}

struct seen {
    uint64_t last, calls;
    bool ordered;
};

static bool see(void *user, uint64_t done, uint64_t total)
{
    struct seen *seen = user;

    seen->ordered = seen->ordered && done >= seen->last && total == MANY;
    seen->last = done;
    seen->calls++;
    return true;
}

/* Sorted, in groups, on any number of threads: each text has the bits that it has alone, at its place, and what is computed are its
 * tokens and no padding. */
static void test_many(void **state)
{
    static char room[MANY][64];
    static const char *texts[MANY], *back[MANY];
    static size_t sizes[MANY], back_sizes[MANY];
    static float together[MANY * 24], turned[MANY * 24];

    (void)state;
    many_texts(room, texts, sizes);
    for (size_t i = 0; i < MANY; i++) {
        back[i] = texts[MANY - 1 - i];
        back_sizes[i] = sizes[MANY - 1 - i];
    }
    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        tern_embedder *embedder = open_case(ctx, "mean");
        struct seen seen = { .ordered = true };
        const tern_embed_options options = { .progress = see, .user = &seen };
        uint64_t n_tokens = 0;
        float alone[24];

        assert_ok(ctx, tern_embed(embedder, texts, sizes, MANY, &options, together));
        assert_true(seen.ordered && seen.last == MANY && seen.calls > 10);
        const tern_encoder_stats stats = tern_embedder_get_stats(embedder);
        for (size_t i = 0; i < MANY; i++) /* a token for each letter, [CLS] and [SEP], cut at 40 */
            n_tokens += sizes[i] + 2 < 40 ? sizes[i] + 2 : 40;
        assert_int_equal(stats.n_tokens, n_tokens);
        assert_true(stats.n_passes >= n_tokens / 2048 && stats.n_passes < MANY / 16);
        assert_ok(ctx, tern_embed(embedder, back, back_sizes, MANY, NULL, turned));
        for (size_t i = 0; i < MANY; i++)
            assert_memory_equal(together + i * 24, turned + (MANY - 1 - i) * 24, 24 * sizeof(float));
        for (size_t i = 0; i < MANY; i += 23) {
            assert_ok(ctx, tern_embed(embedder, texts + i, sizes + i, 1, NULL, alone));
            assert_memory_equal(alone, together + i * 24, sizeof alone);
        }
        tern_embedder_close(&embedder);
        tern_ctx_destroy(&ctx);
    }
}

/* A model with numbers that are none: the text is named, and nothing of it comes out. */
static void test_not_finite(void **state)
{
    static const char *const files[] = { "config.json", "tokenizer.json", "tokenizer_config.json" };
    tern_ctx *ctx = test_ctx(1);
    const char *dir = test_temp_dir(), *texts[] = { "b", "a", "bbb" };
    const size_t sizes[] = { 1, 1, 3 };
    tern_embedder *embedder;
    float vectors[3 * 24];
    char path[128], *data;
    size_t size;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "sentences/bare/%s", files[i]);
        data = test_read(test_golden(path), &size);
        test_write(dir, files[i], data, size);
        free(data);
    }
    data = test_read(test_golden("sentences/bare/model.safetensors"), &size);
    struct tern_json *json;
    const size_t header = (size_t)((unsigned char)data[0] + 256 * (unsigned char)data[1]);
    assert_ok(ctx, tern_json_parse(ctx, data + 8, header, "header", &json));
    const tern_json_value *words = tern_json_get(tern_json_root(json), "embeddings.word_embeddings.weight");
    const size_t at = 8 + header + (size_t)tern_json_int(tern_json_at(tern_json_get(words, "data_offsets"), 0));
    tern_json_destroy(json);
    const size_t letter_a = 5 + 12; /* behind the five special tokens: , . : and the digits; then a */
    const float none = NAN;
    memcpy(data + at + (letter_a + 1) * 24 * sizeof(float), &none, sizeof none);
    test_write(dir, "model.safetensors", data, size);
    free(data);
    assert_ok(ctx, tern_embedder_open(ctx, dir, NULL, &embedder));
    assert_fails(ctx, tern_embed(embedder, texts, sizes, 3, NULL, vectors), TERN_ERR_FORMAT,
                 "text 2: the model gives a number that is not finite: ");
    tern_embedder_close(&embedder);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

static bool stop(void *user, uint64_t done, uint64_t total)
{
    (void)total;
    *(uint64_t *)user = done;
    return false;
}

static bool few(void *user, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return ++*(int *)user < 6;
}

/* One text of 8 MiB is left before it has been read to its end. */
static void test_a_long_text_is_cancelled(void **state)
{
    const size_t size = (size_t)8 << 20;
    char *text = malloc(size);
    tern_ctx *ctx = test_ctx(1);
    tern_embedder *embedder = open_case(ctx, "mean");
    int asked = 0;
    const tern_embed_options options = { .progress = few, .user = &asked };
    float vector[24];

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < size; i++)
        text[i] = i % 5 ? 'a' : ' ';
    assert_fails(ctx, tern_embed(embedder, (const char *[]){ text }, &size, 1, &options, vector), TERN_ERR_CANCELLED,
                 "cancelled in a text of 8388608 bytes");
    assert_int_equal(asked, 6);
    assert_ok(ctx, tern_embed(embedder, (const char *[]){ text }, &size, 1, NULL, vector));
    free(text);
    tern_embedder_close(&embedder);
    tern_ctx_destroy(&ctx);
}

static void test_calls(void **state)
{
    struct texts t;
    uint64_t seen = 0;
    const tern_embed_options cancelled = { .progress = stop, .user = &seen };

    (void)state;
    texts_open(&t);
    tern_embedder *embedder = open_case(t.ctx, "mean");
    float vectors[MAX_TEXTS * 24];
    assert_int_equal(tern_embedder_width(embedder), 24);
    assert_int_equal(tern_embedder_max_tokens(embedder), 40);
    assert_string_equal(tern_embedder_prompt(embedder, "query"), "query: ");
    assert_null(tern_embedder_prompt(embedder, "other"));
    assert_null(tern_embedder_prompt(embedder, NULL));
    assert_ok(t.ctx, tern_embed(embedder, NULL, NULL, 0, NULL, NULL));
    assert_fails(t.ctx, tern_embed(embedder, t.text, t.size, t.n, &cancelled, vectors), TERN_ERR_CANCELLED, "texts");
    assert_int_equal(seen, 0);
    assert_fails(t.ctx,
                 tern_embed(embedder,
                            (const char *[]){ "fine", "b\xff"
                                                      "d" },
                            (size_t[]){ 4, 3 }, 2, NULL, vectors),
                 TERN_ERR_FORMAT, "text 2:");
    assert_fails(t.ctx, tern_embed(embedder, t.text, t.size, 1, NULL, NULL), TERN_ERR_ARG, "NULL");
    tern_embedder_close(&embedder);
    tern_embedder_close(&embedder);
    texts_close(&t);
}

#define ENTRY(name, type, path) "{\"name\":\"" name "\",\"type\":\"" type "\",\"path\":\"" path "\"}"
#define OURS(name, class, path) ENTRY(name, "sentence_transformers.models." class, path)
#define LIST(rest)              "[" OURS("0", "Transformer", "") "," OURS("1", "Pooling", "1") rest "]"

/* Files beside each other with something wrong in one; the model is not reached. */
/* What other ranks open: the transformer's own folder, whether modules.json stands beside or above it. */
static void test_the_transformer_is_found(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    char *path;

    (void)state;
    assert_ok(ctx, tern_embedder_find(ctx, test_golden("sentences/older"), &path));
    assert_non_null(strstr(path, "sentences/older/0_Transformer"));
    tern_path_free(path);
    assert_ok(ctx, tern_embedder_find(ctx, test_golden("sentences/bare"), &path));
    assert_non_null(strstr(path, "sentences/bare"));
    tern_path_free(path);
    assert_fails(ctx, tern_embedder_find(ctx, test_golden("no-such-model"), &path), TERN_ERR_NOT_FOUND,
                 "no-such-model");
    assert_null(path);
    assert_fails(ctx, tern_embedder_find(ctx, "x", NULL), TERN_ERR_ARG, "path is NULL");
    tern_ctx_destroy(&ctx);
}

static void test_refused(void **state)
{
    static const struct {
        const char *file, *text; /* in place of the good ones, which the last case has */
        tern_status status;
        const char *words;
    } cases[] = {
        { "modules.json", "{}", TERN_ERR_FORMAT, "modules.json: is an object, expected an array of modules" },
        { "modules.json", "null", TERN_ERR_FORMAT, "modules.json: is null, expected an array" },
        { "modules.json", "\"x\"", TERN_ERR_FORMAT, "modules.json: is a string, expected an array" },
        { "modules.json", "", TERN_ERR_FORMAT, "modules.json" },
        { "modules.json", "[]", TERN_ERR_FORMAT, "has 0 modules, expected at least a Transformer and a Pooling" },
        { "modules.json", "[1,2]", TERN_ERR_FORMAT, "module 0 is an integer, expected an object" },
        { "modules.json", "[null,[]]", TERN_ERR_FORMAT, "module 0 is null, expected an object" },
        { "modules.json", "[{},{}]", TERN_ERR_FORMAT, "module 0 has no \"name\"" },
        { "modules.json", "[{\"name\":\"0\",\"type\":7},{}]", TERN_ERR_FORMAT, "\"type\" is 7, expected a string" },
        { "modules.json", "[{\"name\":\"0\",\"type\":\"x\"},{}]", TERN_ERR_FORMAT, "has no \"path\"" },
        { "modules.json", "[" OURS("0", "Transformer", "") "," OURS("0", "Pooling", "1") "]", TERN_ERR_FORMAT,
          "modules 0 and 1 are both called \"0\"" },
        { "modules.json", "[" OURS("0", "Transformer", "") "," ENTRY("1", "x.CNN", "1") "]", TERN_ERR_UNSUPPORTED,
          "module 1 is \"x.CNN\", expected sentence_transformers' Transformer" },
        { "modules.json", "[" OURS("0", "Pooling", "1") "," OURS("1", "Transformer", "") "]", TERN_ERR_UNSUPPORTED,
          "expected a Transformer as the first" },
        { "modules.json", "[" OURS("0", "Transformer", "../other") "," OURS("1", "Pooling", "1") "]", TERN_ERR_FORMAT,
          "expected a folder inside" },
        { "modules.json", "[" OURS("0", "Transformer", "") "," OURS("1", "Pooling", "4") "]", TERN_ERR_NOT_FOUND,
          "4/config.json" },
        { "modules.json", LIST("," OURS("2", "Router", "2")), TERN_ERR_UNSUPPORTED, "module 2 is" },
        { "1/config.json", "[]", TERN_ERR_FORMAT, "1/config.json: is an array, expected an object" },
        { "1/config.json", "{\"pooling_mode\":\"median\"}", TERN_ERR_UNSUPPORTED, "pooling_mode is \"median\"" },
        { "1/config.json", "{\"pooling_mode\":7}", TERN_ERR_FORMAT, "pooling_mode is an integer" },
        { "1/config.json", "{\"pooling_mode\":null}", TERN_ERR_FORMAT, "pooling_mode is null" },
        { "1/config.json", "{\"pooling_mode\":[]}", TERN_ERR_FORMAT, "pooling_mode is an empty array" },
        { "1/config.json", "{\"pooling_mode\":[true]}", TERN_ERR_FORMAT, "pooling_mode is" },
        { "1/config.json", "{\"pooling_mode\":[\"cls\",\"cls\"]}", TERN_ERR_FORMAT, "has \"cls\" twice" },
        { "1/config.json", "{\"pooling_mode\":\"cls\",\"pooling_mode_mean_tokens\":true}", TERN_ERR_FORMAT,
          "pooling_mode_mean_tokens is true and pooling_mode has no \"mean\"" },
        { "1/config.json", "{\"pooling_mode\":\"cls\",\"pooling_mode_cls_token\":false}", TERN_ERR_FORMAT,
          "pooling_mode_cls_token is false and pooling_mode has \"cls\"" },
        { "1/config.json", "{\"pooling_mode_mean_tokens\":1}", TERN_ERR_FORMAT, "\"pooling_mode_mean_tokens\" is 1" },
        { "1/config.json", "{\"pooling_mode_median\":false}", TERN_ERR_UNSUPPORTED, "\"pooling_mode_median\"" },
        { "1/config.json", "{\"include_prompt\":\"no\"}", TERN_ERR_FORMAT, "\"include_prompt\" is the string \"no\"" },
        { "1/config.json", "{\"word_embedding_dimension\":3,\"embedding_dimension\":4}", TERN_ERR_FORMAT,
          "expected one value for both" },
        { "1/config.json", "{\"word_embedding_dimension\":\"24\"}", TERN_ERR_FORMAT,
          "\"word_embedding_dimension\" is the string" },
        { "sentence_bert_config.json", "7", TERN_ERR_FORMAT, "sentence_bert_config.json: is an integer, expected" },
        { "sentence_bert_config.json", "{\"max_seq_length\":0}", TERN_ERR_FORMAT, "\"max_seq_length\" is 0" },
        { "sentence_bert_config.json", "{\"do_lower_case\":true}", TERN_ERR_UNSUPPORTED, "do_lower_case is true" },
        { "sentence_bert_config.json", "{\"transformer_task\":\"fill-mask\"}", TERN_ERR_UNSUPPORTED,
          "is \"fill-mask\"" },
        { "sentence_bert_config.json", "{\"module_output_name\":\"sentence_embedding\"}", TERN_ERR_UNSUPPORTED,
          "expected token_embeddings" },
        { "sentence_bert_config.json", "{\"modality_config\":{\"image\":{}}}", TERN_ERR_UNSUPPORTED,
          "has no \"text\"" },
        { "sentence_bert_config.json", "{\"modality_config\":{\"text\":{\"method_output_name\":\"pooler_output\"}}}",
          TERN_ERR_UNSUPPORTED, "takes pooler_output of forward" },
        { "sentence_bert_config.json", "{\"config_args\":{\"is_causal\":false}}", TERN_ERR_UNSUPPORTED,
          "config_args has \"is_causal\"" },
        { "sentence_bert_config.json", "{\"tokenizer_args\":{\"model_max_length\":\"x\"}}", TERN_ERR_FORMAT,
          "\"model_max_length\" is the string" },
        { "sentence_bert_config.json", "{\"query_expansion\":{\"length\":32}}", TERN_ERR_UNSUPPORTED,
          "query_expansion" },
        { "config_sentence_transformers.json", "[]", TERN_ERR_FORMAT, "is an array, expected an object" },
        { "config_sentence_transformers.json", "{\"prompts\":[]}", TERN_ERR_FORMAT, "\"prompts\" is an array" },
        { "config_sentence_transformers.json", "{\"prompts\":{\"a\":7}}", TERN_ERR_FORMAT,
          "prompt \"a\" is an integer" },
        { "config_sentence_transformers.json", "{\"default_prompt_name\":\"a\"}", TERN_ERR_FORMAT,
          "default_prompt_name is \"a\"" },
        { "config_sentence_transformers.json", "{\"truncate_dim\":0}", TERN_ERR_FORMAT, "\"truncate_dim\" is 0" },
        { "tokenizer_config.json", "{\"model_max_length\":[]}", TERN_ERR_FORMAT, "\"model_max_length\" is an array" },
        { "2/config.json", "{\"in_features\":1}", TERN_ERR_FORMAT, "out_features" },
        { "2/config.json", "{\"in_features\":1,\"out_features\":1,\"activation_function\":\"mine.Tanh\"}",
          TERN_ERR_UNSUPPORTED, "activation_function is \"mine.Tanh\"" },
        { "2/config.json", "{\"in_features\":1,\"out_features\":1,\"activation_function\":\"torch.nn.Mish\"}",
          TERN_ERR_UNSUPPORTED, "activation_function is \"torch.nn.Mish\"" },
        { "2/config.json", "{\"in_features\":1,\"out_features\":1,\"module_input_name\":\"token_embeddings\"}",
          TERN_ERR_UNSUPPORTED, "expected sentence_embedding for both" },
        { "3/config.json", "{\"module_input_name\":\"token_embeddings\"}", TERN_ERR_UNSUPPORTED,
          "expected sentence_embedding for both" },
        { "", "", TERN_ERR_NOT_FOUND, "2: " }, /* the weights of the Dense */
    };
    static const struct {
        const char *file, *text;
    } good[] = { { "modules.json", LIST("," OURS("3", "Normalize", "3") "," OURS("2", "Dense", "2")) },
                 { "1/config.json", "{\"pooling_mode\":[\"cls\",\"max\"],\"pooling_mode_cls_token\":true}" },
                 { "2/config.json", "{\"in_features\":1,\"out_features\":1}" },
                 { "3/config.json", "{}" },
                 { "sentence_bert_config.json", "{\"max_seq_length\":12,\"model_args\":{\"dtype\":\"float16\"}}" },
                 { "tokenizer_config.json", "{\"model_max_length\":1e30}" },
                 { "config_sentence_transformers.json", "{\"prompts\":{\"a\":\"b\"}}" } };
    tern_ctx *ctx = test_ctx(1);
    tern_embedder *embedder;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = test_temp_dir();
        char folder[4200];
        for (int k = 1; k <= 3; k++) {
            snprintf(folder, sizeof folder, "%s/%d", dir, k);
            assert_int_equal(mkdir(folder, 0777), 0);
        }
        for (size_t k = 0; k < sizeof good / sizeof good[0]; k++) {
            const char *text = strcmp(good[k].file, cases[i].file) == 0 ? cases[i].text : good[k].text;
            /* without max_seq_length the tokenizer's file is asked */
            const bool left_out = strcmp(good[k].file, "sentence_bert_config.json") == 0 &&
                                  strcmp(cases[i].file, "tokenizer_config.json") == 0;
            if (!left_out)
                test_write(dir, good[k].file, text, strlen(text));
        }
        assert_fails(ctx, tern_embedder_open(ctx, dir, NULL, &embedder), cases[i].status, cases[i].words);
        assert_null(embedder);
        test_remove_dir(dir);
    }
    assert_fails(ctx, tern_embedder_open(ctx, test_golden("no-such-model"), NULL, &embedder), TERN_ERR_NOT_FOUND, "");
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_a_long_text_is_cancelled),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_the_transformer_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
