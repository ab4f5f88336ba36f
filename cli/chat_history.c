/* chat_history.c: messages are kept as JSON and taken apart by chat templates of our own, so that whatever a file has in a message (calls
 * of tools, parts, reasoning) comes back as it was. */
#include "chat_history.h"

#include "json_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line per message: its role's letter, and itself. */
static const char splitter[] =
    "{% for m in messages %}{{ m.role[0] if m.role in ['system', 'user', 'assistant', 'tool'] "
    "else '?' }}{{ m | tojson }}\n{% endfor %}\n";
static const char shower[] =
    "{% for m in messages %}{{ m.role | default('?') }}: {{ m.content if m.content is string else m | "
    "tojson }}\n{% endfor %}\n";

static int no_memory(void)
{
    return cli_error(CLI_FAIL, "out of memory for a message");
}

/* Takes `json` over, also where it fails. */
static int insert(struct chat_history *h, size_t at, char *json, char role)
{
    if (json && h->count == h->capacity) {
        const size_t capacity = h->capacity ? 2 * h->capacity : 16;
        struct chat_message *grown = realloc(h->data, capacity * sizeof(*grown));

        if (!grown) {
            free(json);
            json = NULL;
        } else {
            h->data = grown;
            h->capacity = capacity;
        }
    }
    if (!json)
        return no_memory();
    memmove(h->data + at + 1, h->data + at, (h->count - at) * sizeof(*h->data));
    h->data[at] = (struct chat_message){ json, role };
    h->count++;
    return 0;
}

static char *compose(const char *role, const char *content, size_t size)
{
    struct json_out j = { 0 };
    char *text = NULL;
    size_t length;

    j.f = open_memstream(&text, &length);
    if (!j.f)
        return NULL;
    out_object_begin(&j, NULL);
    out_name(&j, "role", role);
    out_text(&j, "content", content, size);
    out_object_end(&j);
    if (fclose(j.f)) {
        free(text);
        return NULL;
    }
    return text;
}

int chat_history_add(struct chat_history *h, const char *role, const char *content, size_t size)
{
    return insert(h, h->count, compose(role, content, size), role[0]);
}

void chat_history_cut(struct chat_history *h, size_t count)
{
    while (h->count > count)
        free(h->data[--h->count].json);
}

void chat_history_free(struct chat_history *h)
{
    chat_history_cut(h, 0);
    free(h->data);
    *h = (struct chat_history){ 0 };
}

size_t chat_history_last(const struct chat_history *h, char role)
{
    for (size_t i = h->count; i > 0; i--)
        if (h->data[i - 1].role == role)
            return i - 1;
    return h->count;
}

int chat_history_system(struct chat_history *h, const char *content)
{
    if (*content) {
        const int code = insert(h, 0, compose("system", content, strlen(content)), 's');

        if (code)
            return code;
    }
    const size_t old = *content != '\0'; /* the one that was first before */
    if (h->count > old && h->data[old].role == 's') {
        free(h->data[old].json);
        h->count--;
        memmove(h->data + old, h->data + old + 1, (h->count - old) * sizeof(*h->data));
    }
    return 0;
}

int chat_history_json(const struct chat_history *h, char **out, size_t *size)
{
    FILE *f = open_memstream(out, size);

    if (!f)
        return no_memory();
    putc('[', f);
    for (size_t i = 0; i < h->count; i++)
        fprintf(f, "%s%s", i ? ",\n " : "", h->data[i].json);
    fputs("]\n", f);
    if (fclose(f)) {
        free(*out);
        *out = NULL;
        return no_memory();
    }
    return 0;
}

/* Written beside the file first, so that a failure leaves the old one. */
int chat_history_save(const struct chat_history *h, const char *file)
{
    char *text = NULL, *temporary = NULL;
    size_t size = 0;
    int code = chat_history_json(h, &text, &size);

    if (!code && asprintf(&temporary, "%s.%ld.part", file, (long)getpid()) < 0) {
        temporary = NULL;
        code = no_memory();
    }
    FILE *f = code ? NULL : fopen(temporary, "we");
    bool written = false;
    if (f) {
        written = fwrite(text, 1, size, f) == size;
        written = fclose(f) == 0 && written && rename(temporary, file) == 0;
    }
    if (!code && !written) {
        code = cli_error(CLI_FAIL, "cannot write '%s': %s", file, strerror(errno));
        if (f)
            unlink(temporary);
    }
    free(temporary);
    free(text);
    return code;
}

/* Renders messages with one of our templates; the text is freed with tern_chat_text_free(). */
static int take_apart(tern_ctx *ctx, const char *name, const char *source, const char *messages, size_t size,
                      char **out)
{
    tern_chat *chat = NULL;
    tern_status status = tern_chat_parse(ctx, name, source, strlen(source), &chat);

    *out = NULL;
    if (!status)
        status = tern_chat_render(ctx, chat, messages, size, NULL, out, NULL);
    const int code = status ? cli_fail(status, tern_error(ctx)) : 0;
    tern_chat_close(&chat);
    return code;
}

int chat_history_load(tern_ctx *ctx, struct chat_history *h, const char *file)
{
    struct chat_history loaded = { 0 };
    struct cli_text text = { 0 };
    char *lines = NULL;
    int code = cli_file_read(file, "", &text);

    if (!code)
        code = take_apart(ctx, file, splitter, text.data ? text.data : "", text.size, &lines);
    for (char *line = lines, *end; !code && line && (end = strchr(line, '\n')); line = end + 1)
        code = insert(&loaded, loaded.count, strndup(line + 1, (size_t)(end - line - 1)), *line);
    if (!code) {
        const struct chat_history before = *h;

        *h = loaded;
        loaded = before;
    }
    chat_history_free(&loaded);
    tern_chat_text_free(lines);
    cli_text_free(&text);
    return code;
}

int chat_history_show(tern_ctx *ctx, const struct chat_history *h)
{
    char *json = NULL, *text = NULL;
    size_t size;
    int code = chat_history_json(h, &json, &size);

    if (!code)
        code = take_apart(ctx, "/show", shower, json, size, &text);
    if (!code)
        fputs(text, stderr);
    tern_chat_text_free(text);
    free(json);
    return code;
}
