/* config_change.h: a golden's config.json with one thing changed, and what is said of it. */
#ifndef TERN_TESTS_CONFIG_CHANGE_H
#define TERN_TESTS_CONFIG_CHANGE_H

#include "checkpoint.h"
#include "model/model_config.h"

/* One more key. */
#define MORE(text) "\"vocab_size\"", text ", \"vocab_size\""

struct change {
    const char *folder, *from, *to;
    tern_status status;
    const char *words; /* of the error */
};

static inline tern_status parse(tern_ctx *ctx, const struct change *change, tern_model_config *config,
                                struct tern_spec *spec)
{
    const struct tern_arch *arch;
    struct tern_json *json;
    char path[256];
    size_t size;

    snprintf(path, sizeof path, "models/%s/config.json", change->folder);
    char *plain = test_read(test_golden(path), &size), *text = replaced(plain, change->from, change->to);
    tern_status status = tern_json_parse(ctx, text, strlen(text), "dir/config.json", &json);
    if (status == TERN_OK)
        status = tern_model_config_parse(ctx, json, &arch, config, spec);
    tern_json_destroy(json);
    free(text);
    free(plain);
    return status;
}

/* Each change has its answer, and a refusal names the file. */
static inline void check_changes(const struct change *changes, size_t n)
{
    tern_ctx *ctx = test_ctx(1);

    for (size_t i = 0; i < n; i++) {
        tern_model_config c = { 0 };
        struct tern_spec spec = { 0 };
        const tern_status status = parse(ctx, &changes[i], &c, &spec);
        if (changes[i].status == TERN_OK) {
            assert_ok(ctx, status);
        } else {
            assert_fails(ctx, status, changes[i].status, changes[i].words);
            assert_non_null(strstr(tern_error(ctx), "dir/config.json"));
        }
        tern_spec_free(&spec, c.n_labels);
    }
    tern_ctx_destroy(&ctx);
}

#endif
