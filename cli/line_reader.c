/* line_reader.c: a buffer that grows with the longest line. */
#include "line_reader.h"

#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Waits for input with the signals let in during the wait alone, so that none comes unseen just before it. */
static int wait_for_input(void)
{
    struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
    sigset_t stopping, before;

    sigemptyset(&stopping);
    sigaddset(&stopping, SIGINT);
    sigaddset(&stopping, SIGTERM);
    sigaddset(&stopping, SIGHUP);
    sigprocmask(SIG_BLOCK, &stopping, &before);
    if (!cli_signal())
        (void)ppoll(&fd, 1, NULL, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return cli_signal();
}

enum line_outcome line_read(struct line_reader *in, char **line, size_t *size)
{
    size_t looked = in->begin;

    for (;;) {
        char *newline = in->size > looked ? memchr(in->data + looked, '\n', in->size - looked) : NULL;

        if (newline || (in->ended && in->size > in->begin)) {
            const size_t end = newline ? (size_t)(newline - in->data) : in->size;

            *line = in->data + in->begin;
            *size = end - in->begin;
            in->data[end] = '\0';
            in->begin = newline ? end + 1 : end;
            return LINE_READ;
        }
        looked = in->size;
        if (in->ended)
            return LINE_END;
        if (in->begin > 0) {
            memmove(in->data, in->data + in->begin, in->size - in->begin);
            in->size -= in->begin;
            looked -= in->begin;
            in->begin = 0;
        }
        if (in->capacity - in->size < 2) {
            const size_t capacity = in->capacity ? 2 * in->capacity : 4096;
            char *grown = realloc(in->data, capacity);

            if (!grown) {
                cli_error(CLI_FAIL, "out of memory after %zu bytes of a line", in->size);
                return LINE_FAILED;
            }
            in->data = grown;
            in->capacity = capacity;
        }
        if (wait_for_input())
            return LINE_SIGNAL;
        const ssize_t n = read(STDIN_FILENO, in->data + in->size, in->capacity - in->size - 1);
        if (n < 0 && errno != EINTR) {
            cli_error(CLI_FAIL, "cannot read stdin: %s", strerror(errno));
            return LINE_FAILED;
        }
        in->ended = n == 0;
        in->size += n > 0 ? (size_t)n : 0;
    }
}

bool line_waiting(const struct line_reader *in, int milliseconds)
{
    struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };

    return in->size > in->begin || (!in->ended && poll(&fd, 1, milliseconds) == 1 && (fd.revents & POLLIN));
}

void line_reader_free(struct line_reader *in)
{
    free(in->data);
    *in = (struct line_reader){ 0 };
}
