/* fuzz_template.c: any bytes as a chat template, rendered with small limits over a conversation that has something of everything.
 *
 * Two renderings agree, an error has a text that names the template, and what is rendered is UTF-8.  An answer of "out of memory" with
 * these limits would mean that a limit was missed. */
#include "base/ctx.h"
#include "base/utf8.h"

#include <tern/chat.h>

#include <stdlib.h>
#include <string.h>

static const char messages[] = "[{\"role\":\"system\",\"content\":\"Be \\u00e9 'brief' "
                               "\\\"now\\\"\\n\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a b\"},"
                               "{\"type\":\"image\"}]},{\"role\":\"assistant\",\"content\":null,\"reasoning\":\"hm\","
                               "\"tool_calls\":[{\"id\":\"abc\",\"function\":{\"name\":\"f\","
                               "\"arguments\":{\"x\":1.5,\"y\":[true,null,-7]}}}]},{\"role\":\"tool\",\"content\":\"{}"
                               "\"},{\"role\":\"user\",\"content\":\"\"}]";
static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{"
                            "\"x\":{\"type\":\"number\"}}}}}]";
static const char variables[] =
    "{\"n\":7,\"x\":2.5,\"s\":\"Stra\\u00dfe \\u0391\\u03a3\",\"l\":[3,1,2],\"d\":{\"b\":1,\"a\":\"z\"},\"t\":true,"
    "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";

static void render(tern_ctx *ctx, const tern_chat *chat, char **text, size_t *size, tern_status *status)
{
    tern_chat_options o = tern_chat_options_default();

    o.tools = tools;
    o.variables = variables;
    o.now = 1733317200;
    o.max_steps = 20000;
    o.max_depth = 200;
    o.max_output = 1 << 16;
    o.max_memory = 1 << 22;
    *status = tern_chat_render(ctx, chat, messages, sizeof messages - 1, &o, text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tern_ctx ctx = { 0 };
    tern_chat *chat;
    char *text[2];
    size_t length[2] = { 0 }, bad;
    tern_status status[2];

    if (size > 1 << 16)
        return 0;
    char *source = malloc(size + 1); /* no more than the template: what is read beyond it shows */
    if (!source)
        return 0;
    memcpy(source, data, size);
    const tern_status parsed = tern_chat_parse(&ctx, "t.jinja", source, size, &chat);
    free(source);
    if (parsed) {
        if (parsed == TERN_ERR_MEMORY || chat || !strstr(ctx.error, "t.jinja"))
            abort();
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        render(&ctx, chat, &text[i], &length[i], &status[i]);
        if (status[i] && (status[i] == TERN_ERR_MEMORY || text[i] || !strstr(ctx.error, "t.jinja")))
            abort();
        if (!status[i] && !tern_utf8_check(text[i], length[i], &bad))
            abort();
    }
    if (status[0] != status[1] || (!status[0] && (length[0] != length[1] || memcmp(text[0], text[1], length[0]) != 0)))
        abort();
    tern_chat_text_free(text[0]);
    tern_chat_text_free(text[1]);
    tern_chat_close(&chat);
    return 0;
}
