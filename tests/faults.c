/* faults.c: see faults.h.
 *
 * Names defined in the program come before those of every library, so glibc's own are reached as __libc_*, the system call
 * or the next definition. */
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_bool counting;
static atomic_long calls, first_failure = -1, last_failure = -1, failures, live;

#if TEST_ASAN || TEST_TSAN
bool fault_available(void)
{
    return false;
}
#else
bool fault_available(void)
{
    return true;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *p);

static bool fails(void)
{
    if (!atomic_load(&counting))
        return false;
    const long n = atomic_fetch_add(&calls, 1), first = atomic_load(&first_failure);
    if (first < 0 || n < first || n > atomic_load(&last_failure))
        return false;
    atomic_fetch_add(&failures, 1);
    return true;
}

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add(&live, 1);
    return p;
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size)
{
    return fails() ? no_memory() : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? no_memory() : counted(__libc_calloc(count, size));
}

void *realloc(void *p, size_t size)
{
    if (fails())
        return no_memory();
    void *moved = __libc_realloc(p, size);
    if (!p)
        return counted(moved);
    if (!moved && size == 0)
        atomic_fetch_sub(&live, 1); /* glibc: that was a free */
    return moved;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? no_memory() : counted(__libc_memalign(alignment, size));
}

void *memalign(size_t alignment, size_t size)
{
    return fails() ? no_memory() : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (fails())
        return ENOMEM;
    void *p = counted(__libc_memalign(alignment, size));
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

void free(void *p)
{
    if (p)
        atomic_fetch_sub(&live, 1);
    __libc_free(p);
}

static long pages(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (long)((size + page - 1) / page);
}

/* glibc's own mappings (large blocks, thread stacks) do not come through here. */
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fails())
        return errno = ENOMEM, MAP_FAILED;
    void *p = (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
    if (p != MAP_FAILED)
        atomic_fetch_add(&live, pages(size));
    return p;
}

int munmap(void *address, size_t size)
{
    const int result = (int)syscall(SYS_munmap, address, size);

    if (result == 0)
        atomic_fetch_sub(&live, pages(size));
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (fails())
        return EAGAIN;
    if (!real) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_create");
        memcpy(&real, &symbol, sizeof real); /* ISO C has no cast between the two kinds of pointer */
    }
    return real(thread, attributes, start, arg);
}
#endif

static void start(long first, long last)
{
    atomic_store(&calls, 0);
    atomic_store(&failures, 0);
    atomic_store(&first_failure, first);
    atomic_store(&last_failure, last);
    atomic_store(&counting, true);
}

void fault_arm(long n)
{
    start(n, n);
}

void fault_arm_from(long n)
{
    start(n, LONG_MAX);
}

void fault_count_start(void)
{
    start(-1, -1);
}

bool fault_disarm(void)
{
    atomic_store(&counting, false);
    return atomic_load(&failures) > 0;
}

long fault_count(void)
{
    return atomic_load(&calls);
}

long fault_live(void)
{
    return atomic_load(&live);
}

void fault_check(long n, bool failed, const tern_ctx *ctx, tern_status status, const void *object, long *live_before,
                 const char *file, int line)
{
    const char *wrong = NULL;

    if (!failed && status != TERN_OK)
        wrong = "nothing was made to fail";
    else if (status == TERN_OK && !object)
        wrong = "success without an object";
    else if (status != TERN_OK && object)
        wrong = "an error with an object";
    else if (status != TERN_OK && status != TERN_ERR_MEMORY && status != TERN_ERR_THREAD)
        wrong = "expected out of memory, or a thread not started";
    else if (status != TERN_OK && ctx && !*tern_error(ctx))
        wrong = "no text";
    else if (status != TERN_OK && fault_live() > *live_before)
        wrong = "blocks were left behind";
    else if (status != TERN_OK)
        *live_before = fault_live();
    if (!wrong)
        return;
    print_error("failure of call %ld: %s (status: %s, text: \"%s\", blocks: %ld before, %ld after)\n", n, wrong,
                tern_status_name(status), ctx ? tern_error(ctx) : "", *live_before, fault_live());
    _fail(file, line);
}
