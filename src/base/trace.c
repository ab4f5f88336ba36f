/* trace.c: see trace.h.  A track is an array of events that its thread appends to; its pages are the system's until they are written. */
#include "base/trace.h"
#include "base/ctx.h"
#include "base/memory.h"

#include <tern/trace.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS ((size_t)1 << 22) /* of all threads together */

struct event {
    struct tern_trace_kind kind;
    double begin, end;
    size_t number[TERN_TRACE_NUMBERS];
};

struct track {
    _Alignas(64) struct event *events; /* a cache line each: threads write beside one another */
    size_t n, left_out;
};

struct tern_trace {
    double start;
    size_t capacity; /* events of a track */
    int n_tracks;
    struct event *events; /* of all tracks */
    size_t bytes;
    struct track tracks[];
};

void tern_trace_free(struct tern_trace *trace)
{
    if (!trace)
        return;
    tern_pages_free(trace->events, trace->bytes);
    tern_free(trace);
}

tern_status tern_trace_start(tern_ctx *ctx)
{
    const int n = tern_ctx_threads(ctx);
    struct tern_trace *trace = NULL;
    void *pages = NULL, *block = NULL;

    TERN_REQUIRE(ctx, ctx, TERN_ERR_ARG, "trace: ctx is NULL");
    TERN_REQUIRE(ctx, !ctx->trace, TERN_ERR_STATE, "trace: one is being recorded already, expected none");
    TERN_TRY(tern_alloc(ctx, 1, sizeof *trace + (size_t)n * sizeof(struct track), "a trace", &block));
    trace = block;
    trace->n_tracks = n;
    trace->capacity = EVENTS / (size_t)n;
    trace->bytes = trace->capacity * (size_t)n * sizeof(struct event);
    const tern_status status = tern_pages_alloc(ctx, trace->bytes, "events of a trace", &pages);
    if (status) {
        tern_free(trace);
        return status;
    }
    trace->events = pages;
    for (int i = 0; i < n; i++)
        trace->tracks[i].events = trace->events + (size_t)i * trace->capacity;
    trace->start = tern_machine_seconds();
    ctx->trace = trace;
    return TERN_OK;
}

void tern_trace_add(struct tern_trace *trace, int thread, const struct tern_trace_kind *kind, double begin, size_t a,
                    size_t b, size_t c)
{
    struct track *track = &trace->tracks[thread];

    if (track->n == trace->capacity)
        track->left_out++;
    else
        track->events[track->n++] = (struct event){ *kind, begin, tern_machine_seconds(), { a, b, c } };
}

/* ---- the file ---- */

/* Microseconds, with a point whatever the host's locale has. */
static void print_time(FILE *f, const char *name, double seconds)
{
    const uint64_t ns = seconds > 0 ? (uint64_t)(1e9 * seconds + 0.5) : 0;

    fprintf(f, ",\"%s\":%" PRIu64 ".%03u", name, ns / 1000, (unsigned)(ns % 1000));
}

static void print_event(FILE *f, const struct tern_trace *trace, const struct event *e, int thread)
{
    bool first = true;

    fprintf(f, ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d", e->kind.name, thread);
    print_time(f, "ts", e->begin - trace->start);
    print_time(f, "dur", e->end - e->begin);
    fputs(",\"args\":{", f);
    for (int i = 0; i < TERN_TRACE_NUMBERS; i++)
        if (e->kind.number[i]) {
            fprintf(f, "%s\"%s\":%zu", first ? "" : ",", e->kind.number[i], e->number[i]);
            first = false;
        }
    fputs("}}", f);
}

static void print_all(FILE *f, const struct tern_trace *trace, uint64_t left_out)
{
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{"
          "\"name\":"
          "\"tern\"}}",
          f);
    for (int i = 0; i < trace->n_tracks; i++) {
        fprintf(f, ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"thread %d\"}}",
                i, i);
        for (size_t e = 0; e < trace->tracks[i].n; e++)
            print_event(f, trace, &trace->tracks[i].events[e], i);
    }
    fprintf(f, "\n],\"otherData\":{\"left_out\":%" PRIu64 "}}\n", left_out);
}

static tern_status fail_io(tern_ctx *ctx, const char *path, int number)
{
    return tern_fail(ctx, TERN_ERR_IO, "cannot write '%s': %s", path, strerror(number ? number : EIO));
}

/* Beside the file under another name, then in its place, with the mode that it had or a new file has. */
static tern_status replace(tern_ctx *ctx, const struct tern_trace *trace, const char *path, uint64_t left_out)
{
    static const char suffix[] = ".tern-XXXXXX";
    const mode_t mask = umask(0);
    char *target = realpath(path, NULL); /* what a link leads to is replaced, not the link */
    struct stat st;

    umask(mask);
    const char *to = target ? target : path;
    const mode_t mode = stat(to, &st) == 0 ? st.st_mode & 07777 : 0666 & ~mask;
    const size_t n_to = strlen(to);
    void *block = NULL;
    tern_status status = tern_alloc(ctx, n_to + sizeof suffix, 1, "the name of a trace", &block);

    if (!status) {
        char *name = block;
        memcpy(name, to, n_to);
        memcpy(name + n_to, suffix, sizeof suffix);
        const int fd = mkstemp(name);
        FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
        errno = fd < 0 || !f ? errno : 0;
        if (f) {
            print_all(f, trace, left_out);
            bool ok = fflush(f) == 0 && !ferror(f) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
            ok = fclose(f) == 0 && ok;
            status = ok && rename(name, to) == 0 ? TERN_OK : fail_io(ctx, path, errno);
        } else {
            status = fail_io(ctx, path, errno);
            if (fd >= 0)
                close(fd);
        }
        if (status && fd >= 0)
            unlink(name);
        tern_free(name);
    }
    free(target);
    return status;
}

/* What cannot be replaced: a device, a pipe, a link to what is not there yet. */
static bool is_written_through(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? !S_ISREG(st.st_mode) : lstat(path, &st) == 0;
}

static tern_status write_directly(tern_ctx *ctx, const struct tern_trace *trace, const char *path, uint64_t left_out)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return fail_io(ctx, path, errno);
    errno = 0;
    print_all(f, trace, left_out);
    const bool failed = ferror(f) != 0;
    if (fclose(f) || failed)
        return fail_io(ctx, path, errno);
    return TERN_OK;
}

tern_status tern_trace_stop(tern_ctx *ctx, const char *path, tern_trace_stats *stats)
{
    tern_trace_stats sums = { 0 };
    tern_status status = TERN_OK;

    TERN_REQUIRE(ctx, ctx, TERN_ERR_ARG, "trace: ctx is NULL");
    TERN_REQUIRE(ctx, ctx->trace, TERN_ERR_STATE, "trace: none is being recorded, expected one");
    struct tern_trace *trace = ctx->trace;
    ctx->trace = NULL;
    for (int i = 0; i < trace->n_tracks; i++) {
        sums.n_events += trace->tracks[i].n;
        sums.n_left_out += trace->tracks[i].left_out;
    }
    if (path && is_written_through(path))
        status = write_directly(ctx, trace, path, sums.n_left_out);
    else if (path)
        status = replace(ctx, trace, path, sums.n_left_out);
    tern_trace_free(trace);
    if (stats)
        *stats = sums;
    return status;
}
