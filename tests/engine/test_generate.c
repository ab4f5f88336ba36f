/* test_generate.c: a prompt to its end: the reference's ids, text in whole characters, stop strings across tokens, every way
 * in which a generation ends, and that nothing stays behind. */
#include "engine_testing.h"
#include "faults.h"

#include <math.h>

#define N_GREEDY 64 /* ids that the goldens have after each prompt */

static tern_ctx *ctx;
static tern_model *model;
static tern_tokenizer *tokenizer;
static struct golden golden;
static const char *dir;

/* ---- a tokenizer for the tiny model ----
 *
 * 131 tokens of two to four bytes, all different: a letter and a number; every seventh ends with the first byte of
 * a character, the one after begins with a second byte: together they make characters, apart U+FFFD.  The last is special. */

static void write_tokenizer(void)
{
    char text[16384];
    size_t n =
        (size_t)snprintf(text, sizeof text,
                         "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":130,"
                         "\"content\":\"<|end|>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                         "\"normalized\":false,\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
                         "\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
                         "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                         "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
                         "\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                         "\"fuse_unk\":false,\"byte_fallback\":false,\"vocab\":{");
    for (int id = 0; id < 130; id++) /* in the byte-level alphabet C3 and A9 stand for themselves */
        n += (size_t)snprintf(text + n, sizeof text - n, "\"%s%c%d%s\":%d,", id % 7 == 4 ? "\xc2\xa9" : "",
                              'a' + id % 26, id / 26, id % 7 == 3 ? "\xc3\x83" : "", id);
    n += (size_t)snprintf(text + n, sizeof text - n, "\"<|end|>\":130},\"merges\":[]}}");
    assert_true(n < sizeof text);
    test_write(dir, "tokenizer.json", text, n);
}

/* ---- helpers ---- */

static tern_session *new_session(tern_ctx *c, const tern_model *m, int32_t max_batch)
{
    tern_session_options options = tern_session_options_default();
    tern_session *session;

    options.max_batch = max_batch;
    assert_ok(c, tern_session_create(c, m, &options, &session));
    return session;
}

/* The session is as it was: no sequence, all positions free. */
static void assert_clean(tern_session *session)
{
    const int64_t n_free = tern_session_get_stats(session).free_positions;
    int32_t sequence;

    assert_int_equal(n_free, 128);
    assert_ok(ctx, tern_sequence_add(session, &sequence));
    assert_ok(ctx, tern_sequence_remove(session, sequence));
}

/* What the callback is given. */
struct log {
    int32_t ids[128];
    float logprobs[128];
    size_t n_ids, n_calls;
    char text[4096];
    size_t size;
    size_t stop_after; /* calls after which it answers false; 0: never */
    bool last;         /* the call with id -1 has been made */
};

static bool is_whole(const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        const unsigned char c = (unsigned char)text[i];
        const size_t n = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : 0;
        if (n == 0 || n > size - i)
            return false;
        for (size_t j = 1; j < n; j++)
            if (((unsigned char)text[i + j] & 0xC0) != 0x80)
                return false;
        i += n;
    }
    return true;
}

static bool on_token(void *user, int32_t id, float logprob, const char *text, size_t size)
{
    struct log *log = user;

    assert_false(log->last);
    assert_non_null(text);
    assert_true(is_whole(text, size));
    if (id < 0) {
        log->last = true;
        assert_true(size > 0);
    } else {
        log->ids[log->n_ids] = id;
        log->logprobs[log->n_ids++] = logprob;
    }
    memcpy(log->text + log->size, text, size);
    log->size += size;
    log->n_calls++;
    return log->n_calls != log->stop_after;
}

/* The result and what the callback saw are the same. */
static void assert_agree(const struct log *log, const tern_generation *g)
{
    assert_int_equal(log->n_ids, g->ids.count);
    assert_memory_equal(log->ids, g->ids.data, g->ids.count * sizeof *log->ids);
    assert_memory_equal(log->logprobs, g->logprobs, g->ids.count * sizeof *log->logprobs);
    assert_int_equal(log->size, g->text_size);
    assert_memory_equal(log->text, g->text, g->text_size);
    assert_int_equal(strlen(g->text), g->text_size);
}

/* ids[0..n) in one piece. */
static char *decoded(const int32_t *ids, size_t n)
{
    char *text;

    assert_ok(ctx, tern_tokenizer_decode(ctx, tokenizer, ids, n, true, &text, NULL));
    return text;
}

static const int32_t *greedy_of(size_t p)
{
    return golden.ids[p] + golden.n_prompt[p];
}

/* ---- the reference's ids ---- */

static void check_goldens(tern_ctx *c, const char *directory, const struct golden *g, int32_t max_batch)
{
    tern_model *m = open_model(c, directory);
    tern_session *session = new_session(c, m, max_batch);
    tern_generate_options options = tern_generate_options_default();

    options.max_tokens = N_GREEDY;
    for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
        tern_generation out;
        assert_ok(c, tern_generate(session, NULL, g->ids[p], g->n_prompt[p], &options, &out));
        assert_int_equal(out.ids.count, g->n_ids[p] - g->n_prompt[p]);
        assert_memory_equal(out.ids.data, g->ids[p] + g->n_prompt[p], out.ids.count * sizeof *out.ids.data);
        assert_int_equal(out.finish, TERN_FINISH_LENGTH);
        assert_string_equal(out.text, "");
        assert_int_equal(out.timing.prefill_tokens, g->n_prompt[p]);
        assert_int_equal(out.timing.decode_tokens, N_GREEDY - 1);
        assert_true(out.timing.prefill_seconds > 0 && out.timing.decode_seconds > 0);
        tern_generation_free(&out);
    }
    tern_session_destroy(&session);
    tern_model_close(&m);
}

static void test_greedy_ids(void **state)
{
    (void)state;
    static const char *const names[] = { "gpt2-tiny-fp32", "gpt2-tiny-fp16", "gpt2-tiny-bf16" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct golden g = golden_read(ctx, test_golden(names[i]));
        for (size_t level = 0; level < N_ISA_LEVELS; level++)
            for (int threads = 1; threads <= 3; threads++) {
                tern_ctx *c = ctx_at(threads, isa_levels[level]);
                if (!c)
                    break;
                check_goldens(c, test_golden(names[i]), &g, threads == 1 ? 512 : threads == 2 ? 7 : 1);
                tern_ctx_destroy(&c);
            }
    }
}

/* The built-in model, whose texts the reference has decoded too. */
static void test_builtin(void **state)
{
    (void)state;
    const char *directory = test_path("models/tiny-shakespeare");
    char path[4200];
    struct tern_json *json;
    FILE *f;

    snprintf(path, sizeof path, "%s/golden.json", test_golden("builtin"));
    if (!(f = fopen(path, "rb")))
        TEST_SKIP("goldens of the built-in model are not here");
    fclose(f);
    const struct golden g = golden_read(ctx, test_golden("builtin"));
    check_goldens(ctx, directory, &g, 64);

    tern_model *m = open_model(ctx, directory);
    tern_session *session = new_session(ctx, m, 64);
    tern_generate_options options = tern_generate_options_default();
    tern_tokenizer *t;

    options.max_tokens = N_GREEDY;
    assert_ok(ctx, tern_tokenizer_open(ctx, directory, &t));
    assert_ok(ctx, tern_json_read(ctx, path, 1 << 24, &json));
    const tern_json_value *root = tern_json_root(json);
    for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
        size_t n_text, n_want;
        const char *text = tern_json_string(tern_json_at(tern_json_get(root, "texts"), p), &n_text);
        const char *want = tern_json_string(tern_json_at(tern_json_get(root, "greedy_texts"), p), &n_want);
        tern_generation out;
        tern_ids ids = { 0 };

        assert_ok(ctx, tern_tokenizer_encode(ctx, t, text, n_text, true, &ids));
        assert_ok(ctx, tern_generate(session, t, ids.data, ids.count, &options, &out));
        assert_int_equal(out.text_size, n_want);
        assert_memory_equal(out.text, want, n_want);
        tern_ids_free(&ids);
        tern_generation_free(&out);
    }
    tern_json_destroy(json);
    tern_tokenizer_close(&t);
    tern_session_destroy(&session);
    tern_model_close(&m);
}

/* ---- text ---- */

static void test_streaming(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16);

    for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
        struct log log = { 0 };
        tern_generate_options options = tern_generate_options_default();
        tern_generation out;

        options.max_tokens = N_GREEDY;
        options.on_token = on_token;
        options.user = &log;
        assert_ok(ctx, tern_generate(session, tokenizer, golden.ids[p], golden.n_prompt[p], &options, &out));
        assert_agree(&log, &out);
        char *want = decoded(greedy_of(p), N_GREEDY);
        assert_string_equal(out.text, want);
        tern_text_free(want);
        tern_generation_free(&out);
        assert_clean(session);
    }
    tern_session_destroy(&session);
}

/* One stop string out of the text itself, wherever it begins and however long it is. */
static void test_stop_strings(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16);
    const size_t p = 1;
    char *all = decoded(greedy_of(p), 40);
    const size_t size = strlen(all);

    for (size_t from = 0; from < size; from += 3)
        for (size_t length = 1; length < 12 && from + length <= size; length += 2) {
            char stop[16];
            const char *stops[] = { "never there", stop };
            struct log log = { 0 };
            tern_generate_options options = tern_generate_options_default();
            tern_generation out;

            memcpy(stop, all + from, length);
            stop[length] = '\0';
            if (!is_whole(stop, length))
                continue;
            const size_t found = (size_t)(strstr(all, stop) - all);
            options.max_tokens = 40;
            options.on_token = on_token;
            options.user = &log;
            options.stop = stops;
            options.n_stop = 2;
            assert_ok(ctx, tern_generate(session, tokenizer, golden.ids[p], golden.n_prompt[p], &options, &out));
            assert_int_equal(out.finish, TERN_FINISH_STOP);
            assert_int_equal(out.text_size, found);
            assert_memory_equal(out.text, all, out.text_size);
            assert_agree(&log, &out);
            tern_generation_free(&out);
        }
    tern_text_free(all);
    assert_clean(session);
    tern_session_destroy(&session);
}

/* What only began like a stop string comes out in the end. */
static void test_held_text_comes_out(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16);
    const size_t p = 1, n = 20;
    char *all = decoded(greedy_of(p), n), stop[64];
    const char *stops[] = { stop };
    struct log log = { 0 };
    tern_generate_options options = tern_generate_options_default();
    tern_generation out;

    snprintf(stop, sizeof stop, "%s and more", all + strlen(all) - 4);
    assert_true(is_whole(stop, strlen(stop)));
    options.max_tokens = (int64_t)n;
    options.on_token = on_token;
    options.user = &log;
    options.stop = stops;
    options.n_stop = 1;
    assert_ok(ctx, tern_generate(session, tokenizer, golden.ids[p], golden.n_prompt[p], &options, &out));
    assert_int_equal(out.finish, TERN_FINISH_LENGTH);
    assert_string_equal(out.text, all);
    assert_agree(&log, &out);
    assert_true(log.last);
    tern_generation_free(&out);
    tern_text_free(all);
    tern_session_destroy(&session);
}

/* ---- ends ---- */

static void test_stop_id(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16);
    const int32_t *greedy = greedy_of(2);
    tern_generate_options options = tern_generate_options_default();
    struct log log = { 0 };
    tern_generation out;
    size_t first = 0;
    const int32_t ids[] = { 130, greedy[9] };

    while (greedy[first] != ids[0] && greedy[first] != ids[1])
        first++;
    options.stop_ids = ids;
    options.n_stop_ids = 2;
    options.on_token = on_token;
    options.user = &log;
    assert_ok(ctx, tern_generate(session, tokenizer, golden.ids[2], golden.n_prompt[2], &options, &out));
    assert_int_equal(out.finish, TERN_FINISH_STOP);
    assert_int_equal(out.ids.count, first);
    char *want = decoded(greedy, first);
    assert_string_equal(out.text, want);
    assert_agree(&log, &out);
    tern_text_free(want);
    tern_generation_free(&out);
    tern_session_destroy(&session);
}

static void test_full_context(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16);
    tern_generate_options options = tern_generate_options_default();
    int32_t prompt[113];
    tern_generation out;

    for (size_t i = 0; i < 113; i++)
        prompt[i] = (int32_t)i;
    /* Without a limit: to the end of the context. */
    assert_ok(ctx, tern_generate(session, NULL, golden.ids[0], golden.n_prompt[0], &options, &out));
    assert_int_equal(out.finish, TERN_FINISH_LENGTH);
    assert_int_equal(out.ids.count, 112 - golden.n_prompt[0]);
    tern_generation_free(&out);
    /* Exactly full, and one beyond. */
    options.max_tokens = 12;
    assert_ok(ctx, tern_generate(session, NULL, prompt, 100, &options, &out));
    assert_int_equal(out.ids.count, 12);
    tern_generation_free(&out);
    options.max_tokens = 13;
    assert_fails(ctx, tern_generate(session, NULL, prompt, 100, &options, &out), TERN_ERR_CAPACITY,
                 "100 tokens of prompt plus 13 to generate are 113, the context is 112");
    assert_null(out.ids.data);
    assert_null(out.text);
    /* A prompt that is the whole context leaves nothing to generate; a longer one is an error. */
    options.max_tokens = -1;
    assert_ok(ctx, tern_generate(session, NULL, prompt, 112, &options, &out));
    assert_true(out.ids.count == 0 && out.finish == TERN_FINISH_LENGTH);
    tern_generation_free(&out);
    assert_fails(ctx, tern_generate(session, NULL, prompt, 113, &options, &out), TERN_ERR_CAPACITY,
                 "the prompt has 113 tokens, the context is 112");
    options.max_tokens = INT64_MAX;
    assert_fails(ctx, tern_generate(session, NULL, prompt, 100, &options, &out), TERN_ERR_CAPACITY,
                 "the context is 112");
    options.max_tokens = 0;
    assert_ok(ctx, tern_generate(session, tokenizer, prompt, 100, &options, &out));
    assert_true(out.ids.count == 0 && out.finish == TERN_FINISH_LENGTH && out.text_size == 0);
    assert_string_equal(out.text, "");
    tern_generation_free(&out);
    assert_clean(session);
    tern_session_destroy(&session);
}

/* A pool that other sequences have partly filled. */
static void test_small_pool(void **state)
{
    (void)state;
    tern_session_options o = tern_session_options_default();
    tern_generate_options options = tern_generate_options_default();
    tern_session *session;
    tern_generation out;
    int32_t sequence;

    o.n_sequences = 2;
    o.n_positions = 128;
    assert_ok(ctx, tern_session_create(ctx, model, &o, &session));
    assert_ok(ctx, tern_sequence_add(session, &sequence));
    const tern_row row = { .sequence = sequence, .ids = golden.ids[3], .n_ids = 10 };
    assert_ok(ctx, tern_session_step(session, &row, 1));
    options.max_tokens = 70;
    assert_fails(ctx, tern_generate(session, NULL, golden.ids[1], 5, &options, &out), TERN_ERR_CAPACITY,
                 "5 tokens of prompt plus 70 to generate, the session's pool has 64 free positions");
    options.max_tokens = -1;
    assert_ok(ctx, tern_generate(session, NULL, golden.ids[1], 5, &options, &out));
    assert_int_equal(out.ids.count, 59);
    assert_memory_equal(out.ids.data, greedy_of(1), 59 * sizeof *out.ids.data);
    tern_generation_free(&out);
    assert_int_equal(tern_sequence_length(session, sequence), 10);
    /* No sequence left for it. */
    int32_t second;
    assert_ok(ctx, tern_sequence_add(session, &second));
    assert_fails(ctx, tern_generate(session, NULL, golden.ids[1], 5, &options, &out), TERN_ERR_CAPACITY, "");
    assert_null(out.ids.data);
    tern_session_destroy(&session);
}

static void test_callback_ends_it(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16);

    for (size_t after = 1; after < 12; after++) {
        char *all = decoded(greedy_of(3), after), stop[16];
        const char *stops[] = { stop };
        struct log log = { .stop_after = after };
        tern_generate_options options = tern_generate_options_default();
        tern_generation out;

        /* The last character is held back when the callback ends it, and then belongs to neither text. */
        const char last = all[strlen(all) - 1];
        snprintf(stop, sizeof stop, "%c and more", last);
        options.on_token = on_token;
        options.user = &log;
        options.stop = stops;
        options.n_stop = (unsigned char)last < 0x80;
        assert_ok(ctx, tern_generate(session, tokenizer, golden.ids[3], golden.n_prompt[3], &options, &out));
        assert_int_equal(out.finish, TERN_FINISH_CANCELLED);
        assert_int_equal(out.ids.count, after);
        assert_agree(&log, &out);
        assert_false(log.last);
        assert_true(out.text_size < strlen(all));
        assert_memory_equal(out.text, all, out.text_size);
        tern_text_free(all);
        tern_generation_free(&out);
    }
    assert_clean(session);
    tern_session_destroy(&session);
}

static tern_session *to_cancel;

static bool cancel_at_third(void *user, int32_t id, float logprob, const char *text, size_t size)
{
    struct log *log = user;

    if (on_token(log, id, logprob, text, size) && log->n_calls == 3)
        tern_session_cancel(to_cancel);
    return true;
}

static void test_session_cancel(void **state)
{
    (void)state;
    tern_session *session = to_cancel = new_session(ctx, model, 16);
    struct log log = { 0 };
    tern_generate_options options = tern_generate_options_default();
    tern_generation out;

    options.on_token = cancel_at_third;
    options.user = &log;
    assert_ok(ctx, tern_generate(session, tokenizer, golden.ids[3], golden.n_prompt[3], &options, &out));
    assert_int_equal(out.finish, TERN_FINISH_CANCELLED);
    assert_int_equal(out.ids.count, 3);
    assert_agree(&log, &out);
    tern_generation_free(&out);
    /* Still cancelled: the prompt is not read either. */
    assert_ok(ctx, tern_generate(session, NULL, golden.ids[3], golden.n_prompt[3], &options, &out));
    assert_true(out.finish == TERN_FINISH_CANCELLED && out.ids.count == 0 && out.timing.prefill_tokens == 0);
    tern_generation_free(&out);
    tern_session_resume(session);
    assert_clean(session);
    tern_session_destroy(&session);
}

/* ---- sampling ---- */

/* With a seed the text is fixed, whatever the chunks of the prompt and the threads; another seed gives another one. */
static void test_seed(void **state)
{
    (void)state;
    tern_generate_options options = tern_generate_options_default();
    tern_generation first = { 0 }, out;

    options.sampling.temperature = 1;
    options.sampling.seed = 42;
    options.max_tokens = 50;
    for (int threads = 1; threads <= 3; threads++) {
        tern_ctx *c = test_ctx(threads);
        tern_session *session = new_session(c, model, threads * 5);
        assert_ok(c, tern_generate(session, NULL, golden.ids[2], golden.n_prompt[2], &options, &out));
        if (threads == 1) {
            first = out;
        } else {
            assert_memory_equal(out.ids.data, first.ids.data, 50 * sizeof *out.ids.data);
            assert_memory_equal(out.logprobs, first.logprobs, 50 * sizeof *out.logprobs);
            tern_generation_free(&out);
        }
        tern_session_destroy(&session);
        tern_ctx_destroy(&c);
    }
    tern_session *session = new_session(ctx, model, 64);
    options.sampling.seed = 43;
    assert_ok(ctx, tern_generate(session, NULL, golden.ids[2], golden.n_prompt[2], &options, &out));
    assert_memory_not_equal(out.ids.data, first.ids.data, 50 * sizeof *out.ids.data);
    tern_generation_free(&out);
    tern_generation_free(&first);
    tern_session_destroy(&session);
}

/* logprobs are those of the raw scores of a step. */
static void test_logprobs(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 128);
    tern_session_options o = tern_session_options_default();
    tern_generate_options options = tern_generate_options_default();
    const int32_t V = tern_model_get_config(model)->vocab_size;
    const size_t p = 2, n_prompt = golden.n_prompt[p];
    tern_session *other;
    tern_generation out;
    int32_t sequence;

    options.max_tokens = N_GREEDY;
    options.sampling.repetition_penalty = 1.00001f; /* not in the log-probability; too little to change the ids */
    assert_ok(ctx, tern_generate(session, NULL, golden.ids[p], n_prompt, &options, &out));
    o.max_logits = 112;
    assert_ok(ctx, tern_session_create(ctx, model, &o, &other));
    assert_ok(ctx, tern_sequence_add(other, &sequence));
    const tern_row row = { sequence, golden.ids[p], (int32_t)golden.n_ids[p], TERN_LOGITS_ALL };
    assert_ok(ctx, tern_session_step(other, &row, 1));
    for (size_t i = 0; i < N_GREEDY; i++) {
        const float *scores = tern_session_logits(other, 0, (int32_t)(n_prompt + i - 1));
        double total = 0;
        for (int32_t j = 0; j < V; j++)
            total += exp((double)scores[j]);
        const double want = scores[golden.ids[p][n_prompt + i]] - log(total);
        assert_int_equal(out.ids.data[i], golden.ids[p][n_prompt + i]);
        assert_true(fabs(out.logprobs[i] - want) <= 0x1p-23 * fmax(1, fabs(want)));
    }
    tern_generation_free(&out);
    tern_session_destroy(&session);
    tern_session_destroy(&other);
}

/* ---- a sequence that stays ---- */

/* Each turn's prompt begins with what was read and generated before: nothing of it is read again, and the answer is the one that reading
 * everything gives. */
static void test_sequence_goes_on(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16), *fresh = new_session(ctx, model, 16);
    tern_generate_options o = tern_generate_options_default(), whole;
    int32_t ids[128], sequence = -1;
    size_t n = 5, before = 0;

    memcpy(ids, golden.ids[1], n * sizeof ids[0]);
    o.max_tokens = 9;
    whole = o;
    o.sequence = &sequence;
    for (int turn = 0; turn < 4; turn++) {
        tern_generation out, want;

        assert_ok(ctx, tern_generate(fresh, NULL, ids, n, &whole, &want));
        assert_ok(ctx, tern_generate(session, NULL, ids, n, &o, &out));
        assert_int_equal(out.ids.count, 9);
        assert_memory_equal(out.ids.data, want.ids.data, 9 * sizeof ids[0]);
        assert_memory_equal(out.logprobs, want.logprobs, 9 * sizeof out.logprobs[0]);
        assert_int_equal(out.timing.prefill_tokens, n - before);
        memcpy(ids + n, out.ids.data, 9 * sizeof ids[0]);
        n += 9;
        before = (size_t)tern_sequence_length(session, sequence);
        assert_int_equal(before, n - 1); /* the last id was chosen, and not read */
        ids[n] = (int32_t)(turn + 7);
        n++;
        tern_generation_free(&out);
        tern_generation_free(&want);
    }

    /* back to an earlier point, and the same prompt once more: its last id alone is read again */
    tern_generation out;
    assert_ok(ctx, tern_sequence_truncate(session, sequence, 12));
    assert_ok(ctx, tern_generate(session, NULL, ids, 12, &o, &out));
    assert_int_equal(out.timing.prefill_tokens, 1);
    assert_memory_equal(out.ids.data, ids + 12, 2 * sizeof ids[0]);
    tern_generation_free(&out);

    /* a full context, counted with what the sequence holds */
    o.max_tokens = -1;
    assert_ok(ctx, tern_generate(session, NULL, ids, 12, &o, &out));
    assert_int_equal(out.ids.count, tern_model_get_config(model)->n_context - 12);
    tern_generation_free(&out);
    assert_ok(ctx, tern_sequence_remove(session, sequence));
    assert_fails(ctx, tern_generate(session, NULL, ids, 12, &o, &out), TERN_ERR_ARG, "there is no sequence");
    assert_int_equal(sequence, 0);
    sequence = -1;
    o.max_tokens = 1000;
    assert_fails(ctx, tern_generate(session, NULL, ids, 12, &o, &out), TERN_ERR_CAPACITY, "1000");
    assert_int_equal(sequence, -1);
    assert_clean(session);
    tern_session_destroy(&session);
    tern_session_destroy(&fresh);
}

/* ---- errors ---- */

static void test_errors(void **state)
{
    (void)state;
    tern_session *session = new_session(ctx, model, 16);
    const int32_t *prompt = golden.ids[1], bad[] = { 1, 2, 131 };
    static const char *const stops[] = { "" };
    tern_generate_options o;
    tern_generation out;

#define FAILS(tok, given, n, status, part)                                                      \
    do {                                                                                        \
        assert_fails(ctx, tern_generate(session, (tok), (given), (n), &o, &out), status, part); \
        assert_true(out.ids.data == NULL && out.logprobs == NULL && out.text == NULL &&         \
                    out.finish == TERN_FINISH_NONE);                                            \
        assert_clean(session);                                                                  \
    } while (0)
    o = tern_generate_options_default();
    FAILS(NULL, prompt, 0, TERN_ERR_ARG, "the prompt has no ids");
    FAILS(NULL, NULL, 3, TERN_ERR_ARG, "the prompt has no ids");
    FAILS(NULL, bad, 3, TERN_ERR_ARG, "prompt[2] is 131, the vocabulary has 131 ids");
    o.max_tokens = -2;
    FAILS(NULL, prompt, 3, TERN_ERR_ARG, "max_tokens is -2");
    o = tern_generate_options_default();
    o.reserved[3] = 5;
    FAILS(NULL, prompt, 3, TERN_ERR_ARG, "reserved[3] is 5, expected 0");
    o = tern_generate_options_default();
    o.sampling.top_p = 2;
    FAILS(NULL, prompt, 3, TERN_ERR_ARG, "top_p is 2");
    o = tern_generate_options_default();
    o.stop = stops;
    o.n_stop = 1;
    FAILS(NULL, prompt, 3, TERN_ERR_ARG, "no tokenizer");
    FAILS(tokenizer, prompt, 3, TERN_ERR_ARG, "stop string 0 is empty");
    o = tern_generate_options_default();
    o.n_stop_ids = 2;
    FAILS(NULL, prompt, 3, TERN_ERR_ARG, "stop_ids is NULL");
    /* In the middle: after four tokens that can be chosen, nothing can. */
    tern_logit_bias bias[131];
    int32_t ids[131][5];
    for (int32_t i = 0; i < 131; i++) {
        memcpy(ids[i], greedy_of(1), 4 * sizeof(int32_t));
        ids[i][4] = i;
        bias[i] = (tern_logit_bias){ ids[i], 5, -INFINITY };
    }
    o = tern_generate_options_default();
    o.sampling.bias = bias;
    o.sampling.n_bias = 131;
    FAILS(tokenizer, prompt, 5, TERN_ERR_ARG, "all 131 scores are -inf after bias");
    o.max_tokens = 4;
    assert_ok(ctx, tern_generate(session, tokenizer, prompt, 5, &o, &out));
    assert_int_equal(out.ids.count, 4);
    tern_generation_free(&out);
#undef FAILS
    assert_int_equal(tern_generate(NULL, NULL, prompt, 1, NULL, &out), TERN_ERR_ARG);
    assert_fails(ctx, tern_generate(session, NULL, prompt, 1, NULL, NULL), TERN_ERR_ARG, "out is NULL");
    tern_generation_free(&out);
    tern_generation_free(NULL);
    tern_session_destroy(&session);
    assert_string_equal(tern_finish_name(TERN_FINISH_LENGTH), "length");
    assert_string_equal(tern_finish_name(TERN_FINISH_STOP), "stop");
    assert_string_equal(tern_finish_name(TERN_FINISH_CANCELLED), "cancelled");
    assert_string_equal(tern_finish_name(TERN_FINISH_NONE), "none");
}

static void test_every_failure(void **state)
{
    (void)state;
    FAULT_NEEDED;
    static const char *const stops[] = { "never there" };
    tern_session *session = new_session(ctx, model, 16);
    tern_generate_options options = tern_generate_options_default();
    tern_generation out;

    options.max_tokens = 20;
    options.sampling.temperature = 0.5f;
    options.sampling.top_k = 5;
    options.stop = stops;
    options.n_stop = 1;
    assert_ok(ctx, tern_generate(session, tokenizer, golden.ids[2], golden.n_prompt[2], &options, &out));
    tern_generation_free(&out);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_generate(session, tokenizer, golden.ids[2], golden.n_prompt[2], &options, &out);
        FAULT_DONE(n, ctx, status, out.ids.data);
        assert_clean(session);
        tern_generation_free(&out);
    }
    tern_generation_free(&out);
    tern_session_destroy(&session);
}

/* ---- set-up ---- */

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(1);
    dir = test_temp_dir();
    model = open_model(ctx, test_golden("gpt2-tiny-fp32"));
    golden = golden_read(ctx, test_golden("gpt2-tiny-fp32"));
    write_tokenizer();
    assert_ok(ctx, tern_tokenizer_open(ctx, dir, &tokenizer));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tern_tokenizer_close(&tokenizer);
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
    test_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_ids),
        cmocka_unit_test(test_builtin),
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_held_text_comes_out),
        cmocka_unit_test(test_stop_id),
        cmocka_unit_test(test_full_context),
        cmocka_unit_test(test_small_pool),
        cmocka_unit_test(test_callback_ends_it),
        cmocka_unit_test(test_session_cancel),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_sequence_goes_on),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_every_failure),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
