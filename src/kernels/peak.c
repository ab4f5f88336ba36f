/* peak.c: see peak.h.
 *
 * Arithmetic: independent chains of one instruction, written out, as a compiler would merge or spill them.  Two units of latency 4 need
 * eight chains; a processor that starts two vdpbf16ps in a cycle is not kept busy by twelve, so there are 24 where there are
 * registers for them.  The file is built for any processor of its architecture: what the text names runs where the level has it. */
#include "kernels/peak.h"
#include "base/machine.h"

#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

/* ---- by the level's own product ---- */

#define OWN_CALLS 64
#define OWN_K     128

/* Everything in the first-level cache: 16 KiB of panel and 7 KiB of rows. */
static double own_product(const struct tern_kernels *kernels, enum tern_peak what)
{
    _Alignas(64) float c[TERN_TILE_ROWS * TERN_PANEL];
    _Alignas(64) unsigned char panel[OWN_K * TERN_PANEL * sizeof(float)], rows[TERN_TILE_ROWS * OWN_K * sizeof(float)];
    _Alignas(64) int32_t sums[TERN_TILE_ROWS * TERN_PANEL], start[TERN_PANEL];

    memset(panel, 0, sizeof panel);
    memset(rows, 0, sizeof rows);
    memset(start, 0, sizeof start);
    for (int i = 0; i < OWN_CALLS; i++)
        switch (what) {
        case TERN_PEAK_F32:
            kernels->gemm_f32(c, TERN_PANEL, (const float *)(const void *)rows, OWN_K,
                              (const float *)(const void *)panel, OWN_K, TERN_TILE_ROWS, false, NULL);
            break;
        case TERN_PEAK_BF16:
            kernels->gemm_bf16(c, TERN_PANEL, (const uint16_t *)(const void *)rows, OWN_K,
                               (const uint16_t *)(const void *)panel, OWN_K, TERN_TILE_ROWS, false, NULL);
            break;
        case TERN_PEAK_INT8:
        case TERN_PEAK_COUNT:
            kernels->gemm_q8(sums, TERN_PANEL, rows, OWN_K, (const int8_t *)panel, start, OWN_K, TERN_TILE_ROWS, false,
                             NULL);
            break;
        }
    return 2.0 * OWN_CALLS * OWN_K * TERN_PANEL * TERN_TILE_ROWS;
}

/* ---- by loops ---- */

#if defined(__x86_64__)

#define STEPS 20000

#define TWELVE(chain)                                                                                             \
    chain("0") chain("1") chain("2") chain("3") chain("4") chain("5") chain("6") chain("7") chain("8") chain("9") \
        chain("10") chain("11")
#define TWELVE_MORE(chain)                                                                                      \
    chain("12") chain("13") chain("14") chain("15") chain("16") chain("17") chain("18") chain("19") chain("20") \
        chain("21") chain("22") chain("23")

#define LOOP(begin, chains)                                                                                      \
    do {                                                                                                         \
        long steps = STEPS;                                                                                      \
        __asm__ volatile(begin "1:\n\t" chains "dec %0\n\t"                                                      \
                               "jnz 1b\n\t"                                                                      \
                               "vzeroall"                                                                        \
                         : "+r"(steps)                                                                           \
                         :                                                                                       \
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                           "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                \
    } while (0)

/* zmm16 and above belong to nobody: no compiler uses them without AVX-512, which this file is built without. */
#define CLEAR(n)    "vpxord %%zmm" n ", %%zmm" n ", %%zmm" n "\n\t"
#define CLEAR_512   "vzeroall\n\t" TWELVE_MORE(CLEAR) CLEAR("24") CLEAR("25")
#define FMA_256(n)  "vfmadd231ps %%ymm12, %%ymm13, %%ymm" n "\n\t"
#define FMA_512(n)  "vfmadd231ps %%zmm24, %%zmm25, %%zmm" n "\n\t"
#define BF16_512(n) "vdpbf16ps %%zmm24, %%zmm25, %%zmm" n "\n\t"
#define INT8_512(n) "vpdpbusd %%zmm24, %%zmm25, %%zmm" n "\n\t"
#define INT8_256(n) "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" n "\n\t"

bool tern_peak_is_loop(enum tern_isa isa, enum tern_peak what)
{
    if (what == TERN_PEAK_INT8)
        return isa == TERN_ISA_AVXVNNI || isa >= TERN_ISA_AVX512VNNI;
    return isa >= TERN_ISA_AVX2;
}

double tern_peak_arithmetic(const struct tern_kernels *kernels, enum tern_peak what)
{
    const enum tern_isa isa = kernels->isa;

    if (!tern_peak_is_loop(isa, what))
        return own_product(kernels, what);
    if (what == TERN_PEAK_INT8 && isa == TERN_ISA_AVXVNNI) {
        LOOP("vzeroall\n\t", TWELVE(INT8_256));
        return 2.0 * 32 * 12 * STEPS;
    }
    if (what == TERN_PEAK_INT8) {
        LOOP(CLEAR_512, TWELVE(INT8_512) TWELVE_MORE(INT8_512));
        return 2.0 * 64 * 24 * STEPS;
    }
    if (what == TERN_PEAK_BF16 && isa >= TERN_ISA_AVX512BF16) {
        LOOP(CLEAR_512, TWELVE(BF16_512) TWELVE_MORE(BF16_512));
        return 2.0 * 32 * 24 * STEPS;
    }
    if (isa >= TERN_ISA_AVX512) {
        LOOP(CLEAR_512, TWELVE(FMA_512) TWELVE_MORE(FMA_512));
        return 2.0 * 16 * 24 * STEPS;
    }
    LOOP("vzeroall\n\t", TWELVE(FMA_256));
    return 2.0 * 8 * 12 * STEPS;
}

#else

bool tern_peak_is_loop(enum tern_isa isa, enum tern_peak what)
{
    (void)isa, (void)what;
    return false;
}

double tern_peak_arithmetic(const struct tern_kernels *kernels, enum tern_peak what)
{
    return own_product(kernels, what);
}

#endif

/* ---- memory ---- */

/* One load for each cache line; the hardware's prefetchers do the rest. */
void tern_peak_read(const void *p, size_t bytes)
{
    const volatile uint64_t *words = p;

    for (size_t i = 0; i < bytes / 8; i += 8)
        (void)words[i];
}

/* The empty statement keeps a compiler from seeing a memcpy, which may stream. */
#define APART __asm__ volatile("" ::: "memory")

void tern_peak_copy(void *to, const void *from, size_t n, bool streaming)
{
#if defined(__x86_64__)
    __m128i *t = to;
    const __m128i *f = from;

    if (streaming) {
        for (size_t i = 0; i < n / 16; i += 4)
            for (size_t j = 0; j < 4; j++)
                _mm_stream_si128(t + i + j, _mm_load_si128(f + i + j));
        _mm_sfence();
        return;
    }
    for (size_t i = 0; i < n / 16; i += 4) {
        for (size_t j = 0; j < 4; j++)
            _mm_store_si128(t + i + j, _mm_load_si128(f + i + j));
        APART;
    }
#else
    uint64_t *t = to;
    const uint64_t *f = from;

    if (streaming) {
        memcpy(to, from, n);
        return;
    }
    for (size_t i = 0; i < n / 8; i += 8) {
        for (size_t j = 0; j < 8; j++)
            t[i + j] = f[i + j];
        APART;
    }
#endif
}
