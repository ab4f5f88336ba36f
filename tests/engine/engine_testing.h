/* engine_testing.h: what the engine's tests share: the tiny checkpoints and their goldens. */
#ifndef TERN_TESTS_ENGINE_TESTING_H
#define TERN_TESTS_ENGINE_TESTING_H

#include "testing.h"

#include "base/json.h"

#include <tern/generate.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_PROMPTS 4
#define GOLDEN_MAX     512 /* ids of a prompt with what follows it */

/* golden.json: prompts, and the ids that follow each one greedily. */
struct golden {
    size_t n_prompt[GOLDEN_PROMPTS], n_ids[GOLDEN_PROMPTS]; /* the prompt's, and with what follows */
    int32_t ids[GOLDEN_PROMPTS][GOLDEN_MAX];
};

static inline struct golden golden_read(tern_ctx *ctx, const char *directory)
{
    struct golden g = { 0 };
    struct tern_json *json;
    char path[4200];

    snprintf(path, sizeof path, "%s/golden.json", directory);
    assert_ok(ctx, tern_json_read(ctx, path, 1 << 24, &json));
    for (size_t p = 0; p < GOLDEN_PROMPTS; p++) {
        static const char *const parts[] = { "prompts", "greedy" };
        for (size_t part = 0; part < 2; part++) {
            const tern_json_value *list = tern_json_at(tern_json_get(tern_json_root(json), parts[part]), p);
            assert_true(tern_json_size(list) > 0 && g.n_ids[p] + tern_json_size(list) <= GOLDEN_MAX);
            for (size_t i = 0; i < tern_json_size(list); i++)
                g.ids[p][g.n_ids[p]++] = (int32_t)tern_json_int(tern_json_at(list, i));
            if (part == 0)
                g.n_prompt[p] = g.n_ids[p];
        }
    }
    tern_json_destroy(json);
    return g;
}

static inline tern_model *open_model(tern_ctx *ctx, const char *directory)
{
    tern_model *model;

    assert_ok(ctx, tern_model_open(ctx, directory, NULL, &model));
    return model;
}

static inline int32_t argmax(const float *x, int32_t n)
{
    int32_t best = 0;

    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* A context at an instruction set level, or NULL where the machine does not have it. */
static inline tern_ctx *ctx_at(int threads, const char *cpu)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[256];
    tern_ctx *ctx;

    options.n_threads = threads;
    options.cpu = cpu;
    const tern_status status = tern_ctx_create(&ctx, &options, message, sizeof message);
    if (status != TERN_OK) {
        assert_int_equal(status, TERN_ERR_ARG);
        test_say_skip("%s: %s", cpu, message);
    }
    return ctx;
}

static const char *const isa_levels[] = { "portable", "neon", "avx2", "avx512", "avx512vnni", "avx512bf16" };
#define N_ISA_LEVELS (sizeof isa_levels / sizeof *isa_levels)

#endif
