/* line_reader.h: lines of stdin, from a pipe or typed, with signals let in while they are waited for. */
#ifndef TERN_CLI_LINE_READER_H
#define TERN_CLI_LINE_READER_H

#include <stdbool.h>
#include <stddef.h>

struct line_reader {
    char *data;
    size_t size, capacity, begin; /* bytes, and where the next line begins */
    bool ended;
};

enum line_outcome { LINE_READ, LINE_END, LINE_SIGNAL, LINE_FAILED };

/* The longest line that a terminal gives: what is typed or pasted beyond it is lost (N_TTY_BUF_SIZE less the newline). */
#define LINE_OF_TERMINAL 4095

/* The next line, NUL-terminated, without its newline; valid until the next call.  LINE_SIGNAL: cli_signal() says which.  LINE_FAILED has
 * been told. */
enum line_outcome line_read(struct line_reader *in, char **line, size_t *size);

/* Whether there is more to read, or comes within `milliseconds`. */
bool line_waiting(const struct line_reader *in, int milliseconds);

void line_reader_free(struct line_reader *in);

#endif
