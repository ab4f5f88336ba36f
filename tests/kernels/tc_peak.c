/* tc_peak.c: what one thread of this machine can do at best, in the same minute as the kernels. */
#include "tc.h"

#define PEAK_STEPS 200000
#define PEAK_RUNS  5

#if defined __x86_64__

/* Twelve chains of fused multiply-adds in registers 0..11: two units of latency 4 need eight. */
#define PEAK_CHAIN(r, n) "vfmadd231ps %%" r "mm12, %%" r "mm13, %%" r "mm" n "\n\t"
#define PEAK_LOOP(r)                                                                                              \
    __asm__ volatile("vzeroall\n\t"                                                                               \
                     "1:\n\t" PEAK_CHAIN(r, "0") PEAK_CHAIN(r, "1") PEAK_CHAIN(r, "2") PEAK_CHAIN(r, "3")         \
                         PEAK_CHAIN(r, "4") PEAK_CHAIN(r, "5") PEAK_CHAIN(r, "6") PEAK_CHAIN(r, "7")              \
                             PEAK_CHAIN(r, "8") PEAK_CHAIN(r, "9") PEAK_CHAIN(r, "10")                            \
                                 PEAK_CHAIN(r, "11") "dec %0\n\t"                                                 \
                                                     "jnz 1b\n\t"                                                 \
                                                     "vzeroupper"                                                 \
                     : "+r"(steps)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

double tc_peak_flops(enum tern_isa isa)
{
    const double flops = 2.0 * 12 * (isa >= TERN_ISA_AVX512 ? 16 : 8) * PEAK_STEPS;
    double best = 0;

    if (isa == TERN_ISA_PORTABLE)
        return 0;
    for (int run = 0; run < PEAK_RUNS; run++) {
        const double start = tern_machine_seconds();
        long steps = PEAK_STEPS;

        if (isa >= TERN_ISA_AVX512)
            PEAK_LOOP("z");
        else
            PEAK_LOOP("y");
        best = fmax(best, flops / (tern_machine_seconds() - start));
    }
    return best;
}

#else

double tc_peak_flops(enum tern_isa isa)
{
    (void)isa;
    return 0;
}

#endif

/* One load for each cache line; the hardware's prefetchers do the rest. */
double tc_peak_read(const void *p, size_t bytes)
{
    const volatile uint64_t *words = p;
    double best = 0;

    for (int run = 0; run < PEAK_RUNS; run++) {
        const double start = tern_machine_seconds();

        for (size_t i = 0; i < bytes / 8; i += 8)
            (void)words[i];
        best = fmax(best, (double)bytes / (tern_machine_seconds() - start));
    }
    return best;
}
