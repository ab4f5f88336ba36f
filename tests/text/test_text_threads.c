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

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(shared) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
