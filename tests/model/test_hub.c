/* test_hub.c: a model's name becomes its directory. */
#include "testing.h"

#include <tern/model.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void make_dir(const char *root, const char *path)
{
    char full[4096];

    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(full, 0755);
            *p = '/';
        }
    assert_int_equal(mkdir(full, 0755), 0);
}

static void clear_environment(void)
{
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
}

static void expect_found(tern_ctx *ctx, const char *name, const char *end)
{
    char *path;

    assert_ok(ctx, tern_model_find(ctx, name, &path));
    assert_true(strlen(path) >= strlen(end));
    assert_string_equal(path + strlen(path) - strlen(end), end);
    tern_path_free(path);
}

static void test_cache(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    char root[4096], part[8192];

    (void)state;
    snprintf(root, sizeof root, "%s", test_temp_dir());
    make_dir(root, "home/.cache/huggingface/hub/models--org--name/refs");
    make_dir(root, "home/.cache/huggingface/hub/models--org--name/snapshots/abc");
    make_dir(root, "home/.cache/huggingface/hub/models--org--name/snapshots/def");
    test_write(root, "home/.cache/huggingface/hub/models--org--name/refs/main", "abc\n", 4);
    make_dir(root, "home/.cache/huggingface/hub/models--one/snapshots/only");
    make_dir(root, "home/.cache/huggingface/hub/models--o--two/snapshots/first");
    make_dir(root, "home/.cache/huggingface/hub/models--o--two/snapshots/second");
    make_dir(root, "home/.cache/huggingface/hub/models--o--gone/refs");
    test_write(root, "home/.cache/huggingface/hub/models--o--gone/refs/main", "123", 3);
    make_dir(root, "home/.cache/huggingface/hub/models--o--bad/refs");
    test_write(root, "home/.cache/huggingface/hub/models--o--bad/refs/main", "../../..", 8);
    make_dir(root, "hub/models--org--name/snapshots/from-hub");
    make_dir(root, "hf/hub/models--org--name/snapshots/from-hf");
    make_dir(root, "xdg/huggingface/hub/models--org--name/snapshots/from-xdg");

    char *path;
    clear_environment();
    assert_fails(ctx, tern_model_find(ctx, "org/name", &path), TERN_ERR_NOT_FOUND, "no HOME");
    snprintf(part, sizeof part, "%s/home", root);
    setenv("HOME", part, 1);
    expect_found(ctx, "org/name", "models--org--name/snapshots/abc");
    expect_found(ctx, "one", "models--one/snapshots/only");
    assert_fails(ctx, tern_model_find(ctx, "o/two", &path), TERN_ERR_NOT_FOUND, "has 2 snapshots");
    assert_null(path);
    assert_fails(ctx, tern_model_find(ctx, "o/gone", &path), TERN_ERR_NOT_FOUND, "hf download o/gone");
    assert_fails(ctx, tern_model_find(ctx, "o/bad", &path), TERN_ERR_FORMAT, "refs/main: says \"../../..\"");
    assert_fails(ctx, tern_model_find(ctx, "org/other", &path), TERN_ERR_NOT_FOUND, "hf download org/other");
    assert_non_null(strstr(tern_error(ctx), "huggingface-cli download org/other"));

    snprintf(part, sizeof part, "%s/xdg", root);
    setenv("XDG_CACHE_HOME", part, 1);
    expect_found(ctx, "org/name", "from-xdg");
    snprintf(part, sizeof part, "%s/hf", root);
    setenv("HF_HOME", part, 1);
    expect_found(ctx, "org/name", "from-hf");
    snprintf(part, sizeof part, "%s/hub", root);
    setenv("HF_HUB_CACHE", part, 1);
    expect_found(ctx, "org/name", "from-hub");

    /* A snapshot that lacks files: how to download them. */
    make_dir(root, "hub/models--one/snapshots/only");
    tern_model *model;
    assert_fails(ctx, tern_model_open(ctx, "one", NULL, &model), TERN_ERR_NOT_FOUND,
                 "it has no config.json.  To download all of it: hf download one");
    assert_fails(ctx, tern_model_open(ctx, "org/name", NULL, &model), TERN_ERR_NOT_FOUND,
                 "it has no config.json.  To download all of it: hf download org/name");
    test_remove_dir(root);
    tern_ctx_destroy(&ctx);
}

static void test_paths(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;
    char root[4096], *path;

    (void)state;
    snprintf(root, sizeof root, "%s", test_temp_dir());
    expect_found(ctx, root, root);
    assert_fails(ctx, tern_model_find(ctx, "", &path), TERN_ERR_ARG, "empty");
    assert_fails(ctx, tern_model_find(ctx, NULL, &path), TERN_ERR_ARG, "empty");
    assert_fails(ctx, tern_model_find(ctx, root, NULL), TERN_ERR_ARG, "path is NULL");
    assert_fails(ctx, tern_model_find(ctx, test_write(root, "model.safetensors", "x", 1), &path), TERN_ERR_ARG,
                 "is a file, expected the directory");
    assert_fails(ctx, tern_model_find(ctx, "./no/such/place", &path), TERN_ERR_NOT_FOUND,
                 "./no/such/place: no such directory");
    assert_fails(ctx, tern_model_find(ctx, "a b", &path), TERN_ERR_NOT_FOUND, "no such directory");
    assert_null(path);

    assert_fails(ctx, tern_model_open(ctx, root, NULL, &model), TERN_ERR_NOT_FOUND,
                 "no model in this directory: it has no config.json");
    assert_non_null(strstr(tern_error(ctx), root));
    assert_null(model);
    assert_fails(ctx, tern_model_open(ctx, root, NULL, NULL), TERN_ERR_ARG, "out is NULL");
    test_remove_dir(root);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_paths), cmocka_unit_test(test_cache) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
