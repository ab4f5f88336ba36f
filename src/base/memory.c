/* memory.c: allocation with a purpose, and sizes that cannot overflow. */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool tern_size_mul(size_t a, size_t b, size_t *out)
{
    size_t product;

    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

bool tern_size_add(size_t a, size_t b, size_t *out)
{
    size_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

tern_status tern_alloc(tern_ctx *ctx, size_t count, size_t size, const char *what, void **out)
{
    size_t bytes;

    *out = NULL;
    TERN_REQUIRE(ctx, tern_size_mul(count, size, &bytes) && bytes <= PTRDIFF_MAX - TERN_ALIGN, TERN_ERR_MEMORY,
                 "out of memory: %zu x %zu bytes for %s", count, size, what);

    if (bytes < TERN_ALIGN) {
        *out = calloc(1, bytes ? bytes : 1);
    } else {
        /* aligned_alloc wants a multiple of the alignment; only what was asked for is zeroed, so that a sanitizer sees
         * a use of the rest. */
        *out = aligned_alloc(TERN_ALIGN, (bytes + TERN_ALIGN - 1) / TERN_ALIGN * TERN_ALIGN);
        if (*out)
            memset(*out, 0, bytes);
    }
    return *out ? TERN_OK : tern_fail_memory(ctx, bytes, what);
}

tern_status tern_grow(tern_ctx *ctx, void **array, size_t *capacity, size_t need, size_t size, const char *what)
{
    size_t bytes;

    if (need <= *capacity)
        return TERN_OK;

    /* Half as much again: appending n elements one by one copies O(n). */
    size_t wanted = *capacity + *capacity / 2;
    if (wanted < 16)
        wanted = 16;
    if (wanted < need)
        wanted = need;
    TERN_REQUIRE(ctx, tern_size_mul(wanted, size, &bytes) && bytes <= PTRDIFF_MAX, TERN_ERR_MEMORY,
                 "out of memory: %zu x %zu bytes for %s", wanted, size, what);

    void *grown = realloc(*array, bytes);
    if (!grown)
        return tern_fail_memory(ctx, bytes, what);
    *array = grown;
    *capacity = wanted;
    return TERN_OK;
}

void tern_free(void *p)
{
    free(p);
}

tern_status tern_strndup(tern_ctx *ctx, const char *text, size_t n, const char *what, char **out)
{
    size_t bytes = SIZE_MAX;

    *out = NULL;
    if (tern_size_add(n, 1, &bytes))
        *out = malloc(bytes);
    if (!*out)
        return tern_fail_memory(ctx, bytes, what);
    if (n > 0)
        memcpy(*out, text, n);
    (*out)[n] = '\0';
    return TERN_OK;
}

/* ---- pages ----
 *
 * A huge page is used only where the whole aligned 2 MiB lie inside of the mapping, so that much is mapped in addition and
 * the ends are given back.  Small requests gain nothing from it and stay at the system's page size. */

#define HUGE_PAGE ((size_t)2 << 20)

static size_t page_round(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) / page * page;
}

/* NULL where there is none. */
static unsigned char *map_pages(size_t size)
{
    const size_t slack = size >= HUGE_PAGE ? HUGE_PAGE : 0;
    unsigned char *p = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    if (slack) {
        const size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
        if (head)
            munmap(p, head);
        if (slack - head)
            munmap(p + head + size, slack - head);
        p += head;
        /* A wish: where the system has no huge pages the memory is as good, only slower. */
        (void)madvise(p, size, MADV_HUGEPAGE);
    }
    return p;
}

tern_status tern_pages_alloc(tern_ctx *ctx, size_t bytes, const char *what, void **out)
{
    *out = NULL;
    if (bytes == 0)
        bytes = 1;
    if (bytes <= PTRDIFF_MAX - 2 * HUGE_PAGE)
        *out = map_pages(page_round(bytes));
    return *out ? TERN_OK : tern_fail_memory(ctx, bytes, what);
}

/* Requests below the least gain nothing, above the most their own mapping is all but its end in huge pages. */
#define CARVE_BYTES ((size_t)32 << 20)
#define CARVE_LEAST ((size_t)256 << 10)
#define CARVE_MOST  ((size_t)16 << 20)

tern_status tern_pages_carve(tern_ctx *ctx, size_t bytes, const char *what, void **out)
{
    if (bytes < CARVE_LEAST || bytes > CARVE_MOST)
        return tern_pages_alloc(ctx, bytes, what, out);
    const size_t size = page_round(bytes);

    if (size > ctx->uncarved_bytes) {
        unsigned char *p = map_pages(CARVE_BYTES);
        if (!p) /* there may be room for less */
            return tern_pages_alloc(ctx, bytes, what, out);
        tern_pages_drop(ctx);
        ctx->uncarved = p;
        ctx->uncarved_bytes = CARVE_BYTES;
    }
    *out = ctx->uncarved;
    ctx->uncarved += size;
    ctx->uncarved_bytes -= size;
    return TERN_OK;
}

void tern_pages_drop(tern_ctx *ctx)
{
    if (ctx->uncarved_bytes)
        munmap(ctx->uncarved, ctx->uncarved_bytes);
    ctx->uncarved = NULL;
    ctx->uncarved_bytes = 0;
}

void tern_pages_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, page_round(bytes ? bytes : 1));
}
