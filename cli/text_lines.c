/* text_lines.c: see text_lines.h. */
#include "text_lines.h"

#include <stdlib.h>
#include <string.h>

static size_t count_lines(const struct cli_text *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->size; i++)
        n += text->data[i] == '\n';
    return n + (text->size > 0 && text->data[text->size - 1] != '\n');
}

int text_lines_read(const char *command, const char *p, const char *f, struct text_lines *out)
{
    *out = (struct text_lines){ 0 };
    int code = cli_text_read(command, p, f, &out->text);
    if (code)
        return code;
    const size_t n = p ? 1 : count_lines(&out->text);
    out->lines = malloc((n + 1) * sizeof *out->lines);
    out->sizes = malloc((n + 1) * sizeof *out->sizes);
    if (!out->lines || !out->sizes)
        return cli_error(CLI_FAIL, "out of memory: %zu lines", n);
    const char *at = out->text.data ? out->text.data : "", *end = at + out->text.size;
    for (; out->n < n; out->n++) {
        const char *stop = p || at == end ? NULL : memchr(at, '\n', (size_t)(end - at)), *next = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        if (!p && stop > at && stop[-1] == '\r')
            stop--;
        out->lines[out->n] = at;
        out->sizes[out->n] = (size_t)(stop - at);
        at = next;
    }
    return 0;
}

void text_lines_free(struct text_lines *lines)
{
    cli_text_free(&lines->text);
    free(lines->lines);
    free(lines->sizes);
    *lines = (struct text_lines){ 0 };
}
