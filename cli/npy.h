/* npy.h: writes a matrix as a NumPy file (format 1.0, float32, row-major), all of it or nothing. */
#ifndef TERN_CLI_NPY_H
#define TERN_CLI_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct npy {
    int fd;
    bool direct;      /* the target is no regular file: written as it is */
    const char *name; /* as the user called it; borrowed */
    char *target;     /* what the temporary file is renamed to */
    char *temporary;
};

/* A regular file is written under a temporary name beside it and takes its name in npy_commit(); a pipe, a device and
 * "-" (stdout) are written directly.  Each returns 0 or the exit code, and has then printed why.
 * After a failure, and after npy_commit(), npy_abort() is called once: it removes what is half-written. */
int npy_create(struct npy *npy, const char *name, int64_t n_rows, int64_t n_columns);
int npy_write(struct npy *npy, const float *data, size_t n);
int npy_commit(struct npy *npy);
void npy_abort(struct npy *npy);

#endif
