/* module_list.c: see module_list.h. */
#include "model/module_list.h"

#include "base/file.h"
#include "base/memory.h"

#include <string.h>

const char *tern_module_class(const char *type)
{
    const bool theirs = strncmp(type, "sentence_transformers.", strlen("sentence_transformers.")) == 0;

    return theirs ? strrchr(type, '.') + 1 : type;
}

static tern_status need_string(tern_ctx *ctx, const struct tern_json *json, size_t index, const char *key,
                               const char **out)
{
    const tern_json_value *module = tern_json_at(tern_json_root(json), index);

    TERN_REQUIRE(ctx, tern_json_type(module) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: module %zu is %s, expected an object", tern_json_where(json), index, tern_json_type_name(module));
    TERN_TRY(tern_json_opt_string(ctx, json, module, key, NULL, out));
    TERN_REQUIRE(ctx, *out, TERN_ERR_FORMAT, "%s: module %zu has no \"%s\"", tern_json_where(json), index, key);
    return TERN_OK;
}

/* The library keeps modules by their names: of two that share one it would lose the first. */
static tern_status check_name(tern_ctx *ctx, const struct tern_json *json, size_t index)
{
    const char *name, *other;

    TERN_TRY(need_string(ctx, json, index, "name", &name));
    for (size_t i = 0; i < index; i++) {
        TERN_TRY(need_string(ctx, json, i, "name", &other));
        TERN_REQUIRE(ctx, strcmp(name, other) != 0, TERN_ERR_FORMAT,
                     "%s: modules %zu and %zu are both called \"%s\", expected a name for each", tern_json_where(json),
                     i, index, name);
    }
    return TERN_OK;
}

tern_status tern_module_entry(tern_ctx *ctx, const char *dir, const struct tern_json *json, size_t index,
                              const char **type, char **folder)
{
    const char *path, *class;

    *type = NULL;
    *folder = NULL;
    TERN_TRY(check_name(ctx, json, index));
    TERN_TRY(need_string(ctx, json, index, "type", &class));
    TERN_TRY(need_string(ctx, json, index, "path", &path));
    TERN_REQUIRE(ctx, path[0] != '/' && !strstr(path, ".."), TERN_ERR_FORMAT,
                 "%s: path is \"%s\", expected a folder inside of the directory", tern_json_where(json), path);
    TERN_TRY(path[0] ? tern_path_join(ctx, dir, path, folder) : tern_strndup(ctx, dir, strlen(dir), "a path", folder));
    *type = class;
    return TERN_OK;
}
