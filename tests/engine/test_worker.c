/* test_worker.c: a model that several ranks share, which are threads here: what rank 0 does is done by all, what fails on one fails on all
 * with one text, and each copies its share of the weights and no more. */
/* labels: quick threads */
#include "engine/engine.h"
#include "engine/worker.h"
#include "model/checkpoint.h"
#include "model/golden.h"
#include "model/shard.h"
#include "rank_group.h"

#include <math.h>
#include <unistd.h>

#define WORDS 70 /* ids that prompts are made of, below the vocabulary of the tiny checkpoints */

/* ---- ranks ---- */

struct seat {
    int size;
    const char *paths[MOST_RANKS];
    tern_model_dtype dtypes[MOST_RANKS];
    tern_status (*use)(struct seat *seat, tern_ctx *ctx, tern_model *model); /* by rank 0; NULL: nothing */
    float *out;                                                              /* what use() found: all scores */
    size_t n_out, capacity;
    int cancel_at; /* the number of the all-reduce at which rank 0 is cancelled; 0: none */
    int leave_at;  /* or at which the last rank leaves */
    atomic_int reductions;
    tern_session *session; /* that is cancelled */
    struct rank_group group;
    struct rank {
        struct seat *seat;
        tern_comm comm;
        uint64_t digest;
        tern_model_stats stats;
        tern_status opened, status;
        char text[1024];
    } ranks[MOST_RANKS];
};

static tern_status all_reduce(void *user, float *data, size_t n)
{
    struct rank *r = user;
    struct seat *s = r->seat;

    if (r->comm.rank == 0 && ++s->reductions == s->cancel_at)
        tern_session_cancel(s->session);
    if (r->comm.rank == s->size - 1 && s->leave_at && s->reductions >= s->leave_at) {
        rank_group_leave(&s->group);
        return TERN_ERR_IO;
    }
    return rank_all_reduce(&s->group.ranks[r->comm.rank], data, n);
}

static tern_status all_gather(void *user, const float *data, float *out, size_t n)
{
    struct rank *r = user;

    return rank_all_gather(&r->seat->group.ranks[r->comm.rank], data, out, n);
}

static tern_status broadcast(void *user, void *data, size_t bytes, int root)
{
    struct rank *r = user;

    return rank_broadcast(&r->seat->group.ranks[r->comm.rank], data, bytes, root);
}

static void digest_step(void *user, const tern_session *session, tern_status step)
{
    struct rank *r = user;

    for (size_t row = 0; step == TERN_OK && row < session->n_rows; row++) {
        const unsigned char *bytes = (const void *)tern_session_logits(session, row, session->rows[row].n_ids - 1);
        for (size_t i = 0; bytes && i < (size_t)session->vocab_size * sizeof(float); i++)
            r->digest = (r->digest ^ bytes[i]) * 0x100000001b3;
    }
}

/* No asserts here: they belong to the main thread. */
static void *sit(void *user)
{
    struct rank *r = user;
    struct seat *s = r->seat;
    tern_ctx_options threads = tern_ctx_options_default();
    tern_model_options options = tern_model_options_default();
    const struct tern_worker_watch watch = { .step = digest_step, .user = r };
    tern_model *model = NULL;
    tern_ctx *ctx = NULL;

    threads.n_threads = 1;
    options.dtype = s->dtypes[r->comm.rank];
    options.comm = s->size > 1 ? &r->comm : NULL;
    r->opened = tern_ctx_create(&ctx, &threads, r->text, sizeof r->text);
    if (r->opened == TERN_OK) {
        r->opened = tern_model_open(ctx, s->paths[r->comm.rank], &options, &model);
        r->stats = tern_model_get_stats(model);
        if (r->opened == TERN_OK && r->comm.rank > 0)
            r->status = tern_worker_serve(ctx, model, &watch);
        else if (r->opened == TERN_OK && s->use)
            r->status = s->use(s, ctx, model);
        snprintf(r->text, sizeof r->text, "%s", tern_error(ctx));
        tern_model_close(&model);
    }
    tern_ctx_destroy(&ctx);
    return NULL;
}

static void seat_init(struct seat *s, int size, const char *path, tern_model_dtype dtype)
{
    *s = (struct seat){ .size = size };
    for (int i = 0; i < MOST_RANKS; i++) {
        s->paths[i] = path;
        s->dtypes[i] = dtype;
    }
}

static void seat_run(struct seat *s)
{
    pthread_t threads[MOST_RANKS];

    rank_group_open(&s->group, s->size);
    for (int i = 0; i < s->size; i++) {
        s->ranks[i] = (struct rank){ .seat = s, .digest = 0xcbf29ce484222325 };
        s->ranks[i].comm = (tern_comm){ .user = &s->ranks[i],
                                        .rank = i,
                                        .size = s->size,
                                        .all_reduce = all_reduce,
                                        .all_gather = all_gather,
                                        .broadcast = broadcast };
        assert_int_equal(pthread_create(&threads[i], NULL, sit, &s->ranks[i]), 0);
    }
    for (int i = 0; i < s->size; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    rank_group_close(&s->group);
}

static void assert_went_well(const struct seat *s)
{
    for (int i = 0; i < s->size; i++) {
        if (s->ranks[i].opened != TERN_OK || s->ranks[i].status != TERN_OK)
            fail_msg("rank %d of %d: %s", i, s->size, s->ranks[i].text);
        if (s->ranks[i].digest != s->ranks[0].digest)
            fail_msg("rank %d of %d has other scores than rank 0", i, s->size);
    }
}

/* Every rank has this status, and a text with both parts. */
static void assert_all_failed(const struct seat *s, tern_status status, const char *part, const char *other)
{
    for (int i = 0; i < s->size; i++) {
        const struct rank *r = &s->ranks[i];
        if (r->opened != status || !strstr(r->text, part) || !strstr(r->text, other))
            fail_msg("rank %d: %s, \"%s\", expected %s, \"..%s..%s..\"", i, tern_status_name(r->opened), r->text,
                     tern_status_name(status), part, other);
        assert_string_equal(r->text, s->ranks[0].text);
    }
}

/* ---- what rank 0 does ---- */

static void keep(struct seat *s, tern_session *session)
{
    const size_t V = (size_t)session->vocab_size;

    digest_step(&s->ranks[0], session, TERN_OK);
    for (size_t row = 0; row < session->n_rows; row++) {
        const float *logits = tern_session_logits(session, row, session->rows[row].n_ids - 1);
        if (!logits)
            continue;
        if (s->n_out + V > s->capacity) {
            s->capacity = 2 * (s->n_out + V);
            s->out = realloc(s->out, s->capacity * sizeof *s->out);
            if (!s->out)
                abort();
        }
        memcpy(s->out + s->n_out, logits, V * sizeof *logits);
        s->n_out += V;
    }
}

static tern_row row_of(int32_t sequence, int32_t *ids, int32_t n, int32_t seed)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = (seed + i * 7) % WORDS;
    return (tern_row){ sequence, ids, n, TERN_LOGITS_LAST };
}

static tern_status make_session(tern_ctx *ctx, const tern_model *model, int32_t n_sequences, tern_session **out)
{
    tern_session_options options = tern_session_options_default();

    options.n_sequences = n_sequences;
    options.n_context = 64;
    options.max_batch = 100;
    return tern_session_create(ctx, model, &options, out);
}

#define STEP(call)                        \
    do {                                  \
        if ((status = (call)) != TERN_OK) \
            goto done;                    \
    } while (0)

/* Two sessions, several sequences in a step, forks, cuts, removals, messages of both sizes. */
static tern_status use_sessions(struct seat *s, tern_ctx *ctx, tern_model *model)
{
    tern_session *first = NULL, *second = NULL, *third = NULL;
    int32_t ids[3][40], a, b, c, other;
    tern_row rows[3];
    tern_status status;

    STEP(make_session(ctx, model, 3, &first));
    STEP(tern_sequence_add(first, &a));
    STEP(tern_sequence_add(first, &b));
    STEP(tern_sequence_plan(first, b, 50));
    rows[0] = row_of(a, ids[0], 30, 1);
    rows[1] = row_of(b, ids[1], 33, 2); /* more numbers than a message holds */
    STEP(tern_session_step(first, rows, 2));
    keep(s, first);
    STEP(tern_sequence_fork(first, a, &c));
    rows[0] = row_of(a, ids[0], 1, 3);
    rows[1] = row_of(b, ids[1], 2, 4);
    rows[2] = row_of(c, ids[2], 3, 5);
    STEP(tern_session_step(first, rows, 3));
    keep(s, first);
    STEP(make_session(ctx, model, 1, &second));
    STEP(tern_sequence_add(second, &other));
    rows[0] = row_of(other, ids[0], 17, 6);
    STEP(tern_session_step(second, rows, 1));
    keep(s, second);
    tern_session_destroy(&second);
    STEP(tern_sequence_truncate(first, c, 11));
    STEP(tern_sequence_remove(first, b));
    STEP(tern_sequence_add(first, &b));
    rows[0] = row_of(c, ids[0], 4, 7);
    rows[1] = row_of(b, ids[1], 9, 8);
    STEP(tern_session_step(first, rows, 2));
    keep(s, first);
    STEP(make_session(ctx, model, 1, &third));
    STEP(tern_sequence_add(third, &other));
    rows[0] = row_of(other, ids[0], 5, 9);
    STEP(tern_session_step(third, rows, 1));
    keep(s, third);
done:
    tern_session_destroy(&third);
    tern_session_destroy(&second);
    tern_session_destroy(&first);
    return status;
}

static void check_against_one(const char *path, tern_model_dtype dtype, double tolerance)
{
    struct seat alone, shared;
    double largest;

    seat_init(&alone, 1, path, dtype);
    alone.use = use_sessions;
    seat_run(&alone);
    assert_went_well(&alone);
    for (int size = 2; size <= 3; size++) {
        seat_init(&shared, size, path, dtype);
        shared.use = use_sessions;
        seat_run(&shared);
        assert_went_well(&shared);
        assert_int_equal(shared.n_out, alone.n_out);
        const double off = difference(shared.out, alone.out, alone.n_out, &largest);
        if (!(off <= tolerance * largest))
            fail_msg("%s as %s on %d ranks: off by %g of %g", path, tern_model_dtype_name(dtype), size, off, largest);
        free(shared.out);
    }
    free(alone.out);
}

static void test_sessions_are_mirrored(void **state)
{
    (void)state;
    check_against_one(test_golden("gpt2-tiny-fp32"), TERN_MODEL_FP32, 1e-5);
    check_against_one(test_golden("models/llama-tiny"), TERN_MODEL_FP32, 1e-5);
}

/* A sum of parts rounds otherwise before it becomes bf16 or int8 again, which is then off by a step of that type here and there: a
 * step of bf16 is 2^-8 of a number, one of int8 a 127th of a row's largest; a scale of int8 is that of a part of a channel besides. */
static void test_narrow_dtypes(void **state)
{
    (void)state;
    check_against_one(test_golden("models/llama-tiny"), TERN_MODEL_FP16, 1e-5);
    check_against_one(test_golden("models/llama-tiny"), TERN_MODEL_BF16, 0.02);
    check_against_one(test_golden("models/llama-tiny"), TERN_MODEL_INT8, 0.1);
}

/* ---- cancelling ---- */

static tern_status use_cancelled(struct seat *s, tern_ctx *ctx, tern_model *model)
{
    tern_session *session = NULL;
    int32_t ids[40], sequence;
    tern_status status;

    STEP(make_session(ctx, model, 1, &session));
    s->session = session;
    STEP(tern_sequence_add(session, &sequence));
    const tern_row row = row_of(sequence, ids, 30, 1);
    status = tern_session_step(session, &row, 1);
    if (s->cancel_at) {
        if (status != TERN_ERR_CANCELLED || tern_sequence_length(session, sequence) != 0) {
            status = TERN_ERR_STATE;
            goto done;
        }
        tern_session_resume(session);
        STEP(tern_session_step(session, &row, 1));
    }
    keep(s, session);
    STEP(status);
done:
    tern_session_destroy(&session);
    return status;
}

/* Wherever it comes before the last reduction: the step ends on all ranks, and the next one is as if there had been none. */
static void test_cancelled_steps(void **state)
{
    struct seat plain, s;

    (void)state;
    seat_init(&plain, 3, test_golden("gpt2-tiny-fp32"), TERN_MODEL_FP32);
    plain.use = use_cancelled;
    seat_run(&plain);
    assert_went_well(&plain);
    for (int at = 1; at < plain.reductions; at++) {
        seat_init(&s, 3, test_golden("gpt2-tiny-fp32"), TERN_MODEL_FP32);
        s.use = use_cancelled;
        s.cancel_at = at;
        seat_run(&s);
        assert_went_well(&s);
        assert_true(s.n_out == plain.n_out && memcmp(s.out, plain.out, s.n_out * sizeof *s.out) == 0);
        free(s.out);
    }
    free(plain.out);
}

/* ---- failures ---- */

static tern_status use_lost(struct seat *s, tern_ctx *ctx, tern_model *model)
{
    tern_session *session = NULL, *another = NULL;
    int32_t ids[40], sequence;
    tern_status status;

    STEP(make_session(ctx, model, 1, &session));
    STEP(tern_sequence_add(session, &sequence));
    const tern_row row = row_of(sequence, ids, 30, 1);
    status = tern_session_step(session, &row, 1);
    if (status == TERN_ERR_IO && tern_sequence_length(session, sequence) == 0 &&
        tern_session_step(session, &row, 1) == TERN_ERR_STATE &&
        make_session(ctx, model, 1, &another) == TERN_ERR_STATE)
        status = TERN_OK;
    (void)s;
done:
    tern_session_destroy(&session);
    return status;
}

static void test_a_rank_that_leaves(void **state)
{
    struct seat s;

    (void)state;
    seat_init(&s, 3, test_golden("gpt2-tiny-fp32"), TERN_MODEL_FP32);
    s.use = use_lost;
    s.leave_at = 2;
    seat_run(&s);
    assert_int_equal(s.ranks[0].status, TERN_OK);
    assert_int_equal(s.ranks[1].status, TERN_ERR_IO);
    assert_int_equal(s.ranks[2].status, TERN_ERR_IO);
}

/* The directory of rank 1 is another one. */
static void check_other(const char *path, tern_status status, const char *part, const char *other)
{
    struct seat s;

    seat_init(&s, 3, test_golden("gpt2-tiny-fp32"), TERN_MODEL_FP32);
    s.paths[1] = path;
    seat_run(&s);
    assert_all_failed(&s, status, part, other);
}

static void test_other_files_on_a_rank(void **state)
{
    const char *plain = test_golden("gpt2-tiny-fp32"), *dir = test_temp_dir();
    struct checkpoint c = checkpoint_read(plain);
    char file[4096];
    size_t size;

    (void)state;
    check_other("/nowhere/at/all", TERN_ERR_NOT_FOUND, "rank 1 of 3: ", "/nowhere/at/all");
    check_other(test_golden("models/llama-tiny"), TERN_ERR_FORMAT, "rank 1 of 3: ", "config.json has the digest");

    checkpoint_tensor(&c, "transformer.h.1.mlp.c_fc.weight", &size)[5] ^= 0x10; /* among its first values */
    checkpoint_write(&c, dir);
    check_other(dir, TERN_ERR_FORMAT, "samples of its weights have the digest", "rank 0's");

    checkpoint_add(&c, "transformer.h.9.attn.masked_bias", "F32", "[1]", NULL, 4);
    checkpoint_write(&c, dir);
    check_other(dir, TERN_ERR_FORMAT, "names, dtypes and shapes", "rank 0's");

    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    assert_int_equal(truncate(file, 1000), 0);
    check_other(dir, TERN_ERR_FORMAT, "rank 1 of 3: ", "model.safetensors");
    assert_int_equal(unlink(file), 0);
    check_other(dir, TERN_ERR_NOT_FOUND, "rank 1 of 3: ", dir);
    checkpoint_free(&c);
    test_remove_dir(dir);
}

static void test_other_options_on_a_rank(void **state)
{
    struct seat s;

    (void)state;
    seat_init(&s, 2, test_golden("gpt2-tiny-fp32"), TERN_MODEL_FP32);
    s.dtypes[1] = TERN_MODEL_BF16;
    seat_run(&s);
    assert_all_failed(&s, TERN_ERR_ARG, "rank 1 of 2: ", "dtype is bf16, expected fp32");
}

static tern_status use_too_much(struct seat *s, tern_ctx *ctx, tern_model *model)
{
    tern_session_options options = tern_session_options_default();
    tern_session *session = NULL;

    (void)s;
    options.n_context = 1 << 20;
    if (tern_session_create(ctx, model, &options, &session) != TERN_ERR_CAPACITY || strstr(tern_error(ctx), "rank 0"))
        return TERN_ERR_STATE; /* wrong on any number of ranks: told as on one */
    options.n_context = 0;
    options.n_positions = (int64_t)1 << 36;
    if (tern_session_create(ctx, model, &options, &session) != TERN_ERR_MEMORY)
        return TERN_ERR_STATE;
    return use_sessions(s, ctx, model); /* and goes on */
}

static void test_sessions_that_cannot_be_made(void **state)
{
    struct seat s;

    (void)state;
    seat_init(&s, 2, test_golden("gpt2-tiny-fp32"), TERN_MODEL_FP32);
    s.use = use_too_much;
    seat_run(&s);
    assert_went_well(&s);
    free(s.out);
}

static tern_status nothing_to_say(void *user, void *data, size_t bytes, int root)
{
    (void)user;
    (void)data;
    (void)bytes;
    (void)root;
    return TERN_ERR_IO;
}

static void test_who_may_do_what(void **state)
{
    tern_comm comm = { .rank = 1, .size = 1, .broadcast = nothing_to_say };
    tern_model_options options = tern_model_options_default();
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;

    (void)state;
    options.comm = &comm;
    assert_fails(ctx, tern_model_open(ctx, test_golden("gpt2-tiny-fp32"), &options, &model), TERN_ERR_ARG,
                 "rank 1 of 1, expected 0 <= rank < size");
    comm = (tern_comm){ .rank = 0, .size = 5000 };
    assert_fails(ctx, tern_model_open(ctx, test_golden("gpt2-tiny-fp32"), &options, &model), TERN_ERR_ARG,
                 "0 of 5000, expected 0 <= rank < size <= 1024");
    assert_ok(ctx, tern_model_open(ctx, test_golden("gpt2-tiny-fp32"), NULL, &model));
    assert_fails(ctx, tern_worker_run(ctx, model), TERN_ERR_STATE, "rank 0 of 1, expected one above 0");
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
}

/* ---- memory ---- */

static void add_tensor(char **header, size_t *data_size, const char *name, int64_t rows, int64_t columns)
{
    char entry[256], shape[64];
    const size_t size = (size_t)(rows * (columns ? columns : 1)) * 2;

    snprintf(shape, sizeof shape, columns ? "%" PRId64 ",%" PRId64 : "%" PRId64, rows, columns);
    snprintf(entry, sizeof entry, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
             **header ? "," : "{", name, shape, *data_size, *data_size + size);
    *header = realloc(*header, strlen(*header) + sizeof entry + 2);
    assert_non_null(*header);
    strcat(*header, entry);
    *data_size += size;
}

/* A LLaMA or Mixtral in bf16, of two layers; its sizes. */
struct shares {
    int64_t H, I, heads, kv_heads, V, experts; /* 0: a feed-forward instead of experts */
    bool tied;
};

static void add_matrices(char **header, size_t *data_size, const struct shares *m, int layer)
{
    const int64_t D = m->H / m->heads;
    char name[128];
    const struct {
        const char *name;
        int64_t rows, columns;
    } parts[] = {
        { "input_layernorm", m->H, 0 },
        { "post_attention_layernorm", m->H, 0 },
        { "self_attn.q_proj", m->H, m->H },
        { "self_attn.k_proj", m->kv_heads * D, m->H },
        { "self_attn.v_proj", m->kv_heads * D, m->H },
        { "self_attn.o_proj", m->H, m->H },
        { m->experts ? "block_sparse_moe.gate" : "mlp.up_proj", m->experts ? m->experts : m->I, m->H },
        { "mlp.gate_proj", m->I, m->H },
        { "mlp.down_proj", m->H, m->I },
    };

    for (size_t i = 0; i < (m->experts ? 7 : 9); i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].name);
        add_tensor(header, data_size, name, parts[i].rows, parts[i].columns);
    }
    for (int64_t x = 0; x < m->experts; x++)
        for (int w = 1; w <= 3; w++) {
            snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.experts.%" PRId64 ".w%d.weight", layer, x, w);
            add_tensor(header, data_size, name, w == 2 ? m->H : m->I, w == 2 ? m->I : m->H);
        }
}

static size_t write_shares(const char *dir, const struct shares *m)
{
    char *header = calloc(1, 1), config[1024];
    size_t data_size = 0;
    const int n = snprintf(config, sizeof config,
                           "{\"model_type\":\"%s\",\"architectures\":[\"%s\"],\"hidden_size\":%" PRId64
                           ",\"intermediate_size\":%" PRId64 ",\"num_hidden_layers\":2,\"num_attention_heads\":%" PRId64
                           ",\"num_key_value_heads\":%" PRId64 ",\"vocab_size\":%" PRId64
                           ",\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\","
                           "\"tie_word_embeddings\":%s,\"rope_theta\":10000.0,\"num_local_experts\":%" PRId64
                           ",\"num_experts_per_tok\":2}",
                           m->experts ? "mixtral" : "llama", m->experts ? "MixtralForCausalLM" : "LlamaForCausalLM",
                           m->H, m->I, m->heads, m->kv_heads, m->V, m->tied ? "true" : "false", m->experts);

    assert_non_null(header);
    add_tensor(&header, &data_size, "model.embed_tokens.weight", m->V, m->H);
    if (!m->tied)
        add_tensor(&header, &data_size, "lm_head.weight", m->V, m->H);
    add_tensor(&header, &data_size, "model.norm.weight", m->H, 0);
    for (int layer = 0; layer < 2; layer++)
        add_matrices(&header, &data_size, m, layer);
    header = realloc(header, strlen(header) + 2);
    assert_non_null(header);
    strcat(header, "}");
    void *data = calloc(1, data_size);
    assert_non_null(data);
    write_safetensors(dir, "model.safetensors", header, strlen(header), data, data_size);
    test_write(dir, "config.json", config, (size_t)n);
    free(data);
    free(header);
    return data_size;
}

/* What a rank with that share copies: its part of each matrix, and norms and routers whole. */
static uint64_t share_bytes(const struct shares *m, const struct tern_shards *part)
{
    const int64_t D = m->H / m->heads;
    const int64_t attention = (2 * part->heads.count + 2 * part->kv_heads.count) * D * m->H;
    const int64_t forward = 3 * m->H * (m->experts ? part->experts.count * m->I : part->channels.count);
    const int64_t whole = 2 * m->H + m->experts * m->H;

    return 2 * (uint64_t)(2 * (attention + forward + whole) + m->H + (m->tied ? 1 : 2) * part->vocabulary.count * m->H);
}

static void check_shares(const struct shares *m, int size)
{
    const char *dir = test_temp_dir();
    const size_t data_size = write_shares(dir, m);
    uint64_t words = 0, heads = 0;
    tern_ctx *ctx = test_ctx(1);
    struct seat s;

    seat_init(&s, size, dir, TERN_MODEL_AUTO);
    seat_run(&s);
    assert_went_well(&s);
    for (int i = 0; i < size; i++) {
        const tern_model_stats *stats = &s.ranks[i].stats;
        const tern_model_config config = { .hidden_size = (int32_t)m->H,
                                           .intermediate_size = (int32_t)m->I,
                                           .heads = (int32_t)m->heads,
                                           .kv_heads = (int32_t)m->kv_heads,
                                           .vocab_size = (int32_t)m->V };
        const struct tern_spec spec = { .experts = { .n = (int32_t)m->experts } };
        struct tern_shards part;

        assert_ok(ctx, tern_shards_make(ctx, &config, &spec, &s.ranks[i].comm, &part));
        assert_int_equal(stats->file_bytes, data_size);
        assert_int_equal(stats->weight_bytes_copied, share_bytes(m, &part));
        words += (uint64_t)part.vocabulary.count;
        heads += (uint64_t)part.heads.count;
    }
    assert_int_equal(words, m->V); /* nothing twice */
    assert_int_equal(heads, m->heads);
    tern_ctx_destroy(&ctx);
    test_remove_dir(dir);
}

/* Even shares, uneven ones, more ranks than heads of keys and values, a tied table, experts. */
static void test_weights_are_copied_once(void **state)
{
    static const struct shares all[] = {
        { .H = 128, .I = 256, .heads = 8, .kv_heads = 4, .V = 512 },
        { .H = 96, .I = 200, .heads = 6, .kv_heads = 2, .V = 301, .tied = true },
        { .H = 80, .I = 96, .heads = 5, .kv_heads = 1, .V = 130 },
        { .H = 64, .I = 64, .heads = 4, .kv_heads = 2, .V = 97, .experts = 5 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (int size = 1; size <= 4; size++)
            check_shares(&all[i], size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_are_mirrored),
        cmocka_unit_test(test_narrow_dtypes),
        cmocka_unit_test(test_cancelled_steps),
        cmocka_unit_test(test_a_rank_that_leaves),
        cmocka_unit_test(test_other_files_on_a_rank),
        cmocka_unit_test(test_other_options_on_a_rank),
        cmocka_unit_test(test_sessions_that_cannot_be_made),
        cmocka_unit_test(test_who_may_do_what),
        cmocka_unit_test(test_weights_are_copied_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
