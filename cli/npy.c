/* npy.c: NumPy files, written and read.  The format is that of numpy.lib.format; its header is read in npy_header.c. */
#include "npy.h"

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const struct npy *npy, const char *what)
{
    if (cli_signal())
        return CLI_SIGNAL + cli_signal();
    return cli_error(CLI_FAIL, "cannot %s '%s': %s", what, npy->name, strerror(errno));
}

static int write_all(struct npy *npy, const void *data, size_t size)
{
    const char *p = data;

    while (size) {
        const ssize_t n = write(npy->fd, p, size);

        if (n < 0 && errno == EINTR && !cli_signal())
            continue;
        if (n < 0 && errno == EPIPE)
            return CLI_FAIL;
        if (n < 0)
            return fail(npy, "write");
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* "DIR/TARGET" for a link "DIR/LINK" to TARGET. */
static char *beside(const char *name, const char *target)
{
    const char *slash = *target == '/' ? NULL : strrchr(name, '/');
    char *out;

    return asprintf(&out, "%.*s%s", slash ? (int)(slash - name) + 1 : 0, name, target) < 0 ? NULL : out;
}

/* The file behind a name: links are followed, so that it is the file that is replaced, or made where it is not there yet. */
static char *resolve(const char *name)
{
    char *path = realpath(name, NULL), target[PATH_MAX];

    if (path || errno != ENOENT)
        return path;
    path = strdup(name);
    for (ssize_t n; path && (n = readlink(path, target, sizeof(target) - 1)) >= 0;) { /* ends: a loop is no ENOENT */
        char *next;

        target[n] = 0;
        next = beside(path, target);
        free(path);
        path = next;
    }
    return path;
}

/* "DIR/.tern-XXXXXX" for "DIR/FILE". */
static char *temporary_beside(const char *target)
{
    static const char suffix[] = ".tern-XXXXXX";
    const char *slash = strrchr(target, '/');
    const size_t n = slash ? (size_t)(slash - target) + 1 : 0;
    char *out = malloc(n + sizeof(suffix));

    if (out) {
        memcpy(out, target, n);
        memcpy(out + n, suffix, sizeof(suffix));
    }
    return out;
}

static bool is_stdout(const char *name)
{
    return strcmp(name, "-") == 0 || strcmp(name, "/dev/stdout") == 0;
}

static int open_target(struct npy *npy)
{
    struct stat st;
    mode_t mode;

    if (is_stdout(npy->name)) {
        npy->direct = true;
        npy->fd = dup(STDOUT_FILENO);
        return npy->fd < 0 ? fail(npy, "open") : 0;
    }
    if (stat(npy->name, &st) == 0) {
        if (!S_ISREG(st.st_mode)) {
            npy->direct = true;
            npy->fd = open(npy->name, O_WRONLY | O_CLOEXEC);
            return npy->fd < 0 ? fail(npy, "write") : 0;
        }
        mode = st.st_mode & 07777;
    } else {
        const mode_t mask = umask(0);

        umask(mask);
        mode = 0666 & ~mask;
    }
    npy->target = resolve(npy->name);
    if (!npy->target)
        return fail(npy, "write");
    npy->temporary = temporary_beside(npy->target);
    if (!npy->temporary)
        return fail(npy, "write");
    npy->fd = mkostemp(npy->temporary, O_CLOEXEC);
    if (npy->fd < 0) {
        const int code = fail(npy, "write");

        free(npy->temporary);
        npy->temporary = NULL;
        return code;
    }
    return fchmod(npy->fd, mode) ? fail(npy, "write") : 0;
}

/* A regular file is replaced: its place is a name in a folder.  Anything else is written itself. */
struct place {
    dev_t device;
    ino_t inode;
    char *target; /* NULL: no regular file */
};

static bool place_of(const char *name, struct place *out)
{
    struct stat st;
    int failed;

    *out = (struct place){ 0 };
    if (is_stdout(name)) {
        failed = fstat(STDOUT_FILENO, &st);
    } else if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) {
        failed = 0;
    } else {
        out->target = resolve(name);
        char *folder = out->target ? strdup(out->target) : NULL;
        char *slash = folder ? strrchr(folder, '/') : NULL;
        if (slash)
            slash[1] = 0;
        failed = !folder || stat(slash ? folder : ".", &st);
        free(folder);
    }
    out->device = failed ? 0 : st.st_dev;
    out->inode = failed ? 0 : st.st_ino;
    return !failed;
}

/* The last part of a path. */
static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

bool npy_same_target(const char *a, const char *b)
{
    struct place p = { 0 }, q = { 0 };
    bool same = strcmp(a, b) == 0;

    if (!same && place_of(a, &p) && place_of(b, &q))
        same = p.device == q.device && p.inode == q.inode && !p.target == !q.target &&
               (!p.target || strcmp(base_of(p.target), base_of(q.target)) == 0);
    free(p.target);
    free(q.target);
    return same;
}

int npy_create_tensor(struct npy *npy, const char *name, const tern_tensor *shape)
{
    static const uint16_t one = 1;
    const char order = *(const unsigned char *)&one ? '<' : '>';
    char head[512] = NPY_MAGIC "\x01";
    char dict[400];
    const char *descr = NULL;

    *npy = (struct npy){ .fd = -1, .name = name };
    switch (shape->dtype) {
    case TERN_FP32:
        descr = "f4";
        break;
    case TERN_FP16:
        descr = "f2";
        break;
    case TERN_INT8:
        descr = "i1";
        break;
    case TERN_UINT8:
        descr = "u1";
        break;
    case TERN_INT32:
        descr = "i4";
        break;
    case TERN_INT64:
        descr = "i8";
        break;
    case TERN_BOOL:
        descr = "b1";
        break;
    default:
        return cli_error(CLI_FAIL, "cannot write '%s': NumPy has no %s", name, tern_dtype_name(shape->dtype));
    }
    const int code = open_target(npy);
    if (code)
        return code;

    /* The header ends with a newline at a multiple of 64 bytes, so that a mapped file's numbers are aligned. */
    size_t n = (size_t)snprintf(dict, sizeof(dict), "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                                tern_dtype_size(shape->dtype) == 1 ? '|' : order, descr);
    for (int i = 0; i < shape->rank; i++)
        n += (size_t)snprintf(dict + n, sizeof(dict) - n, i ? ", %" PRId64 : "%" PRId64, shape->dim[i]);
    n += (size_t)snprintf(dict + n, sizeof(dict) - n, shape->rank == 1 ? ",), }" : "), }");
    const size_t total = (10 + n + 1 + 63) / 64 * 64;
    head[8] = (char)((total - 10) & 0xff);
    head[9] = (char)((total - 10) >> 8);
    memset(head + 10, ' ', total - 10);
    memcpy(head + 10, dict, n);
    head[total - 1] = '\n';
    return write_all(npy, head, total);
}

int npy_create(struct npy *npy, const char *name, int64_t n_rows, int64_t n_columns)
{
    const tern_tensor shape = tern_tensor_view(NULL, TERN_FP32, 2, (int64_t[]){ n_rows, n_columns });

    return npy_create_tensor(npy, name, &shape);
}

int npy_write(struct npy *npy, const float *data, size_t n)
{
    return write_all(npy, data, n * sizeof(*data));
}

int npy_write_bytes(struct npy *npy, const void *data, size_t size)
{
    return write_all(npy, data, size);
}

int npy_read(const char *name, tern_tensor *out)
{
    struct cli_text file;
    struct npy_header header;
    char message[256];
    int code = cli_file_read(name, NPY_MAGIC, &file);

    if (code)
        return code;
    if (!npy_header_parse(file.data ? file.data : "", file.size, &header, message, sizeof(message))) {
        cli_text_free(&file);
        return cli_error(CLI_FAIL, "cannot read '%s': %s", name, message);
    }
    memmove(file.data, file.data + header.offset, header.bytes); /* to where any number is aligned */
    *out = tern_tensor_view(file.data, header.dtype, header.rank, header.dim);
    return 0;
}

int npy_finish(struct npy *npy)
{
    const int fd = npy->fd;

    if (fd < 0)
        return 0;
    if (!npy->direct && fsync(fd))
        return fail(npy, "write");
    npy->fd = -1;
    return close(fd) ? fail(npy, "write") : 0;
}

int npy_commit(struct npy *npy)
{
    const int code = npy_finish(npy);

    if (code || npy->direct)
        return code;
    if (rename(npy->temporary, npy->target))
        return fail(npy, "rename a temporary file to");
    free(npy->temporary);
    npy->temporary = NULL;
    return 0;
}

void npy_abort(struct npy *npy)
{
    if (npy->fd >= 0)
        close(npy->fd);
    if (npy->temporary)
        unlink(npy->temporary);
    free(npy->temporary);
    free(npy->target);
    npy->fd = -1;
    npy->temporary = npy->target = NULL;
}
