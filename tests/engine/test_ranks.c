/* test_ranks.c: every family on 2, 3 and 4 ranks, which are threads here: logits within 1e-5 of the largest of one process's, the ids that
 * transformers chose, the same bits on every rank and from run to run. */
/* labels: quick threads */
#include "engine/engine.h"
#include "engine/worker.h"
#include "model/golden.h"
#include "rank_group.h"

#include <tern/encode.h>
#include <tern/generate.h>

#include <dirent.h>

#define TOLERANCE 1e-5 /* of the largest |logit|: sums of as many parts as there are ranks, in each layer */
#define N_GREEDY  48
#define MOST_IDS  4096

/* What a run gives. */
struct answers {
    float *logits; /* of all prompts' tokens, or of all texts */
    size_t n_logits, capacity;
    int32_t ids[MOST_IDS]; /* greedy, of all prompts */
    size_t n_ids;
    uint64_t digest; /* of all scores that this rank has had */
    size_t n_passes;
    size_t sums; /* all-reduces that a pass has */
};

struct rank_run {
    const char *path;
    const tern_json_value *prompts;
    bool decoder;
    size_t width, outputs; /* numbers of a state and of an answer */
    tern_model_dtype dtype;
    struct rank_of *of; /* NULL: a process of its own */
    struct answers out;
    char error[512];
};

static void digest(struct answers *a, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        a->digest = (a->digest ^ bytes[i]) * 0x100000001b3;
}

static void keep(struct answers *a, const float *logits, size_t n)
{
    if (a->n_logits + n > a->capacity) {
        a->capacity = 2 * (a->n_logits + n);
        a->logits = realloc(a->logits, a->capacity * sizeof *logits);
        if (!a->logits)
            abort();
    }
    memcpy(a->logits + a->n_logits, logits, n * sizeof *logits);
    a->n_logits += n;
}

/* Ids of a prompt, without asserts: they belong to the main thread. */
static int32_t *ids_of(const tern_json_value *prompts, size_t index, int32_t *n)
{
    const tern_json_value *list = tern_json_at(prompts, index);
    int32_t *ids = calloc(tern_json_size(list), sizeof *ids);

    if (!ids)
        abort();
    *n = (int32_t)tern_json_size(list);
    for (int32_t i = 0; i < *n; i++)
        ids[i] = (int32_t)tern_json_int(tern_json_at(list, (size_t)i));
    return ids;
}

static void watch_step(void *user, const tern_session *session, tern_status step)
{
    const struct session_row *row = &session->rows[0];
    const size_t n = row->logits == TERN_LOGITS_ALL ? (size_t)row->n_ids : row->logits == TERN_LOGITS_LAST;

    struct answers *a = &((struct rank_run *)user)->out;

    a->n_passes++;
    if (step == TERN_OK)
        digest(a, session->logits + row->first_logit * (size_t)session->vocab_size,
               n * (size_t)session->vocab_size * sizeof(float));
}

/* Scores of all of a prompt's tokens, in two chunks. */
static tern_status score(struct rank_run *r, tern_session *session, const int32_t *ids, int32_t n)
{
    const int32_t cut = n / 2;
    int32_t sequence;
    tern_status status = tern_sequence_add(session, &sequence);

    if (!status)
        status = tern_sequence_plan(session, sequence, n);
    for (int32_t first = 0; !status && first < n;) {
        const int32_t end = cut > first ? cut : n;
        const tern_row row = { sequence, ids + first, end - first, TERN_LOGITS_ALL };
        status = tern_session_step(session, &row, 1);
        if (status)
            break;
        watch_step(r, session, status);
        keep(&r->out, tern_session_logits(session, 0, 0), (size_t)(end - first) * (size_t)session->vocab_size);
        first = end;
    }
    if (!status)
        status = tern_sequence_remove(session, sequence);
    return status;
}

/* Every token's scores are in the digest of every rank: rank 0 reads what it has chosen as the others do. */
static tern_status continue_greedily(struct rank_run *r, tern_session *session, const int32_t *ids, int32_t n)
{
    int32_t sequence, next = 0;
    tern_status status = tern_sequence_add(session, &sequence);

    if (!status)
        status = tern_sequence_plan(session, sequence, n + N_GREEDY);
    for (int i = 0; !status && i < N_GREEDY; i++) {
        const tern_row row = { sequence, i ? &next : ids, i ? 1 : n, TERN_LOGITS_LAST };
        status = tern_session_step(session, &row, 1);
        if (status)
            break;
        watch_step(r, session, status);
        const float *logits = tern_session_logits(session, 0, row.n_ids - 1);
        next = 0;
        for (int32_t k = 1; k < session->vocab_size; k++)
            if (logits[k] > logits[next])
                next = k;
        if (r->out.n_ids < MOST_IDS)
            r->out.ids[r->out.n_ids++] = next;
    }
    if (!status)
        status = tern_sequence_remove(session, sequence);
    return status;
}

static tern_status run_session(struct rank_run *r, tern_ctx *ctx, const tern_model *model)
{
    tern_session_options options = tern_session_options_default();
    tern_session *session = NULL;

    options.max_batch = options.max_logits = 320;
    tern_status status = tern_session_create(ctx, model, &options, &session);
    for (size_t i = 0; !status && i < tern_json_size(r->prompts); i++) {
        int32_t n, *ids = ids_of(r->prompts, i, &n);
        status = score(r, session, ids, n);
        if (!status && n + N_GREEDY <= tern_model_get_config(model)->n_context)
            status = continue_greedily(r, session, ids, n);
        free(ids);
    }
    tern_session_destroy(&session);
    return status;
}

static void take_pass(struct answers *a, const float *states, size_t n_states, const float *scores, size_t n_scores)
{
    a->n_passes++;
    digest(a, states, n_states * sizeof *states);
    if (n_scores)
        digest(a, scores, n_scores * sizeof *scores);
}

static void watch_pass(void *user, const float *states, size_t n_ids, const float *scores, size_t n_scores)
{
    struct rank_run *r = user;

    take_pass(&r->out, states, n_ids * r->width, scores, n_scores * r->outputs);
}

static tern_status run_encoder(struct rank_run *r, tern_ctx *ctx, const tern_model *model)
{
    tern_encoder *encoder = NULL;
    tern_status status = tern_encoder_create(ctx, model, NULL, &encoder);

    for (size_t i = 0; !status && i < tern_json_size(r->prompts); i++) {
        int32_t n, *ids = ids_of(r->prompts, i, &n);
        const tern_encode_text text = { .ids = ids, .n_ids = n };
        const size_t n_states = (size_t)n * r->width;
        const size_t n_scores = (model->spec.head.pool != TERN_POOL_NONE ? 1 : (size_t)n) * r->outputs;
        float *states = calloc(n_states + n_scores, sizeof *states);
        if (!states)
            abort();
        status = tern_encode(encoder, &text, 1, states, r->outputs ? states + n_states : NULL);
        if (!status) {
            keep(&r->out, states, n_states + n_scores);
            take_pass(&r->out, states, n_states, states + n_states, n_scores);
        }
        free(states);
        free(ids);
    }
    tern_encoder_destroy(&encoder);
    return status;
}

static void *run_rank(void *user)
{
    struct rank_run *r = user;
    tern_model_options options = tern_model_options_default();
    tern_ctx_options threads = tern_ctx_options_default();
    tern_ctx *ctx = NULL;
    tern_model *model = NULL;
    tern_status status;

    /* Teams beside each other: where one family shows it, the others need no more time than they take. */
    threads.n_threads = !r->of || (r->of->comm.size == 2 && strstr(r->path, "llama")) ? 2 : 1;
    status = tern_ctx_create(&ctx, &threads, r->error, sizeof r->error);
    r->out.digest = 0xcbf29ce484222325;
    options.dtype = r->dtype;
    options.comm = r->of ? &r->of->comm : NULL;
    if (!status)
        status = tern_model_open(ctx, r->path, &options, &model);
    if (!status) {
        /* One behind the embedding, and two in a layer, or one where attention and feed-forward stand side by side. */
        r->out.sums =
            1 + (size_t)tern_model_get_config(model)->n_layers * (model->spec.form == TERN_BLOCK_PARALLEL ? 1 : 2);
        r->width = (size_t)tern_model_get_config(model)->hidden_size;
        r->outputs = (size_t)tern_model_outputs(model);
        const struct tern_worker_watch watch = { .step = watch_step, .pass = watch_pass, .user = r };
        status = r->of && r->of->comm.rank != 0 ? tern_worker_serve(ctx, model, &watch)
                 : r->decoder                   ? run_session(r, ctx, model)
                                                : run_encoder(r, ctx, model);
    }
    if (status && ctx)
        snprintf(r->error, sizeof r->error, "%s", tern_error(ctx));
    if (status && r->of)
        rank_group_leave(r->of->group);
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
    return NULL;
}

/* Runs `size` ranks; rank 0's answers, to be freed. */
static struct answers run_ranks(const struct rank_run *like, int size)
{
    struct rank_run runs[MOST_RANKS];
    pthread_t threads[MOST_RANKS];
    struct rank_group group;

    rank_group_open(&group, size);
    for (int i = 0; i < size; i++) {
        runs[i] = *like;
        runs[i].of = &group.ranks[i];
        assert_int_equal(pthread_create(&threads[i], NULL, run_rank, &runs[i]), 0);
    }
    for (int i = 0; i < size; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < size; i++)
        if (runs[i].error[0])
            fail_msg("%s: rank %d of %d: %s", like->path, i, size, runs[i].error);
    for (int i = 0; i < size; i++)
        assert_int_equal(group.ranks[i].reduced, runs[i].out.n_passes * runs[i].out.sums);
    for (int i = 1; i < size; i++) {
        if (runs[i].out.digest != runs[0].out.digest)
            fail_msg("%s: rank %d of %d has other scores than rank 0", like->path, i, size);
        free(runs[i].out.logits);
    }
    rank_group_close(&group);
    return runs[0].out;
}

static double farthest; /* of all goldens: the largest difference over the largest logit */

static void check_size(const struct rank_run *like, const struct answers *alone, const tern_json_value *greedy,
                       int size)
{
    struct answers shared = run_ranks(like, size);
    double largest;

    assert_int_equal(shared.n_logits, alone->n_logits);
    const double off = difference(shared.logits, alone->logits, alone->n_logits, &largest);
    farthest = fmax(farthest, off / largest);
    if (!(off <= TOLERANCE * largest))
        fail_msg("%s on %d ranks: off by %g, the largest logit is %g", like->path, size, off, largest);
    if (size == 3) {
        const struct answers again = run_ranks(like, size);
        if (shared.digest != again.digest)
            fail_msg("%s on %d ranks: two runs have other scores", like->path, size);
        free(again.logits);
    }
    assert_int_equal(shared.n_ids, alone->n_ids);
    if (memcmp(shared.ids, alone->ids, alone->n_ids * sizeof *alone->ids) != 0)
        fail_msg("%s on %d ranks: not the ids of one process", like->path, size);
    for (size_t i = 0, k = 0; greedy && i < tern_json_size(greedy) && k < shared.n_ids; i++)
        for (size_t j = 0; j < N_GREEDY; j++, k++)
            if (tern_json_int(tern_json_at(tern_json_at(greedy, i), j)) != shared.ids[k])
                fail_msg("%s on %d ranks: id %zu of prompt %zu is %" PRId32 ", the reference's %" PRId64, like->path,
                         size, j, i, shared.ids[k], tern_json_int(tern_json_at(tern_json_at(greedy, i), j)));
    free(shared.logits);
}

static void check_folder(void **state)
{
    struct rank_run alone = { .dtype = TERN_MODEL_FP32 };
    tern_ctx *ctx = test_ctx(1);
    struct tern_json *json;
    char *dir = strdup(test_golden(*state)), *golden = malloc(strlen(dir) + 32);
    assert_true(dir && golden);
    sprintf(golden, "%s/golden.json", dir);
    assert_ok(ctx, tern_json_read(ctx, golden, 1 << 24, &json));
    const tern_json_value *root = tern_json_root(json), *greedy = tern_json_get(root, "greedy");
    alone.path = dir;
    alone.prompts = tern_json_get(root, "prompts");
    alone.decoder = greedy != NULL;

    struct rank_run like = alone;
    run_rank(&alone);
    if (alone.error[0])
        fail_msg("%s: %s", dir, alone.error);
    for (int size = 2; size <= 4; size++)
        check_size(&like, &alone.out, greedy, size);
    free(alone.out.logits);
    free(golden);
    free(dir);
    tern_json_destroy(json);
    tern_ctx_destroy(&ctx);
}

static int by_name(const void *a, const void *b)
{
    const struct CMUnitTest *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static struct CMUnitTest tests[256];
static char names[256][64];
static size_t n_tests;

/* Goldens in a folder of tests/golden whose names begin with `begin` and have `part` in them. */
static void add_folders(const char *folder, const char *begin, const char *part)
{
    DIR *dir = opendir(test_golden(folder));

    for (const struct dirent *entry; dir && n_tests < 256 && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, begin, strlen(begin)) != 0 ||
            !strstr(entry->d_name, part))
            continue;
        snprintf(names[n_tests], sizeof names[0], "%s%s%.50s", folder, *folder ? "/" : "", entry->d_name);
        tests[n_tests] =
            (struct CMUnitTest){ .name = names[n_tests], .test_func = check_folder, .initial_state = names[n_tests] };
        n_tests++;
    }
    if (dir)
        closedir(dir);
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";

    add_folders("models", "", part);
    add_folders("", "gpt2-tiny-fp", part);
    if (n_tests == 0) {
        print_error("no folder of goldens has in its name: %s\n", part);
        return 1;
    }
    qsort(tests, n_tests, sizeof tests[0], by_name);
    const int failed = _cmocka_run_group_tests("ranks", tests, n_tests, NULL, NULL);
    print_message("farthest from one process: %.2g of the largest logit\n", farthest);
    return failed;
}
