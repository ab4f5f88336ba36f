/* answer.h: answers that are whole, or told not to be: stdout, and the file of --out.
 *
 * The file is written beside its name, as FILE.part, and renamed when it is complete: whoever is interrupted leaves an older answer as it
 * was.  A pipe or a device is written itself.  Functions are inline since bench_comm is built of its own source alone. */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct answer_file {
    FILE *file;                              /* NULL: none is open */
    int number;                              /* errno of what could not be written, 0: none */
    char name[PATH_MAX], part[PATH_MAX + 8]; /* behind links; part is "" where the name is written itself */
};

/* false: cannot be written, as errno says. */
static inline bool answer_open(struct answer_file *a, const char *path)
{
    struct stat s;

    if (strlen(path) >= sizeof(a->name)) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (!realpath(path, a->name))
        strcpy(a->name, path); /* not there yet, or a pipe, which has no name of its own */
    a->part[0] = 0;
    if (stat(path, &s) != 0 || S_ISREG(s.st_mode))
        snprintf(a->part, sizeof(a->part), "%s.part", a->name);
    a->number = 0;
    a->file = fopen(*a->part ? a->part : a->name, "we");
    return a->file != NULL;
}

/* Writes what there is up to now; the first error stays in *number. */
static inline void answer_flush(FILE *f, int *number)
{
    if (fflush(f) != 0 && !*number)
        *number = errno;
}

/* The same of the rest, and closes. */
static inline void answer_end(FILE *f, int *number)
{
    answer_flush(f, number);
    if (!*number && ferror(f))
        *number = EIO;
    if (fclose(f) != 0 && !*number)
        *number = errno;
}

/* Puts the file in its place where it is `wanted` and whole, else removes what there is of it.  false: cannot be written, as errno says. */
static inline bool answer_close(struct answer_file *a, bool wanted)
{
    answer_end(a->file, &a->number);
    a->file = NULL;
    if (wanted && !a->number && *a->part && rename(a->part, a->name) != 0)
        a->number = errno;
    if (*a->part && (!wanted || a->number))
        unlink(a->part);
    errno = a->number;
    return !a->number;
}

/* Whether there is a stdout.  Without one, the next file that is opened would get its number, and what is printed. */
static inline bool answer_stdout_open(const char *program)
{
    if (fcntl(STDOUT_FILENO, F_GETFD) >= 0)
        return true;
    fprintf(stderr, "%s: cannot write to stdout: %s\n", program, strerror(errno));
    return false;
}

/* Closes stdout; `number` is what answer_flush() has seen of it.  @return whether all that was printed is written; false: told. */
static inline bool answer_stdout_close(const char *program, int number)
{
    answer_end(stdout, &number);
    if (number)
        fprintf(stderr, "%s: cannot write to stdout: %s\n", program, strerror(number));
    return !number;
}

#endif
