/* hub.c: from a model's name to its directory, in the file system and in the cache that Hugging Face's tools keep.
 *
 *   CACHE/models--ORG--NAME/refs/main                 holds a revision
 *   CACHE/models--ORG--NAME/snapshots/REVISION/       holds links to the files
 *
 * Source: huggingface_hub, docs/source/en/guides/manage-cache.md and src/huggingface_hub/constants.py. */
#include "base/file.h"
#include "base/memory.h"
#include "model/model.h"
#include "model/module_list.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REVISION_MAX 256
#define MODULES_MAX  ((size_t)1 << 20)

static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* dir/name, whose first part is freed. */
static tern_status append(tern_ctx *ctx, char **path, const char *name)
{
    char *longer;

    TERN_TRY(tern_path_join(ctx, *path, name, &longer));
    tern_free(*path);
    *path = longer;
    return TERN_OK;
}

/* The cache's directory; NULL if the environment does not even name a home. */
static tern_status find_cache(tern_ctx *ctx, char **out)
{
    const char *hub = variable("HF_HUB_CACHE");

    *out = NULL;
    if (!hub)
        hub = variable("HUGGINGFACE_HUB_CACHE"); /* its name before 2023 */
    if (hub)
        return tern_strndup(ctx, hub, strlen(hub), "a path", out);
    if (variable("HF_HOME"))
        return tern_path_join(ctx, variable("HF_HOME"), "hub", out);
    if (variable("XDG_CACHE_HOME"))
        return tern_path_join(ctx, variable("XDG_CACHE_HOME"), "huggingface/hub", out);
    return variable("HOME") ? tern_path_join(ctx, variable("HOME"), ".cache/huggingface/hub", out) : TERN_OK;
}

/* "org/name" or "name", of the letters that the hub allows. */
static bool is_repository(const char *name)
{
    int slashes = 0;
    const size_t n = strlen(name);

    if (n == 0 || n > 200 || name[0] == '/' || name[0] == '.' || name[n - 1] == '/' || strstr(name, ".."))
        return false;
    for (const char *p = name; *p; p++) {
        const bool letter =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-_.", *p);
        slashes += *p == '/';
        if (!letter && *p != '/')
            return false;
    }
    return slashes <= 1;
}

/* What refs/main says, "" if there is no such file. */
static tern_status read_revision(tern_ctx *ctx, const char *repository, char revision[REVISION_MAX])
{
    char *path = NULL, *text = NULL;
    size_t size;
    tern_status status;

    revision[0] = '\0';
    TERN_TRY_OR_FAIL(tern_path_join(ctx, repository, "refs/main", &path));
    status = TERN_OK;
    if (!tern_path_is_file(path))
        goto fail;
    TERN_TRY_OR_FAIL(tern_file_read(ctx, path, REVISION_MAX - 1, &text, &size));
    while (size > 0 && strchr(" \t\r\n", text[size - 1]))
        text[--size] = '\0';
    TERN_REQUIRE_OR_FAIL(ctx, size > 0 && size == strlen(text) && !strchr(text, '/') && !strstr(text, ".."),
                         TERN_ERR_FORMAT, "%s: says \"%s\", expected the name of a snapshot", path, text);
    memcpy(revision, text, size + 1);

fail:
    tern_free(text);
    tern_free(path);
    return status;
}

/* The only directory in snapshots/, and how many there are. */
static int only_snapshot(const char *snapshots, char revision[REVISION_MAX])
{
    DIR *dir = opendir(snapshots);
    const struct dirent *entry;
    int n = 0;

    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < REVISION_MAX) {
            memcpy(revision, entry->d_name, strlen(entry->d_name) + 1);
            n++;
        }
    if (dir)
        closedir(dir);
    return n;
}

/* The snapshot of a repository in the cache; *out stays NULL if it is not there. */
static tern_status find_snapshot(tern_ctx *ctx, const char *cache, const char *name, char **out)
{
    const char *slash = strchr(name, '/');
    char folder[512], revision[REVISION_MAX];
    char *path = NULL;
    tern_status status;

    if (slash)
        snprintf(folder, sizeof folder, "models--%.*s--%s", (int)(slash - name), name, slash + 1);
    else
        snprintf(folder, sizeof folder, "models--%s", name);
    TERN_TRY_OR_FAIL(tern_path_join(ctx, cache, folder, &path));
    TERN_TRY_OR_FAIL(read_revision(ctx, path, revision));
    TERN_TRY_OR_FAIL(append(ctx, &path, "snapshots"));
    if (!revision[0]) {
        const int n = only_snapshot(path, revision);
        TERN_REQUIRE_OR_FAIL(ctx, n <= 1, TERN_ERR_NOT_FOUND,
                             "%s: has %d snapshots and no refs/main says which: give the directory of one", path, n);
        if (n == 0)
            goto fail;
    }
    TERN_TRY_OR_FAIL(append(ctx, &path, revision));
    if (tern_path_is_dir(path)) {
        *out = path;
        path = NULL;
    }

fail:
    tern_free(path);
    return status;
}

tern_status tern_directory_find(tern_ctx *ctx, const char *name, char **path)
{
    char *cache = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, path, TERN_ERR_ARG, "model_find: path is NULL, expected a place for the path");
    *path = NULL;
    TERN_REQUIRE(ctx, name && *name, TERN_ERR_ARG, "model name is empty, expected a directory or org/name");
    if (tern_path_is_dir(name))
        return tern_strndup(ctx, name, strlen(name), "a path", path);
    TERN_REQUIRE(ctx, !tern_path_is_file(name), TERN_ERR_ARG,
                 "%s: is a file, expected the directory that holds config.json and model.safetensors", name);
    TERN_REQUIRE(ctx, is_repository(name), TERN_ERR_NOT_FOUND, "%s: no such directory", name);

    TERN_TRY_OR_FAIL(find_cache(ctx, &cache));
    if (cache)
        TERN_TRY_OR_FAIL(find_snapshot(ctx, cache, name, path));
    TERN_REQUIRE_OR_FAIL(
        ctx, *path, TERN_ERR_NOT_FOUND,
        "%s: no such directory, and not in the Hugging Face cache %s.  To download it: hf download %s   (older "
        "tools: huggingface-cli download %s)",
        name, cache ? cache : "(no HOME)", name, name);

fail:
    tern_free(cache);
    return status;
}

/* A directory of sentence-transformers may have its transformer in a folder of its own, which then takes the directory's place. */
static tern_status enter_transformer(tern_ctx *ctx, char **dir)
{
    struct tern_json *json = NULL;
    char *config = NULL, *modules = NULL, *folder = NULL;
    const char *type;
    tern_status status;

    TERN_TRY_OR_FAIL(tern_path_join(ctx, *dir, "config.json", &config));
    TERN_TRY_OR_FAIL(tern_path_join(ctx, *dir, "modules.json", &modules));
    if (!tern_path_is_absent(config) || tern_path_is_absent(modules))
        goto fail;
    TERN_TRY_OR_FAIL(tern_json_read(ctx, modules, MODULES_MAX, &json));
    TERN_TRY_OR_FAIL(tern_module_entry(ctx, *dir, json, 0, &type, &folder));
    TERN_REQUIRE_OR_FAIL(ctx, strcmp(tern_module_class(type), "Transformer") == 0, TERN_ERR_UNSUPPORTED,
                         "%s: module 0 is \"%s\", expected sentence_transformers' Transformer", modules, type);
    tern_free(*dir);
    *dir = folder;
    folder = NULL;

fail:
    tern_json_destroy(json);
    tern_free(folder);
    tern_free(modules);
    tern_free(config);
    return status;
}

tern_status tern_model_find(tern_ctx *ctx, const char *name, char **path)
{
    TERN_TRY(tern_directory_find(ctx, name, path));
    const tern_status status = enter_transformer(ctx, path);
    if (status != TERN_OK) {
        tern_free(*path);
        *path = NULL;
    }
    return status;
}

const char *tern_snapshot_hint(const char *dir, char *buffer, size_t size)
{
    const char *end = strstr(dir, "/snapshots/"), *begin = end;

    buffer[0] = '\0';
    while (begin && begin > dir && begin[-1] != '/')
        begin--;
    if (!begin || strncmp(begin, "models--", 8) != 0)
        return buffer;
    begin += 8;
    const char *dashes = strstr(begin, "--");
    if (dashes && dashes < end)
        snprintf(buffer, size, ".  To download all of it: hf download %.*s/%.*s", (int)(dashes - begin), begin,
                 (int)(end - dashes - 2), dashes + 2);
    else
        snprintf(buffer, size, ".  To download all of it: hf download %.*s", (int)(end - begin), begin);
    return buffer;
}

void tern_path_free(char *path)
{
    tern_free(path);
}
