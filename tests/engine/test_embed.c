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
    static const char *const names[] = { "mean",          "cls-dense", "max-norm",       "sqrt-plain",
                                         "weighted-last", "prompt",    "prompt-left-out" };
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
        const tern_embed_options options = { .prompt = prompt ? tern_embedder_prompt(embedder, prompt) : NULL,
                                             .n_cut = &n_cut };
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

static bool stop(void *user, uint64_t done, uint64_t total)
{
    (void)total;
    *(uint64_t *)user = done;
    return false;
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
    assert_int_equal(seen, t.n);
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

/* A copy of one small directory's modules.json and pooling with something changed; the model is not reached. */
static void test_refused(void **state)
{
    static const struct {
        const char *modules, *pooling;
        tern_status status;
        const char *words;
    } cases[] = {
        { "{}", "{}", TERN_ERR_FORMAT, "modules.json: is an object" },
        { "[]", "{}", TERN_ERR_FORMAT, "expected an array of at least a Transformer and a Pooling" },
        { "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},{\"type\":\"x.CNN\",\"path\":\"1\"}]",
          "{}", TERN_ERR_UNSUPPORTED, "module 1 is \"x.CNN\", expected sentence_transformers' Transformer" },
        { "[{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1\"},{\"type\":\"sentence_transformers."
          "models.Transformer\",\"path\":\"\"}]",
          "{}", TERN_ERR_UNSUPPORTED, "expected a Transformer as the first" },
        { "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"../"
          "other\"},{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1\"}]",
          "{}", TERN_ERR_FORMAT, "expected a folder inside" },
        { "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},{\"type\":\"sentence_transformers."
          "models.Pooling\",\"path\":\"1\"}]",
          "{\"pooling_mode\":\"median\"}", TERN_ERR_UNSUPPORTED, "pooling_mode is \"median\"" },
        { "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},{\"type\":\"sentence_transformers."
          "models.Pooling\",\"path\":\"1\"}]",
          "{\"pooling_mode\":[\"cls\",\"cls\"]}", TERN_ERR_FORMAT, "has \"cls\" twice" },
        { "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},{\"type\":\"sentence_transformers."
          "models.Pooling\",\"path\":\"1\"}]",
          "{\"word_embedding_dimension\":3,\"embedding_dimension\":4}", TERN_ERR_FORMAT,
          "expected one value for both" },
        { "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},{\"type\":\"sentence_transformers."
          "models.Pooling\",\"path\":\"2\"}]",
          "{}", TERN_ERR_NOT_FOUND, "2/config.json" },
    };
    tern_ctx *ctx = test_ctx(1);
    tern_embedder *embedder;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = test_temp_dir();
        char folder[4200], *made;
        test_write(dir, "modules.json", cases[i].modules, strlen(cases[i].modules));
        snprintf(folder, sizeof folder, "%s/1", dir);
        assert_int_equal(mkdir(folder, 0777), 0);
        made = strdup(folder);
        assert_non_null(made);
        test_write(made, "config.json", cases[i].pooling, strlen(cases[i].pooling));
        free(made);
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
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
