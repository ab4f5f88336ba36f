/* labels: quick threads */
/* test_text_threads.c: one tokenizer, many threads, the same ids as alone. */
#include "small_tokenizer.h"

#include <pthread.h>

#define N_THREADS 4
#define N_ROUNDS  40

static const char pre_tokenizer[] =
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s|\\\\w+\"},"
    "\"behavior\":\"Isolated\",\"invert\":false}," SMALL_BYTES "]}";

struct job {
    const tern_tokenizer *t;
    const char *text;
    size_t size;
    const tern_ids *want;
    int wrong;
};

static void *work(void *arg)
{
    struct job *job = arg;
    tern_ctx ctx = { 0 };
    tern_ids ids = { 0 };

    for (int i = 0; i < N_ROUNDS; i++) {
        char *text;
        size_t size;

        if (tern_tokenizer_encode(&ctx, job->t, job->text, job->size, true, &ids) != TERN_OK ||
            ids.count != job->want->count || memcmp(ids.data, job->want->data, ids.count * sizeof *ids.data) != 0)
            job->wrong++;
        if (tern_tokenizer_decode(&ctx, job->t, ids.data, ids.count, false, &text, &size) != TERN_OK ||
            size != job->size || memcmp(text, job->text, size) != 0)
            job->wrong++;
        tern_text_free(text);
    }
    tern_ids_free(&ids);
    return NULL;
}

static void shared(void **state)
{
    char text[8192];
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    tern_ids want = { 0 };
    pthread_t threads[N_THREADS];
    struct job jobs[N_THREADS];
    uint64_t seed = 11;

    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "abcd  abcabc"[test_random(&seed) % 12];
    assert_ok(&ctx, small_open(&ctx, PARTS(.pre_tokenizer = pre_tokenizer, .decoder = SMALL_BYTES), &t));
    assert_ok(&ctx, tern_tokenizer_encode(&ctx, t, text, sizeof text, true, &want));
    for (int i = 0; i < N_THREADS; i++) {
        jobs[i] = (struct job){ t, text, sizeof text, &want, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    tern_ids_free(&want);
    tern_tokenizer_close(&t);
}

/* A batch is each text alone, whatever the team, but for padding to the longest; what fails leaves all as it was. */
static void batches(void **state)
{
    static const char padding[] =
        ",\"padding\":{\"strategy\":\"BatchLongest\",\"direction\":\"Left\",\"pad_to_multiple_of\":4,"
        "\"pad_id\":3,\"pad_type_id\":1,\"pad_token\":\"c\"}";
    char file[2048];
    char *json = small_json(PARTS(.pre_tokenizer = pre_tokenizer, .decoder = SMALL_BYTES));
    const char *texts[60];
    size_t sizes[60], longest = 0;
    char text[60 * 61];
    uint64_t seed = 12;

    (void)state;
    snprintf(file, sizeof file, "{%s%s", "\"version\":\"1.0\"", strstr(json, ",\"added_tokens\""));
    free(json);
    file[strlen(file) - 1] = 0;
    strcat(file, padding);
    strcat(file, "}");
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "abcd  abcabc"[test_random(&seed) % 12];
    for (size_t i = 0; i < 60; i++) {
        texts[i] = text + 60 * i;
        sizes[i] = i;
    }
    for (int threads = 1; threads <= 4; threads++) {
        const tern_encode_options plain = { .add_special = true },
                                  limited = { .add_special = true, .apply_limits = true };
        tern_encoding batch[60] = { { 0 } }, alone = { 0 };
        tern_ctx *ctx = test_ctx(threads);
        tern_tokenizer *t;

        assert_ok(ctx, tern_tokenizer_parse(ctx, file, strlen(file), "small.json", &t));
        assert_ok(ctx, tern_tokenizer_encode_batch(ctx, t, texts, sizes, 60, &plain, batch));
        for (size_t i = 0; i < 60; i++) {
            assert_ok(ctx, tern_tokenizer_encode_with(ctx, t, texts[i], sizes[i], &plain, &alone));
            assert_int_equal(batch[i].count, alone.count);
            assert_memory_equal(batch[i].ids, alone.ids, alone.count * sizeof *alone.ids);
            assert_memory_equal(batch[i].offsets, alone.offsets, alone.count * sizeof *alone.offsets);
            longest = alone.count > longest ? alone.count : longest;
        }
        assert_ok(ctx, tern_tokenizer_encode_batch(ctx, t, texts, sizes, 60, &limited, batch));
        for (size_t i = 0; i < 60; i++) {
            assert_int_equal(batch[i].count, (longest + 3) / 4 * 4);
            assert_int_equal(batch[i].attention[0], 0);
            assert_int_equal(batch[i].ids[0], 3);
        }
        const char *broken[2] = { "a", "\xFF" };
        const size_t ones[2] = { 1, 1 };
        assert_fails(ctx, tern_tokenizer_encode_batch(ctx, t, broken, ones, 2, &limited, batch), TERN_ERR_FORMAT,
                     "0xFF at offset 0");
        assert_int_equal(batch[0].count, (longest + 3) / 4 * 4);
        for (size_t i = 0; i < 60; i++)
            tern_encoding_free(&batch[i]);
        tern_encoding_free(&alone);
        tern_tokenizer_close(&t);
        tern_ctx_destroy(&ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(shared), cmocka_unit_test(batches) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
