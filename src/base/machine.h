/* machine.h: what this machine has, as far as it decides how tern runs.  Its processors: cpus.h. */
#ifndef TERN_BASE_MACHINE_H
#define TERN_BASE_MACHINE_H

#include "base/ctx.h"

/* Instruction set levels, weak to strong.  A machine has those of its own architecture only, and may have AVX-512 without
 * AVX-VNNI; otherwise each includes the ones before it. */
enum tern_isa {
    TERN_ISA_PORTABLE,
    TERN_ISA_NEON,       /* AArch64, any */
    TERN_ISA_NEONDOT,    /* the above + the dot product extension: products of four int8 */
    TERN_ISA_AVX2,       /* AVX2 + FMA + F16C, enabled by the system */
    TERN_ISA_AVXVNNI,    /* the above + AVX-VNNI: products of four int8, in 256 bits */
    TERN_ISA_AVX512,     /* AVX2 + F, BW, DQ, VL, enabled by the system */
    TERN_ISA_AVX512VNNI, /* the above + VNNI: products of four int8 */
    TERN_ISA_AVX512BF16, /* the above + BF16: products of two bf16 */
    TERN_ISA_COUNT
};

/* All names, as messages list them. */
#define TERN_ISA_NAMES "portable, neon, neondot, avx2, avxvnni, avx512, avx512vnni or avx512bf16"

/* Whether this machine has a level (CPUID and XGETBV, or the system's HWCAP), and the best that it has. */
bool tern_machine_has(enum tern_isa isa);
enum tern_isa tern_machine_isa(void);
/* One of TERN_ISA_NAMES. */
const char *tern_isa_name(enum tern_isa isa);
/* By name; false if there is none of that name. */
bool tern_isa_parse(const char *name, enum tern_isa *out);

/* The processor in one line, without control characters: "AMD EPYC 9R14, family 25 model 17 stepping 1, L2 1024 KiB".  Two that
 * differ in how fast they are at something differ here; what can not be told is left out. */
void tern_machine_describe(char *out, size_t size);

/* AMD's family of processors: 25 is Zen 3 and 4, 26 Zen 5; 0: another maker's. */
unsigned tern_machine_amd_family(void);

/* Bytes that this process can still take (tern_memory_available()); UINT64_MAX if the system does not tell.
 * `root` is put before /proc and /sys, so that a recorded machine can be replayed ("" is this one). */
uint64_t tern_machine_memory(const char *root);

/* Monotonic clock in seconds. */
double tern_machine_seconds(void);

#endif
