/* npy.h: arrays as NumPy files: written in format 1.0, all of it or nothing; read in 1.0 and 2.0.  Row-major, little endian. */
#ifndef TERN_CLI_NPY_H
#define TERN_CLI_NPY_H

#include <tern/tensor.h>

#define NPY_MAGIC "\x93NUMPY"

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
int npy_create(struct npy *npy, const char *name, int64_t n_rows, int64_t n_columns); /* a matrix of float32 */
int npy_create_tensor(struct npy *npy, const char *name,
                      const tern_tensor *shape); /* fp32, fp16, int8, uint8, int32, int64, bool */
int npy_write(struct npy *npy, const float *data, size_t n);
int npy_write_bytes(struct npy *npy, const void *data, size_t size);
/* What was written is on the disk, still under the temporary name; npy_commit() does this too where it was not done. */
int npy_finish(struct npy *npy);
int npy_commit(struct npy *npy);
void npy_abort(struct npy *npy);

/* Whether two names are one place to write to: spelled alike or not, through links, stdout by any of its names. */
bool npy_same_target(const char *a, const char *b);

/* What the beginning of a file says. */
struct npy_header {
    tern_dtype dtype;
    int rank;
    int64_t dim[TERN_MAX_RANK];
    size_t offset; /* of the numbers */
    size_t bytes;  /* of the numbers */
};
/* data: the whole file.  Reads it as it is specified and no more generously: one dictionary with descr, fortran_order and shape;
 * the file ends with the last number.  false: `message` says what was found and what was expected. */
bool npy_header_parse(const void *data, size_t size, struct npy_header *out, char *message, size_t message_size);

/* A file as a dense tensor.  The numbers are freed with free(tensor->data).  0 or the exit code. */
int npy_read(const char *name, tern_tensor *out);

#endif
