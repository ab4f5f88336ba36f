/* common.c: what the commands share. */
#include "cli.h"

#include "ranks.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void cli_put_shown(FILE *f, const char *text)
{
    for (const char *c = text; *c; c++) {
        const unsigned char byte = (unsigned char)*c, next = (unsigned char)c[1];

        if (byte < 0x20 || byte == 0x7f) {
            fprintf(f, "\\x%02X", byte);
        } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) { /* U+0080 to U+009F */
            fprintf(f, "\\x%02X", next);
            c++;
        } else {
            putc(byte, f);
        }
    }
}

void cli_print_line(FILE *f, const char *format, va_list args)
{
    char *text = NULL;

    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    cli_put_shown(f, text ? text : "out of memory for a line");
    putc('\n', f);
    free(text);
}

int cli_error(int code, const char *format, ...)
{
    va_list args;

    if (ranks_silent())
        return code;
    fflush(stdout); /* on a terminal the line comes after what was printed before it */
    fputs("tern: ", stderr);
    va_start(args, format);
    cli_print_line(stderr, format, args);
    va_end(args);
    return code;
}

int cli_fail(tern_status status, const char *text)
{
    if (cli_signal())
        return CLI_SIGNAL + cli_signal();
    return cli_error(status == TERN_ERR_UNSUPPORTED || status == TERN_ERR_DTYPE ? CLI_UNSUPPORTED : CLI_FAIL, "%s",
                     text && *text ? text : tern_status_name(status));
}

/* ---- signals -------------------------------------------------------------------------------------------------------- */

/* MPI has threads, one of which may run the handler. */
static atomic_int arrived, cancelling;
static _Atomic(tern_session *) running;

static void on_signal(int number)
{
    atomic_fetch_add(&cancelling, 1);
    atomic_store(&arrived, number); /* before the look at what runs: who comes to run between the two sees it */
    tern_session *session = atomic_load(&running);
    if (session)
        tern_session_cancel(session);
    atomic_fetch_sub(&cancelling, 1);
}

/* A standard stream that is closed gets a file that refuses what the stream is for, so that no other file takes its number,
 * and so that closing it fails for those alone that had something to write. */
static void fill_closed_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) /* the lowest free number is fd */
            return;
}

/* Each of them once: then it has its usual effect again.  What is ignored stays so. */
static void catch_signals(void)
{
    static const int stopping[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND }, before;

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(stopping) / sizeof(stopping[0]); i++)
        if (sigaction(stopping[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(stopping[i], &action, NULL);
}

void cli_signal_forget(void)
{
    tern_session *session = atomic_load(&running);

    atomic_store(&arrived, 0);
    if (session)
        tern_session_resume(session);
    cli_signal_session(session); /* cancels it again if one has come meanwhile */
    catch_signals();
}

void cli_init(void)
{
    fill_closed_streams();
    catch_signals();
    /* Help and reports stay in memory until the end, where the reason of a failed write is still known. */
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    /* A closed pipe and a file that may not grow are errors of write(). */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

int cli_signal(void)
{
    return atomic_load(&arrived);
}

bool cli_goes_on(void *user)
{
    (void)user;
    return !cli_signal();
}

void cli_signal_session(tern_session *session)
{
    atomic_store(&running, session);
    while (atomic_load(&cancelling)) /* the one before, which may end now */
        ;
    if (session && atomic_load(&arrived))
        tern_session_cancel(session);
}

/* ---- stdout --------------------------------------------------------------------------------------------------------- */

static int stdout_errno;

bool cli_print(const char *text, size_t size)
{
    if (size && !stdout_errno && (fwrite(text, 1, size, stdout) != size || fflush(stdout)))
        stdout_errno = errno ? errno : EIO;
    return !stdout_errno;
}

void cli_stdout_flush(void)
{
    if (fflush(stdout) && !stdout_errno)
        stdout_errno = errno ? errno : EIO;
}

int cli_stdout_end(int code)
{
    const bool failed = ferror(stdout) != 0;

    errno = 0;
    if ((fclose(stdout) || failed) && !stdout_errno)
        stdout_errno = errno ? errno : EIO;
    if (!stdout_errno || cli_signal())
        return code;
    if (stdout_errno != EPIPE)
        fprintf(stderr, "tern: cannot write to stdout: %s\n", strerror(stdout_errno));
    return code ? code : CLI_FAIL;
}

/* ---- input ---------------------------------------------------------------------------------------------------------- */

/* Up to the end, or up to where it is clear that `begin` is not how it begins. */
static int read_all(int fd, const char *name, const char *begin, struct cli_text *out)
{
    const size_t n_begin = strlen(begin);
    size_t capacity = 0;

    for (;;) {
        if (out->size == capacity) {
            char *grown =
                capacity > SIZE_MAX / 2 ? NULL : realloc(out->data, capacity = capacity ? 2 * capacity : 1 << 16);

            if (!grown)
                return cli_error(CLI_FAIL, "out of memory after %zu bytes of %s", out->size, name);
            out->data = grown;
        }
        const ssize_t n = read(fd, out->data + out->size, capacity - out->size);
        if (n == 0)
            return 0;
        if (n > 0) {
            out->size += (size_t)n;
            if (out->size >= n_begin && memcmp(out->data, begin, n_begin) != 0)
                return 0;
        } else if (cli_signal())
            return CLI_SIGNAL + cli_signal();
        else if (errno != EINTR)
            return cli_error(CLI_FAIL, "cannot read %s: %s", name, strerror(errno));
    }
}

int cli_file_read(const char *f, const char *begin, struct cli_text *out)
{
    int code;

    *out = (struct cli_text){ 0 };
    if (strcmp(f, "-") == 0) {
        code = read_all(STDIN_FILENO, "stdin", begin, out);
    } else {
        char name[PATH_MAX + 2];
        const int fd = open(f, O_RDONLY | O_CLOEXEC);

        if (fd < 0 && cli_signal()) /* while it waited for a pipe's other end */
            return CLI_SIGNAL + cli_signal();
        snprintf(name, sizeof(name), "'%s'", f);
        if (fd < 0)
            return cli_error(CLI_FAIL, "cannot read %s: %s", name, strerror(errno));
        code = read_all(fd, name, begin, out);
        close(fd);
    }
    if (code)
        cli_text_free(out);
    return code;
}

int cli_text_read(const char *command, const char *p, const char *f, struct cli_text *out)
{
    *out = (struct cli_text){ 0 };
    if (p && f)
        return cli_error(CLI_USAGE, "%s takes -p or -f, got both: '%s' and '%s'", command, p, f);
    if (p) {
        out->size = strlen(p);
        out->data = malloc(out->size + 1);
        if (!out->data)
            return cli_error(CLI_FAIL, "out of memory: %zu bytes for the text", out->size);
        memcpy(out->data, p, out->size + 1);
        return 0;
    }
    if (!f && isatty(STDIN_FILENO))
        return cli_error(CLI_USAGE, "%s wants a text: -p TEXT, -f FILE, or something on stdin", command);
    return cli_file_read(f ? f : "-", "", out);
}

void cli_text_free(struct cli_text *text)
{
    free(text->data);
    *text = (struct cli_text){ 0 };
}

int cli_ids_parse(const char *option, const char *text, int32_t **ids, size_t *count)
{
    size_t n = 1;

    *count = 0;
    for (const char *c = text; *c; c++)
        n += *c == ',';
    *ids = malloc(n * sizeof(**ids));
    if (!*ids)
        return cli_error(CLI_FAIL, "out of memory: %zu bytes for ids", n * sizeof(**ids));
    for (const char *c = text; *text;) {
        char *end;

        errno = 0;
        const long id = strtol(c, &end, 10);
        if (*c < '0' || *c > '9' || errno || id > INT32_MAX || (*end && *end != ',')) {
            free(*ids);
            *ids = NULL;
            return cli_error(CLI_USAGE, "%s wants whole numbers like 1,2,3, got '%.*s' in place %zu", option,
                             (int)strcspn(c, ","), c, *count + 1);
        }
        (*ids)[(*count)++] = (int32_t)id;
        if (!*end)
            break;
        c = end + 1;
    }
    return 0;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

int cli_context_open(int64_t threads, tern_ctx **out)
{
    tern_ctx_options options = tern_ctx_options_default();
    char message[512] = "";

    options.n_threads = (int)threads;
    const tern_status status = tern_ctx_create(out, &options, message, sizeof(message));
    return status ? cli_fail(status, message) : 0;
}

const tern_model_shape *cli_shape_find(const char *name)
{
    const tern_model_shape *shape = tern_model_shape_find(name);
    char names[512];
    size_t n = 0;

    for (int i = 0; !shape && i < tern_model_shape_count() && n < sizeof(names); i++)
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i ? ", " : "", tern_model_shape_at(i)->name);
    if (!shape)
        cli_error(CLI_USAGE, "there is no shape '%s'; there are: %s", name, names);
    return shape;
}

char *cli_shapes_list(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    fputs("Shapes:\n", f);
    for (int i = 0; i < tern_model_shape_count(); i++) {
        const tern_model_shape *s = tern_model_shape_at(i);

        fprintf(f, "  %-14s %s%s", s->name, s->about, i + 1 < tern_model_shape_count() ? "\n" : "");
    }
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

static int find(tern_ctx *ctx, const char *name, tern_status (*how)(tern_ctx *, const char *, char **), char **path)
{
    struct stat st;
    char *found = NULL;

    *path = NULL;
    if (!name)
        return cli_builtin_find(path);
    if (stat(name, &st) == 0 && S_ISREG(st.st_mode)) { /* a tokenizer.json, say: who opens it will tell */
        *path = strdup(name);
    } else {
        const tern_status status = how(ctx, name, &found);

        if (status)
            return cli_fail(status, tern_error(ctx));
        *path = strdup(found);
        tern_path_free(found);
    }
    return *path ? 0 : cli_error(CLI_FAIL, "out of memory for the name of a model");
}

int cli_model_find(tern_ctx *ctx, const char *name, char **path)
{
    return find(ctx, name, tern_model_find, path);
}

int cli_transformer_find(tern_ctx *ctx, const char *name, char **path)
{
    return find(ctx, name, tern_embedder_find, path);
}

int cli_directory_find(tern_ctx *ctx, const char *name, char **path)
{
    return find(ctx, name, tern_directory_find, path);
}

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    if (user)
        cli_progress("loading", done, total);
    return !cli_signal();
}

/* The places in OPTION_DTYPE's list are the enum's numbers. */
_Static_assert(TERN_MODEL_AUTO == 0 && TERN_MODEL_FP32 == 1 && TERN_MODEL_BF16 == 2 && TERN_MODEL_FP16 == 3 &&
                   TERN_MODEL_INT8 == 4,
               "options.h has the same order");

static tern_model_options model_options(int dtype, bool bar)
{
    static char any;
    tern_model_options options = tern_model_options_default();

    options.dtype = (tern_model_dtype)dtype;
    options.progress = on_progress;
    options.user = bar ? &any : NULL;
    options.comm = ranks_comm();
    return options;
}

int cli_model_open(tern_ctx *ctx, const char *path, int dtype, bool bar, tern_model **out)
{
    const tern_model_options options = model_options(dtype, bar);
    const tern_status status = tern_model_open(ctx, path, &options, out);

    if (bar)
        cli_progress_end();
    return status ? cli_fail(status, tern_error(ctx)) : 0;
}

int cli_model_create(tern_ctx *ctx, const tern_model_shape *shape, int dtype, bool bar, tern_model **out)
{
    const tern_model_options options = model_options(dtype, bar);
    const tern_status status = tern_model_create_random(ctx, shape, &options, out);

    if (bar)
        cli_progress_end();
    return status ? cli_fail(status, tern_error(ctx)) : 0;
}

/* A tokenizer that is opened, with its error. */
struct opening {
    const char *path;
    tern_tokenizer *tokenizer;
    tern_status status;
    char *text;
};

static void open_tokenizer(struct opening *o, tern_ctx *ctx)
{
    o->status = tern_tokenizer_open(ctx, o->path, &o->tokenizer);
    o->text = o->status ? strdup(tern_error(ctx)) : NULL;
}

/* With a context of its own, as the model is opened with the other one. */
static void *open_beside(void *arg)
{
    struct opening *o = arg;
    tern_ctx_options options = tern_ctx_options_default();
    char message[256];
    tern_ctx *ctx;

    options.n_threads = 1;
    o->status = tern_ctx_create(&ctx, &options, message, sizeof message);
    if (o->status) {
        o->text = strdup(message);
        return NULL;
    }
    open_tokenizer(o, ctx);
    tern_ctx_destroy(&ctx);
    return NULL;
}

/* Signals are the main thread's. */
static bool start_beside(pthread_t *thread, struct opening *o)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(thread, NULL, open_beside, o);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !error;
}

int cli_open_both(tern_ctx *ctx, const char *path, int dtype, bool bar, tern_tokenizer **tokenizer, tern_model **model)
{
    struct opening o = { .path = path };
    pthread_t thread;
    const bool beside = tern_ctx_threads(ctx) > 1 && start_beside(&thread, &o);

    if (!beside)
        open_tokenizer(&o, ctx);
    int code = cli_model_open(ctx, path, dtype, bar, model);
    if (beside)
        pthread_join(thread, NULL);
    *tokenizer = o.tokenizer;
    if (!code && o.status)
        code = cli_fail(o.status, o.text);
    free(o.text);
    return code;
}

int cli_session_open(tern_ctx *ctx, const tern_model *model, const tern_session_options *options, tern_session **out)
{
    const tern_status status = tern_session_create(ctx, model, options, out);

    if (status)
        return cli_fail(status, tern_error(ctx));
    cli_signal_session(*out);
    return 0;
}

void cli_session_close(tern_session **session)
{
    cli_signal_session(NULL);
    tern_session_destroy(session);
}

/* ---- files of results, --trace FILE --------------------------------------------------------------------------------------------------- */

bool cli_can_write(const char *file)
{
    const char *slash = strrchr(file, '/');
    struct stat st;

    if (!*file || (stat(file, &st) == 0 && S_ISDIR(st.st_mode))) {
        errno = *file ? EISDIR : ENOENT;
        return false;
    }
    char *folder = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
    const bool good = folder && (access(folder, W_OK | X_OK) == 0 || (errno != ENOENT && access(file, W_OK) == 0));
    const int number = errno;

    free(folder);
    errno = number;
    return good;
}

int cli_trace_start(tern_ctx *ctx, const char *file)
{
    if (!file)
        return 0;
    if (!cli_can_write(file))
        return cli_error(CLI_FAIL, "cannot write '%s': %s", file, strerror(errno));
    const tern_status status = tern_trace_start(ctx);

    return status ? cli_fail(status, tern_error(ctx)) : 0;
}

int cli_trace_end(tern_ctx *ctx, const char *file, int code)
{
    tern_trace_stats stats;

    if (!file || !ctx || (code && code < CLI_SIGNAL))
        return code;
    const tern_status status = tern_trace_stop(ctx, file, &stats);
    if (status && !code)
        return cli_error(CLI_FAIL, "%s", tern_error(ctx));
    if (!status && stats.n_left_out)
        fprintf(stderr, "tern: note: the trace has %" PRIu64 " events, %" PRIu64 " later ones are left out\n",
                stats.n_events, stats.n_left_out);
    return code;
}

/* ---- figures -------------------------------------------------------------------------------------------------------- */

double cli_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t cli_peak_rss(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) ? 0 : (uint64_t)usage.ru_maxrss * 1024;
}

void cli_cpu_name(char *out, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char text[256];

    snprintf(out, size, "unknown");
    while (f && fgets(text, sizeof(text), f)) {
        const char *colon = strchr(text, ':');

        if (!colon || strncmp(text, "model name", 10) != 0)
            continue;
        for (colon++; isspace((unsigned char)*colon); colon++)
            ;
        snprintf(out, size, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    if (f)
        fclose(f);
}

static bool progress_shown;

void cli_progress(const char *label, uint64_t done, uint64_t total)
{
    static const char full[] = "########################################";
    static int before = -1;
    const int percent = total ? (int)(100.0 * (double)done / (double)total) : 0;
    const int width = (int)sizeof(full) - 1, n = percent * width / 100;

    if (!isatty(STDERR_FILENO) || (progress_shown && percent == before))
        return;
    fprintf(stderr, "\r%s [%-*.*s] %3d %%", label, width, n, full, percent);
    before = percent;
    progress_shown = true;
}

void cli_progress_end(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}
