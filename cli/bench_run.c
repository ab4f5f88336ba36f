/* bench_run.c: measuring a model.
 *
 * What a row costs is counted by formula (docs/benchmarks.md), L layers, h heads of E, N sequences:
 *   operations   2 for each weight of a layer and token, 2 for each of the head and row of scores; beside them, not counted in rates,
 *                4 L h E for each pair of a token and one that it sees
 *   bytes        the weights once for each step, and of the cache what is written and what is read once for each step */
#include "bench.h"

#include "cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STEP_TOKENS 512 /* of a prompt, as tern run does */

double bench_tokens_per_s(const struct bench_row *row)
{
    return row->tokens / row->median;
}

double bench_bytes_per_s(const struct bench_row *row)
{
    return (row->weight_bytes + row->kv_bytes) / row->median;
}

double bench_ops_per_s(const struct bench_row *row)
{
    return row->weight_ops / row->median;
}

const char *bench_arithmetic(const struct bench *bench)
{
    return tern_dtype_name(tern_model_get_config(bench->model)->row_dtype);
}

tern_rate bench_arithmetic_ceiling(const struct bench *bench)
{
    const tern_ceilings none = { .seconds = 0 }, *c = bench->ceilings ? bench->ceilings : &none;

    switch (tern_model_get_config(bench->model)->row_dtype) {
    case TERN_BF16:
        return c->bf16;
    case TERN_INT8:
        return c->int8;
    default:
        return c->fp32;
    }
}

const char *bench_what_name(enum bench_what what)
{
    static const char *const names[] = { "prefill", "decode", "forward" };

    return names[what];
}

/* ---- what a row costs ---- */

/* Tokens of a step.  An encoder reads all texts in one; a decode is one for all sequences. */
static int32_t step_tokens(const struct bench_plan *p)
{
    if (!p->decode)
        return (int32_t)((int64_t)p->contexts[p->n_contexts - 1] * p->sequences);
    return p->sequences > STEP_TOKENS ? p->sequences : STEP_TOKENS;
}

static void count_costs(const struct bench *b, struct bench_row *row, double kv_position)
{
    const tern_model_config *c = tern_model_get_config(b->model);
    const tern_model_stats s = tern_model_get_stats(b->model);
    const double N = b->plan->sequences, S = row->context, layers = 2 * (double)s.layer_weights,
                 head = 2 * (double)s.head_weights, pair = 4.0 * c->n_layers * c->heads * c->head_dim;
    const int64_t most = step_tokens(b->plan);
    const double steps = (double)(((int64_t)b->plan->sequences * row->context + most - 1) / most);
    const double before = S + (b->plan->decode - 1) / 2.0; /* in the cache, in the middle of a decode */

    switch (row->what) {
    case BENCH_PREFILL:
        row->tokens = N * S;
        row->weight_ops = row->tokens * layers + N * head;
        row->attention_ops = N * S * (S + 1) / 2 * pair;
        row->weight_bytes = steps * (double)s.layer_bytes + (double)s.head_bytes;
        row->kv_bytes = N * S * kv_position;
        break;
    case BENCH_DECODE:
        row->tokens = N;
        row->weight_ops = N * (layers + head);
        row->attention_ops = N * (before + 1) * pair;
        row->weight_bytes = (double)(s.layer_bytes + s.head_bytes);
        row->kv_bytes = N * (before + 1) * kv_position;
        break;
    case BENCH_FORWARD:
        row->tokens = N * S;
        row->weight_ops = row->tokens * layers;
        row->attention_ops = N * S * S * pair;
        row->weight_bytes = (double)s.layer_bytes;
        row->kv_bytes = N * S * kv_position;
        break;
    }
}

/* ---- running ---- */

struct runner {
    tern_ctx *ctx;
    tern_session *session;
    tern_encoder *encoder;   /* in place of a session: of an encoder's checkpoint */
    tern_encode_text *texts; /* [N] for it */
    float *states;           /* [N longest, H] that it gives */
    int32_t *ids;            /* [longest context + decode] the same text for all */
    int32_t *sequences;      /* [N] */
    tern_row *rows;          /* [N] */
    int32_t n;
    int32_t step_tokens;
};

/* Every sequence reads `count` tokens from place `from` of the text on, in as few steps as the session takes.  Its last token's scores
 * are wanted if `logits`. */
static bool read_all(struct runner *r, int32_t from, int32_t count, tern_logits logits)
{
    int32_t at = 0, done = 0; /* sequences that are read, and tokens of the next one */

    while (at < r->n) {
        int32_t room = r->step_tokens;
        size_t n_rows = 0;

        while (at < r->n && room > 0) {
            const int32_t left = count - done, take = left < room ? left : room;
            r->rows[n_rows++] =
                (tern_row){ r->sequences[at], r->ids + from + done, take, take == left ? logits : TERN_LOGITS_NONE };
            room -= take;
            done = take == left ? 0 : done + take;
            at += done == 0;
            if (done)
                break; /* this sequence goes on in the next step */
        }
        if (tern_session_step(r->session, r->rows, n_rows))
            return false;
    }
    return true;
}

static bool encode_once(struct runner *r, int32_t context, double *seconds)
{
    for (int32_t i = 0; i < r->n; i++)
        r->texts[i] = (tern_encode_text){ .ids = r->ids, .n_ids = context };
    const double begin = cli_seconds();
    const bool ok = !tern_encode(r->encoder, r->texts, (size_t)r->n, r->states, NULL);
    *seconds = cli_seconds() - begin;
    return ok && !cli_signal();
}

/* One prompt, then single tokens; seconds of the prompt, and of one decoded step.  false: the session, or with an encoder
 * the context, has the text. */
static bool run_once(struct runner *r, int32_t context, int32_t decode, double *prompt, double *step)
{
    bool ok = true;
    int32_t n_added = 0;

    if (r->encoder)
        return encode_once(r, context, prompt);
    for (; ok && n_added < r->n; n_added += ok)
        ok = !tern_sequence_add(r->session, &r->sequences[n_added]);
    const double a = cli_seconds();
    ok = ok && read_all(r, 0, context, decode ? TERN_LOGITS_LAST : TERN_LOGITS_NONE);
    const double b = cli_seconds();
    for (int32_t i = 0; ok && i < decode; i++)
        ok = read_all(r, context + i, 1, TERN_LOGITS_LAST);
    *prompt = b - a;
    *step = decode ? (cli_seconds() - b) / decode : 0;
    if (!ok)
        return false; /* the text of the failure stays; the sequences go with the session */
    for (int32_t i = 0; i < n_added; i++)
        ok = !tern_sequence_remove(r->session, r->sequences[i]) && ok;
    return ok;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void sum_up(struct bench_row *row, int runs)
{
    double *t = row->seconds;

    qsort(t, (size_t)runs, sizeof(*t), ascending);
    row->min = t[0];
    row->max = t[runs - 1];
    row->median = runs % 2 ? t[runs / 2] : 0.5 * (t[runs / 2 - 1] + t[runs / 2]);
}

/* Refused before anything is taken, with both numbers: memory that is promised and then missing ends the program. */
static int check_memory(const struct bench *b, uint64_t bytes, int64_t n_context)
{
    const uint64_t there = tern_memory_available();

    if (bytes > there)
        return cli_error(CLI_FAIL,
                         "%d sequences of %" PRId64 " positions take %" PRIu64 " MB, %" PRIu64
                         " MB of memory are available",
                         b->plan->sequences, n_context, bytes / 1000000, there / 1000000);
    return 0;
}

static int open_session(const struct bench *b, struct runner *r, double *kv_position)
{
    const struct bench_plan *p = b->plan;
    tern_session_options options = tern_session_options_default();
    tern_session_stats stats;

    options.n_sequences = p->sequences;
    options.n_context = p->contexts[p->n_contexts - 1] + p->decode;
    options.max_batch = r->step_tokens;
    const tern_status status = tern_session_measure(r->ctx, b->model, &options, &stats);
    if (status)
        return cli_fail(status, tern_error(r->ctx));
    *kv_position = (double)stats.kv_bytes / (double)stats.free_positions;
    const int code = check_memory(b, stats.kv_bytes + stats.scratch_bytes, options.n_context);
    return code ? code : cli_session_open(r->ctx, b->model, &options, &r->session);
}

/* Positions by which the cache of an encoder is enlarged, to see what one takes; whole blocks of any size that it may have. */
#define KV_STEP 4096

static int open_encoder(const struct bench *b, struct runner *r, double *kv_position)
{
    const struct bench_plan *p = b->plan;
    const tern_model_config *c = tern_model_get_config(b->model);
    const size_t H = (size_t)c->hidden_size, rows = (size_t)r->step_tokens;
    tern_encoder_options options = tern_encoder_options_default(), more;
    tern_encoder_stats stats, larger;

    options.max_batch = r->step_tokens;
    options.max_texts = p->sequences;
    options.n_context = p->contexts[p->n_contexts - 1];
    more = options;
    more.max_batch += KV_STEP;
    tern_status status = tern_encoder_measure(r->ctx, b->model, &options, &stats);
    if (!status)
        status = tern_encoder_measure(r->ctx, b->model, &more, &larger);
    if (status)
        return cli_fail(status, tern_error(r->ctx));
    /* One layer's is kept at a time, and with more room than texts fill. */
    *kv_position = c->n_layers * (double)(larger.kv_bytes - stats.kv_bytes) / KV_STEP;
    const uint64_t states = (uint64_t)rows * H * sizeof(*r->states);
    const int code = check_memory(b, stats.kv_bytes + stats.scratch_bytes + states, options.n_context);
    if (code)
        return code;
    r->texts = malloc((size_t)p->sequences * sizeof(*r->texts));
    r->states = malloc((size_t)states);
    if (!r->texts || !r->states)
        return cli_error(CLI_FAIL, "out of memory for the states of %zu tokens", rows);
    status = tern_encoder_create(r->ctx, b->model, &options, &r->encoder);
    return status ? cli_fail(status, tern_error(r->ctx)) : 0;
}

static int measure(struct bench *b, struct runner *r)
{
    const struct bench_plan *p = b->plan;
    const size_t per = p->decode ? 2 : 1, total = (size_t)(p->runs + 1) * p->n_contexts;

    for (int run = -1; run < p->runs; run++) /* the first one warms up */
        for (size_t i = 0; i < p->n_contexts; i++) {
            double prompt = 0, step = 0;

            if (!run_once(r, p->contexts[i], p->decode, &prompt, &step))
                return cli_fail(TERN_ERR_CANCELLED, r->session ? tern_session_error(r->session) : tern_error(r->ctx));
            if (run >= 0) {
                b->rows[i * per].seconds[run] = prompt;
                if (p->decode)
                    b->rows[i * per + 1].seconds[run] = step;
            }
            if (p->bar)
                cli_progress("measuring", (size_t)(run + 1) * p->n_contexts + i + 1, total);
        }
    for (size_t i = 0; i < b->n_rows; i++)
        sum_up(&b->rows[i], p->runs);
    return 0;
}

int bench_measure(struct bench *b, tern_ctx *ctx)
{
    const struct bench_plan *p = b->plan;
    const int32_t longest = p->contexts[p->n_contexts - 1], V = tern_model_get_config(b->model)->vocab_size;
    const size_t per = p->decode ? 2 : 1, N = (size_t)p->sequences, n_ids = (size_t)longest + (size_t)p->decode;
    struct runner r = { .ctx = ctx, .n = p->sequences, .step_tokens = step_tokens(p) };
    double kv_position = 0;
    int code;

    b->rows = calloc(p->n_contexts * per, sizeof(*b->rows));
    r.ids = malloc(n_ids * sizeof(*r.ids));
    r.sequences = malloc(N * sizeof(*r.sequences));
    r.rows = malloc(N * sizeof(*r.rows));
    bool ok = b->rows && r.ids && r.sequences && r.rows;
    for (size_t i = 0; ok && i < p->n_contexts * per; i++, b->n_rows++) {
        struct bench_row *row = &b->rows[i];

        row->what = !p->decode ? BENCH_FORWARD : i % 2 ? BENCH_DECODE : BENCH_PREFILL;
        row->context = p->contexts[i / per];
        row->seconds = calloc((size_t)p->runs, sizeof(*row->seconds));
        ok = row->seconds != NULL;
    }
    code = ok ? 0 : cli_error(CLI_FAIL, "out of memory for what is measured");
    for (size_t i = 0; ok && i < n_ids; i++)
        r.ids[i] = (int32_t)((uint32_t)i * 7919u % (uint32_t)V);
    if (!code)
        code = p->encoder ? open_encoder(b, &r, &kv_position) : open_session(b, &r, &kv_position);
    for (size_t i = 0; !code && i < b->n_rows; i++)
        count_costs(b, &b->rows[i], kv_position);
    if (!code)
        code = measure(b, &r);
    if (p->bar)
        cli_progress_end();
    cli_session_close(&r.session);
    tern_encoder_destroy(&r.encoder);
    free(r.texts);
    free(r.states);
    free(r.ids);
    free(r.sequences);
    free(r.rows);
    return code;
}

void bench_free(struct bench *b)
{
    for (size_t i = 0; i < b->n_rows; i++)
        free(b->rows[i].seconds);
    free(b->rows);
    b->rows = NULL;
    b->n_rows = 0;
}
