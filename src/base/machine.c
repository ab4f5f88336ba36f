/* machine.c: instruction set and clock. */
#include "base/machine.h"

#include <string.h>
#include <time.h>

/* ---- instruction set ---- */

#if defined(__x86_64__)
#include <cpuid.h>

/* Register state that the system saves on a context switch: without that an instruction that exists must not be used. */
static unsigned saved_state(void)
{
    unsigned low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

enum tern_isa tern_machine_isa(void)
{
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29; /* leaf 1, ecx */
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  /* leaf 7, ebx: F DQ BW VL */
    const unsigned vnni = 1u << 11, bf16 = 1u << 5; /* leaf 7, ecx; subleaf 1, eax */
    const unsigned ymm_state = 1u << 1 | 1u << 2, zmm_state = ymm_state | 1u << 5 | 1u << 6 | 1u << 7;
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave | avx | f16c)) != (fma | osxsave | avx | f16c))
        return TERN_ISA_PORTABLE;
    const unsigned state = saved_state();
    if ((state & ymm_state) != ymm_state || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2))
        return TERN_ISA_PORTABLE;
    if ((state & zmm_state) != zmm_state || (b & avx512) != avx512)
        return TERN_ISA_AVX2;
    if (!(c & vnni))
        return TERN_ISA_AVX512;
    /* a holds the last subleaf of leaf 7 */
    if (a < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & bf16))
        return TERN_ISA_AVX512VNNI;
    return TERN_ISA_AVX512BF16;
}
#else
enum tern_isa tern_machine_isa(void)
{
    return TERN_ISA_PORTABLE;
}
#endif

static const char *const isa_names[TERN_ISA_COUNT] = { "portable", "avx2", "avx512", "avx512vnni", "avx512bf16" };

const char *tern_isa_name(enum tern_isa isa)
{
    return isa_names[isa];
}

bool tern_isa_parse(const char *name, enum tern_isa *out)
{
    for (int i = 0; i < TERN_ISA_COUNT; i++)
        if (strcmp(name, isa_names[i]) == 0) {
            *out = (enum tern_isa)i;
            return true;
        }
    return false;
}

/* ---- the clock ---- */

double tern_machine_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
