/* cmd_perplexity.c: tern perplexity: how many bits a model needs for each byte of a text.
 *
 * The token ids are read in windows of the model's context, each half a context further than the last, and a window scores
 * only the ids that no earlier one has: but for the first window, every id is predicted from at least half a context.
 * Before the first id stands the model's beginning-of-text id, else its end-of-text id, as context that is not scored; a
 * model without either has its first id taken for free. */
#include "cli.h"
#include "json_out.h"
#include "options.h"
#include "ranks.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 128

/* -log2 of the probability that scores [n] give to `id`. */
static double bits_of(const float *scores, int32_t n, int32_t id)
{
    double largest = scores[0], sum = 0;

    for (int32_t i = 1; i < n; i++)
        if (scores[i] > largest)
            largest = scores[i];
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)scores[i] - largest);
    return (log(sum) + largest - (double)scores[id]) / 0.69314718055994530942;
}

/* What stands before the first id: -1 without such an id, or with one that the model has no scores for. */
static int32_t context_id(const tern_model_config *config)
{
    if (config->bos_id >= 0 && config->bos_id < config->vocab_size)
        return config->bos_id;
    return config->n_eos_ids && config->eos_ids[0] < config->vocab_size ? config->eos_ids[0] : -1;
}

/* Adds the bits of ids[first..n) of one window; ids[first - 1] is the first whose scores are wanted. */
static tern_status score_window(tern_session *session, int32_t sequence, int32_t vocab_size, const int32_t *ids,
                                int64_t n, int64_t first, double *bits)
{
    tern_status status = tern_sequence_truncate(session, sequence, 0);

    for (int64_t at = 0; !status && at < n - 1;) { /* the last id is predicted, not read */
        const int64_t end = at < first - 1 ? first - 1 : n - 1;
        const int32_t step = end - at < CHUNK ? (int32_t)(end - at) : CHUNK;
        const tern_row row = { sequence, ids + at, step, at < first - 1 ? TERN_LOGITS_NONE : TERN_LOGITS_ALL };

        status = tern_session_step(session, &row, 1);
        for (int32_t i = 0; !status && row.logits == TERN_LOGITS_ALL && i < step; i++)
            *bits += bits_of(tern_session_logits(session, 0, i), vocab_size, ids[at + i + 1]);
        at += step;
    }
    return status;
}

static int score(tern_ctx *ctx, const tern_model *model, const int32_t *ids, int64_t n_ids, bool bar, double *bits)
{
    const tern_model_config *config = tern_model_get_config(model);
    const int64_t window = config->n_context, stride = window > 1 ? window / 2 : 1;
    tern_session_options options = tern_session_options_default();
    tern_session *session = NULL;
    tern_status status = TERN_OK;
    int32_t sequence;
    int64_t done = 1;
    int code;

    *bits = 0;
    if (window < 2)
        return cli_error(CLI_FAIL, "the model reads %" PRId64 " position at most: nothing can be predicted", window);
    options.max_batch = options.max_logits = CHUNK;
    code = cli_session_open(ctx, model, &options, &session);
    if (code)
        return code;
    status = tern_sequence_add(session, &sequence);
    for (int64_t start = 0; !status && done < n_ids; start += stride) {
        const int64_t n = n_ids - start < window ? n_ids - start : window;

        status = score_window(session, sequence, config->vocab_size, ids + start, n, done - start, bits);
        done = start + n;
        if (bar)
            cli_progress("reading", (uint64_t)done, (uint64_t)n_ids);
    }
    if (bar)
        cli_progress_end();
    if (status)
        code = cli_fail(status, tern_session_error(session));
    cli_session_close(&session);
    return code;
}

struct settings {
    const char *model, *p, *f;
    int64_t threads, tp, from;
    int dtype;
    bool quiet, json;
};

static enum option_outcome parse(struct settings *s, int argc, char **argv)
{
    const struct option options[] = {
        { 'p', "prompt", "TEXT", "the text", OPTION_TEXT, &s->p, NULL, 0, 0, false },
        { 'f', "file", "FILE", "the text is in FILE; - is stdin", OPTION_TEXT, &s->f, NULL, 0, 0, false },
        { 0, "from", "BYTE", "leave out the first BYTE bytes", OPTION_INT, &s->from, NULL, 0, INFINITY, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &s->threads, NULL, 0, 1024, false },
        OPTION_TP(&s->tp),
        OPTION_DTYPE(&s->dtype, NULL),
        { 0, "json", NULL, "print {\"bits_per_byte\":...,\"perplexity\":...,\"tokens\":...,\"bytes\":...}", OPTION_FLAG,
          &s->json, NULL, 0, 0, false },
        { 'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &s->quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "perplexity",
        .arguments = "MODEL -f FILE [OPTIONS]",
        .about =
            "Prints the bits that the model needs per byte of the text (the sum of -log2 p of its tokens over its "
            "bytes),\n"
            "and the perplexity per token.  Windows of the whole context, each half a context further than the last.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s->model,
        .model_required = true,
    };

    return options_parse(&line, argc, argv);
}

static int run_here(void *user, tern_ctx *ctx)
{
    const struct settings *s = user;
    struct cli_text text = { 0 };
    tern_tokenizer *tokenizer = NULL;
    tern_model *model = NULL;
    tern_ids encoded = { 0 };
    int32_t *ids = NULL;
    char *path = NULL;
    int code = cli_text_read("perplexity", s->p, s->f, &text);

    if (!code && (uint64_t)s->from > text.size)
        code = cli_error(CLI_FAIL, "--from %" PRId64 " is beyond the text, which has %zu bytes", s->from, text.size);
    if (!code)
        code = cli_model_find(ctx, s->model, &path);
    if (!code)
        code = cli_open_both(ctx, path, s->dtype, !s->quiet, &tokenizer, &model);
    const size_t n_bytes = code ? 0 : text.size - (size_t)s->from;
    if (!code) {
        const tern_status status =
            tern_tokenizer_encode(ctx, tokenizer, n_bytes ? text.data + s->from : "", n_bytes, false, &encoded);

        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    if (!code && encoded.count == 0)
        code = cli_error(CLI_FAIL, "the text has no token ids: there is nothing to score");
    if (!code && !(ids = malloc((encoded.count + 1) * sizeof(*ids))))
        code = cli_error(CLI_FAIL, "out of memory: %zu bytes for ids", (encoded.count + 1) * sizeof(*ids));
    if (!code) {
        const tern_model_config *config = tern_model_get_config(model);
        const int32_t start = context_id(config);
        const size_t lead = start >= 0;
        const int64_t n_ids = (int64_t)(encoded.count + lead);
        double bits;

        ids[0] = start;
        memcpy(ids + lead, encoded.data, encoded.count * sizeof(*ids));
        code = score(ctx, model, ids, n_ids, !s->quiet, &bits);
        if (!code && !isfinite(bits))
            code =
                cli_error(CLI_FAIL, "the model's scores hold a NaN or give a token no probability: there is no figure");
        const double rate = bits / (double)n_bytes, perplexity = n_ids > 1 ? exp2(bits / (double)(n_ids - 1)) : 1;
        struct json_out j = { 0 };
        if (!code && s->json)
            code = out_begin(&j);
        if (!code && s->json) {
            out_object_begin(&j, NULL);
            out_number(&j, "bits_per_byte", rate, 10);
            out_number(&j, "perplexity", perplexity, 10);
            out_int(&j, "tokens", n_ids - 1);
            out_uint(&j, "bytes", n_bytes);
            out_object_end(&j);
            code = out_end(&j, true);
        } else if (!code) {
            printf("%.4f bits per byte, perplexity %.3f, %" PRId64 " tokens, %zu bytes\n", rate, perplexity, n_ids - 1,
                   n_bytes);
        }
    }
    free(ids);
    tern_ids_free(&encoded);
    tern_tokenizer_close(&tokenizer);
    tern_model_close(&model);
    cli_text_free(&text);
    free(path);
    return code;
}

int cmd_perplexity(int argc, char **argv)
{
    struct settings s = { .dtype = TERN_MODEL_AUTO };
    const enum option_outcome outcome = parse(&s, argc, argv);

    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    const struct ranks_job job = { .model = s.model, .dtype = s.dtype, .run = run_here, .user = &s };
    return ranks_run(s.tp, s.threads, &job);
}
