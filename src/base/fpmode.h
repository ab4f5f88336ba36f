/* fpmode.h: the caller's floating-point modes, put aside and given back.
 *
 * Results are defined under round-to-nearest with denormals kept.  A host may have set flush-to-zero or another rounding
 * for its own sake, so what computes does so between these two calls.  tern_region() makes them for its function. */
#ifndef TERN_BASE_FPMODE_H
#define TERN_BASE_FPMODE_H

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef unsigned tern_fpmode;

static inline tern_fpmode tern_fpmode_enter(void)
{
    const tern_fpmode caller = _mm_getcsr();

    _mm_setcsr(0x1F80); /* all exceptions masked, to nearest, no flush-to-zero, no denormals-are-zero */
    return caller;
}

static inline void tern_fpmode_leave(tern_fpmode caller)
{
    _mm_setcsr(caller); /* sticky flags included: to the caller nothing happened */
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
