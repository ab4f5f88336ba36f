/* chat.c: where a checkpoint keeps its chat templates, and what they are rendered with. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/template.h"

#include <tern/chat.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONFIG_MAX ((size_t)1 << 26) /* bytes of tokenizer_config.json: added tokens may be many */
#define NAMES_MAX  64                /* templates of a checkpoint */
#define N_SPECIAL  7

static const char *const special_names[N_SPECIAL] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                                      "pad_token", "cls_token", "mask_token" };

struct named_template {
    char *name;
    struct tern_template *tmpl; /* NULL: it is wrong */
    tern_status status;
    char *error; /* of a wrong one */
};

struct tern_chat {
    struct named_template *templates;
    size_t count, capacity;
    char *special[N_SPECIAL];
};

/* ---- opening ---- */

/* Takes a template's text.  A wrong one is kept with its error; what is no mistake of the template's is handed on. */
static tern_status add_template(tern_ctx *ctx, struct tern_chat *chat, const char *name, const char *where,
                                const char *source, size_t size)
{
    struct named_template *t;

    for (size_t i = 0; i < chat->count; i++)
        TERN_REQUIRE(ctx, strcmp(chat->templates[i].name, name) != 0, TERN_ERR_FORMAT,
                     "%s: there are two chat templates '%s'", where, name);
    TERN_REQUIRE(ctx, chat->count < NAMES_MAX, TERN_ERR_CAPACITY, "%s: more than %d chat templates", where, NAMES_MAX);
    TERN_TRY(TERN_GROW(ctx, &chat->templates, &chat->capacity, chat->count + 1, "chat templates"));
    t = &chat->templates[chat->count];
    *t = (struct named_template){ 0 };
    TERN_TRY(tern_strndup(ctx, name, strlen(name), "a template's name", &t->name));
    chat->count++;
    t->status = tern_template_parse(ctx, where, source, size, &t->tmpl);
    if (!t->status)
        return TERN_OK;
    if (t->status == TERN_ERR_MEMORY)
        return t->status;
    const size_t length = strlen(tern_error(ctx));
    return tern_strndup(ctx, tern_error(ctx), length, "an error", &t->error);
}

static tern_status add_file(tern_ctx *ctx, struct tern_chat *chat, const char *name, const char *path)
{
    char *source = NULL;
    size_t size = 0, bom = 0;

    TERN_TRY(tern_file_read(ctx, path, TERN_TEMPLATE_SOURCE_MAX, &source, &size));
    if (size >= 3 && memcmp(source, "\xef\xbb\xbf", 3) == 0)
        bom = 3;
    const tern_status status = add_template(ctx, chat, name, path, source + bom, size - bom);
    tern_free(source);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* NAME.jinja in dir/additional_chat_templates, in the order of their names. */
static tern_status add_folder(tern_ctx *ctx, struct tern_chat *chat, const char *dir)
{
    char *names[NAMES_MAX] = { NULL };
    size_t n = 0;
    char *folder = NULL;
    DIR *entries;
    tern_status status = TERN_OK;

    TERN_TRY(tern_path_join(ctx, dir, "additional_chat_templates", &folder));
    entries = opendir(folder);
    for (struct dirent *e = NULL; !status && entries && (e = readdir(entries));) {
        const size_t length = strlen(e->d_name);

        if (length <= 6 || strcmp(e->d_name + length - 6, ".jinja") != 0)
            continue;
        if (n == NAMES_MAX)
            status = tern_fail(ctx, TERN_ERR_CAPACITY, "%s: more than %d chat templates", folder, NAMES_MAX);
        else
            status = tern_strndup(ctx, e->d_name, length - 6, "a template's name", &names[n]);
        n += status == TERN_OK;
    }
    if (!entries && errno != ENOENT && errno != ENOTDIR)
        status = tern_fail(ctx, TERN_ERR_IO, "%s: %s", folder, strerror(errno));
    if (entries)
        closedir(entries);
    qsort(names, n, sizeof names[0], by_name);
    for (size_t i = 0; i < n; i++) {
        char *path = NULL, file[300];

        snprintf(file, sizeof file, "%s.jinja", names[i]);
        if (!status)
            status = tern_path_join(ctx, folder, file, &path);
        if (!status)
            status = add_file(ctx, chat, names[i], path);
        tern_free(path);
        tern_free(names[i]);
    }
    tern_free(folder);
    return status;
}

/* chat_template of tokenizer_config.json: a text, or a list of named ones. */
static tern_status add_config(tern_ctx *ctx, struct tern_chat *chat, const struct tern_json *json)
{
    const tern_json_value *value = tern_json_get(tern_json_root(json), "chat_template");
    const char *where = tern_json_where(json);
    char label[4200];
    size_t size;

    snprintf(label, sizeof label, "%s, chat_template", where);
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    if (tern_json_type(value) == TERN_JSON_STRING) {
        const char *text = tern_json_string(value, &size);

        return add_template(ctx, chat, "default", label, text, size);
    }
    TERN_REQUIRE(ctx, tern_json_type(value) == TERN_JSON_ARRAY, TERN_ERR_FORMAT,
                 "%s: chat_template is %s, expected a string or an array", where, tern_json_type_name(value));
    for (size_t i = 0; i < tern_json_size(value); i++) {
        const tern_json_value *item = tern_json_at(value, i), *text = tern_json_get(item, "template");
        const char *name = NULL;

        TERN_REQUIRE(ctx, tern_json_type(item) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                     "%s: chat_template[%zu] is %s, expected an object", where, i, tern_json_type_name(item));
        TERN_TRY(tern_json_opt_string(ctx, json, item, "name", NULL, &name));
        TERN_REQUIRE(ctx, name && text && tern_json_type(text) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                     "%s: chat_template[%zu] wants a name and a template, got %s and %s", where, i,
                     name ? name : "nothing", tern_json_type_name(text));
        const char *source = tern_json_string(text, &size);
        snprintf(label, sizeof label, "%s, chat_template '%s'", where, name);
        TERN_TRY(add_template(ctx, chat, name, label, source, size));
    }
    return TERN_OK;
}

/* A token is a text, or an object with it as content. */
static tern_status add_special(tern_ctx *ctx, struct tern_chat *chat, const struct tern_json *json)
{
    for (int i = 0; i < N_SPECIAL; i++) {
        const tern_json_value *value = tern_json_get(tern_json_root(json), special_names[i]);
        size_t size;

        if (value && tern_json_type(value) == TERN_JSON_OBJECT)
            value = tern_json_get(value, "content");
        if (!value || tern_json_type(value) == TERN_JSON_NULL || chat->special[i])
            continue;
        TERN_REQUIRE(ctx, tern_json_type(value) == TERN_JSON_STRING, TERN_ERR_FORMAT, "%s: %s is %s, expected a string",
                     tern_json_where(json), special_names[i], tern_json_type_name(value));
        const char *text = tern_json_string(value, &size);
        TERN_REQUIRE(ctx, memchr(text, '\0', size) == NULL, TERN_ERR_FORMAT, "%s: %s has a NUL", tern_json_where(json),
                     special_names[i]);
        TERN_TRY(tern_strndup(ctx, text, size, "a special token", &chat->special[i]));
    }
    return TERN_OK;
}

/* A JSON file that need not be there; NULL then. */
static tern_status read_optional(tern_ctx *ctx, const char *dir, const char *name, struct tern_json **out)
{
    char *path = NULL;
    tern_status status;

    *out = NULL;
    TERN_TRY(tern_path_join(ctx, dir, name, &path));
    status = tern_path_is_absent(path) ? TERN_OK : tern_json_read(ctx, path, CONFIG_MAX, out);
    if (!status && *out && tern_json_type(tern_json_root(*out)) != TERN_JSON_OBJECT) {
        status = tern_fail(ctx, TERN_ERR_FORMAT, "%s: the file holds %s, expected an object", path,
                           tern_json_type_name(tern_json_root(*out)));
        tern_json_destroy(*out);
        *out = NULL;
    }
    tern_free(path);
    return status;
}

static tern_status add_all(tern_ctx *ctx, struct tern_chat *chat, const char *dir, const char *file)
{
    struct tern_json *config = NULL, *map = NULL;
    char *path = NULL;
    tern_status status;

    TERN_TRY_OR_FAIL(tern_path_join(ctx, dir, "chat_template.jinja", &path));
    TERN_TRY_OR_FAIL(read_optional(ctx, dir, "tokenizer_config.json", &config));
    TERN_TRY_OR_FAIL(read_optional(ctx, dir, "special_tokens_map.json", &map));
    if (file) {
        TERN_TRY_OR_FAIL(add_file(ctx, chat, "default", file));
    } else {
        if (!tern_path_is_absent(path))
            TERN_TRY_OR_FAIL(add_file(ctx, chat, "default", path));
        TERN_TRY_OR_FAIL(add_folder(ctx, chat, dir));
        if (chat->count == 0 && config)
            TERN_TRY_OR_FAIL(add_config(ctx, chat, config));
    }
    if (config)
        TERN_TRY_OR_FAIL(add_special(ctx, chat, config));
    if (map)
        TERN_TRY_OR_FAIL(add_special(ctx, chat, map));
    TERN_REQUIRE_OR_FAIL(ctx, chat->count > 0, TERN_ERR_NOT_FOUND,
                         "%s has no chat template: neither chat_template.jinja, nor additional_chat_templates, nor "
                         "chat_template in tokenizer_config.json",
                         dir);
fail:
    tern_free(path);
    tern_json_destroy(config);
    tern_json_destroy(map);
    return status;
}

/* All are wrong: the first one's error. */
static tern_status check_any(tern_ctx *ctx, const struct tern_chat *chat)
{
    for (size_t i = 0; i < chat->count; i++)
        if (chat->templates[i].tmpl)
            return TERN_OK;
    return tern_fail(ctx, chat->templates[0].status, "%s", chat->templates[0].error);
}

void tern_chat_close(tern_chat **chat)
{
    tern_chat *c = chat ? *chat : NULL;

    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++) {
        tern_template_destroy(c->templates[i].tmpl);
        tern_free(c->templates[i].name);
        tern_free(c->templates[i].error);
    }
    for (int i = 0; i < N_SPECIAL; i++)
        tern_free(c->special[i]);
    tern_free(c->templates);
    tern_free(c);
    *chat = NULL;
}

tern_status tern_chat_open(tern_ctx *ctx, const char *dir, const char *file, tern_chat **out)
{
    struct tern_chat *chat = NULL;
    char *parent = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "chat_open: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, dir, TERN_ERR_ARG, "chat_open: dir is NULL");
    if (tern_path_is_file(dir)) {
        const char *slash = strrchr(dir, '/');

        TERN_TRY(tern_strndup(ctx, slash ? dir : ".", slash ? (size_t)(slash - dir) + (slash == dir) : 1, "a path",
                              &parent));
    }
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, 1, "chat templates", &chat));
    TERN_TRY_OR_FAIL(add_all(ctx, chat, parent ? parent : dir, file));
    TERN_TRY_OR_FAIL(check_any(ctx, chat));
    tern_free(parent);
    *out = chat;
    return TERN_OK;
fail:
    tern_free(parent);
    tern_chat_close(&chat);
    return status;
}

tern_status tern_chat_parse(tern_ctx *ctx, const char *name, const char *source, size_t size, tern_chat **out)
{
    struct tern_chat *chat = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "chat_parse: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, name && source, TERN_ERR_ARG, "chat_parse: %s is NULL", name ? "source" : "name");
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, 1, "chat templates", &chat));
    TERN_TRY_OR_FAIL(add_template(ctx, chat, "default", name, source, size));
    TERN_TRY_OR_FAIL(check_any(ctx, chat));
    *out = chat;
    return TERN_OK;
fail:
    tern_chat_close(&chat);
    return status;
}

size_t tern_chat_count(const tern_chat *chat)
{
    return chat ? chat->count : 0;
}

const char *tern_chat_name(const tern_chat *chat, size_t index)
{
    return index < tern_chat_count(chat) ? chat->templates[index].name : NULL;
}

const char *tern_chat_special(const tern_chat *chat, const char *name)
{
    for (int i = 0; chat && name && i < N_SPECIAL; i++)
        if (strcmp(name, special_names[i]) == 0)
            return chat->special[i];
    return NULL;
}

/* ---- rendering ---- */

tern_chat_options tern_chat_options_default(void)
{
    return (tern_chat_options){ .add_generation_prompt = true, .now = -1 };
}

void tern_chat_text_free(char *text)
{
    tern_free(text);
}

static const struct named_template *find(const tern_chat *chat, const char *name)
{
    for (size_t i = 0; i < chat->count; i++)
        if (strcmp(chat->templates[i].name, name) == 0)
            return &chat->templates[i];
    return NULL;
}

static tern_status choose(tern_ctx *ctx, const tern_chat *chat, const tern_chat_options *o,
                          const struct named_template **out)
{
    const struct named_template *t = NULL;
    char names[256] = "";

    if (o->name)
        t = find(chat, o->name);
    else if (o->tools)
        t = find(chat, "tool_use");
    if (!t && !o->name)
        t = find(chat, "default");
    for (size_t i = 0, n = 0; !t && i < chat->count && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", chat->templates[i].name);
    TERN_REQUIRE(ctx, t || o->name, TERN_ERR_NOT_FOUND,
                 "no chat template is asked for by name, and none is called 'default'; there are: %s", names);
    TERN_REQUIRE(ctx, t, TERN_ERR_NOT_FOUND, "there is no chat template '%s'; there are: %s", o->name, names);
    TERN_REQUIRE(ctx, t->tmpl, t->status, "%s", t->error);
    *out = t;
    return TERN_OK;
}

/* Everything that a rendering borrows, and gives back at its end. */
struct inputs {
    struct tern_json *messages, *tools, *documents, *variables;
    struct tern_variable *list;
    size_t count, capacity;
};

static tern_status add_variable(tern_ctx *ctx, struct inputs *in, struct tern_variable v)
{
    TERN_TRY(TERN_GROW(ctx, &in->list, &in->capacity, in->count + 1, "a template's variables"));
    in->list[in->count++] = v;
    return TERN_OK;
}

static tern_status parse_array(tern_ctx *ctx, const char *text, size_t size, const char *what, struct tern_json **out)
{
    TERN_TRY(tern_json_parse_with(ctx, text, size, what, TERN_JSON_LAST_WINS | TERN_JSON_EXACT, out));
    const tern_json_value *root = tern_json_root(*out);
    TERN_REQUIRE(ctx, tern_json_type(root) == TERN_JSON_ARRAY, TERN_ERR_FORMAT, "%s: %s, expected an array of objects",
                 what, tern_json_type_name(root));
    for (size_t i = 0; i < tern_json_size(root); i++)
        TERN_REQUIRE(ctx, tern_json_type(tern_json_at(root, i)) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                     "%s: element %zu is %s, expected an object", what, i, tern_json_type_name(tern_json_at(root, i)));
    return TERN_OK;
}

static tern_status add_optional(tern_ctx *ctx, struct inputs *in, const char *text, const char *name,
                                struct tern_json **json)
{
    struct tern_variable v = { .name = name, .kind = TERN_VARIABLE_NONE };

    if (text) {
        TERN_TRY(parse_array(ctx, text, strlen(text), name, json));
        v.kind = TERN_VARIABLE_JSON;
        v.json = tern_json_root(*json);
    }
    return add_variable(ctx, in, v);
}

static tern_status add_variables(tern_ctx *ctx, struct inputs *in, const tern_chat_options *o)
{
    if (!o->variables)
        return TERN_OK;
    TERN_TRY(tern_json_parse_with(ctx, o->variables, strlen(o->variables), "variables",
                                  TERN_JSON_LAST_WINS | TERN_JSON_EXACT, &in->variables));
    const tern_json_value *root = tern_json_root(in->variables);
    TERN_REQUIRE(ctx, tern_json_type(root) == TERN_JSON_OBJECT, TERN_ERR_FORMAT, "variables: %s, expected an object",
                 tern_json_type_name(root));
    for (void *it = tern_json_iter(root); it; it = tern_json_next(root, it)) {
        size_t length;
        const char *name = tern_json_iter_key(it, &length);

        for (size_t i = 0; i < 4; i++)
            TERN_REQUIRE(ctx, strcmp(in->list[i].name, name) != 0, TERN_ERR_ARG, "variables: '%s' is not set this way",
                         name);
        TERN_TRY(add_variable(
            ctx, in,
            (struct tern_variable){ .name = name, .kind = TERN_VARIABLE_JSON, .json = tern_json_iter_value(it) }));
    }
    return TERN_OK;
}

static tern_status gather(tern_ctx *ctx, struct inputs *in, const tern_chat *chat, const char *messages, size_t size,
                          const tern_chat_options *o)
{
    TERN_TRY(parse_array(ctx, messages, size, "messages", &in->messages));
    TERN_TRY(add_variable(ctx, in,
                          (struct tern_variable){ .name = "messages",
                                                  .kind = TERN_VARIABLE_MESSAGES,
                                                  .json = tern_json_root(in->messages) }));
    TERN_TRY(add_variable(ctx, in,
                          (struct tern_variable){ .name = "add_generation_prompt",
                                                  .kind = TERN_VARIABLE_BOOL,
                                                  .truth = o->add_generation_prompt }));
    TERN_TRY(add_optional(ctx, in, o->tools, "tools", &in->tools));
    TERN_TRY(add_optional(ctx, in, o->documents, "documents", &in->documents));
    for (int i = 0; i < N_SPECIAL; i++)
        if (chat->special[i])
            TERN_TRY(add_variable(ctx, in,
                                  (struct tern_variable){ .name = special_names[i],
                                                          .kind = TERN_VARIABLE_TEXT,
                                                          .text = chat->special[i] }));
    return add_variables(ctx, in, o);
}

static tern_status check_options(tern_ctx *ctx, const tern_chat_options *o, struct tern_template_limits *limits)
{
    *limits = tern_template_limits_default();
    TERN_TRY(TERN_CHECK_RESERVED(ctx, "chat_render", o));
    TERN_REQUIRE(ctx, o->max_depth <= limits->depth, TERN_ERR_ARG,
                 "chat_render: max_depth is %" PRIu32 ", expected at most %u", o->max_depth, limits->depth);
    TERN_REQUIRE(ctx, o->now >= -1, TERN_ERR_ARG, "chat_render: now is %" PRId64 ", expected at least 0, or -1",
                 o->now);
    limits->steps = o->max_steps ? o->max_steps : limits->steps;
    limits->depth = o->max_depth ? o->max_depth : limits->depth;
    limits->output = o->max_output ? o->max_output : limits->output;
    limits->memory = o->max_memory ? o->max_memory : limits->memory;
    return TERN_OK;
}

tern_status tern_chat_render(tern_ctx *ctx, const tern_chat *chat, const char *messages, size_t size,
                             const tern_chat_options *options, char **text, size_t *n_text)
{
    const tern_chat_options standard = tern_chat_options_default(), *o = options ? options : &standard;
    const struct named_template *t = NULL;
    struct tern_template_limits limits;
    struct inputs in = { 0 };
    size_t n = 0;
    tern_status status;

    TERN_REQUIRE(ctx, text, TERN_ERR_ARG, "chat_render: text is NULL");
    *text = NULL;
    TERN_REQUIRE(ctx, chat && messages, TERN_ERR_ARG, "chat_render: %s is NULL", chat ? "messages" : "chat");
    TERN_TRY(check_options(ctx, o, &limits));
    TERN_TRY(choose(ctx, chat, o, &t));
    status = gather(ctx, &in, chat, messages, size, o);
    if (!status)
        status = tern_template_render(ctx, t->tmpl, in.list, in.count, &limits,
                                      o->now >= 0 ? o->now : (int64_t)time(NULL), text, &n);
    if (n_text)
        *n_text = n;
    tern_json_destroy(in.messages);
    tern_json_destroy(in.tools);
    tern_json_destroy(in.documents);
    tern_json_destroy(in.variables);
    tern_free(in.list);
    return status;
}
