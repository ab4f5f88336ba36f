/* text_lines.h: the lines of a file, or of stdin, as texts of their own. */
#ifndef TERN_CLI_TEXT_LINES_H
#define TERN_CLI_TEXT_LINES_H

#include "cli.h"

struct text_lines {
    struct cli_text text;
    const char **lines; /* [n], not ended by a NUL */
    size_t *sizes;
    size_t n;
};

/* `p` alone if it is given, else the lines of `f` ("-": stdin), else of stdin if it is no terminal; a last line need not end, "\r"
 * before an end is left out.  0 or the exit code, after a line that says why. */
int text_lines_read(const char *command, const char *p, const char *f, struct text_lines *out);
void text_lines_free(struct text_lines *lines);

#endif
