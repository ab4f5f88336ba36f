/* generate.c: one prompt to its end.
 *
 * The prompt is read in chunks of at most max_batch tokens, then one token is chosen and read at a time.  Text comes from a
 * streaming decoder in whole characters and goes through the stop strings' automata; what may still become a stop string is
 * held back, so what the callback was given and what the result holds are the same bytes.  Whether a text stops, and
 * where it is cut, depends on the text alone and not on the borders of its tokens.
 *
 * All memory but the text's is taken before the first token; the text grows now and then. */
#include "engine/engine.h"
#include "engine/stops.h"

#include "base/machine.h"
#include "base/memory.h"

#include <tern/generate.h>

#include <string.h>

#define TEXT_START 1024 /* bytes of text to begin with */

struct run {
    tern_session *session;
    const tern_generate_options *options;
    tern_generation *out;
    int64_t limit; /* tokens to generate at most */

    int32_t sequence; /* -1: none yet */
    size_t n_read;    /* ids of the prompt that the sequence has read before */
    int64_t n_room;   /* positions for what it has not */
    tern_sampler *sampler;
    tern_decoder *decoder; /* NULL: ids only */
    struct tern_stops *stops;
    int32_t *ids; /* prompt and generated */
    size_t n_ids, n_prompt;

    size_t text_capacity;
    size_t shown; /* bytes of text that the callback was given */
    bool cut;     /* a stop string has ended the text */
    bool silent;  /* the callback has ended the generation and is not called again */
};

const char *tern_finish_name(tern_finish finish)
{
    switch (finish) {
    case TERN_FINISH_LENGTH:
        return "length";
    case TERN_FINISH_STOP:
        return "stop";
    case TERN_FINISH_CANCELLED:
        return "cancelled";
    default:
        return "none";
    }
}

void tern_generation_free(tern_generation *generation)
{
    if (!generation)
        return;
    tern_ids_free(&generation->ids);
    tern_free(generation->logprobs);
    tern_free(generation->text);
    *generation = (tern_generation){ 0 };
}

/* ---- before the first token ---- */

/* A sequence that goes on: what it has read of the prompt, and where it will read the rest.  The last id is always read again, for its
 * scores.  Nothing is changed yet. */
static tern_status find_read(struct run *run)
{
    const int32_t *sequence = run->options->sequence;

    run->n_room = tern_kv_cache_free_positions(run->session->cache);
    if (!sequence || *sequence < 0)
        return TERN_OK;
    const int64_t length = tern_sequence_length(run->session, *sequence);
    TERN_REQUIRE(run->session->ctx, length >= 0, TERN_ERR_ARG, "generate: there is no sequence %" PRId32, *sequence);
    run->n_read = (size_t)length < run->n_prompt ? (size_t)length : run->n_prompt - 1;
    run->n_room += (length + TERN_KV_BLOCK - 1) / TERN_KV_BLOCK * TERN_KV_BLOCK - (int64_t)run->n_read;
    return TERN_OK;
}

/* Whether the prompt and what is to come have room, in the context and in the pool. */
static tern_status find_limit(struct run *run)
{
    tern_ctx *ctx = run->session->ctx;
    const int64_t n_context = run->session->n_context, wanted = run->options->max_tokens;
    const int64_t n_free = run->n_room + (int64_t)run->n_read, n_prompt = (int64_t)run->n_prompt;

    TERN_REQUIRE(ctx, wanted >= -1, TERN_ERR_ARG,
                 "generate: max_tokens is %" PRId64 ", expected at least 0, or -1 for no limit", wanted);
    TERN_REQUIRE(ctx, n_prompt <= n_context, TERN_ERR_CAPACITY,
                 "generate: the prompt has %" PRId64 " tokens, the context is %" PRId64, n_prompt, n_context);
    TERN_REQUIRE(ctx, wanted <= n_context - n_prompt, TERN_ERR_CAPACITY,
                 "generate: %" PRId64 " tokens of prompt plus %" PRId64 " to generate are %" PRIu64
                 ", the context is %" PRId64,
                 n_prompt, wanted, (uint64_t)n_prompt + (uint64_t)wanted, n_context);
    TERN_REQUIRE(ctx, n_prompt + (wanted > 0 ? wanted : 0) <= n_free, TERN_ERR_CAPACITY,
                 "generate: %" PRId64 " tokens of prompt plus %" PRId64 " to generate, the session's pool has %" PRId64
                 " free positions",
                 n_prompt, wanted > 0 ? wanted : 0, n_free);
    run->limit = wanted >= 0 ? wanted : (n_context < n_free ? n_context : n_free) - n_prompt;
    return TERN_OK;
}

static tern_status check_prompt(const struct run *run, const int32_t *prompt)
{
    tern_ctx *ctx = run->session->ctx;
    const tern_generate_options *o = run->options;

    TERN_REQUIRE(ctx, prompt && run->n_prompt >= 1, TERN_ERR_ARG, "generate: the prompt has no ids");
    for (size_t i = 0; i < run->n_prompt; i++)
        TERN_REQUIRE(ctx, prompt[i] >= 0 && prompt[i] < run->session->vocab_size, TERN_ERR_ARG,
                     "generate: prompt[%zu] is %" PRId32 ", the vocabulary has %" PRId32 " ids", i, prompt[i],
                     run->session->vocab_size);
    TERN_REQUIRE(ctx, o->stop_ids || o->n_stop_ids == 0, TERN_ERR_ARG,
                 "generate: n_stop_ids is %zu and stop_ids is NULL", o->n_stop_ids);
    return TERN_OK;
}

static tern_status prepare(struct run *run, const tern_tokenizer *tokenizer, const int32_t *prompt)
{
    tern_ctx *ctx = run->session->ctx;
    const tern_generate_options *o = run->options;
    size_t n;

    TERN_TRY(TERN_CHECK_RESERVED(ctx, "generate", o));
    TERN_REQUIRE(ctx, tokenizer || o->n_stop == 0, TERN_ERR_ARG, "generate: %zu stop strings, and no tokenizer",
                 o->n_stop);
    TERN_TRY(check_prompt(run, prompt));
    TERN_TRY(find_read(run));
    TERN_TRY(find_limit(run));
    TERN_REQUIRE(ctx, tern_size_add(run->n_prompt, (size_t)run->limit, &n), TERN_ERR_MEMORY,
                 "out of memory: token ids");

    TERN_TRY(tern_stops_create(ctx, o->stop, o->n_stop, &run->stops));
    TERN_TRY(tern_sampler_create(ctx, run->session->vocab_size, &o->sampling, &run->sampler));
    if (tokenizer)
        TERN_TRY(tern_decoder_create(ctx, tokenizer, true, &run->decoder));
    TERN_TRY(TERN_ALLOC(ctx, n, "token ids", &run->ids));
    memcpy(run->ids, prompt, run->n_prompt * sizeof *prompt);
    run->n_ids = run->n_prompt;

    TERN_TRY(TERN_ALLOC(ctx, (size_t)run->limit, "token ids", &run->out->ids.data));
    run->out->ids.capacity = (size_t)run->limit;
    TERN_TRY(TERN_ALLOC(ctx, (size_t)run->limit, "log-probabilities", &run->out->logprobs));
    TERN_TRY(TERN_ALLOC(ctx, TEXT_START, "generated text", &run->out->text));
    run->text_capacity = TEXT_START;
    if (!o->sequence || *o->sequence < 0) {
        TERN_TRY(tern_sequence_add(run->session, &run->sequence));
        return tern_sequence_plan(run->session, run->sequence, (int64_t)run->n_prompt + run->limit);
    }
    run->sequence = *o->sequence;
    return tern_sequence_truncate(run->session, run->sequence, (int64_t)run->n_read);
}

/* ---- text ---- */

/* Takes what the decoder gave.  A stop string that completes cuts the text. */
static tern_status add_text(struct run *run, const char *text, size_t size)
{
    tern_generation *out = run->out;
    size_t end, length;

    TERN_TRY(
        TERN_GROW(run->session->ctx, &out->text, &run->text_capacity, out->text_size + size + 1, "generated text"));
    if (size > 0)
        memcpy(out->text + out->text_size, text, size);
    if (tern_stops_read(run->stops, text, size, &end, &length)) {
        run->cut = true;
        out->finish = TERN_FINISH_STOP;
        out->text_size += end;
        out->text_size -= length; /* its beginning may have come with an earlier token */
    } else {
        out->text_size += size;
    }
    out->text[out->text_size] = '\0';
    return TERN_OK;
}

/* Gives the callback the text up to `end` that it has not seen. */
static void show(struct run *run, int32_t id, float logprob, size_t end)
{
    const tern_generate_options *o = run->options;
    const char *text = run->out->text + run->shown;
    const size_t size = end - run->shown;

    run->shown = end;
    if (o->on_token && !o->on_token(o->user, id, logprob, text, size) && id >= 0) {
        run->silent = true;
        if (run->out->finish == TERN_FINISH_NONE)
            run->out->finish = TERN_FINISH_CANCELLED;
    }
}

/* One generated token: into the result, its text to the callback. */
static tern_status emit(struct run *run, tern_choice choice)
{
    tern_generation *out = run->out;
    const char *text = "";
    size_t size = 0;

    run->ids[run->n_ids++] = choice.id;
    out->logprobs[out->ids.count] = choice.logprob;
    out->ids.data[out->ids.count++] = choice.id;
    if (run->decoder)
        TERN_TRY(tern_decoder_push(run->session->ctx, run->decoder, choice.id, &text, &size));
    TERN_TRY(add_text(run, text, size));
    show(run, choice.id, choice.logprob, out->text_size - (run->cut ? 0 : tern_stops_held(run->stops)));
    return TERN_OK;
}

/* The end of the text: half characters become U+FFFD, what was held back comes out. */
static tern_status finish_text(struct run *run)
{
    tern_generation *out = run->out;
    const char *text = "";
    size_t size = 0;

    if (run->silent) {
        /* No call follows, so the text ends where the callback saw it end. */
        out->text_size = run->shown;
        out->text[out->text_size] = '\0';
        return TERN_OK;
    }
    if (!run->cut) {
        if (run->decoder)
            TERN_TRY(tern_decoder_finish(run->session->ctx, run->decoder, &text, &size));
        TERN_TRY(add_text(run, text, size));
    }
    if (out->text_size > run->shown)
        show(run, -1, 0, out->text_size);
    return TERN_OK;
}

/* ---- tokens ---- */

/* Reads n of the ids from `first` on.  A cancelled step sets out->finish. */
static tern_status read_ids(struct run *run, size_t first, size_t n, tern_logits logits)
{
    const tern_row row = { .sequence = run->sequence, .ids = run->ids + first, .n_ids = (int32_t)n, .logits = logits };
    const tern_status status = tern_session_step(run->session, &row, 1);

    if (status != TERN_ERR_CANCELLED)
        return status;
    run->out->finish = TERN_FINISH_CANCELLED;
    return TERN_OK;
}

static tern_status read_prompt(struct run *run)
{
    for (size_t done = run->n_read, n; done < run->n_prompt && run->out->finish == TERN_FINISH_NONE; done += n) {
        const size_t left = run->n_prompt - done;
        n = left < run->session->max_batch ? left : run->session->max_batch;
        TERN_TRY(read_ids(run, done, n, n == left ? TERN_LOGITS_LAST : TERN_LOGITS_NONE));
        if (run->out->finish == TERN_FINISH_NONE)
            run->out->timing.prefill_tokens += n;
    }
    return TERN_OK;
}

static bool is_stop_id(const tern_generate_options *o, int32_t id)
{
    for (size_t i = 0; i < o->n_stop_ids; i++)
        if (o->stop_ids[i] == id)
            return true;
    return false;
}

/* Chooses, shows and reads tokens until something ends it. */
static tern_status decode(struct run *run)
{
    tern_generation *out = run->out;
    const tern_session *s = run->session;

    while (out->finish == TERN_FINISH_NONE) {
        const float *scores = tern_session_logits(s, 0, s->rows[0].n_ids - 1);
        tern_choice choice;
        TERN_TRY(tern_sampler_choose(s->ctx, run->sampler, scores, run->ids, run->n_ids, run->n_prompt, &choice));
        if (is_stop_id(run->options, choice.id)) {
            out->finish = TERN_FINISH_STOP;
            break;
        }
        TERN_TRY(emit(run, choice));
        if (out->finish != TERN_FINISH_NONE)
            break;
        if ((int64_t)out->ids.count == run->limit) {
            out->finish = TERN_FINISH_LENGTH;
            break;
        }
        TERN_TRY(read_ids(run, run->n_ids - 1, 1, TERN_LOGITS_LAST));
        if (out->finish == TERN_FINISH_NONE)
            out->timing.decode_tokens++;
    }
    return TERN_OK;
}

static tern_status generate(struct run *run, const tern_tokenizer *tokenizer, const int32_t *prompt)
{
    tern_generation *out = run->out;

    TERN_TRY(prepare(run, tokenizer, prompt));
    if (run->limit == 0) {
        out->finish = TERN_FINISH_LENGTH;
        return TERN_OK;
    }
    const double begin = tern_machine_seconds();
    TERN_TRY(read_prompt(run));
    const double middle = tern_machine_seconds();
    TERN_TRY(decode(run));
    out->timing.prefill_seconds = middle - begin;
    out->timing.decode_seconds = tern_machine_seconds() - middle;
    return finish_text(run);
}

tern_status tern_generate(tern_session *session, const tern_tokenizer *tokenizer, const int32_t *prompt,
                          size_t n_prompt, const tern_generate_options *options, tern_generation *out)
{
    const tern_generate_options standard = tern_generate_options_default();
    struct run run = {
        .session = session, .options = options ? options : &standard, .out = out, .n_prompt = n_prompt, .sequence = -1
    };

    TERN_REQUIRE(NULL, session, TERN_ERR_ARG, "session is NULL");
    TERN_REQUIRE(session->ctx, out, TERN_ERR_ARG, "generate: out is NULL");
    *out = (tern_generation){ 0 };

    const tern_status status = generate(&run, tokenizer, prompt);
    if (run.options->sequence && (status == TERN_OK || *run.options->sequence >= 0))
        *run.options->sequence = run.sequence >= 0 ? run.sequence : *run.options->sequence;
    else if (run.sequence >= 0)
        (void)tern_sequence_remove(session, run.sequence); /* ours, so this cannot fail */
    tern_stops_destroy(&run.stops);
    tern_sampler_destroy(&run.sampler);
    tern_decoder_destroy(&run.decoder);
    tern_free(run.ids);
    if (status != TERN_OK)
        tern_generation_free(out);
    return status;
}
