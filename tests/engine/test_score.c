/* test_score.c: scores of texts and pairs, sorted and in groups; answers of single tokens.  What the numbers must be:
 * tests/cli/test_scores.py. */
#include "testing.h"

#include <tern/score.h>

#include <string.h>

#define MANY   300
#define LABELS 3

static tern_scorer *open_scorer(tern_ctx *ctx, const char *name)
{
    tern_scorer *scorer;

    assert_ok(ctx, tern_scorer_open(ctx, test_golden(name), NULL, &scorer));
    return scorer;
}

static bool count(void *user, uint64_t done, uint64_t total)
{
    (void)total;
    *(uint64_t *)user = done;
    return true;
}

static void test_scores_are_those_of_a_text_alone(void **state)
{
    static char room[MANY][48];
    const char *texts[MANY];
    size_t sizes[MANY], n_tokens = 0;
    uint64_t random = 9, done = 0;
    static const char query[] = "ab";

    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        texts[i] = room[i];
        sizes[i] = 1 + test_random(&random) % 47;
        memset(room[i], 'a' + (int)(i % 26), sizes[i]);
        n_tokens += sizes[i] + 3 + 2; /* [CLS] a ##b [SEP] .. [SEP] */
    }
    for (int threads = 1; threads <= 2; threads++) {
        tern_ctx *ctx = test_ctx(threads);
        tern_scorer *scorer = open_scorer(ctx, "scores/classes");
        const tern_score_options options = { .query = query, .query_size = 2, .progress = count, .user = &done };
        static float together[MANY * LABELS];
        float alone[LABELS];

        assert_int_equal(tern_model_get_config(tern_scorer_model(scorer))->n_labels, LABELS);
        assert_int_equal(tern_scorer_max_tokens(scorer), 64);
        assert_int_equal(tern_scorer_activation(scorer), TERN_SCORE_IDENTITY);
        assert_ok(ctx, tern_score(scorer, texts, sizes, MANY, &options, together));
        assert_int_equal(done, MANY);
        assert_int_equal(tern_scorer_get_stats(scorer).n_tokens, n_tokens);
        assert_true(tern_scorer_get_stats(scorer).n_passes < MANY / 16);
        for (size_t i = 0; i < MANY; i += 7) {
            assert_ok(ctx, tern_score(scorer, texts + i, sizes + i, 1, &options, alone));
            assert_memory_equal(alone, together + i * LABELS, sizeof alone);
        }
        tern_scorer_close(&scorer);
        tern_scorer_close(&scorer);
        tern_ctx_destroy(&ctx);
    }
}

static bool stop(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    (void)total;
    return done == 0;
}

static void test_texts_that_cannot_be_read(void **state)
{
    static char letters[80];
    tern_ctx *ctx = test_ctx(1);
    tern_scorer *scorer = open_scorer(ctx, "scores/cross"), *none;
    const char *texts[] = { "a", letters, "b" };
    const size_t sizes[] = { 1, sizeof letters, 1 };
    tern_score_options options = { 0 };
    float scores[3], cut[3];
    uint64_t n_cut = 7;

    (void)state;
    memset(letters, 'a', sizeof letters);
    assert_int_equal(tern_scorer_activation(scorer), TERN_SCORE_SIGMOID);
    options.n_cut = &n_cut;
    assert_fails(ctx, tern_score(scorer, texts, sizes, 3, &options, scores), TERN_ERR_CAPACITY,
                 "text 2 has 82 tokens, the model reads at most 64");
    assert_int_equal(n_cut, 0);
    options.cut = true;
    assert_ok(ctx, tern_score(scorer, texts, sizes, 3, &options, cut));
    assert_int_equal(n_cut, 1);
    assert_ok(ctx, tern_score(scorer, (const char *[]){ letters }, (size_t[]){ 62 }, 1, NULL, scores));
    assert_memory_equal(scores, cut + 1, sizeof(float));
    options.progress = stop;
    assert_fails(ctx, tern_score(scorer, texts, sizes, 3, &options, scores), TERN_ERR_CANCELLED, "after 3 of 3 texts");
    assert_fails(ctx, tern_score(scorer, (const char *[]){ "a", "b\xff" }, (size_t[]){ 1, 2 }, 2, NULL, scores),
                 TERN_ERR_FORMAT, "text 2: ");
    assert_fails(ctx, tern_score(scorer, texts, sizes, 1, NULL, NULL), TERN_ERR_ARG, "NULL");
    assert_ok(ctx, tern_score(scorer, NULL, NULL, 0, NULL, NULL));
    assert_fails(ctx, tern_scorer_open(ctx, test_golden("scores/tags"), NULL, &none), TERN_ERR_UNSUPPORTED,
                 "BertForTokenClassification gives no scores of labels for a text");
    assert_null(none);
    tern_scorer_close(&scorer);
    tern_ctx_destroy(&ctx);
}

/* The rows that are asked for, of texts that are read together, have the bits that they have among all. */
static void test_answers_of_single_tokens(void **state)
{
    const int32_t ids[] = { 2, 18, 4, 20, 3, 2, 30, 3 }, wanted[] = { 2, 4 }, wrong[] = { 2, 2 };
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;
    tern_encoder *encoder;

    (void)state;
    assert_ok(ctx, tern_model_open(ctx, test_golden("scores/fill"), NULL, &model));
    assert_ok(ctx, tern_encoder_create(ctx, model, NULL, &encoder));
    const size_t V = (size_t)tern_model_outputs(model);
    float all[8 * 128], some[8 * 128];
    assert_true(V <= 128);
    tern_encode_text texts[] = { { .ids = ids, .n_ids = 5 }, { .ids = ids + 5, .n_ids = 3 } };
    assert_ok(ctx, tern_encode(encoder, texts, 2, NULL, all));
    texts[0].wanted = wanted;
    texts[0].n_wanted = 2;
    assert_ok(ctx, tern_encode(encoder, texts, 2, NULL, some));
    assert_memory_equal(some, all + 2 * V, V * sizeof(float));
    assert_memory_equal(some + V, all + 4 * V, V * sizeof(float));
    assert_memory_equal(some + 2 * V, all + 5 * V, 3 * V * sizeof(float));
    texts[0].n_wanted = 0;
    assert_fails(ctx, tern_encode(encoder, texts, 2, NULL, some), TERN_ERR_ARG, "n_wanted is 0, expected 1..5");
    texts[0].n_wanted = 2;
    texts[0].wanted = wrong;
    assert_fails(ctx, tern_encode(encoder, texts, 2, NULL, some), TERN_ERR_ARG, "wanted[1] is 2");
    texts[0].wanted = NULL;
    assert_fails(ctx, tern_encode(encoder, texts, 2, NULL, some), TERN_ERR_ARG, "n_wanted is 2, expected 0");
    tern_encoder_destroy(&encoder);
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_are_those_of_a_text_alone),
        cmocka_unit_test(test_texts_that_cannot_be_read),
        cmocka_unit_test(test_answers_of_single_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
