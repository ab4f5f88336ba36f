/* fpmode.h: the caller's floating-point modes, put aside and given back.
 *
 * Results are defined under round-to-nearest with denormals kept.  A host may have set flush-to-zero or another rounding
 * for its own sake, so what computes does so between these two calls.  tern_region() makes them for its function. */
#ifndef TERN_BASE_FPMODE_H
#define TERN_BASE_FPMODE_H

#if defined(__x86_64__)
#include <xmmintrin.h>

/* Both units: our arithmetic is SSE, but the C library asks the x87 word for the rounding of strtod. */
typedef struct tern_fpmode {
    unsigned sse;
    unsigned short x87;
} tern_fpmode;

static inline tern_fpmode tern_fpmode_enter(void)
{
    const unsigned short standard = 0x037F; /* all exceptions masked, 64-bit mantissa, to nearest */
    tern_fpmode caller;

    caller.sse = _mm_getcsr();
    __asm__ volatile("fnstcw %0" : "=m"(caller.x87));
    _mm_setcsr(0x1F80); /* all exceptions masked, to nearest, no flush-to-zero, no denormals-are-zero */
    if (caller.x87 != standard)
        __asm__ volatile("fldcw %0" : : "m"(standard));
    return caller;
}

static inline void tern_fpmode_leave(tern_fpmode caller)
{
    __asm__ volatile("fldcw %0" : : "m"(caller.x87));
    _mm_setcsr(caller.sse); /* sticky flags included: to the caller nothing happened */
}

#elif defined(__aarch64__)
#include <stdint.h>

typedef uint64_t tern_fpmode;

static inline tern_fpmode tern_fpmode_enter(void)
{
    tern_fpmode caller;

    __asm__ volatile("mrs %0, fpcr" : "=r"(caller));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return caller;
}

static inline void tern_fpmode_leave(tern_fpmode caller)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(caller));
}

#else
#include <fenv.h>

typedef fenv_t tern_fpmode;

static inline tern_fpmode tern_fpmode_enter(void)
{
    tern_fpmode caller;

    fegetenv(&caller);
    fesetenv(FE_DFL_ENV);
    return caller;
}

static inline void tern_fpmode_leave(tern_fpmode caller)
{
    fesetenv(&caller);
}
#endif

#endif
