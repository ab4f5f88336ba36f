/* machine.c: instruction set and clock. */
#include "base/machine.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

/* ---- the processor's name ---- */

#if defined(__x86_64__)
/* From the first word of leaf 1. */
static unsigned family_of(unsigned a)
{
    const unsigned family = a >> 8 & 15;

    return family == 15 ? family + (a >> 20 & 255) : family;
}

static void describe(char *out, size_t size)
{
    unsigned word[12] = { 0 }, a = 0, b, c, d;
    char brand[sizeof word + 1] = { 0 };

    for (unsigned i = 0; i < 3; i++) /* 48 characters, padded with spaces or zeros */
        __get_cpuid(0x80000002 + i, &word[4 * i], &word[4 * i + 1], &word[4 * i + 2], &word[4 * i + 3]);
    memcpy(brand, word, sizeof word);
    size_t n = strlen(brand);
    while (n && brand[n - 1] == ' ')
        brand[--n] = '\0';
    __get_cpuid(1, &a, &b, &c, &d);
    const unsigned family = family_of(a), model = a >> 4 & 15;
    snprintf(out, size, "%s, family %u model %u stepping %u", brand + strspn(brand, " "), family,
             family == 6 || family >= 15 ? model + (a >> 12 & 0xf0) : model, a & 15);
}

unsigned tern_machine_amd_family(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    char maker[12];

    __get_cpuid(0, &a, &b, &c, &d);
    memcpy(maker, &b, 4);
    memcpy(maker + 4, &d, 4);
    memcpy(maker + 8, &c, 4);
    if (memcmp(maker, "AuthenticAMD", sizeof maker) != 0)
        return 0;
    __get_cpuid(1, &a, &b, &c, &d);
    return family_of(a);
}
#else
unsigned tern_machine_amd_family(void)
{
    return 0;
}

/* The main identification register, as Linux shows it on AArch64. */
static void describe(char *out, size_t size)
{
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "re");

    if (!f || !fgets(out, (int)(size < 64 ? size : 64), f))
        snprintf(out, size, "unknown");
    out[strcspn(out, "\n")] = '\0';
    if (f)
        fclose(f);
}
#endif

void tern_machine_describe(char *out, size_t size)
{
    long l2 = 0;

    describe(out, size);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
            *c = '?';
#ifdef _SC_LEVEL2_CACHE_SIZE
    l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    const size_t n = strlen(out);
    if (l2 > 0)
        snprintf(out + n, size - n, ", L2 %ld KiB", l2 / 1024);
}

/* ---- the clock ---- */

double tern_machine_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
