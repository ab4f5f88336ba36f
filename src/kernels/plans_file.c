/* plans_file.c: plans of products from one run to the next.
 *
 *     tern plans 1
 *     cpu AMD EPYC 9R14, family 25 model 17 stepping 1, L2 1024 KiB
 *     isa avx512bf16
 *     version 0.1.0
 *     # kind in out rows threads tile_rows k_block split default_ns best_ns
 *     f32 768 3072 16 2 8 512 panels 412345 398765
 *     checksum 0123456789abcdef
 *
 * Two programs that store at once wait for each other: the lock is held from reading to renaming, so neither loses what the
 * other found.  It is on a file of its own, because the file of plans is another one after each renaming.  A reader needs no
 * lock: it sees the old file or the new one. */
#include "kernels/plans.h"

#include "base/file.h"
#include "base/machine.h"
#include "base/memory.h"

#include <tern/version.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATH_SIZE  4096
#define LINE_SIZE  192 /* an entry's longest line */
#define SUM_SIZE   (sizeof "checksum 0123456789abcdef\n" - 1)
#define LOCK_TRIES 500 /* 10 ms apart */
#define COLUMNS    "# kind in out rows threads tile_rows k_block split default_ns best_ns\n"

void tern_plans_head(const char *isa, char *out, size_t size)
{
    char cpu[160];

    tern_machine_describe(cpu, sizeof cpu);
    snprintf(out, size, "tern plans 1\ncpu %s\nisa %s\nversion %s\n" COLUMNS, cpu, isa, TERN_VERSION);
}

/* FNV-1a. */
static uint64_t checksum(const char *text, size_t size)
{
    uint64_t sum = 0xcbf29ce484222325;

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ (unsigned char)text[i]) * 0x100000001b3;
    return sum;
}

/* ---- text ---- */

struct reader {
    tern_ctx *ctx;
    const char *where;
    size_t line;
    const char *at, *end; /* end: of the line */
};

/* The next word of a line, which a space or the line's end follows. */
static tern_status read_word(struct reader *r, const char *name, const char **word, size_t *length)
{
    const char *space = memchr(r->at, ' ', (size_t)(r->end - r->at));

    *word = r->at;
    *length = (size_t)((space ? space : r->end) - r->at);
    TERN_REQUIRE(r->ctx, *length, TERN_ERR_FORMAT, "%s: line %zu ends before %s", r->where, r->line, name);
    r->at = space ? space + 1 : r->end;
    return TERN_OK;
}

static tern_status read_number(struct reader *r, const char *name, int64_t low, int64_t high, int64_t *out)
{
    const char *word;
    size_t n;
    bool digits = true;

    TERN_TRY(read_word(r, name, &word, &n));
    *out = 0;
    for (size_t i = 0; i < n && digits; i++) {
        digits = word[i] >= '0' && word[i] <= '9' && i < 18;
        if (digits)
            *out = *out * 10 + (word[i] - '0');
    }
    TERN_REQUIRE(r->ctx, digits && *out >= low && *out <= high, TERN_ERR_FORMAT,
                 "%s: line %zu: %s is '%.*s', expected a number in %" PRId64 "..%" PRId64, r->where, r->line, name,
                 (int)(n < 40 ? n : 40), word, low, high);
    return TERN_OK;
}

/* One of `count` names. */
static tern_status read_name(struct reader *r, const char *what, const char *(*name)(int), int count, int *out)
{
    const char *word;
    size_t n;

    TERN_TRY(read_word(r, what, &word, &n));
    for (*out = 0; *out < count; ++*out)
        if (strlen(name(*out)) == n && memcmp(name(*out), word, n) == 0)
            return TERN_OK;
    return tern_fail(r->ctx, TERN_ERR_FORMAT, "%s: line %zu: there is no %s '%.*s'", r->where, r->line, what,
                     (int)(n < 40 ? n : 40), word);
}

static const char *kind_name(int kind)
{
    return tern_plan_kind_name((enum tern_plan_kind)kind);
}

static const char *split_name(int split)
{
    return tern_plan_split_name((enum tern_plan_split)split);
}

static tern_status read_entry(struct reader *r, struct tern_plan_entry *e)
{
    int64_t rows, threads, tile_rows, k_block;
    int kind, split;

    *e = (struct tern_plan_entry){ .measured = false };
    TERN_TRY(read_name(r, "kind", kind_name, TERN_PLAN_KINDS, &kind));
    TERN_TRY(read_number(r, "in", 1, INT32_MAX, &e->key.in));
    TERN_TRY(read_number(r, "out", 1, INT32_MAX, &e->key.out));
    TERN_TRY(read_number(r, "rows", 1, 1 << (TERN_PLAN_BUCKETS - 1), &rows));
    TERN_TRY(read_number(r, "threads", 1, INT32_MAX, &threads));
    TERN_TRY(read_number(r, "tile_rows", 0, INT32_MAX, &tile_rows));
    TERN_TRY(read_number(r, "k_block", 0, TERN_PLAN_K_MAX, &k_block));
    TERN_TRY(read_name(r, "split", split_name, TERN_SPLITS, &split));
    TERN_TRY(read_number(r, "default_ns", 0, INT64_MAX, &e->default_ns));
    TERN_TRY(read_number(r, "best_ns", 0, INT64_MAX, &e->best_ns));
    e->key.kind = (enum tern_plan_kind)kind;
    e->key.bucket = tern_plan_bucket((size_t)rows);
    e->key.threads = (uint32_t)threads;
    e->plan = (struct tern_plan){ (uint32_t)tile_rows, (uint32_t)k_block, (enum tern_plan_split)split };
    TERN_REQUIRE(r->ctx, r->at == r->end && r->end[-1] != ' ' && tern_plan_entry_is_valid(e), TERN_ERR_FORMAT,
                 "%s: line %zu is no entry: '%.*s'", r->where, r->line, (int)(r->end - r->at), r->at);
    return TERN_OK;
}

tern_status tern_plans_parse(tern_ctx *ctx, const char *text, size_t size, const char *where, const char *head,
                             struct tern_plans *plans)
{
    static const char first[] = "tern plans 1\n";
    const size_t n_head = strlen(head), n_first = sizeof first - 1, n_sum = SUM_SIZE;
    struct reader r = { .ctx = ctx, .where = where };
    char sum[32];

    TERN_REQUIRE(ctx, size >= n_first && memcmp(text, first, n_first) == 0, TERN_ERR_FORMAT,
                 "%s: does not begin with 'tern plans 1', as plans of products do", where);
    TERN_REQUIRE(ctx, size >= n_sum, TERN_ERR_FORMAT, "%s: has %zu bytes, and no checksum", where, size);
    snprintf(sum, sizeof sum, "checksum %016" PRIx64 "\n", checksum(text, size - n_sum));
    TERN_REQUIRE(ctx, memcmp(text + size - n_sum, sum, n_sum) == 0, TERN_ERR_FORMAT,
                 "%s: does not end with the checksum of what it holds, %.*s", where, (int)n_sum - 1, sum);
    TERN_REQUIRE(ctx, size >= n_head + n_sum && memcmp(text, head, n_head) == 0, TERN_ERR_FORMAT,
                 "%s: was made for another processor, instruction set or version of tern", where);
    for (const char *c = text; c < text + n_head; c++)
        r.line += *c == '\n';
    for (const char *line = text + n_head; line < text + size - n_sum; line = r.end + 1) {
        struct tern_plan_entry e;
        r.line++;
        r.at = line;
        r.end = memchr(line, '\n', (size_t)(text + size - n_sum - line));
        TERN_REQUIRE(ctx, r.end, TERN_ERR_FORMAT, "%s: line %zu has no end", where, r.line);
        TERN_TRY(read_entry(&r, &e));
        TERN_TRY(tern_plans_put(ctx, plans, &e));
    }
    return TERN_OK;
}

tern_status tern_plans_format(tern_ctx *ctx, const struct tern_plans *plans, const char *head, char **out, size_t *size)
{
    const size_t n_head = strlen(head), room = n_head + (plans->count + 1) * LINE_SIZE;
    char *text;

    TERN_TRY(tern_alloc(ctx, room, 1, "plans of products", (void **)&text));
    size_t n = (size_t)snprintf(text, room, "%s", head);
    for (size_t i = 0; i < plans->count; i++) {
        const struct tern_plan_entry *e = &plans->entries[i];
        n += (size_t)snprintf(
            text + n, room - n,
            "%s %" PRId64 " %" PRId64 " %u %" PRIu32 " %" PRIu32 " %" PRIu32 " %s %" PRId64 " %" PRId64 "\n",
            tern_plan_kind_name(e->key.kind), e->key.in, e->key.out, 1u << e->key.bucket, e->key.threads,
            e->plan.tile_rows, e->plan.k_block, tern_plan_split_name(e->plan.split), e->default_ns, e->best_ns);
    }
    if (n + SUM_SIZE > TERN_PLANS_FILE_MAX) { /* the first entries are the oldest */
        const size_t excess = n + SUM_SIZE - TERN_PLANS_FILE_MAX;
        const char *rest = (char *)memchr(text + n_head + excess - 1, '\n', n - n_head - excess + 1) + 1;
        n -= (size_t)(rest - text) - n_head;
        memmove(text + n_head, rest, n - n_head);
    }
    n += (size_t)snprintf(text + n, room - n, "checksum %016" PRIx64 "\n", checksum(text, n));
    *out = text;
    *size = n;
    return TERN_OK;
}

/* ---- place ---- */

void tern_plans_path(const char *isa, char *out, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const bool has_cache = cache && *cache == '/'; /* a relative one counts as unset: the XDG base directories' rule */
    char head[512];

    if (size)
        *out = '\0';
    if (!has_cache && (!home || *home != '/'))
        return;
    tern_plans_head(isa, head, sizeof head);
    const int n = snprintf(out, size, "%s%s/tern/tune/%s-%s-%016" PRIx64 ".txt", has_cache ? cache : home,
                           has_cache ? "" : "/.cache", isa, TERN_VERSION, checksum(head, strlen(head)));
    if (n < 0 || (size_t)n >= size)
        *out = '\0';
}

/* ---- reading ---- */

/* The entries of the file, if there is one that is right; else what is wrong with it. */
static void read_file(struct tern_plans *plans, const char *path, const char *head, struct tern_ctx *reason)
{
    char *text = NULL;
    size_t size;
    tern_status status = tern_file_read(reason, path, TERN_PLANS_FILE_MAX, &text, &size);

    if (status == TERN_OK)
        status = tern_plans_parse(reason, text, size, path, head, plans);
    if (status == TERN_ERR_NOT_FOUND)
        reason->error[0] = '\0';
    tern_free(text);
}

/* An empty table again. */
static void clear(struct tern_plans *plans)
{
    plans->count = 0;
    for (size_t i = 0; i < plans->n_slots; i++)
        plans->slots[i] = 0;
}

static void note(struct tern_plans *plans, const char *text, const char *consequence)
{
    const int room = (int)(sizeof plans->note - 1 - strlen(consequence));

    snprintf(plans->note, sizeof plans->note, "%.*s%s", room, text, consequence);
}

void tern_plans_load(struct tern_plans *plans, const char *isa)
{
    struct tern_ctx reason = { 0 }; /* for a text: what goes wrong here is no error of the caller's */
    char path[PATH_SIZE], head[512];

    plans->note[0] = '\0';
    tern_plans_path(isa, path, sizeof path);
    if (!*path || tern_path_is_absent(path))
        return;
    tern_plans_head(isa, head, sizeof head);
    read_file(plans, path, head, &reason);
    if (reason.error[0]) {
        clear(plans);
        note(plans, reason.error, "; ignored, and replaced when something is tuned");
    }
}

/* ---- writing ---- */

static tern_status fail_write(struct tern_ctx *reason, const char *path, const char *action)
{
    char words[128];

    return tern_fail(reason, TERN_ERR_IO, "%s: cannot %s: %s", path, action, strerror_r(errno, words, sizeof words));
}

/* The folders above a path.  The error is that of the first one that could not be made, if those below it could not either. */
static tern_status make_folders(struct tern_ctx *reason, char *path)
{
    tern_status status = TERN_OK;

    for (char *c = path + 1; *c; c++)
        if (*c == '/') {
            *c = '\0';
            if (mkdir(path, 0700) == 0 || errno == EEXIST)
                status = TERN_OK;
            else if (status == TERN_OK)
                status = fail_write(reason, path, "make the folder");
            *c = '/';
        }
    return status;
}

/* The lock beside a file, waiting for others that hold it. */
static tern_status lock(struct tern_ctx *reason, const char *path, int *fd)
{
    const struct timespec pause = { 0, 10 * 1000 * 1000 };
    char name[PATH_SIZE + 8];
    int tries = 0;

    snprintf(name, sizeof name, "%s.lock", path);
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return fail_write(reason, name, "open");
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || ++tries == LOCK_TRIES) {
            const tern_status status = fail_write(reason, name, "lock");
            close(*fd);
            return status;
        }
        nanosleep(&pause, NULL);
    }
    return TERN_OK;
}

static bool write_all(int fd, const char *text, size_t size)
{
    while (size) {
        const ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        text += n;
        size -= (size_t)n;
    }
    return fsync(fd) == 0;
}

/* A whole file in place of another, or nothing changed. */
static tern_status replace(struct tern_ctx *reason, const char *path, const char *text, size_t size)
{
    char name[PATH_SIZE + 8];

    snprintf(name, sizeof name, "%s.XXXXXX", path);
    const int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return fail_write(reason, name, "create");
    tern_status status = write_all(fd, text, size) ? TERN_OK : fail_write(reason, name, "write");
    if (close(fd) != 0 && status == TERN_OK)
        status = fail_write(reason, name, "write");
    if (status == TERN_OK && rename(name, path) != 0)
        status = fail_write(reason, path, "replace");
    if (status != TERN_OK)
        (void)unlink(name);
    return status;
}

/* Leaves what `plans` has measured out of the file's entries. */
static tern_status leave_out_measured(struct tern_ctx *reason, struct tern_plans *file, const struct tern_plans *plans)
{
    size_t n = 0;

    for (size_t i = 0; i < file->count; i++) {
        const struct tern_plan_entry *ours = tern_plans_find(plans, &file->entries[i].key);
        if (!ours || !ours->measured)
            file->entries[n++] = file->entries[i];
    }
    if (n == file->count)
        return TERN_OK;
    clear(file);
    for (size_t i = 0; i < n; i++) { /* each to the place where it is */
        const struct tern_plan_entry e = file->entries[i];
        TERN_TRY(tern_plans_put(reason, file, &e));
    }
    return TERN_OK;
}

/* Under the lock: the file's entries, ours over them, written; and the file's among ours. */
static tern_status merge(struct tern_ctx *reason, struct tern_plans *plans, struct tern_plans *file, const char *path,
                         const char *head)
{
    struct tern_ctx unread = { 0 };
    char *text = NULL;
    size_t size;
    tern_status status;

    read_file(file, path, head, &unread);
    if (unread.error[0]) {
        clear(file);
        note(plans, unread.error, "; replaced");
    }
    TERN_TRY(leave_out_measured(reason, file, plans)); /* ours come last, as the latest */
    for (size_t i = 0; i < plans->count; i++)
        if (plans->entries[i].measured)
            TERN_TRY(tern_plans_put(reason, file, &plans->entries[i]));
    TERN_TRY(tern_plans_format(reason, file, head, &text, &size));
    status = replace(reason, path, text, size);
    tern_free(text);
    TERN_TRY(status);
    for (size_t i = 0; i < file->count; i++) {
        struct tern_plan_entry e = file->entries[i];
        e.measured = false; /* of ours, call stays: those are what this context found */
        TERN_TRY(tern_plans_put(reason, plans, &e));
    }
    return TERN_OK;
}

bool tern_plans_store(struct tern_plans *plans, const char *isa)
{
    static const char alone[] = "; what was found holds in this context alone";
    struct tern_ctx reason = { 0 };
    struct tern_plans *file = NULL;
    char path[PATH_SIZE], head[512];
    size_t measured = 0;
    int fd = -1;

    plans->note[0] = '\0';
    for (size_t i = 0; i < plans->count; i++)
        measured += plans->entries[i].measured;
    if (plans->off)
        note(plans, "TERN_TUNE is off", alone);
    if (!measured || plans->off)
        return !measured;
    tern_plans_path(isa, path, sizeof path);
    if (!*path) {
        note(plans, "neither XDG_CACHE_HOME nor HOME names a directory, or it has too long a name", alone);
        return false;
    }
    tern_plans_head(isa, head, sizeof head);
    tern_status status = make_folders(&reason, path);
    if (status == TERN_OK)
        status = lock(&reason, path, &fd);
    if (status == TERN_OK) {
        status = tern_plans_create(&reason, &file);
        if (status == TERN_OK)
            status = merge(&reason, plans, file, path, head);
        tern_plans_destroy(file);
        close(fd); /* and with it the lock */
    }
    if (status != TERN_OK)
        note(plans, reason.error, alone);
    return status == TERN_OK;
}
