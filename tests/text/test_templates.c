/* test_templates.c: conversations rendered as transformers renders them, byte for byte (tests/golden/make_templates.py). */
#include "testing.h"

#include "base/json.h"

#include <tern/chat.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *string_of(const tern_json_value *object, const char *key)
{
    const tern_json_value *value = tern_json_get(object, key);
    size_t size;

    return value && tern_json_type(value) == TERN_JSON_STRING ? tern_json_string(value, &size) : NULL;
}

/* The first byte that differs, and what stands there. */
static void compare(const char *name, size_t number, const char *got, size_t size, const char *want, size_t n_want)
{
    size_t at = 0;

    while (at < size && at < n_want && got[at] == want[at])
        at++;
    if (at == size && at == n_want)
        return;
    fail_msg("%s, case %zu, byte %zu: got '%.60s', expected '%.60s'\n--- got\n%s\n--- expected\n%s", name, number, at,
             got + at, want + at, got, want);
}

static void check_case(tern_ctx *ctx, const tern_chat *chat, const tern_json_value *c, size_t number, int64_t now)
{
    const char *messages = string_of(c, "messages"), *name = string_of(c, "template"), *error = string_of(c, "error");
    tern_chat_options options = tern_chat_options_default();
    char *text = NULL;
    size_t size, n_want = 0;

    options.tools = string_of(c, "tools");
    options.documents = string_of(c, "documents");
    options.variables = string_of(c, "variables");
    options.add_generation_prompt = tern_json_bool(tern_json_get(c, "prompt"));
    options.now = now;
    const tern_status status = tern_chat_render(ctx, chat, messages, strlen(messages), &options, &text, &size);
    if (error) {
        if (status != TERN_ERR_ARG || !strstr(tern_error(ctx), error))
            fail_msg("%s, case %zu: status %d, '%s', expected the error '%s'", name, number, status, tern_error(ctx),
                     error);
        assert_null(text);
        return;
    }
    if (status)
        fail_msg("%s, case %zu: %s", name, number, tern_error(ctx));
    const char *want = tern_json_string(tern_json_get(c, "text"), &n_want);
    compare(name, number, text, size, want, n_want);
    tern_chat_text_free(text);
}

static void renders_what_jinja2_renders(void **state)
{
    const char *const dir = test_temp_dir(), *before = "";
    tern_ctx *ctx = test_ctx(1);
    struct tern_json *golden;
    tern_chat *chat = NULL;
    size_t n, templates = 0;

    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    assert_ok(ctx, tern_json_read(ctx, test_golden("templates/templates.json"), (size_t)1 << 24, &golden));
    const tern_json_value *root = tern_json_root(golden), *cases = tern_json_get(root, "cases");
    char config[512];
    const int length = snprintf(config, sizeof config, "{\"bos_token\":{\"content\":\"%s\"},\"eos_token\":\"%s\"}",
                                string_of(tern_json_get(root, "special"), "bos_token"),
                                string_of(tern_json_get(root, "special"), "eos_token"));
    test_write(dir, "tokenizer_config.json", config, (size_t)length);
    n = tern_json_size(cases);
    for (size_t i = 0; i < n; i++) {
        const tern_json_value *c = tern_json_at(cases, i);
        const char *name = string_of(c, "template");

        if (strcmp(name, before) != 0) {
            char file[300];

            tern_chat_close(&chat);
            snprintf(file, sizeof file, "templates/%s.jinja", name);
            assert_ok(ctx, tern_chat_open(ctx, dir, test_golden(file), &chat));
            before = name;
            templates++;
        }
        check_case(ctx, chat, c, i, tern_json_int(tern_json_get(root, "now")));
    }
    printf("%zu templates, %zu cases\n", templates, n);
    assert_true(templates >= 30 && n >= 400);
    tern_chat_close(&chat);
    tern_json_destroy(golden);
    tern_ctx_destroy(&ctx);
    test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(renders_what_jinja2_renders) };

    return cmocka_run_group_tests_name("templates", tests, NULL, NULL);
}
