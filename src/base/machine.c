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

static unsigned levels(void)
{
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29; /* leaf 1, ecx */
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  /* leaf 7, ebx: F DQ BW VL */
    const unsigned vnni = 1u << 11;                                                     /* leaf 7, ecx */
    const unsigned avx_vnni = 1u << 4, bf16 = 1u << 5;                                  /* its subleaf 1, eax */
    const unsigned ymm_state = 1u << 1 | 1u << 2, zmm_state = ymm_state | 1u << 5 | 1u << 6 | 1u << 7;
    unsigned have = 1u << TERN_ISA_PORTABLE, a, b, c, d, more = 0, unused;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave | avx | f16c)) != (fma | osxsave | avx | f16c))
        return have;
    const unsigned state = saved_state();
    if ((state & ymm_state) != ymm_state || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2))
        return have;
    if (a >= 1) /* the last subleaf of leaf 7 */
        __get_cpuid_count(7, 1, &more, &unused, &unused, &unused);
    have |= 1u << TERN_ISA_AVX2;
    if (more & avx_vnni)
        have |= 1u << TERN_ISA_AVXVNNI;
    if ((state & zmm_state) != zmm_state || (b & avx512) != avx512)
        return have;
    have |= 1u << TERN_ISA_AVX512;
    if (!(c & vnni))
        return have;
    have |= 1u << TERN_ISA_AVX512VNNI;
    return more & bf16 ? have | 1u << TERN_ISA_AVX512BF16 : have;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

static unsigned levels(void)
{
    const unsigned long dot_product = 1ul << 20; /* HWCAP_ASIMDDP */
    const unsigned have = 1u << TERN_ISA_PORTABLE | 1u << TERN_ISA_NEON;

    return getauxval(AT_HWCAP) & dot_product ? have | 1u << TERN_ISA_NEONDOT : have;
}
#else
static unsigned levels(void)
{
    return 1u << TERN_ISA_PORTABLE;
}
#endif

bool tern_machine_has(enum tern_isa isa)
{
    return levels() >> isa & 1;
}

enum tern_isa tern_machine_isa(void)
{
    enum tern_isa best = TERN_ISA_PORTABLE;

    for (unsigned have = levels() >> 1; have; have >>= 1)
        best++;
    return best;
}

static const char *const isa_names[TERN_ISA_COUNT] = { "portable", "neon",   "neondot",    "avx2",
                                                       "avxvnni",  "avx512", "avx512vnni", "avx512bf16" };

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
