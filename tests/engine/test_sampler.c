/* test_sampler.c: scores after the processors against transformers, the random numbers, the choice. */
#include "faults.h"

#include "base/json.h"

#include <tern/sampling.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tern_ctx *ctx;

/* ---- reading sampling.json ---- */

static float score_of(const tern_json_value *v)
{
    return tern_json_type(v) == TERN_JSON_STRING ? -INFINITY : (float)tern_json_number(v);
}

static float *read_scores(const tern_json_value *list, size_t *n)
{
    *n = tern_json_size(list);
    float *scores = malloc(*n * sizeof *scores);
    for (size_t i = 0; i < *n; i++)
        scores[i] = score_of(tern_json_at(list, i));
    return scores;
}

static size_t read_ids(const tern_json_value *list, int32_t *ids)
{
    for (size_t i = 0; i < tern_json_size(list); i++)
        ids[i] = (int32_t)tern_json_int(tern_json_at(list, i));
    return tern_json_size(list);
}

/* Options named as in transformers; the biases' ids go to storage. */
static tern_sampling read_options(const tern_json_value *options, tern_logit_bias *bias, int32_t *storage)
{
    tern_sampling s = tern_sampling_default();

    for (void *it = tern_json_iter(options); it; it = tern_json_next(options, it)) {
        const char *key = tern_json_iter_key(it, NULL);
        const tern_json_value *v = tern_json_iter_value(it);
        if (strcmp(key, "temperature") == 0)
            s.temperature = (float)tern_json_number(v);
        else if (strcmp(key, "top_k") == 0)
            s.top_k = (int32_t)tern_json_int(v);
        else if (strcmp(key, "top_p") == 0)
            s.top_p = (float)tern_json_number(v);
        else if (strcmp(key, "min_p") == 0)
            s.min_p = (float)tern_json_number(v);
        else if (strcmp(key, "repetition_penalty") == 0)
            s.repetition_penalty = (float)tern_json_number(v);
        else if (strcmp(key, "presence_penalty") == 0)
            s.presence_penalty = (float)tern_json_number(v);
        else if (strcmp(key, "frequency_penalty") == 0)
            s.frequency_penalty = (float)tern_json_number(v);
        else if (strcmp(key, "sequence_bias") == 0)
            for (size_t i = 0; i < tern_json_size(v); i++) {
                const tern_json_value *pair = tern_json_at(v, i);
                const size_t n = read_ids(tern_json_at(pair, 0), storage);
                bias[s.n_bias++] = (tern_logit_bias){ storage, (int32_t)n, score_of(tern_json_at(pair, 1)) };
                storage += n;
                s.bias = bias;
            }
        else
            fail_msg("sampling.json has an option that the test does not know: %s", key);
    }
    return s;
}

static struct tern_json *open_golden(void)
{
    struct tern_json *json;

    assert_ok(ctx, tern_json_read(ctx, test_golden("sampling.json"), 1 << 24, &json));
    return json;
}

/* ---- processors ---- */

/* What is kept must be the same; the values pass through at most five f32 operations, the same as the reference's, so they
 * are equal but for the order of a sum of biases: 2 ulp. */
static void test_processors(void **state)
{
    (void)state;
    struct tern_json *json = open_golden();
    const tern_json_value *root = tern_json_root(json), *cases = tern_json_get(root, "cases");
    size_t n_cases = tern_json_size(cases);

    assert_true(n_cases > 50);
    for (size_t c = 0; c < n_cases; c++) {
        const tern_json_value *one = tern_json_at(cases, c);
        tern_logit_bias bias[16];
        int32_t storage[256], ids[64];
        const tern_sampling sampling = read_options(tern_json_get(one, "options"), bias, storage);
        size_t n, n_want;
        float *scores = read_scores(
            tern_json_at(tern_json_get(root, "scores"), (size_t)tern_json_int(tern_json_get(one, "scores"))), &n);
        float *want = read_scores(tern_json_get(one, "expected"), &n_want);
        const size_t n_prompt = read_ids(tern_json_get(one, "prompt"), ids);
        const size_t n_ids = n_prompt + read_ids(tern_json_get(one, "generated"), ids + n_prompt);
        tern_sampler *sampler;

        assert_int_equal(n, n_want);
        assert_ok(ctx, tern_sampler_create(ctx, (int32_t)n, &sampling, &sampler));
        /* Twice: a sampler keeps nothing of the call before. */
        for (int again = 0; again < 2; again++) {
            float *got = malloc(n * sizeof *got);
            memcpy(got, scores, n * sizeof *got);
            assert_ok(ctx, tern_sampler_process(ctx, sampler, got, ids, n_ids, n_prompt));
            for (size_t i = 0; i < n; i++)
                if (isinf(want[i]) ? got[i] != want[i] : !(fabsf(got[i] - want[i]) <= 2 * 0x1p-23f * fabsf(want[i])))
                    fail_msg("case %zu: score of id %zu is %.9g, transformers has %.9g", c, i, (double)got[i],
                             (double)want[i]);
            free(got);
        }
        tern_sampler_destroy(&sampler);
        free(scores);
        free(want);
    }
    tern_json_destroy(json);
}

/* Equal scores at the border of top-p: torch's stable ascending sort puts the lower id first, and cuts it first. */
static void test_ties_of_top_p(void **state)
{
    (void)state;
    float scores[6] = { 1, 1, 1, -0.0f, 0.0f, 1 };
    tern_sampling sampling = tern_sampling_default();
    tern_sampler *sampler;

    sampling.top_p = 0.4f;
    assert_ok(ctx, tern_sampler_create(ctx, 6, &sampling, &sampler));
    assert_ok(ctx, tern_sampler_process(ctx, sampler, scores, NULL, 0, 0));
    /* Shares: 4 times 0.211, 2 times 0.078; up to 0.6 goes: 0.078, 0.156, 0.367, 0.578. */
    for (int i = 0; i < 6; i++)
        assert_true(scores[i] == (i == 2 || i == 5 ? 1.0f : -INFINITY));
    tern_sampler_destroy(&sampler);
}

/* A long vocabulary through the radix sort: compared with qsort. */
static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void test_top_k_of_many(void **state)
{
    (void)state;
    enum { V = 50257 };
    float *scores = malloc(V * sizeof *scores), *sorted = malloc(V * sizeof *sorted);
    uint64_t seed = 11;

    for (int i = 0; i < V; i++)
        scores[i] = test_normal(&seed) * (i % 3 ? 1e-30f : 40.0f);
    memcpy(sorted, scores, V * sizeof *sorted);
    qsort(sorted, V, sizeof *sorted, ascending);
    for (int32_t k = 1; k <= V; k = k * 5 + 1) {
        tern_sampling sampling = tern_sampling_default();
        tern_sampler *sampler;
        float *got = malloc(V * sizeof *got);

        sampling.top_k = k;
        memcpy(got, scores, V * sizeof *got);
        assert_ok(ctx, tern_sampler_create(ctx, V, &sampling, &sampler));
        assert_ok(ctx, tern_sampler_process(ctx, sampler, got, NULL, 0, 0));
        for (int i = 0; i < V; i++)
            assert_true(got[i] == (scores[i] >= sorted[V - k] ? scores[i] : -INFINITY));
        tern_sampler_destroy(&sampler);
        free(got);
    }
    free(scores);
    free(sorted);
}

/* ---- random numbers ---- */

static void test_philox(void **state)
{
    (void)state;
    struct tern_json *json = open_golden();
    const tern_json_value *list = tern_json_get(tern_json_root(json), "philox4x32_10");

    assert_true(tern_json_size(list) >= 3);
    for (size_t i = 0; i < tern_json_size(list); i++) {
        const tern_json_value *one = tern_json_at(list, i);
        uint32_t counter[4], key[2], out[4];
        for (size_t j = 0; j < 4; j++)
            counter[j] = (uint32_t)tern_json_int(tern_json_at(tern_json_get(one, "counter"), j));
        for (size_t j = 0; j < 2; j++)
            key[j] = (uint32_t)tern_json_int(tern_json_at(tern_json_get(one, "key"), j));
        tern_philox(counter, key, out);
        for (size_t j = 0; j < 4; j++)
            assert_int_equal(out[j], (uint32_t)tern_json_int(tern_json_at(tern_json_get(one, "output"), j)));
    }
    tern_json_destroy(json);
}

/* ---- the choice ---- */

static tern_choice choose(const tern_sampling *sampling, const float *scores, int32_t n, const int32_t *ids,
                          size_t n_ids)
{
    tern_sampler *sampler;
    tern_choice choice;

    assert_ok(ctx, tern_sampler_create(ctx, n, sampling, &sampler));
    assert_ok(ctx, tern_sampler_choose(ctx, sampler, scores, ids, n_ids, n_ids, &choice));
    tern_sampler_destroy(&sampler);
    return choice;
}

static void test_greedy(void **state)
{
    (void)state;
    const float scores[5] = { -1, 3, 2, 3, -INFINITY };
    const int32_t seen[1] = { 1 };
    tern_sampling sampling = tern_sampling_default();
    const double total = exp(-4) + 1 + exp(-1) + 1;

    sampling.temperature = 0;
    sampling.top_k = 1; /* not used */
    tern_choice choice = choose(&sampling, scores, 5, NULL, 0);
    assert_int_equal(choice.id, 1);
    assert_true(fabs(choice.logprob + log(total)) < 1e-7);

    /* Penalties do count; the log-probability is the raw one all the same. */
    sampling.repetition_penalty = 2;
    choice = choose(&sampling, scores, 5, seen, 1);
    assert_int_equal(choice.id, 3);
    assert_true(fabs(choice.logprob + log(total)) < 1e-7);
}

/* The choice is the inverse of the cumulative distribution at Philox's number, worked out here with the system's exp. */
static void test_choice(void **state)
{
    (void)state;
    enum { V = 40, N = 2000 };
    float scores[V];
    uint64_t random = 9;
    int32_t ids[N] = { 0 };
    size_t found[V] = { 0 };
    tern_sampling sampling = tern_sampling_default();
    tern_sampler *sampler;
    double total = 0, p[V];

    sampling.seed = 0xFEDCBA9876543210;
    sampling.temperature = 0.8f;
    for (int i = 0; i < V; i++)
        scores[i] = test_normal(&random) * 2;
    for (int i = 0; i < V; i++)
        total += p[i] = exp(scores[i] / sampling.temperature);
    assert_ok(ctx, tern_sampler_create(ctx, V, &sampling, &sampler));
    for (size_t n = N; n-- > 0;) { /* backwards: only seed and position matter */
        const uint32_t counter[4] = { (uint32_t)n, 0, 0, 0 }, key[2] = { 0x76543210, 0xFEDCBA98 };
        uint32_t out[4];
        tern_choice choice;
        double sum = 0;
        int32_t want = 0;

        tern_philox(counter, key, out);
        const double u = ((out[0] >> 5) * 67108864.0 + (out[1] >> 6)) / 9007199254740992.0;
        for (; want < V - 1 && (sum += p[want]) <= u * total; want++)
            ;
        assert_ok(ctx, tern_sampler_choose(ctx, sampler, scores, ids, n, n, &choice));
        assert_int_equal(choice.id, want);
        found[choice.id]++;
    }
    /* Five standard deviations of a binomial. */
    for (int i = 0; i < V; i++) {
        const double q = p[i] / total;
        assert_true(fabs((double)found[i] - N * q) <= 5 * sqrt(N * q * (1 - q)) + 1);
    }
    tern_sampler_destroy(&sampler);
}

/* What is ruled out is never drawn, whatever the number. */
static void test_only_what_is_kept(void **state)
{
    (void)state;
    const float scores[6] = { 0, 5, 4, 4.5f, -3, 1 };
    int32_t ids[200] = { 0 };
    tern_sampling sampling = tern_sampling_default();

    sampling.top_k = 2;
    for (size_t n = 0; n < 200; n++) {
        const tern_choice choice = choose(&sampling, scores, 6, ids, n);
        assert_true(choice.id == 1 || choice.id == 3);
    }
}

/* top_p cuts the lowest of equal best scores first; the draw is among the others, each about as often. */
static void test_choice_among_ties(void **state)
{
    (void)state;
    const float scores[6] = { 2, -1, 2, 2, 0, 2 };
    int32_t ids[400] = { 0 }, found[6] = { 0 };
    tern_sampling sampling = tern_sampling_default();

    sampling.top_p = 0.5f;
    sampling.min_p = 0.5f;
    for (size_t n = 0; n < 400; n++)
        found[choose(&sampling, scores, 6, ids, n).id]++;
    /* Shares: 4 times 0.238, 0.032, 0.012; up to 0.5 go the two small ones and id 0.  Of 400 draws among three, 133 each,
     * within five standard deviations of a binomial (9.4). */
    for (int i = 0; i < 6; i++)
        assert_true(i == 2 || i == 3 || i == 5 ? abs(found[i] - 133) <= 47 : found[i] == 0);
}

/* The last of two biases for the same ids counts, at one token and at several. */
static void test_repeated_bias(void **state)
{
    (void)state;
    const int32_t one[1] = { 2 }, two[2] = { 4, 3 }, seen[1] = { 4 };
    const tern_logit_bias bias[] = { { one, 1, 8 }, { two, 2, 9 }, { two, 2, 0.5f }, { one, 1, 0.25f } };
    float scores[5] = { 0, 0, 0, 0, 0 };
    tern_sampling sampling = tern_sampling_default();
    tern_sampler *sampler;

    sampling.bias = bias;
    sampling.n_bias = 4;
    assert_ok(ctx, tern_sampler_create(ctx, 5, &sampling, &sampler));
    assert_ok(ctx, tern_sampler_process(ctx, sampler, scores, seen, 1, 0));
    assert_true(scores[2] == 0.25f && scores[3] == 0.5f && scores[4] == 0);
    tern_sampler_destroy(&sampler);
}

/* transformers adds biases of one length together, lengths in the order of their first appearance; in f32 it shows:
 * (-1e8 + 1e8) + 1 is 1, and 0 in the order of the list. */
static void test_order_of_biases(void **state)
{
    (void)state;
    const int32_t seen[3] = { 1, 0, 4 }, elsewhere[3] = { 0, 2, 1 }, two[2] = { 4, 3 }, four[4] = { 1, 0, 4, 3 },
                  three[3] = { 0, 4, 3 };
    const tern_logit_bias bias[] = { { elsewhere, 3, 7 }, { two, 2, 1e8f }, { four, 4, 1 }, { three, 3, -1e8f } };
    float scores[5] = { 0 };
    tern_sampling sampling = tern_sampling_default();
    tern_sampler *sampler;

    sampling.bias = bias;
    sampling.n_bias = 4;
    assert_ok(ctx, tern_sampler_create(ctx, 5, &sampling, &sampler));
    assert_ok(ctx, tern_sampler_process(ctx, sampler, scores, seen, 3, 3));
    assert_true(scores[3] == 1 && scores[1] == 0);
    tern_sampler_destroy(&sampler);
}

/* ---- errors ---- */

static void refused(const tern_sampling *sampling, const char *part)
{
    tern_sampler *sampler = (tern_sampler *)&ctx;

    assert_fails(ctx, tern_sampler_create(ctx, 10, sampling, &sampler), TERN_ERR_ARG, part);
    assert_null(sampler);
}

static void test_settings_are_checked(void **state)
{
    (void)state;
    const int32_t ids[2] = { 3, 10 };
    tern_logit_bias bias = { ids, 2, 1 };
    tern_sampler *sampler;
    tern_sampling s;

#define REFUSED(field, value, part) \
    s = tern_sampling_default();    \
    s.field = (value);              \
    refused(&s, part)

    REFUSED(temperature, -0.5f, "temperature is -0.5");
    REFUSED(temperature, NAN, "temperature is");
    REFUSED(temperature, INFINITY, "temperature is inf");
    REFUSED(top_k, -1, "top_k is -1");
    REFUSED(top_p, 1.5f, "top_p is 1.5");
    REFUSED(top_p, NAN, "top_p");
    REFUSED(min_p, -0.25f, "min_p is -0.25");
    REFUSED(repetition_penalty, 0, "repetition_penalty is 0");
    REFUSED(presence_penalty, INFINITY, "presence_penalty is inf");
    REFUSED(frequency_penalty, NAN, "frequency_penalty");
    REFUSED(reserved[1], 5, "reserved[1] is 5, expected 0");
    REFUSED(n_bias, 1, "bias is NULL");
#undef REFUSED

    s = tern_sampling_default();
    s.bias = &bias;
    s.n_bias = 1;
    refused(&s, "ids[1] is 10, the vocabulary has 10 ids");
    bias.n_ids = 0;
    refused(&s, "n_ids is 0");
    bias.n_ids = 1;
    bias.bias = INFINITY;
    refused(&s, "bias 0 is inf");
    s = tern_sampling_default();
    assert_fails(ctx, tern_sampler_create(ctx, 0, &s, &sampler), TERN_ERR_ARG, "vocab_size is 0");
}

static void test_scores_are_checked(void **state)
{
    (void)state;
    float scores[3] = { 1, NAN, 2 };
    const int32_t ids[2] = { 0, 3 }, minus[1] = { -1 };
    tern_sampling sampling = tern_sampling_default();
    tern_sampler *sampler;
    tern_choice choice;

    assert_ok(ctx, tern_sampler_create(ctx, 3, &sampling, &sampler));
    assert_fails(ctx, tern_sampler_choose(ctx, sampler, scores, NULL, 0, 0, &choice), TERN_ERR_ARG, "id 1 is NaN");
    scores[1] = INFINITY;
    assert_fails(ctx, tern_sampler_choose(ctx, sampler, scores, NULL, 0, 0, &choice), TERN_ERR_ARG, "id 1 is +inf");
    scores[0] = scores[1] = scores[2] = -INFINITY;
    assert_fails(ctx, tern_sampler_choose(ctx, sampler, scores, NULL, 0, 0, &choice), TERN_ERR_ARG,
                 "all 3 scores are -inf");
    scores[0] = scores[1] = scores[2] = 1;
    assert_fails(ctx, tern_sampler_choose(ctx, sampler, scores, ids, 2, 2, &choice), TERN_ERR_ARG, "ids[1] is 3");
    assert_fails(ctx, tern_sampler_process(ctx, sampler, scores, minus, 1, 1), TERN_ERR_ARG, "ids[0] is -1");
    assert_fails(ctx, tern_sampler_process(ctx, sampler, scores, ids, 1, 2), TERN_ERR_ARG, "n_prompt is 2, n_ids is 1");
    assert_fails(ctx, tern_sampler_process(ctx, sampler, NULL, ids, 1, 1), TERN_ERR_ARG, "scores is NULL");
    tern_sampler_destroy(&sampler);

    sampling.temperature = 1e-38f;
    scores[0] = 3e5f;
    assert_ok(ctx, tern_sampler_create(ctx, 3, &sampling, &sampler));
    assert_fails(ctx, tern_sampler_choose(ctx, sampler, scores, NULL, 0, 0, &choice), TERN_ERR_ARG, "temperature");
    tern_sampler_destroy(&sampler);
    tern_sampler_destroy(&sampler);
    tern_sampler_destroy(NULL);
}

static void test_every_failure(void **state)
{
    (void)state;
    FAULT_NEEDED;
    const int32_t ids[3] = { 1, 2, 3 };
    const tern_logit_bias bias[2] = { { ids, 1, 1 }, { ids, 3, 1 } };
    tern_sampling sampling = tern_sampling_default();
    tern_sampler *sampler = NULL;

    sampling.top_k = 5;
    sampling.bias = bias;
    sampling.n_bias = 2;
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_sampler_create(ctx, 100, &sampling, &sampler);
        FAULT_DONE(n, ctx, status, sampler);
        tern_sampler_destroy(&sampler);
    }
    /* Choosing allocates nothing. */
    float scores[100] = { 0 };
    tern_choice choice;
    fault_count_start();
    assert_ok(ctx, tern_sampler_choose(ctx, sampler, scores, ids, 3, 1, &choice));
    assert_int_equal(fault_count(), 0);
    tern_sampler_destroy(&sampler);
}

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processors),
        cmocka_unit_test(test_ties_of_top_p),
        cmocka_unit_test(test_top_k_of_many),
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_only_what_is_kept),
        cmocka_unit_test(test_choice_among_ties),
        cmocka_unit_test(test_repeated_bias),
        cmocka_unit_test(test_order_of_biases),
        cmocka_unit_test(test_settings_are_checked),
        cmocka_unit_test(test_scores_are_checked),
        cmocka_unit_test(test_every_failure),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
