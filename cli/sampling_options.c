/* sampling_options.c: options over what a model's generation_config.json says. */
#include "sampling_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* "1,2=0.5" to ids and a number.  The ids are freed with free(). */
static int parse_bias(const char *text, tern_logit_bias *out)
{
    const char *equals = strchr(text, '=');
    char *list = NULL, *end = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    double bias = NAN;
    int code;

    if (equals && equals[1]) {
        bias = strtod(equals + 1, &end);
        list = strndup(text, (size_t)(equals - text));
        if (!list)
            return cli_error(CLI_FAIL, "out of memory for a bias");
    }
    if (!list || !*list || *end || !isfinite((float)bias)) {
        free(list);
        return cli_error(CLI_USAGE, "--logit-bias wants ID=BIAS with a finite number, got '%s'", text);
    }
    code = cli_ids_parse("--logit-bias", list, &ids, &n);
    free(list);
    *out = (tern_logit_bias){ ids, (int32_t)n, (float)bias };
    return code;
}

/* Options over what o has. */
static int fill(const struct sampling_settings *s, bool quiet, tern_generate_options *o, tern_logit_bias **biases)
{
    tern_sampling *g = &o->sampling;

    *biases = calloc(s->logit_bias.count + 1, sizeof(**biases));
    if (!*biases)
        return cli_error(CLI_FAIL, "out of memory for %zu biases", s->logit_bias.count);
    g->temperature = s->has_temp ? s->temp : g->temperature;
    g->top_k = s->has_top_k ? (int32_t)s->top_k : g->top_k;
    g->top_p = s->has_top_p ? s->top_p : g->top_p;
    g->min_p = s->has_min_p ? s->min_p : g->min_p;
    g->repetition_penalty = s->has_repeat ? s->repeat_penalty : g->repetition_penalty;
    g->presence_penalty = s->has_presence ? s->presence_penalty : g->presence_penalty;
    g->frequency_penalty = s->has_frequency ? s->frequency_penalty : g->frequency_penalty;
    if (s->ignore_eos)
        o->n_stop_ids = 0;
    for (size_t i = 0; i < s->logit_bias.count; i++) {
        const int code = parse_bias(s->logit_bias.data[i], &(*biases)[i]);

        if (code)
            return code;
    }
    g->bias = *biases;
    g->n_bias = s->logit_bias.count;
    for (size_t i = 0; i < s->stop.count; i++)
        if (!*s->stop.data[i])
            return cli_error(CLI_USAGE, "--stop wants a text, got ''");
    o->stop = s->stop.data;
    o->n_stop = s->stop.count;

    if (s->has_seed) {
        g->seed = s->seed;
    } else if (g->temperature > 0) {
        uint32_t drawn; /* short enough to be typed again */

        if (getrandom(&drawn, sizeof(drawn), 0) != (ssize_t)sizeof(drawn))
            return cli_error(CLI_FAIL, "cannot draw a seed: %s", strerror(errno));
        g->seed = drawn;
    }
    if (g->temperature == 0 && !quiet && (s->has_top_k || s->has_top_p || s->has_min_p || s->has_seed))
        fprintf(stderr, "tern: note: the choice is greedy, so --%s changes nothing; --temp above 0 would\n",
                s->has_top_k   ? "top-k"
                : s->has_top_p ? "top-p"
                : s->has_min_p ? "min-p"
                               : "seed");
    return 0;
}

int sampling_prepare(const struct sampling_settings *s, tern_ctx *ctx, const tern_model *model, int64_t max_tokens,
                     bool quiet, tern_generate_options *o, tern_ids *stop_ids, tern_logit_bias **biases)
{
    const tern_status status = tern_generate_defaults(ctx, model, o, stop_ids);

    if (status)
        return cli_fail(status, tern_error(ctx));
    o->max_tokens = max_tokens;
    return fill(s, quiet, o, biases);
}

void sampling_free(struct sampling_settings *s, tern_logit_bias *biases)
{
    for (size_t i = 0; biases && i < s->logit_bias.count; i++)
        free((void *)biases[i].ids);
    free(biases);
    option_texts_free(&s->logit_bias);
    option_texts_free(&s->stop);
}
