/* machine.h: what this machine has, as far as it decides how tern runs. */
#ifndef TERN_BASE_MACHINE_H
#define TERN_BASE_MACHINE_H

#include "base/ctx.h"

/* Instruction set levels, weak to strong; each includes the ones before it (on its architecture). */
enum tern_isa {
    TERN_ISA_PORTABLE,
    TERN_ISA_AVX2,       /* AVX2 + FMA + F16C, enabled by the system */
    TERN_ISA_AVX512,     /* the above + F, BW, DQ, VL, enabled by the system */
    TERN_ISA_AVX512VNNI, /* the above + VNNI: products of four int8 */
    TERN_ISA_AVX512BF16, /* the above + BF16: products of two bf16 */
    TERN_ISA_COUNT
};

/* The best level of this machine (CPUID and XGETBV). */
enum tern_isa tern_machine_isa(void);
/* "portable", "avx2", "avx512", "avx512vnni", "avx512bf16". */
const char *tern_isa_name(enum tern_isa isa);
/* By name; false if there is none of that name. */
bool tern_isa_parse(const char *name, enum tern_isa *out);

/* Number of threads for a team: min(affinity mask, cgroup quota (v1 and v2, rounded up), physical cores), at least 1.
 * *reason: "affinity mask", "cgroup quota" or "physical cores", whichever is the smallest (ties: in the reverse order of this list). */
int tern_machine_threads(const char **reason);

/* Its parts.  `root` is put before /proc and /sys, so that a recorded machine can be replayed ("" is this one). */

/* Processors in the affinity mask of this process, at least 1. */
int tern_machine_allowed(void);
/* CPUs that the cgroups grant (v1 and v2, rounded up), the smallest of all levels; INT_MAX for no limit. */
int tern_machine_quota(const char *root);
/* Physical cores among the processors whose bit is set in mask[n_cpus bits]. */
int tern_machine_cores(const char *root, const unsigned char *mask, size_t n_cpus);
/* The processors of the whole machine that are switched on, as mask[n_cpus bits], n_cpus a multiple of 8; false if the system
 * does not tell. */
bool tern_machine_online(const char *root, unsigned char *mask, size_t n_cpus);
/* The smallest of cores that the mask allows, quota, and cores of the machine, within 1..1024, and its name. */
int tern_machine_smallest(int allowed, int quota, int cores, const char **reason);

/* Bytes that this process can still take (tern_memory_available()); UINT64_MAX if the system does not tell. */
uint64_t tern_machine_memory(const char *root);

/* Monotonic clock in seconds. */
double tern_machine_seconds(void);

#endif
