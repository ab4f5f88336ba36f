/* faults.h: makes an allocation, a mapping or a thread fail, by number.
 *
 * A test file that includes this is linked with faults.c, which puts itself in front of malloc, calloc, realloc,
 * aligned_alloc, posix_memalign, mmap and pthread_create, for tern and for the libraries below it.  Sanitizers have their
 * own allocators in that place: there fault_available() is false, and FAULT_NEEDED skips the test, aloud.
 *
 *     static void test_every_failure(void **state)
 *     {
 *         FAULT_NEEDED;
 *         ...create and destroy the thing once: libraries and threads keep blocks from their first use...
 *         FAULT_EACH(n) {
 *             fault_arm(n);
 *             const tern_status status = tern_thing_create(ctx, &thing);
 *             FAULT_DONE(n, ctx, status, thing);   // disarms; an error has its text, no object, and leaves nothing behind;
 *                                                  // ends the loop when a whole run met no failure
 *             tern_thing_destroy(&thing);          // a success although something failed (a wish such as a JIT) is fine
 *         }
 *         tern_thing_destroy(&thing);
 *     }
 *
 * Counting and failing hold for all threads of the program. */
#ifndef TERN_FAULTS_H
#define TERN_FAULTS_H

#include "testing.h"

bool fault_available(void);
#define FAULT_NEEDED                                               \
    do {                                                           \
        if (!fault_available())                                    \
            TEST_SKIP("faults: the sanitizer owns the allocator"); \
    } while (0)

/* The n-th call from now, counted from 0, fails, and only that one. */
void fault_arm(long n);
/* The n-th call and all after it fail. */
void fault_arm_from(long n);
/* Back to normal.  Returns whether a call was made to fail. */
bool fault_disarm(void);
/* Calls counted since fault_arm or fault_count_start. */
long fault_count(void);
/* Counts without failing: fault_count() afterwards says how many calls there were ("a decode step allocates nothing"). */
void fault_count_start(void);
/* Blocks of the heap plus mapped pages that are alive now.  No more after than before: nothing leaked.  (Fewer: a context gave up
 * the scratch that it kept.) */
long fault_live(void);

#define FAULT_EACH(n) for (long n = 0, fault_live_before_ = fault_live();; n++)
#define FAULT_DONE(n, ctx, status, object)                                                                           \
    {                                                                                                                \
        const bool failed_ = fault_disarm();                                                                         \
        fault_check((n), failed_, (ctx), (status), (const void *)(object), &fault_live_before_, __FILE__, __LINE__); \
        if (!failed_ && (status) == TERN_OK)                                                                         \
            break;                                                                                                   \
    }
/* *live_before becomes what is alive now, where that is less: the next failure has to come down to it again. */
void fault_check(long n, bool failed, const tern_ctx *ctx, tern_status status, const void *object, long *live_before,
                 const char *file, int line);

#endif
