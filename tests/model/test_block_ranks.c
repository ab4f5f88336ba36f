/* test_block_ranks.c: the blocks of families as they run where several ranks share them: what is reduced is not whole yet, and what is whole
 * on each rank is added once.  The other rank here has nothing, so that every sum is what one process has, up to the order of sums. */
/* labels: quick */
#include "checkpoint.h"

#include <tern/comm.h>

#include <dirent.h>
#include <math.h>

/* Rank 0 of two, the other's sums being 0: nothing to do but to count. */
static tern_status add_nothing(void *user, float *data, size_t n)
{
    (void)data;
    (void)n;
    ++*(int *)user;
    return TERN_OK;
}

enum { ROWS = 9 };

static void check(const char *name, const char *path)
{
    tern_ctx *ctx = test_ctx(2);
    tern_model_options options = tern_model_options_default();
    tern_model *model;
    int32_t ids[ROWS];
    int calls = 0;

    options.dtype = TERN_MODEL_FP32;
    assert_ok(ctx, tern_model_open(ctx, path, &options, &model));
    const tern_model_config *c = tern_model_get_config(model);
    const size_t n = (size_t)c->vocab_size * ROWS;
    if (c->task == TERN_TASK_GENERATE) {
        float *alone = malloc(n * sizeof *alone), *shared = malloc(n * sizeof *shared), largest = 0, off = 0;
        const tern_comm comm = { .user = &calls, .rank = 0, .size = 2, .all_reduce = add_nothing };

        assert_true(alone && shared);
        for (int32_t i = 0; i < ROWS; i++)
            ids[i] = i * 7 % c->vocab_size;
        run_alone(ctx, model, ids, ROWS, alone, NULL);
        for (int32_t i = 0; i < c->n_layers; i++)
            ((struct tern_block *)(uintptr_t)model->blocks[i])->comm = &comm;
        run_alone(ctx, model, ids, ROWS, shared, NULL);
        for (size_t i = 0; i < n; i++) {
            largest = fmaxf(largest, fabsf(alone[i]));
            off = fmaxf(off, fabsf(alone[i] - shared[i]));
        }
        /* A few roundings more in each of the layers. */
        if (!(off <= 1e-5F * largest))
            fail_msg("%s: off by %g, the largest logit is %g", name, (double)off, (double)largest);
        assert_in_range(calls, c->n_layers, 2 * c->n_layers);
        free(alone);
        free(shared);
    }
    tern_model_close(&model);
    tern_ctx_destroy(&ctx);
}

static void test_families(void **state)
{
    DIR *dir = opendir(test_golden("models"));
    char path[4096];
    int n = 0;

    (void)state;
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "models/%.200s", entry->d_name);
        char *full = strdup(test_golden(path));
        assert_non_null(full);
        check(entry->d_name, full);
        free(full);
        n++;
    }
    closedir(dir);
    assert_true(n > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_families) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
