/* sampler.c: from scores to the next token.
 *
 * What transformers' generate does with its logits processors, in its order: sequence bias, repetition penalty, [presence and
 * frequency penalty, which are OpenAI's], temperature, top-k, top-p, min-p; then one draw from the softmax of what is left.
 * Scores are f32 and change by the same f32 operations as there.  Probabilities, which only decide what is kept and drawn,
 * are f64 here and f32 there: a token is treated differently only when a sum lies within rounding of its threshold.
 *
 * Equal scores.  Top-k keeps all that equal the k-th best, as transformers does (it compares values).  Top-p cuts a sorted
 * list and so has to order equals: here the lower id comes first in ascending order, which is torch's stable sort, and is cut
 * first.  (torch.sort as transformers calls it promises no order; it may differ between machines.)
 * Greedy takes the lowest id of the best, as argmax does.
 *
 * The sort is a radix sort of (score as ordered integer, id): stable, O(V), without recursion or a worst case.
 *
 * Source: transformers 5.23, generation/logits_process.py and GenerationMixin._get_logits_processor; OpenAI API reference,
 * "frequency and presence penalties"; Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox). */
#include "base/fpmode.h"
#include "base/math_f64.h"
#include "base/memory.h"

#include <tern/sampling.h>

#include <math.h>

#define RADIX_BITS   11
#define RADIX_PASSES 3 /* 33 bits >= 32 */
#define RADIX_SIZE   ((size_t)1 << RADIX_BITS)

struct candidate {
    uint32_t key; /* orders as the score does */
    int32_t id;
};

/* A bias on `last` after the n_prefix ids before it. */
struct long_bias {
    const int32_t *prefix;
    size_t n_prefix;
    int32_t last;
    float bias;
};

struct tern_sampler {
    int32_t vocab_size; /* V */
    tern_sampling settings;
    float *work;                 /* [V]: the processed copy of what choose() is given */
    double *weight;              /* [V]: e^(score - best) */
    int32_t *count;              /* [V]: all zero between calls */
    float *bias;                 /* [V]: of single tokens; NULL without any bias */
    float *bias_now;             /* [V]: that, and the long ones that match */
    struct long_bias *long_bias; /* [n_long], in transformers' order: by prefix lengths as they first appear */
    size_t n_long;
    int32_t *prefixes;                 /* storage of their ids */
    struct candidate *sorted, *spare;  /* [V]; NULL without top-k and top-p */
    uint32_t (*histogram)[RADIX_SIZE]; /* [RADIX_PASSES] */
};

tern_sampling tern_sampling_default(void)
{
    return (tern_sampling){ .temperature = 1, .top_p = 1, .repetition_penalty = 1 };
}

/* ---- random numbers ---- */

void tern_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * c0, b = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static double draw(uint64_t seed, uint64_t position)
{
    const uint32_t counter[4] = { (uint32_t)position, (uint32_t)(position >> 32), 0, 0 };
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t random[4];

    tern_philox(counter, key, random);
    return tern_uniform_f64(random[0], random[1]);
}

/* ---- creation ---- */

static tern_status check_settings(tern_ctx *ctx, int32_t vocab_size, const tern_sampling *s)
{
    TERN_TRY(TERN_CHECK_RESERVED(ctx, "sampling", s));
    TERN_REQUIRE(ctx, vocab_size >= 1, TERN_ERR_ARG, "sampling: vocab_size is %" PRId32 ", expected at least 1",
                 vocab_size);
    TERN_REQUIRE(ctx, isfinite(s->temperature) && s->temperature >= 0, TERN_ERR_ARG,
                 "sampling: temperature is %g, expected 0 (greedy) or more", (double)s->temperature);
    TERN_REQUIRE(ctx, s->top_k >= 0, TERN_ERR_ARG, "sampling: top_k is %" PRId32 ", expected 0 (all) or more",
                 s->top_k);
    TERN_REQUIRE(ctx, s->top_p >= 0 && s->top_p <= 1, TERN_ERR_ARG, "sampling: top_p is %g, expected 0 to 1",
                 (double)s->top_p);
    TERN_REQUIRE(ctx, s->min_p >= 0 && s->min_p <= 1, TERN_ERR_ARG, "sampling: min_p is %g, expected 0 to 1",
                 (double)s->min_p);
    TERN_REQUIRE(ctx, isfinite(s->repetition_penalty) && s->repetition_penalty > 0, TERN_ERR_ARG,
                 "sampling: repetition_penalty is %g, expected more than 0", (double)s->repetition_penalty);
    TERN_REQUIRE(ctx, isfinite(s->presence_penalty), TERN_ERR_ARG,
                 "sampling: presence_penalty is %g, expected a number", (double)s->presence_penalty);
    TERN_REQUIRE(ctx, isfinite(s->frequency_penalty), TERN_ERR_ARG,
                 "sampling: frequency_penalty is %g, expected a number", (double)s->frequency_penalty);
    TERN_REQUIRE(ctx, s->bias || s->n_bias == 0, TERN_ERR_ARG, "sampling: n_bias is %zu and bias is NULL", s->n_bias);
    for (size_t b = 0; b < s->n_bias; b++) {
        const tern_logit_bias *bias = &s->bias[b];
        TERN_REQUIRE(ctx, bias->n_ids >= 1 && bias->ids, TERN_ERR_ARG,
                     "sampling: bias %zu: n_ids is %" PRId32 "%s, expected at least 1", b, bias->n_ids,
                     bias->ids ? "" : " and ids NULL");
        TERN_REQUIRE(ctx, isfinite(bias->bias) || bias->bias == -INFINITY, TERN_ERR_ARG,
                     "sampling: bias %zu is %g, expected a number or -inf", b, (double)bias->bias);
        for (int32_t i = 0; i < bias->n_ids; i++)
            TERN_REQUIRE(ctx, bias->ids[i] >= 0 && bias->ids[i] < vocab_size, TERN_ERR_ARG,
                         "sampling: bias %zu: ids[%" PRId32 "] is %" PRId32 ", the vocabulary has %" PRId32 " ids", b,
                         i, bias->ids[i], vocab_size);
    }
    return TERN_OK;
}

/* The entry for these ids that is there already, or NULL. */
static struct long_bias *find_long(const tern_sampler *s, const tern_logit_bias *bias)
{
    const size_t n = (size_t)bias->n_ids - 1;

    for (size_t l = 0; l < s->n_long; l++) {
        struct long_bias *have = &s->long_bias[l];
        if (have->n_prefix == n && have->last == bias->ids[n] &&
            memcmp(have->prefix, bias->ids, n * sizeof *bias->ids) == 0)
            return have;
    }
    return NULL;
}

/* transformers keeps biases in a dict: of two for the same ids the last one counts, at the place of the first. */
static tern_status take_biases(tern_ctx *ctx, tern_sampler *s, const tern_sampling *from)
{
    size_t n_prefix_ids = 0, n_long = 0, next = 0, group = 0;

    s->settings.bias = NULL;
    s->settings.n_bias = 0;
    if (from->n_bias == 0)
        return TERN_OK;
    for (size_t b = 0; b < from->n_bias; b++)
        if (from->bias[b].n_ids > 1) {
            n_prefix_ids += (size_t)from->bias[b].n_ids - 1;
            n_long++;
        }
    TERN_TRY(TERN_ALLOC(ctx, (size_t)s->vocab_size, "logit biases", &s->bias));
    TERN_TRY(TERN_ALLOC(ctx, (size_t)s->vocab_size, "logit biases", &s->bias_now));
    TERN_TRY(TERN_ALLOC(ctx, n_long, "logit biases", &s->long_bias));
    TERN_TRY(TERN_ALLOC(ctx, n_prefix_ids, "logit biases", &s->prefixes));

    for (size_t b = 0; b < from->n_bias; b++) {
        const tern_logit_bias *bias = &from->bias[b];
        const size_t n = (size_t)bias->n_ids - 1;

        if (n == 0) {
            s->bias[bias->ids[0]] = bias->bias;
            continue;
        }
        struct long_bias *have = find_long(s, bias);
        if (have) {
            have->bias = bias->bias;
            continue;
        }
        memcpy(s->prefixes + next, bias->ids, n * sizeof *bias->ids);
        s->long_bias[s->n_long++] = (struct long_bias){ s->prefixes + next, n, bias->ids[n], bias->bias };
        next += n;
    }
    /* Several may name one token, and f32 sums depend on the order: bring prefixes of one length together, where the first
     * of them stands. */
    while (group < s->n_long) {
        const size_t length = s->long_bias[group++].n_prefix;
        for (size_t l = group; l < s->n_long; l++)
            if (s->long_bias[l].n_prefix == length) {
                const struct long_bias moved = s->long_bias[l];
                memmove(&s->long_bias[group + 1], &s->long_bias[group], (l - group) * sizeof moved);
                s->long_bias[group++] = moved;
            }
    }
    return TERN_OK;
}

tern_status tern_sampler_create(tern_ctx *ctx, int32_t vocab_size, const tern_sampling *sampling, tern_sampler **out)
{
    const tern_sampling standard = tern_sampling_default();
    tern_sampler *s = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "sampling: out is NULL");
    *out = NULL;
    if (!sampling)
        sampling = &standard;
    TERN_TRY(check_settings(ctx, vocab_size, sampling));
    TERN_TRY(TERN_ALLOC(ctx, 1, "a sampler", &s));
    s->vocab_size = vocab_size;
    s->settings = *sampling;

    const size_t n = (size_t)vocab_size;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "a sampler's scores", &s->work));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "a sampler's weights", &s->weight));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "a sampler's counts", &s->count));
    TERN_TRY_OR_FAIL(take_biases(ctx, s, sampling));
    if (sampling->temperature > 0 && (sampling->top_k > 0 || sampling->top_p < 1)) {
        TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "a sampler's sort", &s->sorted));
        TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "a sampler's sort", &s->spare));
        TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, RADIX_PASSES, "a sampler's sort", &s->histogram));
    }
    *out = s;
    return TERN_OK;

fail:
    tern_sampler_destroy(&s);
    return status;
}

void tern_sampler_destroy(tern_sampler **sampler)
{
    if (!sampler || !*sampler)
        return;

    tern_sampler *s = *sampler;
    tern_free(s->work);
    tern_free(s->weight);
    tern_free(s->count);
    tern_free(s->bias);
    tern_free(s->bias_now);
    tern_free(s->long_bias);
    tern_free(s->prefixes);
    tern_free(s->sorted);
    tern_free(s->spare);
    tern_free(s->histogram);
    tern_free(s);
    *sampler = NULL;
}

/* ---- the processors ---- */

static void add_bias(tern_sampler *s, float *scores, const int32_t *ids, size_t n_ids)
{
    if (!s->bias)
        return;
    memcpy(s->bias_now, s->bias, (size_t)s->vocab_size * sizeof *s->bias);
    for (size_t l = 0; l < s->n_long; l++) {
        const struct long_bias *b = &s->long_bias[l];
        if (b->n_prefix <= n_ids && memcmp(ids + n_ids - b->n_prefix, b->prefix, b->n_prefix * sizeof *ids) == 0)
            s->bias_now[b->last] += b->bias;
    }
    for (int32_t i = 0; i < s->vocab_size; i++)
        scores[i] += s->bias_now[i];
}

/* Each id that occurs is punished once. */
static void penalise_repetition(tern_sampler *s, float *scores, const int32_t *ids, size_t n_ids)
{
    const float penalty = s->settings.repetition_penalty;

    if (penalty == 1)
        return;
    for (size_t i = 0; i < n_ids; i++) {
        float *score = &scores[ids[i]];
        if (s->count[ids[i]]++ == 0)
            *score = *score < 0 ? *score * penalty : *score / penalty;
    }
    for (size_t i = 0; i < n_ids; i++)
        s->count[ids[i]] = 0;
}

/* score[j] -= count[j] * frequency + (count[j] > 0) * presence */
static void penalise_presence(tern_sampler *s, float *scores, const int32_t *generated, size_t n)
{
    const float presence = s->settings.presence_penalty, frequency = s->settings.frequency_penalty;

    if (presence == 0 && frequency == 0)
        return;
    for (size_t i = 0; i < n; i++)
        s->count[generated[i]]++;
    for (size_t i = 0; i < n; i++) {
        const int32_t id = generated[i];
        if (s->count[id] > 0)
            scores[id] -= (float)s->count[id] * frequency + presence;
        s->count[id] = 0;
    }
}

/* An unsigned number that orders as the float does; -0 is 0. */
static uint32_t ordered(float x)
{
    uint32_t bits;

    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/* The scores that are not ruled out, ascending, equal ones by id.  *n of them. */
static const struct candidate *sort(tern_sampler *s, const float *scores, size_t *n)
{
    struct candidate *from = s->sorted, *to = s->spare;
    size_t count = 0;

    memset(s->histogram, 0, RADIX_PASSES * sizeof *s->histogram);
    for (int32_t id = 0; id < s->vocab_size; id++) {
        if (scores[id] == -INFINITY)
            continue;
        const uint32_t key = ordered(scores[id]);
        from[count++] = (struct candidate){ key, id };
        for (int pass = 0; pass < RADIX_PASSES; pass++)
            s->histogram[pass][key >> (pass * RADIX_BITS) & (RADIX_SIZE - 1)]++;
    }
    for (int pass = 0; pass < RADIX_PASSES; pass++) {
        uint32_t *start = s->histogram[pass], sum = 0;
        for (size_t d = 0; d < RADIX_SIZE; d++) {
            const uint32_t here = start[d];
            start[d] = sum;
            sum += here;
        }
        for (size_t i = 0; i < count; i++)
            to[start[from[i].key >> (pass * RADIX_BITS) & (RADIX_SIZE - 1)]++] = from[i];
        struct candidate *const swap = from;
        from = to;
        to = swap;
    }
    *n = count;
    return from;
}

/* Rules out what is below the k-th best score, then the tail that top_p cuts off: ascending, while the sum of
 * probabilities so far is at most 1 - top_p; never the last one, which *best becomes: of equal ones it may be another. */
static void keep_top(tern_sampler *s, float *scores, int32_t *best)
{
    size_t n, first = 0;

    if (!s->sorted)
        return;
    const struct candidate *sorted = sort(s, scores, &n);

    *best = sorted[n - 1].id;
    if (s->settings.top_k > 0 && (size_t)s->settings.top_k < n) {
        const uint32_t least = sorted[n - (size_t)s->settings.top_k].key;
        for (; sorted[first].key < least; first++)
            scores[sorted[first].id] = -INFINITY;
    }
    if (s->settings.top_p < 1) {
        const double largest = scores[*best];
        double total = 0, sum = 0;

        for (size_t i = first; i < n; i++) {
            s->weight[i] = tern_exp_f64(scores[sorted[i].id] - largest);
            total += s->weight[i];
        }
        const double tail = (1 - (double)s->settings.top_p) * total;
        for (; first < n - 1; first++) {
            sum += s->weight[first];
            if (sum > tail)
                break;
            scores[sorted[first].id] = -INFINITY;
        }
    }
}

/* Rules out what has less than min_p of the best one's probability.  `best` is the largest score. */
static void keep_likely(const tern_sampler *s, float *scores, float best)
{
    const double least = s->settings.min_p;

    if (least == 0)
        return;
    for (int32_t id = 0; id < s->vocab_size; id++)
        if (scores[id] > -INFINITY && tern_exp_f64((double)scores[id] - best) < least)
            scores[id] = -INFINITY;
}

/* The lowest id of the largest score; an error if one is NaN or +inf, or all are -inf.  `when` is for its text. */
static tern_status find_best(tern_ctx *ctx, const float *scores, int32_t n, const char *when, int32_t *best)
{
    *best = 0;
    for (int32_t id = 0; id < n; id++) {
        TERN_REQUIRE(ctx, scores[id] < INFINITY, TERN_ERR_ARG, "sampling: the score of id %" PRId32 " is %s%s", id,
                     isnan(scores[id]) ? "NaN" : "+inf", when);
        if (scores[id] > scores[*best])
            *best = id;
    }
    TERN_REQUIRE(ctx, scores[*best] > -INFINITY, TERN_ERR_ARG, "sampling: all %" PRId32 " scores are -inf%s", n, when);
    return TERN_OK;
}

/* *raw and *best: ids of a largest score before and after. */
static tern_status process(tern_ctx *ctx, tern_sampler *s, float *scores, const int32_t *ids, size_t n_ids,
                           size_t n_prompt, int32_t *raw, int32_t *best)
{
    static const char after[] = " after bias, penalties and temperature";

    TERN_REQUIRE(ctx, ids || n_ids == 0, TERN_ERR_ARG, "sampling: n_ids is %zu and ids is NULL", n_ids);
    TERN_REQUIRE(ctx, n_prompt <= n_ids, TERN_ERR_ARG, "sampling: n_prompt is %zu, n_ids is %zu", n_prompt, n_ids);
    for (size_t i = 0; i < n_ids; i++)
        TERN_REQUIRE(ctx, ids[i] >= 0 && ids[i] < s->vocab_size, TERN_ERR_ARG,
                     "sampling: ids[%zu] is %" PRId32 ", the vocabulary has %" PRId32 " ids", i, ids[i], s->vocab_size);
    TERN_TRY(find_best(ctx, scores, s->vocab_size, "", raw));

    add_bias(s, scores, ids, n_ids);
    penalise_repetition(s, scores, ids, n_ids);
    if (n_ids > n_prompt)
        penalise_presence(s, scores, ids + n_prompt, n_ids - n_prompt);
    if (s->settings.temperature > 0 && s->settings.temperature != 1)
        for (int32_t id = 0; id < s->vocab_size; id++)
            scores[id] /= s->settings.temperature;
    TERN_TRY(find_best(ctx, scores, s->vocab_size, after, best));
    if (s->settings.temperature > 0) {
        keep_top(s, scores, best);
        keep_likely(s, scores, scores[*best]);
    }
    return TERN_OK;
}

tern_status tern_sampler_process(tern_ctx *ctx, tern_sampler *sampler, float *scores, const int32_t *ids, size_t n_ids,
                                 size_t n_prompt)
{
    int32_t raw, best;

    TERN_REQUIRE(ctx, sampler && scores, TERN_ERR_ARG, "sampling: %s is NULL", sampler ? "scores" : "sampler");
    const tern_fpmode mode = tern_fpmode_enter();
    const tern_status status = process(ctx, sampler, scores, ids, n_ids, n_prompt, &raw, &best);
    tern_fpmode_leave(mode);
    return status;
}

/* ---- the choice ---- */

/* weight[id] = e^(scores[id] - best), and their sum in the order of ids. */
static double weigh(tern_sampler *s, const float *scores, double best)
{
    double total = 0;

    for (int32_t id = 0; id < s->vocab_size; id++) {
        s->weight[id] = tern_exp_f64(scores[id] - best);
        total += s->weight[id];
    }
    return total;
}

/* The first id at which the sum of weights exceeds the random share of the total. */
static int32_t pick(const tern_sampler *s, double target)
{
    double sum = 0;
    int32_t last = 0;

    for (int32_t id = 0; id < s->vocab_size; id++) {
        if (s->weight[id] == 0)
            continue;
        sum += s->weight[id];
        if (sum > target)
            return id;
        last = id; /* for a target that rounding brought up to the total */
    }
    return last;
}

static tern_status choose(tern_ctx *ctx, tern_sampler *s, const float *scores, const int32_t *ids, size_t n_ids,
                          size_t n_prompt, tern_choice *out)
{
    int32_t raw, best;

    memcpy(s->work, scores, (size_t)s->vocab_size * sizeof *scores);
    TERN_TRY(process(ctx, s, s->work, ids, n_ids, n_prompt, &raw, &best));
    out->id = best;
    if (s->settings.temperature > 0) {
        const double total = weigh(s, s->work, s->work[best]);
        out->id = pick(s, draw(s->settings.seed, n_ids) * total);
    }
    out->logprob = (float)((double)scores[out->id] - scores[raw] - tern_log_f64(weigh(s, scores, scores[raw])));
    return TERN_OK;
}

tern_status tern_sampler_choose(tern_ctx *ctx, tern_sampler *sampler, const float *scores, const int32_t *ids,
                                size_t n_ids, size_t n_prompt, tern_choice *out)
{
    TERN_REQUIRE(ctx, sampler && scores && out, TERN_ERR_ARG, "sampling: %s is NULL",
                 !sampler  ? "sampler"
                 : !scores ? "scores"
                           : "out");
    const tern_fpmode mode = tern_fpmode_enter();
    const tern_status status = choose(ctx, sampler, scores, ids, n_ids, n_prompt, out);
    tern_fpmode_leave(mode);
    return status;
}
